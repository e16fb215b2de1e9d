"""
What a track shows between its keyframes: CVAT's rule, for files that do not write it out.

Source: cvat/apps/dataset_manager/annotation.py, TrackManager. Boxes and ellipses go in
straight lines; so do polygons whose keyframes have equally many points. Masks hold still.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from .shapes import number, points

Shown = tuple[int, Element]
"""A frame's number, and the element that a track has for it."""

_LINEAR = {"box": ("xtl", "ytl", "xbr", "ybr"), "ellipse": ("cx", "cy", "rx", "ry")}


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames of which a track says nothing, after an element that is seen."""

    before: Shown
    after: Shown | None  # None: it is seen to the end
    frames: Sequence[int]


def gaps(shown: Sequence[Shown], frames: Sequence[int]) -> Iterator[Gap]:
    """
    The gaps of a track whose elements stand in the order of their frames.

    A lone shape in the last frame but one is no track that goes on: CVAT leaves out the
    element that would end it.
    """
    for i, (n, element) in enumerate(shown):
        if element.get("outside") == "1":
            continue
        after = shown[i + 1] if i + 1 < len(shown) else None
        end = bisect_left(frames, after[0]) if after else len(frames)
        missing = frames[bisect_right(frames, n) : end]
        lone = len(shown) == 1 and len(missing) == 1
        if missing and not lone:
            yield Gap((n, element), after, missing)


def fill(gap: Gap) -> tuple[list[Shown], bool]:
    """
    The shapes in a gap, and whether they are what CVAT would show.

    It has a way to match polygons of unequal points, too; here the earlier one holds still.
    """
    (start, before), exact = gap.before, True
    made = []
    for n in gap.frames:
        element = deepcopy(before)
        if gap.after is not None:
            stop, after = gap.after
            exact &= _move(element, after, (n - start) / (stop - start))
        made.append((n, element))
    return made, exact


def _move(element: Element, after: Element, share: float) -> bool:
    """Move a shape that share of the way to the next, if it can be; two decimals, as CVAT's."""
    if element.tag != after.tag:
        return element.tag == "mask"
    if element.tag in _LINEAR:
        for key in _LINEAR[element.tag]:
            a, b = number(element, key), number(after, key)
            element.set(key, repr(round(a + (b - a) * share, 2)))
        a, b = number(element, "rotation", "0"), number(after, "rotation", "0")
        shortest = (b - a + 180) % 360 - 180
        element.set("rotation", repr(round((a + shortest * share) % 360, 2)))
    elif "points" in element.attrib:
        p, q = points(element), points(after)
        if len(p) != len(q):
            return False
        moved = [repr(round(a + (b - a) * share, 2)) for a, b in zip(p, q, strict=True)]
        pairs = zip(moved[::2], moved[1::2], strict=True)
        element.set("points", ";".join(f"{x},{y}" for x, y in pairs))
    return True
