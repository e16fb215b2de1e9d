"""
Pascal VOC segmentation: `SegmentationClass/`, `SegmentationObject/`, `ImageSets/Segmentation/`.

Read: the classic palette PNGs, whose indices count (255 is void); and what CVAT ("Segmentation
mask 1.1", "PASCAL VOC 1.1") and Datumaro write, colours that stand in `labelmap.txt`. Classes
come from labelmap.txt, from labelme2voc's class_names.txt, or are VOC's own twenty. Without
object PNGs, a class is one segment. Boxes in `Annotations/` are no segments; they are kept with
their sample's source.

Written: palette PNGs with VOC's colours, since loaders take the indices and others decode by
these very colours; labelmap.txt lists the classes with them. Uncovered pixels are background,
crowds are void, no border is drawn. An image without a segment has its masks, too.

Rules: the VOC2012 development kit, section 7; cvat-ai/datumaro, plugins/voc_format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse
from numpy.typing import NDArray

from ..conservation import Item, Ledger, Tally
from ..dataset import Category, Dataset
from ..errors import FormatError
from ..files import Tree, own_names
from ..images import Labels, write_indexed
from ..names import by_stem, listing, safe_path
from ..panoptic import Overlap, Painted, paint
from ..validate import Finding, finding_of
from .labelmaps import (
    NO_SUBSET,
    NOBODY,
    VOID,
    Collector,
    Color,
    Entry,
    Pictures,
    Values,
    check_writable,
    colors_of,
    counts_of,
    found,
    is_background,
    parse_color,
    picture_size,
    read_png,
    stem_in,
    value_map,
)
from .painting import book, book_crowds, painted_samples
from .reading import Reading, set_aside
from .texts import read_classes, read_lines

CLASSES, OBJECTS, LISTS = "SegmentationClass/", "SegmentationObject/", "ImageSets/Segmentation/"
MOST = 254  # classes of a dataset, and objects of an image
_MAX_XML = 2**22  # bytes of one annotation file
_TWENTY = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def colormap() -> NDArray[np.uint8]:
    """VOC's colours, (256, 3): bits 0, 3, 6 of the index are the highest of red, and so on."""
    index = np.arange(256)[:, None]
    channel = np.arange(3)
    color = np.zeros((256, 3), dtype=np.int64)
    for step in range(8):
        color |= (index >> (3 * step + channel) & 1) << (7 - step)
    return color.astype(np.uint8)


PALETTE = colormap()

# ── reading ──────────────────────────────────────────────────────────────────────────────────


def detect(tree: Tree) -> bool:
    """Does the tree hold a folder `SegmentationClass` with PNGs?"""
    return bool(_bases(tree))


def read(tree: Tree) -> Reading:
    """
    Read a folder or archive of VOC masks.

    Raises:
        FormatError: there are none, there are several, or their lists cannot be read.
    """
    bases = _bases(tree) or [""] * ("labelmap.txt" in tree.names())  # of no image at all
    if len(bases) != 1:
        raise FormatError(
            f"several VOC folders: {listing(bases)}" if bases else "no SegmentationClass folder",
            path=tree.label,
            hint="name one of them" if bases else None,
        )
    return _Reader(tree, bases[0]).read()


def _bases(tree: Tree) -> list[str]:
    """Where SegmentationClass folders stand: "" or with "/" at the end."""
    found_ = set()
    for name in own_names(tree):
        before, folder, _ = name.rpartition(CLASSES)
        if folder and name.lower().endswith(".png") and (not before or before.endswith("/")):
            found_.add(before)
    return sorted(found_)


