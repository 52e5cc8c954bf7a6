"""Starts runs and kills them, each time somewhere else, until the archive is settled; and audits it after every death.

Two archives are besieged at a time, each with a simulated API of its own. All runs share one Prefect server: a killed
run leaves a temporary server of its own behind.
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.stage import prefect_server
from formant_archive.simulator import Simulator
from tests.torture.auditor import audit, files_of
from tests.torture.victim import OFTEN, POINTS

ROOT = Path(__file__).parents[2]
LANES = 2
#: Kills of one archive, before it is left alone until it is settled.
KILLS_OF_ONE = 8
#: Seconds in which a random kill comes, from a run's first request on; a run takes about as long.
RANDOM_SECONDS = 2.5
#: Seconds that a run may take, and how many runs an archive may need to settle once nobody kills.
PATIENCE, RUNS_TO_SETTLE = 90, 4
RANDOM = "at random"
PREFIXES = ("PREFECT_", "FORMANT_", "ARCHIVE_", "TORTURE_")

Tell = Callable[[str], None]


@dataclass
class Tally:
    """What came of a siege.

    Attributes:
        wanted: Kills to come to.
        kills: By point.
        runs: Processes started.
        archives: Archives that were settled in the end.
        faults: What was wrong, as sentences.
    """

    wanted: int
    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    archives: int = 0
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_over(self) -> bool:
        # With enough kills for all points, none of them is left out; though a point is not asked for again for ever.
        is_enough = self.kills.total() >= self.wanted and len(self.kills) > min(len(POINTS), self.wanted // 2)
        return is_enough or bool(self.faults) or self.runs > 2 * self.wanted + 20


class Orders:
    """Where to kill, for ever: every point in turn, in ever another order, and between them at random times."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._left: deque[str] = deque()
        self._lock = threading.Lock()

    def next(self) -> str:
        with self._lock:
            if not self._left:
                named = [f"{point}:{self._dice.choice((1, 1, 2, 4)) if point in OFTEN else 1}" for point in POINTS]
                self._left.extend([*named, *([RANDOM] * (len(POINTS) // 2))])
                self._dice.shuffle(self._left)
            return self._left.popleft()

    def again(self, point: str) -> None:
        """Ask for a point once more that a run did not get to."""
        with self._lock:
            self._left.append(point if point == RANDOM else f"{point}:1")


def besiege(kills: int, seed: int, folder: Path, tell: Tell = lambda line: None) -> Tally:
    """Kill so many runs, and say what came of it; stop at the first fault."""
    tally, orders = Tally(kills), Orders(seed)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    home = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    environment = {**clean, **home, "PYTHONPATH": str(ROOT)}

    def lane(number: int) -> None:
        dice = random.Random(f"{seed}-{number}")
        for name in range(kills + 1):
            if not tally.is_over:
                Siege(folder / f"{number}-{name}", dice, environment, tally, tell).go_on(orders)

    with prefect_server(folder, environment) as url:
        environment["PREFECT_API_URL"] = url
        with ThreadPoolExecutor(LANES) as lanes:
            list(lanes.map(lane, range(LANES)))
    return tally


class Siege:
    """One archive: runs over it are killed, more calls come in, and in the end it must be settled."""

    def __init__(
        self, folder: Path, dice: random.Random, environment: dict[str, str], tally: Tally, tell: Tell
    ) -> None:
        self._folder = folder
        self._archive = folder / "archive"
        self._dice = dice
        self._environment = environment
        self._tally = tally
        self._tell = tell
        self._before: dict[str, bytes] = {}
        self._sim = Simulator(
            dice.randrange(1 << 30),
            conversations=25,
            completed=0.8,
            in_progress=2,
            late_recordings=0.25,
            late_transcripts=0.1,
            # Within the overlap: each run lists everything again, several pages of it.
            spread_hours=4,
            audio_seconds=(0.5, 6),
            page_limit=10,
        )

    def go_on(self, orders: Orders) -> None:
        """Kill some runs, then let others settle the archive."""
        self._folder.mkdir()
        with self._serving():
            for number in range(KILLS_OF_ONE):
                if self._tally.is_over:
                    break
                if number == KILLS_OF_ONE // 2:
                    self._sim.release()
                self._attack(orders)
                self._look(is_settled=False)
                self._sim.add(4)
            self._sim.release()
            self._settle()

    @contextmanager
    def _serving(self) -> Iterator[None]:
        with self._sim.serve() as url:
            self._environment = {
                **self._environment,
                "FORMANT_BASE_URL": url,
                "FORMANT_API_KEY": "simulated-key",
                "ARCHIVE_URL": str(self._archive),
                "ARCHIVE_PROBE_MINUTES": "0",
            }
            yield

    def _attack(self, orders: Orders) -> None:
        order = orders.next()
        code = self._run(order)
        point = order.partition(":")[0]
        if code == -9:
            with self._tally.lock:
                self._tally.kills[point] += 1
        else:
            orders.again(point)
        self._tell(f"{self._folder.name}: {order}: {'killed' if code == -9 else 'came through'}")
        if code not in (0, -9):
            self._fault(f"a run that was to be killed {order} ended with exit code {code}")

    def _run(self, order: str = "") -> int:
        """Run the flow, kill it if that was ordered, and give its exit code."""
        with self._tally.lock:
            self._tally.runs += 1
        doom = {"TORTURE_POINT": order} if order and order != RANDOM else {}
        with (self._folder / "output").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.victim"],
                cwd=self._folder,
                env=self._environment | doom,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                if order == RANDOM:
                    self._kill_at_random(process)
                return process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._fault(f"a run did not end in {PATIENCE} s: {order}")
                return 1
            finally:
                process.kill()
                process.wait()

    def _kill_at_random(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a run some time after its first request: before that, it has only loaded its modules."""
        asked = self._sim.count()
        while process.poll() is None and self._sim.count() == asked:
            time.sleep(0.01)
        time.sleep(self._dice.uniform(0, RANDOM_SECONDS))
        process.kill()

    def _settle(self) -> None:
        for _ in range(RUNS_TO_SETTLE):
            if self._tally.faults:
                return
            if code := self._run():
                self._fault(f"a run that nobody killed ended with exit code {code}")
                return
            self._look(is_settled=False)
            if not audit(self._before, self._sim.conversations, is_settled=True):
                with self._tally.lock:
                    self._tally.archives += 1
                return
        self._look(is_settled=True)

    def _look(self, *, is_settled: bool) -> None:
        """Audit what is on the disk, and that nothing of what was there is gone or changed."""
        files = files_of(self._archive)
        for key, body in self._before.items():
            if files.get(key) != body:
                self._fault(f"{key} was there, and is gone or changed")
        for sentence in audit(files, self._sim.conversations, is_settled=is_settled):
            self._fault(sentence)
        self._before = files

    def _fault(self, sentence: str) -> None:
        output = (self._folder / "output").read_text()[-2000:]
        with self._tally.lock:
            self._tally.faults.append(f"{self._folder}: {sentence}\n{output}")
