"""Faults of CVAT's tracks, which only its readers meet."""

# ruff: noqa: ARG001  there is nothing to look at; the docstrings are what counts

from __future__ import annotations

from collections.abc import Iterator

from .rule import Finding, Scene, reading_rule


@reading_rule("K823", "warning")
def track_frames(scene: Scene) -> Iterator[Finding]:
    """
    A CVAT track does not say plainly what is seen in which frame.

    Why it matters: frames are numbers only. An element for a frame that the task does not have,
    or a second one for the same frame, belongs to no image; keyframes with different numbers of
    points leave open what lies between them; and where neither names nor a count of pictures
    fit the task, every mask may land on the wrong image.
    Fix: export "CVAT for images 1.1", which names every image and writes every shape out; or
    export with images, so that each frame has its picture.
    Example: `<polygon frame="12" keyframe="1" .../>` in a task of 12 frames, 0 to 11.
    """
    yield from ()
