"""Weights from outside: the right ones load, anything else is refused with nothing done."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zipfile
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from publisher import ritm
from publisher.errors import CheckpointError, IntegrityError, StorageError, UsageError
from publisher.ritm import weights
from publisher.ritm.network import Config, Network

from .build import SMALL, checkpoint, lively, small

CONV = "feature_extractor.conv1.weight"
FORMATS = {"zip": True, "legacy": False}


@pytest.fixture(params=FORMATS)
def write(request, tmp_path):
    """Saves an object as torch does, in both of its formats."""

    def _write(document):
        path = tmp_path / "evil.pth"
        torch.save(document, path, _use_new_zipfile_serialization=FORMATS[request.param])
        return path

    return _write


def changed(**entries):
    """A checkpoint with other entries in the configuration's params."""
    document = checkpoint(small().network)
    for name, value in entries.items():
        if not isinstance(value, dict) or "type" not in value:
            value = {"type": "builtin", "value": value, "specified": True}
        document["config"]["params"][name] = value
    return document


def equal(a: Network, b: Network) -> bool:
    return a.config == b.config and all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# ── what loads ───────────────────────────────────────────────────────────────────────────────


def test_an_official_checkpoint_loads(write):
    path = write(checkpoint(small().network))
    predictor = ritm.load(path)
    assert equal(predictor.network, small().network)
    assert predictor.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors_give_the_same_network_and_the_same_bytes(tmp_path):
    network = lively(Config(width=4, ocr_width=0, with_aux_output=False, norm_radius=7.5))
    weights.save(network, tmp_path / "a.safetensors")
    loaded = weights.read(tmp_path / "a.safetensors")
    weights.save(loaded, tmp_path / "b.safetensors")
    assert equal(loaded, network)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_halved_weights_take_half_the_room_and_mean_nearly_the_same(tmp_path):
    network = lively()
    weights.save(network, tmp_path / "whole.safetensors")
    weights.save(network, tmp_path / "half.safetensors", halved=True)
    whole, half = (weights.read(tmp_path / f"{n}.safetensors") for n in ("whole", "half"))
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("whole", "half")]
    assert sizes[1] < 0.9 * sizes[0]
    for name, value in half.state_dict().items():
        assert value.dtype == whole.state_dict()[name].dtype
        torch.testing.assert_close(value, whole.state_dict()[name], rtol=1e-3, atol=1e-6)
    weights.save(half, tmp_path / "again.safetensors", halved=True)
    assert (tmp_path / "half.safetensors").read_bytes() == (
        tmp_path / "again.safetensors"
    ).read_bytes()


def test_a_parameter_that_is_not_said_has_the_official_default():
    assert weights.config_of({"class": weights._CLASS, "params": {}}) == Config(
        width=48,
        ocr_width=256,
        small=False,
        with_aux_output=False,
        use_leaky_relu=False,
        use_rgb_conv=True,
        use_disks=False,
        norm_radius=260,
        with_prev_mask=False,
    )


def test_a_default_of_an_older_version_is_skipped_as_officially(write):
    old = {"type": "builtin", "value": 7, "specified": False}
    assert equal(weights.read(write(changed(older=old))), small().network)


# ── what is refused ──────────────────────────────────────────────────────────────────────────

EVIL_CONFIGS = {
    "a class of another module": ({"class": "antigravity.Fly"}, "class"),
    "no string as class": ({"class": ["isegm"]}, "class"),
    "no params": ({"params": [1]}, "params"),
    "more than class and params": ({"hook": 1}, "config is not"),
}
EVIL_PARAMS = {
    "class as string": {"norm_layer": {"type": "class", "value": "os.system", "specified": True}},
    "builtin norm layer": {"norm_layer": "torch.nn.modules.batchnorm.BatchNorm2d"},
    "class elsewhere": {"width": {"type": "class", "value": "os.system", "specified": True}},
    "unknown": {"callback": 1},
    "huge": {"width": 10**9},
    "huge head": {"ocr_width": 10**9},
    "negative": {"width": -18},
    "text": {"width": "18"},
    "fraction": {"width": 18.0},
    "bool as number": {"width": True},
    "number as bool": {"small": 1},
    "radius not finite": {"norm_radius": float("nan")},
    "radius huge": {"norm_radius": 1e300},
    "rate not finite": {"backbone_lr_mult": float("inf")},
    "groups": {"clicks_groups": [1, 2]},
    "mean of two": {"norm_mean_std": ([0.5, 0.5], [0.5, 0.5])},
    "no spread": {"norm_mean_std": ([0.5] * 3, [0.0] * 3)},
    "nested": {"norm_mean_std": [[[]] * 3] * 2},
    "two keys": {"width": {"type": "builtin", "value": 18}},
}


@pytest.mark.parametrize("name", EVIL_CONFIGS)
def test_an_evil_config_is_refused(write, name):
    change, message = EVIL_CONFIGS[name]
    document = changed()
    document["config"] |= change
    document["state_dict"] = {}  # refused before that is looked at
    with pytest.raises(CheckpointError, match=message):
        weights.read(write(document))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", EVIL_PARAMS)
