"""Datumaro 1.0: what CVAT and Datumaro write is read, and what we write, Datumaro's way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from publisher import formats
from publisher.conservation import balance, tally
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError, UsageError
from publisher.files import open_tree
from publisher.formats import datumaro
from publisher.masks import Mask, Rle
from publisher.stages import conversion, intake
from publisher.validate import RULES
from tests import strategies
from tests.formats.contract import FormatContract
from tests.formats.test_cvat_truth import PROJECT, assert_same, expected, iou, masks_of
from tests.makers import picture
from tests.truth import DATA

CVAT_EXPORT = DATA / "project__datumaro-1.0.zip"


class TestDatumaro(FormatContract):
    name = "datumaro"


# ── CVAT's ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cvat():
    return intake.read(CVAT_EXPORT)


def test_an_export_by_cvat_reads_to_the_masks_of_the_server(cvat):
    """All pixel for pixel, but the ellipse: CVAT writes its own raster of it, 5 % too large."""
    want = {}
    for key in PROJECT:
        want |= expected(key, project=True)
    subsets = {"train": "Train", "train2": "Train", "val": "Validation", "video": "Video"}
    want = {(subsets[task], name): found for (task, name), found in want.items()}
    rastered = 0
    for sample in cvat:
        size, instances = want.pop((sample.source["subset"], sample.source["name"]))
        assert (sample.height, sample.width) == size
        got = masks_of(sample, cvat)
        inexact = [i for i in instances if not any(np.array_equal(i[1], g[1]) for g in got)]
        rastered += len(inexact)
        for lost in inexact:
            near = max(got, key=lambda g: iou(g[1], lost[1]))
            assert iou(near[1], lost[1]) > 0.94
            instances = [near[:2] if i is lost else i for i in instances]
        assert_same(got, instances, sample.file_name)
    assert want == {}
    assert rastered == 1


def test_what_an_export_by_cvat_has_lost_is_said(cvat):
    with open_tree(CVAT_EXPORT) as tree:
        reading = formats.detect(tree).read(tree)
    assert reading.format == "datumaro"
    told = [*reading.notes, *map(str, reading.mended)]
    for said in ("keeps no colours", "1 label annot", "1 points annot", "1 polyline annot"):
        assert len([n for n in told if said in n]) == 1
    reasons = [i.reason for i in reading.items]
    assert "group 3 mixes food, フライパン; kept apart" in reasons
    assert (
        "group 1: 2 shapes are one hand; its shapes differ, and the first counts: "
        "gloved is True and False"
    ) in reasons
    bowl = next(s for s in cvat if s.file_name == "session 1/bowl.jpg")
    assert sorted(x["kind"] for x in bowl.source["not_segments"]) == ["label", "points", "polyline"]
    assert {s.z_order for s in bowl.segments} == set(range(7))


def test_subsets_that_name_a_split_become_it(cvat):
    assert {s.source["subset"]: s.split for s in cvat} == {
        "Train": "train",
        "Validation": "val",
        "Video": None,
    }


# ── Datumaro's ───────────────────────────────────────────────────────────────────────────────


def document(annotations=(), /, **item):
    """A subset as Datumaro writes it, with one image of 20 x 30."""
    image = {"path": "a.jpg", "size": [20, 30]}
    labels = [{"name": n, "parent": "", "attributes": []} for n in ("hand", "table")]
    return {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": {},
        "categories": {"label": {"labels": labels, "label_groups": [], "attributes": []}},
        "items": [{"id": "a", "annotations": list(annotations), "image": image, **item}],
    }


def annotation(kind, **more):
    return {"id": 7, "type": kind, "attributes": {}, "group": 0, "label_id": 0, **more}


SQUARE = [1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]


def folder(path, said, name="train", images=()):
    (path / "annotations").mkdir(parents=True)
    text = said if isinstance(said, str) else json.dumps(said)
    (path / "annotations" / f"{name}.json").write_text(text, "utf-8")
    for image in images:
        (path / "images" / image).parent.mkdir(parents=True, exist_ok=True)
        (path / "images" / image).write_bytes(picture())
    return path


def read(path):
    with open_tree(path) as tree:
        return formats.detect(tree).read(tree)


def only(path, annotations, **item):
    (picture_,) = read(folder(path, document(annotations, **item))).pictures
    return picture_.sample


def test_polygons_of_one_group_and_label_are_one_instance(tmp_path):
    far = [12.0, 12.0, 15.0, 12.0, 15.0, 15.0]
    parts = [annotation("polygon", points=p, group=3) for p in (SQUARE, far)]
    other = annotation("polygon", points=far, group=3, label_id=1)
    sample = only(tmp_path, [*parts, other])
    assert [s.segmentation for s in sample.segments] == [(tuple(SQUARE), tuple(far)), (tuple(far),)]


def test_crowds_ids_and_depths_are_kept(tmp_path):
    said = annotation("polygon", points=SQUARE, z_order=4, attributes={"is_crowd": True, "x": 1})
    sample = only(tmp_path, [said], attr={"id": 12})
    (segment,) = sample.segments
    assert (sample.id, segment.id, segment.iscrowd, segment.z_order) == (12, 7, True, 4)
    assert segment.attributes == {"x": 1}


def test_a_box_turns_about_its_centre_and_an_ellipse_fills_its_box(tmp_path):
    box = annotation("bbox", bbox=[5.1, 5.2, 10.1, 4.2], attributes={"rotation": 90.0})
    flat = annotation("bbox", bbox=[5.1, 5.2, 10.1, 4.2])
    ellipse = annotation("ellipse", points=[10, 5, 20, 15])
    turned, straight, round_ = only(tmp_path, [box, flat, ellipse]).segments
    assert straight.segmentation == ((5.1, 5.2, 15.2, 5.2, 15.2, 9.4, 5.1, 9.4),)
    assert turned.segmentation == ((12.25, 2.25, 12.25, 12.35, 8.05, 12.35, 8.05, 2.25),)
    assert turned.attributes == {}
    assert abs(round_.mask(20, 30).area - np.pi * 25) < 3


def test_a_turn_by_more_than_anybody_turns_is_a_finding(tmp_path):
    box = annotation("bbox", bbox=[5, 5, 9, 4], attributes={"rotation": int("9" * 400)})
    with open_tree(folder(tmp_path, document([box]))) as tree:
        (finding,) = formats.detect(tree).read(tree).findings
    assert (finding.code, "rotation is beyond" in finding.message) == ("P406", True)


def test_what_has_no_pixels_is_kept_aside_whatever_its_points(tmp_path):
    line = annotation("polyline", points=[1, 2, 3, 4])
    cuboid = annotation("cuboid_2d", points=[[1, 1], [3, 1]], label_id=None)
    sample = only(tmp_path, [line, cuboid, {"type": "caption", "caption": "x"}])
    assert sample.segments == ()
    aside = sample.source["not_segments"]
    assert [(x["kind"], x["label"]) for x in aside] == [
        ("polyline", "hand"),
        ("cuboid_2d", ""),
        ("caption", ""),
    ]


def test_validate_names_what_has_no_pixels_as_import_does(cli, tmp_path):
    marks = [annotation("label"), annotation("points", points=[1, 2]), annotation("caption")]
    path = folder(tmp_path / "in", document(marks), images=["a.jpg"])
    told = cli("validate", path).stdout
    for kind in ("label", "points", "caption"):
        said = f"info J007: 1 {kind} annotation(s) have no pixels; kept with their sample's source"
        assert f"annotations/train.json: {said}" in told
        assert said in cli("import", path, "-o", tmp_path / kind).stderr


def test_what_else_is_said_of_items_and_annotations_comes_back(tmp_path):
    first = annotation("polygon", points=SQUARE, score=0.5, object_id=4, group=1)
    parts = [first, annotation("polygon", points=[*SQUARE[:6]], foo=[1], group=1)]
    said = document(parts, attr={"frame": 3, "weather": "dry", "id": 5}, licence="CC0")
    plan = conversion.plan(folder(tmp_path / "in", said), "datumaro")
    assert "extras" not in {s.trait for s in plan.shortfalls}
    conversion.run(plan, tmp_path / "out")
    (item,) = json.loads((tmp_path / "out/annotations/train.json").read_text())["items"]
    assert (item["attr"], item["licence"]) == ({"frame": 3, "weather": "dry", "id": 5}, "CC0")
    one, other = item["annotations"]
    assert (one["score"], one["object_id"], one.get("foo")) == (0.5, 4, None)
    assert (other["foo"], other.get("score")) == ([1], None)
    told = {str(s) for s in conversion.plan(tmp_path / "in", "voc").shortfalls}
    fields = "other fields of the source: attr, foo, licence, score"
    assert f"{fields} (2 images and segments) (first: a.jpg)" in told


def test_what_has_no_place_is_named_once_for_each_file(tmp_path):
    said = document([annotation("polygon", points=SQUARE, foo=n) for n in (1, 2)], bar=1)
    said |= {"infos": {"author": "me"}, "answer": 42}
    labels = said["categories"]["label"]
    labels["label_groups"] = [{"name": "sides", "labels": ["hand"]}]
    labels["labels"][0]["attributes"] = ["side"]
    said["categories"]["points"] = {"items": [{"label_id": 0}]}
    said["items"][0]["image"]["depth"] = 16
    told = [
        str(f).removeprefix("annotations/train.json: info ")
        for f in read(folder(tmp_path, said)).mended
    ]
    assert sorted(told) == [
        "J007: categories of kind 'points'; not kept",
        "J007: field 'attributes' of a label; not kept",
        "J007: field 'depth' of an item's image; not kept",
        "J007: info (author) is not kept; say it in the card",
        "J007: label_groups of the labels; not kept",
        "J007: unknown field 'bar'; kept aside",
        "J007: unknown field 'foo'; kept aside (2 times)",
        "J007: unknown key 'answer' at the top level; not kept",
    ]


def test_an_attribute_that_is_called_occluded_stays_but_for_cvats(tmp_path):
    square = annotation("polygon", points=SQUARE, attributes={"occluded": False})
    assert only(tmp_path / "a", [square]).segments[0].attributes == {"occluded": False}


def test_runs_are_read_compressed_and_not(tmp_path):
    counts = [22, 3, 575]
    plain = annotation("mask", rle={"counts": counts, "size": [20, 30]})
    packed = coco.frPyObjects({"counts": counts, "size": [20, 30]}, 20, 30)
    said = {"counts": packed["counts"].decode(), "size": [20, 30]}
    a, b = only(tmp_path, [plain, annotation("mask", rle=said)]).segments
    assert a.mask(20, 30) == b.mask(20, 30)
    assert a.mask(20, 30).area == 3


@pytest.mark.parametrize(
    ("key", "path", "name"),
    [
        ("a", "a.jpg", "a.jpg"),
        ("b/a", "b/a.PNG", "b/a.PNG"),
        ("b/a", "b_a.png", "b/a.png"),
        ("b/a", "/home/someone/b/a.png", "b/a.png"),
        ("b/a", None, "b/a.jpg"),
        ("a.png", "a.png", "a.png"),
        ("a.b", "a.b.jpg", "a.b.jpg"),
        (5, "5.jpg", "5.jpg"),
    ],
)
def test_the_name_is_the_items_with_the_extension_of_its_path(tmp_path, key, path, name):
    sample = only(tmp_path, [], id=key, image={"path": path, "size": [20, 30]})
    assert sample.file_name == name


@pytest.mark.parametrize("place", ["train/a.jpg", "a.jpg"])
def test_pictures_are_found_in_their_subset_or_without(tmp_path, place):
    (found,) = read(folder(tmp_path, document(), images=[place])).pictures
    assert found.member == f"images/{place}"


def test_a_size_that_is_not_said_is_the_pictures(tmp_path):
    said = document(image={"path": "a.jpg", "size": None})
    (found,) = read(folder(tmp_path, said, images=["train/a.jpg"])).pictures
    assert (found.sample.height, found.sample.width) == (20, 30)


def test_labels_of_all_subsets_are_joined_by_name(tmp_path):
    folder(tmp_path / "x", document([annotation("polygon", points=SQUARE)]), "a")
    other = document([annotation("polygon", points=SQUARE)])
    other["categories"]["label"]["labels"].reverse()
    (tmp_path / "x/annotations/b.json").write_text(json.dumps(other))
    dataset = intake.read(tmp_path / "x")
    names = {c.id: c.name for c in dataset.categories}
    assert names == {1: "hand", 2: "table"}
    assert [names[s.segments[0].category_id] for s in dataset] == ["hand", "table"]


# ── what is wrong costs a finding ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("A304", annotation("polygon", points=SQUARE, label_id=2)),
        ("A304", annotation("polygon", points=SQUARE, label_id=None)),
        ("A304", annotation("polygon", points=SQUARE, label_id=-1)),
        ("P401", annotation("polygon")),
        ("P401", annotation("mask")),
        ("P401", annotation("bbox", bbox=None)),
        ("A309", annotation("bbox", bbox=[1, 2, 3])),
        ("P402", annotation("polygon", points="1,2")),
        ("P403", annotation("polygon", points=[1.0] * 7)),
        ("P404", annotation("polygon", points=[1.0] * 4)),
        ("P406", annotation("polygon", points=[1e7] * 6)),
        ("R501", annotation("mask", rle={"counts": [1.5], "size": [20, 30]})),
        ("R502", annotation("mask", rle={"counts": "", "size": 600})),
        ("R503", annotation("mask", rle={"counts": [600], "size": [30, 20]})),
        ("R504", annotation("mask", rle={"counts": [599], "size": [20, 30]})),
        ("A305", annotation("polygon", points=SQUARE, attributes={"is_crowd": "no"})),
        ("L817", annotation("rotated_bbox", points=[1, 2, 3, 4, 5])),
        ("J005", annotation("polygon", points=SQUARE, group="x")),
        ("J005", "polygon"),
    ],
)
def test_a_bad_annotation_costs_a_finding_and_not_its_neighbour(tmp_path, code, wrong):
    said = document([wrong, annotation("polygon", points=SQUARE)])
    reading = read(folder(tmp_path, said))
    (finding,) = reading.findings
    assert (finding.code, finding.file_name) == (code, "a.jpg")
    assert "annotations[0]" in finding.message
    assert len(reading.pictures[0].sample.segments) == 1


@pytest.mark.parametrize(
    ("code", "item"),
    [
        ("I109", {"id": "../a"}),
        ("I109", {"id": "/etc/a"}),
        ("I108", {"image": {"path": "a.jpg", "size": [0, 30]}}),
        ("I108", {"image": None}),
        ("J005", {"image": {"path": "a.jpg", "size": ["20", 30]}}),
        ("J005", {"annotations": {}}),
    ],
)
def test_a_bad_item_costs_a_finding(tmp_path, code, item):
    reading = read(folder(tmp_path, document(**item)))
    assert [f.code for f in reading.findings] == [code]
    assert reading.pictures == ()


def test_a_broken_file_is_an_error_with_its_name(tmp_path):
    text = json.dumps(document())[:-2]
    with pytest.raises(FormatError) as e:
        read(folder(tmp_path, text))
    assert "annotations/train.json" in str(e.value)
    assert e.value.code == "J001"


def test_two_labels_of_one_name_are_refused(tmp_path):
    said = document()
    said["categories"]["label"]["labels"][1]["name"] = "hand"
    with pytest.raises(FormatError, match="share a name"):
        read(folder(tmp_path, said))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nonsense_gives_findings_or_one_error(tmp_path_factory, data):
    weird = strategies.JSON
    keys = st.sampled_from(sorted({*annotation("mask"), "points", "rle", "bbox", "z_order"}))
    one = st.builds(
        lambda kind, more: annotation(kind, **more),
        st.sampled_from(["polygon", "mask", "bbox", "ellipse", "label", "x"]),
        st.dictionaries(keys.filter(lambda k: k != "type"), weird, max_size=4),
    )
    item = st.dictionaries(st.sampled_from(["id", "image", "attr", "annotations"]), weird)
    said = document(data.draw(st.lists(one | weird, max_size=4)), **data.draw(item))
    said["categories"] = data.draw(st.just(said["categories"]) | weird)
    path = folder(
        tmp_path_factory.mktemp("d"), json.dumps(said).encode("utf-8", "replace").decode()
    )
    with open_tree(path) as tree:
        try:
            reading = datumaro.read(tree)
        except FormatError:
            return
    assert all(f.code in RULES for f in reading.findings)
    for p in reading.pictures:
        tally([p.sample], {c.id: c.name for c in reading.categories})


# ── what is written ──────────────────────────────────────────────────────────────────────────


def dataset(*samples):
    return Dataset("d", (Category(4, "hand", "body", color=(1, 2, 3)),), samples)


RING = Mask.from_array(np.pad(np.pad([[0, 0], [0, 0]], 3, constant_values=1), ((5, 7), (9, 13))))


def reference(path):
    """Label and mask of each instance, by pycocotools alone, as Datumaro groups them."""
    said = json.loads(path.read_text("utf-8"))
    labels = [x["name"] for x in said["categories"]["label"]["labels"]]
    found = {}
    for item in said["items"]:
        height, width = item["image"]["size"]
        instances = {}
        for number, a in enumerate(item["annotations"]):
            rle = (
                a["rle"]
                if a["type"] == "mask"
                else coco.merge(coco.frPyObjects([a["points"]], height, width))
            )
            key = (a["group"], a["label_id"]) if a["group"] else number
            label, before = instances.get(key, (labels[a["label_id"]], np.zeros((height, width))))
            instances[key] = label, before.astype(bool) | coco.decode(rle).astype(bool)
        found[item["id"]] = list(instances.values())
    return found


def test_what_is_written_decodes_to_the_same_masks_without_us(tmp_path):
    rings = (tuple(SQUARE), (12.0, 12.0, 15.5, 12.0, 15.0, 15.0))
    runs = Rle(RING.height, RING.width, RING.counts.decode())
    segments = Segment(1, 4, rings), Segment(2, 4, runs, iscrowd=True, z_order=2)
    data = dataset(Sample(3, "x/a.png", RING.height, RING.width, segments, split="train"))
    assert datumaro.write(data, tmp_path) == ()
    written = reference(tmp_path / "annotations/train.json")
    assert [name for name, _ in written["x/a"]] == ["hand", "hand"]
    for segment, (_, mask) in zip(segments, written["x/a"], strict=True):
        assert np.array_equal(segment.mask(RING.height, RING.width).to_array(), mask)


def test_a_split_that_datumaro_takes_for_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="default"):
        datumaro.write(dataset(Sample(1, "a.jpg", 4, 4, split="default")), tmp_path)


def test_pictures_of_one_stem_keep_apart(tmp_path):
    data = dataset(*(Sample(i, n, 4, 4) for i, n in enumerate(("a.jpg", "a.png", "b.jpg"), 1)))
    datumaro.write(data, tmp_path)
    said = json.loads((tmp_path / "annotations/default.json").read_text())
    assert [i["id"] for i in said["items"]] == ["a.jpg", "a.png", "b"]
    with open_tree(tmp_path) as tree:
        names = [p.sample.file_name for p in datumaro.read(tree).pictures]
    assert names == ["a.jpg", "a.png", "b.jpg"]


def test_colours_parents_crowds_and_ids_come_back(tmp_path):
    square = Segment(9, 4, (tuple(SQUARE),), iscrowd=True, z_order=-2, attributes={"x": "y"})
    data = dataset(Sample(3, "a.png", 20, 30, (square,)))
    datumaro.write(data, tmp_path)
    back = intake.read(tmp_path)
    assert back.categories == (Category(1, "hand", "body", color=(1, 2, 3)),)
    (sample,) = back
    (segment,) = sample.segments
    assert (sample.id, segment.id, segment.iscrowd, segment.z_order) == (3, 9, True, -2)
    assert segment.attributes == {"x": "y"}


def test_cvats_export_written_and_read_again_is_the_same(tmp_path, cvat):
    datumaro.write(cvat, tmp_path)
    back = intake.read(tmp_path)
    names = {c.id: c.name for c in cvat.categories}
    balance("convert", tally(cvat, names), tally(back, names), ())
    for before, after in zip(cvat, back, strict=True):
        size = before.height, before.width
        assert [(s.mask(*size), s.z_order, s.attributes) for s in after.segments] == [
            (s.mask(*size), s.z_order, s.attributes) for s in before.segments
        ]
