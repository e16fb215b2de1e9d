"""
Import: from exports of annotation tools to a working dataset, with nothing lost unsaid.

What goes in is counted on the source's own elements; what came out is counted on the files
as written. The two must differ by exactly the items on the report, or nothing is kept.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import formats, workspace
from .. import images as pictures
from ..card import Card
from ..conservation import Item, Tally, balance, tally
from ..dataset import Dataset, Sample
from ..errors import FormatError, InvalidDataset, UsageError, at
from ..files import (
    SPARE,
    Overlay,
    Tree,
    canonical_json,
    copy,
    new_folder,
    open_tree,
    own_names,
    write_atomic,
)
from ..formats import Picture, Reading
from ..formats.reading import Merged, headers
from ..names import listing, portable
from ..progress import Progress, silent
from ..validate import Beside, Finding, Unclaimed, finding_of, no_entry
from .joining import Joined, join

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
        UsageError: `out` lies within a source, or holds something else.
        FormatError: a source is broken, hostile, or of no known format.
        InvalidDataset: parts of it cannot be read, or pictures are missing.
        IntegrityError: what was written is not what was read (a bug, or a failing disk).
    """
    refuse_within(out, sources)
    with ExitStack() as stack:
        trees: list[Tree] = [stack.enter_context(_opened(path)) for path in sources]
        if images is not None:
            spare = stack.enter_context(open_tree(images))
            trees = [Overlay(tree, spare) for tree in trees]
        readings = [formats.read(tree, format_name).whole() for tree in trees]
        _refuse_findings(readings)
        joined = join(readings, [t.label for t in trees], card)
        said = tuple(n for one in zip(trees, readings, strict=True) for n in _said(*one))
        with new_folder(out, ours=workspace.is_workspace) as part:
            copies = _Copies(joined, trees, part / "images", on_image)
            workspace.fill(part, joined.dataset, images="images", samples=copies)
            copies.refuse()
            intake = _account(joined, readings, workspace.read(part), said)
            write_atomic(part / REPORT, canonical_json(intake.to_json(), indent=1))
    return replace(intake, dataset=workspace.read(out))


def refuse_within(out: Path, sources: Sequence[Path]) -> None:
    """
    See to it that what is written will not be read the next time.

    Raises:
        UsageError: `out` lies within a source.
    """
    for path in sources:
        if path.resolve() in out.resolve().parents:
            raise UsageError(
                f"{out} lies within {path}, and would be read with it the next time",
                hint="choose a folder beside it",
            )


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
        tree = stack.enter_context(_opened(path))
        if images is not None:
            tree = Overlay(tree, stack.enter_context(open_tree(images)))
        reading = formats.read(tree, format_name).whole()
        _refuse_findings([reading])
        joined = join([reading], [tree.label], None)
        said = (*_said(tree, reading), *map(str, _renamed(joined)))
    return Source(joined.dataset, reading.counted, reading.items, (*joined.notes, *said))


def _said(tree: Tree, reading: Reading) -> list[str]:
    """What a whole reading set right, and which pictures it has passed over."""
    mended = Merged()
    mended.add(reading.mended)
    left = _unclaimed(tree, _claimed(reading))
    unclaimed = (Finding("I104", "warning", no_entry(*found), tree.label) for found in left.items())
    return [str(f) for f in (*mended, *unclaimed, *_lent_twice(reading))]


def _lent_twice(reading: Reading) -> Iterator[Finding]:
    """Pictures of `--images` that several images were given, as only the end of a name told."""
    images: dict[str, list[str]] = defaultdict(list)
    for h in headers(reading.pictures):
        if h.member is not None and h.member.startswith(f"{SPARE}/"):
            images[h.member.removeprefix(f"{SPARE}/")].append(h.file_name)
    for member, names in images.items():
        if len(names) > 1:
            said = f"stands for {len(names)} images: {listing(names)}"
            yield Finding("I121", "warning", said, member)


def _claimed(reading: Reading) -> Iterator[str]:
    """The files that a reading is from, and its pictures."""
    yield from reading.files
    yield from (h.member for h in headers(reading.pictures) if h.member is not None)


