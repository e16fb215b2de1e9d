"""
Trust: whose signatures a consumer asks for, and what a maintainer signs with.

Who pins no key is asked for none, and believes whoever may write to the bucket. Who pins one
gets only what a pinned key has signed, for its very place, and that has not run out; all this
is known before the first byte is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

import msgspec

from .. import keys
from ..errors import AccessDenied, ObjectNotFound, Untrusted, UsageError
from ..names import listing
from ..storage import Bucket
from ..versions.manifest import (
    MAX_DOCUMENT,
    ChannelState,
    Record,
    ReleaseSignatures,
    Signature,
    Status,
    channel_key,
    record_key,
    signatures_key,
    status_key,
)
from ..versions.signed import public_key, statement
from ..versions.version import Channel, Version

NEVER = "never"
S = TypeVar("S", ChannelState, Status)


# ── what a consumer asks for ─────────────────────────────────────────────────────────────────


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Trust:
    """Public keys, any of which is enough; none at all asks for no signature."""

    keys: frozenset[str] = frozenset()
    clock: Callable[[], datetime] = _now

    @classmethod
    def of(cls, texts: Iterable[str]) -> Trust:
        """
        Trust these public keys, as people paste them.

        Raises:
            UsageError: one is no public key.
        """
        return cls(frozenset(map(public_key, texts)))

    def check_record(self, bucket: Bucket, record: Record) -> None:
        """
        Has a trusted key signed this release record?

        Raises:
            Untrusted: none has, or the record is not what was signed.
            IntegrityError: the object with its signatures is damaged.
        """
        if not self.keys:
            return
        what, version = f"{record.name} {record.version}", Version.parse(record.version)
        found = find_signatures(bucket, record.name, version)
        self._check(what, found, statement(record_key(record.name, version), record))

    def check_channel(self, name: str, channel: Channel, state: ChannelState) -> None:
        """
        Has a trusted key signed what a channel says, and does that still hold?

        Raises:
            Untrusted: none has, or it has run out.
        """
        if not self.keys:
            return
        what = f"{name}@{channel}"
        self._check(what, state.signed, statement(channel_key(name, channel), state))
        now = self.clock()
        if state.end is not None and state.end <= now:
            raise Untrusted(
                f"{what} has run out on {state.expires}, and it is {now.isoformat()[:19]} here: "
                "its maintainers have not signed it again, or somebody keeps that from you",
                hint="ask them (`publisher channel … --refresh`); a version by its number never "
                "runs out; if this machine's clock is wrong, set it",
            )

    def heeds(self, name: str, status: Status) -> bool:
        """Does what is said of a version count? Who pins a key listens to no other."""
        if not self.keys:
            return True
        said = statement(status_key(name, Version.parse(status.version)), status)
        return any(s.key in self.keys and keys.holds(s, said) for s in status.signed)

    def _check(self, what: str, found: tuple[Signature, ...], said: bytes) -> None:
        ours = [s for s in found if s.key in self.keys]
        if any(keys.holds(s, said) for s in ours):
            return
        if ours:
            raise Untrusted(
                f"{what} is not what {ours[0].key} has signed: it was changed since, or the "
                "signature is of something else",
                hint="do not use it, and tell its maintainers",
            )
        others = f", only of {listing([s.key for s in found])}" if found else ""
        raise Untrusted(
            f"{what} has no signature of a key that you trust{others}",
            hint="somebody may have taken it away; or its maintainers have yet to sign it "
            "(`publisher sign`, for channels `channel --key`), or have a new key: ask them",
        )


NOBODY = Trust()


def find_signatures(bucket: Bucket, name: str, version: Version) -> tuple[Signature, ...]:
    """
    The signatures of a release record, unchecked.

    Raises:
        IntegrityError: their object is damaged.
    """
    key = signatures_key(name, version)
    try:
        return ReleaseSignatures.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key).signatures
    except (ObjectNotFound, AccessDenied):
        return ()  # S3 denies what is not there to those who may not list


def signers_of(bucket: Bucket, record: Record) -> tuple[str, ...]:
    """The public keys whose signature of a record holds; () also where that cannot be checked."""
    version = Version.parse(record.version)
    found = find_signatures(bucket, record.name, version)
    if not found or not keys.is_available():
        return ()
    said = statement(record_key(record.name, version), record)
    return tuple(s.key for s in found if keys.holds(s, said))


# ── what a maintainer signs with ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Signers:
    """
    Private keys, each of which signs; none at all signs nothing.

    `until` is when a channel is to be signed anew, as a moment of ISO 8601 in UTC, or "never";
    None where nobody has said.
    """

    keys: tuple[keys.SigningKey, ...] = ()
    until: str | Literal["never"] | None = None

    def __post_init__(self) -> None:
        if self.until is not None and not self.keys:
            raise UsageError("an end goes with a signature", hint="say --key FILE, too")

    @property
    def trust(self) -> Trust:
        """Believe what these keys have signed, also where it has run out."""
        start = datetime.min.replace(tzinfo=UTC)
        return Trust(frozenset(key.public for key in self.keys), clock=lambda: start)

    def sign(self, said: bytes) -> tuple[Signature, ...]:
        """A signature of each."""
        return tuple(sorted(key.sign(said) for key in self.keys))

    def signed(self, key: str, document: S) -> S:
        """A document for the place `key`, with signatures of these keys and no others."""
        if not self.keys:
            return document
        signatures = self.sign(statement(key, document))
        return msgspec.structs.replace(document, signatures=signatures)

    def have_signed(self, key: str, document: ChannelState | Status) -> bool:
        """Has each of these keys signed it?"""
        theirs = set(document.signed)
        return theirs.issuperset(self.sign(statement(key, document)))


UNSIGNED = Signers()
