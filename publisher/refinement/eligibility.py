"""
What may be refined: outlines that people drew roughly, and nothing else.

Every refiner that was tried made fine outlines worse: of polygons within a hundredth of their
size, 90 to 100 in 100 (docs/refinement.md). So the first question is not how to refine, but
what to leave alone, and the answer comes from the annotation, not from the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dataset import Segment
from ..masks import Mask, Polygons, Rle

VERIFIED = ("verified", "locked", "reviewed")
"""Attributes that a person sets where a mask must stay as it is."""

_DRAWN = {"polygon", "group"}  # what `origin` calls the shapes that are drawn by vertices
_YES = {"true", "yes", "1"}


def why_not(
    segment: Segment, mask: Mask, *, least: float, finest: float, doubtful: float
) -> str | None:
    """
    Why a segment must be left alone; None where it may be refined.

    Args:
        mask: the segment's.
        least: the size s = sqrt(area), in pixels, below which nothing is refined.
        finest: the coarseness (see there) below which an outline is fine as it is.
        doubtful: by how many pixels an outline may be off (see `doubt`), at least; nearer, people
            who annotate do not agree with each other.
    """
    shape = segment.segmentation
    if segment.iscrowd:
        return "crowd"
    if isinstance(shape, Rle):
        return "brush mask"
    if is_verified(segment):
        return "verified"
    if not _is_drawn(segment.origin) or is_box(shape):
        return "no free outline"
    if not mask.area:
        return "empty"
    if math.sqrt(mask.area) < least:
        return "too small"
    size = math.sqrt(mask.area)
    found = coarseness(shape, size)
    if found < finest or size * doubt(found) < doubtful:
        return "fine already"
    return None


def is_verified(segment: Segment) -> bool:
    """Does an attribute say so?"""
    said = {str(k).lower(): v for k, v in segment.attributes.items()}
    return any(said.get(k) is True or str(said.get(k)).lower() in _YES for k in VERIFIED)


def coarseness(rings: Polygons, size: float) -> float:
    """
    The harmonic mean of the distances between vertices, as a share of the size s = sqrt(area).

    Whoever clicks every tenth of an object leaves out what is smaller. Not the arithmetic mean:
    the long sides of a box of tools say nothing, its corners do, and short edges count most
    here. All rings count; lines run there and back, by which holes are cut open, do not, nor do
    repeated vertices.
    """
    edges = np.concatenate([_edges(ring) for ring in rings])
    there = set(map(tuple, edges.tolist()))
    kept = [e for e in edges.tolist() if (e[2], e[3], e[0], e[1]) not in there]
    lengths = [math.hypot(c - a, d - b) for a, b, c, d in kept if (a, b) != (c, d)]
    return len(lengths) / sum(1 / n for n in lengths) / size if lengths else 0.0


def doubt(coarseness: float) -> float:
    """
    How far from such an outline the object's border may well be, as a share of its size.

    A twelfth of the coarseness. Half of the pixels that the hands in `perturb` get wrong lie
    within some 1.1 of that from the outline, nine of ten within 2.
    """
    return min(max(coarseness, 0.03), 0.75) / 12


def filled(rings: Polygons, area: float) -> float:
    """
    How much of the smallest rectangle around it, at any angle to 3 degrees, an outline fills.

    Whoever outlines a screen or a sign needs few vertices: they are far apart, and exact.
    """
    points = np.concatenate([np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in rings])
    angles = np.radians(np.arange(0, 90, 3))
    across = points @ np.stack([np.cos(angles), np.sin(angles)])
    along = points @ np.stack([-np.sin(angles), np.cos(angles)])
    return area / float((np.ptp(across, axis=0) * np.ptp(along, axis=0)).min())


def is_box(rings: Polygons) -> bool:
    """Is this one upright rectangle? It says where an object is, not how it looks."""
    if len(rings) != 1:
        return False
    edges = _edges(rings[0])
    edges = edges[(edges[:, :2] != edges[:, 2:]).any(axis=1)]
    upright = (edges[:, 0] == edges[:, 2]) | (edges[:, 1] == edges[:, 3])
    corners = np.unique(edges[:, :2], axis=0)
    return bool(upright.all()) and len(corners) <= 4


def _is_drawn(origin: Mapping[str, Any]) -> bool:
    parts = origin.get("parts")
    if isinstance(parts, list | tuple) and parts:
        return all(isinstance(part, Mapping) and _is_drawn(part) for part in parts)
    return str(origin.get("shape", "polygon")) in _DRAWN


def _edges(ring: tuple[float, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The edges (N, 4) of a ring: x, y and the next x, y."""
    points = np.array(ring, dtype=np.float64).reshape(-1, 2)
    return np.hstack([points, np.roll(points, -1, axis=0)])
