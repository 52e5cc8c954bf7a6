"""Real parts, end to end: Prefect's server on PostgreSQL, process workers, an S3 server (moto's emulator), the API.

Set up as `deployments/README.md` has it: `python -m tools.bootstrap`, `prefect deploy --all`. One stack for all, an
archive and two workers of its own for each test. What takes its time, that a run is called lost, goes on beside them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from formant_archive.simulator import SPOKEN, Conversation, Simulator
from tests.stack import postgres, server
from tests.stack.api import simulator
from tests.stack.postgres import Postgres
from tests.stack.processes import PATIENCE, Partner, Processes, environment_of, stop, wait_until
from tests.stack.server import Json, Prefect
from tests.torture.auditor import audit
from tests.torture.siege import ROOT
from tests.webhook import PATH, Hook, listening

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "stack-key-9f2d51c07be34a68"
BUCKET = "stack"
POOL = "formant-archive"
WORKERS = ("worker-1", "worker-2")
AGENTS = (101, 102, 103)
CALLS: Json = {"seed": 7, "conversations": 320, "agents": AGENTS, "completed": 0.85, "audio_seconds": (0.1, 0.6)}
AWS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_REGION": "us-east-1"}
#: Minutes without a sign of life after which a shard is given to another.
PATIENCE_MINUTES = 0.75
#: Prefect's workers ask for work every ten seconds: here there is little time.
QUICK = {"PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
#: Minutes: more than a worker here needs to begin a run, and than three heartbeats.
WATCHES = ("--fresh-minutes", "1", "--lost-minutes", "2", "--pending-minutes", "1.5")
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_LOGGING_LEVEL": "DEBUG"}

pytestmark = pytest.mark.timeout(600)


@dataclass
class Stack:
    """Everything that runs for all tests.

    Attributes:
        truth: The same conversations as the simulated API has, in this process.
        hook: Who is told by Prefect's automations.
        deployed: The deployments after `prefect deploy --all`, once and twice.
        troubled: Runs that no worker is at, by their trouble; and those behind them, which have found no place.
    """

    processes: Processes
    database: Postgres
    prefect: Prefect
    api: Partner
    s3: "S3Client"
    truth: Simulator
    hook: Hook
    deployed: list[list[Json]] = field(default_factory=list)
    troubled: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def archive(self, name: str) -> Iterator["Archive"]:
        """Begin an archive, and two workers that fill it."""
        archive = Archive(self, name)
        for worker in WORKERS:
            archive.start_worker(worker)
        try:
            yield archive
        finally:
            self.api.tell()
            for process in ("backfill", *WORKERS):
                self.processes.kill(f"{name}-{process}")


@dataclass
class Archive:
    """An archive in the bucket, and what works on it."""

    stack: Stack
    name: str

    @property
    def settings(self) -> dict[str, str]:
        return {"ARCHIVE_URL": f"s3://{BUCKET}/{self.name}", "ARCHIVE_HOME": str(ROOT), **QUICK}

    def start_worker(self, worker: str) -> None:
        command = ["prefect", "worker", "start", "--pool", POOL, "--limit", "2", "--name", f"{self.name}-{worker}"]
        settings = {**self.settings, "PYTHONPATH": ""}
        # In `/`, and without a path to the checkout: ARCHIVE_HOME alone says where it is.
        self.stack.processes.python(f"{self.name}-{worker}", *command, cwd=Path("/"), more=settings)

    def backfill(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a backfill on the workers."""
        how = ["--on", "workers", "--patience-minutes", str(PATIENCE_MINUTES)]
        return self.stack.processes.python(
            f"{self.name}-backfill", "flows.backfill", *how, *arguments, more=self.settings
        )

    @property
    def said(self) -> str:
        return self.stack.processes.logs[f"{self.name}-backfill.log"]

    def keys(self, folder: str = "") -> list[str]:
        prefix = f"{self.name}/"
        pages = self.stack.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix + folder)
        return [found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", [])]

    def read(self, folder: str = "") -> dict[str, bytes]:
        """Give the objects of a folder, by key."""
        get = self.stack.s3.get_object
        return {key: get(Bucket=BUCKET, Key=f"{self.name}/{key}")["Body"].read() for key in self.keys(folder)}

    @property
    def manifests(self) -> list[Json]:
        return [json.loads(body) for key, body in sorted(self.read("manifests/0").items())]

    @property
    def done(self) -> set[int]:
        """The numbers of the shards that have committed a manifest."""
        return {one["run"]["parameters"]["number"] for one in self.manifests if one["kind"] == "backfill"}

    @property
    def plan(self) -> str:
        (plan,) = {key.split("/")[1] for key in self.keys("plans/")}
        return plan

    @property
    def shard_runs(self) -> list[Json]:
        """What Prefect knows of this archive's shards."""
        runs = self.stack.prefect.runs("archive-shard")
        return [run for run in runs if run["parameters"].get("plan_id") == self.plan]

    def runs_of(self, worker: str) -> set[str]:
        """Name the flow runs that are under way on a worker."""
        found = (environment_of(pid) for pid in self.stack.processes.of(f"{self.name}-{worker}"))
        return {one["PREFECT__FLOW_RUN_ID"] for one in found if "PREFECT__FLOW_RUN_ID" in one}

    def has_unsealed(self) -> bool:
        names = Counter(key.rpartition("/")[2] for key in self.keys("conversations/"))
        return names["conversation.json"] > names["record.json"]

    def wait_for_shards(self, count: int) -> None:
        wait_until(lambda: len(self.done) >= count, f"{count} shards of {self.name}:\n{self.said}")

    def assert_is_whole(self, wanted: list[Conversation]) -> None:
        """Every completed conversation once, byte for byte as it is served, and named by the manifests."""
        objects = {key: body for key, body in self.read().items() if not key.startswith("plans/")}
        assert audit(objects, wanted, is_settled=False) == []
        records = [json.loads(body) for key, body in objects.items() if key.endswith("/record.json")]
        completed = [one.conversation_id for one in wanted if one.status == "completed"]
        assert sorted(record["conversation_id"] for record in records) == sorted(completed)
        self.verify()

    def verify(self) -> None:
        name = f"{self.name}-verify"
        command = [str(Path(sys.executable).with_name("formant-archive")), "verify", "--deep", "--json"]
        assert self.stack.processes.start(name, *command, more=self.settings).wait(PATIENCE) == 0
        *findings, report = map(json.loads, self.stack.processes.logs[f"{name}.log"].splitlines())
        assert report["verdict"] == "VALID"
        assert [one for one in findings if one["code"] == "X001"] == []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    binaries = postgres.binaries()
    if binaries is None:
        say = pytest.fail if "CI" in os.environ else pytest.skip
        say("no PostgreSQL on this machine (Debian: apt-get install postgresql): the stack test cannot run")
    folder = tmp_path_factory.mktemp("stack")
    processes = Processes(folder, {**AWS, **QUIET, "PREFECT_HOME": str(folder / "home")})
    try:
        with ExitStack() as parts:
            database = parts.enter_context(postgres.serving(binaries, processes))
            prefect = parts.enter_context(server.serving(processes, database.url))
            calls = {**CALLS, "now": time.time_ns() // 1_000_000, "api_key": KEY}
            api = processes.partner("api", "tests.stack.api", json.dumps(calls))
            parts.callback(api.end)
            s3 = processes.partner("s3", "benchmarks.s3")
            parts.callback(s3.end)
            processes.environment |= {
                "PREFECT_API_URL": prefect.url,
                "FORMANT_BASE_URL": api.address,
                "AWS_ENDPOINT_URL_S3": s3.address,
            }
            hook = parts.enter_context(listening())
            stack = Stack(processes, database, prefect, api, client_of(s3.address), simulator(**calls), hook)
            stack.s3.create_bucket(Bucket=BUCKET)
            deploy(stack)
            trouble(stack)
            yield stack
        assert processes.of() == []
    finally:
        processes.end()


def client_of(endpoint: str) -> "S3Client":
    session = boto3.session.Session("test-key", "test-secret", region_name="us-east-1")
    return session.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))


