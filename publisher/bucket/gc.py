"""
gc: delete what no version needs, in two steps with a grace period between them.

The first run lists what is garbage in a mark. A later run deletes what a mark of at least
`grace` lists and what still nobody needs, alone in the bucket (see leases.py). Ages are those
that the bucket's clock gives. A run that is cut short is repeated; nothing but garbage is ever
touched, so a reader never notices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ..errors import IntegrityError, ObjectNotFound
from ..failpoint import failpoint
from ..progress import Progress, silent
from ..storage import Bucket, ObjectInfo, Upload, abort_upload, server_time, unfinished_uploads
from ..versions.housekeeping import MARKS, MAX_MARK, is_list, mark_of, read_list
from . import erasing
from .leases import Lease, any_over, held
from .survey import by_key, garbage, needs_of, survey
from .trees import each

GRACE = 14.0  # days


@dataclass(frozen=True, slots=True)
class Collected:
    """What a run did, or with `dry_run` would do."""

    marked: tuple[ObjectInfo, ...]  # found for the first time
    waiting: tuple[ObjectInfo, ...]  # found before, and their grace is not over
    deleted: tuple[ObjectInfo, ...]
    aborted: tuple[Upload, ...]  # uploads that were given up
    finished: tuple[str, ...]  # versions whose retraction had been cut short


@dataclass(frozen=True, slots=True)
class _Mark:
    key: str
    at: float  # by the bucket's clock
    lines: frozenset[str]


def collect(
    bucket: Bucket,
    *,
    grace: float = GRACE,
    dry_run: bool = False,
    on_object: Progress = silent,
) -> Collected:
    """
    Mark what no version needs, and delete what was marked long enough ago.

    Args:
        grace: days between the two.

    Raises:
        BucketBusy: something is to be deleted while someone is at work.
        IntegrityError: a record or an index is damaged; nothing was deleted.
    """
    stands = survey(bucket)
    cut_short = erasing.unfinished(bucket, stands)
    if cut_short and not dry_run:
        erasing.finish(bucket)
        stands = survey(bucket)
    found, marks = by_key(garbage(bucket, needs_of(bucket, stands))), _marks(bucket)
    now = server_time(bucket)
    fresh = tuple(o for o in found.values() if _marked(o, marks) is None)
    if fresh and not dry_run:
        key, body = mark_of(o.key for o in fresh)
        failpoint("put-mark")
        bucket.put(key, body, cache_control="no-cache")
        failpoint("after-put-mark")
        marks = _marks(bucket)  # with its time: without any grace it is due already
    due = _due(found, marks, now - grace * 86_400)
    old = [u for u in unfinished_uploads(bucket) if u.begun <= now - grace * 86_400]
    over = any(m.at <= now - grace * 86_400 for m in marks) or any_over(bucket, now)
    if not dry_run and (due or old or over):
        with held(bucket, "exclusive", "gc") as lease:
            due = _delete(bucket, lease, marks, grace, on_object)
            each(lambda u: abort_upload(bucket, u), old)
    gone = {o.key for o in due}
    waiting = (o for o in found.values() if o.key not in gone and o not in fresh)
    return Collected(
        tuple(o for o in fresh if o.key not in gone),
        tuple(waiting),
        tuple(due),
        tuple(old),
        tuple(s.title for s in cut_short),
    )


def _delete(
    bucket: Bucket, lease: Lease, marks: Collection[_Mark], grace: float, on_object: Progress
) -> list[ObjectInfo]:
    """Look once more, now that nobody adds, and delete; the marks last."""
    stands, line = survey(bucket), lease.now - grace * 86_400
    if erasing.unfinished(bucket, stands):  # since we looked; its lists say what is left to do
        return []
    due = _due(by_key(garbage(bucket, needs_of(bucket, stands))), marks, line)

    def delete(o: ObjectInfo) -> None:
        lease.check()
        failpoint("collect")
        bucket.delete(o.key)

    each(delete, due, on_object)
    failpoint("after-collect")
    for mark in marks:
        if mark.at <= line:
            bucket.delete(mark.key)
    return due


def _due(
    found: Mapping[str, ObjectInfo], marks: Collection[_Mark], line: float
) -> list[ObjectInfo]:
    """What was marked before this time."""
    times = {o.key: _marked(o, marks) for o in found.values()}
    return [o for o in found.values() if (at := times[o.key]) is not None and at <= line]


def _marked(o: ObjectInfo, marks: Collection[_Mark]) -> float | None:
    """Since when an object is marked; one that was put again later is not."""
    times = [m.at for m in marks if o.key in m.lines and (o.modified or 0.0) <= m.at]
    return min(times, default=None)


def _marks(bucket: Bucket) -> list[_Mark]:
    found = []
    for o in bucket.list(MARKS):
        if is_list(o.key):
            lines: frozenset[str] = frozenset()  # of a damaged one: all is marked anew
            with suppress(ObjectNotFound, IntegrityError):
                lines = read_list(bucket.get(o.key, limit=MAX_MARK), o.key)
            found.append(_Mark(o.key, o.modified or 0.0, lines))
    return found
