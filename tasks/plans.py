"""A backfill's plan and worklists: stored by whoever plans, read by whoever works on a shard."""

from prefect import task

from formant_archive import worklists
from formant_archive.manifest import PartLink
from formant_archive.plan import Plan
from formant_archive.records import Reference
from formant_archive.worklists import Progress
from tasks import connections
from tasks.retries import ON_OUTAGE


@task(task_run_name="store-worklist-{number}", **ON_OUTAGE)
def store_worklist(plan_id: str, number: int, shard: list[Reference]) -> PartLink:
    """Store the worklist of a shard."""
    return worklists.store_worklist(connections.store(), plan_id, number, shard)


@task(task_run_name="store-plan", **ON_OUTAGE)
def store_plan(plan: Plan) -> None:
    """Store a plan."""
    worklists.store_plan(connections.store(), plan)


@task(task_run_name="read-plan", **ON_OUTAGE)
def read_plan(plan_id: str) -> Plan:
    """Read a plan."""
    return worklists.read_plan(connections.store(), plan_id)


@task(task_run_name="read-worklist-{number}", **ON_OUTAGE)
def read_worklist(plan: Plan, number: int) -> list[Reference]:
    """Read the worklist of a shard: a thousand references or so."""
    return list(worklists.read_worklist(connections.store(), plan.shards[number - 1]))


@task(task_run_name="look-at-progress", **ON_OUTAGE)
def look_at_progress(plan: Plan, known: Progress | None) -> Progress:
    """Read which shards of a plan have committed a manifest."""
    progress = known or Progress(connections.store(), plan)
    progress.look()
    return progress
