"""Run the benchmark: `python -m benchmarks`, or `python -m benchmarks --memory`.

    loop       a thread pool that fetches and puts, and nothing else
    tutorial   a Prefect flow of three task runs for each conversation, bytes passed between them
    archive    this project's flow

All archive the same simulated API, served by a process of its own, into a folder of this machine, each in a fresh
process. They run in turn, round by round; the table has the medians. Rates leave the start-up out; it has a column.
"""

import os
import sys
from statistics import median

from cyclopts import App
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measure
from benchmarks.stage import set_up

app = App(name="python -m benchmarks", help=__doc__, help_format="plaintext", version_flags=())
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Rounds = dict[str, list[Measure]]


@app.default
def main(
    *,
    conversations: int = 2000,
    tutorial_conversations: int = 400,
    kilobytes: int = 300,
    latency: int = 0,
    rounds: int = 3,
    memory: bool = False,
) -> None:
    """Measure speed, or memory.

    Args:
        conversations: How many the loop and the archive take.
        tutorial_conversations: How many the tutorial takes, which is slow, and keeps them all in memory.
        kilobytes: The size of each recording.
        latency: Milliseconds before the simulated API begins an answer, as a network and a real API have them.
        rounds: How often each is measured.
        memory: Measure instead whether the archive's memory grows: at 1,000 and 10,000 conversations of 20 kB.
    """
    if memory:
        compare_memory()
    else:
        tutorial_conversations = min(conversations, tutorial_conversations)
        compare_speed(
            {"loop": conversations, "tutorial": tutorial_conversations, "archive": conversations},
            kilobytes,
            latency,
            rounds,
        )


def compare_speed(contenders: dict[str, int], kilobytes: int, latency: int, rounds: int) -> None:
    """Measure all in turn, several times, and print the medians."""
    measures: Rounds = {name: [] for name in contenders}
    with set_up(max(contenders.values()), kilobytes, latency) as stage:
        for number in range(rounds):
            for name, conversations in contenders.items():
                measures[name].append(stage.measure(name, conversations))
                say(f"round {number + 1}", name, measures[name][-1])
    what = f"recordings of {kilobytes} kB, {latency} ms latency, medians of {rounds} rounds, {os.cpu_count()} cores"
    out.print(speed_table(measures, what))
    rates = {name: middle(found, "rate") for name, found in measures.items()}
    verdict("archive / loop", rates["archive"] / rates["loop"], at_least=0.8)
    verdict("archive / tutorial", rates["archive"] / rates["tutorial"], at_least=4)


def compare_memory() -> None:
    """Measure the archive's peak memory with few conversations and with many."""
    peaks = []
    for conversations in (1_000, 10_000):
        with set_up(conversations, 20) as stage:
            measure = stage.measure("archive", conversations)
        say(f"{conversations:,} conversations", "archive", measure)
        peaks.append(measure.memory_mb)
    verdict("peak memory at 10,000 / at 1,000", peaks[1] / peaks[0], at_most=1.3)


def middle(measures: list[Measure], name: str) -> float:
    """The median of one of the figures."""
    return median(float(getattr(one, name)) for one in measures)


def speed_table(measures: Rounds, title: str) -> Table:
    """Lay out the medians."""
    table = Table("", "conversations", "a second", "of the loop", "peak memory", "start-up", title=title)
    yardstick = middle(measures["loop"], "rate")
    for name, found in measures.items():
        rate = middle(found, "rate")
        table.add_row(
            name,
            f"{found[0].conversations:,}",
            f"{rate:.1f}",
            f"{rate / yardstick:.2f}",
            f"{middle(found, 'memory_mb'):.0f} MB",
            f"{middle(found, 'startup_seconds'):.1f} s",
        )
    return table


def say(what: str, name: str, measure: Measure) -> None:
    """Show one measure as soon as it is there."""
    cost = f"{measure.processor_ms:.1f} ms of processor"
    err.print(f"{what}: {name} {measure.rate:.1f} a second, {cost}, {measure.memory_mb:.0f} MB")


def verdict(what: str, ratio: float, *, at_least: float = 0.0, at_most: float = float("inf")) -> None:
    """Say whether a goal is reached."""
    goal = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
    out.print(f"{what}: {ratio:.2f}, goal {goal}: {'reached' if at_least <= ratio <= at_most else 'MISSED'}")


if __name__ == "__main__":
    sys.exit(app())
