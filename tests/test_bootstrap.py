"""`python -m tools.bootstrap` against a real Prefect server, and its alarms at a real webhook on loopback.

Prefect is not imported at the top of this file: the tests of the flows set its environment first. What the server knows
is read from its API, and what happens there is made to happen through it.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.stage import ROOT, prefect_server
from tests.webhook import PATH, Hook, listening

Json = dict[str, Any]

KEY, NEW_KEY = "bootstrap-key-51c07be34a68", "bootstrap-key-after-rotation"
WORDS = "words of a message"
PREFIXES = ("PREFECT_", "FORMANT_", "ARCHIVE_")
#: Seconds that a server on a busy machine may take for anything here.
PATIENCE = 150.0
#: The least that Prefect takes.
SOON = ("--fresh-minutes", "0.17", "--lost-minutes", "0.17", "--pending-minutes", "0.17")
NAMES = (
    "damaged archive",
    "lost run",
    "no completed run",
    "overdue conversations",
    "run failed",
    "run stuck in Pending",
)
UI = "http://ui.invalid"
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def changes(self) -> dict[str, str]:
        """What was said of each thing."""
        return {thing: change for change, thing in (line.split(maxsplit=1) for line in self.out.splitlines())}

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.changes.values())


class Server:
    """Prefect's server, as its API shows it."""

    def __init__(self, url: str, folder: Path, environment: dict[str, str]) -> None:
        self.url = url
        self.folder = folder
        self._environment = environment
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE)

    def begin(self, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tools.bootstrap", *arguments],
            cwd=self.folder,
            env={**self._environment, "PREFECT_API_URL": self.url, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bootstrap(self, *arguments: str, stdin: str = "", **settings: str) -> Ended:
        return ended(self.begin(*arguments, **settings), stdin)

    def ask(self, path: str, **body: Any) -> Any:
        # On SQLite Prefect answers so where its own services write at the same moment; its client asks again, too.
        while (answer := self.http.post(path, json=body)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            time.sleep(0.5)
        assert answer.is_success, answer.text
        return answer.json()

    @property
    def automations(self) -> dict[str, list[Json]]:
        """All automations by the names that they have among ours."""
        found: dict[str, list[Json]] = {}
        for one in self.ask("/automations/filter"):
            found.setdefault(one["name"].removeprefix("formant-archive: "), []).append(one)
        return found

    @property
    def everything(self) -> Json:
        """All that bootstrap makes; blocks with their secrets, which the API gives to who asks for them."""
        pools = self.ask("/work_pools/filter")
        queues = [self.ask(f"/work_pools/{pool['name']}/queues/filter") for pool in pools]
        blocks = self.ask("/block_documents/filter", include_secrets=True)
        found = {"pools": pools, "queues": queues, "blocks": blocks, "automations": self.automations}
        return {name: without_times(value) for name, value in found.items()}

    def secret(self, block: str, name: str) -> str:
        (found,) = [one for one in self.ask("/block_documents/filter", include_secrets=True) if one["name"] == block]
        return str(found["data"][name])

    def fail_a_run(self, deployment: str) -> Json:
        """Have a run of the deployment fail, with words in its message that are nobody's business.

        It is made as failed: on SQLite Prefect loses an event while its API writes, as it would for a next state.
        """
        flow = self.ask("/flows/", name=deployment)
        body = {"work_pool_name": "formant-archive", "tags": ["formant-archive"]}
        made = self.ask("/deployments/", name=deployment, flow_id=flow["id"], **body)
        run: Json = self.ask(
            f"/deployments/{made['id']}/create_flow_run", state={"type": "FAILED", "name": "Failed", "message": WORDS}
        )
        return run


def ended(process: "subprocess.Popen[str]", stdin: str = "") -> Ended:
    out, err = process.communicate(stdin, timeout=PATIENCE)
    return Ended(process.returncode, out, err)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in ("updated", "last_polled")}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def wait_until(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"not in {PATIENCE:g} s: {what}"
        time.sleep(0.5)


@dataclass(frozen=True)
class Made:
    """A server that was made ready: dry, for the first time, and again; with what it knew after each."""

    server: Server
    hook: Hook
    ends: list[Ended]
    known: list[Json]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("bootstrap")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    environment = {
        **clean,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    # Everything is logged, so that a leak would be seen.
    more = {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG", "PREFECT_UI_URL": UI}
    with listening() as hook, prefect_server(folder, {**environment, **more}) as url:
        server = Server(url, folder, environment)
        secrets = {"FORMANT_API_KEY": KEY, "ARCHIVE_ALARM_URL": hook.url}
        known, ends = [server.everything], []
        for options in ["--dry-run"], [], []:
            ends.append(server.bootstrap(*SOON, *options, **secrets))
            known.append(server.everything)
        yield Made(server, hook, ends, known)


# What it makes


def test_dry_run_says_what_would_be_created_and_changes_nothing(made: Made) -> None:
    dry = made.ends[0]

    assert dry.code == 0, dry.err
    assert dry.counts["created"] == 4 + len(NAMES)
    assert dry.out.endswith("nothing was changed: --dry-run\n")
    assert made.known[0] == made.known[1]


def test_first_run_creates_all_and_says_so_in_a_line_each(made: Made) -> None:
    first, now = made.ends[1], made.known[2]

    assert first.code == 0, first.err
    assert first.err == ""
    assert first.changes == {
        "work pool formant-archive (process)": "created",
        "work queue formant-archive/backfill": "created",
        "Secret block formant-api-key": "created",
        "Webhook block formant-archive-alarm": "created",
        **{f"automation formant-archive: {name}": "created" for name in NAMES},
    }
    assert [(pool["name"], pool["type"]) for pool in now["pools"]] == [("formant-archive", "process")]
    assert now["pools"][0]["base_job_template"]["variables"]
    (queues,) = now["queues"]
    assert {queue["name"]: queue["priority"] for queue in queues} == {"default": 1, "backfill": 2}
    assert {name: len(found) for name, found in now["automations"].items()} == dict.fromkeys(NAMES, 1)


def test_second_run_changes_nothing(made: Made) -> None:
    second = made.ends[2]

    assert second.code == 0, second.err
    assert set(second.changes.values()) == {"unchanged"}
    assert made.known[3] == made.known[2]


@dataclass(frozen=True)
class Altered:
    """What was there was altered by hand, and then put right."""

    before: dict[str, list[Json]]
    after: dict[str, list[Json]]
    end: Ended
    back: Ended


@pytest.fixture(scope="module")
def altered(made: Made) -> Altered:
    """One automation was switched off, one doubled; and another time, a new key and another type of pool were given."""
    server = made.server
    before = server.automations
    lost, damaged = f"/automations/{before['lost run'][0]['id']}", before["damaged archive"][0]
    assert server.http.patch(lost, json={"enabled": False}).is_success
    ours = ("name", "description", "trigger", "actions", "tags")
    server.ask("/automations/", **{name: damaged[name] for name in ours})
    options = ["--lost-minutes", "20", "--pool-type", "docker", "--api-key-stdin"]
    end = server.bootstrap(*SOON[:2], *options, *SOON[4:], stdin=f"{NEW_KEY}\n")
    after = server.automations
    assert server.http.patch(lost, json={"enabled": True}).is_success
    return Altered(before, after, end, server.bootstrap(*SOON))


def test_automation_that_was_changed_is_put_right_in_its_place_and_stays_switched_off(altered: Altered) -> None:
    (was,), (lost,) = altered.before["lost run"], altered.after["lost run"]

    assert altered.end.changes["automation formant-archive: lost run"] == "updated"
    assert (lost["id"], lost["enabled"], lost["trigger"]["within"]) == (was["id"], False, 1200)


def test_second_automation_of_the_same_name_is_removed(altered: Altered) -> None:
    assert altered.end.counts["removed"] == 1
    assert {name: len(found) for name, found in altered.after.items()} == dict.fromkeys(NAMES, 1)


def test_key_from_standard_input_replaces_the_one_that_is_there(made: Made, altered: Altered) -> None:
    assert altered.end.changes["Secret block formant-api-key"] == "updated"
    assert made.server.secret("formant-api-key", "value") == NEW_KEY


def test_what_is_not_given_stays(made: Made, altered: Altered) -> None:
    for end in (altered.end, altered.back):
        assert end.code == 0, end.err
        assert end.changes["Webhook block formant-archive-alarm"] == "unchanged"
        assert end.changes["work pool formant-archive (process)"] == "unchanged"
    assert altered.back.changes["Secret block formant-api-key"] == "unchanged"
    assert made.server.secret("formant-archive-alarm", "url") == made.hook.url
    assert without_times(made.server.http.get("/work_pools/formant-archive").json()) == made.known[2]["pools"][0]


# What is wrong


def test_server_that_does_not_answer_is_one_line_and_exit_code_3(made: Made) -> None:
    end = made.server.bootstrap(PREFECT_API_URL="http://127.0.0.1:9/api")

    assert (end.code, end.out) == (3, "")
    assert end.err == "error: Prefect's server does not answer: is PREFECT_API_URL right, and is it up?\n"


@pytest.mark.parametrize(
    ("options", "settings", "said"),
    [
        ({}, {}, "PREFECT_API_URL is not set"),
        ({}, {"FORMANT_API_KEY": "hush hush"}, "FORMANT_API_KEY is empty or holds a space"),
        ({}, {"ARCHIVE_ALARM_URL": "hooks.invalid/hush"}, "ARCHIVE_ALARM_URL is not an address"),
        ({"api_key_stdin": True}, {}, "no line for FORMANT_API_KEY"),
        ({"pending_minutes": 0.1}, {}, "--pending-minutes must be between"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2_before_anybody_is_asked(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    settings: dict[str, str],
    said: str,
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from formant_archive.cli import exit_code
    from tools.bootstrap.__main__ import main

    for name in ("FORMANT_API_KEY", "ARCHIVE_ALARM_URL"):
        monkeypatch.setenv(name, settings.get(name, ""))
    monkeypatch.setattr("sys.stdin", StringIO())
    # Nobody is there: who asked would come out with 3.
    server = "http://127.0.0.1:9/api" if settings or options else ""
    with temporary_settings({PREFECT_API_URL: server}):
        code = exit_code(lambda: main(**options))

    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    assert len(shown.err.splitlines()) == 1, shown.err
    assert said in shown.err
    assert "hush" not in shown.err


# What the automations do; `tests/stack` has more of it, on PostgreSQL


def test_failed_run_is_told_with_a_link_and_without_its_message(made: Made, altered: Altered) -> None:
    failed = list[tuple[str, Json]]()
    for flow in ("audit-archive", "archive-conversations", "backfill-agents"):
        # More than one: on SQLite Prefect's services lock each other out, and an automation can miss an event.
        failed.append((flow, made.server.fail_a_run(flow)))
        deadline = time.monotonic() + PATIENCE / 2
        while not (told := [one for one in failed if made.hook.heard(one[1]["name"])]) and time.monotonic() < deadline:
            time.sleep(0.5)
        if told:
            break

    assert told, "no alarm has arrived"
    [(flow, run), *_] = told
    (text,) = made.hook.heard(run["name"])
    assert text == f"formant-archive: {run['name']} of {flow} is Failed {UI}/runs/flow-run/{run['id']}"


def test_no_completed_run_is_told(made: Made, altered: Altered) -> None:
    wait_until(lambda: made.hook.heard("no run of archive has completed for"), "the alarm arrives")


def test_what_is_secret_is_neither_in_the_database_nor_in_a_log_nor_told(made: Made, altered: Altered) -> None:
    wait_until(lambda: made.hook.texts, "an alarm arrives")
    files = [path for path in made.server.folder.rglob("*prefect*") if path.is_file()]
    written = {path.name: path.read_bytes() for path in files}
    said = "".join([*made.hook.texts, *(end.out + end.err for end in [*made.ends, altered.end, altered.back])])

    # What must be there shows that there was something to look through.
    assert any(b"formant-archive: run failed" in body for body in written.values())
    secrets = (KEY, NEW_KEY, PATH)
    assert [name for name, body in written.items() if any(secret.encode() in body for secret in secrets)] == []
    assert not any(secret in said for secret in (*secrets, WORDS))


# What they are made of


def test_automations_watch_what_prefect_yaml_deploys() -> None:
    from prefect.flows import load_flow_from_entrypoint

    from tools.bootstrap import watches

    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = {one["name"]: load_flow_from_entrypoint(one["entrypoint"]).name for one in deployments}
    assert all(watches.TAG in one["tags"] for one in deployments)
    assert flows[watches.FRESH["deployment"]] == watches.FRESH["flow"]
    assert {*watches.TOLD, "archive-shard"} == set(flows.values())


def test_place_is_given_away_no_sooner_than_a_run_is_called_stuck() -> None:
    from tools.bootstrap.__main__ import main

    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    limits = [one["concurrency_limit"] for one in deployments if "concurrency_limit" in one]
    minutes = signature(main).parameters["pending_minutes"].default

    assert limits
    assert {limit["grace_period_seconds"] for limit in limits} == {timedelta(minutes=minutes).total_seconds()}
