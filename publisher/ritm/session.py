"""
One picture, click after click: what the official predictor without BRS computes.

The network first sees the whole picture; then, zoomed in, the surroundings of what it found.
Each answer is the previous mask of the next.

To the last bit it is the official answer, but for these faults of the official code:

* Click maps are always made by torch; the Cython ones write outside of their memory.
* Where nothing was found any more, the answer to the whole picture is not pressed into the
  region that was zoomed in to before.
* Zoomed in, a limit of the longer side does not move what is found to another place.
* Where the first click looks twice, the second look keeps the mask that the caller gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UsageError
from ..masks import check_size
from ..refine import Click
from .boundary import BoundaryNetwork
from .clicks import check, mirrored, points_of
from .network import Network

MAX_SIDE = 4096  # of what a network sees at once
_LOOK_AGAIN = 0.5  # the first answer's region to the picture, by `_overlap`

Region = tuple[int, int, int, int]
"""First and last row, first and last column, all within."""


@dataclass(frozen=True, slots=True)
class ZoomIn:
    """
    Look at the surroundings of the object only. The fields are those of the official code.

    Args:
        target_size: of the longer side of what the network sees, or (height, width) of it.
        skip_clicks: so many first clicks see the whole picture. With 0, the first click looks
            twice if the object is small; with -1 what is unknown is a region like any other.
        expansion_ratio: the region's sides to the object's.
        min_crop_size: of a side of the region, in pixels of the picture.
        recompute_thresh_iou: the region is kept until it fits the object less than this.
        prob_thresh: where the object is, to find its region.
    """

    target_size: int | tuple[int, int] = 400
    skip_clicks: int = 1
    expansion_ratio: float = 1.4
    min_crop_size: int = 200
    recompute_thresh_iou: float = 0.5
    prob_thresh: float = 0.5

    def __post_init__(self) -> None:
        sides = self.target_size if isinstance(self.target_size, tuple) else (self.target_size,)
        if not all(1 <= side <= MAX_SIDE for side in sides):
            raise UsageError(f"target_size is {self.target_size}; a side has 1 to {MAX_SIDE}")


class Session:
    """
    Clicks in one picture. See `Predictor.session`.

    Attributes:
        roi: the region that is zoomed in to, or None as long as none is.
    """

    def __init__(
        self,
        network: Network | BoundaryNetwork,
        image: NDArray[np.uint8],
        *,
        flip: bool,
        zoom: ZoomIn | None,
        limit: int | None,
        device: torch.device,
    ) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(f"image is {image.shape} {image.dtype}, not (H, W, 3) uint8")
        if not isinstance(network, Network):
            raise UsageError("this network reads no clicks", hint="take one of RITM's")
        self._height, self._width = image.shape[:2]
        check_size(self._height, self._width)
        if limit is not None and not 1 <= limit <= MAX_SIDE:
            raise UsageError(f"limit is {limit}; it may be 1 to {MAX_SIDE}")
        pixels = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")).to(device)
        self._image = (pixels.float() / 255)[None]  # (1, 3, H, W)
        self._previous = torch.zeros_like(self._image[:, :1])  # (1, 1, H, W)
        self._network, self._flip, self._zoom, self._limit = network, flip, zoom, limit
        self.roi: Region | None = None

    @torch.inference_mode()
    def predict(
        self, clicks: Sequence[Click], mask: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """
        Where the object is, by all clicks so far.

        Args:
            clicks: all of them, in the order in which they were made.
            mask: (H, W) probabilities to start from, instead of the answer before.

        Returns:
            (H, W) float32 probabilities; 0 outside `roi`.

        Raises:
            UsageError: a click is outside the picture, or the mask is of another size or no
                probability.
        """
        check(clicks, self._height, self._width)
        previous = self._previous if mask is None else self._mask(mask)
        region = self._aim(clicks, self._previous)
        answer = self._look(region, previous, clicks)
        if region is None and self._looks_again(answer):
            region = self._aim(clicks, answer)
            answer = self._look(region, previous, clicks)
        self._previous = answer
        probabilities: NDArray[np.float32] = answer[0, 0].cpu().numpy()
        return probabilities

    def _mask(self, mask: NDArray[np.floating]) -> Tensor:
        if mask.shape != (self._height, self._width):
            raise UsageError(f"mask is {mask.shape}, the image is {self._height, self._width}")
        values = torch.from_numpy(np.array(mask, np.float32, order="C"))
        if not ((values >= 0) & (values <= 1)).all():
            raise UsageError("mask holds numbers that are no probabilities")
        return values[None, None].to(self._image.device)

    def _aim(self, clicks: Sequence[Click], found: Tensor) -> Region | None:
        """Where to look: None for the whole picture, unzoomed."""
        zoom = self._zoom
        if zoom is None or len(clicks) <= zoom.skip_clicks:
            return None
        region = self._region_of(found, clicks)
        if region is None:
            if zoom.skip_clicks >= 0:
                return None
            region = (0, self._height - 1, 0, self._width - 1)
        if (
            self.roi is None
            or not _holds(self.roi, clicks)
            or _overlap(region, self.roi) < zoom.recompute_thresh_iou
        ):
            self.roi = region
        return self.roi

    def _region_of(self, found: Tensor, clicks: Sequence[Click]) -> Region | None:
        """The surroundings of what was found, and of the positive clicks; None if nothing was."""
        assert self._zoom is not None
        pixels = (found[0, 0] > self._zoom.prob_thresh).cpu().numpy()  # (H, W)
        if not pixels.any():
            return None
        for click in clicks:
            if click.positive:
                pixels[int(click.row), int(click.col)] = True
        spans = []
        for axis in (1, 0):
            (places,) = np.nonzero(pixels.any(axis=axis))
            spans.append(self._span(int(places[0]), int(places[-1]), pixels.shape[1 - axis]))
        return *spans[0], *spans[1]

    def _span(self, first: int, last: int, length: int) -> tuple[int, int]:
        """One side of a region, from one side of the object."""
        assert self._zoom is not None
        side = max(self._zoom.expansion_ratio * (last - first + 1), self._zoom.min_crop_size)
        middle = 0.5 * (first + last)  # round() takes halves to even numbers, as it must
        return max(0, round(middle - 0.5 * side)), min(length - 1, round(middle + 0.5 * side))

    def _looks_again(self, answer: Tensor) -> bool:
        """Whether the answer to a whole picture says that the object is small."""
        if self._zoom is None or self._zoom.skip_clicks > 0 or self.roi is not None:
            return False
        region = self._region_of(answer, ())
        whole = (0, self._height - 1, 0, self._width - 1)
        return region is not None and _overlap(region, whole) < _LOOK_AGAIN

    def _look(self, region: Region | None, previous: Tensor, clicks: Sequence[Click]) -> Tensor:
        """Probabilities (1, 1, H, W) from a look at a region, or at the whole picture."""
        x = self._image
        if self._network.config.with_prev_mask:
            x = torch.cat([x, previous], dim=1)  # (1, 4, H, W)
        if region is None:
            return self._limited(x, clicks)
        assert self._zoom is not None
        top, bottom, left, right = region
        x = x[:, :, top : bottom + 1, left : right + 1]
        part, clicks = _scaled(x, clicks, (top, left), self._zoom.target_size)
        answer = _resized(self._limited(part, clicks), x.shape[2:])
        whole = torch.zeros_like(previous)
        whole[:, :, top : bottom + 1, left : right + 1] = answer
        return whole

    def _limited(self, x: Tensor, clicks: Sequence[Click]) -> Tensor:
        """Probabilities of (1, 4, h, w), by way of a smaller picture if it has too long a side."""
        if self._limit is None or max(x.shape[2:]) <= self._limit:
            return self._both_ways(x, clicks)
        small, clicks = _scaled(x, clicks, (0, 0), self._limit)
        return _resized(self._both_ways(small, clicks), x.shape[2:])

    def _both_ways(self, x: Tensor, clicks: Sequence[Click]) -> Tensor:
        """Probabilities of the mean logits of a picture and its mirror image."""
        if not self._flip:
            return self._network.logits(x, points_of([clicks]).to(x.device)).sigmoid()
        points = points_of([clicks, mirrored(clicks, x.shape[3])]).to(x.device)
        logits = self._network.logits(torch.cat([x, x.flip(3)]), points)  # (2, 1, h, w)
        return (0.5 * (logits[:1] + logits[1:].flip(3))).sigmoid()


def _scaled(
    x: Tensor, clicks: Sequence[Click], start: tuple[int, int], target: int | tuple[int, int]
) -> tuple[Tensor, list[Click]]:
    """A part of a picture, (1, 4, h, w) from `start` on, and the clicks, at the target size."""
    height, width = x.shape[2:]
    if isinstance(target, tuple):
        new_height, new_width = target
    else:
        scale = target / max(height, width)
        new_height, new_width = (max(1, round(side * scale)) for side in (height, width))
    placed = [
        Click(
            new_height * (c.row - start[0]) / height,
            new_width * (c.col - start[1]) / width,
            c.positive,
        )
        for c in clicks
    ]
    return _resized(x, (new_height, new_width)), placed


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def _holds(region: Region, clicks: Sequence[Click]) -> bool:
    """Whether all positive clicks are in a region; on its last row or column is outside."""
    top, bottom, left, right = region
    return all(top <= c.row < bottom and left <= c.col < right for c in clicks if c.positive)


def _overlap(a: Region, b: Region) -> float:
    """The rows' intersection over union, times the columns'."""
    product = 1.0
    for k in (0, 2):
        both = max(0, min(a[k + 1], b[k + 1]) - max(a[k], b[k]) + 1)
        product *= both / (max(a[k + 1], b[k + 1]) - min(a[k], b[k]) + 1)
    return product
