"""
Maps of classes and objects as images: what Pascal VOC, Cityscapes, KITTI and semantic masks share.

A map of classes, (H, W), gives each pixel the value of a class; 0 is nobody. A map of objects
tells apart what is of one class. One pair of both values is one segment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conservation import Ledger, Tally
from ..dataset import Category, Dataset, Sample, Segment
from ..errors import FormatError, UsageError
from ..files import SPARE, Tree
from ..images import SUFFIXES, Labels, png_kind, read_labels, size_of
from ..masks import Mask, Rle
from ..names import collision_key, listing, safe_path
from ..panoptic import Painted, ids_from_rgb
from ..shapes.runs import masks_of_ids
from ..validate import Finding, finding_of
from .reading import Picture, Reading
from .texts import read_lines

Values = NDArray[Any]  # (H, W) integers
Color = tuple[int, int, int]

NOBODY = 0
VOID = 255  # "ignore": neither a class nor background
NO_SUBSET = "default"  # Datumaro's name for it
_MAX_PNG = 2**29  # bytes
_MOST_EDGES = 2**24  # pixels unlike the one above, of one map
_BLOCK = 2**22  # pixels
_BACKGROUND = {"background", "_background_", "__background__", "unlabeled", "unlabelled", "void"}

# ── reading ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that a tree names: its stem, its subset, and its picture where there is one."""

    stem: str  # a safe path without extension
    subset: str = ""
    picture: str | None = None  # its name in the tree
    file_name: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Collector:
    """
    Turns maps into pictures and accounts for what they hold.

    Args:
        categories: the classes by value.
        class_of: the class that a value of the object map stands for, where it says so.
        has_number: does a value of the object map stand for one object?
        crowds: things without a number are crowds; else they are objects that nobody told apart.
    """

    categories: Mapping[int, Category]
    void: frozenset[int] = frozenset({VOID})
    class_of: Callable[[int], int] | None = None
    has_number: Callable[[int], bool] = bool
    crowds: bool = False
    pictures: list[Picture] = field(default_factory=list)
    counted: Tally = field(default_factory=Tally)
    ledger: Ledger = field(default_factory=Ledger)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    files: set[str] = field(default_factory=set)  # see Reading
    ignored: int = 0  # void pixels
    pixels: int = 0  # of all maps
    without_maps: int = 0  # images
    without_objects: int = 0  # images
    unnumbered: int = 0  # segments of things

    def take(self, entry: Entry, classes: Values, objects: Values | None) -> None:
        """
        One image.

        Raises:
            FormatError: V802, a value that is no class; V803, maps of two sizes.
        """
        if objects is not None and objects.shape != classes.shape:
            raise FormatError(
                f"class map is {classes.shape[0]}x{classes.shape[1]}, "
                f"object map is {objects.shape[0]}x{objects.shape[1]}",
                code="V803",
            )
        present = counts_of(classes)
        self.ignored += sum(n for v, n in present.items() if v in self.void)
        self.pixels += classes.size
        pixels = {v: n for v, n in present.items() if v in self.categories}
        if unknown := sorted(set(present) - set(pixels) - {NOBODY} - self.void):
            n = sum(present[v] for v in unknown)
            said = listing([str(v) for v in unknown])
            raise FormatError(f"{n} px have values that are no class: {said}", code="V802")
        named: Counter[str] = Counter()
        for value, n in pixels.items():
            named[self.categories[value].name] += n
        if objects is None:
            self.without_objects += 1
            numbers = [0] * len(pixels)
        else:
            numbers = [n for n in counts_of(objects) if n != NOBODY]
        self.counted += Tally(1, len(numbers), named)
        found = _regions(classes, objects, frozenset(pixels))
        if objects is not None:
            self._compare(entry, numbers, [key for key, _ in found])
        segments = tuple(self._segment(c, o, mask) for (c, o), mask in found)
        self._add(entry, classes.shape, segments)

    def take_empty(self, entry: Entry, size: tuple[int, int]) -> None:
        """An image without maps: nothing is in it."""
        self.counted += Tally(images=1)
        self.without_maps += 1
        self._add(entry, size, ())

    def refuse_others(self, names: Iterable[str], folder: str) -> None:
        """Note what lies in a folder of maps, is a picture, but no PNG."""
        kinds = SUFFIXES - {".png"}
        for name in names:
            if name.startswith(folder) and (kind := PurePosixPath(name).suffix.lower()) in kinds:
                said = f"maps are read from PNGs, and this is a {kind}"
                self.findings.append(finding_of(FormatError(said, code="J002"), name))

    def refuse(self, entry: Entry, error: FormatError) -> None:
        """Note that an image cannot be read."""
        self.findings.append(finding_of(error, entry.file_name or entry.stem))

    def _add(self, entry: Entry, size: tuple[int, ...], segments: tuple[Segment, ...]) -> None:
        source = {"subset": entry.subset, "name": entry.stem, **entry.source}
        sample = Sample(
            id=0,
            file_name=entry.file_name,
            height=size[0],
            width=size[1],
            segments=segments,
            source={k: v for k, v in source.items() if v},
        )
        self.pictures.append(Picture(sample, entry.picture))

    def _segment(self, value: int, number: int, mask: Mask) -> Segment:
        category = self.categories[value]
        many = number != NOBODY and category.isthing and not self.has_number(number)
        self.unnumbered += many
        return Segment(
            id=0,
            category_id=category.id,
            segmentation=Rle(mask.height, mask.width, mask.counts.decode()),
            iscrowd=many and self.crowds,
            origin={"object": number} if number else {},
        )

    def _compare(self, entry: Entry, numbers: list[int], keys: Sequence[tuple[int, int]]) -> None:
        """Book where the two maps disagree; what is read has one segment a class and object."""
        classes_of: dict[int, list[str]] = {n: [] for n in numbers}
        loose = []
        for value, number in keys:
            name = self.categories[value].name
            if number == NOBODY:
                loose.append(name)
            else:
                classes_of[number].append(name)
        if loose:
            self._mend(entry, f"pixels of {listing(loose)} belong to no object")
            reason = "pixels of a class that belong to no object become a segment"
            self.ledger.note(reason, entry.file_name, segments=len(loose))
        for number, names in classes_of.items():
            if len(names) > 1:
                self._mend(entry, f"object {number} spans {listing(names)}")
                reason = "an object that spans several classes becomes one segment a class"
                self.ledger.note(reason, entry.file_name, segments=len(names) - 1)
            elif not names:
                self._mend(entry, f"object {number} has no class")
                reason = "an object without a class is left out"
                self.ledger.note(reason, entry.file_name, segments=-1)
        if self.class_of is not None:
            for value, number in keys:
                said = self.class_of(number)
                if number != NOBODY and said != value:
                    name = self.categories[value].name
                    self._mend(entry, f"object {number} is of class {said}, its pixels are {name}")

    def _mend(self, entry: Entry, message: str) -> None:
        self.mended.append(finding_of(FormatError(message, code="V803"), entry.file_name))

    def reading(self, format_name: str, notes: Sequence[str] = ()) -> Reading:
        """All that was taken, with what else there is to say of it."""
        return Reading(
            name="",
            format=format_name,
            categories=tuple(self.categories.values()),
            pictures=tuple(self.pictures),
            counted=self.counted,
            items=self.ledger.items,
            notes=(*notes, *self._notes()),
            findings=tuple(self.findings),
            mended=tuple(self.mended),
            files=frozenset(self.files),
        )

    def _notes(self) -> list[str]:
        """What the maps cannot say."""
        notes = []
        if self.without_maps:
            notes.append(f"{self.without_maps} image(s) have no map: nothing is in them")
        if self.without_objects:
            notes.append(
                f"{self.without_objects} image(s) have no map of objects: one segment a class"
            )
        if self.unnumbered:
            what = "crowds" if self.crowds else "all objects of a class that have none in one"
            notes.append(f"{self.unnumbered} segment(s) have no number of their own: {what}")
        if self.ignored:
            share = 100 * self.ignored / self.pixels
            notes.append(
                f"{self.ignored:,} px ({share:.1f} %) are void: of no segment, and background in "
                "what is written"
            )
        return notes


