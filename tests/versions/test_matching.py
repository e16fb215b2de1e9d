"""Which segment is which: by geometry first, by id where geometry is not enough."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.dataset import Sample, Segment
from publisher.errors import FormatError
from publisher.masks import Mask, Rle, overlapping
from publisher.versions.matching import match
from tests.strategies import datasets, masks

HEIGHT, WIDTH = 20, 30
SAME = {1: 1, 2: 2}


def box(left: int, top: int, width: int, height: int) -> Rle:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    pixels[top : top + height, left : left + width] = True
    mask = Mask.from_array(pixels)
    return Rle(HEIGHT, WIDTH, mask.counts.decode())


def sample(*segments: tuple[int, int, Rle], size: tuple[int, int] = (HEIGHT, WIDTH)) -> Sample:
    """Of (id, category, geometry)."""
    return Sample(1, "a.jpg", *size, tuple(Segment(*s) for s in segments))


def pairs(old: Sample, new: Sample) -> list[tuple[int, int]]:
    return [(p.old, p.new) for p in match(old, new, SAME)]


LEFT, RIGHT = box(0, 0, 10, 10), box(18, 0, 10, 10)


def test_ids_that_all_moved_by_one_confuse_nothing():
    old = sample((1, 1, LEFT), (2, 1, RIGHT))
    new = sample((1, 1, box(12, 12, 3, 3)), (2, 1, LEFT), (3, 1, RIGHT))
    assert pairs(old, new) == [(0, 1), (1, 2)]


def test_masks_that_were_refined_are_the_same_objects_though_their_ids_moved():
    old = sample((1, 1, LEFT), (2, 1, RIGHT))
    new = sample((2, 1, box(0, 0, 9, 10)), (3, 1, box(18, 0, 10, 9)))
    found = match(old, new, SAME)
    assert [(p.old, p.new) for p in found] == [(0, 0), (1, 1)]
    assert [round(p.iou, 6) for p in found] == [0.9, 0.9]


def test_a_mask_drawn_anew_keeps_its_id_as_long_as_it_touches_the_old_one():
    old = sample((7, 1, LEFT))
    assert pairs(old, sample((7, 1, box(8, 0, 10, 10)))) == [(0, 0)]
    assert pairs(old, sample((8, 1, box(8, 0, 10, 10)))) == []
    assert pairs(old, sample((7, 1, RIGHT))) == []


def test_a_person_and_what_they_wear_stay_apart_though_they_nearly_agree():
    old = sample((1, 1, LEFT), (2, 2, box(0, 0, 10, 9)))
    new = sample((1, 2, box(0, 0, 10, 8)), (2, 1, box(0, 0, 10, 9)))
    assert pairs(old, new) == [(0, 1), (1, 0)]


def test_what_is_only_called_otherwise_was_relabelled():
    found = match(sample((1, 1, LEFT)), sample((5, 2, LEFT)), SAME)
    assert [tuple(p) for p in found] == [(0, 0, 1.0)]


def test_of_equal_masks_those_with_one_id_go_together():
    old = sample((1, 1, LEFT), (2, 1, LEFT))
    new = sample((2, 1, LEFT), (1, 1, LEFT))
    assert pairs(old, new) == [(0, 1), (1, 0)]


def test_the_better_match_wins():
    old = sample((1, 1, box(0, 0, 10, 10)), (2, 1, box(1, 0, 10, 10)))
    new = sample((9, 1, box(1, 1, 10, 9)))
    assert pairs(old, new) == [(1, 0)]


def test_another_size_leaves_only_ids():
    old = sample((1, 1, LEFT), (2, 1, RIGHT))
    new = Sample(1, "a.jpg", 5, 5, (Segment(2, 1, Rle(5, 5, (0, 25))),))
    assert [tuple(p) for p in match(old, new, SAME)] == [(1, 0, 0.0)]


def test_a_broken_mask_is_named_by_its_image():
    broken = sample((1, 1, Rle(HEIGHT, WIDTH, (1, 2))))
    with pytest.raises(FormatError, match=r"a\.jpg"):
        match(sample((1, 1, LEFT)), broken, SAME)


@st.composite
def versions(draw):
    """An image before and after, of boxes; some geometry stays."""
    boxes = st.builds(
        box, st.integers(0, 25), st.integers(0, 15), st.integers(1, 12), st.integers(1, 12)
    )
    segments = st.tuples(st.integers(1, 6), st.integers(1, 2), boxes)
    old = draw(st.lists(segments, max_size=6))
    kept = draw(st.lists(st.sampled_from(old), max_size=4)) if old else []
    new = draw(st.permutations(kept + draw(st.lists(segments, max_size=4))))
    return sample(*old), sample(*new)


@given(versions())
def test_matches_are_one_to_one_and_tell_their_iou(both):
    old, new = both
    found = match(old, new, SAME)
    assert len({p.old for p in found}) == len({p.new for p in found}) == len(found)
    for p in found:
        one = old.segments[p.old].mask(HEIGHT, WIDTH)
        other = new.segments[p.new].mask(HEIGHT, WIDTH)
        assert p.iou == pytest.approx(one.iou(other))
        assert (p.iou == 1.0) == (one == other)
        assert p.iou > 0


@given(versions())
def test_nobody_is_left_over_who_has_an_equal_on_the_other_side(both):
    old, new = both
    found = match(old, new, SAME)
    left = [s for i, s in enumerate(old.segments) if i not in {p.old for p in found}]
    come = [s for j, s in enumerate(new.segments) if j not in {p.new for p in found}]
    assert not {(s.category_id, s.segmentation) for s in left} & {
        (s.category_id, s.segmentation) for s in come
    }


@given(datasets())
def test_an_image_is_its_own_match(dataset):
    for s in dataset:
        same = {c.id: c.id for c in dataset.categories}
        found = match(s, s, same)
        assert [(p.old, p.iou) for p in found] == [(i, 1.0) for i in range(len(s.segments))]
        assert all(s.segments[p.old].segmentation == s.segments[p.new].segmentation for p in found)


@given(st.lists(masks(4, 5), max_size=5), st.lists(masks(4, 5), max_size=5))
def test_overlapping_masks_are_those_that_share_pixels(one, other):
    found = {(i, j): iou for i, j, iou in overlapping(one, other)}
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            shared = a.intersection(b)
            assert ((i, j) in found) == (shared > 0)
            if shared:
                assert found[i, j] == pytest.approx(shared / (a.area + b.area - shared))
