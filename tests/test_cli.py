"""The command line: what it prints, where, and with which exit code it ends; a mistake is one line, never a trace."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from formant_archive import cli, ledger
from formant_archive.cli.status import print_status
from formant_archive.errors import ApiUnavailable, ArchiveDamaged, ArchiveError, StoreUnavailable, UsageError
from formant_archive.ledger import Draft, Head
from formant_archive.manifest import OUTCOMES, Changes, ListingNote, RunNote, Scope
from formant_archive.records import Entry, Outcome, Pending, StoredObject, milliseconds
from formant_archive.status import Holdings, Status
from formant_archive.stores import open_store

COMMAND = str(Path(sys.executable).parent / "formant-archive")
SHA = "ab" * 32
MARK = 1_773_867_201_766  # 2026-03-18T20:53:21.766Z
STARTED = datetime.now(UTC) - timedelta(minutes=3)


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith(("ARCHIVE_", "FORMANT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    """Run the command in this process; give its exit code."""
    try:
        return cli.exit_code(lambda: cli.app(arguments, exit_on_error=False, print_error=False))
    except SystemExit as end:  # how cyclopts ends a command that went well
        return int(end.code or 0)


def entry(name: str, outcome: Outcome = "archived", agent: int | str | None = 101, start: int | None = MARK) -> Entry:
    folder = f"conversations/{name}/"
    payloads = {"archived": ("conversation.json", "recording.wav"), "gone": ()}.get(outcome, ("conversation.json",))
    return Entry(
        conversation_id=name,
        agent_id=agent,
        start_timestamp=start,
        status="completed",
        outcome=outcome,
        record_key=f"{folder}record.json",
        record_sha256=SHA,
        objects=tuple(StoredObject(key=folder + payload, size=1_000_000, sha256=SHA) for payload in payloads),
    )


def pending(name: str, **fields: Any) -> Pending:
    known = {"conversation_id": name, "status": "completed", "folder": f"conversations/{name}/"}
    return Pending.model_validate(known | {"first_seen_at": STARTED, "scopes": ("all",)} | fields)


def draft(number: int, entries: list[Entry], waiting: list[Pending], before: Scope, after: Scope) -> Draft:
    run_note = RunNote(
        id=f"run-{number}",
        part=1,
        flow="archive_conversations",
        version="1",
        parameters={"agent_id": None},
        started_at=STARTED,
        committed_at=STARTED,
    )
    listing = ListingNote(
        scope="all",
        order="newest_first",
        full=True,
        since=None,
        pages=1,
        rows=9,
        unique=9,
        total_first=9,
        total_last=9,
        complete=True,
    )
    held = {one.conversation_id: one for one in waiting}
    return Draft(
        run=run_note,
        source="https://api.example",
        listing=listing,
        counts=dict.fromkeys(("listed", "carried", *OUTCOMES), 0),
        entries=[entry.line() for entry in entries],
        changes=Changes("all", before, after, frozenset(one.conversation_id for one in entries), held),
        overlap=6 * 3_600_000,
    )


def fill(url: str, **scope: Any) -> Head:
    """An archive of two runs: four conversations settled, one of them named twice, three pending."""
    store = open_store(url)
    after = Scope(MARK, 9, "newest_first", statuses=frozenset({"completed"}))
    waiting = [
        pending("p1", reason="recording_not_found"),
        pending("p2", reason="truncated", message="cut off", failed=True, failures=2),
        pending("p3", reason="open", status="in_progress", start_timestamp=milliseconds(STARTED) - 25 * 3_600_000),
    ]
    first = [entry("a", start=MARK - 86_400_000), entry("b", agent=102), entry("c", "archived_without_recording")]
    head = ledger.commit(store, Head(), draft(1, first, waiting, Scope(), after))
    second = [entry("a", "adopted", start=MARK - 86_400_000), entry("d", "gone", agent=None, start=None)]
    return ledger.commit(store, head, draft(2, second, [], after, replace(after, **scope)))


# status


def test_the_status_of_an_empty_archive_says_that_there_is_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("status", str(tmp_path / "new")) == 0

    assert capsys.readouterr() == (f"{tmp_path}/new: no run has committed anything yet\n", "")
    assert not (tmp_path / "new").exists(), "looking makes nothing"


def test_the_status_of_an_archive_names_what_is_in_it_and_what_is_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = fill(str(tmp_path))

    assert run("status", str(tmp_path)) == 0

    said, complaints = capsys.readouterr()
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in said.splitlines() if not line.startswith(" ")}
    assert complaints == ""
    assert lines["settled"] == "4 conversations, 2026-03-17 to 2026-03-18"
    assert "2 with a recording, 1 gone; 5.0 MB" in said
    assert lines["agents"] == "101: 2, 102: 1, None: 1"
    assert lines["pending"].startswith("3 (")
    assert all(f"1 {reason}" in lines["pending"] for reason in ("recording_not_found", "truncated", "open"))
    assert lines["failed"].startswith("1 of them")
    assert lines["open"].startswith("1 of them")
    assert lines["scope"] == "all: complete up to 2026-03-18 20:53:21 UTC"
    assert re.search(r"^last run +\d+ min ago, listing complete$", said, re.MULTILINE)
    assert head.link is not None
    assert lines["head"] == f"2:{head.link.sha256}"


def test_the_status_as_json_parses_and_says_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    head = fill(str(tmp_path))

    assert run("status", str(tmp_path), "--json") == 0

    said, complaints = capsys.readouterr()
    found = json.loads(said)
    assert complaints == ""
    assert head.manifest is not None
    assert head.link is not None
    assert found["head"] == head.link.model_dump()
    assert found["archive"] == head.manifest.model_dump(mode="json")
    assert found["holdings"] == {
        "conversations": 4,
        "recordings": 2,
        "gone": 1,
        "outcomes": {"archived": 2, "archived_without_recording": 1, "gone": 1},
        "bytes": 5_000_000,
        "agents": {"101": 2, "102": 1, "None": 1},
        "first_start": MARK - 86_400_000,
        "last_start": MARK,
    }
    assert found["pending"] == {
        "reasons": {"recording_not_found": 1, "truncated": 1, "open": 1},
        "failed": 1,
        "overdue": 0,
        "open_for_more_than_24_h": 1,
    }


def test_the_status_of_an_empty_archive_as_json_parses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("status", str(tmp_path), "--json") == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["archive"], found["head"], found["holdings"]["conversations"]) == (None, None, 0)


def test_what_should_have_been_settled_by_now_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    late = pending("p", first_seen_at=STARTED - timedelta(days=9))
    ledger.commit(open_store(str(tmp_path)), Head(), draft(1, [], [late], Scope(), Scope(MARK)))

    run("status", str(tmp_path))
    assert re.search(r"^overdue +1 of them", capsys.readouterr().out, re.MULTILINE)
    run("status", str(tmp_path), "--json")
    assert json.loads(capsys.readouterr().out)["pending"]["overdue"] == 1


def test_the_newest_manifest_alone_tells_all_but_what_is_settled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = fill(str(tmp_path))
    run("status", str(tmp_path))
    whole = capsys.readouterr().out.splitlines()
    settled = [line for line in whole if "with a recording" in line or line.startswith(("settled", "agents"))]
    # The parts of earlier manifests are not read.
    assert head.manifest is not None
    for part in head.manifest.entries:
        (tmp_path / part.key).unlink()

    assert run("status", str(tmp_path), "--head-only") == 0

    assert capsys.readouterr().out.splitlines() == [line for line in whole if line not in settled]
    assert len(settled) == 3
    assert run("status", str(tmp_path), "--head-only", "--json") == 0
    assert json.loads(capsys.readouterr().out)["holdings"] is None
    assert run("status", str(tmp_path)) == 1


@pytest.mark.parametrize("head_only", [(), ("--head-only",)])
def test_the_status_for_prometheus_can_be_read_by_it(
    head_only: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = fill(str(tmp_path))

    assert run("status", str(tmp_path), "--prometheus", *head_only) == 0

    said, complaints = capsys.readouterr()
    samples = [sample for family in text_string_to_metric_families(said) for sample in family.samples]
    assert complaints == ""
    assert said.endswith("\n")
    assert head.manifest is not None
    assert {sample.labels["archive_id"] for sample in samples} == {head.manifest.archive_id}
    assert next(sample.value for sample in samples if sample.name == "formant_archive_failed_conversations") == 1
    assert any(sample.name == "formant_archive_conversations" for sample in samples) == (not head_only)


def test_the_status_for_prometheus_is_utf_8_wherever_it_is_printed(tmp_path: Path) -> None:
    note = pending("p", reason="größer\t\u202e")
    ledger.commit(open_store(str(tmp_path)), Head(), draft(1, [], [note], Scope(), Scope(MARK)))
    environment = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "latin-1"}

    done = subprocess.run(
        [COMMAND, "status", str(tmp_path), "--prometheus"], env=environment, capture_output=True, check=True
    )

    assert 'reason="größer\t\u202e"' in done.stdout.decode("utf-8")


def test_prometheus_gets_nothing_where_the_archive_is_damaged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fill(str(tmp_path))
    damaged(tmp_path, "manifests/*2.json")

    assert run("status", str(tmp_path), "--prometheus") == 1
    assert capsys.readouterr().out == ""


def test_prometheus_gets_nothing_where_the_archive_is_out_of_reach(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Port 9 is nobody's: a connection to it is refused at once.
    for name, value in {
        "ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)

    assert run("status", "s3://bucket/calls", "--prometheus") == 3
    assert capsys.readouterr().out == ""


def test_the_archive_of_the_environment_is_the_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(str(tmp_path / "archive"))
    monkeypatch.setenv("ARCHIVE_URL", str(tmp_path / "archive"))

    assert run("status") == 0
    assert "4 conversations" in capsys.readouterr().out


def test_no_secret_of_the_settings_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(str(tmp_path))
    monkeypatch.setenv("FORMANT_API_KEY", "sk-very-secret")

    run("status", str(tmp_path))
    run("status", str(tmp_path), "--json")

    assert "sk-very-secret" not in "".join(capsys.readouterr())


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = str(tmp_path / "[red]calls[" / "bold] :smile: archive")
    store = open_store(url)
    odd = [entry("a", agent="[blink]x"), entry("b", agent="y[/blink]")]
    ledger.commit(store, Head(), draft(1, odd, [pending("p", reason="[dim]")], Scope(), Scope(MARK)))

    assert run("status", url) == 0

    said = capsys.readouterr().out
    assert all(text in said for text in (url, "[blink]x: 1", "y[/blink]: 1", "1 [dim]"))


def test_the_head_can_be_copied_whole_however_long_the_archive_grows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = fill(str(tmp_path))
    assert head.manifest is not None
    old = replace(head, manifest=head.manifest.model_copy(update={"sequence": 123_456_789_012}))
    found = Status(datetime.now(UTC), old, Holdings())

    print_status("/a/long/address/" * 9, found)

    said = capsys.readouterr().out
    assert old.link is not None
    assert f"123456789012:{old.link.sha256}" in said
    assert "/a/long/address/" * 9 in said


def test_a_watermark_that_is_no_date_does_not_hide_the_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # A scope's watermark is what the API gives, up to our clock, and the API may give a time before the year 1.
    fill(str(tmp_path), watermark=-(10**17))

    assert run("status", str(tmp_path)) == 0
    assert "4 conversations" in capsys.readouterr().out


# Exit codes


def damaged(tmp_path: Path, name: str) -> None:
    (file,) = list(tmp_path.glob(name))[:1]
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-5])


@pytest.mark.parametrize("name", ["manifests/*2.json", "manifests/*1.json", "manifests/parts/*"])
def test_a_damaged_archive_ends_with_1_and_one_line(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fill(str(tmp_path))
    damaged(tmp_path, name)

    assert run("status", str(tmp_path)) == 1

    said, complaints = capsys.readouterr()
    assert said == ""
    assert complaints.startswith("error: ")
    assert complaints.count("\n") == 1


def test_a_lost_manifest_ends_with_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fill(str(tmp_path))
    next((tmp_path / "manifests" / "parts").iterdir()).unlink()

    assert run("status", str(tmp_path)) == 1
    assert "is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("status",), "ARCHIVE_URL"),
        (("status", "ftp://user:hidden@host/x"), "ARCHIVE_URL"),
        (("status", "s3://"), "ARCHIVE_URL"),
        (("status", "a", "b"), "b"),
        (("status", "a", "--json", "--prometheus"), "--prometheus"),
        (("status", "--bogus"), "--bogus"),
        (("status", "--bogus", "line\nline"), "--bogus"),
        (("bogus",), "bogus"),
        (("--bogus",), "--bogus"),
        (("simulate", "--port", "x"), "--port"),
        (("simulate", "--order", "sideways"), "--order"),
        (("simulate", "--port", "65536"), "65536"),
        (("simulate", "--port=-1"), "-1"),
        (("simulate", "--late-recordings", "7"), "late"),
        (("simulate", "--late-recordings", "0.6", "--never-recordings", "0.6"), ""),
        (("simulate", "--faults", "-1", "--conversations=-1"), ""),
    ],
    ids=lambda value: " ".join(value).encode("unicode_escape").decode() if isinstance(value, tuple) else "",
)
def test_a_mistake_in_the_command_ends_with_2_and_one_line(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2

    said, complaints = capsys.readouterr()
    assert said == ""
    assert complaints.startswith("error: ")
    assert complaints.count("\n") == 1
    assert named in complaints
    assert "hidden" not in complaints


def test_a_port_that_is_taken_ends_with_2_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("simulate", "--port", str(port), "--conversations", "1") == 2

    said, complaints = capsys.readouterr()
    assert (said, complaints.count("\n")) == ("", 1)
    assert str(port) in complaints
    assert "--port" in complaints


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("say it"), 2),
        (StoreUnavailable("say it"), 3),
        (ApiUnavailable("say it"), 3),
        (ArchiveDamaged("say [it] [/it] :x:"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else type(value).__name__,
)
def test_an_error_is_one_line_on_the_errors_channel_and_its_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    assert cli.exit_code(work) == code

    said, complaints = capsys.readouterr()
    assert said == ""
    assert complaints == f"error: {error}\n" if isinstance(error, ArchiveError) else complaints.count("\n") == 1


def test_a_code_that_work_gives_is_the_exit_code() -> None:
    assert list(map(cli.exit_code, (lambda: 0, lambda: 1, lambda: 3, lambda: None))) == [0, 1, 3, 0]


def test_an_end_is_said_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    cli.end("7 [listed]", 0)
    cli.end("7 [failed]", 1)

    assert capsys.readouterr() == ("7 [listed]\n", "failed: 7 [failed]\n")


# The installed command


def installed(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "ARCHIVE_URL": "archive", "COLUMNS": "200"}
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_installed_command_tells_its_codes(tmp_path: Path) -> None:
    fill(str(tmp_path / "archive"))
    well = installed("status", "--json")
    wrong = installed("status", "--jsn")

    assert (well.returncode, well.stderr) == (0, "")
    assert json.loads(well.stdout)["holdings"]["conversations"] == 4
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: ")
    assert wrong.stderr.count("\n") == 1


def test_the_help_of_simulate_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", "--help") == 0

    said = capsys.readouterr().out
    for name in ("port", "seed", "conversations", "order", "faults", "rate-limit", "arrivals", "late-after"):
        assert f"--{name}" in said


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("status", "--help"), ()], ids=range(4))
def test_help_and_version_end_well(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 0

    said, complaints = capsys.readouterr()
    assert said
    assert complaints == ""


@contextmanager
def simulated(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The installed simulator on a free port, and its base URL."""
    process = subprocess.Popen(
        [COMMAND, "simulate", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        name, _, url = process.stdout.readline().strip().partition("=")
        assert name == "FORMANT_BASE_URL", process.communicate(timeout=10)
        assert process.stdout.readline() == "FORMANT_API_KEY=simulated-key\n"
        yield process, url
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_simulate_serves_until_it_is_interrupted_and_frees_its_port() -> None:
    with simulated("--conversations", "7") as (process, url):
        key = {"Authorization": "Bearer simulated-key"}
        answer = httpx.get(f"{url}/v1/conversations", headers=key)
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=10)

    assert answer.json()["total"] == 7
    assert process.returncode in {0, 130}
    assert said == ""
    assert "Traceback" not in complaints
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        pass
