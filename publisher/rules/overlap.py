"""O and N: segments that claim the same pixels, and what a panoptic map makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..masks import Mask
from ..panoptic import default_policy, order
from .annotations import ALIKE
from .rule import Finding, Scene, rule

SLIVER = 0.01  # of the smaller one; borders that are drawn twice always overlap a little


@rule("O601", "warning")
def overlap(scene: Scene) -> Iterator[Finding]:
    """
    Two segments claim the same pixels, more than 1 % of the smaller one, and no order decides.

    Why it matters: a panoptic map gives each pixel to one segment; panopticapi's converter stops
    at the first shared one (issues 44, 51, 57), and others let one win by chance.
    Fix: cut one of them, set z-order in CVAT, or choose `--overlap smaller-on-top`.
    Looks at: segments without a z-order, as from COCO. Crowds may overlap.
    Example: a knife drawn over the hand that holds it, and the hand drawn through.
    """
    for i, j, shared in _clashes(scene):
        if None in _depths(scene, i, j):
            iou = _iou(scene, i, j, shared)
            yield scene.find(
                f"{scene.category(j)} overlaps {scene.category(i)} (segment {i}) on {shared} px, "
                f"IoU {iou:.3f}",
                j,
            )


@rule("O602", "error")
def hidden(scene: Scene) -> Iterator[Finding]:
    """
    A segment is wholly hidden by those above it.

    Why it matters: it is among the instances, and none of its pixels is in the panoptic map. In a
    test export by CVAT a knife vanished that way, without a message.
    Fix: move it to the front in CVAT, or delete it.
    Looks at: samples where every segment has a z-order; ties go by the place in the file.
    Example: a ring drawn before the hand, at the same level.
    """
    sample = scene.sample
    complete = [m for m in scene.masks if m is not None]
    if len(complete) < len(scene.masks) or default_policy(sample) != "z-order":
        return
    height = {index: n for n, index in enumerate(order(sample, complete, "z-order"))}
    above: dict[int, list[tuple[int, int]]] = {}
    for i, j, shared in scene.overlaps:
        low, high = (i, j) if height[i] < height[j] else (j, i)
        if _region(scene, low) != _region(scene, high):
            above.setdefault(low, []).append((high, shared))
    for low, covers in sorted(above.items()):
        area = scene.areas[low]
        if sum(n for _, n in covers) < area:
            continue
        cover = Mask.union([complete[high] for high, _ in covers])
        if complete[low].intersection(cover) == area:
            tops = ", ".join(f"{scene.category(high)} (segment {high})" for high, _ in covers)
            yield scene.find(f"{scene.category(low)} is wholly hidden by {tops}", low)


@rule("O603", "info")
def decided(scene: Scene) -> Iterator[Finding]:
    """
    A thing covers part of another one, and their z-order says so.

    Why it matters: nothing is wrong, but the instances share these pixels and the panoptic map
    gives them to the upper one, so the two disagree about the lower one's area.
    Fix: none is needed. If the wrong one wins, change the order in CVAT.
    Example: a cup on its saucer, drawn through beneath it.
    """
    for i, j, shared in _clashes(scene):
        a, b = _depths(scene, i, j)
        if a is None or b is None or a == b or not (scene.isthing(i) and scene.isthing(j)):
            continue
        low, high = (i, j) if a < b else (j, i)
        said = f"{scene.category(high)} covers {shared} px of {scene.category(low)} (segment {low})"
        yield scene.find(said, high)


@rule("O604", "warning")
def no_order(scene: Scene) -> Iterator[Finding]:
    """
    Two overlapping segments have the same z-order.

    Why it matters: who is in front then depends on their place in the file, which exports do
    not promise to keep: the pixels may change hands from one export to the next.
    Fix: send one to the front or back in CVAT.
    Example: CVAT gives every new shape z-order 0.
    """
    for i, j, shared in _clashes(scene):
        z, other = _depths(scene, i, j)
        if z is not None and z == other and _region(scene, i) != _region(scene, j):
            names = f"{scene.category(j)} and {scene.category(i)} (segment {i})"
            yield scene.find(f"{names} share {shared} px and z-order {z}", j)


@rule("O610", "warning")
def too_many(scene: Scene) -> Iterator[Finding]:
    """
    So many segments overlap that not all pairs were looked at.

    Why it matters: 10,000 segments on one spot make 50 million pairs, hours of work. What other
    rules say of overlaps in this image is true, and not complete.
    Fix: look at the picture; usually an exporter wrote the same object again and again.
    Looks at: more than 65,536 pairs of segments, or of rings of one segment, that share pixels,
    and masks so ragged or large that fewer take as long.
    Example: all frames of a video as segments of one image.
    """
    n, compared = len(scene.sample.segments), scene.compared
    if compared < n:
        yield scene.find(f"only the first {compared} of {n} segments were compared")
    for index, overlaps in scene.part_overlaps.items():
        n, compared = len(scene.parts[index]), overlaps.compared
        if compared < n:
            yield scene.find(f"only the first {compared} of {n} rings were compared", index)


@rule("N710", "info")
def stuff_twice(scene: Scene) -> Iterator[Finding]:
    """
    A stuff category has several patches in one image.

    Why it matters: a panoptic map has one segment a stuff class and image, so they become one
    there; panopticapi gave both one id and listed it twice.
    Fix: nothing to do, they are merged. If they are countable, make the category a thing.
    Example: table to the left and to the right of a plate.
    """
    yield from _several(scene, crowd=False)


@rule("N711", "warning")
def crowds_twice(scene: Scene) -> Iterator[Finding]:
    """
    A category has several crowds in one image.

    Why it matters: panopticapi keeps one crowd a class and image, the last, and counts what a
    model finds in the others as wrong.
    Fix: draw them as one region; in panoptic maps they are merged.
    Example: two rows of spectators, each marked as a crowd.
    """
    yield from _several(scene, crowd=True)


def _clashes(scene: Scene) -> Iterator[tuple[int, int, int]]:
    """Pairs that overlap for more than a sliver; without crowds, and what A306 and A307 tell."""
    segments = scene.sample.segments
    for i, j, shared in scene.overlaps:
        if segments[i].iscrowd or segments[j].iscrowd:
            continue
        alike = segments[i].category_id == segments[j].category_id
        if alike and _iou(scene, i, j, shared) > ALIKE:
            continue
        if shared > SLIVER * min(scene.areas[i], scene.areas[j]):
            yield i, j, shared


def _depths(scene: Scene, i: int, j: int) -> tuple[int | None, int | None]:
    return scene.sample.segments[i].z_order, scene.sample.segments[j].z_order


def _iou(scene: Scene, i: int, j: int, shared: int) -> float:
    return shared / (scene.areas[i] + scene.areas[j] - shared)


def _region(scene: Scene, index: int) -> tuple[int, bool, int]:
    """Segments with equal regions are one in a panoptic map."""
    segment = scene.sample.segments[index]
    merges = segment.iscrowd or not scene.isthing(index)
    return segment.category_id, segment.iscrowd, -1 if merges else index


def _several(scene: Scene, *, crowd: bool) -> Iterator[Finding]:
    members = [
        s.category_id
        for i, s in enumerate(scene.sample.segments)
        if s.iscrowd == crowd and (crowd or not scene.isthing(i))
    ]
    if len(members) < 2:
        return
    for key, n in sorted(Counter(members).items()):
        if n > 1:
            name = scene.categories[key].name if key in scene.categories else f"category {key}"
            yield scene.find(f"{n} {'crowds' if crowd else 'patches'} of {name}")
