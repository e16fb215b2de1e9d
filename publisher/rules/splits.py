"""S: what must not be torn apart, what leaks, and what a split lacks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..dataset import ordered_splits
from ..names import listing, portable
from .rule import Finding, Survey, dataset_rule
from .seen import Seen

NEAR = 4  # bits of 64 that the difference hashes of near-duplicates may differ in
DRIFT = 0.1  # of the earlier version that may go missing unsaid
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
    for other, s in survey.seen.repeated(lambda s: s.group if s.split is not None else None):
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
    placed = [s for s in survey.seen if s.split is not None and s.sha256 is not None]
    for s in placed:
        first.setdefault((str(s.sha256), str(s.split)), s)
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
        if says_enough(s.dhash):
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


def says_enough(dhash: int) -> bool:
    """Flat pictures and plain gradients all look alike to a difference hash."""
    if not 0 < dhash < 2**64 - 1:
        return False
    rows = dhash.to_bytes(8, "big")
    return len(set(rows)) > 1 and _FEATURELESS < dhash.bit_count() < 64 - _FEATURELESS


def near_pairs(
    hashes: NDArray[np.uint64], splits: NDArray[np.int64], most: int | None = None
) -> list[tuple[int, int, int]]:
    """
    Pairs (i < j) of different splits whose hashes differ in at most `NEAR` bits, and how many.

    Two that differ in 4 bits agree on at least one of 5 bands, so only those that share a
    band are compared (pigeonhole; multi-index hashing, Norouzi et al. 2012); of those, the
    first `most`.
    """
    found = dict[tuple[int, int], int]()
    edges = [0, 13, 26, 39, 52, 64]
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order])) + 1
        for bucket in np.split(order, starts):
            if len(bucket) > 1:
                found.update(_within(bucket[:most], hashes, splits))
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


@dataset_rule("S904", "info")
def drifted(survey: Survey) -> Iterator[Finding]:
    """
    A split has another share of the images than was asked for.

    Why it matters: with 2 % of the images in test instead of 10 %, the score's error bar is more
    than twice as wide.
    Fix: add groups; `publisher split` gives new ones to the split that lacks most. Old ones stay.
    Looks at: `validate --ratios train=0.8,val=0.1,test=0.1`; differences of more than 2 % of all
    images, and of more than twice the largest group, which no split can halve.
    Example: one video of 400 frames in a dataset of 1,000 images.
    """
    if not survey.beside.ratios:
        return
    placed = [s for s in survey.seen if s.split is not None]
    images = Counter(s.split for s in placed)
    allowed = max(0.02 * len(placed), 2 * max(Counter(map(_group, placed)).values(), default=0))
    wrong = [
        f"{split} has {images[split] / len(placed):.1%} of the images, not {ratio:.1%}"
        for split, ratio in survey.beside.ratios.items()
        if abs(images[split] - ratio * len(placed)) > allowed
    ]
    if wrong:
        yield survey.find("; ".join(wrong))


@dataset_rule("S905", "error")
def moved(survey: Survey) -> Iterator[Finding]:
    """
    An image is in another split than before.

    Why it matters: a model trained on the last version has learnt what is now the test. When a
    common splitter dealt 300 videos again after 10 % were added, 107 of them moved.
    Fix: `publisher split` with the `splits.lock` of the last version moves nothing.
    Looks at: `validate --against EARLIER` and `--lock splits.lock`.
    Example: `a.jpg` was in train and is in test.
    """
    before = {_name(s): s.split for s in _earlier(survey)}
    for s in survey.seen:
        was, locked = before.get(_name(s)), survey.beside.lock.get(_group(s))
        if s.split is not None and was is not None and was != s.split:
            yield survey.find(f"is in {s.split} and was in {was}", s)
        elif s.split is not None and locked is not None and locked != s.split:
            yield survey.find(f"is in {s.split}, and splits.lock has it in {locked}", s)


@dataset_rule("S906", "warning")
def other_test(survey: Survey) -> Iterator[Finding]:
    """
    The test split has other images than in the earlier version.

    Why it matters: scores of the two versions are then no longer comparable, and nothing in
    the numbers shows it: on 100 test images, 10 new ones move a score by points.
    Fix: freeze test in `splits.lock` and give new groups to train and val; or say so in the
    changelog.
    Looks at: `validate --against EARLIER`.
    Example: 12 images came to test, 3 left it.
    """
    before = {_name(s) for s in _earlier(survey) if s.split == "test"}
    if not before:
        return
    now = {_name(s) for s in survey.seen if s.split == "test"}
    if before == now:
        return
    said = [f"{len(now - before)} image(s) came to test", f"{len(before - now)} left it"]
    yield survey.find(f"{', '.join(said)}: {listing(sorted(now ^ before), 3)}")


@dataset_rule("S907", "info")
def unbalanced(survey: Survey) -> Iterator[Finding]:
    """
    A category is in less than a hundredth of the images that the most frequent one is in.

    Why it matters: a model may ignore it and lose next to nothing; its score, from a handful of
    objects, says little. LVIS calls classes in up to 10 images rare, and scores them apart.
    Fix: annotate more of it, sample its images more often, or leave it out.
    Example: "hand" in 4,000 images, "thimble" in 12.
    """
    images = Counter(key for s in survey.seen for key in s.categories)
    rare = [c for c in survey.categories if 0 < images[c.id] * 100 < max(images.values())]
    if rare:
        said = listing([f"{c.name!r} ({images[c.id]})" for c in rare])
        yield survey.find(f"rare beside {max(images.values())} images of the first class: {said}")


@dataset_rule("S908", "warning")
def orphaned(survey: Survey) -> Iterator[Finding]:
    """
    `splits.lock` has groups that the dataset does not have.

    Why it matters: the lock remembers groups for good, so those that were taken out are right
    to be there. But a group that was renamed is dealt as a new one: what was in train may
    come to test, one chance in ten.
    Fix: where it was renamed, rename it in the lock, too; otherwise leave it.
    Looks at: `validate --lock splits.lock`.
    Example: "kitchen.mp4" in the lock, "kitchen_v2.mp4" in the dataset.
    """
    if not survey.beside.lock:
        return
    gone = sorted(set(survey.beside.lock).difference(map(_group, survey.seen)))
    if gone:
        total = len(survey.beside.lock)
        yield survey.find(
            f"{len(gone)} of {total} groups are not in the dataset: {listing(gone, 3)}"
        )


@dataset_rule("S909", "warning")
def lost(survey: Survey) -> Iterator[Finding]:
    """
    More than a tenth of the earlier version's images, segments or of one category are gone.

    Why it matters: tools drop what they do not understand and say nothing: Datumaro 1.13 wrote
    778 of 2,070 segments, as it skips polygons.
    Fix: hold the counts of both exports against each other; export again.
    Looks at: `validate --against EARLIER`; segments and categories in images that both have.
    Example: every mask drawn with the brush is missing.
    """
    if not (earlier := _earlier(survey)):
        return
    places = {_name(s): place for place, s in enumerate(survey.seen)}
    both, before, after = 0, 0, 0  # images that both have, and segments in them
    was, has = Counter[int](), Counter[int]()
    for s in earlier:
        if (place := places.get(_name(s))) is not None:
            now = survey.seen[place]
            both, before, after = both + 1, before + s.segments, after + now.segments
            was.update(s.categories)
            has.update(now.categories)
    counts = [("images", len(earlier), both), ("segments", before, after)]
    names = {c.id: c.name for c in survey.categories}
    counts += [(f"images with {names.get(k, k)!r}", was[k], has[k]) for k in sorted(was)]
    for what, old, new in counts:
        if new < (1 - DRIFT) * old and old - new > 1:
            yield survey.find(f"{old - new} of {old} {what} are gone")


@dataset_rule("S910", "warning")
def in_no_split(survey: Survey) -> Iterator[Finding]:
    """
    Some images are in no split while others are.

    Why it matters: who loads the splits never sees it.
    Fix: run `publisher split` again; it deals new groups and moves none of the old.
    Example: images imported after the split.
    """
    left_out = (s for s in survey.seen if s.split is None)
    first = next(left_out, None)
    if first is not None and (n := 1 + sum(1 for _ in left_out)) < len(survey.seen):
        total, name = len(survey.seen), first.file_name
        yield survey.find(f"{n} of {total} images are in no split, such as {name}")


def _earlier(survey: Survey) -> Sequence[Seen]:
    return survey.beside.previous.seen if survey.beside.previous is not None else ()


def _group(s: Seen) -> str:
    """As in split.py: an image that stands alone is its own group."""
    return s.group if s.group is not None else s.file_name


def _name(s: Seen) -> str:
    """What `build` calls the image, so that a dataset can be held against a release."""
    return portable(s.file_name) if s.file_name.isprintable() else s.file_name
