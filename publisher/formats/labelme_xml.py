"""
LabelMe 3.0: the XML of MIT's LabelMe, as CVAT and Datumaro export it. Read only.

`<subset>/<folder>/<stem>.xml` beside its picture, masks as full-size PNGs under
`<subset>/Masks/`; or MIT's own `Annotations/<folder>/`, `Images/<folder>/`, `Masks/<folder>/`.
Not Labelme's JSON, which another program of nearly the same name writes.

Objects that name each other as parts are one instance where their names are the same. Boxes
are turned by their attribute `rotation`. Attributes are one line of text, `k=v, k=v`, so a
value that holds a comma followed by a word and `=` cannot be told from two. Who drew an object and
when, whether it is verified and what else a file says is kept with its origin.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from ..conservation import Item, Tally
from ..dataset import Category, Sample, Segment
from ..errors import FormatError, at
from ..files import SPARE, Tree, own_names, read_limited
from ..images import read_mask, size_of
from ..masks import Mask, Rle, rotate
from ..names import safe_path
from ..validate import Finding, finding_of
from .documents import about
from .grouping import Shape, grouped
from .reading import Merged, Picture, Reading
from .xml import elements

_MAX_PNG = 2**26  # bytes of one mask
_LOOKED_AT = 4  # files, to tell the format
_VALUE = re.compile(r"(?:^|, )([^=,]+)=")


def detect(tree: Tree) -> bool:
    """Is one of the first XML files an `<annotation>` with LabelMe's outlines or image size?"""
    return any(_is_labelme(tree, name) for name in _documents(tree)[:_LOOKED_AT])


def read(tree: Tree) -> Reading:
    """
    Read all XML files of a folder or archive as one dataset.

    Raises:
        FormatError: no such file, or one that is hostile or broken.
    """
    names = _documents(tree)
    if not names:
        raise FormatError("no LabelMe XML", path=tree.label)
    reader = _Reader(tree, frozenset(tree.names()))
    for name in names:
        try:
            reader.take(name)
        except FormatError as error:
            error.path = error.path or f"{tree.label}: {name}"
            raise
    return reader.result()


def _documents(tree: Tree) -> list[str]:
    return [n for n in own_names(tree) if n.lower().endswith(".xml")]


def _is_labelme(tree: Tree, name: str) -> bool:
    try:
        with tree.open(name) as stream:
            parts = elements(stream)
            if next(parts).tag != "annotation":
                return False
            return any(_tells(e) for e in parts)
    except FormatError:
        return False


def _tells(element: Element) -> bool:
    if element.tag == "imagesize":
        return True
    outlined = element.find("polygon") is not None or element.find("segm") is not None
    return element.tag == "object" and outlined


