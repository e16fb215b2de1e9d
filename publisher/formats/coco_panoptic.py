"""
COCO panoptic: https://cocodataset.org/#format-data, section 4.

A JSON, and a PNG an image whose RGB values are the ids of its segments. Maps are read where
COCO, panopticapi's tools and our own releases put them: in a folder named like the JSON, beside
it or beside `annotations/`, in `panoptic/`, or in `<split>/panoptic/`. Areas and boxes are
always those of the pixels. As in COCO instances, `attributes`, `z_order` and what else is said
of a segment or an image is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw

from ..conservation import Item, Ledger, Tally
from ..dataset import Category, Dataset, Sample, Segment
from ..engine import ordered
from ..errors import FormatError, at
from ..files import Tree, fast_json, own_names, put, read_json, read_typed_json
from ..names import check_path, stem
from ..panoptic import MAX_ID, VOID, Overlap, Painted, chunks, paint_all
from ..png import writer as png
from ..validate import Finding, finding_of
from . import coco_records as records
from .coco import image_record
from .coco_documents import documents
from .coco_licences import Listed, key_of, unlisted
from .coco_places import ImageFinder, root_of, with_slash
from .coco_records import Image, Row
from .documents import Mended, about, info_left
from .id_maps import IdMap, Patch, load, patches
from .keeping import fields_beyond
from .painting import book
from .reading import Merged, Picture, Reading


def write(dataset: Dataset, folder: Path, overlap: Overlap | None = None) -> tuple[Item, ...]:
    """
    Write `panoptic_<split>.json` and `panoptic_<split>/<stem>.png` for each split, and
    `panoptic.json` and `panoptic/` for samples that have none.

    The items say what segments lose to others above them, which become one region, and where
    nothing but a tie-break decided. A few chunks of images are in memory at a time.

    Raises:
        OverlapError: segments overlap and nothing says who wins.
        FormatError: I111, the extension alone tells two images of a split apart.
    """
    ledger = Ledger()
    with documents(dataset.categories) as found:
        if not len(dataset):
            found.add(_place(folder, None).with_suffix(".json"), b"[]", b"[]")
        for written in ordered(_Work(folder, dataset.category_of, overlap), chunks(dataset)):
            for place, images, annotations in written.parts:
                found.add_records(place.with_suffix(".json"), images, annotations, ledger)
            ledger.add(written.items)
    return ledger.items


def _place(folder: Path, split: str | None) -> Path:
    """The folder of the maps of a split; its document is named like it."""
    return folder / ("panoptic" if split is None else f"panoptic_{split}")


@dataclass(frozen=True, slots=True)
class _Written:
    """What a chunk adds to documents: their folder of maps, images, annotations; and its items."""

    parts: list[tuple[Path, list[dict[str, Any]], bytes]]
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    """Writes the maps of a chunk of samples."""

    folder: Path
    categories: Mapping[int, Category]
    overlap: Overlap | None

    def __call__(self, samples: Sequence[Sample]) -> _Written:
        painted = list(paint_all(samples, self.categories, self.overlap))
        places = [_place(self.folder, s.split) for s in samples]
        put_maps(samples, painted, places)
        ledger = Ledger()
        parts = []
        for sample, p in zip(samples, painted, strict=True):
            book(ledger, sample, p, self.categories)
        rows = zip(places, samples, painted, strict=True)
        for place, group in groupby(rows, key=lambda row: row[0]):
            same = list(group)
            images = [image_record(s, ledger) for _, s, _ in same]
            annotations = [_annotation_record(s, p, ledger) for _, s, p in same]
            parts.append((place, images, fast_json(annotations)))
        return _Written(parts, ledger.items)


def put_maps(
    samples: Sequence[Sample], painted: Sequence[Painted], folders: Sequence[Path]
) -> None:
    """
    Write the PNG of each sample into its folder, under `png_name`.

    Raises:
        FormatError: I111, another sample has written it.
    """
    paths = [f"{f}/{png_name(s)}" for f, s in zip(folders, samples, strict=True)]
    for parent in {p.rpartition("/")[0] for p in paths}:
        Path(parent).mkdir(parents=True, exist_ok=True)
    for path, body, sample in zip(paths, png.encode(painted), samples, strict=True):
        try:
            put(path, body, new=True)
        except FileExistsError:
            said = f"two images have the stem {stem(sample.file_name)}: their maps would be one"
            raise FormatError(said, path=sample.file_name, code="I111") from None


def annotation_json(sample: Sample, painted: Painted) -> dict[str, Any]:
    """An element of `annotations`; every image has one, also an empty one."""
    return {
        "file_name": png_name(sample),
        "image_id": sample.id,
        "segments_info": [r.to_json() for r in painted.regions],
    }


def _annotation_record(sample: Sample, painted: Painted, ledger: Ledger) -> dict[str, Any]:
    """The same with what else is known of its segments."""
    said = annotation_json(sample, painted)
    if not any(map(_tells, sample.segments)):
        return said
    hidden = {loss.segment for loss in painted.losses if loss.hidden}
    patches: dict[int, list[Segment]] = {}
    for i, (number, s) in enumerate(zip(painted.region_of.tolist(), sample.segments, strict=True)):
        if i not in hidden:
            patches.setdefault(number, []).append(s)
    infos = [
        {**_more(patches[info["id"]], info.keys(), sample.file_name, ledger), **info}
        for info in said["segments_info"]
    ]
    return {**said, "segments_info": infos}


def _tells(s: Segment) -> bool:
    return bool(s.attributes) or s.z_order is not None or "extra" in s.origin


def _more(
    patches: Sequence[Segment], own: Set[str], file_name: str, ledger: Ledger
) -> dict[str, Any]:
    """What is said of the patches of a region: all by the first, but for the highest z-order."""
    first, *others = patches
    known = (first.attributes, first.origin.get("extra"))
    if any((s.attributes, s.origin.get("extra")) != known for s in others):
        reason = "patches of one region differ in attributes or other fields; the first one's stay"
        ledger.note(reason, file_name)
    said = dict(fields_beyond(first.origin, own, ledger, file_name))
    depths = [s.z_order for s in patches if s.z_order is not None]
    if depths:
        said["z_order"] = max(depths)
    return {**said, "attributes": first.attributes} if first.attributes else said


def png_name(sample: Sample) -> str:
    """`a/b.c.jpg` gives `a/b.c.png`: folders stay, only the last extension goes."""
    return f"{stem(sample.file_name)}.png"


# ── reading ──────────────────────────────────────────────────────────────────────────────────

MAX_VOID = 0.5  # of an image, where stuff is labelled too and so little should be left over
_CHUNK = 64  # maps that are held together
_NAMED = re.compile(r"panoptic[^/]*\.json$", re.IGNORECASE)


_LISTS = ("images", "annotations", "categories")
_KNOWN = {*_LISTS, "info", "licenses", "type"}


class _Category(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    name: str
    supercategory: str | None = ""
    isthing: int | None = None
    color: tuple[int, int, int] | None = None


class _Info(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: int
    category_id: int
    area: float | None = None
    bbox: tuple[float, ...] | None = None
    iscrowd: int | None = None
    z_order: int | None = None  # these two are not COCO's own
    attributes: dict[str, Any] | None = None


S = TypeVar("S", _Info, Raw)


class _Entry(msgspec.Struct, Generic[S], forbid_unknown_fields=True):
    image_id: int
    segments_info: list[S]
    file_name: str | None = None


_sound = msgspec.json.Decoder(_Entry[_Info])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the JSON says of one map: its image, its file, its sound segments by id."""

    image: Image
    member: str
    infos: Mapping[int, _Info]
    extras: Mapping[int, Mapping[str, Any]]  # by the same ids, what else is said of some
    listed: Collection[int]  # the ids of all segments, sound or not


