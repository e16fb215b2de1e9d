"""
COCO panoptic: who owns each pixel, and segment ids as RGB.

Rules: panopticapi's format (https://cocodataset.org/#format-data, section 4) and what its
readers trust: no overlap, id 0 is void, one segment a stuff class, one crowd a class,
areas and boxes of the pixels as painted.

Everything is done on runs, for chunks of images at once. Where no runs overlap, the sorted
runs of all segments are the map. Where some do, their ends cut the image into pieces, and the
segments are painted over the pieces instead of the pixels, the lowest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .dataset import Category, Sample, Segment
from .errors import FormatError, OverlapError
from .masks import Mask
from .shapes.drawing import keep_memory, line_of
from .shapes.runs import Runs, boxes_of, heads

Ints = NDArray[np.signedinteger[Any]]

VOID = 0
MAX_ID = 2**24 - 1

_PIXELS = 20_000_000  # of a chunk: sixty images of 640 x 480; more are hardly faster
_SEGMENTS = 2**12
_PAINTED = 2**22  # pieces that are painted in one go

Overlap = Literal["fail", "z-order", "smaller-on-top"]
"""Who wins a pixel that several segments claim; see `order`."""


class Region(NamedTuple):
    """What one id of a panoptic map stands for."""

    id: int
    category_id: int
    area: int  # pixels
    bbox: tuple[int, int, int, int]  # COCO xywh
    iscrowd: bool

    def to_json(self) -> dict[str, Any]:
        """An element of COCO's `segments_info`."""
        return {
            "area": self.area,
            "bbox": self.bbox,
            "category_id": self.category_id,
            "id": self.id,
            "iscrowd": int(self.iscrowd),
        }


@dataclass(frozen=True, slots=True)
class Loss:
    """Pixels of a segment that others cover, or all of it."""

    segment: int  # its position in the sample
    pixels: int
    hidden: bool


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """
    A panoptic map (height, width) as runs, each owned by one segment, and its regions by id.

    Run i gives the column-major pixels start[i] .. stop[i] - 1 to segment owner[i], a place in
    the sample. Runs are ordered and do not overlap; pixels without one are VOID.
    """

    height: int
    width: int
    start: Ints  # (R,)
    stop: Ints  # (R,)
    owner: Ints  # (R,)
    id: Ints  # (R,), that of its owner's region
    region_of: Ints  # (N,), the id of the region of each segment
    regions: tuple[Region, ...]
    losses: tuple[Loss, ...]
    tied: int  # pixels that only the tie-break gave to one of several regions of equal z-order

    @property
    def ids(self) -> NDArray[np.uint32]:
        """The map itself, (H, W)."""
        return self.values(self.region_of.astype(np.uint32))

    def values(self, per_segment: NDArray[Any]) -> NDArray[Any]:
        """Paint a value for each segment of the sample, (N,), into an (H, W) map of zeros."""
        gaps = self.start - np.append(0, self.stop[:-1])[: len(self.start)]
        lengths = np.stack([gaps, self.stop - self.start], axis=1).ravel()
        colors = np.zeros((len(self.owner), 2), dtype=per_segment.dtype)
        colors[:, 1] = per_segment[self.owner]
        flat = np.zeros(self.height * self.width, dtype=per_segment.dtype)
        painted = np.repeat(colors.ravel(), lengths)
        flat[: len(painted)] = painted
        return np.ascontiguousarray(flat.reshape(self.width, self.height).T)


def paint(
    sample: Sample, categories: Mapping[int, Category], overlap: Overlap | None = None
) -> Painted:
    """
    Give every pixel to one segment.

    A region's id is the 1-based position of its (first) segment in the sample. Patches of
    one stuff class are one region, and so are the crowds of one class.

    Args:
        overlap: who wins; by default z-order where all segments have one, else "fail".

    Raises:
        OverlapError: segments overlap and the policy is "fail".
        FormatError: a segment has no valid mask, or an unknown category.
    """
    return _paint([sample], categories, overlap)[0]


def paint_all(
    samples: Iterable[Sample],
    categories: Mapping[int, Category],
    overlap: Overlap | None = None,
) -> Iterator[Painted]:
    """Paint many samples, much faster than one by one; see `paint`."""
    keep_memory()
    for chunk in chunks(samples):
        yield from _paint(chunk, categories, overlap)


