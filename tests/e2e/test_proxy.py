"""
Push and pull over a line that breaks, stalls, lies and repeats: a proxy before SeaweedFS.

By default each fault at some requests; `pytest -m nightly tests/e2e/test_proxy.py` has each at
every request, and several at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from publisher import storage
from publisher.storage import S3Bucket, open_bucket

from ..figures import Figures
from ..proxy import BODY, FAULTS, proxy
from ..scene import Scene

CODES = {  # with which a command may end, where it does not go on by itself
    "bit flipped on its way down": {7, 8},
    "bit flipped in a request's head": {4, 5, 6, 7, 8},
    "bit flipped in an answer's head": {4, 5, 6, 7, 8},
    "wrong ETag": {8},
}
PULLED = [kind for kind in FAULTS if kind not in {*BODY, "stale list"}]


@pytest.fixture
def figures(record_property) -> Iterator[Figures]:
    counted = Figures("proxy, SeaweedFS", record_property)
    yield counted
    counted.done()


@pytest.fixture
def scene(seaweedfs, s3_remote, monkeypatch, figures, tmp_path) -> Iterator[Scene]:
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)  # the n-th request is always the same
    monkeypatch.setattr(storage, "TIMEOUTS", (5.0, 1.5))  # a busy machine takes its time
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with proxy(urlsplit(seaweedfs.endpoint).port) as injector:
        bucket = open_bucket(s3_remote, endpoint_url=injector.endpoint)
        assert isinstance(bucket, S3Bucket)
        yield Scene(bucket, injector, figures, tmp_path, CODES)


def push_with(scene: Scene, kind: str, every: int) -> list[int]:
    first = 1 + list(FAULTS).index(kind) % every  # each kind at other requests
    count = scene.push_length("packs")
    return [scene.push_through({n: kind}, "packs") for n in range(first, count + 1, every)]


def pull_with(scene: Scene, kind: str, every: int) -> list[int]:
    source = scene.source("packs")
    count = scene.pull_length(source)
    schedules = [{n: kind} for n in range(1, count + 1, every)]
    return [scene.pull_through(s, source, old=n % 2 == 1) for n, s in enumerate(schedules)]


@pytest.mark.parametrize("kind", FAULTS)
def test_a_push_over_a_bad_line(scene, kind):
    codes = push_with(scene, kind, every=7)
    assert scene.figures.counts[f"fault: {kind}"] >= 1
    assert kind in CODES or set(codes) == {0}


@pytest.mark.parametrize("kind", PULLED)
def test_a_pull_over_a_bad_line(scene, kind):
    codes = pull_with(scene, kind, every=3)
    assert kind in CODES or set(codes) == {0}


@pytest.mark.nightly
@pytest.mark.parametrize("kind", FAULTS)
def test_a_push_over_a_line_that_is_bad_at_any_request(scene, kind):
    push_with(scene, kind, every=1)
    assert scene.figures.counts[f"fault: {kind}"] >= 2


@pytest.mark.nightly
@pytest.mark.parametrize("layout", ["packs", "plain"])
@pytest.mark.parametrize("seed", range(4))
def test_three_faults_at_chance_requests(scene, layout, seed):
    chance = random.Random(seed)
    count, source = scene.push_length(layout, old=True) + 6, scene.source(layout)
    for _ in range(25):
        kinds = {n: chance.choice(list(FAULTS)) for n in chance.sample(range(1, count), 3)}
        scene.push_through(kinds, layout, old=True)
        kinds = {n: chance.choice(PULLED) for n in chance.sample(range(1, 20), 3)}
        scene.pull_through(kinds, source, old=chance.random() < 0.5)
