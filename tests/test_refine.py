"""What refinement may and may not do, whatever a network answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from publisher.dataset import Sample, Segment
from publisher.masks import Mask, Rle
from publisher.refine import REFINED, Crop, Outcome, Refined, Rules, refine
from publisher.refinement.perturb import LEVELS, Hand, draw
from publisher.shapes import distance
from publisher.shapes.components import holes, numbered

SIDE = 160


@dataclass
class Network:
    """A predictor that answers each crop with a function of it."""

    answer: Callable[[Crop], Any]
    digest: str = "fake"
    precision: str = "float32"

    def predict(self, crops: Sequence[Crop]) -> list[NDArray[np.float32]]:
        return [self.answer(crop) for crop in crops]


def seeing(crop: Crop) -> NDArray[np.float32]:
    """An oracle: in these pictures what is bright is an object."""
    return np.where(crop.image[..., 0] > 127, 9, -9).astype(np.float32)


def contrary(crop: Crop) -> NDArray[np.float32]:
    return np.where(crop.prior > 0.5, -9, 9).astype(np.float32)


def noisy(crop: Crop) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(crop.image.tobytes()).digest()[:4], "big")
    noise = np.random.default_rng(seed).normal(0, 20, crop.prior.shape)
    return noise.astype(np.float32)


def constant(crop: Crop) -> NDArray[np.float32]:
    return np.full(crop.prior.shape, 9, dtype=np.float32)


def broken(value: float) -> Callable[[Crop], NDArray[np.float32]]:
    def answer(crop: Crop) -> NDArray[np.float32]:
        logits = seeing(crop)
        logits[0, 0] = value
        return logits

    return answer


ANSWERS = {"seeing": seeing, "contrary": contrary, "noisy": noisy, "constant": constant}
EAGER = Rules(
    confidence=0,
    bold_confidence=0,
    least_change=0,
    steadiness=0,
    agreement=0,
    least_iou=0,
    most_iou=1,
    least_move=0,
    least_size=8,
    finest=0.02,
    least_doubt=0,
    coarse=0.1,
)
"""Believes everything: what holds then holds always."""


USUAL = Rules(least_size=24, least_move=0.2, least_doubt=0.5)
"""As shipped, but for the small things in these pictures."""


def blobs(seed: int, count: int = 3) -> tuple[NDArray[np.uint8], list[Mask]]:
    """A picture (H, W, 3) of bright round things that do not overlap, and their masks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    masks = []
    for _ in range(count):
        cy, cx = rng.uniform(20, SIDE - 20, 2)
        r = rng.uniform(14, 40)
        angle = np.arctan2(y - cy, x - cx)
        edge = r * (1 + 0.2 * np.sin(3 * angle + rng.uniform(0, 6)))
        pixels = (np.hypot(y - cy, x - cx) < edge) & ~taken
        taken |= pixels
        if pixels.any():
            masks.append(Mask.from_array(pixels))
    image = np.repeat(np.where(taken, 220, 30).astype(np.uint8)[..., None], 3, axis=2)
    return image, masks


def annotated(
    seed: int, level: str = "coarse", count: int = 3
) -> tuple[Sample, NDArray[np.uint8], list[Mask]]:
    image, masks = blobs(seed, count)
    rng = np.random.default_rng(seed)
    segments, true = [], []
    for mask in masks:
        rings = draw(mask, LEVELS[level], rng)
        if rings:
            segments.append(Segment(len(segments) + 1, 1, rings))
            true.append(mask)
    return Sample(1, "a.png", SIDE, SIDE, tuple(segments)), image, true


def one(sample: Sample, image: NDArray[np.uint8], answer: Any, rules: Rules = EAGER) -> Refined:
    return refine([(sample, image)], [Network(answer)], rules)[0]


def pixels(mask: Mask | None) -> NDArray[np.bool_]:
    assert mask is not None
    return mask.to_array()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(sorted(ANSWERS)), st.integers(1, 5))
