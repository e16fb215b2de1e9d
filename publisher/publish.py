"""
Push: put a release tree into a bucket as a version. docs/bucket.md tells the protocol.

Bytes first, then the lists of files, then the release record with a create-only put: that
is the one moment in which the version begins to exist, whole. Every step may be repeated,
so after any failure the same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import itertools
import mimetypes
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import __version__
from .consume import find_record
from .errors import (
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    UsageError,
    VersionConflict,
)
from .maintain import advance
from .manifest import (
    Entry,
    Manifest,
    Plan,
    Record,
    blob_key,
    distinct,
    plan,
    record_key,
    shard_bytes,
)
from .progress import Progress, silent
from .storage import Bucket, ObjectInfo, require_conditional_writes
from .trees import check_tree, each, is_file_of, read_manifest
from .version import Channel, Version, check_name

_SMALL = 2**23  # bytes of a file that is read once, hashed, and sent from memory


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did, or with `dry_run` would do."""

    status: Literal["published", "already published", "planned"]
    record: Record
    plan: Plan  # one entry a content: `move` was sent, `keep` was in the bucket


def push(
    bucket: Bucket,
    tree: Path,
    name: str,
    version: str,
    *,
    created: str,
    channel: str | None = "latest",
    dry_run: bool = False,
    on_file: Progress = silent,
) -> Pushed:
    """
    Publish a release tree, and let a channel point to it unless that is further already.

    Pushing the same content again changes nothing, but puts back what the bucket has lost.

    Args:
        created: the time of publication, ISO 8601.
        channel: None moves none.
        dry_run: look, but send nothing.
        on_file: told of files hashed, then of files sent.

    Raises:
        UsageError: the name, version or folder cannot be published.
        IntegrityError: the tree is not what its manifest says, or changes meanwhile.
        VersionConflict: the version is published with other content.
        StorageError: the bucket failed; the same call goes on later.
    """
    check_name(name)
    number, goal = Version.parse(version), Channel(channel) if channel else None
    manifest = read_manifest(tree)
    if manifest.others:
        raise UsageError(f"{tree} holds only some splits of a version; it cannot be published")
    check_tree(tree, manifest, on_file)
    ours = Record.of(manifest, name, number, created, f"publisher {__version__}")
    theirs = _published(bucket, ours)
    wanted = _files_of(manifest, theirs or ours)
    if dry_run:
        missing = each(lambda e: not _is_there(bucket, e), wanted, on_file)
        return Pushed("planned", theirs or ours, _planned(wanted, missing))
    require_conditional_writes(bucket)
    listed = _listed(bucket, most=50 * len(wanted))
    sent = each(lambda e: _send_file(bucket, tree, e, listed), wanted, on_file)
    _send_shards(bucket, manifest, theirs or ours)
    record = theirs or _commit(bucket, ours)
    if goal is not None:
        _advance(bucket, name, goal, number, record.root)
    done = _planned(wanted, sent)
    new = theirs is None and record == ours
    return Pushed("published" if new else "already published", record, done)


def _published(bucket: Bucket, ours: Record) -> Record | None:
    """The record of our version if there is one; it must have our root."""
    theirs = find_record(bucket, ours.name, Version.parse(ours.version))
    if theirs is not None and theirs.root != ours.root:
        raise VersionConflict(
            f"{ours.name} {ours.version} is published with other content: "
            f"{theirs.root[:19]}, not {ours.root[:19]}",
            hint="versions never change; choose the next number",
        )
    return theirs


def _files_of(manifest: Manifest, record: Record) -> tuple[Entry, ...]:
    """Our files that the record lists too, one a content: its provenance may be another's."""
    theirs = {name: shard.sha256 for name, shard in record.shards.items()}
    same = {name for name, s in manifest.shards.items() if theirs.get(name) == s.sha256}
    return distinct(e for e in manifest.entries if e.shard in same)


def _planned(wanted: tuple[Entry, ...], moves: list[bool]) -> Plan:
    return plan(wanted, {e for e, move in zip(wanted, moves, strict=True) if not move})


# ── bytes ────────────────────────────────────────────────────────────────────────────────────


def _listed(bucket: Bucket, most: int) -> set[str] | None:
    """
    The blobs of a bucket, or None where listing costs more than asking for each of ours.

    It saves a request a file, and need not be true: what it lacks is put create-only, and
    what it has is looked at.
    """
    keys: set[str] = set()
    for o in bucket.list("blobs/"):
        if len(keys) == most:
            return None
        keys.add(o.key)
    return keys


