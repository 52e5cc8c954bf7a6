"""Prefect for the tests of the flows: one server for all of them, a home of its own, nothing of the user's.

What is set here is set before Prefect is imported, which reads the environment, `.env` and its profile once: so no test
outside this folder may import Prefect at the top of its file.
"""

import gzip
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from formant_archive.simulator import Simulator

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

ROOT = Path(__file__).resolve().parents[2]
HOME = tempfile.TemporaryDirectory(prefix="formant-archive-prefect-", ignore_cleanup_errors=True)
PREFIXES = ("PREFECT_", "FORMANT_", "ARCHIVE_")
PREFECT = {
    "PREFECT_HOME": HOME.name,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Everything is logged, so that a leak would be seen, and nothing of it is shown.
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
#: A temporary server has 20 s to start by default: on a busy machine it needs more.
PATIENT = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60", "DO_NOT_TRACK": "1"}
for name in [name for name in os.environ if name.startswith(PREFIXES)]:
    del os.environ[name]
os.environ.update(PREFECT, DO_NOT_TRACK="1")
# The first import, away from any `.env`.
with chdir(HOME.name):
    import prefect.testing.utilities


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "prefect: needs Prefect's server, which takes seconds to start")


class Lines(logging.Handler):
    """Keeps every line that was logged, with its stack trace."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


class Place:
    """A simulated API, an archive of its own, and the flow between them; read here without the project's own code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "archive"

    @contextmanager
    def serving(self, sim: Simulator, **settings: str) -> Iterator[Simulator]:
        """Put the simulator on a port, and set the environment as a user would; settings by their names."""
        given = {"FORMANT_API_KEY": "simulated-key", "ARCHIVE_URL": str(self.archive), "ARCHIVE_PROBE_MINUTES": "0"}
        with sim.serve() as url, pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in {**given, "FORMANT_BASE_URL": url, **settings}.items():
                patch.setenv(name, value)
            yield sim

    def run(self, **parameters: Any) -> "State[Any]":
        """Run the flow, and give its final state."""
        from flows.archive import archive_conversations

        state: State[Any] = archive_conversations(**parameters, return_state=True)
        return state

    @property
    def files(self) -> dict[str, bytes]:
        """Every object of the archive."""
        found = (path for path in self.archive.rglob("*") if path.is_file())
        return {path.relative_to(self.archive).as_posix(): path.read_bytes() for path in found}

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Every record, by conversation; each is in a folder of the conversation's own name."""
        found = [path for path in self.archive.rglob("record*.json") if path.parent.parent.name.startswith("date=")]
        records = {path.parent.name: json.loads(path.read_bytes()) for path in found}
        assert len(records) == len(found)
        return records

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """Every manifest, the oldest first."""
        return [json.loads(path.read_bytes()) for path in sorted(self.archive.glob("manifests/*.json"))]

    @property
    def head(self) -> str:
        """The newest manifest's number and hash, as `verify --expect-head` takes them."""
        newest = max(self.archive.glob("manifests/*.json"))
        return f"{int(newest.stem)}:{hashlib.sha256(newest.read_bytes()).hexdigest()}"

    @property
    def pending(self) -> dict[str, dict[str, Any]]:
        """The pending lines of the newest manifest, by conversation."""
        link = self.manifests[-1]["pending"]
        lines = gzip.decompress((self.archive / link["key"]).read_bytes()).splitlines() if link else []
        return {line["conversation_id"]: line for line in map(json.loads, lines)}


@dataclass(frozen=True)
class Ended:
    """What a command on a terminal left behind."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return self.err.splitlines()


class Terminal:
    """A flow's command in a process and a process group of its own, with nothing of the user's settings.

    Args:
        folder: Where it is started; Prefect's home is in it too.
        arguments: Its own.
        module: What is run, as `python -m`.
        settings: The environment's `FORMANT_…`, `ARCHIVE_…` and `PREFECT_…`.
    """

    def __init__(
        self, folder: Path, *arguments: str, module: str = "flows.archive", settings: Mapping[str, str]
    ) -> None:
        self.home = folder / "prefect-home"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**clean, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(self.home), **PATIENT, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, seconds: float = 60) -> Ended:
        """Wait until it ends."""
        out, err = self._process.communicate(timeout=seconds)
        return Ended(self._process.returncode, out, err)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.pid, signal.SIGINT)

    def stop(self) -> None:
        """End it, however far it is."""
        if self._process.poll() is None:
            self._process.terminate()
            self.wait()


@dataclass(frozen=True)
class Outage:
    """A run during an outage, which Prefect tries again for minutes: started early, waited for late."""

    place: Place
    terminal: Terminal


@pytest.fixture(scope="package", autouse=True)
def prefect_server() -> Iterator[str]:
    """Prefect's server, for all tests here; its API's address."""
    with ExitStack() as stack:
        # Started away from any `.env`; and the harness keeps its database in a temporary folder: in our home.
        with chdir(HOME.name), pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", HOME.name)
            stack.enter_context(prefect.testing.utilities.prefect_test_harness(server_startup_timeout=60))
        yield str(prefect.settings.PREFECT_API_URL.value())


@pytest.fixture(scope="package", autouse=True)
def logged() -> Iterator[Lines]:
    """All that is logged."""
    lines = Lines()
    loggers = [logging.getLogger(name) for name in ("", "prefect")]
    for handler in [handler for logger in loggers for handler in logger.handlers]:
        if type(handler).__module__.startswith("prefect.") and not type(handler).__name__.startswith("API"):
            handler.setLevel(logging.CRITICAL + 1)
    for logger in loggers:
        logger.addHandler(lines)
    yield lines
    for logger in loggers:
        logger.removeHandler(lines)


@pytest.fixture(scope="package", autouse=True)
def head_start(request: pytest.FixtureRequest, prefect_server: str) -> None:
    """Start the runs that meet an outage before all else, where a test is to look at them."""
    if any("outages" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("outages")


@pytest.fixture(scope="package")
def outages(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outage]]:
    """Two runs: one cannot reach the API at all, the other gets its list and nothing else of it."""
    sim = Simulator(conversations=4, completed=1)
    sim.fault(kind="conversation", share=1.0, status=503)
    sim.fault(kind="recording", share=1.0, status=503)
    with sim.serve() as url:
        # Port 9 is nobody's: a connection to it is refused at once.
        addresses = {"unreachable": "http://127.0.0.1:9", "no_payloads": url}
        runs = {}
        for name, address in addresses.items():
            place = Place(tmp_path_factory.mktemp(name))
            settings = {
                "PREFECT_API_URL": prefect_server,
                "FORMANT_API_KEY": "simulated-key",
                "FORMANT_BASE_URL": address,
                "ARCHIVE_URL": str(place.archive),
            }
            runs[name] = Outage(place, Terminal(place.folder, settings=settings))
        yield runs
        for run in runs.values():
            run.terminal.stop()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="package")
def terminal_type() -> type[Terminal]:
    return Terminal
