"""A: ids, categories, duplicates, areas and boxes of segments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..dataset import Segment
from ..masks import Mask, Rle
from .polygons import normalised, outside
from .rule import MAX_ID, Finding, Scene, Survey, dataset_rule, is_number, rule

TINY = 4  # px
FULL = 0.98  # of the image
ALIKE = 0.95  # IoU

_Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataset_rule("A301", "error", renumbered=True)
def duplicate_id(survey: Survey) -> Iterator[Finding]:
    """
    Two segments share an id.

    Why it matters: pycocotools keeps annotations in a dict by id, so of two with one id the
    first is lost without a word. A CVAT export once gave all of them id 0 (cvat issue 2155).
    Fix: automatic; all segments get new ids, as they do where `import` meets such a source.
    Example: files of two tasks, both numbered from 1, joined by hand.
    """
    if survey.ids.ascending:
        return
    ids = survey.ids.all()
    order = np.argsort(ids, kind="stable")
    again = order[1:][(ids[order][1:] == ids[order][:-1]) & (ids[order][1:] > 0)]
    ends = np.cumsum([s.segments for s in survey.seen])
    for at in np.sort(again).tolist():
        n = int(np.searchsorted(ends, at, side="right"))
        position = at - (int(ends[n - 1]) if n else 0)
        yield survey.find(f"segment id {ids[at]} is used before", survey.seen[n], position)


@rule("A302", "error", renumbered=True)
def id_below_one(scene: Scene) -> Iterator[Finding]:
    """
    A segment id is below 1, or larger than JSON can hold exactly.

    Why it matters: COCOeval marks "matched with nothing" by id 0, so an object with id 0 counts
    as missed even when it was found. Beyond 2^53, JavaScript and jq round ids.
    Fix: automatic; all segments get new ids from 1, as they do where `import` meets such a source.
    Example: the examples of labelme write ids from 0.
    """
    for index, segment in enumerate(scene.sample.segments):
        if not 1 <= segment.id <= MAX_ID:
            yield scene.find(f"id is {segment.id}, not between 1 and 2^53", index)


@rule("A304", "error")
def unknown_category(scene: Scene) -> Iterator[Finding]:
    """
    A segment has a category that the dataset does not list.

    Why it matters: pycocotools ignores such objects in evaluation, and trainers that map ids to
    classes stop with a KeyError at the first of them.
    Fix: add the category to `dataset.yaml`, or correct the segment.
    Example: category_id 26 where the categories are 1 to 25.
    """
    for index, segment in enumerate(scene.sample.segments):
        if segment.category_id not in scene.categories:
            yield scene.find(f"category {segment.category_id} does not exist", index)


def _drop_duplicate(scene: Scene, index: int) -> Segment | None:
    twin = _twins(scene).get(index)
    segment = scene.sample.segments[index]
    if twin is None or scene.sample.segments[twin].attributes != segment.attributes:
        return segment  # which of the two is right, only a person knows
    return None


@rule("A306", "warning", fix=_drop_duplicate)
def duplicate(scene: Scene) -> Iterator[Finding]:
    """
    A segment has the same category and the same pixels as an earlier one.

    Why it matters: a prediction matches one of the two, so a perfect detector still misses one:
    its recall for the pair is 50 %.
    Fix: automatic where the attributes are equal, too: the later one is dropped.
    Example: copied and pasted twice in CVAT.
    """
    for index, twin in _twins(scene).items():
        yield scene.find(f"the same {scene.category(index)} as segment {twin}", index)


@rule("A307", "warning")
def near_duplicate(scene: Scene) -> Iterator[Finding]:
    """
    Two segments of one category cover nearly the same pixels (IoU above 0.95).

    Why it matters: as for A306; and the two outlines disagree about what is true.
    Fix: delete the worse one in the annotation tool.
    Example: two annotators drew the same hand.
    """
    if not scene.overlaps:
        return
    segments, twins = scene.sample.segments, _twins(scene)
    for i, j, shared in scene.overlaps:
        if segments[i].category_id != segments[j].category_id or j in twins:
            continue
        iou = shared / (scene.areas[i] + scene.areas[j] - shared)
        if iou > ALIKE:
            name = scene.category(j)
            yield scene.find(f"nearly the same {name} as segment {i} (IoU {iou:.3f})", j)


def _twins(scene: Scene) -> dict[int, int]:
    """The first segment with the same pixels, category and crowd flag, for each later one."""
    first: dict[tuple[int, bool, Mask], int] = {}
    twins = {}
    for index, segment in enumerate(scene.sample.segments):
        mask = scene.masks[index]
        if mask is None or scene.areas[index] == 0:
            continue
        at = first.setdefault((segment.category_id, segment.iscrowd, mask), index)
        if at != index:
            twins[index] = at
    return twins


def _measured_box(scene: Scene, index: int) -> Segment:
    """The segment with its mask's box where the source's was; boxes that CVAT turned stay."""
    segment = scene.sample.segments[index]
    if not scene.areas[index] or segment.origin.get("shape") == "box":
        return segment
    return replace(segment, origin={**segment.origin, "bbox": scene.boxes[index].tolist()})


def _measured_area(scene: Scene, index: int) -> Segment:
    segment = scene.sample.segments[index]
    return replace(segment, origin={**segment.origin, "area": scene.areas[index]})


@rule("A309", "error", fix=_measured_box)
def no_box(scene: Scene) -> Iterator[Finding]:
    """
    The source gives a segment a box that is not four numbers.

    Why it matters: a NaN in one box turns the loss of its whole batch into NaN (mmdetection
    issues 2999 and 5385); three numbers stop the loader.
    Fix: automatic; the box is computed from the pixels, as in every release.
    Example: `"bbox": [10, 20, null, 8]`.
    """
    for index, segment in enumerate(scene.sample.segments):
        if "bbox" not in segment.origin or not scene.areas[index]:
            continue  # of a mask without pixels, A316 and others tell
        if scene.claimed[index] is None:
            yield scene.find(f"bbox is {str(segment.origin['bbox'])[:60]}", index)


@rule("A310", "error", fix=_measured_box)
def flat_box(scene: Scene) -> Iterator[Finding]:
    """
    The source gives a segment a box of no width or height, or a negative one.

    Why it matters: such boxes turn the loss into NaN in mmdetection (issue 5525) and
    maskrcnn-benchmark (issue 31). Even COCO's own annotations have one of height 0 (2206849).
    Fix: automatic; the box is computed from the pixels, as in every release.
    Example: `"bbox": [10, 20, -5, 8]`, as from a rectangle drawn from right to left.
    """
    for index, box in enumerate(scene.claimed):
        if box is not None and min(box[2:]) <= 0 and scene.areas[index]:
            yield scene.find(f"bbox {_said(box)} has no width or no height", index)


@rule("A311", "error")
def other_box(scene: Scene) -> Iterator[Finding]:
    """
    The source's box fits the mask if its numbers are read in another order.

    Why it matters: COCO's boxes are [x, y, width, height]. Corners in their place, as Pascal VOC
    writes them, make a 10 x 10 box at (100, 100) 110 x 110: it then fits by 1 %.
    Fix: mend the exporter; the box itself is computed from the pixels in every release.
    Looks at: boxes read as corners [x1, y1, x2, y2], or with x and y swapped, that then agree
    with the mask to 1 px, and do not as they are.
    Example: `"bbox": [100, 100, 110, 110]` for a mask of 10 x 10 px at (100, 100).
    """
    for index in _compared(scene):
        if order := _other_order(scene, index):
            box = _said(scene.claimed[index])
            yield scene.find(f"bbox {box} fits the mask if read as {order}", index)


@rule("A312", "error", fix=_measured_box)
def box_outside(scene: Scene) -> Iterator[Finding]:
    """
    The source's box leaves the image, and the outline does not.

    Why it matters: crops and anchors outside the picture are cut off or padded, each loader in
    its own way; a box that starts beyond the border has no pixel at all.
    Fix: automatic; the box is computed from the pixels, as in every release.
    Looks at: edges more than 1 px outside. A box round a polygon that leaves the image: P407.
    Example: `"bbox": [600, 100, 80, 50]` in an image 640 px wide.
    """
    height, width = scene.sample.height, scene.sample.width
    for index in _compared(scene):
        edges, vertices = _edges(scene.claimed[index]), scene.extents[index]
        if vertices is not None and _apart(edges, vertices) <= 1:
            continue
        beyond = max(-edges[0], -edges[1], edges[2] - width, edges[3] - height)
        if beyond > 1 and not _other_order(scene, index):
            said = _said(scene.claimed[index])
            yield scene.find(f"bbox {said} leaves the image by {beyond:.1f} px", index)


def _measured_if_near(scene: Scene, index: int) -> Segment:
    """As `_measured_box` where the boxes differ by no more than a tenth of the mask's."""
    box = scene.claimed[index]
    if box is None or _apart(_edges(box), _mask_edges(scene, index)) > _tenth(scene, index):
        return scene.sample.segments[index]
    return _measured_box(scene, index)


