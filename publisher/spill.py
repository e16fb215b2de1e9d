"""
Put aside what is too much for memory: in a temporary file without a name, gone with its owner.

Little stays in memory, so that small data never touch the disk; `TMPDIR` says where the
rest goes. Nobody else sees it, so to who uses it it is memory: the core may, too.
"""

from __future__ import annotations

import marshal
import os
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain, islice, pairwise, zip_longest
from operator import itemgetter
from typing import Any, BinaryIO, Self, TypeVar

from .errors import UsageError
from .lazy import Lazy

BUFFER = 2**21  # bytes that stay in memory
_BLOCK = 2**16  # bytes that are read at once
_LINE = 2**20  # bytes
_FEW = 2**18  # bytes of many values that stay in memory
_TOGETHER = 2**7  # values that are written and read at once
_RUN = 2**14  # values that are sorted at once

T = TypeVar("T")
L = TypeVar("L")
R = TypeVar("R")
Row = tuple[Any, ...]

_first = itemgetter(0)


class Spill:
    """
    Bytes that can be added to and read again at any place.

    Args:
        most: bytes that stay in memory.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = BUFFER if most is None else most
        self._tail = bytearray()  # what is not yet in the file
        self._written = 0
        self._descriptor = -1

    def __len__(self) -> int:
        return self._written + len(self._tail)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spill):
            return NotImplemented
        return all(a == b for a, b in zip_longest(self.blocks(), other.blocks()))

    __hash__ = None  # type: ignore[assignment]

    def append(self, data: bytes) -> int:
        """Add bytes and tell where they begin."""
        at = len(self)
        self._tail += data
        if len(self._tail) > self._most:
            self._flush()
        return at

    def read(self, at: int, size: int) -> bytes:
        """Bytes that were added before."""
        if at >= self._written:
            return bytes(self._tail[at - self._written : at - self._written + size])
        parts = []
        stop = min(at + size, self._written)
        while at < stop and (part := os.pread(self._descriptor, stop - at, at)):
            parts.append(part)
            at += len(part)
            size -= len(part)
        return b"".join([*parts, bytes(self._tail[:size])])

    def blocks(self) -> Iterator[bytes]:
        """All of it in order, some at a time."""
        for at in range(0, len(self), _BLOCK):
            yield self.read(at, _BLOCK)

    def lines(self) -> Iterator[bytes]:
        """
        All of it by lines, without their ends; what follows the last end is one more.

        A line that is far too long for one of ours comes in pieces.
        """
        rest = b""
        for block in self.blocks():
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
            if len(rest) > _LINE:
                yield rest
                rest = b""
        if rest:
            yield rest

    @classmethod
    def of_bytes(cls, body: bytes | Spill) -> Spill:
        """What is in memory already, and stays there; a spill is itself."""
        if isinstance(body, Spill):
            return body
        found = cls(len(body))
        found.append(body)
        return found

    @classmethod
    def of(cls, stream: BinaryIO) -> Spill | None:
        """What lies in an open file, if the stream is a plain one; it may then be closed."""
        found = cls()
        try:
            found._descriptor = os.dup(stream.fileno())
        except OSError:
            return None
        weakref.finalize(found, os.close, found._descriptor)
        found._written = os.fstat(found._descriptor).st_size
        return found

    def _flush(self) -> None:
        try:
            self._write_out()
        except OSError as error:
            raise UsageError(
                f"there is no room in {tempfile.gettempdir()} for what is too much for memory: "
                f"{error.strerror}",
                hint="TMPDIR says where temporary files go",
            ) from error

    def _write_out(self) -> None:
        if self._descriptor < 0:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._descriptor)
        view = memoryview(self._tail)
        while view:
            n = os.write(self._descriptor, view)
            self._written += n
            view = view[n:]
        self._tail = bytearray()


class Many(Lazy[T]):
    """
    Values in any number, in the order they came, to be read as often as they are needed.

    Each is made of a row of plain values, and looked at it is an object of its own; few of
    them are objects at any time. To compare with a tuple is to compare the items.

    Subclasses say what the values are, by `_rows_of` and `_made_of`; here they are the rows.
    """

    def __init__(self, values: Iterable[T] = ()) -> None:
        self._spill = Spill(_FEW)
        self._ends = array("q", [0])  # of the blocks
        self._last: list[Row] = []  # of the block that is not full
        self._read: tuple[int, list[Row]] = (-1, self._last)  # the block that was asked for last
        self._order: Callable[[Row], Any] | None = None  # by which they are known to be sorted
        self.extend(values)

    @staticmethod
    def _rows_of(values: Iterable[Any]) -> Iterable[Row]:
        return values

    @staticmethod
    def _made_of(rows: Iterable[Row]) -> Iterator[Any]:
        return iter(rows)

    def append(self, value: T) -> None:
        """Add one."""
        self._order = None
        self._last += self._rows_of((value,))
        if len(self._last) == _TOGETHER:
            self._close_block()

    def extend(self, values: Iterable[T]) -> None:
        """Add some, one by one: those before an error are kept."""
        self._extend(self._rows_of(values))

    def sorted(self, key: Callable[[Row], Any] = _first) -> Self:
        """The same values by what `key` gives of a row; equal ones stay in their order."""
        if self._order is key:
            return self
        runs, starts, ascending = type(self)(), [0], True
        rows, last = self._rows(), None
        while run := sorted(islice(rows, _RUN), key=key):
            ascending &= last is None or not key(run[0]) < last
            last = key(run[-1])
            runs._extend(run)
            starts.append(len(runs))
            del run  # before the next one
        found = runs
        if not ascending:
            found = type(self)()
            found._extend(merge(*(runs._rows(*edges) for edges in pairwise(starts)), key=key))
        found._order = key
        return found

    def part(self, start: int, stop: int) -> Part[T]:
        """Some of them that follow each other; they are not copied."""
        return Part(self, start, stop)

    def between(self, start: int, stop: int) -> Iterator[T]:
        """Those from one place on to another."""
        return self._made_of(self._rows(start, stop))

    def __len__(self) -> int:
        return (len(self._ends) - 1) * _TOGETHER + len(self._last)

    def __iter__(self) -> Iterator[T]:
        return self._made_of(self._rows())

    def __eq__(self, other: object) -> bool:
        return _are_equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"

    def _at(self, index: int) -> T:
        number, at = divmod(index, _TOGETHER)
        read = self._read  # of one moment: another thread may ask for another block
        if read[0] != number:
            self._read = read = number, self._block(number)
        found: T = next(self._made_of(read[1][at : at + 1]))
        return found

    def _extend(self, rows: Iterable[Row]) -> None:
        self._order, left = None, iter(rows)
        while True:
            self._last += islice(left, _TOGETHER - len(self._last))
            if len(self._last) < _TOGETHER:
                return
            self._close_block()

    def _close_block(self) -> None:
        self._spill.append(marshal.dumps(self._last))
        self._ends.append(len(self._spill))
        self._last = []

    def _rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        stop = len(self) if stop is None else stop
        first, skipped = divmod(start, _TOGETHER)
        blocks = map(self._block, range(first, -(-stop // _TOGETHER)))
        return islice(chain.from_iterable(blocks), skipped, skipped + stop - start)

    def _block(self, number: int) -> list[Row]:
        if number == len(self._ends) - 1:
            return self._last
        start, stop = self._ends[number : number + 2]
        rows: list[Row] = marshal.loads(self._spill.read(start, stop - start))
        return rows


class Part(Lazy[T]):
    """Some of many values."""

    def __init__(self, whole: Many[T], start: int, stop: int) -> None:
        self._whole = whole
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[T]:
        return self._whole.between(self._start, self._stop)

    def __eq__(self, other: object) -> bool:
        return _are_equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def _at(self, index: int) -> T:
        return self._whole[self._start + index]


def _are_equal(one: Sequence[object], other: object) -> bool:
    if not isinstance(other, Sequence) or isinstance(other, str | bytes):
        return False
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


def joined(
    left: Iterable[L],
    right: Iterable[R],
    by: Callable[[L], Any] = itemgetter(0),  # type: ignore[assignment]
    to: Callable[[R], Any] = itemgetter(0),  # type: ignore[assignment]
) -> Iterator[tuple[L, R | None]]:
    """
    What is left, each with the first on the right of the same key, if there is one.

    Args:
        by: gives the key on the left, to: on the right; both sides are sorted by it.
    """
    others = iter(right)
    other = next(others, None)
    for one in left:
        key = by(one)
        while other is not None and to(other) < key:
            other = next(others, None)
        yield one, other if other is not None and to(other) == key else None
