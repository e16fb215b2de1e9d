"""Names, archives and writes: hostile until checked, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher import files, names
from publisher.errors import FormatError, UsageError
from tests.makers import zipped


@given(st.text(max_size=30))
def test_a_name_that_passes_stays_in_its_folder(text):
    try:
        path = names.safe_path(text)
    except FormatError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert path.as_posix() == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=300))
def test_a_portable_name_is_safe_and_portable_names_stay(text):
    try:
        names.safe_path(text)
    except FormatError:
        return
    once = names.portable(text)
    assert names.portable(once) == once
    assert names.safe_path(once).as_posix() == once
    assert all(len(part.encode()) <= 255 for part in once.split("/"))


@pytest.mark.parametrize("text", ["a\x1b[31m", "a\u202egpj.b", "a\nb", "\ud800"])
def test_nothing_that_moves_the_cursor_is_printed(text):
    assert names.printable(text).isprintable()
    names.printable(text).encode()


def test_json_is_canonical(tmp_path):
    one = files.canonical_json({"b": [1.5, "é"], "a": None})
    assert one == b'{"a":null,"b":[1.5,"\xc3\xa9"]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        files.canonical_json(float("nan"))


@pytest.mark.parametrize(
    "body", [b"{", b"NaN", b"[1] x", b"\xff", b'"\\ud800"', b"[" * 10**5, b"1e999", b""]
)
def test_json_from_outside_is_strict(body):
    with pytest.raises(FormatError):
        files.parse_json(body)


def test_json_beyond_the_limit_is_not_read(tmp_path):
    with pytest.raises(FormatError, match="more than 10 bytes"):
        files.read_json(io.BytesIO(b" " * 100), 100, limit=10)


def test_a_folder_and_its_zip_read_the_same(tmp_path):
    members = {"a/b.txt": b"1", "c.txt": b"22"}
    zipped(tmp_path / "x.zip", members)
    with zipfile.ZipFile(tmp_path / "x.zip") as z:
        z.extractall(tmp_path / "x")
    for path in (tmp_path / "x", tmp_path / "x.zip"):
        with files.open_tree(path) as tree:
            assert list(tree.names()) == ["a/b.txt", "c.txt"]
            for name, body in members.items():
                with tree.open(name) as stream:
                    assert stream.read() == body
            assert [tree.size(n) for n in tree.names()] == [1, 2]


def test_deflated_archives_are_read_too(tmp_path):
    body = os.urandom(10_000)
    path = zipped(tmp_path / "x.zip", {"a": body}, zipfile.ZIP_DEFLATED)
    with files.open_tree(path) as tree, tree.open("a") as stream:
        assert stream.read() == body


def test_a_member_whose_own_name_is_no_text_is_a_damaged_archive(tmp_path):
    path = zipped(tmp_path / "x.zip", {"é": b"1"})
    body = path.read_bytes()
    path.write_bytes(body[:30] + b"\xff\xff" + body[32:])  # the local header, after its 30 bytes
    with files.open_tree(path) as tree, pytest.raises(FormatError, match="damaged archive"):
        tree.open("é")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fail_half_way():
        with files.new_folder(tmp_path / "out", ours=files.holding("m")) as part:
            (part / "m").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_an_old_folder_of_ours_stays_until_the_new_one_is_whole(tmp_path):
    for text in ("old", "new"):
        with files.new_folder(tmp_path / "out", ours=files.holding("m")) as part:
            (part / "m").write_text(text)
            if text == "new":
                assert (tmp_path / "out" / "m").read_text() == "old"
    assert (tmp_path / "out" / "m").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_two_commands_cannot_write_one_folder_at_once(tmp_path):
    with files.new_folder(tmp_path / "out", ours=files.holding("m")) as part:
        with (
            pytest.raises(UsageError, match="another command is writing"),
            files.new_folder(tmp_path / "out", ours=files.holding("m")),
        ):
            pass
        (part / "m").write_text("mine")
    assert (tmp_path / "out" / "m").read_text() == "mine"


def test_a_file_is_never_taken_for_a_folder(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UsageError), files.new_folder(tmp_path / "out", ours=files.holding("m")):
        pass
    assert (tmp_path / "out").read_text() == "precious"


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from publisher import files
os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomic(Path(sys.argv[1]), b"new" * 1000)
"""


def test_kill_9_leaves_the_old_file(tmp_path):
    (tmp_path / "a.json").write_bytes(b"old")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, tmp_path / "a.json"]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert (tmp_path / "a.json").read_bytes() == b"old"


KILLED_WHILE_REPLACING = """
import os, signal, sys
from pathlib import Path
from publisher import files
rename = Path.rename
def die(self, target):
    if self.name.endswith(".part"):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = die
with files.new_folder(Path(sys.argv[1]), ours=files.holding("m")) as part:
    (part / "m").write_text("new")
"""


