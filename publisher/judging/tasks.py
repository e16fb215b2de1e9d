"""
Which pictures of a dataset are judged on, and how a hand of some level would draw their objects.

A picture at a level is a task; the same dataset and seed give the same tasks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..dataset import Dataset, Sample, Segment
from ..errors import FormatError, UsageError
from ..masks import Mask, Rle
from ..refinement.perturb import LEVELS, draw
from ..stages import intake

BRUSH = "brush"
"""The level of objects given as their precise masks, which refinement must leave alone."""

Image = NDArray[np.uint8]


class _Entry(NamedTuple):
    position: int  # in the dataset
    file_name: str
    set: str
    objects: int


class Task(NamedTuple):
    """A picture whose objects are to be drawn at a level."""

    sample: Sample
    body: bytes | None  # of the picture; None where it cannot be read
    set: str
    level: str

    def pixels(self) -> Image | None:
        """The picture (H, W, 3) RGB; None where it is not that of the sample."""
        if self.body is None:
            return None
        try:
            return intake.pixels_for(self.sample, self.body)
        except FormatError:
            return None


class Todo(NamedTuple):
    """All tasks, with how many objects; and what they come from, as long as that is open."""

    tasks: Iterator[Task]
    objects: int  # each level counting anew
    source: intake.Opened


@contextmanager
def todo(path: Path, levels: Sequence[str], limit: int | None) -> Iterator[Todo]:
    """
    What is to be done for a dataset, at some levels of `perturb.LEVELS` or "brush".

    Args:
        limit: whole pictures, as equally from all sets as they allow, until there are so many
            objects.

    Raises:
        UsageError: the dataset has no pictures.
        FormatError, InvalidDataset: it cannot be read.
    """
    with intake.opened(path) as source:
        if source.picture is None:
            raise UsageError(f"{path} has no pictures", hint="judge a dataset with its pictures")
        chosen = _fairly(_entries(source.dataset), limit)
        tasks = (task for entry in chosen for task in _tasks(source, entry, levels))
        yield Todo(tasks, len(levels) * sum(entry.objects for entry in chosen), source)


def _entries(dataset: Dataset) -> list[_Entry]:
    return [
        _Entry(position, s.file_name, set_of(s), len(s.segments))
        for position, s in enumerate(dataset)
        if s.segments
    ]


def set_of(sample: Sample) -> str:
    """The first folder of a sample's name; else its group; else nothing."""
    folder, slash, _ = sample.file_name.partition("/")
    return folder if slash else sample.group or ""


def _fairly(entries: Iterable[_Entry], limit: int | None) -> list[_Entry]:
    """Pictures until there are so many objects, always from the set with the fewest so far."""
    if limit is None:
        return list(entries)
    left: dict[str, list[_Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda e: (crc32(e.file_name.encode()), e), reverse=True):
        left[entry.set].append(entry)
    taken: Counter[str] = Counter()
    chosen = []
    while left and taken.total() < limit:
        name = min(left, key=lambda n: (taken[n], n))
        chosen.append(left[name].pop())
        taken[name] += chosen[-1].objects
        if not left[name]:
            del left[name]
    return sorted(chosen)


def _tasks(source: intake.Opened, entry: _Entry, levels: Sequence[str]) -> Iterator[Task]:
    """A picture at every level: small pieces of work, so that no process is left with a large."""
    sample = source.dataset[entry.position]
    try:
        body = source.picture(sample) if source.picture else None
    except FormatError:
        body = None
    for level in levels:
        yield Task(sample, body, entry.set, level)


def drawn_again(
    sample: Sample, level: str, seed: int
) -> tuple[Sample, dict[int, Mask], Counter[str]]:
    """
    The picture with its objects as a hand draws them, the truth by id, and what was left out.

    Attributes and provenance stay behind: they are the precise masks', not the drawing's.
    Crowds are in the picture as they are, and are not judged.
    """
    segments, truths = [], {}
    skipped: Counter[str] = Counter()
    for segment in sample.segments:
        try:
            truth = segment.mask(sample.height, sample.width)
            if segment.iscrowd:
                skipped["crowds"] += 1
                segments.append(segment)
                continue
            redrawn = _redrawn(sample, segment, truth, level, seed)
        except FormatError:
            skipped["cannot be drawn"] += 1
            continue
        if isinstance(redrawn, str):
            skipped[redrawn] += 1
            continue
        segments.append(redrawn)
        truths[segment.id] = truth
    return replace(sample, segments=tuple(segments), source={}), truths, skipped


def _redrawn(sample: Sample, segment: Segment, truth: Mask, level: str, seed: int) -> Segment | str:
    """A segment as drawn, or why there is none."""
    if not truth.area:
        return "without a pixel"
    bare = replace(segment, attributes={}, origin={})
    if level == BRUSH:
        counts = truth.counts.decode("ascii")
        return replace(bare, segmentation=Rle(truth.height, truth.width, counts))
    name = f"{sample.file_name}:{segment.id}:{level}"
    rings = draw(truth, LEVELS[level], np.random.default_rng((seed, crc32(name.encode()))))
    if not rings:
        return "too small for a hand to draw"
    redrawn = replace(bare, segmentation=rings)
    if not redrawn.mask(sample.height, sample.width).area:
        return "drawn beside the picture"
    return redrawn
