from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from publisher.cli import main
from tests.trees import FILES, make_tree, manifest, read_tree


@pytest.fixture
def remote(tmp_path) -> str:
    """A remote with hands 1.0.0 and 1.1.0, and feet 0.1.0."""
    make_tree(tmp_path / "tree")
    make_tree(tmp_path / "next", {"README.md": b"better\n"})
    remote = f"file://{tmp_path}/bucket"
    ok("push", tmp_path / "tree", f"{remote}/hands", "--version", "1.0.0", "--channel", "stable")
    ok("push", tmp_path / "next", f"{remote}/hands", "--version", "1.1.0")
    ok("push", tmp_path / "tree", f"{remote}/feet", "--version", "0.1.0")
    return remote


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def ok(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def test_push_says_one_fact_and_counts(remote, tmp_path):
    again = ok("push", tmp_path / "tree", f"{remote}/hands", "--version", "1.0.0")
    assert again.stdout == f"hands 1.0.0 already published {manifest().root}\n"
    assert f"sent 0 files, 0 bytes; {len(FILES)} files" in again.stderr
    said = json.loads(
        ok("push", tmp_path / "tree", f"{remote}/hands", "--version", "2.0.0", "--json",
           "--dry-run").stdout
    )  # fmt: skip
    assert (said["status"], said["sent"]["files"]) == ("planned", 0)
    assert "2.0.0" not in ok("list", f"{remote}/hands").stdout


@pytest.mark.parametrize(("layout", "requests"), [("packs", 6), ("plain", len(FILES))])
def test_the_layout_can_be_chosen_and_a_dry_run_says_what_it_costs(tmp_path, layout, requests):
    make_tree(tmp_path / "tree")
    push = ("push", tmp_path / "tree", f"file://{tmp_path}/b/hands", "--version", "1.0.0")
    planned = ok(*push, "--layout", layout, "--dry-run")
    assert f"that is {requests} requests and " in planned.stderr
    said = json.loads(ok(*push, "--layout", layout, "--json").stdout)
    assert (said["layout"], said["requests"]) == (layout, requests)
    assert f"layout     {layout}\n" in ok("show", f"file://{tmp_path}/b/hands").stdout
    assert json.loads(ok(*push, "--layout", layout, "--json").stdout)["requests"] == 0


def test_list_gives_datasets_or_versions_newest_first(remote):
    assert ok("list", remote).stdout == "feet\nhands\n"
    assert ok("list", f"{remote}/hands").stdout == "1.1.0  latest\n1.0.0  stable\n"
    assert json.loads(ok("list", f"{remote}/hands", "--json").stdout)["versions"][0] == {
        "version": "1.1.0",
        "channels": ["latest"],
    }
    missing = run("list", f"{remote}/ears")
    assert missing.exit_code == 4


def test_show_tells_what_a_version_holds(remote):
    out = ok("show", f"{remote}/hands@stable").stdout
    assert out.startswith(f"hands 1.0.0\nroot       {manifest().root}\n")
    assert "train       2" in out
    said = json.loads(ok("show", f"{remote}/hands", "--json").stdout)
    assert said["splits"]["val"]["images"] == 1


def test_pull_one_split_and_verify(remote, tmp_path):
    out = tmp_path / "out"
    planned = ok("pull", f"{remote}/hands@1.0.0", "-o", out, "--split", "val", "--dry-run")
    assert "would fetch 5 files" in planned.stderr
    assert "that is 5 requests and 55 bytes for files" in planned.stderr
    assert "$0.0000 on AWS S3" in planned.stderr
    assert not out.exists()
    said = json.loads(ok("pull", f"{remote}/hands@1.0.0", "-o", out, "--json").stdout)
    assert (said["splits"], said["fetched"]["files"]) == (["train", "val"], len(FILES))
    assert read_tree(out) == FILES
    assert ok("verify", out).stdout == f"{out} is sound {manifest().root}\n"
    assert ok("verify", f"{remote}/hands@1.0.0", "--deep").exit_code == 0
    (out / "README.md").write_bytes(b"scribbled")
    damaged = run("verify", out)
    assert damaged.exit_code == 7
    assert "changed: README.md" in damaged.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("pull", "{}/hands@9.9.9", "-o", "x"), 4),
        (("pull", "{}/hands@1.0", "-o", "x"), 2),
        (("pull", "hands", "-o", "x"), 2),
        (("show", "{}/ears"), 4),
        (("push", "{tree}", "{}/hands", "--version", "1.1.0"), 6),
        (("push", "{tree}", "{}/hands@1.2.0", "--version", "1.2.0"), 2),
        (("push", "{tree}/train", "{}/hands", "--version", "3.0.0"), 2),
    ],
)
def test_exit_codes_and_hints(remote, tmp_path, arguments, code):
    words = [a.replace("{tree}", f"{tmp_path}/tree").replace("{}", remote) for a in arguments]
    failed = run(*words)
    assert failed.exit_code == code
    assert failed.stderr.startswith("error: ")
    assert "\nhint: " in failed.stderr
    as_json = run(*words, "--json")
    assert as_json.exit_code == code
    assert set(json.loads(as_json.stdout)["error"]) >= {"kind", "message", "hint"}
