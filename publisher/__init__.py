"""
From an annotation tool to published, versioned, verifiable segmentation datasets.

    import publisher
    release = publisher.pull("s3://bucket/hands@1.2.0", split="train", to="hands")
    dataset = publisher.load("s3://bucket/hands@1.2.0", split="train")
    dataset = publisher.read("export.zip")
    publisher.write(dataset, "out", "coco-panoptic")

Importing this package loads nothing heavy; each name loads what it needs when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import load, pull, read, write
    from .dataset import Category, Dataset, Sample, Segment
    from .errors import PublisherError
    from .masks import Mask
    from .validate import Finding, check

__version__ = "0.1.0"
__all__ = [
    "Category",
    "Dataset",
    "Finding",
    "Mask",
    "PublisherError",
    "Sample",
    "Segment",
    "check",
    "load",
    "pull",
    "read",
    "write",
]

_HOME = {
    **dict.fromkeys(("load", "pull", "read", "write"), "api"),
    **dict.fromkeys(("Category", "Dataset", "Sample", "Segment"), "dataset"),
    **dict.fromkeys(("Finding", "check"), "validate"),
    "Mask": "masks",
    "PublisherError": "errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
