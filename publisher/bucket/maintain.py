"""
Maintain: say what became of published versions. Bytes never change; what points to them does.

A channel and a status are one small object each, changed by compare-and-swap only: read,
decide, write if nobody else has; else look again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, Self, TypeVar

from ..errors import (
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    StorageError,
    UsageError,
    VersionConflict,
    VersionNotFound,
)
from ..names import listing
from ..storage import Bucket, require_conditional_writes
from ..versions.manifest import MAX_DOCUMENT, ChannelState, Status, channel_key, status_key
from ..versions.version import Channel, Selector, Version
from .consume import find_status, resolve, versions

_TRIES = 20  # at changing what others change too


class _Document(Protocol):
    def to_bytes(self) -> bytes: ...

    @classmethod
    def from_bytes(cls, body: bytes, key: str) -> Self: ...


D = TypeVar("D", bound=_Document)


# ── channels ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a channel points to, and pointed to before."""

    channel: str
    version: str
    was: str | None
    moved: bool


def move_channel(
    bucket: Bucket,
    name: str,
    channel: Channel,
    selector: Selector | str,
    *,
    allow_rollback: bool = False,
    dry_run: bool = False,
) -> Moved:
    """
    Let a channel point to a version.

    Args:
        allow_rollback: also to an older one than now.

    Raises:
        VersionNotFound: no version answers to the selector.
        UsageError: that version is yanked.
        VersionConflict: the channel is further already, and `allow_rollback` is not given.
    """
    record = resolve(bucket, name, selector)
    version = Version.parse(record.version)
    status = find_status(bucket, name, version)
    if status is not None and status.state == "yanked":
        raise UsageError(f"{name} {version} is {status}", hint="choose another version")
    if not dry_run:
        require_conditional_writes(bucket)

    def decide(now: ChannelState | None) -> ChannelState | None:
        if now is not None and now.version == record.version and now.root == record.root:
            return None
        if now is not None and Version.parse(now.version) > version and not allow_rollback:
            raise VersionConflict(
                f"{channel} of {name} is {now.version} already, newer than {version}",
                hint="say --allow-rollback to move it back; who has the newer one will be told",
            )
        return _next(now, version, record.root)

    old, new = _swap(bucket, channel_key(name, channel), ChannelState, decide, dry_run=dry_run)
    was = old.version if old is not None else None
    return Moved(str(channel), record.version, was, new is not None)


def advance(
    bucket: Bucket,
    name: str,
    channel: Channel,
    version: Version,
    root: str,
    before_put: Callable[[], None] = lambda: None,
) -> None:
    """Let a channel point to a version, unless it is further already, or that is yanked."""

    def decide(now: ChannelState | None) -> ChannelState | None:
        if now is not None and Version.parse(now.version) >= version:
            return None
        status = find_status(bucket, name, version)
        if status is not None and status.state == "yanked":
            return None
        before_put()
        return _next(now, version, root)

    _swap(bucket, channel_key(name, channel), ChannelState, decide)


def take_channel(
    bucket: Bucket, name: str, channel: Channel, theirs: ChannelState, *, dry_run: bool = False
) -> Moved:
    """
    Let a channel say what another bucket's says, byte for byte; never back to an older version.

    Where ours was moved more often than theirs, it counts on, so that nobody who remembers it
    takes it for an old copy.
    """
    version = Version.parse(theirs.version)

    def decide(now: ChannelState | None) -> ChannelState | None:
        if now is None:
            return theirs
        here = Version.parse(now.version)
        if here > version or (here == version and theirs.moves <= now.moves):
            return None
        return theirs if theirs.moves > now.moves else _next(now, version, theirs.root)

    old, new = _swap(bucket, channel_key(name, channel), ChannelState, decide, dry_run=dry_run)
    stands = new or old
    assert stands is not None
    was = old.version if old is not None else None
    return Moved(str(channel), stands.version, was, new is not None)


def _next(now: ChannelState | None, version: Version, root: str) -> ChannelState:
    if now is None:
        return ChannelState(str(version), root, seq=1)
    return ChannelState(str(version), root, seq=now.moves + 1, previous=now.version)


