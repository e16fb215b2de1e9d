"""Hypothesis strategies: datasets as they should be, and as nobody should send them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError
from publisher.masks import Mask, Rle
from publisher.validate import ImageFacts

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))

# ── sound ────────────────────────────────────────────────────────────────────────────────────

NAMES = st.from_regex(r"[a-z]{1,8}( [0-9])?/?[a-zåß手]{1,8}\.(jpg|png)", fullmatch=True)


def bitmaps(height: int, width: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.bool_, (height, width))


def masks(height: int, width: int) -> st.SearchStrategy[Mask]:
    return bitmaps(height, width).map(Mask.from_array)


def rings(height: int, width: int) -> st.SearchStrategy[tuple[float, ...]]:
    """Sound rings, most inside the image, some beyond."""
    x, y = (
        st.floats(-0.25 * n, 1.25 * n, width=32) | st.integers(0, n).map(float)
        for n in (width, height)
    )
    points = st.lists(st.tuples(x, y), min_size=3, max_size=12)
    return points.map(lambda ps: tuple(v for p in ps for v in p))


@st.composite
def segmentations(draw, height: int, width: int):
    if draw(st.booleans()):
        return tuple(draw(st.lists(rings(height, width), min_size=1, max_size=3)))
    mask = draw(masks(height, width))
    runs = mask.runs.tolist()
    counts = draw(st.sampled_from([mask.counts.decode("ascii"), tuple(runs), (*runs, 0)]))
    return Rle(height, width, counts)


@st.composite
def datasets(draw) -> Dataset:
    """Sound: known categories, unique ids, geometry that can be rasterised."""
    categories = tuple(
        Category(n, f"class {n}", isthing=draw(st.booleans()), color=(n, n, n))
        for n in range(1, draw(st.integers(2, 4)))
    )
    samples, number = [], 0
    for at, name in enumerate(sorted(draw(st.sets(NAMES, max_size=4))), 1):
        height, width = draw(SIZES)
        segments = []
        for _ in range(draw(st.integers(0, 4))):
            number += 1
            segments.append(
                Segment(
                    number,
                    draw(st.sampled_from(categories)).id,
                    draw(segmentations(height, width)),
                    draw(st.booleans()),
                    draw(st.none() | st.integers(0, 3)),
                )
            )
        split = draw(st.sampled_from([None, "train", "test"]))
        samples.append(Sample(at, name, height, width, tuple(segments), None, split))
    return Dataset("sound", categories, tuple(samples))


# ── hostile ──────────────────────────────────────────────────────────────────────────────────

INTS = st.integers(-2, 50) | st.integers() | st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63)])
FLOATS = (
    st.floats(-5, 60)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([1e5, -1e5, 1e8, 1e38, 5e-324, -0.0])
)
WEIRD = (
    st.text(max_size=12)
    | st.text(st.characters(), max_size=12)  # lone surrogates, too
    | st.sampled_from(["", ".", "..", "../a.jpg", "/etc/passwd", "C:\\a", "a\\b", "a/", "a//b"])
    | st.sampled_from(["A.JPG", "a.jpg", "a.png", "aux.png", "e\u0301.png", "\xe9.png", "a" * 2000])
    | st.sampled_from(["\x1b]52;c;x\x07", "\u202egpj.a", "\ud800"])
)
JSON = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | WEIRD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WEIRD, inner, max_size=3),
    max_leaves=6,
)
HOSTILE_RINGS = st.lists(st.lists(FLOATS, max_size=14).map(tuple), max_size=4).map(tuple)
COUNTS = (
    st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=20)
    | WEIRD
    | st.lists(INTS, max_size=8).map(tuple)
)
ORIGINS = st.fixed_dictionaries(
    {}, optional={"bbox": JSON | st.lists(FLOATS, min_size=4, max_size=4), "area": JSON | FLOATS}
)


@st.composite
def hostile_segments(draw, height: int, width: int) -> Segment:
    shapes = HOSTILE_RINGS | st.builds(Rle, INTS, INTS, COUNTS)
    shapes |= st.builds(Rle, st.just(height), st.just(width), COUNTS)
    if 0 < height <= 40 and 0 < width <= 40:
        shapes |= segmentations(height, width)
    return Segment(
        draw(INTS),
        draw(INTS),
        draw(shapes),
        draw(st.booleans()),
        draw(st.none() | INTS),
        draw(st.dictionaries(WEIRD, JSON, max_size=2)),
        draw(ORIGINS),
    )


@st.composite
def hostile_samples(draw) -> Sample:
    """A sample that no reader promises not to give."""
    height, width = draw(SIZES | st.tuples(INTS, INTS))
    segments = draw(st.lists(hostile_segments(height, width), max_size=5))
    twice = draw(st.integers(1, 2))  # duplicates and overlaps, where there are any
    return Sample(
        draw(INTS),
        draw(WEIRD),
        height,
        width,
        tuple(segments * twice),
        draw(st.none() | WEIRD),
        draw(st.none() | WEIRD),
        draw(st.dictionaries(st.just("image_shared_with") | WEIRD, JSON, max_size=2)),
    )


@st.composite
def hostile_datasets(draw) -> Dataset:
    """Any values of the right types; nothing else is promised."""
    color = st.none() | st.tuples(INTS, INTS, INTS)
    category = st.builds(Category, INTS, WEIRD, WEIRD, st.booleans(), color)
    categories = draw(st.lists(category, max_size=4))
    samples = draw(st.lists(hostile_samples(), max_size=4))
    return Dataset(draw(WEIRD), tuple(categories), tuple(samples))


@st.composite
def looks(draw) -> Callable[[Sample], ImageFacts] | None:
    """Nobody looks, or what was looked at says anything."""
    facts = st.builds(
        ImageFacts,
        st.sampled_from(["JPEG", "PNG", "MPO", ""]),
        INTS,
        INTS,
        st.sampled_from(["RGB", "CMYK", "I;16", ""]),
        INTS,
        INTS,
        st.sampled_from(["aa", "bb", ""]),
        st.booleans(),
        st.integers(0, 2**64 - 1),
    )
    refusals = st.sampled_from(["I103", "I109", "I112", "I119", "J001"])
    answer = draw(st.none() | facts | refusals)
    if answer is None:
        return None

    def look(sample: Sample) -> ImageFacts:
        if isinstance(answer, str):
            raise FormatError("no picture", code=answer)
        return answer

    return look
