"""
The same accidents, with DVC and with publisher: bytes change in the bucket, a push or a pull is
killed. Prints what a consumer gets.

Run by `make nightly`. DVC 3.67.1 installs wrong bytes, exits 0, and calls everything up to date.
Should a later DVC do better, this test says so, and our docs must too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from ..figures import PROPERTY
from ..trees import FILES, make_tree, read_tree

pytestmark = pytest.mark.nightly
MANY = {**FILES, **{f"train/images/{n:03}.bin": bytes([n]) * 20_000 for n in range(120)}}
VICTIMS = ("val/images/000003.jpg", "train/images/007.bin", "train/images/100.bin")
DAMAGE: Mapping[str, Callable[[bytes], bytes | None]] = {
    "bit flipped": lambda body: bytes([body[0] ^ 1]) + body[1:],
    "deleted": lambda _: None,
    "cut short": lambda body: body[:-1],
    "zeros": lambda body: bytes(len(body)),
}
Process = subprocess.Popen[bytes]


class Tool(Protocol):
    """A tool with a tree that it has published, or is about to publish."""

    name: str
    remote: Path
    out: Path  # what a consumer gets

    def push(self) -> Process: ...

    def pull(self) -> Process: ...

    def fresh(self) -> None:
        """Be a consumer who has nothing yet."""

    def seems_whole(self) -> bool:
        """Does the tool's own check call the folder whole?"""


def start(folder: Path, *command: object) -> Process:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    words = [str(word) for word in command]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=quiet, stderr=quiet)


def run(folder: Path, *command: object) -> int:
    return start(folder, *command).wait()


class Publisher:
    name = "publisher"

    def __init__(self, room: Path) -> None:
        self.remote, self.out = room / "remote", room / "out"
        self._room = room
        make_tree(room / "tree", MANY)

    def push(self) -> Process:
        return self._start("push", "tree", f"file://{self.remote}/hands", "--version", "1.0.0")

    def pull(self) -> Process:
        return self._start("pull", f"file://{self.remote}/hands@1.0.0", "-o", self.out)

    def fresh(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)

    def seems_whole(self) -> bool:
        return self._start("verify", self.out).wait() == 0

    def _start(self, *arguments: object) -> Process:
        return start(self._room, sys.executable, "-m", "publisher", *arguments)


class Dvc:
    name = "dvc"

    def __init__(self, room: Path) -> None:
        beside = Path(sys.executable).with_name("dvc")
        binary = str(beside) if beside.exists() else shutil.which("dvc")
        if binary is None:
            pytest.skip("no dvc: pip install dvc")
        self._dvc, self.remote = binary, room / "remote"
        self._work, self._fresh = room / "work", room / "fresh"
        self.out = self._fresh / "data"
        make_tree(self._work / "data", MANY)
        self._fresh.mkdir()
        for place in (self._work, self._fresh):
            assert run(place, binary, "init", "--no-scm") == 0
            assert run(place, binary, "remote", "add", "-d", "r", self.remote) == 0
        assert run(self._work, binary, "add", "data") == 0
        shutil.copy(self._work / "data.dvc", self._fresh)

    def push(self) -> Process:
        return start(self._work, self._dvc, "push")

    def pull(self) -> Process:
        return start(self._fresh, self._dvc, "pull")

    def fresh(self) -> None:
        for place in (self.out, self._fresh / ".dvc" / "cache", self._fresh / ".dvc" / "tmp"):
            shutil.rmtree(place, ignore_errors=True)

    def seems_whole(self) -> bool:
        command = [self._dvc, "status", "--quiet"]
        return subprocess.run(command, cwd=self._fresh).returncode == 0


@pytest.fixture(params=[Dvc, Publisher], ids=["dvc", "publisher"])
def tool(request, tmp_path) -> Tool:
    made: Tool = request.param(tmp_path)
    return made


@pytest.fixture
def count(request, tool, record_property) -> Iterator[Counter[str]]:
    counts: Counter[str] = Counter()
    yield counts
    record_property(PROPERTY, [f"comparison, {tool.name}", dict(counts)])


def outcome(tool: Tool, code: int) -> str:
    """What a consumer has, after a command that ended so."""
    if code:
        return (
            "torn"
            if tool.out.exists() and tool.seems_whole() and not is_whole(tool)
            else "detected"
        )
    got = read_tree(tool.out)
    if set(got) != set(MANY):
        return "torn"
    return "sound" if got == MANY else "wrong"


def is_whole(tool: Tool) -> bool:
    return read_tree(tool.out) == MANY


def objects(remote: Path) -> list[Path]:
    """Those that are there whole: DVC's temporary files end in .tmp, ours have their own folder."""
    return [
        p
        for p in remote.rglob("*")
        if p.is_file() and p.suffix != ".tmp" and ".publisher-tmp" not in p.parts
    ]


def kill_once(process: Process, there: Callable[[], bool]) -> bool:
    """kill -9 as soon as something is there; False where the process was quicker."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if there():
            process.kill()
            return process.wait() == -9
        time.sleep(0.002)
    process.wait()
    return False


@pytest.mark.parametrize("way", DAMAGE)
def test_bytes_change_in_the_bucket(tool, count, way):
    assert tool.push().wait() == 0
    for victim in VICTIMS:
        (path,) = (p for p in objects(tool.remote) if p.read_bytes() == MANY[victim])
        damaged = DAMAGE[way](MANY[victim])
        path.chmod(0o644)
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
            path.chmod(0o444)  # as DVC leaves its objects
        tool.fresh()
        count[f"fault: {way}"] += 1
        count[f"{way}: {outcome(tool, tool.pull().wait())}"] += 1
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(MANY[victim])
        path.chmod(0o444)
    results = {name.partition(": ")[2] for name in count if name.startswith(way)}
    if tool.name == "publisher":
        assert results == {"detected"}
    elif way == "bit flipped":
        assert "wrong" in results, "DVC does better than our docs say"


@pytest.mark.parametrize("after", [1, 40, 80])
def test_a_push_is_killed(tool, count, after):
    killed = kill_once(tool.push(), lambda: len(objects(tool.remote)) >= after)
    if not killed:
        pytest.skip("the push was quicker")
    count["fault: push killed"] += 1
    tool.fresh()
    count[f"push killed: {outcome(tool, tool.pull().wait())}"] += 1
    assert tool.push().wait() == 0
    tool.fresh()
    count[f"push killed, then repeated: {outcome(tool, tool.pull().wait())}"] += 1
    if tool.name == "publisher":
        assert set(count) == {
            *("fault: push killed", "push killed: detected", "push killed, then repeated: sound")
        }


@pytest.mark.parametrize("after", [1, 30, 90])
def test_a_pull_is_killed(tool, count, after):
    assert tool.push().wait() == 0
    tool.fresh()
    killed = kill_once(tool.pull(), lambda: len(objects(tool.out)) >= after)
    if not killed:
        pytest.skip("the pull was quicker")
    count["fault: pull killed"] += 1
    count[f"pull killed: {outcome(tool, -9)}"] += 1
    count[f"pull killed, then repeated: {outcome(tool, tool.pull().wait())}"] += 1
    if tool.name == "publisher":
        assert set(count) == {
            *("fault: pull killed", "pull killed: detected", "pull killed, then repeated: sound")
        }
