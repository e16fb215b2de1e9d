"""Objects drawn as several shapes: one segment for those of one label and group id, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..conservation import Item, Tally
from ..dataset import Segment
from ..errors import FormatError
from ..masks import Mask, Polygons, Rle, check_polygons
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
    if disputed := _disputed([s.attributes for s in segments]):
        reason += f"; its shapes differ, and the first counts: {listing(disputed)}"
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


class _Counts(msgspec.Struct):
    size: tuple[int, int]
    counts: str | tuple[int, ...]


class _Part(msgspec.Struct):
    """What the origin of a segment says of a shape that it was joined from; see `_part`."""

    attributes: dict[str, Any] = {}
    z_order: int | None = None
    rings: int = 1
    segmentation: tuple[tuple[float, ...], ...] | _Counts | None = None


def shapes_of(segment: Segment, height: int, width: int) -> list[Segment]:
    """
    A segment as the shapes that it was joined from, where these still are what it covers; else
    as a polygon for each of its rings, or as its mask.

    Raises:
        FormatError: the segment has no valid mask.
    """
    if (parts := _parts_of(segment, height, width)) is not None:
        return parts
    if isinstance(segment.segmentation, Rle):
        return [segment]
    check_polygons(segment.segmentation)
    return [replace(segment, segmentation=(ring,)) for ring in segment.segmentation]


def _parts_of(segment: Segment, height: int, width: int) -> list[Segment] | None:
    origins = segment.origin.get("parts")
    if not isinstance(origins, list | tuple) or len(origins) < 2:
        return None
    try:
        parts = msgspec.convert(origins, list[_Part])
        outlines = _outlines_of(segment, parts, height, width)
    except (msgspec.ValidationError, FormatError, RecursionError):
        return None  # other tools may say other things there
    if outlines is None:
        return None
    depths = [p.z_order for p in parts if p.z_order is not None]
    same_z = max(depths, default=None) == segment.z_order
    same_said = merged([p.attributes for p in parts]) == dict(segment.attributes)
    return [
        replace(
            segment,
            segmentation=outline,
            z_order=part.z_order if same_z else segment.z_order,
            attributes=part.attributes if same_said else segment.attributes,
            origin=origin,
        )
        for outline, part, origin in zip(outlines, parts, origins, strict=True)
    ]


def _outlines_of(
    segment: Segment, parts: Sequence[_Part], height: int, width: int
) -> list[Polygons | Rle] | None:
    """The segmentation of each part; None where they are not this segment's."""
    if not isinstance(segment.segmentation, Rle):
        rings = segment.segmentation
        check_polygons(rings)
        whole = len(rings) == len(parts) and all(p.rings == 1 for p in parts)
        return [(ring,) for ring in rings] if whole else None
    outlines: list[Polygons | Rle] = []
    for part in parts:
        match part.segmentation:
            case _Counts(size=size, counts=counts):
                outlines.append(Rle(*size, counts))
            case (ring,):
                outlines.append((ring,))
            case _:
                return None
    masks = [replace(segment, segmentation=o).mask(height, width) for o in outlines]
    whole = all(m.area for m in masks) and Mask.union(masks) == segment.mask(height, width)
    return outlines if whole else None


def _part(s: Segment, as_polygons: bool) -> dict[str, Any]:
    said = {**s.origin, "attributes": dict(s.attributes), "z_order": s.z_order}
    if as_polygons and isinstance(s.segmentation, tuple):
        return {**said, "rings": len(s.segmentation)}
    if isinstance(s.segmentation, Rle):
        size = [s.segmentation.height, s.segmentation.width]
        return {**said, "segmentation": {"size": size, "counts": s.segmentation.counts}}
    return {**said, "segmentation": [list(ring) for ring in s.segmentation]}


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The attributes of all parts, each as the first has it; occluded where any part is."""
    attributes: dict[str, Any] = {}
    for part in parts:
        attributes |= {k: v for k, v in part.items() if k not in attributes}
    if any(p.get("occluded") for p in parts):
        attributes["occluded"] = True
    return attributes


def _disputed(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The attributes of which parts say different things, with what they say."""
    values: dict[str, list[Any]] = {}
    for part in parts:
        for key, value in part.items():
            if key != "occluded" and value not in values.setdefault(key, []):
                values[key].append(value)
    return [f"{k} is {' and '.join(map(repr, v))}" for k, v in values.items() if len(v) > 1]
