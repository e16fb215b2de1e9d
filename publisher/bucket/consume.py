"""
Pull: get a version, or some splits of it, and believe no byte that was not checked.

Everything that a bucket says is hostile until its digest fits: the record is sealed, the
root follows from the digests of its shards, a shard's digest from its lines, a file's
digest from its bytes. A file appears under its name only when it is whole and right;
`.publisher.json` appears last, so a folder without it is known to be incomplete.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..errors import IntegrityError, PublisherError, UsageError
from ..failpoint import failpoint
from ..files import canonical_json, write_atomic
from ..names import listing
from ..progress import Transfer, unwatched
from ..scratch import scratch
from ..spill import Many, joined
from ..storage import Bucket
from ..versions.manifest import (
    MANIFEST,
    STATE,
    Entries,
    Entry,
    Manifest,
    Plan,
    Record,
    in_order,
)
from ..versions.packs import reads
from ..versions.partial import WHOLE, documents_of, twin, whole
from ..versions.version import Selector
from .catalog import finder, read_version, resolve, unless_retracted
from .fetching import Locate, Wanted, carry, sought
from .trees import are_files_of, check_tree, files_in, is_file_of, manifest_at, read_manifest
from .trust import NOBODY, Trust

if TYPE_CHECKING:
    from .cache import Cache
    from .subset import Subset

_PARTS = ".publisher.parts"  # files on their way, and lists of what pulls may have put there
_SPARE = 2**26  # bytes of disk to leave free


# ── pull ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Release:
    """A version, or some splits of it, in a folder; usable as a path."""

    path: Path
    remote: str
    name: str
    version: str
    root: str
    splits: tuple[str, ...]  # those that are here
    categories: tuple[str, ...] = ()  # only pictures that have one; none: all pictures
    plan: Plan = field(default=Plan((), ()), repr=False, compare=False)  # of the pull just done

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, path: str) -> Path:
        return self.path / path

    @cached_property
    def manifest(self) -> Manifest:
        """Files and digests."""
        return read_manifest(self.path)

    def verify(self, on_bytes: Transfer = unwatched) -> None:
        """Hash every file again; IntegrityError names what is missing, changed or too many."""
        verify_folder(self.path, on_bytes)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a pull would do."""

    name: str
    version: str
    root: str
    splits: tuple[str, ...]
    categories: tuple[str, ...]
    plan: Plan


def plan_pull(
    bucket: Bucket,
    name: str,
    selector: Selector | str,
    to: Path,
    splits: Collection[str] = (),
    categories: Collection[str] = (),
    *,
    cache: Cache | None = None,
    on_bytes: Transfer = unwatched,
    trust: Trust = NOBODY,
) -> Planned:
    """
    Say what `pull` with the same arguments would fetch; leave the folder alone.

    To choose by categories, it fetches annotation files.
    """
    record = resolve(bucket, name, selector, trust)
    with unless_retracted(bucket, name, record.version):
        return _Pull(bucket, record, to, splits, categories, cache, on_bytes).planned()


def pull(
    bucket: Bucket,
    name: str,
    selector: Selector | str,
    to: Path,
    *,
    splits: Collection[str] = (),
    categories: Collection[str] = (),
    remote: str | None = None,
    cache: Cache | None = None,
    on_bytes: Transfer = unwatched,
    trust: Trust = NOBODY,
) -> Release:
    """
    Fetch a version into a folder, every byte checked. Calling it again goes on, or repairs.

    A folder that holds another version of ours is brought to this one: only what differs
    is fetched, and files of the old version go. More splits, or pictures of more categories,
    of the same version are added.

    Args:
        to: a folder that is new, empty, or from an earlier pull.
        splits: names; none means all of them.
        categories: only pictures with an instance of one of these; none means all.
        remote: what to remember as its origin, if not the bucket's URL.
        cache: gives what was fetched before, and takes what is fetched now.
        on_bytes: told of what is checked, then of what is fetched.
        trust: whose signature the version, and the channel, must have.

    Raises:
        VersionNotFound: no version answers to the selector.
        VersionRetracted: it was taken down.
        Untrusted: no trusted key has signed it, or the channel has run out; nothing was fetched.
        UsageError: no such split or category; the folder is someone else's; the disk is full.
        IntegrityError: bytes in the bucket are wrong or missing; `.paths` names the files,
            none of which was installed.
    """
    record = resolve(bucket, name, selector, trust)
    with unless_retracted(bucket, name, record.version):
        work = _Pull(bucket, record, to, splits, categories, cache, on_bytes)
        return work.run(remote or bucket.url)


