"""
A network at work: click by click for judges and annotators, in batches for refinement.

Both ways share the weights. `Predictor.network` and sessions compute the official function in
float32; `Predictor.predict` is the quick way, whose answers are the same up to rounding.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from ..files import sha256_of
from ..refine import Crop
from . import weights
from .clicks import check, mirrored, points_of
from .network import Network, folded
from .session import MAX_SIDE, Session, ZoomIn

_BATCH = 32  # on a GPU; rows of one size, a mirror image being a row of its own
_STEP = 64  # on a GPU sides are filled up to a multiple: few sizes, full batches

DEFAULT_ZOOM = ZoomIn()


def load(weights_: str | Path, device: str = "cpu") -> Predictor:
    """
    Load weights by name (`h18`, or one that ships) or from a file; see `weights.find`.

    Raises:
        CheckpointError, UsageError, StorageError, IntegrityError: see `weights`.
    """
    path = weights.find(weights_)
    return Predictor(weights.read(path), sha256_of(path), device)


class Predictor:
    """
    A network on a device.

    Attributes:
        network: `network(x, points)`, see `Network.forward`; exact, in float32.
        digest: sha256 of the file of weights, in hex.
        device: where it computes.
    """

    def __init__(self, network: Network, digest: str = "", device: str = "cpu") -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise UsageError(f"no device {device!r} here", hint="use --device cpu")
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.digest = digest

    def session(
        self,
        image: NDArray[np.uint8],
        flip: bool = True,
        zoom: ZoomIn | None = DEFAULT_ZOOM,
        limit: int | None = None,
    ) -> Session:
        """
        Click in a picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            flip: average with the mirror image, at twice the time.
            zoom: None to look at the whole picture always.
            limit: of the longer side that the network sees, in pixels.
        """
        return Session(self.network, image, flip=flip, zoom=zoom, limit=limit, device=self.device)

    def predict(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        """
        The logits of each crop, (h, w) float32; see `refine.Predictor`.

        A CPU takes one crop after the other in one thread: batches gain nothing there. A GPU
        takes batches of one size, in bfloat16; a crop's size decides which, and the last batch
        is filled up, so that an answer does not depend on the others.

        Raises:
            UsageError: a crop's arrays do not fit each other, its clicks are outside, or the
                network would see more than 4096 pixels along a side.
        """
        for crop in crops:
            _check(crop)
        with torch.inference_mode():
            if self.device.type != "cpu":
                return self._in_batches(crops)
            with _one_thread():
                return [self._alone(crop) for crop in crops]

    @cached_property
    def _quick(self) -> Network:
        return folded(self.network)

    def _alone(self, crop: Crop) -> NDArray[np.float32]:
        x, points = _question(crop)  # (1, 4, H, W), or 2 with the mirror image
        logits = self._quick.logits(x.contiguous(memory_format=torch.channels_last), points)
        return _answer(logits, crop)

    def _in_batches(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        answers: dict[int, NDArray[np.float32]] = {}
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, crop in enumerate(crops):
            groups[tuple(-(-side // _STEP) * _STEP for side in _sides(crop))].append(index)
        for size in sorted(groups):
            rows = _BATCH
            todo = groups[size]
            while todo:
                try:
                    now = _that_fit(crops, todo, rows)
                    for index, logits in zip(now, self._batch(crops, now, size, rows), strict=True):
                        answers[index] = _answer(logits, crops[index])
                    todo = todo[len(now) :]
                except torch.cuda.OutOfMemoryError:
                    if rows <= 2:
                        raise
                    torch.cuda.empty_cache()
                    rows //= 2
        return [answers[index] for index in range(len(crops))]

    def _batch(
        self, crops: Sequence[Crop], indices: Sequence[int], size: tuple[int, ...], rows: int
    ) -> list[Tensor]:
        """Logits (1 or 2, 1, H, W) of crops that together have at most `rows` rows."""
        questions = [_question(crops[i]) for i in indices]
        x = torch.zeros(rows, 4, *size)
        points = torch.full((rows, 2, max(p.shape[1] // 2 for _, p in questions), 3), -1.0)
        row, places = 0, []
        for pixels, clicks in questions:
            last, (height, width) = row + len(pixels), pixels.shape[2:]
            padding = (0, size[1] - width, 0, size[0] - height)
            x[row:last] = F.pad(pixels, padding, mode="replicate")
            points[row:last, :, : clicks.shape[1] // 2] = clicks.reshape(len(pixels), 2, -1, 3)
            places.append((row, last, height, width))
            row = last
        x = x.contiguous(memory_format=torch.channels_last).pin_memory()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = self._quick.logits(
                x.to(self.device, non_blocking=True), points.flatten(1, 2).to(self.device)
            )  # (rows, 1, *size)
        logits = logits.float().cpu()
        return [logits[first:last, :, :h, :w] for first, last, h, w in places]


def _that_fit(crops: Sequence[Crop], todo: Sequence[int], rows: int) -> list[int]:
    now = []
    for index in todo:
        rows -= 2 if crops[index].flip else 1
        if rows < 0:
            break
        now.append(index)
    return now


def _check(crop: Crop) -> None:
    if crop.image.dtype != np.uint8 or crop.image.ndim != 3 or crop.image.shape[2] != 3:
        raise UsageError(f"image is {crop.image.shape} {crop.image.dtype}, not (h, w, 3) uint8")
    height, width = crop.image.shape[:2]
    if crop.prior.shape != (height, width):
        raise UsageError(f"prior is {crop.prior.shape}, the image is {height, width}")
    if not ((crop.prior >= 0) & (crop.prior <= 1)).all():
        raise UsageError("prior holds numbers that are no probabilities")
    if not (math.isfinite(crop.zoom) and crop.zoom > 0):
        raise UsageError(f"zoom is {crop.zoom}")
    if not height or not width or crop.zoom * max(height, width) > MAX_SIDE:
        raise UsageError(f"{height}x{width} pixels at zoom {crop.zoom:g}: 1 to {MAX_SIDE} a side")
    check(crop.clicks, height, width)


def _sides(crop: Crop) -> tuple[int, int]:
    """Height and width of what the network sees."""
    height, width = (max(1, round(side * crop.zoom)) for side in crop.prior.shape)
    return height, width


def _question(crop: Crop) -> tuple[Tensor, Tensor]:
    """Picture and prior (1, 4, H, W) and points (1, 2N, 3); two of each with a mirror image."""
    pixels = torch.from_numpy(np.ascontiguousarray(crop.image)).permute(2, 0, 1).float() / 255
    prior = torch.from_numpy(np.ascontiguousarray(crop.prior, dtype=np.float32))
    x = torch.cat([pixels, prior[None]])[None]  # (1, 4, h, w)
    height, width = _sides(crop)
    down, along = height / x.shape[2], width / x.shape[3]
    clicks = [
        type(c)((c.row + 0.5) * down - 0.5, (c.col + 0.5) * along - 0.5, c.positive)
        for c in crop.clicks
    ]
    x = _resized(x, (height, width))
    if not crop.flip:
        return x, points_of([clicks])
    return torch.cat([x, x.flip(3)]), points_of([clicks, mirrored(clicks, width)])


def _answer(logits: Tensor, crop: Crop) -> NDArray[np.float32]:
    """Logits (h, w) at the crop's resolution, the mean with those of the mirror image."""
    if crop.flip:
        logits = 0.5 * (logits[:1] + logits[1:].flip(3))
    height, width = crop.prior.shape
    answer: NDArray[np.float32] = _resized(logits, (height, width))[0, 0].contiguous().numpy()
    return answer


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """By areas, not by corners: pixels are squares here, and shrinking takes all of them in."""
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Two threads on two busy cores take ten times the CPU of one, and round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
