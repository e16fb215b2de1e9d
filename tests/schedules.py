"""
Every fault at every step of small publications, with the real code, on a bucket in memory.

What a push does follows from what is in the bucket, its tree and what goes wrong: nothing else
is left of an attempt that failed. So states of the bucket are nodes, an attempt with one fault is
an edge, and trying every edge of every node that can be reached covers all schedules, however many
attempts fail one after another. `Trial.explore` does that, and checks after each edge that:

1. a version that is visible reads back byte by byte, or says loudly that it does not;
2. a version never changes once it is visible;
3. there are never two contents under one version;
4. what was acknowledged is visible;
5. (nothing that a visible version needs is deleted: that is 1 and 2 for scenes with gc);
6. channels move forward only;
7. one more attempt without faults succeeds, and what is left over is bounded;
8. verify names exactly what is damaged (`damaged` says it independently).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

import pytest

from publisher.bucket import publish
from publisher.bucket.catalog import locate, read_version, resolve
from publisher.bucket.consume import pull
from publisher.bucket.maintain import mark, move_channel
from publisher.bucket.publish import push
from publisher.bucket.verifying import verify_remote
from publisher.errors import IntegrityError, PublisherError, StorageError, VersionConflict
from publisher.spill import Spill
from publisher.storage import Bucket, MemoryBucket, ObjectInfo
from publisher.versions.manifest import Layout
from publisher.versions.packs import Index, digest_in
from publisher.versions.version import Channel, Version

from .faults import (
    NOTHING,
    Crash,
    FaultyBucket,
    Kind,
    Late,
    Operation,
    PatientBucket,
    Schedule,
    Turn,
    at_random,
    flipped,
    interleave,
    make_orderly,
)
from .trees import make_tree, manifest

T = TypeVar("T")
Files = Mapping[str, bytes]
State = frozenset[tuple[str, bytes]]  # a bucket: its keys and what they hold
Outcome = Literal["done", "conflict", "damaged", "failed", "refused", "crashed"]

NOON = "2026-01-01T12:00:00+00:00"
FIRST: Files = {
    "README.md": b"# Hands\n",
    "annotations/instances_train.json": b'{"images":[1,2]}',
    "provenance.json": b'{"commit":"abc"}\n',
    "train/images/1.jpg": b"first picture",
    "train/images/2.jpg": b"second picture",
}
OTHER: Files = {**FIRST, "README.md": b"# Feet\n", "train/images/1.jpg": b"another picture"}
NEXT: Files = {
    **FIRST,
    "annotations/instances_train.json": b'{"images":[1,2,3]}',
    "train/images/3.jpg": b"third picture",
}

# what goes wrong on the way, and leaves no damage behind
PASSING: tuple[Kind, ...] = (
    *("crash before", "crash after", "slow down", "reset", "ack lost", "short", "flip", "stale"),
)
REPEATED: tuple[Kind, ...] = ("slow down", "reset", "ack lost")  # what the wire tries again
DAMAGE: tuple[Kind, ...] = ("rot", "lost")

ALONE = ("first version", "second version", "yank")  # scenes with one who does something
TOGETHER = (
    *("one version, two contents", "one version, two layouts", "two versions", "channel"),
    "yank and push",
)


# ── who does what ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Step:
    """Something that a maintainer does, and what must be so once that is acknowledged."""

    name: str
    run: Callable[[Bucket], object] = field(compare=False)
    files: Files = field(default_factory=dict, compare=False)  # that it publishes
    version: str = ""
    channel: str = ""  # that it moves to this version, or further
    state: str = ""  # what it says of the version

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def root(self) -> str:
        """Of the files that it publishes."""
        return manifest(self.files).root


@dataclass(frozen=True)
class Scene:
    """What is in the bucket, and who will try what until it succeeds."""

    name: str
    before: tuple[Step, ...]
    steps: tuple[Step, ...]


class Cast:
    """Makes steps upon trees in a folder."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def push(self, files: Files, version: str, layout: Layout, created: str = NOON) -> Step:
        """Publish these files; `latest` follows. Attempts at the same time are equal."""
        digest = manifest(files).root[7:19]
        tree = self._home / digest
        if not tree.exists():
            make_tree(tree, files=files)

        def run(bucket: Bucket) -> None:
            push(bucket, tree, "hands", version, created=created, layout=layout)

        return Step(f"push {layout} {version} {digest}", run, files, version, channel="latest")

    def move(self, version: str, channel: str = "stable") -> Step:
        """Let a channel point to a version."""

        def run(bucket: Bucket) -> None:
            move_channel(bucket, "hands", Channel(channel), version)

        return Step(f"{channel} to {version}", run, {}, version, channel=channel)

    def yank(self, version: str) -> Step:
        """Yank a version."""

        def run(bucket: Bucket) -> None:
            mark(bucket, "hands", Version.parse(version), "yanked", "mixed up", at=NOON)

        return Step(f"yank {version}", run, {}, version, state="yanked")

    def pulls(self, layout: Layout) -> dict[str, tuple[PullTrial, State]]:
        """Pulls into a new folder, and into one that has the version before; with that folder."""
        bucket = MemoryBucket()
        for files, version in ((FIRST, "1.0.0"), (NEXT, "1.1.0")):
            self.push(files, version, layout).run(bucket)
        first = PullTrial(self._home, state_of(bucket), {}, FIRST, "1.0.0")
        after = PullTrial(self._home, state_of(bucket), FIRST, NEXT, "1.1.0")
        return {
            "new folder": (first, frozenset()),
            "next version": (after, first.free(frozenset())[1]),
        }

    def scenes(self, layout: Layout) -> dict[str, Scene]:
        """The small histories that are tried, by name."""
        first = self.push(FIRST, "1.0.0", layout)
        after = self.push(NEXT, "1.1.0", layout)
        moved = (self.push(FIRST, "0.9.0", layout), first, after, self.move("0.9.0"))
        scenes = (
            Scene("first version", (), (first,)),
            Scene("second version", (first,), (after,)),
            Scene("one version, two contents", (), (first, self.push(OTHER, "1.0.0", layout))),
            Scene("one version, two layouts", (), tuple(self._both_layouts())),
            Scene("two versions", (), (first, after)),
            Scene("channel", moved, (self.move("1.0.0"), self.move("1.1.0"))),
            Scene("yank", (first, after), (self.yank("1.1.0"),)),
            Scene("yank and push", (first,), (self.yank("1.0.0"), after)),
        )
        return {scene.name: scene for scene in scenes}

    def _both_layouts(self) -> Iterable[Step]:
        for layout in ("plain", "packs"):
            yield self.push(FIRST, "1.0.0", layout)


