"""The work pools and queues that `prefect.yaml` names, created where they are missing and left alone where not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from formant_archive.errors import UsageError
from tools.bootstrap.step import Change, Step

DEPLOYMENTS = Path(__file__).parents[2] / "prefect.yaml"
#: Behind the pool's own queue, which has 1: a worker that has room for one run takes the schedule's, not a shard.
AFTER_THE_SCHEDULE = 2


def put_pools(client: SyncPrefectClient, kind: str, *, write: bool) -> Iterator[Step]:
    """Create each work pool that a deployment names, and its queues.

    Args:
        client: Of the server.
        kind: The type of a pool that is created; one that exists keeps its own.
        write: Whether to do it, or only to say what is missing.

    Raises:
        UsageError: Prefect knows no such type.
    """
    wanted = named_pools()
    for name in dict.fromkeys(pool for pool, _ in wanted):
        yield put_pool(client, name, kind, write=write)
    for pool, queue in wanted:
        if queue is not None:
            yield put_queue(client, pool, queue, write=write)


def named_pools() -> list[tuple[str, str | None]]:
    """Name the pools and queues of the deployments, each once; None is a pool's own queue."""
    pools = [one["work_pool"] for one in yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]]
    return list(dict.fromkeys((pool["name"], pool.get("work_queue_name")) for pool in pools))


def put_pool(client: SyncPrefectClient, name: str, kind: str, *, write: bool) -> Step:
    """Create a work pool, unless there is one of that name."""
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        template = job_template(kind)
        if write:
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        return Step(Change.CREATED, f"work pool {name} ({kind})")
    return Step(Change.UNCHANGED, f"work pool {name} ({pool.type})")


def job_template(kind: str) -> dict[str, Any]:
    """Give what Prefect itself takes for a new pool of a type.

    Raises:
        UsageError: It knows no such type.
    """
    template = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
    if template is None:
        raise UsageError(f"--pool-type: Prefect knows no {kind}; for example process, docker, kubernetes, ecs")
    return template


def put_queue(client: SyncPrefectClient, pool: str, name: str, *, write: bool) -> Step:
    """Create a work queue, unless the pool has one of that name."""
    thing = f"work queue {pool}/{name}"
    try:
        client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        if write:
            client.create_work_queue(name, priority=AFTER_THE_SCHEDULE, work_pool_name=pool)
        return Step(Change.CREATED, thing)
    return Step(Change.UNCHANGED, thing)
