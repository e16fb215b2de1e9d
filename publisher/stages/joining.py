"""
Join: several readings as one dataset. Categories by name, names unique, ids unique, sorted.

All of that is decided on the headers of the pictures, and done to each sample when it is
looked at: a million images take some tens of bytes each.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..card import Card, bare, categories
from ..columns import Ids, Texts
from ..dataset import Category, Dataset, Sample, Segment, namesakes
from ..errors import FormatError
from ..formats.reading import Header, Picture, Reading, headers, segment_ids
from ..lazy import Lazy
from ..names import collision_key, portable, stem

Hear = Callable[[int, Picture], None]
"""Told of each picture that is looked at, with its position, as its reading gives it."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Several readings as one dataset, and which names had to change."""

    dataset: Dataset
    renames: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    samples: Samples  # those of the dataset

    def pictures(self) -> Iterator[tuple[int, Picture]]:
        """Each sample as a picture, with the index of the reading that it is from."""
        return self.samples.pictures()

    def member_of(self, file_name: str) -> str | None:
        """Where the pixels of a sample lie in its tree."""
        index = self.samples.find(file_name)
        return None if index is None else self.samples.picture(index)[1].member


def join(
    readings: Sequence[Reading],
    labels: Sequence[str],
    card: Card | None,
    hear: Hear = lambda *_: None,
) -> Joined:
    """
    One dataset from all readings.

    Raises:
        FormatError: C202, two categories of one source share a name that has to tell them apart.
    """
    known, renumbered = _categories(readings, card)
    names = _Names(readings, labels)
    sources = zip(labels, readings, strict=True)
    samples = Samples(readings, names, renumbered, hear)
    dataset = Dataset(
        name=card.name if card else next((r.name for r in readings if r.name), "dataset"),
        categories=known,
        samples=samples,
        sources=tuple({"file": f, "format": r.format, "name": r.name} for f, r in sources),
    )
    notes = [f"{labels[i]}: {n}" for i, r in enumerate(readings) for n in r.notes]
    return Joined(dataset, samples.renames(), (*notes, *_card_notes(known, card)), samples)


class Samples(Lazy[Sample]):
    """The samples of all readings, sorted by file name; each made when it is looked at."""

    def __init__(
        self,
        readings: Sequence[Reading],
        names: _Names,
        renumbered: Sequence[Mapping[int, int]],
        hear: Hear,
    ) -> None:
        self._readings = readings
        self._names = names
        self._categories = [
            None if all(a == b for a, b in number.items()) else number for number in renumbered
        ]
        self._hear = hear
        self._starts = [0, *accumulate(len(r.pictures) for r in readings)]
        self._order = names.order()
        self._keep_ids = names.ids.usable and not names.ids.repeated()
        self._firsts = None if _usable_segments(readings) else self._first_ids()

    def __len__(self) -> int:
        return self._starts[-1]

    def _at(self, index: int) -> Sample:
        return self.picture(index)[1].sample

    def __iter__(self) -> Iterator[Sample]:
        for _, p in self.pictures():
            yield p.sample

    def pictures(self) -> Iterator[tuple[int, Picture]]:
        """Each sample as a picture, with the index of its reading."""
        return map(self.picture, range(len(self)))

    def picture(self, index: int) -> tuple[int, Picture]:
        """The picture of one sample, with the index of its reading."""
        position = int(self._order[index])
        source = bisect_right(self._starts, position) - 1
        found = self._readings[source].pictures[position - self._starts[source]]
        self._hear(index, found)
        s = found.sample
        sample = Sample(
            s.id if self._keep_ids else index + 1,
            self._names[position],
            s.height,
            s.width,
            self._segments(s.segments, source, index),
            s.group,
            split_of(str(s.source.get("subset", ""))),
            s.source,
        )
        return source, Picture(_grouped(sample), found.member, found.findings, found.mended)

    def members(self) -> Iterator[str | None]:
        """Where the pixels of each picture lie, in any order."""
        return (h.member for h in _headers(self._readings))

    def find(self, file_name: str) -> int | None:
        """The position of a sample by its name."""
        name = self._names.__getitem__
        at = bisect_left(range(len(self)), file_name, key=lambda i: name(int(self._order[i])))
        found = at < len(self) and name(int(self._order[at])) == file_name
        return at if found else None

    def renames(self) -> tuple[tuple[str, str], ...]:
        """Names that had to change; to add a frame's extension is no change."""
        changed = self._names.changed
        if not changed and not self._names.odd:
            return ()
        found = {
            position: (h.said, changed.get(position, h.file_name))
            for position, h in enumerate(_headers(self._readings))
            if not _is_said(changed.get(position, h.file_name), h.said)
        }
        if not found:
            return ()
        return tuple(found[p] for p in map(int, self._order) if p in found)

    def _segments(
        self, segments: tuple[Segment, ...], source: int, index: int
    ) -> tuple[Segment, ...]:
        number = self._categories[source]
        if number is not None:
            segments = tuple(replace(s, category_id=number[s.category_id]) for s in segments)
        if self._firsts is not None:
            first = int(self._firsts[index])
            segments = tuple(replace(s, id=i) for i, s in enumerate(segments, start=first))
        return segments

    def _first_ids(self) -> NDArray[np.int64]:
        """Where ids 1, 2, ... begin in each sample."""
        counts = np.fromiter((h.segments for h in _headers(self._readings)), np.int64, len(self))
        counts = counts[np.asarray(self._order)]
        first: NDArray[np.int64] = np.cumsum(counts) - counts + 1
        return first


