"""Archive every completed conversation that is not in the archive yet.

    python -m flows.archive --agent-id 123

Scheduled every 15 minutes by `prefect.yaml`. A run that is killed, run twice or run beside another one loses and
doubles nothing: the next one finds what it left. `docs/architecture.md` follows a page on its way through.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import report, terminal
from flows.pages import archive_pages, commit, listed, runner
from formant_archive import __version__, cli
from formant_archive.errors import ArchiveError
from formant_archive.records import Pending, milliseconds
from formant_archive.run import Run
from formant_archive.settings import current_settings
from tasks import connections, events
from tasks.manifests import read_head


@flow(
    name="archive-conversations",
    task_runner=runner(),  # type: ignore[arg-type]  # Prefect's own hints
    persist_result=False,
)
def archive_conversations(
    agent_id: Annotated[int | None, Field(ge=0)] = None,
    since: datetime | None = None,
    full: bool = False,
) -> State[Any]:
    """List new conversations, fetch transcripts and recordings, archive them, commit a manifest.

    Args:
        agent_id: Only this agent's conversations.
        since: The first run of a scope leaves out what started before (UTC), for good.
        full: List to the very end, whatever the watermark says.
    """
    try:
        run = begin(agent_id, since, full=full)
        archive_pages(run, pages(run), report.teller(run))
        commit(run, final=True)
    except ArchiveError as fault:
        return Failed(message=str(fault), data={"exit_code": fault.exit_code})
    except BaseException:
        # SIGTERM or Ctrl-C: Prefect now waits for the tasks, and they would wait for every payload of their pages.
        connections.call_off()
        raise
    events.emit_run(run, datetime.now(UTC))
    summary = run.summary
    report.publish(summary, run.head.state.pending.values())
    end = Completed if summary.is_well else Failed
    # The head goes where it is out of reach for whoever could rewrite the archive: into Prefect, and onto the terminal.
    message = f"{summary.sentence}; head {summary.pinned_head}"
    return end(message=message, data={"exit_code": int(not summary.is_well), **run.totals})


def begin(agent_id: int | None, since: datetime | None, *, full: bool) -> Run:
    """Read where the last run left off."""
    settings = current_settings()
    return Run(
        read_head(),
        run_id=str(uuid4()),
        flow="archive_conversations",
        version=__version__,
        parameters={"agent_id": agent_id, "since": since and since.isoformat(), "full": full},
        agent_id=agent_id,
        since=None if since is None else milliseconds(since if since.tzinfo else since.replace(tzinfo=UTC)),
        full=full,
        policy=settings.policy,
        source=settings.source,
        now=datetime.now(UTC),
    )


def pages(run: Run) -> Iterator[list[Pending]]:
    """List page after page, then bring up the pending conversations that the list did not show."""
    for page in listed(run.listing, run.agent_id):
        yield run.take(page.references, page.total)
    yield from run.carried()


def main(*, agent_id: int | None = None, since: datetime | None = None, full: bool = False) -> int:
    """Archive every completed conversation that is not in the archive yet.

    FORMANT_API_KEY and ARCHIVE_URL say what and where, in the environment or in .env.

    Args:
        agent_id: Only this agent's conversations.
        since: In the very first run, leave out what started before this day or time (UTC).
        full: List to the very end, whatever the watermark says.
    """
    return terminal.run(archive_conversations, agent_id=agent_id, since=since, full=full)


if __name__ == "__main__":
    cli.run_function(main, name="python -m flows.archive")
