"""A version in another bucket: the same keys, the same bytes, or nothing. On every bucket."""

from __future__ import annotations

import errno
import hashlib
import random
import threading
import tracemalloc
import warnings

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.bucket.catalog import channels, find_status, resolve, versions
from publisher.bucket.consume import pull
from publisher.bucket.maintain import mark, move_channel
from publisher.bucket.mirroring import mirror
from publisher.bucket.publish import push
from publisher.bucket.verifying import examine
from publisher.errors import StorageError, UsageError, VersionConflict
from publisher.storage import LocalBucket, MemoryBucket
from publisher.versions.manifest import ChannelState
from publisher.versions.packs import Index, Place, index_key
from publisher.versions.version import Channel, Version, parse_selector
from tests.faults import Fails
from tests.trees import FILES, entry, make_tree, read_tree

NOON = "2026-01-01T12:00:00+00:00"
LATEST = "datasets/hands/channels/latest.json"
POINTERS = ("datasets/hands/channels/", "datasets/hands/status/")
STABLE = Channel("stable")
NEXT = {
    "val/images/000003.jpg": b"a better picture",
    "train/images/copy.jpg": FILES["train/images/000001.jpg"],
    "train/images/large.jpg": bytes(range(256)) * 2**12 + b"!",
}


def filled(bucket, tmp_path, layouts=("plain", "packs")):
    """1.0.0, which is yanked, and 1.1.0, which holds some of its files where 1.0.0 has them."""
    trees = [make_tree(tmp_path / "1.0.0"), make_tree(tmp_path / "1.1.0", NEXT)]
    for number, tree, layout in zip(("1.0.0", "1.1.0"), trees, layouts, strict=True):
        push(bucket, tree, "hands", number, created=NOON, layout=layout)
    move_channel(bucket, "hands", STABLE, "1.0.0")
    mark(bucket, "hands", Version.parse("1.0.0"), "yanked", "mixed up", at=NOON)
    return bucket


def objects_of(bucket):
    return {o.key: bucket.get(o.key) for o in bucket.list() if o.key != "publisher.json"}


@pytest.fixture
def source(tmp_path):
    return filled(MemoryBucket(), tmp_path)


LAYOUTS = [("plain", "packs"), ("packs", "packs"), ("packs", "plain"), ("plain", "plain")]


@pytest.mark.parametrize("layouts", LAYOUTS, ids="-then-".join)
def test_a_mirror_has_every_object_of_all_versions(tmp_path, layouts):
    source, target = filled(MemoryBucket(), tmp_path, layouts), MemoryBucket()
    done = mirror(source, target, "hands")
    assert [(c.version, c.status) for c in done.versions] == [
        ("1.0.0", "mirrored"),
        ("1.1.0", "mirrored"),
    ]
    assert objects_of(target) == objects_of(source)
    assert done.left == ()


@pytest.mark.parametrize("way", ["to", "from"])
def test_any_bucket_is_mirrored_to_and_from(opened, tmp_path, way):
    elsewhere = LocalBucket(tmp_path / "elsewhere")
    source, target = (elsewhere, opened()) if way == "to" else (opened(), elsewhere)
    filled(source, tmp_path)
    mirror(source, target, "hands")
    assert objects_of(target) == objects_of(source)
    before = objects_of(target)
    again = mirror(source, target, "hands")
    assert {c.status for c in again.versions} == {"already there"}
    assert (again.objects, objects_of(target)) == (0, before)
    for number, changes in (("1.0.0", {}), ("1.1.0", NEXT)):
        assert examine(target, "hands", number, deep=True).is_sound
        with warnings.catch_warnings(record=True):
            got = pull(target, "hands", number, tmp_path / f"out {number}").path
        assert read_tree(got) == {**FILES, **changes}


class Counts(MemoryBucket):
    """Counts requests."""

    def __init__(self):
        super().__init__()
        self.asked = dict.fromkeys(("get", "read", "head", "put", "list", "delete"), 0)
        self._count = threading.Lock()

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in ("get", "read", "head", "put", "list", "delete"):
            with self._count:
                self.asked[name] += 1
        return found


