"""
kill -9 before and after every step of a push and a pull, in real processes against real buckets.

By default once at each step; `pytest -m nightly tests/e2e/test_kill.py` at every time that each
step comes.
"""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from publisher.bucket.consume import channels, pull, verify_folder, versions
from publisher.bucket.publish import push
from publisher.errors import UsageError, VersionNotFound
from publisher.storage import Bucket, S3Bucket, open_bucket

from ..figures import Figures, Reader
from ..processes import Forks
from ..trees import FILES, make_tree, read_tree

BIG = bytes(range(256)) * 12_000  # 3 MB: comes in several blocks, and is no part of a pack
OLD = {**FILES, "train/images/big.bin": BIG, "train/images/gone.jpg": b"only in 1.0.0"}
NEW = {
    **FILES,
    "README.md": b"# Hands, and more\n",
    "train/images/big.bin": BIG,
    "val/images/000004.jpg": b"fourth picture",
    "val/images/big.bin": BIG[::-1],
}
CONTENTS = {"1.0.0": OLD, "1.1.0": NEW}


def around(*steps: str) -> list[str]:
    return [name for step in steps for name in (step, f"after-{step}")]


LISTS = ["list", *around("put-manifest", "put-index", "put-record", "put-document", "put-channel")]
PUSH = {  # by layout: of the second version, which finds a first one
    "plain": [*around("put-probe", "put-claim", "copy", "put-blob"), *LISTS],
    "packs": [*around("put-probe", "put-blob"), *LISTS, *around("delete")],
}
IN_A_FOLDER = around("link")
PULL = [
    *around("pull-begin", "pull-install"),
    *("pull-part", "pull-finish", "pull-state", "after-pull-state"),
    *("replace", "replace@2", "replace@3"),  # of the list, the manifest, and the state
]
UPDATE = ["after-pull-remove"]  # only where an older version lies in the folder


# ── the scene ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("trees")
    return {version: make_tree(home / version, files) for version, files in CONTENTS.items()}


@pytest.fixture(params=["seaweedfs", "folder"])
def remote(request, tmp_path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}/bucket"
    return str(request.getfixturevalue("s3_remote"))


@pytest.fixture
def figures(request, remote, record_property) -> Iterator[Figures]:
    where = "a folder" if remote.startswith("file:") else "SeaweedFS"
    verb = "pull" if "pull" in request.node.name else "push"
    counted = Figures(f"kill -9 of {verb}, {where}", record_property)
    yield counted
    counted.done()


def publish(bucket: Bucket, trees: dict[str, Path], version: str, **options) -> None:
    push(bucket, trees[version], "hands", version, created="2026-01-01", **options)


class Killed(Exception):
    """This step never came: the process ended by itself."""


def push_killed_at(step, layout, remote, trees, forked: Forks, figures: Figures, room: Path) -> bool:
    """Publish 1.0.0, kill the push of 1.1.0, look, push again, look; False if it was not killed."""
    bucket = open_bucket(remote)
    publish(bucket, trees, "1.0.0", layout=layout)
    reader = Reader(figures, CONTENTS, room, must={"1.0.0"})
    arguments = ("push", trees["1.1.0"], f"{remote}/hands", "--version", "1.1.0", "--layout", layout)
    ended = forked(*arguments, failpoint=step)
    if ended.returncode == 0:
        return False
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    figures.fault(step.partition("@")[0])
    reader.look(bucket)
    again = forked(*arguments)
    figures.add("stuck", again.returncode != 0)
    reader.must.add("1.1.0")
    reader.look(bucket)
    figures.add("stuck", str(channels(bucket, "hands")["latest"]) != "1.1.0")
    figures.add("versions")
    return True


def pull_killed_at(step, old, source, forked: Forks, figures: Figures, room: Path) -> bool:
    """
    Kill a pull of 1.1.0, look at the folder, pull again, look; False if it was not killed.

    Args:
        old: is 1.0.0 in the folder already?
        source: the remote, with both versions.
    """
    out = room / "out"
    if old:
        pull(open_bucket(source), "hands", "1.0.0", out)
    arguments = ("pull", f"{source}/hands@1.1.0", "-o", out)
    ended = forked(*arguments, failpoint=step, settings={"publisher.bucket.trees.THREADS": 1})
    if ended.returncode == 0:
        return False
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    figures.fault(step.partition("@")[0])
    figures.add("reads")
    for path, body in read_tree(out).items() if out.exists() else ():
        if not path.startswith(".publisher.parts/"):
            known = [files[path] for files in CONTENTS.values() if path in files]
            figures.add("wrong", body not in known)
    if step not in {"pull-begin", "replace"}:  # from its first change on the folder says so
        with pytest.raises(UsageError):
            verify_folder(out)
    figures.add("stuck", forked(*arguments).returncode != 0)
    verify_folder(out)
    Reader(figures, CONTENTS, room).compare(read_tree(out), NEW)
    return True


# ── push ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("layout", "step"), [(lay, s) for lay, ss in PUSH.items() for s in ss])
def test_a_push_that_is_killed_shows_the_old_or_the_new_and_its_repeat_finishes(
    remote, layout, step, trees, forked, figures, tmp_path
):
    assert push_killed_at(step, layout, remote, trees, forked, figures, tmp_path)


