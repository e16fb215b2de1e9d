"""
CVAT for images 1.1: `annotations.xml` and `images/[<subset>/]<path>`.

The source of truth among CVAT's exports: the only one that keeps masks pixel by pixel,
z-order, groups, attributes, tags and subsets. Rules as seen on CVAT 2.15 and 2.54.

What is written, CVAT's importer "CVAT 1.1" takes back, image by image by their names: polygons
with every vertex as it was, RLEs as masks, parts as one group, boxes, ellipses, groups, tags,
points and lines of an export as what they were. A crowd has the attribute `is_crowd`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal
from xml.etree.ElementTree import Element

from ...conservation import Item, Ledger, Tally
from ...dataset import Category, Dataset, Sample, Segment
from ...errors import FormatError, at
from ...files import Tree, own_names
from ...names import listing, safe_path
from ...validate import Finding, finding_of
from ..grouping import Shape, grouped
from ..keeping import CROWD, CROWD_TAKEN
from ..reading import Picture, Reading, set_aside
from ..xml import Xml, clean, elements
from .members import Files, Members
from .meta import Job, Meta, Plan, aside_of, subset_of
from .shapes import (
    NOT_SEGMENTS,
    Drawn,
    aside_tag,
    described,
    drawn,
    integer,
    overhang,
    shape_of,
    write_aside,
)

XML = "annotations.xml"
NO_SHAPE = "CVAT has no such shape as was set aside"
Content = Literal["image", "track"]
_LOOKED_AT = 8  # XML files; other formats have one an image


def detect(tree: Tree) -> bool:
    """Is CVAT's XML nearest to the root one whose first content is an image?"""
    return first_content(tree) == "image"


def read(tree: Tree) -> Reading:
    """
    Read the exports of projects, tasks or jobs that a tree holds, as one dataset.

    Raises:
        FormatError: the XML is broken, hostile, or CVAT's video format.
    """
    documents = xml_names(tree)
    names = [n for n in documents if content_of(tree, n) == "image"] or documents[:1]
    if not names:
        raise FormatError(f"no {XML}", path=tree.label)
    files = Files(tree.names())
    categories: dict[str, Category] = {}
    readers = []
    for name in names:
        beside = Members(files, str(PurePosixPath(name).parent))
        readers.append(_Reader(beside, Meta(categories=categories)))
        try:
            with tree.open(name) as stream:
                for element in elements(stream):
                    readers[-1].take(element)
        except FormatError as error:
            error.path = error.path or f"{tree.label}: {name}"
            raise
    return _joined(readers, names)


def write(dataset: Dataset, folder: Path) -> tuple[Item, ...]:
    """
    Write `annotations.xml`, streamed; the dataset is gone through twice.

    What CVAT has no word for is left out: what is a thing, supercategories, and the numbers of
    classes, images and segments; nobody looks for those in a label's attributes. A crowd is
    what CVAT's own COCO formats make of the attribute `is_crowd`, so it goes there.
    """
    plan = Plan.of(dataset)
    writer = Writer(plan, dataset)
    with (folder / XML).open("wb") as stream:
        xml = Xml(stream)
        with xml.element("annotations"):
            xml.leaf("version", "1.1")
            _write_meta(xml, plan, dataset.name)
            for number, sample in enumerate(dataset):
                _write_image(xml, writer, sample, plan.job(sample), number)
    return writer.items(xml)


def content_of(tree: Tree, name: str, *, alone: bool = False) -> Content | None:
    """
    What a file of CVAT's holds, or None where it is not CVAT's.

    One that is no XML is CVAT's where its name says it, or where it is `alone`: reading it
    says what is wrong. Without image and track, a task that has frames is one of the video
    format: the other names images.
    """
    ours = alone or PurePosixPath(name).name == XML
    sized = False
    try:
        with tree.open(name) as stream:
            parts = elements(stream)
            if next(parts).tag != "annotations":
                return None
            ours = True
            for element in parts:
                if element.tag in ("image", "track"):
                    return "image" if element.tag == "image" else "track"
                sized |= any((size.text or "0") != "0" for size in element.iter("size"))
                sized |= next(element.iter("frames"), None) is not None
    except FormatError as error:  # reading it says what is wrong
        return "image" if ours or "DOCTYPE" in error.message else None
    return "track" if sized else "image"


