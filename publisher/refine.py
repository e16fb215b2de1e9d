"""
Refinement: masks that hug their objects, from polygons that only meant to.

This module decides and touches no file: what may be refined, where a mask may change, what to
ask a network, and when to believe it. Any `Predictor` will do; ours live in `ritm/`. What is
not clearly better stays as it was, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .dataset import Sample
from .masks import Mask


@dataclass(frozen=True, slots=True)
class Click:
    """A point that belongs to the object, or (`positive=False`) does not; in pixels."""

    row: float
    col: float
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Crop:
    """
    One question to a network: where in this part of a picture is the object?

    `image` is (h, w, 3) uint8 RGB at the picture's own resolution. `prior` (h, w) float32 is
    the probability of each pixel as far as it is known: RITM's previous mask. `clicks` are in
    pixels of the crop. `zoom` says how many pixels of the network lie along one of the crop.
    With `flip` the answer is the mean over the crop and its mirror image.
    """

    image: NDArray[np.uint8]
    prior: NDArray[np.float32]
    clicks: tuple[Click, ...] = ()
    zoom: float = 1.0
    flip: bool = False


class Predictor(Protocol):
    """A network that finds an object from a rough mask and clicks."""

    @property
    def digest(self) -> str:
        """The sha256 of its weights, in hex: what a refined mask was made with."""

    def predict(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        """
        The logits of each crop, (h, w) float32, at the crop's own resolution.

        The answer to a crop does not depend on the others, on their order or number.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a segment, and why."""

    segment_id: int
    reason: str
    route: str
    scores: Mapping[str, float]
    before: Mask | None
    after: Mask | None


@dataclass(frozen=True, slots=True)
class Refined:
    """A picture's segments after refinement, and what became of each."""

    sample: Sample
    outcomes: tuple[Outcome, ...]


def refine(
    pictures: Sequence[tuple[Sample, NDArray[np.uint8]]], predictors: Sequence[Predictor]
) -> list[Refined]:
    """Stand-in until the real one comes: nothing is refined."""
    del predictors
    return [Refined(sample, ()) for sample, _ in pictures]
