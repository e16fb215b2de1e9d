"""
What a version is, and the documents that say so: manifest, release record, channel. Pure.

A version is its files: paths, sizes and sha256 digests, and which split each belongs to.
They are grouped in shards: "common", one "split/<name>" a split, and "provenance". The
digest of a shard is the sha256 of its canonical JSON lines, and the root is the sha256 of
the digests of all shards but "provenance": the same data built again from another commit
is the same version. Whoever has one shard and the digests of the others can check both.

Where the bytes lie (the keys at the end) is no part of the identity: packing them
otherwise, or mirroring them, never changes a version.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from io import BytesIO
from itertools import groupby, pairwise, starmap
from operator import itemgetter
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec

from ..errors import FormatError, IntegrityError, PublisherError
from ..names import check_path, collision_key
from ..spill import Many, Row, Spill
from .version import Channel, Version, check_name

MANIFEST = "manifest.json"  # of a tree; no entry of itself
PROVENANCE = "provenance.json"
STATE = ".publisher.json"  # written last by a pull; see consume.py
RESERVED = ".publisher"  # what no file of a version may begin with

MAX_FILES = 10_000_000  # in one version
MAX_MANIFEST = 2**32  # bytes
MAX_DOCUMENT = 2**20  # bytes of a release record or a channel
MAX_SHARDS = 1_000
_LINE = 6 * 1024 + 256  # bytes of the longest line of a shard: every character escaped

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Root = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Files = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILES)]
Text = Annotated[str, msgspec.Meta(max_length=1024)]
Layout = Literal["packs", "plain"]  # small files in packs, or each file under its own name
PublicKey = Annotated[str, msgspec.Meta(pattern=r"^ed25519:[0-9a-f]{64}\Z")]
Moment = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}\+00:00\Z")
]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documents come from strangers: no field that we do not know, no type that we do not."""


class Signature(_Strict, frozen=True, order=True):
    """Who vouches for a document, and the proof; `signed.py` says of what bytes."""

    key: PublicKey
    signature: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]


MAX_SIGNATURES = 16  # of one document
Signatures = Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=MAX_SIGNATURES)]


class Shard(_Strict, frozen=True):
    """A group of files of one version, by digest."""

    sha256: Digest  # of its canonical lines
    files: Files
    bytes: Size  # of all its files together


class Entry(msgspec.Struct, frozen=True, order=True, gc=False):
    """
    One file of a version. Its location is not its business.

    Of files there are millions, and so they are no dataclasses: these take three times as long
    to make, and the collector looks at each again and again.
    """

    path: str
    size: int  # bytes
    sha256: str  # hex
    split: str | None = None

    @property
    def shard(self) -> str:
        """The name of the shard that it belongs to."""
        if self.path == PROVENANCE:
            return "provenance"
        return "common" if self.split is None else f"split/{self.split}"


class Entries(Many[Entry]):
    """Files of a version in any number, of which few are objects at any time."""

    @staticmethod
    def _rows_of(values: Iterable[Entry]) -> Iterable[Row]:
        return map(msgspec.structs.astuple, values)

    @staticmethod
    def _made_of(rows: Iterable[Row]) -> Iterator[Entry]:
        return starmap(Entry, rows)


