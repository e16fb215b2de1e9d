"""
COCO's records, one by one: what they hold, and what can be set right where they are bent.

A sound record is decoded straight into a struct. One that does not fit is looked at again
as plain JSON: numbers written as text are cast where that is exact, a lone ring is wrapped,
what is of no use to the mask is put aside. Each repair is said with a code.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from ..dataset import Segment
from ..errors import FormatError
from ..files import json_error
from ..masks import Rle
from .cvat import box_ring
from .documents import Mended, about, converted, degrees

Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Rings = tuple[tuple[float, ...], ...]


class Image(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An image; what else COCO says of it is kept as it is."""

    id: Whole
    file_name: str
    width: Whole = 0
    height: Whole = 0
    license: Any | UnsetType = UNSET
    flickr_url: Any | UnsetType = UNSET
    coco_url: Any | UnsetType = UNSET
    date_captured: Any | UnsetType = UNSET


class Category(msgspec.Struct, forbid_unknown_fields=True):
    """A category; the panoptic keys may be there."""

    id: Whole
    name: str
    supercategory: str | None = ""
    isthing: int = 1
    color: tuple[int, int, int] | None = None


class Counts(msgspec.Struct):
    """An RLE, compressed or not."""

    size: tuple[int, int]
    counts: str | tuple[int, ...]


class Annotation(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An annotation; `z_order` and `attributes` are not COCO's own."""

    image_id: Whole
    category_id: Whole
    id: Whole = 0
    segmentation: Rings | Counts | None = None
    bbox: tuple[float, ...] | None = None
    area: float | None = None
    iscrowd: int | None = None
    z_order: int | None = None
    attributes: dict[str, Any] | None = None


class Head(msgspec.Struct, gc=False):
    """What tells whose an annotation is; all else waits until it is looked at."""

    image_id: Whole
    id: Whole = 0


class _Group(msgspec.Struct):
    image: Image
    numbers: list[int]
    annotations: list[Annotation]


class _RawGroup(msgspec.Struct):
    image: Raw
    numbers: list[int]
    annotations: list[Raw]


_MORE = ("license", "flickr_url", "coco_url", "date_captured")  # of an image

S = TypeVar("S")
T = TypeVar("T", bound=msgspec.Struct)


class Row(NamedTuple, Generic[T]):
    """A record, what it says beyond the format, and what was set right in it."""

    said: T
    extra: Mapping[str, Any] = MappingProxyType({})
    mended: Sequence[Mended] = ()


@dataclass(slots=True)
class Group:
    """An image with its annotations, by their numbers in the file; or why they cannot be read."""

    image: Row[Image]
    rows: list[tuple[int, Row[Annotation] | FormatError]]


_groups = msgspec.json.Decoder(_Group)
_raw_groups = msgspec.json.Decoder(_RawGroup)
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def joined(image: bytes, numbers: Sequence[int], annotations: bytes) -> bytes:
    """An image and its annotations, with commas between them, as one JSON text; see `group`."""
    parts = (b'{"image":', image, b',"numbers":', msgspec.json.encode(numbers))
    return b"".join((*parts, b',"annotations":[', annotations, b"]}"))


def group(text: bytes) -> Group:
    """
    Decode what `joined` has put together; its image has been decoded before.

    Raises:
        FormatError: it is no longer what it was.
    """
    if _PRINTED in text or _BACKSLASH in text:
        return _bent_group(text)
    try:
        found = _groups.decode(text)
    except _ERRORS:
        return _bent_group(text)
    rows = [Row(a) for a in found.annotations]
    return Group(Row(found.image), list(zip(found.numbers, rows, strict=True)))


def _bent_group(text: bytes) -> Group:
    try:
        found = _raw_groups.decode(text)
    except _ERRORS:
        raise FormatError("the file has changed while it was read", code="J001") from None
    rows: list[tuple[int, Row[Annotation] | FormatError]] = []
    for number, raw in zip(found.numbers, found.annotations, strict=True):
        try:
            rows.append((number, record(bytes(memoryview(raw)), Annotation)))
        except FormatError as error:
            rows.append((number, error))
    return Group(record(bytes(memoryview(found.image)), Image), rows)


def record(raw: bytes, kind: type[T]) -> Row[T]:
    """
    Decode one record, and set right what can be.

    Raises:
        FormatError: it is no such record; the code says which rule it breaks.
    """
    try:
        found = msgspec.json.decode(raw, type=kind)
        if _PRINTED not in raw and _BACKSLASH not in raw:
            return Row(found)
    except _ERRORS:
        pass
    try:
        said = msgspec.json.decode(raw)
    except _ERRORS as error:
        raise json_error(error, raw) from None
    if not isinstance(said, dict):
        raise FormatError(f"is no object, but {raw[:20]!r}", code="J005")
    mended: list[Mended] = []
    known, extra = {}, {}
    for key, value in said.items():
        if key in kind.__struct_fields__:
            known[key] = value
        else:
            extra[key] = value
            mended += about(key, said, "not kept" if kind is Category else "kept aside")
    if kind is Annotation:
        mended += _mend_annotation(known, extra)
    if kind is Image:
        mended += _mend_name(known)
    for key in WHOLE & known.keys():
        known[key], casts = whole(key, known[key])
        mended += casts
    return Row(_converted(known, kind), extra, mended)


def _mend_name(known: dict[str, Any]) -> Iterator[Mended]:
    """
    Name an image of LVIS by the folder and file of its URL, as detectron2 does; part folders
    by "/", which Label Studio does not where it runs on Windows.
    """
    name, url = known.get("file_name"), known.get("coco_url")
    if isinstance(name, str) and "\\" in name:
        known["file_name"] = name.replace("\\", "/")
        yield "I109", f"file name {name[:80]!r} parts folders by backslashes; read as slashes"
    if "file_name" in known or not isinstance(url, str):
        return
    if path := url.partition("?")[0].split("/")[3:][-2:]:
        known["file_name"] = "/".join(path)
        yield "J005", "file_name is missing; read from coco_url, as of LVIS"


def image_id_of(raw: bytes) -> Head:
    """The head of an annotation that does not fit `Head`; raises as `record`."""
    try:
        said = msgspec.json.decode(raw)
    except _ERRORS as error:
        raise json_error(error, raw) from None
    if not isinstance(said, dict):
        raise FormatError(f"is no object, but {raw[:20]!r}", code="J005")
    image_id, _ = whole("image_id", said.get("image_id"))
    number, _ = whole("id", said.get("id", 0))
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 2**63:
        number = 0  # reading the annotation says what is wrong
    if "image_id" not in said:
        raise FormatError("missing key 'image_id'", code="A303")
    return _converted({"image_id": image_id, "id": number}, Head)


def extra_of(row: Row[Image]) -> dict[str, Any]:
    """What an image says beyond what a sample has of its own."""
    said = [(key, getattr(row.said, key)) for key in _MORE]
    return {**{k: v for k, v in said if v is not UNSET}, **row.extra}


# ── repairs ──────────────────────────────────────────────────────────────────────────────────

WHOLE = {"id", "image_id", "category_id", "iscrowd", "width", "height", "isthing"}
_BACKSLASH = b"\\\\"  # one, as JSON has it
_PRINTED = b"\"b'"  # bytes, as Python prints them, perhaps
_BYTES = re.compile(r"b'(.*)'", re.DOTALL)


def whole(key: str, value: Any) -> tuple[Any, list[Mended]]:
    """A whole number from text or a float that says exactly that."""
    if isinstance(value, bool) and key in ("iscrowd", "isthing"):
        return int(value), [("J005", f"{key} is true or false; read as 1 or 0")]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value), [("J005", f"{key} is text; read as a number")]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value), [("J005", f"{key} is a decimal number; read as a whole one")]
    return value, []


