"""
The same work on many chunks, in this process or in several: the same results, in order.

Processes are asked for, by an argument or by PUBLISHER_WORKERS; they never change what comes
out, only when. They are started anew ("spawn"), so they share nothing by chance and work with
threads in the parent; the first chunks are done here, so small jobs start none.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TypeVar

from .errors import PublisherError, UsageError

T = TypeVar("T")
R = TypeVar("R")

VARIABLE = "PUBLISHER_WORKERS"
ALONE = 16  # chunks that are done here first; a process takes half a second to start


def ordered(
    work: Callable[[T], R],
    chunks: Iterable[T],
    workers: int | None = None,
    *,
    alone: int = ALONE,
) -> Iterator[R]:
    """
    What `work` gives for each chunk, in order. At most two chunks a worker are under way.

    Args:
        work: with several workers, it, the chunks and the results must be picklable.
        workers: processes; by default as PUBLISHER_WORKERS says, or 1, which is this one.
        alone: chunks that are done here before a process is started.

    Raises:
        UsageError: PUBLISHER_WORKERS is no number above 0.
        PublisherError: a worker was killed, as when memory runs out.
    """
    count = asked() if workers is None else workers
    left = iter(chunks)
    for chunk in islice(left, alone if count > 1 else None):
        yield work(chunk)
    for chunk in left:  # there is more
        yield from _in_processes(work, chain([chunk], left), count)


def asked() -> int:
    """How many processes PUBLISHER_WORKERS asks for; 1 is this one."""
    said = os.environ.get(VARIABLE, "1")
    if not said.isdecimal() or int(said) < 1:
        raise UsageError(f"{VARIABLE} is {said!r}", hint="it is a number of processes, as 4")
    return int(said)


def _in_processes(work: Callable[[T], R], chunks: Iterable[T], count: int) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(work,))
    under_way: deque[Future[Any]] = deque()
    try:
        for chunk in chunks:
            with _unheard():  # by those who are started here
                under_way.append(pool.submit(_do, chunk))
            if len(under_way) >= 2 * count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise PublisherError(
            "a worker process was killed", hint=f"fewer need less memory: {VARIABLE}=1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)  # what has begun is finished, and dropped


_work: Callable[[Any], Any]


@contextmanager
def _unheard() -> Iterator[None]:
    """
    An interrupt waits until this is done, and processes that are started here never hear of one.

    It is for the parent, which then ends its workers. One that heard of it while it is still
    importing would die, and the parent would say that it was killed.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work


def _do(chunk: Any) -> Any:
    return _work(chunk)
