"""
Objects of a bucket, compared with what they must be: asked for, read, or carried elsewhere.

What comes wrong is read once more: damage stays, noise on the way does not. What is carried is
hashed before it is put; small ones go through memory, large ones through a temporary file, so
memory stays small however large they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from ..errors import (
    AccessDenied,
    FormatError,
    IntegrityError,
    ObjectNotFound,
    StorageError,
    UsageError,
)
from ..names import listing
from ..spill import Spill
from ..storage import Bucket
from ..versions.inventory import Item, Kind, Lists, Member, knows_all
from ..versions.manifest import (
    CHANNELS,
    ChannelState,
    Entries,
    Entry,
    Manifest,
    Record,
    Status,
    StoredShard,
    read_record,
    read_shard,
    read_status,
    sha256_of,
)
from ..versions.packs import Index, index_key
from ..versions.version import Version
from .fetching import Feed, taken
from .sending import SMALL, is_sound

State = Literal["lost", "damaged"]
"""An object is not there, or its bytes are not those that it must have."""

Wrong = tuple[State, tuple[str, ...]]
"""What is wrong with an object, and which files of a version are hit."""

_KINDS: tuple[Kind, ...] = get_args(Kind)
PORTERS = 4  # large objects on their way at a time, each in a temporary file
_LOOKS = 2  # at what comes wrong

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that is lost or damaged; `mended` if its right bytes are there now."""

    key: str
    kind: Kind
    state: State
    files: tuple[str, ...] = ()  # of the version, that are hit
    mended: bool = False

    def __str__(self) -> str:
        files = f" ({listing(self.files, 3)})" if self.files else ""
        return f"{self.state} {self.kind} {self.key}{files}"


def order_of(damage: Damage) -> tuple[int, str]:
    """Where it comes when things are put: what makes a version visible after what it needs."""
    return _KINDS.index(damage.kind), damage.key


@dataclass(frozen=True, slots=True)
class Bytes:
    """Which bytes an object must have."""

    key: str
    size: int
    sha256: str


# ── what documents must be ───────────────────────────────────────────────────────────────────
# Each gives a reader of bytes that raises FormatError or IntegrityError where they are wrong.


def record_of(name: str, version: Version) -> Callable[[bytes], Record]:
    """The record of this very version."""
    return lambda body: read_record(body, name, version)


def status_of(name: str, version: Version) -> Callable[[bytes], Status]:
    """The status of this very version."""
    return lambda body: read_status(body, name, version)


def channel_at(key: str) -> Callable[[bytes], ChannelState]:
    """Where a channel points to."""
    return lambda body: ChannelState.from_bytes(body, key)


def lines_of(name: str, shard: StoredShard) -> Callable[[bytes | Spill], Entries]:
    """The files of a shard."""
    return lambda body: read_shard(body, name, shard.plain)


def index_of(
    shard: StoredShard, entries: Iterable[Entry] | None
) -> Callable[[bytes | Spill], Index]:
    """Where the files of a shard lie, all of them where they are known."""

    def parse(body: bytes | Spill) -> Index:
        body = Spill.of_bytes(body)
        if sha256_of(body) != shard.index:
            raise IntegrityError(f"{index_key(shard.index)} is damaged")
        index = Index.from_bytes(body, shard)
        if not knows_all(index, entries or ()):
            raise IntegrityError(f"{index_key(shard.index)} does not know all files")
        return index

    return parse


def manifest_of(record: Record, lists: Iterable[Lists]) -> Manifest:
    """
    All files of a version.

    Raises:
        IntegrityError: they cannot live side by side; no push of ours publishes such a thing.
    """
    try:
        return Manifest(record.name, Entries(e for known in lists for e in known.entries or ()))
    except FormatError as error:
        raise IntegrityError(f"{record.name} {record.version}: {error}") from None


def kept(parse: Callable[[bytes], object]) -> Callable[[bytes], bytes]:
    """The very bytes, if they are what they must be."""

    def checked(body: bytes) -> bytes:
        parse(body)
        return body

    return checked


def channel_keys(bucket: Bucket, name: str) -> list[str]:
    """Where the channels of a dataset lie; none for who may not list."""
    with suppress(AccessDenied):
        found = bucket.list(f"datasets/{name}/{CHANNELS}/")
        return [o.key for o in found if o.key.endswith(".json")]
    return []


