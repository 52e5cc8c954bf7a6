"""How fast the archive is beside others: `python -m benchmarks.speed`.

    loop       a thread pool that fetches and puts, and nothing else
    tutorial   a Prefect flow of three task runs for each conversation, bytes passed between them
    archive    this project's flow

All archive the same simulated API, served by a process of its own, each in a fresh process: into a folder of this
machine, and fewer into S3. They run in turn, round by round; the table has the medians. Rates leave the start-up out.

The S3 server is moto's emulator, one request at a time: Python, and slow. How fast it is says nothing of a real store;
how much of the loop's speed the archive keeps does.
"""

import sys
from statistics import median

from cyclopts import App

from benchmarks.measure import Measure
from benchmarks.place import Opened, bucket, directory
from benchmarks.report import conclude
from benchmarks.results import Column, Figure, Row, verdict
from benchmarks.stage import set_up

app = App(name="python -m benchmarks.speed", help=__doc__, help_format="plaintext", version_flags=())

PLACES: dict[str, Opened] = {"folder": directory, "S3": bucket}
COLUMNS = (
    Column(name="conversations a second", digits=1),
    Column(name="of the loop there", digits=2),
    Column(name="peak memory", unit=" MB"),
    Column(name="processor for each", digits=1, unit=" ms"),
    Column(name="start-up", digits=1, unit=" s"),
    Column(name="conversations"),
)

#: By place and contender.
Rounds = dict[tuple[str, str], list[Measure]]


@app.default
def main(
    *,
    conversations: int = 2000,
    tutorial_conversations: int = 50,
    s3_conversations: int = 1000,
    kilobytes: int = 300,
    latency: int = 0,
    rounds: int = 3,
    keep: bool = False,
) -> None:
    """Measure speed.

    Args:
        conversations: How many the loop and the archive take.
        tutorial_conversations: How many the tutorial takes, which is slow, and keeps them all in memory.
        s3_conversations: How many the loop and the archive take into S3; 0 to leave it out.
        kilobytes: The size of each recording.
        latency: Milliseconds before the simulated API begins an answer, as a network and a real API have them.
        rounds: How often each is measured.
        keep: Write the figure into benchmarks/results.json and docs/.
    """
    few = min(conversations, tutorial_conversations)
    contenders = {"loop": conversations, "tutorial": few, "archive": conversations}
    measures = race("folder", contenders, kilobytes, latency, rounds)
    if s3_conversations:
        measures |= race("S3", {"loop": s3_conversations, "archive": s3_conversations}, kilobytes, latency, rounds)
    note = f"recordings of {kilobytes} kB, answers begin after {latency} ms, medians of rounds: {rounds}"
    conclude(figure(measures, note, latency), keep=keep)


def race(place: str, contenders: dict[str, int], kilobytes: int, latency: int, rounds: int) -> Rounds:
    """Measure all in turn, several times."""
    measures: Rounds = {(place, name): [] for name in contenders}
    with set_up(max(contenders.values()), kilobytes, latency) as stage:
        for number in range(rounds):
            for name, count in contenders.items():
                measure = stage.measure(name, count, PLACES[place])
                measures[place, name].append(measure)
                say(f"round {number + 1}, {place}", name, measure)
    return measures


def figure(measures: Rounds, note: str, latency: int) -> Figure:
    """Lay out the medians; another latency is a figure of its own."""
    rates = {who: middle(found, "rate") for who, found in measures.items()}
    archive = rates["folder", "archive"]
    return Figure(
        name=f"speed-{latency}-ms" if latency else "speed",
        title=f"Speed, {latency} ms away" if latency else "Speed",
        note=note,
        columns=COLUMNS,
        rows=tuple(row(place, name, found, rates[place, "loop"]) for (place, name), found in measures.items()),
        verdicts=(
            verdict("archive / loop", archive / rates["folder", "loop"], at_least=0.8),
            verdict("archive / tutorial", archive / rates["folder", "tutorial"], at_least=4),
        ),
    )


def row(place: str, name: str, found: list[Measure], yardstick: float) -> Row:
    """Lay out the medians of one contender."""
    rate = middle(found, "rate")
    more = (middle(found, one) for one in ("memory_mb", "processor_ms", "startup_seconds", "conversations"))
    return Row(label=f"`{name}`, {place}", values=(rate, rate / yardstick, *more))


def middle(measures: list[Measure], name: str) -> float:
    """The median of one of the figures."""
    return median(float(getattr(one, name)) for one in measures)


def say(what: str, name: str, measure: Measure) -> None:
    """Show one measure as soon as it is there."""
    cost = f"{measure.processor_ms:.1f} ms of processor"
    print(f"{what}: {name} {measure.rate:.1f} a second, {cost}, {measure.memory_mb:.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(app())
