"""Faults that only readers meet: what cannot be read never reaches a Dataset."""

# ruff: noqa: ARG001  there is nothing to look at; the docstrings are what counts

from __future__ import annotations

from collections.abc import Iterator

from .rule import Finding, Scene, reading_rule


@reading_rule("J001")
def not_valid(scene: Scene) -> Iterator[Finding]:
    """
    The file is not valid UTF-8, JSON or XML, or its XML has a DOCTYPE.

    Why it matters: the parser has to guess from there on. Python's own json accepts NaN and
    1e400, and one NaN in a polygon makes pycocotools 2.0.11 allocate tens of GB or crash. XML
    entities let 1 kB unpack to gigabytes, so they are refused.
    Fix: export again; write JSON with `allow_nan=False`.
    Example: `{"area": NaN}`.
    """
    yield from ()


@reading_rule("J002")
def not_the_format(scene: Scene) -> Iterator[Finding]:
    """
    The file lacks what its format promises.

    Why it matters: without the lists `images`, `annotations` and `categories`, COCO's tools stop
    with a KeyError, or train on nothing.
    Fix: export again, or name the right format with `--format`.
    Example: a COCO file that is a bare list of annotations, as for COCO results.
    """
    yield from ()


@reading_rule("J005")
def wrong_type(scene: Scene) -> Iterator[Finding]:
    """
    A value has the wrong type.

    Why it matters: `"5"` and `5` are different keys, so the annotations of image "5" are
    silently nobody's.
    Fix: write numbers as numbers, and ids and sizes as whole ones.
    Example: `"image_id": "5"`, `"width": 640.5`.
    """
    yield from ()


@reading_rule("J006")
def too_large(scene: Scene) -> Iterator[Finding]:
    """
    One JSON document is larger than 1 GiB.

    Why it matters: decoded, JSON takes 5 to 9 times its size in memory: 91 MB took 529 MB with
    Python's json and 785 MB with orjson.
    Fix: export in parts, for instance task by task, and import them together.
    Example: one `instances.json` for ten million images.
    """
    yield from ()


@reading_rule("A303")
def unknown_image(scene: Scene) -> Iterator[Finding]:
    """
    An annotation belongs to no image of its file.

    Why it matters: pycocotools loads it without complaint, and nobody ever sees it: not in
    training, not in evaluation.
    Fix: find out whether the image was lost or the id is wrong; export again.
    Example: `"image_id": 77` where the images are 1 to 50.
    """
    yield from ()


@reading_rule("A305")
def crowd_flag(scene: Scene) -> Iterator[Finding]:
    """
    `iscrowd` is something else than 0 or 1.

    Why it matters: pycocotools takes every value but 0 for a crowd, and a crowd is left out of
    AP: a detector that misses it loses nothing.
    Fix: 0 for an instance, 1 for a region of many that are not told apart.
    Example: `"iscrowd": 2`.
    """
    yield from ()


@reading_rule("C208")
def not_thing_or_stuff(scene: Scene) -> Iterator[Finding]:
    """
    A category's `isthing` is something else than 0 or 1, or is missing in a panoptic file.

    Why it matters: PQ is told apart for things and stuff by it; panopticapi stops with a KeyError
    where it is missing (issue 2). Datumaro 1.13 writes 0 for all, so that nothing is a thing.
    Fix: say it in `dataset.yaml`: 1 for what can be counted.
    Example: `{"id": 1, "name": "hand", "isthing": 2}`.
    """
    yield from ()


@reading_rule("P402")
def flat_polygon(scene: Scene) -> Iterator[Finding]:
    """
    A segmentation is not a list of rings.

    Why it matters: COCO wants `[[x, y, ...], ...]`. pycocotools reads a flat list of 4 numbers
    as boxes and stops at all others.
    Fix: wrap the ring in a list.
    Example: `"segmentation": [10, 10, 50, 10, 50, 50]`.
    """
    yield from ()


@reading_rule("R501")
def counts_type(scene: Scene) -> Iterator[Finding]:
    """
    The counts of an RLE are neither a string nor a list of whole numbers.

    Why it matters: pycocotools 2.0.11 cuts fractions off and goes on, so every later run
    starts too early.
    Fix: write the compressed string with `counts.decode("ascii")`, or integers.
    Example: `"counts": [3.5, 4]`.
    """
    yield from ()


@reading_rule("R502")
def size_type(scene: Scene) -> Iterator[Finding]:
    """
    The size of an RLE is not [height, width] in whole pixels.

    Why it matters: without both numbers, runs cannot be put on rows and columns.
    Fix: write `"size": [height, width]`, height first.
    Example: `"size": 307200`.
    """
    yield from ()


@reading_rule("K821")
def crop_runs(scene: Scene) -> Iterator[Finding]:
    """
    The runs of a CVAT mask do not fill its box.

    Why it matters: such masks occur (cvat issue 9460), and one is enough to make CVAT's own COCO
    export fail. The mask cannot be placed.
    Fix: open the frame in CVAT, draw that mask again, export again.
    Example: `rle="3, 4" width="4" height="5"`: 7 of 20 pixels.
    """
    yield from ()


@reading_rule("K822")
def crop_outside(scene: Scene) -> Iterator[Finding]:
    """
    The box of a CVAT mask is empty or lies wholly outside the image.

    Why it matters: the instance has no pixels; see A316 for what that costs.
    Fix: delete or draw it again in CVAT.
    Example: `left="700"` in an image 640 px wide.
    """
    yield from ()
