"""
What a comparison comes to: which number the next version gets, and how people are told. Pure.

The levels are those of Croissant 1.1 (mlcommons.org/croissant, "Version"): patch, the data are
the same; minor, there are more; major, what was there is not the same any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..names import listing, markdown
from .diff import CategoryChange, Summary
from .version import Level

Row = tuple[str, ...]
_LEVELS: tuple[Level, ...] = ("major", "minor", "patch")

TITLE = "# Changelog"

_HAPPENED: tuple[tuple[str, Level, str, str], ...] = (  # what, level, one, many
    ("removed", "major", "image removed", "images removed"),
    ("renamed", "major", "image renamed", "images renamed"),
    ("moved", "major", "image moved to another split", "images moved to another split"),
    ("picture", "major", "picture with other bytes", "pictures with other bytes"),
    ("resized", "major", "image with another size", "images with another size"),
    ("masks", "major", "mask changed", "masks changed"),
    ("segments removed", "major", "segment removed", "segments removed"),
    ("relabelled", "major", "segment relabelled", "segments relabelled"),
    ("iscrowd", "major", "segment is or was a crowd", "segments are or were crowds"),
    ("z_order", "major", "segment with another z-order", "segments with another z-order"),
    ("attributes", "major", "segment with other attributes", "segments with other attributes"),
    ("map", "major", "panoptic map drawn otherwise", "panoptic maps drawn otherwise"),
    ("added", "minor", "image added", "images added"),
    ("segments added", "minor", "segment added to images that were there",
     "segments added to images that were there"),
    ("ids", "patch", "image id given anew: results stored by image_id do not fit it",
     "image ids given anew: results stored by image_id do not fit them"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which part of the version number has to rise, and why: the reasons of that level."""

    level: Level
    reasons: tuple[str, ...]


class _Said(NamedTuple):
    level: Level
    text: str
    examples: Sequence[str] = ()  # the first images that it happened to


def verdict(summary: Summary, documents: Sequence[str] = ()) -> Verdict:
    """
    Judge a comparison.

    Args:
        documents: files that differ beside images and annotations, such as README.md.
    """
    said = _said(summary, documents)
    for level in _LEVELS:
        if reasons := tuple(s.text for s in said if s.level == level):
            return Verdict(level, reasons)
    return Verdict("patch", ("the same images, masks and categories",))


def _said(summary: Summary, documents: Sequence[str]) -> list[_Said]:
    """All that happened, the gravest first."""
    said = [_Said(_category_level(c), f"category {c}") for c in summary.categories]
    for what, level, one, many in _HAPPENED:
        if n := summary.counts[what]:
            text = f"{n:,} {one if n == 1 else many}"
            if what == "masks" and (mean := summary.masks.mean_iou) is not None:
                text += f", mean IoU {shown_iou(mean)}"
            said.append(_Said(level, text, summary.examples[what]))
    if documents:
        said.append(_Said("patch", f"{listing(sorted(documents), 3)} changed"))
    return sorted(said, key=lambda s: _LEVELS.index(s.level))


def _category_level(change: CategoryChange) -> Level:
    if change.kind == "added":
        return "minor"
    return "patch" if change.kind == "changed" and "isthing" not in change.what else "major"


def shown_iou(iou: float) -> str:
    """Three decimals, rounded down: what is not equal is never shown as 1.000."""
    return f"{int(iou * 1000) / 1000:.3f}"


# ── for people ───────────────────────────────────────────────────────────────────────────────


def image_rows(summary: Summary) -> tuple[Row, list[Row]]:
    """A header, and the row of the images."""
    counts = summary.counts
    kinds = ("added", "removed", "renamed", "moved", "picture")
    header = ("", "before", "after", "added", "removed", "renamed", "moved", "new bytes")
    numbers = (summary.before, summary.after, *(counts[kind] for kind in kinds))
    return header, [("images", *(f"{n:,}" for n in numbers))]


def class_rows(summary: Summary) -> tuple[Row, list[Row]]:
    """A header, and a row of each category whose segments changed, then one of all."""
    rows = []
    changed = [(name, c) for name, c in summary.classes.items() if c.added or c.removed or c.masks]
    for name, c in [*changed, ("all", summary.masks)]:
        iou = "" if c.mean_iou is None else shown_iou(c.mean_iou)
        numbers = (c.before, c.after, c.added, c.removed, c.masks)
        rows.append((name, *(f"{n:,}" for n in numbers), iou))
    return ("category", "before", "after", "added", "removed", "changed", "mean IoU"), rows


def lines(summary: Summary, documents: Sequence[str] = ()) -> Iterator[str]:
    """Everything that happened, the gravest first, with the first images of each."""
    for level, text, examples in _said(summary, documents):
        first = listing(examples[:3]) + (", …" if len(examples) > 3 else "")
        yield f"{level}: {text}" + (f" ({first})" if examples else "")
    if summary.lowest is not None:
        iou, name = summary.lowest
        yield f"the mask that changed most is in {name}: IoU {shown_iou(iou)}"
    if not summary.pictures:
        yield "the bytes of pictures were not compared: one side has none"


def section(title: str, before: str, summary: Summary, documents: Sequence[str] = ()) -> str:
    """A section of a changelog in Markdown; it has no date, so that it is always the same."""
    said = _said(summary, documents)
    level = verdict(summary, documents).level
    parts = [f"## {markdown(title)}", f"A {level} version, compared with {markdown(before)}."]
    for at, heading in zip(_LEVELS, ("Changed", "Added", "The same data"), strict=True):
        if texts := [f"- {markdown(s.text)}" for s in said if s.level == at]:
            parts += [f"### {heading}", "\n".join(texts)]
    counts = summary.masks
    if counts.added or counts.removed or counts.masks:
        header, rows = class_rows(summary)
        table = [header, ("---", *["---:"] * (len(header) - 1))]
        table += [tuple(map(markdown, row)) for row in rows]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in table))
    return "\n\n".join(parts) + "\n"


def with_section(text: str, new: str) -> str:
    """A changelog with a section on top; one that has its heading already makes place for it."""
    heading = new.partition("\n")[0]
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    kept = [s for s in sections if s.partition("\n")[0].rstrip() != heading]
    parts = [head if head.strip() else TITLE, new, *kept]
    return "\n\n".join(p.strip("\n") for p in parts) + "\n"
