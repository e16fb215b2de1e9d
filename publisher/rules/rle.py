"""R: run-length encodings that are no mask of their image, or not in COCO's usual form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..dataset import Segment
from ..masks import Rle
from .rule import Finding, Scene, rule


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
