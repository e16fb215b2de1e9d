"""
How annotators err: coarse polygons drawn over precise masks.

Training a refiner and judging one both need masks as people draw them, beside the truth. A
`Hand` says how a person draws, in units of the object's size s = sqrt(area), because a hand
that clicks every tenth of an object does so on large and small ones alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..masks import Mask, Polygons
from ..shapes.outlines import trace

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hand:
    """How a person draws; all lengths are shares of s = sqrt(area of the object)."""

    tolerance: float  # no vertex where the outline strays less than this from a straight line
    jitter: float  # standard deviation of each coordinate of each vertex
    growth: float = 0.0  # outlines run this far outside the object; negative: inside it
    shift: float = 0.0  # the whole outline lies this far off, in some direction


LEVELS: Mapping[str, Hand] = MappingProxyType(
    {
        "fine": Hand(0.01, 0.003),
        "mild": Hand(0.03, 0.01),
        "medium": Hand(0.05, 0.02),
        "coarse": Hand(0.08, 0.03),
        "biased": Hand(0.05, 0.015, growth=0.04),
        "shifted": Hand(0.05, 0.015, shift=0.05),
    }
)
"""The levels at which refinement is judged, from good to bad, then two that are wrong all over."""

_LEAST_AREA = 30.0  # square pixels; parts below it no hand draws


def draw(mask: Mask, hand: Hand, rng: np.random.Generator) -> Polygons:
    """
    Outline a mask as a person would: one ring a part, holes ignored, vertices astray.

    Rings come back even where they leave the image a little; parts under 30 square pixels are
    left out, so the result may be empty. Same mask, hand and state of `rng`, same polygons.
    """
    size = float(np.sqrt(mask.area))
    angle = rng.uniform(0, 2 * np.pi)
    shift = hand.shift * size * np.array([np.cos(angle), np.sin(angle)])
    rings = []
    for region in trace(mask):
        outline = np.array(region.outer, dtype=np.float64).reshape(-1, 2)
        if abs(area_of(outline)) < _LEAST_AREA:
            continue
        ring = simplified(outline, hand.tolerance * size)
        if len(ring) < 3:
            continue
        ring = grown(ring, hand.growth * size) + shift
        ring += rng.normal(0, hand.jitter * size, ring.shape)
        rings.append(tuple(ring.ravel().tolist()))
    return tuple(rings)


def simplified(ring: Floats, tolerance: float) -> Floats:
    """
    Few vertices of a closed ring (N, 2), which stays within `tolerance` of their lines.

    Douglas and Peucker ("Algorithms for the reduction of the number of points required to
    represent a digitized line or its caricature", 1973), from two points far apart.
    """
    start = int(np.argmax(((ring - ring.mean(axis=0)) ** 2).sum(axis=1)))
    ring = np.roll(ring, -start, axis=0)
    opposite = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.vstack([ring, ring[:1]])
    kept = {0, opposite}
    spans = [(0, opposite), (opposite, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        strays = _strays(closed[first + 1 : last], closed[first], closed[last])
        worst = int(np.argmax(strays))
        if strays[worst] > tolerance:
            middle = first + 1 + worst
            kept.add(middle)
            spans += [(first, middle), (middle, last)]
    return ring[sorted(kept)]


def grown(ring: Floats, by: float) -> Floats:
    """Move every vertex of a ring (N, 2) outwards by so many pixels, along its bisector."""
    if not by:
        return ring
    along = np.roll(ring, -1, axis=0) - ring
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    normals = np.stack([along[:, 1], -along[:, 0]], axis=1) * np.sign(area_of(ring))
    bisectors = normals + np.roll(normals, 1, axis=0)
    bisectors /= np.maximum(np.linalg.norm(bisectors, axis=1, keepdims=True), 1e-9)
    return np.asarray(ring + by * bisectors)


def area_of(ring: Floats) -> float:
    """The area of a ring (N, 2) in square pixels; positive where it runs clockwise on screen."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _strays(points: Floats, one: Floats, other: Floats) -> Floats:
    """The distances (N,) of points (N, 2) from the line through two others."""
    dx, dy = other - one
    length = float(np.hypot(dx, dy))
    if length == 0:
        return np.asarray(np.hypot(*(points - one).T))
    crossed = dx * (points[:, 1] - one[1]) - dy * (points[:, 0] - one[0])
    return np.asarray(np.abs(crossed) / length)
