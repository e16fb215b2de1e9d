"""What a folder holds that has only some pictures of its splits. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from .manifest import Entry

WHOLE = ".publisher.whole"  # where annotation files lie as they are published


def documents_of(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The annotation files: what says which picture has what, and has a row for each."""
    return tuple(e for e in entries if e.split is not None and e.path in document_paths(e.split))


def document_paths(split: str) -> tuple[str, str, str]:
    """The annotation files of a split: instances, panoptic, rows of pictures."""
    return (
        f"annotations/instances_{split}.json",
        f"annotations/panoptic_{split}.json",
        f"{split}/metadata.jsonl",
    )


def whole(entry: Entry) -> Entry:
    """An annotation file as it is published, in a folder that has some pictures only."""
    return replace(entry, path=f"{WHOLE}/{entry.path}")


def twin(entry: Entry) -> str | None:
    """Where an annotation file lies in the other kind of folder; None of any other file."""
    published = entry.path.removeprefix(f"{WHOLE}/")
    if entry.split is None or published not in document_paths(entry.split):
        return None
    return published if published != entry.path else f"{WHOLE}/{entry.path}"


def is_of_one(entry: Entry) -> bool:
    """Does a file belong to a single picture?"""
    return entry.path.startswith((f"{entry.split}/images/", f"{entry.split}/panoptic/"))
