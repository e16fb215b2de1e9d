"""Rules about run-length encodings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.masks import Mask, Rle
from publisher.rules.rle import _specks
from publisher.shapes.runs import runs_of
from publisher.validate import mend
from tests import strategies
from tests.rules.build import HEIGHT, WIDTH, codes, dataset, only, sample, segment

N = HEIGHT * WIDTH


def disc(y, x, radius, height=HEIGHT, width=WIDTH):
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def dots(n):
    """Single pixels that touch nothing, above and below the disc."""
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[::36, ::4].flat[:n] = True
    return pixels


def down_columns(pixels):
    return tuple(Mask.from_array(pixels).runs.tolist())


def along_rows(pixels):
    return down_columns(pixels.ravel()[:, None])


def rle(counts, height=HEIGHT, width=WIDTH, **changes):
    return dataset(sample(segment(Rle(height, width, counts), **changes)))


EXAMPLES = {
    "R503": (
        rle((N,), WIDTH, HEIGHT),
        "a.jpg segment 0: error R503: RLE is 60x40, image is 40x60; height and width look swapped",
    ),
    "R504": (
        rle((3, 4)),
        "a.jpg segment 0: error R504: RLE covers 7 pixels, image has 2400",
    ),
    "R505": (
        rle((5, -3, N - 2)),
        "a.jpg segment 0: error R505: RLE has a negative or oversized run",
    ),
    "R506": (
        rle("b'09'"),
        "a.jpg segment 0: error R506: RLE counts hold a character COCO does not use",
    ),
    "R507": (
        rle((30, 20, 0, 40, N - 90)),
        "a.jpg segment 0: info R507: counts are not in canonical form",
    ),
    "R508": (
        rle(along_rows(disc(20, 30, 9))),
        "a.jpg segment 0: error R508: runs look counted along rows, not down columns",
    ),
    "R509": (rle((N,)), "a.jpg segment 0: error R509: RLE has no pixel"),
    "R510": (
        rle((0, N)),
        "a.jpg segment 0: warning R510: hand is every pixel of the image",
    ),
    "R511": (
        rle((0, N // 2, 200, N // 2 - 200)),
        "a.jpg segment 0: warning R511: covers 92% and touches all borders: inverted?",
    ),
    "R512": (
        rle(down_columns(disc(20, 30, 9) | dots(12))),
        "a.jpg segment 0: info R512: mask has 12 specks of fewer than 4 px",
    ),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, said = EXAMPLES[code]
    assert only(data, code) == [said]


def test_an_rle_of_another_size_is_not_always_swapped():
    assert only(rle((20,), 4, 5), "R503") == [
        "a.jpg segment 0: error R503: RLE is 4x5, image is 40x60"
    ]


def test_a_large_crowd_or_patch_of_stuff_is_not_called_inverted():
    counts = (0, N // 2, 200, N // 2 - 200)
    assert not only(rle(counts, iscrowd=True), "R511")
    assert not only(rle(counts, category_id=3), "R511")


@pytest.mark.parametrize("counts", [(30, 20, 0, 40, N - 90), (30, 60, N - 90, 0), "n00nI0d>"])
def test_canonical_counts_hold_the_same_pixels(counts):
    before = rle(counts)
    (mended, fixed), *_ = mend(before)
    mask = before[0].segments[0].mask(HEIGHT, WIDTH) if not isinstance(counts, str) else None
    if mask is None:
        return
    assert [str(f) for f in fixed] == [
        "a.jpg segment 0: info R507: counts are not in canonical form"
    ]
    assert mended.segments[0].mask(HEIGHT, WIDTH) == mask
    assert not only(dataset(mended), "R507")


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (200, 400), (100, 150)])
def test_rows_and_columns_are_told_apart(height, width):
    for y, x, radius in ((60, 50, 12), (45, 70, 40), (20, 20, 30)):
        pixels = disc(y, x, radius, height, width)
        for counts, wrong in ((along_rows(pixels), True), (down_columns(pixels), False)):
            image = sample(segment(Rle(height, width, counts)), height=height, width=width)
            assert ("R508" in codes(dataset(image))) == wrong


def test_stripes_and_poles_are_not_called_wrong():
    stripes, pole = np.zeros((2, HEIGHT, WIDTH), bool)
    stripes[::3] = True
    pole[:, 10:12] = True
    for pixels in (stripes, pole, stripes.T.reshape(HEIGHT, WIDTH)):
        assert not only(rle(down_columns(pixels)), "R508")


def test_an_empty_rle_goes_and_is_told_once():
    (mended, fixed), *_ = mend(rle((N,)))
    assert mended.segments == ()
    assert [f.code for f in fixed] == ["R509"]
    assert "A316" not in codes(rle((N,)))


def test_a_full_rle_is_told_once_and_stuff_may_be_one():
    assert "A318" not in codes(rle((0, N)))
    assert "R510" not in codes(rle((0, N), category_id=3))


@settings(max_examples=60, deadline=None)
@given(st.lists(strategies.bitmaps(9, 11), min_size=1, max_size=3))
def test_specks_are_what_a_flood_fill_finds(bitmaps):
    for pixels in bitmaps:
        pixels[[0, -1]] = False  # runs that go round the bottom to the next top are one
    runs = runs_of([Mask.from_array(b) for b in bitmaps])
    apart = runs.owner * 200
    runs = replace(runs, start=runs.start + apart, stop=runs.stop + apart)
    assert _specks(runs, 9).tolist() == [_flooded(b) for b in bitmaps]


def _flooded(pixels):
    left, specks = set(zip(*np.nonzero(pixels), strict=True)), 0
    while left:
        todo, size = [left.pop()], 0
        while todo:
            y, x = todo.pop()
            size += 1
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        specks += size < 4
    return specks
