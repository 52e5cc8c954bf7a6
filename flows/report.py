"""What Prefect shows of a run: progress, counts, a table of what is pending. Ids only, no contents."""

from collections.abc import Callable, Iterable
from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from formant_archive.audit import Audit
from formant_archive.backfill import Backfill
from formant_archive.records import Pending, written
from formant_archive.run import BACKFILL, Run
from formant_archive.summary import Summary

#: A table artifact has at most so many rows: Prefect's API takes no large ones.
ROWS = 50
#: An id is shown up to so many characters: real ones have 38.
ID_LENGTH = 128


def teller(run: Run) -> Callable[[], None]:
    """Make a function that says how far a run is: in its log, and on a long run as a progress artifact too."""
    artifact: UUID | None = None
    shown = 0

    def tell() -> None:
        nonlocal artifact, shown
        percent = run.percent
        # How far a shard is says nothing of how far its backfill is.
        tell_line(run.progress, percent=percent if run.scope else None)
        if artifact is None and run.is_long:
            made = create_progress_artifact(
                percent, key="archive-progress", description=f"Scope {run.scope or BACKFILL}"
            )
            artifact = cast(UUID, made)
        elif artifact is not None and percent > shown:
            update_progress_artifact(artifact, progress=percent)
        shown = percent

    return tell


def publish(summary: Summary, pending: Iterable[Pending]) -> None:
    """Write the run's artifacts."""
    create_markdown_artifact(summary.markdown, key="archive-run", description="The latest run's counts")
    rows = [row(one) for one in sorted(pending, key=lambda one: (not one.failed, one.first_seen_at))[:ROWS]]
    # Also where there is none: the table of an earlier run must not stay the latest.
    create_table_artifact(rows, key="archive-pending", description=f"Pending and failed, the first {ROWS}")


def row(pending: Pending) -> dict[str, str | int | None]:
    """Say of a pending conversation what may be shown."""
    return {
        "conversation": pending.conversation_id[:ID_LENGTH],
        "agent": pending.agent_id,
        "reason": pending.reason,
        "failed": "yes" if pending.failed else "",
        "first seen": written(pending.first_seen_at),
        "probes": len(pending.recording_probes) + len(pending.conversation_probes),
        "next probe": written(pending.next_probe_at) if pending.next_probe_at else "next run",
    }


def publish_audit(audit: Audit) -> None:
    """Write an audit's artifact: counts and keys, no contents."""
    create_markdown_artifact(audit.markdown, key="archive-audit", description="What the latest audit found")


def tell_line(line: str, *, stays: bool = False, percent: int | None = None) -> None:
    """Say how far it is, in the run's log; what is to stay is not replaced by the next line on a terminal."""
    get_run_logger().info(line, extra={"progress": True, "stays": stays, "percent": percent})


def backfill_teller(backfill: Backfill) -> Callable[[str], None]:
    """Make a function that says how far a backfill is: in its log, and as a progress artifact."""
    made = create_progress_artifact(backfill.percent, key="backfill-progress", description="Shards that are done")
    shown = backfill.percent

    def tell(more: str) -> None:
        nonlocal shown
        tell_line(backfill.sentence + more, percent=backfill.percent)
        if backfill.percent > shown:
            shown = backfill.percent
            update_progress_artifact(cast(UUID, made), progress=shown)

    return tell


def publish_backfill(backfill: Backfill) -> None:
    """Write a backfill's artifact: its counts."""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {count:,} |" for name, count in backfill.counts.items())
    said = f"# Backfill\n\nPlan `{backfill.plan.plan_id}`: {backfill.sentence}."
    page = f"{said}\n\n| conversations | |\n| --- | ---: |\n{rows}\n"
    create_markdown_artifact(page, key="backfill", description="What the latest backfill came to")
