"""Networks for tests: the reference's random weights, and small ones that take no time."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from publisher.refine import Click
from publisher.ritm.network import Config, Network
from publisher.ritm.predictor import Predictor
from publisher.ritm.weights import official_config

DATA = Path(__file__).parent / "data"
SMALL = Config(width=4, ocr_width=4)
PUBLISHED = {
    "h18s": Config(width=18, ocr_width=48, small=True),
    "h18": Config(width=18, ocr_width=64, small=False),
    "h32": Config(width=32, ocr_width=128, small=False),
}


@cache
def reference(name: str = "reference_h18s") -> dict[str, Any]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


@cache
def h18s() -> Predictor:
    """The network that the reference was computed with."""
    stored = reference("statistics_h18s")
    ends = np.cumsum(stored["lengths"])
    known = dict(zip(stored["names"].tolist(), np.split(stored["values"], ends[:-1]), strict=True))
    network = Network(PUBLISHED["h18s"])
    state = {}
    for name, tensor in network.state_dict().items():
        values = known[name] if name in known else random_values(name, tuple(tensor.shape))
        state[name] = torch.from_numpy(np.array(values)).reshape(tensor.shape).to(tensor.dtype)
    network.load_state_dict(state)
    return Predictor(network)


def random_values(name: str, shape: tuple[int, ...]) -> Any:
    """The values that the reference gives to a tensor that is not stored."""
    random = np.random.RandomState(zlib.crc32(f"h18s/{name}".encode()) & 0x7FFFFFFF)
    match name.rsplit(".", 1)[-1]:
        case "num_batches_tracked":
            return 3
        case "scale":
            return 0.8
        case "bias":
            return (0.1 * random.standard_normal(shape)).astype(np.float32)
        case _ if len(shape) == 1:
            return (1 + 0.2 * random.standard_normal(shape)).astype(np.float32)
        case _:
            spread = np.sqrt(2 / np.prod(shape[1:]))
            return (spread * random.standard_normal(shape)).astype(np.float32)


def lively(config: Config = SMALL, seed: int = 0) -> Network:
    """A random network whose answers depend on what it sees."""
    torch.manual_seed(seed)
    network = Network(config)
    for name, parameter in network.named_parameters():
        if name.endswith("scale"):
            parameter.data.fill_(-0.8)
        elif parameter.dim() == 4:
            torch.nn.init.kaiming_normal_(parameter)
        else:
            parameter.data += 0.1 * torch.randn_like(parameter)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    points = torch.tensor([[[20.0, 30, 0], [-1, -1, -1]]] * 4)
    network.train()
    with torch.no_grad():
        network(torch.rand(4, 4 if config.with_prev_mask else 3, 64, 64), points)
    return network.eval().requires_grad_(False)


@cache
def small(seed: int = 0, precision: str | None = None) -> Predictor:
    return Predictor(lively(seed=seed), precision=precision)


def checkpoint(network: Network) -> dict[str, Any]:
    """What the official code would save."""
    config = official_config(network.config)
    mean, std = config["params"]["norm_mean_std"]["value"]
    config["params"]["norm_mean_std"]["value"] = (mean, std)
    config["params"]["norm_layer"] = {
        "type": "class",
        "value": "torch.nn.modules.batchnorm.BatchNorm2d",
        "specified": False,
    }
    config["params"]["clicks_groups"] = {"type": "builtin", "value": None, "specified": False}
    return {"state_dict": network.state_dict(), "config": config}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 of coarse noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


def clicks_of(rows: Any) -> list[Click]:
    return [Click(float(row), float(col), bool(positive)) for row, col, positive, *_ in rows]
