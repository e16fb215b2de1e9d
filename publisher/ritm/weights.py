"""
Files of weights: the official RITM checkpoints, and our own in safetensors.

A checkpoint is a pickle, and a pickle is a program. So before torch reads one (with
`weights_only`), its outline is read here: which names it uses, what tensors it says it holds,
and its configuration. All of that must be exactly what a RITM checkpoint holds; otherwise it
is refused with nothing run, imported or allocated. The network is laid out without memory
first and takes the tensors of the file as they are, so a configuration cannot ask for more
memory than its file has bytes.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import math
import pickle
import pickletools
import re
import struct
import urllib.request
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn

from ..errors import CheckpointError, FormatError, IntegrityError, StorageError, UsageError
from ..files import (
    Zip,
    cache_folder,
    canonical_json,
    parse_json,
    read_limited,
    sha256_of,
    write_atomic,
)
from .boundary import BoundaryConfig, BoundaryNetwork
from .network import Config, Network

MAX_FILE = 2**29  # bytes; the largest published file has 124 million
_MAX_HEAD = 2**24  # bytes of a file that are not tensors; h32 has 0.3 million
_CHUNK = 2**20
_CLASS = "isegm.model.is_hrnet_model.HRNetModel"
_BOUNDARY = "publisher.BoundaryNetwork"
_NORM = "torch.nn.modules.batchnorm.BatchNorm2d"

N = TypeVar("N", bound=nn.Module)

MODELS = Path(__file__).parent / "models"  # what ships with publisher
URL = "https://github.com/saic-vul/ritm_interactive_segmentation/releases/download/v1.0/"


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that the authors of RITM publish, and its sha256 where we know it."""

    file: str
    sha256: str | None = None


PUBLISHED = {
    "h18s": Published("coco_lvis_h18s_itermask.pth"),
    "h18": Published(
        "coco_lvis_h18_itermask.pth",
        "5f69cfce354d1507e3850bfc39ee7057c8dd27b6a4910d1d2dc724916b9ee32b",
    ),
    "h32": Published("coco_lvis_h32_itermask.pth"),
    "sbd_h18": Published("sbd_h18_itermask.pth"),
    "h18_baseline": Published("coco_lvis_h18_baseline.pth"),
}


# ── by name ──────────────────────────────────────────────────────────────────────────────────


def find(weights: str | Path) -> Path:
    """
    The file of weights that a name or a path means; a published one is downloaded once.

    A name is looked for among the models that ship with publisher, then among `PUBLISHED`.
    A published file whose sha256 we do not know has it recorded at the first use, beside the
    file: from then on the file cannot change unnoticed, but the first download is believed.

    Raises:
        UsageError: there is no such name or file.
        StorageError: the file cannot be downloaded.
        IntegrityError: a published file is not what it was, or should be.
    """
    name = str(weights)
    shipped = MODELS / f"{name}.safetensors"
    if re.fullmatch(r"[\w-]+", name) and shipped.is_file():
        return shipped
    if name in PUBLISHED:
        return _cached(PUBLISHED[name])
    path = Path(weights)
    if not path.is_file():
        names = ", ".join(sorted({*PUBLISHED, *(p.stem for p in MODELS.glob("*.safetensors"))}))
        raise UsageError(f"no weights {name!r}", hint=f"give a file, or one of {names}")
    return path


def _cached(published: Published) -> Path:
    path = cache_folder() / "weights" / published.file
    record = path.with_name(f"{path.name}.sha256")
    if not path.is_file():
        write_atomic(path, _download(URL + published.file, published.sha256))
    digest = sha256_of(path)
    if not published.sha256 and not record.is_file():
        write_atomic(record, digest.encode())
    expected = published.sha256 or record.read_text("ascii", "replace").strip()
    if digest != expected:
        raise IntegrityError(
            f"{path} has sha256 {digest[:16]}..., not {expected[:16]}...",
            [str(path)],
            hint="delete it (and the .sha256 beside it) to download it again",
        )
    return path


