"""
Refine: from a working dataset with coarse outlines to one whose masks hug their objects.

Every image is answered by itself: which others there are, how many are worked on together
and by how many processes changes nothing. Answers are kept beside the output as they come, so
that a command that was killed goes on where it was. An image that cannot be looked at keeps
its segments as they are, and a finding says why.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from . import __version__, intake, judging, ritm, workspace
from .calibration import Calibration, calibrated
from .conservation import Item, Ledger, Tally, area, balance
from .dataset import REFINEMENTS, Category, Dataset, Sample, Segment
from .eligibility import VERIFIED, is_verified
from .engine import ordered
from .errors import FormatError, UsageError
from .files import (
    Folder,
    canonical_json,
    held,
    new_folder,
    parse_json,
    refuse_foreign,
    write_atomic,
)
from .journal import Journal
from .perturb import LEVELS
from .progress import Progress, silent
from .reasons import why
from .refine import Outcome, Predictor, Refined, Rules, made_with, refine
from .report import escaped, page, table
from .rules.rule import Severity
from .sheet import LEGEND, STYLE, Shown, figure
from .validate import Finding, finding_of

SHIPPED = "shipped"  # all models that come with publisher
REPORT, SHEET = "objects.jsonl", "index.html"
CERTAINTY = "confidence"  # the score that says how sure a refined mask is, from 0 to 1
SHOWN = 30  # objects of each part of the contact sheet
UNSEEN = "no picture"  # the reason of segments whose picture cannot be looked at
Load = Callable[[str, str], Predictor]
"""Loads weights by their name or path, onto a device; a function of a module."""

_PIXELS = 2**25  # of the pictures that are in memory at once
_IMAGES = {"cpu": 4, "cuda": 64}  # that are refined at once


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What became of a segment. Areas and `changed` are in pixels.

    `iou` is that of its mask before and after, 1 where nothing changed.
    """

    file: str
    segment: int  # its id
    category: str
    reason: str
    route: str = ""
    refined: bool = False
    scores: dict[str, float] = {}
    before: int = 0
    after: int = 0
    changed: int = 0
    iou: float = 1.0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of an image: its refined sample as a line, where it differs, and why."""

    rows: list[Row]
    line: str = ""
    fault: tuple[str, Severity, str] | None = None  # code and message of a finding


def load(name: str, device: str) -> Predictor:
    """A network of ours; see `ritm.load`."""
    return ritm.load(name, device=device)


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


def run(
    path: Path,
    out: Path,
    *,
    weights: Sequence[str] = (),
    device: str = "cpu",
    rules: Rules | None = None,
    dry_run: bool = False,
    report: Path | None = None,
    calibrate: bool = False,
    workers: int | None = None,
    on_image: Progress = silent,
) -> Refinement:
    """
    Write the dataset again with every mask refined that surely gains by it.

    Args:
        weights: names of models or files, see `ritm.load`; several vote. `shipped`, the default,
            stands for all that come with publisher.
        device: `cpu` or `cuda`.
        dry_run: look and report, but do not write `out`. The run that follows takes the
            answers over.
        report: a folder for `objects.jsonl` and the contact sheet, `index.html`.
        calibrate: ask for as much confidence as verified objects of this dataset show to be
            needed, never for less than `rules` do; see `calibration`.
        workers: processes; see `engine.ordered`.

    Raises:
        UsageError: no torch, no such weights or device; the dataset has no images, or no
            verified objects to calibrate by.
        CheckpointError: the weights are damaged or hostile.
        IntegrityError: what was written is not what was decided (a bug, or a failing disk).
    """
    dataset = workspace.read(path)
    if dataset.images is None:
        raise UsageError("this dataset has no images", hint="make one with `publisher import`")
    workspace.keep_images(dataset, out)
    refuse_foreign(out, workspace.MARKER)  # now, and not after hours of work
    if report is not None:
        refuse_foreign(report, REPORT)
    names = _named(weights)
    refiner = _Refiner(load, names, device, rules or Rules())
    made = refiner.made  # weights that do not load show before the work
    calibration = _calibrated(dataset, refiner, on_image) if calibrate else None
    if calibration is not None:
        refiner = replace(refiner, rules=calibration.raised(refiner.rules))
    recipe = Recipe(made, refiner.rules)
    work = _Work(dataset.images, dataset.categories, refiner)
    journal = out.with_name(f".{out.name}.journal")
    with held(out.with_name(f"{journal.name}.lock"), out):
        title = canonical_json(recipe.to_json()).decode()
        with Journal(journal, title) as answers:
            known = _answer_all(dataset, answers, work, workers, on_image)
            told = _Told(dataset, answers, work, recipe)
            if dry_run:
                told.only_count()
            else:
                told.write(out)
            done = replace(told.refinement(), known=known, calibration=calibration)
            if report is not None:
                _write_report(told, report, done, dataset.images)
        if not dry_run:
            journal.unlink()
    return done


# ── images to answers ────────────────────────────────────────────────────────────────────────


def _answer_all(
    dataset: Dataset,
    answers: Journal,
    work: _Work,
    workers: int | None,
    on_image: Progress,
) -> int:
    """See to it that every image has an answer; gives how many had one before."""
    known = 0

    def left() -> Iterator[tuple[str, Sample]]:
        nonlocal known
        for sample in dataset:
            if (key := work.key(sample)) in answers:
                known += 1
            else:
                yield key, sample

    done = 0
    for found in ordered(work, _chunks(left(), _IMAGES[work.refiner.device]), workers, alone=0):
        for key, body in found:
            answers.put(key, body)
        done += len(found)
        on_image(known + done, len(dataset))
    on_image(len(dataset), len(dataset))
    return known


def _chunks(samples: Iterable[tuple[str, Sample]], most: int) -> Iterator[list[tuple[str, Sample]]]:
    chunk: list[tuple[str, Sample]] = []
    pixels = 0
    for key, sample in samples:
        pixels += sample.height * sample.width
        if chunk and (pixels > _PIXELS or len(chunk) == most):
            yield chunk
            chunk, pixels = [], sample.height * sample.width
        chunk.append((key, sample))
    if chunk:
        yield chunk


@lru_cache(maxsize=1)
def _predictors(by: Load, weights: tuple[str, ...], device: str) -> tuple[Predictor, ...]:
    """Networks are read once a process."""
    return tuple(by(name, device) for name in weights)


def _named(weights: Sequence[str]) -> tuple[str, ...]:
    asked = tuple(weights) or (SHIPPED,)
    return tuple(n for name in asked for n in (judging.named(()) if name == SHIPPED else (name,)))


@dataclass(frozen=True, slots=True)
class _Refiner:
    """Networks and rules; refines pictures, in any process."""

    load: Load
    weights: tuple[str, ...]
    device: str
    rules: Rules

    @property
    def made(self) -> Mapping[str, Sequence[str]]:
        return made_with(self._predictors)

    def __call__(self, pictures: Sequence[tuple[Sample, NDArray[np.uint8]]]) -> list[Refined]:
        return refine(pictures, self._predictors, self.rules)

    @property
    def _predictors(self) -> tuple[Predictor, ...]:
        return _predictors(self.load, self.weights, self.device)


def _calibrated(dataset: Dataset, refiner: _Refiner, on_object: Progress) -> Calibration:
    """See `calibration`; the truth are those segments that people have marked as verified."""
    samples = [
        replace(s, segments=mine)
        for s in dataset
        if (mine := tuple(g for g in s.segments if is_verified(g)))
    ]
    if not samples:
        raise UsageError(
            "no segment is marked as verified",
            hint=f"give precise ones an attribute {' or '.join(VERIFIED)} that is true",
        )
    with TemporaryDirectory() as folder:
        workspace.write(Path(folder) / "verified", replace(dataset, samples=tuple(samples)))
        found = judging.evaluate(
            Path(folder) / "verified",
            partial(_same, refiner),
            levels=tuple(LEVELS),
            on_object=on_object,
        )
    levels = {
        level: [
            (o.scores[CERTAINTY], o.harmed) for o in found.objects if o.level == level and o.refined
        ]
        for level in LEVELS
    }
    objects = min(sum(o.level == level for o in found.objects) for level in LEVELS)
    rules = refiner.rules
    return calibrated(levels, objects, min(rules.confidence, rules.bold_confidence))


def _same(refiner: _Refiner) -> _Refiner:
    return refiner


@dataclass(frozen=True, slots=True)
class _Work:
    """Answers a chunk of (key, sample): (key, encoded `Answer`) of each, in order."""

    images: Path
    categories: Sequence[Category]
    refiner: _Refiner

    def key(self, sample: Sample) -> str:
        """Changes with the sample, its categories' names and its picture."""
        try:
            facts = (self.images / sample.file_name).stat()
            picture = f"{facts.st_size} {facts.st_mtime_ns}"
        except (OSError, ValueError):
            picture = "none"
        names = _names(self.categories, sample)
        line = workspace.line_of(sample)
        return hashlib.sha256(f"{picture}\0{names}\0".encode() + line).hexdigest()

    def __call__(self, chunk: Sequence[tuple[str, Sample]]) -> list[tuple[str, bytes]]:
        answers: dict[str, Answer] = {}
        seen: dict[str, tuple[Sample, NDArray[np.uint8]]] = {}
        for key, sample in chunk:
            try:
                seen[key] = sample, picture(self.images, sample)
            except FormatError as error:
                answers[key] = self._unseen(sample, finding_of(error, sample.file_name))
        found = self.refiner(list(seen.values()))
        for (key, (sample, _)), refined in zip(seen.items(), found, strict=True):
            names = _names(self.categories, sample)
            rows = [
                _row(sample.file_name, name, outcome)
                for name, outcome in zip(names, refined.outcomes, strict=True)
            ]
            changed = any(row.refined for row in rows)
            line = workspace.line_of(refined.sample).decode() if changed else ""
            answers[key] = Answer(rows, line)
        return [(key, msgspec.json.encode(answers[key])) for key, _ in chunk]

    def _unseen(self, sample: Sample, finding: Finding) -> Answer:
        names = _names(self.categories, sample)
        rows = []
        for segment, name in zip(sample.segments, names, strict=True):
            pixels = _area(segment, sample)
            row = Row(sample.file_name, segment.id, name, UNSEEN, before=pixels, after=pixels)
            rows.append(row)
        return Answer(rows, fault=(finding.code, finding.severity, finding.message))


