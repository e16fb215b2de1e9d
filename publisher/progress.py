"""How long work says how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total), in the unit that the caller names."""


def silent(done: int, total: int) -> None:
    """Progress nobody listens to."""
