"""
RITM: a network that finds objects from clicks and rough masks.

* `load(name_or_path, device="cpu")` gives a `Predictor`.
* `Predictor.network(x, points)` is the network itself.
* `Predictor.session(image)` answers clicks in a picture, `ZoomIn` says how closely it looks.
* `object_at(predictor, image, clicks)` is the mask of one object, without a session.
* `Predictor.predict(crops)` answers many crops at once, for `publisher.refine`.

It needs torch, which only comes with the extra `refine`, and loads it at the first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from .network import Config as Config
    from .network import Network as Network
    from .predictor import Predictor as Predictor
    from .predictor import load as load
    from .predictor import object_at as object_at
    from .session import Session as Session
    from .session import ZoomIn as ZoomIn

_HOMES = {
    "Config": "network",
    "Network": "network",
    "Predictor": "predictor",
    "Session": "session",
    "ZoomIn": "session",
    "load": "predictor",
    "object_at": "predictor",
}
SHIPPED = ("boundary", "boundary-2")
"""The networks that refine where nobody says with which, by name. They ship with publisher."""

__all__ = ["SHIPPED", "Config", "Network", "Predictor", "Session", "ZoomIn", "load", "object_at"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "safetensors"}:
            raise
        raise UsageError(
            f"refinement needs {error.name}, which is not installed",
            hint="pip install '.[refine]' in a checkout of publisher",
        ) from error
