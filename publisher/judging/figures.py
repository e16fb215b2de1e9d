"""What became of objects whose truth is known, and what it amounts to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..files import canonical_json
from ..refinement.curves import Curve, svg
from ..refinement.scoring import harmed, interval, risks

SCORE = "confidence"  # the score that the risk-coverage curve is about
_SIZES = ((25, "under 25 px"), (50, "to 50 px"), (100, "to 100 px"), (math.inf, "over 100 px"))


class Quality(NamedTuple):
    """How near a mask is to the truth."""

    iou: float
    boundary_iou: float


@dataclass(frozen=True, slots=True)
class Judged:
    """An object, drawn and refined. `rejected` is what a mask that was not taken would be."""

    file_name: str
    segment_id: int
    level: str
    set: str
    size: float  # sqrt(area), in pixels
    reason: str
    route: str
    refined: bool  # is its segmentation another than before?
    scores: Mapping[str, float]
    before: Quality
    after: Quality
    rejected: Quality | None = None

    @property
    def harmed(self) -> bool:
        """Is it worse than before?"""
        return harmed(self.before.iou, self.after.iou)

    def to_json(self) -> dict[str, Any]:
        """All of it; scores that are no number are left out."""
        scores = {k: v for k, v in self.scores.items() if math.isfinite(v)}
        said = {
            "file_name": self.file_name,
            "segment": self.segment_id,
            "level": self.level,
            "set": self.set,
            "size": self.size,
            "reason": self.reason,
            "route": self.route,
            "refined": self.refined,
            "harmed": self.harmed,
            "scores": scores,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
        }
        return said if self.rejected is None else {**said, "rejected": self.rejected._asdict()}


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of some objects; shares are of all of them, means over all of them."""

    n: int
    refined: int
    harmed: int
    before: Quality
    after: Quality
    worst: float  # the largest fall of IoU, as a negative number; or the smallest gain

    @classmethod
    def of(cls, objects: Sequence[Judged]) -> Figures:
        """Count at least one object."""
        return cls(
            len(objects),
            sum(o.refined for o in objects),
            sum(o.harmed for o in objects),
            _mean([o.before for o in objects]),
            _mean([o.after for o in objects]),
            min(o.after.iou - o.before.iou for o in objects),
        )

    @property
    def gain(self) -> float:
        """Of boundary IoU."""
        return self.after.boundary_iou - self.before.boundary_iou

    @property
    def interval(self) -> tuple[float, float]:
        """Between which shares the true harm lies, at 95 %, were the objects independent."""
        return interval(self.harmed, self.n)

    def to_json(self) -> dict[str, Any]:
        """For `dvc metrics`: numbers only."""
        low, high = self.interval
        return {
            "n": self.n,
            "coverage": self.refined / self.n,
            "iou_before": self.before.iou,
            "iou_after": self.after.iou,
            "boundary_iou_before": self.before.boundary_iou,
            "boundary_iou_after": self.after.boundary_iou,
            "boundary_iou_gain": self.gain,
            "harmed": self.harmed,
            "harm": self.harmed / self.n,
            "harm_low": low,
            "harm_high": high,
            "worst_iou_change": self.worst,
        }


def _mean(qualities: Sequence[Quality]) -> Quality:
    return Quality(*(math.fsum(values) / len(values) for values in zip(*qualities, strict=True)))


@dataclass(frozen=True, slots=True)
class Judgement:
    """All objects that were judged, and why others were not, by level and reason."""

    seed: int
    made: Mapping[str, Sequence[str]]  # with what; see `refine.made_with`
    objects: tuple[Judged, ...]
    skipped: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def levels(self) -> dict[str, Figures]:
        """The figures of each level."""
        return self._by(lambda o: o.level)

    @property
    def sets(self) -> dict[tuple[str, str], Figures]:
        """The figures of each (set, level); a set is the first folder of a name, or a group."""
        found = self._by(lambda o: (o.set, o.level))
        return {key: found[key] for key in sorted(found, key=lambda key: key[0])}

    @property
    def sizes(self) -> dict[tuple[str, str], Figures]:
        """The figures of each (size, level)."""
        found = self._by(lambda o: (_size(o.size), o.level))
        names = [name for _, name in _SIZES]
        return {key: found[key] for key in sorted(found, key=lambda key: names.index(key[0]))}

    def _by(self, key: Callable[[Judged], Any]) -> dict[Any, Figures]:
        found: dict[Any, list[Judged]] = defaultdict(list)
        for judged in self.objects:
            found[key(judged)].append(judged)
        return {k: Figures.of(objects) for k, objects in found.items()}

    def to_json(self) -> dict[str, Any]:
        """All figures, without the objects."""
        return {
            "seed": self.seed,
            **self.made,
            "levels": {level: figures.to_json() for level, figures in self.levels.items()},
            "sets": _nested(self.sets),
            "sizes": _nested(self.sizes),
            "skipped": {f"{level}: {why}": n for (level, why), n in self.skipped.items()},
        }

    def document(self) -> Iterator[bytes]:
        """All figures and all objects as JSON, an object a line: rules can be tried on it."""
        head = canonical_json(self.to_json())
        yield head.removesuffix(b"}") + b',"objects":[\n'
        for number, judged in enumerate(self.objects):
            yield (b",\n" if number else b"") + canonical_json(judged.to_json())
        yield b"\n]}\n"

    def curve(self) -> bytes:
        """
        The risk-coverage curves of all levels as SVG.

        A curve is over every object for which a mask was proposed and scored, taken or not.
        """
        curves = []
        for level, figures in self.levels.items():
            scored = [
                (o.scores[SCORE], harmed(o.before.iou, (o.rejected or o.after).iou))
                for o in self.objects
                if o.level == level and SCORE in o.scores and (o.refined or o.rejected)
            ]
            share = figures.harmed / figures.n
            curve = risks([s for s in scored if not math.isnan(s[0])], figures.n)
            curves.append(
                Curve(level, curve, figures.refined / figures.n, share, figures.interval[1])
            )
        return svg(curves)


def _nested(figures: Mapping[tuple[str, str], Figures]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = defaultdict(dict)
    for (name, level), found in figures.items():
        nested[name][level] = found.to_json()
    return dict(nested)


def _size(side: float) -> str:
    return next(name for limit, name in _SIZES if side < limit)