def detect(tree: Tree) -> bool:
    """Does the tree hold a JSON whose annotations have `segments_info`?"""
    return bool(_documents(tree))


def read(tree: Tree) -> Reading:
    """
    Read one panoptic JSON and its maps, or all of a folder or archive, as one dataset.

    Areas and boxes are those of the pixels, whatever the JSON says. What cannot be read
    becomes a finding; the rest is read.

    Raises:
        FormatError: no such file, not JSON, no panoptic JSON at its top level, or no map at all.
    """
    documents = _documents(tree)
    if not documents:
        raise FormatError("no COCO panoptic file", path=tree.label)
    names, finder = set(tree.names()), ImageFinder(tree)
    files = []
    for name in documents:
        try:
            with tree.open(name) as stream:
                document = read_typed_json(stream, tree.size(name), dict[str, Raw])
            files.append(_File(tree, name, names, finder).take(document))
        except FormatError as error:
            error.path = error.path or f"{tree.label}: {name}"
            raise
    missing = [x for f in files for x in f.findings if x.code == "N701"]
    if missing and not any(f.maps for f in files):
        hint = "name the folder or archive that holds the JSON and its PNGs"
        raise FormatError("none of its maps is here", path=tree.label, code="N701", hint=hint)
    return _joined(files)


def _documents(tree: Tree) -> list[str]:
    """JSONs named panoptic, or like a folder beside them, whose annotations are panoptic."""
    names = own_names(tree)
    folders = _folders(names)
    found = []
    for name in names:
        if not name.lower().endswith(".json"):
            continue
        named = bool(_NAMED.search(name))
        if (named or name[: -len(".json")] in folders) and _is_panoptic(tree, name, named):
            found.append(name)
    return found


