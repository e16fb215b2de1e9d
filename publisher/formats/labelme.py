"""
Labelme (wkentaro's): one JSON a picture, beside it. Not the XML of MIT's LabelMe.

Reads what versions 3 to 7 write, all shapes; what Labelme itself is lenient with, this is,
too. Shapes of one `group_id` and label are one instance, later shapes lie on top, and the
labels `__ignore__` and `_background_` mean "no class". Polygons are rasterised by COCO's
rule; Labelme draws their outline as well, which makes masks some 3 % larger. Other fields of a
file or a shape are kept, as Labelme keeps them. Circles and rectangles are written as such where
their pixels are still those.

Source: wkentaro/labelme, labelme/_label_file.py and labelme/_utils/shape.py.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import msgspec
import numpy as np

from ..conservation import Item, Ledger, Tally
from ..dataset import Category, Dataset, Json, Sample, Segment
from ..errors import FormatError, at
from ..files import SPARE, Tree, canonical_json, own_names, read_json
from ..images import SUFFIXES, header_of, png_of_mask, read_mask
from ..masks import MAX_COORDINATE, Rle, ellipse, placed
from ..names import collision_key, listing, safe_path
from ..validate import Finding, finding_of
from .documents import about, begins, converted, top_keys
from .grouping import Shape, grouped, shapes_of
from .keeping import fields_beyond
from .reading import Merged, Picture, Reading

LABELS = "labels.txt"
VOID = ("__ignore__", "_background_")  # labels of no class; labels.txt starts with them
_VERSION = "7.1.0"  # whose loader reads what is written here
_NOT_SEGMENTS = ("point", "line", "linestrip", "points")
_DRAWN = ("circle", "rectangle", "oriented_rectangle", "rotation")  # beside polygons and masks
_NOT_LABELME = {"images", "annotations", "categories", "items"}
_MAX_LABELS = 2**20  # bytes of labels.txt


class _Document(msgspec.Struct, rename="camel"):
    shapes: list[Any]
    image_path: str | None = None
    image_data: str | None = None
    image_height: int | None = None
    image_width: int | None = None
    flags: dict[str, Any] | None = None


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    group_id: int | None = None
    mask: str | None = None
    flags: dict[str, Any] | None = None
    description: str | None = None
    attributes: dict[str, Any] | None = None  # these two are ours; Labelme keeps such keys
    z_order: int | msgspec.UnsetType | None = msgspec.UNSET


def _whole(raw: Any, *keys: str) -> Any:
    """A record whose numbers 10.0 are 10, as some tools write sizes and groups."""
    if not isinstance(raw, dict):
        return raw
    decimals = {k: v for k in keys if isinstance(v := raw.get(k), float) and v.is_integer()}
    return {**raw, **{k: int(v) for k, v in decimals.items()}} if decimals else raw


def detect(tree: Tree) -> bool:
    """Does a JSON of the tree have shapes, and a picture's path or data?"""
    found = [n for n in own_names(tree) if n.lower().endswith(".json")]
    return any(_looks_like_labelme(*top_keys(tree, n)) for n in found[:2])


def _looks_like_labelme(keys: frozenset[str], whole: bool) -> bool:
    if keys & _NOT_LABELME:
        return False
    if whole:
        return "shapes" in keys and bool(keys & {"imagePath", "imageData"})
    return bool(keys & {"shapes", "imageData"})  # the rest comes after many megabytes


