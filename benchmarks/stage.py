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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.measure import Measure

ROOT = Path(__file__).parents[1]
#: Seconds that Prefect's server may take to start, and a contender to end.
PATIENCE_SERVER, PATIENCE_CONTENDER = 90, 1800
_OURS = ("ARCHIVE_", "FORMANT_", "PREFECT_")


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

    def measure(self, contender: str, conversations: int) -> Measure:
        """Let a contender work on an empty folder, in a fresh process.

        Raises:
            SystemExit: It failed, or its archive does not hold everything.
        """
        archive = self.folder / "archive"
        with prefect_server(self.folder, self.environment) as url:
            ended = self._run(contender, conversations, {"ARCHIVE_URL": str(archive), "PREFECT_API_URL": url})
        if ended.returncode:
            sys.exit(f"{ended.stderr}\n{contender} ended with exit code {ended.returncode}, see above")
        if self.kilobytes:
            self._check(archive, contender, conversations)
        shutil.rmtree(archive)
        return Measure(**json.loads(ended.stdout.splitlines()[-1]))

    def _run(self, contender: str, conversations: int, addresses: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"benchmarks.{contender}", str(time.time()), str(conversations)],
            cwd=self.folder,
            env=self.environment | addresses,
            capture_output=True,
            text=True,
            timeout=PATIENCE_CONTENDER,
            check=False,
        )

    def _check(self, archive: Path, contender: str, conversations: int) -> None:
        bodies = sum(1 for _ in archive.rglob("conversation.json"))
        recordings = sum(one.stat().st_size >= self.kilobytes * 1000 for one in archive.rglob("recording.wav"))
        if (bodies, recordings) != (conversations, conversations):
            sys.exit(f"{contender}: {bodies} bodies, {recordings} whole recordings, not {conversations} of each")


@contextmanager
def set_up(conversations: int, kilobytes: int, latency: int = 0, served_by: str = "api") -> Iterator[Stage]:
    """Start a simulated API; stop it in the end, also when this process is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with TemporaryDirectory(prefix="formant-archive-benchmark-") as name:
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


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(20)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
