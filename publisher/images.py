"""
Pictures: what a file says of itself, lossless removal of metadata, PNG of id maps.

The only module that imports Pillow. Pixels of published images are never re-encoded.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .errors import FormatError
from .masks import MAX_PIXELS
from .png.reader import check_chunks, parse
from .validate import ImageFacts

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # no EPS, no PDF: they run programs
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
_ORIENTATION, _GPS = 0x0112, 0x8825  # EXIF 2.32, tags of the first image directory


def size_of(stream: BinaryIO) -> tuple[int, int]:
    """
    (height, width) from the header; no pixel is decoded.

    Raises:
        FormatError: not an image (I112), or larger than `MAX_PIXELS` (I119).
    """
    with _opened(stream) as image:
        return image.height, image.width


def header_of(stream: BinaryIO) -> tuple[int, int, int]:
    """
    (height, width, EXIF orientation) from the header; no pixel is decoded.

    Height and width are those of the stored pixels; orientation is 1 where nothing is said.

    Raises:
        FormatError: as `size_of`.
    """
    with _opened(stream) as image:
        # a PNG may say it after its pixels; to look there would decode them
        late = image.format == "PNG" and "exif" not in image.info
        orientation = 1 if late else image.getexif().get(_ORIENTATION, 1)
        return image.height, image.width, orientation


def look(body: bytes) -> ImageFacts:
    """
    Read an image file whole: header, metadata, and every pixel, so that damage shows.

    Raises:
        FormatError: not an image or damaged (I112), too large (I119).
    """
    if body.startswith(_PNG_MAGIC):
        check_chunks(body)  # Pillow passes over checksums, and over an end that is missing
    with _opened(io.BytesIO(body)) as image:
        exif = image.getexif()
        return ImageFacts(
            format=image.format or "",
            height=image.height,
            width=image.width,
            mode=image.mode,
            orientation=exif.get(_ORIENTATION, 1),
            frames=getattr(image, "n_frames", 1),
            sha256=hashlib.sha256(body).hexdigest(),
            has_location=bool(exif.get_ifd(_GPS)),
            dhash=_dhash(image),
        )


def strip_metadata(body: bytes) -> bytes:
    """
    Remove EXIF, XMP, IPTC, comments and text from a JPEG or PNG; pixels stay bit for bit.

    Colour profiles stay, since they belong to the picture. Other formats, and files whose
    structure is not understood, come back as they are.
    """
    if body.startswith(b"\xff\xd8"):
        return _strip_jpeg(body)
    if body.startswith(_PNG_MAGIC):
        return _strip_png(body)
    return body


def write_indexed(path: Path, indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> None:
    """Write (H, W) as an 8-bit PNG with a palette, (256, 3): Pillow's mode P."""
    _write_png(path, indices, (indices.shape[1], 8, _PALETTE), palette)


