from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import threading
from dataclasses import replace
from itertools import count

import pytest

from publisher.bucket import publish, sending
from publisher.bucket.catalog import channels, resolve, versions
from publisher.bucket.consume import pull, verify_folder
from publisher.bucket.publish import push
from publisher.bucket.verifying import verify_remote
from publisher.errors import (
    FormatError,
    IntegrityError,
    PublisherError,
    StorageError,
    UsageError,
    VersionConflict,
)
from publisher.storage import LocalBucket, MemoryBucket
from publisher.versions.documents import is_script
from publisher.versions.manifest import Entry, Manifest, tree_key
from publisher.versions.packs import index_key
from tests.contracts import at_once
from tests.trees import FILES, make_tree, manifest, read_tree

NOON = "2026-01-01T12:00:00+00:00"


def put(bucket, tree, version="1.0.0", **options):
    return push(bucket, tree, "hands", version, created=NOON, **options)


LAYOUTS = ["plain", "packs"]


def stored(path: str, version: str = "1.0.0") -> str:
    """The key of a file in the plain layout."""
    return tree_key("hands", version, path)


def contents(bucket: MemoryBucket) -> set[str]:
    """The keys that hold files, not lists of them."""
    beside = {stored(p) for p in ("SHA256SUMS", "urls.txt", "get.py", "manifest.json")}
    places = ("blobs/", "packs/", stored(""))
    return {k for k in bucket._objects if k.startswith(places)} - beside


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


class FailsAfter(MemoryBucket):
    """The network goes away before a put, or after it: then only the answer is lost."""

    def __init__(self, puts: int, *, applied: bool = False):
        super().__init__()
        self.left = puts
        self._applied = applied
        self._count = threading.Lock()

    def put(self, key, body, **options):
        with self._count:
            self.left -= 1
            failing = self.left < 0
        if failing and not self._applied:
            raise StorageError("the network went away")
        info = super().put(key, body, **options)
        if failing:
            raise StorageError("the answer got lost")
        return info


def puts_of_a_push(tree, layout) -> int:
    bucket = FailsAfter(10_000)
    put(bucket, tree, layout=layout)
    return 10_000 - bucket.left


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_version_is_published_once_and_whole(tree, tmp_path, layout):
    bucket = MemoryBucket()
    pushed = put(bucket, tree, layout=layout)
    assert (pushed.status, pushed.layout) == ("published", layout)
    assert pushed.record.root == manifest().root
    assert len(pushed.plan.move) == len(FILES)
    assert resolve(bucket, "hands", "latest") == pushed.record
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "out").path) == FILES


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("applied", [False, True], ids=["put lost", "answer lost"])
def test_a_push_cut_short_anywhere_shows_nothing_and_can_be_repeated(
    tree, tmp_path, monkeypatch, applied, layout
):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)  # one put after another
    total = puts_of_a_push(tree, layout)
    whole = MemoryBucket()
    put(whole, tree, layout=layout)
    after = {k for k in whole._objects if k.startswith(stored(""))} - contents(whole)
    after.discard(stored("SHA256SUMS") if layout == "plain" else "")  # that is the claim
    later = len(after) + (layout == "plain") + 1  # and a plain provenance.json, and the channel
    for puts in range(total):
        bucket = FailsAfter(puts, applied=applied)
        with pytest.raises(StorageError):
            put(bucket, tree, layout=layout)
        committed = bool(versions(bucket, "hands"))
        # documents and the channel are last: only when they, or the commit's answer, got lost is
        # the version there
        assert committed == (puts >= total - later or (applied and puts == total - later - 1))
        sent = contents(bucket)
        bucket.left = 10_000
        again = put(bucket, tree, layout=layout)
        assert again.plan.requests == len(contents(whole) - sent - {stored("provenance.json")})
        assert bucket._objects.keys() == whole._objects.keys()  # only the rest, and no garbage
        assert read_tree(pull(bucket, "hands", "latest", tmp_path / f"{puts}").path) == FILES
        verify_remote(bucket, "hands", deep=True)


