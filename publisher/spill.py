"""
Put aside what is too much for memory: in a temporary file without a name, gone with its owner.

Little stays in memory, so that small data never touch the disk; `TMPDIR` says where the
rest goes.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

BUFFER = 2**21  # bytes that stay in memory
BUCKET = 2**23  # bytes that are sorted at once


class Spill:
    """Bytes that can be added to and read again at any place."""

    def __init__(self) -> None:
        self._tail = bytearray()  # what is not yet in the file
        self._written = 0
        self._descriptor = -1

    def __len__(self) -> int:
        return self._written + len(self._tail)

    def append(self, data: bytes) -> int:
        """Add bytes and tell where they begin."""
        at = len(self)
        self._tail += data
        if len(self._tail) > BUFFER:
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
        self._ends: NDArray[np.int64] | None = None

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
        counts = np.zeros(self._owners, dtype=np.int64)
        for extents in self._extents:
            parts = [np.frombuffer(unsorted.read(*e), dtype=self._kind) for e in extents]
            rows = np.concatenate([np.empty(0, dtype=self._kind), *parts])
            rows = rows[np.argsort(rows["owner"], kind="stable")]
            if len(rows):
                first = int(rows["owner"][0])
                found = np.bincount(rows["owner"] - first)
                counts[first : first + len(found)] += found
            self._spill.append(rows.tobytes())
        self._extents = []
        self._ends = np.cumsum(counts)

    def __getitem__(self, owner: int) -> NDArray[np.void]:
        """The rows of an owner, once they are sorted."""
        assert self._ends is not None
        start = int(self._ends[owner - 1]) if owner else 0
        n, size = int(self._ends[owner]) - start, self._kind.itemsize
        return np.frombuffer(self._spill.read(start * size, n * size), dtype=self._kind)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows each owner has, once they are sorted."""
        assert self._ends is not None
        return np.diff(self._ends, prepend=0)

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
    """Many short byte strings, one after another; 8 bytes of memory each."""

    def __init__(self) -> None:
        self._spill = Spill()
        self._ends = array("q", [0])

    def append(self, text: bytes) -> None:
        self._spill.append(text)
        self._ends.append(self._ends[-1] + len(text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        start, stop = self._ends[index], self._ends[index + 1]
        return self._spill.read(start, stop - start)

    def __iter__(self) -> Iterator[bytes]:
        """All in order, read in blocks."""
        start = 0
        while start < len(self):
            stop = start + 1
            limit = self._ends[start] + BUFFER
            while stop < len(self) and self._ends[stop + 1] <= limit:
                stop += 1
            base = self._ends[start]
            block = self._spill.read(base, self._ends[stop] - base)
            for i in range(start, stop):
                yield block[self._ends[i] - base : self._ends[i + 1] - base]
            start = stop


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
