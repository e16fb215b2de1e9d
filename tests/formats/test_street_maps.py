"""Cityscapes and KITTI, as Datumaro writes them for CVAT, and as they are themselves."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from publisher.files import open_tree
from publisher.formats import cityscapes, detect, kitti
from publisher.stages import intake
from tests.formats.test_voc import png
from tests.makers import picture, zipped

COLORS = "0 0 0 background\n42 125 209 food box\n250 50 83 hand\n"
CLASSES = [[2, 2, 1, 0], [2, 2, 1, 0]]


def deep(values) -> bytes:
    """A 16-bit grey PNG."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(values, dtype=np.uint16)).save(out, "PNG")
    return out.getvalue()


def city(instances, classes=CLASSES, stem="gtFine/Train/a/x 1_gtFine"):
    """What cvat-ai/datumaro's CityscapesConverter writes for one image."""
    return {
        f"{stem}_labelIds.png": png(classes),
        f"{stem}_instanceIds.png": deep(instances),
        f"{stem}_color.png": png(np.zeros((2, 4, 3))),
        "imgsFine/leftImg8bit/Train/a/x 1_leftImg8bit.jpg": picture(2, 4),
        "imgsFine/leftImg8bit/Train/empty_leftImg8bit.png": picture(5, 6, "PNG"),
        "label_colors.txt": COLORS,
    }


def road(instances, semantic=CLASSES):
    """What cvat-ai/datumaro's KittiConverter writes for one image."""
    return {
        "default/semantic/a/x 1.png": deep(semantic),
        "default/instance/a/x 1.png": deep(instances),
        "default/semantic_rgb/a/x 1.png": png(np.zeros((2, 4, 3))),
        "default/image_2/a/x 1.png": picture(2, 4, "PNG"),
        "default/image_2/empty.png": picture(5, 6, "PNG"),
        "label_colors.txt": COLORS,
    }


def reading(tmp_path, members, name):
    with open_tree(zipped(tmp_path / "e.zip", members)) as tree:
        found = detect(tree)
        assert found.name == name
        return found.read(tree)


def described(sample):
    size = sample.height, sample.width
    return sorted(
        (s.category_id, s.mask(*size).to_array().nonzero()[1].tolist(), s.iscrowd)
        for s in sample.segments
    )


INSTANCES = [
    ("cityscapes", city([[2001, 2002, 1003, 0]] * 2)),
    ("kitti", road([[513, 514, 259, 0]] * 2)),
]


@pytest.mark.parametrize(("name", "members"), INSTANCES)
def test_objects_and_classes_come_from_both_maps(tmp_path, name, members):
    found = reading(tmp_path, members, name)
    assert [(c.id, c.name, c.color) for c in found.categories] == [
        (1, "food box", (42, 125, 209)),
        (2, "hand", (250, 50, 83)),
    ]
    x, empty = sorted((p.sample for p in found.pictures), key=lambda s: s.file_name)
    assert x.file_name == ("a/x 1.jpg" if name == "cityscapes" else "a/x 1.png")
    assert described(x) == [
        (1, [2, 2], False),
        (2, [0, 0], False),
        (2, [1, 1], False),
    ]
    assert (empty.file_name, empty.height, empty.width) == ("empty.png", 5, 6)
    assert found.counted.pixels == {"food box": 2, "hand": 4}
    assert not found.mended


@pytest.mark.parametrize(("name", "members"), INSTANCES)
def test_an_export_is_taken_in_with_its_pictures(tmp_path, name, members):
    taken = intake.take_in([zipped(tmp_path / "e.zip", members)], tmp_path / "out")
    assert taken.counted.segments == taken.kept.segments == 3
    assert {s.split for s in taken.dataset} == ({"train"} if name == "cityscapes" else {None})
    assert len(list((tmp_path / "out/images").rglob("*.*"))) == 2


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("cityscapes", city([[2, 2, 1, 0]] * 2)),
        ("kitti", road([[512, 512, 256, 0]] * 2)),
    ],
)
def test_objects_without_numbers_are_no_crowds_and_that_is_said(tmp_path, name, members):
    found = reading(tmp_path, members, name)
    sample = next(p.sample for p in found.pictures if p.sample.segments)
    assert described(sample) == [(1, [2, 2], False), (2, [0, 1, 0, 1], False)]
    assert any(n.startswith("2 segment(s) have no number of their own") for n in found.notes)


