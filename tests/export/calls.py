"""Archived calls to export: a simulated workspace, run until all is settled; and a bag of them."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from formant_archive.catalogue import EVERYTHING, Selection, read_catalogue
from formant_archive.crew import abreast
from formant_archive.export.bag import write_bag
from formant_archive.export.cover import Asked, Cover
from formant_archive.policy import Policy
from formant_archive.simulator import Simulator
from formant_archive.stores import Store
from tests import plain

ASKED = Asked("everything", datetime(2026, 4, 1, 9, tzinfo=UTC), "9.9")


def workspace(clock: plain.Clock, conversations: int = 40) -> Simulator:
    """Some recordings come late, some never, and some transcripts too."""
    return Simulator(
        7,
        conversations,
        now=lambda: clock.ms,
        late_recordings=0.1,
        never_recordings=0.1,
        late_transcripts=0.1,
        audio_seconds=(1, 3),
    )


def archive(sim: Simulator, store: Store, clock: plain.Clock, policy: Policy = plain.EAGER) -> None:
    """Run four times, a new call before each, until what never comes is called absent."""
    for hours in (1, 80, 2, 0):
        plain.archive(plain.client_of(sim, clock), store, clock, part_size=15, policy=policy)
        sim.add()
        clock.go(hours=hours)
    plain.archive(plain.client_of(sim, clock), store, clock, policy=policy)


def bag_of(store: Store, bag: Path, selection: Selection = EVERYTHING) -> Cover:
    """Write a bag into a folder that is made."""
    bag.mkdir()
    return write_bag(store, read_catalogue(store).select(selection), bag, ASKED, each=abreast)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
