"""C: category ids, names and colours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from ..names import listing
from .rule import Finding, Survey, dataset_rule

MOST = 254  # values of a byte but background and void


@dataset_rule("C201", "error")
def duplicate_id(survey: Survey) -> Iterator[Finding]:
    """
    Two categories share an id.

    Why it matters: readers keep the last and forget the other, so all objects of both
    get one name.
    Fix: give one of them a new id, in the source.
    Example: 3 is "hand" and 3 is "knife".
    """
    for key, n in Counter(c.id for c in survey.categories).items():
        if n > 1:
            names = ", ".join(c.name for c in survey.categories if c.id == key)
            yield survey.find(f"{n} categories have id {key}: {names}")


@dataset_rule("C202", "error")
def duplicate_name(survey: Survey) -> Iterator[Finding]:
    """
    Two categories have one name, or differ only in case or in spaces around it.

    Why it matters: people and most formats tell classes apart by name; YOLO, VOC and CVAT merge
    or refuse equal ones. Split in two, a class is learnt and scored by halves.
    Fix: merge them in the annotation tool, or rename one.
    Example: "Hand" and "hand ".
    """
    alike = defaultdict(list)
    for c in survey.categories:
        alike[c.name.strip().casefold()].append(f"{c.name!r} ({c.id})")
    for names in alike.values():
        if len(names) > 1:
            yield survey.find(f"category names are too much alike: {', '.join(names)}")


@dataset_rule("C203", "warning")
def id_below_one(survey: Survey) -> Iterator[Finding]:
    """
    A category id is 0 or negative.

    Why it matters: many tools keep 0 for the background, and Datumaro 1.13 reads category 0
    as "no label".
    Fix: set ids from 1 in `dataset.yaml`, before the first release: they must never change.
    Example: labelme2coco numbers from 0.
    """
    for c in survey.categories:
        if c.id < 1:
            yield survey.find(f"category {c.name!r} has id {c.id}, below 1")


@dataset_rule("C204", "info")
def gaps(survey: Survey) -> Iterator[Finding]:
    """
    Category ids leave out numbers.

    Why it matters: it is legal, and COCO does it: 80 categories, ids 1 to 90. Tools that take the
    id for the position, such as a model with 80 outputs, then mix up the classes after the gap.
    Fix: nothing to do once published, since ids never change; before, number without gaps.
    Example: ids 1, 2, 4.
    """
    ids = sorted({c.id for c in survey.categories})
    for low, high in pairwise(ids):
        if high - low > 1:
            yield survey.find(f"no category has an id between {low} and {high}")


@dataset_rule("C205", "error")
def empty_name(survey: Survey) -> Iterator[Finding]:
    """
    A category has no name.

    Why it matters: the class list of `data.yaml`, the card and most formats need all names;
    in a plain list, an empty line shifts every class after it.
    Fix: name it in `dataset.yaml`.
    Example: `{"id": 4, "name": " "}`.
    """
    for c in survey.categories:
        if not c.name.strip():
            yield survey.find(f"category {c.id} has no name")


@dataset_rule("C206", "warning")
def unused(survey: Survey) -> Iterator[Finding]:
    """
    A category has no segment.

    Why it matters: a class without examples cannot be learnt, and pycocotools gives it an AP
    of -1, which some scripts average in.
    Fix: annotate some, or remove it before the first release; after that, keep the id.
    Example: a label that was created in CVAT and never drawn.
    """
    used = {key for s in survey.seen for key in s.categories}
    for c in survey.categories:
        if c.id not in used:
            yield survey.find(f"category {c.name!r} ({c.id}) is not used")


@dataset_rule("C207", "error")
def renamed(survey: Survey) -> Iterator[Finding]:
    """
    A category has another id, or another name, than in the earlier version.

    Why it matters: models give numbers, not names. Whoever trained on the last version reads
    "knife" for every "hand" of this one, and no tool will notice.
    Fix: set the old ids in `dataset.yaml`; a new class gets a new number.
    Looks at: `validate --against EARLIER`.
    Example: 1 was "hand" and is "knife" now.
    """
    if survey.beside.previous is None:
        return
    known = survey.beside.previous.categories
    name, number = {c.id: c.name for c in known}, {c.name: c.id for c in known}
    for c in survey.categories:
        if name.get(c.id, c.name) != c.name:
            yield survey.find(f"category {c.id} was {name[c.id]!r} and is {c.name!r}")
        elif number.get(c.name, c.id) != c.id:
            yield survey.find(f"category {c.name!r} had id {number[c.name]} and has {c.id}")


@dataset_rule("C209", "warning")
def colors(survey: Survey) -> Iterator[Finding]:
    """
    Two categories share a colour, or one is black.

    Why it matters: in colour maps, two classes of one colour cannot be told apart again. Black is
    void: panopticapi gave a black category segment id 0, and it vanished.
    Fix: choose other colours in CVAT or `dataset.yaml`.
    Example: two CVAT labels with #ff0000.
    """
    owners = defaultdict(list)
    for c in survey.categories:
        if c.color is not None:
            owners[c.color].append(c.name)
    for color, names in owners.items():
        if len(names) > 1:
            yield survey.find(f"colour {_hex(color)} is shared by {', '.join(map(repr, names))}")
        if color == (0, 0, 0):
            yield survey.find(f"{', '.join(map(repr, names))} is black, the colour of void")


@dataset_rule("C210", "info")
def many(survey: Survey) -> Iterator[Finding]:
    """
    There are more than 254 categories.

    Why it matters: one byte a pixel is all that Pascal VOC and class-id PNGs have, and 0 and 255
    mean background and void. The 255th class cannot be written there.
    Fix: nothing to do unless these formats are wanted; then merge or leave out classes.
    Example: the 1,203 categories of LVIS.
    """
    if len(survey.categories) > MOST:
        yield survey.find(f"{len(survey.categories)} categories; one byte a pixel holds {MOST}")


@dataset_rule("C211", "info")
def no_supercategory(survey: Survey) -> Iterator[Finding]:
    """
    Some categories have a supercategory, and others have none.

    Why it matters: scores by supercategory leave these out: their sum is not that of all classes.
    Fix: give it in `dataset.yaml`, to all or to none.
    Example: "cat" is an animal, and "dog" is nothing.
    """
    without = [c.name for c in survey.categories if not c.supercategory]
    if 0 < len(without) < len(survey.categories):
        yield survey.find(f"no supercategory: {listing([repr(n) for n in without])}")


@dataset_rule("C212", "info")
def order(survey: Survey) -> Iterator[Finding]:
    """
    Categories are not listed by ascending id.

    Why it matters: tools that number classes by position and tools that sort by id then
    disagree on all classes that moved.
    Fix: list them by id.
    Example: ids 2, 1, 3.
    """
    ids = [c.id for c in survey.categories]
    if ids != sorted(ids):
        yield survey.find("categories are not in the order of their ids")


def _hex(color: tuple[int, ...]) -> str:
    return "#" + "".join(f"{c:02x}" for c in color)
