"""`<meta>`: labels with the types of their attributes, and tasks, read and written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from ...dataset import Category, Dataset, Sample, Segment
from ...errors import FormatError
from ...files import parse_json
from ..keeping import CROWD
from ..xml import Xml, clean, holds

_VIDEO = re.compile(r"cvat (?:task|job) \S*: (.+)", re.DOTALL)


# ── reading ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Task:
    """A task, or a job of one that was exported on its own."""

    id: str
    kind: str = "task"
    name: str = ""
    subset: str = ""
    video: str = ""  # the file a video task was made from; "?" where it is not said
    group: str | None = None  # what its images are to be kept together as
    node: Element = field(default_factory=lambda: Element("task"))

    def number(self, key: str, default: int) -> int:
        """A whole number that the task says of itself, or else the default."""
        text = child(self.node, key)
        return int(text) if re.fullmatch(r"\d{1,9}", text) else default


@dataclass(slots=True)
class Meta:
    """What an export says of itself before its first image or track."""

    name: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)
    categories: dict[str, Category] = field(default_factory=dict)
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)  # (label, attribute) -> type

    def take(self, meta: Element) -> None:
        """Read the `<meta>` of a project, task or job."""
        for owner in ("project", "task", "job"):
            head = meta.find(owner)
            if head is None:
                continue
            self.name = child(head, "name") or self.name
            for node in head.iter("task"):
                self._task(node, "task")
            if owner == "job":
                self._task(head, "job")
            for node in head.iter("label"):
                self._label(node)

    def task_of(self, node: Element) -> Task:
        """The task that an image or a track says it is of, or the only one."""
        key = node.get("task_id", "")
        if key in self.tasks:
            return self.tasks[key]
        if not key and len(self.tasks) == 1:
            return next(iter(self.tasks.values()))
        return Task(key)

    def _task(self, node: Element, kind: str) -> None:
        key = child(node, "id")
        video = child(node, "source")
        if not video and child(node, "mode") == "interpolation":
            video = "?"
        group = node.findtext("group") or (f"cvat {kind} {key}: {video}" if video else None)
        name, subset = child(node, "name"), child(node, "subset")
        self.tasks[key] = Task(key, kind, name, subset, video, group, node)

    def _label(self, node: Element) -> None:
        name = node.findtext("name")
        if name is None or child(node, "parent"):
            return
        if name not in self.categories:
            number = len(self.categories) + 1
            self.categories[name] = Category(number, name, color=_color(child(node, "color")))
        for attribute in node.iter("attribute"):
            key = name, attribute.findtext("name") or ""
            self.kinds[key] = child(attribute, "input_type")


def attributes_of(
    node: Element, label: str, kinds: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    """Attributes by name, checkboxes as bool and numbers as numbers."""
    values: dict[str, Any] = {}
    for a in sorted(node.findall("attribute"), key=lambda a: a.get("name", "")):
        name, text = a.get("name", ""), a.text or ""
        kind = kinds.get((label, name), "text")
        values[name] = _from_json(text) if a.get("type") == "json" else _typed(text, kind)
    return values


def child(node: Element, tag: str) -> str:
    """The text of a child element, or nothing."""
    return (node.findtext(tag) or "").strip()


def _typed(text: str, kind: str) -> Any:
    if kind == "checkbox" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind == "number":
        try:
            number = float(text)
        except ValueError:
            return text
        if number == number and abs(number) < 2**53:
            return int(number) if number == int(number) else number
    return text


def _from_json(text: str) -> Any:
    """A value that its label's type cannot hold, as our writer puts it."""
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    except FormatError:
        return text


def _color(text: str) -> tuple[int, int, int] | None:
    try:
        r, g, b = bytes.fromhex(text.removeprefix("#"))
    except ValueError:
        return None
    return r, g, b


# ── writing ──────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Spec:
    """The attributes of one label: by name, the types and the least and largest number seen."""

    types: dict[str, set[str]] = field(default_factory=dict)
    numbers: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, attributes: Mapping[str, Any]) -> None:
        """Look at the attributes of one shape."""
        for name, value in attributes.items():
            kind = _kind(value)
            self.types.setdefault(name, set()).add(kind)
            if kind == "number":
                low, high = self.numbers.get(name, (value, value))
                self.numbers[name] = min(low, value), max(high, value)

    def kind(self, name: str) -> str:
        """CVAT's input type: what all values are, else text."""
        kinds = self.types.get(name, set())
        return next(iter(kinds)) if len(kinds) == 1 else "text"


