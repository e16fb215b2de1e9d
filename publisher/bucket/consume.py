"""
Pull: get a version, or some splits of it, and believe no byte that was not checked.

Everything that a bucket says is hostile until its digest fits: the record is sealed, the
root follows from the digests of its shards, a shard's digest from its lines, a file's
digest from its bytes. A file appears under its name only when it is whole and right;
`.publisher.json` appears last, so a folder without it is known to be incomplete.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec

from ..errors import (
    AccessDenied,
    FormatError,
    IntegrityError,
    ObjectNotFound,
    PublisherError,
    UsageError,
    VersionNotFound,
    VersionWarning,
)
from ..files import canonical_json, write_atomic
from ..names import listing
from ..progress import Progress, silent
from ..storage import Bucket
from ..versions.manifest import (
    CHANNELS,
    MANIFEST,
    MAX_DOCUMENT,
    RELEASES,
    STATE,
    STATUS,
    ChannelState,
    Entry,
    Manifest,
    Plan,
    Record,
    Status,
    StoredShard,
    channel_key,
    max_shard_bytes,
    plan,
    read_shard,
    record_key,
    shard_key,
    status_key,
)
from ..versions.packs import Index, Place, Read, index_key, max_index_bytes, reads
from ..versions.version import (
    Caret,
    Channel,
    RootPrefix,
    Selector,
    Version,
    check_name,
    parse_selector,
)
from .fetching import Fetch
from .trees import Counter, check_tree, each, files_in, is_file_of, read_manifest

_PARTS = ".publisher.parts"  # files on their way, and lists of what pulls may have put there
_SPARE = 2**26  # bytes of disk to leave free


# ── what is there ────────────────────────────────────────────────────────────────────────────


def names(bucket: Bucket) -> tuple[str, ...]:
    """The datasets in a bucket that have a version, sorted."""
    found = bucket.folders("datasets/")
    return tuple(name for name in found if any(bucket.list(f"datasets/{name}/{RELEASES}/")))


def versions(bucket: Bucket, name: str) -> tuple[Version, ...]:
    """All versions of a dataset, oldest first by precedence."""
    check_name(name)
    prefix = f"datasets/{name}/{RELEASES}/"
    found = []
    for o in bucket.list(prefix):
        with suppress(UsageError):  # a stranger's file is no version
            found.append(Version.parse(o.key.removeprefix(prefix).removesuffix(".json")))
    return tuple(sorted(found))


def channels(bucket: Bucket, name: str) -> dict[str, Version]:
    """Where the channels of a dataset point to."""
    check_name(name)
    prefix = f"datasets/{name}/{CHANNELS}/"
    keys = [o.key for o in bucket.list(prefix) if o.key.endswith(".json")]
    return {
        k.removeprefix(prefix).removesuffix(".json"): Version.parse(_channel(bucket, k).version)
        for k in keys
    }


def find_record(bucket: Bucket, name: str, version: Version) -> Record | None:
    """
    The release record of a version, or None where there is none.

    Raises:
        IntegrityError: it is damaged, or another version's.
    """
    check_name(name)
    key = record_key(name, version)
    try:
        record = Record.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key)
    except ObjectNotFound:
        return None
    if (record.name, record.version) != (name, str(version)):
        raise IntegrityError(f"{key} is the record of {record.name} {record.version}", [key])
    return record


def find_status(bucket: Bucket, name: str, version: Version) -> Status | None:
    """
    What was said of a version after it was published, or None where nothing was.

    Raises:
        IntegrityError: it is damaged, or said of another version.
    """
    key = status_key(name, version)
    try:
        status = Status.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key)
    except (ObjectNotFound, AccessDenied):
        return None  # S3 denies what is not there to those who may not list
    if status.version != str(version):
        raise IntegrityError(f"{key} is the status of {status.version}", [key])
    return status


def statuses(bucket: Bucket, name: str) -> dict[Version, Status]:
    """What was said of the versions of a dataset, where something was."""
    check_name(name)
    prefix = f"datasets/{name}/{STATUS}/"
    found = {}
    for o in bucket.list(prefix):
        with suppress(UsageError):  # a stranger's file
            version = Version.parse(o.key.removeprefix(prefix).removesuffix(".json"))
            if (status := find_status(bucket, name, version)) is not None:
                found[version] = status
    return found


def resolve(bucket: Bucket, name: str, selector: Selector | str = "latest") -> Record:
    """
    Find the record of the version that a selector means.

    Channels and ranges pass over yanked versions. VersionWarning tells of one that is given
    all the same, because it was asked for by number or root, and of deprecated ones.

    Raises:
        VersionNotFound: no version answers to it.
        IntegrityError: what the bucket says is damaged.
    """
    if isinstance(selector, str):
        selector = parse_selector(selector)
    version = _version_for(bucket, name, selector)
    record = find_record(bucket, name, version)
    if record is None:
        raise _not_found(bucket, name, selector)
    status = find_status(bucket, name, version)
    if status is not None and status.state != "active":
        said = f"{name} {version} is {status}"
        warnings.warn(said, VersionWarning, stacklevel=2)
    return record


def _version_for(bucket: Bucket, name: str, selector: Selector) -> Version:
    if isinstance(selector, Version):
        return selector
    if isinstance(selector, Channel):
        return _version_of(bucket, name, selector)
    for version in reversed(versions(bucket, name)):
        if isinstance(selector, Caret):
            if version in selector and not _yanked(bucket, name, version):
                return version
        elif _has_root(bucket, name, version, selector):
            return version
    raise _not_found(bucket, name, selector)


def _version_of(bucket: Bucket, name: str, channel: Channel) -> Version:
    """Where a channel points to; from a yanked version on, the next lower one that is not."""
    check_name(name)
    try:
        pointed = Version.parse(_channel(bucket, channel_key(name, channel)).version)
    except ObjectNotFound:
        raise _not_found(bucket, name, channel) from None
    if (status := _yanked(bucket, name, pointed)) is None:
        return pointed
    said = f"{name}@{channel} is {pointed}, which is {status}"
    for version in reversed(versions(bucket, name)):
        fits = version < pointed and (pointed.prerelease or not version.prerelease)
        if fits and not _yanked(bucket, name, version):
            warnings.warn(f"{said}; this is {version}", VersionWarning, stacklevel=4)
            return version
    raise VersionNotFound(
        f"{said}; no lower version is left", hint=f"{name}@{pointed} still gives it"
    )


def _yanked(bucket: Bucket, name: str, version: Version) -> Status | None:
    status = find_status(bucket, name, version)
    return status if status is not None and status.state == "yanked" else None


def _has_root(bucket: Bucket, name: str, version: Version, selector: RootPrefix) -> bool:
    record = find_record(bucket, name, version)
    return record is not None and record.root.startswith(str(selector))


def _channel(bucket: Bucket, key: str) -> ChannelState:
    return ChannelState.from_bytes(bucket.get(key, limit=MAX_DOCUMENT), key)


def _not_found(bucket: Bucket, name: str, selector: Selector) -> VersionNotFound:
    there = [str(v) for v in versions(bucket, name)]
    hint = f"published: {listing(there[::-1])}" if there else f"{name} has no version here"
    return VersionNotFound(f"no {name}@{selector} in {bucket.url}", hint=hint)


# ── what a version holds ─────────────────────────────────────────────────────────────────────


def read_version(bucket: Bucket, record: Record, splits: Collection[str] = ()) -> Manifest:
    """
    Fetch and check the lists of files of a version, of the chosen splits only if any.

    Raises:
        UsageError: there is no such split.
        IntegrityError: a list is missing or damaged; `.paths` names its object.
    """
    unknown = sorted(set(splits) - set(record.splits))
    if unknown:
        raise UsageError(
            f"{record.name} {record.version} has no split {unknown[0]!r}",
            hint=f"its splits: {', '.join(record.splits) or 'none'}",
        )
    left = {f"split/{s}" for s in record.splits if splits and s not in splits}
    wanted = {n: s for n, s in record.shards.items() if n not in left}
    lists = each(lambda item: _shard(bucket, *item), list(wanted.items()))
    try:
        return Manifest(
            record.name,
            tuple(e for entries in lists for e in entries),
            {n: s.plain for n, s in record.shards.items() if n in left or not s.files},
        )
    except FormatError as error:
        raise IntegrityError(f"{record.name} {record.version}: {error}") from None


def _shard(bucket: Bucket, name: str, shard: StoredShard) -> tuple[Entry, ...]:
    key = shard_key(shard.sha256)
    try:
        return read_shard(bucket.get(key, limit=max_shard_bytes(shard)), name, shard.plain)
    except (ObjectNotFound, FormatError, IntegrityError) as error:
        raise _damaged_list(bucket, key, f"the file list of {name}", error) from error


def read_index(bucket: Bucket, shard: StoredShard) -> Index:
    """
    Fetch and check what says where the files of a shard lie.

    Raises:
        IntegrityError: it is missing or damaged; `.paths` names its object.
    """
    key = index_key(shard.index)
    try:
        body = bucket.get(key, limit=max_index_bytes(shard))
        if hashlib.sha256(body).hexdigest() != shard.index:
            raise IntegrityError("it is damaged")
        return Index.from_bytes(body, shard)
    except (ObjectNotFound, FormatError, IntegrityError) as error:
        raise _damaged_list(bucket, key, "which says where files lie", error) from error


def locate(bucket: Bucket, record: Record, manifest: Manifest) -> dict[Place, list[Entry]]:
    """
    Where the bytes of the files of a manifest lie.

    Raises:
        IntegrityError: an index is missing, damaged, or does not know a file.
    """
    here = sorted({e.shard for e in manifest.entries})
    indexes = dict(
        zip(here, each(lambda s: read_index(bucket, record.shards[s]), here), strict=True)
    )
    places: dict[Place, list[Entry]] = defaultdict(list)
    for entry in manifest.entries:
        try:
            places[indexes[entry.shard].place_of(entry)].append(entry)
        except FormatError as error:
            key = index_key(record.shards[entry.shard].index)
            raise _damaged_list(bucket, key, "which says where files lie", error) from error
    return places


def _damaged_list(bucket: Bucket, key: str, what: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"{key} in {bucket.url}, {what}: {error}",
        [key],
        hint="the maintainer can push the same release again, which puts it back",
    )


def fetch(
    bucket: Bucket,
    record: Record,
    entries: Sequence[Entry],
    folder: Path,
    on_file: Progress = silent,
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
    places = locate(bucket, record, Manifest(record.name, missing))
    files = {place: [replace(es[0], path=named[es[0]])] for place, es in places.items()}
    done = Counter(on_file, len(files))
    bad = set(Fetch(bucket, folder, folder, files, done).all(reads(places)))
    if wrong := [e.path for place in bad for e in places[place]]:
        raise IntegrityError(
            f"{bucket.url} has missing or wrong bytes for {listing(sorted(wrong))}", sorted(wrong)
        )
    return {e: folder / name for e, name in named.items()}


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
    plan: Plan = field(default=Plan((), ()), repr=False, compare=False)  # of the pull just done

    def __fspath__(self) -> str:
        return str(self.path)

    @cached_property
    def manifest(self) -> Manifest:
        """Files and digests."""
        return read_manifest(self.path)

    def verify(self, on_file: Progress = silent) -> None:
        """Hash every file again; IntegrityError names what is missing, changed or too many."""
        verify_folder(self.path, on_file)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a pull would do."""

    name: str
    version: str
    root: str
    splits: tuple[str, ...]
    plan: Plan