@dataclass(frozen=True)
class _Todo:
    """What is to be done for some files of a folder."""

    keep: Entries  # there already
    moves: tuple[tuple[str, str], ...]  # of these, within the folder: old path, new path
    wanted: Wanted

    @property
    def plan(self) -> Plan:
        """The same for those who ask."""
        requests = transfer = 0
        for read in reads(self.wanted.stored):
            requests, transfer = requests + 1, transfer + read.stop - read.start
        cached = self.wanted.from_cache
        return Plan(self.wanted.from_bucket, self.keep, requests, transfer, cached)


class _Pull:
    """One pull into one folder."""

    def __init__(
        self,
        bucket: Bucket,
        record: Record,
        to: Path,
        splits: Collection[str],
        categories: Collection[str],
        cache: Cache | None,
        on_bytes: Transfer,
    ) -> None:
        self._bucket = bucket
        self._record = record
        self._to = to
        self._parts = to / _PARTS
        self._cache = cache
        self._on_bytes = on_bytes
        here = _state(to) or _state(self._parts)
        if here is not None and here.root == record.root:
            splits, categories = _more(here, to, splits or tuple(record.splits), categories)
        self._manifest = read_version(bucket, record, splits)
        self._locate = self._finder()
        self._splits = tuple(s for s in record.splits if not splits or s in splits)
        self._categories = tuple(sorted(set(categories)))
        documents = documents_of(self._manifest.entries) if categories else ()
        self._first = in_order(map(whole, documents)) if categories else self._manifest.entries

    def _finder(self) -> Locate:
        return finder(self._bucket, self._record, {e.shard for e in self._manifest.entries})

    def planned(self) -> Planned:
        """Compare the folder with the version."""
        self._known()
        todo = self._todo(self._first)
        plan = todo.plan
        if self._categories:
            with scratch() as room:
                missing = (*todo.wanted.from_cache, *todo.wanted.from_bucket)
                found = fetch(self._bucket, self._record, missing, room, cache=self._cache)
                files = {e.path: path for e, path in found.items()}
                chosen = self._subset(lambda path: files.get(path, self._to / path))
                plan += self._todo(chosen.files).plan
        r = self._record
        return Planned(r.name, r.version, r.root, self._splits, self._categories, plan)

    def run(self, origin: str) -> Release:
        """Fetch what is missing."""
        known, todo = self._known(), self._todo(self._first)
        self._check_space(todo)
        try:
            self._begin()
            stay = (e.path for e in self._first)
            if self._categories:
                plan = self._bring(todo)
                chosen = self._subset(self._to.joinpath)
                todo = self._todo(chosen.files)
                self._check_space(todo)
                self._clear(known, chain(stay, (e.path for e in (*chosen.files, *chosen.made))))
                plan += self._bring(todo)
                self._write(chosen)
            else:
                self._clear(known, chain(stay, (old for old, _ in todo.moves)))
                plan = self._bring(todo)
            return replace(self._finish(origin), plan=plan)
        except OSError as error:
            if isinstance(error, PublisherError):
                raise
            raise _disk_error(error, self._to) from error

    def _subset(self, find: Callable[[str], Path]) -> Subset:
        from .subset import subset  # which loads numpy

        return subset(self._manifest.entries, self._splits, self._categories, find)

    def _known(self) -> Paths:
        """
        The paths of this version and of earlier pulls, sorted.

        Raises:
            UsageError: the folder holds something that no pull put there.
        """
        known = _paths(e.path for e in self._manifest.entries)
        if not self._to.exists():
            return known
        if not self._to.is_dir():
            raise UsageError(f"{self._to} is no folder")
        for paths in self._earlier():
            known = Many(merge(known, paths))
        ours = (self._to / STATE).is_file() or self._parts.is_dir()
        here = _paths(p for p in files_in(self._to) if not _is_own(p))
        found = joined(here, known)
        foreign = [path for (path,), row in found if row is None or not ours]
        if foreign:
            raise UsageError(
                f"{self._to} holds files that are not of this dataset: {listing(foreign)}",
                hint="choose a new or empty folder, or remove them",
            )
        return known

    def _earlier(self) -> Iterator[Paths]:
        for path in (self._to / MANIFEST, *self._parts.glob("*.manifest")):
            with suppress(OSError, PublisherError):
                yield _paths(e.path for e in manifest_at(path).entries)

    def _todo(self, entries: Iterable[Entry]) -> _Todo:
        """Compare files, given by path, with the folder, and find those that it has not."""
        entries = in_order(entries)
        if not self._to.exists():
            return _Todo(Entries(), (), sought(entries, self._locate, self._cache))
        sound = are_files_of(self._to, entries, self._on_bytes)
        keep, moves, missing = Entries(), list[tuple[str, str]](), Entries()
        for entry, good in zip(entries, sound, strict=True):
            other = twin(entry) if not good else None
            if other is not None and is_file_of(self._to / other, entry):
                moves.append((other, entry.path))
                good = True
            (keep if good else missing).append(entry)
        return _Todo(keep, tuple(moves), sought(missing, self._locate, self._cache))

    def _check_space(self, todo: _Todo) -> None:
        place = next(p for p in (self._to, *self._to.absolute().parents) if p.exists())
        free, size = shutil.disk_usage(place).free, todo.wanted.size
        if size and size + _SPARE > free:
            raise UsageError(
                f"{size:,} bytes do not fit on the disk of {self._to}: {free:,} are free"
            )

    def _begin(self) -> None:
        """From here until the end the folder is incomplete, and says so."""
        failpoint("pull-begin")
        self._to.mkdir(parents=True, exist_ok=True)
        _make_folder(self._parts)
        write_atomic(self._parts / f"{self._record.root[7:]}.manifest", self._manifest.parts())
        with suppress(FileNotFoundError):  # what it had is wanted still, if this is cut short
            os.replace(self._to / STATE, self._parts / STATE)
        failpoint("after-pull-begin")

    def _clear(self, known: Paths, stay: Iterable[str]) -> None:
        """Remove what earlier pulls have left and this one does not need."""
        there = joined(_paths(files_in(self._to)), _paths(stay))
        rest = Many(row for row, stays in there if stays is None)
        for (path,), row in joined(rest, known):
            if row is None and not path.startswith(f"{WHOLE}/"):
                continue
            (self._to / path).unlink()
            failpoint("after-pull-remove")
            for folder in (self._to / path).parents:
                if folder == self._to or any(folder.iterdir()):
                    break
                folder.rmdir()

    def _bring(self, todo: _Todo) -> Plan:
        """Have files in the folder; say in the end where each came from."""
        files = chain(todo.wanted.from_cache, todo.wanted.from_bucket)
        folders = set[str]()
        for path in chain((new for _, new in todo.moves), (e.path for e in files)):
            if path.rpartition("/")[0] not in folders:
                folders.update(_parents(path))
        for folder in sorted(folders):
            _make_folder(self._to / folder)
        for old, new in todo.moves:
            os.replace(self._to / old, self._to / new)
        wrong = carry(
            self._bucket, todo.wanted, self._to, self._parts, self._finder, self._on_bytes
        )
        if wrong:
            raise IntegrityError(
                f"{self._bucket.url} has missing or wrong bytes for {listing(wrong)}",
                wrong,
                hint="nothing wrong was installed; the maintainer can find and mend it with "
                "`publisher verify --deep`",
            )
        return todo.plan

    def _write(self, chosen: Subset) -> None:
        """Write the annotation files that speak of the chosen pictures."""
        for entry in chosen.made:
            if is_file_of(self._to / entry.path, entry):
                continue
            for folder in sorted(_parents(entry.path)):
                _make_folder(self._to / folder)
            write_atomic(self._to / entry.path, chosen.bodies[entry.path](), room=self._parts)

    def _finish(self, origin: str) -> Release:
        record = self._record
        failpoint("pull-finish")
        write_atomic(self._to / MANIFEST, self._manifest.parts(), room=self._parts)
        if not self._categories and (self._to / WHOLE).exists():
            shutil.rmtree(self._to / WHOLE)
        failpoint("pull-state")
        state = _State(
            "publisher/pulled/1",
            origin,
            record.name,
            record.version,
            record.root,
            self._splits,
            self._categories,
        )
        body = canonical_json(msgspec.to_builtins(state), indent=1)
        write_atomic(self._to / STATE, body, room=self._parts)
        failpoint("after-pull-state")
        shutil.rmtree(self._parts)
        return state.release(self._to)


