"""Trees that hold instances and panoptic maps of the same images: do the two agree?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ..dataset import Sample
from ..errors import FormatError
from ..files import Tree
from ..masks import BitMask, Mask
from ..validate import Finding, finding_of
from . import coco, coco_panoptic
from .reading import Reading

TOLERANCE = 0.01  # of a category's pixels in an image


def findings(tree: Tree) -> Iterator[Finding]:
    """
    What is wrong with the panoptic maps of a tree that is read as instances, and where the two
    differ; nothing where the tree does not hold both.

    Raises:
        FormatError: a file that either needs cannot be read at all.
    """
    if not (coco.detect(tree) and coco_panoptic.detect(tree)):
        return
    maps = coco_panoptic.read(tree)
    yield from (*maps.findings, *maps.mended)
    yield from disagreements(coco.read(tree), maps)


def disagreements(instances: Reading, maps: Reading) -> Iterator[Finding]:
    """N717 for each image that both hold; categories go by name."""
    names = [{c.id: c.name for c in r.categories} for r in (instances, maps)]
    painted = {key: p.sample for p in maps.pictures for key in _keys(p.sample)}
    for picture in instances.pictures:
        sample = picture.sample
        other = next((painted[key] for key in _keys(sample) if key in painted), None)
        if other is None:
            continue
        if (sample.height, sample.width) != (other.height, other.width):
            sizes = f"{sample.height}x{sample.width} and {other.height}x{other.width}"
            wrong = [f"the image is {sizes}"]
        else:
            wrong = list(_compared(_cover(sample, names[0]), _cover(other, names[1]), names[0]))
        if wrong:
            said = f"instances and panoptic map disagree: {'; '.join(wrong)}"
            yield finding_of(FormatError(said, code="N717"), sample.file_name)


def _keys(sample: Sample) -> tuple[tuple[str, ...], ...]:
    """Its subset and name, which tell it for sure; else its name."""
    return (str(sample.source.get("subset", "")), sample.file_name), (sample.file_name,)


def _cover(sample: Sample, names: Mapping[int, str]) -> dict[str, Mask]:
    """The pixels of each category, by its name."""
    cover: dict[str, list[Mask]] = {}
    for segment in sample.segments:
        try:
            mask = segment.mask(sample.height, sample.width)
        except FormatError:
            continue  # a rule says what is wrong with it
        cover.setdefault(names[segment.category_id], []).append(mask)
    return {name: Mask.union(masks) for name, masks in cover.items()}


def _compared(
    drawn: Mapping[str, Mask], painted: Mapping[str, Mask], known: Mapping[int, str]
) -> Iterator[str]:
    """
    The categories that differ.

    A pixel of an instance may be painted as another category that has it too, since who lies
    above wins, or as stuff that is no category of the instances.
    """
    names = set(known.values())
    if not drawn and not painted.keys() & names:
        return
    explained = _explained(drawn, painted, names)
    for name in sorted(drawn.keys() | (painted.keys() & names)):
        mine, shown = (_pixels(cover, name, explained) for cover in (drawn, painted))
        wrong = int(((shown & ~mine) | (mine & ~explained)).sum())
        either = int((shown | mine).sum())
        if wrong > TOLERANCE * either:
            yield f"{name} on {wrong} of {either} px"


def _explained(
    drawn: Mapping[str, Mask], painted: Mapping[str, Mask], names: Collection[str]
) -> NDArray[np.bool_]:
    """Pixels that are painted as a category which has them, or as one that is only painted."""
    one = next(iter({**drawn, **painted}.values()))
    explained = np.zeros((one.height, one.width), dtype=np.bool_)
    for name, mask in painted.items():
        shown = mask.to_array()
        explained |= shown & _pixels(drawn, name, explained) if name in names else shown
    return explained


def _pixels(cover: Mapping[str, Mask], name: str, like: BitMask) -> BitMask:
    """Those of a category, (H, W); a few categories are unpacked at a time."""
    return cover[name].to_array() if name in cover else np.zeros_like(like)
