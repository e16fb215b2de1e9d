"""COCO panoptic: who owns a pixel, exact areas and boxes, and outside judges."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco

from publisher import engine, panoptic
from publisher.conservation import Tally, balance, tally
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError, OverlapError
from publisher.files import canonical_json
from publisher.formats import coco as coco_format
from publisher.formats import coco_panoptic
from publisher.masks import Mask, Rle, compress
from publisher.panoptic import ids_from_rgb, paint, paint_all, rgb_from_ids
from publisher.png import writer as png
from tests import strategies
from tests.pngs import read_rgb, write_png

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
    assert "by --overlap or in Python by overlap=" in (e.value.hint or "")


@pytest.mark.parametrize(
    ("depths", "why"),
    [
        ((None, None), "no segments of the image have a z-order"),
        ((1, None), "not all segments of the image have a z-order"),
        ((1, 2), "by overlap=fail their z-order does not decide"),
    ],
)
def test_a_refused_overlap_says_of_the_z_order_what_is_so(depths, why):
    one = segment(block(0, 2, 0, 2), z=depths[0])
    two = segment(block(1, 4, 1, 4), 2, z=depths[1], number=2)
    with pytest.raises(OverlapError, match=f"both claim 1 pixels, and {why}"):
        paint(sample(one, two), CATEGORIES, "fail")


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


def reference(s: Sample, policy: str):
    """Plain numpy and pycocotools, a segment at a time: the map, areas and boxes, lost pixels."""
    segments = s.segments
    pixels = [coco.decode(g.mask(s.height, s.width)._rle) == 1 for g in segments]
    depth = lambda i: (not segments[i].iscrowd, segments[i].z_order or 0)  # noqa: E731
    if policy == "smaller-on-top":
        key = lambda i: (not segments[i].iscrowd, -pixels[i].sum(), i)  # noqa: E731
    elif all(g.z_order is not None for g in segments):
        key = lambda i: (*depth(i), segments[i].id, i)  # noqa: E731
    else:
        key = lambda i: (*depth(i), i)  # noqa: E731
    first, region = {}, []
    for i, g in enumerate(segments):
        merges = g.iscrowd or not CATEGORIES[g.category_id].isthing
        kind = (g.category_id, g.iscrowd)
        region.append(first.setdefault(kind, i) + 1 if merges else i + 1)
    owner = np.full((s.height, s.width), -1)
    for i in sorted(range(len(segments)), key=key):
        owner[pixels[i]] = i
    ids = np.where(owner < 0, 0, np.array([*region, 0])[owner])
    found = {}
    for number in np.unique(ids[ids > 0]).tolist():
        rle = coco.encode(np.asfortranarray(ids == number, dtype=np.uint8))
        found[number] = (int(coco.area(rle)), tuple(int(v) for v in coco.toBbox(rle)))
    lost = [
        (int(p.sum() - (owner == i).sum()), not (owner == i).any()) for i, p in enumerate(pixels)
    ]
    return ids, owner, found, {i: (n, gone) for i, (n, gone) in enumerate(lost) if n or gone}


def agrees(painted, s: Sample, policy: str) -> None:
    ids, owner, regions, lost = reference(s, policy)
    assert painted.ids.dtype == np.uint32
    assert (painted.ids == ids).all()
    assert {r.id: (r.area, r.bbox) for r in painted.regions} == regions
    assert [r.id for r in painted.regions] == sorted(regions)
    for r in painted.regions:
        g = s.segments[r.id - 1]
        assert (r.category_id, r.iscrowd) == (g.category_id, g.iscrowd)
    assert {x.segment: (x.pixels, x.hidden) for x in painted.losses} == lost
    numbers = np.arange(1, len(s.segments) + 1, dtype=np.uint16)
    assert (painted.values(numbers) == owner + 1).all()
    (body,) = png.encode([painted])
    with Image.open(io.BytesIO(body)) as image:
        assert (ids_from_rgb(np.asarray(image)) == ids).all()


@settings(max_examples=100)
@given(st.lists(samples(), min_size=1, max_size=4), st.sampled_from(["z-order", "smaller-on-top"]))
def test_a_chunk_of_any_sizes_is_painted_as_plain_numpy_paints_each(some, policy):
    for s, painted in zip(some, paint_all(some, CATEGORIES, policy), strict=True):
        agrees(painted, s, policy)


@settings(max_examples=60)
@given(samples())
def test_fail_refuses_exactly_where_two_regions_share_a_pixel(s):
    claims = {}
    for i, g in enumerate(s.segments):
        merges = g.iscrowd or not CATEGORIES[g.category_id].isthing
        kind = (g.category_id, g.iscrowd) if merges else i
        pixels = g.mask(s.height, s.width).to_array()
        claims[kind] = claims.get(kind, False) | pixels
    overlaps = len(claims) > 1 and (np.sum(list(claims.values()), axis=0) > 1).any()
    if overlaps:
        with pytest.raises(OverlapError, match=r"a.jpg: segments \d and \d both claim [1-9]"):
            paint(s, CATEGORIES, "fail")
    else:
        agrees(paint(s, CATEGORIES, "fail"), s, "z-order")


@settings(max_examples=40)
@given(strategies.datasets())
def test_polygons_and_runs_of_all_kinds_are_painted_alike(data):
    painted = list(paint_all(data, data.category_of, "z-order"))
    alone = [paint(s, data.category_of, "z-order") for s in data]
    for s, p, q in zip(data, painted, alone, strict=True):
        covered = [g.mask(s.height, s.width).to_array() for g in s.segments]
        assert ((p.ids > 0) == np.any([*covered, p.ids < 0], axis=0)).all()
        assert (p.ids == q.ids).all()
        assert (p.regions, p.losses, p.tied) == (q.regions, q.losses, q.tied)


@pytest.mark.nightly
@pytest.mark.parametrize("policy", ["z-order", "smaller-on-top"])
def test_a_thousand_pictures_differ_nowhere_from_plain_numpy(policy):
    """Discs with holes, crowds, stuff, single pixels, full masks, empty ones; sizes mixed."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(1, 1001):
        height, width = rng.integers(1, 200, 2).tolist()
        y, x = np.mgrid[:height, :width]
        segments = []
        for place in range(int(rng.integers(0, 14))):
            kind, outer = rng.random(), rng.uniform(1, 90)
            far = np.hypot(y - rng.uniform(0, height), x - rng.uniform(0, width))
            pixels = (far < outer) & (far > outer * rng.choice([0, 0, 0.5]))
            if kind < 0.2:
                pixels = [far == far.min(), far >= 0, far < 0, rng.random(far.shape) < 0.5][
                    int(kind * 20)
                ]
            category, z = int(rng.integers(1, 4)), int(rng.integers(0, 3))
            crowd = bool(rng.random() < 0.1)
            segments.append(segment(pixels, category, z, 100 - place, crowd))
        pictures.append(sample(*segments, height=height, width=width, number=number))
    for s, painted in zip(pictures, paint_all(pictures, CATEGORIES, policy), strict=True):
        agrees(painted, s, policy)


