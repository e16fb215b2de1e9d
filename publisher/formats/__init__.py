"""Annotation formats: a table of them, and which of them a tree has."""

from __future__ import annotations

from .choice import detect, read, unwrapped
from .keeping import TRAITS, Trait
from .reading import Picture, Reading
from .table import FORMATS, Format, get

__all__ = [
    "FORMATS",
    "TRAITS",
    "Format",
    "Picture",
    "Reading",
    "Trait",
    "detect",
    "get",
    "read",
    "unwrapped",
]
