"""
No secret is in anything that is produced: output, logs, tracebacks, files, objects.

Canaries stand for the access key, the secret key, the session token and a private signing key.
Each command on buckets runs, with logging at DEBUG, where all is well and where it fails, and
everything that came of it is searched.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

import publisher
from publisher.bucket import sending
from publisher.cli import main
from publisher.errors import PublisherError
from publisher.redaction import redacted
from publisher.storage import open_bucket
from tests.servers import TEAM, moto_bucket, s3_server, secret_of
from tests.signers import secret
from tests.trees import make_tree

ACCESS = "AKIACANARYACCESSKEY7"
SECRET = "wJalrXUtnFEMI/K7MDENG+canary/secret=="
TOKEN = "FwoGZXIvYXdzEJr//////////wEaDcanary/session+token/" + "x9" * 60 + "=="
SIGNING = secret("canary").hex()
PASSWORD = "canary-password-of-a-proxy"


def spellings(text: str) -> set[str]:
    """The ways in which a secret may stand in a file or on a wire."""
    raw = text.encode()
    return {
        text,
        text.upper(),
        text.lower(),
        text[:24],  # the beginning gives enough away
        quote(text, safe=""),
        quote(quote(text, safe=""), safe=""),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        raw.hex(),
        raw.decode("latin-1").encode("utf-16-le").decode("latin-1"),
    }


CANARIES = {
    "access key": spellings(ACCESS) - {ACCESS[:24], ACCESS.lower()} | {ACCESS},
    "secret key": spellings(SECRET),
    "session token": spellings(TOKEN),
    "signing key": spellings(SIGNING) | {base64.b64encode(secret("canary")).decode()},
    "password": spellings(PASSWORD),
}


class Produced:
    """All that came of commands and calls."""

    def __init__(self, home: Path, caplog: pytest.LogCaptureFixture, inputs: set[str]) -> None:
        self._home = home
        self._caplog = caplog
        self._inputs = inputs
        self._texts: list[tuple[str, str]] = []
        self.codes: list[int] = []

    def add(self, where: str, text: str) -> None:
        self._texts.append((where, text))

    def command(self, *arguments: object) -> int:
        """Run one; its output and what it raised is kept."""
        words = [str(a) for a in arguments]
        result = CliRunner().invoke(main, words)
        self.add(f"output of {words[0]}", result.output)
        if result.exception is not None:
            text = "".join(traceback.format_exception(result.exception))
            self.add(f"traceback of {words[0]}", text)
        self.codes.append(result.exit_code)
        return result.exit_code

    def call(self, function: Callable[[], object]) -> BaseException | None:
        """Call a function of the Python API; its traceback is kept, with the objects' reprs."""
        try:
            self.add("repr", repr(function()))
        except Exception as error:
            self.add("traceback", "".join(traceback.format_exception(error)))
            self.add("error", f"{error!r} {error} {getattr(error, 'hint', '')} {vars(error)}")
            return error
        return None

    def search(self, remote: str | None = None) -> None:
        """Find no canary in any of it, nor in any file and object."""
        plain = logging.Formatter("%(name)s %(message)s")
        self.add("log", "\n".join(plain.format(record) for record in self._caplog.records))
        for path in sorted(self._home.rglob("*")):
            self.add("name of a file", str(path))
            if path.is_file() and path.name not in self._inputs:
                self.add(f"file {path.name}", path.read_bytes().decode("latin-1"))
        if remote is not None:
            bucket = open_bucket(remote)
            for found in bucket.list():
                body = bucket.get(found.key).decode("latin-1")
                self.add(f"object {found.key}", f"{found.key} {body}")
        for where, text in self._texts:
            for what, ways in CANARIES.items():
                for way in ways:
                    assert way not in text, f"the {what} is in {where}"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder with a release, a private key, and an AWS configuration that is all canaries."""
    home = tmp_path / "home"
    make_tree(home / "tree")
    make_tree(home / "next", {"README.md": b"better\n"})
    (home / "release.key").write_text(f"ed25519-private:{SIGNING}\n")
    (home / "release.key").chmod(0o600)
    keys = f"aws_access_key_id={ACCESS}\naws_secret_access_key={SECRET}\naws_session_token={TOKEN}"
    (home / "credentials").write_text(f"[default]\n{keys}\n[broken]\naws_access_key_id={ACCESS}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "none"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("PUBLISHER_KEY", str(home / "release.key"))
    monkeypatch.setenv("PUBLISHER_CACHE", str(home / "cache"))
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)  # moto is no server for threads
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def produced(home, caplog) -> Produced:
    caplog.set_level(logging.DEBUG)
    return Produced(home, caplog, {"release.key", "credentials"})


def in_environment(monkeypatch, access=ACCESS, secret=SECRET, token: str | None = TOKEN) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    if token is not None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)


def every_command(produced: Produced, remote: str) -> None:
    """Each command on buckets, as people call it, and as they call it by mistake."""
    target, run = f"{remote}/hands", produced.command
    public = CliRunner().invoke(main, ["keygen", "release.key", "--show"]).stdout.strip()
    run("keygen", "release.key", "--show")
    run("keygen", "release.key")
    run("doctor", remote)
    run("policy", remote)
    run("push", "tree", target, "--version", "1.0.0", "--receipt", "published.json")
    run("push", "tree", target, "--version", "1.0.0", "--json")
    run("push", "next", target, "--version", "1.0.0")  # other content: refused
    run("push", "next", target, "--version", "1.1.0", "--layout", "packs", "--expires", "30")
    run("list", remote)
    run("show", target)
    run("show", f"{target}@9.9.9")
    run("sign", f"{target}@1.0.0")
    run("channel", f"{target}@latest", "latest", "--refresh", "--expires", "9")
    run("channel", f"{target}@1.0.0", "stable")
    run("channel", f"{target}@1.0.0", "latest")  # back: refused
    run("deprecate", f"{target}@1.0.0", "--reason", "old")
    run("yank", f"{target}@1.0.0", "--reason", "wrong")
    run("diff", f"{target}@1.0.0", f"{target}@1.1.0", "--changelog", "CHANGELOG.md")
    run("verify", target, "--deep", "--trust", public)
    run("pull", target, "-o", "out", "--lock", "publisher.lock", "--trust", public)
    run("pull", target, "-o", "out", "--lock", "publisher.lock", "--update", "--json")
    run("pull", f"{target}@1.0.0", "-o", "val", "--split", "val", "--dry-run")
    produced.call(lambda: publisher.pull(target, to="by function", trust=public))
    produced.call(lambda: publisher.load(target))
    produced.call(lambda: open_bucket(remote).get("nothing/here"))
    produced.call(lambda: vars(open_bucket(remote)))


@pytest.mark.parametrize("place", ["environment", pytest.param("file", marks=pytest.mark.nightly)])
def test_where_all_is_well(produced, home, monkeypatch, place):
    with moto_bucket(monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        if place == "environment":
            in_environment(monkeypatch)
        every_command(produced, "s3://releases/some/prefix")
        produced.search("s3://releases/some/prefix")
    assert produced.codes.count(0) > 15
    assert {2, 4, 6} <= set(produced.codes)  # and the mistakes were mistakes
    assert 1 not in produced.codes


@pytest.mark.nightly
@pytest.mark.parametrize("right", [True, False], ids=["the right key", "a wrong key"])
def test_on_a_server_that_looks_at_keys(produced, seaweedfs, monkeypatch, right):
    canary = secret_of("team") if right else SECRET
    monkeypatch.setitem(CANARIES, "the team's secret", spellings(canary))
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweedfs.endpoint)
    in_environment(monkeypatch, "team", canary, token=None)
    remote = f"s3://{s3_server().BUCKET}/{TEAM}/{produced._home.parent.name}"
    every_command(produced, remote)
    produced.search(remote if right else None)
    assert 1 not in produced.codes
    assert (5 in produced.codes) != right


# ── servers that repeat what they were told ──────────────────────────────────────────────────


class Echo(BaseHTTPRequestHandler):
    """Answers everything with what it was asked, in every place of an answer."""

    protocol_version = "HTTP/1.1"
    status = 403
    as_code = False

    def answer(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        if self.headers.get("expect", "").lower() != "100-continue":
            self.rfile.read(size)
        heard = f"{self.requestline} {self.headers}"
        code = ACCESS if self.as_code else "AccessDenied"
        token = self.headers.get("x-amz-security-token", "")
        body = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code>"
            f"<Message>{quote(heard, safe=' /=+:')}</Message>"
            f"<Resource>{token}</Resource><RequestId>{token}</RequestId></Error>"
        )
        self.send_response(self.status, token[:60] or "Said")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{token}"')
        self.send_header("x-amz-request-id", token)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[tuple[str, type[Echo]]]:
    kind = type("EchoOfThisTest", (Echo,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", kind
        server.shutdown()
        thread.join()


def _later(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.nightly)


@pytest.mark.parametrize(
    ("status", "as_code"),
    [(403, False), (403, True), *(_later(status, False) for status in (200, 301, 404, 412, 503))],
)
def test_on_a_server_that_repeats_what_it_hears(produced, echo, monkeypatch, status, as_code):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    url, kind = echo
    kind.status, kind.as_code = status, as_code
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    in_environment(monkeypatch)
    target = "s3://bucket/prefix/hands"
    for command in (
        ("doctor", "s3://bucket/prefix"),
        ("push", "tree", target, "--version", "1.0.0"),
        ("list", target),
        ("pull", target, "-o", "out", "--lock", "publisher.lock"),
    ):
        produced.command(*command)
    bucket = open_bucket("s3://bucket/prefix")
    for ask in (
        lambda: len(bucket.get("k")),
        lambda: bucket.head("k").size,
        lambda: list(bucket.list()),
        lambda: bucket.delete("k"),
        lambda: bucket.copy("a", "k", sha256="0" * 64).size,
        lambda: bucket.put("k", b"body").size,
    ):
        produced.call(ask)
    assert 0 not in produced.codes
    assert 1 not in produced.codes
    produced.search()


def test_where_nobody_answers(produced, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    in_environment(monkeypatch)
    for words in (("list", "s3://bucket"), ("doctor", "s3://bucket")):
        assert produced.command(*words) == 8
    produced.search()


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://user:{PASSWORD}@127.0.0.1:9",
        _later(f"http://user:{PASSWORD}@[bad"),
        _later(f"x://u:{PASSWORD}@h"),
    ],
)
def test_a_password_in_an_address(produced, monkeypatch, endpoint):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    in_environment(monkeypatch)
    for words in (("list", "s3://bucket"), ("doctor", "s3://bucket")):
        assert produced.command(*words, "--endpoint-url", endpoint) in {2, 8}
    produced.call(lambda: open_bucket("s3://bucket", endpoint_url=endpoint).get("k"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://example.invalid")
    monkeypatch.setenv("http_proxy", endpoint)
    produced.command("list", "s3://bucket")
    produced.call(lambda: open_bucket("s3://bucket").get("k"))
    produced.search()


def test_credentials_that_are_half_there(produced, monkeypatch):
    for words in (("list", "s3://bucket"), ("doctor", "s3://bucket")):
        assert produced.command(*words, "--profile", "broken") in {2, 5}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    assert produced.command("list", "s3://bucket") in {2, 5}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}\nX-Injected: 1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{TOKEN}\r\nX-Injected: 1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    produced.call(lambda: open_bucket("s3://bucket").get("k"))
    produced.search()


def test_secrets_where_an_address_or_a_key_belongs(produced, monkeypatch):
    line = f"ed25519-private:{SIGNING}"
    for words in (
        ("list", f"s3://{ACCESS}:{SECRET}@bucket/hands"),
        ("push", "tree", f"s3://key:{PASSWORD}@bucket/hands", "--version", "1.0.0"),
        ("sign", "file:///nowhere/hands", "--key", line),
        ("pull", "file:///nowhere/hands", "-o", "out", "--trust", line),
        ("keygen", SIGNING),
    ):
        assert produced.command(*words) == 2, words
    produced.search()


def test_a_bug_shows_where_it_is_and_nothing_else(produced, monkeypatch):
    with moto_bucket(monkeypatch):
        in_environment(monkeypatch)
        monkeypatch.setattr(sending, "failpoint", lambda step: {}["a bug"])
        monkeypatch.setattr("publisher.bucket.publish.failpoint", lambda step: {}["a bug"])
        assert produced.command("push", "tree", "s3://releases/x/hands", "--version", "1.0.0") == 1
        assert "KeyError" in produced._texts[-1][1]
        produced.search("s3://releases/x")


def test_this_test_can_fail(produced, home):
    """Each kind of place is searched."""
    for place in ("output", "log", "file"):
        other = Produced(home, produced._caplog, {"release.key", "credentials"})
        if place == "output":
            other.add("output", f"key {ACCESS}")
        elif place == "log":
            logging.getLogger("somebody.else").debug("token %s", quote(TOKEN, safe=""))
        else:
            produced._caplog.clear()
            (home / "left.json").write_bytes(b"\x00" + base64.b64encode(SECRET.encode()))
        with pytest.raises(AssertionError, match=rf" is in {place}"):
            other.search()


# ── the log of botocore ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Body: <SecretAccessKey>abc+/=</SecretAccessKey>", "Body: <SecretAccessKey>[hidden]</S"),
        ("<SessionToken>abc</SessionToken>", "<SessionToken>[hidden]</SessionToken>"),
        ("x-amz-security-token:abc/+=\nnext", "x-amz-security-token:[hidden]\nnext"),
        ("'X-Amz-Security-Token': b'abc'", "'X-Amz-Security-Token': b'[hidden]'"),
        ("?X-Amz-Security-Token=abc&x=1", "?X-Amz-Security-Token=[hidden]&x=1"),
        (f"Signature={'0a' * 32}", "Signature=[hidden]"),
        ("https://user:pass@host/x", "https://[hidden]@host/x"),
        ("http://host/a:b@c", "http://host/a:b@c"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_is_hidden_whoever_it_belongs_to(text, shown):
    assert redacted(text).startswith(shown)


def test_an_error_of_ours_pickles_and_prints_without_its_cause(produced, echo, monkeypatch):
    url, _ = echo
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    in_environment(monkeypatch)
    error = produced.call(lambda: list(open_bucket("s3://bucket").list()))
    assert isinstance(error, PublisherError)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        produced.search()
