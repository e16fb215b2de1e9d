"""Faults that only readers meet: what cannot be read never reaches a Dataset."""

# ruff: noqa: ARG001  there is nothing to look at; the docstrings are what counts

from __future__ import annotations

from collections.abc import Iterator

from .rule import Finding, Scene, reading_rule


@reading_rule("J001")
def not_valid(scene: Scene) -> Iterator[Finding]:
    """
    The file is not valid UTF-8, JSON or XML, or its XML has a DOCTYPE.

    Why it matters: the parser has to guess from there on, and two parsers guess differently. XML
    entities let 1 kB unpack to gigabytes, so they are refused.
    Fix: export again; the message says at which byte to look.
    Example: a file whose download stopped halfway.
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


@reading_rule("J003", "warning")
def key_twice(scene: Scene) -> Iterator[Finding]:
    """
    A key is twice in one object.

    Why it matters: Python's json, orjson and msgspec all keep the last value and drop the first
    without a word; other parsers keep the first.
    Fix: find out which one is meant, and remove the other.
    Looks at: the top level of COCO, and annotations whose `image_id` or `segmentation` is twice.
    Example: `{"image_id": 1, "image_id": 2}`.
    """
    yield from ()


@reading_rule("J004")
def no_number(scene: Scene) -> Iterator[Finding]:
    """
    A number is NaN, infinite, or too large for 64 bits.

    Why it matters: JSON has no such numbers, but Python's json writes and reads them. One NaN
    in a polygon makes pycocotools 2.0.11 allocate tens of GB or crash.
    Fix: write JSON with `allow_nan=False`, and mend what then stops. In a COCO file, only the
    record that has it is lost.
    Example: `{"area": NaN}`, `1e400`.
    """
    yield from ()


@reading_rule("J005")
def wrong_type(scene: Scene) -> Iterator[Finding]:
    """
    A value has the wrong type.

    Why it matters: `"5"` and `5` are different keys, so the annotations of image "5" are
    silently nobody's.
    Fix: write numbers as numbers, and ids and sizes as whole ones. Reading COCO casts where that
    is exact, and says so.
    Example: `"image_id": "5"`, `"width": 640.5`.
    """
    yield from ()


@reading_rule("J006")
def too_large(scene: Scene) -> Iterator[Finding]:
    """
    A JSON document is larger than 1 GiB, or one record of a COCO file larger than 64 MiB.

    Why it matters: decoded, JSON takes 5 to 9 times its size in memory: 91 MB took 529 MB with
    Python's json and 785 MB with orjson. COCO files of any size are read record by record.
    Fix: export in parts, for instance task by task, and import them together.
    Example: one `datumaro.json` for ten million images.
    """
    yield from ()


@reading_rule("J007", "info")
def unknown_field(scene: Scene) -> Iterator[Finding]:
    """
    A file says something that its format does not know, or that has no place in a dataset.

    Why it matters: no tool but the one that wrote it looks at it. What is kept is written back
    in the same format; the message says where it is not.
    Fix: nothing, unless it is a known field misspelt.
    Example: `"iscrowded": 0`.
    """
    yield from ()


@reading_rule("J008", "warning")
def around_the_json(scene: Scene) -> Iterator[Finding]:
    """
    Something stands before or behind the JSON: a byte order mark, or more data.

    Why it matters: Python's json refuses both, so half of all tools cannot open the file. Data
    behind the end are often a second document, which nobody reads.
    Fix: save as UTF-8 without a byte order mark; part the documents.
    Example: two exports joined with `cat a.json b.json`.
    """
    yield from ()


@reading_rule("J009")
def left_out(scene: Scene) -> Iterator[Finding]:
    """
    There are more annotation files than would be read.

    Why it matters: a folder with two exports, one of which is passed over, looks like one with a
    single export; nobody misses the images of the other.
    Fix: read each by its own path (`publisher import A B`), say with `--format` which are meant,
    or take away what is not. COCO's instances and panoptic files may stand side by side.
    Example: `extra.json` beside `instances_train.json`.
    """
    yield from ()


@reading_rule("J010", "info")
def not_read(scene: Scene) -> Iterator[Finding]:
    """
    A file that may hold annotations is not read, and nothing that is known of it is lost.

    Why it matters: only its owner knows whether it says more than the files that are read.
    Fix: nothing, unless it does; read it by its own path then.
    Example: `captions_val.json` and `panoptic_val.json` beside `instances_val.json`, an archive
    within a folder, a JSON of no format.
    """
    yield from ()


@reading_rule("I118", "warning")
def unknown_licence(scene: Scene) -> Iterator[Finding]:
    """
    An image names a licence that its file does not list.

    Why it matters: nobody can tell whether the picture may be used.
    Fix: add the licence to `licenses`, with its URL.
    Example: `"license": 3` where `licenses` is empty.
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


@reading_rule("A308")
def no_box(scene: Scene) -> Iterator[Finding]:
    """
    An annotation has no bbox or no area.

    Why it matters: pycocotools stops with a KeyError at the first one, detectron2 too; by area,
    COCO's evaluation tells small from large.
    Fix: none needed here: both are computed from the mask whenever COCO is written.
    Example: an export of segmentations only.
    """
    yield from ()


@reading_rule("A320", "info")
def scored(scene: Scene) -> Iterator[Finding]:
    """
    An annotation has a score, as predictions have.

    Why it matters: model output may have been saved as if people had drawn it.
    Fix: make sure that somebody has looked at it.
    Example: `"score": 0.83` from a model-assisted tool.
    """
    yield from ()


@reading_rule("A321", "warning")
def bent_keypoints(scene: Scene) -> Iterator[Finding]:
    """
    Keypoints do not fit together.

    Why it matters: pycocotools reads `keypoints` in threes, x, y and visibility, and skips
    objects with `num_keypoints` 0: with a wrong count, they are not scored.
    Fix: export again. Keypoints are kept as they are and written back to COCO.
    Example: 17 keypoints in 50 numbers; `num_keypoints` 3 where 2 are visible.
    """
    yield from ()


@reading_rule("P402")
def flat_polygon(scene: Scene) -> Iterator[Finding]:
    """
    A segmentation is not a list of rings.

    Why it matters: COCO wants `[[x, y, ...], ...]`. pycocotools reads a flat list of 4 numbers
    as boxes and stops at all others.
    Fix: automatic for a lone ring, which is wrapped in a list.
    Example: `"segmentation": [10, 10, 50, 10, 50, 50]`.
    """
    yield from ()


@reading_rule("P405")
def ring_like_a_box(scene: Scene) -> Iterator[Finding]:
    """
    The first ring of a segmentation has four numbers.

    Why it matters: two points have no area, and pycocotools takes any list that begins with four
    numbers for boxes, and stops with a TypeError.
    Fix: drop the ring, or draw the object again; for a box, write its four corners.
    Example: `"segmentation": [[10, 10, 50, 50]]`.
    """
    yield from ()


@reading_rule("R501")
def counts_type(scene: Scene) -> Iterator[Finding]:
    """
    The counts of an RLE are neither a string nor a list of whole numbers.

    Why it matters: pycocotools 2.0.11 cuts fractions off and goes on, so every later run
    starts too early. Bytes printed by Python, `b'...'`, are read without the decoration.
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
    The box of a CVAT mask is empty or lies outside the image.

    Why it matters: what is outside has no pixels; where that is all of it, see A316 for what it
    costs. Where it is a part, the rest is kept, and this is a warning: the mask may be of a picture
    of another size.
    Fix: delete or draw it again in CVAT.
    Example: `left="700"` in an image 640 px wide.
    """
    yield from ()
