"""JSON from outside as readers meet it: told by its first bytes, checked record by record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ..errors import FormatError
from ..files import Tree
from ..json_stream import Document, levels
from ..names import stem

T = TypeVar("T")
Mended = tuple[str, str]  # the code of a rule, and what was set right
_HEAD = 2**18  # bytes
_KEYPOINTS = frozenset({"keypoints", "num_keypoints"})
_KEY = re.compile(rb'[{,]\s*"((?:[^"\\]|\\.)*+)"\s*:', re.S)


def converted(raw: Any, kind: type[T], codes: Sequence[tuple[str, str]] = ()) -> T:
    """
    Check the types of one record.

    Args:
        codes: where a value of the wrong type stands, and the rule that it breaks.

    Raises:
        FormatError: a type is wrong; J005 where `codes` say nothing else.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        code = next((c for spot, c in codes if f"$.{spot}" in text), "J005")
        raise FormatError(text.replace(" - at `$.", " at `"), code=code) from None


def about(key: str, said: Mapping[str, Any], fate: str) -> Iterator[Mended]:
    """What is said of a key that is not the format's."""
    if fate == "not kept":
        yield "J007", f"unknown field {key[:40]!r}; {fate}"
    elif key == "score" and said[key] is not None:
        yield "A320", "a score is there, as if it were a prediction; kept aside"
    elif key not in _KEYPOINTS:
        yield "J007", f"unknown field {key!r}; {fate}"
    elif key == "keypoints" and not _consistent(said):
        yield "A321", "keypoints are not x, y, v each, or num_keypoints is not their number"


def _consistent(said: Mapping[str, Any]) -> bool:
    points, n = said.get("keypoints"), said.get("num_keypoints")
    if not isinstance(points, list) or len(points) % 3:
        return False
    return n is None or n == sum(bool(v) for v in points[2::3])


def info_left(info: Any) -> Iterator[Mended]:
    """What to say where a file tells of its dataset: that belongs into a card."""
    told = sorted(k for k, v in info.items() if v) if isinstance(info, dict) else [str(info or "")]
    if any(told):
        yield "J007", f"info ({', '.join(told)[:80]}) is not kept; say it in the card"


def degrees(said: Any) -> float:
    """
    An angle; 0 where it is no number.

    Raises:
        FormatError: P406, nobody has turned anything by so much.
    """
    if not isinstance(said, int | float):
        return 0.0
    if not abs(said) <= 1e6:
        raise FormatError("rotation is beyond a million degrees", code="P406")
    return float(said)


def listed(tree: Tree, name: str) -> tuple[set[str], set[str]]:
    """
    The images and categories of a COCO document of any kind: file names without extension, names.

    Raises:
        FormatError: it is no JSON object.
    """
    said: dict[str, set[str]] = {"images": set(), "categories": set()}
    try:
        with tree.open(name) as stream:
            for window in Document(stream).windows():
                if window.key in said:
                    found = (_name_of(item) for item in window.items)
                    said[window.key].update(n for n in found if n is not None)
    except FormatError as error:
        error.path = error.path or name
        raise
    return {stem(n) for n in said["images"]}, said["categories"]


def _name_of(item: msgspec.Raw) -> str | None:
    """What a record of an image or a category calls it."""
    try:
        record = _named.decode(item)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record.file_name if record.file_name is not None else record.name


class _Named(msgspec.Struct):
    file_name: str | None = None
    name: str | None = None


_named = msgspec.json.Decoder(_Named)


def begins(tree: Tree, name: str) -> bool:
    """Is a file empty, or can it be one that begins a JSON object?"""
    with tree.open(name) as stream:
        return _start(stream.read(_HEAD)) in (b"", b"{")


def top_keys(tree: Tree, name: str) -> tuple[frozenset[str], bool]:
    """
    The keys of a JSON object that its first 256 KiB show, and whether that was all of it.

    What is no object has no keys. Nothing is decoded: a guess for `detect`, cheap at any size.
    """
    try:
        with tree.open(name) as stream:
            head = stream.read(_HEAD)
            whole = len(head) < _HEAD or not stream.read(1)
    except (FormatError, OSError):
        return frozenset(), True
    if _start(head) != b"{":
        return frozenset(), True
    marks, depth = levels(head)
    found = (_KEY.match(head, at) for at in marks[depth == 1].tolist())
    return frozenset(key[1].decode("utf-8", "replace") for key in found if key), whole


def _start(head: bytes) -> bytes:
    """The first byte that is neither a byte order mark nor space."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
