"""COCO files of any size and in any order: one bad record costs a finding, the rest is read."""

from __future__ import annotations

import json
import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher import json_stream, spill
from publisher.errors import FormatError, InvalidDataset
from publisher.files import open_tree
from publisher.formats import coco
from publisher.rules.rule import RULES
from publisher.stages import conversion, intake
from tests.makers import SQUARE, coco_document, coco_folder, picture


def document(images: int = 12, annotations: int = 40, seed: int = 0) -> dict:
    rng = random.Random(seed)
    names = [f"{rng.randrange(10**6)}.jpg" for _ in range(images)]
    return {
        "info": {"description": "}],{"},
        "licenses": [{"id": 1, "name": "CC0"}],
        "images": [
            {"id": 7 * n + 1, "file_name": f"{n}-{name}", "height": 20, "width": 30, "license": 1}
            for n, name in enumerate(names)
        ],
        "annotations": [
            {
                "id": n + 1,
                "image_id": 7 * rng.randrange(images) + 1,
                "category_id": rng.randint(1, 2),
                "segmentation": [[float(v + rng.randrange(5)) for v in SQUARE[0]]],
                "area": 64.0,
                "bbox": [1.0, 1.0, 8.0, 8.0],
                "iscrowd": 0,
            }
            for n in range(annotations)
        ],
        "categories": [{"id": 1, "name": "hand"}, {"id": 2, "name": "table"}],
    }


def put(path: Path, body: dict | bytes | str) -> Path:
    text = json.dumps(body).encode() if isinstance(body, dict) else body
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def reading(path: Path) -> coco.Reading:
    with open_tree(path) as tree:
        return coco.read(tree)


@pytest.fixture
def small(monkeypatch):
    """Windows, buffers and buckets so small that a small file takes every turn of a large one."""
    monkeypatch.setattr(json_stream.Document.__init__, "__kwdefaults__", {"window": 200})
    monkeypatch.setattr(spill, "BUFFER", 300)


