"""
Conservation: what went in, what came out, and every reason why they differ.

Importing and converting count images, segments and pixels by class on both sides. The
difference must equal the changes of the itemised reasons, or nothing is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .dataset import Sample, Segment
from .errors import IntegrityError


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

    def __str__(self) -> str:
        counts = [(self.images, "image(s)"), (self.segments, "segment(s)")]
        counts += [(n, f"px of {name!r}") for name, n in sorted(self.pixels.items())]
        return ", ".join(f"{n:+,} {what}" for n, what in counts if n)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without classes that have no pixels."""
        pixels = {k: v for k, v in self.pixels.items() if v}
        return {"images": self.images, "segments": self.segments, "pixels": pixels}


@dataclass(frozen=True, slots=True)
class Item:
    """One reason why what comes out differs from what went in: `change` = out - in."""

    reason: str
    change: Tally = Tally()
    file_name: str | None = None  # of many, the first
    times: int = 1

    def __str__(self) -> str:
        said = f"{self.reason}: {self.change}" if self.change else self.reason
        if self.times > 1:
            first = f", first: {self.file_name}" if self.file_name else ""
            return f"{said} ({self.times} times{first})"
        return f"{self.file_name}: {said}" if self.file_name else said

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "file_name": self.file_name,
            "reason": self.reason,
            "times": self.times,
            "change": self.change.to_json(),
        }


class Ledger:
    """Gathers the changes that a writer makes; those of one reason become one Item."""

    def __init__(self) -> None:
        self._items: dict[str, _Entry] = {}

    def note(
        self,
        reason: str,
        file_name: str | None = None,
        *,
        images: int = 0,
        segments: int = 0,
        pixels: Mapping[str, int] | None = None,
    ) -> None:
        """Book a change, out - in; `pixels` by the names of classes."""
        entry = self._items.setdefault(reason, _Entry(file_name))
        entry.times += 1
        entry.images += images
        entry.segments += segments
        for name, n in (pixels or {}).items():
            entry.pixels[name] += n

    def add(self, items: Iterable[Item]) -> None:
        """Take over what another ledger has gathered."""
        for item in items:
            change = item.change
            self.note(
                item.reason,
                item.file_name,
                images=change.images,
                segments=change.segments,
                pixels=change.pixels,
            )
            self._items[item.reason].times += item.times - 1

    @property
    def items(self) -> tuple[Item, ...]:
        """One a reason, in the order in which they first came up."""
        return tuple(
            Item(reason, Tally(e.images, e.segments, dict(e.pixels)), e.file_name, e.times)
            for reason, e in self._items.items()
        )


@dataclass(slots=True)
class _Entry:
    file_name: str | None
    times: int = 0
    images: int = 0
    segments: int = 0
    pixels: Counter[str] = field(default_factory=Counter)


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


def balance(verb: str, counted: Tally, kept: Tally, items: Iterable[Item]) -> None:
    """
    Hold what came out against what went in.

    Raises:
        IntegrityError: they differ by more or less than the items say.
    """
    explained = Tally()
    for item in items:
        explained += item.change
    if gap := kept - counted - explained:
        raise IntegrityError(
            f"{verb} does not add up: {gap.images:+} images, {gap.segments:+} segments, "
            f"pixels { ({k: v for k, v in gap.pixels.items() if v}) } without a reason",
            hint="this is a bug; please report it with the data",
        )


def _sum(a: Mapping[str, int], b: Mapping[str, int], sign: int) -> dict[str, int]:
    return {k: a.get(k, 0) + sign * b.get(k, 0) for k in sorted({*a, *b})}
