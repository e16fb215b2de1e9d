"""
Training: from precise masks to networks that find them again under coarse ones.

Every step draws anew: an object, a hand that outlines it more or less badly, a window on its
border, light and colour. A part of the rough masks is what the network itself made of a rough
mask before, so that it can be asked again about its own answers (RITM's iterative training).

All of a step follows from (seed, step) and the weights before it: a run that was killed goes on
from its last checkpoint to the same weights, bit for bit, as one that was not (on a GPU, to
rounding). What is drawn needs no network, so other processes may draw ahead; how many changes
nothing. Where the device computes in bfloat16, steps do, at half the cost; weights and losses
stay in float32.
"""

from __future__ import annotations

import io
import math
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import CheckpointError
from ..files import write_atomic
from ..masks import Mask
from ..progress import Progress, silent
from ..refinement import eligibility
from ..refinement.perturb import Hand, draw
from .boundary import BoundaryNetwork, depth_in
from .composites import SIDE, Example
from .network import Network
from .predictor import device_of, native, one_thread

WINDOW = 128  # pixels; what a step sees of an example
BATCH = 16
_BAND = 16.0  # pixels from the rough mask; beyond, errors count a twentieth
_WARM = 300  # steps before the network's own answers are worth asking about
_EVERY = 100  # steps between checkpoints

_AHEAD = 4  # steps that each process draws ahead

N = TypeVar("N", Network, BoundaryNetwork)
D = TypeVar("D")


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