def _folders(names: Iterable[str]) -> set[str]:
    """All folders that files lie in, however deep."""
    folders: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _is_panoptic(tree: Tree, name: str, named: bool) -> bool:
    """By content: `segments_info` is a key; or, where the name says it, nothing is annotated."""
    key, end = b'"segments_info"', b""
    with tree.open(name) as stream:
        while block := stream.read(2**20):
            if key in end + block:
                return True
            end = block[-len(key) :]
    if not named or tree.size(name) > 2**24:
        return False
    try:
        with tree.open(name) as stream:
            document = read_json(stream, tree.size(name))
    except FormatError:
        return len(own_names(tree)) == 1  # the one file given: reading it says what is wrong
    return isinstance(document, dict) and document.get("annotations") == []


class _File:
    """One panoptic JSON with its maps, read."""

    def __init__(self, tree: Tree, name: str, names: set[str], finder: ImageFinder) -> None:
        self.name = name
        self.subset = re.sub(r"^panoptic[_-]?", "", PurePosixPath(name).stem)
        self.categories: dict[int, Category] = {}
        self.images: dict[int, Image] = {}
        self.extras: dict[int, Mapping[str, Any]] = {}  # what else is said of some images
        self.segments: dict[int, list[Segment]] = {}
        self.findings: list[Finding] = []
        self.mended: list[Finding] = []
        self.maps: set[str] = set()  # the PNGs that entries ask for
        self.counted = Tally()
        self.ledger = Ledger()
        self._tree = tree
        self._names = names
        self._finder = finder
        self._pixels: Counter[str] = Counter()
        self.licences = Listed(None)
        self._heard = Merged()
        self._number = 0  # of segments
        self._places = _map_places(name, self.subset)

    def take(self, document: Mapping[str, Raw]) -> _File:
        images, annotations, categories = (_list(document, key) for key in _LISTS)
        for i, raw in enumerate(categories):
            with at("categories", i):
                self._category(_row(raw, _Category, "not kept"))
        for i, raw in enumerate(images):
            with self._noting(), at("images", i):
                self._image(_row(raw, Image, "kept aside"))
        asked, seen = [], Counter[int]()
        for i, raw in enumerate(annotations):
            with self._noting(), at("annotations", i):
                entry, mended = _entry(raw)
                self._hear(mended)
                seen[entry.image_id] += 1
                if (one := self._asked(entry, seen[entry.image_id])) is not None:
                    asked.append(one)
        for start in range(0, len(asked), _CHUNK):
            self._load(asked[start : start + _CHUNK])
        for image in self.images.values():
            if not seen[image.id]:
                self._find("N712", "no entry says what is in this image", image)
        self._take_others(document)
        self.mended += self._heard
        self.counted = Tally(len(self.images), self._number, self._pixels)
        return self

    def _take_others(self, document: Mapping[str, Raw]) -> None:
        """What the file says of itself, and licences, which are told to each image."""
        for key in sorted(document.keys() - _KNOWN):
            self._hear([("J007", f"unknown key {key[:40]!r} at the top level; not kept")])
        self._hear([*info_left(self._other(document, "info"))])
        self.licences = Listed(self._other(document, "licenses"))
        named = [x.license for x in self.images.values() if x.license is not UNSET]
        self._hear([("J007", x) for x in self.licences.unused({*map(key_of, named)})])
        for licence in named:
            if licence is not None and licence not in self.licences:
                self._hear([("I118", unlisted(licence))])

    def _other(self, document: Mapping[str, Raw], key: str) -> Any:
        try:
            return _value(document.get(key))
        except FormatError as error:  # no mask needs it
            said = f"{key} cannot be read, and is not kept: {error.message}"
            self._hear([(error.code or "J005", said)])
            return None

    def _hear(self, mended: Sequence[Mended]) -> None:
        """Take what is said of records: once for all of the file that say the same."""
        if mended:
            self._heard.hear(mended, self.name)

    def pictures(self) -> Iterator[Picture]:
        for image in self.images.values():
            row = Row(image, self.extras.get(image.id, {}))
            licence, extra = self.licences.told(records.extra_of(row))
            source = {
                "subset": self.subset,
                "image_id": str(image.id),
                "name": image.file_name,
                "license": licence,
                "extra": extra,
            }
            sample = Sample(
                id=image.id,
                file_name=image.file_name,
                height=image.height,
                width=image.width,
                segments=tuple(self.segments.get(image.id, ())),
                source={k: v for k, v in source.items() if v},
            )
            yield Picture(sample, self._picture(image.file_name))

    def _category(self, row: Row[_Category]) -> None:
        c = row.said
        self._hear(row.mended)
        if c.id in self.categories:
            raise FormatError(f"category id {c.id} is used twice", code="C201")
        if c.isthing not in (0, 1):
            said = f"category {c.name!r} does not say whether it is a thing; taken as one"
            self.mended.append(finding_of(FormatError(said, code="C208"), self.name))
        isthing = c.isthing != 0
        self.categories[c.id] = Category(c.id, c.name, c.supercategory or "", isthing, c.color)

    def _image(self, row: Row[Image]) -> None:
        image = row.said
        check_path(image.file_name)
        if not (0 < image.width < 2**31 and 0 < image.height < 2**31):
            raise FormatError(f"image is {image.height}x{image.width}", code="I108")
        if image.id in self.images:
            raise FormatError(f"image id {image.id} is used twice", code="I101")
        self.images[image.id] = image
        self._hear(row.mended)
        if row.extra:
            self.extras[image.id] = row.extra

    def _asked(self, entry: _Entry[_Info] | _Entry[Raw], times: int) -> _Asked | None:
        """What an entry asks for, with each of its segments checked on its own."""
        image = self.images.get(entry.image_id)
        if image is None:
            raise FormatError(f"no image has id {entry.image_id}", code="A303")
        self._number += len(entry.segments_info)
        if times > 1:
            self._find("N713", f"entry {times} for this image; the first one counts", image)
            return None
        infos: dict[int, _Info] = {}
        extras: dict[int, Mapping[str, Any]] = {}
        listed: set[int] = set()
        segments: Sequence[_Info | Raw] = entry.segments_info
        for i, raw in enumerate(segments):
            if isinstance(raw, _Info) and self._is_sound(raw) and raw.id not in infos:
                infos[raw.id] = raw
                listed.add(raw.id)
                continue
            with self._noting(image), at("segments_info", i):
                row = Row(raw) if isinstance(raw, _Info) else _row(raw, _Info, "kept aside")
                listed.add(row.said.id)
                self._info(row.said, infos, image)
                self._hear(row.mended)
                if row.extra:
                    extras.setdefault(row.said.id, row.extra)
        with self._noting(image):
            return _Asked(image, self._map(entry, image), infos, extras, listed)
        return None

    def _is_sound(self, info: _Info) -> bool:
        """Has `_info` nothing to say of it alone? Asked first, as nearly all are."""
        known = info.category_id in self.categories and info.iscrowd in (0, 1, None)
        return known and VOID < info.id <= MAX_ID

    def _info(self, info: _Info, infos: dict[int, _Info], image: Image) -> None:
        if not VOID < info.id <= MAX_ID:
            raise FormatError(f"segment id {info.id} is not in 1 .. {MAX_ID:,}", code="N709")
        if info.category_id not in self.categories:
            raise FormatError(f"no category has id {info.category_id}", code="A304")
        if info.iscrowd not in (0, 1, None):
            raise FormatError(f"iscrowd is {info.iscrowd}", code="A305")
        first = infos.setdefault(info.id, info)
        if first is info:
            return
        kind = (first.category_id, first.iscrowd or 0)
        if kind != (info.category_id, info.iscrowd or 0):
            raise FormatError(f"segment id {info.id} is of two categories", code="N708")
        self._mend("N708", f"segment id {info.id} is listed twice; it is one segment", image)
        self.ledger.note("a segment is listed twice under one id", image.file_name, segments=-1)

    def _map(self, entry: _Entry[_Info] | _Entry[Raw], image: Image) -> str:
        """The PNG of an entry."""
        said = entry.file_name or f"{stem(image.file_name)}.png"
        check_path(said)
        if _base(said) != _base(image.file_name):
            self._mend("N714", f"its map is called {said}", image)
        for name in self._spellings(said):
            if name in self._names and name.lower().endswith(".png"):
                if name in self.maps:
                    raise FormatError(f"its map {said} is another image's, too", code="N713")
                self.maps.add(name)
                return name
        raise FormatError(f"its map {said} is missing", code="N701")

    def _spellings(self, said: str) -> Iterator[str]:
        """Where the map of this name may be, the usual place first."""
        yield self._places[0] + said
        # panopticapi takes all before the first dot, and .png
        spellings = dict.fromkeys((said, f"{stem(said)}.png", f"{said.split('.')[0]}.png"))
        yield from (place + spelling for place in self._places for spelling in spellings)

    def _load(self, asked: Sequence[_Asked]) -> None:
        """Unpack the maps of some entries, and make their patches segments."""
        found: list[tuple[_Asked, IdMap]] = []
        for one in asked:
            with self._noting(one.image):
                size = one.image.height, one.image.width
                loaded = load(self._tree, one.member, one.image.file_name, size, one.listed)
                found.append((one, loaded))
                self.mended += loaded.mended
        taken = patches([m.changes for _, m in found])
        for (one, _), parts in zip(found, taken, strict=True):
            with self._noting(one.image):
                if isinstance(parts, FormatError):
                    raise parts
                self._segment(one, parts)

    def _segment(self, one: _Asked, parts: Sequence[Patch]) -> None:
        """The segments of one image: the patches of its map that its entry knows."""
        there = {p.id: p for p in parts}
        segments, wrong = [], []
        for info in one.infos.values():
            patch = there.get(info.id)
            if patch is None:
                continue
            if said := _claims(info, patch):
                wrong.append(said)
            self._pixels[self.categories[info.category_id].name] += patch.area
            segments.append(_segment_of(info, patch, one.extras.get(info.id)))
        self.segments[one.image.id] = segments
        self._hold_against(one, there, wrong)

    def _hold_against(self, one: _Asked, there: Mapping[int, Patch], wrong: Sequence[str]) -> None:
        """What an entry says, and what its map holds."""
        image = one.image
        if empty := [i for i in one.infos if i not in there]:
            said = f"{len(empty)} segment(s) have no pixel in the map, and are dropped"
            self._mend("N706", f"{said}: {_some(empty)}", image)
            reason = "a segment without a pixel in its map is dropped"
            self.ledger.note(reason, image.file_name, segments=-len(empty))
        if wrong:
            said = f"area or box of {len(wrong)} segment(s) is not that of the pixels: {wrong[0]}"
            self._mend("N707", said, image)
        void = 1 - sum(p.area for p in there.values()) / (image.height * image.width)
        if void > MAX_VOID and any(not c.isthing for c in self.categories.values()):
            self._mend("N715", f"{void:.0%} of the image is void", image)
        if unknown := [p for p in there.values() if p.id not in one.listed]:
            pixels = sum(p.area for p in unknown)
            ids = f"{len(unknown)} id(s) on {pixels} px are not in the JSON ({_some(unknown)})"
            if len(unknown) > 2 and _is_thin(unknown):
                said = f"{ids} and lie along borders: the map was resized or compressed with loss"
                raise FormatError(said, code="N716")
            raise FormatError(ids, code="N705")

    def _picture(self, file_name: str) -> str | None:
        """The image file, in the layouts that people use."""
        return self._finder.find(file_name, self.name, self.subset, but=self.maps)

    def _noting(self, image: Image | None = None) -> _Noting:
        """Turn what cannot be read into a finding."""
        return _Noting(self, image)

    def _find(self, code: str, said: str, image: Image) -> None:
        self.findings.append(finding_of(FormatError(said, code=code), image.file_name))

    def _mend(self, code: str, said: str, image: Image) -> None:
        self.mended.append(finding_of(FormatError(said, code=code), image.file_name))


