"""Training: it learns, and a run that was stopped ends as if it had not been."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from publisher import ritm, training, workspace
from publisher.cli import main
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import CheckpointError, InvalidDataset, UsageError
from publisher.ritm import courses, train
from publisher.ritm.boundary import BoundaryConfig, BoundaryNetwork
from publisher.ritm.click_training import ClickCourse, asked, beginner, next_click, normalised_focal
from publisher.ritm.composites import SIDE, Example
from publisher.ritm.network import Config
from publisher.ritm.train import BoundaryCourse, Pool
from tests.pngs import write_png

from .build import picture

Y, X = np.mgrid[:SIDE, :SIDE] - SIDE / 2


def disk(radius, seed):
    """A bright disk on a dark ground: what anybody can outline."""
    mask = np.hypot(Y, X) < radius
    noise = np.random.default_rng(seed).normal(0, 8, (SIDE, SIDE, 3))
    return Example((np.where(mask[..., None], 200, 60) + noise).astype(np.uint8), mask)


POOL = Pool.shared([(1, [disk(r, r) for r in (34, 42, 50)])])


def boundary_course(seed=0, batch=2):
    torch.manual_seed(seed)
    return BoundaryCourse(BoundaryNetwork(BoundaryConfig((6, 8, 12))), seed=seed, batch=batch)


def click_course(seed=0):
    torch.manual_seed(seed)
    return ClickCourse(beginner(Config(width=1, ocr_width=2)), seed=seed, batch=2)


def test_windows_lie_on_the_border_of_what_was_drawn():
    course = boundary_course(batch=6)
    drawn = course.draw(POOL, 6, np.random.default_rng(5))
    seen, truth, band = course._windows(drawn, np.random.default_rng(0))
    assert seen.shape == (6, 6, train.WINDOW, train.WINDOW)
    assert truth.shape == band.shape == (6, 1, train.WINDOW, train.WINDOW)
    for k in range(6):
        assert 0 < truth[k].mean() < 1
        bright = seen[k, 0] > 0
        assert (
            bright == (truth[k, 0] > 0.5)
        ).float().mean() > 0.99  # picture and truth go together
        assert ((seen[k, 3] > 0.5) == (truth[k, 0] > 0.5)).float().mean() > 0.8
        assert (band[k] > 0).any()


COURSES = [boundary_course, click_course]


class KilledError(Exception):
    pass


def killed_at(step):
    def on_step(done, _):
        if done == step:
            raise KilledError

    return on_step


def state(network):
    return torch.cat([tensor.float().flatten() for tensor in network.state_dict().values()])


def test_the_loss_falls():
    course = boundary_course(batch=4)
    losses = [course.take(course.draw(POOL, 4, np.random.default_rng(k)), 1e-2) for k in range(30)]
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:8])


@pytest.mark.parametrize("begun", COURSES)
def test_a_killed_run_ends_with_the_same_weights(begun, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_EVERY", 1)
    monkeypatch.setattr(train, "_WARM", 1)  # answers are asked about from the second step on
    whole = begun().run(POOL, tmp_path / "whole", steps=3, rate=1e-3)
    with pytest.raises(KilledError):
        begun().run(POOL, tmp_path / "cut", steps=3, rate=1e-3, on_step=killed_at(2))
    course = begun()
    resumed = course.run(POOL, tmp_path / "cut", steps=3, rate=1e-3)
    assert len(course.losses) == 1
    assert (state(resumed) == state(whole)).all()
    assert (state(resumed) != state(begun().average)).any()


@pytest.mark.parametrize("begun", COURSES)
def test_processes_that_draw_ahead_change_nothing(begun, tmp_path):
    one, other = (
        begun().run(POOL, tmp_path / f"{workers}", steps=3, rate=1e-3, workers=workers)
        for workers in (1, 2)
    )
    assert (state(one) == state(other)).all()


def test_an_interrupt_leaves_a_checkpoint_of_the_last_step(tmp_path):
    def on_step(done, _):
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        boundary_course().run(POOL, tmp_path / "c", steps=9, rate=1e-3, on_step=on_step)
    assert torch.load(tmp_path / "c", weights_only=True)["step"] == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Evil:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def test_a_checkpoint_that_is_a_program_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"recipe": Evil(), "step": 1}, "c")
    with pytest.raises(CheckpointError, match="torch cannot read it"):
        boundary_course().run(POOL, tmp_path / "c", steps=1, rate=1e-3)
    assert not Path("owned").exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    boundary_course().run(POOL, tmp_path / "c", steps=1, rate=1e-3)
    with pytest.raises(CheckpointError, match="another course"):
        boundary_course().run(POOL, tmp_path / "c", steps=2, rate=1e-3)
    kept = torch.load(tmp_path / "c", weights_only=True)
    torch.save({**kept, "network": {}}, tmp_path / "c")
    with pytest.raises(CheckpointError, match="does not fit"):
        boundary_course().run(POOL, tmp_path / "c", steps=1, rate=1e-3)


def test_hands_of_all_regimes_are_drawn():
    rng = np.random.default_rng(0)
    hands = [train.hand_of(rng) for _ in range(300)]
    assert sum(h.tolerance < 0.015 for h in hands) > 30
    assert sum(h.tolerance > 0.04 for h in hands) > 90
    assert any(h.growth > 0.02 for h in hands)
    assert any(h.growth < -0.02 for h in hands)
    assert any(h.shift > 0.03 for h in hands)


def test_sources_are_drawn_from_by_their_shares():
    pool = Pool.shared([(3, POOL.examples[:1]), (1, POOL.examples[1:]), (9, [])])
    assert pool.weights.tolist() == [0.75, 0.125, 0.125]


# ── clicks ───────────────────────────────────────────────────────────────────────────────────


def test_a_click_goes_into_the_deeper_error():
    truth, mask = np.zeros((2, 40, 40), bool)
    truth[10:30, 10:30] = True
    mask[10:30, 10:34] = True  # four columns too many
    mask[10:20, 10:20] = False  # a larger part is missing
    rng = np.random.default_rng(0)
    for _ in range(20):
        click = next_click(truth, mask, rng)
        assert click.positive
        assert 11 <= click.row < 19  # the deeper half of it
        assert 11 <= click.col < 19
    assert next_click(truth, truth, rng) is None
    assert not next_click(truth, truth | mask, rng).positive


def test_questions_begin_with_a_click_or_an_outline():
    rng = np.random.default_rng(0)
    questions = [asked(POOL, rng) for _ in range(40)]
    for question in questions:
        assert question.drawn == bool(question.prior.any())
        assert question.drawn or question.clicks
        for click in question.clicks:
            assert question.truth[click.row, click.col] == click.positive
    assert {q.drawn for q in questions} == {True, False}
    assert any(q.clicks for q in questions if q.drawn)


def test_the_focal_loss_looks_at_what_is_wrong():
    truth = torch.zeros(1, 1, 8, 8)
    right = torch.full((1, 1, 8, 8), -9.0)
    wrong = right.clone().requires_grad_()
    with torch.no_grad():
        wrong[0, 0, 0, 0] = 2.0
    loss = normalised_focal(wrong, truth)
    loss.backward()
    assert normalised_focal(right, truth) < 1e-4
    assert loss > 0.1
    assert wrong.grad.abs().flatten()[1:].max() < 1e-3 * wrong.grad[0, 0, 0, 0].abs()


# ── from datasets ────────────────────────────────────────────────────────────────────────────

RING = (20.0, 20.0, 80.0, 20.0, 80.0, 70.0, 20.0, 70.0)


@pytest.fixture
def dataset(tmp_path):
    """A working dataset of one picture with a rectangle."""
    write_png(tmp_path / "pictures" / "a.png", picture(100, 120))
    segments = (Segment(1, 1, (RING,)), Segment(2, 1, ((0.0, 0.0, 9.0, 0.0, 9.0, 9.0),)))
    sample = Sample(1, "a.png", 100, 120, segments)
    made = Dataset("rings", (Category(1, "ring"),), (sample,), images=tmp_path / "pictures")
    workspace.write(tmp_path / "work", made)
    return tmp_path / "work"


def test_objects_are_cut_out_where_they_show_enough(dataset):
    read = workspace.read(dataset)
    found = list(training.examples_of(read, read[0], np.random.default_rng(0)))
    assert len(found) == 1
    assert 60**2 * 0.95 < found[0].mask.sum() < 115**2 * 1.05


def test_a_picture_of_another_size_is_refused(dataset):
    read = workspace.read(dataset)
    write_png(read.images / "a.png", picture(50, 60))
    with pytest.raises(InvalidDataset, match="50x60"):
        list(training.examples_of(read, read[0], np.random.default_rng(0)))


def test_nothing_to_learn_from_is_said_so():
    with pytest.raises(UsageError, match="nothing to learn from"):
        training.pooled([], None, training.Request())


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(courses.begun, "__kwdefaults__", {"batch": 2, "device": "cpu"})
    monkeypatch.setattr(courses.tuning, "__kwdefaults__", {"batch": 2, "device": "cpu"})
    monkeypatch.setattr(training, "_COMPOSITES", 3)


def test_the_command_trains_and_tunes(dataset, tmp_path, few):
    def run(*arguments):
        done = CliRunner().invoke(main, ["ritm", "train", *map(str, arguments), "--json"])
        assert not done.exit_code, done.output
        return json.loads(done.stdout)

    photos = workspace.read(dataset).images
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    first = run(dataset, "--photos", photos, "-o", one, "--steps", 2)
    assert first["examples"] == 4
    assert run(dataset, "--photos", photos, "-o", other, "--steps", 2)["sha256"] == first["sha256"]
    tuned = run(dataset, "--from", one, "-o", other, "--steps", 1)
    assert tuned["sha256"] != first["sha256"]
    assert isinstance(ritm.load(other).network, BoundaryNetwork)
    assert not list(tmp_path.glob("*.checkpoint"))
