"""Labelme: every shape it draws is read as it means it, and it reads what we write."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from publisher import formats
from publisher.conservation import balance, tally
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError, InvalidDataset
from publisher.files import open_tree
from publisher.formats import labelme
from publisher.masks import Mask, Rle
from publisher.stages import conversion, intake
from publisher.validate import RULES
from tests import strategies
from tests.formats.contract import FormatContract
from tests.makers import coco_document, coco_folder, picture, zipped


class TestLabelme(FormatContract):
    name = "labelme"


# ── files as Labelme writes them ─────────────────────────────────────────────────────────────


def shape(kind="polygon", points=((1, 1), (9, 1), (9, 9), (1, 9)), label="hand", **more):
    usual = {"group_id": None, "description": "", "shape_type": kind, "flags": {}, "mask": None}
    return {"label": label, "points": [list(p) for p in points], **usual, **more}


def document(*shapes, **more):
    """A file of Labelme 7 about a picture of 20 x 30."""
    return {
        "version": "7.1.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 30,
        **more,
    }


def saved(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def png(array):
    return saved(Image.fromarray(np.asarray(array, np.uint8)))


def folder(path, files, pictures=("a.jpg",)):
    """Write documents by name, and pictures of 20 x 30 or given as bytes."""
    if not isinstance(pictures, dict):
        pictures = {name: picture() for name in pictures}
    for name, said in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(said if isinstance(said, str) else json.dumps(said), "utf-8")
    for name, body in pictures.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(body)
    return path


def read(path):
    with open_tree(path) as tree:
        return labelme.read(tree)


def reading_of(path, *shapes, **more):
    return read(folder(path, {"a.json": document(*shapes, **more)}))


def segments_of(path, *shapes):
    reading = reading_of(path, *shapes)
    assert reading.findings == ()
    return reading.pictures[0].sample.segments


# ── shapes ───────────────────────────────────────────────────────────────────────────────────


def test_polygons_keep_their_vertices(tmp_path):
    (segment,) = segments_of(tmp_path, shape(points=[(1.25, 1), (9.5, 1), (9, 9.125)]))
    assert segment.segmentation == ((1.25, 1.0, 9.5, 1.0, 9.0, 9.125),)


@pytest.mark.parametrize("corners", [((2, 3), (8, 7)), ((8, 7), (2, 3)), ((2, 7), (8, 3))])
def test_a_rectangle_may_be_drawn_from_any_corner(tmp_path, corners):
    (segment,) = segments_of(tmp_path, shape("rectangle", corners))
    expected = np.zeros((20, 30), bool)
    expected[3:7, 2:8] = True
    assert (segment.mask(20, 30).to_array() == expected).all()


@pytest.mark.parametrize("kind", ["rectangle", "oriented_rectangle", "rotation"])
def test_rectangles_of_four_points_are_as_they_lie(tmp_path, kind):
    points = [(10, 2), (18, 10), (10, 18), (2, 10)]
    (segment,) = segments_of(tmp_path, shape(kind, points))
    assert segment.segmentation == (tuple(float(v) for p in points for v in p),)


def test_a_circle_is_centre_and_edge(tmp_path):
    (segment,) = segments_of(tmp_path, shape("circle", [(15, 10), (19, 13)]))
    y, x = np.mgrid[:20, :30] + 0.5
    inside = (x - 15) ** 2 + (y - 10) ** 2 <= 25
    mask = segment.mask(20, 30).to_array()
    assert (mask ^ inside).sum() <= 4
    (ring,) = segment.segmentation
    points = np.reshape(ring, (-1, 2))
    assert np.abs(np.hypot(*(points - [15, 10]).T) - 5).max() < 0.01
    assert segment.origin["circle"] == {"centre": [15.0, 10.0], "radius": 5.0}


CROP = np.array([[0, 1, 2, 0], [255, 0, 0, 1], [0, 0, 0, 1]], np.uint8)


def test_a_large_circle_is_round_to_about_a_hundredth_of_a_pixel(tmp_path):
    (segment,) = segments_of(tmp_path, shape("circle", [(2000, 2000), (2300, 2000)]))
    points = np.reshape(segment.segmentation[0], (-1, 2))
    middles = (points + np.roll(points, 1, axis=0)) / 2
    assert np.hypot(*(middles - 2000).T).min() > 300 - 0.02


@pytest.mark.parametrize(
    ("mode", "values"),
    [("L", CROP), ("1", CROP > 0), ("P", CROP), ("I;16", CROP.astype(np.uint16) * 256)],
)
def test_every_value_of_a_mask_but_0_is_its_own(tmp_path, mode, values):
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([9, 9, 9] * 256)  # all one colour: the index counts
    assert image.mode == mode
    (segment,) = segments_of(tmp_path, shape("mask", [(5, 2), (8, 4)], mask=saved(image)))
    expected = np.zeros((20, 30), bool)
    expected[2:5, 5:9] = CROP > 0
    assert (segment.mask(20, 30).to_array() == expected).all()


@pytest.mark.parametrize(("left", "top"), [(-2, -1), (28, 18), (-2, 18), (28, -1), (40, 5)])
def test_a_mask_that_hangs_over_the_image_is_cut_and_said(tmp_path, left, top):
    said = shape("mask", [(left, top), (left + 3, top + 2)], mask=png(CROP))
    reading = reading_of(tmp_path, said)
    (segment,) = reading.pictures[0].sample.segments
    lost = np.count_nonzero(CROP) - segment.mask(20, 30).area
    assert [(f.code, f.message.split()[0]) for f in reading.mended] == [("L818", str(lost))]
    wide = np.zeros((60, 90), bool)
    wide[20 + top : 23 + top, 30 + left : 34 + left] = CROP > 0
    assert (segment.mask(20, 30).to_array() == wide[20:40, 30:60]).all()


def test_fractional_corners_only_place_the_mask(tmp_path):
    """Python and Labelme round halves to even."""
    reading = reading_of(tmp_path, shape("mask", [(4.5, 1.6), (9.4, 3.6)], mask=png(CROP)))
    (segment,) = reading.pictures[0].sample.segments
    assert segment.mask(20, 30).bbox == (4, 2, 4, 3)
    (drift,) = reading.mended
    assert (drift.code, drift.severity) == ("L812", "info")


def test_whole_numbered_corners_cut_the_mask(tmp_path):
    reading = reading_of(tmp_path, shape("mask", [(5, 2), (7, 3)], mask=png(CROP)))
    (segment,) = reading.pictures[0].sample.segments
    assert segment.mask(20, 30).area == np.count_nonzero(CROP[:2, :3])
    assert [f.code for f in reading.mended] == ["L812"]


def test_shapes_of_version_3_lack_types_and_groups(tmp_path):
    old = {"label": "hand", "line_color": None, "points": [[1, 1], [9, 1], [9, 9]]}
    said = {"shapes": [old], "lineColor": [0, 255, 0, 128], "imagePath": "a.jpg", "imageData": None}
    reading = read(folder(tmp_path, {"a.json": said}))
    (sample,) = [p.sample for p in reading.pictures]
    assert (sample.height, sample.width, len(sample.segments)) == (20, 30, 1)
    assert reading.findings == ()


def test_points_and_lines_are_kept_with_their_picture_and_said(tmp_path):
    kinds = {"point": 1, "line": 2, "linestrip": 3, "points": 4}
    lines = [shape(k, [(i, i) for i in range(n)], group_id=1) for k, n in kinds.items()]
    reading = reading_of(tmp_path, shape(), *lines)
    (sample,) = [p.sample for p in reading.pictures]
    assert len(sample.segments) == 1
    assert [x["kind"] for x in sample.source["not_segments"]] == list(kinds)
    assert sample.source["not_segments"][1]["points"] == [[0.0, 0.0], [1.0, 1.0]]
    assert len([n for n in reading.notes if n.startswith("L817")]) == 4
    assert [(f.code, f.file_name) for f in reading.mended] == [("L817", "a.jpg")]


# ── groups, classes, attributes, order ───────────────────────────────────────────────────────


def test_sizes_and_groups_may_be_whole_decimals(tmp_path):
    said = document(shape(group_id=1.0), shape(group_id=1), imageHeight=20.0, imageWidth=30.0)
    (found,) = read(folder(tmp_path, {"a.json": said})).pictures
    assert (found.sample.height, found.sample.width, len(found.sample.segments)) == (20, 30, 1)


def test_shapes_of_one_group_and_label_are_one_instance(tmp_path):
    far = [(12, 12), (15, 12), (15, 15)]
    a, b, alone = segments_of(
        tmp_path,
        shape(group_id=0),
        shape(points=far, label="table"),
        shape(points=far, group_id=0),
        shape(points=far),
    )
    assert len(a.segmentation) == 2
    assert a.mask(20, 30).area == b.mask(20, 30).area + 64
    assert alone.mask(20, 30) == b.mask(20, 30)


def test_a_group_of_several_labels_is_a_warning_and_stays_apart(tmp_path):
    reading = reading_of(tmp_path, shape(group_id=1), shape(group_id=1, label="table"))
    (finding,) = reading.mended
    assert (finding.code, finding.severity) == ("L814", "warning")
    assert "group 1 mixes hand, table" in finding.message
    assert len(reading.pictures[0].sample.segments) == 2


def test_a_group_of_a_polygon_and_a_mask_is_their_union(tmp_path):
    parts = shape(group_id=4), shape("mask", [(20, 2), (23, 4)], mask=png(CROP), group_id=4)
    (segment,) = segments_of(tmp_path, *parts)
    assert segment.mask(20, 30).area == 64 + 5


def test_void_labels_are_no_segments_and_the_counts_say_so(tmp_path):
    reading = reading_of(
        tmp_path, shape(), shape(label="__ignore__"), shape(label="_background_"), shape()
    )
    assert [c.name for c in reading.categories] == ["hand"]
    assert reading.counted.segments == 4
    kept = tally([p.sample for p in reading.pictures], {1: "hand"})
    balance("read", reading.counted, kept, reading.items)
    assert "__ignore__ means no class: its shapes are no segments" in [
        i.reason for i in reading.items
    ]


def test_classes_have_the_order_of_labels_txt(tmp_path):
    said = document(shape(), shape(label="zebra"), shape(label="cup"))
    folder(tmp_path, {"a.json": said})
    labels = "__ignore__\n_background_\nzebra\r\n\n unused \nhand\n"
    (tmp_path / "labels.txt").write_text(labels)
    reading = read(tmp_path)
    assert [(c.id, c.name) for c in reading.categories] == [
        (1, "zebra"),
        (2, "unused"),
        (3, "hand"),
        (4, "cup"),
    ]
    assert [s.category_id for s in reading.pictures[0].sample.segments] == [3, 1, 4]
    assert "not in labels.txt, and added at its end: cup" in reading.notes


def test_without_labels_txt_classes_are_sorted(tmp_path):
    reading = reading_of(tmp_path, shape(label="b"), shape(label="a"))
    assert [c.name for c in reading.categories] == ["a", "b"]
    assert [s.category_id for s in reading.pictures[0].sample.segments] == [2, 1]


def test_flags_and_description_are_attributes(tmp_path):
    (segment,) = segments_of(tmp_path, shape(flags={"gloved": True}, description="left one"))
    assert segment.attributes == {"gloved": True, "description": "left one"}


def test_an_instance_has_the_attributes_of_all_its_shapes_and_where_they_differ_is_said(tmp_path):
    reading = reading_of(
        tmp_path,
        shape(group_id=1, flags={"gloved": True}),
        shape(group_id=1, flags={"gloved": False, "blurred": True}, description="thumb"),
    )
    (segment,) = reading.pictures[0].sample.segments
    assert segment.attributes == {"gloved": True, "blurred": True, "description": "thumb"}
    (item,) = reading.items
    assert "its shapes differ, and the first counts: gloved is True and False" in item.reason


def test_later_shapes_lie_on_top_and_an_instance_as_high_as_its_last_part(tmp_path):
    a, b, c = segments_of(tmp_path, shape(group_id=1), shape(label="b"), shape(group_id=1), shape())
    assert (a.z_order, b.z_order, c.z_order) == (2, 1, 3)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "name", "guessed"),
    [
        ("a.jpg", "labels/a.jpg", False),
        ("../images/a.jpg", "images/a.jpg", False),
        ("..\\images\\a.jpg", "images/a.jpg", False),
        ("C:\\Users\\me\\a.jpg", "images/a.jpg", True),
        ("/home/me/a.jpg", "images/a.jpg", True),
        ("../../elsewhere/a.jpg", "images/a.jpg", True),
        ("a.json", "labels/x.jpg", True),
        (None, "labels/x.jpg", True),
    ],
)
def test_the_picture_is_found_from_where_the_json_is(tmp_path, said, name, guessed):
    files = {"labels/x.json": document(imagePath=said)}
    reading = read(folder(tmp_path, files, [name]))
    assert reading.findings == ()
    assert [(p.sample.file_name, p.member) for p in reading.pictures] == [(name, name)]
    assert [f.code for f in reading.mended] == ["L815"] * guessed


def test_a_path_that_leads_out_is_cut_to_its_last_part_and_said(tmp_path):
    said = document(imagePath="../../../etc/a.jpg")
    reading = read(folder(tmp_path, {"x/a.json": said}, []))
    (found,) = reading.pictures
    assert (found.sample.file_name, found.member) == ("x/a.jpg", None)
    assert [f.code for f in reading.mended] == ["L815"]


@pytest.mark.parametrize(
    ("files", "pictures"),
    [
        ({"x.json": document(imagePath=None)}, []),
        ({"x.json": document(imagePath="")}, ["x.jpg", "x.png"]),
        ({"x.json": document(imagePath="../..")}, ["a.jpg"]),
        ({"x.json": document(imagePath="C:\\a.jpg")}, ["1/a.jpg", "2/a.jpg"]),
        ({"a.json": document(), "b.json": document()}, ["a.jpg"]),
    ],
)
def test_a_missing_or_ambiguous_picture_is_an_error(tmp_path, files, pictures):
    reading = read(folder(tmp_path, files, pictures))
    assert [(f.code, f.severity) for f in reading.findings] == [("L815", "error")]
    assert len(reading.pictures) == len(files) - 1


def test_a_missing_picture_is_not_that_of_another_file(tmp_path):
    files = {"1/a.json": document(), "2/a.json": document()}
    reading = read(folder(tmp_path, files, ["1/a.jpg"]))
    assert [p.member for p in reading.pictures] == ["1/a.jpg", None]
    assert (*reading.findings, *reading.mended) == ()


def test_a_picture_of_another_size_is_an_error(tmp_path):
    reading = reading_of(tmp_path, shape(), imageHeight=40, imageWidth=60)
    assert [f.code for f in reading.findings] == ["L811"]
    with pytest.raises(InvalidDataset, match="40"):
        intake.take_in([tmp_path], tmp_path.parent / "out", format_name="labelme")


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(exif=exif)


@pytest.mark.parametrize(
    ("orientation", "size", "codes"),
    [
        (1, (20, 30), []),
        (3, (20, 30), ["L811"]),
        (6, (30, 20), ["L811"]),
        (6, (20, 30), []),  # annotated as it is stored, by another tool
    ],
)
def test_a_picture_that_labelme_turns_is_told(tmp_path, orientation, size, codes):
    said = document(imageHeight=size[0], imageWidth=size[1])
    reading = read(folder(tmp_path, {"a.json": said}, {"a.jpg": turned(orientation)}))
    assert [f.code for f in reading.findings] == codes
    assert all(f"orientation {orientation}" in f.message for f in reading.findings)


def test_a_size_that_is_not_said_is_the_pictures_or_that_of_its_data(tmp_path):
    nothing = {"imageHeight": None, "imageWidth": None}
    inside = document(imagePath="b.jpg", imageData=base64.b64encode(picture()).decode(), **nothing)
    reading = read(folder(tmp_path, {"a.json": document(**nothing), "b.json": inside}))
    assert [(p.sample.height, p.sample.width) for p in reading.pictures] == [(20, 30)] * 2
    assert [p.member for p in reading.pictures] == ["a.jpg", None]
    assert any("only inside their JSON" in n for n in reading.notes)


def test_the_data_in_the_json_must_have_the_size_that_is_said(tmp_path):
    said = document(imageData=base64.b64encode(picture(40, 60)).decode())
    reading = read(folder(tmp_path, {"a.json": said}, []))
    assert [f.code for f in reading.findings] == ["L811"]


def test_pictures_without_a_file_and_other_json_are_named(tmp_path):
    files = {"a.json": document(), "x/notes.json": {"by": "me"}, "list.json": [1]}
    found = intake.source(folder(tmp_path, files, ["a.jpg", "x/b.jpg"]))
    assert any("1 picture(s) in x have no entry: x/b.jpg" in n for n in found.notes)
    assert any("not read: list.json, x/notes.json" in n for n in found.notes)
    assert len(found.dataset) == 1


def test_folders_that_are_named_like_splits_are_splits(tmp_path):
    files = {f"{s}/{n}.json": document(imagePath=f"{n}.jpg") for s, n in (("train", 1), ("val", 2))}
    dataset = intake.read(folder(tmp_path, files, []))
    assert [(s.file_name, s.split) for s in dataset] == [
        ("train/1.jpg", "train"),
        ("val/2.jpg", "val"),
    ]


def test_an_archive_imports_with_its_pictures(tmp_path):
    members = {
        "d/a.json": json.dumps(document(shape(), shape(label="__ignore__"))),
        "d/a.jpg": picture(),
        "d/labels.txt": "__ignore__\nhand\ncup\n",
    }
    taken = intake.take_in([zipped(tmp_path / "in.zip", members)], tmp_path / "out")
    (sample,) = taken.dataset
    assert sample.file_name == "d/a.jpg"
    assert [c.name for c in taken.dataset.categories] == ["hand", "cup"]
    assert (tmp_path / "out/images/d/a.jpg").is_file()


def test_pictures_may_come_from_another_folder(tmp_path):
    folder(tmp_path / "labels", {"a.json": document(shape())}, [])
    folder(tmp_path / "images", {}, ["a.jpg"])
    taken = intake.take_in([tmp_path / "labels"], tmp_path / "out", images=tmp_path / "images")
    assert [s.file_name for s in taken.dataset] == ["a.jpg"]
    assert taken.kept.pixels == {"hand": 64}


# ── telling it from other formats ────────────────────────────────────────────────────────────


def detected(path):
    with open_tree(path) as tree:
        return formats.detect(tree).name


def test_a_single_file_is_told(tmp_path):
    folder(tmp_path, {"a.json": document(shape())})
    assert detected(tmp_path / "a.json") == "labelme"


def test_coco_is_not_taken_for_labelme(tmp_path):
    assert detected(coco_folder(tmp_path / "d", coco_document([{}]))) == "coco"


class Heads:
    """A tree of huge files; reading more than a little of them fails."""

    label = "huge"

    def __init__(self, heads):
        self.heads = heads
        self.left = 4 * 2**20

    def names(self):
        return sorted(self.heads)

    def size(self, name):
        return 2**40

    def open(self, name):
        return io.BufferedReader(Endless(self.heads[name], self))


class Endless(io.RawIOBase):
    def __init__(self, head, tree):
        self.head, self.tree = head, tree

    def readable(self):
        return True

    def readinto(self, buffer):
        self.tree.left -= len(buffer)
        assert self.tree.left > 0, "far too much was read"
        data = (self.head + b"A" * len(buffer))[: len(buffer)]
        self.head = self.head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize(
    ("head", "is_labelme"),
    [
        (b'{"version": "5.0.1", "flags": {}, "shapes": [{"label": "', True),
        (b'\xef\xbb\xbf {"imageData": "', True),
        (b'{"images": [{"shapes": "', False),
        (b'{"annotations": [], "shapes": "', False),
        (b'[{"shapes": "', False),
        (b'{"x": {"shapes": 1}, "y": "\\"shapes\\":', False),
        (b"AAA", False),
    ],
)
def test_gigabytes_are_told_by_their_first_bytes(head, is_labelme):
    names = [f"{i:04}.json" for i in range(5000)]
    assert labelme.detect(Heads(dict.fromkeys(names, head))) == is_labelme


# ── what is wrong costs a finding ────────────────────────────────────────────────────────────


def truncated_png():
    return base64.b64encode(base64.b64decode(png(np.ones((9, 9))))[:-30]).decode()


def bomb(height, width):
    """A PNG whose header promises what its data do not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9999)), (b"IEND", b"")):
        crc = zlib.crc32(kind + data)
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    return base64.b64encode(body).decode()