class _Reader:
    """Reads the maps of one VOC folder."""

    def __init__(self, tree: Tree, base: str) -> None:
        self.tree = tree
        self.base = base
        self.names = frozenset(n for n in own_names(tree) if n.startswith(base))
        self.pictures = Pictures(
            n for n in tree.names() if not n.startswith((base + CLASSES, base + OBJECTS))
        )
        self.class_maps = self._by_stem(CLASSES)
        self.object_maps = self._by_stem(OBJECTS)
        self.annotations = self._by_stem("Annotations/", ".xml")
        self.notes: list[str] = []
        self.columns: dict[str, list[str]] = {"parts": [], "actions": []}  # who has some
        self.labels = self._labels()
        self.maps = Collector({c.id: c for c in self.labels})
        self.strange: list[str] = []  # maps with another palette
        self.colored = False
        self.boxes = 0

    def read(self) -> Reading:
        entries = self._entries()
        for entry in entries:
            try:
                self._take(entry)
            except FormatError as error:
                self.maps.refuse(entry, error)
        for folder in (CLASSES, OBJECTS):
            self.maps.refuse_others(sorted(self.names), self.base + folder)
        if self.strange:
            said = f"{len(self.strange)} class PNG(s) have another palette than VOC's"
            first = self.strange[0]
            self.maps.mended.append(finding_of(FormatError(said, code="V801"), first))
        self._note_the_lost(entries)
        return self.maps.reading("voc", self.notes)

    # ── classes ──────────────────────────────────────────────────────────────────────────

    def _labels(self) -> tuple[Category, ...]:
        """The classes; their ids are their values."""
        if self.base + "labelmap.txt" in self.names:
            return self._labelmap()
        for name in ("class_names.txt", "classes.txt", "labels.txt"):
            if self.base + name in self.names:
                lines = read_classes(self.tree, self.base + name)
                lines = [line for line in lines if line != "__ignore__"]
                first = 0 if lines and is_background(lines[0]) else 1
                return tuple(Category(v, x) for v, x in enumerate(lines, first) if v)
        self.notes.append("no list of classes: the indices are read as VOC's twenty classes")
        return tuple(Category(v, name) for v, name in enumerate(_TWENTY, start=1))

    def _labelmap(self) -> tuple[Category, ...]:
        """`name:r,g,b:parts:actions` a line; the black one, or `background`, has index 0."""
        labels: list[tuple[str, Color | None]] = []
        for line in read_lines(self.tree, self.base + "labelmap.txt"):
            parts = line.rsplit(":", 3)
            color = parse_color(parts[1].split(",")) if len(parts) == 4 else None
            if color is None and line.startswith("#"):
                continue
            labels.append((parts[0], color))
            for column, text in zip(self.columns, parts[2:], strict=False):
                self.columns[column] += [parts[0]] * bool(text.strip())
        none = next((x for x in labels if x[1] == (0, 0, 0)), None)
        none = none or next((x for x in labels if is_background(x[0])), None)
        if none is not None:
            labels.remove(none)
        categories = tuple(
            Category(v, name, color=color or _color(v))
            for v, (name, color) in enumerate(labels, start=1)
        )
        colored: dict[Color | None, list[str]] = {}
        for c in categories:
            colored.setdefault(c.color, []).append(c.name)
        for color, same in colored.items():
            if len(same) > 1:
                self.notes.append(
                    f"{listing(same)} have one colour, {color}: colours are read as {same[0]}"
                )
        return categories

    # ── images ───────────────────────────────────────────────────────────────────────────

    def _entries(self) -> list[Entry]:
        """Every image that a list names, and every map that none does."""
        lists = self._lists(LISTS)
        both = lists.pop("trainval", [])
        subsets: dict[str, list[str]] = {}
        for subset, stems in lists.items():
            for stem in stems:
                subsets.setdefault(stem, []).append("" if subset == NO_SUBSET else subset)
        for stem in both:
            subsets.setdefault(stem, [""])
        unlisted = [stem for stem in self.class_maps if stem not in subsets]
        if unlisted and (lists or both):
            self.notes.append(f"{len(unlisted)} mask(s) are in no list: {listing(unlisted)}")
        return [
            *(self._entry(stem, found_) for stem, found_ in subsets.items()),
            *(self._entry(stem, [""]) for stem in unlisted),
        ]

    def _lists(self, folder: str) -> dict[str, list[str]]:
        lists = {}
        for subset, name in self._by_stem(folder, ".txt").items():
            lines = read_lines(self.tree, name)
            lists[subset] = [x if x in self.class_maps else x.strip() for x in lines]
        return lists

    def _entry(self, stem: str, subsets: Sequence[str]) -> Entry:
        picture = self.pictures.find(stem, (f"{self.base}JPEGImages/",), subsets[0])
        if len(subsets) == 1:
            return found(Entry(stem, subsets[0]), picture)
        reason = f"{listing(subsets)} list one image, {stem}: the export has one file for all"
        reason += ", which is in none of them here"
        self.maps.ledger.note(reason, stem, images=1 - len(subsets))
        self.maps.counted += Tally(images=len(subsets) - 1)
        source = {"image_shared_with": picture or stem}
        return found(Entry(stem, source=source), picture)

    def _by_stem(self, folder: str, ending: str = ".png") -> dict[str, str]:
        return by_stem(self.names, self.base + folder, ending)

    def _take(self, entry: Entry) -> None:
        safe_path(entry.file_name)
        size, boxes = self._annotation(entry.stem)
        self.boxes += len(boxes)
        entry = replace(entry, source={**entry.source, "not_segments": boxes})
        name, other = (maps.get(entry.stem) for maps in (self.class_maps, self.object_maps))
        self.maps.files.update(n for n in (name, other) if n is not None)
        if name is None:
            if entry.picture is not None:
                size = picture_size(self.tree, entry.picture)
            if size is None:
                raise FormatError("no mask, no picture: nobody knows its size", code="I103")
            self.maps.take_empty(entry, size)
            return
        classes = self._classes(read_png(self.tree, name), entry)
        objects = None if other is None else _objects(read_png(self.tree, other))
        self.maps.take(entry, classes, objects)

    def _classes(self, png: Labels, entry: Entry) -> Values:
        if png.mode == "RGB":
            self.colored = self.base + "labelmap.txt" in self.names  # as tools write it
            return self._by_color(png.values)
        if not _is_usual(png, self.labels):
            self.strange.append(entry.file_name)
        return png.values

    def _by_color(self, rgb: NDArray[np.uint8]) -> Values:
        """The index of each colour; void where labelmap.txt gives VOC's void to nobody else."""
        known = {_packed(_color(VOID)): VOID}
        known |= {_packed(c.color or _color(c.id)): c.id for c in reversed(self.labels)}
        known[0] = NOBODY
        colors, place = colors_of(rgb)
        if strange := [c for c in colors if c not in known]:
            n = int(np.isin(place, [i for i, c in enumerate(colors) if c not in known]).sum())
            said = listing([str((c & 255, c >> 8 & 255, c >> 16)) for c in strange])
            raise FormatError(f"{n} px have a colour of no class: {said}", code="V802")
        return np.array([known[c] for c in colors], dtype=np.uint16)[place]

    # ── what is said beside the maps ─────────────────────────────────────────────────────

    def _annotation(self, stem: str) -> tuple[tuple[int, int] | None, list[dict[str, Any]]]:
        """The size and the boxes that an XML gives an image, where there is one."""
        name = self.annotations.get(stem)
        if name is None:
            return None, []
        self.maps.files.add(name)
        with self.tree.open(name) as stream:
            root = _xml(stream.read(_MAX_XML + 1), name)
        size = tuple(_number(root.findtext(f"size/{k}")) for k in ("height", "width"))
        boxes = [_box(node) for node in root.iter("object")]
        ok = all(n is not None and 0 < n < 2**31 for n in size)
        return (int(size[0] or 0), int(size[1] or 0)) if ok else None, boxes

    def _note_the_lost(self, entries: Sequence[Entry]) -> None:
        self.maps.mended += set_aside({"box": self.boxes}, self.tree.label)
        for column, names in self.columns.items():
            if names:
                said = f"{column} of {listing(names)} in labelmap.txt; not kept"
                self.maps.mended.append(Finding("J007", "info", said, self.tree.label))
        if self.colored:
            self.notes.append(
                "colours are painted by z-order: what others hide, tags, points and attributes "
                "are not in this export; 'CVAT for images 1.1' has them"
            )
        listed = {entry.stem for entry in entries}
        if self.colored and (again := sorted(filter(partial(_is_renamed, listed), listed))):
            self.notes.append(
                f"CVAT renames files of one stem; maybe renamed: {listing(again)} "
                "(export task by task to keep names)"
            )
        main = {s for stems in self._main().values() for s in stems} - listed
        if main:
            self.maps.files.update(self.annotations[s] for s in main if s in self.annotations)
            self.notes.append(
                f"{len(main)} image(s) are only in ImageSets/Main, without masks, and were left "
                f"out: {listing(sorted(main))}"
            )
        if self.colored and main:
            self.notes.append(
                "CVAT's PASCAL VOC 1.1 has masks of brush shapes only, polygons are dropped; "
                "export 'Segmentation mask 1.1', or better 'CVAT for images 1.1'"
            )

    def _main(self) -> dict[str, list[str]]:
        """The lists of all images; ImageSets/Main has also one a class, with a flag a line."""
        subsets = self._by_stem(LISTS, ".txt")
        return {k: v for k, v in self._lists("ImageSets/Main/").items() if k in subsets}


