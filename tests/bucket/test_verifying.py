"""Every object of a version is damaged in every way: it is named, and mended. On every bucket."""

from __future__ import annotations

import random
import warnings
from itertools import cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.bucket.consume import pull
from publisher.bucket.maintain import mark
from publisher.bucket.publish import push
from publisher.bucket.verifying import examine, verify_remote
from publisher.errors import IntegrityError, StorageError, VersionConflict, VersionNotFound
from publisher.storage import MemoryBucket, S3Bucket
from publisher.versions.version import Version
from tests.faults import Fails
from tests.trees import FILES, make_tree, read_tree

NOON = "2026-01-01T12:00:00+00:00"
LAYOUTS = ["plain", "packs"]
RECORD = "datasets/hands/releases/1.0.0.json"
LATEST = "datasets/hands/channels/latest.json"
STATUS = "datasets/hands/status/1.0.0.json"
MORE = {
    "train/images/copy.jpg": FILES["train/images/000001.jpg"],
    "train/images/large.jpg": random.Random(1).randbytes(2**20 + 5),  # a blob
    "val/images/middling.jpg": random.Random(2).randbytes(2**16 + 5),  # no checksum in a folder
    "val/images/small.jpg": b"small",
    "val/empty": b"",
}
POINTERS = {LATEST, STATUS}  # nothing says that they should be there, but a mirror


def published(bucket, tmp_path, layout="packs"):
    """hands 1.0.0, which is deprecated; gives its objects."""
    tree = make_tree(tmp_path / f"tree {layout}", MORE)
    push(bucket, tree, "hands", "1.0.0", created=NOON, layout=layout)
    mark(bucket, "hands", Version.parse("1.0.0"), "deprecated", "see errata.md", at=NOON)
    return objects_of(bucket)


def objects_of(bucket):
    return {o.key: bucket.get(o.key) for o in bucket.list() if o.key != "publisher.json"}


def put(bucket, key, body):
    if body is None:
        bucket.delete(key)
    else:
        bucket.put(key, body)


