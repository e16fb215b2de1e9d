"""What every reader gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..conservation import Item, Tally
from ..dataset import Category, Sample
from ..errors import FormatError
from ..validate import Finding, finding_of
from .documents import Mended


@dataclass(frozen=True, slots=True)
class Picture:
    """
    A sample as its source names it, and where its pixels lie in the tree that was read.

    `findings` are spots of this picture that could not be read, `mended` those that were
    set right, where that is known only now that the picture is looked at.
    """

    sample: Sample
    member: str | None  # None: the export holds no file for it
    findings: tuple[Finding, ...] = ()
    mended: tuple[Finding, ...] = ()


class Header(NamedTuple):
    """What is known of a picture before it is looked at."""

    id: int
    file_name: str
    said: str  # the source's name of it
    subset: str
    segments: int  # at most
    member: str | None  # see Picture


@runtime_checkable
class LazyPictures(Protocol):
    """A sequence of pictures that reads each when it is looked at, and never holds them all."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Picture: ...

    def __iter__(self) -> Iterator[Picture]: ...

    def headers(self) -> Iterator[Header]:
        """Of all pictures, in order."""

    def segment_ids(self) -> Iterator[NDArray[np.int64]]:
        """The ids of all segments, in blocks, in any order."""


Pictures = Sequence[Picture] | LazyPictures


@dataclass(frozen=True, slots=True)
class Reading:
    """
    A dataset as its source has it: names, ids and categories are still the source's.

    `counted` is what the source holds, counted on its own elements; `items` say how the
    pictures differ from that; `notes` say what the export itself has lost or bent;
    `findings` are spots that could not be read, `mended` those that reading set right.
    `files` are those that it is from, and those that say the same once more; not its pictures.

    Where `pictures` are lazy, part of this is known only once all have been looked at:
    `whole` does that.
    """

    name: str
    format: str
    categories: tuple[Category, ...]
    pictures: Pictures
    counted: Tally
    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    mended: tuple[Finding, ...] = ()
    files: frozenset[str] = frozenset()
    look_through: Callable[[], Reading] | None = None

    def whole(self) -> Reading:
        """The same with every picture looked at, every pixel counted, all findings gathered."""
        return self if self.look_through is None else self.look_through()

    def without(self, files: Iterable[str], findings: Sequence[Finding]) -> Reading:
        """The same with these findings about files of its tree that it is not from, either."""
        look, files = self.look_through, frozenset(files)
        return replace(
            self,
            files=self.files | files,
            mended=(*self.mended, *findings),
            look_through=None if look is None else lambda: look().without(files, findings),
        )


def headers(pictures: Pictures) -> Iterator[Header]:
    """The header of each picture, in order."""
    if isinstance(pictures, LazyPictures):
        yield from pictures.headers()
        return
    for p in pictures:
        s = p.sample
        said, subset = (str(s.source.get(key, "")) for key in ("name", "subset"))
        yield Header(s.id, s.file_name, said, subset, len(s.segments), p.member)


def segment_ids(pictures: Pictures) -> Iterator[NDArray[np.int64]]:
    """The ids of all segments, in blocks; what no 64 bits can hold is 0, which is no id."""
    if isinstance(pictures, LazyPictures):
        yield from pictures.segment_ids()
        return
    for p in pictures:
        ids = [g.id if abs(g.id) < 2**63 else 0 for g in p.sample.segments]
        yield np.array(ids, dtype=np.int64)


def set_aside(kinds: Mapping[str, int], file_name: str) -> Iterator[Finding]:
    """What is said of tags, points, lines and what else of a file is no segment, by its kind."""
    for kind, n in sorted((k, n) for k, n in kinds.items() if n):
        said = f"{n} {kind} annotation(s) have no pixels; kept with their sample's source"
        yield Finding("J007", "info", said, file_name)


def remark(mended: Mended, file_name: str) -> Finding:
    """What was set right in a record, as a finding about its image or file."""
    code, message = mended
    return finding_of(FormatError(message, code=code), file_name)


class Merged:
    """One finding for all of a file that say the same: the first, with how many there are."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str, str | None], Finding] = {}
        self._times: Counter[tuple[str, str, str | None]] = Counter()

    def add(self, findings: Iterable[Finding]) -> None:
        """Take some more."""
        for f in findings:
            key = (f.code, f.message, f.file_name)
            self._first.setdefault(key, f)
            self._times[key] += 1

    def hear(self, mended: Iterable[Mended], file_name: str) -> None:
        """Take what was set right in records of a file."""
        self.add(remark(m, file_name) for m in mended)

    def __iter__(self) -> Iterator[Finding]:
        for key, f in self._first.items():
            n = self._times[key]
            yield f if n == 1 else replace(f, message=f"{f.message} ({n:,} times)")