def read(tree: Tree) -> Reading:
    """
    Read every Labelme file of a folder or archive as one dataset.

    Files and shapes that cannot be read become findings; the rest is read.

    Raises:
        FormatError: there is neither a JSON file nor a labels.txt.
    """
    names = own_names(tree)
    documents = [n for n in names if n.lower().endswith(".json")]
    labels = [n for n in names if PurePosixPath(n).name == LABELS]
    if not documents and not labels:
        raise FormatError("no Labelme file", path=tree.label)
    reader = _Reader(tree, _Pictures(tree))
    for name in documents:
        try:
            with tree.open(name) as stream:
                reader.take(name, read_json(stream, tree.size(name)))
        except FormatError as error:
            if not (begins(tree, name) or reader.finder.is_beside(name)):
                continue  # no JSON object from its first character on, and nobody's
            reader.taken.append(name)
            reader.findings.append(finding_of(error, name))
    if documents and not labels and not reader.taken:
        said = f"none of {len(documents)} JSON file(s) is Labelme's"
        raise FormatError(said, path=tree.label, hint="leave out --format to have it told")
    nearest = min(labels, key=lambda n: (n.count("/"), n), default=None)
    return reader.result(None if nearest is None else _listed(tree, nearest))


def _listed(tree: Tree, name: str) -> list[str]:
    """The classes of a labels.txt, one a line, in their order."""
    with tree.open(name) as stream:
        body = stream.read(_MAX_LABELS + 1)
    if len(body) > _MAX_LABELS:
        raise FormatError(f"more than {_MAX_LABELS:,} bytes of labels", path=name, code="J006")
    try:
        lines = body.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError("labels are not UTF-8", path=name, code="J001") from error
    stripped = [line.strip() for line in lines]
    return [x for x in dict.fromkeys(stripped) if x and x not in VOID]