def chunks(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Samples in order, as many together as are best worked on at once."""
    chunk: list[Sample] = []
    pixels = segments = 0
    for sample in samples:
        pixels += sample.height * sample.width
        segments += len(sample.segments)
        if chunk and (pixels > _PIXELS or segments > _SEGMENTS):
            yield chunk
            chunk, pixels, segments = [], sample.height * sample.width, len(sample.segments)
        chunk.append(sample)
    if chunk:
        yield chunk


def default_policy(sample: Sample) -> Overlap:
    """z-order where the source gave every segment one, else fail."""
    return "z-order" if all(s.z_order is not None for s in sample.segments) else "fail"


def order(sample: Sample, masks: Sequence[Mask], policy: Overlap) -> list[int]:
    """
    Positions of the segments from the bottom to the top.

    z-order: by `z_order`, ties by id and then by their place in the file; by their place alone
    where some have no z-order. smaller-on-top: by area, so that a ring stays visible on the
    hand. Crowds lie under everything else, since instances were annotated apart from them.
    """
    areas = [m.area for m in masks] if policy == "smaller-on-top" else []
    return _order(sample, areas, policy)


def _order(sample: Sample, areas: Sequence[int], policy: Overlap) -> list[int]:
    segments = sample.segments
    places = range(len(segments))
    if policy == "smaller-on-top":
        return sorted(places, key=lambda i: (not segments[i].iscrowd, -areas[i], i))
    if default_policy(sample) == "z-order":
        return sorted(places, key=lambda i: (*_depth(segments[i]), segments[i].id, i))
    return sorted(places, key=lambda i: (*_depth(segments[i]), i))


def _depth(segment: Segment) -> tuple[bool, int]:
    return not segment.iscrowd, segment.z_order or 0


def rgb_from_ids(ids: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Spread 24-bit segment ids (H, W) over RGB (H, W, 3): id = R + 256 G + 65536 B."""
    little_endian = np.ascontiguousarray(ids, dtype="<u4")
    return little_endian.view(np.uint8).reshape(*ids.shape, 4)[..., :3]


def ids_from_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Inverse of `rgb_from_ids`."""
    r, g, b = np.moveaxis(rgb.astype(np.uint32), -1, 0)
    return np.asarray(r | g << 8 | b << 16, dtype=np.uint32)


# ── a chunk ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Samples, and what is known of their segments, numbered through."""

    samples: Sequence[Sample]
    policies: Sequence[Overlap]
    first: Ints  # (K + 1,), where the segments of each sample begin, and their number
    sample_of: Ints  # (N,)
    region_of: Ints  # (N,), the number of its region's first segment
    areas: Ints  # (N,), before anything covers them
    base: Ints  # (K,), where the pixels of each sample begin in a line of all


def _paint(
    samples: Sequence[Sample], categories: Mapping[int, Category], overlap: Overlap | None
) -> list[Painted]:
    regions = [_regions(s, categories) for s in samples]
    line, base = line_of(samples)
    many = np.array([len(r) for r in regions])
    first = np.append(0, np.cumsum(many))
    sample_of = np.repeat(np.arange(len(samples)), many)
    chunk = _Chunk(
        samples,
        policies=[overlap or default_policy(s) for s in samples],
        first=first,
        sample_of=sample_of,
        region_of=np.array([r for rs in regions for r in rs], dtype=np.int64) + first[sample_of],
        areas=line.areas,
        base=base,
    )
    flat = _in_order(line)
    if not np.any(flat.stop[:-1] > flat.start[1:]):
        said = _regions_of(chunk, line, chunk.areas)  # by segment: several times as fast
        return _cut(chunk, flat, chunk.areas, said, np.zeros(len(samples), dtype=np.int64))
    flat, tied = _untangled(chunk, flat)
    visible = flat.areas
    return _cut(chunk, flat, visible, _regions_of(chunk, flat, visible), tied)


def _regions(sample: Sample, categories: Mapping[int, Category]) -> list[int]:
    """The region of each segment, as the place of the first one that it is merged with."""
    first: dict[tuple[int, bool], int] = {}
    regions = []
    for index, segment in enumerate(sample.segments):
        category = categories.get(segment.category_id)
        if category is None:
            raise FormatError(
                f"segment {index} has unknown category {segment.category_id}",
                path=sample.file_name,
                code="A304",
            )
        merges = segment.iscrowd or not category.isthing
        key = (segment.category_id, segment.iscrowd)
        regions.append(first.setdefault(key, index) if merges else index)
    return regions


def _cut(
    chunk: _Chunk, line: Runs, visible: Ints, regions: list[tuple[Region, ...]], tied: Ints
) -> list[Painted]:
    """Cut a line of runs that do not overlap into its images; `visible` pixels, (N,)."""
    begin = np.searchsorted(line.start, chunk.base.astype(line.start.dtype))
    many = np.diff(begin, append=len(line.start))
    shift = np.repeat(chunk.base.astype(line.start.dtype), many)
    start, stop = (x - shift for x in (line.start, line.stop))
    owner = line.owner - np.repeat(chunk.first[:-1], many)
    region_of = chunk.region_of - chunk.first[chunk.sample_of] + 1
    id_ = region_of.astype(np.int32).take(line.owner)
    said = (regions, _losses(chunk, visible), tied.tolist())
    runs = [slice(*ends) for ends in pairwise([*begin.tolist(), len(line.start)])]
    segments = [slice(*ends) for ends in pairwise(chunk.first.tolist())]
    return [
        Painted(s.height, s.width, start[r], stop[r], owner[r], id_[r], region_of[g], *rest)
        for s, r, g, *rest in zip(chunk.samples, runs, segments, *said, strict=True)
    ]


def _in_order(line: Runs) -> Runs:
    """Runs by position; those that begin together stay as they are."""
    rank = np.argsort(line.start, kind="stable")  # merges what is in order, as each mask is
    return Runs(line.start.take(rank), line.stop.take(rank), line.owner.take(rank), line.count)


def _regions_of(chunk: _Chunk, line: Runs, visible: Ints) -> list[tuple[Region, ...]]:
    """The regions of each image that have pixels, by id; the runs may come in any order."""
    shift = chunk.base.astype(line.start.dtype).take(chunk.sample_of).take(line.owner)
    owner = chunk.region_of.take(line.owner)
    merged = Runs(line.start - shift, line.stop - shift, owner, line.count)
    heights = {s.height for s in chunk.samples}
    height: Ints | int = heights.pop()
    if heights:
        height = np.array([s.height for s in chunk.samples], dtype=np.int64)[chunk.sample_of]
    boxes = boxes_of(merged, height).tolist()
    areas = np.bincount(chunk.region_of, visible, len(visible)).astype(np.int64).tolist()
    known = zip(areas, boxes, strict=True)
    return [
        tuple(
            Region(number, segment.category_id, area, (x, y, w, h), segment.iscrowd)
            for number, segment, (area, (x, y, w, h)) in zip(
                count(1), sample.segments, known, strict=False
            )
            if area
        )
        for sample in chunk.samples
    ]


def _losses(chunk: _Chunk, visible: Ints) -> list[tuple[Loss, ...]]:
    """What others cover of each image's segments."""
    losses: list[list[Loss]] = [[] for _ in chunk.samples]
    lost = chunk.areas - visible
    for i in np.flatnonzero((lost > 0) | (visible == 0)).tolist():
        sample = int(chunk.sample_of[i])
        place = i - int(chunk.first[sample])
        losses[sample].append(Loss(place, int(lost[i]), not visible[i]))
    return [tuple(found) for found in losses]


# ── overlaps ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Pieces:
    """
    Images cut at every end of a run: within a piece, nobody begins or ends.

    Piece i reaches from cuts[i] to cuts[i + 1]; run j covers the pieces begin[j] .. end[j] - 1.
    """

    cuts: Ints  # (P + 1,)
    begin: Ints  # (R,)
    end: Ints  # (R,)
    owner: Ints  # (R,)

    @classmethod
    def of(cls, line: Runs) -> _Pieces:
        """Cut along all runs of a line."""
        both = np.concatenate([line.start, line.stop])
        order = np.argsort(both, kind="stable")
        both = both.take(order)
        first = heads(both)
        piece = np.empty(len(both), dtype=np.int64)
        piece[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(both)))
        begin, end = piece[: len(line.start)], piece[len(line.start) :]
        return cls(both.take(first), begin, end, line.owner)

    def tops(self, rank: Ints) -> Ints:
        """Who covers each piece with the highest rank, (P,), -1 where nobody does; `rank` (N,)."""
        lowest_first = np.argsort(rank.take(self.owner), kind="stable")
        begin, end = self.begin.take(lowest_first), self.end.take(lowest_first)
        owner = self.owner.take(lowest_first)
        top = np.full(len(self.cuts) - 1, -1, dtype=np.int64)
        many = end - begin
        done = np.cumsum(many)
        at = 0
        while at < len(many):  # as many runs at a time as memory is meant for, one at least
            to = max(at + 1, int(np.searchsorted(done, done[at] - many[at] + _PAINTED)))
            covered = many[at:to]
            step = np.repeat(begin[at:to] - np.cumsum(covered) + covered, covered)
            step += np.arange(len(step))
            top[step] = np.repeat(owner[at:to], covered)  # of equal places, the last one stays
            at = to
        return top


