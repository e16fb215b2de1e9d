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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Annotated, Literal

import msgspec

from ..errors import FormatError
from ..names import safe_path
from ..spill import Many, Row, Spill, joined
from .manifest import MAX_MANIFEST, Entries, Entry, Shard, distinct, in_order

TARGET = 2**26  # bytes of a pack; a file that would lead beyond begins the next one
LARGE = 2**20  # bytes from which a file is an object of its own
GAP = 2**16  # bytes between two wanted files that cost less to read than another request
SPAN = 2**24  # bytes of one read, so that several threads share a pack
END = b"\0" * 1024  # of every tar

_TAR_BLOCK = 512
_ROW = struct.Struct("<32sIQQ")  # sha256, number of the object, offset, size
_ROWS = 2**10  # that are looked at together
_STEPS = 20  # to find a row among a million; so many are passed in the same time
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


class Placed(Many[tuple[str, Place]]):
    """Where contents lie, by sha256."""

    @staticmethod
    def _rows_of(values: Iterable[tuple[str, Place]]) -> Iterable[Row]:
        return ((sha256, p.key, p.offset, p.size, p.whole) for sha256, p in values)

    @staticmethod
    def _made_of(rows: Iterable[Row]) -> Iterator[tuple[str, Place]]:
        return ((row[0], Place(*row[1:])) for row in rows)


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

    entries: Sequence[Entry]

    @property
    def headers(self) -> Iterator[bytes]:
        """What stands before each file."""
        return map(_header, self.entries)

    @property
    def offsets(self) -> Iterator[int]:
        """Where the bytes of each file begin."""
        at = 0
        for entry in self.entries:
            at += _header_size(entry)
            yield at
            at += _padded(entry.size)

    @cached_property
    def size(self) -> int:
        """Bytes of the whole."""
        return sum(_header_size(e) + _padded(e.size) for e in self.entries) + len(END)

    def places(self, key: str) -> Iterator[tuple[str, Place]]:
        """Where its files lie by sha256, once it is stored under a key."""
        size = self.size
        for entry, offset in zip(self.entries, self.offsets, strict=True):
            yield entry.sha256, Place(key, offset, entry.size, size)


def padding(size: int) -> bytes:
    """What follows a file of this size in a tar."""
    return b"\0" * (_padded(size) - size)


def plan_packs(entries: Iterable[Entry]) -> tuple[tuple[Pack, ...], Entries]:
    """
    Part files, one a content, into packs and those that become objects of their own.

    A pack has files of one split and of one kind: pictures, maps, or anything else. So one
    split is a few packs, and new annotations leave the packs of pictures alone.
    """
    small, packed, single = Many[Row](), Entries(), Entries()
    for entry in distinct(in_order(entries)):
        if entry.size < LARGE:
            small.append(
                (entry.shard, _kind(entry), entry.path, entry.size, entry.sha256, entry.split)
            )
        else:
            single.append(entry)
    packs: list[Pack] = []
    for _, rows in groupby(small.sorted(itemgetter(0, 1)), key=itemgetter(0, 1)):
        start = len(packed)
        packed.extend(Entry(*row[2:]) for row in rows)
        if len(packed) == start + 1:
            single.append(packed[start])  # a tar around one file helps nobody
        else:
            packs += _cut(packed, start)
    return tuple(packs), single.sorted()


def _kind(entry: Entry) -> str:
    kind = entry.path.removeprefix(f"{entry.split}/").partition("/")[0]
    return kind if kind in {"images", "panoptic"} else "other"


def _cut(entries: Entries, start: int) -> Iterator[Pack]:
    """Packs of the entries from one on."""
    size, stop = 0, start
    for entry in entries.between(start, len(entries)):
        more = _header_size(entry) + _padded(entry.size)
        if stop > start and size + more > TARGET:
            yield Pack(entries.part(start, stop))
            start, size = stop, 0
        stop += 1
        size += more
    yield Pack(entries.part(start, stop))


