"""What goes back to CVAT is what came from it, and what CVAT's importer reads."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.formats import cvat
from publisher.masks import Mask, Rle, crop_from_mask, mask_from_crop
from publisher.stages import intake
from tests import strategies
from tests.truth import DATA

SUBSETS = {"Train": "train", "Validation": "val"}  # as splits are called
EXPORTS = sorted(p.name for p in DATA.glob("*cvat-for-images-1.1.zip"))


def written(dataset: Dataset, folder: Path) -> ElementTree.Element:
    cvat.write(dataset, folder)
    return ElementTree.parse(folder / "annotations.xml").getroot()


def one(*segments: Segment, **more) -> Dataset:
    """A dataset of one image, 20 high and 30 wide."""
    sample = Sample(1, "a.jpg", 20, 30, tuple(segments), **more)
    return Dataset("d", (Category(1, "hand"), Category(2, "food")), (sample,))


def decoded(node: ElementTree.Element, height: int, width: int) -> np.ndarray:
    """A `<mask>` by CVAT's own rule: row-major runs over the box, zeros first."""
    left, top, w, h = (int(node.attrib[k]) for k in ("left", "top", "width", "height"))
    runs = [int(r) for r in node.attrib["rle"].split(",")]
    pixels = np.zeros((height, width), bool)
    box = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
    pixels[top : top + h, left : left + w] = box
    return pixels


def shapes(root: ElementTree.Element) -> dict[tuple[str, str], Counter]:
    """All that an export says of each image, numbers as numbers."""
    return {
        (SUBSETS.get(s := i.get("subset", ""), s), i.get("id", "")): Counter(
            described(node) for node in i
        )
        for i in root.iter("image")
    }


def described(node: ElementTree.Element) -> tuple:
    said = {k: plain(v) for k, v in node.attrib.items()}
    said = {"occluded": 0, **said} if node.tag != "tag" else said
    attributes = {a.get("name"): a.text or "" for a in node.iter("attribute")}
    return node.tag, repr(sorted(said.items())), repr(sorted(attributes.items()))


def plain(text: str) -> object:
    """Numbers without CVAT's two decimals."""
    try:
        return [float(v) for v in text.replace(";", ",").split(",")]
    except ValueError:
        return text


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_goes_back_as_the_shapes_that_it_was(name, tmp_path):
    with zipfile.ZipFile(DATA / name) as z:
        before = shapes(ElementTree.parse(io.BytesIO(z.read("annotations.xml"))).getroot())
    after = shapes(written(intake.read(DATA / name), tmp_path))
    if "project" not in name:  # a task's images have no subset of their own
        before = {(subset, i): n for (_, i), n in before.items() for subset, j in after if j == i}
    assert after == before


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_written_and_read_is_the_same_dataset(name, tmp_path):
    before = intake.read(DATA / name)
    cvat.write(before, tmp_path)
    after = intake.read(tmp_path)
    assert [c.name for c in after.categories] == [c.name for c in before.categories]
    assert [c.color for c in after.categories] == [c.color for c in before.categories]
    for a, b in zip(after, before, strict=True):
        assert (a.file_name, a.height, a.width, a.split) == (
            b.file_name,
            b.height,
            b.width,
            b.split,
        )
        assert a.group == b.group
        assert a.source.get("not_segments") == b.source.get("not_segments")
        assert [facts(s) for s in a.segments] == [facts(s) for s in b.segments]


def facts(s: Segment) -> tuple:
    return s.category_id, s.segmentation, s.z_order, s.iscrowd, s.attributes, s.origin


@given(st.data())
def test_any_mask_is_drawn_pixel_for_pixel(data):
    height, width = data.draw(strategies.SIZES)
    mask = data.draw(strategies.masks(height, width).filter(lambda m: m.area))
    runs, *box = crop_from_mask(mask)
    assert mask_from_crop(runs, *box, (height, width)) == mask
    assert tuple(box) == mask.bbox
    node = ElementTree.Element("mask", {"rle": ", ".join(map(str, runs))})
    for key, value in zip(("left", "top", "width", "height"), box, strict=True):
        node.set(key, str(value))
    assert (decoded(node, height, width) == mask.to_array()).all()


def test_a_mask_with_a_hole_is_a_mask_and_an_empty_one_is_said(tmp_path):
    pixels = np.ones((20, 30), bool)
    pixels[5:9, 5:9] = False
    rles = [Mask.from_array(p).counts.decode() for p in (pixels, pixels & False)]
    data = one(*(Segment(i, 1, Rle(20, 30, c)) for i, c in enumerate(rles, 1)))
    items = cvat.write(data, tmp_path)
    (node,) = ElementTree.parse(tmp_path / "annotations.xml").getroot().iter("mask")
    assert (decoded(node, 20, 30) == pixels).all()
    assert [(i.change.segments, i.file_name) for i in items] == [(-1, "a.jpg")]


def test_parts_are_polygons_of_one_group_and_no_vertex_moves(tmp_path):
    rings = ((1.0, 1.0, 9.123456789, 1.0, 9.0, 9.0), (12.0, 1.0, 19.0, 1.0, 19.0, 9.0))
    root = written(one(Segment(1, 2, rings), Segment(2, 2, rings[:1])), tmp_path)
    first, second, alone = root.iter("polygon")
    assert first.get("points") == "1.0,1.0;9.123456789,1.0;9.0,9.0"
    assert first.get("group_id") == second.get("group_id") == "1"
    assert alone.get("group_id") is None


