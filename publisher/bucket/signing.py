"""Sign: vouch for a version that is published. Its record stays; the signatures lie beside it."""

from __future__ import annotations

from typing import Self

from ..errors import IntegrityError, UsageError
from ..keys import holds
from ..storage import Bucket, require_conditional_writes
from ..versions.manifest import (
    MAX_SIGNATURES,
    Record,
    ReleaseSignatures,
    record_key,
    signatures_key,
)
from ..versions.signed import statement
from ..versions.version import Selector, Version
from .catalog import resolve
from .maintain import swap
from .trust import Signers


class _Mendable(ReleaseSignatures, frozen=True):
    """Where the document is damaged it counts as empty, so that signing writes it anew."""

    @classmethod
    def from_bytes(cls, body: bytes, key: str) -> Self:
        try:
            return cls(ReleaseSignatures.from_bytes(body, key).signatures)
        except IntegrityError:
            return cls(())


def sign(
    bucket: Bucket, name: str, selector: Selector | str, signers: Signers, *, dry_run: bool = False
) -> tuple[Record, bool]:
    """
    Sign the version that a selector means, as it is in the bucket; False where it was signed.

    Raises:
        VersionNotFound: no version answers to the selector.
        UsageError: no key is given, or the record has too many signatures.
    """
    record = resolve(bucket, name, selector)
    if not signers.keys:
        raise UsageError("nobody is to sign it", hint="say --key FILE")
    if not dry_run:
        require_conditional_writes(bucket)
    return record, sign_record(bucket, record, signers, dry_run=dry_run)


def sign_record(bucket: Bucket, record: Record, signers: Signers, *, dry_run: bool = False) -> bool:
    """
    Add signatures of a release record where they are not yet; False where all were there.

    Those of others stay if they hold. What holds for nothing, or is damaged, goes.
    """
    version = Version.parse(record.version)
    said = statement(record_key(record.name, version), record)
    ours = {s.key: s for s in signers.sign(said)}

    def decide(now: _Mendable | None) -> _Mendable | None:
        found = now.signatures if now is not None else ()
        kept = {s.key: s for s in found if holds(s, said)}
        everyone = {**kept, **ours}
        if len(everyone) > MAX_SIGNATURES:
            raise UsageError(f"a document has at most {MAX_SIGNATURES} signatures")
        wanted = tuple(everyone[key] for key in sorted(everyone))
        return _Mendable(wanted) if wanted != found else None

    key = signatures_key(record.name, version)
    return swap(bucket, key, _Mendable, decide, dry_run=dry_run)[1] is not None
