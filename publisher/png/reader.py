"""
PNGs that hold maps of ids: strictly checked, and read as runs without a dense map.

The residuals of filter Up are not zero just where an id begins or ends within its column. So
in a file whose every line but the first has that filter, as ours have, the few bytes that are
not zero are the column-major runs, and nothing else has to be looked at. Lines stored as they
are, or as differences to the left, are turned into such residuals first; other filters, palettes
and interlaced files need a full decoder (images.py), whose pixels are then read in the same way.

Structure and filters: https://www.w3.org/TR/png-3/, sections 5, 9, 10 and 11.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from ..errors import FormatError
from ..masks import MAX_PIXELS
from ..shapes.runs import IdRuns, Ints

MAX_CHANGES = 2**20  # words of 8 bytes; 640 x 480 px of pure noise have a ninth of it
_MAGIC = b"\x89PNG\r\n\x1a\n"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_MODES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_MANAGED = {b"gAMA": "gamma", b"cHRM": "chromaticities", b"iCCP": "a colour profile"}
_MOST_RATIO = 1032  # bytes that one byte of a deflate stream can give, at most
_NOTHING = np.uint64(0)
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


@dataclass(frozen=True, slots=True)
class Png:
    """What a PNG says of itself, checked, and its lines, still packed."""

    height: int
    width: int
    depth: int  # bits a channel
    colour_type: int
    interlaced: bool
    managed: tuple[str, ...]  # what has viewers change values: gamma, a profile
    packed: bytes

    @property
    def mode(self) -> str:
        """In words, such as "8-bit RGB"."""
        return f"{self.depth}-bit {_MODES[self.colour_type]}"

    @property
    def is_rgb(self) -> bool:
        """Is it 8-bit RGB, as maps of ids must be?"""
        return self.depth == 8 and self.colour_type == 2


@dataclass(frozen=True, slots=True)
class Changes:
    """
    The first line of a map, and where the pixels below it differ from the one above.

    The map's lines after filter Up, 1 + 3 W bytes each, as words of 8 bytes: those not all 0.
    What these hold of the first line counts for nothing.
    """

    height: int
    width: int
    top: NDArray[np.uint8]  # (3, W), the pixels of the first line, channel by channel
    at: Ints  # (K,), the number of each word
    words: NDArray[np.uint64]  # (K,)


def parse(body: bytes) -> Png:
    """
    Check a PNG's structure: chunks, checksums, header.

    Raises:
        FormatError: I112, it is no PNG, damaged or cut short; I119, it is too large.
    """
    header, managed, packed = None, [], []
    for kind, data in _chunks(body):
        if (kind == b"IHDR") != (header is None):
            raise FormatError("PNG has no header, or several", code="I112")
        if header is None:
            header = _header(data)
        elif kind == b"IDAT":
            packed.append(data)
        elif kind in _MANAGED:
            managed.append(_MANAGED[kind])
    assert header is not None  # _chunks gives at least one chunk
    return Png(*header, tuple(managed), b"".join(packed))


def changes_of(png: Png) -> Changes | None:
    """
    Unpack a map; None where its lines need a full decoder.

    Raises:
        FormatError: I112, the lines are damaged; N716, they are noise and no ids.
    """
    if not png.is_rgb or png.interlaced:
        return None
    body = _unpacked(png)
    lines = np.frombuffer(body, np.uint8).reshape(png.height, -1)
    filters = body[:: 1 + 3 * png.width]
    if filters[0] <= _UP and filters.count(_UP, 1) == png.height - 1:
        return _changes(lines)
    if max(filters) > _PAETH:
        raise FormatError("PNG has an unknown filter", code="I112")
    if max(filters) > _UP:
        return None
    blank = np.flatnonzero(lines[1:, 0] == _NONE) + 1
    if png.width > 4 and _SUB not in filters[1:] and not np.count_nonzero(lines[blank]):
        return _with_blanks(_changes(lines), lines, blank)
    return _changes(_all_up(lines))


def changes_of_rgb(rgb: NDArray[np.uint8]) -> Changes:
    """
    The changes of pixels that are decoded already, (H, W, 3).

    Raises:
        FormatError: N716, they are noise and no ids.
    """
    height, width, _ = rgb.shape
    lines = np.full((height, 1 + 3 * width), _UP, dtype=np.uint8)
    pixels = rgb.reshape(height, 3 * width)
    lines[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=lines[1:, 1:])
    return _changes(lines)


def id_runs(maps: Sequence[Changes]) -> IdRuns:
    """
    The runs of maps of one size; void, id 0, is nobody's.

    Many maps at a time share the cost of numpy's calls, up to 2^30 pixels.
    """
    height, width = maps[0].height, maps[0].width
    columns = len(maps) * width
    start, channel, step = _below(maps, height, width)
    start = np.concatenate([np.arange(columns, dtype=np.int32) * height, start])
    column = (start // height).astype(np.min_scalar_type(columns))
    order = np.argsort(column, kind="stable")  # rows are in order; 16 bits take a radix sort
    start = start.take(order)
    ids = _summed(np.concatenate([m.top for m in maps], axis=1), channel, step, order)
    if channel.max(initial=0):
        whole = np.flatnonzero(np.diff(start, append=-1))  # the last byte of each pixel
        start, ids = start.take(whole), ids.take(whole)
    new = np.ones(len(start) + 1, dtype=np.bool_)  # and where the last one ends
    np.not_equal(ids[1:], ids[:-1], out=new[1:-1])
    new[np.searchsorted(start, np.arange(0, columns, width, dtype=np.int32) * height)] = True
    some = ids != 0
    first, final = np.flatnonzero(new[:-1] & some), np.flatnonzero(new[1:] & some)
    stop = np.append(start[1:], np.int32(columns * height)).take(final)
    return IdRuns(height, width, start.take(first), stop, ids.take(first))


def _below(
    maps: Sequence[Changes], height: int, width: int
) -> tuple[Ints, NDArray[np.uint8], NDArray[np.uint8]]:
    """
    The bytes below the first lines that are not 0, line by line.

    Gives the column-major position of each in the maps side by side, its channel and the byte
    itself, (B,) each.
    """
    stride = 1 + 3 * width
    at = np.concatenate([m.at for m in maps], dtype=np.int32, casting="unsafe")
    words = np.concatenate([m.words for m in maps])
    top, inside = divmod(stride, 8)  # in this word, after so many bytes, the first line ends
    early = np.flatnonzero(at <= top)
    words[early] &= np.where(at[early] < top, _NOTHING, ~_NOTHING << np.uint64(8 * inside))
    last = 8 * at + 7  # the last byte of each word
    line = last // stride
    last -= line * stride  # ... in its line; those before it may be in the line above
    line += np.repeat(
        np.arange(len(maps), dtype=np.int32) * (height * width), [len(m.at) for m in maps]
    )
    filters = np.flatnonzero(last < 8)
    words[filters] &= _without_filters(stride).take(last.take(filters))
    some = words.view(np.uint8)
    found = np.flatnonzero(some != 0)
    above, byte = np.divmod(np.arange(-7, stride, dtype=np.int32), stride)
    column, channel = np.divmod(byte - 1, 3)
    word = found >> 3
    place = last.take(word) + (found & 7)
    start = (column * height + above).take(place)
    start += line.take(word)
    return start, channel.astype(np.uint8).take(place), some.take(found)


def _without_filters(stride: int) -> NDArray[np.uint64]:
    """
    What to keep of a word whose last byte is this one of its line, (8,): all but the lines'
    first bytes.
    """
    at = np.arange(8)[:, None] + np.arange(-7, 1)
    return np.where(at % stride, 255, 0).astype(np.uint8).view(np.uint64).ravel()


def _summed(
    top: NDArray[np.uint8], channel: NDArray[np.uint8], step: NDArray[np.uint8], order: Ints
) -> Ints:
    """
    Ids, (C + B,): running sums down each column, modulo 256 in each channel.

    Args:
        top: pixels that the C columns begin with, (3, C).
        channel, step: how one channel differs from the pixel above, (B,).
        order: where these are, down each column, the tops being the first C of all, (C + B,).
    """
    none = np.zeros_like(top[0])
    first = np.flatnonzero(order < len(none))
    many = np.diff(first, append=len(order))
    ids = np.zeros(len(order), dtype=np.int32)
    wide = channel.max(initial=0) or top[1:].max()
    for c in range(3 if wide else 1):  # one channel, where ids are small
        mine = step * (channel == c) if wide else step
        total = np.cumsum(np.append(none, mine).take(order), dtype=np.uint8)
        total += np.repeat(top[c] - total.take(first), many)
        ids |= total.astype(np.int32) << 8 * c
    return ids


def _changes(lines: NDArray[np.uint8]) -> Changes:
    """
    The changes of lines (H, 1 + 3 W), each with its filter: Up, and any simple one on the first.
    """
    height, stride = lines.shape
    raw = lines.reshape(-1)
    whole = len(raw) & ~7
    words = raw[:whole].view(np.uint64)
    at = np.flatnonzero(words != 0)
    if len(at) > MAX_CHANGES:
        raise FormatError(
            f"{len(at):,} places differ from those above: noise, and no map of ids", code="N716"
        )
    words = words.take(at)
    if whole < len(raw):
        at, words = np.append(at, whole >> 3), np.append(words, _word(raw[whole:]))
    top = raw[1:stride].reshape(-1, 3).T
    top = np.cumsum(top, axis=1, dtype=np.uint8) if raw[0] == _SUB else top.copy()
    return Changes(height, top.shape[1], top, at, words)


def _word(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A copy of bytes as words of 8, with zeros at the end."""
    words = np.zeros(len(raw) + 7 >> 3, dtype=np.uint64)
    words.view(np.uint8)[: len(raw)] = raw
    return words


