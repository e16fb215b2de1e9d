"""Large JSON documents in windows: the same elements as json.loads gives, whatever the window."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from publisher import json_stream
from publisher.errors import FormatError
from publisher.json_stream import Document, places

TEXT = st.text(st.sampled_from('ab"\\{}[],: \né手😀'), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.fixed_dictionaries({"id": st.integers(0, 9)}, optional={"x": VALUES, "id2": VALUES})
DOCUMENTS = st.dictionaries(TEXT, VALUES | st.lists(VALUES | RECORDS, max_size=8), max_size=5)
LAYOUTS = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def read(body: bytes, window: int = 64) -> dict:
    """The document put together again from its windows."""
    found: dict = {}
    for w in Document(io.BytesIO(body), window=window).windows():
        items = [json.loads(bytes(memoryview(i))) for i in w.items]
        assert items == json.loads(w.text)
        for start, size, item in zip(*places(w), items, strict=True):
            assert json.loads(w.text[start : start + size]) == item
            if w.at >= 0:
                assert json.loads(body[w.at + start : w.at + start + size]) == item
        if w.first is None:
            found[w.key] = items[0]
        else:
            assert w.first == len(found.setdefault(w.key, []))
            found[w.key] += items
    return found


@settings(deadline=None)
@given(DOCUMENTS, LAYOUTS, st.integers(1, 200))
@example({"a": [{"b": "},{"}, {"b": "]"}, {"b": '\\"'}]}, {}, 3)
def test_windows_give_what_json_loads_gives(document, layout, window):
    assert read(json.dumps(document, **layout).encode(), window) == document


@settings(deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=5), LAYOUTS, st.integers(20, 400))
def test_lists_of_records_come_whole_in_any_window(records, layout, window):
    records = records * 9
    document = {"annotations": records, "images": records[:3], "categories": []}
    assert read(json.dumps(document, **layout).encode(), window) == document


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(1, 100))
def test_damaged_documents_are_refused_where_json_loads_refuses_them(noise, at, window):
    records = [{"id": n, "name": 'a "b" \\', "segmentation": [[1, 2.5, 3]]} for n in range(9)]
    body = json.dumps({"annotations": records, "info": {}, "images": []}).encode()
    at %= len(body)
    body = body[:at] + noise + body[at + len(noise) :]
    try:
        found = read(body, window)
    except (FormatError, UnicodeDecodeError):  # strings are decoded by whoever wants them
        return
    try:
        expected = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return  # data behind the end, and NaN in one element, do not spoil the rest
    assert found.keys() == expected.keys()


def windows(body: bytes, window: int = 64) -> Document:
    document = Document(io.BytesIO(body), window=window)
    for _ in document.windows():
        pass
    return document


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "an object should begin"),
        (b"\xff\xfe{", "an object should begin"),
        (b"[1]", "not an object"),
        (b"[" * 100_000, "not an object"),
        (b'{"a": ' + b"[" * 100_000, "ends too early"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "recursion"),
        (b'{"a": [1, 2', "ends too early"),
        (b'{"a": [1, 2,]}', "not valid JSON"),
        (b'{"a": [1,, 2]}', "not valid JSON"),
        (b'{"a": [, 2]}', "not valid JSON"),
        (b'{"a": [1 2]}', r"a\[0\]: not valid JSON"),
        (b'{"a": [{"b": 1}, {"b": tru}]}', r"a\[1\]: not valid JSON"),
        (b'{"a": {"b": 1}', "expected ',' or '}'"),
        (b'{"a" 1}', "expected ':'"),
        (b'{"a": 1, }', "expected a key"),
        (b"{a: 1}", "expected a key"),
        (b'{"a": NaN}', "no numbers in JSON"),
        (b'{"a": [], "a": []}', "there twice"),
        (b'{"a": 1, "a": []}', "there twice"),
    ],
)
@pytest.mark.parametrize("window", [1, 30, 2**20])
def test_what_is_no_json_object_is_refused_with_the_place(body, said, window):
    with pytest.raises(FormatError, match=said):
        windows(body, window)


def test_a_number_that_is_none_costs_its_element_only():
    body = b'{"a": [{"b": 1}, {"b": NaN}, {"b": -Infinity}, {"b": 2}]}'
    (window,) = Document(io.BytesIO(body)).windows()
    assert json.loads(window.text) == [{"b": 1}, None, None, {"b": 2}]
    assert {n: f.code for n, f in window.faults.items()} == {1: "J004", 2: "J004"}
    assert "byte 23" in str(window.faults[1])


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b'{"a": []}  \n', []),
        (b'\xef\xbb\xbf{"a": []}', ["J008"]),
        (b'{"a": 1, "b": [], "a": 2}', ["J003"]),
    ],
)
def test_what_was_passed_over_is_said(body, codes):
    assert [r.code for r in windows(body).remarks] == codes


def test_data_behind_the_end_are_seen():
    assert windows(b'{"a": []} {"a": []}').rest
    assert not windows(b'{"a": []} \n').rest


def test_an_element_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_ELEMENT", 1000)
    with pytest.raises(FormatError, match="larger than 1,000") as e:
        windows(b'{"a": [{"b": "' + b"x" * 5000 + b'"}]}')
    assert e.value.code == "J006"
    assert not windows(b'{"a": [{"b": "' + b"x" * 500 + b'"}]}').remarks
