"""
Many masks at once, as foreground runs: the form in which whole chunks of images are worked on.

One mask at a time costs a call of a C library each; a chunk of thousands costs a dozen calls
of numpy. Runs are column-major, as COCO's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .masks import MAX_PIXELS, Mask, spelled

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
    id: Ints  # (R,)


@dataclass(frozen=True, slots=True)
class Segments:
    """The segments of maps of ids, ordered by map and then by id; runs.owner numbers them."""

    height: int
    width: int
    owner: Ints  # (N,), the map of each
    id: Ints  # (N,)
    runs: Runs  # of each in its own map
    first: Ints  # (N,), the first run of each

    def masks(self) -> list[Mask]:
        """The mask of each."""
        size = np.full(len(self.id), self.height * self.width, dtype=np.int64)
        return [Mask(self.height, self.width, counts) for counts in counts_of(self.runs, size)]

    def boxes(self) -> Ints:
        """The tight box of each, (N, 4) xywh in pixels."""
        x, right, top, bottom = _corners(self.runs, self.height)
        last = np.append(self.first, len(x))[1:] - 1
        x, y = x[self.first], _over(np.minimum, top, self.first)
        low, high = [x, y], [right[last], _over(np.maximum, bottom, self.first)]
        return np.stack([*low, *(b - a + 1 for a, b in zip(low, high, strict=True))], axis=1)

    def areas(self) -> Ints:
        """The pixels of each, (N,)."""
        return _over(np.add, self.runs.stop - self.runs.start, self.first)


def segments_of(maps: IdRuns) -> Segments:
    """Gather the runs of each id of each map."""
    size = maps.height * maps.width
    at = maps.start // size
    keys = _keys(maps.id, at)
    order = np.argsort(keys, kind="stable")
    first = heads(keys[order])
    number = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    shift = at * size
    runs = Runs((maps.start - shift)[order], (maps.stop - shift)[order], number, len(first))
    head = order[first]
    return Segments(maps.height, maps.width, at[head], maps.id[head], runs, first)


def _keys(ids: Ints, at: Ints) -> NDArray[Any]:
    """Numbers that order runs by `at` and then by id, of as few bits as will do."""
    if not len(ids):
        return ids
    lowest = ids.min()
    keys = at * (ids.max() - lowest + 1) + (ids - lowest)
    small: NDArray[Any] = keys.astype(np.min_scalar_type(keys.max()))
    return small


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
    first = np.searchsorted(runs.owner, np.arange(runs.count))
    many = 2 * np.diff(first, append=len(runs.owner)) + 1  # gap, run, gap, ..., gap
    last = np.cumsum(many) - 1
    ends = np.empty(2 * len(runs.owner) + runs.count, dtype=runs.start.dtype)
    at_run = 2 * np.arange(len(runs.owner)) + runs.owner
    ends[at_run], ends[at_run + 1], ends[last] = runs.start, runs.stop, sizes
    counts = ends.copy()
    counts[1:] -= ends[:-1]
    first = last - many + 1
    counts[first] = ends[first]
    deltas = counts.copy()
    deltas[3:] -= counts[1:-2]
    few = first[:, None] + np.arange(3)  # up to the third, numbers stand for themselves
    few = few[few <= last[:, None]]
    deltas[few] = counts[few]
    full = (counts[last] == 0) & (many > 1)  # a mask that ends with its image has no last gap
    if full.any():
        deltas = np.delete(deltas, last[full])
    body, used = spelled(deltas)
    edges = np.append(0, np.cumsum(used)[np.cumsum(many - full) - 1]).tolist()
    return [body[a:b] for a, b in pairwise(edges)]


def boxes_of(runs: Runs, heights: Ints | int) -> Ints:
    """
    The tight boxes of all masks as COCO's xywh, (N, 4), in pixels; all 0 where empty.

    The runs may come in any order.

    Args:
        heights: of the image of each mask, (N,), or of all.
    """
    height = heights if isinstance(heights, int) else heights.take(runs.owner)
    left, right, top, bottom = _corners(runs, height)
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


def _corners(runs: Runs, height: Ints | int) -> tuple[Ints, Ints, Ints, Ints]:
    """The first and last column and the first and last row of each run, (R,) each."""
    last = runs.stop - 1
    left, right = runs.start // height, last // height
    top, bottom = runs.start - left * height, last - right * height
    wide = np.flatnonzero(right > left)  # a run that crosses columns reaches from top to bottom
    top[wide], bottom[wide] = 0, (height if isinstance(height, int) else height[wide]) - 1
    return left, right, top, bottom


def _over(function: np.ufunc, values: Ints, first: Ints) -> Ints:
    """The sum, least or greatest of each group of values, none empty, that begins at `first`."""
    return function.reduceat(values, first) if len(first) else values
