"""Records and payloads: what the manifests name, conversation by conversation."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TypeVar

from pydantic import ValidationError

from formant_archive import keys
from formant_archive.catalogue import Catalogue, Holding, Selection
from formant_archive.errors import ObjectMissing, StoreError
from formant_archive.findings import Finding
from formant_archive.manifest import digest
from formant_archive.records import Entry, Link, Missing, Record, Retention, StoredObject
from formant_archive.register import Map
from formant_archive.stores import Lock, Stat, Store
from formant_archive.verify.reading import Unreadable, is_written_so, weigh

#: Conversations that a thread looks at before it takes others.
BATCH = 50
#: Questions in vain after which something may be called absent or gone.
PROBES = 2
Item = TypeVar("Item")


@dataclass(frozen=True)
class Depth:
    """Which payloads are read to their last byte: those of one conversation in `share`, another share each `turn`."""

    share: int = 1
    turn: int = 0

    def reaches(self, conversation_id: str) -> bool:
        """Whether a conversation's payloads are read this time."""
        lot = int.from_bytes(hashlib.sha256(conversation_id.encode()).digest()[:8])
        return lot % self.share == self.turn % self.share


@dataclass
class Look:
    """What was looked at, and found."""

    conversations: int = 0
    records: int = 0
    payloads: int = 0
    bytes_read: int = 0
    findings: list[Finding] = field(default_factory=list)

    def find(self, code: str, key: str, expected: object, found: object) -> None:
        """Note a finding."""
        self.findings.append(Finding(code=code, key=key, expected=str(expected), found=str(found)))


@dataclass(frozen=True)
class Custody:
    """What is to be true of a conversation's objects: how each is locked at least, whether held, which were erased."""

    floors: Mapping[str, Retention]
    is_held: bool
    erased: frozenset[str]