def test_an_evil_parameter_is_refused(write, name):
    document = changed(**EVIL_PARAMS[name]) | {"state_dict": {}}
    with pytest.raises(CheckpointError, match=r"evil\.pth: config: "):
        weights.read(write(document))


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["alone", "in the state", "in the config", "as class"])
def test_an_evil_pickle_runs_nothing(write, tmp_path, place):
    trap = tmp_path / "sprung"
    evil = Evil(os.mkdir, (str(trap),))
    document = checkpoint(small().network)
    if place == "alone":
        document = evil
    elif place == "in the state":
        document["state_dict"]["feature_extractor.bn1.bias"] = evil
    elif place == "in the config":
        document["config"]["params"]["width"]["value"] = evil
    else:
        document["config"]["class"] = evil
    with pytest.raises(CheckpointError, match="refers to"):
        weights.read(write(document))
    assert not trap.exists()


@pytest.mark.parametrize(
    "call", [(bytearray, (2**40,)), (getattr, ("", "join")), (np.zeros, (2**40,))]
)
def test_a_call_that_torch_would_allow_or_not_allocates_nothing(write, call):
    path = write({"state_dict": {}, "config": Evil(*call)})
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="refers to"):
            weights.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def in_zip(path, body):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x80\x02" + b"r\xff\xff\xff\xff" + b".", "remembers more"),  # LONG_BINPUT
        (b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b".", "damaged|uses BYTEARRAY8"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "uses SHORT_BINUNICODE"),
        (b"cos\nsystem\n(S'true'\ntR.", "uses STRING"),
        (b"", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b"\x80\x02" + b"(" * 5 + b".", "damaged"),
        (b"\x80\x02]" + b"]" * 10_000 + b"a" * 10_000 + b".", "a list of 1 networks"),
    ],
)
def test_bytes_that_torch_would_not_write_are_refused(tmp_path, body, message):
    in_zip(tmp_path / "evil.pth", body)
    with pytest.raises(CheckpointError, match=message):
        weights.read(tmp_path / "evil.pth")


def test_a_tensor_that_says_to_be_larger_than_its_file_is_refused(tmp_path):
    for legacy in (False, True):
        body = pickle_of_storage(2**40, legacy=legacy)
        path = tmp_path / "evil.pth"
        if legacy:
            path.write_bytes(legacy_head() + body)
        else:
            in_zip(path, body)
        with pytest.raises(CheckpointError, match="more bytes than the file"):
            weights.read(path)


def pickle_of_storage(count, *, legacy):
    """A pickle that describes one storage of so many numbers."""
    number = pickle.dumps(count, 2)[2:-1]
    view = b"N" if legacy else b""
    key = b"X\x01\x00\x00\x000"
    return (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        + key + b"X\x03\x00\x00\x00cpu" + number + view + b"tQ."
    )  # fmt: skip


def legacy_head():
    magic = 0x1950A86A20F9469CFC6C
    return b"".join(pickle.dumps(part, 2) for part in (magic, 1001, {"little_endian": True}))


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "evil.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." + bytes(2**22))
    with pytest.raises(CheckpointError, match=r"bomb|unpacks"):
        weights.read(path)


def test_a_file_that_is_too_large_is_not_even_opened(tmp_path):
    path = tmp_path / "evil.pth"
    with path.open("wb") as stream:
        stream.truncate(weights.MAX_FILE + 1)
    with pytest.raises(CheckpointError, match="more than"):
        weights.read(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(write, value):
    document = checkpoint(deepcopy(small().network))
    document["state_dict"]["feature_extractor.bn2.bias"][3] = value
    with pytest.raises(CheckpointError, match=r"bn2\.bias holds NaN"):
        weights.read(write(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({CONV: torch.zeros(1).expand(10**6, 10**6)}, "1000000x1000000"),
        ({CONV: torch.zeros(64, 3, 3, 3, dtype=torch.int64)}, "int64"),
        ({CONV: torch.zeros(64, 3, 3, 3, dtype=torch.float64)}, "DoubleStorage"),
        ({CONV: 3}, "is 3, not 64x3x3x3 float32"),
        ({"more": torch.zeros(1)}, "not of RITM: more"),
    ],
)
def test_names_shapes_and_types_are_strict(tmp_path, change, message):
    document = checkpoint(small().network)
    torch.save(document | {"state_dict": document["state_dict"] | change}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        weights.read(tmp_path / "a.pth")


def test_tensors_that_repeat_one_number_cannot_ask_for_more_memory_than_the_file_has(tmp_path):
    with torch.device("meta"):
        wanted = Network(Config(width=128, ocr_width=512)).state_dict()
    document = changed(width=128, ocr_width=512)
    document["state_dict"] = {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in wanted.items()
    }
    torch.save(document, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="more bytes than the file"):
        weights.read(tmp_path / "a.pth")


def test_all_tensors_must_be_there(tmp_path):
    document = checkpoint(small().network)
    del document["state_dict"][CONV]
    torch.save(document, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="1 tensors are missing"):
        weights.read(tmp_path / "a.pth")


def test_a_multi_stage_checkpoint_is_refused_clearly(write):
    one = checkpoint(small().network)
    with pytest.raises(CheckpointError, match="list of 2 networks"):
        weights.read(write([one, one]))


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04", b"GIF89a", b"\x80\x02}q\x00.", b"x" * 100])
def test_another_kind_of_file_is_refused(tmp_path, body):
    (tmp_path / "a.pth").write_bytes(body)
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        weights.read(tmp_path / "a.pth")


NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=10, deadline=None, phases=NO_SHRINKING)
@given(st.sampled_from([True, False]), st.integers(0, 60_000), st.binary(max_size=12))
def test_damage_anywhere_is_a_checkpoint_error_or_does_not_matter(zipped, place, damage):
    body = bytearray(_saved(zipped))
    body[place : place + len(damage)] = damage
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        path.write_bytes(body)
        with suppress(CheckpointError):
            assert isinstance(weights.read(path), Network)


