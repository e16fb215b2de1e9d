"""
A network at work: click by click for judges and annotators, in batches for refinement.

Both ways share the weights. `Predictor.network` and sessions compute the official function in
float32; `Predictor.predict` is the quick way, whose answers are the same up to rounding. It
rounds to bfloat16 where the machine computes with that.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from ..files import sha256_of
from ..refine import Click, Crop
from . import weights
from .batches import Batch, Form, rows_of, sides
from .boundary import BoundaryNetwork
from .clicks import check
from .network import Network
from .quick import folded, fused
from .replay import Replay
from .session import MAX_SIDE, Session, ZoomIn

_BATCH = 64  # on a GPU; rows of one size, a mirror image being a row of its own
_STEP = 64  # on a GPU sides are filled up to a multiple: few sizes, full batches;
_GRID = 32  # or scaled to one, where a network looks at the picture as a whole

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
        self.device = device_of(device)
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
        up, so that an answer does not depend on the others. There RITM's networks see crops
        scaled to sides that are multiples of 32.

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
        if self.device.type == "cuda" and self.precision == "bfloat16":
            return fused(self.network)
        return folded(self.network)

    @cached_property
    def _ask(self) -> Replay:
        return Replay(self._logits)

    @property
    def _grid(self) -> int:
        """
        What the sides that the network sees are multiples of.

        RITM's network takes in a picture as a whole, and a margin that fills up a batch with it:
        so on a GPU a crop is scaled by a little more or less until it needs none.
        """
        whole = isinstance(self.network, Network) and self.device.type == "cuda"
        return _GRID if whole else 1

    def _alone(self, crop: Crop) -> NDArray[np.float32]:
        (found,) = self._batch([crop], sides(crop, self._grid), rows_of(crop)).answers()
        return found

    def _logits(self, x: Tensor, points: Tensor) -> Tensor:
        """The logits (B, 1, H, W), float32, of crops as the network sees them, quickly."""
        x = x.contiguous(memory_format=torch.channels_last)
        rounded = self.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=rounded):
            return self._quick.logits(x, points)

    def _in_batches(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        """A batch is read when the next one is begun, so that the GPU always has one."""
        answers: dict[int, NDArray[np.float32]] = {}
        under_way = deque[tuple[list[int], Batch]]()

        def read() -> None:
            indices, batch = under_way.popleft()
            answers.update(zip(indices, batch.answers(), strict=True))

        for begun in self._begun(crops):
            under_way.append(begun)
            if len(under_way) > 1:
                read()
        while under_way:
            read()
        return [answers[index] for index in range(len(crops))]

    def _begun(self, crops: Sequence[Crop]) -> Iterator[tuple[list[int], Batch]]:
        """Batches of crops of one size, and which those are; halved where memory runs out."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        step = _STEP if self._grid == 1 else self._grid
        for index, crop in enumerate(crops):
            height, width = sides(crop, self._grid)
            groups[-(-height // step) * step, -(-width // step) * step].append(index)
        rows = _BATCH
        for size, todo in sorted(groups.items()):
            while todo:
                now = _that_fit(crops, todo, rows)
                try:
                    batch = self._batch([crops[index] for index in now], size, rows)
                except torch.cuda.OutOfMemoryError:
                    if rows <= 2:
                        raise
                    self._ask.forget()
                    torch.cuda.empty_cache()
                    rows //= 2
                else:
                    yield now, batch
                    todo = todo[len(now) :]

    def _batch(self, crops: Sequence[Crop], size: tuple[int, int], rows: int) -> Batch:
        return Batch(crops, Form(size, rows, self._grid, self.device), self._ask)


def native(device: torch.device) -> str:
    """
    "bfloat16" where a device computes with it, else "float32".

    Convolutions in bfloat16 work on every CPU, but where they are made of float32 ones they are
    slower than those, and torch calls that supported, too. So the CPU itself is asked.
    """
    if device.type != "cpu":
        return "bfloat16"
    ask: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    known = ask()  # nothing where torch is too old to say
    return "bfloat16" if known.get("avx512_bf16") or known.get("amx_bf16") else "float32"


def device_of(name: str) -> torch.device:
    """
    A device of this machine, by its name.

    Raises:
        UsageError: there is none of this name.
    """
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
        rows -= rows_of(crops[index])
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Two threads on two busy cores take ten times the CPU of one, and round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
