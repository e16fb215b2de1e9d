"""
kill -9 while something is deleted: what must go goes in the end, what is needed never does.

By default half of the steps, in turn on a server and in a folder; the others with `-m nightly`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import publisher
from publisher.bucket.catalog import versions
from publisher.bucket.publish import push
from publisher.storage import open_bucket

from ..figures import Figures, Reader
from ..trees import FILES, make_tree
from .kills import killed, on_both, turns, wait_for_leases

ROOT = Path(publisher.__file__).parent
FACE = b"a face that must go"
CONTENTS = {
    "1.0.0": {**FILES, "train/images/face.jpg": FACE},
    "1.1.0": {**FILES, "val/images/000004.jpg": b"fourth picture"},
    "1.2.0": {**FILES, "val/images/000005.jpg": b"fifth picture"},
}
RETRACT = [
    *("put-ban", "after-put-ban", "swap", "after-swap", "put-blob", "after-put-blob"),
    *("put-urls", "put-index", "after-put-index", "swap@2", "after-swap@2"),
    *("erase", "erase@2", "after-erase", "put-notice", "after-put-notice"),
]
GC = ["put-mark", "after-put-mark", "collect", "collect@2", "after-collect"]


def cases(steps: Sequence[str]) -> list[Any]:
    return [pytest.param(where, step, marks=marks) for where, step, marks in turns(steps)]


@pytest.fixture
def figures(request, where, record_property) -> Iterator[Figures]:
    verb = "gc" if "garbage" in request.node.name else "retract"
    counted = Figures(f"kill -9 of {verb}, {where}", record_property)
    yield counted
    counted.done()


def publish(remote: str, room: Path, version: str) -> None:
    """In packs, which versions share."""
    tree = make_tree(room / version, CONTENTS[version])
    push(open_bucket(remote), tree, "hands", version, created="2026-01-01", layout="packs")


@pytest.mark.parametrize(("remote", "step"), cases(RETRACT), indirect=["remote"])
def test_a_retraction_that_is_killed_harms_no_other_version_and_its_repeat_erases_all(
    remote, step, forked, figures, tmp_path
):
    for version in ("1.0.0", "1.1.0"):
        publish(remote, tmp_path, version)
    reader = Reader(figures, {"1.1.0": CONTENTS["1.1.0"]}, tmp_path)
    order = ("retract", f"{remote}/hands@1.0.0", "--reason", "asked to", "--yes")
    order = (*order, "--files", "train/images/face.jpg")
    killed(forked, figures, *order, at=step)
    bucket = open_bucket(remote)
    reader.read(bucket, "1.1.0", CONTENTS["1.1.0"], "hands")
    wait_for_leases(bucket)
    again = forked(*order)
    figures.add("stuck", again.returncode != 0)
    figures.add("lost", any(FACE in bucket.get(o.key) for o in bucket.list()))
    reader.read(bucket, "1.1.0", CONTENTS["1.1.0"], "hands")
    gone = forked("pull", f"{remote}/hands@1.0.0", "-o", tmp_path / "gone")
    assert gone.returncode == 4
    assert "asked to" in gone.stderr
    assert forked("verify", f"{remote}/hands@1.1.0", "--deep").returncode == 0


@pytest.mark.parametrize(("remote", "step"), cases(GC), indirect=["remote"])
def test_garbage_goes_though_its_collection_is_killed_and_nothing_else_does(
    remote, step, forked, figures, tmp_path
):
    for version in ("1.0.0", "1.1.0"):
        publish(remote, tmp_path, version)
    bucket = open_bucket(remote)
    whole = {o.key for o in bucket.list()}
    tree = make_tree(tmp_path / "1.2.0", CONTENTS["1.2.0"])
    attempt = ("push", tree, f"{remote}/hands", "--version", "1.2.0", "--layout", "packs")
    killed(forked, figures, *attempt, at="put-record")
    wait_for_leases(bucket)
    left = {o.key for o in bucket.list()} - whole
    assert len(left) >= 2
    collect = ("gc", remote, "--grace", "0")
    if "collect" in step:
        assert forked("gc", remote, "--grace", "1").returncode == 0  # marks
    killed(forked, figures, *collect, at=step)
    reader = Reader(figures, CONTENTS, tmp_path, must={"1.0.0", "1.1.0"})
    reader.look(bucket)
    wait_for_leases(bucket)
    for _ in range(2):  # what is marked in this very moment waits for the second
        figures.add("stuck", forked(*collect).returncode != 0)
    reader.look(bucket)
    assert {o.key for o in bucket.list()} == whole
    publish(remote, tmp_path / "again", "1.2.0")
    assert [str(v) for v in versions(bucket, "hands")] == ["1.0.0", "1.1.0", "1.2.0"]


@on_both
def test_until_the_lease_of_who_was_killed_has_run_out_nobody_deletes(remote, forked, tmp_path):
    publish(remote, tmp_path, "1.0.0")
    order = ("retract", f"{remote}/hands@1.0.0", "--reason", "asked to", "--yes")
    assert forked(*order, failpoint="after-swap").returncode == -signal.SIGKILL
    for command in (order, ("gc", remote, "--grace", "0")):
        busy = forked(*command)
        assert busy.returncode == 6
        assert "if it was killed, in" in busy.stderr


def test_every_step_of_the_code_is_one_of_these():
    texts = [(ROOT / "bucket" / f"{p}.py").read_text("utf-8") for p in ("erasing", "gc")]
    steps = set(re.findall(r'failpoint\("([a-z-]+)"\)', "".join(texts)))
    assert steps <= {step.partition("@")[0] for step in (*RETRACT, *GC)}
    assert len(steps) == 9