def test_a_second_time_there_is_nothing_to_do_in_few_requests(tmp_path):
    files = {f"train/images/{n:04}.jpg": b"%d" % n for n in range(500)}
    source, target = Counts(), Counts()
    tree = make_tree(tmp_path / "tree", files)
    push(source, tree, "hands", "1.0.0", created=NOON, layout="plain")
    mirror(source, target, "hands")
    source.asked = dict.fromkeys(source.asked, 0)
    target.asked = dict.fromkeys(target.asked, 0)
    again = mirror(source, target, "hands")
    assert again.objects == 0
    assert target.asked["put"] == target.asked["delete"] == 1  # the lease
    assert source.asked["put"] == 0
    assert sum(source.asked.values()) <= 20
    assert sum(target.asked.values()) <= 40  # not one for each of 500 files


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(source):
    target = MemoryBucket()
    planned = mirror(source, target, "hands", dry_run=True)
    assert [c.status for c in planned.versions] == ["planned", "planned"]
    assert objects_of(target) == target._objects == {}
    done = mirror(source, target, "hands")
    assert (planned.objects, planned.size) == (done.objects, done.size)
    assert [m.version for m in planned.channels] == [m.version for m in done.channels]
    copied = {k: b for k, b in objects_of(source).items() if not k.startswith(POINTERS)}
    assert done.size == sum(map(len, copied.values()))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("1.1.0", ["1.1.0"]), ("^1.1", ["1.1.0"]), ("^1", ["1.0.0", "1.1.0"]), ("latest", ["1.1.0"])],
)
def test_a_reference_chooses_versions(source, tmp_path, selector, expected):
    target = MemoryBucket()
    mirror(source, target, "hands", parse_selector(selector))
    assert [str(v) for v in versions(target, "hands")] == expected
    assert set(channels(target, "hands")) == (
        {"latest", "stable"} if len(expected) == 2 else {"latest"}
    )
    assert read_tree(pull(target, "hands", "1.1.0", tmp_path / "out").path) == {**FILES, **NEXT}
    assert examine(target, "hands", "1.1.0", deep=True).is_sound
    mirror(source, target, "hands")
    assert objects_of(target) == objects_of(source)


# ── what may not happen ──────────────────────────────────────────────────────────────────────


def test_other_content_is_never_overwritten_and_nothing_is_sent(source, tmp_path):
    target = MemoryBucket()
    other = make_tree(tmp_path / "other", {"README.md": b"other"})
    push(target, other, "hands", "1.1.0", created=NOON)
    before = dict(target._objects)
    with pytest.raises(VersionConflict, match=r"other content as hands 1\.1\.0") as caught:
        mirror(source, target, "hands")
    assert caught.value.exit_code == 6
    assert target._objects == before


def test_a_folder_that_another_push_is_filling_is_left_alone(source):
    target = MemoryBucket()
    sums = "datasets/hands/v1.0.0/SHA256SUMS"
    target.put(sums, b"another tree")
    with pytest.raises(VersionConflict):
        mirror(source, target, "hands")
    assert target.get(sums) == b"another tree"
    assert versions(target, "hands") == ()
    assert not any("v1.0.0/README" in k for k in target._objects)


def test_a_channel_of_the_target_never_goes_back(source, tmp_path):
    target = MemoryBucket()
    mirror(source, target, "hands")
    newer = make_tree(tmp_path / "newer", {"README.md": b"newer"})
    push(target, newer, "hands", "2.0.0", created=NOON)
    mirror(source, target, "hands")
    assert str(channels(target, "hands")["latest"]) == "2.0.0"
    push(source, newer, "hands", "2.0.0", created=NOON)
    push(source, make_tree(tmp_path / "3", {"README.md": b"3"}), "hands", "3.0.0", created=NOON)
    moves = ChannelState.from_bytes(target.get(LATEST), LATEST).moves
    mirror(source, target, "hands")
    state = ChannelState.from_bytes(target.get(LATEST), LATEST)
    assert (state.version, state.moves > moves) == ("3.0.0", True)


