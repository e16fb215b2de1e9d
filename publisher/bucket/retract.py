"""
Retract: take a version down for good, with its bytes, wherever they lie. For privacy.

A picture that must go must go everywhere. So every version that has one of the named contents
goes, in every dataset of the bucket; what the others need and what lies in one pack with it is
written anew first, and an index takes the place of the old one. What is left of a version is
its record, so that the number is never used again, and a status that says why.

The order makes any of it repeatable. Tombstones come first, that of the version that was asked
for last; all the rest follows from what the bucket holds then (`finish`), and the notice in its
folder says that a version is done. Readers of versions that stay find all bytes at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ..errors import AccessDenied, IntegrityError, ObjectNotFound, UsageError, VersionNotFound
from ..names import listing
from ..progress import Progress, silent
from ..scratch import scratch
from ..storage import (
    Bucket,
    ObjectInfo,
    abort_upload,
    erase_history,
    require_conditional_writes,
    unfinished_uploads,
)
from ..versions.documents import URLS, urls
from ..versions.housekeeping import NOTICE, Relocation, ban_of, notice, relocation_key
from ..versions.manifest import PROVENANCE, Entry, Status, blob_key, status_key
from ..versions.packs import Index, Place, index_key, plan_packs, reads
from ..versions.version import Version, check_name
from .consume import read_version
from .fetching import Fetch
from .leases import TTL, Lease, held
from .maintain import checked_reason, swap
from .sending import Parcel, Stock, content_type, send, write
from .survey import Needs, Shelf, Stand, garbage, is_garbage, needs_of, shelves, survey
from .trees import Counter, each


@dataclass(frozen=True, slots=True)
class Retraction:
    """What a retraction did, or would do."""

    versions: tuple[str, ...]  # that go; the one that was asked for is first
    named: tuple[str, ...]  # paths of the files that were named, in that version
    erased: int  # contents that are nowhere any more
    moved: int  # bytes of versions that stay which are written anew
    repacked: tuple[str, ...]  # versions that stay, and have such bytes
    deleted: tuple[ObjectInfo, ...]
    history: int | None = 0  # earlier versions of objects that the bucket kept; None: may not see


def plan_retraction(
    bucket: Bucket, name: str, version: Version, files: Sequence[str] = ()
) -> Retraction:
    """
    Say what `retract` with the same arguments would do; touch nothing.

    Raises: as `retract`.
    """
    stands = survey(bucket)
    asked = _asked(bucket, stands, name, version)
    named = _named(bucket, asked, files)
    gone = [s for s in stands if s.is_retracted and not _is_done(bucket, s)]
    going = _going(bucket, stands, asked, {e.sha256 for e in named})
    stay = [s for s in stands if not s.is_retracted and s not in going]
    removal = _removal(bucket, [*gone, *going], stay)
    needed = needs_of(bucket, stay)
    kept = Needs(needed.keys - removal.doomed - removal.indexes, needed.folders)
    return Retraction(
        tuple(s.title for s in going),
        tuple(e.path for e in named) if files else (),
        len(removal.erased),
        sum(place.size for place in removal.moves.values()),
        tuple(s.title for s in _users(removal.shelves)),
        tuple(o for o in garbage(bucket, kept) if not o.key.startswith("doctor/")),
    )


def retract(
    bucket: Bucket,
    name: str,
    version: Version,
    reason: str,
    *,
    at: str,
    files: Sequence[str] = (),
    on_file: Progress = silent,
) -> Retraction:
    """
    Take down a version, and every other that has the same contents, with their bytes.

    Calling it again goes on where it was cut short.

    Args:
        reason: readers are told.
        at: now, ISO 8601.
        files: patterns of paths of this version, `*` being anything; what has these contents
            goes, and no push may bring them back. Without any, the contents are all files of
            the version that belong to a split.
        on_file: told of files that are written anew.

    Raises:
        UsageError: no reason, or no such files.
        VersionNotFound: there is no such version.
        BucketBusy: someone is at work.
        IntegrityError: the lists of a version are damaged; nothing was changed.
    """
    reason = checked_reason(reason)
    require_conditional_writes(bucket)
    with held(bucket, "exclusive", f"the retraction of {name} {version}") as lease:
        stands = survey(bucket)
        asked = _asked(bucket, stands, name, version)
        plan = Retraction((asked.title,), (), 0, 0, (), ())
        if not asked.is_retracted:
            plan = plan_retraction(bucket, name, version, files)
            contents = {e.sha256 for e in _named(bucket, asked, files)}
            if files:
                _ban(bucket, contents)
            going = _going(bucket, stands, asked, contents)
            for stand in (*going[1:], asked):  # it is what a repetition starts from
                lease.check()
                _bury(bucket, stand, reason, at)
        done = _finish(bucket, lease, on_file, asked)
        return replace(plan, deleted=done.deleted, history=done.history)


def finish(bucket: Bucket, on_file: Progress = silent) -> None:
    """
    Bring retractions to their end that were cut short.

    Raises:
        BucketBusy: someone is at work.
    """
    with held(bucket, "exclusive", "the end of a retraction") as lease:
        _finish(bucket, lease, on_file)


def unfinished(bucket: Bucket, stands: Iterable[Stand]) -> list[Stand]:
    """Versions whose retraction has not come to its end."""
    return [s for s in stands if s.is_retracted and not _is_done(bucket, s)]


# ── which versions go ────────────────────────────────────────────────────────────────────────


def _asked(bucket: Bucket, stands: Sequence[Stand], name: str, version: Version) -> Stand:
    check_name(name)
    for stand in stands:
        if (stand.record.name, stand.version) == (name, version):
            return stand
    there = [str(s.version) for s in stands if s.record.name == name]
    hint = f"published: {listing(there[::-1])}" if there else None
    raise VersionNotFound(f"no {name}@{version} in {bucket.url}", hint=hint)


def _named(bucket: Bucket, asked: Stand, files: Sequence[str]) -> list[Entry]:
    """The files whose contents must go."""
    if asked.is_retracted:
        return []
    entries = read_version(bucket, asked.record).entries
    if not files:
        return [e for e in entries if e.split is not None]
    for pattern in files:
        if not any(fnmatchcase(e.path, pattern) for e in entries):
            raise UsageError(
                f"no file of {asked.title} is called {pattern!r}",
                hint="patterns are paths within the version, such as 'train/images/0001.jpg'; "
                "* is anything",
            )
    return [e for e in entries if any(fnmatchcase(e.path, p) for p in files)]


def _going(
    bucket: Bucket, stands: Sequence[Stand], asked: Stand, contents: Collection[str]
) -> list[Stand]:
    """The versions that have one of these contents; the one that was asked for is first."""
    found = {} if asked.is_retracted else {asked.title: asked}
    for shelf in shelves(bucket, [s for s in stands if not s.is_retracted]):
        if _has_any(shelf.index, contents):
            found |= {s.title: s for s, _ in shelf.users}
    return list(found.values())


def _has_any(index: Index, contents: Collection[str]) -> bool:
    if len(contents) < len(index):
        return any(index.find(sha256) is not None for sha256 in contents)
    return any(sha256 in contents for sha256, _ in index)


def _ban(bucket: Bucket, contents: Collection[str]) -> None:
    """From now on no push may bring these back."""
    key, body = ban_of(contents)
    digest = hashlib.sha256(body).hexdigest()
    write(bucket, "put-ban", key, body, digest, None, content_type(key))


def _bury(bucket: Bucket, stand: Stand, reason: str, at: str) -> None:
    """Say that a version is gone, for good."""
    said = Status(str(stand.version), "retracted", reason, at)

    def decide(now: Status | None) -> Status | None:
        return None if now is not None and now.state == "retracted" else said

    swap(bucket, status_key(stand.record.name, stand.version), Status, decide)


# ── what goes, and what has to move ──────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Removal:
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


def _removal(bucket: Bucket, gone: Sequence[Stand], stay: Sequence[Stand]) -> _Removal:
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
    return _Removal(frozenset(erased), frozenset(doomed), moving, moves, settled)


def _users(shelves: Iterable[Shelf]) -> list[Stand]:
    found = {stand.title: stand for shelf in shelves for stand, _ in shelf.users}
    return [found[title] for title in sorted(found)]


# ── to the end ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Done:
    deleted: tuple[ObjectInfo, ...]
    history: int | None


def _finish(bucket: Bucket, lease: Lease, on_file: Progress, asked: Stand | None = None) -> _Done:
    """
    From tombstones to a bucket that holds nothing of what is under them.

    Args:
        asked: a version that is looked at even where it has come to its end before.
    """
    stands = survey(bucket)
    gone = [
        s
        for s in stands
        if s.is_retracted and ((asked and s.title == asked.title) or not _is_done(bucket, s))
    ]
    if not gone:
        return _Done((), 0)
    stay = [s for s in stands if not s.is_retracted]
    _move(bucket, lease, _removal(bucket, gone, stay), on_file)
    for upload in unfinished_uploads(bucket):
        if upload.begun < lease.now - TTL:
            abort_upload(bucket, upload)
    needs = needs_of(bucket, stands)
    rest = [o for o in garbage(bucket, needs) if not o.key.startswith("doctor/")]

    def delete(o: ObjectInfo) -> None:
        lease.check()
        bucket.delete(o.key)

    each(delete, rest)
    history = None
    with suppress(AccessDenied):  # whoever asked is told
        history = erase_history(bucket, lambda key: is_garbage(key, needs))
    for stand in gone:
        assert stand.status is not None
        body = notice(stand.record.name, stand.record.version, stand.status.at, stand.status.reason)
        bucket.put(stand.folder + NOTICE, body, content_type="text/plain; charset=utf-8")
    return _Done(tuple(rest), history)


def _is_done(bucket: Bucket, stand: Stand) -> bool:
    try:
        bucket.head(stand.folder + NOTICE)
    except ObjectNotFound:
        return False
    return True


def _move(bucket: Bucket, lease: Lease, removal: _Removal, on_file: Progress) -> None:
    """Write anew what versions that stay have in doomed objects, and let indexes point there."""
    left = {s: place for s, place in removal.moves.items() if s not in removal.settled}
    places = dict(removal.settled)
    count = Counter(on_file, len(left))
    for parcel in _parcels(bucket, removal, left):
        lease.check()
        places |= _resent(bucket, parcel, left, count)
    for stand in _users(removal.shelves):
        _put_urls(bucket, stand, places)
    for shelf in removal.shelves:
        new = Index.of({s: places.get(s, place) for s, place in shelf.index}).to_bytes()
        digest = _put_index(bucket, new)
        lease.check()
        _relocate(bucket, shelf.named, digest)


def _parcels(bucket: Bucket, removal: _Removal, left: Mapping[str, Place]) -> Iterator[Parcel]:
    """What to write: packs and blobs as a push makes them, of the files of one version each."""
    pending = set(left)
    for stand in _users(removal.shelves):
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
    bucket: Bucket, parcel: Parcel, places: Mapping[str, Place], count: Counter
) -> dict[str, Place]:
    """Fetch the files of a parcel, every byte checked, and put them as a new object."""
    with scratch() as room:
        tree, parts = room / "tree", room / "parts"
        parts.mkdir()
        for entry in parcel.entries:
            (tree / entry.path).parent.mkdir(parents=True, exist_ok=True)
        members = {places[e.sha256]: [e] for e in parcel.entries}
        wrong = Fetch(bucket, tree, parts, members, count).all(reads(members))
        if wrong:
            paths = sorted(e.path for place in wrong for e in members[place])
            raise IntegrityError(
                f"{bucket.url} has missing or wrong bytes for {listing(paths)}, which versions "
                "that stay need",
                paths,
                hint="push those versions again, which puts them back, then repeat this",
            )
        return send(bucket, Stock(bucket), tree, [parcel], silent)[0]


def _put_urls(bucket: Bucket, stand: Stand, places: Mapping[str, Place]) -> None:
    """Tell people without publisher where the objects of a version lie from now on."""
    at = {s: places.get(s, place) for shelf in shelves(bucket, [stand]) for s, place in shelf.index}
    entries = read_version(bucket, stand.record).entries
    keys = (at[e.sha256].key for e in entries if e.path != PROVENANCE)
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
