"""What was fetched before is not fetched again, whatever happens to the cache."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.bucket import cache as caches
from publisher.bucket import trees
from publisher.bucket.cache import Cache, open_cache
from publisher.bucket.consume import plan_pull, pull, verify_folder
from publisher.bucket.publish import push
from publisher.errors import UsageError
from publisher.storage import MemoryBucket, open_bucket
from tests.contracts import at_once
from tests.releases import built, dataset, edited
from tests.trees import FILES, make_tree, read_tree

NOON = "2026-01-01T12:00:00+00:00"
PICTURES = {f"train/images/{n:04}.jpg": b"picture %d" % n * 400 for n in range(30)}


class Counting(MemoryBucket):
    """Counts the bytes of files that are read, and breaks off after so many requests."""

    def __init__(self, objects: dict[str, bytes], left: int = -1) -> None:
        super().__init__()
        self._objects = objects
        self.left = left
        self.requests = 0
        self.bytes = 0
        self.keys: list[str] = []

    def read(self, key, *, start=0, length=None):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.requests += 1
        self.keys.append(key)
        body = b"".join(super().read(key, start=start, length=length))
        for at in range(0, len(body), 1000):
            self.bytes += len(body[at : at + 1000])
            yield body[at : at + 1000]


@pytest.fixture(params=["packs", "plain"])
def bucket(tmp_path, request) -> Counting:
    inner = MemoryBucket()
    tree = make_tree(tmp_path / "tree", PICTURES)
    push(inner, tree, "hands", "1.0.0", created=NOON, layout=request.param)
    push(inner, tree, "feet", "0.1.0", created=NOON, layout=request.param)
    return Counting(inner._objects)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache", 2**30)


def bundles(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*.bundle"))


ALL = {**FILES, **PICTURES}


def test_a_second_folder_asks_the_bucket_for_no_file(bucket, cache, tmp_path):
    first = pull(bucket, "hands", "1.0.0", tmp_path / "a", cache=cache)
    assert (len(first.plan.move), first.plan.cached) == (len(ALL), ())
    asked = bucket.requests
    second = pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache)
    assert bucket.requests == asked
    assert (second.plan.move, second.plan.requests, second.plan.transfer) == ((), 0, 0)
    assert len(second.plan.cached) == len(ALL)
    assert read_tree(tmp_path / "b") == ALL
    other = pull(bucket, "feet", "latest", tmp_path / "c", cache=cache)  # another dataset
    assert (bucket.requests, read_tree(other.path)) == (asked, ALL)


def test_a_dry_run_tells_what_the_cache_saves_and_takes_nothing(bucket, cache, tmp_path):
    assert plan_pull(bucket, "hands", "1.0.0", tmp_path / "a", cache=cache).plan.cached == ()
    assert bundles(tmp_path) == []
    pull(bucket, "hands", "1.0.0", tmp_path / "a", splits=["train"], cache=cache)
    planned = plan_pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache).plan
    assert {e.split for e in planned.move} == {"val"}
    assert 0 <= planned.transfer - sum(e.size for e in planned.move) <= 1024  # between them
    assert not (tmp_path / "b").exists()


def test_what_is_done_to_a_pulled_folder_does_not_reach_the_cache(bucket, cache, tmp_path):
    out = pull(bucket, "hands", "1.0.0", tmp_path / "a", cache=cache).path
    for path in ALL:
        with (out / path).open("r+b") as stream:
            stream.write(b"scribbled")
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache).path) == ALL
    assert all(p.stat().st_nlink == 1 for p in out.rglob("*") if p.is_file())


@pytest.mark.parametrize("how", ["flip", "cut", "end", "empty", "junk", "gone", "folder"])
def test_a_damaged_cache_is_found_out_and_fetched_again(bucket, cache, tmp_path, how, monkeypatch):
    monkeypatch.setattr(trees, "THREADS", 1)
    pull(bucket, "hands", "1.0.0", tmp_path / "a", cache=cache)
    (bundle,) = bundles(tmp_path)
    body = bundle.read_bytes()
    picture = PICTURES["train/images/0007.jpg"]
    damaged = {
        "flip": body.replace(picture, picture[:-1] + b"!"),
        "cut": body[: len(body) // 2],
        "end": body[:-3],
        "empty": b"",
        "junk": os.urandom(len(body)),
    }
    if how in damaged:
        bundle.write_bytes(damaged[how])
    else:
        bundle.unlink()
    if how == "folder":
        bundle.mkdir()
    asked = bucket.bytes
    out = pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache)
    assert read_tree(out.path) == ALL
    if how == "flip":
        assert bucket.bytes - asked == len(picture)  # and nothing else
        assert [e.path for e in out.plan.move] == ["train/images/0007.jpg"]
        assert not bundle.exists()
    verify_folder(out.path)
    asked = bucket.requests
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "c", cache=cache).path) == ALL
    if how in damaged and how != "flip":
        assert bucket.requests == asked  # it is in the cache again


def test_a_bundle_that_goes_between_finding_and_reading_is_no_error(
    bucket, cache, tmp_path, monkeypatch
):
    pull(bucket, "hands", "1.0.0", tmp_path / "a", cache=cache)
    find = Cache.find

    def find_and_lose(self, wanted):
        found = find(self, wanted)
        for bundle in bundles(tmp_path):
            bundle.unlink()
        return found

    monkeypatch.setattr(Cache, "find", find_and_lose)
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache).path) == ALL


def test_rows_of_a_hostile_cache_lead_nowhere(bucket, cache, tmp_path):
    pull(bucket, "hands", "1.0.0", tmp_path / "a", cache=cache)
    (bundle,) = bundles(tmp_path) if len(bundles(tmp_path)) == 1 else bundles(tmp_path)[:1]
    rows = [(d, o, s) for d, o, s in caches._rows(bundle)]
    evil = [caches._ROW.pack(d, 2**63, s) for d, o, s in rows]
    evil += [caches._ROW.pack(d, 0, s) for d, o, s in rows]  # all upon another
    bundle.write_bytes(b"x" * 50_000 + b"".join(evil) + caches._END.pack(len(evil), b"pubcach1"))
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache).path) == ALL
    bundle.write_bytes(caches._END.pack(2**60, b"pubcach1"))
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "c", cache=cache).path) == ALL


# ── its size ─────────────────────────────────────────────────────────────────────────────────


def numbered(tmp_path: Path, n: int) -> tuple[Counting, dict[str, bytes]]:
    files = {"train/images/big.jpg": bytes([n]) * 100_000}
    inner = MemoryBucket()
    push(inner, make_tree(tmp_path / f"t{n}", files), f"d{n}", "1.0.0", created=NOON)
    return Counting(inner._objects), files


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "THREADS", 1)
    cache = Cache(tmp_path / "cache", 350_000)
    found = [numbered(tmp_path, n) for n in range(4)]
    for n in range(3):
        pull(found[n][0], f"d{n}", "1.0.0", tmp_path / f"o{n}", cache=cache)
        for bundle in bundles(tmp_path):  # seconds pass
            os.utime(bundle, (bundle.stat().st_mtime - 100,) * 2)
    pull(found[0][0], "d0", "1.0.0", tmp_path / "again", cache=cache)  # used, and the newest now
    pull(found[3][0], "d3", "1.0.0", tmp_path / "o3", cache=cache)
    assert sum(b.stat().st_size for b in bundles(tmp_path)) <= 350_000
    missing = [
        n
        for n in range(4)
        if any(
            e.size == 100_000
            for e in plan_pull(found[n][0], f"d{n}", "1.0.0", tmp_path / "x", cache=cache).plan.move
        )
    ]
    assert missing == [1]


def test_a_pull_that_is_larger_than_the_cache_does_not_exceed_it(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "_BUNDLE", 10_000)
    cache = Cache(tmp_path / "cache", 40_000)
    for out in "ab":
        assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / out, cache=cache).path) == ALL
        assert sum(b.stat().st_size for b in bundles(tmp_path)) <= 40_000


def test_it_leaves_the_disk_at_least_what_it_takes(bucket, tmp_path, monkeypatch):
    class Usage:
        free = 0

    monkeypatch.setattr(caches.shutil, "disk_usage", lambda _: Usage)
    cache = Cache(tmp_path / "cache", 2**30)
    with cache.keeping() as keeper, keeper.bundle() as bundle:
        assert bundle is not None
        bundle.begin()
        bundle.write(b"x" * 1000)
        bundle.end("0" * 64, 1000)
    assert bundles(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_none_and_no_error(bucket, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, and no folder")
    cache = Cache(tmp_path / "cache", 2**30)
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "a", cache=cache).path) == ALL
    (tmp_path / "cache").unlink()

    def full(self, piece):
        self._try(lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))

    monkeypatch.setattr(caches.Bundle, "write", full)
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache).path) == ALL
    assert os.listdir(tmp_path / "cache") == []


def test_what_a_killed_pull_left_in_the_cache_goes_after_a_day(bucket, cache, tmp_path):
    pull(bucket, "hands", "1.0.0", tmp_path / "a", splits=["val"], cache=cache)
    young, old = tmp_path / "cache/.1.part", tmp_path / "cache/.2.part"
    young.write_bytes(b"of a pull that goes on")
    old.write_bytes(b"of one that was killed")
    os.utime(old, (time.time() - 100_000,) * 2)
    pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache)
    assert (young.exists(), old.exists()) == (True, False)


@pytest.mark.parametrize(("said", "gib"), [("0", 0), ("0.5", 0.5), ("", 10), ("20", 20)])
def test_its_size_can_be_set_and_it_can_be_turned_off(monkeypatch, said, gib):
    monkeypatch.setenv("PUBLISHER_CACHE_GIB", said)
    cache = open_cache()
    assert (cache._limit if cache else 0) == gib * 2**30


@pytest.mark.parametrize("said", ["ten", "nan", "inf", "1e999"])
def test_a_size_that_is_none(monkeypatch, said):
    monkeypatch.setenv("PUBLISHER_CACHE_GIB", said)
    with pytest.raises(UsageError, match="PUBLISHER_CACHE_GIB"):
        open_cache()


def test_the_command_line_uses_it_and_can_leave_it(tmp_path, monkeypatch, cli):
    monkeypatch.setenv("PUBLISHER_CACHE_GIB", "1")
    monkeypatch.setenv("PUBLISHER_CACHE", str(tmp_path / "home"))
    remote = f"file://{tmp_path}/bucket/hands"
    cli("push", make_tree(tmp_path / "tree"), remote, "--version", "1.0.0")
    cli("pull", f"{remote}@1.0.0", "-o", tmp_path / "a", "--no-cache")
    assert not (tmp_path / "home").exists()
    cli("pull", f"{remote}@1.0.0", "-o", tmp_path / "b")
    said = cli("pull", f"{remote}@1.0.0", "-o", tmp_path / "c").stderr
    assert f"fetched 0 files, 0 bytes; {len(FILES)} files, 104 bytes from the cache" in said


# ── interrupted and shared ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [0, 1, 2, 4, 5])
def test_interrupted_nothing_is_fetched_twice_not_even_into_another_folder(
    bucket, cache, tmp_path, after, monkeypatch
):
    monkeypatch.setattr(trees, "THREADS", 1)
    cut = Counting(bucket._objects, left=after)
    with pytest.raises(KeyboardInterrupt):
        pull(cut, "hands", "1.0.0", tmp_path / "a", cache=cache)
    for out in ("b", "a"):
        assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / out, cache=cache).path) == ALL
    once = Counting(bucket._objects)
    pull(once, "hands", "1.0.0", tmp_path / "c")
    assert cut.bytes + bucket.bytes == once.bytes
    assert cut.requests + bucket.requests == once.requests


KILLED = """
import os, sys
from pathlib import Path
from publisher.bucket import trees
from publisher.bucket.cache import Cache
from publisher.bucket.consume import pull
from publisher.storage import open_bucket
trees.THREADS = 1
remote, out, cache, log, left = sys.argv[1:]
left, bucket = int(left), open_bucket(remote)
read = bucket.read
def dies(key, *, start=0, length=None):
    global left
    for block in read(key, start=start, length=length):
        if not key.startswith(("packs/", "blobs/", "datasets/hands/v")):
            yield block  # records and lists come each time
            continue
        for at in range(0, len(block), 5000):
            if left == 0:
                os.kill(os.getpid(), 9)
            left -= 1
            piece = block[at:at + 5000]
            with open(log, "a") as stream:
                stream.write(f"{key} {start + at} {len(piece)}\\n")
            yield piece
        start += len(block)
