"""What more processes bring: `python -m benchmarks.processes`. A backfill's shards, worked off by 1, 2 and 4 at once.

There is no rate limit; recordings are of 2 to 3 kB. All begin together, once each has reached Prefect's server, and the
clock stops when the last one is done. The simulated API and Prefect's server are one process each, on the same cores.
"""

import math
import sys
import time
from contextlib import ExitStack
from subprocess import Popen

from cyclopts import App

from benchmarks import budget
from benchmarks.report import conclude
from benchmarks.results import Column, Figure, Row

app = App(name="python -m benchmarks.processes", help=__doc__, help_format="plaintext", version_flags=())

#: So much in a window is no limit: requests, and seconds.
UNLIMITED = (10**9, 3600.0)
COLUMNS = (
    Column(name="conversations a second", digits=1),
    Column(name="of one process", digits=2),
    Column(name="seconds", digits=1),
)


@app.default
def main(*, conversations: int = 2000, processes: tuple[int, ...] = (1, 2, 4), keep: bool = False) -> None:
    """Measure how much faster several processes are.

    Args:
        conversations: How many there are to archive.
        processes: How many at once.
        keep: Write the figure into benchmarks/results.json and docs/.
    """
    # As many shards as all can share evenly.
    shards = math.lcm(*processes)
    seconds = {}
    for count in processes:
        seconds[count] = measure(conversations, shards, count)
        print(f"processes: {count}, {conversations / seconds[count]:.1f} a second", file=sys.stderr)
    first = next(iter(seconds.values()))
    rows = (
        Row(label=f"processes: {count}", values=(conversations / took, first / took, took))
        for count, took in seconds.items()
    )
    figure = Figure(
        name="processes",
        title="Processes of a backfill",
        note=f"{conversations:,} conversations in {shards} shards, recordings of 2 to 3 kB, no limit, one run each",
        columns=COLUMNS,
        rows=tuple(rows),
    )
    conclude(figure, keep=keep)


def measure(conversations: int, shards: int, processes: int) -> float:
    """Give the seconds in which some processes archive all shards.

    Raises:
        SystemExit: They did not archive everything.
    """
    with budget.scene(conversations, *UNLIMITED, 0) as scene, ExitStack() as working:
        plan_id = scene.plan(-(-conversations // shards))
        crew = []
        for number in range(processes):
            numbers = map(str, range(number + 1, shards + 1, processes))
            one = scene.working(f"work-{number}", "benchmarks.processes", "work", plan_id, *numbers)
            crew.append(working.enter_context(one))
        wait_for(crew)
        began = time.perf_counter()
        for process in crew:
            assert process.stdin is not None
            print("go", file=process.stdin, flush=True)
        wait_for(crew)
        seconds = time.perf_counter() - began
        if (settled := scene.settled()) != conversations:
            sys.exit(f"of {conversations} conversations, so many were settled, by processes: {settled}, {processes}")
    return seconds


def wait_for(crew: list["Popen[str]"]) -> None:
    """Wait until each has said a line, or has ended."""
    for process in crew:
        assert process.stdout is not None
        process.stdout.readline()


@app.command
def work(plan_id: str, *numbers: int) -> None:
    """Archive some shards of a plan, once a line comes in; say when that can be, and when it is done."""
    from benchmarks import contact

    contact.hello()
    print("ready", flush=True)
    if sys.stdin.readline():
        budget.work(plan_id, *numbers)
        print("done", flush=True)


if __name__ == "__main__":
    sys.exit(app())
