"""What pushing and pulling takes of memory, which many files may not make more."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from publisher.versions.manifest import Entry, Manifest

FEW, MANY = 10_000, 30_000  # files
BOUND = 500  # bytes of memory that one more may take; 1,000 where all of them are objects
MOVE = """
import re, sys
from pathlib import Path
from publisher.bucket.cache import Cache
from publisher.bucket.consume import pull
from publisher.bucket.publish import push
from publisher.storage import open_bucket

what, home = sys.argv[1], Path(sys.argv[2])
bucket = open_bucket((home / "bucket").as_uri())
if what == "push":
    push(bucket, home / "tree", "hands", "1.0.0", created="2026-01-01T12:00:00+00:00")
else:
    pull(bucket, "hands", "1.0.0", home / "out", cache=Cache(home / "cache", 2**30))
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="Linux says the peak of a process"
)
def test_many_files_take_hardly_more_memory_than_few(tmp_path):
    few, many = (peaks_of(tmp_path / str(files), files) for files in (FEW, MANY))
    for what in ("push", "pull"):
        assert many[what] - few[what] < BOUND * (MANY - FEW), f"{what}: {few} {many}"


def peaks_of(home: Path, files: int) -> dict[str, int]:
    """The most bytes that a push and a pull of so many files have at a time."""
    release(home / "tree", files)
    command = (sys.executable, "-c", MOVE)
    return {
        what: 1024 * int(subprocess.check_output((*command, what, str(home)), text=True))
        for what in ("push", "pull")
    }


def release(tree: Path, files: int) -> None:
    (tree / "train/images").mkdir(parents=True)
    entries = []
    for number in range(files):
        path, body = f"train/images/{number:06}.jpg", b"%d" % number
        (tree / path).write_bytes(body)
        entries.append(Entry(path, len(body), hashlib.sha256(body).hexdigest(), "train"))
    (tree / "manifest.json").write_bytes(Manifest("hands", tuple(entries)).to_bytes())
