"""Split: deal a working dataset to splits, and remember it in `splits.lock`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import split, workspace
from ..dataset import Sample, ordered_splits
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
    images: Counter[str] = Counter()

    def dealt() -> Iterator[Sample]:
        for sample in dataset:
            images[splits[split.group_of(sample)]] += 1
            yield split.apply(sample, splits)

    workspace.write(out, dataset, samples=dealt())
    counts = {name: images[name] for name in ordered_splits(set(images))}
    return Dealt(counts, len(assignments) - len(locked), len(locked))
