"""
Fetch a published dataset with nothing but Python 3.9. This file lies beside every version.

    python get.py URL                       the folder that this file came from
    python get.py URL --split val -o hands  one split; repeat --split for more

Every file is hashed before it gets its name, and what is there already is not fetched again.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

GAP = 2**16  # bytes between two files that cost less than another request
SPAN = 2**26  # bytes of one request for several files
TRIES = 3

_ROW = struct.Struct("<32sIQQ")  # sha256, number of the object, offset, size
_WRONG = re.compile(r"[\x00-\x1f\\]|^[A-Za-z]:|^/|(^|/)(\.{0,2})(/|$)")  # names that could harm

Row = dict[str, Any]  # a line of a list of files: path, sha256, size
Place = tuple[str, int, int]  # key of an object, offset, size


def main() -> None:
    """Fetch, or say what is wrong and exit with 1."""
    parser = argparse.ArgumentParser(description="Fetch a published dataset.")
    parser.add_argument("url", help="the folder of a version: .../datasets/NAME/vX.Y.Z")
    parser.add_argument("--split", action="append", help="only this split; repeatable")
    parser.add_argument("-o", "--out", type=Path, default=Path())
    asked = parser.parse_args()
    match = re.fullmatch(r"(.*/)datasets/([^/]+)/v([^/]+?)/?(get\.py)?", asked.url)
    if not match:
        parser.error("the address ends with datasets/NAME/vX.Y.Z")
    base, name, version = match[1], match[2], match[3]
    record = json.loads(_whole(base, f"datasets/{name}/releases/{version}.json"))
    said = json.loads(_maybe(base, f"datasets/{name}/status/{version}.json") or b"{}")
    if said.get("state") == "retracted":
        sys.exit(f"error: {name} {version} is gone: it was retracted: {said['reason']!r}")
    if unknown := set(asked.split or ()) - set(record["splits"]):
        parser.error(f"no split {min(unknown)!r}; there are: {', '.join(record['splits'])}")
    wanted = {
        shard: facts
        for shard, facts in record["shards"].items()
        if not asked.split or shard[6:] in asked.split or not shard.startswith("split/")
    }
    files = [f for facts in wanted.values() for f in _files(base, facts)]
    todo = [f for f in files if not _is_there(_target(asked.out, f[1]["path"]), f[1])]
    for _ in range(TRIES):
        todo = [f for run in _runs(todo) for f in _fetch(base, asked.out, run)]
    if todo:
        sys.exit(f"error: missing or wrong bytes for {', '.join(r['path'] for _, r in todo[:5])}")
    print(f"{name} {version} {_root(record)}: {len(files)} files are there and right")


def _root(record: Row) -> str:
    """What the version is, from what was checked; compare it with what you were told."""
    digests = {n: s["sha256"] for n, s in record["shards"].items() if n != "provenance"}
    text = json.dumps(digests, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _files(base: str, shard: Row) -> Iterator[tuple[Place, Row]]:
    """The files of a shard, and where the bytes of each lie."""
    lines = _named(base, f"manifests/{shard['sha256']}.jsonl", shard["sha256"])
    head, _, rows = _index(base, shard["index"]).partition(b"\n")
    objects = json.loads(head)["objects"]
    places = {r[0].hex(): (objects[r[1]]["key"], r[2], r[3]) for r in _ROW.iter_unpack(rows)}
    for line in lines.splitlines():
        row = json.loads(line)
        yield places[row["sha256"]], row


def _open(base: str, key: str, start: int = 0, stop: int | None = None) -> IO[bytes]:
    request = Request(base + quote(key))
    if stop is not None:
        request.add_header("Range", f"bytes={start}-{stop - 1}")
    answer: IO[bytes] = urlopen(request, timeout=60)
    if stop is not None and getattr(answer, "status", None) != 206:
        answer.read(start)  # a folder, or a server that gives all of it
    return answer


def _whole(base: str, key: str) -> bytes:
    with _open(base, key) as answer:
        return answer.read()


def _maybe(base: str, key: str) -> bytes | None:
    """An object that need not be there; S3 denies what is not there to those who may not list."""
    try:
        return _whole(base, key)
    except HTTPError as error:
        if error.code in {403, 404, 410}:
            return None
        raise
    except URLError as error:
        if isinstance(error.reason, FileNotFoundError):
            return None
        raise


def _index(base: str, sha256: str) -> bytes:
    """The index with this digest, or what has taken its place."""
    key = f"index/{sha256}.idx"
    body = _maybe(base, key)
    if body is None:
        sha256 = json.loads(_whole(base, f"relocations/{sha256}.json"))["to"]
        return _named(base, f"index/{sha256}.idx", sha256)
    return _checked(body, key, sha256)


def _named(base: str, key: str, sha256: str) -> bytes:
    return _checked(_whole(base, key), key, sha256)


def _checked(body: bytes, key: str, sha256: str) -> bytes:
    if hashlib.sha256(body).hexdigest() != sha256:
        sys.exit(f"error: {key} is damaged")
    return body


def _target(out: Path, name: str) -> Path:
    if _WRONG.search(name):
        sys.exit(f"error: the version has a file with the name {name!r}")
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.resolve().is_relative_to(out.resolve()):
        sys.exit(f"error: {path.parent} is a link that leads out of {out}")
    return path


def _is_there(path: Path, row: Row) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != row["size"]:
        return False
    with path.open("rb") as stream:
        return _hash(stream, row["size"]) == str(row["sha256"])


def _runs(files: list[tuple[Place, Row]]) -> Iterator[list[tuple[Place, Row]]]:
    """Files that one request fetches: near each other in one object."""
    run: list[tuple[Place, Row]] = []
    for place, row in sorted(files, key=lambda f: f[0]):
        if run:
            (key, start, _), (_, last, size) = run[0][0], run[-1][0]
            is_near = key == place[0] and 0 <= place[1] - last - size <= GAP
            if not is_near or place[1] + place[2] - start > SPAN:
                yield run
                run = []
        run.append((place, row))
    if run:
        yield run


def _fetch(base: str, out: Path, run: list[tuple[Place, Row]]) -> Iterator[tuple[Place, Row]]:
    """Install the files of one run; give back those that did not come, or came wrong."""
    (key, at, _), (_, last, size) = run[0][0], run[-1][0]
    left, stop = list(run), last + size
    try:
        with _open(base, key, at, stop) if stop > at else io.BytesIO() as body:
            for (_, offset, size), row in run:
                _hash(body, offset - at)
                at = offset + size
                path = _target(out, row["path"])
                part = path.with_name(path.name + ".part")
                with part.open("wb") as file:
                    digest = _hash(body, size, file)
                if digest == row["sha256"]:
                    os.replace(part, path)
                    left.remove(((key, offset, size), row))
    except (OSError, http.client.HTTPException) as error:
        print(f"{key}: {error}", file=sys.stderr)
    yield from left


def _hash(body: IO[bytes], size: int, copy: IO[bytes] | None = None) -> str:
    digest = hashlib.sha256()
    while size > 0 and (block := body.read(min(size, 2**20))):
        digest.update(block)
        size -= len(block)
        if copy:
            copy.write(block)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
