"""
The rule engine: what is wrong with a dataset, said like a compiler says it.

Rules live in `rules/`, one file a family; importing that package registers them. Their
docstrings are docs/rules.md. Codes are stable and are never used for something else.

Geometry may be hostile. `check` rasterises each segment once, a chunk of samples at a time,
after the checks of masks.py; what cannot be rasterised has no mask, and its error becomes a
finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from .dataset import Dataset, Sample, Segment
from .errors import FormatError, spot
from .progress import Progress, silent
from .rules.images import no_entry
from .rules.rule import (
    RULES,
    Beside,
    Finding,
    ImageFacts,
    Look,
    Rule,
    Scene,
    Survey,
    Unclaimed,
    scenes,
)
from .shapes.drawing import keep_memory

__all__ = [
    "RULES",
    "Beside",
    "Finding",
    "ImageFacts",
    "Look",
    "Rule",
    "Unclaimed",
    "check",
    "chosen",
    "finding_of",
    "mend",
    "no_entry",
    "numbered",
    "summary",
    "surveyed",
    "totals",
]


def check(
    dataset: Dataset,
    *,
    look: Look | None = None,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    beside: Beside | None = None,
    on_sample: Progress = silent,
) -> Iterator[Finding]:
    """
    Run every rule that is chosen; findings come sample by sample, then the dataset's.

    Args:
        look: how to open images; without it, rules about image files stay silent.
        select, ignore: codes, or how they begin; see `chosen`.
        beside: what the dataset is held against, such as its previous version.
        on_sample: told after each sample.
    """
    keep_memory()
    rules = [r for r in _rules() if chosen(r.code, select, ignore)]
    survey = Survey(dataset.categories, beside or Beside())
    categories = dataset.category_of
    scene_rules = [r for r in rules if r.scope == "scene"]
    for done, scene in enumerate(scenes(dataset, categories, look), 1):
        for r in scene_rules:
            yield from _run(r, scene)
        survey.add(scene)
        on_sample(done, len(dataset))
    for r in rules:
        if r.scope == "dataset":
            yield from _run(r, survey)


def chosen(code: str, select: Collection[str] = (), ignore: Collection[str] = ()) -> bool:
    """Is a code selected, or nothing is, and not ignored? `P` and `P4` stand for all of them."""
    return (not select or code.startswith(tuple(select))) and not code.startswith(tuple(ignore))


def surveyed(dataset: Dataset) -> Survey:
    """What rules about a whole dataset need to know of an earlier version; no mask is drawn."""
    survey = Survey(dataset.categories)
    for sample in dataset:
        survey.add(Scene(sample, {}))
    return survey


def mend(
    dataset: Dataset,
    *,
    look: Look | None = None,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
) -> Iterator[tuple[Sample, list[Finding]]]:
    """
    Give each sample after all safe fixes, with the findings that were fixed.

    A fix runs only where its rule fires, and all run again until none changes anything, so
    mending what is mended changes nothing. Findings count segments as they were at first.
    """
    rules = [r for r in _rules() if (r.fix or r.fix_sample) and chosen(r.code, select, ignore)]
    categories = dataset.category_of
    for scene in scenes(dataset, categories, look):
        patient = _Patient(scene)
        while sum(patient.treat(r) for r in rules):
            pass
        yield patient.scene.sample, patient.fixed


class _Patient:
    """A sample under repair, and what has been fixed so far."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.fixed: list[Finding] = []
        self._first = list(range(len(scene.sample.segments)))  # positions before any fix

    def treat(self, r: Rule) -> bool:
        """Mend what the rule finds and can fix; did anything change?"""
        segments: list[Segment | None] = list(self.scene.sample.segments)
        sample, before = self.scene.sample, len(self.fixed)
        for finding in _run(r, self.scene):
            at = finding.segment
            if at is None and r.fix_sample is not None:
                mended_sample = r.fix_sample(self.scene)
                if mended_sample != sample:
                    sample = mended_sample
                    self.fixed.append(finding)
            elif at is not None and segments[at] is not None and r.fix is not None:
                mended = r.fix(self.scene, at)
                if mended != segments[at]:
                    segments[at] = mended
                    self.fixed.append(replace(finding, segment=self._first[at]))
        if len(self.fixed) == before:
            return False
        self._first = [f for f, s in zip(self._first, segments, strict=True) if s is not None]
        sample = replace(sample, segments=tuple(s for s in segments if s is not None))
        self.scene = Scene(sample, self.scene.categories, self.scene._look)
        return True


def numbered(samples: Iterable[Sample], codes: Collection[str]) -> Iterator[Sample]:
    """The samples with ids 1, 2, ... in order: images for I101, segments for A301."""
    last = 0
    for number, s in enumerate(samples, start=1):
        segments = s.segments
        if "A301" in codes:
            segments = tuple(replace(g, id=last + i) for i, g in enumerate(segments, start=1))
            last += len(segments)
        yield replace(s, id=number if "I101" in codes else s.id, segments=segments)


def summary(findings: Iterable[Finding]) -> dict[str, Any]:
    """Counts by severity, by rule and by file; `""` stands for the dataset as a whole."""
    files = Counter[str]()

    def filed() -> Iterator[Finding]:
        for f in findings:
            files[f.file_name or ""] += 1
            yield f

    return {**totals(filed()), "files": dict(sorted(files.items()))}


def totals(findings: Iterable[Finding]) -> dict[str, Any]:
    """Counts by severity and by rule: little, however many files there are."""
    severities = dict.fromkeys(("error", "warning", "info"), 0)
    rules = Counter[str]()
    for f in findings:
        severities[f.severity] += 1
        rules[f.code] += 1
    return {**severities, "rules": dict(sorted(rules.items()))}


def finding_of(error: FormatError, file_name: str | None = None) -> Finding:
    """A reader's complaint as a finding about this image, or else about its file."""
    severity = RULES[error.code].severity if error.code in RULES else "error"
    message = ": ".join(part for part in (spot(error.where), error.message) if part)
    return Finding(error.code, severity, message, file_name or error.path)


def _run(r: Rule, subject: Scene | Survey) -> Iterator[Finding]:
    return (replace(found, code=r.code, severity=r.severity) for found in r.check(subject))


def _rules() -> list[Rule]:
    return [RULES[code] for code in sorted(RULES)]
