"""Many masks at once: the same runs, areas and boxes as one at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from publisher.masks import Mask
from publisher.runs import boxes_of, runs_of
from tests import strategies


@given(st.lists(strategies.SIZES.flatmap(lambda size: strategies.masks(*size)), max_size=5))
def test_runs_areas_and_boxes_are_those_of_each_mask(masks):
    runs = runs_of(masks)
    assert runs.areas.tolist() == [m.area for m in masks]
    heights = np.array([m.height for m in masks], dtype=np.int64)
    assert boxes_of(runs, heights).tolist() == [list(m.bbox) for m in masks]
    for number, mask in enumerate(masks):
        mine = runs.owner == number
        pixels = np.zeros(mask.height * mask.width, bool)
        for start, stop in zip(runs.start[mine], runs.stop[mine], strict=True):
            pixels[start:stop] = True
        assert (mask.to_array() == pixels.reshape(mask.width, mask.height).T).all()


def test_a_ring_around_a_pixel_has_two_runs():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    runs = runs_of([Mask.from_array(ring)])
    assert list(zip(runs.start.tolist(), runs.stop.tolist(), strict=True)) == [(0, 4), (5, 9)]
