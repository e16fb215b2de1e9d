"""
The objects that a version is made of in a bucket, and what the bytes of each must be. Pure.

The record names lists of files and indexes by digest, they name files and objects by digest,
and the documents for people follow from both. So who has a record knows of every byte whether
it is right, wherever it comes from: what looks a bucket over, mends it or copies it, starts here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Literal

from ..errors import FormatError, IntegrityError, UsageError
from ..spill import Many
from .documents import DOCUMENTS, SUMS, URLS, sum_lines, urls
from .manifest import (
    MANIFEST,
    PROVENANCE,
    Entry,
    Layout,
    Manifest,
    Record,
    ReleaseSignatures,
    signatures_key,
    tree_key,
)
from .packs import Index, Place, digest_in
from .version import Version

Kind = Literal[
    "pack", "blob", "file", "manifest", "index", "status", "beside", "record", "document", "channel"
]
"""What an object of a version is; in the order in which lost ones are put back."""

BESIDE: tuple[tuple[Callable[[str, Version], str], Callable[[bytes, str], object]], ...] = (
    (signatures_key, ReleaseSignatures.from_bytes),
)
"""
Other documents that a version may have, which are copied and mended with it: what gives the key
of each by name and version, and what reads its bytes or raises an IntegrityError.
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A file, or several of the same bytes, within an object."""

    place: Place
    sha256: str
    paths: tuple[str, ...] = ()  # of the version; none where its list of files is lost


_Row = tuple[str, int, int, int, str, str]  # key, offset, size, whole, sha256; path or ""


@dataclass(frozen=True, slots=True)
class Item:
    """
    An object that holds files of a version.

    `sha256` is that of all its bytes. It is None where only the files in it are known, which no
    push of ours makes; such an object may be read, but not be copied as good. Its members are
    made as they are looked at, by offset.
    """

    key: str
    kind: Kind
    size: int
    sha256: str | None
    rows: Iterable[_Row]

    @classmethod
    def of_document(cls, key: str, size: int, sha256: str) -> Item:
        """An object that is one document, and no file of the version."""
        return cls(key, "document", size, sha256, [(key, 0, size, size, sha256, "")])

    @property
    def members(self) -> Iterator[Member]:
        """The files in it, by offset."""
        for (key, *place, sha256), rows in groupby(self.rows, key=itemgetter(slice(5))):
            paths = dict.fromkeys(path for *_, path in rows if path)
            yield Member(Place(key, *place), sha256, tuple(paths))

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that need it."""
        return tuple(sorted({path for *_, path in self.rows if path}))


@dataclass(frozen=True, slots=True)
class Lists:
    """What is known of a shard: its files, and where their bytes lie; None what is lost."""

    entries: Sequence[Entry] | None
    index: Index | None


def items_of(record: Record, lists: Mapping[str, Lists]) -> Iterator[Item]:
    """
    The objects with the files of a version, sorted by key, as far as its lists are known.

    Of any number of files, few are in memory.
    """
    found: Many[_Row] = Many(row for known in lists.values() for row in _rows(record, known))
    found, start = found.sorted(key=_all), 0
    for key, group in groupby(found, key=itemgetter(0)):
        rows = found.part(start, start + sum(1 for _ in group))
        start += len(rows)
        first, last = rows[0], rows[-1]
        _, offset, size, whole, sha256, _ = first
        is_alone = first[:5] == last[:5] and (offset, size) == (0, whole)
        digest = digest_in(key) or (sha256 if is_alone else None)
        yield Item(key, _kind(key), whole, digest, rows)


def _rows(record: Record, known: Lists) -> Iterator[_Row]:
    """Where the files of a shard lie, and where contents do that no file is known for."""
    entries = known.entries or ()
    if known.index is not None:
        for sha256, p in known.index:
            yield p.key, p.offset, p.size, p.whole, sha256, ""
        for e, p in known.index.places_of(entries):
            yield p.key, p.offset, p.size, p.whole, e.sha256, e.path
    if record.layout == "plain":  # equal files share a place, but each has its object
        for e in entries:
            if e.path != PROVENANCE:
                key = tree_key(record.name, record.version, e.path)
                yield key, 0, e.size, e.size, e.sha256, e.path


