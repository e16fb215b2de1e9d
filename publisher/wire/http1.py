"""
HTTP/1.1 over connections that are kept: one request, one answer, as few system calls as it takes.

For requests by the thousand, where `http.client` and what stands on it spend most of their time
parsing headers; bench/wire.py has the ratio. Nothing here knows what is asked or of whom.
Rules: RFC 9112. What is not exactly as it says ends the connection.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

BLOCK = 2**20  # bytes read at a time
_SEND = 2**17  # bytes written at a time: each has the read timeout for itself, on slow lines too
MAX_HEAD = 2**16  # bytes of an answer's first lines
_SMALL = 2**16  # bytes that are not worth two looks
_MAX_IDLE = 64  # connections that wait for their next request
_FRESH = 1.0  # seconds that a waiting connection is trusted to be open still
_PATIENCE = 1.0  # seconds that a server has to ask for a body that was announced


class Garbled(ConnectionError):
    """The answer is not HTTP."""


class CutShort(ConnectionError):
    """The connection ended before the answer did."""


class _HungUp(ConnectionError):
    """The server took no more of the request."""


class Stream(Protocol):
    """What of an answer is read; `read1` gives what is there already."""

    def read(self, size: int = -1, /) -> bytes: ...

    def read1(self, size: int = -1, /) -> bytes: ...

    def readline(self, size: int | None = -1, /) -> bytes: ...

    def close(self) -> None: ...


class Body(Protocol):
    """What is sent, block by block. Where `read` raises, the server never gets the whole."""

    size: int

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, start: int, /) -> int: ...


Sent: TypeAlias = bytes | Body


@dataclass(frozen=True, slots=True)
class Host:
    """Where to connect, for how many seconds to try, and how long to wait for each byte."""

    name: str
    port: int
    tls: ssl.SSLContext | None = None
    connect_timeout: float = 10
    read_timeout: float = 60


class Answer:
    """
    Status, headers by lower-case name, and a body that is read once.

    A connection goes back to its pool when the body was read to its end; `close` ends one
    that was not. The body is never longer than the answer said, nor shorter unnoticed.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        stream: Stream,
        *,
        method: str = "GET",
        connection: Connection | None = None,
        pool: Pool | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self._stream = stream
        self._connection = connection
        self._pool = pool
        self._chunked = False
        self._left = self._length(method)  # bytes, or None: as many as come
        if self._left == 0 and not self._chunked:
            self._done()

    def read(self, limit: int) -> bytes | None:
        """The whole body; None, and the connection ends, where it has more than `limit` bytes."""
        if self._left is not None and self._left > limit:
            self.close()
            return None
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > limit:
                self.close()
                return None
        return bytes(found)

    def blocks(self) -> Iterator[bytes]:
        """The body, at most BLOCK bytes at a time."""
        try:
            if self._chunked:
                yield from self._chunks()
            elif self._left is None:
                while block := self._stream.read(BLOCK):
                    yield block
            else:
                while self._left:
                    block = self._some(self._left)
                    self._left -= len(block)
                    yield block
            self._done()
        finally:
            self.close()

    def close(self) -> None:
        """End the connection, unless the body was read to its end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _length(self, method: str) -> int | None:
        if method == "HEAD" or self.status in {204, 304}:
            return 0
        coding = self.headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                raise Garbled("transfer-encoding")
            self._chunked = True
            return None
        length = self.headers.get("content-length")
        if length is None:
            return None
        if not (length.isascii() and length.isdecimal()) or len(length) > 18:
            raise Garbled("content-length")
        return int(length)

    def _chunks(self) -> Iterator[bytes]:
        while left := self._chunk_size():
            while left:
                block = self._some(left)
                left -= len(block)
                yield block
            if self._line() != b"\r\n":
                raise Garbled("a chunk without an end")
        for _ in range(100):  # trailers, which nobody asked for
            if self._line() == b"\r\n":
                return
        raise Garbled("trailers without an end")

    def _chunk_size(self) -> int:
        text = self._line().split(b";")[0].strip()
        try:
            size = int(text, 16) if text.isalnum() and len(text) < 16 else -1
        except ValueError:
            size = -1
        if size < 0:
            raise Garbled("chunk size")
        return size

    def _line(self) -> bytes:
        line = self._stream.readline(1024)
        if not line.endswith(b"\n"):
            raise CutShort("within a chunk")
        return line

    def _some(self, most: int) -> bytes:
        """What is there, so that a connection which breaks later has not taken it along."""
        if most <= _SMALL:
            return self._take(most)
        block = self._stream.read1(min(BLOCK, most))
        if not block:
            raise CutShort(f"{most} bytes are missing")
        return block

    def _take(self, size: int) -> bytes:
        block = self._stream.read(size)
        if len(block) < size:
            raise CutShort(f"{size - len(block)} bytes are missing")
        return block

    def _done(self) -> None:
        kept, self._connection = self._connection, None
        if kept is None:
            return
        endless = self._left is None and not self._chunked
        if endless or self.headers.get("connection", "").lower() == "close" or self._pool is None:
            kept.close()
        else:
            self._pool.give(kept)


class Connection:
    """A socket to a host, perhaps used before."""

    def __init__(self, host: Host) -> None:
        self.used = False
        self.idle_since = 0.0
        raw = socket.create_connection((host.name, host.port), host.connect_timeout)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = (
                raw if host.tls is None else host.tls.wrap_socket(raw, server_hostname=host.name)
            )
        except BaseException:
            raw.close()
            raise
        self._socket.settimeout(host.read_timeout)
        self._stream = cast(Stream, self._socket.makefile("rb", 2**16))

    def close(self) -> None:
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            self._socket.close()

    def is_open(self) -> bool:
        """False where the server has hung up, or talks unasked, since the last answer."""
        if time.monotonic() - self.idle_since < _FRESH:
            return True
        return not self._talks_within(0)

    def ask(
        self, method: str, head: bytes, body: Sent, *, wait: bool = False, pool: Pool | None = None
    ) -> Answer:
        """
        Send a request and read the first lines of its answer.

        Args:
            head: request line and headers, with the empty line.
            wait: let the server say first that it wants the body; `head` must have announced it.
        """
        early = None
        try:
            if wait:
                self._push(head)
                early = self._early()
            if early is None:
                self._send(b"" if wait else head, body)
        except _HungUp as error:
            try:  # it may have said why
                early = self._first_lines()
            except OSError:
                raise error from None
        status, headers = early or self._first_lines()
        for _ in range(10):
            if status >= 200:
                break
            status, headers = self._first_lines()
        else:
            raise Garbled("no final status")
        if early:  # it has not got the body, so what it takes the next bytes for is anyone's guess
            headers["connection"] = "close"
        return Answer(status, headers, self._stream, method=method, connection=self, pool=pool)

    def _early(self) -> tuple[int, dict[str, str]] | None:
        """What a server says to the announcement of a body, if it is not `go on`."""
        if not self._talks_within(_PATIENCE):
            return None  # it may not know about announcements
        status, headers = self._first_lines()
        return None if status == 100 else (status, headers)

    def _talks_within(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def _send(self, head: bytes, body: Sent) -> None:
        if isinstance(body, bytes) and len(body) <= _SEND:
            self._push(head + body)
            return
        self._push(head)
        if isinstance(body, bytes):
            view = memoryview(body)
            for start in range(0, len(body), _SEND):
                self._push(view[start : start + _SEND])
            return
        while block := body.read(_SEND):
            self._push(block)

    def _push(self, block: bytes | memoryview) -> None:
        try:
            self._socket.sendall(block)
        except TimeoutError:
            raise
        except OSError as error:
            raise _HungUp(*error.args) from error

    def _first_lines(self) -> tuple[int, dict[str, str]]:
        line = self._stream.readline(MAX_HEAD)
        if not line:
            raise CutShort("no answer")
        version, _, rest = line.partition(b" ")
        if version not in {b"HTTP/1.1", b"HTTP/1.0"} or not rest[:3].isdigit():
            raise Garbled("no status line")
        headers: dict[str, str] = {}
        if version == b"HTTP/1.0":
            headers["connection"] = "close"
        left = MAX_HEAD
        while True:
            line = self._stream.readline(MAX_HEAD)
            left -= len(line)
            if line in {b"\r\n", b"\n"}:
                return int(rest[:3]), headers
            if not line.endswith(b"\n"):
                raise CutShort("within the headers")
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or left < 0:
                raise Garbled("headers")
            name, value = name.lower(), value.strip()
            if name == "content-length" and headers.get(name, value) != value:
                raise Garbled("two lengths")
            headers[name] = value


class Pool:
    """Connections to one host, for any number of threads."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._idle: list[Connection] = []  # append and pop are atomic
        weakref.finalize(self, _close_all, self._idle)

    def ask(self, method: str, head: bytes, body: Sent, *, wait: bool = False) -> Answer:
        """
        Send a request over a connection that waits, or a new one.

        Servers hang up on connections that wait; a request that meets this goes out once more
        over a new one.

        Raises:
            OSError: no connection, or no answer.
        """
        connection = self._take()
        try:
            return connection.ask(method, head, body, wait=wait, pool=self)
        except BaseException as error:
            connection.close()
            if not connection.used or not isinstance(error, OSError):
                raise
            if isinstance(error, TimeoutError):
                raise
        self.close()  # the others will not be better
        if not isinstance(body, bytes):
            body.seek(0)
        connection = Connection(self.host)
        try:
            return connection.ask(method, head, body, wait=wait, pool=self)
        except BaseException:
            connection.close()
            raise

    def give(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        connection.used = True
        connection.idle_since = time.monotonic()
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """End the connections that wait."""
        _close_all(self._idle)

    def _take(self) -> Connection:
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.is_open():
                    return connection
                connection.close()
        return Connection(self.host)


def _close_all(connections: list[Connection]) -> None:
    with suppress(IndexError):
        while True:
            connections.pop().close()
