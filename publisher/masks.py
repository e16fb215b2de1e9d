"""
Binary masks as COCO run-length encodings.

The only module that imports pycocotools. Everything that is odd about COCO's masks
(column-major runs, compressed counts, xywh boxes, a C library that segfaults on a NaN)
stops here: geometry from outside is a `Polygons` or an `Rle` and becomes a `Mask` only
through `Mask.from_polygons` and `Mask.from_rle`, which check it first.

Rules and codec: https://github.com/cocodataset/cocoapi, common/maskApi.c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as _coco

from .errors import FormatError

BitMask = NDArray[np.bool_]
Polygons = tuple[tuple[float, ...], ...]
"""Rings as flat (x0, y0, x1, y1, ...) in pixels; pixel (i, j) covers [i, i+1) x [j, j+1)."""

MAX_PIXELS = 2**27  # 11,585 squared; a dense id map of it takes 512 MiB
MAX_COORDINATE = 1e5  # px; pycocotools 2.0.11 takes seconds at 1e7 and segfaults at 1e8
MAX_PERIMETER = 1e7  # px; rleFrPoly walks every fifth of a pixel of the outline


class Rle(msgspec.Struct, frozen=True, gc=False):
    """
    COCO's `{"size": [height, width], "counts": ...}` as read and not yet checked.

    `counts` is the compressed string, or the list of run lengths of an uncompressed RLE.
    """

    height: int
    width: int
    counts: str | tuple[int, ...]


class Mask(msgspec.Struct, frozen=True, gc=False):
    """An H x W binary mask; immutable, hashable, some hundred times smaller than its pixels."""

    height: int
    width: int
    counts: bytes  # COCO's compressed counts in canonical form, so equal masks are equal

    @classmethod
    def from_array(cls, pixels: NDArray[Any]) -> Mask:
        """Encode an array of shape (H, W); every value but 0 is foreground."""
        rle = _coco.encode(np.asfortranarray(pixels != 0, dtype=np.uint8))
        return cls(pixels.shape[0], pixels.shape[1], rle["counts"])

    @classmethod
    def from_rle(cls, rle: Rle, height: int, width: int) -> Mask:
        """
        Check an RLE from outside against its image, and make it canonical.

        Raises:
            FormatError: wrong size (R503), run lengths that do not add up to height x width
                (R504), negative runs (R505), or bytes that are no counts (R506).
        """
        check_size(height, width)
        if (rle.height, rle.width) != (height, width):
            raise FormatError(
                f"RLE is {rle.height}x{rle.width}, image is {height}x{width}", code="R503"
            )
        runs = _runs(rle.counts)
        if len(runs) and runs.min() < 0:
            raise FormatError("RLE has a negative run", code="R505")
        covered = sum(runs.tolist())  # python ints: hostile runs must not wrap around
        if covered != height * width:
            raise FormatError(
                f"RLE covers {covered} pixels, image has {height * width}", code="R504"
            )
        return cls.from_runs(runs, height, width)

    @classmethod
    def from_runs(cls, runs: NDArray[np.int64], height: int, width: int) -> Mask:
        """Encode column-major run lengths, zeros first, that sum to height x width."""
        counts = compress(canonical(runs))
        return cls(height, width, counts)

    @classmethod
    def from_polygons(cls, polygons: Polygons, height: int, width: int) -> Mask:
        """
        Rasterise the union of rings by COCO's rule (rleFrPoly), clipped to the image.

        Raises:
            FormatError: no ring (P401), an odd number of coordinates (P403), fewer than three
                points (P404), or coordinates no image can hold (P406).
        """
        check_size(height, width)
        check_polygons(polygons)
        rles = _coco.frPyObjects([list(p) for p in polygons], height, width)
        return cls(height, width, _coco.merge(rles)["counts"])

    @classmethod
    def union(cls, masks: Sequence[Mask]) -> Mask:
        """Every pixel that any of the masks, all of one size and at least one, has."""
        first = masks[0]
        if any((m.height, m.width) != (first.height, first.width) for m in masks):
            raise ValueError("masks of different sizes have no union")
        return cls(first.height, first.width, _coco.merge([m._rle for m in masks])["counts"])

    def to_array(self) -> BitMask:
        """Decode to a bool array of shape (H, W)."""
        return np.asarray(_coco.decode(self._rle)).view(np.bool_)

    def to_rle(self) -> dict[str, Any]:
        """COCO's compressed RLE, fit for JSON."""
        return {"size": [self.height, self.width], "counts": self.counts.decode("ascii")}

    @property
    def runs(self) -> NDArray[np.int64]:
        """Column-major run lengths, zeros first."""
        return decompress(self.counts)

    @property
    def area(self) -> int:
        """Number of foreground pixels."""
        return int(_coco.area(self._rle))

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """Tight box as COCO's (x, y, width, height), in pixels; all 0 where empty."""
        x, y, w, h = _coco.toBbox(self._rle).astype(int).tolist()
        return x, y, w, h

    def iou(self, other: Mask) -> float:
        """Intersection over union, in [0, 1]; two empty masks agree perfectly."""
        if not self.area and not other.area:
            return 1.0
        return float(_coco.iou([self._rle], [other._rle], [False])[0, 0])

    def intersection(self, other: Mask) -> int:
        """Number of pixels that both masks have."""
        return int(_coco.area(_coco.merge([self._rle, other._rle], intersect=True)))

    @property
    def _rle(self) -> dict[str, object]:
        return {"size": [self.height, self.width], "counts": self.counts}


