"""What every bucket must do. Whatever passes BucketContract may be published to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.errors import (
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    PublisherError,
)
from publisher.storage import Bucket, require_conditional_writes


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)`, `work(1)`, … in threads that start together."""
    start = threading.Barrier(count)

    def run(n: int) -> None:
        start.wait()
        work(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


class BucketContract:
    @pytest.fixture
    def bucket(self) -> Bucket:
        raise NotImplementedError

    def test_returns_what_was_put(self, bucket):
        bucket.put("a/b.bin", b"\x00\xff")
        assert bucket.get("a/b.bin") == b"\x00\xff"

    def test_a_put_replaces_by_default(self, bucket):
        bucket.put("k", b"old")
        bucket.put("k", b"new")
        assert bucket.get("k") == b"new"

    def test_an_empty_object_is_an_object(self, bucket):
        bucket.put("empty", b"")
        assert bucket.get("empty") == b""
        assert list(bucket.read("empty")) == []
        assert bucket.head("empty").size == 0

    @pytest.mark.parametrize("key", ["a b/ä+%20&.jpg", "d/日本 (1).png"])
    def test_keys_are_any_safe_path(self, bucket, key):
        bucket.put(key, b"x")
        assert bucket.get(key) == b"x"
        assert [o.key for o in bucket.list()] == [key]

    @pytest.mark.parametrize("key", ["../x", "/x", "a//b", "a/./b", "", "a\x00b", "a/../../x"])
    def test_keys_that_leave_their_place_are_refused(self, bucket, key):
        for call in (bucket.get, bucket.head, lambda k: bucket.put(k, b"x")):
            with pytest.raises(PublisherError):
                call(key)

    def test_a_missing_object_is_also_a_file_not_found_error(self, bucket):
        with pytest.raises(ObjectNotFound, match="nope"):
            bucket.get("nope")
        with pytest.raises(FileNotFoundError):
            bucket.head("nope")
        with pytest.raises(ObjectNotFound):
            list(bucket.read("nope"))

    def test_get_refuses_more_than_its_limit(self, bucket):
        bucket.put("k", b"12345")
        assert bucket.get("k", limit=5) == b"12345"
        with pytest.raises(IntegrityError, match="more than 4 bytes"):
            bucket.get("k", limit=4)

    def test_reads_in_blocks_from_anywhere(self, bucket):
        body = bytes(range(256)) * 12_000  # 3 MB
        bucket.put("k", body)
        assert b"".join(bucket.read("k")) == body
        assert b"".join(bucket.read("k", start=2_999_999)) == body[2_999_999:]
        assert b"".join(bucket.read("k", start=len(body))) == b""
        assert max(map(len, bucket.read("k"))) <= 2**20

    def test_reads_a_stretch_and_no_more(self, bucket):
        body = bytes(range(256)) * 12_000
        bucket.put("k", body)
        for start, length in [(0, 1), (5, 2**20 + 7), (len(body) - 3, 3)]:
            assert b"".join(bucket.read("k", start=start, length=length)) == body[start:][:length]
        assert b"".join(bucket.read("k", start=len(body) - 3, length=99)) == body[-3:]
        assert list(bucket.read("k", start=7, length=0)) == []

    def test_copies_without_sending(self, bucket):
        bucket.put("a/ä+%20 b.jpg", b"bytes", content_type="image/jpeg", cache_control="no-cache")
        digest = hashlib.sha256(b"bytes").hexdigest()
        info = bucket.copy("a/ä+%20 b.jpg", "b/copy.jpg", sha256=digest)
        assert (info.key, info.size) == ("b/copy.jpg", 5)
        assert info.sha256 in {None, digest}
        assert bucket.get("b/copy.jpg") == bucket.get("a/ä+%20 b.jpg") == b"bytes"
        bucket.put("b/copy.jpg", b"older")
        bucket.copy("a/ä+%20 b.jpg", "b/copy.jpg", sha256=digest)
        assert bucket.get("b/copy.jpg") == b"bytes"
        with pytest.raises(ObjectNotFound):
            bucket.copy("nope", "c", sha256=digest)

    def test_a_copy_of_other_bytes_than_promised_is_an_error_where_the_bucket_can_tell(
        self, bucket
    ):
        bucket.put("k", b"other bytes")
        try:
            copied = bucket.copy("k", "copy", sha256=hashlib.sha256(b"these").hexdigest())
        except IntegrityError:
            return
        assert copied.sha256 is None

    def test_puts_files(self, bucket, tmp_path):
        path = Path(tmp_path / "source.bin")
        path.write_bytes(b"\x01" * 2_500_000)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        info = bucket.put("k", path, sha256=digest, content_type="image/jpeg")
        assert info.size == bucket.head("k").size == 2_500_000
        assert bucket.get("k") == path.read_bytes()

    def test_a_body_without_its_digest_is_not_stored(self, bucket):
        with pytest.raises(IntegrityError):
            bucket.put("k", b"damaged", sha256=hashlib.sha256(b"good").hexdigest())
        with pytest.raises(ObjectNotFound):
            bucket.get("k")

    def test_a_create_only_put_keeps_the_first_body(self, bucket):
        bucket.put("k", b"first", if_absent=True)
        with pytest.raises(ObjectExists):
            bucket.put("k", b"second", if_absent=True)
        assert bucket.get("k") == b"first"

    def test_compare_and_swap(self, bucket):
        seen = bucket.put("index", b"1")
        bucket.put("index", b"2", if_match=seen.etag)
        with pytest.raises(PreconditionFailed):
            bucket.put("index", b"3", if_match=seen.etag)
        assert bucket.get("index") == b"2"

    def test_compare_and_swap_of_a_missing_object(self, bucket):
        with pytest.raises(PreconditionFailed):
            bucket.put("gone", b"1", if_match='"d41d8cd98f00b204e9800998ecf8427e"')

    def test_list_is_sorted_and_keeps_to_the_prefix(self, bucket):
        for key in ["v/2", "v/1", "w/1", "v/sub/3"]:
            bucket.put(key, b"12")
        assert [(o.key, o.size) for o in bucket.list("v/")] == [
            ("v/1", 2),
            ("v/2", 2),
            ("v/sub/3", 2),
        ]
        assert list(bucket.list("nothing/")) == []

    def test_head_agrees_with_put(self, bucket):
        put, head = bucket.put("k", b"abc"), bucket.head("k")
        assert (put.key, put.size, put.etag) == (head.key, head.size, head.etag)
        assert head.sha256 in {None, hashlib.sha256(b"abc").hexdigest()}

    def test_delete_is_idempotent(self, bucket):
        bucket.put("k", b"")
        bucket.delete("k")
        bucket.delete("k")
        assert list(bucket.list()) == []

    def test_only_one_of_many_writers_creates(self, bucket):
        won = []

        def race(n: int) -> None:
            try:
                bucket.put("commit", str(n).encode(), if_absent=True)
            except ObjectExists:
                return
            won.append(n)

        at_once(8, race)
        assert len(won) == 1
        assert bucket.get("commit") == str(won[0]).encode()

    def test_no_increment_of_a_counter_is_lost(self, bucket):
        bucket.put("counter", b"0")

        def increment(_: int) -> None:
            for _ in range(3):
                while True:
                    seen = bucket.head("counter")
                    value = int(bucket.get("counter"))
                    try:
                        bucket.put("counter", str(value + 1).encode(), if_match=seen.etag)
                        break
                    except PreconditionFailed:
                        continue

        at_once(4, increment)
        assert bucket.get("counter") == b"12"

    def test_readers_see_whole_objects_only(self, bucket):
        bodies = {bytes([n]) * 100_000 for n in range(4)}
        bucket.put("k", min(bodies))
        seen: set[bytes] = set()

        def work(n: int) -> None:
            for _ in range(10):
                if n < 2:
                    bucket.put("k", bytes([n * 2 + 1]) * 100_000)
                else:
                    seen.add(bucket.get("k"))

        at_once(4, work)
        assert seen <= bodies
        assert [o.key for o in bucket.list()] == ["k"]

    def test_conditional_writes_are_proven(self, bucket):
        require_conditional_writes(bucket)
        require_conditional_writes(bucket)
