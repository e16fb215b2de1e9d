"""Small real releases: imported, dealt and built, in the way that a maintainer makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from publisher import workspace
from publisher.card import Card
from publisher.stages import intake, release
from publisher.storage import Bucket, MemoryBucket

from .makers import cvat_polygon, cvat_zip

Rows = list[dict[str, Any]]
SPLITS = ("train", "train", "val", "holdout")


def dataset(folder: Path, images: int = 4) -> Path:
    """A working dataset: a.jpg, b.jpg, …, each with a hand; the second also with a table."""
    shapes = {f"{chr(97 + i)}.jpg": cvat_polygon() for i in range(images)}
    shapes["b.jpg"] += cvat_polygon("12,1;19,1;19,9;12,9", "table")
    intake.take_in([cvat_zip(folder.with_suffix(".zip"), shapes)], folder)
    return edited(folder, _deal)


def _deal(rows: Rows) -> None:
    for i, row in enumerate(rows):
        row["split"] = SPLITS[i % len(SPLITS)]


def edited(folder: Path, edit: Callable[[Rows], object]) -> Path:
    """The dataset after something was done to its samples, as they lie in samples.jsonl."""
    path = folder / "samples.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    edit(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def built(folder: Path, out: Path, card: Card | None = None) -> Path:
    """The release of a working dataset."""
    release.build(workspace.read(folder), out, card or Card(name="hands"))
    return out


class Watched(MemoryBucket):
    """Remembers which keys were read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def get(self, key: str, **options: Any) -> bytes:
        self.seen.append(key)
        return super().get(key, **options)

    def read(self, key: str, **options: Any) -> Any:
        self.seen.append(key)
        return super().read(key, **options)


def opener(bucket: Bucket) -> Callable[[str], Bucket]:
    """Opens this bucket, whatever it is called."""
    return lambda _: bucket
