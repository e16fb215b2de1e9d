"""
The command line: parse, call one function, print.

The only package that imports click and rich. Facts go to stdout, talk and progress to
stderr. Commands import what they need when they run, so `--help` stays quick.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .. import __version__
from ..errors import IntegrityError, InvalidDataset, PublisherError, UsageError, VersionWarning
from . import bucket, dataset, housekeeping, maintain, refine, ritm, scaffold
from .talk import say


class Commands(click.Group):
    """Print our own errors as one line and a hint; let bugs keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in [*ctx._protected_args, *ctx.args]
        try:
            with _warnings_said():
                return super().invoke(ctx)
        except PublisherError as error:
            _say(error, as_json)
            sys.exit(error.exit_code)
        except click.UsageError as error:
            if not as_json:
                raise
            _say(UsageError(error.format_message()), as_json)
            sys.exit(error.exit_code)
        except OSError as error:  # a folder where a file should be, no right, a disk that is full
            if error.strerror is None or isinstance(error, BrokenPipeError):
                raise
            where = "writing or reading a file" if error.filename is None else error.filename
            _say(UsageError(f"{where}: {error.strerror}"), as_json)
            sys.exit(UsageError.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted; run the same command again to go on", err=True)
            sys.exit(130)


@contextmanager
def _warnings_said() -> Iterator[None]:
    """What a version's maintainers say against it goes to stderr, on one line each."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", VersionWarning)
        show = warnings.showwarning

        def tell(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, VersionWarning):
                if str(message) not in told:
                    say(f"warning: {message}")
                told.add(str(message))
            else:
                show(message, category, *where, **more)

        warnings.showwarning = tell
        yield


def _say(error: PublisherError, as_json: bool) -> None:
    from ..names import printable

    message = " ".join(printable(line) for line in str(error).splitlines())
    if as_json:
        said: dict[str, Any] = {"kind": type(error).__name__, "message": message}
        said["hint"] = error.hint
        if isinstance(error, IntegrityError):
            said["paths"] = list(error.paths)
        if isinstance(error, InvalidDataset):
            said["findings"] = [str(finding) for finding in error.findings]
        click.echo(json.dumps({"error": said, "exit_code": error.exit_code}))
        return
    click.echo(f"error: {message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Take image-segmentation datasets from the annotation tool to published versions."""


groups = (dataset, refine, ritm, bucket, maintain, housekeeping, scaffold)
for command in (c for group in groups for c in group.COMMANDS):
    main.add_command(command)
