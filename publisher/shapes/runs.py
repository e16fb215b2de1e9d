"""
Many masks at once, as foreground runs: the form in which whole chunks of images are worked on.

One mask at a time costs a call of a C library each; a chunk of thousands costs a dozen calls
of numpy. Runs are column-major, as COCO's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..masks import MAX_PIXELS, Mask, characters, packed_numbers

Ints = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Runs:
    """
    Foreground runs of N masks, ordered by mask and then by position.

    Run i covers the column-major pixels start[i] .. stop[i] - 1 of mask owner[i]; pixel
    (row, column) of an image of height H stands at column * H + row. A run is never empty,
    and two runs of one mask never touch.
    """

    start: Ints  # (R,)
    stop: Ints  # (R,)
    owner: Ints  # (R,), 0 .. N - 1, ascending
    count: int  # N

    @property
    def areas(self) -> Ints:
        """Pixels of each mask, (N,)."""
        first = heads(self.owner)  # bincount of all runs takes five times as long
        weights = _over(np.add, self.stop - self.start, first)
        return np.bincount(self.owner.take(first), weights, self.count).astype(np.int64)


@dataclass(frozen=True, slots=True)
class IdRuns:
    """
    Maps of ids, all height x width, as runs of one id each, in order.

    The maps lie side by side: run i covers the pixels start[i] .. stop[i] - 1, and pixel
    (row, column) of map m stands at (m * width + column) * height + row. No run is empty or
    reaches into the next map; where two of one id touch, they are one. What no run covers is
    nobody's.
    """

    height: int
    width: int
    start: Ints  # (R,)
    stop: Ints  # (R,)
    id: NDArray[np.integer[Any]]  # (R,)


@dataclass(frozen=True, slots=True)
class Segments:
    """
    The segments of maps of ids, ordered by map and then by id, and the runs of each.

    After the last run of each segment stands an empty one, at the end of its map.
    """

    height: int
    width: int
    owner: Ints  # (N,), the map of each
    id: Ints  # (N,)
    ends: Ints  # (R + N, 2), start and stop as in `IdRuns`
    first: Ints  # (N,), the first run of each

    def masks(self) -> list[Mask]:
        """The mask of each."""
        return [Mask(self.height, self.width, c) for c in self.counts()]

    def counts(self) -> list[bytes]:
        """COCO's compressed counts of the mask of each."""
        return _spelled(self.ends, self.first, self.owner * (self.height * self.width))

    def boxes(self) -> Ints:
        """The tight box of each, (N, 4) xywh in pixels."""
        start, stop = np.ascontiguousarray(self.ends.T)
        left, right, top, bottom = _corners(start, stop, self.height)
        ends = self._last()
        top[ends], bottom[ends] = self.height, -1
        low = [left[self.first], _over(np.minimum, top, self.first)]
        high = [right[ends - 1], _over(np.maximum, bottom, self.first)]
        boxes = np.stack([*low, *(b - a + 1 for a, b in zip(low, high, strict=True))], axis=1)
        boxes[:, 0] -= self.owner * self.width
        return boxes

    def areas(self) -> Ints:
        """The pixels of each, (N,)."""
        return _over(np.add, self.ends[:, 1] - self.ends[:, 0], self.first)

    def _last(self) -> Ints:
        """The empty run of each, (N,)."""
        return np.append(self.first, len(self.ends))[1:] - 1


