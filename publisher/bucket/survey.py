"""
Survey: all versions of a bucket, what they need, and what nobody needs.

Whoever deletes starts here. What cannot be read ends it: nothing is called garbage because a
record or an index is damaged. Only what is named as publisher names it can be garbage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ..errors import FormatError, IntegrityError, ObjectNotFound, UsageError
from ..storage import Bucket, ObjectInfo
from ..versions.housekeeping import NOTICE, may_be_garbage, relocation_key
from ..versions.manifest import Record, Status, StoredShard, shard_key, tree_key
from ..versions.packs import Index, index_key
from ..versions.version import Version, check_name
from .catalog import find_record, find_relocation, names, read_index_named, statuses, versions

_SHARED = ("blobs/", "doctor/", "index/", "manifests/", "packs/", "relocations/")


@dataclass(frozen=True)
class Stand:
    """How a version stands in a bucket."""

    record: Record
    status: Status | None

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.record.name} {self.record.version}"

    @property
    def version(self) -> Version:
        return Version.parse(self.record.version)

    @property
    def folder(self) -> str:
        """Where it has what people look at."""
        return tree_key(self.record.name, self.record.version)

    @property
    def is_retracted(self) -> bool:
        return self.status is not None and self.status.state == "retracted"


def survey(bucket: Bucket) -> tuple[Stand, ...]:
    """
    Every version of every dataset, retracted ones too, oldest first.

    Raises:
        IntegrityError: a record or a status is damaged.
    """
    found = []
    for name in names(bucket):
        said = statuses(bucket, name)
        for version in versions(bucket, name):
            record = find_record(bucket, name, version)
            if record is not None:
                found.append(Stand(record, said.get(version)))
    return tuple(found)


# ── where bytes lie ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Shelf:
    """An index, and all shards whose record names it."""

    named: str  # digest of the index that records name
    digest: str  # of the one that is in force
    index: Index
    users: tuple[tuple[Stand, str], ...]  # versions, and the shard of each


def shelves(bucket: Bucket, stands: Iterable[Stand], *, lost: bool = False) -> Iterator[Shelf]:
    """
    The indexes of versions that are in force, each once.

    Args:
        lost: pass over those that are gone.

    Raises:
        IntegrityError: one is missing or damaged.
    """
    users: dict[str, list[tuple[Stand, str]]] = {}
    for stand in stands:
        for name, shard in stand.record.shards.items():
            users.setdefault(shard.index, []).append((stand, name))
    for named, those in users.items():
        stand, name = those[0]
        shard = stand.record.shards[name]
        try:
            digest, index = _in_force(bucket, shard)
        except ObjectNotFound as error:
            if lost:
                continue
            raise _unreadable(bucket, stand, index_key(named), error) from error
        except (FormatError, IntegrityError) as error:
            raise _unreadable(bucket, stand, index_key(named), error) from error
        yield Shelf(named, digest, index, tuple(those))


def _in_force(bucket: Bucket, shard: StoredShard) -> tuple[str, Index]:
    """A relocation counts before the index that it replaces, which may not be deleted yet."""
    moved = find_relocation(bucket, shard.index)
    if moved is not None:
        with suppress(ObjectNotFound):
            return moved, read_index_named(bucket, shard, moved)
    return shard.index, read_index_named(bucket, shard, shard.index)


def _unreadable(bucket: Bucket, stand: Stand, key: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"{key} in {bucket.url}, which says where files of {stand.title} lie: {error}",
        [key],
        hint="nothing was deleted; push the same release again, which puts it back",
    )


# ── what is needed, and what is not ──────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Needs:
    """The objects that versions need, and the folders of which nothing goes."""

    keys: frozenset[str]
    folders: frozenset[str]

    def has(self, key: str) -> bool:
        """Must this object stay?"""
        return key in self.keys or "/".join(key.split("/")[:3]) + "/" in self.folders


def needs_of(bucket: Bucket, stands: Iterable[Stand]) -> Needs:
    """
    What versions need that are not retracted.

    Raises:
        IntegrityError: an index is missing or damaged.
    """
    visible = [s for s in stands if not s.is_retracted]
    keys = {shard_key(shard.sha256) for s in visible for shard in s.record.shards.values()}
    for shelf in shelves(bucket, visible):
        keys.add(index_key(shelf.digest))
        if shelf.digest != shelf.named:
            keys.add(relocation_key(shelf.named))
        keys.update(key for key, _ in shelf.index.objects)
    return Needs(frozenset(keys), frozenset(s.folder for s in visible))


def garbage(bucket: Bucket, needs: Needs) -> Iterator[ObjectInfo]:
    """What publisher has put, or may have, and no version needs."""
    folders = [f for f in _folders(bucket) if f not in needs.folders]
    for prefix in (*_SHARED, *folders):
        for o in bucket.list(prefix):
            if is_garbage(o.key, needs):
                yield o


def is_garbage(key: str, needs: Needs) -> bool:
    """Is, or was, this an object of publisher's that no version needs?"""
    if needs.has(key):
        return False
    top, _, rest = key.partition("/")
    name, _, rest = rest.partition("/")
    folder, _, path = rest.partition("/")
    if top != "datasets" or not path or path == NOTICE:
        return may_be_garbage(key)
    return _version_in(name, folder) is not None


def _version_in(name: str, folder: str) -> Version | None:
    """The version whose folder this is."""
    with suppress(UsageError):
        check_name(name)
        if folder.startswith("v"):
            return Version.parse(folder[1:])
    return None


def _folders(bucket: Bucket) -> Iterator[str]:
    """The folders of all versions that anyone has ever begun to publish."""
    for name in bucket.folders("datasets/"):
        for folder in bucket.folders(f"datasets/{name}/"):
            version = _version_in(name, folder)
            if version is not None:
                yield tree_key(name, version)


def by_key(objects: Iterable[ObjectInfo]) -> Mapping[str, ObjectInfo]:
    """Objects by their keys."""
    return {o.key: o for o in objects}