def _regions(
    classes: Values, objects: Values | None, wanted: frozenset[int]
) -> list[tuple[tuple[int, int], Mask]]:
    """The mask of each pair of class and object, by object and then class."""
    edges = max(np.count_nonzero(m[1:] != m[:-1]) for m in (classes, objects) if m is not None)
    if edges > _MOST_EDGES:
        raise FormatError(f"{edges:,} px differ from those above: noise, no labels", code="V802")
    if objects is None:
        return [((v, 0), mask) for v, mask in masks_of_ids(classes).items() if v in wanted]
    high = int(classes.max()) + 1
    keys = objects.astype(np.min_scalar_type((int(objects.max()) + 1) * high))
    keys *= keys.dtype.type(high)
    keys += classes.astype(keys.dtype)
    pairs = [(divmod(key, high), mask) for key, mask in masks_of_ids(keys).items()]
    return [((value, number), mask) for (number, value), mask in pairs if value in wanted]


def read_png(tree: Tree, name: str) -> Labels:
    """
    Read a map.

    Raises:
        FormatError: see `read_labels`; I119, the file is too large.
    """
    with tree.open(name) as stream:
        body = stream.read(_MAX_PNG + 1)
    if len(body) > _MAX_PNG:
        raise FormatError(f"PNG has more than {_MAX_PNG:,} bytes", code="I119")
    try:
        return read_labels(body)
    except FormatError as error:
        error.message = f"{name}: {error.message}"
        raise


