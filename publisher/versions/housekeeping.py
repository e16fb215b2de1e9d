"""
What keeps a bucket in order beside its versions: leases, relocations, marks, what was taken down.

A lease says that someone is at work, so that nothing is deleted under their hands. A relocation
says that an index has been replaced by another, because its packs had to be written anew. A
mark lists objects that no version needed when it was put. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal, Self

import msgspec

from ..errors import IntegrityError
from .manifest import Digest, Sealed, Text, damaged

LEASES = "leases/"
MARKS = "gc/"
BANNED = "retracted/"
NOTICE = "RETRACTED.txt"  # all that is left in the folder of a retracted version

MAX_MARK = 2**28  # bytes of a mark, or of a list of contents

_NAMED = re.compile(
    r"packs/([0-9a-f]{2})/\1[0-9a-f]{62}\.tar"
    r"|blobs/([0-9a-f]{2})/\2[0-9a-f]{62}"
    r"|manifests/[0-9a-f]{64}\.jsonl"
    r"|index/[0-9a-f]{64}\.idx"
    r"|relocations/[0-9a-f]{64}\.json"
    r"|doctor/[0-9a-f]{16}(\.sum)?"
)
_LIST = re.compile(r"(?:gc|retracted)/([0-9a-f]{64})\.txt")


# ── leases ───────────────────────────────────────────────────────────────────────────────────

Claim = Literal["shared", "exclusive"]
"""Shared with others who add; exclusive for who deletes."""


class LeaseNote(Sealed, frozen=True):
    """What a lease says: what for. How old it is, the bucket knows. Sealed."""

    what: Text
    schema: Literal["publisher/lease/1"] = "publisher/lease/1"


def lease_key(claim: Claim, token: str) -> str:
    """Where a lease lies; its name says what it claims."""
    return f"{LEASES}{claim}-{token}.json"


def is_exclusive(key: str) -> bool:
    """Does whoever holds this lease delete?"""
    return key.startswith(f"{LEASES}exclusive-")


# ── relocations ──────────────────────────────────────────────────────────────────────────────


class Relocation(Sealed, frozen=True):
    """
    That an index has been replaced: what `relocations/<index>.json` says. Sealed.

    A record names its indexes for ever. Where bytes lie is no part of what a version is, so
    another index may take the place of one that is gone; nobody believes it more than the first.
    """

    index: Digest  # that a record names
    to: Digest  # that is in force
    schema: Literal["publisher/relocation/1"] = "publisher/relocation/1"

    @classmethod
    def from_bytes(cls, body: bytes, key: str) -> Self:
        """
        Read a relocation that may be hostile.

        Raises:
            IntegrityError: `key`, its object, is damaged or another's.
        """
        found = super().from_bytes(body, key)
        if key != relocation_key(found.index):
            raise damaged(key, f"it is that of {found.index}")
        return found


def relocation_key(index: str) -> str:
    """Where it is said what has taken the place of an index."""
    return f"relocations/{index}.json"


# ── lists of keys and of contents ────────────────────────────────────────────────────────────


def mark_of(keys: Iterable[str]) -> tuple[str, bytes]:
    """Key and bytes of the mark of these objects; named by its content."""
    return _list(MARKS, keys)


def ban_of(contents: Iterable[str]) -> tuple[str, bytes]:
    """Key and bytes of the list of contents, by sha256, that may not come back."""
    return _list(BANNED, contents)


def _list(folder: str, lines: Iterable[str]) -> tuple[str, bytes]:
    body = "".join(f"{line}\n" for line in sorted(set(lines))).encode()
    return f"{folder}{hashlib.sha256(body).hexdigest()}.txt", body


def is_list(key: str) -> bool:
    """Is it the key of a mark, or of a list of contents?"""
    return _LIST.fullmatch(key) is not None


def read_list(body: bytes, key: str) -> frozenset[str]:
    """
    The lines of a mark or of a list of contents.

    Raises:
        IntegrityError: it is not what its key says.
    """
    match = _LIST.fullmatch(key)
    if match is None or hashlib.sha256(body).hexdigest() != match[1]:
        raise IntegrityError(f"{key} is damaged", [key], hint="delete it; gc marks anew")
    return frozenset(body.decode().splitlines())


# ── whose an object is ───────────────────────────────────────────────────────────────────────


def may_be_garbage(key: str) -> bool:
    """
    Is it named as publisher names what versions share, or what it tries things on?

    Whatever else lies in a bucket is a stranger's, and no business of ours.
    """
    return _NAMED.fullmatch(key) is not None


def notice(name: str, version: str, at: str, reason: str) -> bytes:
    """What people find in the folder of a version that is gone."""
    return (
        f"{name} {version} was retracted on {at[:10]} and is gone for good.\n"
        f"Reason: {reason}\nIf you have a copy of it, delete that, too.\n"
    ).encode()


msgspec.json.Decoder(LeaseNote)  # made here, not in threads; see the end of manifest.py
msgspec.json.Decoder(Relocation)
