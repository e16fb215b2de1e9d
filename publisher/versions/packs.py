"""
Where the bytes of a version lie: packs of small files, the index, and what to read. Pure.

A million files of 20 KB cost a million requests. So files below 1 MiB lie together in packs:
plain tar archives of some 64 MiB, one split and one kind of file each, with fixed headers, so
that the same files make the same bytes. An index says in which object, and where in it, the
bytes with a sha256 lie. It is no part of what a version is: packing otherwise changes no root.
"""

from __future__ import annotations

import re
import struct
import tarfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import attrgetter
from typing import Annotated, Literal

import msgspec

from ..errors import FormatError
from ..names import safe_path
from .manifest import MAX_MANIFEST, Entry, Shard, distinct

TARGET = 2**26  # bytes of a pack; a file that would lead beyond begins the next one
LARGE = 2**20  # bytes from which a file is an object of its own
GAP = 2**16  # bytes between two wanted files that cost less to read than another request
SPAN = 2**24  # bytes of one read, so that several threads share a pack
END = b"\0" * 1024  # of every tar

_TAR_BLOCK = 512
_ROW = struct.Struct("<32sIQQ")  # sha256, number of the object, offset, size
_OBJECT = 6 * 1024 + 64  # bytes of the longest line of an object in an index
_OWN_NAME = re.compile(r"(?:packs/../([0-9a-f]{64})\.tar|blobs/../([0-9a-f]{64}))")


