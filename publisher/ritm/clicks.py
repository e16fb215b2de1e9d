"""
Clicks: as the network reads them, and as the published evaluation makes them.

The evaluation's annotator clicks on the middle of the largest error: the pixel farthest from
the border of what is missing, or of what is too much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UsageError
from ..refine import Click
from ..shapes.distance import squared

IGNORED = -1  # in ground truth: neither object nor background

_KINDS = (True, False)  # in the order in which the network reads them


def points_of(rows: Sequence[Sequence[Click]]) -> torch.Tensor:
    """
    Clicks of B pictures as the network reads them: (B, 2N, 3) float32.

    N is the largest number of clicks of one kind, at least 1; (-1, -1, -1) fills up.
    """
    counts = [sum(bool(c.positive) is kind for c in clicks) for clicks in rows for kind in _KINDS]
    points = torch.full((len(rows), 2, max([1, *counts]), 3), -1.0, dtype=torch.float64)
    for b, clicks in enumerate(rows):
        taken = [0, 0]
        for order, click in enumerate(clicks):
            kind = 0 if click.positive else 1
            points[b, kind, taken[kind]] = torch.tensor((click.row, click.col, order))
            taken[kind] += 1
    return points.flatten(1, 2).float()


def check(clicks: Sequence[Click], height: int, width: int) -> None:
    """
    Refuse clicks that no one can have made in a picture of this size.

    Raises:
        UsageError: not a number, or outside.
    """
    for index, click in enumerate(clicks):
        if not (math.isfinite(click.row) and math.isfinite(click.col)):
            raise UsageError(f"click {index} is at row {click.row}, column {click.col}")
        if not (-1 < click.row < height and -1 < click.col < width):
            raise UsageError(
                f"click {index} at row {click.row:g}, column {click.col:g} is outside the "
                f"image, which has {height} rows and {width} columns"
            )


def mirrored(clicks: Sequence[Click], width: int) -> list[Click]:
    """Clicks of the picture seen in a mirror beside it."""
    return [Click(c.row, width - c.col - 1, c.positive) for c in clicks]


@dataclass(frozen=True, slots=True)
class Truth:
    """Where the object is, and where it does not count; both (H, W) bool."""

    object: NDArray[np.bool_]
    ignored: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: NDArray[np.integer]) -> Truth:
        """From labels (H, W): 1 is the object, -1 is ignored, the rest is background."""
        return cls(labels == 1, labels == IGNORED)

    def iou(self, mask: NDArray[np.bool_]) -> float:
        """Intersection over union where it counts; 1 for an empty mask of an empty object."""
        both = (mask & self.object & ~self.ignored).sum()
        either = ((mask | self.object) & ~self.ignored).sum()
        return float(both / either) if either else 1.0

    def next_click(self, mask: NDArray[np.bool_], made: Sequence[Click] = ()) -> Click | None:
        """
        Where an annotator clicks who sees this mask: None where no error is left.

        The farthest pixel from the border of the errors of its kind, the first by rows among
        equals, where no click was `made` before. What is too much goes first among equals.
        """
        depths = []
        for error in (~self.object & mask & ~self.ignored, self.object & ~mask & ~self.ignored):
            depth = squared(np.pad(error, 1))[1:-1, 1:-1]
            for click in made:
                depth[int(click.row), int(click.col)] = 0
            depths.append(depth)
        surplus, missing = depths
        positive = bool(missing.max() > surplus.max())
        depth = missing if positive else surplus
        row, col = np.unravel_index(int(depth.argmax()), depth.shape)
        if not depth[row, col]:
            return None
        return Click(int(row), int(col), positive)
