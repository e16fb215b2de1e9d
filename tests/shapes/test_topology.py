"""What new masks keep of the old: their parts and their holes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from publisher.shapes.components import holes, numbered
from publisher.shapes.topology import added, without

Bools = NDArray[np.bool_]
THREE: Any = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: st.tuples(*[arrays(np.bool_, shape)] * 3)
)


def drawn(*rows: str) -> Bools:
    return np.array([[c in "#x" for c in row] for row in rows])


@settings(max_examples=300)
@given(THREE)
def test_no_part_and_no_hole_comes_or_goes(three: tuple[Bools, Bools, Bools]) -> None:
    mask, lost, gained = three
    everywhere = np.ones_like(mask)
    left = without(mask, mask & lost, everywhere)
    grown = added(left, gained & ~mask, mask)
    assert not (left & ~mask).any()
    assert not (left & ~grown).any()
    assert not (grown & ~left & ~gained).any()
    parts, count = numbered(mask)
    old, number = holes(mask)
    for new in (left, grown):
        assert numbered(new)[1] <= count
        assert holes(new)[1] <= number
        assert len(np.unique(parts[new & mask])) == count
        assert len(np.unique(old[(old > 0) & ~new])) == number


@given(THREE)
def test_what_is_not_open_stays(three: tuple[Bools, Bools, Bools]) -> None:
    mask, lost, open_ = three
    left = without(mask, mask & lost & open_, open_)
    assert (left == mask)[~open_].all()


def test_a_neck_that_would_be_cut_is_given_back() -> None:
    mask = drawn(
        "####...####",
        "###########",
        "####...####",
    )
    neck = np.zeros_like(mask)
    neck[1, 4:7] = True
    corner = np.zeros_like(mask)
    corner[0, 0] = True
    left = without(mask, neck | corner, np.ones_like(mask))
    assert (left == (mask & ~corner)).all()


def test_an_island_is_dropped_and_what_hangs_on_stays() -> None:
    mask = drawn("##.....", "##.....")
    gained = drawn("..#..##", "..#..##")
    assert (added(mask, gained, mask) == drawn("###....", "###....")).all()
