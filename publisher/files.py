"""
Files from outside and files of ours: safe names, safe archives, atomic writes, canonical JSON.

Whatever comes in is hostile until it has passed here. A name that could leave its folder
is refused, never repaired; an archive is checked as a whole before its first byte is
unpacked, and is read, not extracted.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec

from .errors import FormatError, UsageError
from .failpoint import failpoint
from .names import check_path as check_path
from .names import collision_key as collision_key
from .names import portable as portable
from .names import printable as printable
from .names import safe_path as safe_path

MAX_ENTRIES = 1_000_000  # members of one archive
MAX_UNPACKED = 2**40  # bytes of one archive, all members together
MAX_MEMBER = 2**32  # bytes of one member
MAX_RATIO = 200  # unpacked : packed; photographs have 1, XML and JSON up to 100
MAX_JSON = 2**30  # bytes of one JSON document
_MAX_LINKS = 1_000  # to folders of one tree
_CHUNK = 2**20
_PLAINLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # no link is followed, no pipe waited for
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}

T = TypeVar("T")


# ── trees: folders and archives, read the same way ───────────────────────────────────────────


class Tree(Protocol):
    """Named byte streams: a folder, a single file or a zip. Every name is a safe path."""

    @property
    def label(self) -> str:
        """What to call it in messages: its last path component."""

    def names(self) -> Sequence[str]:
        """All files, sorted."""

    def size(self, name: str) -> int:
        """Bytes that reading the file will give, at most."""

    def open(self, name: str) -> BinaryIO:
        """Read a file from its start."""

    def read(self, name: str, limit: int) -> bytes:
        """All of a file, but no more than `limit` + 1 bytes, taking no more memory."""

    def close(self) -> None: ...


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """
    Open a folder, a zip archive or a single file.

    Raises:
        FormatError: the archive is broken, or could harm whoever unpacks it.
    """
    tree: Tree
    if path.is_dir():
        tree = Folder(path)
    elif not path.is_file():  # a pipe would never end, and a device neither
        if path.exists():
            raise UsageError(f"{path} is neither a file nor a folder")
        raise UsageError(f"no such file or folder: {path}")
    elif zipfile.is_zipfile(path):
        tree = Zip(path)
    elif _begins_a_zip(path):
        raise FormatError(
            "the archive is cut short: its list of files, which stands at its end, is not there",
            path=path.name,
            hint="export or download it again",
        )
    else:
        tree = Folder(path.parent, only=(path.name,), label=path.name)
    try:
        yield tree
    finally:
        tree.close()


def _begins_a_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


class Folder:
    """A folder, or chosen files of one. Links that lead out of it are refused."""

    def __init__(self, root: Path, *, only: tuple[str, ...] = (), label: str = "") -> None:
        self._root = root.resolve()
        self._only = only
        self._names: Sequence[str] | None = None  # as they were when first asked for
        self._checked = {""}  # folders that lie within
        self.label = label or self._root.name

    def names(self) -> Sequence[str]:
        if self._names is None:
            self._names = self._only or self._walk()
        return self._names

    def _walk(self) -> list[str]:
        found, links = [], 0
        for folder, folders, files in os.walk(self._root, followlinks=True):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            inner = folder[len(str(self._root)) :]
            for name in folders:
                if os.path.islink(f"{folder}/{name}"):  # noqa: PTH114
                    links += 1
                    self._check_link(folder, f"{inner}/{name}".lstrip("/"), links)
            for file in files:
                if not file.startswith("."):
                    found.append(f"{inner}/{file}".lstrip("/"))
        return sorted(found)

    def _check_link(self, folder: str, name: str, number: int) -> None:
        """Whoever follows a link to a folder must stay in the tree, and come to an end."""
        target = Path(os.path.realpath(self._root / name))
        if not target.is_relative_to(self._root):
            raise FormatError("a link leads out of the folder", path=name, code="I109")
        above = {Path(os.path.realpath(p)) for p in (Path(folder), *Path(folder).parents)}
        if target in above or number > _MAX_LINKS:
            raise FormatError("links to folders lead round in circles", path=name, code="I109")

    def size(self, name: str) -> int:
        return os.stat(self._inside(name)[0]).st_size  # noqa: PTH116

    def open(self, name: str) -> BinaryIO:
        return open(self._regular(name), "rb")  # noqa: PTH123

    def read(self, name: str, limit: int) -> bytes:
        descriptor = os.open(self._regular(name), os.O_RDONLY)  # a third of what a stream costs
        try:
            return _read_limited(partial(os.read, descriptor), limit)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        pass

    def _regular(self, name: str) -> str:
        path, mode = self._inside(name)
        if not stat.S_ISREG(mode):
            raise FormatError("not a regular file", path=name, code="I103")
        return path

    def _inside(self, name: str) -> tuple[str, int]:
        """
        The path of a file, and its mode, 0 where it is not there.

        As text: with pathlib, opening a small file takes twice as long.
        """
        check_path(name)
        folder = name.rpartition("/")[0]
        places = [name]
        while folder not in self._checked:  # each but once
            places.append(folder)
            folder = folder.rpartition("/")[0]
        for place in reversed(places):
            path = f"{self._root}/{place}"
            mode = _mode(os.lstat, path)
            if stat.S_ISLNK(mode):
                # Path.resolve raises where links go round in circles
                if name not in self._only and not Path(os.path.realpath(path)).is_relative_to(
                    self._root
                ):
                    raise FormatError("a link leads out of the folder", path=name, code="I109")
                mode = _mode(os.stat, path)
        self._checked.update(places[1:])
        return path, mode


def _mode(look: Callable[[str], os.stat_result], path: str) -> int:
    """What kind of file stands there; 0 where none does."""
    try:
        return look(path).st_mode
    except (OSError, ValueError):
        return 0


SPARE = "(--images)"  # no safe file name looks like this by chance


class Overlay:
    """A tree, and under `SPARE/` the files of another: pictures that an export lacks."""

    def __init__(self, tree: Tree, spare: Tree) -> None:
        self.label = tree.label
        self._tree = tree
        self._spare = spare

    def names(self) -> Sequence[str]:
        return sorted([*self._tree.names(), *(f"{SPARE}/{n}" for n in self._spare.names())])

    def size(self, name: str) -> int:
        tree, inner = self._home(name)
        return tree.size(inner)

    def open(self, name: str) -> BinaryIO:
        tree, inner = self._home(name)
        return tree.open(inner)

    def read(self, name: str, limit: int) -> bytes:
        tree, inner = self._home(name)
        return tree.read(inner, limit)

    def close(self) -> None:
        """Whoever opened the two closes them."""

    def _home(self, name: str) -> tuple[Tree, str]:
        spare = name.startswith(f"{SPARE}/")
        return (self._spare, name.removeprefix(f"{SPARE}/")) if spare else (self._tree, name)


class Below:
    """A folder of a tree as a tree of its own."""

    def __init__(self, tree: Tree, folder: str) -> None:
        self.label = tree.label
        self._tree = tree
        self._folder = f"{folder}/"

    def names(self) -> Sequence[str]:
        start = len(self._folder)
        return [n[start:] for n in self._tree.names() if n.startswith(self._folder)]

    def size(self, name: str) -> int:
        return self._tree.size(self._folder + name)

    def open(self, name: str) -> BinaryIO:
        return self._tree.open(self._folder + name)

    def read(self, name: str, limit: int) -> bytes:
        return self._tree.read(self._folder + name, limit)

    def close(self) -> None:
        """Whoever opened the whole closes it."""


class Part:
    """Some of a tree's files."""

    def __init__(self, tree: Tree, names: Iterable[str]) -> None:
        self.label = tree.label
        self._tree = tree
        self._names = sorted(names)

    def names(self) -> Sequence[str]:
        return self._names

    def size(self, name: str) -> int:
        return self._tree.size(name)

    def open(self, name: str) -> BinaryIO:
        return self._tree.open(name)

    def read(self, name: str, limit: int) -> bytes:
        return self._tree.read(name, limit)

    def close(self) -> None:
        """Whoever opened the whole closes it."""


