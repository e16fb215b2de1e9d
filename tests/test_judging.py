"""Judging refiners: the good gain, the bad are caught, and the figures are the same anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from publisher import judging, workspace
from publisher.cli import main
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import InvalidDataset, UsageError
from publisher.judging import BRUSH, evaluate
from publisher.masks import Mask, Rle
from publisher.refine import Outcome, Refined
from publisher.refinement.perturb import LEVELS
from publisher.refinement.scoring import eroded
from tests.pngs import write_png

SIZE = (120, 160)
DISKS = [(35, 40, 22), (80, 110, 30)]


def write_dataset(folder, pictures=2, more=(), disks=2):
    """Disks in pictures whose red channel is the number of the segment there, below two sets."""
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    samples = []
    for at in range(pictures):
        ids = np.zeros(SIZE, dtype=np.uint8)
        for number, (row, col, radius) in enumerate(DISKS[:disks], 1):
            ids[(rows - row) ** 2 + (cols - col) ** 2 < radius**2] = 2 * at + number
        name = f"{'ab'[at % 2]}/{at:02}.png"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        rgb = np.stack([ids, 40 * (ids > 0), 90 - ids], axis=2).astype(np.uint8)
        write_png(folder / "images" / name, rgb)
        segments = [Segment(int(n), 1, rle_of(ids == n)) for n in np.unique(ids)[1:]]
        samples.append(Sample(at + 1, name, *SIZE, tuple(segments) + (more if not at else ())))
    samples.sort(key=lambda s: s.file_name)
    found = Dataset("disks", (Category(1, "disk"),), tuple(samples), images=folder / "images")
    workspace.write(folder / "dataset", found)
    return folder / "dataset"


def rle_of(pixels):
    mask = Mask.from_array(pixels)
    return Rle(mask.height, mask.width, mask.counts.decode())


class Everything:
    """Refines every polygon by `better`, all equally sure."""

    made = MappingProxyType({"weights": ["0" * 64], "precision": ["float32"]})

    def __call__(self, pictures):
        return [self.refined(sample, image) for sample, image in pictures]

    def refined(self, sample, image):
        segments, outcomes = [], []
        for old in sample.segments:
            if isinstance(old.segmentation, Rle):
                segments.append(old)
                outcomes.append(Outcome(old.id, "brush", "", {}, None, None))
                continue
            before = old.mask(sample.height, sample.width)
            pixels = self.better(old.id, image, before.to_array())
            segments.append(replace(old, segmentation=rle_of(pixels)))
            after = Mask.from_array(pixels)
            scores = {"confidence": 0.5 + old.id % 2 / 4}
            outcomes.append(Outcome(old.id, "refined", "quick", scores, before, after))
        return Refined(replace(sample, segments=tuple(segments)), tuple(outcomes))


class Oracle(Everything):
    def better(self, number, image, before):
        return image[..., 0] == number


class Adversary(Everything):
    def better(self, number, image, before):
        return eroded(before, 5)


class Shy(Everything):
    """Proposes what an adversary does, and takes nothing."""

    def refined(self, sample, image):
        proposed = Adversary().refined(sample, image)
        return Refined(
            sample,
            tuple(
                replace(o, reason="unsure", proposed=o.after, after=o.before)
                for o in proposed.outcomes
            ),
        )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("disks"))


def test_an_oracle_gains_everything_and_harms_nothing(dataset):
    judged = evaluate(dataset, Oracle)
    assert list(judged.levels) == [*LEVELS, BRUSH]
    for level in LEVELS:
        figures = judged.levels[level]
        assert (figures.n, figures.refined, figures.harmed) == (4, 4, 0)
        assert figures.after == (1.0, 1.0)
        assert figures.before.boundary_iou < 1
        assert figures.interval[1] == pytest.approx(1 - 0.025 ** (1 / 4))
    gains = [judged.levels[level].gain for level in ("fine", "mild", "coarse")]
    assert gains == sorted(gains)


def test_an_adversary_is_reported_as_harm(dataset):
    figures = evaluate(dataset, Adversary, levels=["fine"]).levels["fine"]
    assert figures.harmed == figures.refined == 4
    assert figures.gain < 0
    assert figures.worst < -0.2
    assert figures.to_json()["harm"] == 1.0


def test_who_takes_nothing_harms_nothing_but_what_it_had_in_mind_is_kept(dataset):
    judged = evaluate(dataset, Shy, levels=["mild"])
    figures = judged.levels["mild"]
    assert (figures.refined, figures.harmed, figures.gain) == (0, 0, 0.0)
    assert {o.reason for o in judged.objects} == {"unsure"}
    assert all(o.rejected.iou < o.before.iou for o in judged.objects)
    assert judged.curve() != evaluate(dataset, Oracle, levels=["mild"]).curve()


def test_precise_masks_stay_as_they_are(dataset):
    figures = evaluate(dataset, Adversary, levels=[BRUSH]).levels[BRUSH]
    assert (figures.n, figures.refined, figures.worst) == (4, 0, 0.0)
    assert figures.before == figures.after == (1.0, 1.0)


def test_figures_are_given_by_set_and_by_size(dataset):
    judged = evaluate(dataset, Oracle, levels=["mild"])
    assert {k: f.n for k, f in judged.sets.items()} == {("a", "mild"): 2, ("b", "mild"): 2}
    sizes = {k: f.n for k, f in judged.sizes.items()}
    assert sizes == {("to 50 px", "mild"): 2, ("to 100 px", "mild"): 2}
    said = judged.to_json()
    assert said["sets"]["a"]["mild"]["n"] == 2
    assert said["weights"] == ["0" * 64]


def test_the_seed_decides_how_hands_tremble(dataset):
    one, same, other = (
        evaluate(dataset, Oracle, levels=["mild"], seed=seed).objects for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    assert one == tuple(o for o in evaluate(dataset, Oracle, seed=1).objects if o.level == "mild")


def test_figures_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    path = write_dataset(tmp_path, pictures=4)
    told = []
    alone = evaluate(path, Oracle, on_object=lambda *so_far: told.append(so_far))
    monkeypatch.setenv("PUBLISHER_WORKERS", "2")
    assert evaluate(path, Oracle) == alone  # 28 pieces of work, of which 16 are done here
    assert told[-1] == (56, 56)


def test_what_no_hand_can_draw_is_left_out_and_counted(tmp_path):
    crumb = np.zeros(SIZE, dtype=bool)
    crumb[3:6, 3:6] = True
    more = (
        Segment(101, 1, rle_of(crumb)),
        Segment(102, 1, rle_of(crumb & False)),
        Segment(103, 1, rle_of(crumb), iscrowd=True),
        Segment(104, 1, Rle(3, 3, "4")),
    )
    judged = evaluate(write_dataset(tmp_path, 1, more), Oracle, levels=["mild", BRUSH])
    assert judged.skipped == {
        (BRUSH, "cannot be drawn"): 1,
        (BRUSH, "crowds"): 1,
        (BRUSH, "without a pixel"): 1,
        ("mild", "cannot be drawn"): 1,
        ("mild", "crowds"): 1,
        ("mild", "too small for a hand to draw"): 1,
        ("mild", "without a pixel"): 1,
    }
    assert judged.levels["mild"].n == 2
    assert judged.levels[BRUSH].n == 3


def test_pictures_that_cannot_be_read_cost_their_objects_only(tmp_path):
    path = write_dataset(tmp_path)
    (tmp_path / "images" / "a" / "00.png").write_bytes(b"no picture")
    judged = evaluate(path, Oracle, levels=["mild"])
    assert {o.file_name for o in judged.objects} == {"b/01.png"}
    assert sum(judged.skipped.values()) == 2
    (tmp_path / "images" / "b" / "01.png").unlink()
    with pytest.raises(InvalidDataset, match="no object"):
        evaluate(path, Oracle, levels=["mild"])


def test_a_limit_takes_whole_pictures_of_all_sets(tmp_path):
    judged = evaluate(write_dataset(tmp_path, 6), Oracle, levels=["mild"], limit=5)
    assert {set_: f.n for (set_, _), f in judged.sets.items()} in (
        {"a": 4, "b": 2},
        {"a": 2, "b": 4},
    )


def test_an_unknown_level_is_refused(dataset):
    with pytest.raises(UsageError, match="sloppy"):
        evaluate(dataset, Oracle, levels=["sloppy"])


def test_every_object_is_a_line_of_the_document(dataset):
    judged = evaluate(dataset, Oracle, levels=["coarse"])
    document = json.loads(b"".join(judged.document()))
    assert document["levels"]["coarse"]["n"] == len(document["objects"]) == 4
    first = document["objects"][0]
    assert first["scores"] == {"confidence": 0.75}
    assert first["after"]["iou"] == 1.0 > first["before"]["iou"]


def test_the_curve_is_a_picture(dataset):
    root = ElementTree.fromstring(evaluate(dataset, Adversary).curve())
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(LEVELS) + 1
    assert lines[0].get("points").count(" ") == 2  # from nothing, by two scores, to everything


# ── the command ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def weights(tmp_path):
    from publisher.ritm.weights import save  # not above: processes that judge need no torch

    from .ritm.build import SMALL, Network

    path = tmp_path / "small.safetensors"
    save(Network(SMALL), path)
    return path


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["ritm", "evaluate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_the_command_prints_a_table_that_fits_and_writes_its_files(
    dataset, tmp_path, weights, monkeypatch
):
    monkeypatch.setattr(judging, "networks", lambda *_: Oracle)
    output, curve = tmp_path / "judged.json", tmp_path / "curve.svg"
    result = run(dataset, "--output", output, "--curve", curve)
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["level", "n", "refined"]
    assert lines[7].startswith("brush")
    assert max(map(len, lines)) <= 80
    assert json.loads(output.read_bytes())["levels"]["mild"]["harmed"] == 0
    assert curve.read_bytes().startswith(b"<svg")
    said = json.loads(run(dataset, "--level", "mild", "--json").stdout)
    assert list(said["levels"]) == ["mild"]


def test_real_weights_are_judged(dataset, weights):
    said = json.loads(
        run(dataset, "--weights", weights, "--level", BRUSH, "--limit", 1, "--json").stdout
    )
    assert said["levels"][BRUSH]["coverage"] == 0
    assert len(said["weights"][0]) == 64


def test_clicks_are_counted(tmp_path, weights):
    path = write_dataset(tmp_path, pictures=1, disks=1)
    (found,) = json.loads(run(path, "--weights", weights, "--noc", "--json").stdout)["noc"]
    assert found["n"] == 1
    assert 1 <= found["noc85"] <= found["noc90"] <= 20


def test_clicks_draw_no_polygons(dataset, weights):
    run(dataset, "--weights", weights, "--noc", "--level", "mild", code=2)
