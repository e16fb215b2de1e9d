"""
Push: put a release tree into a bucket as a version. docs/bucket.md tells the protocol.

Bytes first, then the lists of files and of places, then the release record with a create-only
put: that is the one moment in which the version begins to exist, whole. Every step may be
repeated, so after any failure the same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from heapq import merge
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Literal

from .. import __version__
from ..errors import (
    AccessDenied,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    UsageError,
    VersionConflict,
    VersionRetracted,
)
from ..failpoint import failpoint
from ..files import sha256_of
from ..names import listing
from ..progress import Amount, Transfer, unwatched
from ..scratch import clear_scratch
from ..spill import Many, Row, joined
from ..storage import Bucket, require_conditional_writes
from ..versions.documents import DOCUMENTS, SCRIPT, SUMS, URLS, sealed_script, sums
from ..versions.inventory import documents_of
from ..versions.manifest import (
    PROVENANCE,
    Entries,
    Entry,
    Layout,
    Manifest,
    Plan,
    Record,
    StoredShard,
    blob_key,
    in_order,
    record_key,
    shard_key,
    shard_lines,
    tree_key,
)
from ..versions.packs import Index, Place, Placed, digest_in, index_key, plan_packs
from ..versions.version import Channel, Version, check_name
from .catalog import find_record, find_relocation, find_status, read_index, versions
from .consume import is_partial
from .leases import Lease, banned_contents, held
from .maintain import advance, check_may_move
from .sending import (
    FOR_EVER,
    NO_CACHE,
    Parcel,
    Put,
    Stock,
    content_type,
    is_sound,
    rebuilt,
    send,
    sound_objects,
    whole,
    write,
)
from .signing import sign_record
from .trees import check_contents, check_paths, check_tree, each, read_manifest
from .trust import UNSIGNED, Signers, signers_of

PLAIN_FILES = 2_000  # that a version may have to lie in the bucket as a tree
PLAIN_BYTES = 2**32
_PLAIN_PATH = 700  # bytes of the longest path of such a tree: S3's keys end at 1024
_LOOK_BACK = 3  # versions that are asked for what they hold

_content, _path = attrgetter("sha256"), attrgetter("path")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did, or with `dry_run` would do."""

    status: Literal["published", "already published", "planned"]
    name: str
    version: str
    root: str
    layout: Layout
    plan: Plan  # `move` was sent, `keep` was in the bucket or was copied there
    record: Record | None  # None where it is only planned


def push(
    bucket: Bucket,
    tree: Path,
    name: str,
    version: str,
    *,
    created: str,
    channel: str | None = "latest",
    layout: Layout | None = None,
    dry_run: bool = False,
    on_bytes: Transfer = unwatched,
    signers: Signers = UNSIGNED,
) -> Pushed:
    """
    Publish a release tree, and let a channel point to it unless that is further already.

    Pushing the same content again changes nothing, but puts back what the bucket has lost.

    Args:
        created: the time of publication, ISO 8601.
        channel: None moves none.
        layout: "plain" puts every file under its own name, "packs" puts small files together;
            by default small datasets are plain.
        dry_run: look, but send nothing.
        on_bytes: told of what is checked, then of what is sent.
        signers: who signs the version and the channel.

    Raises:
        UsageError: the name, version or folder cannot be published; or the channel is signed,
            and would be no more.
        IntegrityError: the tree is not what its manifest says, or changes meanwhile; then nothing
            is published, though packs without what is wrong may have been sent.
        VersionConflict: the version is published with other content, or the tree has content
            that was retracted and must not come back.
        VersionRetracted: the version was taken down.
        BucketBusy: someone is deleting.
        StorageError: the bucket failed; the same call goes on later.
    """
    check_name(name)
    number, goal = Version.parse(version), Channel(channel) if channel else None
    manifest = read_manifest(tree)
    if manifest.others or is_partial(tree):
        raise UsageError(f"{tree} holds only a part of a version; it cannot be published")
    wanted = _layout_of(manifest, layout)
    if goal is not None:
        check_may_move(bucket, name, goal, number, signers)
    is_checked = dry_run or wanted == "plain"
    if is_checked:
        check_tree(tree, manifest, on_bytes)
    else:
        check_paths(tree, manifest)
    if dry_run:
        return _Push(bucket, tree, manifest, name, number, on_bytes).planned(wanted)
    clear_scratch()
    try:
        with held(bucket, "shared", f"a push of {name} {number}") as lease:
            work = _Push(bucket, tree, manifest, name, number, on_bytes)
            return work.run(wanted, created, goal, signers, lease, is_checked=is_checked)
    except IntegrityError:
        if not is_checked:
            check_tree(tree, manifest, on_bytes)  # names all that changed, not the first alone
        raise


