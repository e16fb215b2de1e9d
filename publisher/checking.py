"""Validate: read whatever is there, run the rules, mend what can be mended safely."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import images, intake, workspace
from .dataset import Dataset, Sample
from .errors import FormatError, UsageError
from .files import MAX_MEMBER
from .names import safe_path
from .progress import Progress, silent
from .validate import Finding, ImageFacts, Look, check, finding_of, mend


def run(
    path: Path,
    format_name: str | None = None,
    *,
    ignore: Collection[str] = (),
    mend_to: Path | None = None,
    on_image: Progress = silent,
) -> list[Finding]:
    """
    Findings about anything that can be read; a file that cannot is one finding too.

    Args:
        mend_to: write the working dataset with all safe fixes here; findings are then about
            what is left, and each fix is reported as an info.

    Raises:
        UsageError: `mend_to` is given, and `path` is no working dataset.
    """
    if mend_to is not None and not workspace.is_workspace(path):
        raise UsageError(
            "only a working dataset can be mended", hint=f"first `publisher import {path} -o DIR`"
        )
    found: list[Finding] = []
    try:
        dataset, findings = intake.read_leniently(path, format_name)
        found += findings
        if mend_to is not None:
            dataset, mended = _mend(dataset, mend_to, ignore)
            found += mended
        for finding in check(dataset, look=_look(dataset), ignore=ignore, on_sample=on_image):
            found.append(finding)
    except FormatError as error:  # a lazy dataset may break at any line
        found.append(finding_of(error))
    return [f for f in found if f.code not in ignore]


def to_json(finding: Finding) -> dict[str, Any]:
    """A finding as plain values."""
    return {k: v for k, v in asdict(finding).items() if v is not None}


def _mend(dataset: Dataset, out: Path, ignore: Collection[str]) -> tuple[Dataset, list[Finding]]:
    fixed: list[Finding] = []

    def samples() -> Iterator[Sample]:
        for sample, mended in mend(dataset, look=_look(dataset), ignore=ignore):
            for f in mended:
                fixed.append(replace(f, severity="info", message=f"fixed: {f.message}"))
            yield sample

    workspace.write(out, replace(dataset, samples=tuple(samples())))
    return workspace.read(out), fixed


def _look(dataset: Dataset) -> Look | None:
    """Opens pictures where the dataset knows its image folder."""
    folder = dataset.images
    if folder is None:
        return None

    def look(sample: Sample) -> ImageFacts:
        path = folder / safe_path(sample.file_name)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise FormatError("a link leads out of the image folder", code="I109")
        if path.is_file() and path.stat().st_size > MAX_MEMBER:
            raise FormatError(f"file has more than {MAX_MEMBER:,} bytes", code="I119")
        return images.look(path)

    return look
