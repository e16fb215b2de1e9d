"""
COCO instances: https://cocodataset.org/#format-data, section 1.

Reads polygons, compressed and uncompressed RLE, one file or one a subset, with images in
any of the usual layouts. An export by CVAT ("COCO 1.0") is recognised, and what CVAT bends
in it is set right where the file still says enough: brush masks that it marks as crowds,
boxes that it writes without a polygon.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from ..conservation import Item, Tally
from ..dataset import Category, Dataset, Sample, Segment, by_split
from ..errors import FormatError, at
from ..files import SPARE, Tree, canonical_json, own_names, read_json
from ..masks import Rle
from ..names import safe_path
from ..validate import Finding, finding_of
from .cvat import box_ring
from .documents import converted
from .reading import Picture, Reading

_NAMED = re.compile(r"(^|/)(instances(_[^/]*)?|_annotations\.coco)\.json$")
_LICENCES_OF_CVAT = [{"name": "", "id": 0, "url": ""}]


class _Image(msgspec.Struct):
    id: int
    width: int
    height: int
    file_name: str


class _Category(msgspec.Struct):
    id: int
    name: str
    supercategory: str | None = ""
    isthing: int = 1
    color: tuple[int, int, int] | None = None


class _Counts(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    id: int = 0
    segmentation: list[list[float]] | _Counts | None = None
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: int | None = None
    z_order: int | None = None
    attributes: dict[str, Any] | None = None


def detect(tree: Tree) -> bool:
    """Does the tree hold a JSON object with images, annotations and categories?"""
    return bool(_documents(tree))


def read(tree: Tree) -> Reading:
    """
    Read one annotation file, or all of a folder or archive, as one dataset.

    Annotations that cannot be read become findings; the rest is read.

    Raises:
        FormatError: no such file, not JSON, or no COCO at its top level.
    """
    names = _documents(tree)
    if not names:
        raise FormatError("no COCO instances file", path=tree.label)
    readers = []
    for name in names:
        with tree.open(name) as stream:
            try:
                document = read_json(stream, tree.size(name))
                readers.append(_File(name, _subset(name), tree).take(document))
            except FormatError as error:
                error.path = error.path or f"{tree.label}: {name}"
                raise
    return _joined(readers)


def write(dataset: Dataset, folder: Path) -> tuple[Item, ...]:
    """Write `instances_<split>.json` for each split; `instances.json` for what has none."""
    for split, samples in by_split(dataset):
        name = "instances.json" if split is None else f"instances_{split}.json"
        (folder / name).write_bytes(canonical_json(to_json(dataset.categories, samples)))
    return ()


def to_json(categories: Sequence[Category], samples: Sequence[Sample]) -> dict[str, Any]:
    """
    An instances document: compressed RLE, integer boxes and areas, computed from pixels.

    `iscrowd` is 0 for every instance but true crowds: an RLE is not a crowd.
    """
    images = [
        {"id": s.id, "file_name": s.file_name, "height": s.height, "width": s.width}
        for s in samples
    ]
    annotations = [a for s in samples for a in _annotations(s)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [category_json(c) for c in categories],
    }


def category_json(c: Category) -> dict[str, Any]:
    """COCO's category; instance files do not mind the panoptic keys."""
    said = {"id": c.id, "name": c.name, "supercategory": c.supercategory, "isthing": int(c.isthing)}
    return {**said, "color": list(c.color)} if c.color is not None else said


def _annotations(sample: Sample) -> Iterator[dict[str, Any]]:
    for s in sample.segments:
        mask = s.mask(sample.height, sample.width)
        said: dict[str, Any] = {
            "id": s.id,
            "image_id": sample.id,
            "category_id": s.category_id,
            "segmentation": mask.to_rle(),
            "area": mask.area,
            "bbox": list(mask.bbox),
            "iscrowd": int(s.iscrowd),
        }
        if s.z_order is not None:
            said["z_order"] = s.z_order  # not COCO's; readers pass over it, and ours keeps it
        yield {**said, "attributes": s.attributes} if s.attributes else said


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def _documents(tree: Tree) -> list[str]:
    """The instance files: by CVAT's and COCO's names, else by content."""
    found = [n for n in own_names(tree) if n.lower().endswith(".json")]
    named = [
        n for n in found if re.search(r"(^|/)(instances(_[^/]*)?|_annotations\.coco)\.json$", n)
    ]
    if named:
        return named
    return [n for n in found if _looks_like_coco(tree, n)]


