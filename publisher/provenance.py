"""Where a release comes from: the git commit, the DVC lock, the sources. The door to git."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from .dataset import REFINEMENTS, Dataset
from .files import sha256_of


def gather(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """
    What can be said of a dataset's origin in a maintainer's repository.

    Outside of git or DVC those parts are null: a release does not need them.
    """
    from . import __version__

    lock = folder / "dvc.lock"
    return {
        "schema": "publisher/provenance/1",
        "tool": f"publisher {__version__}",
        "git": _git(folder),
        "dvc": {"lock_sha256": sha256_of(lock)} if lock.is_file() else None,
        "sources": list(dataset.sources),
        "refinements": list(dataset.provenance.get(REFINEMENTS, ())),
    }


def _git(folder: Path) -> dict[str, Any] | None:
    commit = _run(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _run(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


def _run(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
