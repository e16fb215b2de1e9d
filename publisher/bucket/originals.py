"""
Originals: what a bucket says that a version is, as one who wants to copy it must ask.

Nothing is believed: lists must have their digests, and files must lie where files of this
dataset lie. What is lost or damaged is told, not raised, so that all of it is named at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from ..errors import AccessDenied, IntegrityError
from ..spill import Spill
from ..storage import Bucket
from ..versions.housekeeping import Relocation, relocation_key
from ..versions.inventory import (
    Document,
    Item,
    Kind,
    Lists,
    documents_of,
    home_of,
    items_of,
    keys_of,
)
from ..versions.manifest import (
    MAX_DOCUMENT,
    Manifest,
    Record,
    Status,
    StoredShard,
    max_shard_bytes,
    record_key,
    shard_key,
    status_key,
    tree_key,
)
from ..versions.packs import index_key, max_index_bytes
from ..versions.version import Version
from .catalog import in_force
from .objects import (
    Bytes,
    Damage,
    State,
    index_of,
    lines_of,
    look_at,
    look_at_list,
    manifest_of,
    record_of,
    status_of,
)
from .trees import each

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that a version needs in the target."""

    what: Bytes
    kind: Kind
    item: Item | None = None  # of one that holds files

    def damage(self, state: State) -> Damage:
        """That it is lost or damaged, and what that hits."""
        return Damage(self.what.key, self.kind, state, self.item.paths if self.item else ())


@dataclass
class Original:
    """A version, and the objects that it needs."""

    version: Version
    record: Record
    contents: list[Wanted] = field(default_factory=list)
    lists: list[Wanted] = field(default_factory=list)
    documents: tuple[Document, ...] = ()
    homes: set[Version] = field(default_factory=set)  # in whose folders plain files lie
    plain: list[tuple[Version, Item]] = field(default_factory=list)  # these
    manifest: Manifest | None = None
    damages: list[Damage] = field(default_factory=list)


class Source:
    """A bucket that a dataset is copied from."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name

    def record(self, version: Version) -> tuple[Record | None, Damage | None]:
        """The record of a version, or what is wrong with it."""
        key = record_key(self._name, version)
        parse = record_of(self._name, version)
        record, wrong = look_at(self._bucket, key, MAX_DOCUMENT, parse)
        return record, Damage(key, "record", wrong) if wrong else None

    def status(self, version: Version) -> tuple[Status | None, Damage | None]:
        """What was said of a version, if anything, or what is wrong with that."""
        key = status_key(self._name, version)
        parse = status_of(self._name, version)
        with suppress(AccessDenied):  # S3 denies what is not there to who may not list
            status, wrong = look_at(self._bucket, key, MAX_DOCUMENT, parse)
            return status, Damage(key, "status", wrong) if wrong == "damaged" else None
        return None, None

    def original(self, version: Version, record: Record) -> Original:
        """What a version needs, by the lists in the source."""
        found = Original(version, record)
        read = each(lambda item: self._lists_of(*item), list(record.shards.items()))
        for _, wanted, damages in read:
            found.lists += wanted
            found.damages += damages
        if found.damages:
            return found
        lists = {n: known for n, (known, _, _) in zip(record.shards, read, strict=True)}
        found.manifest = manifest_of(record, lists.values())
        folder = tree_key(self._name, version)
        keys = keys_of(lists.values()) if record.layout == "packs" else None
        found.documents = documents_of(self._name, record.layout, folder, found.manifest, keys)
        for item in items_of(record, lists):
            self._want(found, item)
        return found

    def _want(self, found: Original, item: Item) -> None:
        """Note an object, unless the source says of it what cannot be."""
        try:
            home = home_of(item.key, self._name)
        except IntegrityError:
            home, item = None, replace(item, sha256=None)
        if item.sha256 is None:
            found.damages.append(Damage(item.key, item.kind, "damaged", item.paths))
            return
        if home is not None:
            found.homes.add(home)
            found.plain.append((home, item))
        what = Bytes(item.key, item.size, item.sha256)
        found.contents.append(Wanted(what, item.kind, item))

    def _lists_of(self, name: str, shard: StoredShard) -> tuple[Lists, list[Wanted], list[Damage]]:
        wanted, damages = list[Wanted](), list[Damage]()

        def read(
            kind: Kind, key: str, limit: int, parse: Callable[[Spill], T], sha256: str
        ) -> T | None:
            found, wrong = look_at_list(self._bucket, key, limit, partial(_with_size, parse))
            if found is None:
                damages.append(Damage(key, kind, wrong or "damaged"))
                return None
            wanted.append(Wanted(Bytes(key, found[1], sha256), kind))
            return found[0]

        named = shard.index
        with suppress(IntegrityError):  # a damaged relocation: then the index is lost
            shard = in_force(self._bucket, shard)
        if shard.index != named:
            body = Relocation(named, shard.index).to_bytes()
            what = Bytes(relocation_key(named), len(body), hashlib.sha256(body).hexdigest())
            wanted.append(Wanted(what, "index"))
        where, most = shard_key(shard.sha256), max_shard_bytes(shard)
        entries = read("manifest", where, most, lines_of(name, shard), shard.sha256)
        where, most = index_key(shard.index), max_index_bytes(shard)
        index = read("index", where, most, index_of(shard, entries), shard.index)
        return Lists(entries, index), wanted, damages


def _with_size(parse: Callable[[Spill], T], body: Spill) -> tuple[T, int]:
    return parse(body), len(body)
