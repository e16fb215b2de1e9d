"""Bucket policies: what they allow on a server that enforces them, and their form."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest

from publisher.bucket.catalog import resolve
from publisher.bucket.consume import pull
from publisher.bucket.maintain import mark
from publisher.bucket.publish import push
from publisher.bucket.retract import retract
from publisher.errors import AccessDenied, PublisherError, UsageError
from publisher.storage import MemoryBucket, open_bucket
from publisher.versions.policy import FOR_EVER, PARTS, PUBLISHER, READER, policy
from publisher.versions.version import Version
from tests.servers import s3_server
from tests.test_cli_bucket import ok, run
from tests.trees import FILES, make_tree, read_tree

NOON = "2026-01-01T12:00:00+00:00"
PEOPLE = ("reader", "publisher")
ARN = "arn:aws:iam::000000000000:user/"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A SeaweedFS whose users `reader` and `publisher` may do only what a policy says."""
    from tests.servers import need_seaweedfs

    need_seaweedfs()
    identities = [
        *({"name": who, "credentials": [key(who)], "actions": []} for who in PEOPLE),
        {"name": "anonymous", "actions": []},  # so that a policy may name everyone
    ]
    folder = tmp_path_factory.mktemp("guarded")
    with s3_server().serve(folder, gentle=False, identities=identities) as server:
        yield server


def key(who: str) -> dict[str, str]:
    return {"accessKey": who, "secretKey": f"{who}-secret"}


@pytest.fixture
def act_as(guarded, monkeypatch):
    """Opens a remote as one of them, or as nobody."""
    for name, value in guarded.environment.items():
        monkeypatch.setenv(name, value)

    def opened(who: str | None, remote: str):
        if who is None:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        else:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key(who)["accessKey"])
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key(who)["secretKey"])
        return open_bucket(remote)

    return opened


def apply(server, document) -> None:
    client = s3_server().client(server)
    client.put_bucket_policy(Bucket=s3_server().BUCKET, Policy=json.dumps(document))


def remote(prefix: str) -> str:
    return f"s3://{s3_server().BUCKET}/{prefix}"


def test_each_may_do_what_their_part_says_and_nothing_else(guarded, act_as, tmp_path):
    ours, theirs = remote("team a/data"), remote("team b")
    document = policy(ours, readers=[f"{ARN}reader"], publishers=[f"{ARN}publisher"])
    apply(guarded, document)
    tree = make_tree(tmp_path / "tree")
    push(act_as("demo", theirs), tree, "hands", "1.0.0", created=NOON)

    bucket = act_as("publisher", ours)
    assert push(bucket, tree, "hands", "1.0.0", created=NOON).status == "published"
    assert push(bucket, tree, "hands", "1.0.0", created=NOON).status == "already published"
    mark(bucket, "hands", Version.parse("1.0.0"), "deprecated", "old", at=NOON)
    bucket.put("doctor/k", b"1")
    bucket.delete("doctor/k")
    with pytest.raises(AccessDenied):
        bucket.delete("datasets/hands/releases/1.0.0.json")
    other = act_as("publisher", theirs)
    with pytest.raises(AccessDenied):
        other.put("k", b"1")
    with pytest.raises(AccessDenied):
        resolve(other, "hands", "1.0.0")

    reader = act_as("reader", ours)
    for n, selector in enumerate(("1.0.0", "^1.0", "latest")):
        with pytest.warns(UserWarning, match="deprecated"):
            assert read_tree(pull(reader, "hands", selector, tmp_path / f"{n}").path) == FILES
    with pytest.raises(AccessDenied) as caught:
        reader.put("k", b"1")
    assert caught.value.exit_code == 5
    with pytest.raises(AccessDenied):
        reader.delete("datasets/hands/channels/latest.json")
    elsewhere = act_as("reader", theirs)
    with pytest.raises(AccessDenied):
        resolve(elsewhere, "hands", "1.0.0")
    with pytest.raises(AccessDenied):
        list(elsewhere.list())
    with pytest.raises(AccessDenied):
        resolve(act_as(None, ours), "hands", "1.0.0")