HERE = [(1, 1), (3, 3)]


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("L813", shape(points=HERE)),
        ("L813", shape(points=[])),
        ("L813", shape("rectangle", [(1, 1)] * 3)),
        ("L813", shape("circle", [(1, 1)])),
        ("L813", shape("mask", [(1, 1)], mask=png(CROP))),
        ("L816", shape("circle", [(5, 5), (5, 5)])),
        ("L817", shape("ellipse")),
        ("P401", shape("mask", HERE)),
        ("P406", shape(points=[(1, 1), (1e9, 1), (9, 9)])),
        ("P406", shape("rectangle", [(1, 1), (1e200, 1)])),
        ("P406", shape("circle", [(1, 1), (1e6, 1)])),
        ("P406", shape("mask", [(1e300, 1), (1, 1)], mask=png(CROP))),
        ("I112", shape("mask", HERE, mask="not base64!")),
        ("I112", shape("mask", HERE, mask="手")),
        ("I112", shape("mask", HERE, mask=base64.b64encode(b"GIF89a").decode())),
        ("I112", shape("mask", HERE, mask=png(np.zeros((3, 3, 3))))),
        ("I112", shape("mask", HERE, mask=truncated_png())),
        ("I112", shape("mask", HERE, mask=bomb(1000, 1000))),
        ("I119", shape("mask", HERE, mask=bomb(2000, 2000))),
        ("I119", shape("mask", HERE, mask=bomb(2**30, 2**30))),
        ("J005", shape(label=None)),
        ("J005", shape(group_id="1")),
        ("J005", shape(points=[(1, 2, 3)])),
        ("J005", shape(points=[("1", 2)])),
        ("J005", "polygon"),
    ],
)
def test_a_bad_shape_costs_a_finding_and_not_its_neighbour(tmp_path, code, wrong):
    reading = reading_of(tmp_path, wrong, shape())
    (finding,) = reading.findings
    assert (finding.code, finding.file_name) == (code, "a.jpg")
    assert "shapes[0]" in finding.message
    assert len(reading.pictures[0].sample.segments) == 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("J001", "{"),
        ("J004", '{"shapes": [NaN]}'),
        ("J005", json.dumps(document() | {"shapes": {}})),
        ("J005", json.dumps(document(imageHeight="20"))),
        ("I108", json.dumps(document(imagePath="b.jpg", imageHeight=0))),
        ("I108", json.dumps(document(imagePath="b.jpg", imageHeight=None))),
        ("I109", json.dumps(document(imagePath="b\n.jpg"))),
        ("I112", json.dumps(document(imagePath="b.jpg", imageWidth=None, imageData="AAAA"))),
    ],
)
def test_a_bad_file_costs_a_finding_and_not_its_neighbour(tmp_path, code, text):
    reading = read(folder(tmp_path, {"a.json": document(shape()), "b.json": text}))
    assert [(f.code, f.file_name) for f in reading.findings] == [(code, "b.json")]
    assert [p.sample.file_name for p in reading.pictures] == ["a.jpg"]


