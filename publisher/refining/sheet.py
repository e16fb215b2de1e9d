"""The report of a refinement: a line an object, and a contact sheet of those worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from .. import workspace
from ..dataset import Sample
from ..files import holding, new_folder, write_atomic
from ..refinement.reasons import why
from ..report import escaped, page, table
from ..sheet import LEGEND, STYLE, Shown, figure
from .answers import Row, picture
from .telling import Refinement, Told

REPORT, SHEET = "objects.jsonl", "index.html"
CERTAINTY = "confidence"  # the score that says how sure a refined mask is, from 0 to 1
SHOWN = 30  # objects of each part of the contact sheet


def write(told: Told, folder: Path, done: Refinement, pictures: Path) -> None:
    """Write a line for each object, and a page that shows those that are worth a look."""
    with new_folder(folder, ours=holding(REPORT)) as part:
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
