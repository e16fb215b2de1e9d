"""Datasets that a program made are looked at before any of their names becomes a path."""

from __future__ import annotations

import pytest

import publisher
from publisher import formats
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError

RING = (1.0, 1.0, 9.0, 1.0, 9.0, 9.0)
WRITTEN = sorted(f.name for f in formats.FORMATS.values() if f.write)


def dataset(file_name: str = "a.jpg", split: str | None = None, category: int = 1) -> Dataset:
    segments = (Segment(1, category, (RING,)),)
    sample = Sample(1, file_name, 20, 30, segments, split=split)
    return Dataset("hands", (Category(1, "hand"),), (sample,))


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize(
    "wrong",
    [
        {"file_name": "../a.jpg"},
        {"file_name": "/a.jpg"},
        {"split": ".."},
        {"split": "x/y"},
        {"split": ""},
    ],
    ids=str,
)
def test_nothing_is_written_outside_of_the_folder(tmp_path, target, wrong):
    with pytest.raises(FormatError) as caught:
        publisher.write(dataset(**wrong), tmp_path / "deep/out", target)
    assert caught.value.code == "I109"
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("target", [*WRITTEN, "publisher"])
def test_a_segment_of_no_category_is_named(tmp_path, target):
    with pytest.raises(FormatError, match=r"a.jpg.*no category has id 7") as caught:
        publisher.write(dataset(category=7), tmp_path / "out", target)
    assert caught.value.code == "A304"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", WRITTEN)
def test_a_sound_one_is_written(tmp_path, target):
    assert not publisher.write(dataset(split="train"), tmp_path / "out", target)
    assert len(publisher.read(tmp_path / "out")[0].segments) == 1


@pytest.mark.parametrize("target", ["cvat", "datumaro", "labelme", "yolo"])
def test_two_categories_of_one_name_are_not_merged_unsaid(tmp_path, target):
    twice = Dataset("d", (Category(1, "a"), Category(2, "a")), ())
    with pytest.raises(FormatError) as caught:
        publisher.write(twice, tmp_path / "out", target)
    assert caught.value.code == "C202"
    assert not (tmp_path / "out").exists()
