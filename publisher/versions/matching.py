"""
Which segment of an image is which segment of its next version: one to one, always the same. Pure.

Ids alone do not tell: where a source keeps none, one more image moves all that come after.
Geometry alone does not either: a mask may be drawn anew. So, in this order:

1. the same category and the very same geometry, those of one id first;
2. the same category, and masks whose IoU is at least 0.5, highest first;
3. the same category and id, and masks that share a pixel;
4. another category, and masks whose IoU is at least 0.5: it was relabelled.

Among equals the lower position goes first. What is left was removed, or added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..dataset import Sample, Segment
from ..errors import FormatError
from ..masks import Mask, overlapping

SAME = 0.5
"""IoU from which two masks may be one object whatever their ids: the rule of panoptic quality."""


class Pair(NamedTuple):
    """A segment of the old image and one of the new, by position, and their IoU."""

    old: int
    new: int
    iou: float  # 1.0 only where the masks are equal, pixel by pixel


def match(old: Sample, new: Sample, category: Mapping[int, int]) -> list[Pair]:
    """
    Pair the segments of two versions of one image, by ascending old position.

    Where the image has another size no mask can be compared: only ids and categories count
    then, and every IoU is 0.

    Args:
        category: the new id of each old category that is still there.

    Raises:
        FormatError: a segment that had to be drawn is no mask of its image.
    """
    pairs = _unchanged(old.segments, new.segments, category)
    if len(pairs) < min(len(old.segments), len(new.segments)):
        taken_old, taken_new = {p.old for p in pairs}, {p.new for p in pairs}
        rest_old = [i for i in range(len(old.segments)) if i not in taken_old]
        rest_new = [j for j in range(len(new.segments)) if j not in taken_new]
        if (old.height, old.width) == (new.height, new.width):
            pairs += _drawn(old, new, rest_old, rest_new, category)
        else:
            pairs += _named(old.segments, new.segments, rest_old, rest_new, category)
    return sorted(pairs)


def _unchanged(
    old: Sequence[Segment], new: Sequence[Segment], category: Mapping[int, int]
) -> list[Pair]:
    """Equal category and geometry; nothing has to be drawn for that."""
    waiting: defaultdict[tuple[object, ...], dict[int, int]] = defaultdict(dict)
    for j, s in enumerate(new):
        waiting[s.category_id, s.segmentation][j] = s.id
    keys = [(category.get(s.category_id), s.segmentation) for s in old]
    found: dict[int, int] = {}
    for same_id in (True, False):
        for i, s in enumerate(old):
            there = waiting.get(keys[i])
            if i in found or not there:
                continue
            fits = (j for j, known in there.items() if not same_id or known == s.id)
            if (at := next(fits, None)) is not None:
                found[i] = at
                del there[at]
    return [Pair(i, j, 1.0) for i, j in found.items()]


def _drawn(
    old: Sample,
    new: Sample,
    rest_old: Sequence[int],
    rest_new: Sequence[int],
    category: Mapping[int, int],
) -> Iterator[Pair]:
    """Pairs by the pixels they share."""
    before, after = _masks(old, rest_old), _masks(new, rest_new)
    ranked = []
    for a, b, iou in overlapping(before, after):
        i, j = rest_old[a], rest_new[b]
        one, other = old.segments[i], new.segments[j]
        same_class = category.get(one.category_id) == other.category_id
        if iou >= SAME:
            rank = 0 if same_class else 2
        elif same_class and one.id == other.id:
            rank = 1
        else:
            continue
        exact = 1.0 if before[a] == after[b] else min(iou, _ALMOST)
        ranked.append((rank, -exact, one.id != other.id, i, j))
    return _greedy((i, j, -iou) for _, iou, _, i, j in sorted(ranked))


_ALMOST = 1.0 - 2**-53  # below 1, whatever rounding does


def _named(
    old: Sequence[Segment],
    new: Sequence[Segment],
    rest_old: Sequence[int],
    rest_new: Sequence[int],
    category: Mapping[int, int],
) -> Iterator[Pair]:
    """Pairs of equal id and category."""
    there: dict[tuple[int, int], int] = {}
    for j in rest_new:
        there.setdefault((new[j].id, new[j].category_id), j)
    keys = [(i, (old[i].id, category.get(old[i].category_id, -1))) for i in rest_old]
    return _greedy((i, there[key], 0.0) for i, key in keys if key in there)


def _greedy(ranked: Iterable[tuple[int, int, float]]) -> Iterator[Pair]:
    """The first pair of each, best first."""
    taken_old: set[int] = set()
    taken_new: set[int] = set()
    for i, j, iou in ranked:
        if i not in taken_old and j not in taken_new:
            taken_old.add(i)
            taken_new.add(j)
            yield Pair(i, j, iou)


def _masks(sample: Sample, positions: Sequence[int]) -> list[Mask]:
    try:
        return [sample.segments[i].mask(sample.height, sample.width) for i in positions]
    except FormatError as error:
        error.path = error.path or sample.file_name
        error.hint = error.hint or "`publisher validate` lists all that are wrong"
        raise
