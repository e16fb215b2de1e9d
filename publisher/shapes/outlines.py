"""
Outlines of masks along the edges of their pixels.

Such an outline is exact: rasterised by COCO's rule it gives the same pixels again, which
outlines through the centres of border pixels (cv2.findContours) never do. Holes are what a
list of rings cannot say, because COCO takes the union of rings; `polygons` refuses them, and
`bridged` cuts them open for formats that know nothing but one ring.

Everything works on rectangles cut from the runs of a mask, so cost goes by its runs, not by
its pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..masks import MAX_COORDINATE, MAX_PERIMETER, Mask, Polygons
from .components import repeated, roots

Ints = NDArray[np.int64]
Ring = tuple[int, ...]
"""Corners of pixels as flat (x0, y0, x1, y1, ...); closed without repeating the first."""


@dataclass(frozen=True, slots=True)
class Region:
    """
    The outline of pixels that hang together by their sides.

    `outer` runs clockwise on screen and begins at the top left corner of the topmost pixel of
    the leftmost column; `holes` run the other way round. No ring has three corners on a line.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()


def trace(mask: Mask) -> tuple[Region, ...]:
    """
    The outlines of all regions, from left to right and from top to bottom.

    Pixels that touch at a corner only are apart. The outer rings alone, rasterised, give the
    mask with its holes filled. Memory and time go by the runs: some 500 bytes and 3 us each.
    """
    boxes = _rectangles(mask)
    edges = _edges(boxes, mask.height)
    order, starts = _walk(edges.following)
    if not len(order):
        return ()
    ends = np.append(starts[1:], len(order))
    ring_of = np.empty(len(order), dtype=np.int64)
    ring_of[order] = np.repeat(np.arange(len(starts)), ends - starts)
    kept = edges.kept[order]
    corners = np.cumsum(np.add.reduceat(kept.sum(axis=1), starts)) * 2
    flat = edges.points[order][kept].ravel().tolist()
    outers, holes, region = list[Ring](), list[list[Ring]](), list[int]()
    begin = 0
    firsts = order[starts]
    above = ring_of[firsts - 1].tolist()  # of a hole: the ring at the top of the box above it
    for first, end, over in zip(firsts.tolist(), corners.tolist(), above, strict=True):
        ring = tuple(flat[begin:end])
        begin = end
        if first % 2:  # the first edge of a hole is the bottom of the pixels above it
            region.append(region[over])
            holes[region[over]].append(ring)
        else:
            region.append(len(outers))
            outers.append(ring)
            holes.append([])
    return tuple(Region(o, tuple(h)) for o, h in zip(outers, holes, strict=True))


def polygons(mask: Mask) -> Polygons | None:
    """
    The mask as rings that rasterise to exactly the same pixels; () where it has none.

    None where no rings do: a region has a hole, or the outline is longer, or the image wider,
    than `Mask.from_polygons` takes.
    """
    if max(mask.height, mask.width) > MAX_COORDINATE:
        return None
    regions = trace(mask)
    rings = tuple(region.outer for region in regions)
    if any(region.holes for region in regions) or sum(map(_length, rings)) > MAX_PERIMETER:
        return None
    return rings


def parts(mask: Mask) -> int:
    """How many regions the mask has."""
    boxes = _rectangles(mask)
    return _regions(len(boxes.left), *_contacts(boxes, mask.height))


def has_holes(mask: Mask) -> bool:
    """Does a region of the mask surround pixels that are not in it?"""
    boxes = _rectangles(mask)
    one, other = _contacts(boxes, mask.height)
    # Euler: regions - holes = rectangles - contacts, for no three rectangles share an edge
    return _regions(len(boxes.left), one, other) > len(boxes.left) - len(one)


