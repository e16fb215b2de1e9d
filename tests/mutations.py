"""
The protocol, broken on purpose in one place each. A suite that lets one of these pass is broken.

Each mutation names the check that must fail with it; without the mutation that check passes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from publisher.bucket import (
    catalog,
    consume,
    fetching,
    maintain,
    objects,
    publish,
    sending,
    verifying,
)
from publisher.bucket.trust import UNSIGNED
from publisher.errors import ObjectExists
from publisher.spill import Spill
from publisher.storage import Bucket
from publisher.versions import manifest as documents
from publisher.versions.manifest import Entries, Entry
from publisher.versions.packs import Index, Placed

from .schedules import PASSING, Cast, Layout, Trial, refuses_the_deaf

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutation:
    """A broken protocol, and what must find that out."""

    name: str
    apply: Callable[[Patch], None]
    check: Callable[[Cast], None]


# ── checks ───────────────────────────────────────────────────────────────────────────────────


def exploring(scene: str, layout: Layout = "plain", failing: int = 1) -> Callable[[Cast], None]:
    """A fault anywhere."""
    return lambda cast: Trial(cast.scenes(layout)[scene]).explore(failing=failing)


def waiting(scene: str, layout: Layout = "plain") -> Callable[[Cast], None]:
    """Requests that come late."""
    return lambda cast: Trial(cast.scenes(layout)[scene]).late_arrivals()


def racing(scene: str, layout: Layout = "plain") -> Callable[[Cast], None]:
    """Two at once."""
    return lambda cast: Trial(cast.scenes(layout)[scene]).together(stride=2)


def looking(layout: Layout = "plain") -> Callable[[Cast], None]:
    """One bit of many bytes, and what verify says."""
    return lambda cast: Trial(cast.scenes(layout)["second version"]).each_byte(step=5)


def mending(layout: Layout = "plain") -> Callable[[Cast], None]:
    """Damage, and a push upon it."""
    return lambda cast: Trial(cast.scenes(layout)["first version"]).mends()


def pulling(name: str, layout: Layout = "plain") -> Callable[[Cast], None]:
    """A pull with a fault anywhere."""

    def check(cast: Cast) -> None:
        trial, folder = cast.pulls(layout)[name]
        trial.explore(folder, PASSING)

    return check


def deaf(cast: Cast) -> None:
    """A server that ignores conditions."""
    refuses_the_deaf(cast.scenes("plain")["first version"].steps[0])


# ── mutations ────────────────────────────────────────────────────────────────────────────────


class _Altered:
    """A bucket of which some puts are done otherwise."""

    def __init__(self, bucket: Bucket, part: str, put: Callable[..., object]) -> None:
        self._bucket, self._part, self._put = bucket, part, put

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    def put(self, key: str, body: bytes | Path, **how: Any) -> object:
        if self._part in key:
            return self._put(self._bucket, key, body, **how)
        return self._bucket.put(key, body, **how)


def _unconditionally(bucket: Bucket, key: str, body: bytes, **how: Any) -> object:
    return bucket.put(key, body, **{**how, "if_absent": False, "if_match": None})


def _never_refused(bucket: Bucket, key: str, body: bytes, **how: Any) -> object:
    with suppress(ObjectExists):
        return bucket.put(key, body, **how)


def _puts(part: str, put: Callable[..., object]) -> Callable[[Patch], None]:
    """Of a push."""

    def apply(patch: Patch) -> None:
        start = publish._Push.__init__

        def altered(self: Any, bucket: Bucket, *rest: object) -> None:
            start(self, _Altered(bucket, part, put), *rest)

        patch.setattr(publish._Push, "__init__", altered)

    return apply


def _record_before_content(patch: Patch) -> None:
    def run(
        self: Any,
        layout: Layout,
        created: str,
        goal: object,
        signers: Any,
        *_: object,
        **__: object,
    ) -> publish.Pushed:
        publish.require_conditional_writes(self._bucket)
        order = self._order(layout)
        self._claim()
        places = Placed(p for x in order.parcels for p in x.places(str(x.key))).sorted()
        record, _ = self._commit(order, self._send_lists(places), created)
        puts = sending.send(self._bucket, self._stock, self._tree, order.parcels, self._on_bytes)
        sent = [put.parcel for put in puts if put.is_new]
        publish._advance(self._bucket, self._name, goal, self._version, record.root, signers)
        return self._pushed("published", order, sent, record)

    patch.setattr(publish._Push, "run", run)


def _lists_after_record(patch: Patch) -> None:
    put, commit = publish._Push._put, publish._Push._commit
    waiting: dict[int, list[tuple[Any, ...]]] = defaultdict(list)

    def later(self: Any, step: str, key: str, *rest: object) -> None:
        if key.startswith(("manifests/", "index/")):
            waiting[id(self)].append((step, key, *rest))
        else:
            put(self, step, key, *rest)

    def first(self: Any, *rest: Any) -> Any:
        done = commit(self, *rest)
        for parts in waiting.pop(id(self), ()):
            put(self, *parts)
        return done

    patch.setattr(publish._Push, "_put", later)
    patch.setattr(publish._Push, "_commit", first)


def _channel_before_record(patch: Patch) -> None:
    commit = publish._Push._commit

    def first(self: Any, *rest: Any) -> Any:
        root = self._manifest.root
        publish._advance(self._bucket, self._name, "latest", self._version, root, UNSIGNED)
        return commit(self, *rest)

    patch.setattr(publish._Push, "_commit", first)


def _channel_without_swap(patch: Patch) -> None:
    swap = maintain.swap

    def altered(bucket: Bucket, *rest: Any, **how: Any) -> Any:
        return swap(_Altered(bucket, "/channels/", _unconditionally), *rest, **how)

    patch.setattr(maintain, "swap", altered)


def _etag_after_body(patch: Patch) -> None:
    """Somebody may have moved the channel between the body and the etag."""

    class Swapped:
        def __init__(self, bucket: Bucket) -> None:
            self._bucket = bucket
            self._body: bytes | None = None

        def __getattr__(self, name: str) -> Any:
            return getattr(self._bucket, name)

        def head(self, key: str) -> Any:
            self._body = self._bucket.get(key)
            return self._bucket.head(key)

        def get(self, key: str, **how: Any) -> bytes:
            body, self._body = self._body, None
            return self._bucket.get(key, **how) if body is None else body

    swap = maintain.swap
    patch.setattr(maintain, "swap", lambda bucket, *r, **h: swap(Swapped(bucket), *r, **h))


def _channel_moves_back(patch: Patch) -> None:
    advance = maintain._next

    def forced(
        bucket: Bucket, name: str, channel: Any, version: Any, root: str, _: object, signers: Any
    ) -> None:
        key = documents.channel_key(name, channel)
        kind = documents.ChannelState
        maintain.swap(bucket, key, kind, lambda now: advance(key, now, version, root, signers))

    patch.setattr(publish, "advance", forced)


def _conflict_is_fine(patch: Patch) -> None:
    patch.setattr(publish._Push, "_refuse_other", lambda self, theirs: None)


def _no_claim(patch: Patch) -> None:
    patch.setattr(publish._Push, "_claim", lambda self: True)


def _no_probe(patch: Patch) -> None:
    patch.setattr(publish, "require_conditional_writes", lambda bucket: None)


def _half_a_probe(patch: Patch) -> None:
    def probe(bucket: Bucket) -> None:
        with suppress(ObjectExists):
            bucket.put("publisher.json", b"", if_absent=True)
        try:
            bucket.put("publisher.json", b"", if_absent=True)
        except ObjectExists:
            return
        raise publish.StorageError("ignores If-None-Match")

    patch.setattr(publish, "require_conditional_writes", probe)


def _head_without_size(patch: Patch) -> None:
    def believed(found: Any, size: int, sha256: str | None) -> bool:
        return found is not None

    patch.setattr(sending, "is_sound", believed)
    patch.setattr(publish, "is_sound", believed)


def _head_without_checksum(patch: Patch) -> None:
    def believed(found: Any, size: int, sha256: str | None) -> bool:
        return found is not None and found.size == size

    patch.setattr(sending, "is_sound", believed)
    patch.setattr(publish, "is_sound", believed)


def _never_replaced(patch: Patch) -> None:
    """What is there under a name that follows from content must be that content."""

    def write(bucket: Bucket, step: str, key: str, body: Any, sha256: str, *rest: object) -> None:
        with suppress(ObjectExists):
            bucket.put(key, body, sha256=sha256, if_absent=True)

    patch.setattr(sending, "write", write)
    patch.setattr(publish, "write", write)


def _published_is_enough(patch: Patch) -> None:
    """The record is there, so there is nothing to do."""
    run = publish._Push.run

    def quick(self: Any, *rest: Any, **said: bool) -> Any:
        return None if self._theirs is not None else run(self, *rest, **said)

    patch.setattr(publish._Push, "run", quick)


def _pull_does_not_hash(patch: Patch) -> None:
    is_right = fetching.Fetch._is_right

    def believed(self: Any, feed: Any, lot: Any, part: Path, *rest: Any) -> bool:
        is_right(self, feed, lot, part, *rest)
        return part.stat().st_size == lot.place.size

    patch.setattr(fetching.Fetch, "_is_right", believed)
    _small_files_are_not_hashed(patch)


def _pull_does_not_count(patch: Patch) -> None:
    is_right = fetching.Fetch._is_right

    def believed(self: Any, feed: Any, lot: Any, *rest: Any) -> bool:
        is_right(self, feed, lot, *rest)
        return True

    patch.setattr(fetching.Fetch, "_is_right", believed)


def _small_files_are_not_hashed(patch: Patch) -> None:
    def believed(self: Any, body: bytes, lot: Any, bundle: object) -> bool:
        part = Path(self._part(lot))
        part.write_bytes(body)
        self._install(lot, part)
        return True

    patch.setattr(fetching.Fetch, "_is_brought", believed)


def _pull_without_parts(patch: Patch) -> None:
    """Bytes come under the final name."""
    patch.setattr(fetching.Fetch, "_part", lambda self, lot: f"{self._to}/{lot.paths[0]}")


def _state_stays(patch: Patch) -> None:
    """An update does not say that the folder is incomplete meanwhile."""
    begin = consume._Pull._begin

    def kept(self: Any) -> None:
        state = self._to / ".publisher.json"
        body = state.read_bytes() if state.exists() else None
        begin(self)
        if body is not None:
            state.write_bytes(body)

    patch.setattr(consume._Pull, "_begin", kept)


def _seal_is_not_compared(patch: Patch) -> None:
    def unseal(body: bytes, kind: Any, key: str) -> Any:
        try:
            plain = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            plain.pop("seal", None)
            return msgspec.json.decode(msgspec.json.encode(plain), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise documents.damaged(key, str(error)) from None

    patch.setattr(documents, "_unseal", unseal)


def _lists_are_believed(patch: Patch) -> None:
    def read(body: bytes | Spill, name: str, shard: object) -> Entries:
        body = Spill.of_bytes(body) if isinstance(body, bytes) else body
        split = name.removeprefix("split/") if name.startswith("split/") else None
        try:
            lines = documents._LINES.decode_lines(body.read(0, len(body)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise documents.IntegrityError(str(error)) from None
        return Entries(Entry(x.path, x.size, x.sha256, split) for x in lines)

    patch.setattr(catalog, "read_shard", read)
    patch.setattr(objects, "read_shard", read)


def _index_is_believed(patch: Patch) -> None:
    def read(bucket: Bucket, shard: Any) -> Index:
        key = f"index/{shard.index}.idx"
        try:
            return Index.from_bytes(bucket.get(key), shard)
        except (catalog.ObjectNotFound, catalog.FormatError) as error:
            raise catalog._damaged_list(bucket, key, "an index", error) from error

    patch.setattr(catalog, "read_index", read)
    patch.setattr(publish, "read_index", read)
    patch.setattr(verifying, "index_of", lambda shard, _: lambda b: Index.from_bytes(b, shard))


def _verify_asks_only(patch: Patch) -> None:
    """The deep look is as shallow as the other, on a bucket that keeps no checksums."""

    def shallow(bucket: Bucket, item: Any) -> Any:
        wrong = objects.asked(bucket, item.key, item.size, None)
        return wrong and (wrong, item.paths)

    patch.setattr(verifying, "read_through", shallow)


def _verify_blames_all(patch: Patch) -> None:
    """All files of a damaged pack are named, not the damaged one."""

    def all_of_it(bucket: Bucket, item: Any) -> Any:
        wrong = objects.read_through(bucket, item)
        return wrong and (wrong[0], item.paths)

    patch.setattr(verifying, "read_through", all_of_it)


def mutations() -> Iterator[Mutation]:
    """All of them."""
    two, record = "one version, two contents", "/releases/"
    table: Mapping[str, tuple[Callable[[Patch], None], Callable[[Cast], None]]] = {
        "record before content": (_record_before_content, exploring("first version")),
        "lists after the record": (_lists_after_record, exploring("first version", "packs")),
        "plain put of the record": (_puts(record, _unconditionally), waiting(two)),
        "a refused record is success": (_puts(record, _never_refused), racing(two, "packs")),
        "a conflict is no error": (_conflict_is_fine, exploring(two)),
        "no claim of the folder": (_no_claim, racing(two)),
        "no probe": (_no_probe, deaf),
        "half a probe": (_half_a_probe, deaf),
        "head believed without size": (_head_without_size, mending()),
        "head believed without checksum": (_head_without_checksum, mending()),
        "damage is never replaced": (_never_replaced, mending("packs")),
        "a record is enough to do nothing": (_published_is_enough, exploring("first version")),
        "channel before the record": (_channel_before_record, exploring("first version")),
        "channel without compare-and-swap": (_channel_without_swap, waiting("channel")),
        "etag read after the body": (_etag_after_body, racing("channel")),
        "a push moves a channel back": (_channel_moves_back, exploring("two versions")),
        "pull does not hash": (_pull_does_not_hash, pulling("new folder")),
        "pull does not hash what comes at once": (
            _small_files_are_not_hashed,
            pulling("new folder"),
        ),
        "pull does not count": (_pull_does_not_count, pulling("new folder")),
        "pull writes to final names": (_pull_without_parts, pulling("new folder")),
        "an update looks complete": (_state_stays, pulling("next version")),
        "seals are not compared": (_seal_is_not_compared, looking()),
        "file lists are believed": (_lists_are_believed, looking()),
        "the index is believed": (_index_is_believed, looking("packs")),
        "verify only asks for sizes": (_verify_asks_only, looking()),
        "verify names whole packs": (_verify_blames_all, looking("packs")),
    }
    for name, (apply, check) in table.items():
        yield Mutation(name, apply, check)


MUTATIONS = tuple(mutations())


def caught(mutation: Mutation, cast: Cast) -> str | None:
    """What the suite says of a broken protocol; None where it says nothing."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.apply(patch)
        try:
            mutation.check(cast)
        except AssertionError as error:
            return str(error)
    return None
