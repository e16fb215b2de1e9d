"""The dataset model: plain immutable values that every other module speaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .masks import Mask, Polygons, Rle

Json = Mapping[str, Any]
"""A decoded JSON object whose content is the source's business, not ours."""

REFINEMENTS = "refinements"
"""In the provenance of a dataset: by what, and by which rules, its masks were refined."""


@dataclass(frozen=True, slots=True)
class Category:
    """A class label. `isthing` is COCO panoptic's: countable things, uncountable stuff."""

    id: int
    name: str
    supercategory: str = ""
    isthing: bool = True
    color: tuple[int, int, int] | None = None  # RGB, 0-255


def namesakes(categories: Iterable[Category]) -> list[str]:
    """The names that several of these categories have, sorted."""
    return sorted(name for name, n in Counter(c.name for c in categories).items() if n > 1)


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One labelled region of one image: an instance of a thing, or a patch of stuff.

    `segmentation` is as it was read, polygons or an RLE, and may be hostile: only
    `mask()` turns it into pixels, after checking it. Polygons stay polygons until
    something changes them.
    """

    id: int  # unique in its dataset
    category_id: int
    segmentation: Polygons | Rle
    iscrowd: bool = False
    z_order: int | None = None  # higher is nearer; None where the source keeps no order
    attributes: Json = field(default_factory=dict, hash=False)
    origin: Json = field(default_factory=dict, hash=False)  # what the source said of it

    def mask(self, height: int, width: int) -> Mask:
        """
        Rasterise for an image of this size.

        Raises:
            FormatError: the segmentation cannot be a mask of this image.
        """
        if isinstance(self.segmentation, Rle):
            return Mask.from_rle(self.segmentation, height, width)
        return Mask.from_polygons(self.segmentation, height, width)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its segments. Pixels stay on disk; `file_name` is relative to images."""

    id: int
    file_name: str
    height: int
    width: int
    segments: tuple[Segment, ...] = ()
    group: str | None = None  # what a split must never tear apart: a video, a burst
    split: str | None = None
    source: Json = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Dataset:
    """
    Categories and samples, sorted by file name.

    `samples` may be lazy (see `workspace.read`): iterate, do not copy. `images` is the
    folder that file names are relative to, or None where only annotations are known.
    """

    name: str
    categories: tuple[Category, ...]
    samples: Sequence[Sample]
    images: Path | None = None
    sources: tuple[Json, ...] = ()
    provenance: Json = field(default_factory=dict, hash=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def category_of(self) -> dict[int, Category]:
        """Categories by id."""
        return {c.id: c for c in self.categories}

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of all splits, in the field's order: train, val, test, then others."""
        return ordered_splits({s.split for s in self.samples if s.split is not None})


def by_split(dataset: Dataset) -> Iterator[tuple[str | None, list[Sample]]]:
    """Every sample once: those of each split in order, then those that have none."""
    homeless = any(s.split is None for s in dataset) or not len(dataset)
    for split in (*dataset.splits, *([None] if homeless else [])):
        yield split, [s for s in dataset if s.split == split]


def ordered_splits(names: set[str]) -> tuple[str, ...]:
    """Sort split names the way people list them: train, val, test, then others by name."""
    usual = ("train", "val", "test")
    return tuple(sorted(names, key=lambda n: (usual.index(n) if n in usual else len(usual), n)))
