"""A journal: what was put is there again, whatever happened to its end."""

from __future__ import annotations

import pytest

from publisher.journal import Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def fill(path, title="one", count=3):
    with Journal(path, title) as journal:
        for n in range(count):
            journal.put(f"key {n}", b"body %d" % n)


def test_what_was_put_is_there_when_it_is_opened_again(path):
    fill(path)
    with Journal(path, "one") as journal:
        assert len(journal) == 3
        assert [journal.get(f"key {n}") for n in range(3)] == [b"body 0", b"body 1", b"body 2"]
        assert "key 3" not in journal
        journal.put("key 3", b"")
        assert journal.get("key 3") == b""
    with Journal(path, "one") as journal:
        assert journal.get("key 3") == b""


def test_under_another_title_it_begins_anew(path):
    fill(path)
    with Journal(path, "two") as journal:
        assert len(journal) == 0
    with Journal(path, "one") as journal:
        assert len(journal) == 0


@pytest.mark.parametrize("lost", range(1, 60, 4))
def test_a_last_line_that_was_cut_off_is_forgotten_and_the_rest_is_not(path, lost):
    fill(path)
    body = path.read_bytes()
    path.write_bytes(body[:-lost])
    with Journal(path, "one") as journal:
        assert len(journal) == (2 if lost <= 49 else 1)
        journal.put("key 2", b"again")
    with Journal(path, "one") as journal:
        assert journal.get("key 0") == b"body 0"
        assert journal.get("key 2") == b"again"


def test_nothing_behind_a_damaged_line_is_believed(path):
    fill(path)
    path.write_bytes(path.read_bytes().replace(b"body 1", b"bodY 1"))
    with Journal(path, "one") as journal:
        assert "key 0" in journal
        assert "key 1" not in journal
        assert "key 2" not in journal


def test_a_file_of_something_else_is_begun_anew(path):
    path.write_bytes(b"\x00\xff no journal \n\n" * 50)
    with Journal(path, "one") as journal:
        assert len(journal) == 0
        journal.put("a", b"b")
    with Journal(path, "one") as journal:
        assert journal.get("a") == b"b"