def read(path: Path, format_name: str | None = None) -> Dataset:
    """
    The dataset of `source` alone, which may be lazy.

    A sample that cannot be read then raises InvalidDataset when it is looked at.
    """
    if _is_workspace(path, format_name):
        return workspace.read(path)
    with _opened(path) as tree:
        reading = formats.read(tree, format_name)
        _refuse_findings([reading])
        return join([reading], [tree.label], None, hear=partial(_refuse_picture, reading)).dataset


def _refuse_picture(reading: Reading, _: int, picture: Picture) -> None:
    """Where one picture cannot be read, say at once what else cannot."""
    if picture.findings:
        _refuse_findings([reading.whole()])


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A dataset as far as it can be read, what was not or was set right, and its pictures.

    Of lazy samples, `findings` tells what they are once they have been looked at; `unread`
    are those for which something is missing from the dataset. `unclaimed` tells, given the
    names of all images, which pictures beside theirs are none of them, by folder.
    """

    dataset: Dataset
    picture: Callable[[Sample], bytes] | None = None  # None: annotations only
    heard: Callable[[], tuple[Finding, ...]] = tuple
    unread: Callable[[], tuple[Finding, ...]] = tuple
    unclaimed: Unclaimed = Beside().unclaimed

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What could not be read or was set right, so far."""
        return self.heard()


@contextmanager
def opened(path: Path, format_name: str | None = None) -> Iterator[Opened]:
    """
    Look at whatever is there without unpacking it.

    `picture` raises FormatError: I103 where a sample has none, I119 where it is too large.
    """
    if _is_workspace(path, format_name):
        dataset = workspace.read(path)
        if dataset.images is None:
            yield Opened(dataset)
            return
        with open_tree(dataset.images) as tree:
            own = partial(_picture, tree, lambda name: name)
            yield Opened(dataset, own, unclaimed=partial(_unclaimed, tree))
        return
    with _opened(path) as tree:
        reading = formats.read(tree, format_name)
        heard = _Heard(reading)
        joined = join([reading], [tree.label], None, hear=heard)
        pictured = any(m is not None for m in joined.samples.members())
        picture = partial(_picture, tree, joined.member_of) if pictured else None
        renamed = tuple(_renamed(joined))
        said: Callable[[], tuple[Finding, ...]] = lambda: (*heard.findings(), *renamed)  # noqa: E731
        left: Unclaimed = lambda _: _unclaimed(tree, _claimed(reading))  # noqa: E731
        yield Opened(joined.dataset, picture, said, heard.unread, left)


def _renamed(joined: Joined) -> Iterator[Finding]:
    """What is said of pictures that could not keep their names, which other findings now use."""
    times = Counter(before for before, _ in joined.renames)
    for before, name in joined.renames:
        if portable(before) != before:
            code, why = "I110", "its own name is not portable"
        elif joined.samples.find(before) is not None or times[before] > 1:
            code, why = "I102", "another has that name"
        else:
            code, why = "I111", "another's name differs by case or extension only"
        yield Finding(code, "warning", f"{before!r} is called so here, since {why}", name)


class _Heard:
    """Listens to what pictures say of themselves; to each once."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._told = bytearray(len(reading.pictures))
        self._findings: list[Finding] = []
        self._mended = Merged()

    def __call__(self, position: int, picture: Picture) -> None:
        if not self._told[position]:
            self._told[position] = True
            self._findings += picture.findings
            self._mended.add(picture.mended)

    def findings(self) -> tuple[Finding, ...]:
        """What the reading says, and what the pictures have said so far."""
        return (*self.unread(), *self._reading.mended, *self._mended)

    def unread(self) -> tuple[Finding, ...]:
        """Those for which something is missing."""
        return (*self._reading.findings, *self._findings)


def _unclaimed(tree: Tree, claimed: Iterable[str]) -> dict[str, list[str]]:
    """Pictures that are none of these, by folder."""
    known = set(claimed)
    left: dict[str, list[str]] = defaultdict(list)
    for name in own_names(tree):
        if name not in known and PurePosixPath(name).suffix.lower() in pictures.SUFFIXES:
            left[name.rpartition("/")[0]].append(name)
    return dict(left)


def _picture(tree: Tree, member_of: Callable[[str], str | None], sample: Sample) -> bytes:
    """The bytes of a sample's picture."""
    member = member_of(sample.file_name)
    if member is None:
        raise FormatError("image file is missing", code="I103")
    return picture_in(tree, member)


