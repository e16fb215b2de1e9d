"""
PNG of maps of ids, straight from runs: no pixel is ever unpacked.

A map is written as 8-bit RGB, id = R + 256 G + 65536 B, with filter Up (PNG 1.2, 6.3) on every
line but the first, which has Sub, and those without a segment, which have none. Filtered bytes
are then zero except where an id ends and another begins, and the boundaries of column-major runs
are exactly the places where filter Up finds a difference: a few thousand of a million bytes. The
deflate stream (RFC 1951) is made of these alone: their bytes as literals, equal neighbours as
matches of distance 3, the zeros between them as matches of distance 1, in one block with Huffman
codes of its own.

So the cost goes by boundaries, not by pixels, and files are smaller than those of a general
compressor at its usual levels. Nothing but integer arithmetic decides: the same map is the same
bytes on every machine and with every version of every library.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..shapes.runs import heads

Ints = NDArray[np.integer[Any]]
Words = NDArray[np.uint64]

_TOGETHER = 2**29  # bytes of filtered lines; places of all maps of a group have 32 bits
_SINGLE = 1 << 24  # of a key: a byte of its own, not a pixel
_LONGEST = 258  # bytes of the longest match that deflate knows
_MOST = _LONGEST // 3 + 1  # equal neighbours in one event: a pixel, and one match of the rest
_LIMIT = 11  # bits of the longest Huffman code; three, a match and a zero fit into 64
_SYMBOLS = 286
_END = 256  # the symbol that ends a block


class IdMap(Protocol):
    """
    A map of ids (height, width) as runs, as `runs.IdRuns` is: ordered, without overlap.

    Run i gives the column-major pixels start[i] .. stop[i] - 1 to id[i], which is below 2^24;
    pixels without a run have id 0.
    """

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def start(self) -> Ints: ...
    @property
    def stop(self) -> Ints: ...
    @property
    def id(self) -> Ints: ...


def encode(maps: Sequence[IdMap]) -> list[bytes]:
    """The PNG file of each map. Many small maps are done much faster together than one by one."""
    files: list[bytes] = []
    for group in _groups(maps):
        events = _events(group)
        tokens = _tokens(events)
        lengths = _code_lengths(_histogram(events, tokens))
        streams = _pack(_header(lengths), _body(events, tokens, _codes(lengths)))
        for m, stream, checksum in zip(group, streams, _adler(events), strict=True):
            files.append(_file(m, stream, checksum))
    return files


def _groups(maps: Sequence[IdMap]) -> Iterator[Sequence[IdMap]]:
    begin = total = 0
    for i, m in enumerate(maps):
        size = m.height * (1 + 3 * m.width)
        if i > begin and total + size > _TOGETHER:
            yield maps[begin:i]
            begin, total = i, 0
        total += size
    if begin < len(maps):
        yield maps[begin:]


def _file(m: IdMap, stream: bytes, checksum: int) -> bytes:
    header = struct.pack(">IIBBBBB", m.width, m.height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    body = b"".join((b"\x78\x01", stream, struct.pack(">I", checksum)))
    parts = (b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header), _chunk(b"IDAT", body), _IEND)
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)))


_IEND = _chunk(b"IEND", b"")


# ── what the filtered lines hold ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Events:
    """
    What is not zero in the filtered lines of all maps, in order.

    An event is a byte that says a line's filter, or up to `_MOST` pixels side by side with one
    difference, or the end of a map.
    """

    map: Ints  # (E,), ascending
    value: Ints  # (E,), 1 or 2 for a filter, `_END`, or three bytes R + 256 G + 65536 B
    single: NDArray[np.bool_]  # (E,), a filter or an end; else pixels
    times: Ints  # (E,), number of pixels
    gap: Ints  # (E,), zeros up to the next event
    left: Ints  # (E,), bytes from here to the end of the map
    first: Ints  # (K,), the first event of each map
    size: Ints  # (K,), bytes of all filtered lines of a map
    many: Ints  # which events have several pixels
    wide: Ints  # and of which more than the first byte is not zero: ids above 255 are there


def _events(maps: Sequence[IdMap]) -> _Events:
    height = np.array([m.height for m in maps], dtype=np.int32)
    width = np.array([m.width for m in maps], dtype=np.int32)
    size = height.astype(np.int64) * (1 + 3 * width)
    base = np.cumsum(size + 1) - size - 1  # the end of a map takes a place of its own
    key = _keys(maps, height, width, base)
    key.sort()
    new = np.ones(len(key), dtype=np.bool_)
    np.not_equal(key[1:] - key[:-1], 3 << 25, out=new[1:])
    head = np.flatnonzero(new)
    times = _spans(head, len(key))
    if times.max() > _MOST:
        nth = np.arange(len(key)) - np.repeat(head, times)
        head = np.flatnonzero(nth % _MOST == 0)
        times = _spans(head, len(key))
    key = key.take(head)
    at = (key >> 25).astype(np.int32)
    low = key.astype(np.int32)
    value, single = low & 0xFFFFFF, (low & _SINGLE) != 0
    many = np.flatnonzero(times > 1)
    gap = _spans(at, int(at[-1]) + 1) - 3 + (single.view(np.int8) << 1)
    gap[many] -= (3 * (times.take(many) - 1)).astype(np.int32)
    first = np.searchsorted(at, base.astype(np.int32))
    events = _spans(first, len(at))
    number = np.repeat(np.arange(len(maps), dtype=np.int32), events)
    left = np.repeat((base + size).astype(np.int32), events) - at
    wide = np.flatnonzero((value > 0xFF) & ~single)
    return _Events(
        number, value, single, times.astype(np.int32), gap, left, first, size, many, wide
    )


def _spans(first: Ints, end: int) -> Ints:
    """How long each of several groups in a row is that begin at `first`, one at least."""
    spans = np.empty_like(first)
    np.subtract(first[1:], first[:-1], out=spans[:-1])
    spans[-1] = end - first[-1]
    return spans


def _keys(maps: Sequence[IdMap], height: Ints, width: Ints, base: Ints) -> Ints:
    """
    Keys of the pixels whose filtered bytes are not all zero, of the filters of lines, and of ends.

    A key is place << 25 | R + 256 G + 65536 B; `_SINGLE` marks what is no pixel. Most is done
    for all runs in a row, also for those that do not need it, since gathering these costs more.
    """
    start = np.concatenate([m.start for m in maps], dtype=np.int32)
    stop = np.concatenate([m.stop for m in maps], dtype=np.int32)
    id_ = np.concatenate([m.id for m in maps], dtype=np.int32)
    runs = np.array([len(m.start) for m in maps])
    high = np.repeat(height, runs) if np.ptp(height) else height[0]  # division by one is faster
    across = np.repeat(3 * width, runs) if np.ptp(width) else 3 * width[0]
    column, end = start // high, (stop - 1) // high
    row, below = start - column * high, stop - end * high
    origin = np.repeat(base.astype(np.int32) + 1, runs)
    left, right = origin + 3 * column, origin + 3 * end  # in the first line
    touching = np.zeros(len(start) + 1, dtype=np.bool_)  # the run before
    np.equal(start[1:], stop[:-1], out=touching[1:-1])
    touching[np.cumsum(runs)] = False

    # where a run starts below the top, and where one ends above the bottom with none behind it
    wide = bool(id_.max(initial=0) > 0xFF)
    value, bare = _changes(id_, touching, wide)
    starts = np.flatnonzero((row > 0) & (value != 0))
    ends = np.flatnonzero(bare & (below < high))
    filters = _filters(height, 1 + 3 * width, base)

    # a line without a segment is zero as it is, also below one with segments
    if np.dot(stop - start, id_ != 0) + width.min() <= np.dot(height, width):
        first = np.cumsum(height) - height
        line, owned = np.repeat(first, runs), np.flatnonzero(id_)
        crossing = column < end
        top, bottom = np.where(crossing, 0, row), np.where(crossing, high, below)
        used = _used(first, int(height.sum()), (line + top)[owned], (line + bottom)[owned])
        starts = starts[used.take((line + row).take(starts))]
        ends = ends[used.take((line + below).take(ends))]
        filters = filters[used]

    size = height.astype(np.int64) * (1 + 3 * width)
    return np.concatenate(
        [
            _keyed(left + row * (1 + across), value, starts),
            _keyed(right + below * (1 + across), _difference(np.int32(0), id_, wide), ends),
            *_tops(left + 3 * (row > 0), right + 3, origin + across, id_, wide),
            filters,
            (base + size) << 25 | _SINGLE | _END,
        ]
    )


def _keyed(place: Ints, value: Ints, index: Ints) -> Ints:
    """The keys of some places, in 64 bits."""
    return place.take(index).astype(np.int64) << 25 | value.take(index)


def _changes(id_: Ints, touching: NDArray[np.bool_], wide: bool) -> tuple[Ints, NDArray[np.bool_]]:
    """
    Of runs in a row, what each differs by from what is before it, and which have void behind.

    Args:
        touching: does each begin where the one before it ends, and last, does any after it?
    """
    before = np.zeros_like(id_)
    np.multiply(id_[:-1], touching[1:-1], out=before[1:])
    return _difference(id_, before, wide), (id_ != 0) & ~touching[1:]


def _used(first: Ints, count: int, top: Ints, bottom: Ints) -> NDArray[np.bool_]:
    """Which of all lines need a filter: those between a top and a bottom, and all first ones."""
    steps = np.bincount(top, minlength=count + 1)
    steps -= np.bincount(bottom, minlength=count + 1)
    used = np.cumsum(steps)[:-1] > 0
    used[first] = True
    return used


def _tops(begin: Ints, end: Ints, beyond: Ints, id_: Ints, wide: bool) -> tuple[Ints, Ints]:
    """
    Keys of the first lines, each pixel less the one to its left; runs reach columns' tops.

    Args:
        begin, end: between which places each run reaches the tops; many reach none.
        beyond: the first place behind the line.
    """
    some = np.flatnonzero(begin < end)
    begin, end, id_ = begin.take(some), end.take(some), id_.take(some)
    touching = np.zeros(len(some) + 1, dtype=np.bool_)
    np.equal(begin[1:], end[:-1], out=touching[1:-1])  # those of two maps never do
    value, bare = _changes(id_, touching, wide)
    ends = np.flatnonzero(bare & (end < beyond.take(some)))
    return (
        _keyed(begin, value, np.flatnonzero(value)),
        _keyed(end, _difference(np.int32(0), id_, wide), ends),
    )


def _difference(new: Ints | np.int32, old: Ints, wide: bool) -> Ints:
    """Of two colours, byte by byte, modulo 256; of one byte where they are not `wide`."""
    low: Ints = (new - old) & 0xFF
    for s in (8, 16) if wide else ():
        low |= ((new >> s) - (old >> s) & 0xFF) << s
    return low


def _filters(height: Ints, stride: Ints, base: Ints) -> Ints:
    """Keys of the filter bytes of all lines: Sub for the first, Up for others."""
    lines = zip(base.tolist(), height.tolist(), stride.tolist(), strict=True)
    place = np.concatenate([np.arange(b, b + h * s, s) for b, h, s in lines])
    keys: Ints = place << 25 | (_SINGLE | 2)
    keys[np.cumsum(height) - height] -= 1
    return keys


# ── what deflate makes of it ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Tokens:
    """
    How each event and the zeros after it are spelled, in this order: (E,) each.

    Its first literal; two more where it has several pixels, and one or two where it is `wide`;
    a match of distance 3 that repeats the pixel `times` - 1 times; one zero if `opened`, since a
    match of distance 1 repeats a byte that has to be there; `long` matches of 258 zeros; the
    `rest` of the zeros, as a match or, below 3, as single bytes.
    """

    plain: Ints  # which events have several pixels and two zeros for literals
    third: Ints  # which wide ones have a third literal
    opened: NDArray[np.bool_]
    long: Ints
    rest: Ints  # 0 to 257


def _tokens(e: _Events) -> _Tokens:
    zeros = e.gap + 2  # behind the first byte
    zeros -= e.single.view(np.int8) << 1
    opened = zeros > 0
    opened[e.many] = False
    zeros[e.many] -= 2
    plain, third = e.many, e.wide
    if len(e.wide):
        several, high = e.times[e.wide] > 1, e.value[e.wide] > 0xFFFF
        zeros[e.wide] -= np.where(several, 0, 1 + high)
        opened[e.wide] = (zeros[e.wide] > 0) & (high | ~several)
        plain, third = np.setdiff1d(e.many, e.wide), e.wide[several | high]
    zeros -= opened
    long = zeros // _LONGEST
    return _Tokens(plain, third, opened, long, zeros - long * _LONGEST)


def _literal(e: _Events, index: Ints, nth: int) -> Ints:
    return e.value[index] >> 8 * nth & 0xFF


def _first_literal(e: _Events) -> Ints:
    if not len(e.wide):
        return e.value
    literal = e.value.copy()
    literal[e.wide] &= 0xFF
    return literal


def _histogram(e: _Events, t: _Tokens) -> Ints:
    """How often each map uses each symbol, (K, 286)."""
    row = e.map * np.int32(_SYMBOLS)
    used = (
        row + _first_literal(e),
        row + _SYMBOL_OF.take(t.rest),  # symbol 0 where it is no match
        row[e.wide] + _literal(e, e.wide, 1),
        row[t.third] + _literal(e, t.third, 2),
        row.take(e.many) + _SYMBOL_OF.take(3 * e.times.take(e.many) - 3),
    )
    counts = np.bincount(np.concatenate(used), minlength=len(e.first) * _SYMBOLS)
    counts = counts.reshape(-1, _SYMBOLS)
    zeros = t.opened + (t.rest - 1) * (t.rest < 3)
    zeros[t.plain] += 2
    counts[:, 0] += np.add.reduceat(zeros, e.first)
    counts[:, _SYMBOL_OF[_LONGEST]] += np.add.reduceat(t.long, e.first)
    return counts


def _symbols_of_matches() -> tuple[NDArray[np.int32], ...]:
    """Of each length up to 258: its symbol, and the value and number of its extra bits."""
    symbol, extra, bits = (np.zeros(_LONGEST + 1, dtype=np.int32) for _ in range(3))
    length = 3
    for s in range(257, 285):
        n = max(0, (s - 261) // 4)
        for i in range(1 << n):
            symbol[length], extra[length], bits[length] = s, i, n
            length += 1
    symbol[_LONGEST], extra[_LONGEST], bits[_LONGEST] = 285, 0, 0
    return symbol, extra, bits


_SYMBOL_OF, _EXTRA, _EXTRA_BITS = _symbols_of_matches()


# ── Huffman codes ────────────────────────────────────────────────────────────────────────────


def _code_lengths(counts: Ints) -> Ints:
    """Bits of the code of each symbol, for each map, (K, 286); 0 for what is not used."""
    lengths = np.zeros_like(counts)
    there = np.nonzero(counts)
    edges = np.searchsorted(there[0], np.arange(len(counts) + 1)).tolist()
    used = counts[there].tolist()
    lengths[there] = [n for a, b in pairwise(edges) for n in _complete(used[a:b])]
    return lengths


def _complete(counts: Sequence[int]) -> list[int]:
    """
    Lengths of a complete prefix code of at most `_LIMIT` bits, some 0.1 % from the best.

    Shannon's lengths leave room; it goes to those whose length was rounded up the most. There
    must be two symbols at least.
    """
    total = sum(counts)
    floor = (total >> _LIMIT - 1) + 1
    raised = total + len(counts) * floor - 1
    lengths = [(raised // (n + floor)).bit_length() for n in counts]
    room = (1 << _LIMIT) - sum([1 << _LIMIT - n for n in lengths])
    saved = [n << k for n, k in zip(counts, lengths, strict=True)]
    order = sorted(range(len(counts)), key=saved.__getitem__, reverse=True)
    while room:
        for i in order:
            cost = 1 << _LIMIT - lengths[i]
            if cost <= room and lengths[i] > 1:
                lengths[i] -= 1
                room -= cost
                if not room:
                    break
    return lengths


@dataclass(frozen=True, slots=True)
class _Bits:
    """Numbers of so many bits, the first bit lowest."""

    value: Words
    bits: Ints

    def take(self, index: Ints) -> _Bits:
        return _Bits(self.value.take(index), self.bits.take(index))

    def put(self, index: Ints, other: _Bits) -> None:
        """Set some of them."""
        self.value[index], self.bits[index] = other.value, other.bits

    @classmethod
    def of(cls, parts: Sequence[_Bits]) -> _Bits:
        return cls(
            np.concatenate([p.value for p in parts]), np.concatenate([p.bits for p in parts])
        )

    def where(self, there: NDArray[np.bool_]) -> _Bits:
        """Nothing elsewhere."""
        return _Bits(self.value * there, self.bits * there)

    def then(self, other: _Bits) -> _Bits:
        """Each number and then the other's, which must fit into 64 bits together."""
        moved: Words = np.left_shift(other.value, self.bits)
        return _Bits(self.value | moved, self.bits + other.bits)


