"""The catalogue: what the manifests of an archive name, one row an entry, to be searched.

It is a temporary database in a file without a name, which is gone with the process: memory does not grow with the
archive. It holds what manifests hold: ids, agents, times, keys and hashes; no phone number and no word that was said.

A conversation can have several entries, and even two records, of which `record.2.json` counts. Entries that say the
same of a conversation are one here, also where the later one says `adopted`.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from threading import Lock
from typing import Any, Literal

from formant_archive import keys
from formant_archive.ledger import last_sequence, read_part
from formant_archive.manifest import Manifest
from formant_archive.records import Entry, Erased, Held, Pending, Reference, StoredObject
from formant_archive.register import Map
from formant_archive.stores import Store

#: Rows that are read at once.
_ROWS = 1000
#: What has become of a settled conversation, whoever named it first.
Outcome = Literal["archived", "archived_without_recording", "gone"]

_TABLES = """
CREATE TABLE entries (
    conversation_id TEXT, digest BLOB, record_key TEXT, folder TEXT, is_second INTEGER,
    agent TEXT, start INTEGER, status TEXT, outcome TEXT, sequence INTEGER, line BLOB,
    UNIQUE (conversation_id, digest)
);
CREATE INDEX by_folder ON entries (folder);
CREATE TABLE pending (folder TEXT PRIMARY KEY, conversation_id TEXT, line BLOB) WITHOUT ROWID;
CREATE TABLE listed (conversation_id TEXT PRIMARY KEY, agent TEXT, status TEXT, time INTEGER) WITHOUT ROWID;
CREATE TABLE parts (sha256 TEXT PRIMARY KEY, count INTEGER) WITHOUT ROWID;
CREATE TABLE named (sequence INTEGER, part TEXT);
CREATE TABLE held (conversation_id TEXT PRIMARY KEY, cases TEXT) WITHOUT ROWID;
CREATE TABLE erased (key TEXT PRIMARY KEY, conversation_id TEXT) WITHOUT ROWID;
CREATE INDEX by_erased ON erased (conversation_id);
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
"""
_LARGEST = (1 << 63) - 1
_ADD = """
INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET sequence = min(sequence, excluded.sequence)
"""
#: Of several entries for one conversation, the one that counts: the second record's, else the first that was named.
_COUNTS = """
NOT EXISTS (
    SELECT 1 FROM entries AS other WHERE other.conversation_id = entries.conversation_id
    AND (-other.is_second, other.sequence, other.rowid) < (-entries.is_second, entries.sequence, entries.rowid)
)
"""


@dataclass(frozen=True)
class Selection:
    """Which conversations; what is None leaves out none.

    Attributes:
        ids: These alone.
        agent_id: Of this agent.
        since: That started at this time or later, epoch ms.
        until: That started before this time, epoch ms.
        status: The API's word.
        outcome: What has become of them.
        erased: Whether payloads of them were erased since.
    """

    ids: frozenset[str] | None = None
    agent_id: int | str | None = None
    since: int | None = None
    until: int | None = None
    status: str | None = None
    outcome: Outcome | None = None
    erased: bool | None = None

    def takes(self, one: Reference) -> bool:
        """Whether a conversation that is not settled yet, and so has no outcome and was not erased, is one of them."""
        start = one.start_timestamp
        return (
            (self.ids is None or one.conversation_id in self.ids)
            and (self.agent_id is None or str(self.agent_id) == agent_of(one))
            and (self.since is None or (start is not None and start >= self.since))
            and (self.until is None or (start is not None and start < self.until))
            and self.status in (None, one.status)
            and self.outcome is None
            and not self.erased
        )


EVERYTHING = Selection()


@dataclass(frozen=True)
class Holding:
    """A settled conversation: what an entry says of it, and the number of the manifest that said so first.

    Attributes:
        entry: The entry; its `outcome` is never `adopted`, but what became of the conversation.
        sequence: The manifest's number.
        erased: The keys of its payloads that were erased since.
    """

    entry: Entry
    sequence: int
    erased: frozenset[str] = frozenset()

    @property
    def outcome(self) -> str:
        """What has become of it, in a word."""
        return "erased" if self.erased else self.entry.outcome


class Catalogue:
    """Entries, searched from any thread, one at a time.

    Attributes:
        sequence: Up to which manifest it was read by `read_catalogue`; 0 where there was none.
    """

    def __init__(self) -> None:
        self.sequence = 0
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(_TABLES)
        self._lock = Lock()
        #: Whether anything is held or erased: most archives need not be asked for each conversation.
        self._has_custody = False

    def close(self) -> None:
        """Give back the disk's space."""
        self._database.close()

    def add(self, sequence: int, lines: Iterable[bytes]) -> None:
        """Take up the entries of a manifest, as its part has them; one that is known already changes nothing."""
        with self._transaction() as database:
            database.executemany(_ADD, (_row(sequence, line) for line in lines))

    def select(self, selection: Selection = EVERYTHING) -> Iterator[Holding]:
        """Yield the conversations of a selection, each once, the newest start first; without a start, last."""
        where, values = self._where(selection)
        yield from self._holdings(f"{_COUNTS} AND {where} ORDER BY start DESC NULLS LAST, conversation_id", values)

    def claims(self, selection: Selection = EVERYTHING) -> Iterator[list[Holding]]:
        """Yield all that entries say of each conversation of a selection: several things where they differ."""
        where, values = self._where(selection)
        found = self._holdings(f"{where} ORDER BY conversation_id, is_second, sequence", values)
        for _, holdings in groupby(found, lambda one: one.entry.conversation_id):
            yield list(holdings)

    def of_folder(self, folder: str) -> list[Entry]:
        """List the entries whose record lies in a conversation's folder, which ends with `/`."""
        return [one.entry for one in self._holdings("folder = ?", (folder,))]

    def add_pending(self, pending: Iterable[Pending]) -> None:
        """Take up what the newest manifest waits for."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO pending VALUES (?, ?, ?)",
                ((one.folder, one.conversation_id, one.line()) for one in pending),
            )

    def pending(self) -> Iterator[Pending]:
        """Yield what the newest manifest waits for."""
        for (line,) in self._rows("SELECT line FROM pending", ()):
            yield Pending.model_validate_json(line)

    def waits_for(self, folder: str) -> bool:
        """Whether the newest manifest waits for the conversation of a folder."""
        return any(True for _ in self._rows("SELECT 1 FROM pending WHERE folder = ?", (folder,)))

    def add_held(self, held: Iterable[Held]) -> None:
        """Take up what the newest manifest says is under a legal hold."""
        self._has_custody = True
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO held VALUES (?, ?)",
                ((one.conversation_id, " ".join(one.cases)) for one in held),
            )

    def holds_of(self, conversation_id: str) -> tuple[str, ...]:
        """Name the cases that hold a conversation."""
        if not self._has_custody:
            return ()
        rows = self._rows("SELECT cases FROM held WHERE conversation_id = ?", (conversation_id,))
        return next((tuple(cases.split(" ")) for (cases,) in rows), ())

    def add_erased(self, erased: Iterable[Erased]) -> None:
        """Take up what the newest manifest says was erased."""
        self._has_custody = True
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO erased VALUES (?, ?)",
                ((key, one.conversation_id) for one in erased for key in one.keys),
            )

    def erased_of(self, conversation_id: str) -> frozenset[str]:
        """Name the keys of a conversation that were erased."""
        if not self._has_custody:
            return frozenset()
        return frozenset(
            key for (key,) in self._rows("SELECT key FROM erased WHERE conversation_id = ?", (conversation_id,))
        )

    def add_part(self, sha256: str, count: int) -> None:
        """Note that a manifest names a part, and how many lines are in it."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO parts VALUES (?, ?)", (sha256, count))

    def add_parts(self, sequence: int, parts: Iterable[str]) -> None:
        """Note the keys of the entry parts of a manifest."""
        with self._transaction() as database:
            database.executemany("INSERT INTO named VALUES (?, ?)", ((sequence, one) for one in parts))

    def parts_of(self, sequence: int) -> list[str]:
        """Name the entry parts of a manifest."""
        return [part for (part,) in self._rows("SELECT part FROM named WHERE sequence = ?", (sequence,))]

    def lines_of_part(self, sha256: str) -> int | None:
        """Say how many lines a part has; None where no manifest that was read names it."""
        return next((count for (count,) in self._rows("SELECT count FROM parts WHERE sha256 = ?", (sha256,))), None)

    def add_listed(self, references: Iterable[Reference]) -> None:
        """Take up what the source lists; of several rows for a conversation, the last one."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?)",
                ((one.conversation_id, agent_of(one), one.status, _fitting(one.time)) for one in references),
            )

    def unknown(self, agent: str | None, statuses: Iterable[str], since: int | None, until: int) -> Iterator[str]:
        """Name what the source lists, of an agent and statuses and times (epoch ms), and no manifest knows."""
        statement = """
            SELECT conversation_id FROM listed
            WHERE ifnull(?, agent) = agent AND status IN (SELECT value FROM json_each(?)) AND time >= ? AND time < ?
            AND conversation_id NOT IN (SELECT conversation_id FROM entries)
            AND conversation_id NOT IN (SELECT conversation_id FROM pending)
            ORDER BY time
        """
        since = -_LARGEST if since is None else since
        for (conversation_id,) in self._rows(statement, (agent, json.dumps(sorted(statuses)), since, until)):
            yield conversation_id

    def vanished(self) -> Iterator[Holding]:
        """Yield what is held, in part at least, and the source does not list."""
        unlisted = "conversation_id NOT IN (SELECT conversation_id FROM listed)"
        yield from self._holdings(f"{_COUNTS} AND outcome != 'gone' AND {unlisted} ORDER BY start", ())

    def __len__(self) -> int:
        """How many conversations there are."""
        [(count,)] = self._rows("SELECT COUNT(DISTINCT conversation_id) FROM entries", ())
        return int(count)

    def _where(self, selection: Selection) -> tuple[str, list[str | int]]:
        conditions = {
            "agent = ?": None if selection.agent_id is None else str(selection.agent_id),
            "start >= ?": selection.since,
            "start < ?": selection.until,
            "status = ?": selection.status,
            "outcome = ?": selection.outcome,
        }
        given = {condition: value for condition, value in conditions.items() if value is not None}
        parts = list(given)
        values = list(given.values())
        if selection.ids is not None:
            parts.append("conversation_id IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(sorted(selection.ids)))
        if selection.erased is not None:
            parts.append("(conversation_id IN (SELECT conversation_id FROM erased)) = ?")
            values.append(selection.erased)
        return " AND ".join(parts) or "TRUE", values

    def _holdings(self, where: str, values: Iterable[str | int]) -> Iterator[Holding]:
        # Only our own words become part of the statement.
        for line, sequence in self._rows(f"SELECT line, sequence FROM entries WHERE {where}", values):  # noqa: S608
            entry = Entry.model_validate_json(line)
            yield Holding(entry, sequence, self.erased_of(entry.conversation_id))

    def _rows(self, statement: str, values: Iterable[str | int | None]) -> Iterator[tuple[Any, ...]]:
        with self._lock:
            cursor = self._database.execute(statement, tuple(values))
            rows = cursor.fetchmany(_ROWS)
        while rows:
            yield from rows
            with self._lock:
                rows = cursor.fetchmany(_ROWS)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN")
            try:
                yield self._database
            finally:
                # Also what was added before an error: who reads on then says so.
                self._database.execute("COMMIT")


def agent_of(one: Entry | Reference) -> str:
    """Name a conversation's agent as keys do: `unknown` where the API has none."""
    return "unknown" if one.agent_id is None else str(one.agent_id)


