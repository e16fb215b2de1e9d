"""A server on loopback that says exactly what a test tells it to."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Then = Literal["keep", "close", "reset", "stall"]


@dataclass(frozen=True)
class Says:
    """
    An answer, byte by byte, and what happens to the connection after it.

    Args:
        text: or what makes it of the request.
        early: answer as soon as the headers are there, and never ask for the body.
        go_on: ask for an announced body.
    """

    text: bytes | Callable[[Heard], bytes]
    then: Then = "keep"
    early: bool = False
    go_on: bool = True


def says(
    status: int, body: bytes = b"", *, then: Then = "keep", early: bool = False, **headers: str
) -> Says:
    """A well-formed answer; underscores in names of headers are hyphens."""
    heads = {"content-length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in heads.items())
    return Says(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body, then, early)


def refuses(status: int, code: str, **headers: str) -> Says:
    """An error as S3 words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>"
    return says(status, body.encode(), **headers)


@dataclass(frozen=True)
class Heard:
    """A request as it came: `whole` where all of its body did."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    whole: bool


@dataclass
class Server:
    """What it was asked, and over how many connections."""

    port: int
    answers: list[Says]
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Of a bucket `b` on it."""
        return f"http://127.0.0.1:{self.port}/b"


@contextmanager
def scripted(*answers: Says) -> Iterator[Server]:
    """Serve these answers, one a request in the order of their coming, then hang up."""
    listener = socket.create_server(("127.0.0.1", 0))
    server, stop = Server(listener.getsockname()[1], list(answers)), threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server.connections += 1
                threads.append(threading.Thread(target=_serve, args=(client, server, stop)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        stop.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for thread in threads:
            thread.join(10)


def _serve(client: socket.socket, server: Server, stop: threading.Event) -> None:
    client.settimeout(0.05)
    with client, suppress(OSError):
        while (head := _head(client, stop)) is not None and server.answers:
            answer = server.answers.pop(0)
            first, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            size = int(headers.get("content-length", 0))
            body = b""
            if not answer.early:
                if "expect" in headers and answer.go_on:
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = _exactly(client, size, stop)
            server.heard.append(Heard(method, target, headers, body, len(body) == size))
            text = answer.text
            client.sendall(text if isinstance(text, bytes) else text(server.heard[-1]))
            if answer.then == "stall":
                stop.wait(10)
            if answer.then == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if answer.then != "keep":
                return


def _head(client: socket.socket, stop: threading.Event) -> bytes | None:
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        byte = _exactly(client, 1, stop)
        if not byte:
            return None
        found += byte
    return found[:-4]


def _exactly(client: socket.socket, size: int, stop: threading.Event) -> bytes:
    """This many bytes, or fewer where the client hangs up or the test ends."""
    found = bytearray()
    deadline = time.monotonic() + 20
    while len(found) < size and time.monotonic() < deadline and not stop.is_set():
        try:
            block = client.recv(size - len(found))
        except TimeoutError:
            continue
        except OSError:
            break
        if not block:
            break
        found += block
    return bytes(found)
