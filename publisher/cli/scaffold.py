"""Command `init`: a maintainer's own repository."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Lay out a dataset's repository: dvc.yaml, params.yaml, dataset.yaml, .gitignore."""
    from ..stages import scaffold

    for path in scaffold.lay_out(folder):
        click.echo(path)
    click.echo(f"next: read {folder / 'README.md'}", err=True)


COMMANDS = [init]
