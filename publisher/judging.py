"""
What refinement does to masks whose truth is known: how much better, and how often worse.

Every object of a precisely annotated dataset is drawn again as a hand of some level would draw
it, whole pictures are refined, and each object is held against the truth before and after. The
same dataset, seed and networks give the same figures, whatever the number of processes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from . import intake, refine, ritm
from .curves import Curve, svg
from .dataset import Dataset, Sample, Segment
from .engine import ordered
from .errors import FormatError, InvalidDataset, UsageError
from .files import canonical_json
from .masks import Mask, Rle, cut
from .perturb import LEVELS, draw
from .progress import Progress, silent
from .refine import Outcome, Refined
from .scoring import boundary_iou, harmed, interval, iou, risks

BRUSH = "brush"
"""The level of objects given as their precise masks, which refinement must leave alone."""

SCORE = "confidence"  # the score that the risk-coverage curve is about
_SIZES = ((25, "under 25 px"), (50, "to 50 px"), (100, "to 100 px"), (math.inf, "over 100 px"))

Image = NDArray[np.uint8]


class Refiner(Protocol):
    """What is judged: something that refines pictures (H, W, 3) with their segments."""

    @property
    def made(self) -> Mapping[str, Sequence[str]]:
        """With what it makes masks; see `refine.made_with`."""

    def __call__(self, pictures: Sequence[tuple[Sample, Image]]) -> Sequence[Refined]:
        """Each picture refined, in order."""


class Networks:
    """`refine` with some networks."""

    def __init__(self, weights: Sequence[str]) -> None:
        self.predictors = [ritm.load(name) for name in weights]
        self.made = refine.made_with(self.predictors)

    def __call__(self, pictures: Sequence[tuple[Sample, Image]]) -> Sequence[Refined]:
        return refine.refine(pictures, self.predictors)


class Quality(NamedTuple):
    """How near a mask is to the truth."""

    iou: float
    boundary_iou: float


@dataclass(frozen=True, slots=True)
class Judged:
    """An object, drawn and refined. `rejected` is what a mask that was not taken would be."""

    file_name: str
    segment_id: int
    level: str
    set: str
    size: float  # sqrt(area), in pixels
    reason: str
    route: str
    refined: bool  # is its segmentation another than before?
    scores: Mapping[str, float]
    before: Quality
    after: Quality
    rejected: Quality | None = None

    @property
    def harmed(self) -> bool:
        """Is it worse than before?"""
        return harmed(self.before.iou, self.after.iou)

    def to_json(self) -> dict[str, Any]:
        """All of it; scores that are no number are left out."""
        scores = {k: v for k, v in self.scores.items() if math.isfinite(v)}
        said = {
            "file_name": self.file_name,
            "segment": self.segment_id,
            "level": self.level,
            "set": self.set,
            "size": self.size,
            "reason": self.reason,
            "route": self.route,
            "refined": self.refined,
            "harmed": self.harmed,
            "scores": scores,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
        }
        return said if self.rejected is None else {**said, "rejected": self.rejected._asdict()}


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of some objects; shares are of all of them, means over all of them."""

    n: int
    refined: int
    harmed: int
    before: Quality
    after: Quality
    worst: float  # the largest fall of IoU, as a negative number; or the smallest gain

    @classmethod
    def of(cls, objects: Sequence[Judged]) -> Figures:
        """Count at least one object."""
        return cls(
            len(objects),
            sum(o.refined for o in objects),
            sum(o.harmed for o in objects),
            _mean([o.before for o in objects]),
            _mean([o.after for o in objects]),
            min(o.after.iou - o.before.iou for o in objects),
        )

    @property
    def gain(self) -> float:
        """Of boundary IoU."""
        return self.after.boundary_iou - self.before.boundary_iou

    @property
    def interval(self) -> tuple[float, float]:
        """Between which shares the true harm lies, at 95 %, were the objects independent."""
        return interval(self.harmed, self.n)

    def to_json(self) -> dict[str, Any]:
        """For `dvc metrics`: numbers only."""
        low, high = self.interval
        return {
            "n": self.n,
            "coverage": self.refined / self.n,
            "iou_before": self.before.iou,
            "iou_after": self.after.iou,
            "boundary_iou_before": self.before.boundary_iou,
            "boundary_iou_after": self.after.boundary_iou,
            "boundary_iou_gain": self.gain,
            "harmed": self.harmed,
            "harm": self.harmed / self.n,
            "harm_low": low,
            "harm_high": high,
            "worst_iou_change": self.worst,
        }


def _mean(qualities: Sequence[Quality]) -> Quality:
    return Quality(*(math.fsum(values) / len(values) for values in zip(*qualities, strict=True)))


