"""How long work says how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Progress = Callable[[int, int], None]
"""Called with (done, total), in the unit that the caller names."""


def silent(done: int, total: int) -> None:
    """Progress nobody listens to."""


class Amount(NamedTuple):
    """So much of a transfer."""

    files: int
    bytes: int


Transfer = Callable[[str, Amount, Amount], None]
"""Called with what is done, such as "fetched", with how much of it is, and of how much."""


def unwatched(what: str, done: Amount, total: Amount) -> None:
    """A transfer nobody watches."""
