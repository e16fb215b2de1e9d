"""On a GPU: the same masks, whatever is asked about together. Run by `make gpu`."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from publisher import ritm
from publisher.refine import Click, Crop
from publisher.ritm.predictor import Predictor

from .build import h18s, picture

pytestmark = pytest.mark.gpu


def crops(count: int = 40) -> list[Crop]:
    """Disks of many sizes, each outlined a little beside itself."""
    random = np.random.default_rng(3)
    found = []
    for k in range(count):
        height, width = random.integers(90, 400, 2).tolist()
        rows, columns = np.mgrid[:height, :width]
        radius = min(height, width) / 3
        far = np.hypot(rows - height / 2, columns - width / 2)
        image = picture(height, width, k) // 3
        image[far < radius] += 120
        prior = 1 / (1 + np.exp((far - radius * random.uniform(0.85, 1.15)) / 6))
        zoom = float(random.uniform(0.5, 1.3))
        found.append(Crop(image, prior.astype(np.float32), (), zoom, flip=bool(k % 2)))
    return found


@pytest.fixture(scope="module")
def boundary() -> Predictor:
    return ritm.load("boundary", device="cuda")


def test_masks_are_those_of_the_cpu(boundary):
    exact = Predictor(ritm.load("boundary").network, precision="float32").predict(crops())
    ious = []
    for one, other in zip(boundary.predict(crops()), exact, strict=True):
        a, b = one > 0, other > 0
        ious.append((a & b).sum() / (a | b).sum())
    assert np.mean(ious) > 0.999
    assert min(ious) > 0.99


def test_in_float32_logits_are_those_of_the_cpu():
    network = h18s().network
    question = [Crop(picture(96, 160), np.full((96, 160), 0.5, np.float32), (Click(40, 70),))]
    found = Predictor(network, device="cuda", precision="float32").predict(question)
    network.to("cpu")
    exact = Predictor(network, precision="float32").predict(question)
    for one, other in zip(found, exact, strict=True):
        assert np.abs(one - other).max() < 0.01 * np.abs(other).max()


def test_an_answer_depends_on_nothing_but_its_crop(boundary):
    questions = crops()
    together = boundary.predict(questions)
    order = np.random.default_rng(1).permutation(len(questions)).tolist()
    for _ in range(4):  # from the third time on, recordings answer
        for k, found in zip(order, boundary.predict([questions[k] for k in order]), strict=True):
            assert np.array_equal(found, together[k])
    assert np.array_equal(boundary.predict(questions[7:8])[0], together[7])


def test_when_memory_runs_out_all_are_answered_in_smaller_batches():
    whole = ritm.load("boundary", device="cuda").predict(crops())
    gc.collect()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + 6e8
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])
    try:
        found = ritm.load("boundary", device="cuda").predict(crops())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    for one, other in zip(found, whole, strict=True):
        assert one.shape == other.shape
        assert ((one > 0) != (other > 0)).mean() < 0.01


def test_clicks_find_the_same_object():
    network = h18s().network
    image = picture(120, 160)
    clicks = [Click(60, 80)]
    on_cpu = Predictor(network).session(image).predict(clicks)
    on_gpu = Predictor(network, device="cuda").session(image).predict(clicks)
    network.to("cpu")
    assert np.abs(on_cpu - on_gpu).max() < 5e-3
