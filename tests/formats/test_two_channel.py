"""panopticapi's two-channel maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from publisher import formats
from publisher.errors import FormatError
from publisher.files import open_tree
from publisher.formats import two_channel
from publisher.masks import Mask
from publisher.stages import checking, intake
from tests import pngs
from tests.makers import picture

CATEGORIES = [
    {"id": 1, "name": "hand", "supercategory": "", "isthing": 1, "color": [250, 50, 80]},
    {"id": 184, "name": "table", "supercategory": "", "isthing": 0, "color": [10, 20, 30]},
]
MAP = np.zeros((4, 6, 3), np.uint8)  # category, instance, 0
MAP[0, :3] = (1, 0, 0)
MAP[1, :2] = (1, 2, 0)
MAP[2, 2:] = (1, 255, 0)
MAP[3] = (184, 0, 0)
MAP[0, 5] = (0, 9, 0)  # void has no instances


def folder(path: Path, map_: np.ndarray = MAP, categories: Any = CATEGORIES) -> Path:
    (path / "maps").mkdir(parents=True)
    (path / "maps" / "a.png").write_bytes(pngs.png(map_))
    if categories is not None:
        (path / "categories.json").write_text(json.dumps(categories), "utf-8")
    return path


def read(path: Path) -> formats.Reading:
    with open_tree(path) as tree:
        return two_channel.read(tree)


def detected(path: Path) -> bool:
    with open_tree(path) as tree:
        return two_channel.detect(tree)


def segments(path: Path) -> list[tuple[str, bool, Mask]]:
    reading = read(path)
    assert not reading.findings
    names = {c.id: c.name for c in reading.categories}
    (found,) = reading.pictures
    s = found.sample
    return [(names[g.category_id], g.iscrowd, g.mask(s.height, s.width)) for g in s.segments]


def mask(category: int, instance: int) -> Mask:
    return Mask.from_array((MAP[..., 0] == category) & (MAP[..., 1] == instance))


def test_each_pair_of_category_and_instance_is_a_segment(tmp_path):
    found = segments(folder(tmp_path))
    assert sorted(found, key=lambda f: f[2].counts) == sorted(
        [
            ("hand", False, mask(1, 0)),
            ("hand", False, mask(1, 2)),
            ("hand", True, mask(1, 255)),
            ("table", False, mask(184, 0)),
        ],
        key=lambda f: f[2].counts,
    )


def test_instance_255_is_none_but_the_last_where_there_are_so_many(tmp_path):
    many = MAP.copy()
    many[0, 4] = (1, 254, 0)
    assert not any(crowd for _, crowd, _ in segments(folder(tmp_path, many)))


def test_without_a_list_categories_are_called_by_their_numbers(tmp_path):
    reading = read(folder(tmp_path, categories=None))
    assert [c.name for c in reading.categories] == ["category 1", "category 184"]
    assert any("no JSON lists the categories" in n for n in reading.notes)


def test_images_and_their_sizes_come_from_a_list_where_there_is_one(tmp_path):
    image = {"id": 9, "file_name": "a.jpg", "height": 4, "width": 6}
    lost = {"id": 10, "file_name": "lost.jpg", "height": 4, "width": 6}
    path = folder(tmp_path, categories={"images": [image, lost], "categories": CATEGORIES})
    reading = read(path)
    assert [(p.sample.id, p.sample.file_name) for p in reading.pictures] == [(9, "a.jpg")]
    assert [str(f) for f in reading.findings] == ["lost.jpg: error N701: its map is missing"]


def test_a_picture_of_the_same_name_is_its_picture(tmp_path):
    folder(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpeg").write_bytes(picture(4, 6))
    (found,) = read(tmp_path).pictures
    assert (found.member, found.sample.file_name) == ("images/a.jpeg", "a.jpeg")


def test_maps_and_pictures_of_one_name_belong_together_by_their_folders(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "maps" / split).mkdir(parents=True)
        (tmp_path / "maps" / split / "a.png").write_bytes(pngs.png(MAP))
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "images" / split / "a.jpg").write_bytes(picture(4, 6))
    (tmp_path / "categories.json").write_text(json.dumps(CATEGORIES), "utf-8")
    found = {p.member: p.sample.source for p in read(tmp_path).pictures}
    assert found == {
        "images/train/a.jpg": {"name": "a.jpg", "subset": "train"},
        "images/val/a.jpg": {"name": "a.jpg", "subset": "val"},
    }


def test_a_photograph_is_its_picture_before_a_drawing_is(tmp_path):
    folder(tmp_path)
    for name, body in (("colored/a.png", picture(4, 6, "PNG")), ("photos/a.jpg", picture(4, 6))):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(body)
    assert [p.member for p in read(tmp_path).pictures] == ["photos/a.jpg"]


def test_pictures_that_could_both_be_its_own_are_a_finding(tmp_path):
    folder(tmp_path)
    for name in ("x/a.jpg", "y/a.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(picture(4, 6))
    (finding,) = read(tmp_path).findings
    assert (finding.code, finding.file_name) == ("I103", "maps/a.png")
    assert "x/a.jpg, y/a.jpg could be its image" in finding.message


def test_two_maps_of_one_listed_image_are_a_finding(tmp_path):
    folder(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.png").write_bytes(pngs.png(MAP))
    listed = {"images": [{"file_name": "a.jpg", "id": 7}], "categories": CATEGORIES}
    (tmp_path / "images.json").write_text(json.dumps(listed), "utf-8")
    reading = read(tmp_path)
    assert [f.code for f in reading.findings] == ["N713"]
    assert len(reading.pictures) == 1


def test_it_is_told_by_its_content(tmp_path):
    assert detected(folder(tmp_path / "1"))
    assert intake.read(tmp_path / "1").categories[0].name == "hand"


@pytest.mark.parametrize(
    ("map_", "categories"),
    [
        (MAP, None),  # nothing says what red means
        (np.where(MAP == 1, 77, MAP), CATEGORIES),  # red is no category
        (MAP + np.uint8([0, 0, 1]), CATEGORIES),  # blue
        (MAP * np.uint8([1, 0, 0]), CATEGORIES),  # no instance anywhere: a map of anything
    ],
)
def test_other_pngs_are_not_taken_for_it(tmp_path, map_, categories):
    assert not detected(folder(tmp_path, map_, categories))


def test_its_maps_and_lists_are_all_read(tmp_path):
    (folder(tmp_path) / "maps" / "a.jpg").write_bytes(picture(4, 6))
    notes = intake.source(tmp_path).notes
    assert not [n for n in notes if "J010" in n or "I104" in n]


def test_an_unknown_category_is_a_finding(tmp_path):
    path = folder(tmp_path)
    other = np.where(MAP == 184, 185, MAP)
    (path / "maps" / "z.png").write_bytes(pngs.png(other))
    (finding,) = read(path).findings
    assert str(finding) == "z.jpg: error A304: no category has id 185, which 6 px have"


@pytest.mark.parametrize("body", [b"", b"\x89PNG", pngs.png(MAP)[:-9], pngs.png(MAP + np.uint8(1))])
def test_a_poisoned_map_costs_a_finding(tmp_path, body):
    path = folder(tmp_path)
    for name in ("b.png", "c.png"):  # beyond those that tell the format
        (path / "maps" / name).write_bytes(pngs.png(MAP))
    (path / "maps" / "z.png").write_bytes(body)
    reading = read(path)
    assert len(reading.findings) == 1
    assert checking.run(path).findings


def test_no_map_at_all_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(FormatError, match="no two-channel map"):
        read(tmp_path)
