"""The networks that ship: the files that the card names, and worth their bytes."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors

from publisher import ritm
from publisher.files import sha256_of
from publisher.masks import Mask
from publisher.refine import Crop
from publisher.refinement.perturb import LEVELS, draw
from publisher.ritm import weights

FILES = sorted(weights.MODELS.glob("*.safetensors"))
CARD = (weights.MODELS / "README.md").read_text("utf-8")


def test_all_that_is_promised_ships_and_is_small():
    assert {*ritm.SHIPPED} <= {path.stem for path in FILES}
    assert sum(path.stat().st_size for path in FILES) <= 8e6


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_card_names_each_file(path):
    assert f"| `{path.stem}` | `{path.name}` | `{sha256_of(path)}` |" in CARD


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_says_how_it_was_made_and_whose_pictures_it_saw(path):
    with safetensors.safe_open(path, "np") as stream:
        metadata = stream.metadata()
    assert metadata["made by"] == f"training/shipped.py {path.stem}"
    assert "CC BY 4.0" in metadata["learned from"]
    assert "CC0" in metadata["learned from"]


def scene():
    """A pear-shaped thing on a striped ground, (H, W, 3), and where it is."""
    y, x = np.mgrid[:160, :200]
    truth = (np.hypot(y - 95, x - 100) < 42) | (np.hypot((y - 50) * 0.8, x - 96) < 24)
    ground = np.stack([90 + 30 * np.sin(x / 7), 110 + 20 * np.sin(y / 9), 70 + 0 * x], axis=2)
    image = np.where(truth[..., None], [190, 150, 60], ground)
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), truth


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("name", ritm.SHIPPED)
def test_a_coarse_outline_becomes_a_better_one(name):
    image, truth = scene()
    polygons = draw(Mask.from_array(truth), LEVELS["coarse"], np.random.default_rng(1))
    rough = Mask.from_polygons(polygons, *truth.shape).to_array().view(bool)
    zoom = 80 / float(np.sqrt(rough.sum()))
    crop = Crop(image, rough.astype(np.float32), zoom=zoom, flip=True)
    (logits,) = ritm.load(name).predict([crop])
    assert iou(rough, truth) < 0.93
    assert iou(logits > 0, truth) > iou(rough, truth) + 0.02
