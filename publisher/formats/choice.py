"""
Which format a tree has, and what it holds beside that: nothing is passed over in silence.

Annotations that would be left out are an error. Files that say once more what was read, or
nothing that is known, are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from ..errors import FormatError, UsageError
from ..files import Below, Part, Tree, own_names
from ..names import listing, stem
from ..validate import finding_of
from . import coco
from .documents import listed, top_keys
from .reading import Reading, headers
from .table import FORMATS, Format, get

READABLE = ", ".join(f"{f.name} ({f.title})" for f in FORMATS.values() if f.read)

_TELLTALES = (  # what a tree holds, and what it then is; for the message only
    ("samples.jsonl", "a working dataset, which needs no import"),
    ("labelmap.txt", "a Pascal VOC export without masks"),
    ("image_2", "a KITTI export without masks"),
)


def unwrapped(tree: Tree) -> Tree:
    """The tree itself, or else its only folder, where that is of a known format."""
    inner = tree
    while (folder := _only_folder(inner)) and _first(inner, FORMATS) is None:
        inner = Below(inner, folder)
    return inner if inner is tree or _first(inner, FORMATS) is not None else tree


_TALK = {"", ".md", ".txt", ".rst", ".html", ".pdf"}  # extensions of what is for people to read


def _only_folder(tree: Tree) -> str:
    """The only folder of a tree where nothing but a README or a licence is beside it."""
    tops = {name[: name.find("/") + 1] or name for name in tree.names()}
    folders = {top for top in tops if top.endswith("/")}
    beside = {PurePosixPath(top).suffix.lower() for top in tops - folders}
    return folders.pop()[:-1] if len(folders) == 1 and beside <= _TALK else ""


def read(tree: Tree, name: str | None = None) -> Reading:
    """
    Read a tree, in the format that its content tells or in the one that is named.

    Raises:
        UsageError: there is no such format.
        FormatError: it cannot be read; or J009, it holds annotations that would be left out.
            What is left out, and nobody's loss, is said by findings of J010.
    """
    found = get(name) if name else detect(tree)
    if found.read is None:
        raise UsageError(f"{found.name} is written, but not read, so far")
    reading = found.read(tree)
    left = list(_left(tree, reading, named=name is not None))
    findings = [finding_of(FormatError(said, code="J010"), tree.label) for said, _ in left]
    return reading.without((n for _, files in left for n in files), findings)


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
_TWINS = {
    "coco-panoptic": "as --format coco-panoptic would",
    "coco": "since they are of the same images",
}
_BY_FOLDER = ("voc", "cityscapes", "kitti", "semantic", "yolo")


def _left(tree: Tree, reading: Reading, *, named: bool) -> Iterator[tuple[str, list[str]]]:
    """
    What is left out and nobody's loss: what to say of it, and the files that this is about.

    Whoever names a format wants no other.

    Raises:
        FormatError: J009, annotations would be lost.
    """
    rest = Part(tree, set(own_names(tree)) - reading.files)
    documents = [n for n in rest.names() if n.lower().endswith((".json", ".xml"))]
    kinds = {name: _kind(rest, name) for name in documents}
    twins = _twins(rest, reading, kinds)
    for other in dict.fromkeys(k for n, k in kinds.items() if k is not None and n not in twins):
        if other == reading.format or not named:
            names = [n for n, kind in kinds.items() if kind == other and n not in twins]
            raise _would_be_lost(tree, FORMATS[other], names, named=named)
    folders = (f for f in _BY_FOLDER if f != reading.format and not named)
    if (folder := _first(rest, folders)) is not None:
        raise _would_be_lost(tree, FORMATS[folder], [], named=named)
    yield from _said_of(rest, twins, kinds)
    if unknown := [n for n, kind in kinds.items() if kind is None]:
        yield f"no annotations that I know, and not read: {listing(unknown)}", unknown
    if archives := _archives(tree):
        yield f"archives are not looked into: {listing(archives)}", archives


def _kind(tree: Tree, name: str) -> str | None:
    """The format that a document of a tree has by itself."""
    kind = _first(Part(tree, [name]), _BY_DOCUMENT)
    broken = kind == "coco" and tree.size(name) and not top_keys(tree, name)[0]
    return None if broken else kind  # no JSON from its first character on: no annotations


def _twins(tree: Tree, reading: Reading, kinds: Mapping[str, str | None]) -> dict[str, list[str]]:
    """
    COCO's panoptic and other files whose images were all read from instances: their categories
    that were not.
    """
    found = [n for n, k in kinds.items() if k == "coco-panoptic" or coco.is_beside(n, k)]
    if reading.format != "coco" or not found:
        return {}
    known = {stem(h.said or h.file_name) for h in headers(reading.pictures)}
    classes = {c.name for c in reading.categories}
    said = {name: listed(tree, name) for name in found}
    return {n: sorted(names - classes) for n, (images, names) in said.items() if images <= known}


def _said_of(
    tree: Tree, twins: Mapping[str, list[str]], kinds: Mapping[str, str | None]
) -> Iterator[tuple[str, list[str]]]:
    """What to say of twins, and of the maps in folders that are called as they are."""
    for kind, why in _TWINS.items():
        if names := [n for n in twins if kinds[n] == kind]:
            only = sorted({c for n in names for c in twins[n]})
            more = f"; categories only there: {listing(only)}" if only else ""
            folders = tuple(f"{PurePosixPath(n).with_suffix('')}/" for n in names)
            maps = [n for n in tree.names() if n.startswith(folders)]
            yield f"not read, {why}: {listing(names)}{more}", [*names, *maps]


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
    archives = _archives(tree)
    if zips := [n for n in archives if n.lower().endswith(".zip")]:
        return f"archives are read by their own paths ({listing(zips, 3)})"
    if archives:
        return f"of archives, zips alone are read: unpack {listing(archives, 3)}"
    return "no annotations found that I know"
