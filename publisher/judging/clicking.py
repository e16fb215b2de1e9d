"""How many clicks a network needs, from nothing to each object of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import ritm
from ..engine import ordered
from ..errors import InvalidDataset, UsageError
from ..progress import Progress, silent
from .tasks import BRUSH, Task, drawn_again, todo


@dataclass(frozen=True, slots=True)
class Clicks:
    """How many clicks each object takes until its IoU is .85, and .90; 20 means never."""

    digest: str
    counts: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        """NoC and the number of objects that 20 clicks do not get right."""
        at85, at90 = zip(*self.counts, strict=True)
        return {
            "weights": self.digest,
            "n": len(self.counts),
            "noc85": sum(at85) / len(at85),
            "noc90": sum(at90) / len(at90),
            "failed85": sum(c == 20 for c in at85),
            "failed90": sum(c == 20 for c in at90),
        }


def count_clicks(
    path: Path,
    weights: str,
    *,
    device: str = "cpu",
    limit: int | None = None,
    on_object: Progress = silent,
) -> Clicks:
    """
    NoC as published, from nothing to each object of a dataset; see `ritm.noc`.

    Raises: as `evaluate`.
    """
    work = _Clicker(weights, device)
    digest = work.predictor.digest
    counts: list[tuple[int, int]] = []
    with todo(path, [BRUSH], limit) as asked:
        done = 0
        for found, seen in ordered(work, asked.tasks):
            counts += found
            done += seen
            on_object(done, asked.objects)
    if not counts:
        raise InvalidDataset("there is no object to click on")
    return Clicks(digest, tuple(counts))


class _Clicker:
    def __init__(self, weights: str, device: str) -> None:
        self.weights, self.device = weights, device

    def __reduce__(self) -> tuple[Any, ...]:
        return _Clicker, (self.weights, self.device)

    @cached_property
    def predictor(self) -> ritm.Predictor:
        predictor = ritm.load(self.weights, device=self.device)
        if not isinstance(predictor.network, ritm.Network):
            raise UsageError(
                f"{self.weights} answers no clicks", hint="name RITM's weights: --weights h18"
            )
        return predictor

    def __call__(self, task: Task) -> tuple[list[tuple[int, int]], int]:
        predictor = self.predictor  # the first use of torch, which may not be installed
        from ..ritm import noc

        counts: list[tuple[int, int]] = []
        image, seen = task.pixels(), len(task.sample.segments)
        if image is None:
            return counts, seen
        _, truths, _ = drawn_again(task.sample, BRUSH, 0)
        for truth in truths.values():
            clicked = noc.click_through(predictor, image, truth.to_array().astype(np.int8))
            counts.append((clicked.until(0.85), clicked.until(0.9)))
        return counts, seen
