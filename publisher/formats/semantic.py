"""
Semantic masks: `masks/<stem>.png`, one channel, the value of a pixel is its class.

0 is background, 255 is ignored, in 16-bit PNGs 65535. `classes.txt` names the values, from 0 on,
a class a line; `train.txt` and so on list the stems of each split: what mmsegmentation takes as
`seg_map_path` and `ann_file`.

Read: also the folders `labels`, `annotations` and `ann_dir`, subfolders for splits, and the lists
labels.txt, codes.txt and class_names.txt. Where the first line of a list names no background,
value 0 is the class of that line. Without a list, classes are named by their values. A class of
an image is one segment.

Written: 8-bit grey, or 16-bit for more than 254 classes. Objects of one class become one region,
crowds are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..conservation import Item, Ledger
from ..dataset import Category, Dataset
from ..errors import FormatError
from ..files import Tree, own_names
from ..images import SUFFIXES, write_grey
from ..names import by_stem, listing, safe_path
from ..panoptic import Overlap, Painted
from ..validate import finding_of
from .labelmaps import (
    NO_SUBSET,
    NOBODY,
    VOID,
    Collector,
    Entry,
    Pictures,
    check_writable,
    counts_of,
    found,
    has_one_channel,
    is_background,
    read_values,
    stem_in,
    value_map,
)
from .painting import book, book_crowds, painted_samples
from .reading import Reading
from .texts import read_classes, read_lines

_FOLDERS = ("masks/", "labels/", "annotations/", "ann_dir/")
_CLASSES = ("classes.txt", "labels.txt", "codes.txt", "class_names.txt")
_SUBSETS = ("train", "training", "val", "valid", "validation", "test", "testing", NO_SUBSET)
_PICTURES = ("images/", "img_dir/", "JPEGImages/", "")  # where pictures lie
_VOID_16 = 65535


def detect(tree: Tree) -> bool:
    """
    A folder of masks of one channel: with a list of classes, or where nothing but pictures is
    there.
    """
    names = own_names(tree)
    folders = _usable(tree, names)
    listed = any(n in names for n in _CLASSES)
    bare = "masks/" in folders and all(PurePosixPath(n).suffix.lower() in SUFFIXES for n in names)
    return bare or (listed and bool(folders))


def read(tree: Tree) -> Reading:
    """
    Read a folder or archive of masks.

    Raises:
        FormatError: there are none, or a list cannot be read.
    """
    names = own_names(tree)
    folder = _only_folder(tree, names)
    masks = by_stem(names, folder, ".png")
    classes = _classes(tree, names)
    if not masks and classes is None:
        raise FormatError("no folder of masks", path=tree.label)
    notes = []
    if classes is None:
        classes = _by_number(tree, masks.values())
        notes.append("no list of classes: they are named by their values")
    void = {_VOID_16} if max(classes, default=0) >= VOID else {VOID, _VOID_16}
    maps = Collector(classes, frozenset(void))
    maps.files.update(masks.values())
    for entry, stem in _entries(tree, names, masks):
        try:
            safe_path(entry.file_name)
            if stem not in masks:
                raise FormatError(f"its mask is missing: {folder}{stem}.png", code="I103")
            maps.take(entry, read_values(tree, masks[stem]), None)
        except FormatError as error:
            maps.refuse(entry, error)
    if folder:
        maps.refuse_others(names, folder)
    if maps.ignored and not any(maps.counted.pixels.values()):
        said = "no pixel has a class, all are 0 or void: binary masks of 0 and 255?"
        if classes:
            notes.append(said)
        else:
            maps.findings.append(
                finding_of(FormatError(said, code="V802"), next(iter(masks.values())))
            )
    return maps.reading("semantic", notes)


def _folders(names: Sequence[str]) -> dict[str, str]:
    """The folders with PNGs, and the first of each."""
    first = {f: next((n for n in names if n.startswith(f) and _is_png(n)), "") for f in _FOLDERS}
    return {folder: name for folder, name in first.items() if name}


def _usable(tree: Tree, names: Sequence[str]) -> list[str]:
    """The folders whose first PNG has one channel."""
    return [f for f, name in _folders(names).items() if has_one_channel(tree, name)]


def _only_folder(tree: Tree, names: Sequence[str]) -> str:
    found_ = _usable(tree, names) or [*_folders(names)]  # reading says what is wrong
    if len(found_) > 1:
        raise FormatError(
            f"masks are in {listing(found_)}, and one folder of them would be left out",
            path=tree.label,
            code="J009",
            hint="move all but one of these folders away",
        )
    return found_[0] if found_ else ""


def _is_png(name: str) -> bool:
    return name.lower().endswith(".png")


def _classes(tree: Tree, names: Sequence[str]) -> dict[int, Category] | None:
    """The classes by value, as the tree's list has them."""
    name = next((n for n in _CLASSES if n in names), None)
    if name is None:
        return None
    lines = read_classes(tree, name)
    named = dict(enumerate(lines))
    if lines and is_background(lines[0]):
        del named[NOBODY]
    first = int(NOBODY in named)  # ids begin with 1
    return {value: Category(value + first, line) for value, line in named.items()}


