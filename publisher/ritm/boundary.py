"""
A small network that moves outlines: from a rough mask to the border of the object.

RITM finds objects from clicks at a quarter of the resolution; this one is asked another
question. The object is known, roughly, and lies in the picture at one size: sqrt(area) = 60 to
120 pixels. All that is open is on which pixel it ends. So it sees how deep each pixel lies in
the rough mask, works at half the resolution and below, and answers with a correction to that
depth: where the picture shows nothing, the mask stays as it was. How far it may be moved, it
sees from the prior: that rises slowly where the outline is coarse (`eligibility.doubt`).

In the shapes at line ends B is the batch, H and W the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

REACH = 32  # pixels; deeper is as deep
_STRIDE = 16  # sides are filled up to a multiple of it


@dataclass(frozen=True, slots=True)
class BoundaryConfig:
    """What the network is built of: `widths` are channels at 1/2, 1/4, 1/8, 1/16."""

    widths: tuple[int, ...] = (24, 40, 64, 96)


class BoundaryNetwork(nn.Module):
    """
    Called as RITM's network is, and answers alike; clicks do not count.

    A U-Net (Ronneberger, Fischer, Brox, 2015) whose input and output are shuffled between
    space and channels (Shi et al., 2016), so that the finest layers work at half resolution.
    """

    def __init__(self, config: BoundaryConfig) -> None:
        super().__init__()
        self.config = config
        *finer, coarsest = config.widths
        inputs = [4 * 6, *config.widths[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(_block(into, out, 3, 2 if level else 1), _block(out, out, 3))
            for level, (into, out) in enumerate(zip(inputs, config.widths, strict=True))
        )
        self.middle = nn.Sequential(_block(coarsest, coarsest, 3), _block(coarsest, coarsest, 3))
        below = [*config.widths[:0:-1]]
        self.up = nn.ModuleList(
            nn.Sequential(_block(under + out, out, 1), _block(out, out, 3))
            for under, out in zip(below, reversed(finer), strict=True)
        )
        first = config.widths[0]
        self.out = nn.Sequential(_block(first, first, 3), nn.Conv2d(first, 4, 1))

    def forward(self, x: Tensor, points: Tensor | None = None) -> dict[str, Tensor]:
        """
        Segment pictures: `{"instances": logits (B, 1, H, W)}`.

        Args:
            x: (B, 4, H, W) float; R, G, B in 0..1 and the rough mask as probabilities, which
                cross 1/2 on its outline.
            points: not read; here because every network is called with them.
        """
        return {"instances": self.logits(x, points)}

    def logits(self, x: Tensor, points: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """The logits (B, 1, H, W) alone."""
        return self.corrected(self.seen(x))

    @staticmethod
    def seen(x: Tensor) -> Tensor:
        """What the network looks at (B, 6, H, W): colours, the prior, and two depths in it."""
        return BoundaryNetwork.looked_at(x, depth_in(x[:, 3:] > 0.5))

    @staticmethod
    def looked_at(x: Tensor, depth: Tensor) -> Tensor:
        """The same, where the depths (B, 1, H, W) are known."""
        return torch.cat([2 * x - 1, torch.tanh(depth / 8), torch.tanh(depth / 24)], 1)

    def corrected(self, seen: Tensor) -> Tensor:
        """The logits (B, 1, H, W) for what is `seen` (B, 6, H, W)."""
        height, width = seen.shape[2:]
        right, below = -width % _STRIDE, -height % _STRIDE
        y = F.pixel_unshuffle(F.pad(seen, (0, right, 0, below), mode="replicate"), 2)
        levels = []
        for down in self.down:
            y = down(y)  # (B, widths[level], H / 2 ** (level + 1), W / 2 ** (level + 1))
            levels.append(y)
        y = self.middle(y)
        for up, level in zip(self.up, reversed(levels[:-1]), strict=True):
            y = F.interpolate(y, scale_factor=2.0, mode="nearest")
            y = up(torch.cat([y, level], 1))
        moved = F.pixel_shuffle(self.out(y), 2)[..., :height, :width]  # (B, 1, H, W)
        return moved.float() + 3 * seen[:, 4:5]


def depth_in(mask: Tensor, reach: int = REACH) -> Tensor:
    """
    How deep each pixel lies in its mask (B, 1, H, W) bool, in pixels, at most `reach`.

    Negative outside; exact, as `distance.signed` with a limit. `reach` is at most 128, whose
    square fits in 16 bits twice: half as wide as float32, so twice as quick.
    """
    both = torch.cat([mask, ~mask])  # (2B, 1, H, W)
    rows = _along_rows(both, reach) ** 2
    best = rows.clone()
    for dy in range(1, min(reach, mask.shape[2])):  # down is quicker than along: whole blocks
        further = rows + dy * dy
        torch.minimum(best[:, :, dy:], further[:, :, :-dy], out=best[:, :, dy:])
        torch.minimum(best[:, :, :-dy], further[:, :, dy:], out=best[:, :, :-dy])
    inside, outside = best.float().sqrt().chunk(2)
    return inside - outside


def _along_rows(mask: Tensor, reach: int) -> Tensor:
    """The distance from each pixel to the nearest False one of its row, at most `reach`."""
    near = mask.to(torch.int16) * reach
    step = 1
    while step < reach:  # what is known from pixels less than `step` away, from twice as far
        known = near
        near = known.clone()
        torch.minimum(near[..., step:], known[..., :-step] + step, out=near[..., step:])
        torch.minimum(near[..., :-step], known[..., step:] + step, out=near[..., :-step])
        step *= 2
    return near


def _block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
