"""Commands on datasets: import, validate, split, convert, build."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from .talk import json_option, progress, say, show_json, show_parts, show_tallies, table

if TYPE_CHECKING:
    from ..card import Card
    from ..panoptic import Overlap
    from ..stages.checking import Checked
    from ..stages.intake import Intake
    from ..stages.release import Built

_LINES = 20  # of one kind
_existing = click.Path(exists=True, path_type=Path)
_new = click.Path(path_type=Path)
_card_option = click.option(
    "--card", "card_path", type=_existing, help="The maintainer's dataset.yaml."
)
_overlap_option = click.option(
    "--overlap",
    type=click.Choice(["fail", "z-order", "smaller-on-top"]),
    help="Who wins pixels that several segments claim. "
    "Default: z-order where the source has one, else fail.",
)


@click.command("import")
@click.argument("sources", nargs=-1, required=True, type=_existing)
@click.option("-o", "--out", required=True, type=_new, help="The working dataset to write.")
@click.option("--format", "format_name", help="Format of the sources; told by content otherwise.")
@click.option("--images", type=_existing, help="Where pictures are that an export lacks.")
@_card_option
@json_option
def import_(
    sources: tuple[Path, ...],
    out: Path,
    format_name: str | None,
    images: Path | None,
    card_path: Path | None,
    as_json: bool,
) -> None:
    """Take exports of annotation tools into a working dataset, and account for everything."""
    from ..stages import intake

    with progress("pictures", quiet=as_json) as on_image:
        taken = intake.take_in(
            sources,
            out,
            format_name=format_name,
            images=images,
            card=_card(card_path),
            on_image=on_image,
        )
    if as_json:
        show_json(taken.to_json())
    else:
        _show_intake(taken, out)


@click.command()
@click.argument("path", type=_existing)
@click.option("--format", "format_name", help="Format; told by content otherwise.")
@click.option("--select", multiple=True, metavar="CODES", help="Only these rules: P411, P4 or P.")
@click.option("--ignore", multiple=True, metavar="CODES", help="Leave these out; goes before.")
@click.option("--fix", is_flag=True, help="Apply all safe fixes; needs -o.")
@click.option("-o", "--out", type=_new, help="Where --fix writes the mended dataset.")
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.option("--against", type=_existing, help="An earlier version to hold it against.")
@click.option("--lock", type=_existing, help="The splits.lock that it should follow.")
@click.option("--ratios", help="The shares that its splits should have, as for split.")
@click.option("--baseline", type=_existing, help="Accepted findings; only new ones count.")
@click.option("--write-baseline", type=_new, help="Accept all findings, in this file.")
@click.option(
    "--report",
    type=_new,
    multiple=True,
    help="Also write .html, .sarif, .json or .txt; repeatable.",
)
@click.option("--metrics", type=_new, help="Also write the counts to this JSON file.")
@json_option
def validate(
    path: Path,
    format_name: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fix: bool,
    out: Path | None,
    strict: bool,
    against: Path | None,
    lock: Path | None,
    ratios: str | None,
    baseline: Path | None,
    write_baseline: Path | None,
    report: tuple[Path, ...],
    metrics: Path | None,
    as_json: bool,
) -> None:
    """Check a dataset; exit 3 where it should not be published."""
    from .. import report as reports
    from ..files import canonical_json, write_atomic
    from ..stages import checking
    from ..validate import summary, totals

    if fix != (out is not None):
        raise click.UsageError("--fix and -o DIR go together")
    for name in report:
        reports.render([], name.name, "")  # before the work, not after it
    request = checking.Request(_codes(select), _codes(ignore), against, lock, ratios, baseline)
    with progress("images", quiet=as_json) as on_image:
        checked = checking.run(path, format_name, request=request, mend_to=out, on_image=on_image)
    findings = checked.findings
    counts = totals(findings)
    for name in report:
        parts = reports.render(findings, name.name, f"Validation of {path.name}")
        write_atomic(name, map(str.encode, parts))
    if metrics is not None:
        write_atomic(metrics, canonical_json(counts, indent=1))  # a table of `dvc metrics show`
    if as_json:
        document = {
            **summary(findings),
            "looked_at_pictures": checked.looked,
            "accepted": len(checked.accepted),
            "stale": reports.entries(checked.stale),
            "findings": [],
        }
        show_parts(reports.filled(document, "findings", map(reports.plain, findings)))
    else:
        _show_findings(checked)
    if write_baseline is not None and checked.all_read:
        accepted = reports.baseline(chain(checked.accepted, findings))
        write_atomic(write_baseline, map(str.encode, accepted))
        say(f"{write_baseline}: all findings are accepted from now on")
        return
    failed = counts["error"] or (strict and counts["warning"]) or not checked.all_read
    sys.exit(3 if failed else 0)


@click.command()
@click.argument("path", type=_existing)
@click.option("-o", "--out", required=True, type=_new, help="The working dataset to write.")
@click.option("--ratios", default="train=0.8,val=0.1,test=0.1", show_default=True)
@click.option(
    "--lock",
    type=_new,
    default=Path("splits.lock"),
    show_default=True,
    help="Remembers every assignment; keep it in git.",
)
@json_option
def split(path: Path, out: Path, ratios: str, lock: Path, as_json: bool) -> None:
    """Deal images to splits; what was dealt once never moves."""
    from ..stages import dealing

    dealt = dealing.run(path, out, ratios, lock)
    if as_json:
        show_json({"images": dealt.images, "new_groups": dealt.new})
        return
    for line in table(("split", "images"), [(n, str(k)) for n, k in dealt.images.items()]):
        click.echo(line)
    say(f"{lock}: {dealt.new} new group(s) assigned, {dealt.old} stay where they were")


@click.command()
@click.argument("path", type=_existing)
@click.option("--to", "target", required=True, help="Format to write; docs/formats.md lists all.")
@click.option("-o", "--out", required=True, type=_new, help="Folder to write.")
@click.option("--format", "format_name", help="Format of PATH; told by content otherwise.")
@click.option("--images", type=_existing, help="Where pictures are, if PATH does not know sizes.")
@_overlap_option
@json_option
def convert(
    path: Path,
    target: str,
    out: Path,
    format_name: str | None,
    images: Path | None,
    overlap: str | None,
    as_json: bool,
) -> None:
    """Rewrite annotations in another format, and account for every difference."""
    from ..stages import conversion

    plan = conversion.plan(path, target, format_name, images)
    if not as_json:
        for shortfall in plan.shortfalls:
            say(f"{target} cannot hold {shortfall}")
    converted = conversion.run(plan, out, cast("Overlap | None", overlap))
    if as_json:
        shortfalls = [{"trait": s.trait, "count": s.count} for s in plan.shortfalls]
        notes = list(plan.source.notes)
        show_json({"cannot_hold": shortfalls, **converted.to_json(), "notes": notes})
        return
    show_tallies(converted.counted, converted.kept)
    for item in converted.items:
        say(f"note: {item}")
    _show_some([f"note: {n}" for n in plan.source.notes])
    say(f"{out}: {target}; every difference above has its reason")


@click.command()
@click.argument("path", type=_existing)
@click.option("-o", "--out", required=True, type=_new, help="The release tree to write.")
@_card_option
@_overlap_option
@click.option("--changelog", type=_existing, help="Becomes CHANGELOG.md; see `diff --changelog`.")
@click.option("--metrics", type=_new, help="Also write counts to this JSON file.")
@click.option("--plot", type=_new, help="Also write segments a class to this JSON file.")
@json_option
def build(
    path: Path,
    out: Path,
    card_path: Path | None,
    overlap: str | None,
    changelog: Path | None,
    metrics: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Make the release tree: instances, panoptic, pictures, card, manifest."""
    from .. import provenance, workspace
    from ..card import bare
    from ..files import canonical_json, write_atomic
    from ..stages import release

    dataset = workspace.read(path)
    card = _card(card_path) or bare(dataset.name)
    with progress("images", quiet=as_json) as on_image:
        built = release.build(
            dataset,
            out,
            card,
            overlap=cast("Overlap | None", overlap),
            provenance=provenance.gather(dataset, Path.cwd()),
            changelog=changelog.read_text("utf-8") if changelog is not None else None,
            on_image=on_image,
        )
    numbers = built.stats.to_json()
    if metrics is not None:
        few = {k: v for k, v in numbers.items() if k != "classes"}  # `dvc metrics show` is a table
        write_atomic(metrics, canonical_json(few, indent=1))
    if plot is not None:
        classes = numbers["classes"].items()
        rows = [{"class": name, "segments": c["segments"]} for name, c in classes]
        write_atomic(plot, canonical_json(rows, indent=1))
    if as_json:
        show_json({"root": built.manifest.root, **numbers})
    else:
        _show_built(built, out)