class Conversations:
    """One look at the conversations of a catalogue; it counts as `Look` does."""

    def __init__(
        self, store: Store, catalogue: Catalogue, depth: Depth | None, each: Map, tell: Callable[[str], None]
    ) -> None:
        self._store, self._catalogue, self._depth = store, catalogue, depth
        self._each, self._tell = each, tell
        self._unreadable = Unreadable()
        self.conversations = self.records = self.payloads = self.bytes_read = 0

    def findings(self, selection: Selection) -> Iterator[Finding]:
        """Look at the settled ones of a selection, and at what is stored of those that are waited for."""
        total = len(self._catalogue)
        for look in self._each(self._settled, _batches(self._catalogue.claims(selection))):
            yield from self._counted(look)
            self._tell(f"{self.conversations:,} of {total:,} conversations")
        waited_for = (one for one in self._catalogue.pending() if selection.takes(one))
        stored = ((one.conversation_id, [o for o in (one.conversation, one.recording) if o]) for one in waited_for)
        for look in self._each(self._waited_for, _batches(stored)):
            yield from self._counted(look)

    def _counted(self, look: Look) -> list[Finding]:
        self.conversations += look.conversations
        self.records += look.records
        self.payloads += look.payloads
        self.bytes_read += look.bytes_read
        return look.findings

    # A batch of conversations, in any thread

    def _settled(self, batch: Sequence[Sequence[Holding]]) -> Look:
        look = Look(conversations=len(batch))
        for claims in batch:
            self._one(look, [claim.entry for claim in claims])
        return look

    def _waited_for(self, batch: Sequence[tuple[str, Sequence[StoredObject]]]) -> Look:
        look = Look()
        for conversation_id, stored in batch:
            custody = self._custody(conversation_id, {})
            for payload in stored:
                self._payload(look, payload, self._is_read(conversation_id), custody)
        return look

    def _one(self, look: Look, claims: Sequence[Entry]) -> None:
        """Look at all that entries say of one conversation."""
        records: dict[Link, Record | None] = {}
        for entry in claims:
            link = Link(key=entry.record_key, sha256=entry.record_sha256)
            if not _is_in_place(entry):
                look.find("R004", entry.record_key, "keys in the conversation's own folder", "others")
                continue
            if link not in records:
                records[link] = self._record(look, link, entry.conversation_id)
            record = records[link]
            if record is not None and (differing := _differences(entry, record)):
                look.find("R004", entry.record_key, "what its entry says", f"another {', '.join(differing)}")
        self._one_record(look, records)
        custody = self._custody(claims[0].conversation_id, _floors(records))
        superseded = {record.supersedes.key for record in records.values() if record and record.supersedes}
        for key in sorted({link.key for link in records} | superseded):
            self._kept(look, key, custody)
        payloads = {payload for entry in claims if _is_in_place(entry) for payload in entry.objects}
        for payload in sorted(payloads, key=lambda one: one.key):
            self._payload(look, payload, self._is_read(claims[0].conversation_id), custody)

    def _one_record(self, look: Look, records: dict[Link, Record | None]) -> None:
        """Of several records, the last must supersede the first, whichever entries name them."""
        superseded = {record.supersedes for record in records.values() if record and record.supersedes}
        for link in superseded:
            self._superseded(look, link)
        if len(records.keys() - superseded) > 1 and None not in records.values():
            first, *others = sorted(records, key=lambda link: (link.key, link.sha256))
            look.find("R005", first.key, "one record", f"{len(others)} more: {', '.join(one.key for one in others)}")

    def _superseded(self, look: Look, link: Link) -> None:
        look.records += 1
        body = self._body(look, link.key, "R006")
        if body is not None and (found := digest(body)) != link.sha256:
            look.find("R006", link.key, link.sha256, found)

    def _record(self, look: Look, link: Link, conversation_id: str) -> Record | None:
        look.records += 1
        body = self._body(look, link.key, "R001")
        if body is None:
            return None
        if (found := digest(body)) != link.sha256:
            look.find("R002", link.key, link.sha256, found)
            return None
        try:
            record = Record.model_validate_json(body)
        except ValidationError:
            record = None
        if record is None or not is_written_so(record, body):
            look.find("R003", link.key, "a record in canonical JSON of the documented fields", "something else")
        elif not _is_evident(record):
            look.find("R003", link.key, f"{PROBES} probes at the least for what never came", "fewer")
        elif record.conversation_id != conversation_id:
            look.find("R003", link.key, "this conversation's record", "another's")
        elif (wrong := _wrong_about_the_first(link.key, record)) is not None:
            look.find(wrong, link.key, "a second record that supersedes the first beside it", "something else")
        else:
            return record
        return None

    def _body(self, look: Look, key: str, code: str) -> bytes | None:
        try:
            return self._store.get(key)
        except ObjectMissing:
            look.find(code, key, "a record", "nothing")
        except StoreError as fault:
            look.findings.append(self._unreadable.finding(key, fault))
        return None

    def _is_read(self, conversation_id: str) -> bool:
        return self._depth is not None and self._depth.reaches(conversation_id)

    def _custody(self, conversation_id: str, floors: Mapping[str, Retention]) -> "Custody":
        is_held = bool(self._catalogue.holds_of(conversation_id))
        return Custody(floors, is_held, self._catalogue.erased_of(conversation_id))

    def _kept(self, look: Look, key: str, custody: "Custody") -> None:
        """Look how a record is locked and held, where it must be; that it is missing was said where it was read."""
        if not custody.is_held and key not in custody.floors:
            return
        try:
            stat = self._store.stat(key)
        except StoreError as fault:
            look.findings.append(self._unreadable.finding(key, fault))
            return
        if stat is not None:
            _compare_lock(look, key, stat.lock, custody.floors.get(key))
        if stat is not None and custody.is_held:
            _compare_hold(look, stat)

    def _payload(self, look: Look, payload: StoredObject, is_read: bool, custody: "Custody") -> None:
        look.payloads += 1
        try:
            stat = self._store.stat(payload.key)
            is_erased = payload.key in custody.erased
            if stat is None:
                look.find("E001" if is_erased else "P001", payload.key, f"{payload.size} bytes", "nothing")
                return
            _compare(look, payload, stat)
            if is_erased:
                # It is to go: nothing has to keep it any more, but until then it is what it was.
                look.find("E002", payload.key, "to be erased", f"{stat.size} bytes")
            else:
                _compare_lock(look, payload.key, stat.lock, custody.floors.get(payload.key))
            if custody.is_held and not is_erased:
                _compare_hold(look, stat)
            if is_read:
                self._read(look, payload)
        except ObjectMissing:
            look.find("P001", payload.key, f"{payload.size} bytes", "nothing")
        except StoreError as fault:
            look.findings.append(self._unreadable.finding(payload.key, fault))

    def _read(self, look: Look, payload: StoredObject) -> None:
        size, sha256 = weigh(self._store, payload.key)
        look.bytes_read += size
        if sha256 != payload.sha256:
            look.find("P002", payload.key, payload.sha256, sha256)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _floors(records: Mapping[Link, Record | None]) -> dict[str, Retention]:
    """Say by key what records say of their own locks and their payloads'; of what two of them name, the second one."""
    floors: dict[str, Retention] = {}
    for link, record in records.items():
        if record is not None and record.retention is not None:
            floors |= dict.fromkeys([link.key, *(one.key for one in record.objects)], record.retention)
    return floors


