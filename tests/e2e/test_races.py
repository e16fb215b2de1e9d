"""Publishers in several processes who want the same versions, and a reader meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from publisher.bucket.catalog import versions
from publisher.bucket.consume import pull
from publisher.errors import VersionNotFound
from publisher.storage import Bucket, open_bucket

from ..figures import Figures
from ..processes import Forks, forks
from ..trees import FILES, make_tree, read_tree

VERSIONS = [f"1.0.{n}" for n in range(4)]
PUBLISHERS = 3


@pytest.fixture
def figures(where, record_property) -> Iterator[Figures]:
    counted = Figures(f"races of processes, {where}", record_property)
    yield counted
    counted.done()


def content(version: str, who: int) -> dict[str, bytes]:
    return {**FILES, "README.md": f"# {version} by {who}\n".encode(), "train/x.bin": b"%d" % who}


def publish_all(run: Forks, remote: str, room: Path, who: int) -> list[int]:
    codes = []
    for version in VERSIONS:
        tree = make_tree(room / str(who) / version, content(version, who))
        layout = ("packs", "plain")[who % 2]
        more = ("--version", version, "--layout", layout)
        codes.append(run("push", tree, f"{remote}/hands", *more).returncode)
    return codes


def read_latest(bucket: Bucket, figures: Figures, room: Path, seen: list[str]) -> None:
    with suppress(VersionNotFound):
        figures.add("reads")
        got = pull(bucket, "hands", "latest", room / f"latest-{figures.counts['reads']}")
        whole = [content(got.version, who) for who in range(PUBLISHERS)]
        figures.add("torn", read_tree(got.path) not in whole)
        figures.add("lost", got.version < max(seen, default=""))  # it never goes back
        seen.append(got.version)


def test_of_publishers_of_one_version_one_wins_and_readers_see_it_whole(remote, figures, tmp_path):
    bucket, seen = open_bucket(remote), list[str]()
    rooms = [tmp_path / f"said-{who}" for who in range(PUBLISHERS)]
    for room in rooms:
        room.mkdir()
    with ExitStack() as stack:
        runs = [stack.enter_context(forks(room)) for room in rooms]
        pool = stack.enter_context(ThreadPoolExecutor(PUBLISHERS))
        work = [pool.submit(publish_all, r, remote, tmp_path, who) for who, r in enumerate(runs)]
        while not all(w.done() for w in work):
            read_latest(bucket, figures, tmp_path, seen)
            time.sleep(0.1)
        codes = [w.result() for w in work]
    read_latest(bucket, figures, tmp_path, seen)
    assert seen[-1] == VERSIONS[-1]
    assert [str(v) for v in versions(bucket, "hands")] == VERSIONS
    for n, version in enumerate(VERSIONS):
        assert sorted(c[n] for c in codes) == [0, 6, 6]
        winner = next(who for who, c in enumerate(codes) if c[n] == 0)
        got = read_tree(pull(bucket, "hands", version, tmp_path / f"end-{version}").path)
        figures.add("wrong", got != content(version, winner))
        figures.fault("another publisher", PUBLISHERS - 1)
        figures.add("versions")
