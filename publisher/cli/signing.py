"""Options of commands that sign, and of commands that ask for signatures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

_file = click.Path(path_type=Path)
_key = click.option(
    "--key",
    "key_files",
    type=_file,
    multiple=True,
    metavar="FILE",
    envvar="PUBLISHER_KEY",
    show_envvar=True,
    help="Sign with this private key; repeatable.",
)
_expires = click.option(
    "--expires",
    "days",
    type=click.IntRange(0, 3650),
    metavar="DAYS",
    help="When the channel is to be signed again, for those who pin a key; 0 is never.",
)
_trust = click.option(
    "--trust",
    "public_keys",
    multiple=True,
    metavar="KEY",
    help="Take only what this public key has signed; repeatable, and one is enough.",
)


def signing_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--key`; the command gets `signers`."""

    @wraps(command)
    def run(key_files: tuple[Path, ...], days: int | None = None, **rest: Any) -> None:
        from .. import keys
        from ..bucket.trust import Signers

        command(signers=Signers(keys.read_all(key_files), _moment(days)), **rest)

    return _key(run)


def channel_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--key` and `--expires`; the command gets `signers`."""
    return _expires(signing_options(command))


def trust_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--trust`; the command gets `trust`."""

    @wraps(command)
    def run(public_keys: tuple[str, ...], **rest: Any) -> None:
        from ..bucket.trust import Trust

        command(trust=Trust.of(public_keys), **rest)

    return _trust(run)


def _moment(days: int | None) -> str | None:
    from datetime import UTC, datetime, timedelta

    from ..bucket.trust import NEVER

    if not days:
        return None if days is None else NEVER
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")
