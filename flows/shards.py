"""The shards of a backfill, worked off: in this process, or by the workers of a Prefect work pool.

On workers a few shards are kept open, as runs of the deployment `archive-shard`. A run that ended without a manifest,
or shows no sign of life, is replaced. When the backfill is cancelled, so are the shards that are open.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import TaskRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run as this_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling, Crashed

from flows import report
from flows.shard import archive_shard
from formant_archive.backfill import Backfill
from formant_archive.errors import UsageError
from formant_archive.plan import Plan
from tasks.opaque import opaque
from tasks.plans import look_at_progress

Where = Literal["here", "workers"]
Step = Callable[[], None]
DEPLOYMENT = "archive-shard/archive-shard"
#: Seconds between two looks at the shards that are open.
POLL = 5.0


def check_server(on: Where) -> None:
    """Refuse workers without a server that they know.

    Raises:
        UsageError: PREFECT_API_URL names none.
    """
    if on == "workers" and not PREFECT_API_URL.value():
        raise UsageError("PREFECT_API_URL is not set: workers need a Prefect server; or leave it to --on here")


def work_off(plan: Plan, on: Where, max_parallel: int, patience: float) -> Backfill:
    """Archive the shards of a plan that are not done yet.

    Args:
        plan: The plan.
        on: In this process, or on workers.
        max_parallel: Shards under way at once on workers.
        patience: Seconds without a sign of life after which a worker's shard is given to another.

    Raises:
        UsageError: There is no such deployment.
    """
    progress = look_at_progress(opaque(plan), None)
    backfill = Backfill(plan, progress)
    tell = report.backfill_teller(backfill)

    def look() -> None:
        look_at_progress(opaque(plan), opaque(progress))

    if on == "here":
        work_here(backfill, look, tell)
    else:
        with get_client(sync_client=True) as client:
            work_on_workers(client, backfill, max_parallel, patience, look, tell)
    return backfill


def work_here(backfill: Backfill, look: Step, tell: Step) -> None:
    """Archive one shard after the other in this process; each of them keeps several pages under way."""
    while (begun := backfill.begin()) is not None:
        number, _ = begun
        state: State[Any] = archive_shard(backfill.plan.plan_id, number, return_state=True)
        look()
        if not backfill.is_done(number):
            said(state)
        backfill.ended(number)
        tell()


def said(state: State[Any]) -> None:
    """Say why a shard has ended without a manifest.

    Raises:
        UsageError: Somebody has to mend something before it is begun again.
    """
    counts = getattr(state.data, "result", state.data)
    message = state.message or state.name or ""
    if isinstance(counts, dict) and counts.get("exit_code") == UsageError.exit_code:
        raise UsageError(message)
    report.tell_line(message)


def work_on_workers(
    client: SyncPrefectClient, backfill: Backfill, max_parallel: int, patience: float, look: Step, tell: Step
) -> None:
    """Keep some shards open until none is left."""
    opened: dict[int, UUID] = {}
    try:
        while open_more(backfill, opened, max_parallel):
            time.sleep(POLL)
            over = {number for number, run in opened.items() if is_over(client, run, patience)}
            if over:
                look()
            for number in over:
                end(client, opened.pop(number), Crashed(message="it shows no sign of life: begun again"))
                backfill.ended(number)
            tell()
    finally:
        for run in opened.values():
            end(client, run, Cancelling(message="its backfill has ended"))


def open_more(backfill: Backfill, opened: dict[int, UUID], max_parallel: int) -> bool:
    """Begin shards while there is room; say whether any is open.

    Raises:
        UsageError: There is no such deployment.
    """
    while len(opened) < max_parallel and (begun := backfill.begin()) is not None:
        number, attempt = begun
        opened[number] = submit(backfill.plan, number, attempt)
    return bool(opened)


def submit(plan: Plan, number: int, attempt: int) -> UUID:
    """Have a worker archive a shard. Only ids go through Prefect's database.

    Raises:
        UsageError: There is no such deployment.
    """
    try:
        run = run_deployment(
            DEPLOYMENT,
            parameters={"plan_id": plan.plan_id, "number": number},
            flow_run_name=f"shard-{number}-of-{len(plan.shards)}",
            tags=["formant-archive", "backfill"],
            # Of this backfill's run: a resumed one must not be answered with what became of an earlier attempt.
            idempotency_key=f"{plan.plan_id}-{number}-{this_run.id}-{attempt}",
            timeout=0,
            as_subflow=False,
        )
    except ObjectNotFound:
        raise UsageError(
            f"Prefect has no deployment {DEPLOYMENT}: run prefect deploy --all, and start a worker"
        ) from None
    return cast(FlowRun, run).id


def is_over(client: SyncPrefectClient, run: UUID, patience: float) -> bool:
    """Whether a shard's run has ended, or no worker can be at it any more."""
    try:
        state = client.read_flow_run(run).state
    except ObjectNotFound:
        return True
    if state is None or state.is_scheduled():
        # It waits for a worker, however long that takes.
        return False
    return state.is_final() or (datetime.now(UTC) - last_sign(client, run, state)).total_seconds() > patience


def last_sign(client: SyncPrefectClient, run: UUID, state: State[Any]) -> datetime:
    """Say when a run did something last: its newest task began, or it came into its state."""
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
        sort=TaskRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    signs = [task.expected_start_time for task in tasks if task.expected_start_time]
    return max([*signs, state.timestamp])


def end(client: SyncPrefectClient, run: UUID, state: State[Any]) -> None:
    """Take a run out of Prefect's hands, unless it has ended by itself."""
    with suppress(PrefectException):
        now = client.read_flow_run(run).state
        if now is None or not now.is_final():
            client.set_flow_run_state(run, state, force=True)
