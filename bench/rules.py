"""
How fast the rules are: annotations a second and core, and where the time goes.

    python bench/rules.py [images]

Makes a dataset in memory (7 polygons an image of 640 x 480, some 25 vertices and 60 px across,
boxes and areas as COCO has them), and counts CPU time of `validate.check` only.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np

from publisher import rules, validate
from publisher.dataset import Category, Dataset, Sample, Segment

HEIGHT, WIDTH = 480, 640
PER_IMAGE = 7


def blob(rng: np.random.Generator) -> tuple[float, ...]:
    """A ring of some 25 vertices, two decimals, clipped to the image."""
    n = int(np.clip(rng.lognormal(3.2, 0.4), 6, 200))
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    k = np.arange(1, 5)[:, None]
    wave = (rng.normal(0, 0.12, 4)[:, None] / k * np.sin(k * angle)).sum(axis=0)
    radius = min(float(np.exp(rng.normal(3.4, 0.5))), 200) * (0.8 + wave).clip(0.35, 1)
    x = np.clip(rng.uniform(30, WIDTH - 30) + radius * np.cos(angle), 0, WIDTH)
    y = np.clip(rng.uniform(30, HEIGHT - 30) + radius * np.sin(angle), 0, HEIGHT)
    return tuple(np.round(np.stack([x, y], axis=1), 2).ravel().tolist())


def make(images: int) -> Dataset:
    """A dataset as COCO has them: polygons that may overlap, boxes and areas of their masks."""
    rng = np.random.default_rng(0)
    categories = tuple(Category(n, f"class {n}", color=(n, n, n)) for n in range(1, 81))
    samples = []
    for at in range(1, images + 1):
        segments = []
        for n in range(PER_IMAGE):
            s = Segment(at * PER_IMAGE + n, int(rng.integers(1, 81)), (blob(rng),))
            mask = s.mask(HEIGHT, WIDTH)
            box = [float(v) for v in mask.bbox]
            segments.append(replace(s, origin={"bbox": box, "area": mask.area}))
        samples.append(Sample(at, f"{at:06}.jpg", HEIGHT, WIDTH, tuple(segments), split="train"))
    return Dataset("bench", categories, tuple(samples))


def profile(dataset: Dataset) -> dict[str, float]:
    """CPU seconds by rule; the first rule to ask for a mask pays for it."""
    spent = defaultdict[str, float](float)
    original = validate._run

    def timed(r, subject):  # type: ignore[no-untyped-def]
        start = time.process_time()
        found = list(original(r, subject))
        spent[r.code] += time.process_time() - start
        yield from found

    validate._run = timed
    try:
        for _ in validate.check(dataset):
            pass
    finally:
        validate._run = original
    return spent


def main() -> None:
    assert rules
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    dataset = make(images)
    times = []
    for _ in range(3):
        start = time.process_time()
        findings = sum(1 for _ in validate.check(dataset))
        times.append(time.process_time() - start)
    total = images * PER_IMAGE
    print(f"{total} annotations, {findings} findings")
    print(f"{total / min(times):,.0f} annotations a second and core")
    for code, seconds in sorted(profile(dataset).items(), key=lambda p: -p[1])[:12]:
        print(f"  {code}  {seconds / total * 1e6:6.1f} us an annotation")


if __name__ == "__main__":
    main()