class _Noting:
    """As a generator it takes four times as long, and each map has several."""

    __slots__ = ("_file", "_image")

    def __init__(self, file: _File, image: Image | None) -> None:
        self._file, self._image = file, image

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, FormatError):
            return False
        name = self._image.file_name if self._image else error.path or self._file.name
        self._file.findings.append(finding_of(error, name))
        return True


def _joined(files: Sequence[_File]) -> Reading:
    """All JSONs of one tree as one reading."""
    pictures = [p for f in files for p in f.pictures()]
    counted = Tally()
    for f in files:
        counted += f.counted
    return Reading(
        name="",
        format="coco-panoptic",
        categories=_categories(files),
        pictures=tuple(pictures),
        counted=counted,
        items=tuple(i for f in files for i in f.ledger.items),
        findings=tuple(x for f in files for x in f.findings),
        mended=(*(x for f in files for x in f.mended), *_extra_maps(files, pictures)),
        files=frozenset(f.name for f in files).union(*(f.maps for f in files)),
    )


def _categories(files: Sequence[_File]) -> tuple[Category, ...]:
    """The categories of all files, which must agree on their ids."""
    joined: dict[int, Category] = {}
    for f in files:
        for c in f.categories.values():
            if joined.setdefault(c.id, c).name != c.name:
                said = f"category {c.id} is {c.name!r} here and {joined[c.id].name!r} elsewhere"
                raise FormatError(said, path=f.name, code="C201")
    return tuple(joined[i] for i in sorted(joined))


