"""keygen, sign, and what push, channel, yank, pull, verify and show have for signatures."""

from __future__ import annotations

import json

import pytest

from publisher.storage import open_bucket
from publisher.versions.manifest import signatures_key
from publisher.versions.version import Version
from tests.test_cli_bucket import ok, run
from tests.trees import make_tree


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a release, a bucket and two keys; `public` has their public halves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PUBLISHER_KEY", raising=False)
    make_tree(tmp_path / "tree")
    return tmp_path


@pytest.fixture
def ann(home) -> str:
    made = ok("keygen", "ann.key")
    assert "keep it secret" in made.stderr
    return made.stdout.strip()


@pytest.fixture
def target(home) -> str:
    return f"file://{home}/bucket/hands"


def test_a_public_key_is_printed_again(home, ann):
    assert ok("keygen", "ann.key", "--show").stdout == f"{ann}\n"
    said = json.loads(ok("keygen", "ann.key", "--show", "--json").stdout)
    assert said == {"file": "ann.key", "public": ann}
    assert run("keygen", "ann.key").exit_code == 2
    assert run("keygen", "none.key", "--show").exit_code == 2


def test_from_a_key_to_a_consumer_who_pins_it(home, target, ann):
    ok("push", "tree", target, "--version", "1.0.0", "--key", "ann.key", "--expires", "30")
    assert f"signed by  {ann}\n" in ok("show", target).stdout
    assert json.loads(ok("show", target, "--json").stdout)["signed_by"] == [ann]
    ok("pull", target, "-o", "out", "--trust", ann, "--lock", "publisher.lock")
    assert ann in (home / "publisher.lock").read_text()
    ok("verify", target, "--trust", ann, "--deep")
    open_bucket(f"file://{home}/bucket").delete(signatures_key("hands", Version(1, 0, 0)))
    refused = run("pull", target, "-o", "new", "--lock", "publisher.lock")
    assert refused.exit_code == 7
    assert "hands 1.0.0 has no signature of a key that you trust" in refused.stderr
    assert "\nhint: " in refused.stderr
    assert not (home / "new").exists()
    as_json = json.loads(run("verify", target, "--trust", ann, "--json").stdout)
    assert (as_json["exit_code"], as_json["error"]["kind"]) == (7, "Untrusted")


def test_a_published_version_is_signed_by_its_root(home, target, ann):
    root = ok("push", "tree", target, "--version", "1.0.0").stdout.split()[-1]
    where = f"{target}@{root}"
    assert ok("sign", where, "--key", "ann.key", "--dry-run").stdout == (
        f"hands 1.0.0 would be signed {root}\n"
    )
    assert ok("sign", where, "--key", "ann.key").stderr == f"by {ann}\n"
    assert "already signed" in ok("sign", where, "--key", "ann.key").stdout
    said = json.loads(ok("sign", where, "--key", "ann.key", "--json").stdout)
    assert (said["status"], said["root"], said["keys"]) == ("unchanged", root, [ann])
    assert run("sign", where).exit_code == 2


def test_the_key_may_be_named_by_the_environment(home, target, ann, monkeypatch):
    monkeypatch.setenv("PUBLISHER_KEY", "ann.key")
    ok("push", "tree", target, "--version", "1.0.0")
    ok("yank", f"{target}@1.0.0", "--reason", "why")
    ok("yank", f"{target}@1.0.0", "--reason", "why", "--undo")
    ok("pull", f"{target}@1.0.0", "-o", "out", "--trust", ann)


def test_channels_are_signed_again(home, target, ann):
    ok("push", "tree", target, "--version", "1.0.0", "--key", "ann.key", "--expires", "1")
    channel = ("channel", f"{target}@latest", "latest", "--key", "ann.key")
    assert "unchanged" in ok(*channel, "--expires", "9", "--json").stdout
    assert ok(*channel, "--expires", "9", "--refresh", "--dry-run").stderr == (
        "it would be signed again\n"
    )
    assert ok(*channel, "--expires", "9", "--refresh").stderr == "it was signed again\n"
    forgot = run(*channel, "--refresh")
    assert forgot.exit_code == 2
    assert "--expires DAYS, where 0 is never" in forgot.stderr
    ok(*channel, "--refresh", "--expires", "0")
    assert run("channel", f"{target}@latest", "latest", "--refresh").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("push", "tree", "{}", "--version", "1.0.0", "--expires", "3"),
        ("push", "tree", "{}", "--version", "1.0.0", "--key", "none.key"),
        ("push", "tree", "{}", "--version", "1.0.0", "--key", "ann.key", "--expires", "-1"),
        ("pull", "{}", "-o", "out", "--trust", "ann.key"),
        ("verify", "tree", "--trust", "ed25519:" + "0" * 64),
    ],
)
def test_what_they_refuse(home, target, ann, arguments):
    words = [a.replace("{}", target) for a in arguments]
    assert run(*words).exit_code == 2
    assert not (home / "bucket").exists()


def test_a_secret_key_in_a_wrong_place_is_not_repeated(home, target, ann):
    secret = (home / "ann.key").read_text().strip()
    for words in (
        ("push", "tree", target, "--version", "1.0.0", "--key", secret),
        ("keygen", secret),
        ("pull", target, "-o", "out", "--trust", secret),
    ):
        refused = run(*words)
        assert refused.exit_code == 2
        assert secret[-64:] not in refused.output
