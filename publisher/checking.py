"""Validate: read whatever is there, run the rules, mend what can be mended safely."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from . import images, intake, workspace
from .dataset import Dataset, Sample
from .errors import FormatError, UsageError
from .progress import Progress, silent
from .validate import Finding, Look, check, finding_of, mend


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, and whether pictures were looked at, or only annotations."""

    findings: list[Finding]
    looked: bool


def run(
    path: Path,
    format_name: str | None = None,
    *,
    ignore: Collection[str] = (),
    mend_to: Path | None = None,
    on_image: Progress = silent,
) -> Checked:
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
    looked = False
    try:
        with intake.opened(path, format_name) as source:
            dataset, look = source.dataset, _look(source)
            looked = look is not None
            found += source.findings
            if mend_to is not None:
                dataset, mended = _mend(dataset, mend_to, look, ignore)
                found += mended
            for finding in check(dataset, look=look, ignore=ignore, on_sample=on_image):
                found.append(finding)
    except FormatError as error:  # a lazy dataset may break at any line
        found.append(finding_of(error))
    return Checked([f for f in found if f.code not in ignore], looked)


def to_json(finding: Finding) -> dict[str, Any]:
    """A finding as plain values."""
    return {k: v for k, v in asdict(finding).items() if v is not None}


def _mend(
    dataset: Dataset, out: Path, look: Look | None, ignore: Collection[str]
) -> tuple[Dataset, list[Finding]]:
    fixed: list[Finding] = []

    def samples() -> Iterator[Sample]:
        for sample, mended in mend(dataset, look=look, ignore=ignore):
            for f in mended:
                fixed.append(replace(f, severity="info", message=f"fixed: {f.message}"))
            yield sample

    workspace.write(out, replace(dataset, samples=tuple(samples())))
    return workspace.read(out), fixed


def _look(source: intake.Opened) -> Look | None:
    """Opens pictures, where the source has any."""
    picture = source.picture
    return None if picture is None else lambda sample: images.look(picture(sample))
