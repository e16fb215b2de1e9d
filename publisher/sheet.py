"""
A contact sheet: masks before and after, on their pictures, for people who want to see it.

One page of HTML that needs nothing else: small JPEGs with the outlines drawn over them as SVG,
which stay sharp and disappear under the mouse.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .images import preview
from .masks import BitMask, Mask
from .outlines import trace
from .report import escaped

_MOST = 420  # pixels of a view along a side
_CLOSE = 0.3  # of the object's longer side: what the close view shows

Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Shown:
    """An object on the sheet: where it lies, how its mask changed, and what is said of it."""

    title: str
    facts: Sequence[str]
    before: Mask
    after: Mask


def figure(image: NDArray[np.uint8], shown: Shown) -> str:
    """The HTML of one object on its picture (H, W, 3): all of it, and where it changed most."""
    before, after = shown.before.to_array(), shown.after.to_array()
    whole = _around(before | after)
    close = _where_most_changed(before ^ after, before | after)
    said = "".join(f"<li>{escaped(fact)}</li>" for fact in shown.facts)
    return (
        f"<figure><div class=views>{_view(image, before, after, whole)}"
        f"{_view(image, before, after, close, filled=True)}</div>"
        f"<figcaption><b>{escaped(shown.title)}</b><ul>{said}</ul></figcaption></figure>"
    )


LEGEND = (
    "<p class=legend><span><i class=old></i>before</span><span><i class=new></i>after</span>"
    "<span><i class=added></i>added</span><span><i class=removed></i>taken away</span>"
    "<span class=hint>Left the whole object, right where it changed most. "
    "Point at a picture to see it without lines.</span></p>"
)

STYLE = """\
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: .6rem; overflow: hidden;
  background: var(--wash); }
.views { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; background: #0b0f14; }
.views svg { display: block; width: 100%; aspect-ratio: 1; background: #0b0f14; }
.views path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.views .case { stroke: #000; stroke-opacity: .55; stroke-width: 4; }
.views .old { stroke: #ff9f1c; stroke-width: 1.8; stroke-dasharray: 5 3; }
.views .new { stroke: #27e0ff; stroke-width: 1.8; }
.views .added { fill: #27e0ff; fill-opacity: .32; } .views .removed { fill: #ff4fa3;
  fill-opacity: .38; }
.views svg:hover path { display: none; }
figcaption { padding: .5rem .8rem .6rem; font-size: .85rem; }
figcaption b { display: block; overflow-wrap: anywhere; }
figcaption ul { margin: .15rem 0 0; padding: 0; list-style: none; color: var(--soft);
  display: flex; flex-wrap: wrap; gap: 0 .9rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; align-items: center; }
.legend span { display: inline-flex; align-items: center; gap: .45rem; }
.legend i { width: 1.5rem; border-top: 3px solid; } .legend i.old { border-top-style: dashed;
  color: #ff9f1c; } .legend i.new { color: #12b5d6; }
.legend i.added, .legend i.removed { height: .8rem; border: 0; border-radius: .15rem; }
.legend i.added { background: #27e0ff88; } .legend i.removed { background: #ff4fa399; }
.hint { color: var(--soft); }
"""


def _view(
    image: NDArray[np.uint8], before: BitMask, after: BitMask, box: Box, *, filled: bool = False
) -> str:
    part = image[box]
    height, width = part.shape[:2]
    shrink = min(1.0, _MOST / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    old, new = _shrunk(before[box], size), _shrunk(after[box], size)
    body = b64encode(preview(part, *size)).decode()
    paths = [("case", old), ("case", new), ("old", old), ("new", new)]
    if filled:
        paths[:0] = [("added", new & ~old), ("removed", old & ~new)]
    drawn = "".join(f'<path class={kind} d="{_path(mask)}"/>' for kind, mask in paths)
    return (
        f'<svg viewBox="0 0 {size[1]} {size[0]}"><image href="data:image/jpeg;base64,{body}" '
        f'width="{size[1]}" height="{size[0]}"/>{drawn}</svg>'
    )


def _shrunk(mask: BitMask, size: tuple[int, int]) -> BitMask:
    """Every so many pixels of a mask, as many as `size` says."""
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(np.intp)
        for n, side in zip(size, mask.shape, strict=True)
    )
    return np.asarray(mask[rows[:, None], columns])


def _path(mask: BitMask) -> str:
    """The outlines of a mask as an SVG path."""
    rings = [
        ring for region in trace(Mask.from_array(mask)) for ring in (region.outer, *region.holes)
    ]
    return "".join(f"M{' '.join(map(str, ring))}z" for ring in rings)


def _around(mask: BitMask) -> Box:
    """A square about a mask that has pixels, with some room, as far as the picture goes."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    spans = [(int(at[0]), int(at[-1]) + 1) for at in (rows, columns)]
    side = round(max(stop - start for start, stop in spans) * 1.3) + 8
    return _square([(start + stop) // 2 for start, stop in spans], side, mask.shape)


def _where_most_changed(change: BitMask, mask: BitMask) -> Box:
    """The square with the most pixels that changed, a third of the object along a side."""
    rows, columns = _around(mask)
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    close = min(max(24, round(side * _CLOSE)), *(s.stop - s.start for s in (rows, columns)))
    sums = np.pad(change[rows, columns].astype(np.int32), ((1, 0), (1, 0)))
    sums = sums.cumsum(axis=0).cumsum(axis=1)
    inside = sums[close:, close:] - sums[:-close, close:] - sums[close:, :-close]
    inside += sums[:-close, :-close]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    top, left = rows.start + int(row), columns.start + int(column)
    return slice(top, top + close), slice(left, left + close)


def _square(centre: Sequence[int], side: int, size: Sequence[int]) -> Box:
    starts = [
        max(0, min(middle - side // 2, most - side))
        for middle, most in zip(centre, size, strict=True)
    ]
    rows, columns = (
        slice(start, min(start + side, most)) for start, most in zip(starts, size, strict=True)
    )
    return rows, columns