# ── read as a whole ──────────────────────────────────────────────────────────────────────────


def look_at(
    bucket: Bucket, key: str, limit: int, parse: Callable[[bytes], T]
) -> tuple[T | None, State | None]:
    """What `parse` makes of an object of at most `limit` bytes, or what is wrong with it."""
    return _looked(lambda: parse(bucket.get(key, limit=limit)))


def look_at_list(
    bucket: Bucket, key: str, limit: int, parse: Callable[[Spill], T]
) -> tuple[T | None, State | None]:
    """The same of an object that may be too much for memory."""
    return _looked(lambda: parse(taken(bucket, key, limit)))


def _looked(read: Callable[[], T]) -> tuple[T | None, State | None]:
    for _ in range(_LOOKS):
        try:
            return read(), None
        except ObjectNotFound:
            return None, "lost"
        except (FormatError, IntegrityError):
            continue
    return None, "damaged"


Carried = tuple[bytes | Path | None, State | None]
"""The right bytes of an object, or a file with them; else what is wrong with it."""


def carry(source: Bucket, what: Bytes, room: Path) -> Carried:
    """
    Fetch an object whose bytes are known; a large one into a file in `room`.

    Raises:
        UsageError: there is no room on the disk.
        StorageError: the bucket failed.
    """
    if what.size >= SMALL:
        for _ in range(_LOOKS):
            found = _large(source, what, room)
            if found[1] != "damaged":
                break
        return found
    return look_at(source, what.key, what.size, lambda body: _right(body, what))


def _right(body: bytes, what: Bytes) -> bytes:
    if (len(body), hashlib.sha256(body).hexdigest()) != (what.size, what.sha256):
        raise IntegrityError(f"{what.key} is damaged", [what.key])
    return body


def _large(source: Bucket, what: Bytes, room: Path) -> Carried:
    path = room / hashlib.sha256(what.key.encode()).hexdigest()
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("wb") as out:
            for block in source.read(what.key):
                digest.update(block)
                size += len(block)
                if size > what.size:
                    break
                out.write(block)
        if (size, digest.hexdigest()) == (what.size, what.sha256):
            return path, None
    except ObjectNotFound:
        path.unlink()
        return None, "lost"
    except OSError as error:
        path.unlink(missing_ok=True)
        if isinstance(error, StorageError):
            raise
        raise UsageError(
            f"{what.key} cannot be put aside in {room.parent}: {error.strerror}",
            hint=f"{PORTERS} large objects must fit there; TMPDIR says where",
        ) from error
    path.unlink()
    return None, "damaged"


# ── looked at ────────────────────────────────────────────────────────────────────────────────


def asked(bucket: Bucket, key: str, size: int, sha256: str | None) -> State | None:
    """What is wrong with an object, as far as its size and the kept checksum tell."""
    try:
        return None if is_sound(bucket.head(key), size, sha256) else "damaged"
    except ObjectNotFound:
        return "lost"


def read_through(bucket: Bucket, item: Item) -> Wrong | None:
    """
    What is wrong with an object of files, all of its bytes being read and hashed.

    No file is hit where only what lies between the files is wrong.
    """
    wrong: Wrong | None = None
    for _ in range(_LOOKS):
        try:
            wrong = _read_through(bucket, item)
        except ObjectNotFound:
            return "lost", item.paths
        if wrong is None:
            break
    return wrong


def _read_through(bucket: Bucket, item: Item) -> Wrong | None:
    digest, size = hashlib.sha256(), 0

    def blocks() -> Iterator[bytes]:
        nonlocal size
        for block in bucket.read(item.key):
            digest.update(block)
            size += len(block)
            yield block
            if size > item.size:
                return

    feed, bad, at = Feed(blocks()), list[Member](), 0
    for member in item.members:
        place = member.place
        feed.skip(place.offset - at)
        body = hashlib.sha256()
        for piece in feed.take(place.size):
            body.update(piece)
        if place.offset < at or body.hexdigest() != member.sha256:
            bad.append(member)
        at = place.offset + place.size
    feed.skip(item.size + 1 - at)
    if bad:
        return "damaged", tuple(sorted({path for m in bad for path in m.paths}))
    if size == item.size and item.sha256 in {None, digest.hexdigest()}:
        return None
    return "damaged", () if item.kind == "pack" else item.paths
