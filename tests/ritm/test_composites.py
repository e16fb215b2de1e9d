"""Training pictures that nobody annotated: always the same, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from publisher.ritm.composites import SIDE, composite, cut_out, largest_part, shape
from publisher.shapes.distance import signed

from .build import picture

PHOTOS = [picture(90, 120, seed) for seed in range(3)]


def made(seed):
    return composite(PHOTOS, np.random.default_rng(seed))


def test_the_same_seed_makes_the_same_picture():
    one, other, third = made(3), made(3), made(4)
    assert (one.image == other.image).all()
    assert (one.mask == other.mask).all()
    assert (one.image != third.image).any()


def test_a_composite_holds_one_object_inside():
    for seed in range(6):
        example = made(seed)
        assert example.image.shape == (SIDE, SIDE, 3)
        assert example.image.dtype == np.uint8
        assert 1500 < example.mask.sum() < 17000
        assert not example.mask[[0, -1]].any()
        assert (largest_part(example.mask) == example.mask).all()


def test_pale_ones_look_more_like_their_ground_than_like_what_is_in_them():
    def share(pale):
        alike = 0
        for seed in range(30):
            made = composite(PHOTOS, np.random.default_rng([5, seed]), (), pale)
            depth = signed(made.mask)
            zones = (
                (depth < -1) & (depth > -8),
                (depth > 1) & (depth < 5),
                depth > depth.max() * 0.7,
            )
            ground, rim, kernel = (made.image[zone].mean(axis=0) for zone in zones)
            alike += np.linalg.norm(ground - rim) < np.linalg.norm(rim - kernel)
        return alike / 30

    assert share(pale=1) > share(pale=0) + 0.15


def test_shapes_differ():
    rng = np.random.default_rng(0)
    assert len({shape(rng).sum() for _ in range(5)}) == 5


def test_half_of_the_shapes_are_those_of_real_objects_where_some_are_given():
    square = np.zeros((SIDE, SIDE), dtype=bool)
    square[60:130, 70:121] = True
    turned = [np.rot90(square, k) for k in range(4)]
    seen = [shape(np.random.default_rng(seed), [square]) for seed in range(40)]
    as_it_is = sum(any((mask == t).all() for t in turned) for mask in seen)
    assert 3 <= as_it_is <= 20  # half of them, and half of those stay without roughness


def test_of_two_parts_the_larger_stays():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[10:20, 10:20] = mask[50:53, 50:53] = True
    assert largest_part(mask).sum() == 100
    assert not largest_part(np.zeros_like(mask)).any()


@pytest.mark.parametrize("size", [60, 90])
def test_an_object_is_cut_out_at_the_size_asked_for(size):
    mask = np.zeros((120, 160), bool)
    mask[40:70, 50:90] = True
    image = np.where(mask[..., None], 200, 30).astype(np.uint8).repeat(3, axis=2)
    example = cut_out(image, mask, size)
    assert example.mask.sum() ** 0.5 == pytest.approx(size, rel=0.03)
    assert (example.image[example.mask] > 110).mean() > 0.97
    assert (example.image[~example.mask] < 120).mean() > 0.97


def test_beyond_the_picture_it_is_seen_in_a_mirror():
    mask = np.zeros((30, 30), bool)
    mask[:20, :20] = True
    example = cut_out(picture(30, 30), mask, 60)
    assert example.mask.sum() > 60**2
