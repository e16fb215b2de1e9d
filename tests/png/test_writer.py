"""Our PNGs of id maps: what others read in them, how large they are, and that they never change."""

from __future__ import annotations

import hashlib
import heapq
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from publisher.panoptic import ids_from_rgb, rgb_from_ids
from publisher.png import writer as png
from publisher.shapes.runs import runs_of_ids


def encoded(*maps: np.ndarray) -> list[bytes]:
    return png.encode([runs_of_ids(m) for m in maps])


def read(body: bytes) -> np.ndarray:
    """Pillow's view, which checks every checksum."""
    with Image.open(io.BytesIO(body)) as image:
        assert image.mode == "RGB"
        return ids_from_rgb(np.asarray(image))


def disc(height: int, width: int, *ids: int) -> np.ndarray:
    """Discs that hide each other, on nothing."""
    rng = np.random.default_rng(len(ids))
    y, x = np.mgrid[:height, :width]
    found = np.zeros((height, width), dtype=np.uint32)
    for id_ in ids:
        cy, cx, radius = (
            rng.uniform(0, height),
            rng.uniform(0, width),
            rng.uniform(1, max(2, height / 3)),
        )
        found[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = id_
    return found


FEW = st.sampled_from([0, 1, 2, 3, 255, 256, 257, 65535, 65536, 65792, 2**24 - 1])


@st.composite
def id_maps(draw) -> np.ndarray:
    """Noise, blocks, or one id; of few ids or of any; narrow and wide."""
    ids = draw(st.sampled_from([st.integers(0, 3), FEW, st.integers(0, 2**24 - 1)]))
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    block = draw(arrays(np.uint32, shape, elements=ids))
    times = draw(st.sampled_from([(1, 1), (1, 1), (7, 1), (1, 300), (40, 90)]))
    return block.repeat(times[0], axis=0).repeat(times[1], axis=1)


@settings(max_examples=80)
@given(st.lists(id_maps(), min_size=1, max_size=4))
def test_pillow_reads_the_very_ids_and_neighbours_in_a_chunk_change_nothing(maps):
    together = encoded(*maps)
    for ids, body in zip(maps, together, strict=True):
        assert (read(body) == ids).all()
        assert encoded(ids) == [body]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (600, 4000)])
def test_maps_of_any_shape_come_back(shape):
    for ids in (np.zeros(shape, np.uint32), np.full(shape, 70000, np.uint32), disc(*shape, 1, 2)):
        assert (read(*encoded(ids)) == ids).all()


def test_more_than_255_segments_come_back():
    ids = disc(300, 400, *range(1, 701))
    assert (read(*encoded(ids)) == ids).all()


def test_void_may_have_runs_or_none():
    with_void = runs_of_ids(disc(40, 50, 1, 2, 3))
    seen = with_void.id > 0
    bare = type(with_void)(
        40, 50, *(x[seen] for x in (with_void.start, with_void.stop, with_void.id))
    )
    assert png.encode([bare]) == png.encode([with_void])


def test_no_maps_are_no_files():
    assert png.encode([]) == []


def test_other_decoders_read_it_too():
    """zlib alone, by the specification: one IDAT, Sub on the first line, Up on the others."""
    ids = disc(64, 48, 1, 2, 300)
    (body,) = encoded(ids)
    assert body[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds, data = 8, [], b""
    while at < len(body):
        length, kind = struct.unpack_from(">I4s", body, at)
        chunk = body[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", body, at + 8 + length)[0] == zlib.crc32(kind + chunk)
        kinds.append(kind)
        data += chunk if kind == b"IDAT" else b""
        at += length + 12
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(64, 1 + 3 * 48)
    used = (ids > 0).any(axis=1)
    assert lines[0, 0] == 1
    assert lines[1:, 0].tolist() == np.where(used, 2, 0)[1:].tolist()
    pixels = lines[:, 1:].reshape(64, 48, 3).copy()
    pixels[0] = np.cumsum(pixels[0], axis=0, dtype=np.uint8)
    for y in np.flatnonzero(used)[1 if used[0] else 0 :]:
        pixels[y] += pixels[y - 1]
    assert (pixels == rgb_from_ids(ids)).all()


def test_it_is_smaller_than_pillows():
    for count in (1, 10, 60):
        ids = disc(480, 640, *range(1, count + 1))
        plain = io.BytesIO()
        Image.fromarray(rgb_from_ids(ids)).save(plain, "PNG")
        assert len(encoded(ids)[0]) <= len(plain.getvalue())


def test_the_same_map_is_the_same_bytes_for_ever():
    """
    A release's root covers these bytes. If this fails, the encoder has changed: releases built
    anew get other roots, so say so in the changelog.
    """
    y, x = np.mgrid[:240, :320]
    rings = (3 * y * y + x * x) // 9000 % 7
    bodies = encoded(rings, rings[:50, :70] * 70001, np.where(rings > 3, 300, 0), rings[:1, :1])
    assert hashlib.sha256(b"".join(bodies)).hexdigest() == GOLDEN


GOLDEN = "7cb2ea9b3a67b30e878daf39b42139320fe901c1756a60e2fbe2086478ed6e72"


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=286))
@example([1, 14193, 14193, 28381])
def test_codes_are_complete_short_and_near_the_best(counts):
    lengths = png._complete(counts)
    assert sum(2.0**-n for n in lengths) == 1
    assert 1 <= min(lengths) <= max(lengths) <= png._LIMIT
    heap = sorted(counts)
    best = 0  # what Huffman's own codes take
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        best += joined
        heapq.heappush(heap, joined)
    # Shannon's lengths lie less than a bit a symbol above the entropy, however few symbols
    taken = sum(n * k for n, k in zip(counts, lengths, strict=True))
    assert best <= taken <= best + 1.03 * sum(counts)
