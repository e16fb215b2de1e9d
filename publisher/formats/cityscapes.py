"""
Cityscapes: `gtFine/<subset>/<path>_gtFine_{labelIds,instanceIds}.png`, read only.

As CVAT and Datumaro write it, with `label_colors.txt` and pictures in `imgsFine/leftImg8bit`,
and as Cityscapes itself is, with pictures in `leftImg8bit` and its own 33 classes. A pixel's class
is its labelId; instanceIds are 1000 x class + number, or the class alone: a patch of stuff,
or several things that nobody told apart, which is read as a crowd.

Rules: cityscapesScripts, helpers/labels.py and preparation/json2instanceImg.py;
cvat-ai/datumaro, plugins/cityscapes_format.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ..dataset import Category
from ..errors import FormatError
from ..files import Tree, own_names
from ..names import by_stem, listing, safe_path
from .labelmaps import (
    Collector,
    Entry,
    Pictures,
    found,
    label_colors,
    picture_size,
    read_values,
)
from .reading import Reading

_IDS, _INSTANCES = "_gtfine_labelids.png", "_gtfine_instanceids.png"  # in lower case
_SAME = ("color.png", "polygons.json", "labeltrainids.png", "instancetrainids.png")
_PICTURES = ("imgsFine/leftImg8bit/", "leftImg8bit/")
_PICTURE = "_leftImg8bit"
_COLORS = "label_colors.txt"
_STUFF = (  # labelIds 1 to 23
    "ego vehicle",
    "rectification border",
    "out of roi",
    "static",
    "dynamic",
    "ground",
    "road",
    "sidewalk",
    "parking",
    "rail track",
    "building",
    "wall",
    "fence",
    "guard rail",
    "bridge",
    "tunnel",
    "pole",
    "polegroup",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
)
_THINGS = (
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "caravan",
    "trailer",
    "train",
    "motorcycle",
    "bicycle",
)  # 24 to 33
CLASSES = {
    value: Category(value, name, isthing=value > len(_STUFF))
    for value, name in enumerate([*_STUFF, *_THINGS], start=1)
}


def detect(tree: Tree) -> bool:
    """Does the tree hold `gtFine/.../*_gtFine_labelIds.png`, or the same of instances?"""
    return bool(_bases(tree))


def read(tree: Tree) -> Reading:
    """
    Read a folder or archive in the layout of Cityscapes.

    Raises:
        FormatError: there is none, or there are several.
    """
    bases = _bases(tree)
    if len(bases) != 1:
        raise FormatError(
            f"several gtFine folders: {listing(bases)}" if bases else "no gtFine folder",
            path=tree.label,
        )
    (base,) = bases
    names = own_names(tree)
    by_tool = base + _COLORS in names
    classes = label_colors(tree, base + _COLORS) if by_tool else CLASSES
    maps = Collector(
        classes,
        frozenset(),
        class_of=lambda number: number // 1000 if number >= 1000 else number,
        has_number=lambda number: number >= 1000,
        crowds=not by_tool,
    )
    there = [by_stem(names, f"{base}gtFine/", ending) for ending in (_IDS, _INSTANCES)]
    for entry, stem in _entries(tree, base, names):
        try:
            _take(tree, maps, entry, *(files.get(stem) for files in there))
        except FormatError as error:
            maps.refuse(entry, error)
    same = tuple(f"_gtfine_{kind}" for kind in _SAME)
    maps.files.update(n for n in names if n.lower().endswith(same))
    return maps.reading("cityscapes", [*_notes(names, base, by_tool=by_tool)])


def _notes(names: Sequence[str], base: str, *, by_tool: bool) -> Iterator[str]:
    if not by_tool:
        yield f"no {_COLORS}: values are read as Cityscapes' own classes"
    if coarse := sum(n.startswith(f"{base}gtCoarse/") for n in names):
        yield f"coarse maps are not read: gtCoarse, {coarse} file(s)"


def _take(
    tree: Tree, maps: Collector, entry: Entry, ids: str | None, instances: str | None
) -> None:
    safe_path(entry.file_name)
    maps.files.update(n for n in (ids, instances) if n is not None)
    if ids is None and instances is None:
        assert entry.picture is not None  # or it would not be an entry
        maps.take_empty(entry, picture_size(tree, entry.picture))
        return
    objects = None if instances is None else read_values(tree, instances).astype(np.uint16)
    if ids is not None:
        classes = read_values(tree, ids)
    else:
        assert objects is not None
        classes = np.where(objects < 1000, objects, objects // 1000)
    maps.take(entry, classes, objects)


def _bases(tree: Tree) -> list[str]:
    found_ = set()
    for name in own_names(tree):
        before, folder, rest = name.rpartition("gtFine/")
        if (
            folder
            and rest.lower().endswith((_IDS, _INSTANCES))
            and (not before or before[-1] == "/")
        ):
            found_.add(before)
    return sorted(found_)


@dataclass(frozen=True, slots=True)
class _Place:
    subset: str
    stem: str


def _entries(tree: Tree, base: str, names: list[str]) -> Iterator[tuple[Entry, str]]:
    """Each image with the path of its maps below `gtFine`, up to `_gtFine`."""
    root = f"{base}gtFine/"
    folders = [base + p for p in _PICTURES]
    places: dict[_Place, None] = {}
    for name in names:
        for start, end in [(root, _IDS), (root, _INSTANCES), *((f, None) for f in folders)]:
            if name.startswith(start) and (place := _place(name[len(start) :], end)):
                places[place] = None
    pictures = Pictures(n for n in tree.names() if not n.startswith(root))
    for place in sorted(places, key=lambda p: (p.subset, p.stem)):
        suffixed, plain = place.stem + _PICTURE, place.stem
        inner = f"{place.subset}/" if place.subset else ""
        here = [f + inner for f in folders]
        picture = pictures.find(suffixed, here, place.subset)
        picture = picture or pictures.find(plain, here, place.subset)
        subset = "" if place.subset == "default" else place.subset
        yield found(Entry(plain, subset), picture, ".png"), inner + plain


def _place(rest: str, end: str | None) -> _Place | None:
    """`<subset>/<path>` of a map, or of a picture, whose ending is its own."""
    subset, slash, path = rest.partition("/")
    if not slash:
        subset, path = "", rest
    if end is None:
        end = _PICTURE + PurePosixPath(path).suffix
    stem = path[: -len(end)]
    return _Place(subset, stem) if stem and path.lower().endswith(end.lower()) else None
