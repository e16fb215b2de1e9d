"""Build: the release tree, complete, exact, deterministic."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from publisher import workspace
from publisher.card import Card, parse
from publisher.errors import InvalidDataset, OverlapError
from publisher.images import strip_metadata
from publisher.panoptic import ids_from_rgb
from publisher.stages import dealing, intake, release
from tests.makers import coco_document, coco_folder, cvat_polygon, cvat_zip, picture, zipped
from tests.truth import DATA

CARD = Card(name="hands", license="CC-BY-4.0")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """The real CVAT project, imported and split."""
    folder = tmp_path_factory.mktemp("split")
    intake.take_in([DATA / "project__cvat-for-images-1.1.zip"], folder / "in")
    dealing.run(folder / "in", folder / "out", "train=0.8,val=0.1,test=0.1", folder / "lock")
    return workspace.read(folder / "out")


@pytest.fixture(scope="module")
def tree(split, tmp_path_factory):
    out = tmp_path_factory.mktemp("release") / "hands"
    release.build(split, out, CARD)
    return out


def test_the_tree_is_the_one_that_is_documented(tree):
    top = {p.name for p in tree.iterdir()}
    assert {"README.md", "LICENSE", "CITATION.cff", "manifest.json", "provenance.json"} < top
    assert {"annotations", "train", "val", "test"} < top
    assert (tree / "train" / "images" / "session 1" / "手 01.jpg").is_file()
    assert (tree / "train" / "panoptic" / "session 1" / "手 01.png").is_file()
    assert (tree / "test" / "panoptic" / "frame_000003.png").is_file()


def test_instances_reload_in_pycocotools_to_the_very_masks(split, tree):
    for name in split.splits:
        judge = COCO(tree / "annotations" / f"instances_{name}.json")
        for sample in (s for s in split if s.split == name):
            found = judge.loadAnns(judge.getAnnIds([sample.id]))
            assert len(found) == len(sample.segments)
            for annotation, segment in zip(found, sample.segments, strict=True):
                mask = segment.mask(sample.height, sample.width)
                assert (judge.annToMask(annotation) == mask.to_array()).all()
                assert annotation["iscrowd"] == 0
                assert annotation["bbox"] == list(mask.bbox)


def test_ground_truth_against_itself_scores_100(tree):
    from hotcoco.panoptic import pq_compute

    path = str(tree / "annotations" / "panoptic_train.json")
    folder = str(tree / "train" / "panoptic")
    assert pq_compute(path, path, folder, folder)["All"]["pq"] == 1.0


def test_every_image_has_a_row_a_picture_and_a_map(tree):
    for split in ("train", "val", "test"):
        rows = (tree / split / "metadata.jsonl").read_text("utf-8").splitlines()
        images = json.loads((tree / "annotations" / f"instances_{split}.json").read_bytes())
        assert len(rows) == len(images["images"])
        for row in map(json.loads, rows):
            with Image.open(tree / split / row["file_name"]) as photo:
                assert (photo.height, photo.width) == (row["height"], row["width"])
            with Image.open(tree / split / row["panoptic_file_name"]) as png:
                ids = ids_from_rgb(np.asarray(png))
            assert {s["id"] for s in row["segments_info"]} == set(np.unique(ids[ids > 0]).tolist())


def test_the_same_dataset_gives_the_same_tree(split, tree, tmp_path):
    release.build(split, tmp_path / "again", CARD)
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        assert (tmp_path / "again" / path.relative_to(tree)).read_bytes() == path.read_bytes()


def test_a_split_may_be_called_as_the_end_of_another(split, tmp_path):
    names = {"train": "test", "val": "hard_test", "test": "train"}
    renamed = replace(
        split, samples=tuple(replace(s, split=names[s.split]) for s in split if s.split)
    )
    built = release.build(renamed, tmp_path / "out", CARD)
    whose = {e.path: e.split for e in built.manifest.entries}
    for name in names.values():
        assert whose[f"annotations/instances_{name}.json"] == name
        assert whose[f"annotations/panoptic_{name}.json"] == name


def test_another_commit_gives_the_same_root(split, tmp_path):
    one = release.build(split, tmp_path / "1", CARD, provenance={"git": {"commit": "a"}})
    two = release.build(split, tmp_path / "2", CARD, provenance={"git": {"commit": "b"}})
    assert one.manifest.root == two.manifest.root


def test_what_panoptic_cannot_show_is_reported(split, tmp_path):
    built = release.build(split, tmp_path / "out", CARD)
    hidden = [(name, loss.segment) for name, loss in built.losses if loss.hidden]
    assert ("session 1/手 01.jpg", 4) in hidden  # the knife under the food


def test_samples_without_a_split_are_refused(tmp_path):
    taken = intake.take_in([cvat_zip(tmp_path / "in.zip", {"a.jpg": ""})], tmp_path / "in")
    with pytest.raises(InvalidDataset, match=r"1 image\(s\) have no split") as e:
        release.build(taken.dataset, tmp_path / "out", CARD)
    assert "publisher split" in (e.value.hint or "")
    assert not (tmp_path / "out").exists()


def built_from_coco(tmp_path, **how):
    overlapping = coco_document(
        [{}, {"segmentation": [[5, 5, 15, 5, 15, 15, 5, 15]], "category_id": 2}]
    )
    intake.take_in([coco_folder(tmp_path / "src", overlapping)], tmp_path / "in")
    dealing.run(tmp_path / "in", tmp_path / "split", "train=1", tmp_path / "lock")
    return release.build(workspace.read(tmp_path / "split"), tmp_path / "out", CARD, **how)


def test_overlaps_without_an_order_need_a_decision(tmp_path):
    with pytest.raises(OverlapError, match="both claim 16 pixels"):
        built_from_coco(tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_decision_may_be_the_order_of_the_file(tmp_path):
    built = built_from_coco(tmp_path, overlap="z-order")
    assert [(loss.segment, loss.pixels) for _, loss in built.losses] == [(0, 16)]


def exif_jpeg():
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    return picture(exif=exif, comment=b"SecretComment")


def test_gps_and_camera_are_removed_and_no_pixel_changes(tmp_path):
    body = exif_jpeg()
    assert b"SecretCamera" in body
    xml = cvat_zip(tmp_path / "x.zip", {"a.jpg": cvat_polygon()})
    import zipfile

    with zipfile.ZipFile(xml) as z:
        members = {"annotations.xml": z.read("annotations.xml"), "images/a.jpg": body}
    intake.take_in([zipped(tmp_path / "in.zip", members)], tmp_path / "in")
    dealing.run(tmp_path / "in", tmp_path / "split", "train=1", tmp_path / "lock")
    built = release.build(workspace.read(tmp_path / "split"), tmp_path / "out", CARD)
    published = (tmp_path / "out" / "train" / "images" / "a.jpg").read_bytes()
    assert built.stripped == 1
    assert b"Secret" not in published
    with Image.open(io.BytesIO(body)) as before, Image.open(io.BytesIO(published)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.parametrize("cut", [2, 3, 10, 30, 100])
def test_stripping_never_breaks_a_damaged_file(cut):
    for body in (exif_jpeg(), picture(kind="PNG")):
        assert strip_metadata(body[:cut]) == body[:cut]
    assert strip_metadata(b"RIFFxxxx") == b"RIFFxxxx"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"category_id": 77}, "A304"),
        ({"id": 1}, "A301"),
        ({"id": -4}, "A302"),
    ],
)
def test_a_dataset_that_would_mix_up_its_ids_is_refused(split, tmp_path, change, said):
    samples = [s for s in split if len(s.segments) > 1]
    first = samples[0]
    bad = replace(first.segments[1], **change)
    samples[0] = replace(first, segments=(replace(first.segments[0], id=1), bad))
    with pytest.raises(InvalidDataset, match=said):
        release.build(replace(split, samples=tuple(samples)), tmp_path / "out", CARD)
    assert not (tmp_path / "out").exists()


def test_names_that_would_share_a_map_are_refused(split, tmp_path):
    one, two, *_ = split
    twins = (replace(one, file_name="a.jpg"), replace(two, file_name="a.png"))
    with pytest.raises(InvalidDataset, match="I111"):
        release.build(replace(split, samples=twins), tmp_path / "out", CARD)


def test_a_card_given_only_to_build_moves_segments_with_their_category(split, tmp_path):
    card = parse(
        b"name: d\ncategories: [{name: table, id: 1, isthing: false}, {name: hand, id: 9}]"
    )
    release.build(split, tmp_path / "out", card)
    names = {c.id: c.name for c in split.categories}
    for part in split.splits:
        judge = COCO(tmp_path / "out" / "annotations" / f"instances_{part}.json")
        told = {c["id"]: c["name"] for c in judge.cats.values()}
        for sample in (s for s in split if s.split == part):
            found = judge.loadAnns(judge.getAnnIds([sample.id]))
            assert [told[a["category_id"]] for a in found] == [
                names[s.category_id] for s in sample.segments
            ]
    assert {told[1], told[9]} == {"table", "hand"}


def test_two_categories_of_one_name_are_refused(split, tmp_path):
    twins = tuple(replace(c, name="hand") for c in split.categories)
    with pytest.raises(InvalidDataset, match="C202"):
        release.build(replace(split, categories=twins), tmp_path / "out", CARD)
