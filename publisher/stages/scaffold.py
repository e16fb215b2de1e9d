"""The files that a maintainer's repository starts with; they lie in template/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from ..errors import UsageError
from ..files import write_atomic

_FILES = {  # in the package: in the repository
    "pipeline.yaml": "dvc.yaml",  # DVC would run any dvc.yaml that it finds, also in a .venv
    "params.yaml": "params.yaml",
    "dataset.yaml": "dataset.yaml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
}


def lay_out(folder: Path) -> Iterator[Path]:
    """
    Write the files of a new repository and give their paths.

    Raises:
        UsageError: one of them is there already; nothing is written then.
    """
    taken = [name for name in _FILES.values() if (folder / name).exists()]
    if taken:
        raise UsageError(
            f"{folder} has {', '.join(taken)} already", hint="choose a folder without them"
        )
    name = re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-") or "dataset"
    for source, target in _FILES.items():
        text = files("publisher").joinpath("template", source).read_text("utf-8")
        write_atomic(folder / target, text.replace("NAME_OF_DATASET", name).encode())
        yield folder / target
