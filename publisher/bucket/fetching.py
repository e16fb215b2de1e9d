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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import BinaryIO, Protocol

from ..errors import AccessDenied, IntegrityError, ObjectNotFound, StorageError
from ..failpoint import failpoint
from ..files import put
from ..progress import Amount, Transfer
from ..spill import Spill, joined
from ..storage import LIMIT, Bucket
from ..versions.manifest import Entries, Entry
from ..versions.packs import Lot, Lots, Place, Placed, Read, alone, lots, reads
from .cache import Bundle, Cache, Keeper
from .trees import Meter, flow

Locate = Callable[[Iterable[Entry]], Iterator[tuple[Entry, Place]]]
"""Says where files lie, in an order of its own."""

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

    def has(self, count: int) -> bool:
        """Have the next bytes come, in one piece?"""
        return len(self._block) - self._at >= count

    def wait_for(self, count: int) -> bool:
        """The same, once something has come."""
        if self._at == len(self._block):
            self._block, self._at = next(self._blocks, b""), 0
        return self.has(count)

    def piece(self, count: int) -> bytes:
        """The next bytes, which have come."""
        self._at += count
        return self._block[self._at - count : self._at]

    def skip(self, count: int) -> None:
        """Leave the next bytes out."""
        for _ in self.take(count):
            pass

    def has_more_than(self, count: int) -> bool:
        """Do more bytes come than these?"""
        while self.has(count) and not self.has(count + 1):
            if not (more := next(self._blocks, b"")):
                return False
            self._block, self._at = self._block[self._at :] + more, 0
        return self.has(count)


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
        meter: Meter,
        keeper: Keeper | None = None,
    ) -> None:
        self._source = source
        self._to = to
        self._parts = parts
        self._meter = meter
        self._keeper = keeper
        self._turn = threading.Lock()

    def all(self, reads: Iterable[Read]) -> list[Lot]:
        """Fetch all that they are for; give those whose bytes are missing or wrong."""
        return [lot for bad in flow(self._read, reads) for lot in bad]

    def _read(self, read: Read) -> list[Lot]:
        if self._keeper is None:
            return self._read_all(read, None)
        with self._keeper.bundle() as bundle:
            return self._read_all(read, bundle)

    def _read_all(self, read: Read, bundle: Bundle | None) -> list[Lot]:
        left, bad, cuts = _Left(read.lots), list[Lot](), 0
        while left.first is not None:
            before = left.first
            try:
                self._go_on(read, left, bad, bundle)
            except ObjectNotFound:
                return [*bad, *left]
            except AccessDenied:
                raise
            except StorageError:
                cuts = cuts + 1 if left.first is before else 1
                if cuts == _CUTS:
                    raise
        return bad

    def _go_on(self, read: Read, left: _Left, bad: list[Lot], bundle: Bundle | None) -> None:
        """Read on from the first file that is left, and from the end of its part."""
        lot = left.first
        assert lot is not None
        have = self._have(lot)
        start, at = lot.place.offset + have, lot.place.offset
        length = None if read.is_whole else read.stop - start  # whole: is it longer than it says?
        blocks = self._source.read(read.key, start=start, length=length)
        feed = Feed(blocks if start < read.stop else iter(()))
        while (lot := left.first) is not None:
            skip, size = lot.place.offset - at, lot.place.size
            if not have and feed.wait_for(skip + size) and not _goes_on(read, feed, skip + size):
                at = self._take_in(feed, at, left, bad, bundle)
                continue
            feed.skip(skip)
            if not self._receive(feed, lot, have, read, bundle):
                bad.append(lot)
            left.pop()
            at, have = lot.place.offset + size, 0

    def _have(self, lot: Lot) -> int:
        """How much of a file has come before; of one that is too long, nothing."""
        try:
            size = Path(self._part(lot)).stat().st_size
        except FileNotFoundError:
            return 0
        return size if size <= lot.place.size else 0

    def _take_in(
        self, feed: Feed, at: int, left: _Left, bad: list[Lot], bundle: Bundle | None
    ) -> int:
        """
        Bring those files that have come whole, if their bytes are right; say where that ends.

        Threads take turns: where each lets go of the interpreter at every small write, and all
        others wait for it, small files take twice the time.
        """
        with self._turn:
            while (lot := left.first) is not None:
                skip, size = lot.place.offset - at, lot.place.size
                if not feed.has(skip + size):
                    break
                feed.skip(skip)
                if not self._is_brought(feed.piece(size), lot, bundle):
                    bad.append(lot)
                left.pop()
                at = lot.place.offset + size
        return at

    def _is_brought(self, body: bytes, lot: Lot, bundle: Bundle | None) -> bool:
        """Bring a file of which all bytes are there, if they are right."""
        if hashlib.sha256(body).hexdigest() != lot.sha256:
            return False
        part = self._part(lot)
        put(part, body)
        failpoint("pull-part")
        self._meter.add(0, len(body))
        self._install(lot, part)
        if bundle is not None:
            bundle.begin()
            bundle.write(body)
            bundle.end(lot.sha256, lot.place.size)
        return True

    def _receive(self, feed: Feed, lot: Lot, have: int, read: Read, bundle: Bundle | None) -> bool:
        """Bring a file as it comes, from the end of its part on, if its bytes are right."""
        part = Path(self._part(lot))
        if self._is_right(feed, lot, part, have, bundle) and not _goes_on(read, feed, 0):
            self._install(lot, part)
            if bundle is not None:
                bundle.end(lot.sha256, lot.place.size)
            return True
        self._meter.add(0, -part.stat().st_size)
        part.unlink()
        return False

    def _is_right(self, feed: Feed, lot: Lot, part: Path, have: int, bundle: Bundle | None) -> bool:
        """Bring a part to its end; are its bytes right?"""
        place, digest, size = lot.place, hashlib.sha256(), 0
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
        return size == place.size and digest.hexdigest() == lot.sha256

    def _install(self, lot: Lot, part: str | Path) -> None:
        first, *others = lot.paths
        failpoint("pull-install")
        for other in others:
            twin = f"{part}.twin"
            shutil.copyfile(part, twin)
            os.replace(twin, f"{self._to}/{other}")
        os.replace(part, f"{self._to}/{first}")
        failpoint("after-pull-install")
        self._meter.add(1 + len(others), 0)

    def _part(self, lot: Lot) -> str:
        return f"{self._parts}/{hashlib.sha256(lot.paths[0].encode()).hexdigest()}"


