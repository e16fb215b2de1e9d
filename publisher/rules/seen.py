"""What is kept of each sample until the whole dataset has been seen: packed, not objects."""

from __future__ import annotations

import marshal
import zlib
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lazy import Lazy


@dataclass(frozen=True, slots=True)
class Seen:
    """What matters of a sample to rules about the whole dataset."""

    id: int
    file_name: str
    split: str | None
    group: str | None
    categories: frozenset[int]
    segments: int  # how many
    sha256: str | None = None  # of the image file, where it was looked at
    dhash: int = 0


class Memory(Lazy[Seen]):
    """
    All samples seen so far, packed: some 16 bytes each, and 40 more where a picture was looked at.

    Each is made when it is asked for.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._last: list[_Row] = []  # of the block that is not full
        self._open: tuple[int, list[_Row]] = -1, []  # the block that was asked for last

    def append(self, s: Seen) -> None:
        """Remember one more."""
        row = s.id, s.file_name, s.split, s.group, tuple(s.categories), s.segments
        self._last.append((*row, s.sha256, s.dhash))
        if len(self._last) == _TOGETHER:
            self._blocks.append(zlib.compress(marshal.dumps(self._last), 1))
            self._last = []

    def __len__(self) -> int:
        return len(self._blocks) * _TOGETHER + len(self._last)

    def _at(self, index: int) -> Seen:
        block, at = divmod(index, _TOGETHER)
        if self._open[0] != block:
            self._open = block, self._rows(block)
        return _seen(self._open[1][at])

    def __iter__(self) -> Iterator[Seen]:
        for block in range(len(self._blocks) + 1):
            yield from map(_seen, self._rows(block))

    def _rows(self, block: int) -> list[_Row]:
        if block == len(self._blocks):
            return self._last
        rows: list[_Row] = marshal.loads(zlib.decompress(self._blocks[block]))
        return rows

    def repeated(self, key: Callable[[Seen], Hashable]) -> Iterator[tuple[Seen, Seen]]:
        """
        Each sample that has the key of an earlier one, after the first that has it.

        None is no key. Only hashes are held of what is there once, 8 bytes each.
        """
        keys = (found for found in map(key, self) if found is not None)
        hashes = np.fromiter(map(hash, keys), dtype=np.int64)
        hashes.sort()
        twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not twice:
            return
        first: dict[Hashable, Seen] = {}
        for seen in self:
            found = key(seen)
            if found is not None and hash(found) in twice:
                other = first.setdefault(found, seen)
                if other is not seen:
                    yield other, seen


_Row = tuple[Any, ...]
_TOGETHER = 1024  # samples that are packed together


def _seen(row: _Row) -> Seen:
    number, name, split, group, categories, *rest = row
    return Seen(number, name, split, group, frozenset(categories), *rest)


class Numbers:
    """Many whole numbers of 64 bits, of which runs of neighbours cost nothing."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.int64] | NDArray[np.uint32] | range] = []
        self._last = array("q")
        self._ascending = True

    @property
    def ascending(self) -> bool:
        """Does each come after a lower one, so that none is there twice?"""
        self._pack()
        return self._ascending

    def extend(self, numbers: Iterable[int]) -> None:
        """Add some."""
        self._last.extend(numbers)
        if len(self._last) >= _BLOCK:
            self._pack()

    def all(self) -> NDArray[np.int64]:
        """All of them, in the order they came."""
        self._pack()
        blocks = [np.asarray(b, dtype=np.int64) for b in self._blocks]
        return np.concatenate([np.empty(0, dtype=np.int64), *blocks])

    def _pack(self) -> None:
        if not self._last:
            return
        block = np.array(self._last, dtype=np.int64)
        self._last = array("q")
        before = self._blocks[-1][-1] if self._blocks else None
        self._ascending &= bool((block[1:] > block[:-1]).all())
        self._ascending &= before is None or bool(before < block[0])
        if (block[1:] == block[:-1] + 1).all():
            self._blocks.append(range(int(block[0]), int(block[-1]) + 1))
        elif block.min() >= 0 and block.max() < 2**32:
            self._blocks.append(block.astype(np.uint32))
        else:
            self._blocks.append(block)


_BLOCK = 2**16