def boxes(masks: Sequence[Mask | None]) -> NDArray[np.int64]:
    """The tight boxes of all, (N, 4) COCO xywh in pixels; all 0 where there is no mask."""
    found = np.zeros((len(masks), 4), dtype=np.int64)
    there = [i for i, m in enumerate(masks) if m is not None]
    found[there] = _coco.toBbox([m._rle for m in masks if m is not None])
    return found


def overlapping(one: Sequence[Mask], other: Sequence[Mask]) -> Iterator[tuple[int, int, float]]:
    """
    Pairs that share pixels, by position, and their intersection over union; in order.

    All masks must be of one size.
    """
    there = [m._rle for m in other]
    rows = max(1, _CELLS // max(1, len(other)))
    for top in range(0, len(one) if there else 0, rows):
        ious = _coco.iou([m._rle for m in one[top : top + rows]], there, [False] * len(there))
        for i, j in np.argwhere(ious > 0).tolist():
            yield top + i, j, float(ious[i, j])


_CELLS = 2**20  # pairs of masks that are held against each other at once


def check_polygons(polygons: Polygons) -> None:
    """
    Refuse rings that pycocotools may crash, hang or silently go wrong on.

    Raises:
        FormatError: see `Mask.from_polygons`; `where` is the index of the ring.
    """
    if not polygons:
        raise FormatError("segmentation is empty", code="P401")
    perimeter = 0.0
    for index, ring in enumerate(polygons):
        if len(ring) % 2:
            raise FormatError(
                f"ring has {len(ring)} coordinates, an odd number", where=(index,), code="P403"
            )
        if len(ring) < 6:
            raise FormatError(
                f"ring has {len(ring) // 2} points, needs 3", where=(index,), code="P404"
            )
        points = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
        if not np.all(np.abs(points) <= MAX_COORDINATE):  # also false for NaN
            raise FormatError(
                "ring has a coordinate that is not finite or beyond 100,000 px",
                where=(index,),
                code="P406",
            )
        steps = points[1:] - points[:-1]
        perimeter += float(np.abs(steps).sum() + np.abs(points[-1] - points[0]).sum())
    if perimeter > MAX_PERIMETER:
        raise FormatError(f"outline is {perimeter:.0f} px long", code="P406")


def mask_from_crop(
    runs: Sequence[int], left: int, top: int, width: int, height: int, image: tuple[int, int]
) -> Mask:
    """
    Place a row-major, zeros-first RLE of a box into an image: CVAT's brush masks.

    Args:
        runs: run lengths over the box, which must sum to width x height of the box.
        left, top, width, height: the box, in pixels; what hangs over the image is cut off.
        image: (height, width) of the image.

    Raises:
        FormatError: the runs do not fit the box (K821), or the box is no box (K822).

    Source: cvat/apps/dataset_manager/formats/transformations.py, MaskConverter.
    """
    image_height, image_width = image
    check_size(image_height, image_width)
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise FormatError(f"mask box is {width} x {height} px", code="K822")
    if (least := min(runs, default=0)) < 0:
        raise FormatError(f"mask has a run of {least} pixels", code="K821")
    if sum(runs) != width * height:
        raise FormatError(
            f"mask has runs for {sum(runs)} pixels, its box has {width * height}", code="K821"
        )
    if not (-width < left < image_width and -height < top < image_height):
        raise FormatError("mask lies wholly outside the image", code="K822")
    values = np.arange(len(runs), dtype=np.uint8) & 1
    return placed(np.repeat(values, runs).reshape(height, width), left, top, image)


def placed(crop: NDArray[Any], left: int, top: int, image: tuple[int, int]) -> Mask:
    """
    Place a crop (h, w), every value but 0 foreground, into an image of (height, width).

    What hangs over the image is cut off; a crop wholly outside gives an empty mask.
    """
    check_size(*image)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + crop.shape[0], image[0]), min(left + crop.shape[1], image[1])
    columns = np.zeros((max(x1 - x0, 0), max(y1 - y0, 0) + 2), dtype=np.int8)
    if y0 < y1 and x0 < x1:  # one 0 stays before and after each column
        columns[:, 1:-1] = (crop[y0 - top : y1 - top, x0 - left : x1 - left] != 0).T
    column, row = np.nonzero(np.diff(columns, axis=1))  # where runs start and stop, in turns
    edges = (x0 + column) * image[0] + y0 + row
    counts = np.diff(edges, prepend=0, append=image[0] * image[1])
    return Mask.from_runs(counts, *image)


