"""Runs of the real flow, killed with SIGKILL wherever something was just begun or just done; then their archives."""

import gzip
from pathlib import Path

import pytest

from formant_archive.simulator import SPOKEN
from tests.torture.siege import RANDOM, besiege
from tests.torture.victim import POINTS

KILLS = 40


@pytest.mark.timeout(900)
def test_runs_killed_at_every_point_and_at_random_lose_and_double_nothing(tmp_path: Path) -> None:
    tally = besiege(KILLS, seed=1, folder=tmp_path)

    assert tally.faults == []
    assert tally.kills.total() >= KILLS
    assert set(tally.kills) == {*POINTS, RANDOM}
    assert tally.archives >= 2
    assert tells(tmp_path) == []


def tells(folder: Path) -> list[str]:
    """Name the files that tell what is private: archives but for the bodies, Prefect's database, logs."""
    private = (b"simulated-key", SPOKEN.encode(), b'"contact_number"')
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".tmp-" not in path.name}
    bodies = {path: body for path, body in found.items() if not path.name.startswith("conversation.")}
    unzipped = {path: gzip.decompress(body) if path.suffix == ".gz" else body for path, body in bodies.items()}
    return [str(path) for path, body in unzipped.items() if any(word in body for word in private)]