class _Left:
    """What is still to be read."""

    def __init__(self, lots: Iterable[Lot]) -> None:
        self._rest = iter(lots)
        self.first = next(self._rest, None)

    def pop(self) -> None:
        """The first is done."""
        self.first = next(self._rest, None)

    def __iter__(self) -> Iterator[Lot]:
        while self.first is not None:
            yield self.first
            self.pop()


def _goes_on(read: Read, feed: Feed, size: int) -> bool:
    """Is an object that is one file longer than it says, of which so many bytes are left?"""
    return read.is_whole and feed.has_more_than(size)


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


def taken(bucket: Bucket, key: str, limit: int) -> Spill:
    """
    All bytes of an object that may be too much for memory.

    Raises:
        IntegrityError: it has more than `limit`.
    """
    if limit <= LIMIT:
        return Spill.of_bytes(bucket.get(key, limit=limit))
    body, cuts = Spill(), 0
    while True:
        before = len(body)
        try:
            for block in bucket.read(key, start=before):
                body.append(block)
                if len(body) > limit:
                    raise IntegrityError(
                        f"{key} in {bucket.url} has more than {limit:,} bytes", [key]
                    )
            return body
        except (AccessDenied, ObjectNotFound):
            raise
        except StorageError:
            cuts = cuts + 1 if len(body) == before else 1
            if cuts == _CUTS:
                raise


# ── files that are to come ───────────────────────────────────────────────────────────────────


@dataclass
class Wanted:
    """Files that are to come, and what to read for them in a bucket, or of what came before."""

    from_bucket: Entries  # sorted by path, as the others
    stored: Lots
    from_cache: Entries
    cached: Lots
    cache: Cache | None

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(e.size for files in (self.from_bucket, self.from_cache) for e in files)

    def look_for(self, failed: Sequence[Lot], locate: Callable[[], Locate]) -> Lots:
        """Have files fetched from where the bucket has them by now; give what is to be read."""
        if not failed:
            return Lots()
        paths = {path for lot in failed for path in lot.paths}
        gone = [e for e in self.from_cache if e.path in paths]
        if gone:
            self.from_cache = Entries(e for e in self.from_cache if e.path not in paths)
            self.cached = Lots(lot for lot in self.cached if lot.paths[0] not in paths)
            self.from_bucket = Entries(chain(self.from_bucket, gone)).sorted()
        found = lots(locate()(e for e in self.from_bucket if e.path in paths))
        rest = (lot for lot in self.stored if lot.paths[0] not in paths)
        self.stored = Lots(chain(rest, found)).sorted(itemgetter(slice(4)))
        return found


def sought(entries: Iterable[Entry], locate: Locate, cache: Cache | None) -> Wanted:
    """Find files, given by path: what was fetched before need not come from the bucket."""
    entries = Entries(entries)
    by_content = entries.sorted(itemgetter(2)) if cache is not None else Entries()
    known = cache.find(by_content) if cache is not None else Placed()
    if not len(known):
        return Wanted(entries, lots(locate(entries)), Entries(), Lots(), cache)

    def found() -> Iterator[tuple[Entry, tuple[str, Place] | None]]:
        return joined(by_content, known, by=attrgetter("sha256"))

    rest = Entries(e for e, before in found() if before is None).sorted()
    come = Entries(e for e, before in found() if before is not None).sorted()
    cached = lots((e, before[1]) for e, before in found() if before is not None)
    return Wanted(rest, lots(locate(rest)), come, cached, cache)


def carry(
    bucket: Bucket,
    wanted: Wanted,
    to: Path,
    parts: Path,
    locate: Callable[[], Locate],
    on_bytes: Transfer,
) -> list[str]:
    """
    Bring files into a folder; give the paths of those whose bytes are missing or wrong.

    What the cache no longer has, or has wrong, comes from the bucket, and `wanted` says so.

    Args:
        locate: looks in the bucket where files lie by now. What came wrong is looked for once
            more: another may have moved it meanwhile.
    """
    files = len(wanted.from_bucket) + len(wanted.from_cache)
    size = sum(lot.place.size for lot in chain(wanted.stored, wanted.cached))
    meter = Meter(on_bytes, "fetched", Amount(files, size))
    with ExitStack() as stack:
        keeper = None
        if wanted.cache is not None:
            keeper = stack.enter_context(wanted.cache.keeping())
            gone = Fetch(wanted.cache, to, parts, meter).all(reads(wanted.cached))
            for lot in gone:
                wanted.cache.discard(lot.place.key)
            wanted.look_for(gone, locate)
        work = Fetch(bucket, to, parts, meter, keeper)
        again = wanted.look_for(work.all(reads(wanted.stored)), locate)
        bad = work.all(map(alone, again))
    return sorted(path for lot in bad for path in lot.paths)
