"""
A real S3 server on this machine: SeaweedFS, or moto's where it has no binary.

For the demo and for trying things out; everything listens on loopback only.

    with serve(Path("demo/s3")) as server:
        os.environ.update(server.environment)
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY = "demo", "demo-secret"  # of a server that only this machine can reach
BUCKET = "publisher-demo"


@dataclass(frozen=True)
class Server:
    """Where the server listens, and what boto3 needs to know of it."""

    kind: str
    endpoint: str
    process: int  # its number

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which boto3, and so publisher, talk to this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def weed() -> str | None:
    """SeaweedFS's binary beside this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def serve(
    data: Path, *, gentle: bool = True, identities: Sequence[Mapping[str, Any]] = ()
) -> Iterator[Server]:
    """
    Run a server with one bucket, BUCKET, until the block ends; `data` stays.

    Args:
        gentle: let SeaweedFS close its files, which takes some seconds; without it the server
            is killed, as tests do.
        identities: who may do what, beside the owner; see SeaweedFS's `s3.config`. moto lets
            everybody do everything.
    """
    data.mkdir(parents=True, exist_ok=True)
    base = _free_ports(8)
    binary = weed()
    command = _weed_command(binary, data, base, identities) if binary else _moto_command(base + 6)
    with (data / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    kind = "SeaweedFS" if binary else "moto"
    server = Server(kind, f"http://127.0.0.1:{base + 6}", process.pid)
    try:
        _wait_until_ready(server, process, data / "server.log")
        yield server
    finally:
        _stop(process, gentle)


def client(server: Server) -> Any:
    """A boto3 client of the server."""
    import boto3
    from botocore.config import Config

    config = Config(
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
        connect_timeout=2,
        read_timeout=10,
    )
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=config,
    )


def _weed_command(
    binary: str, data: Path, base: int, identities: Sequence[Mapping[str, Any]]
) -> list[str]:
    owner = {
        "name": "demo",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    config = data / "s3.json"
    config.write_text(json.dumps({"identities": [owner, *identities]}))
    ports = {"master.port": 0, "volume.port": 2, "filer.port": 4, "s3.port": 6}
    return [
        binary,
        "-logtostderr=true",
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{name}={base + offset}" for name, offset in ports.items()),
        *(f"-{name}.grpc={base + offset + 1}" for name, offset in ports.items()),
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=100",
        "-volume.preStopSeconds=0",
        "-filer",
        "-s3",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={config}",
    ]


def _moto_command(port: int) -> list[str]:
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def _free_ports(count: int) -> int:
    """
    The first of `count` ports in a row that nobody uses.

    Not one of those that clients are given: of thousands of these, each stays taken for a minute
    after its connection is closed.
    """
    for _ in range(100):
        base = random.SystemRandom().randrange(10_240, 32_768 - count)
        if all(_is_free(base + i) for i in range(count)):
            return base
    raise RuntimeError("no free ports on loopback")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until an object can be written and read: the health page answers too early."""
    s3 = client(server)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{server.kind} ended with {process.returncode}; see {log}")
        with suppress(Exception):
            s3.create_bucket(Bucket=BUCKET)
        with suppress(Exception):
            s3.put_object(Bucket=BUCKET, Key=".ready", Body=b"ready")
            s3.get_object(Bucket=BUCKET, Key=".ready")["Body"].read()
            return
        time.sleep(0.2)
    raise RuntimeError(f"{server.kind} was not ready within two minutes; see {log}")


def _stop(process: subprocess.Popen[bytes], gentle: bool) -> None:
    if gentle:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=40)
            return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
