"""
Erase: bring retractions to their end, from whatever state a bucket is in.

Tombstones say which versions are gone. What versions that stay have in one object with content
that no version has any more is written anew first; indexes that name the new objects take the
place of the old ones; then everything goes that nobody needs. The notice in the folder of a
retracted version comes last and says that it is done, so all of this may be cut short and
repeated. Readers of versions that stay find all bytes at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import AccessDenied, IntegrityError, ObjectNotFound
from ..failpoint import failpoint
from ..names import listing
from ..progress import Amount, Transfer, unwatched
from ..scratch import scratch
from ..storage import Bucket, ObjectInfo, abort_upload, erase_history, unfinished_uploads
from ..versions.documents import URLS, urls
from ..versions.housekeeping import NOTICE, Relocation, notice, relocation_key
from ..versions.manifest import PROVENANCE, blob_key
from ..versions.packs import Index, Place, index_key, lots, plan_packs, reads
from .catalog import read_version
from .fetching import Fetch
from .leases import TTL, Lease, held
from .maintain import swap
from .sending import Parcel, Stock, content_type, send, write
from .survey import Needs, Shelf, Stand, garbage, is_garbage, needs_of, shelves, survey
from .trees import Meter, each


def finish(bucket: Bucket, on_bytes: Transfer = unwatched) -> None:
    """
    Bring retractions to their end that were cut short.

    Raises:
        BucketBusy: someone is at work.
    """
    with held(bucket, "exclusive", "the end of a retraction") as lease:
        erase(bucket, lease, on_bytes)


def unfinished(bucket: Bucket, stands: Iterable[Stand]) -> list[Stand]:
    """Versions whose retraction has not come to its end."""
    return [s for s in stands if s.is_retracted and not is_done(bucket, s)]


# ── what goes, and what has to move ──────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Removal:
    """What must go with versions, and what versions that stay have among it."""

    erased: frozenset[str]  # contents that no version has any more
    doomed: frozenset[str]  # objects that hold such, or lie in the folder of a version that goes
    shelves: tuple[Shelf, ...]  # of versions that stay, with something in a doomed object
    moves: Mapping[str, Place]  # what that is, by sha256, and where it lies
    settled: Mapping[str, Place]  # of it, what lies elsewhere, too

    @property
    def indexes(self) -> frozenset[str]:
        """Keys of the indexes that are replaced."""
        return frozenset(index_key(shelf.digest) for shelf in self.shelves)


def removal_of(bucket: Bucket, gone: Sequence[Stand], stay: Sequence[Stand]) -> Removal:
    """
    What must go where some versions go and others stay.

    Raises:
        IntegrityError: an index of one that stays is missing, or one is damaged.
    """
    lost: dict[str, set[str]] = {}  # contents of versions that go, and the objects they lie in
    for shelf in shelves(bucket, gone, lost=True):
        for sha256, place in shelf.index:
            lost.setdefault(sha256, set()).add(place.key)
    standing = list(shelves(bucket, stay))
    erased = lost.keys() - {s for shelf in standing for s, _ in shelf.index if s in lost}
    folders = tuple(stand.folder for stand in gone)
    doomed = {key for sha256 in erased for key in lost[sha256]}
    doomed |= {k for shelf in standing for k, _ in shelf.index.objects if k.startswith(folders)}
    moving = tuple(s for s in standing if any(key in doomed for key, _ in s.index.objects))
    moves = {s: place for shelf in moving for s, place in shelf.index if place.key in doomed}
    settled = {
        sha256: place
        for shelf in (standing if moves else ())
        for sha256, place in shelf.index
        if sha256 in moves and place.key not in doomed
    }
    return Removal(frozenset(erased), frozenset(doomed), moving, moves, settled)


def users_of(shelves: Iterable[Shelf]) -> list[Stand]:
    """The versions whose files these indexes place, by title."""
    found = {stand.title: stand for shelf in shelves for stand, _ in shelf.users}
    return [found[title] for title in sorted(found)]


# ── to the end ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Erased:
    """What is gone: objects, and earlier versions of objects; None where those are not shown."""

    deleted: tuple[ObjectInfo, ...]
    history: int | None


def erase(bucket: Bucket, lease: Lease, on_bytes: Transfer, asked: Stand | None = None) -> Erased:
    """
    From tombstones to a bucket that holds nothing of what is under them.

    Args:
        asked: a version that is looked at even where it has come to its end before.
    """
    stands = survey(bucket)
    gone = [
        s
        for s in stands
        if s.is_retracted and ((asked and s.title == asked.title) or not is_done(bucket, s))
    ]
    if not gone:
        return Erased((), 0)
    stay = [s for s in stands if not s.is_retracted]
    _move(bucket, lease, removal_of(bucket, gone, stay), on_bytes)
    for upload in unfinished_uploads(bucket):
        if upload.begun < lease.now - TTL:
            abort_upload(bucket, upload)
    needs = needs_of(bucket, stands)
    rest = rubbish(bucket, needs)

    def delete(o: ObjectInfo) -> None:
        lease.check()
        failpoint("erase")
        bucket.delete(o.key)

    each(delete, rest)
    failpoint("after-erase")
    history = None
    with suppress(AccessDenied):  # whoever asked is told
        history = erase_history(bucket, lambda key: is_garbage(key, needs))
    for stand in gone:
        assert stand.status is not None
        body = notice(stand.record.name, stand.record.version, stand.status.at, stand.status.reason)
        failpoint("put-notice")
        bucket.put(stand.folder + NOTICE, body, content_type="text/plain; charset=utf-8")
        failpoint("after-put-notice")
    return Erased(tuple(rest), history)


def rubbish(bucket: Bucket, needs: Needs) -> list[ObjectInfo]:
    """What nobody needs, but what a `doctor` at work tries things on."""
    return [o for o in garbage(bucket, needs) if not o.key.startswith("doctor/")]


def is_done(bucket: Bucket, stand: Stand) -> bool:
    """Has the retraction of a version come to its end?"""
    try:
        bucket.head(stand.folder + NOTICE)
    except ObjectNotFound:
        return False
    return True


def _move(bucket: Bucket, lease: Lease, removal: Removal, on_bytes: Transfer) -> None:
    """Write anew what versions that stay have in doomed objects, and let indexes point there."""
    left = {s: place for s, place in removal.moves.items() if s not in removal.settled}
    places = dict(removal.settled)
    total = Amount(len(left), sum(place.size for place in left.values()))
    meter = Meter(on_bytes, "moved", total)
    for parcel in _parcels(bucket, removal, left):
        lease.check()
        places |= _resent(bucket, parcel, left, meter)
    for stand in users_of(removal.shelves):
        _put_urls(bucket, stand, places)
    for shelf in removal.shelves:
        new = Index.of({s: places.get(s, place) for s, place in shelf.index}).to_bytes()
        digest = _put_index(bucket, new)
        lease.check()
        _relocate(bucket, shelf.named, digest)


def _parcels(bucket: Bucket, removal: Removal, left: Mapping[str, Place]) -> Iterator[Parcel]:
    """What to write: packs and blobs as a push makes them, of the files of one version each."""
    pending = set(left)
    for stand in users_of(removal.shelves):
        entries = [e for e in read_version(bucket, stand.record).entries if e.sha256 in pending]
        packs, single = plan_packs(entries)
        yield from (Parcel(p.entries, None, p) for p in packs)
        yield from (Parcel((e,), blob_key(e.sha256)) for e in single)
        pending -= {e.sha256 for e in entries}
    if pending:
        raise IntegrityError(
            f"no version says what the files with {len(pending)} contents are called",
            sorted(pending)[:5],
        )


def _resent(
    bucket: Bucket, parcel: Parcel, places: Mapping[str, Place], meter: Meter
) -> dict[str, Place]:
    """Fetch the files of a parcel, every byte checked, and put them as a new object."""
    with scratch() as room:
        tree, parts = room / "tree", room / "parts"
        parts.mkdir()
        for entry in parcel.entries:
            (tree / entry.path).parent.mkdir(parents=True, exist_ok=True)
        wanted = lots((e, places[e.sha256]) for e in parcel.entries)
        wrong = Fetch(bucket, tree, parts, meter).all(reads(wanted))
        if wrong:
            paths = sorted(path for lot in wrong for path in lot.paths)
            raise IntegrityError(
                f"{bucket.url} has missing or wrong bytes for {listing(paths)}, which versions "
                "that stay need",
                paths,
                hint="push those versions again, which puts them back, then repeat this",
            )
        puts = send(bucket, Stock(bucket), tree, [parcel], unwatched)
        return dict(place for put in puts for place in put.places)


def _put_urls(bucket: Bucket, stand: Stand, places: Mapping[str, Place]) -> None:
    """Tell people without publisher where the objects of a version lie from now on."""
    at = {s: places.get(s, place) for shelf in shelves(bucket, [stand]) for s, place in shelf.index}
    entries = read_version(bucket, stand.record).entries
    keys = (at[e.sha256].key for e in entries if e.path != PROVENANCE)
    failpoint("put-urls")
    bucket.put(
        stand.folder + URLS,
        urls(keys, stand.folder),
        content_type=content_type(URLS),
        cache_control="no-cache",
    )


def _put_index(bucket: Bucket, body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest()
    key = index_key(digest)
    write(bucket, "put-index", key, body, digest, None, content_type(key))
    return digest


def _relocate(bucket: Bucket, named: str, digest: str) -> None:
    def decide(now: Relocation | None) -> Relocation | None:
        return None if now is not None and now.to == digest else Relocation(named, digest)

    swap(bucket, relocation_key(named), Relocation, decide)
