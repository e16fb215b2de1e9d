"""`publisher refine`: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from publisher import refining, workspace
from tests import bright


@pytest.fixture
def cli(cli, monkeypatch):
    """The command line, with the eyes of `bright`."""
    monkeypatch.setattr(refining, "load", bright.load)
    monkeypatch.setattr(refining.judging, "named", lambda _: ("bright",))
    return cli


@pytest.fixture
def coarse(tmp_path):
    return bright.make(tmp_path / "in")


def test_it_prints_what_went_in_what_came_out_and_why(cli, coarse, tmp_path):
    result = cli("refine", coarse, "-o", tmp_path / "out", "--report", tmp_path / "report")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["images", "3", "3"] in lines
    assert ["segments", "6", "6"] in lines
    assert ["refined", "3"] in lines
    assert ["brush", "mask", "3"] in lines
    assert "note: mask refined: " in result.stderr
    assert "(3 times, first: 000.png)" in result.stderr
    assert f"{tmp_path / 'out'}: written; see {tmp_path / 'report' / 'index.html'}" in result.stderr


def test_as_json_it_is_one_object_and_nothing_else(cli, coarse, tmp_path):
    result = cli("refine", coarse, "-o", tmp_path / "out", "--json")
    told = json.loads(result.stdout)
    assert (told["images"], told["segments"], told["refined"]) == (3, 6, 3)
    assert told["dry_run"] is False
    assert told["findings"] == []
    assert result.stderr == ""


def test_metrics_and_plot_are_what_dvc_reads(cli, coarse, tmp_path):
    metrics, plot = tmp_path / "m.json", tmp_path / "p.json"
    cli("refine", coarse, "-o", tmp_path / "out", "--metrics", metrics, "--plot", plot)
    assert json.loads(metrics.read_text())["reasons"] == {"brush mask": 3, "refined": 3}
    assert {"reason": "refined", "segments": 3} in json.loads(plot.read_text())


def test_a_dry_run_writes_its_reports_and_no_dataset(cli, coarse, tmp_path):
    metrics = tmp_path / "m.json"
    result = cli("refine", coarse, "-o", tmp_path / "out", "--dry-run", "--metrics", metrics)
    assert "not written, this was a dry run" in result.stderr
    assert not (tmp_path / "out").exists()
    assert json.loads(metrics.read_text())["refined"] == 3


def test_pictures_that_cannot_be_looked_at_are_told_and_do_not_stop_it(cli, coarse, tmp_path):
    (tmp_path / "images" / "001.png").write_bytes(b"no picture")
    result = cli("refine", coarse, "-o", tmp_path / "out")
    assert "001.png: error I112: not an image of a known format" in result.stderr
    assert ["no", "picture", "2"] in [line.split() for line in result.stdout.splitlines()]
    assert cli("refine", coarse, "-o", tmp_path / "out", "--json").stdout.count("I112") == 1


def test_several_networks_are_named_one_by_one_or_with_commas(cli, coarse, tmp_path):
    cli("refine", coarse, "-o", tmp_path / "a", "--weights", "x", "--weights", "y")
    cli("refine", coarse, "-o", tmp_path / "b", "--weights", "x,y")
    a, b = (workspace.read(tmp_path / name) for name in "ab")
    assert a.provenance == b.provenance
    assert len(a.provenance["refinements"][0]["weights"]) == 2


def test_workers_and_device_may_come_from_the_environment(cli, coarse, tmp_path, monkeypatch):
    monkeypatch.setenv("PUBLISHER_DEVICE", "abacus")
    assert "'abacus' is not one of" in cli("refine", coarse, "-o", "x", code=2).stderr
    monkeypatch.setenv("PUBLISHER_DEVICE", "cpu")
    monkeypatch.setenv("PUBLISHER_WORKERS", "none")
    assert "PUBLISHER_WORKERS" in cli("refine", coarse, "-o", tmp_path / "x", code=2).stderr


def test_calibration_is_told_and_says_whether_there_was_enough_to_go_by(cli, tmp_path):
    folder = bright.make(tmp_path / "in", verified=True)
    result = cli("refine", folder, "-o", tmp_path / "out", "--calibrate")
    assert "note: on 3 verified objects, harm is at most " in result.stderr
    assert "too few to vouch for it" in result.stderr
    told = json.loads(cli("refine", folder, "-o", tmp_path / "b", "--calibrate", "--json").stdout)
    assert told["calibration"]["objects"] == 3
    assert told["calibration"]["vouched"] is False


def test_without_verified_objects_nothing_can_be_calibrated(cli, coarse, tmp_path):
    said = cli("refine", coarse, "-o", tmp_path / "out", "--calibrate", code=2).stderr
    assert "no segment is marked as verified" in said
    assert "hint: give precise ones an attribute verified or" in said


def test_what_is_no_working_dataset_is_said_so(cli, tmp_path):
    (tmp_path / "in").mkdir()
    said = cli("refine", tmp_path / "in", "-o", tmp_path / "out", code=2).stderr
    assert "is not a working dataset" in said
    assert "hint: make one with `publisher import SRC -o DIR`" in said


def test_without_torch_one_line_says_what_to_install(coarse, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from publisher.cli import main; main(prog_name='publisher')"
    )
    words = [sys.executable, "-c", code, "refine", str(coarse), "-o", str(tmp_path / "out")]
    words += ["--weights", "h18"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: refinement needs torch, which is not installed",
        "hint: pip install '.[refine]' in a checkout of publisher",
    ]
