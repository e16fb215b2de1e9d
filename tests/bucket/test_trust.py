"""Who pins a key gets what its holder has signed, for that very place and time, or nothing."""

from __future__ import annotations

import dataclasses
import warnings
from datetime import UTC, datetime

import msgspec
import pytest

import publisher
from publisher.bucket.catalog import find_status, resolve, versions
from publisher.bucket.consume import pull
from publisher.bucket.doctor import examine
from publisher.bucket.locking import settle
from publisher.bucket.maintain import mark, move_channel
from publisher.bucket.mirroring import mirror
from publisher.bucket.publish import push
from publisher.bucket.signing import sign
from publisher.bucket.trust import NEVER, Trust, find_signatures, signers_of
from publisher.bucket.verifying import examine as examine_version
from publisher.bucket.verifying import verify_remote
from publisher.errors import (
    IntegrityError,
    StorageError,
    Untrusted,
    UsageError,
    VersionConflict,
    VersionNotFound,
    VersionWarning,
)
from publisher.storage import MemoryBucket, open_bucket
from publisher.versions.manifest import (
    ChannelState,
    Record,
    ReleaseSignatures,
    channel_key,
    record_key,
    signatures_key,
    status_key,
)
from publisher.versions.version import Channel, Reference, Version
from tests.bucket.test_publish import FailsAfter
from tests.contracts import at_once
from tests.signers import key, public, signers, trust
from tests.trees import FILES, make_tree, read_tree

NOON = "2026-01-01T12:00:00+00:00"
LATEST = Channel("latest")
REFERENCE = Reference.parse("s3://bucket/hands@latest")
A, B = signers("ann"), signers("bob")


def release(bucket, tmp_path, number, who=A, *, name="hands", readme=None, **options):
    """Publish FILES with a README that tells versions apart."""
    readme = (readme or number).encode()
    tree = make_tree(tmp_path / f"tree of {name} {number}", {"README.md": readme})
    return push(bucket, tree, name, number, created=NOON, signers=who, **options)


@pytest.fixture
def bucket(tmp_path):
    """hands 1.0.0 and 1.1.0, signed by Ann; so is `latest`, without an end."""
    bucket = MemoryBucket()
    for number in ("1.0.0", "1.1.0"):
        release(bucket, tmp_path, number)
    return bucket


def at(moment: str, *names: str) -> Trust:
    """Trust at a certain time."""
    return dataclasses.replace(trust(*names), clock=lambda: datetime.fromisoformat(moment))


def state_of(bucket, channel=LATEST, name="hands") -> ChannelState:
    where = channel_key(name, channel)
    return ChannelState.from_bytes(bucket.get(where), where)


def nothing_comes(bucket, tmp_path, selector="latest", who=None, match=""):
    """A pull ends with exit code 7 and leaves no file."""
    out = tmp_path / "nothing"
    with pytest.raises(IntegrityError, match=match) as caught:
        pull(bucket, "hands", selector, out, trust=who or trust("ann"))
    assert caught.value.exit_code == 7
    assert not out.exists()
    return caught.value


# ── a whole life, on every bucket ────────────────────────────────────────────────────────────


def test_what_is_signed_comes_to_those_who_pin_the_key_and_to_all_others(opened, tmp_path):
    bucket = opened()
    release(bucket, tmp_path, "1.0.0", signers("ann", until=NEVER))
    assert read_tree(pull(opened(), "hands", "latest", tmp_path / "a").path).keys() == FILES.keys()
    for selector in ("latest", "1.0.0", "^1.0", resolve(bucket, "hands").root):
        out = tmp_path / "out"
        assert pull(opened(), "hands", selector, out, trust=trust("ann")).version == "1.0.0"
        nothing_comes(opened(), tmp_path, selector, trust("bob"), match="has no signature of a key")
    verify_remote(opened(), "hands", trust=trust("ann", "bob"))
    with pytest.raises(Untrusted):
        verify_remote(opened(), "hands", trust=trust("bob"))