def _mend_annotation(known: dict[str, Any], extra: dict[str, Any]) -> Iterator[Mended]:
    match known.get("segmentation"):
        case [float() | int(), *_] as ring if len(ring) >= 6 and len(ring) % 2 == 0:
            known["segmentation"] = [ring]
            yield "P402", "the segmentation is a lone ring; wrapped in a list"
        case {"counts": str(counts), **rest} if found := _BYTES.fullmatch(counts):
            known["segmentation"] = {**rest, "counts": found.group(1)}
            yield "R501", "the counts are Python's b'...'; read without it"
    for key, code, sound in USELESS:
        if key in known and not sound(known[key]):
            extra[key] = known.pop(key)
            yield code, f"{key} cannot be used; kept aside"


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) in (int, float) for v in value)


USELESS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (  # what a mask does not need
    ("bbox", "A309", lambda v: v is None or _numbers(v)),
    ("area", "J005", lambda v: v is None or type(v) in (int, float)),
    ("z_order", "J005", lambda v: v is None or type(v) is int),
    ("attributes", "J005", lambda v: v is None or isinstance(v, dict)),
)

_CODES = (  # where a value of the wrong type stands, and the rule that it breaks
    ("segmentation.counts", "R501"),
    ("segmentation.size", "R502"),
    ("segmentation", "P402"),
    ("bbox", "A309"),
    ("iscrowd", "A305"),
    ("isthing", "C208"),
    ("width", "I108"),
    ("height", "I108"),
    ("id", "A302"),
)


def _converted(said: Any, kind: type[S]) -> S:
    """Check the types of one record."""
    codes = [c for c in _CODES if (c[0], kind) != ("id", Image)]
    return converted(said, kind, codes)