def _codes(lengths: Ints) -> _Bits:
    """Canonical codes, (K * 286,): shorter ones first, of one length the lower symbol first."""
    order = np.argsort(np.where(lengths > 0, lengths, _LIMIT + 1), axis=1, kind="stable")
    shares = np.where(lengths > 0, 1 << _LIMIT - lengths, 0)
    shares = np.take_along_axis(shares, order, axis=1)
    below = np.cumsum(shares, axis=1) - shares
    code = np.zeros(lengths.shape, dtype=np.uint64)
    np.put_along_axis(code, order, _MIRRORED[below & (1 << _LIMIT) - 1], axis=1)
    return _Bits(code.ravel(), lengths.ravel().astype(np.uint64))


def _mirrored() -> Words:
    """Numbers of `_LIMIT` bits with their bits the other way round."""
    numbers = np.arange(1 << _LIMIT, dtype=np.uint64)
    turned = np.zeros_like(numbers)
    for bit in range(_LIMIT):
        turned |= (numbers >> bit & 1) << (_LIMIT - 1 - bit)
    return turned


_MIRRORED = _mirrored()


# ── bits ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Stream:
    """Numbers to write one after the other, several maps in a row."""

    numbers: _Bits  # (T,)
    first: Ints  # (K,), the first of each map