def deploy(stack: Stack) -> None:
    """Set everything up as `deployments/README.md` has it: the pool, the key, the watches, the deployments; twice."""
    secrets = {"FORMANT_API_KEY": KEY, "ARCHIVE_ALARM_URL": stack.hook.url}
    for _ in range(2):
        stack.processes.run("bootstrap", "tools.bootstrap", *WATCHES, more=secrets)
        stack.processes.run("deploy", "prefect", "--no-prompt", "deploy", "--all", cwd=ROOT)
        stack.deployed.append(stack.prefect.deployments())
    stack.prefect.pause_schedules()


def trouble(stack: Stack) -> None:
    """Leave runs as workers leave them that die: one that has not begun yet, and one that gave a heartbeat.

    And say what the flows say of an archive that is not as it should be.
    """
    prefect, archive = stack.prefect, {"prefect.resource.id": "formant-archive.archive.troubled"}
    stack.troubled["stuck"] = prefect.begin_run("audit-nightly", "PENDING")
    stack.troubled["lost"] = lost = prefect.begin_run("audit-weekly", "PENDING", "RUNNING")
    stack.troubled["behind stuck"] = prefect.begin_run("audit-nightly", "PENDING")
    stack.troubled["behind lost"] = prefect.begin_run("audit-weekly", "PENDING")
    ours = {"prefect.resource.id": "prefect.tag.formant-archive", "prefect.resource.role": "tag"}
    prefect.emit("prefect.flow-run.heartbeat", {"prefect.resource.id": f"prefect.flow-run.{lost}"}, related=[ours])
    prefect.emit("formant-archive.overdue", archive, payload={"overdue": 7})
    prefect.emit("formant-archive.overdue", archive, payload={"overdue": 8})
    prefect.emit("formant-archive.damage", archive, payload={"damage": 3})


