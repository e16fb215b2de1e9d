"""
Every error that publisher raises on purpose, and the exit code the command line gives it.

* PublisherError          1  catch this to catch them all
  + UsageError            2  the call itself cannot be carried out as asked (also ValueError)
  + FormatError           3  a file is not what its format promises (also ValueError)
  + CheckpointError       3  a file of weights is not what it should be (also ValueError)
  + InvalidDataset        3  validation found errors; `.findings` says which (also ValueError)
  + OverlapError          3  two segments claim one pixel and no order says who wins
  + VersionNotFound       4  no such dataset, version or channel (also LookupError)
    - VersionRetracted    4  it was taken down for good; `.reason` says why
  + VersionConflict       6  the version is published with other content
  + IntegrityError        7  bytes do not match their digest; `.paths` says whose
    - Untrusted           7  no key that is trusted has signed this, or it has run out
  + StorageError          8  the bucket failed or cannot be reached (also OSError)
    - ObjectNotFound      4  (also FileNotFoundError)
    - AccessDenied        5  (also PermissionError)
    - ObjectExists        6  a create-only put found the key taken (also FileExistsError)
    - PreconditionFailed  6  the object changed since it was read
    - BucketBusy          6  someone is at work there who must not be disturbed

A bug is not in this tree and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

Where = tuple[str | int, ...]


class PublisherError(Exception):
    """Base of the tree. `hint` is one sentence that says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(PublisherError, ValueError):
    """The call cannot be carried out as asked: a bad reference, name or option."""

    exit_code = 2


class FormatError(PublisherError, ValueError):
    """
    A file is not what its format promises.

    `path` is the file, `where` leads to the spot inside it, `code` names the rule of
    docs/rules.md that the spot breaks, where there is one.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        where: Where = (),
        code: str = "J002",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.where = where
        self.code = code

    def __str__(self) -> str:
        return ": ".join(part for part in (self.path, spot(self.where), self.message) if part)


class CheckpointError(PublisherError, ValueError):
    """A file of weights is not what it should be, or could do harm; nothing of it was run."""

    exit_code = 3


class InvalidDataset(PublisherError, ValueError):
    """Findings (see validate.py) stand between the dataset and what was asked; they are here."""

    exit_code = 3

    def __init__(
        self, message: str, findings: Sequence[object] = (), *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.findings = tuple(findings)


class OverlapError(PublisherError, ValueError):
    """Two segments claim one pixel, and nothing says who wins."""

    exit_code = 3


class VersionNotFound(PublisherError, LookupError):
    """No dataset, version or channel answers to this reference."""

    exit_code = 4


class VersionRetracted(VersionNotFound):
    """The version was there and was taken down for good, as HTTP's 410 says of a page."""

    def __init__(self, message: str, reason: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class VersionConflict(PublisherError):
    """The version is published with other content. Versions never change."""

    exit_code = 6


class IntegrityError(PublisherError):
    """Bytes do not match the digest that the manifest promises; `.paths` names the files."""

    exit_code = 7

    def __init__(self, message: str, paths: Sequence[str] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.paths = tuple(paths)


class Untrusted(IntegrityError):
    """No key that the caller trusts has signed a document as it is, or it has run out."""


class StorageError(PublisherError, OSError):
    """The bucket failed, or cannot be reached."""

    exit_code = 8


class ObjectNotFound(StorageError, FileNotFoundError):
    """No object has this key."""

    exit_code = 4


class AccessDenied(StorageError, PermissionError):
    """The credentials are missing, wrong, or do not allow this."""

    exit_code = 5


class ObjectExists(StorageError, FileExistsError):
    """A create-only put found the key taken."""

    exit_code = 6


class PreconditionFailed(StorageError):
    """The object changed since it was read."""

    exit_code = 6


class BucketBusy(StorageError):
    """A push, gc or retraction is under way, and what was asked must wait for its end."""

    exit_code = 6


class VersionWarning(UserWarning):
    """A version was yanked or is deprecated; the message says why, and what to use instead."""


class at:  # noqa: N801  # a generator in its place takes four times as long
    """Say where a FormatError inside came from: `with at("annotations", 3): ...`."""

    __slots__ = ("_where",)

    def __init__(self, *where: str | int) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FormatError):
            error.where = (*self._where, *error.where)


def spot(where: Where) -> str:
    """Write a place in a document the way programmers do: `annotations[3].bbox`."""
    text = "".join(f"[{w}]" if isinstance(w, int) else f".{w}" for w in where)
    return text.removeprefix(".")
