"""Shapes of CVAT as segments, and segments as shapes, as they were drawn where that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

import msgspec

from ...dataset import Segment
from ...errors import FormatError
from ...masks import (
    Mask,
    Rle,
    check_polygons,
    crop_from_mask,
    ellipse,
    mask_from_crop,
    rotate,
)
from ...validate import Finding
from ..grouping import Shape, merged
from ..keeping import CROWD
from ..xml import Xml
from .meta import Labels, Meta, attributes_in, attributes_of, plain

NOT_SEGMENTS = ("tag", "polyline", "points", "cuboid", "skeleton")


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def shape_of(node: Element, meta: Meta, height: int, width: int) -> Shape:
    """
    Read one shape that has pixels.

    Raises:
        FormatError: its label is unknown, or its geometry cannot be a mask of the image.
    """
    label = node.get("label", "")
    category = meta.categories.get(label)
    if category is None:
        raise FormatError(f"label {label!r} is not among the labels", code="A304")
    attributes = attributes_of(node, label, meta.kinds)
    if node.get("occluded") == "1":
        attributes["occluded"] = True
    crowd = attributes.get(CROWD) is True
    if crowd:
        del attributes[CROWD]
    group = node.get("group_id", "0")
    group = "" if group == "0" else group
    origin: dict[str, Any] = {"shape": str(node.tag), "source": node.get("source", "")}
    origin["group"] = group
    geometry, outside = _geometry(node, height, width, origin)
    segment = Segment(
        id=0,
        category_id=category.id,
        segmentation=geometry,
        iscrowd=crowd,
        z_order=integer(node, "z_order") if "z_order" in node.attrib else None,
        attributes=attributes,
        origin={k: v for k, v in origin.items() if v},
    )
    return Shape(label, group, segment, segment.mask(height, width), outside)


def overhang(shape: Shape, file_name: str) -> list[Finding]:
    """What is said of a mask that is cut off at the border of the image."""
    if not shape.outside:
        return []
    said = f"mask reaches out of the image: {shape.outside} of its pixels are cut off"
    return [Finding("K822", "warning", said, file_name)]


def described(node: Element, kinds: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """A tag, point or line, kept as it is: it has no pixels and so is no segment."""
    label = node.get("label", "")
    kept = {k: v for k, v in sorted(node.attrib.items()) if k != "label"}
    attributes = attributes_of(node, label, kinds)
    said = {"kind": str(node.tag), "label": label, **kept, "attributes": attributes}
    children = [described(c, kinds) for c in node if c.tag != "attribute"]
    return {k: v for k, v in {**said, "elements": children}.items() if v}


def box_ring(x0: float, y0: float, x1: float, y1: float, degrees: float) -> tuple[float, ...]:
    """A box as a ring of its corners, turned clockwise on screen about its centre."""
    ring = (x0, y0, x1, y0, x1, y1, x0, y1)
    return rotate(ring, (x0 + x1) / 2, (y0 + y1) / 2, degrees) if degrees else ring


def integer(node: Element, key: str) -> int:
    """
    An attribute that is a whole number.

    Raises:
        FormatError: it is none.
    """
    text = node.get(key, "")
    try:
        return int(_ascii(text))
    except ValueError:
        raise FormatError(f"{key} is {text[:40]!r}, not an integer") from None


def number(node: Element, key: str, default: str = "") -> float:
    """
    An attribute that is a coordinate or an angle.

    Raises:
        FormatError: it is no number, or P406, none that an image can hold.
    """
    text = node.get(key, default)
    try:
        value = float(_ascii(text))
    except ValueError:
        raise FormatError(f"{key} is {text[:40]!r}, not a number") from None
    if not abs(value) <= 1e6:
        raise FormatError(f"{key} is {text[:40]!r}", code="P406")
    return value


def _ascii(text: str) -> str:
    """
    Numbers as XML has them.

    Raises:
        ValueError: Python would read more than that, as "1_0" and the digits of other scripts.
    """
    if "_" in text or not text.isascii():
        raise ValueError(text[:40])
    return text


def points(node: Element) -> tuple[float, ...]:
    """
    The vertices of a polygon as x0, y0, x1, y1, ...

    Raises:
        FormatError: P401, they are not written as x,y;x,y;...
    """
    try:
        pairs = [p.split(",") for p in _ascii(node.get("points", "")).split(";")]
        return tuple(float(v) for x, y in pairs for v in (x, y))
    except ValueError:
        raise FormatError("points are not x,y;x,y;...", code="P401") from None


def _geometry(node: Element, height: int, width: int, origin: dict[str, Any]) -> tuple[Any, int]:
    """The segmentation, and how many pixels of a brush mask the image has not."""
    match node.tag:
        case "polygon":
            return (points(node),), 0
        case "mask":
            return _brush(node, height, width)
        case "box":
            x0, y0, x1, y1 = (number(node, k) for k in ("xtl", "ytl", "xbr", "ybr"))
            degrees = number(node, "rotation", "0")
            if degrees:
                origin["box"] = {"bbox": [x0, y0, x1 - x0, y1 - y0], "rotation": degrees}
            return (box_ring(x0, y0, x1, y1, degrees),), 0
        case "ellipse":
            cx, cy, rx, ry = (number(node, k) for k in ("cx", "cy", "rx", "ry"))
            degrees = number(node, "rotation", "0")
            origin["ellipse"] = {"centre": [cx, cy], "radii": [rx, ry], "rotation": degrees}
            return (ellipse(cx, cy, rx, ry, degrees),), 0
        case tag:
            raise FormatError(f"unknown shape <{tag}>", code="L817")


def _brush(node: Element, height: int, width: int) -> tuple[Rle, int]:
    try:
        runs = [int(run) for run in _ascii(node.get("rle", "")).split(",")]
    except ValueError:
        raise FormatError("rle is not a list of integers", code="K821") from None
    left, top, w, h = (integer(node, k) for k in ("left", "top", "width", "height"))
    mask = mask_from_crop(runs, left, top, w, h, (height, width))
    return Rle(height, width, mask.counts.decode()), sum(runs[1::2]) - mask.area


# ── segments as shapes ───────────────────────────────────────────────────────────────────────

Geometry = tuple[str, dict[str, str]]
"""The tag of a shape, and the attributes that say where it is."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A shape as CVAT writes it: its tag, its geometry, and what is said of it."""

    tag: str
    geometry: dict[str, str]
    z_order: int | None = None
    source: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    iscrowd: bool = False

    def write(self, xml: Xml, labels: Labels, label: str, place: Mapping[str, str]) -> None:
        """The element; `place` are the attributes that say whose it is or when."""
        said = dict(place)
        said["occluded"] = str(int(self.attributes.get("occluded") is True))
        said |= self.geometry
        if self.z_order is not None:
            said["z_order"] = str(self.z_order)
        with xml.element(self.tag, said):
            labels.write_attributes(xml, label, plain(self.attributes, self.iscrowd))