def without_times(value: Any) -> Any:
    """Leave out when something was touched last."""
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in ("updated", "last_polled")}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def state(run: Json) -> str:
    return str(run["state_type"])


def test_setting_up_twice_changes_nothing(stack: Stack) -> None:
    first, second = map(without_times, stack.deployed)
    lines = stack.processes.logs["bootstrap.log"].splitlines()
    # Prefect itself says what it does, at the level of these tests.
    said = [line.partition(" ")[0] for line in lines if " | " not in line]

    assert first == second
    assert {"archive", "archive-full-weekly", "backfill", "archive-shard"} <= {one["name"] for one in first}
    assert said == ["created"] * 10 + ["unchanged"] * 10


def test_killed_worker_costs_nothing_and_the_schedule_is_not_starved(stack: Stack) -> None:
    with stack.archive("killed") as archive:
        backfill = archive.backfill("--all-agents", "--shard-size", "40", "--max-parallel", "4")
        archive.wait_for_shards(1)
        lost = kill_worker_in_the_middle(archive)
        since = datetime.now(UTC) - timedelta(hours=2)
        with stack.prefect.scheduled_once("archive", {"since": since.isoformat()}):
            wait_until(lambda: scheduled(stack.prefect), "a scheduled run completes beside the backfill")
            assert backfill.poll() is None
        assert backfill.wait(2 * PATIENCE) == 0, archive.said
        total = len([key for key in archive.keys("plans/") if "plan.json" not in key])

        assert archive.done == set(range(1, total + 1))
        archive.assert_is_whole(stack.truth.conversations)
        runs = archive.shard_runs
        assert all(run["parameters"].keys() == {"plan_id", "number"} for run in runs)
        assert {number for number in lost if sum(run["parameters"]["number"] == number for run in runs) < 2} == set()
        assert {state(run) for run in runs} == {"COMPLETED", "CRASHED"}
        (by_the_clock,) = [one for one in archive.manifests if one["kind"] == "run"]
        assert by_the_clock["run"]["parameters"]["since"]
        assert by_the_clock["counts"]["outside"]
        assert_scheduled_run_says_what_it_did(stack, by_the_clock)


def assert_scheduled_run_says_what_it_did(stack: Stack, manifest: Json) -> None:
    """Its final state, artifacts and events, as Prefect's API gives them, against the manifest in the bucket."""
    counts, run = manifest["counts"], next(run for run in stack.prefect.runs("archive") if is_scheduled(run))
    table, markdown = stack.prefect.artifact("archive-pending"), stack.prefect.artifact("archive-run")
    sums = f"{counts['listed']} listed, {counts['archived'] + counts['archived_without_recording']} archived"
    assert table is not None
    assert markdown is not None
    assert sums in run["state"]["message"]
    assert {table["flow_run_id"], markdown["flow_run_id"]} == {run["id"]}
    assert str(counts["listed"]) in markdown["data"]
    ids = {one.conversation_id for one in stack.truth.conversations}
    assert {row["conversation"] for row in json.loads(table["data"])} <= ids
    # By its heartbeats a long run can be told from a lost one.
    events = stack.prefect.events_of(run["id"], "formant-archive.run", "prefect.flow-run.heartbeat")
    assert {one["event"]: one["resource"]["prefect.resource.id"] for one in events} == {
        "formant-archive.run": f"formant-archive.archive.{manifest['archive_id']}",
        "prefect.flow-run.heartbeat": f"prefect.flow-run.{run['id']}",
    }


