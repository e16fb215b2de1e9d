"""
CVAT for images 1.1: `annotations.xml` and `images/[<subset>/]<path>`.

The source of truth among CVAT's exports: the only one that keeps masks pixel by pixel,
z-order, groups, attributes, tags and subsets. Rules as seen on CVAT 2.15 and 2.54.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from ..conservation import Item, Tally
from ..dataset import Category, Sample, Segment
from ..errors import FormatError, at
from ..files import SPARE, Tree, own_names
from ..masks import Rle, ellipse, mask_from_crop, rotate
from ..names import listing, safe_path
from ..validate import Finding, finding_of
from .grouping import Shape, grouped
from .reading import Picture, Reading

XML = "annotations.xml"
_MAX_DEPTH = 32
_NOT_SEGMENTS = ("tag", "polyline", "points", "cuboid", "skeleton")


def detect(tree: Tree) -> bool:
    """Does the tree hold an `annotations.xml` whose root is CVAT's?"""
    name = _xml_name(tree)
    if name is None:
        return False
    with tree.open(name) as stream:
        return _root_tag(stream) == "annotations"


def read(tree: Tree) -> Reading:
    """
    Read an export of a project, task or job.

    Raises:
        FormatError: the XML is broken, hostile, or CVAT's video format.
    """
    name = _xml_name(tree)
    if name is None:
        raise FormatError(f"no {XML}", path=tree.label)
    members = _Members(tree.names(), base=str(PurePosixPath(name).parent))
    reader = _Reader(tree.label, members)
    try:
        with tree.open(name) as stream:
            for element in _elements(stream):
                reader.take(element)
    except FormatError as error:
        error.path = error.path or f"{tree.label}: {name}"
        raise
    return reader.result()


# ── the XML stream ───────────────────────────────────────────────────────────────────────────


