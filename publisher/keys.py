"""
Ed25519 keys: files of private keys, signatures, and whether they hold.

The one module that imports `cryptography`, when a key is first used. A private key file is one
line, `ed25519-private:` and 64 hex digits, which nobody but its owner may read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .errors import UsageError
from .versions.manifest import MAX_SIGNATURES, Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

_PRIVATE = re.compile(rb"ed25519-private:([0-9a-f]{64})\s*")
_PUBLIC = "ed25519:"
_MAX_FILE = 4096  # bytes; a key has 81


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. It shows its public half only."""

    public: str
    _private: ed25519.Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, statement: bytes) -> Signature:
        """The signature of this key over some bytes; always the same."""
        return Signature(self.public, self._private.sign(statement).hex())


def create(path: Path) -> SigningKey:
    """
    Make a new key and write its file, which only its owner can read.

    Raises:
        UsageError: there is a file already, or none can be written.
    """
    _refuse_key_itself(path)
    private = _ed25519().Ed25519PrivateKey.generate()
    line = f"ed25519-private:{private.private_bytes_raw().hex()}\n"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        raise UsageError(f"{path} is there already", hint="a key is never overwritten") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return _key(private)


def read(path: Path) -> SigningKey:
    """
    Read the file of a private key. What it holds is never repeated.

    Raises:
        UsageError: there is none, others may read it, or it is no such file.
    """
    _refuse_key_itself(path)
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(file, "rb") as stream:
            facts = os.fstat(stream.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise UsageError(f"{path} is no file")
            if os.name == "posix" and facts.st_mode & 0o077:
                raise UsageError(
                    f"others may read or change {path}: a private key is its owner's alone",
                    hint=f"chmod 600 {path}; if others had it, make a new one",
                )
            body = stream.read(_MAX_FILE)
    except OSError as error:
        if isinstance(error, UsageError):
            raise
        hint = "`publisher keygen FILE` makes one"
        raise UsageError(f"{path}: {error.strerror}", hint=hint) from None
    match = _PRIVATE.fullmatch(body)
    if match is None:
        raise UsageError(
            f"{path} holds no private key of publisher",
            hint="it is one line, ed25519-private: and 64 hex digits; `publisher keygen FILE` "
            "makes one",
        )
    raw = bytes.fromhex(match[1].decode())
    return _key(_ed25519().Ed25519PrivateKey.from_private_bytes(raw))


def read_all(paths: Iterable[Path]) -> tuple[SigningKey, ...]:
    """
    Read several, each once, sorted by public key.

    Raises:
        UsageError: one cannot be read, or there are too many.
    """
    found = {key.public: key for key in map(read, paths)}
    if len(found) > MAX_SIGNATURES:
        raise UsageError(f"a document has at most {MAX_SIGNATURES} signatures")
    return tuple(found[public] for public in sorted(found))


def holds(signature: Signature, statement: bytes) -> bool:
    """Did the holder of its key sign exactly these bytes?"""
    ed25519 = _ed25519()
    from cryptography.exceptions import InvalidSignature

    public = bytes.fromhex(signature.key.removeprefix(_PUBLIC))
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(public)
        key.verify(bytes.fromhex(signature.signature), statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_available() -> bool:
    """Is what signatures need installed?"""
    try:
        _ed25519()
    except UsageError:
        return False
    return True


def _ed25519() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise UsageError(
            "signatures need the package cryptography", hint="pip install 'publisher[sign]'"
        ) from None
    return ed25519


def _key(private: ed25519.Ed25519PrivateKey) -> SigningKey:
    return SigningKey(_PUBLIC + private.public_key().public_bytes_raw().hex(), private)


def _refuse_key_itself(path: Path) -> None:
    """People paste the key where its file is asked for; no message may repeat it."""
    if re.search("[0-9a-fA-F]{64}", str(path)):
        raise UsageError(
            "this is a key, not the name of a file that holds one",
            hint="make a new one: this one has been on a command line",
        )
