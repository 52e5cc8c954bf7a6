"""`python -m tests.torture --kills 1000`: besiege archives until so many runs were killed; exit code 1 at a fault."""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.torture.siege import besiege


def main() -> int:
    """Parse, besiege, say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many runs are to be killed (1000)")
    parser.add_argument("--seed", type=int, default=0, help="where and when they are killed follows from it (0)")
    given = parser.parse_args()
    began = time.monotonic()
    with TemporaryDirectory(prefix="formant-archive-torture-") as folder:
        tally = besiege(given.kills, given.seed, Path(folder), tell)
    for fault in tally.faults:
        tell(f"FAULT {fault}")
    for point, kills in sorted(tally.kills.items()):
        tell(f"{kills:5} killed: {point}")
    minutes = (time.monotonic() - began) / 60
    tell(f"{tally.kills.total()} kills in {tally.runs} runs; {tally.archives} archives settled; {minutes:.1f} minutes")
    return 1 if tally.faults else 0


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
