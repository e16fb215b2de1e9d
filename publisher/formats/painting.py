"""What writers of flat maps share: each pixel gets one owner, and what that costs is booked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..conservation import Ledger
from ..dataset import Category, Dataset, Sample
from ..panoptic import Overlap, Painted, chunks, paint_all


def painted_samples(dataset: Dataset, overlap: Overlap | None) -> Iterator[tuple[Sample, Painted]]:
    """Each sample with its map, a chunk in memory at a time; see `panoptic.paint`."""
    for samples in chunks(dataset):
        painted = paint_all(samples, dataset.category_of, overlap)
        yield from zip(samples, painted, strict=True)


def book(
    ledger: Ledger, sample: Sample, painted: Painted, categories: Mapping[int, Category]
) -> None:
    """Book what painting loses: hidden pixels and segments, patches that become one; and ties."""
    for loss in painted.losses:
        reason = "others cover a part"
        if loss.hidden:
            reason = "a segment is wholly hidden" if loss.pixels else "a segment has no pixels"
        name = categories[sample.segments[loss.segment].category_id].name
        pixels = {name: -loss.pixels}
        ledger.note(reason, sample.file_name, segments=-int(loss.hidden), pixels=pixels)
    hidden = sum(loss.hidden for loss in painted.losses)
    if merged := len(sample.segments) - hidden - len(painted.regions):
        reason = "patches of one stuff class, or crowds of one class, become one region"
        ledger.note(reason, sample.file_name, segments=-merged)
    if painted.tied:
        ledger.note(
            "warning: segments of one z-order share pixels; the higher id, then the later in the "
            "file, is on top",
            sample.file_name,
        )


def book_crowds(
    ledger: Ledger, sample: Sample, painted: Painted, categories: Mapping[int, Category]
) -> None:
    """Book the crowds of an image as void."""
    for r in painted.regions:
        if r.iscrowd:
            pixels = {categories[r.category_id].name: -r.area}
            ledger.note("a crowd becomes void", sample.file_name, segments=-1, pixels=pixels)
