"""Rules about polygons."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from publisher.rules.polygons import crossings
from publisher.shapes.drawing import Rings
from publisher.validate import mend
from tests.rules.build import HAND, KNIFE, box, codes, dataset, only, sample, segment

# as cv2.findContours traces a disc: whole numbers, steps level, upright or diagonal
TRACED = (12, 5, 9, 5, 7, 7, 6, 7, 5, 8, 5, 12, 7, 14, 7, 15, 8, 16, 12, 16, 15, 13, 15, 8)
TRACED = tuple(map(float, TRACED))
LINE = (1.0, 1.0, 20.0, 20.0)


def polygon(*rings, **changes):
    return dataset(sample(segment(rings, **changes)))


EXAMPLES = {
    "P401": (polygon(), "segmentation is empty"),
    "P403": (polygon(HAND[:-1]), "[0]: ring has 7 coordinates, an odd number"),
    "P404": (polygon(HAND, LINE), "[1]: ring has 2 points, needs 3"),
    "P406": (
        polygon((math.nan, *HAND[1:])),
        "[0]: ring has a coordinate that is not finite or beyond 100,000 px",
    ),
    "P407": (polygon(box(-4.5, 5, 20, 20)), "leaves the image by 4.5 px"),
    "P408": (polygon(box(70, 5, 20, 20)), "polygon lies wholly outside the image"),
    "P409": (polygon(HAND, (*LINE, 10.0, 10.0)), "rings [1] of 2 have no pixels"),
    "P410": (polygon((*HAND, *HAND[:2])), "1 vertices repeat the one before"),
    "P411": (
        polygon((5.0, 5.0, 14.0, 14.0, 14.0, 5.0, 5.0, 14.0)),
        "outline crosses itself near (14.0, 14.0)",
    ),
    "P412": (polygon(HAND, box(10, 10, 10, 10)), "rings 0 and 1 share 25 px"),
    "P413": (polygon(HAND, box(7, 7, 3, 3)), "ring 1 lies inside ring 0: a hole?"),
    "P414": (
        polygon((0.2, 0.3, 0.6, 0.3, 0.6, 0.8)),
        "coordinates are fractions of the image, not pixels",
    ),
    "P415": (
        dataset(sample(segment(box(25, 45, 10, 10)), segment(box(5, 5, 30, 20)))),
        "1 of 2 polygons fit only with x and y swapped",
    ),
    "P416": (
        polygon((5.0, 5.0, 5.003, 5.004, 20.0, 5.0, 20.0, 20.0)),
        "a ring has 4 vertices, 1 of them within 0.01 px of the next",
    ),
    "P417": (
        polygon(TRACED),
        "1 of 1 outlines run through pixel centres",
    ),
}
SEVERITY = {"P407": "warning", "P409": "warning", "P410": "info", "P411": "warning"}
SEVERITY |= {"P412": "info", "P413": "warning", "P416": "info", "P417": "warning"}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, said = EXAMPLES[code]
    severity = SEVERITY.get(code, "error")
    place = "a.jpg" if code in ("P415", "P417") else "a.jpg segment 0"
    assert only(data, code) == [f"{place}: {severity} {code}: {said}"]


def test_a_polygon_may_end_on_the_border():
    assert codes(polygon(box(0, 0, 60, 20)), ignore={"C206", "P412"}) == set()


def test_one_fault_is_told_once():
    assert "A316" not in codes(polygon(box(70, 5, 20, 20)))
    assert not {"A316", "A317"} & codes(EXAMPLES["P414"][0])
    assert "P412" not in codes(EXAMPLES["P413"][0])


def test_a_ring_without_three_points_goes_where_others_remain():
    (mended, fixed), *_ = mend(EXAMPLES["P404"][0])
    assert mended.segments[0].segmentation == (HAND,)
    assert [str(f) for f in fixed] == [
        "a.jpg segment 0: error P404: [1]: ring has 2 points, needs 3"
    ]


def test_the_last_ring_stays_for_a_person_to_mend():
    (mended, fixed), *_ = mend(polygon(LINE))
    assert mended.segments[0].segmentation == (LINE,)
    assert fixed == []


def test_repeated_vertices_go():
    (mended, fixed), *_ = mend(polygon((*HAND[:2], *HAND, *HAND[:2])))
    assert mended.segments[0].segmentation == (HAND,)
    assert [f.code for f in fixed] == ["P410"]


def test_one_segment_that_cannot_be_mended_is_not_reported_as_mended():
    data = dataset(sample(segment((LINE,)), segment((KNIFE, LINE))))
    (mended, fixed), *_ = mend(data)
    assert [(f.code, f.segment) for f in fixed] == [("P404", 1)]
    assert mended.segments[1].segmentation == (KNIFE,)


def test_what_a_fix_uncovers_is_fixed_and_counted_as_in_the_source():
    flat = (1.0, 1.0, 5.0, 5.0, 9.0, 9.0)
    data = dataset(sample(segment((flat, LINE)), segment(HAND), segment((KNIFE, LINE))))
    (mended, fixed), *_ = mend(data)
    assert [s.segmentation for s in mended.segments] == [(HAND,), (KNIFE,)]
    assert [(f.code, f.segment) for f in fixed] == [("P404", 0), ("P404", 2), ("A316", 0)]


# ── crossings ────────────────────────────────────────────────────────────────────────────────


def slow_crosses(points):
    """Every edge against every other, in fractions."""
    from fractions import Fraction

    ring = [tuple(map(Fraction, p)) for p in points.tolist()]
    edges = list(zip(ring, [*ring[1:], ring[0]], strict=True))

    def side(a, b, p):
        value = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
        return (value > 0) - (value < 0)

    return any(
        side(a, b, p) * side(a, b, q) < 0 and side(p, q, a) * side(p, q, b) < 0
        for i, (a, b) in enumerate(edges)
        for p, q in edges[i + 1 :]
    )


def crossing(rings):
    return crossings(Rings.of([(tuple(ring.ravel().tolist()),) for ring in rings]))


def test_crossings_are_those_that_exact_arithmetic_finds():
    rng = np.random.default_rng(1)
    rings = [rng.integers(0, 30, (n, 2)) / 2 for n in range(3, 12) for _ in range(40)]
    rings += [circle(n) for n in (4, 9, 40)]
    found = {ring for ring, _ in crossing(rings)}
    assert found == {n for n, ring in enumerate(rings) if slow_crosses(ring)}
    assert 0 < len(found) < len(rings)


def circle(n):
    t = np.arange(n) * 2 * np.pi / n
    return np.stack([100 + 50 * np.cos(t), 100 + 50 * np.sin(t)], axis=1)


def test_a_bridge_to_a_hole_is_no_crossing():
    bridge = [(0, 0), (9, 0), (9, 9), (0, 9), (0, 0), (3, 3), (3, 6), (6, 6), (6, 3), (3, 3)]
    assert list(crossing([np.array(bridge, dtype=float)])) == []


def test_the_worst_outline_takes_seconds_at_most():
    worst = np.random.default_rng(1).random((2000, 2)) * 1000  # all edges meet all others
    start = time.process_time()
    assert len(list(crossing([worst]))) == 1
    assert time.process_time() - start < 3


def test_a_ring_is_clipped_where_its_pixels_stay():
    (mended, fixed), *_ = mend(polygon(box(-4.0, 5, 20, 20)))
    assert set(mended.segments[0].segmentation[0][::2]) == {0.0, 16.0}
    assert [f.code for f in fixed] == ["P407"]
    assert "P407" not in codes(dataset(mended))


def test_a_crossing_becomes_its_pixels():
    before = EXAMPLES["P411"][0]
    (mended, fixed), *_ = mend(before)
    assert [f.code for f in fixed] == ["P411"]
    assert mended.segments[0].mask(40, 60) == before[0].segments[0].mask(40, 60)
    assert "P411" not in codes(dataset(mended))


def test_an_outline_past_the_border_is_not_called_swapped():
    assert "P415" not in codes(polygon(box(25, 30, 10, 12)))  # most of it is inside
    assert "P415" not in codes(polygon(box(45, 45, 10, 10)))  # it would not fit swapped, either


def test_pixel_edges_and_hand_drawn_corners_are_not_called_traced():
    stairs = [v for n in range(1, 9) for v in (n, 2 * n, n, 2 * n + 2)]
    assert "P417" not in codes(polygon(tuple(map(float, (*stairs, 0, 18, 0, 2)))))
    assert "P417" not in codes(polygon(HAND, (5.0, 5.0, 10.0, 0.0, 15.0, 5.0, 10.0, 10.0)))
    assert "P417" not in codes(polygon(tuple(v + 0.5 for v in TRACED)))


def test_many_vertices_are_counted():
    turn = np.linspace(0, 2 * np.pi, 2001, endpoint=False)
    ring = np.stack([30 + 15 * np.cos(turn), 20 + 15 * np.sin(turn)], axis=1).ravel()
    assert only(polygon(tuple(ring.tolist())), "P416") == [
        "a.jpg segment 0: info P416: a ring has 2,001 vertices"
    ]
