"""Commands on networks: train."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import click

from .talk import json_option, progress, say, show_json

_existing = click.Path(exists=True, path_type=Path)
_new = click.Path(dir_okay=False, path_type=Path)


@click.group()
def ritm() -> None:
    """Networks that refine masks: train them."""


@ritm.command()
@click.argument("datasets", nargs=-1, type=_existing)
@click.option("-o", "--out", required=True, type=_new, help="The safetensors file to write.")
@click.option(
    "--network",
    type=click.Choice(["boundary", "clicks"]),
    default="boundary",
    show_default=True,
    help="boundary moves outlines; clicks is RITM's network, small.",
)
@click.option("--photos", type=_existing, help="Pictures to cut shapes from: exact outlines.")
@click.option("--from", "start", metavar="WEIGHTS", help="Tune these, by name or path.")
@click.option("--steps", type=click.IntRange(1), default=3000, show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Highest learning rate.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@json_option
def train(
    datasets: tuple[Path, ...],
    out: Path,
    network: str,
    photos: Path | None,
    start: str | None,
    steps: int,
    rate: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Learn from datasets with precise masks; run again to go on where it was stopped."""
    from .. import training

    request = training.Request(cast("training.Kind", network), steps, seed, start, rate)
    with progress("steps", quiet=as_json) as on_step:
        trained = training.run(datasets, photos, out, request, on_step=on_step)
    if as_json:
        facts = {"path": str(trained.path), "sha256": trained.digest, "examples": trained.examples}
        show_json({**facts, "loss": None if math.isnan(trained.loss) else trained.loss})
        return
    click.echo(f"{trained.digest}  {trained.path}")
    say(f"{steps} steps over {trained.examples} examples; loss {trained.loss:.3f}")


COMMANDS = [ritm]
