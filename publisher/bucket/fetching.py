"""
Bytes from a bucket: stretches of objects, cut into files, none of them believed unread.

A file comes into a part first, and gets its name when its digest is right. A connection that
breaks is taken up at the very byte, now or by the next pull.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import AccessDenied, ObjectNotFound, StorageError
from ..storage import Bucket
from ..versions.manifest import Entry
from ..versions.packs import Place, Read
from .trees import Counter, each

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

    def skip(self, count: int) -> None:
        """Leave the next bytes out."""
        for _ in self.take(count):
            pass

    def has_more(self) -> bool:
        """Does another byte come? It is gone then."""
        return next(self.take(1), None) is not None


class Fetch:
    """Fetches files into a folder, its parts being elsewhere on the same disk."""

    def __init__(
        self, bucket: Bucket, to: Path, parts: Path, files: Members, done: Counter
    ) -> None:
        self._bucket = bucket
        self._to = to
        self._parts = parts
        self._files = files
        self._done = done

    def all(self, reads: Sequence[Read]) -> list[Place]:
        """Fetch what lies at these places; give those whose bytes are missing or wrong."""
        return [place for bad in each(self._read, reads) for place in bad]

    def _read(self, read: Read) -> list[Place]:
        left, bad, cuts = deque(read.places), list[Place](), 0
        while left:
            before = len(left)
            try:
                self._go_on(read, left, bad)
            except ObjectNotFound:
                return [*bad, *left]
            except AccessDenied:
                raise
            except StorageError:
                cuts = cuts + 1 if len(left) == before else 1
                if cuts == _CUTS:
                    raise
        return bad

    def _go_on(self, read: Read, left: deque[Place], bad: list[Place]) -> None:
        """Read on from the first file that is left, and from the end of its part."""
        have = self._have(left[0])
        start, at = left[0].offset + have, left[0].offset
        length = None if read.is_whole else read.stop - start  # whole: is it longer than it says?
        blocks = self._bucket.read(read.key, start=start, length=length)
        feed = Feed(blocks if start < read.stop else iter(()))
        while left:
            place = left[0]
            feed.skip(place.offset - at)
            good = self._receive(feed, place, have)
            left.popleft()
            at, have = place.offset + place.size, 0
            if good and not (read.is_whole and feed.has_more()):
                self._install(place)
            else:
                self._part(place).unlink()
                bad.append(place)

    def _have(self, place: Place) -> int:
        """How much of a file has come before; of one that is too long, nothing."""
        part = self._part(place)
        size = part.stat().st_size if part.exists() else 0
        return size if size <= place.size else 0

    def _receive(self, feed: Feed, place: Place, have: int) -> bool:
        """Bring a part to its end; are its bytes right?"""
        digest, size = hashlib.sha256(), have
        with self._part(place).open("r+b" if have else "wb", buffering=0) as out:
            while have and (block := out.read(2**20)):
                digest.update(block)
            for piece in feed.take(place.size - have):
                digest.update(piece)
                out.write(piece)
                size += len(piece)
        return size == place.size and digest.hexdigest() == self._files[place][0].sha256

    def _install(self, place: Place) -> None:
        part, (first, *others) = self._part(place), self._files[place]
        for other in others:
            twin = part.with_suffix(".twin")
            shutil.copyfile(part, twin)
            os.replace(twin, self._to / other.path)
        os.replace(part, self._to / first.path)
        self._done.add(1 + len(others))

    def _part(self, place: Place) -> Path:
        path = self._files[place][0].path
        return self._parts / hashlib.sha256(path.encode()).hexdigest()