def _send_file(bucket: Bucket, tree: Path, entry: Entry, listed: set[str] | None) -> bool:
    """Put the bytes of a file where they are not yet, or not whole; True where sent."""
    key = blob_key(entry.sha256)
    found = _head(bucket, key) if listed is None or key in listed else None
    if _is_sound(found, entry.size, entry.sha256):
        return False
    path, kind = tree / entry.path, mimetypes.guess_type(entry.path)[0]
    if entry.size <= _SMALL:
        _write(bucket, "put-blob", key, _read(path, entry), entry.sha256, found, kind)
        return True
    try:
        _write(bucket, "put-blob", key, path, entry.sha256, found, kind)
    except IntegrityError as error:  # the bucket compared the digest
        raise _changing(entry) from error
    if not is_file_of(path, entry):
        bucket.delete(key)  # this bucket compares nothing and has kept the wrong bytes
        raise _changing(entry)
    return True


def _read(path: Path, entry: Entry) -> bytes:
    """The bytes of a small file, hashed once more: what is sent is what was read."""
    try:
        body = path.read_bytes()
    except FileNotFoundError as error:
        raise _changing(entry) from error
    if hashlib.sha256(body).hexdigest() != entry.sha256:
        raise _changing(entry)
    return body


def _changing(entry: Entry) -> IntegrityError:
    return IntegrityError(
        f"{entry.path} changed while it was published",
        [entry.path],
        hint="let nothing write to the release while it is pushed, build it again, and push",
    )


def _is_there(bucket: Bucket, entry: Entry) -> bool:
    return _is_sound(_head(bucket, blob_key(entry.sha256)), entry.size, entry.sha256)


def _send_shards(bucket: Bucket, manifest: Manifest, record: Record) -> None:
    for name, shard in manifest.shards.items():
        stored = record.shards.get(name)
        if stored is None or stored.plain != shard:
            continue  # the provenance of whoever published this first stays
        body = shard_bytes(e for e in manifest.entries if e.shard == name)
        found = _head(bucket, stored.key)
        if not _is_sound(found, len(body), shard.sha256):
            _write(bucket, "put-manifest", stored.key, body, shard.sha256, found)


def _write(
    bucket: Bucket,
    step: str,
    key: str,
    body: bytes | Path,
    sha256: str,
    found: ObjectInfo | None,
    kind: str | None = None,
) -> None:
    """Create an object named by its content, or replace a damaged one."""
    _failpoint(step)
    try:
        bucket.put(key, body, sha256=sha256, if_absent=found is None, content_type=kind)
    except ObjectExists:  # someone was quicker, or our own answer got lost
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        if not _is_sound(_head(bucket, key), size, sha256):
            bucket.put(key, body, sha256=sha256, content_type=kind)


def _head(bucket: Bucket, key: str) -> ObjectInfo | None:
    try:
        return bucket.head(key)
    except ObjectNotFound:
        return None


def _is_sound(found: ObjectInfo | None, size: int, sha256: str) -> bool:
    """As far as the bucket can say without sending it."""
    return found is not None and found.size == size and found.sha256 in {None, sha256}


# ── the commit, and after ────────────────────────────────────────────────────────────────────


def _commit(bucket: Bucket, ours: Record) -> Record:
    """
    Create the release record, the version's first moment; give the record that stands.

    A create-only put may fail because its own first try went through and the answer got
    lost: then the record that stands is ours.
    """
    key = record_key(ours.name, Version.parse(ours.version))
    _failpoint("put-record")
    try:
        bucket.put(key, ours.to_bytes(), if_absent=True, content_type="application/json")
    except ObjectExists:
        theirs = _published(bucket, ours)
        if theirs is None:
            raise StorageError(f"{key} was there and is gone", hint="try again") from None
        return theirs
    return ours


def _advance(bucket: Bucket, name: str, channel: Channel, version: Version, root: str) -> None:
    """Let a channel point to this version; never back to an older one."""
    advance(bucket, name, channel, version, root, lambda: _failpoint("put-channel"))


_passed: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))


def _failpoint(step: str) -> None:
    """
    Die here, as in a power cut, if PUBLISHER_FAILPOINT says so: `put-blob`, or `put-blob@3`
    for the third time. Steps: put-blob, put-manifest, put-record, put-channel. For tests.
    """
    name, _, count = os.environ.get("PUBLISHER_FAILPOINT", "").partition("@")
    if name == step and next(_passed[step]) == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
