"""
Refine: from a working dataset with coarse outlines to one whose masks hug their objects.

Every image is answered by itself: which others there are, how many are worked on together
and by how many processes changes nothing. Answers are kept beside the output as they come, so
that a command that was killed goes on where it was. An image that cannot be looked at keeps
its segments as they are, and a finding says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import judging, ritm, workspace
from ..dataset import Dataset, Sample
from ..engine import ordered
from ..errors import UsageError
from ..files import canonical_json, held, holding, refuse_foreign
from ..journal import Journal
from ..progress import Progress, silent
from ..refine import Predictor, Rules
from ..refinement.calibration import Calibration, calibrated
from ..refinement.eligibility import VERIFIED, is_verified
from ..refinement.perturb import LEVELS
from . import sheet
from .answers import UNSEEN, Refiner, Row, Work
from .sheet import CERTAINTY, REPORT, SHEET
from .telling import Recipe, Refinement, Told

__all__ = ["CERTAINTY", "REPORT", "SHEET", "UNSEEN", "Recipe", "Refinement", "Row", "load", "run"]

SHIPPED = "shipped"  # all models that come with publisher

_PIXELS = 2**25  # of the pictures that are in memory at once
_IMAGES = {"cpu": 4, "cuda": 64}  # that are refined at once


def load(name: str, device: str) -> Predictor:
    """A network of ours; see `ritm.load`."""
    return ritm.load(name, device=device)


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
    refuse_foreign(out, workspace.is_workspace)  # now, and not after hours of work
    if report is not None:
        refuse_foreign(report, holding(REPORT))
    names = _named(weights)
    refiner = Refiner(load, names, device, rules or Rules())
    made = refiner.made  # weights that do not load show before the work
    calibration = _calibrated(dataset, refiner, on_image) if calibrate else None
    if calibration is not None:
        refiner = replace(refiner, rules=calibration.raised(refiner.rules))
    recipe = Recipe(made, refiner.rules)
    work = Work(dataset.images, dataset.categories, refiner)
    journal = out.with_name(f".{out.name}.journal")
    with held(out.with_name(f"{journal.name}.lock"), out):
        title = canonical_json(recipe.to_json()).decode()
        with Journal(journal, title) as answers:
            known = _answer_all(dataset, answers, work, workers, on_image)
            told = Told(dataset, answers, work, recipe)
            if dry_run:
                told.only_count()
            else:
                told.write(out)
            done = replace(told.refinement(), known=known, calibration=calibration)
            if report is not None:
                sheet.write(told, report, done, dataset.images)
        if not dry_run:
            journal.unlink()
    return done


def _answer_all(
    dataset: Dataset,
    answers: Journal,
    work: Work,
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


def _named(weights: Sequence[str]) -> tuple[str, ...]:
    asked = tuple(weights) or (SHIPPED,)
    return tuple(n for name in asked for n in (ritm.SHIPPED if name == SHIPPED else (name,)))


def _calibrated(dataset: Dataset, refiner: Refiner, on_object: Progress) -> Calibration:
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


def _same(refiner: Refiner) -> Refiner:
    return refiner
