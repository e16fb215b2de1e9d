"""How coarse an outline is, and who says that it must stay."""

from __future__ import annotations

import numpy as np
import pytest

from publisher.dataset import Segment
from publisher.masks import Mask, Polygons
from publisher.refinement.eligibility import (
    coarseness,
    doubt,
    filled,
    is_box,
    is_verified,
    why_not,
)

SQUARE = (0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0)


def test_coarseness_is_the_harmonic_mean_edge_as_a_share_of_the_size() -> None:
    assert coarseness((SQUARE,), 10) == 1
    halves = (0.0, 0.0, 5.0, 0.0, 10.0, 0.0, 10.0, 5.0, 10.0, 10.0, 5.0, 10.0, 0.0, 10.0, 0.0, 5.0)
    assert coarseness((halves,), 10) == 0.5


def test_repeated_vertices_and_ways_to_holes_do_not_count() -> None:
    closed = (*SQUARE, 0.0, 0.0)
    assert coarseness((closed,), 10) == 1
    there_and_back = (0.0, 0.0, 3.0, 3.0, 0.0, 0.0, *SQUARE[2:])
    assert coarseness((there_and_back,), 10) == 1


@pytest.mark.parametrize(("side", "why"), [(100, None), (60, "fine already")])
def test_small_things_must_be_drawn_more_coarsely_to_be_in_doubt(
    side: int, why: str | None
) -> None:
    """An eighth of its edge may be ten pixels of one thing and not one of another."""
    y = np.array([0.0, 0, 1, 1, 2, 2, 3, 3, 2.5, 1.5]) / 3 * side
    x = np.array([0.0, 1.5, 1, 2, 2, 3, 2.5, 1, 0.5, 0]) / 3 * side
    ring = tuple(np.stack([x, y], axis=1).ravel().tolist())
    mask = Mask.from_polygons((ring,), side + 1, side + 1)
    segment = Segment(1, 1, (ring,))
    size = mask.area**0.5
    found = doubt(coarseness((ring,), size)) * size
    between = found * 80 / side  # what may be off grows with the thing
    assert why_not(segment, mask, least=10, finest=0.1, doubtful=between) == why


def test_a_box_with_careful_corners_is_finer_than_its_long_sides_say() -> None:
    careful = (1, 0, 9, 0, 9.7, 0.3, 10, 1, 10, 9, 9.7, 9.7, 9, 10, 1, 10, 0.3, 9.7, 0, 9, 0, 1)
    careful += (0.3, 0.3)
    assert coarseness((tuple(map(float, careful)),), 10) < 0.12


@pytest.mark.parametrize("angle", [0, 20, 45, 77])
def test_a_turned_box_fills_its_rectangle_and_a_disc_three_quarters(angle: int) -> None:
    turn = np.radians(angle)
    rows = np.array([[0, 0], [40, 0], [40, 10], [0, 10]]) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    assert filled((tuple(rows.ravel().tolist()),), 400) > 0.9
    around = np.radians(np.arange(0, 360, 5))
    disc = np.stack([np.cos(around), np.sin(around)], axis=1).ravel() * 10
    assert filled((tuple(disc.tolist()),), 100 * np.pi) == pytest.approx(np.pi / 4, abs=0.01)


def test_all_rings_count() -> None:
    small = tuple(np.array(SQUARE) / 10)
    assert coarseness((SQUARE, small), 10) == pytest.approx(2 / 11)


def test_the_coarser_an_outline_the_more_it_is_doubted_within_limits() -> None:
    doubts = [doubt(e) for e in (0.0, 0.03, 0.2, 0.5, 0.75, 9.0)]
    assert doubts == sorted(doubts)
    assert doubts[0] == doubts[1] > 0
    assert doubts[-1] == doubts[-2] < 0.12  # of the size: the band in which pixels may change


@pytest.mark.parametrize(
    ("rings", "expected"),
    [
        ((SQUARE,), True),
        (((*SQUARE, 0.0, 0.0),), True),
        (((0.0, 1.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0),), False),
        ((SQUARE, SQUARE), False),
        (((0.0, 0.0, 10.0, 0.0, 10.0, 5.0, 5.0, 5.0, 5.0, 10.0, 0.0, 10.0),), False),
    ],
)
def test_an_upright_rectangle_is_a_box(rings: Polygons, expected: bool) -> None:
    assert is_box(rings) is expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"verified": True}, True),
        ({"Reviewed": "yes"}, True),
        ({"locked": 1}, True),
        ({"verified": False}, False),
        ({"locked": "no", "colour": "true"}, False),
    ],
)
def test_who_verified_a_mask_keeps_it(attributes: dict[str, object], expected: bool) -> None:
    assert is_verified(Segment(1, 1, (SQUARE,), attributes=attributes)) is expected
