"""Versions wherever they are: compared, and numbered."""

from __future__ import annotations

import shutil

import pytest

from publisher.bucket import comparing
from publisher.bucket.comparing import compare, propose
from publisher.bucket.consume import pull
from publisher.bucket.publish import push
from publisher.bucket.trees import read_manifest
from publisher.errors import IntegrityError, UsageError
from publisher.storage import MemoryBucket
from tests.makers import picture
from tests.releases import Watched, built, dataset, edited, opener

NOON = "2026-01-01T12:00:00+00:00"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparing")
    dataset(folder / "dataset")
    built(folder / "dataset", folder / "release")
    return folder


@pytest.fixture
def home(once, tmp_path):
    """A working dataset and its release."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def shift(row, by=2):
    """Move the hand of an image to the right."""
    ring = row["segments"][0]["segmentation"][0]
    ring[0::2] = [x + by for x in ring[0::2]]


def test_a_dataset_its_release_and_its_published_version_are_the_same(home):
    bucket = MemoryBucket()
    push(bucket, home / "release", "hands", "1.0.0", created=NOON)
    subjects = [str(home / "dataset"), str(home / "release"), "s3://bucket/hands@1.0.0"]
    for before in subjects:
        for after in subjects:
            found = compare(before, after, open_=opener(bucket))
            assert found.same, (before, after, found.to_json())
            assert found.summary.pictures


def test_what_changed_is_told_by_image(home):
    def edit(rows):
        shift(rows[0])
        rows[1]["segments"].pop()
        rows[2]["split"] = "train"
        rows[3]["id"] = 99

    edited(home / "dataset", edit)
    built(home / "dataset", home / "next")
    for before, after in [("release", "next"), ("release", "dataset")]:
        found = compare(str(home / before), str(home / after))
        assert [(c["file_name"], c["kind"]) for c in found.changes] == [
            ("a.jpg", "changed"),
            ("b.jpg", "changed"),
            ("c.jpg", "changed"),
        ]
        a, b, c = found.changes
        assert a["edits"][0]["iou"] == pytest.approx(6 / 10)
        assert b["removed"] == {"table": 1}
        assert (c["split"], c["moved_from"]) == ("train", "val")
        assert found.summary.counts["ids"] == 1
        assert found.verdict.level == "major"


def test_of_a_bucket_only_annotations_are_fetched_and_each_content_once(home):
    bucket = Watched()
    push(bucket, home / "release", "hands", "1.0.0", created=NOON)
    edited(home / "dataset", lambda rows: shift(rows[0]))
    push(bucket, built(home / "dataset", home / "next"), "hands", "2.0.0", created=NOON)
    bucket.seen.clear()
    found = compare("s3://bucket/hands@1.0.0", "s3://bucket/hands@2.0.0", open_=opener(bucket))
    assert found.summary.counts["masks"] == 1
    files = {
        (home / tree / e.path).read_bytes(): e.path
        for tree in ("release", "next")
        for e in read_manifest(home / tree).entries
    }
    read = [files[body] for k in bucket.seen if (body := bucket._objects.get(k)) in files]
    assert sorted(read) == [
        "annotations/instances_holdout.json",
        "annotations/instances_train.json",
        "annotations/instances_train.json",
        "annotations/instances_val.json",
    ]


def test_versions_in_every_kind_of_bucket_are_compared_and_numbered(home, opened):
    push(opened(), home / "release", "hands", "1.0.0", created=NOON)
    edited(home / "dataset", lambda rows: shift(rows[0]))
    tree = built(home / "dataset", home / "next")
    assert str(propose(opened(), "hands", tree).version) == "2.0.0"
    push(opened(), tree, "hands", "2.0.0", created=NOON)
    found = compare("s3://bucket/hands@^1", "s3://bucket/hands", open_=lambda _: opened())
    assert (found.before, found.after, found.title) == ("hands 1.0.0", "hands 2.0.0", "2.0.0")
    assert found.verdict.reasons == ("1 mask changed, mean IoU 0.600",)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b.replace(b"1", b"2", 1), None])
def test_damaged_annotations_are_never_compared(home, damage):
    bucket = MemoryBucket()
    push(bucket, home / "release", "hands", "1.0.0", created=NOON)
    good = (home / "release" / "annotations" / "instances_train.json").read_bytes()
    key = next(k for k, body in bucket._objects.items() if body == good)
    del bucket._objects[key]
    if damage is not None:
        bucket._objects[key] = damage(good)
    with pytest.raises(IntegrityError, match=r"instances_train\.json"):
        compare("s3://bucket/hands", str(home / "release"), open_=opener(bucket))


def test_pictures_are_told_apart_by_their_bytes(home):
    def rename(rows):
        rows[3]["file_name"] = "z.jpg"

    images = home / "dataset" / "images"
    (images / "a.jpg").write_bytes(picture(seed=77))
    (images / "d.jpg").rename(images / "z.jpg")
    edited(home / "dataset", rename)
    for after in (home / "dataset", built(home / "dataset", home / "next")):
        found = compare(str(home / "release"), str(after))
        assert [(c["file_name"], c.get("was"), c.get("picture")) for c in found.changes] == [
            ("a.jpg", None, True),
            ("z.jpg", "d.jpg", None),
        ]


def test_metadata_that_a_release_never_has_makes_no_difference(home):
    path = home / "dataset" / "images" / "a.jpg"
    body = path.read_bytes()
    path.write_bytes(body[:2] + b"\xff\xfe\x00\x09comment" + body[2:])
    assert compare(str(home / "release"), str(home / "dataset")).same


def test_who_wins_an_overlap_is_a_change_that_only_the_maps_show(home):
    def overlapping(rows):
        second = dict(rows[0]["segments"][0], id=77, z_order=None)
        rows[0]["segments"] = [dict(rows[0]["segments"][0], z_order=None), second]
        shift({"segments": [second]})
        rows[0]["segments"][0]["segmentation"] = [[1, 1, 9, 1, 9, 5, 1, 5]]

    from publisher import workspace
    from publisher.card import Card
    from publisher.stages import release

    edited(home / "dataset", overlapping)
    for overlap in ("z-order", "smaller-on-top"):
        release.build(
            workspace.read(home / "dataset"), home / overlap, Card(name="h"), overlap=overlap
        )
    found = compare(str(home / "z-order"), str(home / "smaller-on-top"))
    assert [c for c in found.changes if c.get("map")] == list(found.changes)
    assert found.verdict.reasons == ("1 panoptic map drawn otherwise",)


def test_one_split_of_a_version_cannot_stand_for_it(home):
    bucket = MemoryBucket()
    push(bucket, home / "release", "hands", "1.0.0", created=NOON)
    pull(bucket, "hands", "1.0.0", home / "val", splits=["val"])
    with pytest.raises(UsageError, match=r"split/holdout, split/train is missing") as caught:
        compare(str(home / "release"), str(home / "val"))
    assert "reference" in caught.value.hint


def test_exports_are_compared_without_their_pictures(home):
    found = compare(str(home / "dataset.zip"), str(home / "dataset"))
    assert not found.summary.pictures
    assert found.summary.counts.total() == 0


def test_nothing_there(home):
    with pytest.raises(UsageError, match="there is no"):
        compare(str(home / "nowhere"), str(home / "release"))


# ── the next number ──────────────────────────────────────────────────────────────────────────


def proposed(bucket, tree):
    found = propose(bucket, "hands", tree)
    return str(found.version), found.level, found.reasons


def test_the_first_version_is_one(home):
    assert proposed(MemoryBucket(), home / "release")[:2] == ("1.0.0", None)


def test_the_same_content_keeps_its_number_so_a_push_may_be_repeated(home):
    bucket = MemoryBucket()
    push(bucket, home / "release", "hands", "1.4.0", created=NOON)
    assert proposed(bucket, home / "release")[:2] == ("1.4.0", None)


@pytest.mark.parametrize(
    ("edit", "version", "reason"),
    [
        (lambda rows: None, "1.4.1", "CITATION.cff, README.md changed"),
        (lambda rows: rows[0]["segments"].append(
            dict(rows[0]["segments"][0], id=50, segmentation=[[20, 10, 28, 10, 28, 18, 20, 18]])),
         "1.5.0", "1 segment added to images that were there"),
        (lambda rows: shift(rows[0]), "2.0.0", "1 mask changed, mean IoU 0.600"),
        (lambda rows: rows.pop(0), "2.0.0", "1 image removed"),
    ],
)  # fmt: skip
def test_the_number_follows_from_what_changed(home, edit, version, reason):
    from publisher.card import Card

    bucket = MemoryBucket()
    push(bucket, home / "release", "hands", "1.4.0", created=NOON)
    edited(home / "dataset", edit)
    tree = built(home / "dataset", home / "next", Card(name="hands", description="new words"))
    found = proposed(bucket, tree)
    assert found[0] == version
    assert found[2] == (reason,)


def test_prereleases_do_not_count_as_the_newest(home):
    bucket = MemoryBucket()
    push(bucket, home / "release", "hands", "1.0.0-rc.1", created=NOON, channel=None)
    assert proposed(bucket, home / "release")[0] == "1.0.0"


def test_a_tree_of_some_splits_gets_no_number(home):
    bucket = MemoryBucket()
    push(bucket, home / "release", "hands", "1.0.0", created=NOON)
    pull(bucket, "hands", "1.0.0", home / "val", splits=["val"])
    with pytest.raises(UsageError, match="only some splits"):
        comparing.propose(bucket, "hands", home / "val")
