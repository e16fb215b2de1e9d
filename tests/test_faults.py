"""The faults themselves: each does what it says, and one that never happens fails its test."""

from __future__ import annotations

from contextlib import suppress

import pytest

from publisher.errors import IntegrityError, ObjectExists, StorageError
from publisher.storage import MemoryBucket

from .contracts import BucketContract
from .faults import Crash, FaultyBucket, PatientBucket, at_random, faulty, flipped, interleave


class TestFaultyBucket(BucketContract):
    """Without a schedule it is a bucket like others."""

    @pytest.fixture
    def bucket(self):
        return FaultyBucket(MemoryBucket())


class TestPatientBucket(BucketContract):
    @pytest.fixture
    def bucket(self):
        return PatientBucket(MemoryBucket())


@pytest.fixture
def inner():
    bucket = MemoryBucket()
    bucket.put("a/1", b"first")
    bucket.put("a/2", b"second")
    return bucket


def test_a_fault_that_never_happens_fails_the_test(inner):
    with (
        pytest.raises(AssertionError, match=r"never happened.*put releases/"),
        faulty(inner, {"put releases/#1": "crash after"}) as client,
    ):
        client.put("a/3", b"third")


def test_operations_are_named_by_number_or_by_what_they_are(inner):
    schedule = {2: "flip", "get a/2#2": "short", "put": "ack lost"}
    with faulty(inner, schedule) as client:
        assert client.get("a/2") == b"second"
        assert client.get("a/1") == flipped(b"first")
        assert client.get("a/2") == b"sec"
        with pytest.raises(StorageError):
            client.put("a/3", b"third")
    assert inner.get("a/3") == b"third"


@pytest.mark.parametrize(("kind", "there"), [("crash before", False), ("crash after", True)])
def test_who_is_dead_does_nothing_more(inner, kind, there):
    with faulty(inner, {1: kind}) as client:
        with pytest.raises(Crash):
            client.put("a/3", b"third")
        with pytest.raises(Crash):
            client.put("a/4", b"fourth")
    assert [o.key for o in inner.list()] == ["a/1", "a/2", *(["a/3"] if there else [])]


@pytest.mark.parametrize(("kind", "there"), [("slow down", False), ("ack lost", True)])
def test_an_error_says_nothing_of_what_was_done(inner, kind, there):
    with faulty(inner, {1: kind}) as client, pytest.raises(StorageError):
        client.put("a/3", b"third")
    assert ("a/3" in inner._objects) == there


def test_what_comes_late_comes_under_the_same_conditions(inner):
    with faulty(inner, {1: "late", 2: "late"}) as dead:
        for key in ("a/1", "a/3"):
            with pytest.raises(StorageError):
                dead.put(key, b"late", if_absent=True)
    with faulty(inner, {2: "arrives"}, late=dead.late) as client:
        client.put("a/4", b"fourth")
        assert "a/3" not in inner._objects
        assert client.get("a/3") == b"late"
    assert inner.get("a/1") == b"first"


def test_answers_that_break_off_with_an_error_or_without(inner):
    with faulty(inner, {1: "short", 2: "reset", 3: "short", 4: "reset"}) as client:
        assert b"".join(client.read("a/2")) == b"sec"
        blocks = client.read("a/2")
        assert next(blocks) == b"sec"
        with pytest.raises(StorageError):
            next(blocks)
        assert [o.key for o in client.list("a/")] == ["a/1"]
        with pytest.raises(StorageError):
            list(client.list("a/"))


def test_a_flipped_body_is_refused_by_who_compares_digests_and_stored_by_others(inner):
    with faulty(inner, {1: "flip"}) as client, pytest.raises(IntegrityError):
        client.put("a/3", b"third")
    assert "a/3" not in inner._objects
    with faulty(inner, {1: "flip"}, checks=False) as client:
        assert client.put("a/3", b"third").sha256 is None
    assert inner.get("a/3") == flipped(b"third")


def test_objects_rot_and_disappear_and_lists_are_old(inner):
    with faulty(inner, {1: "rot", 3: "stale"}) as client:
        assert client.get("a/1") == flipped(b"first")
        client.put("a/3", b"third")
        assert [o.key for o in client.list()] == ["a/1", "a/2"]
    with faulty(inner, {1: "lost"}) as client, pytest.raises(StorageError):
        client.get("a/2")
    assert "a/2" not in inner._objects


def test_patience_outlasts_a_busy_server_and_not_a_conflict(inner):
    client = FaultyBucket(inner, dict.fromkeys(range(1, 8), "ack lost"))
    patient = PatientBucket(client)
    patient.put("a/3", b"third")
    assert len(client.operations) == 8
    client.verify_all_happened()
    with pytest.raises(ObjectExists):
        PatientBucket(FaultyBucket(inner, {1: "ack lost"})).put("a/4", b"x", if_absent=True)
    broken = FaultyBucket(inner, {1: "reset", 2: "reset"})
    assert b"".join(PatientBucket(broken).read("a/2")) == b"second"


def test_chance_is_the_same_for_the_same_seed(inner):
    def story(seed: int) -> list[str]:
        client = FaultyBucket(inner, at_random(seed, 0.5, ["slow down", "flip"]))
        for _ in range(50):
            with suppress(StorageError):
                client.get("a/1")
        return list(client.fired.items())

    assert story(1) == story(1) != story(2)
    assert sum(n for _, n in story(1)) > 10


def test_workers_take_turns_in_the_order_that_is_said(inner):
    said: list[str] = []

    def worker(name: str):
        def run(turn) -> None:
            client = FaultyBucket(inner, before=turn)
            for number in range(2):
                client.get("a/1")
                said.append(f"{name}{number}")

        return run

    order = iter([0, 1, 0, 1, 1, 0, 0, 1])
    interleave(
        [worker("a"), worker("b")], lambda left: o if (o := next(order)) in left else left[0]
    )
    assert said == ["a0", "b0", "b1", "a1"]
