"""Release trees on disk: their manifest, whether they are what it says, and threads to look."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from ..errors import IntegrityError, UsageError
from ..files import has_digest
from ..names import listing
from ..progress import Amount, Progress, Transfer, silent, unwatched
from ..spill import Many, Spill, joined
from ..versions.documents import DOCUMENTS
from ..versions.manifest import MANIFEST, STATE, Entries, Entry, Manifest, in_order

THREADS = 16
_TOGETHER = 2**12  # items of any number that are there at a time
_SMALL = 2**15  # bytes, on average, of files that one thread hashes faster than two
_HANDFUL = 2**20  # bytes of files that a thread reads before it looks for more
_EACH = 2**13  # bytes that are read in the time of opening a file

T = TypeVar("T")
R = TypeVar("R")


def read_manifest(tree: Path) -> Manifest:
    """
    Read the manifest.json of a folder.

    Raises:
        UsageError: it has none.
        FormatError, IntegrityError: it is broken.
    """
    try:
        return manifest_at(tree / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{tree} is no release: it has no {MANIFEST}",
            hint="make one with `publisher build` or `publisher pull`",
        ) from None


def manifest_at(path: Path) -> Manifest:
    """Read a file that is to be a manifest.json."""
    with path.open("rb") as stream:
        body = Spill.of(stream)
    assert body is not None  # it is a file
    return Manifest.read(body)


def check_tree(
    tree: Path,
    manifest: Manifest,
    on_bytes: Transfer = unwatched,
    *,
    entries: Collection[Entry] | None = None,
) -> None:
    """
    Hash every file of a folder and compare with a manifest, or with some entries of a tree.

    A plain tree copied out of a bucket may have SHA256SUMS, urls.txt and get.py beside them.

    Raises:
        IntegrityError: files are missing, changed or too many; `.paths` names them all.
    """
    wanted = in_order(manifest.entries if entries is None else entries)
    missing, others = _astray(tree, wanted)
    absent = set(missing)
    here = Entries(e for e in wanted if e.path not in absent) if absent else wanted
    _refuse(tree, missing=missing, changed=_changed(tree, here, on_bytes), others=others)


def check_paths(tree: Path, manifest: Manifest) -> None:
    """
    Has a folder the files of a manifest, and no others? Reads none of them.

    Raises:
        IntegrityError: files are missing or too many; `.paths` names them all.
    """
    missing, others = _astray(tree, in_order(manifest.entries))
    _refuse(tree, missing=missing, others=others)


def check_contents(tree: Path, entries: Collection[Entry], on_bytes: Transfer = unwatched) -> None:
    """
    Hash some files of a folder.

    Raises:
        IntegrityError: files are changed; `.paths` names them all.
    """
    _refuse(tree, changed=_changed(tree, entries, on_bytes))


def _astray(tree: Path, wanted: Collection[Entry]) -> tuple[list[str], list[str]]:
    """The paths that are missing, and those that nobody wants; `wanted` is in order."""
    beside = {MANIFEST, STATE, *DOCUMENTS.difference(e.path for e in wanted)}
    there = Many((path,) for path in files_in(tree) if path not in beside).sorted()
    missing = [e.path for e, row in joined(wanted, there, by=attrgetter("path")) if row is None]
    others = joined(there, wanted, to=attrgetter("path"))
    return missing, [path for (path,), entry in others if entry is None]


def _changed(tree: Path, entries: Collection[Entry], on_bytes: Transfer) -> list[str]:
    sound = are_files_of(tree, entries, on_bytes)
    return [e.path for e, good in zip(entries, sound, strict=True) if not good]


def _refuse(
    tree: Path,
    *,
    missing: Sequence[str] = (),
    changed: Sequence[str] = (),
    others: Sequence[str] = (),
) -> None:
    """Name all that is wrong, if anything is."""
    kinds = {"missing": missing, "changed": changed, "not in the manifest": others}
    said = [f"{kind}: {listing(paths)}" for kind, paths in kinds.items() if paths]
    if said:
        raise IntegrityError(
            f"{tree} is not what its {MANIFEST} says; " + "; ".join(said),
            [path for paths in kinds.values() for path in paths],
            hint="build or pull it again, or remove what does not belong there",
        )


def files_in(tree: Path) -> Iterator[str]:
    """Every file, and every link, below a folder, as a path with "/"."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(f"{tree}/{folder}") as found:
            for one in found:
                if one.is_dir(follow_symlinks=False):
                    waiting.append(f"{folder}{one.name}/")
                else:
                    yield folder + one.name


