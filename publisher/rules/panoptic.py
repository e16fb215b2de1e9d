"""N: panoptic maps that do not say what their JSON says. Found while they are read."""

# ruff: noqa: ARG001  there is nothing to look at; the docstrings are what counts

from __future__ import annotations

from collections.abc import Iterator

from .rule import Finding, Scene, reading_rule


@reading_rule("N701")
def no_map(scene: Scene) -> Iterator[Finding]:
    """
    The PNG of an entry is missing.

    Why it matters: the JSON alone says that there are segments, and not where. panopticapi stops
    at the first such image, after minutes of work.
    Fix: put the maps into a folder named like the JSON, beside it, and name the folder that
    holds both.
    Example: `panoptic_val.json` without `panoptic_val/a.png`.
    """
    yield from ()


@reading_rule("N702", "warning")
def extra_map(scene: Scene) -> Iterator[Finding]:
    """
    A PNG lies among the maps and no entry asks for it.

    Why it matters: either its entry was lost, and with it an annotated image, or it is left over
    from an older version. It is not read.
    Fix: add the entry, or delete the file.
    Example: `panoptic_val/old.png`.
    """
    yield from ()


@reading_rule("N703")
def map_size(scene: Scene) -> Iterator[Finding]:
    """
    A panoptic PNG has another size than its image.

    Why it matters: no pixel of it belongs to a known pixel of the image; loaders that resize
    maps invent ids between the real ones.
    Fix: write the map again at the size of the image, or correct the size in the JSON.
    Example: a map of 5 x 5 px for an image of 10 x 5, as in Datumaro's own test data.
    """
    yield from ()


@reading_rule("N704")
def id_map_mode(scene: Scene) -> Iterator[Finding]:
    """
    A panoptic PNG is not 8-bit RGB.

    Why it matters: ids are R + 256 G + 65536 B. A palette or grey image keeps at most 256 of
    them, and panopticapi cannot index it.
    Fix: save the map as RGB, without resizing and without a palette. Reading mends it where
    the colours, or else the numbers, of such an image are the ids that the JSON lists.
    Example: a PNG of mode P, as image optimisers write where there are few colours.
    """
    yield from ()


@reading_rule("N705")
def unknown_id(scene: Scene) -> Iterator[Finding]:
    """
    A panoptic PNG holds an id that its entry does not list.

    Why it matters: nobody knows what these pixels are. panopticapi's evaluation stops with a
    KeyError where it is a prediction, and counts nothing where it is the truth.
    Fix: list the segment, or paint its pixels void, which is 0.
    Example: id 7 in the map, and 1 to 6 in `segments_info`.
    """
    yield from ()


@reading_rule("N706")
def no_pixel(scene: Scene) -> Iterator[Finding]:
    """
    An entry lists a segment that has no pixel in the PNG.

    Why it matters: as ground truth it can never be found, so each one lowers the recall of a
    perfect model. Mostly, others were painted over it.
    Fix: none is needed, it is dropped; where it should be seen, paint the map in another order.
    Example: a ring under the hand.
    """
    yield from ()


@reading_rule("N707")
def claims(scene: Scene) -> Iterator[Finding]:
    """
    The area or box of a segment is missing or is not that of its pixels.

    Why it matters: panopticapi trusts `area` of the ground truth, so a wrong one gives a wrong
    PQ without a word; its own converters copy areas from before the overlaps were painted, and
    the one for two-channel maps writes none (issue 57).
    Fix: none is needed, both are counted anew from the pixels.
    Example: `"area": 20` for 25 pixels, as in Datumaro's own test data.
    """
    yield from ()


@reading_rule("N708")
def id_twice(scene: Scene) -> Iterator[Finding]:
    """
    An entry lists one segment id twice.

    Why it matters: the pixels can belong to one only; readers keep the last. panopticapi's
    converter writes this for stuff that was annotated in several patches.
    Fix: none is needed where both are of one category, they are one; else give one a new id and
    paint it.
    Example: two tables, both with id 9.
    """
    yield from ()


@reading_rule("N709")
def id_range(scene: Scene) -> Iterator[Finding]:
    """
    A segment id is 0, negative, or does not fit into 24 bits.

    Why it matters: 0 is void, and RGB holds no more than 16,777,215. panopticapi's converter
    gives id 0 to segments of a category whose colour is black.
    Fix: number segments from 1, and give no category the colour black.
    Example: `"id": 16777216`.
    """
    yield from ()


@reading_rule("N712")
def no_entry(scene: Scene) -> Iterator[Finding]:
    """
    An image has no entry.

    Why it matters: nobody can tell an empty image from a forgotten one; panopticapi's evaluation
    stops at it.
    Fix: add an entry, with an empty `segments_info` where there is nothing, or remove the image.
    Example: 120 images and 119 annotations.
    """
    yield from ()


@reading_rule("N713")
def entry_twice(scene: Scene) -> Iterator[Finding]:
    """
    An image has two entries, or a map two images.

    Why it matters: which one counts differs from tool to tool.
    Fix: remove one.
    Example: two files were merged that both held the image.
    """
    yield from ()


@reading_rule("N714", "warning")
def map_name(scene: Scene) -> Iterator[Finding]:
    """
    A map is named differently from its image.

    Why it matters: many tools, panopticapi's among them, do not read the name but make it from
    the image's. Names with two dots are cut at the first.
    Fix: call the map like the image, with .png.
    Example: `a_panoptic.png` for `a.jpg`; `a.png` for `a.b.jpg`.
    """
    yield from ()


@reading_rule("N715", "info")
def mostly_void(scene: Scene) -> Iterator[Finding]:
    """
    More than half of an image is void, in a dataset that labels stuff.

    Why it matters: void pixels teach nothing and are not evaluated. Where stuff is labelled,
    that much of it is more often a forgotten background than a decision.
    Fix: none, if it is meant.
    Example: an image whose table was not drawn.
    """
    yield from ()


@reading_rule("N716")
def bent_map(scene: Scene) -> Iterator[Finding]:
    """
    A map was resized, compressed with loss, or may be changed by who shows it.

    Why it matters: interpolation invents ids along borders: between 3 and 9 lies 6, another
    segment. Gamma and colour profiles have some decoders change each value, and interlacing
    takes a slow way through all of them.
    Fix: write the map again from its source, resize with nearest neighbour only, and save no
    colour data. Where all ids are known, the numbers are taken as they are.
    Example: a map saved as JPEG and back; a gAMA chunk.
    """
    yield from ()


@reading_rule("N717")
def instances_disagree(scene: Scene) -> Iterator[Finding]:
    """
    The instances and the panoptic maps of one release disagree about an image.

    Why it matters: a model is trained on the one and judged on the other. It happens where one
    of them was mended later.
    Fix: build both from one source, as `publisher build` does.
    Looks at: each category of the instances, by pixels: what an instance covers must be its
    category's in the map, or that of something above it; more than 1 % of the category must be
    otherwise. Stuff that only the maps have may cover instances.
    Example: a hand drawn anew in `instances_val.json` and not in `panoptic_val/`.
    """
    yield from ()