def test_a_lost_answer_to_the_commit_that_is_retried_is_success(tree):
    class Deaf(MemoryBucket):
        """As when boto3 repeats a put that went through."""

        def put(self, key, body, **options):
            if "/releases/" in key:
                super().put(key, body, **options)
            return super().put(key, body, **options)

    assert put(Deaf(), tree).status == "published"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_publishing_the_same_again_changes_nothing(tree, layout):
    bucket = MemoryBucket()
    first = put(bucket, tree, layout=layout)
    before = dict(bucket._objects)
    again = push(bucket, tree, "hands", "1.0.0", created="2027-01-01T00:00:00+00:00")
    assert again.status == "already published"
    assert again.record == first.record
    assert again.plan.move == ()
    assert bucket._objects == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_data_from_another_commit_is_already_published(tree, tmp_path, layout):
    bucket = MemoryBucket()
    put(bucket, tree, layout=layout)
    rebuilt = make_tree(tmp_path / "rebuilt", {"provenance.json": b'{"commit":"def"}\n'})
    before = dict(bucket._objects)
    assert put(bucket, rebuilt).status == "already published"
    assert bucket._objects == before  # and no garbage


def test_a_version_never_changes(tree, tmp_path):
    bucket = MemoryBucket()
    put(bucket, tree)
    before = dict(bucket._objects)
    other = make_tree(tmp_path / "other", {"README.md": b"# Other\n"})
    with pytest.raises(VersionConflict, match=r"hands 1\.0\.0 is published with other content"):
        put(bucket, other)
    assert bucket._objects == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_next_version_sends_only_what_changed(tree, tmp_path, layout):
    bucket = MemoryBucket()
    put(bucket, tree, layout=layout)
    nxt = make_tree(tmp_path / "next", {"annotations/instances_val.json": b"better"})
    pushed = put(bucket, nxt, "1.1.0", layout=layout)
    assert [e.path for e in pushed.plan.move] == ["annotations/instances_val.json"]
    assert [str(v) for v in versions(bucket, "hands")] == ["1.0.0", "1.1.0"]
    # the file lists of other splits are shared too
    assert sum(k.startswith("manifests/") for k in bucket._objects) == 5
    verify_remote(bucket, "hands", deep=True)


@pytest.mark.parametrize("listing", ["true", "stale", "too long"])
def test_listing_saves_requests_and_is_not_believed(tree, monkeypatch, listing):
    class Lists(MemoryBucket):
        heads = 0

        def list(self, prefix=""):
            if prefix == stored("") and listing == "stale":
                return iter(())
            return super().list(prefix)

        def head(self, key):
            self.heads += key in {stored(p) for p in FILES if p != "provenance.json"}
            return super().head(key)

    bucket = Lists()
    if listing == "too long":
        for n in range(50 * len(FILES) + 1):
            bucket._objects[stored(f"junk/{n}")] = b""
    key = stored("README.md")
    bucket._objects[key] = b"# Hands"  # one byte short
    assert put(bucket, tree).status == "published"
    assert bucket._objects[key] == FILES["README.md"]
    assert bucket.heads == (len(FILES) - 1 if listing == "too long" else 1)
    verify_remote(bucket, "hands", deep=True)


def test_equal_files_are_sent_once(tmp_path):
    tree = make_tree(tmp_path / "t", {"val/images/copy.jpg": FILES["train/images/000001.jpg"]})
    assert len(put(MemoryBucket(), tree).plan.move) == len(FILES)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dry_run_sends_nothing_and_says_what_it_would(tree, layout):
    bucket = MemoryBucket()
    planned = put(bucket, tree, layout=layout, dry_run=True)
    assert bucket._objects == {}
    assert planned.status == "planned"
    assert planned.plan.move_bytes == sum(map(len, FILES.values()))
    done = put(bucket, tree, layout=layout).plan
    assert (planned.plan.requests, planned.plan.transfer) == (done.requests, done.transfer)
    assert done.requests == len(contents(bucket) - {stored("provenance.json")})
    assert put(bucket, tree, layout=layout, dry_run=True).plan.move == ()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: bytes([b[0] ^ 1]) + b[1:], None])