def _all(row: tuple[object, ...]) -> tuple[object, ...]:
    return row


def amounts_in(item: Item, record: Record) -> tuple[int, int]:
    """Files and bytes in an object, so that a file which lies in several counts in one of them."""
    folder = tree_key(record.name, record.version)
    files = size = 0
    for m in item.members:
        for path in m.paths:
            if record.layout == "packs" or path == PROVENANCE or item.key == folder + path:
                files, size = files + 1, size + m.place.size
    return files, size


def _kind(key: str) -> Kind:
    if digest_in(key) is None:
        return "file"
    return "pack" if key.endswith(".tar") else "blob"


def home_of(key: str, name: str) -> Version | None:
    """
    The version in whose folder a plain file lies; None of what is named by its content.

    Raises:
        IntegrityError: files of this dataset have no business there.
    """
    if digest_in(key) is not None:
        return None
    folder, _, rest = key.removeprefix(f"datasets/{name}/v").partition("/")
    with suppress(UsageError):
        if key.startswith(f"datasets/{name}/v") and rest and rest not in DOCUMENTS:
            return Version.parse(folder)
    raise IntegrityError(f"{key[:200]} cannot hold files of {name}", [key])


def belongs(item: Item, name: str, home: Version, entries: Mapping[str, Entry]) -> bool:
    """Is a plain file in the folder of a version one of its files, which are given by path?"""
    entry = entries.get(item.key.removeprefix(tree_key(name, home)))
    return entry is not None and (entry.size, entry.sha256) == (item.size, item.sha256)


def knows_all(index: Index, entries: Iterable[Entry]) -> bool:
    """Does an index say of each file where it lies?"""
    try:
        return all(True for _ in index.places_of(entries))
    except FormatError:
        return False


# ── documents for people ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Document:
    """What lies beside a version for people. Its bytes follow from the record and its lists."""

    name: str
    size: int
    sha256: str
    parts: Callable[[], Iterable[bytes]] | None  # None of a file of the version: provenance.json


def documents_of(
    name: str, layout: Layout, folder: str, manifest: Manifest, keys: Iterable[str] | None
) -> tuple[Document, ...]:
    """
    The documents of a version but get.py, which is the same beside all.

    Args:
        name: of the dataset.
        folder: where they lie.
        manifest: all files of the version.
        keys: of the objects with those files that can be had; see `keys_of`. None where that is
            lost, so that nobody can say what urls.txt is.
    """
    found = [_document(SUMS, lambda: sum_lines(manifest.entries))]
    if layout == "packs":
        if keys is not None:
            found.append(document(URLS, urls(keys, folder)))
        return tuple(found)
    files = (e for e in manifest.entries if e.path != PROVENANCE)
    return (
        *found,
        document(URLS, urls((folder + e.path for e in files), folder)),
        _document(MANIFEST, replace(manifest, name=name).parts),
        *(Document(e.path, e.size, e.sha256, None) for e in manifest.shard_entries("provenance")),
    )


def keys_of(lists: Iterable[Lists]) -> set[str] | None:
    """The objects with the files that people can have; None where that is lost."""
    keys = set[str]()
    for known in lists:
        if known.entries is None or known.index is None:
            return None
        files = (e for e in known.entries if e.path != PROVENANCE)
        keys.update(place.key for _, place in known.index.places_of(files))
    return keys


def document(name: str, body: bytes) -> Document:
    """A document with this body."""
    return _document(name, lambda: (body,))


def _document(name: str, parts: Callable[[], Iterable[bytes]]) -> Document:
    digest, size = hashlib.sha256(), 0
    for part in parts():
        digest.update(part)
        size += len(part)
    return Document(name, size, digest.hexdigest(), parts)