def plan_pull(
    bucket: Bucket,
    name: str,
    selector: Selector | str,
    to: Path,
    splits: Collection[str] = (),
    on_file: Progress = silent,
) -> Planned:
    """Say what `pull` with the same arguments would fetch; touch nothing."""
    record = resolve(bucket, name, selector)
    return _Pull(bucket, record, to, splits, on_file).planned()


def pull(
    bucket: Bucket,
    name: str,
    selector: Selector | str,
    to: Path,
    *,
    splits: Collection[str] = (),
    remote: str | None = None,
    on_file: Progress = silent,
) -> Release:
    """
    Fetch a version into a folder, every byte checked. Calling it again goes on, or repairs.

    A folder that holds another version of ours is brought to this one: only what differs
    is fetched, and files of the old version go. More splits of the same version are added.

    Args:
        to: a folder that is new, empty, or from an earlier pull.
        splits: names; none means all of them.
        remote: what to remember as its origin, if not the bucket's URL.
        on_file: told of files compared, then of files fetched.

    Raises:
        VersionNotFound: no version answers to the selector.
        UsageError: no such split; the folder is someone else's; the disk is full.
        IntegrityError: bytes in the bucket are wrong or missing; `.paths` names the files,
            none of which was installed.
    """
    record = resolve(bucket, name, selector)
    return _Pull(bucket, record, to, splits, on_file).run(remote or bucket.url)


