"""
CVAT for video 1.1: tracks, each with one element for every frame in which it is seen.

An object's identity over frames is its attribute `track_id`; what is `outside` in a frame is
not there. CVAT writes the frames between keyframes out; where a file has keyframes only, they
are interpolated as CVAT does it. Frames are numbers: their images are CVAT's `frame_000000` of
a video, or the pictures in the order of their names, or those that our writer lists.

Written is one XML for each video or other group of images: each is a task in CVAT.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from ...conservation import Item, Tally
from ...dataset import Category, Sample
from ...errors import FormatError, at
from ...files import Tree
from ...validate import Finding, finding_of
from ..grouping import grouped
from ..reading import Picture, Reading, set_aside
from ..xml import elements
from .frames import MAX_FRAMES, Frame, frames_of
from .images import content_of, first_content, xml_names
from .interpolation import Gap, Shown, fill, gaps
from .members import Files, Members
from .meta import Meta, Task
from .shapes import NOT_SEGMENTS, described, integer, overhang, shape_of

MAX_FILLED = 2**17  # shapes that are interpolated: a few keyframes can ask for millions
MAX_TEXT = 2**27  # characters of them
TRACK = "track_id"  # the attribute that says which segments are one object over frames


def detect(tree: Tree) -> bool:
    """Does CVAT's XML nearest to the root hold tracks?"""
    return first_content(tree) == "track"


def read(tree: Tree) -> Reading:
    """
    Read one export, or all of a folder as one dataset.

    Raises:
        FormatError: the XML is broken or hostile, or nothing says which frames are which images.
    """
    shared = _Shared(tree)
    files = []
    names = [n for n in xml_names(tree) if content_of(tree, n) == "track"]
    for name in names:
        members = shared.members(str(PurePosixPath(name).parent))
        file = _File(name, shared, members, Meta(categories=shared.categories))
        try:
            with tree.open(name) as stream:
                for element in elements(stream):
                    file.take(element)
            file.finish()
        except FormatError as error:
            error.path = error.path or f"{tree.label}: {name}"
            raise
        files.append(file)
    if not files:
        raise FormatError("no tracks of CVAT's", path=tree.label)
    return Reading(
        name=next((f.meta.name for f in files if f.meta.name), ""),
        format="cvat-video",
        categories=tuple(shared.categories.values()),
        pictures=tuple(p for f in files for p in f.pictures),
        counted=sum((f.counted for f in files), start=Tally()),
        items=tuple(i for f in files for i in f.items),
        notes=tuple(n for f in files for n in f.notes),
        findings=tuple(x for f in files for x in f.findings),
        mended=tuple(x for f in files for x in f.mended),
        files=frozenset(names),
    )


class _Shared:
    """What all XML files of a tree have in common."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.categories: dict[str, Category] = {}
        self._files = Files(tree.names())
        self._claimed = 0
        self._filled = self._text = 0

    def members(self, base: str) -> Members:
        """The files beside the XML files of one folder."""
        return Members(self._files, base)

    def claim(self, frames: Iterable[Frame]) -> None:
        """
        Count frames without a picture: a few bytes can claim billions of them.

        Raises:
            FormatError: they are more than `MAX_FRAMES`.
        """
        self._claimed += sum(f.member is None for f in frames)
        if self._claimed > MAX_FRAMES:
            raise FormatError(f"more than {MAX_FRAMES:,} frames without a picture")

    def fill(self, gap: Gap) -> None:
        """
        Count the shapes that a gap will be filled with, and their text.

        Raises:
            FormatError: they are more than `MAX_FILLED`, or their text than `MAX_TEXT`.
        """
        self._filled += len(gap.frames)
        self._text += len(gap.frames) * sum(map(len, gap.before[1].attrib.values()))
        if self._filled > MAX_FILLED or self._text > MAX_TEXT:
            raise FormatError(
                "too many shapes between keyframes",
                hint="export from CVAT: it writes every frame out",
            )


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of a task, by number."""

    task: Task
    by_number: dict[int, Frame]
    numbers: tuple[int, ...]  # in order


@dataclass(frozen=True, slots=True)
class _Track:
    """One track: the elements that it has, in the order of their frames."""

    position: int
    node: Element
    frames: _Frames
    shown: list[Shown]