@dataclass(slots=True)
class _Reader:
    """Collects what all files say; `take` each, then ask for the `result`."""

    tree: Tree
    names: frozenset[str]
    numbers: dict[str, int] = field(default_factory=dict)  # classes as they come up
    pictures: list[Picture] = field(default_factory=list)
    shapes: int = 0
    pixels: Counter[str] = field(default_factory=Counter)
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    heard: Merged = field(default_factory=Merged)
    deleted: int = 0

    def take(self, name: str) -> None:
        """Read one file."""
        with self.tree.open(name) as stream:
            parts = list(elements(stream))
        if parts[0].tag != "annotation":
            return  # another tool's
        self.files.add(name)
        head = {e.tag: e for e in parts[1:] if e.tag != "object"}
        place = _Place.of(name, _text(head.get("folder")))
        file_name = place.folder + safe_path(_text(head.get("filename"))).name
        member = place.picture(file_name, self.names)
        height, width = self._size(head.get("imagesize"), member)
        drawn = []
        for index, node in enumerate(e for e in parts[1:] if e.tag == "object"):
            if _text(node.find("deleted")) == "1":
                self.deleted += 1
                continue
            self.shapes += 1
            try:
                with at("object", index):
                    drawn.append(self._shape(node, place, height, width))
            except FormatError as error:
                self.findings.append(finding_of(error, file_name))
        segments, items = grouped(drawn, file_name)
        self.items += items
        extra = self._extra_of([e for e in parts[1:] if e.tag not in _OF_IMAGES])
        source = {"subset": place.subset, "name": file_name, "document": name, "extra": extra}
        sample = Sample(
            id=0,
            file_name=file_name,
            height=height,
            width=width,
            segments=tuple(segments),
            source={k: v for k, v in source.items() if v},
        )
        self.pictures.append(Picture(sample, member))

    def result(self) -> Reading:
        """All that was read, its classes in the order in which they came up."""
        return Reading(
            name="",
            format="labelme-xml",
            categories=tuple(Category(number, name) for name, number in self.numbers.items()),
            pictures=self.pictures,
            counted=Tally(len(self.pictures), self.shapes, self.pixels),
            items=tuple(self.items),
            notes=tuple(self._notes()),
            findings=tuple(self.findings),
            mended=tuple(self.heard),
            files=frozenset(self.files),
        )

    def _extra_of(self, nodes: Sequence[Element]) -> dict[str, Any]:
        """What elements say that nothing here is made of; unusual ones are said, once of all."""
        extra = {str(e.tag): said for e in nodes if (said := _said(e))}
        if extra.get("verified") == "0":
            del extra["verified"]
        said = (m for k in extra if k not in _USUAL for m in about(k, extra, "kept aside"))
        self.heard.hear(said, self.tree.label)
        return extra

    def _notes(self) -> Iterator[str]:
        yield "LabelMe keeps no z-order, colours, tags, points and lines"
        if self.deleted:
            yield f"{self.deleted} object(s) were deleted in LabelMe and are left out"

    def _size(self, node: Element | None, member: str | None) -> tuple[int, int]:
        """What the file says, or else its picture."""
        rows, columns = (_text(node.find(k) if node is not None else None) for k in _SIZE)
        if rows.isdecimal() and columns.isdecimal():
            if not all(len(n) < 11 and 0 < int(n) < 2**31 for n in (rows, columns)):
                raise FormatError(f"image is {rows[:20]}x{columns[:20]}", code="I108")
            return int(rows), int(columns)
        if member is None:
            raise FormatError("no imagesize, and no picture that would tell it", code="I108")
        with self.tree.open(member) as stream:
            return size_of(stream)

    def _shape(self, node: Element, place: _Place, height: int, width: int) -> Shape:
        name = _text(node.find("name"))
        if not name:
            raise FormatError("object has no name", code="A304")
        attributes = _attributes(_text(node.find("attributes")))
        if _text(node.find("occluded")) == "yes":
            attributes["occluded"] = True
        origin: dict[str, Any] = {"group": _group(node)}
        outlines = [e for tag in ("polygon", "segm") for e in node.iterfind(tag)]
        more = [*(e for o in outlines for e in o if e.tag not in ("pt", "mask")), *node]
        origin["extra"] = self._extra_of([e for e in more if e.tag not in _OF_OBJECTS])
        geometry = self._geometry(node, place, attributes, origin)
        segment = Segment(
            id=0,
            category_id=self.numbers.setdefault(name, len(self.numbers) + 1),
            segmentation=geometry,
            attributes=attributes,
            origin={k: v for k, v in origin.items() if v},
        )
        mask = segment.mask(height, width)
        self.pixels[name] += mask.area
        return Shape(name, origin["group"], segment, mask)

    def _geometry(
        self, node: Element, place: _Place, attributes: dict[str, Any], origin: dict[str, Any]
    ) -> Any:
        if (polygon := node.find("polygon")) is not None:
            ring = _ring(polygon)
            if _text(node.find("type")) != "bounding_box":
                return (ring,)
            origin["shape"] = "box"
            degrees = attributes.pop("rotation", 0)
            return (_turned(ring, degrees) if isinstance(degrees, int | float) else ring,)
        mask = _text(node.find("segm/mask"))
        if not mask:
            raise FormatError("object has neither polygon nor mask", code="P401")
        origin["shape"] = "mask"
        return self._mask(place.mask(mask, self.names))

    def _mask(self, member: str) -> Rle:
        self.files.add(member)
        with self.tree.open(member) as stream:
            body = read_limited(stream, _MAX_PNG)
        if len(body) > _MAX_PNG:
            raise FormatError(f"mask has more than {_MAX_PNG:,} bytes", code="I119")
        pixels = read_mask(body, colored=True)
        mask = Mask.from_array(np.asarray(pixels))
        return Rle(mask.height, mask.width, mask.counts.decode())


