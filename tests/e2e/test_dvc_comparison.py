"""
The same accident, with DVC and with publisher: one byte changes in the bucket.

Run by `make nightly`. DVC 3.67.1 installs the wrong bytes, exits 0, and calls everything up
to date. Should a later DVC do better, this test says so, and our docs must too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from publisher.bucket.publish import push
from publisher.storage import open_bucket

from ..trees import FILES, make_tree

pytestmark = pytest.mark.nightly
VICTIM = "val/images/000003.jpg"
WRONG = b"third pictURE"


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def dvc(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).with_name("dvc")
    binary = str(beside) if beside.exists() else shutil.which("dvc")
    if binary is None:
        pytest.skip("no dvc: pip install dvc")
    return run(folder, binary, *arguments)


def overwrite(folder: Path, old: bytes, new: bytes) -> None:
    """Change the one object with these bytes, as a bad disk or a careless hand does."""
    (path,) = (p for p in folder.rglob("*") if p.is_file() and p.read_bytes() == old)
    path.chmod(0o644)
    path.write_bytes(new)
    path.chmod(0o444)  # as DVC leaves its objects


def test_dvc_installs_the_wrong_bytes_and_calls_it_up_to_date(tmp_path):
    work, fresh, remote = tmp_path / "work", tmp_path / "fresh", tmp_path / "remote"
    make_tree(work / "data")
    dvc(work, "init", "--no-scm")
    dvc(work, "remote", "add", "-d", "r", remote)
    assert dvc(work, "add", "data").returncode == 0
    assert dvc(work, "push").returncode == 0
    overwrite(remote, FILES[VICTIM], WRONG)
    fresh.mkdir()
    shutil.copy(work / "data.dvc", fresh)
    dvc(fresh, "init", "--no-scm")
    dvc(fresh, "remote", "add", "-d", "r", remote)
    pulled = dvc(fresh, "pull")
    assert pulled.returncode == 0
    assert (fresh / "data" / VICTIM).read_bytes() == WRONG
    assert "up to date" in dvc(fresh, "status").stdout
    again = dvc(work, "push")  # and the remote stays as it is
    assert "up to date" in again.stderr + again.stdout


def test_publisher_exits_7_names_the_file_and_installs_nothing_wrong(tmp_path):
    remote = f"file://{tmp_path}/remote"
    push(open_bucket(remote), make_tree(tmp_path / "tree"), "hands", "1.0.0", created="2026-01-01")
    overwrite(tmp_path / "remote", FILES[VICTIM], WRONG)
    command = [sys.executable, "-m", "publisher", "pull", f"{remote}/hands@1.0.0", "-o", "out"]
    pulled = run(tmp_path, *command)
    assert pulled.returncode == 7
    assert VICTIM in pulled.stderr
    assert not (tmp_path / "out" / VICTIM).exists()
