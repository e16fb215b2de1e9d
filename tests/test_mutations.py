"""A checker that cannot fail is broken: every broken protocol must be caught."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .mutations import MUTATIONS, caught
from .schedules import Cast, quickly

pytestmark = pytest.mark.filterwarnings("ignore::publisher.errors.VersionWarning")


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    with quickly() as cast:
        yield cast


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_broken_protocol_is_caught(cast, mutation):
    assert caught(mutation, cast), f"the suite lets {mutation.name!r} pass"


@pytest.mark.nightly  # the suite does most of it anyway
@pytest.mark.parametrize("check", {m.check for m in MUTATIONS}, ids=lambda c: c.__qualname__)
def test_the_protocol_as_it_is_passes_the_same_checks(cast, check):
    check(cast)
