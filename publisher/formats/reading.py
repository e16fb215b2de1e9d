"""What every reader gives back, and the counting that proves that nothing was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..dataset import Category, Sample, Segment
from ..validate import Finding


@dataclass(frozen=True, slots=True)
class Picture:
    """A sample as its source names it, and where its pixels lie in the tree that was read."""

    sample: Sample
    member: str | None  # None: the export holds no file for it


@dataclass(frozen=True, slots=True)
class Tally:
    """A count of images, segments and pixels by class. Tallies add and subtract."""

    images: int = 0
    segments: int = 0
    pixels: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.images + other.images,
            self.segments + other.segments,
            _sum(self.pixels, other.pixels, 1),
        )

    def __sub__(self, other: Tally) -> Tally:
        return Tally(
            self.images - other.images,
            self.segments - other.segments,
            _sum(self.pixels, other.pixels, -1),
        )

    def __bool__(self) -> bool:
        return bool(self.images or self.segments or any(self.pixels.values()))


@dataclass(frozen=True, slots=True)
class Item:
    """One reason why what comes out differs from what went in: `change` = out - in."""

    reason: str
    change: Tally = Tally()
    file_name: str | None = None

    def __str__(self) -> str:
        return f"{self.file_name}: {self.reason}" if self.file_name else self.reason


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
    pictures: tuple[Picture, ...]
    counted: Tally
    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    mended: tuple[Finding, ...] = ()


def tally(samples: Iterable[Sample], names: Mapping[int, str]) -> Tally:
    """Count samples by rasterising every segment; `names` gives the class of a category id."""
    images = segments = 0
    pixels: Counter[str] = Counter()
    for sample in samples:
        images += 1
        for segment in sample.segments:
            segments += 1
            pixels[names[segment.category_id]] += area(segment, sample.height, sample.width)
    return Tally(images, segments, pixels)


def area(segment: Segment, height: int, width: int) -> int:
    """Pixels of a segment in an image of this size."""
    return segment.mask(height, width).area


def _sum(a: Mapping[str, int], b: Mapping[str, int], sign: int) -> dict[str, int]:
    return {k: a.get(k, 0) + sign * b.get(k, 0) for k in sorted({*a, *b})}
