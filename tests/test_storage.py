"""One contract, four buckets; then what each of them has of its own."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ConnectionClosedError

from publisher import storage
from publisher.errors import (
    AccessDenied,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
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
from publisher.wire.s3 import Address, Wire
from tests.contracts import BucketContract
from tests.scripted import refuses, says, scripted
from tests.servers import moto_bucket

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

    @pytest.fixture
    def large(self, monkeypatch, tmp_path) -> Path:
        """A file that is large enough to go up in three parts."""
        monkeypatch.setattr(storage, "MAX_PUT", 2**20)
        monkeypatch.setattr(storage, "_PART", 5 * 2**20)  # as small as S3 takes them
        path = tmp_path / "large"
        path.write_bytes(bytes(range(256)) * 45_000)
        return path

    def test_a_large_file_goes_up_in_parts(self, bucket, large):
        digest = hashlib.sha256(large.read_bytes()).hexdigest()
        info = bucket.put("k", large, sha256=digest, if_absent=True, content_type="image/tiff")
        head = bucket.head("k")
        compared = digest if isinstance(bucket._path, Wire) else None  # boto3 only promises
        assert (info.size, info.etag, info.sha256) == (head.size, head.etag, compared)
        assert head.sha256 == digest
        assert bucket.get("k") == large.read_bytes()
        with pytest.raises(ObjectExists):
            bucket.put("k", large, sha256=digest, if_absent=True)
        assert bucket.put("k", large, if_match=info.etag).sha256 == compared
        with pytest.raises(PreconditionFailed):
            bucket.put("k", large, if_match='"00000000000000000000000000000000"')
        assert _unfinished(bucket) == []

    def test_a_large_file_that_changes_meanwhile_is_no_object(self, bucket, large):
        with pytest.raises(IntegrityError):
            bucket.put("k", large, sha256=hashlib.sha256(b"as it was").hexdigest())
        with pytest.raises(ObjectNotFound):
            bucket.head("k")
        assert _unfinished(bucket) == []  # parts of nothing would be paid for

    def test_a_large_file_whose_upload_is_interrupted_leaves_nothing(self, bucket, large):
        def interrupt(**_: object) -> None:
            raise KeyboardInterrupt

        bucket._client.meta.events.register_first("before-send.s3.UploadPart", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bucket.put("k", large)
        assert _unfinished(bucket) == []

    def test_of_two_large_files_one_is_created(self, bucket, large, monkeypatch):
        """The other comes between our look and our last request."""
        parts = storage._parts

        def slow(whole):
            yield from parts(whole)
            bucket.put("k", b"theirs")

        monkeypatch.setattr(storage, "_parts", slow)
        with pytest.raises(ObjectExists):
            bucket.put("k", large, if_absent=True)
        assert bucket.get("k") == b"theirs"
        assert _unfinished(bucket) == []


def _unfinished(bucket: S3Bucket) -> list[str]:
    """Below its prefix: other tests leave some in the same bucket."""
    found = bucket._client.list_multipart_uploads(Bucket=bucket._name)
    keys = [u["Key"] for u in found.get("Uploads", [])]
    return [key for key in keys if key.startswith(bucket._prefix)]


class TestS3BucketOnMoto(S3Contract):
    @pytest.fixture
    def bucket(self, monkeypatch) -> Iterator[Bucket]:
        with moto_bucket(monkeypatch) as bucket:
            yield bucket


class TestS3BucketByBoto3OnMoto(S3Contract):
    """The way of buckets that want more than a plain signature."""

    @pytest.fixture
    def bucket(self, monkeypatch) -> Iterator[Bucket]:
        with moto_bucket(monkeypatch) as bucket:
            yield S3Bucket(bucket._client, bucket._name, "some/prefix")


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


# ── the way that is taken ────────────────────────────────────────────────────────────────────


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """Some credentials, and nothing else of this machine's configuration."""
    for name in [n for n in os.environ if n.startswith("AWS_") or n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return monkeypatch


def address(remote: str, **options: str) -> Address | None:
    bucket = open_bucket(remote, **options)
    assert isinstance(bucket, S3Bucket)
    return bucket._path._place.address if isinstance(bucket._path, Wire) else None


def test_objects_go_where_botocore_would_send_them(aws):
    assert address("s3://data") == Address("https://data.s3.amazonaws.com", "us-east-1")
    assert address("s3://data.with.dots/p") == Address(
        "https://s3.amazonaws.com/data.with.dots", "us-east-1"
    )
    own = address("s3://data", endpoint_url="http://127.0.0.1:9/base")
    assert own == Address("http://127.0.0.1:9/base/data", "us-east-1")
    aws.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert address("s3://data") == Address(
        "https://data.s3.eu-central-1.amazonaws.com", "eu-central-1"
    )
    aws.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    dual = "https://data.s3.dualstack.eu-central-1.amazonaws.com"
    assert address("s3://data") == Address(dual, "eu-central-1")


def test_public_buckets_are_asked_without_a_signature(aws):
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    aws.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    assert address("s3://data") == Address("https://data.s3.amazonaws.com", None)


def test_special_ways_are_left_to_boto3(aws):
    assert address("s3://data--use1-az4--x-s3") is None  # S3 Express has signatures of its own
    aws.setenv("HTTPS_PROXY", "http://user:pass@127.0.0.1:9")
    assert address("s3://data") is None
    aws.setenv("NO_PROXY", "amazonaws.com")
    assert address("s3://data") is not None


def test_a_file_of_certificates_that_is_not_there(aws, tmp_path):
    aws.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError) as caught:
        open_bucket("s3://data")
    assert "AWS_CA_BUNDLE" in caught.value.hint