def drawn(segment: Segment, height: int, width: int) -> list[Drawn]:
    """
    One shape for each part of a segment; none where an RLE has no pixels.

    Boxes, ellipses and groups come out as what they were, where their pixels are still those.
    Coordinates have all their digits: CVAT parses floats, and its own two decimals would
    move vertices.

    Raises:
        FormatError: the segmentation is broken.
    """
    was = _was(segment.origin)
    if (parts := _parts(segment, was, height, width)) is not None:
        return parts
    return [
        Drawn(*geometry, segment.z_order, was.source, segment.attributes, segment.iscrowd)
        for geometry in _geometries(segment, was, height, width)
    ]


class _Counts(msgspec.Struct):
    size: tuple[int, int]
    counts: str


class _Box(msgspec.Struct):
    bbox: tuple[float, float, float, float]
    rotation: float


class _Ellipse(msgspec.Struct):
    centre: tuple[float, float]
    radii: tuple[float, float]
    rotation: float


class _Was(msgspec.Struct):
    """What the origin of a segment, or of a part of one, says of how it was drawn."""

    shape: str = ""
    source: str = ""
    box: _Box | None = None
    ellipse: _Ellipse | None = None
    parts: list[_Was] = []
    rings: int = 1
    segmentation: list[list[float]] | _Counts | None = None
    attributes: dict[str, Any] = {}
    z_order: int | None = None


def _was(origin: Mapping[str, Any]) -> _Was:
    """The origin as far as it is CVAT's: other tools say other things there."""
    try:
        return msgspec.convert(origin, _Was)
    except (msgspec.ValidationError, RecursionError):
        return _Was()


def _geometries(segment: Segment, was: _Was, height: int, width: int) -> list[Geometry]:
    if isinstance(segment.segmentation, Rle):
        mask = segment.mask(height, width)
        return [_mask(mask)] if mask.area else []
    rings = segment.segmentation
    check_polygons(rings)
    if len(rings) == 1:
        return [_outline(rings[0], was)]
    return [_polygon(ring) for ring in rings]


def _parts(segment: Segment, was: _Was, height: int, width: int) -> list[Drawn] | None:
    """The shapes of a group as they were drawn; None where they are not this segment's."""
    if len(was.parts) < 2:
        return None
    if isinstance(segment.segmentation, Rle):
        geometries = _parts_of_mask(segment, was.parts, height, width)
    else:
        geometries = _parts_of_rings(segment.segmentation, was.parts)
    if geometries is None:
        return None
    depths = [p.z_order for p in was.parts if p.z_order is not None]
    same_z = max(depths, default=None) == segment.z_order
    same_said = merged([p.attributes for p in was.parts]) == dict(segment.attributes)
    return [
        Drawn(
            *geometry,
            part.z_order if same_z else segment.z_order,
            part.source,
            part.attributes if same_said else segment.attributes,
            segment.iscrowd,
        )
        for geometry, part in zip(geometries, was.parts, strict=True)
    ]


