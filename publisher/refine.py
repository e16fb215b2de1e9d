"""
Refinement: masks that hug their objects, from polygons that only meant to.

This module decides and touches no file: what may be refined, where a mask may change, what to
ask a network, and when to believe it. Any `Predictor` will do; ours live in `ritm/`. What is
not clearly better stays as it was, to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .dataset import Sample, Segment
from .errors import FormatError
from .masks import Mask, Polygons, Rle, check_size, cut, placed
from .refinement import eligibility, evidence, prompts
from .refinement.scoring import eroded, iou
from .shapes import distance, topology
from .shapes.components import BitMask

Floats = NDArray[np.float32]
Counts = NDArray[np.int32]
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Click:
    """A point that belongs to the object, or (`positive=False`) does not; in pixels."""

    row: float
    col: float
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Crop:
    """
    One question to a network: where in this part of a picture is the object?

    `image` is (h, w, 3) uint8 RGB at the picture's own resolution. `prior` (h, w) float32 is
    the probability of each pixel as far as it is known: RITM's previous mask. `clicks` are in
    pixels of the crop. `zoom` says how many pixels of the network lie along one of the crop.
    With `flip` the answer is the mean over the crop and its mirror image.
    """

    image: NDArray[np.uint8]
    prior: NDArray[np.float32]
    clicks: tuple[Click, ...] = ()
    zoom: float = 1.0
    flip: bool = False


class Predictor(Protocol):
    """A network that finds an object from a rough mask and clicks."""

    @property
    def digest(self) -> str:
        """The sha256 of its weights, in hex: what a refined mask was made with."""

    @property
    def precision(self) -> str:
        """What it computes in, as "float32": with another, a mask may be a pixel different."""

    def predict(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        """
        The logits of each crop, (h, w) float32, at the crop's own resolution.

        The answer to a crop does not depend on the others, on their order or number.
        """


@dataclass(frozen=True, slots=True)
class Way:
    """How to ask: at which sizes, how often, and what to believe of the answer."""

    # of each pass, sqrt(area) of the object as the network sees it, in pixels: several sizes, whose
    # answers are taken together; a pass is asked about the answer of the one before it
    passes: tuple[tuple[float, ...], ...]
    leave: float = 0.5  # a pixel leaves the object where its probability is below this,
    join: float = 0.5  # and joins it above this
    vote: bool = True  # where most predictors say so, each by itself; else by their mean


@dataclass(frozen=True, slots=True)
class Rules:
    """
    When to ask, how boldly, and when to believe. Sizes are s = sqrt(area) of the annotation.

    The values are those that docs/refinement.md reports on; they were fixed before the pictures
    of photos-4 and atwork were looked at.
    """

    least_size: float = 36.0  # pixels; smaller objects stay as they are
    finest: float = 0.14  # so do outlines with less coarseness than this,
    least_doubt: float = 1.75  # pixels, or that are off by less than this; see `eligibility.doubt`
    coarse: float = 0.28  # from here on an outline is thought to be coarse, and asked about boldly
    most_filled: float = 0.85  # unless it fills more of the smallest rectangle around it than this
    band: float = 0.12  # of s; no pixel farther than this from the outline changes
    careful: Way = Way(((128, 160),), 0.4, 0.6)
    bold: Way = Way(((64, 96), (96, 128), (160,)), 0.4, 0.6, vote=False)
    confidence: float = 0.4  # mean |2 p - 1| of the pixels that change, at least
    bold_confidence: float = 0.45  # the same of a bold answer; else the careful one counts
    least_change: float = 0.25  # of 1 - IoU by the coarseness, for a bold answer: who needs but
    # few vertices is not coarse, and asked about carefully
    steadiness: float = 0.96  # IoU of what two sizes of the picture show carefully, at least
    agreement: float = 0.95  # of the pixels outside of the band, at least
    least_iou: float = 0.70  # of the answer with the annotation
    most_iou: float = 0.985  # of the same; so small a change is finer than the network sees
    least_move: float = 1.5  # pixels, of the outline on average; less is finer than people mean
    least_growth: float = -0.06  # see `_growth`; an outline that shrinks by more must lose what is
    most_growth: float = 0.2  # like its surroundings, and one that grows by more take what is like
    most_strange: float = 1.0  # the object: so many standard deviations from it, at most


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of one segment, and why.

    Attributes:
        reason: "refined", or why it stays as it was, in a few words.
        route: "careful" or "bold" where a network was asked; else "".
        scores: what was measured: `size` in pixels, `coarseness`, `filled`, `agreement`,
            `steadiness`, `confidence`, `iou` of the proposed mask with the annotation, how far
            its outline has `moved` on average, in pixels, its `growth`, and where that is much
            how `strange` what changes sides is to where it goes.
        before, after: its pixels; the same object where nothing changed. None where its
            geometry is no mask.
        proposed: what the network would have made of it, believed or not; None where none
            was asked.
    """

    segment_id: int
    reason: str
    route: str
    scores: Mapping[str, float]
    before: Mask | None
    after: Mask | None
    proposed: Mask | None = None

    @property
    def changed(self) -> bool:
        return self.reason == REFINED


