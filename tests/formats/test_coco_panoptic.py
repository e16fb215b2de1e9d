"""COCO panoptic as it is read: exact masks from any writer's PNGs, and each fault by its name."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from publisher import formats
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError
from publisher.files import open_tree
from publisher.formats import coco_panoptic
from publisher.panoptic import rgb_from_ids
from publisher.stages import checking, conversion, intake
from publisher.validate import RULES
from tests import pngs
from tests.png.test_reader import maps
from tests.pngs import MAGIC, chunk, header, write_png

CATEGORIES = [
    {"id": 1, "name": "hand", "supercategory": "", "isthing": 1, "color": [250, 50, 80]},
    {"id": 3, "name": "table", "supercategory": "", "isthing": 0, "color": [10, 20, 30]},
]
CLASSES = (Category(1, "hand"), Category(3, "table", isthing=False))
IDS = np.zeros((6, 8), np.uint32)
IDS[1:4, 1:4] = 5
IDS[4:, :] = 70_000
INFOS = [
    {"id": 5, "category_id": 1, "area": 9, "bbox": [1, 1, 3, 3], "iscrowd": 0},
    {"id": 70_000, "category_id": 3, "area": 16, "bbox": [0, 4, 8, 2], "iscrowd": 0},
]


def document() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 6, "width": 8}],
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": deepcopy(INFOS)}],
        "categories": deepcopy(CATEGORIES),
    }


def folder(path: Path, said: Any = None, body: bytes | None = None, **files: bytes) -> Path:
    """A tree with `panoptic_val.json` and `panoptic_val/a.png`."""
    maps = path / "panoptic_val"
    maps.mkdir(parents=True)
    (path / "panoptic_val.json").write_text(json.dumps(said or document()), "utf-8")
    (maps / "a.png").write_bytes(pngs.png(rgb_from_ids(IDS)) if body is None else body)
    for name, content in files.items():
        (maps / name).write_bytes(content)
    return path


def read(path: Path) -> formats.Reading:
    with open_tree(path) as tree:
        return coco_panoptic.read(tree)


def pillow(picture: Any, mode: str = "RGB", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(picture)).convert(mode).save(out, "PNG", **how)
    return out.getvalue()


# ── what comes back ──────────────────────────────────────────────────────────────────────────


@settings(max_examples=60)
@given(st.data())
def test_masks_are_those_of_pycocotools_whoever_wrote_the_png(data):
    some = data.draw(st.lists(maps(), min_size=1, max_size=3))
    writers: dict[str, Callable[[np.ndarray], bytes]] = {
        "ours": lambda rgb: pngs.png(rgb, [2]),
        "any filter": lambda rgb: pngs.png(rgb, [0, 4, 1, 3, 2]),
        "pillow": pillow,
        "pillow, stored": lambda rgb: pillow(rgb, compress_level=0),
    }
    said: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        (path / "panoptic").mkdir()
        for i, ids in enumerate(some, 1):
            height, width = ids.shape
            image = {"id": i, "file_name": f"{i}.jpg", "height": height, "width": width}
            numbers = [n for n in np.unique(ids).tolist() if n]
            infos = [
                {"id": n, "category_id": 1 + 2 * (n % 2), "iscrowd": n % 3 == 0} for n in numbers
            ]
            for info in infos:
                info["iscrowd"] = int(info["iscrowd"])
            said["images"].append(image)
            said["annotations"].append({"image_id": i, "segments_info": infos})
            writer = data.draw(st.sampled_from(sorted(writers)))
            (path / "panoptic" / f"{i}.png").write_bytes(writers[writer](rgb_from_ids(ids)))
        (path / "panoptic.json").write_text(json.dumps(said), "utf-8")
        reading = read(path)
    assert not reading.findings
    for picture, ids, entry in zip(reading.pictures, some, said["annotations"], strict=True):
        sample = picture.sample
        assert [s.id for s in sample.segments] == [i["id"] for i in entry["segments_info"]]
        for s, info in zip(sample.segments, entry["segments_info"], strict=True):
            rle = coco.encode(np.asfortranarray(ids == s.id, dtype=np.uint8))
            assert s.segmentation.counts.encode() == rle["counts"]
            assert (s.category_id, s.iscrowd) == (info["category_id"], bool(info["iscrowd"]))


def test_our_own_writer_is_read_back(tmp_path):
    write_png(tmp_path / "a.png", rgb_from_ids(IDS))
    path = folder(tmp_path / "in", body=(tmp_path / "a.png").read_bytes())
    (picture,) = read(path).pictures
    areas = [s.mask(6, 8).area for s in picture.sample.segments]
    assert areas == [9, 16]


def test_whole_numbers_as_text_or_decimals_are_read_and_said(tmp_path):
    said = document()
    said["images"][0]["width"] = "8"
    said["annotations"][0]["image_id"] = "7"
    said["annotations"][0]["segments_info"][0] |= {"id": "5", "category_id": 1.0}
    reading = read(folder(tmp_path / "in", said))
    assert reading.findings == ()
    assert [s.id for s in reading.pictures[0].sample.segments] == [5, 70_000]
    assert {f.message.partition(" is ")[0] for f in reading.mended if f.code == "J005"} == {
        "width",
        "image_id",
        "id",
        "category_id",
    }


def test_images_that_the_extension_alone_tells_apart_cannot_have_one_map(tmp_path):
    (picture,) = read(folder(tmp_path / "in")).pictures
    a = replace(picture.sample, split="val")
    both = Dataset("d", CLASSES, (a, replace(a, id=8, file_name="a.png")))
    with pytest.raises(FormatError, match="two images have the stem a") as caught:
        conversion.write(both, tmp_path / "out", "coco-panoptic")
    assert caught.value.code == "I111"
    assert not (tmp_path / "out").exists()


def test_things_colours_crowds_and_supercategories_stay(tmp_path):
    said = document()
    said["annotations"][0]["segments_info"][0]["iscrowd"] = 1
    reading = read(folder(tmp_path, said))
    assert [(c.id, c.name, c.isthing, c.color) for c in reading.categories] == [
        (1, "hand", True, (250, 50, 80)),
        (3, "table", False, (10, 20, 30)),
    ]
    (picture,) = reading.pictures
    assert [s.iscrowd for s in picture.sample.segments] == [True, False]
    assert picture.sample.source["subset"] == "val"


def told_more() -> dict[str, Any]:
    """A document that says more of everything than it must."""
    said = document()
    said["annotations"][0]["segments_info"] = [
        {**info, "z_order": i, "attributes": {"side": "left"}, "score": 0.5, "foo": [1]}
        for i, info in enumerate(INFOS)
    ]
    said["images"][0] |= {"license": 3, "coco_url": "https://a.example/a.jpg", "weather": "dry"}
    return said | {"licenses": [{"id": 3, "name": "CC0", "url": ""}]}


def test_what_else_is_said_of_segments_and_images_comes_back(tmp_path):
    said = told_more()
    folder(tmp_path / "in", said)
    plan = conversion.plan(tmp_path / "in", "coco-panoptic")
    assert not {"extras", "attributes", "z-order"} & {s.trait for s in plan.shortfalls}
    assert not conversion.run(plan, tmp_path / "out").items
    written = json.loads((tmp_path / "out/panoptic_val.json").read_bytes())
    assert written["images"] == said["images"]
    assert written["licenses"] == said["licenses"]
    (entry,) = written["annotations"]
    infos = [{**i, "id": n} for n, i in enumerate(said["annotations"][0]["segments_info"], 1)]
    assert entry["segments_info"] == infos


def test_what_else_is_said_is_announced_where_a_target_has_no_place(tmp_path):
    plan = conversion.plan(folder(tmp_path, told_more()), "voc")
    told = {s.trait: str(s) for s in plan.shortfalls}
    assert told.keys() >= {"attributes", "z-order", "extras"}
    fields = "other fields of the source: coco_url, foo, license, score, weather"
    assert told["extras"] == f"{fields} (3 images and segments) (first: a.jpg)"


def test_a_field_that_nobody_knows_is_told_once_for_all_of_a_file(tmp_path):
    said = told_more() | {"info": {"year": 2017}, "answer": 42}
    said["categories"][0]["skeleton"] = []
    said["annotations"][0]["foo"] = 1
    reading = read(folder(tmp_path, said))
    assert not reading.findings
    assert sorted(str(f).removeprefix("panoptic_val.json: info ") for f in reading.mended) == [
        "A320: a score is there, as if it were a prediction; kept aside (2 times)",
        "J007: info (year) is not kept; say it in the card",
        "J007: unknown field 'foo' of an entry; not kept",
        "J007: unknown field 'foo'; kept aside (2 times)",
        "J007: unknown field 'skeleton'; not kept",
        "J007: unknown field 'weather'; kept aside",
        "J007: unknown key 'answer' at the top level; not kept",
    ]


def test_a_licence_that_no_image_has_or_that_is_not_listed_is_told(tmp_path):
    said = document() | {"licenses": [{"id": 1, "name": "CC0"}]}
    said["images"][0]["license"] = 2
    assert [str(f) for f in read(folder(tmp_path, said)).mended] == [
        "panoptic_val.json: info J007: 1 licence(s) that no image has are not kept: CC0",
        "panoptic_val.json: warning I118: licence 2 is not among the licences of the file",
    ]


@pytest.mark.parametrize("more", [{"z_order": "top"}, {"attributes": [1]}])
def test_attributes_that_are_none_cost_no_segment_and_come_back(tmp_path, more):
    path = folder(tmp_path, with_info(**more))
    (picture,) = read(path).pictures
    assert picture.sample.segments[0].origin == {"extra": more}
    assert [f.code for f in read(path).mended] == ["J005"]


def test_patches_that_become_one_region_say_so_where_they_differ(tmp_path):
    segments = [
        Segment(i, 3, (square,), attributes={"wet": i == 1}, z_order=i)
        for i, square in enumerate([(0, 0, 2, 0, 2, 2, 0, 2), (4, 0, 6, 0, 6, 2, 4, 2)], 1)
    ]
    sample = Sample(1, "a.jpg", 6, 8, tuple(segments))
    items = coco_panoptic.write(
        Dataset("x", (Category(3, "table", "", False),), (sample,)), tmp_path
    )
    assert any("patches of one region differ in attributes" in i.reason for i in items)
    (entry,) = json.loads((tmp_path / "panoptic.json").read_bytes())["annotations"]
    (info,) = entry["segments_info"]
    assert (info["attributes"], info["z_order"]) == ({"wet": True}, 2)


@pytest.mark.parametrize(
    ("json_at", "map_at", "picture_at"),
    [
        ("panoptic.json", "panoptic/a.png", "images/a.jpg"),
        ("panoptic_val.json", "panoptic_val/a.png", "val/a.jpg"),
        (
            "annotations/panoptic_val2017.json",
            "annotations/panoptic_val2017/a.png",
            "val2017/a.jpg",
        ),
        ("annotations/panoptic_val2017.json", "panoptic_val2017/a.png", "images/val2017/a.jpg"),
        ("annotations/panoptic_val.json", "val/panoptic/a.png", "val/images/a.jpg"),
        ("some.json", "some/a.png", "a.jpg"),
        ("deep/down/some.json", "deep/down/some/a.png", "deep/down/a.jpg"),
        ("panoptic_val.json", "a.png", "a.jpg"),
    ],
)
def test_maps_and_pictures_are_found_where_people_put_them(tmp_path, json_at, map_at, picture_at):
    members = {
        json_at: json.dumps(document()).encode(),
        map_at: pngs.png(rgb_from_ids(IDS)),
        picture_at: b"a picture",
    }
    for name, body in members.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(body)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as z:
        for name, body in members.items():
            z.writestr(name, body)
    for source in (tmp_path / "in", tmp_path / "in.zip"):
        with open_tree(source) as tree:
            assert formats.detect(tree).name == "coco-panoptic"
        reading = read(source)
        assert not reading.findings
        assert not reading.mended
        (picture,) = reading.pictures
        assert len(picture.sample.segments) == 2
        assert picture.member == picture_at


def test_a_json_without_its_folder_says_what_to_name(tmp_path):
    folder(tmp_path)
    with pytest.raises(FormatError, match="none of its maps is here") as caught:
        intake.read(tmp_path / "panoptic_val.json")
    assert "name the folder" in (caught.value.hint or "")


# ── the rules ────────────────────────────────────────────────────────────────────────────────


def with_info(**changes: Any) -> dict[str, Any]:
    said = document()
    said["annotations"][0]["segments_info"][0] |= changes
    return said


def with_more(**info: Any) -> dict[str, Any]:
    said = document()
    said["annotations"][0]["segments_info"].append({**INFOS[0], **info})
    return said


def with_image(**entry: Any) -> dict[str, Any]:
    """A second image; with an entry, where one is given."""
    said = document()
    said["images"].append({"id": 8, "file_name": "b.jpg", "height": 6, "width": 8})
    if entry:
        said["annotations"].append({"image_id": 8, "segments_info": [], **entry})
    return said


def without(key: str) -> dict[str, Any]:
    said = document()
    del said["categories"][0][key]
    return said


def resized() -> bytes:
    big = Image.fromarray(np.ascontiguousarray(rgb_from_ids(IDS))).resize((80, 60))
    return pillow(big)


def large(said: dict[str, Any]) -> dict[str, Any]:
    said["images"][0] |= {"height": 60, "width": 80}
    return said


def empty(said: dict[str, Any]) -> dict[str, Any]:
    said["annotations"][0]["segments_info"] = []
    return said


def optimised(ids: np.ndarray) -> bytes:
    """The same colours with a palette, as image optimisers write them."""
    numbers, places = np.unique(ids, return_inverse=True)
    image = Image.fromarray(places.reshape(ids.shape).astype(np.uint8)).convert("P")
    image.putpalette(rgb_from_ids(numbers[None]).tobytes())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


RGB = rgb_from_ids(IDS)
SMALL = np.where(IDS == 70_000, 9, IDS)  # ids that a grey image can hold
SMALL_SAID = document()
SMALL_SAID["annotations"][0]["segments_info"][1]["id"] = 9
GAMMA = chunk(b"gAMA", struct.pack(">I", 45455))
EMPTY = pngs.png(np.zeros((6, 8, 3), np.uint8))

EXAMPLES: dict[str, tuple[dict[str, Any], bytes | None, str]] = {
    "C208": (without("isthing"), None, "val.json: error C208: category 'hand' does not say"),
    "N701": (with_image(file_name="b.png"), None, "b.jpg: error N701: its map b.png is missing"),
    "N703": (
        document(),
        pngs.png(RGB[:5]),
        "a.jpg: error N703: map is 5x8, image is 6x8",
    ),
    "N704": (
        document(),
        pillow(np.full((6, 8), 77, np.uint8), "L"),
        "a.jpg: error N704: map is 8-bit grey, not 8-bit RGB",
    ),
    "N705": (
        with_info(id=6),
        None,
        "a.jpg: error N705: 1 id(s) on 9 px are not in the JSON (5)",
    ),
    "N706": (with_more(id=99), None, "a.jpg: error N706: 1 segment(s) have no pixel in the map"),
    "N707": (
        with_info(area=20),
        None,
        "a.jpg: error N707: area or box of 1 segment(s) is not that of the pixels: "
        "segment 5 has area 20, and 9 px",
    ),
    "N708": (with_more(category_id=3), None, "a.jpg: error N708: segments_info[2]: segment id 5"),
    "N709": (with_more(id=2**24), None, "a.jpg: error N709: segments_info[2]: segment id 16777216"),
    "N712": (with_image(), None, "b.jpg: error N712: no entry says what is in this image"),
    "N713": (with_image(file_name="a.png"), None, "b.jpg: error N713: its map a.png is another"),
    "N714": (
        with_image(file_name="c.png"),
        None,
        "b.jpg: warning N714: its map is called c.png",
    ),
    "N715": (empty(document()), EMPTY, "a.jpg: info N715: 100% of the image is void"),
    "N716": (
        large(document()),
        resized(),
        "are not in the JSON",
    ),
}


@pytest.mark.parametrize("code", sorted(EXAMPLES))
def test_a_rule_fires_on_its_example(tmp_path, code):
    said, body, text = EXAMPLES[code]
    path = folder(tmp_path, said, body, **{"c.png": EMPTY} if code == "N714" else {})
    reading = read(path)
    found = [str(f) for f in (*reading.findings, *reading.mended)]
    assert any(f" {code}: " in f and text in f for f in found), found


def test_an_extra_map_is_told(tmp_path):
    reading = read(folder(tmp_path, **{"old.png": EMPTY}))
    (finding,) = reading.mended
    assert str(finding) == "panoptic_val/old.png: warning N702: no entry asks for this map"
    assert len(reading.pictures) == 1


def test_none_fires_on_a_clean_set(tmp_path):
    reading = read(folder(tmp_path))
    assert (reading.findings, reading.mended, reading.items) == ((), (), ())
    assert not [f for f in checking.run(tmp_path).findings if f.code.startswith("N")]


def test_every_n_rule_has_an_example_here_or_with_the_rules_of_a_scene():
    reading = {c for c, r in RULES.items() if c.startswith("N") and r.scope == "reading"}
    assert reading - {"N702", "N717"} == {c for c in EXAMPLES if c.startswith("N")}


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (with_info(area=None, bbox=None), None),
        (with_info(bbox=[1.0, 1.0, 3.0, 2.0]), None),
        (with_more(id=99), None),
        (with_more(), None),
        (document(), pngs.png(RGB, before=GAMMA)),
        (document(), pillow(RGB, "RGBA")),
        (document(), optimised(IDS)),
        (SMALL_SAID, pillow(SMALL.astype(np.uint8), "L")),
        (SMALL_SAID, pillow(SMALL.astype(np.uint16), "I;16")),
    ],
)
def test_what_can_be_told_exactly_is_mended_and_said(tmp_path, said, body):
    reading = read(folder(tmp_path, said, body))
    assert not reading.findings
    assert len(reading.mended) == 1
    (picture,) = reading.pictures
    assert [s.mask(6, 8).area for s in picture.sample.segments] == [9, 16]
    dataset = intake.read(tmp_path)  # which balances what was counted with what is there
    assert [s.mask(6, 8).area for s in dataset[0].segments] == [9, 16]


def test_an_interlaced_map_is_read_and_told(tmp_path):
    body = MAGIC + header(1, 1, interlace=1)
    body += chunk(b"IDAT", zlib.compress(bytes([0, 5, 0, 0]))) + chunk(b"IEND", b"")
    said = document()
    said["images"][0] |= {"height": 1, "width": 1}
    said["annotations"][0]["segments_info"] = [{**INFOS[0], "area": 1, "bbox": [0, 0, 1, 1]}]
    reading = read(folder(tmp_path, said, body))
    assert not reading.findings
    (finding,) = reading.mended
    assert "N716: map has interlacing" in str(finding)


def test_datumaros_bent_fixture_is_bent_in_each_way(tmp_path):
    """A map of 5x5 for an image of 10x5; at the right size, an area of 20 for 25 px."""
    square = np.full((5, 5), 7, np.uint32)
    said = document()
    said["images"][0] |= {"height": 10, "width": 5}
    info = {"id": 7, "category_id": 1, "area": 20, "bbox": [0, 0, 5, 5], "iscrowd": 0}
    said["annotations"][0]["segments_info"] = [info]
    (finding,) = read(folder(tmp_path / "1", said, pngs.png(rgb_from_ids(square)))).findings
    assert "N703: map is 5x5, image is 10x5" in str(finding)
    said["images"][0] |= {"height": 5}
    (finding,) = read(folder(tmp_path / "2", said, pngs.png(rgb_from_ids(square)))).mended
    assert "N707" in str(finding)
    assert "area 20, and 25 px" in str(finding)


# ── instances beside maps ────────────────────────────────────────────────────────────────────


def both(path: Path, moved: int = 0) -> Path:
    """A release tree's annotations; the hand of the instances stands `moved` px to the right."""
    folder(path)
    pixels = np.roll(IDS == 5, moved, axis=1)
    rle = coco.encode(np.asfortranarray(pixels, dtype=np.uint8))
    hand = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "segmentation": {"size": [6, 8], "counts": rle["counts"].decode()},
        "area": 9,
        "bbox": [1 + moved, 1, 3, 3],
        "iscrowd": 0,
    }
    said = {**document(), "annotations": [hand], "categories": CATEGORIES[:1]}
    (path / "instances_val.json").write_text(json.dumps(said), "utf-8")
    return path