def counts_of(values: Values) -> dict[int, int]:
    """How many pixels have each value, by ascending value."""
    if values.itemsize > 2:
        there, counts = np.unique(values, return_counts=True)
        return dict(zip(there.tolist(), counts.tolist(), strict=True))
    counts = np.zeros(1 << 8 * values.itemsize, dtype=np.int64)
    for block in _blocks(values):
        counts += np.bincount(values[block].ravel(), minlength=len(counts))
    there = np.flatnonzero(counts)
    return dict(zip(there.tolist(), counts[there].tolist(), strict=True))


def _blocks(values: Values) -> Iterator[slice]:
    """Rows of a map, some four million pixels at a time."""
    rows = max(1, _BLOCK // values.shape[1])
    return (slice(y, y + rows) for y in range(0, values.shape[0], rows))


def colors_of(rgb: NDArray[np.uint8]) -> tuple[list[int], NDArray[np.uint16]]:
    """
    The colours of (H, W, 3), ascending as R + 256 G + 65536 B, and the place of each pixel's
    among them, (H, W).

    Raises:
        FormatError: V802, there are more than 65,536.
    """
    colors: NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
    for block in _blocks(rgb):
        flat = ids_from_rgb(rgb[block]).ravel()
        new = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # where the pixel before has another one
        colors = np.union1d(colors, np.append(flat[new], flat[0]))
        if len(colors) > 2**16:
            raise FormatError(f"more than {2**16:,} colours: no map of labels", code="V802")
    place = np.empty(rgb.shape[:2], dtype=np.uint16)
    for block in _blocks(rgb):
        place[block] = np.searchsorted(colors, ids_from_rgb(rgb[block]))
    return colors.tolist(), place


def read_values(tree: Tree, name: str) -> Values:
    """
    Read a map that must have one channel.

    Raises:
        FormatError: as `read_png`; J002, it holds colours.
    """
    labels = read_png(tree, name)
    if labels.mode == "RGB":
        raise FormatError(f"{name}: PNG holds colours, not one value a pixel")
    return labels.values


def has_one_channel(tree: Tree, name: str) -> bool:
    """Is this a grey or palette PNG, by its header?"""
    with tree.open(name) as stream:
        kind = png_kind(stream.read(26))
    return kind is not None and kind[1] in (0, 3)


def is_background(name: str) -> bool:
    """Does a class of this name mean that there is none?"""
    return name.strip().lower() in _BACKGROUND


def parse_color(texts: Sequence[str]) -> Color | None:
    """Three numbers from 0 to 255, or None."""
    if len(texts) != 3 or not all(t.strip().isdecimal() and len(t) < 6 for t in texts):
        return None
    r, g, b = (int(t) for t in texts)
    return (r, g, b) if max(r, g, b) < 256 else None


def label_colors(tree: Tree, name: str) -> dict[int, Category]:
    """
    Datumaro's label_colors.txt: a class a line, `r g b name`; the first is background.

    Raises:
        FormatError: it is no such list.
    """
    found = {}
    lines = [line for line in read_lines(tree, name) if not line.startswith("#")]
    for value, line in enumerate(lines):
        parts = line.split(maxsplit=3)
        color = parse_color(parts[:3])
        label = parts[3].strip() if color is not None and len(parts) == 4 else line.strip()
        found[value] = Category(value, label, color=color)
    found.pop(NOBODY, None)
    return found


class Pictures:
    """Finds pictures by their stems, in the folders where a format keeps them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem: dict[str, str] = {}
        for name in names:
            path = PurePosixPath(name)
            if path.suffix.lower() in SUFFIXES:
                self._by_stem.setdefault(path.with_suffix("").as_posix(), name)

    def find(self, stem: str, folders: Sequence[str], subset: str = "") -> str | None:
        """The picture of an image in one of the folders (`""` or with "/" at the end)."""
        base = PurePosixPath(stem).name
        spare = [f"{SPARE}/{place}" for place in (f"{subset}/{stem}", stem, base)]
        for place in (*(folder + stem for folder in folders), *spare):
            if place in self._by_stem:
                return self._by_stem[place]
        return None


def found(entry: Entry, picture: str | None, suffix: str = ".jpg") -> Entry:
    """The entry with its picture, whose extension is the image's; else this one is assumed."""
    if picture is not None:
        suffix = PurePosixPath(picture).suffix
    return replace(entry, picture=picture, file_name=entry.stem + suffix)


def picture_size(tree: Tree, name: str) -> tuple[int, int]:
    """(height, width) of a picture in the tree."""
    with tree.open(name) as stream:
        return size_of(stream)


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def check_writable(
    dataset: Dataset, most: int, target: str, reserved: Collection[str]
) -> dict[int, int]:
    """
    The value of each category id: 1, 2, ... in their order.

    Raises:
        FormatError: more classes than there are values, a file name that leads elsewhere, two
            images of one stem, or the name of a class is no line of text.
        UsageError: a split has a reserved name.
    """
    if taken := set(reserved) & set(dataset.splits):
        raise UsageError(f"{target} keeps the name {min(taken)!r} for another list than a split's")
    if len(dataset.categories) > most:
        raise FormatError(
            f"{target} holds {most} classes, the dataset has {len(dataset.categories)}",
            code="V802",
            hint="write --to coco or --to coco-panoptic",
        )
    for category in dataset.categories:
        if not category.name.isprintable() or category.name != category.name.strip():
            raise FormatError(
                f"category name {category.name!r} fits no line of text",
                hint="rename it, or write --to coco or --to coco-panoptic",
            )
    seen: set[str] = set()
    for sample in dataset:
        stem = stem_in(sample)
        if (key := collision_key(stem)) in seen:
            raise FormatError(
                f"two images have the stem {stem}: their masks would be one file",
                path=sample.file_name,
                code="I111",
            )
        seen.add(key)
    return {c.id: value for value, c in enumerate(dataset.categories, start=1)}


def stem_in(sample: Sample) -> str:
    """The name that the maps of a sample have, without extension."""
    return safe_path(sample.file_name).with_suffix("").as_posix()


def value_map(painted: Painted, value_of: Mapping[int, int], size: int = 1) -> Values:
    """The map of the value of each painted region, by its id: unsigned, of `size` bytes, (H, W)."""
    table = np.zeros(len(painted.region_of) + 1, dtype=f"u{size}")
    for id_, value in value_of.items():
        table[id_] = value
    return painted.values(table.take(painted.region_of))