def test_everyone_may_read_a_public_prefix_and_only_that(guarded, act_as, tmp_path):
    ours, theirs = remote("public"), remote("private")
    apply(guarded, policy(ours, readers=["*"], parts=["reader"]))
    tree = make_tree(tmp_path / "tree")
    for place in (ours, theirs):
        push(act_as("demo", place), tree, "hands", "1.0.0", created=NOON)
    nobody = act_as(None, ours)
    assert read_tree(pull(nobody, "hands", "^1", tmp_path / "out").path) == FILES
    with pytest.raises(AccessDenied):
        nobody.put("k", b"1")
    with pytest.raises(PublisherError):
        resolve(act_as(None, theirs), "hands", "1.0.0")


def statement(document, sid):
    return next(s for s in document["Statement"] if s["Sid"] == sid)


def test_create_only_is_what_s3_enforces():
    """SeaweedFS knows no s3:if-none-match, so this one is held against S3's documentation."""
    said = statement(policy("s3://bucket/team/data"), "CreateOnly")
    assert said["Effect"] == "Deny"
    assert said["Principal"] == "*"
    assert said["Action"] == ["s3:PutObject"]
    assert said["Condition"] == {
        "Null": {"s3:if-none-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},
    }
    assert said["Resource"] == [f"arn:aws:s3:::bucket/team/data/{key}" for key in FOR_EVER]
    assert not any("channels" in key or "status" in key for key in said["Resource"])


def is_write_once(key: str) -> bool:
    """As S3 reads the resources of CreateOnly: `*` is anything, `/` too."""
    said = statement(policy("s3://bucket"), "CreateOnly")
    return any(fnmatchcase(f"arn:aws:s3:::bucket/{key}", r) for r in said["Resource"])


def test_what_never_changes_is_write_once_and_what_may_change_is_not(tmp_path):
    bucket = MemoryBucket()
    for name, tree in (("hands", {}), ("v1", {"v/v/v.jpg": b"v"})):
        for number, layout in (("1.0.0", "plain"), ("1.1.0", "packs")):
            folder = make_tree(tmp_path / name / number, tree)
            push(bucket, folder, name, number, created=NOON, layout=layout, channel="v-next")
    mark(bucket, "v1", Version.parse("1.0.0"), "yanked", "old", at=NOON)
    others = {"leases/shared-1.json", "gc/1.txt", "relocations/1.json", "doctor/1"}
    changing = {k for k in [*bucket._objects, *others] if not is_write_once(k)}
    assert changing == others | {
        "publisher.json",
        "datasets/v1/status/1.0.0.json",
        *(f"datasets/{n}/channels/v-next.json" for n in ("hands", "v1")),
        *(
            f"datasets/{n}/v1.0.0/{file}"
            for n in ("hands", "v1")
            for file in ("README.md", "provenance.json", "manifest.json")
        ),
        *(
            f"datasets/{n}/v{v}/{file}"
            for n in ("hands", "v1")
            for v in ("1.0.0", "1.1.0")
            for file in ("SHA256SUMS", "urls.txt", "get.py")
        ),
    }
    assert is_write_once("retracted/1.txt")


def test_where_nothing_may_be_copied_within_the_bucket_the_files_are_sent(tmp_path):
    class CreateOnly(MemoryBucket):
        """S3 under that statement: no copies, and no put without a condition."""

        def copy(self, source, key, *, sha256):
            raise AccessDenied("denied")

        def put(self, key, body, *, if_absent=False, **options):
            if is_write_once(key) and not if_absent:
                raise AccessDenied("denied")
            return super().put(key, body, if_absent=if_absent, **options)

    bucket = CreateOnly()
    tree = make_tree(tmp_path / "tree")
    for number, layout in (("1.0.0", "plain"), ("1.1.0", "plain"), ("1.2.0", "packs")):
        push(bucket, tree, "hands", number, created=NOON, layout=layout)
        assert read_tree(pull(bucket, "hands", number, tmp_path / number).path) == FILES
    other = make_tree(tmp_path / "other", {"train/images/000001.jpg": b"another"})
    push(bucket, other, "hands", "2.0.0", created=NOON, layout="packs")
    files = ("train/images/000001.jpg",)
    retract(bucket, "hands", Version.parse("1.0.0"), "a wish", at=NOON, files=files)
    assert b"first picture" not in b"".join(bucket._objects.values())
    assert read_tree(pull(bucket, "hands", "2.0.0", tmp_path / "2").path) == {
        **FILES,
        "train/images/000001.jpg": b"another",
    }


@pytest.mark.parametrize("place", ["s3://bucket", "s3://bucket/p", "s3://bucket/p/q"])
def test_every_statement_stays_in_the_prefix(place):
    document = policy(place, readers=["*"], publishers=[f"{ARN}p"])
    prefix = place.removeprefix("s3://bucket").strip("/")
    start = f"arn:aws:s3:::bucket/{prefix}/" if prefix else "arn:aws:s3:::bucket/"
    assert json.loads(json.dumps(document)) == document
    assert len({s["Sid"] for s in document["Statement"]}) == len(document["Statement"])
    for s in document["Statement"]:
        resources = s["Resource"] if isinstance(s["Resource"], list) else [s["Resource"]]
        on_the_bucket = all(a.startswith("s3:List") for a in s["Action"])
        for resource in resources:
            assert (
                resource == "arn:aws:s3:::bucket" if on_the_bucket else resource.startswith(start)
            )
        if s["Effect"] == "Allow" and s["Principal"] == "*":
            assert set(s["Action"]) <= {"s3:GetObject", "s3:ListBucket"}
    listing = statement(document, "ListVersions")
    condition = {"StringLike": {"s3:prefix": [f"{prefix}/*"]}} if prefix else None
    assert listing.get("Condition") == condition


def test_what_is_a_wildcard_to_a_policy_is_none_in_a_prefix():
    resource = statement(policy("s3://bucket/a*b?c$d"), "ReadVersions")["Resource"]
    assert resource == "arn:aws:s3:::bucket/a${*}b${?}c${$}d/*"


def test_nobody_gets_in_by_pasting_without_reading():
    document = policy("s3://bucket")
    principals = [s["Principal"] for s in document["Statement"] if s["Effect"] == "Allow"]
    assert principals == [{"AWS": [READER]}] * 2 + [{"AWS": [PUBLISHER]}] * 2


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("file:///folder", {}),
        ("bucket", {}),
        ("s3://bucket", {"publishers": ["*"]}),
        ("s3://bucket", {"publishers": ["arn:aws:iam::1:role/*"]}),
    ],
)
def test_what_has_no_policy(place, more):
    with pytest.raises(UsageError):
        policy(place, **more)


def test_the_command_prints_what_can_be_pasted():
    told = ok("policy", "s3://bucket/data/")
    assert json.loads(told.stdout) == policy("s3://bucket/data")
    assert told.stderr.count("note: ") == 2
    only = ok("policy", "s3://bucket", "--only", "reader", "--reader", "*")
    assert json.loads(only.stdout) == policy("s3://bucket", readers=["*"], parts=["reader"])
    assert only.stderr == ""
    parts = [policy("s3://bucket", parts=[part])["Statement"] for part in PARTS]
    assert [s for part in parts for s in part] == policy("s3://bucket")["Statement"]
    assert run("policy", "file:///folder").exit_code == 2


@pytest.mark.parametrize("remote", ["s3://b", "s3://b/p", "s3://ab/some/prefix"])
def test_a_bucket_name_that_is_too_short_is_told_so(remote):
    refused = run("policy", remote)
    assert refused.exit_code == 2
    length = len(remote.split("/")[2])
    assert f"its name has {length} of at least 3 characters" in refused.stderr
    assert "hint: S3's rule: 3 to 63" in refused.stderr
