"""The backfill as a flow: planned, dry, worked off here, resumed; what it asks of a Prefect server where workers take
its shards; how it ends on a terminal. Real workers are in `tests/stack`.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled
from pydantic import TypeAdapter, ValidationError

from flows import shards, terminal
from flows.backfill import Size, backfill_agents, check
from formant_archive.backfill import Backfill
from formant_archive.errors import UsageError
from formant_archive.plan import Plan
from formant_archive.run import PART_SIZE
from formant_archive.settings import current_settings
from formant_archive.simulator import SPOKEN, Simulator
from formant_archive.stores import open_store
from formant_archive.worklists import Progress
from tests.plain import Clock, client_of, make_plan

if TYPE_CHECKING:
    from tests.flows.conftest import Lines, Place, Terminal

pytestmark = pytest.mark.prefect

SHORT = (0.1, 0.2)
#: Seconds between two looks at shards on workers.
POLL = 0.01
Planned = tuple[Plan, Simulator]


def simulator(conversations: int = 40, **options: Any) -> Simulator:
    return Simulator(5, conversations, **{"completed": 1, "audio_seconds": SHORT, **options})


def backfilled(**parameters: Any) -> State[Any]:
    state: State[Any] = backfill_agents(**parameters, return_state=True)
    return state


def data_of(state: State[Any]) -> dict[str, int]:
    data: Any = state.data
    result: dict[str, int] = getattr(data, "result", data)
    return result


def run_of(state: State[Any]) -> UUID:
    run = state.state_details.flow_run_id
    assert isinstance(run, UUID)
    return run


def shard_runs(state: State[Any]) -> list[FlowRun]:
    """The runs of shards that a backfill has begun in its own process, the first one first."""
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_of(state)]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=children)
    return sorted(found, key=lambda run: run.start_time or datetime.max.replace(tzinfo=UTC))


def artifacts(state: State[Any]) -> dict[str | None, Any]:
    of_this = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_of(state)]))
    with get_client(sync_client=True) as client:
        return {one.key: one.data for one in client.read_artifacts(artifact_filter=of_this)}


def plan_ids(place: "Place") -> list[str]:
    return [path.parent.name for path in place.archive.glob("plans/*/plan.json")]


@pytest.fixture
def planned(place: "Place") -> Iterator[Planned]:
    """A plan of four shards in an archive, of which nothing is done."""
    with place.serving(sim := simulator(40)):
        clock = Clock(datetime.now(UTC))
        source = current_settings().source
        yield make_plan(client_of(sim, clock), open_store(str(place.archive)), clock, shard_size=10, source=source), sim


# Here


def test_a_backfill_archives_each_conversation_once_in_shards_and_says_so(place: "Place", logged: "Lines") -> None:
    sim = simulator(50, rate_limit=100_000)
    with place.serving(sim):
        state = backfilled(all_agents=True, shard_size=20)

    assert state.is_completed(), state.message
    assert state.message == f"3 of 3 shards done, 50 archived; head {place.head}"
    assert (data_of(state)["exit_code"], data_of(state)["archived"]) == (0, 50)
    assert set(place.records) == {one.conversation_id for one in sim.conversations}
    [plan_id] = plan_ids(place)
    manifests = place.manifests
    assert [one["run"]["parameters"] for one in manifests] == [{"plan_id": plan_id, "number": n} for n in (1, 2, 3)]
    assert {(one["kind"], one["listing"], len(one["scopes"])) for one in manifests} == {("backfill", None, 0)}
    assert (sim.count("conversation"), sim.count("recording")) == (50, 50)
    # What Prefect's database knows of a shard is a plan's id and a number.
    runs = shard_runs(state)
    assert [run.parameters for run in runs] == [{"plan_id": plan_id, "number": n} for n in (1, 2, 3)]
    shown = artifacts(state)
    assert shown["backfill-progress"] == 100
    assert f"Plan `{plan_id}`: 3 of 3 shards done, 50 archived." in str(shown["backfill"])
    # He who is to go on with it later needs the id, and what was planned.
    said = [line for line in logged.texts if plan_id in line]
    assert any(
        f"plan {plan_id}: 50 listed, 50 to archive in 3 shards; about" in line
        and "100 requests: 1 min at 100,000 requests a minute" in line
        for line in said
    )
    everything = "\n".join([*logged.texts, str(shown), str([run.model_dump() for run in runs])])
    assert SPOKEN not in everything
    assert not any(one.contact_number in everything for one in sim.conversations if one.contact_number)


def test_each_agent_is_listed_once_and_what_is_to_do_of_it_is_said(place: "Place", logged: "Lines") -> None:
    sim = simulator(60)
    with place.serving(sim):
        state = backfilled(agent_ids=[101, 103, 101])

    assert state.is_completed(), state.message
    assert sim.count("list") == 4
    assert {record["agent_id"] for record in place.records.values()} == {101, 103}
    assert len(place.records) == 40
    told = [line.split("flow_runs ")[-1] for line in logged.texts if "20 listed, 20 to archive" in line]
    # Each logger hands its lines on to the one above it.
    assert list(dict.fromkeys(told)) == [f"agent_id={agent}: 20 listed, 20 to archive" for agent in (101, 103)]


def test_a_dry_run_stores_nothing_and_starts_nothing_and_says_what_there_is_to_do(place: "Place") -> None:
    sim = simulator(50, rate_limit=60)
    with place.serving(sim):
        state = backfilled(all_agents=True, shard_size=20, dry_run=True)

    assert state.is_completed()
    assert state.message is not None
    assert state.message.startswith("50 listed, 50 to archive in 3 shards; about 0.0 GB")
    assert state.message.endswith("100 requests: 2 min at 60 requests a minute")
    assert sim.count() == sim.count("list") == 2
    assert place.files == {}
    assert shard_runs(state) == []


def test_days_are_days_of_utc(place: "Place", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        with place.serving(simulator(3)):
            backfilled(all_agents=True, since=datetime(2024, 1, 1), until="2024-01-02T05:30:00+05:30")
    finally:
        monkeypatch.undo()
        time.tzset()

    [plan] = [json.loads(path.read_bytes()) for path in place.archive.glob("plans/*/plan.json")]
    day = 1_704_067_200_000
    assert (plan["since"], plan["until"]) == (day, day + 86_400_000)


def test_failed_conversations_make_it_fail_and_no_shard_is_begun_again(place: "Place") -> None:
    sim = simulator(20)
    sim.fault(
        kind="conversation",
        conversation_id=sim.conversations[0].conversation_id,
        body=b"<html>",
        content_type="text/html",
        share=1.0,
    )
    with place.serving(sim):
        state = backfilled(all_agents=True, shard_size=10)
        head = place.head
        sim.heal()
        place.run()

    assert state.is_failed()
    said = "2 of 2 shards done, 19 archived, 1 failed (tried again by the next scheduled run)"
    assert state.message == f"{said}; head {head}"
    assert data_of(state)["exit_code"] == 1
    assert len(shard_runs(state)) == 2
    assert len(place.records) == 20


def test_an_incomplete_listing_plans_nothing(place: "Place") -> None:
    sim = simulator(150)
    sim.fault(kind="list", total=160, share=1.0)
    with place.serving(sim):
        state = backfilled(all_agents=True, shard_size=1000)

    assert state.is_failed()
    assert state.message is not None
    assert "lacks 10 of what the API promised" in state.message
    assert data_of(state)["exit_code"] == 1
    assert place.files == {}


def test_a_key_that_is_refused_midway_ends_it_at_once_and_resume_does_the_others_only(
    place: "Place", logged: "Lines"
) -> None:
    sim = simulator(60)
    of_second = [one.conversation_id for one in sim.conversations[20:40]]
    sim.fault(kind="recording", conversation_id=of_second[-1], status=401, share=1.0)
    with place.serving(sim):
        state = backfilled(all_agents=True, shard_size=20)

        assert state.is_failed()
        assert data_of(state)["exit_code"] == 2
        assert state.message is not None
        assert "FORMANT_API_KEY" in state.message
        assert "\n" not in state.message
        assert [run.parameters["number"] for run in shard_runs(state)] == [1, 2]
        assert [one["run"]["parameters"]["number"] for one in place.manifests] == [1]
        [plan_id] = plan_ids(place)
        sim.heal()
        sim.forget_requests()

        look = backfilled(resume=plan_id, dry_run=True)
        resumed = backfilled(resume=plan_id)

    assert look.is_completed()
    assert look.message == "60 listed, 60 to archive in 3 shards; 1 of 3 shards done, 20 archived"
    assert resumed.is_completed(), resumed.message
    assert [run.parameters["number"] for run in shard_runs(resumed)] == [2, 3]
    assert sim.count("list") == 0
    asked = " ".join(request.path for request in sim.requests)
    assert not any(one.conversation_id in asked for one in sim.conversations[:20])
    assert resumed.message == f"3 of 3 shards done, 60 archived; head {place.head}"
    assert len(place.records) == 60
    # Nothing was listed, and nobody told what the limit is.
    assert any(line.endswith(f"plan {plan_id}: 60 listed, 60 to archive in 3 shards") for line in logged.texts)


def test_a_shard_that_ends_without_a_manifest_is_begun_three_times_and_given_up(
    place: "Place", planned: Planned, logged: "Lines"
) -> None:
    plan, _ = planned
    first, *_, last = (place.archive / link.key for link in plan.shards)
    last.unlink()
    last.write_bytes(first.read_bytes())
    state = backfilled(resume=plan.plan_id)

    assert state.is_failed()
    assert data_of(state)["exit_code"] == 1
    said = f"3 of 4 shards done, 30 archived, 1 shard given up: go on with --resume {plan.plan_id}"
    assert state.message == f"{said}; head {place.head}"
    assert Counter(run.parameters["number"] for run in shard_runs(state)) == {1: 1, 2: 1, 3: 1, 4: 3}
    why = f"shard 4 is not done: {plan.shards[3].key} does not have the SHA-256 that its plan names: make a new plan"
    assert sum(why in line for line in set(logged.texts)) >= 1
    assert len(place.records) == 30


def test_what_cannot_be_meant_ends_with_exit_code_2(place: "Place") -> None:
    with place.serving(simulator(3)) as sim:
        ended = {
            "no plan": backfilled(resume=str(uuid4())),
            "neither": backfilled(),
            "both": backfilled(agent_ids=[101], all_agents=True),
        }
        asked = sim.count()

    said = {name: state.message or "" for name, state in ended.items()}
    assert {name: data_of(state)["exit_code"] for name, state in ended.items()} == dict.fromkeys(ended, 2)
    assert "give the id that an earlier backfill printed" in said["no plan"]
    assert said["neither"] == "name the agents to backfill (--agent-id 101), or all of them with --all-agents"
    assert said["both"].startswith("not both: ")
    assert asked == 0
    assert place.files == {}


def test_a_plan_of_another_source_is_refused_also_where_no_manifest_tells(planned: Planned, place: "Place") -> None:
    with place.serving(simulator(20)) as other:
        state = backfilled(resume=planned[0].plan_id)

    assert data_of(state)["exit_code"] == 2
    assert "FORMANT_BASE_URL" in (state.message or "")
    assert other.count() == 0


def test_a_shard_commits_its_last_part_only_when_all_of_it_was_worked_on() -> None:
    """A first part of several would call a shard done that is not: no shard is larger than a part."""
    with pytest.raises(ValidationError):
        TypeAdapter(Size).validate_python(PART_SIZE + 1)


# On workers: what is asked of the server


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def deployment(client: SyncPrefectClient) -> Iterator[UUID]:
    """The deployment of the shards, in a pool that no worker looks at."""
    made = client.create_deployment(client.create_flow_from_name("archive-shard"), name="archive-shard")
    yield made
    client.delete_deployment(made)


def opened(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """The runs of the deployment that a worker would see, as many as there are."""
    of_this = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    return client.read_flow_runs(deployment_filter=of_this)


def test_a_missing_deployment_is_one_line_that_says_what_to_do(planned: Planned) -> None:
    with pytest.raises(UsageError, match=r"no deployment archive-shard/archive-shard: run prefect deploy --all"):
        shards.submit(planned[0], 1, 1)


def test_a_shard_is_submitted_once_for_each_attempt_with_ids_only(
    client: SyncPrefectClient, deployment: UUID, planned: Planned
) -> None:
    plan, _ = planned

    first, again, second = (shards.submit(plan, 3, attempt) for attempt in (1, 1, 2))

    assert first == again != second
    run = client.read_flow_run(first)
    assert run.parameters == {"plan_id": plan.plan_id, "number": 3}
    assert run.name == "shard-3-of-4"
    assert set(run.tags) == {"formant-archive", "backfill"}
    assert len(opened(client, deployment)) == 2


@pytest.mark.parametrize(
    ("state", "patience", "expected"),
    [
        (Scheduled(), 0, False),
        (Pending(), 600, False),
        (Pending(), 0, True),
        (Running(), 600, False),
        (Running(), 0, True),
        (Completed(), 600, True),
        (Failed(), 600, True),
        (Crashed(), 600, True),
    ],
    ids=lambda value: value.name if isinstance(value, State) else str(value),
)
def test_a_shard_is_over_when_it_has_ended_or_shows_no_sign_of_life_but_waits_for_a_worker_for_ever(
    state: State[Any],
    patience: float,
    expected: bool,
    client: SyncPrefectClient,
    deployment: UUID,
) -> None:
    run = client.create_flow_run_from_deployment(deployment, parameters={"plan_id": "p", "number": 1}).id
    client.set_flow_run_state(run, state, force=True)

    now = shards.state_of(client, run)

    assert now is not None
    assert shards.is_over(client, run, now, patience) is expected


def test_a_run_that_prefect_does_not_know_is_over(client: SyncPrefectClient, prefect_server: str) -> None:
    assert shards.state_of(client, uuid4()) is None
    assert shards.is_over(client, uuid4(), None, 600)


def test_the_last_sign_of_life_is_the_newest_task_or_else_the_state(client: SyncPrefectClient, place: "Place") -> None:
    with place.serving(simulator(10)):
        [run] = shard_runs(backfilled(all_agents=True))
    long_ago: State[Any] = Running(timestamp=datetime.now(UTC) - timedelta(days=2))
    assert run.start_time is not None

    # Prefect notes task runs a little later.
    found = eventually(lambda: shards.last_sign(client, run.id, long_ago), lambda sign: sign != long_ago.timestamp)
    now: State[Any] = Running()

    assert run.start_time <= found <= now.timestamp
    assert shards.last_sign(client, run.id, now) == now.timestamp


def in_a_flow(work: Callable[[], None]) -> None:
    """Work as a backfill does: it says in its run's log why a shard is not done."""
    flow(work)()


