"""
Leases: who adds to a bucket is not disturbed by who deletes from it.

A lease is a small object under a name of its own. Everyone puts theirs first and looks at the
others then, so of two who come at once at least one sees the other. Who adds shares the bucket
with others who add; who deletes must be alone. The bucket's clock says how old a lease is, as
the time at which it was last put. After TTL its holder gives up whatever it is doing; others
wait twice as long before they count it no more, so clocks need not agree to the second.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import BucketBusy, ObjectNotFound, PublisherError, StorageError
from ..names import one_line
from ..storage import Bucket, ObjectInfo
from ..versions.housekeeping import (
    BANNED,
    LEASES,
    MAX_MARK,
    Claim,
    LeaseNote,
    is_exclusive,
    is_list,
    lease_key,
    read_list,
)
from ..versions.manifest import MAX_DOCUMENT

TTL = 300.0  # seconds after which a lease that was not renewed has lapsed
_RENEW = 60.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while a laptop sleeps


class Lease:
    """A lease that we hold."""

    def __init__(self, bucket: Bucket, key: str, note: LeaseNote) -> None:
        self._bucket = bucket
        self.key = key
        self._body = note.to_bytes()
        self._lock = threading.Lock()
        self._seen: float | None = None
        self._passed = 0.0

    @property
    def now(self) -> float:
        """The bucket's time when the lease was last renewed, in seconds since 1970."""
        return self._seen or 0.0

    def renew(self) -> None:
        """
        Put it, once more.

        Raises:
            BucketBusy: it lapsed meanwhile: others may have deleted what nobody needed.
        """
        with self._lock:
            begun = time.clock_gettime(_CLOCK)
            self._bucket.put(self.key, self._body, cache_control="no-cache")
            seen = self._bucket.head(self.key).modified or 0.0
            if self._seen is not None and seen - self._seen > TTL:
                raise _lapsed()
            self._seen, self._passed = seen, begun

    def check(self) -> None:
        """
        Ask no server, but end work that took too long to be safe.

        Raises:
            BucketBusy: the lease was not renewed in time.
        """
        if time.clock_gettime(_CLOCK) - self._passed > TTL:
            raise _lapsed()

    def covers(self, moment: float) -> None:
        """
        Was it good when this happened, by the bucket's clock?

        Raises:
            BucketBusy: it had lapsed.
        """
        if moment - self.now > TTL:
            raise _lapsed()


def _lapsed() -> BucketBusy:
    return BucketBusy(
        f"this was held up for more than {TTL / 60:.0f} minutes, and others may have deleted "
        "what it rests on",
        hint="run the same command again: it looks at everything, and goes on",
    )


@contextmanager
def held(bucket: Bucket, claim: Claim, what: str) -> Iterator[Lease]:
    """
    Hold a lease while something is done; it is renewed all the time, and removed at the end.

    Args:
        what: is done; others are told.

    Raises:
        BucketBusy: someone else is at work who does not go together with us.
    """
    lease = Lease(bucket, lease_key(claim, secrets.token_hex(16)), LeaseNote(what))
    over = threading.Event()
    try:
        lease.renew()
        _look(bucket, lease, claim)
        renewing = threading.Thread(target=_keep, args=(lease, over), daemon=True)
        renewing.start()
        try:
            yield lease
        finally:
            over.set()
            renewing.join()
    finally:
        with suppress(PublisherError):  # then it runs out by itself
            bucket.delete(lease.key)


def _keep(lease: Lease, over: threading.Event) -> None:
    while not over.wait(_RENEW):
        with suppress(PublisherError):  # whoever works with it checks it
            lease.renew()


def _look(bucket: Bucket, mine: Lease, claim: Claim) -> None:
    """Refuse to work beside others; who deletes clears away what has run out."""
    found = {o.key: o for o in bucket.list(LEASES) if o.key.endswith(".json")}
    if claim == "exclusive" and mine.key not in found:
        raise StorageError(
            f"{bucket.url} does not list what was just put, so nothing can be deleted safely",
            hint="`publisher doctor` says more",
        )
    others = [o for key, o in sorted(found.items()) if key != mine.key]
    for other in others:
        if is_live(other, mine.now) and (claim == "exclusive" or is_exclusive(other.key)):
            raise _busy(bucket, other, mine.now)
    if claim == "exclusive":
        for other in others:
            if not is_live(other, mine.now):
                bucket.delete(other.key)


def is_live(lease: ObjectInfo, now: float) -> bool:
    """Does this lease of somebody else count at this time of the bucket's?"""
    return now - (lease.modified or 0.0) <= 2 * TTL


def any_over(bucket: Bucket, now: float) -> bool:
    """Has anyone left a lease that counts no more? Who comes next to delete removes it."""
    return any(not is_live(o, now) for o in bucket.list(LEASES))


def _busy(bucket: Bucket, other: ObjectInfo, now: float) -> BucketBusy:
    what = "something"
    with suppress(PublisherError):
        body = bucket.get(other.key, limit=MAX_DOCUMENT)
        what = one_line(LeaseNote.from_bytes(body, other.key).what)
    left = (2 * TTL - now + (other.modified or 0.0)) / 60
    return BucketBusy(
        f"{bucket.url}: {what} is under way",
        hint=f"run the same command again after it; if it was killed, in {left:.0f} minutes",
    )


def banned_contents(bucket: Bucket) -> frozenset[str]:
    """
    The sha256 of contents that were retracted and must not come back.

    Raises:
        IntegrityError: a list of them is damaged.
    """
    keys = [o.key for o in bucket.list(BANNED) if is_list(o.key)]
    lists = (read_list(bucket.get(key, limit=MAX_MARK), key) for key in keys)
    return frozenset(sha256 for lines in lists for sha256 in lines)


def holders(bucket: Bucket) -> list[str]:
    """What the leases of a bucket say, those that have run out too; for people."""
    found = []
    for o in bucket.list(LEASES):
        with suppress(PublisherError, ObjectNotFound):
            body = bucket.get(o.key, limit=MAX_DOCUMENT)
            found.append(one_line(LeaseNote.from_bytes(body, o.key).what))
    return found
