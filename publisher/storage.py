"""
Buckets: the few object-store operations that publishing needs, and nothing more.

The only module that imports boto3, and only once a bucket on S3 is opened. An object store
is no file system: a put is atomic, nobody sees half an object, and a put may be
conditional. Versions rest on the last.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
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
    StorageError,
    UsageError,
)
from .names import safe_path
from .version import check_remote

LIMIT = 2**26  # bytes that `get` reads unless told otherwise
BLOCK = 2**20  # bytes that `read` yields at a time
MAX_PUT = 5 * 2**30  # bytes of one S3 put; more needs a multipart upload
PROBE_KEY = "publisher.json"
_PROBE = b'{"layout":"docs/bucket.md","schema":"publisher/bucket/1"}\n'
_RACES = 8  # times that a put which collided with another is tried again


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a bucket says of an object without sending it."""

    key: str
    size: int  # bytes
    etag: str  # opaque; compare, never parse
    sha256: str | None = None  # hex, where the bucket knows it


class Bucket(Protocol):
    """
    A flat map from keys to bytes. Keys are safe relative paths (`names.safe_path`).

    `put` replaces by default. With `if_absent` it creates or raises ObjectExists; with
    `if_match` it replaces that very etag or raises PreconditionFailed. `sha256`, in hex, is
    what the body should have: anything else is not stored and raises IntegrityError.
    """

    @property
    def url(self) -> str:
        """What people call it: s3://bucket/prefix, file:///path."""

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        """All bytes of an object; IntegrityError where it has more than `limit`."""

    def read(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The bytes of an object from `start`, block by block."""

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
    ) -> ObjectInfo: ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Key and size of every object whose key begins with `prefix`, sorted by key."""

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
    return S3Bucket(_client(endpoint_url, profile), name, prefix.strip("/"))


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

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        body = self._body(key)
        if len(body) > limit:
            raise _too_large(self.url, key, limit)
        return body

    def read(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        body = self._body(key)
        return (body[i : i + BLOCK] for i in range(start, len(body), BLOCK))

    def head(self, key: str) -> ObjectInfo:
        return _info(key, self._body(key))

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        sha256: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,  # noqa: ARG002  nobody asks for it here
    ) -> ObjectInfo:
        body = body.read_bytes() if isinstance(body, Path) else body
        _check_body(body, sha256, key)
        with self._lock:
            old = self._objects.get(_checked(key))
            if if_absent and old is not None:
                raise ObjectExists(f"{self.url} has {key} already")
            if if_match is not None and (old is None or _info(key, old).etag != if_match):
                raise PreconditionFailed(f"{key} in {self.url} changed since it was read")
            self._objects[key] = body
        return _info(key, body)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for key, body in sorted(self._objects.copy().items()):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(body), _info(key, body).etag)

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def _body(self, key: str) -> bytes:
        try:
            return self._objects[_checked(key)]
        except KeyError:
            raise ObjectNotFound(f"no object {key} in {self.url}") from None


