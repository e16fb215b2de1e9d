"""
Where a YOLO dataset keeps its classes, its images and their labels.

Layouts: Ultralytics (`data.yaml`, `images/<split>`, `labels/<split>`), as CVAT exports it
(`train.txt` lists images), as Roboflow does (`train/images`, `train/labels`), Label Studio's
(`classes.txt`, `images`, `labels`), and Darknet's (`obj.data`, `obj.names`, `train.txt`, labels
beside images). The label of an image is found as Ultralytics finds it: the last `images` of its
path becomes `labels`, its extension `.txt`; pictures that differ by extension share one.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from ..card import is_plain_yaml
from ..errors import FormatError, at
from ..files import SPARE, Tree, own_names
from ..images import SUFFIXES
from ..names import by_stem, listing, one_line, safe_path
from .texts import read_classes

SIZES = "images.csv"  # ours: file_name,width,height; a label says neither size nor extension
NO_SPLIT = "unsplit"
CLASSES = "classes.txt"  # the names of classes, a line each: Label Studio's and LabelImg's
_MOST_YAMLS = 8  # that are looked at, those nearest to the root
_MAX_YAML = 2**18  # bytes; the 1,203 classes of LVIS take 25 thousand
_MAX_LIST = 2**28  # bytes of a list of images
NOT_SPLITS = {"path", "names", "nc", "download", "kpt_shape", "flip_idx", "channels"}


@dataclass(frozen=True, slots=True)
class Config:
    """What `data.yaml` or `obj.data` says."""

    folder: str  # that holds it, "" or ending in a slash
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]  # folders of images, or lists of them
    keypoints: tuple[int, int] | None = None  # points and their numbers, where lines are poses
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One image, its label file and its picture, as far as they are there."""

    split: str
    name: str  # without an extension where none is known
    label: str | None
    picture: str | None
    size: tuple[int, int] | None = None  # (height, width) by images.csv


def config(tree: Tree) -> Config | None:
    """
    The description of a YOLO dataset nearest to the root, or None where there is none.

    Raises:
        FormatError: it is one, but names no classes that can be used; J009, there are several.
    """
    names = sorted(own_names(tree), key=lambda n: (n.count("/"), n))
    described = {}
    for name in [n for n in names if n.lower().endswith((".yaml", ".yml"))][:_MOST_YAMLS]:
        said = _yaml(tree, name)
        if isinstance(said, dict) and "names" in said:
            with at(name):
                described[name] = _of_yaml(said, _folder(name))
    if described:
        return _only(tree, described)
    for name in [n for n in names if PurePosixPath(n).name == "obj.data"][:1]:
        return _of_darknet(tree, name, names)
    if CLASSES in names:
        return _of_label_studio(tree, names)
    return None


def _only(tree: Tree, described: Mapping[str, Config]) -> Config:
    """The first of the descriptions, where the others are of the same classes and folder."""
    name, first = next(iter(described.items()))
    same = first.folder, first.classes
    if others := [n for n, c in described.items() if (c.folder, c.classes) != same]:
        raise FormatError(
            f"several YOLO datasets: {listing([name, *others])}",
            path=tree.label,
            code="J009",
            hint="read each by its own folder",
        )
    return first


def entries(tree: Tree, config: Config) -> tuple[list[Entry], list[str]]:
    """
    Every image that the description leads to, then labels that it does not mention; and what
    is to be said of the description.

    Raises:
        FormatError: it leads to none, or an image of images.csv has no label file.
    """
    files = _Files(tree, config)
    places = [(split, place) for split, found in config.splits.items() for place in found]
    found: list[Entry] = []
    for split, place in sorted(places, key=lambda p: -len(p[1])):  # images/val before images
        listed = place.lower().endswith(".txt")
        found += (files.listed if listed else files.within)(split, place)
    found += files.rest()
    files.check(places)
    return found, [*config.notes, *files.notes()]


