"""Fixtures that start something once for the whole run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from .servers import IDENTITIES, need_seaweedfs, s3_server


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A SeaweedFS server with one bucket and IDENTITIES; see examples/s3_server.py."""
    need_seaweedfs()
    home = tmp_path_factory.mktemp("seaweedfs")
    with s3_server().serve(home, gentle=False, identities=IDENTITIES) as server:
        yield server


@pytest.fixture
def s3_remote(seaweedfs: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty remote on the server, with credentials in the environment."""
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server().BUCKET}/{secrets.token_hex(8)}"