def _looks_like_coco(tree: Tree, name: str) -> bool:
    """By content: the three lists are there, and annotations are not panoptic ones."""
    with tree.open(name) as stream:
        try:
            document = read_json(stream, tree.size(name))
        except FormatError:
            return len(own_names(tree)) == 1  # the one file given: reading it says what is wrong
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        return False
    annotations = document["annotations"]
    first = annotations[0] if isinstance(annotations, list) and annotations else {}
    return not (isinstance(first, dict) and "segments_info" in first)


def _subset(name: str) -> str:
    stem = PurePosixPath(name).stem
    if stem == "_annotations.coco":  # Roboflow: one folder a subset
        return PurePosixPath(name).parent.name
    subset = stem.removeprefix("instances_") if stem.startswith("instances_") else ""
    return "" if subset == "default" else subset  # CVAT's name for no subset


@dataclass(slots=True)
class _File:
    """One annotation file, read."""

    name: str
    subset: str
    tree: Tree
    by_cvat: bool = False
    categories: dict[int, Category] = field(default_factory=dict)
    images: list[_Image] = field(default_factory=list)
    segments: dict[int, list[Segment]] = field(default_factory=lambda: defaultdict(list))
    counted: Tally = field(default_factory=Tally)
    findings: list[Finding] = field(default_factory=list)
    uncrowded: int = 0
    boxes: int = 0
    parts: int = 0
    wider: int = 0

    def take(self, document: Any) -> _File:
        if not isinstance(document, dict):
            raise FormatError("top level is not an object")
        for key in ("images", "annotations", "categories"):
            if not isinstance(document.get(key), list):
                raise FormatError(f"no list {key!r} at the top level")
        self.by_cvat = _by_cvat(document)
        for i, raw in enumerate(document["categories"]):
            with at("categories", i):
                self._category(_converted(raw, _Category))
        for i, raw in enumerate(document["images"]):
            with at("images", i):
                self._image(_converted(raw, _Image))
        sizes = {i.id: i for i in self.images}
        for image_id, n in Counter(i.id for i in self.images).items():
            if n > 1:
                said = f"image id {image_id} is used {n} times: whose are its annotations?"
                self.findings.append(Finding("I101", "error", said, self.name))
        pixels: Counter[str] = Counter()
        for i, raw in enumerate(document["annotations"]):
            try:
                with at("annotations", i):
                    self._annotation(raw, sizes, pixels)
            except FormatError as error:
                owner = raw.get("image_id") if isinstance(raw, dict) else None
                image = sizes.get(owner) if isinstance(owner, int) else None
                self.findings.append(finding_of(error, image.file_name if image else self.name))
        self.counted = Tally(len(self.images), len(document["annotations"]), pixels)
        return self

    def _category(self, c: _Category) -> None:
        if c.id in self.categories:
            raise FormatError(f"category id {c.id} is used twice", code="C201")
        if c.isthing not in (0, 1):
            raise FormatError(f"isthing is {c.isthing}", where=("isthing",), code="C208")
        supercategory = c.supercategory or ""
        self.categories[c.id] = Category(c.id, c.name, supercategory, bool(c.isthing), c.color)

    def _image(self, image: _Image) -> None:
        safe_path(image.file_name)
        if not (0 < image.width < 2**31 and 0 < image.height < 2**31):
            raise FormatError(f"image is {image.height}x{image.width}", code="I108")
        self.images.append(image)

    def _annotation(self, raw: Any, sizes: Mapping[int, _Image], pixels: Counter[str]) -> None:
        a = _converted(raw, _Annotation)
        image = sizes.get(a.image_id)
        if image is None:
            raise FormatError(f"no image has id {a.image_id}", code="A303")
        category = self.categories.get(a.category_id)
        if category is None:
            raise FormatError(f"no category has id {a.category_id}", code="A304")
        if a.iscrowd not in (0, 1, None):
            raise FormatError(f"iscrowd is {a.iscrowd}", where=("iscrowd",), code="A305")
        with at("segmentation"):
            segment = self._segment(a)
            mask = segment.mask(image.height, image.width)
        pixels[category.name] += mask.area
        self.segments[a.image_id].append(segment)

    def _segment(self, a: _Annotation) -> Segment:
        geometry, said = a.segmentation, a.attributes or {}
        crowd = a.iscrowd == 1
        origin: dict[str, Any] = {"bbox": a.bbox, "area": a.area}
        if self.by_cvat and geometry == [] and a.bbox is not None and len(a.bbox) == 4:
            geometry = [list(_box(a.bbox, said))]
            origin["shape"] = "box"
            self.boxes += 1
        if isinstance(geometry, list) and geometry:
            self.parts += len(geometry) > 1
            self.wider += self.by_cvat and _is_wider(a.bbox, geometry)
        if self.by_cvat and crowd and not said.get("is_crowd"):
            crowd = False
            origin["shape"] = "mask"
            self.uncrowded += 1
        attributes = {k: v for k, v in said.items() if (k, v) != ("occluded", False)}
        return Segment(
            id=a.id,
            category_id=a.category_id,
            segmentation=_geometry(geometry),
            iscrowd=crowd,
            z_order=a.z_order,
            attributes=attributes,
            origin={k: v for k, v in origin.items() if v is not None},
        )