def first_content(tree: Tree) -> Content | None:
    """What the first of CVAT's XML files in a tree holds, or None where the first few are not."""
    names, alone = xml_names(tree), len(own_names(tree)) == 1
    contents = (content_of(tree, name, alone=alone) for name in names[:_LOOKED_AT])
    return next(filter(None, contents), None)


def xml_names(tree: Tree) -> list[str]:
    """All XML files: first those that are called as CVAT calls them, the nearest to the root."""
    names = [n for n in own_names(tree) if n.lower().endswith(".xml")]
    return sorted(names, key=lambda n: (PurePosixPath(n).name != XML, n.count("/"), n))


# ── reading ──────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Reader:
    """Collects what one export says; `take` each element, then ask for the `notes`."""

    members: Members
    meta: Meta
    pictures: list[Picture] = field(default_factory=list)
    counted: Tally = field(default_factory=Tally)
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)

    def take(self, element: Element) -> None:
        match element.tag:
            case "meta":
                self.meta.take(element)
            case "image":
                with at("image", element.get("name", "?")):
                    self._image(element)
            case "track":
                raise FormatError(
                    "this is 'CVAT for video 1.1'", hint="read it with --format cvat-video"
                )
            case _:
                pass  # <version>

    def _image(self, node: Element) -> None:
        name, height, width = node.get("name", ""), _size(node, "height"), _size(node, "width")
        safe_path(name)
        if height * width <= 0:
            raise FormatError(f"image is {height}x{width}", code="I108")
        task = self.meta.task_of(node)
        subset = node.get("subset") or task.subset
        member = self.members.find(name, subset)
        file_name = name if member is None else self.members.named(name, member)
        shapes = [c for c in node if c.tag not in NOT_SEGMENTS]
        segments = self._segments(shapes, file_name, height, width)
        aside = [described(c, self.meta.kinds) for c in node if c.tag in NOT_SEGMENTS]
        self.aside.update(c["kind"] for c in aside)
        source = {
            "task": task.name,
            f"{task.kind}_id": task.id,
            "subset": subset,
            "image_id": node.get("id", ""),
            "name": name,
            "not_segments": aside,
        }
        sample = Sample(
            id=0,
            file_name=file_name,
            height=height,
            width=width,
            segments=tuple(segments),
            group=task.group,
            source={k: v for k, v in source.items() if v},
        )
        self.counted += Tally(images=1)
        self.pictures.append(Picture(sample, member))

    def _segments(
        self, nodes: Sequence[Element], file_name: str, height: int, width: int
    ) -> list[Segment]:
        """One a shape, or one a group of shapes that share label and group id."""
        shapes: list[Shape] = []
        pixels: Counter[str] = Counter()
        for index, node in enumerate(nodes):
            try:
                with at(str(node.tag), index):
                    shape = shape_of(node, self.meta, height, width)
            except FormatError as error:
                self.findings.append(finding_of(error, file_name))
                continue
            self.mended += overhang(shape, file_name)
            pixels[shape.label] += shape.mask.area
            shapes.append(shape)
        self.counted += Tally(segments=len(nodes), pixels=pixels)
        segments, items = grouped(shapes, file_name)
        self.items += items
        return segments

    def notes(self) -> Iterator[str]:
        """What the export, or its format, does not hold."""
        if any(t.video for t in self.meta.tasks.values()):
            yield "tracks are not in this format: objects of a video keep no identity over frames"
        if mangled := self._mangled():
            yield (
                f"project exports rename files of one stem; maybe renamed: {listing(mangled)} "
                "(export task by task to keep names)"
            )

    def _mangled(self) -> list[str]:
        """Names like sheep_1.png beside sheep.jpg, in exports of a project."""
        if len(self.meta.tasks) < 2:
            return []
        stems = {str(PurePosixPath(p.sample.file_name).with_suffix("")) for p in self.pictures}
        found = []
        for picture in self.pictures:
            stem = str(PurePosixPath(picture.sample.file_name).with_suffix(""))
            base, _, number = stem.rpartition("_")
            if number.isdigit() and not number.startswith("0") and base in stems:
                found.append(picture.sample.file_name)
        return found


