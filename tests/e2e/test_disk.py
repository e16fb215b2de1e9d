"""Full disks, in real processes: nothing half is ever under its name, and the repeat goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from publisher.bucket.consume import verify_folder
from publisher.bucket.publish import push
from publisher.bucket.verifying import verify_remote
from publisher.storage import open_bucket

from ..figures import Figures, Reader
from ..processes import OWN_DISKS, Ended, Forks, forks, has_own_disks
from ..trees import FILES, make_tree, read_tree

BIG = bytes(range(256)) * 4_000  # 1 MB
TREE = {**FILES, **{f"train/images/big {n}.bin": bytes([n]) + BIG for n in range(4)}}
NO_LOOK_AHEAD = {"publisher.bucket.consume._SPARE": -(2**40)}  # else a full disk is seen before


@pytest.fixture
def figures(request, record_property) -> Iterator[Figures]:
    counted = Figures("full disk", record_property)
    yield counted
    counted.done()


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), TREE)


@pytest.fixture
def remote(tree, tmp_path) -> str:
    remote = f"file://{tmp_path}/bucket"
    push(open_bucket(remote), tree, "hands", "1.0.0", created="2026-01-01", layout="packs")
    return remote


def ends_well(ended: Ended, code: int, said: str) -> None:
    """One line that says it, and one what to do."""
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == ["error", "hint"]


def look(folder: Path, figures: Figures) -> None:
    """Is every file that has its name also whole?"""
    figures.add("reads")
    for path, body in read_tree(folder).items() if folder.exists() else ():
        if not path.startswith(".publisher.parts/"):
            figures.add("wrong", body != TREE[path])


@pytest.mark.parametrize("largest", [1_500, 50_000, 600_000, len(BIG)])
def test_a_pull_that_may_not_write_large_files(remote, forked: Forks, figures, tmp_path, largest):
    out = tmp_path / "out"
    arguments = ("pull", f"{remote}/hands@1.0.0", "-o", out)
    ends_well(forked(*arguments, largest_file=largest), 2, "the disk is full")
    figures.fault("file size limit")
    look(out, figures)
    figures.add("stuck", forked(*arguments).returncode != 0)
    verify_folder(out)
    Reader(figures, {}, tmp_path).compare(read_tree(out), TREE)


@pytest.fixture(scope="module")
def mounting(tmp_path_factory) -> Iterator[Forks]:
    if not has_own_disks():
        pytest.skip("no small disk can be mounted here: only the limit on file size is tested")
    with forks(tmp_path_factory.mktemp("said"), inside=OWN_DISKS) as run:
        yield run


@pytest.mark.parametrize("size", [2**12, 2**14, 2**20, 2 * 2**20, 3_500_000])
def test_a_pull_onto_a_small_disk(remote, mounting: Forks, figures, tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting.disk(disk, size)
    arguments = ("pull", f"{remote}/hands@1.0.0", "-o", disk / "out")
    ends_well(mounting(*arguments, settings=NO_LOOK_AHEAD), 2, "the disk is full")
    figures.fault("ENOSPC at pull")
    look(mounting.seen(disk / "out"), figures)
    mounting.disk(disk, 2**26)
    figures.add("stuck", mounting(*arguments, settings=NO_LOOK_AHEAD).returncode != 0)
    verify_folder(mounting.seen(disk / "out"))
    Reader(figures, {}, tmp_path).compare(read_tree(mounting.seen(disk / "out")), TREE)


@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("size", [2**13, 2**16, 2 * 2**20, 4_140_000])
def test_a_push_into_a_folder_on_a_small_disk(
    tree, mounting: Forks, figures, tmp_path, size, layout
):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting.disk(disk, size)
    remote, seen = f"file://{disk}/b", open_bucket(f"file://{mounting.seen(disk)}/b")
    arguments = ("push", tree, f"{remote}/hands", "--version", "1.0.0", "--layout", layout)
    ends_well(mounting(*arguments), 8, "No space left on device")
    figures.fault("ENOSPC at push")
    reader = Reader(figures, {"1.0.0": TREE}, tmp_path)
    reader.look(seen)
    mounting.disk(disk, 2**26)
    figures.add("stuck", mounting(*arguments).returncode != 0)
    verify_remote(seen, "hands", "1.0.0", deep=True)
    reader.must.add("1.0.0")
    reader.look(seen)


def test_packs_are_made_where_there_is_no_room(
    tree, mounting: Forks, figures, tmp_path, monkeypatch
):
    disk, remote = tmp_path / "disk", f"file://{tmp_path}/b"
    disk.mkdir()
    mounting.disk(disk, 2**13)
    arguments = ("push", tree, f"{remote}/hands", "--version", "1.0.0", "--layout", "packs")
    monkeypatch.setenv("TMPDIR", str(disk))
    ends_well(mounting(*arguments), 2, "no pack can be made")
    figures.fault("ENOSPC at packing")
    assert list(mounting.seen(disk).iterdir()) == []
    monkeypatch.delenv("TMPDIR")
    figures.add("stuck", mounting(*arguments).returncode != 0)
    Reader(figures, {"1.0.0": TREE}, tmp_path, must={"1.0.0"}).look(open_bucket(remote))
