"""The network computes what the official code computes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from publisher.ritm.network import Config, Network
from publisher.ritm.quick import folded

from .build import PUBLISHED, h18s, lively, picture, reference, small

LAYOUTS = {  # sha256 of the names, shapes and types of the official checkpoints' tensors
    "h18s": "a894e08bc7564ba7ba3d338cab49985be201df5ae7cb40a9a2150e30c72de1d6",
    "h18": "a05e9443d88eed81c0e4f5d7ef784ae7f007e910d242c528dd2f4ab8ca76deaa",
    "h32": "a6f768b1be67cce6304db08acdf47489286a190aa0814058ecff5a1f858ff402",
}
ABSENT = [-1.0, -1, -1]


@pytest.mark.parametrize("name", LAYOUTS)
def test_tensors_are_called_and_shaped_as_in_the_official_checkpoints(name):
    with torch.device("meta"):
        state = Network(PUBLISHED[name]).state_dict()
    lines = (f"{n} {tuple(t.shape)} {str(t.dtype)[6:]}" for n, t in state.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == LAYOUTS[name]


def reference_input(case):
    """The picture with a previous mask (1, 4, H, W), and points (1, 2N, 3)."""
    kit = reference()
    image = torch.from_numpy(kit["image"]).permute(2, 0, 1).float() / 255
    blank = np.zeros(image.shape[1:], np.uint16)
    mask = torch.from_numpy(kit.get(f"{case}/prev_mask", blank).astype(np.float32) / 65535)
    return torch.cat([image, mask[None]])[None], torch.from_numpy(kit[f"{case}/points"])


@pytest.mark.parametrize("case", ["net0", "net1", "net2"])
def test_logits_are_the_official_ones(case):
    with torch.inference_mode():
        found = h18s().network(*reference_input(case))
    for name, logits in found.items():
        wanted = torch.from_numpy(reference()[f"{case}/{name}"])
        assert (logits[0, 0, ::6, ::6] - wanted).abs().max() < 2e-3


def test_click_disks_are_the_official_ones_outside_the_picture_and_between_pixels_too():
    x, points = reference_input("net1")
    disks = h18s().network.click_maps(x, points)[0].numpy()
    assert (np.packbits(disks.astype(bool)) == reference()["disks"]).all()


def test_folding_the_normalisations_changes_logits_by_rounding_only():
    x, points = reference_input("net1")
    with torch.inference_mode():
        exact = h18s().network.logits(x, points)
        quick = folded(h18s().network).logits(x, points)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded(small().network).modules())
    assert (exact - quick).abs().max() < 1e-3


VARIANTS = {
    "baseline": Config(width=4, ocr_width=4, with_prev_mask=False),
    "rgb conv": Config(width=4, ocr_width=4, use_rgb_conv=True),
    "relu": Config(width=4, ocr_width=4, use_leaky_relu=False),
    "extended conv": Config(width=4, ocr_width=4, conv_extend=True),
    "distances": Config(width=4, ocr_width=4, use_disks=False, norm_radius=260),
    "no OCR": Config(width=4, ocr_width=0, with_aux_output=False),
    "four blocks": Config(width=4, ocr_width=4, small=False),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_network_gives_logits_of_the_picture_s_size(name):
    network = lively(VARIANTS[name])
    x = torch.rand(2, 4, 37, 50)
    points = torch.tensor([[[5.5, 7, 0], ABSENT], [[20, 30, 0], [1, 1, 1]]])
    found = network(x, points)
    assert set(found) == {"instances"} | ({"instances_aux"} if name != "no OCR" else set())
    assert all(logits.shape == (2, 1, 37, 50) for logits in found.values())
    quick = folded(network).logits(x, points)
    assert (quick - found["instances"]).abs().max() < 1e-3


def test_a_network_without_previous_mask_ignores_a_fourth_channel():
    network = lively(VARIANTS["baseline"])
    x, points = torch.rand(1, 4, 32, 32), torch.tensor([[[5.0, 7, 0], ABSENT]])
    assert network.logits(x, points).equal(network.logits(x[:, :3], points))


def test_a_network_with_previous_mask_says_that_it_is_missing():
    with pytest.raises(ValueError, match="previous mask"):
        small().network(torch.rand(1, 3, 32, 32), torch.tensor([[ABSENT, ABSENT]]))


def test_a_binary_previous_mask_is_parted_at_a_half():
    network = lively(replace(Config(width=4, ocr_width=4), binary_prev_mask=True))
    x, points = torch.rand(1, 4, 32, 32), torch.tensor([[ABSENT, ABSENT]])
    parted = x.clone()
    parted[:, 3] = (x[:, 3] > 0.5).float()
    assert network.logits(x, points).equal(network.logits(parted, points))


def test_padding_and_the_order_of_clicks_change_nothing():
    x = torch.rand(1, 4, 40, 56)
    few = torch.tensor([[[5.0, 7, 0], [20, 30, 1], [33, 2, 2], ABSENT]])
    many = torch.tensor([[[20.0, 30, 1], ABSENT, [5, 7, 0], ABSENT, [33, 2, 2], ABSENT]])
    assert small().network.logits(x, few).equal(small().network.logits(x, many))


def test_without_disks_a_click_fades_with_the_distance():
    network = Network(VARIANTS["distances"])
    points = torch.tensor([[[10.0, 10, 0], ABSENT]])
    near, far = network.click_maps(torch.zeros(1, 4, 32, 32), points)[0]
    assert near[10, 10] == 0
    assert near[10, 20] == pytest.approx(np.tanh(2 * 10 / 260))
    assert (far == 1).all()  # no click of this kind


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (33, 17), (64, 65)])
def test_any_size_works(size):
    image = torch.from_numpy(picture(*size)).permute(2, 0, 1)[None].float() / 255
    x = torch.cat([image, torch.zeros(1, 1, *size)], dim=1)
    logits = small().network.logits(x, torch.tensor([[[0.0, 0, 0], ABSENT]]))
    assert logits.shape == (1, 1, *size)
    assert logits.isfinite().all()