@pytest.mark.parametrize(
    ("layout", "kind"),
    [(a, b) for a in LAYOUTS for b in ("blobs/", "datasets/hands/v", "manifests/", "index/")]
    + [("packs", "packs/")],
)
def test_pushing_again_puts_back_what_the_bucket_lost(tree, kind, damage, layout):
    bucket = MemoryBucket()
    put(bucket, tree, layout=layout)
    whole = dict(bucket._objects)
    assert any(k.startswith(kind) for k in whole)
    for key in (k for k in whole if k.startswith(kind)):
        good = bucket._objects.pop(key)
        if damage:
            bucket._objects[key] = damage(good)
        assert put(bucket, tree).status == "already published"
        assert bucket._objects == whole


def test_a_lost_index_is_made_again_though_a_later_version_holds_the_same_elsewhere(tree):
    """Found by tests/bucket/test_histories.py: intact indexes were taken for the lost one."""
    bucket = MemoryBucket()
    put(bucket, tree, layout="packs")
    later = "2026-01-02T12:00:00+00:00"
    push(bucket, tree, "hands", "1.1.0", created=later, layout="plain")
    whole = dict(bucket._objects)
    record = resolve(bucket, "hands", "1.0.0")
    keys = [index_key(s.index) for s in record.shards.values()]
    for lost in ([key] for key in keys), [keys]:
        for some in lost:
            for key in some:
                del bucket._objects[key]
            assert put(bucket, tree).status == "already published"
            assert bucket._objects == whole
    verify_remote(bucket, "hands", "1.0.0", deep=True)


def test_a_channel_only_moves_forward(tree, tmp_path):
    bucket = MemoryBucket()
    patched = make_tree(tmp_path / "patched", {"README.md": b"patched\n"})
    put(bucket, tree, "1.10.0")
    put(bucket, patched, "1.9.1")
    put(bucket, tree, "2.0.0-rc.1", channel="next")
    put(bucket, tree, "1.10.0", channel="stable")
    put(bucket, tree, "3.0.0", channel=None)
    points = {name: str(v) for name, v in channels(bucket, "hands").items()}
    assert points == {"latest": "1.10.0", "next": "2.0.0-rc.1", "stable": "1.10.0"}


def test_a_channel_that_moved_since_it_was_read_is_read_again(tree):
    class Overtaken(MemoryBucket):
        """A newer version comes out between our look at the channel and our put."""

        def put(self, key, body, **options):
            if "/channels/" in key and b"1.1.0" in body and options.get("if_match"):
                put(self, tree, "2.0.0")
            return super().put(key, body, **options)

    bucket = Overtaken()
    put(bucket, tree, "1.0.0")
    put(bucket, tree, "1.1.0")
    assert resolve(bucket, "hands", "latest").version == "2.0.0"


def test_a_short_blob_is_replaced_where_the_bucket_keeps_no_checksums(tree):
    class Plain(MemoryBucket):
        def head(self, key):
            return replace(super().head(key), sha256=None)

    bucket = Plain()
    key = stored("README.md")
    bucket._objects[key] = b"# Han"
    put(bucket, tree)
    assert bucket._objects[key] == FILES["README.md"]


def test_many_publishers_leave_the_channel_at_the_newest(tree):
    bucket = MemoryBucket()
    at_once(6, lambda n: put(bucket, tree, f"1.{n}.0"))
    assert resolve(bucket, "hands", "latest").version == "1.5.0"
    assert len(versions(bucket, "hands")) == 6


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        (lambda t: (t / "README.md").unlink(), ["README.md"]),
        (lambda t: (t / "README.md").write_bytes(b"# Hamds\n"), ["README.md"]),
        (lambda t: (t / "val" / "extra.jpg").write_bytes(b""), ["val/extra.jpg"]),
        (lambda t: (t / "link").symlink_to("/etc"), ["link"]),
    ],
    ids=["missing", "changed", "extra", "link"],
)
def test_a_tree_that_is_not_its_manifest_is_refused(tree, change, paths):
    change(tree)
    bucket = MemoryBucket()
    with pytest.raises(IntegrityError) as caught:
        put(bucket, tree)
    assert list(caught.value.paths) == paths
    assert paths[0] in str(caught.value)
    assert bucket._objects == {}


