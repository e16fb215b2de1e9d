"""Findings in any number: put aside as they come, read again as often as they are needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from .lazy import Lazy
from .spill import Spill
from .validate import Finding

BLOCK = 1024  # findings that are written and read at once


class Findings(Lazy[Finding]):
    """
    All that were added, in that order; few of them are objects at any time.

    They lie in blocks: some in memory, the rest in a file without a name (see spill.py).
    """

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._spill = Spill()
        self._ends = [0]  # of the blocks
        self._last: list[Finding] = []  # of the block that is not full
        self._read = (-1, self._last)  # the block that was asked for last
        self.extend(findings)

    def append(self, finding: Finding) -> None:
        """Add one."""
        self._last.append(finding)
        if len(self._last) == BLOCK:
            self._put_aside()

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add some, one by one: those before an error are kept."""
        for finding in findings:
            self.append(finding)

    def __len__(self) -> int:
        return (len(self._ends) - 1) * BLOCK + len(self._last)

    def __iter__(self) -> Iterator[Finding]:
        for block in range(len(self._ends) - 1):
            yield from self._block(block)
        yield from self._last

    def _at(self, index: int) -> Finding:
        block, at = divmod(index, BLOCK)
        if block == len(self._ends) - 1:
            return self._last[at]
        if self._read[0] != block:
            self._read = block, self._block(block)
        return self._read[1][at]

    def _block(self, block: int) -> list[Finding]:
        start, stop = self._ends[block : block + 2]
        return [Finding(*row) for row in json.loads(self._spill.read(start, stop - start))]

    def _put_aside(self) -> None:
        rows = [
            (f.code, f.severity, f.message, f.file_name, f.segment, f.segment_id)
            for f in self._last
        ]
        self._spill.append(json.dumps(rows).encode())  # ASCII: lone surrogates come back too
        self._ends.append(len(self._spill))
        self._last = []
