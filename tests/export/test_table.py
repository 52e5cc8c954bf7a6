"""The table: one line a conversation, for a spreadsheet that must not take any of it for a formula."""

import csv
from pathlib import Path

import pytest

from formant_archive import keys
from formant_archive.catalogue import Holding, read_catalogue
from formant_archive.export.exhibit import Exhibit, show
from formant_archive.export.table import COLUMNS, TABLE, table, utc
from formant_archive.records import ArchivedRecording, PresentTranscript
from tests import plain
from tests.export import calls
from tests.stores.memory import MemoryStore


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    clock, store = plain.Clock(), MemoryStore()
    calls.archive(calls.workspace(clock), store, clock)
    return store


def lines_of(bag: Path, exhibits: list[Exhibit]) -> list[dict[str, str]]:
    with table(bag) as line:
        for exhibit in exhibits:
            line(exhibit)
    with (bag / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def exhibits_of(store: MemoryStore, bag: Path) -> list[Exhibit]:
    return [show(store, one, bag) for one in read_catalogue(store).select()]


def test_each_conversation_has_a_line_that_says_what_its_record_says(store: MemoryStore, tmp_path: Path) -> None:
    exhibits = exhibits_of(store, tmp_path)
    lines = lines_of(tmp_path, exhibits)

    assert tuple(lines[0]) == COLUMNS
    assert len({line["recording"] for line in lines}) > 1
    for line, exhibit in zip(lines, exhibits, strict=True):
        record = exhibit.record
        assert record is not None
        assert line["conversation_id"] == record.conversation_id
        assert line["agent_id"] == str(record.agent_id)
        assert line["start_utc"] == utc(record.start_timestamp)
        assert line["end_utc"] == utc(record.end_timestamp)
        assert line["duration_seconds"] == str(record.duration_seconds)
        assert line["outcome"] == exhibit.entry.outcome
        assert line["manifest"] == str(exhibit.holding.sequence)
        assert line["remarks"] == "; ".join(record.remarks)
        assert line["transcript"] == record.transcript.state
        assert (line["recording"], line["transcript"] == "present") == (
            record.recording.state,
            isinstance(record.transcript, PresentTranscript),
        )
        audio = record.recording.audio if isinstance(record.recording, ArchivedRecording) else None
        assert line["audio_seconds"] == (str(audio.seconds) if audio else "")


def test_the_hashes_of_a_line_are_those_of_the_files_that_it_names(store: MemoryStore, tmp_path: Path) -> None:
    for line in lines_of(tmp_path, exhibits_of(store, tmp_path)):
        for kind in ("conversation", "recording", "record"):
            name = line[f"{kind}_file"]
            if name:
                key = name.removeprefix("data/")
                assert line[f"{kind}_sha256"] == calls.sha256(store.objects[key])
            else:
                assert (kind, line["recording"]) == ("recording", "absent")


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1+1", "@SUM(1)", "\t=1", "\r=1"])
def test_what_a_spreadsheet_takes_for_a_formula_has_an_apostrophe(
    store: MemoryStore, tmp_path: Path, text: str
) -> None:
    [holding, *_] = read_catalogue(store).select()
    entry = holding.entry.model_copy(update={"conversation_id": text, "agent_id": text, "status": text})
    [line] = lines_of(tmp_path, [Exhibit(Holding(entry, 1), None, None, (), ())])

    assert {line["conversation_id"], line["agent_id"], line["status"]} == {f"'{text}"}


@pytest.mark.parametrize("text", ['a"b', "a,b", "a\nb", "a\r\nb", "हाँ", "a;b", "a'b", "\0"])
def test_any_other_text_stands_as_it_is(store: MemoryStore, tmp_path: Path, text: str) -> None:
    [holding, *_] = read_catalogue(store).select()
    entry = holding.entry.model_copy(update={"conversation_id": text, "status": text})
    [line] = lines_of(tmp_path, [Exhibit(Holding(entry, 1), None, None, (), ())])

    assert (line["conversation_id"], line["status"]) == (text, text)


def test_a_number_is_no_formula(store: MemoryStore, tmp_path: Path) -> None:
    [exhibit, *_] = exhibits_of(store, tmp_path)
    assert exhibit.record is not None
    record = exhibit.record.model_copy(update={"duration_seconds": -5})
    [line] = lines_of(tmp_path, [Exhibit(exhibit.holding, record, None, (), ())])

    assert line["duration_seconds"] == "-5"


def test_a_conversation_without_a_record_has_a_line_all_the_same(store: MemoryStore, tmp_path: Path) -> None:
    [holding, *_] = read_catalogue(store).select()
    copy = MemoryStore()
    copy.objects = {key: body for key, body in store.objects.items() if not key.endswith(keys.RECORD)}
    [line] = lines_of(tmp_path, [show(copy, holding, tmp_path)])

    assert line["damage"] == "record.json is missing"
    assert (line["transcript"], line["recording"], line["end_utc"]) == ("unknown", "archived", "")


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [(None, ""), (0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"), (10**30, str(10**30))],
)
def test_a_time_is_written_in_utc_and_what_is_none_as_its_number(timestamp: int | None, text: str) -> None:
    assert utc(timestamp) == text
