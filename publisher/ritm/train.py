"""
Training: from precise masks to networks that find them again under coarse ones.

Every step draws anew: an object, a hand that outlines it more or less badly, a window on its
border, light and colour. A part of the rough masks is what the network itself made of a rough
mask before, so that it can be asked again about its own answers (RITM's iterative training).

All of a step follows from (seed, step) and the weights before it: a run that was killed goes on
from its last checkpoint to the same weights, bit for bit, as one that was not. Where the CPU
computes in bfloat16, steps do, at half the cost; weights and losses stay in float32.
"""

from __future__ import annotations

import io
import math
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CheckpointError
from ..files import write_atomic
from ..masks import Mask
from ..progress import Progress, silent
from ..refinement import eligibility
from ..refinement.perturb import Hand, draw
from .boundary import REACH, BoundaryNetwork, depth_in
from .composites import SIDE, Example
from .network import Network
from .predictor import native, one_thread

WINDOW = 96  # pixels; what a step sees of an example
BATCH = 16
_BAND = 16.0  # pixels from the rough mask; beyond, errors count a twentieth
_WARM = 300  # steps before the network's own answers are worth asking about
_EVERY = 100  # steps between checkpoints

N = TypeVar("N", Network, BoundaryNetwork)


@dataclass(frozen=True, slots=True)
class Pool:
    """Examples to draw from, and how probable each is."""

    examples: Sequence[Example]
    weights: NDArray[np.float64]  # sum to 1

    @classmethod
    def shared(cls, sources: Sequence[tuple[float, Sequence[Example]]]) -> Pool:
        """A share of all draws for each source, in any unit; its examples are equals."""
        given = [(share, examples) for share, examples in sources if examples]
        weights = np.concatenate([np.full(len(e), share / len(e)) for share, e in given])
        return cls([x for _, examples in given for x in examples], weights / weights.sum())

    def drawn(self, rng: np.random.Generator) -> Example:
        return self.examples[int(rng.choice(len(self.examples), p=self.weights))]


