"""Small datasets that share contents, for tests of what deletes: retract and gc."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from publisher.bucket.consume import pull
from publisher.bucket.publish import push
from publisher.errors import VersionRetracted
from publisher.storage import Bucket, MemoryBucket
from publisher.versions.version import Version
from tests.trees import entry, read_tree

NOON = "2026-01-01T12:00:00+00:00"
REASON = "a person asked for it"
DAY = 86_400.0
SECRET = b"the face of somebody who wants it gone"
FACE = "train/images/face.jpg"

Files = Mapping[str, bytes]


class Clocked(MemoryBucket):
    """A bucket whose clock is set by hand."""

    def __init__(self) -> None:
        self.time = 1_750_000_000.0
        super().__init__(lambda: self.time)


def release(folder: Path, files: Files) -> Path:
    """A release tree with exactly these files."""
    from publisher.versions.manifest import Manifest

    for path, body in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    folder.mkdir(parents=True, exist_ok=True)
    listed = Manifest("hands", tuple(entry(p, b) for p, b in files.items()))
    (folder / "manifest.json").write_bytes(listed.to_bytes())
    return folder


def pictures(*numbers: int, **more: bytes) -> dict[str, bytes]:
    """A README and some pictures of the split `train`."""
    files = {f"train/images/{n:03}.jpg": f"picture {n}".encode() * 9 for n in numbers}
    return {"README.md": b"# Hands\n", "LICENSE": b"CC0\n", **files, **more}


def put(
    bucket: Bucket, home: Path, version: str, files: Files, *, name: str = "hands", **options
) -> None:
    """Publish a version with exactly these files."""
    tree = home / f"{name} {version}"
    push(bucket, release(tree, files), name, version, created=NOON, **options)


def holds(bucket: Bucket, home: Path, version: str, name: str = "hands") -> dict[str, bytes] | None:
    """The files that a reader gets; None where it is said to be retracted."""
    out = home / f"out {name} {version} {len(list(home.iterdir()))}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read_tree(pull(bucket, name, Version.parse(version), out).path)
        except VersionRetracted:
            return None


def bodies(bucket: Bucket) -> bytes:
    """All that lies in a bucket."""
    return b"\0".join(b"".join(bucket.read(o.key)) for o in bucket.list())