@dataclass(frozen=True)
class Manifest:
    """
    The files of a version, or of some shards of it; sorted by path.

    `others` are shards that are known by digest only, in a partial manifest.

    Raises:
        FormatError: two files cannot live side by side, or a path is not safe.
    """

    name: str
    entries: Sequence[Entry]
    others: Mapping[str, Shard] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", in_order(self.entries))
        _check_paths(self.entries)
        here = {e.shard for e in self.entries}
        for shard in here | set(self.others):
            _check_shard_name(shard)
        if clash := here & set(self.others):
            raise FormatError(f"shard {min(clash)} is both here and elsewhere")

    @cached_property
    def shards(self) -> dict[str, Shard]:
        """All shards by name, those known by digest only too."""
        groups: dict[str, _Sum] = {}
        for entry in self.entries:
            shard = entry.shard
            if shard not in groups:
                groups[shard] = _Sum()
            groups[shard].add(entry)
        here = {name: s.shard for name, s in groups.items()}
        return dict(sorted({**here, **self.others}.items()))

    @property
    def root(self) -> str:
        """What the version is: `sha256:` and the digest over the digests of its shards."""
        return root_of(self.shards)

    @property
    def size(self) -> int:
        """Bytes of the files here, together."""
        return sum(s.bytes for name, s in self.shards.items() if name not in self.others)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits whose files are here, sorted."""
        here = (name for name in self.shards if name not in self.others and "/" in name)
        return tuple(sorted(name.removeprefix("split/") for name in here))

    def shard_entries(self, shard: str) -> Iterator[Entry]:
        """The files of one shard."""
        return (e for e in self.entries if e.shard == shard)

    def to_bytes(self) -> bytes:
        """The bytes of manifest.json: one line a file, the same for equal manifests."""
        return _joined(self.parts())

    def parts(self) -> Iterator[bytes]:
        """The same, a line at a time: of many files the whole is not small."""
        yield b"{\n"
        head = {"schema": "publisher/manifest/1", "name": self.name, "root": self.root}
        for key, value in head.items():
            yield b' "%b":%b,\n' % (key.encode(), _json(value))
        yield b' "shards":{\n'
        yield from _listed(b"  %b:%b" % (_json(k), _json(v)) for k, v in self.shards.items())
        yield b" },\n"
        yield _FILES + b"\n"
        yield from _listed(b"  " + _json(_row(e)) for e in self.entries)
        yield b" ]\n}\n"

    @classmethod
    def from_bytes(cls, body: bytes) -> Manifest:
        """
        Read a manifest.json that may be hostile.

        Raises:
            FormatError: it is no manifest.
            IntegrityError: its digests do not fit its files.
        """
        return cls.read(Spill.of_bytes(body))

    @classmethod
    def read(cls, body: Spill) -> Manifest:
        """The same of a body that need not fit into memory."""
        if len(body) > MAX_MANIFEST:
            raise FormatError(f"more than {MAX_MANIFEST:,} bytes", path=MANIFEST)
        document, entries = _parsed(body)
        if document.schema != "publisher/manifest/1":
            raise FormatError(f"unknown schema {document.schema!r}", path=MANIFEST)
        here = {e.shard for e in entries}
        others = {name: s for name, s in document.shards.items() if name not in here}
        manifest = cls(document.name, entries, others)
        if not _is_made_of(body, manifest.parts()):  # digests, root, order and spelling at once
            raise IntegrityError(
                f"{MANIFEST} does not fit its own digests", [MANIFEST], hint="it was changed"
            )
        return manifest


def in_order(entries: Iterable[Entry]) -> Entries:
    """Sorted by path."""
    return (entries if isinstance(entries, Entries) else Entries(entries)).sorted()


class _File(_Strict, frozen=True, gc=False, omit_defaults=True):
    path: Text
    sha256: Digest
    size: Size
    split: Text | None = None


class _Manifest(_Strict, frozen=True):
    schema: str
    name: Annotated[str, msgspec.Meta(max_length=200)]
    root: Root
    shards: Annotated[dict[str, Shard], msgspec.Meta(max_length=MAX_SHARDS)]
    files: Annotated[list[_File], msgspec.Meta(max_length=MAX_FILES)]


_FILES = b' "files":['
_FILE = msgspec.json.Decoder(_File)


def _parsed(body: Spill) -> tuple[_Manifest, Entries]:
    """What a body says, unchecked."""
    try:
        return _parsed_by_lines(body.lines())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # no manifest as we write it; what is wrong with it shows in the whole
        document = _decode(body.read(0, len(body)), _Manifest, MANIFEST)
        return document, Entries(map(_entry, _spent(document.files)))


def _parsed_by_lines(lines: Iterator[bytes]) -> tuple[_Manifest, Entries]:
    head, size, entries = list[bytes](), 0, Entries()
    for line in lines:
        head.append(line)
        size += len(line)
        if line == _FILES or size > MAX_DOCUMENT:
            break
    document = msgspec.json.decode(b"\n".join((*head, b"]}")), type=_Manifest)
    for line in lines:
        if line == b" ]" or len(entries) > MAX_FILES:
            break
        entries.append(_entry(_FILE.decode(line.removesuffix(b","))))
    if len(entries) > MAX_FILES:
        raise msgspec.DecodeError("too many files")
    return document, entries


def _entry(file: _File) -> Entry:
    return Entry(file.path, file.size, file.sha256, file.split)


# ── shards ───────────────────────────────────────────────────────────────────────────────────


class _Line(_Strict, frozen=True, gc=False):
    """A line of a shard. The split is the shard's name."""

    path: Text
    sha256: Digest
    size: Size


