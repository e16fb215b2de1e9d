"""
How sure a network must be on one's own pictures: measured on masks that people have verified.

The shipped threshold was chosen on other people's pictures. Who has verified masks can choose
their own: outlines as drawn are refined, held against the verified masks, and the threshold is
the lowest that keeps harm rare, as far as so many objects can show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .errors import UsageError
from .refine import Rules
from .scoring import interval, risks


def calibrated(
    rules: Rules,
    proposed: Sequence[tuple[float, bool]],
    of: int,
    *,
    most: float = 0.01,
    certainty: float = 0.95,
) -> Rules:
    """
    Rules that believe as much as verified objects allow.

    Thresholds are tried from the highest down until one's upper bound of harm is too high, so
    that trying many does not make luck of it (Angelopoulos et al., "Learn then Test", 2021:
    fixed sequence testing; the bound is Clopper and Pearson's).

    Args:
        proposed: the score `confidence` of each mask that a network proposed, and whether it
            would be worse than what was drawn; made with rules that believe everything.
        of: the number of verified objects, those that nothing was proposed for among them.
        most: the share of objects that may be harmed.

    Raises:
        UsageError: so few objects show nothing, or even the surest masks do harm.
    """
    doubt = 2 * certainty - 1  # one side of an interval
    if interval(0, of, doubt)[1] > most:
        enough = next(n for n in range(of, 10**7) if interval(0, n, doubt)[1] <= most)
        raise UsageError(
            f"{of} verified objects cannot show that harm is below {most:.1%}",
            hint=f"it takes {enough} with none harmed, and more with some",
        )
    chosen = None
    for risk in risks(proposed, of):
        if interval(round(risk.harm * of), of, doubt)[1] > most:
            break
        chosen = risk.score
    if chosen is None:
        raise UsageError(
            "even the masks that the networks are surest of do harm here",
            hint="train on your own verified masks: publisher ritm train",
        )
    return replace(rules, confidence=chosen, bold_confidence=max(chosen, rules.bold_confidence))