# ── what is so in a bucket, told without the code under test ─────────────────────────────────


def bucket_of(state: Iterable[tuple[str, bytes]]) -> MemoryBucket:
    """A bucket that holds this."""
    bucket = MemoryBucket()
    bucket._objects = dict(state)
    return bucket


def state_of(bucket: MemoryBucket) -> State:
    """All that a bucket holds."""
    return frozenset(bucket._objects.items())


def records(objects: Mapping[str, bytes]) -> dict[str, bytes]:
    """The release records by version."""
    start = "datasets/hands/releases/"
    return {k.removeprefix(start)[:-5]: b for k, b in objects.items() if k.startswith(start)}


def channels(objects: Mapping[str, bytes]) -> dict[str, Version]:
    """Where channels point to."""
    start = "datasets/hands/channels/"
    return {
        k.removeprefix(start)[:-5]: Version.parse(json.loads(b)["version"])
        for k, b in objects.items()
        if k.startswith(start)
    }


def damaged(objects: Mapping[str, bytes], version: str, files: Files) -> set[str]:
    """
    What `verify --deep` must name of a version with these files: lists that are missing or wrong,
    the files whose bytes are, and the objects that are wrong between their files.
    """
    key = f"datasets/hands/releases/{version}.json"
    record = _sealed(objects[key])
    if record is None:
        return {key}
    lists: dict[str, str] = {}
    for shard in record["shards"].values():
        lists[f"manifests/{shard['sha256']}.jsonl"] = shard["sha256"]
        lists[f"index/{shard['index']}.idx"] = shard["index"]
    found = {k for k, digest in lists.items() if _digest(objects.get(k)) != digest}
    held: dict[str, set[str]] = defaultdict(set)
    for path, body in files.items():
        shard = record["shards"][_shard_of(path)]
        if found & {f"manifests/{shard['sha256']}.jsonl", f"index/{shard['index']}.idx"}:
            continue  # nobody knows where they lie
        index = Index(*_parse_index(objects[f"index/{shard['index']}.idx"]))
        place = index.find(hashlib.sha256(body).hexdigest())
        assert place is not None
        whole = objects.get(place.key, b"")
        held[place.key].add("")
        part = whole if place.is_whole else whole[place.offset : place.offset + place.size]
        if part != body:
            held[place.key].add(path)
    for name, paths in held.items():
        bad = paths - {""}
        if not bad and (digest := digest_in(name)) and _digest(objects.get(name)) != digest:
            bad = {name}
        found |= bad
    return found


