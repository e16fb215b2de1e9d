"""
PNGs that hold maps of ids: strictly checked, and read as runs without a dense map.

The residuals of filter Up are not zero just where an id begins or ends within its column. So
in a file whose every line but the first has that filter, as ours have, the few bytes that are
not zero are the column-major runs, and nothing else has to be looked at. Lines with the filters
None, Sub and Paeth are turned into such residuals first; filter Average, palettes and interlaced
files need a full decoder (images.py), whose pixels are then read in the same way.

Structure and filters: https://www.w3.org/TR/png-3/, sections 5, 9, 10 and 11.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

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
_AnyInts = NDArray[np.integer[Any]]
_LEAST = 2**12  # pixels that may be looked at one by one in any map;
_PIXEL = 20  # in a large one, this part of all, since a decoder is so much quicker;
_LINE = 48  # a line that is looked at takes as long as these
_MOST_BLANK = 2**20  # bytes of lines that are void and stored as such
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)
_NONES = re.compile(rb"\0+")


class Png(NamedTuple):
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


class Changes(NamedTuple):
    """
    The first line of a map, and where the pixels below it differ from the one above.

    The map's lines after filter Up, 1 + 3 W bytes each, as words of 8 bytes: those not all 0
    from the one on in which the first line ends.
    """

    height: int
    width: int
    first: NDArray[np.uint8]  # (1 + 3 W,), the first line, with its filter: None, Sub or Up
    blank: tuple[int, ...]  # lines of void that are stored as such, the first of several
    at: Ints  # (K,), the number of each word
    words: NDArray[np.uint64]  # (K,)

    @property
    def weight(self) -> int:
        """How much work it is: words, and pixels that stand for themselves."""
        return len(self.at) + self.width * (1 + len(self.blank))


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


def check_chunks(body: bytes) -> None:
    """
    Check that a PNG is whole: all chunks up to the last one, and their checksums.

    Raises:
        FormatError: I112, it is no PNG, damaged or cut short.
    """
    for _ in _chunks(body):
        pass


def changes_of(png: Png) -> Changes | None:
    """
    Unpack a map; None where its lines need a full decoder.

    Raises:
        FormatError: I112, the lines are damaged; N716, they are noise and no ids.
    """
    if not png.is_rgb or png.interlaced:
        return None
    body = _unpacked(png)
    stride = 1 + 3 * png.width
    filters = body[::stride]
    if filters[0] <= _UP and filters.count(_UP, 1) == png.height - 1:
        return _changes(body, stride)
    if max(filters) > _PAETH:
        raise FormatError("PNG has an unknown filter", code="I112")
    if _AVERAGE in filters:
        return None
    lines = np.frombuffer(body, np.uint8).reshape(png.height, stride)
    if (blank := _blank(lines, filters)) is not None:
        return _changes(lines, stride, blank)
    up = _all_up(lines)
    return None if up is None else _changes(up, stride)


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
    return _changes(lines, lines.shape[1])


def id_runs(maps: Sequence[Changes]) -> IdRuns:
    """
    The runs of maps of one size; void, id 0, is nobody's.

    Many maps at a time share the cost of numpy's calls, up to 2^29 pixels.
    """
    height, width = maps[0].height, maps[0].width
    columns = len(maps) * width
    steps = _steps(maps)
    order = np.argsort(steps.column, kind="stable")  # 16 bits take a radix sort
    place = steps.place.take(order)
    ids = _summed(place & 3, steps.step.take(order))
    place >>= 2
    if ids.max() > 0xFF:
        whole = np.flatnonzero(np.diff(place, append=-1))  # the last byte of each pixel
        place, ids = place.take(whole), ids.take(whole)
    edges = np.append(place, np.int32(columns * height))
    new = np.ones(len(edges), dtype=np.bool_)  # and where the last one ends
    np.not_equal(ids[1:], ids[:-1], out=new[1:-1])
    new[np.searchsorted(place, np.arange(0, columns, width, dtype=np.int32) * height)] = True
    some = ids != 0
    first, final = np.flatnonzero(new[:-1] & some), np.flatnonzero(new[1:] & some)
    return IdRuns(height, width, edges.take(first), edges[1:].take(final), ids.take(first))


class _Steps(NamedTuple):
    """
    What ids are summed up from, in maps side by side.

    A place is 4 (column * height + row) + c. With c = 1, 2, 3 the step is a red, green or blue
    byte, less the one above it; with c = 0 it is an id, where nothing above counts: on the first
    line, and where void begins that is stored as such.
    """

    column: _AnyInts  # (B,)
    place: Ints  # (B,), in order within each column
    step: _AnyInts  # (B,)

    def part(self, begin: int, end: int) -> _Steps:
        """Some in a row."""
        return _Steps(self.column[begin:end], self.place[begin:end], self.step[begin:end])


def _steps(maps: Sequence[Changes]) -> _Steps:
    """The first lines, and then map by map and line by line what comes below them."""
    height, width = maps[0].height, maps[0].width
    columns = len(maps) * width
    numbers = np.arange(columns, dtype=np.min_scalar_type(columns))
    tops = np.arange(columns, dtype=np.int32) * (4 * height)
    void = np.zeros(width, dtype=np.uint8)
    below, row, begin = _below(maps)
    parts, done = [_Steps(numbers, tops, _first_ids(maps))], 0
    for m, first, stop, left in zip(maps, begin, begin[1:], range(0, columns, width), strict=False):
        for blank in m.blank:
            at = first + int(row[first:stop].searchsorted(blank))
            mine = slice(left, left + width)
            parts.append(below.part(done, at))
            parts.append(_Steps(numbers[mine], tops[mine] + 4 * blank, void))
            done = at
    parts.append(below.part(done, len(below.place)))
    return _Steps(
        np.concatenate([p.column for p in parts]),
        np.concatenate([p.place for p in parts]),
        np.concatenate([p.step for p in parts]),
    )


def _first_ids(maps: Sequence[Changes]) -> _AnyInts:
    """The ids of the first lines, (C,), of 8 bits where these will do."""
    lines = np.concatenate([m.first for m in maps]).reshape(len(maps), -1)
    sub = lines[:, 0] == _SUB
    pixels = lines[:, 1:].reshape(len(maps), -1, 3)
    ids = _first_bytes(pixels[..., 0], sub)
    if np.any(np.bitwise_or.reduce(lines, axis=0)[1:].reshape(-1, 3)[:, 1:]):
        ids = ids.astype(np.int32)
        for c in (1, 2):
            ids |= _first_bytes(pixels[..., c], sub).astype(np.int32) << 8 * c
    return ids.ravel()


def _first_bytes(lines: NDArray[np.uint8], sub: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """One channel of the first lines, (M, W), as pixels; `sub` are those that have filter Sub."""
    values = lines.astype(np.int32)
    values[sub] = np.cumsum(values[sub], axis=1)
    return values.astype(np.uint8)


def _below(maps: Sequence[Changes]) -> tuple[_Steps, Ints, list[int]]:
    """
    The bytes below the first lines that are not 0, map by map and line by line.

    Gives with them the row of each, (B,), and where those of each map begin, and their number.
    """
    height, width = maps[0].height, maps[0].width
    stride = 1 + 3 * width
    words = np.concatenate([m.words for m in maps])
    at = np.concatenate([m.at for m in maps], dtype=np.int32, casting="unsafe")
    at += stride >> 3
    at <<= 3
    last = at + 7
    last -= last // stride * stride  # % takes several times as long
    words &= _without_filters(stride).take(last, mode="clip")
    found = np.flatnonzero(words.view(np.uint8) != 0)
    at -= np.arange(0, 8 * len(at), 8, dtype=np.int32)
    byte = at.take(found >> 3)
    byte += found
    row = byte // stride
    byte -= row * stride
    column = (byte - 1) // 3
    byte -= 3 * column  # 1, 2, 3 for red, green, blue
    begin = found.searchsorted(8 * np.cumsum([0, *(len(m.at) for m in maps)]))
    column += np.repeat(np.arange(len(maps), dtype=np.int32) * width, np.diff(begin))
    place = column * height
    place += row
    place <<= 2
    place += byte
    column = column.astype(np.min_scalar_type(len(maps) * width))
    return _Steps(column, place, words.view(np.uint8).take(found)), row, begin.tolist()


def _without_filters(stride: int) -> NDArray[np.uint64]:
    """
    What to keep of a word whose last byte is this one of its line, or one behind: all but the
    lines' first bytes, (9,).
    """
    at = np.arange(9)[:, None] + np.arange(-7, 1)
    return np.where(at % stride, 255, 0).astype(np.uint8).view(np.uint64).ravel()


def _summed(channel: Ints, step: _AnyInts) -> _AnyInts:
    """
    Ids, (B,): running sums from each known one on, modulo 256 in each channel.

    Args:
        channel: 0 where the step is an id that is known, 1, 2 or 3 where it is a byte, (B,).
    """
    known = np.flatnonzero(channel == 0)
    if channel.max() < 2 and step.dtype == np.uint8:  # one channel, as ids are small
        return _chained(step.astype(np.uint8, copy=False), known)
    ids = np.zeros_like(channel)
    for c in range(3):
        mine = np.where(channel == 0, step >> 8 * c & 0xFF, step * (channel == c + 1))
        ids |= _chained(mine.astype(np.uint8), known).astype(np.int32) << 8 * c
    return ids


def _chained(step: NDArray[np.uint8], known: Ints) -> NDArray[np.uint8]:
    """Running sums modulo 256 that begin anew at each known step; the steps are changed."""
    before = np.cumsum(step, dtype=np.int32).take(known)  # as 8 bits it takes three times as long
    before -= step.take(known)
    step[known[1:]] -= (before[1:] - before[:-1]).astype(np.uint8)  # what the last one came to
    return np.cumsum(step, dtype=np.int32).astype(np.uint8)


def _blank(lines: NDArray[np.uint8], filters: bytes) -> tuple[int, ...] | None:
    """
    Lines that are void and stored as such, the first of several, among others with filter Up.

    None where there are other lines, or too many of these.
    """
    if filters[0] > _UP or filters[1:].translate(None, bytes((_NONE, _UP))):
        return None
    blank: list[int] = []
    for several in _NONES.finditer(filters, 1):
        first, stop = several.span()
        if np.any(lines[first:stop]) or len(blank) * lines.shape[1] > _MOST_BLANK:
            return None
        blank.append(first)
    return tuple(blank)


def _changes(lines: bytes | NDArray[np.uint8], stride: int, blank: tuple[int, ...] = ()) -> Changes:
    """
    The changes of lines of 1 + 3 W bytes, each with its filter: Up, but for blank ones, and any
    simple one on the first.
    """
    raw = np.frombuffer(lines, np.uint8)
    begin, whole = stride & ~7, len(raw) & ~7
    words = raw[begin:whole].view(np.uint64)
    at = np.flatnonzero(words != 0)
    if len(at) > MAX_CHANGES:
        raise FormatError(
            f"{len(at):,} places differ from those above: noise, and no map of ids", code="N716"
        )
    words = words.take(at)
    if whole < len(raw):
        at, words = np.append(at, (whole - begin) >> 3), np.append(words, _word(raw[whole:]))
    if len(at) and not at[0]:
        words.view(np.uint8)[: stride - begin] = 0
    height, width = len(raw) // stride, stride // 3
    return Changes(height, width, raw[:stride].copy(), blank, at, words)


def _word(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A copy of bytes as words of 8, with zeros at the end."""
    words = np.zeros(len(raw) + 7 >> 3, dtype=np.uint64)
    words.view(np.uint8)[: len(raw)] = raw
    return words


