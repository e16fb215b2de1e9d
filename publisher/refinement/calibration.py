"""
How sure a network must be, going by what it does to masks of one's own that people verified.

Verified objects are drawn again at every level of annotators' errors, refined, and held
against the truth. What is accepted must then do harm in at most one of a hundred objects of
each level, as the upper end of the 95 % interval: that takes 368 verified objects at least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..refine import Rules
from .scoring import interval

MOST_HARM = 0.01


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    What was found on so many verified objects.

    `confidence` is what a refined mask needs, at least. `harm` is the upper end of the interval
    of the worst level; where it is above `MOST_HARM`, there are too few objects to vouch.
    """

    objects: int
    confidence: float
    harm: float

    @property
    def vouched(self) -> bool:
        """Is there evidence enough?"""
        return self.harm <= MOST_HARM

    def raised(self, rules: Rules) -> Rules:
        """The rules, nowhere content with less confidence than was found to be needed."""
        return replace(
            rules,
            confidence=max(rules.confidence, self.confidence),
            bold_confidence=max(rules.bold_confidence, self.confidence),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "vouched": self.vouched}


def calibrated(
    levels: Mapping[str, Sequence[tuple[float, bool]]], objects: int, least: float
) -> Calibration:
    """
    The lowest confidence from `least` up that does no more than `MOST_HARM` on any level.

    Where none can be vouched for, the lowest that does no harm that was seen.

    Args:
        levels: confidence, and whether it did harm, of every mask that was refined.
        objects: how many were drawn at each level.
    """
    harms = [[score for score, does_harm in scored if does_harm] for scored in levels.values()]
    above = {math.nextafter(score, math.inf) for scores in harms for score in scores}
    needed, harm = least, 1.0
    for needed in sorted({least, *(score for score in above if score > least)}):
        seen = max((sum(score >= needed for score in scores) for scores in harms), default=0)
        harm = interval(seen, objects)[1]
        if harm <= MOST_HARM:
            break
    return Calibration(objects, needed, harm)
