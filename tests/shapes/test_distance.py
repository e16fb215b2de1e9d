"""Distances between pixels are exact, and "farthest inside" has one answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from publisher.shapes import distance

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def by_hand(mask):
    """Every pixel against every False one."""
    outside = np.argwhere(~mask)
    squares = ((np.argwhere(np.ones_like(mask))[:, None] - outside) ** 2).sum(axis=2)
    return squares.min(axis=1).reshape(mask.shape)


@given(MASKS)
def test_distances_equal_those_of_every_pair_of_pixels(mask):
    if mask.all():
        assert (distance.squared(mask) >= distance.FAR).all()
    else:
        assert (distance.squared(mask) == by_hand(mask)).all()


@given(MASKS, st.integers(1, 5))
def test_a_limit_changes_nothing_below_it(mask, limit):
    exact, limited = distance.squared(mask), distance.squared(mask, limit)
    near = exact <= limit * limit
    assert (limited[near] == exact[near]).all()
    assert (limited[~near] > limit * limit).all()
    assert (distance.signed(mask, limit) == np.clip(distance.signed(mask), -limit, limit)).all()


def test_a_pixel_beside_the_border_is_one_deep_and_its_neighbour_minus_one():
    mask = np.zeros((5, 7), dtype=bool)
    mask[1:4, 2:5] = True
    deep = distance.signed(mask)
    assert deep[2].tolist() == [-2, -1, 1, 2, 1, -1, -2]
    assert deep[0, 1] == pytest.approx(-np.sqrt(2))


def test_an_image_without_border_is_far_from_it():
    assert distance.signed(np.ones((3, 3), dtype=bool), 8).tolist() == [[8.0] * 3] * 3


def test_sides_that_integers_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="32767"):
        distance.squared(np.ones((1, 2**15), dtype=bool))
