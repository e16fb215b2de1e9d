"""Commands: what they print, where, and how they end."""

from __future__ import annotations

import json

import pytest

from publisher.cli import main
from tests.makers import coco_document, coco_folder, cvat_polygon, cvat_zip, picture


@pytest.fixture
def export(tmp_path):
    return cvat_zip(tmp_path / "in.zip", {f"{i}.jpg": cvat_polygon() for i in range(4)})


def test_every_command_has_help(cli):
    listed = cli("--help").output
    for name in main.commands:
        assert name in listed
        assert cli(name, "--help").output.startswith("Usage: ")


def test_import_prints_the_account_on_stdout_and_talks_on_stderr(cli, export, tmp_path):
    result = cli("import", export, "-o", tmp_path / "out")
    assert result.stdout.splitlines()[1].split() == ["images", "4", "4"]
    assert "every difference above has its reason" in result.stderr


def test_import_as_json_is_one_object(cli, export, tmp_path):
    report = json.loads(cli("import", export, "-o", tmp_path / "out", "--json").stdout)
    assert report["in"] == report["out"]


def test_findings_read_like_a_compilers_and_end_with_3(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{"segmentation": [[1, 1, 2]]}]))
    result = cli("validate", source, code=3)
    assert "a.jpg: error P403: annotations[0].segmentation[0]: ring has 3" in result.stdout
    assert "1 errors" in result.stderr


def test_a_wrong_option_is_told_in_json_to_who_asks_for_json(cli, tmp_path):
    said = json.loads(cli("validate", tmp_path, "--json", "--colour", code=2).stdout)
    assert said["exit_code"] == 2
    assert said["error"]["kind"] == "UsageError"
    assert "--colour" in said["error"]["message"]
    assert "Usage:" in cli("validate", tmp_path, "--colour", code=2).stderr


def test_findings_as_json(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}, {"category_id": 9}]))
    report = json.loads(cli("validate", source, "--json", code=3).stdout)
    assert report["error"] == 1
    assert {f["code"] for f in report["findings"] if f["severity"] == "error"} == {"A304"}


def test_a_rule_can_be_left_out_and_warnings_can_count(cli, tmp_path):
    twice = coco_document([{}, {}])
    source = coco_folder(tmp_path / "in", twice)
    cli("validate", source)
    cli("validate", source, "--strict", code=3)
    codes = json.loads(cli("validate", source, "--json").stdout)["rules"]
    ignored = [word for code in codes for word in ("--ignore", code)]
    assert cli("validate", source, "--strict", *ignored).stdout == ""


def test_fix_mends_into_a_new_folder_and_says_what(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}, {}]))
    cli("import", source, "-o", tmp_path / "imported")
    result = cli("validate", tmp_path / "imported", "--fix", "-o", tmp_path / "mended")
    assert "info A306: fixed:" in result.stdout
    again = cli("validate", tmp_path / "mended", "--fix", "-o", tmp_path / "again")
    assert "fixed:" not in again.stdout
    one, two = (tmp_path / n / "samples.jsonl" for n in ("mended", "again"))
    assert one.read_bytes() == two.read_bytes()


def test_fix_needs_a_place_to_write(cli, export):
    assert "--fix and -o DIR go together" in cli("validate", export, "--fix", code=2).stderr


def test_an_export_is_mended_into_a_working_dataset_of_annotations(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}, {}, {"bbox": [1, 1, -8, 8]}]))
    told = cli("validate", source, "--fix", "-o", tmp_path / "out").stdout
    assert "info A306: fixed:" in told
    report = json.loads(cli("validate", tmp_path / "out", "--json").stdout)
    assert report["error"] == 0
    assert not {"A306", "A310"} & report["rules"].keys()


def test_nothing_is_mended_where_something_unreadable_would_be_lost(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}, {}, {"segmentation": [[1, 2]]}]))
    result = cli("validate", source, "--fix", "-o", tmp_path / "out", code=3)
    assert "1 annotation(s) cannot be read and would be lost" in result.stderr
    assert not (tmp_path / "out").exists()


