from __future__ import annotations

import json

import pytest

from .releases import built, dataset, edited
from .test_cli_bucket import ok, run


@pytest.fixture
def home(tmp_path):
    """A release that is published as hands 1.0.0, and its dataset."""
    dataset(tmp_path / "dataset")
    built(tmp_path / "dataset", tmp_path / "release")
    ok("push", tmp_path / "release", f"file://{tmp_path}/bucket/hands", "--version", "auto")
    return tmp_path


def shifted(home):
    """The next release: one mask has moved."""

    def edit(rows):
        ring = rows[0]["segments"][0]["segmentation"][0]
        ring[0::2] = [x + 2 for x in ring[0::2]]

    return built(edited(home / "dataset", edit), home / "next")


def test_diff_says_what_changed_and_what_version_that_makes(home):
    told = ok("diff", f"file://{home}/bucket/hands@1.0.0", shifted(home))
    assert told.stdout == (
        "        before  after  added  removed  renamed  moved  new bytes\n"
        "images       4      4      0        0        0      0          0\n"
        "\n"
        "category  before  after  added  removed  changed  mean IoU\n"
        "hand           4      4      0        0        1     0.600\n"
        "all            5      5      0        0        1     0.600\n"
    )
    assert "major: 1 mask changed, mean IoU 0.600 (a.jpg)\n" in told.stderr
    same = ok("diff", home / "release", f"file://{home}/bucket/hands")
    assert same.stdout == f"{home}/release and hands 1.0.0 are the same\n"


def test_diff_as_json_has_every_image(home):
    said = json.loads(ok("diff", home / "release", shifted(home), "--json").stdout)
    assert (said["level"], said["reasons"]) == ("major", ["1 mask changed, mean IoU 0.600"])
    assert said["classes"]["hand"]["masks"] == 1
    (change,) = said["changes"]
    assert change["file_name"] == "a.jpg"
    assert change["edits"][0]["iou"] == pytest.approx(0.6)


def test_a_changelog_grows_by_a_section_and_travels_with_the_release(home):
    log = home / "CHANGELOG.md"
    arguments = ("diff", f"file://{home}/bucket/hands", shifted(home), "--changelog", log)
    section = ok(*arguments, "--title", "2.0.0", "--markdown").stdout
    assert section.startswith("## 2.0.0\n\nA major version, compared with hands 1.0.0.\n")
    once = log.read_text()
    assert once == "# Changelog\n\n" + section
    ok(*arguments, "--title", "2.0.0")
    assert log.read_text() == once
    ok("build", home / "dataset", "-o", home / "logged", "--changelog", log)
    assert (home / "logged" / "CHANGELOG.md").read_text() == once
    said = json.loads(ok("diff", home / "next", home / "logged", "--json").stdout)
    assert said["level"] == "patch"
    assert "CHANGELOG.md" in said["documents"]


def test_push_finds_the_number_and_says_why(home):
    target = f"file://{home}/bucket/hands"
    again = ok("push", home / "release", target, "--version", "auto")
    assert again.stdout.startswith("hands 1.0.0 already published ")
    assert "its content is published under this number" in again.stderr
    tree = shifted(home)
    planned = json.loads(
        ok("push", tree, target, "--version", "auto", "--dry-run", "--json").stdout
    )
    assert (planned["version"], planned["reasons"]) == (
        "2.0.0",
        ["1 mask changed, mean IoU 0.600"],
    )
    told = ok("push", tree, target, "--version", "auto", "--receipt", home / "receipt.json")
    assert told.stdout.startswith("hands 2.0.0 published ")
    assert "hands 2.0.0: a major version after 1.0.0: 1 mask changed, mean IoU 0.600" in told.stderr
    assert json.loads((home / "receipt.json").read_text())["version"] == "2.0.0"


def test_diff_of_what_is_not_there(home):
    assert run("diff", home / "release", home / "nowhere").exit_code == 2
    assert run("diff", home / "release", f"file://{home}/bucket/feet").exit_code == 4
