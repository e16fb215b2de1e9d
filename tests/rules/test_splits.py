"""Rules about splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from publisher.rules.splits import near_pairs
from publisher.validate import ImageFacts
from tests.rules.build import FACTS, KNIFE, clean, codes, dataset, numbered, only, sample, segment

HASH = 0x0123456789ABCDEF


def image(name, split, *segments, group=None):
    return sample(*(segments or (segment(),)), file_name=name, split=split, group=group)


def two(**changes):
    return numbered(image("a.jpg", "train", **changes), image("b.jpg", "test", **changes))


def hashes(**by_name: int):
    def look(sample) -> ImageFacts:
        return replace(FACTS, sha256=sample.file_name, dhash=by_name[sample.file_name[0]])

    return look


EXAMPLES = {
    "S901": (
        two(group="kitchen.mp4"),
        None,
        "b.jpg: error S901: is in test, but a.jpg of the same group 'kitchen.mp4' is in train",
    ),
    "S902": (
        two(),
        hashes(a=HASH, b=HASH ^ 0b1011),
        "b.jpg: error S902: is in test and looks like a.jpg in train (3 of 64 bits differ)",
    ),
    "S903": (
        numbered(
            image("a.jpg", "train", segment(), segment(KNIFE, category_id=2)),
            image("b.jpg", "test"),
        ),
        None,
        "dataset: warning S903: split test has no segment of 'knife'",
    ),
    "S910": (
        numbered(image("a.jpg", "train"), image("b.jpg", None)),
        None,
        "dataset: warning S910: 1 of 2 images are in no split, such as b.jpg",
    ),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, look, said = EXAMPLES[code]
    assert only(data, code, look=look) == [said]


def test_equal_files_are_told_as_such():
    said = only(two(), "S902", look=lambda _: replace(FACTS, sha256="aa", dhash=HASH))
    assert said == ["b.jpg: error S902: is in test and has the bytes of a.jpg in train"]


@pytest.mark.parametrize("dhash", [0, 2**64 - 1, 0b111, 0x0F0F0F0F0F0F0F0F])
def test_flat_pictures_and_plain_gradients_say_nothing(dhash):
    assert not only(two(), "S902", look=hashes(a=dhash, b=dhash))


def test_five_bits_are_another_picture():
    assert not only(two(), "S902", look=hashes(a=HASH, b=HASH ^ 0b11111))


def test_within_a_split_pictures_may_be_alike():
    data = numbered(image("a.jpg", "train"), image("b.jpg", "train"))
    assert not only(data, "S902", look=hashes(a=HASH, b=HASH))


def test_a_split_without_segments_is_told_as_such():
    data = dataset(image("a.jpg", "train"), replace(sample(), file_name="b.jpg", split="test"))
    assert only(data, "S903") == ["dataset: warning S903: split test has no segment"]


def test_a_dataset_without_splits_is_not_asked_for_any():
    data = dataset(*(replace(s, split=None) for s in clean()))
    assert codes(data) == set()


def test_near_pairs_are_all_pairs_of_brute_force():
    rng = np.random.default_rng(3)
    base = rng.integers(0, 2**63, 60, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(0, 64, (300, 6), dtype=np.uint64)
    flips[rng.random((300, 6)) < 0.4] = 0
    near = rng.choice(base, 300) ^ np.bitwise_xor.reduce(flips, axis=1)
    splits = rng.integers(0, 3, 300)
    expected = [
        (i, j, int(near[i] ^ near[j]).bit_count())
        for i in range(300)
        for j in range(i + 1, 300)
        if int(near[i] ^ near[j]).bit_count() <= 4 and splits[i] != splits[j]
    ]
    assert near_pairs(near, splits) == expected
    assert len(expected) > 20
