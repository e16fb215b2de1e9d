"""Which file of an export holds which image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from ...files import SPARE


class Members:
    """The files beside an annotation file in the folder `base`, and those given apart."""

    def __init__(self, names: Sequence[str], base: str) -> None:
        self._base = "" if base == "." else base + "/"
        self._names = {n for n in names if not n.endswith((".xml", ".json", ".txt"))}
        self._by_stem: dict[str, list[str]] = {}
        for n in self._names:
            self._by_stem.setdefault(str(PurePosixPath(n).with_suffix("")), []).append(n)

    def find(self, name: str, subset: str) -> str | None:
        """The file of an image; video frames are named without their extension."""
        if not self._names:
            return None
        root = f"{self._base}images/"
        places = [f"{root}{subset}/{name}", f"{root}{name}", f"{self._base}{name}"]
        places += [f"{SPARE}/{subset}/{name}", f"{SPARE}/{name}", f"{SPARE}/{_last(name)}"]
        for place in places:
            if place in self._names:
                return place
        for place in places:
            if len(found := self._by_stem.get(place, [])) == 1:
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
            if found := sorted(n for n in self._names if n.startswith(root)):
                return [(n.removeprefix(root), n) for n in found]
        return []


def _last(name: str) -> str:
    return PurePosixPath(name).name
