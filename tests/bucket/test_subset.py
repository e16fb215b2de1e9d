"""Pull by category: which pictures come, and what reads the folder then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from publisher import api
from publisher.bucket import consume
from publisher.bucket.cache import Cache
from publisher.bucket.comparing import compare
from publisher.bucket.consume import open_release, plan_pull, pull, verify_folder
from publisher.bucket.publish import push
from publisher.bucket.subset import subset
from publisher.errors import FormatError, IntegrityError, UsageError
from publisher.storage import MemoryBucket
from publisher.versions.partial import WHOLE
from tests.releases import Watched, built, dataset, edited
from tests.trees import entry, make_tree, manifest, read_tree

NOON = "2026-01-01T12:00:00+00:00"
ANNOTATIONS = {"annotations/instances_train.json", "annotations/panoptic_train.json"}
ROWS = "train/metadata.jsonl"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Eight images, four of them in train, of which only b.jpg shows a table beside its hand."""
    home = tmp_path_factory.mktemp("tree")
    return built(dataset(home / "data", images=8), home / "release")


@pytest.fixture(params=["packs", "plain"])
def bucket(tree, request) -> Watched:
    bucket = Watched()
    push(bucket, tree, "hands", "1.0.0", created=NOON, layout=request.param)
    return bucket