def picture_in(tree: Tree, member: str) -> bytes:
    """
    The bytes of a picture that a tree should hold.

    Raises:
        FormatError: I103 where it is not there, I119 where it is too large.
    """
    try:
        with tree.open(member) as stream:
            body = stream.read(MAX_PICTURE + 1)
    except OSError as error:
        raise FormatError(f"image file is missing: {error.strerror}", code="I103") from error
    if len(body) > MAX_PICTURE:
        raise FormatError(f"image file has more than {MAX_PICTURE:,} bytes", code="I119")
    return body


def pixels_for(sample: Sample, body: bytes) -> NDArray[np.uint8]:
    """
    A picture (H, W, 3) uint8 RGB, if it lies as the masks of its sample do.

    Raises:
        FormatError: damaged (I112), too large (I119), of another size than its annotations
            (I105, I106), or to be turned, so that nobody knows which way they were drawn (I107).
    """
    height, width, orientation = pictures.header_of(io.BytesIO(body))
    if (height, width) != (sample.height, sample.width):
        said = f"file is {height}x{width}, annotations are for {sample.height}x{sample.width}"
        turned = orientation in (5, 6, 7, 8) and (width, height) == (sample.height, sample.width)
        raise FormatError(said, code="I106" if turned else "I105")
    if orientation != 1:
        raise FormatError(f"EXIF orientation is {orientation}", code="I107")
    return pictures.pixels_of(body)


@contextmanager
def _opened(path: Path) -> Iterator[Tree]:
    """A folder, archive or file, or the one folder in it that holds everything."""
    with open_tree(path) as tree:
        yield formats.unwrapped(tree)


def _is_workspace(path: Path, format_name: str | None) -> bool:
    return format_name in (None, "publisher") and workspace.is_workspace(path)


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


# ── pictures ─────────────────────────────────────────────────────────────────────────────────


class _Copies:
    """The samples of an import, each after its picture was copied under its new name."""

    def __init__(
        self, joined: Joined, trees: Sequence[Tree], folder: Path, on_image: Progress
    ) -> None:
        self._joined = joined
        self._trees = trees
        self._folder = folder
        self._on_image = on_image
        self._findings: list[Finding] = []

    def __iter__(self) -> Iterator[Sample]:
        total = len(self._joined.dataset)
        for done, (index, picture) in enumerate(self._joined.pictures(), start=1):
            sample = picture.sample
            try:
                yield _copy_image(sample, self._trees[index], picture.member, self._folder)
            except FormatError as error:
                self._findings.append(finding_of(error, sample.file_name))
            self._on_image(done, total)

    def refuse(self) -> None:
        """Raise InvalidDataset where a picture is missing or is none."""
        if not self._findings:
            return
        raise InvalidDataset(
            f"{len(self._findings)} of {len(self._joined.dataset)} picture(s) cannot be taken in, "
            f"the first: {self._findings[0]}",
            self._findings,
            hint="export with images, or say where they are: --images DIR",
        )


def _copy_image(sample: Sample, tree: Tree, member: str | None, folder: Path) -> Sample:
    if member is None:
        raise FormatError("the export holds no picture for it", code="I103")
    target = folder / sample.file_name
    with tree.open(member) as stream:
        digest = copy(stream, target, limit=tree.size(member))
    with target.open("rb") as stream, at("image"):
        pictures.size_of(stream)
    return replace(sample, source={**sample.source, "sha256": digest})


# ── accounting ───────────────────────────────────────────────────────────────────────────────


def _account(
    joined: Joined, readings: Sequence[Reading], written: Dataset, said: Sequence[str]
) -> Intake:
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
    return Intake(written, counted, kept, items, joined.renames, (*joined.notes, *said))