# ── the reader ───────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Reader:
    """Collects what all files say; `take` each, then ask for the `result`."""

    tree: Tree
    finder: _Pictures
    numbers: dict[str, int] = field(default_factory=dict)  # labels as they come up
    pictures: list[Picture] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)  # by the picture that they are about
    shapes: int = 0  # that have, or should have, pixels
    pixels: Counter[str] = field(default_factory=Counter)
    ledger: Ledger = field(default_factory=Ledger)
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)
    embedded: int = 0
    heard: Merged = field(default_factory=Merged)

    def take(self, name: str, raw: Any) -> None:
        """Read one file; what has no shapes is something else and is left out."""
        if not isinstance(raw, dict) or "shapes" not in raw:
            return
        self.taken.append(name)
        document = converted(_whole(raw, "imageHeight", "imageWidth"), _Document)
        file_name, member, why = self.finder.find(name, document.image_path)
        if why:
            self.mended.append(Finding("L815", "error", why, name))
        if (other := self.documents.setdefault(file_name, name)) != name:
            raise FormatError(f"{file_name} is annotated in {other}, too", code="L815")
        height, width = self._size(document, file_name, member)
        drawn, aside = self._drawn(document.shapes, file_name, height, width)
        segments, items = grouped(drawn, file_name)
        for item in items:
            if item.change:
                self.items.append(item)
            else:  # a group of several labels
                self.mended.append(Finding("L814", "warning", item.reason, file_name))
        if aside:
            kinds = listing(sorted({a["kind"] for a in aside}))
            said = f"{len(aside)} shape(s) have no pixels: {kinds}"
            self.mended.append(Finding("L817", "warning", said, file_name))
        self.aside.update(a["kind"] for a in aside)
        self.embedded += member is None and document.image_data is not None
        source = {
            "subset": PurePosixPath(name).parent.name,
            "name": file_name,
            "document": name,
            "flags": document.flags or {},
            "not_segments": aside,
            "extra": self._extra_of(raw, {*_Document.__struct_encode_fields__, "version"}),
        }
        sample = Sample(
            id=0,
            file_name=file_name,
            height=height,
            width=width,
            segments=tuple(segments),
            source={k: v for k, v in source.items() if v},
        )
        self.pictures.append(Picture(sample, member))

    def result(self, listed: Sequence[str] | None) -> Reading:
        """All that was read, its classes in the order of labels.txt, others by name."""
        extra = sorted(set(self.numbers) - set(listed or ()))
        categories = tuple(Category(i, n) for i, n in enumerate([*(listed or ()), *extra], 1))
        new = {self.numbers[c.name]: c.id for c in categories if c.name in self.numbers}
        pictures = [
            replace(p, sample=replace(p.sample, segments=_renumbered(p.sample.segments, new)))
            for p in self.pictures
        ]
        return Reading(
            name="",
            format="labelme",
            categories=categories,
            pictures=pictures,
            counted=Tally(len(pictures), self.shapes, self.pixels),
            items=(*self.items, *self.ledger.items),
            notes=tuple(self._notes(extra if listed is not None else [])),
            findings=tuple(self.findings),
            mended=(*self.mended, *self.heard),
            files=frozenset(self.taken),
        )

    def _extra_of(self, raw: Mapping[str, Any], known: Set[str]) -> dict[str, Any]:
        """What a file or a shape says beyond what is known; it is said once of all files."""
        extra = {k: v for k, v in raw.items() if k not in known}
        said = (m for key in extra for m in about(key, extra, "kept aside"))
        self.heard.hear(said, self.tree.label)
        return extra

    def _notes(self, unlisted: Sequence[str]) -> Iterator[str]:
        for kind, n in sorted(self.aside.items()):
            yield f"L817: {n} {kind} shape(s) have no pixels; kept with their sample's source"
        if unlisted:
            yield f"not in {LABELS}, and added at its end: {listing(unlisted)}"
        if self.embedded:
            yield (
                f"{self.embedded} picture(s) are only inside their JSON, as imageData; "
                "give the files with --images"
            )

    def _size(self, d: _Document, file_name: str, member: str | None) -> tuple[int, int]:
        """
        (height, width) of the picture as it was annotated.

        A picture that is there must have this size and must not ask to be turned: Labelme
        turns it before it is annotated (L811).
        """
        said = None
        if d.image_height is not None and d.image_width is not None:
            said = d.image_height, d.image_width
        seen = self._seen(d, member, needed=said is None)
        if seen is None and said is None:
            raise FormatError("no imageHeight and imageWidth, and no picture", code="I108")
        if seen is not None:
            if (why := _differs(said, seen)) is not None:
                self.findings.append(Finding("L811", "error", why, file_name))
            said = said or seen[:2]
        assert said is not None
        if not (0 < said[0] < 2**31 and 0 < said[1] < 2**31):
            raise FormatError(f"image is {said[0]}x{said[1]}", code="I108")
        return said

    def _seen(
        self, d: _Document, member: str | None, *, needed: bool
    ) -> tuple[int, int, int] | None:
        """Height, width and orientation of the picture, or of what the JSON holds of it."""
        try:
            if member is not None:
                with self.tree.open(member) as stream:
                    return header_of(stream)
            if d.image_data is not None:
                height, width, _ = header_of(io.BytesIO(_decoded(d.image_data, "imageData")))
                return height, width, 1  # Labelme has turned it
        except FormatError:
            if needed:
                raise
        return None  # a broken picture is found by the rules about pictures

    def _drawn(
        self, raw: Sequence[Any], file_name: str, height: int, width: int
    ) -> tuple[list[Shape], list[dict[str, Any]]]:
        """The shapes that are segments, and what is kept of those without pixels."""
        drawn, unordered, aside = [], [], []
        for index, one in enumerate(raw):
            try:
                with at("shapes", index):
                    said = converted(_whole(one, "group_id"), _Shape)
                    extra = self._extra_of(one, {*_Shape.__struct_fields__})
                    extra |= _covered(said)
                    if said.shape_type in _NOT_SEGMENTS:
                        aside.append(_described(said, extra))
                        continue
                    shape = self._shape(said, extra, file_name, height, width)
            except FormatError as error:
                self.findings.append(finding_of(error, file_name))
                continue
            if shape is not None:
                drawn.append(shape)
                unordered.append(said.z_order is msgspec.UNSET)
        return _stacked(drawn, unordered), aside

    def _shape(
        self, said: _Shape, extra: Mapping[str, Any], file_name: str, height: int, width: int
    ) -> Shape | None:
        self.shapes += 1
        number = self.numbers.get(said.label, len(self.numbers) + 1)
        segment = self._segment(said, number, file_name, height, width)
        if extra:
            segment = replace(segment, origin={**segment.origin, "extra": extra})
        mask = segment.mask(height, width)
        self.pixels[said.label] += mask.area
        if said.label in VOID:
            reason = f"{said.label} means no class: its shapes are no segments"
            self.ledger.note(reason, file_name, segments=-1, pixels={said.label: -mask.area})
            return None
        self.numbers[said.label] = number
        group = "" if said.group_id is None else str(said.group_id)
        return Shape(said.label, group, segment, mask)

    def _segment(
        self, said: _Shape, number: int, file_name: str, height: int, width: int
    ) -> Segment:
        origin: dict[str, Any] = {"shape": said.shape_type or "polygon"}
        if said.group_id is not None:
            origin["group"] = str(said.group_id)
        if said.shape_type in _DRAWN:
            origin["points"] = [list(point) for point in said.points]
        if said.shape_type == "mask":
            segmentation: Any = self._brush(said, file_name, height, width)
        else:
            segmentation = (_ring(said.shape_type or "polygon", said.points),)
            if said.shape_type == "circle":
                (cx, cy), edge = said.points
                origin["circle"] = {"centre": [cx, cy], "radius": math.dist((cx, cy), edge)}
        return Segment(
            id=0,
            category_id=number,
            segmentation=segmentation,
            z_order=None if said.z_order is msgspec.UNSET else said.z_order,
            attributes=_attributes(said),
            origin=origin,
        )

    def _brush(self, said: _Shape, file_name: str, height: int, width: int) -> Rle:
        """
        A mask: a PNG whose top left pixel is the first point, rounded.

        Whole-numbered points include the last row and column and cut the PNG; others do not.
        """
        _need(said.shape_type, said.points, 2)
        if said.mask is None:
            raise FormatError("mask shape without a mask", where=("mask",), code="P401")
        (x0, y0), (x1, y1) = said.points
        left, top = round(x0), round(y0)
        extent = round(y1) - top + 1, round(x1) - left + 1
        with at("mask"):
            most = max(4 * height * width, 2**20)  # it may hang over the image, in reason
            crop = read_mask(_decoded(said.mask, "mask"), most)
        if crop.shape != extent:
            drift = f"mask is {crop.shape[1]} x {crop.shape[0]}, its points span {extent[1]} x "
            self.mended.append(Finding("L812", "info", f"{drift}{extent[0]}", file_name))
            if all(v == round(v) for point in said.points for v in point):
                crop = crop[: max(extent[0], 0), : max(extent[1], 0)]
        mask = placed(crop, left, top, (height, width))
        if lost := int(crop.sum()) - mask.area:
            outside = f"{lost} px of a mask lie outside of the image, and are cut off"
            self.mended.append(Finding("L818", "warning", outside, file_name))
        return Rle(height, width, mask.counts.decode())


