"""
Buckets: the few object-store operations that publishing needs, and nothing more.

The only module that imports boto3, and only once a bucket on S3 is opened: it knows
credentials, regions, endpoints and what is rarely asked. Objects go by `s3_wire`, or by boto3
too where the way is a special one. An object store is no file system: a put is atomic, nobody
sees half an object, and a put may be conditional. Versions rest on the last.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from .errors import (
    AccessDenied,
    FormatError,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    PublisherError,
    StorageError,
    UsageError,
)
from .failpoint import failpoint
from .names import safe_path
from .redaction import hide, redacted
from .versions.version import check_remote
from .wire.s3 import Address, Changed, Intercept, Refused, Slice, Unanswered, Wire, skew_of
from .wire.sigv4 import Credentials

LIMIT = 2**26  # bytes that `get` reads unless told otherwise
BLOCK = 2**20  # bytes that `read` yields at a time
MAX_PUT = 2**30  # bytes of one S3 put; more goes up in parts, and a part is what is sent again
MAX_OBJECT = 5 * 2**40  # bytes, says S3
TIMEOUTS = (10.0, 60.0)  # seconds to connect, and for the next byte; tests wait less
_PART, _MAX_PARTS = 2**26, 10_000
PROBE_KEY = "publisher.json"
_PROBE = b'{"layout":"docs/bucket.md","schema":"publisher/bucket/1"}\n'


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a bucket says of an object without sending it."""

    key: str
    size: int  # bytes
    etag: str  # opaque; compare, never parse
    sha256: str | None = None  # hex, where the bucket knows it
    modified: float | None = None  # seconds since 1970 by the bucket's clock; `put` may not say


class Bucket(Protocol):
    """
    A flat map from keys to bytes. Keys are safe relative paths (`names.safe_path`).

    `put` replaces by default. With `if_absent` it creates or raises ObjectExists; with
    `if_match` it replaces that very etag or raises PreconditionFailed. `sha256`, in hex, is
    what the body should have: anything else is not stored and raises IntegrityError. Who puts a
    file and gets another sha256 back, or none, cannot rely on that.
    """

    @property
    def url(self) -> str:
        """What people call it: s3://bucket/prefix, file:///path."""

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        """All bytes of an object; IntegrityError where it has more than `limit`."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of an object from `start`, at most `length` of them, block by block."""

    def head(self, key: str) -> ObjectInfo: ...

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        sha256: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,
        cache_control: str | None = None,
    ) -> ObjectInfo: ...

    def copy(self, source: str, key: str, *, sha256: str) -> ObjectInfo:
        """
        Store the bytes of an object once more, without sending them; replaces.

        IntegrityError where they are found not to have `sha256`. Some buckets cannot tell, and
        give no sha256 back: then it is not known what was copied.
        """

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Key and size of every object whose key begins with `prefix`, sorted by key."""

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The next part of all keys that begin with `prefix` and go on below it, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; it may be gone already."""


def open_bucket(
    remote: str, *, endpoint_url: str | None = None, profile: str | None = None
) -> Bucket:
    """
    Open `s3://bucket[/prefix]` or `file:///path`. Nothing is asked of a server yet.

    Args:
        endpoint_url: of an S3-compatible server; otherwise what boto3 finds (AWS_ENDPOINT_URL).
        profile: of the AWS configuration; otherwise what boto3 finds (AWS_PROFILE).

    Raises:
        UsageError: no bucket can be called this.
    """
    check_remote(remote)
    scheme, _, rest = remote.partition("://")
    if scheme == "file":
        return LocalBucket(unquote(rest))
    name, _, prefix = rest.partition("/")
    return _open_s3(name, prefix.strip("/"), endpoint_url, profile)


def require_conditional_writes(bucket: Bucket) -> None:
    """
    Prove that the bucket honours If-None-Match and If-Match, by three small puts.

    Some servers answer 200 to both and overwrite: there two maintainers could publish
    different contents as one version. All puts have the same bytes, so a server that fails
    is left as it was.

    Raises:
        StorageError: it ignores them.
    """
    with suppress(ObjectExists):
        bucket.put(PROBE_KEY, _PROBE, if_absent=True)
    try:
        bucket.put(PROBE_KEY, _PROBE, if_absent=True)
    except ObjectExists:
        try:
            bucket.put(PROBE_KEY, _PROBE, if_match='"00000000000000000000000000000000"')
        except PreconditionFailed:
            return
        raise _unsafe(bucket, "If-Match") from None
    raise _unsafe(bucket, "If-None-Match")


def _unsafe(bucket: Bucket, header: str) -> StorageError:
    return StorageError(
        f"{bucket.url} ignores {header}, so two people could publish one version",
        hint="upgrade the server, or publish to one with conditional writes "
        "(AWS S3, R2, SeaweedFS, MinIO since 2025, a local folder)",
    )


# ── in memory ────────────────────────────────────────────────────────────────────────────────


