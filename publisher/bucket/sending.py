"""
Bytes to a bucket: what is there already, what has to be sent, and sending it once.

Nothing here makes a version visible. Objects are created, never overwritten, unless what lies
under the name is damaged; so any of it may be cut short and repeated.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from ..errors import IntegrityError, ObjectExists, ObjectNotFound, StorageError, UsageError
from ..failpoint import failpoint
from ..files import open_plain
from ..progress import Amount, Transfer
from ..scratch import scratch
from ..storage import Bucket, ObjectInfo
from ..versions.manifest import Entries, Entry
from ..versions.packs import END, LARGE, Pack, Place, digest_in, pack_key, padding
from .trees import Meter, amount_of, each, is_file_of

SMALL = LARGE  # bytes of a file that is read once, hashed, and sent from memory
FOR_EVER = "public, max-age=31536000, immutable"  # of what never changes under its key
NO_CACHE = "no-cache"  # of what may change under its key

_PACKERS = 4  # packs that are made at a time, each in a temporary file
_HUGE = 2**24  # bytes from which sending a file keeps a core busy, and more at a time are slower
_FEW = 64  # objects that are asked for one by one, which also gives their checksums
_TYPES = {
    **dict.fromkeys(("jpg", "jpeg"), "image/jpeg"),
    **{kind: f"image/{kind}" for kind in ("png", "webp", "gif", "bmp", "tiff")},
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    **dict.fromkeys(("txt", "cff", "py", "yaml"), "text/plain; charset=utf-8"),
    "tar": "application/x-tar",
}


@dataclass(frozen=True, slots=True)
class Parcel:
    """An object to be: one file under a key, or a pack, whose key follows from its bytes."""

    entries: Sequence[Entry]
    key: str | None  # None of a pack that was never made
    pack: Pack | None = None
    source: str | None = None  # an object that has the same bytes

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self.pack.size if self.pack else self.entries[0].size

    def places(self, key: str) -> Iterator[tuple[str, Place]]:
        """Where its files lie by sha256, once it has this key."""
        if self.pack:
            yield from self.pack.places(key)
        else:
            size = self.entries[0].size
            yield self.entries[0].sha256, Place(key, 0, size, size)


@dataclass(frozen=True, slots=True)
class Put:
    """A parcel that is in the bucket, under which key; was it sent just now?"""

    parcel: Parcel
    key: str
    is_new: bool

    @property
    def content(self) -> str:
        """The sha256 of its first file: two have the same only where each is one file."""
        return self.parcel.entries[0].sha256

    @property
    def places(self) -> Iterator[tuple[str, Place]]:
        """Where its files lie by sha256."""
        return self.parcel.places(self.key)


def content_type(path: str) -> str:
    """What a browser should make of a file: the same on every machine."""
    name = path.rpartition("/")[2]
    if name in {"LICENSE", "SHA256SUMS"}:
        return _TYPES["txt"]
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


# ── what is there ────────────────────────────────────────────────────────────────────────────


class Stock:
    """What a bucket has, asked as cheaply as that goes."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._listed: dict[str, tuple[Mapping[str, int], bool]] = {}

    def look(self, prefix: str, count: int) -> None:
        """
        List a folder, unless asking for `count` objects in it costs less.

        The list saves requests and need not be true: what it lacks is put create-only.
        """
        sizes: dict[str, int] = {}
        failpoint("list")
        for o in self._bucket.list(prefix) if count else ():
            if len(sizes) == 50 * count:
                return
            sizes[o.key] = o.size
        self._listed[prefix] = sizes, count > _FEW

    def find(self, key: str) -> ObjectInfo | None:
        """What the bucket says of an object; of many, no more than their sizes."""
        for prefix, (sizes, many) in self._listed.items():
            if key.startswith(prefix):
                if key not in sizes:
                    return None
                if many:
                    return ObjectInfo(key, sizes[key], "")
        return self.head(key)

    def head(self, key: str) -> ObjectInfo | None:
        """What the bucket says of an object now."""
        try:
            return self._bucket.head(key)
        except ObjectNotFound:
            return None

    def has(self, key: str, size: int, sha256: str | None) -> bool:
        """Is an object there, as far as the bucket can say without sending it?"""
        return is_sound(self.find(key), size, sha256)


