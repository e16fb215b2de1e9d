"""Signatures are botocore's own, whatever is signed."""

from __future__ import annotations

import datetime
from unittest import mock
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from publisher.names import safe_path
from publisher.wire.sigv4 import EMPTY_SHA256, Credentials, encode_path, encode_query, signed

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
SECRET = "wJalrXUtnFEMI-canary-secret"

keys = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40
).filter(lambda key: _is_safe(key))
words = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
headers = st.dictionaries(
    st.sampled_from(["content-type", "if-match", "if-none-match", "range", "x-amz-meta-sha256"]),
    st.lists(words, min_size=1, max_size=3).map("  ".join),
)
queries = st.dictionaries(st.sampled_from(["partNumber", "uploadId", "x-id"]), words)


def _is_safe(key: str) -> bool:
    try:
        safe_path(key)
    except Exception:
        return False
    return True


def theirs(method, url, headers, credentials, region):
    """All headers as botocore's signer leaves them, by lower-case name."""
    request = AWSRequest(method=method, url=url, headers=dict(headers), data=b"")
    signer = S3SigV4Auth(BotoCredentials(*credentials), "s3", region)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW):
        signer.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    key=keys,
    headers=headers,
    query=queries,
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    base=st.sampled_from(["https://b.s3.amazonaws.com", "http://127.0.0.1:83/b", "http://[::1]/b"]),
    region=st.sampled_from(["us-east-1", "eu-central-2"]),
    token=st.none() | words,
)
def test_we_sign_as_botocore_does(key, headers, query, method, base, region, token):
    parts = urlsplit(base)
    path, sent = encode_path(f"{parts.path}/{key}"), encode_query(query)
    url = f"{parts.scheme}://{parts.netloc}{path}" + (f"?{sent}" if sent else "")
    ours = signed(
        method,
        path,
        sent,
        {"host": parts.netloc, **headers},
        credentials=Credentials("AKIA", SECRET, token),
        region=region,
        time="20260102T030405Z",
        sha256=EMPTY_SHA256,
    )
    expected = theirs(method, url, headers, ("AKIA", SECRET, token), region)
    assert ours.pop("host") == parts.netloc
    assert ours == expected


def test_the_path_is_encoded_once():
    assert encode_path("/b/ä b+%20&(1)~.png") == "/b/%C3%A4%20b%2B%2520%26%281%29~.png"


def test_the_signature_of_the_s3_documentation():
    """The first example of sig-v4-header-based-auth.html, with the keys printed there."""
    headers = signed(
        "GET",
        "/test.txt",
        "",
        {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"},
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region="us-east-1",
        time="20130524T000000Z",
        sha256=EMPTY_SHA256,
    )
    signature = headers["authorization"].partition("Signature=")[2]
    assert signature == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"


@pytest.mark.parametrize("write", [repr, str])
def test_credentials_do_not_show_their_secrets(write):
    assert SECRET not in write(Credentials("AKIA", SECRET, SECRET))
