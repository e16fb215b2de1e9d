"""The doctor finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import time

import pytest

from publisher import storage
from publisher.bucket.doctor import examine, machine
from publisher.bucket.publish import push
from publisher.bucket.retract import retract
from publisher.errors import AccessDenied
from publisher.storage import LocalBucket, MemoryBucket, open_bucket
from publisher.versions.housekeeping import LeaseNote
from publisher.versions.manifest import channel_key, record_key, tree_key
from publisher.versions.policy import policy
from publisher.versions.version import Channel, Version
from tests.bucket.test_maintain import filled
from tests.servers import moto_bucket
from tests.test_cli_bucket import ok, run
from tests.trees import make_tree
from tests.versions.test_policy import ARN, act_as, apply, guarded, remote  # noqa: F401  fixtures

NOON = "2026-01-01T12:00:00+00:00"
PROMISES = ("conditional create", "compare-and-swap", "ranges", "checksums", "listing")
SECRET = "wJalrXUtnFEMI-canary-secret"


def states(bucket) -> dict[str, str]:
    return {c.what: c.state for c in examine(bucket)}


def failures(bucket):
    return [c for c in examine(bucket) if c.state == "fail"]


@pytest.mark.parametrize("kind", ["memory", "local", "seaweedfs"])
def test_a_sound_bucket_is_found_sound_and_left_as_it_was(kind, request, tmp_path):
    if kind == "memory":
        bucket = MemoryBucket()
    elif kind == "local":
        bucket = LocalBucket(tmp_path / "bucket")
    else:
        bucket = open_bucket(request.getfixturevalue("s3_remote"))
    push(bucket, make_tree(tmp_path / "tree"), "hands", "1.0.0", created=NOON)
    before = [o.key for o in bucket.list()]
    found = states(bucket)
    assert set(found.values()) == {"ok"}
    assert found.keys() >= {"bucket", "write", "datasets", "leftovers", *PROMISES}
    assert ("clock" in found, "credentials" in found) == (kind == "seaweedfs",) * 2
    assert [o.key for o in bucket.list()] == before


def test_moto_is_told_apart_by_the_checksums_that_it_accepts(monkeypatch):
    with moto_bucket(monkeypatch) as bucket:
        found = states(bucket)
    assert {found.pop("checksums"), *found.values()} == {"warn", "ok"}


class Ignores(MemoryBucket):
    """A server that answers 200 and does as it likes."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def put(self, key, body, **options):
        options.pop(self._what, None)
        return super().put(key, body, **options)

    def read(self, key, *, start=0):
        return super().read(key, start=0 if self._what == "ranges" else start)

    def list(self, prefix=""):
        return iter(()) if self._what == "listing" else super().list(prefix)

    def delete(self, key):
        if self._what != "delete":
            super().delete(key)


@pytest.mark.parametrize(
    ("what", "check", "state"),
    [
        ("if_absent", "conditional create", "fail"),
        ("if_match", "compare-and-swap", "fail"),
        ("ranges", "ranges", "fail"),
        ("sha256", "checksums", "warn"),
        ("listing", "listing", "warn"),
        ("delete", "delete", "warn"),
    ],
)
def test_what_a_server_ignores_is_named_with_what_it_costs(what, check, state):
    bucket = Ignores(what)
    (found,) = [c for c in examine(bucket) if c.what == check]
    assert (found.state, found.code) == (state, 8 if state == "fail" else 0)
    assert found.hint
    if what != "delete":
        assert not [k for k in bucket._objects if k.startswith("doctor/")]


def test_readers_learn_that_they_are_readers(guarded, act_as, tmp_path):  # noqa: F811
    ours = remote("doctor")
    apply(guarded, policy(ours, readers=[f"{ARN}reader"]))
    push(act_as("demo", ours), make_tree(tmp_path / "t"), "hands", "1.0.0", created=NOON)
    found = states(act_as("reader", ours))
    assert found.pop("write") == "warn"
    assert set(found.values()) == {"ok"}


