"""Small datasets for tests of rules: one clean, and changes to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError
from publisher.masks import Mask, Rle
from publisher.validate import Finding, ImageFacts, check

HEIGHT, WIDTH = 40, 60


def box(x: float, y: float, w: float, h: float) -> tuple[float, ...]:
    return tuple(map(float, (x, y, x + w, y, x + w, y + h, x, y + h)))


HAND, KNIFE = box(5, 5, 10, 10), box(30, 20, 12, 8)
TABLE = Rle(HEIGHT, WIDTH, Mask.from_polygons((box(0, 35, 60, 5),), HEIGHT, WIDTH).counts.decode())
CATEGORIES = (
    Category(1, "hand", color=(255, 0, 0)),
    Category(2, "knife", color=(0, 255, 0)),
    Category(3, "table", isthing=False, color=(0, 0, 255)),
)
FACTS = ImageFacts("JPEG", HEIGHT, WIDTH, "RGB", 1, 1, "", False)


def segment(segmentation: Any = (HAND,), **changes: Any) -> Segment:
    if isinstance(segmentation, tuple) and segmentation and isinstance(segmentation[0], float):
        segmentation = (segmentation,)
    return replace(Segment(1, 1, segmentation), **changes)


def sample(*segments: Segment, **changes: Any) -> Sample:
    """One image; segments get ids 1, 2, ... where they have 1."""
    kept = tuple(replace(s, id=n) if s.id == 1 else s for n, s in enumerate(segments, 1))
    return replace(Sample(1, "a.jpg", HEIGHT, WIDTH, kept), **changes)


def dataset(*samples: Sample, categories: tuple[Category, ...] = CATEGORIES) -> Dataset:
    return Dataset("kitchen", categories, samples)


def numbered(*samples: Sample) -> Dataset:
    """As `dataset`, with image and segment ids that are unique."""
    n, result = 0, []
    for at, s in enumerate(samples, 1):
        segments = []
        for g in s.segments:
            n += 1
            segments.append(replace(g, id=n))
        result.append(replace(s, id=at, segments=tuple(segments)))
    return dataset(*result)


def scene_of_three() -> tuple[Segment, ...]:
    return (
        segment(HAND, z_order=1),
        segment(KNIFE, category_id=2, z_order=2),
        segment(TABLE, category_id=3, z_order=0, attributes={"clean": True}),
    )


def clean() -> Dataset:
    """Three images in three splits with nothing to complain about."""
    return numbered(
        *(
            sample(*scene_of_three(), file_name=f"{n}.jpg", split=split, group=n)
            for n, split in (("one", "train"), ("three", "test"), ("two", "val"))
        )
    )


HASHES = {"one.jpg": 0x0123456789ABCDEF, "two.jpg": 0xFEDCBA9876543210, "three.jpg": 0xF0E1D2C3}


def look(sample: Sample) -> ImageFacts:
    """A picture that fits its sample."""
    return replace(
        FACTS,
        height=sample.height,
        width=sample.width,
        sha256=sample.file_name,
        dhash=HASHES.get(sample.file_name, 0),
    )


def looks(**changes: Any) -> Any:
    """Every picture fits but for these facts."""
    return lambda sample: replace(look(sample), **changes)


def refuses(code: str) -> Any:
    def look(sample: Sample) -> ImageFacts:
        raise FormatError("cannot be read", code=code)

    return look


def found(data: Dataset, **options: Any) -> list[Finding]:
    return list(check(data, **options))


def codes(data: Dataset, **options: Any) -> set[str]:
    return {f.code for f in found(data, **options)}


def only(data: Dataset, code: str, **options: Any) -> list[str]:
    """What the findings with this code say, in full."""
    return [str(f) for f in found(data, **options) if f.code == code]
