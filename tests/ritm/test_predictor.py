"""Crops in batches: quick, and each answer its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from publisher.errors import UsageError
from publisher.refine import Click, Crop
from publisher.ritm.clicks import points_of
from publisher.ritm.predictor import Predictor

from .build import picture, small


def crop(height=48, width=64, seed=0, **changes):
    random = np.random.default_rng(seed)
    prior = random.random((height, width), np.float32)
    clicks = (Click(height / 3, width / 2), Click(1, 1, positive=False))
    return Crop(picture(height, width, seed), prior, changes.pop("clicks", clicks), **changes)


def test_an_answer_is_the_network_s_up_to_rounding():
    question = crop()
    image = torch.from_numpy(question.image).permute(2, 0, 1).float() / 255
    x = torch.cat([image, torch.from_numpy(question.prior)[None]])[None]
    exact = small().network.logits(x, points_of([question.clicks]))[0, 0].numpy()
    (found,) = small(precision="float32").predict([question])
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 1e-3
    (rounded,) = small(precision="bfloat16").predict([question])
    assert rounded.dtype == np.float32
    assert np.abs(rounded - exact).max() > 1e-3  # or nothing was gained
    assert np.corrcoef(rounded.ravel(), exact.ravel())[0, 1] > 0.98


def test_only_machines_that_compute_in_bfloat16_round_to_it(monkeypatch):
    for capabilities, precision in (
        ({}, "float32"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c, raising=False)
        assert Predictor(small().network).precision == precision
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert Predictor(small().network).precision == "float32"


def test_sessions_and_the_network_itself_never_round():
    image = picture(48, 64)
    found = [
        small(precision=precision).session(image).predict([Click(20, 30)])
        for precision in ("float32", "bfloat16")
    ]
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_answer_does_not_depend_on_the_others(precision):
    crops = [crop(seed=1), crop(37, 50, seed=2, flip=True), crop(seed=3, zoom=0.7), crop(seed=4)]
    predictor = small(precision=precision)
    together = predictor.predict(crops)
    for alone, found in zip(reversed(crops), reversed(together), strict=True):
        assert (predictor.predict([alone])[0] == found).all()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert all(map(np.array_equal, predictor.predict(crops), together))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_mirrored_crop_has_the_mirrored_answer():
    question = crop(flip=True)
    clicks = tuple(Click(c.row, 63 - c.col, c.positive) for c in question.clicks)
    other = Crop(question.image[:, ::-1], question.prior[:, ::-1], clicks, flip=True)
    found, mirrored = small(precision="float32").predict([question, other])
    assert np.abs(found - mirrored[:, ::-1]).max() < 1e-3


@pytest.mark.parametrize("zoom", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (33, 17)])
def test_answers_have_the_crop_s_size_at_any_zoom(size, zoom):
    (found,) = small().predict([crop(*size, zoom=zoom, clicks=())])
    assert found.shape == size
    assert np.isfinite(found).all()


def test_a_click_stays_on_its_pixel_at_any_zoom():
    seen = []

    class Spy(type(small())):  # type: ignore[misc]
        def _logits(self, x, points):
            seen.append(points[0, 0, :2].tolist())
            return super()._logits(x, points)

    predictor = Spy(small().network)
    predictor.predict(
        [crop(zoom=2.0, clicks=(Click(0, 0),)), crop(zoom=2.0, clicks=(Click(47, 63),))]
    )
    assert seen == [[0.5, 0.5], [94.5, 126.5]]  # the middle of the 2x2 pixels


@pytest.mark.parametrize(
    "changes",
    [
        {"zoom": 0.0},
        {"zoom": float("nan")},
        {"zoom": 1e6},
        {"clicks": (Click(48, 0),)},
        {"clicks": (Click(float("nan"), 0),)},
    ],
)
def test_a_crop_that_makes_no_sense_is_refused(changes):
    with pytest.raises(UsageError):
        small().predict([crop(**changes)])


def test_arrays_that_do_not_fit_are_refused():
    good = crop()
    for image, prior in (
        (good.image[:9], good.prior),
        (good.image, good.prior.copy().clip(2)),
        (good.image.astype(np.float32), good.prior),
    ):
        with pytest.raises(UsageError):
            small().predict([Crop(image, prior)])


# ── as on a GPU, but on the CPU ──────────────────────────────────────────────────────────────


def batched(crops, rows, monkeypatch):
    monkeypatch.setattr("publisher.ritm.predictor._BATCH", rows)
    with torch.inference_mode():
        return small()._in_batches(crops)


def test_batches_of_one_size_give_each_crop_its_own_answer(monkeypatch):
    crops = [crop(seed=1), crop(64, 64, seed=2, flip=True), crop(seed=3), crop(65, 30, seed=4)]
    together = batched(crops, 4, monkeypatch)
    backwards = batched(crops[::-1], 4, monkeypatch)[::-1]
    for question, found, other in zip(crops, together, backwards, strict=True):
        assert np.abs(found - batched([question], 4, monkeypatch)[0]).max() == 0
        assert np.abs(found - other).max() == 0
        assert found.shape == question.prior.shape
    exact = small().predict(crops[1:2])[0]  # 64 pixels: nothing to fill up, so but for bfloat16
    assert np.corrcoef(together[1].ravel(), exact.ravel())[0, 1] > 0.98


def test_when_memory_runs_out_batches_are_halved(monkeypatch):
    tried = []
    batch = small()._batch

    def scarce(crops, size, rows):
        tried.append(rows)
        if rows > 2:
            raise torch.cuda.OutOfMemoryError
        return batch(crops, size, rows)

    monkeypatch.setattr(small(), "_batch", scarce)
    crops = [crop(seed=seed) for seed in range(3)]
    assert len(batched(crops, 8, monkeypatch)) == 3
    assert tried == [8, 4, 2, 2]


@pytest.mark.parametrize("device", ["abacus", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_a_usage_error(device):
    if device == "cuda:99" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match=device):
        Predictor(small().network, device=device)
