"""Which steps processes are killed at, on which buckets, and what is left of the dead."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from publisher.storage import Bucket
from publisher.versions.housekeeping import LEASES

from ..figures import Figures
from ..processes import Forks

WHERE = ("seaweedfs", "folder")
on_both = pytest.mark.parametrize("remote", WHERE, indirect=True)


def turns(steps: Sequence[str], first: int = 0) -> Iterator[tuple[str, str, Any]]:
    """Each step on both buckets, and its marks; half of the steps by default, in turn on one."""
    for n, step in enumerate(steps):
        for m, where in enumerate(WHERE):
            is_default = (n + first) % 2 == 0 and (n // 2 + first) % 2 == m
            yield where, step, [] if is_default else pytest.mark.nightly


def killed(
    forked: Forks,
    figures: Figures,
    *arguments: object,
    at: str,
    settings: Mapping[str, int] = {},
) -> None:
    """Run a command that dies at a step, and count the fault."""
    ended = forked(*arguments, failpoint=at, settings=settings)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    figures.fault(at.partition("@")[0])


def wait_for_leases(bucket: Bucket) -> None:
    """Until those of the dead have run out: ten minutes, which we do not spend here."""
    for o in list(bucket.list(LEASES)):
        bucket.delete(o.key)