@dataclass(frozen=True, slots=True)
class Refined:
    """A sample after refinement, and what became of each of its segments, in their order."""

    sample: Sample
    outcomes: tuple[Outcome, ...]


REFINED = "refined"
UNSURE = "not confident"
DRIFT = 1e-3
"""Probabilities this near a threshold count as the annotation says: machines differ there."""

MOST_SEEN = 2**22  # pixels that a network sees of one crop; long thin objects would need more
LONGEST_SEEN = 4096  # along a side


def refine(
    pictures: Sequence[tuple[Sample, Image]],
    predictors: Sequence[Predictor],
    rules: Rules = Rules(),
) -> list[Refined]:
    """
    Make masks hug their objects, where that is safe; all else stays the same object.

    A picture's result depends on nothing but the picture, its segments and the predictors:
    not on the other pictures, nor on the order of segments. Crops of all pictures are asked
    about together. With several predictors a pixel changes where most of them say so, or, of
    a coarse outline, where their mean does.

    Args:
        pictures: samples with their pixels (H, W, 3) RGB; give as many as memory holds.
        predictors: at least one.
    """
    if not predictors:
        raise ValueError("refinement needs a predictor")
    scenes = [_Scene.of(sample, image, rules) for sample, image in pictures]
    objects = [o for scene in scenes for o in scene.objects]
    answers = iter(_decided(objects, predictors, rules))
    made = made_with(predictors)
    return [scene.settled([next(answers) for _ in scene.objects], made) for scene in scenes]


def made_with(predictors: Sequence[Predictor]) -> dict[str, list[str]]:
    """What decides the answers of predictors, one entry for each: as it is kept of a mask."""
    return {
        "weights": [p.digest for p in predictors],
        "precision": [p.precision for p in predictors],
    }