def test_what_is_not_signed_comes_only_to_those_who_pin_no_key(opened, tmp_path):
    release(opened(), tmp_path, "1.0.0", signers())
    assert pull(opened(), "hands", "latest", tmp_path / "out").version == "1.0.0"
    nothing_comes(opened(), tmp_path, "1.0.0", match=r"hands 1\.0\.0 has no signature of a key")
    nothing_comes(opened(), tmp_path, "latest", match="hands@latest has no signature of a key")


def test_a_version_is_signed_after_it_was_published_and_by_several_at_once(opened, tmp_path):
    release(opened(), tmp_path, "1.0.0", signers())
    names = ["ann", "bob", "eve"]
    at_once(3, lambda n: sign(opened(), "hands", "1.0.0", signers(names[n])))
    record, again = sign(opened(), "hands", "1.0.0", signers(*names))
    assert not again
    assert signers_of(opened(), record) == tuple(sorted(map(public, names)))
    for name in names:
        resolve(opened(), "hands", "1.0.0", trust(name))


# ── what lies in the bucket is not what was signed ───────────────────────────────────────────


def test_a_signature_that_was_taken_away(bucket, tmp_path):
    bucket.delete(signatures_key("hands", Version(1, 1, 0)))
    for selector in ("latest", "1.1.0", "^1"):
        nothing_comes(bucket, tmp_path, selector, match=r"hands 1\.1\.0 has no signature")


def test_a_signature_that_was_taken_off_a_channel(bucket, tmp_path):
    bare = msgspec.structs.replace(state_of(bucket), signatures=msgspec.UNSET)
    bucket.put(channel_key("hands", LATEST), bare.to_bytes())
    nothing_comes(bucket, tmp_path, match="hands@latest has no signature")
    assert pull(bucket, "hands", "1.1.0", tmp_path / "out", trust=trust("ann")).version == "1.1.0"


@pytest.mark.parametrize("other", ["version", "dataset", "prefix"])
def test_a_signature_of_something_else(bucket, tmp_path, other):
    if other == "version":
        source, place = bucket, signatures_key("hands", Version(1, 0, 0))
    else:
        source, name = MemoryBucket(), "hands" if other == "prefix" else "feet"
        release(source, tmp_path / "x", "1.1.0", name=name, readme=f"of another {other}")
        place = signatures_key(name, Version(1, 1, 0))
    bucket.put(signatures_key("hands", Version(1, 1, 0)), source.get(place))
    nothing_comes(bucket, tmp_path, "1.1.0", match=r"hands 1\.1\.0 is not what ed25519:\w+ has sig")


def test_the_same_content_of_another_dataset_needs_a_signature_of_its_own(bucket, tmp_path):
    release(bucket, tmp_path / "x", "1.1.0", name="feet")
    copied = bucket.get(signatures_key("feet", Version(1, 1, 0)))
    assert resolve(bucket, "feet", "1.1.0").root == resolve(bucket, "hands", "1.1.0").root
    bucket.put(signatures_key("hands", Version(1, 1, 0)), copied)
    nothing_comes(bucket, tmp_path, "1.1.0", match="is not what")


def test_a_whole_version_of_another_prefix_is_not_what_the_channel_says(bucket, tmp_path):
    """All of it is signed by the same key; but `latest` names the root, and is signed."""
    other = MemoryBucket()
    release(other, tmp_path / "x", "1.1.0", readme="of another prefix")
    for o in list(other.list()):
        if "/channels/" not in o.key:
            bucket.put(o.key, other.get(o.key))
    nothing_comes(bucket, tmp_path, "latest", match=r"hands@latest is 1\.1\.0 with sha256:")