_LINES = msgspec.json.Decoder(_Line)


def shard_bytes(entries: Iterable[Entry]) -> bytes:
    """The canonical lines of a shard: `{"path":…,"sha256":…,"size":…}` sorted by path."""
    return _joined(shard_lines(in_order(entries)))


def shard_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The same line by line, of files in the order of their paths."""
    return map(_line, entries)


def _line(entry: Entry) -> bytes:
    return _json(_Line(entry.path, entry.sha256, entry.size)) + b"\n"


class _Sum:
    """What files of one shard are together, told in the order of their paths."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._files = self._bytes = 0

    def add(self, entry: Entry) -> None:
        self._digest.update(_line(entry))
        self._files += 1
        self._bytes += entry.size

    @property
    def shard(self) -> Shard:
        return Shard(self._digest.hexdigest(), self._files, self._bytes)


def shard_of(entries: Iterable[Entry]) -> Shard:
    """The digest, count and size of the files of one shard."""
    found = _Sum()
    for entry in in_order(entries):
        found.add(entry)
    return found.shard


def max_shard_bytes(shard: Shard) -> int:
    """The most bytes that the lines of a shard can have."""
    return min(shard.files * _LINE, MAX_MANIFEST)


def read_shard(body: bytes | Spill, name: str, shard: Shard) -> Entries:
    """
    Read the lines of a shard that may be hostile.

    Raises:
        IntegrityError: they are not what `shard` promises.
        FormatError: they are, but no shard can look like this.
    """
    body = Spill.of_bytes(body)
    if sha256_of(body) != shard.sha256:
        raise IntegrityError(f"the manifest of shard {name} is damaged", [name])
    split = name.removeprefix("split/") if name.startswith("split/") else None
    try:
        lines = map(_LINES.decode, body.lines())
        entries = Entries(Entry(x.path, x.size, x.sha256, split) for x in lines).sorted()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not a shard: {error}", path=name) from None
    if any(e.shard != name for e in entries):
        raise FormatError("a file is not of this shard", path=name)
    if shard_of(entries) != shard:
        raise IntegrityError(f"shard {name} has not the files that it promises", [name])
    return entries


def sha256_of(body: Spill) -> str:
    """The digest of what was put aside."""
    digest = hashlib.sha256()
    for block in body.blocks():
        digest.update(block)
    return digest.hexdigest()


def root_of(shards: Mapping[str, Shard]) -> str:
    """The root over shards by name; "provenance" stays out."""
    digests = {name: s.sha256 for name, s in shards.items() if name != "provenance"}
    return f"sha256:{hashlib.sha256(_json(digests)).hexdigest()}"


# ── documents of a bucket ────────────────────────────────────────────────────────────────────


class StoredShard(Shard, frozen=True):
    """A shard, and the index that says where the bytes of its files lie; see packs.py."""

    index: Digest

    @property
    def plain(self) -> Shard:
        """Without its location."""
        return Shard(self.sha256, self.files, self.bytes)


class Sealed(_Strict, frozen=True):
    """A document of a bucket that says by its seal whether a byte of it was changed."""

    def to_bytes(self) -> bytes:
        """Sealed canonical JSON."""
        return _seal(self)

    @classmethod
    def from_bytes(cls, body: bytes, key: str) -> Self:
        """
        Read a document that may be hostile.

        Raises:
            IntegrityError: `key`, its object, is damaged or no such document.
        """
        document = _unseal(body, cls, key)
        try:
            document.check()
        except (PublisherError, ValueError) as error:
            raise damaged(key, str(error)) from None
        return document

    def check(self) -> None:
        """Raise a ValueError where it says what types allow and sense does not."""


class _Signed(Sealed, frozen=True, kw_only=True):
    """A document with the signatures of who vouches for it, if anybody does."""

    signatures: Signatures | msgspec.UnsetType = msgspec.UNSET

    @property
    def signed(self) -> tuple[Signature, ...]:
        """Its signatures, unchecked."""
        return self.signatures if isinstance(self.signatures, tuple) else ()

    def check(self) -> None:
        """Each key signs once."""
        _check_order(self.signed)


class SplitFacts(_Strict, frozen=True):
    """What a split holds."""

    files: Files
    bytes: Size
    images: Files  # files under <split>/images/


