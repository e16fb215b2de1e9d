"""
Faults between the protocol and a bucket: one seam, one language for what goes wrong when.

A schedule says at which operation what happens. An operation is named by its number (from 1, in
the order of their coming), or as `"put releases/#2"`: the second put whose key contains
`releases/`. So `{7: "crash after", "get channels/#1": "flip"}` lets the seventh operation be
the last thing that the process does, and one bit of the channel change on its way.

A fault that never happens fails its test: a schedule that misses its mark tests nothing.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

import pytest

from publisher import storage
from publisher.bucket import publish, trees
from publisher.errors import (
    AccessDenied,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    StorageError,
)
from publisher.storage import LIMIT, Bucket, MemoryBucket, ObjectInfo

Kind = Literal[
    "crash before",  # the process dies; nothing was done
    "crash after",  # done, or read by half, then the process dies
    "slow down",  # 503 or a reset before the request came through: not done, and an error
    "reset",  # the connection breaks in the middle of an answer
    "ack lost",  # done, but the answer is lost: an error
    "late",  # an error; what was asked for is done later, at the next "arrives"
    "arrives",  # what came late is done now, before this operation
    "short",  # half of the answer, as if that were all
    "flip",  # one bit is changed on the way, up or down
    "rot",  # one bit of the object changes where it lies, before the operation
    "lost",  # the object disappears, before the operation
    "stale",  # a list as it was when this client came
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_READS = {"get", "read", "head", "copy"}  # of an object that must be there
_WRITES = {"put", "copy", "delete"}
_APPLIES: Mapping[Kind, set[str]] = {
    "crash after": _WRITES | {"read"},
    "ack lost": _WRITES,
    "late": _WRITES,
    "reset": {"read", "list"},
    "short": {"get", "read", "list", "folders"},
    "flip": {"get", "read", "put"},
    "rot": _READS,
    "lost": _READS,
    "stale": {"list"},
}

Choice = Callable[[int, str, str], Kind | None]  # number, operation, key
Schedule = Mapping[int | str, Kind] | Choice
Late = Callable[[Bucket], object]  # a request on its way
NOTHING: Schedule = MappingProxyType({})

T = TypeVar("T")


class Crash(BaseException):
    """The process is gone: nothing that it would have done from here on reaches the bucket."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked of a bucket."""

    name: str
    key: str
    there: bool  # was there such an object?

    def can(self, kind: Kind) -> bool:
        """Can this go wrong with it?"""
        if kind in {"rot", "lost"} and not self.there:
            return False
        return self.name in _APPLIES.get(kind, {self.name})


def flipped(body: bytes, bit: int | None = None) -> bytes:
    """With one bit changed: the middle one unless told otherwise."""
    if not body:
        return b"\1"
    byte, at = divmod(len(body) * 4 if bit is None else bit, 8)
    return body[:byte] + bytes([body[byte] ^ 1 << at]) + body[byte + 1 :]


