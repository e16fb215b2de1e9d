"""
`make demo`: the sample, from CVAT export to a published version and back.

A real S3 server on this machine, `dvc repro`, a pull of one split into an empty folder, and
every byte of it checked. Data stay in demo/, so a second run shows what "up to date" means.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from s3_server import serve

ROOT = Path(__file__).parent.parent
PULLED = Path("demo/val")


def main() -> None:
    """Run the whole way."""
    os.chdir(ROOT)
    params = yaml.safe_load(Path("params.yaml").read_text("utf-8"))
    name, version = f"{params['remote']}/{params['name']}", params["version"]
    say("starting an S3 server on this machine; its data stay in demo/s3")
    with serve(ROOT / "demo" / "s3") as server:
        os.environ.update(server.environment)
        say(f"{server.kind} listens at {server.endpoint}")
        repro()
        step("publisher", "push", "build/release", name, "--version", version)
        shutil.rmtree(PULLED, ignore_errors=True)
        step("publisher", "pull", f"{name}@latest", "-o", PULLED, "--split", "val")
        step("publisher", "verify", PULLED)
        say("stopping the server")
    print(f"\npublished  {name}@{version}, kept in demo/s3")
    print("release    build/release: begin with its README.md")
    print(f"pulled     {PULLED}: one split, every byte checked")
    print("masks      build/refinement/index.html: before and after; look at the cats and flowers,")
    print("           which were outlined in a hurry")
    print("picture    examples/sample/overlay.jpg")


def repro() -> None:
    """`dvc repro`, and one line of what each stage did."""
    started = time.monotonic()
    step("dvc", "repro")
    for stage, line in stage_lines():
        print(f"{stage:>12}  {line}")
    say(f"dvc repro took {time.monotonic() - started:.0f} s")


def stage_lines() -> list[tuple[str, str]]:
    """What each stage did, from the reports it left."""
    taken = load("build/imported/import.json")
    refined = load("build/reports/refinement.json")
    checked = load("build/reports/validation.json")
    built = load("build/reports/dataset.json")
    published = load("build/reports/published.json")
    went_in, came_out, splits = taken["in"], taken["out"], built["splits"]
    return [
        (
            "import",
            f"{came_out['images']} of {went_in['images']} images, {went_in['segments']} shapes "
            f"as {came_out['segments']} segments; every difference has its reason",
        ),
        (
            "refine",
            f"{refined['refined']} masks refined, "
            f"{refined['segments'] - refined['refined']} left as they were",
        ),
        ("validate", f"{checked['error']} errors, {checked['warning']} warnings"),
        ("split", ", ".join(f"{n} {splits[n]['images']}" for n in ("train", "val", "test"))),
        ("build", f"{built['segments']} segments as COCO instances and panoptic"),
        ("push", f"{published['name']} {published['version']}, {published['root'][:23]}..."),
    ]


def load(path: str) -> Any:
    """A JSON file."""
    return json.loads(Path(path).read_text("utf-8"))


def step(*command: object) -> None:
    """Run a command and let it speak."""
    words = [str(word) for word in command]
    print(f"\n$ {' '.join(words)}", flush=True)
    done = subprocess.run(words)
    if done.returncode:
        sys.exit(f"that failed with exit code {done.returncode}")


def say(line: str) -> None:
    """A line about what goes on."""
    print(f"-- {line}", flush=True)


if __name__ == "__main__":
    main()
