"""How sure a network must be, learnt from verified masks."""

from __future__ import annotations

import pytest

from publisher.calibration import calibrated
from publisher.errors import UsageError
from publisher.refine import Rules


def test_the_threshold_is_the_lowest_that_keeps_harm_rare() -> None:
    sure = [(0.5 + k / 1000, False) for k in range(400)]
    unsure = [(0.1 + k / 1000, k % 2 == 0) for k in range(100)]
    rules = calibrated(Rules(), sure + unsure, of=500)
    # no harm down to .5; below, one harmed of 500 still fits 1 % (upper bound .94 %), two do not
    assert rules.confidence == pytest.approx(0.197)


def test_few_objects_show_nothing_and_how_many_would_is_said() -> None:
    with pytest.raises(UsageError, match="298 verified objects") as caught:
        calibrated(Rules(), [(0.9, False)] * 298, of=298)
    assert "299" in str(caught.value.hint)
    assert calibrated(Rules(), [(0.9, False)] * 299, of=299).confidence == 0.9


def test_a_network_that_is_surest_where_it_harms_is_not_believed() -> None:
    with pytest.raises(UsageError, match="do harm here"):
        calibrated(Rules(), [(0.9, True)] * 50 + [(0.5, False)] * 450, of=500)
