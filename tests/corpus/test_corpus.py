"""Every file of the corpus, end to end without Prefect: archived, pending with its reason, or a typed error."""

import gzip
import hashlib
import logging
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from formant_archive import errors, keys, ledger
from formant_archive.client import FormantClient
from formant_archive.errors import ArchiveError
from formant_archive.records import ArchivedRecording, Record, as_id
from formant_archive.run import Run
from tests.corpus.cases import CANARIES, CASES, FOLDER, HEALTHY, OTHER, Case
from tests.corpus.serving import LIST, Api, in_process, on_a_socket
from tests.plain import Clock, archive
from tests.stores.memory import MemoryStore
from tests.test_client import chain

PAYLOADS = (keys.CONVERSATION, keys.SECOND_CONVERSATION, keys.RECORDING)
IN_PROCESS = [case for case in CASES if not case.is_of_the_wire]
ON_A_SOCKET = [case for case in CASES if case.is_of_the_wire]


def test_there_are_many_cases_and_all_of_them_are_played() -> None:
    files = {path for path in FOLDER.rglob("*") if path.is_file()}
    assert files == {case.path for case in (*IN_PROCESS, *ON_A_SOCKET)}
    assert len(files) >= 350


@pytest.mark.parametrize("case", IN_PROCESS, ids=str)
def test_a_bad_answer_ends_as_its_file_says(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    api, clock = Api(case), Clock()
    base = case.said.get("base", "https://api.example.com")
    Play(case, api, clock, in_process(api, clock, base), caplog).through()
    for request in api.requests_to_links:
        assert not {"authorization", "cookie"} & set(request.headers)
    assert len(api.requests_to_links) == case.said.get("links", len(api.requests_to_links))


@pytest.mark.parametrize("case", ON_A_SOCKET, ids=str)
def test_a_bad_connection_ends_as_its_file_says(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    api, clock = Api(case), Clock()
    Play(case, api, clock, on_a_socket(api, case, clock), caplog).through()


class Play:
    """One case: a run against the bad source, and another once it is mended."""

    def __init__(
        self,
        case: Case,
        api: Api,
        clock: Clock,
        connected: AbstractContextManager[FormantClient],
        log: pytest.LogCaptureFixture,
    ) -> None:
        self._case = case
        self._api = api
        self._clock = clock
        self._connected = connected
        self._log = log
        self._store = MemoryStore()
        self._name = as_id(case.sound.row["conversation_id"]) or ""

    def through(self) -> None:
        said = self._case.said
        self._log.set_level(logging.DEBUG)
        with self._connected as client:
            assert self._run(client, said.get("peak")) == said["expect"]
            self._look()
            before = dict(self._store.objects)
            self._api.mend()
            self._clock.go(hours=1)
            assert self._run(client) == said.get("mended", "archived")
        self._look()
        assert before.items() <= self._store.objects.items()
        assert self._outcome(HEALTHY) == "archived"
        for path in self._api.paths - {LIST}:
            assert re.fullmatch(rf"{LIST}/(?!\.\.?(/|$))[A-Za-z0-9%._~-]+(/recording)?", path)

    def _run(self, client: FormantClient, peak: int | None = None) -> str:
        if peak is not None:
            tracemalloc.start()
        try:
            run = archive(client, self._store, self._clock)
        except ArchiveError as fault:
            for error in chain(fault):
                self._look_for_canaries(f"{error} {error!r} {error.args} {vars(error)}")
            assert self._outcome(self._name) == "unknown"
            named = [kind.__name__ for kind in type(fault).__mro__ if kind.__module__ == errors.__name__]
            return f"error {named[0]}"
        else:
            self._look_at_run(run)
            assert self._outcome(HEALTHY) == "archived"
            return self._outcome(self._name)
        finally:
            if peak is not None:
                assert tracemalloc.get_traced_memory()[1] <= peak
                tracemalloc.stop()

    def _look_at_run(self, run: Run) -> None:
        if not self._api.is_mended:
            assert run.listing.complete is self._case.said.get("complete", True)

    def _outcome(self, name: str) -> str:
        """What has become of a conversation, by the archive alone."""
        pending = ledger.read_head(self._store).state.pending.get(name)
        records = [record for record in self._records() if record.conversation_id == name]
        if pending is not None:
            assert not records
            return f"pending {pending.reason}"
        if not records:
            return "unknown"
        (record,) = records
        return "archived" if isinstance(record.recording, ArchivedRecording) else record.recording.state

    def _records(self) -> Iterator[Record]:
        for key, body in self._store.objects.items():
            if key.endswith(keys.RECORD):
                yield Record.model_validate_json(body)

    def _look(self) -> None:
        """What is stored is whole, in its place, and says nothing that it must not say."""
        for key, body in self._store.objects.items():
            folder, _, last = key.rpartition("/")
            if last in PAYLOADS:
                assert body in self._served(folder, last)
            self._look_for_canaries(key)
            if last not in PAYLOADS:
                self._look_for_canaries((gzip.decompress(body) if key.endswith(".gz") else body).decode())
        for record in self._records():
            for stored in record.objects:
                assert hashlib.sha256(self._store.objects[stored.key]).hexdigest() == stored.sha256
            if record.conversation_id == self._name:
                self._look_at_record(record)
        for entry in self._log.records:
            self._look_for_canaries(f"{entry.getMessage()} {entry.exc_info}")

    def _served(self, folder: str, last: str) -> set[bytes]:
        """All whole answers that may be stored there."""
        payload = "recording" if last == keys.RECORDING else "conversation"
        if folder.endswith(f"/{HEALTHY}"):
            return {OTHER.conversation if payload == "conversation" else OTHER.recording}
        sound, answers = self._case.sound, self._case.answers
        given = [*answers[payload], *answers["link"]] if payload == "recording" else answers[payload]
        return {
            sound.conversation if payload == "conversation" else sound.recording,
            *(answer.body for answer in given if answer.status == 200),
        }

    def _look_at_record(self, record: Record) -> None:
        said = self._case.said
        if "folder" in said:
            assert {stored.key.rpartition("/")[0] for stored in record.objects} == {said["folder"]}
        if self._api.is_mended:
            return
        assert said.get("remark", "") in " ".join(record.remarks)
        assert "remark" in said or not record.remarks
        if "audio" in said and isinstance(record.recording, ArchivedRecording):
            assert record.recording.audio is not None
            assert said["audio"].items() <= record.recording.audio.model_dump().items()

    def _look_for_canaries(self, text: str) -> None:
        assert not [canary for canary in CANARIES if canary in text]
