"""Maps of classes and objects as PNGs: Pascal VOC, Cityscapes, KITTI, semantic masks."""

# ruff: noqa: ARG001  there is nothing to look at; the docstrings are what counts

from __future__ import annotations

from collections.abc import Iterator

from .rule import Finding, Scene, reading_rule


@reading_rule("V801", "warning")
def other_palette(scene: Scene) -> Iterator[Finding]:
    """
    The palette of a class PNG is not Pascal VOC's.

    Why it matters: indices are what counts, but tools that decode colours by VOC's palette see
    no class at all, and whoever changed the palette may have renumbered the indices with it.
    Fix: compare a picture with its mask; write the masks again with `publisher convert --to voc`.
    Example: a PNG saved with a palette of 3 greys, where index 1 is (127, 127, 127).
    """
    yield from ()


@reading_rule("V802")
def unknown_value(scene: Scene) -> Iterator[Finding]:
    """
    A mask holds a value or a colour that is no class of its dataset.

    Why it matters: a loss over 21 classes stops at index 21, or is silently wrong. Such values
    come from masks resized with interpolation or saved as JPEG, where each border gets a row of
    colours between two classes, and from binary masks of 0 and 255, which are all "ignore".
    Fix: write the masks again without resizing, or complete the list of classes.
    Example: (125, 25, 41), half way between two classes of a Segmentation mask export.
    """
    yield from ()


@reading_rule("V803")
def maps_disagree(scene: Scene) -> Iterator[Finding]:
    """
    The maps of classes and of objects disagree.

    Why it matters: the class of an object is that of its pixels in the other map. With two of
    them, each loader takes its own: the most frequent one, the first one, or both.
    Fix: what is read has one segment a class and object; draw the object again where it is one.
    Example: object 3 covers 240 px of hand and 12 px of knife.
    """
    yield from ()


@reading_rule("V804")
def too_many_objects(scene: Scene) -> Iterator[Finding]:
    """
    An image has more than 254 objects, which no Pascal VOC mask can hold.

    Why it matters: its object PNG has 8 bits, and 0 and 255 are taken. labelme2voc lets number
    256 wrap around to 0, so that the object is background.
    Fix: write `--to coco-panoptic` or `--to coco` instead.
    Example: a picture of a heap of 300 screws.
    """
    yield from ()
