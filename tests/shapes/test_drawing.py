"""Many segments at once become the masks that each becomes alone, and that pycocotools makes."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from publisher.dataset import Sample, Segment
from publisher.errors import FormatError
from publisher.masks import MAX_COORDINATE, Mask, Rle, compress
from publisher.shapes.drawing import Rings, draw, line_of, rasterise
from publisher.shapes.runs import counts_of
from tests import strategies

ODD_PLACES = st.sampled_from([0.0, -0.0, 0.5, -0.5, 0.1, 0.3, 0.7, 2.5, 7.9, -3.0])
PLACES = st.floats(-10, 50) | st.integers(-20, 100).map(lambda n: n / 2) | ODD_PLACES


@pytest.fixture(autouse=True, scope="module")
def few_are_drawn_like_many():
    with mock.patch("publisher.shapes.drawing._MANY", 0):
        yield


@st.composite
def odd_rings(draw):
    """Rings with spikes, repeats, and corners on every kind of boundary, in and out of images."""
    points = draw(st.lists(st.tuples(PLACES, PLACES), min_size=2, max_size=9))
    if draw(st.booleans()):
        points += points[::-1]  # there and back
    points += points[-1:] * draw(st.integers(len(points) < 3, 2))
    return tuple(v for p in points for v in p)


@st.composite
def polygons(draw):
    """Several segments of several rings, each with an image."""
    many = []
    for _ in range(draw(st.integers(0, 6))):
        height, width = draw(strategies.SIZES)
        ring = odd_rings() | strategies.rings(height, width)
        many.append((tuple(draw(st.lists(ring, min_size=1, max_size=3))), height, width))
    return many


def by_pycocotools(rings, height, width):
    return coco.merge(coco.frPyObjects([list(r) for r in rings], height, width))["counts"]


@settings(max_examples=100)
@given(polygons())
def test_many_polygons_are_rasterised_by_cocos_rule(many):
    height, width = np.array([c[1:] for c in many], dtype=np.int64).reshape(-1, 2).T
    runs = rasterise(Rings.of([rings for rings, *_ in many]), height, width)
    assert counts_of(runs, height * width) == [by_pycocotools(*case) for case in many]


@pytest.mark.parametrize("coordinate", [MAX_COORDINATE, 4999.9])
def test_the_largest_coordinates_are_exact(coordinate):
    rng = np.random.default_rng(0)
    far, near = rng.uniform(-coordinate, coordinate, (40, 12)), rng.uniform(0, 64, (40, 12))
    rings = [tuple(ring) for ring in np.where(rng.random((40, 12)) < 0.4, far, near).tolist()]
    size = np.full(40, 64)
    runs = rasterise(Rings.of([(ring,) for ring in rings]), size, size)
    assert counts_of(runs, size * size) == [by_pycocotools([ring], 64, 64) for ring in rings]


def test_batches_do_not_show(monkeypatch):
    rng = np.random.default_rng(0)
    many = [(tuple(rng.uniform(-5, 45, 12).tolist()),) * n for n in (1, 2, 1, 3, 1, 1)]
    size = np.full(len(many), 40)
    whole = rasterise(Rings.of(many), size, size)
    monkeypatch.setattr("publisher.shapes.drawing._BATCH", 60)
    cut = rasterise(Rings.of(many), size, size)
    assert all((getattr(whole, k) == getattr(cut, k)).all() for k in ("start", "stop", "owner"))


@st.composite
def any_segments(draw):
    """What readers may give, and more; many good ones among the bad."""
    sizes = draw(st.lists(strategies.SIZES, max_size=3))
    sizes += draw(st.lists(st.tuples(strategies.INTS, strategies.INTS), max_size=1))
    return [(draw(strategies.hostile_segments(*size)), size) for size in sizes]


def alone(segment, size):
    try:
        return segment.mask(*size)
    except FormatError as error:
        return error


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(any_segments())
def test_each_segment_is_what_it_is_alone(cases):
    drawn = draw([s for s, _ in cases], [size for _, size in cases])
    for n, (segment, size) in enumerate(cases):
        expected, mask = alone(segment, size), drawn.masks[n]
        area, box = int(drawn.areas[n]), tuple(drawn.boxes[n].tolist())
        if isinstance(expected, Mask):
            assert (mask, area, box) == (expected, expected.area, expected.bbox)
        else:
            assert (str(mask), mask.code, area, box) == (str(expected), expected.code, 0, (0,) * 4)


def first_error(samples):
    errors = (alone(g, (s.height, s.width)) for s in samples for g in s.segments)
    return next((e for e in errors if isinstance(e, FormatError)), None)


@st.composite
def any_samples(draw):
    """Two images whose segments are sound, or hostile."""
    found = []
    for n in (1, 2):
        height, width = draw(strategies.SIZES)
        kinds = strategies.segmentations(height, width).map(lambda shape: Segment(1, 1, shape))
        if draw(st.booleans()):
            kinds |= strategies.hostile_segments(height, width)
        segments = tuple(draw(st.lists(kinds, max_size=4)))
        found.append(Sample(n, f"{n}.jpg", height, width, segments))
    return found


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(any_samples())
def test_a_line_holds_the_mask_of_each_segment(samples):
    if first_error(samples):
        with pytest.raises(FormatError) as raised:
            line_of(samples)
        assert raised.value.code
        return
    line, base = line_of(samples)
    pixels = np.zeros((line.count, sum(s.height * s.width for s in samples)), bool)
    for start, stop, owner in zip(line.start, line.stop, line.owner, strict=True):
        assert not pixels[owner, start:stop].any()
        pixels[owner, start:stop] = True
    rows = iter(pixels)
    for s, begin in zip(samples, base.tolist(), strict=True):
        for g in s.segments:
            row, size = next(rows), s.height * s.width
            mine = row[begin : begin + size].reshape(s.width, s.height).T
            assert (mine == g.mask(s.height, s.width).to_array()).all()
            assert row.sum() == mine.sum()


def test_an_image_without_a_size_has_no_line():
    with pytest.raises(FormatError):
        line_of([Sample(1, "a.jpg", 0, 5, ())])


COUNTS = st.lists(
    st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12)
    | strategies.masks(4, 5).map(lambda mask: mask.counts.decode())
    | st.lists(st.integers(-3, 20), max_size=6).map(lambda r: compress(np.array(r, int)).decode())
    | st.sampled_from(["P0", "d0P0", "d0", "c00", "T1", "0d0", "oooooo0", "oooooo0oooooo0"]),
    max_size=8,
)


@settings(max_examples=150)
@given(COUNTS)
def test_any_counts_are_the_mask_that_they_are_alone(many):
    segments = [Segment(n, 1, Rle(4, 5, counts)) for n, counts in enumerate(many, 1)]
    drawn = draw(segments, [(4, 5)] * len(segments))
    for segment, mask, area in zip(segments, drawn.masks, drawn.areas.tolist(), strict=True):
        expected = alone(segment, (4, 5))
        if isinstance(expected, Mask):
            assert (mask, area) == (expected, expected.area)
        else:
            assert (str(mask), mask.code, area) == (str(expected), expected.code, 0)


def test_a_broken_segment_costs_only_itself():
    good, square = (1.0, 1.0, 9.0, 1.0, 9.0, 9.0), Mask.from_array(np.ones((10, 10)))
    shapes = [
        (good,),
        (),
        ((1.0, 2.0, 3.0),),
        (good, good[:4]),
        ((float("nan"), *good[1:]),),
        ((0.0, 0.0, 1e5, 1e5) * 1000,),
        Rle(9, 9, (81,)),
        Rle(10, 10, square.counts.decode()),
        (good,),
    ]
    segments = [Segment(n, 1, shape) for n, shape in enumerate(shapes, 1)]
    masks = draw(segments, [(10, 10)] * len(segments)).masks
    codes = [m.code if isinstance(m, FormatError) else m for m in masks]
    whole = Mask.from_polygons((good,), 10, 10)
    assert codes == [whole, "P401", "P403", "P404", "P406", "P406", "R503", square, whole]


def test_few_segments_are_drawn_as_many_are():
    good, hole = (1.0, 1.0, 9.0, 1.0, 9.0, 9.0), (2.0, 2.0)
    segments = [Segment(n, 1, shape) for n, shape in enumerate([(good,), (hole,), (good, good)], 1)]
    many = draw(segments, [(10, 10)] * 3)
    with mock.patch("publisher.shapes.drawing._MANY", 99):
        few = draw(segments, [(10, 10)] * 3)
    assert list(map(str, few.masks)) == list(map(str, many.masks))
    assert (few.areas.tolist(), few.boxes.tolist()) == (many.areas.tolist(), many.boxes.tolist())
    assert (few.rings.points == many.rings.points).all()


def test_nothing_is_drawn_of_nothing():
    drawn = draw([], [])
    assert drawn.masks == []
    assert drawn.boxes.shape == (0, 4)
