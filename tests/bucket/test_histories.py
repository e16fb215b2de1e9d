"""
Long lives of a bucket against a model: what a maintainer published under a number, and no more.

Two maintainers publish, alone or at once, are cut short anywhere and go on; channels move,
versions are yanked; requests of the dead arrive late; objects rot, disappear and are put back;
readers read meanwhile. After everything the bucket must say what the model says, or name exactly
what was damaged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from publisher.bucket.consume import pull
from publisher.storage import Bucket, MemoryBucket
from publisher.versions.version import Version
from tests.faults import NOTHING, FaultyBucket, Kind, Late, Turn, interleave
from tests.schedules import (
    FIRST,
    NEXT,
    OTHER,
    PASSING,
    Cast,
    Files,
    Outcome,
    Step,
    channels,
    damaged,
    named_by_verify,
    named_rightly,
    outcome_of,
    quickly,
    read_back,
    records,
)
from tests.trees import manifest, read_tree

CONTENTS = {"first": FIRST, "other": OTHER, "next": NEXT}
ROOTS = {manifest(files).root: files for files in CONTENTS.values()}
VERSIONS = ("1.0.0", "1.0.1", "1.1.0-rc.1", "1.1.0")

versions = st.sampled_from(VERSIONS)
contents = st.sampled_from(sorted(CONTENTS))
layouts = st.sampled_from(["plain", "packs"])
kinds: st.SearchStrategy[Kind] = st.sampled_from([*PASSING, "late", "arrives"])
faults: st.SearchStrategy[Mapping[int, Kind]] = st.dictionaries(
    st.integers(1, 60), kinds, max_size=3
)
turns = st.lists(st.integers(0, 1), max_size=80)


class Histories(RuleBasedStateMachine):
    """One bucket, its model, and all that may happen to them."""

    cast: ClassVar[Cast]
    home: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.bucket = MemoryBucket()
        self.published: dict[str, Files] = {}  # the model: what is under a number
        self.bytes: dict[str, bytes] = {}  # of the records, as they were first seen
        self.floor: dict[str, Version] = {}  # where channels have been
        self.clock = 0
        self.late: list[Late] = []
        self.said: list[str] = []
        self.folder = self.home / "pulled"
        shutil.rmtree(self.folder, ignore_errors=True)

    def teardown(self) -> None:
        note("\n".join(self.said))

    # ── what maintainers do ──────────────────────────────────────────────────────────────────

    @rule(files=contents, version=versions, layout=layouts, schedule=faults)
    def publish(self, files: str, version: str, layout: Any, schedule: Mapping[int, Kind]) -> None:
        self._try(self._push(CONTENTS[files], version, layout), schedule)

    @rule(version=versions, schedule=faults)
    def move_channel(self, version: str, schedule: Mapping[int, Kind]) -> None:
        self._try(self.cast.move(version), schedule)

    @rule(version=versions, schedule=faults)
    def yank(self, version: str, schedule: Mapping[int, Kind]) -> None:
        self._try(self.cast.yank(version), schedule)

    @rule(
        files=st.tuples(contents, contents),
        numbers=st.tuples(versions, versions),
        kind=st.tuples(layouts, layouts),
        schedules=st.tuples(faults, faults),
        order=turns,
    )
    def publish_at_once(
        self, files: Any, numbers: Any, kind: Any, schedules: Any, order: list[int]
    ) -> None:
        three = zip(files, numbers, kind, strict=True)
        steps = [self._push(CONTENTS[f], n, k) for f, n, k in three]
        self._at_once(
            [self._worker(step, s) for step, s in zip(steps, schedules, strict=True)], order
        )

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        """What was lost is put back, unless it belongs to another version, too."""
        version = data.draw(st.sampled_from(sorted(self.published)))
        outcome = self._try(self._push(self.published[version], version, "packs"), {})
        wrong = damaged(self.bucket._objects, version, self.published[version])
        assert outcome == ("damaged" if wrong else "done")

    @precondition(lambda self: self.late)
    @rule()
    def what_is_late_arrives(self) -> None:
        client = FaultyBucket(self.bucket, late=self.late)
        client.settle()
        self.late = []
        self._look()

    # ── what happens to objects ──────────────────────────────────────────────────────────────

    @precondition(lambda self: self._breakable())
    @rule(data=st.data(), lost=st.booleans())
    def damage(self, data: st.DataObject, lost: bool) -> None:
        key = data.draw(st.sampled_from(self._breakable()))
        if lost:
            self.bucket.delete(key)
        else:
            body = bytearray(self.bucket.get(key))
            at = data.draw(st.integers(0, len(body) * 8 - 1))
            body[at // 8] ^= 1 << at % 8
            self.bucket._objects[key] = bytes(body)

    def _breakable(self) -> list[str]:
        """Contents and lists that are there; what a version is called and where it is, apart."""
        return [
            key
            for key, body in sorted(self.bucket._objects.items())
            if body and (key.startswith(("packs/", "blobs/", "manifests/", "index/")))
        ]

    # ── what readers do ──────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.published)
    @rule(data=st.data(), schedule=faults)
    def pull(self, data: st.DataObject, schedule: Mapping[int, Kind]) -> None:
        version = data.draw(st.sampled_from(sorted(self.published)))
        client = FaultyBucket(self.bucket, schedule)
        outcome = outcome_of(Step("pull", self._pull(version)), client)
        self.said.append(f"pull {version}: {outcome}")
        if not client.fired:
            assert outcome == "done" or self._wrong(version)

    def _pull(self, version: str) -> Callable[[Bucket], None]:
        def run(bucket: Bucket) -> None:
            release = pull(bucket, "hands", version, self.folder)
            assert read_tree(release.path) == self.published[version]

        return run

    @rule(files=contents, version=versions, layout=layouts, schedule=faults, order=turns)
    def read_while_someone_publishes(
        self, files: str, version: str, layout: Any, schedule: Any, order: list[int]
    ) -> None:
        """Every version that is there is read, again and again."""

        def read(turn: Turn) -> None:
            client = FaultyBucket(self.bucket, before=turn)
            for number, theirs in sorted(self.published.items()):
                broken = bool(self._wrong(number))
                step = Step("read", lambda b, n=number: read_back(b, n))
                outcome = outcome_of(step, client)
                assert outcome == "done" or broken, f"{number} is {outcome} to a reader"
                assert theirs == self.published[number]

        step = self._push(CONTENTS[files], version, layout)
        self._at_once([self._worker(step, schedule), read], order)

    def _push(self, files: Files, version: str, layout: Any) -> Step:
        self.clock += 1
        created = f"2026-01-01T12:{self.clock // 60:02}:{self.clock % 60:02}+00:00"
        return self.cast.push(files, version, layout, created)

    # ── how it is done, and what must be so ──────────────────────────────────────────────────

    def _try(self, step: Step, schedule: Mapping[int, Kind]) -> Outcome:
        return self._worker(step, schedule)(lambda: None)

    def _worker(self, step: Step, schedule: Mapping[int, Kind]) -> Callable[[Turn], Outcome]:
        def run(turn: Turn) -> Outcome:
            client = FaultyBucket(self.bucket, schedule or NOTHING, late=self.late, before=turn)
            client.late = self.late  # all who die leave theirs in one place
            outcome = outcome_of(step, client)
            self.said.append(f"{step.name} {dict(client.fired)}: {outcome}")
            self._look()
            if outcome == "done":
                self._promised(step)
            return outcome

        return run

    def _at_once(self, workers: list[Callable[[Turn], Any]], order: list[int]) -> None:
        errors: list[BaseException] = []
        moves = iter(order)

        def guarded(worker: Callable[[Turn], Any]) -> Callable[[Turn], None]:
            def run(turn: Turn) -> None:
                try:
                    worker(turn)
                except BaseException as error:
                    errors.append(error)

            return run

        def choose(left: list[int]) -> int:
            wanted = next(moves, left[0])
            return wanted if wanted in left else left[0]

        interleave([guarded(w) for w in workers], choose)
        if errors:
            raise errors[0]

    def _promised(self, step: Step) -> None:
        objects = self.bucket._objects
        if step.files:
            assert self.published.get(step.version) == step.files
            assert not self._wrong(step.version), "published, and damaged from the start"
        if step.channel:
            status = objects.get(f"datasets/hands/status/{step.version}.json")
            there = channels(objects).get(step.channel)
            assert status or (there is not None and there >= Version.parse(step.version))

    def _look(self) -> None:
        """What has become visible is what the model knows from now on."""
        for version, body in records(self.bucket._objects).items():
            if version not in self.published:
                self.published[version] = ROOTS[json.loads(body)["root"]]
                self.bytes[version] = body

    def _wrong(self, version: str) -> set[str]:
        return damaged(self.bucket._objects, version, self.published[version])

    @invariant()
    def versions_never_change_and_never_go(self) -> None:
        self._look()
        assert records(self.bucket._objects) == self.bytes

    @invariant()
    def what_is_read_is_right_or_named(self) -> None:
        for version in self.published:
            wrong, named = self._wrong(version), named_by_verify(self.bucket, version)
            assert named_rightly(self.bucket._objects, named, wrong), (named, wrong)

    @invariant()
    def channels_move_forward_to_what_is_there(self) -> None:
        for name, version in channels(self.bucket._objects).items():
            assert str(version) in self.published
            assert version >= self.floor.get(name, version)
            self.floor[name] = version

    @invariant()
    def nothing_is_left_over_but_content(self) -> None:
        """Whoever is cut short leaves files and lists behind, and no other kind of thing."""
        known = ("packs/", "blobs/", "manifests/", "index/", "datasets/hands/", "publisher.json")
        assert all(key.startswith(known) for key in self.bucket._objects)


@pytest.fixture
def cast(tmp_path: Path):
    with quickly() as cast:
        Histories.cast, Histories.home = cast, tmp_path
        yield cast


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.filterwarnings("ignore::publisher.errors.VersionWarning")
def test_whatever_happens_the_bucket_says_what_was_published(cast):
    run(examples=25, steps=20)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::publisher.errors.VersionWarning")
def test_whatever_happens_for_long(cast):
    run(examples=1_000, steps=50)
