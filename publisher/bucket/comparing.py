"""
Compare: two versions, wherever they are, and what the number of the next one has to be.

Of a version in a bucket only the lists of files and the annotations are fetched: the digests
say which pictures changed.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import workspace
from ..columns import Texts
from ..dataset import Category, Dataset, Sample
from ..errors import FormatError, UsageError
from ..images import strip_metadata
from ..names import listing
from ..progress import Progress, silent
from ..scratch import scratch
from ..stages import intake
from ..storage import Bucket, open_bucket
from ..versions.changelog import Verdict, section, verdict
from ..versions.diff import Comparison, Pictures, Side, Summary, compare_pictures
from ..versions.manifest import MANIFEST, PROVENANCE, Entry, Manifest, Record
from ..versions.version import Reference, Version
from . import catalog, consume
from .trees import read_manifest

Open = Callable[[str], Bucket]


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found; `changes` tells every image that differs, as plain values."""

    before: str
    after: str
    title: str  # of a section about it: the version of `after`, if that has one
    summary: Summary
    documents: tuple[str, ...]  # other files that differ
    changes: Changes

    @property
    def verdict(self) -> Verdict:
        """The level of the next version, and why."""
        return verdict(self.summary, self.documents)

    @property
    def same(self) -> bool:
        """Is there no difference at all?"""
        return not (
            len(self.changes)
            or self.documents
            or self.summary.categories
            or self.summary.counts.total()
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the images."""
        judged = self.verdict
        return {
            "before": self.before,
            "after": self.after,
            "same": self.same,
            "level": None if self.same else judged.level,
            "reasons": [] if self.same else list(judged.reasons),
            **self.summary.to_json(),
            "documents": list(self.documents),
        }

    def section(self, title: str) -> str:
        """A section of a changelog."""
        return section(title, self.before, self.summary, self.documents)


class Changes:
    """Many plain values, put aside; see spill.py."""

    def __init__(self) -> None:
        self._texts = Texts()

    def append(self, value: dict[str, Any]) -> None:
        """Add one."""
        self._texts.append(json.dumps(value).encode())

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(json.loads, self._texts)


def compare(
    before: str, after: str, *, open_: Open = open_bucket, on_image: Progress = silent
) -> Compared:
    """
    Compare two versions: each a reference, a release tree, a working dataset, or an export.

    Raises:
        UsageError: there is nothing of this kind, or only some splits of a version.
        FormatError: annotations that cannot be read, or a mask that cannot be drawn.
    """
    with scratch() as folder:
        old, new = (_opened(text, open_, folder) for text in (before, after))
        return _compared(old, new, on_image)


def _compared(old: _Opened, new: _Opened, on_image: Progress) -> Compared:
    comparison = Comparison(old.side, new.side, _pictures(old, new), on_image)
    changes = Changes()
    for change in comparison:
        changes.append(change.to_json())
    title = new.version or "Unreleased"
    documents = _documents(old, new)
    return Compared(old.label, new.label, title, comparison.summary, documents, changes)


# ── the next version ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Proposal:
    """The number that a release should be published under, and why."""

    version: Version
    reasons: tuple[str, ...]
    since: Version | None = None  # the newest version so far
    level: str | None = None  # None: it is the first, or it is published already


def propose(bucket: Bucket, name: str, tree: Path, on_image: Progress = silent) -> Proposal:
    """
    Compare a release tree with the newest version of its dataset, prereleases aside.

    The content of the newest version gets the number that it has.

    Raises:
        UsageError: the folder is no release, or not whole.
    """
    manifest = _whole(read_manifest(tree), str(tree))
    found = [v for v in catalog.versions(bucket, name) if not v.prerelease]
    if not found:
        return Proposal(Version(1, 0, 0), ("it is the first version",))
    said = catalog.statuses(bucket, name)
    left = [v for v in found if (s := said.get(v)) is None or s.state != "retracted"]
    if not left:
        number = max(found).after("major")
        return Proposal(number, ("all versions before it were retracted",))
    newest = max(left)
    record = catalog.resolve(bucket, name, newest)
    if record.root == manifest.root:
        return Proposal(newest, ("its content is published under this number",), newest)
    with scratch() as folder:
        old = _of_record(bucket, record, folder)
        judged = _compared(old, _of_tree(tree, manifest), on_image).verdict
    return Proposal(max(found).after(judged.level), judged.reasons, newest, judged.level)


# ── sides ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Opened:
    """A version as it is compared."""

    label: str
    side: Side
    manifest: Manifest | None = None  # of a release
    images: Path | None = None  # the pictures of a dataset
    version: str | None = None  # of what is published


def _opened(text: str, open_: Open, folder: Path) -> _Opened:
    if "://" in text:
        ref = Reference.parse(text)
        bucket = open_(ref.remote)
        return _of_record(bucket, catalog.resolve(bucket, ref.name, ref.selector), folder)
    path = Path(text)
    if (path / MANIFEST).is_file():
        if consume.is_partial(path):
            raise UsageError(f"{text} holds only some categories", hint="compare by reference")
        return _of_tree(path, _whole(read_manifest(path), text))
    if not path.exists():
        raise UsageError(f"there is no {text}", hint="give references, releases or datasets")
    dataset = intake.read(path)
    images = dataset.images if workspace.is_workspace(path) else None
    return _Opened(text, Side(dataset.categories, dataset), images=images)


def _of_record(bucket: Bucket, record: Record, folder: Path) -> _Opened:
    manifest = catalog.read_version(bucket, record)
    wanted = [e for e in manifest.entries if _annotated_split(e) is not None]
    files = consume.fetch(bucket, record, wanted, folder)
    found = _of_release(f"{record.name} {record.version}", manifest, files)
    return replace(found, version=record.version)


def _of_tree(tree: Path, manifest: Manifest) -> _Opened:
    wanted = [e for e in manifest.entries if _annotated_split(e) is not None]
    return _of_release(str(tree), manifest, {e: tree / e.path for e in wanted})


def _of_release(label: str, manifest: Manifest, files: Mapping[Entry, Path]) -> _Opened:
    parts = {str(_annotated_split(e)): intake.read(path, "coco") for e, path in files.items()}
    categories = _merged_categories(parts.values(), label)
    return _Opened(label, Side(categories, _Merged(parts)), manifest)


def _annotated_split(entry: Entry) -> str | None:
    """The split whose instances a file of a release holds."""
    path = f"annotations/instances_{entry.split}.json"
    return entry.split if entry.split is not None and entry.path == path else None


def _merged_categories(parts: Iterable[Dataset], label: str) -> tuple[Category, ...]:
    found: dict[int, Category] = {}
    for dataset in parts:
        for c in dataset.categories:
            if found.setdefault(c.id, c) != c:
                raise FormatError(f"category {c.id} is not the same in all splits", path=label)
    return tuple(found.values())


class _Merged(Iterable[Sample]):
    """The samples of all splits in the order of their names."""

    def __init__(self, parts: Mapping[str, Dataset]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Sample]:
        each = [map(partial(_in_split, split), d) for split, d in self._parts.items()]
        return heapq.merge(*each, key=lambda s: s.file_name)


def _in_split(split: str, sample: Sample) -> Sample:
    return replace(sample, split=split)


def _whole(manifest: Manifest, label: str) -> Manifest:
    if left := sorted(name for name, s in manifest.others.items() if s.files):
        raise UsageError(
            f"{label} holds only some splits of a version: {listing(left)} is missing",
            hint="compare by reference instead: that fetches no pictures",
        )
    return manifest


# ── what digests say ─────────────────────────────────────────────────────────────────────────


def _pictures(old: _Opened, new: _Opened) -> Pictures:
    if old.images is not None and old.images == new.images:
        return Pictures(compared=True)  # the very same files
    before, after = _digests(old), _digests(new)
    if before is None or after is None:
        return Pictures()
    found = compare_pictures(before, after)
    if old.manifest is not None and new.manifest is not None:
        return replace(found, maps=_changed_maps(old.manifest, new.manifest))
    return found


def _digests(side: _Opened) -> dict[str, str] | None:
    """The sha256 of the pictures by file name, as a release has them: without metadata."""
    if side.manifest is not None:
        return _under(side.manifest, "images")
    if side.images is None:
        return None
    return {s.file_name: _digest(side.images, s.file_name) for s in side.side.samples}


def _digest(images: Path, name: str) -> str:
    try:
        body = (images / name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: the picture cannot be read: {error.strerror}") from None
    return hashlib.sha256(strip_metadata(body)).hexdigest()


def _under(manifest: Manifest, folder: str) -> dict[str, str]:
    """Digests of the files in this folder of each split, by the rest of their paths."""
    starts = {s: f"{s}/{folder}/" for s in manifest.splits}
    return {
        e.path.removeprefix(starts[e.split]): e.sha256
        for e in manifest.entries
        if e.split is not None and e.path.startswith(starts[e.split])
    }


def _changed_maps(old: Manifest, new: Manifest) -> frozenset[str]:
    """
    Stems of the panoptic maps with other bytes, where their regions may be others, too.

    A split whose panoptic JSON is the same to the byte has the same regions and areas: its
    maps were only compressed otherwise.
    """
    before, after = _under(old, "panoptic"), _under(new, "panoptic")
    same = {e.sha256 for e in old.entries if _is_panoptic_json(e)}
    drawn = {str(e.split) for e in new.entries if _is_panoptic_json(e) and e.sha256 not in same}
    mine = {
        e.path.removeprefix(f"{e.split}/panoptic/") for e in new.entries if str(e.split) in drawn
    }
    return frozenset(
        name.removesuffix(".png")
        for name in before.keys() & after.keys() & mine
        if before[name] != after[name]
    )


def _is_panoptic_json(entry: Entry) -> bool:
    return entry.split is not None and entry.path == f"annotations/panoptic_{entry.split}.json"


def _documents(old: _Opened, new: _Opened) -> tuple[str, ...]:
    """Files of no split that differ, such as README.md."""
    if old.manifest is None or new.manifest is None:
        return ()
    sides: Sequence[set[tuple[str, str]]] = [
        {(e.path, e.sha256) for e in m.shard_entries("common")}
        for m in (old.manifest, new.manifest)
    ]
    return tuple(sorted({path for path, _ in sides[0] ^ sides[1]} - {PROVENANCE}))
