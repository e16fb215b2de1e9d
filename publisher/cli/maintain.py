"""Commands for maintainers of published versions: diff, channel, yank, deprecate, mirror."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from ..names import one_line
from .bucket import dry_run_option, opened, server_options
from .talk import json_option, progress, say, show_json, show_parts, table, transfer

if TYPE_CHECKING:
    from ..bucket.comparing import Compared
    from ..bucket.maintain import State
    from ..bucket.mirroring import Mirrored
    from ..versions.policy import Part

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

    from .. import report
    from ..bucket import comparing
    from ..files import write_atomic
    from ..storage import open_bucket
    from ..versions import changelog as changelogs

    open_ = partial(open_bucket, endpoint_url=endpoint_url, profile=profile)
    with progress("images", quiet=as_json or markdown) as on_image:
        found = comparing.compare(before, after, open_=open_, on_image=on_image)
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
    from ..versions import changelog

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


@click.command()
@click.argument("reference", metavar="REF")
@click.argument("name", metavar="CHANNEL")
@click.option("--allow-rollback", is_flag=True, help="Also to an older version than now.")
@dry_run_option
@server_options
@json_option
def channel(
    reference: str,
    name: str,
    allow_rollback: bool,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Let a channel, such as stable, point to a version. `push --channel` does it, too."""
    from ..bucket import maintain
    from ..versions.version import Channel

    goal = Channel(name)
    ref, bucket = opened(reference, endpoint_url, profile)
    moved = maintain.move_channel(
        bucket, ref.name, goal, ref.selector, allow_rollback=allow_rollback, dry_run=dry_run
    )
    done = "would be" if dry_run and moved.moved else "is"
    if as_json:
        status = "unchanged" if not moved.moved else "planned" if dry_run else "moved"
        facts = {"channel": name, "version": moved.version, "was": moved.was}
        show_json({"name": ref.name, "status": status, **facts})
        return
    click.echo(f"{ref.name}@{name} {done} {moved.version}")
    if moved.moved:
        say(f"it was {moved.was}" if moved.was else "it is new")


def _marking_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `yank` and `deprecate` take."""
    for option in (
        json_option,
        server_options,
        dry_run_option,
        click.option("--undo", is_flag=True, help="Take it back; --reason says why."),
        click.option("--superseded-by", metavar="X.Y.Z", help="What to use instead."),
        click.option("--reason", required=True, help="What is wrong; readers see it."),
        click.argument("reference", metavar="REF"),
    ):
        command = option(command)
    return command


@click.command()
@_marking_options
def yank(
    reference: str,
    reason: str,
    superseded_by: str | None,
    undo: bool,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """
    Withdraw a version: channels and ranges pass over it from now on.

    Nothing is deleted. Who asks for this very number, or root, still gets it, with a warning.
    """
    state: State = "active" if undo else "yanked"
    where = (reference, endpoint_url, profile)
    _mark(where, state, reason, superseded_by, dry_run=dry_run, as_json=as_json)


@click.command()
@_marking_options
def deprecate(
    reference: str,
    reason: str,
    superseded_by: str | None,
    undo: bool,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Advise against a version: everyone still gets it, with a warning."""
    state: State = "active" if undo else "deprecated"
    where = (reference, endpoint_url, profile)
    _mark(where, state, reason, superseded_by, dry_run=dry_run, as_json=as_json)


