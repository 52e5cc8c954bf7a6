"""The life of an archive on each kind of store: filled, late recordings, a killed run, two writers."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from formant_archive import keys, ledger
from formant_archive.records import Entry
from formant_archive.simulator import Simulator
from formant_archive.stores import Store
from formant_archive.stores.directory import DirectoryStore
from formant_archive.stores.s3 import S3Store
from tests.plain import Clock, Crash, archive, client_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "archive")
    client: S3Client = request.getfixturevalue("client")
    return S3Store(request.getfixturevalue("bucket"), "an/archive", client=client)


def test_an_archive_lives_through_kills_late_recordings_and_a_second_writer(store: Store) -> None:
    clock = Clock()
    sim = Simulator(5, 120, now=lambda: clock.ms, audio_seconds=(0.1, 0.2), late_recordings=0.2)
    client = client_of(sim, clock)
    steps = iter(range(1000))

    def die(step: str) -> None:
        if next(steps) == 120:
            raise Crash

    def overtake(step: str) -> None:
        if step == "commit":
            archive(client, store, clock, agent_id=102)

    with pytest.raises(Crash):
        archive(client, store, clock, between=die)
    archive(client, store, clock, between=overtake)
    sim.release()
    archive(client, store, clock)

    head = ledger.read_head(store)
    assert head.sequence == 3
    assert not head.state.pending
    entries = [
        entry
        for number in range(1, head.sequence + 1)
        for part in ledger.read_manifest(store, number).manifest.entries  # type: ignore[union-attr]
        for entry in ledger.read_part(store, part, Entry)
    ]
    completed = [one for one in sim.conversations if one.status == "completed"]
    assert {entry.conversation_id for entry in entries} == {one.conversation_id for one in completed}
    for truth in completed:
        folder = next(one.record_key for one in entries if one.conversation_id == truth.conversation_id)
        folder = folder.removesuffix(keys.RECORD)
        assert store.get(folder + keys.RECORDING) == truth.recording
        assert store.get(folder + keys.CONVERSATION) == truth.conversation_json