def bridged(region: Region) -> Ring:
    """
    One ring around the region, cut open to each hole along a line without width.

    Each hole hangs by a line straight up from its first corner, which the ring runs along
    there and back. COCO's rule gives exactly the pixels of the region, holes left out.
    """
    if not region.holes:
        return region.outer
    rings = [_points(region.outer), *(_from_first(_points(hole)) for hole in region.holes)]
    doors = dict[tuple[int, int], list[tuple[int, int]]]()  # ring and corner: x, hole
    for hole, (ring, corner, x) in enumerate(_above(rings), 1):
        doors.setdefault((ring, corner), []).append((x, hole))
    flat = list[int]()
    todo = [_corners(0, rings, doors)]
    while todo:  # not recursive: holes may hang by holes a thousand deep
        for x, y, hole in todo[-1]:
            flat += (x, y)
            if hole:
                todo.append(_corners(hole, rings, doors))
                break
        else:
            todo.pop()
    return tuple(flat)


def joined(regions: Sequence[Region]) -> Ring:
    """
    All regions, at least one, as one ring: holes cut open, parts tied by lines without width.

    Each part is tied by its first corner to the nearest corner of the part before it.
    """
    flat, back = list[int](), list[Ring]()
    rings = [bridged(region) for region in regions]
    for n, ring in enumerate(rings):
        closed = ring + ring[:2] if n else ring
        if n + 1 == len(rings):
            flat += closed
            break
        gap = _points(ring) - np.array(rings[n + 1][:2])
        at = 2 * int(np.argmin((gap * gap).sum(axis=1)))
        flat += ring[: at + 2]
        back.append(closed[at:])
    for rest in reversed(back):
        flat += rest
    return tuple(flat)


# ── rectangles ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Rectangles:
    """A mask cut at columns: parts of one column, or several whole columns; left to right."""

    left: Ints
    right: Ints
    top: Ints
    bottom: Ints


def _rectangles(mask: Mask) -> _Rectangles:
    """A run is the end of a column, whole columns, and the start of a column; some are empty."""
    stop = np.cumsum(mask.runs)
    start, stop = stop[:-1:2], stop[1::2]
    height = mask.height
    first, last = start // height, (stop - 1) // height
    head, tail = start - first * height, stop - last * height
    whole_from = first + (head > 0)
    whole_to = last + (tail == height)
    single = first == last
    zero = np.zeros_like(first)
    partial_head = (head > 0) | (single & (tail < height))
    bottom = np.where(single, tail, height)
    left = np.stack([first, whole_from, last], axis=1)
    right = np.stack([first + 1, whole_to, last + 1], axis=1)
    top = np.stack([head, zero, zero], axis=1)
    bottom = np.stack([bottom, zero + height, tail], axis=1)
    there = np.stack([partial_head, whole_to > whole_from, ~single & (tail < height)], axis=1)
    return _Rectangles(left[there], right[there], top[there], bottom[there])


def _contacts(boxes: _Rectangles, height: int) -> tuple[Ints, Ints]:
    """Pairs of rectangles that share more than a corner, the left one first."""
    row = height + 1
    low = np.searchsorted(boxes.left * row + boxes.bottom, boxes.right * row + boxes.top, "right")
    high = np.searchsorted(boxes.left * row + boxes.top, boxes.right * row + boxes.bottom, "left")
    one, step = repeated(high - low)
    return one, low[one] + step


def _regions(n: int, one: Ints, other: Ints) -> int:
    return int(np.count_nonzero(roots(n, one, other) == np.arange(n)))


# ── edges ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Edges:
    """
    The horizontal edges of N rectangles, 2 i at the top and 2 i + 1 at the bottom.

    Directed so that the mask lies to their right; what joins one to the next is vertical.
    """

    following: Ints  # (2 N,), the edge after each
    points: Ints  # (2 N, 2, 2), where each begins and ends, x and y
    kept: NDArray[np.bool_]  # (2 N, 2), is that a corner?