def are_files_of(
    tree: Path, entries: Collection[Entry], on_bytes: Transfer = unwatched
) -> Iterator[bool]:
    """
    Which of these are in a folder with their very bytes? Hashes them, in order.

    Hashing large files needs no lock of the interpreter. Of small ones it goes from hand to hand
    at each, and two threads take longer than one, unless a disk or share makes them wait.
    """
    meter, left = Meter(on_bytes, "checked", amount_of(entries)), iter(entries)

    def look(some: Sequence[Entry]) -> list[bool]:
        sound = [has_digest(f"{tree}/{e.path}", e.size, e.sha256) for e in some]
        meter.add(*amount_of(some))
        return sound

    while some := list(islice(left, _TOGETHER)):
        handfuls, threads = list(_handfuls(some)), os.cpu_count() or 1
        if amount_of(some).bytes <= _SMALL * len(some):
            begun, worked = time.perf_counter(), time.thread_time()
            found = look(handfuls.pop(0))
            waits = time.perf_counter() - begun > 2 * (time.thread_time() - worked)
            threads = THREADS if waits else 1
            yield from found
        for found in each(look, handfuls, threads=threads):
            yield from found


def _handfuls(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Files for one thread after another, of some 1 MiB together or one that is larger."""
    some, size = list[Entry](), 0
    for entry in entries:
        some.append(entry)
        size += entry.size + _EACH
        if size >= _HANDFUL:
            yield some
            some, size = [], 0
    if some:
        yield some


def is_file_of(path: Path, entry: Entry) -> bool:
    """Is this a regular file with the bytes of the entry?"""
    return has_digest(path, entry.size, entry.sha256)


# ── many at once ─────────────────────────────────────────────────────────────────────────────


def each(
    work: Callable[[T], R],
    items: Sequence[T],
    on_item: Progress = silent,
    *,
    threads: int | None = None,
) -> list[R]:
    """
    Run `work` on all items in threads, THREADS at most, and give the results in their order.

    The first error ends it, after the calls that are under way.
    """
    results: dict[int, R] = {}
    left, lock, stop = iter(enumerate(items)), threading.Lock(), threading.Event()

    def drain() -> None:
        try:
            while not stop.is_set():
                with lock:
                    index, item = next(left, (-1, None))
                if index < 0:
                    return
                result = work(item)  # type: ignore[arg-type]
                with lock:
                    results[index] = result
                    on_item(len(results), len(items))
        finally:
            stop.set()  # whoever ends, by an error or for want of work, ends all

    count = min(threads or THREADS, THREADS, len(items))
    if count == 0:
        return []
    with ThreadPoolExecutor(count) as pool:
        try:
            for future in [pool.submit(drain) for _ in range(count)]:
                future.result()
        finally:
            stop.set()
    return [results[i] for i in range(len(items))]


def flow(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The same for items in any number, of which some thousand are there at a time."""
    left = iter(items)
    while some := list(islice(left, _TOGETHER)):
        yield from each(work, some)


class Meter:
    """Tells a listener how much of a transfer is done, from any thread."""

    def __init__(self, listener: Transfer, what: str, total: Amount) -> None:
        self._listener = listener
        self._what = what
        self._done, self._total = Amount(0, 0), total
        self._lock = threading.Lock()

    def add(self, files: int, size: int) -> None:
        """So many more files and bytes are done; less than none, where they came wrong."""
        with self._lock:
            self._done = Amount(self._done.files + files, self._done.bytes + size)
            self._listener(self._what, self._done, self._total)


def amount_of(entries: Collection[Entry]) -> Amount:
    """How much some files are together."""
    return Amount(len(entries), sum(e.size for e in entries))
