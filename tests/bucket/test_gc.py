"""gc: what no version needs goes after a grace period, and nothing else ever does."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from publisher.bucket import publish
from publisher.bucket.catalog import find_record
from publisher.bucket.gc import collect
from publisher.bucket.leases import TTL, held
from publisher.bucket.publish import push
from publisher.bucket.retract import retract
from publisher.bucket.verifying import verify_remote
from publisher.errors import (
    BucketBusy,
    IntegrityError,
    StorageError,
    VersionConflict,
    VersionRetracted,
)
from publisher.storage import Bucket, LocalBucket, MemoryBucket, S3Bucket
from publisher.versions.manifest import record_key, tree_key
from publisher.versions.version import Version
from tests.bucket.shelters import (
    DAY,
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
from tests.servers import moto_bucket

LAYOUTS = ["plain", "packs"]


class NoCommit:
    """A bucket in whose place a push dies just before its commit."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def __getattr__(self, name):
        return getattr(self._bucket, name)

    def put(self, key, body, **options):
        if "/releases/" in key:
            raise StorageError("the machine went away")
        return self._bucket.put(key, body, **options)


def die(bucket: Bucket, home: Path, version: str, files, **options) -> None:
    """A push that does not get to its commit."""
    with pytest.raises(StorageError):
        put(NoCommit(bucket), home, version, files, **options)


# ── on every bucket ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_dead_push_has_left_is_marked_then_deleted(opened, tmp_path, layout):
    bucket = opened()
    put(bucket, tmp_path, "1.0.0", pictures(1, 2), layout=layout)
    before = {o.key for o in bucket.list()}
    die(opened(), tmp_path, "1.1.0", pictures(2, 3, 4), layout=layout)
    left = set(rubbish(bucket))
    assert left == {o.key for o in bucket.list()} - before
    looked = collect(opened(), dry_run=True)
    assert {o.key for o in looked.marked} == left
    assert sum(o.size for o in looked.marked) > 20
    first = collect(opened())
    assert ({o.key for o in first.marked}, first.deleted) == (left, ())
    second = collect(opened())
    assert ({o.key for o in second.waiting}, second.deleted) == (left, ())
    third = collect(opened(), grace=0)
    assert {o.key for o in third.deleted} == left
    assert {o.key for o in bucket.list()} == before
    assert holds(opened(), tmp_path, "1.0.0") == pictures(1, 2)
    verify_remote(opened(), "hands", "1.0.0", deep=True)


# ── grace, by the bucket's clock ─────────────────────────────────────────────────────────────


@pytest.fixture
def bucket(tmp_path):
    bucket = Clocked()
    put(bucket, tmp_path, "1.0.0", pictures(1, 2), layout="packs")
    die(bucket, tmp_path, "1.1.0", pictures(2, 3, 4), layout="packs")
    return bucket


def test_nothing_goes_before_the_grace_period_is_over(bucket):
    collect(bucket, grace=3)
    left = rubbish(bucket)
    assert left
    for _ in range(3):
        bucket.time += DAY - 1
        assert collect(bucket, grace=3).deleted == ()
    assert rubbish(bucket) == left
    bucket.time += 3
    assert [o.key for o in collect(bucket, grace=3).deleted] == left
    assert rubbish(bucket) == []
    assert not list(bucket.list("gc/"))


def test_what_is_found_later_waits_longer(bucket, tmp_path):
    collect(bucket, grace=3)
    bucket.time += 2 * DAY
    die(bucket, tmp_path, "1.2.0", pictures(5, 6), layout="packs")
    younger = collect(bucket, grace=3)
    assert len(younger.marked) == len(rubbish(bucket)) - len(younger.waiting) > 0
    bucket.time += 2 * DAY
    deleted = collect(bucket, grace=3).deleted
    assert len(deleted) == len(younger.waiting)
    assert len(rubbish(bucket)) == len(younger.marked)


def test_what_a_push_uses_after_all_stays(bucket, tmp_path):
    collect(bucket)
    bucket.time += 20 * DAY
    put(bucket, tmp_path, "1.1.0", pictures(2, 3, 4), layout="packs")
    assert collect(bucket).deleted == ()
    assert content(bucket, "1.1.0") == pictures(2, 3, 4)
    assert not list(bucket.list("gc/"))


