"""The table: `data/index.csv`, one line a conversation, for a spreadsheet. No phone number, no word that was said.

A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return) has
an apostrophe before it. The text itself stands in `record.json`.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from formant_archive.export.exhibit import Exhibit
from formant_archive.export.payload import path_of
from formant_archive.records import StoredObject, written

TABLE = "data/index.csv"
COLUMNS = (
    "conversation_id",
    "agent_id",
    "status",
    "start_utc",
    "end_utc",
    "duration_seconds",
    "outcome",
    "transcript",
    "recording",
    "audio_seconds",
    "conversation_file",
    "conversation_sha256",
    "recording_file",
    "recording_sha256",
    "record_file",
    "record_sha256",
    "manifest",
    "remarks",
    "damage",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Writes(Protocol):
    """What writes a conversation's line."""

    def __call__(self, exhibit: Exhibit, /) -> None:
        """Write it."""


@contextmanager
def table(bag: Path) -> Iterator[Writes]:
    """Open the table of a bag; each call of what it gives writes a line."""
    path = bag / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    # An agent's name can hold half a surrogate pair, which UTF-8 cannot.
    with path.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        yield lambda exhibit: lines.writerow([_safe(cell) for cell in _row(exhibit)]) and None


def _row(exhibit: Exhibit) -> tuple[object, ...]:
    entry, record = exhibit.entry, exhibit.record
    return (
        *(entry.conversation_id, entry.agent_id, entry.status),
        *(utc(entry.start_timestamp), utc(record.end_timestamp if record else None)),
        *(record.duration_seconds if record else None, entry.outcome),
        *(exhibit.transcript_state, exhibit.recording_state, exhibit.audio_seconds),
        *_named(exhibit.conversation),
        *_named(exhibit.recording),
        *(path_of(entry.record_key), entry.record_sha256, exhibit.holding.sequence),
        *("; ".join(record.remarks) if record else "", "; ".join(exhibit.damage)),
    )


def _named(one: StoredObject | None) -> tuple[str, str]:
    return ("", "") if one is None else (path_of(one.key), one.sha256)


def _safe(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def utc(timestamp: int | None) -> str:
    """Write a time of the API's (epoch ms) as the archive writes its own; what is no date stays a number."""
    if timestamp is None:
        return ""
    try:
        return written(_EPOCH + timedelta(milliseconds=timestamp))
    except OverflowError:
        return str(timestamp)
