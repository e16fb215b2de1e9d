"""A: ids, categories, duplicates, areas and boxes of segments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

import numpy as np

from ..dataset import Segment
from ..masks import Mask
from .polygons import normalised, outside
from .rule import MAX_ID, Finding, Scene, Survey, dataset_rule, rule

TINY = 4  # px
FULL = 0.98  # of the image
ALIKE = 0.95  # IoU

_Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataset_rule("A301", "error")
def duplicate_id(survey: Survey) -> Iterator[Finding]:
    """
    Two segments share an id.

    Why it matters: pycocotools keeps annotations in a dict by id, so of two with one id the
    first is lost without a word. A CVAT export once gave all of them id 0 (cvat issue 2155).
    Fix: import again; readers number anew where ids collide.
    Example: files of two tasks, both numbered from 1, joined by hand.
    """
    ids = np.frombuffer(survey.segment_ids, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    again = order[1:][(ids[order][1:] == ids[order][:-1]) & (ids[order][1:] > 0)]
    ends = np.cumsum([s.segments for s in survey.seen])
    for at in np.sort(again).tolist():
        n = int(np.searchsorted(ends, at, side="right"))
        position = at - (int(ends[n - 1]) if n else 0)
        yield survey.find(f"segment id {ids[at]} is used before", survey.seen[n], position)


@rule("A302", "error")
def id_below_one(scene: Scene) -> Iterator[Finding]:
    """
    A segment id is below 1, or larger than JSON can hold exactly.

    Why it matters: COCOeval marks "matched with nothing" by id 0, so an object with id 0 counts
    as missed even when it was found. Beyond 2^53, JavaScript and jq round ids.
    Fix: number from 1; `import` does where a source does not.
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


@rule("A309", "error")
def no_box(scene: Scene) -> Iterator[Finding]:
    """
    The source gives a segment a box that is none.

    Why it matters: boxes of no width or with a NaN turn the loss into NaN in mmdetection
    (issues 2999, 5525) and maskrcnn-benchmark. A release has boxes computed from the pixels.
    Fix: leave `bbox` out, or write [x, y, width, height] with a width and height above 0.
    Example: `"bbox": [10, 20, -5, 8]`, as from a rectangle drawn from right to left.
    """
    for index, segment in enumerate(scene.sample.segments):
        if "bbox" not in segment.origin or not scene.areas[index]:
            continue  # of a mask without pixels, A316 and others tell
        if _claimed(segment.origin) is None:
            yield scene.find(f"bbox is {str(segment.origin['bbox'])[:60]}", index)


@rule("A313", "warning")
def box_differs(scene: Scene) -> Iterator[Finding]:
    """
    The source's box is not the box of the mask.

    Why it matters: box and mask of one object then teach different things; it is often the sign
    of a mask that was moved, cut or swapped with another by the exporter.
    Fix: look at the segment. Releases have boxes computed from the pixels.
    Looks at: edges more than 1 px away both from the mask's box and from that of the polygon's
    vertices, which may lie outside the image. Boxes that CVAT rotates are left out.
    Example: bbox [0, 0, 50, 50] for a mask at (200, 200).
    """
    for index, segment in enumerate(scene.sample.segments):
        box = _claimed(segment.origin)
        if box is None or segment.origin.get("shape") == "box" or not scene.areas[index]:
            continue
        x, y, w, h = scene.boxes[index].tolist()
        clipped = _clip(box, scene.sample.height, scene.sample.width)
        vertices = scene.extents[index]
        if _apart(clipped, (x, y, x + w, y + h)) > 1 and (
            vertices is None or _apart(box, vertices) > 1
        ):
            said = [round(v, 2) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
            yield scene.find(f"source says bbox {said}, mask has {[x, y, w, h]}", index)


@rule("A314", "warning")
def area_differs(scene: Scene) -> Iterator[Finding]:
    """
    The source's area is not the number of pixels.

    Why it matters: COCO sorts objects into small, medium and large by this number. Outlines
    drawn by cv2 or Pillow instead of COCO's rule are 3 to 4 % larger, small ones 7 to 10 %.
    Fix: look at the segment. Releases have areas counted from the pixels.
    Looks at: differences above 2 %, 1.5 times the root of the area, and 1 px.
    Example: area 2500 = 50 x 50 of the box, for a round mask of 1963 px.
    """
    for index, segment in enumerate(scene.sample.segments):
        area, said = scene.areas[index], segment.origin.get("area")
        if not area or not _finite(said) or segment.origin.get("shape") == "box":
            continue
        if outside(scene, index) > 1:
            continue  # the source may count what lies outside; P407 tells
        if abs(float(said) - area) > max(1, 1.5 * math.sqrt(area), 0.02 * area):
            yield scene.find(f"source says area {said:g}, mask has {area} px", index)


def _drop_empty(scene: Scene, index: int) -> Segment | None:  # noqa: ARG001
    return None


@rule("A316", "error", fix=_drop_empty)
def no_pixels(scene: Scene) -> Iterator[Finding]:
    """
    A segment has no pixels.

    Why it matters: nothing can match it. With one empty mask beside one good one, a perfect
    detector's AP falls from 1.00 to 0.505 (pycocotools 2.0.11).
    Fix: automatic; the segment is dropped. Those of P408 and P414 have a cause that a person
    can mend, and are left to them.
    Example: a polygon whose points are all on one spot.
    """
    for index, mask in enumerate(scene.masks):
        if mask is None or scene.areas[index]:
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
    Example: "table" as a thing, in a close-up.
    """
    pixels = scene.sample.height * scene.sample.width
    for index, segment in enumerate(scene.sample.segments):
        area = scene.areas[index]
        if area and area > FULL * pixels and scene.isthing(index) and not segment.iscrowd:
            yield scene.find(f"{scene.category(index)} covers {area / pixels:.1%}", index)


def _outside_wholly(scene: Scene, index: int) -> bool:
    return outside(scene, index) == math.inf


def _finite(value: object) -> TypeGuard[float]:
    """A number that a box or an area can have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e12 < value < 1e12


def _claimed(origin: Mapping[str, object]) -> _Box | None:
    """The source's COCO box as edges, or None where there is none or it is not one."""
    raw = origin.get("bbox")
    if not isinstance(raw, Sequence) or len(raw) != 4 or not all(map(_finite, raw)):
        return None
    x, y, w, h = map(float, raw)
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def _clip(box: _Box, height: int, width: int) -> _Box:
    left, top, right, bottom = box
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _apart(a: _Box, b: _Box) -> float:
    """The largest distance between two edges that should be one."""
    return max(abs(p - q) for p, q in zip(a, b, strict=True))