def _header(entry: Entry) -> bytes:
    """A header without clock or owner; in pax format where a name needs it."""
    if not _is_usual(entry):
        return _any_header(entry.path, entry.size)
    name, size = entry.path.encode("ascii"), b"%011o" % entry.size
    digits = b"%06o" % (_CHECKSUM + sum(name) + sum(size))
    return b"".join((name.ljust(100, b"\0"), _USUAL[:24], size, _USUAL[35:48], digits, _USUAL[54:]))


def _any_header(path: str, size: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


# of all usual ones but for name, size and checksum (POSIX.1-2017, pax, "ustar Interchange
# Format"): tarfile takes ten times as long for each
_USUAL = _any_header("-", 0)[100:]
_CHECKSUM = sum(_USUAL[:24]) + sum(_USUAL[35:48]) + 8 * ord(" ") + sum(_USUAL[56:])


def _is_usual(entry: Entry) -> bool:
    return entry.path.isascii() and len(entry.path) <= tarfile.LENGTH_NAME and entry.size < 8**11


def _header_size(entry: Entry) -> int:
    """Bytes of a header, without making the usual ones."""
    return _TAR_BLOCK if _is_usual(entry) else len(_header(entry))


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
    are searched as they are, and many of them lie outside of memory.
    """

    objects: tuple[tuple[str, int], ...]  # key and size
    rows: Spill

    @classmethod
    def of(cls, places: Mapping[str, Place]) -> Index:
        """The index of these places by sha256."""
        return cls.made(((s, places[s]) for s in sorted(places)), places.values())

    @classmethod
    def made(cls, places: Iterable[tuple[str, Place]], all_places: Iterable[Place]) -> Index:
        """The index of places that come by sha256 and in its order, each once; and of no others."""
        objects = sorted({(p.key, p.whole) for p in all_places})
        number = {key: i for i, (key, _) in enumerate(objects)}
        rows = Spill()
        for sha256, place in places:
            row = bytes.fromhex(sha256), number[place.key], place.offset, place.size
            rows.append(_ROW.pack(*row))
        return cls(tuple(objects), rows)

    def __len__(self) -> int:
        return len(self.rows) // _ROW.size

    def __iter__(self) -> Iterator[tuple[str, Place]]:
        for sha256, number, offset, size in self._unpacked():
            key, whole = self.objects[number]
            yield sha256.hex(), Place(key, offset, size, whole)

    def find(self, sha256: str) -> Place | None:
        """Where the bytes with this digest lie, if the index knows it."""
        wanted, width = bytes.fromhex(sha256), _ROW.size
        at = bisect_left(range(len(self)), wanted, key=lambda i: self.rows.read(i * width, 32))
        if at == len(self):
            return None
        found, number, offset, size = _ROW.unpack(self.rows.read(at * width, width))
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
        return _checked(entry, self.find(entry.sha256))

    def places_of(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Place]]:
        """
        Where the bytes of many files lie, in the order of their digests.

        Raises:
            FormatError: as of one.
        """
        files = Entries(entries).sorted(key=itemgetter(2))
        if len(files) * _STEPS < len(self):
            yield from ((entry, self.place_of(entry)) for entry in files)
            return
        for entry, found in joined(files, self, by=attrgetter("sha256")):
            yield entry, _checked(entry, found and found[1])

    def to_bytes(self) -> bytes:
        """The bytes of an index; the same for equal ones."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """The same, some at a time."""
        head = _Head([_Object(key, size) for key, size in self.objects], len(self))
        yield msgspec.json.encode(head, order="sorted") + b"\n"
        yield from self.rows.blocks()

    @classmethod
    def from_bytes(cls, body: bytes | Spill, shard: Shard) -> Index:
        """
        Read an index that may be hostile.

        Raises:
            FormatError: it is none, or none of this shard.
        """
        line, rows = _parted(Spill.of_bytes(body))
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
        for sha256, number, offset, size in self._unpacked():
            if sha256 <= before:
                raise FormatError("not an index: its rows are not sorted")
            if number >= len(self.objects) or offset + size > self.objects[number][1]:
                raise FormatError("not an index: a row leads out of its object")
            before = sha256

    def _unpacked(self) -> Iterator[tuple[bytes, int, int, int]]:
        for at in range(0, len(self.rows), _ROWS * _ROW.size):
            yield from _ROW.iter_unpack(self.rows.read(at, _ROWS * _ROW.size))


def _checked(entry: Entry, place: Place | None) -> Place:
    if place is None or place.size != entry.size:
        raise FormatError("the index does not say where it lies", path=entry.path)
    return place


def _parted(body: Spill) -> tuple[bytes, Spill]:
    """What stands before the first end of a line, and what behind."""
    line, rows, is_behind = bytearray(), Spill(), False
    for block in body.blocks():
        if is_behind:
            rows.append(block)
            continue
        before, end, behind = block.partition(b"\n")
        line += before
        rows.append(behind)
        is_behind = bool(end)
    return bytes(line), rows


def max_index_bytes(shard: Shard) -> int:
    """The most bytes that the index of a shard can have."""
    return min(1024 + shard.files * (_ROW.size + _OBJECT), MAX_MANIFEST)


# ── reading ──────────────────────────────────────────────────────────────────────────────────


class Lot(msgspec.Struct, frozen=True, gc=False):
    """Bytes to read once, and the files that they are for."""

    place: Place
    sha256: str
    paths: tuple[str, ...]


class Lots(Many[Lot]):
    """What is to be read, in any number."""

    @staticmethod
    def _rows_of(values: Iterable[Lot]) -> Iterable[Row]:
        return ((*msgspec.structs.astuple(x.place), x.sha256, x.paths) for x in values)

    @staticmethod
    def _made_of(rows: Iterable[Row]) -> Iterator[Lot]:
        return (Lot(Place(*row[:4]), row[4], row[5]) for row in rows)


def lots(files: Iterable[tuple[Entry, Place]]) -> Lots:
    """What is to be read for files, given where they lie: in that order, each content once."""
    rows = Many((p.key, p.offset, p.size, p.whole, e.sha256, e.path) for e, p in files)
    groups = groupby(rows.sorted(lambda row: row), key=lambda row: row[:5])
    return Lots(Lot(Place(*k[:4]), k[4], tuple(row[5] for row in found)) for k, found in groups)


@dataclass(frozen=True, slots=True)
class Read:
    """One request: a stretch of an object, and the lots in it by offset, none overlapping."""

    key: str
    start: int
    stop: int
    is_whole: bool  # is it a file that is all of its object?
    lots: Sequence[Lot]


def alone(lot: Lot) -> Read:
    """The request that fetches one lot by itself."""
    place = lot.place
    return Read(place.key, place.offset, place.offset + place.size, place.is_whole, (lot,))


def reads(lots: Lots) -> Iterator[Read]:
    """
    The requests that fetch these lots, sorted by place, each of them once.

    Neighbours with at most GAP bytes between them come in one request, and any two files of
    an object of which more than half is wanted; but not many more than SPAN bytes at a time.
    """
    behind, first = iter(lots), 0  # it comes to an object when all of that is known
    for key, group in groupby(lots, key=lambda lot: lot.place.key):
        count = size = whole = 0
        for lot in group:
            count, size, whole = count + 1, size + lot.place.size, whole or lot.place.whole
        gap = whole if size * 2 > whole else GAP
        for start, stop, run in _runs((lot.place for lot in islice(behind, count)), gap):
            last = first + run
            is_whole = run == 1 and stop - start == whole
            yield Read(key, start, stop, is_whole, lots.part(first, last))
            first = last


def _runs(places: Iterator[Place], gap: int) -> Iterator[tuple[int, int, int]]:
    """Where each begins and ends, and how many places it has."""
    head = next(places)
    start, stop, count = head.offset, head.offset + head.size, 1
    for place in places:
        far = place.offset + place.size - start > SPAN
        if far or not 0 <= place.offset - stop <= gap:
            yield start, stop, count
            start, count = place.offset, 0
        stop, count = place.offset + place.size, count + 1
    yield start, stop, count
