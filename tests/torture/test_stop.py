"""`python -m flows.archive` that is told to stop in the middle of its downloads, with a temporary server of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from formant_archive.simulator import Simulator
from tests.torture.auditor import audit, files_of
from tests.torture.siege import PREFIXES, ROOT

#: Seconds that a download is stuck for, and in which a process that does not wait for it has surely ended.
STUCK, SECONDS = 600, 60
CODES = {signal.SIGTERM: (143, "stopped:"), signal.SIGINT: (130, "interrupted:")}
#: What a Prefect worker runs: the flow itself, without the command around it.
FLOW_ALONE = "from flows.archive import archive_conversations; archive_conversations()"

pytestmark = pytest.mark.timeout(180)
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def sim() -> Simulator:
    return Simulator(conversations=150, completed=1, spread_hours=4, audio_seconds=(0.1, 0.4))


@pytest.fixture
def start(tmp_path: Path, sim: Simulator) -> Iterator[Start]:
    """Start a process in a session of its own; what is left of the session afterwards is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *(command or ("-m", "flows.archive"))],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    with sim.serve() as url:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)},
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",
            "DO_NOT_TRACK": "1",
            "FORMANT_API_KEY": "simulated-key",
            "FORMANT_BASE_URL": url,
            "ARCHIVE_URL": str(tmp_path / "archive"),
            "ARCHIVE_PROBE_MINUTES": "0",
        }
        yield begin
        for process in started:
            for pid in session_of(process):
                os.kill(pid, signal.SIGKILL)
            process.communicate()


def session_of(process: subprocess.Popen[str]) -> list[int]:
    """Name what runs of a process's session: itself and all that it started, also where it has ended itself."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, _, session = rest.rpartition(") ")[2].split()[:4]
        if int(session) == process.pid and state != "Z":
            found.append(int(pid))
    return found


def has_server(process: subprocess.Popen[str]) -> bool:
    """Whether a process has begun to start a server: an import starts processes, too, for an instant."""
    found = [Path(f"/proc/{pid}/cmdline") for pid in session_of(process) if pid != process.pid]
    with suppress(FileNotFoundError, ProcessLookupError):
        return any(b"prefect.server" in path.read_bytes() for path in found)
    return False


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_ended(process: subprocess.Popen[str], number: signal.Signals) -> None:
    out, err = process.communicate(timeout=SECONDS)
    code, word = CODES[number]

    assert session_of(process) == []
    assert process.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert [line.split()[0] for line in err.splitlines() if "archived," not in line] == [word]


def start_and_get_stuck(start: Start, sim: Simulator) -> subprocess.Popen[str]:
    """Start a run, and wait until half of its downloads are stuck for longer than anybody would wait."""
    sim.fault(kind="recording", share=0.5, delay=STUCK)
    process = start()
    wait_until(lambda: sim.count("recording") > 20)
    assert len(session_of(process)) > 1, "it has no server of its own"
    return process


def test_signal_ends_a_run_in_seconds_and_the_next_one_adopts_what_it_left(
    start: Start, sim: Simulator, tmp_path: Path
) -> None:
    process = start_and_get_stuck(start, sim)
    process.send_signal(signal.SIGTERM)

    assert_ended(process, signal.SIGTERM)
    left = files_of(tmp_path / "archive")
    assert any(key.endswith(".wav") for key in left)
    assert audit(left, sim.conversations, is_settled=False) == []
    sim.heal()
    following = start()
    assert following.wait(90) == 0
    archived = files_of(tmp_path / "archive")
    assert archived.items() >= left.items()
    assert audit(archived, sim.conversations, is_settled=True) == []


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_second_and_third_signal_change_nothing(start: Start, sim: Simulator, number: signal.Signals) -> None:
    process = start_and_get_stuck(start, sim)
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.3)

    assert_ended(process, number)


def test_signal_ends_a_run_whose_server_is_still_starting(start: Start) -> None:
    process = start()
    wait_until(lambda: has_server(process))
    process.send_signal(signal.SIGTERM)

    assert_ended(process, signal.SIGTERM)


def test_signal_in_a_deployment_calls_off_what_waits_for_a_thread(start: Start, sim: Simulator) -> None:
    sim.fault(kind="recording", share=1.0, delay=5)
    process = start("-c", FLOW_ALONE)
    wait_until(lambda: sim.count("recording") > 8)
    asked = sim.count("recording")
    process.send_signal(signal.SIGTERM)
    # It has left its temporary server behind, which a worker's runs have not: only the process itself is waited for.
    process.wait(120)

    assert sim.count("recording") <= asked + 16
