"""R: run-length encodings that are no mask of their image."""

from __future__ import annotations

from collections.abc import Iterator

from ..validate import Finding, Scene, rule


def broken(scene: Scene, code: str) -> Iterator[Finding]:
    """Segments whose geometry masks.py refused for this reason."""
    for index, error in scene.broken:
        if error.code == code:
            yield scene.find(str(error), index)


@rule("R504", "error")
def runs_do_not_fit(scene: Scene) -> Iterator[Finding]:
    """
    The runs of an RLE do not add up to height x width.

    Why it matters: pycocotools 2.0.11 decodes a short RLE without complaint and returns
    whatever lay in memory: 5 true pixels became 149.
    Fix: export again from the source; the mask cannot be rebuilt.
    Example: size [4, 5] with counts [3, 4], which is 7 pixels instead of 20.
    """
    yield from broken(scene, "R504")
