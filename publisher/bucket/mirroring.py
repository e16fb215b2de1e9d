"""
Mirror: the versions of a dataset in another bucket, under the same keys, byte for byte.

As a push does: contents first, then the lists, then the record, which is the moment in which a
version begins to exist there. Every byte is hashed on its way, and what the source has damaged
is named, not copied. It may be cut short anywhere and repeated; then only the rest is copied.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from ..errors import (
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    UsageError,
    VersionConflict,
    VersionNotFound,
)
from ..failpoint import failpoint
from ..names import listing
from ..progress import Amount, Transfer, unwatched
from ..scratch import scratch
from ..storage import Bucket, ObjectInfo, require_conditional_writes
from ..versions.documents import SCRIPT, SUMS, sums
from ..versions.inventory import (
    BESIDE,
    belongs,
    document,
)
from ..versions.manifest import (
    CHANNELS,
    MAX_DOCUMENT,
    Manifest,
    Record,
    Status,
    blob_key,
    record_key,
    tree_key,
)
from ..versions.version import Caret, Channel, Selector, Version
from .catalog import find_record, find_status, resolve, statuses, versions
from .leases import banned_contents, held
from .maintain import Moved, take_channel, take_status
from .objects import (
    PORTERS,
    Bytes,
    Damage,
    State,
    carry,
    channel_at,
    channel_keys,
    kept,
    look_at,
    order_of,
)
from .originals import Original, Source, Wanted
from .publish import script
from .sending import (
    FOR_EVER,
    NO_CACHE,
    SMALL,
    Stock,
    content_type,
    is_sound,
    put_aside,
    put_over,
    write,
)
from .trees import Meter, each

T = TypeVar("T")

_STAYS = {"active", "yanked", "deprecated"}  # else its bytes are gone on purpose


Outcome = Literal["mirrored", "already there", "planned", "damaged", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of a version, or with `dry_run` would become of it."""

    version: str
    root: str | None  # None where the record is damaged
    status: Outcome
    objects: int = 0  # that were put, or would be
    size: int = 0  # bytes of them
    damages: tuple[Damage, ...] = ()  # in the source; the version was not published


@dataclass(frozen=True)
class Mirrored:
    """What a mirroring did, or with `dry_run` would do."""

    name: str
    versions: tuple[Copied, ...]
    channels: tuple[Moved, ...] = ()  # those that are in both buckets now
    damages: tuple[Damage, ...] = ()  # of channels in the source

    @property
    def left(self) -> tuple[Damage, ...]:
        """What the source has lost or damaged."""
        return tuple(d for c in self.versions for d in c.damages) + self.damages

    @property
    def objects(self) -> int:
        """Objects that were put, or would be."""
        return sum(c.objects for c in self.versions)

    @property
    def size(self) -> int:
        """Bytes of them."""
        return sum(c.size for c in self.versions)


def mirror(
    source: Bucket,
    target: Bucket,
    name: str,
    selector: Selector | None = None,
    *,
    dry_run: bool = False,
    on_bytes: Transfer = unwatched,
) -> Mirrored:
    """
    Copy versions of a dataset, what was said of them, and the channels that lead to them.

    Args:
        selector: None is all versions, a range all in it, anything else the one that it means.
        dry_run: look, but send nothing.
        on_bytes: told of objects copied, for one step after another.

    Raises:
        VersionNotFound: there is nothing to copy.
        VersionConflict: a version is published in the target with other content; nothing was
            sent.
        UsageError: source and target are one bucket; the disk has no room for an object.
        IntegrityError: what the target has published is damaged.
        StorageError: a bucket failed; the same call goes on later.
    """
    if source.url == target.url and source.url != "memory:":
        raise UsageError("source and target are the same bucket")
    chosen = _chosen(source, name, selector)
    if dry_run:
        return _Mirroring(source, target, name, on_bytes, dry_run=True).run(chosen)
    with held(target, "shared", f"a mirror of {name}"):
        return _Mirroring(source, target, name, on_bytes, dry_run=False).run(chosen)


def _chosen(source: Bucket, name: str, selector: Selector | None) -> list[Version]:
    """The versions that are meant, oldest first; yanked ones too, which lock files may pin."""
    if selector is not None and not isinstance(selector, Caret):
        return [Version.parse(resolve(source, name, selector).version)]
    wanted = [v for v in versions(source, name) if selector is None or v in selector]
    if not wanted:
        said = name if selector is None else f"{name}@{selector}"
        raise VersionNotFound(f"no version of {said} in {source.url}")
    return wanted


