"""
KITTI segmentation: `<subset>/{image_2,semantic,instance}/<path>.png`, read only.

As CVAT and Datumaro write it, with `label_colors.txt`, and as KITTI itself is, with the classes
of Cityscapes. A pixel's class is its value in `semantic`; `instance` is 256 x class + number.
Number 0 is a patch of stuff or, of KITTI's own things, a crowd. Datumaro gives it to every object
without an id, so that those of one class cannot be told apart.

Rules: the KITTI semantic development kit, readme.txt; cvat-ai/datumaro, plugins/kitti_format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from ..errors import FormatError
from ..files import Tree, own_names
from ..images import SUFFIXES
from ..names import by_stem, listing, safe_path
from .cityscapes import CLASSES
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

_COLORS = "label_colors.txt"
_MAPS = ("instance", "semantic")
_COLORED = "semantic_rgb"  # says the same as `semantic`


def detect(tree: Tree) -> bool:
    """Does the tree hold `instance` or `semantic` maps beside `image_2` or `semantic_rgb`?"""
    return bool(_bases(own_names(tree)))


def read(tree: Tree) -> Reading:
    """
    Read a folder or archive in the layout of KITTI.

    Raises:
        FormatError: there is none, or there are several.
    """
    names = own_names(tree)
    bases = sorted({base for base, _ in _bases(names)})
    if len(bases) != 1:
        raise FormatError(
            f"several KITTI folders: {listing(bases)}" if bases else "no KITTI maps",
            path=tree.label,
        )
    (base,) = bases
    by_tool = base + _COLORS in names
    classes = label_colors(tree, base + _COLORS) if by_tool else CLASSES
    maps = Collector(
        classes,
        frozenset(),
        class_of=lambda number: number >> 8,
        has_number=lambda number: number & 255 > 0,
        crowds=not by_tool,
    )
    for subset in (folder for _, folder in sorted(_bases(names))):
        there = {kind: by_stem(names, f"{subset}{kind}/", ".png") for kind in _MAPS}
        for entry in _entries(tree, names, base, subset):
            try:
                safe_path(entry.file_name)
                _take(tree, maps, entry, *(there[kind].get(entry.stem) for kind in _MAPS))
            except FormatError as error:
                maps.refuse(entry, error)
        for kind in _MAPS:
            maps.refuse_others(names, f"{subset}{kind}/")
        maps.files.update(n for n in names if n.startswith(f"{subset}{_COLORED}/"))
    said = f"no {_COLORS}: values are read as the classes of Cityscapes"
    return maps.reading("kitti", () if by_tool else (said,))


def _take(
    tree: Tree, maps: Collector, entry: Entry, instance: str | None, semantic: str | None
) -> None:
    maps.files.update(n for n in (instance, semantic) if n is not None)
    if instance is None and semantic is None:
        if entry.picture is None:
            raise FormatError("no map that is read, and no picture", code="I103")
        maps.take_empty(entry, picture_size(tree, entry.picture))
        return
    objects = None if instance is None else read_values(tree, instance)
    if semantic is not None:
        classes = read_values(tree, semantic)
    else:
        assert objects is not None
        classes = objects >> 8
    maps.take(entry, classes, objects)


def _bases(names: Sequence[str]) -> set[tuple[str, str]]:
    """(base, subset folder) of each folder with maps and what only KITTI has beside them."""
    kinds: dict[str, set[str]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        for at, part in enumerate(parts[:-1]):
            if part in ("image_2", _COLORED, *_MAPS) and name.lower().endswith(".png"):
                kinds.setdefault("/".join(parts[:at]), set()).add(part)
    return {
        (folder.rpartition("/")[0] + "/" if "/" in folder else "", folder + "/")
        for folder, found_ in kinds.items()
        if folder and found_ & set(_MAPS) and found_ & {"image_2", _COLORED}
    }


def _entries(tree: Tree, names: Sequence[str], base: str, folder: str) -> Iterator[Entry]:
    """Each image of the folder of a subset."""
    maps = tuple(f"{folder}{kind}/" for kind in (*_MAPS, _COLORED))
    pictures = Pictures(n for n in tree.names() if not n.startswith(maps))
    subset = folder[len(base) : -1]
    stems = set()
    for name in names:
        for kind in (*_MAPS, "image_2"):
            start, path = f"{folder}{kind}/", PurePosixPath(name)
            if name.startswith(start) and path.suffix.lower() in SUFFIXES:
                stems.add(path.with_suffix("").as_posix()[len(start) :])
    for stem in sorted(stems):
        entry = Entry(stem, "" if subset == "default" else subset)
        picture = pictures.find(stem, (f"{folder}image_2/",), subset)
        yield found(entry, picture, ".png")
