"""Import: names, ids, categories, pictures, and the account of it all."""

from __future__ import annotations

import json

import pytest

import publisher
from publisher import workspace
from publisher.card import parse
from publisher.errors import FormatError, InvalidDataset
from publisher.files import open_tree
from publisher.stages import intake
from tests.makers import (
    coco_document,
    coco_folder,
    cvat_image,
    cvat_polygon,
    cvat_xml,
    cvat_zip,
    picture,
    zipped,
)


def names(taken):
    return [s.file_name for s in taken.dataset]


def test_ordinary_names_stay_as_they_are(tmp_path):
    given = {"a.jpg": "", "b/c d.jpg": "", "手/é.png": "", "x.y.jpg": ""}
    taken = intake.take_in([cvat_zip(tmp_path / "in.zip", given)], tmp_path / "out")
    assert names(taken) == sorted(given)
    assert taken.renames == ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.jpg", "a.png"], ["a_jpg.jpg", "a_png.png"]),
        (["A.jpg", "a.jpg"], ["A.jpg", "a__2.jpg"]),
        (["con.jpg"], ["_con.jpg"]),
        (["what?.jpg"], ["what_.jpg"]),
        (["e\u0301.jpg"], ["\u00e9.jpg"]),
    ],
)
def test_names_that_cannot_live_everywhere_are_changed_and_reported(tmp_path, given, expected):
    source = cvat_zip(tmp_path / "in.zip", dict.fromkeys(given, ""))
    taken = intake.take_in([source], tmp_path / "out")
    assert names(taken) == sorted(expected)
    assert dict(taken.renames).keys() <= set(given)
    assert taken.renames


def test_frames_without_an_extension_that_must_be_renamed_are_reported_each(tmp_path):
    members = {"annotations.xml": cvat_xml(cvat_image("A") + cvat_image("a", number=1))}
    members |= {f"images/{n}": picture(kind="PNG") for n in ("A.png", "a.png")}
    taken = intake.take_in([zipped(tmp_path / "in.zip", members)], tmp_path / "out")
    assert names(taken) == ["A.png", "a__2.png"]
    assert taken.renames == (("a", "a__2.png"),)


def test_equal_names_in_several_exports_all_survive(tmp_path):
    for n in (1, 2):
        cvat_zip(tmp_path / f"{n}.zip", {"a.jpg": cvat_polygon()})
    taken = intake.take_in([tmp_path / "1.zip", tmp_path / "2.zip"], tmp_path / "out")
    assert len(set(names(taken))) == 2
    assert taken.kept.images == taken.kept.segments == 2


