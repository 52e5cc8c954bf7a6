"""`python -m flows.archive` as a person starts it: what is printed where, and how it exits.

Most runs here use the tests' own Prefect server; those that bring a temporary one of their own say so.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from benchmarks.stage import free_port
from formant_archive.simulator import Simulator

if TYPE_CHECKING:
    from tests.flows.conftest import Ended, Outage, Place, Terminal

pytestmark = pytest.mark.prefect

Start = Callable[..., "Terminal"]
PROGRESS = re.compile(r"[\d,]+ of [\d,]+ listed, [\d,]+ archived, [\d,]+ pending")


@pytest.fixture
def start(place: "Place", terminal_type: type["Terminal"]) -> Iterator[Start]:
    """Start the command in the place's folder; the environment's settings by their names."""
    started = []

    def begin(*arguments: str, **settings: str) -> "Terminal":
        started.append(terminal_type(place.folder, *arguments, settings=settings))
        return started[-1]

    yield begin
    for terminal in started:
        terminal.stop()


@contextmanager
def serving(sim: Simulator, place: "Place") -> Iterator[dict[str, str]]:
    with sim.serve() as url:
        yield {"FORMANT_API_KEY": "simulated-key", "FORMANT_BASE_URL": url, "ARCHIVE_URL": str(place.archive)}


def assert_one_line(ended: "Ended", code: int) -> None:
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert len(ended.error_lines) == 1, ended.err
    assert "Traceback" not in ended.err


def assert_started_no_server(terminal: "Terminal") -> None:
    assert not list(terminal.home.glob("*.db*"))


# What is wrong before anything starts


def test_missing_setting_is_one_line_with_its_name_and_exit_code_2(start: Start) -> None:
    terminal = start(FORMANT_API_KEY="simulated-key")
    ended = terminal.wait()

    assert_one_line(ended, 2)
    assert ended.err.startswith("error: ARCHIVE_URL is not set")
    assert_started_no_server(terminal)


def test_a_prefect_server_that_does_not_answer_is_one_line_and_exit_code_3(start: Start, place: "Place") -> None:
    nobody = f"http://127.0.0.1:{free_port()}/api"
    terminal = start(FORMANT_API_KEY="simulated-key", ARCHIVE_URL=str(place.archive), PREFECT_API_URL=nobody)
    ended = terminal.wait()

    assert_one_line(ended, 3)
    assert "PREFECT_API_URL" in ended.err
    assert not place.archive.exists()


def test_missing_api_key_is_one_line_with_its_name_and_exit_code_2(start: Start, place: "Place") -> None:
    terminal = start(ARCHIVE_URL=str(place.archive))
    ended = terminal.wait()

    assert_one_line(ended, 2)
    assert "FORMANT_API_KEY is not set" in ended.err
    assert_started_no_server(terminal)


@pytest.mark.parametrize("arguments", [("--no-such-option",), ("--agent-id", "many"), ("--since", "yesterday-ish")])
def test_wrong_argument_is_one_line_and_exit_code_2(start: Start, arguments: tuple[str, ...]) -> None:
    terminal = start(*arguments)

    assert_one_line(terminal.wait(), 2)
    assert_started_no_server(terminal)


def test_help_says_what_it_does_and_what_the_exit_codes_mean(start: Start) -> None:
    terminal = start("--help")
    ended = terminal.wait()

    assert ended.code == 0
    assert ended.err == ""
    assert "Archive every completed conversation that is not in the archive yet." in ended.out
    assert all(option in ended.out for option in ("--agent-id", "--since", "--full", "Exit codes: 0 well"))
    assert_started_no_server(terminal)


# Runs


def test_run_prints_plain_progress_on_stderr_and_one_line_on_stdout(start: Start, place: "Place") -> None:
    """This one starts a temporary server of its own, as on a machine without Prefect's settings."""
    sim = Simulator(conversations=120, late_recordings=0.1, audio_seconds=(0.1, 0.4))
    with serving(sim, place) as settings:
        terminal = start(**settings)
        ended = terminal.wait()

    assert ended.code == 0
    counts = r"120 listed, \d+ archived, 0 already settled, \d+ other status, \d+ pending"
    assert re.fullmatch(counts + r"; head 1:[0-9a-f]{64}\n", ended.out)
    assert ended.error_lines
    assert all(PROGRESS.fullmatch(line) for line in ended.error_lines), ended.err
    assert len(place.records) + len(place.pending) == 84


def test_wrong_key_is_one_line_and_exit_code_2(start: Start, place: "Place", prefect_server: str) -> None:
    with serving(Simulator(conversations=3), place) as settings:
        ended = start(**{**settings, "FORMANT_API_KEY": "not-the-key", "PREFECT_API_URL": prefect_server}).wait()

    assert_one_line(ended, 2)
    assert ended.err.startswith("failed: ")
    assert "FORMANT_API_KEY" in ended.err
    assert place.files == {}


def test_failed_conversations_exit_with_code_1(start: Start, place: "Place", prefect_server: str) -> None:
    sim = Simulator(conversations=3, completed=1, audio_seconds=(0.1, 0.4))
    sim.fault(kind="conversation", body=b"<html>", content_type="text/html")
    with serving(sim, place) as settings:
        ended = start(**settings, PREFECT_API_URL=prefect_server).wait()

    assert ended.code == 1
    assert ended.out == ""
    assert ended.error_lines[-1].startswith("failed: 3 listed, 2 archived")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("whole_group", [True, False], ids=["as Ctrl-C does", "to the process alone"])