class _Files:
    """The files of a dataset, and which of them an entry has taken."""

    def __init__(self, tree: Tree, config: Config) -> None:
        self._tree = tree
        self._folder = config.folder
        self._names = set(tree.names())
        self._sizes = _sizes(tree, config.folder)
        texts = by_stem(self._names, "", ".txt")
        self._texts = {f"{stem}.txt": name for stem, name in texts.items()}
        self._pictures: dict[str, list[str]] = {}  # by path without extension
        self._folders: set[str] = set()
        for n in sorted(self._names):
            path = PurePosixPath(n)
            self._folders.update(f"{p}/".removeprefix("./") for p in path.parents)
            if path.suffix.lower() in SUFFIXES:
                self._pictures.setdefault(str(path.with_suffix("")), []).append(n)
        self._missing: list[str] = []  # places of the description that are not there
        self._splits_of: dict[str, list[str]] = {}  # of each folder of images
        self._taken: set[tuple[str, str, str | None]] = set()
        self._labels: set[str] = set()
        self._sized: set[str] = set()  # the images of images.csv that have a label file

    def within(self, split: str, folder: str) -> Iterator[Entry]:
        """The images of a folder, by their pictures and by their labels."""
        images = self._place(f"{folder.rstrip('/')}/")
        if images is None:
            self._missing.append(folder)
            return
        self._splits_of.setdefault(images, []).append(split)
        labels = _labels_of(images)
        found = {n[len(images) :] for n in self._pictures if n.startswith(images)}
        if images:  # else any text would be a label
            found |= {n[len(labels) : -4] for n in self._texts if _is_in(n, labels)}
        for name in sorted(found):
            label = f"{labels}{name}.txt" if images else _label_of(name)
            if label not in self._labels:
                inner = name if images else _inside(name, split)
                yield from self._entry(split, inner, label, f"{images}{name}")

    def listed(self, split: str, file: str) -> Iterator[Entry]:
        """The images of a list."""
        found = self._file(file)
        if found is None:
            self._missing.append(file)
            return
        with self._tree.open(found) as stream:
            body = stream.read(_MAX_LIST + 1)
        if len(body) > _MAX_LIST:
            raise FormatError(f"more than {_MAX_LIST:,} bytes", path=found)
        beside = _folder(found)
        for line in filter(None, map(str.strip, body.decode("utf-8", "replace").splitlines())):
            path = _relative(line)
            if not path:
                continue
            image = self._image(str(PurePosixPath(path).with_suffix("")), beside)
            label = _label_of(image)
            own = beside if image.startswith(beside) else self._folder
            name = _inside(image[len(own) :], split, PurePosixPath(file).stem)
            yield from self._entry(split, name, label, image, PurePosixPath(path).suffix)

    def rest(self) -> Iterator[Entry]:
        """Labels in folders called `labels` that no entry has taken."""
        for n in sorted(self._texts.keys() - self._labels):
            parts = PurePosixPath(n).parts
            if "labels" not in parts[:-1] or n.startswith(SPARE):
                continue
            last = len(parts) - 2 - parts[-2::-1].index("labels")
            inner = parts[last + 1 :]
            split = inner[0] if len(inner) > 1 else (parts[last - 1] if last else "")
            name = "/".join(inner[1:] if len(inner) > 1 else inner)[:-4]
            image = "/".join((*parts[:last], "images", *inner))[:-4]
            yield from self._entry(split, name, n, image)

    def notes(self) -> Iterator[str]:
        """What of the description is not there, or is there twice."""
        if self._missing:
            yield f"not there, though the description names them: {listing(self._missing)}"
        for folder, splits in self._splits_of.items():
            if len(set(splits)) > 1:
                yield f"{folder} is named by {listing(splits)}: its images are of {splits[0]} alone"

    def check(self, places: Sequence[tuple[str, str]]) -> None:
        """Refuse a description that leads to nothing, or images.csv where labels are missing."""
        if places and not self._taken:
            wanted = listing([place for _, place in places])
            raise FormatError(f"no image and no label in {wanted}", path=self._tree.label)
        if lost := sorted(self._sizes.keys() - self._sized):
            raise FormatError(
                f"{len(lost)} image(s) of {SIZES} have no label file: {listing(lost)}",
                path=self._tree.label,
                hint=f"an image without an object has an empty one; or take it out of {SIZES}",
            )

    def _entry(
        self, split: str, name: str, label: str, image: str, suffix: str = ""
    ) -> Iterator[Entry]:
        """The image, or images of one stem, for a label; `suffix` is the one that is meant."""
        row = self._sizes.get(name)
        pictures = self._pictures.get(image) or self._spare(split, name)
        if not name or (row is None and not pictures and PurePosixPath(label).name == CLASSES):
            return  # LabelImg's list of classes among its labels
        safe_path(name)
        self._labels.add(label)
        text = self._texts.get(label)
        if text is not None:
            self._sized.add(name)
        own = [p for p in pictures if PurePosixPath(p).suffix == suffix]
        whose: Sequence[str | None] = own or pictures or [None]
        for picture in whose:
            if (split, label, picture) in self._taken:
                continue
            self._taken.add((split, label, picture))
            whole = name + (PurePosixPath(picture).suffix if picture else suffix)
            said, size = (whole, None) if row is None else row
            yield Entry("" if split == NO_SPLIT else split, said, text, picture, size)

    def _spare(self, split: str, name: str) -> list[str]:
        last = PurePosixPath(name).name
        places = (f"images/{split}/{name}", f"{split}/{name}", name, f"images/{name}", last)
        return next((p for n in places if (p := self._pictures.get(f"{SPARE}/{n}"))), [])

    def _place(self, folder: str) -> str | None:
        """A folder of images that is there, or whose labels are; paths may be of elsewhere."""
        parts = PurePosixPath(_relative(folder)).parts
        for start in range(len(parts) or 1):  # "." is the folder itself
            place = self._folder + "".join(f"{p}/" for p in parts[start:])
            if place in self._folders or _labels_of(place) in self._folders:
                return place
        return None

    def _file(self, name: str) -> str | None:
        parts = PurePosixPath(_relative(name)).parts
        tails = (self._folder + "/".join(parts[start:]) for start in range(len(parts)))
        return next((tail for tail in tails if tail in self._names), None)

    def _image(self, said: str, beside: str) -> str:
        """An image of a list in a folder, without extension, where it or its label is."""
        parts = PurePosixPath(said).parts
        for start in range(len(parts)):
            for folder in dict.fromkeys((beside, self._folder)):
                place = folder + "/".join(parts[start:])
                if place in self._pictures or _label_of(place) in self._texts:
                    return place
        return self._folder + said


