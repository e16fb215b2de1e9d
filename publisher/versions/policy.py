"""
Bucket policies: who may read, who may publish, and what nobody may change. Pure.

JSON as S3 takes it (docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html). A
bucket has one policy, so all of it is one document; paste its statements beside your own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Literal

from ..errors import UsageError
from .version import check_remote

Part = Literal["reader", "publisher", "write-once"]
PARTS: tuple[Part, ...] = ("reader", "publisher", "write-once")

READER = "arn:aws:iam::ACCOUNT:role/READER"  # no account is called so: S3 refuses it as it is
PUBLISHER = "arn:aws:iam::ACCOUNT:role/PUBLISHER"

FOR_EVER = (
    *("blobs/*", "packs/*", "index/*", "manifests/*", "retracted/*", "datasets/*/releases/*"),
    "datasets/*/v*/*/*",  # plain trees, without what lies on top: get.py may change, for one
)
"""Keys whose objects are created once and never replaced."""

_READ = ("s3:GetObject",)
_WRITE = (
    *("s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
    *("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
)


def policy(
    remote: str,
    *,
    readers: Sequence[str] = (),
    publishers: Sequence[str] = (),
    parts: Collection[Part] = PARTS,
) -> dict[str, Any]:
    """
    The policy document for a remote.

    Args:
        readers: ARNs of users or roles; "*" is everyone, also without credentials.
        publishers: ARNs; never everyone.

    Raises:
        UsageError: the remote is no bucket, or everyone would be a publisher.
    """
    check_remote(remote)
    scheme, _, place = remote.partition("://")
    if scheme != "s3":
        raise UsageError("a folder has no policy", hint="its owner, group and mode say who may")
    if any("*" in arn for arn in publishers):
        raise UsageError("everyone cannot be a publisher", hint="name users or roles by their ARN")
    bucket, _, prefix = place.strip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    under = f"{_literal(prefix)}/" if prefix else ""
    statements = {
        "reader": _reader(arn, under, readers or [READER]),
        "publisher": _publisher(arn, under, publishers or [PUBLISHER]),
        "write-once": _write_once(arn, under),
    }
    chosen = [s for part in PARTS if part in parts for s in statements[part]]
    return {"Version": "2012-10-17", "Statement": chosen}


def _reader(arn: str, under: str, who: Sequence[str]) -> list[dict[str, Any]]:
    listing = _allow("ListVersions", who, ("s3:ListBucket",), arn)
    if under:
        listing["Condition"] = {"StringLike": {"s3:prefix": [f"{under}*"]}}
    return [_allow("ReadVersions", who, _READ, f"{arn}/{under}*"), listing]


def _publisher(arn: str, under: str, who: Sequence[str]) -> list[dict[str, Any]]:
    # without a condition: where s3:ListBucket has one, S3 answers 403 for what is not there,
    # and a push could not tell a free number from a forbidden one
    whole = ("s3:ListBucket", "s3:ListBucketMultipartUploads")
    return [
        _allow("PublishVersions", who, _WRITE, f"{arn}/{under}*"),
        _allow("SeeWhatIsThere", who, whole, arn),
    ]


def _write_once(arn: str, under: str) -> list[dict[str, Any]]:
    """
    Source: AmazonS3 userguide, "Enforce conditional writes on Amazon S3 buckets".

    Under it S3 refuses every CopyObject, with conditions too; a push then sends the bytes.
    """
    create_only = {
        "Null": {"s3:if-none-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},  # parts of an upload cannot say it
    }
    return [
        {
            **_deny("CreateOnly", ("s3:PutObject",), [f"{arn}/{under}{key}" for key in FOR_EVER]),
            "Condition": create_only,
        },
        _deny(
            "KeepReleases",
            ("s3:DeleteObject", "s3:DeleteObjectVersion"),
            [f"{arn}/{under}{key}" for key in ("datasets/*/releases/*", "retracted/*")],
        ),
    ]


def _allow(sid: str, who: Sequence[str], actions: Sequence[str], resource: str) -> dict[str, Any]:
    principal: Any = "*" if "*" in who else {"AWS": list(who)}
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": principal,
        "Action": list(actions),
        "Resource": resource,
    }


def _deny(sid: str, actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": list(resources),
    }


def _literal(prefix: str) -> str:
    """A prefix in which nothing is a wildcard or a variable of the policy language."""
    return re.sub(r"[*?$]", lambda match: f"${{{match[0]}}}", prefix)
