"""From pictures to answers: what is kept of each image, while the work goes on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from .. import workspace
from ..conservation import area
from ..dataset import Category, Sample, Segment
from ..errors import FormatError
from ..files import Folder
from ..refine import Outcome, Predictor, Refined, Rules, made_with, refine
from ..rules.rule import Severity
from ..stages import intake
from ..validate import Finding, finding_of

UNSEEN = "no picture"  # the reason of segments whose picture cannot be looked at
Load = Callable[[str, str], Predictor]
"""Loads weights by their name or path, onto a device; a function of a module."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What became of a segment. Areas and `changed` are in pixels.

    `iou` is that of its mask before and after, 1 where nothing changed.
    """

    file: str
    segment: int  # its id
    category: str
    reason: str
    route: str = ""
    refined: bool = False
    scores: dict[str, float] = {}
    before: int = 0
    after: int = 0
    changed: int = 0
    iou: float = 1.0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of an image: its refined sample as a line, where it differs, and why."""

    rows: list[Row]
    line: str = ""
    fault: tuple[str, Severity, str] | None = None  # code and message of a finding


@dataclass(frozen=True, slots=True)
class Refiner:
    """Networks and rules; refines pictures, in any process."""

    load: Load
    weights: tuple[str, ...]
    device: str
    rules: Rules

    @property
    def made(self) -> Mapping[str, Sequence[str]]:
        return made_with(self._predictors)

    def __call__(self, pictures: Sequence[tuple[Sample, NDArray[np.uint8]]]) -> list[Refined]:
        return refine(pictures, self._predictors, self.rules)

    @property
    def _predictors(self) -> tuple[Predictor, ...]:
        return _predictors(self.load, self.weights, self.device)


@lru_cache(maxsize=1)
def _predictors(by: Load, weights: tuple[str, ...], device: str) -> tuple[Predictor, ...]:
    """Networks are read once a process."""
    return tuple(by(name, device) for name in weights)


@dataclass(frozen=True, slots=True)
class Work:
    """Answers a chunk of (key, sample): (key, encoded `Answer`) of each, in order."""

    images: Path
    categories: Sequence[Category]
    refiner: Refiner

    def key(self, sample: Sample) -> str:
        """Changes with the sample, its categories' names and its picture."""
        try:
            facts = (self.images / sample.file_name).stat()
            picture = f"{facts.st_size} {facts.st_mtime_ns}"
        except (OSError, ValueError):
            picture = "none"
        names = names_of(self.categories, sample)
        line = workspace.line_of(sample)
        return hashlib.sha256(f"{picture}\0{names}\0".encode() + line).hexdigest()

    def __call__(self, chunk: Sequence[tuple[str, Sample]]) -> list[tuple[str, bytes]]:
        answers: dict[str, Answer] = {}
        seen: dict[str, tuple[Sample, NDArray[np.uint8]]] = {}
        for key, sample in chunk:
            try:
                seen[key] = sample, picture(self.images, sample)
            except FormatError as error:
                answers[key] = self._unseen(sample, finding_of(error, sample.file_name))
        found = self.refiner(list(seen.values()))
        for (key, (sample, _)), refined in zip(seen.items(), found, strict=True):
            names = names_of(self.categories, sample)
            rows = [
                _row(sample.file_name, name, outcome)
                for name, outcome in zip(names, refined.outcomes, strict=True)
            ]
            changed = any(row.refined for row in rows)
            line = workspace.line_of(refined.sample).decode() if changed else ""
            answers[key] = Answer(rows, line)
        return [(key, msgspec.json.encode(answers[key])) for key, _ in chunk]

    def _unseen(self, sample: Sample, finding: Finding) -> Answer:
        names = names_of(self.categories, sample)
        rows = []
        for segment, name in zip(sample.segments, names, strict=True):
            pixels = area_of(segment, sample)
            row = Row(sample.file_name, segment.id, name, UNSEEN, before=pixels, after=pixels)
            rows.append(row)
        return Answer(rows, fault=(finding.code, finding.severity, finding.message))


def picture(folder: Path, sample: Sample) -> NDArray[np.uint8]:
    """
    The picture of a sample, (H, W, 3) uint8 RGB.

    Raises:
        FormatError: not there (I103), or see `intake.pixels_for`.
    """
    return intake.pixels_for(sample, intake.picture_in(Folder(folder), sample.file_name))


def names_of(categories: Sequence[Category], sample: Sample) -> list[str]:
    """The name of each segment's category; its number where there is no such category."""
    known = {c.id: c.name for c in categories}
    return [known.get(s.category_id, f"{s.category_id}") for s in sample.segments]


def _row(file_name: str, category: str, outcome: Outcome) -> Row:
    before, after = outcome.before, outcome.after
    sizes = [m.area if m is not None else 0 for m in (before, after)]
    changed, iou = 0, 1.0
    if before is not None and after is not None and before != after:
        changed, iou = sum(sizes) - 2 * before.intersection(after), before.iou(after)
    return Row(
        file=file_name,
        segment=outcome.segment_id,
        category=category,
        reason=outcome.reason,
        route=outcome.route,
        refined=changed > 0,
        scores={k: float(v) for k, v in outcome.scores.items() if math.isfinite(v)},
        before=sizes[0],
        after=sizes[1],
        changed=changed,
        iou=round(iou, 6),
    )


def area_of(segment: Segment, sample: Sample) -> int:
    """The pixels of a segment; one without a valid mask has none."""
    try:
        return area(segment, sample.height, sample.width)
    except FormatError:
        return 0
