"""The data path, before servers that answer well, badly, late, half, or not at all."""

from __future__ import annotations

import datetime
import hashlib
import io
import ssl
import threading
from contextlib import suppress
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from publisher.errors import UsageError
from publisher.wire import http1
from publisher.wire import s3 as s3_wire
from publisher.wire.s3 import Address, Changed, Refused, Slice, Unanswered, Wire
from publisher.wire.sigv4 import EMPTY_SHA256, Credentials
from tests.scripted import Heard, Says, refuses, says, scripted

SECRET = "wJalrXUtnFEMI-canary-secret"
KEYS = Credentials("AKIA", SECRET)


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Seconds that were waited for; nobody waits in a test."""
    waited: list[float] = []
    monkeypatch.setattr(s3_wire.time, "sleep", waited.append)
    return waited


def wire(server, **options) -> Wire:
    address = Address(server.url, options.pop("region", "us-east-1"))
    options = {"credentials": lambda: KEYS, "timeouts": (5, 5)} | options
    return Wire(address, **options)


def get(way: Wire, key: str = "k", **options) -> bytes:
    return b"".join(way.get(key, **options))


def put(way: Wire, body=b"body", key: str = "k", **headers):
    digest = body.sha256 if isinstance(body, Slice) else hashlib.sha256(body).hexdigest()
    return way.put(key, body, headers, sha256=digest)


# ── what is sent ─────────────────────────────────────────────────────────────────────────────


def test_requests_are_signed_and_share_a_connection():
    with scripted(says(200, etag='"e"'), says(200, b"body"), says(200)) as server:
        way = wire(server)
        assert put(way, key="ä b+.jpg")["etag"] == '"e"'
        assert get(way) == b"body"
        way.head("k", {})
    first, second, _ = server.heard
    assert server.connections == 1
    assert (first.method, first.target, first.body) == ("PUT", "/b/%C3%A4%20b%2B.jpg", b"body")
    digest = hashlib.sha256(b"body").hexdigest()
    assert first.headers["x-amz-content-sha256"] == digest
    assert "x-amz-checksum-sha256" in first.headers["authorization"]  # nobody can take it out
    assert second.headers["x-amz-content-sha256"] == EMPTY_SHA256


def test_a_session_sends_its_token_and_the_public_nothing():
    with scripted(says(200), says(200)) as server:
        get(wire(server, credentials=lambda: Credentials("AKIA", SECRET, "token-of-a-session")))
        get(wire(server, region=None, credentials=lambda: pytest.fail("nobody signs")))
    session, public = server.heard
    assert session.headers["x-amz-security-token"] == "token-of-a-session"
    assert "authorization" not in public.headers


@pytest.mark.parametrize("end", ["\r\nx-amz-acl: public-read", "\n", "\x00", "€"])
def test_what_would_end_its_header_is_not_sent(end):
    with scripted(says(200)) as server:
        bad = Credentials("AKIA", SECRET, f"{SECRET}{end}x")
        with pytest.raises(UsageError) as caught:
            get(wire(server, credentials=lambda: bad))
    assert "x-amz-security-token" in str(caught.value)
    assert SECRET not in f"{caught.value}{caught.value.hint}"
    assert server.heard == []


def test_a_part_of_an_object():
    with scripted(says(206, b"cde", content_range="bytes 2-4/9")) as server:
        assert get(wire(server), start=2, stop=5) == b"cde"
    assert server.heard[0].headers["range"] == "bytes=2-4"


def test_a_server_that_ignores_ranges_is_noticed():
    with scripted(says(200, b"abcdefghi")) as server, pytest.raises(Refused) as caught:
        get(wire(server), start=2)
    assert caught.value.code == "RangeIgnored"


# ── large bodies ─────────────────────────────────────────────────────────────────────────────


def slice_of(path, body: bytes, sha256: str | None = None) -> Slice:
    path.write_bytes(body)
    return Slice(path, 0, len(body), sha256 or hashlib.sha256(body).hexdigest())


def test_a_large_file_is_announced_and_sent_when_asked_for(tmp_path):
    body = bytes(range(256)) * 12_000
    with scripted(says(200), says(200)) as server:
        way = wire(server)
        put(way, slice_of(tmp_path / "f", body))
        put(way, body)
    assert [h.body == body for h in server.heard] == [True, True]
    assert server.heard[0].headers["expect"] == "100-continue"
    assert server.connections == 1


def test_a_server_that_does_not_want_a_large_body_does_not_get_it(tmp_path):
    answer = refuses(412, "PreconditionFailed", then="keep", early=True)
    with scripted(answer, says(200)) as server:
        way = wire(server)
        with pytest.raises(Refused) as caught:
            put(way, slice_of(tmp_path / "f", bytes(3_000_000)))
        put(way)
    assert caught.value.code == "PreconditionFailed"
    assert server.heard[0].body == b""
    assert server.connections == 2  # the first was in the middle of a request


def test_a_server_that_does_not_know_announcements_gets_the_body_after_a_moment(monkeypatch):
    monkeypatch.setattr(http1, "_PATIENCE", 0.01)
    with scripted(Says(says(200).text, go_on=False)) as server:
        put(wire(server), bytes(2_000_000))
    assert server.heard[0].whole


def test_a_server_that_hangs_up_early_is_still_understood(monkeypatch):
    monkeypatch.setattr(http1, "_PATIENCE", 0.01)
    answer = Says(refuses(403, "AccessDenied").text, "close", early=True)
    with scripted(answer) as server, pytest.raises((Refused, Unanswered)) as caught:
        put(wire(server), bytes(50_000_000))
    assert isinstance(caught.value, Refused) or server.heard


def test_a_part_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    part = Slice(tmp_path / "f", 3, 4, hashlib.sha256(b"3456").hexdigest())
    with scripted(says(200, etag='"part"')) as server:
        way = wire(server)
        query = {"uploadId": "a/b+c", "partNumber": "7"}
        answer = way.put("k", part, {}, sha256=part.sha256, query=query)
    assert answer["etag"] == '"part"'
    assert server.heard[0].target == "/b/k?partNumber=7&uploadId=a%2Fb%2Bc"
    assert server.heard[0].body == b"3456"


@pytest.mark.parametrize("size", [20_000, 3_000_000])
def test_a_file_that_has_changed_is_never_sent_as_a_whole(tmp_path, size):
    part = slice_of(tmp_path / "f", bytes(size), hashlib.sha256(b"as it was").hexdigest())
    with scripted(says(200)) as server, pytest.raises(Changed):
        put(wire(server), part)
    assert not any(h.whole for h in server.heard)


@pytest.mark.parametrize("now", [b"shorter", None])
def test_a_file_that_was_cut_or_is_gone_is_never_sent_as_a_whole(tmp_path, now):
    part = slice_of(tmp_path / "f", b"a longer text")
    if now is None:
        part.path.unlink()
    else:
        part.path.write_bytes(now)
    with scripted(says(200)) as server, pytest.raises(Changed):
        put(wire(server), part)
    assert not any(h.whole for h in server.heard)


# ── busy servers ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "SlowDown"),
        (400, "RequestTimeout"),
        (409, "ConditionalRequestConflict"),
    ],
)
def test_a_busy_server_is_asked_again(status, code, waits):
    with scripted(*[refuses(status, code)] * 3, says(200, b"body")) as server:
        assert get(wire(server)) == b"body"
    assert len(waits) == 3
    assert len(server.heard) == 4


def test_waits_differ_and_are_bounded(waits):
    for _ in range(40):
        waits += [s3_wire._wait(attempt) for attempt in range(1, s3_wire.ATTEMPTS)]
    assert min(waits) >= 0
    assert max(waits) <= 10
    assert len(set(waits)) > 200  # no two clients in step
    assert max(waits[::7]) <= 0.2  # the first try again comes at once


def test_a_server_that_stays_busy_is_left_alone(waits):
    with scripted(*[refuses(503, "SlowDown")] * 20) as server, pytest.raises(Refused) as caught:
        put(wire(server))
    assert (caught.value.status, caught.value.code) == (503, "SlowDown")
    assert len(server.heard) == s3_wire.ATTEMPTS
    assert sum(waits) < 30


def test_retry_after_is_obeyed(waits):
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    with scripted(
        refuses(503, "SlowDown", retry_after="7"),
        refuses(503, "SlowDown", retry_after=format_datetime(soon, usegmt=True)),
        refuses(503, "SlowDown", retry_after="9999999"),
        refuses(503, "SlowDown", retry_after="soon"),
        says(200),
    ) as server:
        get(wire(server))
    assert waits[0] == 7
    assert 20 < waits[1] <= 30
    assert waits[2] == 60
    assert waits[3] < 2


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentSHA256Mismatch"])
def test_a_body_that_was_damaged_on_its_way_is_sent_once_more(code, waits):
    with scripted(refuses(400, code), says(200), refuses(400, code), refuses(400, code)) as server:
        put(wire(server))
        with pytest.raises(Refused, match=code):
            put(wire(server))
    assert [h.body for h in server.heard] == [b"body"] * 4
    assert waits == []


def test_a_no_is_not_asked_about_again(waits):
    with scripted(refuses(403, "AccessDenied"), says(200)) as server, pytest.raises(Refused):
        get(wire(server))
    assert waits == []
    assert len(server.heard) == 1


# ── bad connections ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
def test_a_connection_that_breaks_before_the_answer(then, text, waits):
    with scripted(says(200), Says(text, then), Says(text, then), says(200, b"body")) as server:
        way = wire(server)
        get(way)
        assert get(way) == b"body"
    assert len(server.heard) == 4
    assert len(waits) == 1  # the first break may be of age: a new connection, at once


def test_a_connection_that_waited_too_long_is_replaced(waits):
    with scripted(says(200, then="close"), says(200, b"body")) as server:
        way = wire(server)
        get(way)
        assert get(way) == b"body"
    assert waits == []


LONG = bytes(range(256)) * 1000


def breaks_off(after: int, then="close") -> Says:
    """An answer of LONG that ends after so many bytes."""
    return Says(says(200, LONG, etag='"v1"').text[: after - len(LONG)], then)


def rest_of(heard: Heard) -> bytes:
    start = int(heard.headers["range"].removeprefix("bytes=").removesuffix("-"))
    rest = f"bytes {start}-{len(LONG) - 1}/{len(LONG)}"
    return says(206, LONG[start:], content_range=rest, etag='"v1"').text


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_body_that_breaks_off_goes_on_where_it_broke(then):
    with scripted(breaks_off(200_000, then), Says(rest_of)) as server:
        way = wire(server)
        blocks = way.get("k")
        first = next(blocks)
        assert first + b"".join(blocks) == LONG
    again = server.heard[1].headers
    assert len(first) <= int(again["range"][6:-1]) <= 200_000
    assert again["if-match"] == '"v1"'  # or it would be half of another


def test_a_body_that_breaks_off_and_has_changed_is_no_body():
    changed = refuses(412, "PreconditionFailed")
    with scripted(breaks_off(100_000), changed) as server, pytest.raises(Refused) as caught:
        get(wire(server))
    assert caught.value.code == "PreconditionFailed"


def test_half_of_another_object_is_noticed_where_the_server_ignores_if_match():
    other = says(206, LONG[100_000:], content_range="bytes 100000-255999/256000", etag='"v2"')
    with scripted(breaks_off(100_000), other) as server, pytest.raises(Refused) as caught:
        get(wire(server))
    assert caught.value.code == "PreconditionFailed"


def test_more_than_was_asked_for_is_refused():
    more = says(206, b"cdefgh", content_range="bytes 2-7/9")
    with scripted(more) as server, pytest.raises(Refused) as caught:
        get(wire(server), start=2, stop=5)
    assert caught.value.code == "RangeIgnored"


def test_a_body_that_always_breaks_off_is_given_up(waits):
    whole = says(200, b"0123456789", etag='"v1"').text
    with scripted(*[Says(whole[:-10], "close")] * 30) as server, pytest.raises(Unanswered):
        get(wire(server))
    assert len(server.heard) < 2 * s3_wire.ATTEMPTS


def test_a_server_that_stalls_is_not_waited_for_for_ever():
    half = says(200, b"0123456789").text[:-5]
    for text in (b"", half):
        stalls = [Says(text, "stall"), *[Says(b"", "stall")] * 20]
        with scripted(*stalls) as server, pytest.raises(Unanswered) as caught:
            get(wire(server, timeouts=(1, 0.05)))
        assert caught.value.kind == "TimeoutError"


def test_nobody_there(waits):
    with scripted() as server:
        pass
    with pytest.raises(Unanswered) as caught:
        get(wire(server))
    assert caught.value.kind == "ConnectionRefusedError"
    assert len(waits) == 2


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    ],
)
def test_what_is_not_http_is_no_answer(text):
    with scripted(*[Says(text, "close")] * 20) as server, pytest.raises(Unanswered):
        get(wire(server))


def test_chunked_bodies():
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;x=y\r\nabcde\r\nA\r\n0123456789\r\n0\r\ntrailer: x\r\n\r\n"
    )
    error = b"<Error><Code>NoSuchKey</Code></Error>"
    refused = (
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(error), error)
    )
    with scripted(Says(chunked), Says(refused), says(200, b"body")) as server:
        way = wire(server)
        assert get(way) == b"abcde0123456789"
        with pytest.raises(Refused) as caught:
            get(way)
        assert get(way) == b"body"
    assert caught.value.code == "NoSuchKey"
    assert server.connections == 1


def test_a_reader_that_stops_early_leaves_no_half_answer_behind():
    with scripted(says(200, bytes(3_000_000)), says(200, b"body")) as server:
        way = wire(server)
        blocks = way.get("k")
        assert 0 < len(next(blocks)) <= http1.BLOCK
        blocks.close()
        assert get(way) == b"body"
    assert server.connections == 2


def test_an_endless_error_is_not_read_to_its_end():
    endless = says(400, b"<Code>X</Code>" + bytes(5_000_000))
    with scripted(endless) as server, pytest.raises(Refused) as caught:
        get(wire(server))
    assert caught.value.code == "400"


class _Plays:
    """A socket that has already said everything."""

    def __init__(self, said: bytes) -> None:
        self._said = io.BytesIO(said)

    def makefile(self, *_):
        return self._said

    def __getattr__(self, _):
        return lambda *_: None


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a loaded machine
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 No\r\n", b"HTTP/1.0 503 x\r\n"),
                *(b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 206 P\r\n", b"\r\n", b"5\r\n"),
                *(b"Content-Length: 5\r\n", b"content-length: 99999999999999999\r\n", b"abcde"),
                *(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"FFFFFFFFFFFFFFF\r\n"),
                *(b"ETag: x\r\n", b"Content-Range: bytes 0-4/5\r\n", b"<Code>SlowDown</Code>"),
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_whatever_a_server_says_we_end_in_bytes_or_an_error(said):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http1.socket, "create_connection", lambda *_: _Plays(said))
        patch.setattr(s3_wire.time, "sleep", lambda _: None)
        way = Wire(Address("http://h/b", None), credentials=lambda: KEYS)
        with suppress(Refused, Unanswered):
            assert len(get(way)) <= len(said)


# ── elsewhere, later, someone else ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "answer",
    [
        refuses(301, "PermanentRedirect"),
        refuses(307, "TemporaryRedirect"),
        refuses(400, "AuthorizationHeaderMalformed"),
    ],
)
def test_a_bucket_in_another_region_is_found_once(answer):
    asked = []
    with scripted(answer) as old, scripted(says(200, b"a"), says(200, b"b")) as new:

        def relocate():
            asked.append(1)
            return Address(new.url, "eu-west-1")

        way = wire(old, relocate=relocate)
        assert get(way) + get(way) == b"ab"
    assert "/eu-west-1/s3/" in new.heard[0].headers["authorization"]
    assert len(asked) == 1


def test_many_threads_find_it_together():
    with (
        scripted(*[refuses(301, "PermanentRedirect")] * 8) as old,
        scripted(*[says(200, b"x")] * 8) as new,
    ):
        way = wire(old, relocate=lambda: Address(new.url, "eu-west-1"))
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(get(way))) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert found == [b"x"] * 8


def test_a_redirect_to_nowhere_is_an_answer():
    moved = refuses(301, "PermanentRedirect")
    with scripted(moved, moved) as server, pytest.raises(Refused) as caught:
        get(wire(server))
    assert caught.value.status == 301


def test_credentials_that_expired_are_renewed():
    keys = iter([Credentials("OLD", SECRET, "t1")] + [Credentials("NEW", SECRET, "t2")] * 5)
    with scripted(refuses(400, "ExpiredToken"), says(200, b"body")) as server:
        assert get(wire(server, credentials=lambda: next(keys))) == b"body"
    assert ["credential=old/" in h.headers["authorization"] for h in server.heard] == [True, False]


def test_who_has_no_credentials_has_none_to_renew():
    with scripted(refuses(400, "ExpiredToken")) as server, pytest.raises(Refused):
        get(wire(server, region=None, credentials=lambda: pytest.fail("nobody signs")))


def test_credentials_that_stay_expired_are_refused():
    old = Credentials("OLD", SECRET, "t1")
    with scripted(refuses(400, "ExpiredToken")) as server, pytest.raises(Refused) as caught:
        get(wire(server, credentials=lambda: old))
    assert caught.value.code == "ExpiredToken"


@pytest.mark.parametrize("minutes", [-90, 90])
def test_a_wrong_clock_is_measured(minutes):
    server_time = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
    date = format_datetime(server_time, usegmt=True)
    with scripted(refuses(403, "RequestTimeTooSkewed", date=date), says(403, date=date)) as server:
        way = wire(server)
        with pytest.raises(Refused) as said:
            get(way)
        with pytest.raises(Refused) as guessed:
            way.head("k", {})
    assert said.value.skew == pytest.approx(60 * minutes, abs=20)
    assert guessed.value.code == "RequestTimeTooSkewed"  # HEAD says 403 and no more


def test_a_forbidden_head_is_not_blamed_on_the_clock():
    date = format_datetime(datetime.datetime.now(datetime.UTC), usegmt=True)
    with scripted(says(403, date=date)) as server, pytest.raises(Refused) as caught:
        wire(server).head("k", {})
    assert caught.value.code == "403"


def test_what_intercepts_answers_first_and_may_break_the_connection(waits):
    answers = iter([ConnectionResetError(), (200, {"ETag": "x", "Content-Length": "4"}, b"fake")])
    seen = []

    def intercept(operation, method, url, headers, body):
        seen.append((operation, method, url))
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with scripted() as server:
        assert get(wire(server, intercept=intercept)) == b"fake"
    assert seen == [("GetObject", "GET", f"{server.url}/k")] * 2
    assert len(waits) == 1


@pytest.mark.parametrize(
    "answer",
    [
        says(403, f"<Error><Code>No</Code><Message>{SECRET}</Message></Error>".encode()),
        says(403, f"<Code>{SECRET}</Code>".encode()),
        Says(f"HTTP/1.1 200 OK\r\ncontent-length: {SECRET}\r\n\r\n".encode()),
        Says(f"{SECRET}\r\n\r\n".encode(), "close"),
    ],
)
def test_nothing_that_a_server_repeats_is_in_an_error(answer):
    with scripted(*[answer] * 20) as server, pytest.raises((Refused, Unanswered)) as caught:
        get(wire(server))
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for 127.0.0.1, its key, and both in files."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    home = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    (home / "cert.pem").write_bytes(certificate.public_bytes(pem))
    kind = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    (home / "key.pem").write_bytes(key.private_bytes(pem, kind, plain))
    return home


@pytest.fixture
def tls_server(authority):
    """An https server that answers every request with `body`."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"body")

        def log_message(self, *_):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/b"
    server.shutdown()
    thread.join()
    server.server_close()


def test_https_with_a_trusted_certificate(tls_server, authority):
    tls = ssl.create_default_context(cafile=authority / "cert.pem")
    way = Wire(Address(tls_server, "us-east-1"), credentials=lambda: KEYS, tls=tls)
    assert get(way) + get(way) == b"bodybody"


def test_https_with_any_other_certificate_is_refused_at_once(tls_server, waits):
    tls = ssl.create_default_context()
    way = Wire(Address(tls_server, "us-east-1"), credentials=lambda: KEYS, tls=tls)
    with pytest.raises(Unanswered) as caught:
        get(way)
    assert caught.value.kind == "SSLCertVerificationError"
    assert waits == []


def test_https_never_goes_without_certificates(tls_server):
    with pytest.raises(ValueError):
        Wire(Address(tls_server, "us-east-1"), credentials=lambda: KEYS)


def test_no_attempt_begins_after_minutes(monkeypatch, waits):
    monkeypatch.setattr(s3_wire, "_PATIENCE", -1)
    with scripted(*[refuses(503, "SlowDown")] * 9) as server, pytest.raises(Refused):
        get(wire(server))
    assert len(server.heard) == 1
    assert waits == []