class FaultyBucket:
    """
    A bucket to which things happen by a schedule. Every client, that is every attempt, has its own.

    Args:
        checks: compares digests of what is sent, as S3 does and moto does not.
        late: requests of dead clients that are still on their way.
        before: called before every operation; see `interleave`.
    """

    def __init__(
        self,
        bucket: Bucket,
        schedule: Schedule = NOTHING,
        *,
        checks: bool = True,
        late: Sequence[Late] = (),
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._bucket = bucket
        self._choose = schedule if callable(schedule) else _Armed(schedule)
        self._checks = checks
        self._before = before
        self._dead = False
        self._old = _snapshot(bucket)
        self.late = list(late)
        self.url = bucket.url
        self.operations: list[Operation] = []
        self.fired: Counter[Kind] = Counter()

    def verify_all_happened(self) -> None:
        """Fail where a fault of the schedule found no operation to happen to."""
        if isinstance(self._choose, _Armed):
            assert not self._choose.left, f"never happened: {self._choose.left}"

    def settle(self) -> None:
        """Do what was asked for long ago; nobody hears of it if that is refused."""
        while self.late:
            with suppress(StorageError, IntegrityError):
                self.late.pop(0)(self._bucket)

    # ── the operations ───────────────────────────────────────────────────────────────────────

    def get(self, key: str, *, limit: int = LIMIT) -> bytes:
        kind = self._begin("get", key)
        body = self._bucket.get(key, limit=limit)
        return body[: len(body) // 2] if kind == "short" else _flip_if(body, kind)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        kind = self._begin("read", key)
        return self._blocks(kind, self._bucket.read(key, start=start, length=length))

    def _blocks(self, kind: Kind | None, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if kind in {"short", "reset", "crash after"}:
                yield block[: len(block) // 2]
                if kind == "crash after":
                    self._die()
                if kind == "reset":
                    raise StorageError("the connection broke")
                return
            yield _flip_if(block, kind)
            kind = None

    def head(self, key: str) -> ObjectInfo:
        self._begin("head", key)
        return self._seen(self._bucket.head(key))

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        sha256: str | None = None,
        **how: Any,
    ) -> ObjectInfo:
        kind = self._begin("put", key)
        sha256 = sha256 if self._checks else None
        if kind == "flip":
            if self._checks:
                raise IntegrityError(f"what was sent as {key} has not its digest", [key])
            body = flipped(body if isinstance(body, bytes) else body.read_bytes())
        if kind == "late" and isinstance(body, Path):
            body = body.read_bytes()  # it was sent
        return self._seen(self._write(kind, lambda b: b.put(key, body, sha256=sha256, **how)))

    def copy(self, source: str, key: str, *, sha256: str) -> ObjectInfo:
        kind = self._begin("copy", source)
        return self._seen(self._write(kind, lambda b: b.copy(source, key, sha256=sha256)))

    def delete(self, key: str) -> None:
        kind = self._begin("delete", key)
        self._write(kind, lambda b: b.delete(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        kind = self._begin("list", prefix)
        if kind == "stale":
            return (o for o in self._old() if o.key.startswith(prefix))
        return self._entries(kind, list(self._bucket.list(prefix)))

    def _entries(self, kind: Kind | None, found: list[ObjectInfo]) -> Iterator[ObjectInfo]:
        yield from found[: len(found) // 2 if kind in {"short", "reset"} else None]
        if kind == "reset":
            raise StorageError("the connection broke")

    def folders(self, prefix: str) -> tuple[str, ...]:
        kind = self._begin("folders", prefix)
        found = self._bucket.folders(prefix)
        return found[: len(found) // 2] if kind == "short" else found

    # ── what happens to them ─────────────────────────────────────────────────────────────────

    def _begin(self, name: str, key: str) -> Kind | None:
        self._before()
        if self._dead:
            raise Crash
        operation = Operation(name, key, _is_there(self._bucket, key))
        self.operations.append(operation)
        kind = self._choose(len(self.operations), name, key)
        if kind is None or not operation.can(kind):
            return None
        self.fired[kind] += 1
        match kind:
            case "crash before":
                self._die()
            case "slow down":
                raise StorageError("503 SlowDown")
            case "arrives":
                self.settle()
            case "rot":
                self._bucket.put(key, flipped(self._bucket.get(key)))
            case "lost":
                self._bucket.delete(key)
        return kind

    def _write(self, kind: Kind | None, work: Callable[[Bucket], T]) -> T:
        if kind == "late":
            self.late.append(work)
            raise StorageError("no answer")
        done = work(self._bucket)
        if kind == "crash after":
            self._die()
        if kind == "ack lost":
            raise StorageError("the answer got lost")
        return done

    def _die(self) -> None:
        self._dead = True
        raise Crash

    def _seen(self, info: ObjectInfo) -> ObjectInfo:
        return info if self._checks else replace(info, sha256=None)


class _Armed:
    """The faults of a schedule that have not happened yet."""

    def __init__(self, schedule: Mapping[int | str, Kind]) -> None:
        self.left: dict[int | str, Kind] = dict(schedule)
        self._named = [(place, *_parsed(place)) for place in schedule if isinstance(place, str)]
        self._met: Counter[str] = Counter()

    def __call__(self, number: int, name: str, key: str) -> Kind | None:
        found = self.left.pop(number, None)
        for place, wanted, part, nth in self._named:
            if name == wanted and part in key:
                self._met[place] += 1
                if self._met[place] == nth:
                    found = self.left.pop(place)
        return found


def _parsed(place: str) -> tuple[str, str, int]:
    what, _, nth = place.partition("#")
    name, _, part = what.partition(" ")
    return name, part, int(nth or 1)


def _is_there(bucket: Bucket, key: str) -> bool:
    if isinstance(bucket, MemoryBucket):
        return key in bucket._objects
    try:
        bucket.head(key)
    except StorageError:
        return False
    return True


def _flip_if(body: bytes, kind: Kind | None) -> bytes:
    return flipped(body) if kind == "flip" else body


def _snapshot(bucket: Bucket) -> Callable[[], Iterator[ObjectInfo]]:
    if not isinstance(bucket, MemoryBucket):
        return list(bucket.list()).__iter__
    old = MemoryBucket()  # far quicker: nothing is hashed until someone asks
    old._objects = bucket._objects.copy()
    return old.list


@contextmanager
def faulty(bucket: Bucket, schedule: Schedule, **how: Any) -> Iterator[FaultyBucket]:
    """A client of a bucket; all of its schedule must have happened at the end."""
    client = FaultyBucket(bucket, schedule, **how)
    yield client
    client.verify_all_happened()


def at_random(seed: int, density: float, kinds: Sequence[Kind]) -> Choice:
    """Any operation may fail, with this probability, by one of these kinds that apply to it."""
    chance = random.Random(seed)

    def choose(number: int, name: str, key: str) -> Kind | None:
        if chance.random() >= density:
            return None
        return chance.choice([k for k in kinds if name in _APPLIES.get(k, {name})])

    return choose


class PatientBucket:
    """Repeats what failed on the way, as the wire does: 8 times in all, reads from their byte."""

    TRIES = 8
    _FINAL = (AccessDenied, ObjectExists, ObjectNotFound, PreconditionFailed)

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.url = bucket.url

    def get(self, key: str, **how: Any) -> bytes:
        return self._again(lambda: self._bucket.get(key, **how))

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        for left in reversed(range(self.TRIES)):
            try:
                for block in self._bucket.read(key, start=start, length=length):
                    yield block
                    start += len(block)
                    length = None if length is None else length - len(block)
            except self._FINAL:
                raise
            except StorageError:
                if not left:
                    raise
            else:
                return

    def head(self, key: str) -> ObjectInfo:
        return self._again(lambda: self._bucket.head(key))

    def put(self, key: str, body: bytes | Path, **how: Any) -> ObjectInfo:
        return self._again(lambda: self._bucket.put(key, body, **how))

    def copy(self, source: str, key: str, *, sha256: str) -> ObjectInfo:
        return self._again(lambda: self._bucket.copy(source, key, sha256=sha256))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return iter(self._again(lambda: list(self._bucket.list(prefix))))

    def folders(self, prefix: str) -> tuple[str, ...]:
        return self._again(lambda: self._bucket.folders(prefix))

    def delete(self, key: str) -> None:
        self._again(lambda: self._bucket.delete(key))

    def _again(self, work: Callable[[], T]) -> T:
        for _ in range(self.TRIES - 1):
            try:
                return work()
            except self._FINAL:
                raise
            except StorageError:
                pass
        return work()


# ── one thing after another ──────────────────────────────────────────────────────────────────


class _AtOnce:
    """Does in the calling thread, and at once, what a ThreadPoolExecutor does in others."""

    def __init__(self, threads: int) -> None: ...

    def __enter__(self) -> _AtOnce:
        return self

    def __exit__(self, *error: object) -> None: ...

    def submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        return future


def make_orderly(patch: pytest.MonkeyPatch) -> None:
    """
    Operations of a client come in the same order every time, from one thread; a key that was
    checked is not checked again, which is dear. Leases, which have names by chance and tell the
    time, are left out: tests/bucket/test_gc.py is about them.
    """
    patch.setattr(publish, "held", _no_lease)
    patch.setattr(trees, "THREADS", 1)
    patch.setattr(trees, "ThreadPoolExecutor", _AtOnce)
    # Python 3.11 locks these for all pushes of a process
    for name in ("_by_content", "_earlier", "_indexes"):
        patch.setattr(vars(publish._Push)[name], "lock", nullcontext(), raising=False)
    patch.setattr(storage, "_checked", lru_cache(maxsize=10_000)(storage._checked))


class _NoLease:
    """A lease that is never lost."""

    def renew(self) -> None: ...

    def check(self) -> None: ...

    def covers(self, moment: float) -> None: ...


@contextmanager
def _no_lease(bucket: object, claim: str, what: str) -> Iterator[_NoLease]:
    yield _NoLease()


Turn = Callable[[], None]  # to be called before each operation; returns when it may be done


def interleave(
    workers: Sequence[Callable[[Turn], object]], order: Callable[[list[int]], int]
) -> None:
    """
    Run workers in turns, each until its next operation: always the same way for the same order.

    Args:
        order: which of those that have more to do goes on.
    """
    left, turns = list(range(len(workers))), [threading.Semaphore(0) for _ in workers]

    def run(number: int) -> None:
        def turn() -> None:
            chosen = order(left)
            if chosen != number:  # else it goes on, without waking anyone
                turns[chosen].release()
                turns[number].acquire()

        turns[number].acquire()
        try:
            workers[number](turn)
        finally:
            left.remove(number)
            if left:
                turns[order(left)].release()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(workers))]
    for thread in threads:
        thread.start()
    turns[order(left)].release()
    for thread in threads:
        thread.join()


class Fails(MemoryBucket):
    """The network goes away at one operation, before it or after it, and does not come back."""

    def __init__(self, objects=None, *, applied=False):
        super().__init__()
        self._objects = dict(objects or {})
        self.left = 10**9
        self._applied = applied

    def _tick(self, call):
        self.left -= 1
        if self.left >= 0:
            return call()
        if self._applied:
            call()
        raise StorageError("the network went away")

    def get(self, key, **options):
        return self._tick(lambda: MemoryBucket.get(self, key, **options))

    def read(self, key, **options):
        return self._tick(lambda: MemoryBucket.read(self, key, **options))

    def head(self, key):
        return self._tick(lambda: MemoryBucket.head(self, key))

    def put(self, key, body, **options):
        return self._tick(lambda: MemoryBucket.put(self, key, body, **options))

    def list(self, prefix=""):
        return self._tick(lambda: MemoryBucket.list(self, prefix))
