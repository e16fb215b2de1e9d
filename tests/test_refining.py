"""The refine stage: what changes, what stays, and what happens when it is disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from publisher import refining, workspace
from publisher.card import Card
from publisher.dataset import Segment
from publisher.errors import UsageError
from publisher.masks import Mask
from publisher.refine import Rules
from publisher.stages import checking, release
from tests import bright
from tests.bright import HEIGHT, WIDTH, disk, make, photo


@pytest.fixture(autouse=True)
def eyes(monkeypatch):
    """No test of this file needs a network."""
    monkeypatch.setattr(refining, "load", bright.load)
    monkeypatch.setattr(refining.ritm, "SHIPPED", ("bright",))


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def rewrite(folder: Path, change) -> None:
    """Write a working dataset anew, its samples changed."""
    dataset = workspace.read(folder)
    workspace.write(folder, replace(dataset, samples=tuple(map(change, dataset))))


def test_a_coarse_outline_becomes_a_mask_that_hugs_its_object(tmp_path):
    make(tmp_path / "in")
    done = refining.run(tmp_path / "in", tmp_path / "out")
    assert done.refined == 3
    for n, (old, new) in enumerate(
        zip(workspace.read(tmp_path / "in"), workspace.read(tmp_path / "out"), strict=True)
    ):
        truth = Mask.from_array(disk(n))
        before, after = (s.segments[0].mask(HEIGHT, WIDTH) for s in (old, new))
        assert before.iou(truth) < 0.95
        assert after.iou(truth) > 0.99
        assert new.segments[1] == old.segments[1]  # a brush mask
        assert replace(new, segments=()) == replace(old, segments=())


def test_no_image_and_no_segment_is_lost_and_pixels_are_accounted_for(tmp_path):
    make(tmp_path / "in")
    done = refining.run(tmp_path / "in", tmp_path / "out")
    assert (done.counted.images, done.counted.segments) == (3, 6)
    assert (done.kept.images, done.kept.segments) == (3, 6)
    (item,) = done.items
    assert (item.reason, item.times) == ("mask refined", 3)
    change = done.kept.pixels["disk"] - done.counted.pixels["disk"]
    assert dict(item.change.pixels) == {"disk": change}
    assert change


def test_it_points_to_the_images_where_they_are(tmp_path):
    make(tmp_path / "in")
    refining.run(tmp_path / "in", tmp_path / "deep" / "out")
    assert workspace.read(tmp_path / "deep" / "out").images == (tmp_path / "images").resolve()
    assert set(files(tmp_path / "deep" / "out")) == {"dataset.json", "samples.jsonl"}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]  # no journal is left


def test_what_the_source_said_of_the_outline_is_dropped_and_validation_agrees(tmp_path):
    make(tmp_path / "in")
    refining.run(tmp_path / "in", tmp_path / "out")
    origin = workspace.read(tmp_path / "out")[0].segments[0].origin
    assert not {"bbox", "area"} & set(origin)
    assert origin["refined"]
    codes = {f.code for f in checking.run(tmp_path / "out").findings}
    assert not {"A313", "A314", "A315"} & codes


def test_a_second_run_changes_no_mask(tmp_path):
    make(tmp_path / "in")
    refining.run(tmp_path / "in", tmp_path / "one")
    done = refining.run(tmp_path / "one", tmp_path / "two")
    assert done.refined == 0
    assert done.counted == done.kept
    assert files(tmp_path / "one") == files(tmp_path / "two")


# ── pictures that cannot be looked at ────────────────────────────────────────────────────────

BOMB = b"".join(  # a BMP of 2^28 pixels along a side
    (b"BM", b"\0" * 12, b"\x28\0\0\0", b"\xff\xff\xff\x0f" * 2, b"\1\0\x18", b"\0" * 25)
)
EVIL = {
    "missing": (None, "I103"),
    "truncated": (photo()[:200], "I112"),
    "no picture": (b"<html>not found</html>", "I112"),
    "empty": (b"", "I112"),
    "a bomb": (
        b"BM" + b"\0" * 12 + b"\x28\0\0\0" + b"\xff\xff\xff\x0f" * 2 + b"\1\0\x18" + b"\0" * 25,
        "I119",
    ),
}


def spoil(path: Path, body: object) -> None:
    path.unlink()
    if isinstance(body, bytes):
        path.write_bytes(body)
    elif isinstance(body, str):
        from PIL import Image

        exif = Image.Exif()
        exif[0x0112] = int(body.split()[1])
        path.write_bytes(photo(1, exif=exif.tobytes()))


@pytest.mark.parametrize("what", EVIL)
def test_a_picture_that_cannot_be_read_leaves_its_sample_as_it_is(tmp_path, what):
    body, code = EVIL[what]
    make(tmp_path / "in")
    spoil(tmp_path / "images" / "001.png", body)
    check_left_alone(tmp_path, code)


def test_a_picture_that_is_to_be_turned_leaves_its_sample_as_it_is(tmp_path):
    make(tmp_path / "in")
    spoil(tmp_path / "images" / "001.png", "exif 3")
    check_left_alone(tmp_path, "I107")


def test_a_picture_of_another_size_leaves_its_sample_as_it_is(tmp_path):
    make(tmp_path / "in")

    def taller(sample):
        rings = sample.segments[0].segmentation
        small = replace(sample.segments[0], segmentation=rings)
        return replace(sample, height=HEIGHT + 1, segments=(small,))

    rewrite(tmp_path / "in", lambda s: taller(s) if s.file_name == "001.png" else s)
    check_left_alone(tmp_path, "I105")


def test_a_link_that_leads_out_of_the_images_is_not_followed(tmp_path):
    make(tmp_path / "in")
    (tmp_path / "secret.png").write_bytes(photo(1))
    path = tmp_path / "images" / "001.png"
    path.unlink()
    path.symlink_to(tmp_path / "secret.png")
    check_left_alone(tmp_path, "I109")


def check_left_alone(folder: Path, code: str) -> None:
    """The sample 001.png stays, with a finding and a reason; the two others are refined."""
    done = refining.run(folder / "in", folder / "out", report=folder / "report")
    (finding,) = done.findings
    assert finding.file_name == "001.png"
    assert finding.code.startswith(code)
    assert done.refined == 2
    lines = [(folder / n / "samples.jsonl").read_bytes().splitlines() for n in ("in", "out")]
    assert [a == b for a, b in zip(*lines, strict=True)] == [False, True, False]
    rows = [json.loads(r) for r in (folder / "report" / "objects.jsonl").read_bytes().splitlines()]
    assert {r["reason"] for r in rows if r["file"] == "001.png"} == {refining.UNSEEN}
    assert finding.code in (folder / "report" / "index.html").read_text()


@pytest.mark.parametrize("rings", [((1.0, 1.0),), ((1e9, 1.0, 5.0, 5.0, 2.0, 9.0),), ()])
def test_a_segment_that_is_no_mask_stays_as_it_is(tmp_path, rings):
    make(tmp_path / "in")
    rewrite(tmp_path / "in", lambda s: replace(s, segments=(*s.segments, Segment(99, 1, rings))))
    done = refining.run(tmp_path / "in", tmp_path / "out", report=tmp_path / "report")
    assert done.refined == 3
    assert done.kept.segments == 9
    assert workspace.read(tmp_path / "out")[0].segments[2].segmentation == rings


# ── workers, chunks, interruptions ───────────────────────────────────────────────────────────


def test_neither_workers_nor_chunks_change_a_byte(tmp_path, monkeypatch):
    make(tmp_path / "in", 5)
    seen = []
    for name, workers, images in (("a", 1, 4), ("b", 2, 1), ("c", 1, 64)):
        monkeypatch.setitem(refining._IMAGES, "cpu", images)
        out, report = tmp_path / name, tmp_path / f"report-{name}"
        done = refining.run(tmp_path / "in", out, workers=workers, report=report)
        assert done.refined == 5
        seen.append((files(out), files(report), done))
    assert seen[0] == seen[1] == seen[2]


def command(folder: Path, *more: str, wait: float = 0.0) -> subprocess.Popen[str]:
    """The command line in a process, with slow eyes."""
    words = ["refine", str(folder / "in"), "-o", str(folder / "out"), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bright", *words],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TEST_WAIT": str(wait), "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_lines(path: Path, count: int) -> None:
    for _ in range(600):
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never had {count} lines")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_started_again_it_goes_on_and_gives_the_same_bytes(tmp_path, how):
    make(tmp_path / "in", 12)
    refining.run(tmp_path / "in", tmp_path / "expected")
    journal = tmp_path / ".out.journal"
    stopped = command(tmp_path, wait=0.3)
    wait_for_lines(journal, 1 + 4)  # its title, and the first chunk
    os.killpg(stopped.pid, how)
    _, said = stopped.communicate(timeout=30)
    assert stopped.returncode == (130 if how == signal.SIGINT else -how)
    assert how == signal.SIGKILL or said.startswith("interrupted; run the same command again")
    assert not (tmp_path / "out").exists()
    again = command(tmp_path)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert "images were answered before" in said
    assert files(tmp_path / "out") == files(tmp_path / "expected")
    assert not list(tmp_path.glob(".out*"))


def test_a_dry_run_only_reports_and_the_run_after_it_takes_its_answers(tmp_path):
    make(tmp_path / "in")
    dry = refining.run(tmp_path / "in", tmp_path / "out", dry_run=True, report=tmp_path / "dry")
    assert not (tmp_path / "out").exists()
    done = refining.run(tmp_path / "in", tmp_path / "out", report=tmp_path / "wet")
    assert (dry.known, done.known) == (0, 3)
    assert replace(dry, known=3) == done
    assert files(tmp_path / "dry") == files(tmp_path / "wet")


def test_answers_to_another_question_are_not_taken(tmp_path):
    make(tmp_path / "in")
    dry = {"dry_run": True}
    refining.run(tmp_path / "in", tmp_path / "out", **dry)
    assert refining.run(tmp_path / "in", tmp_path / "out", **dry).known == 3
    assert refining.run(tmp_path / "in", tmp_path / "out", weights=["b"], **dry).known == 0
    rules = Rules(confidence=0.99)
    assert refining.run(tmp_path / "in", tmp_path / "out", rules=rules, **dry).known == 0
    (tmp_path / "images" / "000.png").write_bytes(photo(5))
    assert refining.run(tmp_path / "in", tmp_path / "out", rules=rules, **dry).known == 2
    rewrite(tmp_path / "in", lambda s: replace(s, segments=s.segments[::-1]))
    assert refining.run(tmp_path / "in", tmp_path / "out", rules=rules, **dry).known == 0


@pytest.mark.parametrize("where", ["out", "report"])
def test_a_folder_of_someone_elses_is_refused_before_any_work(tmp_path, where, monkeypatch):
    make(tmp_path / "in")
    (tmp_path / where).mkdir()
    (tmp_path / where / "thesis.tex").write_text("dear")
    monkeypatch.setattr(refining.answers, "refine", None)
    with pytest.raises(UsageError, match="was not written by this command"):
        refining.run(tmp_path / "in", tmp_path / "out", report=tmp_path / "report")


# ── what is told ─────────────────────────────────────────────────────────────────────────────


def test_numbers_for_dvc(tmp_path):
    make(tmp_path / "in")
    done = refining.run(tmp_path / "in", tmp_path / "out")
    numbers = done.to_json()
    assert (numbers["images"], numbers["segments"], numbers["refined"]) == (3, 6, 3)
    assert numbers["reasons"] == {"brush mask": 3, "refined": 3}
    assert sum(numbers["routes"].values()) == 3
    assert 0.8 < numbers["mean_iou_to_annotation"] < 1
    assert set(numbers["changed_pixels"]) == {"disk"}
    assert done.rows() == [
        {"reason": "brush mask", "segments": 3},
        {"reason": "refined", "segments": 3},
    ]


def test_a_line_for_each_object(tmp_path):
    make(tmp_path / "in")
    refining.run(tmp_path / "in", tmp_path / "out", report=tmp_path / "report")
    lines = (tmp_path / "report" / "objects.jsonl").read_bytes().splitlines()
    first, second, *rest = map(json.loads, lines)
    assert len(rest) == 4
    assert (first["file"], first["segment"], first["category"]) == ("000.png", 1, "disk")
    assert first["refined"]
    assert first["before"] > first["after"]
    assert 0.8 < first["iou"] < 1
    assert first["scores"]["confidence"] > 0.5
    assert (second["reason"], second.get("refined", False)) == ("brush mask", False)


def test_the_sheet_shows_the_most_changed_needs_nothing_else_and_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(refining.sheet, "SHOWN", 2)
    make(tmp_path / "in", 6)
    refining.run(tmp_path / "in", tmp_path / "out", report=tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<figure>") == 4  # the two least certain, and two others that changed most
    assert page.count("data:image/jpeg;base64,") == 12  # each before, after and close
    assert page.index("Most changed") < page.index("Least certain")
    assert "http" not in page.replace('http-equiv="Content', "")


def test_the_sheet_shows_what_a_network_was_asked_about_and_left_alone_and_says_why(tmp_path):
    make(tmp_path / "in")
    sure = Rules(confidence=1.1, bold_confidence=1.1)  # surer than anything can be
    refining.run(tmp_path / "in", tmp_path / "out", rules=sure, report=tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<figure>") == page.count("data:image/jpeg;base64,") == 3  # no brush mask
    assert "left alone" in page
    assert "<td>not confident</td><td>3</td><td>the network is unsure" in page
    assert "<td>brush mask</td><td>3</td><td>drawn pixel by pixel already</td>" in page


def test_hostile_names_do_no_harm_in_the_sheet(tmp_path):
    make(tmp_path / "in")
    evil = "<img src=x onerror=alert(1)>"
    (tmp_path / "images" / "000.png").rename(tmp_path / "images" / f"{evil}.png")
    dataset = workspace.read(tmp_path / "in")
    named = replace(dataset.categories[0], name="<script>alert(2)</script>\x1b[31m")
    sample = replace(dataset[0], file_name=f"{evil}.png")
    samples = tuple(sorted([sample, *dataset[1:]], key=lambda s: s.file_name))
    categories = (named, *dataset.categories[1:])
    workspace.write(tmp_path / "in", replace(dataset, categories=categories, samples=samples))
    refining.run(tmp_path / "in", tmp_path / "out", report=tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<img" not in page
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "&lt;img src=x" in page


def test_a_release_says_how_many_masks_were_refined_and_by_what(tmp_path):
    make(tmp_path / "in")
    refining.run(tmp_path / "in", tmp_path / "out")
    rewrite(tmp_path / "out", lambda s: replace(s, split="train"))
    dataset = workspace.read(tmp_path / "out")
    (recipe,) = dataset.provenance["refinements"]
    assert recipe["weights"] == [bright.load("bright", "cpu").digest]
    assert recipe["precision"] == ["float32"]
    assert "confidence" in recipe["rules"]
    built = release.build(dataset, tmp_path / "release", Card("disks"))
    assert built.stats.to_json()["refined"] == 3
    said = (tmp_path / "release" / "README.md").read_text()
    assert "Of all 6 masks, 3 were refined by a network" in said
    assert recipe["weights"][0][:16] in said