@pytest.mark.parametrize("body", [b"\xff\xfe", b"x" * (2**20 + 1)])
def test_a_labels_txt_that_is_none_is_one_error(tmp_path, body):
    folder(tmp_path, {"a.json": document()})
    (tmp_path / "labels.txt").write_bytes(body)
    with pytest.raises(FormatError, match="labels"):
        read(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nonsense_gives_findings_only(tmp_path_factory, data):
    weird = strategies.JSON.filter(lambda x: x == x)
    keys = st.sampled_from(sorted({*shape(), "z_order", "attributes"}))
    kinds = ["polygon", "rectangle", "circle", "mask", "point", "x"]
    points = st.lists(st.tuples(strategies.FLOATS, strategies.FLOATS), max_size=4)
    one = st.builds(
        lambda kind, points, more: {**shape(kind, points, mask=png(CROP)), **more},
        st.sampled_from(kinds),
        points,
        st.dictionaries(keys, weird, max_size=2),
    )
    shapes = data.draw(st.lists(one | weird, max_size=4))
    more = data.draw(st.dictionaries(st.sampled_from(sorted(document())), weird, max_size=2))
    text = json.dumps(document(*shapes, **more)).encode("utf-8", "replace").decode()
    text = text.replace("NaN", "7").replace("Infinity", "1e30")
    reading = read(folder(tmp_path_factory.mktemp("d"), {"x/a.json": text}))
    assert all(f.code in RULES for f in (*reading.findings, *reading.mended))
    kept = tally([p.sample for p in reading.pictures], {c.id: c.name for c in reading.categories})
    if not reading.findings:
        balance("read", reading.counted, kept, reading.items)


# ── what is written ──────────────────────────────────────────────────────────────────────────


RING = np.pad(np.pad(np.zeros((2, 2), bool), 3, constant_values=True), ((5, 7), (9, 13)))


SQUARE_SEGMENT = Segment(1, 1, ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0),))