def _body(e: _Events, t: _Tokens, codes: _Bits) -> _Stream:
    """All events and the zeros between them: a number each, or several where they are long."""
    zero = codes.take(np.arange(len(e.first)) * _SYMBOLS)
    spelled = _spelled(e, t, codes, zero)
    rest = _rests(codes, zero).take(e.map * np.int32(_LONGEST) + t.rest)

    step = codes.bits[_SYMBOL_OF[_LONGEST] :: _SYMBOLS].astype(np.int64) + 1  # of 258 zeros
    fitting = 40 // step  # beside the rest
    repeated = _repeated(codes, step)
    long, over = t.long, _NONE
    if long.max() > fitting.min():
        most = fitting.take(e.map)
        over = np.flatnonzero(long > most)
        long = np.minimum(long, most)
    zeros = repeated.take(e.map * np.int32(_WIDTH) + long).then(rest)
    apart = np.flatnonzero(spelled.bits + zeros.bits > 64)
    if len(over):
        apart = np.union1d(apart, over)
    if not len(apart):
        return _Stream(spelled.then(zeros), e.first)

    parts, where = [], [np.arange(len(e.map))]
    later = zeros.take(apart)
    zeros.value[apart] = zeros.bits[apart] = 0
    parts.append(spelled.then(zeros))
    beyond = (t.long - long)[over]
    while len(over):
        times = np.minimum(beyond, fitting[e.map[over]])
        parts.append(repeated.take(e.map[over] * _WIDTH + times))
        where.append(over)
        over, beyond = over[beyond > times], (beyond - times)[beyond > times]
    parts.append(later)
    where.append(apart)
    order = np.argsort(np.concatenate(where), kind="stable")
    added = np.searchsorted(np.sort(np.concatenate(where[1:])), e.first)
    return _Stream(_Bits.of(parts).take(order), e.first + added)