@pytest.mark.parametrize("small", [2**23, 0], ids=["from memory", "streamed"])
@pytest.mark.parametrize("checks", [True, False], ids=["checksums", "no checksums"])
def test_a_file_that_changes_while_it_is_sent_is_caught(tree, monkeypatch, small, checks):
    class Meddled(MemoryBucket):
        """Somebody writes to the tree after the push has hashed it."""

        def list(self, prefix=""):
            (tree / "README.md").write_bytes(b"# Hamds\n")
            return super().list(prefix)

        def put(self, key, body, *, sha256=None, **options):
            return super().put(key, body, sha256=sha256 if checks else None, **options)

    monkeypatch.setattr(sending, "SMALL", small)
    bucket = Meddled()
    with pytest.raises(IntegrityError, match=r"README\.md changed while") as caught:
        put(bucket, tree)
    assert list(caught.value.paths) == ["README.md"]
    assert versions(bucket, "hands") == ()
    assert stored("README.md") not in bucket._objects


@pytest.mark.parametrize("is_dry", [True, False], ids=["dry run", "push"])
def test_all_small_files_that_are_wrong_are_named_though_each_is_read_once(tmp_path, is_dry):
    tree, bucket = many(tmp_path / "tree"), MemoryBucket()
    wrong = ["README.md", "train/images/0001.jpg", "train/images/0007.jpg"]
    right = {path: (tree / path).read_bytes() for path in wrong}
    for path in wrong:
        (tree / path).write_bytes(b"#" * len(right[path]))
    with pytest.raises(IntegrityError) as caught:
        put(bucket, tree, layout="packs", dry_run=is_dry)
    assert list(caught.value.paths) == wrong
    assert versions(bucket, "hands") == ()
    assert not any(b"###" in body for body in packs_in(bucket).values())

    for path, body in right.items():
        (tree / path).write_bytes(body)
    assert put(bucket, tree, layout="packs").status == "published"
    verify_remote(bucket, "hands", deep=True)


@pytest.mark.parametrize("which", ["large", "kept"])
def test_a_wrong_file_that_goes_into_no_pack_is_found_before_anything_is_sent(tmp_path, which):
    bucket, large = MemoryBucket(), b"large" * 2**18
    put(bucket, many(tmp_path / "first"), layout="packs")
    files = {"train/images/new.jpg": b"new", "train/images/large.tif": large}
    tree, before = many(tmp_path / "second", **files), set(bucket._objects)
    path = {"large": "train/images/large.tif", "kept": "train/images/0007.jpg"}[which]
    (tree / path).write_bytes((tree / path).read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=f"changed: {path}") as caught:
        put(bucket, tree, "1.1.0", layout="packs")
    assert list(caught.value.paths) == [path]
    assert set(bucket._objects) == before


def test_of_a_version_that_stands_every_file_is_still_hashed(tmp_path):
    bucket, tree = MemoryBucket(), many(tmp_path / "tree")
    put(bucket, tree, layout="packs")
    (tree / "train/images/0007.jpg").write_bytes(b"picture 9")
    with pytest.raises(IntegrityError, match="changed: train/images/0007"):
        put(bucket, tree, layout="packs")


def test_large_files_are_streamed_and_sound(tree, monkeypatch):
    monkeypatch.setattr(sending, "SMALL", 0)
    bucket = MemoryBucket()
    put(bucket, tree)
    verify_remote(bucket, "hands", deep=True)


def test_what_cannot_be_published(tree, tmp_path):
    bucket = MemoryBucket()
    for name, version, channel in [("Hands", "1.0.0", "a"), ("h", "1.0", "a"), ("h", "1.0.0", "A")]:
        with pytest.raises(UsageError):
            push(bucket, tree, name, version, created=NOON, channel=channel)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is no release"):
        put(bucket, tmp_path / "empty")
    put(bucket, tree)
    part = pull(bucket, "hands", "1.0.0", tmp_path / "part", splits=["val"])
    with pytest.raises(UsageError, match="only a part of a version"):
        put(bucket, part.path, "2.0.0")
    (tree / "manifest.json").write_bytes(b"{}")
    with pytest.raises(FormatError):
        put(bucket, tree)