def dataset(*segments, name="x/a.png", categories=("hand", "cup")):
    known = tuple(Category(i, n) for i, n in enumerate(categories, 1))
    sample = Sample(1, name, RING.shape[0], RING.shape[1], segments)
    return Dataset("d", known, (sample,))


def runs(mask):
    m = Mask.from_array(mask)
    return Rle(m.height, m.width, m.counts.decode())


def reference(path):
    """
    (label, mask or None) of every shape, in their order.

    Labelme's rule for masks, by Pillow alone: the PNG lies with its first pixel on the first
    point and ends with the second.
    """
    said = json.loads(path.read_text("utf-8"))
    found = []
    for one in said["shapes"]:
        pixels = None
        if one["shape_type"] == "mask":
            crop = np.array(Image.open(io.BytesIO(base64.b64decode(one["mask"])))).astype(bool)
            (x0, y0), (x1, y1) = one["points"]
            assert crop.shape == (y1 - y0 + 1, x1 - x0 + 1)
            pixels = np.zeros((said["imageHeight"], said["imageWidth"]), bool)
            pixels[y0 : y1 + 1, x0 : x1 + 1] = crop
        found.append((one["label"], pixels))
    return found


@given(strategies.bitmaps(*RING.shape))
@settings(max_examples=30, deadline=None)
def test_masks_decode_bit_for_bit_without_us(tmp_path_factory, bitmap):
    folder = tmp_path_factory.mktemp("d")
    for mask in (bitmap, RING):
        labelme.write(dataset(Segment(1, 2, runs(mask))), folder)
        ((label, decoded),) = reference(folder / "x/a.json")
        assert label == "cup"
        assert (decoded == mask).all()