COMMANDS = [import_, validate, split, convert, build]


def _card(path: Path | None) -> Card | None:
    from .. import card

    return card.parse(path.read_bytes(), str(path)) if path else None


def _show_intake(taken: Intake, out: Path) -> None:
    show_tallies(taken.counted, taken.kept)
    for item in taken.items:
        say(f"note: {item}")
    _show_some([f"renamed: {old} -> {new}" for old, new in taken.renames])
    for note in taken.notes:
        say(f"note: {note}")
    say(f"{out}: every difference above has its reason; kept in {out / 'import.json'}")


def _show_some(lines: Sequence[str]) -> None:
    """What may be a line an image: a terminal takes some of it."""
    for line in lines[:_LINES]:
        say(line)
    if len(lines) > _LINES:
        say(f"and {len(lines) - _LINES:,} more; --json tells all")


def _codes(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip().upper() for said in given for code in said.split(",") if code.strip())


def _show_findings(checked: Checked) -> None:
    from ..report import brief

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines, talk = brief(checked.findings)
    for line in lines:
        click.echo(_cut(line, width))
    if checked.accepted or checked.stale:
        talk += _accepted(checked)
    if not checked.looked and checked.all_read:
        talk.append("note: there are no pictures here, so pictures were not looked at")
    for line in talk:
        say(_cut(line, width))


def _accepted(checked: Checked) -> list[str]:
    told = [f"{len(checked.accepted)} findings are accepted by the baseline"]
    if checked.stale:
        first = checked.stale[0]
        told.append(
            f"{len(checked.stale)} accepted ones are gone, such as {first.code} of "
            f"{first.file or 'the dataset'}: --write-baseline forgets them"
        )
    return told


def _cut(line: str, width: int | None) -> str:
    from rich.cells import cell_len, set_cell_size

    fits = width is None or cell_len(line) <= width
    return line if fits or width is None else set_cell_size(line, width - 1) + "…"


def _show_built(built: Built, out: Path) -> None:
    rows = [(n, str(s.images), str(s.segments)) for n, s in built.stats.splits.items()]
    for line in table(("split", "images", "segments"), rows):
        click.echo(line)
    click.echo(f"root  {built.manifest.root}")
    covered = sum(loss.pixels for _, loss in built.losses)
    if covered:
        say(f"note: panoptic maps hide {covered} px of {len(built.losses)} segments under others")
    for file_name, loss in built.losses:
        if loss.hidden:
            say(f"note: {file_name} segment {loss.segment} is wholly hidden in the panoptic map")
    if built.stripped:
        say(f"note: EXIF and other metadata removed from {built.stripped} pictures, pixels equal")
    say(f"{out}: ready to push")
