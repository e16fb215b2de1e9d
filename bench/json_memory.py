"""
How much memory and CPU a COCO file of any size takes.

    python bench/json_memory.py                     10^5 and 10^6 images: is memory flat?
    python bench/json_memory.py --images 264000 --vertices 33 --per-image 6.36    one of 1 GB

Files are made up, the same for the same seed, and written to --folder. Each step runs in a
process of its own, one after the other; CPU is user + system time, memory the peak resident
set. Ratios are to `json.load` of the same file in the same run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SEED = 20


def generate(path: Path, images: int, per_image: float, vertices: int) -> None:
    """Write a COCO file: images, then annotations in the order of images, then categories."""
    rng = np.random.default_rng(SEED)
    with path.open("w") as out:
        out.write('{"info": {"description": "made up"}, "licenses": [], "images": [')
        for i in range(1, images + 1):
            comma = "" if i == 1 else ", "
            name = f"{i:012}.jpg"
            out.write(
                f'{comma}{{"id": {i}, "width": 640, "height": 480, "file_name": "{name}", '
                f'"license": 1, "date_captured": "2013-11-18 02:53:27"}}'
            )
        out.write('], "annotations": [')
        number = 0
        for i in range(1, images + 1):
            count = int(rng.poisson(per_image))
            angle = np.sort(rng.uniform(0, 2 * np.pi, (count, vertices)), axis=1)
            reach = rng.uniform(8, 60, (count, 1)) * rng.uniform(0.6, 1, (count, vertices))
            centre = rng.uniform(60, 400, (count, 1, 2))
            ring = np.stack([np.cos(angle) * reach, np.sin(angle) * reach], axis=2) + centre
            flat = np.round(ring.reshape(count, 2 * vertices), 2)
            category = rng.integers(1, 81, count)
            for points, c in zip(flat.tolist(), category.tolist(), strict=True):
                number += 1
                xs, ys = points[::2], points[1::2]
                x, y = min(xs), min(ys)
                w, h = round(max(xs) - x, 2), round(max(ys) - y, 2)
                out.write(
                    f'{"" if number == 1 else ", "}{{"segmentation": [{points}], '
                    f'"area": {w * h / 2:.4f}, "iscrowd": 0, "image_id": {i}, '
                    f'"bbox": [{x}, {y}, {w}, {h}], "category_id": {c}, "id": {number}}}'
                )
        named = [{"id": i, "name": f"class {i}", "supercategory": ""} for i in range(1, 81)]
        out.write(f'], "categories": {json.dumps(named)}}}')


STEPS = {
    "json.load": "import json; json.load(open({path!r}))",
    "read": "import publisher; len(publisher.read({path!r}))",
    "look at all": "import publisher; sum(len(s.segments) for s in publisher.read({path!r}))",
    "dataset rules": (
        "import publisher; from publisher.validate import RULES, check; "
        "list(check(publisher.read({path!r}), "
        "ignore=[r.code for r in RULES.values() if r.scope != 'dataset']))"
    ),
    "validate": "import sys; from publisher.cli import main; main(['validate', {path!r}])",
    "convert": (
        "import sys; from publisher.cli import main; "
        "main(['convert', {path!r}, '--to', 'coco', '-o', {out!r}])"
    ),
}


def measured(code: str) -> tuple[float, float]:
    """CPU seconds and peak MB of a Python process."""
    report = (
        "import atexit, os, resource\n"
        "def report():\n"
        "    u = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    os.write(2, f'\\nUSED {u.ru_utime + u.ru_stime} {u.ru_maxrss / 1024}'.encode())\n"
        "atexit.register(report)\n"
    )
    done = subprocess.run([sys.executable, "-c", report + code], capture_output=True, text=True)
    if "USED" not in done.stderr or "Traceback" in done.stderr:
        raise SystemExit(done.stderr)
    cpu, peak = done.stderr.rsplit("USED ", 1)[1].split()
    return float(cpu), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10**5, 10**6])
    parser.add_argument("--per-image", type=float, default=1.0)
    parser.add_argument("--vertices", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/json_memory"))
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    chosen = parser.parse_args()
    chosen.folder.mkdir(exist_ok=True)
    for images in chosen.images:
        path = chosen.folder / f"instances_{images}_{chosen.per_image}_{chosen.vertices}.json"
        if not path.exists():
            generate(path, images, chosen.per_image, chosen.vertices)
        print(f"{images:,} images, {path.stat().st_size / 1e6:,.0f} MB", flush=True)
        base = None
        for step in chosen.steps:
            out = chosen.folder / "out"
            cpu, peak = measured(STEPS[step].format(path=str(path), out=str(out)))
            base = cpu if step == "json.load" else base
            ratio = f"{base / cpu:6.2f}x less CPU" if base else ""
            print(f"  {step:22} {cpu:8.2f} CPU s {peak:8.0f} MB {ratio}", flush=True)


if __name__ == "__main__":
    main()