def test_the_file_is_one_that_labelme_opens(tmp_path):
    """The keys and types that Labelme 7 demands."""
    rings = ((1.0, 1.0, 9.0, 1.5, 9.0, 9.0), (2.0, 12.0, 4.0, 12.0, 4.0, 15.0))
    attributes = {"gloved": True, "description": "left", "count": 3}
    data = dataset(
        Segment(1, 1, rings, z_order=5, attributes=attributes), Segment(2, 2, runs(RING))
    )
    assert labelme.write(data, tmp_path) == ()
    said = json.loads((tmp_path / "x/a.json").read_text("utf-8"))
    assert {k: v for k, v in said.items() if k != "shapes"} == {
        "version": "7.1.0",
        "flags": {},
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": RING.shape[0],
        "imageWidth": RING.shape[1],
    }
    mask, first, second = said["shapes"]
    assert (mask["shape_type"], mask["group_id"], mask["points"]) == (
        "mask",
        None,
        [[9, 5], [16, 12]],
    )
    assert first["points"] == [[1.0, 1.0], [9.0, 1.5], [9.0, 9.0]]
    assert (first["shape_type"], first["mask"]) == ("polygon", None)
    assert first["group_id"] == second["group_id"] == 1
    assert (first["flags"], first["description"]) == ({"gloved": True}, "left")
    assert first["attributes"] == {"count": 3}
    assert (tmp_path / "labels.txt").read_text() == "__ignore__\n_background_\nhand\ncup\n"


