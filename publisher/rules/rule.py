"""
What a rule is, and what it looks at: a Scene (one sample) or a Survey (the whole dataset).

Rules are functions in the other modules of this package; a decorator registers each. They
look and report; they never raise, print or change anything.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..dataset import Category, Sample, Segment
from ..errors import FormatError
from ..masks import Mask, Rle
from ..names import printable
from ..shapes.drawing import Rings
from ..shapes.runs import Runs, runs_of
from .chunk import Chunk, chunks, extents
from .overlaps import Overlaps
from .seen import Memory, Numbers, Seen

T = TypeVar("T")

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


class Scene:
    """
    A sample as rules see it: its categories, its masks, its image file.

    Geometry is worked out for all samples of a chunk at once; a scene shows its own share.
    """

    def __init__(
        self,
        sample: Sample,
        categories: Mapping[int, Category],
        look: Look | None = None,
        share: tuple[Chunk, int] | None = None,  # and which of its samples this is
    ) -> None:
        self.sample = sample
        self.categories = categories
        self._look = look
        self._chunk, self._at = share if share is not None else (Chunk([sample]), 0)
        self._mine = slice(*self._chunk.edges[self._at : self._at + 2])

    @cached_property
    def masks(self) -> tuple[Mask | None, ...]:
        """One a segment, in order; None where the geometry is broken."""
        return self._chunk.masks[self._mine]

    @cached_property
    def areas(self) -> tuple[int, ...]:
        """Pixels of each mask; 0 where there is none."""
        return self._chunk.areas[self._mine]

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """The tight box of each mask, (N, 4) xywh; all 0 where there is none."""
        return self._chunk.drawn.boxes[self._mine]

    @cached_property
    def overlaps(self) -> tuple[tuple[int, int, int], ...]:
        """Every pair of masks that share pixels: two positions, the lower first, and how many."""
        return self._chunk.overlaps[self._at].pairs

    @property
    def compared(self) -> int:
        """How many segments, from the first on, `overlaps` looks at; all but in hostile scenes."""
        return self._chunk.overlaps[self._at].compared

    @cached_property
    def vertices(self) -> Rings:
        """The rings of all sound polygons in a row."""
        return self._chunk.drawn.rings.part(self._mine.start, self._mine.stop)

    @cached_property
    def outlines(self) -> tuple[tuple[NDArray[np.float64], ...], ...]:
        """The rings of each sound polygon segment, as (N, 2) arrays of x, y; () for the others."""
        rings, found = self.vertices, [list[NDArray[np.float64]]() for _ in self.sample.segments]
        edges = [*rings.first.tolist(), len(rings.points)]
        for owner, (a, b) in zip(rings.owner.tolist(), pairwise(edges), strict=True):
            found[owner].append(rings.points[a:b])
        return tuple(map(tuple, found))

    @cached_property
    def extents(self) -> tuple[tuple[float, float, float, float] | None, ...]:
        """Left, top, right and bottom of the vertices of each outline."""
        return tuple(self.each(extents))

    @cached_property
    def beyond(self) -> tuple[float, ...]:
        """How far each outline leaves the image, in pixels; infinity where it misses it wholly."""
        height, width = self.sample.height, self.sample.width
        return tuple(_beyond(extent, height, width) for extent in self.extents)

    @cached_property
    def parts(self) -> tuple[tuple[Mask, ...], ...]:
        """One mask a ring, of the segments whose outline has several rings; () for the others."""
        return self._chunk.parts[self._mine]

    @cached_property
    def part_overlaps(self) -> dict[int, Overlaps]:
        """By segment, which of its rings share pixels; only where any do."""
        found, mine = self._chunk.part_overlaps, range(self._mine.start, self._mine.stop)
        return {n - mine.start: overlaps for n, overlaps in found.items() if n in mine}

    @cached_property
    def claimed(self) -> tuple[tuple[float, float, float, float] | None, ...]:
        """The box that the source gives each segment, xywh; None where it gives none, or no box."""
        return tuple(
            _four(s.origin["bbox"]) if "bbox" in s.origin else None for s in self.sample.segments
        )

    @cached_property
    def scattered(self) -> tuple[tuple[int, ...], Runs]:
        """
        The RLEs that may be in stripes or specks, and their runs: not those that fill their box.

        Owner n is the n-th of these segments. Each lies so far behind the one before that a
        pixel's neighbours, up to a row and a column on, are never another mask's. Crowds are
        left out.
        """
        if not any(isinstance(s.segmentation, Rle) for s in self.sample.segments):
            return (), _NO_RUNS
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
        results = enumerate(self._chunk.drawn.masks[self._mine])
        return tuple((i, r) for i, r in results if isinstance(r, FormatError))

    def each(self, function: Callable[[Rings], Sequence[T]]) -> Sequence[T]:
        """What a function of the rings of many segments says of each segment of this scene."""
        return self._chunk.each(function)[self._mine]

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


def scenes(
    samples: Iterable[Sample], categories: Mapping[int, Category], look: Look | None = None
) -> Iterator[Scene]:
    """A scene for each sample, in order."""
    for chunk in chunks(samples):
        for at, sample in enumerate(chunk.samples):
            yield Scene(sample, categories, look, (chunk, at))


MAX_ID = 2**53  # the largest integer that every JSON reader keeps exact


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

    `ids` holds the id of every segment, in the order of `seen`; 0 stands for an id that is
    no id (A302).
    """

    categories: tuple[Category, ...]
    beside: Beside = field(default_factory=Beside)
    seen: Memory = field(default_factory=Memory)
    ids: Numbers = field(default_factory=Numbers)

    def add(self, scene: Scene) -> None:
        """Remember what matters of a sample."""
        sample, facts = scene.sample, scene.facts
        ids = frozenset(s.category_id for s in sample.segments)
        self.ids.extend(s.id if 0 < s.id <= MAX_ID else 0 for s in sample.segments)
        self.seen.append(
            Seen(
                sample.id,
                sample.file_name,
                sample.split,
                sample.group,
                ids,
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


def is_number(value: object) -> TypeGuard[float]:
    """Is it any number, also one that no area can be?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def finite(value: object) -> TypeGuard[float]:
    """Is it a number that a box or an area can have?"""
    return is_number(value) and -1e12 < value < 1e12


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


def _beyond(extent: tuple[float, float, float, float] | None, height: int, width: int) -> float:
    if extent is None:
        return 0.0
    left, top, right, bottom = extent
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return math.inf
    return max(-left, -top, right - width, bottom - height, 0.0)
