"""Which course trains which network, and where it begins."""

from __future__ import annotations

import torch

from . import weights
from .boundary import BoundaryConfig, BoundaryNetwork
from .click_training import ClickCourse, beginner
from .network import Config, Network
from .train import BATCH, BoundaryCourse

KINDS: dict[str, Config | BoundaryConfig] = {
    "boundary": BoundaryConfig(),
    "clicks": Config(width=6, ocr_width=12),
}
"""The networks that are trained where nothing else is said, by name."""


def begun(
    config: Config | BoundaryConfig, *, seed: int, batch: int = BATCH, device: str = "cpu"
) -> BoundaryCourse | ClickCourse:
    """A course of an untrained network, whose first weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(config, BoundaryConfig):
            return _course(BoundaryNetwork(config), seed, batch, device)
        return _course(beginner(config), seed, batch, device)


def tuning(
    start: str, *, seed: int, batch: int = BATCH, device: str = "cpu"
) -> BoundaryCourse | ClickCourse:
    """A course that begins with weights, by name or path; raises as `weights.find` and `read`."""
    return _course(weights.read(weights.find(start)).requires_grad_(True), seed, batch, device)


def _course(
    network: Network | BoundaryNetwork, seed: int, batch: int, device: str
) -> BoundaryCourse | ClickCourse:
    if isinstance(network, BoundaryNetwork):
        return BoundaryCourse(network, seed=seed, batch=batch, device=device)
    return ClickCourse(network, seed=seed, batch=batch, device=device)