def _parts_of_rings(
    rings: Sequence[tuple[float, ...]], parts: Sequence[_Was]
) -> list[Geometry] | None:
    if len(rings) != len(parts) or any(p.rings != 1 for p in parts):
        return None
    check_polygons(tuple(rings))
    return [_outline(ring, part) for ring, part in zip(rings, parts, strict=True)]


def _parts_of_mask(
    segment: Segment, parts: Sequence[_Was], height: int, width: int
) -> list[Geometry] | None:
    geometries, masks = [], []
    try:
        for part in parts:
            match part.segmentation:
                case None:
                    return None
                case _Counts(size=size, counts=counts):
                    mask = Mask.from_rle(Rle(*size, counts), height, width)
                    geometries.append(_mask(mask))
                case rings:
                    outline = tuple(tuple(ring) for ring in rings)
                    mask = Mask.from_polygons(outline, height, width)
                    geometries += [_outline(ring, part) for ring in outline]
            masks.append(mask)
    except FormatError:
        return None
    whole = len(geometries) == len(parts) and all(m.area for m in masks)
    return geometries if whole and Mask.union(masks) == segment.mask(height, width) else None


def _outline(ring: tuple[float, ...], was: _Was) -> Geometry:
    """A ring as the box or ellipse that it was drawn as, else as a polygon."""
    if was.shape in ("box", "bbox", "rectangle") and len(ring) == 8:  # in other tools' words, too
        x0, y0, x1, y1, degrees = ring[0], ring[1], ring[4], ring[5], 0.0
        if was.box is not None:
            (x0, y0, w, h), degrees = was.box.bbox, was.box.rotation
            x1, y1 = round(x0 + w, 6), round(y0 + h, 6)  # digits lost when w was computed
        if box_ring(x0, y0, x1, y1, degrees) == ring:
            said = {"xtl": repr(x0), "ytl": repr(y0), "xbr": repr(x1), "ybr": repr(y1)}
            return "box", _turned(said, degrees)
    if was.shape == "ellipse" and was.ellipse is not None:
        (cx, cy), (rx, ry), degrees = was.ellipse.centre, was.ellipse.radii, was.ellipse.rotation
        if ellipse(cx, cy, rx, ry, degrees) == ring:
            said = {"cx": repr(cx), "cy": repr(cy), "rx": repr(rx), "ry": repr(ry)}
            return "ellipse", _turned(said, degrees)
    return _polygon(ring)


def _turned(said: dict[str, str], degrees: float) -> dict[str, str]:
    return {**said, "rotation": repr(degrees)} if degrees else said


def _polygon(ring: Sequence[float]) -> Geometry:
    pairs = zip(ring[::2], ring[1::2], strict=True)
    return "polygon", {"points": ";".join(f"{x!r},{y!r}" for x, y in pairs)}


def _mask(mask: Mask) -> Geometry:
    runs, left, top, width, height = crop_from_mask(mask)
    said = {"left": left, "top": top, "width": width, "height": height}
    return "mask", {"rle": ", ".join(map(str, runs)), **{k: str(v) for k, v in said.items()}}


# ── what has no pixels ───────────────────────────────────────────────────────────────────────

_KEY = re.compile("source|occluded|outside|points|rotation|z_order|group_id|[xy][tb][lr][12]")
_KINDS = {"point": "points", "line": "polyline", "linestrip": "polyline", "label": "tag"}
"""Other tools' words for the same."""


def aside_tag(entry: Mapping[str, Any]) -> str | None:
    """The tag of something set aside as having no pixels; None where CVAT has none for it."""
    kind = str(entry.get("kind") or "")
    tag = _KINDS.get(kind, kind)
    return tag if tag in NOT_SEGMENTS else None


def write_aside(
    xml: Xml, labels: Labels, entry: Mapping[str, Any], tag: str, place: Mapping[str, str]
) -> None:
    """Write back a tag, point or line as `described` has kept it."""
    label = str(entry.get("label") or "")
    said = {**dict(_plain(entry)), **place}
    with xml.element(tag, said):
        for part in entry.get("elements") or ():
            if isinstance(part, Mapping):
                name = str(part.get("label") or "")
                write_aside(xml, labels, part, aside_tag(part) or "points", {"label": name})
        labels.write_attributes(xml, label, attributes_in(entry))


def _plain(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in sorted(entry.items()):
        if key == "points" and isinstance(value, list | tuple):
            yield key, _vertices(value)
        elif key == "group" and value:
            yield "group_id", str(value)
        elif isinstance(value, str | int | float) and _KEY.fullmatch(key):
            yield key, str(value)


def _vertices(value: Sequence[Any]) -> str:
    """Points as [[x, y], ...] or [x, y, ...]."""
    flat = [v for p in value for v in (p if isinstance(p, list | tuple) else [p])]
    return ";".join(f"{x},{y}" for x, y in zip(flat[::2], flat[1::2], strict=False))
