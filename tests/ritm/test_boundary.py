"""The network that moves outlines: one answer a picture, of any size, and none without reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from publisher import ritm
from publisher.errors import CheckpointError, UsageError
from publisher.refine import Crop
from publisher.ritm import weights
from publisher.ritm.boundary import REACH, BoundaryConfig, BoundaryNetwork, depth_in
from publisher.ritm.predictor import Predictor
from publisher.ritm.quick import folded
from publisher.shapes import distance

from .build import picture

TINY = BoundaryConfig((4, 6, 8))


def tiny():
    """A random network whose answers depend on what it sees."""
    torch.manual_seed(0)
    network = BoundaryNetwork(TINY)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    network.train()(torch.rand(4, 4, 32, 32))
    return network.eval().requires_grad_(False)


def question(height=40, width=56, seed=0):
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.random((1, 4, height, width), np.float32))
    x[:, 3] = 0
    x[:, 3, height // 4 : -height // 4, width // 3 : -width // 3] = 0.9
    return x


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (64, 64), (50, 33)])
def test_depths_are_exact_up_to_a_reach(size):
    random = np.random.default_rng(1)
    for mask in (random.random(size) < 0.9, random.random(size) < 0.02, np.zeros(size, bool)):
        found = depth_in(torch.from_numpy(mask)[None, None])[0, 0].numpy()
        assert np.abs(found - distance.signed(mask, REACH)).max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (33, 17), (48, 64)])
def test_an_answer_has_the_picture_s_size(size):
    out = tiny()(torch.rand(2, 4, *size), torch.full((2, 2, 3), -1.0))
    assert out["instances"].shape == (2, 1, *size)
    assert out["instances"].isfinite().all()


def test_an_answer_does_not_depend_on_batch_mates():
    network, mine = tiny(), question()
    alone = network.logits(mine)
    together = network.logits(torch.cat([question(seed=5), mine]))[1:]
    assert (alone - together).abs().max() < 1e-4


def test_where_nothing_is_seen_the_outline_stays():
    network = tiny()
    torch.nn.init.zeros_(network.out[1].weight)
    torch.nn.init.zeros_(network.out[1].bias)
    x = question()
    assert ((network.logits(x) > 0) == (x[:, 3:] > 0.5)).all()


def test_folded_it_answers_alike():
    network, x = tiny(), question()
    assert (folded(network).logits(x) - network.logits(x)).abs().max() < 1e-3


def test_it_answers_crops():
    crop = Crop(picture(40, 50), np.zeros((40, 50), np.float32), zoom=1.3, flip=True)
    (found,) = Predictor(tiny()).predict([crop])
    assert found.shape == (40, 50)


def test_it_cannot_be_clicked():
    with pytest.raises(UsageError, match="reads no clicks"):
        Predictor(tiny()).session(picture(40, 50))


def test_a_file_holds_it_and_is_the_same_each_time(tmp_path):
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    network = tiny()
    weights.save(network, one, {"b": "2", "a": "1", "c": "3"})
    weights.save(network, other, {"c": "3", "a": "1", "b": "2"})
    assert one.read_bytes() == other.read_bytes()
    read = ritm.load(one).network
    assert isinstance(read, BoundaryNetwork)
    assert read.config == TINY
    assert (read.logits(question()) == network.logits(question())).all()


@pytest.mark.parametrize(
    "config",
    [
        {"widths": []},
        {"widths": [8]},
        {"widths": [4, 6, 10**9]},
        {"widths": [4, 6, True]},
        {"widths": "4,6,8"},
        {"widths": [4, 6, 8], "more": 1},
        {"widths": [4, 6, 9]},
    ],
)
def test_a_file_that_asks_for_another_network_is_refused(tmp_path, config):
    path = tmp_path / "evil.safetensors"
    entry = weights.canonical_json({"class": "publisher.BoundaryNetwork", **config}).decode()
    state = {name: tensor.contiguous() for name, tensor in tiny().state_dict().items()}
    path.write_bytes(weights.safetensors.torch.save(state, {"config": entry}))
    with pytest.raises(CheckpointError):
        ritm.load(path)
