"""
Doctor: look at this machine and a bucket, and say of each thing whether it is well.

It tries what publishing rests on with small objects under `doctor/`, and removes them. What
is wrong comes with what to do next.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Literal

from ..errors import (
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    PublisherError,
    StorageError,
    Untrusted,
    UsageError,
    VersionConflict,
)
from ..files import cache_folder
from ..names import listing
from ..scratch import clear_scratch
from ..storage import Bucket, caller_of, clock_skew, refuses_wrong_bytes, unfinished_uploads
from ..versions.manifest import SIGNATURES, ChannelState
from ..versions.version import Version
from . import catalog, erasing, survey
from .leases import holders
from .trust import find_signatures

SPARE = 2**30  # bytes of disk below which a pull is likely to fail
SOON = timedelta(days=7)  # before the end of a signed channel
SKEW = 300  # seconds; S3 refuses requests that are 15 minutes off
_MOST = 1000  # leftovers that are counted


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `code` is the exit code that a failure calls for."""

    what: str
    state: Literal["ok", "warn", "fail"]
    found: str
    hint: str | None = None
    code: int = 0


def _ok(what: str, found: str) -> Check:
    return Check(what, "ok", found)


def _warn(what: str, found: str, hint: str) -> Check:
    return Check(what, "warn", found, hint)


def _fail(what: str, found: str, hint: str | None, code: int = StorageError.exit_code) -> Check:
    return Check(what, "fail", found, hint, code)


# ── this machine ─────────────────────────────────────────────────────────────────────────────


def machine() -> Iterator[Check]:
    """What commands need here, whatever the bucket."""
    packages = ("boto3", "numpy", "pillow", "pycocotools", "torch", "dvc")
    yield _ok("python", f"{platform.python_version()} on {platform.system()}")
    yield _ok("packages", ", ".join(f"{p} {_installed(p)}" for p in packages))
    for tool, need in (("git", "provenance says no commit"), ("dvc", "`dvc repro` does not run")):
        if shutil.which(tool) is None:
            yield _warn(tool, "is not installed", f"without it {need}")
    yield _cache()
    yield from _cleared()


def _cleared() -> Iterator[Check]:
    """What killed pushes have left in TMPDIR is removed."""
    if folders := clear_scratch():
        yield _ok("temporary files", f"{len(folders)} folders of killed commands were removed")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cache() -> Check:
    folder = cache_folder()
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return _warn(
            "cache", f"{folder} cannot be written", "set PUBLISHER_CACHE to a folder of yours"
        )
    if free < SPARE:
        return _warn("cache", f"{free:,} bytes are free at {place}", "make room on this disk")
    return _ok("cache", f"{folder}, {free / 2**30:,.0f} GiB free")


# ── a bucket ─────────────────────────────────────────────────────────────────────────────────


def examine(bucket: Bucket) -> Iterator[Check]:
    """Everything about a bucket; ends where it cannot be reached."""
    yield from _credentials(bucket)
    reached = _reached(bucket)
    yield reached
    yield from _clock(bucket)
    if reached.state == "fail":
        return
    for what, checks in (
        ("write", _honours(bucket)),
        ("datasets", _datasets(bucket)),
        ("leftovers", _leftovers(bucket)),
    ):
        try:
            yield from checks
        except PublisherError as error:
            yield _fail(what, str(error), error.hint, error.exit_code)


def _credentials(bucket: Bucket) -> Iterator[Check]:
    caller = caller_of(bucket)
    if caller is None:
        return
    if caller.key is None:
        yield _warn(
            "credentials",
            f"none; {caller.endpoint} is asked as anyone",
            "that reads public buckets; else set AWS_* variables, or use --profile",
        )
        return
    name = f", {caller.arn}" if caller.arn else ""
    yield _ok("credentials", f"key {caller.key} from {caller.source} for {caller.endpoint}{name}")


def _reached(bucket: Bucket) -> Check:
    try:
        next(iter(bucket.list("datasets/")), None)
    except PublisherError as error:
        return _fail("bucket", str(error), error.hint, error.exit_code)
    return _ok("bucket", f"{bucket.url} answers")


def _clock(bucket: Bucket) -> Iterator[Check]:
    skew = clock_skew(bucket)
    if skew is None:
        return
    said = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    if abs(skew) < SKEW:
        yield _ok("clock", "that of the server" if abs(skew) < 2 else said)
    elif abs(skew) < 900:
        yield _warn("clock", said, "set this machine's clock; S3 refuses 15 minutes")
    else:
        yield _fail("clock", said, "set this machine's clock; S3 refuses 15 minutes")


# ── what the server honours ──────────────────────────────────────────────────────────────────


def _honours(bucket: Bucket) -> Iterator[Check]:
    """Try it on an object of our own, and take it away."""
    key = f"doctor/{secrets.token_hex(8)}"
    try:
        bucket.put(key, b"0123456789", if_absent=True)
    except PublisherError as error:
        if error.exit_code != 5:
            yield _fail("write", str(error), error.hint, error.exit_code)
            return
        hint = "readers need no more; maintainers: `publisher policy` prints what to allow"
        yield _warn("write", "these credentials may not write here", hint)
        return
    yield _ok("write", "objects can be put")
    try:
        for what, test, lost in _TESTS:
            yield _tried(what, partial(test, bucket, key), lost)
    finally:
        gone = _removed(bucket, key) and _removed(bucket, f"{key}.sum")
    if not gone:
        yield _warn("delete", f"{key} stays", "gc and retract will need s3:DeleteObject")