def _layout_of(manifest: Manifest, asked: Layout | None) -> Layout:
    """Small datasets are plain: whoever looks into the bucket sees the tree."""
    taken = {name.casefold() for name in DOCUMENTS}
    obstacle = next(
        (e.path for e in manifest.entries if _is_too_long(e) or e.path.casefold() in taken), None
    )
    if asked == "plain" and obstacle is not None:
        raise UsageError(
            f"{obstacle[:80]} cannot lie plainly in a bucket", hint="push it with --layout packs"
        )
    few = len(manifest.entries) <= PLAIN_FILES and manifest.size <= PLAIN_BYTES
    return asked or ("plain" if few and obstacle is None else "packs")


def _is_too_long(entry: Entry) -> bool:
    return len(entry.path.encode()) > _PLAIN_PATH


@dataclass(frozen=True)
class _Order:
    """What is to be sent, and where the rest lies."""

    layout: Layout
    parcels: tuple[Parcel, ...]
    kept: Placed = field(default_factory=Placed)  # sorted by sha256; there and whole


class _Push:
    """One push of one tree."""

    def __init__(
        self,
        bucket: Bucket,
        tree: Path,
        manifest: Manifest,
        name: str,
        version: Version,
        on_bytes: Transfer,
    ) -> None:
        self._bucket = bucket
        self._tree = tree
        self._manifest = manifest
        self._name = name
        self._version = version
        self._folder = tree_key(name, version)
        self._on_bytes = on_bytes
        self._stock = Stock(bucket)
        self._theirs = find_record(bucket, name, version)
        self._refuse_other(self._theirs)
        self._refuse_retracted()
        shared = (e for e in manifest.entries if self._is_shared(e.shard))
        all_shared = all(map(self._is_shared, manifest.shards))
        self._entries = in_order(manifest.entries if all_shared else shared)

    def planned(self, layout: Layout) -> Pushed:
        """Say what a push would do, as far as that shows without making packs."""
        order = self._order(layout)
        missing = [p for p in order.parcels if not p.source and not self._is_there(p)]
        return self._pushed("planned", order, missing, self._theirs)

    def run(
        self,
        layout: Layout,
        created: str,
        goal: Channel | None,
        signers: Signers,
        lease: Lease,
        *,
        is_checked: bool,
    ) -> Pushed:
        """Send what is missing, then commit, as long as the lease is good."""
        failpoint("put-probe")
        require_conditional_writes(self._bucket)
        failpoint("after-put-probe")
        order = self._order(layout)
        if not is_checked:
            self._check_rest(order)
        claims = self._theirs is None and order.layout == "plain"
        if claims and not self._claim():
            order, claims = self._packed(self._shards), False
        puts = send(self._bucket, self._stock, self._tree, order.parcels, self._as_long_as(lease))
        sent = [put.parcel for put in puts if put.is_new]
        places = _together(order.kept, Placed(p for put in puts for p in put.places).sorted())
        indexes = self._send_lists(places)
        if self._theirs is None:
            lease.renew()
            self._look_again(order.kept, puts)
        record, new = self._commit(order, indexes, created)
        if new:
            self._confirm(lease)
        if signers.keys:
            self._sign(record, signers)
        if new or self._theirs is not None:  # else who was quicker does this
            self._send_documents(record, places, skip={SUMS} if claims else set())
        if goal is not None:
            _advance(self._bucket, self._name, goal, self._version, record.root, signers)
        return self._pushed("published" if new else "already published", order, sent, record)

    def _pushed(
        self,
        status: Literal["published", "already published", "planned"],
        order: _Order,
        sent: Sequence[Parcel],
        record: Record | None,
    ) -> Pushed:
        moved = Many((e.sha256,) for p in sent for e in p.entries).sorted()
        move, keep = Entries(), Entries()
        for entry, found in joined(self._contents, moved, by=_content):
            (keep if found is None else move).append(entry)
        transfer = sum(p.size for p in sent)
        done = Plan(move.sorted(), keep.sorted(), requests=len(sent), transfer=transfer)
        root, layout = self._manifest.root, record.layout if record else order.layout
        return Pushed(status, self._name, str(self._version), root, layout, done, record)

    def _refuse_other(self, theirs: Record | None) -> None:
        """A version that is published must have our root."""
        if theirs is not None and theirs.root != self._manifest.root:
            raise VersionConflict(
                f"{self._name} {self._version} is published with other content: "
                f"{theirs.root[:19]}, not {self._manifest.root[:19]}",
                hint="versions never change; choose the next number",
            )

    def _refuse_retracted(self) -> None:
        """What was taken down does not come back, neither a version nor a content."""
        if self._theirs is not None:
            status = find_status(self._bucket, self._name, self._version)
            if status is not None and status.state == "retracted":
                raise VersionRetracted(
                    f"{self._name} {self._version} is {status}",
                    status.reason,
                    hint="a number is never used again; choose the next one",
                )
        banned = banned_contents(self._bucket)
        back = [e.path for e in self._manifest.entries if e.sha256 in banned] if banned else []
        if back:
            raise VersionConflict(
                f"{listing(back)} has been retracted and must not come back",
                hint="leave it out of the release",
            )

    def _is_shared(self, shard: str) -> bool:
        """Has the published record these very files? Its provenance may be another's."""
        if self._theirs is None:
            return True
        stored = self._theirs.shards.get(shard)
        return stored is not None and stored.plain == self._manifest.shards.get(shard)

    # ── what to send ─────────────────────────────────────────────────────────────────────────

    def _order(self, layout: Layout) -> _Order:
        if self._theirs is not None:
            layout = self._theirs.layout
        if layout == "plain":
            return self._plain()
        return self._packed(self._shards) if self._theirs is None else self._standing()

    @cached_property
    def _indexes(self) -> Mapping[str, Index]:
        """The indexes of a version that is published in packs, without those that are lost."""
        found = dict[str, Index]()
        if self._theirs is not None and self._theirs.layout == "packs":
            for shard in self._shards:
                with suppress(IntegrityError):
                    found[shard] = read_index(self._bucket, self._theirs.shards[shard])
        return found

    def _standing(self) -> _Order:
        """
        The objects that a published version in packs has: those that are lost are sent. Files
        of which the index is lost are placed as the first push did it, to make it again.
        """
        rows = Many[Row]()  # a file, then its place
        for shard, index in self._indexes.items():
            for e, p in index.places_of(e for e in self._entries if e.shard == shard):
                rows.append((e.path, e.size, e.sha256, e.split, p.key, p.offset, p.size, p.whole))
        by_content = groupby(rows.sorted(itemgetter(2, 0)), key=itemgetter(2))
        kept = Placed((sha256, Place(*_last(found)[4:])) for sha256, found in by_content)
        wholes = (Place(*row[4:]) for row in rows)
        lost = {row[4] for row in rows} - sound_objects(self._stock, wholes)
        parcels = [] if not lost else list(_rebuilt(row for row in rows if row[4] in lost))
        if unplaced := [s for s in self._shards if s not in self._indexes]:
            again = self._packed(unplaced)
            return _Order("packs", (*parcels, *again.parcels), _together(kept, again.kept))
        return _Order("packs", tuple(parcels), kept)

    @cached_property
    def _by_content(self) -> Entries:
        """The files by sha256, and of one content by path."""
        return self._entries.sorted(itemgetter(2))

    @property
    def _contents(self) -> Iterator[Entry]:
        """The first file of each content, by sha256."""
        return (next(found) for _, found in groupby(self._by_content, key=_content))

    @property
    def _shards(self) -> list[str]:
        return [s for s in self._manifest.shards if self._is_shared(s)]

    def _plain(self) -> _Order:
        """Every file under its own path; what the bucket has elsewhere is copied there."""
        parcels, first, earlier = list[Parcel](), dict[str, str](), dict(self._earlier)
        for entry in self._entries:
            if entry.path == PROVENANCE:  # of the same data from another commit it differs
                parcels.append(Parcel((entry,), blob_key(entry.sha256)))
                continue
            key = self._folder + entry.path
            source = first.setdefault(entry.sha256, key)
            if source == key:
                old = earlier.get(entry.sha256)
                source = old.key if old is not None and old.is_whole else key
            parcels.append(Parcel((entry,), key, source=source if source != key else None))
        self._stock.look(self._folder, len(parcels))
        return _Order("plain", tuple(parcels))

    def _packed(self, shards: Collection[str]) -> _Order:
        """New contents in packs and blobs; what an earlier version holds stays where it is."""
        kept = self._earlier
        wholes = {p.key for _, p in kept}
        sound = sound_objects(self._stock, (p for _, p in kept))
        if sound != wholes:
            kept = Placed((sha256, place) for sha256, place in kept if place.key in sound)
        known = joined(self._by_content, kept, by=_content)
        new = Entries(e for e, found in known if found is None) if len(kept) else self._entries
        packs, single = plan_packs(new)
        if not len(kept):
            self._stock.look("packs/", len(packs))
            self._stock.look("blobs/", len(single))
        parcels = [Parcel(p.entries, None, p) for p in packs]
        parcels += [Parcel((e,), blob_key(e.sha256)) for e in single]
        return _Order("packs", tuple(p for p in parcels if p.entries[0].shard in shards), kept)

    @cached_property
    def _earlier(self) -> Placed:
        """
        Where other versions have the same bytes, sorted by sha256: those before ours, the nearest
        first, then those after it. Who can read their indexes needs no list of all there is.
        Of a version that is published already, those that were there when it was.
        """
        if self._theirs is not None and self._theirs.layout == "plain":
            return Placed()  # its files are here
        found = versions(self._bucket, self._name)
        before = [v for v in reversed(found) if v < self._version]
        left, seen = Many((e.sha256,) for e in self._contents), set[str]()
        places, looked = Placed(), 0
        for version in [*before, *(v for v in found if v > self._version)]:
            if not len(left) or looked == _LOOK_BACK:
                break
            here = Placed()
            with suppress(IntegrityError):  # damaged, or retracted: then it is no help
                record = find_record(self._bucket, self._name, version)
                if record is None or (self._theirs and record.created > self._theirs.created):
                    continue
                for stored in record.shards.values():
                    if stored.index not in seen:
                        seen.add(stored.index)
                        index = read_index(self._bucket, stored)
                        mine = Placed(place for _, place in joined(left, index) if place)
                        here = _together(mine, here)
                looked += 1
            if len(here):
                places = _together(places, here)
                left = Many(row for row, place in joined(left, here) if place is None)
        return places

    def _is_there(self, parcel: Parcel) -> bool:
        digest = parcel.entries[0].sha256 if parcel.pack is None else None
        return parcel.key is not None and self._stock.has(parcel.key, parcel.size, digest)

    # ── sending ──────────────────────────────────────────────────────────────────────────────

    def _check_rest(self, order: _Order) -> None:
        """
        Hash what is not hashed yet, but for the files of packs: these are read once, as their
        packs are made. So what is wrong is found before the commit, and mostly before all else.
        """
        packed = Many((e.path,) for p in order.parcels if p.pack for e in p.entries)
        if len(packed) < len(self._manifest.entries):
            found = joined(in_order(self._manifest.entries), packed.sorted(), by=_path)
            rest = Entries(entry for entry, row in found if row is None)
            check_contents(self._tree, rest, self._on_bytes)

    def _claim(self) -> bool:
        """
        Is the folder of this version ours to fill? Its keys are not named by content, so whoever
        creates its list of checksums first decides what it holds; two contents never mix.
        """
        key, body = self._folder + SUMS, sums(self._manifest.entries)
        failpoint("put-claim")
        try:
            kind = content_type(SUMS)
            self._bucket.put(key, body, if_absent=True, content_type=kind, cache_control=NO_CACHE)
        except ObjectExists:
            with suppress(ObjectNotFound, IntegrityError):  # gone meanwhile, or longer
                return self._bucket.get(key, limit=len(body)) == body
            return False
        failpoint("after-put-claim")
        return True

    def _send_lists(self, places: Placed) -> dict[str, str]:
        """Put the lines and the index of each shard; give the digests of new indexes."""
        self._stock.look("manifests/", len(self._shards))
        self._stock.look("index/", len(self._shards))
        digests, lost = dict[str, str](), list[str]()
        for name in self._shards:
            with whole(shard_lines(self._manifest.shard_entries(name))) as lines:
                self._put("put-manifest", shard_key(_sha256(lines)), lines)
            if name in self._indexes:
                continue
            with whole(self._index(name, places).parts()) as index:
                digests[name] = _sha256(index)
                if self._theirs and not self._is_in_force(digests[name], self._theirs.shards[name]):
                    lost.append(name)
                else:
                    self._put("put-index", index_key(digests[name]), index)
        if self._theirs and lost:
            raise _lost_index(self._theirs, lost[0])
        return digests

    def _index(self, shard: str, places: Placed) -> Index:
        """Where the files of a shard lie."""
        files = (e for e in self._by_content if e.shard == shard)
        contents = (sha256 for sha256, _ in groupby(files, key=_content))
        found = Placed(place for _, place in joined(contents, places, by=str) if place)
        return Index.made(found, (place for _, place in found))

    def _is_in_force(self, digest: str, shard: StoredShard) -> bool:
        """Is this the index of a published shard, or what has taken its place?"""
        return digest == shard.index or digest == find_relocation(self._bucket, shard.index)

    def _put(self, step: str, key: str, body: bytes | Path, cache: str = FOR_EVER) -> None:
        """Put a list or document where it is not yet."""
        found, digest = self._stock.find(key), _sha256(body)
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        if not is_sound(found, size, digest):
            write(self._bucket, step, key, body, digest, found, content_type(key), cache)

    def _as_long_as(self, lease: Lease) -> Transfer:
        """A listener that ends the work when the lease has lapsed: what was retracted stays out."""

        def tell(what: str, done: Amount, total: Amount) -> None:
            lease.check()
            self._on_bytes(what, done, total)

        return tell

    def _look_again(self, kept: Placed, puts: Sequence[Put]) -> None:
        """
        Is all there that was there before? Nobody who holds to leases deletes it meanwhile; a
        version must not rest on a stranger who does.
        """
        reused = {place.key: place for _, place in kept}
        seen = {put.content for put in puts if put.is_new}
        for put in puts:
            if put.content not in seen:
                seen.add(put.content)
                _, reused[put.key] = next(put.places)
        missing = reused.keys() - sound_objects(Stock(self._bucket), reused.values())
        asked = Stock(self._bucket)  # one by one: a list may be older than what it lists
        lost = [k for k in missing if not asked.has(k, reused[k].whole, digest_in(k))]
        if lost and find_record(self._bucket, self._name, self._version) is None:
            raise StorageError(  # else another has committed, and cleared the folder
                f"{listing(sorted(lost), 3)} went away while {self._name} {self._version} "
                "was published",
                hint="run the same command again, which sends it",
            )

    def _confirm(self, lease: Lease) -> None:
        """Was the lease good at the commit, by the bucket's clock?"""
        lease.covers(self._bucket.head(record_key(self._name, self._version)).modified or 0.0)

    def _commit(
        self, order: _Order, indexes: Mapping[str, str], created: str
    ) -> tuple[Record, bool]:
        """
        Create the release record, the version's first moment; give the record that stands,
        and whether this push has created it.

        A create-only put may fail because its own first try went through and the answer got
        lost: then the record that stands is ours.
        """
        if self._theirs is not None:
            return self._theirs, False
        tool = f"publisher {__version__}"
        ours = Record.of(
            *(self._manifest, self._name, self._version, created, tool),
            layout=order.layout,
            indexes=indexes,
        )
        key = record_key(self._name, self._version)
        failpoint("put-record")
        try:
            self._bucket.put(
                key,
                ours.to_bytes(),
                if_absent=True,
                content_type="application/json",
                cache_control=FOR_EVER,
            )
        except ObjectExists:
            stands = find_record(self._bucket, self._name, self._version)
            if stands is None:
                raise StorageError(f"{key} was there and is gone", hint="try again") from None
            if stands.root != ours.root and stands.layout == "packs":
                self._leave(order)
            self._refuse_other(stands)
            return stands, stands == ours
        failpoint("after-put-record")
        return ours, True

    def _sign(self, record: Record, signers: Signers) -> None:
        """
        Sign the record that stands, at once; the channel leads here only after that.

        One that another commit's push has created has another provenance, and the signers have
        seen only their own.
        """
        if not self._is_ours(record):
            if set(signers_of(self._bucket, record)) >= signers.trust.keys:
                return  # when they had seen it
            raise VersionConflict(
                f"{self._name} {self._version} is published, of another commit, and not signed",
                hint=f"to sign it as it is: `publisher sign …/{self._name}@{record.root}`",
            )
        failpoint("put-signatures")
        sign_record(self._bucket, record, signers)

    def _is_ours(self, record: Record) -> bool:
        """Does a record say of the files of this tree what we would say?"""
        indexes = {name: shard.index for name, shard in record.shards.items()}
        try:
            ours = Record.of(
                *(self._manifest, self._name, self._version, record.created, record.tool),
                layout=record.layout,
                indexes=indexes,
            )
        except KeyError:  # a shard that it has not
            return False
        return ours == record

    def _leave(self, order: _Order) -> None:
        """Another content has become this version; nothing of ours may lie in its folder."""
        mine = [p.key for p in order.parcels if p.key and p.key.startswith(self._folder)]
        with suppress(StorageError):
            each(self._bucket.delete, mine)

    def _send_documents(self, record: Record, places: Placed, skip: Set[str]) -> None:
        """
        Put what people without publisher need beside the version, which is published already.

        What else lies there, of a version in packs, is of a push that never came to its end.
        """
        shared = self._is_shared("provenance")
        files = joined((e for e in self._by_content if e.path != PROVENANCE), places, by=_content)
        keys = {place[1].key for _, place in files if place}
        what = (self._name, record.layout, self._folder, self._manifest, keys)
        bodies: dict[str, Iterable[bytes]] = {SCRIPT: (script(),)}
        for document in documents_of(*what):
            if document.name in {SUMS, URLS} or shared:
                if document.parts is None:
                    bodies[document.name] = ((self._tree / document.name).read_bytes(),)
                else:
                    bodies[document.name] = document.parts()
        self._stock.look(self._folder, len(bodies))
        for name in sorted(set(bodies) - skip):
            with whole(bodies[name]) as body:
                self._put("put-document", self._folder + name, body, NO_CACHE)
        if record.layout == "packs":
            there = {o.key for o in self._bucket.list(self._folder)}
            failpoint("delete")
            with suppress(AccessDenied):
                each(self._bucket.delete, sorted(there - {self._folder + n for n in bodies}))
            failpoint("after-delete")