def read_limited(stream: BinaryIO, limit: int) -> bytes:
    """All that is left of a stream, but no more than `limit` + 1 bytes, taking no more memory."""
    return _read_limited(stream.read, limit)


def _read_limited(read: Callable[[int], bytes], limit: int) -> bytes:
    blocks, left, size = [], limit + 1, 2**16
    while left and (block := read(min(left, size))):
        blocks.append(block)
        left -= len(block)
        size = _CHUNK
    return b"".join(blocks)


def own_names(tree: Tree) -> list[str]:
    """The files of an export itself, without the pictures laid over it."""
    return [n for n in tree.names() if not n.startswith(f"{SPARE}/")]


class Zip:
    """A zip archive, checked as a whole when it is opened."""

    def __init__(self, path: Path) -> None:
        self.label = path.name
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise FormatError(f"not a readable zip archive: {error}", path=path.name) from error
        try:
            self._members = _checked_members(self._zip.infolist())
        except FormatError as error:
            self._zip.close()
            error.path = ": ".join(p for p in (path.name, error.path) if p)
            raise

    def names(self) -> Sequence[str]:
        return sorted(name for name in self._members if not _is_hidden(name))

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def open(self, name: str) -> BinaryIO:
        try:
            # zipfile stops at the declared size and checks the CRC there
            return io.BufferedReader(_Member(self._zip.open(self._members[name]), name))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            raise FormatError(f"damaged archive: {error}", path=name) from error

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as stream:
            return read_limited(stream, limit)

    def close(self) -> None:
        self._zip.close()