@pytest.mark.parametrize(
    "change",
    [
        {"created": "2020-01-01T00:00:00+00:00"},
        {"tool": "someone else's"},
        {"provenance": "0" * 64},
        {
            "splits": lambda r: {
                **r.splits,
                "val": msgspec.structs.replace(r.splits["val"], images=9),
            }
        },
    ],
    ids=lambda c: next(iter(c)),
)
def test_nobody_can_change_what_was_signed(bucket, tmp_path, change):
    record = resolve(bucket, "hands", "1.1.0")
    new = {k: v(record) if callable(v) else v for k, v in change.items()}
    forged = msgspec.structs.replace(record, **new)
    place = record_key("hands", Version(1, 1, 0))
    assert Record.from_bytes(forged.to_bytes(), place) == forged  # sealed, and it adds up
    bucket.put(place, forged.to_bytes())
    nothing_comes(bucket, tmp_path, "1.1.0", match="is not what")


def test_a_copy_that_lies_otherwise_needs_no_new_signature(bucket, tmp_path):
    """Where bytes lie is no part of what a version is."""
    tree = tmp_path / "tree of hands 1.1.0"
    mirror = MemoryBucket()
    push(mirror, tree, "hands", "1.1.0", created=NOON, layout="packs", channel=None)
    there = signatures_key("hands", Version(1, 1, 0))
    mirror.put(there, bucket.get(there))
    mine, theirs = resolve(mirror, "hands", "1.1.0"), resolve(bucket, "hands", "1.1.0")
    assert (mine.layout, mine.shards) != (theirs.layout, theirs.shards)
    assert pull(mirror, "hands", "1.1.0", tmp_path / "o", trust=trust("ann")).root == theirs.root


@pytest.mark.parametrize("source", ["another channel", "another dataset"])
def test_a_channel_that_is_signed_for_another_place(bucket, tmp_path, source):
    move_channel(bucket, "hands", Channel("old"), "1.0.0", signers=A)
    release(bucket, tmp_path, "1.0.0", name="feet")
    name, channel = ("hands", Channel("old")) if "channel" in source else ("feet", LATEST)
    bucket.put(channel_key("hands", LATEST), bucket.get(channel_key(name, channel)))
    nothing_comes(bucket, tmp_path, match="hands@latest is not what")


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 9999, b"\xff", b"x" * (2**20 + 1)])
def test_signatures_that_are_none(bucket, tmp_path, body):
    place = signatures_key("hands", Version(1, 1, 0))
    bucket.put(place, body)
    error = nothing_comes(bucket, tmp_path, "1.1.0", match=place.replace(".", r"\."))
    assert error.paths == (place,)
    if len(body) < 2**20:
        assert sign(bucket, "hands", "1.1.0", A)[1]
        resolve(bucket, "hands", "1.1.0", trust("ann"))


def test_signing_again_keeps_what_holds_and_drops_what_does_not(bucket):
    place = signatures_key("hands", Version(1, 1, 0))
    (good,) = ReleaseSignatures.from_bytes(bucket.get(place), place).signatures
    bad = msgspec.structs.replace(good, key=public("eve"))
    forged = ReleaseSignatures(tuple(sorted((good, bad))))
    bucket.put(place, forged.to_bytes())
    assert sign(bucket, "hands", "1.1.0", B)[1]
    found = find_signatures(bucket, "hands", Version(1, 1, 0))
    assert {s.key for s in found} == {public("ann"), public("bob")}


# ── channels: rollback and freeze ────────────────────────────────────────────────────────────


@pytest.fixture
def lock(bucket, tmp_path):
    """A lock that has settled `latest` at 1.1.0, and pins Ann's key."""
    path = tmp_path / "publisher.lock"
    settled = settle(bucket, REFERENCE, path, trust=trust("ann"))
    settled.keep(settled.root)
    return path


def updated(bucket, lock, who=None):
    settled = settle(bucket, REFERENCE, lock, update=True, **({"trust": who} if who else {}))
    settled.keep(settled.root)
    return str(settled.version)


def test_an_old_channel_that_was_signed_is_still_a_rollback(bucket, lock, tmp_path):
    place = channel_key("hands", LATEST)
    old = bucket.get(place)
    release(bucket, tmp_path, "1.2.0")
    assert updated(bucket, lock) == "1.2.0"
    bucket.put(place, old)
    with pytest.raises(VersionConflict, match="an old copy, or somebody put one there"):
        updated(bucket, lock)


