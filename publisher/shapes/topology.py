"""
New masks hang together as the old ones do: no part lost, none added, no hole more or less.

A change is split into what it takes from a mask and what it adds. Each half is mended on its
own, so that what is left after taking can be promised to neighbours before anyone adds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .components import BitMask, Ints, holes, numbered

Labels = NDArray[np.int32]


def without(mask: BitMask, lost: BitMask, open_: BitMask) -> BitMask:
    """
    The mask (H, W) less what is `lost`, as far as its parts stay whole.

    Only what is `open_` changes.

    What a part loses it keeps where it would vanish, fall in two or get a hole; crumbs that
    come off are lost, too. Where that cannot be mended, nothing is lost.
    """
    left = mask & ~lost
    parts, count = numbered(mask)
    gone = np.setdiff1d(np.arange(1, count + 1), parts[left])
    left |= np.isin(parts, gone)
    left = _mended(left, mask, open_)
    return left if _as_whole(left, mask) else mask


def added(left: BitMask, gained: BitMask, mask: BitMask) -> BitMask:
    """
    What `without` left of a mask, and what is `gained`, as far as it hangs together with it.

    Islands are dropped, and whole additions where a hole would close or open.
    """
    grown = left | gained
    parts, count = numbered(grown)
    islands = np.setdiff1d(np.arange(1, count + 1), parts[left])
    grown &= ~np.isin(parts, islands)
    if _as_whole(grown, mask):
        return grown
    pieces, _ = numbered(grown & ~left)
    inside, _ = holes(grown)
    old, _ = holes(mask)
    beside = _touching(pieces, (inside > 0) & (old == 0)) | _touching(pieces, old > 0)
    grown &= ~beside
    return grown if _as_whole(grown, mask) else left


def _mended(left: BitMask, mask: BitMask, open_: BitMask) -> BitMask:
    """Give back what splits a part or makes a hole; drop what still comes off."""
    parts, count = numbered(left)
    olds, old_count = numbered(mask)
    if count > old_count:
        left = _joined(left, mask, parts, olds, open_)
    new, number = holes(left)
    if number:
        old, _ = holes(mask)
        kept = np.unique(new[old > 0])  # a hole that was there may be wider now
        left = left | (mask & (new > 0) & ~np.isin(new, kept))
    return left


def _joined(left: BitMask, mask: BitMask, parts: Labels, olds: Labels, open_: BitMask) -> BitMask:
    """Drop crumbs, and give back each loss that parts two pieces larger than crumbs."""
    sizes = np.bincount(parts.ravel())
    wholes = np.bincount(olds.ravel())
    old_of = np.zeros(len(sizes), dtype=np.int64)
    old_of[parts[left]] = olds[left]
    largest = np.zeros(len(wholes), dtype=np.int64)
    np.maximum.at(largest, old_of[1:], sizes[1:])
    crumb = (sizes < _CRUMB * wholes[old_of]) & (sizes < largest[old_of])
    crumb[parts[~open_]] = False
    crumb[0] = False
    left = left & ~crumb[parts]
    lost, count = numbered(mask & ~left)
    parts, pieces = numbered(left)
    if not count or pieces <= olds.max():
        return left
    neighbours = _pairs(lost, parts)
    many = np.bincount(neighbours[:, 0], minlength=count + 1)
    return left | (many > 1)[lost]


_CRUMB = 0.01  # of a part


def _as_whole(new: BitMask, mask: BitMask) -> bool:
    """Parts and holes no more than before, and each of before still there."""
    parts, count = numbered(mask)
    if numbered(new)[1] > count or len(np.unique(parts[new & mask])) < count:
        return False
    old, number = holes(mask)
    return holes(new)[1] <= number and len(np.unique(old[(old > 0) & ~new])) == number


def _pairs(one: Labels, other: Labels) -> Ints:
    """The pairs of regions (N, 2), one of each map, that have pixels side by side."""
    width = int(other.max()) + 1
    found = [np.zeros(0, dtype=np.int64)]
    for a, b in ((one[1:], other[:-1]), (one[:-1], other[1:])):
        found.append(np.unique((a.astype(np.int64) * width + b)[(a > 0) & (b > 0)]))
    for a, b in ((one[:, 1:], other[:, :-1]), (one[:, :-1], other[:, 1:])):
        found.append(np.unique((a.astype(np.int64) * width + b)[(a > 0) & (b > 0)]))
    keys = np.unique(np.concatenate(found))
    return np.stack([keys // width, keys % width], axis=1)


def _touching(regions: Labels, mask: BitMask) -> BitMask:
    """Those regions that have a pixel beside the mask."""
    ids = _pairs(regions, mask.astype(np.int32))[:, 0]
    return np.isin(regions, ids) & (regions > 0)