def _download(url: str, sha256: str | None) -> Iterator[bytes]:
    """The bytes at an address; IntegrityError at their end where they are not the right ones."""
    digest, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            while block := response.read(_CHUNK):
                size += len(block)
                if size > MAX_FILE:
                    raise IntegrityError(f"{url} has more than {MAX_FILE:,} bytes")
                digest.update(block)
                yield block
            if response.length:  # what Content-Length promised and did not come
                raise OSError(f"the connection broke {response.length:,} bytes before the end")
    except (OSError, http.client.HTTPException) as error:
        raise StorageError(
            f"cannot download {url}: {getattr(error, 'reason', error)}",
            hint="download it where there is a network, and give the path of the file",
        ) from error
    if sha256 and digest.hexdigest() != sha256:
        raise IntegrityError(f"{url} has sha256 {digest.hexdigest()[:16]}..., not {sha256[:16]}...")


# ── reading and writing ──────────────────────────────────────────────────────────────────────


def read(path: Path) -> Network | BoundaryNetwork:
    """
    Read a network, ready for inference on the CPU.

    Args:
        path: an official checkpoint, of torch's zip or older format, or a safetensors file.

    Raises:
        CheckpointError: it is neither, or holds what no such network has.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise CheckpointError(f"{size:,} bytes, more than {MAX_FILE:,}")
        with path.open("rb") as stream:
            head = stream.read(12)
        if head.startswith((b"PK\x03\x04", _MAGIC)):
            return _read_torch(path, size, zipped=head.startswith(b"PK"))
        if len(head) > 8 and head[8:9] == b"{":
            return _read_safetensors(path, size)
        raise CheckpointError("neither a torch checkpoint nor a safetensors file")
    except (CheckpointError, FormatError) as error:
        hint = error.hint if isinstance(error, CheckpointError) else None
        raise CheckpointError(f"{path.name}: {error}", hint=hint) from error


def save(
    network: Network | BoundaryNetwork,
    path: Path,
    about: Mapping[str, str] | None = None,
    *,
    halved: bool = False,
) -> None:
    """
    Write a network as safetensors, its configuration in the metadata. Same input, same bytes.

    Args:
        about: what else the metadata should say: how the weights came about, whose data it was.
        halved: weights of convolutions as float16, eleven digits of their twenty-four, in half
            the bytes. What is read back is float32 again.
    """
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    if halved:  # statistics of a normalisation may be beyond what float16 holds
        state = {name: v.half() if v.dim() == 4 else v for name, v in state.items()}
    if isinstance(network, BoundaryNetwork):
        config = {"class": _BOUNDARY, "widths": list(network.config.widths)}
    else:
        config = official_config(network.config)
    metadata = {**(about or {}), "config": canonical_json(config).decode()}
    # safetensors writes metadata in the order of a hash that differs from run to run
    write_atomic(path, _in_order(safetensors.torch.save(state, metadata)))


def _in_order(body: bytes) -> bytes:
    """The same safetensors file with its header's names in order."""
    (length,) = struct.unpack("<Q", body[:8])
    header = canonical_json(json.loads(body[8 : 8 + length]))
    header += b" " * (-len(header) % 8)  # data begin at a multiple of 8
    return struct.pack("<Q", len(header)) + header + body[8 + length :]


def _read_torch(path: Path, size: int, *, zipped: bool) -> Network | BoundaryNetwork:
    document = _outline_of_zip(path, size) if zipped else _outline_of_pickles(path, size)
    if isinstance(document, list):
        raise CheckpointError(
            f"a list of {len(document)} networks (a multi-stage model), which is not supported",
            hint="save one of them as {'state_dict': ..., 'config': ...}",
        )
    if not isinstance(document, dict) or set(document) != {"state_dict", "config"}:
        raise CheckpointError("no RITM checkpoint: its keys are not 'state_dict' and 'config'")
    network = _laid_out(config_of(document["config"]))
    state = document["state_dict"]
    if not isinstance(state, dict):
        raise CheckpointError(f"state_dict is a {type(state).__name__}")
    _check_outline(network, state, size)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no error of its own for a damaged file
        raise CheckpointError(f"torch cannot read it: {str(error)[:200]}") from error
    return _filled(network, loaded["state_dict"], size)