@cache
def _saved(zipped):
    stream = io.BytesIO()
    torch.save(checkpoint(small().network), stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def safetensors_file(path, header, body=b""):
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    return path


def test_evil_safetensors_are_refused(tmp_path):
    path, config = tmp_path / "a.safetensors", checkpoint(small().network)["config"]
    metadata = {"config": json.dumps(config)}
    entry = {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}
    for header, message in (
        ({}, "without metadata"),
        ({"__metadata__": {"format": "pt"}}, "no 'config'"),
        ({"__metadata__": {"config": "{"}}, "JSON"),
        ({"__metadata__": {"config": '{"class": "os.system", "params": {}}'}}, "class"),
        ({"__metadata__": metadata, "x": entry}, "are missing"),
        ({"__metadata__": metadata, **dict.fromkeys(small().network.state_dict(), entry)}, "x10"),
        ({"__metadata__": metadata, **dict.fromkeys(small().network.state_dict(), 3)}, "is 3"),
    ):
        with pytest.raises(CheckpointError, match=message):
            weights.read(safetensors_file(path, header))
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(CheckpointError, match="header of"):
        weights.read(path)
    path.write_bytes(safetensors.torch.save(small().network.state_dict(), metadata)[:-8])
    with pytest.raises(CheckpointError, match="safetensors cannot read it"):
        weights.read(path)


# ── by name ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web site that holds the published files, and an empty cache."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(weights, "URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("PUBLISHER_CACHE", str(tmp_path / "cache"))
        yield folder
        server.shutdown()


def test_a_published_file_is_downloaded_once(site, monkeypatch):
    torch.save(checkpoint(small().network), site / "coco_lvis_h18s_itermask.pth")
    assert equal(ritm.load("h18s").network, small().network)
    (site / "coco_lvis_h18s_itermask.pth").unlink()
    assert equal(ritm.load("h18s").network, small().network)


def test_a_published_file_with_a_known_digest_must_have_it(site):
    torch.save(checkpoint(small().network), site / "coco_lvis_h18_itermask.pth")
    with pytest.raises(IntegrityError, match="5f69cfce354d1507"):
        ritm.load("h18")
    assert [p for p in site.parent.glob("cache/**/*") if p.is_file()] == []


def test_a_file_of_unknown_digest_cannot_change_after_its_first_use(site):
    torch.save(checkpoint(small().network), site / "coco_lvis_h32_itermask.pth")
    path = weights.find("h32")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="has sha256") as caught:
        weights.find("h32")
    assert "delete it" in str(caught.value.hint)


def test_without_a_network_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PUBLISHER_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "URL", "http://127.0.0.1:9/")
    with pytest.raises(StorageError, match="cannot download") as caught:
        ritm.load("sbd_h18")
    assert "give the path" in str(caught.value.hint)
    assert list(tmp_path.rglob("*.p*")) == []


def test_shipped_models_come_first(site, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "MODELS", tmp_path)
    weights.save(small().network, tmp_path / "h18s.safetensors")
    assert weights.find("h18s") == tmp_path / "h18s.safetensors"


@pytest.mark.parametrize("name", ["h19", "../h18", "", "no/such.pth"])
def test_an_unknown_name_is_a_usage_error_that_lists_the_known_ones(name):
    with pytest.raises(UsageError) as caught:
        weights.find(name)
    assert "h18s" in str(caught.value.hint)


def test_without_torch_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from publisher import ritm\n"
        "try: ritm.load('h18')\n"
        "except Exception as error: print(type(error).__name__, error, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "UsageError refinement needs torch, which is not installed "
        "pip install '.[refine]' in a checkout of publisher"
    )


def test_the_layout_of_a_network_takes_no_memory():
    with torch.device("meta"):
        assert all(t.is_meta for t in Network(SMALL).state_dict().values())
