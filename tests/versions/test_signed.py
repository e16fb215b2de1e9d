"""What exactly is signed, and documents with signatures that are hostile."""

from __future__ import annotations

import hashlib
import json
import random

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from publisher.errors import IntegrityError
from publisher.files import canonical_json
from publisher.versions.manifest import (
    ChannelState,
    Record,
    ReleaseSignatures,
    Signature,
    Status,
    channel_key,
    record_key,
    signatures_key,
    status_key,
)
from publisher.versions.signed import statement
from publisher.versions.version import Channel, Version
from tests.fuzz import mutated
from tests.signers import key, signers
from tests.trees import manifest
from tests.versions.test_manifest import record

VERSION = Version(1, 0, 0)
NOON = "2026-01-01T12:00:00+00:00"
RECORD = record_key("hands", VERSION)
LATEST = channel_key("hands", Channel("latest"))
STATUS = status_key("hands", VERSION)
CHANNEL = ChannelState("1.0.0", manifest().root, seq=7, previous="0.9.0", expires=NOON)
YANKED = Status("1.0.0", "yanked", "ä", NOON, "1.0.1")
SIGNED = {
    LATEST: signers("ann", "bob").signed(LATEST, CHANNEL),
    STATUS: signers("ann").signed(STATUS, YANKED),
    signatures_key("hands", VERSION): ReleaseSignatures(
        signers("ann", "bob").sign(statement(RECORD, record()))
    ),
}


def test_a_signature_as_anyone_can_check_it():
    """docs/bucket.md, with nothing but json and an ed25519 library."""
    plain = json.loads(record().to_bytes())
    for name in ("seal", "layout"):
        del plain[name]
    for shard in plain["shards"].values():
        del shard["index"]
    said = b"publisher/signature/1\n" + RECORD.encode() + b"\n" + canonical_json(plain)
    check(SIGNED[signatures_key("hands", VERSION)].to_bytes(), said)
    for place in (LATEST, STATUS):
        plain = json.loads(SIGNED[place].to_bytes())
        del plain["seal"], plain["signatures"]
        said = b"publisher/signature/1\n" + place.encode() + b"\n" + canonical_json(plain)
        check(SIGNED[place].to_bytes(), said)


def check(body: bytes, said: bytes) -> None:
    for signature in json.loads(body)["signatures"]:
        public = bytes.fromhex(signature["key"].removeprefix("ed25519:"))
        holder = Ed25519PublicKey.from_public_bytes(public)
        holder.verify(bytes.fromhex(signature["signature"]), said)  # raises where it does not hold


DOCUMENTS = st.one_of(
    st.builds(
        ChannelState,
        st.sampled_from(["1.0.0", "1.1.0"]),
        st.just(manifest().root),
        st.integers(1, 3),
        st.sampled_from(["0.9.0", msgspec.UNSET]),
        st.sampled_from([NOON, msgspec.UNSET]),
    ),
    st.builds(
        Status,
        st.sampled_from(["1.0.0", "1.1.0"]),
        st.sampled_from(["active", "yanked"]),
        st.sampled_from(["", "\n"]),
        st.just(NOON),
    ),
    st.builds(lambda tool: msgspec.structs.replace(record(), tool=tool), st.text(max_size=2)),
)
PLACES = st.sampled_from([RECORD, LATEST, STATUS, channel_key("feet", Channel("latest"))])


@given(PLACES, DOCUMENTS, PLACES, DOCUMENTS)
def test_no_two_documents_or_places_are_signed_alike(place, document, other_place, other):
    alike = statement(place, document) == statement(other_place, other)
    assert alike == ((place, document) == (other_place, other))


@given(DOCUMENTS)
def test_signatures_and_location_are_no_part_of_what_is_signed(document):
    said = statement(RECORD, document)
    if isinstance(document, Record):
        moved = {n: msgspec.structs.replace(s, index="2" * 64) for n, s in document.shards.items()}
        other = msgspec.structs.replace(document, layout="plain", shards=moved)
    else:
        other = msgspec.structs.replace(document, signatures=(key("ann").sign(said),))
    assert other != document
    assert statement(RECORD, other) == said


