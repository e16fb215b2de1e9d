from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import tarfile
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from publisher.bucket import trees
from publisher.bucket.catalog import channels, names, resolve, versions
from publisher.bucket.consume import open_release, plan_pull, pull, verify_folder
from publisher.bucket.publish import push
from publisher.bucket.trees import each
from publisher.bucket.verifying import verify_remote
from publisher.errors import (
    AccessDenied,
    FormatError,
    IntegrityError,
    PublisherError,
    StorageError,
    UsageError,
    VersionNotFound,
)
from publisher.files import canonical_json, has_digest
from publisher.storage import MemoryBucket
from publisher.versions.manifest import (
    Entry,
    Manifest,
    Record,
    blob_key,
    shard_key,
    shard_of,
    tree_key,
)
from publisher.versions.packs import Index, Place, index_key
from publisher.versions.version import Version
from tests.trees import FILES, entry, make_tree, manifest, read_tree

NOON = "2026-01-01T12:00:00+00:00"
BETTER = {"val/images/000003.jpg": b"better picture"}


LAYOUTS = ["plain", "packs"]


@pytest.fixture
def bucket(tmp_path) -> MemoryBucket:
    """hands 1.0.0, and 1.1.0 with one better picture and one file less."""
    return filled(tmp_path, "plain")


@pytest.fixture(params=LAYOUTS)
def either(tmp_path, request) -> MemoryBucket:
    """The same in both layouts."""
    return filled(tmp_path, request.param)


def filled(tmp_path, layout) -> MemoryBucket:
    bucket = MemoryBucket()
    push(bucket, make_tree(tmp_path / "t1"), "hands", "1.0.0", created=NOON, layout=layout)
    tree = make_tree(tmp_path / "t2", BETTER)
    (tree / "train/images/000001.jpg").unlink()
    files = {p: b for p, b in {**FILES, **BETTER}.items() if p != "train/images/000001.jpg"}
    (tree / "manifest.json").write_bytes(manifest(files).to_bytes())
    push(bucket, tree, "hands", "1.1.0", created=NOON, layout=layout)
    return bucket


def stored(path: str) -> str:
    """The key of a file of 1.0.0 in the plain layout."""
    if path == "provenance.json":
        return blob_key(entry(path, FILES[path]).sha256)
    return tree_key("hands", "1.0.0", path)


def flip(bucket: MemoryBucket, key: str, at: int = 0) -> None:
    body = bytearray(bucket._objects[key])
    body[at] ^= 1
    bucket._objects[key] = bytes(body)


# ── finding ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_there(bucket):
    bucket.put("datasets/hands/releases/notes.txt", b"a stranger's file")
    bucket.put("datasets/empty/readme", b"")
    assert names(bucket) == ("hands",)
    assert [str(v) for v in versions(bucket, "hands")] == ["1.0.0", "1.1.0"]
    assert {c: str(v) for c, v in channels(bucket, "hands").items()} == {"latest": "1.1.0"}


def test_every_kind_of_reference(bucket):
    root = manifest().root
    for selector in ("1.0.0", root, root[:15]):
        assert resolve(bucket, "hands", selector).version == "1.0.0"
    for selector in ("latest", "^1", "^1.0"):
        assert resolve(bucket, "hands", selector).version == "1.1.0"


@pytest.mark.parametrize("selector", ["2.0.0", "stable", "^2", "sha256:00000000"])
def test_what_is_not_there_is_named_with_what_is(bucket, selector):
    with pytest.raises(VersionNotFound) as caught:
        resolve(bucket, "hands", selector)
    assert caught.value.exit_code == 4
    assert f"hands@{selector}" in str(caught.value)
    assert "1.1.0, 1.0.0" in caught.value.hint


def test_a_dataset_that_is_not_there(bucket):
    with pytest.raises(VersionNotFound) as caught:
        resolve(bucket, "feet", "latest")
    assert "no version here" in caught.value.hint


def test_one_record_cannot_stand_in_for_another(bucket):
    old = bucket._objects["datasets/hands/releases/1.0.0.json"]
    bucket._objects["datasets/hands/releases/1.1.0.json"] = old
    with pytest.raises(IntegrityError, match=r"is the record of hands 1\.0\.0"):
        resolve(bucket, "hands", "1.1.0")


