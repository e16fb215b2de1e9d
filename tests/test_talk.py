"""What transfers say while they go on."""

from __future__ import annotations

import io
import sys

import pytest

from publisher.bucket import trees
from publisher.bucket.cache import Cache
from publisher.bucket.consume import pull, verify_folder
from publisher.bucket.publish import push
from publisher.bucket.verifying import verify_remote
from publisher.cli import talk
from publisher.progress import Amount
from publisher.storage import MemoryBucket
from tests.trees import FILES, make_tree, read_tree

from .bucket.test_consume import Breaks, flip, stored

NOON = "2026-01-01T12:00:00+00:00"
TOTAL = Amount(len(FILES), sum(map(len, FILES.values())))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(talk.time, "monotonic", clock)
    return clock


def test_a_log_gets_one_line_in_ten_seconds_with_rate_and_time_left(clock, capsys):
    with talk.transfer() as tell:
        for second in range(31):
            clock.now = 1000.0 + second
            tell("fetched", Amount(second * 10, second * 10**6), Amount(1000, 100 * 10**6))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "fetched 100 of 1,000 files, 10.0 of 100.0 MB, 1.0 MB/s, 1:30 left",
        "fetched 200 of 1,000 files, 20.0 of 100.0 MB, 1.0 MB/s, 1:20 left",
        "fetched 300 of 1,000 files, 30.0 of 100.0 MB, 1.0 MB/s, 1:10 left",
    ]


def test_a_log_gets_one_line_in_ten_seconds_of_what_is_counted(clock, capsys):
    with talk.progress("steps") as tell:
        for second in range(1, 31):
            clock.now = 1000.0 + second
            tell(2000 + second * 100, 10_000)
    assert capsys.readouterr().err.splitlines() == [
        "steps: 3,000 of 10,000, 1:17 left",
        "steps: 4,000 of 10,000, 1:03 left",
        "steps: 5,000 of 10,000, 0:51 left",
    ]


def test_what_prints_json_counts_in_silence(clock, capsys):
    with talk.progress("steps", quiet=True) as tell:
        clock.now += 60
        tell(1, 2)
    assert capsys.readouterr().err == ""


def test_rate_and_time_are_of_what_is_done_now_not_of_what_was_done_before(clock, capsys):
    with talk.transfer() as tell:
        tell("checked", Amount(0, 0), Amount(1, 10**9))
        clock.now += 5
        tell("fetched", Amount(0, 0), Amount(1, 10**9))
        clock.now += 5
        tell("fetched", Amount(0, 10**6), Amount(1, 10**9))
    assert (
        capsys.readouterr().err
        == "fetched 0 of 1 files, 1.0 of 1,000.0 MB, 0.2 MB/s, 1:23:15 left\n"
    )


def test_nothing_was_moved_yet_and_nothing_is_divided_by_it(clock, capsys):
    with talk.transfer() as tell:
        clock.now += 20
        tell("sent", Amount(0, 0), Amount(3, 10**6))
    assert capsys.readouterr().err == "sent 0 of 3 files, 0.0 of 1.0 MB, 0.0 MB/s\n"


def test_short_work_and_json_say_nothing(clock, capsys):
    with talk.transfer() as tell:
        tell("sent", Amount(1, 10), Amount(1, 10))
    with talk.transfer(quiet=True) as tell:
        clock.now += 100
        tell("sent", Amount(1, 10), Amount(1, 10))
    assert capsys.readouterr() == ("", "")


def test_who_watches_sees_a_bar_with_bytes_rate_and_files_on_stderr(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with talk.transfer() as tell:
        tell("fetched", Amount(0, 0), Amount(1234, 10**7))
        tell("fetched", Amount(1234, 10**7), Amount(1234, 10**7))
    shown = screen.getvalue()
    assert "fetched" in shown
    assert "10.0/10.0 MB" in shown
    assert "1,234/1,234 files" in shown
    assert capsys.readouterr().out == ""


def test_commands_say_it_on_stderr_alone(tmp_path, monkeypatch, cli):
    monkeypatch.setattr(talk, "_EVERY", 0.0)
    remote = f"file://{tmp_path}/bucket/hands"
    sent = cli("push", make_tree(tmp_path / "tree"), remote, "--version", "1.0.0")
    size = f"0.0 of {TOTAL.bytes / 1e6:,.1f} MB"
    assert "checked 9 of 9 files" in sent.stderr
    assert f"sent 9 of 9 files, {size}" in sent.stderr
    assert sent.stdout.count("\n") == 1
    fetched = cli("pull", f"{remote}@1.0.0", "-o", tmp_path / "out")
    assert f"fetched 9 of 9 files, {size}" in fetched.stderr
    assert "checked 9 of 9 files" in cli("verify", tmp_path / "out").stderr
    assert "checked 9 of 9 files" in cli("verify", f"{remote}@1.0.0", "--deep").stderr
    assert cli("verify", tmp_path / "out", "--json").stderr == ""


class Told:
    """Remembers what it was told, and holds it to be reasonable."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[Amount, Amount]] = {}

    def __call__(self, what: str, done: Amount, total: Amount) -> None:
        assert 0 <= done.files <= total.files
        assert 0 <= done.bytes <= total.bytes
        self.last[what] = done, total


@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("cached", [False, True])
def test_all_that_is_sent_fetched_and_checked_is_counted_once(tmp_path, layout, cached):
    bucket, told = MemoryBucket(), Told()
    push(bucket, make_tree(tmp_path / "tree"), "hands", "1.0.0", created=NOON, layout=layout,
         on_bytes=told)  # fmt: skip
    checked = TOTAL if layout == "plain" else Amount(3, 38)  # the others as their packs are made
    assert told.last == {"checked": (checked, checked), "sent": (TOTAL, TOTAL)}
    cache = Cache(tmp_path / "cache", 2**30) if cached else None
    for out in "ab":
        told = Told()
        pull(bucket, "hands", "1.0.0", tmp_path / out, cache=cache, on_bytes=told)
        assert told.last == {"fetched": (TOTAL, TOTAL)}
    for look in (
        lambda told: verify_folder(tmp_path / "a", told),
        lambda told: verify_remote(bucket, "hands", "1.0.0", on_bytes=told),
        lambda told: verify_remote(bucket, "hands", "1.0.0", deep=True, on_bytes=told),
    ):
        told = Told()
        look(told)
        assert told.last == {"checked": (TOTAL, TOTAL)}


def test_what_breaks_off_or_comes_wrong_is_not_counted_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "THREADS", 1)
    bucket = MemoryBucket()
    push(bucket, make_tree(tmp_path / "tree"), "hands", "1.0.0", created=NOON)
    told = Told()
    flaky = Breaks(bucket._objects, times=5)
    pull(flaky, "hands", "1.0.0", tmp_path / "a", on_bytes=told)
    assert told.last["fetched"] == (TOTAL, TOTAL)
    assert read_tree(tmp_path / "a") == FILES
    flip(bucket, stored("README.md"))
    told = Told()
    with pytest.raises(Exception, match=r"README\.md"):
        pull(bucket, "hands", "1.0.0", tmp_path / "b", on_bytes=told)
    missing = len(FILES["README.md"])
    assert told.last["fetched"][0] == Amount(TOTAL.files - 1, TOTAL.bytes - missing)
