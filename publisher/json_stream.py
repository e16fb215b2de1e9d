"""
JSON documents of any size, read a window of whole elements at a time.

A document is an object whose lists may be longer than memory: COCO's. Where one element
ends is found without a loop over bytes: a window is cut where an element seems to begin,
and msgspec judges. A list closed at the cut is valid JSON only if the cut lies between two
elements; inside a string or an inner list, something stays open. Where the guess is wrong,
quotes and brackets are counted with numpy, which is exact and some four times slower.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from .errors import FormatError
from .files import json_error

WINDOW = 2**21  # bytes that are looked at together
MAX_KEYS = 200  # at the top level
MAX_ELEMENT = 2**26  # bytes of one element of a list, or of a value that is no list
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\n\r"
_HEAD = re.compile(rb'\{[ \t\n\r]*"[^"\\]{1,64}"')  # how an element begins: its first key
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(rb"[^,\]} \t\n\r]*")
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_raws = msgspec.json.Decoder(list[Raw])
_raw = msgspec.json.Decoder(Raw)


@dataclass(frozen=True, slots=True)
class Window:
    """
    Some whole elements of a list at the top level of a document, or one other value.

    `text` is a JSON list of the `items`, and lies in the file from `at` on. An item that is
    no JSON has its reason in `faults`, by its position in the list, and is a null in both;
    such a window lies nowhere as it is, and `at` is -1.
    """

    key: str
    first: int | None  # position in the list of the first item; None: the value is no list
    items: list[Raw]
    text: bytes
    at: int
    faults: dict[int, FormatError] = field(default_factory=dict)


def places(window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where in `text` each item begins, and how long it is."""
    text = window.text
    sizes = np.fromiter(map(len, window.items), np.int64, len(window.items))
    if not len(sizes):
        return sizes, sizes
    first = len(text) - len(text[1:].lstrip(_SPACE))
    gap = _GAP.match(text, first + int(sizes[0]))
    assert gap is not None
    wide = len(gap.group())
    starts = first + np.cumsum(sizes) - sizes + wide * np.arange(len(sizes))
    if int(starts[-1]) < len(text):  # most files put the same between any two
        characters = np.frombuffer(text, dtype=np.uint8)
        between = (starts + sizes)[:-1, None] + np.arange(wide)
        same = (characters[between] == np.frombuffer(gap.group(), dtype=np.uint8)).all()
        if same and not np.isin(characters[starts], _BETWEEN).any():
            return starts, sizes
    at = first
    for i, size in enumerate(sizes.tolist()):
        starts[i] = at
        found = _GAP.match(text, at + size)
        assert found is not None
        at = found.end()
    return starts, sizes


_GAP = re.compile(rb"[ \t\n\r,]*")
_BETWEEN = np.frombuffer(b" \t\n\r,", dtype=np.uint8)