def _tried(what: str, test: Callable[[], bool], lost: str) -> Check:
    try:
        good = test()
    except PublisherError as error:
        return _fail(what, str(error), error.hint, error.exit_code)
    if good:
        return _ok(what, "honoured")
    hint = "upgrade the server, or use one that does: AWS S3, R2, SeaweedFS, MinIO, a folder"
    fatal = what in _NEEDED
    return _fail(what, lost, hint) if fatal else _warn(what, lost, "look with `verify --deep`")


def _creates_only(bucket: Bucket, key: str) -> bool:
    try:
        bucket.put(key, b"0123456789", if_absent=True)
    except ObjectExists:
        return True
    return False


def _swaps(bucket: Bucket, key: str) -> bool:
    etag = bucket.head(key).etag
    try:
        bucket.put(key, b"0123456789", if_match='"00000000000000000000000000000000"')
    except PreconditionFailed:
        bucket.put(key, b"0123456789", if_match=etag)
        return True
    return False


def _compares(bucket: Bucket, key: str) -> bool:
    return refuses_wrong_bytes(bucket, f"{key}.sum")


def _ranges(bucket: Bucket, key: str) -> bool:
    return b"".join(bucket.read(key, start=7)) == b"789"


def _lists(bucket: Bucket, key: str) -> bool:
    return key in [o.key for o in bucket.list("doctor/")]


_NEEDED = {"conditional create", "compare-and-swap", "ranges"}
_TESTS: tuple[tuple[str, Callable[[Bucket, str], bool], str], ...] = (
    (
        "conditional create",
        _creates_only,
        "If-None-Match is ignored: two people could publish one version",
    ),
    ("compare-and-swap", _swaps, "If-Match is ignored: a channel could lose a move"),
    ("ranges", _ranges, "ranges are ignored: no download could go on where it broke"),
    (
        "checksums",
        _compares,
        "bytes that are not those promised are kept: only a pull would notice",
    ),
    ("listing", _lists, "a new object is not listed at once: versions may show late"),
)


def _removed(bucket: Bucket, key: str) -> bool:
    with suppress(PublisherError):
        bucket.delete(key)
        try:
            bucket.head(key)
        except ObjectNotFound:
            return True
    return False


# ── what is in it ────────────────────────────────────────────────────────────────────────────


def _datasets(bucket: Bucket) -> Iterator[Check]:
    """Do channels lead somewhere, and can every record and status be read?"""
    names = catalog.names(bucket)
    versions = 0
    for name in names:
        for number in catalog.versions(bucket, name):
            versions += 1
            try:
                catalog.find_record(bucket, name, number)
            except PublisherError as error:
                yield _fail(f"{name} {number}", str(error), error.hint, error.exit_code)
        yield from _pointers(bucket, name)
    yield _ok("datasets", f"{len(names)} with {versions} versions")
    yield from _cut_short(bucket)


def _cut_short(bucket: Bucket) -> Iterator[Check]:
    """Retractions that have not come to their end: bytes that must go are still there."""
    with suppress(IntegrityError):  # told of above
        for stand in erasing.unfinished(bucket, survey.survey(bucket)):
            hint = "run the same `publisher retract` again, or `publisher gc`"
            found = "its retraction was cut short, and bytes of it are still there"
            yield _fail(stand.title, found, hint, VersionConflict.exit_code)


def _pointers(bucket: Bucket, name: str) -> Iterator[Check]:
    try:
        there = set(catalog.versions(bucket, name))
        states = catalog.channel_states(bucket, name)
        catalog.statuses(bucket, name)
        for o in bucket.list(f"datasets/{name}/{SIGNATURES}/"):
            with suppress(UsageError):  # a stranger's file
                number = o.key.rpartition("/")[2].removesuffix(".json")
                find_signatures(bucket, name, Version.parse(number))
    except PublisherError as error:
        yield _fail(name, str(error), error.hint, error.exit_code)
        return
    for channel, state in states.items():
        yield from _end(f"{name}@{channel}", state)
        number = state.version
        if Version.parse(number) not in there:
            yield _fail(
                f"{name}@{channel}",
                f"points to {number}, of which there is no record",
                f"`publisher channel …/{name}@VERSION {channel} --allow-rollback` mends it",
                IntegrityError.exit_code,
            )


def _end(what: str, state: ChannelState) -> Iterator[Check]:
    """When must a signed channel be signed again?"""
    if state.end is None:
        return
    left = state.end - datetime.now(UTC)
    hint = "`publisher channel … --refresh --key FILE --expires DAYS`"
    if left <= timedelta(0):
        found = f"has run out on {state.expires}: who pins a key gets nothing from it"
        yield _fail(what, found, hint, Untrusted.exit_code)
    elif left < SOON:
        yield _warn(what, f"runs out on {state.expires}", hint)


def _leftovers(bucket: Bucket) -> Iterator[Check]:
    """What pushes and looks that were cut short have left."""
    parts = [upload.key for upload in unfinished_uploads(bucket)]
    kinds = {
        "of uploads that never ended": parts,
        "of what is under way, or was cut short": holders(bucket),
        "of looks like this one": _keys(bucket, "doctor/"),
    }
    for kind, keys in kinds.items():
        if keys:
            count = f"{len(keys)}{'+' if len(keys) == _MOST else ''}"
            yield _warn("leftovers", f"{count} {kind}: {listing(keys, 3)}", _LEFT)
    if not any(kinds.values()):
        yield _ok("leftovers", "none")


_LEFT = "push again, which ends what was begun; `publisher gc` removes the rest after a while"


def _keys(bucket: Bucket, prefix: str) -> list[str]:
    return [o.key for o in islice(bucket.list(prefix), _MOST)]
