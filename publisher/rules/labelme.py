"""Faults of Labelme files, and of shapes that are no segments, which only readers meet."""

# ruff: noqa: ARG001  there is nothing to look at; the docstrings are what counts

from __future__ import annotations

from collections.abc import Iterator

from .rule import Finding, Scene, reading_rule


@reading_rule("L811")
def other_size(scene: Scene) -> Iterator[Finding]:
    """
    A Labelme file was made for another picture size, or for the picture turned.

    Why it matters: shapes are in pixels of what Labelme showed. It turns a photo by its EXIF
    orientation first, so all masks of a lying phone photo are turned by 90 degrees against the
    pixels in the file. Labelme itself refuses a file whose imageHeight or imageWidth is wrong.
    Fix: save the picture upright, without the EXIF tag; or find the picture that was annotated.
    Example: `"imageHeight": 4032` beside a photo of 4032 x 3024 px with orientation 6.
    """
    yield from ()


@reading_rule("L812", "info")
def mask_extent(scene: Scene) -> Iterator[Finding]:
    """
    The PNG of a mask shape has another size than its two points span.

    Why it matters: Labelme has rounded two corners independently, or somebody edited one. As
    Labelme does, whole-numbered points cut the PNG, and others only place its top left pixel.
    Fix: look at the mask in Labelme and save it again.
    Example: a PNG of 10 x 8 px with points (5, 5) and (13, 12).
    """
    yield from ()


@reading_rule("L813")
def point_count(scene: Scene) -> Iterator[Finding]:
    """
    A polygon has fewer than three points, or another shape not the number that it needs.

    Why it matters: two points enclose nothing. Released versions of Labelme could save such
    polygons (issue 2298), and its own converters stop at them.
    Fix: delete the shape in Labelme, or draw it again.
    Example: `"shape_type": "polygon"` with `"points": [[1, 1], [9, 9]]`.
    """
    yield from ()


@reading_rule("L814", "warning")
def mixed_group(scene: Scene) -> Iterator[Finding]:
    """
    Shapes of one group have different labels.

    Why it matters: an instance has one label. Shapes of one group_id and one label are its
    parts; those of another label stay a segment of their own.
    Fix: correct the label of the odd part, or give it another group.
    Example: group 1 holds two shapes "person" and one "persn".
    """
    yield from ()


@reading_rule("L815")
def no_picture(scene: Scene) -> Iterator[Finding]:
    """
    It is unclear which picture a Labelme file is about.

    Why it matters: shapes on the wrong picture are noise. imagePath is missing, leads out of
    what was given, fits several pictures, or two files are about one picture.
    Fix: keep each JSON beside its picture, and import the folder that holds both.
    Example: `"imagePath": "C:\\\\Users\\\\me\\\\a.jpg"` where two folders have an a.jpg.
    """
    yield from ()


@reading_rule("L816")
def no_radius(scene: Scene) -> Iterator[Finding]:
    """
    A circle has radius 0.

    Why it matters: it covers no pixel, so nothing can match it; see A316 for what that costs.
    Fix: delete the shape in Labelme, or draw it again.
    Example: `"shape_type": "circle"` with `"points": [[5, 5], [5, 5]]`.
    """
    yield from ()


@reading_rule("L817", "warning")
def unknown_shape(scene: Scene) -> Iterator[Finding]:
    """
    A shape has no area, or is of an unknown kind.

    Why it matters: points and lines are no masks: they are left out.
    Fix: draw a polygon or a mask where a segment is meant.
    Example: `"shape_type": "linestrip"`.
    """
    yield from ()


@reading_rule("L818", "warning")
def mask_outside(scene: Scene) -> Iterator[Finding]:
    """
    A mask shape reaches over the border of its image.

    Why it matters: the pixels outside belong to nothing and are cut off; where they are many, the
    mask was drawn on another picture, or its points have moved.
    Fix: look at the mask in Labelme and save it again.
    Example: a PNG of 10 x 10 px whose first point is (95, 40), in an image that is 100 px wide.
    """
    yield from ()