ORDERS = {
    "as COCO": ["info", "licenses", "images", "annotations", "categories"],
    "sorted": ["annotations", "categories", "images", "info", "licenses"],
    "backwards": ["categories", "annotations", "images", "licenses", "info"],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("kind", ["file", "zip", "indented"])
def test_any_order_of_keys_and_records_gives_the_same_dataset(tmp_path, small, order, kind):
    body = document()
    text = json.dumps({k: body[k] for k in order}, indent=2 if kind == "indented" else None)
    path = put(tmp_path / "instances.json", text)
    if kind == "zip":
        path = tmp_path / "in.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("annotations/instances.json", text)
    dataset = intake.read(path)
    assert [s.file_name for s in dataset] == sorted(i["file_name"] for i in body["images"])
    for sample in dataset:
        mine = [a for a in body["annotations"] if a["image_id"] == sample.id]
        assert [g.id for g in sample.segments] == [a["id"] for a in mine]
        assert [g.category_id for g in sample.segments] == [a["category_id"] for a in mine]
        assert [[list(r) for r in g.segmentation] for g in sample.segments] == [
            a["segmentation"] for a in mine
        ]


def test_samples_can_be_looked_at_in_any_order_and_after_the_file_is_gone(tmp_path, small):
    path = put(tmp_path / "instances.json", document())
    dataset = intake.read(path)
    path.unlink()
    expected = list(dataset)
    for n in (5, 0, 11, -1, 3):
        assert dataset[n] == expected[n]
    assert list(dataset.samples[2:5]) == expected[2:5]


def test_coco_to_coco_is_lossless_down_to_the_vertices(tmp_path):
    body = document()
    body["annotations"][3]["keypoints"] = [1, 2, 2]
    body["images"][2]["date_captured"] = "2013-11-18"
    dataset = intake.read(put(tmp_path / "in.json", body))
    coco.write(dataset, tmp_path)
    written = json.loads((tmp_path / "instances.json").read_bytes())
    for key in ("images", "annotations"):
        before = {r["id"]: r for r in body[key]}
        assert len(written[key]) == len(before)
        for record in written[key]:
            was = before[record["id"]]
            assert {k: record[k] for k in was if k not in ("area", "bbox")} == {
                k: v for k, v in was.items() if k not in ("area", "bbox")
            }
    assert list(written) == ["annotations", "categories", "images", "licenses"]
    assert written["licenses"] == body["licenses"]


BENT = [
    ({"id": "5"}, "J005", "id is text; read as a number"),
    ({"image_id": "1"}, "J005", "image_id is text"),
    ({"image_id": 1.0}, "J005", "image_id is a decimal number"),
    ({"iscrowd": False}, "J005", "iscrowd is true or false"),
    ({"iscrowd": None}, "A305", "iscrowd is missing; 0 is assumed"),
    ({"bbox": None}, "A308", "bbox or area is missing"),
    ({"bbox": "1,1,8,8"}, "A309", "bbox cannot be used; kept aside"),
    ({"score": 0.5}, "A320", "a score is there"),
    ({"keypoints": [1, 2]}, "A321", "keypoints"),
    ({"segmentation": SQUARE[0]}, "P402", "lone ring; wrapped"),
    ({"segmentation": {"size": [20, 30], "counts": "b'07ab0'"}}, "R501", "read without it"),
    ({"occluded_by": 3}, "J007", "unknown field 'occluded_by'; kept aside"),
]


@pytest.mark.parametrize(("change", "code", "said"), BENT, ids=[str(b[0])[:40] for b in BENT])
def test_what_can_be_set_right_is_set_right_and_said(tmp_path, change, code, said):
    path = put(tmp_path / "instances.json", coco_document([change]))
    with intake.opened(path) as source:
        (sample,) = source.dataset
        assert len(sample.segments) == 1
        (finding,) = source.findings
    assert (finding.code, finding.severity) == (code, RULES[code].severity)
    assert said in finding.message


LOST = [
    ({"image_id": "x"}, "J005"),
    ({"image_id": 9}, "A303"),
    ({"category_id": 9}, "A304"),
    ({"iscrowd": 2}, "A305"),
    ({"id": "x"}, "A302"),
    ({"segmentation": None}, "P401"),
    ({"segmentation": [1, 2, 3]}, "P402"),
    ({"segmentation": [[1, 1, 9, 9]]}, "P405"),
    ({"segmentation": {"size": [20, 30], "counts": [3.5]}}, "R501"),
]


@pytest.mark.parametrize(("change", "code"), LOST, ids=[str(b[0])[:40] for b in LOST])
def test_one_bad_record_is_one_finding_with_its_place(tmp_path, change, code):
    path = put(tmp_path / "instances.json", coco_document([{}, change, {}]))
    found = reading(path).whole()
    assert [(f.code, f.message.partition(":")[0][:14]) for f in found.findings] == [
        (code, "annotations[1]")
    ]
    assert found.counted.segments == 3  # it is counted, so nothing is lost unsaid
    with pytest.raises(InvalidDataset, match=code):
        list(intake.read(path))


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_none_costs_its_record(tmp_path, number):
    text = json.dumps(coco_document([{}, {"area": 12345}, {}])).replace("12345", number)
    found = reading(put(tmp_path / "instances.json", text)).whole()
    assert [f.code for f in found.findings] == ["J004"]
    assert found.counted.pixels == {"hand": 128}


def test_a_bad_image_is_a_finding_and_its_annotations_say_why_they_are_lost(tmp_path):
    images = [
        {"id": 1, "file_name": "../a.jpg", "height": 20, "width": 30},
        {"id": 2, "file_name": "b.jpg", "height": 20, "width": "thirty"},
        {"id": 3, "file_name": "c.jpg", "height": 0, "width": 30},
        {"id": 4, "file_name": "d.jpg", "height": 20, "width": 30},
    ]
    document = coco_document([{"image_id": n} for n in (1, 2, 3, 4)], images=images)
    found = reading(put(tmp_path / "instances.json", document))
    assert [f.code for f in found.findings] == ["I109", "I108", "I108", "A303", "A303", "A303"]
    assert "its image, images[0], cannot be read" in found.findings[3].message
    assert [p.sample.file_name for p in found.pictures] == ["d.jpg"]


def test_what_stands_around_the_json_is_said(tmp_path):
    text = json.dumps(coco_document([{}])).encode()
    marked = reading(put(tmp_path / "instances.json", b"\xef\xbb\xbf" + text))
    assert ([f.code for f in marked.mended], marked.findings) == (["J008"], ())
    double = reading(put(tmp_path / "instances.json", text + text))
    assert [f.code for f in double.findings] == ["J008"]


def test_keys_that_are_there_twice_are_said(tmp_path):
    text = json.dumps(coco_document([{}])).replace('"image_id": 1', '"image_id": 9, "image_id": 1')
    with intake.opened(put(tmp_path / "instances.json", text)) as source:
        assert len(next(iter(source.dataset)).segments) == 1
        assert [f.code for f in source.findings] == ["J003"]
    with pytest.raises(FormatError, match="'images' is there twice"):
        reading(put(tmp_path / "instances.json", text[:-1] + ', "images": []}'))


def test_an_unknown_licence_is_said_of_each_image(tmp_path):
    body = document()
    for image in body["images"]:
        image["license"] = 3
    with intake.opened(put(tmp_path / "instances.json", body)) as source:
        list(source.dataset)
        told = [f for f in source.findings if f.code == "I118"]
    assert len({f.file_name for f in told}) == len(told) == 12
    assert all(f.message == "licence 3 is not among the licences of the file" for f in told)


def test_a_sample_that_cannot_be_read_names_all_that_cannot(tmp_path):
    bad = {"segmentation": [[1, 1, 2]]}
    dataset = intake.read(put(tmp_path / "instances.json", coco_document([bad, {}, bad])))
    with pytest.raises(InvalidDataset, match=r"2 annotation\(s\) cannot be read") as e:
        dataset[0]
    assert [f.code for f in e.value.findings] == ["P403", "P403"]


SOURCE = json.dumps(document(4, 8)).encode()
TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"NaN", b"-1", b"1e400", b'"5"']
TOKENS += [b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"[" * 3000, b'{"id":' * 20, b"9" * 400, b"true"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SOURCE)), st.integers(0, 40), st.sampled_from(TOKENS)))
)
def test_hostile_files_give_findings_or_one_error(tmp_path_factory, changes):
    body = SOURCE
    for at, cut, token in changes[:4]:
        body = body[:at] + token + body[at + cut :]
    path = put(tmp_path_factory.mktemp("hostile") / "instances.json", body)
    try:
        found = reading(path).whole()
    except FormatError as error:
        found = error
    if isinstance(found, FormatError):
        assert "\n" not in str(found)
        return
    kept = sum(len(p.sample.segments) for p in found.pictures)
    assert kept <= found.counted.segments
    assert kept == found.counted.segments or found.findings


