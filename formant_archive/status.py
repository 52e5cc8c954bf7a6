"""What is in an archive, what is pending and why, and how far each scope is: read from its manifests alone.

One `Status` for all who ask: a person, JSON, Prometheus. What is pending and how far the scopes are stands in the
newest manifest, which some forty requests find and read. What is settled stands in all of them.
"""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, get_args

from formant_archive import keys
from formant_archive.catalogue import Outcome, read_catalogue
from formant_archive.crew import abreast
from formant_archive.ledger import Head, read_head
from formant_archive.manifest import OUTCOMES, Manifest
from formant_archive.metrics import Gauge, gauge, gauge_by
from formant_archive.policy import Policy
from formant_archive.records import Entry, milliseconds, written
from formant_archive.settlement import ended_at, is_overdue
from formant_archive.stores import Store

#: A call in progress for longer than this is worth a look.
LONG_OPEN = timedelta(hours=24)
#: What there is to wait for; any other reason is a failure's word. A number stands for each, so that a sum always does.
REASONS = ("new", "open", "results_missing", "transcript_missing", "recording_not_found", "not_found")


@dataclass
class Holdings:
    """The settled conversations of an archive, each counted once.

    Attributes:
        conversations: How many.
        recordings: How many of them with a recording.
        gone: How many of them were gone before they could be fetched.
        outcomes: Conversations by what has become of them.
        bytes: Size of all payloads.
        agents: Conversations by agent.
        first_start: The earliest start, epoch ms.
        last_start: The latest start, epoch ms.
    """

    conversations: int = 0
    recordings: int = 0
    gone: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    agents: Counter[str] = field(default_factory=Counter)
    first_start: int | None = None
    last_start: int | None = None

    def add(self, entry: Entry) -> None:
        """Count one more conversation."""
        self.conversations += 1
        self.recordings += any(one.key.endswith(keys.RECORDING) for one in entry.objects)
        self.gone += not any(one.key.endswith(keys.CONVERSATION) for one in entry.objects)
        self.outcomes[entry.outcome] += 1
        self.bytes += sum(one.size for one in entry.objects)
        self.agents[str(entry.agent_id)] += 1
        if (start := entry.start_timestamp) is not None:
            self.first_start = start if self.first_start is None else min(self.first_start, start)
            self.last_start = start if self.last_start is None else max(self.last_start, start)


@dataclass
class Status:
    """What `formant-archive status` shows.

    Attributes:
        read_at: When it was read.
        head: The newest manifest; it is None where no run has committed yet.
        holdings: What is settled; None where that was not asked for.
        pending: Conversations that are waited for, by reason.
        failed: How many of them failed at the latest try.
        overdue: How many of them should have been settled by now, see `settlement.is_overdue`.
        long_open: How many of them are calls in progress for more than 24 hours.
        oldest_pending: When the first of them ended, as the grace counts.
    """

    read_at: datetime
    head: Head
    holdings: Holdings | None
    pending: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    overdue: int = 0
    long_open: int = 0
    oldest_pending: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON holds it: the newest manifest's own fields, and what was counted."""
        manifest = self.head.manifest
        return {
            "archive": None if manifest is None else manifest.model_dump(mode="json"),
            "head": None if self.head.link is None else self.head.link.model_dump(),
            # Not `asdict`: it cannot copy a Counter.
            "holdings": None if self.holdings is None else vars(self.holdings),
            "held": {"conversations": len(self.head.state.holds), "cases": dict(self.cases)},
            "erased": len(self.head.state.erased),
            "pending": {
                "reasons": dict(self.pending),
                "failed": self.failed,
                "overdue": self.overdue,
                "open_for_more_than_24_h": self.long_open,
            },
        }

    @property
    def cases(self) -> Counter[str]:
        """Conversations under legal hold, by case; one that two cases hold counts in both."""
        return Counter(case for held in self.head.state.holds.values() for case in held.cases)

    def gauges(self) -> list[Gauge]:
        """Give it as Prometheus holds it; `docs/metrics.md` lists the names."""
        manifest, oldest = self.head.manifest, self.oldest_pending
        gauges = [
            gauge("read_timestamp_seconds", "When these numbers were read.", self.read_at.timestamp()),
            gauge("head_sequence", "Number of the newest manifest; 0 before the first.", self.head.sequence),
        ]
        if manifest is not None:
            gauges += _head_gauges(manifest)
        reasons = {**dict.fromkeys(REASONS, 0), **self.pending}
        gauges += [
            gauge_by("reason", "pending_conversations", "Conversations that are waited for.", reasons),
            gauge("failed_conversations", "Pending ones whose latest try failed.", self.failed),
            gauge("overdue_conversations", "Pending ones that should have been settled by now.", self.overdue),
            gauge("long_open_conversations", "Calls in progress for more than 24 hours.", self.long_open),
            gauge(
                "oldest_pending_timestamp_seconds",
                "When the first of the pending ones ended.",
                None if oldest is None else oldest.timestamp(),
            ),
        ]
        return gauges + ([] if self.holdings is None else _holdings_gauges(self.holdings))


def _head_gauges(manifest: Manifest) -> list[Gauge]:
    listing = manifest.listing
    marks = {name: one.watermark / 1000 for name, one in manifest.scopes.items() if one.watermark is not None}
    counts = {name: manifest.counts.get(name, 0) for name in OUTCOMES}
    return [
        gauge_by("source", "info", "What is archived; always 1.", {manifest.source: 1}),
        gauge(
            "head_committed_timestamp_seconds",
            "When the newest manifest was committed.",
            manifest.run.committed_at.timestamp(),
        ),
        gauge(
            "head_listing_complete",
            "Whether the newest manifest's listing was complete: 1 or 0.",
            None if listing is None else int(listing.complete),
        ),
        gauge_by("outcome", "head_conversations", "Conversations that the newest manifest counts.", counts),
        gauge_by("scope", "watermark_timestamp_seconds", "What started before is settled or waited for.", marks),
    ]


def _holdings_gauges(held: Holdings) -> list[Gauge]:
    outcomes = {**dict.fromkeys(get_args(Outcome), 0), **held.outcomes}
    return [
        gauge_by("outcome", "conversations", "Settled conversations, each counted once.", outcomes),
        gauge("payload_bytes", "Size of their transcripts and recordings.", held.bytes),
    ]


def read_status(store: Store, now: datetime, policy: Policy, *, head_only: bool = False) -> Status:
    """Read an archive's manifests; with `head_only` the newest one alone, which says nothing of what is settled.

    Raises:
        ArchiveDamaged: One of them, or a part that it names, is not what it should be.
    """
    head = read_head(store)
    pending = head.state.pending.values()
    since = milliseconds(now - LONG_OPEN)
    return Status(
        read_at=now,
        head=head,
        holdings=None if head_only else count_holdings(store),
        pending=Counter(one.reason for one in pending),
        failed=sum(one.failed for one in pending),
        overdue=sum(is_overdue(one, now, policy) for one in pending),
        long_open=sum(
            one.reason == "open" and (one.time or milliseconds(one.first_seen_at)) < since for one in pending
        ),
        oldest_pending=min(map(ended_at, pending), default=None),
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
