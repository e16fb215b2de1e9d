"""
The rule engine: what is wrong with a dataset, said like a compiler says it.

Rules live in `rules/`, one file a family; importing that package registers them. Their
docstrings are docs/rules.md. Codes are stable and are never used for something else.

Geometry may be hostile. `check` rasterises each segment once, through the checks of
masks.py; what cannot be rasterised has no mask, and its error becomes a finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from .dataset import Dataset, Sample, Segment
from .errors import FormatError, spot
from .progress import Progress, silent
from .rules.rule import RULES, Finding, ImageFacts, Look, Rule, Scene, Survey

__all__ = [
    "RULES",
    "Finding",
    "ImageFacts",
    "Look",
    "Rule",
    "check",
    "finding_of",
    "mend",
    "summary",
]


def check(
    dataset: Dataset,
    *,
    look: Look | None = None,
    ignore: Collection[str] = (),
    on_sample: Progress = silent,
) -> Iterator[Finding]:
    """
    Run every rule that is not ignored; findings come sample by sample, then the dataset's.

    Args:
        look: how to open images; without it, rules about image files stay silent.
        ignore: codes to leave out.
        on_sample: told after each sample.
    """
    rules = [r for r in _rules() if r.code not in ignore]
    survey = Survey(dataset.categories)
    categories = dataset.category_of
    for done, sample in enumerate(dataset, 1):
        scene = Scene(sample, categories, look)
        for r in rules:
            if r.scope == "scene":
                yield from _run(r, scene)
        survey.add(scene)
        on_sample(done, len(dataset))
    for r in rules:
        if r.scope == "dataset":
            yield from _run(r, survey)


def mend(
    dataset: Dataset, *, look: Look | None = None, ignore: Collection[str] = ()
) -> Iterator[tuple[Sample, list[Finding]]]:
    """
    Give each sample after all safe fixes, with the findings that were fixed.

    A fix runs only where its rule fires, and all run again until none changes anything, so
    mending what is mended changes nothing. Findings count segments as they were at first.
    """
    rules = [r for r in _rules() if r.fix is not None and r.code not in ignore]
    categories = dataset.category_of
    for sample in dataset:
        patient = _Patient(Scene(sample, categories, look))
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
        if r.fix is None:
            return False
        segments: list[Segment | None] = list(self.scene.sample.segments)
        before = len(self.fixed)
        for finding in _run(r, self.scene):
            at = finding.segment
            if at is None or segments[at] is None:
                continue
            mended = r.fix(self.scene, at)
            if mended != segments[at]:
                segments[at] = mended
                self.fixed.append(replace(finding, segment=self._first[at]))
        if len(self.fixed) == before:
            return False
        self._first = [f for f, s in zip(self._first, segments, strict=True) if s is not None]
        sample = replace(self.scene.sample, segments=tuple(s for s in segments if s is not None))
        self.scene = Scene(sample, self.scene.categories, self.scene._look)
        return True


def summary(findings: Iterable[Finding]) -> dict[str, Any]:
    """Counts by severity and by rule, for reports and `dvc metrics`."""
    counts = Counter((f.severity, f.code) for f in findings)
    severities = dict.fromkeys(("error", "warning", "info"), 0)
    for (severity, _), n in counts.items():
        severities[severity] += n
    by_rule = {code: n for (_, code), n in sorted(counts.items(), key=lambda c: c[0][1])}
    return {**severities, "rules": by_rule}


def finding_of(error: FormatError, file_name: str | None = None) -> Finding:
    """A reader's complaint as a finding about this image, or else about its file."""
    severity = RULES[error.code].severity if error.code in RULES else "error"
    message = ": ".join(part for part in (spot(error.where), error.message) if part)
    return Finding(error.code, severity, message, file_name or error.path)


def _run(r: Rule, subject: Scene | Survey) -> Iterator[Finding]:
    for finding in r.check(subject):
        yield replace(finding, code=r.code, severity=r.severity)


def _rules() -> list[Rule]:
    return [RULES[code] for code in sorted(RULES)]
