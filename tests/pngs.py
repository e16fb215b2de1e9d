"""PNGs byte by byte: any filter on any line, and any damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MAGIC = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(height: int, width: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(rgb: np.ndarray, filters: Sequence[int] = (2,), before: bytes = b"") -> bytes:
    """Encode (H, W, 3); line i has filter i of `filters`, which repeat."""
    height, width, _ = rgb.shape
    lines = chunk(b"IDAT", zlib.compress(filtered(rgb, filters)))
    return MAGIC + header(height, width) + before + lines + chunk(b"IEND", b"")


def filtered(rgb: np.ndarray, filters: Sequence[int]) -> bytes:
    """The five filters as the standard states them (section 9.2)."""
    height, width, _ = rgb.shape
    x = np.zeros((height + 1, width + 1, 3), int)
    x[1:, 1:] = rgb
    out = bytearray()
    for i in range(height):
        kind = filters[i % len(filters)]
        here, left, above, corner = x[i + 1, 1:], x[i + 1, :-1], x[i, 1:], x[i, :-1]
        p = left + above - corner
        pa, pb, pc = abs(p - left), abs(p - above), abs(p - corner)
        paeth = np.where((pa <= pb) & (pa <= pc), left, np.where(pb <= pc, above, corner))
        guess = (0 * here, left, above, (left + above) // 2, paeth)[kind]
        out += bytes([kind]) + ((here - guess) % 256).astype(np.uint8).tobytes()
    return bytes(out)


def write_png(path: Path, rgb: np.ndarray) -> None:
    """(H, W, 3) as anyone would write it, in a folder that need not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3), as anyone would read it."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)
