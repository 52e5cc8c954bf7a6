"""The shards of a backfill, worked off: in this process, or by the workers of a Prefect work pool.

On workers a few shards are kept open, as runs of the deployment `archive-shard`. A run that ended without a manifest,
or shows no sign of life, is replaced. When the backfill is cancelled, so are the shards that are open.
"""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
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
from flows.shard import REFUSED, archive_shard
from formant_archive.backfill import Backfill
from formant_archive.errors import UsageError
from formant_archive.plan import Plan
from tasks.opaque import opaque
from tasks.plans import look_at_progress

Where = Literal["here", "workers"]
Step = Callable[[], None]
Tell = Callable[[str], None]
DEPLOYMENT = "archive-shard/archive-shard"
#: Seconds between two looks at the shards that are open.
POLL = 5.0
SILENT = "its worker has shown no sign of life"


def check_server(on: Where) -> None:
    """Refuse workers without a server that they know.

    Raises:
        UsageError: PREFECT_API_URL names none.
    """
    if on == "workers" and not PREFECT_API_URL.value():
        raise UsageError("PREFECT_API_URL is not set: workers need a Prefect server; or leave it to --on here")


def begin(plan: Plan) -> Backfill:
    """Begin a backfill, or go on with it: see which shards are done."""
    return Backfill(plan, look_at_progress(opaque(plan), None))


def work_off(backfill: Backfill, on: Where, max_parallel: int, patience: float) -> Backfill:
    """Archive the shards that are not done yet.

    Args:
        backfill: What there is to do.
        on: In this process, or on workers.
        max_parallel: Shards under way at once on workers.
        patience: Seconds without a sign of life after which a worker's shard is given to another.

    Raises:
        UsageError: There is no such deployment, or somebody has to mend something first.
    """
    tell = report.backfill_teller(backfill)

    def look() -> None:
        look_at_progress(opaque(backfill.plan), opaque(backfill.progress))

    if on == "here":
        work_here(backfill, look, tell)
    else:
        with get_client(sync_client=True) as client:
            work_on_workers(client, backfill, max_parallel, patience, look, tell)
    return backfill


def work_here(backfill: Backfill, look: Step, tell: Tell) -> None:
    """Archive one shard after the other in this process; each of them keeps several pages under way."""
    while (begun := backfill.begin()) is not None:
        number, _ = begun
        state: State[Any] = archive_shard(backfill.plan.plan_id, number, return_state=True)
        look()
        settle(backfill, number, state)
        tell("")


def settle(backfill: Backfill, number: int, state: State[Any] | None) -> None:
    """A shard's run is over: where it left no manifest, say why.

    Raises:
        UsageError: Somebody has to mend something before it is begun again.
    """
    if not backfill.is_done(number):
        message = (state and (state.message or state.name)) or "Prefect knows nothing of its run"
        if state is not None and state.name == REFUSED:
            raise UsageError(message)
        report.tell_line(f"shard {number} is not done: {message}", stays=True)
    backfill.ended(number)


def work_on_workers(
    client: SyncPrefectClient,
    backfill: Backfill,
    max_parallel: int,
    patience: float,
    look: Step,
    tell: Tell,
    poll: float = POLL,
) -> None:
    """Keep some shards open until none is left.

    Args:
        client: Prefect's.
        backfill: What there is to do.
        max_parallel: Shards open at once.
        patience: Seconds without a sign of life after which a shard is given to another worker.
        look: Reads which shards are done.
        tell: Is told what to add to how far the backfill is.
        poll: Seconds between two looks at the shards that are open.
    """
    opened: dict[int, UUID] = {}
    try:
        while open_more(backfill, opened, max_parallel):
            time.sleep(poll)
            states = {number: state_of(client, run) for number, run in opened.items()}
            over = [number for number, state in states.items() if is_over(client, opened[number], state, patience)]
            if over:
                look()
            for number in over:
                state = end(client, opened.pop(number), states[number], Crashed(message=SILENT))
                settle(backfill, number, state)
            tell(said(opened, states))
    finally:
        # Each of them, also where Prefect cannot be asked to end the one before.
        with ExitStack() as ends:
            for run in opened.values():
                ends.callback(end, client, run, None, Cancelling(message="its backfill has ended"))


def said(opened: Collection[int], states: Mapping[int, State[Any] | None]) -> str:
    """Say how many shards are open, and that some wait: the worker may never have been started."""
    waiting = sum(state.is_scheduled() for number, state in states.items() if state and number in opened)
    if not opened:
        return ""
    return f"; {len(opened):,} open" + (f", {waiting:,} of them wait for a worker" if waiting else "")


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


def state_of(client: SyncPrefectClient, run: UUID) -> State[Any] | None:
    """Give the state of a run; None where Prefect does not know it any more."""
    try:
        return client.read_flow_run(run).state
    except ObjectNotFound:
        return None


def is_over(client: SyncPrefectClient, run: UUID, state: State[Any] | None, patience: float) -> bool:
    """Whether a shard's run has ended, or no worker can be at it any more."""
    if state is None:
        return True
    if state.is_scheduled():
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


def end(client: SyncPrefectClient, run: UUID, now: State[Any] | None, then: State[Any]) -> State[Any] | None:
    """Take a run out of Prefect's hands, unless it has ended by itself; give the state that it is in."""
    if now is not None and now.is_final():
        return now
    with suppress(PrefectException):
        # Not forced: Prefect leaves what has ended as it is, and cancels at once what no worker has taken, instead of
        # waiting for one.
        client.set_flow_run_state(run, then)
    return then