def test_old_copies_cannot_lead_back_step_by_step(bucket, lock, tmp_path):
    """1.1.0 said, 1.0.0 said, 1.1.0 said again: the first copy must not make the second new."""
    place = channel_key("hands", LATEST)
    first = bucket.get(place)
    move_channel(bucket, "hands", LATEST, "1.0.0", allow_rollback=True, signers=A)
    second = bucket.get(place)
    move_channel(bucket, "hands", LATEST, "1.1.0", signers=A)
    assert updated(bucket, lock) == "1.1.0"
    bucket.put(place, first)
    assert updated(bucket, lock) == "1.1.0"
    bucket.put(place, second)
    with pytest.raises(VersionConflict, match=r"by move 3, and has said 1\.1\.0 by move 4"):
        updated(bucket, lock)


def test_a_channel_that_is_not_signed_again_in_time_runs_out(bucket, tmp_path):
    ends = signers("ann", until="2026-03-01T00:00:00+00:00")
    assert move_channel(bucket, "hands", LATEST, "latest", signers=ends, refresh=True).moved
    early, late = at("2026-02-28T23:59:59+00:00", "ann"), at("2026-03-01T00:00:00+00:00", "ann")
    assert pull(bucket, "hands", "latest", tmp_path / "in time", trust=early).version == "1.1.0"
    nothing_comes(bucket, tmp_path, who=late, match="has run out on 2026-03-01T00:00:00")
    assert pull(bucket, "hands", "1.1.0", tmp_path / "by number", trust=late).version == "1.1.0"
    assert pull(bucket, "hands", "latest", tmp_path / "pins nothing").version == "1.1.0"
    longer = signers("ann", until="2026-06-01T00:00:00+00:00")
    assert move_channel(bucket, "hands", LATEST, "latest", signers=longer, refresh=True).moved
    assert resolve(bucket, "hands", "latest", late).version == "1.1.0"
    assert (state_of(bucket).moves, state_of(bucket).previous) == (4, "1.0.0")


def test_nobody_can_give_a_channel_more_time(bucket, tmp_path):
    ends = signers("ann", until="2026-03-01T00:00:00+00:00")
    move_channel(bucket, "hands", LATEST, "latest", signers=ends, refresh=True)
    for expires in ("2099-01-01T00:00:00+00:00", msgspec.UNSET):
        forged = msgspec.structs.replace(state_of(bucket), expires=expires)
        bucket.put(channel_key("hands", LATEST), forged.to_bytes())
        nothing_comes(bucket, tmp_path, match="is not what")


def test_the_doctor_tells_of_ends(bucket):
    def latest():
        return [c.state for c in examine(bucket) if c.what == "hands@latest"]

    now = datetime.now(UTC)
    assert latest() == []
    for until, state in (
        (now.replace(year=now.year - 1, day=1), ["fail"]),
        (now.replace(microsecond=0) + publisher.bucket.doctor.SOON / 2, ["warn"]),
        (now.replace(year=now.year + 1, day=1), []),
    ):
        ends = signers("ann", until=until.isoformat(timespec="seconds"))
        move_channel(bucket, "hands", LATEST, "latest", signers=ends, refresh=True)
        assert latest() == state


def test_the_doctor_finds_damaged_signatures(bucket):
    bucket.put(signatures_key("hands", Version(1, 0, 0)), b"{}")
    assert [(c.what, c.code) for c in examine(bucket) if c.state == "fail"] == [("hands", 7)]


# ── maintainers cannot lose by accident what consumers rest on ───────────────────────────────


def test_a_signed_channel_moves_only_with_a_key(bucket, tmp_path):
    before = dict(bucket._objects)
    with pytest.raises(UsageError, match="latest of hands is signed by ed25519:") as caught:
        release(bucket, tmp_path, "1.2.0", signers())
    assert "--key" in caught.value.hint
    assert bucket._objects == before  # nothing was sent
    with pytest.raises(UsageError):
        move_channel(bucket, "hands", LATEST, "1.0.0", allow_rollback=True)
    assert release(bucket, tmp_path, "1.1.0", signers()).status == "already published"
    assert release(bucket, tmp_path, "1.0.1", signers()).status == "published"  # moves no channel


