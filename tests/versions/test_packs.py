from __future__ import annotations

import hashlib
import io
import random
import struct
import tarfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.errors import FormatError, PublisherError
from publisher.versions import packs
from publisher.versions.manifest import Entry, Shard
from publisher.versions.packs import (
    END,
    GAP,
    LARGE,
    SPAN,
    TARGET,
    Index,
    Pack,
    Place,
    Read,
    digest_in,
    lots,
    max_index_bytes,
    pack_key,
    padding,
    plan_packs,
    reads,
)


def entry(path: str, size: int, content: object = None) -> Entry:
    """A file of which only path and size matter; its digest is that of `content` or its path."""
    split = path.split("/")[0] if path.startswith(("train/", "val/")) else None
    digest = hashlib.sha256(repr(path if content is None else content).encode()).hexdigest()
    return Entry(path, size, digest, split)


def bytes_of(pack: Pack, bodies: dict[str, bytes]) -> bytes:
    parts = [
        h + bodies[e.path] + padding(e.size)
        for h, e in zip(pack.headers, pack.entries, strict=True)
    ]
    return b"".join(parts) + END


names = st.text("abä ", min_size=1, max_size=4)
folders = st.sampled_from(["train/images", "train/panoptic", "val/images", "docs", "train"])
sizes = st.one_of(st.integers(0, 3000), st.integers(LARGE - 2, LARGE + 2), st.just(5 * LARGE))
files = st.lists(
    st.builds(
        lambda f, n, s, c: entry(f"{f}/{n}", s, (s, c)), folders, names, sizes, st.integers(0, 9)
    ),
    max_size=20,
    unique_by=lambda e: e.path,
)


# ── packs ────────────────────────────────────────────────────────────────────────────────────


@given(files, st.randoms())
def test_every_content_goes_to_one_place_whatever_the_order(entries, chance):
    made, single = plan_packs(entries)
    shuffled = list(entries)
    chance.shuffle(shuffled)
    assert [p.entries for p in plan_packs(shuffled)[0]] == [p.entries for p in made]
    there = [e.sha256 for p in made for e in p.entries] + [e.sha256 for e in single]
    assert sorted(there) == sorted({e.sha256 for e in entries})
    for pack in made:
        assert len(pack.entries) > 1
        assert len({(e.shard, packs._kind(e)) for e in pack.entries}) == 1
        assert all(e.size < LARGE for e in pack.entries)


def test_packs_end_at_64_mib_and_keep_pictures_maps_and_splits_apart():
    entries = [entry(f"train/images/{n:04}.jpg", 900_000) for n in range(100)]
    entries += [entry(f"train/panoptic/{n:04}.png", 20_000) for n in range(100)]
    entries += [entry(f"val/images/{n}.jpg", 20_000) for n in range(2)]
    entries += [entry("README.md", 10), entry("train/big.bin", LARGE)]
    made, single = plan_packs(entries)
    assert [(p.entries[0].path, len(p.entries)) for p in made] == [
        ("train/images/0000.jpg", 74),
        ("train/images/0074.jpg", 26),
        ("train/panoptic/0000.png", 100),
        ("val/images/0.jpg", 2),
    ]
    assert all(p.size <= TARGET + len(END) for p in made)
    assert [e.path for e in single] == ["README.md", "train/big.bin"]


@given(st.lists(st.tuples(st.text("aä/", min_size=1, max_size=200), st.binary(max_size=1500))))
def test_a_pack_is_a_tar_that_anyone_can_read(contents):
    bodies = {f"{n}{p.strip('/')}": body for n, (p, body) in enumerate(contents)}
    entries = [Entry(p, len(b), hashlib.sha256(b).hexdigest()) for p, b in bodies.items()]
    pack = Pack(tuple(entries))
    body = bytes_of(pack, bodies)
    assert len(body) == pack.size
    for e, offset in zip(pack.entries, pack.offsets, strict=True):
        assert body[offset : offset + e.size] == bodies[e.path]
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == bodies
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} <= {(0, 0, 0, "", 0o644)}


def test_the_bytes_of_a_pack_never_change():
    """A changed header would send every pack of every dataset once more."""
    bodies = {"train/images/1.jpg": b"one", "train/images/ä.jpg": b"two"}
    entries = tuple(Entry(p, len(b), "", "train") for p, b in bodies.items())
    digest = hashlib.sha256(bytes_of(Pack(entries), bodies)).hexdigest()
    assert digest == "5b726fefbb194386b36c26e71a4dfcf24fd50f9472a88dfba3e1915dbefdc228"