def test_whatever_a_network_says_harm_is_bounded(seed: int, kind: str, count: int) -> None:
    sample, image, _ = annotated(seed, count=count)
    done = one(sample, image, ANSWERS[kind])
    before = [pixels(o.before) for o in done.outcomes]
    after = [pixels(o.after) for o in done.outcomes]
    for was, now, outcome, old, new in zip(
        before, after, done.outcomes, sample.segments, done.sample.segments, strict=True
    ):
        if outcome.reason != REFINED:
            assert new is old
            assert outcome.after is outcome.before
            continue
        assert new.mask(SIDE, SIDE) == outcome.after
        reach = EAGER.band * np.sqrt(was.sum())
        assert (np.abs(distance.signed(was))[was ^ now] <= reach).all()
        assert numbered(now)[1] <= numbered(was)[1]
        assert holes(now)[1] <= holes(was)[1]
        labels, parts = numbered(was)
        assert len(np.unique(labels[was & now])) == parts
    for i in range(len(before)):
        for j in range(i):
            assert not ((after[i] & after[j]) & ~(before[i] & before[j])).any()


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from(sorted(ANSWERS)), st.randoms())
def test_the_order_of_segments_and_the_other_pictures_do_not_matter(
    seed: int, kind: str, random: Any
) -> None:
    pictures = [annotated(seed + k)[:2] for k in range(3)]
    together = refine(pictures, [Network(ANSWERS[kind])], EAGER)
    for (sample, image), expected in zip(pictures, together, strict=True):
        shuffled = list(sample.segments)
        random.shuffle(shuffled)
        alone = one(replace(sample, segments=tuple(shuffled)), image, ANSWERS[kind])
        assert by_id(alone) == by_id(expected)


def by_id(done: Refined) -> dict[int, tuple[Outcome, Segment]]:
    return {o.segment_id: (o, s) for o, s in zip(done.outcomes, done.sample.segments, strict=True)}


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from(sorted(ANSWERS)))
def test_a_second_run_changes_nothing(seed: int, kind: str) -> None:
    sample, image, _ = annotated(seed)
    rules = replace(EAGER, confidence=0.5, least_iou=0.7)
    once = one(sample, image, ANSWERS[kind], rules)
    assert one(once.sample, image, ANSWERS[kind], rules).sample is once.sample


@pytest.mark.parametrize("level", ["coarse", "medium", "biased"])
def test_a_network_that_sees_the_object_improves_its_mask(level: str) -> None:
    sample, image, true = annotated(12, level)
    done = one(sample, image, seeing, USUAL)
    seen = [(o, m) for o, m in zip(done.outcomes, true, strict=True) if m.area > 30**2]
    assert len(seen) > 1
    for outcome, mask in seen:
        assert outcome.reason == REFINED
        assert outcome.before is not None
        assert outcome.after is not None
        assert outcome.after.iou(mask) > outcome.before.iou(mask) + 0.02


def test_a_refined_segment_says_where_it_comes_from() -> None:
    sample, image, _ = annotated(12)
    origin = {"shape": "polygon", "bbox": [1, 2, 3, 4], "area": 7.0, "source": "manual"}
    sample = replace(sample, segments=(replace(sample.segments[0], origin=origin),))
    segment = one(sample, image, seeing, USUAL).sample.segments[0]
    assert isinstance(segment.segmentation, Rle)
    assert segment.origin["shape"] == "mask"
    assert segment.origin["source"] == "manual"
    assert segment.origin["refined"]["weights"] == ["fake"]
    assert segment.origin["refined"]["precision"] == ["float32"]
    assert segment.origin["refined"]["route"] in {"careful", "bold"}
    assert not {"bbox", "area"} & segment.origin.keys()


@pytest.mark.parametrize("answer", [contrary, noisy])
def test_an_adversary_is_caught(answer: Any) -> None:
    sample, image, _ = annotated(12)
    done = one(sample, image, answer, USUAL)
    assert {o.reason for o in done.outcomes} == {"does not know the object"}
    assert done.sample is sample


@pytest.mark.parametrize(
    "answer",
    [
        broken(np.nan),
        broken(np.inf),
        lambda crop: np.zeros((3, 3), np.float32),
        lambda crop: np.float32(1),
        lambda crop: None,
    ],
)
def test_an_answer_that_is_none_leaves_the_mask_alone(answer: Any) -> None:
    sample, image, _ = annotated(12)
    done = one(sample, image, answer)
    assert {o.reason for o in done.outcomes} == {"no usable answer"}
    assert done.sample is sample


def test_with_two_networks_a_pixel_changes_where_both_say_so() -> None:
    sample, image, _ = annotated(12)
    still = Network(lambda crop: 40 * (crop.prior - 0.5))
    done = refine([(sample, image)], [Network(seeing), still], replace(EAGER, coarse=9))[0]
    assert {o.route for o in done.outcomes} == {"careful"}
    assert {o.reason for o in done.outcomes} == {"nothing to change"}


