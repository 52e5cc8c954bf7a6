"""`formant-archive list`: which conversations, in which order, on lines that can be read and copied."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from formant_archive.catalogue import Selection
from formant_archive.cli.list import MEASURED, Layout, Row, print_rows, select_pending
from formant_archive.ledger import read_head
from formant_archive.policy import DOCUMENTED_STATUSES, Policy
from formant_archive.records import milliseconds
from formant_archive.simulator import Conversation, Simulator
from formant_archive.stores import open_store
from tests import plain
from tests.test_cli import COMMAND, run

NOW = timedelta(0)
#: What does not come is called absent when it has been asked for twice.
HASTY = Policy(statuses=DOCUMENTED_STATUSES, grace=NOW, probe_interval=NOW, results_wait=NOW)
UTC_2026_03_20 = datetime(2026, 3, 20, tzinfo=UTC)
HOSTILE = "\x1b]0;pwn\x07 \x9b31m \u202e \n x"


def archive_of(
    folder: Path, *calls: dict[str, Any], waiting: tuple[dict[str, Any], ...] = (), **population: Any
) -> Simulator:
    """Archive a simulated workspace into a folder; `waiting` calls come in the last run, and are not settled by it."""
    clock = plain.Clock()
    sim = Simulator(3, population.pop("conversations", 0), now=lambda: clock.ms, **population)
    store = open_store(str(folder))
    for call in calls:
        sim.add(**call)
    for news in ((), waiting):
        for call in news:
            sim.add(**call)
        plain.archive(plain.client_of(sim, clock), store, clock, policy=HASTY)
        clock.go(hours=1)
    return sim


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Conversation]]:
    folder = tmp_path_factory.mktemp("archive")
    waiting = (
        {"recording_comes": "later", "conversation_id": "late"},
        {"status": "in_progress", "conversation_id": "open"},
    )
    sim = archive_of(folder, conversations=40, never_recordings=0.2, waiting=waiting)
    return str(folder), sim.conversations


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run("list", *arguments, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def ids(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    return [one["conversation_id"] for one in listed(capsys, *arguments)]


def terminal(columns: int, *arguments: str, colours: bool = False) -> list[str]:
    """Run the installed command on a terminal of so many columns; give its lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "TERM": "xterm", "LANG": "C.UTF-8"}
    with subprocess.Popen(
        [COMMAND, *arguments], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        finally:
            os.close(ours)
    assert process.wait(timeout=30) in {0, 1}
    text = said.decode() if colours else re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    return text.replace("\r", "").splitlines()


# What is listed


def test_all_settled_conversations_come_newest_first(
    many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, truth = many
    settled = [one for one in truth if one.conversation_id not in {"late", "open"}]

    found = listed(capsys, url)

    assert {one["conversation_id"] for one in found} == {one.conversation_id for one in settled}
    starts = [one["start_timestamp"] for one in found]
    assert starts == sorted(starts, reverse=True)
    assert {one["outcome"] for one in found} == {"archived", "archived_without_recording"}
    assert {one["manifest"] for one in found} == {1, 2}


@pytest.mark.parametrize("agent", ["102", "unknown", "999"])
def test_an_agent_selects(agent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, *({"agent_id": one, "conversation_id": f"of {one}"} for one in (101, 102, None)))

    assert ids(capsys, str(tmp_path), "--agent-id", agent) == {"102": ["of 102"], "unknown": ["of None"]}.get(agent, [])


@pytest.mark.parametrize("outcome", ["archived", "archived_without_recording", "gone"])
def test_an_outcome_selects(
    outcome: str, many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = listed(capsys, many[0], "--outcome", outcome)

    assert len(found) == sum(one["outcome"] == outcome for one in listed(capsys, many[0]))
    assert bool(found) == (outcome != "gone")


def test_a_status_selects(many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]) -> None:
    found = set(ids(capsys, many[0], "--status", "busy"))

    assert found == {one.conversation_id for one in many[1] if one.status == "busy"} != set()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "2026-03-19"], ["noon", "midnight"]),
        (["--until", "2026-03-19"], ["before"]),
        (["--until", "2026-03-19T00:00:00"], ["before"]),
        (["--since", "2026-03-19T12:00:00"], ["noon"]),
        (["--since", "2026-03-19T12:00:01"], []),
        (["--since", "2026-03-19T13:00:00+01:00"], ["noon"]),
        (["--since", "2026-03-18", "--until", "2026-03-19T12:00:00"], ["midnight", "before"]),
    ],
    ids=" ".join,
)
def test_since_counts_and_until_does_not_and_both_are_in_utc(
    arguments: list[str],
    expected: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    day = UTC_2026_03_20 - timedelta(days=1)
    starts = {"before": day - timedelta(milliseconds=1), "midnight": day, "noon": day + timedelta(hours=12)}
    calls = [{"conversation_id": name, "start_timestamp": milliseconds(at)} for name, at in starts.items()]
    archive_of(tmp_path, *calls)

    assert ids(capsys, str(tmp_path), *arguments) == expected


def test_the_limit_takes_the_newest_and_says_that_there_are_more(
    many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]
) -> None:
    everything = ids(capsys, many[0])

    assert ids(capsys, many[0], "--limit", "3") == everything[:3]
    run("list", many[0], "--limit", "3")
    assert "3 conversations, and there are more: raise --limit" in capsys.readouterr().err
    run("list", many[0], "--limit", str(len(everything)))
    assert "more" not in capsys.readouterr().err


