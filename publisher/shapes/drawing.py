"""
Segments to pixels, whole chunks of them in a few dozen calls of numpy.

One at a time, a polygon costs some twenty calls; here it costs none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dataset import Sample, Segment
from ..errors import FormatError
from ..masks import MAX_COORDINATE, MAX_PERIMETER, MAX_PIXELS, Mask, Polygons, Rle, check_size
from .runs import Ints, Runs, boxes_of, counts_of, runs_of_counts

Floats = NDArray[np.float64]

_BATCH = 2**17  # places worked on at once; more leave the cache
_MANY = 48  # with fewer segments, one by one is faster
_NONE = np.zeros(0, dtype=np.int64)
_COUNTS = re.compile(r"(?:[P-o]{0,6}[0-O])+")  # whole numbers below 2^35 in COCO's characters
_SURE = 0.999  # of MAX_PERIMETER; nearer to it, sums must be taken in the same order


@dataclass(frozen=True, slots=True)
class Drawn:
    """N segments as pixels, and the rings they were drawn from."""

    masks: list[Mask | FormatError]  # N; why there is no mask, where the geometry is broken
    areas: Ints  # (N,), in pixels; 0 where broken
    boxes: Ints  # (N, 4), COCO xywh in pixels; all 0 where broken or empty
    rings: Rings  # of N segments; none where broken, and of RLEs


def draw(segments: Sequence[Segment], sizes: Sequence[tuple[int, int]]) -> Drawn:
    """
    Rasterise each segment for an image of its own size (height, width), as `Segment.mask` does.

    What is broken costs its own segment only, and has the error that `Segment.mask` raises.
    """
    rings, coded = _rings_of(segments, sizes), _coded(segments, sizes)
    ringed = set(rings.owner.tolist())
    plain = [size if n in ringed or n in coded else (1, 1) for n, size in enumerate(sizes)]
    height, width = np.array(plain, dtype=np.int64).reshape(-1, 2).T
    areas, boxes = np.zeros_like(height), np.zeros((len(plain), 4), dtype=np.int64)
    masks = dict[int, Mask | FormatError]()
    many = len(segments) >= _MANY
    for a, b in _batches(rings, width) if many else []:
        runs = _pixels(rings.part(a, b), height[a:b], width[a:b])
        areas[a:b], boxes[a:b] = runs.areas, boxes_of(runs, height[a:b])
        counts = counts_of(runs, (height * width)[a:b])
        masks.update((n, Mask(*plain[n], counts[n - a])) for n in range(a, b) if n in ringed)
    for batch in _batches_of_masks(coded) if many else []:
        mine, candidates = list(batch), list(batch.values())
        known = runs_of_counts([m.counts for m in candidates], (height * width)[mine])
        if known is None:
            continue  # one at a time: says what is wrong, and mends what is only unusual
        areas[mine], boxes[mine] = known.areas, boxes_of(known, height[mine])
        masks.update(batch)
    for n, (segment, size) in enumerate(zip(segments, sizes, strict=True)):
        if n not in masks:
            masks[n] = mask = _attempt(segment, size)
            areas[n], boxes[n] = (mask.area, mask.bbox) if isinstance(mask, Mask) else (0, 0)
    return Drawn([masks[n] for n in range(len(plain))], areas, boxes, rings)


def masks_of_rings(rings: Rings, sizes: Sequence[tuple[int, int]]) -> dict[int, tuple[Mask, ...]]:
    """One mask a ring, of the segments that have several; `sizes` as for `draw`."""
    several = np.bincount(rings.owner, minlength=rings.count)[rings.owner] > 1
    if not several.any():
        return {}
    many, owner = rings.sizes[several], rings.owner[several]
    points = rings.points[several[rings.ring]]
    alone = Rings(points, np.cumsum(many) - many, np.arange(len(owner)), len(owner))
    height, width = np.array(sizes, dtype=object).reshape(-1, 2)[owner].astype(np.int64).T
    found = dict[int, list[Mask]]()
    counts = counts_of(rasterise(alone, height, width), height * width)
    for n, c in zip(owner.tolist(), counts, strict=True):
        tall, wide = sizes[int(n)]
        found.setdefault(n, []).append(Mask(tall, wide, c))
    return {n: tuple(masks) for n, masks in found.items()}


def line_of(samples: Sequence[Sample]) -> tuple[Runs, Ints]:
    """
    The masks of all segments of all samples, with all their pixels in one line.

    The runs come in no order: first those of polygons. The second value says where in the line
    the pixels of each sample begin, (K,).

    Raises:
        FormatError: a segmentation cannot be a mask of its image, or that has no size.
    """
    for s in samples:
        check_size(s.height, s.width)
    segments = [g for s in samples for g in s.segments]
    size = np.array([(s.height, s.width) for s in samples], dtype=np.int64).reshape(-1, 2)
    pixels = size[:, 0] * size[:, 1]
    base = np.cumsum(pixels) - pixels
    many = [len(s.segments) for s in samples]
    height, width = np.repeat(size, many, axis=0).T
    begin = np.repeat(base, many)
    sizes = list(zip(height.tolist(), width.tolist(), strict=True))
    rings = _rings_of(segments, sizes)
    drawn = rasterise(rings, height, width)

    rest = np.bincount(rings.owner, minlength=rings.count) == 0  # RLEs, and what is broken
    coded = np.flatnonzero(rest)
    counts = [_compressed(segments[n], *sizes[n]) for n in coded.tolist()]
    given = runs_of_counts(counts, (height * width)[coded], begin[coded])
    if given is None:  # one at a time: says what is wrong, and mends what is only unusual
        masks = [segments[n].mask(*sizes[n]) for n in coded.tolist()]
        given = runs_of_counts([m.counts for m in masks], (height * width)[coded], begin[coded])
        assert given is not None, "the counts of a Mask are canonical"
    kind: type[np.signedinteger[Any]] = np.int32 if pixels.sum() < 2**31 else np.int64
    off = begin.astype(kind).take(drawn.owner)
    runs = Runs(
        np.concatenate([drawn.start + off, given.start]),
        np.concatenate([drawn.stop + off, given.stop]),
        np.concatenate([drawn.owner, coded.take(given.owner)]),
        len(segments),
    )
    return runs, base


def _compressed(segment: Segment, height: int, width: int) -> bytes:
    """Its compressed counts as given, not checked yet where they may be those of its image."""
    rle = segment.segmentation
    if isinstance(rle, Rle) and (rle.height, rle.width) == (height, width):
        counts = rle.counts
        if isinstance(counts, str) and counts and counts.isascii():
            return counts.encode()
    return segment.mask(height, width).counts


def keep_memory() -> None:
    """
    Let malloc keep what is freed, up to 64 MB, rather than give it back to the kernel each time.

    Arrays of some 100 kB, made and freed in a row, take three times as long otherwise. glibc
    sets its limits by the largest block that was freed, here one that is never touched
    (mallopt(3), M_MMAP_THRESHOLD); other allocators are not moved by it.
    """
    np.empty(2**25 - 2**16, dtype=np.uint8)


def _rings_of(segments: Sequence[Segment], sizes: Sequence[tuple[int, int]]) -> Rings:
    """The rings of segments that can be rasterised."""
    good = {size for size in set(sizes) if _is_image(size)}
    polygons = [
        () if isinstance(g.segmentation, Rle) or size not in good else g.segmentation
        for g, size in zip(segments, sizes, strict=True)
    ]
    numbers = np.fromiter(map(len, chain.from_iterable(polygons)), np.int64)
    if np.any((numbers < 6) | (numbers & 1 == 1)):
        polygons = [p if _has_points(p) else () for p in polygons]
    rings = Rings.of(polygons)
    if not (doubtful := _doubtful(rings)):
        return rings
    for n in doubtful:
        if isinstance(_attempt(segments[n], sizes[n]), FormatError):
            polygons[n] = ()
    return Rings.of(polygons)


def _coded(segments: Sequence[Segment], sizes: Sequence[tuple[int, int]]) -> dict[int, Mask]:
    """Segments whose compressed counts look like masks."""
    found = dict[int, Mask]()
    for n, (segment, size) in enumerate(zip(segments, sizes, strict=True)):
        rle = segment.segmentation
        if not isinstance(rle, Rle) or not isinstance(rle.counts, str):
            continue
        if (rle.height, rle.width) == size and _is_image(size) and _COUNTS.fullmatch(rle.counts):
            found[n] = Mask(*size, rle.counts.encode("ascii"))
    return found


def _batches_of_masks(masks: Mapping[int, Mask]) -> Iterator[dict[int, Mask]]:
    batch, characters = dict[int, Mask](), 0
    for n, mask in masks.items():
        batch[n] = mask
        characters += len(mask.counts)
        if characters > _BATCH:
            yield batch
            batch, characters = {}, 0
    if batch:
        yield batch


def _is_image(size: tuple[int, int]) -> bool:
    return min(size) > 0 and size[0] * size[1] <= MAX_PIXELS


def _has_points(shape: Polygons) -> bool:
    """Have all rings enough points, and an even number of coordinates?"""
    return all(len(ring) >= 6 and len(ring) % 2 == 0 for ring in shape)


def _doubtful(rings: Rings) -> list[int]:
    """Segments that `masks.check_polygons` may refuse for their coordinates."""
    points = rings.points
    if not len(points):
        return []
    with np.errstate(all="ignore"):  # what is not finite fails every comparison
        reach = np.maximum.reduceat(np.abs(points).ravel(), 2 * rings.first)
        most = np.bincount(rings.owner, 4 * reach * rings.sizes)  # that they can be long
        if np.all(most <= _SURE * MAX_PERIMETER) and np.all(reach <= MAX_COORDINATE):
            return []
        length = np.abs(points[rings.following] - points).sum(axis=1)
        length[~(np.abs(points) <= MAX_COORDINATE).all(axis=1)] = np.nan
        total = np.bincount(rings.owner[rings.ring], length, rings.count)
    return [int(n) for n in np.flatnonzero(~(total <= _SURE * MAX_PERIMETER))]


def _attempt(segment: Segment, size: tuple[int, int]) -> Mask | FormatError:
    try:
        return segment.mask(*size)
    except FormatError as error:
        return error


@dataclass(frozen=True, slots=True)
class Rings:
    """The rings of N segments in a row, all with three points or more."""

    points: Floats  # (P, 2), x and y
    first: Ints  # (K,), where each ring begins
    owner: Ints  # (K,), the segment of each ring: 0 .. N - 1, ascending
    count: int  # N

    @classmethod
    def of(cls, polygons: Sequence[Polygons]) -> Rings:
        """Put rings of even and sufficient length in a row."""
        rings = [ring for polygon in polygons for ring in polygon]
        sizes = np.fromiter(map(len, rings), np.int64, len(rings)) // 2
        flat = np.fromiter(chain.from_iterable(rings), np.float64, 2 * int(sizes.sum()))
        many = np.fromiter(map(len, polygons), np.int64, len(polygons))
        owner = np.repeat(np.arange(len(polygons)), many)
        return cls(flat.reshape(-1, 2), np.cumsum(sizes) - sizes, owner, len(polygons))

    @property
    def ring(self) -> Ints:
        """Which ring each point belongs to, (P,)."""
        return np.repeat(np.arange(len(self.first)), self.sizes)

    @property
    def sizes(self) -> Ints:
        """Points of each ring, (K,)."""
        return np.diff(np.append(self.first, len(self.points)))

    @property
    def steps(self) -> Floats:
        """From each point to the next of its ring, from the last to the first, (P, 2)."""
        return self.points[self.following] - self.points

    @property
    def following(self) -> Ints:
        """The index of the point after each, around its ring, (P,)."""
        after = np.arange(1, len(self.points) + 1)
        after[np.append(self.first[1:], len(after))[: len(self.first)] - 1] = self.first
        return after

    def part(self, begin: int, end: int) -> Rings:
        """Segments begin .. end - 1 alone."""
        low, high = np.searchsorted(self.owner, [begin, end]).tolist()
        edges = np.append(self.first, len(self.points))
        points = self.points[edges[low] : edges[high]]
        first = self.first[low:high] - edges[low]
        return Rings(points, first, self.owner[low:high] - begin, end - begin)


def rasterise(rings: Rings, heights: Ints, widths: Ints) -> Runs:
    """
    The pixels of each segment by COCO's rule (rleFrPoly), the union of its rings.

    COCO follows each outline in steps on a grid five times as fine, and looks where it passes
    the middle of a column of pixels. Here these places alone are computed, by the same
    arithmetic to the last bit. (Where pycocotools was built to fuse multiplications and
    additions, as clang does on ARM, it differs in the last bit from itself elsewhere.)

    Args:
        rings: as `masks.check_polygons` lets them pass.
        heights, widths: of the image of each segment, (N,).
    """
    batches = _batches(rings, widths)
    found = [_pixels(rings.part(a, b), heights[a:b], widths[a:b]) for a, b in batches]
    if len(found) == 1:
        return found[0]
    owners = [runs.owner + a for runs, (a, _) in zip(found, batches, strict=True)]
    return Runs(
        np.concatenate([_NONE, *(runs.start for runs in found)]),
        np.concatenate([_NONE, *(runs.stop for runs in found)]),
        np.concatenate([_NONE, *owners]),
        rings.count,
    )


def _batches(rings: Rings, widths: Ints) -> list[tuple[int, int]]:
    """Segments from .. to - 1 that can be rasterised at once: one at least, all in turn."""
    x = rings.points[:, 0]
    load = np.minimum(np.abs(x[rings.following] - x), widths.max(initial=0)) + 1
    batch = np.cumsum(np.add.reduceat(load, rings.first)) // _BATCH
    cuts = rings.owner[np.flatnonzero(np.diff(batch, prepend=0))]
    return list(pairwise(sorted({0, *cuts.tolist(), rings.count})))


def _pixels(rings: Rings, heights: Ints, widths: Ints) -> Runs:
    """As `rasterise`, of few enough segments to be worked on at once."""
    height, width = heights[rings.owner], widths[rings.owner]
    base = _bases(height * width)
    small = (base + height * width).max(initial=0) < 2**31  # such numbers sort twice as fast
    kind: type[np.integer[Any]] = np.int32 if small else np.int64
    where = _passes(rings, height, width, base).astype(kind)
    where.sort()
    where = _odd(where)
    # an outline comes back to where it began, so it passes each column an even number of times
    base = base.astype(kind)
    many = np.diff(np.searchsorted(where, base), append=len(where)) // 2
    ring = np.repeat(np.arange(len(base)), many)
    off = base.take(ring)
    runs = Runs(where[0::2] - off, where[1::2] - off, rings.owner[ring], rings.count)
    several = (rings.owner[1:] == rings.owner[:-1]).any()
    return _united(runs, heights * widths) if several else runs


def _odd(numbers: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Of sorted numbers, one of each that comes an odd number of times."""
    twice = np.flatnonzero(numbers[1:] == numbers[:-1])
    if not len(twice):
        return numbers
    fresh = np.diff(twice, prepend=-2) > 1
    nth = np.arange(len(twice)) - np.maximum.accumulate(np.where(fresh, np.arange(len(twice)), 0))
    first = twice[nth % 2 == 0]  # of each two equal ones in a row
    kept = np.ones(len(numbers), dtype=np.bool_)
    kept[first] = kept[first + 1] = False
    return numbers[kept]


