"""
A journal: answers that were dear, kept as they come, for a command that may be killed.

One file that only grows. A line is a key, a checksum and a body; what a killed process, or a
machine without power, left of the last line is cut off when the journal is opened again.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from types import TracebackType

_KEY = 32  # characters of a key
_HEAD = _KEY + 1 + 8 + 1


class Journal:
    """
    Bodies by key, in a file; holds some 150 bytes of memory for each.

    `title` says what all answers depend on: a journal with another title begins anew.
    Whoever opens it must be the only one; see `files.held`.
    """

    def __init__(self, path: Path, title: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a+b")
        self._places: dict[bytes, tuple[int, int]] = {}  # where the body begins, and its bytes
        self._end = self._read(title.encode())
        if os.fstat(self._stream.fileno()).st_size != self._end:
            self._stream.truncate(self._end)
        if not self._end:
            self._end = self._stream.write(_line(_key("title"), title.encode()))
            self._stream.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stream.close()

    def __contains__(self, key: str) -> bool:
        return _key(key) in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> bytes:
        """The body that was put under a key; KeyError where there is none."""
        begin, size = self._places[_key(key)]
        self._stream.seek(begin)
        return self._stream.read(size)

    def put(self, key: str, body: bytes) -> None:
        """Keep a body, of one line, under a key. It is there even if we are killed right after."""
        self._places[_key(key)] = self._end + _HEAD, len(body)
        self._end += self._stream.write(_line(_key(key), body))
        self._stream.flush()

    def _read(self, title: bytes) -> int:
        """Find the answers that are whole, and where they end; 0 where the title is another."""
        self._stream.seek(0)
        end = 0
        for line in self._stream:
            key, body = line[:_KEY], line[_HEAD:-1]
            if line != _line(key, body) or (not end and (key, body) != (_key("title"), title)):
                break
            if end:
                self._places[key] = end + _HEAD, len(body)
            end += len(line)
        return end


def _key(said: str) -> bytes:
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY].encode()


def _line(key: bytes, body: bytes) -> bytes:
    return b"%s %08x %s\n" % (key, zlib.crc32(key + body), body)