def _is_renamed(stems: Set[str], stem: str) -> bool:
    """Is it like sheep_1 beside sheep?"""
    base, _, number = stem.rpartition("_")
    return number.isdecimal() and not number.startswith("0") and base in stems


def _color(index: int) -> Color:
    r, g, b = PALETTE[index % 256].tolist()
    return r, g, b


def _packed(color: Color) -> int:
    return color[0] | color[1] << 8 | color[2] << 16


_INDEX_OF = {_packed(_color(i)): i for i in range(256)}


def _objects(png: Labels) -> Values:
    """Numbers of objects, NOBODY where there is none; colours by their place in VOC's map."""
    if png.mode != "RGB":
        return np.where(png.values == VOID, 0, png.values)
    colors, place = colors_of(png.values)
    numbers = [_INDEX_OF.get(c, 256 + c) for c in colors]
    table = np.array([NOBODY if n == VOID else n for n in numbers])
    objects: Values = table.astype(np.min_scalar_type(int(table.max())))[place]
    return objects


def _is_usual(png: Labels, labels: Sequence[Category]) -> bool:
    """Has each index in use VOC's colour, or that of its class?"""
    if png.palette is None:
        return False
    own = {c.id: c.color for c in labels}
    palette = [(int(r), int(g), int(b)) for r, g, b in png.palette]
    return all(
        v < len(palette) and palette[v] in (_color(v), own.get(v)) for v in counts_of(png.values)
    )


