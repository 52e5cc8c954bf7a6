"""`formant-archive show`: one conversation for a person; hostile words are harmless, and damage is not hidden."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from formant_archive import keys, register
from formant_archive.catalogue import Holding
from formant_archive.cli.show import show_settled, where
from formant_archive.manifest import digest
from formant_archive.records import ArchivedRecording, Missing, Record
from formant_archive.stores import open_store
from formant_archive.stores.s3 import S3Store
from tests.test_cli import COMMAND, run
from tests.test_cli_list import archive_of, terminal

ESCAPES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
NUMBER = "+919876543210"
SAID = [{"role": "agent", "message": "Hello Rahul"}, {"role": "human", "message": "Yes, I can talk."}]
CALL: dict[str, Any] = {
    "conversation_id": "c",
    "agent_id": 7,
    "contact_number": NUMBER,
    "transcript": SAID,
    "results": {"intent": "paid"},
    "start_timestamp": 1_773_867_201_766,
    "end_timestamp": 1_773_867_206_766,
    "duration_seconds": 5,
    "seconds": 5.0,
}


def shown(folder: Path, capsys: pytest.CaptureFixture[str], name: str = "c", *, code: int = 0) -> tuple[str, str]:
    assert run("show", name, str(folder)) == code
    said, complaints = capsys.readouterr()
    return said, complaints


def as_json(folder: Path, capsys: pytest.CaptureFixture[str], name: str = "c", *, code: int = 0) -> dict[str, Any]:
    assert run("show", name, str(folder), "--json") == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return found


def facts(said: str) -> list[tuple[str, str]]:
    """What stands before the transcript, as names and texts."""
    return [(line[:14].strip(), line[14:]) for line in said.partition("\n\n")[0].splitlines()]


def payload(folder: Path, name: str, conversation_id: str = "c") -> Path:
    [path] = folder.glob(f"conversations/*/*/{keys.component(conversation_id)}/{name}")
    return path


def record_of(folder: Path, conversation_id: str = "c") -> Record:
    return Record.model_validate_json(payload(folder, "record.json", conversation_id).read_bytes())


# What is shown


def test_a_conversation_is_shown_with_its_evidence_and_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(tmp_path, CALL)
    record = record_of(tmp_path)
    assert record.conversation is not None
    assert isinstance(record.recording, ArchivedRecording)

    said, complaints = shown(tmp_path, capsys)

    assert complaints == ""
    found = facts(said)
    for name, text in (
        ("id", "c"),
        ("agent", "7"),
        ("status", "completed"),
        ("started", "2026-03-18 20:53:21 UTC"),
        ("ended", "2026-03-18 20:53:26 UTC"),
        ("duration", "5 s"),
        ("outcome", "archived"),
        ("manifest", "1, the first that names it"),
        ("record", str(payload(tmp_path, "record.json"))),
        ("conversation", str(payload(tmp_path, "conversation.json"))),
        ("audio", str(payload(tmp_path, "recording.wav"))),
        ("", f"{record.conversation.size:,} bytes, sha256 {record.conversation.sha256}"),
        ("", f"{record.recording.size:,} bytes, sha256 {record.recording.sha256}"),
        ("", "5 s, 8,000 Hz, 1 channel(s), pcm_s16le"),
        ("settled", f"2026-03-20 12:00:00 UTC, by run {record.writer.run_id}, version test"),
        ("source", "http://127.0.0.1"),
        ("number", NUMBER),
    ):
        assert (name, text) in found
    assert "\ntranscript\nagent   Hello Rahul\nhuman   Yes, I can talk.\n" in said
    assert said.endswith('results\n{\n  "intent": "paid"\n}\n')


def test_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL)
    record = json.loads(payload(tmp_path, "record.json").read_bytes())
    audio = record["recording"]

    assert as_json(tmp_path, capsys) == {
        "record": record,
        "conversation": json.loads(payload(tmp_path, "conversation.json").read_bytes())["data"],
        "manifest": 1,
        "outcome": "archived",
        "audio": {
            "at": str(payload(tmp_path, "recording.wav")),
            **{name: audio[name] for name in ("key", "size", "sha256")},
        },
        "pending": None,
        "faults": [],
    }


def test_a_conversation_without_a_recording_shows_the_probes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(tmp_path, CALL | {"recording_comes": "never", "status": "no_answer", "transcript_comes": "never"})

    said, _ = shown(tmp_path, capsys)

    found = facts(said)
    at = found.index(("audio", "not expected"))
    assert found[at + 1 : at + 3] == [
        ("", "2026-03-20 12:00:00 UTC: 404 not_found"),
        ("", "2026-03-20 13:00:00 UTC: 404 not_found"),
    ]
    at = found.index(("transcript", "not expected"))
    assert found[at + 1] == ("", "2026-03-20 12:00:00 UTC: 200 transcript_missing")
    assert ("outcome", "archived_without_recording") in found
    assert ("failure", "no_answer_timeout") in found
    assert as_json(tmp_path, capsys)["audio"] is None


def test_a_remark_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL | {"duration_seconds": 61})

    assert ("remark", "duration differs: 61 s listed, 5 s of audio") in facts(shown(tmp_path, capsys)[0])


def test_the_record_that_was_superseded_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    archive_of(tmp_path, CALL | {"recording_comes": "never"}, CALL | {"conversation_id": "other"})
    store, record = open_store(str(tmp_path)), record_of(tmp_path)
    folder = payload(tmp_path, "record.json").parent.relative_to(tmp_path).as_posix() + "/"
    entry = register.seal(
        store, folder, record.model_copy(update={"recording": record_of(tmp_path, "other").recording})
    )

    assert show_settled(store, Holding(entry, 3), as_json=False) == 0

    said = capsys.readouterr().out
    assert ("supersedes", f"{folder}record.json") in facts(said)
    assert ("", f"sha256 {digest(payload(tmp_path, 'record.json').read_bytes())}") in facts(said)
    assert f"{folder}record.2.json" in said


def test_a_conversation_that_is_gone_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    archive_of(tmp_path, CALL)
    store, gone = open_store(str(tmp_path)), Missing(state="gone", probes=())
    fields = {"conversation_id": "g", "conversation": None, "transcript": gone, "recording": gone}
    entry = register.seal(store, "conversations/x/y/g/", record_of(tmp_path).model_copy(update=fields))

    assert show_settled(store, Holding(entry, 3), as_json=False) == 0

    found = facts(capsys.readouterr().out)
    assert {("outcome", "gone"), ("audio", "gone"), ("transcript", "gone")} <= set(found)
    assert "number" not in dict(found)


def test_the_audio_of_a_bucket_is_at_an_s3_address() -> None:
    assert where(S3Store("calls", "voice"), "a/recording.wav") == "s3://calls/voice/a/recording.wav"
    assert where(S3Store("calls", ""), "a/recording.wav") == "s3://calls/a/recording.wav"


def test_a_path_with_odd_signs_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c#d?é"

    assert where(open_store(str(folder)), "x%2Fy/recording.wav") == f"{folder}/x%2Fy/recording.wav"


# How it is found


@pytest.mark.parametrize("name", ["a/b", "..", "ключ", "%2e", "-dash", "x" * 300, "100%"])
def test_a_conversation_is_found_by_its_id_and_by_its_folders_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(tmp_path, CALL | {"conversation_id": name}, CALL | {"conversation_id": "another"})

    for argument in (name, keys.component(name)):
        assert run("show", "--json", "--", argument, str(tmp_path)) == 0
        assert json.loads(capsys.readouterr().out)["record"]["conversation_id"] == name


def test_an_id_is_looked_for_before_a_folders_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, *(CALL | {"conversation_id": name} for name in ("a/b", "a%2Fb")))

    assert as_json(tmp_path, capsys, "a%2Fb")["record"]["conversation_id"] == "a%2Fb"
    assert as_json(tmp_path, capsys, "a/b")["record"]["conversation_id"] == "a/b"


@pytest.mark.parametrize("name", ["nobody", "", "\x1b]0;pwn\x07", "\udcff"])
def test_an_unknown_id_is_one_line_and_1(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL)

    assert run("show", name, str(tmp_path)) == 1

    said, complaints = capsys.readouterr()
    assert (said, complaints.count("\n")) == ("", 1)
    assert "formant-archive list" in complaints
    assert not ESCAPES.search(complaints)
    assert NUMBER not in complaints


def test_an_archive_that_is_not_there_knows_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "c", str(tmp_path / "nothing")) == 1
    assert capsys.readouterr().err.count("\n") == 1


# Waited for


def test_a_pending_conversation_is_shown_with_what_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(tmp_path, waiting=(CALL | {"conversation_id": "p/1", "recording_comes": "later"},))

    said, complaints = shown(tmp_path, capsys, "p/1")

    assert complaints == ""
    found = facts(said)
    for fact in (
        ("id", "p/1"),
        ("outcome", "pending: not settled yet"),
        ("reason", "recording_not_found"),
        ("first seen", "2026-03-20 13:00:00 UTC"),
        ("audio", "asked for in vain"),
        ("", "2026-03-20 13:00:00 UTC: 404 not_found"),
        ("conversation", str(payload(tmp_path, "conversation.json", "p/1"))),
    ):
        assert fact in found
    assert NUMBER not in said
    assert shown(tmp_path, capsys, "p%2F1")[0] == said
    data = as_json(tmp_path, capsys, "p/1")
    assert data["pending"]["reason"] == "recording_not_found"
    assert (data["record"], data["conversation"], data["audio"]) == (None, None, None)


def test_a_pending_conversation_that_failed_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, waiting=(CALL | {"audio": b"<html>"},))

    found = facts(shown(tmp_path, capsys)[0])

    assert ("reason", "not_wav: the recording's body is not sound WAV audio: not_wav") in found
    assert ("", "tries that failed in a row: 1") in found
    assert ("asked again", "by the next run") in found


# Hostile text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]0;pwn\x07", "\\x1b]0;pwn\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\rb", "a\\rb"),
        ("a\tb\x00", "a\\tb\\x00"),
        ("\u2028", "\\u2028"),
        ("[red]x[/red] :smile:", "[red]x[/red] :smile:"),
        ("क्‍ष न‌म 👩‍🚀", "क्‍ष न‌म 👩‍🚀"),
        ("\ud800", "\\ud800"),
    ],
)
def test_hostile_text_is_shown_and_does_nothing(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps(text).encode()
    call = CALL | {"transcript": [{"role": text, "message": text}], "results": {"r": text}, "contact_number": text}
    if text == "\ud800":
        call = CALL | {"transcript": [{"role": "human", "message": "half"}]}
    archive_of(tmp_path, call)
    if text == "\ud800":
        path = payload(tmp_path, "conversation.json")
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b'"half"', body))

    said, _ = shown(tmp_path, capsys, code=int(text == "\ud800"))

    assert expected in said.partition("transcript\n")[2]
    assert not ESCAPES.search(said)
    assert run("show", "c", str(tmp_path), "--json") == int(text == "\ud800")
    said = capsys.readouterr().out
    assert said.isascii()
    json.loads(said)


def test_what_the_output_cannot_encode_is_spelled_out(tmp_path: Path) -> None:
    archive_of(tmp_path, CALL | {"transcript": [{"role": "human", "message": "हाँ, é"}]})
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "PYTHONIOENCODING": "latin-1"}

    done = subprocess.run(
        [COMMAND, "show", "c", str(tmp_path)], env=environment, capture_output=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"human   \u0939\u093e\u0901, " + "é".encode("latin-1") in done.stdout


def test_no_words_look_like_anothers_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [{"role": "human", "message": "No.\nhuman   I agree\r\nagent"}, {"role": "human   Yes", "message": "x"}]
    archive_of(tmp_path, CALL | {"transcript": said})

    turns = shown(tmp_path, capsys)[0].partition("transcript\n")[2].partition("\n\n")[0].splitlines()

    assert turns == ["human   No.", "        human   I agree", "        agent", "(human   Yes) x"]


def test_turns_are_wrapped_on_a_terminal_and_nowhere_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(f"word{number}" for number in range(40)) + " " + "x" * 100
    archive_of(tmp_path, CALL | {"transcript": [{"role": "agent", "message": words}]})

    assert f"agent   {words}\n" in shown(tmp_path, capsys)[0]
    for columns in (80, 40):
        lines = terminal(columns, "show", "c", str(tmp_path))
        turn = lines[lines.index("transcript") + 1 : lines.index("results") - 1]
        assert max(map(len, turn)) <= columns
        assert {line[:8] for line in turn[1:]} == {" " * 8}
        assert "".join(line[8:] for line in turn).replace(" ", "") == words.replace(" ", "")


def test_a_body_of_another_form_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL | {"transcript": {"text": "all in one"}, "results": ["a", None]})

    said, _ = shown(tmp_path, capsys)

    assert '\n(?)     {"text": "all in one"}\n' in said


# 1200: Python 3.12 reads that and cannot write it on several lines; 3.11 does not read it.
@pytest.mark.parametrize("depth", [100, 900, 1200, 5000])
def test_results_that_are_nested_deeply_are_shown_or_said_to_be(
    depth: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(tmp_path, CALL | {"results": "deep"})
    path = payload(tmp_path, "conversation.json")
    damage(path, b'"deep"', b"[" * depth + b"]" * depth)

    said, complaints = shown(tmp_path, capsys, code=1)

    assert said.count("[") == depth or "nested too deeply" in complaints or "not JSON" in complaints
    assert run("show", "c", str(tmp_path), "--json") == 1
    assert capsys.readouterr().out.startswith("{")


# Damage


def damage(path: Path, old: bytes = b"", new: bytes = b"") -> None:
    path.chmod(0o600)
    body = path.read_bytes()
    assert old in body
    path.write_bytes(body.replace(old, new, 1) if old else b"?" + body[1:])


def test_words_that_were_altered_are_shown_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL)
    damage(payload(tmp_path, "conversation.json"), b"Hello Rahul", b"Hello Rahel")

    said, complaints = shown(tmp_path, capsys, code=1)

    assert "agent   Hello Rahel" in said
    assert complaints.startswith("error: conversations/")
    assert "conversation.json is not what was archived: its SHA-256 is " in complaints
    assert complaints.count("\n") == 1
    assert "Rahel" not in complaints
    data = as_json(tmp_path, capsys, code=1)
    assert [complaints] == [f"error: {fault}\n" for fault in data["faults"]]
    assert data["conversation"]["transcript"][0]["message"] == "Hello Rahel"


def test_a_record_that_was_altered_is_shown_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL)
    damage(payload(tmp_path, "record.json"), b'"status":"completed"', b'"status":"busy"')

    said, complaints = shown(tmp_path, capsys, code=1)

    assert ("status", "busy") in facts(said)
    assert "Hello Rahul" in said
    assert "record.json is not what was archived" in complaints


@pytest.mark.parametrize("name", ["record.json", "conversation.json", "recording.wav"])
@pytest.mark.parametrize("way", ["missing", "garbage"])
def test_what_is_missing_or_garbage_is_said_and_the_rest_is_shown(
    name: str, way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(tmp_path, CALL)
    path = payload(tmp_path, name)
    if way == "missing":
        path.unlink()
    else:
        path.chmod(0o600)
        path.write_bytes(b"\xff garbage")

    said, complaints = shown(tmp_path, capsys, code=1)

    assert name in complaints
    assert ("id", "c") in facts(said)
    assert ("status", "completed") in facts(said)
    assert ("Hello Rahul" in said) == (name != "conversation.json")
    assert NUMBER not in complaints


def test_a_record_cannot_lead_to_another_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL)
    (tmp_path / "secret").write_text("do not show")
    damage(payload(tmp_path, "record.json"), b'"key":"conversations', b'"key":"../secret')

    said, complaints = shown(tmp_path, capsys, code=1)

    assert "do not show" not in said
    assert "name different payloads" in complaints
    assert "Hello Rahul" in said


def test_damage_is_red_on_a_terminal(tmp_path: Path) -> None:
    archive_of(tmp_path, CALL)
    payload(tmp_path, "recording.wav").unlink()

    assert terminal(80, "show", "c", str(tmp_path), colours=True)[-1].startswith("\x1b[31merror: conversations/")


def test_an_archive_that_is_damaged_itself_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, CALL)
    next((tmp_path / "manifests" / "parts").iterdir()).unlink()

    assert run("show", "c", str(tmp_path)) == 1
    assert capsys.readouterr().err.count("\n") == 1