def test_an_empty_mask_stays_an_empty_mask(tmp_path):
    labelme.write(dataset(Segment(1, 1, runs(RING & False))), tmp_path)
    ((_, decoded),) = reference(tmp_path / "x/a.json")
    assert not decoded.any()


@pytest.mark.parametrize("label", ["__ignore__", "_background_"])
def test_a_class_that_labelme_takes_for_none_is_itemised(tmp_path, label):
    data = dataset(Segment(1, 1, runs(RING)), Segment(2, 2, runs(RING)), categories=(label, "cup"))
    items = labelme.write(data, tmp_path)
    back = intake.read(tmp_path)
    names = {c.id: c.name for c in data.categories}
    balance("convert", tally(data, names), tally(back, {1: "cup"}), items)
    assert [i.change.segments for i in items] == [-1]


def test_shapes_are_painted_in_their_order_and_crowds_first(tmp_path):
    square = ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0),)
    depths = [(3, False), (1, False), (7, True), (1, False)]
    data = dataset(*(Segment(i, 1, square, c, z) for i, (z, c) in enumerate(depths, 1)))
    labelme.write(data, tmp_path)
    said = json.loads((tmp_path / "x/a.json").read_text())
    assert [s["z_order"] for s in said["shapes"]] == [7, 1, 1, 3]