def _is_in_place(entry: Entry) -> bool:
    """Whether an entry's keys are in the conversation's own folder, so that none leads out of the archive."""
    folder = keys.folder_of(entry.record_key)
    if folder is None or not keys.is_own(folder, entry.conversation_id):
        return False
    names = [one.key.removeprefix(folder) for one in entry.objects]
    return entry.record_key.removeprefix(folder) in keys.RECORDS and set(names) <= set(keys.PAYLOADS)


def _differences(entry: Entry, record: Record) -> list[str]:
    """Name what an entry says otherwise than its record."""
    same = ("agent_id", "start_timestamp", "status", "objects")
    return [name for name in same if getattr(entry, name) != getattr(record, name)]


def _is_evident(record: Record) -> bool:
    """Whether what a record calls missing was asked for as often as the format says."""
    missing = (one for one in (record.transcript, record.recording) if isinstance(one, Missing))
    return all(len(one.probes) >= PROBES for one in missing)


def _wrong_about_the_first(key: str, record: Record) -> str | None:
    """Name what is wrong with what a record says it supersedes: a first one none, a second one the first beside it."""
    folder, _, name = key.rpartition("/")
    if name == keys.RECORD:
        return None if record.supersedes is None else "R003"
    if record.supersedes is None:
        return "R005"
    return None if record.supersedes.key == f"{folder}/{keys.RECORD}" else "R004"


def _compare(look: Look, payload: StoredObject, stat: Stat) -> None:
    if stat.size != payload.size:
        look.find("P003", payload.key, f"{payload.size} bytes", f"{stat.size} bytes")
    if stat.sha256 is not None and stat.sha256 != payload.sha256:
        look.find("P004", payload.key, payload.sha256, stat.sha256)


def _compare_hold(look: Look, stat: Stat) -> None:
    # A folder keeps no holds, and says so by None.
    if stat.held is False:
        look.find("L002", stat.key, "a legal hold", "none")


def _compare_lock(look: Look, key: str, lock: Lock | None, retention: Retention | None) -> None:
    if retention is None:
        return
    is_weaker = lock is None or lock.until < retention.until or (lock.mode, retention.mode) == _WEAKER
    if is_weaker:
        found = "no lock" if lock is None else _lock(lock.mode, lock.until)
        look.find("L001", key, _lock(retention.mode, retention.until), found)


_WEAKER = ("GOVERNANCE", "COMPLIANCE")


def _lock(mode: str, until: datetime) -> str:
    return f"{mode} until {until.isoformat()}"
