"""
COCO instances: https://cocodataset.org/#format-data, section 1.

Reads polygons, compressed and uncompressed RLE, one file or one a subset, with images in
any of the usual layouts. An export by CVAT ("COCO 1.0") is recognised, and what CVAT bends
in it is set right where the file still says enough: brush masks that it marks as crowds,
boxes that it writes without a polygon.

A file of any size is read in a few hundred MB: a first pass sorts its annotations by their
images into a temporary file, and each is parsed when its image is looked at.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import msgspec
import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from ..columns import Column, Ids, Rows, Texts
from ..conservation import Item, Ledger, Tally
from ..dataset import Category, Dataset, Sample, Segment
from ..errors import FormatError, at
from ..files import Tree, fast_json, json_error, own_names
from ..json_stream import Document, Window, places
from ..masks import Mask, Rle
from ..names import safe_path
from ..shapes.drawing import draw, keep_memory
from ..spill import Spill
from ..validate import Finding, finding_of
from . import coco_records as records
from .coco_licences import Licences, Listed, key_of, unlisted
from .coco_places import ImageFinder
from .coco_records import Annotation, Bent, Head, Image, Row
from .documents import Mended, info_left
from .keeping import fields_beyond
from .reading import Header, Merged, Picture, Reading, remark

_LICENCES_OF_CVAT = [{"name": "", "id": 0, "url": ""}]
_BATCH = 512  # segments that are drawn together
_LISTS = ("images", "annotations", "categories")
_KNOWN = {*_LISTS, "info", "licenses", "type"}  # "type": "instances" was COCO's in 2014


def detect(tree: Tree) -> bool:
    """Does the tree hold a JSON object with images, annotations and categories?"""
    return next(_documents(tree), None) is not None


def read(tree: Tree) -> Reading:
    """
    Read one annotation file, or all of a folder or archive, as one dataset.

    Records that cannot be read become findings; the rest is read. Geometry is looked at
    with its picture.

    Raises:
        FormatError: no such file, not JSON, or no COCO at its top level.
    """
    names = list(_documents(tree))
    if not names:
        raise FormatError("no COCO instances file", path=tree.label)
    finder = ImageFinder(tree, names)
    files = []
    for name in names:
        try:
            files.append(_File(name, _subset(name), tree, finder))
        except FormatError as error:
            error.path = error.path or f"{tree.label}: {name}"
            raise
    return _joined(files)


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def write(dataset: Dataset, folder: Path) -> tuple[Item, ...]:
    """
    Write `instances_<split>.json` for each split; `instances.json` for what has none.

    Polygons stay polygons, with areas and boxes computed from their pixels. The dataset is
    looked at once, and only some hundred of its segments are held.
    """
    categories = [category_json(c) for c in dataset.categories]
    ledger = Ledger()
    with ExitStack() as stack:
        open_: dict[str | None, _Writer] = {}
        for sample, figures in _with_figures(dataset):
            if (split := sample.split) not in open_:
                writer = _Writer(folder, split, categories, ledger)
                open_[split] = stack.enter_context(writer)
            open_[split].put(sample, figures)
        if not open_:
            stack.enter_context(_Writer(folder, None, categories, ledger))
    return ledger.items


class _Writer:
    """One document that is written as its samples come: annotations, categories, images."""

    def __init__(
        self,
        folder: Path,
        split: str | None,
        categories: Sequence[Mapping[str, Any]],
        ledger: Ledger,
    ) -> None:
        name = "instances.json" if split is None else f"instances_{split}.json"
        self._path = folder / name
        self._categories = categories
        self._images = Spill()
        self._licences = Licences(ledger)
        self._ledger = ledger
        self._blocks: list[bytes] = [b'{"annotations":[']
        self._first = True

    def __enter__(self) -> _Writer:
        self._stream: BinaryIO = self._path.open("wb")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stream:
            if kind is None:
                self._finish()

    def put(self, sample: Sample, figures: Sequence[_Figure]) -> None:
        rows = [
            {**fields_beyond(s.origin, said.keys(), self._ledger, sample.file_name), **said}
            if "extra" in s.origin
            else said
            for s, said in zip(
                sample.segments, _annotations(sample, figures, outlines=True), strict=True
            )
        ]
        if rows:
            text = fast_json(rows)[1:-1]
            self._blocks.append(text if self._first else b"," + text)
            self._first = False
        image = fast_json(self._licences.numbered(image_record(sample, self._ledger)))
        self._images.append(b"," + image if len(self._images) else image)
        if len(self._blocks) > 500:
            self._flush()

    def _flush(self) -> None:
        self._stream.write(b"".join(self._blocks))
        self._blocks.clear()

    def _finish(self) -> None:
        self._blocks += [b'],"categories":', fast_json(self._categories), b',"images":[']
        self._flush()
        for start in range(0, len(self._images), 2**20):
            self._stream.write(self._images.read(start, 2**20))
        licences = b',"licenses":' + fast_json(self._licences.said) if self._licences.said else b""
        self._stream.write(b"]" + licences + b"}")


def to_json(categories: Sequence[Category], samples: Sequence[Sample]) -> dict[str, Any]:
    """
    An instances document: compressed RLE, integer boxes and areas, computed from pixels.

    `iscrowd` is 0 for every instance but true crowds: an RLE is not a crowd.
    """
    return {
        "images": [image_json(s) for s in samples],
        "annotations": [a for s in samples for a in _annotations(s, _figures(s))],
        "categories": [category_json(c) for c in categories],
    }


def category_json(c: Category) -> dict[str, Any]:
    """COCO's category; instance files do not mind the panoptic keys."""
    said = {"id": c.id, "name": c.name, "supercategory": c.supercategory, "isthing": int(c.isthing)}
    return {**said, "color": list(c.color)} if c.color is not None else said


