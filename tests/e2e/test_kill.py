"""
kill -9 before and after every step of a push and a pull, in real processes against real buckets.

By default once at each step; `pytest -m nightly tests/e2e/test_kill.py` at every time that each
step comes.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import publisher
from publisher.bucket.catalog import channels, versions
from publisher.bucket.consume import pull, verify_folder
from publisher.bucket.publish import push
from publisher.errors import UsageError, VersionNotFound
from publisher.storage import Bucket, open_bucket

from ..figures import Figures, Reader
from ..processes import Forks
from ..trees import FILES, make_tree, read_tree
from .kills import killed, on_both, turns, wait_for_leases

ROOT = Path(publisher.__file__).parent
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
PULL = [
    *around("pull-begin", "pull-install"),
    *("pull-part", "pull-part@2", "pull-finish", "pull-state", "after-pull-state"),
    *("replace", "replace@2", "replace@3"),  # of the list, the manifest, and the state
]
PULLS = {"new": PULL, "update": [*PULL, "after-pull-remove"]}  # by what is in the folder
FIRST = {  # of the first version: nothing is there, and the repeat sends only the rest
    "plain": ["put-claim", "put-blob", "put-blob@4", "put-blob@9"],
    "packs": [
        "put-blob",
        "put-blob@4",
        "put-blob@6",
        "put-index@2",
        "put-manifest@4",
        "put-record",
    ],
}


def cases(groups: Mapping[str, Sequence[str]]) -> list[Any]:
    """The steps of each group, each group with others by default."""
    return [
        pytest.param(where, group, step, marks=marks)
        for g, (group, steps) in enumerate(groups.items())
        for where, step, marks in turns(steps, g)
    ]


# ── the scene ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("trees")
    return {version: make_tree(home / version, files) for version, files in CONTENTS.items()}


@pytest.fixture
def source(remote, trees) -> str:
    """A remote that has both versions, in packs."""
    for version in CONTENTS:
        publish(open_bucket(remote), trees, version, layout="packs")
    return remote


@pytest.fixture
def figures(request, where, record_property) -> Iterator[Figures]:
    verb = "pull" if "pull" in request.node.name else "push"
    counted = Figures(f"kill -9 of {verb}, {where}", record_property)
    yield counted
    counted.done()


def publish(bucket: Bucket, trees: dict[str, Path], version: str, **options) -> None:
    push(bucket, trees[version], "hands", version, created="2026-01-01", **options)


def push_killed_at(
    step, layout, remote, trees, forked: Forks, figures: Figures, room: Path
) -> bool:
    """Publish 1.0.0, kill the push of 1.1.0, look, push again, look; False if it was not killed."""
    bucket = open_bucket(remote)
    publish(bucket, trees, "1.0.0", layout=layout)
    reader = Reader(figures, CONTENTS, room, must={"1.0.0"})
    arguments = (
        "push",
        trees["1.1.0"],
        f"{remote}/hands",
        "--version",
        "1.1.0",
        "--layout",
        layout,
    )
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


# ── one kill at each step ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("remote", "layout", "step"), cases(PUSH), indirect=["remote"])
def test_a_push_that_is_killed_shows_the_old_or_the_new_and_its_repeat_finishes(
    remote, layout, step, trees, forked, figures, tmp_path
):
    assert push_killed_at(step, layout, remote, trees, forked, figures, tmp_path)


@pytest.mark.parametrize(("remote", "folder", "step"), cases(PULLS), indirect=["remote"])
def test_a_pull_that_is_killed_leaves_no_wrong_file_and_its_repeat_finishes(
    source, folder, step, forked, figures, tmp_path
):
    assert pull_killed_at(step, folder == "update", source, forked, figures, tmp_path)


@pytest.mark.parametrize(("remote", "layout", "step"), cases(FIRST), indirect=["remote"])
def test_killed_before_the_commit_nothing_is_visible_and_the_repeat_sends_the_rest(
    remote, layout, step, forked, figures, tmp_path
):
    tree, bucket = make_tree(tmp_path / "tree"), open_bucket(remote)
    arguments = (
        "push",
        tree,
        f"{remote}/hands",
        "--version",
        "1.0.0",
        "--layout",
        layout,
        "--json",
    )
    killed(forked, figures, *arguments, at=step)
    assert versions(bucket, "hands") == ()
    with pytest.raises(VersionNotFound):
        pull(bucket, "hands", "latest", tmp_path / "out")
    sent = contents(bucket)
    again = forked(*arguments)
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["status"] == "published"
    assert report["requests"] == {"plain": len(FILES), "packs": 6}[layout] - sent  # only the rest
    Reader(figures, {"1.0.0": FILES}, tmp_path, must={"1.0.0"}).look(bucket)


def contents(bucket: Bucket) -> int:
    """How many objects hold files."""
    keys = (o.key for place in ("blobs/", "packs/", "datasets/hands/v") for o in bucket.list(place))
    return sum(not k.endswith(("/SHA256SUMS", "/urls.txt", "/get.py")) for k in keys)


def test_every_step_of_the_code_is_one_of_these():
    parts = ("bucket/publish", "bucket/sending", "bucket/consume", "bucket/fetching")
    texts = [(ROOT / f"{p}.py").read_text("utf-8") for p in (*parts, "files", "storage")]
    steps = set(re.findall(r'failpoint\("([a-z-]+)"\)', "".join(texts)))
    written = re.findall(r'(?:write\(bucket, |_put\()"([a-z-]+)"', "".join(texts))
    tested = {*around("link", "put-whole"), "put-part", "after-pull-remove", *PULL}
    tested.add("put-signatures")  # tests/bucket/test_trust.py cuts a signing push at every put
    assert steps | set(around(*written)) <= tested | {s for ss in PUSH.values() for s in ss}
    assert len(steps) > 20


LARGE = {"publisher.storage.MAX_PUT": 2**20, "publisher.storage._PART": 5 * 2**20}


@pytest.mark.parametrize("step", ["put-part@2", *around("put-whole")])
@pytest.mark.parametrize("remote", ["seaweedfs"], indirect=True)
def test_a_large_file_that_was_half_sent_is_no_object(remote, step, forked, figures, tmp_path):
    """It goes up in parts: those of 64 MiB are 5 MiB here, the least that S3 takes."""
    large = {"train/images/large.bin": BIG * 2}
    tree, bucket = make_tree(tmp_path / "tree", large), open_bucket(remote)
    arguments = ("push", tree, f"{remote}/hands", "--version", "1.0.0", "--layout", "packs")
    killed(forked, figures, *arguments, at=step, settings=LARGE)
    whole = [o.size for o in bucket.list("blobs/") if o.size >= 2**20]
    assert whole == ([2 * len(BIG)] if step == "after-put-whole" else [])
    assert forked(*arguments, settings=LARGE).returncode == 0
    Reader(figures, {"1.0.0": FILES | large}, tmp_path, must={"1.0.0"}).look(bucket)


@pytest.mark.parametrize("step", around("link"))
@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_a_file_that_was_not_moved_into_the_folder_is_no_object(
    remote, step, trees, forked, figures, tmp_path
):
    assert push_killed_at(step, "plain", remote, trees, forked, figures, tmp_path)


# ── nightly: at every time that a step comes ─────────────────────────────────────────────────


@pytest.mark.nightly
@on_both
@pytest.mark.parametrize(("layout", "step"), [(g, s) for g, ss in PUSH.items() for s in ss])
def test_a_push_may_be_killed_every_time(remote, layout, step, trees, forked, figures, tmp_path):
    for n in itertools.count(2):
        there = f"{remote}/{n}"
        if not push_killed_at(
            f"{step}@{n}", layout, there, trees, forked, figures, tmp_path / str(n)
        ):
            return


@pytest.mark.nightly
@on_both
@pytest.mark.parametrize("folder", PULLS)
@pytest.mark.parametrize("step", [*(s for s in PULL if "@" not in s), "after-pull-remove"])
def test_a_pull_may_be_killed_every_time(source, folder, step, forked, figures, tmp_path):
    for n in itertools.count(2):
        room = tmp_path / str(n)
        if not pull_killed_at(f"{step}@{n}", folder == "update", source, forked, figures, room):
            return


# ── other accidents ──────────────────────────────────────────────────────────────────────────


@on_both
def test_killed_after_the_commit_the_version_is_whole_and_the_repeat_moves_the_channel(
    remote, tmp_path, forked
):
    tree, bucket = make_tree(tmp_path / "tree"), open_bucket(remote)
    push = ("push", tree, f"{remote}/hands", "--version", "1.0.0")
    assert forked(*push, failpoint="put-channel").returncode == -signal.SIGKILL
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "exact").path) == FILES
    assert channels(bucket, "hands") == {}
    assert forked(*push).stdout.startswith("hands 1.0.0 already published sha256:")
    assert read_tree(pull(bucket, "hands", "latest", tmp_path / "latest").path) == FILES


@on_both
def test_a_flipped_byte_in_the_bucket_is_exit_code_7_and_the_name_of_the_file(
    remote, tmp_path, forked
):
    tree, bucket = make_tree(tmp_path / "tree"), open_bucket(remote)
    assert forked("push", tree, f"{remote}/hands", "--version", "1.0.0").returncode == 0
    target = next(o for o in bucket.list("datasets/") if bucket.get(o.key) == b"third picture")
    bucket.put(target.key, b"Third picture")
    out = tmp_path / "out"
    failed = forked("pull", f"{remote}/hands@1.0.0", "-o", out)
    assert failed.returncode == 7
    assert "val/images/000003.jpg" in failed.stderr
    assert not (out / "val/images/000003.jpg").exists()
    assert forked("verify", f"{remote}/hands@1.0.0", "--deep").returncode == 7
    assert forked("verify", out).returncode == 2  # no complete pull
    bucket.delete(target.key)
    assert forked("push", tree, f"{remote}/hands", "--version", "1.0.0").returncode == 0
    assert forked("pull", f"{remote}/hands@1.0.0", "-o", out).returncode == 0
    assert forked("verify", out).returncode == 0
    assert read_tree(out) == FILES


def test_the_receipt_is_the_same_each_time(tmp_path, forked):
    tree, receipt = make_tree(tmp_path / "tree"), tmp_path / "published.json"
    seen = set()
    for _ in range(2):
        where = f"file://{tmp_path}/b/hands"
        forked("push", tree, where, "--version", "1.0.0", "--receipt", receipt)
        seen.add(receipt.read_bytes())
        Path(receipt).unlink()
    (body,) = seen
    assert set(json.loads(body)) == {"name", "version", "root"}


MIRROR_STEPS = [
    *("put-claim", "put-blob", "put-blob@5", "put-manifest@3"),
    *("put-record", "put-document@2", "put-channel"),
]


@pytest.mark.nightly
@on_both
@pytest.mark.parametrize("step", MIRROR_STEPS)
def test_a_mirror_and_a_repair_that_are_killed_go_on(remote, tmp_path, step, forked):
    tree, backup = make_tree(tmp_path / "tree"), f"file://{tmp_path}/backup"
    for number, layout in (("1.0.0", "plain"), ("1.1.0", "packs")):
        push = ("push", tree, f"{backup}/hands", "--version", number, "--layout", layout)
        assert forked(*push).returncode == 0
    assert forked("mirror", f"{backup}/hands", remote, failpoint=step).returncode == -signal.SIGKILL
    bucket = open_bucket(remote)
    for number in versions(bucket, "hands"):
        out = tmp_path / str(number)
        assert read_tree(pull(bucket, "hands", number, out).path) == FILES
    assert forked("mirror", f"{backup}/hands", remote).returncode == 0
    for number in ("1.0.0", "1.1.0"):
        assert forked("verify", f"{remote}/hands@{number}", "--deep").returncode == 0
    wait_for_leases(bucket)

    before = {o.key: bucket.get(o.key) for o in bucket.list()}
    for key in [k for k in before if "v1.0.0" in k or "releases/1.0.0" in k or "index/" in k]:
        bucket.delete(key)
    repair = ("verify", f"{remote}/hands@1.0.0", "--repair-from", backup)
    assert forked(*repair, failpoint="put-right@4").returncode == -signal.SIGKILL
    assert forked(*repair).returncode == 0
    wait_for_leases(bucket)
    assert {o.key: bucket.get(o.key) for o in bucket.list()} == before