def picture(folder: Path, sample: Sample) -> NDArray[np.uint8]:
    """
    The picture of a sample, (H, W, 3) uint8 RGB.

    Raises:
        FormatError: not there (I103), or see `intake.pixels_for`.
    """
    return intake.pixels_for(sample, intake.picture_in(Folder(folder), sample.file_name))


def _names(categories: Sequence[Category], sample: Sample) -> list[str]:
    """The name of each segment's category; its number where there is no such category."""
    known = {c.id: c.name for c in categories}
    return [known.get(s.category_id, f"{s.category_id}") for s in sample.segments]


def _row(file_name: str, category: str, outcome: Outcome) -> Row:
    before, after = outcome.before, outcome.after
    sizes = [m.area if m is not None else 0 for m in (before, after)]
    changed, iou = 0, 1.0
    if before is not None and after is not None and before != after:
        changed, iou = sum(sizes) - 2 * before.intersection(after), before.iou(after)
    return Row(
        file=file_name,
        segment=outcome.segment_id,
        category=category,
        reason=outcome.reason,
        route=outcome.route,
        refined=changed > 0,
        scores={k: float(v) for k, v in outcome.scores.items() if math.isfinite(v)},
        before=sizes[0],
        after=sizes[1],
        changed=changed,
        iou=round(iou, 6),
    )


