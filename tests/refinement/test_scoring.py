"""How good masks are: known values, and the same in a crop as in the whole picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from publisher.refinement.scoring import Risk, boundary_iou, eroded, harmed, interval, iou, risks

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=14))


def box(top, left, bottom, right, shape=(40, 50)):
    pixels = np.zeros(shape, dtype=bool)
    pixels[top:bottom, left:right] = True
    return pixels


def by_steps(mask, steps):
    """3x3 erosions, one after another, beyond the edge nothing."""
    for _ in range(steps):
        around = np.pad(mask, 1)
        windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3))
        mask = windows.all(axis=(2, 3))
    return mask


@given(masks, st.integers(1, 8))
def test_one_erosion_by_many_pixels_is_many_erosions_by_one(mask, steps):
    assert np.array_equal(eroded(mask, steps), by_steps(mask, steps))


def test_iou_counts_pixels():
    assert iou(box(0, 0, 10, 10), box(0, 5, 10, 15)) == pytest.approx(1 / 3)
    assert iou(box(0, 0, 0, 0), box(0, 0, 0, 0)) == 1.0
    assert iou(box(0, 0, 5, 5), box(0, 0, 0, 0)) == 0.0


def test_boundary_iou_looks_at_borders_only():
    one, other = box(5, 5, 25, 25), box(5, 5, 25, 26)
    # 1 pixel deep: rings of 76 and 78 pixels, that share all but a column of 18 and one of 20
    assert boundary_iou(one, other, 50) == pytest.approx(58 / (76 + 78 - 58))
    assert boundary_iou(one, other, 50) < iou(one, other)
    assert boundary_iou(one, one, 50) == 1.0


def test_deep_borders_swallow_small_objects():
    one, other = box(5, 5, 11, 11), box(6, 5, 11, 11)
    assert boundary_iou(one, other, 1000) == iou(one, other)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 300))
def test_a_part_that_holds_both_masks_gives_the_same(dy, dx, diagonal):
    one, other = box(0, 3, 20, 30), box(dy, 3 + dx, 20 + dy, 30)
    part = slice(0, 20 + dy), slice(3, 30)
    assert boundary_iou(one[part], other[part], diagonal) == boundary_iou(one, other, diagonal)


def test_harm_is_a_fall_by_more_than_half_a_percent():
    assert harmed(0.9, 0.894)
    assert not harmed(0.9, 0.896)
    assert not harmed(0.9, 0.95)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 201, 0.0, 0.018185),  # 1 - .025 ** (1 / 201)
        (1, 201, 0.000126, 0.027406),
        (0, 80, 0.0, 0.045064),
        (5, 10, 0.187086, 0.812914),
        (10, 10, 0.691503, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_known_intervals(count, of, low, high):
    assert interval(count, of) == pytest.approx((low, high), abs=2e-6)


@given(st.integers(1, 400), st.data())
def test_an_interval_holds_what_was_seen_and_mirrors(of, data):
    count = data.draw(st.integers(0, of))
    low, high = interval(count, of)
    assert 0 <= low <= count / of <= high <= 1
    assert interval(of - count, of) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("count", "of"), [(-1, 3), (4, 3)])
def test_more_than_all_is_refused(count, of):
    with pytest.raises(ValueError):
        interval(count, of)


def test_the_curve_goes_from_the_surest_down_and_takes_equals_together():
    scored = [(0.5, True), (0.9, False), (0.5, False), (0.2, True)]
    assert risks(scored, 10) == (
        Risk(0.9, 0.1, 0.0),
        Risk(0.5, 0.3, 0.1),
        Risk(0.2, 0.4, 0.2),
    )
    assert risks([], 10) == ()