def _is_said(name: str, said: str) -> bool:
    """Is this what a source calls it, or that with its file's extension? Some say nothing."""
    return said in ("", name, stem(name))


def _headers(readings: Sequence[Reading]) -> Iterator[Header]:
    for r in readings:
        yield from headers(r.pictures)


def _usable_segments(readings: Sequence[Reading]) -> bool:
    ids = Ids()
    for r in readings:
        for block in segment_ids(r.pictures):
            ids.extend(block)
    return ids.usable and not ids.repeated()


# ── categories, splits, groups ───────────────────────────────────────────────────────────────


def _categories(
    readings: Sequence[Reading], card: Card | None
) -> tuple[tuple[Category, ...], list[dict[int, int]]]:
    """
    All categories, and for each reading the new id of each old one.

    A single source keeps its ids; several, or a card, are joined by name.

    Raises:
        FormatError: C202, two categories of one source share a name that has to tell them apart.
    """
    if len(readings) == 1 and card is None:
        same = {c.id: c.id for c in readings[0].categories}
        return readings[0].categories, [same]
    found: dict[str, Category] = {}
    for reading in readings:
        if namesakes(reading.categories):
            raise FormatError("two categories share a name", path=reading.name, code="C202")
        for c in reading.categories:
            found.setdefault(c.name, c)
    known = categories(card or bare("dataset"), tuple(found.values()))
    number = {c.name: c.id for c in known}
    return known, [{c.id: number[c.name] for c in r.categories} for r in readings]


def _card_notes(known: Sequence[Category], card: Card | None) -> list[str]:
    if card is None:
        return []
    listed = {c.name for c in card.categories}
    new = [c for c in known if c.name not in listed]
    return [f"category {c.name!r} is not in dataset.yaml; it got id {c.id} as a thing" for c in new]