class Labels:
    """The labels that a dataset needs in CVAT; attributes are learned before any is written."""

    def __init__(self, categories: Sequence[Category]) -> None:
        self._categories = categories
        self._names = {c.id: clean(c.name) for c in categories}
        self._specs = {name: Spec() for name in self._names.values()}

    def name(self, category_id: int) -> str:
        """The label of a category, as it will be read back."""
        try:
            return self._names[category_id]
        except KeyError:
            raise FormatError(f"no category has id {category_id}", code="A304") from None

    def learn(self, label: str, attributes: Mapping[str, Any]) -> None:
        """Look at the attributes of a shape before any is written."""
        if label in self._specs:
            self._specs[label].take(attributes)

    def write(self, xml: Xml) -> None:
        """The element `<labels>`."""
        with xml.element("labels"):
            for c in self._categories:
                with xml.element("label"):
                    xml.leaf("name", c.name)
                    if c.color is not None:
                        xml.leaf("color", "#{:02x}{:02x}{:02x}".format(*c.color))
                    xml.leaf("type", "any")
                    with xml.element("attributes"):
                        self._write(xml, self._specs[self._names[c.id]])

    def _write(self, xml: Xml, spec: Spec) -> None:
        for name in sorted(spec.types):
            kind = spec.kind(name)
            default, values = _DEFAULTS[kind]
            if kind == "number":
                low, high = spec.numbers[name]
                default, values = f"{low}", f"{low}\n{high}\n1"
            with xml.element("attribute"):
                xml.leaf("name", name)
                xml.leaf("mutable", "True")
                xml.leaf("input_type", kind)
                xml.leaf("default_value", default)
                xml.leaf("values", values)

    def write_attributes(self, xml: Xml, label: str, attributes: Mapping[str, Any]) -> None:
        """
        The elements `<attribute>` of one shape.

        A value that its label's type would bend (a list; a number where others are words) is
        JSON and says so in `type`, which CVAT passes over.
        """
        spec = self._specs.get(label, Spec())  # a label of a skeleton's parts has none
        for name, value in sorted(attributes.items()):
            text = _text(value)
            if repr(_typed(text, spec.kind(name))) == repr(value) and holds(text):
                xml.leaf("attribute", text, {"name": name})
            else:
                text = json.dumps(value, sort_keys=True, default=dict)  # ASCII: XML holds it
                xml.leaf("attribute", text, {"name": name, "type": "json"})


_DEFAULTS = {"checkbox": ("false", "false"), "text": ("", ""), "number": ("", "")}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "checkbox"
    if isinstance(value, int | float) and abs(value) < 2**53:
        return "number"
    return "text"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


@dataclass(slots=True)
class Job:
    """A task as it will be written: the images that belong together in CVAT."""

    id: int
    name: str
    subset: str
    group: str | None
    samples: list[int] = field(default_factory=list)  # positions in the dataset

    @property
    def video(self) -> str:
        """The file that a video task was made from, where the group says it."""
        found = _VIDEO.fullmatch(self.group or "")
        return found[1] if found else ""

    def write(self, xml: Xml) -> None:
        """What `Meta` reads of a task, without the element around it."""
        xml.leaf("id", str(self.id))
        xml.leaf("name", self.name)
        xml.leaf("size", str(len(self.samples)))
        xml.leaf("mode", "interpolation" if self.video else "annotation")
        xml.leaf("subset", self.subset)
        if self.video:
            xml.leaf("source", self.video)
        if self.group is not None:
            xml.leaf("group", self.group)  # not CVAT's: what a split must not tear apart


def subset_of(sample: Sample) -> str:
    """The subset in CVAT: the split, or what the source called it where it means none."""
    return sample.split if sample.split is not None else str(sample.source.get("subset") or "")


def aside_of(sample: Sample) -> Iterator[Mapping[str, Any]]:
    """What a reader has set aside because it has no pixels: tags, points, lines."""
    aside = sample.source.get("not_segments")
    for entry in aside if isinstance(aside, list | tuple) else ():
        if isinstance(entry, Mapping):
            yield entry


def attributes_in(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of something set aside, or of a part of a group."""
    found = entry.get("attributes")
    return found if isinstance(found, Mapping) else {}


@dataclass(slots=True)
class Plan:
    """What must be known of a whole dataset before its first image can be written."""

    labels: Labels
    jobs: dict[tuple[str | None, str, str], Job] = field(default_factory=dict)
    last_group: int = 0  # the largest group id that is taken

    @classmethod
    def of(cls, dataset: Dataset) -> Plan:
        """Look at every sample once."""
        plan = cls(Labels(dataset.categories))
        for index, sample in enumerate(dataset):
            plan.job(sample, dataset.name).samples.append(index)
            for s in sample.segments:
                plan._learn(s)
            for entry in aside_of(sample):
                plan.labels.learn(str(entry.get("label") or ""), attributes_in(entry))
                plan._saw(entry.get("group_id"))
        return plan

    def job(self, sample: Sample, name: str = "") -> Job:
        """The task of a sample: its group, or else where it came from."""
        subset = subset_of(sample)
        task = str(sample.source.get("task") or "")
        key = (sample.group, task, subset)
        if key not in self.jobs:
            self.jobs[key] = Job(len(self.jobs) + 1, task or name, subset, sample.group)
        return self.jobs[key]

    def _learn(self, s: Segment) -> None:
        label = self.labels.name(s.category_id)
        self.labels.learn(label, plain(s.attributes, s.iscrowd))
        self._saw(s.origin.get("group"))
        parts = s.origin.get("parts")
        for part in parts if isinstance(parts, list | tuple) else ():
            if isinstance(part, Mapping):
                self.labels.learn(label, plain(attributes_in(part), s.iscrowd))

    def _saw(self, group: Any) -> None:
        if isinstance(group, str | int) and re.fullmatch(r"\d{1,9}", str(group)):
            self.last_group = max(self.last_group, int(group))


def plain(attributes: Mapping[str, Any], iscrowd: bool) -> dict[str, Any]:
    """What is written as `<attribute>`; that a shape is occluded, its own element says."""
    said = {k: v for k, v in attributes.items() if k != "occluded" or v is not True}
    said.pop(CROWD, None)
    return {**said, CROWD: True} if iscrowd else said