def image_json(s: Sample) -> dict[str, Any]:
    """An element of `images`."""
    return {"id": s.id, "file_name": s.file_name, "height": s.height, "width": s.width}


_Figure = tuple[Mask, int, list[int]]  # a segment as pixels, how many, and their box


def _figures(sample: Sample) -> list[_Figure]:
    masks = [s.mask(sample.height, sample.width) for s in sample.segments]
    return [(m, m.area, list(m.bbox)) for m in masks]


def _with_figures(samples: Iterable[Sample]) -> Iterator[tuple[Sample, list[_Figure]]]:
    """
    Each sample with its figures, drawn by the batch.

    Raises:
        FormatError: a segment has no valid mask.
    """
    keep_memory()
    batch, size = list[Sample](), 0
    for sample in samples:
        batch.append(sample)
        size += len(sample.segments) + 1
        if size >= _BATCH:
            yield from _drawn_together(batch)
            batch, size = [], 0
    yield from _drawn_together(batch)


def _drawn_together(batch: Sequence[Sample]) -> Iterator[tuple[Sample, list[_Figure]]]:
    segments = [s for sample in batch for s in sample.segments]
    drawn = draw(segments, [(x.height, x.width) for x in batch for _ in x.segments])
    found = zip(drawn.masks, drawn.areas.tolist(), drawn.boxes.tolist(), strict=True)
    for sample in batch:
        figures = []
        for index, (mask, area, box) in enumerate(islice(found, len(sample.segments))):
            if isinstance(mask, FormatError):
                mask.where = (sample.file_name, index, *mask.where)
                raise mask
            figures.append((mask, area, box))
        yield sample, figures


def _annotations(
    sample: Sample, figures: Sequence[_Figure], *, outlines: bool = False
) -> Iterator[dict[str, Any]]:
    """Every segment as an annotation; with `outlines`, its polygons where it has any."""
    for s, (mask, area, box) in zip(sample.segments, figures, strict=True):
        polygons = outlines and not isinstance(s.segmentation, Rle)
        said: dict[str, Any] = {
            "id": s.id,
            "image_id": sample.id,
            "category_id": s.category_id,
            "segmentation": s.segmentation if polygons else mask.to_rle(),
            "area": area,
            "bbox": box,
            "iscrowd": int(s.iscrowd),
        }
        if s.z_order is not None:
            said["z_order"] = s.z_order  # not COCO's; readers pass over it, and ours keeps it
        yield {**said, "attributes": s.attributes} if s.attributes else said