def test_an_end_is_not_lost_by_forgetting_it(bucket, tmp_path):
    ends = signers("ann", until="2036-03-01T00:00:00+00:00")
    move_channel(bucket, "hands", LATEST, "latest", signers=ends, refresh=True)
    with pytest.raises(UsageError, match="would have none"):
        release(bucket, tmp_path, "1.2.0")
    release(bucket, tmp_path, "1.2.0", signers("ann", until=NEVER))
    assert state_of(bucket).end is None


def test_who_signs_channels_by_habit_signs_nothing_that_was_slipped_in(bucket, tmp_path):
    """A job that refreshes `latest` every week must not vouch for what a thief has put there."""
    release(bucket, tmp_path, "1.2.0", signers(), channel="other")
    thief = ChannelState("1.2.0", resolve(bucket, "hands", "1.2.0").root, seq=99)
    bucket.put(channel_key("hands", LATEST), thief.to_bytes())
    with pytest.raises(Untrusted, match="hands@latest has no signature"):
        move_channel(bucket, "hands", LATEST, "latest", signers=A, refresh=True)
    with pytest.raises(Untrusted, match=r"hands 1\.2\.0 has no signature"):
        move_channel(bucket, "hands", LATEST, "1.2.0", signers=A, refresh=True)
    move_channel(bucket, "hands", LATEST, "1.1.0", signers=A, allow_rollback=True)
    assert (state_of(bucket).version, state_of(bucket).moves) == ("1.1.0", 100)


def test_keys_change_without_a_gap(bucket, lock, tmp_path):
    both = signers("ann", "bob")
    release(bucket, tmp_path, "1.2.0", both)
    assert updated(bucket, lock) == "1.2.0"  # Ann's key is still pinned
    assert updated(bucket, lock, trust("ann", "bob")) == "1.2.0"
    release(bucket, tmp_path, "1.3.0", B)  # Ann has left
    assert updated(bucket, lock) == "1.3.0"
    assert updated(bucket, lock, trust("bob")) == "1.3.0"
    with pytest.raises(Untrusted):  # older versions want a signature of the new key
        settle(bucket, Reference.parse("s3://bucket/hands@1.1.0"), lock)
    sign(bucket, "hands", "1.1.0", B)
    settle(bucket, Reference.parse("s3://bucket/hands@1.1.0"), lock)


def test_the_same_data_from_another_commit_is_signed_only_on_purpose(tmp_path):
    bucket = MemoryBucket()
    release(bucket, tmp_path, "1.0.0", signers())
    other = make_tree(tmp_path / "other", {"README.md": b"1.0.0", "provenance.json": b"{}\n"})
    with pytest.raises(VersionConflict, match="of another commit, and not signed") as caught:
        push(bucket, other, "hands", "1.0.0", created=NOON, signers=A)
    assert "publisher sign" in caught.value.hint
    sign(bucket, "hands", resolve(bucket, "hands").root, A)
    assert push(bucket, other, "hands", "1.0.0", created=NOON, signers=A)


# ── yanked, deprecated ───────────────────────────────────────────────────────────────────────


def said(bucket, version, state, who):
    return mark(bucket, "hands", Version.parse(version), state, "why", at=NOON, signers=who)


def test_who_pins_a_key_listens_to_no_forged_yank(bucket, lock):
    assert said(bucket, "1.1.0", "yanked", signers())
    with pytest.warns(VersionWarning, match="by no key that you trust: that does not count"):
        assert resolve(bucket, "hands", "latest", trust("ann")).version == "1.1.0"
    with pytest.warns(VersionWarning):
        assert resolve(bucket, "hands", "latest").version == "1.0.0"
    move_channel(bucket, "hands", LATEST, "1.0.0", allow_rollback=True, signers=A)
    with (
        pytest.warns(VersionWarning),
        pytest.raises(VersionConflict, match="moved it back"),
    ):
        updated(bucket, lock)


