"""What is put aside comes back as it was, whatever fits into memory."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher import columns, spill
from publisher.columns import Column, Ids, Rows, Texts
from publisher.spill import Spill

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