def test_an_object_that_was_put_again_since_it_was_marked_waits_anew(bucket, tmp_path):
    collect(bucket, grace=3)
    for key in rubbish(bucket):
        bucket.delete(key)
    bucket.time += 4 * DAY
    die(bucket, tmp_path, "1.1.0", pictures(2, 3, 4), layout="packs")
    again = collect(bucket, grace=3)
    assert (again.deleted, len(again.marked)) == ((), len(rubbish(bucket)))


def test_looking_only_changes_nothing(bucket):
    collect(bucket)
    bucket.time += 20 * DAY
    before = dict(bucket._objects)
    looked = collect(bucket, dry_run=True)
    assert [o.key for o in looked.deleted] == rubbish(bucket)
    assert bucket._objects == before


def test_a_damaged_mark_deletes_nothing_and_is_made_anew(bucket):
    collect(bucket)
    (mark,) = bucket.list("gc/")
    bucket._objects[mark.key] += b"datasets/hands/releases/1.0.0.json\n"
    bucket.time += 20 * DAY
    assert collect(bucket).deleted == ()
    assert find_record(bucket, "hands", Version.parse("1.0.0")) is not None
    bucket.time += 20 * DAY
    collect(bucket)
    assert rubbish(bucket) == []


def test_nothing_goes_while_a_record_or_an_index_is_damaged(bucket):
    collect(bucket)
    bucket.time += 20 * DAY
    record = record_key("hands", Version.parse("1.0.0"))
    index = next(k for k in bucket._objects if k.startswith("index/") and k not in rubbish(bucket))
    for key in (record, index):
        good = bucket._objects[key]
        for bad in (good[:-2], b"{}"):
            bucket._objects[key] = bad
            before = dict(bucket._objects)
            with pytest.raises(IntegrityError):
                collect(bucket)
            assert bucket._objects == before
        bucket._objects[key] = good
    collect(bucket)
    assert rubbish(bucket) == []


def test_strangers_files_and_documents_are_never_garbage(bucket):
    strange = [
        *("packs/notes.txt", "blobs/ab/short", "index/x.idx", "me.txt", "gc/notes.txt"),
        *("datasets/hands/vacation/a.jpg", "datasets/hands/signatures/1.0.0.json"),
        "packs/ab/" + "c" * 64 + ".tar",
    ]
    for key in strange:
        bucket.put(key, b"mine")
    bucket.time += 20 * DAY
    collect(bucket, grace=0)
    assert set(strange) <= set(bucket._objects)


def test_the_end_of_a_retraction_that_was_cut_short_is_brought_about(bucket, tmp_path):
    put(bucket, tmp_path, "2.0.0", pictures(1, **{FACE: SECRET}))

    def cut(key: str) -> None:
        raise StorageError("the machine went away")

    bucket.delete = cut
    with pytest.raises(StorageError):
        retract(bucket, "hands", Version.parse("2.0.0"), REASON, at=NOON, files=(FACE,))
    del bucket.delete
    bucket.time += 3 * TTL
    assert SECRET in bodies(bucket)
    assert collect(bucket).finished == ("hands 2.0.0",)
    assert SECRET not in bodies(bucket)
    assert content(bucket, "1.0.0") == pictures(1, 2)


def test_uploads_that_never_ended_are_given_up(monkeypatch):
    with moto_bucket(monkeypatch) as bucket:
        assert isinstance(bucket, S3Bucket)
        for key in ("some/prefix/blobs/aa/large", "elsewhere/large"):
            bucket._client.create_multipart_upload(Bucket=bucket._name, Key=key)
        done = collect(bucket)  # to moto, every upload began in 2010
        assert [u.key for u in done.aborted] == ["blobs/aa/large"]
        left = bucket._client.list_multipart_uploads(Bucket=bucket._name)["Uploads"]
        assert [u["Key"] for u in left] == ["elsewhere/large"]


def test_files_that_a_killed_writer_left_in_a_folder_are_removed(tmp_path):
    bucket = LocalBucket(tmp_path / "bucket")
    put(bucket, tmp_path, "1.0.0", pictures(1))
    half = tmp_path / "bucket" / ".publisher-tmp" / "half"
    half.write_bytes(b"ha")
    assert collect(bucket).aborted == ()
    assert [u.key for u in collect(bucket, grace=0).aborted] == ["half"]
    assert not half.exists()
    assert holds(bucket, tmp_path, "1.0.0") == pictures(1)