def is_sound(found: ObjectInfo | None, size: int, sha256: str | None) -> bool:
    """Has it the size, and the checksum if both are known?"""
    if found is None or found.size != size:
        return False
    return sha256 is None or found.sha256 in {None, sha256}


def sound_objects(stock: Stock, places: Iterable[Place]) -> set[str]:
    """The keys of those objects that are there and whole, as far as the bucket can say."""
    wholes = {p.key: p.whole for p in places}
    folders: dict[str, list[str]] = defaultdict(list)
    for key in wholes:
        deep = 3 if key.startswith("datasets/") else 1
        folders["/".join(key.split("/")[:deep]) + "/"].append(key)
    for folder, keys in folders.items():
        stock.look(folder, len(keys))
    sound = each(lambda key: stock.has(key, wholes[key], digest_in(key)), list(wholes))
    return {key for key, good in zip(wholes, sound, strict=True) if good}


# ── sending ──────────────────────────────────────────────────────────────────────────────────


def send(
    bucket: Bucket, stock: Stock, tree: Path, parcels: Iterable[Parcel], on_bytes: Transfer
) -> list[Put]:
    """
    Put what is not there yet; give where all of it lies.

    Raises:
        IntegrityError: a file of the tree changes meanwhile.
        StorageError: the bucket failed.
    """
    parcels = tuple(parcels)
    amounts = [amount_of(p.entries) for p in parcels]
    total = Amount(sum(a.files for a in amounts), sum(a.bytes for a in amounts))
    meter, found = Meter(on_bytes, "sent", total), list[Put]()

    making = threading.Lock()

    def one(parcel: Parcel) -> Put:
        if parcel.pack:
            done = _send_pack(bucket, stock, tree, parcel, room, making)
        else:
            done = _send_file(bucket, stock, tree, parcel)
        meter.add(*amount_of(parcel.entries))
        return Put(parcel, *done)

    with scratch() as room:
        packs = sorted((p for p in parcels if p.pack), key=attrgetter("size"))  # one is there soon
        files = [p for p in parcels if not p.pack and not p.source]
        huge = [p for p in files if p.size >= _HUGE]
        others = [p for p in files if p.size < _HUGE]
        copies = [p for p in parcels if p.source]  # maybe of what is sent now
        cores = os.cpu_count() or 1
        batches = (packs, _PACKERS), (huge, cores + 1), (others, None), (copies, None)
        for batch, threads in batches:
            found += each(one, batch, threads=threads)
    return found


def _send_file(bucket: Bucket, stock: Stock, tree: Path, parcel: Parcel) -> tuple[str, bool]:
    """Put a file as an object of its own; was it sent?"""
    (entry,), key = parcel.entries, parcel.key
    assert key is not None
    found = stock.find(key)
    if is_sound(found, entry.size, entry.sha256):
        return key, False
    if parcel.source and _copy(bucket, parcel.source, key, entry):
        return key, False
    path, kind = tree / entry.path, content_type(entry.path)
    if entry.size < SMALL:
        write(bucket, "put-blob", key, _read(tree, entry), entry.sha256, found, kind)
        return key, True
    try:
        stored = write(bucket, "put-blob", key, path, entry.sha256, found, kind)
    except IntegrityError as error:  # the bucket compared the digest
        raise _changing(entry) from error
    if stored.sha256 is None and is_file_of(path, entry):
        return key, True
    if stored.sha256 != entry.sha256:
        bucket.delete(key)  # this bucket compares nothing and has kept the wrong bytes
        raise _changing(entry)
    return key, True


def _copy(bucket: Bucket, source: str, key: str, entry: Entry) -> bool:
    failpoint("copy")
    try:
        copied = bucket.copy(source, key, sha256=entry.sha256)
    except (StorageError, IntegrityError):  # gone, damaged, or a server that cannot: send it
        return False
    failpoint("after-copy")
    return copied.sha256 == entry.sha256


def _send_pack(
    bucket: Bucket, stock: Stock, tree: Path, parcel: Parcel, room: Path, making: threading.Lock
) -> tuple[str, bool]:
    """
    Make a pack in a temporary file and put it under its digest; was it sent?

    One is made at a time: threads that take turns at every small file cost twice the time.
    """
    assert parcel.pack is not None
    path = room / hashlib.sha256(parcel.entries[0].path.encode()).hexdigest()
    try:
        with making:
            sha256 = _make_pack(tree, parcel.pack, path)
        key = pack_key(sha256)
        if parcel.key not in {None, key}:
            raise _lost(str(parcel.key))
        found = stock.find(key)
        if is_sound(found, parcel.size, sha256):
            return key, False
        write(bucket, "put-blob", key, path, sha256, found, content_type(key))
        return key, True
    finally:
        path.unlink(missing_ok=True)


