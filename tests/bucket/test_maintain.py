"""What points to versions: channels, yanked and deprecated ones. On every kind of bucket."""

from __future__ import annotations

import json
import warnings

import pytest

from publisher.bucket.catalog import channels, find_status, resolve, statuses
from publisher.bucket.consume import pull
from publisher.bucket.maintain import mark, move_channel
from publisher.bucket.publish import push
from publisher.errors import (
    IntegrityError,
    StorageError,
    UsageError,
    VersionConflict,
    VersionNotFound,
    VersionWarning,
)
from publisher.storage import MemoryBucket
from publisher.versions.manifest import ChannelState, Status, channel_key, status_key
from publisher.versions.version import Channel, Version
from tests.contracts import at_once
from tests.trees import make_tree

NOON = "2026-01-01T12:00:00+00:00"
STABLE = Channel("stable")


@pytest.fixture
def bucket(tmp_path):
    return filled(MemoryBucket(), tmp_path)


def filled(bucket, tmp_path, numbers=("1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1")):
    """Versions with their own contents; `latest` is at the last release."""
    for number in numbers:
        tree = make_tree(tmp_path / f"tree {number}", {"README.md": number.encode()})
        channel = None if "-" in number else "latest"
        push(bucket, tree, "hands", number, created=NOON, channel=channel)
    return bucket


def said(bucket, version, state, reason="labels of two cameras are mixed up", **more):
    return mark(bucket, "hands", Version.parse(version), state, reason, at=NOON, **more)


