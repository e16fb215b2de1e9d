"""
The working dataset between stages: `dataset.json` and `samples.jsonl`, one image a line.

Written in file-name order with sorted keys, so the same dataset is always the same bytes.
Read lazily, a line at a time, so that ten images and ten million take the same code.
Shards named `samples-00000-of-00016.jsonl` read as one.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .dataset import Category, Dataset, Sample, Segment
from .errors import FormatError, UsageError
from .files import canonical_json, fast_json, new_folder, safe_path, write_atomic
from .lazy import Lazy
from .masks import Rle

SCHEMA = "publisher/dataset/1"
MARKER = "dataset.json"
_MAX_HEADER = 2**24  # bytes that are looked through for the schema
_MAX_LINE = 2**30  # bytes of one sample


class _Category(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    name: str
    supercategory: str = ""
    isthing: bool = True
    color: tuple[int, int, int] | None = None


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    schema: str
    name: str
    categories: list[_Category]
    images: str | None = None
    sources: list[dict[str, Any]] = []
    provenance: dict[str, Any] = {}


class _Rle(msgspec.Struct, forbid_unknown_fields=True):
    size: tuple[int, int]
    counts: str | list[int]


class _Segment(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    id: int
    category_id: int
    segmentation: list[list[float]] | _Rle
    iscrowd: bool = False
    z_order: int | None = None
    attributes: dict[str, Any] = {}
    origin: dict[str, Any] = {}


class _Sample(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    file_name: str
    height: int
    width: int
    group: str | None = None
    split: str | None = None
    source: dict[str, Any] = {}
    segments: list[_Segment] = []


def is_workspace(path: Path) -> bool:
    """Does this folder hold a working dataset, be it damaged? Others call a file so, too."""
    header = path / MARKER
    if not header.is_file():
        return False
    with header.open("rb") as stream:
        ours = SCHEMA.encode() in stream.read(_MAX_HEADER)
    return ours or any(path.glob("samples*.jsonl"))


def read(path: Path) -> Dataset:
    """
    Open a working dataset; samples are read when they are looked at.

    Raises:
        UsageError: no `dataset.json` there.
        FormatError: it is not what this module writes.
    """
    try:
        body = (path / MARKER).read_bytes()
    except OSError:
        raise UsageError(
            f"{path} is not a working dataset: it has no {MARKER}",
            hint="make one with `publisher import SRC -o DIR`",
        ) from None
    header = _decode(body, _Header, str(path / MARKER))
    if header.schema != SCHEMA:
        raise FormatError(f"schema is {header.schema!r}, not {SCHEMA!r}", path=str(path / MARKER))
    categories = tuple(
        Category(c.id, c.name, c.supercategory, c.isthing, c.color) for c in header.categories
    )
    return Dataset(
        name=header.name,
        categories=categories,
        samples=Lines(_shards(path)),
        images=(path / header.images).resolve() if header.images is not None else None,
        sources=tuple(header.sources),
        provenance=header.provenance,
    )


def write(path: Path, dataset: Dataset, *, samples: Iterable[Sample] | None = None) -> None:
    """
    Write a working dataset that points to the images where they are; replaces our own only.

    Samples must come sorted by file name; `samples` are written instead of the dataset's.

    Raises:
        UsageError: the images lie in the folder that would be replaced.
    """
    keep_images(dataset, path)
    with new_folder(path, ours=is_workspace) as part:
        fill(part, dataset, images=relative(dataset.images, path), samples=samples)


def keep_images(dataset: Dataset, path: Path) -> None:
    """
    Refuse to replace a folder that the dataset's own images lie in.

    Raises:
        UsageError: they do.
    """
    if dataset.images is not None and dataset.images.is_relative_to(path.resolve()):
        raise UsageError(f"{path} holds the images themselves", hint="choose another folder for -o")


def fill(
    folder: Path,
    dataset: Dataset,
    *,
    images: str | None,
    samples: Iterable[Sample] | None = None,
) -> None:
    """
    Write the two files into a folder.

    Args:
        images: the image root, relative to the folder.
        samples: write these instead of the dataset's.
    """
    header = {
        "schema": SCHEMA,
        "name": dataset.name,
        "categories": [_category(c) for c in dataset.categories],
        "images": images,
        "sources": dataset.sources,
        "provenance": dataset.provenance,
    }
    with (folder / "samples.jsonl").open("wb") as stream:
        for sample in dataset.samples if samples is None else samples:
            stream.write(line_of(sample) + b"\n")
    write_atomic(folder / MARKER, canonical_json(header, indent=1))


def line_of(sample: Sample) -> bytes:
    """A sample as a working dataset keeps it, without the end of the line."""
    return fast_json(_sample(sample))


def sample_of(line: bytes) -> Sample:
    """The inverse of `line_of`."""
    return _parse(line, Path("samples.jsonl"), 0)


class Lines(Lazy[Sample]):
    """Samples in JSONL files, parsed one at a time; holds 16 bytes a sample."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = shards
        self._offsets = [_line_starts(shard) for shard in shards]

    def __len__(self) -> int:
        return sum(map(len, self._offsets))

    def _at(self, index: int) -> Sample:
        at = index
        for shard, starts in zip(self._shards, self._offsets, strict=True):
            if at < len(starts):
                with shard.open("rb") as stream:
                    stream.seek(starts[at])
                    return _parse(stream.readline(_MAX_LINE), shard, at)
            at -= len(starts)
        raise IndexError(index)

    def __iter__(self) -> Iterator[Sample]:
        for shard in self._shards:
            with shard.open("rb") as stream:
                for number, line in enumerate(stream):
                    yield _parse(line, shard, number)


