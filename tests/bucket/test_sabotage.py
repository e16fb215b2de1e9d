"""
Push and pull while requests fail, get lost, come twice or change on their way: on moto, by
botocore's `before-send`. By default each passing fault at each request of a push and a pull;
`pytest -m nightly tests/bucket/test_sabotage.py` has more layouts, and several faults at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from publisher.bucket.consume import pull
from publisher.bucket.publish import push
from publisher.errors import PublisherError, StorageError
from publisher.storage import S3Bucket

from ..figures import Figures, Reader
from ..sabotage import LASTING, ONLY, PASSING, RENEWED, Saboteur, sabotaged, under
from ..trees import manifest, read_tree

OLD = {
    "README.md": b"# Hands\n",
    "train/images/a.jpg": b"first picture" * 99,
    "train/images/b.jpg": b"second picture" * 99,
    "train/panoptic/a.png": b"first map",
}
NEW = {**OLD, "README.md": b"# Hands, and more\n", "train/images/c.jpg": b"third picture"}
CONTENTS = {"1.0.0": OLD, "1.1.0": NEW}
ABSORBED = [kind for kind in PASSING if "down" not in kind]  # nobody notices
CODES = {  # with which a command may end
    "bit flipped on its way down": {7, 8},
    "credentials expired": {5},
    "clock skewed": {8},
    "network gone": {8},
    "server busy for ever": {8},
}


@pytest.fixture
def figures(record_property) -> Iterator[Figures]:
    counted = Figures("before-send, moto", record_property)
    yield counted
    counted.done()


@pytest.fixture
def scene(monkeypatch, figures, tmp_path) -> Iterator[Scene]:
    with sabotaged(monkeypatch) as (bucket, saboteur):
        yield Scene(bucket, saboteur, figures, tmp_path)


def trees(room: Path) -> dict[str, Path]:
    for version, files in CONTENTS.items():
        for path, body in files.items():
            target = room / version / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        (room / version / "manifest.json").write_bytes(manifest(files).to_bytes())
    return {version: room / version for version in CONTENTS}


class Scene:
    """A bucket in which every schedule finds a place of its own."""

    def __init__(self, bucket: S3Bucket, saboteur: Saboteur, figures: Figures, room: Path) -> None:
        self.saboteur = saboteur
        self.figures = figures
        self._whole = bucket
        self._room = room
        self._trees = trees(room / "trees")
        self._places = 0

    @property
    def credentials(self) -> Any:
        """Those that botocore holds."""
        return self._whole._client._request_signer._credentials

    def place(self) -> tuple[S3Bucket, Reader]:
        """An empty bucket, and who reads there."""
        self._places += 1
        room = self._room / str(self._places)
        return under(self._whole, str(self._places)), Reader(self.figures, CONTENTS, room)

    def push(self, bucket: S3Bucket, version: str, layout: str) -> None:
        tree = self._trees[version]
        push(bucket, tree, "hands", version, created="2026-01-01", layout=layout)

    def requests_of(self, work: Callable[[], object]) -> int:
        """How many requests something takes when nothing happens."""
        self.saboteur.begin()
        work()
        return self.saboteur.asked

    def attempt(self, schedule: Mapping[int, str], work: Callable[[], object]) -> int:
        """Do something while faults happen; its exit code."""
        self.saboteur.begin(schedule)
        failed: PublisherError | None = None
        try:
            work()
        except PublisherError as error:
            failed = error
        code = failed.exit_code if failed else 0
        if failed:
            assert "\n" not in str(failed)
            assert failed.hint, str(failed)
        allowed = {0}.union(*(CODES.get(kind, {0}) for kind in self.saboteur.done))
        assert code in allowed, (schedule, code)
        for kind in schedule.values():
            self.figures.fault(kind, self.saboteur.done.count(kind))
        self.figures.add("schedules")
        self.saboteur.begin()
        return code

    def push_through(self, schedule: Mapping[int, str], layout: str, *, old: bool = False) -> int:
        """Publish under a schedule, look, repeat if need be, and look; the first exit code."""
        bucket, reader = self.place()
        version = "1.1.0" if old else "1.0.0"
        if old:
            self.push(bucket, "1.0.0", layout)
            reader.must.add("1.0.0")
        code = self.attempt(schedule, lambda: self.push(bucket, version, layout))
        if code:
            reader.look(bucket)
            self.push(bucket, version, layout)
        reader.must.add(version)
        reader.look(bucket)
        self.figures.add("versions")
        return code

    def pull_through(self, schedule: Mapping[int, str], source: S3Bucket, *, old: bool) -> int:
        """Pull under a schedule, look, repeat if need be, and look; the first exit code."""
        _, reader = self.place()
        out = reader.room / "out"
        if old:
            pull(source, "hands", "1.0.0", out)
        code = self.attempt(schedule, lambda: pull(source, "hands", "1.1.0", out))
        self.figures.add("reads")
        if code:
            there = read_tree(out) if out.exists() else {}
            final = {p: b for p, b in there.items() if not p.startswith(".publisher.parts/")}
            mixed = any(b not in (OLD.get(p), NEW.get(p)) for p, b in final.items())
            self.figures.add("wrong", mixed)
            pull(source, "hands", "1.1.0", out)
        reader.compare(read_tree(out), NEW)
        return code


def lengths(scene: Scene, layout: str, *, old: bool = False) -> int:
    bucket, _ = scene.place()
    if old:
        scene.push(bucket, "1.0.0", layout)
    return scene.requests_of(lambda: scene.push(bucket, "1.1.0" if old else "1.0.0", layout))


def source_of(scene: Scene, layout: str) -> S3Bucket:
    """A bucket with both versions."""
    bucket, _ = scene.place()
    for version in CONTENTS:
        scene.push(bucket, version, layout)
    return bucket


# ── one fault ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", PASSING)
def test_a_push_met_by_a_passing_fault_at_any_request(scene, kind):
    codes = [scene.push_through({n: kind}, "packs") for n in range(1, lengths(scene, "packs") + 1)]
    assert scene.figures.counts[f"fault: {kind}"] >= 5
    if kind in ABSORBED:
        assert set(codes) == {0}


@pytest.mark.parametrize("old", [False, True], ids=["new", "update"])
@pytest.mark.parametrize("kind", [k for k in PASSING if ONLY.get(k) != {"PUT"}])
def test_a_pull_met_by_a_passing_fault_at_any_request(scene, tmp_path, kind, old):
    source = source_of(scene, "packs")
    count = scene.requests_of(lambda: pull(source, "hands", "1.1.0", tmp_path / "out"))
    codes = [scene.pull_through({n: kind}, source, old=old) for n in range(1, count + 1)]
    assert scene.figures.counts[f"fault: {kind}"] >= 5
    if kind in ABSORBED:
        assert set(codes) == {0}


# ── what does not pass by itself ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", sorted(LASTING & set(CODES)))
def test_a_push_from_which_something_is_taken_midway_ends_in_one_line_and_goes_on(scene, kind):
    """Later, with a new session, another clock, or the network back."""
    ends = [scene.push_through({n: kind}, "packs") for n in range(1, lengths(scene, "packs"), 3)]
    assert set(ends) == CODES[kind]


def test_a_bucket_that_moves_to_another_region_midway_is_followed(scene):
    assert scene.push_through({9: "region"}, "packs") == 0
    assert scene.figures.counts["fault: region"] >= 1


def test_credentials_that_expire_midway_are_renewed(scene, monkeypatch):
    """By whoever can give new ones, as a role can. boto3 asks for them only on its next try."""
    mine = scene.credentials
    old = mine.get_frozen_credentials()

    def frozen() -> object:
        fresh = "credentials expired" in scene.saboteur.done
        return old._replace(token=RENEWED if fresh else "token-of-the-old-session")

    monkeypatch.setattr(mine, "get_frozen_credentials", frozen)
    count = lengths(scene, "packs")
    ends = [scene.push_through({n: "credentials expired"}, "packs") for n in range(1, count, 3)]
    assert ends.count(0) > len(ends) / 2
    assert set(ends) <= {0, 5}


@pytest.mark.parametrize("layout", ["packs", "plain"])
def test_a_server_that_ignores_conditions_gets_nothing_but_the_probe(scene, layout):
    bucket, _ = scene.place()
    scene.saboteur.begin({1: "conditions ignored"})
    with pytest.raises(StorageError, match="ignores If-"):
        scene.push(bucket, "1.0.0", layout)
    scene.figures.fault("conditions ignored", len(scene.saboteur.done))
    assert [o.key for o in bucket.list()] == ["publisher.json"]


# ── nightly: more of all ─────────────────────────────────────────────────────────────────────


@pytest.mark.nightly
@pytest.mark.parametrize("old", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("seed", range(8))
def test_three_faults_at_chance_requests_of_a_push(scene, layout, old, seed):
    chance = random.Random(seed)
    count = lengths(scene, layout, old=old) + 6  # what is asked again comes later
    for _ in range(40):
        where = chance.sample(range(1, count), 3)
        scene.push_through({n: chance.choice(PASSING) for n in where}, layout, old=old)


@pytest.mark.nightly
@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("seed", range(4))
def test_three_faults_at_chance_requests_of_a_pull(scene, tmp_path, layout, seed):
    chance = random.Random(seed)
    source = source_of(scene, layout)
    count = scene.requests_of(lambda: pull(source, "hands", "1.1.0", tmp_path / "out")) + 6
    for _ in range(100):
        where = chance.sample(range(1, count), 3)
        schedule = {n: chance.choice(PASSING) for n in where}
        scene.pull_through(schedule, source, old=chance.random() < 0.5)
