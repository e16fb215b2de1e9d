"""
What a bucket has: datasets, their versions and channels, what is said of each, and its lists.

Nothing that a bucket says is believed: a record is sealed, the root follows from the digests
of its shards, and a shard's digest from its lines.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain

import msgspec

from ..errors import (
    AccessDenied,
    FormatError,
    IntegrityError,
    ObjectNotFound,
    UsageError,
    VersionNotFound,
    VersionRetracted,
    VersionWarning,
)
from ..names import listing
from ..storage import Bucket
from ..versions.housekeeping import Relocation, relocation_key
from ..versions.manifest import (
    CHANNELS,
    MAX_DOCUMENT,
    RELEASES,
    STATUS,
    ChannelState,
    Entries,
    Entry,
    Manifest,
    Record,
    Status,
    StoredShard,
    channel_key,
    max_shard_bytes,
    read_record,
    read_shard,
    read_status,
    record_key,
    sha256_of,
    shard_key,
    status_key,
)
from ..versions.packs import Index, Place, index_key, max_index_bytes
from ..versions.version import (
    Caret,
    Channel,
    RootPrefix,
    Selector,
    Version,
    check_name,
    parse_selector,
)
from .fetching import Locate, taken
from .trees import each
from .trust import NOBODY, Trust

# ── what is there ────────────────────────────────────────────────────────────────────────────


def names(bucket: Bucket) -> tuple[str, ...]:
    """The datasets in a bucket that have a version, sorted."""
    found = bucket.folders("datasets/")
    return tuple(name for name in found if any(bucket.list(f"datasets/{name}/{RELEASES}/")))


def versions(bucket: Bucket, name: str) -> tuple[Version, ...]:
    """All versions of a dataset, oldest first by precedence."""
    check_name(name)
    prefix = f"datasets/{name}/{RELEASES}/"
    found = []
    for o in bucket.list(prefix):
        with suppress(UsageError):  # a stranger's file is no version
            found.append(Version.parse(o.key.removeprefix(prefix).removesuffix(".json")))
    return tuple(sorted(found))


def channels(bucket: Bucket, name: str) -> dict[str, Version]:
    """Where the channels of a dataset point to."""
    return {c: Version.parse(s.version) for c, s in channel_states(bucket, name).items()}


def channel_states(bucket: Bucket, name: str) -> dict[str, ChannelState]:
    """What the channels of a dataset say."""
    check_name(name)
    prefix = f"datasets/{name}/{CHANNELS}/"
    keys = [o.key for o in bucket.list(prefix) if o.key.endswith(".json")]
    return {k.removeprefix(prefix).removesuffix(".json"): _state_at(bucket, k) for k in keys}


def find_record(bucket: Bucket, name: str, version: Version) -> Record | None:
    """
    The release record of a version, or None where there is none.

    Raises:
        IntegrityError: it is damaged, or another version's.
    """
    check_name(name)
    try:
        body = bucket.get(record_key(name, version), limit=MAX_DOCUMENT)
    except ObjectNotFound:
        return None
    return read_record(body, name, version)


def read_channel(
    bucket: Bucket, name: str, channel: Channel, trust: Trust = NOBODY
) -> ChannelState | None:
    """
    Where a channel points to, or None where there is none.

    Raises:
        IntegrityError: it is damaged.
        Untrusted: no trusted key has signed it, or it has run out.
    """
    check_name(name)
    try:
        state = _state_at(bucket, channel_key(name, channel))
    except ObjectNotFound:
        return None
    trust.check_channel(name, channel, state)
    return state


def find_status(
    bucket: Bucket, name: str, version: Version, trust: Trust = NOBODY
) -> Status | None:
    """
    What was said of a version after it was published, or None where nothing was.

    Args:
        trust: whoever pins a key is told, by a VersionWarning, of what no such key has signed,
            and it does not count.

    Raises:
        IntegrityError: it is damaged, or said of another version.
    """
    try:
        body = bucket.get(status_key(name, version), limit=MAX_DOCUMENT)
    except (ObjectNotFound, AccessDenied):
        return None  # S3 denies what is not there to those who may not list
    status = read_status(body, name, version)
    if not trust.heeds(name, status):
        if status.state != "active":
            said = f"{name} {version} is said to be {status}, by no key that you trust"
            warnings.warn(f"{said}: that does not count", VersionWarning, stacklevel=2)
        return None
    return status


def statuses(bucket: Bucket, name: str) -> dict[Version, Status]:
    """What was said of the versions of a dataset, where something was."""
    check_name(name)
    prefix = f"datasets/{name}/{STATUS}/"
    found = {}
    for o in bucket.list(prefix):
        with suppress(UsageError):  # a stranger's file
            version = Version.parse(o.key.removeprefix(prefix).removesuffix(".json"))
            if (status := find_status(bucket, name, version)) is not None:
                found[version] = status
    return found


def resolve(
    bucket: Bucket, name: str, selector: Selector | str = "latest", trust: Trust = NOBODY
) -> Record:
    """
    Find the record of the version that a selector means.

    Channels and ranges pass over yanked versions. VersionWarning tells of one that is given
    all the same, because it was asked for by number or root, and of deprecated ones.

    Raises:
        VersionNotFound: no version answers to it.
        VersionRetracted: it was taken down.
        IntegrityError: what the bucket says is damaged.
        Untrusted: no trusted key has signed it, or the channel has run out.
    """
    if isinstance(selector, str):
        selector = parse_selector(selector)
    version, root = _version_for(bucket, name, selector, trust)
    record = find_record(bucket, name, version)
    if record is None:
        raise _not_found(bucket, name, selector)
    if root is not None and record.root != root:
        raise IntegrityError(
            f"{name}@{selector} is {version} with {root[:19]}, and in {bucket.url} it has "
            f"{record.root[:19]}",
            [record_key(name, version)],
            hint="a version never changes: ask the maintainers, and do not use it",
        )
    trust.check_record(bucket, record)
    status = find_status(bucket, name, version, trust)
    if status is not None and status.state == "retracted":
        raise retracted_error(name, status)
    if status is not None and status.state != "active":
        said = f"{name} {version} is {status}"
        warnings.warn(said, VersionWarning, stacklevel=2)
    return record


def retracted_error(name: str, status: Status) -> VersionRetracted:
    """What readers of a retracted version are told."""
    return VersionRetracted(
        f"{name} {status.version} is gone: it was retracted on {status.at[:10]}: {status.reason}",
        status.reason,
        hint="delete copies of it, and choose another version",
    )


@contextmanager
def unless_retracted(bucket: Bucket, name: str, version: str) -> Iterator[None]:
    """Where bytes are missing because the version was retracted meanwhile, say that."""
    try:
        yield
    except (IntegrityError, ObjectNotFound) as error:
        status = find_status(bucket, name, Version.parse(version))
        if status is not None and status.state == "retracted":
            raise retracted_error(name, status) from error
        raise


def _version_for(
    bucket: Bucket, name: str, selector: Selector, trust: Trust
) -> tuple[Version, str | None]:
    """The version that a selector means, and the root that it must have, where that is said."""
    if isinstance(selector, Version):
        return selector, None
    if isinstance(selector, Channel):
        return _version_of(bucket, name, selector, trust)
    for version in reversed(versions(bucket, name)):
        if isinstance(selector, Caret):
            if version in selector and not _withdrawn(bucket, name, version, trust):
                return version, None
        elif _has_root(bucket, name, version, selector):
            return version, None
    raise _not_found(bucket, name, selector)


def _version_of(
    bucket: Bucket, name: str, channel: Channel, trust: Trust
) -> tuple[Version, str | None]:
    """Where a channel points to; from a withdrawn version on, the next lower one that is not."""
    state = read_channel(bucket, name, channel, trust)
    if state is None:
        raise _not_found(bucket, name, channel)
    pointed = Version.parse(state.version)
    if (status := _withdrawn(bucket, name, pointed, trust)) is None:
        return pointed, state.root
    said = f"{name}@{channel} is {pointed}, which is {status}"
    for version in reversed(versions(bucket, name)):
        fits = version < pointed and (pointed.prerelease or not version.prerelease)
        if fits and not _withdrawn(bucket, name, version, trust):
            warnings.warn(f"{said}; this is {version}", VersionWarning, stacklevel=4)
            return version, None
    if status.state == "retracted":
        raise retracted_error(name, status)
    raise VersionNotFound(
        f"{said}; no lower version is left", hint=f"{name}@{pointed} still gives it"
    )


def _withdrawn(bucket: Bucket, name: str, version: Version, trust: Trust) -> Status | None:
    """Why channels and ranges pass over a version; None where they do not."""
    status = find_status(bucket, name, version, trust)
    return status if status is not None and status.state in {"yanked", "retracted"} else None


def _has_root(bucket: Bucket, name: str, version: Version, selector: RootPrefix) -> bool:
    record = find_record(bucket, name, version)
    return record is not None and record.root.startswith(str(selector))


def _state_at(bucket: Bucket, key: str) -> ChannelState:
    return ChannelState.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key)


def _not_found(bucket: Bucket, name: str, selector: Selector) -> VersionNotFound:
    there = [str(v) for v in versions(bucket, name)]
    hint = f"published: {listing(there[::-1])}" if there else f"{name} has no version here"
    return VersionNotFound(f"no {name}@{selector} in {bucket.url}", hint=hint)


# ── what a version holds ─────────────────────────────────────────────────────────────────────


def read_version(bucket: Bucket, record: Record, splits: Collection[str] = ()) -> Manifest:
    """
    Fetch and check the lists of files of a version, of the chosen splits only if any.

    Raises:
        UsageError: there is no such split.
        IntegrityError: a list is missing or damaged; `.paths` names its object.
    """
    unknown = sorted(set(splits) - set(record.splits))
    if unknown:
        raise UsageError(
            f"{record.name} {record.version} has no split {unknown[0]!r}",
            hint=f"its splits: {', '.join(record.splits) or 'none'}",
        )
    left = {f"split/{s}" for s in record.splits if splits and s not in splits}
    wanted = {n: s for n, s in record.shards.items() if n not in left}
    lists = each(lambda item: _shard(bucket, *item), list(wanted.items()))
    try:
        return Manifest(
            record.name,
            Entries(chain.from_iterable(lists)),
            {n: s.plain for n, s in record.shards.items() if n in left or not s.files},
        )
    except FormatError as error:
        raise IntegrityError(f"{record.name} {record.version}: {error}") from None


def _shard(bucket: Bucket, name: str, shard: StoredShard) -> Entries:
    key = shard_key(shard.sha256)
    try:
        return read_shard(taken(bucket, key, max_shard_bytes(shard)), name, shard.plain)
    except (ObjectNotFound, FormatError, IntegrityError) as error:
        raise _damaged_list(bucket, key, f"the file list of {name}", error) from error


def read_index(bucket: Bucket, shard: StoredShard) -> Index:
    """
    Fetch and check what says where the files of a shard lie.

    Raises:
        IntegrityError: it is missing or damaged; `.paths` names its object.
    """
    key = index_key(shard.index)
    try:
        try:
            return read_index_named(bucket, shard, shard.index)
        except ObjectNotFound:  # maybe another has taken its place
            moved = find_relocation(bucket, shard.index)
            if moved is None:
                raise
            key = index_key(moved)
            return read_index_named(bucket, shard, moved)
    except (ObjectNotFound, FormatError, IntegrityError) as error:
        raise _damaged_list(bucket, key, "which says where files lie", error) from error


def read_index_named(bucket: Bucket, shard: StoredShard, sha256: str) -> Index:
    """
    Fetch and check the index of a shard that has this digest.

    Raises:
        ObjectNotFound, IntegrityError, FormatError: it is not there, damaged, or none of the shard.
    """
    body = taken(bucket, index_key(sha256), max_index_bytes(shard))
    if sha256_of(body) != sha256:
        raise IntegrityError("it is damaged")
    return Index.from_bytes(body, shard)


def in_force(bucket: Bucket, shard: StoredShard) -> StoredShard:
    """A shard with the index that has taken the place of its own, where one has."""
    moved = find_relocation(bucket, shard.index)
    return shard if moved is None else msgspec.structs.replace(shard, index=moved)


def find_relocation(bucket: Bucket, index: str) -> str | None:
    """The digest of the index that has taken the place of one; None where none has."""
    key = relocation_key(index)
    try:
        return Relocation.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key).to
    except (ObjectNotFound, AccessDenied):
        return None  # as of a status


def locate(bucket: Bucket, record: Record, manifest: Manifest) -> dict[Place, list[Entry]]:
    """
    Where the bytes of the files of a manifest lie.

    Raises:
        IntegrityError: an index is missing, damaged, or does not know a file.
    """
    places: dict[Place, list[Entry]] = defaultdict(list)
    for entry, place in finder(bucket, record, {e.shard for e in manifest.entries})(
        manifest.entries
    ):
        places[place].append(entry)
    return places


def finder(bucket: Bucket, record: Record, shards: Collection[str]) -> Locate:
    """
    Says where the bytes of files of some shards of a version lie.

    Raises:
        IntegrityError: an index is missing, damaged, or (later) does not know a file.
    """
    here = sorted(shards)
    found = each(lambda s: read_index(bucket, record.shards[s]), here)
    indexes = dict(zip(here, found, strict=True))

    def places_of(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Place]]:
        entries = Entries(entries)
        for shard in sorted({e.shard for e in entries}):
            try:
                yield from indexes[shard].places_of(e for e in entries if e.shard == shard)
            except FormatError as error:
                key = index_key(record.shards[shard].index)
                raise _damaged_list(bucket, key, "which says where files lie", error) from error

    return places_of


def _damaged_list(bucket: Bucket, key: str, what: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"{key} in {bucket.url}, {what}: {error}",
        [key],
        hint="the maintainer can push the same release again, which puts it back",
    )
