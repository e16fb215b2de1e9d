"""
What earlier pulls have fetched, by content: shared by all folders, versions and datasets.

Files lie one behind another in bundles of some 16 MiB, for a file of its own for each small
picture would cost more than fetching it. A bundle appears whole, under a random name, and never
changes. Nothing in it is believed: whoever takes a file out copies and hashes it, so that one
that is damaged is fetched again, and nothing that happens to a pulled folder reaches the cache.
A cache that cannot be written is none, and no error.

A bundle is the bytes of its files, then for each a row (sha256, 32 bytes; offset and size, uint64
little-endian), then the number of rows (uint64) and 8 bytes that tell its kind.
"""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import BinaryIO

from ..errors import ObjectNotFound, UsageError
from ..files import cache_folder
from ..spill import joined
from ..versions.manifest import Entries
from ..versions.packs import Place, Placed

_FOLDER = "_files"  # beside weights and datasets, none of which can be called so
_GIB = 10  # that all bundles together may take
_BUNDLE = 2**24  # bytes from which a bundle is closed
_ROWS = 2**19  # bytes of rows from which it is closed, too
_BLOCK = 2**20
_DAY = 86_400  # seconds after which what was not finished is somebody's who was killed
_ROW = struct.Struct("<32sQQ")
_END = struct.Struct("<Q8s")
_KIND = b"pubcach1"


def open_cache(home: Path | None = None) -> Cache | None:
    """
    The cache of this user, or None where PUBLISHER_CACHE_GIB=0 turns it off.

    Raises:
        UsageError: PUBLISHER_CACHE_GIB is no number.
    """
    said = os.environ.get("PUBLISHER_CACHE_GIB") or str(_GIB)
    try:
        limit = int(float(said) * 2**30)
    except (ValueError, OverflowError):
        raise UsageError(f"PUBLISHER_CACHE_GIB is {said[:40]!r}, no number of GiB") from None
    return Cache((home or cache_folder()) / _FOLDER, limit) if limit > 0 else None