def test_ten_times_the_file_takes_hardly_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream.Document.__init__, "__kwdefaults__", {"window": 2**14})
    monkeypatch.setattr(spill, "BUFFER", 2**14)

    def peak(images: int) -> int:
        path = put(tmp_path / f"{images}.json", document(images, 6 * images))
        tracemalloc.start()
        assert sum(len(s.segments) for s in intake.read(path)) == 6 * images
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)  # what is imported and kept once
    few, many = peak(200), peak(2000)
    assert many - few < 1800 * 300  # bytes an image, most of them for sorting names; it has 1,300


def licensed(name: str, licences: list, *wanted: int | None) -> dict:
    images = [
        {"id": i, "file_name": f"{name}{i}.jpg", "height": 9, "width": 9, "license": licence}
        for i, licence in enumerate(wanted, start=1)
    ]
    return {"licenses": licences, "images": images, "annotations": [], "categories": []}


def converted(path: Path, out: Path) -> dict:
    conversion.run(conversion.plan(path, "coco"), out)
    return json.loads((out / "instances.json").read_bytes())


def test_licences_of_pictures_come_back_with_what_they_are_called(tmp_path):
    by = {"id": 3, "name": "CC BY 2.0", "url": "https://creativecommons.org/licenses/by/2.0/"}
    source = put(tmp_path / "a.json", licensed("a", [{"id": 7, "name": "CC0"}, by], 3, 7, 3))
    written = converted(source, tmp_path / "out")
    assert [image["license"] for image in written["images"]] == [3, 7, 3]
    assert written["licenses"] == [by, {"id": 7, "name": "CC0"}]
    assert not reading(tmp_path / "out").findings


def test_licences_of_two_files_that_share_a_number_stay_two(tmp_path):
    folder = tmp_path / "in/annotations"
    folder.mkdir(parents=True)
    for name, licence in (("a", "CC0"), ("b", "CC BY 4.0")):
        put(folder / f"instances_{name}.json", licensed(name, [{"id": 1, "name": licence}], 1))
    written = converted(folder.parent, tmp_path / "out")
    names = {one["id"]: one["name"] for one in written["licenses"]}
    said = {image["file_name"]: names[image["license"]] for image in written["images"]}
    assert said == {"a1.jpg": "CC0", "b1.jpg": "CC BY 4.0"}


def test_an_attribute_that_is_called_occluded_stays_whatever_it_says(tmp_path):
    attributes = [{"occluded": False}, {"occluded": True}]
    body = coco_document([{"attributes": a} for a in attributes])
    (sample,) = intake.read(put(tmp_path / "instances.json", body))
    assert [s.attributes for s in sample.segments] == attributes


