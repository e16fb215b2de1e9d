"""
Faults where botocore hands a request over: `before-send`, which the data path passes too.

moto answers what nobody spoils. It accepts bodies without their declared checksum, which no
real server does, so the checksum is enforced here.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

from publisher.storage import S3Bucket

from .servers import moto_bucket

Answer = AWSResponse
FAR = "eu-central-1"  # where the bucket is, once it has moved
RENEWED = "token-of-the-new-session"


class Saboteur:
    """Does to the n-th request what a schedule says; the rest goes to moto."""

    def __init__(self) -> None:
        self.asked = 0
        self.done: list[str] = []  # kinds of the faults that took effect
        self._schedule: dict[int, str] = {}
        self._lasting: str | None = None

    def begin(self, schedule: Mapping[int, str] = {}) -> None:
        """From now on; requests are counted from 1."""
        self.asked, self.done, self._schedule, self._lasting = 0, [], dict(schedule), None

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> Answer:
        if hasattr(request.body, "read"):
            request.body = request.body.read()
        self.asked += 1
        kind = self._schedule.get(self.asked, self._lasting)
        if kind is None or request.method not in ONLY.get(kind, request.method):
            return answer_of(request)
        if kind in LASTING:
            self._lasting = kind
        if _is_mended(kind, request):
            return answer_of(request)
        self.done.append(kind)
        return FAULTS[kind](request)


def _is_mended(kind: str, request: AWSPreparedRequest) -> bool:
    """Does the request go where the bucket is now, or is it signed by who may ask again?"""
    if kind == "region":
        return FAR in request.url
    token = _text(request.headers.get("x-amz-security-token", ""))
    return kind == "credentials expired" and token == RENEWED


def answer_of(request: AWSPreparedRequest) -> Answer:
    """What a server says that compares checksums."""
    declared = request.headers.get("x-amz-checksum-sha256")
    if declared and _checksum(request.body or b"") != _text(declared):
        return _error(request, 400, "BadDigest")
    answered = botocore_stubber("before-send", request)
    assert answered is not None
    return answered


def _checksum(body: bytes | str) -> str:
    body = body.encode() if isinstance(body, str) else body
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _error(request: AWSPreparedRequest, status: int, code: str, **headers: str) -> Answer:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>x</Message></Error>"
    body = b"" if request.method == "HEAD" else text.encode()
    heads = {name.replace("_", "-"): value for name, value in headers.items()}
    heads |= {"content-length": str(len(body)), "content-type": "application/xml"}
    return AWSResponse(request.url, status, heads, MockRawResponse(body))


def flipped(body: bytes) -> bytes:
    """One bit in the middle is another."""
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :] if body else body


# ── what can happen ──────────────────────────────────────────────────────────────────────────


def _reset(request: AWSPreparedRequest) -> Answer:
    raise ConnectionClosedError(endpoint_url=request.url)


def _ack_lost(request: AWSPreparedRequest) -> Answer:
    answer_of(request)
    raise ConnectionClosedError(endpoint_url=request.url)


def _late_error(request: AWSPreparedRequest) -> Answer:
    answer_of(request)
    return _error(request, 500, "InternalError")


def _twice(request: AWSPreparedRequest) -> Answer:
    answer_of(request)
    return answer_of(request)


def _flip_up(request: AWSPreparedRequest) -> Answer:
    request.body = flipped(request.body or b"")
    return answer_of(request)


def _down(request: AWSPreparedRequest, change: Callable[[bytes], bytes]) -> Answer:
    """Another body under the same headers."""
    answered = answer_of(request)
    body = change(answered.content)
    heads = {"content-length": str(len(answered.content)), **answered.headers}
    return AWSResponse(request.url, answered.status_code, heads, MockRawResponse(body))


def _skewed(request: AWSPreparedRequest) -> Answer:
    return _error(request, 403, "RequestTimeTooSkewed", date=formatdate(time.time() - 7200))


def _unconditional(request: AWSPreparedRequest) -> Answer:
    for name in ("if-none-match", "if-match"):
        request.headers.pop(name, None)
    return answer_of(request)


FAULTS: dict[str, Callable[[AWSPreparedRequest], Answer]] = {
    "503 SlowDown": lambda request: _error(request, 503, "SlowDown"),
    "connection reset": _reset,
    "answer lost": _ack_lost,
    "500 after the deed": _late_error,
    "delivered twice": _twice,
    "bit flipped on its way up": _flip_up,
    "bit flipped on its way down": lambda request: _down(request, flipped),
    "body cut short": lambda request: _down(request, lambda body: body[: len(body) // 2]),
    "region": lambda request: _error(request, 301, "PermanentRedirect", x_amz_bucket_region=FAR),
    "credentials expired": lambda request: _error(request, 400, "ExpiredToken"),
    "clock skewed": _skewed,
    "network gone": _reset,
    "server busy for ever": lambda request: _error(request, 503, "SlowDown"),
    "conditions ignored": _unconditional,
}
ONLY = {
    "bit flipped on its way up": {"PUT"},
    "bit flipped on its way down": {"GET"},
    "body cut short": {"GET"},
}
LASTING = {  # from the first time on
    *("region", "credentials expired", "clock skewed", "network gone"),
    *("server busy for ever", "conditions ignored"),
}
PASSING = [kind for kind in FAULTS if kind not in LASTING]


@contextmanager
def sabotaged(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Bucket, Saboteur]]:
    """A bucket on moto, one request after another, and what spoils them."""
    monkeypatch.setattr("publisher.bucket.trees.THREADS", 1)  # the n-th request is always the same
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with moto_bucket(monkeypatch) as bucket:
        events, saboteur = bucket._client.meta.events, Saboteur()
        events.unregister("before-send", botocore_stubber)  # else it would answer as well
        events.register_first("before-send.s3", saboteur)
        yield bucket, saboteur
