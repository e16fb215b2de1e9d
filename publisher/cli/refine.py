"""The command that refines masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .talk import device_option, json_option, progress, say, show_json, show_tallies, table

if TYPE_CHECKING:
    from ..refining import Refinement

_existing = click.Path(exists=True, path_type=Path)
_new = click.Path(path_type=Path)
_MOST = 8  # findings that are told


@click.command()
@click.argument("path", type=_existing)
@click.option("-o", "--out", required=True, type=_new, help="The working dataset to write.")
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME|PATH",
    help="Models or files of weights, of which several vote: repeat it, or put commas between. "
    "Default: the models that ship.",
)
@device_option
@click.option(
    "--calibrate",
    is_flag=True,
    help="First see, on segments marked as verified, how sure a network must be here.",
)
@click.option("--dry-run", is_flag=True, help="Only look and report; write no dataset.")
@click.option("--metrics", type=_new, help="Also write the counts to this JSON file.")
@click.option("--plot", type=_new, help="Also write segments by reason to this JSON file.")
@click.option("--report", type=_new, help="Also write a contact sheet and a line an object here.")
@json_option
def refine(
    path: Path,
    out: Path,
    weights: tuple[str, ...],
    device: str,
    calibrate: bool,
    dry_run: bool,
    metrics: Path | None,
    plot: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """
    Make masks hug their objects where outlines were drawn coarsely.

    What is not clearly better stays as it was. Killed and started again, it goes on.
    """
    from .. import refining
    from ..files import canonical_json, write_atomic

    with progress("refining", quiet=as_json) as on_image:
        done = refining.run(
            path,
            out,
            weights=[name for said in weights for name in said.split(",") if name],
            device=device,
            calibrate=calibrate,
            dry_run=dry_run,
            report=report,
            on_image=on_image,
        )
    if metrics is not None:
        write_atomic(metrics, canonical_json(done.to_json(), indent=1))
    if plot is not None:
        write_atomic(plot, canonical_json(done.rows(), indent=1))
    if as_json:
        findings = [str(f) for f in done.findings]
        show_json({**done.to_json(), "dry_run": dry_run, "findings": findings})
    else:
        _show(done)
        sheet = f"; see {report / refining.SHEET}" if report is not None else ""
        say(f"{out}: {'not written, this was a dry run' if dry_run else 'written'}{sheet}")


COMMANDS = [refine]


def _show(done: Refinement) -> None:
    show_tallies(done.counted, done.kept)
    click.echo()
    rows = [(reason, str(n)) for reason, n in done.reasons.items()]
    for line in table(("outlines", "segments"), rows):
        click.echo(line)
    if (found := done.calibration) is not None:
        enough = "" if found.vouched else ": too few to vouch for it"
        say(
            f"note: on {found.objects} verified objects, harm is at most {found.harm:.1%} where "
            f"confidence is {found.confidence:.2f} or more{enough}"
        )
    if done.known:
        say(f"note: {done.known} images were answered before")
    for item in done.items:
        say(f"note: {item}")
    for finding in done.findings[:_MOST]:
        say(str(finding))
    if len(done.findings) > _MOST:
        say(f"... and {len(done.findings) - _MOST:,} more pictures that were not looked at")
