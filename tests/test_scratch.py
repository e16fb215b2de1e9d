"""Temporary files: gone at the end, and what killed commands leave is cleared by the next."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

import pytest

from publisher.scratch import clear_scratch, scratch


@pytest.fixture(autouse=True)
def room(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_there_until_the_end(room):
    with scratch() as folder:
        (folder / "pack").write_bytes(b"tar")
        assert folder.parent == room
        assert clear_scratch() == ()  # it is in use
        assert (folder / "pack").exists()
    assert list(room.iterdir()) == []


def test_what_a_killed_command_left_is_removed_and_nothing_else(room):
    code = (
        "import os, signal, tempfile\n"
        f"tempfile.tempdir = {str(room)!r}\n"
        "from publisher.scratch import scratch\n"
        "with scratch() as folder:\n"
        "    (folder / 'pack').write_bytes(b'tar')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = room.iterdir()
    strange = [room / "publisher-notes", room / "publisher-work-file"]
    strange[0].mkdir()
    strange[1].write_bytes(b"mine")
    elsewhere = room / "mine"
    elsewhere.mkdir()
    (room / "publisher-work-link").symlink_to(elsewhere)
    with scratch() as folder:
        assert clear_scratch() == (left,)
        assert folder.is_dir()
    assert not left.exists()
    assert elsewhere.is_dir()
    assert all(path.exists() for path in strange)


def test_a_lock_that_is_a_link_is_not_followed(room, tmp_path_factory):
    """Somebody else may write to the same TMPDIR."""
    target = tmp_path_factory.mktemp("other") / "precious"
    trap = room / "publisher-work-trap"
    trap.mkdir()
    (trap / "lock").symlink_to(target)
    assert clear_scratch() == ()
    assert not target.exists()
