"""The Python API: read, write, pull, load."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from .bucket import catalog, consume, locking
from .bucket.cache import open_cache
from .bucket.consume import Release
from .bucket.trust import Trust
from .conservation import Item
from .dataset import Dataset
from .errors import UsageError
from .files import cache_folder
from .panoptic import Overlap
from .stages import conversion, intake
from .storage import open_bucket
from .versions.version import Reference

Names = str | Sequence[str]
Keys = str | Sequence[str]


def read(path: str | os.PathLike[str], format: str | None = None) -> Dataset:
    """
    Read the annotations of an export, a folder, an annotation file or a release.

    Args:
        format: told by content where it is not given.

    Raises:
        FormatError: it is broken, hostile, or of no known format.
        InvalidDataset: parts of it cannot be read; `.findings` says which.
    """
    return intake.read(Path(path), format)


def write(
    dataset: Dataset, out: str | os.PathLike[str], format: str, *, overlap: Overlap | None = None
) -> tuple[Item, ...]:
    """
    Write annotations into the folder `out`, in any format that `publisher convert` writes.

    Returns:
        Every difference between what was given and what was written, with its reason.

    Raises:
        UsageError: there is no such format or policy.
        OverlapError: a panoptic map was asked for and nothing says who wins.
    """
    if overlap is not None and overlap not in get_args(Overlap):
        raise UsageError(f"overlap={overlap!r}", hint=f"one of {', '.join(get_args(Overlap))}")
    return conversion.write(dataset, Path(out), format, overlap)


def pull(
    reference: str,
    *,
    to: str | os.PathLike[str],
    split: Names = (),
    category: Names = (),
    cache: bool = True,
    lock: str | os.PathLike[str] | None = None,
    trust: Keys = (),
    endpoint_url: str | None = None,
    profile: str | None = None,
) -> Release:
    """
    Fetch a version, or a part of it, into the folder `to`; every byte is verified.

    Args:
        reference: such as `s3://bucket/hands@1.2.0`, `@latest`, `@^1.2`, `@sha256:...`.
        category: names; only pictures with an instance of one of these.
        cache: take what was fetched before, and keep what is fetched, as docs/consume.md says.
        lock: a publisher.lock to obey; where it does not know the reference, it is written in.
        trust: public keys, one of which must have signed the version, and the channel; with
            `lock` they are pinned there.

    Raises:
        VersionNotFound: nothing answers to the reference.
        Untrusted: no trusted key has signed it, or the channel has run out.
        IntegrityError: bytes are wrong; `.paths` says whose. They were not installed.
        StorageError: the bucket failed, or refused.
    """
    ref = Reference.parse(reference)
    bucket = open_bucket(ref.remote, endpoint_url=endpoint_url, profile=profile)
    trusted, selector = Trust.of(_names(trust)), ref.selector
    settled = locking.settle(bucket, ref, Path(lock), trust=trusted) if lock is not None else None
    if settled is not None:
        trusted, selector = settled.trust, settled.version
    release = consume.pull(
        bucket,
        ref.name,
        selector,
        Path(to),
        splits=_names(split),
        categories=_names(category),
        remote=ref.remote,
        cache=open_cache() if cache else None,
        trust=trusted,
    )
    if settled is not None:
        settled.keep(release.root)
    return release


def load(
    reference: str,
    *,
    split: Names = (),
    category: Names = (),
    cache: str | os.PathLike[str] | None = None,
    trust: Keys = (),
    endpoint_url: str | None = None,
    profile: str | None = None,
) -> Dataset:
    """
    A version, or a part of it, as a Dataset; fetched once and kept in a cache.

    Args:
        category: names; only pictures with an instance of one of these, with all they show.
        cache: where to keep it; by default PUBLISHER_CACHE or the user's cache folder.
        trust: public keys, one of which must have signed the version, and the channel.

    With one split, `images` is the folder of its pictures. Raises as `pull`.
    """
    ref = Reference.parse(reference)
    bucket = open_bucket(ref.remote, endpoint_url=endpoint_url, profile=profile)
    trusted = Trust.of(_names(trust))
    record = catalog.resolve(bucket, ref.name, ref.selector, trusted)
    splits, categories = (sorted({*_names(given)}) for given in (split, category))
    part = "+".join(splits) or "all"
    if categories:
        part += "." + hashlib.sha256("\0".join(categories).encode()).hexdigest()[:16]
    home = Path(cache) if cache else cache_folder()
    release = consume.pull(
        bucket,
        ref.name,
        record.version,  # a channel may have moved since
        home / ref.name / record.root.removeprefix("sha256:")[:16] / part,
        splits=splits,
        categories=categories,
        remote=ref.remote,
        cache=open_cache(home),
        trust=trusted,
    )
    dataset = replace(intake.read(release.path, "coco"), name=ref.name)
    if len(release.splits) == 1:
        return replace(dataset, images=release.path / release.splits[0] / "images")
    return dataset


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
