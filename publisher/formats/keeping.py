"""What a format can hold, and what of a dataset it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import numpy as np

from ..conservation import Ledger
from ..dataset import Category, Dataset, Json, Sample
from ..masks import Mask
from ..names import listing
from ..shapes.outlines import has_holes, parts
from ..shapes.runs import runs_of

Trait = Literal[
    "instances",  # each object of a thing class apart from the others
    "overlaps",  # pixels that several segments claim
    "holes",  # pixels inside a segment that are not its own
    "parts",  # several separate regions as one segment
    "outlines",  # polygons with the very vertices that were drawn
    "crowds",  # iscrowd
    "z-order",  # which segment is nearer
    "attributes",  # what else was said of a segment
    "marks",  # tags, points, lines: what was annotated and has no pixels
    "extras",  # licences, keypoints and other fields that a source has beyond its format
    "flags",  # what Labelme's check boxes say of an image
    "isthing",  # which classes are things, which stuff
    "colors",  # the colours of classes
    "supercategories",
    "category ids",  # the numbers of classes; else 1, 2, ... in the order of the file
    "unused categories",  # classes that no segment has
    "ids",  # the numbers of images and segments
    "splits",  # train, val, test
    "subsets",  # names of subsets that mean none of these
    "extensions",  # .jpg or .png; else .jpg is assumed
    "empty images",  # images without a segment
]

CROWD = "is_crowd"  # the attribute that is a crowd's, where a format has no other word for it
CROWD_TAKEN = "an attribute called is_crowd would make a crowd here, and is left out"
TRAITS: tuple[Trait, ...] = get_args(Trait)


def keeps(*traits: Trait) -> frozenset[Trait]:
    """A declaration, checked by the type checker and by tests/formats/contract.py."""
    return frozenset(traits)


def everything_but(*traits: Trait) -> frozenset[Trait]:
    """The declaration of a rich format."""
    return frozenset(TRAITS) - frozenset(traits)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A trait of a dataset that a format cannot hold, and how often the dataset has it."""

    trait: Trait
    count: int
    file_name: str | None = None  # the first image that has it
    fields: tuple[str, ...] = ()  # of extras, what they are called

    def __str__(self) -> str:
        said = _SAID[self.trait].format(n=self.count, fields=listing(self.fields))
        return f"{said} (first: {self.file_name})" if self.file_name else said


def forecast(dataset: Dataset, kept: frozenset[Trait]) -> tuple[Shortfall, ...]:
    """
    What a dataset has that a format with these traits cannot hold, counted before anything
    is written.

    Raises:
        FormatError: a segment has no valid mask.
    """
    missing = [t for t in TRAITS if t not in kept]
    if not missing:
        return ()
    counts = {t: count(dataset.categories) for t, count in _OF_CLASSES.items() if t in missing}
    first: dict[Trait, str] = {}
    used: set[int] = set()
    fields: set[str] = set()
    for sample in dataset:
        view = _View(sample, dataset.category_of)
        fields.update(view.fields() if "extras" in missing else ())
        used.update(s.category_id for s in sample.segments)
        for trait in missing:
            n = _OF_SAMPLE[trait](view) if trait in _OF_SAMPLE else 0
            counts[trait] = counts.get(trait, 0) + n
            if n:
                first.setdefault(trait, sample.file_name)
    if "unused categories" in missing:
        counts["unused categories"] = len({c.id for c in dataset.categories} - used)
    names = {"extras": tuple(sorted(fields))}
    return tuple(
        Shortfall(t, counts[t], first.get(t), names.get(t, ())) for t in missing if counts.get(t)
    )


def fields_beyond(said: Json, own: Set[str], ledger: Ledger, file_name: str) -> Mapping[str, Any]:
    """
    What a source said beyond its format, but for fields of the target's own names.

    An image's licence is all that is known of it: its id means something within COCO only.
    """
    extra, licence = said.get("extra"), said.get("license")
    if not isinstance(extra, Mapping):
        return {}
    if isinstance(licence, Mapping):
        extra = {**extra, "license": licence}
    for key in sorted(own & extra.keys()):
        reason = f"a field {key!r} of the source is left out: it means something else here"
        ledger.note(reason, file_name)
    return {k: v for k, v in extra.items() if k not in own}