def test_a_tree_of_both_is_read_as_instances(tmp_path):
    with open_tree(both(tmp_path)) as tree:
        assert formats.detect(tree).name == "coco"


def test_instances_and_maps_of_one_source_agree(tmp_path):
    assert "N717" not in {f.code for f in checking.run(both(tmp_path)).findings}


def test_an_instance_drawn_anew_disagrees_with_its_map(tmp_path):
    found = [str(f) for f in checking.run(both(tmp_path, moved=2)).findings if f.code == "N717"]
    assert found == ["a.jpg: error N717: instances and panoptic map disagree: hand on 12 of 15 px"]


def test_a_broken_map_is_told_although_the_instances_are_read(tmp_path):
    both(tmp_path)
    (tmp_path / "panoptic_val" / "a.png").write_bytes(b"no PNG")
    assert "I112" in {f.code for f in checking.run(tmp_path).findings}


# ── hostile ──────────────────────────────────────────────────────────────────────────────────

BOMB = MAGIC + header(6, 8) + chunk(b"IDAT", zlib.compress(bytes(2**27))) + chunk(b"IEND", b"")
HUGE = MAGIC + header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "I112"),
        (pngs.png(RGB)[:-20], "I112"),
        (pngs.png(RGB).replace(b"IDAT", b"IDAX"), "I112"),
        (BOMB, "I112"),
        (HUGE, "I119"),
        (pillow(RGB)[:60], "I112"),
    ],
)
def test_a_poisoned_map_costs_a_finding_and_the_rest_is_read(tmp_path, body, code):
    said = with_image(file_name="b.png")
    path = folder(tmp_path, said, body, **{"b.png": EMPTY})
    reading = read(path)
    assert [f.code for f in reading.findings] == [code]
    assert len(reading.pictures) == 2


