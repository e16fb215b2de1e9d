"""Commands for maintainers of published versions: diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .bucket import server_options
from .talk import json_option, progress, say, show_parts, table

if TYPE_CHECKING:
    from ..comparing import Compared

_new = click.Path(path_type=Path)


@click.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("--markdown", is_flag=True, help="Print a section of a changelog instead.")
@click.option("--changelog", type=_new, help="Also put that section on top of this file.")
@click.option("--title", metavar="X.Y.Z", help="Heading of the section.  [default: told by AFTER]")
@server_options
@json_option
def diff(
    before: str,
    after: str,
    markdown: bool,
    changelog: Path | None,
    title: str | None,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """
    Say what changed between two versions: images, masks and their IoU, categories.

    BEFORE and AFTER are references, releases, working datasets or exports. Of a bucket, no
    picture is fetched.
    """
    from functools import partial

    from .. import changelog as changelogs
    from .. import comparing, report
    from ..files import write_atomic
    from ..storage import open_bucket

    opened = partial(open_bucket, endpoint_url=endpoint_url, profile=profile)
    with progress("images", quiet=as_json or markdown) as on_image:
        found = comparing.compare(before, after, open_=opened, on_image=on_image)
    section = found.section(title or found.title)
    if changelog is not None:
        old = changelog.read_text("utf-8") if changelog.exists() else ""
        write_atomic(changelog, changelogs.with_section(old, section).encode())
        say(f"{changelog}: its first section is {title or found.title}")
    if as_json:
        show_parts(report.filled({**found.to_json(), "changes": []}, "changes", found.changes))
    elif markdown:
        click.echo(section, nl=False)
    else:
        _show(found)


def _show(found: Compared) -> None:
    from .. import changelog

    if found.same:
        click.echo(f"{found.before} and {found.after} are the same")
        return
    for line in table(*changelog.image_rows(found.summary)):
        click.echo(line)
    click.echo()
    for line in table(*changelog.class_rows(found.summary)):
        click.echo(line)
    for text in changelog.lines(found.summary, found.documents):
        say(text)
    say(f"{found.after} is a {found.verdict.level} version after {found.before}")


COMMANDS = [diff]