def segments_of(maps: IdRuns) -> Segments:
    """Gather the runs of each id of each map."""
    size = maps.height * maps.width
    owner, ids, keys, many = _keys(maps.start // size, maps.id)
    order = np.argsort(keys, kind="stable")
    ends = np.empty((len(order), 2), dtype=maps.start.dtype)
    runs = len(maps.start)
    ends[:runs, 0], ends[:runs, 1], ends[runs:] = maps.start, maps.stop, (owner[:, None] + 1) * size
    ends = ends.take(order, axis=0)
    return Segments(maps.height, maps.width, owner, ids, ends, np.cumsum(many) - many)


def _keys(owner: Ints, ids: NDArray[np.integer[Any]]) -> tuple[Ints, Ints, NDArray[Any], Ints]:
    """
    The segments of runs (R,) of these maps and ids, and numbers to gather them by.

    Gives the map and the id of each segment, (N,); a number for each run and for one more of
    each segment, (R + N,), of as few bits as will do, as these are the quickest to sort; and
    how many runs each segment has then, (N,).
    """
    if not len(ids):
        return owner, owner, owner, owner
    lowest = int(ids.min())
    span = int(ids.max()) - lowest + 1
    highest = (int(owner[-1]) + 1) * span
    kind: Any = np.int32 if highest < 2**31 else np.int64
    keys: Ints = owner.astype(kind, copy=False) * span
    keys += ids - lowest
    if highest < 2**16:
        counted = np.bincount(keys)
        there = every = np.flatnonzero(counted)
        many = counted[there]
    else:
        there, keys, many = np.unique(keys, return_inverse=True, return_counts=True)
        every, highest = np.arange(len(there)), len(there)
    kind = np.min_scalar_type(highest)
    both: NDArray[Any] = np.concatenate([keys, every], dtype=kind, casting="unsafe")
    return there // span, there % span + lowest, both, many + 1


def masks_of_ids(ids: NDArray[Any]) -> dict[int, Mask]:
    """The mask of each value of a map of integers, (H, W), by ascending value; 0 is one, too."""
    segments = segments_of(runs_of_ids(ids))
    return dict(zip(segments.id.tolist(), segments.masks(), strict=True))


def runs_of_ids(ids: NDArray[Any]) -> IdRuns:
    """Every pixel of one map of integers, (H, W), of any type; the map is not transposed."""
    height, width = ids.shape
    row, column = np.divmod(np.flatnonzero(ids[1:] != ids[:-1]), width)  # np.nonzero takes 9x
    tops = np.flatnonzero(ids[0, 1:] != ids[-1, :-1]) + 1
    inside = column * height + row + 1
    start = np.sort(np.concatenate([np.zeros(1, np.int64), inside, tops * height]))
    stop = np.append(start[1:], height * width)
    column, row = np.divmod(start, height)
    return IdRuns(height, width, start, stop, ids[row, column].astype(np.int64))


def heads(*keys: Ints) -> Ints:
    """Where rows of equal keys begin: what differs from the one before, and the first."""
    new = np.ones(len(keys[0]), dtype=np.bool_)
    np.not_equal(keys[0][1:], keys[0][:-1], out=new[1:])
    for key in keys[1:]:
        new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(new)


def runs_of(masks: Sequence[Mask]) -> Runs:
    """Decode the compressed counts of all masks in one pass."""
    pixels = np.array([m.height * m.width for m in masks], dtype=np.int64)
    runs = runs_of_counts([m.counts for m in masks], pixels)
    assert runs is not None, "the counts of a Mask are canonical"
    return runs


def runs_of_counts(counts: Sequence[bytes], pixels: Ints, begin: Ints | None = None) -> Runs | None:
    """
    Decode compressed counts from outside, of masks of so many pixels, in one pass.

    None where some are not those of such a mask, or not in canonical form.

    Args:
        pixels, begin: of each mask, and where the first of them stands, by default at 0: (N,).
    """
    begin = np.zeros_like(pixels) if begin is None else begin
    found = _numbers(counts)
    if found is None:
        return None
    numbers, many = found
    if (
        _reach(numbers) * (many.max(initial=0) + 2) >= 2**31
        or (begin + pixels).max(initial=0) >= 2**31
    ):
        numbers = numbers.astype(np.int64)  # 32 bits are twice as fast, where they will do
    ends = np.cumsum(many)[many & 1 == 1]  # a mask that ends with a gap gets an empty run
    kept = np.ones(len(numbers) + len(ends), dtype=np.bool_)
    kept[ends + np.arange(len(ends))] = False
    paired = np.zeros(len(kept), dtype=numbers.dtype)
    paired[kept] = numbers
    rows = (many + 1) >> 1
    end = np.cumsum(rows)
    first, open_ = end - rows, end[many & 1 == 1] - 1

    # from the fourth on, a number is the difference to the one two places before it
    gaps, runs = np.ascontiguousarray(paired[::2]), np.ascontiguousarray(paired[1::2])
    leading, gaps[first] = gaps[first], 0
    for column in (gaps, runs):
        column[first[1:]] -= _over(np.add, column, first)[:-1]
        np.cumsum(column, out=column)
    gaps[first], runs[open_] = leading, 0

    if min(gaps.min(initial=1), runs.min(initial=1)) < 0 or _has_joints(gaps, runs, first, open_):
        return None
    stop = gaps + runs
    if len(first) and not np.array_equal(np.add.reduceat(stop, first, dtype=np.int64), pixels):
        return None
    stop[first] += begin - np.append(0, (begin + pixels)[:-1])[: len(first)]
    np.cumsum(stop, out=stop)
    start = stop - runs
    owner = np.repeat(np.arange(len(rows)), rows - (many & 1))
    if not len(open_):
        return Runs(start, stop, owner, len(rows))
    there = np.flatnonzero(runs)
    return Runs(start.take(there), stop.take(there), owner, len(rows))


def _has_joints(gaps: Ints, runs: Ints, first: Ints, open_: Ints) -> bool:
    """Is one empty that need not be? Only the first gap may be, and the run after the last."""
    needless = np.count_nonzero(gaps) + np.count_nonzero(gaps[first] == 0) < len(gaps)
    return bool(needless or np.count_nonzero(runs) + len(open_) < len(runs))


def _numbers(strings: Sequence[bytes]) -> tuple[Ints, Ints] | None:
    """The numbers of all compressed strings in a row, and how many each holds, 1 at least."""
    chars = np.frombuffer(b"".join(strings), np.uint8) - 48
    ends = np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)))
    more = chars & 0x20 != 0
    last = np.flatnonzero(~more)  # the last character of each number
    many = np.diff(np.searchsorted(last, ends), prepend=0)
    if chars.max(initial=0) > 63 or not np.all(many) or np.any(more[ends - 1]):
        return None
    # nearly all take one character or two, so these two are put together for all at once
    digits = chars & 0x1F
    highest = ((digits ^ 0x10).view(np.int8) - 0x10).astype(np.int16)  # the fifth bit is the sign
    highest[1:] = np.where(more[:-1], highest[1:] << 5 | digits[:-1], highest[1:])
    numbers = highest.take(last).astype(np.int32)
    at = np.flatnonzero(more[:-2] & more[1:-1] & ~more[2:]) + 2
    index = np.searchsorted(last, at)
    for place in range(2, _MOST_CHARS + 1):
        if not len(index):
            return numbers, many
        if place == 6:
            numbers = numbers.astype(np.int64)
        numbers[index] = numbers.take(index) << 5 | digits.take(at - place)
        further = more.take(at - place - 1)  # of the first character: the last of all, no more
        at, index = at[further], index[further]
    return None


