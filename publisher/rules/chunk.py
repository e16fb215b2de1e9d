"""
Several samples whose geometry is worked out together, which costs a fraction of one by one.

Everything is computed when the first rule asks for it, for all samples of the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from ..dataset import Sample
from ..errors import FormatError
from ..masks import Mask, Polygons, Rle, boxes
from ..shapes.drawing import Drawn, Rings, draw, masks_of_rings
from .overlaps import Overlaps, overlaps_of

SEGMENTS = 512  # of a chunk, about; more gain little
NUMBERS = 2**18  # coordinates, and characters of RLEs, of a chunk, about

Box = tuple[float, float, float, float]


class Chunk:
    """N segments of some samples, numbered through."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.edges = list(accumulate((len(s.segments) for s in samples), initial=0))
        self._found = dict[Callable[[Rings], Sequence[Any]], Sequence[Any]]()

    @cached_property
    def drawn(self) -> Drawn:
        """All segments as pixels."""
        segments = [segment for sample in self.samples for segment in sample.segments]
        sizes = [(s.height, s.width) for s in self.samples for _ in s.segments]
        return draw(segments, sizes)

    @cached_property
    def masks(self) -> tuple[Mask | None, ...]:
        """One a segment; None where the geometry is broken."""
        return tuple(m if isinstance(m, Mask) else None for m in self.drawn.masks)

    @cached_property
    def areas(self) -> tuple[int, ...]:
        """Pixels of each mask; 0 where there is none."""
        return tuple(self.drawn.areas.tolist())

    @cached_property
    def overlaps(self) -> list[Overlaps]:
        """Of the masks of each sample."""
        return overlaps_of(self.masks, self.edges, self.drawn.boxes)

    @cached_property
    def parts(self) -> tuple[tuple[Mask, ...], ...]:
        """One mask a ring, of the segments that have several; () for the others."""
        sizes = [(s.height, s.width) for s in self.samples for _ in s.segments]
        parts = masks_of_rings(self.drawn.rings, sizes)
        return tuple(parts.get(n, ()) for n in range(len(sizes)))

    @cached_property
    def part_overlaps(self) -> dict[int, Overlaps]:
        """Of the rings of each segment, where any two share pixels."""
        crowded = [
            n
            for n, parts in enumerate(self.parts)
            if parts and sum(p.area for p in parts) > self.areas[n]
        ]
        masks = [mask for n in crowded for mask in self.parts[n]]
        edges = list(accumulate((len(self.parts[n]) for n in crowded), initial=0))
        return dict(zip(crowded, overlaps_of(masks, edges, boxes(masks)), strict=True))

    def each(self, function: Callable[[Rings], Sequence[Any]]) -> Sequence[Any]:
        """What a function says of each segment by its rings; it is asked once."""
        if function not in self._found:
            self._found[function] = function(self.drawn.rings)
        return self._found[function]


def chunks(samples: Iterable[Sample]) -> Iterator[Chunk]:
    """All samples in order, as many together as make a chunk; those before a broken one, too."""
    batch, segments, numbers = list[Sample](), 0, 0
    try:
        for sample in samples:
            batch.append(sample)
            segments += len(sample.segments) + 1
            numbers += sum(_numbers(s.segmentation) for s in sample.segments)
            if segments >= SEGMENTS or numbers >= NUMBERS:
                full, batch, segments, numbers = batch, [], 0, 0
                yield Chunk(full)
    except FormatError:
        if batch:
            yield Chunk(batch)
        raise
    if batch:
        yield Chunk(batch)


def _numbers(shape: Polygons | Rle) -> int:
    return len(shape.counts) if isinstance(shape, Rle) else sum(map(len, shape))


def extents(rings: Rings) -> list[Box | None]:
    """Left, top, right and bottom of the vertices of each segment."""
    found: list[Box | None] = [None] * rings.count
    owner, first = np.unique(rings.owner, return_index=True)
    if len(owner):
        heads = rings.first[first]
        low = np.minimum.reduceat(rings.points, heads)
        high = np.maximum.reduceat(rings.points, heads)
        for n, (left, top, right, bottom) in zip(
            owner.tolist(), np.hstack([low, high]).tolist(), strict=True
        ):
            found[n] = left, top, right, bottom
    return found
