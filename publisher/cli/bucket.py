"""Commands on buckets: push, pull, list, show, verify."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..names import one_line
from .signing import channel_options, trust_option
from .talk import json_option, progress, say, show_json, table, transfer

if TYPE_CHECKING:
    from ..bucket.comparing import Proposal
    from ..bucket.consume import Planned, Release
    from ..bucket.trust import Signers, Trust
    from ..bucket.verifying import Report
    from ..storage import Bucket
    from ..versions.manifest import Layout, Manifest, Plan, Status
    from ..versions.version import Reference

_PUT, _GET, _OUT = 0.005 / 1000, 0.0004 / 1000, 0.09 / 2**30  # $ a request, a byte to the internet

_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_new = click.Path(path_type=Path)


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """How to reach the bucket, where AWS_* variables do not say it."""
    url = click.option("--endpoint-url", metavar="URL", help="Of an S3-compatible server.")
    profile = click.option("--profile", metavar="NAME", help="Of the AWS configuration.")
    return url(profile(command))


dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would happen; do nothing.")


@click.command()
@click.argument("tree", metavar="RELEASE", type=_folder)
@click.argument("target", metavar="REMOTE/NAME")
@click.option(
    "--version",
    required=True,
    metavar="X.Y.Z|auto",
    help="The number; it never changes. auto: the next one, by what changed.",
)
@click.option("--channel", default="latest", show_default=True, help="Moves to this version.")
@click.option(
    "--layout",
    type=click.Choice(["packs", "plain"]),
    help="Small files together, or each under its own name. Small datasets are plain.",
)
@click.option("--receipt", type=_new, help="Write name, version and root to this JSON file.")
@channel_options
@dry_run_option
@server_options
@json_option
def push(
    tree: Path,
    target: str,
    version: str,
    channel: str,
    layout: Layout | None,
    receipt: Path | None,
    signers: Signers,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Publish a release tree as a version. All of it appears at once, or nothing does."""
    from datetime import UTC, datetime

    from ..bucket import publish
    from ..files import canonical_json, write_atomic

    ref, bucket = opened(target, endpoint_url, profile, bare=True)
    proposal = _proposal(bucket, ref.name, tree, as_json) if version == "auto" else None
    if proposal is not None:
        version = str(proposal.version)
    with transfer(quiet=as_json) as on_bytes:
        pushed = publish.push(
            bucket,
            tree,
            ref.name,
            version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            channel=channel,
            layout=layout,
            dry_run=dry_run,
            on_bytes=on_bytes,
            signers=signers,
        )
    facts = {"name": pushed.name, "version": pushed.version, "root": pushed.root}
    if receipt is not None and not dry_run:
        write_atomic(receipt, canonical_json(facts, indent=1))
    if as_json:
        counts = _counts(pushed.plan, "sent", "reused")
        why = {"reasons": list(proposal.reasons)} if proposal is not None else {}
        facts = {**facts, "layout": pushed.layout}
        show_json({"status": pushed.status, **facts, **counts, **why})
        return
    click.echo(f"{ref.name} {version} {pushed.status} {pushed.root}")
    _say_plan(pushed.plan, "would send" if dry_run else "sent", "were in the bucket")
    if dry_run:
        _say_cost(pushed.plan, _PUT)