bucket.read = dies
pull(bucket, "hands", "1.0.0", Path(out), cache=Cache(Path(cache), 2**30))
"""


@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("where", ["folder", "seaweedfs"])
def test_killed_again_and_again_no_byte_is_fetched_twice(tmp_path, layout, where, request):
    remote = f"file://{tmp_path}/bucket"
    if where == "seaweedfs":
        remote = request.getfixturevalue("s3_remote")
    bucket, tree = open_bucket(remote), make_tree(tmp_path / "tree", PICTURES)
    push(bucket, tree, "hands", "1.0.0", created=NOON, layout=layout)
    log = tmp_path / "log"
    command = [sys.executable, "-c", KILLED, remote, str(tmp_path / "out")]
    command += [str(tmp_path / "cache"), str(log)]
    codes = [
        subprocess.run([*command, str(left)], check=False).returncode
        for left in (0, 3, 9, 1, 10_000)
    ]
    assert codes == [-signal.SIGKILL] * 4 + [0]
    assert read_tree(tmp_path / "out") == ALL
    verify_folder(tmp_path / "out")
    seen: set[tuple[str, int]] = set()
    for line in log.read_text().splitlines():
        key, start, size = line.rsplit(maxsplit=2)
        stretch = {(key, at) for at in range(int(start), int(start) + int(size))}
        assert not stretch & seen
        seen |= stretch
    cache = Cache(tmp_path / "cache", 2**30)  # what was begun when it was killed is not in there
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "b", cache=cache).path) == ALL


def test_many_pulls_at_once_share_a_cache(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "_BUNDLE", 20_000)
    cache, wrong = Cache(tmp_path / "cache", 100_000), []

    def work(n: int) -> None:
        for round_ in range(3):
            out = tmp_path / f"{n}-{round_}"
            if read_tree(pull(bucket, "hands", "1.0.0", out, cache=cache).path) != ALL:
                wrong.append(n)

    at_once(4, work)
    assert wrong == []
    assert [p for p in (tmp_path / "cache").iterdir() if p.suffix != ".bundle"] == []


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_whatever_becomes_of_the_cache_a_pull_gives_the_version(data, tmp_path_factory):
    home = tmp_path_factory.mktemp("h")
    inner, cache, files = MemoryBucket(), Cache(home / "cache", 2**30), {}
    for n in range(3):
        names = st.sampled_from([f"train/images/{c}.jpg" for c in "abcdef"])
        files[n] = data.draw(st.dictionaries(names, st.binary(max_size=40)))
        push(inner, make_tree(home / f"t{n}", files[n]), "hands", f"{n}.0.0", created=NOON,
             layout=data.draw(st.sampled_from(["packs", "plain"])))  # fmt: skip
    for _ in range(5):
        n, out = data.draw(st.integers(0, 2)), data.draw(st.sampled_from("xy"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees, "THREADS", 1)  # the same bundles each time
            pull(inner, "hands", f"{n}.0.0", home / out, cache=cache)
        assert read_tree(home / out) == {**FILES, **files[n]}
        for bundle in sorted((home / "cache").glob("*.bundle"), key=Path.read_bytes):
            body = bytearray(bundle.read_bytes())
            what = data.draw(st.sampled_from(["nothing", "flip", "cut", "remove"]))
            at = data.draw(st.integers(0, 10**6)) % max(1, len(body))
            if what == "flip" and body:
                body[at] ^= 1 << data.draw(st.integers(0, 7))
                bundle.write_bytes(body)
            elif what == "cut":
                bundle.write_bytes(body[:at])
            elif what == "remove":
                bundle.unlink()


# ── only what changed ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cached", [False, True])
def test_a_release_of_better_annotations_costs_only_them(tmp_path, cached):
    inner, bound = MemoryBucket(), 0
    first = dataset(tmp_path / "data", images=8)
    push(inner, built(first, tmp_path / "r1"), "hands", "1.0.0", created=NOON, layout="packs")
    before = set(inner._objects)

    def move(rows):
        rows[0]["segments"][0]["segmentation"] = [[2, 2, 8, 2, 8, 8, 2, 8]]

    push(inner, built(edited(first, move), tmp_path / "r2"), "hands", "1.1.0", created=NOON,
         layout="packs")  # fmt: skip
    new = {k: len(b) for k, b in inner._objects.items()
           if k not in before and k.startswith(("packs/", "blobs/"))}  # fmt: skip
    bucket = Counting(inner._objects)
    cache = Cache(tmp_path / "cache", 2**30) if cached else None
    out = pull(bucket, "hands", "1.0.0", tmp_path / "out", cache=cache)
    bucket.bytes, bucket.keys = 0, []
    to = tmp_path / ("other" if cached else "out")  # with a cache, another folder does as well
    out = pull(bucket, "hands", "1.1.0", to, cache=cache)
    changed = {e.path: e.size for e in out.plan.move}
    assert {p for p in changed if p != "provenance.json"} >= {
        "annotations/instances_train.json",
        "annotations/panoptic_train.json",
        "train/metadata.jsonl",
        "train/panoptic/a.png",
    }
    assert not [p for p in changed if p.endswith(".jpg")]
    bound = sum(changed.values()) + 1024 * len(changed)  # headers lie between them
    assert bucket.bytes <= bound
    assert set(bucket.keys) <= set(new)  # no pack of pictures was touched, up or down
    assert read_tree(out.path) == read_tree(tmp_path / "r2")