def _by_number(tree: Tree, masks: Iterable[str]) -> dict[int, Category]:
    """A class for each value that occurs; where one is beyond 8 bits, 255 is one as others are."""
    there: set[int] = set()
    for mask in masks:
        try:
            there.update(counts_of(read_values(tree, mask)))
        except FormatError:
            continue  # reading it again says so
    there -= {NOBODY, _VOID_16}
    if max(there, default=0) <= VOID:
        there.discard(VOID)
    return {v: Category(v, f"class {v}") for v in sorted(there)}


def _entries(
    tree: Tree, names: Sequence[str], masks: Mapping[str, str]
) -> Iterator[tuple[Entry, str]]:
    """Each image with the stem of its mask: those of the lists first, then all others."""
    known = set(masks.values())
    pictures = Pictures(n for n in tree.names() if n not in known)
    seen = set()
    for subset in _SUBSETS:
        if f"{subset}.txt" not in names:
            continue
        for line in read_lines(tree, f"{subset}.txt"):
            stem = line if line in masks else line.strip()
            seen.add(stem)
            yield _entry(pictures, stem, "" if subset == NO_SUBSET else subset), stem
    for stem in masks:
        if stem in seen:
            continue
        subset, slash, rest = stem.partition("/")
        if slash and subset in _SUBSETS and not seen:
            yield _entry(pictures, rest, subset), stem
        else:
            yield _entry(pictures, stem, ""), stem


def _entry(pictures: Pictures, stem: str, subset: str) -> Entry:
    folders = [f"{place}{subset}/" for place in _PICTURES] if subset else []
    return found(Entry(stem, subset), pictures.find(stem, (*folders, *_PICTURES), subset))


def write(dataset: Dataset, folder: Path, overlap: Overlap | None = None) -> tuple[Item, ...]:
    """
    Write a mask an image, a list of images a split, and classes.txt.

    The items say what segments lose to others above them, which become one region, and that
    crowds are ignored.

    Raises:
        FormatError: see `check_writable`. Nothing is written then.
        OverlapError: segments overlap and nothing says who wins.
    """
    reserved = (NO_SUBSET, *(n.removesuffix(".txt") for n in _CLASSES))
    values = check_writable(dataset, _VOID_16 - 1, "a semantic mask", reserved)
    size, void = (1, VOID) if len(values) < VOID else (2, _VOID_16)
    categories = dataset.category_of
    ledger = Ledger()
    lists: dict[str, list[str]] = {}
    for sample, painted in painted_samples(dataset, overlap):
        stem = stem_in(sample)
        lists.setdefault(sample.split or NO_SUBSET, []).append(stem)
        value = {r.id: void if r.iscrowd else values[r.category_id] for r in painted.regions}
        write_grey(folder / f"masks/{stem}.png", value_map(painted, value, size))
        book(ledger, sample, painted, categories)
        book_crowds(ledger, sample, painted, categories)
        if merged := _merged(painted):
            reason = "objects of one class become one region"
            ledger.note(reason, sample.file_name, segments=-merged)
    for subset, stems in lists.items():
        (folder / f"{safe_path(subset)}.txt").write_text(
            "".join(f"{stem}\n" for stem in stems), "utf-8"
        )
    lines = ["background", *(c.name for c in dataset.categories)]
    (folder / "classes.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return ledger.items


def _merged(painted: Painted) -> int:
    """How many regions are one more of their class."""
    classes = [r.category_id for r in painted.regions if not r.iscrowd]
    return len(classes) - len(set(classes))
