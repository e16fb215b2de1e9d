"""Rules about run-length encodings."""

from __future__ import annotations

import pytest

from publisher.masks import Rle
from publisher.validate import mend
from tests.rules.build import HEIGHT, WIDTH, dataset, only, sample, segment

N = HEIGHT * WIDTH


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
    "R511": (
        rle((0, N // 2, 200, N // 2 - 200)),
        "a.jpg segment 0: warning R511: covers 92% and touches all borders: inverted?",
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