def _label_of(image: str) -> str:
    """The label file of an image, given without its extension."""
    return _labels_of(f"{image}/")[:-1] + ".txt"


def _labels_of(images: str) -> str:
    """The folder of labels of a folder of images: as Ultralytics finds it."""
    before, mark, after = f"/{images}".rpartition("/images/")
    return f"{before}/labels/{after}"[1:] if mark else images


def _inside(image: str, *folders: str) -> str:
    """The name of an image in its split: without the folders that every image of it is in."""
    parts = list(PurePosixPath(image).parts)
    while len(parts) > 1 and (parts[0] in ("images", "data", *folders) or _is_darknet(parts[0])):
        parts = parts[1:]
    return "/".join(parts)


def _is_darknet(folder: str) -> bool:
    return folder.startswith("obj_") and folder.endswith("_data")


def _is_in(text: str, folder: str) -> bool:
    return text.startswith(folder) and len(text) > len(folder) + len(".txt")


def _relative(path: str) -> str:
    """A path of any machine as one that can be looked for: no drive, no root, no `..`."""
    parts = path.replace("\\", "/").split("/")
    return "/".join(p for p in parts if p not in ("", ".", "..") and not p.endswith(":"))


def _folder(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else f"{parent}/"


# ── descriptions ─────────────────────────────────────────────────────────────────────────────


def _yaml(tree: Tree, name: str) -> Any:
    """A small YAML file, all scalars as text; None where it is none, or hides a bomb."""
    if tree.size(name) > _MAX_YAML:
        return None
    with tree.open(name) as stream:
        body = stream.read(_MAX_YAML + 1)
    try:
        text = body.decode("utf-8-sig")
        if is_plain_yaml(text):
            return yaml.load(text, _LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        pass
    return None


_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # safe: makes text, lists and dicts only


def _of_yaml(said: dict[Any, Any], folder: str) -> Config:
    root = said.get("path")
    splits = {}
    for key, value in said.items():
        places = value if isinstance(value, list) else [value]
        if isinstance(key, str) and key not in NOT_SPLITS:
            texts = (p for p in places if isinstance(p, str) and p)
            splits[key] = tuple(f"{root}/{p}" if isinstance(root, str) else p for p in texts)
    classes = _classes(said["names"])
    notes: tuple[str, ...] = ()
    if (count := said.get("nc")) is not None and count != str(len(classes)):
        notes = (f"nc is {one_line(str(count))[:20]}, and {len(classes)} classes have names",)
    return Config(folder, classes, splits, _keypoints(said.get("kpt_shape")), notes)


def _keypoints(shape: Any) -> tuple[int, int] | None:
    """The points of a pose and the numbers of each: 2, or 3 with whether one sees it."""
    if shape is None:
        return None
    match shape:
        case [str(points), ("2" | "3") as numbers] if re.fullmatch("[1-9][0-9]{,3}", points):
            return int(points), int(numbers)
    raise FormatError("kpt_shape is not [points, 2 or 3]", where=("kpt_shape",))


def _classes(names: Any) -> tuple[str, ...]:
    if isinstance(names, dict):
        numbers = [str(n) for n in range(len(names))]
        if set(names) != set(numbers):
            raise FormatError(f"classes are not numbered 0 to {len(names) - 1}", where=("names",))
        names = [names[n] for n in numbers]
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise FormatError("names is no list of classes", where=("names",))
    return tuple(names)


def _of_darknet(tree: Tree, name: str, names: Sequence[str]) -> Config | None:
    pairs = [line.partition("=") for line in _lines(tree, name)]
    said = {key.strip(): value.strip() for key, mark, value in pairs if mark}
    wanted = PurePosixPath(_relative(said.get("names", "obj.names"))).name
    found = next((n for n in names if PurePosixPath(n).name == wanted), None)
    if found is None:
        return None
    classes = tuple(read_classes(tree, found))
    splits = {k: (said[k],) for k in ("train", "valid", "test") if said.get(k)}
    return Config(_folder(name), classes, splits)


def _of_label_studio(tree: Tree, names: Sequence[str]) -> Config | None:
    """Labels and no word on splits, which subfolders may tell; None where there are no labels."""
    texts = [n for n in names if n.startswith("labels/") and n.lower().endswith(".txt")]
    if not texts:
        return None
    folders = {n.split("/")[1] for n in texts if n.count("/") > 1}
    splits = {folder: (f"images/{folder}",) for folder in sorted(folders)}
    classes = tuple(read_classes(tree, CLASSES))
    return Config("", classes, {**splits, NO_SPLIT: ("images",)})


def _lines(tree: Tree, name: str) -> list[str]:
    with tree.open(name) as stream:
        return stream.read(_MAX_YAML).decode("utf-8-sig", "replace").splitlines()


def _sizes(tree: Tree, folder: str) -> dict[str, tuple[str, tuple[int, int]]]:
    """By name without extension: the name, and (height, width)."""
    name = f"{folder}{SIZES}"
    if name not in tree.names():
        return {}
    sizes = {}
    with tree.open(name) as stream, at(SIZES):
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        try:
            for row in csv.DictReader(text):
                file_name = row["file_name"]
                safe_path(file_name)
                stem = str(PurePosixPath(file_name).with_suffix(""))
                if stem in sizes:
                    raise FormatError(f"two images are called {stem}, and have one label")
                sizes[stem] = file_name, (int(row["height"]), int(row["width"]))
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"not a table of file_name,width,height: {error!r}") from None
    return sizes
