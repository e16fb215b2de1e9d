"""What the colours of a picture say of pixels that are about to change sides."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .scoring import BitMask

_NOISE = 3.0  # grey levels by which pixels of one thing differ at least
_FEWEST = 12  # pixels that colours are told of


def strangeness(image: NDArray[np.uint8], moved: BitMask, there: BitMask) -> float:
    """
    How unlike where it goes is what changes sides? In standard deviations.

    The Mahalanobis distance of the mean colours of two parts of a picture, by the mean of their
    covariances. Pixels at a border are mixed, and should be in neither.

    Args:
        image: (H, W, 3) RGB.
        moved, there: (H, W), what changes sides, and what is on that side already.

    Returns:
        Infinity where there are too few pixels to tell.
    """
    one, other = (image[part].astype(np.float64) for part in (moved, there))
    if min(len(one), len(other)) < _FEWEST:
        return math.inf
    spread = (np.cov(one.T) + np.cov(other.T)) / 2 + np.eye(3) * _NOISE**2
    apart = one.mean(axis=0) - other.mean(axis=0)
    return math.sqrt(float(apart @ np.linalg.solve(spread, apart)))
