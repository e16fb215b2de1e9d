"""
Build: from a working dataset to a release tree, which is also what `pull` gives.

    README.md LICENSE CITATION.cff manifest.json provenance.json
    annotations/instances_<split>.json annotations/panoptic_<split>.json
    <split>/metadata.jsonl <split>/images/<file_name> <split>/panoptic/<stem>.png

The same dataset and card give the same bytes. Only provenance.json knows where and from
which commit it was built, and it is no part of what the version is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import card as cards
from .card import Card
from .dataset import Category, Dataset, Sample, Segment
from .errors import InvalidDataset, UsageError
from .files import canonical_json, new_folder, sha256_of, write_atomic
from .formats import coco, coco_panoptic
from .images import strip_metadata
from .manifest import Entry, Manifest
from .names import safe_path
from .panoptic import Loss, Overlap, Painted
from .progress import Progress, silent
from .stats import Stats, stats_of
from .validate import RULES, check

MARKER = "manifest.json"
_NEEDED = {  # without these a release would overwrite its own files or mix up its ids
    *("I101", "I102", "I109", "I111"),
    *("A301", "A302", "A304", "C201", "C203"),
}


@dataclass(frozen=True, slots=True)
class Built:
    """A release tree: its manifest, its numbers, and what panoptic could not show."""

    manifest: Manifest
    stats: Stats
    losses: tuple[tuple[str, Loss], ...]  # (file name, loss)
    stripped: int  # pictures whose metadata was removed


def build(
    dataset: Dataset,
    out: Path,
    card: Card,
    *,
    overlap: Overlap | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_image: Progress = silent,
) -> Built:
    """
    Write the release tree of a dataset whose samples all have a split.

    Args:
        overlap: who wins overlapping pixels in the panoptic maps; see `panoptic.paint`.
        provenance: where this comes from; see provenance.py.

    Raises:
        InvalidDataset: samples without a split, names that clash, no images.
        OverlapError: segments overlap and nothing says who wins.
        FormatError: a segment has no valid mask.
    """
    dataset = _under(card, dataset)
    _check(dataset)
    stats = stats_of(dataset)
    with new_folder(out, marker=MARKER) as part:
        losses: list[tuple[str, Loss]] = []
        stripped = done = 0
        for split in dataset.splits:
            samples = [s for s in dataset if s.split == split]
            painted = []
            for sample in samples:
                stripped += _put_image(dataset, sample, part / split / "images")
                painted += _put_map(sample, dataset, part / split / "panoptic", overlap)
                losses += [(sample.file_name, loss) for loss in painted[-1].losses]
                done += 1
                on_image(done, len(dataset))
            _put_annotations(dataset.categories, samples, painted, part, split)
        _put_documents(part, card, stats, dataset.categories)
        write_atomic(part / "provenance.json", canonical_json(provenance or {}, indent=1))
        manifest = manifest_of(part, card.name, dataset.splits)
        write_atomic(part / MARKER, manifest.to_bytes())
    return Built(manifest, stats, tuple(losses), stripped)


def _under(card: Card, dataset: Dataset) -> Dataset:
    """The dataset with the card's categories; segments follow their category by its name."""
    if len({c.name for c in dataset.categories}) < len(dataset.categories):
        raise InvalidDataset("two categories share a name (C202)", hint="rename one of them")
    known = cards.categories(card, dataset.categories)
    number = {c.name: c.id for c in known}
    moved = {c.id: number[c.name] for c in dataset.categories}
    if all(old == new for old, new in moved.items()):
        return replace(dataset, categories=known)
    samples = tuple(
        replace(s, segments=tuple(_moved(g, moved) for g in s.segments)) for s in dataset
    )
    return replace(dataset, categories=known, samples=samples)


def _moved(segment: Segment, moved: Mapping[int, int]) -> Segment:
    return replace(segment, category_id=moved.get(segment.category_id, 0))  # 0: no category


