"""One seed: a source, a store, two to four processes, and what befalls them."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

from formant_archive.client import FormantClient, Page
from formant_archive.errors import ArchiveError
from formant_archive.policy import Policy
from formant_archive.run import Run
from tests import plain
from tests.simulation.oracle import Ledge, Objects, Oracle, promise
from tests.simulation.schedule import Process
from tests.simulation.source import HOUR, KEY, MINUTE, Source, Wire
from tests.simulation.store import View, Weather
from tests.stores.memory import MemoryStore

BEGIN = int(datetime(2026, 3, 20, 12, tzinfo=UTC).timestamp() * 1000)
POLICY = Policy(
    grace=timedelta(hours=6),
    probe_interval=timedelta(minutes=15),
    results_wait=timedelta(minutes=30),
    overlap=timedelta(hours=3),
)
#: Steps after which a seed is called endless.
MOST_STEPS = 20_000


@dataclass(frozen=True)
class Job:
    """What a process does: so many runs of one kind.

    Attributes:
        agent: Its scope; None for all.
        full: Whether it lists to the end.
        runs: How many it has yet to begin.
        skew: How wrong its clock is, in ms.
        in_flight: Pages that it works on at once.
        part_size: A manifest of its own is committed every so many conversations.
    """

    agent: int | None
    full: bool
    runs: int
    skew: int
    in_flight: int
    part_size: int


@dataclass(frozen=True)
class Report:
    """What came of a seed.

    Attributes:
        steps: Of all processes.
        faults: By their kind.
        kills: Processes that were killed.
        trace: A hash of all steps: the same for the same seed.
    """

    steps: int
    faults: Counter[str]
    kills: int
    trace: str


class World:
    """One seed."""

    def __init__(self, seed: int, *, tell: Callable[[str], object] = len) -> None:
        self.dice = Random(seed)
        self.now = BEGIN
        self.moment = 0
        self._tell = tell
        self.source = Source(self.dice, lambda: self.now, lambda: self.moment)
        self.objects = Objects()
        self.store = MemoryStore()
        self.store.objects = self.objects
        self.oracle = Oracle(self.objects, self.source, POLICY)
        self.weather = Weather(self.dice, self.dice.choice((0.02, 0.1, 0.2)))
        self._kill_rate = self.dice.choice((0.01, 0.02, 0.05))
        self._numbers = 0
        self._kills = 0
        self._trace = hashlib.blake2b()

    def play(self) -> Report:
        """Let it all happen; then let it end well, and look once more.

        Raises:
            Broken: A promise was broken.
        """
        self.storm()
        self.calm()
        return Report(self.moment, self.source.faults + self.weather.faults, self._kills, self._trace.hexdigest())

    def _job(self) -> Job:
        dice = self.dice
        return Job(
            agent=dice.choice((None, None, 1, 2)),
            full=dice.random() < 0.2,
            runs=dice.randint(1, 3),
            skew=dice.choice((0, 0, -10 * MINUTE, 10 * MINUTE)),
            in_flight=dice.randint(1, 3),
            part_size=dice.choice((2, 10_000, 10_000)),
        )

    def storm(self) -> None:
        """Interleave the processes until all have done their runs; whoever is killed begins its run anew."""
        jobs = [self._job() for _ in range(self.dice.randint(2, 4))]
        living = [(job, Process(partial(self._live, job))) for job in jobs]
        while living:
            at = self.dice.randrange(len(living))
            job, process = living[at]
            self._tick(process)
            if self.dice.random() < self._kill_rate:
                process.kill()
                self._kills += 1
                living[at] = (job, Process(partial(self._live, job)))
                self._kill_rate *= 0.8
            else:
                process.go()
            if living[at][1].is_over:
                del living[at]

    def _tick(self, process: Process) -> None:
        self.moment += 1
        promise("I13", self.moment < MOST_STEPS, "it does not end")
        self.now += self.dice.choice((0, 0, 20, 900))
        if self.dice.random() < 0.08:
            self.source.move()
        line = f"{self.moment} {self.now} {process.name} {process.next_step}"
        self._trace.update(line.encode())
        self._tell(line)

    def _live(self, job: Job, process: Process) -> None:
        for _ in range(job.runs):
            process.step("begin a run")
            self.now += self.dice.choice((MINUTE, 16 * MINUTE, HOUR))
            try:
                self._run(process, job)
            except ArchiveError as fault:
                # A run that fails has lost nothing; the next one goes on.
                process.step(f"run failed: {type(fault).__name__}")

    def _run(self, process: Process, job: Job) -> Run:
        self._numbers += 1
        run_id = f"run-{self._numbers}"
        process.name = run_id
        ledge = self.oracle.runs[run_id] = Ledge(job.agent, self.moment)

        def clock() -> datetime:
            return datetime.fromtimestamp((self.now + job.skew) / 1000, UTC)

        def note(step: str) -> None:
            ledge.is_final |= step == "commit"

        return plain.archive(
            self._client(process, job, run_id),
            View(self.store, process, self.oracle, run_id, self.weather),
            clock,
            agent_id=job.agent,
            full=job.full,
            policy=POLICY,
            between=note,
            part_size=job.part_size,
            run_id=run_id,
            pages_in_flight=job.in_flight,
            dice=self.dice,
        )

    def _client(self, process: Process, job: Job, run_id: str) -> "Watched":
        def clock_ms() -> int:
            return self.now + job.skew

        def sleep(seconds: float) -> None:
            process.step(f"sleep {seconds:.1f}")
            self.now += round(seconds * 1000)

        wire = Wire(self.source, process, clock_ms)
        client = Watched(
            plain.SOURCE,
            KEY,
            transport=wire,
            redirect_transport=wire,
            clock=lambda: self.now / 1000,
            wall_clock=lambda: datetime.fromtimestamp(clock_ms() / 1000, UTC),
            sleep=sleep,
            random=self.dice.random,
        )
        client.watch(self, run_id, clock_ms)
        return client

    # The end

    def calm(self) -> None:
        """No more changes, faults or kills: a few runs must settle everything, and the next must find nothing to do."""
        self.source.calm()
        self.weather.rate = 0
        for number in range(3):
            self.now += 7 * HOUR
            # After lies about `total`, only a listing to the end can be relied on.
            self._alone(full=number == 0 and self.source.has_lied)
        self.oracle.settled()
        before = set(self.objects)
        self._alone(full=False)
        news = [key for key in self.objects if key not in before and not key.startswith("manifests/")]
        promise("I10", not news, f"a run with nothing new stored {news}")

    def _alone(self, *, full: bool) -> None:
        job = Job(agent=None, full=full, runs=1, skew=0, in_flight=2, part_size=10_000)
        runs: list[Run] = []
        process = Process(lambda process: runs.append(self._run(process, job)))
        while not process.is_over:
            self._tick(process)
            process.go()
        promise("I9", runs and runs[0].summary.complete, "a listing of a calm source was not complete")


class Watched(FormantClient):
    """The real client, and a note for the oracle of what it handed out."""

    def watch(self, world: World, run_id: str, clock_ms: Callable[[], int]) -> None:
        self._world, self._run_id, self._clock_ms = world, run_id, clock_ms

    def list_page(self, *, agent_id: int | None, offset: int, limit: int = 100) -> Page:
        began = self._world.moment
        page = super().list_page(agent_id=agent_id, offset=offset, limit=limit)
        times = [self._clock_ms() if one.time is None else one.time for one in page.references]
        names = [one.conversation_id for one in page.references]
        self._world.oracle.listed(self._run_id, names, times, began, self._world.moment)
        return page