def _elements(stream: BinaryIO) -> Iterator[Element]:
    """`<meta>` and each `<image>`, one at a time; what was yielded is freed."""
    depth = 0
    root: Element | None = None
    try:
        for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
            if event == "start":
                depth += 1
                root = element if root is None else root
                if depth > _MAX_DEPTH:
                    raise FormatError(f"XML is nested deeper than {_MAX_DEPTH}", code="J001")
                continue
            depth -= 1
            if depth == 1 and root is not None:
                yield element
                root.clear()
    except DefusedXmlException as error:
        raise FormatError(
            f"XML with a DOCTYPE or entities is refused ({type(error).__name__})", code="J001"
        ) from error
    except (ParseError, UnicodeDecodeError, LookupError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not valid XML: {error}", code="J001") from error
    if depth or root is None:
        raise FormatError("XML ends too early", code="J001")


def _root_tag(stream: BinaryIO) -> str | None:
    try:
        for _, element in iterparse(stream, events=("start",), forbid_dtd=True):
            return str(element.tag)
    except DefusedXmlException:
        return "annotations"  # reading it says what is wrong
    except (ParseError, UnicodeDecodeError, LookupError, ValueError):
        return None
    return None


def _xml_name(tree: Tree) -> str | None:
    """The annotation file nearest to the root."""
    names = own_names(tree)
    found = [n for n in names if PurePosixPath(n).name == XML]
    if not found and len(names) == 1 and names[0].lower().endswith(".xml"):
        found = names
    return min(found, key=lambda n: (n.count("/"), n), default=None)


# ── the reader ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Task:
    """A task, or a job of one that was exported on its own."""

    id: str
    kind: str = "task"
    name: str = ""
    subset: str = ""
    video: str = ""  # the file a video task was made from; "?" where it is not said


@dataclass(slots=True)
class _Reader:
    """Collects what one export says; `take` each element, then ask for the `result`."""

    label: str
    members: _Members
    name: str = ""
    tasks: dict[str, _Task] = field(default_factory=dict)
    categories: dict[str, Category] = field(default_factory=dict)
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)  # (label, attribute) -> type
    pictures: list[Picture] = field(default_factory=list)
    counted: Tally = field(default_factory=Tally)
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)

    def take(self, element: Element) -> None:
        match element.tag:
            case "meta":
                self._meta(element)
            case "image":
                with at("image", element.get("name", "?")):
                    self._image(element)
            case "track":
                raise FormatError(
                    "this is 'CVAT for video 1.1', not a format I read",
                    hint="export 'CVAT for images 1.1'; it also holds videos, frame by frame",
                )
            case _:
                pass  # <version>

    def result(self) -> Reading:
        self._note_the_lost()
        return Reading(
            name=self.name,
            format="cvat",
            categories=tuple(self.categories.values()),
            pictures=tuple(self.pictures),
            counted=self.counted,
            items=tuple(self.items),
            notes=tuple(self.notes),
            findings=tuple(self.findings),
        )

    def _meta(self, meta: Element) -> None:
        for owner in ("project", "task", "job"):
            head = meta.find(owner)
            if head is None:
                continue
            self.name = _text(head, "name") or self.name
            for node in head.iter("task"):
                self._task(node, "task")
            if owner == "job":
                self._task(head, "job")
            for node in head.iter("label"):
                self._label(node)

    def _task(self, node: Element, kind: str) -> None:
        key = _text(node, "id")
        video = _text(node, "source")
        if not video and _text(node, "mode") == "interpolation":
            video = "?"
        self.tasks[key] = _Task(key, kind, _text(node, "name"), _text(node, "subset"), video)

    def _label(self, node: Element) -> None:
        name = _text(node, "name")
        if not name or _text(node, "parent") or name in self.categories:
            return
        number = len(self.categories) + 1
        self.categories[name] = Category(number, name, color=_color(_text(node, "color")))
        for attribute in node.iter("attribute"):
            self.kinds[name, _text(attribute, "name")] = _text(attribute, "input_type")

    def _image(self, node: Element) -> None:
        name, height, width = node.get("name", ""), _size(node, "height"), _size(node, "width")
        safe_path(name)
        if height * width <= 0:
            raise FormatError(f"image is {height}x{width}", code="I108")
        task = self._task_of(node)
        subset = node.get("subset") or task.subset
        member = self.members.find(name, subset)
        file_name = name if member is None else self.members.named(name, member)
        shapes = [c for c in node if c.tag not in _NOT_SEGMENTS]
        segments = self._segments(shapes, file_name, height, width)
        aside = [_described(c, self.kinds) for c in node if c.tag in _NOT_SEGMENTS]
        self.aside.update(c["kind"] for c in aside)
        source = {
            "task": task.name,
            f"{task.kind}_id": task.id,
            "subset": subset,
            "image_id": node.get("id", ""),
            "name": name,
            "not_segments": aside,
        }
        sample = Sample(
            id=0,
            file_name=file_name,
            height=height,
            width=width,
            segments=tuple(segments),
            group=f"cvat {task.kind} {task.id}: {task.video}" if task.video else None,
            source={k: v for k, v in source.items() if v},
        )
        self.counted += Tally(images=1)
        self.pictures.append(Picture(sample, member))

    def _task_of(self, node: Element) -> _Task:
        key = node.get("task_id", "")
        if key in self.tasks:
            return self.tasks[key]
        if not key and len(self.tasks) == 1:
            return next(iter(self.tasks.values()))
        return _Task(key)

    def _segments(
        self, shapes: Sequence[Element], file_name: str, height: int, width: int
    ) -> list[Segment]:
        """One a shape, or one a group of shapes that share label and group id."""
        read = []
        for index, node in enumerate(shapes):
            with at(str(node.tag), index):
                shape = self._shape(node, file_name, height, width)
            if shape is not None:
                read.append(shape)
        segments, items = grouped(read, file_name)
        self.items += items
        return segments

    def _shape(self, node: Element, file_name: str, height: int, width: int) -> Shape | None:
        label = node.get("label", "")
        self.counted += Tally(segments=1)
        try:
            category = self.categories.get(label)
            if category is None:
                raise FormatError(f"label {label!r} is not among the labels", code="A304")
            segment = self._segment(node, category, height, width)
            mask = segment.mask(height, width)
        except FormatError as error:
            error.where = (str(node.tag), *error.where)
            self.findings.append(finding_of(error, file_name))
            return None
        self.counted += Tally(pixels={label: mask.area})
        return Shape(label, segment.origin.get("group", ""), segment, mask)

    def _segment(self, node: Element, category: Category, height: int, width: int) -> Segment:
        attributes = _attributes(node, category.name, self.kinds)
        if node.get("occluded") == "1":
            attributes["occluded"] = True
        origin: dict[str, Any] = {"shape": str(node.tag), "source": node.get("source", "")}
        if node.get("group_id", "0") not in ("", "0"):
            origin["group"] = node.get("group_id")
        segmentation = _geometry(node, height, width, origin)
        return Segment(
            id=0,
            category_id=category.id,
            segmentation=segmentation,
            z_order=_int(node, "z_order", "0"),
            attributes=attributes,
            origin={k: v for k, v in origin.items() if v},
        )

    def _note_the_lost(self) -> None:
        """What the export, or its format, does not hold."""
        for kind, n in sorted(self.aside.items()):
            self.notes.append(
                f"{n} {kind} shape(s) or tag(s) have no pixels; kept with their sample's source"
            )
        if extra := self.members.unused():
            self.notes.append(
                f"{len(extra)} image file(s) have no entry in {XML} and were left out "
                f"(a ground-truth job's export holds its whole task): {listing(sorted(extra))}"
            )
        if any(t.video for t in self.tasks.values()):
            self.notes.append(
                "tracks are not in this format: objects of a video keep no identity over frames"
            )
        if mangled := self._mangled():
            self.notes.append(
                f"project exports rename files of one stem; maybe renamed: {listing(mangled)} "
                "(export task by task to keep names)"
            )

    def _mangled(self) -> list[str]:
        """Names like sheep_1.png beside sheep.jpg, in exports of a project."""
        if len(self.tasks) < 2:
            return []
        stems = {str(PurePosixPath(p.sample.file_name).with_suffix("")) for p in self.pictures}
        found = []
        for picture in self.pictures:
            stem = str(PurePosixPath(picture.sample.file_name).with_suffix(""))
            base, _, number = stem.rpartition("_")
            if number.isdigit() and not number.startswith("0") and base in stems:
                found.append(picture.sample.file_name)
        return found


