"""Which file of an export holds which image."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice, takewhile
from pathlib import PurePosixPath

from ...files import SPARE
from ...names import stem


class Files:
    """The files of a tree that are no annotations, by name and by stem."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = sorted(n for n in names if not n.endswith((".xml", ".json", ".txt")))
        self.known = set(self.names)
        self.by_stem: dict[str, list[str]] = {}
        for n in self.names:
            self.by_stem.setdefault(stem(n), []).append(n)

    def within(self, folder: str) -> list[str]:
        """Those whose names begin so, sorted."""
        start = bisect_left(self.names, folder)
        return list(takewhile(lambda n: n.startswith(folder), islice(self.names, start, None)))


class Members:
    """The files beside an annotation file in the folder `base`, and those given apart."""

    def __init__(self, files: Files, base: str) -> None:
        self._base = "" if base == "." else base + "/"
        self._files = files

    def find(self, name: str, subset: str) -> str | None:
        """The file of an image; video frames are named without their extension."""
        if not self._files.names:
            return None
        root = f"{self._base}images/"
        places = [f"{root}{subset}/{name}", f"{root}{name}", f"{self._base}{name}"]
        places += [f"{SPARE}/{subset}/{name}", f"{SPARE}/{name}", f"{SPARE}/{_last(name)}"]
        for place in places:
            if place in self._files.known:
                return place
        for place in places:
            if len(found := self._files.by_stem.get(place, [])) == 1:
                return found[0]
        return None

    def named(self, name: str, member: str) -> str:
        """The image's name with the extension that its file has."""
        same = _last(member) == _last(name)
        return name if same else name + PurePosixPath(member).suffix

    def listed(self, subset: str) -> list[tuple[str, str]]:
        """Name and file of every picture of a subset, in the order of their names."""
        roots = [f"{self._base}images/{subset}/" if subset else "", f"{self._base}images/"]
        roots += [f"{SPARE}/{subset}/" if subset else "", f"{SPARE}/"]
        for root in filter(None, roots):
            if found := self._files.within(root):
                return [(n.removeprefix(root), n) for n in found]
        return []


def _last(name: str) -> str:
    return PurePosixPath(name).name
