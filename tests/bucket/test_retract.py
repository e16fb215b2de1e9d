"""Retract: a picture that must go is gone everywhere, and nothing else is harmed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from publisher.bucket.catalog import find_status, names, resolve, versions
from publisher.bucket.consume import pull
from publisher.bucket.erasing import unfinished
from publisher.bucket.leases import held
from publisher.bucket.maintain import mark, move_channel
from publisher.bucket.mirroring import mirror
from publisher.bucket.publish import push
from publisher.bucket.retract import plan_retraction, retract
from publisher.bucket.survey import survey
from publisher.bucket.verifying import examine, verify_remote
from publisher.errors import (
    BucketBusy,
    IntegrityError,
    StorageError,
    UsageError,
    VersionConflict,
    VersionNotFound,
    VersionRetracted,
    VersionWarning,
)
from publisher.storage import Bucket, LocalBucket, MemoryBucket, open_bucket
from publisher.versions.manifest import tree_key
from publisher.versions.packs import index_key
from publisher.versions.version import Channel, Version
from tests.bucket.shelters import (
    FACE,
    NOON,
    REASON,
    SECRET,
    Clocked,
    Watched,
    beside,
    bodies,
    content,
    holds,
    pictures,
    put,
    release,
    rubbish,
)
from tests.servers import moto_bucket, s3_server
from tests.trees import make_tree

LAYOUTS = ["plain", "packs"]


def gone(bucket: Bucket, version: str, *files: str, name: str = "hands"):
    return retract(bucket, name, Version.parse(version), REASON, at=NOON, files=files)


def planned(bucket: Bucket, version: str, *files: str):
    return plan_retraction(bucket, "hands", Version.parse(version), files)


def shared(bucket: Bucket, home: Path, layout: str | None = None) -> None:
    """1.0.0 is without the face; 1.1.0, 1.2.0 and cats 3.0.0 have it; 1.2.1 is mended."""
    face = {FACE: SECRET}
    put(bucket, home, "1.0.0", pictures(1, 2), layout=layout)
    put(bucket, home, "1.1.0", pictures(1, 2, 3, 4, **face), layout=layout)
    put(bucket, home, "1.2.0", pictures(2, 3, 4, 5, **face), layout=layout)
    put(bucket, home, "1.2.1", pictures(2, 3, 4, 5), layout=layout)
    put(bucket, home, "3.0.0", {"a.txt": b"cats", FACE: SECRET}, name="cats", layout=layout)
    put(bucket, home, "3.1.0", {"a.txt": b"cats"}, name="cats", layout=layout)


# ── on every bucket ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_face_is_gone_everywhere_and_other_versions_stay_whole(opened, tmp_path, layout):
    bucket = opened()
    shared(bucket, tmp_path, layout)
    assert SECRET in bodies(bucket)
    done = gone(opened(), "1.2.0", FACE)
    assert done.versions == ("hands 1.2.0", "cats 3.0.0", "hands 1.1.0")
    assert SECRET not in bodies(opened())
    assert rubbish(opened()) == []
    assert holds(opened(), tmp_path, "1.0.0") == pictures(1, 2)
    assert holds(opened(), tmp_path, "1.2.1") == pictures(2, 3, 4, 5)
    assert holds(opened(), tmp_path, "3.1.0", "cats") == {"a.txt": b"cats"}
    for name, version in (("hands", "1.1.0"), ("hands", "1.2.0"), ("cats", "3.0.0")):
        assert holds(opened(), tmp_path, version, name) is None
    verify_remote(opened(), "hands", "1.2.1", deep=True)
    verify_remote(opened(), "hands", "1.0.0", deep=True)
    again = gone(opened(), "1.2.0", FACE)
    assert (again.deleted, again.moved) == ((), 0)


# ── what is left ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bucket(tmp_path):
    bucket = MemoryBucket()
    shared(bucket, tmp_path, "packs")
    return bucket


def test_readers_are_told_that_it_is_gone_and_why(bucket, tmp_path):
    root = resolve(bucket, "hands", "1.2.0").root
    gone(bucket, "1.2.0", FACE)
    for selector in ("1.2.0", "1.1.0", root):
        with pytest.raises(VersionRetracted, match="was retracted on 2026-01-01: a person") as e:
            resolve(bucket, "hands", selector)
        assert (e.value.exit_code, e.value.reason) == (4, REASON)
    for look in (
        lambda: pull(bucket, "hands", "1.2.0", tmp_path / "p"),
        lambda: verify_remote(bucket, "hands", "1.2.0"),
    ):
        with pytest.raises(VersionRetracted):
            look()
    assert not (tmp_path / "p").exists()
    left = [o.key for o in bucket.list(tree_key("hands", "1.2.0"))]
    assert left == [tree_key("hands", "1.2.0", "RETRACTED.txt")]
    assert b"gone for good.\nReason: a person asked for it\n" in bucket.get(left[0])
    assert [str(v) for v in versions(bucket, "hands")] == ["1.0.0", "1.1.0", "1.2.0", "1.2.1"]
    assert names(bucket) == ("cats", "hands")


def test_channels_and_ranges_pass_over_it(bucket):
    move_channel(bucket, "hands", Channel("stable"), "1.2.0")
    gone(bucket, "1.2.0", FACE)
    with pytest.warns(VersionWarning, match=r"stable is 1\.2\.0, which is retracted"):
        assert resolve(bucket, "hands", "stable").version == "1.0.0"
    assert resolve(bucket, "hands", "^1").version == "1.2.1"
    with pytest.raises(VersionRetracted):
        resolve(bucket, "hands", "sha256:" + find_root(bucket))
    gone(bucket, "1.0.0")
    with pytest.raises(VersionRetracted, match=r"hands 1\.2\.0 is gone"):
        resolve(bucket, "hands", "stable")


def find_root(bucket):
    from publisher.bucket.catalog import find_record

    record = find_record(bucket, "hands", Version.parse("1.2.0"))
    assert record is not None
    return record.root.removeprefix("sha256:")


def test_the_number_is_never_used_again(bucket, tmp_path):
    gone(bucket, "1.2.0", FACE)
    with pytest.raises(VersionRetracted, match=r"1\.2\.0 is retracted"):
        push(bucket, tmp_path / "hands 1.2.0", "hands", "1.2.0", created=NOON)
    with pytest.raises(VersionConflict):
        put(bucket, tmp_path / "x", "1.2.0", pictures(9))
    for say in (
        lambda: mark(bucket, "hands", Version.parse("1.2.0"), "active", "no", at=NOON),
        lambda: move_channel(bucket, "hands", Channel("old"), "1.2.0"),
    ):
        with pytest.raises(VersionRetracted):
            say()
    assert SECRET not in bodies(bucket)


def test_a_named_picture_does_not_come_back(bucket, tmp_path):
    gone(bucket, "1.2.0", FACE)
    before = dict(bucket._objects)
    with pytest.raises(VersionConflict, match=r"faces/again\.jpg has been retracted") as caught:
        put(bucket, tmp_path, "2.0.0", pictures(1) | {"faces/again.jpg": SECRET})
    assert "leave it out" in caught.value.hint
    assert bucket._objects == before


def test_the_next_number_comes_after_those_that_were_retracted(bucket, tmp_path):
    from publisher.bucket.comparing import propose

    gone(bucket, "1.2.0", FACE)
    gone(bucket, "1.2.1")
    assert [s.title for s in survey(bucket) if not s.is_retracted] == ["cats 3.1.0"]
    proposed = propose(bucket, "hands", make_tree(tmp_path / "new"))
    assert str(proposed.version) == "2.0.0"
    assert "retracted" in proposed.reasons[0]


# ── which versions go ────────────────────────────────────────────────────────────────────────


def test_a_whole_version_goes_with_all_that_share_its_pictures(bucket, tmp_path):
    """LICENSE and README belong to no split: who shares only those stays."""
    put(bucket, tmp_path, "9.0.0", pictures(77))
    done = gone(bucket, "1.0.0")
    assert done.versions == ("hands 1.0.0", "hands 1.1.0", "hands 1.2.0", "hands 1.2.1")
    assert b"picture 2" not in bodies(bucket)
    assert holds(bucket, tmp_path, "9.0.0") == pictures(77)
    assert holds(bucket, tmp_path, "3.0.0", "cats") == {"a.txt": b"cats", FACE: SECRET}


def test_an_empty_mask_that_datasets_share_takes_none_of_them_down(bucket, tmp_path):
    blank = {"train/panoptic/1.png": b"nothing at all"}
    put(bucket, tmp_path, "5.0.0", pictures(81) | blank)
    put(bucket, tmp_path, "5.0.0", pictures(82) | blank, name="cats")
    assert gone(bucket, "5.0.0").versions == ("hands 5.0.0",)
    assert holds(bucket, tmp_path, "5.0.0", "cats") == pictures(82) | blank
    put(bucket, tmp_path, "5.1.0", pictures(81) | blank)  # nothing was named, nothing is barred
    assert planned(bucket, "5.1.0", "*.png").versions == ("hands 5.1.0", "cats 5.0.0")


def test_looking_only_says_what_would_go_and_changes_nothing(bucket):
    before = dict(bucket._objects)
    plan = planned(bucket, "1.2.0", "train/images/f*")
    assert plan.versions == ("hands 1.2.0", "cats 3.0.0", "hands 1.1.0")
    assert plan.named == (FACE,)
    assert set(plan.repacked) == {"hands 1.2.1"}
    assert plan.moved == 2 * len(b"picture 3" * 9)
    assert bucket._objects == before
    done = gone(bucket, "1.2.0", "train/images/f*")
    assert (done.versions, done.moved) == (plan.versions, plan.moved)
    assert {o.key for o in plan.deleted} == {o.key for o in done.deleted}


@pytest.mark.parametrize(
    ("version", "reason", "files", "error"),
    [
        ("9.9.9", REASON, (), VersionNotFound),
        ("1.2.0", " ", (), UsageError),
        ("1.2.0", REASON, ("nope.jpg",), UsageError),
        ("1.2.0", REASON, (FACE, "nope*"), UsageError),
    ],
)
def test_what_cannot_be_retracted(bucket, version, reason, files, error):
    before = dict(bucket._objects)
    with pytest.raises(error):
        retract(bucket, "hands", Version.parse(version), reason, at=NOON, files=files)
    assert bucket._objects == before


def test_nothing_is_deleted_where_a_version_cannot_be_read(bucket):
    shard = resolve(bucket, "hands", "1.2.1").shards["split/train"]
    key = index_key(shard.index)
    bucket._objects[key] = bucket._objects[key][:-1]
    before = dict(bucket._objects)
    with pytest.raises(IntegrityError, match=r"files of hands 1\.2\.1 lie") as caught:
        gone(bucket, "1.2.0", FACE)
    assert "nothing was deleted" in caught.value.hint
    assert bucket._objects == before


# ── survivors ────────────────────────────────────────────────────────────────────────────────


def test_packs_of_versions_that_stay_are_tars_without_what_went(bucket, tmp_path):
    gone(bucket, "1.2.0", FACE)
    packs = [k for k in bucket._objects if k.startswith("packs/")]
    assert packs
    for key in packs:
        with tarfile.open(fileobj=BytesIO(bucket._objects[key])) as pack:
            assert FACE not in pack.getnames()
    told = bucket.get(tree_key("hands", "1.2.1", "urls.txt")).decode().split()
    there = {k for k in bucket._objects if k.startswith(("packs/", "blobs/"))}
    assert {line.removeprefix("../../../") for line in told} <= there


def test_a_version_whose_packs_were_written_anew_can_be_pushed_again_and_be_mended(
    bucket, tmp_path
):
    gone(bucket, "1.2.0", FACE)
    before = dict(bucket._objects)
    tree = tmp_path / "hands 1.2.1"
    assert push(bucket, tree, "hands", "1.2.1", created=NOON).status == "already published"
    assert bucket._objects == before
    for key in [k for k in before if k.startswith("packs/")]:
        del bucket._objects[key]
    push(bucket, tmp_path / "hands 1.0.0", "hands", "1.0.0", created=NOON)  # shares a pack
    push(bucket, tree, "hands", "1.2.1", created=NOON)
    assert holds(bucket, tmp_path, "1.2.1") == pictures(2, 3, 4, 5)
    put(bucket, tmp_path, "1.2.2", pictures(2, 3, 4, 5, 6))  # rests on the new packs
    gone(bucket, "1.2.2", "train/images/006.jpg")
    assert holds(bucket, tmp_path, "1.2.1") == pictures(2, 3, 4, 5)


def test_indexes_are_replaced_time_and_again(bucket, tmp_path):
    gone(bucket, "1.2.0", FACE)
    put(bucket, tmp_path, "1.3.0", pictures(3, 4))  # its index names the packs written anew
    gone(bucket, "1.2.1", "train/images/005.jpg")
    assert holds(bucket, tmp_path, "1.3.0") == pictures(3, 4)
    assert holds(bucket, tmp_path, "1.2.1") is None
    assert rubbish(bucket) == []
    verify_remote(bucket, "hands", "1.3.0", deep=True)


def test_plain_files_that_a_version_in_packs_rests_on_are_moved(tmp_path):
    bucket = MemoryBucket()
    put(bucket, tmp_path, "1.0.0", pictures(1, 2, **{FACE: SECRET}), layout="plain")
    put(bucket, tmp_path, "1.1.0", pictures(1, 2, 3), layout="packs")
    gone(bucket, "1.0.0", FACE)
    assert holds(bucket, tmp_path, "1.1.0") == pictures(1, 2, 3)
    assert not [k for k in bucket._objects if "v1.0.0/" in k and "RETRACTED" not in k]
    verify_remote(bucket, "hands", "1.1.0", deep=True)


def test_what_a_cut_short_push_has_left_of_it_goes_too(tmp_path):
    class Cut(MemoryBucket):
        cut = True

        def put(self, key, body, **options):
            if self.cut and "/releases/" in key:
                raise StorageError("the network went away")
            return super().put(key, body, **options)

    bucket = Cut()
    for layout in LAYOUTS:
        with pytest.raises(StorageError):
            put(bucket, tmp_path, "5.0.0", pictures(8, **{FACE: SECRET}), layout=layout)
    bucket.cut = False
    put(bucket, tmp_path, "1.0.0", pictures(1, **{FACE: SECRET}), layout="plain")
    gone(bucket, "1.0.0", FACE)
    assert SECRET not in bodies(bucket)


@pytest.mark.parametrize("server", ["moto", "seaweedfs"])
def test_a_bucket_that_keeps_old_versions_of_objects_keeps_none_of_it(
    server, tmp_path, monkeypatch, request
):
    with ExitStack() as stack:
        if server == "moto":
            bucket = stack.enter_context(moto_bucket(monkeypatch))
        else:
            request.getfixturevalue("s3_remote")
            client = s3_server().client(request.getfixturevalue("seaweedfs"))
            client.create_bucket(Bucket="keeps-versions")
            bucket = open_bucket("s3://keeps-versions/some/prefix")
        at = {"Bucket": bucket._name}
        bucket._client.put_bucket_versioning(**at, VersioningConfiguration={"Status": "Enabled"})
        put(bucket, tmp_path, "1.0.0", pictures(1, 2, **{FACE: SECRET}), layout="packs")
        put(bucket, tmp_path, "1.1.0", pictures(1, 2), layout="packs")
        for key in ("blobs/ab/" + "ab" * 32, "thesis.tex"):  # deleted long ago
            bucket.put(key, SECRET if "blobs" in key else b"mine")
            bucket.delete(key)

        def kept() -> dict[str, list[bytes]]:
            found = bucket._client.list_object_versions(**at).get("Versions", [])
            get = bucket._client.get_object
            bodies: dict[str, list[bytes]] = {}
            for o in found:
                body = get(**at, Key=o["Key"], VersionId=o["VersionId"])["Body"].read()
                bodies.setdefault(o["Key"], []).append(body)
            return bodies

        assert SECRET in b"".join(b for bodies in kept().values() for b in bodies)
        look, bucket._client.get_bucket_versioning = bucket._client.get_bucket_versioning, denied
        assert gone(bucket, "1.0.0", FACE).history is None
        bucket._client.get_bucket_versioning = look
        assert gone(bucket, "1.0.0", FACE).history > 0  # the owner comes after
        assert SECRET not in b"".join(b for bodies in kept().values() for b in bodies)
        assert kept()["some/prefix/thesis.tex"] == [b"mine"]
        assert holds(bucket, tmp_path, "1.1.0") == pictures(1, 2)


def denied(**_):
    raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetBucketVersioning")


def test_strangers_files_are_left_alone(bucket, tmp_path):
    strange = ["packs/notes.txt", "thesis.tex", "blobs/ab/short", "datasets/hands/notes.md"]
    for key in strange:
        bucket.put(key, b"mine")
    gone(bucket, "1.2.0", FACE)
    assert all(key in bucket._objects for key in strange)


# ── mirrors ──────────────────────────────────────────────────────────────────────────────────


def test_a_mirror_copies_what_was_written_anew_and_nothing_that_is_gone(bucket, tmp_path):
    gone(bucket, "1.2.0", FACE)
    target = MemoryBucket()
    done = mirror(bucket, target, "hands")
    assert {c.version: c.status for c in done.versions} == {
        "1.0.0": "mirrored", "1.1.0": "withdrawn", "1.2.0": "withdrawn", "1.2.1": "mirrored",
    }  # fmt: skip
    assert holds(target, tmp_path, "1.2.1") == pictures(2, 3, 4, 5)
    verify_remote(target, "hands", "1.2.1", deep=True)
    assert rubbish(target) == []


def test_a_mirror_brings_nothing_back(bucket, tmp_path):
    target = MemoryBucket()
    mirror(bucket, target, "hands")
    gone(target, "1.2.0", FACE)  # packs of 1.2.1 in the source hold the face still
    for _ in range(2):
        with pytest.raises(VersionConflict, match="has been retracted from") as caught:
            mirror(bucket, target, "hands")
        assert "retract it from the source" in caught.value.hint
        assert SECRET not in bodies(target)
        put(bucket, tmp_path, "2.0.0", pictures(1, **{FACE: SECRET}))
    with pytest.raises(VersionRetracted):
        examine(target, "hands", "1.2.0", mirror=bucket)
    gone(bucket, "1.2.0", FACE)
    mirror(bucket, target, "hands")
    assert SECRET not in bodies(target)
    verify_remote(target, "hands", "1.2.1", deep=True)


# ── others at work ───────────────────────────────────────────────────────────────────────────


def test_it_waits_for_pushes_and_they_for_it(bucket, tmp_path):
    before = dict(bucket._objects)
    with (
        held(bucket, "shared", "a push of hands 7.0.0"),
        pytest.raises(BucketBusy, match=r"a push of hands 7\.0\.0 is under way") as caught,
    ):
        gone(bucket, "1.2.0", FACE)
    assert "if it was killed, in 10 minutes" in caught.value.hint
    assert bucket._objects == before
    with (
        held(bucket, "exclusive", "gc"),
        pytest.raises(BucketBusy, match="gc is under way"),
    ):
        put(bucket, tmp_path, "7.0.0", pictures(9))
    assert bucket._objects == before


def steps(bucket, work) -> int:
    watched = Watched(bucket)
    work(watched)
    return watched.count


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)


@pytest.mark.parametrize("first", ["push", "retract"])
@pytest.mark.parametrize("with_face", [False, True])
def test_a_push_and_a_retraction_at_every_moment_of_each_other(
    tmp_path, one_thread, first, with_face
):
    start = Clocked()
    put(start, tmp_path, "1.0.0", pictures(1, 2, 3, **{FACE: SECRET}), layout="packs")
    files = pictures(1, 2, 4, **({FACE: SECRET} if with_face else {}))
    tree = release(tmp_path / "next", files)

    def publish(b: Bucket) -> None:
        push(b, tree, "hands", "1.1.0", created=NOON, layout="packs")

    def take_down(b: Bucket) -> None:
        gone(b, "1.0.0", FACE)

    counting = Watched(start)
    (publish if first == "push" else take_down)(counting)
    actor, other = (0, 1) if first == "push" else (1, 0)
    outcomes = set()
    for n in range(counting.count + 1):
        bucket = Watched(start)
        pushed, retracted = beside(bucket, [actor] * n + [other] * 500, publish, take_down)
        assert isinstance(pushed, BucketBusy | VersionConflict | None)
        assert isinstance(retracted, BucketBusy | None)
        assert pushed is None or retracted is None
        outcomes.add((pushed is None, retracted is None))
        if retracted is None:
            assert SECRET not in bodies(bucket)
            assert content(bucket, "1.0.0") is None
        if pushed is None:
            assert content(bucket, "1.1.0") == (None if with_face and not retracted else files)
        take_down(bucket)
        assert SECRET not in bodies(bucket)
        if pushed is None and not with_face:
            assert content(bucket, "1.1.0") == files
    assert len(outcomes) >= 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cut_short_anywhere_readers_see_before_or_after_and_a_repetition_ends_it(
    tmp_path, one_thread, layout
):
    start = MemoryBucket()
    put(start, tmp_path, "1.0.0", pictures(1, 2), layout=layout)
    put(start, tmp_path, "1.1.0", pictures(2, 3, 4, **{FACE: SECRET}), layout=layout)
    put(start, tmp_path, "1.2.0", pictures(3, **{FACE: SECRET}), layout="packs")
    put(start, tmp_path, "1.3.0", pictures(2, 3, 5), layout="packs")
    work = lambda b: gone(b, "1.2.0", FACE)  # noqa: E731
    total = steps(start, work)
    whole = Watched(start)
    work(whole)

    def cut() -> None:
        raise StorageError("the machine went away")

    for n in range(1, total + 1):
        bucket = Watched(start)
        bucket.at, bucket.then = n, cut
        with suppress(StorageError):  # of the last, only the lease stays
            work(bucket)
        for key in [k for k in bucket._objects if k.startswith("leases/")]:
            bucket._times[key] = 0.0  # it has run out
        assert content(bucket, "1.0.0") == pictures(1, 2)
        assert content(bucket, "1.3.0") == pictures(2, 3, 5)
        for version, files in (
            ("1.1.0", pictures(2, 3, 4, **{FACE: SECRET})),
            ("1.2.0", pictures(3, **{FACE: SECRET})),
        ):
            assert content(bucket, version) in (None, files)
        work(bucket)
        assert bucket._objects == whole._objects
        assert unfinished(bucket, survey(bucket)) == []
    assert SECRET not in bodies(whole)


def test_a_pull_that_is_overtaken_anywhere_gets_the_version_or_hears_that_it_is_gone(
    tmp_path, one_thread
):
    start = MemoryBucket()
    put(start, tmp_path, "1.0.0", pictures(1, 2, 3, **{FACE: SECRET}), layout="packs")
    put(start, tmp_path, "1.1.0", pictures(1, 2), layout="packs")
    every = {"1.0.0": pictures(1, 2, 3, **{FACE: SECRET}), "1.1.0": pictures(1, 2)}
    for version, files in every.items():
        total = steps(start, lambda b, v=version: holds(b, tmp_path, v))
        seen = []
        for n in range(1, total + 1):
            bucket = Watched(start)
            bucket.at, bucket.then = n, lambda b=bucket: gone(b, "1.0.0", FACE)
            home = tmp_path / f"{version} {n}"
            home.mkdir()
            seen.append(holds(bucket, home, version))
        if version == "1.0.0":
            assert None in seen
            assert all(got in (None, files) for got in seen)
        else:
            assert all(got == files for got in seen)


# ── without publisher ────────────────────────────────────────────────────────────────────────


def test_get_py_says_that_it_is_gone_and_finds_what_was_moved(tmp_path):
    bucket = LocalBucket(tmp_path / "bucket")
    put(bucket, tmp_path, "1.0.0", pictures(1, 2, 3, **{FACE: SECRET}), layout="packs")
    put(bucket, tmp_path, "1.1.0", pictures(1, 2), layout="packs")
    script = tmp_path / "get.py"
    script.write_bytes(bucket.get(tree_key("hands", "1.0.0", "get.py")))
    gone(bucket, "1.0.0", FACE)

    def fetch(version):
        url = f"{bucket.url}/datasets/hands/v{version}"
        arguments = [sys.executable, script, url, "-o", tmp_path / f"got {version}"]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    said = fetch("1.0.0")
    assert said.returncode == 1
    assert "hands 1.0.0 is gone: it was retracted: 'a person asked for it'" in said.stderr
    assert fetch("1.1.0").returncode == 0
    assert (tmp_path / "got 1.1.0/train/images/002.jpg").read_bytes() == b"picture 2" * 9


def test_the_tombstone_says_when_and_why(bucket):
    gone(bucket, "1.2.0", FACE)
    status = find_status(bucket, "hands", Version.parse("1.2.0"))
    assert (status.state, status.reason, status.at) == ("retracted", REASON, NOON)