# ── leases ───────────────────────────────────────────────────────────────────────────────────


def test_gc_deletes_nothing_while_a_push_is_under_way(bucket):
    collect(bucket)
    bucket.time += 20 * DAY
    left = rubbish(bucket)
    with held(bucket, "shared", "a push of hands 3.0.0"):
        with pytest.raises(BucketBusy, match=r"a push of hands 3\.0\.0 is under way"):
            collect(bucket)
        assert rubbish(bucket) == left
    assert len(collect(bucket).deleted) == len(left)


def test_a_lease_that_has_run_out_counts_no_more_and_is_removed(bucket):
    collect(bucket)
    bucket.time += 20 * DAY
    with suppress(KeyboardInterrupt), held(bucket, "shared", "a push that is killed"):
        killed = dict(bucket._objects), dict(bucket._times)
        raise KeyboardInterrupt
    bucket._objects, bucket._times = killed
    bucket.time += 2 * TTL
    with pytest.raises(BucketBusy):
        collect(bucket)
    bucket.time += 1
    assert collect(bucket).deleted
    assert not list(bucket.list("leases/"))


def test_a_push_that_was_held_up_longer_than_its_lease_commits_nothing(bucket, tmp_path):
    class Sleeps(Watched):
        """A laptop that is closed while a push is under way, and gc that comes meanwhile."""

        def put(self, key, body, **options):
            if key.startswith("manifests/") and self.time < asleep:
                self.time += 3 * TTL
            return super().put(key, body, **options)

    asleep = bucket.time + TTL
    sleeping = Sleeps(bucket)
    with pytest.raises(BucketBusy, match="held up for more than 5 minutes") as caught:
        put(sleeping, tmp_path, "2.0.0", pictures(8, 9))
    assert "run the same command again" in caught.value.hint
    assert find_record(sleeping, "hands", Version.parse("2.0.0")) is None
    put(sleeping, tmp_path, "2.0.0", pictures(8, 9))
    assert content(sleeping, "2.0.0") == pictures(8, 9)


def test_a_push_that_sleeps_just_before_its_commit_is_told(bucket, tmp_path):
    class Sleeps(Watched):
        def put(self, key, body, **options):
            if "/releases/" in key:
                self.time += 3 * TTL
            return super().put(key, body, **options)

    with pytest.raises(BucketBusy, match="held up"):
        put(Sleeps(bucket), tmp_path, "2.0.0", pictures(8, 9))


def test_a_push_does_not_commit_on_objects_that_went_away(bucket, tmp_path):
    class Loses(Watched):
        def put(self, key, body, **options):
            if key.startswith("index/"):
                for gone in [k for k in self._objects if k.startswith("packs/")]:
                    del self._objects[gone]
            return super().put(key, body, **options)

    losing = Loses(bucket)
    with pytest.raises(StorageError, match=r"went away while hands 1\.2\.0 was published"):
        put(losing, tmp_path, "1.2.0", pictures(1, 2, 7, 8), layout="packs")
    assert find_record(losing, "hands", Version.parse("1.2.0")) is None


def test_a_bucket_that_does_not_list_what_was_put_is_not_cleaned(bucket):
    class Stale(Watched):
        def list(self, prefix=""):
            return iter(()) if prefix == "leases/" else super().list(prefix)

    stale = Stale(bucket)
    collect(stale)
    stale.time += 20 * DAY
    with pytest.raises(StorageError, match="does not list what was just put"):
        collect(stale)
    assert rubbish(stale)


# ── cut short, and beside a push ─────────────────────────────────────────────────────────────


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)


@pytest.mark.parametrize("days", [0, 20])
def test_cut_short_anywhere_versions_are_whole_and_a_repetition_ends_it(bucket, one_thread, days):
    if days:
        collect(bucket)
        bucket.time += days * DAY
    whole = Watched(bucket)
    collect(whole)

    def cut() -> None:
        raise StorageError("the machine went away")

    for n in range(1, whole.count + 1):
        broken = Watched(bucket)
        broken.at, broken.then = n, cut
        with suppress(StorageError):
            collect(broken)
        assert content(broken, "1.0.0") == pictures(1, 2)
        broken.time += 3 * TTL
        collect(broken)
        assert broken._objects == whole._objects


