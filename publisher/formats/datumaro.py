"""
Datumaro 1.0: `annotations/<subset>.json` and `images/<subset>/<path>`.

What Datumaro and CVAT ("Datumaro 1.0") write, in both their dialects: CVAT's files have
`info` and no version, Datumaro's `infos`, `dm_format_version` and `media_type`. Shapes of
one group and label are one instance, as everywhere in Datumaro. What else is said of items and
annotations is kept, an item's `attr` first of all; what is said of labels beyond name, parent and
colour is not.

Source: open-edge-platform/datumaro, src/datumaro/plugins/data_formats/datumaro.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from ..conservation import Item, Ledger, Tally
from ..dataset import Category, Dataset, Sample, Segment, by_split
from ..errors import FormatError, UsageError, at
from ..files import Tree, canonical_json, own_names, read_json
from ..images import size_of
from ..masks import Rle, ellipse
from ..names import safe_path
from ..validate import Finding, finding_of
from .coco_places import ImageFinder
from .cvat import box_ring
from .documents import Mended, about, converted, degrees, info_left, top_keys
from .grouping import Shape, grouped, shapes_of
from .keeping import CROWD, CROWD_TAKEN, fields_beyond
from .reading import Merged, Picture, Reading, set_aside

NO_SUBSET = "default"  # Datumaro's name for it
_IMAGE = 2  # Datumaro's MediaType.IMAGE
_NOT_SEGMENTS = ("label", "caption", "points", "polyline", "cuboid_2d", "cuboid_3d")
_CODES = (("rle.counts", "R501"), ("rle.size", "R502"), ("bbox", "A309"), ("points", "P402"))


_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _Label(msgspec.Struct):
    name: str
    parent: str | None = ""


class _Labels(msgspec.Struct):
    labels: list[_Label] = []


class _Color(msgspec.Struct):
    label_id: int
    r: _Byte
    g: _Byte
    b: _Byte


class _Colors(msgspec.Struct):
    colormap: list[_Color] = []


class _Image(msgspec.Struct):
    path: str | None = None
    size: tuple[int, int] | None = None


class _Item(msgspec.Struct):
    id: str | int
    annotations: list[Any] = []
    image: _Image | None = None
    attr: dict[str, Any] | None = None


class _Counts(msgspec.Struct):
    counts: str | list[int]
    size: tuple[int, int]


class _Head(msgspec.Struct):
    type: str
    label_id: int | None = None


class _Annotation(_Head):
    id: int | None = 0
    group: int | None = 0
    z_order: int | None = None
    object_id: int | None = None
    attributes: dict[str, Any] | None = None
    points: list[float] | None = None
    bbox: tuple[float, float, float, float] | None = None
    rle: _Counts | None = None


def detect(tree: Tree) -> bool:
    """Does the tree hold a JSON object with categories and items?"""
    return bool(_documents(tree, most=2))


def read(tree: Tree) -> Reading:
    """
    Read every subset of an export as one dataset.

    Items and annotations that cannot be read become findings; the rest is read.

    Raises:
        FormatError: no such file, not JSON, or no Datumaro at its top level.
    """
    names = _documents(tree)
    if not names:
        raise FormatError("no Datumaro file with categories and items", path=tree.label)
    reader = _Reader(tree, ImageFinder(tree))
    for name in names:
        try:
            with tree.open(name) as stream:
                reader.take(name, read_json(stream, tree.size(name)))
        except FormatError as error:
            error.path = error.path or f"{tree.label}: {name}"
            raise
    return reader.result()


def _documents(tree: Tree, most: int | None = None) -> list[str]:
    """The files of subsets; where `most` is given, only so many are looked at."""
    found = [n for n in own_names(tree) if n.lower().endswith(".json")]
    usual = [n for n in found if PurePosixPath(n).parent.name == "annotations"]
    if not usual and len(found) == 1:
        usual = found  # a single file, given as it is
    return [n for n in usual[:most] if top_keys(tree, n)[0] >= {"categories", "items"}]


# ── reading ──────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Reader:
    """Collects what one export says; `take` each subset, then ask for the `result`."""

    tree: Tree
    finder: ImageFinder
    categories: dict[str, Category] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    shapes: int = 0  # that have, or should have, pixels
    pixels: Counter[str] = field(default_factory=Counter)
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    by_cvat: bool = False

    def take(self, name: str, document: Any) -> None:
        if not isinstance(document, dict) or not isinstance(document.get("items"), list):
            raise FormatError("no list 'items' at the top level")
        with at("categories"):
            labels = self._labels(document.get("categories"))
        file = _File(name, labels, "info" in document and "dm_format_version" not in document)
        self.by_cvat |= file.by_cvat
        self.documents.append(name)
        file.hear(_left_of(document))
        for index, raw in enumerate(document["items"]):
            try:
                with at("items", index):
                    self._item(raw, file)
            except FormatError as error:
                self.findings.append(finding_of(error, name))
        self.mended += (*file.heard, *set_aside(file.aside, name))

    def result(self) -> Reading:
        notes = []
        if self.by_cvat:
            notes.append(
                "CVAT's Datumaro 1.0 keeps no colours, sources and tasks, and draws ellipses as "
                "masks; export 'CVAT for images 1.1' to keep them"
            )
        return Reading(
            name="",
            format="datumaro",
            categories=tuple(self.categories.values()),
            pictures=tuple(self.pictures),
            counted=Tally(len(self.pictures), self.shapes, self.pixels),
            items=tuple(self.items),
            notes=tuple(notes),
            findings=tuple(self.findings),
            mended=tuple(self.mended),
            files=frozenset(self.documents),
        )

    def _labels(self, raw: Any) -> list[Category]:
        """The labels of one file by their index; those of one name are one category."""
        said = converted(raw, dict[str, Any])
        with at("label"):
            labels = converted(said.get("label") or {}, _Labels).labels
        with at("mask"):
            colors = converted(said.get("mask") or {}, _Colors).colormap
        if len({x.name for x in labels}) < len(labels):
            raise FormatError("two labels share a name", code="C202")
        rgb = {c.label_id: (c.r, c.g, c.b) for c in colors}
        for index, x in enumerate(labels):
            number = len(self.categories) + 1
            new = Category(number, x.name, x.parent or "", color=rgb.get(index))
            self.categories.setdefault(x.name, new)
        return [self.categories[x.name] for x in labels]

    def _item(self, raw: Any, file: _File) -> None:
        item = converted(raw, _Item)
        image = item.image or _Image()
        name = _file_name(str(item.id), image.path)
        member = self._member(name, image.path, file)
        height, width = image.size or self._size(member)
        if not (0 < height < 2**31 and 0 < width < 2**31):
            raise FormatError(f"image is {height}x{width}", code="I108")
        drawn, aside = [], []
        for index, one in enumerate(item.annotations):
            try:
                with at("annotations", index):
                    found = self._annotation(one, file, height, width)
            except FormatError as error:
                self.findings.append(finding_of(error, name))
                continue
            if isinstance(found, Shape):
                drawn.append(found)
            else:
                aside.append(found)
        segments, items = grouped(drawn, name)
        self.items.extend(items)
        file.aside.update(a["kind"] for a in aside)
        number = (item.attr or {}).get("id")
        mine = ("id", "frame") if type(number) is int else ("frame",)
        attr = {k: v for k, v in (item.attr or {}).items() if k not in mine}
        file.hear(_unknown(raw.get("image"), _Image, "of an item's image; not kept"))
        extra = {**file.extra_of(raw, _Item), **({"attr": attr} if attr else {})}
        source = {
            "subset": "" if file.subset == NO_SUBSET else file.subset,
            "name": name,
            "frame": (item.attr or {}).get("frame", ""),
            "not_segments": aside,
            "extra": extra,
        }
        sample = Sample(
            id=number if type(number) is int else 0,
            file_name=name,
            height=height,
            width=width,
            segments=tuple(segments),
            source={k: v for k, v in source.items() if v not in ("", [], {})},
        )
        self.pictures.append(Picture(sample, member))

    def _member(self, name: str, path: str | None, file: _File) -> str | None:
        """The picture: by the path that is said, else by the name that the item has."""
        for candidate in (path, name):
            if candidate and _is_safe(candidate):
                found = self.finder.find(candidate, file.name, file.subset)
                if found is not None:
                    return found
        return None

    def _size(self, member: str | None) -> tuple[int, int]:
        if member is None:
            raise FormatError("no image size, and no picture to look at", code="I108")
        with self.tree.open(member) as stream:
            return size_of(stream)

    def _annotation(self, raw: Any, file: _File, height: int, width: int) -> Shape | dict[str, Any]:
        head = converted(raw, _Head)
        index = -1 if head.label_id is None else head.label_id
        label = file.labels[index] if 0 <= index < len(file.labels) else None
        if head.type in _NOT_SEGMENTS:
            said = {"kind": head.type, "label": label.name if label else "", **raw}
            return {k: v for k, v in said.items() if k not in ("type", "label_id")}
        self.shapes += 1
        if label is None:
            raise FormatError(f"no label has index {head.label_id}", code="A304")
        a = converted(raw, _Annotation, _CODES)
        segment = _segment(a, label, file.extra_of(raw, _Annotation), by_cvat=file.by_cvat)
        mask = segment.mask(height, width)
        self.pixels[label.name] += mask.area
        return Shape(label.name, str(a.group) if a.group else "", segment, mask)


@dataclass(slots=True)
class _File:
    """A subset, and what there is to say of it: once for all records that say the same."""

    name: str
    labels: Sequence[Category]
    by_cvat: bool
    heard: Merged = field(default_factory=Merged)
    aside: Counter[str] = field(default_factory=Counter)

    @property
    def subset(self) -> str:
        return PurePosixPath(self.name).stem

    def hear(self, mended: Iterable[Mended]) -> None:
        """Take what is said of a record."""
        self.heard.hear(mended, self.name)

    def extra_of(self, raw: Mapping[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
        """What a record says beyond its kind."""
        extra = {k: v for k, v in raw.items() if k not in kind.__struct_fields__}
        self.hear(m for key in extra for m in about(key, extra, "kept aside"))
        return extra


_HEAD = {"categories", "items", "dm_format_version", "media_type", "info", "infos"}


def _left_of(document: Mapping[str, Any]) -> Iterator[Mended]:
    """What a document says of itself and of its labels that a dataset has no place for."""
    for key in sorted(document.keys() - _HEAD):
        yield "J007", f"unknown key {key[:40]!r} at the top level; not kept"
    for key in ("info", "infos"):
        yield from info_left(document.get(key))
    sections = document["categories"]
    for key in sorted(sections.keys() - {"label", "mask"}):
        if _says(sections[key]):
            yield "J007", f"categories of kind {key[:40]!r}; not kept"
    told = sections.get("label") or {}
    for key in sorted(told.keys() - {"labels"}):
        if _says(told[key]):
            yield "J007", f"{key[:40]} of the labels; not kept"
    for label in told.get("labels") or ():
        yield from _unknown(label, _Label, "of a label; not kept")


def _unknown(raw: Any, kind: type[msgspec.Struct], fate: str) -> Iterator[Mended]:
    """Fields of a record that its kind has not, as far as they say something."""
    for key, value in (raw or {}).items():
        if key not in kind.__struct_fields__ and _says(value):
            yield "J007", f"field {key[:40]!r} {fate}"


def _says(value: Any) -> bool:
    """Is it more than empty lists and texts?"""
    if isinstance(value, dict):
        return any(map(_says, value.values()))
    return value not in (None, "", [])


def _segment(
    a: _Annotation, label: Category, extra: Mapping[str, Any], *, by_cvat: bool
) -> Segment:
    attributes = dict(a.attributes or {})
    if by_cvat and attributes.get("occluded") is False:  # CVAT says it of everything
        del attributes["occluded"]
    crowd = attributes.pop(CROWD, False)
    if not isinstance(crowd, bool):
        raise FormatError(f"{CROWD} is {crowd!r}", where=("attributes", CROWD), code="A305")
    origin: dict[str, Any] = {"shape": a.type, "group": a.group, "object_id": a.object_id}
    segmentation = _geometry(a, attributes, origin)
    origin |= {"extra": extra} if extra else {}
    return Segment(
        id=a.id or 0,
        category_id=label.id,
        segmentation=segmentation,
        iscrowd=crowd,
        z_order=a.z_order,
        attributes=attributes,
        origin={k: v for k, v in origin.items() if v is not None and (k, v) != ("group", 0)},
    )


def _geometry(a: _Annotation, attributes: dict[str, Any], origin: dict[str, Any]) -> Any:
    """Polygons or an RLE; a rotation belongs to the geometry and leaves the attributes."""
    match a:
        case _Annotation(type="polygon", points=list(points)):
            return (tuple(points),)
        case _Annotation(type="mask", rle=_Counts(counts=counts, size=(height, width))):
            return Rle(height, width, counts if isinstance(counts, str) else tuple(counts))
        case _Annotation(type="bbox", bbox=(x, y, w, h)):
            # CVAT's rotation, clockwise on screen
            if turned := degrees(attributes.pop("rotation", 0)):
                origin["box"] = {"bbox": [x, y, w, h], "rotation": turned}
            # round: what the subtraction x1 - x0 has added beyond the decimals that were drawn
            return (box_ring(x, y, round(x + w, 6), round(y + h, 6), turned),)
        case _Annotation(type="ellipse", points=[x0, y0, x1, y1]):
            cx, cy, rx, ry = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
            turned = degrees(attributes.pop("rotation", 0))
            origin["ellipse"] = {"centre": [cx, cy], "radii": [rx, ry], "rotation": turned}
            return (ellipse(cx, cy, rx, ry, turned),)
        case _Annotation(type="polygon" | "mask" | "bbox" | "ellipse"):
            raise FormatError(f"{a.type} without its geometry", code="P401")
    raise FormatError(f"unknown annotation type {a.type!r}", code="L817")


def _file_name(key: str, path: str | None) -> str:
    """
    The picture's name: the item's id, which has folders but no extension, and that of its path.

    The path itself may be that of the machine that exported.
    """
    last = PurePosixPath(path or f"{key}.jpg")
    name = key if last.name == PurePosixPath(key).name else key + last.suffix
    safe_path(name)
    return name


def _is_safe(path: str) -> bool:
    try:
        safe_path(path)
    except FormatError:
        return False
    return True


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def write(dataset: Dataset, folder: Path) -> tuple[Item, ...]:
    """
    Write `annotations/<split>.json` for each split, and `default.json` for what has none.

    One item a line. Rings of one segment are polygons of one group; what is an RLE stays
    one. Datumaro itself rounds polygons to hundredths of a pixel when it reads them.

    Raises:
        UsageError: a split has Datumaro's name for none.
    """
    if NO_SUBSET in dataset.splits:
        raise UsageError(f"Datumaro takes the split {NO_SUBSET!r} for no split")
    place = folder / "annotations"
    place.mkdir(parents=True, exist_ok=True)
    index = {c.id: i for i, c in enumerate(dataset.categories)}
    ledger = Ledger()
    head = {
        "dm_format_version": "1.0",
        "media_type": _IMAGE,
        "infos": {},
        "categories": _categories_json(dataset.categories),
    }
    for split, samples in by_split(dataset):
        shared = Counter(_key(s.file_name) for s in samples)
        with (place / f"{split or NO_SUBSET}.json").open("wb") as stream:
            stream.write(b"{")
            for key, value in head.items():
                stream.write(canonical_json(key) + b":" + canonical_json(value) + b",")
            stream.write(b'"items":[')
            for number, sample in enumerate(samples):
                alone = shared[_key(sample.file_name)] == 1
                stream.write(b",\n" if number else b"\n")
                stream.write(canonical_json(_item_json(sample, index, ledger, alone=alone)))
            stream.write(b"\n]}\n")
    return ledger.items


def _categories_json(categories: Sequence[Category]) -> dict[str, Any]:
    labels = [{"name": c.name, "parent": c.supercategory, "attributes": []} for c in categories]
    colors = [
        {"label_id": i, **dict(zip("rgb", c.color, strict=True))}
        for i, c in enumerate(categories)
        if c.color is not None
    ]
    said = {"label": {"labels": labels, "label_groups": [], "attributes": []}}
    return {**said, "mask": {"colormap": colors}} if colors else said


def _key(file_name: str) -> str:
    """Datumaro's id of an item: the name without its extension."""
    return PurePosixPath(file_name).with_suffix("").as_posix()


