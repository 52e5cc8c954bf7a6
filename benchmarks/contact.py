"""First contact with Prefect's server: a flow of one task that does nothing."""

from prefect import flow, task


@task
def nothing() -> None:
    """Do nothing, as a task run."""


@flow
def hello() -> None:
    """Connect everything that Prefect connects."""
    nothing.submit().wait()
