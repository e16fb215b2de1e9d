"""Commands on the networks that refine: train, evaluate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from .talk import device_option, json_option, progress, say, show_json, table

if TYPE_CHECKING:
    from ..judging import Figures, Judgement

_existing = click.Path(exists=True, path_type=Path)
_new = click.Path(dir_okay=False, path_type=Path)
_MOST_ROWS = 10  # sets that are shown


@click.group()
def ritm() -> None:
    """Networks that refine masks."""


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
@device_option
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
    device: str,
    as_json: bool,
) -> None:
    """Learn from datasets with precise masks; run again to go on where it was stopped."""
    from .. import training

    request = training.Request(
        cast("training.Kind", network), steps, seed, start, rate, device=device
    )
    with progress("steps", quiet=as_json) as on_step:
        trained = training.run(datasets, photos, out, request, on_step=on_step)
    if as_json:
        facts = {"path": str(trained.path), "sha256": trained.digest, "examples": trained.examples}
        show_json({**facts, "loss": None if math.isnan(trained.loss) else trained.loss})
        return
    click.echo(f"{trained.digest}  {trained.path}")
    say(f"{steps} steps over {trained.examples} examples; loss {trained.loss:.3f}")


@ritm.command()
@click.argument("path", metavar="DATASET", type=click.Path(exists=True, path_type=Path))
@click.option("--weights", multiple=True, help="A name or file; repeatable. Default: what ships.")
@click.option(
    "--level",
    "levels",
    multiple=True,
    help="fine, mild, medium, coarse, biased, shifted or brush; repeatable. Default: all.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the polygons; default 0.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Whole pictures until so many objects a level."
)
@click.option("--noc", is_flag=True, help="Count clicks from nothing instead, as published.")
@click.option("--output", type=click.Path(path_type=Path), help="Write all to this JSON file.")
@click.option("--curve", type=click.Path(path_type=Path), help="Write risk-coverage to this SVG.")
@device_option
@json_option
def evaluate(
    path: Path,
    weights: tuple[str, ...],
    levels: tuple[str, ...],
    seed: int,
    limit: int | None,
    noc: bool,
    output: Path | None,
    curve: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """
    Draw precise masks badly, refine them, and say what is better and what is worse.

    Masks of DATASET are taken for the truth. An object is harmed where its IoU falls by more
    than .005; the interval is at 95 %.
    """
    if noc:
        if levels or curve:
            raise click.UsageError("--noc draws no polygons: no --level, no --curve")
        _clicks(path, weights, device, limit, output, as_json)
        return
    from .. import judging
    from ..files import write_atomic

    make = judging.networks(weights, device)
    with progress("objects", quiet=as_json) as on_object:
        judged = judging.evaluate(
            path, make, levels=levels, seed=seed, limit=limit, on_object=on_object
        )
    if output is not None:
        write_atomic(output, judged.document())
    if curve is not None:
        write_atomic(curve, judged.curve())
    if as_json:
        show_json(judged.to_json())
    else:
        _show(judged)


COMMANDS = [ritm]


def _clicks(
    path: Path,
    weights: tuple[str, ...],
    device: str,
    limit: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from .. import judging
    from ..files import canonical_json, write_atomic

    found = []
    for name in judging.named(weights):
        with progress(f"objects ({name})", quiet=as_json) as on_object:
            clicks = judging.count_clicks(
                path, name, device=device, limit=limit, on_object=on_object
            )
        found.append({"name": name, **clicks.to_json()})
    if output is not None:
        write_atomic(output, canonical_json(found, indent=1))
    if as_json:
        show_json({"noc": found})
        return
    rows = [
        (f["name"], str(f["n"]), f"{f['noc85']:.2f}", f"{f['noc90']:.2f}", str(f["failed90"]))
        for f in found
    ]
    for line in table(("weights", "n", "NoC@85", "NoC@90", "never .90"), rows):
        click.echo(line)


def _show(judged: Judgement) -> None:
    for line in table(
        ("level", "n", "refined", "IoU", "boundary", "gain", "harmed", "95 %", "worst"),
        [(level, *_cells(figures)) for level, figures in judged.levels.items()],
    ):
        click.echo(line)
    say("refined and 95 % (of harm, were the objects independent) in percent; means over all")
    for title, parts in (("set", judged.sets), ("size", judged.sizes)):
        names = list(dict.fromkeys(name for name, _ in parts))
        if len(names) < 2:
            continue
        click.echo("")
        header = (title, *judged.levels)
        shown = names[:_MOST_ROWS]
        rows = [(name, *(_cell(parts.get((name, lv))) for lv in judged.levels)) for name in shown]
        for line in table(header, rows):
            click.echo(line)
        if len(names) > len(shown):
            say(f"note: {len(names) - len(shown)} more in the JSON")
        say(f"by {title}: gain of boundary IoU, and how many were harmed")
    for reason in sorted({why for _, why in judged.skipped}):
        counts = [f"{n} {level}" for (level, why), n in judged.skipped.items() if why == reason]
        say(f"not judged: {reason}: {', '.join(counts)}")


def _cells(f: Figures) -> tuple[str, ...]:
    low, high = f.interval
    return (
        str(f.n),
        f"{100 * f.refined / f.n:.1f}",
        f"{_short(f.before.iou)}->{_short(f.after.iou)}",
        f"{_short(f.before.boundary_iou)}->{_short(f.after.boundary_iou)}",
        _change(f.gain),
        str(f.harmed),
        f"{100 * low:.1f}-{100 * high:.1f}",
        _change(f.worst),
    )


def _short(share: float) -> str:
    """A share from 0 to 1, without the 0."""
    return f"{share:.3f}".removeprefix("0")


def _change(by: float) -> str:
    """A change by less than 1, without the 0."""
    return f"{by:+.3f}".replace("0.", ".", 1)


def _cell(f: Figures | None) -> str:
    return "" if f is None else f"{_change(f.gain)} {f.harmed}"
