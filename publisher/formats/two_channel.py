"""
panopticapi's two-channel maps: red is the category, green the number of the instance in it.

Read only. The format of the panoptic segmentation paper (https://arxiv.org/abs/1801.00868) as
panopticapi has it: 8-bit RGB PNGs whose blue is 0; category 0 is void, stuff has instance 0. In
panopticapi's own sample, instance 255 of a thing is its crowd, so it is one here, unless the
category has an instance 254, too. Categories and images come from a JSON that lists them, as
panopticapi's converter asks for; without one, categories are called by their numbers.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

import msgspec

from ..conservation import Tally
from ..dataset import Category, Sample, Segment
from ..errors import FormatError
from ..files import Tree, own_names, read_json
from ..names import listing, safe_path, stem
from ..validate import Finding, finding_of
from .id_maps import Patch, load, patches
from .reading import Picture, Reading

CROWD = 255
_SNIFFED = 3  # maps of a folder that are looked at to tell the format
_JSONS = 20  # more than this are annotations of another format
_LARGEST = 2**26  # bytes of a JSON that is looked at
_CHUNK = 64  # maps that are held together
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class _Category(msgspec.Struct):
    id: int
    name: str
    supercategory: str | None = ""
    isthing: int = 1
    color: tuple[int, int, int] | None = None


class _Image(msgspec.Struct):
    file_name: str
    id: int = 0
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True, slots=True)
class _Listed:
    """What the JSONs of a tree say of its maps: categories by id, images by name."""

    categories: dict[int, Category] = field(default_factory=dict)
    images: dict[str, _Image] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)  # these JSONs


def detect(tree: Tree) -> bool:
    """Are categories listed, and are there maps that have them in red and instances in green?"""
    listed = _listed(tree)
    return bool(listed.categories) and bool(_maps(tree, listed.categories))


def read(tree: Tree) -> Reading:
    """
    Read all maps of a folder or archive.

    Raises:
        FormatError: there is none.
    """
    listed = _listed(tree)
    maps = _maps(tree)
    if not maps:
        raise FormatError("no two-channel map", path=tree.label)
    reader = _Reader(tree, listed, {*maps})
    for start in range(0, len(maps), _CHUNK):
        reader.take(maps[start : start + _CHUNK])
    return reader.result()


class _Reader:
    """Takes maps apart, a few at a time."""

    def __init__(self, tree: Tree, listed: _Listed, maps: set[str]) -> None:
        self._tree = tree
        self._listed = listed
        self._maps = maps
        self._common = posixpath.commonpath([n.rpartition("/")[0] for n in maps])
        self._images = _Alike(listed.images)
        self._photos = _Alike(
            n for n in tree.names() if n not in maps and n.lower().endswith(_PICTURES)
        )
        self._found: set[str] = set()  # the images of the list that have maps
        self._categories = dict(listed.categories)
        self._unnamed: set[int] = set()
        self._pictures: list[Picture] = []
        self._findings: list[Finding] = []
        self._mended: list[Finding] = []
        self._pixels: Counter[str] = Counter()
        self._number = self._crowds = 0

    def take(self, maps: Sequence[str]) -> None:
        found = []
        for member in maps:
            image, picture = _Image(member), None
            try:
                image, picture = self._image(member)
                safe_path(image.file_name)
                size = (image.height, image.width) if image.height and image.width else None
                map_ = load(self._tree, member, image.file_name, size)
                found.append((member, image, picture, map_))
                self._mended += map_.mended
            except FormatError as error:
                self._findings.append(finding_of(error, image.file_name))
        taken = patches([m.changes for *_, m in found])
        for (member, image, picture, m), parts in zip(found, taken, strict=True):
            size = m.changes.height, m.changes.width
            try:
                if isinstance(parts, FormatError):
                    raise parts
                segments = tuple(self._segments(parts))
            except FormatError as error:
                self._findings.append(finding_of(error, image.file_name))
                segments = ()
            name = image.file_name
            source = {"name": name, "subset": self._subset(member)}
            source = {k: v for k, v in source.items() if v}
            sample = Sample(image.id, name, *size, segments, source=source)
            self._pictures.append(Picture(sample, picture))

    def result(self) -> Reading:
        for name, image in self._listed.images.items():
            if name not in self._found:
                error = FormatError("its map is missing", code="N701")
                self._findings.append(finding_of(error, image.file_name))
        return Reading(
            name="",
            format="panoptic-2ch",
            categories=tuple(self._categories[i] for i in sorted(self._categories)),
            pictures=tuple(self._pictures),
            counted=Tally(len(self._pictures), self._number, self._pixels),
            notes=tuple(self._notes()),
            findings=tuple(self._findings),
            mended=tuple(self._mended),
            files=frozenset(self._maps | self._listed.files),
        )

    def _image(self, member: str) -> tuple[_Image, str | None]:
        """
        The image of a map, as a JSON has it or as its picture is called, and its picture.

        Raises:
            FormatError: I103, it could be any of several; N713, another map is of it, too.
        """
        said = self._images.find(member)
        picture = self._photos.find(said or member)
        if said is not None:
            if said in self._found:
                raise FormatError(f"{said} has a map already", where=(member,), code="N713")
            self._found.add(said)
            return self._listed.images[said], picture
        return _Image(PurePosixPath(picture or f"{stem(member)}.jpg").name), picture

    def _subset(self, member: str) -> str:
        """Where maps are in several folders: the one of this map, from where they part."""
        return member.rpartition("/")[0][len(self._common) :].lstrip("/")

    def _segments(self, parts: Sequence[Patch]) -> Iterator[Segment]:
        ids = {p.id for p in parts}
        for patch in parts:
            number, instance = patch.id & 0xFF, patch.id >> 8
            if instance > 0xFF:
                raise FormatError("map has blue in it, so it is no two-channel map")
            if number == 0:
                continue  # void, whatever the instance
            category = self._category(number, patch)
            others = number | CROWD - 1 << 8
            crowd = instance == CROWD and category.isthing and others not in ids
            self._number += 1
            self._crowds += crowd
            self._pixels[category.name] += patch.area
            yield Segment(
                id=self._number,
                category_id=number,
                segmentation=patch.rle,
                iscrowd=crowd,
                origin={"instance": instance},
            )

    def _category(self, number: int, patch: Patch) -> Category:
        if number not in self._categories:
            if self._listed.categories:
                said = f"no category has id {number}, which {patch.area} px have"
                raise FormatError(said, code="A304")
            self._unnamed.add(number)
            self._categories[number] = Category(number, f"category {number}")
        return self._categories[number]

    def _notes(self) -> Iterator[str]:
        if self._unnamed:
            names = listing([str(n) for n in sorted(self._unnamed)])
            yield f"no JSON lists the categories, so they are called by their numbers: {names}"
        if self._crowds:
            yield f"{self._crowds} segment(s) with instance {CROWD} were taken as crowds"


class _Alike:
    """Finds, among paths, the one that is most like another; their last stems are the same."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_base: dict[str, list[str]] = {}
        for name in names:
            self._by_base.setdefault(PurePosixPath(name).stem, []).append(name)

    def find(self, name: str) -> str | None:
        """
        None where there is none.

        Raises:
            FormatError: I103, several are as much like it.
        """
        others = self._by_base.get(PurePosixPath(name).stem, [])
        ranked = sorted(others, key=lambda other: _likeness(name, other), reverse=True)
        best = [o for o in ranked if _likeness(name, o) == _likeness(name, ranked[0])]
        if len(best) > 1:
            raise FormatError(f"{listing(best)} could be its image", where=(name,), code="I103")
        return best[0] if best else None