def test_a_licence_that_no_image_has_is_named(tmp_path):
    body = licensed("a", [{"id": 1, "name": "CC0"}, {"id": 2, "url": "https://b.example"}], 1)
    (said,) = reading(put(tmp_path / "instances.json", body)).mended
    assert str(said) == (
        "instances.json: info J007: 1 licence(s) that no image has are not kept: https://b.example"
    )


def test_a_licence_without_a_name_is_not_without_a_word(tmp_path):
    body = licensed("a", [{"id": 1, "text": "by permission"}], 1)
    assert converted(put(tmp_path / "a.json", body), tmp_path / "out")["licenses"] == [
        {"id": 1, "text": "by permission"}
    ]


@pytest.mark.parametrize("first", ["a", "z"])
def test_a_licence_that_no_file_lists_never_becomes_that_of_another_file(tmp_path, first):
    folder = tmp_path / "in/annotations"
    folder.mkdir(parents=True)
    put(folder / "instances_a.json", licensed("m", [{"id": 1, "name": "CC0"}], 1))
    put(folder / "instances_b.json", licensed(first, [], 1, 1))
    plan = conversion.plan(folder.parent, "coco")
    done = conversion.run(plan, tmp_path / "out")
    written = json.loads((tmp_path / "out/instances.json").read_bytes())
    listed = {one["id"] for one in written["licenses"]}
    assert [i["license"] in listed for i in written["images"] if i["file_name"][0] == "m"] == [True]
    others = {i["license"] for i in written["images"] if i["file_name"][0] != "m"}
    assert len(others) == 1
    assert not others & listed
    said = [i.reason for i in done.items if "licence 1, which its file does not list" in i.reason]
    assert len(said) == (first == "z")


def test_what_a_file_says_of_its_dataset_is_named_where_it_is_left(tmp_path):
    document = {"info": {"description": "Hands", "year": 0}, **licensed("a", [], None)}
    mended = reading(put(tmp_path / "a.json", document)).mended
    assert any("J007: info (description) is not kept" in str(f) for f in mended)


@pytest.mark.parametrize("number", ["1", 1.0])
def test_a_category_id_that_is_cast_is_said(tmp_path, number):
    body = coco_document([{}])
    body["categories"][0]["id"] = number
    (said,) = reading(put(tmp_path / "instances.json", body)).mended
    assert said.code == "J005"
    assert "id is" in said.message


@pytest.mark.parametrize("number", [0, -5, 2**53, None])
def test_an_id_that_is_none_is_said(tmp_path, number):
    body = coco_document([{}, {"id": number}])
    if number is None:
        del body["annotations"][1]["id"]
    (said,) = reading(put(tmp_path / "instances.json", body)).mended
    assert (said.code, said.severity) == ("A302", "error")
    assert "1 annotation id(s) are missing, below 1" in said.message


def test_categories_out_of_order_are_sorted_and_said(tmp_path):
    body = coco_document([{}])
    body["categories"].reverse()
    read = reading(put(tmp_path / "instances.json", body))
    assert [c.id for c in read.categories] == [1, 2]
    assert [(f.code, f.severity) for f in read.mended] == [("C212", "info")]


def test_what_is_not_kept_is_named(tmp_path):
    body = coco_document([{}], videos=[{"id": 1}], answer=42)
    body["categories"][0]["skeleton"] = [[1, 2]]
    said = {f.message for f in reading(put(tmp_path / "instances.json", body)).mended}
    assert said == {
        "unknown key 'videos' at the top level; not kept",
        "unknown key 'answer' at the top level; not kept",
        "unknown field 'skeleton'; not kept",
    }


def test_a_short_ring_beside_others_goes_by_fix_and_takes_nothing_along(cli, tmp_path):
    rings = [*SQUARE, [5.0, 5.0]]
    source = put(tmp_path / "instances.json", coco_document([{}, {"segmentation": rings}]))
    told = cli("validate", source, code=3).stdout
    assert told.count("P404") == 1
    assert "P404" in cli("convert", source, "--to", "coco", "-o", tmp_path / "c", code=3).stderr
    told = cli("validate", source, "--fix", "-o", tmp_path / "out").stdout
    assert "info P404: fixed:" in told
    assert "P404" not in cli("validate", tmp_path / "out").stdout


