"""What the user decided about what is archived and how long to wait for it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from formant_archive.records import Retention
from formant_archive.retention import Keeping

#: The statuses that the vendor documents. Any other one is taken for a call in progress.
DOCUMENTED_STATUSES = frozenset(
    {"completed", "failed", "busy", "no_answer", "socket_failure", "telephony_failed", "unreachable"}
)


@dataclass(frozen=True)
class Policy:
    """The rules of waiting.

    Attributes:
        statuses: Conversations of these statuses are archived.
        grace: From the end of a call until a payload that never came may be called absent.
        probe_interval: Between two questions for a payload that was not there; it doubles up to six hours.
        results_wait: From the end of a call until a body without results is taken as it is.
        overlap: How far behind the watermark a listing looks again.
        keeping: How long objects are locked; None: not at all, by us.
    """

    statuses: frozenset[str] = frozenset({"completed"})
    grace: timedelta = timedelta(hours=72)
    probe_interval: timedelta = timedelta(minutes=15)
    results_wait: timedelta = timedelta(minutes=30)
    overlap: timedelta = timedelta(hours=6)
    keeping: Keeping | None = None

    @property
    def overlap_ms(self) -> int:
        """The overlap in milliseconds."""
        return round(self.overlap.total_seconds() * 1000)

    def longest_retention(self, now: datetime) -> Retention | None:
        """How long what names conversations is locked: no shorter than any payload that was stored up to now."""
        return None if self.keeping is None else self.keeping.longest(now)

    def is_open(self, status: str) -> bool:
        """Whether a conversation of this status is a call in progress, as far as the status tells."""
        return status not in DOCUMENTED_STATUSES | self.statuses