def copied(bucket: Clocked) -> Clocked:
    return Watched(bucket)


@pytest.fixture
def due(bucket, tmp_path):
    """A bucket with garbage that is due; what a push of 1.1.0 needs is among it."""
    collect(bucket)
    bucket.time += 20 * DAY
    return bucket


def check_after(bucket: Clocked, errors, tree: Path) -> None:
    """Whoever lost may go on, and then all is as if they had come one after another."""
    assert all(e is None or isinstance(e, BucketBusy) for e in errors), errors
    assert content(bucket, "1.0.0") == pictures(1, 2)
    if errors[0] is None:
        assert content(bucket, "1.1.0") == pictures(2, 3, 4)
    again = push(bucket, tree, "hands", "1.1.0", created=NOON)
    assert again.plan.move == () or errors[0] is not None
    assert content(bucket, "1.1.0") == pictures(2, 3, 4)
    assert not list(bucket.list("leases/"))


def publishing(tree: Path):
    return lambda b: push(b, tree, "hands", "1.1.0", created=NOON, layout="packs")


@pytest.mark.parametrize("first", ["push", "gc"])
def test_a_push_and_gc_at_every_moment_of_each_other(due, tmp_path, one_thread, first):
    tree = release(tmp_path / "hands 1.1.0", pictures(2, 3, 4))
    counting = Watched(due)
    publishing(tree)(counting) if first == "push" else collect(counting)
    actor, other = (0, 1) if first == "push" else (1, 0)
    outcomes = set()
    for n in range(counting.count + 1):
        bucket = copied(due)
        errors = beside(bucket, [actor] * n + [other] * 500, publishing(tree), collect)
        check_after(bucket, errors, tree)
        outcomes.add(tuple(type(e) for e in errors))
    gave_way = (type(None), BucketBusy) if first == "push" else (BucketBusy, type(None))
    assert outcomes == {gave_way, (type(None), type(None))}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([0, 0, 0, 1, 1]), max_size=120))
def test_a_push_and_gc_interleaved_at_random(due, tmp_path, order):
    _at_random(due, tmp_path, order)


@pytest.mark.nightly
@settings(
    max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([0, 0, 0, 1, 1]), max_size=120))
def test_a_push_and_gc_interleaved_at_random_all_night(due, tmp_path, order):
    _at_random(due, tmp_path, order)


def _at_random(due, tmp_path, order) -> None:
    tree = tmp_path / "hands 1.1.0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("publisher.bucket.trees.THREADS", 1)
        bucket = copied(due)
        errors = beside(bucket, order, publishing(tree), collect)
        check_after(bucket, errors, tree)


def test_without_leases_the_same_moments_would_lose_a_version(
    due, tmp_path, one_thread, monkeypatch
):
    """A check that cannot fail is none."""
    free = SimpleNamespace(
        now=due.time, renew=lambda: None, check=lambda: None, covers=lambda moment: None
    )

    @contextmanager
    def nobody(*_):
        with nullcontext(free) as lease:
            yield lease

    monkeypatch.setattr("publisher.bucket.publish.held", nobody)
    monkeypatch.setattr("publisher.bucket.gc.held", nobody)
    monkeypatch.setattr(publish._Push, "_look_again", lambda *_: None)
    tree = release(tmp_path / "hands 1.1.0", pictures(2, 3, 4))
    counting = Watched(due)
    collect(counting)
    lost = 0
    for n in range(counting.count + 1):
        bucket = copied(due)
        errors = beside(bucket, [1] * n + [0] * 500, publishing(tree), collect)
        try:
            check_after(bucket, errors, tree)
        except (AssertionError, StorageError, IntegrityError):
            lost += 1
    assert lost > 0


# ── histories ────────────────────────────────────────────────────────────────────────────────


@dataclass
class Model:
    """What ought to be."""

    visible: dict[str, dict[str, bytes]] = field(default_factory=dict)
    retracted: set[str] = field(default_factory=set)
    banned: set[bytes] = field(default_factory=set)