class MemoryBucket:
    """A bucket in a dict, for tests and trials."""

    url = "memory:"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._objects: dict[str, bytes] = {}
        self._times: dict[str, float] = {}
        self._clock = clock
        self._lock = threading.Lock()

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        body = self._body(key)
        if len(body) > limit:
            raise _too_large(self.url, key, limit)
        return body

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        body = self._body(key)[start:]
        body = body if length is None else body[:length]
        return (body[i : i + BLOCK] for i in range(0, len(body), BLOCK))

    def head(self, key: str) -> ObjectInfo:
        return _info(key, self._body(key), self._times.get(key, 0.0))

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        sha256: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,  # noqa: ARG002  nobody asks for it here
        cache_control: str | None = None,  # noqa: ARG002
    ) -> ObjectInfo:
        body = body.read_bytes() if isinstance(body, Path) else body
        _check_body(body, sha256, key)
        with self._lock:
            old = self._objects.get(_checked(key))
            if if_absent and old is not None:
                raise ObjectExists(f"{self.url} has {key} already")
            if if_match is not None and (old is None or _info(key, old).etag != if_match):
                raise _changed(self.url, key)
            self._objects[key], self._times[key] = body, self._clock()
        return _info(key, body)

    def copy(self, source: str, key: str, *, sha256: str) -> ObjectInfo:
        return self.put(key, self._body(source), sha256=sha256)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for key, body in sorted(self._objects.copy().items()):
            if key.startswith(prefix):
                etag, time = _info(key, body).etag, self._times.get(key, 0.0)
                yield ObjectInfo(key, len(body), etag, modified=time)

    def folders(self, prefix: str) -> tuple[str, ...]:
        below = (k.removeprefix(prefix) for k in self._objects.copy() if k.startswith(prefix))
        return tuple(sorted({rest.partition("/")[0] for rest in below if "/" in rest}))

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def _body(self, key: str) -> bytes:
        try:
            return self._objects[_checked(key)]
        except KeyError:
            raise ObjectNotFound(f"no object {key} in {self.url}") from None


def _info(key: str, body: bytes, modified: float | None = None) -> ObjectInfo:
    digest = hashlib.sha256(body).hexdigest()
    return ObjectInfo(key, len(body), f'"{digest}"', digest, modified)


# ── in a folder ──────────────────────────────────────────────────────────────────────────────