def _with_blanks(changes: Changes, lines: NDArray[np.uint8], blank: Ints) -> Changes:
    """
    The changes of a map some of whose lines are 0 in place of differences, as ours without a
    segment are: the first of several has what takes the line above it back to 0.

    No two words of 8 bytes may belong to two such lines and one between them.
    """
    stride = lines.shape[1]
    raw = lines.reshape(-1)
    firsts = blank[np.diff(blank, prepend=-1) > 1].tolist()
    stops = (blank[np.diff(blank, append=len(lines) + 1) > 1] + 1).tolist()
    at, words = [], []
    above, row, done = changes.top.T.ravel(), 1, 0
    for first, stop in zip(firsts, stops, strict=True):
        above = above + np.add.reduce(lines[row:first, 1:], axis=0, dtype=np.uint8)
        low, high = first * stride >> 3, (first + 1) * stride + 7 >> 3
        part = raw[8 * low : 8 * high].copy()
        part[first * stride - 8 * low + 1 :][: stride - 1] = np.negative(above)
        new = _word(part)
        some = np.flatnonzero(new != 0)
        begin, end = changes.at.searchsorted([low, high]).tolist()
        at += [changes.at[done:begin], some + low]
        words += [changes.words[done:begin], new[some]]
        above, row, done = np.zeros_like(above), stop, end
    at.append(changes.at[done:])
    words.append(changes.words[done:])
    return replace(changes, at=np.concatenate(at), words=np.concatenate(words))


