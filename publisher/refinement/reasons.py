"""
Why refinement left a segment as it was, in a sentence for the people who look at its report.

The words are those of `eligibility` and `refine`; docs/refinement.md says more.
"""

from __future__ import annotations

_WHY = {
    "refined": "its mask has new pixels",
    "brush mask": "drawn pixel by pixel already",
    "crowd": "no single object",
    "verified": "a person has vouched for it",
    "no free outline": "boxes and ellipses were not drawn around an object",
    "empty": "it has no pixels",
    "too small": "a pixel of doubt is too large a share of it",
    "fine already": "its vertices are dense, or it is off by a pixel; refiners harm such outlines",
    "too thin": "nowhere deeper than what may change, or longer than a network can see",
    "no usable answer": "a network gave no numbers for it",
    "nothing to change": "the network agrees with the outline",
    "does not know the object": "the network contradicts what is certain of it",
    "too large a change": "the network means something else than the annotator",
    "colours speak against it": "it would grow or shrink much, by what looks like the other side",
    "not steady": "the network says something else at another size of the picture",
    "not confident": "the network is unsure of what it would change",
    "picture of another size": "the picture does not fit its annotation",
    "no picture": "missing, damaged or turned: see below",
}


def why(reason: str) -> str:
    """What a reason means; "" for one that says it all."""
    return _WHY.get(reason, "")
