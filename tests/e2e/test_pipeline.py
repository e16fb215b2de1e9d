"""The whole way, as people walk it: commands, DVC, a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import publisher
from publisher.bucket.consume import verify_folder
from publisher.ritm import weights
from publisher.ritm.network import Network
from tests.makers import cvat_polygon, cvat_zip
from tests.ritm.build import SMALL

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "sample"


def run(folder: Path, *command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A command of this environment, run in a folder."""
    words = [str(word) for word in command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_the_sample_goes_to_a_server_and_one_split_comes_back(tmp_path, s3_remote):
    card = SAMPLE / "dataset.yaml"
    name = f"{s3_remote}/everyday-things"
    run(tmp_path, "publisher", "import", SAMPLE / "cvat-export.zip", "-o", "in", "--card", card)
    run(tmp_path, "publisher", "validate", "in")
    run(tmp_path, "publisher", "split", "in", "-o", "split", "--lock", SAMPLE / "splits.lock")
    run(tmp_path, "publisher", "build", "split", "-o", "release", "--card", card)
    push = ("publisher", "push", "release", name, "--version", "1.0.0")
    assert " published " in run(tmp_path, *push).stdout
    assert " already published " in run(tmp_path, *push).stdout
    run(tmp_path, "publisher", "pull", f"{name}@^1", "-o", "val", "--split", "val")
    run(tmp_path, "publisher", "verify", "val")
    run(tmp_path, "publisher", "verify", f"{name}@latest", "--deep")
    assert {p.name for p in (tmp_path / "val").iterdir()} >= {"val", "annotations", "README.md"}
    assert not (tmp_path / "val" / "train").exists()
    for path in (tmp_path / "val" / "val").rglob("*.*"):
        relative = path.relative_to(tmp_path / "val")
        assert path.read_bytes() == (tmp_path / "release" / relative).read_bytes()


def test_the_same_in_ten_lines_of_python(tmp_path, s3_remote):
    from publisher import storage, workspace
    from publisher.bucket import publish
    from publisher.card import parse
    from publisher.stages import dealing, intake, release

    card = parse((SAMPLE / "dataset.yaml").read_bytes())
    intake.take_in([SAMPLE / "cvat-export.zip"], tmp_path / "in", card=card)
    dealing.run(tmp_path / "in", tmp_path / "split", "train=1", SAMPLE / "splits.lock")
    release.build(workspace.read(tmp_path / "split"), tmp_path / "release", card)
    bucket = storage.open_bucket(s3_remote)
    publish.push(bucket, tmp_path / "release", "things", "1.0.0", created="2026-01-01T00:00:00Z")

    got = publisher.pull(f"{s3_remote}/things@1.0.0", split="val", to=tmp_path / "got")
    assert got.splits == ("val",)
    got.verify()
    dataset = publisher.load(f"{s3_remote}/things@1.0.0", split="val", cache=tmp_path / "cache")
    assert len(dataset) == 2
    built = {s.file_name: s for s in workspace.read(tmp_path / "split")}
    for sample in dataset:
        assert (dataset.images / sample.file_name).is_file()
        size = sample.height, sample.width
        masks = [s.mask(*size) for s in sample.segments]
        assert masks == [s.mask(*size) for s in built[sample.file_name].segments]
    assert {c.name for c in dataset.categories if not c.isthing} >= {"sky", "table"}


@pytest.fixture
def maintainer(tmp_path):
    """A maintainer's repository as `publisher init` lays it out, with an export of 12 images."""
    repo = tmp_path / "hands"
    run(tmp_path, "publisher", "init", repo)
    run(repo, "git", "init", "-q")
    run(repo, "dvc", "init", "-q")
    (repo / "exports").mkdir()
    cvat_zip(repo / "exports" / "cvat.zip", {f"{i}.jpg": cvat_polygon() for i in range(12)})
    params = yaml.safe_load((repo / "params.yaml").read_text())
    params["remote"] = f"file://{tmp_path}/bucket"
    params["weights"] = str(tmp_path / "tiny.safetensors")  # quick, and nothing here to refine
    weights.save(Network(SMALL), tmp_path / "tiny.safetensors")
    (repo / "params.yaml").write_text(yaml.safe_dump(params))
    yield repo
    shutil.rmtree(repo / ".dvc" / "tmp", ignore_errors=True)


def test_dvc_repro_publishes_and_the_second_time_does_nothing(maintainer, tmp_path):
    run(maintainer, "dvc", "repro")
    reference = f"file://{tmp_path}/bucket/hands@latest"
    run(tmp_path, "publisher", "pull", reference, "-o", "got")
    verify_folder(tmp_path / "got")
    again = run(maintainer, "dvc", "repro").stdout
    assert "Data and pipelines are up to date." in again
    assert "Running stage" not in again
    metrics = json.loads(run(maintainer, "dvc", "metrics", "show", "--json").stdout)
    assert "segments" in json.dumps(metrics)
    assert "no free outline" in json.dumps(metrics)  # why no mask was refined
    assert (maintainer / "build" / "refinement" / "index.html").is_file()
    provenance = json.loads((maintainer / "build" / "release" / "provenance.json").read_bytes())
    assert [len(r["weights"]) for r in provenance["refinements"]] == [1]
    lock = (maintainer / "splits.lock").read_bytes()

    images = {f"{i}.jpg": cvat_polygon() for i in range(15)}
    cvat_zip(maintainer / "exports" / "cvat.zip", images)
    text = (maintainer / "params.yaml").read_text()
    (maintainer / "params.yaml").write_text(text.replace("1.0.0", "1.1.0"))
    run(maintainer, "dvc", "repro")
    listed = run(tmp_path, "publisher", "list", f"file://{tmp_path}/bucket/hands").stdout
    assert listed.split() == ["1.1.0", "latest", "1.0.0"]
    assert set(lock.splitlines()) < set((maintainer / "splits.lock").read_bytes().splitlines())


def test_dvc_repro_stops_at_errors_and_publishes_nothing(maintainer, tmp_path):
    empty = cvat_polygon("5,5;9,5;7,5")
    cvat_zip(maintainer / "exports" / "cvat.zip", {f"{i}.jpg": empty for i in range(3)})
    done = run(maintainer, "dvc", "repro", code=255)
    assert "0.jpg segment 0: error A316: mask has no pixels" in done.stdout
    assert not (tmp_path / "bucket").exists()
