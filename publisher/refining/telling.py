"""From answers to a dataset: all of them are gone through in order, written and counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from .. import __version__, workspace
from ..conservation import Item, Ledger, Tally, balance
from ..dataset import REFINEMENTS, Dataset, Sample
from ..errors import UsageError
from ..files import canonical_json, new_folder, parse_json
from ..journal import Journal
from ..refine import Rules
from ..refinement.calibration import Calibration
from ..validate import Finding
from .answers import Answer, Row, Work, area_of, names_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what comes out, apart from the dataset."""

    made: Mapping[str, Sequence[str]]  # with what; see `refine.made_with`
    rules: Rules

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are kept in the provenance."""
        plain: dict[str, Any] = {
            "tool": f"publisher {__version__}",
            **self.made,
            "rules": asdict(self.rules),
        }
        return dict(parse_json(canonical_json(plain)))  # lists for tuples, as when it is read


@dataclass(slots=True)
class Refinement:
    """What a refinement did; `known` images were answered by an earlier, killed run."""

    recipe: Recipe
    counted: Tally
    kept: Tally
    items: tuple[Item, ...]
    reasons: Mapping[str, int]
    routes: Mapping[str, int]
    changed: Mapping[str, int]  # pixels by class
    iou: float | None  # mean over the refined, to their annotation
    findings: tuple[Finding, ...]
    refined: int = 0
    known: int = 0
    calibration: Calibration | None = None

    def to_json(self) -> dict[str, Any]:
        """For `dvc metrics`: numbers by what they count."""
        found = self.calibration
        return {
            **({} if found is None else {"calibration": found.to_json()}),
            "images": self.counted.images,
            "segments": self.counted.segments,
            "refined": self.refined,
            "unseen_images": len(self.findings),
            "mean_iou_to_annotation": self.iou,
            "reasons": dict(self.reasons),
            "routes": dict(self.routes),
            "changed_pixels": dict(self.changed),
        }

    def rows(self) -> list[dict[str, Any]]:
        """For `dvc plots`: how many segments were treated in which way."""
        return [{"reason": name, "segments": n} for name, n in self.reasons.items()]


class Told:
    """Goes through the answers of all images, in order, and counts what they say."""

    def __init__(self, dataset: Dataset, answers: Journal, work: Work, recipe: Recipe) -> None:
        self._dataset = dataset
        self._answers = answers
        self._work = work
        self._recipe = recipe
        self._counted = self._kept = Tally()
        self._ledger = Ledger()
        self._reasons: Counter[str] = Counter()
        self._routes: Counter[str] = Counter()
        self._changed: Counter[str] = Counter()
        self._agreement: list[float] = []
        self._findings: list[Finding] = []

    def write(self, out: Path) -> None:
        """Write the refined dataset, and hold it against what was decided."""
        dataset = replace(self._dataset, provenance=_provenance(self._dataset, self._recipe))
        with new_folder(out, ours=workspace.is_workspace) as part:
            images = workspace.relative(dataset.images, out)
            workspace.fill(part, dataset, images=images, samples=self.samples())
            self._kept = _tally(workspace.read(part))
            balance("refine", self._counted, self._kept, self._ledger.items)

    def only_count(self) -> None:
        """Count without writing anything."""
        kept = Tally()
        for sample in self.samples():
            kept += _tally(replace(self._dataset, samples=(sample,)))
        self._kept = kept

    def samples(self) -> Iterator[Sample]:
        """Every image with its masks as they are now."""
        pixels: Counter[str] = Counter()
        segments = 0
        for sample, answer in self.answers():
            segments += len(sample.segments)
            for row in answer.rows:
                pixels[row.category] += row.before
                self._count(row)
            if answer.fault is not None:
                code, severity, said = answer.fault
                self._findings.append(Finding(code, severity, said, sample.file_name))
            yield workspace.sample_of(answer.line.encode()) if answer.line else sample
        self._counted = Tally(len(self._dataset), segments, dict(pixels))

    def answers(self) -> Iterator[tuple[Sample, Answer]]:
        """Every image as it was, and what was kept of it."""
        for sample in self._dataset:
            try:
                body = self._answers.get(self._work.key(sample))
            except KeyError:
                raise UsageError(
                    f"{sample.file_name} changed meanwhile", hint="run the command again"
                ) from None
            yield sample, msgspec.json.decode(body, type=Answer)

    def _count(self, row: Row) -> None:
        self._reasons[row.reason] += 1
        if not row.refined:
            return
        self._routes[row.route] += 1
        self._changed[row.category] += row.changed
        self._agreement.append(row.iou)
        change = {row.category: row.after - row.before}
        self._ledger.note("mask refined", row.file, pixels=change)

    def refinement(self) -> Refinement:
        """What was counted."""
        agreement = self._agreement
        return Refinement(
            recipe=self._recipe,
            counted=self._counted,
            kept=self._kept,
            items=self._ledger.items,
            reasons=dict(sorted(self._reasons.items(), key=lambda r: (-r[1], r[0]))),
            routes=dict(sorted(self._routes.items())),
            changed=dict(sorted(self._changed.items())),
            iou=round(math.fsum(agreement) / len(agreement), 6) if agreement else None,
            refined=len(agreement),
            findings=tuple(self._findings),
        )


def _provenance(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """What is known of the dataset, and that it was refined in this way."""
    before = [r for r in dataset.provenance.get(REFINEMENTS, ()) if r != recipe.to_json()]
    return {**dataset.provenance, REFINEMENTS: [*before, recipe.to_json()]}


def _tally(dataset: Dataset) -> Tally:
    """As `conservation.tally`; a segment without a valid mask has no pixels."""
    images = segments = 0
    pixels: Counter[str] = Counter()
    for sample in dataset:
        images += 1
        segments += len(sample.segments)
        names = names_of(dataset.categories, sample)
        for segment, name in zip(sample.segments, names, strict=True):
            pixels[name] += area_of(segment, sample)
    return Tally(images, segments, dict(pixels))
