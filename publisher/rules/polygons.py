"""P: polygons that are broken, outside, crossing themselves, or not what they seem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..dataset import Segment
from ..errors import FormatError
from ..masks import Mask, Rle
from ..shapes.drawing import Rings
from .overlaps import followers
from .rle import broken
from .rule import Finding, Scene, rule

MAX_VERTICES = 2000  # rings with more are not searched for crossings
FINEST = 0.01  # px

Ring = tuple[float, ...]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Points = NDArray[np.float64]  # (N, 2), x and y


@rule("P401", "error")
def empty(scene: Scene) -> Iterator[Finding]:
    """
    A segment has no geometry.

    Why it matters: pycocotools stops with an IndexError at the first `[]`; loaders that
    skip it leave the object out of training.
    Fix: draw it again; for boxes, import the export that CVAT made, which is recognised.
    Example: `"segmentation": []`.
    """
    yield from broken(scene, "P401")


@rule("P403", "error")
def odd(scene: Scene) -> Iterator[Finding]:
    """
    A ring has an odd number of coordinates.

    Why it matters: one number is lost, and nobody knows which; pycocotools drops the last, and
    if the first was lost, all x are y and all y are x.
    Fix: export again, or draw it again.
    Example: `[10, 10, 50, 10, 50]`.
    """
    yield from broken(scene, "P403")


def _drop_short(scene: Scene, index: int) -> Segment:
    segment = scene.sample.segments[index]
    rings = segment.segmentation
    if not isinstance(rings, tuple):
        return segment
    kept = tuple(r for r in rings if len(r) % 2 or len(r) >= 6)
    return replace(segment, segmentation=kept) if kept and len(kept) < len(rings) else segment


@rule("P404", "error", fix=_drop_short)
def short(scene: Scene) -> Iterator[Finding]:
    """
    A ring has fewer than three points.

    Why it matters: it has no inside. pycocotools reads a first ring of 4 numbers as a box, and
    stops with a TypeError.
    Fix: automatic where other rings remain: it is dropped. Otherwise draw it again.
    Example: `[[10, 10, 50, 50]]`.
    """
    yield from broken(scene, "P404")


@rule("P406", "error")
def wild(scene: Scene) -> Iterator[Finding]:
    """
    A coordinate is not finite, or no image is as large.

    Why it matters: pycocotools 2.0.11 segfaults at NaN, infinity and 1e8, and takes 1.85 s at
    1e7. It kills the training job, not only the one sample.
    Fix: export again, or draw it again.
    Example: 1e+38.
    """
    yield from broken(scene, "P406")


def _clip_ring(ring: Ring, height: int, width: int) -> Ring:
    """The part of a ring inside the image: Sutherland and Hodgman 1974, one border at a time."""
    points = list(zip(ring[::2], ring[1::2], strict=True))
    for axis, border, sign in (
        (0, 0.0, 1),
        (0, float(width), -1),
        (1, 0.0, 1),
        (1, float(height), -1),
    ):
        kept: list[tuple[float, float]] = []
        for n, point in enumerate(points):
            before = points[n - 1]
            inside, came = sign * (point[axis] - border), sign * (before[axis] - border)
            if (inside >= 0) != (came >= 0):
                share = came / (came - inside)
                other = before[1 - axis] + share * (point[1 - axis] - before[1 - axis])
                kept.append((border, other) if axis == 0 else (other, border))
            if inside >= 0:
                kept.append(point)
        points = kept
    return tuple(v for p in points for v in p)


def _clip(scene: Scene, index: int) -> Segment:
    segment, mask = scene.sample.segments[index], scene.masks[index]
    if mask is None or not isinstance(segment.segmentation, tuple):
        return segment
    rings = (_clip_ring(r, mask.height, mask.width) for r in segment.segmentation)
    return _redrawn(segment, mask, tuple(r for r in rings if len(r) >= 6))


@rule("P407", "warning", fix=_clip)
def sticks_out(scene: Scene) -> Iterator[Finding]:
    """
    A polygon leaves the image by more than a pixel.

    Why it matters: masks are clipped, but boxes and areas that tools compute from the vertices
    are not: a CVAT export had a box at x = -20 for an object at 0.
    Fix: automatic where exactly the same pixels result: the ring is clipped. Releases have clipped
    masks and boxes anyway.
    Example: a hand drawn past the border.
    """
    for index, beyond in enumerate(scene.beyond):
        if 1 < beyond < math.inf:
            yield scene.find(f"leaves the image by {beyond:.1f} px", index)


@rule("P408", "error")
def wholly_outside(scene: Scene) -> Iterator[Finding]:
    """
    A polygon lies wholly outside the image.

    Why it matters: it has no pixels. It was drawn on a picture of another size or orientation,
    so the other segments of this picture may be wrong, too.
    Fix: check the picture's size and orientation; delete or draw the segment again.
    Example: x from 700 to 750 in an image 640 px wide.
    """
    for index, beyond in enumerate(scene.beyond):
        if beyond == math.inf:
            yield scene.find("polygon lies wholly outside the image", index)


@rule("P409", "warning")
def flat_part(scene: Scene) -> Iterator[Finding]:
    """
    One of a segment's rings has no pixels.

    Why it matters: it adds nothing to the mask, but tools that count or number parts count it.
    Fix: delete that ring; it is usually a slip.
    Example: a second ring whose three points lie on one line.
    """
    for index, parts in enumerate(scene.parts):
        empty_ones = [n for n, part in enumerate(parts) if part.area == 0]
        if empty_ones and scene.areas[index]:
            yield scene.find(f"rings {empty_ones} of {len(parts)} have no pixels", index)


def _without_repeats(ring: Ring) -> Ring:
    points = list(zip(ring[::2], ring[1::2], strict=True))
    kept = [p for p, before in zip(points, [None, *points], strict=False) if p != before]
    while len(kept) > 1 and kept[0] == kept[-1]:
        kept.pop()
    return tuple(v for p in kept for v in p) if len(kept) >= 3 else ring


def _drop_repeats(scene: Scene, index: int) -> Segment:
    segment, mask = scene.sample.segments[index], scene.masks[index]
    if mask is None or not isinstance(segment.segmentation, tuple):
        return segment
    return _redrawn(segment, mask, tuple(map(_without_repeats, segment.segmentation)))


def _redrawn(segment: Segment, mask: Mask, rings: tuple[Ring, ...]) -> Segment:
    """The segment with these rings, where they have exactly its pixels."""
    mended = replace(segment, segmentation=rings)
    try:
        same = mended.mask(mask.height, mask.width) == mask
    except FormatError:
        return segment
    return mended if same and rings != segment.segmentation else segment


@rule("P410", "info", fix=_drop_repeats)
def repeats(scene: Scene) -> Iterator[Finding]:
    """
    A ring repeats a vertex, or ends where it began.

    Why it matters: COCO closes rings itself. A repeated vertex is an edge of length 0, which
    shapely and other geometry tools refuse or warn about.
    Fix: automatic; repeats are dropped where exactly the same pixels result.
    Example: `[0, 0, 9, 0, 9, 9, 0, 0]`.
    """
    for index, n in enumerate(scene.each(_repeated)):
        if n:
            yield scene.find(f"{n} vertices repeat the one before", index)


def _repeated(rings: Rings) -> list[int]:
    """How many vertices of each segment equal the next of their ring."""
    same = (rings.points[rings.following] == rings.points).all(axis=1)
    many: list[int] = np.bincount(rings.owner[rings.ring[same]], minlength=rings.count).tolist()
    return many


def _as_pixels(scene: Scene, index: int) -> Segment:
    segment, mask = scene.sample.segments[index], scene.masks[index]
    if mask is None or not isinstance(segment.segmentation, tuple) or not scene.areas[index]:
        return segment
    rle = Rle(mask.height, mask.width, mask.counts.decode("ascii"))
    return replace(segment, segmentation=rle)


@rule("P411", "warning", fix=_as_pixels)
def crosses_itself(scene: Scene) -> Iterator[Finding]:
    """
    A ring crosses itself.

    Why it matters: COCO fills by parity, so what the ring goes round twice is not filled: a
    bow-tie on 9 x 9 pixels keeps 40. Other tools fill it.
    Fix: automatic; the pixels that COCO's rule gives are kept as an RLE, which all tools read
    alike. Where too little is filled, untangle the outline in the annotation tool instead.
    Looks at: rings of up to 2,000 vertices; edges that only touch are no crossing.
    Example: `[0, 0, 9, 9, 9, 0, 0, 9]`.
    """
    for index, place in enumerate(scene.each(_tangled)):
        if place is not None:
            x, y = place
            yield scene.find(f"outline crosses itself near ({x:.1f}, {y:.1f})", index)


def _tangled(rings: Rings) -> list[tuple[float, float] | None]:
    """For each segment, where its first ring that crosses itself does so."""
    places: list[tuple[float, float] | None] = [None] * rings.count
    for ring, place in crossings(rings):
        owner = int(rings.owner[ring])
        places[owner] = places[owner] or place
    return places


def crossings(rings: Rings) -> Iterator[tuple[int, tuple[float, float]]]:
    """
    The position of each ring that properly crosses itself, in order, and where it does.

    Only edges of one ring whose boxes meet are compared: they are sorted by ring and left
    end, and each looks at those that begin before it ends. O(n log n) for outlines as people
    draw them.
    """
    searched = ((rings.sizes >= 4) & (rings.sizes <= MAX_VERTICES))[rings.ring]
    if not searched.any():
        return
    start, end = rings.points[searched], rings.points[rings.following][searched]
    ring = rings.ring[searched]
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.lexsort((low[:, 0], ring))
    apart = _apart(low[:, 0], high[:, 0], ring)
    until = np.searchsorted((low[:, 0] + apart)[order], (high[:, 0] + apart)[order])
    many = np.maximum(until - np.arange(1, len(order) + 1), 0)
    told = -1
    for first, second in followers(many):
        i, j = order[first], order[second]
        meet = (low[i, 1] < high[j, 1]) & (low[j, 1] < high[i, 1])
        i, j = i[meet], j[meet]
        hit = _parted(start, end, i, j) & _parted(start, end, j, i)
        i, j = i[hit], j[hit]
        where, at = np.unique(ring[i], return_index=True)
        corner = np.minimum(high[i[at]], high[j[at]])
        for n, (x, y) in zip(where.tolist(), corner.tolist(), strict=True):
            if n != told:
                told = n
                yield n, (x, y)


def _apart(low: Floats, high: Floats, ring: Ints) -> Floats:
    """For each edge how far to shift it so that no two rings meet; rings are in a row."""
    head = np.flatnonzero(np.diff(ring, prepend=-1))
    left, right = np.minimum.reduceat(low, head), np.maximum.reduceat(high, head)
    wide = right - left + 1
    shift: Floats = np.cumsum(wide) - wide - left
    return np.repeat(shift, np.diff(head, append=len(ring)))


def _parted(start: Points, end: Points, i: Ints, j: Ints) -> NDArray[np.bool_]:
    """Do the ends of edge j lie on different sides of the line through edge i, not on it?"""
    along, to_p, to_q = (end - start)[i], start[j] - start[i], end[j] - start[i]
    side_p = along[:, 0] * to_p[:, 1] - along[:, 1] * to_p[:, 0]
    side_q = along[:, 0] * to_q[:, 1] - along[:, 1] * to_q[:, 0]
    slack = 1e-9 * (1 + np.abs(along).sum(axis=1) * np.abs(to_p).sum(axis=1))
    one_each = (side_p > slack) & (side_q < -slack) | (side_p < -slack) & (side_q > slack)
    return np.asarray(one_each, dtype=np.bool_)


@rule("P412", "info")
def parts_overlap(scene: Scene) -> Iterator[Finding]:
    """
    Two rings of one segment overlap.

    Why it matters: COCO takes the union, tools that fill by parity leave the shared pixels
    empty, and tools that add up areas count them twice.
    Fix: join the rings to one in the annotation tool.
    Example: sleeve and hand drawn as two overlapping parts.
    """
    for index, overlaps in scene.part_overlaps.items():
        areas = [part.area for part in scene.parts[index]]
        pairs = [(i, j, n) for i, j, n in overlaps.pairs if n < min(areas[i], areas[j])]
        if pairs:
            i, j, n = pairs[0]
            yield scene.find(f"rings {i} and {j} share {n} px", index)


@rule("P413", "warning")
def hole_filled(scene: Scene) -> Iterator[Finding]:
    """
    A ring lies wholly inside another ring of the same segment: a hole that is filled?

    Why it matters: COCO takes the union of rings, so holes cannot be drawn with polygons: a
    mask with a hole of 126 px became one of 2401 instead of 2275 px (supervision 0.31).
    Fix: draw it as a mask with the brush, where holes stay holes.
    Example: the handle of a cup.
    """
    for index, overlaps in scene.part_overlaps.items():
        areas = [part.area for part in scene.parts[index]]
        for i, j, n in overlaps.pairs:
            if n == min(areas[i], areas[j]):
                inner, outer = (i, j) if areas[i] <= areas[j] else (j, i)
                yield scene.find(f"ring {inner} lies inside ring {outer}: a hole?", index)
                break


@rule("P414", "error")
def scaled(scene: Scene) -> Iterator[Finding]:
    """
    All coordinates of a polygon lie between 0 and 1.

    Why it matters: they are fractions of the image, as YOLO writes them; read as pixels, all
    objects shrink to 1 pixel in the corner.
    Fix: multiply x by the width and y by the height.
    Example: `[0.21, 0.33, 0.64, 0.33, 0.64, 0.80]`.
    """
    for index in range(len(scene.masks)):
        if normalised(scene, index):
            yield scene.find("coordinates are fractions of the image, not pixels", index)


@rule("P415", "error")
def swapped(scene: Scene) -> Iterator[Finding]:
    """
    Polygons lie outside the image, and inside once x and y are swapped.

    Why it matters: every mask of the picture is mirrored along the diagonal. In a 640 x 480
    picture, all that stood in its right quarter is gone, and the rest covers something else.
    Fix: mend the exporter: COCO's coordinates are x first, arrays have the row first.
    Looks at: images that are not square, and polygons whose middle is outside; swapped, all
    polygons of the image must fit.
    Example: `[500, 20, 600, 20, 600, 90]` in an image 480 px wide and 640 high.
    """
    height, width = scene.sample.height, scene.sample.width
    extents = [e for e in scene.extents if e is not None]
    if height == width or not any(scene.beyond):
        return
    box = np.array(extents)
    middle = (box[:, :2] + box[:, 2:]) / 2
    out = int(np.count_nonzero((middle < 0).any(axis=1) | (middle > (width, height)).any(axis=1)))
    if out and box.min() >= -1 and box[:, 3].max() <= width + 1 and box[:, 2].max() <= height + 1:
        yield scene.find(f"{out} of {len(box)} polygons fit only with x and y swapped")


@rule("P416", "info")
def too_fine(scene: Scene) -> Iterator[Finding]:
    """
    A ring has more than 2,000 vertices, or vertices within a hundredth of a pixel.

    Why it matters: more than the picture can tell. COCO's outlines have some 30 vertices; 2,000
    take 30 kB of JSON where the RLE of the same mask takes one, and slow down every tool.
    Fix: simplify it in the annotation tool, or draw it with the brush.
    Example: each step of the mouse kept as a vertex.
    """
    for index, rings in enumerate(scene.each(_fine)):
        for said in rings:
            yield scene.find(f"a ring has {said}", index)


def _fine(rings: Rings) -> list[tuple[str, ...]]:
    """What is too fine about the rings of each segment."""
    found: list[tuple[str, ...]] = [()] * rings.count
    if not len(rings.first):
        return found
    dx, dy = np.abs(rings.steps).T
    near = (dx < FINEST) & (dy < FINEST) & ((dx > 0) | (dy > 0))
    close, sizes = np.add.reduceat(near, rings.first, dtype=np.int64), rings.sizes
    for ring in np.flatnonzero((sizes > MAX_VERTICES) | (close > 0)).tolist():
        said = f"{sizes[ring]:,} vertices"
        if close[ring]:
            said += f", {close[ring]} of them within {FINEST} px of the next"
        found[int(rings.owner[ring])] += (said,)
    return found


@rule("P417", "warning")
def through_centres(scene: Scene) -> Iterator[Finding]:
    """
    Outlines run through the centres of pixels, as cv2.findContours traces them.

    Why it matters: in COCO, pixel 3 reaches from 3 to 4. Its border pixels taken for corners, a
    mask loses half a pixel all round: drawn again, it has an IoU of 0.95 with itself, 0.68 at
    worst (300 masks), and small objects suffer most.
    Fix: trace along pixel edges, or keep the mask as an RLE.
    Looks at: rings of 12 and more whole-numbered vertices, all of whose edges are level, upright
    or diagonal, four and more of them diagonal.
    Example: `cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)`.
    """
    if n := sum(scene.each(_traced)):
        total = len(scene.vertices.first)
        yield scene.find(f"{n} of {total} outlines run through pixel centres")


def _traced(rings: Rings) -> list[int]:
    """How many rings of each segment look like what cv2.findContours gives."""
    if not len(rings.first):
        return [0] * rings.count
    dx, dy = np.abs(rings.steps).T
    diagonal = (dx == dy) & (dx > 0)
    whole = (rings.points == np.rint(rings.points)).all(axis=1)
    fits = whole & (diagonal | (dx == 0) | (dy == 0))
    traced = np.logical_and.reduceat(fits, rings.first) & (rings.sizes >= 12)
    traced &= np.add.reduceat(diagonal, rings.first, dtype=np.int64) >= 4
    many: list[int] = np.bincount(rings.owner[traced], minlength=rings.count).tolist()
    return many


def outside(scene: Scene, index: int) -> float:
    """How far vertices lie outside the image, in pixels; infinity where the polygon misses it."""
    return scene.beyond[index]


def normalised(scene: Scene, index: int) -> bool:
    """Do all vertices lie within one pixel, and not all on its corners?"""
    extent = scene.extents[index]
    if extent is None or min(extent) < 0 or max(extent) > 1:
        return False
    if min(scene.sample.height, scene.sample.width) <= 2:
        return False
    return any(v % 1 for ring in scene.outlines[index] for v in ring.ravel().tolist())
