"""Sequences whose items are made when they are looked at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Lazy(Sequence[T]):
    """A sequence by its `__len__` and `_at`; negative indices and slices come with it."""

    @abstractmethod
    def _at(self, index: int) -> T:
        """Make the item at 0 <= index < len."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        span = range(len(self))
        return (
            [self._at(i) for i in span[index]]
            if isinstance(index, slice)
            else self._at(span[index])
        )
