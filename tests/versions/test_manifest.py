from __future__ import annotations

import hashlib
import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from publisher.errors import FormatError, IntegrityError, PublisherError
from publisher.files import canonical_json
from publisher.versions.manifest import (
    ChannelState,
    Entry,
    Manifest,
    Record,
    Shard,
    blob_key,
    distinct,
    plan,
    read_shard,
    shard_bytes,
    shard_of,
)
from publisher.versions.version import Version
from tests.trees import FILES, entry, manifest

digests = st.binary(min_size=1).map(lambda b: hashlib.sha256(b).hexdigest())
paths = st.lists(st.text("abä ", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)


@st.composite
def manifests(draw) -> Manifest:
    """Files of several splits whose names get along."""
    folders = st.sampled_from([None, "train", "val", "test"])
    names = draw(st.lists(st.tuples(folders, st.integers(0, 99)), max_size=6, unique=True))
    entries = (
        Entry(f"{s or 'docs'}/ä{n}.jpg", draw(st.integers(0, 2**40)), draw(digests), s)
        for s, n in names
    )
    return Manifest("hands", tuple(entries))


@given(manifests(), st.randoms())
def test_the_root_does_not_depend_on_order(m: Manifest, chance: random.Random):
    shuffled = list(m.entries)
    chance.shuffle(shuffled)
    assert Manifest("hands", tuple(shuffled)).root == m.root
    assert Manifest("hands", tuple(shuffled)).to_bytes() == m.to_bytes()


@given(manifests(), st.data())
def test_the_root_changes_with_every_fact_of_every_file(m: Manifest, data):
    if not m.entries:
        return
    old = data.draw(st.sampled_from(m.entries))
    change = data.draw(
        st.sampled_from(
            [
                {"path": old.path + "x"},
                {"size": old.size + 1},
                {"sha256": hashlib.sha256(old.sha256.encode()).hexdigest()},
                {"split": "other"},
            ]
        )
    )
    others = [e for e in m.entries if e != old]
    assert Manifest("hands", (*others, replace(old, **change))).root != m.root
    assert Manifest("hands", tuple(others)).root != m.root


@pytest.mark.parametrize("path", sorted(set(FILES) - {"provenance.json"}))
def test_one_bit_of_any_file_is_another_version(path):
    changed = bytes([FILES[path][0] ^ 1]) + FILES[path][1:]
    assert manifest({**FILES, path: changed}).root != manifest().root


def test_the_same_data_from_another_commit_is_the_same_version():
    rebuilt = manifest({**FILES, "provenance.json": b'{"commit":"def"}\n'})
    assert rebuilt.root == manifest().root
    assert rebuilt.shards["provenance"] != manifest().shards["provenance"]


def test_moving_a_file_from_train_to_val_is_another_version():
    entries = [replace(e, split="val") if e.split == "train" else e for e in manifest().entries]
    assert Manifest("hands", tuple(entries)).root != manifest().root


@given(manifests())
def test_bytes_and_back(m: Manifest):
    assert Manifest.from_bytes(m.to_bytes()) == m
    json.loads(m.to_bytes())


def test_the_root_as_anyone_can_compute_it():
    """docs/bucket.md, with nothing but hashlib and json."""
    shards: dict[str, list[dict[str, object]]] = {}
    for e in manifest().entries:
        name = {None: "common"}.get(e.split, f"split/{e.split}")
        name = "provenance" if e.path == "provenance.json" else name
        row = {"path": e.path, "sha256": e.sha256, "size": e.size}
        shards.setdefault(name, []).append(row)
    found = {}
    for name, rows in shards.items():
        if name != "provenance":
            lines = [canonical_json(r) + b"\n" for r in sorted(rows, key=lambda r: r["path"])]
            found[name] = hashlib.sha256(b"".join(lines)).hexdigest()
    root = hashlib.sha256(canonical_json(found)).hexdigest()
    assert manifest().root == f"sha256:{root}"


@given(st.lists(st.sampled_from(["common", "provenance", "split/train", "split/val"])))
def test_a_part_of_a_manifest_has_the_root_of_the_whole(left):
    whole = manifest()
    kept = tuple(e for e in whole.entries if e.shard not in left)
    part = Manifest("hands", kept, {n: s for n, s in whole.shards.items() if n in left})
    assert part.root == whole.root
    assert part.shards == whole.shards
    assert Manifest.from_bytes(part.to_bytes()) == part


@given(st.data())
def test_no_flipped_bit_of_a_manifest_stays_unseen(data):
    body = bytearray(manifest(name="").to_bytes())  # a title is no part of what a version is
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PublisherError):
        Manifest.from_bytes(bytes(body))


@given(st.data())
def test_no_flipped_bit_of_a_record_or_channel_stays_unseen(data):
    documents = (record(), ChannelState("1.0.0", manifest().root))
    document = data.draw(st.sampled_from(documents))
    body = bytearray(document.to_bytes())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError, match="k is damaged"):
        type(document).from_bytes(bytes(body), "k")


def record() -> Record:
    return record_of(manifest(), "2026-01-01T00:00:00Z", "tool")


def record_of(m: Manifest, created: str, tool: str) -> Record:
    indexes = dict.fromkeys(m.shards, "1" * 64)
    version = Version(1, 0, 0)
    return Record.of(m, "hands", version, created, tool, layout="packs", indexes=indexes)


def test_a_record_and_back():
    assert Record.from_bytes(record().to_bytes(), "k") == record()
    assert record().splits["train"].images == 2
    assert record().provenance == entry("provenance.json", FILES["provenance.json"]).sha256


