"""
Import: from exports of annotation tools to a working dataset, with nothing lost unsaid.

What goes in is counted on the source's own elements; what came out is counted on the files
as written. The two must differ by exactly the items on the report, or nothing is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from . import formats, workspace
from . import images as pictures
from .card import Card, bare, categories
from .conservation import Item, Tally, balance, tally
from .dataset import Category, Dataset, Sample
from .errors import FormatError, InvalidDataset, UsageError, at
from .files import (
    Overlay,
    Tree,
    canonical_json,
    copy,
    new_folder,
    open_tree,
    own_names,
    write_atomic,
)
from .formats import Picture, Reading
from .names import collision_key, portable
from .progress import Progress, silent
from .validate import Beside, Finding, Unclaimed, finding_of, numbered

REPORT = "import.json"
MAX_PICTURE = 2**29  # bytes of one image file that is looked at


@dataclass(frozen=True, slots=True)
class Intake:
    """What an import took in: `counted` in the sources, `kept` on disk, and why they differ."""

    dataset: Dataset
    counted: Tally
    kept: Tally
    items: tuple[Item, ...]
    renames: tuple[tuple[str, str], ...]  # (name in the source, name in the dataset)
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The conservation report, kept beside the dataset as `import.json`."""
        return {
            "in": self.counted.to_json(),
            "out": self.kept.to_json(),
            "items": [i.to_json() for i in self.items],
            "renamed": [{"from": old, "to": new} for old, new in self.renames],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Joined:
    """Several readings as one dataset; each sample with the tree and member of its picture."""

    dataset: Dataset
    members: tuple[tuple[int, str | None], ...]  # (index of the source, name in it), by sample
    renames: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def take_in(
    sources: Sequence[Path],
    out: Path,
    *,
    format_name: str | None = None,
    images: Path | None = None,
    card: Card | None = None,
    on_image: Progress = silent,
) -> Intake:
    """
    Import exports into a new working dataset with its images under `out/images`.

    Args:
        images: a folder or archive to look in for pictures that an export lacks.
        card: the maintainer's `dataset.yaml`; fixes category ids and says what is stuff.
        on_image: called with (pictures copied, pictures in all).

    Raises:
        FormatError: a source is broken, hostile, or of no known format.
        InvalidDataset: parts of it cannot be read, or pictures are missing.
        IntegrityError: what was written is not what was read (a bug, or a failing disk).
    """
    with ExitStack() as stack:
        trees: list[Tree] = [stack.enter_context(open_tree(path)) for path in sources]
        if images is not None:
            spare = stack.enter_context(open_tree(images))
            trees = [Overlay(tree, spare) for tree in trees]
        readings = [_read(tree, format_name) for tree in trees]
        _refuse_findings(readings)
        joined = _join(readings, [t.label for t in trees], card)
        with new_folder(out, marker=workspace.MARKER) as part:
            dataset = _copy_images(joined, trees, part, on_image)
            workspace.fill(part, dataset, images="images")
            intake = _account(joined, readings, workspace.read(part))
            write_atomic(part / REPORT, canonical_json(intake.to_json(), indent=1))
    return replace(intake, dataset=workspace.read(out))


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset as it was read, what its source held, and every reason why they differ."""

    dataset: Dataset
    counted: Tally
    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()


def source(path: Path, format_name: str | None = None, images: Path | None = None) -> Source:
    """
    Read annotations of any known format, without their pictures: a pure look.

    Args:
        images: a folder or archive of pictures, for formats that need their sizes.

    Raises:
        FormatError: as `take_in`.
        InvalidDataset: parts of it cannot be read; `.findings` says which.
    """
    if _is_workspace(path, format_name):
        dataset = workspace.read(path)
        return Source(dataset, tally(dataset, {c.id: c.name for c in dataset.categories}))
    with ExitStack() as stack:
        tree: Tree = stack.enter_context(open_tree(path))
        if images is not None:
            tree = Overlay(tree, stack.enter_context(open_tree(images)))
        reading = _read(tree, format_name)
        _refuse_findings([reading])
        joined = _join([reading], [tree.label], None)
    return Source(joined.dataset, reading.counted, reading.items, joined.notes)


def read(path: Path, format_name: str | None = None) -> Dataset:
    """The dataset of `source`, alone."""
    if _is_workspace(path, format_name):
        return workspace.read(path)
    return source(path, format_name).dataset


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A dataset as far as it can be read, what was not or was set right, and its pictures.

    `unread` are those findings for which something is missing from the dataset. `unclaimed`
    tells, given the names of all images, which pictures beside theirs are none of them, by folder.
    """

    dataset: Dataset
    findings: tuple[Finding, ...]
    picture: Callable[[Sample], bytes] | None  # None: annotations only
    unread: tuple[Finding, ...] = ()
    unclaimed: Unclaimed = Beside().unclaimed


@contextmanager
def opened(path: Path, format_name: str | None = None) -> Iterator[Opened]:
    """
    Look at whatever is there without unpacking it.

    `picture` raises FormatError: I103 where a sample has none, I119 where it is too large.
    """
    if _is_workspace(path, format_name):
        dataset = workspace.read(path)
        if dataset.images is None:
            yield Opened(dataset, (), None)
            return
        with open_tree(dataset.images) as tree:
            left = partial(_unclaimed, tree, lambda name: name)
            yield Opened(dataset, (), partial(_picture, tree, lambda name: name), (), left)
        return
    with open_tree(path) as tree:
        reading = _read(tree, format_name)
        joined = _join([reading], [tree.label], None)
        pairs = zip(joined.dataset.samples, joined.members, strict=True)
        members = {s.file_name: member for s, (_, member) in pairs if member is not None}
        picture = partial(_picture, tree, members.get) if members else None
        left = partial(_unclaimed, tree, members.get)
        said = (*reading.findings, *reading.mended)
        yield Opened(joined.dataset, said, picture, reading.findings, left)


def _unclaimed(
    tree: Tree, member_of: Callable[[str], str | None], file_names: Iterable[str]
) -> dict[str, list[str]]:
    """
    Pictures that are none of these images, by folder.

    Only beside pictures that one has, and with their extensions: other folders hold maps of
    masks, thumbnails and what else tools put into an export.
    """
    known = {member for name in file_names if (member := member_of(name)) is not None}
    kinds = {_kind(name) for name in known}
    left: dict[str, list[str]] = defaultdict(list)
    for name in own_names(tree):
        if name not in known and _kind(name) in kinds:
            left[name.rpartition("/")[0]].append(name)
    return dict(left)


def _kind(name: str) -> tuple[str, str]:
    """Folder and extension."""
    path = PurePosixPath(name)
    return path.parent.as_posix(), path.suffix.lower()


def _picture(tree: Tree, member_of: Callable[[str], str | None], sample: Sample) -> bytes:
    """The bytes of a sample's picture."""
    member = member_of(sample.file_name)
    if member is None:
        raise FormatError("image file is missing", code="I103")
    try:
        with tree.open(member) as stream:
            body = stream.read(MAX_PICTURE + 1)
    except OSError as error:
        raise FormatError(f"image file is missing: {error.strerror}", code="I103") from error
    if len(body) > MAX_PICTURE:
        raise FormatError(f"image file has more than {MAX_PICTURE:,} bytes", code="I119")
    return body


def _is_workspace(path: Path, format_name: str | None) -> bool:
    return format_name in (None, "publisher") and workspace.is_workspace(path)


def _read(tree: Tree, format_name: str | None) -> Reading:
    found = formats.get(format_name) if format_name else formats.detect(tree)
    if found.read is None:
        raise UsageError(f"{found.name} is written, but not read, so far")
    return found.read(tree)


def _refuse_findings(readings: Sequence[Reading]) -> None:
    _refuse([f for r in readings for f in r.findings])


def _refuse(findings: Sequence[Finding]) -> None:
    if findings:
        raise InvalidDataset(
            f"{len(findings)} annotation(s) cannot be read, the first: {findings[0]}",
            findings,
            hint="mend them in the annotation tool and export again; "
            "`publisher validate SRC` lists them all",
        )


# ── joining ──────────────────────────────────────────────────────────────────────────────────


def _join(readings: Sequence[Reading], labels: Sequence[str], card: Card | None) -> _Joined:
    """One dataset from all readings: categories by name, names unique, ids unique, sorted."""
    known, renumbered = _categories(readings, card)
    parts = [
        (index, _recategorised(p, renumbered[index]))
        for index, reading in enumerate(readings)
        for p in reading.pictures
    ]
    names = _unique_names([p.sample for _, p in parts], [labels[i] for i, _ in parts])
    named = [
        (index, Picture(_grouped(replace(p.sample, file_name=name)), p.member))
        for (index, p), name in zip(parts, names, strict=True)
    ]
    named.sort(key=lambda part: part[1].sample.file_name)
    samples = [p.sample for _, p in named]
    sources = zip(labels, readings, strict=True)
    dataset = Dataset(
        name=card.name if card else next((r.name for r in readings if r.name), "dataset"),
        categories=known,
        samples=numbered(samples),
        sources=tuple({"file": f, "format": r.format, "name": r.name} for f, r in sources),
    )
    notes = [f"{labels[i]}: {n}" for i, r in enumerate(readings) for n in r.notes]
    return _Joined(
        dataset,
        tuple((index, p.member) for index, p in named),
        tuple(_renames(samples)),
        (*notes, *_card_notes(known, card)),
    )


def _renames(samples: Sequence[Sample]) -> Iterator[tuple[str, str]]:
    """Names that had to change; to add a frame's extension is no change."""
    for sample in samples:
        name = str(sample.source.get("name", ""))
        if not sample.file_name.startswith(name):
            yield name, sample.file_name


def _categories(
    readings: Sequence[Reading], card: Card | None
) -> tuple[tuple[Category, ...], list[dict[int, int]]]:
    """
    All categories, and for each reading the new id of each old one.

    A single source keeps its ids; several, or a card, are joined by name.

    Raises:
        FormatError: C202, two categories of one source share a name that has to tell them apart.
    """
    if len(readings) == 1 and card is None:
        same = {c.id: c.id for c in readings[0].categories}
        return readings[0].categories, [same]
    found: dict[str, Category] = {}
    for reading in readings:
        if len({c.name for c in reading.categories}) < len(reading.categories):
            raise FormatError("two categories share a name", path=reading.name, code="C202")
        for c in reading.categories:
            found.setdefault(c.name, c)
    known = categories(card or bare("dataset"), tuple(found.values()))
    number = {c.name: c.id for c in known}
    return known, [{c.id: number[c.name] for c in r.categories} for r in readings]


def _card_notes(known: Sequence[Category], card: Card | None) -> list[str]:
    if card is None:
        return []
    listed = {c.name for c in card.categories}
    new = [c for c in known if c.name not in listed]
    return [f"category {c.name!r} is not in dataset.yaml; it got id {c.id} as a thing" for c in new]


def _recategorised(p: Picture, number: Mapping[int, int]) -> Picture:
    """A picture whose segments have the dataset's category ids, with the split it came in."""
    segments = tuple(replace(s, category_id=number[s.category_id]) for s in p.sample.segments)
    split = SPLITS.get(str(p.sample.source.get("subset", "")).casefold())
    return Picture(replace(p.sample, segments=segments, split=split), p.member)


SPLITS = {  # what annotators call their subsets, and the split they mean
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def _grouped(sample: Sample) -> Sample:
    """A frame named after its video belongs to the video; others stand alone."""
    if sample.group is not None:
        return sample
    path = PurePosixPath(sample.file_name)
    video, mark, frame = path.stem.rpartition("frame")
    if not (mark and frame.lstrip("_-").isdigit()):
        return sample
    parts = (str(sample.source.get("subset", "")), path.parent.as_posix(), video.rstrip("_-. "))
    return replace(sample, group="frames of " + "/".join(p for p in parts if p not in ("", ".")))


def _unique_names(samples: Sequence[Sample], labels: Sequence[str]) -> list[str]:
    """
    A portable name for each sample, unique also without its extension.

    Names stay as they are unless they clash. Then their subsets go in front, or their
    sources, where these differ; where only extensions differ, they go into the stem.
    """
    names = [portable(s.file_name) for s in samples]
    subsets = [portable(str(s.source.get("subset") or "no subset")) for s in samples]
    sources = [portable(PurePosixPath(label).stem) for label in labels]
    for prefixes in (subsets, sources):
        for group in _clashes(names):
            if len({prefixes[i] for i in group}) > 1:
                for i in group:
                    names[i] = f"{prefixes[i]}/{names[i]}"
    for group in _clashes([_stem(n) for n in names]):
        suffixes = [PurePosixPath(names[i]).suffix.lower() for i in group]
        for i, suffix in zip(group, suffixes, strict=True):
            if len(set(suffixes)) > 1:
                names[i] = _restemmed(names[i], f"_{suffix[1:]}")
    while groups := _clashes([_stem(n) for n in names]):
        for group in groups:
            for number, i in enumerate(group[1:], start=2):
                names[i] = _restemmed(names[i], f"__{number}")
    return names


def _clashes(keys: Sequence[str]) -> list[list[int]]:
    """Groups of positions whose keys no file system could tell apart."""
    owners: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        owners[collision_key(key)].append(i)
    return [group for group in owners.values() if len(group) > 1]


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _restemmed(name: str, ending: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}{ending}{path.suffix}"))


# ── pictures ─────────────────────────────────────────────────────────────────────────────────


def _copy_images(
    joined: _Joined,
    trees: Sequence[Tree],
    out: Path,
    on_image: Progress,
) -> Dataset:
    """Copy every picture under its new name; check its header against the annotations."""
    findings: list[Finding] = []
    samples = []
    total = len(joined.members)
    for done, (sample, (index, member)) in enumerate(
        zip(joined.dataset.samples, joined.members, strict=True), start=1
    ):
        try:
            samples.append(_copy_image(sample, trees[index], member, out / "images"))
        except FormatError as error:
            findings.append(finding_of(error, sample.file_name))
        on_image(done, total)
    _refuse_pictures(findings, total)
    return replace(joined.dataset, samples=tuple(samples))


def _copy_image(sample: Sample, tree: Tree, member: str | None, folder: Path) -> Sample:
    if member is None:
        raise FormatError("the export holds no picture for it", code="I103")
    target = folder / sample.file_name
    with tree.open(member) as stream:
        digest = copy(stream, target, limit=tree.size(member))
    with target.open("rb") as stream, at("image"):
        pictures.size_of(stream)
    return replace(sample, source={**sample.source, "sha256": digest})


def _refuse_pictures(findings: Sequence[Finding], total: int) -> None:
    if not findings:
        return
    raise InvalidDataset(
        f"{len(findings)} of {total} picture(s) cannot be taken in, the first: {findings[0]}",
        findings,
        hint="export with images, or say where they are: --images DIR",
    )


# ── accounting ───────────────────────────────────────────────────────────────────────────────


def _account(joined: _Joined, readings: Sequence[Reading], written: Dataset) -> Intake:
    """
    Count what was written and hold it against what was read.

    Raises:
        IntegrityError: they differ by more or less than the items say.
    """
    counted = Tally()
    items = tuple(i for r in readings for i in r.items)
    for r in readings:
        counted += r.counted
    kept = tally(written, {c.id: c.name for c in written.categories})
    balance("import", counted, kept, items)
    return Intake(written, counted, kept, items, joined.renames, joined.notes)