def pictures(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*.jpg")}


def names_in(path: Path) -> list[str]:
    return sorted(i["file_name"] for i in json.loads(path.read_bytes())["images"])


def test_only_pictures_that_show_it_come_with_their_maps_and_annotations(bucket, tmp_path, tree):
    release = pull(bucket, "hands", "1.0.0", tmp_path / "out", categories=["table"])
    assert pictures(release.path) == {"train/images/b.jpg"}
    assert [p.name for p in release.path.rglob("*.png")] == ["b.png"]
    assert release.categories == ("table",)
    coco = COCO(release / "annotations/instances_train.json")
    assert [i["file_name"] for i in coco.loadImgs(coco.getImgIds())] == ["b.jpg"]
    shown = {coco.loadCats(a["category_id"])[0]["name"] for a in coco.loadAnns(coco.getAnnIds())}
    assert shown == {"hand", "table"}  # all that the picture shows
    whole = COCO(tree / "annotations/instances_train.json")
    assert coco.loadCats(coco.getCatIds()) == whole.loadCats(whole.getCatIds())
    assert coco.loadAnns(coco.getAnnIds()) == whole.loadAnns(
        whole.getAnnIds(imgIds=coco.getImgIds())
    )
    assert names_in(release.path / "annotations/panoptic_train.json") == ["b.jpg"]
    rows = (release.path / ROWS).read_text().splitlines()
    assert [json.loads(row)["file_name"] for row in rows] == ["images/b.jpg"]
    assert names_in(release.path / "annotations/instances_val.json") == []


def test_it_says_that_it_is_a_part_verifies_and_keeps_what_was_published(bucket, tmp_path, tree):
    out = tmp_path / "out"
    pull(bucket, "hands", "1.0.0", out, splits=["train"], categories=["table"])
    assert json.loads((out / ".publisher.json").read_bytes())["categories"] == ["table"]
    assert open_release(out).categories == ("table",)
    verify_folder(out)
    for path in (*ANNOTATIONS, ROWS):
        assert (out / WHOLE / path).read_bytes() == (tree / path).read_bytes()
    with pytest.raises(UsageError, match="only a part of a version"):
        push(bucket, out, "hands", "2.0.0", created=NOON)
    with pytest.raises(UsageError, match="only some categories"):
        compare(str(out), str(tree))


@pytest.mark.parametrize(
    "path",
    ["train/images/b.jpg", "annotations/instances_train.json", f"{WHOLE}/{ROWS}", "README.md"],
)
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_damage_to_a_part_is_found_and_put_right(bucket, tmp_path, path, how):
    out = tmp_path / "out"
    pull(bucket, "hands", "1.0.0", out, splits=["train"], categories=["table"])
    good = read_tree(out)
    (out / path).unlink()
    if how == "changed":
        (out / path).write_bytes(b"scribbled")
    with pytest.raises(IntegrityError, match=path):
        verify_folder(out)
    pull(bucket, "hands", "1.0.0", out, splits=["train"], categories=["table"])
    verify_folder(out)
    assert read_tree(out) == good


def test_a_picture_too_many_is_no_part_of_it(bucket, tmp_path, tree):
    out = tmp_path / "out"
    pull(bucket, "hands", "1.0.0", out, splits=["train"], categories=["table"])
    (out / "train/images/a.jpg").write_bytes((tree / "train/images/a.jpg").read_bytes())
    with pytest.raises(IntegrityError, match=r"not in the manifest: train/images/a\.jpg"):
        verify_folder(out)


def test_a_plain_pull_completes_it_and_fetches_only_the_rest(bucket, tmp_path, tree):
    out = tmp_path / "out"
    part = pull(bucket, "hands", "1.0.0", out, categories=["table"])
    bucket.seen.clear()
    release = pull(bucket, "hands", "1.0.0", out)
    assert read_tree(out) == read_tree(tree)
    assert (release.categories, release.splits) == ((), ("holdout", "train", "val"))
    assert not (out / WHOLE).exists()
    release.verify()
    both = [*part.plan.move, *release.plan.move]
    assert len(both) == len(manifest_of(tree))  # nothing came twice
    back = pull(bucket, "hands", "1.0.0", tmp_path / "other", categories=["table"])
    assert back.plan.requests == part.plan.requests


def manifest_of(tree: Path) -> list[str]:
    return [f["path"] for f in json.loads((tree / "manifest.json").read_bytes())["files"]]


def test_more_categories_and_splits_of_the_same_version_are_added(bucket, tmp_path):
    out = tmp_path / "out"
    pull(bucket, "hands", "1.0.0", out, splits=["train"], categories=["table"])
    release = pull(bucket, "hands", "1.0.0", out, splits=["val"], categories=["hand"])
    assert (release.splits, release.categories) == (("train", "val"), ("hand", "table"))
    assert names_in(out / "annotations/instances_val.json") == ["c.jpg", "g.jpg"]
    assert len(pictures(out)) == 6
    release.verify()


def test_what_is_added_is_still_added_after_it_was_cut_short(bucket, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pull(bucket, "hands", "1.0.0", out, splits=["train"], categories=["table"])

    def stop(key, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "read", stop)
        with pytest.raises(KeyboardInterrupt):
            pull(bucket, "hands", "1.0.0", out, splits=["val"], categories=["hand"])
    release = pull(bucket, "hands", "1.0.0", out, splits=["val"], categories=["hand"])
    assert (release.splits, release.categories) == (("train", "val"), ("hand", "table"))
    assert len(pictures(out)) == 6
    release.verify()


def test_a_folder_with_whole_splits_stays_whole(bucket, tmp_path):
    out = tmp_path / "out"
    pull(bucket, "hands", "1.0.0", out, splits=["train"])
    same = pull(bucket, "hands", "1.0.0", out, splits=["train"], categories=["table"])
    assert (same.categories, len(pictures(out)), len(same.plan.move)) == ((), 4, 0)
    with pytest.raises(UsageError, match="has all pictures of train") as caught:
        pull(bucket, "hands", "1.0.0", out, splits=["val"], categories=["table"])
    assert "--category" in caught.value.hint


def test_another_version_of_the_same_categories_follows(tmp_path, tree):
    bucket, out = Watched(), tmp_path / "out"
    push(bucket, tree, "hands", "1.0.0", created=NOON)
    more = edited(
        dataset(tmp_path / "data", images=8),
        lambda rows: rows[0]["segments"].append({**rows[1]["segments"][1], "id": 99}),
    )
    push(bucket, built(more, tmp_path / "release"), "hands", "1.1.0", created=NOON)
    pull(bucket, "hands", "1.0.0", out, categories=["table"])
    release = pull(bucket, "hands", "1.1.0", out, categories=["table"])
    assert pictures(out) == {"train/images/a.jpg", "train/images/b.jpg"}
    assert "train/images/b.jpg" in {e.path for e in release.plan.keep}
    release.verify()
    pull(bucket, "hands", "1.0.0", out, categories=["table"]).verify()
    assert pictures(out) == {"train/images/b.jpg"}


def test_not_everything_is_read_to_decide(tmp_path, tree):
    bucket = Watched()
    push(bucket, tree, "hands", "1.0.0", created=NOON, layout="plain")
    bucket.seen.clear()
    pull(bucket, "hands", "1.0.0", tmp_path / "out", categories=["table"])
    read = [k.partition("/v1.0.0/")[2] for k in bucket.seen if "/v1.0.0/" in k]
    assert {p for p in read if p.endswith((".jpg", ".png"))} == {
        "train/images/b.jpg",
        "train/panoptic/b.png",
    }
    assert len(read) == len(set(read))  # nothing twice, the annotation files neither


def test_a_dry_run_says_what_a_pull_then_does(bucket, tmp_path):
    out, cache = tmp_path / "out", Cache(tmp_path / "cache", 2**30)
    planned = plan_pull(bucket, "hands", "1.0.0", out, categories=["table"])
    assert not out.exists()
    release = pull(bucket, "hands", "1.0.0", out, categories=["table"], cache=cache)
    assert release.plan == planned.plan
    again = plan_pull(bucket, "hands", "1.0.0", out, categories=["table"])
    assert (again.plan.move, again.plan.requests, again.plan.transfer) == ((), 0, 0)
    other = plan_pull(bucket, "hands", "1.0.0", tmp_path / "o", categories=["table"], cache=cache)
    assert (other.plan.move, other.plan.cached) == ((), planned.plan.move)


@pytest.mark.parametrize("after", range(14))
def test_cut_short_anywhere_it_goes_on_and_nothing_is_fetched_twice(tmp_path, tree, after):
    whole = MemoryBucket()
    push(whole, tree, "hands", "1.0.0", created=NOON, layout="plain")

    class Stops(MemoryBucket):
        def __init__(self, left: int) -> None:
            super().__init__()
            self._objects = whole._objects
            self.left = left
            self.read_keys: list[str] = []

        def read(self, key, **options):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.read_keys.append(key)
            return super().read(key, **options)

    out, cut, rest = tmp_path / "out", Stops(after), Stops(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("publisher.bucket.trees.THREADS", 1)
        try:
            pull(cut, "hands", "1.0.0", out, categories=["table"])
        except KeyboardInterrupt:
            with pytest.raises(UsageError):
                open_release(out)
        pull(rest, "hands", "1.0.0", out, categories=["table"]).verify()
    assert not set(cut.read_keys) & set(rest.read_keys)
    assert pictures(out) == {"train/images/b.jpg"}


@pytest.mark.parametrize("layout", ["packs", "plain"])
def test_every_kind_of_bucket_gives_a_category_and_a_cache_the_same_again(
    opened, tmp_path, tree, layout
):
    push(opened(), tree, "hands", "1.0.0", created=NOON, layout=layout)
    cache = Cache(tmp_path / "cache", 2**30)
    for out in ("a", "b"):
        release = pull(
            opened(), "hands", "1.0.0", tmp_path / out, categories=["table"], cache=cache
        )
        release.verify()
        assert pictures(release.path) == {"train/images/b.jpg"}
    assert (release.plan.move, release.plan.requests) == ((), 0)
    whole = pull(opened(), "hands", "1.0.0", tmp_path / "b", cache=cache)
    assert read_tree(whole.path) == read_tree(tree)


# ── what cannot be chosen by ─────────────────────────────────────────────────────────────────


def test_a_category_that_is_not_there_is_named_with_those_that_are(bucket, tmp_path):
    with pytest.raises(UsageError, match="no category 'tabel'") as caught:
        pull(bucket, "hands", "1.0.0", tmp_path / "out", categories=["hand", "tabel"])
    assert "hand, table" in caught.value.hint


def test_a_split_without_annotations_cannot_be_chosen_by(tmp_path):
    bucket = MemoryBucket()
    files = {"train/images/1.jpg": b"x"}
    tree = make_tree(tmp_path / "tree")
    for path in list(read_tree(tree)):
        (tree / path).unlink()
    (tree / "train/images/1.jpg").write_bytes(b"x")
    (tree / "manifest.json").write_bytes(manifest(files).to_bytes())
    push(bucket, tree, "hands", "1.0.0", created=NOON)
    with pytest.raises(UsageError, match="to choose by"):
        pull(bucket, "hands", "1.0.0", tmp_path / "out", categories=["hand"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"images":[{"id":1}],"annotations":[],"categories":[]}',
        b'{"images":[],"annotations":[{"image_id":[],"category_id":1}],"categories":[]}',
        b'{"images":[],"annotations":[],"categories":[{"id":1}]}',
        b'{"images":[],"annotations":[NaN],"categories":[]}',
        b'{"images":[],"annotations":[]} and more',
        b'{"annotations":' + b"[" * 100_000,
    ],
)
def test_annotation_files_that_are_none_are_an_error_that_names_them(tmp_path, body):
    name = "annotations/instances_train.json"
    (tmp_path / "annotations").mkdir()
    (tmp_path / name).write_bytes(body)
    with pytest.raises(FormatError, match=r"instances_train\.json"):
        subset([entry(name, body)], ["train"], ["hand"], lambda p: tmp_path / p[17:])


Ids = st.integers(0, 5)
Coco = st.fixed_dictionaries(
    {
        "images": st.lists(Ids, unique=True).map(
            lambda ids: [{"id": i, "file_name": f"{i}.jpg", "extra": "é\\n"} for i in ids]
        ),
        "annotations": st.lists(
            st.fixed_dictionaries({"image_id": Ids, "category_id": st.integers(1, 3)})
        ),
        "categories": st.just([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
        "info": st.dictionaries(st.text(), st.text() | st.integers()),
    }
)


@settings(deadline=None, max_examples=60)
@given(document=Coco, order=st.permutations(["images", "annotations", "categories", "info"]),
       space=st.sampled_from([None, 1]))  # fmt: skip
def test_a_document_keeps_the_rows_of_the_chosen_pictures_and_all_else(
    document, order, space, tmp_path_factory
):
    name, folder = "annotations/instances_train.json", tmp_path_factory.mktemp("d")
    body = json.dumps({k: document[k] for k in order}, indent=space).encode()
    (folder / "annotations").mkdir()
    (folder / name).write_bytes(body)
    entries = [entry(name, body), *(entry(f"train/images/{i}.jpg", b"%d" % i) for i in range(6))]
    chosen = subset(entries, ["train"], ["a"], lambda p: folder / p[17:])
    ids = {a["image_id"] for a in document["annotations"] if a["category_id"] == 1}
    (made,) = chosen.made
    text = b"".join(chosen.bodies[name]())
    assert (made.path, made.size) == (name, len(text))
    said = json.loads(text)
    assert list(said) == order
    assert said == {
        **document,
        "images": [i for i in document["images"] if i["id"] in ids],
        "annotations": [a for a in document["annotations"] if a["image_id"] in ids],
    }
    there = {f"train/images/{i['id']}.jpg" for i in document["images"] if i["id"] in ids}
    assert {e.path for e in chosen.files} == there


# ── Python and command line ──────────────────────────────────────────────────────────────────


def test_load_gives_the_pictures_of_a_category(tmp_path, tree):
    remote = f"file://{tmp_path}/bucket"
    push(api.open_bucket(remote), tree, "hands", "1.0.0", created=NOON)
    ref = f"{remote}/hands@1.0.0"
    some = api.load(ref, split="train", category="table", cache=tmp_path / "cache")
    assert [s.file_name for s in some] == ["b.jpg"]
    assert (some.images / "b.jpg").is_file()
    assert len(api.load(ref, split="train", cache=tmp_path / "cache")) == 4
    release = api.pull(ref, to=tmp_path / "out", category=["table", "hand"], cache=False)
    assert len(pictures(release.path)) == 8


def test_splits_in_another_order_are_the_same_part(tmp_path, tree):
    remote = f"file://{tmp_path}/bucket"
    push(api.open_bucket(remote), tree, "hands", "1.0.0", created=NOON)
    ref, cache = f"{remote}/hands@1.0.0", tmp_path / "cache"
    one, other = (api.load(ref, split=s, cache=cache) for s in (["train", "val"], ["val", "train"]))
    assert one.images == other.images
    assert len([p for p in (cache / "hands").glob("*/*") if not p.name.startswith(".")]) == 1


def test_the_command_line_fetches_a_category(tmp_path, tree, cli):
    remote = f"file://{tmp_path}/bucket"
    cli("push", tree, f"{remote}/hands", "--version", "1.0.0")
    pull = ("pull", f"{remote}/hands@1.0.0", "-o", tmp_path / "out", "--category", "table")
    assert "would fetch" in cli(*pull, "--dry-run").stderr
    said = json.loads(cli(*pull, "--json").stdout)
    assert said["categories"] == ["table"]
    assert said["fetched"]["files"] == len(read_tree(tmp_path / "out")) - 9  # the files it made
    assert cli("verify", tmp_path / "out").exit_code == 0
    assert "no category 'x'" in cli(*pull, "--category", "x", code=2).stderr


def test_what_the_folder_holds_is_read_like_any_release(bucket, tmp_path):
    release = pull(bucket, "hands", "1.0.0", tmp_path / "out", categories=["table"])
    read = api.read(release.path)
    assert [s.file_name for s in read] == ["b.jpg"]
    assert consume.open_release(release.path) == release