def _all_up(lines: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """
    Lines (H, 1 + 3 W) that have the filters None, Sub, Up and Paeth, with Up on each of them.

    None where there is so much to do that a decoder is quicker.
    """
    height, stride = lines.shape
    up = lines.copy()
    up[:, 0] = _UP
    pixels = up[:, 1:]
    channels = np.flatnonzero(np.bitwise_or.reduce(pixels, axis=0).reshape(-1, 3).any(axis=0))
    filters = lines[:, 0].copy()
    filters[0] = _SUB if filters[0] == _PAETH else filters[0]  # nothing is above it
    known = np.flatnonzero(np.append(True, filters[1:] != _UP))  # pixels, and no differences
    sub, paeth = (np.flatnonzero(filters[known] == f) for f in (_SUB, _PAETH))
    gaps = np.flatnonzero(np.diff(known) > 1)
    left = max(_LEAST, height * (stride // 3) // _PIXEL)
    left -= _LINE * (len(gaps) + len(paeth) * max(1, len(channels)))
    if left < 0:
        return None
    added = np.zeros((len(known) - 1, stride - 1), dtype=np.uint8)  # by the lines between them
    for i in gaps.tolist():
        added[i] = np.add.reduce(pixels[known[i] + 1 : known[i + 1]], axis=0, dtype=np.uint8)
    for c in channels.tolist():
        plane, between = pixels[known, c::3], np.ascontiguousarray(added[:, c::3])
        plane[sub] = _undone_sub(plane[sub])
        left -= _undo_paeth(plane, between, paeth, left)
        if left < 0:
            return None
        pixels[0, c::3] = plane[0]
        pixels[known[1:], c::3] = plane[1:] - plane[:-1] - between
    return up


def _undone_sub(lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel of lines (L, W), from what filter Sub has left: few are not 0."""
    flat, width = lines.ravel(), lines.shape[1]
    new = flat != 0
    new[::width] = True
    at = np.flatnonzero(new)
    sums = np.cumsum(flat.take(at), dtype=np.uint32)
    begin = at.searchsorted(np.arange(0, len(flat), width))
    before = sums.take(begin) - flat.take(at.take(begin))
    sums -= np.repeat(before, np.diff(begin, append=len(at)))
    values = np.repeat(sums.astype(np.uint8), np.diff(at, append=len(flat)))
    return values.reshape(lines.shape)


def _undo_paeth(lines: NDArray[np.uint8], added: NDArray[np.uint8], paeth: Ints, most: int) -> int:
    """
    Turn one channel of lines that have filter Paeth into pixels, in place, one after the other.

    Gives how many steps that took; it ends when these are more than `most`.

    Args:
        lines: (L, W), the others pixels already.
        added: (L - 1, W), by lines between each and the next one.
        paeth: the numbers of those to turn, ascending.
    """
    width, steps = lines.shape[1], 0
    rests = lines[paeth]
    at = np.flatnonzero(rests)
    ends = at.searchsorted(np.arange(0, rests.size + 1, width)).tolist()
    columns, values = (at % width).tolist(), rests.ravel().take(at).tolist()
    for line, (begin, end) in zip(paeth.tolist(), pairwise(ends), strict=True):
        above = (lines[line - 1] + added[line - 1]).tobytes()
        done, more = _undone_paeth(columns[begin:end], values[begin:end], above)
        lines[line] = np.frombuffer(done, np.uint8)
        steps += more
        if steps > most:
            break
    return steps


_ONE = [bytes((value,)) for value in range(256)]


def _undone_paeth(at: list[int], rests: list[int], above: bytes) -> tuple[bytearray, int]:
    """
    One channel of a line, from what filter Paeth has left of it and the line above, (W,).

    Where nothing is left and the pixel to the left is as the one above it, so is this one. So a
    line is that above but for stretches that begin with a rest, and in a stretch nothing happens
    until the next rest or the next change above. Gives how often something did, too.

    Args:
        at, rests: what is left, and where: not 0.
    """
    line, width, steps, following = bytearray(above), len(above), len(at), 0
    while following < len(at):
        begin = at[following]
        c = above[begin]
        a = (c + rests[following]) & 0xFF
        following += 1
        while a != c:  # the last pixel, and the one above it
            stop = at[following] if following < len(at) else width
            same = above[begin + 1 : stop]
            end = stop - len(same.lstrip(_ONE[c]))
            line[begin:end] = _ONE[a] * (end - begin)
            if end == width:
                break
            b, rest = above[end], 0
            if end == stop:
                rest = rests[following]
                following += 1
            if b != c:
                to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                if to_a > to_b or to_a > to_c:
                    a = b if to_b <= to_c else c
            a, c, begin = (a + rest) & 0xFF, b, end
            steps += 1
    return line, steps


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
