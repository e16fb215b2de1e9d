"""
YOLO segmentation: `data.yaml`, and a line `class x1 y1 x2 y2 ...` for each instance.

Coordinates are shares of the image's width and height. Read are the layouts of Ultralytics,
of CVAT ("Ultralytics YOLO Segmentation 1.0"), of Roboflow, of Label Studio and of Darknet; lines
of five numbers are boxes, and with a `kpt_shape` all are poses: neither has a mask. Labels say
neither the size of an image nor its extension: these come from the pictures, or from the table
`images.csv` that we write and other tools pass over.

A line is one ring. Holes are cut open and parts are tied together by lines without width: by
COCO's rule that gives the same pixels, while a tool that fills outlines coarsely (OpenCV, as
Ultralytics does) adds a hairline there.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ..conservation import Item, Ledger, Tally
from ..dataset import Category, Dataset, Sample, Segment, ordered_splits
from ..errors import FormatError, UsageError, at
from ..files import Tree, own_names
from ..images import size_of
from ..masks import Mask, check_polygons
from ..names import collision_key, listing, safe_path
from ..shapes.outlines import joined, trace
from ..validate import Finding, finding_of
from .reading import Picture, Reading, set_aside
from .yolo_layout import NO_SPLIT, NOT_SPLITS, SIZES, Config, Entry, config, entries

_MAX_LABELS = 2**27  # bytes of one label file


def detect(tree: Tree) -> bool:
    """Are there names of classes, in a `data.yaml` or as other tools have them, and labels?"""
    try:
        return any(n.lower().endswith(".txt") for n in own_names(tree)) and config(tree) is not None
    except FormatError:
        return True  # reading it says what is wrong


def read(tree: Tree) -> Reading:
    """
    Read all images of all splits. Lines that cannot be read become findings.

    Raises:
        FormatError: no classes, or nothing says how large the images are.
    """
    said = config(tree)
    if said is None:
        raise FormatError(
            "no data.yaml with names of classes, no obj.data, no classes.txt beside labels",
            path=tree.label,
        )
    reader = _Reader(tree, said)
    found, notes = entries(tree, said)
    sized = [(e, size) for e in found if (size := reader.size(e)) is not None]
    if len(sized) < len(found):
        lost = sorted({e.name for e in found} - {e.name for e, _ in sized})
        raise FormatError(
            f"{len(found) - len(sized)} of {len(found)} images have no picture, and no line in "
            f"{SIZES}, to say their size; the first: {lost[0] if lost else found[0].name}",
            path=tree.label,
            hint="say where the pictures are: --images DIR",
        )
    pictures = [reader.picture(e, *size) for e, size in sized]
    return Reading(
        name="",
        format="yolo",
        categories=reader.categories,
        pictures=tuple(pictures),
        counted=Tally(len(pictures), reader.rows, dict(reader.pixels)),
        notes=(*notes, *reader.notes(found)),
        findings=tuple(reader.findings),
        mended=tuple(reader.set_aside()),
        files=frozenset(e.label for e in found if e.label is not None),
    )


class _Reader:
    """Reads labels; keeps count of what they hold."""

    def __init__(self, tree: Tree, said: Config) -> None:
        self._tree = tree
        self.categories = tuple(Category(n, c) for n, c in enumerate(said.classes, start=1))
        self.findings: list[Finding] = []
        self.pixels: Counter[str] = Counter()
        self.rows = 0
        self._keypoints = said.keypoints
        self._marks = 0  # boxes, or poses

    def size(self, entry: Entry) -> tuple[int, int] | None:
        """(height, width) by the picture, else by images.csv."""
        if entry.picture is None:
            return entry.size
        with self._tree.open(entry.picture) as stream, at("image", entry.picture):
            return size_of(stream)

    def picture(self, entry: Entry, height: int, width: int) -> Picture:
        if not (0 < height < 2**31 and 0 < width < 2**31):
            raise FormatError(f"image is {height}x{width}", where=(entry.name,), code="I108")
        segments: list[Segment] = []
        marks: list[dict[str, Any]] = []
        for number, words in self._lines(entry):
            spot = f"{entry.label} line {number}"
            marked = self._keypoints is not None or len(words) == 5
            self.rows += not marked
            try:
                with at(spot):
                    category = self._category(words[0])
                    values = _numbers(words[1:])
                    if marked:
                        marks.append(self._mark(category.name, values, height, width))
                        continue
                    segment = Segment(0, category.id, (_ring(values, height, width),))
                    mask = segment.mask(height, width)
            except FormatError as error:
                self.findings.append(finding_of(error, entry.name))
                continue
            self.pixels[category.name] += mask.area
            segments.append(segment)
        self._marks += len(marks)
        source = {"subset": entry.split, "name": entry.name, "not_segments": marks}
        sample = Sample(
            id=0,
            file_name=entry.name,
            height=height,
            width=width,
            segments=tuple(segments),
            source={k: v for k, v in source.items() if v},
        )
        return Picture(sample, entry.picture)

    def _mark(
        self, label: str, values: NDArray[np.float64], height: int, width: int
    ) -> dict[str, Any]:
        """A box; where lines are poses, with its keypoints in pixels."""
        box = _box(label, values[:4], height, width)
        if len(values) == 4 or self._keypoints is None:
            return box
        points, numbers = self._keypoints
        if len(values) != 4 + points * numbers:
            said = f"{len(values)} numbers, and a pose of kpt_shape has {4 + points * numbers}"
            raise FormatError(said, code="J002")
        scale = (width, height, 1)[:numbers]
        return {**box, "keypoints": (values[4:].reshape(points, numbers) * scale).tolist()}

    def set_aside(self) -> Iterator[Finding]:
        """What is said of boxes, or of poses."""
        kind = "box" if self._keypoints is None else "pose"
        return set_aside({kind: self._marks}, self._tree.label)

    def notes(self, entries: Sequence[Entry]) -> Iterator[str]:
        labels = Counter(label for label, _ in {(e.label, e.picture) for e in entries} if label)
        if shared := sorted(label for label, n in labels.items() if n > 1):
            yield f"{len(shared)} label file(s) are of several pictures: {listing(shared)}"

    def _lines(self, entry: Entry) -> Iterator[tuple[int, list[str]]]:
        """The lines of a label file that say something, by number from 1, as words."""
        if entry.label is None:
            return
        with self._tree.open(entry.label) as stream:
            body = stream.read(_MAX_LABELS + 1)
        if len(body) > _MAX_LABELS:
            raise FormatError(f"more than {_MAX_LABELS:,} bytes", path=entry.label, code="J006")
        for number, line in enumerate(body.decode("utf-8", "replace").splitlines(), start=1):
            if words := line.split():
                yield number, words

    def _category(self, word: str) -> Category:
        number = _numbers([word])[0]
        if not (number == int(number) and 0 <= number < len(self.categories)):
            raise FormatError(
                f"class is {word[:20]}, the last one is {len(self.categories) - 1}", code="Y832"
            )
        return self.categories[int(number)]


def _numbers(words: list[str]) -> NDArray[np.float64]:
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        word = next(w for w in words if not _is_number(w))
        raise FormatError(f"{word[:20]!r} is no number", code="J005") from None
    if not np.isfinite(values).all():
        raise FormatError("a number is not finite", code="P406")
    return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _ring(values: NDArray[np.float64], height: int, width: int) -> tuple[float, ...]:
    if len(values) % 2:
        raise FormatError(f"{len(values)} coordinates, an odd number", code="P403")
    if len(values) < 6:
        raise FormatError(f"{len(values) // 2} points, needs 3", code="P404")
    _check_shares(values)
    return tuple((values.reshape(-1, 2) * (width, height)).ravel().tolist())


def _box(label: str, values: NDArray[np.float64], height: int, width: int) -> dict[str, Any]:
    """A box, which Ultralytics writes by its centre: kept as left, top, width and height."""
    _check_shares(values)
    x, y, w, h = (values * (width, height, width, height)).tolist()
    return {"kind": "box", "label": label, "bbox": [x - w / 2, y - h / 2, w, h]}


def _check_shares(values: NDArray[np.float64]) -> None:
    """Ultralytics reads 32-bit floats, so what is 1 there is not beyond it."""
    beyond = values[~((values >= 0) & (values.astype(np.float32) <= 1))]
    if len(beyond):
        raise FormatError(f"coordinate {beyond[0]:g} is not in [0, 1]", code="Y831")


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def write(dataset: Dataset, folder: Path) -> tuple[Item, ...]:
    """
    Write `data.yaml`, `images.csv`, and `labels/<split>/<stem>.txt` for every image.

    Classes are 0, 1, ... in the order of the categories. A polygon of one ring inside its image
    keeps its vertices; all else is outlined along the edges of its pixels. What was written is
    rasterised again, and pixels that differ are itemised. Crowds are left out: YOLO has none.

    Raises:
        UsageError: two images would share one label file, or a split has a name that is taken.
    """
    writer = _Writer(dataset)
    splits: set[str] = set()
    taken: set[str] = set()
    with (folder / SIZES).open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("file_name", "width", "height"))
        for sample in dataset:
            split = sample.split if sample.split is not None else NO_SPLIT
            if split in NOT_SPLITS:
                raise UsageError(f"{split!r} means something else in data.yaml than a split")
            splits.add(split)
            stem = safe_path(sample.file_name).with_suffix("")
            label = safe_path(f"labels/{split}/{stem}.txt")
            if collision_key(str(label)) in taken:
                raise UsageError(f"two images would have the label {label}")
            taken.add(collision_key(str(label)))
            target = folder / label
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("w", encoding="ascii", newline="") as lines:
                lines.writelines(writer.lines(sample))
            table.writerow((sample.file_name, sample.width, sample.height))
    names = {n: c.name for n, c in enumerate(dataset.categories)}
    said: dict[str, Any] = {s: f"images/{s}" for s in ordered_splits(splits)}
    plain = all(c.name.isprintable() for c in dataset.categories)  # PyYAML folds U+0085
    body = yaml.safe_dump(
        {"path": ".", **said, "names": names}, sort_keys=False, allow_unicode=plain
    )
    comment = f"# images/{NO_SPLIT} is for no split: call it train or val to train on it\n"
    (folder / "data.yaml").write_text((comment if NO_SPLIT in splits else "") + body, "utf-8")
    return writer.ledger.items


class _Writer:
    """Segments as lines, and the account of what they lose."""

    def __init__(self, dataset: Dataset) -> None:
        self.ledger = Ledger()
        self._number = {c.id: n for n, c in enumerate(dataset.categories)}
        self._names = {c.id: c.name for c in dataset.categories}

    def lines(self, sample: Sample) -> Iterator[str]:
        for segment in sample.segments:
            mask = segment.mask(sample.height, sample.width)
            why = "YOLO has no crowds" if segment.iscrowd else "a segment has no pixels"
            shares = None if segment.iscrowd or not mask.area else _shares(segment, mask)
            if shares is None:
                change = {self._names[segment.category_id]: -mask.area}
                if mask.area and not segment.iscrowd:
                    why = "an outline is longer than can be read back"
                self.ledger.note(why, sample.file_name, segments=-1, pixels=change)
                continue
            got = _mask_of(shares, sample.height, sample.width)
            if got != mask:
                change = {self._names[segment.category_id]: got.area - mask.area}
                self.ledger.note("one ring cannot say it all", sample.file_name, pixels=change)
            yield f"{self._number[segment.category_id]} {' '.join(map(repr, shares))}\n"


def _shares(segment: Segment, mask: Mask) -> list[float] | None:
    """One ring as shares of the image; None where it could not be read back."""
    rings = segment.segmentation
    if isinstance(rings, tuple) and len(rings) == 1:
        shares = _divided(rings[0], mask)
        if min(shares) >= 0 and max(shares) <= 1 and _mask_of(shares, *_size(mask)) == mask:
            return shares
    ring = tuple(map(float, joined(trace(mask))))
    try:
        check_polygons((ring,))
    except FormatError:
        return None
    return _divided(ring, mask)


def _divided(ring: tuple[float, ...], mask: Mask) -> list[float]:
    """
    Shares that, multiplied again, give the coordinates or the next float above.

    Never below: COCO's rule rounds half a fifth of a pixel up, so 10.5 must not become less.
    """
    points = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
    size = np.array((mask.width, mask.height), dtype=np.float64)
    shares = points / size
    below = shares * size < points
    shares[below] = np.nextafter(shares[below], np.inf)
    return [float(v) for v in shares.ravel()]


def _mask_of(shares: list[float], height: int, width: int) -> Mask:
    """The pixels that reading the shares gives."""
    ring = (np.array(shares).reshape(-1, 2) * (width, height)).ravel().tolist()
    return Mask.from_polygons((tuple(ring),), height, width)


def _size(mask: Mask) -> tuple[int, int]:
    return mask.height, mask.width
