"""`formant-archive export`: what it prints, where, with which exit code; and what it leaves where it fails."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import bagit
import pytest

from formant_archive import cli
from formant_archive.catalogue import EVERYTHING, Selection, read_catalogue
from formant_archive.cli.export import in_words
from formant_archive.ledger import read_head
from formant_archive.stores.directory import DirectoryStore
from tests import plain
from tests.export import calls

COMMAND = str(Path(sys.executable).parent / "formant-archive")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive")
    clock = plain.Clock()
    calls.archive(calls.workspace(clock), DirectoryStore(path), clock)
    return path


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Path) -> Path:
    for name in os.environ:
        if name.upper().startswith(("ARCHIVE_", "FORMANT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ARCHIVE_URL", str(archive))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    """Run the command in this process; give its exit code."""
    try:
        return cli.exit_code(lambda: cli.app(("export", *arguments), exit_on_error=False, print_error=False))
    except SystemExit as end:  # how cyclopts ends a command that went well
        return int(end.code or 0)


def ids_of(archive: Path, selection: Selection = EVERYTHING) -> list[str]:
    return [one.entry.conversation_id for one in read_catalogue(DirectoryStore(archive)).select(selection)]


def exported(folder: Path) -> set[str]:
    return {json.loads(path.read_text())["conversation_id"] for path in folder.rglob("record.json")}


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_everything_is_exported_and_what_to_open_and_the_head_are_said(
    capsys: pytest.CaptureFixture[str], archive: Path, place: Path
) -> None:
    assert run("--everything", "--to", "case") == 0

    said, complaints = capsys.readouterr()
    head = read_head(DirectoryStore(archive))
    assert head.link is not None
    wanted = ids_of(archive)
    assert f"exported  {len(wanted)} conversations, " in said
    assert f"head      {head.sequence}:{head.link.sha256}\n" in said
    assert f"open      {place}/case/index.html\n" in said
    assert complaints == ""
    assert left(place) == ["case"]
    assert bagit.Bag("case").validate()
    assert exported(place / "case") == set(wanted)


def test_json_is_one_object(capsys: pytest.CaptureFixture[str], archive: Path, place: Path) -> None:
    assert run("--everything", "--to", "case", "--json") == 0

    said, complaints = capsys.readouterr()
    found = json.loads(said)
    assert (found["conversations"], found["to"], found["damaged"]) == (len(ids_of(archive)), f"{place}/case", [])
    assert complaints == ""


def test_without_a_selection_nothing_is_exported(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert run("--to", "case") == 2

    said, complaints = capsys.readouterr()
    assert said == ""
    assert complaints.count("\n") == 1
    assert "--everything" in complaints
    assert left(place) == []


def test_everything_and_a_selection_contradict_each_other(place: Path) -> None:
    assert run("--to", "case", "--everything", "--agent-id", "101") == 2
    assert left(place) == []


def test_a_selection_exports_what_the_catalogue_selects(archive: Path, place: Path) -> None:
    for number, (arguments, selection) in enumerate(
        (
            (("--agent-id", "101"), Selection(agent_id=101)),
            (("--since", "2026-03-19"), Selection(since=1_773_878_400_000)),
            (("--until", "2026-03-19"), Selection(until=1_773_878_400_000)),
            (("--since", "2026-03-19T02:00:00+02:00"), Selection(since=1_773_878_400_000)),
            (("--outcome", "archived_without_recording"), Selection(outcome="archived_without_recording")),
            (("--status", "completed", "--agent-id", "102"), Selection(agent_id=102)),
        )
    ):
        wanted = set(ids_of(archive, selection))
        assert 0 < len(wanted) < len(ids_of(archive))
        assert run(*arguments, "--to", str(number)) == 0
        assert exported(place / str(number)) == wanted


def test_ids_come_from_the_command_line_and_from_a_file(archive: Path, place: Path) -> None:
    one, two, *_ = ids_of(archive)
    (place / "ids").write_text(f"\ufeff{two}\r\n\r\n", encoding="utf-8")

    assert run(one, "--ids-from", "ids", "--to", "case") == 0

    assert exported(place / "case") == {one, two}


def test_ids_that_are_not_there_are_named_after_the_rest_was_exported(
    capsys: pytest.CaptureFixture[str], archive: Path, place: Path
) -> None:
    one = ids_of(archive)[0]
    strangers = [f"stranger-{number}" for number in range(7)]

    assert run(one, *strangers, "--to", "case") == 1

    said, complaints = capsys.readouterr()
    assert "exported  1 conversations" in said
    assert "ids that are not in the archive: 7\n" in complaints
    assert "stranger-0" in complaints
    assert "stranger-6" not in complaints
    assert exported(place / "case") == {one}


def test_an_id_that_a_filter_leaves_out_is_in_the_archive(
    capsys: pytest.CaptureFixture[str], archive: Path, place: Path
) -> None:
    one = ids_of(archive, Selection(agent_id=101))[0]

    assert run(one, "--agent-id", "102", "--to", "case") == 1

    complaints = capsys.readouterr().err
    assert "not in the archive" not in complaints
    assert "nothing was written" in complaints
    assert left(place) == []


def test_where_nothing_matches_nothing_is_written(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert run("stranger\nline", "--to", "case") == 1

    said, complaints = capsys.readouterr()
    assert said == ""
    assert "stranger%0Aline" in complaints
    assert "nothing was written" in complaints
    assert left(place) == []


def test_a_file_of_ids_that_cannot_be_read_is_one_line(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "binary").write_bytes(b"\xff\xfe")

    assert run("--ids-from", "nowhere", "--to", "case") == 2
    assert run("--ids-from", "binary", "--to", "case") == 2

    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize(("arguments", "taken"), [((), "case"), (("--zip",), "case.zip")])
def test_a_place_that_is_taken_is_refused(
    capsys: pytest.CaptureFixture[str], place: Path, arguments: tuple[str, ...], taken: str
) -> None:
    (place / taken).mkdir()
    (place / taken / "mine").write_text("mine")

    assert run("--everything", "--to", "case", *arguments) == 2

    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in (place / taken).iterdir()] == ["mine"]
    assert left(place) == [taken]


def test_a_zip_is_a_valid_bag_when_it_is_unpacked(place: Path) -> None:
    assert run("--everything", "--to", "case", "--zip") == 0

    assert left(place) == ["case.zip"]
    with zipfile.ZipFile("case.zip") as file:
        file.extractall("out")
    assert left(place / "out") == ["case"]
    assert bagit.Bag("out/case").validate()


def test_damage_is_said_and_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], archive: Path, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copies") / "archive"
    subprocess.run(["cp", "-r", archive, copy], check=True)
    recording = min(copy.rglob("recording.wav"))
    recording.chmod(0o600)
    recording.write_bytes(b"RIFF")

    assert run("--everything", "--to", "case", "--archive-url", str(copy)) == 1

    said, complaints = capsys.readouterr()
    assert f"{recording.parent.name}: recording.wav is altered" in complaints
    assert "open " in said
    assert bagit.Bag("case").validate()


def test_a_store_that_cannot_be_read_ends_it_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path_factory: pytest.TempPathFactory, archive: Path
) -> None:
    copy = tmp_path_factory.mktemp("copies") / "archive"
    subprocess.run(["cp", "-r", archive, copy], check=True)
    # A link that leads in a circle: the store refuses it, also for root.
    recording = min(copy.rglob("recording.wav"))
    recording.unlink()
    recording.symlink_to(recording)

    assert run("--everything", "--to", "case", "--archive-url", str(copy)) == 2

    assert capsys.readouterr().err.count("\n") == 1
    assert left(place) == []


def test_an_empty_archive_has_nothing_to_export(place: Path) -> None:
    assert run("--everything", "--to", "case", "--archive-url", str(place / "empty")) == 1
    assert left(place) == []


def test_vcons_are_another_format(capsys: pytest.CaptureFixture[str], archive: Path, place: Path) -> None:
    assert run("--everything", "--to", "case", "--format", "vcon") == 0

    assert {path.name for path in (place / "case").iterdir()} == {f"{one}.vcon" for one in ids_of(archive)}
    assert f"exported  {len(ids_of(archive))} conversations, " in capsys.readouterr().out


def test_a_bag_holds_its_recordings_wherever_else_they_are(place: Path) -> None:
    assert run("--everything", "--to", "case", "--recordings-at", "https://example.com") == 2
    assert left(place) == []


def test_nothing_that_is_printed_holds_a_phone_number_or_a_word(
    capfd: pytest.CaptureFixture[str], archive: Path
) -> None:
    assert run("--everything", "--to", "case") == 0

    said = "".join(capfd.readouterr())
    numbers = [json.loads(path.read_text())["data"]["contact_number"] for path in archive.rglob("conversation.json")]
    assert len(numbers) > 20
    assert not [number for number in numbers if number in said]
    assert "Meridian" not in said


def test_ctrl_c_leaves_nothing(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    archive = tmp_path_factory.mktemp("many")
    clock = plain.Clock()
    calls.archive(calls.workspace(clock, 400), DirectoryStore(archive), clock)
    (place / "here").mkdir()
    command = [COMMAND, "export", "--everything", "--to", "here/case", "--archive-url", str(archive)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((place / "here").rglob("record.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)

    _, complaints = process.communicate(timeout=60)

    assert (process.returncode, left(place / "here")) == (130, [])
    assert complaints == f"interrupted: nothing was left at {place}/here/case\n"


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(), "everything"),
        (Selection(ids=frozenset({"a", "b"})), "2 ids that were named"),
        (Selection(agent_id="a\nb", status="x: y"), "agent a%0Ab; status x%3A%20y"),
        (
            Selection(since=0, until=1, outcome="gone"),
            "started at 1970-01-01T00:00:00.000Z or later; started before 1970-01-01T00:00:00.001Z; outcome gone",
        ),
    ],
)
def test_a_selection_is_said_in_words_on_one_line(selection: Selection, words: str) -> None:
    assert in_words(selection) == words
