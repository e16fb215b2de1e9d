"""
publisher.lock: which version a reference meant when it was last settled. Pure.

A consumer keeps it in git, so that everyone gets the same bytes although a channel has moved;
it remembers how far a channel was, so that an older state of it is noticed, and whose
signatures a dataset must have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from ..errors import FormatError
from .manifest import MAX_SIGNATURES, PublicKey, Root, Text
from .version import Reference, Version

SCHEMA = "publisher/lock/1"
MAX_LOCK = 2**20  # bytes


class Locked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one reference was settled to."""

    version: Text
    root: Root
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0  # moves of the channel; 0: is none

    def after(self, old: Locked) -> Locked:
        """This, not forgetting how far the channel was: or old copies lead back step by step."""
        same = (self.version, self.root) == (old.version, old.root)
        return Locked(self.version, self.root, max(self.seq, old.seq)) if same else self


_Keys = Annotated[tuple[PublicKey, ...], msgspec.Meta(min_length=1, max_length=MAX_SIGNATURES)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    schema: str
    versions: Annotated[dict[Text, Locked], msgspec.Meta(max_length=10_000)]
    trusted: Annotated[dict[Text, _Keys], msgspec.Meta(max_length=10_000)] = {}


_FILE = msgspec.json.Decoder(_File)  # made here, not in threads; see the end of manifest.py


@dataclass(frozen=True, slots=True)
class Lock:
    """What references were settled to, by how they are written, and whom each dataset trusts."""

    versions: Mapping[str, Locked] = field(default_factory=dict)
    trusted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by remote/name

    def of(self, reference: Reference) -> Locked | None:
        """What it was settled to; None where it was not yet."""
        return self.versions.get(str(reference))

    def having(self, reference: Reference, locked: Locked) -> Lock:
        """The same with one more, or with another one in its place."""
        return Lock({**self.versions, str(reference): locked}, self.trusted)

    def keys_of(self, reference: Reference) -> frozenset[str]:
        """The public keys that are pinned for its dataset; none asks for no signature."""
        return frozenset(self.trusted.get(_dataset(reference), ()))

    def trusting(self, reference: Reference, keys: Collection[str]) -> Lock:
        """The same with other keys pinned for its dataset."""
        pinned = tuple(sorted(set(keys)))
        return Lock(self.versions, {**self.trusted, _dataset(reference): pinned})

    def to_bytes(self) -> bytes:
        """Canonical JSON, one reference after another by name, fit for git."""
        file = _File(SCHEMA, dict(self.versions), dict(self.trusted))
        return msgspec.json.format(msgspec.json.encode(file, order="sorted"), indent=1) + b"\n"

    @classmethod
    def from_bytes(cls, body: bytes, path: str = "publisher.lock") -> Lock:
        """
        Read a lock that may be hostile.

        Raises:
            FormatError: it is none.
        """
        if len(body) > MAX_LOCK:
            raise FormatError(f"more than {MAX_LOCK:,} bytes", path=path)
        try:
            file = _FILE.decode(body)
            for locked in file.versions.values():
                Version.parse(locked.version)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            hint = "take it from git again, or remove it and settle anew"
            raise FormatError(f"no lock: {error}", path=path, code="J001", hint=hint) from None
        if file.schema != SCHEMA:
            raise FormatError(f"unknown schema {file.schema!r}", path=path)
        return cls(file.versions, file.trusted)


def _dataset(reference: Reference) -> str:
    return f"{reference.remote}/{reference.name}"


def fell_back(old: Locked, new: Locked) -> str | None:
    """Why what a channel says now is older than what it said before; None where it is not."""
    if (new.version, new.root) == (old.version, old.root):
        return None  # an older copy of the same; see `Locked.after`
    if new.seq < old.seq:
        return (
            f"it says {new.version} by move {new.seq}, and has said {old.version} by move "
            f"{old.seq}: this is an old copy, or somebody put one there"
        )
    if new.seq == old.seq and new.seq:
        return f"move {new.seq} said {old.version} before, and says {new.version} now"
    if Version.parse(new.version) < Version.parse(old.version):
        return f"its maintainers moved it back from {old.version} to {new.version}"
    return None
