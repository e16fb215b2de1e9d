"""COCO panoptic: https://cocodataset.org/#format-data, section 4. Written only, so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..conservation import Item, Ledger
from ..dataset import Category, Dataset, Sample, by_split
from ..files import canonical_json
from ..images import write_png
from ..panoptic import Overlap, Painted, paint, rgb_from_ids
from .coco import category_json


def write(dataset: Dataset, folder: Path, overlap: Overlap | None = None) -> tuple[Item, ...]:
    """
    Write `panoptic_<split>.json` and `panoptic_<split>/<stem>.png` for each split, and
    `panoptic.json` and `panoptic/` for samples that have none.

    The items say what segments lose to others above them, and which become one region.

    Raises:
        OverlapError: segments overlap and nothing says who wins.
    """
    ledger = Ledger()
    for split, samples in by_split(dataset):
        name = "panoptic" if split is None else f"panoptic_{split}"
        painted = write_maps(samples, dataset.category_of, folder / name, overlap)
        document = to_json(dataset.categories, samples, painted)
        (folder / f"{name}.json").write_bytes(canonical_json(document))
        _book(ledger, samples, painted, dataset)
    return ledger.items


def _book(
    ledger: Ledger, samples: Sequence[Sample], painted: Sequence[Painted], dataset: Dataset
) -> None:
    names = {c.id: c.name for c in dataset.categories}
    for sample, p in zip(samples, painted, strict=True):
        lost = {loss.segment: loss for loss in p.losses}
        for index, loss in lost.items():
            reason = "a segment is wholly hidden" if loss.hidden else "others cover a part"
            name = names[sample.segments[index].category_id]
            change = {"segments": -int(loss.hidden), "pixels": {name: -loss.pixels}}
            ledger.note(reason, sample.file_name, **change)  # type: ignore[arg-type]
        merged = len(sample.segments) - sum(x.hidden for x in p.losses) - len(p.regions)
        if merged:
            reason = "patches of one stuff class, or crowds of one class, become one region"
            ledger.note(reason, sample.file_name, segments=-merged)


def write_maps(
    samples: Iterable[Sample],
    categories: Mapping[int, Category],
    folder: Path,
    overlap: Overlap | None = None,
) -> list[Painted]:
    """Write one PNG a sample; gives their regions and losses, without the maps themselves."""
    results = []
    for sample in samples:
        painted = paint(sample, dict(categories), overlap)
        write_png(folder / png_name(sample), rgb_from_ids(painted.ids))
        results.append(Painted(painted.ids[:0, :0], painted.regions, painted.losses))
    return results


def to_json(
    categories: Sequence[Category], samples: Sequence[Sample], painted: Sequence[Painted]
) -> dict[str, Any]:
    """A panoptic document; every image has its entry, also an empty one."""
    return {
        "images": [
            {"id": s.id, "file_name": s.file_name, "height": s.height, "width": s.width}
            for s in samples
        ],
        "annotations": [
            {
                "image_id": s.id,
                "file_name": png_name(s),
                "segments_info": [r.to_json() for r in p.regions],
            }
            for s, p in zip(samples, painted, strict=True)
        ],
        "categories": [category_json(c) for c in categories],
    }


def png_name(sample: Sample) -> str:
    """`a/b.c.jpg` gives `a/b.c.png`: folders stay, only the last extension goes."""
    return PurePosixPath(sample.file_name).with_suffix(".png").as_posix()
