"""
Deal groups of samples to splits, once and for all. Pure.

A group (the frames of one video, a burst) is never torn apart. Assignments are append-only:
`splits.lock` remembers them, and new data never moves old data. New groups go where the
classes they bring are missed most: iterative stratification (Sechidis et al., ECML 2011) at
group level, in an order that depends on nothing but the groups' names.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from .dataset import Dataset, Sample
from .errors import FormatError, InvalidDataset, UsageError

_IMAGES = -1  # the class every image has, so that sizes are balanced too


@dataclass(frozen=True, slots=True, order=True)
class Assignment:
    """One line of `splits.lock`: a group, its split, and why."""

    group: str
    split: str
    reason: str  # "subset": the annotator said so; "dealt": we did


@dataclass(slots=True)
class _Group:
    """What a group weighs, by category id, and the splits its samples came with."""

    weight: Counter[int] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)


def group_of(sample: Sample) -> str:
    """What a sample may not be parted from; an image that stands alone is its own group."""
    return sample.group if sample.group is not None else sample.file_name


def assign(
    dataset: Dataset, ratios: Mapping[str, float], locked: Iterable[Assignment] = ()
) -> tuple[Assignment, ...]:
    """
    Every assignment, old and new, sorted by group.

    Args:
        ratios: split name to share; shares sum to 1.
        locked: earlier assignments; they stay, also of groups that are gone.

    Raises:
        InvalidDataset: samples of one group came with different splits, or there are fewer
            groups than splits to fill.
    """
    known = {a.group: a for a in locked}
    groups = _groups(dataset)
    for name, group in groups.items():
        if name not in known and group.said:
            known[name] = Assignment(name, _one_split(name, group.said), "subset")
    new = [name for name in groups if name not in known]
    filled = {known[n].split for n in groups if n in known}
    open_splits = [s for s, share in ratios.items() if share > 0 and s not in filled]
    if new and len(new) < len(open_splits):
        raise InvalidDataset(
            f"{len(new)} group(s) cannot fill {len(open_splits)} splits: {', '.join(open_splits)}",
            hint="a group (a video, a burst) is never torn apart: "
            "add data, or ask for fewer splits with --ratios",
        )
    known |= _deal(groups, new, ratios, known)
    return tuple(sorted(known.values()))


def apply(sample: Sample, assignments: Mapping[str, str]) -> Sample:
    """A sample with the split of its group."""
    return replace(sample, split=assignments[group_of(sample)])


def parse_lock(body: bytes) -> tuple[Assignment, ...]:
    """
    Read `splits.lock`: one JSON object a line.

    Raises:
        FormatError: a line is not an assignment, or a group is there twice (after a merge).
    """
    assignments = []
    for number, line in enumerate(body.splitlines(), start=1):
        try:
            assignments.append(msgspec.json.decode(line, type=Assignment))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FormatError(str(error), path=f"splits.lock line {number}") from None
    for group, n in Counter(a.group for a in assignments).items():
        if n > 1:
            raise FormatError(
                f"group {group!r} is assigned {n} times",
                path="splits.lock",
                code="S901",
                hint="keep the line that was published first",
            )
    return tuple(assignments)


def parse_ratios(text: str) -> dict[str, float]:
    """
    Read `train=0.8,val=0.1,test=0.1`.

    Raises:
        UsageError: not name=share pairs, or shares that do not sum to 1.
    """
    ratios: dict[str, float] = {}
    for pair in text.split(","):
        name, _, share = pair.partition("=")
        try:
            ratios[name.strip()] = float(share)
        except ValueError:
            raise UsageError(f"ratios {text!r} are not name=share,name=share") from None
    usable = all(0 <= r <= 1 and n.isidentifier() for n, r in ratios.items())
    if not usable or abs(sum(ratios.values()) - 1) > 1e-6:
        raise UsageError(f"ratios {text!r} do not sum to 1", hint="train=0.8,val=0.1,test=0.1")
    return ratios


def _groups(dataset: Dataset) -> dict[str, _Group]:
    groups: dict[str, _Group] = defaultdict(_Group)
    for sample in dataset:
        group = groups[group_of(sample)]
        group.weight[_IMAGES] += 1
        group.weight.update(s.category_id for s in sample.segments)
        if sample.split is not None:
            group.said.add(sample.split)
    return groups


def _one_split(name: str, said: set[str]) -> str:
    if len(said) > 1:
        raise InvalidDataset(
            f"group {name!r} is in several splits: {', '.join(sorted(said))}",
            hint="frames of one video in train and test make every score too good; "
            "move them to one subset",
        )
    return next(iter(said))


def _deal(
    groups: Mapping[str, _Group],
    new: Sequence[str],
    ratios: Mapping[str, float],
    known: Mapping[str, Assignment],
) -> dict[str, Assignment]:
    total: Counter[int] = Counter()
    have: dict[str, Counter[int]] = {s: Counter() for s in ratios}
    for name, group in groups.items():
        total.update(group.weight)
        if name in known and known[name].split in have:
            have[known[name].split].update(group.weight)
    dealt = {}
    for name in sorted(new, key=_shuffled):
        weight = groups[name].weight
        split = max(ratios, key=lambda s: _missed(weight, have[s], total, ratios[s]))
        have[split].update(weight)
        dealt[name] = Assignment(name, split, "dealt")
    return dealt


def _missed(
    weight: Mapping[int, int], have: Mapping[int, int], total: Mapping[int, int], share: float
) -> float:
    """How much a split lacks of what a group brings; 1 where it lacks its whole share."""
    if share <= 0:
        return float("-inf")
    lacks = ((share * total[c] - have.get(c, 0)) / (share * total[c]) for c in weight)
    return sum(lacks) / len(weight)


def _shuffled(group: str) -> bytes:
    """An order without bias that every machine agrees on."""
    return hashlib.blake2b(group.encode(), digest_size=16).digest()


def lock_lines(assignments: Iterable[Assignment]) -> list[dict[str, Any]]:
    """The lines of `splits.lock`."""
    return [{"group": a.group, "reason": a.reason, "split": a.split} for a in assignments]