@rule("A313", "warning", fix=_measured_if_near)
def box_differs(scene: Scene) -> Iterator[Finding]:
    """
    The source's box is not the box of the mask.

    Why it matters: box and mask of one object then teach different things; it is often the sign
    of a mask that was moved, cut or swapped with another by the exporter.
    Fix: automatic up to a tenth of the mask's width and height: the box is computed from the
    pixels, as in every release. Beyond that, look at the segment.
    Looks at: edges more than 1 px away both from the mask's box and from that of the polygon's
    vertices, which may lie outside the image. Boxes that CVAT rotates are left out.
    Example: bbox [0, 0, 50, 50] for a mask at (200, 200).
    """
    for index in _compared(scene):
        if not _fits(scene, index, _edges(scene.claimed[index])) and not _other_order(scene, index):
            x, y, w, h = scene.boxes[index].tolist()
            said = _said(scene.claimed[index])
            yield scene.find(f"source says bbox {said}, mask has {[x, y, w, h]}", index)


@rule("A314", "warning", fix=_measured_area)
def area_differs(scene: Scene) -> Iterator[Finding]:
    """
    The source's area is not the number of pixels.

    Why it matters: COCO sorts objects into small, medium and large by this number. Outlines
    drawn by cv2 or Pillow instead of COCO's rule are 3 to 4 % larger, small ones 7 to 10 %.
    Fix: automatic; areas are counted from the pixels, as in every release. Large differences
    are worth a look.
    Looks at: differences above 2 %, 1.5 times the root of the area, and 1 px.
    Example: area 2500 for a mask of 1963 px.
    """
    for index, area in _wrong_areas(scene):
        if not _is_of_box(scene, index, area):
            yield scene.find(f"source says area {area:g}, mask has {scene.areas[index]} px", index)


