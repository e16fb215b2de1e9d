"""Faults of YOLO's labels, which only its readers meet."""

# ruff: noqa: ARG001  there is nothing to look at; the docstrings are what counts

from __future__ import annotations

from collections.abc import Iterator

from .rule import Finding, Scene, reading_rule


@reading_rule("Y831")
def not_normalised(scene: Scene) -> Iterator[Finding]:
    """
    A coordinate of a YOLO label is not in [0, 1].

    Why it matters: coordinates are shares of the image's width and height. Ultralytics takes an
    image whose label has one beyond for corrupt, and leaves it out of training with a warning
    among many.
    Fix: divide pixels by width and height; clip what hangs over the image.
    Example: `0 12.5 40.0 80.0 40.0 80.0 90.5`, in pixels.
    """
    yield from ()


@reading_rule("Y832")
def unknown_class(scene: Scene) -> Iterator[Finding]:
    """
    A YOLO label has a class that `data.yaml` does not name.

    Why it matters: classes are numbered from 0. Labels that count from 1 are all off by one,
    which only the last class gives away; for Ultralytics the image is corrupt and is left out.
    Fix: name the class in `data.yaml`, or number the labels from 0.
    Example: `3 0.1 0.1 0.5 0.1 0.5 0.5` where `names` are 0, 1 and 2.
    """
    yield from ()
