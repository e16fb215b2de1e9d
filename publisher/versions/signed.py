"""
What bytes a signature is over. Pure; `keys.py` signs and checks them.

A document is signed for its place: the key of its object is part of what is signed, so no
signature holds for another dataset, version, channel or kind of document. Of a release record,
where bytes lie is left out: a mirror that lays them out otherwise needs no new signature. The
prefix of the bucket is left out, too, and for the same reason.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import UsageError
from .manifest import ChannelState, PublicKey, Record, Status

_DOMAIN = "publisher/signature/1"
_LOCATION = ("layout",)  # of a record
_SHARD_LOCATION = ("index",)

_KEYS = msgspec.json.Decoder(PublicKey)


def statement(key: str, document: Record | ChannelState | Status) -> bytes:
    """
    What is signed: a line that says for what use, a line with the key of the object, and the
    document in canonical JSON without `seal`, `signatures` and, of a record, its location.
    """
    plain: dict[str, Any] = msgspec.to_builtins(document)
    plain.pop("signatures", None)
    if isinstance(document, Record):
        for name in _LOCATION:
            del plain[name]
        for shard in plain["shards"].values():
            for name in _SHARD_LOCATION:
                del shard[name]
    return f"{_DOMAIN}\n{key}\n".encode() + msgspec.json.encode(plain, order="sorted")


def public_key(text: str) -> str:
    """
    Read a public key as people paste it.

    Raises:
        UsageError: it is none. It is not repeated: it may be a private one.
    """
    try:
        return _KEYS.decode(msgspec.json.encode(text.strip()))
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise UsageError(
            "not a public key",
            hint="it is one line, ed25519: and 64 hex digits, as `publisher keygen` prints it",
        ) from None