def test_a_key_named_by_content_says_its_digest():
    assert digest_in(pack_key("ab" * 32)) == "ab" * 32
    assert digest_in("blobs/ab/" + "ab" * 32) == "ab" * 32
    assert digest_in("datasets/hands/v1.0.0/README.md") is None
    assert digest_in("x/packs/ab/" + "ab" * 32 + ".tar") is None


# ── index ────────────────────────────────────────────────────────────────────────────────────

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
wholes = {"packs/a.tar": 2**40, "blobs/b": 7, "datasets/hands/v1.0.0/ä b.jpg": 0}


@st.composite
def places(draw) -> Place:
    key = draw(st.sampled_from(sorted(wholes)))
    offset = draw(st.integers(0, wholes[key]))
    return Place(key, offset, draw(st.integers(0, wholes[key] - offset)), wholes[key])


@given(st.dictionaries(digests, places(), max_size=30), digests)
def test_an_index_finds_what_it_was_given(there, other):
    index = Index.of(there)
    shard = Shard("", max(len(there), 1), 0)
    again = Index.from_bytes(index.to_bytes(), shard)
    assert again == index
    assert dict(again) == there
    assert {sha256: again.find(sha256) for sha256 in there} == there
    assert again.find(other) == there.get(other)
    assert len(index.to_bytes()) <= max_index_bytes(shard)


def test_an_index_is_read_by_numpy_as_it_is():
    there = {f"{n:02x}" * 32: Place("packs/a.tar", 512 * n, n, 10_000) for n in (3, 1, 2)}
    _, _, rows = Index.of(there).to_bytes().partition(b"\n")
    kind = np.dtype([("sha256", "S32"), ("object", "<u4"), ("offset", "<u8"), ("size", "<u8")])
    table = np.frombuffer(rows, kind)
    assert table["offset"].tolist() == [512, 1024, 1536]
    assert table["size"].tolist() == [1, 2, 3]


HEAD = b'{"objects":[{"key":"packs/a","size":9}],"rows":%d,"schema":"publisher/index/1"}\n'
ROW = struct.pack("<32sIQQ", b"\1" * 32, 0, 4, 5)


def row(digest: int, number: int, offset: int, size: int) -> bytes:
    return struct.pack("<32sIQQ", bytes([digest]) * 32, number, offset, size)


def test_the_hand_written_index_is_fine_when_it_is_not_hostile():
    index = Index.from_bytes(HEAD % 1 + row(1, 0, 4, 5), Shard("", 1, 5))
    assert index.find("01" * 32) == Place("packs/a", 4, 5, 9)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"[" * 100_000 + b"\n",
        b"\xff\n",
        HEAD % 1,
        HEAD % 2 + row(1, 0, 4, 5),
        HEAD % 1 + row(1, 0, 4, 5)[:-1],
        HEAD % -1,
        HEAD % 1 + row(1, 1, 0, 1),
        HEAD % 1 + row(1, 0, 5, 5),
        HEAD % 1 + row(1, 0, 2**64 - 1, 2**64 - 1),
        HEAD % 2 + row(1, 0, 0, 1) * 2,
        HEAD % 2 + row(2, 0, 0, 1) + row(1, 0, 0, 1),
        HEAD % 4 + b"".join(row(n, 0, 0, 1) for n in range(1, 5)),
        (HEAD % 1).replace(b"index/1", b"index/2") + row(1, 0, 0, 1),
        (HEAD % 1).replace(b"packs/a", b"../evil") + row(1, 0, 0, 1),
        (HEAD % 1).replace(b"packs/a", b"/etc/evil") + row(1, 0, 0, 1),
        (HEAD % 1).replace(b'"size":9', b'"size":-9') + row(1, 0, 0, 1),
        (HEAD % 1).replace(b'"rows"', b'"run":"rm","rows"') + row(1, 0, 0, 1),
        (HEAD % 2).replace(b"[{", b'[{"key":"packs/a","size":1},{')
        + row(1, 0, 0, 1)
        + row(2, 0, 0, 1),
        (HEAD % 1).replace(b"[{", b'[{"key":"b","size":1},{') + row(1, 0, 0, 1),
    ],
)
def test_hostile_indexes_are_refused(body):
    with pytest.raises(PublisherError):
        Index.from_bytes(body, Shard("", 3, 0))