def _read_safetensors(path: Path, size: int) -> Network | BoundaryNetwork:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > _MAX_HEAD:
            raise CheckpointError(f"header of {length:,} bytes, more than {_MAX_HEAD:,}")
        header = parse_json(stream.read(length))
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise CheckpointError("a safetensors file without metadata")
    config = header.pop("__metadata__").get("config")
    if not isinstance(config, str):
        raise CheckpointError("its metadata has no 'config', so it is no network of ours")
    network = _laid_out(_config_of_ours(parse_json(config.encode())))
    most = 2 * size  # float16 becomes float32
    _check_outline(network, {n: _described(entry) for n, entry in header.items()}, most)
    try:
        state = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"safetensors cannot read it: {error}") from error
    widened = {n: t.float() if t.dtype == torch.float16 else t for n, t in state.items()}
    return _filled(network, widened, most)


def _described(entry: object) -> object:
    kinds = {"F16": torch.float32, "F32": torch.float32, "I64": torch.int64}
    if not isinstance(entry, dict):
        return entry
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or not isinstance(shape, list) or not _is_shape(shape):
        return entry
    return Outlined(kinds.get(dtype), tuple(shape))


def _laid_out(config: Config | BoundaryConfig) -> Network | BoundaryNetwork:
    """A network whose parameters have shapes and no memory."""
    with torch.device("meta"):
        return Network(config) if isinstance(config, Config) else BoundaryNetwork(config)


def _check_outline(network: nn.Module, state: Mapping[Any, object], size: int) -> None:
    """Refuse a file of `size` bytes whose tensors are not the network's: name, shape, type."""
    wanted = network.state_dict()
    if missing := [name for name in wanted if name not in state]:
        raise CheckpointError(f"{len(missing)} tensors are missing: {', '.join(missing[:3])} ...")
    if extra := [_shown(name) for name in state if name not in wanted]:
        raise CheckpointError(f"{len(extra)} tensors are not of RITM: {', '.join(extra[:3])} ...")
    for name, tensor in wanted.items():
        found, expected = state[name], Outlined(tensor.dtype, tuple(tensor.shape))
        if type(found) is not Outlined or found != expected:
            raise CheckpointError(f"{name} is {_shown(found)}, not {expected}")
    if sum(tensor.nbytes for tensor in wanted.values()) > size:  # each number for many
        raise CheckpointError("its tensors have more bytes than the file")


def _filled(network: N, state: Mapping[str, torch.Tensor], size: int) -> N:
    """The network with the tensors of a file, which are what its outline said, and numbers."""
    _check_outline(network, {n: Outlined(t.dtype, tuple(t.shape)) for n, t in state.items()}, size)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name} holds NaN or infinity")
        if name.endswith("running_var") and (tensor < 0).any():
            raise CheckpointError(f"{name} holds a negative variance")
    network.load_state_dict({k: v.contiguous() for k, v in state.items()}, assign=True)
    return network.eval().requires_grad_(False)


# ── the outline of a pickle ──────────────────────────────────────────────────────────────────