# ── answers to a dataset ─────────────────────────────────────────────────────────────────────


class _Told:
    """Goes through the answers of all images, in order, and counts what they say."""

    def __init__(self, dataset: Dataset, answers: Journal, work: _Work, recipe: Recipe) -> None:
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
        with new_folder(out, marker=workspace.MARKER) as part:
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
        for segment, name in zip(sample.segments, _names(dataset.categories, sample), strict=True):
            pixels[name] += _area(segment, sample)
    return Tally(images, segments, dict(pixels))


def _area(segment: Segment, sample: Sample) -> int:
    try:
        return area(segment, sample.height, sample.width)
    except FormatError:
        return 0


# ── the report ───────────────────────────────────────────────────────────────────────────────


def _write_report(told: _Told, folder: Path, done: Refinement, pictures: Path) -> None:
    """Write a line for each object, and a page that shows those that are worth a look."""
    with new_folder(folder, marker=REPORT) as part:
        most, least, stayed = _Least(2 * SHOWN), _Least(SHOWN), _Least(SHOWN)
        with (part / REPORT).open("wb") as stream:
            for sample, answer in told.answers():
                for place, row in enumerate(answer.rows):
                    stream.write(msgspec.json.encode(row) + b"\n")
                    chosen = _Chosen(sample, answer.line, place, row)
                    if row.refined:
                        most.add(row.iou, chosen)
                        least.add(row.scores.get(CERTAINTY, 1.0), chosen)
                    elif row.route:
                        stayed.add(-row.scores.get("coarseness", 0.0), chosen)
        unsure = least.found()[: done.refined // 3]
        known = {(c.row.file, c.place) for c in unsure}
        others = [c for c in most.found() if (c.row.file, c.place) not in known][:SHOWN]
        parts = [
            f"<h1>Refined masks</h1><div class=cards>{_numbers(done)}</div>",
            LEGEND if done.refined else "<p>No mask was refined.</p>",
            _figures("Most changed", others, pictures),
            _figures("Least certain", unsure, pictures),
            _figures("Asked about and left alone, the coarsest first", stayed.found(), pictures),
            table("What became of the outlines", ("What", "Segments", "Why"), _reason_rows(done)),
            table("Pictures that could not be looked at", ("File", "Rule", "What"), _faults(done)),
        ]
        write_atomic(part / SHEET, page("Refined masks", parts, STYLE).encode())


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An object for the contact sheet: its sample before, and after as a line."""

    sample: Sample
    line: str
    place: int
    row: Row


class _Least:
    """Those few of many that have the smallest numbers; of equal ones, the first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: list[tuple[float, int, _Chosen]] = []
        self._times = 0

    def add(self, number: float, chosen: _Chosen) -> None:
        self._times += 1
        self._all.append((number, self._times, chosen))
        if len(self._all) > 4 * self._most:
            self._cut()

    def found(self) -> list[_Chosen]:
        self._cut()
        return [chosen for *_, chosen in self._all]

    def _cut(self) -> None:
        self._all.sort(key=lambda entry: entry[:2])
        del self._all[self._most :]


def _figures(title: str, chosen: Sequence[_Chosen], pictures: Path) -> str:
    if not chosen:
        return ""
    drawn = "\n".join(_figure(c, picture(pictures, c.sample)) for c in chosen)
    kind = "sheet" if chosen[0].row.refined else "'sheet stayed'"
    return f"<h2>{escaped(title)}</h2><div class={kind}>{drawn}</div>"


def _figure(chosen: _Chosen, image: NDArray[np.uint8]) -> str:
    row, size = chosen.row, (chosen.sample.height, chosen.sample.width)
    before = chosen.sample.segments[chosen.place].mask(*size)
    after = before
    facts = [f"{row.reason} ({row.route})"]
    if row.refined:
        after = workspace.sample_of(chosen.line.encode()).segments[chosen.place].mask(*size)
        change = row.after - row.before
        facts.append(f"IoU with before {row.iou:.3f}")
        facts.append(f"{change:+,} px ({change / max(row.before, 1):+.1%})")
    facts += [f"{k} {row.scores[k]:.2f}" for k in (CERTAINTY, "coarseness") if k in row.scores]
    title = f"{row.category} · {row.file} · segment {row.segment}"
    return figure(image, Shown(title, facts, before, after))


def _numbers(done: Refinement) -> str:
    numbers = (
        (done.refined, "masks refined"),
        (done.counted.segments - done.refined, "left as they were"),
        (done.counted.images, "pictures"),
    )
    return "".join(f"<div class=card><b>{n:,}</b> {what}</div>" for n, what in numbers)


def _reason_rows(done: Refinement) -> Iterator[tuple[str, ...]]:
    return ((escaped(r), f"{n:,}", escaped(why(r))) for r, n in done.reasons.items())


def _faults(done: Refinement) -> Iterator[tuple[str, ...]]:
    return (
        (escaped(f.file_name or ""), escaped(f.code), escaped(f.message)) for f in done.findings
    )
