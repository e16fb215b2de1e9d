"""What changed between two versions, and which number that calls for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError
from publisher.versions.changelog import (
    class_rows,
    image_rows,
    lines,
    section,
    verdict,
    with_section,
)
from publisher.versions.diff import Comparison, Pictures, Side, compare_categories, compare_pictures
from publisher.versions.version import Version
from tests.strategies import datasets
from tests.versions.test_matching import HEIGHT, LEFT, RIGHT, WIDTH, box

HAND, TABLE = Category(1, "hand"), Category(2, "table", isthing=False)
HAND_LEFT, TABLE_RIGHT = Segment(1, 1, LEFT), Segment(2, 2, RIGHT)
A = Sample(1, "a.jpg", HEIGHT, WIDTH, (HAND_LEFT, TABLE_RIGHT), None, "train")
B = Sample(2, "b.jpg", HEIGHT, WIDTH, (Segment(3, 1, RIGHT),), None, "val")


def side(*samples: Sample, categories=(HAND, TABLE)) -> Side:
    return Side(categories, samples)


def compared(old: Side, new: Side, pictures: Pictures | None = None):
    comparison = Comparison(old, new, pictures)
    return list(comparison), comparison.summary


def level(new: Side, pictures: Pictures | None = None, old: Side | None = None) -> str:
    _, summary = compared(old or side(A, B), new, pictures)
    return verdict(summary).level


def with_segments(sample: Sample, *segments: Segment) -> Sample:
    return replace(sample, segments=segments)


SMALLER = replace(HAND_LEFT, segmentation=box(0, 0, 9, 10))


@pytest.mark.parametrize(
    ("new", "expected", "reason"),
    [
        (side(A, B), "patch", "the same images, masks and categories"),
        (side(replace(A, id=9), B), "patch", "1 image id given anew"),
        (side(A, B, replace(A, file_name="c.jpg")), "minor", "1 image added"),
        (side(with_segments(A, *A.segments, Segment(9, 1, box(0, 15, 3, 3))), B), "minor",
         "1 segment added to images that were there"),
        (side(A, B, categories=(HAND, TABLE, Category(3, "ring"))), "minor", "category ring added"),
        (side(A), "major", "1 image removed"),
        (side(with_segments(A, SMALLER, TABLE_RIGHT), B), "major", "1 mask changed, mean IoU 0.9"),
        (side(with_segments(A, HAND_LEFT), B), "major", "1 segment removed"),
        (side(with_segments(A, replace(HAND_LEFT, category_id=2), TABLE_RIGHT), B), "major",
         "1 segment relabelled"),
        (side(replace(A, split="val"), B), "major", "1 image moved to another split"),
        (side(with_segments(A, replace(HAND_LEFT, iscrowd=True), TABLE_RIGHT), B), "major",
         "1 segment is or was a crowd"),
        (side(with_segments(A, replace(HAND_LEFT, z_order=3), TABLE_RIGHT), B), "major",
         "1 segment with another z-order"),
        (side(with_segments(A, replace(HAND_LEFT, attributes={"wet": True}), TABLE_RIGHT), B),
         "major", "1 segment with other attributes"),
        (side(replace(A, height=40, segments=()), B), "major", "1 image with another size"),
        (side(A, B, categories=(replace(HAND, name="fist"), TABLE)), "major",
         "category hand is called fist"),
        (side(A, B, categories=(HAND, replace(TABLE, isthing=True))), "major",
         "category table changed: isthing"),
        (side(A, B, categories=(HAND, replace(TABLE, color=(1, 2, 3)))), "patch",
         "category table changed: color"),
    ],
)  # fmt: skip
def test_each_change_has_its_level_and_its_reason(new, expected, reason):
    _, summary = compared(side(A, B), new)
    judged = verdict(summary)
    assert judged.level == expected
    assert any(reason in r for r in judged.reasons), judged.reasons


def test_the_gravest_change_decides_and_only_its_reasons_are_given():
    _, summary = compared(side(A, B), side(A, replace(B, file_name="c.jpg")))
    judged = verdict(summary, documents=["README.md"])
    assert (judged.level, judged.reasons) == ("major", ("1 image removed",))
    told = list(lines(summary, ["README.md"]))
    assert told[:3] == [
        "major: 1 image removed (b.jpg)",
        "minor: 1 image added (c.jpg)",
        "patch: README.md changed",
    ]


def test_documents_alone_are_a_patch():
    _, summary = compared(side(A, B), side(A, B))
    assert verdict(summary, ["README.md"]).reasons == ("README.md changed",)


def test_a_picture_with_new_bytes_or_a_new_name_is_told_by_its_digest():
    pictures = compare_pictures({"a": "1", "b": "2", "c": "3"}, {"a": "9", "d": "3", "e": "4"})
    assert pictures == Pictures({"a"}, {"c": "d"}, compared=True)
    twins = compare_pictures({"x": "1", "y": "1", "z": "1"}, {"p": "1", "q": "1"})
    assert dict(twins.renamed) == {"x": "p", "y": "q"}


def test_a_renamed_image_keeps_its_masks():
    renamed = replace(with_segments(B, replace(B.segments[0], segmentation=box(18, 0, 10, 9))),
                      file_name="0.jpg")  # fmt: skip
    pictures = compare_pictures({"a.jpg": "1", "b.jpg": "2"}, {"a.jpg": "1", "0.jpg": "2"})
    (change,), summary = compared(side(A, B), side(renamed, A), pictures)
    assert (change.file_name, change.was, len(change.edits)) == ("0.jpg", "b.jpg", 1)
    assert (summary.counts["renamed"], summary.counts["added"], summary.counts["removed"]) == (
        1, 0, 0,
    )  # fmt: skip
    assert verdict(summary).level == "major"


def test_files_that_no_annotation_names_do_not_make_images():
    pictures = compare_pictures({"b.jpg": "2"}, {"stray.jpg": "2"})
    (change,), _ = compared(side(A, B), side(A), pictures)
    assert (change.kind, change.file_name) == ("removed", "b.jpg")


def test_maps_drawn_otherwise_are_told_only_where_nothing_else_explains_them():
    pictures = Pictures(maps={"a", "b"}, compared=True)
    new = side(with_segments(A, SMALLER, TABLE_RIGHT), B)
    changes, summary = compared(side(A, B), new, pictures)
    assert [c.map for c in changes] == [False, True]
    assert summary.counts["map"] == 1


def test_categories_are_known_by_name_then_by_id():
    ring = Category(3, "ring")
    mapping, changes = compare_categories(
        (HAND, TABLE, ring), (Category(2, "hand"), Category(3, "thumb"), Category(7, "cup"))
    )
    assert mapping == {1: 2, 3: 3}
    assert [str(c) for c in changes] == [
        "cup added",
        "hand has id 2, not 1",
        "table removed",
        "ring is called thumb",
    ]


def test_two_categories_of_one_name_are_told_apart_by_their_ids():
    twins = (Category(1, "hand"), Category(2, "hand"))
    assert compare_categories(twins, twins) == ({1: 1, 2: 2}, ())


def test_segments_follow_their_category_to_its_new_number():
    categories = (replace(HAND, id=2), replace(TABLE, id=1))
    moved = {1: 2, 2: 1}
    new = [
        with_segments(s, *(replace(g, category_id=moved[g.category_id]) for g in s.segments))
        for s in (A, B)
    ]
    changes, summary = compared(side(A, B), side(*new, categories=categories))
    assert changes == []
    assert {c.kind for c in summary.categories} == {"renumbered"}


def test_the_table_adds_up_by_category():
    relabelled = with_segments(A, replace(HAND_LEFT, category_id=2), TABLE_RIGHT)
    _, summary = compared(side(A, B), side(relabelled, with_segments(B)))
    header, rows = class_rows(summary)
    assert header[0] == "category"
    assert rows == [
        ("hand", "2", "0", "0", "2", "0", ""),
        ("table", "1", "2", "1", "0", "0", ""),
        ("all", "3", "2", "1", "2", "0", ""),
    ]
    assert image_rows(summary)[1] == [("images", "2", "2", "0", "0", "0", "0", "0")]


def test_the_mask_that_changed_most_is_named():
    worse = with_segments(B, replace(B.segments[0], segmentation=box(18, 0, 10, 6)))
    _, summary = compared(side(A, B), side(with_segments(A, SMALLER, TABLE_RIGHT), worse))
    assert summary.masks.mean_iou == pytest.approx(0.75)
    assert "the mask that changed most is in b.jpg: IoU 0.600" in list(lines(summary))


def test_an_iou_below_one_is_never_shown_as_one():
    big = Sample(1, "a.jpg", 100, 100, (Segment(1, 1, ((0.0, 0, 100, 0, 100, 100, 0, 100),)),))
    less = replace(big.segments[0], segmentation=((0.0, 0, 100, 0, 100, 100, 1, 100, 0, 99),))
    _, summary = compared(side(big), side(with_segments(big, less)))
    assert 0.999 < summary.masks.mean_iou < 1
    assert "mean IoU 0.999" in verdict(summary).reasons[0]


def test_images_out_of_order_are_refused():
    with pytest.raises(FormatError, match="sorted"):
        compared(side(B, A), side(A, B))


def test_a_section_of_a_changelog():
    _, summary = compared(side(A, B), side(with_segments(A, SMALLER, TABLE_RIGHT), B))
    assert section("2.0.0", "hands 1.0.0", summary) == (
        "## 2.0.0\n\nA major version, compared with hands 1.0.0.\n\n### Changed\n\n"
        "- 1 mask changed, mean IoU 0.900\n\n"
        "| category | before | after | added | removed | changed | mean IoU |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| hand | 2 | 2 | 0 | 0 | 1 | 0.900 |\n"
        "| all | 3 | 3 | 0 | 0 | 1 | 0.900 |\n"
    )


def test_a_label_cannot_break_out_of_the_section():
    evil = Category(3, "a|b\n## 9.9.9 <script>")
    _, summary = compared(side(A), side(A, categories=(HAND, TABLE, evil)))
    text = section("1.1.0", "hands 1.0.0", summary)
    assert text.count("\n## ") == 0
    assert "\\|" in text
    assert "\\<script\\>" in text


def test_the_newest_section_is_on_top_and_is_written_again_in_its_place():
    first = with_section("", "## 1.0.0\n\nfirst\n")
    assert first == "# Changelog\n\n## 1.0.0\n\nfirst\n"
    both = with_section(first, "## 1.1.0\n\nsecond\n")
    assert both == "# Changelog\n\n## 1.1.0\n\nsecond\n\n## 1.0.0\n\nfirst\n"
    assert with_section(both, "## 1.1.0\n\nsecond\n") == both
    kept = with_section("# Ours\n\nwords\n\n## 1.0.0\n\nby hand\n", "## 1.1.0\n\nx\n")
    assert kept.startswith("# Ours\n\nwords\n\n## 1.1.0")
    assert kept.endswith("by hand\n")


@pytest.mark.parametrize(
    ("version", "major", "minor", "patch"),
    [("1.2.3", "2.0.0", "1.3.0", "1.2.4"), ("0.2.3", "0.3.0", "0.2.4", "0.2.4")],
)
def test_numbers_rise_as_ranges_understand_them(version, major, minor, patch):
    after = Version.parse(version).after
    assert [str(after("major")), str(after("minor")), str(after("patch"))] == [major, minor, patch]


@given(datasets())
def test_a_version_does_not_differ_from_itself(dataset):
    changes, summary = compared(
        Side(dataset.categories, dataset), Side(dataset.categories, dataset)
    )
    assert changes == []
    assert (summary.counts.total(), summary.categories) == (0, ())
    assert verdict(summary).level == "patch"


@given(datasets(), datasets())
def test_what_came_and_what_went_explain_the_counts(old: Dataset, new: Dataset):
    changes, summary = compared(Side(old.categories, old), Side(new.categories, new))
    counts = summary.counts
    assert len(new) - len(old) == counts["added"] - counts["removed"]
    assert (summary.before, summary.after) == (len(old), len(new))
    for c in [*summary.classes.values(), summary.masks]:
        assert c.after - c.before == c.added - c.removed
        assert c.masks == 0 or 0 < c.mean_iou < 1 or counts["resized"]
    assert len({c.file_name for c in changes}) == len(changes)


@given(datasets(), datasets())
def test_the_way_back_undoes_it(old: Dataset, new: Dataset):
    there = compared(Side(old.categories, old), Side(new.categories, new))[1].counts
    back = compared(Side(new.categories, new), Side(old.categories, old))[1].counts
    assert there["added"] == back["removed"]
    assert there["removed"] == back["added"]
    assert (there["moved"], there["resized"]) == (back["moved"], back["resized"])


@given(datasets(), st.data())
def test_the_order_of_segments_means_nothing(dataset, data):
    shuffled = [replace(s, segments=tuple(data.draw(st.permutations(s.segments)))) for s in dataset]
    changes, _ = compared(Side(dataset.categories, dataset), Side(dataset.categories, shuffled))
    assert changes == []
