"""Archive years of history, by agent, on as many machines as there are.

    python -m flows.backfill --agent-id 101 --agent-id 102 --since 2024-01-01 --dry-run

First a plan: the agents are listed, what is settled is left out, the rest is cut into shards, whose worklists are
stored in the archive. Then the shards, here or on the workers of a Prefect work pool. A backfill that breaks is gone on
with by its plan's id, or begun anew: what is settled stays settled.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import report, terminal
from flows.pages import listed
from flows.shard import PlanId
from flows.shards import Where, begin, check_server, work_off
from formant_archive import cli
from formant_archive.errors import ArchiveError, UsageError
from formant_archive.plan import Plan, Planner, check_plan
from formant_archive.settings import current_settings
from tasks import connections
from tasks.conversations import read_folders
from tasks.manifests import read_head
from tasks.opaque import opaque
from tasks.plans import read_plan, store_plan, store_worklist

Agents = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=1000)]
Size = Annotated[int, Field(ge=1, le=10_000)]
Parallel = Annotated[int, Field(ge=1, le=100)]
Patience = Annotated[float, Field(gt=0, le=1440)]


@flow(name="backfill-agents", persist_result=False)
def backfill_agents(
    agent_ids: Agents | None = None,
    all_agents: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
    shard_size: Size = 1000,
    on: Where = "here",
    max_parallel: Parallel = 4,
    patience_minutes: Patience = 30,
    resume: PlanId | None = None,
) -> State[Any]:
    """Plan which conversations of some agents are to be archived, and archive them in shards.

    Args:
        agent_ids: These agents' conversations.
        all_agents: Every agent's.
        since: Leave out what started before (UTC).
        until: Leave out what started at this time or later (UTC).
        dry_run: Plan, say what there is to do, and stop; nothing is stored. With `resume`: say how far it is.
        shard_size: Conversations of a shard, which is a run and a manifest of its own.
        on: `here`, in this process, one shard after the other; or `workers`, each shard a run of the deployment
            archive-shard on whatever worker takes it.
        max_parallel: Shards under way at once on workers.
        patience_minutes: A shard on a worker that shows no sign of life for so long is given to another.
        resume: Go on with the plan of this id.
    """
    try:
        check(agent_ids, since, until, all_agents=all_agents, resume=resume)
        if resume is None:
            plan = make_plan(scopes(agent_ids), since, until, shard_size=shard_size, keep=not dry_run)
            told = f"{plan.sentence}; {plan.estimate(connections.rate_limit())}"
        else:
            plan = read_plan(resume)
            check_plan(plan, current_settings().source)
            told = plan.sentence if not dry_run else f"{plan.sentence}; {begin(plan).sentence}"
        if dry_run:
            return Completed(message=told, data={"exit_code": 0})
        report.tell_line(f"plan {plan.plan_id}: {told}", stays=True)
        cli.say_if_stopped(f"go on with --resume {plan.plan_id}")
        outcome = work_off(begin(plan), on, max_parallel, patience_minutes * 60)
    except ArchiveError as fault:
        return Failed(message=str(fault), data={"exit_code": fault.exit_code})
    report.publish_backfill(outcome)
    end = Completed if outcome.exit_code == 0 else Failed
    return end(message=outcome.message, data={"exit_code": outcome.exit_code, **outcome.counts})


def check(
    agent_ids: Sequence[int] | None,
    since: datetime | None,
    until: datetime | None,
    *,
    all_agents: bool,
    resume: str | None,
) -> None:
    """Refuse what cannot be meant.

    Raises:
        UsageError: It says neither what to plan nor which plan to go on with, or both; or no time is in between.
    """
    if resume is not None and (agent_ids or all_agents or since or until):
        raise UsageError("--resume goes on with a plan as it was made: leave out the agents, --since and --until")
    if resume is None and all_agents == bool(agent_ids):
        both = "not both: " if all_agents else ""
        raise UsageError(f"{both}name the agents to backfill (--agent-id 101), or all of them with --all-agents")
    start, stop = cli.epoch(since), cli.epoch(until)
    if start is not None and stop is not None and start >= stop:
        raise UsageError("nothing starts at or after --since and before --until: --since must be the earlier one")


def scopes(agent_ids: Sequence[int] | None) -> list[int | None]:
    """Say what is to be listed: each agent once, or all (None)."""
    return list(dict.fromkeys(agent_ids or [])) or [None]


def make_plan(
    agents: Sequence[int | None], since: datetime | None, until: datetime | None, *, shard_size: int, keep: bool
) -> Plan:
    """List the agents to their ends, and cut what is to be done into shards; they are stored if they are to be kept."""
    settings = current_settings()
    planner = Planner(
        read_head(),
        plan_id=str(uuid4()),
        policy=settings.policy,
        source=settings.source,
        since=cli.epoch(since),
        until=cli.epoch(until),
        shard_size=shard_size,
        now=datetime.now(UTC),
    )
    for agent_id in agents:
        list_agent(planner, agent_id, keep=keep)
    store_full(planner, keep=keep, is_last=True)
    plan = planner.plan()
    if keep:
        store_plan(opaque(plan))
    return plan


def list_agent(planner: Planner, agent_id: int | None, *, keep: bool) -> None:
    """List an agent's conversations to the end; what is to be done of each page is stored as shards fill up."""
    listing = planner.list_agent(agent_id)
    for page in listed(listing, agent_id):
        wanted = planner.take(listing, page.references, page.total)
        if folders := planner.unread_folders(wanted):
            planner.learn(read_folders(folders))
        planner.add(wanted)
        store_full(planner, keep=keep, is_last=False)
        report.tell_line(f"{listing.scope}: {listing.unique:,} of {listing.total or 0:,} listed")
    report.tell_line(planner.finish(listing), stays=True)


def store_full(planner: Planner, *, keep: bool, is_last: bool) -> None:
    """Store the worklists of the shards that are full, and in the end of the last one."""
    while (shard := planner.next_shard(is_last=is_last)) is not None:
        if keep:
            planner.stored(store_worklist(planner.plan_id, planner.next_number, opaque(shard)))


def main(
    *,
    agent_id: list[int] | None = None,
    all_agents: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
    shard_size: int = 1000,
    on: Where = "here",
    max_parallel: int = 4,
    patience_minutes: float = 30,
    resume: str | None = None,
) -> int:
    """Archive the history of some agents, or of all, in shards: here, or on the workers of a Prefect work pool.

    FORMANT_API_KEY and ARCHIVE_URL say what and where, in the environment or in .env.

    Args:
        agent_id: An agent; once for each.
        all_agents: Every agent.
        since: Leave out what started before this day or time (UTC).
        until: Leave out what started on this day or later (UTC).
        dry_run: Say what there is to do, and stop; nothing is stored.
        shard_size: Conversations of a shard, at most 10,000; each shard is a run and a manifest of its own.
        on: Here, in this process; or on workers, as runs of the deployment archive-shard.
        max_parallel: Shards under way at once on workers, at most 100.
        patience_minutes: A shard on a worker that shows no sign of life for so long is given to another.
        resume: Go on with the plan of this id, which every backfill prints; with dry-run, say how far it is.
    """
    check(agent_id, since, until, all_agents=all_agents, resume=resume)
    check_server(on)
    return terminal.run(
        backfill_agents,
        agent_ids=agent_id,
        all_agents=all_agents,
        since=since,
        until=until,
        dry_run=dry_run,
        shard_size=shard_size,
        on=on,
        max_parallel=max_parallel,
        patience_minutes=patience_minutes,
        resume=resume,
    )


if __name__ == "__main__":
    cli.run_function(main, name="python -m flows.backfill")