def _xml(body: bytes, name: str) -> Element:
    if len(body) > _MAX_XML:
        raise FormatError(f"{name}: more than {_MAX_XML:,} bytes of XML", code="J001")
    try:
        root = parse(BytesIO(body), forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise FormatError(f"{name}: not valid XML: {error}", code="J001") from error
    assert root is not None  # what parses has one
    return root


def _box(node: Element) -> dict[str, Any]:
    """A box of Annotations/, as it is: it has no pixels and so is no segment."""
    said: dict[str, Any] = {"kind": "box", "label": (node.findtext("name") or "").strip()}
    for key in ("xmin", "ymin", "xmax", "ymax"):
        said[key] = (node.findtext(f"bndbox/{key}") or "").strip()
    for key in ("truncated", "occluded", "difficult", "pose"):
        if (text := node.findtext(key)) is not None:
            said[key] = text.strip()
    pairs = [(a.findtext("name") or "", a.findtext("value") or "") for a in node.iter("attribute")]
    return {**said, "attributes": dict(pairs)} if pairs else said


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdecimal() and len(text) < 12 else None


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def write(dataset: Dataset, folder: Path, overlap: Overlap | None = None) -> tuple[Item, ...]:
    """
    Write class and object PNGs, a list of images a split, and labelmap.txt.

    The items say what segments lose to others above them, and that crowds become void.

    Raises:
        FormatError: V804, an image has more than 254 objects; see `check_writable`. Nothing is
            written then.
        OverlapError: segments overlap and nothing says who wins.
    """
    values = check_writable(dataset, MOST, "Pascal VOC", (NO_SUBSET, "trainval"))
    _check_objects(dataset, overlap)
    categories = dataset.category_of
    ledger = Ledger()
    lists: dict[str, list[str]] = {}
    for sample, painted in painted_samples(dataset, overlap):
        stem = stem_in(sample)
        lists.setdefault(sample.split or NO_SUBSET, []).append(stem)
        for place, chosen in ((CLASSES, _values(painted, values)), (OBJECTS, _numbers(painted))):
            write_indexed(folder / f"{place}{stem}.png", value_map(painted, chosen), PALETTE)
        book(ledger, sample, painted, categories)
        book_crowds(ledger, sample, painted, categories)
    _write_lists(folder, lists)
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    for category, value in zip(dataset.categories, values.values(), strict=True):
        lines.append(f"{category.name}:{','.join(map(str, _color(value)))}::")
    (folder / "labelmap.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return ledger.items


def _check_objects(dataset: Dataset, overlap: Overlap | None) -> None:
    """Refuse images with more objects than 8 bits hold, before anything is written."""
    for sample in dataset:
        if len(sample.segments) <= MOST:
            continue
        painted = paint(sample, dataset.category_of, overlap)
        n = sum(not r.iscrowd for r in painted.regions)
        if n > MOST:
            raise FormatError(
                f"{n} objects; Pascal VOC holds {MOST} an image",
                path=sample.file_name,
                code="V804",
                hint="write --to coco-panoptic, or --to coco",
            )


def _values(painted: Painted, values: Mapping[int, int]) -> dict[int, int]:
    return {r.id: VOID if r.iscrowd else values[r.category_id] for r in painted.regions}


def _numbers(painted: Painted) -> dict[int, int]:
    """1, 2, ... in the order of the segments."""
    objects = [r.id for r in painted.regions if not r.iscrowd]
    crowds = {r.id: VOID for r in painted.regions if r.iscrowd}
    return {**crowds, **{id_: n for n, id_ in enumerate(objects, start=1)}}


def _write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    if {"train", "val"} <= lists.keys():
        lists = {**lists, "trainval": sorted([*lists["train"], *lists["val"]])}
    for subset, stems in lists.items():
        path = folder / LISTS / f"{safe_path(subset)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{stem}\n" for stem in stems), "utf-8")
