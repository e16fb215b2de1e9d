"""
The data path to S3: objects read and written by requests that we sign and send ourselves.

botocore spends more than a millisecond of CPU on each; this path spends a tenth of that, which
counts where a dataset is many objects (bench/wire.py). It knows no configuration: `storage.py`
asks botocore where a bucket answers, who signs, and what a test has put in the way.
"""

from __future__ import annotations

import base64
import hashlib
import io
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from .. import __version__
from ..errors import UsageError
from ..redaction import redacted
from . import sigv4
from .http1 import Answer, Body, Host, Pool, Sent
from .sigv4 import Credentials

T = TypeVar("T")

ATTEMPTS = 8  # of one request, if the server has ever answered
_FIRST = 3  # attempts to get a first answer at all
_BASE, _CAP = 0.1, 10.0  # seconds: the first wait at most, and any
_MAX_RETRY_AFTER = 60.0  # seconds that a server may ask for
_PATIENCE = 300.0  # seconds of one request after which no other attempt begins
_MAX_ERROR = 2**16  # bytes of an answer that is no object
_ANNOUNCED = 2**20  # bytes of a body from which the server is asked first whether it wants it
_BUSY = {429, 500, 502, 503, 504}
_BUSY_CODES = {
    "ConditionalRequestConflict",  # two conditional puts met; one of them wins the next round
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
}
_MOVED = {301, 302, 307, 308}
_MOVED_CODES = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"}
_STALE = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_DAMAGED = {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_SKEW = 900  # seconds that S3 lets clocks differ

Method = Literal["GET", "HEAD", "PUT"]


class Refused(Exception):
    """
    The server's answer is no: `code` is its word for why, or the status where it gave none.

    Nothing else of the answer is kept: servers repeat credentials in it. `skew` is by how many
    seconds this machine's clock is ahead of the server's.
    """

    def __init__(self, status: int, code: str, skew: float | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.skew = skew


class Unanswered(Exception):
    """There was no answer; `kind` is the class of what went wrong."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Changed(Exception):
    """What was to be sent has not the digest that was promised; the server did not get it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a file on disk, and the sha256 (hex) that it must have."""

    path: Path
    start: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a bucket answers.

    Args:
        url: of the bucket, without a final slash: `https://bucket.host` or `http://host/bucket`.
        region: that signatures are for; None where requests are not signed.
    """

    url: str
    region: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """
    What is asked of a bucket.

    Args:
        operation: S3's name for it.
        headers: by lower-case name.
        body: with a Slice, only bytes of the right digest are ever sent as a whole.
    """

    operation: str
    method: Method
    key: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Slice = b""
    sha256: str = sigv4.EMPTY_SHA256


Reply: TypeAlias = tuple[int, Mapping[str, str], bytes]
Intercept: TypeAlias = Callable[[str, str, str, dict[str, str], Sent], Reply | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """An address, taken apart, and the connections to it."""

    address: Address
    origin: str  # scheme and host
    host: str  # as the header has it
    path: str  # of the bucket, not encoded
    pool: Pool


class Wire:
    """
    The way to one bucket, for any number of threads.

    Args:
        address: where the bucket answers.
        credentials: who signs, asked before each request, so that they are never out of date.
        intercept: called with operation, method, URL, headers and body before anything is sent;
            what it gives is taken for the answer.
        relocate: asked once when a server says that the bucket is elsewhere.
        tls: how servers prove who they are, for https.
        timeouts: seconds to connect, and between two bytes.
    """

    def __init__(
        self,
        address: Address,
        *,
        credentials: Callable[[], Credentials],
        intercept: Intercept = lambda *_: None,
        relocate: Callable[[], Address | None] = lambda: None,
        tls: ssl.SSLContext | None = None,
        timeouts: tuple[float, float] = (10, 60),
    ) -> None:
        self._credentials = credentials
        self._intercept = intercept
        self._relocate = relocate
        self._tls = tls
        self._timeouts = timeouts
        self._answered = False
        self._lock = threading.Lock()
        self._place = self._at(address)

    def head(self, key: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers of an object."""
        return self._whole(Request("HeadObject", "HEAD", key, headers))

    def put(
        self,
        key: str,
        body: bytes | Slice,
        headers: Mapping[str, str],
        *,
        sha256: str,
        query: Mapping[str, str] | None = None,
    ) -> Mapping[str, str]:
        """
        Store an object, or with a `query` a part of one; the answer's headers.

        Raises:
            Changed: the file is not what `body` says; nothing was stored.
        """
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        return self._whole(
            Request(
                "UploadPart" if query else "PutObject",
                "PUT",
                key,
                {**headers, "x-amz-checksum-sha256": checksum},
                query or {},
                body,
                sha256,
            )
        )

    def get(
        self, key: str, *, start: int = 0, stop: int | None = None
    ) -> Generator[bytes, None, None]:
        """
        The bytes of an object from `start` on, before `stop`, at most `http1.BLOCK` at a time.

        A connection that breaks is taken up where it broke, as long as the object is the same.

        Raises:
            Refused: also where the object ends before `start`.
        """
        done, etag, failures = start, "", 0
        while stop is None or done < stop:
            asked = done
            try:
                with closing(self._open(_get(key, done, stop, etag))) as answer:
                    now = answer.headers.get("etag", "")
                    if etag and now and now != etag:
                        raise Refused(412, "PreconditionFailed")
                    etag = etag or now
                    for block in answer.blocks():
                        done += len(block)
                        if stop is not None and done > stop:
                            raise Refused(answer.status, "RangeIgnored")
                        yield block
                    return
            except OSError as error:
                failures = 0 if done > asked else failures + 1
                if failures == ATTEMPTS - 1:
                    raise Unanswered(type(error).__name__) from error
                time.sleep(_wait(failures))

    def _whole(self, request: Request) -> Mapping[str, str]:
        def finish(answer: Answer) -> Mapping[str, str]:
            answer.read(_MAX_ERROR)
            return answer.headers

        return self._retried(request, finish)

    def _open(self, request: Request) -> Answer:
        def finish(answer: Answer) -> Answer:
            _check_range(request, answer)
            return answer

        return self._retried(request, finish)

    def _retried(self, request: Request, finish: Callable[[Answer], T]) -> T:
        """
        What `finish` makes of the answer, after waits where the server is busy or away.

        Raises:
            Refused: the server says no.
            Unanswered: it says nothing, after all attempts.
        """
        may_move = may_renew = may_resend = True
        attempt, end = 0, time.monotonic() + _PATIENCE
        while True:
            place = self._place
            who = self._credentials() if place.address.region else None
            asked = 0.0
            try:
                answer = self._send(place, request, who)
                self._answered = True
                if answer.status < 300:
                    return finish(answer)
                asked = _seconds(answer.headers.get("retry-after", ""))
                refused = _refused(answer)
            except OSError as error:
                most = ATTEMPTS if self._answered else _FIRST
                attempt += 1
                if attempt >= most or _is_final(error) or time.monotonic() > end:
                    raise Unanswered(type(error).__name__) from error
            else:
                if may_move and _says_moved(refused):
                    may_move = False
                    if self._moves_from(place):
                        continue
                if may_renew and who is not None and refused.code in _STALE:
                    may_renew = False
                    if self._credentials() != who:
                        continue
                if may_resend and refused.code in _DAMAGED:
                    may_resend = False  # what was hashed is what was sent: it changed on its way
                    continue
                attempt += 1
                if attempt >= ATTEMPTS or not _is_busy(refused) or time.monotonic() > end:
                    raise refused
            time.sleep(max(_wait(attempt), asked))

    def _send(self, place: _Place, request: Request, who: Credentials | None) -> Answer:
        """One attempt: sign, let a test answer, or send."""
        path = sigv4.encode_path(f"{place.path}/{request.key}")
        query = sigv4.encode_query(request.query) if request.query else ""
        headers = {"host": place.host, **request.headers}
        if who is not None:
            headers = sigv4.signed(
                request.method,
                path,
                query,
                headers,
                credentials=who,
                region=place.address.region or "",
                time=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
                sha256=request.sha256,
            )
        size = len(request.body) if isinstance(request.body, bytes) else request.body.size
        headers["accept-encoding"] = "identity"
        headers["user-agent"] = f"publisher/{__version__}"
        if request.method == "PUT":
            headers["content-length"] = str(size)
        _check_values(headers)
        target = f"{path}?{query}" if query else path
        if isinstance(request.body, bytes):
            return self._deliver(place, request, target, headers, request.body, size)
        with _File(request.body) as body:
            return self._deliver(place, request, target, headers, body, size)

    def _deliver(
        self,
        place: _Place,
        request: Request,
        target: str,
        headers: dict[str, str],
        body: Sent,
        size: int,
    ) -> Answer:
        url = place.origin + target
        reply = self._intercept(request.operation, request.method, url, headers, body)
        if reply is not None:
            status, heads, content = reply
            lower = {name.lower(): value for name, value in heads.items()}
            lower.pop("transfer-encoding", None)
            return Answer(status, lower, io.BytesIO(content), method=request.method)
        wait = size >= _ANNOUNCED
        if wait:
            headers["expect"] = "100-continue"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{request.method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        return place.pool.ask(request.method, head, body, wait=wait)

    def _at(self, address: Address) -> _Place:
        parts = urlsplit(address.url)
        standard = {"https": 443, "http": 80}[parts.scheme]
        port = parts.port or standard
        name = parts.hostname or ""
        host = f"[{name}]" if ":" in name else name
        if port != standard:
            host += f":{port}"
        tls = self._tls if parts.scheme == "https" else None
        if parts.scheme == "https" and tls is None:
            raise ValueError("https without a way to know the server")
        pool = Pool(Host(name, port, tls, *self._timeouts))
        path = unquote(parts.path.rstrip("/"))
        return _Place(address, f"{parts.scheme}://{host}", host, path, pool)

    def _moves_from(self, place: _Place) -> bool:
        """Find out where the bucket is now, unless another thread did; False where it was."""
        with self._lock:
            if self._place is place:
                new = self._relocate()
                if new is not None and new != place.address:
                    self._place = self._at(new)
            return self._place is not place


class _File:
    """
    The bytes of a Slice as a stream. The last of them come only if all have the right digest.

    Raises:
        Changed: they have not.
    """

    def __init__(self, part: Slice) -> None:
        self.size = part.size
        self._part = part
        try:
            self._stream = part.path.open("rb")
        except FileNotFoundError as error:
            raise Changed from error
        except OSError as error:
            raise UsageError(f"{part.path}: {error.strerror}") from error
        self.seek(0)

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def seek(self, start: int, whence: int = 0, /) -> int:
        if start or whence:
            raise io.UnsupportedOperation("only back to the start")
        self._stream.seek(self._part.start)
        self._digest, self._left = hashlib.sha256(), self.size
        return 0

    def tell(self) -> int:
        return self.size - self._left

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        try:
            block = self._stream.read(wanted)
        except OSError as error:
            raise UsageError(f"{self._part.path}: {error.strerror}") from error
        self._digest.update(block)
        self._left -= len(block)
        short = len(block) < wanted
        if short or (not self._left and self._digest.hexdigest() != self._part.sha256):
            raise Changed
        return block


def _get(key: str, start: int, stop: int | None, etag: str) -> Request:
    headers = {}
    if start or stop is not None:
        headers["range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    if etag:
        headers["if-match"] = etag
    return Request("GetObject", "GET", key, headers)


def _check_range(request: Request, answer: Answer) -> None:
    """A server that does not know ranges sends the whole object instead."""
    asked = request.headers.get("range")
    if asked is None:
        return
    given = answer.headers.get("content-range", "").replace("bytes ", "bytes=", 1)
    if answer.status != 206 or not given.startswith(asked.partition("-")[0] + "-"):
        answer.close()
        raise Refused(answer.status, "RangeIgnored")


def _refused(answer: Answer) -> Refused:
    body = answer.read(_MAX_ERROR) or b""
    found = re.search(rb"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>", body)
    code = redacted(found[1].decode()) if found else str(answer.status)
    skew = skew_of(answer.headers)
    if code in {"400", "403"} and skew is not None and abs(skew) > _SKEW:
        code = "RequestTimeTooSkewed"  # HEAD has no body to say so
    return Refused(answer.status, code, skew)


def skew_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that this machine's clock is ahead of the one that dated these headers."""
    with suppress(ValueError, TypeError, KeyError):
        return time.time() - parsedate_to_datetime(headers["date"]).timestamp()
    return None


def _says_moved(refused: Refused) -> bool:
    return refused.status in _MOVED or refused.code in _MOVED_CODES


def _is_busy(refused: Refused) -> bool:
    return refused.status in _BUSY or refused.code in _BUSY_CODES


def _is_final(error: OSError) -> bool:
    """True where waiting cannot help: the server is not who it should be."""
    return isinstance(error, ssl.SSLCertVerificationError)


def _wait(attempt: int) -> float:
    """Seconds before another try, anything up to a limit that doubles: no two clients in step."""
    return random.uniform(0, min(_CAP, _BASE * 2.0**attempt))


def _seconds(text: str) -> float:
    """What a Retry-After asks for: a number, or a date."""
    with suppress(ValueError, TypeError):
        if text.isdecimal():
            return min(float(text), _MAX_RETRY_AFTER)
        left = parsedate_to_datetime(text).timestamp() - time.time()
        return min(max(left, 0.0), _MAX_RETRY_AFTER)
    return 0.0


def _check_values(headers: Mapping[str, str]) -> None:
    """No value may end its line and begin another."""
    if not _is_plain("".join(headers.values())):
        bad = next(name for name, value in headers.items() if not _is_plain(value))
        raise UsageError(f"{bad}: a value that no header can have", hint="check the credentials")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
