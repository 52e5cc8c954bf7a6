"""A store is tried by many writers at once before the first run, and what it did is in the manifest."""

import json
import threading
from dataclasses import replace
from typing import BinaryIO
from uuid import uuid4

import pytest

from formant_archive import ledger
from formant_archive.crew import abreast
from formant_archive.errors import StoreUnavailable, UnsafeStore
from formant_archive.ledger import Head
from formant_archive.manifest import RaceNote
from formant_archive.race import ROUNDS, WRITERS, proved, race
from formant_archive.run import Run
from formant_archive.simulator import Simulator
from formant_archive.stores import PLAIN, Care
from formant_archive.stores.directory import DirectoryStore
from formant_archive.verify import Verification
from tests import plain
from tests.stores.memory import MemoryStore


class LooksFirst(MemoryStore):
    """Honours the condition for one writer after another; all who look at the same time are told to have created."""

    def __init__(self, writers: int) -> None:
        super().__init__()
        self._looked = threading.Barrier(writers)

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        if "/race-" not in key:
            return super().put(key, body, sha256=sha256, care=care)
        is_taken = key in self.objects
        self._looked.wait(20)
        assert isinstance(body, bytes)
        self.objects[key] = body
        return not is_taken


class LosesReplies(MemoryStore):
    """Tells every writer that the key is taken: the winner's first reply was lost."""

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        super().put(key, body, sha256=sha256, care=care)
        return False


class Overwrites(MemoryStore):
    """Ignores the condition."""

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        self.objects.pop(key, None)
        return super().put(key, body, sha256=sha256, care=care)


def archive(store: MemoryStore, head: Head, *, allow_unsafe: bool = False) -> Head:
    """Commit a manifest on top of a head."""
    clock = plain.Clock()
    run = Run(
        head,
        run_id=str(uuid4()),
        flow="plain",
        version="test",
        parameters={},
        agent_id=None,
        since=None,
        full=False,
        policy=plain.EAGER,
        source=plain.SOURCE,
        now=clock(),
    )
    return ledger.commit(store, head, run.draft(clock(), final=True), allow_unsafe=allow_unsafe, each=abreast)


@pytest.fixture
def loser() -> MemoryStore:
    return LooksFirst(WRITERS)


def test_a_store_that_lets_one_of_sixteen_win_loses_no_round() -> None:
    store = MemoryStore()

    assert race(store, "one", rounds=7, each=abreast) == RaceNote(rounds=7, writers=16, lost=0)
    assert sorted(store.objects) == [f"doctor/one/race-{number:04d}" for number in range(1, 8)]


def test_a_folder_wins_its_races(tmp_path: object) -> None:
    assert race(DirectoryStore(f"{tmp_path}/archive"), "one", rounds=5, each=abreast).lost == 0


def test_a_store_that_looks_before_it_writes_loses_every_round(loser: MemoryStore) -> None:
    assert race(loser, "one", rounds=3, each=abreast).lost == 3


def test_a_winner_whose_reply_was_lost_is_no_second_winner() -> None:
    assert race(LosesReplies(), "one", rounds=3, each=abreast).lost == 0


def test_a_store_that_ignores_the_condition_is_found_without_threads() -> None:
    assert race(Overwrites(), "one", rounds=3).lost == 3


def test_a_store_that_cannot_be_reached_is_not_called_unsafe() -> None:
    store = MemoryStore()
    store.fail_next("put", StoreUnavailable("busy"))

    with pytest.raises(StoreUnavailable):
        race(store, "one", each=abreast)


def test_an_empty_archive_is_not_begun_in_a_store_that_loses(loser: MemoryStore) -> None:
    with pytest.raises(UnsafeStore, match=f"in {ROUNDS} of {ROUNDS} rounds.* ARCHIVE_ALLOW_UNSAFE_STORE"):
        proved(loser, Head(), "one", allow_unsafe=False, each=abreast)
    assert {key.split("/")[0] for key in loser.objects} == {"doctor"}


def test_the_first_manifest_says_how_the_store_did_and_later_ones_do_not() -> None:
    store = MemoryStore()

    head = archive(store, proved(store, Head(), "one", allow_unsafe=False, each=abreast))
    tried = len(store.puts)
    again = proved(store, head, "two", allow_unsafe=False, each=abreast)

    assert head.manifest
    assert json.loads(head.manifest.body())["race"] == {"rounds": ROUNDS, "writers": WRITERS, "lost": 0}
    assert "unsafe_store" not in json.loads(head.manifest.body())
    assert (again, len(store.puts)) == (head, tried)
    later = archive(store, again).manifest
    assert later
    assert "race" not in json.loads(later.body())


def test_where_a_loser_is_lived_with_every_manifest_says_so(loser: MemoryStore) -> None:
    head = Head()
    for _ in range(3):
        head = archive(loser, proved(loser, head, "one", allow_unsafe=True, each=abreast), allow_unsafe=True)
        assert head.manifest
        assert head.manifest.unsafe_store

    races = {key for key in loser.objects if key.startswith("doctor/")}
    assert len(races) == ROUNDS, "it is raced once, not before every run"


def test_a_store_that_lost_is_refused_until_it_has_won(loser: MemoryStore) -> None:
    head = archive(loser, proved(loser, Head(), "one", allow_unsafe=True, each=abreast), allow_unsafe=True)
    better = MemoryStore()
    better.objects = loser.objects

    with pytest.raises(UnsafeStore):
        archive(better, head)
    with pytest.raises(UnsafeStore):
        proved(loser, head, "two", allow_unsafe=False, each=abreast)
    manifest = archive(better, proved(better, head, "three", allow_unsafe=False, each=abreast)).manifest
    assert manifest
    assert not manifest.unsafe_store
    assert manifest.race == RaceNote(rounds=ROUNDS, writers=WRITERS, lost=0)


def test_a_race_is_noted_also_where_another_run_was_first() -> None:
    store = MemoryStore()
    ours = proved(store, Head(), "one", allow_unsafe=False, each=abreast)
    archive(store, proved(store, Head(), "two", allow_unsafe=False, each=abreast))

    manifest = archive(store, replace(ours)).manifest

    assert manifest
    assert (manifest.sequence, manifest.race) == (2, ours.race)


def test_what_a_race_leaves_is_no_foreign_object() -> None:
    store, clock = MemoryStore(), plain.Clock()
    plain.archive(plain.client_of(Simulator(5, 5, now=lambda: clock.ms), clock), store, clock)
    race(store, "one", each=abreast)

    assert list(Verification(store).findings()) == []
