"""COCO's licences: which image has which, by ids that mean something within one file only."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from ..conservation import Ledger
from ..files import canonical_json
from ..names import listing


class Listed:
    """The licences that a file lists."""

    def __init__(self, said: Any) -> None:
        self._said = said if isinstance(said, list) else [said] if said else []
        self._by_id = {key_of(x.get("id")): x for x in self._said if isinstance(x, dict)}

    def __contains__(self, licence: Any) -> bool:
        return key_of(licence) in self._by_id

    def told(self, extra: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        All that is known of an image's licence, and what else is said of the image.

        A licence of which the file says no more than its id, as CVAT's do, is none.
        """
        found = self._by_id.get(key_of(extra["license"])) if "license" in extra else None
        if found is None:
            return {}, extra
        if _is_blank(found):
            return {}, {k: v for k, v in extra.items() if k != "license"}
        return found, extra

    def unused(self, named: Set[str]) -> Iterator[str]:
        """What to say of licences that no image has, given the keys of those that some have."""
        lost = [
            str(x.get("name") or x.get("url") or x.get("id")) if isinstance(x, dict) else str(x)
            for x in self._said
            if not isinstance(x, dict) or not (_is_blank(x) or self._is_named(x, named))
        ]
        if lost:
            yield f"{len(lost)} licence(s) that no image has are not kept: {listing(lost)[:200]}"

    def _is_named(self, licence: dict[str, Any], named: Set[str]) -> bool:
        key = key_of(licence.get("id"))
        return key in named and self._by_id[key] is licence


def unlisted(licence: Any) -> str:
    """What to say of an id that the file of its image does not list."""
    return f"licence {str(licence)[:40]} is not among the licences of the file"


def key_of(licence: Any) -> str:
    """Ids of any kind as text, 1 apart from "1"."""
    return repr(licence)


def _is_blank(licence: dict[str, Any]) -> bool:
    """Does it say nothing, as CVAT's do?"""
    return not any(value for key, value in licence.items() if key != "id")


class Licences:
    """The licences of a file that is written; ids that would mean two are given anew."""

    def __init__(self, ledger: Ledger) -> None:
        self.said: list[dict[str, Any]] = []
        self._ledger = ledger
        self._ids: dict[bytes, int] = {}  # of those that are listed
        self._unlisted: dict[float, float] = {}  # of those that never were, by what they were

    def numbered(self, image: dict[str, Any]) -> dict[str, Any]:
        """An image whose licence was all that is known of it, now with its id."""
        licence = image.get("license")
        if isinstance(licence, dict):
            return {**image, "license": self._listed(licence)}
        if isinstance(licence, bool) or not isinstance(licence, int | float):
            return image
        return {**image, "license": self._not_listed(licence, image["file_name"])}

    def _not_listed(self, licence: float, file_name: str) -> float:
        if licence not in self._unlisted:
            taken = licence in self._ids.values()
            self._unlisted[licence] = self._free() if taken else licence
        if (given := self._unlisted[licence]) != licence:
            said = f"licence {licence}, which its file does not list, is called {given}"
            self._ledger.note(f"{said}: another has that id", file_name)
        return given

    def _listed(self, licence: dict[str, Any]) -> int:
        key = canonical_json(licence)
        if key not in self._ids:
            wanted = licence.get("id")
            if not isinstance(wanted, int) or wanted in self._taken():
                wanted = self._free()
            self._ids[key] = wanted
            self.said.append({**licence, "id": wanted})
        return self._ids[key]

    def _taken(self) -> set[float]:
        return {*self._ids.values(), *self._unlisted.values()}

    def _free(self) -> int:
        return int(max(self._taken(), default=0)) + 1