class Course(ABC, Generic[N]):
    """
    A network in training.

    Attributes:
        network: as the last step left it.
        average: the running average of its weights, which is better than any of them.
        step: how many steps were taken.
        losses: of the steps taken since the course was begun or continued.
    """

    def __init__(self, network: N, *, seed: int = 0, batch: int = BATCH) -> None:
        self.network: N = network.train()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: N = deepcopy(network).eval()
        self.optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
        self.seed, self.batch = seed, batch
        self.step = 0
        self.losses: list[float] = []

    @abstractmethod
    def loss(self, pool: Pool, rng: np.random.Generator) -> Tensor:
        """How wrong the network is about `batch` examples, as a scalar."""

    def run(
        self,
        pool: Pool,
        checkpoint: Path,
        *,
        steps: int,
        rate: float,
        recipe: str = "",
        on_step: Progress = silent,
    ) -> N:
        """
        Train up to so many steps in all, and give the average.

        An interrupt (SIGINT) lets the step end and writes the checkpoint before it goes on.

        Args:
            checkpoint: where the state is kept; one that is there is continued.
            rate: the highest learning rate, reached after 50 steps; it falls by a cosine.
            recipe: what else the weights follow from; that of the checkpoint must be equal.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another course.
        """
        recipe = f"{recipe} seed={self.seed} batch={self.batch} steps={steps} rate={rate}".strip()
        with one_thread(), _interrupts_later() as interrupted:
            if checkpoint.is_file():
                self._continue(_state_of(checkpoint), recipe)
            while self.step < steps:
                self.losses.append(self.take(pool, rate * _falling(self.step, steps)))
                if self.step % _EVERY == 0 or self.step == steps or interrupted.is_set():
                    self._save(checkpoint, recipe)
                if interrupted.is_set():
                    raise KeyboardInterrupt
                on_step(self.step, steps)
        return self.average

    def take(self, pool: Pool, rate: float) -> float:
        """Take one step, and give its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        rounded = native(torch.device("cpu")) == "bfloat16"
        with (
            torch.random.fork_rng(devices=[]),
            # entered at each step: it keeps the rounded weights for as long as it lasts
            torch.autocast("cpu", torch.bfloat16, enabled=rounded),
        ):
            torch.manual_seed(self.seed * 2**32 + self.step)  # for dropout
            loss = self.loss(pool, np.random.default_rng([self.seed, self.step]))
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

    def _save(self, checkpoint: Path, recipe: str) -> None:
        state = {
            "recipe": recipe,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        body = io.BytesIO()
        torch.save(state, body)
        write_atomic(checkpoint, body.getvalue())

    def _continue(self, state: dict[str, Any], recipe: str) -> None:
        if state.get("recipe") != recipe:
            raise CheckpointError(
                f"checkpoint of another course: {str(state.get('recipe'))[:200]!r}, not {recipe!r}",
                hint="give it the same data and options, or remove it to begin anew",
            )
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = int(state["step"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"checkpoint does not fit: {str(error)[:200]}", hint="remove it to begin anew"
            ) from error


class BoundaryCourse(Course[BoundaryNetwork]):
    """
    A boundary network in training: outlines in, the truth about their surroundings out.

    Pixels farther than 16 from the outline count a twentieth.
    """

    def loss(self, pool: Pool, rng: np.random.Generator) -> Tensor:
        seen, truth, band = self._batch(pool, rng)
        logits = self.network.corrected(seen.contiguous(memory_format=torch.channels_last))
        errors = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return (errors * band).sum() / band.sum() + 0.05 * (errors * (1 - band)).mean()

    @torch.no_grad()
    def _batch(self, pool: Pool, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What is seen (B, 6, w, w), the truth and where it counts fully (B, 1, w, w) each."""
        drawn: list[_Drawn] = []
        while len(drawn) < self.batch:
            example = turned(pool.drawn(rng), rng)
            rough = redrawn(example.mask, rng)
            if rough.mask.any() and not rough.mask.all():
                drawn.append(_Drawn(relit(example.image, rng), example.mask, *rough))
        x = torch.empty(self.batch, 4, SIDE, SIDE)
        x[:, :3] = torch.from_numpy(np.stack([d.image for d in drawn])).permute(0, 3, 1, 2) / 255
        x[:, 3] = torch.from_numpy(np.stack([d.rough for d in drawn]))
        again = np.flatnonzero(rng.random(self.batch) < 0.25)
        passes = int(rng.integers(1, 3))
        if len(again) and self.step > _WARM:
            doubts = torch.tensor([drawn[b].doubt for b in again])[:, None, None, None]
            x[again] = self._asked_about_its_answers(_with_doubt(x[again], doubts), passes)
        else:
            again = again[:0]
        windows = [_window(x[b, 3].numpy() > 0.5, rng) for b in range(self.batch)]
        seen = torch.stack(
            [
                _seen_in(x[b : b + 1], *windows[b], None if b in again else drawn[b].doubt)
                for b in range(self.batch)
            ]
        )
        truth = torch.stack(
            [torch.from_numpy(drawn[b].truth)[windows[b]][None].float() for b in range(self.batch)]
        )
        return seen, truth, (seen[:, 5:].abs() < math.tanh(_BAND / 24)).float()

    def _asked_about_its_answers(self, x: Tensor, passes: int) -> Tensor:
        """Pictures and priors (B, 4, H, W), the priors as the network answers to them."""
        for _ in range(passes):
            answer = self.average.logits(x).sigmoid()
            covered = (answer > 0.5).sum((2, 3), keepdim=True)
            usable = (covered > 100) & (covered < SIDE * SIDE - 100)  # it has a border
            x = torch.cat([x[:, :3], torch.where(usable, answer, x[:, 3:])], 1)
        return x


class Rough(NamedTuple):
    """A mask (H, W) bool as some hand drew it, and how unsure its outline is, in pixels."""

    mask: NDArray[np.bool_]
    doubt: float


class _Drawn(NamedTuple):
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    rough: NDArray[np.bool_]
    doubt: float


