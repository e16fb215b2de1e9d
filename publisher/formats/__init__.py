"""
Annotation formats. Each is one file with `detect` and `read`, and `write` where we write it;
the table below is all there is to plugging one in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..conservation import Item
from ..errors import FormatError, UsageError
from ..files import Below, Part, Tree, own_names
from ..names import listing
from . import (
    cityscapes,
    coco,
    coco_panoptic,
    cvat,
    datumaro,
    kitti,
    labelme,
    labelme_xml,
    semantic,
    two_channel,
    voc,
    yolo,
)
from .cvat import tracks as cvat_tracks
from .cvat import video as cvat_video
from .documents import top_keys
from .keeping import TRAITS, Trait, everything_but, keeps
from .reading import Picture, Reading

__all__ = ["FORMATS", "TRAITS", "Format", "Picture", "Reading", "Trait", "detect", "get"]


@dataclass(frozen=True, slots=True)
class Format:
    """
    A format by its functions. `keeps` declares what survives writing it and reading it back.

    `write` takes a dataset and a folder, writes annotations only, and gives an Item for
    each way in which what it wrote differs from the dataset in images, segments or pixels.
    A `flat` format gives each pixel to one segment; its `write` takes the overlap policy, too.
    """

    name: str
    title: str
    keeps: frozenset[Trait]
    detect: Callable[[Tree], bool] | None = None
    read: Callable[[Tree], Reading] | None = None
    write: Callable[..., tuple[Item, ...]] | None = None  # (dataset, folder[, overlap])
    flat: bool = False


FORMATS = {
    f.name: f
    for f in (
        Format(
            "cvat",
            "CVAT for images 1.1",
            everything_but("isthing", "supercategories", "category ids", "ids", "extras", "flags"),
            cvat.detect,
            cvat.read,
            cvat.write,
        ),
        Format(
            "cvat-video",
            "CVAT for video 1.1",
            everything_but("isthing", "supercategories", "category ids", "ids", "extras", "flags"),
            cvat_video.detect,
            cvat_video.read,
            cvat_tracks.write,
        ),
        Format(
            "datumaro",
            "Datumaro 1.0",
            everything_but("isthing", "category ids", "marks", "subsets", "extras", "flags"),
            datumaro.detect,
            datumaro.read,
            datumaro.write,
        ),
        Format(
            "labelme",
            "Labelme",
            keeps("instances", "overlaps", "holes", "parts", "outlines", "z-order", "attributes")
            | keeps("unused categories", "extensions", "empty images", "flags"),
            labelme.detect,
            labelme.read,
            labelme.write,
        ),
        Format(
            "coco",
            "COCO instances",
            everything_but("marks", "subsets", "flags"),
            coco.detect,
            coco.read,
            coco.write,
        ),
        Format(
            "coco-panoptic",
            "COCO panoptic",
            keeps("instances", "holes", "parts", "crowds", "isthing", "colors", "supercategories")
            | keeps("category ids", "unused categories", "splits", "extensions", "empty images"),
            coco_panoptic.detect,
            coco_panoptic.read,
            coco_panoptic.write,
            flat=True,
        ),
        Format(
            "panoptic-2ch",
            "panopticapi's two-channel PNGs",
            keeps("instances", "holes", "parts", "crowds"),
            two_channel.detect,
            two_channel.read,
        ),
        Format(
            "voc",
            "Pascal VOC segmentation, CVAT's Segmentation mask 1.1",
            keeps("instances", "holes", "parts", "unused categories", "splits", "empty images"),
            voc.detect,
            voc.read,
            voc.write,
            flat=True,
        ),
        Format(
            "labelme-xml",
            "LabelMe 3.0 (XML)",
            frozenset(),
            labelme_xml.detect,
            labelme_xml.read,
        ),
        Format("cityscapes", "Cityscapes", frozenset(), cityscapes.detect, cityscapes.read),
        Format("kitti", "KITTI segmentation", frozenset(), kitti.detect, kitti.read),
        Format(
            "semantic",
            "Semantic masks",
            keeps("holes", "parts", "unused categories", "splits", "empty images"),
            semantic.detect,
            semantic.read,
            semantic.write,
            flat=True,
        ),
        Format(
            "yolo",
            "YOLO segmentation",
            keeps("instances", "overlaps", "holes", "parts", "unused categories", "splits")
            | keeps("extensions", "empty images"),
            yolo.detect,
            yolo.read,
            yolo.write,
        ),
    )
}

READABLE = ", ".join(f"{f.name} ({f.title})" for f in FORMATS.values() if f.read)

_TELLTALES = (  # what a tree holds, and what it then is; for the message only
    ("samples.jsonl", "a working dataset, which needs no import"),
    ("labelmap.txt", "a Pascal VOC export without masks"),
    ("image_2", "a KITTI export without masks"),
)


def get(name: str) -> Format:
    """
    A format by its name.

    Raises:
        UsageError: there is none of this name.
    """
    try:
        return FORMATS[name]
    except KeyError:
        known = ", ".join(sorted(FORMATS))
        raise UsageError(f"unknown format {name!r}", hint=f"known formats: {known}") from None


def unwrapped(tree: Tree) -> Tree:
    """The tree itself, or else its only folder, where that is of a known format."""
    inner = tree
    while (folder := _only_folder(inner)) and _first(inner, FORMATS) is None:
        inner = Below(inner, folder)
    return inner if inner is tree or _first(inner, FORMATS) is not None else tree


def _only_folder(tree: Tree) -> str:
    """What all names of a tree begin with, up to the first "/"; nothing where they do not."""
    tops = {name[: name.find("/") + 1] for name in tree.names()}
    return tops.pop()[:-1] if len(tops) == 1 else ""


def read(tree: Tree, name: str | None = None) -> Reading:
    """
    Read a tree, in the format that its content tells or in the one that is named.

    Raises:
        UsageError: there is no such format.
        FormatError: it cannot be read; or J009, it holds annotations that would be left out.
    """
    found = get(name) if name else detect(tree)
    if found.read is None:
        raise UsageError(f"{found.name} is written, but not read, so far")
    reading = found.read(tree)
    for note in _left(tree, reading, named=name is not None):
        reading = reading.noted(note)
    return reading


def detect(tree: Tree) -> Format:
    """
    Tell a format by content.

    Raises:
        FormatError: it is none that is read here; the message says what it looks like.
    """
    if (name := _first(tree, FORMATS)) is not None:
        return FORMATS[name]
    raise FormatError(
        f"{_looks_like(tree)}: not a format I read", path=tree.label, hint=f"I read: {READABLE}"
    )


_BY_DOCUMENT = ["cvat", "cvat-video", "datumaro", "labelme", "labelme-xml", "coco-panoptic", "coco"]
_COCO = {"coco-panoptic", "coco"}  # the same images twice, which `validate` compares
_BY_FOLDER = ("voc", "yolo")


def _left(tree: Tree, reading: Reading, *, named: bool) -> Iterator[str]:
    """
    Refuse a tree that holds more annotations than were read, and note what else is left in it.

    Whoever names a format wants no other.
    """
    rest = Part(tree, set(own_names(tree)) - set(reading.documents))
    left: dict[str | None, list[str]] = {}
    for name in rest.names():
        if name.lower().endswith((".json", ".xml")):
            other = _first(Part(rest, [name]), _BY_DOCUMENT)
            if other == "coco" and rest.size(name) and not top_keys(rest, name)[0]:
                other = "no JSON"  # from its first character on, so nobody's annotations
            left.setdefault(other, []).append(name)
    if not named:
        folder = _first(rest, [f for f in _BY_FOLDER if f != reading.format])
        left.setdefault(folder, [])
    for other, names in left.items():
        if other == "no JSON":
            yield f"no JSON, and not read: {listing(names)}"
        elif other == reading.format or (other and not named and {other, reading.format} != _COCO):
            raise _would_be_lost(tree, FORMATS[other], names, named=named)
        elif other and not named:
            yield f"not read, as --format {other} would: {listing(names)}"
    if archives := _archives(tree):
        yield f"archives in it are not looked into: {listing(archives)}"


def _would_be_lost(tree: Tree, other: Format, names: Sequence[str], *, named: bool) -> FormatError:
    said = f"{listing(names)} would be left out: " if names else "also here: "
    choice = "" if named else ", or say by --format which of them are meant"
    return FormatError(
        said + other.title,
        path=tree.label,
        code="J009",
        hint=f"read each by its own path{choice}",
    )


def _first(tree: Tree, candidates: Iterable[str]) -> str | None:
    """The first of these formats that a tree seems to have."""
    found = (f.name for f in map(get, candidates) if f.detect is not None and f.detect(tree))
    return next(found, None)


def _archives(tree: Tree) -> list[str]:
    return [n for n in own_names(tree) if n.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))]


def _looks_like(tree: Tree) -> str:
    parts = {part for name in tree.names() for part in PurePosixPath(name).parts}
    for telltale, what in _TELLTALES:
        if telltale in parts:
            return f"this looks like {what}"
    if archives := _archives(tree):
        return f"archives are read by their own paths ({listing(archives, 3)})"
    return "no annotations found that I know"
