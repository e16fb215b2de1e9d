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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        out, err = ((self._room / name).read_text("utf-8") for name in ("out", "err"))
        return Ended(code, out, err)


@contextmanager
def forks(room: Path) -> Iterator[Forks]:
    """Start the process that all others are forked from; `room` is for what they say."""
    command = [sys.executable, "-m", "tests.processes"]
    root = Path(__file__).parent.parent
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, **pipes) as server:
        yield Forks(server, room)
        server.stdin.close()


def _serve() -> None:
    for module in ("boto3", "publisher.api", "publisher.bucket.publish", "publisher.cli.talk"):
        importlib.import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


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