def test_of_a_coarse_outline_the_surer_of_two_networks_decides() -> None:
    sample, image, true = annotated(12)
    still = Network(lambda crop: 2 * (crop.prior - 0.5))
    done = refine([(sample, image)], [Network(seeing), still], EAGER)[0]
    assert {(o.route, o.reason) for o in done.outcomes} == {("bold", REFINED)}
    for outcome, mask in zip(done.outcomes, true, strict=True):
        assert mask.iou(outcome.after) > mask.iou(outcome.before)


def test_few_vertices_of_a_thing_with_straight_sides_make_nobody_bold() -> None:
    """They are far apart because no more are needed, and not because nobody cared."""
    image = np.full((SIDE, SIDE, 3), 30, dtype=np.uint8)
    image[40:110, 30:130] = 220
    ring = (
        30.5,
        40.0,
        80.0,
        38.5,
        129.0,
        41.0,
        130.0,
        75.0,
        131.0,
        109.0,
        80.0,
        111.0,
        31.0,
        108.0,
    )
    sample = Sample(1, "a.png", SIDE, SIDE, (Segment(1, 1, (ring,)),))
    routes = {
        most: one(sample, image, seeing, replace(EAGER, most_filled=most)).outcomes[0].route
        for most in (Rules().most_filled, 1.0)
    }
    assert routes == {Rules().most_filled: "careful", 1.0: "bold"}