def _spelled(e: _Events, t: _Tokens, codes: _Bits, zero: _Bits) -> _Bits:
    """The bytes of each event, and the one zero that opens a match of zeros."""
    row = e.map * np.int32(_SYMBOLS)
    maps = np.repeat(np.arange(len(e.first)), _SYMBOLS)
    table = _Bits.of([codes, codes.then(zero.take(maps))])
    literal = row + _first_literal(e)
    spelled = table.take(literal + t.opened * np.int32(len(codes.bits)))
    again = _again(codes, len(e.first))
    if len(t.plain):
        maps = np.repeat(np.arange(len(e.first)), _MOST + 1)
        tails = zero.then(zero).take(maps).then(again)
        some = tails.take(e.map.take(t.plain) * (_MOST + 1) + e.times.take(t.plain))
        spelled.put(t.plain, spelled.take(t.plain).then(some))
    if len(w := e.wide):
        some = codes.take(literal[w]).then(codes.take(row[w] + _literal(e, w, 1)))
        third = codes.take(row[w] + _literal(e, w, 2)).where(np.isin(w, t.third))
        some = some.then(third).then(again.take(e.map[w] * (_MOST + 1) + e.times[w]))
        spelled.put(w, some.then(zero.take(e.map[w]).where(t.opened[w])))
    return spelled


