"""Does the cost of one conversation grow with their number? `python -m benchmarks.scale`.

    backfill   all history, planned and archived in shards by one process: few conversations, many, and few again
    listing    a first run over very many rows, of which none is to be archived

Each in a fresh process, with recordings of 2 kB, into a folder of this machine.
"""

import sys
from statistics import mean

from cyclopts import App

from benchmarks.measure import Measure
from benchmarks.results import verdict
from benchmarks.speed import say
from benchmarks.stage import set_up

#: The goals: MB of memory, and how much more time a conversation may take among many than among few.
MEMORY, LISTING_MEMORY, SLOWER = 300, 250, 1.2
#: Seconds that each may take.
PATIENCE = 4 * 3600

app = App(name="python -m benchmarks.scale", help=__doc__, help_format="plaintext", version_flags=())


@app.default
def main(*, few: int = 5_000, many: int = 100_000, rows: int = 1_000_000) -> None:
    """Measure time and memory at two sizes.

    Args:
        few: Conversations of the small backfill.
        many: Conversations of the large one; 0 for none of either.
        rows: Rows of the list; 0 for none.
    """
    if many:
        first, large, last = (backfill(count) for count in (few, many, few))
        print(verdict(f"peak MB of a backfill of {many:,}", large.memory_mb, at_most=MEMORY))
        slower = mean((first.rate, last.rate)) / large.rate
        print(verdict(f"time for one of {many:,} / for one of {few:,}", slower, at_most=SLOWER))
    if rows:
        with set_up(rows, 0, served_by="rows", patience=PATIENCE) as stage:
            listing = stage.measure("listing", rows)
        say(f"{rows:,} rows", "listing", listing)
        print(verdict(f"peak MB of a listing of {rows:,}", listing.memory_mb, at_most=LISTING_MEMORY))


def backfill(conversations: int) -> Measure:
    """Measure a backfill."""
    with set_up(conversations, 2, patience=PATIENCE) as stage:
        found = stage.measure("backfill", conversations)
    say(f"{conversations:,} conversations", "backfill", found)
    return found


if __name__ == "__main__":
    sys.exit(app())
