"""What a run costs in which nothing is new: `python -m benchmarks.start`. Wall seconds of whole processes.

python     Python, and nothing else
imports    `flows.archive` imported, Prefect with it
cold       `python -m flows.archive`, its own temporary Prefect server, which makes its database first
warm       the same again: the database is there
server     the same against a Prefect server that runs already
"""

import shutil
import sys
import time
from collections.abc import Mapping
from statistics import median

from cyclopts import App

from benchmarks.report import conclude
from benchmarks.results import Column, Figure, Row
from benchmarks.stage import Stage, finish, prefect_server, set_up

app = App(name="python -m benchmarks.start", help=__doc__, help_format="plaintext", version_flags=())

FLOW = ("-m", "flows.archive")
RUNS = {
    "`python`: Python alone": ("-c", "pass"),
    "`imports`: and the flow, imported": ("-c", "import flows.archive"),
    "`cold`: and a new temporary server": FLOW,
    "`warm`: and its database is there": FLOW,
}
SERVER = "`server`: Prefect's server runs already"
COLUMNS = tuple(Column(name=name, digits=2) for name in ("seconds, median", "fastest", "slowest"))


@app.default
def main(*, conversations: int = 100, rounds: int = 5, keep: bool = False) -> None:
    """Measure how long a run takes in which nothing is new.

    Args:
        conversations: What the archive holds already.
        rounds: How often each is measured.
        keep: Write the figure into benchmarks/results.json and docs/.
    """
    seconds: dict[str, list[float]] = {name: [] for name in (*RUNS, SERVER)}
    with set_up(conversations, 2) as stage:
        settings = stage.environment | {"ARCHIVE_URL": str(stage.folder / "archive")}
        timed(stage, settings, "the first run, not counted", FLOW)
        for _ in range(rounds):
            for name, arguments in RUNS.items():
                if name.startswith("`cold`"):
                    shutil.rmtree(settings["PREFECT_HOME"], ignore_errors=True)
                seconds[name].append(timed(stage, settings, name, arguments))
        with prefect_server(stage.folder, settings) as url:
            served = settings | {"PREFECT_API_URL": url}
            # The first run registers the flow: that is not every run's price.
            timed(stage, served, "the first run there, not counted", FLOW)
            seconds[SERVER] += [timed(stage, served, SERVER, FLOW) for _ in range(rounds)]
    figure = Figure(
        name="start",
        title="Start, nothing new to archive",
        note=f"whole processes, {conversations:,} conversations archived before, medians of rounds: {rounds}",
        columns=COLUMNS,
        rows=tuple(Row(label=name, values=(median(all_), min(all_), max(all_))) for name, all_ in seconds.items()),
    )
    conclude(figure, keep=keep)


def timed(stage: Stage, settings: Mapping[str, str], name: str, arguments: tuple[str, ...]) -> float:
    """Run Python to its end; give the seconds."""
    began = time.perf_counter()
    finish([sys.executable, *arguments], stage.folder, dict(settings))
    seconds = time.perf_counter() - began
    print(f"{name}: {seconds:.2f} s", file=sys.stderr)
    return seconds


if __name__ == "__main__":
    sys.exit(app())