def test_a_yank_that_is_signed_counts_and_is_signed_where_it_was_not(bucket, lock):
    said(bucket, "1.1.0", "yanked", signers())
    assert said(bucket, "1.1.0", "yanked", A)
    assert not said(bucket, "1.1.0", "yanked", A)
    with pytest.warns(VersionWarning, match="is yanked: why"):
        assert updated(bucket, lock) == "1.0.0"


def test_a_status_signed_for_another_version_does_not_count(bucket):
    said(bucket, "1.0.0", "yanked", A)
    place = status_key("hands", Version(1, 0, 0))
    forged = msgspec.structs.replace(
        find_status(bucket, "hands", Version(1, 0, 0)), version="1.1.0"
    )
    bucket.put(place.replace("1.0.0", "1.1.0"), forged.to_bytes())
    with pytest.warns(VersionWarning, match="does not count"):
        assert resolve(bucket, "hands", "latest", trust("ann")).version == "1.1.0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said(bucket, "1.1.0", "active", signers())  # unsigned, and says nothing
        assert resolve(bucket, "hands", "latest", trust("ann")).version == "1.1.0"


# ── locks ────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_checks_signatures_from_then_on(bucket, lock, tmp_path):
    bucket.delete(signatures_key("hands", Version(1, 1, 0)))
    before = lock.read_bytes()
    for options in ({}, {"update": True}):
        with pytest.raises(Untrusted):
            settle(bucket, REFERENCE, lock, **options)
    assert lock.read_bytes() == before


def test_keys_are_pinned_in_a_lock_that_has_settled_without(bucket, tmp_path):
    path = tmp_path / "publisher.lock"
    settled = settle(bucket, REFERENCE, path)
    settled.keep(settled.root)
    assert b"trusted" not in path.read_bytes()
    settled = settle(bucket, REFERENCE, path, trust=trust("ann"))
    settled.keep(settled.root)
    assert public("ann").encode() in path.read_bytes()
    with pytest.raises(Untrusted):
        settle(bucket, REFERENCE, path, trust=trust("bob"))


def test_each_dataset_has_its_own_keys(bucket, lock, tmp_path):
    release(bucket, tmp_path, "1.0.0", B, name="feet")
    feet = Reference.parse("s3://bucket/feet@1.0.0")
    settled = settle(bucket, feet, lock, trust=trust("bob"))
    settled.keep(settled.root)
    assert settled.trust.keys == {public("bob")}
    assert settle(bucket, REFERENCE, lock).trust.keys == {public("ann")}


def test_no_thief_can_push_the_count_of_a_lock_ahead(bucket, lock):
    """Else every later state of the channel would look old."""
    before = lock.read_bytes()
    ahead = msgspec.structs.replace(state_of(bucket), seq=2**53)
    bucket.put(channel_key("hands", LATEST), ahead.to_bytes())
    with pytest.raises(Untrusted):
        updated(bucket, lock)
    assert lock.read_bytes() == before


def test_nor_by_showing_it_for_a_moment(bucket, lock, tmp_path):
    """The channel is read for its count, and again for its version: both must be signed."""
    release(bucket, tmp_path, "1.2.0")
    place, honest = channel_key("hands", LATEST), bucket.get
    forged = [msgspec.structs.replace(state_of(bucket), seq=2**53).to_bytes()]
    bucket.get = lambda k, **o: forged.pop() if k == place and forged else honest(k, **o)
    with pytest.raises(Untrusted):
        updated(bucket, lock)
    assert not forged
    assert updated(bucket, lock) == "1.2.0"