def test_text_that_is_no_utf_8_is_said_wherever_it_stands(tmp_path):
    text = json.dumps(coco_document([{}], info={"description": "main"})).encode()
    read = reading(put(tmp_path / "instances.json", text.replace(b"main", b"ma\xee")))
    (said,) = read.mended
    assert (said.code, said.severity) == ("J001", "error")
    assert "info cannot be read, and is not kept" in said.message


def test_keypoints_are_announced_where_they_go(tmp_path):
    body = coco_document([{"keypoints": [1, 2, 2], "num_keypoints": 1}])
    path = put(tmp_path / "instances.json", body)
    for target, announced in (("coco", False), ("cvat", True), ("voc", True)):
        told = [str(s) for s in conversion.plan(path, target).shortfalls if s.trait == "extras"]
        said = "other fields of the source: keypoints, num_keypoints (1 images and segments)"
        assert told == [f"{said} (first: a.jpg)"] * announced


def test_a_licence_that_a_format_cannot_hold_is_called_so(tmp_path):
    path = put(tmp_path / "instances.json", licensed("a", [{"id": 1, "name": "CC0"}], 1))
    told = [str(s) for s in conversion.plan(path, "voc").shortfalls if s.trait == "extras"]
    assert told == ["other fields of the source: license (1 images and segments) (first: a1.jpg)"]


@pytest.mark.parametrize("command", [["convert", "--to", "coco"], ["import"]])
def test_what_is_written_is_not_read_the_next_time(cli, tmp_path, command):
    source = coco_folder(tmp_path / "in", coco_document([{}]))
    told = cli(*command, source, "-o", source / "deep/out", code=2).stderr
    assert "lies within" in told
    assert not (source / "deep").exists()


def test_a_line_an_image_is_cut_short_on_a_terminal(cli, tmp_path):
    body = coco_document()
    names = [f"{n}?.jpg" for n in range(50)]
    body["images"] = [
        {"id": i, "file_name": n, "height": 20, "width": 30} for i, n in enumerate(names, 1)
    ]
    source = put(tmp_path / "instances.json", body)
    told = cli("convert", source, "--to", "coco", "-o", tmp_path / "a")
    assert (told.stderr + told.stdout).count("I110") == 20
    assert "and 30 more" in told.stderr + told.stdout
    told = cli("convert", source, "--to", "coco", "-o", tmp_path / "b", "--json")
    assert len(json.loads(told.stdout)["notes"]) == 50


# ── as other tools write it ──────────────────────────────────────────────────────────────────


def test_images_of_lvis_are_named_after_their_urls(tmp_path):
    url = "http://images.cocodataset.org/val2017/000000000007.jpg"
    image = {"id": 1, "coco_url": url, "height": 20, "width": 30}
    document = coco_document([{"segmentation": SQUARE}], images=[image])
    source = coco_folder(tmp_path / "in", document)
    (source / "val2017").mkdir()
    (source / "val2017" / "000000000007.jpg").write_bytes(picture())
    taken = intake.take_in([source], tmp_path / "out")
    assert [s.file_name for s in taken.dataset] == ["val2017/000000000007.jpg"]
    assert any("read from coco_url" in note for note in taken.notes)


def test_pictures_of_fiftyone_are_found(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").write_bytes(picture())
    (tmp_path / "labels.json").write_text(json.dumps(coco_document([{"segmentation": SQUARE}])))
    assert intake.read(tmp_path)[0].file_name == "a.jpg"
    with intake.opened(tmp_path) as found:
        assert found.picture is not None
        assert found.picture(found.dataset[0]) == picture()


def test_backslashes_part_folders_as_label_studio_writes_them_on_windows(tmp_path):
    image = {"id": 1, "file_name": "images\\a.jpg", "height": 20, "width": 30}
    document = coco_document([{"segmentation": SQUARE}], images=[image])
    taken = intake.take_in([coco_folder(tmp_path / "in", document)], tmp_path / "out")
    assert [s.file_name for s in taken.dataset] == ["images/a.jpg"]
    assert any("I109" in note and "read as slashes" in note for note in taken.notes)


@pytest.mark.parametrize("name", ["..\\a.jpg", "C:\\a.jpg", "\\a.jpg", "a\\..\\..\\b.jpg"])
def test_backslashes_lead_nowhere_else(tmp_path, name):
    image = {"id": 1, "file_name": name, "height": 20, "width": 30}
    document = coco_document([{"segmentation": SQUARE}], images=[image])
    with pytest.raises(InvalidDataset, match="I109"):
        intake.source(coco_folder(tmp_path / "in", document))