@rule("A315", "info", fix=_measured_area)
def area_of_box(scene: Scene) -> Iterator[Finding]:
    """
    The source's area is that of the box, not of the mask.

    Why it matters: a round object fills 79 % of its box, a diagonal pen a tenth: it is scored
    among the large objects though it is a small one.
    Fix: automatic; areas are counted from the pixels, as in every release.
    Example: area 2500 = 50 x 50, for a round mask of 1963 px.
    """
    for index, area in _wrong_areas(scene):
        if _is_of_box(scene, index, area):
            said = f"area {area:g} is that of the box, mask has {scene.areas[index]} px"
            yield scene.find(said, index)


def _wrong_areas(scene: Scene) -> Iterator[tuple[int, float]]:
    for index, segment in enumerate(scene.sample.segments):
        area, said = scene.areas[index], segment.origin.get("area")
        if not area or not is_number(said) or segment.origin.get("shape") == "box":
            continue
        if abs(said - area) <= max(1, 1.5 * math.sqrt(area), 0.02 * area):
            continue
        if outside(scene, index) <= 1:  # else the source counts what lies outside; P407 tells
            yield index, _float(said)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # JSON may hold whole numbers of any length
        return math.inf if number > 0 else -math.inf


def _is_of_box(scene: Scene, index: int, area: float) -> bool:
    box = scene.claimed[index] or scene.boxes[index].tolist()
    return box[2] > 0 and abs(area - box[2] * box[3]) <= 0.005 * box[2] * box[3]


def _drop_empty(scene: Scene, index: int) -> Segment | None:  # noqa: ARG001
    return None


@rule("A316", "error", fix=_drop_empty)
def no_pixels(scene: Scene) -> Iterator[Finding]:
    """
    An outline has no pixels.

    Why it matters: nothing can match it. With one empty mask beside one good one, a perfect
    detector's AP falls from 1.00 to 0.505 (pycocotools 2.0.11).
    Fix: automatic; the segment is dropped. Those of P408 and P414 have a cause that a person
    can mend, and are left to them. Empty RLEs: R509.
    Example: a polygon whose points are all on one spot.
    """
    for index, segment in enumerate(scene.sample.segments):
        if (
            scene.areas[index]
            or scene.masks[index] is None
            or isinstance(segment.segmentation, Rle)
        ):
            continue
        if not _outside_wholly(scene, index) and not normalised(scene, index):
            yield scene.find("mask has no pixels", index)


