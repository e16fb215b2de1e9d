"""Buckets that fail at a chosen moment."""

from __future__ import annotations

from publisher.errors import StorageError
from publisher.storage import MemoryBucket


class Fails(MemoryBucket):
    """The network goes away at one operation, before it or after it."""

    def __init__(self, objects=None, *, applied=False):
        super().__init__()
        self._objects = dict(objects or {})
        self.left = 10**9
        self._applied = applied

    def _tick(self, call):
        self.left -= 1
        if self.left >= 0:
            return call()
        if self._applied:
            call()
        raise StorageError("the network went away")

    def get(self, key, **options):
        return self._tick(lambda: MemoryBucket.get(self, key, **options))

    def read(self, key, **options):
        return self._tick(lambda: MemoryBucket.read(self, key, **options))

    def head(self, key):
        return self._tick(lambda: MemoryBucket.head(self, key))

    def put(self, key, body, **options):
        return self._tick(lambda: MemoryBucket.put(self, key, body, **options))

    def list(self, prefix=""):
        return self._tick(lambda: MemoryBucket.list(self, prefix))
