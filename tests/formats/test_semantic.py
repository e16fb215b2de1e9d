"""Semantic masks: read by any tool that reads grey PNGs, and read as such tools write them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from publisher.dataset import Category
from publisher.errors import FormatError
from publisher.files import open_tree
from publisher.formats import detect, semantic
from publisher.stages import intake
from tests.formats.test_voc import box, dataset, png
from tests.makers import picture, zipped


def reading(tmp_path, members):
    with open_tree(zipped(tmp_path / "s.zip", members)) as tree:
        return semantic.read(tree)


def name_of(tmp_path, members):
    with open_tree(zipped(tmp_path / "s.zip", members)) as tree:
        return detect(tree).name


# ── ours ─────────────────────────────────────────────────────────────────────────────────────


def test_a_grey_png_holds_the_number_of_the_line(tmp_path):
    """As mmsegmentation reads it: ann_file with stems, seg_map_path with PNGs."""
    made = dataset((10, box(0, 2, 0, 2)), (20, box(2, 4, 3, 6)), (10, box(0, 1, 5, 6)))
    (item,) = semantic.write(made, tmp_path)
    assert (tmp_path / "train.txt").read_text("utf-8") == "b c/x\n"
    mask = Image.open(tmp_path / "masks/b c/x.png")
    assert mask.mode == "L"
    names = (tmp_path / "classes.txt").read_text("utf-8").splitlines()
    values = np.array(mask)
    assert np.array_equal(values == names.index("hand"), box(0, 2, 0, 2) | box(0, 1, 5, 6))
    assert np.array_equal(values == names.index("table"), box(2, 4, 3, 6))
    assert (item.reason, item.change.segments) == ("objects of one class become one region", -1)


def test_more_than_254_classes_take_16_bits(tmp_path):
    names = tuple(f"class {n}" for n in range(1, 256))
    made = dataset((2550, box(0, 2, 0, 2)), names=names)
    crowd = dataset((10, box(3, 4, 0, 2)), crowd=True, names=names)
    segments = (*made[0].segments, replace(crowd[0].segments[0], id=2))
    semantic.write(replace(made, samples=(replace(made[0], segments=segments),)), tmp_path)
    mask = Image.open(tmp_path / "masks/b c/x.png")
    assert mask.mode == "I;16"
    values = np.array(mask)
    assert np.array_equal(values, 255 * box(0, 2, 0, 2) + 65535 * box(3, 4, 0, 2))
    (sample,) = intake.read(tmp_path)
    assert [s.category_id for s in sample.segments] == [255]


def test_a_name_that_is_no_line_is_refused_before_anything_is_written(tmp_path):
    made = replace(dataset(), categories=(Category(1, "hand\nfoot"),))
    with pytest.raises(FormatError, match="line of text"):
        semantic.write(made, tmp_path)
    assert not list(tmp_path.iterdir())


# ── theirs ───────────────────────────────────────────────────────────────────────────────────


def test_the_layout_of_mmsegmentation(tmp_path):
    members = {
        "ann_dir/train/a.png": png([[0, 1, 255]]),
        "ann_dir/val/b.png": png([[2, 2, 2]], [[9, 9, 9]] * 256),
        "img_dir/train/a.jpg": picture(1, 3),
        "img_dir/val/b.PNG": picture(1, 3, "PNG"),
        "classes.txt": "background\nhand\ntable\n",
    }
    assert name_of(tmp_path, members) == "semantic"
    found = reading(tmp_path, members)
    named = {p.sample.file_name: p for p in found.pictures}
    assert {n: p.sample.source["subset"] for n, p in named.items()} == {
        "a.jpg": "train",
        "b.PNG": "val",
    }
    assert named["b.PNG"].member == "img_dir/val/b.PNG"
    assert found.counted.pixels == {"hand": 1, "table": 3}
    assert any("1 px (16.7 %) are void" in n for n in found.notes)


def test_a_list_without_background_names_value_0_too(tmp_path):
    members = {"masks/a.png": png([[0, 1, 1]]), "codes.txt": "Animal\nArchway\n"}
    found = reading(tmp_path, members)
    assert found.counted.pixels == {"Animal": 1, "Archway": 2}
    assert [c.id for c in found.categories] == [1, 2]


def test_an_empty_line_in_a_list_of_classes_is_an_error_for_tools_count_it_differently(tmp_path):
    members = {"masks/a.png": png([[0, 1, 2]]), "classes.txt": "background\nhand\n\ntable\n\n"}
    with pytest.raises(FormatError, match="line 3 is empty") as caught:
        reading(tmp_path, members)
    assert caught.value.path == "classes.txt"


def test_255_is_a_class_where_values_go_beyond_it(tmp_path):
    wide = Image.fromarray(np.array([[0, 255, 300, 65535]], dtype=np.uint16))
    wide.save(tmp_path / "a.png")
    found = reading(tmp_path, {"masks/a.png": (tmp_path / "a.png").read_bytes()})
    assert found.counted.pixels == {"class 255": 1, "class 300": 1}
    assert any("1 px (25.0 %) are void" in n for n in found.notes)


def test_without_a_list_classes_are_named_by_their_values(tmp_path):
    members = {"masks/a.png": png([[0, 7]]), "images/a.jpg": picture(1, 2)}
    assert name_of(tmp_path, members) == "semantic"
    found = reading(tmp_path, members)
    assert found.counted.pixels == {"class 7": 1}
    assert "no list of classes: they are named by their values" in found.notes


def test_binary_masks_of_0_and_255_are_no_ignored_pixels(tmp_path):
    (finding,) = reading(tmp_path, {"masks/a.png": png([[0, 255]])}).findings
    assert finding.code == "V802"
    assert "binary masks" in finding.message


def test_grey_of_few_bits_is_not_spread(tmp_path):
    for bits in (1, 2, 4):
        image = Image.fromarray(np.array([[0, 1, 1, 0]], dtype=np.uint8))
        image.putpalette([0, 0, 0, 1, 1, 1])
        image.save(tmp_path / "a.png", bits=bits)
        body = (tmp_path / "a.png").read_bytes()
        found = reading(tmp_path, {"masks/a.png": body, "classes.txt": "background\nhand\n"})
        assert found.counted.pixels == {"hand": 2}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"masks/a.png": png([[9]])}, "V802"),
        ({"masks/a.png": png([[[1, 2, 3]]])}, "J002"),
        ({"train.txt": "b\n", "masks/a.png": png([[1]])}, "I103"),
        ({"train.txt": "../a\n", "masks/a.png": png([[1]])}, "I109"),
        ({"masks/a.png": b"GIF89a"}, "I112"),
    ],
)
def test_what_cannot_be_read_is_a_finding(tmp_path, members, code):
    found = reading(tmp_path, {"classes.txt": "background\nhand\n", **members})
    assert [f.code for f in found.findings] == [code]


@pytest.mark.parametrize(
    "members",
    [
        {"masks/a.png": png([[[1, 2, 3]]])},  # colours
        {"masks/a.png": png([[1]]), "data.json": "{}"},
        {"labels/a.txt": "0 0.1 0.1", "notes.txt": "hand\n"},
        {"images/a.png": png([[1]])},
    ],
)
def test_other_trees_are_not_claimed(tmp_path, members):
    with pytest.raises(FormatError, match="not a format I read"):
        name_of(tmp_path, members)
