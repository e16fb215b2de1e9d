"""kill -9 at every step of a push, in a real process against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from publisher.bucket.consume import channels, pull, versions
from publisher.errors import VersionNotFound
from publisher.storage import Bucket, open_bucket

from ..trees import FILES, make_tree, read_tree

STEPS = [
    *[("plain", s) for s in ("put-claim", "put-blob", "put-blob@4", "put-blob@9")],
    *[("packs", s) for s in ("put-blob", "put-blob@4", "put-blob@6", "put-index@2")],
    ("packs", "put-manifest@4"),
    ("packs", "put-record"),
]


def publisher(*arguments: object, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does; its environment is ours."""
    return subprocess.run(
        [sys.executable, "-m", "publisher", *map(str, arguments)],
        env={**os.environ, "PUBLISHER_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(params=["seaweedfs", "folder"])
def remote(request, tmp_path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}/bucket"
    return str(request.getfixturevalue("s3_remote"))


def contents(bucket: Bucket) -> int:
    """How many objects hold files."""
    keys = (o.key for place in ("blobs/", "packs/", "datasets/hands/v") for o in bucket.list(place))
    return sum(not k.endswith(("/SHA256SUMS", "/urls.txt", "/get.py")) for k in keys)


@pytest.mark.parametrize(("layout", "step"), STEPS)
def test_killed_before_the_commit_nothing_is_visible_and_the_repeat_finishes(
    remote, tmp_path, layout, step
):
    tree, bucket = make_tree(tmp_path / "tree"), open_bucket(remote)
    push = ("push", tree, f"{remote}/hands", "--version", "1.0.0", "--layout", layout, "--json")
    killed = publisher(*push, failpoint=step)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert versions(bucket, "hands") == ()
    with pytest.raises(VersionNotFound):
        pull(bucket, "hands", "latest", tmp_path / "out")
    sent = contents(bucket)
    again = publisher(*push)
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["status"] == "published"
    assert report["requests"] == {"plain": len(FILES), "packs": 6}[layout] - sent  # only the rest
    assert read_tree(pull(bucket, "hands", "latest", tmp_path / "out").path) == FILES


def test_killed_after_the_commit_the_version_is_whole_and_the_repeat_moves_the_channel(
    remote, tmp_path
):
    tree, bucket = make_tree(tmp_path / "tree"), open_bucket(remote)
    push = ("push", tree, f"{remote}/hands", "--version", "1.0.0")
    assert publisher(*push, failpoint="put-channel").returncode == -signal.SIGKILL
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "exact").path) == FILES
    assert channels(bucket, "hands") == {}
    assert publisher(*push).stdout.startswith("hands 1.0.0 already published sha256:")
    assert read_tree(pull(bucket, "hands", "latest", tmp_path / "latest").path) == FILES


def test_two_processes_that_publish_one_version_with_different_content(remote, tmp_path):
    trees = [make_tree(tmp_path / f"t{n}", {"README.md": b"by %d" % n}) for n in range(2)]
    command = [sys.executable, "-m", "publisher", "push"]
    more = [f"{remote}/hands", "--version", "1.0.0", "--json"]
    started = [
        subprocess.Popen([*command, str(tree), *more], stdout=subprocess.PIPE, text=True)
        for tree in trees
    ]
    answers = [(json.loads(p.communicate(timeout=60)[0]), p.returncode) for p in started]
    assert sorted(code for _, code in answers) == [0, 6]
    winner = next(n for n, (_, code) in enumerate(answers) if code == 0)
    assert answers[1 - winner][0]["error"]["kind"] == "VersionConflict"
    out = pull(open_bucket(remote), "hands", "1.0.0", tmp_path / "out").path
    assert read_tree(out) == read_tree(trees[winner])


def test_a_flipped_byte_in_the_bucket_is_exit_code_7_and_the_name_of_the_file(remote, tmp_path):
    tree, bucket = make_tree(tmp_path / "tree"), open_bucket(remote)
    assert publisher("push", tree, f"{remote}/hands", "--version", "1.0.0").returncode == 0
    target = next(o for o in bucket.list("datasets/") if bucket.get(o.key) == b"third picture")
    bucket.put(target.key, b"Third picture")
    out = tmp_path / "out"
    failed = publisher("pull", f"{remote}/hands@1.0.0", "-o", out)
    assert failed.returncode == 7
    assert "val/images/000003.jpg" in failed.stderr
    assert not (out / "val/images/000003.jpg").exists()
    assert publisher("verify", f"{remote}/hands@1.0.0", "--deep").returncode == 7
    assert publisher("verify", out).returncode == 2  # no complete pull
    bucket.delete(target.key)
    assert publisher("push", tree, f"{remote}/hands", "--version", "1.0.0").returncode == 0
    assert publisher("pull", f"{remote}/hands@1.0.0", "-o", out).returncode == 0
    assert publisher("verify", out).returncode == 0
    assert read_tree(out) == FILES


def test_the_receipt_is_the_same_each_time(tmp_path):
    tree, receipt = make_tree(tmp_path / "tree"), tmp_path / "published.json"
    seen = set()
    for _ in range(2):
        publisher("push", tree, f"file://{tmp_path}/b/hands", "--version", "1.0.0",
                  "--receipt", receipt)  # fmt: skip
        seen.add(receipt.read_bytes())
        Path(receipt).unlink()
    (body,) = seen
    assert set(json.loads(body)) == {"name", "version", "root"}


MIRROR_STEPS = [
    *("put-claim", "put-blob", "put-blob@5", "put-manifest@3"),
    *("put-record", "put-document@2", "put-channel"),
]


@pytest.mark.nightly
@pytest.mark.parametrize("step", MIRROR_STEPS)
def test_a_mirror_and_a_repair_that_are_killed_go_on(remote, tmp_path, step):
    tree, backup = make_tree(tmp_path / "tree"), f"file://{tmp_path}/backup"
    for number, layout in (("1.0.0", "plain"), ("1.1.0", "packs")):
        push = ("push", tree, f"{backup}/hands", "--version", number, "--layout", layout)
        assert publisher(*push).returncode == 0
    killed = publisher("mirror", f"{backup}/hands", remote, failpoint=step)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    bucket = open_bucket(remote)
    for number in versions(bucket, "hands"):
        out = tmp_path / str(number)
        assert read_tree(pull(bucket, "hands", number, out).path) == FILES
    assert publisher("mirror", f"{backup}/hands", remote).returncode == 0
    for number in ("1.0.0", "1.1.0"):
        assert publisher("verify", f"{remote}/hands@{number}", "--deep").returncode == 0

    before = {o.key: bucket.get(o.key) for o in bucket.list()}
    for key in [k for k in before if "v1.0.0" in k or "releases/1.0.0" in k or "index/" in k]:
        bucket.delete(key)
    repair = ("verify", f"{remote}/hands@1.0.0", "--repair-from", backup)
    assert publisher(*repair, failpoint="put-right@4").returncode == -signal.SIGKILL
    assert publisher(*repair).returncode == 0
    assert {o.key: bucket.get(o.key) for o in bucket.list()} == before
