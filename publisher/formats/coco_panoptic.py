"""COCO panoptic: https://cocodataset.org/#format-data, section 4. Written only, so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..dataset import Category, Dataset, Sample, by_split
from ..files import canonical_json
from ..images import write_png
from ..panoptic import Overlap, Painted, paint, rgb_from_ids
from .coco import category_json


def write(dataset: Dataset, folder: Path, overlap: Overlap | None = None) -> None:
    """
    Write `panoptic_<split>.json` and `panoptic_<split>/<stem>.png` for each split, and
    `panoptic.json` and `panoptic/` for samples that have none.

    Raises:
        OverlapError: segments overlap and nothing says who wins.
    """
    for split, samples in by_split(dataset):
        name = "panoptic" if split is None else f"panoptic_{split}"
        painted = write_maps(samples, dataset.category_of, folder / name, overlap)
        document = to_json(dataset.categories, samples, painted)
        (folder / f"{name}.json").write_bytes(canonical_json(document))


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