def test_pictures_of_one_stem_keep_apart(tmp_path):
    names = ("a.jpg", "a.jpg.jpg", "a.png", "b.jpg")
    samples = tuple(Sample(i, n, 4, 4) for i, n in enumerate(names, 1))
    labelme.write(Dataset("d", (), samples), tmp_path)
    documents = sorted(p.name for p in tmp_path.glob("*.json"))
    assert documents == ["a.jpg.json", "a.json", "a.png.json", "b.json"]
    assert tuple(p.sample.file_name for p in read(tmp_path).pictures) == (
        "a.jpg.jpg",
        "a.jpg",
        "a.png",
        "b.jpg",
    )


def test_another_formats_json_is_no_empty_labelme_dataset(tmp_path):
    path = folder(tmp_path, {"a.json": {"images": [], "annotations": [], "categories": []}})
    with pytest.raises(FormatError, match=r"none of 1 JSON file\(s\) is Labelme's"):
        read(path)


def test_flags_of_an_image_come_back_and_are_announced_elsewhere(tmp_path):
    path = folder(tmp_path / "in", {"a.json": document(shape(), flags={"blurred": True})})
    plan = conversion.plan(path, "labelme")
    assert "flags" not in {s.trait for s in plan.shortfalls}
    conversion.run(plan, tmp_path / "out")
    written = json.loads((tmp_path / "out/a.json").read_text())
    assert written["flags"] == {"blurred": True}
    assert "flags" in {s.trait for s in conversion.plan(path, "coco").shortfalls}


def written_again(tmp_path, *shapes, **more):
    """What comes of a file that is read and written in its own format."""
    path = folder(tmp_path / "in", {"a.json": document(*shapes, **more)})
    plan = conversion.plan(path, "labelme")
    assert {s.trait for s in plan.shortfalls} <= {"ids"}  # it has none
    conversion.run(plan, tmp_path / "out")
    return json.loads((tmp_path / "out/a.json").read_text())


def test_fields_that_labelme_does_not_know_come_back_and_are_said_once(tmp_path):
    odd = {"score": 0.5, "difficult": True, "kie_linking": []}
    document_ = {"text": "two hands", "annotator": {"id": 7}}
    written = written_again(tmp_path, shape(**odd), shape(**odd), shape(), **document_)
    assert document_.items() <= written.items()
    assert [odd.items() <= s.items() for s in written["shapes"]] == [True, True, False]
    reading = read(tmp_path / "in")
    assert sorted(str(f).partition(": ")[2] for f in reading.mended) == [
        "info A320: a score is there, as if it were a prediction; kept aside (2 times)",
        "info J007: unknown field 'annotator'; kept aside",
        "info J007: unknown field 'difficult'; kept aside (2 times)",
        "info J007: unknown field 'kie_linking'; kept aside (2 times)",
        "info J007: unknown field 'text'; kept aside",
    ]
    told = {str(s) for s in conversion.plan(tmp_path / "in", "voc").shortfalls}
    fields = "other fields of the source: annotator, difficult, kie_linking, score, text"
    assert f"{fields} (3 images and segments) (first: a.jpg)" in told