@pytest.mark.parametrize(
    ("name", "members", "said"),
    [
        # number 1000 of class 1 is number 0 of class 2; so is 256 of KITTI's
        ("cityscapes", city([[2001, 2001, 2000, 0]] * 2), "object 2000 is of class 2"),
        ("kitti", road([[513, 513, 512, 0]] * 2), "object 512 is of class 2"),
    ],
)
def test_numbers_that_run_into_the_next_class_do_not_change_the_class(
    tmp_path, name, members, said
):
    found = reading(tmp_path, members, name)
    (finding,) = found.mended
    assert finding.code == "V803"
    assert finding.message == f"{said}, its pixels are food box"
    assert found.counted.pixels == {"food box": 2, "hand": 4}


def test_cityscapes_itself_has_its_own_classes_and_crowds(tmp_path):
    stem = "gtFine/val/bonn/bonn_000000_000019_gtFine"
    members = {
        f"{stem}_labelIds.png": png([[7, 26, 26, 0]]),
        f"{stem}_instanceIds.png": deep([[7, 26, 26003, 0]]),
        "leftImg8bit/val/bonn/bonn_000000_000019_leftImg8bit.png": picture(1, 4, "PNG"),
    }
    found = reading(tmp_path, members, "cityscapes")
    (p,) = found.pictures
    assert p.sample.file_name == "bonn/bonn_000000_000019.png"
    assert p.member == "leftImg8bit/val/bonn/bonn_000000_000019_leftImg8bit.png"
    names = {c.id: (c.name, c.isthing) for c in found.categories}
    assert (names[7], names[26], names[33]) == (
        ("road", False),
        ("car", True),
        ("bicycle", True),
    )
    assert described(p.sample) == [(7, [0], False), (26, [1], True), (26, [2], False)]


def test_kitti_itself_has_the_classes_of_cityscapes(tmp_path):
    members = {
        "training/semantic/000000_10.png": png([[7, 26, 26, 26]]),
        "training/instance/000000_10.png": deep([[7 * 256, 26 * 256, 26 * 256 + 1, 26 * 256 + 1]]),
        "training/image_2/000000_10.png": picture(1, 4, "PNG"),
    }
    found = reading(tmp_path, members, "kitti")
    (p,) = found.pictures
    assert described(p.sample) == [(7, [0], False), (26, [1], True), (26, [2, 3], False)]
    assert p.sample.source["subset"] == "training"


@pytest.mark.parametrize(("name", "members"), INSTANCES)
def test_one_map_is_enough(tmp_path, name, members):
    for gone in ("_labelIds.png", "/semantic/"):
        alone = {k: v for k, v in members.items() if gone not in k}
        assert reading(tmp_path, alone, name).counted.pixels == {"food box": 2, "hand": 4}
    for gone in ("_instanceIds.png", "/instance/"):
        alone = {k: v for k, v in members.items() if gone not in k}
        found = reading(tmp_path, alone, name)
        assert found.counted.pixels == {"food box": 2, "hand": 4}


@pytest.mark.parametrize(("name", "members"), INSTANCES)
def test_a_picture_without_a_map_is_an_empty_image_and_that_is_said(tmp_path, name, members):
    found = reading(tmp_path, members, name)
    assert {p.sample.file_name for p in found.pictures if not p.sample.segments} == {"empty.png"}
    assert "1 image(s) have no map: nothing is in them" in found.notes


def test_maps_of_instances_alone_may_have_8_bits(tmp_path):
    members = {"gtFine/val/a_gtFine_instanceIds.png": png([[7, 26, 0]])}
    found = reading(tmp_path, members, "cityscapes")
    assert found.counted.pixels == {"road": 1, "car": 1}


@pytest.mark.parametrize(
    ("read", "members"), [(cityscapes.read, INSTANCES[0][1]), (kitti.read, INSTANCES[1][1])]
)
def test_a_broken_map_costs_one_finding(tmp_path, read, members):
    for name, body in members.items():
        if not name.endswith(("Ids.png", "x 1.png")) or "rgb" in name or "image_2" in name:
            continue
        for bad, code in ((body[:40], "I112"), (png([[9] * 4] * 2), "V802"), (b"", "I112")):
            with open_tree(zipped(tmp_path / "e.zip", {**members, name: bad})) as tree:
                found = read(tree)
            if code == "V802" and "nstance" in name:
                continue  # numbers are free
            assert [f.code for f in found.findings] == [code], name
            assert len(found.pictures) == 1