@rule("A317", "warning")
def tiny(scene: Scene) -> Iterator[Finding]:
    """
    A segment has fewer than 4 pixels.

    Why it matters: usually a slip of the mouse. At 3 pixels, 1 pixel more or less moves the IoU
    by a quarter.
    Fix: delete it, or draw it again.
    Example: a double click with the brush.
    """
    for index, area in enumerate(scene.areas):
        if 0 < area < TINY and not normalised(scene, index):
            yield scene.find(f"mask has only {area} px", index)


@rule("A318", "warning")
def whole_image(scene: Scene) -> Iterator[Finding]:
    """
    A thing covers more than 98 % of the image.

    Why it matters: usually a wrong label or an inverted mask; in a panoptic map,
    such a segment leaves no room for any other.
    Fix: look at it; if it is a background, make the category stuff in `dataset.yaml`.
    Looks at: all but RLEs of ones only, of which R510 tells.
    Example: "table" as a thing, in a close-up.
    """
    pixels = scene.sample.height * scene.sample.width
    for index, segment in enumerate(scene.sample.segments):
        area = scene.areas[index]
        if not area > FULL * pixels or segment.iscrowd or not scene.isthing(index):
            continue
        if area < pixels or not isinstance(segment.segmentation, Rle):
            yield scene.find(f"{scene.category(index)} covers {area / pixels:.1%}", index)


@rule("A319", "info")
def drawn_crowd(scene: Scene) -> Iterator[Finding]:
    """
    A crowd is drawn as polygons.

    Why it matters: it is legal, but COCO draws crowds as RLE, and readers that tell crowds by
    that take it for one instance: a detector is punished for every person it finds in there.
    Fix: nothing to do, releases have RLE; if it is a single object, clear `iscrowd`.
    Looks at: crowds only. Instances as RLE are just as legal, and what a release has.
    Example: `"iscrowd": 1` beside `"segmentation": [[10, 10, 90, 10, 90, 40]]`.
    """
    for index, segment in enumerate(scene.sample.segments):
        if segment.iscrowd and isinstance(segment.segmentation, tuple):
            yield scene.find(f"crowd of {scene.category(index)} is drawn as polygons", index)


def _outside_wholly(scene: Scene, index: int) -> bool:
    return outside(scene, index) == math.inf


def _compared(scene: Scene) -> Iterator[int]:
    """Segments with pixels and a box to hold them against; without those that CVAT turned."""
    for index, box in enumerate(scene.claimed):
        turned = scene.sample.segments[index].origin.get("shape") == "box"
        if box is not None and min(box[2:]) > 0 and scene.areas[index] and not turned:
            yield index


def _fits(scene: Scene, index: int, edges: _Box) -> bool:
    """Are they those of the mask, or of the vertices, to a pixel?"""
    vertices = scene.extents[index]
    if vertices is not None and _apart(edges, vertices) <= 1:
        return True
    clipped = _clip(edges, scene.sample.height, scene.sample.width)
    return _apart(clipped, _mask_edges(scene, index)) <= 1


def _other_order(scene: Scene, index: int) -> str | None:
    """How to read a box so that it fits, if it does not as it is."""
    box = scene.claimed[index]
    if box is None or _fits(scene, index, _edges(box)):
        return None
    x, y, w, h = box
    others = {"[x1, y1, x2, y2]": box, "[y, x, height, width]": (y, x, y + h, x + w)}
    return next((name for name, edges in others.items() if _fits(scene, index, edges)), None)


def _edges(box: _Box | None) -> _Box:
    x, y, w, h = box if box is not None else (0.0, 0.0, 0.0, 0.0)
    return x, y, x + w, y + h


def _mask_edges(scene: Scene, index: int) -> _Box:
    x, y, w, h = scene.boxes[index].tolist()
    return x, y, x + w, y + h


def _tenth(scene: Scene, index: int) -> float:
    return 0.1 * float(min(scene.boxes[index][2:]))


def _said(box: _Box | None) -> list[float]:
    return [round(v, 2) for v in box or ()]


def _clip(box: _Box, height: int, width: int) -> _Box:
    left, top, right, bottom = box
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _apart(a: _Box, b: _Box) -> float:
    """The largest distance between two edges that should be one."""
    return max(abs(p - q) for p, q in zip(a, b, strict=True))
