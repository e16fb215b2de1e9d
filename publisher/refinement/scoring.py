"""
How good masks are, whether they got worse, and how sure a share of few can be.

Masks are (H, W) bool arrays of one size. All figures may be taken in a part of the picture, as
long as it holds both masks whole: what lies beyond it is outside both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BitMask = NDArray[np.bool_]

HARM = 0.005
"""A mask got worse where its IoU with the truth fell by more than this."""


def iou(one: BitMask, other: BitMask) -> float:
    """Intersection over union; two empty masks agree perfectly."""
    either = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / either if either else 1.0


def boundary_iou(one: BitMask, other: BitMask, diagonal: float) -> float:
    """
    The IoU of what lies within 2 % of the picture's diagonal inside each border.

    Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", 2021:
    the edge of the picture is a border, too, and distances go by 3x3 squares.

    Args:
        diagonal: of the whole picture, in pixels.
    """
    depth = max(1, round(0.02 * diagonal))
    return iou(one & ~eroded(one, depth), other & ~eroded(other, depth))


def eroded(mask: BitMask, steps: int) -> BitMask:
    """
    Pixels whose square of 2 * steps + 1 a side lies in the mask wholly; beyond the array, none.

    That is what as many erosions by 3x3 leave, in a time that does not depend on their number.
    """
    return _eroded_down(_eroded_down(mask, steps).T, steps).T


def _eroded_down(mask: BitMask, steps: int) -> BitMask:
    height, side = len(mask), 2 * steps + 1
    kept = np.zeros_like(mask)
    if height >= side:
        total = np.zeros((height + 1, mask.shape[1]), dtype=np.int32)
        np.cumsum(mask, axis=0, out=total[1:])
        kept[steps : height - steps] = total[side:] - total[:-side] == side
    return kept


def harmed(before: float, after: float) -> bool:
    """Did a mask get worse, going by its IoU with the truth?"""
    return before - after > HARM


def interval(count: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """
    Between which shares the true one lies, where `count` of so many were seen.

    Exact, from the binomial tails (Clopper and Pearson, "The use of confidence or fiducial
    limits illustrated in the case of the binomial", 1934), so never too narrow for items that
    are independent.

    Raises:
        ValueError: more were counted than there are.
    """
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of}")
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else 1 - _share_of_tail(of - count, of, tail)
    high = 1.0 if count == of else _share_of_tail(count, of, tail)
    return low, high


def _share_of_tail(count: int, of: int, tail: float) -> float:
    """The share of which at most `count` of so many are seen with probability `tail`."""
    k = np.arange(count + 1)
    factorials = np.array([math.lgamma(n + 1) for n in range(of + 1)])
    ways = factorials[of] - factorials[k] - factorials[of - k]  # in logarithms, as all below
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        terms = ways + k * math.log(share) + (of - k) * math.log1p(-share)
        if np.logaddexp.reduce(terms) > math.log(tail):
            low = share
        else:
            high = share
        if high - low < 1e-12:
            break
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Risk:
    """What accepting all scores from `score` up would do, as shares of all objects."""

    score: float
    coverage: float  # accepted
    harm: float  # accepted, and worse than before


def risks(scored: Sequence[tuple[float, bool]], of: int) -> tuple[Risk, ...]:
    """
    The risk-coverage curve, from the highest score down; equal scores go together.

    Args:
        scored: score and whether it would do harm, of each object that could be accepted.
        of: how many objects there are; those that are left alone are not harmed.
    """
    curve = []
    bad = 0
    ordered = sorted(scored, key=lambda item: -item[0])
    for taken, (score, does_harm) in enumerate(ordered, start=1):
        bad += does_harm
        if taken == len(ordered) or ordered[taken][0] != score:
            curve.append(Risk(score, taken / of, bad / of))
    return tuple(curve)
