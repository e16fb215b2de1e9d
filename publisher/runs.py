"""
Many masks at once, as foreground runs: the form in which whole chunks of images are worked on.

One mask at a time costs a call of a C library each; a chunk of thousands costs a dozen calls
of numpy. Runs are column-major, as COCO's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .masks import Mask

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