class _Pull:
    """One pull into one folder."""

    def __init__(
        self,
        bucket: Bucket,
        record: Record,
        to: Path,
        splits: Collection[str],
        on_file: Progress,
    ) -> None:
        self._bucket = bucket
        self._record = record
        self._to = to
        self._parts = to / _PARTS
        self._on_file = on_file
        chosen, here = set(splits), _state(to)
        if chosen and here is not None and here.root == record.root:
            chosen |= set(here.splits)
        self._manifest = read_version(bucket, record, chosen)
        self._places = {
            e: place
            for place, entries in locate(bucket, record, self._manifest).items()
            for e in entries
        }
        self._splits = tuple(s for s in record.splits if not chosen or s in chosen)

    def planned(self) -> Planned:
        """Compare the folder with the version."""
        self._stale()
        there = set(files_in(self._to))
        old = [e for e in self._manifest.entries if e.path in there]
        sound = each(lambda e: is_file_of(self._to / e.path, e), old, self._on_file)
        present = {e for e, good in zip(old, sound, strict=True) if good}
        asked = reads(self._places[e] for e in self._manifest.entries if e not in present)
        todo = plan(
            self._manifest.entries,
            present,
            requests=len(asked),
            transfer=sum(r.stop - r.start for r in asked),
        )
        r = self._record
        return Planned(r.name, r.version, r.root, self._splits, todo)

    def run(self, origin: str) -> Release:
        """Fetch what is missing."""
        stale = self._stale()
        todo = self.planned().plan
        self._check_space(todo)
        try:
            self._begin(stale)
            self._fetch(todo)
            return replace(self._finish(origin), plan=todo)
        except OSError as error:
            if isinstance(error, PublisherError):
                raise
            raise _disk_error(error, self._to) from error

    def _stale(self) -> list[str]:
        """
        Files of earlier pulls that this version has not.

        Raises:
            UsageError: the folder holds something that no pull put there.
        """
        if not self._to.exists():
            return []
        if not self._to.is_dir():
            raise UsageError(f"{self._to} is no folder")
        new = {e.path for e in self._manifest.entries}
        old = {e.path for m in self._earlier() for e in m.entries}
        there = [p for p in files_in(self._to) if p.split("/")[0] not in {STATE, MANIFEST, _PARTS}]
        ours = (self._to / STATE).is_file() or self._parts.is_dir()
        foreign = sorted(set(there) - new - old) if ours else sorted(there)
        if foreign:
            raise UsageError(
                f"{self._to} holds files that are not of this dataset: {listing(foreign)}",
                hint="choose a new or empty folder, or remove them",
            )
        return sorted((old - new) & set(there))

    def _earlier(self) -> Iterator[Manifest]:
        lists = [self._to / MANIFEST, *self._parts.glob("*.manifest")]
        for path in lists:
            with suppress(OSError, PublisherError):
                yield Manifest.from_bytes(path.read_bytes())

    def _check_space(self, todo: Plan) -> None:
        place = next(p for p in (self._to, *self._to.absolute().parents) if p.exists())
        free = shutil.disk_usage(place).free
        if todo.move and todo.move_bytes + _SPARE > free:
            raise UsageError(
                f"{todo.move_bytes:,} bytes do not fit on the disk of {self._to}: {free:,} are free"
            )

    def _begin(self, stale: Iterable[str]) -> None:
        """From here until the end the folder is incomplete, and says so."""
        self._to.mkdir(parents=True, exist_ok=True)
        _make_folder(self._parts)
        write_atomic(self._parts / f"{self._record.root[7:]}.manifest", self._manifest.to_bytes())
        (self._to / STATE).unlink(missing_ok=True)
        for path in stale:
            (self._to / path).unlink()
            for folder in (self._to / path).parents:
                if folder == self._to or any(folder.iterdir()):
                    break
                folder.rmdir()

    def _fetch(self, todo: Plan) -> None:
        folders = {p for e in todo.move for p in _parents(e.path)}
        for folder in sorted(folders):
            _make_folder(self._to / folder)
        wanted: dict[Place, list[Entry]] = defaultdict(list)
        for entry in todo.move:
            wanted[self._places[entry]].append(entry)
        count = Counter(self._on_file, len(todo.move))
        fetch = Fetch(self._bucket, self._to, self._parts, wanted, count)
        bad = fetch.all(reads(wanted))
        bad = fetch.all([Read((place,)) for place in bad])  # once more, each by itself
        wrong = sorted(e.path for place in bad for e in wanted[place])
        if wrong:
            raise IntegrityError(
                f"{self._bucket.url} has missing or wrong bytes for {listing(wrong)}",
                wrong,
                hint="nothing wrong was installed; the maintainer can find and mend it with "
                "`publisher verify --deep`",
            )

    def _finish(self, origin: str) -> Release:
        record = self._record
        write_atomic(self._to / MANIFEST, self._manifest.to_bytes())
        shutil.rmtree(self._parts)
        state = _State(
            "publisher/pulled/1",
            origin,
            record.name,
            record.version,
            record.root,
            self._splits,
        )
        write_atomic(self._to / STATE, canonical_json(msgspec.to_builtins(state), indent=1))
        return state.release(self._to)


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


# ── folders ──────────────────────────────────────────────────────────────────────────────────


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`.publisher.json`: what a complete pull has put into a folder."""

    schema: str
    remote: str
    name: str
    version: str
    root: str
    splits: tuple[str, ...]

    def release(self, path: Path) -> Release:
        return Release(path, self.remote, self.name, self.version, self.root, self.splits)


def _state(folder: Path) -> _State | None:
    try:
        return msgspec.json.decode((folder / STATE).read_bytes(), type=_State)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def open_release(folder: Path) -> Release:
    """
    A folder that `pull` has filled.

    Raises:
        UsageError: it is none, or the pull did not come to its end.
    """
    state = _state(folder)
    if state is None:
        raise UsageError(
            f"{folder} is no complete pull: it has no {STATE}",
            hint="run the same `publisher pull` again: it goes on where it stopped",
        )
    return state.release(folder)


def verify_folder(folder: Path, on_file: Progress = silent) -> Manifest:
    """
    Hash every file of a pulled folder, or of a release tree, and compare with its manifest.

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
    check_tree(folder, manifest, on_file)
    return manifest