def write_grey(path: Path, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write (H, W) as a grey PNG of 8 or 16 bits: Pillow's modes L and I;16."""
    depth = 8 * values.itemsize
    lines = values.astype(f">u{values.itemsize}").view(np.uint8)
    _write_png(path, lines, (values.shape[1], depth, _GREY))


@dataclass(frozen=True, slots=True)
class Labels:
    """
    A PNG whose pixels are labels.

    `values` are (H, W) numbers of 8 or 16 bits, or (H, W, 3) colours where `mode` is "RGB".
    """

    mode: str  # Pillow's name: P, L, I;16 or RGB
    values: NDArray[Any]
    palette: NDArray[np.uint8] | None  # (N, 3), of mode P

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.values.shape[0], self.values.shape[1]


def read_labels(body: bytes) -> Labels:
    """
    Read a PNG as it is, without any conversion: indices stay indices.

    Raises:
        FormatError: no PNG or damaged (I112), too large (I119), or of a kind that holds no
            labels (J002): an alpha channel, 16 bits a colour.
    """
    png = parse(body)  # Pillow passes over checksums of pixels
    depth, colour = png.depth, png.colour_type
    if colour not in (_GREY, _RGB, _PALETTE) or (colour == _RGB and depth != 8):
        raise FormatError("PNG is neither 8-bit RGB nor of one channel", code="J002")
    with _opened(io.BytesIO(body)) as image:
        values = np.asarray(image)
        if colour == _PALETTE:
            palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            return Labels("P", values, palette)
        if colour == _RGB:
            return Labels("RGB", values, None)
        if depth == 16:
            return Labels("I;16", values.astype(np.uint16), None)
        if depth in (2, 4):  # Pillow spreads them over 0 to 255
            values = values // np.uint8(255 // (2**depth - 1))
        return Labels("L", values.astype(np.uint8), None)


def png_kind(head: bytes) -> tuple[int, int] | None:
    """Bits a channel and colour type of a PNG, from its first 26 bytes; None where it is none."""
    if len(head) < 26 or not head.startswith(_PNG_MAGIC) or head[12:16] != b"IHDR":
        return None
    return head[24], head[25]


def pixels_of(body: bytes) -> NDArray[np.uint8]:
    """
    Decode a picture of any mode as RGB (H, W, 3), as it is stored: EXIF rotation is not applied.

    16 bits are cut to 8, alpha is dropped, palettes and CMYK become colours.

    Raises:
        FormatError: no image of a known format or damaged (I112), or too large (I119).
    """
    with _opened(io.BytesIO(body)) as image:
        if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
            deep = np.asarray(image).astype(np.int64)
            grey = (deep >> 8 if deep.max(initial=0) > 255 else deep).clip(0, 255)
            return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        return np.asarray(image.convert("RGB"))


def preview(rgb: NDArray[np.uint8], height: int, width: int) -> bytes:
    """A picture (H, W, 3) at another size, as a JPEG to look at."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if (image.height, image.width) != (height, width):
        image = image.resize((width, height), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return out.getvalue()


def read_mask(body: bytes, most: int = MAX_PIXELS, *, colored: bool = False) -> NDArray[np.bool_]:
    """
    Decode a grey, 1-bit or palette image as a mask (H, W): every value but 0 is foreground.

    Where it may be `colored`, so is every colour but black; alpha does not count.

    Raises:
        FormatError: no such image or damaged (I112), or more than `most` pixels (I119).
    """
    with _opened(io.BytesIO(body)) as image:
        if image.height * image.width > most:
            said = f"mask is {image.height}x{image.width}, more than {most:,} pixels"
            raise FormatError(said, code="I119")
        if colored and image.mode in ("RGB", "RGBA"):
            return np.asarray(np.asarray(image)[..., :3].any(axis=2), dtype=np.bool_)
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise FormatError(f"mask is {image.mode}, not grey", code="I112")
        return np.asarray(np.asarray(image) != 0, dtype=np.bool_)


def png_of_mask(pixels: NDArray[np.bool_]) -> bytes:
    """A mask (H, W) as an 8-bit grey PNG of 0 and 1, the same bytes on every machine."""
    height, width = pixels.shape
    lines = np.pad(pixels.astype(np.uint8), ((0, 0), (1, 0)))  # filter None on every line
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(lines.tobytes(), 6)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b""))
    return b"".join((_PNG_MAGIC, *chunks))


def read_numbers(body: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """
    Pixels of an image file as 8-bit RGB, (H, W, 3), and as the numbers that a grey or palette
    image holds, (H, W); None where it is neither.

    Raises:
        FormatError: I112, the image is damaged; I119, it is too large.
    """
    with _opened(io.BytesIO(body)) as image:
        image.load()
        plain = image.mode in ("1", "L", "P", "I;16", "I")
        numbers = np.asarray(image).astype(np.int64) if plain else None
        if image.mode.startswith("I"):  # 16 bits have no colour
            rgb = np.zeros((image.height, image.width, 3), dtype=np.uint8)
        else:
            rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        return rgb, numbers


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """A Pillow image whose every failure is a FormatError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our limit below is lower than Pillow's
            with Image.open(stream, formats=FORMATS) as image:
                if image.height * image.width > MAX_PIXELS:
                    raise FormatError(
                        f"image is {image.height}x{image.width}, more than {MAX_PIXELS:,} pixels",
                        code="I119",
                    )
                yield image
    except UnidentifiedImageError as error:
        raise FormatError("not an image of a known format", code="I112") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"image cannot be decoded: {error}", code="I112") from error
    except (Image.DecompressionBombError, OverflowError, MemoryError) as error:
        raise FormatError("image is too large to decode", code="I119") from error


def _dhash(image: Image.Image) -> int:
    """64 bits: is each pixel of a 9 x 8 thumbnail brighter than its left neighbour? Decodes all."""
    image.draft("L", (64, 64))  # JPEG: reads all, computes an eighth
    small = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types of PNG
_PNG_PRIVATE = {b"eXIf", b"tEXt", b"iTXt", b"zTXt", b"tIME"}
_JPEG_PRIVATE = {0xE1, 0xED, 0xFE}  # APP1 (EXIF, XMP), APP13 (IPTC), comment


def _write_png(
    path: Path,
    lines: NDArray[np.uint8],
    kind: tuple[int, int, int],
    palette: NDArray[np.uint8] | None = None,
) -> None:
    """
    Write lines (H, bytes of a line) of a kind: width in pixels, bits a channel, colour type.

    Filter Up on every line (PNG 1.2, 6.3): maps of segments are mostly equal to the line
    above. Deflate is the standard zlib, level 6.
    """
    height, size = lines.shape
    up = np.empty((height, 1 + size), dtype=np.uint8)
    up[:, 0] = 2
    up[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=up[1:, 1:])
    width, depth, colour = kind
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(_PNG_MAGIC)
        stream.write(
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        )
        if palette is not None:
            stream.write(_chunk(b"PLTE", palette.tobytes()))
        stream.write(_chunk(b"IDAT", zlib.compress(up.tobytes(), 6)))
        stream.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _strip_png(body: bytes) -> bytes:
    kept, at = [_PNG_MAGIC], len(_PNG_MAGIC)
    while at + 12 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, at)
        end = at + 12 + length
        if end > len(body):
            return body
        if kind not in _PNG_PRIVATE:
            kept.append(body[at:end])
        at = end
        if kind == b"IEND":
            return b"".join(kept)  # what follows the end is no picture
    return body


def _strip_jpeg(body: bytes) -> bytes:
    """Walk the marker segments up to the scan (ITU-T T.81, annex B); the rest stays."""
    kept, at = [body[:2]], 2
    while at + 4 <= len(body):
        if body[at] != 0xFF:
            return body
        marker = body[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:  # start of scan: entropy-coded data follows
            return b"".join([*kept, body[at:]])
        end = at + 2 + int.from_bytes(body[at + 2 : at + 4], "big")
        if end > len(body):
            return body
        if marker not in _JPEG_PRIVATE:
            kept.append(body[at:end])
        at = end
    return body
