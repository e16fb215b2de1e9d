"""
Names of versions, and references to them: `s3://bucket/prefix/hands@^1.2`.

Versions are Semantic Versioning 2.0.0 without build metadata, because a version names one
content for ever and `1.0.0+a` and `1.0.0+b` would rank the same. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Literal

from ..errors import FormatError, UsageError
from ..names import safe_path

__all__ = [
    "Caret",
    "Channel",
    "Level",
    "Reference",
    "RootPrefix",
    "Selector",
    "Version",
    "parse_selector",
]

Level = Literal["major", "minor", "patch"]
"""What a change may break: what was there, nothing as there is only more, nothing at all."""

_NUMBER = r"(0|[1-9][0-9]{0,9})"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-([0-9A-Za-z.-]{{1,64}}))?")
_CARET = re.compile(rf"\^{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER})?)?")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,63}")
_ROOT = re.compile(r"sha256:([0-9a-f]{8,64})")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version; the order is the precedence of semver.org, section 11."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[int | str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Version:
        """
        Read `1.2.0` or `1.2.0-rc.1`.

        Raises:
            UsageError: it is something else.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise UsageError(
                f"not a version: {text[:80]!r}",
                hint="versions look like 1.2.0 or 1.2.0-rc.1 (semver.org, no v, no +build)",
            )
        major, minor, patch, tail = match.groups()
        return cls(int(major), int(minor), int(patch), _identifiers(text, tail))

    def after(self, level: Level) -> Version:
        """
        The next version for changes of this level.

        Below 1.0.0 a major change moves the middle number and the others the last, so that
        what breaks leaves the range `^0.2`, and nothing else does.
        """
        major, minor, patch = self.major, self.minor, self.patch
        if level == "major" and major:
            return Version(major + 1, 0, 0)
        if level == "major" or (level == "minor" and major):
            return Version(major, minor + 1, 0)
        return Version(major, minor, patch + 1)

    def __str__(self) -> str:
        tail = ".".join(map(str, self.prerelease))
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{tail}" if tail else "")

    def __lt__(self, other: Version) -> bool:
        return self._rank() < other._rank()

    def _rank(self) -> tuple[object, ...]:
        # a release ranks above its prereleases; numbers rank below words
        tail = tuple((0, i, "") if isinstance(i, int) else (1, 0, i) for i in self.prerelease)
        return self.major, self.minor, self.patch, not self.prerelease, tail


@dataclass(frozen=True, slots=True)
class Channel:
    """A name that moves from version to version: `latest`, `stable`."""

    name: str

    def __post_init__(self) -> None:
        if not _CHANNEL.fullmatch(self.name):
            raise UsageError(
                f"not a channel name: {self.name[:80]!r}",
                hint="channels are lower-case letters, digits and -, such as latest",
            )

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Caret:
    """`^1.2`: the newest version that changes nothing left of the first number that is not 0."""

    low: Version
    high: Version  # the first version that is too new
    text: str

    @classmethod
    def parse(cls, text: str) -> Caret:
        """
        Read `^1`, `^1.2` or `^1.2.3`.

        Raises:
            UsageError: it is something else.
        """
        match = _CARET.fullmatch(text)
        if match is None:
            raise UsageError(f"not a range: {text[:80]!r}", hint="ranges look like ^1.2")
        numbers = [int(n) for n in match.groups() if n is not None]
        fixed = next((i for i, n in enumerate(numbers) if n), len(numbers) - 1)
        high = [*numbers[:fixed], numbers[fixed] + 1]
        return cls(Version(*_three(numbers)), Version(*_three(high)), text)

    def __contains__(self, version: Version) -> bool:
        return not version.prerelease and self.low <= version < self.high

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class RootPrefix:
    """`sha256:` and the first 8 or more hex digits of a root: content, whatever its version."""

    hex: str

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


Selector = Version | Channel | Caret | RootPrefix


@dataclass(frozen=True, slots=True)
class Reference:
    """Which version of which dataset in which bucket."""

    remote: str  # s3://bucket[/prefix] or file:///path, without "/" at its end
    name: str
    selector: Selector = Channel("latest")

    @classmethod
    def parse(cls, text: str) -> Reference:
        """
        Read `REMOTE/NAME[@VERSION|@CHANNEL|@^RANGE|@sha256:ROOT]`; without @ it is `@latest`.

        Raises:
            UsageError: no reference can look like this.
        """
        place, _, last = text.rpartition("/")
        name, at, selector = last.partition("@")
        if not place or place.endswith("/"):
            raise UsageError(
                "a reference names a bucket and a dataset",
                hint="such as s3://bucket/hands@1.2.0 or file:///path/hands@latest",
            )
        check_remote(place)
        check_name(name)
        return cls(place, name, parse_selector(selector) if at else Channel("latest"))

    def __str__(self) -> str:
        return f"{self.remote}/{self.name}@{self.selector}"


def parse_selector(text: str) -> Selector:
    """
    Read what stands behind the @ of a reference.

    Raises:
        UsageError: it is no version, channel, range or root.
    """
    if text.startswith("^"):
        return Caret.parse(text)
    if text.startswith("sha256:"):
        match = _ROOT.fullmatch(text)
        if match is None:
            raise UsageError("a root is sha256: and 8 to 64 lower-case hex digits")
        return RootPrefix(match[1])
    if _CHANNEL.fullmatch(text):
        return Channel(text)
    return Version.parse(text)


def check_name(name: str) -> None:
    """
    Refuse what cannot be the name of a dataset.

    Raises:
        UsageError: it is not 1 to 64 of a-z, 0-9, dot, dash and underscore.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"not a dataset name: {name[:80]!r}",
            hint="names are lower-case letters, digits, dots, dashes and underscores, at most 64",
        )


def check_remote(remote: str) -> None:
    """
    Refuse what cannot name a bucket. Messages never repeat it: people paste secrets here.

    Raises:
        UsageError: it is neither s3://bucket[/prefix] nor file:///path.
    """
    scheme, _, rest = remote.partition("://")
    if scheme == "file" and rest.startswith("/"):
        return
    bucket, slash, prefix = rest.rstrip("/").partition("/")
    if scheme == "s3" and len(bucket) in {1, 2}:
        raise UsageError(
            f"no bucket can be called this: its name has {len(bucket)} of at least 3 characters",
            hint="S3's rule: 3 to 63 lower-case letters, digits, dots and dashes; what follows "
            "the first / is a prefix",
        )
    if scheme != "s3" or not _BUCKET.fullmatch(bucket):
        raise UsageError(
            "a remote is s3://bucket, s3://bucket/prefix or file:///absolute/path",
            hint="credentials come from AWS_* variables or a profile, never from the address",
        )
    if slash:
        try:
            safe_path(prefix)
        except FormatError as error:
            raise UsageError(f"not a prefix for keys: {error.message}") from None


def _identifiers(text: str, tail: str | None) -> tuple[int | str, ...]:
    if tail is None:
        return ()
    parts = tail.split(".")
    if not all(parts) or any(p.isdigit() and p != "0" and p[0] == "0" for p in parts):
        raise UsageError(f"not a version: {text!r}: a part is empty or begins with 0")
    return tuple(int(p) if p.isdigit() else p for p in parts)


def _three(numbers: list[int]) -> tuple[int, int, int]:
    major, minor, patch = [*numbers, 0, 0][:3]
    return major, minor, patch