def test_wrong_credentials_end_it_and_no_secret_is_shown(s3_remote, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    failed = run("doctor", s3_remote)
    assert failed.exit_code == 5
    assert "fail  bucket: " in failed.stdout
    assert "hint: the secret key is wrong" in failed.stdout
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    other = run("doctor", s3_remote, "--json")
    assert other.exit_code == 5
    for told in (failed, other):
        assert SECRET not in told.output
        assert "AKIAIOSFODNN7" not in told.output
    (told,) = [c for c in json.loads(other.stdout)["checks"] if c["what"] == "credentials"]
    assert told["found"] == "key …MPLE from env for 127.0.0.1"
    assert "credentials: key … from env for 127.0.0.1\n" in failed.stdout


def test_a_bucket_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    failed = run("doctor", "s3://bucket", "--endpoint-url", "http://127.0.0.1:9")
    assert failed.exit_code == 8
    assert failed.stdout.splitlines()[-2].startswith("fail  bucket: s3://bucket: no answer from")


@pytest.mark.parametrize(("off", "state"), [(1000, "fail"), (-600, "warn"), (30, "ok")])
def test_a_clock_that_is_wrong(s3_remote, monkeypatch, off, state):
    bucket = open_bucket(s3_remote)
    real = storage._now
    monkeypatch.setattr(storage, "_now", lambda: real() + off)
    (clock,) = [c for c in examine(bucket) if c.what == "clock"]
    assert clock.state == state
    assert ("ahead of" if off > 0 else "behind") in clock.found


def test_a_channel_that_leads_nowhere(tmp_path):
    bucket = filled(MemoryBucket(), tmp_path, ("1.0.0",))
    bucket.delete(record_key("hands", Version.parse("1.0.0")))
    filled(bucket, tmp_path / "more", ("0.9.0",))
    (found,) = failures(bucket)
    assert (found.what, found.code) == ("hands@latest", 7)
    assert "points to 1.0.0" in found.found


@pytest.mark.parametrize("what", ["record", "channel"])
def test_damaged_documents_are_found(tmp_path, what):
    bucket = filled(MemoryBucket(), tmp_path, ("1.0.0",))
    keys = {
        "record": record_key("hands", Version.parse("1.0.0")),
        "channel": channel_key("hands", Channel("latest")),
    }
    bucket.put(keys[what], bucket.get(keys[what])[:-3])
    (found,) = failures(bucket)
    assert found.code == 7
    assert "is damaged" in found.found


def test_a_retraction_that_was_cut_short_is_found(tmp_path):
    bucket = filled(MemoryBucket(), tmp_path, ("1.0.0",))
    retract(bucket, "hands", Version.parse("1.0.0"), "a wish", at=NOON)
    assert failures(bucket) == []
    bucket.delete(tree_key("hands", "1.0.0", "RETRACTED.txt"))
    (found,) = failures(bucket)
    assert (found.what, found.code) == ("hands 1.0.0", 6)
    assert "`publisher retract` again" in found.hint


def test_leftovers_of_pushes_and_uploads(monkeypatch, tmp_path):
    with moto_bucket(monkeypatch) as bucket:
        bucket.put("leases/shared-1.json", LeaseNote("a push of hands 1.2.0").to_bytes())
        bucket.put("doctor/old", b"")
        bucket._client.create_multipart_upload(
            Bucket=bucket._name, Key="some/prefix/blobs/aa/large"
        )
        bucket._client.create_multipart_upload(Bucket=bucket._name, Key="elsewhere/large")
        told = [c.found for c in examine(bucket) if c.what == "leftovers"]
    assert told == [
        "1 of uploads that never ended: blobs/aa/large",
        "1 of what is under way, or was cut short: a push of hands 1.2.0",
        "1 of looks like this one: doctor/old",
    ]
    local = LocalBucket(tmp_path / "bucket")
    local.put("k", b"1")
    (tmp_path / "bucket" / ".publisher-tmp" / "half").write_bytes(b"ha")
    (left,) = [c for c in examine(local) if c.what == "leftovers"]
    assert "half" in left.found


def test_a_server_that_fails_in_the_middle_is_a_finding_not_an_end():
    class Breaks(MemoryBucket):
        def head(self, key):
            raise AccessDenied("not you")

    found = {c.what: c for c in examine(Breaks())}
    assert found["compare-and-swap"].code == 5
    assert found["ranges"].state == "ok"


def test_this_machine_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("PUBLISHER_CACHE", str(tmp_path / "cache"))
    told = ok("doctor")
    assert told.stdout.startswith("ok    python: ")
    assert f"cache: {tmp_path / 'cache'}" in told.stdout
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {c.what: c.state for c in machine()}["git"] == "warn"


def test_the_command_says_each_thing_on_a_line(tmp_path):
    told = ok("doctor", f"file://{tmp_path}/bucket")
    assert "ok    compare-and-swap: honoured\n" in told.stdout
    assert told.stdout.endswith("ok    leftovers: none\n")
    said = json.loads(ok("doctor", f"file://{tmp_path}/bucket", "--json").stdout)
    assert {c["state"] for c in said["checks"]} == {"ok"}