@dataclass(frozen=True, slots=True)
class Judgement:
    """All objects that were judged, and why others were not, by level and reason."""

    seed: int
    made: Mapping[str, Sequence[str]]  # with what; see `refine.made_with`
    objects: tuple[Judged, ...]
    skipped: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def levels(self) -> dict[str, Figures]:
        """The figures of each level."""
        return self._by(lambda o: o.level)

    @property
    def sets(self) -> dict[tuple[str, str], Figures]:
        """The figures of each (set, level); a set is the first folder of a name, or a group."""
        found = self._by(lambda o: (o.set, o.level))
        return {key: found[key] for key in sorted(found, key=lambda key: key[0])}

    @property
    def sizes(self) -> dict[tuple[str, str], Figures]:
        """The figures of each (size, level)."""
        found = self._by(lambda o: (_size(o.size), o.level))
        names = [name for _, name in _SIZES]
        return {key: found[key] for key in sorted(found, key=lambda key: names.index(key[0]))}

    def _by(self, key: Callable[[Judged], Any]) -> dict[Any, Figures]:
        found: dict[Any, list[Judged]] = defaultdict(list)
        for judged in self.objects:
            found[key(judged)].append(judged)
        return {k: Figures.of(objects) for k, objects in found.items()}

    def to_json(self) -> dict[str, Any]:
        """All figures, without the objects."""
        return {
            "seed": self.seed,
            **self.made,
            "levels": {level: figures.to_json() for level, figures in self.levels.items()},
            "sets": _nested(self.sets),
            "sizes": _nested(self.sizes),
            "skipped": {f"{level}: {why}": n for (level, why), n in self.skipped.items()},
        }

    def document(self) -> Iterator[bytes]:
        """All figures and all objects as JSON, an object a line: rules can be tried on it."""
        head = canonical_json(self.to_json())
        yield head.removesuffix(b"}") + b',"objects":[\n'
        for number, judged in enumerate(self.objects):
            yield (b",\n" if number else b"") + canonical_json(judged.to_json())
        yield b"\n]}\n"

    def curve(self) -> bytes:
        """
        The risk-coverage curves of all levels as SVG.

        A curve is over every object for which a mask was proposed and scored, taken or not.
        """
        curves = []
        for level, figures in self.levels.items():
            scored = [
                (o.scores[SCORE], harmed(o.before.iou, (o.rejected or o.after).iou))
                for o in self.objects
                if o.level == level and SCORE in o.scores and (o.refined or o.rejected)
            ]
            share = figures.harmed / figures.n
            curve = risks([s for s in scored if not math.isnan(s[0])], figures.n)
            curves.append(
                Curve(level, curve, figures.refined / figures.n, share, figures.interval[1])
            )
        return svg(curves)


