"""
Documents that threads meet for the first time.

msgspec 0.22 prepares a type when it is first decoded, and crashes where two threads do so at
once. Ours are prepared when their module is imported. Without that, each of these children dies
of a segmentation fault in some 7 of 100 cases, which 80 children do not survive.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

CHILDREN, THREADS = 80, 8


def decoders() -> Mapping[str, Callable[[], object]]:
    """What threads read, each by its name; nothing of it has been read in this process."""
    from publisher.versions.lock import Lock, Locked
    from publisher.versions.manifest import ChannelState, Manifest, Record, Status
    from publisher.versions.packs import Index, Place
    from publisher.versions.version import Version

    from ..trees import manifest

    m, root = manifest(), "sha256:" + "0" * 64
    shards = dict.fromkeys(m.shards, "0" * 64)
    version, created = Version.parse("1.0.0"), "2026-01-01T00:00:00+00:00"
    record = Record.of(m, "hands", version, created, "t", layout="packs", indexes=shards)
    index = Index.of({"0" * 64: Place("blobs/00/k", 0, 1, 1)}).to_bytes()
    bodies = {
        "manifest": (Manifest.from_bytes, m.to_bytes()),
        "record": (lambda b: Record.from_bytes(b, "k"), record.to_bytes()),
        "channel": (
            lambda b: ChannelState.from_bytes(b, "k"),
            ChannelState("1.0.0", root).to_bytes(),
        ),
        "status": (
            lambda b: Status.from_bytes(b, "k"),
            Status("1.0.0", "yanked", "why", created, None).to_bytes(),
        ),
        "index": (lambda b: Index.from_bytes(b, next(iter(record.shards.values()))), index),
        "lock": (Lock.from_bytes, Lock({"s3://b/hands@1": Locked("1.0.0", root)}).to_bytes()),
    }
    return {name: (lambda r=read, b=body: r(b)) for name, (read, body) in bodies.items()}


def crashes_of_children() -> None:
    """Let children, who have read nothing yet, read it in threads; print how each ended."""
    kinds = decoders()
    for name, decode in kinds.items():
        codes = set()
        for _ in range(CHILDREN):
            pid = os.fork()
            if pid == 0:
                sys.setswitchinterval(1e-6)  # the interpreter goes from thread to thread
                _at_once(decode)
                os._exit(0)
            codes.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(name, *sorted(codes))


def _at_once(work: Callable[[], object]) -> None:
    start = threading.Barrier(THREADS)

    def run() -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_may_be_the_first_to_read_a_document():
    code = f"from {__name__} import crashes_of_children as c; c()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines == dict.fromkeys(lines, "0")
    assert len(lines) == len(decoders())
