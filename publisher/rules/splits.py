"""S: what must not be torn apart, what leaks, and what a split lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..dataset import ordered_splits
from .rule import Finding, Seen, Survey, dataset_rule

NEAR = 4  # bits of 64 that the difference hashes of near-duplicates may differ in
_CELLS = 2**20  # comparisons at once
_FEATURELESS = 4  # hashes with fewer bits set, or unset, than this plus one say too little


@dataset_rule("S901", "error")
def torn_group(survey: Survey) -> Iterator[Finding]:
    """
    A group has images in two splits.

    Why it matters: frames of one video, or a burst of one scene, are nearly the same picture.
    Torn apart, the test score is a memory test: one team measured mAP 1.0 on such a split and
    48 % recall on held-out videos (geti issue 7619).
    Fix: `publisher split` never tears a group; give the group to one split in `splits.lock`.
    Example: frame 12 of "kitchen.mp4" in train, frame 13 in test.
    """
    first: dict[str, Seen] = {}
    for s in survey.seen:
        if s.group is None or s.split is None:
            continue
        other = first.setdefault(s.group, s)
        if other.split != s.split:
            yield survey.find(
                f"is in {s.split}, but {other.file_name} of the same group {s.group!r} "
                f"is in {other.split}",
                s,
            )


@dataset_rule("S902", "error")
def leak(survey: Survey) -> Iterator[Finding]:
    """
    The same picture, or nearly, is in two splits.

    Why it matters: the model is tested on what it has learnt by heart. In the open set HULKs,
    98 % of the validation frames came from recordings that were also in train.
    Fix: give both the same group and split again, or remove one.
    Looks at: sha256 of the files, and 64-bit difference hashes that differ in at most 4 bits.
    Example: `copy_of_12.jpg` in test, `12.jpg` in train.
    """
    first: dict[tuple[str, str], Seen] = {}
    placed = [s for s in survey.seen if s.split is not None]
    for s in placed:
        if s.sha256 is not None:
            first.setdefault((s.sha256, str(s.split)), s)
    yield from _same_bytes(survey, first)
    yield from _near(survey, placed)


def _same_bytes(survey: Survey, first: dict[tuple[str, str], Seen]) -> Iterator[Finding]:
    owner: dict[str, Seen] = {}
    for (digest, _), s in first.items():
        other = owner.setdefault(digest, s)
        if other is not s:
            yield survey.find(
                f"is in {s.split} and has the bytes of {other.file_name} in {other.split}", s
            )


def _near(survey: Survey, placed: list[Seen]) -> Iterator[Finding]:
    first: dict[tuple[int, str], Seen] = {}
    for s in placed:
        if s.sha256 is not None and _says_enough(s.dhash):
            first.setdefault((s.dhash, str(s.split)), s)
    entries = list(first.values())
    hashes = np.array([s.dhash for s in entries], dtype=np.uint64)
    names = {s.split: n for n, s in enumerate(entries)}
    splits = np.array([names[s.split] for s in entries], dtype=np.int64)
    for i, j, bits in near_pairs(hashes, splits):
        a, b = entries[i], entries[j]
        if a.sha256 != b.sha256:
            yield survey.find(
                f"is in {b.split} and looks like {a.file_name} in {a.split} "
                f"({bits} of 64 bits differ)",
                b,
            )


def _says_enough(dhash: int) -> bool:
    """Flat pictures and plain gradients all look alike to a difference hash."""
    if not 0 < dhash < 2**64 - 1:
        return False
    rows = dhash.to_bytes(8, "big")
    return len(set(rows)) > 1 and _FEATURELESS < dhash.bit_count() < 64 - _FEATURELESS


def near_pairs(hashes: NDArray[np.uint64], splits: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """
    Pairs (i < j) of different splits whose hashes differ in at most `NEAR` bits, and how many.

    Two that differ in 4 bits agree on at least one of 5 bands, so only those that share a
    band are compared (pigeonhole; multi-index hashing, Norouzi et al. 2012).
    """
    found = dict[tuple[int, int], int]()
    edges = [0, 13, 26, 39, 52, 64]
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order])) + 1
        for bucket in np.split(order, starts):
            if len(bucket) > 1:
                found.update(_within(bucket, hashes, splits))
    return [(i, j, bits) for (i, j), bits in sorted(found.items())]


def _within(
    bucket: NDArray[np.int64], hashes: NDArray[np.uint64], splits: NDArray[np.int64]
) -> Iterator[tuple[tuple[int, int], int]]:
    """All near pairs of one bucket; it is sorted, so the first index is the lower."""
    h, s = hashes[bucket], splits[bucket]
    if (s == s[0]).all():
        return
    step = max(1, _CELLS // len(bucket))
    for top in range(0, len(bucket), step):
        rows = slice(top, top + step)
        bits = np.bitwise_count(h[rows, None] ^ h)
        for a, b in np.argwhere((bits <= NEAR) & (s[rows, None] != s)).tolist():
            if top + a < b:
                yield (int(bucket[top + a]), int(bucket[b])), int(bits[a, b])


@dataset_rule("S903", "warning")
def lacking(survey: Survey) -> Iterator[Finding]:
    """
    A split has no segment of a category, or none at all.

    Why it matters: a class without examples in test has no score, and one without any in train
    cannot be learnt.
    Fix: annotate more groups with it, or choose other ratios; `publisher split` deals rare
    classes first.
    Example: all three images with a "whisk" are in train.
    """
    has: dict[str, set[int]] = defaultdict(set)
    for s in survey.seen:
        if s.split is not None:
            has[s.split] |= s.categories
    everywhere = set().union(*has.values())
    names = {c.id: c.name for c in survey.categories}
    for split in ordered_splits(set(has)):
        if not has[split] and everywhere:
            yield survey.find(f"split {split} has no segment")
            continue
        lost = [names[i] for i in sorted(everywhere - has[split]) if i in names]
        if lost:
            yield survey.find(f"split {split} has no segment of {', '.join(map(repr, lost))}")


@dataset_rule("S910", "warning")
def in_no_split(survey: Survey) -> Iterator[Finding]:
    """
    Some images are in no split while others are.

    Why it matters: who loads the splits never sees it.
    Fix: run `publisher split` again; it deals new groups and moves none of the old.
    Example: images imported after the split.
    """
    left_out = [s for s in survey.seen if s.split is None]
    if left_out and len(left_out) < len(survey.seen):
        total, name = len(survey.seen), left_out[0].file_name
        yield survey.find(f"{len(left_out)} of {total} images are in no split, such as {name}")
