"""
What changed between two versions of a dataset: images, masks, categories. Pure.

Both are walked once, side by side, in the order of their file names, so that memory holds
counts and what is out of place, however large they are. Images are matched by file name, or
by their bytes where only the name is new; segments as matching.py says; categories by name,
or by id where only the name is new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal

from ..dataset import Category, Sample, Segment
from ..errors import FormatError
from ..names import stem
from ..progress import Progress, silent
from .matching import match

EXAMPLES = 5  # kept of each kind


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: samples sorted by file name, each looked at once."""

    categories: Sequence[Category]
    samples: Iterable[Sample]


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the digests of files say; names are those of images."""

    changed: Set[str] = frozenset()  # on both sides, with other bytes
    renamed: Mapping[str, str] = field(default_factory=dict)  # old name: new name of its bytes
    maps: Set[str] = frozenset()  # stems of those whose panoptic maps have other bytes
    compared: bool = False  # False: nothing is known of any bytes


def compare_pictures(old: Mapping[str, str], new: Mapping[str, str]) -> Pictures:
    """Hold digests by file name against each other; equal bytes under a new name are renamed."""
    gone, come = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys(), reverse=True)
    waiting: dict[str, list[str]] = {}
    for name in come:
        waiting.setdefault(new[name], []).append(name)
    renamed = {name: waiting[old[name]].pop() for name in gone if waiting.get(old[name])}
    changed = frozenset(name for name in old.keys() & new.keys() if old[name] != new[name])
    return Pictures(changed, renamed, compared=True)


# ── categories ───────────────────────────────────────────────────────────────────────────────

Kind = Literal["added", "removed", "renamed", "renumbered", "changed"]


@dataclass(frozen=True, slots=True)
class CategoryChange:
    """A category that is not what it was; `what` names the fields that changed."""

    kind: Kind
    old: Category | None
    new: Category | None
    what: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called now, or was."""
        known = self.new or self.old
        assert known is not None
        return known.name

    def __str__(self) -> str:
        if self.kind == "renamed" and self.old:
            return f"{self.old.name} is called {self.name}"
        if self.kind == "renumbered" and self.old and self.new:
            return f"{self.name} has id {self.new.id}, not {self.old.id}"
        return f"{self.name} {self.kind}" + (f": {', '.join(self.what)}" if self.what else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        said: dict[str, Any] = {"kind": self.kind, "name": self.name}
        if self.kind == "renamed" and self.old:
            said["was"] = self.old.name
        if self.kind == "renumbered" and self.old and self.new:
            said |= {"id": self.new.id, "was": self.old.id}
        return said | ({"what": list(self.what)} if self.what else {})


def compare_categories(
    old: Sequence[Category], new: Sequence[Category]
) -> tuple[dict[int, int], tuple[CategoryChange, ...]]:
    """
    The new id of each old category that is still there, and what changed.

    A name that is on both sides is one category; of the others, one id is one category that
    was renamed.
    """
    pairs: list[tuple[Category, Category]] = []
    ones, others = list(old), list(new)
    for key in (lambda c: (c.id, c.name)), (lambda c: c.name), (lambda c: c.id):
        there = {key(c): c for c in reversed(others)}
        found = [(c, there.pop(key(c))) for c in ones if key(c) in there]
        pairs += found
        gone, come = {id(one) for one, _ in found}, {id(other) for _, other in found}
        ones = [c for c in ones if id(c) not in gone]
        others = [c for c in others if id(c) not in come]
    changes = [CategoryChange("removed", c, None) for c in ones]
    changes += [CategoryChange("added", None, c) for c in others]
    changes += [change for c, other in pairs for change in _changes(c, other)]
    changes.sort(key=lambda c: (c.name, c.kind))
    return {c.id: other.id for c, other in pairs}, tuple(changes)


def _changes(old: Category, new: Category) -> Iterator[CategoryChange]:
    if old.name != new.name:
        yield CategoryChange("renamed", old, new)
    if old.id != new.id:
        yield CategoryChange("renumbered", old, new)
    fields = ("isthing", "supercategory", "color")
    what = tuple(f for f in fields if getattr(old, f) != getattr(new, f))
    if what:
        yield CategoryChange("changed", old, new, what)


# ── images ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Edit:
    """A segment that is there before and after, and not the same."""

    id: int  # after
    category: str  # after
    iou: float  # of its masks; 1.0 only where they are equal
    was: str | None = None  # its category before, where it is another one
    fields: tuple[str, ...] = ()  # else: iscrowd, z_order, attributes

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        said: dict[str, Any] = {"id": self.id, "category": self.category, "iou": self.iou}
        said |= {"was": self.was} if self.was is not None else {}
        return said | ({"fields": list(self.fields)} if self.fields else {})


@dataclass(frozen=True, slots=True)
class Change:
    """One image that is not what it was."""

    file_name: str  # after; before, where it was removed
    kind: Literal["added", "removed", "changed"]
    split: str | None
    was: str | None = None  # its name before, where it is another one
    moved_from: str | None = None  # its split before, where it is another one
    picture: bool = False  # its bytes are others
    resized: bool = False
    map: bool = False  # only its panoptic map is another one
    added: tuple[str, ...] = ()  # the category of each segment
    removed: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, of what differs only."""
        said: dict[str, Any] = {"file_name": self.file_name, "kind": self.kind, "split": self.split}
        optional = {
            "was": self.was,
            "moved_from": self.moved_from,
            "picture": self.picture,
            "resized": self.resized,
            "map": self.map,
            "added": dict(sorted(Counter(self.added).items())),
            "removed": dict(sorted(Counter(self.removed).items())),
            "edits": [e.to_json() for e in self.edits],
        }
        return said | {key: value for key, value in optional.items() if value}


@dataclass(slots=True)
class ClassCounts:
    """Segments of one category; what was relabelled was removed from one and added to another."""

    before: int = 0
    after: int = 0
    added: int = 0
    removed: int = 0
    masks: int = 0  # changed
    iou: float = 0.0  # of these, summed

    @property
    def mean_iou(self) -> float | None:
        """Of the masks that changed; None where none did."""
        return self.iou / self.masks if self.masks else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "before": self.before,
            "after": self.after,
            "added": self.added,
            "removed": self.removed,
            "masks": self.masks,
            "mean_iou": self.mean_iou,
        }


@dataclass(slots=True)
class Summary:
    """
    Counts of all that changed.

    `counts` has, by what happened: of images "added", "removed", "renamed", "moved",
    "picture", "resized", "map" and "ids" (image ids given anew); of segments "segments added"
    (to images that were there before), "segments removed", "masks", "relabelled", "iscrowd",
    "z_order", "attributes". `examples` names the first images of each.
    """

    before: int = 0  # images
    after: int = 0
    categories: tuple[CategoryChange, ...] = ()
    classes: dict[str, ClassCounts] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    lowest: tuple[float, str] | None = None  # IoU of a changed mask, and its image
    pictures: bool = False  # were their bytes compared?

    @property
    def masks(self) -> ClassCounts:
        """Segments of all categories together."""
        total = ClassCounts()
        for c in self.classes.values():
            total.before += c.before
            total.after += c.after
            total.added += c.added
            total.removed += c.removed
            total.masks += c.masks
            total.iou += c.iou
        return total

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "images": {"before": self.before, "after": self.after},
            "categories": [c.to_json() for c in self.categories],
            "classes": {name: c.to_json() for name, c in self.classes.items()},
            "segments": self.masks.to_json(),
            "counts": {key: n for key, n in sorted(self.counts.items()) if n},
            "pictures_compared": self.pictures,
        }

    def note(self, what: str, file_name: str, times: int = 1) -> None:
        """Count something that happened to an image."""
        if times:
            self.counts[what] += times
            names = self.examples.setdefault(what, [])
            if len(names) < EXAMPLES:
                names.append(file_name)


class Comparison:
    """
    Walk two versions; iterating gives every image that differs, once, and fills `summary`.

    Images of both come in the order of their names, then those that were renamed.
    """

    def __init__(
        self, old: Side, new: Side, pictures: Pictures | None = None, on_image: Progress = silent
    ) -> None:
        self._old, self._new = old, new
        self._pictures = pictures or Pictures()
        self._on_image = on_image
        self._category, categories = compare_categories(old.categories, new.categories)
        after = {c.id: c.name for c in new.categories}
        self._after = after
        self._before = {
            c.id: after[self._category[c.id]] if c.id in self._category else c.name
            for c in old.categories
        }
        self._called = {c.id: c.name for c in old.categories}
        names = dict.fromkeys([*after.values(), *self._before.values()])
        self.summary = Summary(
            categories=categories,
            classes={name: ClassCounts() for name in names},
            pictures=self._pictures.compared,
        )

    def __iter__(self) -> Iterator[Change]:
        waiting: dict[str, Sample] = {}  # by their new name, until both sides are seen
        come: dict[str, Sample] = {}
        arrived = set(self._pictures.renamed.values())
        for done, (old, new) in enumerate(_side_by_side(self._old.samples, self._new.samples), 1):
            self._count(old, new)
            if old is not None and new is not None:
                change = self._changed(old, new)
                if change is not None:
                    yield change
            elif old is not None and old.file_name in self._pictures.renamed:
                waiting[self._pictures.renamed[old.file_name]] = old
            elif new is not None and new.file_name in arrived:
                come[new.file_name] = new
            else:
                yield self._alone(old, new)
            self._on_image(done, done)
        for name in sorted({*waiting, *come}):
            old, new = waiting.get(name), come.get(name)
            if old is not None and new is not None:
                change = self._changed(old, new)
                assert change is not None, "its name changed"
                yield change
            else:  # of the files, one is no image of the annotations
                yield self._alone(old, new)

    def _count(self, old: Sample | None, new: Sample | None) -> None:
        if old is not None:
            self.summary.before += 1
            for s in old.segments:
                self._class(self._name_before(s)).before += 1
        if new is not None:
            self.summary.after += 1
            for s in new.segments:
                self._class(self._name(s)).after += 1

    def _alone(self, old: Sample | None, new: Sample | None) -> Change:
        """An image that only one of them has."""
        if new is not None:
            names = tuple(self._name(s) for s in new.segments)
            for name in names:
                self._class(name).added += 1
            self.summary.note("added", new.file_name)
            return Change(new.file_name, "added", new.split, added=names)
        assert old is not None
        names = tuple(self._name_before(s) for s in old.segments)
        for name in names:
            self._class(name).removed += 1
        self.summary.note("removed", old.file_name)
        return Change(old.file_name, "removed", old.split, removed=names)

    def _changed(self, old: Sample, new: Sample) -> Change | None:
        """An image that both have; None where nothing differs."""
        name, summary = new.file_name, self.summary
        added, removed, edits = self._segments(old, new)
        was = old.file_name if old.file_name != name else None
        both = old.split is not None and new.split is not None  # a split may not be dealt yet
        moved_from = old.split if both and old.split != new.split else None
        resized = (old.height, old.width) != (new.height, new.width)
        picture = name in self._pictures.changed
        same = not (added or removed or edits or resized or picture)
        changed_map = same and stem(name) in self._pictures.maps
        happened = {
            "renamed": was is not None,
            "moved": moved_from is not None,
            "picture": picture,
            "resized": resized,
            "map": changed_map,
        }
        for what, so in happened.items():
            summary.note(what, name, so)
        summary.note("ids", name, old.id != new.id)
        if same and not any(happened.values()):
            return None
        return Change(
            name, "changed", new.split, was, moved_from, picture, resized, changed_map,
            added, removed, edits,
        )  # fmt: skip

    def _segments(
        self, old: Sample, new: Sample
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Edit, ...]]:
        """Categories of what was added and removed, and what was edited; all counted."""
        pairs = match(old, new, self._category)
        edits = []
        for p in pairs:
            one, other = old.segments[p.old], new.segments[p.new]
            if (edit := self._edit(one, other, p.iou)) is not None:
                edits.append(edit)
                self._count_edit(edit, self._name_before(one), new.file_name)
        left_old = _others(old.segments, {p.old for p in pairs})
        left_new = _others(new.segments, {p.new for p in pairs})
        removed, added = tuple(map(self._name_before, left_old)), tuple(map(self._name, left_new))
        for name in removed:
            self._class(name).removed += 1
        for name in added:
            self._class(name).added += 1
        self.summary.note("segments removed", new.file_name, len(removed))
        self.summary.note("segments added", new.file_name, len(added))
        return added, removed, tuple(edits)

    def _edit(self, old: Segment, new: Segment, iou: float) -> Edit | None:
        fields = tuple(
            f for f in ("iscrowd", "z_order", "attributes") if getattr(old, f) != getattr(new, f)
        )
        relabelled = self._category.get(old.category_id) != new.category_id
        if iou == 1.0 and not fields and not relabelled:
            return None
        called = self._called.get(old.category_id, f"category {old.category_id}")
        return Edit(new.id, self._name(new), iou, called if relabelled else None, fields)

    def _count_edit(self, edit: Edit, before: str, file_name: str) -> None:
        summary = self.summary
        summary.note("masks", file_name, edit.iou < 1.0)
        if edit.was is not None:
            summary.note("relabelled", file_name)
            self._class(before).removed += 1
            self._class(edit.category).added += 1
        for what in edit.fields:
            summary.note(what, file_name)
        if edit.iou < 1.0:
            counts = self._class(edit.category)
            counts.masks += 1
            counts.iou += edit.iou
            if summary.lowest is None or edit.iou < summary.lowest[0]:
                summary.lowest = edit.iou, file_name

    def _name(self, s: Segment) -> str:
        return self._after.get(s.category_id, f"category {s.category_id}")

    def _name_before(self, s: Segment) -> str:
        """What its category is called now."""
        return self._before.get(s.category_id, f"category {s.category_id}")

    def _class(self, name: str) -> ClassCounts:
        return self.summary.classes.setdefault(name, ClassCounts())


def _others(segments: Sequence[Segment], taken: Set[int]) -> list[Segment]:
    return [s for i, s in enumerate(segments) if i not in taken]


def _side_by_side(
    old: Iterable[Sample], new: Iterable[Sample]
) -> Iterator[tuple[Sample | None, Sample | None]]:
    """
    Samples of equal names together.

    Raises:
        FormatError: one side does not come sorted by name.
    """
    ones, others = _in_order(old), _in_order(new)
    one, other = next(ones, None), next(others, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.file_name < other.file_name):
            yield one, None
            one = next(ones, None)
        elif one is None or other.file_name < one.file_name:
            yield None, other
            other = next(others, None)
        else:
            yield one, other
            one, other = next(ones, None), next(others, None)


def _in_order(samples: Iterable[Sample]) -> Iterator[Sample]:
    before = ""
    for sample in samples:
        if sample.file_name < before:
            raise FormatError(f"images are not sorted by name: {before!r} comes before it",
                              path=sample.file_name, hint="import it again")  # fmt: skip
        before = sample.file_name
        yield sample
