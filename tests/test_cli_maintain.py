from __future__ import annotations

import json

import pytest

from tests.releases import built, dataset, edited
from tests.test_cli_bucket import ok, run


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


def two_versions(home) -> str:
    target = f"file://{home}/bucket/hands"
    ok("push", shifted(home), target, "--version", "1.1.0")
    return target


def test_channel_yank_and_deprecate_are_told_by_list_and_show(home):
    target = two_versions(home)
    moved = ok("channel", f"{target}@1.0.0", "stable")
    assert (moved.stdout, moved.stderr) == ("hands@stable is 1.0.0\n", "it is new\n")
    ok("yank", f"{target}@1.1.0", "--reason", "cameras are mixed up", "--superseded-by", "1.0.0")
    ok("deprecate", f"{target}@1.0.0", "--reason", "old")
    assert ok("list", target).stdout == (
        "1.1.0  latest, yanked: cameras are mixed up; use 1.0.0\n1.0.0  stable, deprecated: old\n"
    )
    newest, _ = json.loads(ok("list", target, "--json").stdout)["versions"]
    assert newest["status"]["state"] == "yanked"
    shown = ok("show", f"{target}@1.1.0")
    assert "status     yanked: cameras are mixed up; use 1.0.0\nchannels   latest\n" in shown.stdout
    assert shown.stderr == ("warning: hands 1.1.0 is yanked: cameras are mixed up; use 1.0.0\n")
    ok("yank", f"{target}@1.1.0", "--undo", "--reason", "they are not")
    assert ok("list", target).stdout.startswith("1.1.0  latest\n")
    again = ok("yank", f"{target}@1.1.0", "--undo", "--reason", "still not")
    assert again.stdout == "hands 1.1.0 is already active\n"


def test_a_pull_of_a_yanked_version_warns_loudly_every_time(home):
    target = two_versions(home)
    ok("yank", f"{target}@1.1.0", "--reason", "cameras are mixed up")
    for out in ("one", "two"):
        got = ok("pull", f"{target}@1.1.0", "-o", home / out, "--json")
        assert got.stderr == "warning: hands 1.1.0 is yanked: cameras are mixed up\n"
        assert json.loads(got.stdout)["version"] == "1.1.0"
    passed_over = ok("pull", f"{target}@latest", "-o", home / "three")
    assert passed_over.stdout.startswith("hands 1.0.0 pulled ")
    assert "hands@latest is 1.1.0, which is yanked" in passed_over.stderr


def test_a_dry_run_of_them_changes_nothing(home):
    target = two_versions(home)
    planned = ok("yank", f"{target}@1.1.0", "--reason", "wrong", "--dry-run")
    assert planned.stdout == "hands 1.1.0 would be yanked\n"
    said = json.loads(ok("channel", f"{target}@1.0.0", "stable", "--dry-run", "--json").stdout)
    assert (said["status"], said["was"]) == ("planned", None)
    assert ok("list", target).stdout == "1.1.0  latest\n1.0.0\n"


def test_channels_go_back_only_when_told_to(home):
    target = two_versions(home)
    refused = run("channel", f"{target}@1.0.0", "latest")
    assert refused.exit_code == 6
    assert "hint: say --allow-rollback" in refused.stderr
    assert ok("channel", f"{target}@1.0.0", "latest", "--allow-rollback").stderr == (
        "it was 1.1.0\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("yank", "@latest", "--reason", "x"), 2),
        (("yank", "@9.0.0", "--reason", "x"), 4),
        (("yank", "@1.0.0", "--reason", " "), 2),
        (("yank", "@1.0.0"), 2),
        (("deprecate", "@^1", "--reason", "x"), 2),
        (("channel", "@1.0.0", "Stable"), 2),
        (("channel", "@9.0.0", "stable"), 4),
    ],
)
def test_what_they_refuse(home, arguments, code):
    command, selector, *rest = arguments
    assert run(command, f"file://{home}/bucket/hands{selector}", *rest).exit_code == code


