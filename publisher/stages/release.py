"""
Build: from a working dataset to a release tree, which is also what `pull` gives.

    README.md LICENSE CITATION.cff [CHANGELOG.md] manifest.json provenance.json
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

from .. import card as cards
from ..card import Card
from ..dataset import Category, Dataset, Sample, Segment, namesakes
from ..engine import ordered
from ..errors import InvalidDataset, UsageError
from ..files import canonical_json, holding, new_folder, sha256_of, write_atomic
from ..formats import coco, coco_panoptic
from ..formats.coco import image_json
from ..formats.coco_documents import Documents, documents
from ..images import strip_metadata
from ..names import safe_path
from ..panoptic import Loss, Overlap, Painted, chunks, paint_all
from ..progress import Progress, silent
from ..stats import Stats, stats_of
from ..validate import RULES, check
from ..versions.manifest import Entry, Manifest
from ..versions.partial import document_paths

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
    changelog: str | None = None,
    on_image: Progress = silent,
) -> Built:
    """
    Write the release tree of a dataset whose samples all have a split.

    Args:
        overlap: who wins overlapping pixels in the panoptic maps; see `panoptic.paint`.
        provenance: where this comes from; see provenance.py.
        changelog: the text of CHANGELOG.md, which is part of what the version is.

    Raises:
        InvalidDataset: samples without a split, names that clash, no images.
        OverlapError: segments overlap and nothing says who wins.
        FormatError: a segment has no valid mask.
    """
    dataset = _under(card, dataset)
    _check(dataset)
    stats = stats_of(dataset)
    with new_folder(out, ours=holding(MARKER)) as part:
        losses: list[tuple[str, Loss]] = []
        stripped = done = 0
        work = _Work(part, dataset.images, dataset.categories, overlap)
        with documents(dataset.categories) as found:
            for put in ordered(work, chunks(dataset)):
                for split, lists in put.lists.items():
                    _append(part, split, lists, found)
                losses += put.losses
                stripped += put.stripped
                done += put.images
                on_image(done, len(dataset))
        _put_documents(part, card, stats, dataset.categories)
        if changelog is not None:
            (part / "CHANGELOG.md").write_text(changelog, "utf-8", newline="\n")
        write_atomic(part / "provenance.json", canonical_json(provenance or {}, indent=1))
        manifest = manifest_of(part, card.name, dataset.splits)
        write_atomic(part / MARKER, manifest.to_bytes())
    return Built(manifest, stats, tuple(losses), stripped)


def _under(card: Card, dataset: Dataset) -> Dataset:
    """The dataset with the card's categories; segments follow their category by its name."""
    if namesakes(dataset.categories):
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
    folder = path.partition("/")[0]
    if folder == "annotations":
        return next((s for s in splits if path in document_paths(s)), None)
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


@dataclass(slots=True)
class _Lists:
    """What a chunk adds to the documents of one split, as JSON lists and lines."""

    images: bytes
    instances: bytes
    panoptic: bytes
    rows: bytes


@dataclass(frozen=True, slots=True)
class _Put:
    """A chunk whose pictures and maps are written."""

    images: int
    stripped: int
    lists: Mapping[str, _Lists]
    losses: Sequence[tuple[str, Loss]]


@dataclass(frozen=True, slots=True)
class _Work:
    """Writes the pictures and maps of a chunk of samples."""

    tree: Path
    pictures: Path | None
    categories: Sequence[Category]
    overlap: Overlap | None

    def __call__(self, samples: Sequence[Sample]) -> _Put:
        folders = [self.tree / str(s.split) for s in samples]
        stripped = sum(
            _put_image(self.pictures, s, f / "images")
            for s, f in zip(samples, folders, strict=True)
        )
        painted = list(paint_all(samples, {c.id: c for c in self.categories}, self.overlap))
        coco_panoptic.put_maps(samples, painted, [f / "panoptic" for f in folders])
        losses = [
            (s.file_name, loss) for s, p in zip(samples, painted, strict=True) for loss in p.losses
        ]
        lists = {}
        for split in {str(s.split): None for s in samples}:
            mine = [i for i, s in enumerate(samples) if s.split == split]
            lists[split] = self._lists([samples[i] for i in mine], [painted[i] for i in mine])
        return _Put(len(samples), stripped, lists, losses)

    def _lists(self, samples: Sequence[Sample], painted: Sequence[Painted]) -> _Lists:
        instances = coco.to_json(self.categories, samples)["annotations"]
        own = iter(instances)
        rows = [
            _row(s, p, [next(own) for _ in s.segments])
            for s, p in zip(samples, painted, strict=True)
        ]
        regions = [
            coco_panoptic.annotation_json(s, p) for s, p in zip(samples, painted, strict=True)
        ]
        return _Lists(
            images=canonical_json([image_json(s) for s in samples]),
            instances=canonical_json(instances),
            panoptic=canonical_json(regions),
            rows=b"".join(canonical_json(row) + b"\n" for row in rows),
        )


def _append(tree: Path, split: str, lists: _Lists, found: Documents) -> None:
    folder = tree / "annotations"
    found.add(folder / f"instances_{split}.json", lists.images, lists.instances)
    found.add(folder / f"panoptic_{split}.json", lists.images, lists.panoptic)
    with (tree / split / "metadata.jsonl").open("ab") as stream:
        stream.write(lists.rows)


def _put_image(pictures: Path | None, sample: Sample, folder: Path) -> bool:
    """Copy a picture without its metadata; True where there was some."""
    assert pictures is not None
    target = folder / safe_path(sample.file_name)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        body = (pictures / sample.file_name).read_bytes()
    except OSError as error:
        raise InvalidDataset(f"{sample.file_name}: picture is missing") from error
    clean = strip_metadata(body)
    target.write_bytes(clean)
    return len(clean) < len(body)


def _row(
    sample: Sample, painted: Painted, instances: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A line of Hugging Face's imagefolder metadata; every `*_file_name` loads as an image."""
    keys = ("id", "bbox", "area", "iscrowd")
    return {
        "file_name": f"images/{sample.file_name}",
        "panoptic_file_name": f"panoptic/{coco_panoptic.png_name(sample)}",
        "image_id": sample.id,
        "height": sample.height,
        "width": sample.width,
        "segments_info": [r.to_json() for r in painted.regions],
        "objects": {
            "category": [a["category_id"] for a in instances],
            **{key: [a[key] for a in instances] for key in keys},
        },
    }


def _put_documents(tree: Path, card: Card, stats: Stats, classes: Sequence[Category]) -> None:
    (tree / "README.md").write_text(cards.readme(card, stats, classes), "utf-8")
    (tree / "LICENSE").write_text(cards.license_text(card), "utf-8")
    (tree / "CITATION.cff").write_text(cards.citation(card), "utf-8")
