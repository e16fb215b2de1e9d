"""Chunks of work in several processes: the same results in order, few under way, clean ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from publisher import engine
from publisher.engine import ordered
from publisher.errors import FormatError, PublisherError, UsageError


def double(n: int) -> int:
    time.sleep((n * 7 % 3) / 300)  # so that they finish out of order
    return 2 * n


def process(_: int) -> int:
    return os.getpid()


def refuse(n: int) -> int:
    if n == 20:
        raise FormatError("broken", path="a.jpg", code="R504", hint="mend it")
    return n


def die(n: int) -> int:
    if n == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_whatever_the_number_of_workers(workers):
    assert list(ordered(double, range(40), workers)) == [2 * n for n in range(40)]


def test_small_jobs_start_no_process():
    assert set(ordered(process, range(engine.ALONE), 2)) == {os.getpid()}


def test_large_jobs_use_the_workers_that_the_variable_names(monkeypatch):
    monkeypatch.setenv("PUBLISHER_WORKERS", "2")
    others = set(ordered(process, range(60))) - {os.getpid()}
    assert 1 <= len(others) <= 2


@pytest.mark.parametrize("said", ["0", "-1", "many", ""])
def test_a_variable_that_is_no_number_is_refused(monkeypatch, said):
    monkeypatch.setenv("PUBLISHER_WORKERS", said)
    with pytest.raises(UsageError, match="PUBLISHER_WORKERS"):
        list(ordered(double, range(3)))


def test_few_chunks_are_under_way_at_a_time():
    asked = []

    def chunks():
        for n in range(60):
            asked.append(n)
            yield n

    results = ordered(double, chunks(), 2)
    for n in range(50):
        assert next(results) == 2 * n
        assert len(asked) <= n + 1 + 4
    results.close()


def test_an_error_in_a_worker_arrives_as_it_was_raised():
    with pytest.raises(FormatError) as e:
        list(ordered(refuse, range(40), 2))
    assert (e.value.path, e.value.code, e.value.hint) == ("a.jpg", "R504", "mend it")


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with pytest.raises(PublisherError, match="killed") as e:
        list(ordered(die, range(40), 2))
    assert "PUBLISHER_WORKERS" in (e.value.hint or "")


SLOW = """
import time
from publisher.engine import ordered
def slow(n):
    time.sleep(0 if n < 16 else 0.2)
    return n
if __name__ == "__main__":
    for n in ordered(slow, range(1000), 2):
        print(n, flush=True)
"""


def test_an_interrupt_ends_parent_and_workers(tmp_path):
    run = begun(tmp_path / "slow.py", SLOW)
    assert run.stdout is not None
    while int(run.stdout.readline()) < 18:  # the workers are at work
        pass
    interrupted(run)


def begun(script: Path, text: str) -> subprocess.Popen[str]:
    """A script at work, in a group of processes of its own."""
    script.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupted(run: subprocess.Popen[str]) -> str:
    """Interrupt it as a terminal does; it and its workers end. What it said."""
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode != 0
    assert said.count("KeyboardInterrupt") == 1
    assert gone(run.pid)
    return said


def gone(group: int) -> bool:
    """Does a group of processes end within some seconds?"""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


STARTING = """
import sys, time
if __name__ == "__mp_main__":
    time.sleep(1)  # a worker that is slow to begin
from publisher.engine import ordered

def work(chunk):
    return chunk

if __name__ == "__main__":
    print("begins", flush=True)
    for _ in ordered(work, range(100), workers=2, alone=0):
        time.sleep(0.1)
"""


def test_an_interrupt_while_workers_begin_is_an_interrupt_and_no_killed_worker(tmp_path):
    run = begun(tmp_path / "starting.py", STARTING)
    assert run.stdout is not None
    run.stdout.readline()
    time.sleep(0.5)
    assert "killed" not in interrupted(run)
