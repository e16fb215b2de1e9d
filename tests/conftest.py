"""Fixtures that start something once for the whole run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from publisher.storage import Bucket, LocalBucket, MemoryBucket, open_bucket

from .servers import IDENTITIES, moto_bucket, need_seaweedfs, s3_server


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A SeaweedFS server with one bucket and IDENTITIES; see examples/s3_server.py."""
    need_seaweedfs()
    home = tmp_path_factory.mktemp("seaweedfs")
    with s3_server().serve(home, gentle=False, identities=IDENTITIES) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_of_mine_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulls of tests neither use nor fill the cache of whoever runs them."""
    monkeypatch.setenv("PUBLISHER_CACHE_GIB", "0")


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Calls the command line, and expects an exit code."""
    from publisher.cli import main

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def s3_remote(seaweedfs: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty remote on the server, with credentials in the environment."""
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server().BUCKET}/{secrets.token_hex(8)}"


@pytest.fixture(params=["memory", "local", "moto", "seaweedfs"])
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Bucket]]:
    """Opens the same bucket as often as it is called, as two maintainers would."""
    if request.param == "memory":
        bucket = MemoryBucket()
        yield lambda: bucket
    elif request.param == "local":
        yield lambda: LocalBucket(tmp_path / "bucket")
    elif request.param == "moto":
        with moto_bucket(monkeypatch) as s3:
            yield lambda: s3
    else:
        remote = request.getfixturevalue("s3_remote")
        yield lambda: open_bucket(remote)