def test_a_pulled_release_can_be_pushed_elsewhere(tree, tmp_path):
    bucket, mirror = MemoryBucket(), LocalBucket(tmp_path / "mirror")
    root = put(bucket, tree).root
    there = push(mirror, pull(bucket, "hands", "1.0.0", tmp_path / "out").path, "h", "3.0.0",
                 created=NOON)  # fmt: skip
    assert there.root == root


def test_a_server_that_ignores_conditions_gets_no_byte(tree):
    class Ignores(MemoryBucket):
        def put(self, key, body, *, if_absent=False, **options):
            return super().put(key, body, **options)

    bucket = Ignores()
    with pytest.raises(StorageError, match="ignores If-None-Match"):
        put(bucket, tree)
    assert list(bucket._objects) == ["publisher.json"]


def test_two_who_publish_one_version_with_different_content(opened, tmp_path):
    trees = [make_tree(tmp_path / f"t{n}", {"README.md": b"by %d" % n}) for n in range(2)]
    for round_ in range(3):
        version, won, lost = f"1.{round_}.0", [], []

        def race(n: int, version=version, won=won, lost=lost) -> None:
            try:
                won.append((n, put(opened(), trees[n], version).root))
            except VersionConflict:
                lost.append(n)

        at_once(2, race)
        assert (len(won), len(lost)) == (1, 1)
        winner, root = won[0]
        bucket = opened()
        assert resolve(bucket, "hands", version).root == root
        out = pull(bucket, "hands", version, tmp_path / f"out{round_}").path
        assert read_tree(out) == read_tree(trees[winner])


