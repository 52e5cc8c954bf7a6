"""Does the archive's memory grow with its conversations? `python -m benchmarks.memory`."""

import sys

from cyclopts import App

from benchmarks.report import conclude
from benchmarks.results import Column, Figure, Row, verdict
from benchmarks.speed import say
from benchmarks.stage import set_up

app = App(name="python -m benchmarks.memory", help=__doc__, help_format="plaintext", version_flags=())


@app.default
def main(*, few: int = 1_000, many: int = 10_000, keep: bool = False) -> None:
    """Measure the archive's peak memory with few conversations and with many, recordings of 20 kB.

    Args:
        few: Conversations.
        many: Conversations.
        keep: Write the figure into benchmarks/results.json and docs/.
    """
    peaks = {}
    for conversations in (few, many):
        with set_up(conversations, 20) as stage:
            measure = stage.measure("archive", conversations)
        say(f"{conversations:,} conversations", "archive", measure)
        peaks[conversations] = measure.memory_mb
    figure = Figure(
        name="memory",
        title="Memory",
        note="the archive's flow, recordings of 20 kB, one run each",
        columns=(Column(name="peak memory", unit=" MB"),),
        rows=tuple(Row(label=f"{count:,} conversations", values=(peak,)) for count, peak in peaks.items()),
        verdicts=(verdict(f"peak at {many:,} / at {few:,}", peaks[many] / peaks[few], at_most=1.3),),
    )
    conclude(figure, keep=keep)


if __name__ == "__main__":
    sys.exit(app())
