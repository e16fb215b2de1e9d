"""
COCO's documents, written as their images come: {"annotations", "categories", "images"}, and
"licenses" where images have some.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..conservation import Ledger
from ..dataset import Category
from ..files import fast_json
from .coco import category_json
from .coco_licences import Licences


@contextmanager
def documents(categories: Sequence[Category]) -> Iterator[Documents]:
    """Files that fill side by side. They are complete when the context is left."""
    with ExitStack() as stack:
        opened = Documents(stack)
        yield opened
        opened.end(fast_json([category_json(c) for c in categories]))


class Documents:
    """Documents by their paths; none is kept in memory. Keys are sorted: `canonical_json`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[Path, _Document] = {}

    def add(self, path: Path, images: bytes, annotations: bytes) -> None:
        """Append to the two lists of a file; both come as JSON lists."""
        self._document(path).add(images, annotations)

    def add_records(
        self, path: Path, images: Sequence[dict[str, Any]], annotations: bytes, ledger: Ledger
    ) -> None:
        """Append images with their licences; see `coco.image_record`."""
        document = self._document(path)
        licences = document.licences = document.licences or Licences(ledger)
        document.add(fast_json([licences.numbered(image) for image in images]), annotations)

    def _document(self, path: Path) -> _Document:
        if path not in self._open:
            self._open[path] = _Document(path, self._stack)
        return self._open[path]

    def end(self, categories: bytes) -> None:
        """Write what comes last."""
        for document in self._open.values():
            document.end(categories)


class _Document:
    """One file, and another one where the images wait."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = stack.enter_context(path.open("wb"))
        self._images = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._file.write(b'{"annotations":[')
        self._empty = {"annotations": True, "images": True}
        self.licences: Licences | None = None

    def add(self, images: bytes, annotations: bytes) -> None:
        self._append("annotations", self._file, annotations)
        self._append("images", self._images, images)

    def end(self, categories: bytes) -> None:
        self._file.write(b'],"categories":' + categories + b',"images":[')
        self._images.seek(0)
        shutil.copyfileobj(self._images, self._file)
        licences = self.licences.said if self.licences else []
        self._file.write(b"]" + (b',"licenses":' + fast_json(licences) if licences else b"") + b"}")

    def _append(self, key: str, stream: Any, values: bytes) -> None:
        if values != b"[]":
            stream.write(b"" if self._empty[key] else b",")
            stream.write(values[1:-1])
            self._empty[key] = False
