"""
Retract: take a version down for good, with its bytes, wherever they lie. For privacy.

A picture that must go must go everywhere. So every version that has one of the named contents
goes, in every dataset of the bucket; what the others need and what lies in one pack with it is
written anew first, and an index takes the place of the old one. What is left of a version is
its record, so that the number is never used again, and a status that says why.

Tombstones come first, that of the version that was asked for last, since it says what was named;
all the rest follows from what the bucket holds then: see erasing.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ..errors import UsageError, VersionNotFound
from ..names import listing
from ..progress import Transfer, unwatched
from ..storage import Bucket, ObjectInfo, require_conditional_writes
from ..versions.housekeeping import ban_of
from ..versions.manifest import Entry, Status, status_key
from ..versions.packs import Index
from ..versions.version import Version, check_name
from .catalog import read_version
from .erasing import erase, is_done, removal_of, rubbish, users_of
from .leases import held
from .maintain import checked_reason, swap
from .sending import content_type, write
from .survey import Needs, Stand, needs_of, shelves, survey


@dataclass(frozen=True, slots=True)
class Retraction:
    """What a retraction did, or would do."""

    versions: tuple[str, ...]  # that go; the one that was asked for is first
    named: tuple[str, ...]  # paths of the files that were named, in that version
    erased: int  # contents that are nowhere any more
    moved: int  # bytes of versions that stay which are written anew
    repacked: tuple[str, ...]  # versions that stay, and have such bytes
    deleted: tuple[ObjectInfo, ...]
    history: int | None = 0  # earlier versions of objects that the bucket kept; None: may not see


def plan_retraction(
    bucket: Bucket, name: str, version: Version, files: Sequence[str] = ()
) -> Retraction:
    """
    Say what `retract` with the same arguments would do; touch nothing.

    Raises: as `retract`.
    """
    stands = survey(bucket)
    asked = _asked(bucket, stands, name, version)
    named = _named(bucket, asked, files)
    gone = [s for s in stands if s.is_retracted and not is_done(bucket, s)]
    going = _going(bucket, stands, asked, {e.sha256 for e in named})
    stay = [s for s in stands if not s.is_retracted and s not in going]
    removal = removal_of(bucket, [*gone, *going], stay)
    needed = needs_of(bucket, stay)
    kept = Needs(needed.keys - removal.doomed - removal.indexes, needed.folders)
    return Retraction(
        tuple(s.title for s in going),
        tuple(e.path for e in named) if files else (),
        len(removal.erased),
        sum(place.size for place in removal.moves.values()),
        tuple(s.title for s in users_of(removal.shelves)),
        tuple(rubbish(bucket, kept)),
    )


def retract(
    bucket: Bucket,
    name: str,
    version: Version,
    reason: str,
    *,
    at: str,
    files: Sequence[str] = (),
    on_bytes: Transfer = unwatched,
) -> Retraction:
    """
    Take down a version, and every other that has the same contents, with their bytes.

    Calling it again goes on where it was cut short.

    Args:
        reason: readers are told.
        at: now, ISO 8601.
        files: patterns of paths of this version, `*` being anything; what has these contents
            goes, and no push may bring them back. Without any, the contents are the pictures
            of the version, or where it has none, all files that belong to a split.
        on_bytes: told of files that are written anew.

    Raises:
        UsageError: no reason, or no such files.
        VersionNotFound: there is no such version.
        BucketBusy: someone is at work.
        IntegrityError: the lists of a version are damaged; nothing was changed.
    """
    reason = checked_reason(reason)
    require_conditional_writes(bucket)
    with held(bucket, "exclusive", f"the retraction of {name} {version}") as lease:
        stands = survey(bucket)
        asked = _asked(bucket, stands, name, version)
        plan = Retraction((asked.title,), (), 0, 0, (), ())
        if not asked.is_retracted:
            plan = plan_retraction(bucket, name, version, files)
            contents = {e.sha256 for e in _named(bucket, asked, files)}
            if files:
                _ban(bucket, contents)
            going = _going(bucket, stands, asked, contents)
            for stand in (*going[1:], asked):  # it is what a repetition starts from
                lease.check()
                _bury(bucket, stand, reason, at)
        done = erase(bucket, lease, on_bytes, asked)
        return replace(plan, deleted=done.deleted, history=done.history)


# ── which versions go ────────────────────────────────────────────────────────────────────────


def _asked(bucket: Bucket, stands: Sequence[Stand], name: str, version: Version) -> Stand:
    check_name(name)
    for stand in stands:
        if (stand.record.name, stand.version) == (name, version):
            return stand
    there = [str(s.version) for s in stands if s.record.name == name]
    hint = f"published: {listing(there[::-1])}" if there else None
    raise VersionNotFound(f"no {name}@{version} in {bucket.url}", hint=hint)


def _named(bucket: Bucket, asked: Stand, files: Sequence[str]) -> list[Entry]:
    """The files whose contents must go."""
    if asked.is_retracted:
        return []
    entries = read_version(bucket, asked.record).entries
    if not files:
        inside = [e for e in entries if e.split is not None]
        return [e for e in inside if e.path.startswith(f"{e.split}/images/")] or inside
    for pattern in files:
        if not any(fnmatchcase(e.path, pattern) for e in entries):
            raise UsageError(
                f"no file of {asked.title} is called {pattern!r}",
                hint="patterns are paths within the version, such as 'train/images/0001.jpg'; "
                "* is anything",
            )
    return [e for e in entries if any(fnmatchcase(e.path, p) for p in files)]


def _going(
    bucket: Bucket, stands: Sequence[Stand], asked: Stand, contents: Collection[str]
) -> list[Stand]:
    """The versions that have one of these contents; the one that was asked for is first."""
    found = {} if asked.is_retracted else {asked.title: asked}
    for shelf in shelves(bucket, [s for s in stands if not s.is_retracted]):
        if _has_any(shelf.index, contents):
            found |= {s.title: s for s, _ in shelf.users}
    return list(found.values())


def _has_any(index: Index, contents: Collection[str]) -> bool:
    if len(contents) < len(index):
        return any(index.find(sha256) is not None for sha256 in contents)
    return any(sha256 in contents for sha256, _ in index)


def _ban(bucket: Bucket, contents: Collection[str]) -> None:
    """From now on no push may bring these back."""
    key, body = ban_of(contents)
    digest = hashlib.sha256(body).hexdigest()
    write(bucket, "put-ban", key, body, digest, None, content_type(key))


def _bury(bucket: Bucket, stand: Stand, reason: str, at: str) -> None:
    """Say that a version is gone, for good."""
    said = Status(str(stand.version), "retracted", reason, at)

    def decide(now: Status | None) -> Status | None:
        return None if now is not None and now.state == "retracted" else said

    swap(bucket, status_key(stand.record.name, stand.version), Status, decide)