@dataclass(slots=True)
class _File:
    """One XML; `take` each element, then `finish`."""

    name: str
    shared: _Shared
    members: Members
    meta: Meta
    pictures: list[Picture] = field(default_factory=list)
    counted: Tally = field(default_factory=Tally)
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tasks: dict[str, _Frames] = field(default_factory=dict)
    tracks: int = 0
    complete: bool = False  # frames between keyframes are written out
    waiting: list[_Track] = field(default_factory=list)  # tracks with gaps
    pixels: Counter[str] = field(default_factory=Counter)  # of the file's own elements, by label
    drawn: Counter[str] = field(default_factory=Counter)  # of interpolated shapes
    segments: int = 0
    interpolated: int = 0

    def take(self, element: Element) -> None:
        if element.tag == "meta":
            self.meta.take(element)
        elif element.tag == "track":
            with at("track", element.get("id", "?")):
                frames = self._frames(self.meta.task_of(element))
            track = _Track(self.tracks, element, frames, self._in_order(element))
            self.tracks += 1
            self.complete |= any(e.get("keyframe") == "0" for e in element)
            if not self.complete and any(gaps(track.shown, frames.numbers)):
                self.waiting.append(track)
            else:
                self._track(track, [])

    def finish(self) -> None:
        """Read the tracks that had to wait until it was clear what their gaps mean."""
        for track in self.waiting:
            self._track(track, [] if self.complete else self._filled(track))
        self.counted += Tally(segments=self.segments, pixels=dict(self.pixels))
        if self.interpolated:
            change = Tally(segments=self.interpolated, pixels=dict(self.drawn))
            reason = f"{self.interpolated} shape(s) between keyframes were interpolated"
            self.items.append(Item(reason, change))
        for task in self.meta.tasks.values():
            self._frames(task)
        aside: Counter[str] = Counter()
        for frames in self.tasks.values():
            aside.update(a["kind"] for f in frames.by_number.values() for a in f.aside)
            self._images(frames.task, frames.by_number)
        self.mended += set_aside(aside, self.name)

    def _frames(self, task: Task) -> _Frames:
        if task.id not in self.tasks:
            frames = dict(sorted(frames_of(task, self.members, self.shared.tree).items()))
            if task.node.find("frames") is None:
                self.shared.claim(frames.values())
            self.tasks[task.id] = _Frames(task, frames, tuple(frames))
        return self.tasks[task.id]

    def _in_order(self, track: Element) -> list[Shown]:
        """The elements of a track by frame; a second one for a frame is a finding."""
        found: dict[int, Element] = {}
        for element in track:
            try:
                with at("track", track.get("id", "?"), str(element.tag)):
                    frame = integer(element, "frame")
                    if frame in found:
                        raise FormatError(f"a second element for frame {frame}")
                    found[frame] = element
            except FormatError as error:
                error.code = "K823"
                self.findings.append(finding_of(error))
        return sorted(found.items(), key=lambda shown: shown[0])

    def _filled(self, track: _Track) -> list[Shown]:
        """The shapes of a track in its gaps."""
        filled = []
        for gap in gaps(track.shown, track.frames.numbers):
            self.shared.fill(gap)
            made, exact = fill(gap)
            filled += made
            if not exact:
                frame = track.frames.by_number.get(gap.before[0])
                said = f"track {track.node.get('id')}: the next keyframe is no shape of equally "
                said += "many points; until then the one before stays as it is"
                where = frame.file_name if frame else None
                self.mended.append(Finding("K823", "warning", said, where))
        return filled

    def _track(self, track: _Track, filled: list[Shown]) -> None:
        """Put the shapes of a track, own and interpolated ones, into their frames."""
        own = [(n, e) for n, e in track.shown if e.get("outside") != "1"]
        key = track.node.get("id", "")
        many = bool(key) and len(own) + len(filled) > 1  # CVAT writes lone shapes as tracks
        identity = {TRACK: int(key) if re.fullmatch(r"\d{1,18}", key) else key} if many else {}
        for shown, pixels in ((own, self.pixels), (filled, self.drawn)):
            for n, element in shown:
                frame = track.frames.by_number.get(n)
                try:
                    with at("track", key, str(element.tag)):
                        if frame is None:
                            raise FormatError(f"the task has no frame {n}", code="K823")
                        self._place(track, element, frame, identity, pixels)
                except FormatError as error:
                    self.findings.append(finding_of(error, frame.file_name if frame else None))
        self.segments += sum(e.tag not in NOT_SEGMENTS for _, e in own)
        self.interpolated += sum(e.tag not in NOT_SEGMENTS for _, e in filled)

    def _place(
        self,
        track: _Track,
        element: Element,
        frame: Frame,
        identity: dict[str, Any],
        pixels: Counter[str],
    ) -> None:
        """Read an element with what its track says, and put it into its frame."""
        own = {k: v for k, v in element.attrib.items() if k not in ("frame", "keyframe", "outside")}
        whose = {k: track.node.get(k) for k in ("label", "source", "group_id")}
        element.attrib = {**{k: v for k, v in whose.items() if v is not None}, **own}
        if element.tag in NOT_SEGMENTS:
            said = described(element, self.meta.kinds)
            attributes = {**identity, **said.get("attributes", {})}
            frame.aside.append({**said, "attributes": attributes} if attributes else said)
            return
        shape = shape_of(element, self.meta, frame.height, frame.width)
        self.mended += overhang(shape, frame.file_name)
        pixels[shape.label] += shape.mask.area
        segment = replace(shape.segment, attributes={**identity, **shape.segment.attributes})
        frame.shapes.append((track.position, replace(shape, segment=segment)))

    def _images(self, task: Task, frames: dict[int, Frame]) -> None:
        pictured = any(f.member for f in frames.values())
        gone = 0
        for number, frame in frames.items():
            if pictured and frame.member is None and not frame.shapes and not frame.aside:
                gone += 1
                continue
            frame.shapes.sort(key=lambda placed: placed[0])
            segments, items = grouped((s for _, s in frame.shapes), frame.file_name)
            self.items += items
            source = {
                "task": task.name,
                f"{task.kind}_id": task.id,
                "subset": task.subset,
                "image_id": str(number),
                "name": frame.name,
                "not_segments": frame.aside,
            }
            sample = Sample(
                id=0,
                file_name=frame.file_name,
                height=frame.height,
                width=frame.width,
                segments=tuple(segments),
                group=task.group,
                source={k: v for k, v in source.items() if v},
            )
            self.counted += Tally(images=1)
            self.pictures.append(Picture(sample, frame.member))
        if gone:
            self.notes.append(f"{gone} frame(s) have no picture and no shapes: deleted in CVAT")