def test_what_is_no_index_is_a_format_error():
    with pytest.raises(FormatError, match="not an index"):
        Index.from_bytes(b"{}\n", Shard("", 3, 0))


# ── reading ──────────────────────────────────────────────────────────────────────────────────


@st.composite
def extents(draw) -> list[Place]:
    """Some of the files of an object that lie one after another, with gaps."""
    found, at = [], 0
    for _ in range(draw(st.integers(0, 12))):
        at += draw(st.sampled_from([0, 512, GAP, GAP + 1, 3 * 2**20]))
        size = draw(st.sampled_from([0, 1, 20_000, 2**20, SPAN - 1, SPAN + 1]))
        found.append((at, size))
        at += size
    chosen = draw(st.lists(st.sampled_from(found))) if found else []
    return [Place("packs/a.tar", offset, size, at + 1024) for offset, size in chosen]


def requests(places: list[Place]) -> list[Read]:
    """What fetches these places; each has a digest of its own."""
    digest = {p: hashlib.sha256(repr(p).encode()).hexdigest() for p in places}
    files = [(Entry(str(n), p.size, digest[p]), p) for n, p in enumerate(places)]
    return list(reads(lots(files)))


def within(read: Read) -> list[Place]:
    return [lot.place for lot in read.lots]


@given(extents())
def test_every_place_is_read_once_and_in_order(wanted):
    made = requests(wanted)
    assert sorted(p for r in made for p in within(r)) == sorted(set(wanted))
    for r in made:
        assert within(r) == sorted(within(r))
        assert all(p.offset + p.size <= n.offset for p, n in pairwise(within(r)))
        assert r.stop - r.start <= SPAN or len(r.lots) == 1
        first, last = within(r)[0], within(r)[-1]
        assert (r.start, r.stop) == (first.offset, last.offset + last.size)


def test_equal_files_are_one_lot_and_other_contents_at_one_place_are_not():
    """An index may lie: whoever gets the bytes of another content must find out."""
    place = Place("packs/a.tar", 512, 3, 9999)
    files = [("b", "1"), ("a", "1"), ("c", "2")]
    found = lots((Entry(path, 3, digest * 64), place) for path, digest in files)
    assert [(x.sha256[0], x.paths) for x in found] == [("1", ("a", "b")), ("2", ("c",))]
    assert len(list(reads(found))) == 2


@given(extents())
def test_little_is_read_that_is_not_wanted(wanted):
    made = requests(wanted)
    useful = sum(p.size for p in set(wanted))
    asked = sum(r.stop - r.start for r in made)
    assert asked <= max(2 * useful, useful + GAP * (len(set(wanted)) - len(made)))


def test_neighbours_come_in_one_request_and_far_ones_in_two():
    near = [Place("p", 512, 100, 10**9), Place("p", 612 + GAP, 100, 10**9)]
    far = [Place("p", 512, 100, 10**9), Place("p", 613 + GAP, 100, 10**9)]
    assert [(r.start, r.stop) for r in requests(near)] == [(512, 712 + GAP)]
    assert len(requests(far)) == 2


def test_a_pack_of_which_most_is_wanted_is_read_through():
    some = [Place("p", n * 10**6, 600_000, 10**7) for n in range(10)]
    assert len(requests(some)) == 1
    assert len(requests(some[::2])) == 5


def test_places_that_overlap_are_asked_for_apart():
    assert len(requests([Place("p", 0, 10, 99), Place("p", 5, 10, 99)])) == 2


def test_objects_are_not_mixed():
    chance = random.Random(1)
    some = [Place(k, chance.randrange(10**6), 10, 10**6 + 10) for k in "ab" for _ in range(50)]
    assert all(len({p.key for p in within(r)}) == 1 for r in requests(some))


@given(
    path=st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=120),
    size=st.one_of(st.integers(0, 2**20), st.sampled_from([8**11 - 1, 8**11])),
)
def test_a_header_is_the_one_that_tarfile_writes(path, size):
    info = tarfile.TarInfo(path)
    info.size = size
    (header,) = Pack((Entry(path, size, "0" * 64),)).headers
    assert header == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
