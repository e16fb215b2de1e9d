"""
What a crop costs the network, beside a plain loop over objects: CPU time, single core.

    python bench/refinement.py [WEIGHTS of a network that reads clicks]

The plain loop feeds one object after the other to the same network as it is. Crops of 320x480
pixels with three clicks; without weights, a random network of h18s' size.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from publisher import ritm
from publisher.refine import Click, Crop
from publisher.ritm.clicks import points_of

CLICKS = (Click(160, 240), Click(100, 200), Click(10, 10, positive=False))


def median(work: Callable[[], object]) -> float:
    """CPU milliseconds, the median of 9 runs."""
    times = []
    for _ in range(9):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


def main() -> None:
    torch.set_num_threads(1)
    random = ritm.Predictor(ritm.Network(ritm.Config()))
    predictor = ritm.load(sys.argv[1]) if len(sys.argv) > 1 else random
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (320, 480, 3), dtype=np.uint8)
    crop = Crop(image, rng.random((320, 480), np.float32), CLICKS)

    def loop() -> torch.Tensor:
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        x = torch.cat([pixels, torch.from_numpy(crop.prior)[None]])[None]
        with torch.inference_mode():
            return predictor.network(x, points_of([CLICKS]))["instances"]

    session = predictor.session(image)
    session.predict(CLICKS[:1])
    drift = np.abs(loop()[0, 0].numpy() - predictor.predict([crop])[0]).max()
    plain = median(loop)
    for name, cost in {
        "plain loop": plain,
        "Predictor.predict": median(lambda: predictor.predict([crop])),
        "a click in a session, zoomed, flip": median(lambda: session.predict(CLICKS)),
    }.items():
        print(f"{name:36} {cost:6.0f} ms a crop, {plain / cost:.2f} times as fast")
    print(f"largest difference of a logit: {drift:.1e}")


if __name__ == "__main__":
    main()