class Document:
    """
    A JSON object as windows over its values, in the order of the file.

    Once all windows have been seen, `remarks` tells what was passed over without loss, a byte
    order mark (J008) and small values that are there twice (J003); `rest` is whether data
    follow the end.
    """

    def __init__(self, stream: BinaryIO, *, window: int = WINDOW) -> None:
        self._stream = stream
        self._window = window
        self._data = b""  # what has been read and not yet given
        self._at = 0  # where in the file it begins
        self._ended = False
        self.remarks: list[FormatError] = []
        self.rest = False

    def windows(self) -> Iterator[Window]:
        """
        Everything, in windows.

        A list gives at least one window, which may be empty.

        Raises:
            FormatError: J001, it is not JSON; J002, it is no object or has a list twice;
                J006, one element is larger than `MAX_ELEMENT`.
        """
        self._open()
        kinds: dict[str, bool] = {}  # is the value of a key a list?
        while (key := self._key(first=not kinds)) is not None:
            is_list = self._peek() == b"["
            self._note_twice(key, is_list, kinds)
            if is_list:
                self._drop(1)
                yield from self._elements(key)
            else:
                text = self._value()
                yield Window(key, None, [Raw(text)], b"[" + text + b"]", -1)
        self.rest = bool(self._peek())

    def _open(self) -> None:
        self._grow()
        if self._data.startswith(_BOM):
            self._drop(len(_BOM))
            said = "the file begins with a byte order mark"
            self.remarks.append(FormatError(said, code="J008"))
        match self._peek():
            case b"{":
                self._drop(1)
            case byte if byte and byte in b'["-0123456789tfn':
                raise FormatError("the top level of the JSON is not an object")
            case _:
                raise self._broken("an object should begin")

    def _key(self, *, first: bool) -> str | None:
        """The next key, with its colon passed; None at the end of the object."""
        byte = self._peek()
        if byte == b"}":
            self._drop(1)
            return None
        if not first:
            if byte != b",":
                raise self._broken("expected ',' or '}'")
            self._drop(1)
            byte = self._peek()
        if byte != b'"':
            raise self._broken("expected a key")
        text = self._value()
        if self._peek() != b":":
            raise self._broken("expected ':'")
        self._drop(1)
        try:
            return str(msgspec.json.decode(text, type=str))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise json_error(error, text) from None

    def _note_twice(self, key: str, is_list: bool, kinds: dict[str, bool]) -> None:
        if kinds.get(key) or (is_list and key in kinds):
            raise FormatError(f"{key!r} is there twice, which one counts?", code="J002")
        if len(kinds) > MAX_KEYS:
            raise FormatError(f"more than {MAX_KEYS} keys at the top level")
        if key in kinds:
            said = f"key {key!r} is there twice; the last one counts"
            self.remarks.append(FormatError(said, code="J003"))
        kinds[key] = is_list

    # ── values ───────────────────────────────────────────────────────────────────────────────

    def _value(self) -> bytes:
        """The next value that is no list, checked; moves behind it."""
        while (end := _value_end(self._data)) is None or (
            end == len(self._data) and not self._ended
        ):
            if self._ended:
                raise self._broken("the file ends too early")
            self._grow()
        text = self._data[:end]
        try:
            _raw.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise json_error(error, text, self._at) from None
        self._drop(end)
        return text

    def _elements(self, key: str) -> Iterator[Window]:
        """A list whose opening bracket has been passed."""
        if self._peek() == b"]":
            self._drop(1)
            yield Window(key, 0, [], b"[]", -1)
            return
        first, closed = 0, False
        while not closed:
            if self._peek() in (b"]", b","):
                raise self._broken("expected a value")
            window, closed = self._next(key, first)
            yield window
            first += len(window.items)

    def _next(self, key: str, first: int) -> tuple[Window, bool]:
        """As many whole elements as lie in a window; does the list end behind them?"""
        self._read(self._window)
        if (guessed := self._guess()) is not None:
            items, text, begin = guessed
            window = Window(key, first, items, text, self._at - 1)
            self._drop(begin)
            return window, False
        if (ending := self._ending()) is not None:
            items, text = ending
            window = Window(key, first, items, text, self._at - 1)
            self._drop(len(text) - 1)
            return window, True
        while True:
            commas, end = _separators(self._data)
            if end is not None or commas:
                break
            if self._ended:
                raise self._broken("the file ends too early")
            self._grow()
        cut = commas[-1] if end is None else end
        window = self._window_of(key, first, cut, [c for c in commas if c < cut])
        self._drop(cut + 1)
        return window, end is not None

    def _guess(self) -> tuple[list[Raw], bytes, int] | None:
        """Elements up to the last that begins like the first, and where the rest begins."""
        # a cut in the first half would make many small steps through one window
        head = _HEAD.match(self._data)
        if head is None:
            return None
        end = self._data.rfind(head.group(), 1)
        before = self._data[max(end - 256, 0) : end].rstrip(_SPACE)
        if 2 * end < self._window or not before.endswith(b","):
            return None
        cut = end - (min(end, 256) - len(before)) - 1
        text = b"[" + self._data[:cut] + b"]"
        try:
            return _raws.decode(text), text, end
        except (msgspec.DecodeError, RecursionError):
            return None

    def _ending(self) -> tuple[list[Raw], bytes] | None:
        """All elements that are left, where msgspec sees the list end among the data."""
        text = b"[" + self._data
        try:
            return _raws.decode(text), text
        except (msgspec.DecodeError, RecursionError) as error:
            found = _TRAILING.search(str(error))
        if found is None:
            return None
        text = text[: int(found[1]) - 1].rstrip(_SPACE)  # it counts from 1
        try:
            return _raws.decode(text), text
        except (msgspec.DecodeError, RecursionError):
            return None

    def _window_of(self, key: str, first: int, cut: int, commas: list[int]) -> Window:
        text = b"[" + self._data[:cut] + b"]"
        try:
            return Window(key, first, _raws.decode(text), text, self._at - 1)
        except (msgspec.DecodeError, RecursionError):
            pass
        faults, texts = {}, []
        for number, (start, stop) in enumerate(
            zip([0, *(c + 1 for c in commas)], [*commas, cut], strict=True), first
        ):
            element = self._data[start:stop].lstrip(_SPACE)
            try:
                _raw.decode(element)
            except (msgspec.DecodeError, RecursionError) as error:
                fault = json_error(error, element, self._at + stop - len(element))
                if fault.code != "J004":  # numbers that are none break nothing around them
                    fault.where = (key, number)
                    raise fault from None
                faults[number], element = fault, b"null"
            texts.append(element)
        text = b"[" + b",".join(texts) + b"]"
        return Window(key, first, _raws.decode(text), text, -1, faults)

    # ── bytes ────────────────────────────────────────────────────────────────────────────────

    def _peek(self) -> bytes:
        """The next byte that is no white space, which is passed; b"" at the end."""
        while True:
            self._data, passed = _stripped(self._data)
            self._at += passed
            if self._data or self._ended:
                return self._data[:1]
            self._read(self._window)

    def _drop(self, n: int) -> None:
        self._data = self._data[n:]
        self._at += n

    def _read(self, size: int) -> None:
        """Have at least `size` bytes, or all that are left."""
        parts, have = [self._data], len(self._data)
        while have < size and not self._ended:
            block = self._stream.read(size - have)
            self._ended = not block
            parts.append(block)
            have += len(block)
        if len(parts) > 1:
            self._data = b"".join(parts)

    def _grow(self) -> None:
        """Have twice as much as now."""
        if len(self._data) > MAX_ELEMENT:
            raise FormatError(f"one element is larger than {MAX_ELEMENT:,} bytes", code="J006")
        self._read(max(2 * len(self._data), self._window))

    def _broken(self, what: str) -> FormatError:
        return FormatError(f"not valid JSON: {what} (byte {self._at})", code="J001")