class Record(Sealed, frozen=True):
    """
    The release record: what `releases/<version>.json` says. Its existence is the version.

    Its bytes are sealed: a changed byte anywhere is an IntegrityError.
    """

    name: Text
    version: Text
    root: Root
    created: Annotated[str, msgspec.Meta(max_length=64)]  # ISO 8601
    tool: Text
    files_total: Files
    bytes_total: Size
    splits: Annotated[dict[str, SplitFacts], msgspec.Meta(max_length=MAX_SHARDS)]
    shards: Annotated[dict[str, StoredShard], msgspec.Meta(max_length=MAX_SHARDS)]
    layout: Layout  # how its files lie; the indexes say where
    provenance: Digest | None = None  # of provenance.json
    schema: Literal["publisher/release/2"] = "publisher/release/2"

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        name: str,
        version: Version,
        created: str,
        tool: str,
        *,
        layout: Layout,
        indexes: Mapping[str, str],
    ) -> Record:
        """The record that publishes a whole manifest, with the digest of the index by shard."""
        provenance = next((e.sha256 for e in manifest.shard_entries("provenance")), None)
        shards = {
            n: StoredShard(s.sha256, s.files, s.bytes, indexes[n])
            for n, s in manifest.shards.items()
        }
        return cls(
            name=name,
            version=str(version),
            root=manifest.root,
            created=created,
            tool=tool,
            files_total=len(manifest.entries),
            bytes_total=manifest.size,
            splits=_facts(manifest),
            shards=shards,
            layout=layout,
            provenance=provenance,
        )

    def check(self) -> None:
        """Names are names, and the parts make the whole."""
        check_name(self.name)
        Version.parse(self.version)
        for name in self.shards:
            _check_shard_name(name)
        if root_of(self.shards) != self.root:
            raise ValueError("its root does not fit its shards")
        if not self._adds_up():
            raise ValueError("its sums do not add up")

    def _adds_up(self) -> bool:
        shards = self.shards.values()
        return (
            {f"split/{s}" for s in self.splits} == {s for s in self.shards if "/" in s}
            and self.files_total == sum(s.files for s in shards)
            and self.bytes_total == sum(s.bytes for s in shards)
        )


class ChannelState(_Signed, frozen=True):
    """Where a channel points to: what `channels/<name>.json` says. Sealed like the record."""

    version: Text
    root: Root
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | msgspec.UnsetType = msgspec.UNSET
    previous: Text | msgspec.UnsetType = msgspec.UNSET  # the version it pointed to before
    expires: Moment | msgspec.UnsetType = msgspec.UNSET  # when it is to be signed anew
    schema: str = "publisher/channel/1"

    @property
    def moves(self) -> int:
        """How often it was moved; a copy that says less than another is older."""
        return self.seq if isinstance(self.seq, int) else 0

    @property
    def end(self) -> datetime | None:
        """When nobody should believe it any more; None where it has no end."""
        return datetime.fromisoformat(self.expires) if isinstance(self.expires, str) else None

    def check(self) -> None:
        """Its version is one, and its end a moment."""
        super().check()
        Version.parse(self.version)
        _ = self.end


class Status(_Signed, frozen=True):
    """
    What is said of a version after it was published: `status/<version>.json`. Sealed.

    A version without one is active. Yanked versions stay, but only who asks for that very
    number, or root, gets them; deprecated ones are given with a warning. Retracted ones are
    gone, and this is all that is left beside their record.
    """

    version: Text
    state: Literal["active", "yanked", "deprecated", "retracted"]
    reason: Text
    at: Annotated[str, msgspec.Meta(max_length=64)]  # ISO 8601
    superseded_by: Text | None = None  # a version of the same dataset
    schema: str = "publisher/status/1"

    def __str__(self) -> str:
        instead = f"; use {self.superseded_by}" if self.superseded_by else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.state}{reason}{instead}"

    def check(self) -> None:
        """Its versions are versions."""
        super().check()
        Version.parse(self.version)
        if self.superseded_by is not None:
            Version.parse(self.superseded_by)


class ReleaseSignatures(Sealed, frozen=True):
    """
    Who vouches for a release record: what `signatures/<version>.json` says. Sealed.

    An object of its own, for a record never changes, and may be signed later, by more keys.
    """

    signatures: Signatures
    schema: Literal["publisher/signatures/1"] = "publisher/signatures/1"

    def check(self) -> None:
        """Each key signs once."""
        _check_order(self.signatures)