SPLITS = {  # what annotators call their subsets, and the split they mean
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_YEAR = re.compile(r"[-_]?(19|20)\d\d$")  # as in COCO's train2017


def split_of(subset: str) -> str | None:
    """The split that a subset's name means, if it means one."""
    return SPLITS.get(_YEAR.sub("", subset.casefold()))


def _grouped(sample: Sample) -> Sample:
    """A frame named after its video belongs to the video; others stand alone."""
    if sample.group is not None or "frame" not in sample.file_name:
        return sample
    path = PurePosixPath(sample.file_name)
    video, mark, frame = path.stem.rpartition("frame")
    if not (mark and frame.lstrip("_-").isdigit()):
        return sample
    parts = (str(sample.source.get("subset", "")), path.parent.as_posix(), video.rstrip("_-. "))
    return replace(sample, group="frames of " + "/".join(p for p in parts if p not in ("", ".")))


# ── names ────────────────────────────────────────────────────────────────────────────────────


_TOGETHER = 2**13  # numbers that are put aside at once


class _Names:
    """
    A portable name for each picture, unique also without its extension.

    Names stay as they are unless they clash; `changed` holds the others by position. Most
    pictures are known by a hash only: where that is unique, so is the name.
    """

    def __init__(self, readings: Sequence[Reading], labels: Sequence[str]) -> None:
        self._given = Texts()
        self._readings = readings
        self._sources = [portable(PurePosixPath(label).stem) for label in labels]
        self.changed: dict[int, str] = {}
        self.odd = False  # is any called otherwise than its source says?
        self.ids = Ids()  # 0 where it is none
        hashes, ids = array("q"), array("q")
        for position, h in enumerate(_headers(readings)):
            ids.append(h.id if 0 < h.id < 2**53 else 0)
            if len(ids) == _TOGETHER:
                self.ids.extend(np.array(ids, dtype=np.int64))
                ids = array("q")
            self.odd |= not _is_said(h.file_name, h.said)
            name = portable(h.file_name)
            if name != h.file_name:
                self.changed[position] = name
            self._given.append(name.encode())
            hashes.append(_hash(stem(name)))
        self.ids.extend(np.array(ids, dtype=np.int64))
        self._part(np.frombuffer(hashes, dtype=np.int64))

    def __getitem__(self, position: int) -> str:
        found = self.changed.get(position)
        return self._given[position].decode() if found is None else found

    def order(self) -> NDArray[np.int64] | range:
        """The positions in the order of their names, which is that of their UTF-8."""
        positions = range(len(self._given))
        if self._ascending():
            return positions
        names = [n.encode() if (n := self.changed.get(i)) else t for i, t in self._texts()]
        return np.array(sorted(positions, key=names.__getitem__), dtype=np.int64)

    def _ascending(self) -> bool:
        before = b""
        for i, text in self._texts():
            name = n.encode() if (n := self.changed.get(i)) else text
            if name < before:
                return False
            before = name
        return True

    def _texts(self) -> Iterator[tuple[int, bytes]]:
        return enumerate(self._given)

    def _part(self, hashes: NDArray[np.int64]) -> None:
        """Change names that clash, and those that changed names clash with, until none do."""
        clashing = set(_repeated(hashes))
        while clashing:
            positions = sorted(clashing)
            names, tried = self._unique(positions)
            met = set(np.flatnonzero(np.isin(hashes, np.array([*tried]))).tolist())
            if met <= clashing:
                self.changed.update(zip(positions, names, strict=True))
                return
            clashing |= met

    def _unique(self, positions: Sequence[int]) -> tuple[list[str], set[int]]:
        """Unique names for these, and the hashes of all that were tried on the way."""
        wanted, subsets, sources = set(positions), [], []
        at = 0
        for source, reading in enumerate(self._readings):
            for h in headers(reading.pictures):
                if at in wanted:
                    subsets.append(portable(h.subset or "no subset"))
                    sources.append(self._sources[source])
                at += 1
        names = [self._given[i].decode() for i in positions]
        tried: set[int] = set()
        for step in _unique_names(names, subsets, sources):
            tried.update(_hash(stem(name)) for name in step)
        return names, tried


def _hash(name: str) -> int:
    return hash(collision_key(name))


def _repeated(hashes: NDArray[np.int64]) -> list[int]:
    """The positions of all that are there several times."""
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    found: list[int] = np.flatnonzero(np.isin(hashes, twice)).tolist() if len(twice) else []
    return found


def _unique_names(
    names: list[str], subsets: Sequence[str], sources: Sequence[str]
) -> Iterator[list[str]]:
    """
    Change names in place until none clash, not even without extensions; yields each step.

    Where they clash, their subsets go in front, or their sources, where these differ; where
    only extensions differ, they go into the stem.
    """
    for prefixes in (subsets, sources):
        for group in _clashes(names):
            if len({prefixes[i] for i in group}) > 1:
                for i in group:
                    names[i] = f"{prefixes[i]}/{names[i]}"
        yield names
    for group in _clashes([stem(n) for n in names]):
        suffixes = [PurePosixPath(names[i]).suffix.lower() for i in group]
        for i, suffix in zip(group, suffixes, strict=True):
            if len(set(suffixes)) > 1:
                names[i] = _restemmed(names[i], f"_{suffix[1:]}")
    yield names
    while groups := _clashes([stem(n) for n in names]):
        for group in groups:
            for number, i in enumerate(group[1:], start=2):
                names[i] = _restemmed(names[i], f"__{number}")
        yield names


def _clashes(keys: Sequence[str]) -> list[list[int]]:
    """Groups of positions whose keys no file system could tell apart."""
    owners: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        owners[collision_key(key)].append(i)
    return [group for group in owners.values() if len(group) > 1]


def _restemmed(name: str, ending: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}{ending}{path.suffix}"))