def _extra_maps(files: Sequence[_File], pictures: Sequence[Picture]) -> Iterator[Finding]:
    """PNGs beside the maps that no entry asks for."""
    used = {name for f in files for name in f.maps} | {p.member for p in pictures}
    folders = {name.rpartition("/")[0] for f in files for name in f.maps} - {""}
    for name in sorted({n for f in files for n in f._names} - used):
        if name.lower().endswith(".png") and name.rpartition("/")[0] in folders:
            yield finding_of(FormatError("no entry asks for this map", code="N702"), name)


def _map_places(document: str, subset: str) -> list[str]:
    """Folders, each with its "/", where the maps of a JSON may be."""
    path, root = PurePosixPath(document), root_of(document)
    folder, base = path.parent, path.stem
    maps = [folder / base, root / base, root / subset / "panoptic", folder / "panoptic", folder]
    return [with_slash(place) for place in dict.fromkeys(maps)]


def _claims(info: _Info, patch: Patch) -> str | None:
    """What the JSON says wrongly of a segment."""
    if info.area != patch.area:
        said = "no area" if info.area is None else f"area {info.area:g}"
        return f"segment {info.id} has {said}, and {patch.area} px"
    if info.bbox != patch.bbox:
        said = "no box" if info.bbox is None else f"box {[*info.bbox]}"
        return f"segment {info.id} has {said}, and its pixels {[*patch.bbox]}"
    return None


