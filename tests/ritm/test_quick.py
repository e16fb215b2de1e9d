"""Networks made quicker: the same answers, with fewer and larger steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from publisher import ritm
from publisher.ritm.network import Config, Exact, Network
from publisher.ritm.quick import Fused, fused

from .build import small

POINTS = torch.tensor([[[20.0, 30, 0], [-1, -1, -1]]])
PICTURE = torch.rand(1, 4, 72, 90, generator=torch.Generator().manual_seed(1))


def trained(config: Config) -> Network:
    """A network whose normalisations do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(config)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(
    "config",
    [
        Config(width=18, ocr_width=48),  # 18 and 36 channels are filled up to 24 and 40
        Config(width=8, ocr_width=8, small=False),
        Config(width=6, ocr_width=0),
        Config(width=4, ocr_width=4, use_rgb_conv=True),
        Config(width=4, ocr_width=4, conv_extend=True),
    ],
    ids=["h18s", "not small", "no OCR", "rgb_conv", "conv_extend"],
)
def test_fused_it_computes_the_same(config):
    network = trained(config)
    quick = fused(network, torch.float32)
    with torch.inference_mode():
        exact, found = (n.logits(PICTURE, POINTS) for n in (network, quick))
    assert found.shape == exact.shape
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()


def test_a_shipped_network_is_fused_too():
    network = ritm.load("boundary").network
    quick = fused(network, torch.float32)
    x = torch.rand(1, 4, 64, 80, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        exact, found = (n.logits(x) for n in (network, quick))
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()


def test_hardly_a_step_is_left_alone():
    quick = fused(trained(Config()))
    modules = list(quick.modules())
    assert not any(isinstance(m, nn.BatchNorm2d | nn.ReLU) for m in modules)
    assert sum(isinstance(m, Fused) for m in modules) > 100
    wide = [m.weight.shape for m in modules if isinstance(m, Fused)]
    assert all(out % 8 == 0 for out, *_ in wide)
    for module in modules:
        if isinstance(module, Fused):
            assert module.weight.dtype == torch.bfloat16
        if isinstance(module, Exact):
            assert module.weight.dtype == torch.float32


def test_the_network_itself_is_left_as_it_is():
    network = small().network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fused(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
