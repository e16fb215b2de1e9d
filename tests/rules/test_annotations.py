"""Rules about ids, duplicates, areas and boxes of segments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from publisher.masks import ellipse
from publisher.rules.rule import MAX_ID
from publisher.validate import mend
from tests.rules.build import HAND, box, codes, dataset, only, sample, segment

FLAT = (1.0, 1.0, 5.0, 5.0, 9.0, 9.0)


def image(*segments):
    return dataset(sample(*segments))


def said_by_source(segmentation=HAND, **origin):
    return image(segment(segmentation, origin=origin))


EXAMPLES = {
    "A301": (
        dataset(sample(segment(id=7)), sample(segment(id=8), segment(id=7), file_name="b.jpg")),
        "b.jpg segment 1: error A301: segment id 7 is used before",
    ),
    "A302": (
        image(segment(id=0)),
        "a.jpg segment 0: error A302: id is 0, not between 1 and 2^53",
    ),
    "A304": (
        image(segment(category_id=26)),
        "a.jpg segment 0: error A304: category 26 does not exist",
    ),
    "A306": (
        image(segment(), segment()),
        "a.jpg segment 1: warning A306: the same hand as segment 0",
    ),
    "A307": (
        image(segment(box(0, 0, 30, 30)), segment(box(0, 0, 30, 31))),
        "a.jpg segment 1: warning A307: nearly the same hand as segment 0 (IoU 0.968)",
    ),
    "A309": (
        said_by_source(bbox=[10, 20, None, 8]),
        "a.jpg segment 0: error A309: bbox is [10, 20, None, 8]",
    ),
    "A310": (
        said_by_source(bbox=[10, 20, -5, 8]),
        "a.jpg segment 0: error A310: bbox [10.0, 20.0, -5.0, 8.0] has no width or no height",
    ),
    "A311": (
        said_by_source(bbox=[5, 5, 15, 15]),
        "a.jpg segment 0: error A311: bbox [5.0, 5.0, 15.0, 15.0] fits the mask if read as "
        "[x1, y1, x2, y2]",
    ),
    "A312": (
        said_by_source(box(50, 5, 10, 10), bbox=[50, 5, 18, 10]),
        "a.jpg segment 0: error A312: bbox [50.0, 5.0, 18.0, 10.0] leaves the image by 8.0 px",
    ),
    "A313": (
        said_by_source(bbox=[30, 30, 10, 10]),
        "a.jpg segment 0: warning A313: source says bbox [30.0, 30.0, 10.0, 10.0], "
        "mask has [5, 5, 10, 10]",
    ),
    "A314": (
        said_by_source(area=150),
        "a.jpg segment 0: warning A314: source says area 150, mask has 100 px",
    ),
    "A315": (
        said_by_source(ellipse(30, 20, 9.3, 7.2), bbox=[20.7, 12.8, 18.6, 14.4], area=267.84),
        "a.jpg segment 0: info A315: area 267.84 is that of the box, mask has 208 px",
    ),
    "A316": (image(segment(FLAT)), "a.jpg segment 0: error A316: mask has no pixels"),
    "A317": (
        image(segment(box(5, 5, 1, 2))),
        "a.jpg segment 0: warning A317: mask has only 2 px",
    ),
    "A318": (
        image(segment(box(0, 0, 60, 40))),
        "a.jpg segment 0: warning A318: hand covers 100.0%",
    ),
    "A319": (
        image(segment(iscrowd=True)),
        "a.jpg segment 0: info A319: crowd of hand is drawn as polygons",
    ),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, said = EXAMPLES[code]
    assert only(data, code) == [said]


def test_ids_that_are_no_ids_are_not_called_duplicates():
    assert not only(image(segment(id=0), segment(id=0), segment(id=MAX_ID + 1)), "A301")


def test_the_later_duplicate_goes():
    (mended, fixed), *_ = mend(image(segment(), segment(), segment()))
    assert [s.id for s in mended.segments] == [1]
    assert [(f.code, f.segment) for f in fixed] == [("A306", 1), ("A306", 2)]


def test_a_duplicate_that_says_something_else_stays():
    left, right = (segment(attributes={"side": side}) for side in ("left", "right"))
    (mended, fixed), *_ = mend(image(left, right))
    assert len(mended.segments) == 2
    assert fixed == []
    assert "A306" in codes(dataset(mended))


def test_two_categories_may_share_pixels():
    assert not {"A306", "A307"} & codes(image(segment(), segment(category_id=2)))


def test_an_empty_segment_goes():
    (mended, fixed), *_ = mend(EXAMPLES["A316"][0])
    assert mended.segments == ()
    assert [str(f) for f in fixed] == [EXAMPLES["A316"][1]]


@pytest.mark.parametrize("bbox", [None, "5 5 10 10", [5, 5, 10], [5, 5, "10", 10]])
def test_a_box_that_is_none(bbox):
    assert len(only(said_by_source(bbox=bbox), "A309")) == 1


@pytest.mark.parametrize(
    ("ring", "bbox"),
    [
        (HAND, [5, 5, 10, 10]),
        (HAND, [4.4, 5.2, 10.9, 9.7]),  # of the outline, not of the pixels
        (box(-15, 5, 30, 10), [-15, 5, 30, 10]),  # CVAT: not clipped
        (box(-15, 5, 30, 10), [0, 5, 15, 10]),
        ((5.0, 5.0, 15.0, 5.0, 15.0, 15.0, 30.0, 15.1, 5.0, 15.0), [5, 5, 25, 10.1]),  # a spike
    ],
)
def test_boxes_are_compared_as_tools_compute_them(ring, bbox):
    assert not only(said_by_source(ring, bbox=bbox), "A313")


@pytest.mark.parametrize("bbox", [[5, 5, 0, 10], [5, 5, 10, 0], [15, 15, -10, -10]])
def test_a_box_without_an_inside(bbox):
    assert len(only(said_by_source(bbox=bbox), "A310")) == 1
    assert not {"A309", "A311", "A312", "A313"} & codes(said_by_source(bbox=bbox))


def test_a_box_in_another_order_is_told_once():
    swapped = said_by_source(box(30, 10, 20, 5), bbox=[10, 30, 5, 20])
    assert only(swapped, "A311")[0].endswith("read as [y, x, height, width]")
    assert not {"A312", "A313"} & codes(swapped)


def test_a_box_round_an_outline_that_leaves_the_image_is_the_outlines_fault():
    data = said_by_source(box(-15, 5, 30, 10), bbox=[-15, 5, 30, 10])
    assert "P407" in codes(data)
    assert "A312" not in codes(data)


@pytest.mark.parametrize("bbox", [None, [1, 2, 3], [5, 5, -1, 3], [50, 30, 100, 10], [5, 7, 10, 9]])
def test_boxes_are_mended_from_the_pixels(bbox):
    (mended, fixed), *_ = mend(said_by_source(bbox=bbox))
    claim = mended.segments[0].origin["bbox"]
    assert (claim == [5, 5, 10, 10]) == bool(fixed)
    assert fixed or "A313" in codes(dataset(mended))


def test_a_box_that_is_slightly_off_is_mended():
    (mended, fixed), *_ = mend(said_by_source(box(5, 5, 30, 30), bbox=[7, 5, 28, 30]))
    assert mended.segments[0].origin["bbox"] == [5, 5, 30, 30]
    assert [f.code for f in fixed] == ["A313"]


def test_a_box_far_off_is_left_to_a_person():
    (mended, fixed), *_ = mend(said_by_source(bbox=[30, 25, 10, 10]))
    assert not fixed
    assert "A313" in codes(dataset(mended))


def test_areas_are_mended_from_the_pixels():
    for area in (150, 40000, -1e15, 1.43e20, 10**30, 10**400):
        (mended, fixed), *_ = mend(said_by_source(area=area))
        assert mended.segments[0].origin["area"] == 100
        assert [f.code for f in fixed] == ["A314"]


def test_an_empty_mask_with_an_empty_box_is_told_once():
    assert "A309" not in codes(said_by_source(FLAT, bbox=[1, 1, 8, 0]))


def test_a_box_that_cvat_has_turned_is_not_compared():
    turned = image(segment(HAND, origin={"bbox": [0, 0, 40, 4], "area": 160, "shape": "box"}))
    assert not {"A313", "A314"} & codes(turned)


def test_shoelace_areas_are_near_enough():
    ring = ellipse(30, 20, 9.3, 7.2)
    assert not only(said_by_source(ring, area=210.35), "A314")


def test_stuff_may_cover_the_whole_image():
    data = EXAMPLES["A318"][0]
    stuff = tuple(replace(c, isthing=False) for c in data.categories)
    assert not only(dataset(*data, categories=stuff), "A318")