_MAGIC = bytes.fromhex("80028a0a6cfc9c46f920")  # torch's older format begins with this number
_OPCODES = frozenset(
    {"PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"}
    | {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
    | {"EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
    | {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT"}
    | {"BINGET", "LONG_BINGET", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"}
)
_STORAGES = {"FloatStorage": torch.float32, "LongStorage": torch.int64}


class Outlined(NamedTuple):
    """What a file says of one tensor. A pickle cannot change one that is made."""

    dtype: torch.dtype | None
    shape: tuple[int, ...]

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.") if self.dtype else "of another type"
        return f"{'x'.join(map(str, self.shape)) or 'a number'} {kind}"


class _Tensor:
    """Stands for the function that torch builds tensors with. Has no attribute to be set."""

    __slots__ = ()

    def __call__(self, storage: tuple[torch.dtype], *args: Any) -> Outlined:
        _offset, size, *_others = args
        if not _is_shape(size):
            raise CheckpointError("a tensor whose shape is not a row of numbers")
        return Outlined(storage[0], tuple(size))


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(type(side) is int for side in value)


class _Parameter:
    __slots__ = ()

    def __call__(self, tensor: Outlined, *_others: object) -> Outlined:
        return tensor


class _Unpickler(pickle.Unpickler):
    """Gives the outline of an object: plain values, and an `Outlined` for each tensor."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        super().__init__(stream)
        self._left = size  # bytes that storages may still have; the file is no larger
        self._seen: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
            ("torch._utils", "_rebuild_parameter"): _Parameter(),
        }
        if (module, name) not in known:
            raise CheckpointError(f"refers to {module[:80]}.{name[:80]}; no RITM checkpoint does")
        return known[module, name]

    def persistent_load(self, pid: Any) -> tuple[torch.dtype]:
        kind, dtype, key, _location, count, *_view = pid
        if kind != "storage" or type(count) is not int or count < 0 or type(key) is not str:
            raise CheckpointError("a tensor whose storage is not described as torch does")
        if key not in self._seen:
            self._seen.add(key)
            self._left -= count * dtype.itemsize
        if self._left < 0:
            raise CheckpointError("its tensors have more bytes than the file")
        return (dtype,)


def _outline_of_zip(path: Path, size: int) -> object:
    tree = Zip(path)
    try:
        names = tree.names()
        if sum(map(tree.size, names)) > size:
            raise CheckpointError("its members are packed; torch packs nothing, zip bombs do")
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError("a zip archive, but no torch checkpoint")
        body = tree.read(pickles[0], _MAX_HEAD)
    finally:
        tree.close()
    return _outline(io.BytesIO(body), size)


def _outline_of_pickles(path: Path, size: int) -> object:
    """Of torch's older format: magic number, version, system, then the object; then bytes."""
    with path.open("rb") as stream:
        head = io.BytesIO(read_limited(stream, _MAX_HEAD))
    for _ in range(3):
        _outline(head, size)
    return _outline(head, size)


def _outline(stream: io.BytesIO, size: int) -> object:
    """The outline of the pickle at the place where the stream stands, which moves past it."""
    start = stream.tell()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name not in _OPCODES:
                raise CheckpointError(f"its pickle uses {opcode.name}; torch's own do not")
            # a place in the memo is allocated, and everything before it
            if opcode.name.startswith("LONG_BIN") and int(argument or 0) > _MAX_HEAD:
                raise CheckpointError("its pickle remembers more than it can hold")
        end = stream.tell()
        stream.seek(start)
        document: object = _Unpickler(io.BytesIO(stream.read(end - start)), size).load()
    except CheckpointError:
        raise
    except Exception as error:  # hostile bytes: whatever they break is their fault
        raise CheckpointError(f"its pickle is damaged: {str(error)[:100]}") from error
    return document


# ── the configuration ────────────────────────────────────────────────────────────────────────

_OFFICIAL_DEFAULTS = Config(
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
_FLAGS = frozenset(f.name for f in fields(Config) if f.type == "bool")
_WIDTHS = {"width": range(1, 129), "ocr_width": range(513)}  # h32 has 32 and 128
_IGNORED = frozenset({"backbone_lr_mult", "cpu_dist_maps", "clicks_groups", "norm_layer"})
_KNOWN = _IGNORED | {f.name for f in fields(Config)}


def config_of(document: object) -> Config:
    """
    Read the configuration of a checkpoint, as the official code writes it.

    A parameter that is not there has the default of the official class. Training and the click
    maps' device (`backbone_lr_mult`, `cpu_dist_maps`) do not change the function.

    Raises:
        CheckpointError: another class, parameter, type or value than RITM networks have.
    """
    if not isinstance(document, dict) or set(document) != {"class", "params"}:
        raise CheckpointError("config is not {'class': ..., 'params': ...}")
    if document["class"] != _CLASS:
        raise CheckpointError(f"config asks for class {_shown(document['class'])}, not {_CLASS}")
    if not isinstance(document["params"], dict):
        raise CheckpointError("config has no params")
    values: dict[str, Any] = {}
    for name, entry in document["params"].items():
        if not isinstance(entry, dict) or set(entry) != {"type", "value", "specified"}:
            raise CheckpointError(f"config: {_shown(name)} has no type, value and specified")
        if name in _KNOWN:
            values[name] = _parameter(name, entry["type"], entry["value"])
        elif entry["specified"] is not False:  # the official code skips defaults it does not know
            raise CheckpointError(f"config: no parameter of RITM is called {_shown(name)}")
    return replace(_OFFICIAL_DEFAULTS, **{k: v for k, v in values.items() if k not in _IGNORED})


def _config_of_ours(document: object) -> Config | BoundaryConfig:
    """The configuration of a safetensors file: RITM's or, by its class, a boundary network's."""
    if not isinstance(document, dict) or document.get("class") != _BOUNDARY:
        return config_of(document)
    widths = document.get("widths")
    if set(document) != {"class", "widths"} or not isinstance(widths, list):
        raise CheckpointError("config is not {'class': ..., 'widths': [...]}")
    if not 2 <= len(widths) <= 5 or not all(type(w) is int and 1 <= w <= 512 for w in widths):
        raise CheckpointError("config: widths are not 2 to 5 numbers from 1 to 512")
    return BoundaryConfig(tuple(widths))


def official_config(config: Config) -> dict[str, Any]:
    """The configuration of a checkpoint as the official code writes it; see `config_of`."""
    params = {f.name: getattr(config, f.name) for f in fields(Config)}
    entries = {n: {"type": "builtin", "value": v, "specified": True} for n, v in params.items()}
    return {"class": _CLASS, "params": json.loads(json.dumps(entries))}


def _parameter(name: str, kind: object, value: Any) -> object:
    """The checked value of one parameter."""
    if kind != ("class" if name == "norm_layer" else "builtin"):
        raise CheckpointError(f"config: {name} is of type {_shown(kind)}")
    if not _plausible(name, value):
        raise CheckpointError(f"config: {name} = {_shown(value)} is no value for it")
    if name == "norm_mean_std":
        return tuple(tuple(float(v) for v in row) for row in value)
    return value


def _plausible(name: str, value: Any) -> bool:
    """Whether a parameter may have this value. Types are compared exactly: True is no 1 here."""
    if name in _FLAGS or name == "cpu_dist_maps":
        return type(value) is bool
    if name in _WIDTHS:
        return type(value) is int and value in _WIDTHS[name]
    if name == "norm_radius":
        return _number(value) and 0 < value < 1000  # from 1000 on, absent clicks were in reach
    if name == "backbone_lr_mult":
        return _number(value)
    if name == "norm_layer":
        return type(value) is str and value == _NORM
    if name == "clicks_groups":
        return value is None  # maps by the order of clicks: no published network has them
    return (
        _triples(value)
        and all(_number(v) and abs(v) < 1000 for row in value for v in row)
        and all(v > 1e-3 for v in value[1])
    )


def _triples(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(row, tuple | list) and len(row) == 3 for row in value)
    )


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _shown(value: object) -> str:
    """A value in a message: whatever nests is called by its type."""
    scalar = value is None or isinstance(value, str | int | float | Outlined)
    return str(value)[:100] if scalar else f"a {type(value).__name__}"