def test_what_the_target_says_of_a_version_stays_if_it_is_newer(source):
    target = MemoryBucket()
    mirror(source, target, "hands")
    version = Version.parse("1.0.0")
    mark(target, "hands", version, "active", "checked", at="2026-02-01T00:00:00+00:00")
    mirror(source, target, "hands")
    assert find_status(target, "hands", version).state == "active"
    mark(source, "hands", version, "yanked", "really", at="2026-03-01T00:00:00+00:00")
    mirror(source, target, "hands")
    assert find_status(target, "hands", version).reason == "really"


def test_the_same_content_that_was_published_there_stays_as_it_lies(source, tmp_path):
    target = MemoryBucket()
    later = "2027-01-01T00:00:00+00:00"
    push(target, tmp_path / "1.1.0", "hands", "1.1.0", created=later, layout="plain")
    record = resolve(target, "hands", "1.1.0")
    done = mirror(source, target, "hands")
    assert [c.status for c in done.versions] == ["mirrored", "already there"]
    assert resolve(target, "hands", "1.1.0") == record
    for number in ("1.0.0", "1.1.0"):
        assert examine(target, "hands", number, deep=True).is_sound


def test_a_bucket_is_no_mirror_of_itself(tmp_path):
    bucket = LocalBucket(tmp_path / "b")
    with pytest.raises(UsageError, match="same bucket"):
        mirror(bucket, bucket, "hands")


ELSEWHERE = "datasets/feet/releases/9.9.9.json"
ONE = "datasets/hands/releases/1.0.0.json"


def hostile(tmp_path, key):
    """A version whose index says that its README lies where other things lie."""
    source, tree = MemoryBucket(), make_tree(tmp_path / "hostile")
    record = push(source, tree, "hands", "1.0.0", created=NOON, layout="packs").record
    body = FILES["README.md"]
    place = Place(key, 0, len(body), len(body))
    source.put(key, body)
    return pointed(source, record, {"common": Index.of({entry("x", body).sha256: place})})


def pointed(source, record, indexes):
    """Let a record have other indexes for some shards."""
    shards = dict(record.shards)
    for name, index in indexes.items():
        digest = hashlib.sha256(index.to_bytes()).hexdigest()
        source.put(index_key(digest), index.to_bytes())
        shards[name] = msgspec.structs.replace(shards[name], index=digest)
    source.put(ONE, msgspec.structs.replace(record, shards=shards).to_bytes())
    return source


@pytest.mark.parametrize(
    "key", [ELSEWHERE, LATEST, "x.json", "datasets/hands/v9.0.0/a", "datasets/hands/v1.0.0/b"]
)
def test_a_hostile_index_writes_nowhere_else(tmp_path, key):
    source, target = hostile(tmp_path, key), MemoryBucket()
    done = mirror(source, target, "hands")
    named = key if "v9.0.0" not in key else "datasets/hands/releases/9.0.0.json"  # whose folder
    assert named in {d.key for d in done.left}
    assert [c.status for c in done.versions] == ["damaged"]
    assert not target._objects.keys() & {key, ONE}
    bucket = MemoryBucket()
    bucket._objects = dict(source._objects)
    bucket.put(key, b"what was there")
    found = examine(bucket, "hands", "1.0.0", deep=True, mirror=source)
    assert key in {d.key for d in found.left}
    assert bucket.get(key) == b"what was there"


def test_an_index_that_does_not_know_a_file_is_named(tmp_path):
    source = hostile(tmp_path, "x.json")
    empty = Index.of({})
    pointed(source, resolve(source, "hands", "1.0.0"), {"common": empty})
    key = index_key(hashlib.sha256(empty.to_bytes()).hexdigest())
    assert {d.key for d in mirror(source, MemoryBucket(), "hands").left} == {key}
    assert {d.key for d in examine(source, "hands", "1.0.0").left} == {key}