def _shards(path: Path) -> list[Path]:
    single = path / "samples.jsonl"
    shards = [single] if single.is_file() else sorted(path.glob("samples-*-of-*.jsonl"))
    if not shards:
        raise FormatError("no samples.jsonl beside it", path=str(path / MARKER))
    total = 1 if shards == [single] else int(shards[0].stem.rsplit("-", 1)[-1])
    if len(shards) != total:
        raise FormatError(f"{len(shards)} of {total} sample shards are there", path=str(path))
    return shards


def _line_starts(shard: Path) -> Sequence[int]:
    starts = array("q")
    at = 0
    with shard.open("rb") as stream:
        for line in stream:
            starts.append(at)
            at += len(line)
    return starts


def _parse(line: bytes, shard: Path, number: int) -> Sample:
    raw = _decode(line, _Sample, f"{shard.name} line {number + 1}")
    safe_path(raw.file_name)
    if raw.split is not None and len(safe_path(raw.split).parts) > 1:  # files are named after it
        raise FormatError(f"split is no plain name: {raw.split!r}", path=raw.file_name, code="I109")
    return Sample(
        id=raw.id,
        file_name=raw.file_name,
        height=raw.height,
        width=raw.width,
        group=raw.group,
        split=raw.split,
        source=raw.source,
        segments=tuple(_segment(s) for s in raw.segments),
    )


def _segment(raw: _Segment) -> Segment:
    geometry = raw.segmentation
    if isinstance(geometry, _Rle):
        counts = geometry.counts if isinstance(geometry.counts, str) else tuple(geometry.counts)
        segmentation: Any = Rle(*geometry.size, counts)
    else:
        segmentation = tuple(tuple(ring) for ring in geometry)
    return Segment(
        raw.id,
        raw.category_id,
        segmentation,
        raw.iscrowd,
        raw.z_order,
        raw.attributes,
        raw.origin,
    )


def _decode(body: bytes, kind: type[Any], label: str) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(str(error), path=label, code="J001") from None


def _category(c: Category) -> dict[str, Any]:
    return {
        "id": c.id,
        "name": c.name,
        "supercategory": c.supercategory,
        "isthing": c.isthing,
        "color": c.color,
    }


def _sample(s: Sample) -> dict[str, Any]:
    return {
        "id": s.id,
        "file_name": s.file_name,
        "height": s.height,
        "width": s.width,
        "group": s.group,
        "split": s.split,
        "source": s.source,
        "segments": [_plain_segment(g) for g in s.segments],
    }


def _plain_segment(s: Segment) -> dict[str, Any]:
    geometry: Any = s.segmentation
    if isinstance(geometry, Rle):
        geometry = {"size": [geometry.height, geometry.width], "counts": geometry.counts}
    return {
        "id": s.id,
        "category_id": s.category_id,
        "segmentation": geometry,
        "iscrowd": s.iscrowd,
        "z_order": s.z_order,
        "attributes": s.attributes,
        "origin": s.origin,
    }


def relative(images: Path | None, folder: Path) -> str | None:
    """The image root as a working dataset in `folder` names it."""
    if images is None:
        return None
    return Path(os.path.relpath(images, folder.resolve())).as_posix()


def sorted_samples(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """In the order in which a working dataset keeps them."""
    return tuple(sorted(samples, key=lambda s: s.file_name))
