"""Many seeds, in several processes, and what came of them all."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field

from tests.simulation.mutants import sown
from tests.simulation.world import Report, World

#: Seeds that a process plays before it reports.
BATCH = 25


@dataclass
class Campaign:
    """What came of many seeds.

    Attributes:
        seeds: How many were played.
        steps: Of all processes in them.
        faults: By their kind.
        kills: Processes that were killed.
        broken: What was broken, by seed.
    """

    seeds: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    broken: dict[int, str] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        """Count one seed."""
        self.seeds += 1
        self.steps += report.steps
        self.faults.update(report.faults)
        self.kills += report.kills

    def join(self, other: "Campaign") -> None:
        """Count another process's seeds."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.faults.update(other.faults)
        self.kills += other.kills
        self.broken |= other.broken

    @property
    def sentence(self) -> str:
        """Say it in a line."""
        return (
            f"{self.seeds:,} seeds, {self.steps:,} steps, {self.faults.total():,} faults, {self.kills:,} kills:"
            f" {len(self.broken):,} broken promises"
        )


def play(seeds: Sequence[int], mutant: str | None = None, *, stop_at_first: bool = False) -> Campaign:
    """Play some seeds here."""
    campaign = Campaign()
    with sown(mutant) if mutant else nullcontext():
        for seed in seeds:
            try:
                campaign.add(World(seed).play())
            except Exception as fault:  # noqa: BLE001  # whatever it is, it must not happen
                campaign.seeds += 1
                campaign.broken[seed] = f"{type(fault).__name__}: {fault}"
                if stop_at_first:
                    break
    return campaign


def play_all(seeds: range, jobs: int | None = None) -> Iterator[Campaign]:
    """Play many seeds in as many processes as there are processors; give what came of each batch as it ends."""
    batches = [range(start, min(start + BATCH, seeds.stop)) for start in range(seeds.start, seeds.stop, BATCH)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=context) as pool:
        yield from pool.map(play, batches)
