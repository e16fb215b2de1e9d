"""
Crops in batches, for a GPU: uploaded together, asked about together, read when all is done.

A batch is begun and left alone: while the GPU is at it, the CPU prepares the next. Every batch of
a size has as many rows, the last one filled up, so that an answer does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


class Batch:
    """
    Crops that a network is asked about.

    Args:
        crops: together of at most `rows` rows, a mirror image being a row of its own.
        grid: see `sides`.
        size: height and width that no crop exceeds as the network sees it; smaller ones are
            filled up by repeating their last row and column of pixels.
    """

    def __init__(
        self,
        crops: Sequence[Crop],
        grid: int,
        size: tuple[int, int],
        rows: int,
        ask: Ask,
        device: torch.device,
    ) -> None:
        self._crops = crops
        x = torch.zeros(rows, 4, *size, device=device)
        clicks: list[list[Click]] = [[] for _ in range(rows)]
        ends = np.cumsum([2 if crop.flip else 1 for crop in crops]).tolist()
        images = _uploaded([crop.image for crop in crops], torch.uint8, device)
        priors = _uploaded([crop.prior for crop in crops], torch.float32, device)
        for crop, image, prior, end in zip(crops, images, priors, ends, strict=True):
            height, width = sides(crop, grid)
            seen = question(image, prior, (height, width))  # (1, 4, height, width)
            padding = (0, size[1] - width, 0, size[0] - height)
            x[end - 1] = F.pad(seen, padding, mode="replicate")[0]
            clicks[end - 1] = scaled(crop, (height, width))
            if crop.flip:
                x[end - 2] = F.pad(seen.flip(3), padding, mode="replicate")[0]
                clicks[end - 2] = mirrored(clicks[end - 1], width)
        points = _filled_up(points_of(clicks)).to(device, non_blocking=True)
        logits = ask(x, points)  # (rows, 1, *size)
        found = [
            answer(
                logits[end - (2 if crop.flip else 1) : end].flip(0), crop, sides(crop, grid)
            ).flatten()
            for crop, end in zip(crops, ends, strict=True)
        ]
        self._found = torch.empty(
            sum(map(len, found)), dtype=torch.float32, pin_memory=device.type == "cuda"
        )
        self._found.copy_(torch.cat(found), non_blocking=True)
        self._done = (
            torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        )
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


def sides(crop: Crop, grid: int = 1) -> tuple[int, int]:
    """Height and width of what the network sees, both multiples of `grid`."""
    height, width = (max(1, round(side * crop.zoom / grid)) * grid for side in crop.prior.shape)
    return height, width


def question(image: Tensor, prior: Tensor, size: tuple[int, int]) -> Tensor:
    """What the network sees (1, 4, *size) of a picture (h, w, 3) uint8 and its prior (h, w)."""
    x = torch.cat([image.permute(2, 0, 1).float() / 255, prior[None]])[None]  # (1, 4, h, w)
    return resized(x, size)


def scaled(crop: Crop, size: tuple[int, int]) -> list[Click]:
    """Clicks of a crop in pixels of what the network sees; each lies in the middle of its pixel."""
    height, width = size
    down, along = height / crop.prior.shape[0], width / crop.prior.shape[1]
    return [
        Click((c.row + 0.5) * down - 0.5, (c.col + 0.5) * along - 0.5, c.positive)
        for c in crop.clicks
    ]


def answer(logits: Tensor, crop: Crop, size: tuple[int, int]) -> Tensor:
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


def _filled_up(points: Tensor) -> Tensor:
    """Clicks (B, 2N, 3) with N a multiple of 8: few shapes."""
    rows, columns, _ = points.shape
    kinds = points.view(rows, 2, columns // 2, 3)
    return F.pad(kinds, (0, 0, 0, -kinds.shape[2] % 8), value=-1.0).flatten(1, 2)


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