def _make_pack(tree: Path, pack: Pack, path: Path) -> str:
    digest = hashlib.sha256()
    with _room(path.parent), path.open("wb", buffering=2**20) as out:
        for header, entry in zip(pack.headers, pack.entries, strict=True):
            for part in (header, _read(tree, entry), padding(entry.size)):
                digest.update(part)
                out.write(part)
        digest.update(END)
        out.write(END)
    return digest.hexdigest()


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise UsageError(
            f"no pack can be made in {folder}: {error.strerror}",
            hint=f"some {_PACKERS} packs of 64 MiB must fit; TMPDIR says where",
        ) from error


@contextmanager
def whole(parts: Iterable[bytes]) -> Iterator[bytes | Path]:
    """A body that comes in parts: in memory, or where it is large in a file while it is used."""
    with scratch() as room:
        yield put_aside(parts, room)


def put_aside(parts: Iterable[bytes], room: Path) -> bytes | Path:
    """
    A body that comes in parts: in memory, or where it is large as a new file in `room`.

    Raises:
        UsageError: the disk is full.
    """
    left, body = iter(parts), bytearray()
    for part in left:
        body += part
        if len(body) > SMALL:
            break
    else:
        return bytes(body)
    with _room(room), tempfile.NamedTemporaryFile(dir=room, delete=False) as out:
        out.write(body)
        out.writelines(left)
    return Path(out.name)


def rebuilt(key: str, files: Collection[tuple[Entry, Place]]) -> Parcel:
    """
    The parcel that puts back a lost object with these files, sorted by place.

    Raises:
        IntegrityError: other files were in it too, which this version has not.
    """
    entries = Entries(entry for entry, _ in files)
    if len(entries) == 1 and all(place.is_whole for _, place in files):
        return Parcel(entries, key)
    pack = Pack(entries)
    made = (place for _, place in pack.places(key))
    if any(one != other for one, (_, other) in zip(made, files, strict=True)):
        raise _lost(key)
    return Parcel(entries, key, pack)


def _lost(key: str) -> IntegrityError:
    return IntegrityError(
        f"{key} is lost or damaged, and the files of this version alone do not make it",
        [key],
        hint="push the earlier version again whose files it holds",
    )


def _read(tree: Path, entry: Entry) -> bytes:
    """The bytes of a small file, hashed once more: what is sent is what was read."""
    stream = open_plain(f"{tree}/{entry.path}")
    if stream is None:
        raise _changing(entry)
    with stream:
        body = stream.read(entry.size + 1)
    if hashlib.sha256(body).hexdigest() != entry.sha256:
        raise _changing(entry)
    return body


def _changing(entry: Entry) -> IntegrityError:
    return IntegrityError(
        f"{entry.path} changed while it was published",
        [entry.path],
        hint="let nothing write to the release while it is pushed, build it again, and push",
    )


def put_over(
    bucket: Bucket, key: str, body: bytes | Path, etag: str | None, cache: str = NO_CACHE
) -> None:
    """
    Put a document in the place of the one that has this etag; None: where there is none.

    Raises:
        ObjectExists, PreconditionFailed: something else is there by now.
    """
    bucket.put(
        key,
        body,
        if_absent=etag is None,
        if_match=etag,
        content_type="application/json",
        cache_control=cache,
    )


def write(
    bucket: Bucket,
    step: str,
    key: str,
    body: bytes | Path,
    sha256: str,
    found: ObjectInfo | None,
    kind: str,
    cache: str = FOR_EVER,
) -> ObjectInfo:
    """Create an object whose bytes follow from its key, or replace a damaged one."""
    failpoint(step)

    def put(create: bool) -> ObjectInfo:
        return bucket.put(
            key, body, sha256=sha256, if_absent=create, content_type=kind, cache_control=cache
        )

    try:
        stored = put(found is None)
    except ObjectExists:  # someone was quicker, or our own answer got lost
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        there = Stock(bucket).head(key)
        stored = there if there and is_sound(there, size, sha256) else put(False)
    failpoint(f"after-{step}")
    return stored