def test_a_score_that_is_none_is_no_prediction(tmp_path):
    assert {f.code for f in reading_of(tmp_path, shape(score=None)).mended} == {"J007"}


def test_fields_of_a_point_are_kept_with_it(tmp_path):
    (picture_,) = reading_of(tmp_path, shape("point", [(1, 1)], score=0.5)).pictures
    assert picture_.sample.source["not_segments"][0]["extra"] == {"score": 0.5}


def test_a_flag_that_is_called_description_stays_beside_the_description(tmp_path):
    said = {"flags": {"description": True, "wet": True}, "description": "left one"}
    more = {"attributes": {"wet": "very", "n": 3}}
    (shape_,) = written_again(tmp_path, shape(**said, **more))["shapes"]
    assert {k: shape_[k] for k in ("flags", "description", "attributes")} == {**said, **more}


DRAWN = [
    ("circle", [(10.0, 10.0), (13.0, 14.0)]),
    ("rectangle", [(9.5, 9.0), (1.0, 1.5)]),
    ("rectangle", [(1.0, 1.0), (9.0, 1.0), (9.0, 9.0), (1.0, 9.0)]),
    ("oriented_rectangle", [(5.0, 1.0), (9.0, 5.0), (5.0, 9.0), (1.0, 5.0)]),
]


@pytest.mark.parametrize(("kind", "points"), DRAWN)
def test_circles_and_rectangles_come_back_as_such(tmp_path, kind, points):
    (shape_,) = written_again(tmp_path, shape(kind, points))["shapes"]
    assert (shape_["shape_type"], shape_["points"]) == (kind, [list(p) for p in points])


def test_shapes_of_a_group_come_back_as_what_they_were(tmp_path):
    corners = {"points": [(20, 2), (22, 4)], "mask": png(np.ones((3, 3)))}
    shapes = [shape(k, p, group_id=1, foo=k) for k, p in DRAWN]
    shapes.append(shape("mask", **corners, group_id=1, flags={"wet": True}))
    written = written_again(tmp_path, *shapes)["shapes"]
    assert [(s["shape_type"], s["points"]) for s in written] == [
        (s["shape_type"], s["points"]) for s in shapes
    ]
    assert [s.get("foo") for s in written] == [s.get("foo") for s in shapes]
    assert [s["flags"] for s in written] == [s["flags"] for s in shapes]
    assert len({s["group_id"] for s in written}) == 1


def test_a_circle_that_was_drawn_anew_is_the_polygon_that_it_is(tmp_path):
    (segment,) = segments_of(tmp_path / "in", shape(*DRAWN[0]))
    moved = replace(segment, segmentation=((1.0, 1.0, 9.0, 1.0, 9.0, 9.0),), category_id=1)
    labelme.write(dataset(moved, name="a.png"), tmp_path)
    (shape_,) = json.loads((tmp_path / "a.json").read_text())["shapes"]
    assert shape_["shape_type"] == "polygon"


def test_a_licence_goes_to_labelme_and_back_by_its_name(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "height": 20, "width": 30, "license": 3}
    lists = {"licenses": [{"id": 3, "name": "CC0"}], "annotations": [], "categories": []}
    coco = folder(tmp_path / "in", {"a.json": {"images": [image], **lists}}, ())
    conversion.run(conversion.plan(coco, "labelme"), tmp_path / "there")
    conversion.run(conversion.plan(tmp_path / "there", "coco"), tmp_path / "back")
    written = json.loads((tmp_path / "back/instances.json").read_text())
    assert (written["images"], written["licenses"]) == ([image], [{"id": 3, "name": "CC0"}])


def test_a_field_of_another_source_that_means_something_here_is_left_out_and_said(tmp_path):
    odd = replace(SQUARE_SEGMENT, origin={"extra": {"points": 4, "flags": 1, "foo": 2}})
    reasons = {i.reason for i in labelme.write(dataset(odd, name="a.png"), tmp_path)}
    said = "of the source is left out: it means something else here"
    assert reasons == {f"a field 'flags' {said}", f"a field 'points' {said}"}
    (shape_,) = json.loads((tmp_path / "a.json").read_text())["shapes"]
    assert (shape_["foo"], shape_["flags"]) == (2, {})
