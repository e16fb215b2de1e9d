"""
What a crop costs a network, beside a plain loop over objects: CPU time of one core, or a GPU's.

    python bench/refinement.py [DATASET] [--weights W] [--device cuda]

The plain loop feeds one object after the other to the same network as it is, in float32 (on a
GPU as torch has it, in TF32). Crops are of 320x480 pixels with three clicks, as annotators
click, and of 192x256 with the mirror image, as refinement asks. W are weights of a network that
reads clicks; without, it is a random one of h18s' size. With DATASET, whose masks are
precise, its objects are drawn badly and refined in float32 and in the precision that this machine
is quick in, and the two masks of each object that a network was asked about are held against each
other. On a GPU the clock on the wall counts, for 512 crops at a time, and the ceiling is the same
network recorded as a CUDA graph, over numbers that are there already.
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


def median(work: Callable[[], object], device: str = "cpu") -> float:
    """Milliseconds, of CPU time or on the wall, the median of 9 runs after one."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    work()
    times = []
    for _ in range(9):
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - start)
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
    device = predictor.device
    pixels = torch.from_numpy(question.image).to(device).permute(2, 0, 1).float() / 255
    x = torch.cat([pixels, torch.from_numpy(question.prior).to(device)[None]])[None]
    points = points_of([question.clicks]).to(device)
    with torch.inference_mode():
        if not question.flip:
            return predictor.network(x, points)["instances"][0, 0].cpu().numpy()
        found = predictor.network(torch.cat([x, x.flip(3)]), points.expand(2, -1, -1))["instances"]
        return (0.5 * (found[0, 0] + found[1, 0].flip(1))).cpu().numpy()


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


def compare_on_gpu(name: str, predictor: ritm.Predictor, question: Crop) -> None:
    """The same on a GPU, with many crops at a time, and how near that is to the ceiling."""
    torch.backends.cudnn.allow_tf32 = True
    base = median(lambda: plain(predictor, question), "cuda")
    torch.backends.cudnn.allow_tf32 = False
    exact = plain(predictor, question)
    many = [question] * 512
    cost = median(lambda: predictor.predict(many), "cuda") / len(many)
    drift = np.abs(exact - predictor.predict(many[:3])[0]).max()
    x = torch.rand(rows := 64, 4, *question.prior.shape, device=predictor.device)
    points = points_of([question.clicks] * rows).to(predictor.device)
    with torch.inference_mode():
        for _ in range(4):
            predictor._ask(x, points)
        ceiling = median(lambda: predictor._ask(x, points), "cuda") / rows
    ceiling *= 2 if question.flip else 1
    print(f"{name}\n  {'plain loop':32} {base:6.2f} ms")
    said = f"{base / cost:.1f} times as fast, logits differ by at most {drift:.1e}"
    print(f"  {'Predictor.predict, bfloat16':32} {cost:6.3f} ms, {said}")
    print(f"  {'ceiling':32} {ceiling:6.3f} ms; {ceiling / cost:.0%} of it is reached")


class Both:
    """Refines twice, in float32 and as is quick here; gives the latter."""

    def __init__(self, name: str, device: str) -> None:
        self.quick = ritm.load(name, device)
        self.exact = ritm.Predictor(self.quick.network, device=device, precision="float32")
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
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--limit", type=int, default=60, help="objects of the dataset")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = asked.device
    clicked = ritm.load(asked.weights, device) if asked.weights else random_h18s(device)
    named = asked.weights or "h18s, random weights"
    show = compare if device == "cpu" else compare_on_gpu
    show(f"{named}: 320x480, three clicks", clicked, crop(320, 480, CLICKS))
    show(f"{named}: 192x256 and its mirror image", clicked, crop(192, 256, flip=True))
    for name in ritm.SHIPPED:
        network = ritm.load(name, device)
        show(f"{name}: 192x256 and its mirror image", network, crop(192, 256, flip=True))
    session = clicked.session(crop(320, 480).image)
    session.predict(CLICKS[:1])
    click = median(lambda: session.predict(CLICKS), device)
    print(f"a click in a session, zoomed, flip: {click:.0f} ms")
    if asked.dataset:
        agreement(asked.dataset, asked.limit, device)


def random_h18s(device: str) -> ritm.Predictor:
    return ritm.Predictor(ritm.Network(ritm.Config()), device=device)


def agreement(dataset: Path, limit: int, device: str) -> None:
    """Print how much the masks of both precisions are alike."""
    both = Both(ritm.SHIPPED[0], device)
    judging.evaluate(dataset, lambda: both, limit=limit)
    alike = np.array(both.alike)
    print(
        f"float32 and {both.quick.precision}, {ritm.SHIPPED[0]}: {len(alike)} masks, IoU "
        f"{alike.mean():.5f} on average, {alike.min():.4f} at least; "
        f"{both.differ} for another reason"
    )


if __name__ == "__main__":
    main()
