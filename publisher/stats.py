"""Counts and distributions of a dataset. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .dataset import Dataset, Sample, ordered_splits

# COCO's size classes: below 32^2 small, below 96^2 medium, else large
_BOUNDS = (("small", 32**2), ("medium", 96**2))


@dataclass(slots=True)
class SplitStats:
    """Counts of one split."""

    images: int = 0
    segments: int = 0


@dataclass(slots=True)
class Stats:
    """
    Counts of a dataset.

    `classes` gives (segments, pixels) by category name, `refined` the segments whose masks
    networks made from outlines, by the digests of their weights.
    """

    images: int = 0
    segments: int = 0
    splits: dict[str, SplitStats] = field(default_factory=dict)
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    refined: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """For `dvc metrics` and release records."""
        return {
            "images": self.images,
            "segments": self.segments,
            "splits": {
                n: {"images": s.images, "segments": s.segments} for n, s in self.splits.items()
            },
            "classes": {
                name: {"segments": n, "pixels": px} for name, (n, px) in self.classes.items()
            },
            "sizes": dict(sorted(self.sizes.items())),
            "refined": self.refined.total(),
        }


def stats_of(dataset: Dataset) -> Stats:
    """Count everything; each segment is rasterised once."""
    stats = Stats()
    names = {c.id: c.name for c in dataset.categories}
    for sample in dataset:
        _count(stats, sample, names)
    order = ordered_splits(set(stats.splits))
    stats.splits = {name: stats.splits[name] for name in order}
    stats.classes = {n: stats.classes[n] for n in names.values() if n in stats.classes}
    return stats


def _count(stats: Stats, sample: Sample, names: Mapping[int, str]) -> None:
    split = stats.splits.setdefault(sample.split or "unassigned", SplitStats())
    stats.images += 1
    split.images += 1
    for segment in sample.segments:
        area = segment.mask(sample.height, sample.width).area
        name = names[segment.category_id]
        n, pixels = stats.classes.get(name, (0, 0))
        stats.classes[name] = (n + 1, pixels + area)
        stats.segments += 1
        split.segments += 1
        stats.sizes[next((s for s, bound in _BOUNDS if area < bound), "large")] += 1
        if isinstance(made := segment.origin.get("refined"), Mapping):
            weights = made.get("weights")
            digests = weights if isinstance(weights, list | tuple) else ()
            stats.refined[tuple(map(str, digests))] += 1
