"""Where tests kill this process, as a power cut would: before and after each step."""

from __future__ import annotations

import itertools
import os
import signal
from collections import defaultdict
from collections.abc import Iterator

_passed: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))


def failpoint(step: str) -> None:
    """
    Die here if PUBLISHER_FAILPOINT says so: `put-blob`, or `put-blob@3` for the third time.

    The name alone is before the step, `after-` and the name is after it. docs/reliability.md
    lists the steps; tests/e2e/test_kill.py dies at each of them.
    """
    name, _, count = os.environ.get("PUBLISHER_FAILPOINT", "").partition("@")
    if name == step and next(_passed[step]) == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
