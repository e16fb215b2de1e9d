"""R: run-length encodings that are no mask of their image, or not in COCO's usual form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..dataset import Segment
from ..masks import Rle
from ..shapes.runs import Runs
from .rule import Finding, Scene, rule

_SPECK = 4  # px, and more is no speck
_MANY = 10  # specks


def broken(scene: Scene, code: str) -> Iterator[Finding]:
    """Segments whose geometry masks.py refused for this reason."""
    for index, error in scene.broken:
        if error.code == code:
            yield scene.find(str(error), index)


@rule("R503", "error")
def size_differs(scene: Scene) -> Iterator[Finding]:
    """
    An RLE is for an image of another size.

    Why it matters: its runs are counted down the columns of the other size, so the mask
    would land elsewhere. pycocotools 2.0.11 does not complain: it gives IoU -1.0, and merges
    the two into a mask of size 0 x 0.
    Fix: export again; if only height and width are swapped, the exporter wrote [w, h].
    Example: size [640, 480] for an image that is 480 high and 640 wide.
    """
    upright = scene.sample.height, scene.sample.width
    for index, error in scene.broken:
        rle = scene.sample.segments[index].segmentation
        if error.code == "R503" and isinstance(rle, Rle):
            swapped = (rle.width, rle.height) == upright
            hint = "; height and width look swapped" if swapped else ""
            yield scene.find(f"{error}{hint}", index)


@rule("R504", "error")
def runs_do_not_fit(scene: Scene) -> Iterator[Finding]:
    """
    The runs of an RLE do not add up to height x width.

    Why it matters: pycocotools 2.0.11 decodes a short RLE without complaint and returns
    whatever lay in memory: 5 true pixels became 149.
    Fix: export again from the source; the mask cannot be rebuilt.
    Example: size [4, 5] with counts [3, 4], which is 7 pixels instead of 20.
    """
    yield from broken(scene, "R504")


@rule("R505", "error")
def negative_run(scene: Scene) -> Iterator[Finding]:
    """
    An RLE has a negative run, or one longer than any image.

    Why it matters: the runs after it start at the wrong pixel. pycocotools 2.0.11 reported an
    area of 9,000,000 for a 10 x 10 image.
    Fix: export again from the source; the mask cannot be rebuilt.
    Example: counts [5, -3, 18].
    """
    yield from broken(scene, "R505")


@rule("R506", "error")
def not_counts(scene: Scene) -> Iterator[Finding]:
    """
    The compressed counts of an RLE are damaged.

    Why it matters: COCO's codec uses the 64 characters from "0" to "o". pycocotools 2.0.11
    decodes all others to garbage (an area of 178 in our test) without complaint.
    Fix: export again. Python's repr of bytes, "b'...'", is the usual culprit: write
    `counts.decode("ascii")`.
    Example: counts "b'09'".
    """
    yield from broken(scene, "R506")


def _canonical(scene: Scene, index: int) -> Segment:
    segment, mask = scene.sample.segments[index], scene.masks[index]
    if mask is None or not isinstance(segment.segmentation, Rle):
        return segment
    rle = Rle(mask.height, mask.width, mask.counts.decode("ascii"))
    return replace(segment, segmentation=rle)


@rule("R507", "info", fix=_canonical)
def not_canonical(scene: Scene) -> Iterator[Finding]:
    """
    An RLE has empty runs in its middle or at its end.

    Why it matters: the pixels are right, but two equal masks have different counts, so
    comparing or hashing them finds no duplicates.
    Fix: automatic; the same pixels are written in canonical form.
    Example: counts [3, 2, 0, 4, 11], which is [3, 6, 11].
    """
    for index, (segment, mask) in enumerate(zip(scene.sample.segments, scene.masks, strict=True)):
        rle = segment.segmentation
        if mask is None or not isinstance(rle, Rle):
            continue
        if isinstance(rle.counts, str):
            odd = rle.counts.encode("ascii") != mask.counts
        else:
            odd = 0 in rle.counts[1:]
        if odd:
            yield scene.find("counts are not in canonical form", index)


@rule("R508", "error")
def row_major(scene: Scene) -> Iterator[Finding]:
    """
    The runs of an RLE look counted along rows, not down columns.

    Why it matters: COCO counts down columns. Read so, runs along rows make stripes all over the
    image: a 100 x 100 square in a 640 x 480 picture has an IoU of 0.09 with the truth.
    Fix: mend the exporter: encode the transposed mask, in Fortran order.
    Looks at: masks of 64 px and more, in images that are far from square. Next to a pixel of an
    object most pixels are its own; this tells if that holds along rows and not down columns.
    Example: `itertools.groupby(mask.ravel())` in place of `mask.ravel(order="F")`.
    """
    height, width = scene.sample.height, scene.sample.width
    which, runs = scene.scattered
    if height == width or not which:
        return
    areas = np.array([scene.areas[i] for i in which], dtype=np.float64)
    down, along = (_again(runs, step) / areas for step in (height, width))
    for at in np.flatnonzero((along > 0.75) & (along > 2 * down)).tolist():
        yield scene.find("runs look counted along rows, not down columns", which[at])


def _drop(scene: Scene, index: int) -> Segment | None:  # noqa: ARG001
    return None


@rule("R509", "error", fix=_drop)
def all_zero(scene: Scene) -> Iterator[Finding]:
    """
    An RLE has no pixel.

    Why it matters: nothing can match it. With one empty mask beside one good one, a perfect
    detector's AP falls from 1.00 to 0.505 (pycocotools 2.0.11).
    Fix: automatic; the segment is dropped.
    Example: counts [307200] for a 640 x 480 image.
    """
    for index, segment in enumerate(scene.sample.segments):
        is_rle = isinstance(segment.segmentation, Rle)
        if is_rle and scene.masks[index] is not None and not scene.areas[index]:
            yield scene.find("RLE has no pixel", index)


@rule("R510", "warning")
def all_one(scene: Scene) -> Iterator[Finding]:
    """
    The RLE of a thing is every pixel of the image.

    Why it matters: no instance has no background. It is what an empty or a lost mask becomes
    when it is inverted, and it hides all other segments in a panoptic map.
    Fix: draw it again, or delete it; if it is a background, make the category stuff.
    Example: counts [0, 307200] for a 640 x 480 image.
    """
    pixels = scene.sample.height * scene.sample.width
    for index, segment in enumerate(scene.sample.segments):
        whole = scene.areas[index] == pixels and isinstance(segment.segmentation, Rle)
        if whole and not segment.iscrowd and scene.isthing(index):
            yield scene.find(f"{scene.category(index)} is every pixel of the image", index)


@rule("R511", "warning")
def inverted(scene: Scene) -> Iterator[Finding]:
    """
    The RLE of a thing touches all four borders and covers most of the image.

    Why it matters: a mask whose runs start with ones instead of zeros is the background. It
    covers more than 80 % of the image where the thing covers less than 20 %.
    Fix: look at it; if it is inverted, mend the exporter: counts start with the zeros, and
    with a 0 where the first pixel is set.
    Example: a hand whose mask is everything but the hand.
    """
    height, width = scene.sample.height, scene.sample.width
    for index, segment in enumerate(scene.sample.segments):
        area = scene.areas[index]
        if not isinstance(segment.segmentation, Rle) or segment.iscrowd or area == 0:
            continue
        share = area / (height * width)
        full = scene.boxes[index].tolist() == [0, 0, width, height]
        if full and 0.8 < share <= 0.98 and scene.isthing(index):
            yield scene.find(f"covers {share:.0%} and touches all borders: inverted?", index)


@rule("R512", "info")
def speckled(scene: Scene) -> Iterator[Finding]:
    """
    A mask has ten or more specks of fewer than 4 px.

    Why it matters: nobody draws them; they are left by a threshold, by a model, or by a mask that
    was scaled or saved as JPEG. Border scores count them, and each makes the RLE longer.
    Fix: remove specks in the annotation tool, or by an opening of the mask.
    Looks at: regions that touch no other one, not even at a corner; in masks of 64 px and more
    that do not fill their box, or have more runs than columns.
    Example: a hand cut out by colour, with 40 single pixels of the wall.
    """
    which, runs = scene.scattered
    short = runs.stop - runs.start < _SPECK
    if np.bincount(runs.owner[short], minlength=1).max() < _MANY:
        return
    for at, n in enumerate(_specks(runs, scene.sample.height).tolist()):
        if n >= _MANY:
            yield scene.find(f"mask has {n} specks of fewer than {_SPECK} px", which[at])


def _again(runs: Runs, step: int) -> NDArray[np.float64]:
    """Pixels of each mask, (N,), of which the pixel `step` further on belongs to it, too."""
    shared = _pixels_before(runs, runs.stop + step) - _pixels_before(runs, runs.start + step)
    return np.bincount(runs.owner, shared, runs.count).astype(np.float64)


def _pixels_before(runs: Runs, position: NDArray[np.int64]) -> NDArray[np.int64]:
    begun = np.searchsorted(runs.start, position, side="left")
    length = np.append(0, np.cumsum(runs.stop - runs.start))
    beyond = np.append(-1, runs.stop)[begun] - position
    return np.asarray(length[begun] - np.maximum(beyond, 0) * (begun > 0), dtype=np.int64)


def _specks(runs: Runs, height: int) -> NDArray[np.int64]:
    """
    How many regions of fewer than 4 px each mask has, (N,).

    Runs that touch take the lowest number among them. Three rounds number every region of up
    to three runs; a region that still has two numbers is larger, and does not count.
    """
    here = np.arange(len(runs.start))
    first = np.searchsorted(runs.stop, runs.start + height, side="left")
    after = np.searchsorted(runs.start, runs.stop + height, side="right")
    many = np.maximum(after - first, 0)
    left = np.repeat(here, many)
    right = np.arange(len(left)) - np.repeat(np.cumsum(many) - many, many) + np.repeat(first, many)
    number = here.copy()
    for _ in range(3):
        lower = np.minimum(number[left], number[right])
        np.minimum.at(number, left, lower)
        np.minimum.at(number, right, lower)
    size = np.bincount(number, runs.stop - runs.start, len(here)).astype(np.float64)
    apart = number[left] != number[right]
    size[number[left[apart]]] = size[number[right[apart]]] = np.inf
    specks = np.flatnonzero((size > 0) & (size < _SPECK))
    return np.bincount(runs.owner[specks], minlength=runs.count)
