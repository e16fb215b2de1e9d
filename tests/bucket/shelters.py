"""Small datasets that share contents, for tests of what deletes: retract and gc."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from publisher.bucket.catalog import locate, read_version, resolve
from publisher.bucket.consume import pull
from publisher.bucket.publish import push
from publisher.bucket.survey import garbage, needs_of, survey
from publisher.errors import VersionRetracted
from publisher.storage import Bucket, MemoryBucket, ObjectInfo
from publisher.versions.version import Version
from tests.trees import entry, read_tree

NOON = "2026-01-01T12:00:00+00:00"
REASON = "a person asked for it"
DAY = 86_400.0
SECRET = b"the face of somebody who wants it gone"
FACE = "train/images/face.jpg"

Files = Mapping[str, bytes]
T = TypeVar("T")


class Clocked(MemoryBucket):
    """A bucket whose clock is set by hand."""

    def __init__(self) -> None:
        self.time = 1_750_000_000.0
        super().__init__(lambda: self.time)


class Watched(Clocked):
    """Every operation goes through `_step`; here something may happen before the n-th."""

    def __init__(self, like: MemoryBucket | None = None) -> None:
        super().__init__()
        if like is not None:
            self._objects, self._times = dict(like._objects), dict(like._times)
            self.time = like._clock()
        self.at, self.count = 0, 0
        self.then: Callable[[], None] = lambda: None

    def _step(self, operation: Callable[[], T]) -> T:
        self.count += 1
        if self.count == self.at:
            self.then()
        return operation()

    def get(self, key: str, **options: Any) -> bytes:
        return self._step(lambda: MemoryBucket.get(self, key, **options))

    def read(self, key: str, **options: Any) -> Iterator[bytes]:
        return self._step(lambda: MemoryBucket.read(self, key, **options))

    def head(self, key: str) -> ObjectInfo:
        return self._step(lambda: MemoryBucket.head(self, key))

    def put(self, key: str, body: bytes | Path, **options: Any) -> ObjectInfo:
        return self._step(lambda: MemoryBucket.put(self, key, body, **options))

    def copy(self, source: str, key: str, *, sha256: str) -> ObjectInfo:
        body = self._body(source)
        return self._step(lambda: MemoryBucket.put(self, key, body, sha256=sha256))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return iter(self._step(lambda: [*MemoryBucket.list(self, prefix)]))

    def folders(self, prefix: str) -> tuple[str, ...]:
        return self._step(lambda: MemoryBucket.folders(self, prefix))

    def delete(self, key: str) -> None:
        self._step(lambda: MemoryBucket.delete(self, key))


def rubbish(bucket: Bucket) -> list[str]:
    """The keys of what no version needs."""
    return [o.key for o in garbage(bucket, needs_of(bucket, survey(bucket)))]


def release(folder: Path, files: Files) -> Path:
    """A release tree with exactly these files."""
    from publisher.versions.manifest import Manifest

    for path, body in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    folder.mkdir(parents=True, exist_ok=True)
    listed = Manifest("hands", tuple(entry(p, b) for p, b in files.items()))
    (folder / "manifest.json").write_bytes(listed.to_bytes())
    return folder


def pictures(*numbers: int, **more: bytes) -> dict[str, bytes]:
    """A README and some pictures of the split `train`."""
    files = {f"train/images/{n:03}.jpg": f"picture {n}".encode() * 9 for n in numbers}
    return {"README.md": b"# Hands\n", "LICENSE": b"CC0\n", **files, **more}


def put(
    bucket: Bucket, home: Path, version: str, files: Files, *, name: str = "hands", **options: Any
) -> None:
    """Publish a version with exactly these files."""
    tree = home / f"{name} {version}"
    push(bucket, release(tree, files), name, version, created=NOON, **options)


def holds(bucket: Bucket, home: Path, version: str, name: str = "hands") -> dict[str, bytes] | None:
    """The files that a reader gets; None where it is said to be retracted."""
    out = home / f"out {name} {version} {len(list(home.iterdir()))}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read_tree(pull(bucket, name, Version.parse(version), out).path)
        except VersionRetracted:
            return None


def content(bucket: Bucket, version: str, name: str = "hands") -> dict[str, bytes] | None:
    """As `holds`, without a disk."""
    try:
        record = resolve(bucket, name, Version.parse(version))
    except VersionRetracted:
        return None
    places = locate(bucket, record, read_version(bucket, record))
    return {
        e.path: b"".join(bucket.read(place.key, start=place.offset, length=place.size))
        for place, entries in places.items()
        for e in entries
    }


def bodies(bucket: Bucket) -> bytes:
    """All that lies in a bucket."""
    return b"\0".join(b"".join(bucket.read(o.key)) for o in bucket.list())


# ── two at once ──────────────────────────────────────────────────────────────────────────────


class Turns:
    """Lets actors do their operations on one bucket in an order that is given."""

    def __init__(self, order: list[int]) -> None:
        self._order = deque(order)
        self._over: set[int] = set()
        self._turn = threading.Condition()

    def take(self, actor: int, operation: Callable[[], T]) -> T:
        with self._turn:
            while not self._may(actor):
                assert self._turn.wait(60)
            try:
                return operation()
            finally:
                if self._order:
                    self._order.popleft()
                self._turn.notify_all()

    def _may(self, actor: int) -> bool:
        while self._order and self._order[0] in self._over:
            self._order.popleft()
        return not self._order or self._order[0] == actor

    def end(self, actor: int) -> None:
        with self._turn:
            self._over.add(actor)
            self._turn.notify_all()


class Hand(Watched):
    """What one actor sees of a bucket that all share."""

    def __init__(self, bucket: Clocked, turns: Turns, actor: int) -> None:
        super().__init__()
        self._objects, self._times, self._clock = bucket._objects, bucket._times, bucket._clock
        self._lock = bucket._lock
        self._turns, self._actor = turns, actor

    def _step(self, operation: Callable[[], T]) -> T:
        return self._turns.take(self._actor, operation)


def beside(
    bucket: Clocked, order: list[int], *works: Callable[[Bucket], object]
) -> list[BaseException | None]:
    """Run works, each with its hand on the bucket, in this order of operations; their errors."""
    turns = Turns(order)
    errors: list[BaseException | None] = [None] * len(works)

    def run(actor: int) -> None:
        try:
            works[actor](Hand(bucket, turns, actor))
        except BaseException as error:
            errors[actor] = error
        finally:
            turns.end(actor)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return errors
