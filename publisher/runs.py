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

from .masks import Mask, spelled

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
        weights = np.bincount(self.owner, self.stop - self.start, self.count)
        return weights.astype(np.int64)


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

    def masks(self) -> list[Mask]:
        """The mask of each."""
        size = np.full(len(self.id), self.height * self.width, dtype=np.int64)
        return [Mask(self.height, self.width, counts) for counts in counts_of(self.runs, size)]

    def boxes(self) -> Ints:
        """The tight box of each, (N, 4) xywh in pixels."""
        return boxes_of(self.runs, self.height)


def segments_of(maps: IdRuns) -> Segments:
    """Gather the runs of each id of each map."""
    size = maps.height * maps.width
    at = maps.start // size
    order = _order(maps.id, at)
    id_, owner = maps.id[order], at[order]
    first = heads(id_, owner)
    number = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    shift = owner * size
    runs = Runs(maps.start[order] - shift, maps.stop[order] - shift, number, len(first))
    return Segments(maps.height, maps.width, owner[first], id_[first], runs)


def _order(ids: Ints, at: Ints) -> Ints:
    """Sort by `at`, then by id, and leave the rest as it is."""
    if not len(ids):
        return ids
    lowest = ids.min()
    keys = at * (ids.max() - lowest + 1) + (ids - lowest)
    return np.argsort(keys.astype(np.min_scalar_type(keys.max())), kind="stable")


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
    numbers, first = _numbers([m.counts for m in masks])
    many = np.diff(np.append(first, len(numbers)))
    owner = np.repeat(np.arange(len(masks)), many)
    place = np.arange(len(numbers)) - np.repeat(first, many)
    counts = _undo_deltas(numbers, place, owner)
    end = np.cumsum(counts)
    end -= np.repeat(end[first[many > 0]] - counts[first[many > 0]], many[many > 0])
    inside = (place & 1 == 1) & (counts > 0)
    return Runs(end[inside] - counts[inside], end[inside], owner[inside], len(masks))


def counts_of(runs: Runs, sizes: Ints) -> list[bytes]:
    """
    The compressed counts of all masks in one pass, canonical: the inverse of `runs_of`.

    Args:
        sizes: pixels, height x width, of the image of each mask, (N,).
    """
    many = 2 * np.bincount(runs.owner, minlength=runs.count) + 1  # gap, run, gap, ..., gap
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

    Args:
        heights: of the image of each mask, (N,), or of all.
    """
    height = heights if isinstance(heights, int) else heights[runs.owner]
    end = runs.stop - 1
    left, right = runs.start // height, end // height
    wide = right > left  # a run that crosses columns reaches from top to bottom
    top = np.where(wide, 0, runs.start - left * height)
    bottom = np.where(wide, height - 1, end - right * height)
    boxes = np.zeros((runs.count, 4), dtype=np.int64)
    head = heads(runs.owner)
    if not len(head):
        return boxes
    x, y = np.minimum.reduceat(left, head), np.minimum.reduceat(top, head)
    w = np.maximum.reduceat(right, head) - x + 1
    h = np.maximum.reduceat(bottom, head) - y + 1
    boxes[runs.owner[head]] = np.stack([x, y, w, h], axis=1)
    return boxes


def _numbers(strings: Sequence[bytes]) -> tuple[Ints, Ints]:
    """The numbers of all compressed strings in a row, and where each string's begin, (N,)."""
    chars = np.frombuffer(b"".join(strings), np.uint8).astype(np.int64) - 48
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    stop = np.flatnonzero((chars & 0x20) == 0)  # the last character of each number
    start = np.append(0, stop[:-1] + 1)[: len(stop)]
    size = stop - start + 1
    place = np.arange(len(chars)) - np.repeat(start, size)
    numbers = np.add.reduceat((chars & 0x1F) << (5 * place), start) if len(start) else chars
    numbers -= np.where(chars[stop] & 0x10, np.int64(1) << (5 * size), 0)
    begin = np.cumsum(lengths) - lengths
    return numbers, np.searchsorted(stop, begin)


def _undo_deltas(numbers: Ints, place: Ints, owner: Ints) -> Ints:
    """From the fourth on, a number is the difference to the one two places before it."""
    counts = numbers.copy()
    for parity, lowest in ((1, 1), (0, 2)):
        chosen = np.flatnonzero((place & 1 == parity) & (place >= lowest))
        if not len(chosen):
            continue
        total = np.cumsum(numbers[chosen])
        head = np.flatnonzero(np.diff(owner[chosen], prepend=-1))
        before = total[head] - numbers[chosen[head]]
        counts[chosen] = total - np.repeat(before, np.diff(np.append(head, len(chosen))))
    return counts
