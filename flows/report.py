"""What Prefect shows of a run: progress, counts, a table of what is pending. Ids only, no contents."""

from collections.abc import Iterable

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from formant_archive.records import Pending, written
from formant_archive.run import Run
from formant_archive.summary import Summary

#: A table artifact has at most so many rows: Prefect's API takes no large ones.
ROWS = 50


def progress(run: Run) -> None:
    """Say how far a run is."""
    get_run_logger().info(run.progress, extra={"progress": True})


def publish(summary: Summary, pending: Iterable[Pending]) -> None:
    """Write the run's artifacts."""
    create_markdown_artifact(summary.markdown, key="archive-run", description="The latest run's counts")
    rows = [row(one) for one in sorted(pending, key=lambda one: (not one.failed, one.first_seen_at))[:ROWS]]
    if rows:
        create_table_artifact(rows, key="archive-pending", description=f"Pending and failed, the first {ROWS}")


def row(pending: Pending) -> dict[str, str | int | None]:
    """Say of a pending conversation what may be shown."""
    return {
        "conversation": pending.conversation_id[:ROWS],
        "agent": pending.agent_id,
        "reason": pending.reason,
        "failed": "yes" if pending.failed else "",
        "first seen": written(pending.first_seen_at),
        "probes": len(pending.recording_probes) + len(pending.conversation_probes),
        "next probe": written(pending.next_probe_at) if pending.next_probe_at else "next run",
    }