def test_credentials_of_a_session_are_renewed_before_they_expire(aws):
    from botocore.credentials import RefreshableCredentials

    def keys(name: str, minutes: int) -> dict[str, str]:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
        times = {"expiry_time": end.isoformat()}
        return {"access_key": name, "secret_key": SECRET, "token": f"of {name}", **times}

    found = RefreshableCredentials.create_from_metadata(
        keys("old", 1), lambda: keys("new", 60), "test"
    )
    now = storage._signer(found)()
    assert (now.access_key, now.token) == ("new", "of new")


def test_credentials_that_cannot_be_renewed(aws):
    from botocore.exceptions import CredentialRetrievalError

    class Broken:
        def get_frozen_credentials(self):
            raise CredentialRetrievalError(provider="test", error_msg=SECRET)

    way = Wire(Address("http://127.0.0.1:9/b", "r"), credentials=storage._signer(Broken()))
    bucket = S3Bucket(storage._client(None, None)[0], "b", wire=way)
    with pytest.raises(AccessDenied, match="no usable credentials") as caught:
        bucket.get("k")
    assert SECRET not in f"{caught.value}{caught.value.hint}"


def test_a_bucket_in_another_region_is_found_with_boto3(aws):
    """Two requests learn it, one of ours and one of boto3's; all others go there at once."""
    region = {"x_amz_bucket_region": "eu-west-1"}
    moved = refuses(301, "PermanentRedirect", **region), says(301, **region)
    with scripted(*moved, *[says(200, b"x")] * 3) as server:
        bucket = open_bucket("s3://data", endpoint_url=server.url.removesuffix("/b"))
        assert bucket.get("k") + bucket.get("k") == b"xx"
    regions = [h.headers["authorization"].split("/")[2] for h in server.heard]
    assert regions == ["us-east-1", "us-east-1", "eu-west-1", "eu-west-1", "eu-west-1"]


def test_a_fault_before_sending_is_met_with_another_try(monkeypatch):
    """Tests put faults where moto sits; the data path passes there too."""
    faults = iter([ConnectionClosedError(endpoint_url="x"), ConnectionResetError()])

    def fault(**_):
        for error in faults:
            raise error

    monkeypatch.setattr("publisher.wire.s3.time.sleep", lambda _: None)
    with moto_bucket(monkeypatch) as bucket:
        bucket._client.meta.events.register_first("before-send.s3.PutObject", fault)
        bucket.put("k", b"body", if_absent=True)
        assert bucket.get("k") == b"body"


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