def test_a_reason_cannot_speak_to_the_terminal(home):
    target = f"file://{home}/bucket/hands"
    ok("yank", f"{target}@1.0.0", "--reason", "red \x1b[31m\u202eevil")
    assert "\x1b" not in ok("list", target).stdout
    assert "\u202e" not in ok("show", f"{target}@1.0.0").stdout


# ── mirror and repair ────────────────────────────────────────────────────────────────────────


def test_a_mirror_is_made_and_mends_what_the_bucket_has_lost(home):
    bucket, mirror = f"file://{home}/bucket", f"file://{home}/mirror"
    planned = ok("mirror", f"{bucket}/hands", mirror, "--dry-run")
    assert planned.stdout.startswith("hands 1.0.0 planned ")
    assert "hands@latest would be 1.0.0\n" in planned.stdout
    assert "would copy " in planned.stderr
    assert not (home / "mirror").exists()
    assert ok("mirror", f"{bucket}/hands", mirror).stdout.startswith("hands 1.0.0 mirrored ")
    again = ok("mirror", f"{bucket}/hands@^1", mirror, "--json")
    said = json.loads(again.stdout)
    assert (said["objects"], said["versions"][0]["status"]) == (0, "already there")

    victim = "datasets/hands/v1.0.0/README.md"
    good = (home / "bucket" / victim).read_bytes()
    (home / "bucket" / victim).write_bytes(good[:-1] + b"?")
    damaged = run("verify", f"{bucket}/hands@1.0.0", "--deep")
    assert (damaged.exit_code, damaged.stdout) == (7, f"damaged file {victim} (README.md)\n")
    assert "--repair-from" in damaged.stderr
    told = json.loads(run("verify", f"{bucket}/hands@1.0.0", "--json").stdout)
    assert (told["status"], told["damages"][0]["key"]) == ("damaged", victim)
    mended = ok("verify", f"{bucket}/hands@1.0.0", "--deep", "--repair-from", mirror)
    assert mended.stdout.startswith(f"repaired: it was damaged file {victim} (README.md)\n")
    assert "is sound" in mended.stdout
    assert (home / "bucket" / victim).read_bytes() == good


def test_a_pulled_folder_knows_which_bucket_to_look_at(home):
    ok("pull", f"file://{home}/bucket/hands@1.0.0", "-o", home / "out")
    assert "/bucket/hands@1.0.0 is sound" in ok("verify", home / "out", "--remote").stdout
    (home / "bucket/datasets/hands/v1.0.0/README.md").unlink()
    assert ok("verify", home / "out").stdout.startswith(f"{home}/out is sound")
    assert run("verify", home / "out", "--remote").exit_code == 7
    assert run("verify", home / "out", "--repair-from", f"file://{home}/m").exit_code == 2


def test_mirroring_says_what_stands_against_it(home):
    bucket, mirror = f"file://{home}/bucket", f"file://{home}/mirror"
    assert run("mirror", f"{bucket}/feet", mirror).exit_code == 4
    assert run("mirror", f"{bucket}/hands", f"{bucket}/").exit_code == 2
    ok("push", shifted(home), f"{mirror}/hands", "--version", "1.0.0")
    conflict = run("mirror", f"{bucket}/hands", mirror)
    assert (conflict.exit_code, conflict.stdout) == (6, "")
    assert "has other content as hands 1.0.0" in conflict.stderr
    record = home / "bucket/datasets/hands/releases/1.0.0.json"
    record.write_bytes(record.read_bytes()[:-1])
    broken = run("mirror", f"{bucket}/hands", f"file://{home}/third")
    assert broken.exit_code == 7
    assert "damaged record datasets/hands/releases/1.0.0.json" in broken.stdout
    as_json = run("mirror", f"{bucket}/hands", f"file://{home}/third", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["objects"]) == (7, 0)