VERSIONS = ["1.0.0", "1.1.0", "2.0.0", "2.1.0"]
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["push", "push", "die"]),
        st.sampled_from(VERSIONS),
        st.frozensets(st.integers(0, 5), min_size=1),
        st.sampled_from(LAYOUTS),
    ),
    st.tuples(
        st.just("retract"),
        st.sampled_from(VERSIONS),
        st.one_of(st.none(), st.integers(0, 5)),
    ),
    st.tuples(st.just("gc")),
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 20])),
)


def play(steps) -> None:
    bucket, model = Clocked(), Model()
    with tempfile.TemporaryDirectory() as home:
        for n, step in enumerate(steps):
            globals()[f"_{step[0]}"](bucket, model, Path(home) / str(n), *step[1:])
            bucket.time += 1
            everything = bodies(bucket)
            for version, files in model.visible.items():
                assert content(bucket, version) == files
            for version in model.retracted:
                assert content(bucket, version) is None
            assert not any(body in everything for body in model.banned)
    for _ in range(2):
        collect(bucket)
        bucket.time += 15 * DAY
    collect(bucket)
    assert rubbish(bucket) == []
    assert not list(bucket.list("leases/"))
    assert not list(bucket.list("gc/"))
    for version, files in model.visible.items():
        assert content(bucket, version) == files
        verify_remote(bucket, "hands", version, deep=True)


def _push(bucket, model, home, version, numbers, layout) -> None:
    files = pictures(*numbers)
    if version in model.retracted:
        expected = (VersionRetracted, VersionConflict)
    elif model.banned & set(files.values()) or model.visible.get(version, files) != files:
        expected = (VersionConflict,)
    else:
        put(bucket, home, version, files, layout=layout)
        model.visible[version] = files
        return
    with pytest.raises(expected):
        put(bucket, home, version, files, layout=layout)


def _die(bucket, model, home, version, numbers, layout) -> None:
    if version not in model.visible and version not in model.retracted:
        with pytest.raises((StorageError, VersionConflict)):
            put(NoCommit(bucket), home, version, pictures(*numbers), layout=layout)


def _retract(bucket, model, home, version, number) -> None:
    files = model.visible.get(version)
    if files is None:
        return
    named = files.keys() - {"README.md", "LICENSE"}
    if number is not None:
        named &= {f"train/images/{number:03}.jpg"}
        if not named:
            return
    goes = {files[path] for path in named}
    chosen = tuple(named) if number is not None else ()
    done = retract(bucket, "hands", Version.parse(version), REASON, at=NOON, files=chosen)
    gone = {v for v, fs in model.visible.items() if goes & set(fs.values())}
    assert set(done.versions) == {f"hands {v}" for v in gone}
    model.retracted |= gone
    for v in gone:
        del model.visible[v]
    if chosen:
        model.banned |= goes
    assert not any(body in bodies(bucket) for body in goes)


def _gc(bucket, model, home) -> None:
    collect(bucket)


def _wait(bucket, model, home, days) -> None:
    bucket.time += days * DAY


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_histories_lose_nothing_show_nothing_and_leave_nothing(steps):
    play(steps)


@pytest.mark.nightly
@settings(max_examples=1000, deadline=None)
@given(st.lists(STEPS, min_size=6, max_size=30))
def test_long_histories_lose_nothing_show_nothing_and_leave_nothing(steps):
    play(steps)


def test_a_history_that_once_went_wrong_or_might():
    play(
        [
            ("push", "1.0.0", frozenset({0, 1, 2}), "plain"),
            ("push", "1.1.0", frozenset({1, 2, 3}), "packs"),
            ("die", "2.0.0", frozenset({0, 4}), "plain"),
            ("gc",),
            ("retract", "1.0.0", 0),
            ("push", "2.0.0", frozenset({1, 4}), "packs"),
            ("wait", 20),
            ("gc",),
            ("retract", "2.0.0", 4),
            ("push", "2.1.0", frozenset({1, 2, 3}), "plain"),
        ]
    )


def test_an_empty_bucket_has_no_garbage(tmp_path):
    bucket = MemoryBucket()
    done = collect(bucket)
    assert (done.marked, done.waiting, done.deleted) == ((), (), ())
    assert bucket._objects == {}
    put(bucket, tmp_path, "1.0.0", pictures(1))
    bucket.put(tree_key("hands", "1.0.0", "notes.txt"), b"beside a version that is there")
    collect(bucket, grace=0)
    assert tree_key("hands", "1.0.0", "notes.txt") in bucket._objects
