"""Polygons as people draw them: coarse, astray, too large; and the same ones every time."""

from __future__ import annotations

import numpy as np
import pytest

from publisher.masks import Mask
from publisher.refinement.perturb import LEVELS, Hand, area_of, draw, grown, simplified


@pytest.fixture(scope="module")
def disk():
    y, x = np.mgrid[:200, :240]
    return Mask.from_array((y - 100) ** 2 + (x - 120) ** 2 < 60**2)


def redrawn(disk, hand, seed=0):
    polygons = draw(disk, hand, np.random.default_rng(seed))
    return Mask.from_polygons(polygons, disk.height, disk.width)


def test_each_level_is_worse_than_the_one_before(disk):
    means = [
        np.mean([disk.iou(redrawn(disk, LEVELS[level], seed)) for seed in range(20)])
        for level in ("fine", "mild", "medium", "coarse")
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.97
    assert means[-1] < 0.92


def test_coarser_hands_click_less_often(disk):
    corners = [len(draw(disk, LEVELS[level], np.random.default_rng(0))[0]) for level in LEVELS]
    assert corners[0] > corners[1] > corners[3]


def test_the_same_seed_draws_the_same_polygons(disk):
    one, same, other = (
        draw(disk, LEVELS["mild"], np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.parametrize("growth", [0.1, -0.1])
def test_a_biased_hand_draws_too_large_or_too_small(disk, growth):
    area = redrawn(disk, Hand(0.01, 0.0, growth=growth)).area
    assert area > 1.15 * disk.area if growth > 0 else area < 0.85 * disk.area


def test_a_shifted_outline_keeps_its_size(disk):
    shifted = redrawn(disk, Hand(0.01, 0.0, shift=0.2))
    assert shifted.area == pytest.approx(disk.area, rel=0.02)
    assert disk.iou(shifted) < 0.85


def test_every_part_is_drawn_and_crumbs_are_not():
    pixels = np.zeros((60, 90), dtype=bool)
    pixels[5:25, 5:25] = pixels[30:55, 40:80] = True
    pixels[2:4, 70:73] = True
    assert len(draw(Mask.from_array(pixels), LEVELS["mild"], np.random.default_rng(0))) == 2


def test_an_empty_mask_draws_nothing():
    assert draw(Mask.from_array(np.zeros((4, 4))), LEVELS["fine"], np.random.default_rng(0)) == ()


def test_a_square_needs_four_vertices_and_grows_on_all_sides():
    steps = np.arange(10.0)
    square = np.concatenate(
        [
            np.stack([steps, 0 * steps], 1),
            np.stack([0 * steps + 10, steps], 1),
            np.stack([10 - steps, 0 * steps + 10], 1),
            np.stack([0 * steps, 10 - steps], 1),
        ]
    )
    corners = simplified(square, 0.5)
    assert sorted(map(tuple, corners)) == [(0, 0), (0, 10), (10, 0), (10, 10)]
    assert area_of(grown(corners, np.sqrt(2))) == pytest.approx(144)


@pytest.mark.parametrize("tolerance", [0.3, 1.0, 4.0])
def test_no_outline_strays_farther_than_the_tolerance(tolerance):
    turn = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    ring = np.stack([50 + 30 * np.cos(turn) + 5 * np.cos(7 * turn), 40 + 20 * np.sin(turn)], 1)
    corners = simplified(ring, tolerance)
    ends = np.roll(corners, -1, axis=0) - corners
    lengths = (ends**2).sum(axis=1)
    along = np.clip(((ring[:, None] - corners) * ends).sum(axis=2) / lengths, 0, 1)
    feet = corners + along[..., None] * ends
    strays = np.linalg.norm(ring[:, None] - feet, axis=2).min(axis=1)
    assert strays.max() <= tolerance + 1e-9
