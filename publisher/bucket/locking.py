"""Settle what a reference means: by publisher.lock, or by the bucket, and then for good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import IntegrityError, VersionConflict
from ..files import write_atomic
from ..storage import Bucket
from ..versions.lock import MAX_LOCK, Lock, Locked, fell_back
from ..versions.version import Channel, Reference, Version
from .catalog import find_status, read_channel, resolve
from .trust import NOBODY, Trust


@dataclass(frozen=True, slots=True)
class Settled:
    """What a reference means, and the lock that says so; `keep` it once all went well."""

    version: Version
    root: str
    lock: Lock
    path: Path
    new: bool  # was it not in the file, or otherwise?
    trust: Trust  # whose signature what is fetched must have

    def keep(self, root: str) -> None:
        """
        Write the lock where it changed.

        Raises:
            IntegrityError: what was fetched has another root.
        """
        if root != self.root:
            raise IntegrityError(f"{self.version} was {self.root[:19]} and is {root[:19]} now")
        if self.new:
            write_atomic(self.path, self.lock.to_bytes())


def settle(
    bucket: Bucket,
    reference: Reference,
    path: Path,
    *,
    update: bool = False,
    allow_rollback: bool = False,
    trust: Trust = NOBODY,
) -> Settled:
    """
    The version that the lock has for a reference, or else the one that the bucket gives.

    Args:
        path: of the lock; it need not be there.
        update: ask the bucket in any case.
        allow_rollback: also where a channel says something older than before.
        trust: keys to pin in the place of those that the lock has for the dataset, if any.

    Raises:
        FormatError: the file is no lock.
        IntegrityError: the bucket has other content under the number that the lock has.
        Untrusted: no key that is pinned has signed it, or the channel has run out.
        VersionConflict: the channel has gone back.
        VersionNotFound: no version answers.
    """
    before = _read(path)
    lock = before.trusting(reference, trust.keys) if trust.keys else before
    trust = replace(trust, keys=lock.keys_of(reference))
    locked = lock.of(reference)
    if locked is not None and not update:
        version = Version.parse(locked.version)
        record = resolve(bucket, reference.name, version, trust)
        if record.root != locked.root:
            raise IntegrityError(
                f"{reference.name} {version} in {bucket.url} is {record.root[:19]}, and "
                f"{path.name} has {locked.root[:19]}",
                [reference.name],
                hint="a version never changes: ask the maintainers, and do not use it",
            )
        return Settled(version, locked.root, lock, path, lock != before, trust)
    seq = _moves(bucket, reference, trust)  # before the version, so that it is never too new
    record = resolve(bucket, reference.name, reference.selector, trust)
    found = Locked(record.version, record.root, seq)
    if locked is not None and not allow_rollback:
        if isinstance(reference.selector, Channel):
            _refuse_rollback(bucket, reference, locked, found, trust)
        found = found.after(locked)
    lock = lock.having(reference, found)
    return Settled(Version.parse(found.version), found.root, lock, path, lock != before, trust)


def _refuse_rollback(
    bucket: Bucket, reference: Reference, old: Locked, new: Locked, trust: Trust
) -> None:
    why = fell_back(old, new)
    if why is None:
        return
    status = find_status(bucket, reference.name, Version.parse(old.version), trust)
    if new.seq >= old.seq and status is not None and status.state == "yanked":
        return  # that is why it went back, and `resolve` has said so
    raise VersionConflict(
        f"{reference.name}@{reference.selector} has gone back: {why}",
        hint="ask the maintainers; --allow-rollback takes it all the same",
    )


def _moves(bucket: Bucket, reference: Reference, trust: Trust) -> int:
    """How often the channel was moved; 0 where it is none."""
    if not isinstance(reference.selector, Channel):
        return 0
    state = read_channel(bucket, reference.name, reference.selector, trust)
    return state.moves if state is not None else 0


def _read(path: Path) -> Lock:
    try:
        with path.open("rb") as stream:
            return Lock.from_bytes(stream.read(MAX_LOCK + 1), str(path))
    except FileNotFoundError:
        return Lock()
