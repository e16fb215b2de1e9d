"""
What lies beside a version for people without publisher: checksums, addresses, a script. Pure.

They say nothing that the record, the lists and the indexes do not say; who has publisher never
reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from .manifest import PROVENANCE, Entry

SUMS = "SHA256SUMS"
URLS = "urls.txt"
SCRIPT = "get.py"
DOCUMENTS = frozenset({SUMS, URLS, SCRIPT})

_UP = "../../../"  # from datasets/<name>/v<version>/ to where the keys begin


def sums(entries: Iterable[Entry]) -> bytes:
    """
    What `sha256sum -c` reads: every file of a version.

    Without provenance.json: the same data built from another commit has the same bytes here.
    """
    return b"".join(sum_lines(entries))


def sum_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The same, line by line."""
    return (f"{e.sha256}  {e.path}\n".encode() for e in entries if e.path != PROVENANCE)


def urls(keys: Iterable[str], folder: str) -> bytes:
    """Where the objects with these keys lie, one a line, seen from a folder of the bucket."""
    lines = (
        quote(key.removeprefix(folder)) if key.startswith(folder) else _UP + quote(key)
        for key in sorted(set(keys))
    )
    return "".join(f"{line}\n" for line in lines).encode()


_SEAL = b"# sha256 of all above: "


def sealed_script(body: bytes) -> bytes:
    """get.py with a last line that knows the rest, so that damage is told from an older script."""
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b"\n"


def is_script(body: bytes) -> bool:
    """Is this a get.py as some publisher has put it, whole?"""
    return body == sealed_script(body.rpartition(_SEAL)[0])
