"""Many masks at once: the same runs, areas and boxes as one at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from publisher.masks import Mask, characters, compress, packed_numbers
from publisher.shapes.runs import (
    boxes_of,
    counts_of,
    masks_of_ids,
    runs_of,
    runs_of_counts,
    runs_of_ids,
    segments_of,
)
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


def test_counts_that_add_up_only_modulo_2_to_the_32_are_refused():
    for longest in (2**29 - 1, 2**30, 2**17):
        many = 2**32 // longest
        rest = 2**32 - many * longest
        counts = compress(np.array([longest] * many + [rest + 100]))
        assert runs_of_counts([counts], np.array([100])) is None


def test_numbers_of_up_to_seven_characters_are_read_anywhere_in_a_row():
    runs = [3, 1, 2**9, 15, 2**14, 2**4, 2**24, 7, 2**26 + 1, 1, 2**19, 511]
    mask = Mask.from_runs(np.array(runs), 1, sum(runs))
    edges = np.cumsum(runs)
    for masks in ([mask], [mask] * 40):  # together far more pixels than 2^31
        begin = np.arange(len(masks)) * sum(runs)
        pixels = np.full(len(masks), sum(runs))
        found = runs_of_counts([m.counts for m in masks], pixels, begin)
        assert found is not None
        assert found.start.tolist() == [b + e for b in begin.tolist() for e in edges[0::2].tolist()]
        assert found.stop.tolist() == [b + e for b in begin.tolist() for e in edges[1::2].tolist()]


@given(st.lists(strategies.SIZES.flatmap(lambda size: strategies.masks(*size)), max_size=5))
def test_counts_of_runs_are_those_of_each_mask(masks):
    sizes = np.array([m.height * m.width for m in masks], dtype=np.int64)
    assert counts_of(runs_of(masks), sizes) == [m.counts for m in masks]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_numbers_are_spelled_as_cocos_c_code_spells_them(numbers):
    assert spelled(numbers) == b"".join(_spelled(n) for n in numbers)


def spelled(numbers: Iterable[int]) -> bytes:
    return characters(packed_numbers(np.array(numbers, dtype=np.int64)))


def _spelled(x: int) -> bytes:
    """maskApi.c, rleToString."""
    out, more = bytearray(), True
    while more:
        c = x & 0x1F
        x >>= 5
        more = x != -1 if c & 0x10 else x != 0
        out.append((c | 0x20 if more else c) + 48)
    return bytes(out)


DTYPES = st.sampled_from([np.uint8, np.int16, np.uint32, np.int64])
MAPS = st.tuples(DTYPES, strategies.SIZES).flatmap(
    lambda both: arrays(both[0], both[1], elements=st.integers(0, 4))
)


@given(MAPS)
def test_the_masks_of_a_map_of_ids_are_those_of_pycocotools(ids):
    found = masks_of_ids(ids)
    assert list(found) == np.unique(ids).tolist()
    for value, mask in found.items():
        assert mask == Mask.from_array(ids == value)


def test_a_map_of_one_id_is_one_run():
    runs = runs_of_ids(np.full((3, 4), 7, np.uint8))
    assert (runs.start.tolist(), runs.stop.tolist(), runs.id.tolist()) == ([0], [12], [7])
    assert segments_of(runs).masks() == [Mask.from_array(np.ones((3, 4)))]


def test_short_numbers_are_spelled_like_long_ones():
    numbers = range(-600, 600)
    among = spelled([*numbers, 2**31 - 1])  # eight bytes for each
    assert among.startswith(spelled(numbers))
    edges = [-513, -512, -17, -16, 15, 16, 511, 512]
    one_by_one = b"".join(spelled([n]) for n in edges)
    assert spelled(edges) == one_by_one
