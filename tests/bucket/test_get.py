"""get.py, as people without publisher run it: a file of its own, in a bare Python."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

from publisher.bucket.publish import push
from publisher.storage import LocalBucket
from tests.trees import FILES, make_tree, manifest, read_tree

NOON = "2026-01-01T12:00:00+00:00"


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server of a folder that knows ranges, as S3 does, and counts requests."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        Ranges.asked.append(self.path)
        path = Path(self.directory, unquote(self.path).lstrip("/"))
        if not path.is_file():
            self.send_error(404)
            return
        body, status = path.read_bytes(), 200
        if wanted := self.headers.get("Range"):
            start, stop = wanted.removeprefix("bytes=").split("-")
            body, status = body[int(start) : int(stop) + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(params=["plain", "packs"])
def bucket(request, tmp_path) -> Path:
    files = {"train/images/copy.jpg": FILES["train/images/000001.jpg"], "val/empty": b""}
    tree = make_tree(tmp_path / "tree", files)
    bucket = LocalBucket(tmp_path / "bucket")
    push(bucket, tree, "hands", "1.0.0", created=NOON, layout=request.param)
    return tmp_path / "bucket"


@pytest.fixture(params=["http", "file"])
def base(request, bucket):
    if request.param == "file":
        yield bucket.as_uri()
        return
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Ranges, directory=bucket)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def get(bucket: Path, base: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the get.py that lies in the bucket; -I: without anything of ours to import."""
    script = bucket / "datasets/hands/v1.0.0/get.py"
    command = [sys.executable, "-I", script, f"{base}/datasets/hands/v1.0.0", *arguments]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def test_it_fetches_the_tree_and_says_its_root(bucket, base, tmp_path):
    done = get(bucket, base, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    tree = read_tree(tmp_path / "tree")
    assert read_tree(tmp_path / "out") == tree
    assert f" {manifest(tree).root}: " in done.stdout


def test_one_split(bucket, base, tmp_path):
    assert get(bucket, base, "--split", "val", "-o", tmp_path / "out").returncode == 0
    there = set(read_tree(tmp_path / "out"))
    assert there == {p for p in read_tree(tmp_path / "tree") if "train" not in p}
    unknown = get(bucket, base, "--split", "tets", "-o", tmp_path / "out")
    assert unknown.returncode == 2
    assert "train, val" in unknown.stderr


def test_it_goes_on_and_mends(bucket, base, tmp_path):
    out = tmp_path / "out"
    get(bucket, base, "-o", out)
    (out / "README.md").write_bytes(b"scribbled")
    (out / "val/images/000003.jpg").unlink()
    Ranges.asked.clear()
    assert get(bucket, base, "-o", out).returncode == 0
    assert read_tree(out) == read_tree(tmp_path / "tree")
    lists = ("/manifests/", "/index/", "/status/")
    assert sum(not any(part in p for part in lists) for p in Ranges.asked) <= 3


def test_wrong_bytes_are_named_and_not_installed(bucket, base, tmp_path):
    (victim,) = (p for p in bucket.rglob("*") if p.is_file() and b"third picture" in p.read_bytes())
    victim.write_bytes(victim.read_bytes().replace(b"third picture", b"third pictURE"))
    failed = get(bucket, base, "-o", tmp_path / "out")
    assert failed.returncode == 1
    assert "wrong bytes for val/images/000003.jpg" in failed.stderr
    assert not (tmp_path / "out/val/images/000003.jpg").exists()


def test_a_damaged_list_ends_it(bucket, base, tmp_path):
    for path in (bucket / "index").iterdir():
        path.write_bytes(path.read_bytes() + b"!")
    failed = get(bucket, base, "-o", tmp_path / "out")
    assert failed.returncode == 1
    assert ".idx is damaged" in failed.stderr


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../x", "a//x", "a\\x", "C:x", "a\x00", "a/.", ""]
)
def test_names_that_could_harm_are_refused(tmp_path, name):
    from publisher.bucket import get as script

    with pytest.raises(SystemExit):
        script._target(tmp_path, name)
    assert script._target(tmp_path, "a/..b/ä .jpg").name == "ä .jpg"


def test_sha256sum_and_plain_addresses_do_without_it(bucket):
    folder = bucket / "datasets/hands/v1.0.0"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = dict(reversed(line.split("  ", 1)) for line in lines)
    assert len(sums) == len(FILES) + 1
    urls = (folder / "urls.txt").read_text().splitlines()
    bodies = [(folder / unquote(url)).read_bytes() for url in urls]
    assert all((folder / unquote(url)).is_file() for url in urls)
    if (folder / "README.md").exists():  # a plain tree
        digests = {hashlib.sha256(body).hexdigest() for body in bodies}
        assert digests == set(sums.values())
        checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder)
        assert checked.returncode == 0