def _is_thin(unknown: Sequence[Patch]) -> bool:
    """Are nearly all of these no more than lines, as ids between two others are?"""
    lines = sum(p.area for p in unknown if p.area <= 2 * (p.bbox[2] + p.bbox[3]))
    return lines > 0.9 * sum(p.area for p in unknown)


def _some(ids: Sequence[int | Patch]) -> str:
    """The first few ids, for a message."""
    numbers = [str(i.id if isinstance(i, Patch) else i) for i in ids[:5]]
    return ", ".join([*numbers, "..."] if len(ids) > 5 else numbers)


def _base(name: str) -> str:
    """A stem without its folder."""
    return stem(name).rpartition("/")[2]


def _segment_of(info: _Info, patch: Patch, extra: Mapping[str, Any] | None) -> Segment:
    origin = {} if extra is None else {"extra": extra}
    crowd, said = info.iscrowd == 1, info.attributes or {}
    return Segment(info.id, info.category_id, patch.rle, crowd, info.z_order, said, origin)


# ── records ──────────────────────────────────────────────────────────────────────────────────

R = TypeVar("R")
T = TypeVar("T", bound=msgspec.Struct)
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_OURS = ("z_order", "attributes")  # what is wrong there costs no segment


def _list(document: Mapping[str, Raw], key: str) -> list[Raw]:
    if key not in document:
        raise FormatError(f"no list {key!r} at the top level")
    try:
        return msgspec.json.decode(document[key], type=list[Raw])
    except _ERRORS as error:
        raise FormatError(f"{key}: {error}") from None