def test_two_who_publish_one_version_with_the_same_content(opened, tree):
    statuses = []
    at_once(2, lambda _: statuses.append(put(opened(), tree).status))
    assert set(statuses) <= {"published", "already published"}
    assert len(statuses) == 2
    verify_remote(opened(), "hands", deep=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_life_on_every_bucket(opened, tree, tmp_path, layout):
    bucket, numbers = opened(), count()
    put(bucket, tree, layout=layout)
    nxt = make_tree(tmp_path / "next", {"val/images/000003.jpg": b"better picture"})
    assert len(put(bucket, nxt, "1.1.0", layout=layout).plan.move) == 1
    for selector, version in [("latest", "1.1.0"), ("^1.0", "1.1.0"), ("1.0.0", "1.0.0")]:
        assert resolve(bucket, "hands", selector).version == version
    out = pull(bucket, "hands", "latest", tmp_path / f"{next(numbers)}", splits=["val"])
    assert out.manifest.root == Manifest.from_bytes((nxt / "manifest.json").read_bytes()).root
    out.verify()
    verify_remote(bucket, "hands")
    body = b"better picture"
    wrong = next(o.key for o in bucket.list() if o.size == len(body) and bucket.get(o.key) == body)
    bucket.put(wrong, b"BETTER picture")
    with pytest.raises(IntegrityError) as caught:
        verify_remote(bucket, "hands", deep=True)
    assert list(caught.value.paths) == ["val/images/000003.jpg"]
    with pytest.raises(PublisherError, match=r"val/images/000003\.jpg"):
        pull(bucket, "hands", "latest", tmp_path / f"{next(numbers)}")


# ── packs ────────────────────────────────────────────────────────────────────────────────────


def packs_in(bucket: MemoryBucket) -> dict[str, bytes]:
    return {k: b for k, b in bucket._objects.items() if k.startswith("packs/")}


def many(folder, count=50, **changes):
    """A tree with that many pictures of some bytes."""
    pictures = {f"train/images/{n:04}.jpg": b"picture %d" % n * 20 for n in range(count)}
    return make_tree(folder, {**pictures, **changes})


def test_anyone_can_unpack_a_pack(tmp_path):
    bucket = MemoryBucket()
    put(bucket, many(tmp_path / "tree"), layout="packs")
    found = {}
    for key, body in packs_in(bucket).items():
        assert key == f"packs/{key[6:8]}/{hashlib.sha256(body).hexdigest()}.tar"
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            names = [m.name for m in tar]
            assert names == sorted(names)
            assert len({("/images/" in n, "val" in n) for n in names}) == 1
            found |= {n: tar.extractfile(n).read() for n in names}
    tree = read_tree(tmp_path / "tree")
    assert found.items() <= tree.items()
    assert {"train/images/0000.jpg", "train/images/session 2/ä.jpg"} <= found.keys()


def test_the_same_files_make_the_same_objects_wherever_they_are(tmp_path):
    stores = []
    for n in range(2):
        bucket = MemoryBucket()
        put(bucket, many(tmp_path / f"t{n}"), layout="packs")
        stores.append(bucket._objects)
    assert stores[0] == stores[1]


def test_a_new_version_leaves_the_old_packs_alone_and_sends_one_more(tmp_path):
    bucket = MemoryBucket()
    put(bucket, many(tmp_path / "t1"), layout="packs")
    before = dict(bucket._objects)
    tree = many(tmp_path / "t2", **{"train/images/new1.jpg": b"new", "train/images/new2.jpg": b"2"})
    pushed = put(bucket, tree, "1.1.0", layout="packs")
    assert [e.path for e in pushed.plan.move] == ["train/images/new1.jpg", "train/images/new2.jpg"]
    assert pushed.plan.requests == 1
    new = bucket._objects.keys() - before.keys()
    kinds = sorted(k.split("/")[0] for k in new)
    # one pack, the list and the index of train, the record, and three documents
    assert kinds == ["datasets"] * 4 + ["index", "manifests", "packs"]
    verify_remote(bucket, "hands", "1.0.0", deep=True)
    verify_remote(bucket, "hands", "1.1.0", deep=True)


def test_new_annotations_send_no_picture(tmp_path):
    bucket = MemoryBucket()
    put(bucket, many(tmp_path / "t1"), layout="packs")
    pictures = next(k for k, b in packs_in(bucket).items() if b"picture 7" in b)
    tree = many(tmp_path / "t2", **{"annotations/instances_train.json": b"better"})
    assert put(bucket, tree, "1.1.0", layout="packs").plan.move_bytes == len(b"better")
    assert sum(b"picture 7" in b for b in packs_in(bucket).values()) == 1
    assert pictures in bucket._objects


def test_a_list_that_is_older_than_what_it_lists_ends_no_push(tmp_path):
    class Stale(MemoryBucket):
        """Lists nothing of what is there, from the moment an index was put."""

        is_stale = False

        def put(self, key, body, **options):
            self.is_stale |= key.startswith("index/")
            return super().put(key, body, **options)

        def list(self, prefix=""):
            return iter(()) if self.is_stale and prefix == "packs/" else super().list(prefix)

    bucket = Stale()
    put(bucket, many(tmp_path / "t1"), layout="packs")
    bucket.is_stale = False
    later = many(tmp_path / "t2", count=60)
    assert put(bucket, later, "1.1.0", layout="packs").status == "published"
    verify_remote(bucket, "hands", "1.1.0", deep=True)


def test_content_that_comes_back_from_an_older_version_is_not_sent_again(tmp_path):
    bucket = MemoryBucket()
    first = many(tmp_path / "t1")
    put(bucket, first, "1.0.0", layout="packs")
    put(bucket, many(tmp_path / "t2", **{"README.md": b"worse"}), "1.1.0", layout="packs")
    assert put(bucket, first, "1.2.0", layout="packs").plan.move == ()


def test_what_an_earlier_version_has_lost_is_sent_again_by_the_next(tmp_path):
    bucket = MemoryBucket()
    put(bucket, many(tmp_path / "t1"), layout="packs")
    lost = next(k for k, b in packs_in(bucket).items() if b"picture 7" in b)
    del bucket._objects[lost]
    put(bucket, many(tmp_path / "t2", **{"README.md": b"new"}), "1.1.0", layout="packs")
    verify_remote(bucket, "hands", "1.1.0", deep=True)


def test_a_lost_pack_is_put_back_by_the_version_that_made_it(tmp_path):
    bucket = MemoryBucket()
    first, second = many(tmp_path / "t1"), many(tmp_path / "t2")
    put(bucket, first, "1.0.0", layout="packs")
    gone = "train/images/0003.jpg"
    (second / gone).unlink()
    files = {p: b for p, b in read_tree(second).items() if p != gone}
    (second / "manifest.json").write_bytes(manifest(files).to_bytes())
    assert put(bucket, second, "1.1.0", layout="packs").plan.move == ()
    whole = dict(bucket._objects)
    lost = next(k for k, b in packs_in(bucket).items() if b"picture 7" in b)
    del bucket._objects[lost]
    with pytest.raises(IntegrityError, match="alone do not make it"):
        put(bucket, second, "1.1.0")
    assert put(bucket, first, "1.0.0").status == "already published"
    assert bucket._objects == whole


def test_an_unchanged_push_asks_little(tmp_path):
    class Counts(MemoryBucket):
        asked = 0

        def _count(name):
            def call(self, *args, **options):
                self.asked += 1
                return getattr(MemoryBucket, name)(self, *args, **options)

            return call

        get, head, put, list = map(_count, ("get", "head", "put", "list"))

    for layout in LAYOUTS:
        bucket = Counts()
        tree = many(tmp_path / layout, 1_000)
        put(bucket, tree, layout=layout)
        bucket.asked = 0
        put(bucket, tree)
        assert bucket.asked <= 41


def test_a_dataset_that_has_grown_too_large_for_a_tree_keeps_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "PLAIN_FILES", 60)
    bucket = MemoryBucket()
    assert put(bucket, many(tmp_path / "t1", 50)).layout == "plain"
    grown = put(bucket, many(tmp_path / "t2", 70), "1.1.0")
    assert grown.layout == "packs"
    assert len(grown.plan.move) == 20
    assert read_tree(pull(bucket, "hands", "1.1.0", tmp_path / "out").path) == read_tree(
        tmp_path / "t2"
    )


