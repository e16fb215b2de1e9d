"""
Push and pull under a schedule of faults, what a reader sees after it, and the repeat.

The same for every way to inject faults that counts requests and has `begin`, `asked`, `done`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from publisher.bucket.consume import pull
from publisher.bucket.publish import push
from publisher.errors import PublisherError
from publisher.storage import S3Bucket

from .figures import Figures, Reader
from .trees import manifest, read_tree

OLD = {
    "README.md": b"# Hands\n",
    "train/images/a.jpg": b"first picture" * 99,
    "train/images/b.jpg": b"second picture" * 99,
    "train/panoptic/a.png": b"first map",
}
NEW = {**OLD, "README.md": b"# Hands, and more\n", "train/images/c.jpg": b"third picture"}
CONTENTS = {"1.0.0": OLD, "1.1.0": NEW}


class Injector(Protocol):
    """Does to the n-th request what a schedule says."""

    asked: int  # requests since `begin`
    done: list[str]  # kinds of the faults that took effect

    def begin(self, schedule: Mapping[int, str] = {}) -> None: ...


def under(bucket: S3Bucket, prefix: str) -> S3Bucket:
    """The same bucket with a prefix of its own: as empty as a new one."""
    return S3Bucket(bucket._client, bucket._name, prefix, wire=bucket._path)


def trees(room: Path) -> dict[str, Path]:
    for version, files in CONTENTS.items():
        for path, body in files.items():
            target = room / version / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        (room / version / "manifest.json").write_bytes(manifest(files).to_bytes())
    return {version: room / version for version in CONTENTS}


class Scene:
    """
    A bucket in which every schedule finds a place of its own.

    Args:
        codes: with which a command may end, besides 0, when a kind of fault took effect.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        injector: Injector,
        figures: Figures,
        room: Path,
        codes: Mapping[str, set[int]],
    ) -> None:
        self.injector = injector
        self.figures = figures
        self._whole = bucket
        self._codes = codes
        self._room = room
        self._trees = trees(room / "trees")
        self._places = 0

    @property
    def credentials(self) -> Any:
        """Those that botocore holds."""
        return self._whole._client._request_signer._credentials

    def place(self) -> tuple[S3Bucket, Reader]:
        """An empty bucket, and who reads there."""
        self._places += 1
        room = self._room / str(self._places)
        return under(self._whole, f"{self._whole._prefix}{self._places}"), Reader(
            self.figures, CONTENTS, room
        )

    def push(self, bucket: S3Bucket, version: str, layout: str) -> None:
        tree = self._trees[version]
        push(bucket, tree, "hands", version, created="2026-01-01", layout=layout)

    def requests_of(self, work: Callable[[], object]) -> int:
        """How many requests something takes when nothing happens."""
        self.injector.begin()
        work()
        return self.injector.asked

    def attempt(self, schedule: Mapping[int, str], work: Callable[[], object]) -> int:
        """Do something while faults happen; its exit code."""
        self.injector.begin(schedule)
        failed: PublisherError | None = None
        try:
            work()
        except PublisherError as error:
            failed = error
        code = failed.exit_code if failed else 0
        if failed:
            assert "\n" not in str(failed)
            assert failed.hint, str(failed)
        allowed = {0}.union(*(self._codes.get(kind, {0}) for kind in self.injector.done))
        if self.injector.done.count("bit flipped on its way up") > 1:
            allowed.add(7)  # what comes wrong is sent once more, and no more than that
        if len(self.injector.done) > 1 and "wrong ETag" in self.injector.done:
            allowed.add(6)  # a read that broke off goes on, and what it reads seems to be another
        assert code in allowed, (schedule, code)
        for kind in schedule.values():
            self.figures.fault(kind, self.injector.done.count(kind))
        self.figures.add("schedules")
        self.injector.begin()
        return code

    def push_through(self, schedule: Mapping[int, str], layout: str, *, old: bool = False) -> int:
        """Publish under a schedule, look, repeat if need be, and look; the first exit code."""
        bucket, reader = self.place()
        version = "1.1.0" if old else "1.0.0"
        if old:
            self.push(bucket, "1.0.0", layout)
            reader.must.add("1.0.0")
        code = self.attempt(schedule, lambda: self.push(bucket, version, layout))
        if code:
            reader.look(bucket)
            self.push(bucket, version, layout)
        reader.must.add(version)
        reader.look(bucket)
        self.figures.add("versions")
        return code

    def pull_through(self, schedule: Mapping[int, str], source: S3Bucket, *, old: bool) -> int:
        """Pull under a schedule, look, repeat if need be, and look; the first exit code."""
        _, reader = self.place()
        out = reader.room / "out"
        if old:
            pull(source, "hands", "1.0.0", out)
        code = self.attempt(schedule, lambda: pull(source, "hands", "1.1.0", out))
        self.figures.add("reads")
        if code:
            there = read_tree(out) if out.exists() else {}
            final = {p: b for p, b in there.items() if not p.startswith(".publisher.parts/")}
            mixed = any(b not in (OLD.get(p), NEW.get(p)) for p, b in final.items())
            self.figures.add("wrong", mixed)
            pull(source, "hands", "1.1.0", out)
        reader.compare(read_tree(out), NEW)
        return code

    def push_length(self, layout: str, *, old: bool = False) -> int:
        """How many requests a push takes."""
        bucket, _ = self.place()
        if old:
            self.push(bucket, "1.0.0", layout)
        return self.requests_of(lambda: self.push(bucket, "1.1.0" if old else "1.0.0", layout))

    def pull_length(self, source: S3Bucket) -> int:
        """How many requests a pull takes."""
        out = self._room / f"length-{self._places}"
        return self.requests_of(lambda: pull(source, "hands", "1.1.0", out))

    def source(self, layout: str) -> S3Bucket:
        """A bucket with both versions."""
        bucket, _ = self.place()
        for version in CONTENTS:
            self.push(bucket, version, layout)
        return bucket
