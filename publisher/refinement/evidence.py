"""What a picture says of pixels that an object is about to lose."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .scoring import BitMask

_NOISE = 3.0  # grey levels by which pixels of one thing differ at least
_FEWEST = 12  # pixels that colours are told of


def strangeness(image: NDArray[np.uint8], lost: BitMask, beyond: BitMask) -> float:
    """
    How unlike its new surroundings is what an object loses? In standard deviations.

    The Mahalanobis distance of the mean colours of two parts of a picture, by the mean of their
    covariances. Pixels at a border are mixed, and should be in neither.

    Args:
        image: (H, W, 3) RGB.
        lost, beyond: (H, W), what would leave the object, and what lies outside already.

    Returns:
        Infinity where there are too few pixels to tell.
    """
    here, there = image[lost], image[beyond]
    if min(len(here), len(there)) < _FEWEST:
        return math.inf
    one, other = (pixels.astype(np.float64) for pixels in (here, there))
    spread = (np.cov(one.T) + np.cov(other.T)) / 2 + np.eye(3) * _NOISE**2
    apart = one.mean(axis=0) - other.mean(axis=0)
    return math.sqrt(float(apart @ np.linalg.solve(spread, apart)))