def _again(codes: _Bits, maps: int) -> _Bits:
    """For each map, how 0 to `_MOST` equal pixels go on behind the first, (K * (_MOST + 1),)."""
    length = np.tile(np.maximum(3 * np.arange(_MOST + 1) - 3, 0), maps)
    row = np.repeat(np.arange(maps) * _SYMBOLS, _MOST + 1)
    return _match(codes, row, length, 1).where(length > 0)


def _match(codes: _Bits, row: Ints, length: Ints, distance: int) -> _Bits:
    """
    Matches of these lengths.

    Args:
        distance: the bit that stands for it: 0 for a distance of 1, 1 for 3.
    """
    tail = (_EXTRA[length] | distance << _EXTRA_BITS[length]).astype(np.uint64)
    return codes.take(row + _SYMBOL_OF[length]).then(
        _Bits(tail, (_EXTRA_BITS[length] + 1).astype(np.uint64))
    )


def _rests(codes: _Bits, zero: _Bits) -> _Bits:
    """For each map, how 0 to 257 zeros behind a zero are spelled, (K * 258,)."""
    maps = np.repeat(np.arange(len(zero.bits)), _LONGEST)
    length = np.tile(np.arange(_LONGEST), len(zero.bits))
    spelled = _match(codes, maps * _SYMBOLS, length, 0).where(length > 2)
    for i in (1, 2):
        one = zero if i == 1 else zero.then(zero)
        spelled.value[i::_LONGEST], spelled.bits[i::_LONGEST] = one.value, one.bits
    return spelled


