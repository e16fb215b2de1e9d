"""
A network at work: click by click for judges and annotators, in batches for refinement.

Both ways share the weights. `Predictor.network` and sessions compute the official function in
float32; `Predictor.predict` is the quick way, whose answers are the same up to rounding. It
rounds to bfloat16 where the machine computes with that.
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
from ..refine import Click, Crop
from . import weights
from .boundary import BoundaryNetwork
from .clicks import check, mirrored, points_of
from .network import Network, folded
from .session import MAX_SIDE, Session, ZoomIn

_BATCH = 64  # on a GPU; rows of one size, a mirror image being a row of its own
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


def object_at(
    predictor: Predictor,
    image: NDArray[np.uint8],
    clicks: Sequence[Click],
    *,
    threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """
    The object that clicks mean, (H, W), for whoever remembers no session.

    The network looks twice: at the whole picture (H, W, 3), made small, and at what it found.

    Raises:
        UsageError: a click is outside the picture.
    """
    session = predictor.session(image, zoom=ZoomIn(skip_clicks=-1))
    session.predict(clicks)
    return np.asarray(session.predict(clicks) > threshold)


class Predictor:
    """
    A network on a device.

    Attributes:
        network: `network(x, points)`, see `Network.forward`; exact, in float32.
        digest: sha256 of the file of weights, in hex.
        device: where it computes.
        precision: of `predict`, "bfloat16" or "float32"; by default as `native` says.
    """

    def __init__(
        self,
        network: Network | BoundaryNetwork,
        digest: str = "",
        device: str = "cpu",
        precision: str | None = None,
    ) -> None:
        self.device = _device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.digest = digest
        self.precision = precision or native(self.device)

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

        A CPU takes one crop after the other in one thread: batches gain little there. A GPU
        takes batches of one size; a crop's size decides which, and the last batch is filled
        up, so that an answer does not depend on the others.

        Raises:
            UsageError: a crop's arrays do not fit each other, its clicks are outside, or the
                network would see more than 4096 pixels along a side.
        """
        for crop in crops:
            _check(crop)
        with torch.inference_mode():
            if self.device.type != "cpu":
                return self._in_batches(crops)
            with one_thread():
                return [self._alone(crop) for crop in crops]

    @cached_property
    def _quick(self) -> Network | BoundaryNetwork:
        return folded(self.network)

    def _alone(self, crop: Crop) -> NDArray[np.float32]:
        x, points = _question(crop, self.device)  # (1, 4, H, W), or 2 with the mirror image
        return _answer(self._logits(x, points), crop)

    def _logits(self, x: Tensor, points: Tensor) -> Tensor:
        """The logits (B, 1, H, W), float32, of crops as the network sees them, quickly."""
        x = x.contiguous(memory_format=torch.channels_last)
        rounded = self.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=rounded):
            return self._quick.logits(x, points)

    def _in_batches(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        answers: dict[int, NDArray[np.float32]] = {}
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, crop in enumerate(crops):
            height, width = _sides(crop)
            groups[-(-height // _STEP) * _STEP, -(-width // _STEP) * _STEP].append(index)
        rows = _BATCH
        for size, todo in sorted(groups.items()):
            while todo:
                now = _that_fit(crops, todo, rows)
                try:
                    found = self._batch([crops[index] for index in now], size, rows)
                except torch.cuda.OutOfMemoryError:
                    if rows <= 2:
                        raise
                    torch.cuda.empty_cache()
                    rows //= 2
                else:
                    answers.update(zip(now, found, strict=True))
                    todo = todo[len(now) :]
        return [answers[index] for index in range(len(crops))]

    def _batch(
        self, crops: Sequence[Crop], size: tuple[int, int], rows: int
    ) -> list[NDArray[np.float32]]:
        """
        The answers to crops that together have at most `rows` rows of at most this size.

        Smaller ones are filled up by repeating their last row and column of pixels.
        """
        questions = [_question(crop, self.device) for crop in crops]
        most = max(points.shape[1] // 2 for _, points in questions)
        x = torch.zeros(rows, 4, *size, device=self.device)
        clicks = torch.full((rows, 2, most, 3), -1.0, device=self.device)
        ends = np.cumsum([len(pixels) for pixels, _ in questions])
        for (pixels, points), end in zip(questions, ends.tolist(), strict=True):
            place = slice(end - len(pixels), end)
            padding = (0, size[1] - pixels.shape[3], 0, size[0] - pixels.shape[2])
            x[place] = F.pad(pixels, padding, mode="replicate")
            clicks[place, :, : points.shape[1] // 2] = points.reshape(len(pixels), 2, -1, 3)
        logits = self._logits(x, clicks.flatten(1, 2))  # (rows, 1, *size)
        return [
            _answer(logits[end - len(pixels) : end, :, : pixels.shape[2], : pixels.shape[3]], crop)
            for crop, (pixels, _), end in zip(crops, questions, ends.tolist(), strict=True)
        ]


def native(device: torch.device) -> str:
    """
    "bfloat16" where a device computes with it, else "float32".

    Convolutions in bfloat16 work on every CPU, but where they are made of float32 ones they are
    slower than those, and torch calls that supported, too. So the CPU itself is asked.
    """
    if device.type != "cpu":
        return "bfloat16"
    known = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say
    return "bfloat16" if known.get("avx512_bf16") or known.get("amx_bf16") else "float32"


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device", hint="use cpu or cuda") from error
    if device.type not in {"cpu", "cuda"}:
        raise UsageError(f"device {name!r} is not supported", hint="use cpu or cuda")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"no device {name!r} here", hint="use cpu")
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32; batches use bfloat16
    return device


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


def _question(crop: Crop, device: torch.device) -> tuple[Tensor, Tensor]:
    """Picture and prior (1, 4, H, W) and points (1, 2N, 3); two of each with a mirror image."""
    pixels = torch.from_numpy(np.array(crop.image, order="C")).to(device)  # (h, w, 3) uint8
    prior = torch.from_numpy(np.array(crop.prior, np.float32, order="C")).to(device)  # (h, w)
    x = torch.cat([pixels.permute(2, 0, 1).float() / 255, prior[None]])[None]  # (1, 4, h, w)
    height, width = _sides(crop)
    down, along = height / x.shape[2], width / x.shape[3]
    clicks = [
        Click((c.row + 0.5) * down - 0.5, (c.col + 0.5) * along - 0.5, c.positive)
        for c in crop.clicks
    ]
    x = _resized(x, (height, width))
    if not crop.flip:
        return x, points_of([clicks]).to(device)
    both = points_of([clicks, mirrored(clicks, width)]).to(device)
    return torch.cat([x, x.flip(3)]), both


def _answer(logits: Tensor, crop: Crop) -> NDArray[np.float32]:
    """Logits (h, w) at the crop's resolution, the mean with those of the mirror image."""
    if crop.flip:
        logits = 0.5 * (logits[:1] + logits[1:].flip(3))
    height, width = crop.prior.shape
    answer: NDArray[np.float32] = _resized(logits, (height, width))[0, 0].cpu().contiguous().numpy()
    return answer


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """By areas, not by corners: pixels are squares here, and shrinking takes all of them in."""
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Two threads on two busy cores take ten times the CPU of one, and round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