@pytest.mark.parametrize(
    "info",
    [
        {"id": -1},
        {"id": 0},
        {"id": 2**70},
        {"id": "five"},
        {"id": None},
        {"category_id": 77},
        {"category_id": "one"},
        {"area": "9"},
        {"bbox": "1,1,3,3"},
        {"iscrowd": 2},
        {"iscrowd": "no"},
    ],
)
def test_a_poisoned_segment_costs_a_finding_and_the_rest_is_read(tmp_path, info):
    reading = read(folder(tmp_path, with_info(**info)))
    assert reading.findings
    assert all(f.code in RULES for f in reading.findings)
    (picture,) = reading.pictures
    assert 70_000 in [s.id for s in picture.sample.segments]


def test_noise_is_a_finding_and_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("publisher.formats.id_maps.MAX_SEGMENTS", 10)
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    said = with_image(file_name="b.png")
    reading = read(folder(tmp_path, said, pngs.png(noise), **{"b.png": EMPTY}))
    (finding,) = reading.findings
    assert "a.jpg: error N716: map has 48 ids: noise" in str(finding)


def test_a_segment_of_an_unknown_category_is_told_once(tmp_path):
    (finding,) = read(folder(tmp_path, with_info(category_id=77))).findings
    assert "A304: segments_info[0]: no category has id 77" in str(finding)


