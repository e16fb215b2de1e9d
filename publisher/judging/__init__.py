"""
What refinement does to masks whose truth is known: how much better, and how often worse.

Every object of a precisely annotated dataset is drawn again as a hand of some level would draw
it, whole pictures are refined, and each object is held against the truth before and after. The
same dataset, seed and networks give the same figures, whatever the number of processes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import refine, ritm
from ..dataset import Sample
from ..engine import ordered
from ..errors import InvalidDataset, UsageError
from ..masks import Mask, cut
from ..progress import Progress, silent
from ..refine import Outcome, Refined
from ..refinement.perturb import LEVELS
from ..refinement.scoring import boundary_iou, iou
from .clicking import Clicks, count_clicks
from .figures import Figures, Judged, Judgement, Quality
from .tasks import BRUSH, Image, Task, drawn_again, todo

__all__ = ["BRUSH", "Clicks", "Figures", "Judged", "Judgement", "Networks", "Quality", "Refiner"]
__all__ += ["count_clicks", "evaluate", "named", "networks"]


class Refiner(Protocol):
    """What is judged: something that refines pictures (H, W, 3) with their segments."""

    @property
    def made(self) -> Mapping[str, Sequence[str]]:
        """With what it makes masks; see `refine.made_with`."""

    def __call__(self, pictures: Sequence[tuple[Sample, Image]]) -> Sequence[Refined]:
        """Each picture refined, in order."""


class Networks:
    """`refine` with some networks."""

    def __init__(self, weights: Sequence[str], device: str = "cpu") -> None:
        self.predictors = [ritm.load(name, device=device) for name in weights]
        self.made = refine.made_with(self.predictors)

    def __call__(self, pictures: Sequence[tuple[Sample, Image]]) -> Sequence[Refined]:
        return refine.refine(pictures, self.predictors)


def evaluate(
    path: Path,
    make: Callable[[], Refiner],
    *,
    levels: Sequence[str] = (),
    seed: int = 0,
    limit: int | None = None,
    on_object: Progress = silent,
) -> Judgement:
    """
    Judge a refiner on a dataset with its pictures; its masks are taken for the truth.

    Args:
        make: called once in each process; picklable, where there are several.
        levels: of `perturb.LEVELS`, or "brush"; by default all.
        limit: whole pictures, as equally from all sets as they allow, until there are so many
            objects.
        on_object: called with (objects done, objects in all), each level counting anew.

    Raises:
        UsageError: no such level; the dataset has no pictures.
        FormatError, InvalidDataset: the dataset cannot be read, or holds nothing to judge.
    """
    levels = _levels(levels)
    work = _Work(make, seed)
    made = work.refiner.made  # weights that do not load show before the work
    objects: list[Judged] = []
    skipped: Counter[tuple[str, str]] = Counter()
    with todo(path, levels, limit) as asked:
        done = 0
        for judged, passed, seen in ordered(work, asked.tasks):
            objects += judged
            skipped += passed
            done += seen
            on_object(done, asked.objects)
        for _ in asked.source.unread():
            skipped["all levels", "cannot be read"] += 1
    if not objects:
        raise InvalidDataset("there is no object to judge", hint=_why(skipped))
    order = {level: at for at, level in enumerate(levels)}
    objects.sort(key=lambda o: (order[o.level], o.file_name, o.segment_id))
    return Judgement(seed, made, tuple(objects), dict(sorted(skipped.items())))


def networks(weights: Sequence[str], device: str = "cpu") -> Callable[[], Refiner]:
    """
    What makes the refiner of these weights, in any process; `named` says of which.
    """
    return partial(Networks, named(weights), device)


def named(weights: Sequence[str]) -> tuple[str, ...]:
    """These weights, or those that refine where nobody says with which."""
    return tuple(weights) or ritm.SHIPPED


def _levels(asked: Sequence[str]) -> tuple[str, ...]:
    known = (*LEVELS, BRUSH)
    for level in asked:
        if level not in known:
            raise UsageError(f"no level is called {level!r}", hint=f"there are {', '.join(known)}")
    return tuple(level for level in known if level in asked or not asked)


def _why(skipped: Mapping[tuple[str, str], int]) -> str:
    reasons = sorted({why for _, why in skipped})
    return f"its objects: {', '.join(reasons)}" if reasons else "the dataset has no segments"


class _Answer(NamedTuple):
    objects: list[Judged]
    skipped: Counter[tuple[str, str]]
    seen: int  # segments, judged or not


class _Work:
    """Draws, refines and judges the objects of a picture; the refiner is made in each process."""

    def __init__(self, make: Callable[[], Refiner], seed: int) -> None:
        self.make = make
        self.seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        return _Work, (self.make, self.seed)  # networks do not travel

    @cached_property
    def refiner(self) -> Refiner:
        return self.make()

    def __call__(self, task: Task) -> _Answer:
        sample, level = task.sample, task.level
        seen = len(sample.segments)
        image = task.pixels()
        if image is None:
            why = "their picture cannot be read, or has another size or orientation"
            return _Answer([], Counter({(level, why): seen}), seen)
        drawn, truths, skipped = drawn_again(sample, level, self.seed)
        found = Counter({(level, why): n for why, n in skipped.items()})
        if not truths:
            return _Answer([], found, seen)
        (refined,) = self.refiner([(drawn, image)])
        return _Answer(list(_judged(task, drawn, refined, truths)), found, seen)


def _judged(
    task: Task, drawn: Sample, refined: Refined, truths: Mapping[int, Mask]
) -> Iterator[Judged]:
    height, width = drawn.height, drawn.width
    outcomes = {o.segment_id: o for o in refined.outcomes}
    for old, new in zip(drawn.segments, refined.sample.segments, strict=True):
        if old.id != new.id:
            raise ValueError(f"segment {old.id} came back as {new.id}")
        if (truth := truths.get(old.id)) is None:
            continue
        outcome = outcomes.get(old.id, _UNTOLD)
        changed = new.segmentation != old.segmentation
        masks = [truth, old.mask(height, width), new.mask(height, width)]
        if not changed and outcome.proposed is not None:
            masks.append(outcome.proposed)
        before, after, *rejected = _qualities(masks)
        yield Judged(
            file_name=drawn.file_name,
            segment_id=old.id,
            level=task.level,
            set=task.set,
            size=math.sqrt(truth.area),
            reason=outcome.reason,
            route=outcome.route,
            refined=changed,
            scores=dict(outcome.scores),
            before=before,
            after=after,
            rejected=rejected[0] if rejected else None,
        )


_UNTOLD = Outcome(0, "nothing was said of it", "", {}, None, None)


def _qualities(masks: Sequence[Mask]) -> list[Quality]:
    """Hold masks against the first of them, in the part of the picture that any reaches."""
    boxes = np.array([m.bbox for m in masks if m.area])  # (N, 4) xywh
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(axis=0).tolist()
    truth, *others = (cut(m, left, top, right - left, bottom - top) for m in masks)
    diagonal = math.hypot(masks[0].height, masks[0].width)
    return [Quality(iou(truth, o), boundary_iou(truth, o, diagonal)) for o in others]
