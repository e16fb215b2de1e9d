"""Convert: read one format, write another."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from . import formats, intake, workspace
from .conservation import Item
from .dataset import Dataset
from .errors import UsageError
from .files import new_folder
from .panoptic import Overlap


def run(
    path: Path,
    target: str,
    out: Path,
    format_name: str | None = None,
    overlap: Overlap | None = None,
) -> Dataset:
    """
    Write what `path` holds into the folder `out` as format `target`.

    Raises:
        UsageError: the target is not written, or `out` holds something else.
        InvalidDataset, FormatError: `path` cannot be read whole.
        OverlapError: panoptic maps were asked for and nothing says who wins.
    """
    dataset = intake.read(path, format_name)
    write(dataset, out, target, overlap)
    return dataset


def write(
    dataset: Dataset, out: Path, target: str, overlap: Overlap | None = None
) -> tuple[Item, ...]:
    """Write a dataset's annotations into the folder `out`; says how that differs. See `run`."""
    if target == "publisher":
        workspace.write(out, dataset)
        return ()
    found = formats.get(target)
    if found.write is None:
        raise UsageError(f"{target} is read, but not written, so far")
    put = partial(found.write, overlap=overlap) if found.flat else found.write
    with new_folder(out, marker=_MARKER) as part:
        items = put(dataset, part)
        (part / _MARKER).write_text(f"{target}\n")
    return tuple(items)


_MARKER = ".publisher-format"
