"""Regions and holes, against the outlines' own count of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from publisher.masks import Mask
from publisher.shapes import outlines
from publisher.shapes.components import holes, numbered

MASKS: Any = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


@given(MASKS)
def test_regions_and_holes_are_those_of_the_outlines(mask: NDArray[np.bool_]) -> None:
    regions = outlines.trace(Mask.from_array(mask))
    labels, count = numbered(mask)
    assert count == len(regions)
    assert ((labels > 0) == mask).all()
    assert len(np.unique(labels[mask])) == count
    inside, number = holes(mask)
    assert number == sum(len(region.holes) for region in regions)
    assert len(np.unique(inside[inside > 0])) == number
    assert not inside[mask].any()


@given(MASKS)
def test_neighbours_by_their_sides_have_one_number(mask: NDArray[np.bool_]) -> None:
    labels, _ = numbered(mask)
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        both = (one > 0) & (other > 0)
        assert (one[both] == other[both]).all()


def test_pixels_that_touch_at_a_corner_are_apart_unless_corners_count() -> None:
    mask = np.eye(3, dtype=bool)
    assert numbered(mask)[1] == 3
    assert numbered(mask, corners=True)[1] == 1
    assert numbered(mask[:, ::-1], corners=True)[1] == 1


def test_numbers_go_row_by_row() -> None:
    mask = np.array([[0, 1, 0, 1], [1, 0, 0, 1]], dtype=bool)
    assert numbered(mask)[0].tolist() == [[0, 1, 0, 2], [3, 0, 0, 2]]
