"""
What a polygon costs as runs and as a mask, beside pycocotools: CPU time, single core.

    python bench/drawing.py

Chunks of 500 polygons of some 25 vertices and 60 px across, in images of 640 x 480.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from pycocotools import mask as coco
from rules import HEIGHT, WIDTH, blob

from publisher.dataset import Segment
from publisher.masks import Mask
from publisher.shapes.drawing import Rings, draw, keep_memory, rasterise
from publisher.shapes.runs import runs_of

CHUNK = 500


def best(work: Callable[[], object]) -> float:
    """CPU microseconds a polygon, the best of 15 runs."""
    times = []
    for _ in range(15):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / CHUNK * 1e6


def main() -> None:
    rng = np.random.default_rng(0)
    polygons = [(blob(rng),) for _ in range(CHUNK)]
    segments = [Segment(n, 1, rings) for n, rings in enumerate(polygons, 1)]
    height, width = np.full(CHUNK, HEIGHT), np.full(CHUNK, WIDTH)
    sizes = [(HEIGHT, WIDTH)] * CHUNK
    keep_memory()

    def theirs() -> list[Mask]:
        rles = [coco.merge(coco.frPyObjects([list(r) for r in p], HEIGHT, WIDTH)) for p in polygons]
        return [Mask(HEIGHT, WIDTH, rle["counts"]) for rle in rles]

    assert theirs() == draw(segments, sizes).masks
    for name, work in {
        "pycocotools, unchecked": theirs,
        "  and its runs": lambda: runs_of(theirs()),
        "rasterise to runs": lambda: rasterise(Rings.of(polygons), height, width),
        "Segment.mask, checked": lambda: [s.mask(HEIGHT, WIDTH) for s in segments],
        "draw, checked, areas, boxes": lambda: draw(segments, sizes),
    }.items():
        print(f"{name:28} {best(work):6.1f} us a polygon")


if __name__ == "__main__":
    main()