@dataclass
class _Work:
    """A version on its way."""

    original: Original
    damages: list[Damage]
    objects: int = 0  # that were put
    size: int = 0  # bytes of them

    @classmethod
    def of(cls, original: Original) -> _Work:
        """Not yet begun."""
        return cls(original, list(original.damages))

    @property
    def version(self) -> Version:
        """Which."""
        return self.original.version

    @property
    def record(self) -> Record:
        """What makes it visible."""
        return self.original.record

    def copied(self, status: Outcome) -> Copied:
        """What became of it."""
        found = tuple(sorted(self.damages, key=order_of))
        return Copied(str(self.version), self.record.root, status, self.objects, self.size, found)


class _Mirroring:
    """One run from bucket to bucket."""

    def __init__(
        self, source: Bucket, target: Bucket, name: str, on_bytes: Transfer, *, dry_run: bool
    ) -> None:
        self._source = source
        self._from = Source(source, name)
        self._target = target
        self._name = name
        self._on_bytes = on_bytes
        self._dry_run = dry_run
        self._stock = Stock(target)
        self._looked: set[str] = set()  # folders of the target
        self._done: set[str] = set()  # keys that are right in the target, or would be
        self._proven = False
        self._theirs: dict[Version, Record | None] = {}  # what the target has published

    def run(self, chosen: Iterable[Version]) -> Mirrored:
        """Copy, oldest version first, then what points to them."""
        records = {version: self._from.record(version) for version in chosen}
        self._refuse_others(records)
        self._refuse_retracted()
        copied = tuple(self._version(v, record, wrong) for v, (record, wrong) in records.items())
        roots = {c.version: c.root for c in copied if c.status not in {"damaged", "withdrawn"}}
        moved, damages = self._channels(roots)
        return Mirrored(self._name, copied, tuple(moved), tuple(damages))

    def _refuse_others(self, records: Mapping[Version, tuple[Record | None, object]]) -> None:
        """Before anything is sent: does the target have other content as one of these versions?"""
        self._theirs = {v: find_record(self._target, self._name, v) for v in records}
        others = [
            str(v)
            for v, (record, _) in records.items()
            if record and (theirs := self._theirs[v]) and theirs.root != record.root
        ]
        if others:
            raise self._conflict(listing(others))

    def _refuse_retracted(self) -> None:
        """
        Has the target retracted what the source has not? Packs of other versions there may hold
        the same bytes, so nothing is copied until the source has retracted it, too.
        """
        behind = [
            f"{self._name} {version}"
            for version, said in statuses(self._target, self._name).items()
            if said.state == "retracted" and self._still_has(version)
        ]
        if not behind and not banned_contents(self._target) <= banned_contents(self._source):
            behind = ["some content"]
        if behind:
            raise VersionConflict(
                f"{listing(behind)} has been retracted from {self._target.url} and must not "
                "come back",
                hint="retract it from the source, too",
            )

    def _still_has(self, version: Version) -> bool:
        """Is a version in the source, and not retracted?"""
        if find_record(self._source, self._name, version) is None:
            return False
        status = find_status(self._source, self._name, version)
        return status is None or status.state != "retracted"

    def _conflict(self, version: object) -> VersionConflict:
        return VersionConflict(
            f"{self._target.url} has other content as {self._name} {version}",
            hint="versions never change; mirror into another prefix, or only other versions",
        )

    # ── one version ──────────────────────────────────────────────────────────────────────────

    def _version(self, version: Version, record: Record | None, wrong: Damage | None) -> Copied:
        if record is None:
            return Copied(str(version), None, "damaged", damages=(wrong,) if wrong else ())
        status, wrong = self._from.status(version)
        here = find_status(self._target, self._name, version)
        if any(s is not None and s.state not in _STAYS for s in (status, here)):
            return Copied(str(version), record.root, "withdrawn")
        theirs = self._theirs[version]
        if theirs is not None and theirs != record:  # the same content, published on its own
            work = _Work.of(Original(version, record))
        else:
            work = _Work.of(self._from.original(version, record))
        work.damages += [wrong] if wrong else []
        if not work.damages:
            self._copy_all(work, status)
        if work.damages:
            return work.copied("damaged")
        done: Outcome = "planned" if self._dry_run else "mirrored"
        return work.copied("already there" if theirs and not work.objects else done)

    def _copy_all(self, work: _Work, status: Status | None) -> None:
        """Contents, lists, what is said of it, the record, documents: in this order."""
        theirs = self._theirs[work.version]
        own_packing = theirs is not None and theirs != work.record
        if not own_packing:
            self._claim_folders(work)
            if work.damages:
                return
            self._copy(work, "put-blob", work.original.contents)
            self._copy(work, "put-manifest", work.original.lists)
            if work.damages:
                return
        if status is not None and take_status(self._target, self._name, status, dry_run=True):
            work.objects += 1
            if not self._dry_run:
                self._prove()
                take_status(self._target, self._name, status)
        if not own_packing:
            self._copy_beside(work)
            self._publish(work)
            self._put_documents(work)

    # ── into the target ──────────────────────────────────────────────────────────────────────

    def _copy(self, work: _Work, step: str, wanted: Iterable[Wanted]) -> None:
        """Carry over what is not there yet; note what the source has lost or damaged."""
        missing = self._missing(wanted)
        if self._dry_run:
            self._done |= {w.what.key for w, _ in missing}
            work.objects += len(missing)
            work.size += sum(w.what.size for w, _ in missing)
            return
        if missing:
            self._prove()
        total = Amount(len(missing), sum(w.what.size for w, _ in missing))
        meter = Meter(self._on_bytes, "copied", total)
        with scratch() as room:

            def one(item: tuple[Wanted, ObjectInfo | None]) -> State | None:
                wrong = self._carry(step, room, *item)
                meter.add(1, item[0].what.size)
                return wrong

            large = [item for item in missing if item[0].what.size >= SMALL]
            small = [item for item in missing if item[0].what.size < SMALL]
            for batch, threads in ((large, PORTERS), (small, None)):
                for (w, _), wrong in zip(batch, each(one, batch, threads=threads), strict=True):
                    if wrong is not None:
                        work.damages.append(w.damage(wrong))
                    else:
                        work.objects += 1
                        work.size += w.what.size

    def _carry(
        self, step: str, room: Path, wanted: Wanted, found: ObjectInfo | None
    ) -> State | None:
        what = wanted.what
        body, wrong = carry(self._source, what, room)
        if body is None:
            return wrong
        try:
            kind = content_type(what.key)
            write(self._target, step, what.key, body, what.sha256, found, kind)
            self._done.add(what.key)
        finally:
            if isinstance(body, Path):
                body.unlink()
        return None

    def _missing(self, wanted: Iterable[Wanted]) -> list[tuple[Wanted, ObjectInfo | None]]:
        """What the target has not, as cheaply as that can be told; and what it has instead."""
        left = [w for w in wanted if w.what.key not in self._done]
        folders = Counter(_folder(w.what.key) for w in left)
        for folder, count in folders.items():
            if folder not in self._looked:
                self._looked.add(folder)
                self._stock.look(folder, count)
        found = each(lambda w: self._stock.find(w.what.key), left)
        pairs = list(zip(left, found, strict=True))
        bad = [(w, o) for w, o in pairs if not is_sound(o, w.what.size, w.what.sha256)]
        self._done |= {w.what.key for w in left} - {w.what.key for w, _ in bad}
        return bad

    def _prove(self) -> None:
        """Before the first put: does the target honour conditions?"""
        if not self._proven:
            require_conditional_writes(self._target)
            self._proven = True

    def _claim_folders(self, work: _Work) -> None:
        """
        Let the folders where plain files lie be those of these very versions.

        As in a push, whoever creates the list of checksums decides what a folder holds.
        """
        own = {work.version} if work.record.layout == "plain" else set()
        for home in sorted(work.original.homes | own):
            record, manifest = self._holder(work, home)
            if record is None or manifest is None:
                continue
            files = {e.path: e for e in manifest.entries}
            there = (item for where, item in work.original.plain if where == home)
            strangers = [i for i in there if not belongs(i, self._name, home, files)]
            work.damages += [Damage(i.key, i.kind, "damaged", i.paths) for i in strangers]
            if not strangers and not self._dry_run:
                self._claim(work, home, record.root, manifest)

    def _holder(self, work: _Work, home: Version) -> tuple[Record | None, Manifest | None]:
        """The version in whose folder files lie, by what the source says."""
        if home == work.version:
            return work.record, work.original.manifest
        record, wrong = self._from.record(home)
        if record is None:
            work.damages += [wrong] if wrong else []
            return None, None
        other = self._from.original(home, record)
        work.damages += other.damages
        return record, other.manifest

    def _claim(self, work: _Work, version: Version, root: str, manifest: Manifest) -> None:
        key, body = tree_key(self._name, version, SUMS), sums(manifest.entries)
        if key in self._done:
            return
        theirs = find_record(self._target, self._name, version)
        if theirs is not None:
            if theirs.root != root:
                raise self._conflict(version)
            return
        self._prove()
        failpoint("put-claim")
        with suppress(ObjectExists):
            kind = content_type(SUMS)
            self._target.put(key, body, if_absent=True, content_type=kind, cache_control=NO_CACHE)
            self._done.add(key)
            work.objects += 1
            work.size += len(body)
            return
        with suppress(ObjectNotFound, IntegrityError):  # gone meanwhile, or longer
            if self._target.get(key, limit=len(body)) == body:
                self._done.add(key)
                return
        raise self._conflict(version)

    def _copy_beside(self, work: _Work) -> None:
        """Documents of other kinds, such as signatures, before the record that they speak of."""
        for key_of, parse in BESIDE:
            key = key_of(self._name, work.version)
            whole = kept(partial(_parsed_by, parse, key))
            body, wrong = look_at(self._source, key, MAX_DOCUMENT, whole)
            if wrong == "damaged":
                work.damages.append(Damage(key, "beside", wrong))
            found = self._stock.head(key) if body is not None else None
            if body is None or is_sound(found, len(body), hashlib.sha256(body).hexdigest()):
                continue
            work.objects += 1
            if self._dry_run:
                continue
            self._prove()
            put_over(self._target, key, body, found.etag if found is not None else None)

    def _publish(self, work: _Work) -> None:
        """Create the record: the version's first moment in the target."""
        if work.damages or self._theirs[work.version] is not None:
            return
        work.objects += 1
        work.size += len(work.record.to_bytes())
        if self._dry_run:
            return
        self._prove()
        failpoint("put-record")
        key = record_key(self._name, work.version)
        try:
            self._target.put(
                key,
                work.record.to_bytes(),
                if_absent=True,
                content_type="application/json",
                cache_control=FOR_EVER,
            )
        except ObjectExists:  # our own answer got lost, or someone was quicker
            theirs = find_record(self._target, self._name, work.version)
            if theirs is None:
                raise StorageError(f"{key} was there and is gone", hint="try again") from None
            if theirs.root != work.record.root:
                raise self._conflict(work.version) from None

    def _put_documents(self, work: _Work) -> None:
        """Put what people without publisher need. It follows from the lists: nothing is copied."""
        if work.damages:
            return
        folder, body = tree_key(self._name, work.version), script()
        documents = [*work.original.documents, document(SCRIPT, body)]
        wanted = {
            d.name: Wanted(Bytes(folder + d.name, d.size, d.sha256), "document") for d in documents
        }
        named = {d.name: d for d in documents}
        for w, found in self._missing(wanted.values()):
            name, what = w.what.key.removeprefix(folder), w.what
            work.objects += 1
            work.size += what.size
            if self._dry_run:
                continue
            self._prove()
            with scratch() as room:
                parts = named[name].parts
                if parts is not None:
                    right: bytes | Path | None = put_aside(parts(), room)
                else:  # provenance.json, which the target has as a blob by now
                    blob = Bytes(blob_key(what.sha256), what.size, what.sha256)
                    right = carry(self._target, blob, room)[0]
                if right is not None:
                    put = (what.key, right, what.sha256, found, content_type(name), NO_CACHE)
                    write(self._target, "put-document", *put)
                    self._done.add(what.key)

    # ── channels ─────────────────────────────────────────────────────────────────────────────

    def _channels(self, roots: Mapping[str, str | None]) -> tuple[list[Moved], list[Damage]]:
        """Let channels of the target lead where those of the source do, but never back."""
        moved, damages = list[Moved](), list[Damage]()
        prefix = f"datasets/{self._name}/{CHANNELS}/"
        for key in channel_keys(self._source, self._name):
            state, wrong = look_at(self._source, key, MAX_DOCUMENT, channel_at(key))
            if wrong == "damaged":
                damages.append(Damage(key, "channel", wrong))
            if state is None or self._root_of(state.version, roots) != state.root:
                continue
            goal = Channel(key.removeprefix(prefix).removesuffix(".json"))
            move = take_channel(self._target, self._name, goal, state, dry_run=True)
            if move.moved and not self._dry_run:
                self._prove()
                failpoint("put-channel")
                move = take_channel(self._target, self._name, goal, state)
            moved.append(move)
        return moved, damages

    def _root_of(self, version: str, roots: Mapping[str, str | None]) -> str | None:
        """The root of a version in the target."""
        if version in roots:
            return roots[version]
        record = find_record(self._target, self._name, Version.parse(version))
        return record.root if record is not None else None


def _parsed_by(parse: Callable[[bytes, str], object], key: str, body: bytes) -> None:
    parse(body, key)


def _folder(key: str) -> str:
    """What to list to see whether an object is there."""
    return "/".join(key.split("/")[: 3 if key.startswith("datasets/") else 1]) + "/"
