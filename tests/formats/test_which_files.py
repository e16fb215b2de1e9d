"""Every annotation file of a folder is read, or named in an error: none is passed over."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from publisher import formats
from publisher.errors import FormatError, InvalidDataset, UsageError
from publisher.files import open_tree
from publisher.stages import checking, conversion, intake
from publisher.stages.joining import split_of
from tests.formats.test_street_maps import city, road
from tests.formats.test_voc import png
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
    assert found.counted.pixels == {"hand": 128}


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


MASK = png(np.ones((20, 30)))
SEMANTIC = {"classes.txt": "background\nhand\n", "masks/more.png": MASK, "images/a.jpg": picture()}
VOC = {"SegmentationClass/more.png": MASK, "JPEGImages/more.jpg": picture()}
YOLO = {"data.yaml": "train: images/train\nnames: [hand]\n", "labels/train/a.txt": HAND}
BY_FOLDER = {
    "semantic": SEMANTIC,
    "voc": VOC,
    "yolo": {**YOLO, "images/train/a.jpg": picture()},
    "cityscapes": city([[1001] * 4] * 2),
    "kitti": road([[257] * 4] * 2),
}


@pytest.mark.parametrize("name", BY_FOLDER)
def test_maps_and_labels_beside_another_format_have_to_be_chosen(tmp_path, name):
    path = folder(tmp_path, {**BY_FOLDER[name], "instances.json": coco_of("z.jpg")})
    with pytest.raises(FormatError, match="also here: ") as caught:
        intake.source(path)
    assert caught.value.code == "J009"
    assert intake.source(path, name).counted.images > 0


def test_masks_in_two_folders_are_an_error(tmp_path):
    path = folder(tmp_path, {**SEMANTIC, "labels/b.png": MASK})
    with pytest.raises(FormatError, match="masks/, labels/") as caught:
        intake.source(path)
    assert caught.value.code == "J009"


def test_coarse_maps_of_cityscapes_are_named(tmp_path):
    coarse = {"gtCoarse/train/a_gtCoarse_labelIds.png": MASK}
    found = intake.source(folder(tmp_path, {**city([[1001] * 4] * 2), **coarse}))
    assert any("gtCoarse, 1 file" in n for n in found.notes)


def test_two_datasets_of_yolo_in_one_folder_are_an_error(tmp_path):
    """Labels of one must not be read by the classes of the other."""
    one = {f"a/{name}": body for name, body in YOLO.items()}
    two = {f"b/{name}": body for name, body in YOLO.items()}
    with pytest.raises(FormatError, match="several YOLO datasets") as caught:
        intake.source(folder(tmp_path, {**one, **two}))
    assert caught.value.code == "J009"


# ── endings ──────────────────────────────────────────────────────────────────────────────────


def shouted(files: dict[str, str | bytes], *endings: str) -> dict[str, str | bytes]:
    """The same files, their endings in upper case."""
    return {
        f"{name[: -len(e)]}{e.upper()}" if (e := name[name.rfind(".") :]) in endings else name: body
        for name, body in files.items()
    }


@pytest.mark.parametrize("name", BY_FOLDER)
def test_endings_may_have_any_case(tmp_path, name):
    files = BY_FOLDER[name]
    usual = intake.source(folder(tmp_path / "usual", files), name)
    loud = intake.source(folder(tmp_path / "loud", shouted(files, ".png", ".txt")), name)
    assert usual.counted.segments > 0
    assert (loud.counted.images, loud.counted.segments) == (
        usual.counted.images,
        usual.counted.segments,
    )


@pytest.mark.parametrize("name", ["semantic", "voc", "yolo"])
def test_two_maps_or_labels_of_one_image_are_an_error(tmp_path, name):
    files = dict(BY_FOLDER[name])
    twice = next(n for n in files if n.endswith(("more.png", "a.txt")))
    files[twice[:-4] + twice[-4:].upper()] = files[twice]
    with pytest.raises(FormatError, match="would be of one image") as caught:
        intake.source(folder(tmp_path, files))
    assert caught.value.code == "J009"


@pytest.mark.parametrize(("name", "place"), [("semantic", "masks"), ("voc", "SegmentationClass")])
def test_a_map_that_is_no_png_is_an_error(tmp_path, name, place):
    path = folder(tmp_path, {**BY_FOLDER[name], f"{place}/b.tif": picture()})
    with pytest.raises(InvalidDataset, match=r"b\.tif.*maps are read from PNGs"):
        intake.source(path)


def test_pictures_that_nothing_lists_are_named_by_every_command(tmp_path):
    path = folder(tmp_path, {"instances.json": coco_of("a.jpg"), "images/a.jpg": picture()})
    folder(path, {"images/b.png": picture(kind="PNG"), "drawings/c.png": picture(kind="PNG")})
    taken = intake.take_in([path], tmp_path.with_name(f"{tmp_path.name} out"))
    said = [str(f) for f in checking.run(path).findings if f.code == "I104"]
    for notes in (taken.notes, intake.source(path).notes, said):
        assert any("I104" in n and "images/b.png" in n for n in notes)
        assert any("I104" in n and "drawings/c.png" in n for n in notes)


@pytest.mark.parametrize("target", [n for n, f in formats.FORMATS.items() if f.write])
def test_of_what_is_written_nothing_is_left(tmp_path, target):
    hands = [{}, {"segmentation": [[11, 1, 19, 1, 19, 9, 11, 9]]}]
    (tmp_path / "instances.json").write_text(json.dumps(coco_document(hands)))
    conversion.run(conversion.plan(tmp_path / "instances.json", target), tmp_path / "out")

    pictures = folder(tmp_path / "pictures", {"a.jpg": picture()})
    found = intake.source(tmp_path / "out", images=pictures)
    assert found.counted.pixels == {"hand": 128}
    assert not [n for n in found.notes if "J010" in n or "I104" in n]


@pytest.mark.parametrize("name", BY_FOLDER)
def test_of_others_trees_nothing_is_left(tmp_path, name):
    found = intake.source(folder(tmp_path, BY_FOLDER[name]))
    left = [n for n in found.notes if "J010" in n or "I104" in n]
    assert bool(left) == (name == "semantic")  # whose picture has another name than its mask
    assert all("images/a.jpg" in n for n in left)


@pytest.mark.parametrize("as_import", [False, True])
def test_one_picture_that_is_lent_to_two_images_is_named(tmp_path, as_import):
    files = {f"{s}/a.json": labelme_of("a.jpg") for s in ("s1", "s2")}
    path = folder(tmp_path / "x", files)
    lent = folder(tmp_path / "lent", {"a.jpg": picture(9, 9)})
    found = (
        intake.take_in([path], tmp_path / "out", images=lent)
        if as_import
        else intake.source(path, images=lent)
    )
    assert any("I121" in n and "s1/a.jpg, s2/a.jpg" in n for n in found.notes)


# ── what is named ────────────────────────────────────────────────────────────────────────────


def test_validate_names_what_is_not_read(tmp_path):
    path = folder(tmp_path, {"instances_val.json": coco_of("a.jpg"), "notes.json": "[1]"})
    folder(path, {"captions_val.json": coco_of("a.jpg")})
    zipped(path / "more.zip", {"annotations.xml": xml_of("b.jpg")})
    said = [str(f) for f in checking.run(path).findings if f.code == "J010"]
    assert [n in " ".join(said) for n in ("notes.json", "captions_val.json", "more.zip")] == [
        True
    ] * 3
    assert all(" info " in s for s in said)


@pytest.mark.parametrize("name", ["person_keypoints_extra.json", "captions_val.json"])
def test_cocos_other_files_with_images_of_their_own_are_an_error(tmp_path, name):
    path = folder(tmp_path, {"instances_val.json": coco_of("a.jpg"), name: coco_of("b.jpg")})
    with pytest.raises(FormatError, match=f"{name} would be left out") as caught:
        intake.source(path)
    assert caught.value.code == "J009"


@pytest.mark.parametrize("name", [".", "/", "", "..", "a/"])
def test_a_hostile_name_beside_instances_is_no_crash(tmp_path, name):
    document = json.loads(coco_of("a.jpg"))
    document["images"][0]["file_name"] = name
    files = {"instances_val.json": coco_of("a.jpg"), "captions_val.json": json.dumps(document)}
    with pytest.raises(FormatError) as caught:
        intake.source(folder(tmp_path, files))
    assert caught.value.code == "J009"


def panoptic_of(name: str, *categories: str) -> str:
    listed = [{"id": i, "name": n, "isthing": 0} for i, n in enumerate(categories, start=1)]
    image = {"id": 1, "file_name": name, "height": 20, "width": 30}
    entry = {"image_id": 1, "file_name": "a.png", "segments_info": []}
    return json.dumps({"images": [image], "annotations": [entry], "categories": listed})


def test_a_panoptic_file_with_images_of_its_own_is_an_error(tmp_path):
    files = {"instances_val.json": coco_of("a.jpg"), "panoptic_val.json": panoptic_of("b.jpg")}
    with pytest.raises(FormatError, match=r"panoptic_val\.json would be left out") as caught:
        intake.source(folder(tmp_path, files))
    assert caught.value.code == "J009"


def test_categories_that_only_a_panoptic_file_has_are_named(tmp_path):
    files = {
        "instances_val.json": coco_of("a.jpg"),
        "panoptic_val.json": panoptic_of("a.jpg", "sky"),
    }
    files["panoptic_val/a.png"] = png(np.zeros((20, 30, 3)))
    found = intake.source(folder(tmp_path, files))
    assert any("categories only there: sky" in n for n in found.notes)
    assert not any("I104" in n for n in found.notes)


def test_what_two_files_say_of_one_category_is_compared(tmp_path):
    def of(name: str, supercategory: str) -> str:
        document = json.loads(coco_of(name))
        document["categories"][0]["supercategory"] = supercategory
        return json.dumps(document)

    files = {"instances_train.json": of("a.jpg", "body"), "instances_val.json": of("b.jpg", "part")}
    found = intake.source(folder(tmp_path, files))
    assert any("supercategory of category" in n and "'part' here, 'body'" in n for n in found.notes)


def test_a_file_that_others_call_as_our_dataset_is_no_dataset_of_ours(tmp_path):
    files = {"instances.json": coco_of("a.jpg"), "dataset.json": '{"title": "Hands"}'}
    path = folder(tmp_path / "theirs", files)
    assert len(intake.source(path).dataset) == 1
    folder(tmp_path / "other", {"instances.json": coco_of("a.jpg")})
    with pytest.raises(UsageError, match="not written by this command"):
        intake.take_in([tmp_path / "other"], path)
    assert (path / "dataset.json").read_text() == files["dataset.json"]


def test_a_readme_beside_a_folder_around_everything_changes_nothing(tmp_path):
    files = {f"hands/{name}": body for name, body in SEMANTIC.items()}
    files |= {"README.md": "# Hands", "LICENSE": "free"}
    assert intake.source(folder(tmp_path, files)).counted.images == 1


def test_images_of_one_name_in_two_splits_are_told_as_such(tmp_path):
    files = {f"instances_{s}.json": coco_of("a.jpg") for s in ("train", "val")}
    codes = {f.code for f in checking.run(folder(tmp_path, files)).findings}
    assert "I102" in codes
    assert "I111" not in codes


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


def test_pictures_of_one_stem_share_their_label(tmp_path):
    """As Ultralytics has it."""
    files = {**YOLO, "images/train/a.jpg": picture(), "images/train/a.png": picture(kind="PNG")}
    found = intake.take_in([folder(tmp_path / "x", files)], tmp_path / "out")
    assert [len(s.segments) for s in found.dataset] == [1, 1]
    assert any("1 label file(s) are of several pictures" in n for n in found.notes)


def test_the_list_of_classes_of_labelimg_is_no_label(tmp_path):
    files = {**YOLO, "images/train/a.jpg": picture(), "labels/train/classes.txt": "hand\n"}
    found = intake.source(folder(tmp_path, files))
    assert [s.file_name for s in found.dataset] == ["a.jpg"]


def test_an_image_may_be_called_classes(tmp_path):
    files = {**YOLO, "images/train/classes.jpg": picture(), "labels/train/classes.txt": HAND}
    found = intake.source(folder(tmp_path, {**files, "images/train/a.jpg": picture()}))
    assert [len(s.segments) for s in found.dataset] == [1, 1]


@pytest.mark.parametrize("inner", ["", "train/"])
def test_the_export_of_label_studio_is_read(tmp_path, inner):
    files = {
        "classes.txt": "hand\n",
        "notes.json": '{"categories": [{"id": 0, "name": "hand"}], "info": {}}',
        f"labels/{inner}a.txt": HAND,
        f"images/{inner}a.jpg": picture(),
        f"images/{inner}b.jpg": picture(seed=1),
    }
    found = intake.source(folder(tmp_path, files))
    split = "train" if inner else None
    assert [(s.file_name, s.split, len(s.segments)) for s in found.dataset] == [
        ("a.jpg", split, 1),
        ("b.jpg", split, 0),
    ]


def test_a_class_may_have_any_name(tmp_path):
    path = folder(tmp_path / "x", {**YOLO, "images/train/a.jpg": picture()})
    name = "a\x85b\u2028c\td"
    (path / "data.yaml").write_text('train: images/train\nnames: ["a\\Nb\\Lc\\td"]\n', "utf-8")
    assert intake.source(path).dataset.categories[0].name == name
    conversion.run(conversion.plan(path, "yolo"), tmp_path / "out")
    assert intake.source(tmp_path / "out", "yolo").dataset.categories[0].name == name


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


# ── an attribute that is a format's own word ─────────────────────────────────────────────────


@pytest.mark.parametrize("target", ["cvat", "cvat-video", "datumaro"])
@pytest.mark.parametrize("crowd", [0, 1])
def test_an_attribute_called_is_crowd_makes_no_crowd(tmp_path, target, crowd):
    hand = {"iscrowd": crowd, "attributes": {"is_crowd": not crowd}}
    document = coco_document([hand])
    (tmp_path / "instances.json").write_text(json.dumps(document))
    plan = conversion.plan(tmp_path / "instances.json", target)
    done = conversion.run(plan, tmp_path / "out")
    assert any("is_crowd" in item.reason for item in done.items)
    back = [s for sample in intake.read(tmp_path / "out", target) for s in sample.segments]
    assert [s.iscrowd for s in back] == [bool(crowd)]


def test_a_class_that_labels_txt_cannot_say_is_itemised(tmp_path):
    document = json.loads(coco_of("a.jpg"))
    document["categories"] = [{"id": 1, "name": "hand"}, {"id": 2, "name": " two\nlines"}]
    (tmp_path / "instances.json").write_text(json.dumps(document))
    done = conversion.run(conversion.plan(tmp_path / "instances.json", "labelme"), tmp_path / "out")
    assert any("two\\nlines" in item.reason for item in done.items)
