"""Archive one shard of a backfill: a worklist that `flows/backfill.py` has stored in the archive.

Any worker of the work pool runs it, or the backfill itself. It gets the plan's id and a number, and reads the rest. It
can be run twice, killed, or run beside another: what is settled already is not fetched again.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import report
from flows.pages import archive_pages, commit, runner
from formant_archive import __version__
from formant_archive.backfill import is_outage
from formant_archive.errors import ApiUnavailable, ArchiveError, UsageError
from formant_archive.plan import Plan, check_number, check_plan
from formant_archive.records import Pending
from formant_archive.run import BATCH_SIZE, Run
from formant_archive.settings import current_settings
from tasks import connections
from tasks.manifests import read_head
from tasks.opaque import opaque
from tasks.plans import read_plan, read_worklist

#: A UUID, as `backfill` makes them; in any case one part of a key.
PlanId = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9-]*$")]
Number = Annotated[int, Field(ge=1, le=1_000_000)]
#: The name of the state of a shard that somebody has to mend something for: Prefect keeps no more of it than words.
REFUSED = "Refused"


@flow(
    name="archive-shard",
    task_runner=runner(),  # type: ignore[arg-type]  # Prefect's own hints
    persist_result=False,
)
def archive_shard(plan_id: PlanId, number: Number) -> State[Any]:
    """Archive the conversations of a shard's worklist, and commit a manifest of its own.

    Args:
        plan_id: The backfill's plan.
        number: Of the shard; the first is 1.
    """
    try:
        plan = read_plan(plan_id)
        check_plan(plan, current_settings().source)
        check_number(plan, number)
        run = begin(plan, number)
        archive_pages(run, pages(run, plan, number), report.teller(run))
        check_outage(run)
        commit(run, final=True)
    except ArchiveError as fault:
        name = REFUSED if fault.exit_code == UsageError.exit_code else "Failed"
        return Failed(name=name, message=str(fault), data={"exit_code": fault.exit_code})
    except BaseException:
        # SIGTERM or Ctrl-C: Prefect now waits for the tasks, and they would wait for every payload of their pages.
        connections.call_off()
        raise
    end = Failed if run.totals["failed"] else Completed
    message = f"{run.shard_sentence}; head {run.summary.pinned_head}"
    return end(message=message, data={"exit_code": int(run.totals["failed"] > 0), **run.totals})


def begin(plan: Plan, number: int) -> Run:
    """Make a run that has a worklist in place of a listing."""
    settings = current_settings()
    return Run(
        read_head(),
        run_id=str(uuid4()),
        flow="archive_shard",
        version=__version__,
        parameters={"plan_id": plan.plan_id, "number": number},
        kind="backfill",
        policy=settings.policy,
        source=settings.source,
        now=datetime.now(UTC),
    )


def check_outage(run: Run) -> None:
    """Leave a shard undone of which nothing could be had.

    Raises:
        ApiUnavailable: It is to be begun again.
    """
    draft = run.draft(datetime.now(UTC), final=True)
    if is_outage(draft.counts, draft.changes.pending.values()):
        raise ApiUnavailable("nothing of the shard could be archived: the API or the store is out of reach")


def pages(run: Run, plan: Plan, number: int) -> Iterator[list[Pending]]:
    """Read the worklist, as much at once as a page of the list has."""
    worklist = read_worklist(opaque(plan), number)
    for start in range(0, len(worklist), BATCH_SIZE):
        yield run.take(worklist[start : start + BATCH_SIZE], len(worklist))
