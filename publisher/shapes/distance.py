"""
Exact Euclidean distances between pixels, in integers.

Every distance is from pixel centre to pixel centre. The square of such a distance is a whole
number, so it is kept as one: two machines agree to the last bit, and "which pixel is farthest
inside" has one answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST = 2**15
FAR = _MOST**2
"""The squared distance where there is nothing to be distant from."""


def squared(mask: NDArray[np.bool_], limit: int | None = None) -> NDArray[np.int32]:
    """
    The squared distance from each pixel to the nearest one that is False; 0 where it is itself.

    Columns first, then rows: the square of the distance is the least of g(x + dx)^2 + dx^2,
    where g is the distance along a column. No dx beyond the distance itself can win, so the
    search ends there (after Saito and Toriwaki, "New algorithms for Euclidean distance
    transformation", 1994).

    Args:
        mask: (H, W) bool. What lies beyond its edge counts as nothing, not as False.
        limit: in pixels; distances above it come back as some larger number, sooner.

    Raises:
        ValueError: a side of 32768 pixels or more, whose squares would not fit.
    """
    if max(mask.shape) >= _MOST:
        raise ValueError(f"sides of {mask.shape} pixels; at most {_MOST - 1}")
    columns = _along_columns(mask) ** 2
    best = columns.copy()
    width = mask.shape[1]
    reach = width if limit is None else min(limit + 1, width)
    for dx in range(1, reach):
        if best.max(initial=0) <= dx * dx:
            break
        np.minimum(best[:, dx:], columns[:, :-dx] + dx * dx, out=best[:, dx:])
        np.minimum(best[:, :-dx], columns[:, dx:] + dx * dx, out=best[:, :-dx])
    return best


def signed(mask: NDArray[np.bool_], limit: int | None = None) -> NDArray[np.float32]:
    """
    How deep each pixel lies inside the mask (H, W), in pixels; negative outside.

    A pixel beside the border is 1 deep, or -1; no pixel is 0.

    Args:
        limit: in pixels; what is farther is reported as exactly `limit`, or minus it.
    """
    deep = np.sqrt(squared(mask, limit), dtype=np.float32)
    deep -= np.sqrt(squared(~mask, limit), dtype=np.float32)
    return deep if limit is None else np.clip(deep, -limit, limit, out=deep)


def _along_columns(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The distance from each pixel (H, W) to the nearest False one of its column; else _MOST."""
    rows = np.arange(mask.shape[0], dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(mask, np.int32(-_MOST), rows), axis=0)
    below = np.minimum.accumulate(np.where(mask, np.int32(2 * _MOST), rows)[::-1], axis=0)[::-1]
    return np.minimum(np.minimum(rows - above, below - rows), np.int32(_MOST))
