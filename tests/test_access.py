"""Who may do what, on a server that enforces it: an owner, a reader, a team, and the public."""

from __future__ import annotations

import datetime
import json
import logging
import secrets
import time
import urllib.error
import urllib.request
from types import SimpleNamespace
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from publisher.cli import main
from publisher.errors import AccessDenied, StorageError
from publisher.storage import S3Bucket, open_bucket
from publisher.wire import s3 as s3_wire
from tests.servers import TEAM, s3_server, secret_of
from tests.trees import FILES, make_tree, read_tree


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def remote(seaweedfs, monkeypatch) -> str:
    """An empty remote of the team's, with the owner's credentials."""
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server().BUCKET}/{TEAM}/{secrets.token_hex(8)}"


@pytest.fixture
def act_as(monkeypatch, tmp_path, caplog):
    """Take on an identity: its keys, or for `anonymous` none."""
    caplog.set_level(logging.DEBUG, "publisher")

    def act(name: str, secret: str | None = None) -> None:
        if name == "anonymous":
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
            monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
            return
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret or secret_of(name))

    yield act
    assert "canary" not in caplog.text


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree")


def refused(result: Result, *said: str) -> None:
    """Exit code 5, in one clear message that gives nothing away."""
    assert result.exit_code == 5, result.output
    for text in ("access denied", *said):
        assert text in result.stderr
    assert "canary" not in result.output
    assert "Traceback" not in result.output


def test_a_reader_pulls_and_cannot_push(remote, act_as, tree, tmp_path):
    assert run("push", tree, f"{remote}/hands", "--version", "1.0.0").exit_code == 0
    act_as("reader")
    assert run("pull", f"{remote}/hands@1.0.0", "-o", tmp_path / "out").exit_code == 0
    assert read_tree(tmp_path / "out") == FILES
    pushed = run("push", tree, f"{remote}/hands", "--version", "2.0.0")
    refused(pushed, "ask the bucket's owner for the right to write it")
    with pytest.raises(AccessDenied):
        open_bucket(remote).delete("datasets/hands/releases/1.0.0.json")
    assert run("list", f"{remote}/hands").stdout == "1.0.0  latest\n"


def test_a_team_publishes_under_its_prefix_and_nowhere_else(remote, act_as, tree, tmp_path):
    other = f"s3://{s3_server().BUCKET}/others"
    open_bucket(other).put("k", b"theirs")
    act_as("team")
    assert run("push", tree, f"{remote}/hands", "--version", "1.0.0").exit_code == 0
    assert run("pull", f"{remote}/hands", "-o", tmp_path / "out").exit_code == 0
    refused(run("push", tree, f"{other}/hands", "--version", "1.0.0"))
    refused(run("list", other), "the right to list it")
    bucket = open_bucket(other)
    for touch in (
        lambda: bucket.get("k"),
        lambda: bucket.head("k"),
        lambda: bucket.put("k", b"ours"),
        lambda: bucket.put("new", b"ours", if_absent=True),
        lambda: bucket.delete("k"),
        lambda: list(bucket.list()),
    ):
        with pytest.raises(AccessDenied):
            touch()


def test_a_prefix_that_begins_alike_is_another(remote, act_as):
    act_as("team")
    with pytest.raises(AccessDenied):
        open_bucket(f"s3://{s3_server().BUCKET}/{TEAM}-archive").put("k", b"ours")


def test_the_public_gets_what_a_policy_opens(remote, act_as, tree, tmp_path):
    bucket = open_bucket(remote)
    assert isinstance(bucket, S3Bucket)
    assert run("push", tree, f"{remote}/hands", "--version", "1.0.0").exit_code == 0
    closed = f"{remote}-closed"
    assert run("push", tree, f"{closed}/hands", "--version", "1.0.0").exit_code == 0
    opened = f"arn:aws:s3:::{remote.removeprefix('s3://')}/*"
    allow = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": [opened]}
    policy = {"Version": "2012-10-17", "Statement": [allow]}
    owner = bucket._client
    owner.put_bucket_policy(Bucket=s3_server().BUCKET, Policy=json.dumps(policy))
    try:
        act_as("anonymous")
        assert run("pull", f"{remote}/hands@1.0.0", "-o", tmp_path / "out").exit_code == 0
        assert read_tree(tmp_path / "out") == FILES
        hint = "no credentials were found"
        refused(run("pull", f"{closed}/hands@1.0.0", "-o", tmp_path / "no"), hint)
        refused(run("push", tree, f"{remote}/hands", "--version", "2.0.0"), hint)
    finally:
        owner.delete_bucket_policy(Bucket=s3_server().BUCKET)


def test_a_wrong_key_is_refused(remote, act_as, tree):
    act_as("reader", secret="canary-of-a-wrong-secret")
    pushed = run("push", tree, f"{remote}/hands", "--version", "1.0.0")
    refused(pushed, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY")
    act_as("nobody-by-this-name")
    pulled = run("pull", f"{remote}/hands", "-o", "never")
    refused(pulled, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID")


def test_an_expired_link_is_refused(remote):
    bucket = open_bucket(remote)
    assert isinstance(bucket, S3Bucket)
    bucket.put("k", b"body")
    at = {"Bucket": s3_server().BUCKET, "Key": bucket._key("k")}
    link = bucket._client.generate_presigned_url("get_object", Params=at, ExpiresIn=600)
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == b"body"
    earlier = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    with mock.patch("botocore.auth.get_current_datetime", return_value=earlier):
        link = bucket._client.generate_presigned_url("get_object", Params=at, ExpiresIn=600)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(link)


def test_a_clock_that_is_wrong_is_told_by_how_much(remote, monkeypatch):
    late = SimpleNamespace(**vars(time))
    late.time = lambda: time.time() - 3 * 3600
    late.gmtime = lambda: time.gmtime(late.time())
    monkeypatch.setattr(s3_wire, "time", late)
    with pytest.raises(StorageError, match="clock is 3 h behind the server's") as caught:
        open_bucket(remote).put("k", b"body")
    assert "clock" in (caught.value.hint or "")
