"""A proxy before a real server, which breaks connections, answers and requests as it is told."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
_LONG = 20.0  # seconds that a stalled answer is kept back, unless the client hangs up before


class HungUp(Exception):
    """The connection to the client is over."""


@dataclass
class Exchange:
    """One request, its answer, and the means to spoil both."""

    method: str
    target: str
    head: bytes  # with the empty line
    body: bytes
    client: Reader
    reply: Writer
    server: tuple[Reader, Writer]
    chance: random.Random
    answers: int = field(default=0)

    async def ask(
        self, head: bytes | None = None, body: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """Pass the request on, or another in its place; the head and the body of the answer."""
        reader, writer = self.server
        writer.write((self.head if head is None else head) + (self.body if body is None else body))
        found = await reader.readuntil(b"\r\n\r\n")
        while found.split(b" ", 2)[1] == b"100":
            found = await reader.readuntil(b"\r\n\r\n")
        bodiless = self.method == "HEAD" or found.split(b" ", 2)[1] in {b"204", b"304"}
        return found, b"" if bodiless else await _body(reader, found)

    async def say(self, *parts: bytes) -> None:
        self.reply.writelines(parts)
        await self.reply.drain()

    async def reset(self) -> None:
        """End the connection as a crashed machine does."""
        raw = self.reply.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise HungUp

    async def wait(self) -> None:
        """Say nothing more until the client has had enough."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.client.read(1), _LONG)
        raise HungUp

    def flip(self, text: bytes) -> bytes:
        at = self.chance.randrange(len(text))
        return text[:at] + bytes([text[at] ^ (1 << self.chance.randrange(8))]) + text[at + 1 :]


Fault = Callable[[Exchange], Awaitable[None]]


async def _body(reader: Reader, head: bytes) -> bytes:
    """The body that follows a head, as it comes over the line."""
    if b"chunked" in head.lower():
        found = b""
        while not found.endswith(b"0\r\n\r\n"):
            line = await reader.readline()
            found += line + await reader.readexactly(int(line, 16) + 2)
        return found
    return await reader.readexactly(int(_headers(head).get("content-length", 0)))


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}


def _without(head: bytes, name: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(name + b":"))