# What is waited for


def test_the_conversations_that_are_waited_for_are_listed_with_the_reason(
    many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = listed(capsys, many[0], "--outcome", "pending")

    assert {one["conversation_id"]: one["reason"] for one in found} == {"late": "recording_not_found", "open": "open"}
    assert {one["outcome"] for one in found} == {"pending"}
    run("list", many[0], "--outcome", "pending")
    said = capsys.readouterr()
    assert re.search(r"completed +recording_not_found +late$", said.out, re.MULTILINE)
    assert said.err == "2 conversations\n"


def test_a_list_says_that_others_are_not_settled_yet(
    many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]
) -> None:
    run("list", many[0])
    assert "; 2 not settled yet: --outcome pending" in capsys.readouterr().err
    run("list", many[0], "--status", "in_progress")
    assert capsys.readouterr().err == "none; 1 not settled yet: --outcome pending\n"
    run("list", many[0], "--outcome", "archived")
    assert "pending" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["new", "old", "none"]),
        (Selection(agent_id="7"), ["old"]),
        (Selection(agent_id="unknown"), ["none"]),
        (Selection(since=2000), ["new"]),
        (Selection(until=2000), ["old"]),
        (Selection(status="failed"), ["new"]),
    ],
)
def test_what_is_waited_for_is_selected_as_what_is_settled(
    selection: Selection, expected: list[str], tmp_path: Path
) -> None:
    row = {"start_timestamp": None, "end_timestamp": None}
    waiting: tuple[dict[str, Any], ...] = (
        {"conversation_id": "old", "agent_id": 7, "start_timestamp": 1000},
        {"conversation_id": "new", "agent_id": 8, "start_timestamp": 2000, "status": "failed"},
        {"conversation_id": "none", "agent_id": None, "row": row},
    )
    archive_of(tmp_path, waiting=tuple(one | {"recording_comes": "later"} for one in waiting))

    found = select_pending(read_head(open_store(str(tmp_path))), selection)

    assert [one.conversation_id for one in found] == expected


# How it looks


def test_a_line_has_its_columns_in_their_order_and_the_id_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = milliseconds(UTC_2026_03_20) + 59_999
    archive_of(tmp_path, {"conversation_id": "x" * 300, "agent_id": 7, "start_timestamp": start})

    assert run("list", str(tmp_path)) == 0

    assert capsys.readouterr() == (
        f"2026-03-20 00:00  7      completed  archived  {'x' * 300}\n",
        "1 conversation\n",
    )


