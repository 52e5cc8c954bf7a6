"""The simulated API in a process of its own, which does what it is told by lines of JSON: `{"delay": 3}`, `{}`.

Started with the arguments of a `Simulator` as JSON, and `now`, the one moment that its clock shows: whoever makes a
`Simulator` of the same has the same conversations. It prints its address, and serves until its standard input ends.
"""

import json
import sys
from typing import Any

from formant_archive.simulator import Simulator


def simulator(now: int, **arguments: Any) -> Simulator:
    """Make a simulator whose clock stands still."""
    return Simulator(now=lambda: now, **arguments)


def main() -> None:
    sim = simulator(**json.loads(sys.argv[1]))
    with sim.serve() as url:
        print(url, flush=True)  # noqa: T201  # its parent reads it
        for line in sys.stdin:
            sim.heal()
            if delay := json.loads(line).get("delay"):
                sim.fault(kind="recording", share=1.0, delay=delay)
            print("done", flush=True)  # noqa: T201  # its parent reads it


if __name__ == "__main__":
    main()