def _together(first: Placed, second: Placed) -> Placed:
    """Where contents lie by either of two, both sorted by sha256; each once, by the first."""
    groups = groupby(merge(first, second, key=itemgetter(0)), key=itemgetter(0))
    return Placed(next(found) for _, found in groups)


def _rebuilt(rows: Iterable[Row]) -> Iterator[Parcel]:
    """The parcels with files that lie in lost objects."""
    by_place = Many(rows).sorted(itemgetter(4, 5, 6, 7, 0))
    for key, found in groupby(by_place, key=itemgetter(4)):
        first = Many(next(same) for _, same in groupby(found, key=itemgetter(5, 6, 7)))
        yield rebuilt(key, [(Entry(*row[:4]), Place(*row[4:])) for row in first])


def _last(rows: Iterable[Row]) -> Row:
    *_, last = rows
    return last


def _lost_index(record: Record, shard: str) -> IntegrityError:
    key = index_key(record.shards[shard].index)
    return IntegrityError(
        f"{key}, which says where the files of {shard} lie, is lost and cannot be made again",
        [key],
        hint="publish the same data as the next version",
    )


def script() -> bytes:
    """The get.py that lies beside every version."""
    return sealed_script(Path(__file__).with_name(SCRIPT).read_bytes())


def _sha256(body: bytes | Path) -> str:
    return sha256_of(body) if isinstance(body, Path) else hashlib.sha256(body).hexdigest()


def _advance(
    bucket: Bucket, name: str, channel: Channel, version: Version, root: str, signers: Signers
) -> None:
    """Let a channel point to this version; never back to an older one."""
    advance(bucket, name, channel, version, root, lambda: failpoint("put-channel"), signers)
    failpoint("after-put-channel")
