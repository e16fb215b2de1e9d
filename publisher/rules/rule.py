"""
What a rule is, and what it looks at: a Scene (one sample) or a Survey (the whole dataset).

Rules are functions in the other modules of this package; a decorator registers each. They
look and report; they never raise, print or change anything.
"""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..dataset import Category, Sample, Segment
from ..errors import FormatError
from ..masks import Mask, Rle, boxes
from ..names import printable
from ..runs import Runs, runs_of

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, how bad it is, and where."""

    code: str
    severity: Severity
    message: str
    file_name: str | None = None
    segment: int | None = None  # its position in the sample, from 0
    segment_id: int | None = None

    def __str__(self) -> str:
        place = self.file_name or "dataset"
        if self.segment is not None:
            place += f" segment {self.segment}"
        return printable(f"{place}: {self.severity} {self.code}: {self.message}")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file says of itself."""

    format: str  # Pillow's name: JPEG, PNG, ...
    height: int
    width: int
    mode: str  # Pillow's name: RGB, L, CMYK, ...
    orientation: int  # EXIF, 1 to 8; 1 is upright
    frames: int
    sha256: str
    has_location: bool  # EXIF holds a GPS position
    dhash: int = 0  # 64-bit difference hash of the pixels, for near-duplicates


Look = Callable[[Sample], ImageFacts]
"""Opens the image of a sample; raises FormatError with code I103, I112 or I119."""


@dataclass(frozen=True, slots=True)
class Vertices:
    """The vertices of R rings, one ring after the other; none is empty."""

    points: NDArray[np.float64]  # (N, 2), x and y
    steps: NDArray[np.float64]  # (N, 2), to the next one of the ring, from the last to the first
    first: NDArray[np.int64]  # (R,), where each ring begins
    owner: NDArray[np.int64]  # (R,), the segment it belongs to
    sizes: NDArray[np.int64]  # (R,), how many vertices each ring has


class Scene:
    """A sample as rules see it: its categories, its masks, its image file."""

    def __init__(
        self, sample: Sample, categories: Mapping[int, Category], look: Look | None = None
    ) -> None:
        self.sample = sample
        self.categories = categories
        self._look = look

    @cached_property
    def masks(self) -> tuple[Mask | None, ...]:
        """One a segment, in order; None where the geometry is broken."""
        return tuple(m if isinstance(m, Mask) else None for m in self._rasterised)

    @cached_property
    def areas(self) -> tuple[int, ...]:
        """Pixels of each mask; 0 where there is none."""
        return tuple(m.area if m is not None else 0 for m in self.masks)

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """The tight box of each mask, (N, 4) xywh; all 0 where there is none."""
        return boxes(self.masks)

    @cached_property
    def overlaps(self) -> tuple[tuple[int, int, int], ...]:
        """Every pair of masks that share pixels: two positions, the lower first, and how many."""
        return tuple(overlapping(self.masks, self.boxes))

    @cached_property
    def outlines(self) -> tuple[tuple[NDArray[np.float64], ...], ...]:
        """The rings of each sound polygon segment, as (N, 2) arrays of x, y; () for the others."""
        return tuple(
            () if m is None or not isinstance(s.segmentation, tuple) else _points(s.segmentation)
            for s, m in zip(self.sample.segments, self.masks, strict=True)
        )

    @cached_property
    def extents(self) -> tuple[tuple[float, float, float, float] | None, ...]:
        """Left, top, right and bottom of the vertices of each outline."""
        return tuple(_extent(rings) if rings else None for rings in self.outlines)

    @cached_property
    def parts(self) -> tuple[tuple[Mask, ...], ...]:
        """One mask a ring, of the segments whose outline has several rings; () for the others."""
        size = self.sample.height, self.sample.width
        return tuple(
            tuple(Mask.from_polygons((ring,), *size) for ring in s.segmentation)
            if len(rings) > 1 and isinstance(s.segmentation, tuple)
            else ()
            for s, rings in zip(self.sample.segments, self.outlines, strict=True)
        )

    @cached_property
    def claimed(self) -> tuple[tuple[float, float, float, float] | None, ...]:
        """The box that the source gives each segment, xywh; None where it gives none, or no box."""
        return tuple(
            _four(s.origin["bbox"]) if "bbox" in s.origin else None for s in self.sample.segments
        )

    @cached_property
    def vertices(self) -> Vertices:
        """The vertices of all outlines as one array, for rules that look at each."""
        rings = [ring for rings in self.outlines for ring in rings]
        owner = np.array([i for i, own in enumerate(self.outlines) for _ in own], dtype=np.int64)
        sizes = np.array([len(ring) for ring in rings], dtype=np.int64)
        first = np.cumsum(sizes) - sizes
        points = np.concatenate(rings) if rings else np.empty((0, 2))
        following = np.empty_like(points)
        following[:-1] = points[1:]
        following[first + sizes - 1] = points[first]
        return Vertices(points, following - points, first, owner, sizes)

    @cached_property
    def scattered(self) -> tuple[tuple[int, ...], Runs]:
        """
        The RLEs that may be in stripes or specks, and their runs: not those that fill their box.

        Owner n is the n-th of these segments. Each lies so far behind the one before that a
        pixel's neighbours, up to a row and a column on, are never another mask's. Crowds are
        left out.
        """
        boxes = self.boxes.tolist()
        which = tuple(
            i
            for i, s in enumerate(self.sample.segments)
            if isinstance(s.segmentation, Rle)
            and not s.iscrowd
            and self.areas[i] >= _SCATTERED
            and _scattered(self.masks[i], self.areas[i], *boxes[i][2:])
        )
        if not which:
            return (), _NO_RUNS
        runs = runs_of([m for i in which if (m := self.masks[i]) is not None])
        height, width = self.sample.height, self.sample.width
        away = runs.owner * (height * width + 2 * (height + width))
        return which, Runs(runs.start + away, runs.stop + away, runs.owner, runs.count)

    @cached_property
    def broken(self) -> tuple[tuple[int, FormatError], ...]:
        """Position and reason of every segment without a mask."""
        results = enumerate(self._rasterised)
        return tuple((i, r) for i, r in results if isinstance(r, FormatError))

    @cached_property
    def image(self) -> ImageFacts | FormatError | None:
        """What the image file says, why it cannot be read, or None where it is not looked at."""
        if self._look is None:
            return None
        try:
            return self._look(self.sample)
        except FormatError as error:
            return error

    @property
    def facts(self) -> ImageFacts | None:
        """The image file's facts where there are any."""
        return self.image if isinstance(self.image, ImageFacts) else None

    def category(self, index: int) -> str:
        """What to call the category of a segment in a message."""
        key = self.sample.segments[index].category_id
        return self.categories[key].name if key in self.categories else f"category {key}"

    def isthing(self, index: int) -> bool:
        """Is a segment an instance of a thing?"""
        category = self.categories.get(self.sample.segments[index].category_id)
        return category is None or category.isthing

    def find(self, message: str, segment: int | None = None) -> Finding:
        """A finding about this sample; the engine puts in the rule's code and severity."""
        key = None if segment is None else self.sample.segments[segment].id
        return Finding("", "error", message, self.sample.file_name, segment, key)

    @cached_property
    def _rasterised(self) -> tuple[Mask | FormatError, ...]:
        size = self.sample.height, self.sample.width
        return tuple(_rasterise(segment, *size) for segment in self.sample.segments)


