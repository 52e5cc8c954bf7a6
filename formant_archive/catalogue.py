"""The catalogue: what the manifests of an archive name, one row an entry, to be searched.

It is a temporary database in a file without a name, which is gone with the process: memory does not grow with the
archive. It holds what entries hold: ids, agents, times, keys and hashes; no phone number and no word that was said.

A conversation can have several entries, and even two records, of which `record.2.json` counts.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from formant_archive import keys
from formant_archive.ledger import last_sequence, read_part
from formant_archive.manifest import Manifest
from formant_archive.records import Entry
from formant_archive.register import Map
from formant_archive.stores import Store

#: What has become of a settled conversation, whoever named it first.
Outcome = Literal["archived", "archived_without_recording", "gone"]

_TABLES = """
CREATE TABLE entries (
    conversation_id TEXT, record_key TEXT, record_sha256 TEXT,
    folder TEXT, is_second INTEGER, agent TEXT, start INTEGER, status TEXT, outcome TEXT, sequence INTEGER, line BLOB,
    UNIQUE (conversation_id, record_key, record_sha256) ON CONFLICT IGNORE
);
CREATE INDEX by_folder ON entries (folder);
CREATE TEMP TABLE wanted (conversation_id TEXT PRIMARY KEY) WITHOUT ROWID;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
"""
_LARGEST = (1 << 63) - 1
_ADD = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
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
    """

    ids: frozenset[str] | None = None
    agent_id: int | str | None = None
    since: int | None = None
    until: int | None = None
    status: str | None = None
    outcome: Outcome | None = None


EVERYTHING = Selection()


@dataclass(frozen=True)
class Holding:
    """A settled conversation: the entry that counts, and the number of the manifest that named it first."""

    entry: Entry
    sequence: int

    @property
    def outcome(self) -> Outcome:
        """What has become of it."""
        return outcome_of(self.entry)


class Catalogue:
    """Entries, searched from any thread, one at a time."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(_TABLES)
        self._lock = Lock()

    def close(self) -> None:
        """Give back the disk's space."""
        self._database.close()

    def add(self, sequence: int, entries: Iterable[Entry]) -> None:
        """Take up the entries of a manifest; one that is known already changes nothing."""
        with self._lock:
            self._database.execute("BEGIN")
            self._database.executemany(_ADD, (_row(sequence, entry) for entry in entries))
            self._database.execute("COMMIT")

    def select(self, selection: Selection = EVERYTHING) -> Iterator[Holding]:
        """Yield the conversations of a selection, each once, the newest start first; without a start, last."""
        where, values = self._where(selection)
        yield from self._holdings(f"{_COUNTS} AND {where} ORDER BY start DESC NULLS LAST, conversation_id", values)

    def entries(self) -> Iterator[Holding]:
        """Yield every entry, in the order of the records' keys; a conversation may have several."""
        yield from self._holdings("TRUE ORDER BY record_key, rowid", ())

    def of_folder(self, folder: str) -> list[Entry]:
        """List the entries whose record lies in a conversation's folder, which ends with `/`."""
        return [one.entry for one in self._holdings("folder = ?", (folder,))]

    def __len__(self) -> int:
        """How many conversations there are."""
        with self._lock:
            found: tuple[int] = self._database.execute("SELECT COUNT(DISTINCT conversation_id) FROM entries").fetchone()
        return found[0]

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
        if selection.ids is not None:
            with self._lock:
                self._database.execute("DELETE FROM wanted")
                self._database.executemany("INSERT INTO wanted VALUES (?)", ((one,) for one in selection.ids))
            parts.append("conversation_id IN wanted")
        return " AND ".join(parts) or "TRUE", list(given.values())

    def _holdings(self, where: str, values: Iterable[str | int]) -> Iterator[Holding]:
        # Only our own words become part of the statement.
        statement = f"SELECT line, sequence FROM entries WHERE {where}"  # noqa: S608
        with self._lock:
            cursor = self._database.execute(statement, tuple(values))
        while True:
            with self._lock:
                rows = cursor.fetchmany(1000)
            if not rows:
                return
            for line, sequence in rows:
                yield Holding(Entry.model_validate_json(line), sequence)


def outcome_of(entry: Entry) -> Outcome:
    """Say what has become of a conversation, also where its entry says `adopted`."""
    names = {one.key.rpartition("/")[2] for one in entry.objects}
    if keys.RECORDING in names:
        return "archived"
    return "archived_without_recording" if names else "gone"


def _row(sequence: int, entry: Entry) -> tuple[object, ...]:
    folder, _, name = entry.record_key.rpartition("/")
    return (
        *(entry.conversation_id, entry.record_key, entry.record_sha256),
        *(f"{folder}/", name == keys.SECOND_RECORD),
        *("unknown" if entry.agent_id is None else str(entry.agent_id), _start(entry), entry.status),
        *(outcome_of(entry), sequence, entry.line()),
    )


def _start(entry: Entry) -> int | None:
    """Give the start as the database can hold it: the API can say any number."""
    start = entry.start_timestamp
    return None if start is None else max(-_LARGEST, min(start, _LARGEST))


def read_catalogue(store: Store, each: Map = map) -> Catalogue:
    """Read the entries of all manifests.

    Raises:
        ArchiveDamaged: A manifest or a part cannot be read, or a part is not the one that was named.
    """
    catalogue = Catalogue()
    numbers = range(1, last_sequence(store) + 1)
    for sequence, entries in zip(numbers, each(lambda number: _entries_of(store, number), numbers), strict=True):
        catalogue.add(sequence, entries)
    return catalogue


def _entries_of(store: Store, sequence: int) -> list[Entry]:
    manifest = Manifest.read(store.get(keys.manifest(sequence)))
    return [entry for part in manifest.entries for entry in read_part(store, part, Entry)]