def crop_from_mask(mask: Mask) -> tuple[list[int], int, int, int, int]:
    """
    The inverse of `mask_from_crop`: row-major, zeros-first runs over the tight box of a mask
    that has pixels, then left, top, width and height of that box.
    """
    left, top, width, height = mask.bbox
    box = cut(mask, left, top, width, height).ravel()
    edges = np.flatnonzero(np.diff(box, prepend=0))
    runs = np.diff(edges, prepend=0, append=len(box))
    return runs.tolist(), left, top, width, height


def cut(mask: Mask, left: int, top: int, width: int, height: int) -> BitMask:
    """The pixels of a box inside the image, (height, width), without decoding the others."""
    start = left * mask.height  # column-major, so the box's columns lie in one piece
    ends = np.clip(np.cumsum(mask.runs) - start, 0, width * mask.height)
    values = (np.arange(len(ends)) & 1).astype(np.bool_)
    columns = np.repeat(values, np.diff(ends, prepend=0))
    return columns.reshape(width, mask.height)[:, top : top + height].T


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> tuple[float, ...]:
    """
    A ring that follows an ellipse to a hundredth of a pixel, clockwise on screen.

    Rounded to CVAT's two decimals. `degrees` turns it clockwise about its centre.
    """
    reach = max(abs(rx), abs(ry), 1.0)
    n = min(720, max(16, math.ceil(math.pi / math.sqrt(0.02 / reach)))) if reach < 1e6 else 720
    t = np.arange(n) * (2 * math.pi / n)
    with np.errstate(all="ignore"):  # as in rotate
        ring = np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], axis=1)
    return rotate(tuple(ring.ravel().tolist()), cx, cy, degrees)


def rotate(ring: Sequence[float], cx: float, cy: float, degrees: float) -> tuple[float, ...]:
    """Turn a ring clockwise on screen about (cx, cy); two decimals, as CVAT writes them."""
    centre = np.array([cx, cy])
    a = math.radians(degrees if math.isfinite(degrees) else math.nan)
    turn = np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
    with np.errstate(all="ignore"):  # what is not finite stays so, and check_polygons refuses it
        points = np.asarray(ring, dtype=np.float64).reshape(-1, 2) - centre
        return tuple(np.round(points @ turn + centre, 2).ravel().tolist())


