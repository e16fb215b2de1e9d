"""Where these tests publish to."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import WHERE


@pytest.fixture(params=WHERE)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty remote on a real server, or in a folder."""
    if request.param == "folder":
        return f"file://{tmp_path}/bucket"
    return str(request.getfixturevalue("s3_remote"))


@pytest.fixture
def where(remote: str) -> str:
    """What figures call it."""
    return "a folder" if remote.startswith("file:") else "SeaweedFS"