def _item_json(
    sample: Sample, index: Mapping[int, int], ledger: Ledger, *, alone: bool
) -> dict[str, Any]:
    """An item; `alone`: no other has its stem, or else the id keeps the extension."""
    safe_path(sample.file_name)
    groups = iter(range(1, len(sample.segments) + 1))
    annotations: list[dict[str, Any]] = []
    for segment in sample.segments:
        if CROWD in segment.attributes:
            ledger.note(CROWD_TAKEN, sample.file_name)
        shapes = shapes_of(segment, sample.height, sample.width)
        group = next(groups) if len(shapes) > 1 else 0
        for shape in shapes:
            own: dict[str, Any] = {
                "id": segment.id,
                "group": group,
                "label_id": index[segment.category_id],
                "attributes": {**shape.attributes, CROWD: segment.iscrowd},
                **_geometry_json(shape, sample.height, sample.width),
            }
            if shape.z_order is not None:
                own["z_order"] = shape.z_order
            if "object_id" in shape.origin:
                own["object_id"] = shape.origin["object_id"]
            more = fields_beyond(shape.origin, own.keys(), ledger, sample.file_name)
            annotations.append({**more, **own})
    return {
        **_said_beside(sample, ledger),
        "id": _key(sample.file_name) if alone else sample.file_name,
        "image": {"path": sample.file_name, "size": [sample.height, sample.width]},
        "annotations": annotations,
    }


def _said_beside(sample: Sample, ledger: Ledger) -> dict[str, Any]:
    """What else a source said of an image, and the item's `attr`."""
    own = {"id", "image", "annotations"}
    said = dict(fields_beyond(sample.source, own, ledger, sample.file_name))
    attr = {k: sample.source[k] for k in ("frame",) if k in sample.source} | {"id": sample.id}
    if isinstance(said.get("attr"), Mapping):
        more = fields_beyond({"extra": said["attr"]}, attr.keys(), ledger, sample.file_name)
        return {**said, "attr": {**more, **attr}}
    return {**said, "attr": attr}


def _geometry_json(shape: Segment, height: int, width: int) -> dict[str, Any]:
    if isinstance(shape.segmentation, Rle):
        return {"type": "mask", "rle": shape.mask(height, width).to_rle()}
    return {"type": "polygon", "points": shape.segmentation[0]}