def canonical(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join runs around empty ones, so that equal masks have equal runs. Keeps the first."""
    runs = np.asarray(runs, dtype=np.int64)
    if not len(runs) or np.all(runs[1:] > 0):
        return runs
    value = np.arange(len(runs)) & 1
    kept = runs > 0
    value, runs = value[kept], runs[kept]
    start = np.flatnonzero(np.diff(value, prepend=-1))
    joined = np.add.reduceat(runs, start)
    return joined if value[0] == 0 else np.concatenate([[0], joined])


def compress(runs: NDArray[np.int64]) -> bytes:
    """COCO's ASCII codec: 5 bits a character, deltas to the count before last from the fourth."""
    x = np.asarray(runs, dtype=np.int64).copy()
    if len(x) > 3:
        x[3:] -= runs[1:-2]
    return characters(packed_numbers(x))


def packed_numbers(numbers: NDArray[np.signedinteger[Any]]) -> NDArray[np.unsignedinteger[Any]]:
    """
    Numbers of 32 bits as COCO's characters, all those of each in one integer, (N,).

    A character holds 5 bits, the lowest first, and a sixth that says whether more follow; the
    highest bit of a number's last one is its sign (maskApi.c, rleToString). The first character
    is the lowest byte; zeros follow the last one.
    """
    left = numbers.astype(np.int32, copy=False)
    index = left + _SHORT
    packed = _PAIRS.take(index, mode="clip")
    if not len(long := np.flatnonzero(index.view(np.uint32) >= 2 * _SHORT)):
        return packed
    rest = _packed(left[long])
    packed = packed.astype(rest.dtype, copy=False)
    packed[long] = rest
    return packed


def characters(packed: NDArray[np.unsignedinteger[Any]]) -> bytes:
    """The characters of all numbers in a row."""
    return packed.tobytes().translate(None, b"\0")  # three times as fast as a mask


def _packed(left: NDArray[np.int32]) -> NDArray[np.unsignedinteger[Any]]:
    """As `packed_numbers`, for numbers of any length."""
    magnitude = left ^ (left >> 31)
    sizes, longest = np.ones(len(left), dtype=np.int64), 1
    while (more := magnitude >= 1 << 5 * longest - 1).any():
        sizes += more
        longest += 1
    kind = "<u4" if longest <= 4 else "<u8"
    bits: NDArray[np.unsignedinteger[Any]]
    bits = left.astype("<i4" if longest <= 4 else "<i8").view(kind)
    packed: NDArray[Any] = bits & 0x1F
    for k in range(1, longest):
        packed |= (bits >> 5 * k & 0x1F) << 8 * k
    packed &= _CHARACTERS.astype(kind)[sizes]
    packed += _MARKS.astype(kind)[sizes]
    return packed


_CHARACTERS = np.array([2 ** (8 * n) - 1 for n in range(8)], dtype=np.uint64)  # n of them
_MARKS = np.array(  # 48 in each, and 32 where more follow
    [0, *(int.from_bytes(b"\x50" * n + b"\x30", "little") for n in range(7))], dtype=np.uint64
)
_SHORT = 512  # numbers from -512 to 511 take one character or two, and are nearly all there are
_PAIRS = _packed(np.arange(-_SHORT, _SHORT, dtype=np.int32)).astype("<u4")


def decompress(counts: bytes) -> NDArray[np.int64]:
    """
    Inverse of `compress`.

    Raises:
        FormatError: R506, a byte outside 48..111, a number cut short, or one too large.
    """
    chars = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if not len(chars):
        return chars
    if chars.min() < 0 or chars.max() > 63:
        raise FormatError("RLE counts hold a character COCO does not use", code="R506")
    last = (chars & 0x20) == 0
    if not last[-1]:
        raise FormatError("RLE counts end in the middle of a number", code="R506")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    length = ends - starts + 1
    if length.max() > 7:
        raise FormatError("RLE counts hold a number beyond 2^31", code="R506")
    place = np.arange(len(chars)) - np.repeat(starts, length)
    x = np.add.reduceat((chars & 0x1F) << (5 * place), starts)
    negative = (chars[ends] & 0x10) != 0
    x = np.where(negative, x - (np.int64(1) << (5 * length)), x)
    # from the fourth count on, each is a difference to the one two before it
    x[1::2] = np.cumsum(x[1::2])
    x[2::2] = np.cumsum(x[2::2])
    return x


def _runs(counts: str | tuple[int, ...]) -> NDArray[np.int64]:
    if isinstance(counts, str):
        try:
            return decompress(counts.encode("ascii"))
        except UnicodeEncodeError:
            raise FormatError("RLE counts are not ASCII", code="R506") from None
    if counts and not 0 <= min(counts) <= max(counts) <= MAX_PIXELS:
        raise FormatError("RLE has a negative or oversized run", code="R505")
    return np.array(counts, dtype=np.int64)


def check_size(height: int, width: int) -> None:
    """
    Refuse what is no size of an image, or more than `MAX_PIXELS`.

    Raises:
        FormatError: I108, I119.
    """
    if height <= 0 or width <= 0:
        raise FormatError(f"image is {height}x{width}", code="I108")
    if height * width > MAX_PIXELS:
        raise FormatError(
            f"image is {height}x{width}, more than {MAX_PIXELS:,} pixels", code="I119"
        )