def test_pixels_that_only_a_tie_break_decides_are_counted():
    under = segment(block(0, 4, 0, 5), 2, z=0, number=1)
    one, other = (segment(block(0, 2, x, x + 3), 1, z=1, number=x + 2) for x in (0, 1))
    painted = paint(sample(under, one, other), CATEGORIES)
    assert painted.tied == 4  # two columns of two; what lies below both is clear
    clear = replace(other, z_order=2)
    assert paint(sample(under, one, clear), CATEGORIES).tied == 0
    assert paint(sample(under, one, other), CATEGORIES, "smaller-on-top").tied == 0


def test_patches_of_one_stuff_class_do_not_tie():
    one, other = (segment(block(0, 2, x, x + 3), 3, z=1, number=x + 1) for x in (0, 1))
    assert paint(sample(one, other), CATEGORIES).tied == 0


def test_of_equal_z_order_the_higher_id_wins_whatever_the_place_in_the_file():
    late, early = segment(block(0, 4, 0, 4), z=0, number=9), segment(block(0, 2, 0, 2), z=0)
    painted = paint(sample(late, early), CATEGORIES)
    assert painted.ids[0, 0] == 1


def test_without_z_order_the_place_in_the_file_decides_when_asked():
    first, later = segment(block(0, 4, 0, 4), number=9), segment(block(0, 2, 0, 2), 2)
    assert paint(sample(first, later), CATEGORIES, "z-order").ids[0, 0] == 2


def test_a_thousand_layers_are_painted():
    layers = [segment(block(0, 8, 0, 8, 8, 8), z=z, number=z + 1) for z in range(1000)]
    painted = paint(sample(*layers, height=8, width=8), CATEGORIES)
    assert [r.id for r in painted.regions] == [1000]
    assert sum(loss.hidden for loss in painted.losses) == 999