class Place(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where the bytes of a file lie: in an object that has `whole` bytes."""

    key: str
    offset: int
    size: int
    whole: int

    @property
    def is_whole(self) -> bool:
        """Is the file all of the object?"""
        return self.size == self.whole


def pack_key(sha256: str) -> str:
    """Where the pack with this digest lies."""
    return f"packs/{sha256[:2]}/{sha256}.tar"


def index_key(sha256: str) -> str:
    """Where the index with this digest lies."""
    return f"index/{sha256}.idx"


def digest_in(key: str) -> str | None:
    """The sha256 of an object that is named by its content."""
    match = _OWN_NAME.fullmatch(key)
    return match and (match[1] or match[2])


# ── packs ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Pack:
    """A tar to be: files one after another, each behind its header."""

    entries: tuple[Entry, ...]

    @property
    def headers(self) -> Iterator[bytes]:
        """What stands before each file."""
        return map(_header, self.entries)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where the bytes of each file begin."""
        return self._layout[0]

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self._layout[1]

    @cached_property
    def _layout(self) -> tuple[tuple[int, ...], int]:
        before = list(map(_header_size, self.entries))
        taken = (b + _padded(e.size) for b, e in zip(before, self.entries, strict=True))
        starts = list(accumulate(taken, initial=0))
        offsets = (s + b for s, b in zip(starts, before, strict=False))
        return tuple(offsets), starts[-1] + len(END)

    def places(self, key: str) -> dict[str, Place]:
        """Where its files lie by sha256, once it is stored under a key."""
        return {
            e.sha256: Place(key, offset, e.size, self.size)
            for e, offset in zip(self.entries, self.offsets, strict=True)
        }


def padding(size: int) -> bytes:
    """What follows a file of this size in a tar."""
    return b"\0" * (_padded(size) - size)


def plan_packs(entries: Iterable[Entry]) -> tuple[tuple[Pack, ...], tuple[Entry, ...]]:
    """
    Part files, one a content, into packs and those that become objects of their own.

    A pack has files of one split and of one kind: pictures, maps, or anything else. So one
    split is a few packs, and new annotations leave the packs of pictures alone.
    """
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    single: list[Entry] = []
    for entry in distinct(sorted(entries)):
        if entry.size < LARGE:
            groups[entry.shard, _kind(entry)].append(entry)
        else:
            single.append(entry)
    packs: list[Pack] = []
    for _, files in sorted(groups.items()):
        if len(files) == 1:
            single += files  # a tar around one file helps nobody
        else:
            packs += _cut(files)
    return tuple(packs), tuple(sorted(single))


def _kind(entry: Entry) -> str:
    kind = entry.path.removeprefix(f"{entry.split}/").partition("/")[0]
    return kind if kind in {"images", "panoptic"} else "other"


def _cut(entries: list[Entry]) -> Iterator[Pack]:
    taken, size = list[Entry](), 0
    for entry in entries:
        more = _header_size(entry) + _padded(entry.size)
        if taken and size + more > TARGET:
            yield Pack(tuple(taken))
            taken, size = [], 0
        taken.append(entry)
        size += more
    yield Pack(tuple(taken))


def _header(entry: Entry) -> bytes:
    """A header without clock or owner; in pax format where a name needs it."""
    info = tarfile.TarInfo(entry.path)
    info.size = entry.size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _header_size(entry: Entry) -> int:
    """Bytes of a header, without making those that ustar is enough for."""
    plain = entry.path.isascii() and len(entry.path) <= tarfile.LENGTH_NAME
    return _TAR_BLOCK if plain and entry.size < 8**11 else len(_header(entry))


def _padded(size: int) -> int:
    return -(-size // _TAR_BLOCK) * _TAR_BLOCK


# ── index ────────────────────────────────────────────────────────────────────────────────────


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Annotated[str, msgspec.Meta(max_length=1024)]
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    objects: list[_Object]
    rows: int
    schema: Literal["publisher/index/1"] = "publisher/index/1"


_HEAD = msgspec.json.Decoder(_Head)  # made here, not in threads; see the end of manifest.py


@dataclass(frozen=True)
class Index:
    """
    Where the bytes of the files of one shard lie, by sha256.

    One line of canonical JSON names the objects; then 52 bytes a content, sorted: its sha256,
    the number of the object (uint32), offset and size (uint64 each, all little-endian). They
    are searched as they are, so a million files take 52 MB and no more.
    """

    objects: tuple[tuple[str, int], ...]  # key and size
    rows: bytes

    @classmethod
    def of(cls, places: Mapping[str, Place]) -> Index:
        """The index of these places by sha256."""
        objects = sorted({(p.key, p.whole) for p in places.values()})
        number = {key: i for i, (key, _) in enumerate(objects)}
        rows = bytearray(len(places) * _ROW.size)
        for i, sha256 in enumerate(sorted(places)):
            place = places[sha256]
            row = bytes.fromhex(sha256), number[place.key], place.offset, place.size
            _ROW.pack_into(rows, i * _ROW.size, *row)
        return cls(tuple(objects), bytes(rows))

    def __len__(self) -> int:
        return len(self.rows) // _ROW.size

    def __iter__(self) -> Iterator[tuple[str, Place]]:
        for sha256, number, offset, size in _ROW.iter_unpack(self.rows):
            key, whole = self.objects[number]
            yield sha256.hex(), Place(key, offset, size, whole)

    def find(self, sha256: str) -> Place | None:
        """Where the bytes with this digest lie, if the index knows it."""
        wanted, width = bytes.fromhex(sha256), _ROW.size
        at = bisect_left(
            range(len(self)), wanted, key=lambda i: self.rows[i * width : i * width + 32]
        )
        if at == len(self):
            return None
        found, number, offset, size = _ROW.unpack_from(self.rows, at * width)
        if found != wanted:
            return None
        key, whole = self.objects[number]
        return Place(key, offset, size, whole)

    def place_of(self, entry: Entry) -> Place:
        """
        Where the bytes of a file lie.

        Raises:
            FormatError: the index does not know it, or by another size.
        """
        place = self.find(entry.sha256)
        if place is None or place.size != entry.size:
            raise FormatError("the index does not say where it lies", path=entry.path)
        return place

    def to_bytes(self) -> bytes:
        """The bytes of an index; the same for equal ones."""
        head = _Head([_Object(key, size) for key, size in self.objects], len(self))
        return msgspec.json.encode(head, order="sorted") + b"\n" + self.rows

    @classmethod
    def from_bytes(cls, body: bytes, shard: Shard) -> Index:
        """
        Read an index that may be hostile.

        Raises:
            FormatError: it is none, or none of this shard.
        """
        line, _, rows = body.partition(b"\n")
        try:
            head = _HEAD.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"not an index: {error}") from None
        objects = tuple((o.key, o.size) for o in head.objects)
        index = cls(objects, rows)
        if len(rows) != head.rows * _ROW.size or not len(objects) <= len(index) <= shard.files:
            raise FormatError("not an index: its counts do not fit")
        if len({key for key, _ in objects}) != len(objects):
            raise FormatError("not an index: an object is there twice")
        for key, _ in objects:
            safe_path(key)
        index._check_rows()
        return index

    def _check_rows(self) -> None:
        before = b""
        for sha256, number, offset, size in _ROW.iter_unpack(self.rows):
            if sha256 <= before:
                raise FormatError("not an index: its rows are not sorted")
            if number >= len(self.objects) or offset + size > self.objects[number][1]:
                raise FormatError("not an index: a row leads out of its object")
            before = sha256


def max_index_bytes(shard: Shard) -> int:
    """The most bytes that the index of a shard can have."""
    return min(1024 + shard.files * (_ROW.size + _OBJECT), MAX_MANIFEST)


# ── reading ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Read:
    """One request: a stretch of an object, and the places in it by offset, none overlapping."""

    places: tuple[Place, ...]

    @property
    def key(self) -> str:
        return self.places[0].key

    @property
    def start(self) -> int:
        return self.places[0].offset

    @property
    def stop(self) -> int:
        return self.places[-1].offset + self.places[-1].size

    @property
    def is_whole(self) -> bool:
        """Is it a file that is all of its object?"""
        return len(self.places) == 1 and self.places[0].is_whole


def reads(places: Iterable[Place]) -> tuple[Read, ...]:
    """
    The requests that fetch these places, each of them once.

    Neighbours with at most GAP bytes between them come in one request, and any two files of
    an object of which more than half is wanted; but not many more than SPAN bytes at a time.
    """
    by_key: dict[str, set[Place]] = defaultdict(set)
    for place in places:
        by_key[place.key].add(place)
    return tuple(
        Read(tuple(run))
        for key in sorted(by_key)
        for run in _runs(sorted(by_key[key], key=_in_object))
    )


_in_object = attrgetter("offset", "size", "whole")  # tuples sort ten times as fast as places do


def _runs(places: list[Place]) -> Iterator[list[Place]]:
    gap = GAP
    if sum(p.size for p in places) * 2 > places[0].whole:
        gap = places[0].whole
    run = [places[0]]
    for place in places[1:]:
        between = place.offset - (run[-1].offset + run[-1].size)
        far = place.offset + place.size - run[0].offset > SPAN
        if far or not 0 <= between <= gap:
            yield run
            run = []
        run.append(place)
    yield run
