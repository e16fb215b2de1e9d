"""publisher.lock: the same bytes for everyone, and no way back unseen."""

from __future__ import annotations

import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import publisher
from publisher.bucket.locking import settle
from publisher.bucket.maintain import move_channel
from publisher.bucket.publish import push
from publisher.errors import FormatError, IntegrityError, VersionConflict, VersionWarning
from publisher.storage import MemoryBucket, open_bucket
from publisher.versions.lock import Lock, Locked, fell_back
from publisher.versions.manifest import channel_key
from publisher.versions.version import Channel, Reference
from tests.bucket.test_maintain import NOON, filled, said
from tests.test_cli_bucket import ok, run
from tests.trees import make_tree

LATEST = Reference.parse("s3://bucket/hands@latest")


@pytest.fixture
def bucket(tmp_path):
    return filled(MemoryBucket(), tmp_path / "first", ("1.0.0", "1.1.0"))


@pytest.fixture
def lock(bucket, tmp_path):
    """A lock that has settled `latest`."""
    path = tmp_path / "publisher.lock"
    keep(settle(bucket, LATEST, path))
    return path


def keep(settled):
    settled.keep(settled.root)
    return str(settled.version)


def test_a_lock_holds_until_it_is_updated(bucket, lock, tmp_path):
    filled(bucket, tmp_path, ("1.2.0",))
    before = lock.read_bytes()
    assert keep(settle(bucket, LATEST, lock)) == "1.1.0"
    assert lock.read_bytes() == before
    assert keep(settle(bucket, LATEST, lock, update=True)) == "1.2.0"
    assert keep(settle(bucket, LATEST, lock)) == "1.2.0"
    said_ = json.loads(lock.read_bytes())["versions"]["s3://bucket/hands@latest"]
    assert (said_["version"], said_["seq"]) == ("1.2.0", 3)


def test_each_reference_has_its_own_line(bucket, lock):
    caret = Reference.parse("s3://bucket/hands@^1.0")
    keep(settle(bucket, caret, lock))
    known = Lock.from_bytes(lock.read_bytes())
    assert list(known.versions) == ["s3://bucket/hands@^1.0", "s3://bucket/hands@latest"]
    assert known.of(caret).seq == 0


def test_other_content_under_the_locked_number_is_refused(lock, tmp_path):
    other = filled(MemoryBucket(), tmp_path / "x", ("1.0.0",))
    tree = make_tree(tmp_path / "forged", {"README.md": b"forged"})
    push(other, tree, "hands", "1.1.0", created=NOON)
    with pytest.raises(IntegrityError, match=r"hands 1\.1\.0 in memory: is sha256"):
        settle(other, LATEST, lock)


def test_content_that_changes_between_the_look_and_the_pull_is_not_kept(bucket, tmp_path):
    settled = settle(bucket, LATEST, tmp_path / "new.lock")
    with pytest.raises(IntegrityError):
        settled.keep("sha256:" + "0" * 64)
    assert not (tmp_path / "new.lock").exists()


def test_an_old_copy_of_a_channel_is_refused(bucket, lock, tmp_path):
    key = channel_key("hands", Channel("latest"))
    old = bucket.get(key)
    filled(bucket, tmp_path, ("1.2.0",))
    keep(settle(bucket, LATEST, lock, update=True))
    bucket.put(key, old)
    with pytest.raises(VersionConflict, match="an old copy, or somebody put one there") as caught:
        settle(bucket, LATEST, lock, update=True)
    assert caught.value.exit_code == 6
    assert keep(settle(bucket, LATEST, lock, update=True, allow_rollback=True)) == "1.1.0"


def test_a_channel_that_its_maintainers_moved_back_is_refused_unless_allowed(bucket, lock):
    move_channel(bucket, "hands", Channel("latest"), "1.0.0", allow_rollback=True)
    with pytest.raises(VersionConflict, match=r"moved it back from 1\.1\.0 to 1\.0\.0"):
        settle(bucket, LATEST, lock, update=True)
    assert keep(settle(bucket, LATEST, lock, update=True, allow_rollback=True)) == "1.0.0"


def test_a_yank_explains_why_a_channel_goes_back(bucket, lock):
    said(bucket, "1.1.0", "yanked")
    with pytest.warns(VersionWarning, match="yanked"):
        assert keep(settle(bucket, LATEST, lock, update=True)) == "1.0.0"