def hand_of(rng: np.random.Generator) -> Hand:
    """A hand of any regime: fine, mild, medium or coarse; now and then biased or shifted."""
    regime = rng.random()
    if regime < 0.15:
        tolerance, jitter = rng.uniform(0.004, 0.015), rng.uniform(0.001, 0.005)
    elif regime < 0.5:
        tolerance, jitter = rng.uniform(0.015, 0.04), rng.uniform(0.004, 0.015)
    else:
        tolerance, jitter = rng.uniform(0.04, 0.1), rng.uniform(0.01, 0.035)
    if rng.random() < 0.7:
        return Hand(tolerance, jitter)
    return Hand(tolerance, jitter, growth=rng.normal(0, 0.03), shift=abs(rng.normal(0, 0.035)))


def turned(example: Example, rng: np.random.Generator) -> Example:
    """The example turned by quarters, half of the time seen in a mirror."""
    turns = int(rng.integers(4))
    image, mask = np.rot90(example.image, turns), np.rot90(example.mask, turns)
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return Example(np.ascontiguousarray(image), np.ascontiguousarray(mask))


def redrawn(mask: NDArray[np.bool_], rng: np.random.Generator) -> Rough:
    """A mask (H, W) as some hand would have drawn it; it may be empty."""
    polygons = draw(Mask.from_array(mask), hand_of(rng), rng)
    rough = Mask.from_polygons(polygons, *mask.shape)
    size = math.sqrt(rough.area)
    doubt = size * eligibility.doubt(eligibility.coarseness(polygons, size)) if size else 1.0
    return Rough(rough.to_array().astype(bool), doubt)


def relit(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture (H, W, 3) in other light, now and then without colours."""
    lit: NDArray[np.floating] = image.astype(np.float32)
    if rng.random() < 0.7:
        lit = (lit - 128) * rng.uniform(0.7, 1.25) + 128 + rng.normal(0, 10, 3)
    if rng.random() < 0.15:
        lit[:] = lit.mean(axis=2, keepdims=True)
    return np.asarray(np.clip(lit, 0, 255), dtype=np.uint8)


def _with_doubt(x: Tensor, doubt: Tensor | float) -> Tensor:
    """Pictures with rough masks (B, 4, H, W), the masks as probabilities: see `refine`."""
    return _doubted(x, depth_in(x[:, 3:] > 0.5), doubt)


def _doubted(x: Tensor, depth: Tensor, doubt: Tensor | float) -> Tensor:
    return torch.cat([x[:, :3], (depth / doubt).sigmoid()], 1)


def _seen_in(x: Tensor, rows: slice, columns: slice, doubt: float | None) -> Tensor:
    """
    What is seen of a window (6, w, w) of one picture (1, 4, H, W), as if all were looked at.

    Args:
        doubt: in pixels, where the picture's last channel is a rough mask and no prior yet.
    """
    top, left = max(rows.start - REACH, 0), max(columns.start - REACH, 0)
    around = x[..., top : rows.stop + REACH, left : columns.stop + REACH]
    depth = depth_in(around[:, 3:] > 0.5)
    if doubt is not None:
        around = _doubted(around, depth, doubt)
    seen = BoundaryNetwork.looked_at(around, depth)[0]
    return seen[:, rows.start - top :, columns.start - left :][:, :WINDOW, :WINDOW]


def _window(rough: NDArray[np.bool_], rng: np.random.Generator) -> tuple[slice, slice]:
    """A window near some pixel of the border of the rough mask."""
    border = np.argwhere(rough[1:, 1:] != rough[:-1, :-1])
    near = border[rng.integers(len(border))] + rng.integers(-24, 25, 2)
    top, left = np.clip(near - WINDOW // 2, 0, SIDE - WINDOW).tolist()
    return slice(top, top + WINDOW), slice(left, left + WINDOW)


def _falling(step: int, steps: int) -> float:
    return min(1.0, step / 50) * (0.49 * (1 + math.cos(math.pi * step / steps)) + 0.02)


def _state_of(checkpoint: Path) -> dict[str, Any]:
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no error of its own for a damaged file
        raise CheckpointError(
            f"{checkpoint.name}: torch cannot read it: {str(error)[:200]}",
            hint="remove it to begin anew",
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{checkpoint.name}: no checkpoint", hint="remove it to begin anew")
    return state


@contextmanager
def _interrupts_later() -> Iterator[threading.Event]:
    """An event that SIGINT sets, instead of tearing a step apart."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals are the main thread's business
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
