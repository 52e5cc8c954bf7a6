"""Events for Prefect: what a run or an audit came to, for automations to act on. Counts only.

An automation matches an event by its name and its resource, not by its payload. So what is to wake somebody has a name
of its own: `formant-archive.overdue`, `formant-archive.damage`. `docs/metrics.md` lists them all.
"""

from contextlib import suppress
from datetime import datetime

from prefect.events import emit_event

from formant_archive.audit import Audit
from formant_archive.manifest import Scope
from formant_archive.records import milliseconds
from formant_archive.run import Run
from formant_archive.settlement import is_overdue

Counts = dict[str, int | bool | None]
#: Of a run's own counts, what has become settled.
SETTLED = ("archived", "archived_without_recording", "adopted", "gone")


def emit_run(run: Run, now: datetime) -> None:
    """Say what a run came to, whose last part is committed."""
    counts = run_counts(run, now)
    archive = run.head.manifest.archive_id if run.head.manifest else None
    _emit("run", archive, counts)
    if counts["overdue"]:
        _emit("overdue", archive, counts)


def run_counts(run: Run, now: datetime) -> Counts:
    """Count what the run has settled, and what the whole archive waits for since."""
    pending = run.head.state.pending.values()
    watermark = run.head.state.scopes.get(run.scope or "", Scope()).watermark
    return {
        **{name: run.totals[name] for name in SETTLED},
        "pending": len(pending),
        "failed": sum(one.failed for one in pending),
        # By the clock that said what the run was to ask for: what became due since is the next run's.
        "overdue": sum(is_overdue(one, run.started_at, run.policy) for one in pending),
        "lag_seconds": None if watermark is None else (milliseconds(now) - watermark) // 1000,
        "sequence": run.head.sequence,
        "complete": run.listing.complete,
    }


def emit_audit(audit: Audit) -> None:
    """Say what an audit came to."""
    counts = audit_counts(audit)
    archive = audit.report.manifest.archive_id if audit.report.manifest else None
    _emit("audit", archive, counts)
    if counts["damage"]:
        _emit("damage", archive, counts)


def audit_counts(audit: Audit) -> Counts:
    """Count what an audit has looked at and found."""
    report, compared = audit.report, audit.listing.total is not None
    return {
        "conversations": report.conversations,
        "manifests": report.manifests,
        "damage": report.tally.of("damage"),
        "unverified": report.tally.of("unverified"),
        "warnings": report.tally.of("warning"),
        "not_archived": report.tally.codes["S001"] if compared else None,
        "adopted": audit.adopted,
        "pending": report.pending,
        "sequence": report.sequence,
        "complete": audit.listing.complete if compared else None,
    }


def _emit(name: str, archive_id: str | None, counts: Counts) -> None:
    """Hand an event to Prefect, which sends it from a thread of its own and adds the flow run, flow and deployment."""
    resource = {
        "prefect.resource.id": f"formant-archive.archive.{archive_id or 'unknown'}",
        "prefect.resource.name": "formant-archive",
    }
    # What is committed is committed: no event may fail a run.
    with suppress(Exception):
        emit_event(f"formant-archive.{name}", resource=resource, payload=counts)