_SAID: Mapping[Trait, str] = {  # after "voc cannot hold "
    "instances": "objects of one class apart from each other ({n} objects)",
    "overlaps": "overlaps ({n} images)",
    "holes": "holes ({n} segments)",
    "parts": "several parts as one segment ({n} segments)",
    "outlines": "the vertices of polygons, only their pixels ({n} segments)",
    "crowds": "crowds ({n} segments)",
    "z-order": "z-order ({n} images with several levels)",
    "attributes": "attributes ({n} segments)",
    "marks": "tags, points, lines and what else has no pixels ({n})",
    "extras": "other fields of the source: {fields} ({n} images and segments)",
    "flags": "flags of images ({n})",
    "isthing": "which classes are stuff ({n})",
    "colors": "colours of classes ({n})",
    "supercategories": "supercategories ({n} classes)",
    "category ids": "ids of classes ({n} change)",
    "unused categories": "classes that no segment has ({n})",
    "ids": "ids of images and segments ({n} images)",
    "splits": "splits ({n} images)",
    "subsets": "names of subsets other than train, val and test ({n} images)",
    "extensions": "extensions of images, .jpg is assumed ({n} images)",
    "empty images": "images without segments ({n})",
}


class _View:
    """A sample and its masks."""

    def __init__(self, sample: Sample, categories: Mapping[int, Category]) -> None:
        self.sample = sample
        self.segments = sample.segments
        self._categories = categories

    @cached_property
    def masks(self) -> list[Mask]:
        return [s.mask(self.sample.height, self.sample.width) for s in self.segments]

    def alike(self) -> int:
        """Things that share their class with another one."""
        things = [s.category_id for s in self.segments if self._categories[s.category_id].isthing]
        return sum(n for c in set(things) if (n := things.count(c)) > 1)

    def other_subset(self) -> bool:
        """Was it in a subset that is no split, and that its name does not tell?"""
        subset = str(self.sample.source.get("subset", ""))
        told = PurePosixPath(self.sample.file_name).parts[:-1]
        return self.sample.split is None and bool(subset) and subset not in told

    def extras(self) -> list[Json]:
        """What its source said beyond the format, of itself and of its segments."""
        said = (self.sample.source, *(s.origin for s in self.segments))
        return [one["extra"] for one in said if isinstance(one.get("extra"), Mapping)]

    def fields(self) -> set[str]:
        """What these are called."""
        return {key for extra in self.extras() for key in extra}

    def overlap(self) -> bool:
        """Does any pixel belong to two segments?"""
        runs = runs_of(self.masks)
        order = np.argsort(runs.start)
        reach = np.maximum.accumulate(runs.stop[order])
        return bool(np.any(runs.start[order][1:] < reach[:-1]))


_OF_SAMPLE: Mapping[Trait, Callable[[_View], int]] = {
    "instances": _View.alike,
    "overlaps": _View.overlap,
    "holes": lambda v: sum(map(has_holes, v.masks)),
    "parts": lambda v: sum(parts(m) > 1 for m in v.masks),
    "outlines": lambda v: sum(isinstance(s.segmentation, tuple) for s in v.segments),
    "crowds": lambda v: sum(s.iscrowd for s in v.segments),
    "z-order": lambda v: len({s.z_order for s in v.segments}) > 1,
    "attributes": lambda v: sum(bool(s.attributes) for s in v.segments),
    "marks": lambda v: len(v.sample.source.get("not_segments") or ()),
    "extras": lambda v: len(v.extras()),
    "flags": lambda v: bool(v.sample.source.get("flags")),
    "ids": lambda _: 1,
    "splits": lambda v: v.sample.split is not None,
    "subsets": lambda v: v.other_subset(),
    "extensions": lambda v: PurePosixPath(v.sample.file_name).suffix != ".jpg",
    "empty images": lambda v: not v.segments,
}

_OF_CLASSES: Mapping[Trait, Callable[[tuple[Category, ...]], int]] = {
    "isthing": lambda cs: sum(not c.isthing for c in cs),
    "colors": lambda cs: sum(c.color is not None for c in cs),
    "supercategories": lambda cs: sum(bool(c.supercategory) for c in cs),
    "category ids": lambda cs: sum(c.id != n for n, c in enumerate(cs, start=1)),
}
