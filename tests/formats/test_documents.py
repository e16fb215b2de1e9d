"""The keys of a JSON object, by its first bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.files import open_tree
from publisher.formats.documents import top_keys


@pytest.fixture(scope="module")
def keys_of(tmp_path_factory):
    path = tmp_path_factory.mktemp("documents") / "a.json"

    def found(body: bytes) -> tuple[set[str], bool]:
        path.write_bytes(body)
        with open_tree(path) as tree:
            keys, whole = top_keys(tree, "a.json")
        return set(keys), whole

    return found


VALUES = st.recursive(
    st.none() | st.integers() | st.text('ab"\\{}[],: '),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy{:"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("ab{}[],: "), VALUES, max_size=4), st.sampled_from([None, 1]))
def test_they_are_those_at_the_top(keys_of, said, indent):
    assert keys_of(json.dumps(said, indent=indent).encode()) == (set(said), True)


def test_a_byte_order_mark_is_passed_over(keys_of):
    assert keys_of(b'\xef\xbb\xbf {"a": {"b": 1}, "c" : [{"d": 2}]}') == ({"a", "c"}, True)


@pytest.mark.parametrize("body", [b"", b"[]", b'[{"a": 1}]', b'"a"', b"no JSON", b"\x89PNG"])
def test_what_is_no_object_has_none(keys_of, body):
    assert keys_of(body) == (set(), True)


def test_of_a_long_file_those_of_its_beginning_are_seen(keys_of):
    long = b'{"first": "' + b"x" * 2**17 + b'", "second": ["' + b"y" * 2**17 + b'"], "third": 1}'
    assert keys_of(long) == ({"first", "second"}, False)
