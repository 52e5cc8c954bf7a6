"""The archive's store: does it keep what is put there, once and unaltered, and from whom?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from formant_archive import keys
from formant_archive.doctor.check import Check, clock, failure, ok, skipped, told, warning
from formant_archive.errors import StoreRefused, UnsafeStore
from formant_archive.manifest import digest
from formant_archive.race import lost, race
from formant_archive.register import Map
from formant_archive.stores import Store
from formant_archive.stores.bucket import Bucket, Right

_DELETING: tuple[Right, ...] = ("s3:DeleteObject", "s3:DeleteObjectVersion")
BODY = b"stored by formant-archive doctor; no part of the archive\n"


@dataclass(frozen=True)
class Examination:
    """What to look at, and how.

    Attributes:
        store: The archive's.
        name: Of this examination, new for each: what it stores lies under `doctor/<name>/`.
        each: Calls a function for many items at once.
        rounds: Keys that are raced for.
        allow_unsafe: Whether the user lives with a store that loses races.
        locks: Whether the pipeline locks each object.
        with_lock: Whether an object may be put under a lock of a day.
    """

    store: Store
    name: str
    each: Map
    rounds: int = 100
    allow_unsafe: bool = False
    locks: bool = False
    with_lock: bool = False

    def key(self, what: str) -> str:
        """Name an object of the examination."""
        return keys.probe(self.name, what)


def examine(it: Examination) -> Iterator[Check]:
    """Look at everything; where nothing can be stored, no further."""
    if isinstance(it.store, Bucket):
        reached = told("bucket", partial(_reached, it.store))
        yield reached
        if reached.state == "failure":
            return
        yield told("bucket clock", partial(_clock, it.store))
    kept = told("write, read", partial(_kept, it))
    yield kept
    if kept.state == "failure":
        return
    yield told("one winner", partial(_raced, it))
    yield told("listing", partial(_listed, it))
    if isinstance(it.store, Bucket):
        yield from _of_bucket(it, it.store)
    else:
        yield skipped("rights", "a folder keeps no versions and no locks: who may write to it may delete from it")


def _of_bucket(it: Examination, bucket: Bucket) -> Iterator[Check]:
    yield told("checksums", partial(_checksums, it, bucket))
    yield told("versions", partial(_versions, it, bucket))
    yield told("retention", partial(_retention, it, bucket))
    yield told("encryption", partial(_encryption, it, bucket))
    yield told("rights", partial(_rights, it, bucket))
    if it.with_lock:
        yield told("object lock", partial(_lock, it, bucket))
    else:
        yield skipped("object lock", "not tried: --probe-lock puts one object under a lock of a day")


def _reached(bucket: Bucket) -> Check:
    bucket.skew()
    return ok("bucket", f"{bucket.url} is there, and may be listed")


def _clock(bucket: Bucket) -> Check:
    return clock("bucket clock", bucket.skew())


def _kept(it: Examination) -> Check:
    name, key = "write, read", it.key("probe")
    if not it.store.put(key, BODY, sha256=digest(BODY)) or it.store.get(key) != BODY:
        return failure(name, f"{key} is new, and another object was read from there: use another store", 1)
    return ok(name, "an object was stored, and read back at once")


def _raced(it: Examination) -> Check:
    note = race(it.store, it.name, rounds=it.rounds, each=it.each)
    if not note.lost:
        return ok("one winner", f"{note.rounds} rounds of {note.writers} writers for one key, one winner in each")
    if it.allow_unsafe:
        return warning("one winner", f"{lost(it.store, note)}. It is set: one writer only")
    return failure("one winner", lost(it.store, note), UnsafeStore.exit_code)


def _listed(it: Examination) -> Check:
    wanted = {it.key("probe")} | {it.key(f"race-{number:04d}") for number in range(1, it.rounds + 1)}
    missing = wanted - {found.key for found in it.store.list(it.key("x").removesuffix("x"))}
    if missing:
        return failure("listing", f"{len(missing)} of {len(wanted)} new objects are not listed: use another store", 1)
    return ok("listing", f"all {len(wanted)} new objects are listed at once")


def _checksums(it: Examination, bucket: Bucket) -> Check:
    name = "checksums"
    if not bucket.takes_wrong_checksum(it.key("wrong-checksum")):
        return ok(name, "a body with the SHA-256 of another one is refused")
    if not bucket.takes_altered_body(it.key("altered-body")):
        return warning(
            name, "a wrong SHA-256 is not noticed; a body that was altered on its way is, by the request's signature"
        )
    return failure(
        name, "the store takes damaged bodies, with a wrong SHA-256 and with a wrong signature: use another store"
    )


def _versions(it: Examination, bucket: Bucket) -> Check:
    if bucket.facts(it.key("probe")).keeps_versions:
        return ok("versions", "the bucket keeps them: verify sees what was overwritten or deleted")
    return warning(
        "versions",
        "the bucket keeps none: what was deleted or overwritten by others is gone. Turn versioning on, and try again"
        " whether there is one winner",
    )


def _retention(it: Examination, bucket: Bucket) -> Check:
    facts = bucket.facts(it.key("probe"))
    lock = facts.lock
    if it.locks and not facts.keeps_versions:
        return failure("retention", "ARCHIVE_LOCK_MODE is set, and the bucket has no Object Lock: use one made with it")
    if it.locks:
        return ok(
            "retention", "ARCHIVE_LOCK_MODE is set: each object is locked when it is stored; try it: --probe-lock"
        )
    if lock is None:
        return warning("retention", "nothing is locked: set ARCHIVE_LOCK_MODE, or give the bucket a default retention")
    return ok(
        "retention", f"the bucket locks each object by itself, this one until {lock.until:%Y-%m-%d} ({lock.mode})"
    )


def _encryption(it: Examination, bucket: Bucket) -> Check:
    facts = bucket.facts(it.key("probe"))
    if facts.encryption is None:
        return warning("encryption", "the store does not say that it encrypts: look at the bucket's settings")
    return ok("encryption", f"{facts.encryption}{f', key {facts.kms_key}' if facts.kms_key else ''}")


def _rights(it: Examination, bucket: Bucket) -> Check:
    asked = {right: bucket.may(right, it.key(f"never-{right[3:]}")) for right in _DELETING}
    if allowed := [right for right, answer in asked.items() if answer]:
        return warning("rights", f"this key may {' and '.join(allowed)}: give the pipeline one that may not")
    if untold := [right for right, answer in asked.items() if answer is None]:
        return warning("rights", f"could not be told of {' and '.join(untold)}: look at the role's policy")
    return ok("rights", "this key may store, read and list; it may not delete")


def _lock(it: Examination, bucket: Bucket) -> Check:
    name, key = "object lock", it.key("locked")
    try:
        lock = bucket.locked(key)
    except StoreRefused as fault:
        return failure(
            name, f"{fault}: a bucket gets Object Lock when it is made, and the role needs the right to lock"
        )
    if lock is None:
        return failure(name, "the store took a lock and did not lock: use another store, or another bucket")
    if bucket.can_remove(key):
        return failure(name, "the store deleted an object that was locked: use another store")
    if bucket.can_remove(key, bypass=True):
        return warning(
            name, "it holds, but this key may lift it (s3:BypassGovernanceRetention): give the pipeline another"
        )
    return ok(name, f"an object is locked until {lock.until:%Y-%m-%d %H:%M} UTC ({lock.mode}), and was not deleted")