class Cache:
    """
    Bundles in a folder, read like the objects of a bucket.

    Args:
        limit: bytes that all bundles together may take; they never take more than the disk has
            left. Those that were not used for longest go first.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()

    def find(self, wanted: Entries) -> Placed:
        """Where files lie, both sorted by sha256; the bundles count as used now."""
        heads = array("Q", (int(e.sha256[:16], 16) for e in wanted))  # most rows are none of them
        near = Placed()
        for path, state in self._bundles() if heads else ():
            rows = 0
            for rows, (digest, offset, size) in enumerate(_rows(path), 1):  # noqa: B007
                head = int.from_bytes(digest[:8], "big")
                at = bisect_left(heads, head)
                if at < len(heads) and heads[at] == head:
                    near.append((digest.hex(), Place(path.name, offset, size, state.st_size)))
            with suppress(OSError):
                if not rows:
                    path.unlink()  # half of one, after a power cut
        there = joined(near.sorted(), wanted, to=attrgetter("sha256"))
        fit = (one for one, entry in there if entry is not None and entry.size == one[1].size)
        found = Placed(next(same) for _, same in groupby(fit, key=itemgetter(0)))
        for key in {place.key for _, place in found}:
            with suppress(OSError):
                os.utime(self._folder / key)
        return found

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Bytes of a bundle, as of a bucket's object; it may have gone since it was found."""
        left = 2**63 if length is None else length
        try:
            with (self._folder / key).open("rb") as stream:
                stream.seek(start)
                while block := stream.read(min(_BLOCK, left)):
                    left -= len(block)
                    yield block
        except OSError as error:
            raise ObjectNotFound(f"{key} is no longer in the cache") from error

    def discard(self, key: str) -> None:
        """Remove a bundle, whose bytes were found to be wrong."""
        with suppress(OSError):
            (self._folder / key).unlink()

    @contextmanager
    def keeping(self) -> Iterator[Keeper]:
        """Take in what is fetched meanwhile, also where that ends by an error."""
        keeper = Keeper(self, self._limit)
        try:
            yield keeper
        finally:
            keeper.close()

    def begin(self) -> Bundle:
        """An empty bundle; OSError where none can be written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{secrets.token_hex(8)}.part"
        return Bundle(part, part.open("wb", buffering=2**18))

    def take_in(self, bundle: Bundle) -> None:
        """Let a bundle appear, and others go for it."""
        with suppress(OSError):
            if bundle.finish():
                os.replace(bundle.path, self._folder / f"{secrets.token_hex(16)}.bundle")
        with suppress(OSError):
            bundle.path.unlink(missing_ok=True)
        with self._lock, suppress(OSError):
            self._trim()

    def _trim(self) -> None:
        bundles = sorted(
            ((state.st_mtime, state.st_size, path) for path, state in self._bundles()),
            key=lambda b: b[:2],
        )
        size = sum(b[1] for b in bundles)
        limit = min(self._limit, (size + shutil.disk_usage(self._folder).free) // 2)
        for _, taken, path in bundles:
            if size <= limit:
                break
            path.unlink(missing_ok=True)
            size -= taken

    def _bundles(self) -> Iterator[tuple[Path, os.stat_result]]:
        with suppress(OSError), os.scandir(self._folder) as found:
            for item in found:
                with suppress(OSError):
                    state, path = item.stat(follow_symlinks=False), Path(item.path)
                    if item.name.endswith(".bundle"):
                        yield path, state
                    elif item.name.endswith(".part") and state.st_mtime < time.time() - _DAY:
                        path.unlink()


class Keeper:
    """Bundles that threads fill, each one at a time."""

    def __init__(self, cache: Cache, limit: int) -> None:
        self._cache = cache
        self._left = limit
        self._idle: list[Bundle] = []
        self._lock = threading.Lock()

    @contextmanager
    def bundle(self) -> Iterator[Bundle | None]:
        """One to add files to; None where that cannot be, or would only push out its own."""
        bundle = self._next()
        try:
            yield bundle
        finally:
            if bundle is not None:
                self._give_back(bundle)

    def close(self) -> None:
        """Let all appear."""
        while self._idle:
            self._cache.take_in(self._idle.pop())

    def _next(self) -> Bundle | None:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._left <= 0:
                return None
        try:
            return self._cache.begin()
        except OSError:
            self._left = 0
            return None

    def _give_back(self, bundle: Bundle) -> None:
        if not (bundle.is_full or bundle.failed):
            self._idle.append(bundle)
            return
        with self._lock:
            self._left = 0 if bundle.failed else self._left - bundle.size
        self._cache.take_in(bundle)


class Bundle:
    """A bundle to be. A disk that is full makes it fail, and no one else."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.size = 0  # bytes of its files
        self.failed = False
        self._stream = stream
        self._at = 0
        self._rows = bytearray()

    @property
    def is_full(self) -> bool:
        """Has it enough bytes, or so many files that the rows of all bundles weigh?"""
        return self.size >= _BUNDLE or len(self._rows) >= _ROWS

    def begin(self) -> None:
        """A file comes; one that was begun and not ended is forgotten."""
        if self._at != self.size:  # for a seek writes what is in the buffer
            self._try(lambda: self._stream.seek(self.size))
            self._at = self.size

    def write(self, piece: bytes) -> None:
        """Some more of the file."""
        self._try(lambda: self._stream.write(piece))
        self._at += len(piece)

    def end(self, sha256: str, size: int) -> None:
        """The file has come, and is right."""
        self._rows += _ROW.pack(bytes.fromhex(sha256), self.size, size)
        self.size += size

    def finish(self) -> bool:
        """Write the rows; is it whole, and not empty?"""
        self.begin()
        self.write(bytes(self._rows) + _END.pack(len(self._rows) // _ROW.size, _KIND))
        self._try(self._stream.truncate)
        try:
            self._stream.close()
        except OSError:
            self.failed = True
        return bool(self._rows) and not self.failed

    def _try(self, step: Callable[[], object]) -> None:
        if self.failed:
            return
        try:
            step()
        except OSError:
            self.failed = True


def _rows(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Digest, offset and size of what lies in a bundle; nothing, where it is none."""
    with suppress(OSError, struct.error), path.open("rb") as stream:
        whole = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, whole - _END.size))
        count, kind = _END.unpack(stream.read())
        stop = whole - _END.size - count * _ROW.size
        if kind != _KIND or stop < 0:
            return
        stream.seek(stop)
        for digest, offset, size in _ROW.iter_unpack(stream.read(count * _ROW.size)):
            if offset + size <= stop:
                yield digest, offset, size