def quietly(bucket, selector):
    """Resolve where no warning may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return resolve(bucket, "hands", selector).version


# ── a whole life, on every bucket ────────────────────────────────────────────────────────────


def test_a_channel_is_moved_back_only_on_request_and_a_yanked_version_is_passed_over(
    opened, tmp_path
):
    bucket = filled(opened(), tmp_path, ("1.0.0", "1.1.0"))
    assert move_channel(bucket, "hands", STABLE, "1.1.0").was is None
    with pytest.raises(VersionConflict, match=r"stable of hands is 1\.1\.0 already"):
        move_channel(opened(), "hands", STABLE, "1.0.0")
    back = move_channel(opened(), "hands", STABLE, "1.0.0", allow_rollback=True)
    assert (back.was, back.version, back.moved) == ("1.1.0", "1.0.0", True)
    assert not move_channel(bucket, "hands", STABLE, "1.0.0").moved

    assert said(opened(), "1.1.0", "yanked")
    assert not said(bucket, "1.1.0", "yanked")
    assert quietly(opened(), "^1.0") == "1.0.0"
    with pytest.warns(VersionWarning, match=r"latest is 1\.1\.0, which is yanked: labels of two"):
        assert resolve(opened(), "hands", "latest").version == "1.0.0"
    with pytest.warns(VersionWarning, match=r"hands 1\.1\.0 is yanked: labels of two cameras"):
        assert pull(opened(), "hands", "1.1.0", tmp_path / "out").version == "1.1.0"
    assert said(bucket, "1.1.0", "active", "a false alarm")
    assert quietly(opened(), "latest") == "1.1.0"


def test_many_who_move_a_channel_at_once_lose_no_move(opened, tmp_path):
    bucket = filled(opened(), tmp_path, ("1.0.0", "1.1.0"))
    key = channel_key("hands", STABLE)
    move_channel(bucket, "hands", STABLE, "1.0.0")

    def back_and_forth(n: int) -> None:
        for i in range(3):
            number = f"1.{(n + i) % 2}.0"
            move_channel(opened(), "hands", STABLE, number, allow_rollback=True)

    before = ChannelState.from_bytes(bucket.get(key), key).moves
    at_once(2, back_and_forth)
    state = ChannelState.from_bytes(bucket.get(key), key)
    assert before == 1
    assert before <= state.moves <= before + 6
    assert (state.moves - before) % 2 == (
        state.version == "1.1.0"
    )  # each move was seen by the next


# ── channels ─────────────────────────────────────────────────────────────────────────────────


def test_a_channel_counts_its_moves_and_knows_where_it_was(bucket):
    key = channel_key("hands", Channel("latest"))
    state = ChannelState.from_bytes(bucket.get(key), key)
    assert (state.version, state.moves, state.previous) == ("1.2.0", 3, "1.1.0")


def test_a_channel_from_before_moves_were_counted_is_read_and_moved(bucket):
    key = channel_key("hands", STABLE)
    old = ChannelState("1.0.0", resolve(bucket, "hands", "1.0.0").root)
    assert b"seq" not in old.to_bytes()
    bucket.put(key, old.to_bytes())
    assert quietly(bucket, "stable") == "1.0.0"
    move_channel(bucket, "hands", STABLE, "1.1.0")
    assert ChannelState.from_bytes(bucket.get(key), key).moves == 1


def test_looking_only_changes_nothing(bucket):
    before = dict(bucket._objects)
    assert move_channel(bucket, "hands", STABLE, "1.0.0", dry_run=True).moved
    assert said(bucket, "1.0.0", "yanked", dry_run=True)
    with pytest.raises(VersionConflict):
        move_channel(bucket, "hands", Channel("latest"), "1.0.0", dry_run=True)
    assert bucket._objects == before


def test_a_channel_does_not_go_to_a_yanked_version(bucket, tmp_path):
    said(bucket, "1.2.0", "yanked")
    with (
        pytest.warns(VersionWarning),
        pytest.raises(UsageError, match=r"1\.2\.0 is yanked"),
    ):
        move_channel(bucket, "hands", STABLE, "1.2.0")
    push(bucket, tmp_path / "tree 1.2.0", "hands", "1.2.0", created=NOON, channel="beta")
    assert "beta" not in channels(bucket, "hands")


def test_a_push_after_a_yank_moves_the_channel_on(bucket, tmp_path):
    said(bucket, "1.2.0", "yanked")
    filled(bucket, tmp_path, ("1.2.1",))
    assert quietly(bucket, "latest") == "1.2.1"


# ── yanked and deprecated ────────────────────────────────────────────────────────────────────


def test_channels_fall_to_the_next_lower_version_and_not_to_a_prerelease(bucket):
    move_channel(bucket, "hands", Channel("next"), "2.0.0-rc.1")
    said(bucket, "1.2.0", "yanked")
    said(bucket, "1.1.0", "yanked")
    with pytest.warns(VersionWarning, match=r"this is 1\.0\.0"):
        assert resolve(bucket, "hands", "latest").version == "1.0.0"
    said(bucket, "1.0.0", "yanked")
    with pytest.raises(VersionNotFound, match="no lower version is left") as caught:
        resolve(bucket, "hands", "latest")
    assert "hands@1.2.0 still gives it" in caught.value.hint
    with pytest.raises(VersionNotFound):
        resolve(bucket, "hands", "^1")
    assert quietly(bucket, "next") == "2.0.0-rc.1"


def test_a_root_is_as_exact_as_a_number(bucket):
    root = resolve(bucket, "hands", "1.1.0").root
    said(bucket, "1.1.0", "yanked")
    with pytest.warns(VersionWarning, match="yanked"):
        assert resolve(bucket, "hands", root).version == "1.1.0"


def test_a_deprecated_version_is_given_with_advice(bucket):
    said(bucket, "1.2.0", "deprecated", "see the errata", superseded_by=Version.parse("1.1.0"))
    for selector in ("latest", "^1", "1.2.0"):
        with pytest.warns(VersionWarning, match=r"1\.2\.0 is deprecated: see the errata; use 1.1"):
            assert resolve(bucket, "hands", selector).version == "1.2.0"


def test_the_reason_can_be_changed_and_a_yank_is_not_weakened(bucket):
    assert said(bucket, "1.0.0", "deprecated", "old")
    assert said(bucket, "1.0.0", "yanked", "dangerous")
    assert said(bucket, "1.0.0", "yanked", "more dangerous")
    with pytest.raises(UsageError, match="yanked: more dangerous") as caught:
        said(bucket, "1.0.0", "deprecated", "old")
    assert "--undo" in caught.value.hint
    assert find_status(bucket, "hands", Version.parse("1.0.0")).reason == "more dangerous"
    assert set(map(str, statuses(bucket, "hands"))) == {"1.0.0"}


@pytest.mark.parametrize(
    ("version", "reason", "more", "error"),
    [
        ("9.9.9", "gone", {}, VersionNotFound),
        ("1.0.0", "  ", {}, UsageError),
        ("1.0.0", "x" * 1025, {}, UsageError),
        ("1.0.0", "old", {"superseded_by": Version.parse("1.0.0")}, UsageError),
        ("1.0.0", "old", {"superseded_by": Version.parse("3.0.0")}, VersionNotFound),
    ],
)
def test_what_cannot_be_said(bucket, version, reason, more, error):
    before = dict(bucket._objects)
    with pytest.raises(error):
        said(bucket, version, "yanked", reason, **more)
    assert bucket._objects == before


def test_who_may_not_list_is_not_kept_from_versions_of_which_nothing_was_said(bucket):
    from publisher.errors import AccessDenied, ObjectNotFound

    class Reader(MemoryBucket):
        """S3 as it answers without s3:ListBucket."""

        def get(self, key, **options):
            try:
                return super().get(key, **options)
            except ObjectNotFound:
                raise AccessDenied("denied") from None

    reader = Reader()
    reader._objects = bucket._objects
    assert quietly(reader, "1.1.0") == "1.1.0"
    assert quietly(reader, "latest") == "1.2.0"
    said(bucket, "1.2.0", "deprecated")
    with pytest.warns(VersionWarning, match="deprecated"):
        resolve(reader, "hands", "latest")


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-2],
        lambda b: b.replace(b"yanked", b"active"),
        lambda b: b.replace(b"labels", b"LABELS"),
        lambda b: b"{}",
        lambda b: b"[" * 100_000,
    ],
)
def test_a_damaged_status_is_never_taken_for_no_status(bucket, damage):
    said(bucket, "1.0.0", "yanked")
    key = status_key("hands", Version.parse("1.0.0"))
    bucket.put(key, damage(bucket.get(key)))
    with pytest.raises(IntegrityError, match="is damaged"):
        resolve(bucket, "hands", "1.0.0")


def test_a_status_of_another_version_is_refused(bucket):
    said(bucket, "1.0.0", "yanked")
    old, new = (status_key("hands", Version.parse(v)) for v in ("1.0.0", "1.1.0"))
    bucket.put(new, bucket.get(old))
    with pytest.raises(IntegrityError, match=r"status of 1\.0\.0"):
        resolve(bucket, "hands", "1.1.0")


def test_a_stranger_that_ignores_conditions_gets_no_status(bucket):
    class Ignores(MemoryBucket):
        def put(self, key, body, *, if_match=None, **options):
            return super().put(key, body, **options)

    deaf = Ignores()
    deaf._objects = bucket._objects
    with pytest.raises(StorageError, match="ignores If-Match"):
        said(deaf, "1.0.0", "yanked")
    with pytest.raises(StorageError, match="ignores If-Match"):
        move_channel(deaf, "hands", STABLE, "1.0.0")


def test_a_status_that_someone_else_wrote_meanwhile_is_read_again(bucket):
    class Overtaken(MemoryBucket):
        done = False

        def put(self, key, body, **options):
            if "/status/" in key and not self.done:
                self.done = True
                said(self, "1.0.0", "yanked", "theirs")
            return super().put(key, body, **options)

    overtaken = Overtaken()
    overtaken._objects = bucket._objects
    with pytest.raises(UsageError, match="yanked: theirs"):
        said(overtaken, "1.0.0", "deprecated", "ours")
    assert find_status(bucket, "hands", Version.parse("1.0.0")).reason == "theirs"


def test_status_documents_are_canonical_and_sealed(bucket):
    said(bucket, "1.0.0", "yanked", superseded_by=Version.parse("1.1.0"))
    body = bucket.get(status_key("hands", Version.parse("1.0.0")))
    plain = json.loads(body)
    assert set(plain) == {
        "at", "reason", "schema", "seal", "state", "superseded_by", "version",
    }  # fmt: skip
    assert Status.from_bytes(body, "k").to_bytes() == body