Paths = Many[tuple[str]]


def _paths(paths: Iterable[str]) -> Paths:
    """Sorted."""
    return Many((path,) for path in paths).sorted()


def _is_own(path: str) -> bool:
    """Is it no file of a version, but one that pulls make? Or half of one, after a kill."""
    first = path.partition("/")[0]
    return first in {STATE, MANIFEST, _PARTS, WHOLE} or first.startswith(
        (f".{STATE}.", f".{MANIFEST}.")
    )


def _more(
    here: _State, to: Path, splits: Collection[str], categories: Collection[str]
) -> tuple[Collection[str], Collection[str]]:
    """Splits and categories of a folder that has some of the same version already."""
    if not categories or here.categories:
        return {*splits, *here.splits}, {*categories, *here.categories} if categories else ()
    if set(splits) <= set(here.splits):
        return here.splits, ()  # it has these pictures, and others
    raise UsageError(
        f"{to} has all pictures of {', '.join(here.splits)}, and no part of a split can be added",
        hint="choose a new folder, or leave --category out",
    )


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _make_folder(path: Path) -> None:
    """One level, its parent being there already; a link might lead out of the folder."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UsageError(f"{path} stands in the way of a folder", hint="remove it")
    path.mkdir(exist_ok=True)


def _disk_error(error: OSError, to: Path) -> UsageError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    what = "the disk is full" if full else error.strerror
    return UsageError(f"{to}: {what}", hint="make room, then run the same command: it goes on")


def fetch(
    bucket: Bucket,
    record: Record,
    entries: Sequence[Entry],
    folder: Path,
    on_bytes: Transfer = unwatched,
    *,
    cache: Cache | None = None,
) -> dict[Entry, Path]:
    """
    Fetch some files of a version into a folder, where they are not yet; every byte is checked.

    Each is called by its digest, with the extension that it has in the version.

    Raises:
        UsageError: the disk is full.
        IntegrityError: bytes in the bucket are wrong or missing; `.paths` names the files.
    """
    named = {e: f"{e.sha256}{Path(e.path).suffix}" for e in entries}
    missing = tuple(e for e in entries if not (folder / named[e]).exists())
    size, free = sum(e.size for e in missing), shutil.disk_usage(folder).free
    if size + _SPARE > free:
        raise UsageError(
            f"{size:,} bytes do not fit on the disk of {folder}: {free:,} are free",
            hint="TMPDIR says where temporary files go",
        )

    def locate() -> Locate:
        return finder(bucket, record, {e.shard for e in missing})

    once = {named[e]: e for e in missing}
    renamed = [Entry(name, e.size, e.sha256, e.split) for name, e in sorted(once.items())]
    wanted = sought(renamed, locate(), cache)
    bad = set(carry(bucket, wanted, folder, folder, locate, on_bytes))
    if wrong := sorted(e.path for e in missing if named[e] in bad):
        raise IntegrityError(f"{bucket.url} has missing or wrong bytes for {listing(wrong)}", wrong)
    return {e: folder / name for e, name in named.items()}


# ── folders ──────────────────────────────────────────────────────────────────────────────────


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`.publisher.json`: what a complete pull has put into a folder."""

    schema: str
    remote: str
    name: str
    version: str
    root: str
    splits: tuple[str, ...]
    categories: tuple[str, ...] = ()

    def release(self, path: Path) -> Release:
        return Release(
            path, self.remote, self.name, self.version, self.root, self.splits, self.categories
        )