def _is_hidden(name: str) -> bool:
    """Dot files, as in a folder, and what macOS puts beside each file."""
    return name.startswith((".", "__MACOSX/")) or "/." in name


class _Member(io.RawIOBase):
    """A zip member whose damage surfaces as FormatError."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, zlib.error) as error:
            raise FormatError(f"damaged archive member: {error}", path=self._name) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _checked_members(infos: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, or FormatError with the reason to refuse it all."""
    if len(infos) > MAX_ENTRIES:
        raise FormatError(f"{len(infos):,} members, more than {MAX_ENTRIES:,}")
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        name = info.orig_filename
        safe_path(name.removesuffix("/"))
        if info.is_dir():
            continue
        _check_member(info)
        if name in members:
            raise FormatError("two members have this name", path=name)
        members[name] = info
        total += info.file_size
    if total > MAX_UNPACKED:
        raise FormatError(f"unpacks to {total:,} bytes, more than {MAX_UNPACKED:,}")
    _check_overlap(members.values())
    return members


def _check_member(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise FormatError("archive member is a link or a device", path=name)
    if info.flag_bits & 0x1:
        raise FormatError("archive member is encrypted", path=name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError("archive member has an unusual compression", path=name)
    if info.file_size > MAX_MEMBER or (
        info.file_size > _CHUNK and info.file_size > MAX_RATIO * max(info.compress_size, 1)
    ):
        raise FormatError(
            f"{info.compress_size:,} bytes would unpack to {info.file_size:,}: a zip bomb",
            path=name,
        )


def _check_overlap(infos: Iterable[zipfile.ZipInfo]) -> None:
    """Two members over the same bytes are the newest kind of zip bomb (Fifield 2019)."""
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end:
            raise FormatError("archive members overlap: a zip bomb", path=info.orig_filename)
        end = info.header_offset + 30 + info.compress_size  # 30: the least local header


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────


def read_json(stream: BinaryIO, size: int, *, limit: int = MAX_JSON) -> Any:
    """
    Decode one JSON document strictly: UTF-8, no NaN, no Infinity, no trailing data.

    Args:
        size: bytes the stream declares; a larger stream is refused as well.
        limit: bytes to refuse beyond.

    Raises:
        FormatError: J001 where it is not JSON, J006 where it is too large.
    """
    return parse_json(_limited(stream, size, limit))


def read_typed_json(stream: BinaryIO, size: int, kind: type[T], *, limit: int = MAX_JSON) -> T:
    """
    As `read_json`, into a type of msgspec's.

    Raises:
        FormatError: also J002, where the document has other types.
    """
    body = _limited(stream, size, limit)
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"), type=kind)
    except msgspec.ValidationError as error:
        raise FormatError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not valid JSON: {error}", code="J001") from None


def _limited(stream: BinaryIO, size: int, limit: int) -> bytes:
    body = stream.read(min(size, limit) + 1)
    if len(body) > limit:
        raise FormatError(f"more than {limit:,} bytes of JSON", code="J006")
    return body


def parse_json(body: bytes) -> Any:
    """Decode JSON strictly; see `read_json`."""
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise json_error(error, body) from None


_BYTE = re.compile(r" ?\(byte (\d+)\)")


def json_error(error: Exception, body: bytes, at: int = 0) -> FormatError:
    """What msgspec says of `body`, which begins `at` bytes into its file."""
    said = str(error)
    found = _BYTE.search(said)
    place = int(found.group(1)) if found else 0
    if found and re.match(rb"NaN|-?Infinity|nfinity", body[place : place + 9]):
        what = f"NaN and Infinity are no numbers in JSON (byte {at + place})"
        return FormatError(what, code="J004")
    if "out of range" in said:
        return FormatError(f"not valid JSON: {said}", code="J004")
    if found:
        said = f"{said[: found.start()]} (byte {at + place})"
    return FormatError(f"not valid JSON: {said}", code="J001")


def canonical_json(value: Any, *, indent: int | None = None) -> bytes:
    """JSON with sorted keys and no spare space: equal values are equal bytes, everywhere."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(
        value,
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        separators=separators,
        indent=indent,
        default=_plain,
    )
    return (text + ("" if indent is None else "\n")).encode("utf-8")


def fast_json(value: Any) -> bytes:
    """
    JSON of many records: as `canonical_json` without indent, but some times faster.

    Equal values are equal bytes here, too; floats may be spelt otherwise, 1e16 for 1e+16.
    """
    try:
        return _fast.encode(value)
    except (TypeError, ValueError, OverflowError):  # a number beyond 64 bits, an odd mapping
        return canonical_json(value)


_fast = msgspec.json.Encoder(order="sorted")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


# ── digests and writes ───────────────────────────────────────────────────────────────────────


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_plain(path: str | Path) -> io.FileIO | None:
    """Open a regular file; None where there is none, but nothing, or a link, a folder, a pipe."""
    try:
        descriptor = os.open(path, _PLAINLY)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return io.FileIO(descriptor)


def has_digest(path: str | Path, size: int, sha256: str) -> bool:
    """
    Is this a regular file of so many bytes with this hex sha256?

    Of many small files the hash should be all that takes time: pathlib, buffers and locks that
    are let go between them took six times as long.
    """
    stream = open_plain(path)
    if stream is None:
        return False
    with stream:
        if os.fstat(stream.fileno()).st_size != size:
            return False
        if size < _CHUNK:
            return hashlib.sha256(stream.read(size + 1)).hexdigest() == sha256
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


def copy(source: BinaryIO, target: Path, *, limit: int = MAX_MEMBER) -> str:
    """
    Write a stream to a new file and return its sha256.

    Raises:
        FormatError: the stream is longer than `limit`; the file is removed again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    left = limit
    with target.open("xb") as out:
        while block := source.read(_CHUNK):
            left -= len(block)
            if left < 0:
                target.unlink()
                raise FormatError(f"more than {limit:,} bytes", path=target.name)
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def put(path: str | Path, body: bytes, *, new: bool = False) -> None:
    """
    Write a file into a folder that is there: `Path.write_bytes` at a third of its cost.

    Raises:
        FileExistsError: it had to be new, and is not.
    """
    how = os.O_EXCL if new else os.O_TRUNC
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o666)
    try:
        left = memoryview(body)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def write_atomic(path: Path, body: bytes | Iterable[bytes], *, room: Path | None = None) -> None:
    """
    Replace a file as a whole, by bytes or parts of them: one sees the old file or the new.

    Args:
        room: a folder on the same disk where a process that is killed may leave something;
            without it, beside the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = (room or path.parent) / f".{path.name[:100]}.{secrets.token_hex(6)}.part"
    try:
        with part.open("wb") as stream:
            stream.writelines((body,) if isinstance(body, bytes) else body)
            stream.flush()
            os.fsync(stream.fileno())
        failpoint("replace")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def cache_folder() -> Path:
    """PUBLISHER_CACHE, or our part of the user's cache folder by the XDG base directory rule."""
    if own := os.environ.get("PUBLISHER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "publisher"


@contextmanager
def new_folder(path: Path, *, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """
    Fill a folder beside its final place and move it there when all went well.

    An existing folder is replaced only if it is empty or `ours` tells that we wrote it;
    otherwise it may be someone's work.

    Raises:
        UsageError: the folder holds something else.
    """
    path = Path(os.path.abspath(path))  # "." has no name  # noqa: PTH100
    refuse_foreign(path, ours)
    part = path.with_name(f".{path.name}.part")
    with held(path.with_name(f".{path.name}.lock"), path):
        _put_back(path)
        shutil.rmtree(part, ignore_errors=True)  # what a killed command left
        part.mkdir()
        try:
            yield part
            _swap(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def refuse_foreign(path: Path, ours: Callable[[Path], bool]) -> None:
    """
    See to it that `new_folder` may write here, before much work is done for it.

    Raises:
        UsageError: something is there, and it is not ours.
    """
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not ours(path))):
        raise UsageError(
            f"{path} exists and was not written by this command",
            hint="choose another folder, or remove it first",
        )


def holding(marker: str) -> Callable[[Path], bool]:
    """Does a folder hold the file that shows that we wrote it?"""
    return lambda folder: (folder / marker).is_file()


@contextmanager
def held(lock: Path, path: Path) -> Iterator[None]:
    """Keep others from writing `path` meanwhile; a killed process holds nothing."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, lock):
                break  # otherwise its last holder has just removed it
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(f"another command is writing {path}", hint="wait for it") from None
    try:
        yield
    finally:
        lock.unlink()
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Is the open file still the one that has this name?"""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _replaced(path: Path) -> Path:
    """Where the folder that was at `path` is while the new one takes its place."""
    return path.with_name(f".{path.name}.replaced")


def _swap(part: Path, path: Path) -> None:
    if not path.exists():
        part.rename(path)
        return
    old = _replaced(path)
    shutil.rmtree(old, ignore_errors=True)  # the rest of one, after a kill
    path.rename(old)
    try:
        part.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _put_back(path: Path) -> None:
    """Undo what a command that was killed between the two steps of `_swap` has done."""
    if not path.exists() and _replaced(path).exists():
        _replaced(path).rename(path)
