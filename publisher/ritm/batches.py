"""
Crops in batches, for a GPU: uploaded together, asked about together, read when all is done.

A batch is begun and left alone: while the GPU is at it, the CPU prepares the next. Every batch of
a size has as many rows, the last one filled up, so that an answer does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ..refine import Click, Crop
from .clicks import mirrored, points_of
from .resizing import resized

Ask = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, 1, H, W) of pictures with priors (B, 4, H, W) and points (B, 2N, 3)."""


@dataclass(frozen=True, slots=True)
class Form:
    """
    What batches of one kind have in common.

    Attributes:
        size: height and width that no crop exceeds as the network sees it; smaller ones are
            filled up by repeating their last row and column of pixels.
        rows: how many crops there are room for, a mirror image being a row of its own.
        grid: see `sides`.
        device: where the network is.
    """

    size: tuple[int, int]
    rows: int
    grid: int
    device: torch.device


class Batch:
    """Crops that a network is asked about, as many as the form has room for at most."""

    def __init__(self, crops: Sequence[Crop], form: Form, ask: Ask) -> None:
        self._crops = crops
        logits = ask(*_asked(crops, form))  # (rows, 1, *size)
        found = torch.cat(
            [_answer(logits[rows], c, sides(c, form.grid)).flatten() for c, rows in _placed(crops)]
        )
        on_gpu = form.device.type == "cuda"
        self._found = torch.empty(found.shape, dtype=torch.float32, pin_memory=on_gpu)
        self._found.copy_(found, non_blocking=True)
        self._done = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        if self._done:
            self._done.record()

    def answers(self) -> list[NDArray[np.float32]]:
        """The logits (h, w) of each crop; waits until they are there."""
        if self._done:
            self._done.synchronize()
        found = self._found.numpy().copy()  # memory that a GPU can write to is scarce
        ends = np.cumsum([crop.prior.size for crop in self._crops])[:-1]
        parts = np.split(found, ends)
        return [part.reshape(c.prior.shape) for part, c in zip(parts, self._crops, strict=True)]


def _placed(crops: Sequence[Crop]) -> Iterator[tuple[Crop, slice]]:
    """The rows of each crop: itself, then its mirror image."""
    first = 0
    for crop in crops:
        rows = slice(first, first + rows_of(crop))
        yield crop, rows
        first = rows.stop


def _asked(crops: Sequence[Crop], form: Form) -> tuple[Tensor, Tensor]:
    """What the network is asked: pictures with priors (rows, 4, *size) and points (rows, 2N, 3)."""
    x = torch.zeros(form.rows, 4, *form.size, device=form.device)
    clicks: list[list[Click]] = [[] for _ in range(form.rows)]
    images = _uploaded([crop.image for crop in crops], torch.uint8, form.device)
    priors = _uploaded([crop.prior for crop in crops], torch.float32, form.device)
    for (crop, rows), image, prior in zip(_placed(crops), images, priors, strict=True):
        height, width = size = sides(crop, form.grid)
        seen = _question(image, prior, size)  # (1, 4, height, width)
        both = torch.cat([seen, seen.flip(3)]) if crop.flip else seen
        x[rows] = F.pad(both, (0, form.size[1] - width, 0, form.size[0] - height), mode="replicate")
        mine = _scaled(crop, size)
        clicks[rows] = [mine, mirrored(mine, width)][: len(both)]
    return x, points_of(clicks).to(form.device, non_blocking=True)


def rows_of(crop: Crop) -> int:
    """How many rows of a batch it takes: one for itself, and one for its mirror image."""
    return 2 if crop.flip else 1


def sides(crop: Crop, grid: int) -> tuple[int, int]:
    """Height and width of what the network sees, both multiples of `grid`."""
    height, width = (max(1, round(side * crop.zoom / grid)) * grid for side in crop.prior.shape)
    return height, width


def _question(image: Tensor, prior: Tensor, size: tuple[int, int]) -> Tensor:
    """What the network sees (1, 4, *size) of a picture (h, w, 3) uint8 and its prior (h, w)."""
    x = torch.cat([image.permute(2, 0, 1).float() / 255, prior[None]])[None]  # (1, 4, h, w)
    return resized(x, size)


def _scaled(crop: Crop, size: tuple[int, int]) -> list[Click]:
    """Clicks of a crop in pixels of what the network sees; each lies in the middle of its pixel."""
    height, width = size
    down, along = height / crop.prior.shape[0], width / crop.prior.shape[1]
    return [
        Click((c.row + 0.5) * down - 0.5, (c.col + 0.5) * along - 0.5, c.positive)
        for c in crop.clicks
    ]


def _answer(logits: Tensor, crop: Crop, size: tuple[int, int]) -> Tensor:
    """
    Logits (h, w) at the crop's own resolution.

    Args:
        logits: (1, 1, H, W), or (2, 1, H, W) with those of the mirror image as the second.
        size: what the network sees of the crop; H and W are no smaller.
    """
    height, width = size
    logits = logits[..., :height, :width]
    if crop.flip:
        logits = 0.5 * (logits[:1] + logits[1:].flip(3))
    return resized(logits, crop.prior.shape)[0, 0]


def _uploaded(
    arrays: Sequence[NDArray[np.generic]], dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Arrays on the device, in one go."""
    sizes = [array.size for array in arrays]
    flat = torch.empty(sum(sizes), dtype=dtype, pin_memory=device.type == "cuda")
    buffer = flat.numpy()
    at = 0
    for array in arrays:
        buffer[at : at + array.size].reshape(array.shape)[:] = array
        at += array.size
    parts = torch.split(flat.to(device, non_blocking=True), sizes)
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]