def _all_up(lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lines (H, 1 + 3 W) that have the filters None, Sub and Up, with Up on each of them."""
    stride = lines.shape[1]
    up = lines.copy()
    up[:, 0] = _UP
    pixels = up[:, 1:]
    sub = np.flatnonzero(lines[:, 0] == _SUB)
    steps = pixels[sub].reshape(len(sub), stride // 3, 3)
    pixels[sub] = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(len(sub), stride - 1)
    known = np.flatnonzero(np.append(True, lines[1:, 0] != _UP))  # pixels, and no differences
    above = pixels[known[:-1]]
    for i in np.flatnonzero(np.diff(known) > 1).tolist():
        below = pixels[known[i] + 1 : known[i + 1]]
        above[i] += np.add.reduce(below, axis=0, dtype=np.uint8)
    pixels[known[1:]] -= above
    return up


def _unpacked(png: Png) -> bytes:
    """Each line's filter and bytes, H (1 + 3 W), and not one byte more than that."""
    size = png.height * (1 + 3 * png.width)
    try:
        body = _inflated(png.packed, size)
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub has it as an instance
        raise FormatError(f"PNG is damaged: {error}", code="I112") from None
    if len(body) != size:
        raise FormatError(f"PNG does not hold {png.height} lines of its width", code="I112")
    return body


def _inflated(packed: bytes, size: int) -> bytes:
    """What a zlib stream holds; of more than it should, 64 MiB or a byte at the most."""
    most = len(packed) * _MOST_RATIO
    if most <= 2**26:  # in one go, into memory that need not grow
        return zlib_ng.decompress(packed, bufsize=min(size, most) + 1)
    unpack = zlib_ng.decompressobj()
    body = unpack.decompress(packed, size + 1)
    return body if unpack.eof else b""


def _chunks(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each chunk up to the end; what follows it is no picture."""
    if not body.startswith(_MAGIC):
        raise FormatError("not a PNG", code="I112")
    at, kind = len(_MAGIC), b""
    while kind != b"IEND":
        if at + 12 > len(body):
            raise FormatError("PNG is cut short", code="I112")
        length, kind = struct.unpack_from(">I4s", body, at)
        end = at + 12 + length
        if end > len(body):
            raise FormatError("PNG is cut short", code="I112")
        (checksum,) = struct.unpack_from(">I", body, end - 4)
        if zlib_ng.crc32(body[at + 4 : end - 4]) != checksum:
            raise FormatError(f"PNG is damaged: checksum of {kind!r}", code="I112")
        if kind[0] & 0x20 == 0 and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            raise FormatError(f"PNG has an unknown critical chunk {kind!r}", code="I112")
        yield kind, body[at + 8 : end - 4]
        at = end


def _header(data: bytes) -> tuple[int, int, int, int, bool]:
    """Height, width, depth, colour type, interlaced?"""
    if len(data) != 13:
        raise FormatError("PNG has a broken header", code="I112")
    width, height, depth, colour, *methods, interlace = struct.unpack(">IIBBBBB", data)
    if depth not in _DEPTHS.get(colour, ()) or any(methods) or interlace > 1:
        raise FormatError("PNG has a header that the standard does not know", code="I112")
    if not (0 < height < 2**31 and 0 < width < 2**31):
        raise FormatError(f"PNG is {height}x{width}", code="I112")
    if height * width > MAX_PIXELS:
        raise FormatError(f"PNG is {height}x{width}, more than {MAX_PIXELS:,} pixels", code="I119")
    return height, width, depth, colour, interlace == 1
