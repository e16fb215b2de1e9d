"""Which images the numbered frames of a task are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from ...errors import FormatError, at
from ...files import Tree
from ...images import SUFFIXES, size_of
from ...names import safe_path
from ..grouping import Shape
from ..xml import Xml
from .members import Members
from .meta import Task, child
from .shapes import integer

MAX_FRAMES = 2**18  # of one task: 2.4 hours at 30 frames a second
_NUMBERED = re.compile(r"frame_(\d{6,9})")
_HINT = "export 'CVAT for images 1.1', which names them; or say where they lie: --images DIR"


@dataclass(slots=True)
class Frame:
    """One frame: its image, and what the tracks show in it."""

    name: str  # in CVAT
    file_name: str
    member: str | None
    height: int
    width: int
    shapes: list[tuple[int, Shape]] = field(default_factory=list)  # with the track's position
    aside: list[dict[str, Any]] = field(default_factory=list)


def frames_of(task: Task, members: Members, tree: Tree) -> dict[int, Frame]:
    """
    The frames of a task by number: as our own writer has listed them, or as CVAT numbers the
    frames of a video, or else the pictures in the order of their names.

    Raises:
        FormatError: K823, nothing says which frames are which images.
    """
    listed = task.node.find("frames")
    if listed is not None:
        return dict(_listed(node, task.subset, members) for node in listed.iter("frame"))
    size = task.node.find("original_size")
    if size is not None:
        return _of_video(task, size, members)
    return _of_pictures(task, members, tree)


def number_in(name: str) -> int | None:
    """The number of a frame that is named as CVAT names those of a video."""
    found = _NUMBERED.fullmatch(PurePosixPath(name).stem)
    return int(found[1]) if found else None


def write_frames(xml: Xml, frames: Mapping[int, tuple[str, int, int]]) -> None:
    """List frames by number with their names, heights and widths; CVAT passes over it."""
    with xml.element("frames"):
        for number, (name, height, width) in frames.items():
            said = {"number": number, "name": name, "width": width, "height": height}
            xml.leaf("frame", "", {k: str(v) for k, v in said.items()})


def _listed(node: Element, subset: str, members: Members) -> tuple[int, Frame]:
    with at("frame", node.get("number", "?")):
        name, height, width = node.get("name", ""), integer(node, "height"), integer(node, "width")
        return integer(node, "number"), _frame(name, subset, members, height, width)


def _of_video(task: Task, size: Element, members: Members) -> dict[int, Frame]:
    height, width = (int(t) if t.isdecimal() else 0 for t in _texts(size, "height", "width"))
    start = task.number("start_frame", 0)
    step = re.search(r"step=([1-9]\d{0,5})(?!\d)", child(task.node, "frame_filter"))
    stride = int(step[1]) if step else 1
    stop = task.number("stop_frame", start + stride * (task.number("size", 1) - 1))
    numbers = range(start, stop + 1, stride)
    if len(numbers) > MAX_FRAMES:
        raise FormatError(f"task {task.id} has {len(numbers):,} frames, more than {MAX_FRAMES:,}")
    return {n: _frame(f"frame_{n:06}", task.subset, members, height, width) for n in numbers}


def _of_pictures(task: Task, members: Members, tree: Tree) -> dict[int, Frame]:
    found = members.listed(task.subset)
    pictures = [p for p in found if PurePosixPath(p[0]).suffix.lower() in SUFFIXES]
    numbers: Sequence[int | None] = [number_in(name) for name, _ in pictures]
    if not pictures or None in numbers or len(set(numbers)) < len(numbers):
        numbers = range(len(pictures))
        if len(pictures) != task.number("size", len(pictures)):
            raise FormatError(
                f"task {task.id} has {task.number('size', 0)} frames, of {len(pictures)} pictures "
                "nothing says which they are",
                code="K823",
                hint=_HINT,
            )
    frames = {}
    for number, (name, member) in zip(numbers, pictures, strict=True):
        with tree.open(member) as stream, at("image", member):
            frames[number or 0] = Frame(name, name, member, *size_of(stream))
    return frames


def _frame(name: str, subset: str, members: Members, height: int, width: int) -> Frame:
    safe_path(name)
    if not (0 < height < 2**31 and 0 < width < 2**31):
        raise FormatError(f"image is {height}x{width}", code="I108")
    member = members.find(name, subset)
    return Frame(name, members.named(name, member) if member else name, member, height, width)


def _texts(node: Element, *tags: str) -> list[str]:
    return [child(node, tag)[:12] for tag in tags]