def _joined(files: Sequence[_File]) -> Reading:
    """All files of one export as one reading; ids that collide are given anew."""
    keep_images, keep_segments, notes = _usable_ids(files)
    finder = ImageFinder(files[0].tree)
    pictures = [p for f in files for p in _pictures(f, finder, keep_images, keep_segments)]
    shared = _shared(pictures)
    notes += [_overwritten(pictures, member) for member in sorted(shared)]
    counted = Tally()
    for f in files:
        counted += f.counted
    return Reading(
        name="",
        format="coco",
        categories=_categories(files),
        pictures=tuple(_marked(p, shared) for p in pictures),
        counted=counted,
        notes=(*notes, *_lost_by_cvat(files)),
        findings=tuple(x for f in files for x in f.findings),
        mended=tuple(x for f in files for x in _repeated_segments(f)),
    )


def _usable_ids(files: Sequence[_File]) -> tuple[bool, bool, list[str]]:
    """Can image ids stay, can annotation ids stay, and what to say if not."""
    notes = []
    images = Counter(i.id for f in files for i in f.images)
    bad_images = sorted(i for i, n in images.items() if n > 1 or not 0 < i < 2**53)
    if bad_images:
        notes.append(f"image ids are used twice or below 1 ({bad_images[:5]}); all numbered anew")
    segments = Counter(s.id for f in files for ss in f.segments.values() for s in ss)
    bad_segments = any(n > 1 or not 0 < i < 2**53 for i, n in segments.items())
    if bad_segments:
        notes.append("annotation ids are used twice or below 1; all numbered anew")
    return not bad_images, not bad_segments, notes


def _repeated_segments(f: _File) -> Iterator[Finding]:
    """Annotation ids that one file uses twice: readers that index by id lose all but one."""
    ids = Counter(s.id for ss in f.segments.values() for s in ss)
    for i, n in ids.items():
        if n > 1 and i != 0:  # 0 stands for an id that is missing
            yield Finding("A301", "error", f"annotation id {i} is used {n} times", f.name)


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


def _pictures(
    f: _File, finder: ImageFinder, keep_images: bool, keep_segments: bool
) -> Iterator[Picture]:
    seen: set[int] = set()
    for image in f.images:
        segments = f.segments.get(image.id, []) if image.id not in seen else []
        seen.add(image.id)
        if not keep_segments:
            segments = [replace(s, id=0) for s in segments]
        source = {"subset": f.subset, "image_id": str(image.id), "name": image.file_name}
        sample = Sample(
            id=image.id if keep_images else 0,
            file_name=image.file_name,
            height=image.height,
            width=image.width,
            segments=tuple(segments),
            source={k: v for k, v in source.items() if v},
        )
        yield Picture(sample, finder.find(image.file_name, f.name, f.subset))


