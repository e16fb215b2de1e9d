"""What is put aside comes back as it was, whatever fits into memory."""

from __future__ import annotations

import errno
from collections import Counter
from itertools import pairwise
from operator import itemgetter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from publisher import columns, spill
from publisher.columns import Column, Ids, Rows, Texts
from publisher.errors import UsageError
from publisher.spill import Many, Spill, joined

KIND = np.dtype([("owner", "<i4"), ("number", "<i4")])
IDS = st.integers(-3, 30) | st.integers(-(2**62), 2**62)


@pytest.fixture(autouse=True, params=[8, 2**20], ids=["on disk", "in memory"])
def buffer(request, monkeypatch):
    monkeypatch.setattr(spill, "BUFFER", request.param)
    monkeypatch.setattr(columns, "BUFFER", request.param)
    monkeypatch.setattr(columns, "BUCKET", request.param)
    monkeypatch.setattr(columns, "_TOGETHER", 3 if request.param == 8 else 2**13)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=12), st.integers(0, 60), st.integers(0, 60))
def test_any_part_of_what_was_added_can_be_read(parts, at, size):
    kept, whole = Spill(), b"".join(parts)
    assert [kept.append(p) for p in parts] == [len(b"".join(parts[:n])) for n in range(len(parts))]
    assert len(kept) == len(whole)
    assert kept.read(at, size) == whole[at : at + size]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9), max_size=5))
def test_numbers_come_back_one_by_one_and_in_a_row(blocks):
    kept, numbers = Column(), [n for block in blocks for n in block]
    for block in blocks:
        kept.extend(np.array(block[:4], dtype=np.int64))
        for n in block[4:]:
            kept.append(n)
    assert len(kept) == len(numbers)
    assert [n for chunk in kept.chunks() for n in chunk.tolist()] == numbers
    assert [kept.read(i, 2) for i in range(len(numbers) - 1)] == [*pairwise(numbers)]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=12))
def test_texts_come_back_one_by_one_and_in_a_row(texts):
    kept = Texts()
    for text in texts:
        kept.append(text)
    assert list(kept) == texts
    assert [kept[n] for n in range(len(kept))] == texts


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=9), max_size=6))
def test_rows_come_back_by_owner_in_the_order_they_came(blocks):
    kept, number = Rows(KIND, 10), 0
    expected: dict[int, list[int]] = {n: [] for n in range(10)}
    for owners in blocks:
        rows = np.empty(len(owners), dtype=KIND)
        for i, owner in enumerate(owners):
            rows[i] = owner, number
            expected[owner].append(number)
            number += 1
        kept.put(rows)
    kept.sort()
    assert {n: kept[n]["number"].tolist() for n in range(10)} == expected
    assert list(kept.counts()) == [len(expected[n]) for n in range(10)]


@settings(deadline=None)
@given(st.lists(st.lists(IDS, max_size=9), max_size=6))
def test_ids_that_are_there_twice_are_found(blocks):
    ids = Ids()
    for block in blocks:
        ids.extend(np.array(block, dtype=np.int64))
    everything = [i for block in blocks for i in block]
    assert ids.repeated() == {i: n for i, n in sorted(Counter(everything).items()) if n > 1}
    assert ids.usable == all(0 < i < 2**53 for i in everything)
    assert [i for chunk in ids.chunks() for i in chunk.tolist()] == everything


def test_a_plain_file_is_read_where_it_is(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with path.open("rb") as stream:
        held = Spill.of(stream)
    path.unlink()
    assert held is not None
    assert held.read(3, 4) == b"3456"


# ── many values ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[1, 3, 2**7])
def blocks(request, monkeypatch):
    """Few values a block, few blocks a run, nothing in memory."""
    monkeypatch.setattr(spill, "_TOGETHER", request.param)
    monkeypatch.setattr(spill, "_RUN", 2 * request.param + 1)
    monkeypatch.setattr(spill, "_FEW", 8)


rows = st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=40)
calm = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@calm
@given(rows, st.data())
def test_many_values_come_as_they_went(blocks, some, data):
    many = Many(some)
    assert many == some
    assert many == tuple(some)
    assert list(many) == some
    assert [many[n] for n in range(-len(some), len(some))] == some + some
    start = data.draw(st.integers(0, len(some)))
    stop = data.draw(st.integers(start, len(some)))
    assert many.part(start, stop) == some[start:stop]
    assert list(many.between(start, stop)) == some[start:stop]
    many.append(("more", 1))
    assert many == [*some, ("more", 1)]


@calm
@given(rows)
def test_many_values_are_sorted_as_lists_are(blocks, some):
    first, second = itemgetter(0), itemgetter(1)
    many = Many(some).sorted(first)
    assert many == sorted(some, key=first)
    assert many.sorted(first) is many
    assert many.sorted(second) == sorted(sorted(some, key=first), key=second)
    many.append(("", 0))
    assert many.sorted(first) == sorted([*sorted(some, key=first), ("", 0)], key=first)


@calm
@given(rows, rows)
def test_each_on_the_left_is_joined_with_the_first_of_its_key(blocks, left, right):
    left, right = sorted(left), sorted(right, key=itemgetter(0))
    first = {key: row for row in reversed(right) for key in row[:1]}
    assert list(joined(left, right)) == [(row, first.get(row[0])) for row in left]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_lines_are_what_stands_between_their_ends(body):
    lines = body.split(b"\n")
    assert list(Spill.of_bytes(body).lines()) == (lines if lines[-1] else lines[:-1])


def test_a_full_disk_is_said(monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(UsageError, match="No space left on device") as caught:
        Spill(0).append(b"more")
    assert "TMPDIR" in str(caught.value.hint)
