"""Do several processes share the API's rate limit? `python -m benchmarks.budget`.

The simulated API allows so many requests in a window and says so in its answers, as FormantAI does; each answer takes a
while to begin. A plan is made over it, and 1, 2 and 4 processes archive its shards at once, as the processes do that
Prefect's workers start. Beside them a scheduled run is begun, which has to finish. Measured is what the API counts in
whole windows after the first, in which everything starts.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from cyclopts import App
from rich.console import Console
from rich.table import Table

from benchmarks.stage import PATIENCE, ROOT, finish, limited, prefect_server, stop
from formant_archive.simulator import Simulator
from formant_archive.simulator.serving import on_port

app = App(name="python -m benchmarks.budget", help=__doc__, help_format="plaintext", version_flags=())
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

TOO_MANY = 429
#: The goal: how much of the limit is used at least, and which share of the requests is refused at most.
USED, REFUSED = 0.95, 0.01
#: How much more there is to do than the windows allow, and in how many shards for each process.
MARGIN, SHARDS = 2.5, 3


@dataclass(frozen=True)
class Measure:
    """What the API counted in whole windows.

    Attributes:
        processes: That archived shards.
        windows: How many windows.
        seconds: How long they took together.
        answered: Requests that it answered.
        refused: Requests that came too many.
        scheduled_seconds: How long the scheduled run beside them took; None where it failed, or did not end before
            they did.
    """

    processes: int
    windows: int
    seconds: float
    answered: int
    refused: int
    scheduled_seconds: float | None

    @property
    def a_minute(self) -> float:
        """Requests answered in a minute."""
        return 60 * self.answered / self.seconds

    @property
    def share_refused(self) -> float:
        """The share of the requests that came too many."""
        return self.refused / (self.answered + self.refused)


class Counting:
    """The simulated API as an application that counts its answers: by window, and when each window began."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._lock = threading.Lock()
        self.windows: dict[str, dict[str, float]] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""

        def count(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            self._count(status, dict(headers))
            return start_response(status, headers, *more)

        return self._sim(environ, count)

    def _count(self, status: str, headers: dict[str, str]) -> None:
        kind = "refused" if status.startswith(str(TOO_MANY)) else "answered"
        with self._lock:
            # Its end is the window's name.
            window = self.windows.setdefault(
                headers["X-RateLimit-Reset"], {"began": time.time(), "answered": 0, "refused": 0}
            )
            window[kind] += 1


@app.command
def serve(conversations: int, limit: int, seconds: float, latency: int) -> None:
    """Be the simulated API: give the address, and for each line on standard input the windows."""
    sim = Simulator(
        conversations=conversations,
        completed=1.0,
        audio_seconds=(0.1, 0.2),
        rate_limit=limit,
        rate_window_seconds=seconds,
    )
    if latency:
        sim.fault(delay=latency / 1000, share=1.0)
    api = Counting(sim)
    with on_port(api, 0) as url:
        print(url, flush=True)
        for _ in sys.stdin:
            print(json.dumps(list(api.windows.values())), flush=True)


@app.command
def plan(shard_size: int) -> None:
    """Make a plan over everything, and print its id."""
    from prefect import flow

    from flows.backfill import make_plan

    made = flow(make_plan)([None], None, None, shard_size=shard_size, keep=True)
    print(made.plan_id, flush=True)


@app.command
def work(plan_id: str, *numbers: int) -> None:
    """Archive some shards of a plan, one after the other."""
    from flows.shard import archive_shard

    for number in numbers:
        archive_shard(plan_id, number, return_state=True)


class Scene:
    """An API, a Prefect server, an archive, and the processes that work on it."""

    def __init__(self, folder: Path, api: "subprocess.Popen[str]", environment: dict[str, str]) -> None:
        self._folder = folder
        self._api = api
        self._environment = environment

    def windows(self) -> list[dict[str, float]]:
        """Give what the API has counted, window by window."""
        assert self._api.stdin is not None
        assert self._api.stdout is not None
        self._api.stdin.write("\n")
        self._api.stdin.flush()
        counted: list[dict[str, float]] = json.loads(self._api.stdout.readline())
        return counted

    def wait_for_window(self, number: int) -> None:
        """Wait until so many windows have begun."""
        while len(self.windows()) < number:
            time.sleep(0.2)

    def run(self, *arguments: str) -> str:
        """Run something to its end; give what it said."""
        return finish([sys.executable, "-m", *arguments], self._folder, self._environment)

    def plan(self, shard_size: int) -> str:
        """Make a plan; give its id."""
        return self.run("benchmarks.budget", "plan", str(shard_size)).splitlines()[-1]

    def settled(self) -> int:
        """Count the conversations that have a record."""
        return sum(1 for _ in Path(self._environment["ARCHIVE_URL"]).rglob("record.json"))

    @contextmanager
    def working(self, name: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """Have a process work in the background, to talk with; it is stopped in the end, however far it is."""
        with (
            (self._folder / f"{name}.log").open("wb") as log,
            subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                stop(process)


@contextmanager
def scene(conversations: int, limit: int, seconds: float, latency: int, patience: int = PATIENCE) -> Iterator[Scene]:
    """Set everything up, and take it down again."""
    ours = ("ARCHIVE_", "FORMANT_", "PREFECT_")
    with limited(patience), TemporaryDirectory(prefix="formant-archive-benchmark-") as name, ExitStack() as parts:
        folder = Path(name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
            "FORMANT_API_KEY": "simulated-key",
            "ARCHIVE_URL": str(folder / "archive"),
        }
        command = [sys.executable, "-m", "benchmarks.budget", "serve"]
        api = parts.enter_context(
            subprocess.Popen(
                [*command, *map(str, (conversations, limit, seconds, latency))],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert api.stdout is not None
        environment["FORMANT_BASE_URL"] = api.stdout.readline().strip()
        environment["PREFECT_API_URL"] = parts.enter_context(prefect_server(folder, environment))
        yield Scene(folder, api, environment)


def measure(processes: int, limit: int, seconds: float, latency: int, windows: int) -> Measure:
    """Let some processes archive at once, and see what the API counts.

    Raises:
        SystemExit: A process has ended too early.
    """
    conversations = round(MARGIN * (windows + 2) * limit / 2)
    shards = SHARDS * processes
    patience = PATIENCE + round(2 * windows * seconds)
    with scene(conversations, limit, seconds, latency, patience) as stage, ExitStack() as working:
        # What is older is the backfill's: the scheduled run that is measured only looks for what is new.
        stage.run("flows.archive", "--since", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
        plan_id = stage.plan(-(-conversations // shards))
        running = []
        for number in range(processes):
            numbers = range(number + 1, shards + 1, processes)
            command = ["benchmarks.budget", "work", plan_id, *map(str, numbers)]
            running.append(working.enter_context(stage.working(f"work-{number}", *command)))
        first = len(stage.windows()) + 1
        stage.wait_for_window(first)
        began = time.monotonic()
        with stage.working("scheduled", "flows.archive") as scheduled:
            ended = watch(scheduled)
            stage.wait_for_window(first + windows)
            counted = stage.windows()[first - 1 : first + windows]
            if any(process.poll() is not None for process in running):
                sys.exit("a process has ended too early: there was too little to do, or it failed")
            while not ended and all(process.poll() is None for process in running):
                time.sleep(0.2)
            scheduled_seconds = ended[0] - began if ended and not scheduled.poll() else None
    *whole, after = counted
    return Measure(
        processes=processes,
        windows=windows,
        seconds=after["began"] - whole[0]["began"],
        answered=round(sum(window["answered"] for window in whole)),
        refused=round(sum(window["refused"] for window in whole)),
        scheduled_seconds=scheduled_seconds,
    )


def watch(process: "subprocess.Popen[str]") -> list[float]:
    """Give a list to which its end is added."""
    ended: list[float] = []

    def wait() -> None:
        process.wait()
        ended.append(time.monotonic())

    threading.Thread(target=wait).start()
    return ended


@app.default
def main(
    *,
    limit: int = 600,
    seconds: float = 60,
    latency: int = 100,
    windows: int = 2,
    processes: tuple[int, ...] = (1, 2, 4),
) -> None:
    """Measure how well processes share a rate limit.

    Args:
        limit: Requests that the API allows in a window.
        seconds: A window's length.
        latency: Milliseconds before the simulated API begins an answer.
        windows: How many whole windows to measure, after the first.
        processes: How many at once.
    """
    permitted = 60 * limit / seconds
    title = (
        f"{permitted:,.0f} requests a minute permitted, {latency} ms latency, {windows} windows, {os.cpu_count()} cores"
    )
    table = Table("processes", "requests a minute", "of the permitted", "429s", "a scheduled run beside", title=title)
    is_reached = True
    for count in processes:
        found = measure(count, limit, seconds, latency, windows)
        used = found.a_minute / permitted
        is_reached &= used >= USED and found.share_refused <= REFUSED
        row: tuple[str, ...] = (f"{count}", f"{found.a_minute:.0f}", f"{used:.1%}", f"{found.share_refused:.2%}")
        took = found.scheduled_seconds
        is_reached &= took is not None
        row = (*row, "NOT finished" if took is None else f"finished in {took:.0f} s")
        table.add_row(*row)
        err.print(*row)
    out.print(table)
    out.print(f"goal: {USED:.0%} of the permitted, 429s {REFUSED:.0%}: {'reached' if is_reached else 'MISSED'}")


if __name__ == "__main__":
    sys.exit(app())
