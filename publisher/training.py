"""
Training a network on one's own verified masks: datasets in, a file of weights out.

What a network learns is where outlines end under a person's rough polygons, and the polygons
are made here, so any dataset with precise masks will do: one that was refined and looked at, or
an earlier release. With photographs, shapes cut from one into another are learned from as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import engine, images
from .dataset import Dataset, Sample
from .errors import FormatError, InvalidDataset, UsageError, at
from .files import Folder, canonical_json, sha256_of
from .progress import Progress, silent
from .stages import intake

if TYPE_CHECKING:
    from .ritm.composites import Example, Picture
    from .ritm.train import Pool

Kind = Literal["boundary", "clicks"]

SIZES = (60.0, 115.0)  # pixels; sqrt(area) of objects as networks learn them
_AREAS = (1500, 20000)  # pixels, after scaling; a long object may not fit
_COMPOSITES = 2000  # as many as can be told apart
RATES = {"boundary": 3e-3, "clicks": 1.5e-3}
_FINE = 0.1  # of the rate, where weights are only to be tuned


@dataclass(frozen=True, slots=True)
class Request:
    """
    What to train.

    Args:
        kind: `boundary` moves outlines; `clicks` is RITM's network, small.
        steps: of 16 examples each.
        start: weights to begin with, by name or path; their network is kept, whatever `kind`.
        rate: the highest learning rate; None for what is usual.
        most: objects of an image that are learned from.
        device: `cpu` or `cuda`; on a GPU the same input gives nearly the same weights.
    """

    kind: Kind = "boundary"
    steps: int = 3000
    seed: int = 0
    start: str | None = None
    rate: float | None = None
    most: int = 8
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Trained:
    """The file that came out, its sha256, and what was learned from."""

    path: Path
    digest: str
    examples: int
    loss: float  # the mean of the last 100 steps of this run; NaN where there was none left


def run(
    datasets: Sequence[Path],
    photos: Path | None,
    out: Path,
    request: Request = Request(),  # frozen
    *,
    on_step: Progress = silent,
) -> Trained:
    """
    Train, or go on where a run with the same datasets and request was killed.

    The state is kept beside `out` until that is written. Same input, same weights, on machines
    that compute alike.

    Raises:
        UsageError: there is nothing to learn from.
        CheckpointError: the state there is another run's, or damaged.
        InvalidDataset, FormatError: a dataset cannot be read.
    """
    from .ritm import courses, weights

    if request.start is None:  # weights or a device that are not there show before the work
        course = courses.begun(
            courses.KINDS[request.kind], seed=request.seed, device=request.device
        )
    else:
        course = courses.tuning(request.start, seed=request.seed, device=request.device)
    pool = pooled([intake.read(path) for path in datasets], photos, request)
    recipe = hashlib.sha256(canonical_json([request.kind, request.start, request.most]))
    for example in pool.examples:
        recipe.update(example.image.tobytes() + example.mask.tobytes())
    trained = course.run(
        pool,
        checkpoint := out.with_name(f"{out.name}.checkpoint"),
        steps=request.steps,
        rate=request.rate or RATES[request.kind] * (_FINE if request.start else 1),
        recipe=recipe.hexdigest(),
        workers=engine.asked(),
        on_step=on_step,
    )
    about = {"made by": "publisher ritm train", "steps": str(request.steps)}
    weights.save(trained, out, {**about, "seed": str(request.seed)})
    checkpoint.unlink(missing_ok=True)
    loss = float(np.mean(course.losses[-100:])) if course.losses else float("nan")
    return Trained(out, sha256_of(out), len(pool.examples), loss)


def pooled(datasets: Sequence[Dataset], photos: Path | None, request: Request) -> Pool:
    """
    What is learned from: each dataset, and the composites together, are drawn equally often.

    Raises:
        UsageError: there is no object of some size, and no photograph.
    """
    from .ritm.composites import composite
    from .ritm.train import Pool

    rng = np.random.default_rng(request.seed)
    sources: list[tuple[float, Sequence[Example]]] = []
    for dataset in datasets:
        sources.append(
            (1, [e for s in dataset for e in examples_of(dataset, s, rng, request.most)])
        )
    if photos is not None:
        pictures = list(pictures_in(photos))
        if not pictures:
            raise UsageError(f"no pictures in {photos}")
        made = [
            composite(pictures, np.random.default_rng([request.seed, k]))
            for k in range(_COMPOSITES)
        ]
        sources.append((1, made))
    if not any(examples for _, examples in sources):
        raise UsageError(
            "nothing to learn from", hint="give a dataset with precise masks, or --photos"
        )
    return Pool.shared(sources)


def examples_of(
    dataset: Dataset,
    sample: Sample,
    rng: np.random.Generator,
    most: int | None = None,
    least_area: int = 400,
) -> Iterator[Example]:
    """
    The objects of an image with their surroundings, each at some size that networks work at.

    Args:
        most: so many of them, drawn by chance.
        least_area: in pixels of the image; smaller objects show too little.

    Raises:
        FormatError: a mask is damaged.
        InvalidDataset: the picture is not there, damaged, or lies otherwise than its masks.
    """
    from .ritm.composites import cut_out

    with at(sample.file_name):
        kept = [s.mask(sample.height, sample.width) for s in sample.segments if not s.iscrowd]
    masks = [mask for mask in kept if mask.area >= least_area]
    if most is not None:
        rng.shuffle(masks)
        masks = masks[:most]
    if not masks:
        return
    image = _picture(dataset, sample)
    for mask in masks:
        example = cut_out(image, mask.to_array(), float(rng.uniform(*SIZES)))
        if _AREAS[0] < example.mask.sum() < _AREAS[1]:
            yield example


def pictures_in(folder: Path) -> Iterator[Picture]:
    """All pictures below a folder, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in images.SUFFIXES and path.is_file():
            yield images.pixels_of(path.read_bytes())


def _picture(dataset: Dataset, sample: Sample) -> Picture:
    if dataset.images is None:
        raise UsageError(f"{dataset.name} has no images", hint="make one with `publisher import`")
    try:
        body = intake.picture_in(Folder(dataset.images), sample.file_name)
        return intake.pixels_for(sample, body)
    except FormatError as error:
        raise InvalidDataset(f"{sample.file_name}: {error.message}") from error