_MOST_CHARS = 7  # of a number; 2^31 takes as many


def _reach(numbers: Ints) -> int:
    """The largest magnitude."""
    return max(int(numbers.max(initial=0)), -int(numbers.min(initial=0)))


def counts_of(runs: Runs, sizes: Ints) -> list[bytes]:
    """
    The compressed counts of all masks in one pass, canonical: the inverse of `runs_of`.

    Args:
        sizes: pixels, height x width, of the image of each mask, (N,).
    """
    first = np.searchsorted(runs.owner, np.arange(runs.count)) + np.arange(runs.count)
    last = np.append(first, len(runs.owner) + runs.count)[1:] - 1
    among = np.arange(len(runs.owner)) + runs.owner
    ends = np.empty((len(runs.owner) + runs.count, 2), dtype=runs.start.dtype)
    ends[among, 0], ends[among, 1], ends[last] = runs.start, runs.stop, sizes[:, None]
    return _spelled(ends, first, np.zeros_like(sizes))


def _spelled(ends: Ints, first: Ints, begin: Ints) -> list[bytes]:
    """
    The compressed counts of N masks, canonical.

    Args:
        ends: where each run starts and stops, and after the last one of each mask an empty one
            where its image ends, (R + N, 2).
        first: the first run of each mask, (N,).
        begin: where the first pixel of its image stands, (N,).
    """
    ends = ends.ravel()
    counts = ends.copy()  # gap, run, gap, ..., gap, and the empty run
    counts[1:] -= ends[:-1]
    first = 2 * first
    last = np.append(first, len(ends))[1:] - 1
    counts[first] = ends[first] - begin
    deltas = counts.copy()
    deltas[3:] -= counts[1:-2]
    few = first[:, None] + np.arange(3)  # up to the third, numbers stand for themselves
    few = few[few < last[:, None]]
    deltas[few] = counts[few]
    packed = packed_numbers(deltas)
    full = last[(counts[last - 1] == 0) & (last > first + 1)] - 1
    packed[full] = 0  # a mask that ends with its image has no last gap
    packed[last] = _NEXT
    return characters(packed).split(_NEXT.to_bytes())[:-1]


_NEXT = 10  # no character of counts


def boxes_of(runs: Runs, heights: Ints | int) -> Ints:
    """
    The tight boxes of all masks as COCO's xywh, (N, 4), in pixels; all 0 where empty.

    The runs may come in any order.

    Args:
        heights: of the image of each mask, (N,), or of all.
    """
    height = heights if isinstance(heights, int) else heights.take(runs.owner)
    left, right, top, bottom = _corners(runs.start, runs.stop, height)
    first = heads(runs.owner)
    owner = runs.owner.take(first)
    low = np.full((2, runs.count), MAX_PIXELS, dtype=left.dtype)  # of one type: `at` is fast
    high = np.full((2, runs.count), -1, dtype=left.dtype)
    for lowest, highest, ends in zip(low, high, ((left, right), (top, bottom)), strict=True):
        np.minimum.at(lowest, owner, _over(np.minimum, ends[0], first))
        np.maximum.at(highest, owner, _over(np.maximum, ends[1], first))
    boxes = np.concatenate([low, high - low + 1])
    boxes[:, high[0] < 0] = 0
    return np.ascontiguousarray(boxes.T)


def _corners(start: Ints, stop: Ints, height: Ints | int) -> tuple[Ints, Ints, Ints, Ints]:
    """The first and last column and the first and last row of each run, (R,) each."""
    last = stop - 1
    left, right = start // height, last // height
    top, bottom = start - left * height, last - right * height
    wide = np.flatnonzero(right > left)  # a run that crosses columns reaches from top to bottom
    top[wide], bottom[wide] = 0, (height if isinstance(height, int) else height[wide]) - 1
    return left, right, top, bottom


def _over(function: np.ufunc, values: Ints, first: Ints) -> Ints:
    """The sum, least or greatest of each group of values, none empty, that begins at `first`."""
    return function.reduceat(values, first) if len(first) else values
