"""
Training by clicks: RITM's own way, with polygons as previous masks.

After "Reviving Iterative Training with Mask Guidance for Interactive Segmentation" (Sofiiuk,
Petrov, Konushin, 2021): the network is asked, clicks are put where it errs, and it is asked
again with its own answer as the previous mask; only the last answer is learned from. One half
of the objects begins so, with a click and no mask. The other half begins with an outline as a
person draws it, in every degree of softness, so that a polygon is a previous mask like another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from ..refine import Click
from ..shapes.distance import signed, squared
from .clicks import points_of
from .network import Config, Network, Scale
from .resizing import resized
from .train import Course, Pool, redrawn, relit, turned

WINDOW = 128  # pixels; what a step sees of an example
_SCALES = (0.67, 1.0)  # of an example, whose sqrt(area) is 60 to 120 pixels
_ROUNDS = (0.4, 0.3, 0.2, 0.1)  # how often the network is asked 0, 1, 2, 3 times before
_SURE = 4  # pixels; a click that nobody had to think about lies as deep


@dataclass
class Question:
    """One object as a step asks for it. All arrays are (WINDOW, WINDOW)."""

    image: NDArray[np.float32]  # (WINDOW, WINDOW, 3), 0..1
    truth: NDArray[np.bool_]
    prior: NDArray[np.float32]  # the previous mask, as a probability
    clicks: list[Click]
    drawn: bool  # the prior is someone's outline


class ClickCourse(Course[Network, list[Question]]):
    """A click network in training."""

    @staticmethod
    def draw(pool: Pool, batch: int, rng: np.random.Generator) -> list[Question]:
        return [asked(pool, rng) for _ in range(batch)]

    def loss(self, drawn: list[Question], rng: np.random.Generator) -> Tensor:
        questions = [replace(q, clicks=list(q.clicks)) for q in drawn]
        for _ in range(int(rng.choice(len(_ROUNDS), p=_ROUNDS))):
            self._ask_again([q for q in questions if not q.drawn or rng.random() < 0.25], rng)
        out = self.network(*self._inputs(questions))
        truths = torch.from_numpy(np.stack([q.truth for q in questions]))
        truth = truths.to(self.device)[:, None].float()
        auxiliary = F.binary_cross_entropy_with_logits(out["instances_aux"], truth)
        return normalised_focal(out["instances"], truth) + 0.4 * auxiliary

    @torch.no_grad()
    def _ask_again(self, questions: Sequence[Question], rng: np.random.Generator) -> None:
        """Make answers the previous masks, and click where they are wrong."""
        if not questions:
            return
        logits = self.average.logits(*self._inputs(questions))
        answers = torch.sigmoid(logits)[:, 0].float().cpu().numpy()
        for question, answer in zip(questions, answers, strict=True):
            question.prior = answer
            click = next_click(question.truth, answer > 0.5, rng)
            if click and (not question.drawn or rng.random() < 0.5):
                question.clicks.append(click)

    def _inputs(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        x, points = inputs(questions)
        return x.to(self.device, non_blocking=True), points.to(self.device, non_blocking=True)


def beginner(config: Config) -> Network:
    """An untrained network whose clicks and mask weigh as much as its picture from the start."""
    network = Network(config)
    for module in network.modules():
        if isinstance(module, Scale):
            nn.init.ones_(module.scale)  # RITM begins at 0.05 from a network that knows pictures
    return network


def asked(pool: Pool, rng: np.random.Generator) -> Question:
    """Draw an object, its surroundings and what is known of it."""
    while True:
        example = turned(pool.drawn(rng), rng)
        drawn = bool(rng.random() < 0.5)
        rough = redrawn(example.mask, rng).mask if drawn else np.zeros_like(example.mask)
        if drawn and (not rough.any() or rough.all()):
            continue
        width = float(np.exp(rng.uniform(0, np.log(8))))  # pixels over which an outline is soft
        soft = rough.astype(np.float32)
        if drawn and rng.random() < 0.7:
            soft = (1 / (1 + np.exp(-signed(rough, 48) / width))).astype(np.float32)
        image, truth, prior = _seen(relit(example.image, rng), example.mask, soft, rng)
        if truth.sum() < 100:
            continue
        question = Question(image, truth, prior, [], drawn)
        question.clicks += _first_clicks(question, rng)
        return question


def next_click(
    truth: NDArray[np.bool_], mask: NDArray[np.bool_], rng: np.random.Generator
) -> Click | None:
    """
    A click in the larger error, somewhere in its deeper half; None where nothing is wrong.

    RITM's rule: what is missing or what is too much, whichever is deeper, and there any pixel
    that is more than half as deep as the deepest.
    """
    missing, surplus = (
        squared(np.pad(error, 1), WINDOW)[1:-1, 1:-1] for error in (truth & ~mask, mask & ~truth)
    )
    positive = bool(missing.max() > surplus.max())
    depth = missing if positive else surplus
    return _somewhere(depth > depth.max() / 4, positive, rng) if depth.any() else None


def normalised_focal(logits: Tensor, truth: Tensor, gamma: float = 2.0) -> Tensor:
    """
    Focal loss whose weights sum to the number of pixels in each picture, (B, 1, H, W) to ().

    "AdaptIS: Adaptive Instance Selection Network" (Sofiiuk, Barinova, Konushin, 2019), with
    alpha 0.5: pixels that are right already do not take part, and the loss does not vanish.
    """
    right = torch.sigmoid(torch.where(truth > 0.5, logits, -logits))  # (B, 1, H, W)
    weights = (1 - right) ** gamma
    pixels = weights[0].numel()
    scale = pixels / (weights.sum((1, 2, 3), keepdim=True).detach() + 1e-3 * pixels)
    errors = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return 0.5 * (scale * weights * errors).mean()


def inputs(questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """What a network is called with: (B, 4, WINDOW, WINDOW) in channels_last, (B, 2N, 3)."""
    x = np.stack([np.dstack([q.image, q.prior]) for q in questions])  # (B, WINDOW, WINDOW, 4)
    return torch.from_numpy(x).permute(0, 3, 1, 2), points_of([q.clicks for q in questions])


def _first_clicks(question: Question, rng: np.random.Generator) -> list[Click]:
    """Without an outline at least one; with one, some that are plain or put its errors right."""
    truth, known = question.truth, question.prior > 0.5
    if not question.drawn:
        first = next_click(truth, known, rng)
        return [first] if first else []
    clicks: list[Click | None] = []
    if rng.random() < 0.5:
        inside = squared(np.pad(truth & known, 1), 2 * _SURE)[1:-1, 1:-1] >= _SURE**2
        outside = squared(~(truth | known), 2 * _SURE) >= _SURE**2
        clicks += [_somewhere(inside, True, rng) for _ in range(rng.integers(0, 3))]
        clicks += [_somewhere(outside, False, rng) for _ in range(rng.integers(0, 2))]
    if rng.random() < 0.25:
        clicks.append(next_click(truth, known, rng))
    return [click for click in clicks if click]


def _somewhere(where: NDArray[np.bool_], positive: bool, rng: np.random.Generator) -> Click | None:
    places = np.argwhere(where)
    if not len(places):
        return None
    row, col = places[rng.integers(len(places))].tolist()
    return Click(row, col, positive)


def _seen(
    image: NDArray[np.uint8],
    truth: NDArray[np.bool_],
    prior: NDArray[np.float32],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Picture, truth and prior at some scale, in a window somewhere around the object."""
    scale = rng.uniform(*_SCALES)
    planes = np.dstack([image.astype(np.float32) / 255, truth, prior]).astype(np.float32)
    side = max(WINDOW, round(scale * len(image)))
    scaled = resized(torch.from_numpy(planes).permute(2, 0, 1)[None], (side, side))[0].clamp(0, 1)
    middle = np.argwhere(scaled[3].numpy() > 0.5).mean(axis=0) if truth.any() else side / 2
    corner = middle - WINDOW / 2 + rng.uniform(-20, 20, 2)
    top, left = np.clip(corner, 0, side - WINDOW).astype(int).tolist()
    window = scaled[:, top : top + WINDOW, left : left + WINDOW].permute(1, 2, 0).numpy()
    return window[..., :3], window[..., 3] > 0.5, window[..., 4]
