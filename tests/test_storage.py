"""One contract, four buckets; then what each of them has of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from publisher.errors import (
    AccessDenied,
    IntegrityError,
    ObjectNotFound,
    StorageError,
    UsageError,
)
from publisher.storage import (
    Bucket,
    MemoryBucket,
    S3Bucket,
    open_bucket,
    require_conditional_writes,
)

from .contracts import BucketContract
from .servers import moto_bucket

SECRET = "wJalrXUtnFEMI-canary-secret"


class TestMemoryBucket(BucketContract):
    @pytest.fixture
    def bucket(self) -> Bucket:
        return MemoryBucket()


class TestLocalBucket(BucketContract):
    @pytest.fixture
    def bucket(self, tmp_path) -> Bucket:
        return open_bucket(f"file://{tmp_path}/a%20bucket")

    def test_nothing_but_objects_is_listed(self, bucket, tmp_path):
        bucket.put("a/k", b"1", if_absent=True)
        (tmp_path / "a bucket" / ".publisher-tmp" / "half").write_bytes(b"ha")
        assert [o.key for o in bucket.list()] == ["a/k"]
        with pytest.raises(UsageError):
            bucket.get(".publisher-tmp/half")

    def test_a_folder_is_no_object(self, bucket):
        bucket.put("a/k", b"1")
        with pytest.raises(ObjectNotFound):
            bucket.head("a")
        with pytest.raises(ObjectNotFound):
            bucket.get("a")

    def test_no_temporary_file_stays(self, bucket, tmp_path):
        bucket.put("k", b"1")
        with pytest.raises(IntegrityError):
            bucket.put("k2", b"1", sha256="0" * 64)
        assert os.listdir(tmp_path / "a bucket" / ".publisher-tmp") == ["lock"]


class S3Contract(BucketContract):
    def test_a_bucket_that_is_not_there(self, bucket):
        missing = S3Bucket(bucket._client, "no-such-bucket-here")
        with pytest.raises(ObjectNotFound, match="no bucket s3://no-such-bucket-here"):
            missing.get("k")

    def test_two_prefixes_of_one_bucket_do_not_meet(self, bucket):
        other = S3Bucket(bucket._client, bucket._name, "elsewhere/ours")
        other.put("k", b"theirs")
        bucket.put("k", b"ours")
        assert other.get("k") == b"theirs"
        assert [o.key for o in other.list()] == ["k"]
        assert other.url == f"s3://{bucket._name}/elsewhere/ours"

    def test_browsers_and_caches_are_told_what_it_is(self, bucket):
        bucket.put("k.jpg", b"1", content_type="image/jpeg", cache_control="max-age=60, immutable")
        bucket.copy("k.jpg", "copy.jpg", sha256=hashlib.sha256(b"1").hexdigest())
        for key in ("k.jpg", "copy.jpg"):
            told = bucket._client.head_object(Bucket=bucket._name, Key=bucket._prefix + key)
            assert told["ContentType"] == "image/jpeg"
            assert told["CacheControl"] == "max-age=60, immutable"


class TestS3BucketOnMoto(S3Contract):
    @pytest.fixture
    def bucket(self, monkeypatch) -> Iterator[Bucket]:
        with moto_bucket(monkeypatch) as bucket:
            yield bucket


class TestS3BucketOnSeaweedFS(S3Contract):
    @pytest.fixture
    def bucket(self, s3_remote) -> Bucket:
        return open_bucket(s3_remote)

    def test_the_server_keeps_our_sha256(self, bucket):
        bucket.put("k", b"abc")
        assert bucket.head("k").sha256 == hashlib.sha256(b"abc").hexdigest()

    def test_the_server_refuses_a_file_that_changed_on_its_way(self, bucket, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"changed")
        with pytest.raises(IntegrityError):
            bucket.put("k", path, sha256=hashlib.sha256(b"as it was").hexdigest())
        with pytest.raises(ObjectNotFound):
            bucket.head("k")

    @pytest.mark.parametrize(
        ("variable", "value", "hint"),
        [
            ("AWS_SECRET_ACCESS_KEY", SECRET, "AWS_SECRET_ACCESS_KEY"),
            ("AWS_ACCESS_KEY_ID", "AKIA-nobody", "AWS_ACCESS_KEY_ID"),
        ],
    )
    def test_wrong_credentials(self, s3_remote, monkeypatch, caplog, variable, value, hint):
        caplog.set_level(logging.DEBUG, "publisher")
        monkeypatch.setenv(variable, value)
        with pytest.raises(AccessDenied) as caught:
            open_bucket(s3_remote).put("k", b"1")
        assert isinstance(caught.value, PermissionError)
        assert caught.value.exit_code == 5
        assert hint in caught.value.hint
        assert SECRET not in f"{caught.value}{caught.value.hint}{caplog.text}"

    def test_no_credentials(self, s3_remote, monkeypatch, tmp_path):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(AccessDenied) as caught:
            open_bucket(s3_remote).put("k", b"1")
        assert "no credentials were found" in caught.value.hint


def test_a_server_that_cannot_be_reached(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    bucket = open_bucket("s3://bucket", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"no answer from 127\.0\.0\.1") as caught:
        bucket.get("k")
    assert caught.value.exit_code == 8
    assert SECRET not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    "remote",
    [
        "bucket",
        "https://bucket",
        "s3://",
        "s3:///prefix",
        f"s3://key:{SECRET}@bucket",
        "s3://bucket/../other",
        "file://relative",
    ],
)
def test_what_is_no_remote_is_refused_and_not_repeated(remote):
    with pytest.raises(UsageError) as caught:
        open_bucket(remote)
    assert SECRET not in f"{caught.value}{caught.value.hint}"


def test_an_unknown_profile():
    with pytest.raises(UsageError, match="ProfileNotFound"):
        open_bucket("s3://bucket", profile="no-such-profile")


class _Ignores(MemoryBucket):
    """A server that answers 200 and overwrites, as some do."""

    def __init__(self, what: str):
        super().__init__()
        self._what = what

    def put(self, key, body, **options):
        options.pop(self._what, None)
        return super().put(key, body, **options)


@pytest.mark.parametrize(
    ("what", "header"), [("if_absent", "If-None-Match"), ("if_match", "If-Match")]
)
def test_a_server_that_ignores_conditions_is_refused(what, header):
    with pytest.raises(StorageError, match=f"ignores {header}"):
        require_conditional_writes(_Ignores(what))


def test_importing_storage_does_not_import_boto3():
    code = "import sys, json, publisher.storage as s; s.open_bucket('file:///tmp')\n"
    code += "print(json.dumps([m for m in sys.modules if m.startswith('boto')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == []
