"""Where people keep the pictures of COCO's documents."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath

from ..files import SPARE, Tree


class ImageFinder:
    """Finds image files in the layouts that people use."""

    def __init__(self, tree: Tree, documents: Sequence[str] = ()) -> None:
        self._names = set(tree.names()) - set(documents)
        self._places: dict[tuple[str, str], list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    def find(
        self, file_name: str, document: str, subset: str, but: Collection[str] = ()
    ) -> str | None:
        """
        The file for `file_name`, a safe path, of this annotation document.

        Args:
            but: files that are no pictures, such as maps.
        """
        if not self._names:
            return None
        key = document, subset
        if key not in self._places:
            self._places[key] = [with_slash(place) for place in _places(*key)]
        found = (place + file_name for place in self._places[key])
        last = f"{SPARE}/{file_name.rpartition('/')[2]}"
        return next((n for n in (*found, last) if n in self._names and n not in but), None)


def _places(document: str, subset: str) -> Iterator[PurePosixPath]:
    """The folders where the images of a document may be, those of its own subset first."""
    root, spare = root_of(document), PurePosixPath(SPARE)
    if subset:
        own = (f"{subset}/images", f"images/{subset}", subset, f"{subset}2017")
        yield from (root / place for place in own)
    yield from (root / "images", root / "data", root)  # data: FiftyOne's
    yield from (spare / subset, spare)


def root_of(document: str) -> PurePosixPath:
    """The folder of a document, or that above where it is called `annotations`."""
    folder = PurePosixPath(document).parent
    return folder.parent if folder.name == "annotations" else folder


def with_slash(folder: PurePosixPath) -> str:
    """The beginning of the paths below a folder."""
    return f"{folder.as_posix()}/".removeprefix("./")
