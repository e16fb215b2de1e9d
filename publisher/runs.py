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

Ints = NDArray[np.int64]


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
    A map of ids, (height, width), as runs of one id each, ordered by position.

    Run i covers the column-major pixels start[i] .. stop[i] - 1. No run is empty, and where
    two of one id touch, they are one. Pixels that no run covers belong to nobody.
    """

    height: int
    width: int
    start: Ints  # (R,)
    stop: Ints  # (R,)
    id: Ints  # (R,)

    def without(self, id_: int) -> IdRuns:
        """Give the pixels of an id to nobody."""
        kept = self.id != id_
        return IdRuns(self.height, self.width, self.start[kept], self.stop[kept], self.id[kept])

    def by_id(self) -> tuple[Ints, Runs]:
        """All ids, ascending, (N,), and the runs of each; owner i is the i-th id."""
        ids, owner = np.unique(self.id, return_inverse=True)
        order = np.argsort(owner, kind="stable")
        return ids, Runs(self.start[order], self.stop[order], owner[order], len(ids))

    def masks(self) -> dict[int, Mask]:
        """The mask of each id, by ascending id."""
        ids, runs = self.by_id()
        sizes = np.full(len(ids), self.height * self.width, dtype=np.int64)
        masks = (Mask(self.height, self.width, c) for c in counts_of(runs, sizes))
        return dict(zip(ids.tolist(), masks, strict=True))


def masks_of_ids(ids: NDArray[Any]) -> dict[int, Mask]:
    """The mask of each value of a map of integers, (H, W), by ascending value; 0 is one, too."""
    return runs_of_ids(ids).masks()


def runs_of_ids(ids: NDArray[Any]) -> IdRuns:
    """Every pixel of a map of integers, (H, W), of any type; the map is not transposed."""
    height, width = ids.shape
    row, column = np.divmod(np.flatnonzero(ids[1:] != ids[:-1]), width)  # np.nonzero takes 9x
    tops = np.flatnonzero(ids[0, 1:] != ids[-1, :-1]) + 1
    inside = column * height + row + 1
    start = np.sort(np.concatenate([np.zeros(1, np.int64), inside, tops * height]))
    stop = np.append(start[1:], height * width)
    column, row = np.divmod(start, height)
    return IdRuns(height, width, start, stop, ids[row, column].astype(np.int64))


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
    first = np.cumsum(many) - many
    ends = np.empty(2 * len(runs.owner) + runs.count, dtype=np.int64)
    at_run = 2 * np.arange(len(runs.owner)) + runs.owner
    ends[at_run], ends[at_run + 1], ends[first + many - 1] = runs.start, runs.stop, sizes
    counts = np.diff(ends, prepend=0)
    counts[first] = ends[first]
    place = np.arange(len(ends)) - np.repeat(first, many)
    later = np.flatnonzero(place > 2)
    numbers = counts.copy()
    numbers[later] -= counts[later - 2]
    kept = (counts > 0) | (place == 0)  # a mask that ends with its image has no last gap
    chars, used = spelled(numbers[kept])
    body = chars.tobytes()
    cuts = np.append(0, np.cumsum(used))[np.append(0, np.cumsum(kept))]
    edges = [*cuts[first].tolist(), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


def boxes_of(runs: Runs, heights: Ints) -> Ints:
    """
    The tight boxes of all masks as COCO's xywh, (N, 4), in pixels; all 0 where empty.

    Args:
        heights: of the image of each mask, (N,).
    """
    height = heights[runs.owner]
    left, right = runs.start // height, (runs.stop - 1) // height
    wide = right > left  # a run that crosses columns reaches from top to bottom
    top = np.where(wide, 0, runs.start % height)
    bottom = np.where(wide, height - 1, (runs.stop - 1) % height)
    boxes = np.zeros((runs.count, 4), dtype=np.int64)
    head = np.flatnonzero(np.diff(runs.owner, prepend=-1))
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
