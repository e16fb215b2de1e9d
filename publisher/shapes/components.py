"""
What hangs together: regions of a mask, numbered.

As everywhere here, pixels of an object that touch at a corner only are apart, and so the
background around it hangs together by corners as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BitMask = NDArray[np.bool_]
Ints = NDArray[np.int64]


def numbered(mask: BitMask, *, corners: bool = False) -> tuple[NDArray[np.int32], int]:
    """
    The region of each pixel (H, W), from 1, row by row as they begin, and how many there are.

    What is not in the mask is 0. With `corners`, pixels that touch at one hang together.
    """
    start, stop, row = _runs_of(mask)
    # run i of one row touches run j of the next where start_j < stop_i and start_i < stop_j
    low = np.searchsorted(stop, start + row, "left" if corners else "right")
    high = np.searchsorted(start, stop + row, "right" if corners else "left")
    one, step = repeated(np.maximum(high - low, 0))
    root = roots(len(start), one, low[one] + step)
    names, number = np.unique(root, return_inverse=True)
    labels = np.zeros(mask.shape, dtype=np.int32)
    labels[mask] = np.repeat(number + 1, stop - start)
    return labels, len(names)


def holes(mask: BitMask) -> tuple[NDArray[np.int32], int]:
    """The hole that each pixel (H, W) is in, from 1, and how many there are; 0 elsewhere."""
    around = np.pad(~mask, 1, constant_values=True)
    labels, count = numbered(around, corners=True)
    inner = labels[1:-1, 1:-1]
    return np.maximum(inner - 1, 0), count - 1  # region 1 begins first: the outside


def roots(n: int, one: Ints, other: Ints) -> Ints:
    """The smallest node (n,) that each of n nodes is joined to, by edges one[k] - other[k]."""
    root = np.arange(n)
    while len(one):
        a, b = root[one], root[other]
        apart = a != b
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(root, up := root[root]):
            root = up
    return root


def repeated(many: Ints) -> tuple[Ints, Ints]:
    """Each index as often as `many` says, and which of its repeats it is, from 0."""
    index = np.repeat(np.arange(len(many)), many)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(many) - many, many)


def _runs_of(mask: BitMask) -> tuple[Ints, Ints, int]:
    """Where runs along rows start and stop, and how far a row is from the next."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)  # a gap: no run goes on in the next row
    padded[:, 1:-1] = mask
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), width + 2