def _entry(raw: Raw) -> tuple[_Entry[_Info] | _Entry[Raw], Sequence[Mended]]:
    """One entry; where it says more or other than usual, its segments wait as they are."""
    try:
        return _sound.decode(raw), ()
    except _ERRORS:
        said = _decoded(raw, dict[str, Raw])
    unknown = said.keys() - set(_Entry.__struct_fields__)
    known = {k: v for k, v in said.items() if k not in unknown}
    casts = _cast(known)
    mended = [("J007", f"unknown field {k[:40]!r} of an entry; not kept") for k in sorted(unknown)]
    return _decoded(msgspec.json.encode(known), _Entry[Raw]), [*mended, *casts]


def _row(raw: Raw, kind: type[T], fate: str) -> Row[T]:
    """One record, its types checked; and what it says beyond its type, and what comes of that."""
    try:
        return Row(msgspec.json.decode(raw, type=kind))
    except _ERRORS:
        said = _decoded(raw, dict[str, Raw])
    extra = {k: _value(said.pop(k)) for k in [*said] if k not in kind.__struct_fields__}
    mended = [m for key in extra for m in about(key, extra, fate)]
    for key, code, sound in records.USELESS:
        if key in _OURS and key in said and not sound(value := _value(said[key])):
            extra[key] = value
            del said[key]
            mended.append((code, f"{key} cannot be used; {fate}"))
    mended += _cast(said)
    return Row(_decoded(msgspec.json.encode(said), kind), extra, mended)


def _cast(said: dict[str, Raw]) -> list[Mended]:
    """Set right, in place, whole numbers that are text or decimals."""
    mended: list[Mended] = []
    for key in sorted(records.WHOLE & said.keys()):
        number, casts = records.whole(key, _value(said[key]))
        if casts:
            said[key] = Raw(msgspec.json.encode(number))
            mended += casts
    return mended


def _value(raw: Raw | None) -> Any:
    """What a part of a document says, where it can be read."""
    return None if raw is None else _decoded(raw, Any)


def _decoded(raw: Raw | bytes, kind: type[R]) -> R:
    """One record, its types checked."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except _ERRORS as error:
        code = "A305" if "`$.iscrowd" in str(error) else "J005"
        raise FormatError(str(error).replace(" - at `$.", " at `"), code=code) from None