# ── plain trees ──────────────────────────────────────────────────────────────────────────────


def copied(bucket: MemoryBucket, version: str, to):
    """What `aws s3 cp --recursive` of a version's folder gives."""
    for o in bucket.list(stored("", version)):
        path = to / o.key.removeprefix(stored("", version))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.get(o.key))
    return to


def test_the_folder_of_a_small_version_is_its_tree(tree, tmp_path):
    bucket = MemoryBucket()
    twice = {"val/images/copy.jpg": FILES["train/images/000001.jpg"]}
    tree = make_tree(tmp_path / "twice", twice)
    put(bucket, tree)
    nxt = make_tree(tmp_path / "next", {**twice, "README.md": b"better"})
    put(bucket, nxt, "1.1.0")
    for version, source in (("1.0.0", tree), ("1.1.0", nxt)):
        out = copied(bucket, version, tmp_path / version)
        beside = {"SHA256SUMS", "urls.txt", "get.py"}
        assert {p: b for p, b in read_tree(out).items() if p not in beside} == read_tree(source)
        verify_folder(out)
        assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out).returncode == 0


def test_files_are_kept_once(tree):
    bucket = MemoryBucket()
    put(bucket, tree)
    for path, body in FILES.items():
        if path != "provenance.json":
            assert [k for k, b in bucket._objects.items() if b == body] == [stored(path)]


def test_browsers_get_pictures_as_pictures(tree, tmp_path):
    told = {}

    class Told(MemoryBucket):
        def put(self, key, body, **options):
            told[key] = options.get("content_type"), options.get("cache_control")
            return super().put(key, body, **options)

    put(Told(), tree)
    assert told[stored("train/images/000001.jpg")] == (
        "image/jpeg",
        "public, max-age=31536000, immutable",
    )
    assert told[stored("README.md")][0] == "text/markdown; charset=utf-8"
    assert told[stored("annotations/instances_val.json")][0] == "application/json"
    assert told["datasets/hands/channels/latest.json"] == ("application/json", "no-cache")


def test_a_tree_half_put_by_a_push_that_never_ended_does_not_stay(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)
    bucket = FailsAfter(10)
    with pytest.raises(StorageError):
        put(bucket, make_tree(tmp_path / "other", {"README.md": b"# Other\n"}))
    assert len(contents(bucket)) == 5
    bucket.left = 10_000
    pushed = put(bucket, tree)
    assert (pushed.status, pushed.layout) == ("published", "packs")  # that folder is taken
    assert {p.removeprefix(stored("")) for p in bucket._objects if p.startswith(stored(""))} == {
        "SHA256SUMS",
        "urls.txt",
        "get.py",
    }
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "out").path) == FILES
    assert put(bucket, tree).status == "already published"