# ── pulling ──────────────────────────────────────────────────────────────────────────────────


def test_a_pull_gives_the_tree_that_was_pushed(either, tmp_path):
    release = pull(either, "hands", "1.0.0", tmp_path / "out")
    assert read_tree(release.path) == FILES
    assert (release.path / "manifest.json").read_bytes() == manifest().to_bytes()
    assert Path(release) == tmp_path / "out"
    assert (release.name, release.version, release.root) == ("hands", "1.0.0", manifest().root)
    assert release.splits == ("train", "val")
    assert release.manifest == manifest()
    assert open_release(tmp_path / "out") == release
    release.verify()


def test_one_split_is_that_split_its_annotations_and_what_is_common(either, tmp_path):
    release = pull(either, "hands", "1.0.0", tmp_path / "out", splits=["val"])
    assert set(read_tree(release.path)) == {
        "README.md",
        "provenance.json",
        "annotations/instances_val.json",
        "val/metadata.jsonl",
        "val/images/000003.jpg",
    }
    assert release.splits == ("val",)
    assert release.manifest.root == manifest().root  # the root of the whole, still checkable
    release.verify()


def test_more_splits_of_the_same_version_are_added(either, tmp_path):
    pull(either, "hands", "1.0.0", tmp_path / "out", splits=["val"])
    release = pull(either, "hands", "1.0.0", tmp_path / "out", splits=["train"])
    assert release.splits == ("train", "val")
    assert read_tree(release.path) == FILES
    assert len(release.plan.keep) == 5


def test_a_split_that_is_not_there(bucket, tmp_path):
    with pytest.raises(UsageError, match="no split 'tets'") as caught:
        pull(bucket, "hands", "1.0.0", tmp_path / "out", splits=["tets"])
    assert "train, val" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_dry_run_touches_nothing(bucket, tmp_path):
    planned = plan_pull(bucket, "hands", "latest", tmp_path / "out", splits=["val"])
    assert planned.version == "1.1.0"
    assert len(planned.plan.move) == 5
    assert not (tmp_path / "out").exists()


def test_the_next_version_fetches_only_what_changed_and_clears_what_is_gone(either, tmp_path):
    pull(either, "hands", "1.0.0", tmp_path / "out")
    release = pull(either, "hands", "1.1.0", tmp_path / "out")
    assert [e.path for e in release.plan.move] == ["val/images/000003.jpg"]
    assert not (tmp_path / "out/train/images/000001.jpg").exists()
    release.verify()
    back = pull(either, "hands", "1.0.0", tmp_path / "out")
    assert read_tree(back.path) == FILES


def test_changed_and_deleted_files_are_put_right(either, tmp_path):
    release = pull(either, "hands", "1.0.0", tmp_path / "out")
    (release.path / "README.md").write_bytes(b"scribbled")
    (release.path / "val/images/000003.jpg").unlink()
    again = pull(either, "hands", "1.0.0", tmp_path / "out")
    assert {e.path for e in again.plan.move} == {"README.md", "val/images/000003.jpg"}
    assert read_tree(again.path) == FILES


class Breaks(MemoryBucket):
    """Connections break after so many bytes, so many times; counts what was read."""

    def __init__(self, objects: dict[str, bytes], times: int, after: int = 5):
        super().__init__()
        self._objects = objects
        self.times = times
        self._after = after
        self.bytes = 0

    def read(self, key, *, start=0, length=None):
        body = b"".join(super().read(key, start=start, length=length))
        if self.times > 0 and len(body) > self._after:
            self.times -= 1
            self.bytes += self._after
            yield body[: self._after]
            raise StorageError("the connection broke")
        self.bytes += len(body)
        yield body


def test_a_broken_connection_is_taken_up_where_it_broke(bucket, tmp_path):
    flaky = Breaks(bucket._objects, times=3)
    assert read_tree(pull(flaky, "hands", "1.0.0", tmp_path / "out").path) == FILES
    assert flaky.bytes == sum(map(len, FILES.values()))  # not one byte twice


