"""What an export itself has lost is said, in one line each; nothing is lost unsaid."""

from __future__ import annotations

import pytest

from publisher import formats
from publisher.conservation import Tally
from publisher.errors import FormatError, InvalidDataset
from publisher.files import open_tree
from publisher.stages import intake
from tests.makers import coco_document, coco_folder, zipped
from tests.truth import DATA


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return intake.take_in([DATA / "project__coco-1.0.zip"], tmp_path_factory.mktemp("c") / "out")


@pytest.fixture(scope="module")
def xml(tmp_path_factory):
    source = DATA / "project__cvat-for-images-1.1.zip"
    return intake.take_in([source], tmp_path_factory.mktemp("x") / "out")


@pytest.mark.parametrize(
    "said",
    [
        "image ids are used twice",
        "annotation ids are used twice",
        "stands for 2 images (sheep.jpg of Train, sheep.jpg of Validation)",
        "keeps no z-order",
        "11 brush mask(s) or ellipse(s) were marked iscrowd 1 by CVAT; set to 0",
        "11 box(es) had no polygon; rebuilt from bbox and rotation",
        "2 instance(s) of several parts were groups in CVAT",
        "1 instance(s) have a box beyond their polygons",
    ],
)
def test_cvats_coco_says_what_it_lost(coco, said):
    assert len([n for n in coco.notes if said in n]) == 1


def test_a_box_of_cvats_coco_that_is_turned_beyond_measure_is_a_finding(tmp_path):
    box = {"segmentation": [], "attributes": {"occluded": False, "rotation": 10**400}}
    said = {**coco_document([box]), "info": {"contributor": "", "year": ""}}
    with pytest.raises(InvalidDataset, match="rotation is beyond"):
        intake.source(coco_folder(tmp_path / "in", said))


def test_images_that_share_one_file_are_marked(coco):
    marked = [s.file_name for s in coco.dataset if "image_shared_with" in s.source]
    assert marked == ["Train/sheep.jpg", "Validation/sheep.jpg"]


def test_tags_points_and_lines_are_kept_with_their_image(xml):
    bowl = next(s for s in xml.dataset if s.file_name == "session 1/bowl.jpg")
    kinds = sorted(shape["kind"] for shape in bowl.source["not_segments"])
    assert kinds == ["points", "polyline", "tag"]


def test_groups_of_one_label_are_one_instance_and_mixed_groups_stay_apart(xml):
    bowl = next(s for s in xml.dataset if s.file_name == "session 1/bowl.jpg")
    grouped = [s for s in bowl.segments if s.origin.get("shape") == "group"]
    assert sorted(s.origin["group"] for s in grouped) == ["1", "4"]
    assert [len(s.origin["parts"]) for s in grouped] == [2, 2]
    assert [s.attributes["occluded"] for s in grouped if s.origin["group"] == "1"] == [True]
    assert "group 3 mixes food, フライパン; kept apart" in [i.reason for i in xml.items]


def test_deleted_frames_are_absent_and_empty_frames_stay(xml):
    names = {s.file_name for s in xml.dataset}
    assert "zz_empty.jpg" in names
    assert "zz_deleted.jpg" not in names


def test_attributes_have_the_types_of_their_label(xml):
    bowl = next(s for s in xml.dataset if s.file_name == "session 1/bowl.jpg")
    notes = [s.attributes for s in bowl.segments if s.attributes.get("note")]
    assert {"count": 3, "note": 'below "q" <&> é'} in notes
    assert any(s.attributes.get("gloved") is True for s in bowl.segments)


def test_subsets_that_name_a_split_become_it(xml):
    splits = {s.source["subset"]: s.split for s in xml.dataset}
    assert splits == {"Train": "train", "Validation": "val", "Video": None}


def test_frames_of_a_video_are_one_group(xml):
    groups = {s.group for s in xml.dataset if s.source["subset"] == "Video"}
    assert groups == {"cvat task 4: video.mp4"}


def test_counts_add_up(xml, coco):
    for taken in (xml, coco):
        change = Tally()
        for item in taken.items:
            change += item.change
        assert not taken.kept - taken.counted - change
        assert taken.kept.images == 23


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes/readme.md", "no annotations found that I know"),
        ("part/samples.jsonl", "looks like a working dataset"),
    ],
)
def test_other_trees_get_a_clear_no_with_the_list_of_what_is_read(name, said, tmp_path):
    source = zipped(tmp_path / "in.zip", {name: b"text"})
    with open_tree(source) as tree, pytest.raises(FormatError, match="not a format I read") as e:
        formats.detect(tree)
    assert said in str(e.value)
    assert "CVAT for images 1.1" in (e.value.hint or "")


@pytest.mark.parametrize("name", ["cvat-for-images-1.1", "datumaro-1.0"])
def test_validate_names_tags_points_and_lines_of_every_export_that_has_them(cli, name):
    told = cli("validate", DATA / f"project__{name}.zip", "--select", "J007").stdout
    kinds = {line.split()[4] for line in told.splitlines() if "have no pixels; kept" in line}
    assert kinds >= {"points", "polyline"}
