"""COCO panoptic: who owns a pixel, exact areas and boxes, and outside judges."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco

from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import OverlapError
from publisher.formats import coco as coco_format
from publisher.formats import coco_panoptic
from publisher.images import read_rgb, write_png
from publisher.masks import Mask, Rle
from publisher.panoptic import ids_from_rgb, paint, rgb_from_ids

HAND, RING, TABLE = (
    Category(1, "hand", color=(255, 0, 0)),
    Category(2, "ring"),
    Category(3, "table", isthing=False),
)
CATEGORIES = {c.id: c for c in (HAND, RING, TABLE)}


def segment(pixels, category=1, z=None, number=1, crowd=False) -> Segment:
    mask = Mask.from_array(np.asarray(pixels))
    rle = Rle(mask.height, mask.width, mask.counts.decode())
    return Segment(number, category, rle, crowd, z)


def sample(*segments: Segment, height=4, width=5, number=1, name="a.jpg") -> Sample:
    return Sample(number, name, height, width, tuple(segments))


def block(y0, y1, x0, x1, height=4, width=5):
    pixels = np.zeros((height, width), bool)
    pixels[y0:y1, x0:x1] = True
    return pixels


def test_id_is_r_plus_256_g_plus_65536_b():
    assert rgb_from_ids(np.array([[0x030201]], np.uint32)).tolist() == [[[1, 2, 3]]]


@given(arrays(np.uint32, (3, 5), elements=st.integers(0, 2**24 - 1)))
def test_rgb_round_trip(ids):
    assert (ids_from_rgb(rgb_from_ids(ids)) == ids).all()


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
)
def test_our_png_reads_back_in_pillow(tmp_path_factory, rgb):
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_png(path, rgb)
    with Image.open(path) as image:
        image.verify()
    assert (read_rgb(path) == rgb).all()


def test_higher_z_order_wins_whatever_the_place_in_the_file():
    above, below = segment(block(0, 2, 0, 2), z=5), segment(block(0, 4, 0, 4), 2, z=1, number=2)
    painted = paint(sample(above, below), CATEGORIES)
    assert painted.ids[0, 0] == 1
    assert painted.ids[3, 3] == 2
    assert [(loss.segment, loss.pixels, loss.hidden) for loss in painted.losses] == [(1, 4, False)]


def test_of_equal_z_order_the_later_wins():
    first, later = segment(block(0, 4, 0, 4), z=0), segment(block(0, 2, 0, 2), 2, z=0, number=2)
    assert paint(sample(first, later), CATEGORIES).ids[0, 0] == 2


def test_a_ring_stays_visible_on_the_hand():
    ring, hand = segment(block(1, 2, 1, 2), 2), segment(block(0, 4, 0, 4), 1, number=2)
    painted = paint(sample(ring, hand), CATEGORIES, "smaller-on-top")
    assert painted.ids[1, 1] == 1
    assert painted.ids[0, 0] == 2


def test_without_an_order_an_overlap_is_an_error_that_names_both():
    one, two = segment(block(0, 2, 0, 2)), segment(block(1, 4, 1, 4), 2, number=2)
    with pytest.raises(OverlapError, match=r"a.jpg: segments 0 and 1 both claim 1 pixels") as e:
        paint(sample(one, two), CATEGORIES)
    assert "--overlap" in (e.value.hint or "")


def test_patches_of_one_stuff_class_become_one_region():
    left, right = segment(block(0, 4, 0, 1), 3, z=0), segment(block(0, 4, 4, 5), 3, z=0, number=2)
    (region,) = paint(sample(left, right), CATEGORIES).regions
    assert (region.id, region.area, region.bbox) == (1, 8, (0, 0, 5, 4))


def test_a_wholly_hidden_segment_has_no_region_and_is_reported():
    hidden, lid = segment(block(1, 2, 1, 2), 2, z=0), segment(block(0, 4, 0, 4), 1, z=1, number=2)
    painted = paint(sample(hidden, lid), CATEGORIES)
    assert [r.id for r in painted.regions] == [2]
    assert [(loss.segment, loss.hidden) for loss in painted.losses] == [(0, True)]


def test_an_instance_lies_over_the_crowd_it_stands_in():
    crowd = segment(block(0, 4, 0, 5), 1, z=9, crowd=True)
    person = segment(block(0, 2, 0, 2), 1, z=0, number=2)
    assert paint(sample(person, crowd), CATEGORIES).ids[0, 0] == 1


@st.composite
def samples(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    segments = [
        segment(
            draw(arrays(bool, (height, width))),
            draw(st.sampled_from([1, 2, 3])),
            draw(st.integers(-2, 2)),
            number,
            draw(st.booleans()),
        )
        for number in range(1, draw(st.integers(0, 6)) + 1)
    ]
    return sample(*segments, height=height, width=width)


@settings(max_examples=200)
@given(samples())
def test_areas_and_boxes_are_those_of_the_painted_pixels(s):
    painted = paint(s, CATEGORIES)
    present = set(np.unique(painted.ids).tolist()) - {0}
    assert {r.id for r in painted.regions} == present
    for region in painted.regions:
        rle = coco.encode(np.asfortranarray(painted.ids == region.id, dtype=np.uint8))
        assert region.area == coco.area(rle)
        assert list(region.bbox) == coco.toBbox(rle).tolist()
    union = [g.mask(s.height, s.width).to_array() for g in s.segments]
    covered = np.logical_or.reduce(union) if union else np.zeros((s.height, s.width), bool)
    assert ((painted.ids > 0) == covered).all()
    lost = {loss.segment: loss.pixels for loss in painted.losses}
    owned = sum(m.sum() for m in union) - sum(lost.values())
    assert owned == covered.sum()


@given(samples())
def test_it_paints_what_plain_numpy_paints(s):
    """The reference: lowest first, crowds under all, one at a time."""
    key = lambda i: (not s.segments[i].iscrowd, s.segments[i].z_order, i)  # noqa: E731
    ids = np.zeros((s.height, s.width), int)
    for i in sorted(range(len(s.segments)), key=key):
        ids[coco.decode(s.segments[i].mask(s.height, s.width)._rle) == 1] = i + 1
    first = {}
    for i, g in enumerate(s.segments):
        if g.iscrowd or g.category_id == 3:
            first.setdefault((g.category_id, g.iscrowd), i + 1)
    for i, g in enumerate(s.segments):
        owner = first.get((g.category_id, g.iscrowd)) if g.iscrowd or g.category_id == 3 else None
        if owner is not None:
            ids[ids == i + 1] = owner
    assert (paint(s, CATEGORIES).ids == ids).all()


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    pictures, number = [], 0
    for image in range(1, 9):
        segments = []
        for z in range(6):
            y, x = rng.integers(0, 40, 2)
            number += 1
            pixels = block(y, y + 25, x, x + 25, 64, 64)
            segments.append(segment(pixels, int(rng.integers(1, 4)), z, number))
        pictures.append(
            sample(*segments, height=64, width=64, number=image, name=f"f/{image}.x.jpg")
        )
    return Dataset("d", tuple(CATEGORIES.values()), tuple(pictures))


def test_ground_truth_against_itself_scores_100_by_an_outside_judge(dataset, tmp_path):
    from hotcoco.panoptic import pq_compute

    coco_panoptic.write(dataset, tmp_path)
    path = str(tmp_path / "panoptic.json")
    result = pq_compute(path, path)
    assert {k: result[k]["pq"] for k in ("All", "Things", "Stuff")} == {
        "All": 1.0,
        "Things": 1.0,
        "Stuff": 1.0,
    }


def test_the_outside_judge_sees_a_change(dataset, tmp_path):
    from hotcoco.panoptic import pq_compute

    truth, changed = tmp_path / "truth", tmp_path / "changed"
    for folder in (truth, changed):
        folder.mkdir()
        coco_panoptic.write(dataset, folder)
    png = next(iter((changed / "panoptic").rglob("*.png")))
    ids = ids_from_rgb(read_rgb(png)).ravel()
    largest = np.flatnonzero(ids == np.bincount(ids[ids > 0]).argmax())
    ids[largest[::2]] = 0
    write_png(png, rgb_from_ids(ids.reshape(64, 64)))
    result = pq_compute(str(truth / "panoptic.json"), str(changed / "panoptic.json"))
    assert 0.5 < result["All"]["pq"] < 1.0


def test_panoptic_files_keep_the_rules_their_readers_trust(dataset, tmp_path):
    coco_panoptic.write(dataset, tmp_path)
    document = json.loads((tmp_path / "panoptic.json").read_text())
    assert len(document["annotations"]) == len(document["images"]) == 8
    for annotation in document["annotations"]:
        ids = ids_from_rgb(read_rgb(tmp_path / "panoptic" / annotation["file_name"]))
        said = {s["id"]: s["area"] for s in annotation["segments_info"]}
        numbers, counts = np.unique(ids[ids > 0], return_counts=True)
        assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == said
    assert {c["isthing"] for c in document["categories"]} == {0, 1}


def test_instances_reload_in_pycocotools_to_the_very_masks(dataset, tmp_path):
    from pycocotools.coco import COCO

    coco_format.write(dataset, tmp_path)
    judge = COCO(tmp_path / "instances.json")
    for s in dataset:
        for g in s.segments:
            annotation = judge.anns[g.id]
            mask = g.mask(s.height, s.width)
            assert (judge.annToMask(annotation) == mask.to_array()).all()
            assert annotation["area"] == mask.area
            assert annotation["bbox"] == list(mask.bbox)
            assert annotation["iscrowd"] == 0


def test_writing_keeps_samples_that_are_in_no_split(dataset, tmp_path):
    some = tuple(replace(s, split="val" if s.id < 3 else None) for s in dataset)
    for write in (coco_panoptic.write, coco_format.write):
        write(replace(dataset, samples=some), tmp_path)
    for kind in ("panoptic", "instances"):
        documents = [tmp_path / f"{kind}_val.json", tmp_path / f"{kind}.json"]
        counts = [len(json.loads(d.read_text())["images"]) for d in documents]
        assert counts == [2, 6]