@pytest.mark.parametrize("splits", [("train", "val"), ()])
def test_a_sealed_document_as_anyone_can_write_it(splits):
    """docs/bucket.md, with nothing but hashlib and json."""
    entries = tuple(e for e in manifest().entries if e.split in splits)
    part = record_of(Manifest("hands", entries), "now", "ä")
    plain = json.loads(part.to_bytes())
    seal = plain.pop("seal")
    assert seal == hashlib.sha256(canonical_json(plain)).hexdigest()
    style = {"sort_keys": True, "ensure_ascii": False, "indent": 1, "separators": (",", ": ")}
    assert (json.dumps({**plain, "seal": seal}, **style) + "\n").encode() == part.to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../hands"},
        {"version": "1.0"},
        {"version": "../../1.0.0"},
        {"files_total": 10**12},
        {"files_total": 8},
        {"bytes_total": -1},
        {"root": "sha256:" + "0" * 64},
        {"splits": {}},
        {"shards": {"split/../x": {"sha256": "0" * 64, "files": 1, "bytes": 1, "index": "0" * 64}}},
        {"shards": {"common": {"sha256": "0" * 64, "files": 1, "bytes": 1, "index": "../k"}}},
        {"layout": "elsewhere"},
        {"schema": "publisher/release/1"},
        {"surprise": 1},
        {"schema": []},
    ],
)
def test_a_hostile_record_is_refused_though_its_seal_fits(change):
    plain = {**msgspec.to_builtins(record()), **change}
    plain["seal"] = hashlib.sha256(canonical_json(plain)).hexdigest()
    body = msgspec.json.format(canonical_json(plain), indent=1) + b"\n"
    with pytest.raises(IntegrityError, match="k is damaged"):
        Record.from_bytes(body, "k")


HOSTILE_PATHS = [
    "../up.jpg",
    "/etc/passwd",
    "a/../../b",
    "C:\\x",
    "a\\b",
    "a\x00b",
    "",
    "a//b",
    "./a",
    "manifest.json",
    "Manifest.JSON",
    ".publisher.json",
    ".publisher.parts/x",
    "x" * 1025,
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_paths_that_could_harm_are_refused(path):
    row = {"path": path, "sha256": "0" * 64, "size": 1}
    with pytest.raises(FormatError):
        Manifest("hands", (Entry(path, 1, "0" * 64),))
    with pytest.raises(PublisherError):
        Manifest.from_bytes(with_files([row]))


def with_files(rows: list[object], **more: object) -> bytes:
    """A manifest.json with these rows and digests that may not fit."""
    document = {"schema": "publisher/manifest/1", "name": "hands", "root": "sha256:" + "0" * 64}
    return canonical_json({**document, "shards": {}, "files": rows, **more})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"files":' * 50_000,
        with_files([{"path": "a", "sha256": "0" * 63, "size": 1}]),
        with_files([{"path": "a", "sha256": "G" * 64, "size": 1}]),
        with_files([{"path": "a", "sha256": "0" * 64, "size": -1}]),
        with_files([{"path": "a", "sha256": "0" * 64, "size": 2**60}]),
        with_files([{"path": "a", "sha256": "0" * 64, "size": 1.5}]),
        with_files([{"path": "a", "sha256": "0" * 64, "size": 1, "run": "rm"}]),
        with_files([{"path": "a", "sha256": "0" * 64, "size": 1}] * 2),
        with_files([], schema="publisher/manifest/2"),
        with_files([], shards={"split/a/b": {"sha256": "0" * 64, "files": 1, "bytes": 1}}),
        with_files([], shards={"common": {"sha256": "0" * 64, "files": 10**9, "bytes": 1}}),
    ],
)
def test_hostile_manifests_are_refused(body):
    with pytest.raises(PublisherError):
        Manifest.from_bytes(body)


@pytest.mark.parametrize(
    ("first", "second"), [("a.jpg", "A.jpg"), ("ä", "a\u0308"), ("a", "a/b"), ("x/y", "X/Y/z")]
)
def test_files_that_cannot_live_side_by_side_everywhere_are_refused(first, second):
    with pytest.raises(FormatError):
        Manifest("hands", (Entry(first, 1, "0" * 64), Entry(second, 1, "0" * 64)))


def test_a_shard_gives_its_entries_back():
    entries = tuple(e for e in manifest().entries if e.split == "train")
    assert read_shard(shard_bytes(entries), "split/train", shard_of(entries)) == entries


@pytest.mark.parametrize(
    "body",
    [b"", b"[]\n", b'{"path":"a"}\n', b'{"path":"provenance.json","sha256":"0","size":1}\n'],
)
def test_a_shard_that_is_none_is_refused_though_its_digest_fits(body):
    promised = Shard(hashlib.sha256(body).hexdigest(), 1, 1)
    with pytest.raises(PublisherError):
        read_shard(body, "common", promised)


@given(manifests(), st.data())
def test_a_plan_has_every_file_once(m: Manifest, data):
    there = set(data.draw(st.lists(st.sampled_from(m.entries)))) if m.entries else set()
    p = plan(m.entries, there)
    assert {*p.move, *p.keep} == set(m.entries)
    assert len(p.move) + len(p.keep) == len(m.entries)
    assert set(p.keep) == there
    assert p.move_bytes + p.keep_bytes == m.size


def test_equal_bytes_are_stored_once():
    twice = (entry("a", b"same"), entry("b", b"same"), entry("c", b"other"))
    assert [e.sha256 for e in distinct(twice)] == [twice[0].sha256, twice[2].sha256]
    assert blob_key("ab" * 32) == "blobs/ab/" + "ab" * 32
