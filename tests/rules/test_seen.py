"""What is remembered of samples is what was seen of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.rules import seen
from publisher.rules.seen import Memory, Numbers, Seen

TEXT = st.text(st.characters(), max_size=6)  # lone surrogates, too
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex) | TEXT
SEEN = st.builds(
    Seen,
    st.integers(),
    TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
    st.frozensets(st.integers(0, 5), max_size=3),
    st.integers(0, 99),
)


@pytest.fixture(autouse=True, params=[3, 1024], ids=["many blocks", "one block"])
def together(request, monkeypatch):
    monkeypatch.setattr(seen, "_TOGETHER", request.param)


@st.composite
def looked_at(draw) -> Seen:
    s, dhash = draw(SEEN), draw(st.integers(0, 2**64 - 1))
    return Seen(s.id, s.file_name, s.split, s.group, s.categories, s.segments, draw(DIGESTS), dhash)


@settings(deadline=None)
@given(st.lists(SEEN | looked_at(), max_size=12))
def test_everything_comes_back(samples):
    memory = Memory()
    for s in samples:
        memory.append(s)
    assert list(memory) == samples
    assert memory[1:] == samples[1:]
    assert [memory[i] for i in range(len(memory))] == samples


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(0, 4), max_size=12))
def test_samples_that_share_a_key_come_after_the_first_that_has_it(keys):
    memory = Memory()
    for at, key in enumerate(keys):
        memory.append(Seen(at, str(key), None, None, frozenset(), 0))
    found = memory.repeated(lambda s: None if s.file_name == "None" else s.file_name)
    expected = [
        (keys.index(key), at)
        for at, key in enumerate(keys)
        if key is not None and keys.index(key) < at
    ]
    assert [(first.id, s.id) for first, s in found] == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9) | st.integers(-(2**63), 2**63 - 1)), max_size=6))
def test_numbers_come_back_in_order(blocks):
    numbers = Numbers()
    seen._BLOCK, before = 4, seen._BLOCK
    try:
        for block in blocks:
            numbers.extend(block)
    finally:
        seen._BLOCK = before
    everything = [n for block in blocks for n in block]
    assert numbers.all().tolist() == everything
    assert not numbers.ascending or everything == sorted(set(everything))
