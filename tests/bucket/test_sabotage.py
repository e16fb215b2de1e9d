"""
Push and pull while requests fail, get lost, come twice or change on their way: on moto, by
botocore's `before-send`. By default each passing fault at each request of a push and a pull;
`pytest -m nightly tests/bucket/test_sabotage.py` has more layouts, and several faults at a time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from publisher.errors import StorageError

from ..figures import Figures
from ..sabotage import LASTING, ONLY, PASSING, RENEWED, sabotaged
from ..scene import Scene

ABSORBED = [kind for kind in PASSING if "down" not in kind]  # nobody notices
CODES = {  # with which a command may end
    "bit flipped on its way down": {7, 8},
    "credentials expired": {5},
    "clock skewed": {8},
    "network gone": {8},
    "server busy for ever": {8},
}


@pytest.fixture
def figures(record_property) -> Iterator[Figures]:
    counted = Figures("before-send, moto", record_property)
    yield counted
    counted.done()


@pytest.fixture
def scene(monkeypatch, figures, tmp_path) -> Iterator[Scene]:
    with sabotaged(monkeypatch) as (bucket, saboteur):
        yield Scene(bucket, saboteur, figures, tmp_path, CODES)


# ── one fault ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", PASSING)
def test_a_push_met_by_a_passing_fault_at_any_request(scene, kind):
    codes = [
        scene.push_through({n: kind}, "packs") for n in range(1, scene.push_length("packs") + 1)
    ]
    assert scene.figures.counts[f"fault: {kind}"] >= 5
    if kind in ABSORBED:
        assert set(codes) == {0}


@pytest.mark.parametrize("old", [False, True], ids=["new", "update"])
@pytest.mark.parametrize("kind", [k for k in PASSING if ONLY.get(k) != {"PUT"}])
def test_a_pull_met_by_a_passing_fault_at_any_request(scene, kind, old):
    source = scene.source("packs")
    count = scene.pull_length(source)
    codes = [scene.pull_through({n: kind}, source, old=old) for n in range(1, count + 1)]
    assert scene.figures.counts[f"fault: {kind}"] >= 5
    if kind in ABSORBED:
        assert set(codes) == {0}


# ── what does not pass by itself ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", sorted(LASTING & set(CODES)))
def test_a_push_from_which_something_is_taken_midway_ends_in_one_line_and_goes_on(scene, kind):
    """Later, with a new session, another clock, or the network back."""
    ends = [scene.push_through({n: kind}, "packs") for n in range(1, scene.push_length("packs"), 3)]
    assert set(ends) == CODES[kind]


def test_a_bucket_that_moves_to_another_region_midway_is_followed(scene):
    assert scene.push_through({9: "region"}, "packs") == 0
    assert scene.figures.counts["fault: region"] >= 1


def test_credentials_that_expire_midway_are_renewed(scene, monkeypatch):
    """By whoever can give new ones, as a role can. boto3 asks for them only on its next try."""
    mine = scene.credentials
    old = mine.get_frozen_credentials()

    def frozen() -> object:
        fresh = "credentials expired" in scene.injector.done
        return old._replace(token=RENEWED if fresh else "token-of-the-old-session")

    monkeypatch.setattr(mine, "get_frozen_credentials", frozen)
    count = scene.push_length("packs")
    ends = [scene.push_through({n: "credentials expired"}, "packs") for n in range(1, count, 3)]
    assert ends.count(0) > len(ends) / 2
    assert set(ends) <= {0, 5, 8}


@pytest.mark.parametrize("layout", ["packs", "plain"])
def test_a_server_that_ignores_conditions_gets_nothing_but_the_probe(scene, layout):
    bucket, _ = scene.place()
    scene.injector.begin({1: "conditions ignored"})
    with pytest.raises(StorageError, match="ignores If-"):
        scene.push(bucket, "1.0.0", layout)
    scene.figures.fault("conditions ignored", len(scene.injector.done))
    assert [o.key for o in bucket.list()] == ["publisher.json"]


# ── nightly: more of all ─────────────────────────────────────────────────────────────────────


@pytest.mark.nightly
@pytest.mark.parametrize("old", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("seed", range(8))
def test_three_faults_at_chance_requests_of_a_push(scene, layout, old, seed):
    chance = random.Random(seed)
    count = scene.push_length(layout, old=old) + 6  # what is asked again comes later
    for _ in range(40):
        where = chance.sample(range(1, count), 3)
        scene.push_through({n: chance.choice(PASSING) for n in where}, layout, old=old)


@pytest.mark.nightly
@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("seed", range(4))
def test_three_faults_at_chance_requests_of_a_pull(scene, layout, seed):
    chance = random.Random(seed)
    source = scene.source(layout)
    count = scene.pull_length(source) + 6
    for _ in range(100):
        where = chance.sample(range(1, count), 3)
        schedule = {n: chance.choice(PASSING) for n in where}
        scene.pull_through(schedule, source, old=chance.random() < 0.5)