def _untangled(chunk: _Chunk, line: Runs) -> tuple[Runs, Ints]:
    """
    Resolve all overlaps; also how many pixels of each image only a tie-break decided.

    Raises:
        OverlapError: the policy of an image with overlapping regions is "fail".
    """
    tangled = np.zeros(len(chunk.samples), dtype=np.bool_)
    tangled[chunk.sample_of[line.owner[:-1][line.stop[:-1] > line.start[1:]]]] = True
    images = np.flatnonzero(tangled).tolist()
    inside = tangled.take(chunk.sample_of).take(line.owner)
    pieces = _Pieces.of(_some(line, inside))
    _refuse(chunk, pieces, [i for i in images if chunk.policies[i] == "fail"])

    top = pieces.tops(_ranks(chunk, images, lambda i: _order(*_case(chunk, i))))
    head = np.flatnonzero(np.diff(top, prepend=-2))
    edges = pieces.cuts[np.append(head, len(top))]
    flat = _some(Runs(edges[:-1], edges[1:], top[head], line.count), top[head] >= 0)
    return _in_order(_joined(_some(line, ~inside), flat)), _tied(chunk, pieces, images)


def _some(line: Runs, chosen: NDArray[np.bool_]) -> Runs:
    return Runs(line.start[chosen], line.stop[chosen], line.owner[chosen], line.count)