def test_who_comes_too_late_leaves_nothing_in_the_folder(tree, tmp_path):
    class Overtaken(MemoryBucket):
        """Another content becomes the version while ours is sent."""

        def put(self, key, body, **options):
            if "/releases/" in key and b"overtaker" not in body:
                self.put = super().put
                other = make_tree(tmp_path / "other", {"README.md": b"# Other\n"})
                push(self, other, "hands", "1.0.0", created="overtaker")
            return super().put(key, body, **options)

    bucket = Overtaken()
    with pytest.raises(VersionConflict):
        put(bucket, tree)
    assert {k for k in bucket._objects if k.startswith(stored(""))} == {
        stored("SHA256SUMS"),
        stored("urls.txt"),
        stored("get.py"),
    }
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "out").path) == read_tree(
        tmp_path / "other"
    )


def test_who_differs_in_splits_alone_and_comes_too_late_removes_nothing(tree, tmp_path):
    """The same files make the same list of checksums, so both fill one folder."""
    other = make_tree(tmp_path / "other")
    moved = [
        Entry(e.path, e.size, e.sha256, "val") if e.path == "README.md" else e
        for e in manifest().entries
    ]
    (other / "manifest.json").write_bytes(Manifest("hands", tuple(moved)).to_bytes())

    class Overtaken(MemoryBucket):
        def put(self, key, body, **options):
            if "/releases/" in key and b"overtaker" not in body:
                self.put = super().put
                push(self, other, "hands", "1.0.0", created="overtaker")
            return super().put(key, body, **options)

    bucket = Overtaken()
    with pytest.raises(VersionConflict):
        put(bucket, tree)
    assert read_tree(pull(bucket, "hands", "1.0.0", tmp_path / "out").path) == FILES


def test_a_plain_push_that_was_cut_short_may_be_ended_in_packs(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)
    bucket = FailsAfter(9)
    with pytest.raises(StorageError):
        put(bucket, tree)
    bucket.left = 10_000
    put(bucket, tree, layout="packs")
    assert sorted(k for k in bucket._objects if k.startswith(stored(""))) == sorted(
        map(stored, ["SHA256SUMS", "urls.txt", "get.py"])
    )
    verify_remote(bucket, "hands", deep=True)


@pytest.mark.parametrize("path", ["SHA256SUMS", "Get.py", "x" * 200 + "/" + "y" * 600])
def test_names_that_cannot_lie_plainly_go_into_packs(tmp_path, path):
    if len(path) > 100:
        path = "/".join(["x" * 150] * 5)
    tree = make_tree(tmp_path / "t", {path: b"ours"})
    assert put(MemoryBucket(), tree).layout == "packs"
    with pytest.raises(UsageError, match="cannot lie plainly"):
        put(MemoryBucket(), tree, layout="plain")


def test_large_files_are_objects_of_their_own(tmp_path):
    bucket = MemoryBucket()
    big = bytes(range(256)) * 4096  # 1 MiB
    tree = make_tree(tmp_path / "t", {"train/images/big.png": big})
    put(bucket, tree, layout="packs")
    assert bucket._objects[f"blobs/{hashlib.sha256(big).hexdigest()[:2]}/"
                           f"{hashlib.sha256(big).hexdigest()}"] == big  # fmt: skip
    assert not any(len(b) > len(big) for b in packs_in(bucket).values())


def test_what_lies_in_the_bucket_is_called_as_it_was_pushed(tree):
    bucket = MemoryBucket()
    push(bucket, tree, "feet", "1.0.0", created=NOON, layout="plain")
    found = Manifest.from_bytes(bucket.get(tree_key("feet", "1.0.0", "manifest.json")))
    assert (found.name, found.root) == ("feet", manifest().root)
    assert is_script(bucket.get(tree_key("feet", "1.0.0", "get.py")))
    verify_remote(bucket, "feet", "1.0.0", deep=True)