def _stripped(data: bytes) -> tuple[bytes, int]:
    rest = data if data[:1] not in _SPACES else data.lstrip(_SPACE)
    return rest, len(data) - len(rest)


_SHORT = 2**12  # bytes
_SPACES = {b" ", b"\t", b"\n", b"\r"}
_DEPTH = np.zeros(256, dtype=np.int8)
_DEPTH[[ord("["), ord("{")]] = 1
_DEPTH[[ord("]"), ord("}")]] = -1
_STRUCTURAL = np.zeros(256, dtype=np.bool_)
_STRUCTURAL[[ord(c) for c in "[]{},"]] = True


def _separators(data: bytes) -> tuple[list[int], int | None]:
    """
    Of the inside of a list: where its own commas are, and the bracket that closes it.

    Exact for valid JSON; what is none is refused by whoever decodes the pieces.
    """
    marks, depth = levels(data)
    closing = np.flatnonzero(depth < 0)
    end = int(marks[closing[0]]) if len(closing) else None
    own = marks[(depth == 0) & (np.frombuffer(data, np.uint8)[marks] == ord(","))]
    return (own if end is None else own[own < end]).tolist(), end


def _value_end(data: bytes) -> int | None:
    """Where the value ends with which the data begin, or None where it goes on."""
    if data[:1] == b'"':
        string = _STRING.match(data)
        return string.end() if string else None
    if data[:1] not in (b"{", b"["):
        found = _SCALAR.match(data)
        return found.end() if found else 0
    for part in (data[:_SHORT], data):  # most values are short, and windows are not
        marks, depth = levels(part)
        closing = np.flatnonzero((depth == 0) & (np.frombuffer(part, np.uint8)[marks] != ord(",")))
        if len(closing):
            return int(marks[closing[0]]) + 1
    return None


def levels(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Brackets, braces and commas outside strings, and how deep they leave us."""
    characters = np.frombuffer(_without_escapes(data), dtype=np.uint8)
    marks = np.flatnonzero(_STRUCTURAL[characters])
    quotes = np.flatnonzero(characters == ord('"'))
    marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    return marks, np.cumsum(_DEPTH[characters[marks]], dtype=np.int64)


def _without_escapes(data: bytes) -> bytes:
    """The same length without escaped quotes; pairs of backslashes go first."""
    return data.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in data else data
