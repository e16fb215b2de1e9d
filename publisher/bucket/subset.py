"""
Pull by category: the pictures that have an instance of some categories, and annotation files
that speak of no others.

The annotation files say which pictures these are, so they come first. As they are published
they stay in `.publisher.whole/`, where their bytes fit their digests; under their own names lie
files with the rows of the chosen pictures only, so that whatever reads the folder finds a picture
for each row. Those are made of the whole ones and of nothing else, so that they can be checked.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from ..errors import FormatError, UsageError
from ..json_stream import Document, Window
from ..names import listing
from ..versions.manifest import Entry
from ..versions.partial import document_paths, documents_of, is_of_one, whole

Locate = Callable[[str], Path]  # where an annotation file of a version lies
_Id = int | str


class _Category(msgspec.Struct, frozen=True):
    id: _Id
    name: str


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: _Id
    file_name: str


class _Instance(msgspec.Struct, frozen=True, gc=False):
    image_id: _Id
    category_id: _Id


class _Map(msgspec.Struct, frozen=True, gc=False):
    image_id: _Id
    file_name: str


class _Row(msgspec.Struct, frozen=True, gc=False):
    file_name: str


class _Owned(msgspec.Struct, frozen=True, gc=False):
    image_id: _Id


_READERS: dict[type[Any], msgspec.json.Decoder[list[Any]]] = {
    kind: msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    for kind in (_Category, _Image, _Instance, _Map, _Owned)
}
_ROW = msgspec.json.Decoder(_Row)


@dataclass(frozen=True)
class Subset:
    """What a pull by category puts into a folder."""

    files: tuple[Entry, ...]  # of the version, beside its annotation files, which are in WHOLE
    made: tuple[Entry, ...]  # of annotation files that speak of the chosen pictures
    bodies: dict[str, Callable[[], Iterator[bytes]]]  # their bytes, by path


def subset(
    entries: Sequence[Entry], splits: Collection[str], categories: Collection[str], find: Locate
) -> Subset:
    """
    Choose the files of some splits by categories.

    A picture is chosen with all its annotations if one of them is of a category; its panoptic
    map comes along. Files that belong to no single picture are all chosen.

    Args:
        entries: of the version, with all files of the splits.
        find: says where an annotation file lies, its digest checked, by its path in WHOLE.

    Raises:
        UsageError: no split knows a category, or has annotations to choose by.
        FormatError: an annotation file is not what it should be.
    """
    documents = documents_of(entries)
    at = {e.path: find(whole(e).path) for e in documents}
    has = {e.path for e in documents}
    known: set[str] = set()
    chosen: set[str] = set()
    left: dict[str, Callable[[], Iterator[bytes]]] = {}
    for split in sorted(splits):
        instances, maps, rows = document_paths(split)
        if instances not in has:
            raise UsageError(
                f"split {split} has no {instances} to choose by", hint="pull it without --category"
            )
        ids, pictures, names = _chosen(at[instances], instances, frozenset(categories))
        known |= names
        chosen |= {f"{split}/images/{name}" for name in pictures}
        left[instances] = partial(_filtered, at[instances], instances, ids)
        if maps in has:
            chosen |= {f"{split}/panoptic/{name}" for name in _maps(at[maps], maps, ids)}
            left[maps] = partial(_filtered, at[maps], maps, ids)
        if rows in has:
            left[rows] = partial(_lines, at[rows], rows, {f"images/{n}" for n in pictures})
    if unknown := sorted(set(categories) - known):
        raise UsageError(
            f"there is no category {unknown[0]!r}", hint=f"there are: {listing(sorted(known))}"
        )
    kept = (e for e in entries if e.path not in has and (e.path in chosen or not is_of_one(e)))
    made = tuple(_entry(e.path, left[e.path], e.split) for e in documents)
    return Subset(tuple(kept), made, left)


def _entry(path: str, body: Callable[[], Iterator[bytes]], split: str | None) -> Entry:
    digest, size = hashlib.sha256(), 0
    for part in body():
        digest.update(part)
        size += len(part)
    return Entry(path, size, digest.hexdigest(), split)


# ── what annotation files say ────────────────────────────────────────────────────────────────


def _chosen(
    path: Path, name: str, categories: frozenset[str]
) -> tuple[set[_Id], set[str], set[str]]:
    """Ids and names of the pictures with an instance, and the names of all categories."""
    names: dict[_Id, str] = {}
    files: dict[_Id, str] = {}
    having: dict[_Id, set[_Id]] = defaultdict(set)  # images by category
    for window in _windows(path, name):
        match window.key:
            case "categories":
                names.update((c.id, c.name) for c in _read(window, _Category, name))
            case "images":
                files.update((i.id, i.file_name) for i in _read(window, _Image, name))
            case "annotations":
                for row in _read(window, _Instance, name):
                    having[row.category_id].add(row.image_id)
    wanted = [images for c, images in having.items() if names.get(c) in categories]
    ids = set[_Id]().union(*wanted)
    return ids, {files[i] for i in ids if i in files}, set(names.values())


def _maps(path: Path, name: str, ids: Collection[_Id]) -> set[str]:
    """The names of the panoptic maps of some pictures."""
    return {
        row.file_name
        for window in _windows(path, name)
        if window.key == "annotations"
        for row in _read(window, _Map, name)
        if row.image_id in ids
    }


def _filtered(path: Path, name: str, ids: Collection[_Id]) -> Iterator[bytes]:
    """
    A COCO document with the rows of some pictures: its keys in their order, each row as it was,
    nothing between them.
    """
    key, listed, opening, closing, between = "", False, b"{", b"", b""
    for window in _windows(path, name):
        if window.key != key or opening == b"{":
            key, listed = window.key, window.first is not None
            yield closing + opening + msgspec.json.encode(key) + (b":[" if listed else b":")
            opening, closing, between = b",", b"]" if listed else b"", b""
        items = list(_of(window, ids, name)) if listed else window.items
        if items:
            yield between + b",".join(map(bytes, items))
            between = b","
    yield closing + (b"{}" if opening == b"{" else b"}")


def _of(window: Window, ids: Collection[_Id], name: str) -> Iterator[Raw]:
    if window.key == "images":
        mine = (row.id in ids for row in _read(window, _Image, name))
    elif window.key == "annotations":
        mine = (row.image_id in ids for row in _read(window, _Owned, name))
    else:
        return iter(window.items)
    return (item for item, good in zip(window.items, mine, strict=True) if good)


def _lines(path: Path, name: str, pictures: Collection[str]) -> Iterator[bytes]:
    """The lines of metadata.jsonl about some pictures."""
    with path.open("rb") as stream:
        for line in stream:
            try:
                if _ROW.decode(line).file_name in pictures:
                    yield line
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise FormatError(f"not a row of a picture: {error}", path=name) from None


def _windows(path: Path, name: str) -> Iterator[Window]:
    with _named(name), path.open("rb") as stream:
        document = Document(stream)
        for window in document.windows():
            for fault in window.faults.values():
                raise fault
            yield window
        if document.rest:
            raise FormatError("something follows the end of the JSON")


def _read(window: Window, kind: type[Any], name: str) -> list[Any]:
    with _named(name):
        try:
            return _READERS[kind].decode(window.text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"{window.key}: {error}") from None


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        error.path = error.path or name
        raise
