"""retract and gc as they are typed."""

from __future__ import annotations

import json

import pytest

from publisher.storage import LocalBucket
from tests.bucket.shelters import FACE, SECRET, bodies, pictures, put, rubbish
from tests.bucket.test_gc import die
from tests.test_cli_bucket import ok, run


@pytest.fixture
def home(tmp_path):
    bucket = LocalBucket(tmp_path / "bucket")
    put(bucket, tmp_path, "1.0.0", pictures(1, **{FACE: SECRET}), layout="packs")
    put(bucket, tmp_path, "1.1.0", pictures(1, 2), layout="packs")
    put(bucket, tmp_path, "7.0.0", {"a.txt": b"cats", FACE: SECRET}, name="cats")
    return tmp_path


@pytest.fixture
def target(home):
    return f"file://{home}/bucket/hands"


REASON = ("--reason", "a wish")


def test_a_retraction_is_shown_first_and_done_with_yes(home, target):
    arguments = ("retract", f"{target}@1.0.0", *REASON, "--files", "*/face.jpg")
    bucket = LocalBucket(home / "bucket")
    before = bodies(bucket)
    looked = ok(*arguments, "--dry-run")
    assert looked.stdout == "hands 1.0.0 would be retracted\ncats 7.0.0 would be retracted\n"
    assert f"named: {FACE}\n" in looked.stderr
    assert "81 bytes of versions that stay would be written anew: hands 1.1.0\n" in looked.stderr
    unsure = run(*arguments)
    assert unsure.exit_code == 2
    assert unsure.stdout == looked.stdout
    assert "say --yes to do it" in unsure.stderr
    assert bodies(bucket) == before
    done = ok(*arguments, "--yes")
    assert done.stdout == "hands 1.0.0 retracted\ncats 7.0.0 retracted\n"
    assert "caches, mirrors and copies" in done.stderr
    assert SECRET not in bodies(bucket)
    assert ok("list", target).stdout == "1.1.0  latest\n1.0.0  retracted: a wish\n"
    again = json.loads(ok(*arguments, "--yes", "--json").stdout)
    assert (again["status"], again["deleted"]["objects"]) == ("retracted", 0)


@pytest.mark.parametrize("command", ["pull", "show", "verify", "diff"])
def test_readers_hear_that_it_is_gone(home, target, command):
    ok("retract", f"{target}@1.0.0", *REASON, "--files", FACE, "--yes")
    more = {"pull": ("-o", home / "out"), "diff": (f"{target}@1.1.0",)}.get(command, ())
    said = run(command, f"{target}@1.0.0", *more)
    assert said.exit_code == 4
    assert "hands 1.0.0 is gone: it was retracted on 2" in said.stderr
    assert ": a wish" in said.stderr
    assert "hint: delete copies of it" in said.stderr
    told = json.loads(run(command, f"{target}@1.0.0", *more, "--json").stdout)
    assert told["error"]["kind"] == "VersionRetracted"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("@latest", *REASON, "--yes"), 2),
        (("@9.0.0", *REASON, "--yes"), 4),
        (("@1.0.0", "--reason", " ", "--yes"), 2),
        (("@1.0.0", "--yes"), 2),
        (("@1.0.0", *REASON, "--files", "nope", "--yes"), 2),
    ],
)
def test_what_retract_refuses(home, target, arguments, code):
    before = bodies(LocalBucket(home / "bucket"))
    assert run("retract", f"{target}{arguments[0]}", *arguments[1:]).exit_code == code
    assert bodies(LocalBucket(home / "bucket")) == before


def test_gc_marks_then_deletes_and_says_what(home):
    bucket, remote = LocalBucket(home / "bucket"), f"file://{home}/bucket"
    die(bucket, home, "2.0.0", pictures(5, 6), layout="packs")
    left = rubbish(bucket)
    looked = ok("gc", remote, "--dry-run")
    shown = [line.split(" ")[0] for line in looked.stdout.splitlines()]
    assert sorted(shown) == sorted(left)
    assert all(line.endswith(" would be marked") for line in looked.stdout.splitlines())
    first = ok("gc", remote)
    assert first.stdout == ""
    assert f"{len(left)} objects, " in first.stderr
    assert "marked\n0 objects, 0 bytes waiting\n0 objects, 0 bytes deleted\n" in first.stderr
    told = json.loads(ok("gc", remote, "--json").stdout)
    assert {o["key"] for o in told["waiting"]} == set(left)
    done = json.loads(ok("gc", remote, "--grace", "0", "--json").stdout)
    assert {o["key"] for o in done["deleted"]} == set(left)
    assert sum(o["bytes"] for o in done["deleted"]) > 0
    assert rubbish(bucket) == []
    ok("verify", f"{remote}/hands@1.1.0", "--deep")
    assert run("gc", remote, "--grace", "-1").exit_code == 2


def test_gc_gives_way_to_a_push(home):
    from publisher.bucket.leases import held

    bucket, remote = LocalBucket(home / "bucket"), f"file://{home}/bucket"
    die(bucket, home, "2.0.0", pictures(5, 6))
    ok("gc", remote)
    with held(bucket, "shared", "a push of hands 3.0.0"):
        busy = run("gc", remote, "--grace", "0")
        assert busy.exit_code == 6
        assert "a push of hands 3.0.0 is under way" in busy.stderr
        doctor = run("doctor", remote)
        assert "under way, or was cut short: a push of hands 3.0.0" in doctor.stdout
    assert rubbish(bucket)