class LocalBucket:
    """
    A bucket in a folder, on a disk or a share: the same guarantees without a server.

    Objects are written to `.publisher-tmp` beside them, synced, and moved into place, so
    nobody sees or lists half an object, even after a power cut.
    """

    _TMP = ".publisher-tmp"
    _SMALL = 2**16  # bytes up to which `head` reads and hashes; every channel is smaller

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()
        self.url = self._root.as_uri()

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        with self._errors(key), self._path(key).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size  # read(n) takes n bytes, whatever is there
            body = stream.read(min(size, limit) + 1)
        if len(body) > limit:
            raise _too_large(self.url, key, limit)
        return body

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        with self._errors(key), self._path(key).open("rb") as stream:
            stream.seek(start)
            left = 2**63 if length is None else length
            while block := stream.read(min(BLOCK, left)):
                left -= len(block)
                yield block

    def head(self, key: str) -> ObjectInfo:
        with self._errors(key):
            return self._head(key, self._path(key))

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        sha256: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,  # noqa: ARG002  a folder keeps none
        cache_control: str | None = None,  # noqa: ARG002
    ) -> ObjectInfo:
        path, tmp = self._path(key), self._root / self._TMP / secrets.token_hex(16)
        with self._errors(key):
            tmp.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_synced(tmp, body, sha256, key)
                with self._locked():
                    if if_match is not None:
                        self._check_match(key, path, if_match)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _install(tmp, path, create=if_absent)
                    stored = self._head(key, path)
                    return stored if stored.sha256 else replace(stored, sha256=sha256)
            except FileExistsError:
                raise ObjectExists(f"{self.url} has {key} already") from None
            finally:
                tmp.unlink(missing_ok=True)

    def copy(self, source: str, key: str, *, sha256: str) -> ObjectInfo:
        with self._errors(source):
            if not self._path(source).is_file():
                raise FileNotFoundError
        return replace(self.put(key, self._path(source), sha256=sha256), sha256=sha256)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._errors(prefix):
            keys = sorted(k for k in self._keys(prefix) if k.startswith(prefix))
        for key in keys:
            with suppress(FileNotFoundError):  # deleted since
                stat = (self._root / key).stat()
                yield ObjectInfo(key, stat.st_size, "", modified=stat.st_mtime)

    def folders(self, prefix: str) -> tuple[str, ...]:
        place = self._root / safe_path(prefix.rstrip("/")) if prefix else self._root
        with self._errors(prefix), suppress(FileNotFoundError):
            found = sorted(p.name for p in place.iterdir() if p.is_dir() and p.name != self._TMP)
            return tuple(name for name in found if any((place / name).iterdir()))
        return ()

    def delete(self, key: str) -> None:
        with self._errors(key), self._locked():
            self._path(key).unlink(missing_ok=True)

    def _keys(self, prefix: str) -> Iterator[str]:
        start = self._root
        if "/" in prefix:
            start /= safe_path(prefix.rpartition("/")[0])
        for folder, folders, files in os.walk(start):
            if self._TMP in folders:
                folders.remove(self._TMP)
            for file in files:
                yield Path(folder, file).relative_to(self._root).as_posix()

    def _path(self, key: str) -> Path:
        if _checked(key).split("/")[0] == self._TMP:
            raise UsageError(f"keys cannot begin with {self._TMP}")
        return self._root / key

    def _head(self, key: str, path: Path) -> ObjectInfo:
        stat = path.stat()
        if not path.is_file():
            raise FileNotFoundError
        if stat.st_size <= self._SMALL:
            return _info(key, path.read_bytes(), stat.st_mtime)
        etag = f'"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}"'
        return ObjectInfo(key, stat.st_size, etag, modified=stat.st_mtime)

    def _check_match(self, key: str, path: Path, etag: str) -> None:
        with suppress(FileNotFoundError):
            if self._head(key, path).etag == etag:
                return
        raise _changed(self.url, key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, of this process and others; readers never wait."""
        import fcntl  # not on Windows, where the rest of this module still loads

        self._root.joinpath(self._TMP).mkdir(parents=True, exist_ok=True)
        with (self._root / self._TMP / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (StorageError, FormatError, IntegrityError, UsageError):
            raise
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectNotFound(f"no object {key} in {self.url}") from None
        except PermissionError as error:
            raise AccessDenied(f"{self.url}: may not touch {key}") from error
        except OSError as error:
            raise StorageError(
                f"{self.url}: {key}: {error.strerror}",
                hint="run the same command again: it goes on",
            ) from error


def _write_synced(path: Path, body: bytes | Path, sha256: str | None, key: str) -> None:
    digest = hashlib.sha256()
    with path.open("xb") as out:
        if isinstance(body, bytes):
            digest.update(body)
            out.write(body)
        else:
            with body.open("rb") as source:
                while block := source.read(BLOCK):
                    digest.update(block)
                    out.write(block)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise _wrong_body(key)
        out.flush()
        os.fsync(out.fileno())


def _install(tmp: Path, path: Path, *, create: bool) -> None:
    failpoint("link")
    if create:
        os.link(tmp, path)  # atomic, and fails where the name is taken
    else:
        os.replace(tmp, path)
    failpoint("after-link")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too must survive a power cut, before what rests on it
    finally:
        os.close(folder)


# ── on S3 ────────────────────────────────────────────────────────────────────────────────────


class S3Bucket:
    """
    A bucket on S3 or a server that speaks it, or the part of one under a prefix.

    Args:
        wire: the way that objects take; without it all goes by boto3's client.
    """

    def __init__(
        self, client: Any, name: str, prefix: str = "", *, wire: Wire | None = None
    ) -> None:
        self._client = client
        self._name = name
        self._prefix = f"{prefix}/" if prefix else ""
        self._path: Wire | _Boto = wire or _Boto(client, name)
        self.url = f"s3://{name}" + (f"/{prefix}" if prefix else "")

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        body = bytearray()
        for block in self.read(key):
            body += block
            if len(body) > limit:
                raise _too_large(self.url, key, limit)
        return bytes(body)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            return
        stop = None if length is None else start + length
        with self._errors(key):
            try:
                with closing(self._path.get(self._key(key), start=start, stop=stop)) as blocks:
                    yield from blocks
            except Refused as refused:
                if refused.code not in {"InvalidRange", "416"}:  # `start` is the end
                    raise

    def head(self, key: str) -> ObjectInfo:
        with self._errors(key):
            headers = self._headers(self._key(key))
        size = headers.get("content-length", "")
        if not size.isdecimal():
            raise StorageError(f"{self.url} does not say how large {key} is")
        etag, modified = headers.get("etag", ""), _moment(headers.get("last-modified", ""))
        return ObjectInfo(key, int(size), etag, _sha256_in(headers), modified)

    def _headers(self, key: str) -> Mapping[str, str]:
        """The headers of an object. An answer to HEAD has no body to say why there are none."""
        asked = {"x-amz-checksum-mode": "ENABLED"}
        try:
            return self._path.head(key, asked)
        except Refused as refused:
            if refused.code != "400":  # among others, credentials that have expired
                raise
        with closing(self._path.get(key, start=0, stop=1)) as blocks:
            next(blocks, None)
        return self._path.head(key, asked)  # they were renewed, for the other request

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        sha256: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,
        cache_control: str | None = None,
    ) -> ObjectInfo:
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        if size > MAX_OBJECT:
            raise UsageError(f"{key}: S3 takes no object above 5 TiB")
        told = {"content-type": content_type, "cache-control": cache_control}
        headers = {name: value for name, value in told.items() if value is not None}
        condition = {"if-none-match": "*"} if if_absent else {}
        if if_match is not None:
            condition["if-match"] = if_match
        if isinstance(body, bytes):
            digest = hashlib.sha256(body).hexdigest()
            if sha256 not in {None, digest}:
                raise _wrong_body(key)
        else:
            digest = sha256 or _digest(body)
        with self._errors(key, right="write", if_absent=if_absent, if_match=if_match):
            if isinstance(body, Path) and size > MAX_PUT:
                etag = self._put_parts(key, Slice(body, 0, size, digest), headers, condition)
            else:
                what = body if isinstance(body, bytes) else Slice(body, 0, size, digest)
                answer = self._path.put(self._key(key), what, headers | condition, sha256=digest)
                etag = answer.get("etag", "")
        compared = isinstance(body, bytes) or isinstance(self._path, Wire)  # boto3 only promises
        return ObjectInfo(key, size, etag, digest if compared else None)

    def copy(self, source: str, key: str, *, sha256: str) -> ObjectInfo:
        what = {"Bucket": self._name, "Key": self._key(source)}
        where = {"Bucket": self._name, "Key": self._key(key), "ChecksumAlgorithm": "SHA256"}
        with self._errors(source, right="write"), _boto_errors():
            self._client.copy_object(CopySource=what, **where)
        copied = self.head(key)
        if copied.sha256 not in {None, sha256}:
            raise _wrong_body(key)
        return copied

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors(f"the list of {prefix or 'objects'}", right="list"), _boto_errors():
            for page in pages.paginate(Bucket=self._name, Prefix=self._prefix + prefix):
                for o in page.get("Contents", ()):
                    key, modified = o["Key"].removeprefix(self._prefix), o["LastModified"]
                    yield ObjectInfo(key, o["Size"], o["ETag"], modified=modified.timestamp())

    def folders(self, prefix: str) -> tuple[str, ...]:
        pages, full = self._client.get_paginator("list_objects_v2"), self._prefix + prefix
        found: set[str] = set()
        with self._errors(f"the list of {prefix or 'folders'}", right="list"), _boto_errors():
            for page in pages.paginate(Bucket=self._name, Prefix=full, Delimiter="/"):
                found |= {p["Prefix"][len(full) : -1] for p in page.get("CommonPrefixes", ())}
        return tuple(sorted(found))

    def delete(self, key: str) -> None:
        with self._errors(key, right="delete"), _boto_errors():
            self._client.delete_object(Bucket=self._name, Key=self._key(key))

    def _key(self, key: str) -> str:
        return self._prefix + _checked(key)

    def _put_parts(
        self, key: str, whole: Slice, headers: Mapping[str, str], condition: Mapping[str, str]
    ) -> str:
        """
        Send a large file in parts, which is atomic too: the last request makes it an object.

        A server keeps no sha256 of an object that came in parts, only of each part; that of the
        whole, which was compared before the last request, is kept as metadata.
        """
        self._check_condition(key, condition)  # before sending it all; and once more at the end
        at = {"Bucket": self._name, "Key": self._key(key)}
        with _boto_errors():
            upload = self._client.create_multipart_upload(
                **at,
                **_as_arguments(headers),
                ChecksumAlgorithm="SHA256",
                Metadata={_KEPT: whole.sha256},
            )
        at["UploadId"] = upload["UploadId"]
        try:
            parts = [self._put_part(at, n, part) for n, part in _parts(whole)]
            failpoint("put-whole")
            with _boto_errors():
                done = self._client.complete_multipart_upload(
                    **at, **_as_arguments(condition), MultipartUpload={"Parts": parts}
                )
            failpoint("after-put-whole")
        except BaseException:
            with suppress(Refused, Unanswered), _boto_errors():
                self._client.abort_multipart_upload(**at)
            raise
        return str(done["ETag"])

    def _check_condition(self, key: str, condition: Mapping[str, str]) -> None:
        if not condition:
            return
        etag = None
        with suppress(ObjectNotFound):
            etag = self.head(key).etag
        if "if-none-match" in condition and etag is not None:
            raise ObjectExists(f"{self.url} has {key} already")
        if condition.get("if-match", etag) != etag:
            raise _changed(self.url, key)

    def _put_part(self, at: Mapping[str, str], number: int, part: Slice) -> dict[str, Any]:
        query = {"partNumber": str(number), "uploadId": at["UploadId"]}
        failpoint("put-part")
        answer = self._path.put(at["Key"], part, {}, sha256=part.sha256, query=query)
        checksum = _base64(part.sha256)
        return {"PartNumber": number, "ETag": answer.get("etag", ""), "ChecksumSHA256": checksum}

    @contextmanager
    def _errors(
        self,
        key: str,
        *,
        right: str = "read",
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> Iterator[None]:
        """Turn what the ways to S3 raise into our errors, keeping the cause, never a secret."""
        try:
            yield
        except Refused as refused:
            code = refused.code
            if code in {"PreconditionFailed", "412"} and if_absent:
                raise ObjectExists(f"{self.url} has {key} already") from refused
            gone = code in {"NoSuchKey", "NotFound", "404"}
            if code in {"PreconditionFailed", "412"} or (gone and if_match is not None):
                raise _changed(self.url, key) from refused
            raise self._translated(refused, key, right) from refused
        except Unanswered as unanswered:
            raise self._unsent(unanswered.kind, key) from unanswered
        except Changed as changed:
            raise _wrong_body(key) from changed

    def _translated(self, refused: Refused, key: str, right: str) -> Exception:
        """What a server's answer means. Its text may repeat credentials, so it stays out."""
        code = refused.code
        if code == "NoSuchBucket":
            return ObjectNotFound(
                f"no bucket {self.url}", hint="check its name, the endpoint and the profile"
            )
        if code in {"NoSuchKey", "NotFound", "404"}:
            return ObjectNotFound(f"no object {key} in {self.url}")
        if code in {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}:
            return _wrong_body(key)
        if code == "RequestTimeTooSkewed":
            return StorageError(
                f"{self.url}: this machine's clock is {_skew(refused.skew)} the server's",
                hint="set this machine's clock",
            )
        if refused.status in {301, 302, 307, 308} or code == "AuthorizationHeaderMalformed":
            return StorageError(
                f"{self.url}: the bucket is in another region ({code})",
                hint="set AWS_DEFAULT_REGION to the bucket's region; check --endpoint-url",
            )
        if code in {*_DENIED, "AccessDenied"} or refused.status in {401, 403}:
            hint = _DENIED.get(code, f"ask the bucket's owner for the right to {right} it")
            if not self._signs():
                hint = "no credentials were found: set AWS_* variables, or use --profile"
            return AccessDenied(f"{self.url}: access denied ({code}) to {key}", hint=hint)
        return StorageError(f"{self.url}: {code} at {key}", hint="run the same command again")

    def _unsent(self, kind: str, key: str) -> Exception:
        """What botocore's refusal to ask, or a broken connection, means."""
        if "Credential" in kind or kind in {"ProfileNotFound", "TokenRetrievalError"}:
            return AccessDenied(
                f"{self.url}: no usable credentials ({kind})",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --profile",
            )
        if kind == "ParamValidationError":
            return UsageError(f"{self.url} cannot be the name of a bucket")
        host = urlsplit(self._client.meta.endpoint_url).hostname
        return StorageError(
            f"{self.url}: no answer from {host} ({kind}) at {key}",
            hint="check the network and --endpoint-url, then run the same command again",
        )

    def _signs(self) -> bool:
        return isinstance(self._client.meta.config.signature_version, str)


_KEPT = "sha256"  # the name of the metadata that keeps it

_DENIED = {
    "InvalidAccessKeyId": "the server does not know this access key; check AWS_ACCESS_KEY_ID, "
    "the profile and the endpoint",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session has expired; log in again",
    "InvalidToken": "the session token is wrong; check AWS_SESSION_TOKEN",
    "AllAccessDisabled": "the bucket's owner has switched it off",
}


def _parts(whole: Slice) -> Iterator[tuple[int, Slice]]:
    """
    Number and bytes of each part; the same file always has the same parts.

    Raises:
        Changed: the file is not what was promised; nothing but the last part is missing then.
    """
    size = max(_PART, -(-whole.size // _MAX_PARTS))
    all_of_it = hashlib.sha256()
    with whole.path.open("rb") as stream:
        for number, start in enumerate(range(0, whole.size, size), 1):
            length, digest = min(size, whole.size - start), hashlib.sha256()
            for at in range(0, length, BLOCK):
                block = stream.read(min(BLOCK, length - at))
                digest.update(block)
                all_of_it.update(block)
            if start + length == whole.size and all_of_it.hexdigest() != whole.sha256:
                raise Changed
            yield number, Slice(whole.path, start, length, digest.hexdigest())


# ── the way that objects take ────────────────────────────────────────────────────────────────


class _Boto:
    """boto3's client in the shape of a Wire, for ways that a Wire does not know."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def head(self, key: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        with _boto_errors():
            return _headers_of(
                self._client.head_object(Bucket=self._name, Key=key, **_as_arguments(headers))
            )

    def get(
        self, key: str, *, start: int = 0, stop: int | None = None
    ) -> Generator[bytes, None, None]:
        extra = {}
        if start or stop is not None:
            extra["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        with _boto_errors():
            answer = self._client.get_object(Bucket=self._name, Key=key, **extra)
            with closing(answer["Body"]) as stream:
                yield from stream.iter_chunks(BLOCK)

    def put(
        self,
        key: str,
        body: bytes | Slice,
        headers: Mapping[str, str],
        *,
        sha256: str,
        query: Mapping[str, str] | None = None,
    ) -> Mapping[str, str]:
        arguments: dict[str, Any] = {"Bucket": self._name, "Key": key, **_as_arguments(headers)}
        arguments["ChecksumSHA256"] = _base64(sha256)
        with _stream(body) as stream, _boto_errors():
            if query:
                part = {"PartNumber": int(query["partNumber"]), "UploadId": query["uploadId"]}
                return _headers_of(self._client.upload_part(Body=stream, **arguments, **part))
            return _headers_of(self._client.put_object(Body=stream, **arguments))


def _as_arguments(headers: Mapping[str, str]) -> dict[str, str]:
    names = {
        "cache-control": "CacheControl",
        "content-type": "ContentType",
        "if-match": "IfMatch",
        "if-none-match": "IfNoneMatch",
        "x-amz-checksum-mode": "ChecksumMode",
    }
    return {names[name]: value for name, value in headers.items()}


def _headers_of(answer: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers


@contextmanager
def _stream(body: bytes | Slice) -> Iterator[bytes | BinaryIO]:
    if isinstance(body, bytes):
        yield body
        return
    with body.path.open("rb") as stream:
        whole = os.fstat(stream.fileno()).st_size == body.size
        stream.seek(body.start)
        yield stream if whole else stream.read(body.size)


@contextmanager
def _boto_errors() -> Iterator[None]:
    """What boto3 and all below it raise, as a Wire would say it."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        answer = error.response.get("ResponseMetadata", {})
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        code = code if _CODE.fullmatch(code) else "unknown"
        skew = skew_of(answer.get("HTTPHeaders", {}))
        # without its cause, whose text is the server's and may repeat credentials
        raise Refused(answer.get("HTTPStatusCode", 0), redacted(code), skew) from None
    except RecursionError:  # botocore asks where a bucket is by what is redirected again
        raise Unanswered("TooManyRedirects") from None
    except (BotoCoreError, HTTPError, OSError) as error:
        if isinstance(error, PublisherError):
            raise
        raise Unanswered(type(error).__name__) from None  # it may say a proxy's password


_CODE = re.compile("[A-Za-z0-9]{1,64}")


def _open_s3(name: str, prefix: str, endpoint_url: str | None, profile: str | None) -> S3Bucket:
    client, session = _client(endpoint_url, profile)
    return S3Bucket(client, name, prefix, wire=_wire(client, session, name))


def _wire(client: Any, session: Any, name: str) -> Wire | None:
    """A Wire that does as this client would, or None where that takes more than a Wire knows."""
    import ssl

    from botocore.httpsession import get_cert_path
    from botocore.utils import get_environ_proxies

    address, config = _address(client, name), client.meta.config
    if address is None or config.client_cert is not None:
        return None
    if config.proxies or get_environ_proxies(address.url):
        return None
    tls = None
    if address.url.startswith("https:"):
        bundle = session.get_config_variable("ca_bundle") or True
        try:
            tls = ssl.create_default_context(cafile=get_cert_path(bundle))
        except OSError as error:
            raise UsageError(
                "the file of trusted certificates cannot be used", hint="check AWS_CA_BUNDLE"
            ) from error

    def relocate() -> Address | None:
        with suppress(Refused, Unanswered), _boto_errors():
            client.head_bucket(Bucket=name)  # boto3 follows, and remembers where to
        return _address(client, name)

    return Wire(
        address,
        credentials=_signer(session.get_credentials()),
        intercept=_interceptor(client),
        relocate=relocate,
        tls=tls,
        timeouts=(config.connect_timeout, config.read_timeout),
    )


def _address(client: Any, name: str) -> Address | None:
    """
    Where botocore would send a request for an object, and how it would sign it.

    A request is made up to the moment of signing, and dropped. None for buckets that want more
    than a plain signature, such as S3 Express, and where a plugin adds to requests.
    """
    from botocore.exceptions import BotoCoreError

    probe = secrets.token_hex(16)
    found: list[Address | None] = []

    def catch(request: Any, signature_version: Any, **_: Any) -> None:
        if not request.url.endswith(f"/{probe}"):
            return
        url, signing = request.url.removesuffix(f"/{probe}"), request.context.get("signing", {})
        plain = {header.lower() for header in request.headers} <= {"user-agent"}
        if not isinstance(signature_version, str):
            found.append(Address(url, None) if plain else None)
        elif request.context.get("auth_type") == signature_version == "s3v4":
            region = signing.get("region") if signing.get("signing_name") == "s3" else None
            found.append(Address(url, region) if plain and region else None)
        raise _Caught

    event = "before-sign.s3.HeadObject"
    client.meta.events.register_first(event, catch, unique_id=probe)
    try:
        with suppress(_Caught, BotoCoreError):  # a name that no bucket can have is said later
            client.head_object(Bucket=name, Key=probe)
    finally:
        client.meta.events.unregister(event, unique_id=probe)
    return found[0] if found else None


class _Caught(Exception):
    """The request was seen, and need not be sent."""


def _signer(found: Any) -> Callable[[], Credentials]:
    """Credentials as they are now: botocore renews those of a session before they expire."""

    def credentials() -> Credentials:
        try:
            now = found.get_frozen_credentials()
        except Exception:
            with _boto_errors():
                raise
        if not (now.access_key and now.secret_key):
            raise Unanswered("NoCredentialsError")
        hide(now.access_key, now.secret_key, now.token)
        return Credentials(now.access_key, now.secret_key, now.token)

    return credentials


def _interceptor(client: Any) -> Intercept:
    """Let botocore's `before-send` handlers answer first: moto is one, and so are test faults."""
    from botocore.awsrequest import AWSPreparedRequest, HeadersDict
    from botocore.exceptions import BotoCoreError

    def intercept(operation: str, method: str, url: str, headers: Any, body: Any) -> Any:
        request = AWSPreparedRequest(method, url, HeadersDict(headers), body, False)
        try:
            answers = client.meta.events.emit(f"before-send.s3.{operation}", request=request)
        except BotoCoreError as error:
            raise ConnectionError(type(error).__name__) from error
        for _, answer in answers:
            if answer is not None:
                return answer.status_code, answer.headers, answer.content
        return None

    return intercept


def _client(endpoint_url: str | None, profile: str | None) -> tuple[Any, Any]:
    """
    A boto3 client for threads, and botocore's session that it came from.

    It does not sign where there are no credentials, for public data.
    """
    import boto3
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        signature_version="s3v4",  # conditional writes need it
        # no aws-chunked trailers, which R2 and others refuse: we send the sha256 as a header
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=TIMEOUTS[0],
        read_timeout=TIMEOUTS[1],
        max_pool_connections=32,
    )
    hide()
    try:
        core = botocore.session.Session(profile=profile)
        session = boto3.Session(botocore_session=core)
        if session.get_credentials() is None:
            config = config.merge(Config(signature_version=UNSIGNED))
        client = session.client("s3", endpoint_url=endpoint_url, config=config)
        if _needs_path_style(client):
            config = config.merge(Config(s3={"addressing_style": "path"}))
            client = session.client("s3", endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise UsageError(
            f"no S3 client can be made ({type(error).__name__})",
            hint="check the profile, the region and the endpoint URL",
        ) from None  # an endpoint may hold a password
    client.meta.events.register_first("before-sign", _hide_signer)
    hide()
    return client, core


def _hide_signer(request_signer: Any, **_: Any) -> None:
    """botocore logs what it signs."""
    if (found := request_signer._credentials) is not None:
        now = found.get_frozen_credentials()
        hide(now.access_key, now.secret_key, now.token)


def _needs_path_style(client: Any) -> bool:
    """Few servers of one's own answer at bucket.host; a choice in the AWS configuration wins."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    chosen = (client.meta.config.s3 or {}).get("addressing_style", "auto")
    return chosen == "auto" and ".amazonaws.com" not in host


def _sha256_in(headers: Mapping[str, str]) -> str | None:
    """Our metadata, or the checksum a server keeps; for parts its checksum is not of the object."""
    kept, text = headers.get(f"x-amz-meta-{_KEPT}"), headers.get("x-amz-checksum-sha256")
    if kept or not text or "-" in text or headers.get("x-amz-checksum-type") == "COMPOSITE":
        return kept
    return base64.b64decode(text).hex()


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _skew(seconds: float | None) -> str:
    """How this machine's clock stands to a server's: `3 min ahead of`."""
    if seconds is None:
        return "too far from"
    size, side = abs(seconds), "ahead of" if seconds > 0 else "behind"
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if size >= 2 * length:
            return f"{size / length:.0f} {unit} {side}"
    return f"{size:.0f} s {side}"


# ── what `doctor` asks ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks a server, as far as may be shown: never a secret, never a whole key."""

    endpoint: str  # host only
    key: str | None = (
        None  # the last characters of the access key; None where requests are unsigned
    )
    source: str | None = None  # where boto3 found it: env, shared-credentials-file, …
    arn: str | None = None  # what AWS calls it


def caller_of(bucket: Bucket) -> Caller | None:
    """Who we are to a bucket; None where it is a folder."""
    if not isinstance(bucket, S3Bucket):
        return None
    client = bucket._client
    host = urlsplit(client.meta.endpoint_url).hostname or "?"
    found = client._request_signer._credentials
    if found is None or not bucket._signs():
        return Caller(host)
    frozen = found.get_frozen_credentials()
    hide(frozen.access_key, frozen.secret_key, frozen.token)
    arn = _arn_of(client.meta.region_name, frozen) if host.endswith(".amazonaws.com") else None
    key = frozen.access_key
    return Caller(host, f"…{key[-4:]}" if len(key) >= 16 else "…", found.method, arn)


def _arn_of(region: str, credentials: Any) -> str | None:
    """What AWS calls the holder of these; None where it does not say."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    with suppress(BotoCoreError, ClientError):
        sts = boto3.client(
            "sts",
            region_name=region,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            aws_session_token=credentials.token,
            config=Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1}),
        )
        return str(sts.get_caller_identity()["Arn"])
    return None


def clock_skew(bucket: Bucket) -> float | None:
    """Seconds that this machine's clock is ahead of the server's; None where it does not say."""
    if not isinstance(bucket, S3Bucket):
        return None
    said = _server_says(bucket)
    return None if said is None else _now() - said


def server_time(bucket: Bucket) -> float:
    """The time by a bucket's clock, in seconds since 1970; ours where it does not say."""
    if isinstance(bucket, MemoryBucket):
        return bucket._clock()
    said = _server_says(bucket) if isinstance(bucket, S3Bucket) else None
    return _now() if said is None else said


def _server_says(bucket: S3Bucket) -> float | None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = bucket._client.head_bucket(Bucket=bucket._name)
    except ClientError as error:
        answer = error.response
    except (BotoCoreError, RecursionError):
        return None
    return _moment(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", ""))


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _moment(text: str) -> float | None:
    """Seconds since 1970 of a date as HTTP writes it."""
    try:
        return parsedate_to_datetime(str(text)).timestamp()
    except (TypeError, ValueError):
        return None


def refuses_wrong_bytes(bucket: Bucket, key: str) -> bool:
    """
    Does a bucket compare what arrives with the sha256 that was promised? Puts a small object.

    Raises:
        StorageError: it refused for another reason.
    """
    body, promised = b"what was sent", hashlib.sha256(b"what was promised").hexdigest()
    if not isinstance(bucket, S3Bucket):
        with suppress(IntegrityError):
            bucket.put(key, body, sha256=promised)
            return False
        return True
    from botocore.exceptions import ClientError  # our own way would not send such a thing

    checksum = base64.b64encode(bytes.fromhex(promised)).decode()
    at = {"Bucket": bucket._name, "Key": bucket._prefix + _checked(key)}
    try:
        bucket._client.put_object(**at, Body=body, ChecksumSHA256=checksum)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "AccessDenied":
            raise AccessDenied(f"{bucket.url}: access denied to {key}") from error
        return True
    return False


# ── what `gc` asks ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun and has not ended: its parts cost and stay, and nobody sees them."""

    key: str  # that the object would have; in a folder, the name of the temporary file
    begun: float  # seconds since 1970 by the bucket's clock
    id: str = ""


def unfinished_uploads(bucket: Bucket) -> tuple[Upload, ...]:
    """Uploads that have not ended, sorted by key; none where the bucket cannot tell."""
    if isinstance(bucket, LocalBucket):
        return tuple(sorted(_temporary(bucket), key=lambda u: u.key))
    if not isinstance(bucket, S3Bucket):
        return ()
    from botocore.exceptions import BotoCoreError, ClientError

    found = []
    with suppress(BotoCoreError, ClientError, RecursionError):
        pages = bucket._client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=bucket._name, Prefix=bucket._prefix):
            for u in page.get("Uploads", ()):
                key = str(u["Key"]).removeprefix(bucket._prefix)
                found.append(Upload(key, u["Initiated"].timestamp(), str(u["UploadId"])))
    return tuple(sorted(found, key=lambda u: (u.key, u.id)))


def _temporary(bucket: LocalBucket) -> Iterator[Upload]:
    for path in (bucket._root / bucket._TMP).glob("*"):
        with suppress(FileNotFoundError):
            if path.name != "lock":
                yield Upload(path.name, path.stat().st_mtime)


def abort_upload(bucket: Bucket, upload: Upload) -> None:
    """Give up an upload and free its parts; it may be gone already."""
    if isinstance(bucket, LocalBucket):
        with bucket._errors(upload.key):
            (bucket._root / bucket._TMP / upload.key).unlink(missing_ok=True)
    if isinstance(bucket, S3Bucket):
        with suppress(ObjectNotFound), bucket._errors(upload.key, right="delete"), _boto_errors():
            at = {"Bucket": bucket._name, "Key": bucket._key(upload.key)}
            bucket._client.abort_multipart_upload(**at, UploadId=upload.id)


def erase_history(bucket: Bucket, is_gone: Callable[[str], bool]) -> int:
    """
    Delete what a bucket with versioning keeps of deleted objects; how many versions it was.

    Args:
        is_gone: of a key; the others keep their history.

    Raises:
        AccessDenied: s3:ListBucketVersions or s3:DeleteObjectVersion is missing.
    """
    if not isinstance(bucket, S3Bucket):
        return 0
    at = {"Bucket": bucket._name}
    with bucket._errors("the list of versions", right="list"), _boto_errors():
        if not bucket._client.get_bucket_versioning(**at).get("Status"):
            return 0
        pages = bucket._client.get_paginator("list_object_versions")
        found = [
            (str(o["Key"]), str(o["VersionId"]))
            for page in pages.paginate(**at, Prefix=bucket._prefix)
            for o in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            if is_gone(str(o["Key"]).removeprefix(bucket._prefix))
        ]
    for key, version in found:
        with bucket._errors(key, right="delete"), _boto_errors():
            bucket._client.delete_object(**at, Key=key, VersionId=version)
    return len(found)


# ── of all ───────────────────────────────────────────────────────────────────────────────────


def _checked(key: str) -> str:
    safe_path(key)
    return key


def _check_body(body: bytes, sha256: str | None, key: str) -> None:
    if sha256 is not None and hashlib.sha256(body).hexdigest() != sha256:
        raise _wrong_body(key)


def _changed(url: str, key: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"{key} in {url} changed since it was read",
        hint="somebody else writes there; run the same command again",
    )


def _wrong_body(key: str) -> IntegrityError:
    return IntegrityError(
        f"what was sent as {key} has not the digest that was promised",
        [key],
        hint="run the same command again; if that is no help, something changes bytes on the way",
    )


def _too_large(url: str, key: str, limit: int) -> IntegrityError:
    return IntegrityError(f"{key} in {url} has more than {limit:,} bytes", [key])
