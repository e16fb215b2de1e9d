"""Private keys: one line in a file that only its owner reads, and that no message repeats."""

from __future__ import annotations

import os
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher import keys
from publisher.errors import UsageError
from publisher.versions.manifest import MAX_SIGNATURES, Signature
from tests.signers import key, secret

LINE = b"ed25519-private:" + secret("ann").hex().encode() + b"\n"


def written(path, body=LINE, mode=0o600):
    path.write_bytes(body)
    path.chmod(mode)
    return path


def test_a_new_key_is_one_line_that_only_its_owner_can_read(tmp_path):
    os.umask(os.umask(0))
    path = tmp_path / "release.key"
    made = keys.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"ed25519-private:")
    assert path.read_bytes().count(b"\n") == 1
    assert keys.read(path).public == made.public
    assert keys.create(tmp_path / "other.key").public != made.public


def test_a_key_is_never_overwritten(tmp_path):
    path = written(tmp_path / "release.key")
    with pytest.raises(UsageError, match="is there already"):
        keys.create(path)
    assert path.read_bytes() == LINE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o602, 0o644, 0o700 | 0o001])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path, mode):
    with pytest.raises(UsageError, match="others may read or change") as caught:
        keys.read(written(tmp_path / "release.key", mode=mode))
    assert "chmod 600" in caught.value.hint
    assert keys.read(written(tmp_path / "release.key", mode=0o400)).public == key("ann").public


@pytest.mark.parametrize(
    "body",
    [
        b"",
        LINE[:-3],
        LINE + LINE,
        b"ed25519:" + b"0" * 64,
        LINE.upper(),
        b"\xff" * 81,
        b"x" * 10**6,
    ],
)
def test_files_that_hold_no_key_are_not_repeated(tmp_path, body):
    with pytest.raises(UsageError, match="holds no private key") as caught:
        keys.read(written(tmp_path / "release.key", body))
    assert secret("ann").hex()[:16] not in f"{caught.value} {caught.value.hint}".lower()


@pytest.mark.parametrize("call", [keys.read, keys.create])
def test_a_key_in_the_place_of_its_file_is_not_repeated(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    for text in (LINE.decode().strip(), secret("ann").hex()):
        with pytest.raises(UsageError, match="this is a key") as caught:
            call(type(tmp_path)(text))
        assert secret("ann").hex() not in f"{caught.value} {caught.value.hint}"
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", "pipe", "."):
        with pytest.raises(UsageError):
            keys.read(tmp_path / name)
    with pytest.raises(UsageError):
        keys.create(tmp_path / "no folder" / "release.key")


def test_nothing_shows_the_private_half():
    mine = key("ann")
    assert secret("ann").hex() not in repr(mine)
    assert mine.public in repr(mine)
    with pytest.raises(TypeError):
        pickle.dumps(mine)


def test_keys_are_read_once_each_and_not_too_many(tmp_path):
    first = written(tmp_path / "a")
    assert len(keys.read_all([first, written(tmp_path / "b"), first])) == 1
    many = [keys.create(tmp_path / f"{n}.key") for n in range(MAX_SIGNATURES + 1)]
    with pytest.raises(UsageError, match="at most 16 signatures"):
        keys.read_all(tmp_path / f"{n}.key" for n in range(len(many)))


@given(st.binary(max_size=200), st.data())
def test_a_signature_holds_for_those_bytes_and_that_key_alone(said, data):
    mine = key("ann").sign(said)
    assert keys.holds(mine, said)
    assert key("ann").sign(said) == mine  # the same bytes, the same signature
    at = data.draw(st.integers(0, 63))
    flipped = bytearray.fromhex(mine.signature)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    assert not keys.holds(Signature(mine.key, flipped.hex()), said)
    assert not keys.holds(Signature(key("bob").public, mine.signature), said)
    assert not keys.holds(mine, said + b"\0")


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_whatever_stands_there_it_holds_not_and_does_not_crash(public, signature):
    assert not keys.holds(Signature(f"ed25519:{public.hex()}", signature.hex()), b"said")


def test_without_the_package_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    assert not keys.is_available()
    for call in (
        lambda: keys.create(tmp_path / "release.key"),
        lambda: keys.read(written(tmp_path / "there.key")),
        lambda: keys.holds(Signature("ed25519:" + "0" * 64, "0" * 128), b""),
    ):
        with pytest.raises(UsageError, match="need the package cryptography") as caught:
            call()
        assert "publisher[sign]" in caught.value.hint
    assert not (tmp_path / "release.key").exists()
