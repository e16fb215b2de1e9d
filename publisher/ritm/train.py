"""
Training: from precise masks to networks that find them again under coarse ones.

Every step draws anew: an object, a hand that outlines it more or less badly, a window on its
border, light and colour. A part of the rough masks is what the network itself made of a rough
mask before, so that it can be asked again about its own answers (RITM's iterative training).

All of a step follows from (seed, step): a run that was killed goes on from its last checkpoint
to the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ..masks import Mask
from ..perturb import Hand, draw
from ..progress import Progress, silent
from .boundary import BoundaryNetwork
from .composites import SIDE, Example

WINDOW = 96  # pixels; what a step sees of an example
BATCH = 16
_BAND = 16.0  # pixels from the rough mask; beyond, errors count a twentieth
_EVERY = 200  # steps between checkpoints


@dataclass(frozen=True, slots=True)
class Pool:
    """Examples to draw from, and how often relative to each other each is drawn."""

    examples: Sequence[Example]
    weights: NDArray[np.float64]

    def drawn(self, rng: np.random.Generator) -> Example:
        return self.examples[int(rng.choice(len(self.examples), p=self.weights))]


def train(
    network: BoundaryNetwork,
    pool: Pool,
    checkpoint: Path,
    *,
    steps: int,
    seed: int = 0,
    rate: float = 3e-3,
    on_step: Progress = silent,
) -> BoundaryNetwork:
    """
    Train for so many steps in all, and give the running average of the weights.

    Args:
        checkpoint: where the state is kept; an existing one is continued.
        rate: the highest learning rate, reached after 50 steps; it falls by a cosine.
    """
    course = _Course.begun(network, checkpoint, seed)
    while course.step < steps:
        loss = course.take(pool, rate * _falling(course.step, steps))
        if course.step % _EVERY == 0 or course.step == steps:
            course.save(checkpoint)
        on_step(course.step, steps)
        course.losses.append(loss)
    return course.average


def hand_of(rng: np.random.Generator) -> Hand:
    """A hand of any regime: fine, mild, medium or coarse; now and then biased or shifted."""
    regime = rng.random()
    if regime < 0.2:
        tolerance, jitter = rng.uniform(0.004, 0.015), rng.uniform(0.001, 0.005)
    elif regime < 0.5:
        tolerance, jitter = rng.uniform(0.015, 0.04), rng.uniform(0.004, 0.015)
    else:
        tolerance, jitter = rng.uniform(0.04, 0.1), rng.uniform(0.01, 0.035)
    if rng.random() < 0.7:
        return Hand(tolerance, jitter)
    return Hand(tolerance, jitter, growth=rng.normal(0, 0.025), shift=abs(rng.normal(0, 0.025)))


class _Course:
    """A network in training."""

    def __init__(self, network: BoundaryNetwork, seed: int) -> None:
        torch.set_num_threads(1)  # more round differently
        self.network = network.train().to(memory_format=torch.channels_last)
        self.average = deepcopy(network).eval()
        self.optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
        self.seed = seed
        self.step = 0
        self.losses: list[float] = []

    @classmethod
    def begun(cls, network: BoundaryNetwork, checkpoint: Path, seed: int) -> _Course:
        course = cls(network, seed)
        if checkpoint.is_file():
            state = torch.load(checkpoint, weights_only=True)
            course.network.load_state_dict(state["network"])
            course.average.load_state_dict(state["average"])
            course.optimiser.load_state_dict(state["optimiser"])
            course.step = state["step"]
        return course

    def save(self, checkpoint: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        beside = checkpoint.with_name(checkpoint.name + ".new")
        torch.save(state, beside)
        beside.replace(checkpoint)

    def take(self, pool: Pool, rate: float) -> float:
        """One step."""
        rng = np.random.default_rng([self.seed, self.step])
        seen, truth, band = self._batch(pool, rng)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        logits = self.network.corrected(seen.contiguous(memory_format=torch.channels_last))
        errors = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = (errors * band).sum() / band.sum() + 0.05 * (errors * (1 - band)).mean()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        self._follow()
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average follow, faster at the beginning."""
        keep = min(0.998, self.step / (self.step + 20))
        for mine, new in zip(
            self.average.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if mine.dtype.is_floating_point:
                mine.mul_(keep).add_(new, alpha=1 - keep)
            else:
                mine.copy_(new)

    @torch.no_grad()
    def _batch(self, pool: Pool, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What is seen (B, 6, w, w), the truth and where it counts fully (B, 1, w, w) each."""
        pictures, roughs, truths = [], [], []
        while len(pictures) < BATCH:
            example = _turned(pool.drawn(rng), rng)
            rough = _redrawn(example.mask, rng)
            if rough.any() and not rough.all():
                pictures.append(_relit(example.image, rng))
                roughs.append(rough)
                truths.append(example.mask)
        x = torch.empty(BATCH, 4, SIDE, SIDE)
        x[:, :3] = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        x[:, 3] = torch.from_numpy(np.stack(roughs))
        again = torch.from_numpy(np.flatnonzero(rng.random(BATCH) < 0.25))
        for _ in range(int(rng.integers(1, 3)) if len(again) and self.step > 300 else 0):
            answer = (self.average.logits(x[again]) > 0).float()
            x[again, 3:] = torch.where(answer.sum((2, 3), True) > 100, answer, x[again, 3:])
        seen = BoundaryNetwork.seen(x)
        truth = torch.from_numpy(np.stack(truths))[:, None].float()
        band = (seen[:, 5:].abs() < math.tanh(_BAND / 24)).float()
        windows = [_window(x[b, 3].numpy() > 0.5, rng) for b in range(BATCH)]
        return tuple(  # type: ignore[return-value]
            torch.stack([full[b][:, window[0], window[1]] for b, window in enumerate(windows)])
            for full in (seen, truth, band)
        )


def _falling(step: int, steps: int) -> float:
    return min(1.0, step / 50) * (0.49 * (1 + math.cos(math.pi * step / steps)) + 0.02)


def _turned(example: Example, rng: np.random.Generator) -> Example:
    turns = int(rng.integers(4))
    image, mask = np.rot90(example.image, turns), np.rot90(example.mask, turns)
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return Example(np.ascontiguousarray(image), np.ascontiguousarray(mask))


def _redrawn(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    polygons = draw(Mask.from_array(mask), hand_of(rng), rng)
    return Mask.from_polygons(polygons, *mask.shape).to_array().astype(bool)


def _relit(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    lit = image.astype(np.float32)
    if rng.random() < 0.7:
        lit = (lit - 128) * rng.uniform(0.7, 1.25) + 128 + rng.normal(0, 10, 3)
    if rng.random() < 0.15:
        lit = np.repeat(lit.mean(axis=2, keepdims=True), 3, axis=2)
    return np.clip(lit, 0, 255).astype(np.uint8)


def _window(rough: NDArray[np.bool_], rng: np.random.Generator) -> tuple[slice, slice]:
    """A window near some pixel of the border of the rough mask."""
    border = np.argwhere(rough[1:, 1:] != rough[:-1, :-1])
    near = border[rng.integers(len(border))] + rng.integers(-24, 25, 2)
    top, left = np.clip(near - WINDOW // 2, 0, SIDE - WINDOW).tolist()
    return slice(top, top + WINDOW), slice(left, left + WINDOW)


def restarted(state: dict[str, Any]) -> Iterator[str]:
    """The names of what a checkpoint holds."""
    yield from sorted(state)