def twice(raw: bytes, keys: Sequence[bytes], records: int = 1) -> Iterator[Mended]:
    """
    Keys that an object holds twice, of which every parser keeps the last in silence.

    Looked for only where one of `keys`, in quotes, is there more often than records are.
    """
    if all(raw.count(key) <= records for key in keys):
        return
    found: dict[str, None] = {}

    def look(pairs: list[tuple[str, Any]]) -> None:
        names = Counter(key for key, _ in pairs)
        found.update(dict.fromkeys(n for n, times in names.items() if times > 1))

    try:
        json.loads(raw, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return
    for key in found:
        yield "J003", f"key {key[:40]!r} is there twice in one object; the last one counts"


# ── segments ─────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Bent:
    """What CVAT's COCO export has bent, counted."""

    uncrowded: int = 0
    boxes: int = 0
    parts: int = 0
    wider: int = 0


def segment(row: Row[Annotation], *, by_cvat: bool, bent: Bent) -> Segment:
    """
    An annotation as a segment; what CVAT bends is set right, and counted in `bent`.

    Raises:
        FormatError: there is no usable segmentation or crowd flag.
    """
    a = row.said
    geometry, said = a.segmentation, a.attributes
    crowd = a.iscrowd == 1
    if not crowd and a.iscrowd not in (0, None):
        raise FormatError(f"iscrowd is {a.iscrowd}", where=("iscrowd",), code="A305")
    origin: dict[str, Any] = {}
    if a.bbox is not None:
        origin["bbox"] = list(a.bbox)
    if a.area is not None:
        origin["area"] = a.area
    if row.extra:
        origin["extra"] = row.extra
    if by_cvat:
        geometry, crowd = _unbent(a, geometry, crowd, origin, bent)
        if said:  # CVAT says it of everything
            said = {k: v for k, v in said.items() if (k, v) != ("occluded", False)}
    try:
        shape = _geometry(geometry)
    except FormatError as error:
        error.where = ("segmentation", *error.where)
        raise
    return Segment(a.id, a.category_id, shape, crowd, a.z_order, said or {}, origin)


def _unbent(
    a: Annotation, geometry: Any, crowd: bool, origin: dict[str, Any], bent: Bent
) -> tuple[Any, bool]:
    said = a.attributes or {}
    if geometry == () and a.bbox is not None and len(a.bbox) == 4:
        geometry = (_box(a.bbox, said),)
        origin["shape"] = "box"
        bent.boxes += 1
    if isinstance(geometry, tuple) and geometry:
        bent.parts += len(geometry) > 1
        bent.wider += _is_wider(a.bbox, geometry)
    if crowd and not said.get("is_crowd"):
        origin["shape"] = "mask"
        bent.uncrowded += 1
        crowd = False
    return geometry, crowd


def _geometry(raw: Rings | Counts | None) -> Rings | Rle:
    """The geometry if its form is sound; what it says is checked where it becomes pixels."""
    if isinstance(raw, Counts):
        return Rle(raw.size[0], raw.size[1], raw.counts)
    if raw is None:
        raise FormatError("segmentation is missing", code="P401")
    if not raw:
        raise FormatError("segmentation is empty", code="P401")
    for index, ring in enumerate(raw):
        n = len(ring)
        if n % 2:
            said = f"ring has {n} coordinates, an odd number"
            raise FormatError(said, where=(index,), code="P403")
        if n == 4 and not index:
            said = "ring has 2 points, needs 3; pycocotools takes it for a box and stops"
            raise FormatError(said, where=(index,), code="P405")
        if n < 6 and len(raw) == 1:  # beside others, it can be dropped
            raise FormatError(f"ring has {n // 2} points, needs 3", where=(index,), code="P404")
    return raw


def _box(bbox: Sequence[float], attributes: Mapping[str, Any]) -> tuple[float, ...]:
    x, y, w, h = bbox
    x1, y1 = round(x + w, 2), round(y + h, 2)  # CVAT's two decimals, lost in the subtraction
    return box_ring(x, y, x1, y1, degrees(attributes.get("rotation", 0)))


def _is_wider(bbox: Sequence[float] | None, rings: Sequence[Sequence[float]]) -> bool:
    """Does the claimed box reach beyond all vertices?"""
    xs, ys = [x for r in rings for x in r[::2]], [y for r in rings for y in r[1::2]]
    if bbox is None or len(bbox) != 4 or not xs or not ys:
        return False
    x, y, w, h = bbox
    slack = 0.02  # CVAT's two decimals
    beyond = (min(xs) - x, min(ys) - y, x + w - max(xs), y + h - max(ys))
    return max(beyond) > slack
