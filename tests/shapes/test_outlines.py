"""Outlines along pixel edges give back the pixels they were drawn around."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.masks import Mask
from publisher.shapes.outlines import bridged, has_holes, joined, parts, polygons, trace
from tests import strategies


@st.composite
def bitmaps(draw):
    """Noise, or blocks with holes: the same noise, enlarged."""
    height, width = draw(strategies.SIZES)
    noise = draw(strategies.bitmaps(height, width))
    return noise.repeat(draw(st.integers(1, 3)), axis=0).repeat(draw(st.integers(1, 3)), axis=1)


def picture(text):
    return np.array([[c == "#" for c in row] for row in text.split()])


def rasterised(*rings, like):
    return Mask.from_polygons(rings, *like.shape).to_array() if rings else np.zeros_like(like)


def spread(seed, room, *, corners):
    """All pixels of `room` that a walk from `seed` reaches, by sides or also by corners."""
    reached = seed & room
    while True:
        wide = np.pad(reached, 1)
        grown = wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:] | reached
        if corners:
            grown |= wide[:-2, :-2] | wide[2:, 2:] | wide[:-2, 2:] | wide[2:, :-2]
        grown &= room
        if (grown == reached).all():
            return reached
        reached = grown


def filled(pixels):
    """The pixels that the outside does not reach, not even between two corners."""
    room = np.pad(~pixels, 1, constant_values=True)
    outside = np.zeros_like(room)
    outside[0, 0] = True
    return ~spread(outside, room, corners=True)[1:-1, 1:-1]


def regions_of(pixels):
    left, found = pixels.copy(), []
    while left.any():
        seed = np.zeros_like(left)
        x, y = min((x, y) for y, x in np.argwhere(left).tolist())
        seed[y, x] = True
        found.append(spread(seed, left, corners=False))
        left &= ~found[-1]
    return found


@settings(max_examples=100)
@given(bitmaps())
def test_outer_rings_give_the_mask_with_its_holes_filled(pixels):
    regions = trace(Mask.from_array(pixels))
    assert (rasterised(*(r.outer for r in regions), like=pixels) == filled(pixels)).all()


@settings(max_examples=60)
@given(bitmaps())
def test_each_region_is_its_outer_ring_less_its_holes(pixels):
    regions = trace(Mask.from_array(pixels))
    expected = regions_of(pixels)
    assert len(regions) == len(expected)
    for region, mine in zip(regions, expected, strict=True):
        outer, holes = (rasterised(*rings, like=pixels) for rings in ([region.outer], region.holes))
        assert (outer & ~holes == mine).all()
        assert (outer | holes == outer).all()


@settings(max_examples=60)
@given(bitmaps())
def test_rings_turn_at_every_corner(pixels):
    for region in trace(Mask.from_array(pixels)):
        for ring in (region.outer, *region.holes):
            step = np.diff(np.array([*ring, *ring[:2]]).reshape(-1, 2), axis=0)
            flat = (step == 0).tolist()
            assert all(sum(f) == 1 for f in flat)
            assert all(a != b for a, b in zip(flat, flat[1:] + flat[:1], strict=True))


@settings(max_examples=60)
@given(bitmaps())
def test_masks_without_holes_are_polygons_bit_for_bit(pixels):
    mask = Mask.from_array(pixels)
    rings = polygons(mask)
    assert (rings is None) == has_holes(mask) == bool((filled(pixels) & ~pixels).any())
    if rings:
        assert Mask.from_polygons(rings, mask.height, mask.width) == mask
    if rings == ():
        assert not pixels.any()


@settings(max_examples=60)
@given(bitmaps())
def test_parts_are_counted_without_drawing_them(pixels):
    mask = Mask.from_array(pixels)
    assert parts(mask) == len(regions_of(pixels))
    assert has_holes(mask) == any(region.holes for region in trace(mask))


@settings(max_examples=100)
@given(bitmaps())
def test_a_bridged_ring_keeps_every_hole(pixels):
    for region, mine in zip(trace(Mask.from_array(pixels)), regions_of(pixels), strict=True):
        assert (rasterised(bridged(region), like=pixels) == mine).all()


@settings(max_examples=100)
@given(bitmaps())
def test_a_joined_ring_is_the_whole_mask(pixels):
    if pixels.any():
        ring = joined(trace(Mask.from_array(pixels)))
        assert (rasterised(ring, like=pixels) == pixels).all()


def test_outlines_by_example():
    ring = picture("..... .###. .#.## .###. .....")
    (region,) = trace(Mask.from_array(ring))
    assert region.outer == (1, 1, 4, 1, 4, 2, 5, 2, 5, 3, 4, 3, 4, 4, 1, 4)
    assert region.holes == ((3, 2, 2, 2, 2, 3, 3, 3),)
    assert bridged(region)[:6] == (1, 1, 2, 1, 2, 2)


def test_pixels_that_touch_at_a_corner_are_two_regions():
    one, other = trace(Mask.from_array(picture("#. .#")))
    assert one.outer == (0, 0, 1, 0, 1, 1, 0, 1)
    assert other.outer == (1, 1, 2, 1, 2, 2, 1, 2)
    assert joined((one, other)) == (0, 0, 1, 0, 1, 1, 1, 1, 2, 1, 2, 2, 1, 2, 1, 1, 1, 1, 0, 1)


def test_nothing_has_no_outline():
    nothing = Mask.from_array(np.zeros((3, 4)))
    assert trace(nothing) == () == polygons(nothing)
    assert parts(nothing) == 0
    assert not has_holes(nothing)


def test_noise_and_wide_masks_take_no_more_than_their_runs():
    noise = Mask.from_array(np.random.default_rng(0).random((600, 800)) < 0.5)
    wide = Mask.from_runs(np.array([0, 2**26]), 1, 2**26)
    start = time.process_time()
    regions = trace(noise)
    assert parts(noise) == len(regions)
    assert has_holes(noise)
    assert trace(wide)[0].outer == (0, 0, 2**26, 0, 2**26, 1, 0, 1)
    assert polygons(wide) is None  # wider than any coordinate that is taken
    assert time.process_time() - start < 5