# ── killed at any moment ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("applied", [False, True], ids=["put lost", "answer lost"])
def test_a_signed_push_cut_short_anywhere_is_mended_by_the_same_push(
    tmp_path, monkeypatch, applied
):
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)  # one put after another
    whole = FailsAfter(10_000)
    release(whole, tmp_path, "1.0.0")
    seen = set()
    for puts in range(10_000 - whole.left):
        bucket = FailsAfter(puts, applied=applied)
        with pytest.raises(StorageError):
            release(bucket, tmp_path, "1.0.0")
        bucket.left = 10_000
        with pytest.raises((Untrusted, VersionNotFound)) if not is_signed(bucket) else ok():
            resolve(bucket, "hands", "1.0.0", trust("ann"))
        with pytest.raises(VersionNotFound) if not channel_of(bucket) else ok():
            resolve(bucket, "hands", "latest", trust("ann"))  # leads to what is signed, or nowhere
        seen.add((bool(versions(bucket, "hands")), is_signed(bucket), channel_of(bucket)))
        release(bucket, tmp_path, "1.0.0")
        assert bucket._objects == whole._objects
        assert resolve(bucket, "hands", "latest", trust("ann")).version == "1.0.0"
    assert seen >= {(False, False, False), (True, False, False), (True, True, False)}


def ok():
    return warnings.catch_warnings()


def is_signed(bucket) -> bool:
    return signatures_key("hands", Version(1, 0, 0)) in bucket._objects


def channel_of(bucket) -> bool:
    return channel_key("hands", LATEST) in bucket._objects


# ── the functions that people call ───────────────────────────────────────────────────────────


def test_the_python_functions_take_keys(tmp_path):
    remote = f"file://{tmp_path}/bucket"
    tree = make_tree(tmp_path / "tree")
    push(open_bucket(remote), tree, "hands", "1.0.0", created=NOON, signers=A)
    reference, lock = f"{remote}/hands@latest", tmp_path / "publisher.lock"
    assert publisher.pull(reference, to=tmp_path / "a", trust=public("ann")).version == "1.0.0"
    with pytest.raises(Untrusted):
        publisher.pull(reference, to=tmp_path / "b", trust=[public("bob")])
    with pytest.raises(Untrusted):
        publisher.load(reference, cache=tmp_path / "cache", trust=public("bob"))
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "cache").exists()
    publisher.pull(reference, to=tmp_path / "a", trust=public("ann"), lock=lock)
    open_bucket(remote).delete(signatures_key("hands", Version(1, 0, 0)))
    with pytest.raises(Untrusted):
        publisher.pull(reference, to=tmp_path / "a", lock=lock)


@pytest.mark.parametrize("text", ["", "ed25519:00", "ed25519:" + "g" * 64, "\x00", "ä" * 64])
def test_what_is_no_public_key(text):
    with pytest.raises(UsageError, match=r"^not a public key$"):
        Trust.of([text])


def test_a_key_may_be_pasted_with_space_around_it():
    assert Trust.of([f"  {public('ann')}\n"]) == trust("ann")
    assert "ed25519" in repr(key("ann"))


# ── copies ───────────────────────────────────────────────────────────────────────────────────


def test_a_mirror_has_signatures_and_mends_them(bucket, tmp_path):
    copy, place = MemoryBucket(), signatures_key("hands", Version(1, 1, 0))
    mirror(bucket, copy, "hands")
    assert pull(copy, "hands", "latest", tmp_path / "out", trust=trust("ann")).version == "1.1.0"
    move_channel(bucket, "hands", LATEST, "latest", signers=A, refresh=True)
    mirror(bucket, copy, "hands")
    assert state_of(copy) == state_of(bucket)  # signed again here, and so there
    copy.put(place, b"{}")
    assert [d.key for d in examine_version(copy, "hands", "1.1.0").left] == [place]
    assert examine_version(copy, "hands", "1.1.0", mirror=bucket).is_sound
    assert copy.get(place) == bucket.get(place)


def test_a_mirror_puts_no_unsigned_channel_in_the_place_of_a_signed_one(bucket, tmp_path):
    copy = MemoryBucket()
    mirror(bucket, copy, "hands")
    before = state_of(copy)
    forged = msgspec.structs.replace(state_of(bucket), signatures=msgspec.UNSET, seq=99)
    bucket.put(channel_key("hands", LATEST), forged.to_bytes())
    mirror(bucket, copy, "hands")
    assert state_of(copy) == before