@click.command()
@click.argument("reference", metavar="REF")
@click.option("-o", "--out", required=True, type=_new, help="New folder, or that of a pull before.")
@click.option("--split", "splits", multiple=True, help="Only this split; repeatable.")
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME",
    help="Only pictures with an instance of this category; repeatable.",
)
@click.option("--no-cache", is_flag=True, help="Fetch all anew, and keep nothing for other pulls.")
@click.option("--lock", type=_new, help="Obey this file; where it does not know REF, write it in.")
@click.option("--update", is_flag=True, help="With --lock: take what REF means now.")
@click.option(
    "--allow-rollback", is_flag=True, help="With --update: also where a channel went back."
)
@trust_option
@dry_run_option
@server_options
@json_option
def pull(
    reference: str,
    out: Path,
    splits: tuple[str, ...],
    categories: tuple[str, ...],
    no_cache: bool,
    lock: Path | None,
    update: bool,
    allow_rollback: bool,
    trust: Trust,
    dry_run: bool,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Fetch a version, or a part of it. Every byte is checked; run again to go on."""
    from ..bucket import consume, locking
    from ..bucket.cache import open_cache

    if lock is None and (update or allow_rollback):
        raise click.UsageError("--update and --allow-rollback go with --lock")
    ref, bucket = opened(reference, endpoint_url, profile)
    selector, settled = ref.selector, None
    if lock is not None:
        settled = locking.settle(
            bucket, ref, lock, update=update, allow_rollback=allow_rollback, trust=trust
        )
        selector, trust = settled.version, settled.trust
    cache = None if no_cache else open_cache()
    with transfer(quiet=as_json) as on_bytes:
        what = (bucket, ref.name, selector, out)
        got: Planned | Release
        if dry_run:
            got = consume.plan_pull(
                *what, splits, categories, cache=cache, on_bytes=on_bytes, trust=trust
            )
        else:
            got = consume.pull(
                *what,
                splits=splits,
                categories=categories,
                remote=ref.remote,
                cache=cache,
                on_bytes=on_bytes,
                trust=trust,
            )
    if settled is not None and not dry_run:
        settled.keep(got.root)
    facts = {"name": got.name, "version": got.version, "root": got.root, "path": str(out)}
    done = "planned" if dry_run else "pulled"
    if as_json:
        counts = _counts(got.plan, "fetched", "kept")
        counts["cached"] = {"files": len(got.plan.cached), "bytes": got.plan.cached_bytes}
        part = {"splits": list(got.splits), "categories": list(got.categories)}
        show_json({"status": done, **facts, **part, **counts})
        return
    click.echo(f"{got.name} {got.version} {done} {got.root} {out}")
    _say_plan(got.plan, "would fetch" if dry_run else "fetched", "were there already")
    if dry_run:
        _say_cost(got.plan, _GET, _OUT)


@click.command("list")
@click.argument("remote", metavar="REMOTE[/NAME]")
@server_options
@json_option
def list_(remote: str, endpoint_url: str | None, profile: str | None, as_json: bool) -> None:
    """List the datasets of a bucket, or the versions of a dataset, newest first."""
    from ..bucket import catalog
    from ..errors import UsageError, VersionNotFound
    from ..storage import open_bucket

    remote = remote.rstrip("/")
    found = catalog.names(open_bucket(remote, endpoint_url=endpoint_url, profile=profile))
    if found:
        if as_json:
            show_json({"datasets": [{"dataset": name, "channels": []} for name in found]})
        else:
            click.echo("\n".join(found))
        return
    try:
        ref, bucket = opened(remote, endpoint_url, profile, bare=True)
    except UsageError:  # a bare bucket
        raise VersionNotFound(f"no dataset in {remote}") from None
    versions = catalog.versions(bucket, ref.name)
    if not versions:
        raise VersionNotFound(f"no dataset in {remote}")
    points, said = catalog.channels(bucket, ref.name), catalog.statuses(bucket, ref.name)
    rows = [(v, [c for c, at in points.items() if at == v], said.get(v)) for v in versions[::-1]]
    if as_json:
        shown = [{"version": str(v), "channels": c, **_plain(s)} for v, c, s in rows]
        show_json({"versions": shown})
        return
    for version, names, status in rows:
        click.echo(f"{version}  {', '.join([*names, *_told(status)])}".rstrip())


@click.command()
@click.argument("reference", metavar="REF")
@server_options
@json_option
def show(reference: str, endpoint_url: str | None, profile: str | None, as_json: bool) -> None:
    """Say what a version holds: splits, sizes, root, who signed it, if it was yanked."""
    import msgspec

    from ..bucket import catalog
    from ..bucket.trust import signers_of
    from ..dataset import ordered_splits
    from ..versions.version import Version

    ref, bucket = opened(reference, endpoint_url, profile)
    record = catalog.resolve(bucket, ref.name, ref.selector)
    version = Version.parse(record.version)
    points = [c for c, at in catalog.channels(bucket, ref.name).items() if at == version]
    status = catalog.find_status(bucket, ref.name, version)
    signed_by = signers_of(bucket, record)
    if as_json:
        plain = {**msgspec.to_builtins(record), "signed_by": signed_by}
        show_json({**plain, "channels": points, **_plain(status)})
        return
    click.echo(f"{record.name} {record.version}")
    click.echo(f"root       {record.root}")
    click.echo(f"published  {record.created} by {record.tool}")
    for key in signed_by:
        click.echo(f"signed by  {key}")
    for text in _told(status):
        click.echo(f"status     {text}")
    if points:
        click.echo(f"channels   {', '.join(points)}")
    click.echo(f"layout     {record.layout}")
    splits = [(n, record.splits[n]) for n in ordered_splits(set(record.splits))]
    rows = [(n, str(s.images), str(s.files), f"{s.bytes:,}") for n, s in splits]
    rows.append(("all", "", str(record.files_total), f"{record.bytes_total:,}"))
    for line in table(("split", "images", "files", "bytes"), rows):
        click.echo(line)


@click.command()
@click.argument("subject", metavar="REF|DIR")
@click.option("--remote", is_flag=True, help="Of a pulled folder: look at where it came from.")
@click.option("--deep", is_flag=True, help="Of a bucket: read and hash every byte.")
@trust_option
@click.option(
    "--repair-from",
    "mirror",
    metavar="MIRROR",
    help="Put right what is wrong in the bucket, from another one that has the version.",
)
@click.option("--mirror-endpoint-url", metavar="URL", help="Of the mirror, if it has its own.")
@click.option("--mirror-profile", metavar="NAME", help="For the mirror, if it has its own.")
@server_options
@json_option
def verify(
    subject: str,
    remote: bool,
    deep: bool,
    trust: Trust,
    mirror: str | None,
    mirror_endpoint_url: str | None,
    mirror_profile: str | None,
    endpoint_url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """
    Check a version in a bucket, or every byte of a pulled folder; exit 7 if it is damaged.

    Of a bucket, each object that is lost or damaged is named. --repair-from puts right bytes
    back, each checked first; then the exit code is 0 if all is well afterwards.
    """
    from ..bucket import catalog, consume, verifying
    from ..storage import open_bucket

    if not remote and "://" not in subject:
        if trust.keys:
            raise click.UsageError("--trust is for a version in a bucket: signatures lie there")
        if mirror is not None:
            raise click.UsageError("--repair-from mends a bucket: give a reference, or --remote")
        with transfer(quiet=as_json) as on_bytes:
            manifest = consume.verify_folder(Path(subject), on_bytes)
        _say_sound(subject, manifest, "every byte of", as_json)
        return
    if "://" not in subject:
        release = consume.open_release(Path(subject))
        subject = f"{release.remote}/{release.name}@{release.version}"
    ref, bucket = opened(subject, endpoint_url, profile)
    whole = mirror and open_bucket(
        mirror.rstrip("/"),
        endpoint_url=mirror_endpoint_url or endpoint_url,
        profile=mirror_profile or profile,
    )
    if trust.keys:
        catalog.resolve(bucket, ref.name, ref.selector, trust)
    with transfer(quiet=as_json) as on_bytes:
        what = (bucket, ref.name, ref.selector)
        report = verifying.examine(*what, deep=deep, mirror=whole or None, on_bytes=on_bytes)
    if as_json:
        _show_report(report)
        sys.exit(0 if report.is_sound else verifying.failure(bucket, report).exit_code)
    for damage in report.damages:
        click.echo(f"{'repaired: it was ' if damage.mended else ''}{one_line(str(damage))}")
    if report.manifest is None or not report.is_sound:
        raise verifying.failure(bucket, report)
    looked = "every byte of" if deep else "sizes and kept checksums of"
    _say_sound(subject, report.manifest, looked, as_json)


def _show_report(report: Report) -> None:
    from dataclasses import asdict

    manifest = report.manifest
    show_json(
        {
            "status": "sound" if report.is_sound else "damaged",
            "root": report.root,
            "objects": report.objects,
            "files": len(manifest.entries) if manifest is not None else None,
            "bytes": manifest.size if manifest is not None else None,
            "damages": [asdict(d) for d in report.damages],
            "unseen": list(report.unseen),
        }
    )


def _say_sound(subject: str, manifest: Manifest, looked: str, as_json: bool) -> None:
    files, size = len(manifest.entries), manifest.size
    if as_json:
        show_json({"status": "sound", "root": manifest.root, "files": files, "bytes": size})
        return
    click.echo(f"{subject} is sound {manifest.root}")
    say(f"checked {looked} {files} files, {size:,} bytes")


COMMANDS = [push, pull, list_, show, verify]


def opened(
    text: str, endpoint_url: str | None, profile: str | None, *, bare: bool = False
) -> tuple[Reference, Bucket]:
    """A reference and its bucket; `bare` where no @version may follow the name."""
    from ..errors import UsageError
    from ..storage import open_bucket
    from ..versions.version import Reference

    ref = Reference.parse(text)
    if bare and "@" in text.rpartition("/")[2]:
        raise UsageError("here goes REMOTE/NAME without @", hint="see --version, or `show`")
    return ref, open_bucket(ref.remote, endpoint_url=endpoint_url, profile=profile)


def _proposal(bucket: Bucket, name: str, tree: Path, as_json: bool) -> Proposal:
    """The number that the content of a release calls for; says why."""
    from ..bucket import comparing

    with progress("images", quiet=as_json) as on_image:
        found = comparing.propose(bucket, name, tree, on_image)
    kind = f"a {found.level} version after {found.since}: " if found.level else ""
    say(f"{name} {found.version}: {kind}{'; '.join(found.reasons)}")
    return found


def _counts(plan: Plan, moved: str, kept: str) -> dict[str, Any]:
    return {
        moved: {"files": len(plan.move), "bytes": plan.move_bytes},
        kept: {"files": len(plan.keep), "bytes": plan.keep_bytes},
        "requests": plan.requests,
        "transfer": plan.transfer,
    }


def _say_cost(plan: Plan, request: float, byte: float = 0.0) -> None:
    cost = plan.requests * request + plan.transfer * byte
    say(
        f"that is {plan.requests} requests and {plan.transfer:,} bytes for files, and a few for "
        f"lists: ${cost:.4f} on AWS S3, us-east-1"
    )


def _say_plan(plan: Plan, moved: str, kept: str) -> None:
    before = f"{len(plan.cached)} files, {plan.cached_bytes:,} bytes from the cache; "
    say(
        f"{moved} {len(plan.move)} files, {plan.move_bytes:,} bytes; "
        f"{before if plan.cached else ''}"
        f"{len(plan.keep)} files, {plan.keep_bytes:,} bytes {kept}"
    )


def _told(status: Status | None) -> list[str]:
    from ..names import printable

    return [] if status is None or status.state == "active" else [printable(str(status))]


def _plain(status: Status | None) -> dict[str, Any]:
    import msgspec

    return {} if status is None else {"status": msgspec.to_builtins(status)}
