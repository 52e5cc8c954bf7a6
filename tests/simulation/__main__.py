"""Play many seeds, or one of them step by step; see the package's docstring."""

import sys
import time

from cyclopts import App
from rich.console import Console

from tests.simulation.campaign import Campaign, play_all
from tests.simulation.mutants import sown
from tests.simulation.world import World

app = App(name="python -m tests.simulation", help_format="plaintext", version_flags=())
out = Console(highlight=False, soft_wrap=True)


@app.default
def main(
    *, seeds: int = 2000, first: int = 0, seed: int | None = None, mutant: str | None = None, jobs: int | None = None
) -> int:
    """Play seeds; the exit code is 1 where a promise was broken.

    Args:
        seeds: How many.
        first: The first of them.
        seed: Only this one, with every step.
        mutant: With `seed`: a bug that is sown first.
        jobs: Processes; as many as there are processors by default.
    """
    if seed is not None:
        return show(seed, mutant)
    began, campaign = time.monotonic(), Campaign()
    for part in play_all(range(first, first + seeds), jobs):
        campaign.join(part)
        for number, what in part.broken.items():
            out.print(f"seed {number}: {what}", style="red")
    out.print(f"{campaign.sentence}, {time.monotonic() - began:.0f} s")
    for fault, count in campaign.faults.most_common():
        out.print(f"{count:>12,} {fault}")
    return 1 if campaign.broken else 0


def show(seed: int, mutant: str | None) -> int:
    """Play one seed and print its steps."""
    world = World(seed, tell=out.print)
    try:
        if mutant is None:
            world.play()
        else:
            with sown(mutant):
                world.play()
    except AssertionError as fault:
        out.print(str(fault), style="red")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(app())
