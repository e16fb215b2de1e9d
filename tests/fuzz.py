"""
What does `publisher validate` do with broken files? Run as a program, it is the child that
may crash: `python tests/fuzz.py SEEDS FIRST LAST` prints one JSON line a case.

Seeds are small sound inputs, one a format; a case is a seed with a few mutations, chosen by
its number alone. What is allowed: findings, or one of our own errors. Nothing else.
"""

from __future__ import annotations

import io
import json
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY = 3 * 2**29  # bytes of address space
SECONDS = 10  # of one case; most take hundredths
NUMBERS = [0, -1, 1, 2, 2**31, 2**53 + 1, 2**63, -(2**63), 1e5, 1e9, 1e308, 0.5, -0.0]
VALUES: list[Any] = [*NUMBERS, None, True, "", "x", "../../x", "\ud800", [], {}, [[]], "9" * 400]
TOKENS = [b"NaN", b"Infinity", b"1e999", b"-1", b"0", b"null", b'""', b"[]", b"99999999999", b"{"]


def mutated(body: bytes, name: str, rng: random.Random) -> bytes:
    """The file after one to three mutations that suit its kind."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        body = rng.choice(_ways(name))(body, rng)
    return body


def _ways(name: str) -> list[Callable[[bytes, random.Random], bytes]]:
    kind = name.rpartition(".")[2].lower()
    special: dict[str, list[Callable[[bytes, random.Random], bytes]]] = {
        "json": [_json, _json, _json, _token],
        "jsonl": [_token, _token],
        "xml": [_token, _token, _attribute, _attribute],
        "png": [_png, _png],
        "txt": [_token, _token],
        "zip": [_zip, _zip, _zip],
    }
    return [*special.get(kind, []), _flip, _cut, _double]


def _flip(body: bytes, rng: random.Random) -> bytes:
    out = bytearray(body)
    for _ in range(rng.choice((1, 1, 4, 20))):
        if out:
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randrange(len(body) + 1)]


def _double(body: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    return body[:b] + body[a:b] * rng.choice((0, 1, 2)) + body[b:]


def _token(body: bytes, rng: random.Random) -> bytes:
    """Put something else where a number stands."""
    at = [i for i, c in enumerate(body) if chr(c).isdigit()]
    if not at:
        return body
    start = rng.choice(at)
    end = start
    while end < len(body) and chr(body[end]) in "0123456789.":
        end += 1
    return body[:start] + rng.choice(TOKENS) + body[end:]


def _attribute(body: bytes, rng: random.Random) -> bytes:
    """Swap two quoted values, or drop a tag."""
    parts = body.split(rng.choice((b'"', b"<")))
    if len(parts) < 3:
        return body
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[i], parts[j] = parts[j], parts[i]
    return (b'"' if b'="' in body else b"<").join(parts)


def _json(body: bytes, rng: random.Random) -> bytes:
    """Change, drop or move one value of a document."""
    try:
        document = json.loads(body)
    except ValueError:
        return _flip(body, rng)
    spots = list(_spots(document))
    if not spots:
        return body
    holder, key = rng.choice(spots)
    match rng.randrange(4):
        case 0:
            del holder[key]
        case 1:
            other, where = rng.choice(spots)
            try:
                holder[key] = json.loads(json.dumps(other[where]))
            except (LookupError, TypeError):
                holder[key] = None
        case _:
            holder[key] = rng.choice(VALUES)
    return json.dumps(document).encode()


def _spots(value: Any) -> Any:
    if isinstance(value, dict | list):
        pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for key, inner in pairs:
            yield value, key
            yield from _spots(inner)


def _png(body: bytes, rng: random.Random) -> bytes:
    """Change a chunk and mend its CRC, so that the decoder gets to see it."""
    chunks, at = [], 8
    while at + 12 <= len(body):
        (length,) = struct.unpack_from(">I", body, at)
        chunks.append((body[at + 4 : at + 8], body[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return body
    n = rng.randrange(len(chunks))
    kind, content = chunks[n]
    if kind == b"IHDR" and rng.random() < 0.7 and len(content) == 13:
        fields = list(struct.unpack(">IIBBBBB", content))
        fields[rng.randrange(7)] = rng.choice((0, 1, 3, 6, 16, 255))
        if rng.random() < 0.3:
            fields[rng.randrange(2)] = rng.choice((2**31 - 1, 40_000, 2**20))
        content = struct.pack(">IIBBBBB", *fields)
    else:
        content = rng.choice((_flip, _cut, _double))(content, rng)
    chunks[n] = kind, content
    out = [body[:8]]
    for kind, content in chunks:
        crc = zlib.crc32(kind + content)
        out.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc))
    return b"".join(out)


def _zip(body: bytes, rng: random.Random) -> bytes:
    """Mutate, rename, drop or double a member."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as z:
            members = [(n, z.read(n)) for n in z.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, zlib.error):
        return _flip(body, rng)
    if not members:
        return body
    n = rng.randrange(len(members))
    name, content = members[n]
    match rng.randrange(6):
        case 0:
            del members[n]
        case 1:
            members[n] = rng.choice(("../x", "/x", "a\\b", "x" * 300, name.upper(), "")), content
        case 2:
            members.append((name + rng.choice((".json", ".xml", "")), content))
        case _:
            members[n] = name, mutated(content, name, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for member, inside in members:
            z.writestr(zipfile.ZipInfo(member or "x"), inside)
    return out.getvalue()


def run(seed: Path, number: int) -> str:
    """One case: the word `findings` or `error` if all is well, else what went wrong."""
    import warnings

    from publisher.errors import PublisherError
    from publisher.stages import checking

    warnings.simplefilter("ignore")
    rng = random.Random(number)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, seed.name)
        if seed.is_dir():
            shutil.copytree(seed, copy)
        else:
            shutil.copyfile(seed, copy)
        files = [p for p in sorted(copy.rglob("*")) if p.is_file()] if copy.is_dir() else [copy]
        victim = rng.choice(files)
        victim.write_bytes(mutated(victim.read_bytes(), victim.name, rng))
        start = time.monotonic()
        try:
            checked = checking.run(copy)
            said = [str(f) for f in checked.findings]
            result = "findings" if all(len(s.splitlines()) == 1 for s in said) else "two lines"
        except PublisherError:
            result = "error"
        except Exception:  # whatever it is, it is a bug, and its traceback says where
            result = traceback.format_exc()
    seconds = time.monotonic() - start
    return result if seconds < SECONDS else f"took {seconds:.0f} s, {result}"


def main(seeds: Path, first: int, last: int) -> None:
    """Run cases first .. last - 1, told before each so that a crash has a name."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found = sorted(seeds.iterdir())
    for number in range(first, last):
        seed = found[number % len(found)]
        print(json.dumps({"case": number, "seed": seed.name}), flush=True)
        print(json.dumps({"case": number, "result": run(seed, number)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