@pytest.mark.parametrize("place", SIGNED)
def test_and_back(place):
    document = SIGNED[place]
    assert type(document).from_bytes(document.to_bytes(), "k") == document


@given(st.sampled_from(sorted(SIGNED)), st.data())
def test_no_flipped_bit_stays_unseen(place, data):
    document = SIGNED[place]
    body = bytearray(document.to_bytes())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError, match="k is damaged"):
        type(document).from_bytes(bytes(body), "k")


def resealed(plain: dict) -> bytes:
    """What somebody would write who knows the format: the seal fits."""
    plain = {k: v for k, v in plain.items() if k != "seal"}
    sealed = {**plain, "seal": hashlib.sha256(canonical_json(plain)).hexdigest()}
    return msgspec.json.format(canonical_json(sealed), indent=1) + b"\n"


ONE = {"key": "ed25519:" + "0" * 64, "signature": "0" * 128}
TWO = {"key": "ed25519:" + "1" * 64, "signature": "0" * 128}


@pytest.mark.parametrize(
    "found",
    [
        [],
        [ONE, ONE],
        [TWO, ONE],
        [{**ONE, "key": "ed25519:" + "A" * 64}],
        [{**ONE, "key": "rsa:" + "0" * 64}],
        [{**ONE, "key": ONE["key"] + "\n"}],
        [{**ONE, "signature": "0" * 127}],
        [{**ONE, "signature": "0" * 128 + "\n"}],
        [{**ONE, "signature": "0" * 130}],
        [{**ONE, "alg": "none"}],
        [{"key": ONE["key"]}],
        [{"key": f"ed25519:{n:064x}", "signature": "0" * 128} for n in range(17)],
        {},
        None,
        "0" * 128,
    ],
)
@pytest.mark.parametrize("place", SIGNED)
def test_hostile_signatures_are_refused_though_the_seal_fits(place, found):
    kind, plain = type(SIGNED[place]), json.loads(SIGNED[place].to_bytes())
    assert kind.from_bytes(resealed({**plain, "signatures": [ONE, TWO]}), "k")
    with pytest.raises(IntegrityError, match="k is damaged"):
        kind.from_bytes(resealed({**plain, "signatures": found}), "k")


@pytest.mark.parametrize(
    "expires",
    [
        *("", "never", "2026-01-01", "2026-02-30T00:00:00+00:00", "2026-01-01T00:00:00+01:00"),
        *("2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00\n", 0, None),
    ],
)
def test_an_end_that_is_no_moment_in_utc_is_refused(expires):
    plain = json.loads(SIGNED[LATEST].to_bytes())
    with pytest.raises(IntegrityError, match="k is damaged"):
        ChannelState.from_bytes(resealed({**plain, "expires": expires}), "k")


@pytest.mark.parametrize("place", SIGNED)
def test_whatever_a_bucket_says_it_is_a_document_or_damaged(place):
    """Mutations of the bytes, and of the values under a seal that fits."""
    kind, body = type(SIGNED[place]), SIGNED[place].to_bytes()
    read = 0
    for number in range(1500):
        rng = random.Random(number)
        hostile = mutated(body, "document.json", rng)
        if number % 2:
            try:
                plain = json.loads(hostile)
                hostile = resealed(plain) if isinstance(plain, dict) else hostile
            except (ValueError, UnicodeError, OverflowError, RecursionError):
                pass
        try:
            found = kind.from_bytes(hostile, "k")
        except IntegrityError:
            continue
        read += 1
        assert found.to_bytes() == hostile
        assert len(statement(place, found) if place in (LATEST, STATUS) else b"") < 2**20
    assert read  # some are harmless: the test has looked behind the seal


def test_what_is_too_long_is_not_read():
    with pytest.raises(IntegrityError, match="more than"):
        ReleaseSignatures.from_bytes(b" " * (2**20 + 1), "k")


def test_a_signature_is_told_by_its_key():
    assert Signature(**ONE) < Signature(**TWO)
