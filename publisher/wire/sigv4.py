"""
AWS Signature Version 4, as S3 wants it: paths are not normalised, the body's sha256 is signed.

Rules: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs; `token` goes with the keys of a session. Neither secret is ever shown."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def encode_path(path: str) -> str:
    """Percent-encode a path, for URL and signature alike: all but `A-Za-z0-9-._~/`."""
    return quote(path, safe="/~")


def encode_query(query: Mapping[str, str]) -> str:
    """A query string in the order that is signed."""
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query.items())
    return "&".join(f"{k}={v}" for k, v in pairs)


def signed(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    credentials: Credentials,
    region: str,
    time: str,
    sha256: str,
) -> dict[str, str]:
    """
    Headers with which S3 accepts a request: `headers`, and those that prove who sent it.

    Args:
        path: of the URL, encoded by `encode_path`.
        query: encoded by `encode_query`.
        headers: by lower-case name, `host` among them; all are signed.
        time: now, in UTC, as `20260102T030405Z`.
        sha256: of the body, in hex.
    """
    own = {"x-amz-content-sha256": sha256, "x-amz-date": time}
    if credentials.token:
        own["x-amz-security-token"] = credentials.token
    everything = {**headers, **own}
    names = sorted(everything)
    lines = "".join(f"{name}:{' '.join(everything[name].split())}\n" for name in names)
    list_of_names = ";".join(names)
    request = f"{method}\n{path}\n{query}\n{lines}\n{list_of_names}\n{sha256}"
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = _key(credentials.secret_key, time[:8], region)
    signature = _hmac(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}").hex()
    everything["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={list_of_names}, Signature={signature}"
    )
    return everything


@lru_cache(maxsize=8)
def _key(secret: str, date: str, region: str) -> bytes:
    """The same for all requests of a day."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
