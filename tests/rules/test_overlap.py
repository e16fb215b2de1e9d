"""Rules about overlap, and what a panoptic map makes of segments."""

from __future__ import annotations

import time
from itertools import accumulate
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.masks import boxes
from publisher.rules.overlaps import overlaps_of
from tests import strategies
from tests.rules.build import HAND, KNIFE, box, codes, dataset, only, sample, segment

RING = box(8, 8, 3, 3)  # lies on the hand


def hand(**changes):
    return segment(HAND, **changes)


def other(ring=RING, **changes):
    return segment(ring, **{"category_id": 2, **changes})


def image(*segments):
    return dataset(sample(*segments))


EXAMPLES = {
    "O601": (
        image(hand(), other()),
        "a.jpg segment 1: warning O601: knife overlaps hand (segment 0) on 9 px, IoU 0.090",
    ),
    "O602": (
        image(other(z_order=0), hand(z_order=1)),
        "a.jpg segment 0: error O602: knife is wholly hidden by hand (segment 1)",
    ),
    "O603": (
        image(hand(z_order=1), other(z_order=2)),
        "a.jpg segment 1: info O603: knife covers 9 px of hand (segment 0)",
    ),
    "O604": (
        image(hand(z_order=3), other(z_order=3)),
        "a.jpg segment 1: warning O604: knife and hand (segment 0) share 9 px and z-order 3",
    ),
    "O610": (
        image(*[hand()] * 400),
        "a.jpg: warning O610: only the first 362 of 400 segments were compared",
    ),
    "N710": (
        image(segment(HAND, category_id=3), segment(KNIFE, category_id=3)),
        "a.jpg: info N710: 2 patches of table",
    ),
    "N711": (
        image(hand(iscrowd=True), segment(KNIFE, iscrowd=True)),
        "a.jpg: warning N711: 2 crowds of hand",
    ),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, said = EXAMPLES[code]
    assert only(data, code) == [said]


@st.composite
def groups_of_masks(draw):
    """Of several images; some without a mask."""
    groups = []
    for height, width in draw(st.lists(strategies.SIZES, max_size=4)):
        mask = strategies.masks(height, width) | st.none()
        groups.append(draw(st.lists(mask, max_size=6)))
    return groups


def overlaps(groups):
    masks = [mask for group in groups for mask in group]
    return overlaps_of(masks, list(accumulate(map(len, groups), initial=0)), boxes(masks))


def shared(group):
    """By each pair's own intersection."""
    pairs = [(i, j) for j in range(len(group)) for i in range(j) if group[i] and group[j]]
    found = [(i, j, group[i].intersection(group[j])) for i, j in sorted(pairs)]
    return tuple(pair for pair in found if pair[2])


@given(groups_of_masks(), st.sampled_from([0, 256]))
def test_all_pairs_that_share_pixels_are_found(groups, few):
    with mock.patch("publisher.rules.overlaps._FEW", few):
        found = overlaps(groups)
    assert [f.pairs for f in found] == [shared(group) for group in groups]
    assert [f.compared for f in found] == [len(group) for group in groups]


@given(groups_of_masks(), st.sampled_from(["MAX_CHARACTERS", "MAX_MEETINGS", "MAX_PAIRS"]))
def test_of_too_many_the_first_are_compared_and_it_is_said(groups, limit):
    with mock.patch(f"publisher.rules.overlaps.{limit}", 5):
        found = overlaps(groups)
    for group, overlap in zip(groups, found, strict=True):
        assert overlap.pairs == shared(group[: overlap.compared])
        assert overlap.compared <= len(group)


def test_ten_thousand_segments_on_one_spot_take_seconds():
    spot = segment(box(0, 0, 30, 30))
    data = dataset(sample(*[spot] * 10_000))
    start = time.process_time()
    assert only(data, "O610")
    assert time.process_time() - start < 20


def test_too_many_rings_are_said_of_their_segment():
    data = image(segment(tuple(box(n % 7, n // 60, 9, 9) for n in range(400))))
    assert only(data, "O610") == [
        "a.jpg segment 0: warning O610: only the first 362 of 400 rings were compared"
    ]


def test_a_border_drawn_twice_is_no_overlap():
    assert not {"O601", "O604"} & codes(image(hand(), other(box(14.9, 5, 12, 10))))


def test_every_overlap_is_told_once():
    told = {"O601", "O603", "O604"}
    for z in (None, None), (1, None), (1, 1), (1, 2), (2, 1):
        assert len(told & codes(image(hand(z_order=z[0]), other(z_order=z[1])))) == 1


def test_crowds_may_overlap_with_anything():
    assert not {"O601", "O604"} & codes(image(hand(iscrowd=True, z_order=1), other(z_order=1)))


def test_a_thing_may_lie_on_stuff_where_an_order_is_known():
    table = segment(box(0, 0, 60, 40), category_id=3, z_order=0)
    assert not {"O601", "O602", "O604"} & codes(image(table, hand(z_order=1)))


def test_without_an_order_a_thing_on_stuff_is_an_overlap():
    table = segment(box(0, 0, 60, 40), category_id=3)
    assert "O601" in codes(image(table, hand()))


def test_two_covers_together_hide():
    covers = segment(box(5, 5, 5, 10), z_order=1), other(box(10, 5, 5, 10), z_order=1)
    assert len(only(image(hand(z_order=0), *covers), "O602")) == 1
    assert not only(image(hand(z_order=0), covers[0]), "O602")


def test_a_patch_below_another_of_its_class_is_not_lost():
    patch = segment(RING, category_id=3, z_order=0)
    assert not only(image(patch, segment(HAND, category_id=3, z_order=1)), "O602")


def test_without_an_order_nobody_knows_what_is_hidden():
    assert not only(image(other(), hand()), "O602")


def test_the_message_is_what_painting_does():
    from publisher.panoptic import paint

    data = EXAMPLES["O602"][0]
    lost = paint(data[0], data.category_of).losses
    assert [(x.segment, x.hidden) for x in lost] == [(0, True)]


def test_duplicates_are_not_told_again_as_overlap():
    assert not {"O601", "O604"} & codes(image(hand(z_order=0), hand(z_order=0)))
