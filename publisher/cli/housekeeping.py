"""Commands that delete from buckets: retract, gc."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from .bucket import dry_run_option, opened, server_options
from .talk import json_option, progress, say, show_json, transfer

if TYPE_CHECKING:
    from ..bucket.retract import Retraction
    from ..storage import ObjectInfo


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--reason", required=True, help="Why; readers see it, for ever.")
@click.option(
    "--files",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Every version with these files of REF goes, and they never come back; repeatable.",
)
@click.option("--yes", is_flag=True, help="Do it; without, only say what would be done.")
@dry_run_option
@server_options
@json_option
def retract(
    reference: str,
    reason: str,
    patterns: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """
    Take a version down for good, with its bytes, wherever they lie. There is no way back.

    Every version goes that has one of its pictures, or of the named --files, in all datasets of
    the bucket: --dry-run names them. To keep the other pictures, publish a version without those
    that must go first.
    """
    from datetime import UTC, datetime

    from ..bucket import retract as retracting
    from ..errors import UsageError
    from ..versions.version import Version

    ref, bucket = opened(reference, endpoint_url, profile)
    if not isinstance(ref.selector, Version):
        raise UsageError(
            "one version is retracted, by its number", hint=f"such as {ref.remote}/{ref.name}@1.2.0"
        )
    what = (bucket, ref.name, ref.selector)
    if dry_run or not yes:
        plan = retracting.plan_retraction(*what, patterns)
        _show_retraction(plan, "planned", as_json)
        if not dry_run:
            raise UsageError("nothing was done yet", hint="say --yes to do it; it is for good")
        return
    with transfer(quiet=as_json) as on_bytes:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        done = retracting.retract(*what, reason, at=at, files=patterns, on_bytes=on_bytes)
    _show_retraction(done, "retracted", as_json)
    say("caches, mirrors and copies that people have are not ours: see docs/maintain.md")


def _show_retraction(told: Retraction, status: str, as_json: bool) -> None:
    size = _bytes(told.deleted)
    if as_json:
        show_json(
            {
                "status": status,
                "versions": list(told.versions),
                "files": list(told.named),
                "contents": told.erased,
                "rewritten": {"bytes": told.moved, "versions": list(told.repacked)},
                "deleted": {"objects": len(told.deleted), "bytes": size, "history": told.history},
            }
        )
        return
    would = "would be " if status == "planned" else ""
    for title in told.versions:
        click.echo(f"{title} {would}retracted")
    for path in told.named:
        say(f"named: {path}")
    say(f"{told.erased} contents {would}gone from everywhere")
    if told.repacked:
        stay = ", ".join(told.repacked)
        say(f"{told.moved:,} bytes of versions that stay {would}written anew: {stay}")
    say(f"{len(told.deleted)} objects, {size:,} bytes {would}deleted")
    if told.history is None:
        say(
            "warning: these credentials may not see whether the bucket keeps earlier versions of "
            "objects. Where it does, run this again as its owner (s3:GetBucketVersioning, "
            "s3:ListBucketVersions, s3:DeleteObjectVersion)"
        )
    elif told.history:
        say(f"and {told.history} earlier versions of them that the bucket had kept")


@click.command()
@click.argument("remote", metavar="REMOTE")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=14.0,
    show_default=True,
    metavar="DAYS",
    help="From when something is found to when it is deleted.",
)
@dry_run_option
@server_options
@json_option
def gc(
    remote: str,
    grace: float,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """
    Delete what no version needs: what cut-short pushes and retractions have left.

    The first run only marks it. A run after --grace days, by the bucket's clock, deletes what
    is marked and still not needed. Pushes that are under way are not disturbed.
    """
    from ..bucket import gc as collecting
    from ..storage import open_bucket

    bucket = open_bucket(remote.rstrip("/"), endpoint_url=endpoint_url, profile=profile)
    with progress("objects", quiet=as_json) as on_object:
        done = collecting.collect(bucket, grace=grace, dry_run=dry_run, on_object=on_object)
    parts = {"marked": done.marked, "waiting": done.waiting, "deleted": done.deleted}
    if as_json:
        facts = {name: _objects(objects) for name, objects in parts.items()}
        uploads = [u.key for u in done.aborted]
        state = "planned" if dry_run else "done"
        finished = list(done.finished)
        show_json({"status": state, **facts, "uploads": uploads, "finished": finished})
        return
    would = "would be " if dry_run else ""
    verbs = {"marked": f"{would}marked", "waiting": "waiting", "deleted": f"{would}deleted"}
    for name, objects in parts.items():
        for o in objects if dry_run else ():
            click.echo(f"{o.key} {o.size} {verbs[name]}")
        say(f"{len(objects)} objects, {_bytes(objects):,} bytes {verbs[name]}")
    if done.aborted:
        say(f"{len(done.aborted)} uploads that never ended {would}given up")
    for title in done.finished:
        say(f"the retraction of {title}, which was cut short, {would}brought to its end")


def _objects(objects: Iterable[ObjectInfo]) -> list[dict[str, Any]]:
    return [{"key": o.key, "bytes": o.size} for o in objects]


def _bytes(objects: Sequence[ObjectInfo]) -> int:
    return sum(o.size for o in objects)


COMMANDS = [retract, gc]
