"""Split: deal a working dataset to splits, and remember it in `splits.lock`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .. import split, workspace
from ..dataset import ordered_splits
from ..files import canonical_json, write_atomic


@dataclass(frozen=True, slots=True)
class Dealt:
    """Images by split, and how many groups were assigned now and before."""

    images: Mapping[str, int]
    new: int
    old: int


def run(path: Path, out: Path, ratios: str, lock: Path) -> Dealt:
    """
    Write the dataset again with every sample's split, and the lock with every assignment.

    The lock is written first: an assignment that somebody may have seen is never forgotten.

    Raises:
        InvalidDataset: groups came torn apart, or are too few.
        FormatError: the lock is damaged.
    """
    dataset = workspace.read(path)
    locked = split.parse_lock(lock.read_bytes()) if lock.exists() else ()
    assignments = split.assign(dataset, split.parse_ratios(ratios), locked)
    lines = [canonical_json(line) + b"\n" for line in split.lock_lines(assignments)]
    write_atomic(lock, b"".join(lines))
    splits = {a.group: a.split for a in assignments}
    samples = tuple(split.apply(s, splits) for s in dataset)
    workspace.write(out, replace(dataset, samples=samples))
    names = [s.split for s in samples if s.split is not None]
    images = {name: names.count(name) for name in ordered_splits(set(names))}
    return Dealt(images, len(assignments) - len(locked), len(locked))