def test_a_group_id_of_the_source_stays_and_is_given_to_nobody_else(tmp_path):
    rings = ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0), (12.0, 1.0, 19.0, 1.0, 19.0, 9.0))
    data = one(
        Segment(1, 1, rings, origin={"group": "7"}),
        Segment(2, 1, rings, origin={"group": "7"}),
        Segment(3, 2, rings[:1], origin={"group": 7}),
    )
    root = written(data, tmp_path)
    assert [n.get("group_id") for n in root.iter("polygon")] == ["7", "7", "8", "8", "7"]
    assert len(intake.read(tmp_path)[0].segments) == 3


def test_a_box_that_was_moved_is_a_polygon(tmp_path):
    ring = cvat.box_ring(2, 2, 8, 6, 30.0)
    was = {"shape": "box", "box": {"bbox": [2, 2, 6, 4], "rotation": 30.0}}
    moved = (ring[0] + 1, *ring[1:])
    segments = Segment(1, 1, (ring,), origin=was), Segment(2, 1, (moved,), origin=was)
    root = written(one(*segments), tmp_path)
    assert root.find("image/box").get("rotation") == "30.0"
    assert len(list(root.iter("polygon"))) == 1


@pytest.mark.parametrize(
    "origin",
    [
        {"shape": "box", "box": "?"},
        {"shape": "ellipse", "ellipse": {"centre": [1, 2]}},
        {"shape": "group", "parts": [1, 2]},
        {"shape": "group", "parts": [{"segmentation": {"size": [2**40, 3], "counts": "?"}}] * 2},
        {"shape": 5, "group": ["x"], "parts": "no"},
    ],
)
def test_what_other_tools_say_of_an_origin_does_no_harm(origin, tmp_path):
    mask = Mask.from_array(np.eye(20, 30))
    ring = (1.0, 1.0, 9.0, 1.0, 9.0, 9.0)
    whole = (Rle(20, 30, mask.counts.decode()), (ring,), (ring, ring))
    data = one(*(Segment(i, 1, w, origin=origin) for i, w in enumerate(whole, 1)))
    cvat.write(data, tmp_path)
    back = intake.read(tmp_path)[0]
    assert [s.mask(20, 30) for s in back.segments] == [s.mask(20, 30) for s in data[0].segments]


def test_attributes_keep_their_types_and_labels_say_them(tmp_path):
    ring = ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0),)
    said = [
        {"note": 'a <b> & "c"\n\r\x01', "count": 3, "ok": True, "mixed": 1, "occluded": True},
        {"note": " ", "count": 2.5, "ok": False, "mixed": "1", "list": [1, {"a": None}]},
        {"occluded": False, "count": 2**60},
    ]
    data = one(*(Segment(i, 1, ring, attributes=a) for i, a in enumerate(said, 1)))
    root = written(data, tmp_path)
    kinds = {a.findtext("name"): a.findtext("input_type") for a in root.iter("attribute")}
    assert kinds["ok"] == "checkbox"
    assert kinds["note"] == kinds["mixed"] == "text"
    assert [p.get("occluded") for p in root.iter("polygon")] == ["1", "0", "0"]
    back = intake.read(tmp_path)[0].segments
    assert [repr(sorted(s.attributes.items())) for s in back] == [
        repr(sorted(a.items())) for a in said
    ]


def test_hostile_names_come_back_or_are_said(tmp_path):
    categories = (Category(1, ' "<&>\n '), Category(2, "bad\x02"), Category(3, ""))
    ring = ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0),)
    segments = tuple(Segment(i, i, ring) for i in (1, 2, 3))
    sample = Sample(1, "a & 'b' 手.jpg", 20, 30, segments)
    items = cvat.write(Dataset("\x00", categories, (sample,)), tmp_path)
    back = intake.read(tmp_path)
    assert [c.name for c in back.categories] == [' "<&>\n ', "bad\ufffd", ""]
    assert back[0].file_name == sample.file_name
    assert [i.reason for i in items] == [
        "a class has a name that XML cannot hold",
        "3 character(s) that XML cannot hold became U+FFFD",
    ]
    area = segments[0].mask(20, 30).area
    assert items[0].change.pixels == {"bad\x02": -area, "bad\ufffd": area}


def test_points_of_other_tools_go_to_cvat_and_what_it_has_no_word_for_is_said(tmp_path):
    aside = [
        {"kind": "linestrip", "label": "hand", "points": [[1, 2], [3, 4.5]]},
        {"kind": "circle", "label": "hand"},
        "nonsense",
    ]
    data = one(source={"not_segments": aside})
    items = cvat.write(data, tmp_path)
    (line,) = ElementTree.parse(tmp_path / "annotations.xml").getroot().iter("polyline")
    assert line.attrib == {"label": "hand", "points": "1,2;3,4.5"}
    assert [(i.reason, i.times) for i in items] == [("CVAT has no such shape as was set aside", 1)]
