"""YOLO labels: every usual layout is read, and pixels come back as they went."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from publisher import formats
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError, InvalidDataset, UsageError
from publisher.files import open_tree
from publisher.masks import Mask, Rle
from publisher.stages import intake
from tests import strategies
from tests.makers import picture, zipped
from tests.truth import DATA

SQUARE = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"  # of 20 x 30 px: 3,2 to 15,10
AREA = 12 * 8
NAMES = "names: [hand, food]\n"


def layout(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body if isinstance(body, bytes) else body.encode())
    return folder


def read(path: Path, images: Path | None = None):
    with open_tree(path) as tree:
        assert formats.detect(tree).name == "yolo"
    return intake.source(path, "yolo", images).dataset


def reading(path: Path):
    with open_tree(path) as tree:
        return formats.get("yolo").read(tree)


def write(dataset: Dataset, folder: Path):
    return formats.get("yolo").write(dataset, folder)


def one(*segments: Segment, name: str = "a.jpg", split: str | None = "train") -> Dataset:
    sample = Sample(1, name, 20, 30, tuple(segments), split=split)
    return Dataset("d", (Category(5, "hand"), Category(9, "food")), (sample,))


def rle(pixels: np.ndarray) -> Rle:
    return Rle(*pixels.shape, Mask.from_array(pixels).counts.decode())


PICTURE = picture()  # 20 high, 30 wide


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {
                "data.yaml": f"path: /home/me/d\ntrain: images/train\nval: images/val\n{NAMES}",
                "images/train/a.jpg": PICTURE,
                "images/train/no label.png": PICTURE,
                "images/val/b/a.JPG": PICTURE,
                "labels/train/a.txt": SQUARE,
                "labels/val/b/a.txt": SQUARE,
            },
            [("a.jpg", "train", 1), ("b/a.JPG", "val", 1), ("no label.png", "train", 0)],
        ),
        (
            {  # CVAT, with images
                "data.yaml": "path: ./\ntrain: train.txt\nnames:\n  0: hand\n  1: food\n",
                "train.txt": "images/train/s 1/a.jpg\nimages/train/b.jpg\n",
                "images/train/s 1/a.jpg": PICTURE,
                "images/train/b.jpg": PICTURE,
                "labels/train/s 1/a.txt": SQUARE,
            },
            [("b.jpg", "train", 0), ("s 1/a.jpg", "train", 1)],
        ),
        (
            {  # Roboflow
                "data.yaml": f"train: ../train/images\nval: ../valid/images\nnc: 2\n{NAMES}",
                "train/images/a.jpg": PICTURE,
                "train/labels/a.txt": SQUARE * 2,
                "valid/images/b.jpg": PICTURE,
                "valid/labels/b.txt": SQUARE,
            },
            [("a.jpg", "train", 2), ("b.jpg", "val", 1)],
        ),
        (
            {  # Darknet, as in CVAT's YOLO 1.1
                "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
                "obj.names": "hand\nfood\n",
                "train.txt": "data/obj_train_data/a.jpg\n",
                "obj_train_data/a.jpg": PICTURE,
                "obj_train_data/a.txt": SQUARE,
            },
            [("a.jpg", "train", 1)],
        ),
        (
            {  # one folder in another, and labels that data.yaml does not mention
                "x/data.yaml": f"train: images\nval: [images/val]\n{NAMES}",
                "x/images/a.jpg": PICTURE,
                "x/images/val/b.jpg": PICTURE,
                "x/labels/a.txt": SQUARE,
                "x/labels/val/b.txt": SQUARE,
                "y/labels/test/c.txt": SQUARE,
                "y/images/test/c.jpg": PICTURE,
            },
            [("a.jpg", "train", 1), ("b.jpg", "val", 1), ("c.jpg", "test", 1)],
        ),
    ],
)
def test_every_usual_layout_is_read(tmp_path, files, found):
    dataset = read(layout(tmp_path, files))
    assert [(s.file_name, s.split, len(s.segments)) for s in dataset] == found
    assert [c.name for c in dataset.categories] == ["hand", "food"]
    for sample in dataset:
        assert (sample.height, sample.width) == (20, 30)
        assert all(s.mask(20, 30).area == AREA for s in sample.segments)


def test_the_path_of_a_description_is_the_folder_of_its_places(tmp_path):
    files = {
        "data.yaml": f"path: ds\ntrain: images/train\nval: val.txt\n{NAMES}",
        "ds/images/train/a.jpg": PICTURE,
        "ds/images/train/unlabelled.jpg": PICTURE,
        "ds/labels/train/a.txt": SQUARE,
        "ds/val.txt": "./images/b.jpg\n",
        "ds/images/b.jpg": PICTURE,
        "ds/labels/b.txt": SQUARE,
        "images/b.jpg": PICTURE,
    }
    source = intake.source(layout(tmp_path, files))
    assert [(s.file_name, s.split, len(s.segments)) for s in source.dataset] == [
        ("a.jpg", "train", 1),
        ("b.jpg", "val", 1),
        ("unlabelled.jpg", "train", 0),
    ]
    assert not [n for n in source.notes if "not there" in n]


def test_a_folder_of_several_splits_is_of_the_first_and_that_is_said(tmp_path):
    files = {
        "data.yaml": f"train: images/train\nval: images/train\n{NAMES}",
        "images/train/a.jpg": PICTURE,
        "labels/train/a.txt": SQUARE,
    }
    source = intake.source(layout(tmp_path, files))
    assert [(s.file_name, s.split) for s in source.dataset] == [("a.jpg", "train")]
    said = "images/train/ is named by train, val: its images are of train alone"
    assert any(n.endswith(said) for n in source.notes)


def test_a_number_of_classes_that_is_not_that_of_their_names_is_said(tmp_path):
    files = {"data.yaml": f"train: images\nnc: 3\n{NAMES}", "images/a.jpg": PICTURE}
    source = intake.source(layout(tmp_path, {**files, "labels/a.txt": SQUARE}))
    assert any(n.endswith("nc is 3, and 2 classes have names") for n in source.notes)


def test_poses_are_no_outlines_and_are_kept_aside(tmp_path):
    files = {
        "data.yaml": f"train: images\nkpt_shape: [2, 2]\n{NAMES}",
        "images/a.jpg": PICTURE,
        "labels/a.txt": "0 0.5 0.5 0.2 0.4 0.5 0.25 1 1\n1 0.5 0.5 0.2 0.4\n",
    }
    source = intake.source(layout(tmp_path, files))
    (sample,) = source.dataset
    assert sample.segments == ()
    box = {"kind": "box", "bbox": [12, 6, 6, 8]}
    assert sample.source["not_segments"] == [
        {**box, "label": "hand", "keypoints": [[15, 5], [30, 20]]},
        {**box, "label": "food"},
    ]
    assert any("2 pose annotation(s) have no pixels" in n for n in source.notes)


def test_a_pose_of_another_number_of_points_is_a_finding(tmp_path):
    files = {
        "data.yaml": f"train: images\nkpt_shape: [2, 3]\n{NAMES}",
        "images/a.jpg": PICTURE,
        "labels/a.txt": "0 0.5 0.5 0.2 0.4 0.5 0.25 1 1\n",
    }
    (finding,) = reading(layout(tmp_path, files)).findings
    assert finding.code == "J002"
    assert "8 numbers, and a pose of kpt_shape has 10" in finding.message


@pytest.mark.parametrize("shape", ["17", "[0, 3]", "[17, 4]", "[99999999999, 2]", "{a: b}"])
def test_a_shape_of_keypoints_that_is_none_is_refused(tmp_path, shape):
    files = {"data.yaml": f"train: images\nkpt_shape: {shape}\n{NAMES}", "labels/a.txt": SQUARE}
    with pytest.raises(FormatError, match="kpt_shape"):
        reading(layout(tmp_path, files))


def test_an_empty_line_in_a_list_of_classes_is_an_error(tmp_path):
    files = {"classes.txt": "hand\n\nfood\n", "labels/a.txt": SQUARE, "images/a.jpg": PICTURE}
    with pytest.raises(FormatError, match="line 2 is empty"):
        reading(layout(tmp_path, files))


def test_a_zip_is_read_and_its_pictures_are_taken_in(tmp_path):
    files = {"data.yaml": f"train: images/train\n{NAMES}", "labels/train/a.txt": SQUARE}
    source = zipped(tmp_path / "in.zip", {**files, "images/train/a.jpg": PICTURE})
    taken = intake.take_in([source], tmp_path / "out")
    assert (tmp_path / "out/images/a.jpg").read_bytes() == PICTURE
    assert taken.kept == taken.counted


def test_sizes_come_from_pictures_given_apart_or_it_is_said_how_to(tmp_path):
    files = {"data.yaml": f"train: images/train\n{NAMES}", "labels/train/a.txt": SQUARE}
    path = layout(tmp_path / "in", files)
    with pytest.raises(FormatError, match="1 of 1 images have no picture") as e:
        read(path)
    assert "--images" in (e.value.hint or "")
    for place in ("a.png", "train/a.png", "images/train/a.png"):
        spare = layout(tmp_path / place.replace("/", "_"), {place: picture(kind="PNG")})
        (sample,) = read(path, spare)
        assert (sample.file_name, sample.height, sample.width) == ("a.png", 20, 30)


def test_boxes_are_kept_aside_for_they_are_no_masks(tmp_path):
    files = {
        "data.yaml": f"train: images/train\n{NAMES}",
        "labels/train/a.txt": f"1 0.5 0.5 0.2 0.4\n{SQUARE}",
        "images/train/a.jpg": PICTURE,
    }
    found = reading(layout(tmp_path, files))
    (sample,) = [p.sample for p in found.pictures]
    assert len(sample.segments) == found.counted.segments == 1
    box = {"kind": "box", "label": "food", "bbox": pytest.approx([12, 6, 6, 8])}
    assert sample.source["not_segments"] == [box]
    assert "J007: 1 box annotation(s) have no pixels" in str(found.mended[0])


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("0 0.1 0.1 0.5 0.1 0.5 1.5", "Y831", "coordinate 1.5 is not in [0, 1]"),
        ("0 -0.1 0.1 0.5 0.1 0.5 0.5", "Y831", "coordinate -0.1 is not in [0, 1]"),
        ("0 0.1 0.1 0.5 0.1 0.5", "P403", "5 coordinates, an odd number"),
        ("0 0.1 0.1", "P404", "1 points, needs 3"),
        ("0", "P404", "0 points, needs 3"),
        ("2 0.1 0.1 0.5 0.1 0.5 0.5", "Y832", "class is 2, the last one is 1"),
        ("-1 0.1 0.1 0.5 0.1 0.5 0.5", "Y832", "class is -1"),
        ("0.5 0.1 0.1 0.5 0.1 0.5 0.5", "Y832", "class is 0.5"),
        ("hand 0.1 0.1 0.5 0.1 0.5 0.5", "J005", "'hand' is no number"),
        ("0 0.1 0.1 0.5 0.1 x 0.5", "J005", "'x' is no number"),
        ("0 0.1 0.1 0.5 0.1 nan 0.5", "P406", "not finite"),
        ("1e400 0.1 0.1 0.5 0.1 0.5 0.5", "P406", "not finite"),
        ("0 0.5 0.5 2.0 0.4", "Y831", "coordinate 2 is not in [0, 1]"),
        ("\x00\xff", "J005", "is no number"),
    ],
)
def test_one_bad_line_costs_a_finding_that_says_which(tmp_path, line, code, said):
    files = {
        "data.yaml": f"train: images/train\n{NAMES}",
        "labels/train/a.txt": f"{SQUARE}\n{line}\n{SQUARE}",
        "images/train/a.jpg": PICTURE,
    }
    found = reading(layout(tmp_path, files))
    ((finding,), (sample,)) = found.findings, [p.sample for p in found.pictures]
    assert finding.code == code
    assert finding.message.startswith("labels/train/a.txt line 3: ")
    assert said in finding.message
    assert finding.file_name == "a.jpg"
    assert len(sample.segments) == 2
    with pytest.raises(InvalidDataset):
        read(tmp_path)


def test_what_a_float_of_32_bits_takes_for_1_is_1(tmp_path):
    files = {
        "data.yaml": f"train: images/train\n{NAMES}",
        "labels/train/a.txt": "0 0 0 1.00000001 0 1 1.00000001\n1.0 0 0 1 0 1 1\n",
        "images/train/a.jpg": PICTURE,
    }
    assert not reading(layout(tmp_path, files)).findings


@pytest.mark.parametrize(
    "names",
    [
        "names: {0: a, 2: b}",
        "names: {0: a, x: b}",
        "names: 5",
        "names: [[a], b]",
    ],
)
def test_classes_that_cannot_be_used_are_refused(tmp_path, names):
    files = {"data.yaml": names, "labels/train/a.txt": SQUARE, "images/train/a.jpg": PICTURE}
    with pytest.raises(FormatError, match=r"data\.yaml"):
        read(layout(tmp_path, files))


def test_hostile_yaml_is_no_description(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for new, old in zip("bcdefghij", "abcdefghi", strict=True):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    hostile = (
        f"{bomb}names: *j\n",
        "names: !!python/object/apply:os.system [exit]\n- [",
        "[" * 100_000,
        "- " * 100_000,
        "names: [a]\n#" + "x" * 2**20,
        "names: \x07",
        "",
    )
    for number, body in enumerate(hostile):
        path = layout(tmp_path / str(number), {"data.yaml": body, "labels/train/a.txt": SQUARE})
        with pytest.raises(FormatError, match="not a format I read"), open_tree(path) as tree:
            formats.detect(tree)


def test_words_that_yaml_takes_for_other_things_are_names(tmp_path):
    files = {
        "data.yaml": "train: images/train\nnames: [no, 1, null, 1.0]\n",
        "labels/train/a.txt": SQUARE,
        "images/train/a.jpg": PICTURE,
    }
    assert [c.name for c in read(layout(tmp_path, files)).categories] == ["no", "1", "null", "1.0"]


@pytest.mark.parametrize("name", ["../../a.jpg", "/etc/passwd.jpg", "..\\a.jpg", "C:/a.jpg"])
def test_a_list_leads_nowhere_else(tmp_path, name):
    files = {"data.yaml": f"train: train.txt\n{NAMES}", "train.txt": f"{name}\n..\n/\n"}
    secret = layout(tmp_path, {"a.jpg": PICTURE, "a.txt": SQUARE})
    with pytest.raises(FormatError, match="have no picture"):
        read(layout(secret / "in" / "deep", files))


def test_a_table_of_sizes_that_is_none_is_refused(tmp_path):
    files = {"data.yaml": f"train: images/train\n{NAMES}", "labels/train/a.txt": SQUARE}
    head = "file_name,width,height\n"
    tables = ("x,y\n1,2\n", f"{head}a.jpg,x,2\n", f"{head}a.jpg\n")
    for number, table in enumerate(tables):
        path = layout(tmp_path / str(number), {**files, "images.csv": table})
        with pytest.raises(FormatError, match=r"images\.csv: not a table"):
            read(path)
    path = layout(tmp_path / "3", {**files, "images.csv": f"{head}a.jpg,0,5\n"})
    with pytest.raises(FormatError, match="image is 5x0"):
        read(path)


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def decoded(line: str, height: int, width: int) -> np.ndarray:
    """A line as pycocotools rasterises it at the size of the picture."""
    shares = [float(word) for word in line.split()[1:]]
    ring = [v * n for v, n in zip(shares, [width, height] * (len(shares) // 2), strict=True)]
    return coco.decode(coco.merge(coco.frPyObjects([ring], height, width))).astype(bool)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pycocotools_sees_the_pixels_that_were_written(data):
    height, width = data.draw(strategies.SIZES)
    shapes = data.draw(st.lists(strategies.segmentations(height, width), max_size=3))
    segments = tuple(Segment(i, 1, s) for i, s in enumerate(shapes, start=1))
    sample = Sample(1, "a.jpg", height, width, segments, split="val")
    with tempfile.TemporaryDirectory() as folder:
        items = write(Dataset("d", (Category(1, "x"),), (sample,)), Path(folder))
        lines = Path(folder, "labels/val/a.txt").read_text().splitlines()
    whole = [m.to_array() for s in segments if (m := s.mask(height, width)).area]
    assert len(lines) == len(whole)
    assert sum(-i.change.segments for i in items) == len(segments) - len(whole)
    for line, pixels in zip(lines, whole, strict=True):
        assert (decoded(line, height, width) == pixels).all()


def test_a_polygon_keeps_its_vertices(tmp_path):
    ring = (3.3, 2.0, 15.1, 2.5, 15.0, 10.7)
    write(one(Segment(1, 9, (ring,))), tmp_path)
    words = (tmp_path / "labels/train/a.txt").read_text().split()
    assert words[0] == "1"  # the second category
    back = read(tmp_path)[0].segments[0].segmentation[0]
    assert back == pytest.approx(ring, abs=1e-12)


def test_holes_and_parts_are_one_ring_and_lose_no_pixel(tmp_path):
    pixels = np.zeros((20, 30), bool)
    pixels[2:12, 2:12] = pixels[14:18, 20:28] = True
    pixels[5:8, 5:8] = False
    items = write(one(Segment(1, 5, rle(pixels))), tmp_path)
    assert not items
    (line,) = (tmp_path / "labels/train/a.txt").read_text().splitlines()
    assert (decoded(line, 20, 30) == pixels).all()


def test_crowds_and_empty_masks_are_left_out_and_said(tmp_path):
    pixels = np.ones((20, 30), bool)
    segments = (Segment(1, 5, rle(pixels), iscrowd=True), Segment(2, 5, rle(~pixels)))
    items = write(one(*segments), tmp_path)
    assert [(i.reason, i.change.segments, i.change.pixels.get("hand")) for i in items] == [
        ("YOLO has no crowds", -1, -600),
        ("a segment has no pixels", -1, 0),
    ]
    assert read(tmp_path)[0].segments == ()


def test_a_polygon_beyond_the_image_is_cut_at_its_border(tmp_path):
    ring = (-5.0, -5.0, 10.0, -5.0, 10.0, 30.0, -5.0, 30.0)
    write(one(Segment(1, 5, (ring,))), tmp_path)
    (segment,) = read(tmp_path)[0].segments
    assert segment.mask(20, 30) == Segment(1, 5, (ring,)).mask(20, 30)


def test_ultralytics_finds_classes_and_splits(tmp_path):
    samples = [
        Sample(n, f"{n}.jpg", 20, 30, split=split)
        for n, split in enumerate(("val", "train", None, "test"), start=1)
    ]
    write(
        Dataset("d", (Category(7, "フライパン"), Category(8, "no: #1")), tuple(samples)), tmp_path
    )
    text = (tmp_path / "data.yaml").read_text("utf-8")
    said = yaml.safe_load(text)
    assert said == {
        "path": ".",
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
        "unsplit": "images/unsplit",
        "names": {0: "フライパン", 1: "no: #1"},
    }
    assert text.startswith("# images/unsplit is for no split")
    assert (tmp_path / "labels/test/4.txt").read_text() == ""
    back = read(tmp_path)
    assert [(s.file_name, s.split) for s in back] == [(s.file_name, s.split) for s in samples]


def test_hostile_names_leave_no_folder_and_break_no_table(tmp_path):
    name = 'a, "b"/手\'s.jpeg'
    write(one(name=name), tmp_path)
    assert read(tmp_path)[0].file_name == "a, _b_/手's.jpeg"  # as every import makes names portable
    with pytest.raises(FormatError, match="leads out"):
        write(one(name="../a.jpg"), tmp_path)
    with pytest.raises(FormatError, match="leads out"):
        write(one(split="../x"), tmp_path)
    with pytest.raises(UsageError, match="means something else"):
        write(one(split="names"), tmp_path)


def test_two_images_of_one_stem_cannot_have_one_label(tmp_path):
    samples = tuple(Sample(n, name, 20, 30) for n, name in enumerate(("a.jpg", "A.png"), start=1))
    with pytest.raises(UsageError, match="two images would have the label"):
        write(Dataset("d", (), samples), tmp_path)


def test_a_real_export_loses_nothing_but_what_yolo_cannot_hold(tmp_path):
    before = intake.read(DATA / "project__cvat-for-images-1.1.zip")
    items = write(before, tmp_path)
    assert [(i.reason, i.change.segments, dict(i.change.pixels)) for i in items] == [
        ("a segment has no pixels", -1, {"unused": 0})
    ]
    after = read(tmp_path)
    for a, b in zip(after, before, strict=True):
        assert (a.file_name, a.height, a.width, a.split) == (
            b.file_name,
            b.height,
            b.width,
            b.split,
        )
        masks = [m for s in b.segments if (m := s.mask(b.height, b.width)).area]
        assert [s.mask(a.height, a.width) for s in a.segments] == masks