# ── damage in the source ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layouts", LAYOUTS[:2] + LAYOUTS[3:], ids="-then-".join)
def test_what_the_source_has_damaged_is_named_and_not_copied_as_good(tmp_path, layouts):
    source = filled(MemoryBucket(), tmp_path, layouts)
    good = objects_of(source)
    derived = (
        "/urls.txt",
        "/get.py",
        "/SHA256SUMS",
        "/manifest.json",
        "/v1.0.0/provenance.json",
        "/v1.1.0/provenance.json",
    )
    for key in sorted(k for k in good if not k.endswith(derived)):
        for bad in (None, good[key][:-1] + bytes([good[key][-1] ^ 1])):
            target = MemoryBucket()
            if bad is None:
                source.delete(key)
                if "/channels/" in key or "/status/" in key or "/releases/" in key:
                    source.put(key, good[key])
                    continue  # nothing says that it should be there
            else:
                source.put(key, bad)
            done = mirror(source, target, "hands")
            assert {d.key for d in done.left} == {key}
            broken = {c.version for c in done.versions if c.status == "damaged"}
            assert broken or "/channels/" in key
            assert {str(v) for v in versions(target, "hands")} == {"1.0.0", "1.1.0"} - broken
            for number in versions(target, "hands"):
                assert examine(target, "hands", number, deep=True).is_sound
            for k, body in objects_of(target).items():
                assert body == good[k]
            source.put(key, good[key])
            assert mirror(source, target, "hands").left == ()
            assert objects_of(target) == good


# ── cut short ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("applied", [False, True], ids=["lost", "answer lost"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_mirror_cut_short_anywhere_shows_nothing_broken_and_goes_on(
    source, monkeypatch, side, applied
):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)
    good = objects_of(source)
    first, second = Fails(good, applied=applied), Fails(applied=applied)
    mirror(first, second, "hands")
    total = 10**9 - {"source": first, "target": second}[side].left
    assert total > 50
    for n in range(total):
        first, second = Fails(good, applied=applied), Fails(applied=applied)
        failing = {"source": first, "target": second}[side]
        failing.left = n
        with pytest.raises(StorageError, match="went away"):
            mirror(first, second, "hands")
        failing.left = 10**9
        for number in versions(second, "hands"):
            report = examine(second, "hands", number)
            assert {d.kind for d in report.left} <= {"document"}  # which come after the record
            status = find_status(second, "hands", number)
            assert (status is not None) == (str(number) == "1.0.0")  # never seen as not yanked
        mirror(first, second, "hands")
        assert objects_of(second) == good


@settings(max_examples=10, deadline=None)
@given(
    files=st.dictionaries(
        st.sampled_from([f"train/images/{c}.jpg" for c in "abcdef"] + ["README.md", "val/x.json"]),
        st.binary(max_size=20),
        max_size=4,
    ),
    layouts=st.lists(st.sampled_from(["plain", "packs"]), min_size=1, max_size=3),
    lost=st.sets(st.integers(0, 60), max_size=8),
)
def test_any_history_is_mirrored_and_what_the_target_loses_comes_back(
    tmp_path_factory, files, layouts, lost
):
    folder, source, target = tmp_path_factory.mktemp("h"), MemoryBucket(), MemoryBucket()
    for n, layout in enumerate(layouts):
        part = dict(list(files.items())[: len(files) * (n + 1) // len(layouts)])
        tree = make_tree(folder / str(n), {**part, "LICENSE": b"%d" % n})
        push(source, tree, "hands", f"1.{n}.0", created=NOON, layout=layout)
    mirror(source, target, "hands")
    assert objects_of(target) == objects_of(source)
    keys = sorted(objects_of(target))
    for n in lost:
        target.delete(keys[n % len(keys)])
    mirror(source, target, "hands")
    assert objects_of(target) == objects_of(source)


# ── what it costs ────────────────────────────────────────────────────────────────────────────


def test_memory_stays_small_however_large_a_file_is(tmp_path):
    body = random.Random(3).randbytes(2**25)
    source, target = LocalBucket(tmp_path / "a"), LocalBucket(tmp_path / "b")
    tree = make_tree(tmp_path / "tree", {f"train/images/{n}.bin": body[n:] for n in range(3)})
    push(source, tree, "hands", "1.0.0", created=NOON)
    del body
    tracemalloc.start()
    try:
        mirror(source, target, "hands")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24  # half of one of the three files
    assert examine(target, "hands", "1.0.0", deep=True).is_sound


def test_a_full_disk_says_so_and_nothing_is_published(source, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = MemoryBucket()
    monkeypatch.setattr("publisher.bucket.objects.Path.open", full)
    with pytest.raises(UsageError, match="No space left on device"):
        mirror(source, target, "hands", parse_selector("1.1.0"))
    assert versions(target, "hands") == ()