WAYS = {
    "first byte": lambda body: flipped(body, 0),
    "middle byte": lambda body: flipped(body, len(body) // 2),
    "last byte": lambda body: flipped(body, -1),
    "truncated": lambda body: body[:-1],
    "halved": lambda body: body[: len(body) // 2],
    "emptied": lambda body: b"",
    "extended": lambda body: body + b"\0",
    "deleted": lambda body: None,
}


def flipped(body: bytes, at: int) -> bytes:
    at %= len(body)
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def named(report) -> set[str]:
    return {d.key for d in report.damages}


def is_read(key: str) -> bool:
    """Is it read as a whole, however shallow the look?"""
    lists = ("manifests/", "index/", RECORD, LATEST, STATUS)
    return key.startswith(lists) or key.endswith("get.py")


def seen_at_a_glance(bucket, key, good: bytes, bad: bytes | None) -> bool:
    """A shallow look sees sizes, and checksums where the bucket keeps them."""
    if bad is None or len(bad) != len(good) or is_read(key):
        return True
    return bucket.head(key).sha256 is not None


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


def copy_of(objects):
    mirror = MemoryBucket()
    for key, body in objects.items():
        mirror.put(key, body)
    return mirror


def test_whatever_happens_to_any_object_is_named_and_mended(opened, tmp_path, layout):
    """In memory all ways; elsewhere one an object, in turn, and all of them at night."""
    all_of_them = isinstance(opened(), MemoryBucket)
    damage_all(opened(), tmp_path, layout, len(WAYS) if all_of_them else 1)


@pytest.mark.nightly
def test_every_way_on_every_bucket(opened, tmp_path, layout):
    damage_all(opened(), tmp_path, layout, len(WAYS))


def damage_all(bucket, tmp_path, layout, count):
    objects = published(bucket, tmp_path, layout)
    mirror = copy_of(objects)
    whole = examine(bucket, "hands", "1.0.0", deep=True)
    looked_for = len(objects) + 1  # signatures, which nobody has made here
    assert (whole.is_sound, whole.damages, whole.objects) == (True, (), looked_for)
    ways = cycle(WAYS.items())
    for key, good in objects.items():
        for way, damage in islice(ways, count):
            bad = damage(good) if good else {"deleted": None}.get(way, b"!")
            put(bucket, key, bad)
            glance = examine(bucket, "hands", "1.0.0")
            is_seen = seen_at_a_glance(bucket, key, good, bad)
            if bad is None and key in POINTERS:
                is_seen = False  # nothing else says that it should be there
            assert named(glance) == ({key} if is_seen else set()), (key, way)
            assert glance.is_sound != is_seen
            found = examine(bucket, "hands", "1.0.0", deep=True, mirror=mirror)
            assert (named(found), found.is_sound) == ({key}, True), (key, way)
            assert found.damages[0].state == ("lost" if bad is None else "damaged")
            assert bucket.get(key) == good
    assert objects_of(bucket) == objects
    with pytest.warns(match="deprecated"):
        got = pull(bucket, "hands", "latest", tmp_path / "out").path
    assert read_tree(got) == {**FILES, **MORE}


def test_whichever_objects_are_swapped_both_are_named_and_mended(opened, tmp_path, layout):
    is_remote = isinstance(opened(), S3Bucket)
    swap_all(opened(), tmp_path, layout, step=5 if is_remote else 1)


@pytest.mark.nightly
def test_every_swap_on_every_bucket(opened, tmp_path, layout):
    swap_all(opened(), tmp_path, layout, step=1)


def swap_all(bucket, tmp_path, layout, step):
    objects = published(bucket, tmp_path, layout)
    mirror, keys = copy_of(objects), sorted(objects)
    for key, other in list(zip(keys, [*keys[1:], keys[0]], strict=True))[::step]:
        if objects[key] == objects[other]:
            continue
        put(bucket, key, objects[other])
        put(bucket, other, objects[key])
        alone = examine(bucket, "hands", "1.0.0", deep=True)
        assert named(alone) <= {key, other}
        assert named(alone) == {key, other} or alone.unseen
        found = examine(bucket, "hands", "1.0.0", deep=True, mirror=mirror)
        assert (named(found), found.is_sound) == ({key, other}, True)
    assert objects_of(bucket) == objects


# ── mending ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def objects(tmp_path, layout):
    return published(MemoryBucket(), tmp_path, layout)


def check(bucket, mirror=None, version="1.0.0"):
    return examine(bucket, "hands", version, deep=True, mirror=mirror)


def test_what_is_mended_is_told_and_what_the_mirror_has_not_stays_named(objects):
    bucket, mirror = copy_of(objects), copy_of(objects)
    one, two = [k for k in objects if k.startswith("manifests/")][:2]
    put(bucket, one, b"damaged")
    put(bucket, two, None)
    put(mirror, two, b"damaged too")
    found = check(bucket, mirror)
    assert {(d.key, d.state, d.mended) for d in found.damages if d.kind == "manifest"} == {
        (one, "damaged", True),
        (two, "lost", False),
    }
    assert not found.is_sound
    assert bucket.get(one) == objects[one]
    with pytest.raises(IntegrityError, match=f"lost manifest {two}"):
        verify_remote(bucket, "hands", "1.0.0")


def test_without_a_mirror_nothing_is_changed(objects):
    bucket = copy_of(objects)
    put(bucket, RECORD, objects[RECORD][:-1])
    before = dict(bucket._objects)
    assert named(check(bucket)) == {RECORD}
    assert bucket._objects == before


@pytest.mark.parametrize("version", ["1.0.0", "latest", "^1"])
@pytest.mark.parametrize("key", [RECORD, LATEST])
@pytest.mark.parametrize("way", ["deleted", "middle byte"])
def test_the_record_and_the_channel_come_back_however_the_version_is_called(
    objects, version, key, way
):
    bucket, mirror = copy_of(objects), copy_of(objects)
    put(bucket, key, WAYS[way](objects[key]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check(bucket, mirror, version)
    assert (named(found), found.is_sound) == ({key}, True)
    assert objects_of(bucket) == objects


def test_a_lost_record_is_told_from_a_version_that_never_was(objects):
    bucket = copy_of(objects)
    bucket.delete(RECORD)
    assert [str(d) for d in check(bucket).damages] == [f"lost record {RECORD}"]
    with pytest.raises(VersionNotFound, match=r"hands@1\.1\.0"):
        check(bucket, version="1.1.0")


def test_a_record_comes_back_only_when_all_that_it_names_is_there(objects):
    bucket, mirror = copy_of(objects), copy_of(objects)
    victim = next(k for k in objects if k.startswith("index/"))
    for gone in (RECORD, victim):
        bucket.delete(gone)
    mirror.delete(victim)
    found = check(bucket, mirror)
    assert {RECORD, victim} <= {d.key for d in found.left}
    assert RECORD not in bucket._objects


def test_another_content_is_no_mirror(objects, tmp_path):
    stranger = MemoryBucket()
    tree = make_tree(tmp_path / "other", {"README.md": b"other"})
    push(stranger, tree, "hands", "1.0.0", created=NOON)
    for change in ({}, {RECORD: None}, {RECORD: flipped(objects[RECORD], 40)}):
        bucket = copy_of(objects)
        for key, body in change.items():
            put(bucket, key, body)
        before = dict(bucket._objects)
        with pytest.raises(VersionConflict, match=r"other content as hands 1\.0\.0"):
            check(bucket, stranger)
        assert bucket._objects == before


def test_noise_on_the_way_is_no_damage(objects):
    heard = set()

    class Noisy(MemoryBucket):
        def read(self, key, **options):
            body = b"".join(super().read(key, **options))
            if key not in heard and body:
                heard.add(key)
                body = flipped(body, 0)
            return iter([body])

        def get(self, key, **options):
            body = super().get(key, **options)
            if key not in heard and body:
                heard.add(key)
                return flipped(body, 0)
            return body

    bucket = Noisy()
    bucket._objects = dict(objects)
    assert check(bucket).is_sound


@pytest.mark.parametrize("applied", [False, True], ids=["lost", "answer lost"])
def test_a_repair_cut_short_anywhere_goes_on(objects, monkeypatch, applied):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)
    ruined = {k: b for n, (k, b) in enumerate(sorted(objects.items())) if n % 3}
    ruined |= {k: flipped(b, -1) for n, (k, b) in enumerate(sorted(ruined.items())) if b and n % 2}
    ruined.pop(RECORD, None)
    whole = Fails(ruined, applied=applied)
    assert check(whole, copy_of(objects)).is_sound
    total = 10**9 - whole.left
    for n in range(total):
        bucket = Fails(ruined, applied=applied)
        bucket.left = n
        try:
            check(bucket, copy_of(objects))
        except StorageError:
            bucket.left = 10**9
            if RECORD in bucket._objects:  # what the record needs is there before it
                assert {d.kind for d in check(bucket).left} <= {"document", "channel"}
        assert check(bucket, copy_of(objects)).is_sound
        assert objects_of(bucket) == objects


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_set_of_damages_is_named_and_mended(tmp_path_factory, data):
    layout = data.draw(st.sampled_from(LAYOUTS))
    objects = published(MemoryBucket(), tmp_path_factory.mktemp("t"), layout)
    keys = data.draw(st.sets(st.sampled_from(sorted(objects)), min_size=1, max_size=6))
    bucket, changed = copy_of(objects), set()
    for key in sorted(keys):
        bad = WAYS[data.draw(st.sampled_from(sorted(WAYS)))](objects[key] or b"!")
        put(bucket, key, bad)
        changed |= {key} if bad != objects[key] else set()
    try:
        found = check(bucket, copy_of(objects))
    except VersionConflict:  # nothing is left that speaks for the mirror, but something against
        assert {RECORD, LATEST, "datasets/hands/v1.0.0/SHA256SUMS"} <= changed
        return
    assert named(found) == changed
    assert found.is_sound
    assert objects_of(bucket) == objects
