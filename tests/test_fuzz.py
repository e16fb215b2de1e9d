"""Broken files give findings or errors of ours: no traceback, no crash, no hang, no flood."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from publisher import workspace
from publisher.files import open_tree
from publisher.formats import FORMATS
from publisher.masks import Mask, Rle, ellipse
from publisher.stages import intake
from tests.makers import picture, zipped
from tests.rules.build import clean

SMALL = sorted((Path(__file__).parent / "data").rglob("*.zip"))
LIMIT = 60_000  # bytes; mutations of large files mostly hit their pictures


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A small dataset in each format that is written, with pictures; and what tests have."""
    folder = tmp_path_factory.mktemp("seeds")
    dataset = _dataset()
    workspace.write(folder / "publisher", dataset)
    for f in FORMATS.values():
        if f.write is None or f.read is None:
            continue
        out = folder / f.name
        out.mkdir()
        f.write(dataset, out, *(["z-order"] if f.flat else []))
        for sample in dataset:
            image = out / "images" / sample.file_name
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(picture(sample.height, sample.width, quality=30))
        files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.*")}
        zipped(folder / f"{f.name}.zip", files)
    for path in SMALL:
        if path.stat().st_size < LIMIT and _is_read(path):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _is_read(path):
    with open_tree(path) as tree:
        return any(f.detect is not None and f.detect(tree) for f in FORMATS.values())


def _dataset():
    """The clean one, with a polygon of two rings, a mask with a hole, a crowd and attributes."""
    hole = Mask.from_polygons((ellipse(20, 20, 15, 15),), 40, 60).to_array()
    hole[15:25, 15:25] = False
    mask = Mask.from_array(hole)
    samples = []
    for sample in clean():
        first, second, third = sample.segments
        rle = Rle(40, 60, mask.counts.decode())
        second = replace(second, segmentation=(*second.segmentation, ellipse(50, 10, 4, 3)))
        first = replace(first, segmentation=rle, attributes={"side": "left"})
        samples.append(replace(sample, segments=(first, second, third)))
    return replace(clean(), samples=tuple(samples))


def outcomes(seeds: Path, first: int, last: int) -> Counter[str]:
    """How cases ended; fails where one crashed, hung, or raised what is not ours."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "fuzz.py"), str(seeds), str(first), str(last)],
        capture_output=True,
        text=True,
        timeout=60 + 2 * (last - first),
        env={**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died in {lines[-1]}: {done.stderr[-2000:]}"
    results = [line for line in lines if "result" in line]
    assert len(results) == last - first
    bad = [r for r in results if r["result"] not in ("findings", "error")]
    assert not bad, f"{len(bad)} cases, the first, {bad[0]['case']}: {bad[0]['result']}"
    return Counter(r["result"] for r in results)


def test_every_seed_of_ours_is_sound(seeds):
    ours = [seed for seed in seeds.iterdir() if seed.stem in {*FORMATS, "publisher"}]
    assert len(ours) > 2
    for seed in ours:
        with intake.opened(seed) as source:
            assert len(source.dataset) > 0, seed.name


def test_broken_files_cost_a_finding_or_an_error(seeds):
    ends = outcomes(seeds, 0, 300)
    assert ends["findings"] > 100  # most mutations leave something to look at


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(1000, 11_000, 1000))
def test_ten_thousand_broken_files(seeds, first):
    outcomes(seeds, first, first + 1000)