def _joined(one: Runs, other: Runs) -> Runs:
    return Runs(
        np.concatenate([one.start, other.start]),
        np.concatenate([one.stop, other.stop]),
        np.concatenate([one.owner, other.owner]),
        one.count,
    )


def _case(chunk: _Chunk, image: int) -> tuple[Sample, list[int], Overlap]:
    """What `_order` needs to know."""
    begin, end = chunk.first[image : image + 2].tolist()
    return chunk.samples[image], chunk.areas[begin:end].tolist(), chunk.policies[image]


def _ranks(chunk: _Chunk, images: Iterable[int], order: Callable[[int], list[int]]) -> Ints:
    """The height of every segment, (N,), from the order in each image; 0 in all others."""
    rank = np.zeros(len(chunk.areas), dtype=np.int64)
    for image in images:
        places = np.array(order(image), dtype=np.int64)
        rank[chunk.first[image] + places] = np.arange(len(places))
    return rank


def _disputed(chunk: _Chunk, pieces: _Pieces, up: Ints, down: Ints) -> tuple[Ints, Ints, Ints]:
    """The pieces that go to other regions by one ranking than by the other; to whom, by each."""
    one, other = pieces.tops(up), pieces.tops(down)
    where = np.flatnonzero((one >= 0) & (chunk.region_of[one] != chunk.region_of[other]))
    return where, one[where], other[where]


def _refuse(chunk: _Chunk, pieces: _Pieces, images: Sequence[int]) -> None:
    """Raise where several regions of one of these images claim a pixel."""
    if not images:
        return
    chosen = np.isin(chunk.sample_of, images)
    rank = np.where(chosen, chunk.region_of, 0)
    _, one, other = _disputed(chunk, pieces, rank, -rank)
    clash = np.flatnonzero(chosen[one])
    if not len(clash):
        return
    a, b = sorted((int(one[clash[0]]), int(other[clash[0]])))
    image = int(chunk.sample_of[a])
    sample, first = chunk.samples[image], int(chunk.first[image])
    masks = [sample.segments[i - first].mask(sample.height, sample.width) for i in (a, b)]
    raise OverlapError(
        f"{sample.file_name}: segments {a - first} and {b - first} both claim "
        f"{masks[0].intersection(masks[1])} pixels, and {_undecided(sample)}",
        hint="choose who wins, by --overlap or in Python by overlap=: z-order (the higher, then "
        "the later in the file) or smaller-on-top",
    )


def _undecided(sample: Sample) -> str:
    """Why nobody wins where segments overlap and the policy is "fail"."""
    if default_policy(sample) == "z-order":
        return "by overlap=fail their z-order does not decide"
    some = any(s.z_order is not None for s in sample.segments)
    return f"{'not all' if some else 'no'} segments of the image have a z-order"


def _tied(chunk: _Chunk, pieces: _Pieces, images: Sequence[int]) -> Ints:
    """Pixels of each image, (K,), where another region lies as high as the one that got them."""
    tied = np.zeros(len(chunk.samples), dtype=np.int64)
    images = [i for i in images if _has_ties(chunk, i)]
    if not images:
        return tied

    def by_depth(image: int, sign: int) -> list[int]:
        first, segments = int(chunk.first[image]), chunk.samples[image].segments
        region = (sign * chunk.region_of[first : first + len(segments)]).tolist()
        return sorted(range(len(segments)), key=lambda i: (*_depth(segments[i]), region[i]))

    up, down = (_ranks(chunk, images, partial(by_depth, sign=sign)) for sign in (1, -1))
    where, one, _ = _disputed(chunk, pieces, up, down)
    pixels = np.diff(pieces.cuts)[where]
    np.add.at(tied, chunk.sample_of[one], pixels)
    known = np.zeros_like(tied)
    known[images] = tied[images]
    return known


def _has_ties(chunk: _Chunk, image: int) -> bool:
    """Do some segments have the same z-order, and does z-order decide?"""
    sample = chunk.samples[image]
    if chunk.policies[image] != "z-order" or default_policy(sample) != "z-order":
        return False
    return len({_depth(s) for s in sample.segments}) < len(sample.segments)