def outcome_of(objects: Iterable[StoredObject]) -> Outcome:
    """Say what has become of a conversation of which these payloads are held."""
    names = {one.key.rpartition("/")[2] for one in objects}
    if names.isdisjoint((keys.CONVERSATION, keys.SECOND_CONVERSATION)):
        return "gone"
    return "archived" if keys.RECORDING in names else "archived_without_recording"


def _row(sequence: int, line: bytes) -> tuple[object, ...]:
    entry = Entry.model_validate_json(line)
    if entry.outcome == "adopted":
        entry = entry.model_copy(update={"outcome": outcome_of(entry.objects)})
        line = entry.line()
    line = line.rstrip(b"\n")
    folder, _, name = entry.record_key.rpartition("/")
    return (
        *(entry.conversation_id, hashlib.sha256(line).digest()[:16], entry.record_key),
        *(f"{folder}/", name == keys.SECOND_RECORD),
        *(agent_of(entry), _fitting(entry.start_timestamp), entry.status),
        *(entry.outcome, sequence, line),
    )


def _fitting(time: int | None) -> int | None:
    """Give a time as the database can hold it: the API can say any number."""
    return None if time is None else max(-_LARGEST, min(time, _LARGEST))


def read_catalogue(store: Store, each: Map = map) -> Catalogue:
    """Read the entries of all manifests, and what the newest one says was erased and is held.

    Raises:
        ArchiveDamaged: A manifest or a part cannot be read, or a part is not the one that was named.
    """
    catalogue = Catalogue()

    def add(sequence: int) -> None:
        manifest = Manifest.read(store.get(keys.manifest(sequence)))
        catalogue.add_parts(sequence, (part.key for part in manifest.entries))
        if sequence == last and manifest.holds:
            catalogue.add_held(read_part(store, manifest.holds, Held))
        if sequence == last and manifest.erased:
            catalogue.add_erased(read_part(store, manifest.erased, Erased))
        for part in manifest.entries:
            catalogue.add(sequence, (entry.line() for entry in read_part(store, part, Entry)))

    last = catalogue.sequence = last_sequence(store)
    for _ in each(add, range(1, last + 1)):
        pass
    return catalogue