def _info(key: str, body: bytes) -> ObjectInfo:
    digest = hashlib.sha256(body).hexdigest()
    return ObjectInfo(key, len(body), f'"{digest}"', digest)


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
            body = stream.read(limit + 1)
        if len(body) > limit:
            raise _too_large(self.url, key, limit)
        return body

    def read(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        with self._errors(key), self._path(key).open("rb") as stream:
            stream.seek(start)
            while block := stream.read(BLOCK):
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
                    return self._head(key, path)
            except FileExistsError:
                raise ObjectExists(f"{self.url} has {key} already") from None
            finally:
                tmp.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._errors(prefix):
            keys = sorted(k for k in self._keys(prefix) if k.startswith(prefix))
        for key in keys:
            with suppress(FileNotFoundError):  # deleted since
                stat = (self._root / key).stat()
                yield ObjectInfo(key, stat.st_size, "")

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
            return _info(key, path.read_bytes())
        return ObjectInfo(key, stat.st_size, f'"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}"')

    def _check_match(self, key: str, path: Path, etag: str) -> None:
        with suppress(FileNotFoundError):
            if self._head(key, path).etag == etag:
                return
        raise PreconditionFailed(f"{key} in {self.url} changed since it was read")

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
            raise StorageError(f"{self.url}: {key}: {error.strerror}") from error


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
    if create:
        os.link(tmp, path)  # atomic, and fails where the name is taken
    else:
        os.replace(tmp, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too must survive a power cut, before what rests on it
    finally:
        os.close(folder)


# ── on S3 ────────────────────────────────────────────────────────────────────────────────────


class S3Bucket:
    """A bucket on S3 or a server that speaks it, or the part of one under a prefix."""

    def __init__(self, client: Any, name: str, prefix: str = "") -> None:
        self._client = client
        self._name = name
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{name}" + (f"/{prefix}" if prefix else "")

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        body = bytearray()
        for block in self.read(key):  # only reading to the end notices a cut connection
            body += block
            if len(body) > limit:
                raise _too_large(self.url, key, limit)
        return bytes(body)

    def read(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        extra = {"Range": f"bytes={start}-"} if start else {}
        with self._errors(key):
            try:
                answer = self._client.get_object(**self._at(key), **extra)
            except self._client.exceptions.ClientError as error:
                if _code(error) in {"InvalidRange", "416"}:
                    return  # `start` is the end
                raise
            with closing(answer["Body"]) as stream:
                yield from stream.iter_chunks(BLOCK)

    def head(self, key: str) -> ObjectInfo:
        with self._errors(key):
            answer = self._client.head_object(**self._at(key), ChecksumMode="ENABLED")
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"], _sha256_in(answer))

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        sha256: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        request: dict[str, Any] = self._at(key)
        if if_absent:
            request["IfNoneMatch"] = "*"
        if if_match is not None:
            request["IfMatch"] = if_match
        if content_type is not None:
            request["ContentType"] = content_type
        if isinstance(body, bytes):
            digest = hashlib.sha256(body).hexdigest()
            if sha256 not in {None, digest}:
                raise _wrong_body(key)
            sha256 = digest
        if sha256 is not None:  # the server refuses a body that does not have it
            request["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        if size > MAX_PUT:
            raise UsageError(f"{key}: files above 5 GiB cannot be published yet")
        with self._errors(key, if_absent=if_absent, if_match=if_match):
            answer = self._put(body, request)
        return ObjectInfo(key, size, answer["ETag"], sha256)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors(prefix):
            for page in pages.paginate(Bucket=self._name, Prefix=self._prefix + prefix):
                for o in page.get("Contents", ()):
                    yield ObjectInfo(o["Key"].removeprefix(self._prefix), o["Size"], o["ETag"])

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.delete_object(**self._at(key))

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._name, "Key": self._prefix + _checked(key)}

    def _put(self, body: bytes | Path, request: dict[str, Any]) -> Any:
        """S3 answers 409 where two conditional puts meet; one of them will win the next round."""
        for attempt in range(_RACES):
            try:
                with _stream(body) as stream:
                    return self._client.put_object(Body=stream, **request)
            except self._client.exceptions.ClientError as error:
                if _code(error) != "ConditionalRequestConflict" or attempt == _RACES - 1:
                    raise
            time.sleep(secrets.randbelow(100) / 1000 * 2**attempt)
        raise AssertionError("unreachable")

    @contextmanager
    def _errors(
        self, key: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> Iterator[None]:
        """Turn errors of botocore and below into ours, keeping the cause, never a secret."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = _code(error)
            if code in {"PreconditionFailed", "412"} and if_absent:
                raise ObjectExists(f"{self.url} has {key} already") from error
            gone = code in {"NoSuchKey", "NotFound", "404"}
            if code in {"PreconditionFailed", "412"} or (gone and if_match is not None):
                changed = f"{key} in {self.url} changed since it was read"
                raise PreconditionFailed(changed) from error
            raise self._translated(code, key, error) from error
        except BotoCoreError as error:
            raise self._unsent(type(error).__name__, key) from error
        except (StorageError, FormatError, IntegrityError, UsageError):
            raise
        except Exception as error:
            if not _is_network(error):
                raise
            raise self._unsent(type(error).__name__, key) from error

    def _translated(self, code: str, key: str, error: Any) -> Exception:
        """What a server's answer means. Its text may repeat credentials, so it stays out."""
        if code == "NoSuchBucket":
            return ObjectNotFound(
                f"no bucket {self.url}", hint="check its name, the endpoint and the profile"
            )
        if code in {"NoSuchKey", "NotFound", "404"}:
            return ObjectNotFound(f"no object {key} in {self.url}")
        if code in {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}:
            return _wrong_body(key)
        if code == "RequestTimeTooSkewed":
            return StorageError(f"{self.url}: the clock is wrong", hint="set this machine's clock")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _DENIED or status in {401, 403}:
            hint = _DENIED.get(code, "ask the bucket's owner for access to it")
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


_DENIED = {
    "AccessDenied": "ask the bucket's owner for access to it",
    "InvalidAccessKeyId": "the server does not know this access key; check AWS_ACCESS_KEY_ID, "
    "the profile and the endpoint",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session has expired; log in again",
    "InvalidToken": "the session token is wrong; check AWS_SESSION_TOKEN",
    "AllAccessDisabled": "the bucket's owner has switched it off",
}


def _client(endpoint_url: str | None, profile: str | None) -> Any:
    """A boto3 client for threads; unsigned where there are no credentials, for public data."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        signature_version="s3v4",  # conditional writes need it
        # no aws-chunked trailers, which R2 and others refuse: we send the sha256 as a header
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=32,
    )
    try:
        session = boto3.Session(profile_name=profile)
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
        ) from error
    return client


def _needs_path_style(client: Any) -> bool:
    """Few servers of one's own answer at bucket.host; a choice in the AWS configuration wins."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    chosen = (client.meta.config.s3 or {}).get("addressing_style", "auto")
    return chosen == "auto" and ".amazonaws.com" not in host


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _is_network(error: Exception) -> bool:
    from urllib3.exceptions import HTTPError

    return isinstance(error, HTTPError | OSError)


def _sha256_in(answer: Any) -> str | None:
    """The checksum a server keeps; that of a multipart upload is no checksum of the object."""
    text = answer.get("ChecksumSHA256")
    if not text or "-" in text or answer.get("ChecksumType") == "COMPOSITE":
        return None
    return base64.b64decode(text).hex()


@contextmanager
def _stream(body: bytes | Path) -> Iterator[bytes | BinaryIO]:
    if isinstance(body, bytes):
        yield body
        return
    with body.open("rb") as stream:
        yield stream


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
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = bucket._client.head_bucket(Bucket=bucket._name)
    except ClientError as error:
        answer = error.response
    except BotoCoreError:
        return None
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return _now() - parsedate_to_datetime(str(said)).timestamp()
    except (TypeError, ValueError):
        return None


def _now() -> float:
    return datetime.now(UTC).timestamp()


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


def unfinished_uploads(bucket: Bucket) -> tuple[str, ...]:
    """Keys of uploads that were begun and never ended, so that their parts cost and stay."""
    if isinstance(bucket, LocalBucket):
        folder = bucket._root / bucket._TMP
        return tuple(sorted(p.name for p in folder.glob("*") if p.name != "lock"))
    if not isinstance(bucket, S3Bucket):
        return ()
    from botocore.exceptions import BotoCoreError, ClientError

    with suppress(BotoCoreError, ClientError):
        answer = bucket._client.list_multipart_uploads(Bucket=bucket._name, Prefix=bucket._prefix)
        keys = (str(u["Key"]) for u in answer.get("Uploads", ()))
        return tuple(sorted(key.removeprefix(bucket._prefix) for key in keys))
    return ()


# ── of all ───────────────────────────────────────────────────────────────────────────────────


def _checked(key: str) -> str:
    safe_path(key)
    return key


def _check_body(body: bytes, sha256: str | None, key: str) -> None:
    if sha256 is not None and hashlib.sha256(body).hexdigest() != sha256:
        raise _wrong_body(key)


def _wrong_body(key: str) -> IntegrityError:
    return IntegrityError(f"what was sent as {key} has not the digest that was promised", [key])


def _too_large(url: str, key: str, limit: int) -> IntegrityError:
    return IntegrityError(f"{key} in {url} has more than {limit:,} bytes", [key])
