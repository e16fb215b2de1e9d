"""
What faults did: counted while tests run, printed at the end of every run of pytest.

Nothing here is a verdict that is written down beforehand: `torn`, `wrong`, `lost` and `stuck`
are counted where they happen, and the test that counts one fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from publisher.bucket.catalog import channels, versions
from publisher.bucket.consume import pull
from publisher.errors import PublisherError
from publisher.storage import Bucket

from .trees import read_tree

PROPERTY = "figures"
BAD = ("torn", "wrong", "lost", "stuck")  # what must never be, and is 0 in every row


@dataclass
class Figures:
    """
    The counts of one test: faults by kind, and what readers saw.

    Args:
        layer: the row of the table that they go to.
        record: pytest's `record_property`.
    """

    layer: str
    record: Callable[[str, Any], None]
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, kind: str, count: int = 1) -> None:
        """So many faults of a kind were injected."""
        self.counts[f"fault: {kind}"] += count

    def add(self, name: str, count: int = 1) -> None:
        self.counts[name] += count

    def done(self) -> None:
        """Hand the counts in, and fail where one of them is bad."""
        self.record(PROPERTY, [self.layer, dict(self.counts)])
        assert not {name: n for name in BAD if (n := self.counts[name])}


@dataclass
class Reader:
    """
    Reads all that a bucket shows of a dataset, after each fault, and compares.

    Args:
        contents: what each version must be.
        must: versions that were acknowledged, and so must be there.
        room: for pulled folders.
    """

    figures: Figures
    contents: Mapping[str, Mapping[str, bytes]]
    room: Path
    must: set[str] = field(default_factory=set)

    def look(self, bucket: Bucket, name: str = "hands") -> None:
        """Read every version that is visible, and the channel."""
        seen = {str(v) for v in versions(bucket, name)}
        self.figures.add("lost", len(self.must - seen))
        self.figures.add("wrong", len(seen - set(self.contents)))
        for version in sorted(seen & set(self.contents)):
            self.read(bucket, version, self.contents[version], name)
        latest = channels(bucket, name).get("latest")
        if latest is not None:
            self.figures.add(
                "lost", str(latest) not in seen or str(latest) < max(self.must, default="")
            )

    def read(self, bucket: Bucket, version: str, expected: Mapping[str, bytes], name: str) -> None:
        """Pull one version into a new folder."""
        self.figures.add("reads")
        out = self.room / f"read-{self.figures.counts['reads']}"
        try:
            got = read_tree(pull(bucket, name, version, out).path)
        except PublisherError:
            self.figures.add("lost")  # it was published, and cannot be had
            return
        self.compare(got, expected)

    def compare(self, got: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
        self.figures.add("torn", set(got) != set(expected))
        self.figures.add("wrong", any(got[p] != expected[p] for p in set(got) & set(expected)))


def table(handed_in: Iterable[tuple[str, Mapping[str, int]]]) -> list[str]:
    """The counts of all tests of a run, summed, as lines of text."""
    rows: dict[str, Counter[str]] = {}
    for layer, counts in handed_in:
        rows.setdefault(layer, Counter()).update(counts)
    lines = []
    for layer, counts in sorted(rows.items()):
        kinds = {k.removeprefix("fault: "): n for k, n in sorted(counts.items()) if "fault: " in k}
        others = {k: n for k, n in sorted(counts.items()) if "fault: " not in k and k not in BAD}
        if "reads" in counts:  # else nobody looked for what must not be
            others |= {name: counts[name] for name in BAD}
        lines.append(f"{layer}: {sum(kinds.values()):,} faults")
        lines.append("  " + ", ".join(f"{kind} {n:,}" for kind, n in kinds.items()))
        lines.append("  " + ", ".join(f"{name} {n:,}" for name, n in others.items()))
    return lines
