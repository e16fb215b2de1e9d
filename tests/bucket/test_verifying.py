"""Every object of a version is damaged in every way: it is named, and mended. On every bucket."""

from __future__ import annotations

import random
from itertools import cycle, islice

import pytest

from publisher.bucket.consume import pull
from publisher.bucket.maintain import mark
from publisher.bucket.publish import push
from publisher.bucket.verifying import examine
from publisher.storage import MemoryBucket
from publisher.versions.version import Version
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
    """In memory all ways; elsewhere two an object, in turn, and all of them at night."""
    all_of_them = isinstance(opened(), MemoryBucket)
    damage_all(opened(), tmp_path, layout, len(WAYS) if all_of_them else 2)


@pytest.mark.nightly
def test_every_way_on_every_bucket(opened, tmp_path, layout):
    damage_all(opened(), tmp_path, layout, len(WAYS))


def damage_all(bucket, tmp_path, layout, count):
    objects = published(bucket, tmp_path, layout)
    mirror = copy_of(objects)
    whole = examine(bucket, "hands", "1.0.0", deep=True)
    assert (whole.is_sound, whole.damages, whole.objects) == (True, (), len(objects))
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
    bucket = opened()
    objects = published(bucket, tmp_path, layout)
    mirror, keys = copy_of(objects), sorted(objects)
    for key, other in zip(keys, [*keys[1:], keys[0]], strict=True):
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