def image_record(sample: Sample, ledger: Ledger) -> dict[str, Any]:
    """An element of `images`, with what its source said; see `Licences.numbered`."""
    own = image_json(sample)
    return {**fields_beyond(sample.source, own.keys(), ledger, sample.file_name), **own}


# ── documents ────────────────────────────────────────────────────────────────────────────────

_NAMED = re.compile(r"(^|/)(instances(_[^/]*)?|_annotations\.coco)\.json$", re.IGNORECASE)
_BESIDE = re.compile(r"(^|/)(captions|person_keypoints|stuff|image_info)_[^/]*\.json$")  # COCO's


def _documents(tree: Tree) -> Iterator[str]:
    """The instance files: by CVAT's and COCO's names, else by content."""
    found = [n for n in own_names(tree) if n.lower().endswith(".json")]
    named = [n for n in found if _NAMED.search(n)]
    alone = len(found) == 1 and len(own_names(tree)) == 1
    return iter(named) if named else (n for n in found if _looks_like_coco(tree, n, alone=alone))


def is_beside(name: str, kind: str | None) -> bool:
    """Is a file of this kind one of COCO's others, whose images instance files should list?"""
    return kind == "coco" and bool(_BESIDE.search(name))


def _looks_like_coco(tree: Tree, name: str, *, alone: bool) -> bool:
    """By content: the lists are there, and annotations are not panoptic ones."""
    keys: set[str] = set()
    with tree.open(name) as stream:
        try:
            for window in Document(stream).windows():
                if window.key == "annotations" and b'"segments_info"' in bytes(window.text):
                    return False  # panoptic, however broken its first entry
                if window.key == "annotations" and window.key not in keys:
                    first = msgspec.json.decode(window.items[0]) if window.items else None
                    if isinstance(first, dict) and {"image_id", "segmentation"} <= first.keys():
                        return True
                keys.add(window.key)
                if keys >= {"images", "annotations"}:
                    return True
        except (FormatError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # of the one file that was given, reading says what is wrong
            return alone and (bool(keys) or getattr(error, "code", "J001") != "J002")
    return False


def _subset(name: str) -> str:
    stem = PurePosixPath(name).stem
    if stem.lower() == "_annotations.coco":  # Roboflow: one folder a subset
        return PurePosixPath(name).parent.name
    subset = stem[len("instances_") :] if stem.lower().startswith("instances_") else ""
    return "" if subset == "default" else subset  # CVAT's name for no subset


# ── one file ─────────────────────────────────────────────────────────────────────────────────

_images_of = msgspec.json.Decoder(list[Image])
_heads_of = msgspec.json.Decoder(list[Head])
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_KEPT = 2**62  # places below 0 are in what was kept, from -_KEPT on
_ROW = np.dtype([("owner", "<i4"), ("number", "<i4"), ("at", "<i8"), ("size", "<i4")])
_KEYS = (b'"image_id"', b'"category_id"', b'"segmentation"')  # each is once in an annotation
_IMAGE_KEYS = (b'"id"', b'"file_name"', b'"height"', b'"width"')  # and these in an image


class _File:
    """
    One annotation file, sorted by image.

    Nothing of it stays in memory but its categories: ids, names and records are put aside.
    """

    def __init__(self, name: str, subset: str, tree: Tree, finder: ImageFinder) -> None:
        self.name = name
        self.subset = subset
        self.categories: dict[int, Category] = {}
        self.image_ids = Ids()
        self.names = Texts()
        self.ids = Ids()
        self.annotations = 0
        self.shared: frozenset[str] = frozenset()  # pictures that two images claim
        self.findings: list[Finding] = []
        self.mended: list[Finding] = []
        self.finder = finder
        self._tree = tree
        self._lost: dict[int, int] = {}  # images that cannot be read: id to position
        self._others: dict[str, Any] = {}  # info, licences
        self._named: set[str] = set()  # licences that images have
        self._first: Any = None  # annotation
        self._file: Spill | None = None
        self._kept = Spill()  # windows that are in no plain file as they are
        self._images = Column()  # of each, where it is and how long
        self._rows: Rows | None = None
        self._around: tuple[list[FormatError], bool] = [], False  # see Document
        self._sorted = self._order = np.empty(0, dtype=np.int64)  # image ids, and whose they are
        self._take()
        self.by_cvat = _by_cvat(self._others, self._first)
        self._licences = Listed(self._others.get("licenses"))
        left = [("J007", said) for said in self._licences.unused(self._named)]
        if not self.by_cvat:
            left += info_left(self._others.get("info"))
        self.mended += [remark(m, self.name) for m in left]
        for image_id, n in self.image_ids.repeated().items():
            said = f"image id {image_id} is used {n} times: whose are its annotations?"
            self.findings.append(Finding("I101", "error", said, self.name))

    def __len__(self) -> int:
        return len(self.names)

    def headers(self) -> Iterator[Header]:
        """Of all images, in the order of the file."""
        ids = chain.from_iterable(c.tolist() for c in self.image_ids.chunks())
        counts = self._annotations.counts()
        for image_id, name, n in zip(ids, self.names, counts, strict=True):
            said = name.decode()
            member = self.finder.find(said, self.name, self.subset)
            yield Header(image_id, said, said, self.subset, n, member)

    def look(self, index: int, bent: Bent) -> tuple[Picture, list[int]]:
        """An image with its annotations parsed, and the number of each segment in the file."""
        rows = self._annotations[index]
        image_text = self._read(*self._images.read(2 * index, 2))
        text = records.joined(image_text, rows["number"].tolist(), self._text(rows))
        group = records.group(text)
        image, name = group.image.said, group.image.said.file_name
        segments, numbers, findings = [], [], []
        mended = [*group.image.mended, *records.twice(image_text, _IMAGE_KEYS)]
        mended += records.twice(text, _KEYS, len(group.rows))
        mended += self._licence(image)
        for number, row in group.rows:
            try:
                segments.append(self._segment(row, bent))
                numbers.append(number)
            except FormatError as error:
                error.where = ("annotations", number, *error.where)
                findings.append(finding_of(error, name))
            if isinstance(row, Row):
                mended += row.mended
                if row.said.iscrowd is None:
                    mended.append(("A305", "iscrowd is missing; 0 is assumed"))
                if (row.said.bbox is None or row.said.area is None) and not (
                    row.extra.keys() & {"bbox", "area"}
                ):
                    mended.append(("A308", "bbox or area is missing; computed from the mask"))
        licence, extra = self._licences.told(records.extra_of(group.image))
        source: dict[str, Any] = {
            "subset": self.subset,
            "image_id": str(image.id),
            "name": name,
            "license": licence,
            "extra": extra,
        }
        sample = Sample(
            image.id,
            name,
            image.height,
            image.width,
            tuple(segments),
            source={k: v for k, v in source.items() if v},
        )
        member = self.finder.find(name, self.name, self.subset)
        if member in self.shared:
            sample = replace(sample, source={**sample.source, "image_shared_with": member})
        said = tuple(remark(m, name) for m in mended)
        return Picture(sample, member, tuple(findings), said), numbers

    def _text(self, rows: NDArray[np.void]) -> bytes:
        """Records as they are in the file, commas between them; neighbours are read together."""
        starts, sizes = rows["at"].tolist(), rows["size"].tolist()
        if not starts:
            return b""
        first, last = starts[0], starts[-1] + sizes[-1]
        if not 0 < last - first <= 2 * sum(sizes) or min(starts) < first:
            return b",".join(self._read(*place) for place in zip(starts, sizes, strict=True))
        text = self._read(first, last - first)
        if first >= 0 and int(rows["number"][-1] - rows["number"][0]) == len(rows) - 1:
            return text  # in the file, there is nothing else between two in a row
        return b",".join(
            text[a - first : a - first + n] for a, n in zip(starts, sizes, strict=True)
        )

    def _read(self, at_: int, size: int) -> bytes:
        """A record by its place: in the file, or before 0 in what was kept."""
        if at_ < 0 or self._file is None:
            return self._kept.read(at_ + _KEPT, size)
        return self._file.read(at_, size)

    def _place(self, window: Window) -> int:
        """Where the text of a window begins; see `_read`."""
        if self._file is not None and window.at >= 0:
            return window.at
        return self._kept.append(window.text) - _KEPT

    @property
    def _annotations(self) -> Rows:
        assert self._rows is not None
        return self._rows

    def _segment(self, row: Row[Annotation] | FormatError, bent: Bent) -> Segment:
        if isinstance(row, FormatError):
            raise row
        if row.said.category_id not in self.categories:
            raise FormatError(f"no category has id {row.said.category_id}", code="A304")
        return records.segment(row, by_cvat=self.by_cvat, bent=bent)

    def _licence(self, image: Image) -> Iterator[Mended]:
        if image.license not in (UNSET, None) and image.license not in self._licences:
            yield "I118", unlisted(image.license)

    # ── the first pass ───────────────────────────────────────────────────────────────────────

    def _take(self) -> None:
        """Everything once; annotations that come before their images, once more."""
        seen: dict[str, bool] = {}
        early = False
        for window in self._windows():
            if window.key == "annotations":
                seen_images = "images" in seen
                early |= not seen_images
                if seen_images:
                    self._deal(window)
            elif window.key == "images" and window.first is not None:
                self._take_images(window)
            elif window.key == "categories" and window.first is not None:
                self._take_categories(window)
            elif window.key in ("info", "licenses"):
                self._take_other(window)
            elif window.key not in seen and window.key not in _KNOWN:
                said = f"unknown key {window.key[:40]!r} at the top level; not kept"
                self.mended.append(Finding("J007", "info", said, self.name))
            seen[window.key] = window.first is not None
        for key in _LISTS:
            if not seen.get(key):
                raise FormatError(f"no list {key!r} at the top level")
        if early:
            for window in self._windows():
                if window.key == "annotations":
                    self._deal(window)
        self._rows = self._rows or Rows(_ROW, len(self))
        self._rows.sort()
        self._sorted = self._order = np.empty(0, dtype=np.int64)  # needed no more
        remarks, rest = self._around
        self.mended += [finding_of(error, self.name) for error in remarks]
        if rest:
            error = FormatError("more data follow the end of the JSON", code="J008")
            self.findings.append(finding_of(error, self.name))

    def _windows(self) -> Iterator[Window]:
        with self._tree.open(self.name) as stream:
            self._file = self._file or Spill.of(stream)
            document = Document(stream)
            yield from document.windows()
        self._around = (document.remarks, document.rest)

    def _take_other(self, window: Window) -> None:
        try:
            said = msgspec.json.decode(window.text)
        except _ERRORS as error:  # no mask needs it
            fault = json_error(error, bytes(memoryview(window.text)))
            said = f"{window.key} cannot be read, and is not kept: {fault.message}"
            self.mended.append(Finding(fault.code, "error", said, self.name))
            return
        self._others[window.key] = said if window.first is not None else said[0]

    def _take_categories(self, window: Window) -> None:
        for i, raw in enumerate(window.items, window.first or 0):
            with at("categories", i):
                if fault := window.faults.get(i):
                    raise fault
                row = records.record(bytes(memoryview(raw)), records.Category)
                self.mended += [remark(m, self.name) for m in row.mended]
                c = row.said
                if c.id in self.categories:
                    raise FormatError(f"category id {c.id} is used twice", code="C201")
                if c.isthing not in (0, 1):
                    raise FormatError(f"isthing is {c.isthing}", where=("isthing",), code="C208")
                self.categories[c.id] = Category(
                    c.id, c.name, c.supercategory or "", bool(c.isthing), c.color
                )

    def _take_images(self, window: Window) -> None:
        images: Sequence[Image | None]
        try:
            images = _images_of.decode(window.text)
        except _ERRORS:
            images = [None] * len(window.items)
        base = self._place(window)
        starts, sizes = (p.tolist() for p in places(window))
        ids = array("q")
        for n, (image, raw) in enumerate(zip(images, window.items, strict=True)):
            i = n + (window.first or 0)
            try:
                if image is None or not _is_sound(image):
                    with at("images", i):
                        image = _mended_image(raw, window.faults.get(i))
            except FormatError as error:
                self.findings.append(finding_of(error, self.name))
                self._lost[_id_of(raw)] = i
                continue
            ids.append(image.id)
            self.names.append(image.file_name.encode())
            if image.license is not UNSET:
                self._named.add(key_of(image.license))
            self._images.append(base + starts[n])
            self._images.append(sizes[n])
        self.image_ids.extend(np.array(ids, dtype=np.int64))

    def _deal(self, window: Window) -> None:
        """Put annotations to their images."""
        if window.first is None:
            return
        if self._rows is None:
            self._rows = Rows(_ROW, len(self))
            ids = chain.from_iterable(c.tolist() for c in self.image_ids.chunks())
            self._sorted = np.fromiter(ids, np.int64, len(self))
            if not self.image_ids.ascending:
                self._order = np.argsort(self._sorted, kind="stable")
                self._sorted = self._sorted[self._order]
        if self._first is None and window.items:
            self._first = _decoded(window.items[0])
        heads, good = self._heads(window)
        self.annotations += len(window.items)
        self.ids.extend(np.array([h.id for h in heads], dtype=np.int64))
        image_ids = np.array([h.image_id for h in heads], dtype=np.int64)
        if not len(self._sorted):
            found = np.zeros(len(heads), dtype=np.bool_)
            at_ = np.zeros(len(heads), dtype=np.int64)
        else:
            at_ = np.searchsorted(self._sorted, image_ids).clip(max=len(self._sorted) - 1)
            found = self._sorted[at_] == image_ids
        for i in np.flatnonzero(~found).tolist():
            self._orphan(good[i], heads[i].image_id)
        numbers = np.array(good, dtype=np.int64)[found]
        starts, sizes = places(window)
        rows = np.empty(len(numbers), dtype=_ROW)
        rows["owner"] = self._order[at_[found]] if len(self._order) else at_[found]
        rows["number"] = numbers
        rows["at"] = starts[numbers - window.first] + self._place(window)
        rows["size"] = sizes[numbers - window.first]
        self._rows.put(rows)

    def _heads(self, window: Window) -> tuple[list[Head], Sequence[int]]:
        """The heads of all annotations that have one, and the number of each."""
        first = window.first or 0
        try:
            heads = _heads_of.decode(window.text)
            return heads, range(first, first + len(heads))
        except _ERRORS:
            pass
        heads, numbers = [], []
        for number, raw in enumerate(window.items, first):
            try:
                with at("annotations", number):
                    if fault := window.faults.get(number):
                        raise fault
                    heads.append(records.image_id_of(bytes(memoryview(raw))))
                numbers.append(number)
            except FormatError as error:
                self.findings.append(finding_of(error, self.name))
        return heads, numbers

    def _orphan(self, number: int, image_id: int) -> None:
        said = f"no image has id {image_id}"
        if image_id in self._lost:
            said = f"its image, images[{self._lost[image_id]}], cannot be read"
        error = FormatError(said, where=("annotations", number), code="A303")
        self.findings.append(finding_of(error, self.name))


def _is_sound(image: Image) -> bool:
    return (
        _PLAIN.fullmatch(image.file_name) is not None
        and 0 < image.width < 2**31
        and 0 < image.height < 2**31
    )


_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]{,200}", re.ASCII)  # names beyond doubt


