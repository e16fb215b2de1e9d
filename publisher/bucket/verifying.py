"""
Verify: is all of a version in a bucket, bit by bit? Name what is not, and put it right.

Every object of a version is named by its digest, sealed, or follows from what is; so damage is
never a matter of opinion, and right bytes may come from anywhere: none is put before its digest
was checked. They are put in the order of a push, what makes a version visible last.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..errors import (
    AccessDenied,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    VersionConflict,
    VersionNotFound,
)
from ..failpoint import failpoint
from ..files import sha256_of
from ..names import listing
from ..progress import Amount, Transfer, unwatched
from ..scratch import scratch
from ..spill import Spill
from ..storage import Bucket, MemoryBucket
from ..versions.documents import SCRIPT, SUMS, URLS, is_script, sums
from ..versions.inventory import (
    BESIDE,
    Document,
    Item,
    Kind,
    Lists,
    amounts_in,
    belongs,
    documents_of,
    home_of,
    items_of,
    keys_of,
)
from ..versions.manifest import (
    MAX_DOCUMENT,
    ChannelState,
    Entries,
    Entry,
    Manifest,
    Record,
    StoredShard,
    blob_key,
    channel_key,
    max_shard_bytes,
    record_key,
    shard_key,
    status_key,
    tree_key,
)
from ..versions.packs import index_key, max_index_bytes
from ..versions.version import Channel, Selector, Version, parse_selector
from .catalog import (
    find_record,
    find_status,
    in_force,
    read_version,
    resolve,
    retracted_error,
    unless_retracted,
)
from .leases import held
from .objects import (
    PORTERS,
    Bytes,
    Damage,
    State,
    Wrong,
    asked,
    carry,
    channel_at,
    channel_keys,
    index_of,
    kept,
    lines_of,
    look_at,
    look_at_list,
    manifest_of,
    order_of,
    read_through,
    record_of,
    status_of,
)
from .publish import script
from .sending import FOR_EVER, NO_CACHE, Stock, content_type, put_aside, put_over, write
from .trees import Meter, each, flow
from .trust import NOBODY, Trust

_NOTHING = Amount(0, 0)
_AFTER = {"record", "document", "channel"}  # what says that the rest is there
_SWAPPED = {"record", "status", "beside", "channel"}  # others change them, or nobody may
_STAYS = {"active", "yanked", "deprecated"}
_ROOT = re.compile(rb'"root": "(sha256:[0-9a-f]{64})"')

T = TypeVar("T")


@dataclass(frozen=True)
class Report:
    """What became of the objects of a version."""

    name: str
    version: Version
    root: str | None  # None where there is no record
    manifest: Manifest | None  # None where a list of files is lost
    objects: int  # that were looked at
    damages: tuple[Damage, ...] = ()
    unseen: tuple[str, ...] = ()  # shards whose objects nobody could look at, for want of lists

    @property
    def left(self) -> tuple[Damage, ...]:
        """What is still lost or damaged."""
        return tuple(d for d in self.damages if not d.mended)

    @property
    def is_sound(self) -> bool:
        """Is all of it there now, and right?"""
        return not self.left and not self.unseen and self.manifest is not None


def verify_remote(
    bucket: Bucket,
    name: str,
    selector: Selector | str = "latest",
    *,
    deep: bool = False,
    on_bytes: Transfer = unwatched,
    trust: Trust = NOBODY,
) -> Manifest:
    """
    Check that a bucket holds a version whole.

    Args:
        deep: read and hash every byte, instead of asking for sizes and kept checksums.
        trust: whose signature it must have.

    Raises:
        VersionNotFound: no version answers to the selector.
        Untrusted: no trusted key has signed it.
        IntegrityError: objects are lost or damaged; `.paths` names the files, or the objects
            that hold none.
    """
    if trust.keys:
        resolve(bucket, name, selector, trust)
    report = examine(bucket, name, selector, deep=deep, on_bytes=on_bytes)
    if not report.is_sound or report.manifest is None:
        raise failure(bucket, report)
    return report.manifest


def failure(bucket: Bucket, report: Report) -> IntegrityError:
    """The error that says what is lost or damaged."""
    paths = sorted({path for d in report.left for path in (d.files or (d.key,))})
    unseen = f"; nobody could look into {listing(report.unseen)}" if report.unseen else ""
    return IntegrityError(
        f"{bucket.url} has missing or wrong bytes of {report.name} {report.version}: "
        f"{listing([str(d) for d in report.left], 3)}{unseen}",
        paths,
        hint="`publisher verify --deep --repair-from MIRROR` puts right bytes back",
    )


def examine(
    bucket: Bucket,
    name: str,
    selector: Selector | str = "latest",
    *,
    deep: bool = False,
    mirror: Bucket | None = None,
    on_bytes: Transfer = unwatched,
) -> Report:
    """
    Look at every object of a version; with a mirror, put right what is wrong.

    Args:
        deep: read and hash every byte, instead of asking for sizes and kept checksums.
        mirror: another bucket that has the version.
        on_bytes: told of files, as the objects that hold them are looked at.

    Raises:
        VersionNotFound: no version answers to the selector.
        VersionConflict: the mirror has other content as this version.
        UsageError: the disk has no room for an object on its way.
        StorageError: a bucket failed.
    """
    if isinstance(selector, str):
        selector = parse_selector(selector)
    version = _version(bucket, name, selector, mirror)
    with suppress(IntegrityError):
        status = find_status(bucket, name, version)
        if status is not None and status.state not in _STAYS:  # its bytes are gone on purpose
            raise retracted_error(name, status)
    examination = _Examination(bucket, name, version, mirror, deep=deep)
    if mirror is None:
        with unless_retracted(bucket, name, str(version)):
            return examination.run(on_bytes)
    with held(bucket, "shared", f"a repair of {name} {version}"):
        return examination.run(on_bytes)


def _version(bucket: Bucket, name: str, selector: Selector, mirror: Bucket | None) -> Version:
    """Which version is meant, though what says so may be lost."""
    if isinstance(selector, Version):
        return selector
    try:
        return Version.parse(resolve(bucket, name, selector).version)
    except (VersionNotFound, IntegrityError):
        if isinstance(selector, Channel):
            state, _ = _channel(bucket, channel_key(name, selector))
            if state is not None and _leads_nowhere(bucket, name, state):
                return Version.parse(state.version)
        if mirror is None:
            raise
    return Version.parse(resolve(mirror, name, selector).version)


def _leads_nowhere(bucket: Bucket, name: str, state: ChannelState) -> bool:
    try:
        return find_record(bucket, name, Version.parse(state.version)) is None
    except IntegrityError:
        return True


def _channel(bucket: Bucket, key: str) -> tuple[ChannelState | None, State | None]:
    return look_at(bucket, key, MAX_DOCUMENT, channel_at(key))


@dataclass(frozen=True, slots=True)
class _Part:
    """An object that a version needs: how to see what is wrong with it, and how to get it right."""

    key: str
    kind: Kind
    check: Callable[[bool], Wrong | None]  # deeply, where told so
    right: Callable[[Path], bytes | Path | None]  # its right bytes; large ones in a folder
    amount: Amount = _NOTHING  # of the files in it, each counted in one object alone

    def damage(self, deep: bool) -> Damage | None:
        """What is wrong with it."""
        wrong = self.check(deep)
        return wrong and Damage(self.key, self.kind, *wrong)


class _Examination:
    """One look at one version."""

    def __init__(
        self, bucket: Bucket, name: str, version: Version, mirror: Bucket | None, *, deep: bool
    ) -> None:
        self._bucket = bucket
        self._mirror = mirror if mirror is not None else MemoryBucket()  # where all is lost
        self._mends = mirror is not None
        self._name = name
        self._version = version
        self._deep = deep
        self._folder = tree_key(name, version)
        self._wrong: dict[str, tuple[_Part, Damage]] = {}
        self._seen = 0
        self._files: dict[Version, Mapping[str, Entry]] = {}

    def run(self, on_bytes: Transfer) -> Report:
        """Look, and mend where there is something to mend from."""
        record, manifest, unseen = self._record(), None, tuple[str, ...]()
        if record is not None:
            lists = self._lists(record)
            unseen = _unseen(record, lists)
            self._look(self._contents(record, lists), _amount(record, lists), on_bytes)
            if all(known.entries is not None for known in lists.values()):
                manifest = manifest_of(record, lists.values())
                self._look(self._documents(record, manifest, lists))
        self._look([*self._said(), *self._channels(record)])
        damages = [d for _, d in self._wrong.values()]
        if self._mends and damages:
            damages = self._mended(bool(unseen))
        root = record.root if record is not None else None
        damages = sorted(damages, key=order_of)
        return Report(self._name, self._version, root, manifest, self._seen, tuple(damages), unseen)

    def _look(
        self, parts: Iterable[_Part], total: Amount = _NOTHING, on_bytes: Transfer = unwatched
    ) -> None:
        meter = Meter(on_bytes, "checked", total)

        def look(part: _Part) -> tuple[_Part, Damage | None]:
            found = part.damage(self._deep)
            if part.amount.files:
                meter.add(*part.amount)
            return part, found

        for part, damage in flow(look, parts):
            self._note(part, damage)

    def _note(self, part: _Part, damage: Damage | None) -> None:
        self._seen += 1
        if damage is not None:
            self._wrong[part.key] = part, damage

    # ── record and lists ─────────────────────────────────────────────────────────────────────

    def _record(self) -> Record | None:
        """The record; that of the mirror where ours cannot be read."""
        key = record_key(self._name, self._version)
        parse = record_of(self._name, self._version)
        theirs, _ = look_at(self._mirror, key, MAX_DOCUMENT, parse)
        ours, wrong = look_at(self._bucket, key, MAX_DOCUMENT, parse)
        if wrong == "lost" and theirs is None and not self._was_published():
            resolve(self._bucket, self._name, self._version)  # says what there is instead
        if ours is None and theirs is not None:
            self._refuse_stranger(theirs)
        if ours is not None and theirs is not None and ours.root != theirs.root:
            raise self._stranger(theirs)
        part = self._small(key, "record", parse)
        self._note(part, wrong and Damage(key, "record", wrong))
        return ours or theirs

    def _was_published(self) -> bool:
        """Is there what only a publication leaves?"""
        after = {self._folder + name for name in (URLS, SCRIPT)}
        with suppress(AccessDenied):
            if any(o.key in after for o in self._bucket.list(self._folder)):
                return True
        return bool(self._roots_told())

    def _roots_told(self) -> set[str]:
        """The roots that channels give to this version."""
        states = (_channel(self._bucket, key)[0] for key in channel_keys(self._bucket, self._name))
        return {s.root for s in states if s is not None and s.version == str(self._version)}

    def _refuse_stranger(self, theirs: Record) -> None:
        """Our record cannot be read: does nothing here speak for that of the mirror?"""
        told = self._roots_told()
        with suppress(ObjectNotFound, IntegrityError):
            body = self._bucket.get(record_key(self._name, self._version), limit=MAX_DOCUMENT)
            told |= {root.decode() for root in _ROOT.findall(body)}
        if theirs.root in told:
            return
        lines = [Lists(self._lines(name, theirs), None) for name in theirs.shards]
        body = sums(manifest_of(theirs, lines).entries)
        with suppress(IntegrityError):
            try:
                if self._bucket.get(self._folder + SUMS, limit=len(body)) == body:
                    return
            except ObjectNotFound:
                if not told:
                    return  # nothing speaks against it either
        raise self._stranger(theirs)

    def _lines(self, name: str, record: Record) -> Entries | None:
        shard = record.shards[name]
        key, limit = shard_key(shard.sha256), max_shard_bytes(shard)
        return look_at_list(self._mirror, key, limit, lines_of(name, shard))[0]

    def _stranger(self, theirs: Record) -> VersionConflict:
        return VersionConflict(
            f"{self._mirror.url} has other content as {self._name} {self._version}: "
            f"{theirs.root[:19]}",
            hint="nothing was changed: this is no mirror of that version",
        )

    def _lists(self, record: Record) -> dict[str, Lists]:
        """The lists of all shards; those of the mirror where ours cannot be read."""
        lists = each(lambda item: self._lists_of(*item), list(record.shards.items()))
        return dict(zip(record.shards, lists, strict=True))

    def _lists_of(self, name: str, shard: StoredShard) -> Lists:
        with suppress(IntegrityError):  # a damaged relocation: then it is the first that is lost
            shard = in_force(self._bucket, shard)
        where, most = shard_key(shard.sha256), max_shard_bytes(shard)
        entries = self._list(where, "manifest", lines_of(name, shard), most)
        where, most = index_key(shard.index), max_index_bytes(shard)
        return Lists(entries, self._list(where, "index", index_of(shard, entries), most))

    def _list(
        self, key: str, kind: Kind, parse: Callable[[bytes | Spill], T], limit: int
    ) -> T | None:
        ours, wrong = look_at_list(self._bucket, key, limit, parse)
        part = self._small(key, kind, parse, limit)
        self._note(part, wrong and Damage(key, kind, wrong))
        return ours if wrong is None else look_at_list(self._mirror, key, limit, parse)[0]

    def _small(
        self, key: str, kind: Kind, parse: Callable[[bytes], object], limit: int = MAX_DOCUMENT
    ) -> _Part:
        """An object that is read as a whole, however shallow the look; the mirror has it too."""
        whole = kept(parse)

        def check(deep: bool) -> Wrong | None:  # noqa: ARG001
            wrong = look_at(self._bucket, key, limit, whole)[1]
            return wrong and (wrong, ())

        return _Part(key, kind, check, lambda _: look_at(self._mirror, key, limit, whole)[0])

    # ── contents and documents ───────────────────────────────────────────────────────────────

    def _contents(self, record: Record, lists: Mapping[str, Lists]) -> Iterator[_Part]:
        """The objects that hold files."""
        for item in items_of(record, lists):
            yield self._content(item, Amount(*amounts_in(item, record)))

    def _content(self, item: Item, amount: Amount) -> _Part:
        def check(deep: bool) -> Wrong | None:
            if deep:
                return read_through(self._bucket, item)
            wrong = asked(self._bucket, item.key, item.size, item.sha256)
            return wrong and (wrong, item.paths)

        def right(room: Path) -> bytes | Path | None:
            if item.sha256 is None or not self._may_lie_there(item):
                return None
            return carry(self._mirror, Bytes(item.key, item.size, item.sha256), room)[0]

        return _Part(item.key, item.kind, check, right, amount)

    def _may_lie_there(self, item: Item) -> bool:
        """An index must not make us write but where files lie; nor those of other versions."""
        try:
            home = home_of(item.key, self._name)
            if home is None:
                return True
            entries = self._files_of(home)
        except IntegrityError:
            return False
        return belongs(item, self._name, home, entries)

    def _files_of(self, version: Version) -> Mapping[str, Entry]:
        """The files of a version by path, as the bucket or the mirror knows them."""
        found: Mapping[str, Entry] = self._files.get(version, {})
        for bucket in (self._bucket, self._mirror):
            with suppress(IntegrityError):
                record = None if found else find_record(bucket, self._name, version)
                if record is not None:
                    found = {e.path: e for e in read_version(bucket, record).entries}
        self._files[version] = found
        return found

    def _documents(
        self, record: Record, manifest: Manifest, lists: Mapping[str, Lists]
    ) -> list[_Part]:
        keys = keys_of(lists.values()) if record.layout == "packs" else None
        what = (self._name, record.layout, self._folder, manifest, keys)
        return [self._script(), *map(self._document, documents_of(*what))]

    def _document(self, document: Document) -> _Part:
        key = self._folder + document.name
        item = Item.of_document(key, document.size, document.sha256)
        blob = Bytes(blob_key(document.sha256), document.size, document.sha256)

        def check(deep: bool) -> Wrong | None:
            if deep:
                return read_through(self._bucket, item)
            wrong = asked(self._bucket, key, item.size, item.sha256)
            return wrong and (wrong, ())

        def right(room: Path) -> bytes | Path | None:
            if document.parts is not None:
                return put_aside(document.parts(), room)
            return carry(self._bucket, blob, room)[0] or carry(self._mirror, blob, room)[0]

        return _Part(key, "document", check, right)

    def _script(self) -> _Part:
        def parse(body: bytes) -> None:
            if not is_script(body):
                raise IntegrityError(f"{SCRIPT} is damaged")

        part = self._small(self._folder + SCRIPT, "document", parse)
        return replace(part, right=lambda _: script())

    # ── what points to versions ──────────────────────────────────────────────────────────────

    def _said(self) -> list[_Part]:
        """What may be said of a version, and need not."""
        key = status_key(self._name, self._version)
        parts = [self._small(key, "status", status_of(self._name, self._version))]
        for key_of, parse in BESIDE:
            beside = key_of(self._name, self._version)
            parts.append(self._small(beside, "beside", partial(_parsed_by, parse, beside)))
        return [replace(part, check=partial(self._check_said, part)) for part in parts]

    def _check_said(self, part: _Part, deep: bool) -> Wrong | None:
        """Only the mirror can tell that something was said and is lost."""
        with suppress(AccessDenied):  # S3 denies what is not there to who may not list
            wrong = part.check(deep)
            if wrong is not None and wrong[0] == "lost" and part.right(Path()) is None:
                return None
            return wrong
        return None

    def _channels(self, record: Record | None) -> list[_Part]:
        keys = {k for b in (self._bucket, self._mirror) for k in channel_keys(b, self._name)}
        return [self._pointer(key, record) for key in sorted(keys)]

    def _pointer(self, key: str, record: Record | None) -> _Part:
        """A channel must be whole, and give this version, if it points here, its root."""

        def parse(body: bytes) -> None:
            state = ChannelState.from_bytes(body, key)
            points_here = state.version == str(self._version)
            if points_here and record is not None and state.root != record.root:
                raise IntegrityError(f"{key} points to another content", [key])

        part = self._small(key, "channel", parse)

        def check(deep: bool) -> Wrong | None:
            wrong = part.check(deep)
            if wrong is None or wrong[0] == "damaged":
                return wrong
            theirs, _ = _channel(self._mirror, key)
            return wrong if theirs is not None and theirs.version == str(self._version) else None

        def right(room: Path) -> bytes | Path | None:
            theirs, _ = _channel(self._mirror, key)
            if theirs is None:
                return None
            there = find_record(self._bucket, self._name, Version.parse(theirs.version))
            return part.right(room) if there is not None and there.root == theirs.root else None

        return replace(part, check=check, right=right)

    # ── mending ──────────────────────────────────────────────────────────────────────────────

    def _mended(self, unseen: bool) -> list[Damage]:
        """Put right bytes in the place of wrong ones; the record only when all else is right."""
        wrong = sorted(self._wrong.values(), key=lambda found: order_of(found[1]))
        before = [w for w in wrong if w[1].kind not in _AFTER]
        with scratch() as room:
            mend = partial(self._mend, room)
            done = each(mend, before, threads=PORTERS)
            whole = not unseen and all(d.mended for d in done)
            for part, damage in wrong[len(before) :]:
                done.append(mend((part, damage)) if whole else damage)
                whole = whole and (part.kind != "record" or done[-1].mended)
        return done

    def _mend(self, room: Path, wrong: tuple[_Part, Damage]) -> Damage:
        part, damage = wrong
        body = part.right(room)
        if body is None:
            return damage
        try:
            if part.kind in _SWAPPED:
                self._swap(part, body)
            else:
                digest = sha256_of(body) if isinstance(body, Path) else _sha256(body)
                kind, cache = content_type(part.key), _cache(part.kind)
                found = Stock(self._bucket).head(part.key)
                write(self._bucket, "put-right", part.key, body, digest, found, kind, cache)
        finally:
            if isinstance(body, Path):
                body.unlink()
        return replace(damage, mended=part.damage(True) is None)

    def _swap(self, part: _Part, body: bytes | Path) -> None:
        """Replace what is still wrong, and nothing that somebody has put there meanwhile."""
        found = Stock(self._bucket).head(part.key)
        if part.check(True) is None:
            return
        failpoint("put-right")
        with suppress(ObjectExists, PreconditionFailed):
            etag = found.etag if found is not None else None
            put_over(self._bucket, part.key, body, etag, _cache(part.kind))


def _cache(kind: Kind) -> str:
    return NO_CACHE if kind in {"document", "status", "beside", "channel"} else FOR_EVER


def _parsed_by(parse: Callable[[bytes, str], object], key: str, body: bytes) -> None:
    parse(body, key)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _amount(record: Record, lists: Mapping[str, Lists]) -> Amount:
    """The files whose objects can be looked at."""
    seen = [lists[name].entries or () for name in set(lists) - set(_unseen(record, lists))]
    return Amount(sum(map(len, seen)), sum(e.size for entries in seen for e in entries))


def _unseen(record: Record, lists: Mapping[str, Lists]) -> tuple[str, ...]:
    """Shards whose objects cannot be named, because a list is lost."""
    return tuple(
        name
        for name, known in lists.items()
        if known.index is None or (record.layout == "plain" and known.entries is None)
    )
