"""
Room for temporary files that a killed process does not keep.

Each folder has a lock that its process holds; a folder whose lock is free is of one that was
killed, and whoever comes next removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "publisher-work-"
_LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder in TMPDIR, removed at the end."""
    folder, lock = _locked()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def clear_scratch() -> tuple[Path, ...]:
    """Remove the folders that killed processes of this user have left in TMPDIR; which ones."""
    return tuple(folder for folder in _folders() if _cleared(folder))


def _folders() -> Iterator[Path]:
    with suppress(OSError):
        for entry in sorted(os.scandir(tempfile.gettempdir()), key=lambda e: e.name):
            with suppress(OSError):
                is_folder = entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)
                if is_folder and entry.stat(follow_symlinks=False).st_uid == os.getuid():
                    yield Path(entry.path)


def _locked() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(FileNotFoundError):  # cleared before it was locked: once more
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return folder, lock
            os.close(lock)


def _cleared(folder: Path) -> bool:
    """Was it nobody's any more?"""
    try:
        lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except OSError:  # at work, or already gone
        return False
    finally:
        os.close(lock)
    return True
