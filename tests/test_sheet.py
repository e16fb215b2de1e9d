"""The contact sheet: an object before and after, large enough to be judged."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from publisher.masks import Mask
from publisher.sheet import Shown, figure

HEIGHT, WIDTH = 60, 90
IMAGE = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
VIEW = re.compile(r'<svg viewBox="0 0 (\d+) (\d+)".*?</svg>')
KIND = re.compile(r'<path class=(\w+) d="([^"]*)"')


def box(top: int, left: int, bottom: int, right: int) -> Mask:
    pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
    pixels[top:bottom, left:right] = True
    return Mask.from_array(pixels)


boxes = st.builds(
    lambda top, left, height, width: box(top, left, top + height, left + width),
    *(
        st.integers(0, HEIGHT - 1),
        st.integers(0, WIDTH - 1),
        st.integers(1, 60),
        st.integers(1, 90),
    ),
)


def views(before: Mask, after: Mask) -> list[tuple[int, int, dict[str, str]]]:
    """The width and height of each view, and its paths that are no cases, by their kind."""
    page = figure(IMAGE, Shown("cat", ("refined",), before, after))
    return [
        (int(v[1]), int(v[2]), {k: d for k, d in KIND.findall(v[0]) if k != "case"})
        for v in VIEW.finditer(page)
    ]


def test_a_mask_that_changed_is_shown_before_after_and_where_it_changed_most():
    first, second, close = views(box(20, 30, 40, 60), box(20, 30, 40, 66))
    assert set(first[2]) == {"old"}
    assert set(second[2]) == {"new"}
    assert set(close[2]) == {"old", "new", "added", "removed"}
    assert close[2]["added"]
    assert not close[2]["removed"]
    assert close[0] < first[0] == second[0]  # fewer pixels, drawn as large


def test_a_mask_that_stayed_is_shown_once():
    ((_, _, paths),) = views(box(20, 30, 40, 60), box(20, 30, 40, 60))
    assert set(paths) == {"old"}


@given(boxes, boxes)
def test_lines_stay_in_their_view_and_all_of_an_object_is_seen(before, after):
    whole, *_ = shown = views(before, after)
    for width, height, paths in shown:
        numbers = [list(map(float, re.findall(r"[\d.]+", d))) for d in paths.values()]
        assert all(x <= width for ring in numbers for x in ring[::2])
        assert all(y <= height for ring in numbers for y in ring[1::2])
    columns = list(map(float, re.findall(r"[\d.]+", whole[2]["old"])))[::2]
    assert max(columns) - min(columns) == before.bbox[2]
