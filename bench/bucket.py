"""
Push and pull of many small files, against peers, on a SeaweedFS that this script starts.

    python bench/bucket.py                        10,000 files of 20 KB, three rounds
    python bench/bucket.py --files 8 --size 50000000
    python bench/bucket.py --dvc                  also DVC (`dvc[s3]`), which takes minutes
    python bench/bucket.py --memory --files 20000 100000 --size 300
                                                  peak memory, by a folder as bucket

Peers: plain boto3 in 16 threads, and s5cmd where it is on the path. Every tool runs in a process
of its own, start-up included, one after another in each round; time is wall time, CPU is user +
system time of the process, and beside it that of the server, which has the same cores: on two of
them, nobody is quicker than half of the sum. Ratios are of medians. Only publisher hashes what it
fetches; the others believe it. "dvc add" hashes, as our push does. "publisher pull" fills a cache
for later pulls, as it does unless told otherwise; the bare one has none. Then: the same version
pushed again, and one with 1 % more files, with the requests and bytes that went over the wire.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

NOON = "2026-01-01T12:00:00+00:00"


# ── what is moved ────────────────────────────────────────────────────────────────────────────


def make_tree(folder: Path, files: int, size: int, seed: int = 20) -> Path:
    """A release tree of pictures: random bytes, the same for the same seed."""
    import hashlib

    from publisher.versions.manifest import Entry, Manifest

    entries = []
    for n in range(files):
        body = random.Random(seed * 10**9 + n).randbytes(size)
        path = f"train/images/{n // 1000:03}/{n:08}.jpg"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
        entries.append(Entry(path, size, hashlib.sha256(body).hexdigest(), "train"))
    (folder / "manifest.json").write_bytes(Manifest("bench", tuple(entries)).to_bytes())
    return folder


# ── the tools, each in a process of its own ──────────────────────────────────────────────────


def child_tree(folder: str, files: str, size: str) -> dict[str, Any]:
    """Also in a process of its own, for one that begins another passes its own peak on."""
    make_tree(Path(folder), int(files), int(size))
    return {}


def child_push(remote: str, tree: str, version: str) -> dict[str, Any]:
    from publisher.bucket.publish import push

    bucket, counted = _counted(remote)
    pushed = push(bucket, Path(tree), "bench", version, created=NOON)
    return {"status": pushed.status, **counted}


def child_pull(remote: str, out: str, version: str, cache: str = "") -> dict[str, Any]:
    from publisher.bucket.cache import Cache
    from publisher.bucket.consume import pull

    bucket, counted = _counted(remote)
    kept = Cache(Path(cache), 2**40) if cache else None
    pull(bucket, "bench", version, Path(out), cache=kept)
    return dict(counted)


def _counted(remote: str) -> tuple[Any, dict[str, int]]:
    """A bucket that counts its requests and the bytes of their bodies, both ways."""
    from publisher.storage import open_bucket

    bucket: Any = open_bucket(remote)
    counted = {"requests": 0, "sent": 0}
    if remote.startswith("file:"):
        return bucket, counted

    def count(request: Any, **_: Any) -> None:
        counted["requests"] += 1
        counted["sent"] += int(request.headers.get("Content-Length") or 0)

    bucket._client.meta.events.register("before-send.s3", count)
    return bucket, counted


def child_boto3_push(remote: str, tree: str) -> dict[str, Any]:
    client, name, prefix = _client(remote)
    root = Path(tree)
    paths = [p for p in root.rglob("*") if p.is_file()]

    def put(path: Path) -> None:
        key = f"{prefix}/{path.relative_to(root).as_posix()}"
        client.put_object(Bucket=name, Key=key, Body=path.read_bytes())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, paths))
    return {"requests": len(paths)}


def child_boto3_pull(remote: str, out: str) -> dict[str, Any]:
    client, name, prefix = _client(remote)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix + "/")
    keys = [o["Key"] for page in pages for o in page.get("Contents", ())]

    def get(key: str) -> None:
        path = Path(out, key.removeprefix(prefix + "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=name, Key=key)["Body"].read())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(get, keys))
    return {"requests": len(keys)}


def _client(remote: str) -> tuple[Any, str, str]:
    import boto3
    from botocore.config import Config

    name, _, prefix = remote.removeprefix("s3://").partition("/")
    config = Config(max_pool_connections=16, s3={"addressing_style": "path"})
    return boto3.client("s3", config=config), name, prefix


def child_verify(remote: str, deep: str) -> dict[str, Any]:
    from publisher.bucket.verifying import verify_remote

    bucket, counted = _counted(remote)
    verify_remote(bucket, "bench", "1.0.0", deep=deep == "True")
    return dict(counted)


def child_mirror(remote: str, target: str) -> dict[str, Any]:
    from publisher.bucket.mirroring import mirror
    from publisher.storage import open_bucket

    bucket, counted = _counted(remote)
    mirror(bucket, open_bucket(target), "bench")
    return dict(counted)


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    "tree": child_tree,
    "push": child_push,
    "pull": child_pull,
    "verify": child_verify,
    "mirror": child_mirror,
    "boto3-push": child_boto3_push,
    "boto3-pull": child_boto3_pull,
}


def run(*command: object, cwd: Path | None = None) -> dict[str, Any]:
    """Wall and CPU seconds and peak MB of a command, and the JSON that it printed last."""
    before, served = time.perf_counter(), server_cpu()
    process = subprocess.Popen(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd
    )
    out, err = process.stdout, process.stderr
    assert out is not None
    assert err is not None
    with ThreadPoolExecutor(1) as pool:
        errors = pool.submit(err.read)
        text = out.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{command[:4]} failed: {errors.result().decode()[-2000:]}")
    facts = {
        "s": time.perf_counter() - before,
        "cpu": usage.ru_utime + usage.ru_stime,
        "mb": usage.ru_maxrss / 1024,
        "server": server_cpu() - served,
    }
    lines = text.splitlines()
    return {**(json.loads(lines[-1]) if lines and lines[-1][:1] == b"{" else {}), **facts}


def server_cpu() -> float:
    """User + system seconds of the server so far; 0 where nobody says."""
    try:
        fields = (
            Path(f"/proc/{os.environ['BENCH_SERVER']}/stat").read_text().rpartition(")")[2].split()
        )
    except (KeyError, OSError):
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def child(what: str, *arguments: object) -> dict[str, Any]:
    return run(sys.executable, __file__, "--child", what, *arguments)


def s5cmd(*arguments: object) -> dict[str, Any]:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    return run("s5cmd", "--endpoint-url", endpoint, "--numworkers", "64", "cp", *arguments)


# ── the comparison ───────────────────────────────────────────────────────────────────────────


def round_of(remote: str, tree: Path, work: Path, with_dvc: bool) -> dict[str, dict[str, Any]]:
    """Every tool once, up and down, each into a folder of its own."""
    found = {
        "publisher push": child("push", f"{remote}/p", tree, "1.0.0"),
        "publisher pull": child("pull", f"{remote}/p", work / "p", "1.0.0", work / "cache"),
        "publisher bare pull": child("pull", f"{remote}/p", work / "q", "1.0.0"),
        "boto3 push": child("boto3-push", f"{remote}/b", tree),
        "boto3 pull": child("boto3-pull", f"{remote}/b", work / "b"),
    }
    if shutil.which("s5cmd"):
        found["s5cmd push"] = s5cmd(f"{tree}/*", f"{remote}/s/")
        found["s5cmd pull"] = s5cmd(f"{remote}/s/*", f"{work / 's'}/")
    if with_dvc:
        found |= dvc(remote, tree, work)
    for folder in work.iterdir():
        shutil.rmtree(folder)
    return found


def dvc(remote: str, tree: Path, work: Path) -> dict[str, dict[str, Any]]:
    here, there = work / "dvc", work / "dvc2"
    here.mkdir()
    for command in (
        ("init", "--no-scm", "-q"),
        ("remote", "add", "-d", "r", f"{remote}/d"),
        ("remote", "modify", "r", "endpointurl", os.environ["AWS_ENDPOINT_URL"]),
    ):
        run("dvc", *command, cwd=here)
    shutil.copytree(here, there)
    shutil.copytree(tree, here / "data")
    add = run("dvc", "add", "-q", "data", cwd=here)
    up = run("dvc", "push", "-q", cwd=here)
    shutil.copy(here / "data.dvc", there)
    return {"dvc add": add, "dvc push": up, "dvc pull": run("dvc", "pull", "-q", cwd=there)}


def compare(rounds: list[dict[str, dict[str, Any]]]) -> None:
    all_of: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in rounds:
        for tool, facts in one.items():
            for key in ("s", "cpu", "server", "mb"):
                all_of[tool][key].append(facts[key])
    middle = {t: {k: median(v) for k, v in facts.items()} for t, facts in all_of.items()}
    if "dvc add" in middle:
        add, up = middle.pop("dvc add"), middle["dvc push"]
        both = {key: add[key] + up[key] for key in ("s", "cpu", "server")}
        middle["dvc add and push"] = {**both, "mb": max(add["mb"], up["mb"])}
    print(f"{'':20}{'wall s':>8}{'CPU s':>8}{'server':>8}{'peak MB':>9}   publisher is faster by")
    for way in ("push", "pull"):
        ours = middle[f"publisher {way}"]
        for tool in (t for t in middle if t.endswith(way)):
            m = middle[tool]
            ratio = f"{m['s'] / ours['s']:.1f}x (CPU {m['cpu'] / ours['cpu']:.1f}x)"
            told = "" if tool.startswith("publisher") else ratio
            figures = f"{m['s']:8.1f}{m['cpu']:8.1f}{m['server']:8.1f}{m['mb']:9.0f}"
            print(f"{tool:20}{figures}   {told}")


def deltas(remote: str, tree: Path, files: int, size: int, work: Path) -> None:
    """First push, the same again, and 1 % more: what went over the wire."""
    more = work / "more"
    child("tree", more, files + max(1, files // 100), size)
    first = child("push", f"{remote}/delta", tree, "1.0.0")
    rows = {
        "first push": first,
        "the same again": child("push", f"{remote}/delta", tree, "1.0.0"),
        "1 % more files": child("push", f"{remote}/delta", more, "1.1.0"),
    }
    print(
        f"\n{'':18}{'wall s':>8}{'requests':>10}{'of files':>10}{'bytes sent':>14}{'of first':>10}"
    )
    for name, r in rows.items():
        print(
            f"{name:18}{r['s']:8.1f}{r['requests']:10}{r['requests'] / files:10.2%}"
            f"{r['sent']:14,}{r['sent'] / first['sent']:10.2%}"
        )
    shutil.rmtree(work / "more")


def memory(place: Path, tree: Path, work: Path) -> None:
    """What pushing, pulling, verifying and mirroring take at most, in processes of their own."""
    remote, cache = f"file://{place}/bucket", work / "cache"
    steps = {
        "first push": ("push", remote, tree, "1.0.0"),
        "the same again": ("push", remote, tree, "1.0.0"),
        "as another version": ("push", remote, tree, "1.1.0"),
        "first pull": ("pull", remote, work / "a", "1.0.0", cache),
        "into the same folder": ("pull", remote, work / "a", "1.1.0", cache),
        "from the cache": ("pull", remote, work / "b", "1.0.0", cache),
        "verify --remote": ("verify", remote, False),
        "verify --deep": ("verify", remote, True),
        "mirror": ("mirror", remote, f"file://{place}/mirror"),
    }
    print(f"{'':22}{'peak MB':>8}{'CPU s':>8}")
    for name, step in steps.items():
        facts = child(*step)
        print(f"{name:22}{facts['mb']:8.0f}{facts['cpu']:8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--child", nargs="+")
    parser.add_argument("--files", type=int, nargs="+", default=[10_000])
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dvc", action="store_true")
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(CHILDREN[asked.child[0]](*asked.child[1:])))
        return
    import s3_server  # type: ignore[import-not-found]

    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    for files in asked.files:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            tree, work = place / "tree", place / "work"
            work.mkdir()
            child("tree", tree, files, asked.size)
            if asked.memory:
                print(f"{files:,} files of {asked.size:,} bytes, a folder as bucket")
                memory(place, tree, work)
                continue
            with s3_server.serve(place / "s3", gentle=False) as server:
                os.environ.update(server.environment)
                os.environ["BENCH_SERVER"] = str(server.process)
                remote = f"s3://{s3_server.BUCKET}"
                print(f"{files:,} files of {asked.size:,} bytes, {server.kind}")
                each = range(asked.rounds)
                compare([round_of(f"{remote}/{n}", tree, work, asked.dvc) for n in each])
                deltas(f"{remote}/x", tree, files, asked.size, work)


if __name__ == "__main__":
    main()
