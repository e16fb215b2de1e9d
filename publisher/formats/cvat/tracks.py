"""CVAT for video 1.1, written: segments as tracks, frames by number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...conservation import Item
from ...dataset import Dataset, Sample
from ...names import collision_key
from ..xml import Xml
from .frames import number_in, write_frames
from .images import NO_SHAPE, Writer, group_of
from .meta import Job, Plan, aside_of
from .shapes import Drawn, aside_tag, write_aside
from .video import TRACK


def write(dataset: Dataset, folder: Path) -> tuple[Item, ...]:
    """
    Write one XML for each video, or other group of images: each is a task in CVAT.

    Frames are numbered as CVAT has named them, else in the order of their names. Segments of
    one `track_id` are one track. Every element is a keyframe, so that CVAT interpolates
    nothing. Of a track of masks its importer keeps the first frame only: so each mask is a
    track of its own, with its `track_id` as an attribute.
    """
    plan = Plan.of(dataset)
    writer = Writer(plan, dataset)
    written: list[Xml] = []
    taken: set[str] = set()
    jobs = list(plan.jobs.values()) or [Job(1, dataset.name, "", None)]
    for job in jobs:
        name = "annotations" if len(jobs) == 1 else _file_name(job, taken)
        with (folder / f"{name}.xml").open("wb") as stream:
            xml = Xml(stream)
            written.append(xml)
            with xml.element("annotations"):
                xml.leaf("version", "1.1")
                samples = _numbered([dataset[i] for i in job.samples])
                _write_meta(xml, plan, job, samples)
                last = _write_tracks(xml, writer, samples)
                _write_aside(xml, writer, samples, last)
    return writer.items(*written)


def _file_name(job: Job, taken: set[str]) -> str:
    """A name that says which video it is, and that nothing else has."""
    said = job.group or "_".join(filter(None, (job.name, job.subset)))
    stem = re.sub(r"[^\w.-]+", "_", said).strip("._")[:60] or "task"
    name, n = stem, 1
    while collision_key(name) in taken:
        n += 1
        name = f"{stem}_{n}"
    taken.add(collision_key(name))
    return name


def _numbered(samples: Sequence[Sample]) -> dict[int, Sample]:
    """Samples by the number of their frame, in order."""
    numbers = [number_in(s.file_name) for s in samples]
    if len({*numbers, None}) == len(samples) + 1:
        return dict(sorted((n, s) for n, s in zip(numbers, samples, strict=True) if n is not None))
    return dict(enumerate(sorted(samples, key=lambda s: s.file_name)))


def _write_meta(xml: Xml, plan: Plan, job: Job, samples: Mapping[int, Sample]) -> None:
    sizes = {(s.height, s.width) for s in samples.values()}
    with xml.element("meta"), xml.element("task"):
        job.write(xml)
        xml.leaf("start_frame", str(min(samples, default=0)))
        xml.leaf("stop_frame", str(max(samples, default=0)))
        if len(sizes) == 1:
            ((height, width),) = sizes
            with xml.element("original_size"):
                xml.leaf("width", str(width))
                xml.leaf("height", str(height))
        write_frames(xml, {n: (s.file_name, s.height, s.width) for n, s in samples.items()})
        plan.labels.write(xml)


Following = Mapping[int, int | None]
"""The frame after each frame, None after the last."""


def _following(samples: Mapping[int, Sample]) -> Following:
    numbers = list(samples)
    return {n: numbers[i] if i < len(numbers) else None for i, n in enumerate(numbers, 1)}


# ── tracks ───────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Track:
    """Shapes of one object, or of one part of it, by frame."""

    label: str
    source: str
    group: str
    identity: Any  # its track_id; None: it has none
    shapes: dict[int, Drawn] = field(default_factory=dict)

    def write(self, xml: Xml, writer: Writer, following: Following, key: int) -> None:
        """
        An element for each frame, and one outside where it is no longer seen.

        Args:
            key: the id of the track where its identity is no number.
        """
        key = self.identity if _is_id(self.identity) else key
        inferred = len(self.shapes) > 1 and self.identity == key  # the reader takes it from the id
        said = {"id": str(key), "label": self.label}
        said |= {"source": self.source} if self.source else {}
        said |= {"group_id": self.group} if self.group else {}
        with xml.element("track", said):
            for n, shape in self.shapes.items():
                if inferred:
                    plain = {k: v for k, v in shape.attributes.items() if k != TRACK}
                    shape = replace(shape, attributes=plain)
                self._write(xml, writer, shape, n, outside=0)
                after = following[n]
                if after is not None and after not in self.shapes:
                    self._write(xml, writer, shape, after, outside=1)

    def _write(self, xml: Xml, writer: Writer, shape: Drawn, frame: int, outside: int) -> None:
        place = {"frame": str(frame), "keyframe": "1", "outside": str(outside)}
        shape.write(xml, writer.labels, self.label, place)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True, slots=True)
class _Placed:
    """A segment as shapes in one frame."""

    frame: int
    label: str
    identity: Any
    group: str  # that it had
    shapes: Sequence[Drawn]


def _write_tracks(xml: Xml, writer: Writer, samples: Mapping[int, Sample]) -> int:
    """Write all tracks; gives the first id that none of them has."""
    tracks = list(_tracks(writer, list(_placed(writer, samples))))
    free = max((t.identity for t in tracks if _is_id(t.identity)), default=-1) + 1
    following = _following(samples)
    for track in tracks:
        track.write(xml, writer, following, free)
        free += not _is_id(track.identity)
    return free


def _placed(writer: Writer, samples: Mapping[int, Sample]) -> Iterator[_Placed]:
    for number, sample in samples.items():
        taken: set[tuple[str, str]] = set()
        for segment in sample.segments:
            label = writer.labels.name(segment.category_id)
            shapes = writer.draw(segment, sample)
            group = group_of(segment, taken, label)
            yield _Placed(number, label, segment.attributes.get(TRACK), group, shapes)


def _tracks(writer: Writer, placed: Sequence[_Placed]) -> Iterator[_Track]:
    """
    Tracks in the order in which they begin.

    One has shapes of one kind only, and one group: an object that anywhere has several parts
    is a group everywhere.
    """
    many = {_object(p) for p in placed if p.identity is not None and len(p.shapes) > 1}
    groups: dict[tuple[str, str], str] = {}
    tracks: dict[tuple[Any, ...], _Track] = {}
    again: Counter[tuple[tuple[Any, ...], int]] = Counter()
    for position, p in enumerate(placed):
        group = p.group
        if not group and _object(p) in many:
            group = groups.get(_object(p)) or groups.setdefault(_object(p), str(writer.new_group()))
        elif not group and len(p.shapes) > 1:
            group = str(writer.new_group())
        times: Counter[tuple[str, str]] = Counter()
        for shape in p.shapes:
            identity = shape.attributes.get(TRACK)
            alone = identity is None or shape.tag == "mask"
            kind = (shape.tag, repr(identity))
            times[kind] += 1
            key: tuple[Any, ...] = (
                position if alone else -1,
                p.label,
                group,
                shape.source,
                *kind,
                times[kind],
            )
            again[key, p.frame] += 1  # two objects of one track_id in a frame are two tracks
            key = (*key, again[key, p.frame])
            if key not in tracks:
                tracks[key] = _Track(p.label, shape.source, group, identity)
            tracks[key].shapes[p.frame] = shape
    yield from tracks.values()


def _object(p: _Placed) -> tuple[str, str]:
    return p.label, repr(p.identity)


def _write_aside(xml: Xml, writer: Writer, samples: Mapping[int, Sample], free: int) -> None:
    """Points and lines, each a track of one frame."""
    for n, after in _following(samples).items():
        for entry in aside_of(samples[n]):
            tag = aside_tag(entry)
            if tag is None or tag == "tag":
                what = "CVAT's tracks have no tags" if tag else NO_SHAPE
                writer.ledger.note(what, samples[n].file_name)
                continue
            whose = {k: str(entry[k]) for k in ("source", "group_id") if entry.get(k)}
            label = str(entry.get("label") or "")
            own = {k: v for k, v in entry.items() if k not in whose}
            with xml.element("track", {"id": str(free), "label": label, **whose}):
                free += 1
                for frame, outside in ((n, "0"), (after, "1")):
                    if frame is not None:
                        place = {"frame": str(frame), "keyframe": "1", "outside": outside}
                        write_aside(xml, writer.labels, own, tag, place)