def test_a_pull_cut_short_is_incomplete_says_so_and_goes_on(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "THREADS", 1)
    out = tmp_path / "out"
    with pytest.raises(StorageError):
        pull(Breaks(bucket._objects, times=10**9, after=2), "hands", "1.0.0", out)
    with pytest.raises(UsageError, match="no complete pull"):
        open_release(out)
    with pytest.raises(UsageError):
        verify_folder(out)
    for path in read_tree_without_parts(out):  # what is there is whole
        assert (out / path).read_bytes() == FILES[path]
    counted = Breaks(bucket._objects, times=0)
    pull(counted, "hands", "1.0.0", out)
    assert read_tree(out) == FILES
    assert counted.bytes < sum(map(len, FILES.values()))


def read_tree_without_parts(out: Path) -> list[str]:
    return [p for p in read_tree(out) if not p.startswith(".publisher.parts/")]


def test_a_pull_of_another_version_may_follow_one_that_was_cut_short(either, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(StorageError):
        pull(Breaks(either._objects, times=10**9, after=2), "hands", "1.0.0", out)
    pull(either, "hands", "1.1.0", out).verify()


def test_an_update_that_was_cut_short_is_no_longer_the_old_version(either, tmp_path):
    out = tmp_path / "out"
    pull(either, "hands", "1.0.0", out)
    with pytest.raises(StorageError):
        pull(Breaks(either._objects, times=10**9, after=2), "hands", "1.1.0", out)
    with pytest.raises(UsageError, match="no complete pull"):
        open_release(out)


def test_a_damaged_part_of_an_earlier_pull_is_fetched_anew(either, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(StorageError):
        pull(Breaks(either._objects, times=10**9, after=2), "hands", "1.0.0", out)
    for part in (out / ".publisher.parts").iterdir():
        if part.suffix != ".manifest":
            part.write_bytes(b"junk" * 1000)
    assert read_tree(pull(either, "hands", "1.0.0", out).path) == FILES


def test_denied_access_is_not_tried_again(either, tmp_path):
    class Denies(MemoryBucket):
        asked = 0

        def read(self, key, **options):
            self.asked += key.startswith(("packs/", "blobs/", "datasets/hands/v"))
            raise AccessDenied("no")

    denies = Denies()
    denies._objects = either._objects
    with pytest.raises(AccessDenied):
        pull(denies, "hands", "1.0.0", tmp_path / "out")
    assert denies.asked <= trees.THREADS


# ── damage ───────────────────────────────────────────────────────────────────────────────────


def keys_of_1_0_0(bucket) -> list[str]:
    shards = resolve(bucket, "hands", "1.0.0").shards.values()
    lists = [*(shard_key(s.sha256) for s in shards), *(index_key(s.index) for s in shards)]
    return ["datasets/hands/releases/1.0.0.json", *lists, *map(stored, FILES)]


@pytest.mark.parametrize("how", ["first", "last", "shorter", "longer", "gone", "empty"])
@pytest.mark.parametrize("number", range(1 + 4 + 4 + len(FILES)))
def test_damage_to_any_object_is_found_named_and_not_installed(bucket, tmp_path, number, how):
    key = keys_of_1_0_0(bucket)[number]
    good = bucket._objects[key]
    if how in {"first", "last"}:
        flip(bucket, key, 0 if how == "first" else -1)
    elif how == "gone":
        bucket.delete(key)
    else:
        bucket.put(key, {"shorter": good[:-1], "longer": good + b"!", "empty": b""}[how])
    path = next((p for p in FILES if stored(p) == key), key)
    expected = VersionNotFound if how == "gone" and "/releases/" in key else IntegrityError
    with pytest.raises(expected) as caught:
        pull(bucket, "hands", "1.0.0", tmp_path / "out")
    if expected is IntegrityError:
        assert caught.value.exit_code == 7
        assert path in str(caught.value)
        assert list(caught.value.paths) == [path]
    out = tmp_path / "out"
    if out.exists():
        installed = read_tree_without_parts(out)
        assert path not in installed
        assert all((out / p).read_bytes() == FILES[p] for p in installed)
        assert not (out / ".publisher.json").exists()
    with pytest.raises(IntegrityError, match=re.escape(key)):
        verify_remote(bucket, "hands", "1.0.0", deep=True)
    bucket.put(key, good)
    assert read_tree(pull(bucket, "hands", "1.0.0", out).path) == FILES


def test_a_damaged_channel(bucket):
    flip(bucket, "datasets/hands/channels/latest.json", 40)
    with pytest.raises(IntegrityError, match=r"channels/latest\.json is damaged"):
        resolve(bucket, "hands", "latest")
    assert resolve(bucket, "hands", "1.1.0").version == "1.1.0"


def test_all_damaged_files_are_named(bucket, tmp_path):
    bad = ["README.md", "val/metadata.jsonl"]
    for path in bad:
        flip(bucket, stored(path))
    with pytest.raises(IntegrityError) as caught:
        pull(bucket, "hands", "1.0.0", tmp_path / "out")
    assert sorted(caught.value.paths) == bad


def test_a_byte_that_flips_on_its_way_once_does_no_harm(bucket, tmp_path):
    class Noisy(MemoryBucket):
        noise = 1

        def read(self, key, **options):
            for block in super().read(key, **options):
                if self.noise:
                    self.noise = 0
                    yield bytes([block[0] ^ 1]) + block[1:]
                else:
                    yield block

    noisy = Noisy()
    noisy._objects = bucket._objects
    assert read_tree(pull(noisy, "hands", "1.0.0", tmp_path / "out").path) == FILES


def test_endless_data_ends_at_the_promised_size(bucket, tmp_path):
    class Endless(MemoryBucket):
        sent = 0

        def read(self, key, **options):
            for _ in range(100):  # an end, lest a bug here fills somebody's disk
                self.sent += 2**16
                yield b"\0" * 2**16

    endless = Endless()
    endless._objects = bucket._objects
    with pytest.raises(IntegrityError):
        pull(endless, "hands", "1.0.0", tmp_path / "out")
    assert endless.sent <= 2 * len(FILES) * 2**16


# ── packs ────────────────────────────────────────────────────────────────────────────────────

PICTURES = {f"train/images/{n:04}.jpg": b"picture %d" % n * 40 for n in range(30)}


class Asked(MemoryBucket):
    """Tells which stretches were read."""

    def __init__(self, objects: dict[str, bytes]):
        super().__init__()
        self._objects = objects
        self.reads: list[tuple[str, int]] = []

    def read(self, key, *, start=0, length=None):
        self.reads.append((key, length or len(self._objects.get(key, b""))))
        return super().read(key, start=start, length=length)


@pytest.fixture
def packed(tmp_path) -> Asked:
    bucket = MemoryBucket()
    tree = make_tree(tmp_path / "packed", {**PICTURES, "val/images/twin.jpg": b"third picture"})
    push(bucket, tree, "hands", "1.0.0", created=NOON, layout="packs")
    return Asked(bucket._objects)


def pack_with(bucket: MemoryBucket, body: bytes) -> str:
    return next(k for k, b in bucket._objects.items() if k.startswith("packs/") and body in b)


def test_a_pack_that_is_wanted_comes_in_one_request(packed, tmp_path):
    planned = plan_pull(packed, "hands", "1.0.0", tmp_path / "out").plan
    release = pull(packed, "hands", "1.0.0", tmp_path / "out")
    assert read_tree(release.path).items() >= PICTURES.items()
    assert (release.plan.requests, release.plan.transfer) == (planned.requests, planned.transfer)
    assert len(packed.reads) == release.plan.requests
    assert sum(size for _, size in packed.reads) == release.plan.transfer
    assert len({key for key, _ in packed.reads}) == len(packed.reads)


def test_one_split_reads_nothing_of_another(packed, tmp_path):
    pull(packed, "hands", "1.0.0", tmp_path / "out", splits=["val"])
    assert pack_with(packed, b"picture 7") not in {key for key, _ in packed.reads}


def test_one_missing_picture_is_read_out_of_its_pack(packed, tmp_path):
    out = pull(packed, "hands", "1.0.0", tmp_path / "out").path
    (out / "train/images/0007.jpg").unlink()
    packed.reads.clear()
    pull(packed, "hands", "1.0.0", out)
    assert packed.reads == [(pack_with(packed, b"picture 7"), len(b"picture 7" * 40))]


def test_equal_files_are_fetched_once(packed, tmp_path):
    out = pull(packed, "hands", "1.0.0", tmp_path / "out").path
    assert (out / "val/images/twin.jpg").read_bytes() == b"third picture"
    assert (out / "val/images/000003.jpg").read_bytes() == b"third picture"


def test_a_connection_that_breaks_inside_of_a_pack_is_taken_up_there(packed, tmp_path):
    flaky = Breaks(packed._objects, times=12, after=3000)
    release = pull(flaky, "hands", "1.0.0", tmp_path / "out")
    assert read_tree(release.path).items() >= PICTURES.items()
    assert flaky.times < 12
    assert flaky.bytes <= release.plan.transfer  # not one byte twice


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_damage_to_a_pack_is_found_and_the_right_files_named(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("packs")
    bucket = MemoryBucket()
    tree = make_tree(folder / "tree", dict(list(PICTURES.items())[:5]))
    push(bucket, tree, "hands", "1.0.0", created=NOON, layout="packs")
    key = data.draw(st.sampled_from(sorted(k for k in bucket._objects if k.startswith("packs/"))))
    good = bucket._objects[key]
    at = data.draw(st.integers(0, len(good) - 1))
    cut = data.draw(st.booleans())
    bucket._objects[key] = good[:at] if cut else flipped(good, at)
    with tarfile.open(fileobj=io.BytesIO(good)) as tar:
        ends = {m.name: (m.offset_data, m.offset_data + m.size) for m in tar}
    hit = {p for p, (start, stop) in ends.items() if at < stop and (cut or at >= start)}
    with pytest.raises(IntegrityError) as caught:
        verify_remote(bucket, "hands", deep=True)
    assert set(caught.value.paths) == (hit or {key})
    out = folder / "out"
    if hit:
        with pytest.raises(IntegrityError) as caught:
            pull(bucket, "hands", "1.0.0", out)
        assert set(caught.value.paths) == hit
        installed = {p: b for p, b in read_tree(out).items() if not p.startswith(".publisher")}
        assert installed == {p: b for p, b in read_tree(tree).items() if p not in hit}
    else:
        pull(bucket, "hands", "1.0.0", out)
    bucket._objects[key] = good
    pull(bucket, "hands", "1.0.0", out).verify()


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def test_packs_that_were_swapped_are_seen_by_a_shallow_look_too(packed):
    one, two = (pack_with(packed, b) for b in (b"picture 7", b'{"images":[3]}'))
    packed._objects[one], packed._objects[two] = packed._objects[two], packed._objects[one]
    with pytest.raises(IntegrityError) as caught:
        verify_remote(packed, "hands")
    assert set(PICTURES) <= set(caught.value.paths)


@pytest.mark.parametrize("how", ["elsewhere", "overlapping", "unknown file", "wrong size", "two"])
def test_a_lying_index_installs_nothing_wrong(packed, tmp_path, how):
    record = resolve(packed, "hands", "1.0.0")
    stored = record.shards["split/train"]
    there = dict(Index.from_bytes(packed._objects[index_key(stored.index)], stored))
    (first, a), (second, b) = [(s, p) for s, p in there.items() if p.key.startswith("packs/")][:2]
    if how == "elsewhere":
        there[first], there[second] = (replace(p, size=q.size) for p, q in ((b, a), (a, b)))
    elif how == "overlapping":
        there[first] = replace(a, offset=b.offset + 1)
    elif how == "unknown file":
        del there[first]
    elif how == "two":  # contents at one place: whoever believes it gets the bytes of the other
        same = next(s for s, p in there.items() if s != first and p.size == a.size)
        there[same] = a
    else:
        there[first] = replace(a, size=a.size - 1)
    index = Index.of(there).to_bytes()
    digest = hashlib.sha256(index).hexdigest()
    packed.put(index_key(digest), index)
    shards = {**record.shards, "split/train": replace(stored, index=digest)}
    body = replace(record, shards=shards).to_bytes()
    packed.put("datasets/hands/releases/1.0.0.json", body)
    with pytest.raises(IntegrityError):
        pull(packed, "hands", "1.0.0", tmp_path / "out")
    for path, body in read_tree(tmp_path / "out").items() if (tmp_path / "out").exists() else ():
        assert path.startswith(".publisher") or body in {*FILES.values(), *PICTURES.values()}


# ── hostile publishers ───────────────────────────────────────────────────────────────────────


def publish_lines(bucket: MemoryBucket, lines: bytes, **change: object) -> None:
    """A version whose digests all fit, but whose file list somebody wrote by hand."""
    digest, x = hashlib.sha256(lines).hexdigest(), hashlib.sha256(b"x").hexdigest()
    size = int(change.get("bytes", 1)) if lines.count(b"\n") == 1 else 1
    index = Index.of({x: Place(blob_key(x), 0, size, size)}).to_bytes()
    bucket.put(index_key(hashlib.sha256(index).hexdigest()), index)
    bucket.put(shard_key(digest), lines)
    where = {"index": hashlib.sha256(index).hexdigest()}
    facts = {"sha256": digest, "files": 1, "bytes": 1, **where, **change}
    template = Record.of(
        Manifest("hands", (Entry("a", 1, "0" * 64),)),
        "hands",
        Version(6, 6, 6),
        NOON,
        "evil",
        layout="packs",
        indexes={"common": "0" * 64},
    )
    plain = msgspec.to_builtins(template)
    root = hashlib.sha256(canonical_json({"common": digest})).hexdigest()
    plain |= {"shards": {"common": facts}, "root": f"sha256:{root}"}
    plain |= {"files_total": facts["files"], "bytes_total": facts["bytes"]}
    plain["seal"] = hashlib.sha256(canonical_json(plain)).hexdigest()
    body = msgspec.json.format(canonical_json(plain), indent=1) + b"\n"
    bucket.put("datasets/hands/releases/6.6.6.json", body)


def line(path: object, size: object = 1) -> bytes:
    sha256 = hashlib.sha256(b"x").hexdigest()
    return canonical_json({"path": path, "sha256": sha256, "size": size}) + b"\n"


def test_the_hand_written_version_is_fine_when_it_is_not_hostile(bucket, tmp_path):
    bucket.put(blob_key(hashlib.sha256(b"x").hexdigest()), b"x")
    publish_lines(bucket, line("innocent"))
    assert read_tree(pull(bucket, "hands", "6.6.6", tmp_path / "out").path) == {"innocent": b"x"}


@pytest.mark.parametrize(
    "lines",
    [
        line("../evil"),
        line("/tmp/publisher-evil"),
        line("a/../../evil"),
        line("..\\evil"),
        line("C:evil"),
        line(".publisher.json"),
        line("manifest.json"),
        line("a\x00b"),
        line("a") * 2,
        line("a") + line("a/b"),
        line("a") + line("A"),
        line(["a"]),
        line("a", -1),
        line("a", 10**30),
        line("a", "1"),
        line("provenance.json"),
        b"[" * 500_000,
        b'{"path":' * 100_000,
        b"\xff\xfe\n",
    ],
)
def test_hostile_file_lists_touch_nothing(bucket, tmp_path, lines):
    bucket.put(blob_key(hashlib.sha256(b"x").hexdigest()), b"x")
    publish_lines(bucket, lines, files=max(1, lines.count(b"\n")), bytes=lines.count(b"\n"))
    with pytest.raises(IntegrityError):
        pull(bucket, "hands", "6.6.6", tmp_path / "deep" / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t1", "t2"]
    assert not Path("/tmp/publisher-evil").exists()


@pytest.mark.parametrize("change", [{"files": 10**7}, {"bytes": 2**53}, {"files": 0}])
def test_counts_that_do_not_fit_the_list(bucket, tmp_path, change):
    publish_lines(bucket, line("a"), **change)
    with pytest.raises(IntegrityError):
        pull(bucket, "hands", "6.6.6", tmp_path / "out")


def test_a_file_list_longer_than_its_record_allows_is_not_read_to_its_end(bucket, tmp_path):
    publish_lines(bucket, line("a") + b" " * 10**6)
    with pytest.raises(IntegrityError, match="more than"):
        pull(bucket, "hands", "6.6.6", tmp_path / "out")


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 10**6, b"{" * 10**5, b" " * 2 * 2**20])
def test_hostile_records(bucket, body):
    bucket.put("datasets/hands/releases/6.6.6.json", body)
    with pytest.raises(IntegrityError, match=r"6\.6\.6\.json"):
        resolve(bucket, "hands", "6.6.6")


def test_a_giant_that_does_not_fit_the_disk_is_refused_before_it_starts(bucket, tmp_path):
    publish_lines(bucket, line("a", 2**50), bytes=2**50)
    with pytest.raises(UsageError, match="do not fit on the disk"):
        pull(bucket, "hands", "6.6.6", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ── the folder ───────────────────────────────────────────────────────────────────────────────


def test_a_folder_with_other_files_is_refused(bucket, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    for _ in range(2):
        with pytest.raises(UsageError, match=r"thesis\.tex"):
            pull(bucket, "hands", "1.0.0", out)
    assert os.listdir(out) == ["thesis.tex"]


def test_a_foreign_file_with_the_name_of_ours_is_not_overwritten(bucket, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("of another project")
    with pytest.raises(UsageError, match=r"README\.md"):
        pull(bucket, "hands", "1.0.0", out)
    assert (out / "README.md").read_text() == "of another project"


def test_a_file_of_ones_own_in_a_pulled_folder_stops_the_next_pull(bucket, tmp_path):
    pull(bucket, "hands", "1.0.0", tmp_path / "out")
    (tmp_path / "out/train/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"train/notes\.txt"):
        pull(bucket, "hands", "1.1.0", tmp_path / "out")
    assert (tmp_path / "out/train/notes.txt").read_text() == "mine"


def test_links_are_never_written_through(bucket, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "README.md").write_text("not ours")
    pull(bucket, "hands", "1.0.0", out)
    shutil.rmtree(out / "val")
    (out / "val").symlink_to(elsewhere)
    (out / "README.md").unlink()
    (out / "README.md").symlink_to(elsewhere / "README.md")
    with pytest.raises(UsageError):
        pull(bucket, "hands", "1.0.0", out)
    (out / "val").unlink()
    pull(bucket, "hands", "1.0.0", out)
    assert not (out / "README.md").is_symlink()
    assert read_tree(elsewhere) == {"README.md": b"not ours"}
    assert read_tree(out) == FILES


def test_parts_are_not_written_through_a_link_either(bucket, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (out / ".publisher.parts").symlink_to(elsewhere)
    with pytest.raises(UsageError):
        pull(bucket, "hands", "1.0.0", out)
    assert os.listdir(elsewhere) == []


def test_a_full_disk_leaves_no_wrong_file_and_can_go_on(bucket, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UsageError, match="the disk is full"):
            pull(bucket, "hands", "1.0.0", tmp_path / "out")
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "out").path) == FILES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.joinpath("README.md").unlink(), "missing: README.md"),
        (lambda p: p.joinpath("README.md").write_bytes(b"# Hamds\n"), "changed: README.md"),
        (lambda p: p.joinpath("x").write_bytes(b""), "not in the manifest: x"),
        (lambda p: p.joinpath("manifest.json").write_bytes(manifest(BETTER).to_bytes()), "not th"),
    ],
)
def test_verify_names_what_is_wrong_in_a_folder(bucket, tmp_path, change, said):
    release = pull(bucket, "hands", "1.0.0", tmp_path / "out")
    change(release.path)
    with pytest.raises(IntegrityError, match=said):
        release.verify()


def test_a_link_is_no_file_even_to_the_right_bytes(bucket, tmp_path):
    release = pull(bucket, "hands", "1.0.0", tmp_path / "out")
    (release.path / "README.md").rename(tmp_path / "elsewhere")
    (release.path / "README.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"changed: README\.md"):
        release.verify()
    pull(bucket, "hands", "1.0.0", release.path)
    assert not (release.path / "README.md").is_symlink()


def test_verify_works_on_a_release_that_was_never_pushed(tmp_path):
    assert verify_folder(make_tree(tmp_path / "tree")).root == manifest().root
    with pytest.raises(UsageError):
        verify_folder(tmp_path)
    (tmp_path / "tree/manifest.json").write_bytes(b"[]")
    with pytest.raises(FormatError):
        verify_folder(tmp_path / "tree")


def test_a_shallow_look_sees_missing_and_short_objects(bucket):
    verify_remote(bucket, "hands", "1.0.0")
    bucket.delete(stored("README.md"))
    with pytest.raises(IntegrityError) as caught:
        verify_remote(bucket, "hands", "1.0.0")
    assert list(caught.value.paths) == ["README.md"]


def test_a_split_is_pulled_though_another_is_damaged(bucket, tmp_path):
    entries = tuple(e for e in manifest().entries if e.split == "train")
    bucket.delete(shard_key(shard_of(entries).sha256))
    pull(bucket, "hands", "1.0.0", tmp_path / "out", splits=["val"]).verify()
    with pytest.raises(PublisherError):
        pull(bucket, "hands", "1.0.0", tmp_path / "all")


# ── threads ──────────────────────────────────────────────────────────────────────────────────


def test_each_keeps_the_order_and_counts():
    seen = []
    assert each(lambda n: n * n, range(100), lambda *at: seen.append(at)) == [
        n * n for n in range(100)
    ]
    assert seen == [(n + 1, 100) for n in range(100)]
    assert each(lambda n: n, []) == []


def test_each_ends_at_the_first_error():
    done = []

    def work(n: int) -> None:
        if n == 3:
            raise ValueError(n)
        done.append(n)

    with pytest.raises(ValueError, match="3"):
        each(work, range(10_000))
    assert len(done) < 10_000


def test_where_a_share_makes_them_wait_many_threads_read_small_files(tmp_path, monkeypatch):
    tree, now, most = make_tree(tmp_path / "tree"), [], [0]

    def slow(*file: object) -> bool:
        now.append(file)
        most[0] = max(most[0], len(now))
        time.sleep(0.01)
        now.remove(file)
        return has_digest(*file)

    monkeypatch.setattr(trees, "has_digest", slow)
    monkeypatch.setattr(trees, "_HANDFUL", 1)
    entries = [*manifest().entries] * 8
    assert all(trees.are_files_of(tree, entries))
    assert most[0] > 4


@pytest.mark.parametrize("handful", [1, 2**14, 2**20])
def test_whoever_hashes_files_says_of_each_in_its_place_whether_it_is_sound(
    tmp_path, monkeypatch, handful
):
    monkeypatch.setattr(trees, "_HANDFUL", handful)
    tree, entries = make_tree(tmp_path / "tree"), manifest().entries
    (tree / entries[1].path).write_bytes(b"other")
    (tree / entries[-1].path).unlink()
    sound = [True] * len(entries)
    sound[1] = sound[-1] = False
    assert list(trees.are_files_of(tree, entries)) == sound
    assert list(trees.are_files_of(tree, [])) == []


def test_a_disk_that_takes_only_a_part_of_a_block_is_asked_to_take_the_rest(
    bucket, tmp_path, monkeypatch
):
    """As systems do when it runs full: the next write is the one that fails."""
    opened, written = Path.open, os.write

    class Small(io.FileIO):
        def write(self, block):
            return super().write(bytes(block[:5]))

    def small(path, mode="r", buffering=-1, **options):
        if buffering == 0:
            return Small(path, mode.replace("b", ""))
        return opened(path, mode, buffering, **options)

    monkeypatch.setattr(Path, "open", small)
    monkeypatch.setattr(os, "write", lambda file, block: written(file, bytes(block[:5])))
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "out").path) == FILES