def test_few_vertices_of_an_outline_that_fits_make_nobody_bold() -> None:
    """A triangle needs three, however large it is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (y < 130) & (y > 30 + 1.7 * np.abs(x - 80))
    image = np.repeat(np.where(inside, 220, 30).astype(np.uint8)[..., None], 3, axis=2)
    ring = (80.0, 34.0, 137.0, 128.5, 24.0, 128.5)
    sample = Sample(1, "a.png", SIDE, SIDE, (Segment(1, 1, (ring,)),))
    routes = {
        least: one(sample, image, seeing, replace(EAGER, least_change=least)).outcomes[0].route
        for least in (0, Rules().least_change)
    }
    assert routes == {0: "bold", Rules().least_change: "careful"}


def square(**changes: Any) -> Segment:
    # coarse and not upright, 60 pixels wide
    segment = Segment(1, 1, ((40.0, 45.0, 95.0, 40.0, 100.0, 95.0, 45.0, 100.0),))
    return replace(segment, **changes)


INELIGIBLE = {
    "crowd": square(iscrowd=True),
    "brush mask": square(segmentation=Rle(SIDE, SIDE, (40 * SIDE, 60 * SIDE, 60 * SIDE))),
    "verified": square(attributes={"Verified": "true"}),
    "no free outline": square(origin={"shape": "ellipse"}),
    "too small": square(segmentation=((40.0, 45.0, 50.0, 42.0, 52.0, 55.0),)),
    "empty": square(segmentation=((-40.0, -45.0, -50.0, -42.0, -52.0, -55.0),)),
    "no mask: P404": square(segmentation=((40.0, 45.0, 50.0, 42.0),)),
    "no mask: P406": square(segmentation=((np.nan, 45.0, 50.0, 42.0, 52.0, 55.0),)),
    "too thin": square(segmentation=((1.0, 1.0, 155.0, 1.0, 155.0, 5.0, 1.0, 6.0),)),
    "fine already": square(
        segmentation=(
            tuple(
                float(v)
                for a in np.arange(0, 2 * np.pi, 0.05)
                for v in (80 + 40 * np.cos(a), 80 + 40 * np.sin(a))
            ),
        )
    ),
}


@pytest.mark.parametrize("reason", sorted(INELIGIBLE))
def test_what_is_no_rough_outline_is_left_alone(reason: str) -> None:
    segment = INELIGIBLE[reason]
    sample = Sample(1, "a.png", SIDE, SIDE, (segment,))
    done = one(sample, np.zeros((SIDE, SIDE, 3), np.uint8), constant, USUAL)
    assert [o.reason for o in done.outcomes] == [reason]
    assert done.sample is sample


def test_a_rectangle_is_left_alone() -> None:
    box = square(segmentation=((40.0, 40.0, 100.0, 40.0, 100.0, 100.0, 40.0, 100.0),))
    sample = Sample(1, "a.png", SIDE, SIDE, (box,))
    done = one(sample, np.zeros((SIDE, SIDE, 3), np.uint8), constant)
    assert [o.reason for o in done.outcomes] == ["no free outline"]


def test_a_picture_of_another_size_is_left_alone() -> None:
    sample = Sample(1, "a.png", SIDE, SIDE + 1, (square(),))
    done = one(sample, np.zeros((SIDE, SIDE, 3), np.uint8), constant)
    assert [o.reason for o in done.outcomes] == ["picture of another size"]
    assert done.outcomes[0].before is None


def test_clicks_are_made_where_the_annotation_is_certain() -> None:
    seen = []

    def watching(crop: Crop) -> NDArray[np.float32]:
        seen.append(crop)
        return seeing(crop)

    sample, image, _ = annotated(12)
    one(sample, image, watching, USUAL)
    assert seen
    for crop in seen:
        kinds = [click.positive for click in crop.clicks]
        assert len(set(kinds)) == 2
        assert max(map(kinds.count, kinds)) <= 24
    first = seen[0]
    depth = distance.signed(first.prior > 0.5)
    for click in first.clicks:
        assert (depth[int(click.row), int(click.col)] > 0) == click.positive
        assert abs(depth[int(click.row), int(click.col)]) >= 6


def test_a_network_is_told_how_far_an_outline_may_be_off() -> None:
    """The prior of a coarse outline rises slowly where that of a finer one is nearly certain."""
    turn = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    finer = 100 + 40 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    coarse = finer[::3]
    image = np.full((200, 200, 3), 128, dtype=np.uint8)
    unsure = []
    for ring in (finer, coarse):
        asked: list[Crop] = []

        def answer(crop: Crop, asked: list[Crop] = asked) -> NDArray[np.float32]:
            asked.append(crop)
            return constant(crop)

        segment = Segment(1, 1, (tuple(ring.ravel().tolist()),))
        one(Sample(1, "a.jpg", 200, 200, (segment,)), image, answer)
        prior = asked[0].prior
        assert int((prior > 0.5).sum()) == segment.mask(200, 200).area
        unsure.append(int(((prior > 0.1) & (prior < 0.9)).sum()))
    assert unsure[0] * 2 < unsure[1]


def ringed(radius: int, rim: int, drawn: int) -> tuple[Sample, NDArray[np.uint8]]:
    """A bright disk in a ring of some grey, to radius 40, outlined at one of the two borders."""
    y, x = np.mgrid[:SIDE, :SIDE]
    far = np.hypot(y - 80, x - 80)
    grey = np.select([far < radius, far < 40], [220, rim], 30).astype(np.uint8)
    rings = draw(Mask.from_array(far < drawn), LEVELS["medium"], np.random.default_rng(0))
    sample = Sample(1, "a.png", SIDE, SIDE, (Segment(1, 1, rings),))
    return sample, np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize(("rim", "reason"), [(90, "colours speak against it"), (30, REFINED)])
def test_only_a_generous_outline_shrinks_and_loses_nothing_but_its_surroundings(
    rim: int, reason: str
) -> None:
    (outcome,) = one(*ringed(33, rim, drawn=40), seeing, USUAL).outcomes
    assert outcome.reason == reason
    assert outcome.scores["growth"] < USUAL.least_growth
    assert pixels(outcome.proposed or outcome.after).sum() < 0.8 * pixels(outcome.before).sum()


@pytest.mark.parametrize(("rim", "reason"), [(140, "colours speak against it"), (220, REFINED)])
def test_only_a_tight_outline_grows_and_takes_nothing_but_its_own(rim: int, reason: str) -> None:
    (outcome,) = one(*ringed(36, rim, drawn=36), seeing, USUAL).outcomes
    assert outcome.reason == reason
    assert outcome.scores["growth"] > USUAL.most_growth
    assert pixels(outcome.proposed or outcome.after).sum() > 1.15 * pixels(outcome.before).sum()


@pytest.mark.parametrize("tolerance", [0.05, 0.08])
def test_a_polygon_with_its_vertices_on_a_circle_grows_as_chords_bulge(tolerance: float) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    disk = np.hypot(y - 80, x - 80) < 60
    rings = draw(Mask.from_array(disk), Hand(tolerance, 0), np.random.default_rng(0))
    sample = Sample(1, "a.png", SIDE, SIDE, (Segment(1, 1, rings),))
    image = np.repeat(np.where(disk, 220, 30).astype(np.uint8)[..., None], 3, axis=2)
    (outcome,) = one(sample, image, seeing).outcomes
    assert outcome.scores["growth"] == pytest.approx(0.15, abs=0.05)