def named_rightly(objects: Mapping[str, bytes], named: set[str], wrong: set[str]) -> bool:
    """
    Is exactly that named which is wrong? Objects whose files nobody knows, since a list is lost,
    may be named by their keys.
    """
    more = named - wrong
    if not wrong <= named or not more:
        return named == wrong
    lists = any(w.startswith(("manifests/", "index/")) for w in wrong)
    return lists and all(_digest(objects.get(key)) != digest_in(key) for key in more)


def reachable(objects: Mapping[str, bytes]) -> set[str]:
    """What versions need, and what says which they are and what became of them."""
    found = {"publisher.json"}
    found |= {k for k in objects if k.split("/")[2:3] in (["releases"], ["channels"], ["status"])}
    for version, body in records(objects).items():
        record = json.loads(body)
        folder = f"datasets/hands/v{version}/"
        beside = ["SHA256SUMS", "urls.txt", "get.py"]
        beside += ["manifest.json", "provenance.json"] if record["layout"] == "plain" else []
        found |= {folder + name for name in beside}
        for shard in record["shards"].values():
            found |= {f"manifests/{shard['sha256']}.jsonl", f"index/{shard['index']}.idx"}
            head = objects.get(f"index/{shard['index']}.idx", b'{"objects":[]}').partition(b"\n")[0]
            found |= {o["key"] for o in json.loads(head)["objects"]}
    return found & objects.keys()


def _decides(key: str) -> bool:
    """Does it say which versions there are, and which a channel means?"""
    return "/releases/" in key or "/channels/" in key


def _sealed(body: bytes) -> dict | None:
    """A document, if its bytes are those that its seal was made of."""
    try:
        document = json.loads(body)
        seal = document.pop("seal")
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        document["seal"] = hashlib.sha256(text.encode()).hexdigest()
        canonical = json.dumps(
            document, sort_keys=True, indent=1, separators=(",", ": "), ensure_ascii=False
        )
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return document if seal == document["seal"] and canonical.encode() + b"\n" == body else None


