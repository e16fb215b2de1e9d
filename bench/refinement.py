"""
What a crop costs a network, beside a plain loop over objects: CPU time, single core.

    python bench/refinement.py [DATASET] [--weights W]

The plain loop feeds one object after the other to the same network as it is, in float32. Crops
are of 320x480 pixels with three clicks, as annotators click, and of 192x256 with the mirror
image, as refinement asks. W are weights of a network that reads clicks; without, it is a random
one of h18s' size. With DATASET, whose masks are precise, its objects are drawn badly and
refined in float32 and in the precision that this machine is quick in, and the two masks of
each object that a network was asked about are held against each other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from publisher import judging, ritm
from publisher.dataset import Sample
from publisher.refine import Click, Crop, Refined, made_with, refine
from publisher.ritm.clicks import points_of

CLICKS = (Click(160, 240), Click(100, 200), Click(10, 10, positive=False))


def median(work: Callable[[], object]) -> float:
    """CPU milliseconds, the median of 9 runs after one."""
    work()
    times = []
    for _ in range(9):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


def crop(height: int, width: int, clicks: tuple[Click, ...] = (), *, flip: bool = False) -> Crop:
    """A disk on noise, and a larger one as what is known of it."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:height, :width]
    far = np.hypot(rows - height / 2, cols - width / 2)
    image = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    image[far < height / 4] += 120
    return Crop(image, (far < height / 3.6).astype(np.float32), clicks, flip=flip)


def plain(predictor: ritm.Predictor, question: Crop) -> NDArray[np.float32]:
    """The logits (h, w) of a crop, without any of our tricks."""
    pixels = torch.from_numpy(question.image).permute(2, 0, 1).float() / 255
    x = torch.cat([pixels, torch.from_numpy(question.prior)[None]])[None]
    points = points_of([question.clicks])
    with torch.inference_mode():
        if not question.flip:
            return predictor.network(x, points)["instances"][0, 0].numpy()
        found = predictor.network(torch.cat([x, x.flip(3)]), points.expand(2, -1, -1))["instances"]
        return (0.5 * (found[0, 0] + found[1, 0].flip(1))).numpy()


def compare(name: str, predictor: ritm.Predictor, question: Crop) -> None:
    """Print what a crop costs, and by how much the answers differ."""
    exact = ritm.Predictor(predictor.network, precision="float32")
    base = median(lambda: plain(predictor, question))
    print(f"{name}\n  {'plain loop':32} {base:6.0f} ms")
    for one in (exact, predictor)[: 2 if predictor.precision != "float32" else 1]:
        cost = median(lambda: one.predict([question]))  # noqa: B023  called here
        drift = np.abs(plain(predictor, question) - one.predict([question])[0]).max()
        said = f"{base / cost:.2f} times as fast, logits differ by at most {drift:.1e}"
        print(f"  {f'Predictor.predict, {one.precision}':32} {cost:6.0f} ms, {said}")


class Both:
    """Refines twice, in float32 and as is quick here; gives the latter."""

    def __init__(self, name: str) -> None:
        self.quick = ritm.load(name)
        self.exact = ritm.Predictor(self.quick.network, precision="float32")
        self.made = made_with([self.quick])
        self.alike: list[float] = []
        self.differ = 0

    def __call__(self, pictures: Sequence[tuple[Sample, NDArray[np.uint8]]]) -> list[Refined]:
        """Each picture refined, in order."""
        quick, exact = (refine(pictures, [p]) for p in (self.quick, self.exact))
        for one, other in zip(quick, exact, strict=True):
            for a, b in zip(one.outcomes, other.outcomes, strict=True):
                if a.scores and a.after is not None and b.after is not None:
                    self.alike.append(a.after.iou(b.after))
                    self.differ += a.reason != b.reason
        return quick


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--limit", type=int, default=60, help="objects of the dataset")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clicked = ritm.load(asked.weights) if asked.weights else random_h18s()
    named = asked.weights or "h18s, random weights"
    compare(f"{named}: 320x480, three clicks", clicked, crop(320, 480, CLICKS))
    compare(f"{named}: 192x256 and its mirror image", clicked, crop(192, 256, flip=True))
    for name in ritm.SHIPPED:
        network = ritm.load(name)
        compare(f"{name}: 192x256 and its mirror image", network, crop(192, 256, flip=True))
    session = clicked.session(crop(320, 480).image)
    session.predict(CLICKS[:1])
    print(f"a click in a session, zoomed, flip: {median(lambda: session.predict(CLICKS)):.0f} ms")
    if asked.dataset:
        agreement(asked.dataset, asked.limit)


def random_h18s() -> ritm.Predictor:
    return ritm.Predictor(ritm.Network(ritm.Config()))


def agreement(dataset: Path, limit: int) -> None:
    """Print how much the masks of both precisions are alike."""
    both = Both(ritm.SHIPPED[0])
    judging.evaluate(dataset, lambda: both, limit=limit)
    alike = np.array(both.alike)
    print(
        f"float32 and {both.quick.precision}, {ritm.SHIPPED[0]}: {len(alike)} masks, IoU "
        f"{alike.mean():.5f} on average, {alike.min():.4f} at least; "
        f"{both.differ} for another reason"
    )


if __name__ == "__main__":
    main()
