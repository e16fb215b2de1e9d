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

    def get(self, licence: Any) -> dict[str, Any]:
        """What the file says of the licence with this id; nothing where it says only the id."""
        found = self._by_id.get(key_of(licence), {})
        return {} if _is_blank(found) else found

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

    def number(self, licence: Any, file_name: str) -> Any:
        """
        The id for an image's licence.

        Args:
            licence: all that is known of it; or only its id, which its file does not list.
        """
        if isinstance(licence, dict):
            return self._listed(licence)
        if isinstance(licence, bool) or not isinstance(licence, int | float):
            return licence
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
