"""What every reader gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..conservation import Item, Tally
from ..dataset import Category, Sample
from ..validate import Finding


@dataclass(frozen=True, slots=True)
class Picture:
    """A sample as its source names it, and where its pixels lie in the tree that was read."""

    sample: Sample
    member: str | None  # None: the export holds no file for it


@dataclass(frozen=True, slots=True)
class Reading:
    """
    A dataset as its source has it: names, ids and categories are still the source's.

    `counted` is what the source holds, counted on its own elements; `items` say how the
    pictures differ from that; `notes` say what the export itself has lost or bent;
    `findings` are spots that could not be read, `mended` those that reading set right.
    """

    name: str
    format: str
    categories: tuple[Category, ...]
    pictures: Sequence[Picture]
    counted: Tally
    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    mended: tuple[Finding, ...] = ()
