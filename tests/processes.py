"""
The command line in real processes, many of them: each is forked from one that has imported it.

A start costs a tenth of what a new interpreter does, and the process can be killed, limited and
looked at like any other.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN_DISKS = ("unshare", "--user", "--map-root-user", "--mount")  # which nobody else sees


def has_own_disks() -> bool:
    """May we mount disks that only our processes see?"""
    try:
        return subprocess.run([*OWN_DISKS, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@dataclass(frozen=True)
class Ended:
    """How a process ended: `returncode` as of subprocess, -9 where it was killed."""

    returncode: int
    stdout: str
    stderr: str


class Forks:
    """Runs `publisher` with arguments, one at a time."""

    def __init__(self, server: subprocess.Popen[str], room: Path) -> None:
        self._server = server
        self._room = room

    def __call__(
        self,
        *arguments: object,
        failpoint: str = "",
        largest_file: int | None = None,
        settings: Mapping[str, int] = {},
    ) -> Ended:
        """
        Args:
            failpoint: see publisher/failpoint.py.
            largest_file: bytes that the process may write to one file.
            settings: constants of modules, as `publisher.storage.MAX_PUT`.
        """
        order = {
            "arguments": [str(a) for a in arguments],
            "environment": {**os.environ, "PUBLISHER_FAILPOINT": failpoint},
            "largest_file": largest_file,
            "settings": dict(settings),
            "folder": str(self._room),
        }
        code = self._give(order)
        out, err = ((self._room / name).read_text("utf-8") for name in ("out", "err"))
        return Ended(code, out, err)

    def disk(self, path: Path, size: int) -> None:
        """Mount a disk of so many bytes in a folder; one that is there gets this size."""
        assert self._give({"disk": str(path), "size": size}) == 0

    def seen(self, path: Path) -> Path:
        """Where this process sees what the others see at a path."""
        return Path(f"/proc/{self._server.pid}/root") / path.relative_to("/")

    def _give(self, order: Mapping[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


@contextmanager
def forks(room: Path, *, inside: Sequence[str] = ()) -> Iterator[Forks]:
    """
    Start the process that all others are forked from.

    Args:
        room: for what they say.
        inside: a command that runs another, such as OWN_DISKS.
    """
    command = [*inside, sys.executable, "-m", "tests.processes"]
    root = Path(__file__).parent.parent
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, **pipes) as server:
        yield Forks(server, room)
        server.stdin.close()


def _serve() -> None:
    for module in ("boto3", "publisher.api", "publisher.bucket.publish", "publisher.cli.talk"):
        importlib.import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        if "disk" in order:
            print(_mount(order["disk"], order["size"]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _run(order)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _mount(path: str, size: int) -> int:
    how = f"remount,size={size}" if os.path.ismount(path) else f"size={size}"
    return subprocess.run(["mount", "-t", "tmpfs", "-o", how, "none", path]).returncode


def _run(order: Any) -> None:
    """Be the command line, then end."""
    os.environ.clear()
    os.environ.update(order["environment"])
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, name in ((1, "out"), (2, "err")):
        path = Path(order["folder"]) / name
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if order["largest_file"] is not None:
        limit = order["largest_file"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for name, value in order["settings"].items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    from publisher.cli import main

    code: object = 1
    try:
        main(order["arguments"], prog_name="publisher")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
