"""Refinement for tests: bright disks on dark ground, outlined coarsely, and who sees them."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from publisher import refining, workspace
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.masks import Mask, Polygons, Rle
from publisher.refine import Crop

HEIGHT, WIDTH, RADIUS = 150, 180, 42
CATEGORIES = (Category(1, "disk"), Category(2, "<b>other</b>"))


class Bright:
    """A predictor for which the bright is the object."""

    def __init__(self, digest: str, wait: float = 0.0) -> None:
        self.digest = digest
        self.precision = "float32"
        self._wait = wait

    def predict(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        time.sleep(self._wait)
        grey = [crop.image.astype(np.float32).mean(axis=2) for crop in crops]
        return [(g - 128) / 10 for g in grey]


def load(name: str, device: str) -> Bright:
    """Every name is another network; they see the same."""
    wait = float(os.environ.get("TEST_WAIT", "0"))
    return Bright(hashlib.sha256(name.encode()).hexdigest(), wait)


def disk(shift: int = 0) -> NDArray[np.bool_]:
    """Pixels (H, W) of the object in the picture of this number."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = (rows - 75) ** 2 + (columns - 80 - shift) ** 2 < RADIUS**2
    return np.asarray(inside)


def outline(shift: int = 0, corners: int = 7) -> Polygons:
    """A coarse outline of the disk, a little too large."""
    angles = np.arange(corners) * (2 * np.pi / corners)
    ring = np.stack([80.5 + shift + 47 * np.cos(angles), 75.5 + 47 * np.sin(angles)], axis=1)
    return (tuple(np.round(ring, 2).ravel().tolist()),)


def photo(shift: int = 0, kind: str = "PNG", **how: object) -> bytes:
    """The picture of this number as a file."""
    pixels = np.where(disk(shift)[..., None], (240, 235, 225), (30, 35, 40)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **how)
    return out.getvalue()


def make(folder: Path, count: int = 3, *, verified: bool = False) -> Path:
    """A working dataset: in each picture a coarse disk and a brush mask; or a verified disk."""
    images = folder.with_name("images")
    images.mkdir(parents=True, exist_ok=True)
    samples = []
    for n in range(count):
        name = f"{n:03}.png"
        (images / name).write_bytes(photo(n))
        corner = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
        corner[:20, :20] = True
        rle = Rle(HEIGHT, WIDTH, Mask.from_array(corner).counts.decode())
        stale = {"bbox": [36, 31, 88, 88], "area": 5300.0, "shape": "polygon"}
        segments: tuple[Segment, ...] = (
            Segment(3 * n + 1, 1, outline(n), origin=stale),
            Segment(3 * n + 2, 2, rle),
        )
        if verified:
            exact = Rle(HEIGHT, WIDTH, Mask.from_array(disk(n)).counts.decode())
            segments = (Segment(3 * n + 1, 1, exact, attributes={"verified": "true"}),)
        samples.append(Sample(n + 1, name, HEIGHT, WIDTH, segments))
    dataset = Dataset("disks", CATEGORIES, tuple(samples), images=images.resolve())
    workspace.write(folder, dataset)
    return folder


if __name__ == "__main__":  # the command line, with these eyes
    from publisher.cli import main

    refining.load = load
    refining.ritm.SHIPPED = ("bright",)
    main(sys.argv[1:], prog_name="publisher")