def _mended_image(raw: Raw, fault: FormatError | None) -> Image:
    if fault:
        raise fault
    image = records.record(bytes(memoryview(raw)), Image).said
    safe_path(image.file_name)
    if not (0 < image.width < 2**31 and 0 < image.height < 2**31):
        raise FormatError(f"image is {image.height}x{image.width}", code="I108")
    return image


def _decoded(raw: Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except _ERRORS:
        return None


def _id_of(raw: Raw) -> int:
    """The id that an image would have; 0 where it says none."""
    said = _decoded(raw)
    found = said.get("id") if isinstance(said, dict) else None
    return found if isinstance(found, int) else 0


# ── all files of an export ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Pictures:
    """The pictures of all files, parsed when they are looked at."""

    files: Sequence[_File]

    def __len__(self) -> int:
        return sum(map(len, self.files))

    def __getitem__(self, index: int) -> Picture:
        for f in self.files:
            if index < len(f):
                return f.look(index, Bent())[0]
            index -= len(f)
        raise IndexError(index)

    def __iter__(self) -> Iterator[Picture]:
        for f in self.files:
            for index in range(len(f)):
                yield f.look(index, Bent())[0]

    def headers(self) -> Iterator[Header]:
        for f in self.files:
            yield from f.headers()

    def segment_ids(self) -> Iterator[NDArray[np.int64]]:
        for f in self.files:
            yield from f.ids.chunks()


def _joined(files: Sequence[_File]) -> Reading:
    """All files of one export as one reading; ids that collide are given anew."""
    notes = _ids_given_anew(files)
    owners = _shared(files)
    for f in files:
        f.shared = frozenset(owners)
    notes += [_overwritten(member, owners[member]) for member in sorted(owners)]
    counted = Tally(sum(map(len, files)), sum(f.annotations for f in files))
    reading = Reading(
        name="",
        format="coco",
        categories=_categories(files),
        pictures=_Pictures(files),
        counted=counted,
        notes=tuple(notes),
        findings=tuple(x for f in files for x in f.findings),
        mended=(
            *(x for f in files for x in (*f.mended, *_bent_ids(f))),
            *_told_twice(files),
        ),
        files=frozenset(f.name for f in files),
    )
    return replace(reading, look_through=lambda: _look_through(files, reading))


def _look_through(files: Sequence[_File], reading: Reading) -> Reading:
    """Rasterise everything."""
    pixels: Counter[str] = Counter()
    findings, bent = list(reading.findings), {f.name: Bent() for f in files}
    mended = Merged()
    for f in files:
        batch: list[tuple[int, Segment, Sample]] = []
        for index in range(len(f)):
            picture, numbers = f.look(index, bent[f.name])
            findings += picture.findings
            mended.add(picture.mended)
            segments = zip(numbers, picture.sample.segments, strict=True)
            batch += [(number, s, picture.sample) for number, s in segments]
            if len(batch) >= _BATCH or index == len(f) - 1:
                findings += _drawn(batch, f.categories, pixels)
                batch.clear()
    return replace(
        reading,
        counted=Tally(reading.counted.images, reading.counted.segments, pixels),
        notes=(*reading.notes, *_lost_by_cvat([bent[f.name] for f in files if f.by_cvat])),
        findings=tuple(findings),
        mended=(*reading.mended, *mended),
        look_through=None,
    )


def _drawn(
    batch: Sequence[tuple[int, Segment, Sample]],
    categories: Mapping[int, Category],
    pixels: Counter[str],
) -> Iterator[Finding]:
    """Count the pixels of segments, each with its number in the file; say which have none."""
    drawn = draw([s for _, s, _ in batch], [(x.height, x.width) for _, _, x in batch])
    areas = drawn.areas.tolist()
    for (number, s, sample), mask, area in zip(batch, drawn.masks, areas, strict=True):
        if isinstance(mask, FormatError):
            mask.where = ("annotations", number, "segmentation", *mask.where)
            yield finding_of(mask, sample.file_name)
        else:
            pixels[categories[s.category_id].name] += area


def _ids_given_anew(files: Sequence[_File]) -> list[str]:
    """What to say of ids that cannot stay as they are."""
    notes = []
    image_ids = _together([f.image_ids for f in files])
    twice = [*image_ids.repeated()]
    if twice or not image_ids.usable:
        some = f" ({twice[:5]})" if twice else ""
        notes.append(f"image ids are used twice or below 1{some}; all numbered anew")
    everything = _together([f.ids for f in files])
    if not everything.usable or everything.repeated():
        notes.append("annotation ids are used twice or below 1; all numbered anew")
    return notes


def _together(ids: Sequence[Ids]) -> Ids:
    if len(ids) == 1:
        return ids[0]
    everything = Ids()
    for some in ids:
        for chunk in some.chunks():
            everything.extend(chunk)
    return everything


def _bent_ids(f: _File) -> Iterator[Finding]:
    """Ids of annotations that cannot stay, and categories that are not in order."""
    for i, n in f.ids.repeated().items():
        if i != 0:  # 0 stands for an id that is missing
            yield Finding("A301", "error", f"annotation id {i} is used {n} times", f.name)
    if not f.ids.usable:
        bad = sum(int(((ids < 1) | (ids >= 2**53)).sum()) for ids in f.ids.chunks())
        said = f"{bad:,} annotation id(s) are missing, below 1 or beyond 2^53"
        yield Finding("A302", "error", said, f.name)
    if [*f.categories] != sorted(f.categories):
        said = "categories are not in the order of their ids; sorted"
        yield Finding("C212", "info", said, f.name)


def _categories(files: Sequence[_File]) -> tuple[Category, ...]:
    """The categories of all files, which must agree on their ids."""
    joined: dict[int, Category] = {}
    for f in files:
        for c in f.categories.values():
            if joined.setdefault(c.id, c).name != c.name:
                raise FormatError(
                    f"category {c.id} is {c.name!r} here and {joined[c.id].name!r} in another file",
                    path=f.name,
                    code="C201",
                )
    return tuple(joined[i] for i in sorted(joined))


def _told_twice(files: Sequence[_File]) -> Iterator[Finding]:
    """Categories of which a later file says something else; the first is believed."""
    joined: dict[int, Category] = {}
    for f in files:
        for c in f.categories.values():
            first = joined.setdefault(c.id, c)
            for what in ("supercategory", "color", "isthing"):
                here, before = getattr(c, what), getattr(first, what)
                if here != before:
                    said = f"{what} of category {c.name!r} is {here!r} here, {before!r} elsewhere"
                    yield finding_of(FormatError(f"{said}; that is read", code="C201"), f.name)


def _shared(files: Sequence[_File]) -> dict[str, list[str]]:
    """Files that two images claim, and those images."""
    if not files[0].finder:
        return {}
    found: dict[str, list[str]] = {}
    claims = array("q")
    for f in files:
        for h in f.headers():
            claims.append(hash(h.member))
    values, counts = np.unique(np.array(claims, dtype=np.int64), return_counts=True)
    twice = set(values[counts > 1].tolist()) - {hash(None)}
    if not twice:
        return {}
    for f in files:
        for h in f.headers():
            if h.member is not None and hash(h.member) in twice:
                of = f"{h.file_name} of {f.subset or 'no subset'}"
                found.setdefault(h.member, []).append(of)
    return {member: owners for member, owners in found.items() if len(owners) > 1}


def _overwritten(member: str, owners: Sequence[str]) -> str:
    return (
        f"one picture, {member}, stands for {len(owners)} images ({', '.join(owners)}): "
        "the export has overwritten all but one"
    )


def _lost_by_cvat(files: Sequence[Bent]) -> list[str]:
    if not files:
        return []
    notes = [
        "CVAT's COCO 1.0 keeps no z-order, polylines, points, tags, sources and colours; "
        "export 'CVAT for images 1.1' to keep them"
    ]
    if n := sum(f.uncrowded for f in files):
        notes.append(f"{n} brush mask(s) or ellipse(s) were marked iscrowd 1 by CVAT; set to 0")
    if n := sum(f.boxes for f in files):
        notes.append(f"{n} box(es) had no polygon; rebuilt from bbox and rotation")
    if n := sum(f.wider for f in files):
        notes.append(
            f"{n} instance(s) have a box beyond their polygons: groups in CVAT whose boxes the "
            "export has dropped"
        )
    if n := sum(f.parts for f in files):
        notes.append(
            f"{n} instance(s) of several parts were groups in CVAT; where a group mixed labels, "
            "the export has given all parts the largest one's"
        )
    return notes


def _by_cvat(others: Mapping[str, Any], first: Any) -> bool:
    """CVAT leaves licence and info blank, and says `occluded` of every annotation."""
    info = others.get("info")
    blank_info = isinstance(info, dict) and "contributor" in info and not any(info.values())
    if others.get("licenses") != _LICENCES_OF_CVAT and not blank_info:
        return False
    attributes = first.get("attributes") if isinstance(first, dict) else None
    return first is None or (isinstance(attributes, dict) and "occluded" in attributes)