def _error(status: int, code: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>"
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


# ── what can happen ──────────────────────────────────────────────────────────────────────────


async def _pass(x: Exchange) -> None:
    await x.say(*await x.ask())


async def _busy(x: Exchange) -> None:
    await x.say(_error(503, "SlowDown"))


async def _reset_in_request(x: Exchange) -> None:
    x.server[1].write(x.head + x.body[: len(x.body) // 2])
    await x.server[1].drain()
    await x.reset()


async def _reset_in_answer(x: Exchange) -> None:
    said = b"".join(await x.ask())
    await x.say(said[: x.chance.randrange(1, len(said))])
    await x.reset()


async def _lost(x: Exchange) -> None:
    await x.ask()
    await x.reset()


async def _cut(x: Exchange) -> None:
    head, body = await x.ask()
    await x.say(head, body[: len(body) // 2])
    raise HungUp


async def _stall(x: Exchange) -> None:
    head, body = await x.ask()
    await x.say(head, body[: len(body) // 2])
    await x.wait()


async def _silence(x: Exchange) -> None:
    await x.ask()
    await x.wait()


async def _drip(x: Exchange) -> None:
    said = b"".join(await x.ask())
    size = max(1, len(said) // 10)
    for start in range(0, len(said), size):
        await x.say(said[start : start + size])
        await asyncio.sleep(0.01)


async def _twice(x: Exchange) -> None:
    await x.ask()
    await x.say(*await x.ask())


async def _late(x: Exchange) -> None:
    await x.ask()
    await x.say(_error(500, "InternalError"))


async def _other_etag(x: Exchange) -> None:
    head, body = await x.ask()
    await x.say(_without(head, b"etag")[:-2] + b'ETag: "0123456789abcdef"\r\n\r\n', body)


async def _flip_up(x: Exchange) -> None:
    await x.say(*await x.ask(body=x.flip(x.body)))


async def _flip_down(x: Exchange) -> None:
    head, body = await x.ask()
    await x.say(head, x.flip(body) if body else body)


async def _flip_head_up(x: Exchange) -> None:
    said = asyncio.ensure_future(x.ask(head=x.flip(x.head)))
    gone = asyncio.ensure_future(x.client.read(1))  # the server may wait for more than comes
    await asyncio.wait({said, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not said.done():
        said.cancel()
        raise HungUp
    await x.say(*said.result())
    raise HungUp  # nobody knows where the next request would begin


async def _flip_head_down(x: Exchange) -> None:
    head, body = await x.ask()
    await x.say(x.flip(head), body)
    await asyncio.sleep(0.05)
    raise HungUp


async def _stale_list(x: Exchange) -> None:
    await x.ask()
    body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    await x.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body)


FAULTS: Mapping[str, Fault] = {
    "503 SlowDown": _busy,
    "reset within the request": _reset_in_request,
    "reset within the answer": _reset_in_answer,
    "answer lost": _lost,
    "body cut short": _cut,
    "body stalls": _stall,
    "no answer": _silence,
    "slow drip": _drip,
    "delivered twice": _twice,
    "500 after the deed": _late,
    "wrong ETag": _other_etag,
    "bit flipped on its way up": _flip_up,
    "bit flipped on its way down": _flip_down,
    "bit flipped in a request's head": _flip_head_up,
    "bit flipped in an answer's head": _flip_head_down,
    "stale list": _stale_list,
}
BODY = {"bit flipped on its way up", "reset within the request"}  # of a request
READ = {"body cut short", "body stalls", "bit flipped on its way down"}


def applies(kind: str, method: str, target: str) -> bool:
    """Can this happen to such a request?"""
    if kind == "stale list":
        return method == "GET" and "list-type" in target
    return method == "PUT" if kind in BODY else method == "GET" if kind in READ else True


class Proxy:
    """
    Does what a schedule says to the n-th request, or to the first after it to which that can
    happen; the rest goes through.
    """

    def __init__(self, upstream: int) -> None:
        self.asked = 0
        self.done: list[str] = []  # kinds of the faults that took effect
        self.port = 0
        self._upstream = upstream
        self._schedule: dict[int, str] = {}
        self._due: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self, schedule: Mapping[int, str] = {}) -> None:
        """From now on; requests are counted from 1."""
        self.asked, self.done, self._schedule, self._due = 0, [], dict(schedule), []

    async def serve(self, client: Reader, reply: Writer) -> None:
        """One connection."""
        try:
            server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            reply.close()
            return
        try:
            while True:
                await self._exchange(client, reply, server)
        except (HungUp, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for writer in (server[1], reply):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _exchange(self, client: Reader, reply: Writer, server: tuple[Reader, Writer]) -> None:
        head = await client.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode("latin-1").split(" ", 2)
        if "expect" in _headers(head):  # no signature covers it
            head = _without(head, b"expect")
            reply.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(client, head)
        self.asked += 1
        self._due += [self._schedule[self.asked]] if self.asked in self._schedule else []
        kind = next((k for k in self._due if applies(k, method, target)), "")
        chance = random.Random(f"{kind} {self.asked} {method}")
        exchange = Exchange(method, target, head, body, client, reply, server, chance)
        if not kind:
            return await _pass(exchange)
        self._due.remove(kind)
        self.done.append(kind)
        return await FAULTS[kind](exchange)


@contextmanager
def proxy(upstream: int) -> Iterator[Proxy]:
    """A proxy on loopback, before the server on this port."""
    made, ready, loops = Proxy(upstream), threading.Event(), list[asyncio.AbstractEventLoop]()
    stop = asyncio.Event()

    async def run() -> None:
        async with await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=2**22) as server:
            made.port = server.sockets[0].getsockname()[1]
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(30)
    try:
        yield made
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
