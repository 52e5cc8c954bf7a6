"""When Prefect may run a task again: after an outage that outlasted the client's or the store's own patience."""

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from formant_archive.errors import ArchiveError


def can_help(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Ask the error whether the same call can succeed later."""
    fault = state.data if isinstance(state.data, BaseException) else getattr(state.data, "result", None)
    return isinstance(fault, ArchiveError) and fault.retryable


#: How every task of this project is retried. Nothing is cached and no result persisted: the archive is the only truth.
ON_OUTAGE: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [5, 20],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": can_help,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
