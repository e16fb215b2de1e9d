"""NoC, the published measure of click segmentation: how many clicks until the mask is good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..refine import Click
from .clicks import Truth
from .predictor import Predictor, one_thread
from .session import ZoomIn

MAX_CLICKS = 20
THRESHOLD = 0.49  # of probabilities, in the published evaluation
_PUBLISHED_ZOOM = ZoomIn(target_size=400, skip_clicks=1)


@dataclass(frozen=True, slots=True)
class Clicked:
    """The clicks that an object took, and the IoU after each."""

    clicks: tuple[Click, ...]
    ious: tuple[float, ...]

    def until(self, iou: float) -> int:
        """The first click, counted from 1, after which the mask was so good; else MAX_CLICKS."""
        reached = (k for k, value in enumerate(self.ious, 1) if value >= iou)
        return next(reached, MAX_CLICKS)


def click_through(
    predictor: Predictor,
    image: NDArray[np.uint8],
    truth: NDArray[np.integer],
    *,
    target: float = 0.9,
    flip: bool = True,
    zoom: ZoomIn | None = _PUBLISHED_ZOOM,
) -> Clicked:
    """
    Click on the middle of the largest error until the mask is good.

    Args:
        image: (H, W, 3) uint8.
        truth: (H, W); 1 is the object, -1 does not count.
        target: IoU at which to stop; after MAX_CLICKS at the latest, or where no error is left.
    """
    goal = Truth.of(truth)
    session = predictor.session(image, flip=flip, zoom=zoom)
    mask = np.zeros(truth.shape, dtype=bool)
    clicks: list[Click] = []
    ious: list[float] = []
    while len(clicks) < MAX_CLICKS and (click := goal.next_click(mask, clicks)):
        clicks.append(click)
        with one_thread():
            mask = session.predict(clicks) > THRESHOLD
        ious.append(goal.iou(mask))
        if ious[-1] >= target:
            break
    return Clicked(tuple(clicks), tuple(ious))


def noc(results: Sequence[Clicked], iou: float) -> tuple[float, int]:
    """The mean number of clicks until an IoU, and how many objects took MAX_CLICKS."""
    counts = [result.until(iou) for result in results]
    return float(np.mean(counts)), sum(count == MAX_CLICKS for count in counts)


def evaluate(
    predictor: Predictor, samples: Iterable[tuple[NDArray[np.uint8], NDArray[np.integer]]]
) -> list[Clicked]:
    """`click_through` each (image, truth), as published."""
    return [click_through(predictor, image, truth) for image, truth in samples]
