"""Maps of ids from PNGs: whatever wrote them, the same runs; whatever broke them, one error."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from publisher.errors import FormatError
from publisher.masks import Mask
from publisher.panoptic import ids_from_rgb, rgb_from_ids
from publisher.png.reader import changes_of, changes_of_rgb, id_runs, parse
from publisher.png.writer import encode
from publisher.shapes.runs import runs_of_ids, segments_of
from tests.pngs import MAGIC, chunk, header, png

IDS = st.sampled_from([0, 0, 1, 2, 255, 256, 257, 65536, 2**24 - 1]) | st.integers(0, 2**24 - 1)
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def maps(draw, size=SIZES):
    """Blocks of few ids, so that they touch themselves and each other."""
    height, width = draw(size) if isinstance(size, st.SearchStrategy) else size
    few = np.array(draw(st.lists(IDS, min_size=1, max_size=4)), np.uint32)
    return few[draw(arrays(np.uint8, (height, width), elements=st.integers(0, len(few) - 1)))]


def masks(runs):
    """Of each map, the mask of each id."""
    segments = segments_of(runs)
    found = zip(segments.owner.tolist(), segments.id.tolist(), segments.masks(), strict=True)
    return {(owner, number): mask for owner, number, mask in found}


def expected(*maps):
    return {
        (at, number): Mask.from_array(ids == number)
        for at, ids in enumerate(maps)
        for number in np.unique(ids).tolist()
        if number
    }


@given(maps(), st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=4))
def test_lines_with_the_simple_filters_give_the_ids_that_were_written(ids, filters):
    changes = changes_of(parse(png(rgb_from_ids(ids), filters)))
    assert masks(id_runs([changes])) == expected(ids)


@given(maps(), st.sampled_from([0, 1, 2]))
def test_the_first_line_may_have_another_filter_than_up(ids, first):
    changes = changes_of(parse(png(rgb_from_ids(ids), [first, *[2] * len(ids)])))
    assert masks(id_runs([changes, changes])) == expected(ids, ids)


@given(maps(st.tuples(st.integers(1, 12), st.integers(5, 12))), st.data())
def test_lines_without_a_segment_may_have_no_filter(ids, data):
    blank = data.draw(arrays(np.bool_, len(ids)))
    ids[blank] = 0
    first = data.draw(st.sampled_from([0, 1, 2]))
    filters = [first, *np.where(blank[1:], 0, 2).tolist()]
    changes = changes_of(parse(png(rgb_from_ids(ids), filters)))
    assert masks(id_runs([changes, changes])) == expected(ids, ids)


def test_many_lines_of_void_between_others_may_have_no_filter_either(monkeypatch):
    monkeypatch.setattr("publisher.png.reader._MOST_BLANK", 100)
    ids = np.zeros((20, 30), np.uint32)
    ids[::2, 3:] = np.arange(10)[:, None] + 250
    changes = changes_of(parse(png(rgb_from_ids(ids), [2, 0])))
    assert not changes.blank
    assert masks(id_runs([changes])) == expected(ids)


@given(SIZES.flatmap(lambda size: st.lists(maps(size), min_size=1, max_size=4)))
def test_our_own_files_give_the_ids_that_were_written(some):
    files = encode([runs_of_ids(ids) for ids in some])
    assert masks(id_runs([changes_of(parse(body)) for body in files])) == expected(*some)


@given(maps(), st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_filters_that_need_a_decoder_are_left_to_one(ids, filters):
    body = png(rgb_from_ids(ids), filters)
    needed = 3 in (filters * len(ids))[: len(ids)]
    assert (changes_of(parse(body)) is None) == needed
    decoded = np.asarray(Image.open(io.BytesIO(body)))
    assert masks(id_runs([changes_of_rgb(decoded)])) == expected(ids)


@given(maps(), st.lists(st.sampled_from([0, 1, 2, 4]), min_size=1, max_size=12))
def test_lines_with_filter_paeth_among_others_give_the_ids_that_were_written(ids, filters):
    changes = changes_of(parse(png(rgb_from_ids(ids), filters)))
    assert masks(id_runs([changes])) == expected(ids)


@given(
    SIZES.flatmap(lambda size: arrays(np.uint8, (*size, 3))),
    st.lists(st.sampled_from([0, 1, 2, 4]), min_size=1, max_size=12),
)
def test_any_pixels_are_those_that_pillow_decodes(rgb, filters):
    body = png(rgb, filters)
    decoded = np.asarray(Image.open(io.BytesIO(body)))
    assert np.array_equal(decoded, rgb)
    own, from_pixels = changes_of(parse(body)), changes_of_rgb(decoded)
    assert masks(id_runs([own])) == masks(id_runs([from_pixels])) == expected(ids_from_rgb(rgb))


@given(SIZES.flatmap(maps))
def test_files_that_pillow_wrote_give_the_ids_that_were_written(ids):
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb_from_ids(ids))).save(out, "PNG")
    changes = changes_of(parse(out.getvalue()))
    if changes is None:
        changes = changes_of_rgb(np.asarray(Image.open(out)))
    assert masks(id_runs([changes])) == expected(ids)


@pytest.mark.parametrize("filters", [[4], [2, 4], [0, 2]])
def test_noise_is_left_to_a_decoder_where_that_is_quicker(monkeypatch, filters):
    monkeypatch.setattr("publisher.png.reader._LEAST", 0)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert changes_of(parse(png(noise, filters))) is None


@given(SIZES.flatmap(lambda size: st.lists(maps(size), min_size=1, max_size=4)))
def test_many_maps_of_one_size_are_read_like_each_alone(some):
    changes = [changes_of(parse(png(rgb_from_ids(ids)))) for ids in some]
    assert masks(id_runs(changes)) == expected(*some)


@pytest.mark.parametrize("many", [1, 2])
def test_more_columns_than_16_bits_count_are_told_apart(many):
    ids = np.zeros((2, 40_000), np.uint32)
    ids[1, ::20_001], ids[0, 39_999] = 300, 7
    changes = changes_of(parse(png(rgb_from_ids(ids))))
    assert masks(id_runs([changes] * 2 * many)) == expected(*[ids] * 2 * many)


def test_an_empty_map_has_no_runs():
    changes = changes_of(parse(png(np.zeros((3, 4, 3), np.uint8))))
    assert not len(id_runs([changes, changes]).start)


def test_segments_know_their_areas_and_boxes():
    ids = np.array([[5, 5, 0], [5, 9, 9]], np.uint32)
    segments = segments_of(id_runs([changes_of(parse(png(rgb_from_ids(ids))))]))
    assert segments.id.tolist() == [5, 9]
    assert segments.areas().tolist() == [3, 2]
    assert segments.boxes().tolist() == [[0, 0, 2, 2], [1, 1, 2, 1]]


def test_the_header_says_what_may_bend_ids():
    rgb = np.zeros((2, 2, 3), np.uint8)
    gamma = chunk(b"gAMA", struct.pack(">I", 45455))
    assert parse(png(rgb, before=gamma)).managed == ("gamma",)
    out = io.BytesIO()
    Image.fromarray(rgb[..., 0]).save(out, "PNG")
    assert parse(out.getvalue()).mode == "8-bit grey"


# ── hostile ──────────────────────────────────────────────────────────────────────────────────

SOUND = png(rgb_from_ids(np.array([[1, 2], [1, 0]], np.uint32)))
END = chunk(b"IEND", b"")


def refused(body: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        changes_of(parse(body))
    return caught.value


def with_lines(packed: bytes, height: int = 2, width: int = 2) -> bytes:
    return MAGIC + header(height, width) + chunk(b"IDAT", packed) + END


@pytest.mark.parametrize("cut", range(len(SOUND)))
def test_a_png_cut_short_anywhere_is_refused(cut):
    assert refused(SOUND[:cut]).code == "I112"


@pytest.mark.parametrize("spot", range(len(MAGIC) + 4, len(SOUND)))
def test_a_flipped_bit_is_noticed(spot):
    body = bytearray(SOUND)
    body[spot] ^= 4
    assert refused(bytes(body)).code in ("I112", "I119")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"GIF89a", "not a PNG"),
        (MAGIC + END, "no header"),
        (MAGIC + header(2, 2) + header(2, 2) + END, "or several"),
        (MAGIC + header(2, 2) + chunk(b"ABCD", b"") + END, "unknown critical chunk"),
        (MAGIC + header(2, 2, depth=3) + END, "the standard does not know"),
        (MAGIC + header(2, 2, colour=1) + END, "the standard does not know"),
        (MAGIC + header(2, 2, interlace=2) + END, "the standard does not know"),
        (MAGIC + header(0, 2) + END, "PNG is 0x2"),
        (MAGIC + header(2, 2) + END, "truncated stream"),
        (with_lines(zlib.compress(bytes(14))[:-4]), "truncated stream"),  # no checksum
        (with_lines(zlib.compress(bytes(13))), "does not hold 2 lines"),
        (with_lines(zlib.compress(bytes(15))), "does not hold 2 lines"),
        (with_lines(b"\xff\xff\xff"), "damaged"),
        (with_lines(zlib.compress(b"\x05" + bytes(13))), "unknown filter"),
    ],
)
def test_what_is_no_map_is_refused_with_a_reason(body, said):
    error = refused(body)
    assert said in error.message
    assert error.code == "I112"


def test_a_header_that_promises_too_much_is_refused_before_a_byte_is_unpacked():
    error = refused(MAGIC + header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b"") + END)
    assert error.code == "I119"


def test_a_bomb_is_not_unpacked_beyond_its_lines():
    bomb = zlib.compress(bytes(2**28), 9)
    assert "does not hold 2 lines" in refused(with_lines(bomb)).message


def test_noise_beyond_all_measure_is_no_map_of_ids(monkeypatch):
    monkeypatch.setattr("publisher.png.reader.MAX_CHANGES", 3)
    noise = np.random.default_rng(0).integers(1, 255, (4, 9, 3), dtype=np.uint8)
    assert refused(png(noise)).code == "N716"


@given(st.binary(max_size=200), st.booleans(), st.integers(1, 3), st.integers(1, 3))
def test_any_bytes_give_changes_or_one_error(data, pack, height, width):
    packed = zlib.compress(data) if pack else data
    for body in (data, MAGIC + data, with_lines(packed, height, width)):
        try:
            changes = changes_of(parse(body))
        except FormatError:
            continue
        if changes is not None:
            id_runs([changes])
