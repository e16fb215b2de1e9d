"""Rules about splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from publisher.rules.splits import near_pairs
from publisher.validate import Beside, ImageFacts, surveyed
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
    "S904": (
        numbered(*(image(f"{n:02}.jpg", "train" if n < 6 else "test") for n in range(10))),
        None,
        "dataset: info S904: train has 60.0% of the images, not 90.0%; "
        "test has 40.0% of the images, not 10.0%",
        Beside(ratios={"train": 0.9, "test": 0.1}),
    ),
    "S905": (
        two(),
        None,
        "a.jpg: error S905: is in train and was in test",
        Beside(previous=surveyed(numbered(image("a.jpg", "test")))),
    ),
    "S906": (
        two(),
        None,
        "dataset: warning S906: 1 image(s) came to test, 1 left it: b.jpg, c.jpg",
        Beside(previous=surveyed(numbered(image("c.jpg", "test")))),
    ),
    "S907": (
        numbered(
            *(image(f"{n:03}.jpg", None) for n in range(201)),
            image("z.jpg", None, segment(KNIFE, category_id=2)),
        ),
        None,
        "dataset: info S907: rare beside 201 images of the first class: 'knife' (1)",
    ),
    "S908": (
        two(),
        None,
        "dataset: warning S908: 1 of 2 groups are not in the dataset: gone.mp4",
        Beside(lock={"a.jpg": "train", "gone.mp4": "val"}),
    ),
    "S909": (
        two(),
        None,
        "dataset: warning S909: 2 of 4 images are gone",
        Beside(previous=surveyed(numbered(*(image(f"{n}.jpg", None) for n in "abcd")))),
    ),
    "S910": (
        numbered(image("a.jpg", "train"), image("b.jpg", None)),
        None,
        "dataset: warning S910: 1 of 2 images are in no split, such as b.jpg",
    ),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, look, said, *beside = EXAMPLES[code]
    assert only(data, code, look=look, beside=beside[0] if beside else None) == [said]


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


def test_the_lock_tells_where_an_image_belongs():
    said = only(two(), "S905", beside=Beside(lock={"a.jpg": "train", "b.jpg": "val"}))
    assert said == ["b.jpg: error S905: is in test, and splits.lock has it in val"]


def test_a_dataset_held_against_itself_has_not_changed():
    beside = Beside(
        previous=surveyed(clean()),
        lock={"one": "train", "two": "val", "three": "test"},
        ratios={"train": 0.8, "val": 0.1, "test": 0.1},  # three images cannot come nearer
    )
    assert codes(clean(), beside=beside) == set()


def test_segments_that_an_exporter_dropped_are_missed():
    before = numbered(image("a.jpg", None, *[segment(KNIFE, category_id=2), segment()] * 5))
    after = numbered(image("a.jpg", None, *[segment()] * 5))
    said = only(after, "S909", beside=Beside(previous=surveyed(before)))
    assert said == ["dataset: warning S909: 5 of 10 segments are gone"]


def test_a_release_names_images_as_build_renames_them():
    before = surveyed(numbered(image("what_.png", "test")))
    assert (
        len(only(numbered(image("what?.png", "train")), "S905", beside=Beside(previous=before)))
        == 1
    )
