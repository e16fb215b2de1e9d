"""Every annotation file of a folder is read, or named in an error: none is passed over."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from publisher import formats
from publisher.errors import FormatError
from publisher.files import open_tree
from publisher.stages import conversion, intake
from publisher.stages.joining import split_of
from tests.makers import (
    coco_document,
    cvat_image,
    cvat_polygon,
    cvat_xml,
    picture,
    zipped,
)

HAND = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"
TRACK = '<track id="0" label="hand"><polygon frame="0" outside="0" points="1,1;9,1;9,9"/></track>'


def folder(path: Path, files: dict[str, str | bytes]) -> Path:
    for name, body in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body.encode() if isinstance(body, str) else body)
    return path


def xml_of(name: str) -> str:
    return cvat_xml(cvat_image(name, cvat_polygon()))


def coco_of(name: str) -> str:
    document = coco_document()
    document["images"] = document["images"][:1]
    document["images"][0]["file_name"] = name
    document["annotations"] = []
    return json.dumps(document)


def labelme_of(name: str) -> str:
    said = {"version": "5.0", "imagePath": name, "imageHeight": 9, "imageWidth": 9, "shapes": []}
    return json.dumps(said)


def datumaro_of(name: str) -> str:
    item = {"id": name, "annotations": [], "image": {"path": f"{name}.jpg", "size": [9, 9]}}
    return json.dumps({"categories": {"label": {"labels": []}}, "items": [item]})


@pytest.mark.parametrize("as_zip", [False, True])
def test_all_cvat_exports_of_a_folder_are_one_dataset(tmp_path, as_zip):
    files = {
        "a/annotations.xml": xml_of("a.jpg"),
        "a/images/a.jpg": picture(seed=1),
        "b/annotations.xml": xml_of("b.jpg"),
        "b/images/b.jpg": picture(seed=2),
        "b/job2.xml": xml_of("c.jpg"),
        "b/images/c.jpg": picture(seed=3),
    }
    path = zipped(tmp_path / "x.zip", files) if as_zip else folder(tmp_path / "x", files)
    found = intake.take_in([path], tmp_path / "out")
    assert [s.file_name for s in found.dataset] == ["a.jpg", "b.jpg", "c.jpg"]
    assert sum(len(s.segments) for s in found.dataset) == 3
    assert any("3 exports are read as one" in n for n in found.notes)


def test_images_of_one_name_in_two_exports_are_two_images(tmp_path):
    files = {f"{job}/annotations.xml": xml_of("same.jpg") for job in "ab"}
    found = intake.source(folder(tmp_path, files))
    assert len(found.dataset) == 2
    assert found.counted.segments == 2


BESIDE = {
    "a second COCO file": (
        {"instances_train.json": coco_of("a.jpg"), "more.json": coco_of("b.jpg")}
    ),
    "a damaged COCO file": (
        {"instances_train.json": coco_of("a.jpg"), "more.json": '{"images": ['}
    ),
    "a COCO file cut to nothing": ({"instances_train.json": coco_of("a.jpg"), "more.json": ""}),
    "an empty export": {"annotations.xml": xml_of("a.jpg"), "more.xml": ""},
    "a video export": {"annotations.xml": xml_of("a.jpg"), "more.xml": cvat_xml(TRACK)},
    "an image export beside a video's": {
        "annotations.xml": cvat_xml(TRACK),
        "images/a.jpg": picture(),
        "more.xml": xml_of("a.jpg"),
    },
    "COCO beside CVAT": {"annotations.xml": xml_of("a.jpg"), "more.json": coco_of("b.jpg")},
    "COCO beside Labelme": {"a.json": labelme_of("a.jpg"), "more.json": coco_of("b.jpg")},
    "a stray Datumaro file": {
        "annotations/train.json": datumaro_of("a"),
        "more.json": datumaro_of("b"),
    },
}


@pytest.mark.parametrize("files", BESIDE.values(), ids=BESIDE)
def test_what_would_be_left_out_is_an_error_that_names_it(tmp_path, files):
    with pytest.raises(FormatError) as caught, open_tree(folder(tmp_path, files)) as tree:
        formats.read(tree)
    assert caught.value.code in ("J009", "J001")
    assert "more." in str(caught.value)


def test_a_file_that_only_looks_like_json_is_named(tmp_path):
    files = {"instances.json": coco_of("a.jpg"), "config.json": '{// ours\n "a": 1}'}
    found = intake.source(folder(tmp_path, files))
    assert any("not read: config.json" in n for n in found.notes)


def test_panoptic_files_beside_instances_are_no_rest(tmp_path):
    empty = json.dumps({"images": [], "annotations": [], "categories": []})
    files = {
        "instances.json": coco_of("a.jpg"),
        "panoptic_train.json": empty,
        "panoptic_val.json": empty,
    }
    found = intake.source(folder(tmp_path, files))
    assert len(found.dataset) == 1
    assert any("panoptic_train.json, panoptic_val.json" in n for n in found.notes)


def test_yolo_beside_coco_has_to_be_chosen(tmp_path):
    files = {
        "instances.json": coco_of("a.jpg"),
        "data.yaml": "train: images/train\nnames: [hand]\n",
        "labels/train/a.txt": HAND,
        "images/train/a.jpg": picture(),
    }
    path = folder(tmp_path, files)
    with pytest.raises(FormatError, match="also here: YOLO segmentation") as caught:
        intake.source(path)
    assert "--format" in str(caught.value.hint)
    assert intake.source(path, "yolo").counted.segments == 1
    assert intake.source(path, "coco").counted.segments == 0


def test_usual_names_may_have_any_case(tmp_path):
    files = {"Instances_Train.JSON": coco_of("a.jpg"), "instances_val.json": coco_of("b.jpg")}
    found = intake.source(folder(tmp_path, files))
    assert [s.split for s in found.dataset] == ["train", "val"]


def test_cocos_other_files_are_named_and_not_read(tmp_path):
    files = {
        "annotations/instances_val2017.json": coco_of("a.jpg"),
        "annotations/person_keypoints_val2017.json": coco_of("a.jpg"),
        "annotations/captions_val2017.json": '{"images": [], "annotations": [{"caption": "x"}]}',
    }
    found = intake.source(folder(tmp_path, files))
    assert len(found.dataset) == 1
    assert any("captions_val2017.json" in n and "person_keypoints" in n for n in found.notes)


@pytest.mark.parametrize(
    ("subset", "split"),
    [
        ("train2017", "train"),
        ("val2014", "val"),
        ("Validation", "val"),
        ("test_2019", "test"),
        ("holdout", None),
        ("2017", None),
        ("train20170", None),
    ],
)
def test_a_year_behind_a_split_is_no_other_split(subset, split):
    assert split_of(subset) == split


def test_subsets_that_are_no_splits_are_announced_where_they_go(tmp_path):
    path = folder(tmp_path, {"instances_holdout.json": coco_of("a.jpg")})
    for target, announced in (("coco", True), ("yolo", True), ("cvat", False)):
        traits = {s.trait for s in conversion.plan(path, target).shortfalls}
        assert ("subsets" in traits) == announced


# ── YOLO ─────────────────────────────────────────────────────────────────────────────────────


def test_a_description_may_point_to_its_own_folder(tmp_path):
    files = {
        "data.yaml": "train: .\nnames: [hand]\n",
        "README.txt": "hello",
        "images/a.jpg": picture(),
        "labels/a.txt": HAND,
    }
    found = intake.source(folder(tmp_path, files))
    assert [(s.file_name, s.split, len(s.segments)) for s in found.dataset] == [
        ("a.jpg", "train", 1)
    ]


def test_a_description_that_leads_to_nothing_is_an_error(tmp_path):
    files = {"data.yaml": "train: images/train\nnames: [hand]\n", "README.txt": "hello"}
    with pytest.raises(FormatError, match="no image and no label in images/train"):
        intake.source(folder(tmp_path, files))


def test_a_split_that_is_not_there_is_said(tmp_path):
    files = {
        "data.yaml": "train: images/train\nval: images/val\nnames: [hand]\n",
        "images/train/a.jpg": picture(),
        "labels/train/a.txt": HAND,
    }
    found = intake.source(folder(tmp_path, files))
    assert len(found.dataset) == 1
    assert any("images/val" in n for n in found.notes)


@pytest.mark.parametrize("pictures", [False, True])
def test_a_label_file_that_has_gone_is_an_error(tmp_path, pictures):
    files = {
        "data.yaml": "train: images/train\nnames: [hand]\n",
        "images.csv": "file_name,width,height\na.jpg,30,20\nb.jpg,30,20\n",
        "labels/train/a.txt": HAND,
    }
    if pictures:
        files |= {"images/train/a.jpg": picture(), "images/train/b.jpg": picture()}
    with pytest.raises(FormatError, match=r"1 image.* of images.csv have no label file: b"):
        intake.source(folder(tmp_path, files))


# ── links ────────────────────────────────────────────────────────────────────────────────────


def test_linked_folders_within_are_read(tmp_path):
    folder(tmp_path / "x", {"a/annotations.xml": xml_of("a.jpg"), "store/a.jpg": picture()})
    (tmp_path / "x/a/images").symlink_to("../store")
    found = intake.take_in([tmp_path / "x"], tmp_path / "out")
    assert [s.file_name for s in found.dataset] == ["a.jpg"]


@pytest.mark.parametrize("target", ["../outside", "..", ".", "b"])
def test_linked_folders_that_lead_out_or_in_circles_are_errors(tmp_path, target):
    path = folder(tmp_path / "x", {"a/annotations.xml": xml_of("a.jpg"), "b/c.txt": ""})
    folder(tmp_path / "outside", {"more/annotations.xml": xml_of("b.jpg")})
    (path / "a/link").symlink_to(tmp_path / "outside" if target == "../outside" else target)
    if target == "b":
        (path / "a/link").unlink()
        (path / "a/link").symlink_to("../b")
        (path / "b/link").symlink_to("../a")
    with pytest.raises(FormatError, match="link") as caught:
        intake.source(path)
    assert caught.value.code == "I109"


def test_a_file_that_is_given_may_be_a_link(tmp_path):
    folder(tmp_path / "store", {"0a1b": coco_of("a.jpg")})
    folder(tmp_path / "x", {})
    (tmp_path / "x").mkdir()
    (tmp_path / "x/instances.json").symlink_to(tmp_path / "store/0a1b")
    assert len(intake.source(tmp_path / "x/instances.json").dataset) == 1


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_folder_around_everything_is_looked_into(tmp_path, as_zip):
    mask = Image.fromarray(np.full((20, 30), 1, np.uint8))
    mask.save(out := io.BytesIO(), "PNG")
    files = {
        "hands/set 1/classes.txt": "background\nhand\n",
        "hands/set 1/masks/a.png": out.getvalue(),
        "hands/set 1/images/a.jpg": picture(),
    }
    path = zipped(tmp_path / "x.zip", files) if as_zip else folder(tmp_path / "x", files)
    found = intake.take_in([path], tmp_path / "out")
    assert [(s.file_name, len(s.segments)) for s in found.dataset] == [("a.jpg", 1)]
    with intake.opened(path) as source:
        assert source.picture is not None
        assert source.picture(source.dataset[0]) == picture()


def test_archives_within_are_named(tmp_path):
    path = folder(tmp_path, {"instances.json": coco_of("a.jpg")})
    zipped(path / "more.zip", {"annotations.xml": xml_of("b.jpg")})
    assert any("more.zip" in n for n in intake.source(path).notes)
    (path / "instances.json").unlink()
    with pytest.raises(FormatError, match=r"by their own paths .*more\.zip"):
        intake.source(path)


def test_what_macos_puts_into_archives_is_nobodys(tmp_path):
    files = {"annotations.xml": xml_of("a.jpg"), "images/a.jpg": picture()}
    beside = {f"__MACOSX/._{name.replace('/', '/._')}": b"\0\5\x16\7" for name in files}
    path = zipped(tmp_path / "x.zip", {**files, **beside, "images/.DS_Store": b"\0"})
    found = intake.take_in([path], tmp_path / "out")
    assert [s.file_name for s in found.dataset] == ["a.jpg"]