def _differs(said: tuple[int, int] | None, seen: tuple[int, int, int]) -> str | None:
    """What is wrong between the (height, width) that are said and those seen in the picture."""
    height, width, turn = seen
    upright = (width, height) if turn >= 5 else (height, width)
    if said == (height, width) != upright:
        return None  # annotated as it is stored, by a tool that does not turn pictures
    if turn != 1:
        return f"annotated upright, stored with EXIF orientation {turn}: save it upright"
    if said not in (None, upright):
        return f"imageHeight and imageWidth say {said}, the picture is {upright}"
    return None


def _stacked(shapes: Sequence[Shape], unordered: Sequence[bool]) -> list[Shape]:
    """
    Give z-orders to shapes whose file has none: their place in it, as Labelme paints.

    Parts of one instance lie as high as the last of them.
    """
    top: dict[tuple[str, str], int] = {}
    for place, shape in enumerate(shapes):
        if shape.group:
            top[shape.group, shape.label] = place
    return [
        replace(s, segment=replace(s.segment, z_order=top.get((s.group, s.label), place)))
        if without
        else s
        for place, (s, without) in enumerate(zip(shapes, unordered, strict=True))
    ]


def _renumbered(segments: Sequence[Segment], new: Mapping[int, int]) -> tuple[Segment, ...]:
    return tuple(replace(s, category_id=new[s.category_id]) for s in segments)


