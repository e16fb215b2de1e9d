"""
COCO panoptic: who owns each pixel, and segment ids as RGB.

Rules: panopticapi's format (https://cocodataset.org/#format-data, section 4) and what its
readers trust: no overlap, id 0 is void, one segment a stuff class, one crowd a class,
areas and boxes of the pixels as painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .dataset import Category, Sample, Segment
from .errors import FormatError, OverlapError
from .masks import Mask

VOID = 0
MAX_ID = 2**24 - 1

Overlap = Literal["fail", "z-order", "smaller-on-top"]
"""Who wins a pixel that several segments claim; see `order`."""


@dataclass(frozen=True, slots=True)
class Region:
    """What one id of a panoptic map stands for."""

    id: int
    category_id: int
    area: int  # pixels
    bbox: tuple[int, int, int, int]  # COCO xywh
    iscrowd: bool

    def to_json(self) -> dict[str, Any]:
        """An element of COCO's `segments_info`."""
        return {
            "id": self.id,
            "category_id": self.category_id,
            "area": self.area,
            "bbox": list(self.bbox),
            "iscrowd": int(self.iscrowd),
        }


@dataclass(frozen=True, slots=True)
class Loss:
    """Pixels of a segment that others cover, or all of it."""

    segment: int  # its position in the sample
    pixels: int
    hidden: bool


@dataclass(frozen=True, slots=True)
class Painted:
    """A panoptic map: `ids` (H, W) uint32, VOID where nobody is, and its regions by id."""

    ids: NDArray[np.uint32]
    regions: tuple[Region, ...]
    losses: tuple[Loss, ...]


def paint(
    sample: Sample, categories: dict[int, Category], overlap: Overlap | None = None
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
    masks = [s.mask(sample.height, sample.width) for s in sample.segments]
    policy = overlap or default_policy(sample)
    places = np.zeros((sample.height, sample.width), dtype=np.uint32)  # 1-based; 0 is nobody
    region_of = np.array([VOID, *_owners(sample, categories)], dtype=np.uint32)
    for index in order(sample, masks, policy):
        pixels = masks[index].to_array()
        if policy == "fail":
            _refuse_overlap(sample, index, places[pixels], region_of)
        places[pixels] = index + 1
    ids = region_of[places]
    return Painted(ids, _regions(ids, sample), _losses(places, masks))


def default_policy(sample: Sample) -> Overlap:
    """z-order where the source gave every segment one, else fail."""
    return "z-order" if all(s.z_order is not None for s in sample.segments) else "fail"


def order(sample: Sample, masks: Sequence[Mask], policy: Overlap) -> list[int]:
    """
    Positions of the segments from the bottom to the top.

    z-order: by `z_order`, ties and segments without one by their place in the file.
    smaller-on-top: by area, so that a ring stays visible on the hand. Crowds lie under
    everything else, since instances were annotated apart from them.
    """
    segments = sample.segments
    if policy == "smaller-on-top":
        return sorted(range(len(masks)), key=lambda i: (not segments[i].iscrowd, -masks[i].area, i))
    return sorted(range(len(masks)), key=lambda i: (_depth(segments[i]), i))


def rgb_from_ids(ids: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Spread 24-bit segment ids (H, W) over RGB (H, W, 3): id = R + 256 G + 65536 B."""
    little_endian = np.ascontiguousarray(ids, dtype="<u4")
    return little_endian.view(np.uint8).reshape(*ids.shape, 4)[..., :3]


def ids_from_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Inverse of `rgb_from_ids`."""
    r, g, b = np.moveaxis(rgb.astype(np.uint32), -1, 0)
    return np.asarray(r | g << 8 | b << 16, dtype=np.uint32)


def _depth(segment: Segment) -> tuple[bool, int]:
    return not segment.iscrowd, segment.z_order or 0


def _owners(sample: Sample, categories: dict[int, Category]) -> list[int]:
    """The region id of each segment: its own, or that of the first one it is merged with."""
    first: dict[tuple[int, bool], int] = {}
    owners = []
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
        owners.append(first.setdefault(key, index + 1) if merges else index + 1)
    return owners


def _regions(ids: NDArray[np.uint32], sample: Sample) -> tuple[Region, ...]:
    regions = []
    for number in np.unique(ids[ids != VOID]).tolist():
        mask = Mask.from_array(ids == number)
        segment = sample.segments[number - 1]
        regions.append(Region(number, segment.category_id, mask.area, mask.bbox, segment.iscrowd))
    return tuple(regions)


def _losses(places: NDArray[np.uint32], masks: Sequence[Mask]) -> tuple[Loss, ...]:
    visible = np.bincount(places.ravel(), minlength=len(masks) + 1)[1:].tolist()
    lost = [(i, m.area - v, v == 0) for i, (m, v) in enumerate(zip(masks, visible, strict=True))]
    return tuple(Loss(i, pixels, hidden) for i, pixels, hidden in lost if pixels or hidden)


def _refuse_overlap(
    sample: Sample, index: int, under: NDArray[np.uint32], region_of: NDArray[np.uint32]
) -> None:
    """Raise where another region already owns some of a segment's pixels."""
    claimed = under[(under != VOID) & (region_of[under] != region_of[index + 1])]
    if not len(claimed):
        return
    raise OverlapError(
        f"{sample.file_name}: segments {int(claimed[0]) - 1} and {index} both claim "
        f"{len(claimed)} pixels, and the dataset has no z-order",
        hint="choose who wins: --overlap z-order (later in the file) or smaller-on-top",
    )