class ImageFinder:
    """Finds image files in the layouts that people use."""

    def __init__(self, tree: Tree) -> None:
        self._names = set(tree.names())

    def find(self, file_name: str, document: str, subset: str) -> str | None:
        """The file for `file_name` of this annotation document."""
        folder = PurePosixPath(document).parent
        root = folder.parent if folder.name == "annotations" else folder
        usual = (f"images/{subset}", "images", subset, f"{subset}2017", ".", f"{subset}/images")
        places = [root / place / file_name for place in usual]
        spare = PurePosixPath(SPARE)
        places += [spare / subset / file_name, spare / file_name]
        places.append(spare / PurePosixPath(file_name).name)
        return next((p.as_posix() for p in places if p.as_posix() in self._names), None)


def _shared(pictures: Sequence[Picture]) -> set[str]:
    """Files that two images claim."""
    return {m for m, n in Counter(p.member for p in pictures).items() if m is not None and n > 1}


def _marked(picture: Picture, shared: set[str]) -> Picture:
    if picture.member not in shared:
        return picture
    source = {**picture.sample.source, "image_shared_with": picture.member}
    return Picture(replace(picture.sample, source=source), picture.member)


def _overwritten(pictures: Sequence[Picture], member: str) -> str:
    owners = [p.sample for p in pictures if p.member == member]
    said = ", ".join(f"{s.file_name} of {s.source.get('subset', 'no subset')}" for s in owners)
    return (
        f"one picture, {member}, stands for {len(owners)} images ({said}): "
        "the export has overwritten all but one"
    )


def _lost_by_cvat(files: Sequence[_File]) -> list[str]:
    files = [f for f in files if f.by_cvat]
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


def _by_cvat(document: Mapping[str, Any]) -> bool:
    """CVAT leaves licence and info blank, and says `occluded` of every annotation."""
    info = document.get("info")
    blank_info = isinstance(info, dict) and "contributor" in info and not any(info.values())
    if document.get("licenses") != _LICENCES_OF_CVAT and not blank_info:
        return False
    match document["annotations"]:
        case [{"attributes": {"occluded": _}}, *_] | []:
            return True
    return False


def _box(bbox: Sequence[float], attributes: Mapping[str, Any]) -> tuple[float, ...]:
    x, y, w, h = bbox
    degrees = attributes.get("rotation", 0)
    x1, y1 = round(x + w, 2), round(y + h, 2)  # CVAT's two decimals, lost in the subtraction
    return box_ring(x, y, x1, y1, float(degrees) if isinstance(degrees, int | float) else 0.0)


def _is_wider(bbox: Sequence[float] | None, rings: Sequence[Sequence[float]]) -> bool:
    """Does the claimed box reach beyond all vertices?"""
    xs, ys = [x for r in rings for x in r[::2]], [y for r in rings for y in r[1::2]]
    if bbox is None or len(bbox) != 4 or not xs or not ys:
        return False
    x, y, w, h = bbox
    slack = 0.02  # CVAT's two decimals
    beyond = (min(xs) - x, min(ys) - y, x + w - max(xs), y + h - max(ys))
    return max(beyond) > slack


def _geometry(raw: list[list[float]] | _Counts | None) -> Any:
    if raw is None:
        raise FormatError("segmentation is missing", code="P401")
    if isinstance(raw, list):
        return tuple(tuple(ring) for ring in raw)
    counts = raw.counts if isinstance(raw.counts, str) else tuple(raw.counts)
    return Rle(raw.size[0], raw.size[1], counts)


_CODES = (  # where a value of the wrong type stands, and the rule that it breaks
    ("segmentation.counts", "R501"),
    ("segmentation.size", "R502"),
    ("segmentation", "P402"),
    ("bbox", "A309"),
    ("iscrowd", "A305"),
    ("isthing", "C208"),
)


def _converted(raw: Any, kind: type[Any]) -> Any:
    """Check the types of one record."""
    return converted(raw, kind, _CODES)