class _Pictures:
    """Which picture of the tree a Labelme file is about."""

    def __init__(self, tree: Tree) -> None:
        self._names = frozenset(tree.names())
        self._by_stem: dict[str, list[str]] = {}  # by path without extension
        self._free: dict[str, list[str]] = {}  # by last part: pictures without a JSON beside
        for n in own_names(tree):
            path = PurePosixPath(n)
            if path.suffix.lower() not in SUFFIXES:
                continue
            self._by_stem.setdefault(path.with_suffix("").as_posix(), []).append(n)
            if path.with_suffix(".json").as_posix() not in self._names:
                self._free.setdefault(path.name, []).append(n)

    def find(self, document: str, said: str | None) -> tuple[str, str | None, str]:
        """
        The picture's name, its file where there is one, and what had to be guessed.

        Labelme writes the path from the JSON to the picture, with the separators of its
        machine; from there it may lead anywhere.

        Raises:
            FormatError: L815, nothing says which picture it is, or several could be meant.
        """
        place = PurePosixPath(document)
        path = PureWindowsPath(said or "")
        if not said or path.suffix.lower() == ".json":  # Labelme 4 could write its own name
            return self._beside(place)
        name = posixpath.normpath((place.parent / path.as_posix()).as_posix())
        leads_out = bool(path.anchor) or name == ".." or name.startswith("../")
        if not leads_out:
            safe_path(name)
            if (member := self._member(name)) is not None:
                return name, member, ""
        if path.name in ("", ".."):
            raise FormatError(f"imagePath {said!r} names no file", code="L815")
        found = self._free.get(path.name, [])
        if len(found) > 1:
            raise FormatError(f"imagePath {said!r} may be {listing(found)}", code="L815")
        if found:
            return found[0], found[0], f"imagePath {said!r} is taken to be {found[0]}"
        if not leads_out:
            return name, None, ""
        name = (place.parent / path.name).as_posix()
        safe_path(name)
        why = f"imagePath {said!r} leads out of what was given; taken to be {name}"
        return name, self._member(name), why

    def is_beside(self, document: str) -> bool:
        """Is there a picture of a document's stem?"""
        return PurePosixPath(document).with_suffix("").as_posix() in self._by_stem

    def _member(self, name: str) -> str | None:
        last = PurePosixPath(name).name
        places = (name, f"{SPARE}/{name}", f"{SPARE}/{last}")
        return next((p for p in places if p in self._names), None)

    def _beside(self, place: PurePosixPath) -> tuple[str, str | None, str]:
        """The picture of the same stem, for a file that names no picture."""
        found = self._by_stem.get(place.with_suffix("").as_posix(), [])
        if len(found) != 1:
            said = f"imagePath names no picture, and {len(found)} of its name are beside it"
            raise FormatError(said, code="L815")
        return found[0], found[0], f"imagePath names no picture; taken to be {found[0]}"


# ── shapes ───────────────────────────────────────────────────────────────────────────────────


_Points = Sequence[tuple[float, float]]


def _ring(kind: str, points: _Points) -> tuple[float, ...]:
    if kind == "polygon":
        if len(points) < 3:
            raise FormatError(f"polygon has {len(points)} points, needs 3", code="L813")
        return _flat(points)
    if kind == "circle":
        _need(kind, points, 2)
        (cx, cy), edge = points
        radius = math.dist((cx, cy), edge)
        if not radius:
            raise FormatError("circle has radius 0", code="L816")
        return ellipse(cx, cy, radius, radius)
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
        return (x0, y0, x1, y0, x1, y1, x0, y1)
    if kind in _DRAWN:  # rotation is X-AnyLabeling's
        _need(kind, points, 4)
        return _flat(points)
    raise FormatError(f"unknown shape_type {kind!r}", code="L817")