def test_the_same_export_gives_the_same_bytes(tmp_path):
    source = cvat_zip(tmp_path / "in.zip", {"a.jpg": cvat_polygon(), "b.jpg": ""})
    for out in ("one", "two"):
        intake.take_in([source], tmp_path / out)
    for name in ("dataset.json", "samples.jsonl", "import.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_image_bytes_are_copied_untouched(tmp_path):
    source = cvat_zip(tmp_path / "in.zip", {"a.jpg": ""})
    intake.take_in([source], tmp_path / "out")
    with open_tree(source) as tree, tree.open("images/a.jpg") as stream:
        assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == stream.read()


def test_the_card_fixes_ids_and_says_what_is_stuff(tmp_path):
    card = parse(b"""
name: d
categories:
  - {id: 5, name: table, isthing: false, color: "#00ff00", supercategory: furniture}
""")
    source = cvat_zip(tmp_path / "in.zip", {"a.jpg": cvat_polygon(label="table")})
    taken = intake.take_in([source], tmp_path / "out", card=card)
    by_name = {c.name: c for c in taken.dataset.categories}
    assert by_name["table"].id == 5
    assert not by_name["table"].isthing
    assert by_name["table"].color == (0, 255, 0)
    assert by_name["hand"].id == 1
    assert by_name["hand"].color == (0xFA, 0x32, 0x53)
    assert taken.dataset[0].segments[0].category_id == 5
    assert any("'hand' is not in dataset.yaml" in n for n in taken.notes)


def test_missing_pictures_are_named_and_nothing_is_written(tmp_path):
    source = zipped(tmp_path / "in.zip", {"annotations.xml": cvat_xml(cvat_image("a.jpg"))})
    with pytest.raises(InvalidDataset, match=r"a.jpg: .*holds no picture") as e:
        intake.take_in([source], tmp_path / "out")
    assert "--images" in (e.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_pictures_may_lie_apart_from_the_annotations(tmp_path):
    source = zipped(tmp_path / "in.zip", {"annotations.xml": cvat_xml(cvat_image("b/a.jpg"))})
    (tmp_path / "photos" / "b").mkdir(parents=True)
    (tmp_path / "photos" / "b" / "a.jpg").write_bytes(picture())
    taken = intake.take_in([source], tmp_path / "out", images=tmp_path / "photos")
    assert names(taken) == ["b/a.jpg"]


LAYOUTS = {
    "images beside": ("instances.json", "a.jpg", "images/a.jpg"),
    "CVAT 2.15": ("annotations/instances_Train.json", "a.jpg", "images/a.jpg"),
    "newer CVAT": ("annotations/instances_Train.json", "a.jpg", "images/Train/a.jpg"),
    "COCO": ("annotations/instances_train.json", "a.jpg", "train2017/a.jpg"),
    "our release": ("annotations/instances_train.json", "a.jpg", "train/images/a.jpg"),
    "Roboflow": ("train/_annotations.coco.json", "a.jpg", "train/a.jpg"),
    "flat": ("anything.json", "a.jpg", "a.jpg"),
    "in a folder of the zip": ("x/annotations/instances_val.json", "a.jpg", "x/images/val/a.jpg"),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_coco_in_the_layouts_people_use(tmp_path, layout):
    document, file_name, image = LAYOUTS[layout]
    body = coco_document(
        [{}], images=[{"id": 4, "file_name": file_name, "height": 20, "width": 30}]
    )
    body["annotations"][0]["image_id"] = 4
    source = zipped(tmp_path / "in.zip", {document: json.dumps(body), image: picture()})
    taken = intake.take_in([source], tmp_path / "out")
    assert names(taken) == ["a.jpg"]
    assert taken.dataset[0].id == 4  # a lone file keeps its ids
    assert taken.kept.segments == 1


@pytest.mark.parametrize(
    ("segmentation", "area"),
    [
        ([[1, 1, 9, 1, 9, 9, 1, 9]], 64),
        ([[1, 1, 5, 1, 5, 5, 1, 5], [3, 3, 9, 3, 9, 9, 3, 9]], 16 + 36 - 4),
        ({"size": [20, 30], "counts": [0, 7, 593]}, 7),
        ({"size": [20, 30], "counts": "07ab0"}, 7),
    ],
    ids=["polygon", "parts", "uncompressed", "compressed"],
)
def test_every_kind_of_coco_segmentation_is_read(tmp_path, segmentation, area):
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        import numpy as np

        from publisher.masks import compress

        segmentation = {**segmentation, "counts": compress(np.array([0, 7, 593])).decode()}
    source = coco_folder(tmp_path / "in", coco_document([{"segmentation": segmentation}]))
    taken = intake.take_in([source], tmp_path / "out")
    assert taken.kept.pixels["hand"] == area


def test_a_true_crowd_of_another_tool_stays_a_crowd(tmp_path):
    crowd = {"iscrowd": 1, "segmentation": {"size": [20, 30], "counts": [0, 7, 593]}}
    taken = intake.take_in([coco_folder(tmp_path / "in", coco_document([crowd]))], tmp_path / "out")
    assert taken.dataset[0].segments[0].iscrowd


def test_the_report_is_kept_beside_the_data(tmp_path):
    source = cvat_zip(tmp_path / "in.zip", {"a.jpg": cvat_polygon()})
    taken = intake.take_in([source], tmp_path / "out")
    report = json.loads((tmp_path / "out" / "import.json").read_text())
    assert report == json.loads(json.dumps(taken.to_json()))
    assert report["in"] == report["out"] == {"images": 1, "segments": 1, "pixels": {"hand": 64}}


def test_read_gives_annotations_without_unpacking_pictures(tmp_path):
    source = cvat_zip(tmp_path / "in.zip", {"a.jpg": cvat_polygon(), "b.jpg": ""})
    dataset = publisher.read(source)
    assert [s.file_name for s in dataset] == ["a.jpg", "b.jpg"]
    assert dataset[0].segments[0].mask(20, 30).area == 64


def test_a_working_dataset_is_read_lazily_and_by_index(tmp_path):
    source = cvat_zip(tmp_path / "in.zip", {f"{i}.jpg": cvat_polygon() for i in range(5)})
    intake.take_in([source], tmp_path / "out")
    dataset = workspace.read(tmp_path / "out")
    assert len(dataset) == 5
    assert dataset[-1].file_name == "4.jpg"
    assert [s.file_name for s in dataset.samples[1:3]] == ["1.jpg", "2.jpg"]
    names = [s.file_name for s in dataset]
    lines = (tmp_path / "out" / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out" / "samples.jsonl").unlink()
    for n, part in enumerate((lines[:2], lines[2:])):
        (tmp_path / "out" / f"samples-{n:05}-of-00002.jsonl").write_bytes(b"".join(part))
    assert [s.file_name for s in workspace.read(tmp_path / "out")] == names


def test_frames_without_extension_find_their_pictures_elsewhere_too(tmp_path):
    xml = cvat_xml(cvat_image("frame_000000") + cvat_image("frame_000001", number=1))
    (tmp_path / "annotations.xml").write_text(xml)
    (tmp_path / "frames").mkdir()
    for n in (0, 1):
        (tmp_path / "frames" / f"frame_00000{n}.PNG").write_bytes(picture(kind="PNG", seed=n))
    source = tmp_path / "annotations.xml"
    taken = intake.take_in([source], tmp_path / "out", images=tmp_path / "frames")
    assert names(taken) == ["frame_000000.PNG", "frame_000001.PNG"]


def test_ids_used_twice_in_one_file_are_given_anew_and_said(tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{"id": 5}, {"id": 5}]))
    taken = intake.take_in([source], tmp_path / "out")
    assert [s.id for s in taken.dataset[0].segments] == [1, 2]
    assert any("annotation ids are used twice" in n for n in taken.notes)
    with intake.opened(source) as opened:
        assert [f.code for f in opened.findings] == ["A301"]


def test_an_image_id_used_twice_is_refused(tmp_path):
    one = {"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}
    document = coco_document([{}], images=[one, {**one, "file_name": "b.jpg"}])
    with pytest.raises(InvalidDataset, match="I101: image id 1 is used 2 times"):
        intake.take_in([coco_folder(tmp_path / "in", document)], tmp_path / "out")


def test_categories_of_one_name_stay_apart_or_are_refused(tmp_path):
    twins = [{"id": 1, "name": "hand"}, {"id": 2, "name": "hand"}]
    source = coco_folder(tmp_path / "in", coco_document([{}, {"category_id": 2}], categories=twins))
    taken = intake.take_in([source], tmp_path / "out")
    assert [s.category_id for s in taken.dataset[0].segments] == [1, 2]
    with pytest.raises(FormatError, match="two categories share a name"):
        intake.take_in([source], tmp_path / "two", card=parse(b"name: d"))


def test_a_category_id_used_twice_is_refused(tmp_path):
    twins = [{"id": 1, "name": "hand"}, {"id": 1, "name": "table"}]
    source = coco_folder(tmp_path / "in", coco_document([{}], categories=twins))
    with pytest.raises(FormatError, match="category id 1 is used twice"):
        intake.take_in([source], tmp_path / "out")