MAX_ID = 2**53  # the largest integer that every JSON reader keeps exact


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a sample until the whole dataset has been seen: some 400 bytes."""

    id: int
    file_name: str
    split: str | None
    group: str | None
    categories: frozenset[int]
    segments: int  # how many
    sha256: str | None = None  # of the image file, where it was looked at
    dhash: int = 0


Unclaimed = Callable[[Iterable[str]], Mapping[str, Sequence[str]]]
"""Given the names of all images, gives the pictures that are none of them, by folder."""


def _nothing(file_names: Iterable[str]) -> Mapping[str, Sequence[str]]:  # noqa: ARG001
    return {}


@dataclass(frozen=True, slots=True)
class Beside:
    """What a dataset is held against, as far as it was given."""

    previous: Survey | None = None  # an earlier version of it
    lock: Mapping[str, str] = field(default_factory=dict)  # split by group, from `splits.lock`
    ratios: Mapping[str, float] = field(default_factory=dict)  # share by split
    unclaimed: Unclaimed = _nothing


@dataclass(slots=True)
class Survey:
    """
    The dataset as rules about the whole of it see it: light enough for a million samples.

    `segment_ids` holds the id of every segment, in the order of `seen`; 0 stands for
    an id that is no id (A302).
    """

    categories: tuple[Category, ...]
    beside: Beside = field(default_factory=Beside)
    seen: list[Seen] = field(default_factory=list)
    segment_ids: array[int] = field(default_factory=lambda: array("q"))
    _sets: dict[frozenset[int], frozenset[int]] = field(default_factory=dict)

    def add(self, scene: Scene) -> None:
        """Remember what matters of a sample."""
        sample, facts = scene.sample, scene.facts
        ids = frozenset(s.category_id for s in sample.segments)
        self.segment_ids.extend(s.id if 0 < s.id <= MAX_ID else 0 for s in sample.segments)
        self.seen.append(
            Seen(
                sample.id,
                sample.file_name,
                sample.split,
                sample.group,
                self._sets.setdefault(ids, ids),
                len(sample.segments),
                facts.sha256 if facts else None,
                facts.dhash if facts else 0,
            )
        )

    def find(self, message: str, about: Seen | None = None, segment: int | None = None) -> Finding:
        """A finding about one sample, or the dataset; the engine puts in code and severity."""
        return Finding("", "error", message, about.file_name if about else None, segment)


SceneCheck = Callable[[Scene], Iterator[Finding]]
DatasetCheck = Callable[[Survey], Iterator[Finding]]
Fix = Callable[[Scene, int], Segment | None]
"""Gives a segment of the scene mended, None where it must go, or as it is if it must stay so."""
SampleFix = Callable[[Scene], Sample]
"""Gives the sample mended as a whole, or as it is; it keeps the number of segments."""


@dataclass(frozen=True, slots=True)
class Rule:
    """
    A check and its page in docs/rules.md.

    `scope` says what the check is given: "scene", one sample at a time; "dataset", all of
    it; "reading", nothing, because only a reader sees the fault and raises it as a
    FormatError with this code.
    """

    code: str
    severity: Severity
    scope: Literal["scene", "dataset", "reading"]
    check: Callable[[Any], Iterator[Finding]]
    fix: Fix | None = None
    fix_sample: SampleFix | None = None
    renumbered: bool = False  # mended by giving all ids anew, which needs the whole dataset

    @property
    def fixable(self) -> bool:
        """Can what it finds be mended without asking anyone, at least in part?"""
        return self.fix is not None or self.fix_sample is not None or self.renumbered

    @property
    def page(self) -> str:
        """The docstring: what, why it matters, how to fix."""
        return inspect.getdoc(self.check) or ""

    @property
    def title(self) -> str:
        """The first line of the page."""
        return self.page.partition("\n")[0]


RULES: dict[str, Rule] = {}


def rule(
    code: str,
    severity: Severity,
    *,
    fix: Fix | None = None,
    fix_sample: SampleFix | None = None,
    renumbered: bool = False,
) -> Callable[[SceneCheck], SceneCheck]:
    """
    Register a rule about one sample.

    `fix` mends the segment that a finding points at; `fix_sample` the sample, where it
    points at none.
    """
    made = partial(Rule, fix=fix, fix_sample=fix_sample, renumbered=renumbered)
    return lambda check: _register(made(code, severity, "scene", check))


def dataset_rule(
    code: str, severity: Severity, *, renumbered: bool = False
) -> Callable[[DatasetCheck], DatasetCheck]:
    """Register a rule about the dataset as a whole."""
    return lambda check: _register(Rule(code, severity, "dataset", check, renumbered=renumbered))


def reading_rule(code: str, severity: Severity = "error") -> Callable[[SceneCheck], SceneCheck]:
    """Register the page of a fault that only readers meet, as a FormatError with this code."""
    return lambda check: _register(Rule(code, severity, "reading", check))


def _register(new: Rule) -> Any:
    if new.code in RULES:
        raise ValueError(f"rule code {new.code} is taken by {RULES[new.code].check.__name__}")
    RULES[new.code] = new
    return new.check


def _rasterise(segment: Segment, height: int, width: int) -> Mask | FormatError:
    try:
        return segment.mask(height, width)
    except FormatError as error:
        return error


def finite(value: object) -> TypeGuard[float]:
    """Is it a number that a box or an area can have?"""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e12 < value < 1e12


def _four(raw: object) -> tuple[float, float, float, float] | None:
    if not isinstance(raw, list | tuple) or len(raw) != 4 or not all(map(finite, raw)):
        return None
    x, y, w, h = map(float, raw)
    return x, y, w, h


_SCATTERED = 64  # px; of smaller masks, neighbours say little
_LAST = bytes(range(48, 80))  # characters that end a number of COCO's counts
_NONE = np.zeros(0, dtype=np.int64)
_NO_RUNS = Runs(_NONE, _NONE, _NONE, 0)


def _scattered(mask: Mask | None, area: int, width: int, height: int) -> bool:
    """Is its box not well filled, or has it shorter or more runs than one down each column?"""
    if mask is None:
        return False
    runs = (len(mask.counts) - len(mask.counts.translate(None, _LAST))) // 2
    return area < 0.45 * width * height or runs > width + 5 or area < 0.35 * height * runs


def _points(rings: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings)


def _extent(rings: Sequence[NDArray[np.float64]]) -> tuple[float, float, float, float]:
    points = rings[0] if len(rings) == 1 else np.concatenate(rings)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom


def overlapping(
    masks: Sequence[Mask | None], xywh: NDArray[np.int64]
) -> Iterator[tuple[int, int, int]]:
    """Boxes first, all at once; runs only where boxes meet."""
    start, end = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
    for i, mask in enumerate(masks):
        if mask is None:
            continue
        meet = (np.minimum(end[i], end[i + 1 :]) > np.maximum(start[i], start[i + 1 :])).all(axis=1)
        for j in (np.flatnonzero(meet) + i + 1).tolist():
            other = masks[j]
            shared = mask.intersection(other) if other is not None else 0
            if shared:
                yield i, j, shared
