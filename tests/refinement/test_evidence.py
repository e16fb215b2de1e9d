"""Whether what changes sides looks like where it goes."""

from __future__ import annotations

import numpy as np
import pytest

from publisher.refinement.evidence import strangeness

COLUMNS = np.broadcast_to(np.arange(60), (40, 60))
MOVED, THERE = (COLUMNS >= 10) & (COLUMNS < 20), COLUMNS >= 20


def picture(moved: int, there: int, spread: float) -> np.ndarray:
    """Grey noise, of one mean where pixels change sides and of another where they go."""
    noise = np.random.default_rng(0).normal(0, spread, (40, 60, 3))
    return np.clip(np.where(COLUMNS < 20, moved, there)[..., None] + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spread", [0, 5, 20])
def test_the_same_is_not_strange(spread):
    assert strangeness(picture(100, 100, spread), MOVED, THERE) < 0.2


def test_how_strange_depends_on_how_much_pixels_differ_anyway():
    found = [strangeness(picture(100, 130, spread), MOVED, THERE) for spread in (0, 5, 20, 60)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 5
    assert found[-1] < 1


@pytest.mark.parametrize(
    ("moved", "there"),
    [(MOVED & False, THERE), (MOVED, THERE & False), (MOVED & (np.arange(40) < 1)[:, None], THERE)],
    ids=["nothing moves", "nothing is there", "ten pixels"],
)
def test_too_little_to_tell_is_as_strange_as_can_be(moved, there):
    assert strangeness(picture(100, 100, 3), moved, there) == np.inf
