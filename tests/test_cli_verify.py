"""`formant-archive verify`: what it prints, as text and as JSON lines, and its exit codes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from formant_archive import cli
from formant_archive.cli.verify import SHOWN
from formant_archive.findings import CODES
from formant_archive.simulator import Simulator
from formant_archive.stores.directory import DirectoryStore
from tests import plain


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith(("ARCHIVE_", "FORMANT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    clock, folder = plain.Clock(), tmp_path / "archive"
    sim = Simulator(5, 60, never_recordings=0.1, now=lambda: clock.ms)
    plain.archive(plain.client_of(sim, clock), DirectoryStore(folder, fsync=lambda descriptor: None), clock)
    return folder


def run(*arguments: object) -> int:
    try:
        command = ["verify", *map(str, arguments)]
        return cli.exit_code(lambda: cli.app(command, exit_on_error=False, print_error=False))
    except SystemExit as end:
        return int(end.code or 0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_sound_archive_is_valid_with_exit_code_0_and_its_head_to_be_noted(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(archive, "--deep") == 0
    said = capsys.readouterr()
    head = next(line.split()[1] for line in said.out.splitlines() if line.startswith("head"))

    assert said.out.splitlines()[-1] == "VALID"
    assert said.err == ""
    assert head.startswith("1:")
    assert run(archive, "--expect-head", head) == 0


def test_each_finding_is_a_line_of_json_and_the_report_is_the_last(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = next(archive.rglob("recording.wav"))
    payload.unlink()
    (archive / "note.txt").write_text("mine")

    assert run(archive, "--json") == 1
    *findings, report = lines(capsys)

    key = payload.relative_to(archive).as_posix()
    assert {(one["code"], one["severity"], one["key"]) for one in findings} == {
        ("P001", "damage", key),
        ("X003", "warning", "note.txt"),
    }
    assert set(findings[0]) == {"code", "severity", "key", "expected", "found"}
    assert (report["verdict"], report["findings"]) == ("DAMAGED", {"P001": 1, "X003": 1})


def test_a_changed_byte_is_damage_to_who_reads_them_all(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload = next(archive.rglob("recording.wav"))
    body = payload.read_bytes()
    payload.unlink()
    payload.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))

    assert run(archive) == 0
    assert "no bytes read" in capsys.readouterr().out
    assert run(archive, "--deep") == 1
    assert "P002" in capsys.readouterr().out


def test_nothing_to_verify_is_unverified_with_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nothing") == 3
    assert capsys.readouterr().out.splitlines()[-1] == "UNVERIFIED"


def test_a_person_is_shown_some_findings_of_a_code_and_told_how_many_there_are(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        (archive / f"note-{number}.txt").touch()
    run(archive)
    said = capsys.readouterr().out

    assert said.count("X003 warning") == SHOWN["warning"]
    assert f"60 × {CODES['X003'][1]}" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sample", "2/30"],
        ["--deep", "--sample", "1/30"],
        ["--expect-head", "42"],
        ["--since", "yesterday"],
        ["--deeper"],
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    archive: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(archive, *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1


def test_a_head_that_is_not_there_is_damage(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(archive, "--expect-head", f"2:{'ab' * 32}") == 1
    assert "C005" in capsys.readouterr().out


def test_agent_and_times_select(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(archive, "--json")
    everything = lines(capsys)[-1]["conversations"]
    counts = []
    for agent in (101, 102, 103):
        run(archive, "--json", "--agent-id", agent)
        counts.append(lines(capsys)[-1]["conversations"])
    run(archive, "--json", "--since", "2100-01-01")

    assert sum(counts) == everything
    assert min(counts) > 0
    assert lines(capsys)[-1]["conversations"] == 0


def test_every_code_is_in_the_documentation_with_its_meaning_and_severity() -> None:
    page = (Path(__file__).parents[1] / "docs/verify.md").read_text()
    rows = re.findall(r"^\| `([A-Z]\d{3})` \| (\w+) \| (.+) \|$", page, re.MULTILINE)
    told = {code: (severity, meaning) for code, severity, meaning in rows}

    assert told == {code: (severity, meaning) for code, (severity, meaning) in CODES.items()}