_SIZE = ("nrows", "ncols")
_OF_IMAGES = {"filename", "folder", "imagesize", "object"}
_OF_OBJECTS = {"name", "deleted", "occluded", "id", "parts", "attributes", "type"}
_OF_OBJECTS |= {"polygon", "segm"}
_USUAL = {"source", "verified", "date", "username"}  # what LabelMe says besides


def _said(node: Element) -> Any:
    """What an element says: its text, or what its children say, by their tags."""
    if not len(node):
        return _text(node)
    return {str(e.tag): said for e in node if (said := _said(e))}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an XML file lies: `root` ends before the folder that the file itself names."""

    root: str  # "Train/", "Annotations/" or ""
    folder: str  # "session 1/" or ""

    @classmethod
    def of(cls, name: str, folder: str) -> _Place:
        parent = PurePosixPath(name).parent.as_posix()
        parent = "" if parent == "." else f"{parent}/"
        inner = f"{folder.strip('/')}/" if folder.strip("/") else ""
        if not parent.endswith(inner):
            inner = ""
        return cls(parent.removesuffix(inner), inner)

    @property
    def subset(self) -> str:
        last = PurePosixPath(self.root).name
        return "" if last == "Annotations" else last

    def picture(self, file_name: str, names: frozenset[str]) -> str | None:
        images = re.sub(r"(^|/)Annotations/$", r"\1Images/", self.root)
        spare = PurePosixPath(SPARE)
        places = [self.root + file_name, images + file_name]
        places += [str(spare / p) for p in (self.root + file_name, file_name)]
        places.append(str(spare / PurePosixPath(file_name).name))
        return next((p for p in places if p in names), None)

    def mask(self, name: str, names: frozenset[str]) -> str:
        safe_path(name)
        base = re.sub(r"(^|/)Annotations/$", r"\1", self.root)
        places = (f"{base}Masks/{name}", f"{base}Masks/{self.folder}{name}")
        for place in places:
            if place in names:
                return place
        raise FormatError(f"mask file {name!r} is not there")


def _group(node: Element) -> str:
    """The id of the object that the parts belong to; "" where it stands alone."""
    parent = _text(node.find("parts/ispartof"))
    if parent:
        return parent
    return _text(node.find("id")) if _text(node.find("parts/hasparts")) else ""


def _ring(polygon: Element) -> tuple[float, ...]:
    try:
        pairs = [(_text(p.find("x")), _text(p.find("y"))) for p in polygon.iter("pt")]
        return tuple(float(v) for pair in pairs for v in pair)
    except ValueError:
        raise FormatError("a point is no number", where=("polygon",), code="P406") from None


def _turned(ring: Sequence[float], degrees: float) -> tuple[float, ...]:
    """A box turned about its centre."""
    if not degrees or len(ring) < 6:
        return tuple(ring)
    xs, ys = ring[::2], ring[1::2]
    return rotate(ring, (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, degrees)


def _attributes(text: str) -> dict[str, Any]:
    """`k=v, k=v`, values as Datumaro writes Python's."""
    marks = list(_VALUE.finditer(text))
    ends = [m.start() for m in marks[1:]] + [len(text)]
    values = {m[1].strip(): text[m.end() : end] for m, end in zip(marks, ends, strict=False)}
    return {k: _typed(v.replace('\\"', '"').strip()) for k, v in sorted(values.items())}


def _typed(text: str) -> Any:
    known: Mapping[str, bool] = {"True": True, "False": False}
    if text in known:
        return known[text]
    if re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text):
        number = float(text)
        return int(number) if number == int(number) else number
    return text


def _text(node: Element | None) -> str:
    return (node.text or "").strip() if node is not None else ""
