"""What is kept of each sample until the whole dataset has been seen: columns, not objects."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..lazy import Lazy

_T = TypeVar("_T", bound=Hashable)


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
    """All samples seen so far, some 50 bytes each and the name; each is made when asked for."""

    def __init__(self) -> None:
        self._ids = array("q")
        self._large_ids: dict[int, int] = {}  # by position: beyond 64 bits
        self._names = bytearray()
        self._ends = array("q", [0])
        self._splits, self._split_codes = array("I"), _Codes[str | None]()
        self._groups, self._group_codes = array("I"), _Codes[str | None]()
        self._categories, self._category_codes = array("I"), _Codes[int]()  # in a row
        self._category_ends = array("q", [0])
        self._segments = array("I")
        self._looked = array("I")  # positions whose image file was looked at
        self._digests = bytearray()  # 32 bytes each
        self._odd_digests: dict[int, str] = {}  # by position: no sha256 in hex
        self._dhashes = array("Q")

    def append(self, seen: Seen) -> None:
        """Remember one more."""
        at = len(self)
        if abs(seen.id) >= 2**63:
            self._large_ids[at] = seen.id
        self._ids.append(seen.id if abs(seen.id) < 2**63 else 0)
        self._names += seen.file_name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._names))
        self._splits.append(self._split_codes[seen.split])
        self._groups.append(self._group_codes[seen.group])
        self._categories.extend(self._category_codes[c] for c in seen.categories)
        self._category_ends.append(len(self._categories))
        self._segments.append(seen.segments)
        if seen.sha256 is not None:
            self._looked.append(at)
            self._dhashes.append(seen.dhash)
            if (digest := _packed(seen.sha256)) is None:
                self._odd_digests[at] = seen.sha256
            self._digests += digest or bytes(32)

    def __len__(self) -> int:
        return len(self._ids)

    def _at(self, index: int) -> Seen:
        i = index
        name = self._names[self._ends[i] : self._ends[i + 1]]
        codes = self._categories[self._category_ends[i] : self._category_ends[i + 1]]
        sha256, dhash = self._looked_at(i)
        return Seen(
            self._large_ids.get(i, self._ids[i]),
            name.decode("utf-8", "surrogatepass"),
            self._split_codes.values[self._splits[i]],
            self._group_codes.values[self._groups[i]],
            frozenset(self._category_codes.values[code] for code in codes),
            self._segments[i],
            sha256,
            dhash,
        )

    def _looked_at(self, i: int) -> tuple[str | None, int]:
        """The sha256 and the difference hash of an image file, where it was looked at."""
        n = bisect_left(self._looked, i)
        if n == len(self._looked) or self._looked[n] != i:
            return None, 0
        digest = self._digests[32 * n : 32 * n + 32].hex()
        return self._odd_digests.get(i, digest), self._dhashes[n]

    def repeated(self, key: Callable[[Seen], Hashable]) -> Iterator[tuple[Seen, Seen]]:
        """
        Each sample that has the key of an earlier one, after the first that has it.

        None is no key. Only hashes are held of what is there once.
        """
        hashes, keyed = np.empty(len(self), dtype=np.int64), np.zeros(len(self), dtype=np.bool_)
        for i, seen in enumerate(self):
            found = key(seen)
            hashes[i], keyed[i] = hash(found), found is not None
        ordered = np.sort(hashes[keyed])
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(twice):
            return
        first: dict[Hashable, Seen] = {}
        for i in np.flatnonzero(np.isin(hashes, twice) & keyed).tolist():
            seen = self[i]
            other = first.setdefault(key(seen), seen)
            if other is not seen:
                yield other, seen


class _Codes(dict[_T, int]):
    """Numbers for values, 0, 1, ... as they come; `values` has them by number."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[_T] = []  # type: ignore[assignment]

    def __missing__(self, value: _T) -> int:
        self[value] = len(self.values)
        self.values.append(value)
        return self[value]


def _packed(digest: str) -> bytes | None:
    """The 32 bytes of a sha256 in hex; None of any other text."""
    try:
        body = bytes.fromhex(digest)
    except ValueError:
        return None
    return body if len(body) == 32 and body.hex() == digest else None


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