def _check_order(signatures: Iterable[Signature]) -> None:
    keys = [s.key for s in signatures]
    if keys != sorted(set(keys)):
        raise ValueError("its signatures are not one a key, sorted by key")


def read_record(body: bytes, name: str, version: Version) -> Record:
    """
    Read the record of this very version.

    Raises:
        IntegrityError: it is damaged, or another version's.
    """
    key = record_key(name, version)
    record = Record.from_bytes(body, key)
    if (record.name, record.version) != (name, str(version)):
        raise IntegrityError(f"{key} is the record of {record.name} {record.version}", [key])
    return record


def read_status(body: bytes, name: str, version: Version) -> Status:
    """
    Read the status of this very version.

    Raises:
        IntegrityError: it is damaged, or said of another version.
    """
    key = status_key(name, version)
    status = Status.from_bytes(body, key)
    if status.version != str(version):
        raise IntegrityError(f"{key} is the status of {status.version}", [key])
    return status


def _facts(manifest: Manifest) -> dict[str, SplitFacts]:
    images: Counter[str] = Counter()
    for entry in manifest.entries:
        if entry.split is not None and entry.path.startswith(f"{entry.split}/images/"):
            images[entry.split] += 1
    sums = {split: manifest.shards[f"split/{split}"] for split in manifest.splits}
    return {s: SplitFacts(shard.files, shard.bytes, images[s]) for s, shard in sums.items()}


# ── decisions ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Plan:
    """What a transfer would do; printed by --dry-run, done by push and pull."""

    move: Sequence[Entry]  # to send, or to fetch
    keep: Sequence[Entry]  # already there
    requests: int = 0  # that moving the files needs, without lists and records
    transfer: int = 0  # bytes that these requests carry
    cached: Sequence[Entry] = ()  # fetched before, into another folder

    def __add__(self, other: Plan) -> Plan:
        """One after the other."""
        return Plan(
            Entries((*self.move, *other.move)),
            Entries((*self.keep, *other.keep)),
            self.requests + other.requests,
            self.transfer + other.transfer,
            Entries((*self.cached, *other.cached)),
        )

    @property
    def move_bytes(self) -> int:
        """Size of what is to be sent or fetched."""
        return sum(e.size for e in self.move)

    @property
    def keep_bytes(self) -> int:
        """Size of what is already there."""
        return sum(e.size for e in self.keep)

    @property
    def cached_bytes(self) -> int:
        """Size of what was fetched before."""
        return sum(e.size for e in self.cached)


def plan(
    wanted: Iterable[Entry], present: Set[Entry], *, requests: int = 0, transfer: int = 0
) -> Plan:
    """Part what is wanted into what has to move and what is there, both in order."""
    move, keep = Entries(), Entries()
    for entry in wanted:
        (keep if entry in present else move).append(entry)
    return Plan(move, keep, requests, transfer)


def distinct(entries: Iterable[Entry]) -> Entries:
    """One entry a content, the first: equal bytes are stored once."""
    numbered = Many((e.sha256, n, e.path, e.size, e.split) for n, e in enumerate(entries))
    groups = groupby(numbered.sorted(), key=itemgetter(0))
    first = Many(next(rows) for _, rows in groups).sorted(key=itemgetter(1))
    return Entries(Entry(path, size, sha256, split) for sha256, _, path, size, split in first)


# ── location: what lies where in a bucket ────────────────────────────────────────────────────

RELEASES = "releases"
CHANNELS = "channels"
STATUS = "status"
SIGNATURES = "signatures"


def blob_key(sha256: str) -> str:
    """Where the bytes of files with this digest lie."""
    return f"blobs/{sha256[:2]}/{sha256}"


def shard_key(sha256: str) -> str:
    """Where the lines of a shard lie."""
    return f"manifests/{sha256}.jsonl"


def tree_key(name: str, version: Version | str, path: str = "") -> str:
    """Where a version has what people look at; in the plain layout, all of its files."""
    return f"datasets/{name}/v{version}/{path}"


def record_key(name: str, version: Version) -> str:
    """Where the record of a version lies."""
    return f"datasets/{name}/{RELEASES}/{version}.json"


def channel_key(name: str, channel: Channel) -> str:
    """Where a channel lies."""
    return f"datasets/{name}/{CHANNELS}/{channel}.json"