def _digest(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha256(body).hexdigest()


def _shard_of(path: str) -> str:
    if path == "provenance.json":
        return "provenance"
    return "split/train" if path.startswith("train/") or "_train." in path else "common"


def _parse_index(body: bytes) -> tuple[tuple[tuple[str, int], ...], Spill]:
    head, _, rows = body.partition(b"\n")
    return tuple((o["key"], o["size"]) for o in json.loads(head)["objects"]), Spill.of_bytes(rows)


# ── attempts ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Result:
    """How an attempt ended, and what it left."""

    step: Step
    outcome: Outcome
    state: State
    operations: tuple[Operation, ...]
    late: tuple[Late, ...]


@dataclass
class Tally:
    """What was done, for docs/reliability.md."""

    faults: Counter[Kind] = field(default_factory=Counter)
    attempts: int = 0
    states: int = 0
    schedules: int = 0  # of up to three failing attempts, that the edges make up
    published: int = 0  # versions that became visible
    read: int = 0  # versions that were read back, each byte
    extra: list[int] = field(default_factory=list)  # operations that one fault costs
    garbage: int = 0  # most bytes that were ever left over
    loud: int = 0  # readings of damage that named exactly that

    def add(self, other: Tally) -> None:
        """Sum up."""
        self.faults += other.faults
        for name in ("attempts", "states", "schedules", "published", "read", "extra", "loud"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.garbage = max(self.garbage, other.garbage)

    @property
    def total(self) -> int:
        """Faults of all kinds."""
        return sum(self.faults.values())

    @property
    def median_extra(self) -> float:
        """Operations that one fault costs beyond those of an undisturbed attempt."""
        return median(self.extra) if self.extra else 0


class Violation(AssertionError):
    """An invariant does not hold."""


class Trial:
    """All that can go wrong with a scene."""

    def __init__(self, scene: Scene, *, checks: bool = True) -> None:
        self._scene = scene
        self.name, self.steps = scene.name, scene.steps
        self._checks = checks
        every = [s for s in (*scene.before, *scene.steps) if s.files]
        self._contents = {s.root: s.files for s in every}
        self._sound: dict[State, bool] = {}
        self._free: dict[tuple[State, Step], Result] = {}
        self._way: dict[State, list[str]] = {}
        self.tally = Tally()
        bucket = MemoryBucket()
        for step in scene.before:
            step.run(bucket)
        self.start = state_of(bucket)
        self._way[self.start] = []
        self._ends = [self.free(self.start, s).state for s in scene.steps]

    # ── what can be tried ────────────────────────────────────────────────────────────────────

    def explore(self, kinds: Sequence[Kind] = PASSING, failing: int = 1_000) -> None:
        """
        One fault at every operation of every attempt, upon every state that comes of it.

        Args:
            failing: attempts that fail one after another; all there are, unless told otherwise.
        """
        edges: dict[State, Counter[State]] = {self.start: Counter()}
        queue, deep = [self.start], {self.start: 0}
        for state in queue:
            out = edges.setdefault(state, Counter())
            for step in self._scene.steps:
                free = self.free(state, step)
                self.converges(state, step)
                if deep[state] == failing:
                    continue
                found = [free, *self._each_fault(state, step, kinds)]
                out.update(r.state for r in found[1:])
                if state == self.start:
                    self.tally.extra += map(self._cost, found[1:])
                for result in found:
                    if result.state not in deep:
                        deep[result.state] = deep[state] + 1
                        queue.append(result.state)
        self.tally.states += len(deep)
        self.tally.schedules += _paths(edges, self.start, min(failing, 3))

    def _each_fault(
        self, state: State, step: Step, kinds: Sequence[Kind], *, mends: bool = False
    ) -> Iterator[Result]:
        free = self.attempt(state, step, mends=True) if mends else self.free(state, step)
        for number, operation in enumerate(free.operations, 1):
            for kind in kinds:
                if operation.can(kind):
                    yield self.attempt(state, step, {number: kind}, mends=mends)

    def _cost(self, result: Result) -> int:
        """Operations that a fault in the first attempt costs, with all of the next attempt."""
        undisturbed = len(self.free(self.start, result.step).operations)
        again = (
            0 if result.outcome == "done" else len(self.free(result.state, result.step).operations)
        )
        return len(result.operations) + again - undisturbed

    def late_arrivals(self) -> None:
        """
        A write of a dead client arrives at any moment of the next attempt, or after it.

        No answer came, so nobody knows of it: a proxy held it back.
        """
        for step in self._scene.steps:
            for number, operation in enumerate(self.free(self.start, step).operations, 1):
                if operation.can("late"):
                    cut = self.attempt(self.start, step, {number: "late"}, settles=False)
                    for other in self._scene.steps:
                        self._arrives_during(cut, other)

    def _arrives_during(self, cut: Result, step: Step) -> None:
        moments = len(self.free(cut.state, step).operations)
        for number in range(1, moments + 1):
            self.attempt(cut.state, step, {number: "arrives"}, late=cut.late)
        self.attempt(cut.state, step, late=cut.late)  # after its end
        for state in {self.attempt(cut.state, step, late=cut.late).state}:
            for after in self._scene.steps:
                self.converges(state, after)

    def storm(self, seed: int, density: float = 0.6) -> None:
        """Any operation fails, again and again; the client repeats each as the wire does."""
        for step in self._scene.steps:
            state = self.start
            for attempt in range(100):
                weather = at_random(seed * 100 + attempt, density, REPEATED)
                result = self.attempt(state, step, weather, patient=True)
                state = result.state
                if result.outcome == "done":
                    break
            else:
                raise Violation(f"{step.name}: seed {seed}: a hundred attempts were not enough")
            self.converges(state, step)

    def damage(self) -> None:
        """
        An object rots or is lost before any operation upon it: readers hear of exactly that, also
        after the next attempt, which mends it or not.
        """
        for step in self._scene.steps:
            for result in self._each_fault(self.start, step, DAMAGE):
                self.names_damage(result.state)
                self.names_damage(self.attempt(result.state, step, mends=True).state)

    def each_byte(self, step: int = 1) -> None:
        """
        Every object that a version needs loses itself, its end, or a bit of each byte, by turns;
        documents for people apart, which nothing rests on.
        """
        state = self.free(self.start, self._scene.steps[-1]).state
        whole = dict(state)
        channels_and_probe = {"publisher.json"} | {k for k in whole if "/channels/" in k}
        people = {k for k in whole if k.endswith(("SHA256SUMS", "urls.txt", "get.py"))}
        people |= {k for k in whole if k.endswith(("/manifest.json", "/provenance.json"))}
        for key in sorted(reachable(whole) - people - channels_and_probe):
            body = whole[key]
            bits = range(0, len(body) * 8, step * 8)
            broken = [flipped(body, bit + bit // 8 % 8) for bit in bits]
            for bad in [*broken, body[:-1], body + b"\0", None]:
                objects = {**whole, key: bad} if bad is not None else dict(whole)
                if bad is None:
                    del objects[key]
                    self._is_gone(objects, key)
                else:
                    self.names_damage(frozenset(objects.items()))
                self.tally.faults["lost" if bad is None else "rot"] += 1

    def _is_gone(self, objects: Files, key: str) -> None:
        """A version without a record is not there; what else is lost is named."""
        if "/releases/" not in key:
            self.names_damage(frozenset(objects.items()))
        else:
            self.tally.loud += 1

    def remnants(self, count: int, seed: int = 0) -> None:
        """
        Requests of a push go out in parallel, so that one that was killed may leave any part of
        its objects. Upon any such part the next attempt ends as it would upon none.
        """
        chance = random.Random(seed)
        for step in self.steps:
            end = self.free(self.start, step).state
            loose = sorted(o for o in end - self.start if not _decides(o[0]))
            for _ in range(count):
                part = [o for o in loose if chance.random() < 0.5]
                state = self.start | frozenset(part)
                self._way[state] = [f"what there is of {step.name}: {[k for k, _ in part]}"]
                if self.free(state, step).state != end:
                    raise self._violation(state, "the end is another")

    def mends(self) -> None:
        """A push puts back whatever of its files and lists was lost, cut short or changed."""
        step, end = self.steps[-1], self._end
        for kind, hurt in self._hurt(end):
            mended = self.attempt(hurt, step, mends=True)
            if mended.outcome != "done" or mended.state != end:
                raise self._violation(hurt, "a push did not put it back")
            self.tally.faults[kind] += 1

    def mends_while_failing(self) -> None:
        """A push that puts back what was lost fails anywhere, and another follows."""
        step, end = self.steps[-1], self._end
        for kind, hurt in (h for h in self._hurt(end) if h[0] == "lost"):
            for cut in self._each_fault(hurt, step, PASSING, mends=True):
                last = self.attempt(cut.state, step, mends=True)
                if last.outcome != "done" or not last.state >= end:
                    raise self._violation(cut.state, "a push did not put it back")
                if self.left_over(last.state) > self._bound:
                    raise self._violation(last.state, "too much is left over")
            self.tally.faults[kind] += 1

    @property
    def _end(self) -> State:
        return self.free(self.start, self.steps[-1]).state

    def _hurt(self, state: State) -> Iterator[tuple[Kind, State]]:
        """With each new object but those that decide: lost, a byte short, a bit changed."""
        whole = dict(state)
        for key in sorted(reachable(whole) - dict(self.start).keys()):
            if key == "publisher.json" or _decides(key):
                continue
            body = whole.pop(key)
            for kind, bad in (("lost", None), ("rot", body[:-1]), ("rot", flipped(body))):
                hurt = frozenset({**whole, **({} if bad is None else {key: bad})}.items())
                self._way[hurt] = [f"all is done; {kind} {key}"]
                yield kind, hurt
            whole[key] = body

    def together(self, stride: int = 1) -> None:
        """
        Two at once: the first is overtaken at any operation by the second, and that again at any.

        Args:
            stride: of operations at which the second is overtaken.
        """
        first, second = self._scene.steps[:2]
        moments = [len(self.free(self.start, s).operations) + 6 for s in (first, second)]
        for a in range(moments[0]):
            for b in range(1, moments[1], stride):
                self._race((first, second), [0] * a + [1] * b)

    def _race(self, steps: tuple[Step, Step], order: Sequence[int]) -> None:
        bucket, outcomes = bucket_of(self.start), dict[int, Outcome]()
        turns = iter(order)

        def worker(number: int) -> Callable[[Turn], None]:
            def run(turn: Turn) -> None:
                client = FaultyBucket(bucket, checks=self._checks, before=turn)
                outcomes[number] = outcome_of(steps[number], client)

            return run

        def choose(left: list[int]) -> int:
            wanted = next(turns, left[0])
            return wanted if wanted in left else left[0]

        interleave([worker(0), worker(1)], choose)
        state = state_of(bucket)
        self._way.setdefault(state, [f"{[s.name for s in steps]} in turns {list(order)}"])
        self.tally.attempts += 2
        for number, step in enumerate(steps):
            outcome = outcomes.get(number, "crashed")
            self._check(self.start, Result(step, outcome, state, (), ()), sound=True)
            if outcome != "done" and not self._is_taken(state, step):
                raise self._violation(state, f"{step.name} is {outcome}")
            self.converges(state, step)

    def flips_that_are_stored(self) -> None:
        """A server that compares nothing stores what was changed on its way; then as above."""
        for step in self._scene.steps:
            for number, operation in enumerate(self.free(self.start, step).operations, 1):
                if operation.name == "put":
                    state = self.attempt(self.start, step, {number: "flip"}, mends=True).state
                    self.names_damage(state)
                    self.names_damage(self.attempt(state, step, mends=True).state)

    def names_damage(self, state: State) -> None:
        """Verify each version; what it says is wrong must be what is wrong."""
        objects, loud = dict(state), 0
        for version in records(objects):
            files = self._files_of(version)
            wrong = damaged(objects, version, files)
            named = named_by_verify(bucket_of(state), version)
            if not named_rightly(objects, named, wrong):
                raise self._violation(state, f"{version} has {wrong} damaged, verify says {named}")
            loud += bool(wrong)
        self.tally.loud += bool(loud)

    def _files_of(self, version: str) -> Files:
        """Of a version that was there from the start, or that only one step makes."""
        steps = (*self._scene.before, *self._scene.steps)
        return next(s.files for s in steps if s.files and s.version == version)

    # ── one attempt, and what must hold after it ─────────────────────────────────────────────

    def free(self, state: State, step: Step) -> Result:
        """An attempt without faults."""
        found = self._free.get((state, step))
        if found is None:
            found = self._free[state, step] = self.attempt(state, step)
        return found

    def attempt(
        self,
        state: State,
        step: Step,
        schedule: Schedule = NOTHING,
        *,
        late: Sequence[Late] = (),
        settles: bool = True,
        patient: bool = False,
        mends: bool = False,
    ) -> Result:
        """
        Let a maintainer try something, and check what came of it.

        Args:
            settles: what is late arrives at the end, if not before.
            patient: the client repeats what failed on the way.
            mends: there is damage already, so versions may be unreadable.
        """
        bucket = bucket_of(state)
        client = FaultyBucket(bucket, schedule, checks=self._checks, late=late)
        outcome = outcome_of(step, PatientBucket(client) if patient else client)
        client.verify_all_happened()
        if settles:
            client.settle()
        self.tally.attempts += 1
        self.tally.published += len(records(bucket._objects)) - len(records(dict(state)))
        self.tally.faults += client.fired
        result = Result(
            step, outcome, state_of(bucket), tuple(client.operations), tuple(client.late)
        )
        said = f"{step.name} {dict(schedule) if isinstance(schedule, Mapping) else schedule}"
        self._way.setdefault(result.state, [*self._way[state], f"{said}: {outcome}"])
        if not client.fired.keys() & set(DAMAGE):
            self._check(state, result, sound=not mends)
        return result

    def _check(self, before: State, result: Result, *, sound: bool) -> None:
        old, new = dict(before), dict(result.state)
        for key, body in old.items():
            if "/releases/" in key and new.get(key) != body:
                raise self._violation(result.state, f"{key} has changed")
        if sound:
            self._check_channels(old, new, result)
            self._check_readable(result.state)
            if result.outcome == "done":
                self._check_promise(new, result)

    def _check_channels(self, old: Files, new: Files, result: Result) -> None:
        if {k: b for k, b in old.items() if "/channels/" in k}.items() <= new.items():
            return
        was, now = channels(old), channels(new)
        for name, version in was.items():
            if name not in now or now[name] < version:
                raise self._violation(result.state, f"{name} went back from {version}")

    def _check_readable(self, state: State) -> None:
        if state in self._sound:
            return
        bucket = bucket_of(state)
        for version, body in records(bucket._objects).items():
            try:
                found = read_back(bucket, version)
            except PublisherError as error:
                raise self._violation(state, f"{version} cannot be read: {error}") from error
            if found != self._contents.get(json.loads(body)["root"]):
                raise self._violation(state, f"{version} has other files")
            self.tally.read += 1
        for key, body in bucket._objects.items():
            if "/channels/" in key:
                said = json.loads(body)
                record = records(bucket._objects).get(said["version"], b"{}")
                if json.loads(record).get("root") != said["root"]:
                    raise self._violation(state, f"{key} leads to {said['version']}: no such thing")
        self._sound[state] = True

    def _check_promise(self, objects: Files, result: Result) -> None:
        step = result.step
        if step.files:
            record = records(objects).get(step.version)
            if record is None or json.loads(record)["root"] != step.root:
                raise self._violation(result.state, f"{step.name} was acknowledged and is not so")
        if step.channel:
            there = channels(objects).get(step.channel)
            yanked = f"datasets/hands/status/{step.version}.json" in objects
            if not yanked and (there is None or there < Version.parse(step.version)):
                raise self._violation(result.state, f"{step.channel} is {there} after {step.name}")
        if step.state:
            status = objects.get(f"datasets/hands/status/{step.version}.json", b"{}")
            if json.loads(status).get("state") != step.state:
                raise self._violation(result.state, f"{step.name} was acknowledged and is not so")

    def converges(self, state: State, step: Step) -> None:
        """One more attempt ends it; what it leaves over is no more than other attempts needed."""
        last = self.free(state, step)
        if last.outcome != "done" and not self._is_taken(last.state, step):
            raise self._violation(state, f"{step.name} does not converge: {last.outcome}")
        left = self.left_over(last.state)
        if left > self._bound:
            raise self._violation(last.state, f"{left:,} bytes are left over")
        self.tally.garbage = max(self.tally.garbage, left)

    def _is_taken(self, state: State, step: Step) -> bool:
        """Is the version published with other content, or the channel further already?"""
        objects = dict(state)
        if step.files:
            record = records(objects).get(step.version)
            return record is not None and json.loads(record)["root"] != step.root
        now = channels(objects).get(step.channel)
        return now is not None and now > Version.parse(step.version)

    def left_over(self, state: State) -> int:
        """Bytes that no version, channel or status needs."""
        objects = dict(state)
        return sum(map(len, objects.values())) - sum(len(objects[k]) for k in reachable(objects))

    @cached_property
    def _bound(self) -> int:
        """What one attempt of each sends at most."""
        return sum(len(body) for end in self._ends for _, body in end - self.start)

    def _violation(self, state: State, what: str) -> Violation:
        way = "\n  ".join(self._way.get(state, ["?"]))
        return Violation(f"{self._scene.name}: {what}; after\n  {way}")


class DeafBucket(MemoryBucket):
    """A server that answers 200 to conditions and overwrites all the same."""

    def __init__(self, *ignored: str) -> None:
        super().__init__()
        self._ignored = ignored

    def put(self, key: str, body: bytes | Path, **how: Any) -> ObjectInfo:
        how = {k: v for k, v in how.items() if k not in self._ignored}
        return super().put(key, body, **how)


def refuses_the_deaf(step: Step) -> None:
    """A server that ignores a condition gets nothing but the probe."""
    for ignored in (("if_absent",), ("if_match",), ("if_absent", "if_match")):
        bucket = DeafBucket(*ignored)
        if outcome_of(step, bucket) != "failed" or bucket._objects.keys() - {"publisher.json"}:
            raise Violation(f"a server that ignores {ignored} got {sorted(bucket._objects)}")


class PullTrial:
    """All that can go wrong with a pull into a folder, which is the state here."""

    def __init__(self, home: Path, bucket: State, have: Files, want: Files, version: str) -> None:
        self._home, self._bucket, self._want, self._version = home, bucket, want, version
        self._known = {(p, b) for files in (have, want) for p, b in files.items()}
        self._by_root = {manifest(files).root: files for files in (have, want)}
        self._free: dict[State, tuple[Outcome, State, tuple[Operation, ...]]] = {}
        self.tally = Tally()

    def explore(self, start: State, kinds: Sequence[Kind]) -> None:
        """One fault at every operation of every attempt, upon every folder that comes of it."""
        queue, seen = [start], {start}
        for folder in queue:
            outcome, _, operations = self.free(folder)
            if outcome != "done":
                raise Violation(f"a pull does not converge: {outcome}")
            for number, operation in enumerate(operations, 1):
                for kind in filter(operation.can, kinds):
                    after = self.attempt(folder, {number: kind})[1]
                    if after not in seen:
                        seen.add(after)
                        queue.append(after)
        self.tally.states += len(seen)

    def damage(self, start: State) -> None:
        """An object rots or is lost: what was not read before that is named, and not installed."""
        for number, operation in enumerate(self.free(start)[2], 1):
            for kind in filter(operation.can, DAMAGE):
                bucket = bucket_of(self._bucket)
                folder = self.attempt(start, {number: kind}, bucket)[1]
                self._stays_damaged(folder, bucket)
                if self.free(folder)[0] != "done":
                    raise Violation("a pull does not go on after the bucket was mended")

    def _stays_damaged(self, folder: State, bucket: MemoryBucket) -> None:
        here = {p for p, b in folder if self._want.get(p) == b}
        if self._version not in records(bucket._objects):
            wrong, right = set(), "refused"
        else:
            wrong = damaged(bucket._objects, self._version, self._want) - here
            right = "damaged" if wrong else "done"
        outcome, _, _ = self.attempt(folder, NOTHING, bucket, wrong=wrong)
        if outcome != right:
            raise Violation(f"{wrong} is damaged, and the next pull is {outcome}")
        self.tally.loud += right != "done"

    def free(self, folder: State) -> tuple[Outcome, State, tuple[Operation, ...]]:
        """A pull without faults."""
        if folder not in self._free:
            self._free[folder] = self.attempt(folder)
        return self._free[folder]

    def attempt(
        self,
        folder: State,
        schedule: Schedule = NOTHING,
        bucket: MemoryBucket | None = None,
        wrong: Iterable[str] = (),
    ) -> tuple[Outcome, State, tuple[Operation, ...]]:
        """Pull into a folder, and look at what is in it then."""
        to = self._home / "out"
        _write_folder(to, folder)
        client = FaultyBucket(bucket or bucket_of(self._bucket), schedule)
        named: set[str] = set()

        def run(bucket: Bucket) -> None:
            try:
                pull(bucket, "hands", self._version, to)
            except IntegrityError as error:
                named.update(error.paths)
                raise

        outcome = outcome_of(Step("pull", run), client)
        client.verify_all_happened()
        self.tally.attempts += 1
        self.tally.faults += client.fired
        left = _read_folder(to)
        self._check(outcome, dict(left), named, set(wrong))
        return outcome, left, tuple(client.operations)

    def _check(self, outcome: Outcome, folder: Files, named: set[str], wrong: set[str]) -> None:
        own = {"manifest.json", ".publisher.json"}
        here = {p: b for p, b in folder.items() if p not in own and ".publisher.parts" not in p}
        if strange := here.items() - self._known:
            raise Violation(f"{sorted(p for p, _ in strange)} got bytes of no version")
        if ".publisher.json" in folder:
            state = json.loads(folder[".publisher.json"])
            if here != self._by_root[state["root"]]:
                raise Violation("a folder says that it is whole, and is not")
        if outcome == "done" and here != self._want:
            raise Violation("a pull says that it is done, and is not")
        if wrong and not (named <= wrong and named):
            raise Violation(f"{wrong} is damaged, pull says {named}")
        self.tally.read += outcome == "done"


def _write_folder(to: Path, files: Iterable[tuple[str, bytes]]) -> None:
    shutil.rmtree(to, ignore_errors=True)
    for path, body in files:
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        (to / path).write_bytes(body)


def _read_folder(to: Path) -> State:
    files = [p for p in to.rglob("*") if p.is_file()]
    return frozenset((p.relative_to(to).as_posix(), p.read_bytes()) for p in files)


def outcome_of(step: Step, bucket: Bucket) -> Outcome:
    """How this ends."""
    try:
        step.run(bucket)
    except Crash:
        return "crashed"
    except VersionConflict:
        return "conflict"
    except IntegrityError:
        return "damaged"
    except StorageError:
        return "failed"
    except PublisherError:
        return "refused"
    return "done"


def named_by_verify(bucket: Bucket, version: str) -> set[str]:
    """
    What `verify --deep` says is wrong, without documents for people, which come after the commit
    and may not be there yet.
    """
    try:
        verify_remote(bucket, "hands", Version.parse(version), deep=True)
    except IntegrityError as error:
        beside = (f"datasets/hands/v{version}/", "datasets/hands/channels/")
        return {path for path in error.paths if not path.startswith(beside)}
    return set()


def read_back(bucket: Bucket, version: str) -> Files:
    """
    All files of a version, as a reader sees them.

    Raises:
        IntegrityError: one is missing or wrong.
    """
    record = resolve(bucket, "hands", Version.parse(version))
    files: dict[str, bytes] = {}
    for place, entries in locate(bucket, record, read_version(bucket, record)).items():
        body = b"".join(bucket.read(place.key, start=place.offset, length=place.size))
        if hashlib.sha256(body).hexdigest() != entries[0].sha256:
            raise IntegrityError("wrong bytes", [e.path for e in entries])
        files |= dict.fromkeys((e.path for e in entries), body)
    return files


def _paths(edges: Mapping[State, Counter[State]], start: State, length: int) -> int:
    """How many schedules of this many faults at most, one an attempt, the edges make up."""
    at, total = Counter({start: 1}), 0
    for _ in range(length):
        after: Counter[State] = Counter()
        for state, ways in at.items():
            for target, count in edges.get(state, Counter()).items():
                after[target] += ways * count
        at = after
        total += sum(at.values())
    return total


@contextmanager
def quickly() -> Iterator[Cast]:
    """
    A cast whose attempts cost little: one thread, trees in memory where that goes, and each tree,
    to which nobody writes, hashed and read once.
    """
    memory = Path("/dev/shm")
    with pytest.MonkeyPatch.context() as patch:
        if os.access(memory, os.W_OK):
            patch.setattr(tempfile, "tempdir", str(memory))
        make_orderly(patch)
        patch.setattr(publish, "check_tree", _by_tree(publish.check_tree))
        patch.setattr(publish, "check_paths", _by_tree(publish.check_paths))
        patch.setattr(publish, "read_manifest", _by_tree(publish.read_manifest))
        patch.setattr(publish, "script", lru_cache(publish.script))
        with tempfile.TemporaryDirectory() as home:
            yield Cast(Path(home))


def _by_tree(work: Callable[..., T]) -> Callable[..., T]:
    done: dict[Path, T] = {}

    def once(tree: Path, *rest: object) -> T:
        if tree not in done:
            done[tree] = work(tree, *rest)
        return done[tree]

    return once