def test_pieces_are_painted_in_bounded_memory(monkeypatch):
    rng = np.random.default_rng(0)
    layers = [segment(rng.random((9, 9)) < 0.5, z=z, number=z + 1) for z in range(20)]
    crowded = sample(*layers, height=9, width=9)
    whole = paint(crowded, CATEGORIES).ids
    monkeypatch.setattr(panoptic, "_PAINTED", 7)
    assert (paint(crowded, CATEGORIES).ids == whole).all()


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        (Rle(4, 5, "04"), "R504"),
        (Rle(5, 5, "0i0"), "R503"),
        (Rle(4, 5, "~"), "R506"),
        (Rle(4, 5, "é"), "R506"),
        (((0.0, 0.0, float("nan"), 1.0, 2.0, 2.0),), "P406"),
        (((0.0, 0.0, 1.0, 1.0),), "P404"),
        ((), "P401"),
    ],
)
def test_a_broken_segment_among_sound_ones_says_what_is_wrong(shape, code):
    sound = segment(block(0, 2, 0, 2), z=0)
    with pytest.raises(FormatError) as e:
        paint(sample(sound, replace(sound, segmentation=shape), sound), CATEGORIES)
    assert e.value.code == code


@given(strategies.hostile_samples())
def test_hostile_segments_are_refused_where_their_own_mask_is(s):
    known = {g.category_id: replace(HAND, id=g.category_id) for g in s.segments}
    try:
        masks = [g.mask(s.height, s.width) for g in s.segments]
    except FormatError:
        with pytest.raises(FormatError):
            paint(s, known, "z-order")
        return
    if s.segments:
        painted = paint(s, known, "z-order")
        covered = np.logical_or.reduce([m.to_array() for m in masks])
        assert ((painted.ids > 0) == covered).all()


def test_runs_that_are_not_in_canonical_form_are_painted_all_the_same():
    plain = segment(block(0, 2, 0, 2), z=0)
    split = replace(plain, segmentation=Rle(4, 5, (0, 1, 0, 1, 2, 2, 14, 0, 0)))
    compressed = replace(
        plain, segmentation=Rle(4, 5, compress(np.array([0, 1, 0, 1, 2, 2, 14])).decode())
    )
    ids = paint(sample(plain), CATEGORIES).ids
    for same in (split, compressed):
        assert (paint(sample(same), CATEGORIES).ids == ids).all()


@pytest.mark.parametrize("workers", ["2", "3"])
def test_the_number_of_workers_changes_no_byte(dataset, tmp_path, monkeypatch, workers):
    many = tuple(
        replace(s, id=8 * k + s.id, file_name=f"{k}/{s.file_name}")
        for k in range(5)
        for s in dataset
    )
    many = tuple(replace(s, split="val" if s.id % 3 else None) for s in many)
    monkeypatch.setattr(panoptic, "_PIXELS", 64 * 64)
    monkeypatch.setattr(engine, "ALONE", 3)
    bodies = []
    for count in ("1", workers):
        monkeypatch.setenv("PUBLISHER_WORKERS", count)
        folder = tmp_path / count
        folder.mkdir()
        items = coco_panoptic.write(replace(dataset, samples=many), folder)
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        bodies.append((items, [(p.relative_to(folder), p.read_bytes()) for p in files]))
    assert bodies[0] == bodies[1]
    assert len(bodies[0][1]) == 42


def test_what_is_written_adds_up_with_its_items(dataset, tmp_path):
    stuff = tuple(replace(s, segments=s.segments + s.segments[:1]) for s in dataset)
    data = replace(dataset, samples=stuff)
    items = coco_panoptic.write(data, tmp_path)
    names = {c.id: c.name for c in data.categories}
    pixels, regions = Counter(), 0
    for annotation in json.loads((tmp_path / "panoptic.json").read_text())["annotations"]:
        for said in annotation["segments_info"]:
            pixels[names[said["category_id"]]] += said["area"]
            regions += 1
    balance("convert", tally(data, names), Tally(len(data), regions, pixels), items)
    assert any(i.reason.startswith("warning: segments of one z-order") for i in items)


def test_documents_have_sorted_keys_and_no_spare_space(dataset, tmp_path):
    coco_panoptic.write(dataset, tmp_path)
    body = (tmp_path / "panoptic.json").read_bytes()
    assert canonical_json(json.loads(body)) == body


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