def manifest_of(tree: Path, name: str, splits: Sequence[str]) -> Manifest:
    """The manifest of all files of a tree; a file belongs to the split that its path names."""
    entries = []
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        relative = path.relative_to(tree).as_posix()
        if relative != MARKER:
            split = _split_of(relative, splits)
            entries.append(Entry(relative, path.stat().st_size, sha256_of(path), split))
    return Manifest(name, tuple(entries))


def _split_of(path: str, splits: Sequence[str]) -> str | None:
    folder, _, rest = path.partition("/")
    if folder == "annotations":
        return next((s for s in splits if rest.endswith(f"_{s}.json")), None)
    return folder if folder in splits else None


def _check(dataset: Dataset) -> None:
    if dataset.images is None:
        raise UsageError("this dataset has no images", hint="make one with `publisher import`")
    homeless = [s.file_name for s in dataset if s.split is None]
    if homeless:
        raise InvalidDataset(
            f"{len(homeless)} image(s) have no split, the first: {homeless[0]}",
            hint="deal them with `publisher split DIR -o DIR`",
        )
    reserved = {"annotations", "common", "provenance"} & set(dataset.splits)
    if reserved:
        raise InvalidDataset(f"a split cannot be called {reserved.pop()!r}")
    wrong = list(check(dataset, ignore=RULES.keys() - _NEEDED))
    if wrong:
        raise InvalidDataset(
            f"{len(wrong)} finding(s) stand in the way, the first: {wrong[0]}",
            wrong,
            hint="`publisher validate DIR` lists them",
        )


def _put_image(dataset: Dataset, sample: Sample, folder: Path) -> bool:
    """Copy a picture without its metadata; True where there was some."""
    assert dataset.images is not None
    target = folder / safe_path(sample.file_name)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        body = (dataset.images / sample.file_name).read_bytes()
    except OSError as error:
        raise InvalidDataset(f"{sample.file_name}: picture is missing") from error
    clean = strip_metadata(body)
    target.write_bytes(clean)
    return len(clean) < len(body)


def _put_map(
    sample: Sample, dataset: Dataset, folder: Path, overlap: Overlap | None
) -> list[Painted]:
    return coco_panoptic.write_maps([sample], dataset.category_of, folder, overlap)


def _put_annotations(
    categories: Sequence[Category],
    samples: Sequence[Sample],
    painted: Sequence[Painted],
    tree: Path,
    split: str,
) -> None:
    folder = tree / "annotations"
    folder.mkdir(exist_ok=True)
    instances = coco.to_json(categories, samples)
    panoptic = coco_panoptic.to_json(categories, samples, painted)
    (folder / f"instances_{split}.json").write_bytes(canonical_json(instances))
    (folder / f"panoptic_{split}.json").write_bytes(canonical_json(panoptic))
    rows = [_row(s, p) for s, p in zip(samples, painted, strict=True)]
    body = b"".join(canonical_json(row) + b"\n" for row in rows)
    (tree / split / "metadata.jsonl").write_bytes(body)


def _row(sample: Sample, painted: Painted) -> dict[str, Any]:
    """A line of Hugging Face's imagefolder metadata; every `*_file_name` loads as an image."""
    masks = [s.mask(sample.height, sample.width) for s in sample.segments]
    return {
        "file_name": f"images/{sample.file_name}",
        "panoptic_file_name": f"panoptic/{coco_panoptic.png_name(sample)}",
        "image_id": sample.id,
        "height": sample.height,
        "width": sample.width,
        "segments_info": [r.to_json() for r in painted.regions],
        "objects": {
            "id": [s.id for s in sample.segments],
            "category": [s.category_id for s in sample.segments],
            "bbox": [list(m.bbox) for m in masks],
            "area": [m.area for m in masks],
            "iscrowd": [int(s.iscrowd) for s in sample.segments],
        },
    }


def _put_documents(tree: Path, card: Card, stats: Stats, classes: Sequence[Category]) -> None:
    (tree / "README.md").write_text(cards.readme(card, stats, classes), "utf-8")
    (tree / "LICENSE").write_text(cards.license_text(card), "utf-8")
    (tree / "CITATION.cff").write_text(cards.citation(card), "utf-8")