def _mark(
    where: tuple[str, str | None, str | None],
    state: State,
    reason: str,
    superseded_by: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from datetime import UTC, datetime

    from ..bucket import maintain
    from ..errors import UsageError
    from ..versions.version import Version

    ref, bucket = opened(*where)
    if not isinstance(ref.selector, Version):
        raise UsageError(
            "this is said of one version, by its number",
            hint=f"such as {ref.remote}/{ref.name}@1.2.0",
        )
    changed = maintain.mark(
        bucket,
        ref.name,
        ref.selector,
        state,
        reason,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        superseded_by=Version.parse(superseded_by) if superseded_by else None,
        dry_run=dry_run,
    )
    done = "unchanged" if not changed else "planned" if dry_run else "changed"
    if as_json:
        facts = {"name": ref.name, "version": str(ref.selector), "state": state}
        show_json({"status": done, **facts})
        return
    verb = "is" if done == "changed" else "would be" if done == "planned" else "is already"
    click.echo(f"{ref.name} {ref.selector} {verb} {state}")


@click.command()
@click.argument("remote", metavar="REMOTE")
@click.option("--reader", "readers", multiple=True, metavar="ARN", help="Who may read; * is all.")
@click.option("--publisher", "publishers", multiple=True, metavar="ARN", help="Who may publish.")
@click.option(
    "--only",
    "parts",
    multiple=True,
    type=click.Choice(["reader", "publisher", "write-once"]),
    help="Only these statements; repeatable.",
)
@json_option
def policy(
    remote: str,
    readers: tuple[str, ...],
    publishers: tuple[str, ...],
    parts: tuple[str, ...],
    as_json: bool,
) -> None:
    """
    Print a bucket policy to paste: who may read and publish, and what nobody may change.

    Nothing is asked of a server. A bucket has one policy: put these statements beside yours.
    """
    import json

    from ..versions import policy as policies

    chosen = cast("tuple[Part, ...]", parts) or policies.PARTS
    said = policies.policy(remote.rstrip("/"), readers=readers, publishers=publishers, parts=chosen)
    if as_json:
        show_json(said)
        return
    click.echo(json.dumps(said, indent=2))
    for given, part, placeholder in (
        (readers, "reader", policies.READER),
        (publishers, "publisher", policies.PUBLISHER),
    ):
        if part in chosen and not given:
            say(f"note: put who it is in the place of {placeholder}, or say --{part} ARN")


@click.command()
@click.argument("remote", metavar="[REMOTE]", required=False)
@server_options
@json_option
def doctor(
    remote: str | None, endpoint_url: str | None, profile: str | None, as_json: bool
) -> None:
    """
    Look at this machine and a bucket: what works, what does not, and what to do next.

    Small objects are put under doctor/ and removed. The exit code is that of the first failure.
    """
    from dataclasses import asdict
    from itertools import chain

    from ..bucket import doctor as doctors
    from ..storage import open_bucket

    checks = doctors.machine()
    if remote is not None:
        bucket = open_bucket(remote.rstrip("/"), endpoint_url=endpoint_url, profile=profile)
        checks = chain(checks, doctors.examine(bucket))
    found = []
    for check in checks:
        found.append(check)
        if as_json:
            continue
        click.echo(f"{check.state:<4}  {check.what}: {one_line(check.found)}")
        if check.hint and check.state != "ok":
            click.echo(f"      hint: {check.hint}")
    if as_json:
        show_json({"checks": [asdict(check) for check in found]})
    sys.exit(next((c.code for c in found if c.state == "fail"), 0))


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--target-endpoint-url", metavar="URL", help="Of the target, if it has its own.")
@click.option("--target-profile", metavar="NAME", help="For the target, if it has its own.")
@dry_run_option
@server_options
@json_option
def mirror(
    source: str,
    target: str,
    target_endpoint_url: str | None,
    target_profile: str | None,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """
    Copy versions to another bucket: SOURCE is REMOTE/NAME for all, or a reference; TARGET a REMOTE.

    A range such as @^1.2 is every version in it. Each byte is checked, and what is there is not
    sent again. Exit 6 where the target has other content, 7 where the source is damaged.
    """
    from ..bucket import mirroring
    from ..errors import IntegrityError
    from ..storage import open_bucket

    ref, bucket = opened(source, endpoint_url, profile)
    goal = open_bucket(
        target.rstrip("/"),
        endpoint_url=target_endpoint_url or endpoint_url,
        profile=target_profile or profile,
    )
    selector = ref.selector if "@" in source.rpartition("/")[2] else None
    with transfer(quiet=as_json) as on_bytes:
        what = (bucket, goal, ref.name, selector)
        done = mirroring.mirror(*what, dry_run=dry_run, on_bytes=on_bytes)
    if as_json:
        _show_mirrored(done)
    else:
        _say_mirrored(done, dry_run=dry_run)
    if done.left and as_json:
        sys.exit(IntegrityError.exit_code)
    if done.left:
        raise IntegrityError(
            f"{bucket.url} has lost or damaged {len(done.left)} objects: their versions were not "
            "copied",
            [d.key for d in done.left],
            hint=f"`publisher verify {source} --deep` tells more; --repair-from mends",
        )


def _say_mirrored(done: Mirrored, *, dry_run: bool) -> None:
    for version in done.versions:
        count = f" {version.objects} objects, {version.size:,} bytes" if version.objects else ""
        click.echo(f"{done.name} {version.version} {version.status}{count}")
    for damage in done.left:
        click.echo(one_line(str(damage)))
    for moved in done.channels:
        verb = "would be" if dry_run and moved.moved else "is"
        click.echo(f"{done.name}@{moved.channel} {verb} {moved.version}")
    verb = "would copy" if dry_run else "copied"
    say(f"{verb} {done.objects} objects, {done.size:,} bytes")
    if dry_run:
        say(f"that is {done.objects} GETs there and as many PUTs here, and a few for lists")


def _show_mirrored(done: Mirrored) -> None:
    from dataclasses import asdict

    found = [{**asdict(c), "bytes": c.size} for c in done.versions]
    for version in found:
        del version["size"]
    show_json(
        {
            "name": done.name,
            "versions": found,
            "channels": [asdict(moved) for moved in done.channels],
            "damages": [asdict(damage) for damage in done.left],
            "objects": done.objects,
            "requests": 2 * done.objects,
            "bytes": done.size,
        }
    )


COMMANDS = [diff, channel, yank, deprecate, mirror, policy, doctor]
