"""First contact with Prefect's server, and the process of a contender that is a flow of this project."""

from collections.abc import Callable
from typing import Any

from prefect import flow, task

from benchmarks import measure


@task
def nothing() -> None:
    """Do nothing, as a task run."""


@flow
def hello() -> None:
    """Connect everything that Prefect connects."""
    nothing.submit().wait()


def run(ours: Callable[..., Any], counted: str, **parameters: object) -> None:
    """Be a contender's process that runs a flow; `counted` names the count that must be as many as there are.

    Raises:
        RuntimeError: The flow failed, or its count is another.
    """

    def work(conversations: int) -> None:
        state = ours(**parameters, return_state=True)
        counts: Any = getattr(state.data, "result", state.data)
        if not state.is_completed() or counts[counted] != conversations:
            raise RuntimeError(f"of {conversations} conversations: {state.type.value}, {state.message}")

    measure.run(hello, work)
