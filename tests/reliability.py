"""
The figures of docs/reliability.md, counted anew: `python -m tests.reliability [--all]`.

Exit code 1 where anything was torn, lost or silently wrong, damage was not named exactly, or a
broken protocol was not caught. `--all` also tries pairs of failures of two maintainers, two at
once at every pair of moments, and a bit of every byte; some minutes more.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import get_args

from publisher.errors import VersionWarning
from publisher.versions.manifest import Layout

from .faults import KINDS
from .mutations import MUTATIONS, caught
from .schedules import ALONE, PASSING, TOGETHER, Cast, Tally, Trial, quickly, refuses_the_deaf

MEANS = {
    "crash before": "the process dies before an operation",
    "crash after": "the process dies after an operation, or in the middle of an answer",
    "slow down": "503, or a reset before anything was done",
    "reset": "the connection breaks in the middle of an answer",
    "ack lost": "done, but the answer is lost",
    "late": "no answer; the request is done later, …",
    "arrives": "… in the middle of another attempt, or after it",
    "short": "half of the answer, as if that were all; half of a list",
    "flip": "one bit changed on the way, up or down",
    "rot": "bits changed, or bytes missing, where an object lies",
    "lost": "an object deleted",
    "stale": "a list as it was earlier",
}
Work = Callable[[], Tally]


def suites(cast: Cast, *, everything: bool) -> Iterator[tuple[str, Work]]:
    """What is tried, by name."""
    for layout in get_args(Layout):
        for name, scene in cast.scenes(layout).items():
            yield f"{name}, {layout}", lambda s=scene: _scene(Trial(s), everything=everything)
        second = cast.scenes(layout)["second version"]
        yield f"bits, {layout}", lambda s=second: _bits(Trial(s), 1 if everything else 7)
        first = cast.scenes(layout)["first version"]
        yield f"no checksums, {layout}", lambda s=first: _unchecked(Trial(s, checks=False))
        for name in cast.pulls(layout):
            yield f"pull, {name}, {layout}", lambda n=name, k=layout: _pull(cast, n, k)


def _scene(trial: Trial, *, everything: bool) -> Tally:
    name = trial.name
    trial.explore(failing=1_000 if name in ALONE else 2 if everything else 1)
    for seed in range(100):
        trial.storm(seed)
    if everything or name in ALONE:
        trial.late_arrivals()
    if name in TOGETHER and "version" in name:
        trial.together(stride=1 if everything else 5)
    if name in {"second version", "channel", "yank and push"}:
        trial.damage()
    if name in {"first version", "second version"}:
        trial.mends()
        trial.remnants(200)
        refuses_the_deaf(trial.steps[-1])
    return trial.tally


def _bits(trial: Trial, step: int) -> Tally:
    trial.each_byte(step)
    return trial.tally


def _unchecked(trial: Trial) -> Tally:
    trial.explore([k for k in PASSING if k != "flip"])
    trial.flips_that_are_stored()
    return trial.tally


def _pull(cast: Cast, name: str, layout: Layout) -> Tally:
    trial, folder = cast.pulls(layout)[name]
    trial.explore(folder, PASSING)
    trial.damage(folder)
    return trial.tally


def main() -> int:
    """Print the table."""
    warnings.simplefilter("ignore", VersionWarning)
    total, violations, started = Tally(), list[str](), time.process_time()
    with quickly() as cast:
        for name, work in suites(cast, everything="--all" in sys.argv):
            try:
                total.add(work())
            except AssertionError as error:
                violations.append(f"{name}: {error}")
            print(f"{name}: {total.total:,} faults so far", file=sys.stderr, flush=True)
        spent = time.process_time() - started
        missed = [m.name for m in MUTATIONS if caught(m, cast) is None]
    print("| fault | times |\n|---|---:|")
    for kind in KINDS:
        print(f"| {MEANS[kind]} | {total.faults[kind]:,} |")
    print(f"| **together**, by {total.attempts:,} pushes, pulls and moves | {total.total:,} |\n")
    print("| what came of it | |\n|---|---:|")
    rows = {
        "schedules of up to three failing attempts that these make up": total.schedules,
        "states of a bucket or a folder": total.states,
        "versions published": total.published,
        "versions read back whole, each byte": total.read,
        "torn, lost, changed, or silently wrong": len(violations),
        "readings of damage": total.loud,
        "… that did not name exactly what was damaged": sum("verify says" in v for v in violations),
        "operations that a fault costs, median": round(total.median_extra),
        "bytes left over, at most": total.garbage,
    }
    for what, count in rows.items():
        print(f"| {what} | {count:,} |")
    print(
        f"| broken protocols that are caught | {len(MUTATIONS) - len(missed)} of {len(MUTATIONS)} |"
    )
    print(f"\n{total.total / spent:,.0f} faults a CPU second", file=sys.stderr)
    for problem in (*violations, *(f"not caught: {name}" for name in missed)):
        print(problem, file=sys.stderr)
    return int(bool(violations or missed))


if __name__ == "__main__":
    sys.exit(main())