def eventually(look: Callable[[], Any], is_so: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 60
    while not is_so(found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_cancelling_leaves_what_has_ended_and_cancels_at_once_what_no_worker_has_taken(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    """A shard that waits must not be left to wait, as cancelling, for a worker that never takes it."""
    before: dict[str, State[Any]] = {"waits": Scheduled(), "runs": Running(), "ended": Completed()}
    runs = {name: client.create_flow_run_from_deployment(deployment).id for name in before}
    for name, state in before.items():
        client.set_flow_run_state(runs[name], state, force=True)

    for run in runs.values():
        shards.end(client, run, None, Cancelling(message="its backfill has ended"))
    shards.end(client, uuid4(), None, Cancelling())

    after = {name: client.read_flow_run(run).state for name, run in runs.items()}
    assert {name: state and state.name for name, state in after.items()} == {
        "waits": "Cancelled",
        "runs": "Cancelling",
        "ended": "Completed",
    }


class Tamed:
    """A worker for a test: takes the shards that wait, one at each look, and ends them as it is told.

    Args:
        ends: What becomes of the shards' first runs; the others are archived.
    """

    def __init__(
        self, client: SyncPrefectClient, deployment: UUID, plan: Plan, place: "Place", **ends: State[Any]
    ) -> None:
        self.client, self.deployment = client, deployment
        self.progress = Progress(open_store(str(place.archive)), plan)
        self.backfill = Backfill(plan, self.progress)
        self.ends = ends
        self.taken: list[int] = []
        self.most = 0
        self.said: list[str] = []

    def work(self, max_parallel: int) -> None:
        shards.work_on_workers(self.client, self.backfill, max_parallel, 600, self.progress.look, self.tell, poll=POLL)

    def tell(self, more: str) -> None:
        """Called after each look of the backfill."""
        from flows.shard import archive_shard

        self.said.append(more)
        waiting = [run for run in self.runs if run.state and run.state.is_scheduled()]
        self.most = max(self.most, len(waiting))
        if not waiting:
            return
        run = min(waiting, key=lambda run: run.expected_start_time or datetime.max.replace(tzinfo=UTC))
        number = run.parameters["number"]
        self.taken.append(number)
        state = self.ends.pop(f"shard_{number}", None)
        if state is None:
            archive_shard(**run.parameters, return_state=True)
            state = Completed()
        self.client.set_flow_run_state(run.id, state, force=True)

    @property
    def runs(self) -> list[FlowRun]:
        return opened(self.client, self.deployment)


def test_a_few_shards_are_kept_open_and_one_that_crashed_is_begun_again(
    client: SyncPrefectClient,
    deployment: UUID,
    planned: Planned,
    place: "Place",
) -> None:
    plan, sim = planned
    worker = Tamed(client, deployment, plan, place, shard_2=Crashed(message="its worker was killed"))

    in_a_flow(lambda: worker.work(2))

    assert (worker.backfill.exit_code, worker.backfill.sentence) == (0, "4 of 4 shards done, 40 archived")
    assert Counter(worker.taken) == {1: 1, 2: 2, 3: 1, 4: 1}
    assert worker.taken[-1] == 2
    assert worker.most == 2
    assert "; 2 open, 2 of them wait for a worker" in worker.said
    assert set(place.records) == {one.conversation_id for one in sim.conversations}


def test_a_refused_key_on_a_worker_ends_the_backfill_and_cancels_the_shards_that_are_open(
    client: SyncPrefectClient, deployment: UUID, planned: Planned, place: "Place"
) -> None:
    plan, _ = planned
    refused: State[Any] = Failed(name="Refused", message="the API refuses the key: set FORMANT_API_KEY")
    worker = Tamed(client, deployment, plan, place, shard_1=refused)

    with pytest.raises(UsageError, match="the API refuses the key"):
        in_a_flow(lambda: worker.work(3))

    states = Counter(run.state.name for run in worker.runs if run.state)
    assert states == {"Refused": 1, "Cancelled": 2}


def test_an_interrupted_backfill_cancels_the_shards_that_are_open(
    client: SyncPrefectClient, deployment: UUID, planned: Planned, place: "Place"
) -> None:
    plan, _ = planned
    progress = Progress(open_store(str(place.archive)), plan)

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.work_on_workers(client, Backfill(plan, progress), 3, 600, progress.look, interrupt, poll=POLL)

    assert [run.state.name for run in opened(client, deployment) if run.state] == ["Cancelled"] * 3


def test_a_shard_whose_key_is_refused_says_so_in_its_states_name(planned: Planned) -> None:
    """Of a run on a worker, the backfill sees nothing else."""
    from flows.shard import archive_shard

    plan, sim = planned
    sim.fault(kind="conversation", status=401, share=1.0)

    state: Any = archive_shard(plan.plan_id, 1, return_state=True)
    unknown: Any = archive_shard(plan.plan_id, 9, return_state=True)

    assert (state.name, state.is_failed()) == ("Refused", True)
    assert (unknown.name, "has the shards 1 to 4" in unknown.message) == ("Refused", True)


# On a terminal

Start = Callable[..., "Terminal"]


@pytest.fixture
def start(place: "Place", terminal_type: type["Terminal"]) -> Iterator[Start]:
    started = []

    def begin(*arguments: str, **settings: str) -> "Terminal":
        started.append(terminal_type(place.folder, *arguments, module="flows.backfill", settings=settings))
        return started[-1]

    yield begin
    for process in started:
        process.stop()


def settings_of(place: "Place", url: str) -> dict[str, str]:
    return {"FORMANT_API_KEY": "simulated-key", "FORMANT_BASE_URL": url, "ARCHIVE_URL": str(place.archive)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "name the agents to backfill (--agent-id 101), or all of them with --all-agents"),
        ({"agent_ids": [1], "all_agents": True}, "not both: name the agents"),
        ({"resume": "x", "agent_ids": [1]}, "--resume goes on with a plan as it was made"),
        ({"resume": "x", "since": datetime(2024, 1, 1)}, "--resume goes on with a plan as it was made"),
        ({"all_agents": True, "since": datetime(2024, 2, 1), "until": datetime(2024, 1, 1)}, "--since must be the"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_meant_together_are_refused(arguments: dict[str, Any], said: str) -> None:
    given = {"agent_ids": None, "since": None, "until": None, "all_agents": False, "resume": None, **arguments}
    with pytest.raises(UsageError) as caught:
        check(**given)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"resume": ""}, "--resume: string should have at least 1 character"),
        ({"shard_size": 0}, "--shard-size: input should be greater than or equal to 1"),
        ({"shard_size": 10_001}, "--shard-size: input should be less than or equal to 10000"),
        ({"max_parallel": 0}, "--max-parallel: input should be greater than or equal to 1"),
        ({"max_parallel": 101}, "--max-parallel: input should be less than or equal to 100"),
        ({"patience_minutes": 0}, "--patience-minutes: input should be greater than 0"),
        (
            {"shard_size": 0, "max_parallel": 0},
            "--shard-size: input should be greater than or equal to 1;"
            " --max-parallel: input should be greater than or equal to 1",
        ),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_one_line_that_names_the_option(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        terminal.check_parameters(backfill_agents, arguments)

    assert str(caught.value) == said


def test_commands_that_cannot_be_meant_are_one_line_and_exit_code_2_and_help_says_how(start: Start) -> None:
    commands = {
        "neither": start(),
        "workers": start("--all-agents", "--on", "workers"),
        "size": start("--all-agents", "--shard-size", "0"),
        "help": start("--help"),
    }
    ended = {name: process.wait() for name, process in commands.items()}

    shown = ended.pop("help")
    assert {name: (one.code, one.out, len(one.error_lines)) for name, one in ended.items()} == dict.fromkeys(
        ended, (2, "", 1)
    )
    assert ended["neither"].err.startswith("error: name the agents to backfill")
    assert ended["workers"].err.startswith("error: PREFECT_API_URL is not set: workers need a Prefect server")
    assert ended["size"].err.startswith("error: --shard-size: ")
    assert not any(list(process.home.glob("*.db*")) for process in commands.values())
    assert (shown.code, shown.err) == (0, "")
    options = ("--agent-id", "--all-agents", "--since", "--until", "--dry-run", "--on", "--max-parallel", "--resume")
    assert all(option in shown.out for option in options)
    assert "Exit codes: 0 well" in shown.out
    assert "--empty" not in shown.out


def test_interrupt_says_how_to_go_on_and_that_goes_on(start: Start, place: "Place", prefect_server: str) -> None:
    sim = simulator(120)
    sim.fault(kind="recording", share=1.0, delay=0.2)
    with sim.serve() as url:
        process = start(
            *("--all-agents", "--shard-size", "30"), **settings_of(place, url), PREFECT_API_URL=prefect_server
        )
        eventually(lambda: sim.count("recording"), lambda count: count > 40)
        process.interrupt()
        ended = process.wait()
        done = len(place.manifests)
        [plan_id] = plan_ids(place)
        sim.heal()
        sim.forget_requests()
        again = start("--resume", plan_id, **settings_of(place, url), PREFECT_API_URL=prefect_server).wait()

    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert any(line.startswith(f"plan {plan_id}: 120 listed, 120 to archive in 4 shards") for line in ended.error_lines)
    assert ended.error_lines[-2:] == [
        f"go on with --resume {plan_id}",
        "interrupted: what was archived stays; the next run goes on from there",
    ]
    assert (again.code, again.err and "Traceback" not in again.err) == (0, True)
    assert again.out.startswith("4 of 4 shards done, 120 archived; head ") or "adopted" in again.out
    assert 1 <= done < 4
    assert len(place.records) == 120
    assert sim.count("list") == 0


@pytest.fixture(scope="module", autouse=True)
def unreachable(
    tmp_path_factory: pytest.TempPathFactory, terminal_type: type["Terminal"], prefect_server: str
) -> Iterator["Terminal"]:
    """A backfill whose API is down, which Prefect's retries outlast for a minute: started first, waited for last."""
    folder: Path = tmp_path_factory.mktemp("unreachable")
    process = terminal_type(
        folder,
        *("--all-agents",),
        module="flows.backfill",
        settings={
            "FORMANT_API_KEY": "simulated-key",
            # Port 9 is nobody's: a connection to it is refused at once.
            "FORMANT_BASE_URL": "http://127.0.0.1:9",
            "ARCHIVE_URL": str(folder / "archive"),
            "PREFECT_API_URL": prefect_server,
        },
    )
    yield process
    process.stop()


@pytest.mark.timeout(240)
def test_an_api_that_is_down_is_one_line_and_exit_code_3(unreachable: "Terminal") -> None:
    ended = unreachable.wait(200)

    assert (ended.code, ended.out, len(ended.error_lines)) == (3, "", 1), ended.err
    assert ended.err.startswith("failed: ")
    assert "could not be reached" in ended.err