def kill_worker_in_the_middle(archive: Archive) -> set[int]:
    """Kill a worker while it is at a shard, and say which shards were lost with it."""
    archive.stack.api.tell(delay=4)
    slow = datetime.now(UTC)
    victims: set[str] = set()

    def is_in_the_middle() -> bool:
        victims.clear()
        victims.update(archive.runs_of(WORKERS[0]))
        began = (run["start_time"] for run in archive.shard_runs if run["id"] in victims and state(run) == "RUNNING")
        # Its recordings take eight seconds, and the first of its transcripts are there.
        return any(datetime.fromisoformat(time) > slow for time in began) and archive.has_unsealed()

    wait_until(is_in_the_middle, "the worker is at a shard")
    archive.stack.processes.kill(f"{archive.name}-{WORKERS[0]}")
    archive.stack.api.tell()
    lost = {run["parameters"]["number"] for run in archive.shard_runs if run["id"] in victims} - archive.done
    assert lost
    return lost


def scheduled(prefect: Prefect) -> bool:
    return any(is_scheduled(run) for run in prefect.runs("archive"))


def is_scheduled(run: Json) -> bool:
    """Whether a run was begun by the clock, and has completed."""
    return bool(run["auto_scheduled"]) and state(run) == "COMPLETED"


def test_backfill_that_is_told_to_stop_cancels_its_shards_and_is_resumed(stack: Stack) -> None:
    with stack.archive("stopped") as archive:
        # More than the workers take at once: some of them are not begun.
        backfill = archive.backfill("--agent-id", "101", "--shard-size", "16", "--max-parallel", "6")
        archive.wait_for_shards(1)
        stack.api.tell(delay=4)
        wait_until(lambda: any(state(run) == "RUNNING" for run in archive.shard_runs), "a shard is under way")
        assert stop(backfill) == 128 + signal.SIGTERM
        opened = [run["id"] for run in archive.shard_runs if state(run) not in ("COMPLETED", "CRASHED", "FAILED")]
        stack.api.tell()
        final = {"COMPLETED", "CRASHED", "CANCELLED"}
        wait_until(lambda: {state(run) for run in archive.shard_runs} <= final, "its shards are over")

        cancelled = {run["id"] for run in archive.shard_runs if state(run) == "CANCELLED"}
        assert opened
        assert cancelled
        done = archive.done
        assert archive.backfill("--resume", archive.plan).wait(PATIENCE) == 0, archive.said
        assert archive.done > done
        archive.assert_is_whole([one for one in stack.truth.conversations if one.agent_id == 101])


def test_nothing_is_lost_when_prefects_server_is_restarted(stack: Stack) -> None:
    with stack.archive("restarted") as archive:
        backfill = archive.backfill("--agent-id", "102", "--shard-size", "20", "--max-parallel", "4")
        archive.wait_for_shards(1)
        stack.prefect.stop()
        stack.prefect.start()
        if backfill.wait(2 * PATIENCE):
            assert archive.backfill("--resume", archive.plan).wait(2 * PATIENCE) == 0, archive.said

        archive.assert_is_whole([one for one in stack.truth.conversations if one.agent_id == 102])


TOLD = ["no run of archive has completed for 1 minute", "pending for longer than the grace", "damage in 3 places"]


@pytest.mark.parametrize("words", TOLD)
def test_what_is_to_be_told_is_told(stack: Stack, words: str) -> None:
    wait_until(partial(stack.hook.heard, words), "it is told")

    # The first of them is said again and again.
    assert words == TOLD[0] or len(stack.hook.heard(words)) == 1


@pytest.mark.parametrize(("trouble", "deployment"), [("stuck", "audit-nightly"), ("lost", "audit-weekly")])
def test_run_that_nobody_is_at_is_ended_gives_its_place_away_and_is_told(
    stack: Stack, trouble: str, deployment: str
) -> None:
    prefect = stack.prefect
    wait_until(lambda: prefect.state(stack.troubled[trouble]) == "CRASHED", "the run is ended", 2 * PATIENCE)

    assert prefect.state(stack.troubled[f"behind {trouble}"]) == "CANCELLED"
    assert prefect.state(prefect.begin_run(deployment, "PENDING")) == "PENDING"
    wait_until(partial(stack.hook.heard, f"of {deployment} is Crashed"), "it is told")


def test_key_numbers_and_words_are_in_no_database_and_no_log(stack: Stack) -> None:
    numbers = [one.contact_number.removeprefix("+") for one in stack.truth.conversations]
    places = {"the database": stack.database.dump(), **stack.processes.logs}
    found = partial(leaks, [KEY, PATH, SPOKEN, *numbers])

    # What must be there shows that there was something to look through.
    assert "archive-shard" in places["the database"]
    assert {name: found(text) for name, text in places.items() if found(text)} == {}


def leaks(secrets: list[str], text: str) -> list[str]:
    return [secret for secret in secrets if secret in text]
