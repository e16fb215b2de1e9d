"""Masks equal pycocotools bit for bit, and hostile geometry never reaches it."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from publisher.errors import FormatError
from publisher.masks import (
    MAX_COORDINATE,
    Mask,
    Rle,
    boxes,
    canonical,
    check_polygons,
    compress,
    cut,
    decompress,
    ellipse,
    mask_from_crop,
    placed,
    rotate,
)
from tests import strategies

RUNS = st.lists(st.integers(0, 300) | st.sampled_from([0, 31, 32, 2**20]), min_size=1, max_size=60)
HAND = (5.0, 5.0, 15.0, 5.0, 15.0, 15.0, 5.0, 15.0)


@st.composite
def bitmaps(draw):
    return draw(strategies.bitmaps(*draw(strategies.SIZES)))


@st.composite
def polygons(draw):
    height, width = draw(strategies.SIZES)
    rings = draw(st.lists(strategies.rings(height, width), min_size=1, max_size=3))
    return tuple(rings), height, width


def outcome(make, *args):
    """A mask, or the code of the refusal."""
    try:
        return make(*args)
    except FormatError as error:
        return error.code


def refused(code):
    return pytest.raises(FormatError, check=lambda error: error.code == code)


# ── the codec ────────────────────────────────────────────────────────────────────────────────


@given(RUNS)
def test_compress_is_pycocotools_codec(runs):
    theirs = coco.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))
    assert compress(np.array(runs)) == theirs["counts"]


@given(RUNS)
def test_decompress_is_the_inverse(runs):
    assert decompress(compress(np.array(runs))).tolist() == runs


def test_the_codec_by_example():
    assert compress(np.array([3, 2, 7])) == b"327"
    assert decompress(b"327").tolist() == [3, 2, 7]
    assert compress(np.array([])) == b""
    assert decompress(b"").tolist() == []


@given(RUNS)
def test_canonical_is_what_encoding_the_pixels_gives(runs):
    if not sum(runs):
        return
    pixels = np.repeat(np.arange(len(runs)) & 1, runs).astype(np.uint8)
    assert compress(canonical(np.array(runs))) == Mask.from_array(pixels[:, None]).counts


@given(bitmaps())
def test_arrays_round_trip(pixels):
    mask = Mask.from_array(pixels)
    assert (mask.to_array() == pixels).all()
    assert mask.counts == coco.encode(np.asfortranarray(pixels, dtype=np.uint8))["counts"]
    assert Mask.from_runs(mask.runs, *pixels.shape) == mask
    assert Mask.from_rle(Rle(*pixels.shape, mask.counts.decode()), *pixels.shape) == mask
    assert Mask.from_rle(Rle(*pixels.shape, tuple(mask.runs.tolist())), *pixels.shape) == mask


@given(bitmaps())
def test_area_and_box_are_those_of_the_pixels(pixels):
    mask = Mask.from_array(pixels)
    rows, columns = np.nonzero(pixels)
    assert mask.area == len(rows)
    expected = (0, 0, 0, 0)
    if len(rows):
        x, y = int(columns.min()), int(rows.min())
        expected = (x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)
    assert mask.bbox == expected
    assert boxes([None, mask]).tolist() == [[0, 0, 0, 0], list(expected)]


@given(st.data())
def test_sets_of_pixels(data):
    height, width = data.draw(strategies.SIZES)
    a, b = (data.draw(strategies.bitmaps(height, width)) for _ in range(2))
    one, other = Mask.from_array(a), Mask.from_array(b)
    both, either = int((a & b).sum()), int((a | b).sum())
    assert one.intersection(other) == both
    assert Mask.union([one, other]) == Mask.from_array(a | b)
    assert one.iou(other) == pytest.approx(both / either if either else 1.0)


def test_any_value_but_zero_is_foreground():
    assert Mask.from_array(np.array([[0, 1, 255, -1, 0.5]])).area == 4


def test_masks_of_two_sizes_have_no_union():
    with pytest.raises(ValueError, match="different sizes"):
        Mask.union([Mask.from_array(np.ones((2, 3))), Mask.from_array(np.ones((3, 2)))])


def test_boxes_of_no_masks():
    assert boxes([]).shape == (0, 4)
    assert boxes([None]).tolist() == [[0, 0, 0, 0]]


def test_boxes_of_more_than_255_masks():
    mask = Mask.from_array(np.ones((2, 3)))
    assert boxes([mask] * 300).tolist() == [[0, 0, 3, 2]] * 300


# ── polygons ─────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=300)
@given(polygons())
def test_polygons_are_rasterised_by_cocos_rule(case):
    rings, height, width = case
    theirs = coco.merge(coco.frPyObjects([list(r) for r in rings], height, width))
    mask = Mask.from_polygons(rings, height, width)
    assert mask.to_rle() == {"size": theirs["size"], "counts": theirs["counts"].decode()}


@given(polygons())
def test_masks_of_polygons_are_canonical(case):
    mask = Mask.from_polygons(*case)
    assert mask == Mask.from_array(mask.to_array())


@pytest.mark.parametrize(
    ("rings", "code"),
    [
        ((), "P401"),
        (((),), "P404"),
        ((HAND[:-1],), "P403"),
        ((HAND, HAND[:4]), "P404"),
        ((HAND[:4],), "P404"),
        (((math.nan, *HAND[1:]),), "P406"),
        (((*HAND[:-1], math.inf),), "P406"),
        (((-math.inf, *HAND[1:]),), "P406"),
        (((1e8, *HAND[1:]),), "P406"),
        (((1e308, *HAND[1:]),), "P406"),
        (((math.nextafter(MAX_COORDINATE, math.inf), *HAND[1:]),), "P406"),
        (((0.0, 0.0, 1e5, 1e5) * 1000,), "P406"),  # 400 km of outline
    ],
)
def test_polygons_that_would_crash_or_hang_are_refused(rings, code):
    with refused(code):
        Mask.from_polygons(rings, 20, 20)


def test_the_ring_at_fault_is_named():
    with pytest.raises(FormatError, match=r"^\[1\]: ring has 2 points"):
        check_polygons((HAND, HAND[:4]))


def test_the_largest_outline_that_passes_takes_seconds_at_most():
    ring = (0.0, 0.0, 1e5, 1e5) * 24
    start = time.process_time()
    Mask.from_polygons((ring,), 480, 640)
    assert time.process_time() - start < 10


# ── RLE from outside ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rle", "code"),
    [
        (Rle(5, 4, (20,)), "R503"),
        (Rle(4, 5, (3, 4)), "R504"),
        (Rle(4, 5, (3, 18)), "R504"),
        (Rle(4, 5, ()), "R504"),
        (Rle(4, 5, ""), "R504"),
        (Rle(4, 5, (5, -3, 18)), "R505"),
        (Rle(4, 5, (10**30,)), "R505"),
        (Rle(4, 5, compress(np.array([5, 3, -3, 15])).decode()), "R505"),
        (Rle(4, 5, "b'd0'"), "R506"),
        (Rle(4, 5, "手"), "R506"),
        (Rle(4, 5, "\ud800"), "R506"),
        (Rle(4, 5, "P"), "R506"),  # cut short
        (Rle(4, 5, "oooooooo0"), "R506"),  # eight groups: 40 bits
    ],
)
def test_runs_that_are_no_mask_are_refused(rle, code):
    with refused(code):
        Mask.from_rle(rle, 4, 5)


@pytest.mark.parametrize(
    ("size", "code"),
    [((0, 5), "I108"), ((4, -5), "I108"), ((20_000, 20_000), "I119"), ((10**30, 1), "I119")],
)
def test_sizes_that_are_no_image_are_refused(size, code):
    for make in (
        lambda: Mask.from_rle(Rle(*size, (0,)), *size),
        lambda: Mask.from_polygons((HAND,), *size),
        lambda: mask_from_crop([0, 1], 0, 0, 1, 1, size),
    ):
        with refused(code):
            make()


@settings(max_examples=300)
@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=40))
def test_any_counts_are_a_mask_or_refused(counts):
    mask = outcome(Mask.from_rle, Rle(4, 5, counts), 4, 5)
    if isinstance(mask, Mask):
        assert (mask.to_array().ravel("F") == np.repeat(*runs_of(counts))).all()
    else:
        assert mask in ("R504", "R505", "R506")


def runs_of(counts):
    runs = decompress(counts.encode())
    return np.arange(len(runs)) & 1 == 1, runs


@settings(max_examples=300)
@given(strategies.HOSTILE_RINGS)
def test_any_rings_are_a_mask_or_refused(rings):
    mask = outcome(Mask.from_polygons, rings, 30, 40)
    if isinstance(mask, Mask):
        assert 0 <= mask.area <= 1200
    else:
        assert mask in ("P401", "P403", "P404", "P406")


@settings(max_examples=300)
@given(st.builds(Rle, strategies.INTS, strategies.INTS, strategies.COUNTS))
def test_any_rle_is_a_mask_or_refused(rle):
    for size in ((4, 5), (rle.height, rle.width)):
        mask = outcome(Mask.from_rle, rle, *size)
        if isinstance(mask, Mask):
            assert int(mask.runs.sum()) == size[0] * size[1]
        else:
            assert mask[:2] in ("R5", "I1")


# ── CVAT's crops ─────────────────────────────────────────────────────────────────────────────


@st.composite
def crops(draw):
    """Runs of a box that may hang over the image, which it meets."""
    height, width = draw(strategies.SIZES)
    box = draw(bitmaps())
    h, w = box.shape
    left = draw(st.integers(1 - w, width - 1))
    top = draw(st.integers(1 - h, height - 1))
    return box, left, top, (height, width)


def row_major_runs(box):
    flat = np.concatenate([[False], box.ravel()])
    edges = np.flatnonzero(np.diff(flat)).tolist()
    return np.diff([0, *edges, box.size]).tolist()


@given(crops())
def test_a_crop_lands_where_its_box_says(case):
    box, left, top, image = case
    expected = np.zeros(image, dtype=bool)
    for y, x in np.argwhere(box):
        if 0 <= top + y < image[0] and 0 <= left + x < image[1]:
            expected[top + y, left + x] = True
    mask = mask_from_crop(row_major_runs(box), left, top, box.shape[1], box.shape[0], image)
    assert (mask.to_array() == expected).all()


@given(bitmaps(), st.data())
def test_a_box_is_cut_out_of_a_mask_as_out_of_its_pixels(pixels, data):
    (top, bottom), (left, right) = (
        sorted(data.draw(st.integers(0, side)) for _ in range(2)) for side in pixels.shape
    )
    part = cut(Mask.from_array(pixels), left, top, right - left, bottom - top)
    assert np.array_equal(part, pixels[top:bottom, left:right])


@pytest.mark.parametrize(("left", "top"), [(-3, 0), (5, 0), (0, -2), (0, 3), (10**9, -(10**9))])
def test_a_crop_beside_the_image_leaves_it_empty(left, top):
    assert placed(np.ones((2, 3)), left, top, (3, 5)).area == 0


def test_a_crop_by_example():
    mask = mask_from_crop([1, 2, 1, 2], left=1, top=0, width=3, height=2, image=(3, 5))
    assert mask.to_array().astype(int).tolist() == [
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("crop", "code"),
    [
        (([3, 4], 0, 0, 4, 5), "K821"),
        (([], 0, 0, 4, 5), "K821"),
        (([25, -5], 0, 0, 4, 5), "K821"),
        (([10**30], 0, 0, 4, 5), "K821"),
        (([0], 0, 0, 0, 5), "K822"),
        (([20], 0, 0, -4, -5), "K822"),
        (([20], 0, 0, 10**9, 10**9), "K822"),
        (([20], 10, 0, 4, 5), "K822"),
        (([20], -4, 0, 4, 5), "K822"),
        (([20], 0, 10**30, 4, 5), "K822"),
    ],
)
def test_crops_that_are_none_are_refused(crop, code):
    with refused(code):
        mask_from_crop(*crop, (10, 10))


# ── ellipses and turns ───────────────────────────────────────────────────────────────────────


@given(*(st.floats(5, 60),) * 2, st.floats(-360, 360))
def test_an_ellipse_has_its_area_and_its_middle(rx, ry, degrees):
    mask = Mask.from_polygons((ellipse(70.5, 70.5, rx, ry, degrees),), 141, 141)
    outline = 2 * math.pi * max(rx, ry)
    assert mask.area == pytest.approx(math.pi * rx * ry, abs=0.3 * outline)
    rows, columns = np.nonzero(mask.to_array())
    assert rows.mean() + 0.5 == pytest.approx(70.5, abs=0.5)
    assert columns.mean() + 0.5 == pytest.approx(70.5, abs=0.5)


def test_turning_is_clockwise_on_screen():
    assert rotate((10.0, 0.0), 0, 0, 90) == (0.0, 10.0)  # right becomes down
    assert rotate((12.0, 5.0), 10, 5, -90) == (10.0, 3.0)


@given(strategies.rings(40, 40), st.floats(-720, 720))
def test_turning_back_gives_the_ring_again(ring, degrees):
    back = rotate(rotate(ring, 20, 20, degrees), 20, 20, -degrees)
    assert back == pytest.approx(ring, abs=0.03)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
@pytest.mark.parametrize("place", range(5))
def test_an_ellipse_that_is_not_finite_is_refused_as_a_polygon(value, place):
    numbers = [10.0, 10.0, 5.0, 5.0, 30.0]
    numbers[place] = value
    ring = ellipse(*numbers)
    if place == 4 and math.isfinite(value):
        return
    with refused("P406"):
        check_polygons((ring,))
