"""What the archive promises holds whatever happens; and the checks would notice if it did not."""

import subprocess
import sys

import pytest

from tests.simulation.campaign import Campaign, play, play_all
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import World

SEEDS = 2_000
#: A bug must be found within so many seeds.
WITHIN = 500


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_torn_whatever_fails_and_whoever_is_killed() -> None:
    campaign = Campaign()
    for part in play_all(range(SEEDS)):
        campaign.join(part)

    assert not campaign.broken
    assert campaign.faults.total() >= 50_000
    assert campaign.kills >= 4_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_bug_is_noticed(mutant: str) -> None:
    assert play(range(WITHIN), mutant, stop_at_first=True).broken


def test_a_seed_is_the_same_in_every_process() -> None:
    script = "from tests.simulation.world import World; print(World(7).play().trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": number}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for number in ("1", "2")
    }

    assert traces == {World(7).play().trace}
