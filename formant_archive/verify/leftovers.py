"""What no manifest names: a killed run's leftovers, foreign objects, and traces of what was overwritten or deleted."""

from collections.abc import Callable, Iterator
from functools import lru_cache

from formant_archive import keys
from formant_archive.catalogue import Catalogue
from formant_archive.errors import ArchiveDamaged, ObjectMissing, StoreError, StoreRefused
from formant_archive.findings import Finding
from formant_archive.records import Record
from formant_archive.register import read_record
from formant_archive.stores import Store
from formant_archive.verify.reading import Unreadable

#: What an archive keeps in its bucket; what is a backfill's working paper, and what was stored to try the store.
_Names = Callable[[str], frozenset[str]]
CONVERSATIONS, MANIFESTS = "conversations/", "manifests/"
PAPERS = ("plans/", "doctor/")


def leftovers(store: Store, catalogue: Catalogue, tell: Callable[[str], None]) -> Iterator[Finding]:
    """Find what lies in the archive and is named by nothing that a catalogue has read."""
    unreadable = Unreadable()
    named: _Names = lru_cache(64)(lambda folder: _named(catalogue, folder))
    vouched: _Names = lru_cache(64)(lambda folder: _vouched(store, folder))
    for number, stat in enumerate(store.list(""), 1):
        key = stat.key
        if number % 10_000 == 0:
            tell(f"{number:,} objects listed")
        if key.startswith(CONVERSATIONS):
            try:
                yield from _of_conversation(store, catalogue, key, named, vouched)
            except StoreError as fault:
                yield unreadable.finding(key, fault)
        elif key.startswith(MANIFESTS):
            yield from _of_ledger(catalogue, key)
        elif not key.startswith(PAPERS):
            yield _foreign(key)


def _named(catalogue: Catalogue, folder: str) -> frozenset[str]:
    """Name the keys of a conversation's folder that its entries vouch for, directly or by what they supersede."""
    entries = catalogue.of_folder(folder)
    found = {one.key for entry in entries for one in entry.objects} | {entry.record_key for entry in entries}
    if folder + keys.SECOND_RECORD in found:
        found.add(folder + keys.RECORD)
    if folder + keys.SECOND_CONVERSATION in found:
        found.add(folder + keys.CONVERSATION)
    return frozenset(found)


def _of_conversation(store: Store, catalogue: Catalogue, key: str, named: _Names, vouched: _Names) -> Iterator[Finding]:
    folder = keys.folder_of(key)
    if folder is None:
        yield _foreign(key)
        return
    if key in named(folder):
        return
    name = key.removeprefix(folder)
    if name in keys.RECORDS:
        yield Finding(code="X001" if adoptable(store, key) else "X003", key=key)
    elif name not in keys.PAYLOADS:
        yield _foreign(key)
    elif not (catalogue.waits_for(folder) or key in vouched(folder)):
        yield Finding(code="X002", key=key)


def _vouched(store: Store, folder: str) -> frozenset[str]:
    """Name the payloads that a record vouches for which no manifest names."""
    records = (adoptable(store, folder + name) for name in keys.RECORDS)
    return frozenset(one.key for found in records if found for one in found[0].objects)


def adoptable(store: Store, key: str) -> tuple[Record, bytes] | None:
    """Read a record that no manifest names; None where there is none, or not in its own conversation's folder."""
    try:
        body = store.get(key)
        record = read_record(key, body, None)
    except (ArchiveDamaged, ObjectMissing):
        return None
    return (record, body) if keys.is_own(keys.folder_of(key) or "", record.conversation_id) else None


def _of_ledger(catalogue: Catalogue, key: str) -> Iterator[Finding]:
    if (sha256 := keys.sha256_of_part(key)) is not None:
        if catalogue.lines_of_part(sha256) is None:
            yield Finding(code="X002", key=key)
    # Every other manifest was looked at, or is a run's that has ended meanwhile.
    elif keys.sequence_of(key) is None:
        yield _foreign(key)


def _foreign(key: str) -> Finding:
    return Finding(code="X003", key=key)


def traces(store: Store) -> Iterator[Finding]:
    """Find what was overwritten or deleted, where the store keeps versions."""
    for prefix in (CONVERSATIONS, MANIFESTS):
        try:
            for trace in store.traces(prefix):
                code = "V001" if trace.is_deletion else "V002"
                yield Finding(code=code, key=trace.key, expected="one version", found=f"version {trace.version}")
        except StoreRefused as fault:
            yield Finding(code="V003", key=prefix, expected="to be listed", found=str(fault))
