"""
A contact sheet: masks before and after, on their pictures, for people who want to see it.

One page of HTML that needs nothing else: small JPEGs with the outlines drawn over them as SVG,
which stay sharp and disappear under the mouse.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .images import preview
from .masks import BitMask, Mask
from .report import escaped
from .shapes.outlines import trace

_MOST = 420  # pixels of a view along a side
_CLOSE = 0.3  # of the object's longer side: what the close view shows
_ROOM = 0.12  # of that side, around the object
_WIDEST, _TALLEST = 1.5, 1.1  # a view's width to its height, and the other way round
_LINES = ("old", "new")  # drawn over a dark case, which is seen on any ground

Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Shown:
    """An object on the sheet: where it lies, how its mask changed, and what is said of it."""

    title: str
    facts: Sequence[str]
    before: Mask
    after: Mask


def figure(image: NDArray[np.uint8], shown: Shown) -> str:
    """
    The HTML of one object on its picture (H, W, 3).

    That is the object before, after, and where it changed most; or once, as it stayed.
    """
    before, after = shown.before.to_array(), shown.after.to_array()
    whole = _around(before | after)
    views = [_view(image, whole, {"old": before})]
    if shown.before != shown.after:
        close = _where_most_changed(before ^ after, whole)
        fills = {"added": after & ~before, "removed": before & ~after}
        views.append(_view(image, whole, {"new": after}))
        views.append(_view(image, close, {**fills, "old": before, "new": after}))
    said = "".join(f"<li>{escaped(fact)}</li>" for fact in shown.facts)
    return (
        f"<figure><div class=views>{''.join(views)}</div>"
        f"<figcaption><b>{escaped(shown.title)}</b><ul>{said}</ul></figcaption></figure>"
    )


LEGEND = (
    "<p class=legend><span><i class=old></i>before</span><span><i class=new></i>after</span>"
    "<span><i class=added></i>added</span><span><i class=removed></i>taken away</span>"
    "<span class=hint>Left before, then after, and right where it changed most. "
    "Point at a picture to see it without lines.</span></p>"
    "<p class=hint>Confidence is how sure the network is of what it changed, from 0 to 1; "
    "coarseness the way from vertex to vertex as a share of the object's size. An outline that was "
    "better as it was stays so for good with an attribute <code>verified</code> that is true.</p>"
)

STYLE = """\
body { max-width: 104rem; }
.sheet { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 36rem), 1fr)); }
.sheet.stayed { grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: .6rem; overflow: hidden;
  background: var(--wash); }
.views { display: flex; gap: 2px; background: #0b0f14; }
.views svg { display: block; min-width: 0; }
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


def _view(image: NDArray[np.uint8], box: Box, lines: Mapping[str, BitMask]) -> str:
    """A part of a picture, with masks (H, W) drawn over it, each as its kind is drawn."""
    part = image[box]
    height, width = part.shape[:2]
    shrink = min(1.0, _MOST / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    paths = {kind: _path(_shrunk(mask[box], size)) for kind, mask in lines.items()}
    cases = "".join(f'<path class=case d="{paths[k]}"/>' for k in _LINES if k in paths)
    drawn = "".join(f'<path class={kind} d="{path}"/>' for kind, path in paths.items())
    body = b64encode(preview(part, *size)).decode()
    share = f"flex:{100 * size[1] // size[0]} 1 0;aspect-ratio:{size[1]}/{size[0]}"
    return (
        f'<svg viewBox="0 0 {size[1]} {size[0]}" style="{share}">'
        f'<image href="data:image/jpeg;base64,{body}" width="{size[1]}" height="{size[0]}"/>'
        f"{cases}{drawn}</svg>"
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
    """The part of a picture about a mask that has pixels, with some room, not too long."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    spans = [(int(at[0]), int(at[-1]) + 1) for at in (rows, columns)]
    room = 4 + round(_ROOM * max(stop - start for start, stop in spans))
    height, width = (stop - start + 2 * room for start, stop in spans)
    sides = max(height, round(width / _WIDEST)), max(width, round(height / _TALLEST))
    return _part([(start + stop) // 2 for start, stop in spans], sides, mask.shape)


def _where_most_changed(change: BitMask, box: Box) -> Box:
    """The square in a part of the picture with the most pixels that changed."""
    rows, columns = box
    sides = [s.stop - s.start for s in box]
    close = min(max(24, round(max(sides) * _CLOSE)), *sides)
    sums = np.pad(change[box].astype(np.int32), ((1, 0), (1, 0)))
    sums = sums.cumsum(axis=0).cumsum(axis=1)
    inside = sums[close:, close:] - sums[:-close, close:] - sums[close:, :-close]
    inside += sums[:-close, :-close]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    top, left = rows.start + int(row), columns.start + int(column)
    return slice(top, top + close), slice(left, left + close)


def _part(centre: Sequence[int], sides: Sequence[int], size: Sequence[int]) -> Box:
    """Sides (height, width) about a centre, moved into a picture of this size."""
    rows, columns = (
        slice(start, min(start + side, most))
        for middle, side, most in zip(centre, sides, size, strict=True)
        for start in (max(0, min(middle - side // 2, most - side)),)
    )
    return rows, columns
