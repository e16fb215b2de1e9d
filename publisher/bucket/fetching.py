"""
Bytes from a bucket: stretches of objects, cut into files, none of them believed unread.

A file comes into a part first, and gets its name when its digest is right. A connection that
breaks is taken up at the very byte, now or by the next pull.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from ..errors import AccessDenied, ObjectNotFound, StorageError
from ..failpoint import failpoint
from ..progress import Amount, Transfer
from ..storage import Bucket
from ..versions.manifest import Entry
from ..versions.packs import Place, Read, reads
from .cache import Bundle, Cache, Keeper
from .trees import Meter, each

Members = Mapping[Place, Sequence[Entry]]  # the files that lie at each place; equal ones share it

_CUTS = 5  # times that a connection may break before the next file is whole


class Feed:
    """Bytes that come in blocks, taken in the amounts that are wanted."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""
        self._at = 0

    def take(self, count: int) -> Iterator[bytes]:
        """The next bytes, in pieces; fewer where they end."""
        while count > 0:
            if self._at == len(self._block):
                self._block, self._at = next(self._blocks, b""), 0
                if not self._block:
                    return
            piece = self._block[self._at : self._at + count]
            self._at += len(piece)
            count -= len(piece)
            yield piece

    def at_once(self, count: int) -> bytes | None:
        """The next bytes in one piece, if they have come; else None, and they are still to take."""
        if self._at == len(self._block):
            self._block, self._at = next(self._blocks, b""), 0
        if len(self._block) - self._at < count:
            return None
        self._at += count
        return self._block[self._at - count : self._at]

    def skip(self, count: int) -> None:
        """Leave the next bytes out."""
        for _ in self.take(count):
            pass

    def has_more(self) -> bool:
        """Does another byte come? It is gone then."""
        return next(self.take(1), None) is not None


class Source(Protocol):
    """Where bytes come from: a bucket, or what was fetched before."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of an object from `start`, at most `length` of them, block by block."""


class Fetch:
    """
    Fetches files into a folder, its parts being elsewhere on the same disk.

    Args:
        keeper: takes what is fetched into a cache.
    """

    def __init__(
        self,
        source: Source,
        to: Path,
        parts: Path,
        files: Members,
        meter: Meter,
        keeper: Keeper | None = None,
    ) -> None:
        self._source = source
        self._to = to
        self._parts = parts
        self._files = files
        self._meter = meter
        self._keeper = keeper
        self._turn = threading.Lock()

    def all(self, reads: Sequence[Read]) -> list[Place]:
        """Fetch what lies at these places; give those whose bytes are missing or wrong."""
        return [place for bad in each(self._read, reads) for place in bad]

    def _read(self, read: Read) -> list[Place]:
        if self._keeper is None:
            return self._read_all(read, None)
        with self._keeper.bundle() as bundle:
            return self._read_all(read, bundle)

    def _read_all(self, read: Read, bundle: Bundle | None) -> list[Place]:
        left, bad, cuts = deque(read.places), list[Place](), 0
        while left:
            before = len(left)
            try:
                self._go_on(read, left, bad, bundle)
            except ObjectNotFound:
                return [*bad, *left]
            except AccessDenied:
                raise
            except StorageError:
                cuts = cuts + 1 if len(left) == before else 1
                if cuts == _CUTS:
                    raise
        return bad

    def _go_on(
        self, read: Read, left: deque[Place], bad: list[Place], bundle: Bundle | None
    ) -> None:
        """Read on from the first file that is left, and from the end of its part."""
        have = self._have(left[0])
        start, at = left[0].offset + have, left[0].offset
        length = None if read.is_whole else read.stop - start  # whole: is it longer than it says?
        blocks = self._source.read(read.key, start=start, length=length)
        feed = Feed(blocks if start < read.stop else iter(()))
        while left:
            place = left[0]
            feed.skip(place.offset - at)
            body = None if have else feed.at_once(place.size)
            if body is None:
                good = self._receive(feed, place, have, read, bundle)
            else:
                good = not _goes_on(read, feed) and self._take_in(body, place, bundle)
            if not good:
                bad.append(place)
            left.popleft()
            at, have = place.offset + place.size, 0

    def _have(self, place: Place) -> int:
        """How much of a file has come before; of one that is too long, nothing."""
        try:
            size = self._part(place).stat().st_size
        except FileNotFoundError:
            return 0
        return size if size <= place.size else 0

    def _take_in(self, body: bytes, place: Place, bundle: Bundle | None) -> bool:
        """
        Bring a file that has come in one piece, if its bytes are right.

        Threads take turns: where each lets go of the interpreter at every small write, and all
        others wait for it, small files take twice the time.
        """
        with self._turn:
            if hashlib.sha256(body).hexdigest() != self._sha256(place):
                return False
            part = self._part(place)
            with FileIO(part, "wb") as out:
                _write(out, body)
                failpoint("pull-part")
            self._meter.add(0, len(body))
            self._install(place, part)
            if bundle is not None:
                bundle.begin()
                bundle.write(body)
                bundle.end(self._sha256(place), place.size)
        return True

    def _receive(
        self, feed: Feed, place: Place, have: int, read: Read, bundle: Bundle | None
    ) -> bool:
        """Bring a file as it comes, from the end of its part on, if its bytes are right."""
        part = self._part(place)
        if self._is_right(feed, place, part, have, bundle) and not _goes_on(read, feed):
            self._install(place, part)
            if bundle is not None:
                bundle.end(self._sha256(place), place.size)
            return True
        self._meter.add(0, -part.stat().st_size)
        part.unlink()
        return False

    def _is_right(
        self, feed: Feed, place: Place, part: Path, have: int, bundle: Bundle | None
    ) -> bool:
        """Bring a part to its end; are its bytes right?"""
        digest, size = hashlib.sha256(), 0
        keep = bundle.write if bundle is not None else _drop
        if bundle is not None:
            bundle.begin()
        try:
            with part.open("r+b" if have else "wb", buffering=0) as out:
                for piece, is_new in chain(_again(out, have), _new(feed, place.size - have)):
                    if is_new:
                        _write(out, piece)
                        failpoint("pull-part")
                    digest.update(piece)
                    keep(piece)
                    size += len(piece)
                    self._meter.add(0, len(piece))
        except BaseException:
            self._meter.add(0, -size)  # it is begun again
            raise
        return size == place.size and digest.hexdigest() == self._sha256(place)

    def _sha256(self, place: Place) -> str:
        return self._files[place][0].sha256

    def _install(self, place: Place, part: Path) -> None:
        first, *others = self._files[place]
        failpoint("pull-install")
        for other in others:
            twin = part.with_suffix(".twin")
            shutil.copyfile(part, twin)
            os.replace(twin, f"{self._to}/{other.path}")
        os.replace(part, f"{self._to}/{first.path}")
        failpoint("after-pull-install")
        self._meter.add(1 + len(others), 0)

    def _part(self, place: Place) -> Path:
        path = self._files[place][0].path
        return self._parts / hashlib.sha256(path.encode()).hexdigest()