def _edges(boxes: _Rectangles, height: int) -> _Edges:
    """
    Join the ends of edges that meet on each vertical line between pixels.

    Going down such a line, every end changes whether the pixels to its left and right differ,
    so ends pair off as they come. Where two meet, the bottom of a rectangle is before the top
    of another, which parts pixels that only touch at a corner.
    """
    n = 2 * len(boxes.left)
    y = np.stack([boxes.top, boxes.bottom], axis=1).ravel()
    left, right = np.repeat(boxes.left, 2), np.repeat(boxes.right, 2)
    is_top = np.arange(n) % 2 == 0
    place = 2 * y + is_top
    line = 2 * (height + 1)
    # ends 0 .. n - 1 are the right ones; both halves are sorted, which a stable sort makes use of
    ends = np.argsort(np.concatenate([right * line + place, left * line + place]), kind="stable")
    partner = np.empty(2 * n, dtype=np.int64)
    partner[ends[0::2]], partner[ends[1::2]] = ends[1::2], ends[0::2]
    number = np.arange(n)
    before = partner[np.where(is_top, number + n, number)] % max(n, 1)
    following = partner[np.where(is_top, number, number + n)] % max(n, 1)
    tail, head = np.where(is_top, left, right), np.where(is_top, right, left)
    points = np.stack([tail, y, head, y], axis=1).reshape(n, 2, 2)
    return _Edges(following, points, np.stack([y[before] != y, y[following] != y], axis=1))


def _walk(following: Ints) -> tuple[Ints, Ints]:
    """All edges ring by ring, each from its first edge, and where each ring starts."""
    after = following.tolist()
    seen = bytearray(len(after))
    order, starts = list[int](), list[int]()
    first = seen.find(0)
    while first >= 0:
        starts.append(len(order))
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            order.append(edge)
            edge = after[edge]
        first = seen.find(0, first)
    return np.array(order, dtype=np.int64), np.array(starts, dtype=np.int64)


# ── bridges ──────────────────────────────────────────────────────────────────────────────────


def _points(ring: Ring) -> Ints:
    return np.array(ring, dtype=np.int64).reshape(-1, 2)


def _length(ring: Ring) -> int:
    """How far it is around, in pixels."""
    return sum(abs(b - a) for a, b in zip(ring, ring[2:] + ring[:2], strict=True))


def _from_first(points: Ints) -> Ints:
    """The ring from its leftmost, then topmost corner on."""
    return np.roll(points, -int(np.lexsort((points[:, 1], points[:, 0]))[0]), axis=0)


def _above(rings: Sequence[Ints]) -> Iterator[tuple[int, int, int]]:
    """
    What a line straight up from the first corner of each hole meets: a ring, a corner of it,
    and the x on the edge from that corner on.
    """
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    sizes = [len(ring) for ring in rings]
    ring = np.repeat(np.arange(len(rings)), sizes)
    corner = np.arange(len(start)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    tops = np.flatnonzero((start[:, 1] == end[:, 1]) & (end[:, 0] > start[:, 0]))
    x = np.array([hole[0, 0] for hole in rings[1:]])
    y = np.array([hole[0, 1] for hole in rings[1:]])
    columns, column = np.unique(x, return_inverse=True)
    low = np.searchsorted(columns, start[tops, 0])
    edge, step = repeated(np.searchsorted(columns, end[tops, 0]) - low)
    height = int(start[:, 1].max()) + 1
    key = (low[edge] + step) * height + start[tops[edge], 1]
    order = np.argsort(key)
    met = tops[edge[order[np.searchsorted(key[order], column * height + y) - 1]]]
    yield from zip(ring[met].tolist(), corner[met].tolist(), x.tolist(), strict=True)


def _corners(
    n: int, rings: Sequence[Ints], doors: Mapping[tuple[int, int], list[tuple[int, int]]]
) -> Iterator[tuple[int, int, int]]:
    """The corners of a ring with its doors among them: x, y and the hole to enter there, or 0."""
    for corner, (x, y) in enumerate(rings[n].tolist()):
        here = sorted(doors.get((n, corner), []))
        if not here or here[0][0] > x:
            yield x, y, 0
        for door, hole in here:
            yield door, y, hole
            yield door, y, 0
    if n:
        x, y = rings[n][0].tolist()
        yield x, y, 0