def test_a_yank_is_no_excuse_for_an_old_copy(bucket, lock, tmp_path):
    key = channel_key("hands", Channel("latest"))
    old = bucket.get(key)
    filled(bucket, tmp_path, ("1.2.0",))
    keep(settle(bucket, LATEST, lock, update=True))
    said(bucket, "1.2.0", "yanked")
    bucket.put(key, old)
    with pytest.raises(VersionConflict):
        settle(bucket, LATEST, lock, update=True)


def test_a_locked_version_that_is_yanked_still_comes_with_a_warning(bucket, lock):
    said(bucket, "1.1.0", "yanked")
    with pytest.warns(VersionWarning, match="yanked"):
        assert keep(settle(bucket, LATEST, lock)) == "1.1.0"


@pytest.mark.parametrize(
    ("old", "new", "back"),
    [
        ("1.1.0", "1.1.0", None),
        ("1.1.0", "1.2.0", None),
        ("1.1.0", "1.0.0", "moved it back"),
    ],
)
def test_channels_from_before_moves_were_counted(old, new, back):
    found = fell_back(*(Locked(v, "sha256:" + v[2] * 64) for v in (old, new)))
    assert (back in found) if back else found is None


def test_one_move_cannot_say_two_things():
    one = Locked("1.1.0", "sha256:" + "1" * 64, 7)
    assert "move 7 said 1.1.0 before" in fell_back(one, Locked("1.2.0", "sha256:" + "2" * 64, 7))


LOCKS = st.dictionaries(
    st.text(max_size=20),
    st.builds(
        Locked,
        st.sampled_from(["1.0.0", "2.3.4-rc.1"]),
        st.sampled_from(["sha256:" + c * 64 for c in "0a"]),
        st.integers(0, 9),
    ),
    max_size=4,
).map(Lock)


@given(LOCKS)
def test_locks_survive_their_file(lock):
    assert Lock.from_bytes(lock.to_bytes()) == lock
    assert Lock(dict(reversed(lock.versions.items()))).to_bytes() == lock.to_bytes()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"schema":"publisher/lock/2","versions":{}}',
        b'{"schema":"publisher/lock/1","versions":{"a":{"version":"1","root":"sha256:00"}}}',
        b'{"schema":"publisher/lock/1","versions":{},"more":1}',
        b"[" * 100_000,
        b" " * (2**20 + 1),
    ],
)
def test_what_is_no_lock(bucket, tmp_path, body):
    path = tmp_path / "publisher.lock"
    path.write_bytes(body)
    with pytest.raises(FormatError, match=r"publisher\.lock"):
        settle(bucket, LATEST, path)
    assert path.read_bytes() == body


@pytest.mark.parametrize("kind", ["local", "seaweedfs"])
def test_the_command_and_the_function_write_and_obey_it(kind, request, tmp_path, monkeypatch):
    remote = (
        f"file://{tmp_path}/bucket" if kind == "local" else request.getfixturevalue("s3_remote")
    )
    bucket = filled(open_bucket(remote), tmp_path, ("1.0.0",))
    monkeypatch.chdir(tmp_path)
    reference = f"{remote}/hands@latest"
    ok("pull", reference, "-o", "looked", "--lock", "publisher.lock", "--dry-run")
    assert not (tmp_path / "publisher.lock").exists()
    ok("pull", reference, "-o", "one", "--lock", "publisher.lock")
    filled(bucket, tmp_path, ("1.1.0",))
    again = ok("pull", reference, "-o", "two", "--lock", "publisher.lock")
    assert again.stdout.startswith("hands 1.0.0 pulled ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = publisher.pull(reference, to="three", lock="publisher.lock")
        new = publisher.pull(reference, to="four", lock="other.lock")
    assert (got.version, new.version) == ("1.0.0", "1.1.0")
    assert "1.1.0" in (tmp_path / "other.lock").read_text()
    updated = ok("pull", reference, "-o", "two", "--lock", "publisher.lock", "--update")
    assert updated.stdout.startswith("hands 1.1.0 pulled ")
    move_channel(bucket, "hands", Channel("latest"), "1.0.0", allow_rollback=True)
    back = ("pull", reference, "-o", "two", "--lock", "publisher.lock", "--update")
    assert run(*back).exit_code == 6
    assert ok(*back, "--allow-rollback").stdout.startswith("hands 1.0.0 pulled ")
    assert run("pull", reference, "-o", "two", "--update").exit_code == 2
