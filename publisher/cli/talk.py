"""What commands say on stderr: progress, and tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from ..progress import Progress, silent

if TYPE_CHECKING:
    from ..conservation import Tally

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Progress]:
    """A bar on stderr while work goes on; nothing where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield silent
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