class _Members:
    """Which file of the export holds which image."""

    def __init__(self, names: Sequence[str], base: str) -> None:
        self._base = "" if base == "." else base + "/"
        self._names = {n for n in names if not n.endswith((".xml", ".json", ".txt"))}
        self._by_stem: dict[str, list[str]] = {}
        self._used: set[str] = set()
        for n in self._names:
            self._by_stem.setdefault(str(PurePosixPath(n).with_suffix("")), []).append(n)

    def find(self, name: str, subset: str) -> str | None:
        """The file of an image; video frames are named without their extension."""
        root = f"{self._base}images/"
        places = [f"{root}{subset}/{name}", f"{root}{name}", f"{self._base}{name}"]
        places += [f"{SPARE}/{subset}/{name}", f"{SPARE}/{name}", f"{SPARE}/{_last(name)}"]
        for place in places:
            if place in self._names:
                return self._use(place)
        for place in places:
            if len(found := self._by_stem.get(place, [])) == 1:
                return self._use(found[0])
        return None

    def named(self, name: str, member: str) -> str:
        """The image's name with the extension that its file has."""
        same = _last(member) == _last(name)
        return name if same else name + PurePosixPath(member).suffix

    def unused(self) -> list[str]:
        """Files under images/ that no image asked for."""
        root = f"{self._base}images/"
        return sorted(n for n in self._names - self._used if n.startswith(root))

    def _use(self, name: str) -> str:
        self._used.add(name)
        return name


def _last(name: str) -> str:
    return PurePosixPath(name).name


# ── shapes ───────────────────────────────────────────────────────────────────────────────────


