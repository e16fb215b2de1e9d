"""Objects drawn as several shapes: one segment for all shapes of one label and group id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..conservation import Item, Tally
from ..dataset import Json, Segment
from ..masks import Mask, Rle
from ..names import listing


@dataclass(frozen=True, slots=True)
class Shape:
    """One drawn shape that has pixels, read and checked."""

    label: str
    group: str  # "" where it stands alone
    segment: Segment
    mask: Mask
    outside: int = 0  # pixels of a brush mask that the image has not, and that are cut off


def grouped(shapes: Iterable[Shape], file_name: str) -> tuple[list[Segment], list[Item]]:
    """
    The segments of one image in the order in which each begins, and what joining changed.

    Shapes of one group but of several labels stay apart; an item says so.
    """
    groups: dict[tuple[str, str] | int, list[Shape]] = {}
    labels_of: dict[str, set[str]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault((shape.group, shape.label) if shape.group else index, []).append(shape)
        if shape.group:
            labels_of.setdefault(shape.group, set()).add(shape.label)
    items = [
        Item(f"group {group} mixes {listing(sorted(labels))}; kept apart", file_name=file_name)
        for group, labels in labels_of.items()
        if len(labels) > 1
    ]
    segments = []
    for parts in groups.values():
        if len(parts) == 1:
            segments.append(parts[0].segment)
            continue
        segment, item = _joined(parts, file_name)
        segments.append(segment)
        items.append(item)
    return segments, items


def _joined(parts: Sequence[Shape], file_name: str) -> tuple[Segment, Item]:
    """
    The union of the parts; polygons where all are polygons.

    `origin["parts"]` says of each part what it was, so that it can be written as it was:
    without an outline of all, its own `segmentation`, too.
    """
    first, segments = parts[0], [p.segment for p in parts]
    union = Mask.union([p.mask for p in parts])
    rings = [s.segmentation for s in segments if not isinstance(s.segmentation, Rle)]
    as_polygons = len(rings) == len(parts)
    lost = union.area - sum(p.mask.area for p in parts)
    depths = {s.z_order for s in segments}
    known = [z for z in depths if z is not None]
    reason = f"group {first.group}: {len(parts)} shapes are one {first.label}"
    if lost:
        reason += f"; they overlap in {-lost} px"
    if len(depths) > 1:
        reason += f"; of z-orders {listing(sorted(map(str, depths)))} the highest counts"
    change = Tally(segments=1 - len(parts), pixels={first.label: lost})
    joined = replace(
        first.segment,
        segmentation=tuple(r for ring in rings for r in ring)
        if as_polygons
        else Rle(union.height, union.width, union.counts.decode()),
        iscrowd=any(s.iscrowd for s in segments),
        z_order=max(known, default=None),
        attributes=merged([s.attributes for s in segments]),
        origin={
            **first.segment.origin,
            **_extra_of_all(segments),
            "shape": "group",
            "parts": [_part(s, as_polygons) for s in segments],
        },
    )
    return joined, Item(reason, change, file_name)


def _extra_of_all(segments: Sequence[Segment]) -> dict[str, Any]:
    """What is said beyond the format of any part; where several say it, what the first says."""
    extra: dict[str, Any] = {}
    for s in reversed(segments):
        extra |= s.origin.get("extra") or {}
    return {"extra": extra} if extra else {}


def extras_of(segment: Segment, shapes: int) -> list[Json]:
    """The origin of each part of a segment, where it is written as so many shapes again."""
    parts = segment.origin.get("parts")
    if isinstance(parts, list | tuple) and len(parts) == shapes:
        return [p if isinstance(p, Mapping) else {} for p in parts]
    return [segment.origin] * shapes


def _part(s: Segment, as_polygons: bool) -> dict[str, Any]:
    said = {**s.origin, "attributes": dict(s.attributes), "z_order": s.z_order}
    if as_polygons and isinstance(s.segmentation, tuple):
        return {**said, "rings": len(s.segmentation)}
    if isinstance(s.segmentation, Rle):
        size = [s.segmentation.height, s.segmentation.width]
        return {**said, "segmentation": {"size": size, "counts": s.segmentation.counts}}
    return {**said, "segmentation": [list(ring) for ring in s.segmentation]}


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes of the first part; occluded where any part is."""
    attributes = dict(parts[0])
    if any(p.get("occluded") for p in parts):
        attributes["occluded"] = True
    return attributes