def test_ids_that_two_segments_share_are_given_anew(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}, {"category_id": 2}]))
    cli("import", source, "-o", tmp_path / "imported")
    lines = (tmp_path / "imported" / "samples.jsonl").read_text().replace('"id":2', '"id":1')
    (tmp_path / "imported" / "samples.jsonl").write_text(lines)
    assert "A301" in cli("validate", tmp_path / "imported", code=3).stdout
    told = cli("validate", tmp_path / "imported", "--fix", "-o", tmp_path / "mended").stdout
    assert "info A301: fixed: ids are given anew" in told
    assert "A301" not in cli("validate", tmp_path / "mended").stdout


def test_what_reading_sets_right_is_fixed_too(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{"id": 5}, {"id": 5, "category_id": 2}]))
    assert "error A301" in cli("validate", source, code=3).stdout
    assert "info A301: fixed:" in cli("validate", source, "--fix", "-o", tmp_path / "out").stdout


def test_rules_are_chosen_by_the_beginning_of_their_code(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}, {}, {"bbox": [1, 1, -8, 8]}]))

    def codes(*options, code=0):
        return set(
            json.loads(cli("validate", source, "--json", *options, code=code).stdout)["rules"]
        )

    assert codes(code=3) >= {"A306", "A310", "C206"}
    assert codes("--select", "a3", code=3) == {"A306", "A310"}
    assert codes("--select", "A,C", "--ignore", "A310") == {"A306", "C206"}
    assert codes("--select", "A310", "--ignore", "A") == set()
    assert "no rule is called 'X9'" in cli("validate", source, "--select", "X9", code=2).stderr


def test_what_cannot_be_read_fails_whatever_is_selected(cli, tmp_path):
    (tmp_path / "instances.json").write_text('{"images": [')
    cli("validate", tmp_path / "instances.json", "--select", "P", code=3)


def test_with_a_baseline_only_new_findings_count(cli, tmp_path):
    bad = {"bbox": [1, 1, -8, 8], "id": 40}
    before = coco_folder(tmp_path / "a", coco_document([{}, bad]))
    accepted = tmp_path / "accepted.json"
    cli("validate", before, "--write-baseline", accepted)
    assert "2 findings are accepted" not in cli("validate", before, code=3).stderr
    assert cli("validate", before, "--baseline", accepted, "--strict").stdout == ""
    turned = coco_folder(tmp_path / "b", coco_document([bad, {"id": 7}, {**bad, "id": 8}]))
    result = cli("validate", turned, "--baseline", accepted, "--json", code=3)
    told = [(f["code"], f["segment_id"]) for f in json.loads(result.stdout)["findings"]]
    assert ("A310", 8) in told
    assert ("A310", 40) not in told
    clean = coco_folder(tmp_path / "c", coco_document([{}]))
    assert (
        "are gone, such as A306 of a.jpg" in cli("validate", clean, "--baseline", accepted).stderr
    )
    cli("validate", turned, "--baseline", accepted, "--write-baseline", accepted)
    assert cli("validate", turned, "--baseline", accepted).stdout == ""


def test_a_dataset_is_held_against_an_earlier_version(cli, tmp_path):
    old = coco_folder(tmp_path / "old", coco_document([{}]))
    named = [{"id": 1, "name": "foot"}, {"id": 2, "name": "table"}]
    new = coco_folder(tmp_path / "new", coco_document([{}], categories=named))
    assert "C207: category 1 was 'hand'" in cli("validate", new, "--against", old, code=3).stdout


def test_pictures_that_no_entry_has_are_told(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}]))
    (source / "images" / "b.jpg").write_bytes(b"")
    (source / "images" / "readme.txt").write_bytes(b"")
    (source / "thumbs").mkdir()
    (source / "thumbs" / "a.jpg").write_bytes(b"")
    assert (
        "I104: 1 picture(s) in images have no entry: images/b.jpg" in cli("validate", source).stdout
    )


def test_reports_are_written_beside_what_is_printed(cli, tmp_path):
    source = coco_folder(tmp_path / "in", coco_document([{}, {}]))
    names = [tmp_path / f"r.{kind}" for kind in ("html", "sarif", "json", "txt")]
    cli("validate", source, *(word for name in names for word in ("--report", name)))
    assert all(name.stat().st_size > 100 for name in names)
    assert (
        "reports end in .json, .sarif, .html, .txt"
        in cli("validate", source, "--report", tmp_path / "r.pdf", code=2).stderr
    )