def _geometry(node: Element, height: int, width: int, origin: dict[str, Any]) -> Any:
    match node.tag:
        case "polygon":
            return (_points(node),)
        case "mask":
            return _brush(node, height, width)
        case "box":
            x0, y0, x1, y1 = (_float(node, k) for k in ("xtl", "ytl", "xbr", "ybr"))
            degrees = _float(node, "rotation", "0")
            if degrees:
                origin["box"] = {"bbox": [x0, y0, x1 - x0, y1 - y0], "rotation": degrees}
            return (box_ring(x0, y0, x1, y1, degrees),)
        case "ellipse":
            cx, cy, rx, ry = (_float(node, k) for k in ("cx", "cy", "rx", "ry"))
            degrees = _float(node, "rotation", "0")
            origin["ellipse"] = {"centre": [cx, cy], "radii": [rx, ry], "rotation": degrees}
            return (ellipse(cx, cy, rx, ry, degrees),)
        case tag:
            raise FormatError(f"unknown shape <{tag}>", code="L817")


def box_ring(x0: float, y0: float, x1: float, y1: float, degrees: float) -> tuple[float, ...]:
    """A box as a ring of its corners, turned clockwise on screen about its centre."""
    ring = (x0, y0, x1, y0, x1, y1, x0, y1)
    return rotate(ring, (x0 + x1) / 2, (y0 + y1) / 2, degrees) if degrees else ring


def _brush(node: Element, height: int, width: int) -> Rle:
    try:
        runs = [int(run) for run in node.get("rle", "").split(",")]
    except ValueError:
        raise FormatError("rle is not a list of integers", code="K821") from None
    left, top, w, h = (_int(node, k) for k in ("left", "top", "width", "height"))
    mask = mask_from_crop(runs, left, top, w, h, (height, width))
    return Rle(height, width, mask.counts.decode())


def _points(node: Element) -> tuple[float, ...]:
    try:
        pairs = [p.split(",") for p in node.get("points", "").split(";")]
        return tuple(float(v) for x, y in pairs for v in (x, y))
    except ValueError:
        raise FormatError("points are not x,y;x,y;...", code="P401") from None


def _described(node: Element, kinds: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """A tag, point or line, kept as it is: it has no pixels and so is no segment."""
    label = node.get("label", "")
    kept = {k: v for k, v in sorted(node.attrib.items()) if k != "label"}
    attributes = _attributes(node, label, kinds)
    said = {"kind": str(node.tag), "label": label, **kept, "attributes": attributes}
    children = [dict(c.attrib) for c in node if c.tag != "attribute"]
    return {k: v for k, v in {**said, "elements": children}.items() if v}


def _attributes(node: Element, label: str, kinds: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Attributes by name, checkboxes as bool and numbers as numbers."""
    values: dict[str, Any] = {}
    for a in sorted(node.findall("attribute"), key=lambda a: a.get("name", "")):
        name = a.get("name", "")
        values[name] = _typed(a.text or "", kinds.get((label, name), "text"))
    return values


def _typed(text: str, kind: str) -> Any:
    if kind == "checkbox" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind == "number":
        try:
            number = float(text)
        except ValueError:
            return text
        if number == number and abs(number) < 2**53:
            return int(number) if number == int(number) else number
    return text


def _text(node: Element, tag: str) -> str:
    return (node.findtext(tag) or "").strip()


def _color(text: str) -> tuple[int, int, int] | None:
    try:
        r, g, b = bytes.fromhex(text.removeprefix("#"))
    except ValueError:
        return None
    return r, g, b


def _size(node: Element, key: str) -> int:
    value = _int(node, key)
    if not 0 < value < 2**31:
        raise FormatError(f"{key} is {value}", code="I108")
    return value


def _int(node: Element, key: str, default: str = "") -> int:
    text = node.get(key, default)
    try:
        return int(text)
    except ValueError:
        raise FormatError(f"{key} is {text[:40]!r}, not an integer") from None


def _float(node: Element, key: str, default: str = "") -> float:
    text = node.get(key, default)
    try:
        value = float(text)
    except ValueError:
        raise FormatError(f"{key} is {text[:40]!r}, not a number") from None
    if not abs(value) <= 1e6:
        raise FormatError(f"{key} is {text[:40]!r}", code="P406")
    return value
