"""Splits: append-only, balanced, and no group is ever torn apart."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher import split, workspace
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError, InvalidDataset, UsageError
from publisher.stages import dealing

RATIOS = {"train": 0.8, "val": 0.1, "test": 0.1}
CATEGORIES = tuple(Category(i, f"c{i}") for i in (1, 2, 3))


def sample(name, group=None, classes=(1,), said=None) -> Sample:
    segments = tuple(Segment(i, c, ((0.0, 0, 2, 0, 2, 2),)) for i, c in enumerate(classes, 1))
    return Sample(1, name, 4, 4, segments, group, said)


def dataset(*samples: Sample) -> Dataset:
    return Dataset("d", CATEGORIES, tuple(samples))


def videos(count, frames=4):
    names = (f"v{v:03}/f{f}.jpg" for v in range(count) for f in range(frames))
    return [sample(n, n.split("/")[0], (1 + hash_of(n) % 3,)) for n in names]


def hash_of(text):
    return sum(text.encode())


def test_ratios_are_kept_to_within_a_group():
    assigned = split.assign(dataset(*videos(100)), RATIOS)
    counts = Counter(a.split for a in assigned)
    assert counts == {"train": 80, "val": 10, "test": 10}


def test_ten_percent_more_videos_move_none_of_the_old():
    old = split.assign(dataset(*videos(100)), RATIOS)
    new = split.assign(dataset(*videos(110)), RATIOS, old)
    assert set(old) < set(new)
    assert len(new) == 110


def test_a_rare_class_reaches_every_split():
    rare = [sample(f"r{i}.jpg", None, (3,)) for i in range(10)]
    common = [sample(f"c{i}.jpg", None, (1, 1, 2)) for i in range(90)]
    where = {a.group: a.split for a in split.assign(dataset(*common, *rare), RATIOS)}
    assert Counter(where[s.file_name] for s in rare) == {"train": 8, "val": 1, "test": 1}


def test_the_order_of_the_data_does_not_matter():
    data = videos(30)
    assert split.assign(dataset(*data), RATIOS) == split.assign(dataset(*data[::-1]), RATIOS)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sets(st.integers(1, 3))), min_size=8, max_size=40
    ),
    st.integers(0, 8),
)
def test_a_group_is_never_torn_apart_and_a_lock_never_changes(data, cut):
    samples = [sample(f"{i}.jpg", g, tuple(c)) for i, (g, c) in enumerate(data)]
    ratios = {"train": 1.0} if len({g for g, _ in data}) < 3 else RATIOS
    old = dataset(*samples[:cut])
    locked = split.assign(old, {"train": 1.0}) if cut else ()
    assigned = split.assign(dataset(*samples), ratios if not cut else {"train": 1.0}, locked)
    assert set(locked) <= set(assigned)
    splits = {a.group: a.split for a in assigned}
    found = defaultdict(set)
    for s in samples:
        found[s.group].add(split.apply(s, splits).split)
    assert all(len(names) == 1 for names in found.values())


def test_what_the_annotator_said_counts():
    said = [replace(s, split="test") for s in videos(1)]
    assigned = split.assign(dataset(*said, *videos(20)[4:]), RATIOS)
    assert split.Assignment("v000", "test", "subset") in assigned


def test_a_group_that_comes_torn_apart_is_refused():
    torn = [sample("a.jpg", "v", said="train"), sample("b.jpg", "v", said="test")]
    with pytest.raises(InvalidDataset, match="group 'v' is in several splits: test, train"):
        split.assign(dataset(*torn), RATIOS)


def test_too_few_groups_are_refused_rather_than_torn():
    with pytest.raises(InvalidDataset, match=r"2 group\(s\) cannot fill 3 splits"):
        split.assign(dataset(*videos(2)), RATIOS)


def test_a_group_that_is_gone_keeps_its_line():
    gone = split.Assignment("deleted video", "test", "dealt")
    assert gone in split.assign(dataset(*videos(20)), RATIOS, [gone])


@pytest.mark.parametrize("text", ["", "train", "train=2", "train=0.5,val=0.4", "a b=1", "x=-1,y=2"])
def test_bad_ratios_are_a_usage_error(text):
    with pytest.raises(UsageError):
        split.parse_ratios(text)


def test_a_lock_that_assigns_a_group_twice_is_refused():
    line = json.dumps({"group": "a", "split": "train", "reason": "dealt"}).encode()
    other = line.replace(b"train", b"test")
    with pytest.raises(FormatError, match="group 'a' is assigned 2 times"):
        split.parse_lock(line + b"\n" + other)


def test_the_command_writes_the_lock_and_keeps_to_it(tmp_path):
    workspace.write(tmp_path / "in", dataset(*videos(20)))
    first = dealing.run(tmp_path / "in", tmp_path / "out", "train=0.8,val=0.2", tmp_path / "lock")
    lock = (tmp_path / "lock").read_bytes()
    out = (tmp_path / "out" / "samples.jsonl").read_bytes()
    again = dealing.run(tmp_path / "in", tmp_path / "out", "train=0.8,val=0.2", tmp_path / "lock")
    assert (first.new, first.old, again.new, again.old) == (20, 0, 0, 20)
    assert (tmp_path / "lock").read_bytes() == lock
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == out
    workspace.write(tmp_path / "more", dataset(*videos(25)))
    dealing.run(tmp_path / "more", tmp_path / "out", "train=0.8,val=0.2", tmp_path / "lock")
    assert set(lock.splitlines()) < set((tmp_path / "lock").read_bytes().splitlines())
