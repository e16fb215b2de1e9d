from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.errors import UsageError
from publisher.versions.version import (
    Caret,
    Channel,
    Reference,
    RootPrefix,
    Version,
    parse_selector,
)

numbers = st.integers(0, 20)
parts = st.one_of(numbers, st.text("ab-", min_size=1, max_size=3))
versions = st.builds(Version, numbers, numbers, numbers, st.lists(parts, max_size=3).map(tuple))


@given(versions)
def test_text_and_back(version):
    assert Version.parse(str(version)) == version


@given(versions, versions, versions)
def test_precedence_is_a_total_order(a, b, c):
    assert (a < b) + (a == b) + (a > b) == 1
    assert not (a < b < c) or a < c


def test_the_example_of_semver_org():
    texts = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 "
    texts += "1.0.0-rc.1 1.0.0 1.0.1 1.2.0 1.10.0 2.0.0"
    ranked = [Version.parse(t) for t in texts.split()]
    assert all(a < b for a, b in pairwise(ranked))


@pytest.mark.parametrize(
    "text",
    ["1", "1.0", "v1.0.0", "01.0.0", "1.0.0-", "1.0.0-a..b", "1.0.0-01", "1.0.0+b", "1.0.0 ", "",
     "1.0.0\n", "-1.0.0", "1.0.99999999999", "1.0.0-" + "a" * 99, "١.0.0"],
)  # fmt: skip
def test_what_is_no_version(text):
    with pytest.raises(UsageError, match="not a version"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("caret", "inside", "outside"),
    [
        ("^1", "1.9.9", "2.0.0"),
        ("^1.2", "1.2.0", "1.1.9"),
        ("^1.2.3", "1.3.0", "1.2.2"),
        ("^0.2", "0.2.9", "0.3.0"),
        ("^0.2.3", "0.2.3", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0", "0.9.0", "1.0.0"),
        ("^0.0", "0.0.9", "0.1.0"),
        ("^1.2", "1.2.1", "1.3.0-rc.1"),
    ],
)
def test_caret_ranges(caret, inside, outside):
    assert Version.parse(inside) in Caret.parse(caret)
    assert Version.parse(outside) not in Caret.parse(caret)


@pytest.mark.parametrize(
    ("text", "remote", "name", "selector"),
    [
        ("s3://b-1/hands", "s3://b-1", "hands", Channel("latest")),
        ("s3://bucket/a/b/hands@1.2.0", "s3://bucket/a/b", "hands", Version(1, 2, 0)),
        ("s3://bucket/a@b/hands@stable", "s3://bucket/a@b", "hands", Channel("stable")),
        ("s3://bucket/hands@^1.2", "s3://bucket", "hands", Caret.parse("^1.2")),
        ("s3://bucket/hands@sha256:0123abcd", "s3://bucket", "hands", RootPrefix("0123abcd")),
        ("file:///data/x y/hands@latest", "file:///data/x y", "hands", Channel("latest")),
    ],
)
def test_references(text, remote, name, selector):
    assert Reference.parse(text) == Reference(remote, name, selector)
    assert Reference.parse(str(Reference.parse(text))) == Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    ["hands", "s3://hands", "s3://bucket/", "https://bucket/hands", "file://hands", "/data/hands",
     "s3://bucket/Hands", "s3://bucket/hands@", "s3://bucket/hands@v1.0.0", "s3://bucket/../hands",
     "s3://bucket/hands@1.0", "s3://bucket/hands@sha256:abc", "s3://bucket/hands@sha256:XYZ01234",
     "s3://bucket/" + "a" * 65, "s3://bucket/hands@>=1", "s3://bucket//hands", "file:///hands"],
)  # fmt: skip
def test_malformed_references(text):
    with pytest.raises(UsageError):
        Reference.parse(text)


def test_a_secret_in_a_reference_is_not_repeated():
    with pytest.raises(UsageError) as caught:
        Reference.parse("s3://AKIA:canary@bucket/hands")
    assert "canary" not in f"{caught.value}{caught.value.hint}"


@given(st.text(max_size=20))
def test_any_text_is_a_selector_or_a_usage_error(text):
    with suppress(UsageError):
        assert str(parse_selector(text)) == text
