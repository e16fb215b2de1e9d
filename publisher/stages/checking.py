"""Validate: read whatever is there, run the rules, mend what can be mended safely."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from .. import images, split, workspace
from ..columns import Ids
from ..dataset import Dataset, Sample
from ..errors import FormatError, InvalidDataset, UsageError
from ..files import open_tree
from ..findings import Findings
from ..formats import agreement
from ..progress import Progress, silent
from ..report import Accepted, parse_baseline, unaccepted
from ..validate import (
    RULES,
    Beside,
    Finding,
    Look,
    check,
    chosen,
    finding_of,
    mend,
    numbered,
    surveyed,
)
from . import intake

_BLOCK = 2**13  # ids that are held at once


@dataclass(frozen=True, slots=True)
class Request:
    """What to look for, and what to hold the dataset against."""

    select: Collection[str] = ()  # codes, or how they begin; none means all
    ignore: Collection[str] = ()
    against: Path | None = None  # an earlier version: anything that can be read
    lock: Path | None = None  # splits.lock
    ratios: str | None = None  # as for split
    baseline: Path | None = None  # findings that are accepted


@dataclass(frozen=True, slots=True)
class Checked:
    """
    What was found, and whether pictures were looked at, or only annotations.

    `all_read` is False where reading broke off: what comes after is unknown, whatever was
    selected or accepted. `accepted` are findings that the baseline has, and `stale` its
    entries that fit none. Findings may be many: they are read from a file as they are asked for.
    """

    findings: Sequence[Finding]
    looked: bool
    all_read: bool = True
    accepted: Sequence[Finding] = ()
    stale: Sequence[Accepted] = ()


def run(
    path: Path,
    format_name: str | None = None,
    *,
    request: Request | None = None,
    mend_to: Path | None = None,
    on_image: Progress = silent,
) -> Checked:
    """
    Findings about anything that can be read; a file that cannot is one finding too.

    Args:
        mend_to: write a working dataset with all safe fixes here; findings are then about
            what is left, and each fix is reported as an info. Of an export, annotations
            only; pictures come with `import`.

    Raises:
        UsageError: a code that no rule has.
        FormatError: the earlier version, the lock or the baseline cannot be read.
        InvalidDataset: `mend_to` is given, and annotations that cannot be read would be lost.
    """
    asked = request or Request()
    _refuse_unknown(asked)
    beside = _beside(asked)
    accepted = _baseline(asked.baseline)
    found = Findings()
    heard: Callable[[], tuple[Finding, ...]] = tuple
    looked, all_read = False, True
    try:
        with intake.opened(path, format_name) as source:
            dataset, look = source.dataset, _look(source)
            looked = look is not None
            heard = source.heard
            if mend_to is not None:
                for _ in dataset:
                    pass  # what lazy samples cannot read shows when they are looked at
                _refuse_to_lose(source.unread())
                found.extend(_mend(dataset, mend_to, look, asked))
                dataset = workspace.read(mend_to)
            findings = check(
                dataset,
                look=look,
                select=asked.select,
                ignore=asked.ignore,
                beside=replace(beside, unclaimed=source.unclaimed),
                on_sample=on_image,
            )
            found.extend(findings)  # what was found before a break is kept
        if format_name in (None, "coco") and not workspace.is_workspace(path):
            with open_tree(path) as tree:
                found.extend(f for f in agreement.findings(tree) if _is_chosen(f, asked))
    except FormatError as error:  # a lazy dataset may break at any line
        found.append(finding_of(error))
        all_read = False
    said = [f for f in heard() if _is_chosen(f, asked)]
    if mend_to is not None:  # what is left was set right by reading
        said = [*map(_fixed, said)]
    new, known, stale = unaccepted(_one_after_another(said, found), accepted)
    return Checked(new, looked, all_read, known, stale)


def _one_after_another(said: Sequence[Finding], found: Findings) -> Findings:
    if not said:
        return found
    both = Findings(said)
    both.extend(found)
    return both


def _is_chosen(finding: Finding, asked: Request) -> bool:
    return chosen(finding.code, asked.select, asked.ignore)


def _refuse_unknown(asked: Request) -> None:
    for code in (*asked.select, *asked.ignore):
        if not any(known.startswith(code) for known in RULES):
            raise UsageError(
                f"no rule is called {code!r}", hint="docs/rules.md lists all, such as P411, P4, P"
            )


def _refuse_to_lose(unread: tuple[Finding, ...]) -> None:
    if unread:
        raise InvalidDataset(
            f"{len(unread)} annotation(s) cannot be read and would be lost, the first: {unread[0]}",
            unread,
            hint="mend them in the annotation tool and export again",
        )


def _beside(asked: Request) -> Beside:
    earlier = asked.against
    lock: Mapping[str, str] = {}
    if asked.lock is not None:
        lock = {a.group: a.split for a in split.parse_lock(asked.lock.read_bytes())}
    return Beside(
        previous=surveyed(intake.read(earlier)) if earlier is not None else None,
        lock=lock,
        ratios=split.parse_ratios(asked.ratios) if asked.ratios is not None else {},
    )


def _baseline(path: Path | None) -> tuple[Accepted, ...]:
    return () if path is None else parse_baseline(path.read_bytes(), path.name)


def _mend(dataset: Dataset, out: Path, look: Look | None, asked: Request) -> Findings:
    """Write a working dataset with all safe fixes, and tell them; few samples are held."""
    fixed = Findings()

    def samples() -> Iterator[Sample]:
        for sample, mended in mend(dataset, look=look, select=asked.select, ignore=asked.ignore):
            fixed.extend(map(_fixed, mended))
            yield sample

    workspace.write(out, dataset, samples=samples())
    mended = workspace.read(out)
    codes = [c for c in _unusable_ids(mended) if chosen(c, asked.select, asked.ignore)]
    if codes:
        workspace.write(out, mended, samples=numbered(mended, codes))
    fixed.extend(Finding(code, "info", "fixed: ids are given anew") for code in codes)
    return fixed


def _unusable_ids(samples: Dataset) -> list[str]:
    """Which ids are not unique or not fit for JSON, by the rule that says so; images first."""
    usable = {
        "I101": _are_usable(s.id for s in samples),
        "A301": _are_usable(g.id for s in samples for g in s.segments),
    }
    return [code for code, fine in usable.items() if not fine]


def _are_usable(ids: Iterable[int]) -> bool:
    known, left = Ids(), iter(ids)
    while block := [i if 0 < i < 2**53 else 0 for i in islice(left, _BLOCK)]:
        known.extend(np.array(block, dtype=np.int64))
    return known.usable and not known.repeated()


def _fixed(finding: Finding) -> Finding:
    return replace(finding, severity="info", message=f"fixed: {finding.message}")


def _look(source: intake.Opened) -> Look | None:
    """Opens pictures, where the source has any."""
    picture = source.picture
    return None if picture is None else lambda sample: images.look(picture(sample))