_WIDTH = 32
_NONE = np.zeros(0, dtype=np.int64)


def _repeated(codes: _Bits, step: Ints) -> _Bits:
    """For each map, how 0 to 31 matches of 258 zeros are spelled, (K * 32,); below 64 bits."""
    one = codes.value[_SYMBOL_OF[_LONGEST] :: _SYMBOLS]
    value = np.zeros((len(step), _WIDTH), dtype=np.uint64)
    bits = (np.arange(_WIDTH) * step[:, None]).astype(np.uint64)
    for times in range(1, min(_WIDTH, 40 // int(step.min()) + 1)):
        value[:, times] = value[:, times - 1] | one << np.minimum(bits[:, times - 1], 63)
    return _Bits(value.ravel(), bits.ravel())


def _pack(header: _Stream, body: _Stream) -> list[bytes]:
    """The deflate stream of each map; each begins at a word of its own."""
    heads, bodies = (
        np.add.reduceat(s.numbers.bits, s.first).astype(np.int64) for s in (header, body)
    )
    words = -(-(heads + bodies) // 64)
    base = np.cumsum(words) - words
    stream = np.zeros(int(words.sum()) + 1, dtype=np.uint64)
    _put(stream, header, heads, base * 64)
    _put(stream, body, bodies, base * 64 + heads)
    written = stream.astype("<u8", copy=False).tobytes()
    ends = base * 8 + (heads + bodies + 7) // 8
    return [written[a:b] for a, b in zip((base * 8).tolist(), ends.tolist(), strict=True)]


def _put(stream: Words, s: _Stream, many: Ints, at: Ints) -> None:
    """Write the numbers of each map, so many bits, from the bit `at` on, where all is still 0."""
    value, bits = s.numbers.value, s.numbers.bits.view(np.int64)
    step = bits.copy()
    step[s.first[1:] - 1] += at[1:] - at[:-1] - many[:-1]
    begin = np.cumsum(step)
    begin += at[0] - step
    word, shift = begin >> 6, begin & 63
    head = heads(word)
    low = value << shift.view(np.uint64)
    place = word.take(head)
    stream[place] = stream.take(place) | np.bitwise_or.reduceat(low, head)
    over = np.flatnonzero(shift + bits > 64)
    high = value.take(over) >> (64 - shift.take(over)).view(np.uint64)
    stream[word.take(over) + 1] |= high


# ── the head of a block: RFC 1951, 3.2.7 ─────────────────────────────────────────────────────

_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
_LENGTH_BITS = {  # a fixed code for lengths of codes, complete; 17 and 18 are zeros in a row
    **dict.fromkeys((6, 7, 8), 3),
    **dict.fromkeys((0, 3, 4, 5, 9, 10, 11, 17, 18), 4),
    **dict.fromkeys((1, 2), 5),
}


def _length_codes() -> dict[int, tuple[int, int]]:
    """The code of each length, first bit lowest, and its bits."""
    codes, below = {}, 0
    for symbol in sorted(_LENGTH_BITS, key=lambda s: (_LENGTH_BITS[s], s)):
        codes[symbol] = (int(_MIRRORED[below]), _LENGTH_BITS[symbol])
        below += 1 << _LIMIT - _LENGTH_BITS[symbol]
    return codes


def _zeros_spelled(count: int) -> tuple[int, int]:
    """So many unused symbols in a row, and their bits."""
    value = bits = 0
    while count:
        taken, symbol, extra, least = 1, 0, 0, 1
        if count > 10:
            taken, symbol, extra, least = min(count, 138), 18, 7, 11
        elif count > 2:
            taken, symbol, extra, least = count, 17, 3, 3
        code, size = _CODE_OF[symbol]
        value |= (code | (taken - least) << size) << bits
        bits += size + extra
        count -= taken
    return value, bits


def _block_head() -> tuple[int, int]:
    """The last block, dynamic codes, 286 symbols, 3 distances, and the code above; its bits."""
    value = bits = 0
    fields = [(1, 1), (2, 2), (_SYMBOLS - 257, 5), (3 - 1, 5), (len(_ORDER) - 4, 4)]
    for field, size in (*fields, *((_LENGTH_BITS.get(s, 0), 3) for s in _ORDER)):
        value |= field << bits
        bits += size
    return value, bits


_CODE_OF = _length_codes()
_ZEROS = np.array([_zeros_spelled(n) for n in range(_SYMBOLS)], dtype=np.uint64)
_USED = np.array([(0, 0), *(_CODE_OF[n] for n in range(1, _LIMIT + 1))], dtype=np.uint64)
_HEAD, _HEAD_BITS = _block_head()  # more than 64


def _header(lengths: Ints) -> _Stream:
    """The lengths of all codes, and of the two distances, 1 and 3, which take a bit each."""
    maps = len(lengths)
    both = np.concatenate([lengths, np.tile([1, 0, 1], (maps, 1))], axis=1)
    row, symbol = np.nonzero(both)
    first = np.searchsorted(row, np.arange(maps))
    gap = np.diff(symbol, prepend=-1) - 1
    gap[first] = symbol[first]
    zeros, used = _ZEROS[gap], _USED[both[row, symbol]]
    numbers = _Bits(zeros[:, 0], zeros[:, 1]).then(_Bits(used[:, 0], used[:, 1]))
    twice = np.repeat(first, 2)
    value = np.insert(numbers.value, twice, np.tile(_HEAD_WORDS.value, maps))
    bits = np.insert(numbers.bits, twice, np.tile(_HEAD_WORDS.bits, maps))
    return _Stream(_Bits(value, bits), first + 2 * np.arange(maps))


_HEAD_WORDS = _Bits(
    np.array([_HEAD & (1 << 64) - 1, _HEAD >> 64], dtype=np.uint64),
    np.array([64, _HEAD_BITS - 64], dtype=np.uint64),
)


def _adler(e: _Events) -> list[int]:
    """The checksum of all filtered bytes of each map: RFC 1950, 8.2."""
    left = (e.left - e.left // _ADLER * _ADLER).astype(np.int64)  # many times as fast as %
    total = e.value.astype(np.int64)
    total[e.wide] = sum(_literal(e, e.wide, n) for n in (0, 1, 2))
    weighed = total * left
    times, once = e.times.take(e.many).astype(np.int64), total.take(e.many)
    weighed[e.many] = once * (times * left.take(e.many) - 3 * times * (times - 1) // 2)
    if len(e.wide):
        beyond = _literal(e, e.wide, 1) + 2 * _literal(e, e.wide, 2)
        weighed[e.wide] -= beyond * e.times[e.wide]
    total[e.many] = once * times
    low = 1 + np.add.reduceat(total, e.first) - _END  # an end is no byte
    high = e.size + np.add.reduceat(weighed, e.first)
    checksums: list[int] = ((high % _ADLER) << 16 | low % _ADLER).tolist()
    return checksums


_ADLER = 65521
