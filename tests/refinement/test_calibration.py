"""Calibration: as sure as one's own verified masks show to be needed, and never less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.refinement.calibration import MOST_HARM, calibrated
from publisher.refinement.scoring import interval


def test_where_nothing_is_harmed_the_rules_stay_as_they_are():
    found = calibrated({"mild": [(0.6, False)] * 500}, 500, 0.52)
    assert found.confidence == 0.52
    assert found.vouched


def test_one_object_less_than_368_is_too_little_to_vouch_for_anything():
    assert calibrated({"mild": []}, 368, 0.5).vouched
    assert not calibrated({"mild": []}, 367, 0.5).vouched


def test_confidence_rises_above_what_did_harm():
    scored = [(0.55, True), (0.6, True), (0.7, False)]
    found = calibrated({"mild": scored, "coarse": [(0.65, True)]}, 400, 0.52)
    assert 0.65 < found.confidence < 0.66
    assert found.vouched


def test_with_many_objects_a_little_harm_is_within_the_limit():
    found = calibrated({"mild": [(0.9, True), *[(0.6, True)] * 60]}, 2000, 0.5)
    assert 0.6 < found.confidence < 0.61
    assert found.vouched


def test_the_worst_level_counts():
    levels = {"fine": [(0.8, True)], "coarse": [(0.5, False)] * 50}
    assert calibrated(levels, 400, 0.5).confidence > 0.8


SCORED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=30)


@given(SCORED, SCORED, st.integers(100, 2000), st.floats(0, 1))
def test_what_is_said_of_harm_is_true(one, two, objects, least):
    found = calibrated({"a": one, "b": two}, objects, least)
    assert found.confidence >= least
    worst = max(
        sum(harm and score >= found.confidence for score, harm in level) for level in (one, two)
    )
    assert found.harm == pytest.approx(interval(worst, objects)[1])
    assert found.vouched == (found.harm <= MOST_HARM)
    if not found.vouched:
        assert worst == 0
