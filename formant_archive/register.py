"""The register of settled conversations: one record each, written last and never changed.

A record is found by looking in the conversation's folder. Where many are to be looked for, the folder of an agent's day
is listed instead, a thousand keys a request. No threads are started here: whoever has many to look for or to seal
brings a `map` of its own.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from pydantic import ValidationError

from formant_archive import keys
from formant_archive.errors import ArchiveDamaged, ObjectMissing
from formant_archive.manifest import digest
from formant_archive.records import ArchivedRecording, Entry, Link, Outcome, Pending, PresentTranscript, Record
from formant_archive.stores import Care, Lock, Store

#: Calls a function for each item, as the built-in `map` does; with threads, `Executor.map`.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def find_records(store: Store, conversations: Sequence[Pending], each: Map = map) -> list[Entry]:
    """Look for the records of conversations; give an entry for each that is settled already.

    Where something else lies in a record's place, the conversation counts as unsettled: `seal` will meet it.
    """

    def found(conversation: Pending) -> Entry | None:
        try:
            return find_record(store, conversation)
        except ArchiveDamaged:
            return None

    return [entry for entry in each(found, conversations) if entry is not None]


def find_record(store: Store, conversation: Pending) -> Entry | None:
    """Look for one conversation's record.

    Raises:
        ArchiveDamaged: What lies in its place is no record, or another conversation's.
    """
    key = conversation.folder + keys.RECORD
    try:
        body = store.get(key)
    except ObjectMissing:
        return None
    return entry_of(read_record(key, body, conversation.conversation_id), key, body, "adopted")


def read_folders(store: Store, day_folders: Sequence[str], each: Map = map) -> dict[str, frozenset[str]]:
    """List several agents' days: which conversation folders of each hold a record."""
    return dict(zip(day_folders, each(lambda folder: settled_in(store, folder), day_folders), strict=True))


def settled_in(store: Store, day_folder: str) -> frozenset[str]:
    """Name the conversation folders of an agent's day that hold a record; each ends with `/`."""
    ending = "/" + keys.RECORD
    return frozenset(stat.key.removesuffix(keys.RECORD) for stat in store.list(day_folder) if stat.key.endswith(ending))


def read_record(key: str, body: bytes, conversation_id: str | None) -> Record:
    """Read a record: of a conversation, or of whichever it is.

    Raises:
        ArchiveDamaged: It is none, or another conversation's.
    """
    try:
        record = Record.model_validate_json(body)
    except ValidationError:
        raise ArchiveDamaged(f"{key} does not have the form of a record") from None
    if conversation_id not in (None, record.conversation_id):
        raise ArchiveDamaged(f"{key} is the record of another conversation")
    return record


def seal_all(
    store: Store, records: Sequence[tuple[str, Record]], each: Map = map, *, held: Set[str] = frozenset()
) -> list[Entry]:
    """Settle conversations; one whose record's place holds something else gets no entry, and stops no other.

    `held` are the ids of those that are under a legal hold.
    """

    def sealed(one: tuple[str, Record]) -> Entry | None:
        try:
            return seal(store, *one, held=one[1].conversation_id in held)
        except ArchiveDamaged:
            return None

    return [entry for entry in each(sealed, records) if entry is not None]


def seal(store: Store, folder: str, record: Record, *, held: bool = False) -> Entry:
    """Settle a conversation: write its record, or find that another run has done so.

    A record never claims a lock that was not seen on its payloads. What is held comes under the hold at last here.

    Raises:
        StoreRefused: A payload cannot be locked as the record would say.
    """
    key, body = folder + keys.RECORD, record.body()
    care = _kept(store, record, held=held)
    if store.put(key, body, sha256=digest(body), care=care):
        return entry_of(record, key, body, outcome(record))
    found = store.get(key)
    if found == body:
        # Our own put, whose reply was lost.
        return entry_of(record, key, body, outcome(record))
    earlier = read_record(key, found, record.conversation_id)
    if _says_more(record, earlier):
        return _supersede(store, folder, record, Link(key=key, sha256=digest(found)), care)
    return entry_of(earlier, key, found, "adopted")


def _kept(store: Store, record: Record, *, held: bool) -> Care:
    """See that each payload is locked as the record will say, and make good what it lacks.

    An earlier run may have stored it under another policy, or without any; and stores have ignored what they were told.
    """
    if held:
        for payload in record.objects:
            store.hold(payload.key)
    if record.retention is None:
        return Care(held=held)
    lock = Lock(mode=record.retention.mode, until=record.retention.until)
    for payload in record.objects:
        stat = store.stat(payload.key)
        if stat is not None and (stat.lock is None or not stat.lock.covers(lock)):
            store.lengthen(payload.key, lock)
    return Care(lock=lock, held=held)


def _says_more(record: Record, earlier: Record) -> bool:
    """Whether a record lacks nothing that an earlier one has, and has what that one calls missing."""
    return _held(earlier) < _held(record)


def _held(record: Record) -> set[str]:
    has = {
        "transcript": isinstance(record.transcript, PresentTranscript),
        "recording": isinstance(record.recording, ArchivedRecording),
    }
    return {name for name, is_there in has.items() if is_there}


def _supersede(store: Store, folder: str, record: Record, earlier: Link, care: Care) -> Entry:
    """Write a second record: a payload was stored while another run sealed its absence."""
    key = folder + keys.SECOND_RECORD
    body = record.model_copy(update={"supersedes": earlier}).body()
    if store.put(key, body, sha256=digest(body), care=care):
        return entry_of(record, key, body, outcome(record))
    found = store.get(key)
    return entry_of(read_record(key, found, record.conversation_id), key, found, "adopted")


def outcome(record: Record) -> Outcome:
    """Name what has become of a conversation."""
    if record.conversation is None:
        return "gone"
    return "archived" if isinstance(record.recording, ArchivedRecording) else "archived_without_recording"


def entry_of(record: Record, key: str, body: bytes, outcome: Outcome) -> Entry:
    """Make the line of a manifest that names a record."""
    return Entry(
        conversation_id=record.conversation_id,
        agent_id=record.agent_id,
        start_timestamp=record.start_timestamp,
        status=record.status,
        outcome=outcome,
        record_key=key,
        record_sha256=digest(body),
        objects=record.objects,
    )
