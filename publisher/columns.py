"""Numbers, rows and texts in any number, put aside as spill.py does it."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from .spill import BUFFER, Spill

BUCKET = 2**23  # bytes that are sorted at once
_TOGETHER = 2**13  # numbers


class Column:
    """Whole numbers of 64 bits, in the order they come."""

    def __init__(self) -> None:
        self._spill = Spill()
        self._last = array("q")  # what is not yet there

    def __len__(self) -> int:
        return len(self._spill) // 8 + len(self._last)

    def append(self, number: int) -> None:
        """Add one."""
        self._last.append(number)
        if len(self._last) >= _TOGETHER:
            self._put()

    def extend(self, numbers: NDArray[np.int64]) -> None:
        """Add some."""
        self._put()
        self._spill.append(numbers.astype("<i8").tobytes())

    def read(self, at: int, count: int = 1) -> tuple[int, ...]:
        """The numbers from place `at` on."""
        self._put()
        return struct.unpack(f"<{count}q", self._spill.read(8 * at, 8 * count))

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """All of them, some thousand at a time."""
        for at in range(0, 8 * len(self), 8 * _TOGETHER):
            self._put()
            yield np.frombuffer(self._spill.read(at, 8 * _TOGETHER), dtype="<i8")

    def _put(self) -> None:
        if self._last:
            numbers, self._last = self._last, array("q")
            self.extend(np.array(numbers, dtype=np.int64))


class Rows:
    """
    Small rows of owners 0 to n - 1, taken in any order and given back owner by owner.

    They are dealt to buckets of neighbouring owners, and each bucket is sorted on its own:
    memory stays the same for any number of rows.
    """

    def __init__(self, kind: np.dtype[np.void], owners: int) -> None:
        """`kind`: a structured type with a field `owner`."""
        self._kind = kind
        self._owners = owners
        self._n = max(1, min(owners, 256))
        self._spill = Spill()
        self._extents: list[list[tuple[int, int]]] = [[] for _ in range(self._n)]
        self._waiting: list[NDArray[np.void]] = []
        self._count = 0
        self._ends: Column | None = None  # of the rows of each owner, after a 0

    def put(self, rows: NDArray[np.void]) -> None:
        """Take some."""
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count * self._kind.itemsize > 2 * BUFFER:
            self._flush()

    def sort(self) -> None:
        """Bring them in the order of their owners, and of one owner in the order they came."""
        self._flush()
        unsorted, self._spill = self._spill, Spill()
        self._ends = Column()
        self._ends.append(0)
        end = first = 0
        for bucket, extents in enumerate(self._extents, start=1):
            parts = [np.frombuffer(unsorted.read(*e), dtype=self._kind) for e in extents]
            rows = np.concatenate([np.empty(0, dtype=self._kind), *parts])
            rows = rows[np.argsort(rows["owner"], kind="stable")]
            beyond = -(-bucket * self._owners // self._n)  # the first owner of the next bucket
            counts = np.bincount(rows["owner"] - first, minlength=beyond - first)
            self._ends.extend(end + np.cumsum(counts))
            self._spill.append(rows.tobytes())
            end, first = end + len(rows), beyond
        self._extents = []

    def __getitem__(self, owner: int) -> NDArray[np.void]:
        """The rows of an owner, once they are sorted."""
        assert self._ends is not None
        start, stop = self._ends.read(owner, 2)
        size = self._kind.itemsize
        body = self._spill.read(start * size, (stop - start) * size)
        return np.frombuffer(body, dtype=self._kind)

    def counts(self) -> Iterator[int]:
        """How many rows each owner has, once they are sorted."""
        assert self._ends is not None
        ends = chain.from_iterable(chunk.tolist() for chunk in self._ends.chunks())
        return (stop - start for start, stop in pairwise(ends))

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        buckets = rows["owner"].astype(np.int64) * self._n // self._owners
        order = np.argsort(buckets, kind="stable")
        rows, buckets = rows[order], buckets[order]
        edges = np.flatnonzero(np.diff(buckets, prepend=-1, append=self._n)).tolist()
        for start, stop in pairwise(edges):
            part = rows[start:stop].tobytes()
            self._extents[int(buckets[start])].append((self._spill.append(part), len(part)))


class Texts:
    """Many short byte strings, one after another."""

    def __init__(self) -> None:
        self._spill = Spill()
        self._starts = Column()

    def append(self, text: bytes) -> None:
        self._starts.append(self._spill.append(text))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> bytes:
        if index == len(self) - 1:
            start, stop = *self._starts.read(index), len(self._spill)
        else:
            start, stop = self._starts.read(index, 2)
        return self._spill.read(start, stop - start)

    def __iter__(self) -> Iterator[bytes]:
        """All in order, read in blocks."""
        edges: list[int] = []
        for starts in self._starts.chunks():
            yield from self._between([*edges[-1:], *starts.tolist()])
            edges = starts.tolist()
        yield from self._between([*edges[-1:], len(self._spill)])

    def _between(self, edges: Sequence[int]) -> Iterator[bytes]:
        """The texts that begin and end at these places."""
        at, block = 0, b""  # where the block begins
        for start, stop in pairwise(edges):
            if stop - at > len(block):
                at, block = start, self._spill.read(start, max(BUFFER, stop - start))
            yield block[start - at : stop - at]


class Ids:
    """
    Numbers in the order they come, to ask which of them come twice.

    Ascending ones, the usual case, need no more than a look; others are dealt to files of
    which each is sorted on its own.
    """

    def __init__(self) -> None:
        self._spill = Spill()
        self._sizes: list[int] = []  # of the chunks
        self._last = -(2**63)
        self.ascending = True
        self.usable = True  # all within 1 to 2^53 - 1

    def extend(self, ids: NDArray[np.int64]) -> None:
        """Add some."""
        if not len(ids):
            return
        self.ascending &= bool(ids[0] > self._last and (ids[1:] > ids[:-1]).all())
        self.usable &= bool(ids.min() > 0 and ids.max() < 2**53)
        self._last = int(ids[-1])
        self._spill.append(ids.astype("<i8").tobytes())
        self._sizes.append(ids.nbytes)

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """All of them, again."""
        at = 0
        for size in self._sizes:
            yield np.frombuffer(self._spill.read(at, size), dtype="<i8")
            at += size

    def repeated(self) -> dict[int, int]:
        """The numbers that are there several times, and how often, in ascending order."""
        if self.ascending:
            return {}
        found: dict[int, int] = {}
        parts = 1 + len(self._spill) // (8 * BUCKET)
        for part in range(parts):
            mine = [c[c % parts == part] if parts > 1 else c for c in self.chunks()]
            values, counts = np.unique(np.concatenate(mine), return_counts=True)
            twice = counts > 1
            found.update(zip(values[twice].tolist(), counts[twice].tolist(), strict=True))
        return dict(sorted(found.items()))
