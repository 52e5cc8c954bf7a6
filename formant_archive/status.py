"""What is in an archive, what is pending and why, and how far each scope is: read from its manifests alone."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from formant_archive import keys
from formant_archive.catalogue import read_catalogue
from formant_archive.crew import abreast
from formant_archive.ledger import Head, read_head
from formant_archive.records import Entry, milliseconds, written
from formant_archive.stores import Store

#: A call in progress for longer than this is worth a look.
LONG_OPEN = timedelta(hours=24)


@dataclass
class Holdings:
    """The settled conversations of an archive, each counted once.

    Attributes:
        conversations: How many.
        recordings: How many of them with a recording.
        gone: How many of them were gone before they could be fetched.
        bytes: Size of all payloads.
        agents: Conversations by agent.
        first_start: The earliest start, epoch ms.
        last_start: The latest start, epoch ms.
    """

    conversations: int = 0
    recordings: int = 0
    gone: int = 0
    bytes: int = 0
    agents: Counter[str] = field(default_factory=Counter)
    first_start: int | None = None
    last_start: int | None = None

    def add(self, entry: Entry) -> None:
        """Count one more conversation."""
        self.conversations += 1
        self.recordings += any(one.key.endswith(keys.RECORDING) for one in entry.objects)
        self.gone += not any(one.key.endswith(keys.CONVERSATION) for one in entry.objects)
        self.bytes += sum(one.size for one in entry.objects)
        self.agents[str(entry.agent_id)] += 1
        if (start := entry.start_timestamp) is not None:
            self.first_start = start if self.first_start is None else min(self.first_start, start)
            self.last_start = start if self.last_start is None else max(self.last_start, start)


@dataclass
class Status:
    """What `formant-archive status` shows; `head` is None where no run has committed yet."""

    head: Head
    holdings: Holdings
    pending: Counter[str]
    failed: int
    long_open: int

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON holds it: the newest manifest's own fields, and what was counted."""
        manifest = self.head.manifest
        return {
            "archive": None if manifest is None else manifest.model_dump(mode="json"),
            "head": None if self.head.link is None else self.head.link.model_dump(),
            # Not `asdict`: it cannot copy a Counter.
            "holdings": vars(self.holdings),
            "pending": {
                "reasons": dict(self.pending),
                "failed": self.failed,
                "open_for_more_than_24_h": self.long_open,
            },
        }


def read_status(store: Store, now: datetime) -> Status:
    """Read an archive's manifests.

    Raises:
        ArchiveDamaged: One of them, or a part that it names, is not what it should be.
    """
    head = read_head(store)
    pending = head.state.pending.values()
    since = milliseconds(now - LONG_OPEN)
    return Status(
        head=head,
        holdings=count_holdings(store),
        pending=Counter(one.reason for one in pending),
        failed=sum(one.failed for one in pending),
        long_open=sum(
            one.reason == "open" and (one.time or milliseconds(one.first_seen_at)) < since for one in pending
        ),
    )


def count_holdings(store: Store) -> Holdings:
    """Count the conversations that the manifests name; one that has several entries counts once."""
    holdings = Holdings()
    with closing(read_catalogue(store, abreast)) as catalogue:
        for one in catalogue.select():
            holdings.add(one.entry)
    return holdings


def day_of(timestamp: int | None) -> str:
    """Write a start for a person."""
    return "–" if timestamp is None else keys.day(timestamp)


def ago(now: datetime, then: datetime) -> str:
    """Say how long ago something was, for a person."""
    minutes = round((now - then).total_seconds() / 60)
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago" if minutes < 2880 else written(then)
