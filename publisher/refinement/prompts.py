"""
Clicks for networks that find objects by them, made from a rough mask.

Only where the annotation is certain: deep inside the object, outside of it, in its holes and
in its neighbours. Never near the border, which is what the network is asked about.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..shapes.components import BitMask, Ints, numbered

MOST = 24
"""Clicks of a kind; RITM was trained on no more."""
_EACH = 5  # in one part of the object
APART = 6.0
"""Pixels between a click and the border: RITM draws a click as a disk of 5."""


def inside(depth: NDArray[np.float32], reach: float) -> list[tuple[int, int]]:
    """
    Pixels (row, column) to click on in an object, the deepest of each part first.

    Then those farthest from all before, so that a long object is clicked along its length.

    Args:
        depth: (H, W) how deep each pixel lies in the object, in pixels.
        reach: pixels less deep than this are never clicked.
    """
    sure = depth >= max(reach, APART)
    return _spread(sure, depth, _EACH)


def outside(depth: NDArray[np.float32], reach: float, neighbours: BitMask) -> list[tuple[int, int]]:
    """
    Pixels (row, column) to click on around an object: holes and neighbours, then far corners.

    Args:
        depth: (H, W), negative outside the object.
        reach: pixels less far from it than this are never clicked.
        neighbours: (H, W) pixels of other objects.
    """
    sure = depth <= -max(reach, APART)
    taken = _spread(sure & neighbours, -depth, 1)
    found = [*taken, *_spread(sure & ~neighbours, -depth, 4)]
    return found[:MOST]


def _spread(sure: BitMask, depth: NDArray[np.float32], each: int) -> list[tuple[int, int]]:
    labels, count = numbered(sure)
    if not count:
        return []
    sizes = np.bincount(labels.ravel())[1:]
    found = list[tuple[int, int]]()
    for label in 1 + np.argsort(-sizes, kind="stable")[:MOST]:
        found += _farthest(labels == label, depth, each)
        if len(found) >= MOST:
            break
    return found[:MOST]


def _farthest(region: BitMask, depth: NDArray[np.float32], most: int) -> list[tuple[int, int]]:
    """The deepest pixel of a region, then those farthest from all before; at most so many."""
    at: Ints = np.argwhere(region)
    inner = depth[region]
    deepest = at[inner == inner.max()]  # many, where depths are cut off: the one in their middle
    middle = deepest[np.argmin(((deepest - deepest.mean(axis=0)) ** 2).sum(axis=1))]
    chosen = [int(np.flatnonzero((at == middle).all(axis=1))[0])]
    gap = ((at - at[chosen[0]]) ** 2).sum(axis=1)
    least = float(inner[chosen[0]]) ** 2
    while len(chosen) < most and gap.max() > max(4 * APART**2, least):
        best = int(np.argmax(gap))
        chosen.append(best)
        gap = np.minimum(gap, ((at - at[best]) ** 2).sum(axis=1))
    return [(int(at[k, 0]), int(at[k, 1])) for k in chosen]
