"""PNGs that hold a map of numbers: loaded from a tree, checked, and taken apart into masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..files import Tree
from ..images import read_numbers
from ..masks import Rle
from ..panoptic import MAX_ID, ids_from_rgb, rgb_from_ids
from ..png.reader import Changes, Png, changes_of, changes_of_rgb, id_runs, parse
from ..shapes.drawing import keep_memory
from ..shapes.runs import segments_of
from ..validate import Finding, finding_of

MAX_FILE = 2**29  # bytes of one PNG
MAX_SEGMENTS = 2**16  # of a map; what has more is noise
_TOGETHER = 64  # maps of one size; more are hardly faster
_WORDS = 2**18  # and no more changes than this
_COLUMNS = 2**16 - 1  # nor columns: numbers of 16 bits are sorted ten times as fast
_PIXELS = 2**29  # nor pixels: their places have 31 bits, and two are needed otherwise


class Patch(msgspec.Struct, frozen=True, gc=False):
    """All pixels of one id in one map."""

    id: int
    rle: Rle
    area: int  # pixels
    bbox: tuple[int, int, int, int]  # COCO xywh


class IdMap(NamedTuple):
    """A map, not yet taken apart, and what reading had to set right."""

    changes: Changes
    mended: tuple[Finding, ...] = ()


def load(
    tree: Tree,
    member: str,
    about: str,
    size: tuple[int, int] | None = None,
    known: Collection[int] = (),
) -> IdMap:
    """
    Read a map of ids.

    A palette or grey map is taken at its colours, or else its numbers, where these are ids.

    Args:
        about: the file name of its image, for what is mended.
        size: (height, width) of its image, where that is known.
        known: the ids that it should hold.

    Raises:
        FormatError: I112, the file is damaged; I119, it is too large; N703, it has another
            size; N704, it is not 8-bit RGB and its ids are lost; N716, it is noise.
    """
    body = tree.read(member, MAX_FILE)
    if len(body) > MAX_FILE:
        raise FormatError(f"PNG has more than {MAX_FILE:,} bytes", code="I119")
    png = parse(body)
    if size is not None and (png.height, png.width) != size:
        said = f"map is {png.height}x{png.width}, image is {size[0]}x{size[1]}"
        raise FormatError(said, code="N703")
    mended = []
    if png.is_rgb:
        changes = changes_of(png) or changes_of_rgb(read_numbers(body)[0])
    else:
        changes = changes_of_rgb(_as_rgb(body, png, known))
        mended.append(FormatError(f"map is {png.mode}; its ids were still told", code="N704"))
    if bent := [*png.managed, *(["interlacing"] if png.interlaced else [])]:
        said = f"map has {', '.join(dict.fromkeys(bent))}; its numbers were taken as they are"
        mended.append(FormatError(said, code="N716"))
    return IdMap(changes, tuple([finding_of(e, about) for e in mended]))


def patches(maps: Sequence[Changes]) -> list[list[Patch] | FormatError]:
    """Of each map, the patch of each id but 0, by ascending id; N716 where it is noise."""
    keep_memory()
    found: dict[int, list[Patch] | FormatError] = {}
    for batch in _batches(maps):
        found |= zip(batch, _taken_apart([maps[i] for i in batch]), strict=True)
    return [found[i] for i in range(len(maps))]


def _taken_apart(maps: Sequence[Changes]) -> list[list[Patch] | FormatError]:
    """The patches of maps of one size."""
    segments = segments_of(id_runs(maps))
    if (many := len(segments.id)) > MAX_SEGMENTS:
        if len(maps) == 1:
            return [FormatError(f"map has {many:,} ids: noise, and no segments", code="N716")]
        return [one for m in maps for one in _taken_apart([m])]
    parts: list[list[Patch]] = [[] for _ in maps]
    rows = zip(
        segments.owner.tolist(),
        segments.id.tolist(),
        segments.counts(),
        segments.areas().tolist(),
        segments.boxes().tolist(),
        strict=True,
    )
    for owner, number, counts, area, (x, y, w, h) in rows:
        rle = Rle(segments.height, segments.width, counts.decode())
        parts[owner].append(Patch(number, rle, area, (x, y, w, h)))
    return [*parts]


def _batches(maps: Iterable[Changes]) -> Iterator[list[int]]:
    """Positions of maps of one size, a few together."""
    waiting: dict[tuple[int, int], list[int]] = {}
    words: dict[tuple[int, int], int] = {}
    for index, m in enumerate(maps):
        size = m.height, m.width
        waiting.setdefault(size, []).append(index)
        words[size] = words.get(size, 0) + m.weight
        room = min(_TOGETHER, _COLUMNS // m.width, _PIXELS // (m.height * m.width))
        if len(waiting[size]) >= room or words[size] > _WORDS:
            yield waiting.pop(size)
            del words[size]
    yield from waiting.values()


def _as_rgb(body: bytes, png: Png, known: Collection[int]) -> NDArray[np.uint8]:
    """The pixels of a map that is not 8-bit RGB, as RGB, in the one way that gives known ids."""
    rgb, numbers = read_numbers(body)
    for ids in (ids_from_rgb(rgb), numbers):
        if ids is None or not 0 <= ids.min() <= ids.max() <= MAX_ID:
            continue
        there = set(np.unique(ids).tolist()) - {0}
        if there and there <= set(known):
            return rgb_from_ids(ids.astype(np.uint32))
    raise FormatError(f"map is {png.mode}, not 8-bit RGB", code="N704")
