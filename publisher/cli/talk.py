"""What commands say on stderr: progress, and tables for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from ..progress import Amount, Progress, Transfer, silent, unwatched

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ..conservation import Tally

_EVERY = 10.0  # seconds between two lines where nobody watches

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    envvar="PUBLISHER_DEVICE",
    show_envvar=True,
    help="Where networks compute.",
)


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Progress]:
    """
    How far work is, on stderr: a bar where somebody watches; else, in a log, a line each ten
    seconds.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield silent if quiet else _counting(what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _counting(what: str) -> Progress:
    """A line now and then: how many of how many, and the time that is left."""
    seldom, began, before = _Seldom(_EVERY), time.monotonic(), -1

    def count(done: int, total: int) -> None:
        nonlocal before
        before = done - 1 if before < 0 else before  # what an earlier run has done
        if seldom.may():
            left = (total - done) * (time.monotonic() - began) / max(done - before, 1)
            say(f"{what}: {done:,} of {total:,}, {_clock(left)} left")

    return count


@contextmanager
def transfer(*, quiet: bool = False) -> Iterator[Transfer]:
    """
    How far a transfer is, on stderr: files, bytes, rate and the time that is left.

    A bar where somebody watches; else, in a log, a line each ten seconds.
    """
    if quiet:
        yield unwatched
    elif sys.stderr.isatty():
        with _bar() as listener:
            yield listener
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[Transfer]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[files]} files"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}
        seldom = _Seldom(0.1)

        def listen(what: str, done: Amount, total: Amount) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, files="", total=None)
            elif done != total and not seldom.may():
                return
            files = f"{done.files:,}/{total.files:,}"
            bar.update(tasks[what], completed=done.bytes, total=total.bytes, files=files)

        yield listen


class _Lines:
    """A line now and then."""

    def __init__(self) -> None:
        self._what = ""
        self._began = 0.0
        self._seldom = _Seldom(_EVERY)

    def __call__(self, what: str, done: Amount, total: Amount) -> None:
        if what != self._what:
            self._what, self._began = what, time.monotonic()
        if not self._seldom.may():
            return
        rate = done.bytes / max(time.monotonic() - self._began, 1e-3)
        left = f", {_clock((total.bytes - done.bytes) / rate)} left" if rate > 0 else ""
        say(
            f"{what} {done.files:,} of {total.files:,} files, "
            f"{done.bytes / 1e6:,.1f} of {total.bytes / 1e6:,.1f} MB, {rate / 1e6:,.1f} MB/s{left}"
        )


class _Seldom:
    """Says yes once in so many seconds, the first time after them."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = time.monotonic() + every

    def may(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._every
        return True


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def say(line: str) -> None:
    """A line of talk, harmless for the terminal."""
    from ..names import printable

    click.echo(printable(line), err=True)


def show_json(value: Any) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, sort_keys=True))


def show_parts(parts: Iterable[str]) -> None:
    """One JSON object on stdout that comes in parts."""
    sys.stdout.writelines(chain(parts, ["\n"]))


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Lines of a plain table: first column left, the others right."""
    from rich.cells import cell_len

    from ..names import printable

    cells = [header, *[tuple(printable(c) for c in row) for row in rows]]
    widths = [max(cell_len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        gaps = [" " * (w - cell_len(text)) for text, w in zip(row, widths, strict=True)]
        others = [gap + text for gap, text in zip(gaps[1:], row[1:], strict=True)]
        yield "  ".join([row[0] + gaps[0], *others]).rstrip()


def show_tallies(counted: Tally, kept: Tally) -> None:
    """A table of what went in and what came out."""
    rows = [
        ("images", str(counted.images), str(kept.images)),
        ("segments", str(counted.segments), str(kept.segments)),
    ]
    classes = sorted({*counted.pixels, *kept.pixels})
    pixels = [(n, counted.pixels.get(n, 0), kept.pixels.get(n, 0)) for n in classes]
    rows += [(f"pixels {n}", str(a), str(b)) for n, a, b in pixels if a or b]
    for line in table(("", "in", "out"), rows):
        click.echo(line)