def test_interrupt_exits_with_130_and_leaves_no_process_and_no_damage(
    start: Start, place: "Place", whole_group: bool
) -> None:
    """These start temporary servers of their own: what must not be left behind."""
    sim = Simulator(conversations=150, completed=1, audio_seconds=(0.1, 0.4))
    sim.fault(kind="recording", share=1.0, delay=0.2)
    with serving(sim, place) as settings:
        terminal = start(**settings)
        wait_until(lambda: sim.count("recording") > 20)
        family = [terminal.pid, *descendants(terminal.pid)]
        (os.killpg if whole_group else os.kill)(terminal.pid, signal.SIGINT)
        ended = terminal.wait()
        wait_until(lambda: not running(family), seconds=10)
        left = running(family)
        for pid in left:
            os.kill(pid, signal.SIGKILL)

    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert ended.error_lines[-1].startswith("interrupted:")
    assert len(family) > 1
    assert left == []
    sim.heal()
    with place.serving(sim):
        assert place.run().is_completed()
    assert len(place.records) == 150


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.1)


def processes() -> dict[int, int]:
    """Every process that runs, and its parent."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {int(pid): int(parent) for pid, parent, status in rows if not status.startswith("Z")}


def descendants(pid: int) -> list[int]:
    children = [child for child, parent in processes().items() if parent == pid]
    return [*children, *(deeper for child in children for deeper in descendants(child))]


def running(pids: list[int]) -> list[int]:
    alive = processes()
    return [pid for pid in pids if pid in alive]


# A server whose answer gets lost


class Forgetful(BaseHTTPRequestHandler):
    """Passes everything on to Prefect's server; the answer to a run's first end in a state gets lost on the way back.

    Attributes:
        server_url: Prefect's server, without its path.
        lost: The answers that got lost, as Prefect's server gave them.
        end: The state.
    """

    protocol_version = "HTTP/1.1"
    server_url: str
    end: StateType
    lost: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length")}
        answer = httpx.request(self.command, self.server_url + self.path, headers=kept, content=body, timeout=60)
        code, content = answer.status_code, answer.content
        is_end = self.path.endswith("/set_state") and json.loads(body)["state"]["type"] == self.end.value
        if is_end and len(self.lost) < 2:
            self.lost.append(answer.json())
            code = 503 if len(self.lost) == 1 else code
        self.send_response(code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PATCH = do_POST  # noqa: N815  # the server's own names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def forgetting(server: str, end: StateType) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Put a forgetful way to Prefect's server on a port; give its API's address and the answers that got lost."""
    lost: list[dict[str, Any]] = []
    attributes = {"server_url": server.removesuffix("/api"), "end": end, "lost": lost}
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), type("Way", (Forgetful,), attributes))
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{proxy.server_port}/api", lost
    proxy.shutdown()
    proxy.server_close()
    thread.join()


@pytest.mark.parametrize(("end", "code"), [(StateType.COMPLETED, 0), (StateType.FAILED, 1)])
def test_run_whose_end_prefect_confirms_only_the_second_time_exits_as_it_ended(
    start: Start, place: "Place", prefect_server: str, end: StateType, code: int
) -> None:
    sim = Simulator(conversations=3, completed=1, audio_seconds=(0.1, 0.4))
    if code:
        sim.fault(kind="conversation", body=b"<html>", content_type="text/html")
    with serving(sim, place) as settings, forgetting(prefect_server, end) as (url, lost):
        ended = start(**settings, PREFECT_API_URL=url).wait()

    assert [answer["status"] for answer in lost] == ["ACCEPT", "REJECT"]
    assert ended.code == code, ended.err
    assert ("3 listed" in ended.out) == (code == 0)
    assert ended.err.count("failed: 3 listed") == code


# Outages, which Prefect's retries outlast for a minute or two


@pytest.mark.timeout(240)
def test_unreachable_api_exits_with_code_3_and_writes_nothing(outages: dict[str, "Outage"]) -> None:
    outage = outages["unreachable"]
    ended = outage.terminal.wait(200)

    assert_one_line(ended, 3)
    assert ended.err.startswith("failed: ")
    assert "could not be reached" in ended.err
    assert outage.place.files == {}
    assert "could not be reached" in " ".join(run.state.message or "" for run in failed_runs() if run.state)


@pytest.mark.timeout(240)
def test_page_whose_tasks_die_leaves_its_conversations_pending_and_failed(outages: dict[str, "Outage"]) -> None:
    outage = outages["no_payloads"]
    ended = outage.terminal.wait(200)

    assert ended.code == 1
    assert ended.error_lines[-1].startswith("failed: 4 listed, 0 archived")
    assert "Traceback" not in ended.err
    assert outage.place.records == {}
    assert [(line["reason"], line["failed"]) for line in outage.place.pending.values()] == [("unavailable", True)] * 4
    assert outage.place.manifests[-1]["counts"]["failed"] == 4


def failed_runs() -> list[FlowRun]:
    failed = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.FAILED]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=failed))