def test_validate_writes_counts_for_dvc(cli, export, tmp_path):
    cli("validate", export, "--metrics", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["error"] == 0


@pytest.mark.parametrize("target", ["coco", "coco-panoptic", "publisher"])
def test_convert_writes_each_target(cli, export, tmp_path, target):
    cli("convert", export, "--to", target, "-o", tmp_path / "out")
    names = {
        "coco": {"instances.json"},
        "coco-panoptic": {"panoptic.json", "panoptic"},
        "publisher": {"dataset.json", "samples.jsonl"},
    }
    assert {p.name for p in (tmp_path / "out").iterdir() if p.name[0] != "."} == names[target]


def test_convert_to_an_unknown_format_lists_those_known(cli, export, tmp_path):
    result = cli("convert", export, "--to", "yolo9", "-o", tmp_path / "out", code=2)
    assert "unknown format 'yolo9'" in result.stderr
    assert "coco-panoptic" in result.stderr


def test_an_error_is_one_line_and_a_hint(cli, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    result = cli("import", tmp_path / "a.txt", "-o", tmp_path / "out", code=3)
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: a.txt: ")
    assert hint.startswith("hint: I read: ")


def test_an_error_as_json_is_json_too(cli, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    result = cli("import", tmp_path / "a.txt", "-o", tmp_path / "out", "--json", code=3)
    said = json.loads(result.stdout)
    assert said["exit_code"] == 3
    assert said["error"]["kind"] == "FormatError"


def test_the_whole_way_on_a_local_bucket(cli, export, tmp_path):
    remote = f"file://{tmp_path}/bucket"
    cli("import", export, "-o", tmp_path / "in")
    cli("split", tmp_path / "in", "-o", tmp_path / "split", "--lock", tmp_path / "splits.lock")
    cli("build", tmp_path / "split", "-o", tmp_path / "rel", "--metrics", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["segments"] == 4
    push = ("push", tmp_path / "rel", f"{remote}/hands", "--version", "1.0.0")
    assert "would send" in cli(*push, "--dry-run").stderr
    cli("show", f"{remote}/hands@latest", code=4)
    cli(*push, "--receipt", tmp_path / "receipt.json")
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    manifest = json.loads((tmp_path / "rel" / "manifest.json").read_text())
    assert receipt == {"name": "hands", "version": "1.0.0", "root": manifest["root"]}
    assert json.loads(cli("list", remote, "--json").stdout)["datasets"][0]["dataset"] == "hands"
    cli("pull", f"{remote}/hands@1.0.0", "-o", tmp_path / "got")
    assert "is sound" in cli("verify", tmp_path / "got").stdout
    victim = next((tmp_path / "got").rglob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    assert victim.name in cli("verify", tmp_path / "got", code=7).stderr


def test_a_taken_version_with_other_content_ends_with_6(cli, export, tmp_path):
    remote = f"file://{tmp_path}/bucket/hands"
    cli("import", export, "-o", tmp_path / "in")
    for n, ratios in enumerate(("train=1", "val=1")):
        lock = tmp_path / f"{n}.lock"
        cli("split", tmp_path / "in", "-o", tmp_path / "s", "--ratios", ratios, "--lock", lock)
        cli("build", tmp_path / "s", "-o", tmp_path / "rel")
        code = 6 if n else 0
        result = cli("push", tmp_path / "rel", remote, "--version", "1.0.0", code=code)
    assert "published with other content" in result.stderr
    assert "choose the next number" in result.stderr


def test_init_lays_out_a_repository_and_never_overwrites(cli, tmp_path):
    cli("init", tmp_path / "My Hands!")
    text = (tmp_path / "My Hands!" / "params.yaml").read_text()
    assert "name: my-hands" in text
    for name in ("dvc.yaml", "dataset.yaml", ".gitignore", "README.md"):
        assert "NAME_OF_DATASET" not in (tmp_path / "My Hands!" / name).read_text()
    assert "has dvc.yaml" in cli("init", tmp_path / "My Hands!", code=2).stderr


def test_a_damaged_line_is_a_finding_beside_the_others(cli, tmp_path):
    empty = cvat_zip(tmp_path / "in.zip", {"a.jpg": cvat_polygon("5,5;9,5;7,5"), "b.jpg": ""})
    cli("import", empty, "-o", tmp_path / "in")
    lines = (tmp_path / "in" / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "in" / "samples.jsonl").write_bytes(lines[0] + b'{"id": NaN}\n')
    report = json.loads(cli("validate", tmp_path / "in", "--json", code=3).stdout)
    assert {"A316", "J001"} <= {f["code"] for f in report["findings"]}


def test_a_dataset_is_never_written_over_its_own_images(cli, export, tmp_path):
    cli("import", export, "-o", tmp_path / "in")
    lock = tmp_path / "splits.lock"
    result = cli("split", tmp_path / "in", "-o", tmp_path / "in", "--lock", lock, code=2)
    assert "holds the images themselves" in result.stderr
    assert (tmp_path / "in" / "images" / "0.jpg").is_file()


def test_pictures_are_looked_at_where_they_lie(cli, export, tmp_path):
    wrong = {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}
    source = coco_folder(tmp_path / "in", coco_document([{}], images=[wrong]))
    assert "error I105" in cli("validate", source, code=3).stdout
    (source / "images" / "a.jpg").unlink()
    assert "pictures were not looked at" in cli("validate", source).stderr
    cli("import", export, "-o", tmp_path / "imported")
    (tmp_path / "imported" / "images" / "0.jpg").unlink()
    assert "0.jpg: error I103" in cli("validate", tmp_path / "imported", code=3).stdout


def test_our_coco_keeps_the_order_so_panoptic_needs_no_policy(cli, tmp_path):
    shapes = cvat_polygon(label="table") + cvat_polygon("2,2;5,2;5,5;2,5")
    export = cvat_zip(tmp_path / "in.zip", {"a.jpg": shapes})
    cli("convert", export, "--to", "coco", "-o", tmp_path / "coco")
    source = tmp_path / "coco" / "instances.json"
    cli("convert", source, "--to", "coco-panoptic", "-o", tmp_path / "one")
    cli("convert", export, "--to", "coco-panoptic", "-o", tmp_path / "two")
    maps = [tmp_path / n / "panoptic" / "a.png" for n in ("one", "two")]
    assert maps[0].read_bytes() == maps[1].read_bytes()


def test_a_new_fault_in_another_image_is_not_taken_for_an_accepted_one(cli, tmp_path):
    source, accepted = tmp_path / "instances.json", tmp_path / "accepted.json"

    def lacking(*image_ids):
        body = coco_document([{"image_id": i} for i in (1, 1, 2, 2)])
        body["images"].append({**body["images"][0], "id": 2, "file_name": "b.jpg"})
        for annotation in body["annotations"]:
            if annotation["image_id"] in image_ids:
                del annotation["iscrowd"]
        source.write_text(json.dumps(body))

    lacking(1)
    cli("validate", source, "--write-baseline", accepted)
    lacking(1, 2)
    result = cli("validate", source, "--baseline", accepted, code=3)
    assert "b.jpg: error A305" in result.stdout
    assert "a.jpg: error A305" not in result.stdout


@pytest.mark.parametrize("option", ["--report", "--metrics", "--write-baseline", "--baseline"])
def test_a_folder_in_the_place_of_a_file_is_one_line(cli, export, tmp_path, option):
    (tmp_path / "folder.html").mkdir()
    result = cli("validate", export, option, tmp_path / "folder.html", code=2)
    assert "folder.html" in result.stderr
    assert "Is a directory" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_cvat_mask_that_reaches_out_of_the_image_says_what_is_cut_off(cli, tmp_path):
    mask = '<mask label="hand" rle="0, 40" left="{}" top="2" width="10" height="4" z_order="0"/>'
    shapes = mask.format(25) + mask.format(3)
    source = cvat_zip(tmp_path / "a.zip", {"a.jpg": shapes})
    result = cli("validate", source)
    assert result.stdout.count("K822") == 1
    assert "20 of its pixels are cut off" in result.stdout
    odd = cvat_zip(tmp_path / "b.zip", {"a.jpg": mask.format("1_0")})
    assert "left is '1_0', not an integer" in cli("validate", odd, code=3).stdout


def test_a_panoptic_json_is_one_though_its_first_entry_is_broken(cli, tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}
    entry = {"image_id": 1, "file_name": "a.png"}
    listed = [entry, {**entry, "segments_info": []}]
    body = {"images": [image], "annotations": listed, "categories": []}
    (tmp_path / "panoptic.json").write_text(json.dumps(body))
    (tmp_path / "panoptic").mkdir()
    (tmp_path / "panoptic/a.png").write_bytes(picture(20, 30, "PNG"))
    said = cli("validate", tmp_path, code=3).stdout
    assert "missing required field `segments_info`" in said
    assert "category_id" not in said


@pytest.mark.parametrize(
    ("one", "two", "code"),
    [("a.jpg", "a.jpg", "I102"), ("a.jpg", "aux.jpg", "I110"), ("a.jpg", "A.jpg", "I111")],
)
def test_pictures_of_an_export_that_cannot_keep_their_names_are_told(cli, tmp_path, one, two, code):
    body = coco_document([{}, {"image_id": 2}])
    body["images"][0]["file_name"] = one
    body["images"].append({**body["images"][0], "id": 2, "file_name": two})
    (tmp_path / "instances.json").write_text(json.dumps(body))
    said = cli("validate", tmp_path / "instances.json").stdout
    assert f"warning {code}: {two!r} is called so here" in said
    assert code not in cli("validate", tmp_path / "instances.json", "--ignore", code).stdout


def test_convert_says_what_has_no_pixels_and_is_lost(cli, tmp_path):
    marks = '<points label="hand" points="3,4"/><tag label="hand"/>' + cvat_polygon()
    source = cvat_zip(tmp_path / "a.zip", {"a.jpg": marks})
    said = cli("convert", source, "--to", "datumaro", "-o", tmp_path / "d").stderr
    assert "datumaro cannot hold tags, points, lines and what else has no pixels (2)" in said
    said = cli("convert", source, "--to", "cvat", "-o", tmp_path / "c").stderr
    assert "cannot hold tags" not in said


def test_convert_says_what_it_calls_otherwise_and_what_it_set_right(cli, tmp_path):
    body = coco_document([{"iscrowd": "0"}])
    body["images"][0]["file_name"] = "aux.jpg"
    (tmp_path / "instances.json").write_text(json.dumps(body))
    source = tmp_path / "instances.json"
    said = cli("convert", source, "--to", "coco", "-o", tmp_path / "out").stderr
    assert "'aux.jpg' is called so here, since its own name is not portable" in said
    assert "iscrowd" in said


def test_convert_replaces_neither_its_source_nor_later_work(cli, export, tmp_path):
    out = tmp_path / "out"
    cli("convert", export, "--to", "labelme", "-o", out)
    cli("convert", export, "--to", "labelme", "-o", out)
    kept = {p.name: p.read_bytes() for p in out.iterdir()}
    said = cli("convert", out, "--to", "semantic", "-o", out, code=2).stderr
    assert "holds what is read" in said
    drawn = next(out.glob("*.json"))
    drawn.write_text(drawn.read_text() + " ")
    said = cli("convert", export, "--to", "labelme", "-o", out, code=2).stderr
    assert f"{drawn.name} is newer than what was written there" in said
    assert {p.name for p in out.iterdir()} == kept.keys()


def test_two_categories_of_one_name_are_not_merged_in_silence(cli, tmp_path):
    body = coco_document([{}])
    body["categories"] = [{"id": n, "name": "hand"} for n in (1, 2)]
    (tmp_path / "instances.json").write_text(json.dumps(body))
    source = tmp_path / "instances.json"
    said = cli("convert", source, "--to", "cvat", "-o", tmp_path / "out", code=3).stderr
    assert "two categories are called 'hand', and cvat knows them by their names" in said


def test_each_loss_is_told_with_its_pixels(cli, tmp_path):
    left = {"segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}
    right = {"segmentation": [[5, 1, 12, 1, 12, 9, 5, 9]]}
    source = coco_folder(tmp_path / "in", coco_document([left, right]))
    command = ("convert", source, "--to", "coco-panoptic", "-o", tmp_path / "out")
    said = cli(*command, "--overlap", "z-order").stderr
    assert "-32 px of 'hand'" in said