def _need(kind: str | None, points: _Points, n: int) -> None:
    """Refuse a wrong number of points, or some that no image can hold."""
    if len(points) != n:
        raise FormatError(f"{kind} has {len(points)} points, not {n}", code="L813")
    if not all(abs(v) <= MAX_COORDINATE for point in points for v in point):
        raise FormatError("a point is beyond 100,000 px", where=("points",), code="P406")


def _flat(points: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(v for point in points for v in point)


def _attributes(said: _Shape) -> dict[str, Any]:
    """Flags, description, and what we write beside them, as attributes."""
    attributes = {**(said.attributes or {}), **(said.flags or {})}
    return {**attributes, "description": said.description} if said.description else attributes


def _covered(said: _Shape) -> dict[str, dict[str, Any]]:
    """Flags and attributes whose names are those of others in `_attributes`."""
    flags, attributes = said.flags or {}, said.attributes or {}
    text = {"description"} if said.description else set[str]()
    hidden = {
        "flags": {k: v for k, v in flags.items() if k in text},
        "attributes": {k: v for k, v in attributes.items() if k in text | flags.keys()},
    }
    return {key: covered for key, covered in hidden.items() if covered}


def _described(said: _Shape, extra: Mapping[str, Any]) -> dict[str, Any]:
    """A point or line, kept as it is: it has no pixels and so is no segment."""
    kept = {"kind": said.shape_type, "label": said.label, "points": [list(p) for p in said.points]}
    more = {"group": said.group_id, "attributes": _attributes(said), "extra": extra}
    return {**kept, **{k: v for k, v in more.items() if v not in (None, {})}}


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{what} is not base64", code="I112") from error


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def write(dataset: Dataset, folder: Path) -> tuple[Item, ...]:
    """
    Write `<stem>.json` to where the picture `<stem>.<ext>` lies, and labels.txt.

    Labelme finds a JSON beside its picture, so splits do not become folders: pictures stay
    where they are. Shapes are in their z-order, crowds below all. Rings of one segment are
    polygons of one group; an RLE is a mask shape. Booleans are flags, `description` is the
    description, and other attributes are a key of their own, which Labelme keeps.
    """
    ledger = Ledger()
    names = {c.id: c.name for c in dataset.categories}
    used: set[int] = set()
    for sample, document in zip(dataset, _document_names(dataset), strict=True):
        used.update(s.category_id for s in sample.segments)
        path = folder / document
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(canonical_json(_to_json(sample, names, ledger)))
    for n in [n for i, n in names.items() if i not in used and not _is_listable(n)]:
        ledger.note(f"{n!r} fits no line of {LABELS}, and no segment has it")
    listable = [n for n in dict.fromkeys(names.values()) if _is_listable(n)]
    (folder / LABELS).write_bytes("".join(f"{n}\n" for n in (*VOID, *listable)).encode())
    return ledger.items


def _document_names(dataset: Dataset) -> Iterator[str]:
    """`a.json` for `a.jpg`; where that is taken, `a.jpg.json`, then with a number."""
    taken: set[str] = set()
    for sample in dataset:
        name = next(n for n in _candidates(sample.file_name) if collision_key(n) not in taken)
        taken.add(collision_key(name))
        yield name


def _candidates(file_name: str) -> Iterator[str]:
    path = safe_path(file_name)
    yield path.with_suffix(".json").as_posix()
    yield f"{path}.json"
    yield from (f"{path}__{n}.json" for n in count(2))


def _is_listable(name: str) -> bool:
    """Can a line of labels.txt say it?"""
    return [name] == name.splitlines() and name == name.strip() and name not in VOID


def _to_json(sample: Sample, names: Mapping[int, str], ledger: Ledger) -> dict[str, Any]:
    groups = iter(range(1, len(sample.segments) + 1))
    shapes: list[dict[str, Any]] = []
    for segment in sorted(sample.segments, key=lambda s: (not s.iscrowd, s.z_order or 0)):
        label = names[segment.category_id]
        if label in VOID:
            reason = f"Labelme takes {label} for no class: its segments are void"
            area = segment.mask(sample.height, sample.width).area
            ledger.note(reason, sample.file_name, segments=-1, pixels={label: -area})
        parts = shapes_of(segment, sample.height, sample.width)
        group = next(groups) if len(parts) > 1 else None
        for part in parts:
            own = {
                "label": label,
                "group_id": group,
                "z_order": part.z_order,
                **_attributes_json(part.attributes),
                **_geometry_json(part, sample.height, sample.width),
            }
            shapes.append(_with_fields_beyond(own, part.origin, ledger, sample.file_name))
    flags = sample.source.get("flags")
    own = {
        "version": _VERSION,
        "flags": dict(flags) if isinstance(flags, Mapping) else {},
        "shapes": shapes,
        "imagePath": PurePosixPath(sample.file_name).name,
        "imageData": None,
        "imageHeight": sample.height,
        "imageWidth": sample.width,
    }
    return {**fields_beyond(sample.source, own.keys(), ledger, sample.file_name), **own}


def _with_fields_beyond(
    own: dict[str, Any], origin: Json, ledger: Ledger, file_name: str
) -> dict[str, Any]:
    """A shape with what else its source said; flags and attributes that others cover go to them."""
    extra = origin.get("extra") or {}
    covered = {k for k in ("flags", "attributes") if isinstance(extra.get(k), Mapping)}
    taken = (own.keys() | {"attributes"}) - covered
    more = fields_beyond(origin, taken, ledger, file_name)
    return {**more, **own, **{k: {**more[k], **own.get(k, {})} for k in covered}}


def _attributes_json(attributes: Json) -> dict[str, Any]:
    """Attributes as Labelme's flags and description, the rest under a key of its own."""
    flags = {k: v for k, v in attributes.items() if isinstance(v, bool)}
    said_text = attributes.get("description")
    text = said_text if isinstance(said_text, str) else ""
    done = {*flags, "description"} if text else set(flags)
    rest = {k: v for k, v in attributes.items() if k not in done}
    said = {"flags": flags, "description": text}
    return {**said, "attributes": rest} if rest else said


def _geometry_json(shape: Segment, height: int, width: int) -> dict[str, Any]:
    """A polygon, or what of Labelme's it was drawn as; or a mask: the PNG of its box."""
    if isinstance(shape.segmentation, Rle):
        mask = shape.mask(height, width)
        x, y, w, h = mask.bbox
        w, h = max(w, 1), max(h, 1)  # a mask without pixels is one pixel that is not set
        png = png_of_mask(np.ascontiguousarray(mask.to_array()[y : y + h, x : x + w]))
        return {
            "shape_type": "mask",
            "points": [[x, y], [x + w - 1, y + h - 1]],
            "mask": base64.b64encode(png).decode(),
        }
    (ring,) = shape.segmentation
    if (was := _was(shape.origin)) is not None and _ring(was.shape, was.points) == ring:
        points = [list(point) for point in was.points]
        return {"shape_type": was.shape, "points": points, "mask": None}
    points = [list(point) for point in zip(ring[::2], ring[1::2], strict=True)]
    return {"shape_type": "polygon", "points": points, "mask": None}


class _Was(msgspec.Struct):
    """What the origin of a shape says of how it was drawn."""

    shape: str
    points: list[tuple[float, float]]


def _was(origin: Json) -> _Was | None:
    """The origin, where it is that of a shape of Labelme's which is no polygon."""
    try:
        was = msgspec.convert(origin, _Was)
        _ring(was.shape, was.points)
    except (msgspec.ValidationError, FormatError):
        return None  # other tools may say other things there
    return was if was.shape in _DRAWN else None