@pytest.mark.parametrize(("columns", "lines"), [(100, 1), (80, 1), (79, 2), (60, 2), (30, 2)])
def test_on_a_terminal_a_conversation_has_one_line_or_its_id_has_one_of_its_own(
    columns: int, lines: int, tmp_path: Path
) -> None:
    sim = archive_of(tmp_path, conversations=6, completed=1)
    found = terminal(columns, "list", str(tmp_path))

    assert len(found) == (6 + 1) * lines + 1
    assert found[0].split()[:2] == ["START", "(UTC)"]
    shown = [line.strip() if lines == 2 else line.split()[-1] for line in found[:-1][lines - 1 :: lines]]
    assert set(shown[1:]) == {one.conversation_id for one in sim.conversations}
    if columns >= 60:
        assert max(map(len, found[:-1])) <= columns
    assert found[-1] == "6 conversations"


def test_the_columns_are_aligned(many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]) -> None:
    run("list", many[0])

    said = capsys.readouterr().out.splitlines()
    assert len({line.rindex("  ") for line in said}) == 1


def test_a_column_is_not_as_wide_as_what_is_odd_in_it() -> None:
    layout = Layout.of([Row("s", "a" * 500, "x", "o", "id")], None)

    assert layout.line(Row("s", "a", "x", "o", "id")) == f"s  a{' ' * 19}  x  o  id"


def test_a_long_list_is_not_held_in_memory_for_its_looks(capsys: pytest.CaptureFixture[str]) -> None:
    taken = 0

    def rows() -> Any:
        nonlocal taken
        for taken in range(1, MEASURED * 3):
            yield Row("s", "a", "x", "o", str(taken))
            if taken > MEASURED:
                assert capsys.readouterr().out, "nothing is printed before all is read"

    assert print_rows(rows()) == MEASURED * 3 - 1


def test_hostile_text_does_nothing_to_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive_of(tmp_path, {"conversation_id": HOSTILE, "agent_id": HOSTILE, "row": {"agent_id": HOSTILE}})

    for arguments in ((), ("--json",)):
        assert run("list", str(tmp_path), *arguments) == 0
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
    assert run("list", str(tmp_path)) == 0
    assert "\\x1b]0;pwn\\x07 \\x9b31m \\u202e \\n x" in capsys.readouterr().out


@pytest.mark.parametrize("start", [None, 10**18, -(10**18)])
def test_a_start_that_is_none_is_shown_all_the_same(
    start: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive_of(tmp_path, {"conversation_id": "odd", "row": {"start_timestamp": start}})

    assert run("list", str(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("-  " if start is None else f"{start} ms, which is no date  ")


# Ends


def test_nothing_that_matches_is_well(many: tuple[str, list[Conversation]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", many[0], "--since", "2040-01-01") == 0
    assert capsys.readouterr() == ("", "none\n")


def test_an_archive_that_is_not_there_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", str(tmp_path / "nothing")) == 0
    assert capsys.readouterr() == ("", "none: no run has committed anything there yet\n")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "yesterday"),
        ("--until", "2026-02-30"),
        ("--limit", "0"),
        ("--limit", "-1"),
        ("--limit", "x"),
        ("--outcome", "adopted"),
        ("--bogus",),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_2(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", str(tmp_path), *arguments) == 2

    said, complaints = capsys.readouterr()
    assert (said, complaints.count("\n")) == ("", 1)
    assert complaints.startswith("error: ")


@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_that_goes_away_ends_it_quietly(arguments: tuple[str, ...], tmp_path: Path) -> None:
    archive_of(tmp_path, conversations=3, completed=1)
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    with subprocess.Popen(
        [COMMAND, "list", str(tmp_path), *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaints = process.stderr.read()
        code = process.wait(timeout=30)

    assert (code, complaints) == (141, b"")