def _nested(figures: Mapping[tuple[str, str], Figures]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = defaultdict(dict)
    for (name, level), found in figures.items():
        nested[name][level] = found.to_json()
    return dict(nested)


def _size(side: float) -> str:
    return next(name for limit, name in _SIZES if side < limit)


# ── the work ─────────────────────────────────────────────────────────────────────────────────


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
    with _chosen(path, limit) as (source, chosen):
        tasks = (task for entry in chosen for task in _tasks(source, entry, levels))
        done, total = 0, len(levels) * sum(entry.objects for entry in chosen)
        for judged, passed, seen in ordered(work, tasks):
            objects += judged
            skipped += passed
            done += seen
            on_object(done, total)
        for _ in source.unread():
            skipped["all levels", "cannot be read"] += 1
    if not objects:
        raise InvalidDataset("there is no object to judge", hint=_why(skipped))
    order = {level: at for at, level in enumerate(levels)}
    objects.sort(key=lambda o: (order[o.level], o.file_name, o.segment_id))
    return Judgement(seed, made, tuple(objects), dict(sorted(skipped.items())))


def networks(weights: Sequence[str]) -> Callable[[], Refiner]:
    """
    What makes the refiner of these weights, in any process; `named` says of which.

    Raises:
        UsageError: none is named, and none ships.
    """
    return partial(Networks, named(weights))


def named(weights: Sequence[str]) -> tuple[str, ...]:
    """
    These weights, or all that ship with publisher where none is named.

    Raises:
        UsageError: none ships.
    """
    models = Path(ritm.__file__).with_name("models")
    names = tuple(weights) or tuple(sorted(path.stem for path in models.glob("*.safetensors")))
    if not names:
        raise UsageError("no weights ship with this publisher", hint="name some: --weights h18")
    return names


def _levels(asked: Sequence[str]) -> tuple[str, ...]:
    known = (*LEVELS, BRUSH)
    for level in asked:
        if level not in known:
            raise UsageError(f"no level is called {level!r}", hint=f"there are {', '.join(known)}")
    return tuple(level for level in known if level in asked or not asked)


def _why(skipped: Mapping[tuple[str, str], int]) -> str:
    reasons = sorted({why for _, why in skipped})
    return f"its objects: {', '.join(reasons)}" if reasons else "the dataset has no segments"


class _Entry(NamedTuple):
    position: int  # in the dataset
    file_name: str
    set: str
    objects: int


class _Task(NamedTuple):
    sample: Sample
    body: bytes | None  # of the picture; None where it cannot be read
    set: str
    level: str


class _Answer(NamedTuple):
    objects: list[Judged]
    skipped: Counter[tuple[str, str]]
    seen: int  # segments, judged or not


@contextmanager
def _chosen(path: Path, limit: int | None) -> Iterator[tuple[intake.Opened, list[_Entry]]]:
    with intake.opened(path) as source:
        if source.picture is None:
            raise UsageError(f"{path} has no pictures", hint="judge a dataset with its pictures")
        yield source, _fairly(_entries(source.dataset), limit)


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


def _tasks(source: intake.Opened, entry: _Entry, levels: Sequence[str]) -> Iterator[_Task]:
    """A picture at every level: small pieces of work, so that no process is left with a large."""
    sample = source.dataset[entry.position]
    try:
        body = source.picture(sample) if source.picture else None
    except FormatError:
        body = None
    for level in levels:
        yield _Task(sample, body, entry.set, level)


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

    def __call__(self, task: _Task) -> _Answer:
        sample, level = task.sample, task.level
        seen = len(sample.segments)
        image = _pixels(task)
        if image is None:
            why = "their picture cannot be read, or has another size or orientation"
            return _Answer([], Counter({(level, why): seen}), seen)
        drawn, truths, skipped = _drawn(sample, level, self.seed)
        found = Counter({(level, why): n for why, n in skipped.items()})
        if not truths:
            return _Answer([], found, seen)
        (refined,) = self.refiner([(drawn, image)])
        return _Answer(list(_judged(task, drawn, refined, truths)), found, seen)


def _pixels(task: _Task) -> Image | None:
    if task.body is None:
        return None
    try:
        return intake.pixels_for(task.sample, task.body)
    except FormatError:
        return None


def _drawn(sample: Sample, level: str, seed: int) -> tuple[Sample, dict[int, Mask], Counter[str]]:
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


def _judged(
    task: _Task, drawn: Sample, refined: Refined, truths: Mapping[int, Mask]
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


# ── clicks ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Clicks:
    """How many clicks each object takes until its IoU is .85, and .90; 20 means never."""

    digest: str
    counts: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """NoC and the number of objects that 20 clicks do not get right."""
        at85, at90 = zip(*self.counts, strict=True)
        return {
            "weights": self.digest,
            "n": len(self.counts),
            "noc85": sum(at85) / len(at85),
            "noc90": sum(at90) / len(at90),
            "failed85": sum(c == 20 for c in at85),
            "failed90": sum(c == 20 for c in at90),
        }


def count_clicks(
    path: Path,
    weights: str,
    *,
    limit: int | None = None,
    on_object: Progress = silent,
) -> Clicks:
    """
    NoC as published, from nothing to each object of a dataset; see `ritm.noc`.

    Raises: as `evaluate`.
    """
    work = _Clicker(weights)
    digest = work.predictor.digest
    counts: list[tuple[int, int]] = []
    with _chosen(path, limit) as (source, chosen):
        tasks = (task for entry in chosen for task in _tasks(source, entry, [BRUSH]))
        done, total = 0, sum(entry.objects for entry in chosen)
        for found, seen in ordered(work, tasks):
            counts += found
            done += seen
            on_object(done, total)
    if not counts:
        raise InvalidDataset("there is no object to click on")
    return Clicks(digest, tuple(counts))


class _Clicker:
    def __init__(self, weights: str) -> None:
        self.weights = weights

    def __reduce__(self) -> tuple[Any, ...]:
        return _Clicker, (self.weights,)

    @cached_property
    def predictor(self) -> ritm.Predictor:
        predictor = ritm.load(self.weights)
        if not isinstance(predictor.network, ritm.Network):
            raise UsageError(
                f"{self.weights} answers no clicks", hint="name RITM's weights: --weights h18"
            )
        return predictor

    def __call__(self, task: _Task) -> tuple[list[tuple[int, int]], int]:
        predictor = self.predictor  # the first use of torch, which may not be installed
        from .ritm import noc

        counts: list[tuple[int, int]] = []
        image, seen = _pixels(task), len(task.sample.segments)
        if image is None:
            return counts, seen
        _, truths, _ = _drawn(task.sample, BRUSH, 0)
        for truth in truths.values():
            clicked = noc.click_through(predictor, image, truth.to_array().astype(np.int8))
            counts.append((clicked.until(0.85), clicked.until(0.9)))
        return counts, seen
