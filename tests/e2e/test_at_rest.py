"""
Damage to what lies in a bucket: every object of a version, in every way that disks and hands do.

Found by `verify --deep`, refused by `pull`, put back by the same push. On SeaweedFS by default
one way an object, `make nightly` has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from publisher.bucket.consume import pull
from publisher.bucket.publish import push
from publisher.bucket.verifying import verify_remote
from publisher.errors import PublisherError
from publisher.storage import Bucket, open_bucket
from publisher.versions.documents import DOCUMENTS

from ..figures import Figures, Reader
from ..trees import FILES, make_tree, read_tree

TREE = {**FILES, "val/images/big.bin": bytes(range(256)) * 8_000}


def _flipped(body: bytes) -> bytes:
    at = len(body) * 2 // 3
    return body[:at] + bytes([body[at] ^ 16]) + body[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "bit flipped": _flipped,
    "deleted": lambda _: None,
    "cut short": lambda body: body[:-1],
    "emptied": lambda _: b"",
    "grown": lambda body: body + b"\0",
    "zeros": lambda body: bytes(len(body)),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree"), TREE)


@pytest.fixture
def bucket(request, tmp_path) -> Bucket:
    if request.param == "folder":
        return open_bucket(f"file://{tmp_path}/bucket")
    return open_bucket(request.getfixturevalue("s3_remote"))


@pytest.fixture
def figures(request, record_property) -> Iterator[Figures]:
    where = request.node.callspec.params["bucket"].replace("seaweedfs", "SeaweedFS")
    counted = Figures(f"damage at rest, {where}", record_property)
    yield counted
    counted.done()


def is_read(key: str) -> bool:
    """Does a reader with publisher need it? Not what lies there for people without."""
    return key.rpartition("/")[2] not in {*DOCUMENTS, "manifest.json"} and key != "publisher.json"


def refused(work: Callable[[], object]) -> bool:
    try:
        work()
    except PublisherError as error:
        return error.exit_code in {4, 7}  # 4: the record itself is gone, or the channel
    return False


class Scene:
    """A version in a bucket, and what becomes of it."""

    def __init__(self, bucket: Bucket, tree: Path, figures: Figures, room: Path) -> None:
        self._bucket = bucket
        self._tree = tree
        self._figures = figures
        self._room = room
        self._reader = Reader(figures, {"1.0.0": TREE}, room, must={"1.0.0"})

    def publish(self) -> None:
        push(self._bucket, self._tree, "hands", "1.0.0", created="2026-01-01", layout="packs")

    def damage(self, key: str, way: str) -> None:
        """Damage an object, look, and put it back by the same push."""
        bucket, sound = self._bucket, self._bucket.get(key)
        body = DAMAGE[way](sound)
        bucket.delete(key) if body is None else bucket.put(key, body)
        self._figures.fault(way)
        self._look(key)
        if "/channels/" in key and body is not None:  # it says where to; no push knows better
            bucket.put(key, sound)
        else:
            bucket.delete(key)  # as `verify` advises
            self.publish()
            self._figures.add("put back")
        self._reader.look(bucket)

    def _look(self, key: str) -> None:
        bucket, figures = self._bucket, self._figures
        figures.add("detected", refused(lambda: verify_remote(bucket, "hands", deep=True)))
        out = self._room / f"out-{figures.counts.total()}"
        stopped = refused(lambda: pull(bucket, "hands", "latest", out))
        got = read_tree(out) if out.exists() else {}
        if stopped:
            final = {p: b for p, b in got.items() if not p.startswith(".publisher.parts/")}
            figures.add("wrong", any(TREE[p] != b for p, b in final.items()))
        else:  # what lies between two files of a pack is nothing that they miss
            assert key.startswith("packs/")
            self._reader.compare(got, TREE)


def damage_each(bucket: Bucket, tree: Path, figures: Figures, room: Path, ways: list[str]) -> None:
    """Each object in turn: in all ways, or where some are given the n-th in the n-th of them."""
    scene, faults = Scene(bucket, tree, figures, room), 0
    scene.publish()
    for n, key in enumerate(o.key for o in list(bucket.list()) if is_read(o.key)):
        for way in [ways[n % len(ways)]] if ways else DAMAGE:
            scene.damage(key, way)
            faults += 1
    assert figures.counts["detected"] == faults


@pytest.mark.parametrize("bucket", ["folder"], indirect=True)
def test_damage_in_a_folder_is_found_refused_and_put_back(bucket, tree, figures, tmp_path):
    damage_each(bucket, tree, figures, tmp_path, [])


@pytest.mark.parametrize("bucket", ["seaweedfs"], indirect=True)
def test_damage_on_a_server_is_found_refused_and_put_back(bucket, tree, figures, tmp_path):
    damage_each(bucket, tree, figures, tmp_path, ["bit flipped", "deleted", "cut short"])


@pytest.mark.nightly
@pytest.mark.parametrize("bucket", ["seaweedfs"], indirect=True)
def test_all_damage_on_a_server_is_found_refused_and_put_back(bucket, tree, figures, tmp_path):
    damage_each(bucket, tree, figures, tmp_path, [])