def _goes_on(read: Read, feed: Feed) -> bool:
    """Is an object that is one file longer than it says?"""
    return read.is_whole and feed.has_more()


def _write(out: FileIO, piece: bytes) -> None:
    """All of it: a disk that fills up takes a part, and says so only when it is asked again."""
    left = memoryview(piece)
    while left:
        left = left[out.write(left) :]


def _again(part: BinaryIO, have: int) -> Iterator[tuple[bytes, bool]]:
    while have and (block := part.read(2**20)):
        yield block, False


def _new(feed: Feed, size: int) -> Iterator[tuple[bytes, bool]]:
    for piece in feed.take(size):
        yield piece, True


def _drop(piece: bytes) -> None:
    """Where nobody keeps what was fetched."""


# ── files that are to come ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Wanted:
    """Files that are to come, by where they lie: in a bucket, or fetched before."""

    stored: dict[Place, list[Entry]]
    cached: dict[Place, list[Entry]]
    cache: Cache | None

    @property
    def from_bucket(self) -> tuple[Entry, ...]:
        """Those that the bucket has to give, by path."""
        return _by_path(self.stored)

    @property
    def from_cache(self) -> tuple[Entry, ...]:
        """Those that were fetched before, by path."""
        return _by_path(self.cached)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of them."""
        return self.from_cache + self.from_bucket

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(
            e.size
            for files in (self.stored, self.cached)
            for found in files.values()
            for e in found
        )


def _by_path(files: Members) -> tuple[Entry, ...]:
    return tuple(sorted((e for found in files.values() for e in found), key=lambda e: e.path))


def sought(
    entries: Iterable[Entry], place_of: Callable[[Entry], Place], cache: Cache | None
) -> Wanted:
    """Find files: what was fetched before need not come from the bucket."""
    entries = tuple(entries)
    before = cache.find({e.sha256: e.size for e in entries}) if cache is not None else {}
    wanted = Wanted(defaultdict(list), defaultdict(list), cache)
    for entry in entries:
        if (place := before.get(entry.sha256)) is not None:
            wanted.cached[place].append(entry)
        else:
            wanted.stored[place_of(entry)].append(entry)
    return wanted


def carry(
    bucket: Bucket,
    wanted: Wanted,
    to: Path,
    parts: Path,
    locate: Callable[[], Callable[[Entry], Place]],
    on_bytes: Transfer,
) -> list[str]:
    """
    Bring files into a folder; give the paths of those whose bytes are missing or wrong.

    What the cache no longer has, or has wrong, comes from the bucket, and `wanted` says so.

    Args:
        locate: looks in the bucket where files lie by now. What came wrong is looked for once
            more: another may have moved it meanwhile.
    """
    places = (*wanted.stored, *wanted.cached)
    files = sum(len(found) for files in (wanted.stored, wanted.cached) for found in files.values())
    meter = Meter(on_bytes, "fetched", Amount(files, sum(p.size for p in places)))
    with ExitStack() as stack:
        keeper = None
        if wanted.cache is not None:
            keeper = stack.enter_context(wanted.cache.keeping())
            before = Fetch(wanted.cache, to, parts, wanted.cached, meter)
            gone = before.all(reads(wanted.cached))
            for place in gone:
                wanted.cache.discard(place.key)
            _look_for(wanted, [e for place in gone for e in wanted.cached.pop(place)], locate)
        work = Fetch(bucket, to, parts, wanted.stored, meter, keeper)
        wrong = [e for place in work.all(reads(wanted.stored)) for e in wanted.stored.pop(place)]
        again = _look_for(wanted, wrong, locate)
        work = Fetch(bucket, to, parts, wanted.stored, meter, keeper)
        bad = work.all([Read((place,)) for place in again])  # each by itself
    return sorted(e.path for place in bad for e in wanted.stored[place])


def _look_for(
    wanted: Wanted, entries: Sequence[Entry], locate: Callable[[], Callable[[Entry], Place]]
) -> list[Place]:
    """Have files fetched from where the bucket has them by now; give these places."""
    if not entries:
        return []
    place_of, places = locate(), dict[Place, None]()
    for entry in entries:
        place = place_of(entry)
        wanted.stored[place].append(entry)
        places[place] = None
    return list(places)