def _joined(readers: Sequence[_Reader], names: Sequence[str]) -> Reading:
    """All exports as one."""
    many = [f"{len(names)} exports are read as one: {listing(names)}"] * (len(names) > 1)
    aside = [f for r, n in zip(readers, names, strict=True) for f in set_aside(r.aside, n)]
    return Reading(
        name=next((r.meta.name for r in readers if r.meta.name), ""),
        format="cvat",
        categories=tuple(readers[0].meta.categories.values()),
        pictures=tuple(p for r in readers for p in r.pictures),
        counted=sum((r.counted for r in readers), start=Tally()),
        items=tuple(i for r in readers for i in r.items),
        notes=(*many, *dict.fromkeys(n for r in readers for n in r.notes())),
        findings=tuple(f for r in readers for f in r.findings),
        mended=(*(f for r in readers for f in r.mended), *aside),
        files=frozenset(names),
    )


def _size(node: Element, key: str) -> int:
    value = integer(node, key)
    if not 0 < value < 2**31:
        raise FormatError(f"{key} is {value}", code="I108")
    return value


# ── writing ──────────────────────────────────────────────────────────────────────────────────


class Writer:
    """What both of CVAT's formats do to write a segment, and the account of what is lost."""

    def __init__(self, plan: Plan, dataset: Dataset) -> None:
        self.labels = plan.labels
        self.ledger = Ledger()
        self._last_group = plan.last_group
        self._renamed = {c.id: c.name for c in dataset.categories if clean(c.name) != c.name}

    def draw(self, segment: Segment, sample: Sample) -> list[Drawn]:
        """The shapes of a segment; an item where there are none."""
        name = self.labels.name(segment.category_id)
        shapes = drawn(segment, sample.height, sample.width)
        if not shapes:
            self.ledger.note("CVAT has no mask without a pixel", sample.file_name, segments=-1)
        elif segment.category_id in self._renamed:
            area = segment.mask(sample.height, sample.width).area
            change = {self._renamed[segment.category_id]: -area, name: area}
            reason = "a class has a name that XML cannot hold"
            self.ledger.note(reason, sample.file_name, pixels=change)
        if CROWD in segment.attributes:
            self.ledger.note(CROWD_TAKEN, sample.file_name)
        return shapes

    def new_group(self) -> int:
        """A group id that nothing else has."""
        self._last_group += 1
        return self._last_group

    def items(self, *written: Xml) -> tuple[Item, ...]:
        """Why what was written differs from the dataset."""
        if replaced := sum(xml.replaced for xml in written):
            self.ledger.note(f"{replaced} character(s) that XML cannot hold became U+FFFD")
        return self.ledger.items


def group_of(segment: Segment, taken: set[tuple[str, str]], label: str) -> str:
    """The group id that a segment had, unless another of its label has it; else nothing."""
    said = str(segment.origin.get("group") or "")
    if not said.isdecimal() or not said.strip("0") or (label, said) in taken:
        return ""
    taken.add((label, said))
    return said


def _write_meta(xml: Xml, plan: Plan, name: str) -> None:
    with xml.element("meta"), xml.element("project"):
        xml.leaf("name", name)
        with xml.element("tasks"):
            for job in plan.jobs.values():
                with xml.element("task"):
                    job.write(xml)
        xml.leaf("subsets", "\n".join(sorted({j.subset for j in plan.jobs.values()})))
        plan.labels.write(xml)


def _write_image(xml: Xml, writer: Writer, sample: Sample, job: Job, number: int) -> None:
    subset = subset_of(sample)
    place = {"id": str(sample.source.get("image_id", number)), "name": sample.file_name}
    place |= {"subset": subset} if subset else {}
    size = {"width": str(sample.width), "height": str(sample.height)}
    with xml.element("image", {**place, "task_id": str(job.id), **size}):
        taken: set[tuple[str, str]] = set()
        for segment in sample.segments:
            label = writer.labels.name(segment.category_id)
            shapes = writer.draw(segment, sample)
            group = group_of(segment, taken, label)
            if len(shapes) > 1 and not group:
                group = str(writer.new_group())
            for shape in shapes:
                said = {"label": label, "source": shape.source, "group_id": group}
                said = {k: v for k, v in said.items() if v or k == "label"}
                shape.write(xml, writer.labels, label, said)
        for entry in aside_of(sample):
            tag = aside_tag(entry)
            if tag is None:
                writer.ledger.note(NO_SHAPE, sample.file_name)
            else:
                label = str(entry.get("label") or "")
                write_aside(xml, writer.labels, entry, tag, {"label": label})