@pytest.mark.parametrize(
    "entry",
    [
        {"image_id": 99},
        {"image_id": "7"},
        {"file_name": "../../a.png"},
        {"file_name": "/etc/passwd"},
        {"file_name": 5},
        {"segments_info": None},
        {"segments_info": [5, None, []]},
    ],
)
def test_a_poisoned_entry_costs_a_finding(tmp_path, entry):
    said = document()
    said["annotations"][0] |= entry
    found = {f.code for f in checking.run(folder(tmp_path, said)).findings}
    assert found & {"A303", "J005", "I109", "N701"}


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [], "annotations": [{"segments_info": NaN}], "categories": []}',
        '{"images": 5, "annotations": [{"segments_info": []}], "categories": []}',
        '{"annotations": [{"segments_info": []}]}',
        '["segments_info"]',
        '{"segments_info": ' + "[" * 100_000,
    ],
)
def test_a_poisoned_json_is_one_error(tmp_path, text):
    path = folder(tmp_path)
    (path / "panoptic_val.json").write_text(text, "utf-8")
    with pytest.raises(FormatError):
        read(path)


@settings(max_examples=60)
@given(st.binary(max_size=30), st.integers(0, 400))
def test_a_map_damaged_anywhere_is_one_finding_or_none(noise, spot):
    body = pillow(RGB)
    broken = body[: spot % len(body)] + noise + body[spot % len(body) + len(noise) :]
    with tempfile.TemporaryDirectory() as name:
        reading = read(folder(Path(name) / "in", body=broken))
    assert len(reading.findings) <= 1
    assert all(f.code in RULES for f in reading.findings)
