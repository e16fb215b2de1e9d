"""
The annotated sets that the shipped models learn from and are judged on, as datasets.

A set is a folder with `images/<id>.jpg` and `instances/<id>.png` (16 bits, 0 is background).
`split.json` says which image is for what, fixed before anything was trained: by set, and within
a set by scene, so that no burst of one scene is on two sides.

    python training/sets.py FOLDER PART OUT [SET]...

PART is train, tune, blind, fresh, unseen, hidden, sealed, photos, photos-2, photos-3, photos-4 or
atwork;
OUT becomes a working dataset, of all sets or of those named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from publisher import images, workspace
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.masks import Rle
from publisher.shapes.runs import masks_of_ids

SPLIT = Path(__file__).with_name("split.json")
OBJECT = Category(1, "object")


def read(folder: Path, part: str, only: Collection[str] = ()) -> Dataset:
    """All objects of a part of the sets below a folder; file names begin with the set's."""
    parts = json.loads(SPLIT.read_text("utf-8"))["parts"]
    samples, last = [], 0
    chosen = {name: ids for name, ids in parts[part].items() if not only or name in only}
    for at, (name, ident) in enumerate(_members(chosen), start=1):
        ids = labels(folder / name / "instances" / f"{ident}.png")
        segments = []
        for number, mask in masks_of_ids(ids).items():
            if number:
                last += 1
                rle = Rle(mask.height, mask.width, mask.counts.decode("ascii"))
                segments.append(Segment(last, OBJECT.id, rle))
        file_name = f"{name}/images/{ident}.jpg"
        samples.append(Sample(at, file_name, *ids.shape, tuple(segments), group=name))
    samples.sort(key=lambda s: s.file_name)
    return Dataset(part, (OBJECT,), tuple(samples), images=folder)


def labels(path: Path) -> NDArray[np.integer]:
    """An id map (H, W)."""
    return images.read_labels(path.read_bytes()).values


def _members(sets: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    for name in sorted(sets):
        for ident in sorted(sets[name]):
            yield name, ident


if __name__ == "__main__":
    source, wanted, out, *names = sys.argv[1:]
    dataset = read(Path(source), wanted, names)
    workspace.write(Path(out), replace(dataset, name=wanted))
    print(f"{len(dataset)} images, {sum(len(s.segments) for s in dataset)} objects")
