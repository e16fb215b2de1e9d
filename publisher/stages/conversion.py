"""
Convert: read one format, say what another cannot hold, write it, and account for everything.

What was written is read back and counted before it gets its place: it must differ from the
source by exactly the reasons on the report, or nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import formats, workspace
from ..conservation import Item, Tally, balance, tally
from ..dataset import Dataset, namesakes
from ..errors import FormatError, UsageError
from ..files import holding, new_folder
from ..formats.keeping import Shortfall, forecast
from ..names import check_path
from ..panoptic import Overlap
from . import intake

_MARKER = ".publisher-format"
_ELSEWHERE = "choose another folder, or remove that one first"


@dataclass(frozen=True, slots=True)
class Plan:
    """A dataset, what its source held, and what the target cannot hold of it."""

    target: str
    source: intake.Source
    shortfalls: tuple[Shortfall, ...]
    path: Path  # of the source


@dataclass(frozen=True, slots=True)
class Converted:
    """What was in the source, what is in the target, and why they differ."""

    counted: Tally
    kept: Tally
    items: tuple[Item, ...]

    def to_json(self) -> dict[str, Any]:
        """The conservation report."""
        return {
            "in": self.counted.to_json(),
            "out": self.kept.to_json(),
            "items": [i.to_json() for i in self.items],
        }


def plan(
    path: Path, target: str, format_name: str | None = None, images: Path | None = None
) -> Plan:
    """
    Read what `path` holds and hold it against what the format `target` keeps.

    Args:
        images: pictures of a source that has none, where their sizes are needed.

    Raises:
        UsageError: the target is not written.
        InvalidDataset, FormatError: `path` cannot be read whole; or, with C202, two of its
            categories share a name that has to tell them apart.
    """
    kept = _keeps(target)
    source = intake.source(path, format_name, images)
    _refuse_namesakes(source.dataset, target)
    return Plan(target, source, forecast(source.dataset, kept), path)


def run(plan: Plan, out: Path, overlap: Overlap | None = None) -> Converted:
    """
    Write the plan's dataset into the folder `out`, read it back, and compare.

    Raises:
        UsageError: `out` holds something else, later work, or the source; or lies within it.
        OverlapError: a flat format was asked for and nothing says who wins.
        IntegrityError: what was written is not what was read (a bug, or a failing disk).
    """
    source, read = plan.source, plan.path.resolve()
    if out.resolve() in (read, *read.parents):
        raise UsageError(f"{out} holds what is read; it would be replaced", hint=_ELSEWHERE)
    intake.refuse_within(out, [plan.path])
    with _new_folder(out, plan.target, source.dataset) as part:
        items = (*source.items, *_fill(source.dataset, part, plan.target, overlap))
        kept = _count(intake.read(part, plan.target))
        balance("convert", source.counted, kept, items)
    return Converted(source.counted, kept, items)


def write(
    dataset: Dataset, out: Path, target: str, overlap: Overlap | None = None
) -> tuple[Item, ...]:
    """
    Write a dataset's annotations into the folder `out`; gives how they differ. See `run`.

    Raises:
        FormatError: I109, a name would leave the folder; A304, a segment is of no category;
            C202, two categories share a name that has to tell them apart.
    """
    _check(dataset)
    _refuse_namesakes(dataset, target)
    with _new_folder(out, target, dataset) as part:
        return _fill(dataset, part, target, overlap)


def _check(dataset: Dataset) -> None:
    """Readers have looked at the names and categories that they give; others have not."""
    known = dataset.category_of
    for sample in dataset:
        check_path(sample.file_name)
        if sample.split is not None:
            check_path(sample.split)
            if "/" in sample.split:
                raise FormatError(f"a split is called {sample.split!r}", code="I109")
        for index, segment in enumerate(sample.segments):
            if segment.category_id not in known:
                said = f"no category has id {segment.category_id}"
                raise FormatError(said, where=(sample.file_name, index), code="A304")


def _fill(dataset: Dataset, folder: Path, target: str, overlap: Overlap | None) -> tuple[Item, ...]:
    if target == "publisher":
        workspace.fill(folder, dataset, images=workspace.relative(dataset.images, folder))
        return ()
    found = _writer(target)
    assert found.write is not None
    put = partial(found.write, overlap=overlap) if found.flat else found.write
    items = put(dataset, folder)
    (folder / _MARKER).write_text(f"{target}\n")
    return tuple(items)


@contextmanager
def _new_folder(out: Path, target: str, dataset: Dataset) -> Iterator[Path]:
    if target == "publisher":
        workspace.keep_images(dataset, out)
    elif (later := _later_work(out)) is not None:
        raise UsageError(f"{later} is newer than what was written there", hint=_ELSEWHERE)
    ours = workspace.is_workspace if target == "publisher" else holding(_MARKER)
    with new_folder(out, ours=ours) as part:  # beside `out`, so what is relative stays right
        yield part


def _later_work(out: Path) -> Path | None:
    """A file that somebody has put into a folder of ours, or changed, since we wrote it."""
    marker = out / _MARKER
    if not marker.is_file():
        return None
    written = marker.stat().st_mtime_ns  # it was written last
    files = (path for path in sorted(out.rglob("*")) if not path.is_dir())
    return next((p for p in files if p.lstat().st_mtime_ns > written), None)


def _refuse_namesakes(dataset: Dataset, target: str) -> None:
    twice = namesakes(dataset.categories)
    if twice and "category ids" not in _keeps(target):
        raise FormatError(
            f"two categories are called {twice[0]!r}, and {target} knows them by their names",
            code="C202",
            hint="rename one of them",
        )


def _keeps(target: str) -> frozenset[formats.Trait]:
    return frozenset(formats.TRAITS) if target == "publisher" else _writer(target).keeps


def _writer(target: str) -> formats.Format:
    found = formats.get(target)
    if found.write is None:
        raise UsageError(f"{target} is read, but not written")
    return found


def _count(dataset: Dataset) -> Tally:
    return tally(dataset, {c.id: c.name for c in dataset.categories})
