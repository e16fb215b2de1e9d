"""Which masks share pixels, for whole chunks of images at once, and never for hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..masks import Mask
from ..shapes.runs import Ints, runs_of

MAX_CHARACTERS = 2**24  # of masks that are compared: some 1 GB while it lasts
MAX_MEETINGS = 2**24  # of their runs: seconds
MAX_PAIRS = 2**16  # each may become a finding
_FEW = 256  # masks in an image of which all boxes are held against each other
_BATCH = 2**18  # pairs worked on at once
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of masks that share pixels: i < j and how many, in this order."""

    pairs: tuple[tuple[int, int, int], ...]
    compared: int  # how many masks, from the first on; not all where that would take too long


def overlaps_of(masks: Sequence[Mask | None], edges: Sequence[int], boxes: Ints) -> list[Overlaps]:
    """
    The overlaps within each group of masks; pairs count from its start.

    Args:
        edges: group g is masks edges[g] .. edges[g + 1] - 1, all of one image.
        boxes: the tight boxes of the masks, (N, 4) COCO xywh in pixels.
    """
    near = _near(np.array(edges, dtype=np.int64), boxes).tolist()
    kept = [mask if meets else None for mask, meets in zip(masks, near, strict=True)]
    groups = [kept[a:b] for a, b in pairwise(edges)]
    together = _pairs(groups)
    if together is None or any(len(pairs) > MAX_PAIRS for pairs in together):
        return [_of_one(group) for group in groups]
    return [Overlaps(tuple(p), len(g)) for p, g in zip(together, groups, strict=True)]


def followers(many: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of each i with the many[i] positions after it, in order, a batch at a time."""
    batch = np.cumsum(many) // _BATCH
    cuts = [*np.flatnonzero(np.diff(batch, prepend=-1)).tolist(), len(many)]
    for a, b in pairwise(cuts):
        i = np.repeat(np.arange(a, b), many[a:b])
        before = np.cumsum(many[a:b]) - many[a:b]
        yield i, np.arange(len(i)) + (np.arange(a + 1, b + 1) - before)[i - a]


def _near(edges: Ints, boxes: Ints) -> NDArray[np.bool_]:
    """Which boxes meet another of their group, (N,); in large groups, all that are not empty."""
    many = np.diff(edges)
    large = many > _FEW
    low, high = boxes[:, :2].T, (boxes[:, :2] + boxes[:, 2:]).T
    near = np.repeat(large, many) & (boxes[:, 2] > 0)
    left = np.repeat(edges[1:], many) - np.arange(1, len(boxes) + 1)
    for i, j in followers(np.where(np.repeat(large, many), 0, left)):
        meet = (np.minimum(high[:, i], high[:, j]) > np.maximum(low[:, i], low[:, j])).all(axis=0)
        near[i[meet]] = near[j[meet]] = True
    return near


def _of_one(group: Sequence[Mask | None]) -> Overlaps:
    """Compare half as many until it can be done."""
    n = len(group)
    while (found := _pairs([group[:n]])) is None:
        n //= 2
    (pairs,) = found
    if len(pairs) > MAX_PAIRS:
        n = sorted(j for _, j, _ in pairs)[MAX_PAIRS]
        pairs = [pair for pair in pairs if pair[1] < n]
    return Overlaps(tuple(pairs), n)


def _pairs(groups: Sequence[Sequence[Mask | None]]) -> list[list[tuple[int, int, int]]] | None:
    """
    All overlapping pairs of each group, or None where that takes too long.

    Runs of all masks are sorted by where they start in their image, images one after the
    other; each then meets the next ones that start before it stops.
    """
    place = [(g, n) for g, group in enumerate(groups) for n, m in enumerate(group) if m is not None]
    masks = [mask for group in groups for mask in group if mask is not None]
    found: list[list[tuple[int, int, int]]] = [[] for _ in groups]
    if len(masks) < 2:
        return found
    if sum(len(mask.counts) for mask in masks) > MAX_CHARACTERS:
        return None
    sizes = np.array([m.height * m.width for m in masks], dtype=np.int64)
    fresh = np.diff([g for g, _ in place], prepend=-1) > 0
    base = np.cumsum(np.where(fresh, np.append(0, sizes[:-1]), 0))  # an image ends, the next begins
    runs = runs_of(masks)
    start, stop = runs.start + base[runs.owner], runs.stop + base[runs.owner]
    order = np.argsort(start, kind="stable")
    start, stop, owner = start[order], stop[order], runs.owner[order]
    many = np.searchsorted(start, stop) - np.arange(1, len(start) + 1)
    if many.sum() > MAX_MEETINGS:
        return None
    key, total = _NONE, _NONE
    for i, j in followers(many):
        low, high = np.minimum(owner[i], owner[j]), np.maximum(owner[i], owner[j])
        shared = np.minimum(stop[i], stop[j]) - start[j]
        key, total = _summed(np.append(key, low * len(masks) + high), np.append(total, shared))
        if len(key) > 8 * MAX_PAIRS:
            return None
    first, second = np.divmod(key, len(masks))
    for a, b, n in zip(first.tolist(), second.tolist(), total.tolist(), strict=True):
        group, at = place[a]
        found[group].append((at, place[b][1], n))
    return found


def _summed(keys: Ints, values: Ints) -> tuple[Ints, Ints]:
    """Each key once, ascending, and the sum of its values."""
    key, each = np.unique(keys, return_inverse=True)
    return key, np.bincount(each, values, len(key)).astype(np.int64)