# ── status ───────────────────────────────────────────────────────────────────────────────────

State = Literal["active", "yanked", "deprecated"]


def mark(
    bucket: Bucket,
    name: str,
    version: Version,
    state: State,
    reason: str,
    *,
    at: str,
    superseded_by: Version | None = None,
    dry_run: bool = False,
) -> bool:
    """
    Yank a version, deprecate it, or take that back ("active"); False where it is so already.

    Args:
        at: now, ISO 8601.
        superseded_by: what to use instead.

    Raises:
        VersionNotFound: there is no such version, or none to use instead.
        UsageError: no reason, a version in its own place, or a yanked one to be deprecated.
    """
    reason = " ".join(reason.split())
    if not reason or len(reason) > 1024:
        raise UsageError("a reason has 1 to 1,024 characters", hint="--reason 'what is wrong'")
    if version == superseded_by:
        raise UsageError(f"{version} cannot be used instead of itself")
    there = versions(bucket, name)
    for wanted in (version, *([superseded_by] if superseded_by else [])):
        if wanted not in there:
            hint = f"published: {listing([str(v) for v in there[::-1]])}" if there else None
            raise VersionNotFound(f"no {name}@{wanted} in {bucket.url}", hint=hint)
    if not dry_run:
        require_conditional_writes(bucket)
    instead = str(superseded_by) if superseded_by else None
    said = Status(str(version), state, reason, at, instead)

    def decide(now: Status | None) -> Status | None:
        if _same(now, said):
            return None
        if now is not None and now.state == "yanked" and state == "deprecated":
            raise UsageError(
                f"{name} {version} is {now}", hint="that says more; take it back with yank --undo"
            )
        return said

    return _swap(bucket, status_key(name, version), Status, decide, dry_run=dry_run)[1] is not None


def take_status(bucket: Bucket, name: str, theirs: Status, *, dry_run: bool = False) -> bool:
    """Say of a version what another bucket says, unless what is said here is newer."""

    def decide(now: Status | None) -> Status | None:
        return theirs if now is None or (now != theirs and _later(theirs.at, now.at)) else None

    key = status_key(name, Version.parse(theirs.version))
    return _swap(bucket, key, Status, decide, dry_run=dry_run)[1] is not None


def _later(one: str, other: str) -> bool:
    """Is one time after another? Not if nobody can say."""
    try:
        return datetime.fromisoformat(one) > datetime.fromisoformat(other)
    except (TypeError, ValueError):  # no times, or one of them without its zone
        return False


def _same(now: Status | None, said: Status) -> bool:
    """Does it stand so already? An active version needs no reason."""
    if now is None or now.state == "active" == said.state:
        return said.state == "active"
    return (now.state, now.reason, now.superseded_by) == (
        said.state,
        said.reason,
        said.superseded_by,
    )


# ── compare-and-swap ─────────────────────────────────────────────────────────────────────────


def _swap(
    bucket: Bucket,
    key: str,
    kind: type[D],
    decide: Callable[[D | None], D | None],
    *,
    dry_run: bool = False,
) -> tuple[D | None, D | None]:
    """
    Replace a document by what `decide` makes of it, None being to leave it; gives both.

    `decide` is called again where someone else was quicker.
    """
    for _ in range(_TRIES):
        try:
            etag = bucket.head(key).etag  # before the body, so that it is never too new
            now = _read(bucket, key, kind)
        except ObjectNotFound:
            etag, now = None, None
        new = decide(now)
        if new is None or dry_run:
            return now, new
        try:
            bucket.put(
                key,
                new.to_bytes(),
                if_absent=etag is None,
                if_match=etag,
                content_type="application/json",
                cache_control="no-cache",
            )
        except (ObjectExists, PreconditionFailed):
            continue
        return now, new
    raise StorageError(f"{key} changes too often", hint="run the same command again")


def _read(bucket: Bucket, key: str, kind: type[D]) -> D:
    return kind.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key)