def _united(runs: Runs, sizes: Ints) -> Runs:
    """Join runs of one mask that overlap or touch; they come in any order."""
    base = _bases(sizes)
    order = np.argsort(runs.start + base[runs.owner], kind="stable")
    owner = runs.owner[order]
    start = runs.start[order] + base[owner]
    stop = np.maximum.accumulate(runs.stop[order] + base[owner])
    apart = np.ones(len(start) + 1, dtype=np.bool_)
    apart[1:-1] = start[1:] > stop[:-1]
    first, last = apart[:-1], apart[1:]
    owner = owner[first]
    return Runs(start[first] - base[owner], stop[last] - base[owner], owner, runs.count)


def _bases(sizes: Ints) -> Ints:
    """Where each of several images begins if they lie in a row, one free pixel after each."""
    return np.cumsum(sizes + 1) - sizes - 1


def _passes(rings: Rings, height: Ints, width: Ints, base: Ints) -> Floats:
    """
    Where outlines pass the middles of columns, as column-major positions.

    Args:
        height, width, base: of the image of each ring and where it begins, (K,).
    """
    ring, after = rings.ring, rings.following
    x, y = np.trunc(5 * rings.points.T + 0.5)
    x_to, y_to = x[after], y[after]
    column = np.maximum(np.ceil((np.minimum(x, x_to) - 2) / 5), 0)
    beyond = np.minimum(np.floor((np.maximum(x, x_to) + 2) / 5), width[ring])
    many = np.maximum(beyond - column, 0).astype(np.int64)
    origin = column * height[ring] + base[ring]
    steep = np.abs(y_to - y) > np.abs(x_to - x)
    back = np.where(steep, y > y_to, x > x_to)  # all edges are made to go right, or steeply down
    x, x_to = np.where(back, x_to, x), np.where(back, x, x_to)
    y, y_to = np.where(back, y_to, y), np.where(back, y, y_to)
    found = []
    for line, chosen in ((_flat, ~steep), (_steep, steep)):
        edge = np.flatnonzero(chosen & (many > 0))
        across, down = (x_to - x)[edge], (y_to - y)[edge]
        slope = across / down if line is _steep else down / across
        each = np.repeat(np.arange(len(edge)), many[edge])
        # the n-th place of an edge is place n + begin of all, so begin is taken off beforehand
        place = np.arange(len(each), dtype=np.float64)
        begin = np.cumsum(many[edge]) - many[edge]
        u = 5 * (column[edge] - begin) + 2
        at = line(x[edge], y[edge], slope, u, each, 5 * place)
        # in place from here on: fresh memory is half of the cost
        at -= 2
        at /= 5
        np.ceil(at, out=at)
        tall = height[ring[edge]]
        tall_of = tall.take(each)
        np.maximum(at, 0, out=at)
        np.minimum(at, tall_of, out=at)
        place *= tall_of
        at += place
        at += (origin[edge] - tall * begin).take(each)
        found.append(at)
    return np.concatenate(found)


def _flat(x: Floats, y: Floats, slope: Floats, u: Floats, each: Ints, more: Floats) -> Floats:
    """
    Where lines pass from u to u + 1 that take one step for each x: the higher of the two steps.

    Args:
        x, y, slope, u: of each edge.
        each: the edge of each place.
        more: to be added to u at each place.
    """
    at: Floats = (u - x + (slope < 0)).take(each)
    at += more
    at *= slope.take(each)
    at += y.take(each)
    at += 0.5
    return np.trunc(at, out=at)


def _steep(x: Floats, y: Floats, slope: Floats, u: Floats, each: Ints, more: Floats) -> Floats:
    """As `_flat`, of lines that take one step for each y: the step before they pass."""
    x, slope, u = x.take(each), slope.take(each), u.take(each) + more
    step: Floats = np.ceil((u + 0.5 - x) / slope) - 1
    falls = slope < 0
    for _ in range(2):  # division may be wrong by a bit, so what decides is COCO's own formula
        step += (((x + slope * step) + 0.5) < u + 1) != falls
    step += (y - 1).take(each)
    return step