# ── what is asked about ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    """A segment that may be refined, and its part of the picture (h, w)."""

    index: int  # of the segment in its sample
    left: int
    top: int
    image: Image  # (h, w, 3), a view
    mask: BitMask  # (h, w), as annotated
    depth: Floats  # (h, w), how deep in it; cut off a little beyond the band
    clicks: tuple[Click, ...]
    size: float  # s
    coarseness: float
    filled: float  # see `eligibility.filled`

    @classmethod
    def of(
        cls, index: int, segment: Segment, mask: Mask, image: Image, claims: Counts, rules: Rules
    ) -> _Object | str:
        """The object, or why the network cannot be asked about it."""
        size = math.sqrt(mask.area)
        x, y, width, height = mask.bbox
        margin = math.ceil(size / 2)
        left, top = max(x - margin, 0), max(y - margin, 0)
        right = min(x + width + margin, mask.width)
        bottom = min(y + height + margin, mask.height)
        zoom = (
            max(max(scales) for way in (rules.careful, rules.bold) for scales in way.passes) / size
        )
        seen = zoom * (right - left), zoom * (bottom - top)
        if max(seen) > LONGEST_SEEN or seen[0] * seen[1] > MOST_SEEN:
            return "too thin"
        pixels = cut(mask, left, top, right - left, bottom - top)
        reach = rules.band * size
        depth = distance.signed(pixels, math.ceil(max(1.5 * reach, prompts.APART)))
        if not (depth > reach).any():
            return "too thin"
        others = claims[top:bottom, left:right] > pixels
        return cls(
            index,
            left,
            top,
            image[top:bottom, left:right],
            pixels,
            depth,
            _clicks(depth, reach, others),
            size,
            eligibility.coarseness(_rings(segment), size),
            eligibility.filled(_rings(segment), mask.area),
        )

    def prior(self) -> Floats:
        """The annotation as probabilities (h, w) that rise slowly where it is coarse."""
        return _sigmoid(self.depth / (eligibility.doubt(self.coarseness) * self.size))

    def is_coarse(self, rules: Rules) -> bool:
        """Are its vertices far apart, and not because it is all straight sides?"""
        return self.coarseness >= rules.coarse and self.filled <= rules.most_filled

    def band(self, rules: Rules) -> BitMask:
        return np.abs(self.depth) <= rules.band * self.size


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What is wanted of an object, before neighbours are heard; or only why not."""

    reason: str
    route: str
    scores: Mapping[str, float]
    left: BitMask  # (h, w), the annotation less what it loses
    wanted: BitMask  # (h, w), that and what it would like to have
    chance: Floats  # (h, w), probabilities

    @property
    def gained(self) -> BitMask:
        return self.wanted & ~self.left


def _clicks(depth: Floats, reach: float, others: BitMask) -> tuple[Click, ...]:
    inner = prompts.inside(depth, reach)
    outer = prompts.outside(depth, reach, others)
    return (
        *(Click(float(row), float(col)) for row, col in inner),
        *(Click(float(row), float(col), positive=False) for row, col in outer),
    )


def _rings(segment: Segment) -> Polygons:
    assert not isinstance(segment.segmentation, Rle)  # eligibility has seen to that
    return segment.segmentation


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), dtype=np.float32)


# ── asking ───────────────────────────────────────────────────────────────────────────────────


def _decided(
    objects: Sequence[_Object], predictors: Sequence[Predictor], rules: Rules
) -> list[_Answer]:
    """Coarse outlines are asked about boldly; carefully all others, and where that failed."""
    answers: dict[int, _Answer] = {}
    coarse = [k for k, o in enumerate(objects) if o.is_coarse(rules)]
    bold = _asked([objects[k] for k in coarse], predictors, rules, rules.bold, "bold")
    answers |= {k: a for k, a in zip(coarse, bold, strict=True) if a.reason == REFINED}
    left = [k for k in range(len(objects)) if k not in answers]
    careful = _asked([objects[k] for k in left], predictors, rules, rules.careful, "careful")
    answers |= zip(left, careful, strict=True)
    return [answers[k] for k in range(len(objects))]


def _asked(
    objects: Sequence[_Object],
    predictors: Sequence[Predictor],
    rules: Rules,
    way: Way,
    route: str,
) -> list[_Answer]:
    """Each predictor by itself, pass after pass; then what most of them say."""
    opinions = [_opinions(objects, predictor, rules, way) for predictor in predictors]
    return [
        _answer(o, [opinion[k] for opinion in opinions], rules, way, route)
        for k, o in enumerate(objects)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Opinion:
    """What one predictor says of an object."""

    chance: Floats  # (h, w), the probabilities that all scales give together
    steadiness: float  # IoU of what the first and the last scale show


def _opinions(
    objects: Sequence[_Object], predictor: Predictor, rules: Rules, way: Way
) -> list[_Opinion | None]:
    """What one predictor says after all passes; None where it gives no usable answer."""
    priors = [o.prior() for o in objects]
    opinions = list[_Opinion | None]([None] * len(objects))
    asked = list(range(len(objects)))
    for number, scales in enumerate(way.passes, 1):
        last = number == len(way.passes)
        crops = [
            Crop(o.image, priors[k], o.clicks, scale / o.size, flip=last)
            for k, o in ((k, objects[k]) for k in asked)
            for scale in scales
        ]
        logits = iter(predictor.predict(crops))
        for k in asked:
            opinions[k] = _opinion([next(logits) for _ in scales], objects[k], rules)
        asked = [k for k in asked if opinions[k] is not None]
        if not last:
            priors = [
                prior if said is None else _fed_back(said.chance, o, rules)
                for prior, o, said in zip(priors, objects, opinions, strict=True)
            ]
    return opinions


def _opinion(logits: Sequence[Floats], o: _Object, rules: Rules) -> _Opinion | None:
    shape = o.mask.shape
    if any(np.shape(one) != shape or not np.isfinite(one).all() for one in logits):
        return None
    band = o.band(rules)
    first, last = (np.where(band, one > 0, o.mask) for one in (logits[0], logits[-1]))
    chance = _sigmoid(np.mean(np.stack(logits), axis=0, dtype=np.float32))
    return _Opinion(chance, iou(first, last))


def _fed_back(chance: Floats, o: _Object, rules: Rules) -> Floats:
    """What the next pass is told: the answer in the band, the annotation elsewhere."""
    lost, gained = _changes(o, [chance], rules, Way(()))
    wanted = topology.added(topology.without(o.mask, lost, o.band(rules)), gained, o.mask)
    held = np.where(o.band(rules), chance, o.mask).astype(np.float32)
    return np.where((held > 0.5) == wanted, held, wanted).astype(np.float32)


def _changes(
    o: _Object, chances: Sequence[Floats], rules: Rules, way: Way
) -> tuple[BitMask, BitMask]:
    """The pixels (h, w) of the band that most want to leave the object, and to join it."""
    leaving = sum((c < way.leave - DRIFT).astype(np.int8) for c in chances)
    joining = sum((c > way.join + DRIFT).astype(np.int8) for c in chances)
    band = o.band(rules)
    most = len(chances) // 2
    return band & o.mask & (leaving > most), band & ~o.mask & (joining > most)


def _answer(
    o: _Object, said: Sequence[_Opinion | None], rules: Rules, way: Way, route: str
) -> _Answer:
    scores = {"size": o.size, "coarseness": o.coarseness, "filled": o.filled}
    opinions = [opinion for opinion in said if opinion is not None]
    if len(opinions) < len(said):
        return _Answer("no usable answer", route, scores, o.mask, o.mask, o.depth)
    chances = [opinion.chance for opinion in opinions]
    chance: Floats = np.mean(np.stack(chances), axis=0, dtype=np.float32)
    lost, gained = _changes(o, chances if way.vote else [chance], rules, way)
    left = topology.without(o.mask, lost, o.band(rules))
    wanted = topology.added(left, gained, o.mask)
    scores["steadiness"] = min(opinion.steadiness for opinion in opinions)
    scores |= _scores(o, chance, wanted, rules)
    reason = _objection(scores, rules, route)
    return _Answer(reason, route, scores, left, wanted, chance)


def _scores(o: _Object, chance: Floats, wanted: BitMask, rules: Rules) -> dict[str, float]:
    sure = ~o.band(rules)
    agreed = (chance > 0.5) == o.mask
    change = wanted ^ o.mask
    confident = np.abs(2 * chance[change] - 1)
    length = _length(o.mask)
    growth = _growth(o, wanted, length)
    scores = {
        "agreement": float(agreed[sure].mean()) if sure.any() else 0.0,
        "iou": iou(wanted, o.mask),
        "moved": float(change.sum()) / length,
        "confidence": float(confident.mean()) if change.any() else 0.0,
        "growth": growth,
    }
    if not rules.least_growth <= growth <= rules.most_growth:
        scores["strange"] = _strange(o, wanted, rules, shrinks=growth < 0)
    return scores


_RIM = 2  # pixels beside an outline that may be of either side


def _strange(o: _Object, wanted: BitMask, rules: Rules, *, shrinks: bool) -> float:
    """How unlike its new side is what changes sides for the most part; see `evidence`."""
    far = max(rules.band * o.size, 2 * _RIM)
    if shrinks:
        moved = o.mask & eroded(~wanted, 1)  # without the pixels at the border, which are mixed
        there = (o.depth < -_RIM) & (o.depth >= -far) & ~wanted
    else:
        moved = eroded(wanted, 1) & ~o.mask
        there = (o.depth > _RIM) & (o.depth <= far) & wanted
    return evidence.strangeness(o.image, moved, there)


def _growth(o: _Object, wanted: BitMask, length: float) -> float:
    """
    How far the outline moves outwards on average, as a share of size * coarseness ** 2.

    A polygon cuts corners: one with its vertices on a circle must grow by .15 of that, since a
    chord c bulges by c ** 2 / 8 r; vertices that are astray as often inwards as outwards change
    it by little. Only who draws too generously has to lose much.
    """
    grown = int(np.count_nonzero(wanted)) - int(np.count_nonzero(o.mask))
    return grown / length / (o.coarseness**2 * o.size)


def _length(mask: BitMask) -> float:
    """
    How long the outline of a mask (H, W) is, in pixels.

    An outline in no direction in particular crosses 4 / pi pixel edges for each pixel of its
    length (Crofton's formula).
    """
    padded = np.pad(mask, 1)
    edges = (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    return float(edges) * math.pi / 4


def _objection(scores: Mapping[str, float], rules: Rules, route: str) -> str:
    """Why an answer is not believed, or REFINED."""
    if scores["iou"] >= rules.most_iou or scores["moved"] < rules.least_move:
        return "nothing to change"
    if scores["agreement"] < rules.agreement:
        return "does not know the object"
    if scores["iou"] < rules.least_iou:
        return "too large a change"
    if scores.get("strange", 0.0) > rules.most_strange:
        return "colours speak against it"
    if route == "bold":
        if 1 - scores["iou"] < rules.least_change * scores["coarseness"]:
            return "nothing to change"
        return UNSURE if scores["confidence"] < rules.bold_confidence else REFINED
    if scores["steadiness"] < rules.steadiness:
        return "not steady"
    return UNSURE if scores["confidence"] < rules.confidence else REFINED


# ── pictures ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """A picture, its masks, and those that a network is asked about."""

    sample: Sample
    masks: tuple[Mask | None, ...]
    reasons: Mapping[int, str]  # why the segment at this index is not asked about
    objects: tuple[_Object, ...]
    claims: Counts  # (H, W), how many masks have each pixel

    @classmethod
    def of(cls, sample: Sample, image: Image, rules: Rules) -> _Scene:
        """
        Raises:
            FormatError: I108, I119, the picture has no size or is too large.
        """
        height, width = image.shape[:2]
        check_size(height, width)
        masks, reasons = list[Mask | None](), dict[int, str]()
        for index, segment in enumerate(sample.segments):
            mask, reason = _read(sample, segment, height, width, rules)
            masks.append(mask)
            if reason:
                reasons[index] = reason
        claims = np.zeros((height, width), dtype=np.int32)
        for mask in (m for m in masks if m is not None):
            x, y, w, h = mask.bbox
            claims[y : y + h, x : x + w] += cut(mask, x, y, w, h)
        objects = list[_Object]()
        for index, mask in enumerate(masks):
            if mask is None or index in reasons:
                continue
            found = _Object.of(index, sample.segments[index], mask, image, claims, rules)
            if isinstance(found, str):
                reasons[index] = found
            else:
                objects.append(found)
        return cls(sample, tuple(masks), reasons, tuple(objects), claims)

    def settled(self, answers: Sequence[_Answer], made: Mapping[str, list[str]]) -> Refined:
        """
        Give each believed answer its pixels, and none that others have.

        First all take what they lose out of the way. Then a pixel may join one object, if no
        other has it: the one whose network is surer of it, or none where two are as sure.
        """
        believed = [
            (o, a) for o, a in zip(self.objects, answers, strict=True) if a.reason == REFINED
        ]
        claims = self.claims
        for o, a in believed:
            _part(claims, o)[...] -= o.mask & ~a.left
        best = np.zeros(claims.shape, dtype=np.float32)
        ties = np.zeros(claims.shape, dtype=np.bool_)
        for o, a in believed:
            bid = np.where(a.gained & (_part(claims, o) == 0), a.chance, 0)
            here, tied = _part(best, o), _part(ties, o)
            tied[...] = np.where(bid == here, tied | (bid > 0), tied & (bid < here))
            np.maximum(here, bid, out=here)
        outcomes = {
            index: Outcome(self.sample.segments[index].id, reason, "", {}, m, m)
            for index, reason in self.reasons.items()
            for m in (self.masks[index],)
        }
        for o, a in zip(self.objects, answers, strict=True):
            before, reason = self.masks[o.index], a.reason
            after = before
            proposed = self._placed(o, a.wanted) if "iou" in a.scores else None
            if reason == REFINED:
                free = (_part(claims, o) == 0) & ~_part(ties, o)
                gained = a.gained & free & (a.chance == _part(best, o))
                after = self._placed(o, topology.added(a.left, gained, o.mask))
                if after == before:
                    after, reason = before, "nothing to change"
            scores = {name: round(value, 4) for name, value in a.scores.items()}
            ident = self.sample.segments[o.index].id
            outcomes[o.index] = Outcome(ident, reason, a.route, scores, before, after, proposed)
        return self._with([outcomes[k] for k in range(len(self.masks))], made)

    def _placed(self, o: _Object, pixels: BitMask) -> Mask:
        return placed(pixels, o.left, o.top, self.claims.shape[:2])

    def _with(self, outcomes: Sequence[Outcome], made: Mapping[str, list[str]]) -> Refined:
        segments = tuple(
            _changed(s, o, made) if o.changed else s
            for s, o in zip(self.sample.segments, outcomes, strict=True)
        )
        changed = any(o.changed for o in outcomes)
        sample = replace(self.sample, segments=segments) if changed else self.sample
        return Refined(sample, tuple(outcomes))


def _part(whole: NDArray[Any], o: _Object) -> NDArray[Any]:
    """The view (h, w) of a map of the picture (H, W) that an object's arrays lie on."""
    height, width = o.mask.shape
    return whole[o.top : o.top + height, o.left : o.left + width]


def _read(
    sample: Sample, segment: Segment, height: int, width: int, rules: Rules
) -> tuple[Mask | None, str | None]:
    """The pixels of a segment, and why it is not asked about."""
    if (sample.height, sample.width) != (height, width):
        return None, "picture of another size"
    try:
        mask = segment.mask(height, width)
    except FormatError as error:
        return None, f"no mask: {error.code}"
    why = eligibility.why_not(
        segment,
        mask,
        least=rules.least_size,
        finest=rules.finest,
        doubtful=rules.least_doubt,
    )
    return mask, why


_STALE = ("area", "bbox", "parts")  # what `origin` says of the geometry that was


def _changed(segment: Segment, outcome: Outcome, made: Mapping[str, list[str]]) -> Segment:
    """The segment with its new pixels, and where they come from."""
    after = outcome.after
    assert after is not None  # it changed
    origin = {k: v for k, v in segment.origin.items() if k not in _STALE}
    if "shape" in origin:
        origin["shape"] = "mask"
    origin["refined"] = {**made, "route": outcome.route, "scores": dict(outcome.scores)}
    rle = Rle(after.height, after.width, after.counts.decode("ascii"))
    return replace(segment, segmentation=rle, origin=origin)