_STATE = msgspec.json.Decoder(_State)  # made here, not in threads; see manifest.py


def _state(folder: Path) -> _State | None:
    try:
        return _STATE.decode((folder / STATE).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def open_release(folder: Path) -> Release:
    """
    A folder that `pull` has filled.

    Raises:
        UsageError: it is none, or the pull did not come to its end.
    """
    state = _state(folder)
    if state is None or (folder / _PARTS).exists():
        raise UsageError(
            f"{folder} is no complete pull: it has {'no ' + STATE if state is None else _PARTS}",
            hint="run the same `publisher pull` again: it goes on where it stopped",
        )
    return state.release(folder)


def is_partial(folder: Path) -> bool:
    """Has a pull put only some pictures of a split there?"""
    state = _state(folder)
    return state is not None and bool(state.categories)


def verify_folder(folder: Path, on_bytes: Transfer = unwatched) -> Manifest:
    """
    Hash every file of a pulled folder, or of a release tree, and compare with its manifest.

    Of a pull by category, the whole annotation files say which pictures have to be there, and
    what their own annotation files hold.

    Raises:
        UsageError: it is neither, or an incomplete pull.
        IntegrityError: files are missing, changed or too many; `.paths` names them all.
    """
    if (folder / _PARTS).exists():
        open_release(folder)
    manifest, state = read_manifest(folder), _state(folder)
    if state is not None and (state.root, set(state.splits)) != (
        manifest.root,
        set(manifest.splits),
    ):
        raise IntegrityError(f"{MANIFEST} is not that of {state.name} {state.version}", [MANIFEST])
    entries = None
    if state is not None and state.categories:
        entries = _entries_of_part(folder, manifest, state.categories)
    check_tree(folder, manifest, on_bytes, entries=entries)
    return manifest


def _entries_of_part(
    folder: Path, manifest: Manifest, categories: Collection[str]
) -> tuple[Entry, ...]:
    """All files of a folder with some pictures only."""
    from .subset import subset  # which loads numpy

    documents = tuple(map(whole, documents_of(manifest.entries)))
    wrong = [e.path for e in documents if not is_file_of(folder / e.path, e)]
    if wrong:
        raise IntegrityError(
            f"{folder} is not what its {MANIFEST} says; missing or changed: {listing(wrong)}",
            wrong,
            hint="pull it again",
        )
    chosen = subset(manifest.entries, manifest.splits, categories, folder.joinpath)
    return (*documents, *chosen.files, *chosen.made)