def test_kill_9_while_a_folder_is_replaced_loses_nothing(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "m").write_text("old")
    command = [sys.executable, "-c", KILLED_WHILE_REPLACING, out]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    with pytest.raises(OSError, match="full"), files.new_folder(out, ours=files.holding("m")):
        raise OSError("disk is full")
    assert (out / "m").read_text() == "old"
    with files.new_folder(out, ours=files.holding("m")) as part:
        (part / "m").write_text("newest")
    assert (out / "m").read_text() == "newest"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


KILLED_WHILE_IMPORTING = """
import os, signal, sys
from pathlib import Path
from publisher.stages import intake
def die(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
intake.take_in([Path(sys.argv[1])], Path(sys.argv[2]), on_image=die)
"""


def test_an_import_killed_half_way_leaves_no_dataset_and_can_be_repeated(tmp_path):
    from publisher.stages import intake
    from tests.makers import cvat_zip

    source = cvat_zip(tmp_path / "in.zip", {f"{i}.jpg": "" for i in range(4)})
    command = [sys.executable, "-c", KILLED_WHILE_IMPORTING, source, tmp_path / "out"]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert intake.take_in([source], tmp_path / "out").kept.images == 4
    assert json.loads((tmp_path / "out" / "import.json").read_text())["out"]["images"] == 4
    assert {p.name for p in tmp_path.iterdir()} == {"in.zip", "out"}  # nothing is left behind


def test_fast_json_says_what_canonical_json_says():
    value = {"b": [1, 2.5, None, True], "a": {"é": 'x"\\', "c": (1, 2)}, "big": 2**70}
    assert files.fast_json(value) == files.canonical_json(value)
    assert files.fast_json({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


def test_a_file_is_read_at_once_but_never_more_than_asked_for_and_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.bin").write_bytes(b"x" * 200_000)
    with files.open_tree(tmp_path) as tree:
        assert tree.names() == ["a/b.bin"]
        assert tree.read("a/b.bin", 2**20) == b"x" * 200_000
        assert len(tree.read("a/b.bin", 99)) == 100
        with pytest.raises(FormatError, match="regular"):
            tree.read("a", 99)


def test_reading_at_once_follows_no_link_out_of_a_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_bytes(b"secret")
    (tmp_path / "in" / "sound").mkdir(parents=True)
    (tmp_path / "in" / "sound" / "a").write_bytes(b"ours")
    (tmp_path / "in" / "way").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "sound" / "b").symlink_to(tmp_path / "out" / "b")
    with files.open_tree(tmp_path / "in") as tree:
        assert tree.read("sound/a", 99) == b"ours"
        for name in ("way/b", "way/b", "sound/b"):
            with pytest.raises(FormatError, match="leads out"):
                tree.read(name, 99)


@pytest.mark.parametrize("size", [0, 5, 2**20 - 1, 2**20, 2**20 + 7])
def test_a_file_has_the_digest_of_its_bytes_and_of_no_others(tmp_path, size):
    body = bytes(range(256)) * (size // 256 + 1)
    path, sha256 = tmp_path / "file", hashlib.sha256(body[:size]).hexdigest()
    path.write_bytes(body[:size])
    assert files.has_digest(path, size, sha256)
    assert not files.has_digest(path, size + 1, sha256)
    path.write_bytes(body[1 : size + 1] if size else b"x")
    assert not files.has_digest(path, size, sha256)


def test_what_is_no_regular_file_has_no_digest(tmp_path):
    (tmp_path / "file").write_bytes(b"ours")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: whoever waits, waits for ever
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        sha256 = hashlib.sha256(b"ours").hexdigest()
        assert files.has_digest(tmp_path / "file", 4, sha256)
        for name in ("link", "folder", "pipe", "socket", "missing", "file/below"):
            assert not files.has_digest(tmp_path / name, 4, sha256)


def test_a_pipe_or_a_device_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with (
            pytest.raises(UsageError, match="neither a file nor a folder"),
            files.open_tree(files.Path(path)),
        ):
            pass


def test_a_link_that_leads_to_itself_is_no_file(tmp_path):
    (tmp_path / "a.json").symlink_to("b.json")
    (tmp_path / "b.json").symlink_to("a.json")
    with files.open_tree(tmp_path) as tree, pytest.raises(FormatError, match="not a regular file"):
        tree.read("a.json", 10)


def test_a_zip_that_is_cut_short_is_said_to_be(tmp_path):
    path = zipped(tmp_path / "a.zip", {"annotations.xml": "x" * 1000})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(FormatError, match="cut short"), files.open_tree(path):
        pass


def test_the_folder_that_one_is_in_may_be_filled(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with files.new_folder(Path(), ours=files.holding("m")) as part:
        (part / "m").write_text("x")
    assert (tmp_path / "here" / "m").read_text() == "x"
