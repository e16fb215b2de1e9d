"""Rules about names, sizes and files of images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from publisher.masks import Rle
from publisher.validate import Beside, mend
from tests.rules.build import (
    FACTS,
    clean,
    codes,
    dataset,
    look,
    looks,
    numbered,
    only,
    refuses,
    sample,
)
from tests.rules.build import segment as seg

HASH = 0x0123456789ABCDEF
ONE = dataset(sample(seg()))


def named(*names, **changes):
    return numbered(*(sample(seg(), file_name=n, **changes) for n in names))


def same_file(**changes):
    return looks(sha256="aa", **changes)


EXAMPLES = {
    "I101": (
        dataset(sample(seg()), sample(seg(id=9), file_name="b.jpg")),
        None,
        "b.jpg: error I101: image id 1 belongs to a.jpg",
    ),
    "I102": (named("a.jpg", "a.jpg"), None, "a.jpg: error I102: 2 images have this file name"),
    "I103": (ONE, refuses("I103"), "a.jpg: error I103: cannot be read"),
    "I104": (
        ONE,
        None,
        "dataset: warning I104: 2 picture(s) in images have no entry: images/b.jpg, images/c.jpg",
        Beside(unclaimed=lambda names: {"images": ("images/b.jpg", "images/c.jpg")}),
    ),
    "I105": (
        ONE,
        looks(height=20, width=30),
        "a.jpg: error I105: file is 30 x 20, annotations are for 60 x 40",
    ),
    "I106": (
        ONE,
        looks(height=60, width=40, orientation=6),
        "a.jpg: error I106: annotated upright, stored with EXIF orientation 6",
    ),
    "I107": (ONE, looks(orientation=3), "a.jpg: warning I107: EXIF orientation is 3"),
    "I108": (dataset(sample(seg(), width=0)), None, "a.jpg: error I108: image is 0 x 40 px"),
    "I109": (
        named("../a.jpg"),
        None,
        "../a.jpg: error I109: file name leads out of its folder: '../a.jpg'",
    ),
    "I110": (
        named("aux.jpg"),
        None,
        "aux.jpg: warning I110: name is not portable; _aux.jpg would be",
    ),
    "I111": (named("a.b.jpg", "a.b.png"), None, "a.b.png: error I111: has the stem of a.b.jpg"),
    "I112": (ONE, refuses("I112"), "a.jpg: error I112: cannot be read"),
    "I113": (
        ONE,
        looks(format="PNG"),
        "a.jpg: warning I113: file is PNG, extension is .jpg",
    ),
    "I114": (ONE, looks(mode="CMYK"), "a.jpg: warning I114: mode is CMYK"),
    "I115": (
        named("a.jpg", "b.jpg"),
        same_file(),
        "b.jpg: warning I115: has the bytes of a.jpg",
    ),
    "I116": (
        named("a.jpg", "b.jpg"),
        lambda s: replace(FACTS, sha256=s.file_name, dhash=HASH ^ (s.file_name == "b.jpg")),
        "b.jpg: info I116: looks like a.jpg (1 of 64 bits differ)",
    ),
    "I117": (dataset(sample()), None, "a.jpg: info I117: has no segment"),
    "I119": (
        dataset(sample(seg(), height=20_000, width=20_000)),
        None,
        "a.jpg: error I119: image is 20000 x 20000 px",
    ),
    "I120": (ONE, looks(has_location=True), "a.jpg: info I120: EXIF holds a GPS position"),
    "I121": (
        dataset(sample(seg(), source={"image_shared_with": "images/a.jpg"})),
        None,
        "a.jpg: error I121: images/a.jpg stands for several images; this may not be its picture",
    ),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, look, said, *beside = EXAMPLES[code]
    assert only(data, code, look=look, beside=beside[0] if beside else None) == [said]


@pytest.mark.parametrize("code", ["I103", "I109", "I112", "I119", "J001"])
def test_a_picture_that_cannot_be_read_is_always_told(code):
    told = [x for c in ("I103", "I109", "I112", "I119") for x in only(ONE, c, look=refuses(code))]
    assert len(told) == 1


def test_a_size_that_is_swapped_without_a_reason_is_wrong():
    assert "I105" in codes(ONE, look=looks(height=60, width=40))
    assert "I106" not in codes(ONE, look=looks(height=60, width=40))


def test_the_orientation_of_a_turned_picture_is_told_once():
    assert "I107" not in codes(ONE, look=looks(height=60, width=40, orientation=6))


@pytest.mark.parametrize("orientation", [0, 1, 9, -1])
def test_orientations_that_do_not_exist_are_upright(orientation):
    assert not {"I106", "I107"} & codes(ONE, look=looks(orientation=orientation))


@pytest.mark.parametrize("pair", [("A.jpg", "a.JPG"), ("é.jpg", "e\u0301.jpg"), ("x/a", "X/a")])
def test_names_that_collide_on_some_file_systems(pair):
    assert any("collides with" in said for said in only(named(*pair), "I110"))


def test_stems_are_compared_with_their_folders():
    assert not only(named("a/1.jpg", "b/1.jpg", ".jpg", ".png"), "I111")


def test_animations_are_told():
    assert "I114" in codes(ONE, look=looks(frames=2))


def test_equal_bytes_in_two_splits_are_a_leak_instead():
    data = numbered(*(sample(seg(), file_name=f"{s}.jpg", split=s) for s in ("train", "test")))
    assert "I115" not in codes(data, look=same_file())
    assert "S902" in codes(data, look=same_file())


def test_without_a_look_files_are_not_judged():
    assert not {c for c in codes(clean()) if c.startswith("I")}
    assert codes(clean(), look=look) == set()


def test_pictures_of_one_group_or_two_splits_may_look_alike():
    alike = EXAMPLES["I116"][1]
    assert not only(named("a.jpg", "b.jpg", group="video"), "I116", look=alike)
    apart = numbered(*(sample(seg(), file_name=f"{n}.jpg", split=n) for n in "ab"))
    assert not only(apart, "I116", look=alike)


def test_each_picture_that_looks_like_others_is_told_once():
    data = named(*(f"{n}.jpg" for n in range(9)))
    said = only(data, "I116", look=lambda s: replace(FACTS, sha256=s.file_name, dhash=HASH))
    assert len(said) == 8


def test_a_size_is_mended_where_all_rles_agree_with_the_file():
    small = Rle(20, 30, (100, 50, 450))
    wrong = dataset(sample(seg(small), seg(small)))
    (mended, fixed), *_ = mend(wrong, look=looks(height=20, width=30))
    assert (mended.height, mended.width) == (20, 30)
    assert "I105" in [f.code for f in fixed]
    for other in (seg(), seg(Rle(40, 60, (100, 50, 2250)))):
        (kept, _), *_ = mend(dataset(sample(seg(small), other)), look=looks(height=20, width=30))
        assert kept.height == 40
