"""Private keys for tests, the same in every run, and who signs with them."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from publisher.bucket.trust import Signers, Trust
from publisher.keys import SigningKey


def secret(name: str) -> bytes:
    """The 32 bytes of a private key that goes by this name."""
    return hashlib.sha256(f"test key of {name}".encode()).digest()


def key(name: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(secret(name))
    return SigningKey(f"ed25519:{private.public_key().public_bytes_raw().hex()}", private)


def public(name: str) -> str:
    return key(name).public


def signers(*names: str, until: str | None = None) -> Signers:
    return Signers(tuple(key(name) for name in names), until)


def trust(*names: str) -> Trust:
    return Trust.of(public(name) for name in names)
