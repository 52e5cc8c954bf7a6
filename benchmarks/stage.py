"""Where the contenders meet: the simulated API, Prefect's server, an empty folder; each server in its own process.

This process stays small, and imports no Prefect: on Linux the peak memory of a process begins with that of the one that
started it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.measure import Measure
from benchmarks.place import Opened, directory

ROOT = Path(__file__).parents[1]
#: Seconds that Prefect's server may take to start, and a benchmark from the beginning of its stage to the end.
PATIENCE_SERVER, PATIENCE = 90, 900
_OURS = ("ARCHIVE_", "AWS_", "FORMANT_", "PREFECT_")


@dataclass(frozen=True)
class Stage:
    """The simulated API, running, and a folder.

    Attributes:
        folder: Temporary; archives are made and deleted in it.
        environment: What a contender finds in its environment.
        kilobytes: The size of each recording; 0 where nothing is to be archived.
    """

    folder: Path
    environment: dict[str, str]
    kilobytes: int

    def measure(
        self, contender: str, conversations: int, opened: Opened = directory, under: Sequence[str] = ()
    ) -> Measure:
        """Let a contender work on an empty folder, or on another empty place, in a fresh process.

        Args:
            contender: A module of this package.
            conversations: How many it takes.
            opened: Makes the place.
            under: A command that runs the contender's own, and watches it.

        Raises:
            SystemExit: It failed, or its archive does not hold everything.
        """
        contending = ["-m", f"benchmarks.{contender}", str(time.time()), str(conversations)]
        with opened(self.folder) as place, prefect_server(self.folder, self.environment) as url:
            addresses = place.environment | {"PREFECT_API_URL": url}
            said = finish([*under, sys.executable, *contending], self.folder, self.environment | addresses)
            if self.kilobytes:
                self._check(place.sizes(), contender, conversations)
        # What watches it has words of its own.
        measure = next(line for line in reversed(said.splitlines()) if line.startswith("{"))
        return Measure(**json.loads(measure))

    def _check(self, sizes: dict[str, int], contender: str, conversations: int) -> None:
        bodies = sum(name.endswith("/conversation.json") for name in sizes)
        least = self.kilobytes * 1000
        recordings = sum(name.endswith("/recording.wav") and size >= least for name, size in sizes.items())
        if (bodies, recordings) != (conversations, conversations):
            sys.exit(f"{contender}: {bodies} bodies, {recordings} whole recordings, not {conversations} of each")


@contextmanager
def limited(seconds: int = PATIENCE) -> Iterator[None]:
    """Leave by an exception when told to end, or when time is up: whoever started something ends it then."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done in {seconds} seconds"))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def set_up(
    conversations: int, kilobytes: int, latency: int = 0, served_by: str = "api", patience: int = PATIENCE
) -> Iterator[Stage]:
    """Start a simulated API; stop it in the end, also when this process is told to end, or when it took too long."""
    with limited(patience), TemporaryDirectory(prefix="formant-archive-benchmark-") as name:
        folder = Path(name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "FORMANT_API_KEY": "simulated-key",
        }
        command = [sys.executable, "-m", f"benchmarks.{served_by}", str(conversations), str(kilobytes), str(latency)]
        with api(command, environment) as url:
            yield Stage(folder, environment | {"FORMANT_BASE_URL": url}, kilobytes)


@contextmanager
def api(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    """Serve a simulated API; give its address."""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            sys.exit("the simulated API did not start, see above")
        yield url
        # Leaving the block closes its standard input, which ends it; so does the end of this process, however it ends.


@contextmanager
def prefect_server(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run Prefect's server on a new SQLite file; give its address.

    Each contender gets one of its own: after the tutorial a server is busy for half a minute with what it was told.
    """
    shutil.rmtree(environment["PREFECT_HOME"], ignore_errors=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "prefect-server.log"
    with log.open("wb") as output:
        # A session of its own, because the command starts processes of its own.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(f"{url}/health", process, log)
        yield url
    finally:
        stop(process)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until Prefect's server answers.

    Raises:
        SystemExit: It does not; its log is shown.
    """
    deadline = time.monotonic() + PATIENCE_SERVER
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    sys.exit(f"{log.read_text()}\nPrefect's server did not start, see above")


def finish(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command to its end, and end what it started and left; give what it said.

    Raises:
        SystemExit: It failed.
    """
    # A session of its own, so that all of it can be ended when time is up.
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, errors = process.communicate()
        finally:
            stop(process)
    if process.returncode:
        sys.exit(f"{errors}\n{' '.join(command)} ended with exit code {process.returncode}, see above")
    return said


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it started."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(20)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
