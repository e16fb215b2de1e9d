"""
Maintain: say what became of published versions. Bytes never change; what points to them does.

A channel and a status are one small object each, changed by compare-and-swap only: read,
decide, write if nobody else has; else look again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, Self, TypeVar

import msgspec

from ..errors import (
    AccessDenied,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    StorageError,
    UsageError,
    VersionConflict,
    VersionNotFound,
    VersionRetracted,
)
from ..failpoint import failpoint
from ..names import listing
from ..storage import Bucket, require_conditional_writes
from ..versions.manifest import MAX_DOCUMENT, ChannelState, Status, channel_key, status_key
from ..versions.version import Channel, Selector, Version
from .catalog import find_status, read_channel, resolve, versions
from .sending import put_over
from .trust import NEVER, UNSIGNED, Signers

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
    signers: Signers = UNSIGNED,
    refresh: bool = False,
) -> Moved:
    """
    Let a channel point to a version.

    Args:
        allow_rollback: also to an older one than now.
        signers: who signs it. They sign no version, and believe no channel, that none of them
            has signed: else whoever may write to the bucket could have them sign anything.
        refresh: sign again where it points there and is signed already.

    Raises:
        VersionNotFound: no version answers to the selector.
        UsageError: that version is yanked; or the channel is signed, and would be no more.
        Untrusted: there are signers, and none has signed what they are to vouch for.
        VersionConflict: the channel is further already, and `allow_rollback` is not given.
    """
    if refresh and not signers.keys:
        raise UsageError("to refresh a channel is to sign it again", hint="say --key FILE, too")
    record = resolve(bucket, name, selector, signers.trust)
    version, key = Version.parse(record.version), channel_key(name, channel)
    status = find_status(bucket, name, version, signers.trust)
    if status is not None and status.state == "yanked":
        raise UsageError(f"{name} {version} is {status}", hint="choose another version")
    if not dry_run:
        require_conditional_writes(bucket)

    def decide(now: ChannelState | None) -> ChannelState | None:
        is_there = now is not None and (now.version, now.root) == (record.version, record.root)
        if now is not None and is_there and not refresh and signers.have_signed(key, now):
            return None
        _check_signing(name, channel, now, signers)
        if now is not None and Version.parse(now.version) > version and not allow_rollback:
            raise VersionConflict(
                f"{channel} of {name} is {now.version} already, newer than {version}",
                hint="say --allow-rollback to move it back; who has the newer one will be told",
            )
        return _next(key, now, version, record.root, signers)

    old, new = swap(bucket, key, ChannelState, decide, dry_run=dry_run)
    was = old.version if old is not None else None
    return Moved(str(channel), record.version, was, new is not None)


def advance(
    bucket: Bucket,
    name: str,
    channel: Channel,
    version: Version,
    root: str,
    before_put: Callable[[], None] = lambda: None,
    signers: Signers = UNSIGNED,
) -> None:
    """Let a channel point to a version, unless it is further already, or that is yanked."""
    key = channel_key(name, channel)

    def decide(now: ChannelState | None) -> ChannelState | None:
        if now is not None and Version.parse(now.version) >= version:
            is_ours = (now.version, now.root) == (str(version), root)
            if not is_ours or signers.have_signed(key, now):
                return None
        _check_signing(name, channel, now, signers)
        status = find_status(bucket, name, version, signers.trust)
        if status is not None and status.state in {"yanked", "retracted"}:
            return None
        before_put()
        return _next(key, now, version, root, signers)

    swap(bucket, key, ChannelState, decide)


def take_channel(
    bucket: Bucket, name: str, channel: Channel, theirs: ChannelState, *, dry_run: bool = False
) -> Moved:
    """
    Let a channel say what another bucket's says, byte for byte; never back to an older version.

    Where ours was moved more often than theirs, it counts on, so that nobody who remembers it
    takes it for an old copy; unless it is signed. An unsigned one takes no signed one's place.
    """
    version, key = Version.parse(theirs.version), channel_key(name, channel)

    def decide(now: ChannelState | None) -> ChannelState | None:
        if now is None:
            return theirs
        here = Version.parse(now.version)
        if here > version or (here == version and theirs.moves <= now.moves):
            return None
        if theirs.moves > now.moves or theirs.signed:  # which holds for this very count
            return None if now.signed and not theirs.signed else theirs
        return None if now.signed else _next(key, now, version, theirs.root, UNSIGNED)

    old, new = swap(bucket, key, ChannelState, decide, dry_run=dry_run)
    stands = new or old
    assert stands is not None
    was = old.version if old is not None else None
    return Moved(str(channel), stands.version, was, new is not None)


def check_may_move(
    bucket: Bucket, name: str, channel: Channel, version: Version, signers: Signers
) -> None:
    """
    Say before anything is sent what letting a channel advance would refuse in the end.

    Raises:
        UsageError: the channel is signed and would be no more, or would lose its end.
    """
    with suppress(IntegrityError, AccessDenied):  # what moves it will say so
        now = read_channel(bucket, name, channel)
        if now is not None and Version.parse(now.version) < version:
            _check_signing(name, channel, now, signers)


def _check_signing(name: str, channel: Channel, now: ChannelState | None, signers: Signers) -> None:
    """What a channel promises to those who pin a key does not get lost unseen."""
    if now is None or not now.signed:
        return
    if not signers.keys:
        raise UsageError(
            f"{channel} of {name} is signed by {listing([s.key for s in now.signed])}: who pins "
            "that key would get nothing more from it",
            hint="say --key FILE; or let its holder move this channel, and push to another one",
        )
    if now.end is not None and signers.until is None:
        raise UsageError(
            f"{channel} of {name} has an end, {now.expires}, and would have none",
            hint="say when it ends now: --expires DAYS, where 0 is never",
        )


def _next(
    key: str, now: ChannelState | None, version: Version, root: str, signers: Signers
) -> ChannelState:
    """The next state of the channel at `key`, signed; a move, or the same said again."""
    state = ChannelState(str(version), root, seq=now.moves + 1 if now is not None else 1)
    if now is not None:
        stays = now.version == state.version
        previous = now.previous if stays else now.version
        state = msgspec.structs.replace(state, previous=previous)
    if signers.until not in {None, NEVER}:
        state = msgspec.structs.replace(state, expires=signers.until)
    return signers.signed(key, state)


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
    signers: Signers = UNSIGNED,
) -> bool:
    """
    Yank a version, deprecate it, or take that back ("active"); False where it is so already.

    Args:
        at: now, ISO 8601.
        superseded_by: what to use instead.
        signers: who signs it; those who pin a key listen to nobody else.

    Raises:
        VersionNotFound: there is no such version, or none to use instead.
        VersionRetracted: it is gone, and nothing can be said of it any more.
        UsageError: no reason, a version in its own place, or a yanked one to be deprecated.
    """
    reason = checked_reason(reason)
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
    key = status_key(name, version)
    said = signers.signed(key, Status(str(version), state, reason, at, instead))

    def decide(now: Status | None) -> Status | None:
        if now is not None and now.state == "retracted":
            raise VersionRetracted(f"{name} {version} is {now}", now.reason)
        if _same(now, said) and (now is None or signers.have_signed(key, now)):
            return None
        if now is not None and now.state == "yanked" and state == "deprecated":
            raise UsageError(
                f"{name} {version} is {now}", hint="that says more; take it back with yank --undo"
            )
        return said

    return swap(bucket, key, Status, decide, dry_run=dry_run)[1] is not None


def checked_reason(reason: str) -> str:
    """
    What readers are told, on one line.

    Raises:
        UsageError: it is empty, or too long.
    """
    reason = " ".join(reason.split())
    if not reason or len(reason) > 1024:
        raise UsageError("a reason has 1 to 1,024 characters", hint="--reason 'what is wrong'")
    return reason


def take_status(bucket: Bucket, name: str, theirs: Status, *, dry_run: bool = False) -> bool:
    """Say of a version what another bucket says, unless what is said here is newer, or for good."""

    def decide(now: Status | None) -> Status | None:
        if now is not None and now.state == "retracted":
            return None
        return theirs if now is None or (now != theirs and _later(theirs.at, now.at)) else None

    key = status_key(name, Version.parse(theirs.version))
    return swap(bucket, key, Status, decide, dry_run=dry_run)[1] is not None


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


def swap(
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
        failpoint("swap")
        try:
            put_over(bucket, key, new.to_bytes(), etag)
        except (ObjectExists, PreconditionFailed):
            continue
        failpoint("after-swap")
        return now, new
    raise StorageError(f"{key} changes too often", hint="run the same command again")


def _read(bucket: Bucket, key: str, kind: type[D]) -> D:
    return kind.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key)