def status_key(name: str, version: Version) -> str:
    """Where it is said what became of a version."""
    return f"datasets/{name}/{STATUS}/{version}.json"


def signatures_key(name: str, version: Version) -> str:
    """Where the signatures of a release record lie."""
    return f"datasets/{name}/{SIGNATURES}/{version}.json"


# ── checks and canonical JSON ────────────────────────────────────────────────────────────────


def _check_paths(entries: Iterable[Entry]) -> None:
    keys = Many[tuple[str, str]]()
    for entry in entries:
        _check_path(entry.path)
        # below all that a name may have, so that what is in a folder comes right behind its name
        keys.append((collision_key(entry.path).replace("/", "\0"), entry.path))
    for (key, path), (other_key, other) in pairwise(keys.sorted()):
        if key == other_key:
            beside = "twice" if path == other else f"beside {path!r}"
            raise FormatError(f"a version cannot hold this file {beside}", path=other)
        if other_key.startswith(key + "\0"):
            raise FormatError("a file stands where this needs a folder", path=other)


def _check_path(path: str) -> None:
    check_path(path)
    first = path.partition("/")[0].casefold()
    if first == MANIFEST or first.startswith(RESERVED):
        raise FormatError("this name is publisher's own", path=path)


def _check_shard_name(name: str) -> None:
    kind, _, split = name.partition("/")
    if name in {"common", "provenance"}:
        return
    if kind != "split" or "/" in split or len(split) > 200:
        raise FormatError(f"no shard can be called {name[:80]!r}")
    check_path(split)


T = TypeVar("T")
Document = TypeVar("Document", bound=_Strict)


def _decode(body: bytes, kind: type[Document], path: str) -> Document:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not what it should be: {error}", path=path, code="J001") from None


def _seal(document: _Strict) -> bytes:
    """Canonical JSON with one more key: the sha256 of the rest. Told apart from no damage."""
    plain: dict[str, Any] = msgspec.to_builtins(document)
    plain["seal"] = hashlib.sha256(_json(plain)).hexdigest()
    return msgspec.json.format(_json(plain), indent=1) + b"\n"


def _unseal(body: bytes, kind: type[Document], key: str) -> Document:
    if len(body) > MAX_DOCUMENT:
        raise damaged(key, f"more than {MAX_DOCUMENT:,} bytes")
    try:
        plain = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        plain.pop("seal", None)
        document = msgspec.json.decode(_json(plain), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(key, str(error)) from None
    if _seal(document) != body:
        raise damaged(key, "its bytes do not fit its seal")
    return document


def damaged(key: str, why: str) -> IntegrityError:
    """What is said of a document whose bytes are not those that were written."""
    why = re.sub(r"\s+", " ", why)[:200]
    hint = (
        "it was changed, or written by a newer publisher: upgrade, or put it back with "
        "`publisher verify --deep --repair-from MIRROR`"
    )
    return IntegrityError(f"{key} is damaged: {why}", [key], hint=hint)


def _listed(items: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with a comma between any two."""
    comma = b""
    for item in items:
        yield comma + item
        comma = b",\n"
    yield b"\n"


def _joined(parts: Iterable[bytes]) -> bytes:
    """What `b"".join` gives, which keeps all parts until it begins."""
    out = BytesIO()
    out.writelines(parts)
    return out.getvalue()


def _is_made_of(body: Spill, parts: Iterable[bytes]) -> bool:
    at, told = 0, bytearray()

    def fits() -> bool:
        return body.read(at, len(told)) == told

    for part in parts:
        told += part
        if len(told) > 2**16:
            if not fits():
                return False
            at += len(told)
            told.clear()
    return fits() and at + len(told) == len(body)


def _spent(items: list[T]) -> Iterator[T]:
    """The items of a list that nobody else needs, each let go as it is taken: of a million
    files there are never two lists."""
    items.reverse()
    while items:
        yield items.pop()


def _row(entry: Entry) -> _File:
    return _File(entry.path, entry.sha256, entry.size, entry.split)


def _json(value: Any) -> bytes:
    """Sorted keys, no spare space, UTF-8: what `files.canonical_json` gives, in a core module."""
    return msgspec.json.encode(value, order="sorted")


# msgspec 0.22 prepares a type when it is first decoded, and crashes where two threads do so at once
for _kind in (_Manifest, _File, _Line, Record, ChannelState, Status, ReleaseSignatures):
    msgspec.json.Decoder(_kind)
