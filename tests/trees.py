"""Small release trees for tests of the bucket side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from publisher.versions.manifest import PROVENANCE, Entry, Manifest

FILES = {
    "README.md": b"# Hands\n",
    "provenance.json": b'{"commit":"abc"}\n',
    "annotations/instances_train.json": b'{"images":[1,2]}',
    "annotations/instances_val.json": b'{"images":[3]}',
    "train/metadata.jsonl": b"{}\n{}\n",
    "train/images/000001.jpg": b"first picture",
    "train/images/session 2/ä.jpg": b"second picture",
    "val/metadata.jsonl": b"{}\n",
    "val/images/000003.jpg": b"third picture",
}


def entry(path: str, body: bytes) -> Entry:
    """A file of the tree, in the split that its path names."""
    split = next((s for s in ("train", "val") if f"{s}/" in path or f"_{s}." in path), None)
    split = None if path == PROVENANCE else split
    return Entry(path, len(body), hashlib.sha256(body).hexdigest(), split)


def manifest(files: Mapping[str, bytes] = FILES, name: str = "hands") -> Manifest:
    return Manifest(name, tuple(entry(p, b) for p, b in files.items()))


def make_tree(
    folder: Path, changes: Mapping[str, bytes] = {}, files: Mapping[str, bytes] = FILES
) -> Path:
    """A release tree on disk: FILES, or others, with changes."""
    files = {**files, **changes}
    for path, body in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    (folder / "manifest.json").write_bytes(manifest(files).to_bytes())
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder but our own two."""
    own = {"manifest.json", ".publisher.json"}
    files = (p for p in folder.rglob("*") if p.is_file())
    return {
        path: (folder / path).read_bytes()
        for path in sorted(p.relative_to(folder).as_posix() for p in files)
        if path not in own
    }
