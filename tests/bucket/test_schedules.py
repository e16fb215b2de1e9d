"""Whatever goes wrong at whatever moment, nothing is torn, lost or silently wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.schedules import ALONE, PASSING, TOGETHER, Cast, Trial, quickly, refuses_the_deaf

pytestmark = pytest.mark.filterwarnings("ignore::publisher.errors.VersionWarning")

LAYOUTS = ["plain", "packs"]
FEW = {"channel": 300, "yank and push": 2_500}  # cases of scenes that ask the bucket little
REACHED = {  # what must have gone wrong at least once, else nothing was tried
    *("crash before", "crash after", "slow down", "ack lost", "short", "flip"),
}


@pytest.fixture(scope="module")
def cast() -> Iterator[Cast]:
    with quickly() as cast:
        yield cast


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ALONE)
def test_any_number_of_attempts_that_fail_anywhere_do_no_harm(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    trial.explore()
    assert trial.tally.schedules >= 1_000
    assert trial.tally.faults.keys() >= REACHED - ({"short"} if name == "yank" else set())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TOGETHER)
def test_a_failure_of_either_of_two_maintainers_does_no_harm(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    trial.explore(failing=1)
    assert trial.tally.faults.keys() >= REACHED


@pytest.mark.nightly
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TOGETHER)
def test_failures_of_two_maintainers_in_any_order_do_no_harm(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    trial.explore(failing=2)
    trial.late_arrivals()
    assert trial.tally.total >= FEW.get(name, 5_000)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ALONE)
def test_a_request_of_the_dead_that_arrives_late_does_no_harm(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    trial.late_arrivals()
    assert trial.tally.faults["late"] <= trial.tally.faults["arrives"]
    assert trial.tally.faults["late"] > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*ALONE, *TOGETHER])
def test_a_bucket_that_is_mostly_busy_is_published_to(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    for seed in range(100):
        trial.storm(seed)
    assert trial.tally.faults.keys() >= {"slow down", "ack lost"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["second version", "channel", "yank and push"])
def test_damage_during_a_push_is_named_exactly(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    trial.damage()
    assert trial.tally.loud > 0
    assert trial.tally.faults["lost"] == trial.tally.faults["rot"] > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_server_that_compares_no_checksums_gives_nothing_wrong(cast, layout):
    """What was flipped on its way up is stored; it is named, and never read as if it were right."""
    trial = Trial(cast.scenes(layout)["first version"], checks=False)
    trial.explore([k for k in PASSING if k != "flip"])
    trial.flips_that_are_stored()
    assert trial.tally.faults["flip"] > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["new folder", "next version"])
def test_a_pull_may_fail_anywhere_and_installs_nothing_wrong(cast, name, layout):
    trial, folder = cast.pulls(layout)[name]
    trial.explore(folder, PASSING)
    assert trial.tally.faults.keys() >= {"crash before", "crash after", "reset", "flip"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["new folder", "next version"])
def test_damage_during_a_pull_is_named_and_not_installed(cast, name, layout):
    trial, folder = cast.pulls(layout)[name]
    trial.damage(folder)
    assert trial.tally.loud > 10


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_bit_anywhere_in_anything_that_a_version_needs_is_named_exactly(cast, layout):
    trial = Trial(cast.scenes(layout)["second version"])
    trial.each_byte(step=7)
    assert trial.tally.loud == trial.tally.faults["rot"] + trial.tally.faults["lost"] > 500


@pytest.mark.nightly
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_bit_of_each_byte(cast, layout):
    trial = Trial(cast.scenes(layout)["second version"])
    trial.each_byte()
    assert trial.tally.loud == trial.tally.faults["rot"] + trial.tally.faults["lost"] > 4_000


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["first version", "second version"])
def test_any_part_of_what_a_killed_push_sent_is_gone_on_with(cast, name, layout):
    Trial(cast.scenes(layout)[name]).remnants(200)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["first version", "second version"])
def test_pushing_again_puts_back_whatever_was_damaged(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    trial.mends()
    assert trial.tally.faults["rot"] == 2 * trial.tally.faults["lost"] > 10


@pytest.mark.nightly
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["first version", "second version"])
def test_a_repair_may_fail_anywhere_too(cast, name, layout):
    trial = Trial(cast.scenes(layout)[name])
    trial.mends_while_failing()
    assert trial.tally.total > 500


def test_two_who_move_a_channel_at_once_at_any_moment(cast):
    trial = Trial(cast.scenes("plain")["channel"])
    trial.together()
    assert trial.tally.attempts > 200


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["one version, two contents", "one version, two layouts"])
def test_two_who_publish_one_version_at_once(cast, name, layout):
    Trial(cast.scenes(layout)[name]).together(stride=5)


@pytest.mark.nightly
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TOGETHER)
def test_two_at_once_at_any_moment(cast, name, layout):
    Trial(cast.scenes(layout)[name]).together()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_server_that_ignores_conditions_gets_nothing(cast, layout):
    refuses_the_deaf(cast.scenes(layout)["first version"].steps[0])