class Course(ABC, Generic[N, D]):
    """
    A network in training.

    Attributes:
        device: where it is trained.
        network: as the last step left it.
        average: the running average of its weights, which is better than any of them.
        step: how many steps were taken.
        losses: of the steps taken since the course was begun or continued.
    """

    def __init__(
        self, network: N, *, seed: int = 0, batch: int = BATCH, device: str = "cpu"
    ) -> None:
        self.device = device_of(device)
        self.network: N = network.train().to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: N = deepcopy(network).eval()
        self.optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
        self.seed, self.batch = seed, batch
        self.step = 0
        self.losses: list[float] = []

    @staticmethod
    @abstractmethod
    def draw(pool: Pool, batch: int, rng: np.random.Generator) -> D:
        """What a step learns from, as far as no network is needed for it."""

    @abstractmethod
    def loss(self, drawn: D, rng: np.random.Generator) -> Tensor:
        """How wrong the network is about what was drawn, as a scalar."""

    def run(
        self,
        pool: Pool,
        checkpoint: Path,
        *,
        steps: int,
        rate: float,
        recipe: str = "",
        workers: int = 1,
        on_step: Progress = silent,
    ) -> N:
        """
        Train up to so many steps in all, and give the average, on the CPU.

        An interrupt (SIGINT) lets the step end and writes the checkpoint before it goes on.

        Args:
            checkpoint: where the state is kept; one that is there is continued.
            rate: the highest learning rate, reached after 50 steps; it falls by a cosine.
            recipe: what else the weights follow from; that of the checkpoint must be equal.
            workers: processes that draw ahead; 1 is this one, which draws when it is time. The
                weights do not depend on it.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another course.
        """
        recipe = f"{recipe} seed={self.seed} batch={self.batch} steps={steps} rate={rate}".strip()
        with one_thread(), _interrupts_later() as interrupted:
            if checkpoint.is_file():
                self._continue(_state_of(checkpoint), recipe)
            for drawn in self._draws(pool, steps, workers):
                self.losses.append(self.take(drawn, rate * _falling(self.step, steps)))
                if self.step % _EVERY == 0 or self.step == steps or interrupted.is_set():
                    self._save(checkpoint, recipe)
                if interrupted.is_set():
                    raise KeyboardInterrupt
                on_step(self.step, steps)
        return self.average.to("cpu")

    def _draws(self, pool: Pool, steps: int, workers: int) -> Iterable[D]:
        """What the steps from here on learn from, in order."""
        ahead = workers if workers > 1 else 0
        return DataLoader(
            cast("Dataset[D]", _Draws(self.draw, pool, self.batch, self.seed)),
            batch_size=None,
            sampler=range(self.step, steps),
            num_workers=ahead,
            prefetch_factor=_AHEAD if ahead else None,
            collate_fn=_as_it_is,
        )

    def take(self, drawn: D, rate: float) -> float:
        """Take one step, and give its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        rounded = native(self.device) == "bfloat16"
        with (
            torch.random.fork_rng([] if self.device.type == "cpu" else [self.device]),
            # entered at each step: it keeps the rounded weights for as long as it lasts
            torch.autocast(self.device.type, torch.bfloat16, enabled=rounded),
        ):
            torch.manual_seed(self.seed * 2**32 + self.step)  # for dropout, and where to look
            loss = self.loss(drawn, np.random.default_rng([self.seed, self.step, 1]))
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


@dataclass(frozen=True, slots=True)
class _Draws(Generic[D]):
    """What each step learns from, by its number."""

    draw: Callable[[Pool, int, np.random.Generator], D]
    pool: Pool
    batch: int
    seed: int

    def __getitem__(self, step: int) -> D:
        return self.draw(self.pool, self.batch, np.random.default_rng([self.seed, step]))


def _as_it_is(drawn: D) -> D:
    return drawn


class Outlined(NamedTuple):
    """B pictures with their objects, and how these were outlined; S is SIDE."""

    image: Tensor  # (B, S, S, 3) uint8
    truth: Tensor  # (B, S, S) bool
    rough: Tensor  # (B, S, S) bool
    doubt: Tensor  # (B,) float32, pixels


class BoundaryCourse(Course[BoundaryNetwork, Outlined]):
    """
    A boundary network in training: outlines in, the truth about their surroundings out.

    Pixels farther than 16 from the outline count a twentieth.
    """

    @staticmethod
    def draw(pool: Pool, batch: int, rng: np.random.Generator) -> Outlined:
        drawn: list[Outlined] = []
        while len(drawn) < batch:
            example = turned(pool.drawn(rng), rng)
            mask, doubt = redrawn(example.mask, rng)
            if mask.any() and not mask.all():
                image, truth, rough = map(
                    torch.from_numpy, (relit(example.image, rng), example.mask, mask)
                )
                drawn.append(Outlined(image, truth, rough, torch.tensor(doubt).float()))
        return Outlined(*map(torch.stack, zip(*drawn, strict=True)))

    def loss(self, drawn: Outlined, rng: np.random.Generator) -> Tensor:
        seen, truth, band = self._windows(drawn, rng)
        logits = self.network.corrected(seen.contiguous(memory_format=torch.channels_last))
        errors = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return (errors * band).sum() / band.sum() + 0.05 * (errors * (1 - band)).mean()

    @torch.no_grad()
    def _windows(self, drawn: Outlined, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What is seen (B, 6, w, w), the truth and where it counts fully (B, 1, w, w) each."""
        image, truth, rough, doubt = (part.to(self.device, non_blocking=True) for part in drawn)
        colours = image.permute(0, 3, 1, 2) / 255  # (B, 3, S, S)
        depth = depth_in(rough[:, None])  # (B, 1, S, S)
        prior = (depth / doubt[:, None, None, None]).sigmoid()
        again = np.flatnonzero(rng.random(self.batch) < 0.25)
        passes = int(rng.integers(1, 3))
        if len(again) and self.step > _WARM:
            x = torch.cat([colours[again], prior[again]], 1)
            prior[again] = self._asked_about_its_answers(x, passes)[:, 3:].to(prior.dtype)
            depth[again] = depth_in(prior[again] > 0.5)
        seen = BoundaryNetwork.looked_at(torch.cat([colours, prior], 1), depth)
        corners = _corners((prior > 0.5)[:, 0])
        seen, truth = _cut(seen, corners), _cut(truth[:, None].float(), corners)
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


def _corners(rough: Tensor) -> Tensor:
    """The top left pixels (B, 2) of windows near some pixel of the borders of masks (B, S, S)."""
    border = rough[:, 1:, 1:] != rough[:, :-1, :-1]
    chosen = torch.multinomial(border.flatten(1).float(), 1)  # (B, 1)
    at = torch.cat([chosen // border.shape[2], chosen % border.shape[2]], 1)  # (B, 2)
    near = at + torch.randint(-24, 25, at.shape, device=at.device)
    return (near - WINDOW // 2).clamp(0, SIDE - WINDOW)


def _cut(planes: Tensor, corners: Tensor) -> Tensor:
    """A window (B, C, w, w) of each of B pictures (B, C, S, S)."""
    along = torch.arange(WINDOW, device=planes.device)
    rows, columns = (corners[:, axis, None] + along for axis in (0, 1))  # (B, w)
    picture = torch.arange(len(planes), device=planes.device)[:, None, None]
    return planes.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None]].permute(
        0, 3, 1, 2
    )


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
