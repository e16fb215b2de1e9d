"""Commands on datasets: import, validate, split, convert, build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from .talk import json_option, progress, say, show_json, table

if TYPE_CHECKING:
    from ..card import Card
    from ..conservation import Tally
    from ..intake import Intake
    from ..panoptic import Overlap
    from ..release import Built
    from ..validate import Finding

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
    from .. import intake

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
@click.option("--fix", is_flag=True, help="Apply all safe fixes; needs -o.")
@click.option("-o", "--out", type=_new, help="Where --fix writes the mended dataset.")
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave a rule out; repeatable.")
@click.option("--metrics", type=_new, help="Also write the counts to this JSON file.")
@json_option
def validate(
    path: Path,
    format_name: str | None,
    fix: bool,
    out: Path | None,
    strict: bool,
    ignore: tuple[str, ...],
    metrics: Path | None,
    as_json: bool,
) -> None:
    """Check a dataset; exit 3 where it should not be published."""
    from .. import checking
    from ..files import canonical_json, write_atomic
    from ..validate import summary

    if fix != (out is not None):
        raise click.UsageError("--fix and -o DIR go together")
    with progress("images", quiet=as_json) as on_image:
        checked = checking.run(path, format_name, ignore=ignore, mend_to=out, on_image=on_image)
    findings = checked.findings
    counts = summary(findings)
    if metrics is not None:
        write_atomic(metrics, canonical_json(counts, indent=1))
    if as_json:
        show_json(
            {
                **counts,
                "looked_at_pictures": checked.looked,
                "findings": [checking.to_json(f) for f in findings],
            }
        )
    else:
        _show_findings(findings, counts)
        if not checked.looked and not any(f.code.startswith("J") for f in findings):
            say("note: there are no pictures here, so pictures were not looked at")
    sys.exit(3 if counts["error"] or (strict and counts["warning"]) else 0)


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
    from .. import dealing

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
    from .. import conversion

    plan = conversion.plan(path, target, format_name, images)
    if not as_json:
        for shortfall in plan.shortfalls:
            say(f"{target} keeps {shortfall}")
    converted = conversion.run(plan, out, cast("Overlap | None", overlap))
    if as_json:
        shortfalls = [{"trait": s.trait, "count": s.count} for s in plan.shortfalls]
        show_json({"cannot_hold": shortfalls, **converted.to_json()})
        return
    _show_tallies(converted.counted, converted.kept)
    for note in (*plan.source.notes, *converted.items):
        say(f"note: {note}")
    say(f"{out}: {target}; every difference above has its reason")


@click.command()
@click.argument("path", type=_existing)
@click.option("-o", "--out", required=True, type=_new, help="The release tree to write.")
@_card_option
@_overlap_option
@click.option("--metrics", type=_new, help="Also write counts to this JSON file.")
@click.option("--plot", type=_new, help="Also write segments a class to this JSON file.")
@json_option
def build(
    path: Path,
    out: Path,
    card_path: Path | None,
    overlap: str | None,
    metrics: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Make the release tree: instances, panoptic, pictures, card, manifest."""
    from .. import provenance, release, workspace
    from ..card import bare
    from ..files import canonical_json, write_atomic

    dataset = workspace.read(path)
    card = _card(card_path) or bare(dataset.name)
    with progress("images", quiet=as_json) as on_image:
        built = release.build(
            dataset,
            out,
            card,
            overlap=cast("Overlap | None", overlap),
            provenance=provenance.gather(dataset, Path.cwd()),
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
    _show_tallies(taken.counted, taken.kept)
    for item in taken.items:
        say(f"note: {item}")
    for old, new in taken.renames:
        say(f"renamed: {old} -> {new}")
    for note in taken.notes:
        say(f"note: {note}")
    say(f"{out}: every difference above has its reason; kept in {out / 'import.json'}")


def _show_tallies(counted: Tally, kept: Tally) -> None:
    rows = [
        ("images", str(counted.images), str(kept.images)),
        ("segments", str(counted.segments), str(kept.segments)),
    ]
    classes = sorted({*counted.pixels, *kept.pixels})
    pixels = [(n, counted.pixels.get(n, 0), kept.pixels.get(n, 0)) for n in classes]
    rows += [(f"pixels {n}", str(a), str(b)) for n, a, b in pixels if a or b]
    for line in table(("", "in", "out"), rows):
        click.echo(line)


def _show_findings(findings: list[Finding], counts: dict[str, Any], most: int = 200) -> None:
    from ..names import printable

    worst_first = sorted(findings, key=lambda f: ("error", "warning", "info").index(f.severity))
    for finding in worst_first[:most]:
        click.echo(printable(str(finding)))
    if len(findings) > most:
        say(f"... and {len(findings) - most} more; --json lists all")
    for code, n in counts["rules"].items():
        say(f"{n:6} {code}  {_title(code)}")
    say(f"{counts['error']} errors, {counts['warning']} warnings, {counts['info']} infos")


def _title(code: str) -> str:
    from ..validate import RULES

    return RULES[code].title if code in RULES else ""


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