def _likeness(name: str, other: str) -> tuple[bool, int, int, bool]:
    """Equal file names, equal folders from the end on, from the start on; and a photograph."""
    here, there = stem(name).split("/"), stem(other).split("/")
    ends, starts = (_in_common(*p) for p in ((here[::-1], there[::-1]), (here, there)))
    same = PurePosixPath(name).name == PurePosixPath(other).name
    return same and not name.lower().endswith(".png"), ends, starts, not _is_png(other)


def _in_common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many are equal before the first that are not."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _is_png(name: str) -> bool:
    return name.lower().endswith(".png")


def _listed(tree: Tree) -> _Listed:
    """Categories and images from JSONs that list them, and annotate nothing."""
    listed = _Listed()
    names = [n for n in own_names(tree) if n.lower().endswith(".json")]
    for name in names if len(names) <= _JSONS else []:
        if tree.size(name) > _LARGEST:
            continue
        try:
            with tree.open(name) as stream:
                document = read_json(stream, tree.size(name))
        except FormatError:
            continue
        categories, images = _lists(document)
        if categories or images:
            listed.files.add(name)
        for c in categories:
            supercategory = c.supercategory or ""
            category = Category(c.id, c.name, supercategory, c.isthing != 0, c.color)
            listed.categories.setdefault(c.id, category)
        listed.images.update({i.file_name: i for i in images})
    return listed


def _lists(document: Any) -> tuple[list[_Category], list[_Image]]:
    """A bare list of categories, as panopticapi has it, or images and categories."""
    try:
        if isinstance(document, list):
            return msgspec.convert(document, list[_Category]), []
        if isinstance(document, dict) and not document.get("annotations"):
            categories = msgspec.convert(document.get("categories", []), list[_Category])
            return categories, msgspec.convert(document.get("images", []), list[_Image])
    except msgspec.ValidationError:
        pass  # a JSON of something else
    return [], []


def _maps(tree: Tree, categories: Mapping[int, Category] | None = None) -> list[str]:
    """
    The PNGs in folders whose first ones can be two-channel maps.

    Args:
        categories: where given, red must be one of them or 0, and green must be used, too:
            only then can it be no map of anything else.
    """
    folders: dict[str, list[str]] = {}
    for name in own_names(tree):
        if _is_png(name):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    return [
        name
        for names in folders.values()
        if _are_maps(_sniffed(tree, names[:_SNIFFED]), categories)
        for name in names
    ]


def _sniffed(tree: Tree, names: Sequence[str]) -> list[int] | None:
    """All ids of some maps; None where one is none."""
    ids: list[int] = []
    try:
        for parts in patches([load(tree, name, name).changes for name in names]):
            if isinstance(parts, FormatError):
                return None
            ids += [p.id for p in parts]
    except FormatError:
        return None
    return ids


def _are_maps(ids: Sequence[int] | None, categories: Mapping[int, Category] | None) -> bool:
    if not ids or max(ids) > 0xFFFF:
        return False
    if categories is None:
        return True
    return max(ids) > 0xFF and {i & 0xFF for i in ids} <= {0, *categories}
