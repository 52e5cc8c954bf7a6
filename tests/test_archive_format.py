"""Every line that `docs/archive-format.md` tells an auditor to type prints what stands there, and notices damage.

The page shows one archive, which is made here again: same seed, same clock. What is compressed can have other bytes
elsewhere, and so other hashes: there only the hashes may be others.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from formant_archive.policy import Policy
from formant_archive.simulator import Simulator
from tests import damage
from tests.damage import Files
from tests.plain import Clock, archive, client_of
from tests.stores.memory import MemoryStore

PAGE = Path(__file__).parent.parent / "docs" / "archive-format.md"
TOOLS = ("jq", "sha256sum", "zcat")
HASH = re.compile(r"\b[0-9a-f]{64}\b")
#: What the zlib that compressed the page's archive makes of `SQUARES`.
ZLIB = "fefc18e7deb8500dc4f2af253cfc2176996df93f200ba99aca9f49ad0bcd4792"
SQUARES = b"".join(b"%d %d\n" % (number, number**2) for number in range(3000))
LAST = "Verify one conversation"

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ and not all(map(shutil.which, TOOLS)),
    reason="jq, sha256sum and zcat are not all here: apt-get install jq coreutils gzip",
)


class Line(NamedTuple):
    """A command of the page, the section that it stands in, and what it prints there."""

    section: str
    command: str
    printed: list[str]


def lines_of(page: str) -> list[Line]:
    """Read the console blocks: `$ ` begins a command, four spaces go on with it, all else is printed."""
    found: list[Line] = []
    section, is_console = "", False
    for text in page.splitlines():
        if text.startswith("```"):
            is_console = text == "```console"
        elif not is_console and text.startswith("#"):
            section = text.lstrip("# ")
        elif is_console and text.startswith("$ "):
            found.append(Line(section, text[2:], []))
        elif is_console and text.startswith("    "):
            found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{text}")
        elif is_console:
            found[-1].printed.append(text)
    return found


@cache
def shown() -> Files:
    """Make the archive that the page shows: three runs, with a call in progress and recordings that never come."""
    clock = Clock(datetime(2026, 11, 18, 8, tzinfo=UTC))
    sim = Simulator(
        seed=11,
        conversations=48,
        now=lambda: clock.ms,
        in_progress=2,
        late_recordings=0.1,
        never_recordings=0.06,
        audio_seconds=(1, 4),
    )
    store = MemoryStore()
    for number, hours in enumerate((6, 72, 0), 1):
        with client_of(sim, clock) as client:
            archive(client, store, clock, policy=Policy(), run_id=f"run-{number}")
        sim.release()
        clock.go(hours=hours)
        sim.add(3)
        sim.add(1, status="in_progress")
    return dict(store.objects)


def run(files: Files, folder: Path, page: str) -> list[list[str]]:
    """Type all commands of a page, one after the other, in one shell, in an archive; give what each prints."""
    for key, body in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(body)
    mark = "--- the next command ---"
    script = "exec 2>&1 < /dev/null\n" + "".join(f"echo '{mark}'\n{line.command}\n" for line in lines_of(page))
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TMPDIR": str(folder.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [one.splitlines() for one in done.stdout.split(f"{mark}\n")[1:]]


def of_this_archive(page: str) -> str:
    """Let the head that the page notes be this archive's: the same one, unless another zlib compressed it."""
    return re.sub(r"(head=[0-9]+:)[0-9a-f]{64}", rf"\g<1>{damage.head(shown())[2:]}", page)


def is_as_shown(printed: list[str], on_page: list[str]) -> bool:
    """Compare; `…` stands for the rest of a line, or alone for any lines."""
    pattern = "".join(
        "(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in on_page
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def test_every_line_prints_what_the_page_shows(folder: Path) -> None:
    page = PAGE.read_text()
    commands = lines_of(page)
    printed = run(shown(), folder, of_this_archive(page))
    on_page = [line.printed for line in commands]
    if damage.digest(gzip.compress(SQUARES, mtime=0)) != ZLIB:
        on_page = [[HASH.sub("…", line) for line in lines] for lines in on_page]

    wrong = {
        line.command: said
        for line, said, expected in zip(commands, printed, on_page, strict=True)
        if not is_as_shown(said, expected)
    }
    assert wrong == {}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_the_page_asks_for_is_installed(tool: str) -> None:
    assert shutil.which(tool), f"apt-get install jq coreutils gzip: {tool} is missing"


def test_the_page_ends_with_how_to_verify_one_conversation() -> None:
    page = PAGE.read_text()

    assert re.findall("^## (.*)$", page, re.MULTILINE)[-1] == LAST
    assert len(page.rpartition(f"## {LAST}\n")[2].splitlines()) < 50
    assert "tools/verify_archive.py" in page


def test_the_conversation_that_is_verified_has_a_recording() -> None:
    (chosen,) = re.findall(r"\$ id=(\S+)", PAGE.read_text().rpartition(f"## {LAST}\n")[2])

    assert {key.rpartition("/")[2] for key in shown() if f"/{chosen}/" in key} == {
        "conversation.json",
        "recording.wav",
        "record.json",
    }


def chosen_key(name: str) -> str:
    """Name an object of the conversation that the page's last section verifies."""
    (chosen,) = re.findall(r"\$ id=(\S+)", PAGE.read_text().rpartition(f"## {LAST}\n")[2])
    return next(key for key in shown() if key.endswith(f"/{chosen}/{name}"))


def its_manifest(files: Files) -> tuple[str, str]:
    """Name the manifest and the part that name this conversation."""
    key = chosen_key("record.json")
    return next((where, part) for where, part, entry in damage.entries(files) if entry["record_key"] == key)


def alter(files: Files, key: str) -> None:
    """Change one letter of a version, a time or a sound."""
    files[key] = files[key][:-9] + bytes([files[key][-9] ^ 1]) + files[key][-8:]


def retell(files: Files, key: str) -> None:
    """Write another version into a manifest, well-formed."""
    value = json.loads(files[key])
    value["run"]["version"] = "told otherwise"
    files[key] = damage.canonical(value)


def cut_tail(files: Files) -> None:
    del files[damage.chain(files)[-1]]


def count_wrongly(files: Files) -> None:
    damage.edit(files, damage.chain(files)[1], lambda manifest: manifest["counts"].update(listed=999))


def copy_in(files: Files) -> None:
    damage.edit(files, damage.chain(files)[1], lambda manifest: manifest.update(archive_id="another"))


def leave(files: Files, key: str) -> None:
    files[key] = b"?"


#: What is done, in which section it is noticed, and what is then said there.
NOTICED: dict[str, tuple[Callable[[Files], object], str, str]] = {
    "a manifest altered": (lambda it: retell(it, damage.chain(it)[0]), "The chain", "00001.json: FAILED"),
    "a manifest missing": (lambda it: it.pop(damage.chain(it)[0]), "The chain", "00001.json: FAILED open or read"),
    "a tail cut off": (cut_tail, "The chain", "00003.json: No such file"),
    "another archive's manifest": (copy_in, "The chain", '[2,"another"'),
    "a part altered": (lambda it: alter(it, its_manifest(it)[1]), "The chain", ".jsonl.gz: FAILED"),
    "a part missing": (lambda it: it.pop(its_manifest(it)[1]), "The chain", ".jsonl.gz: FAILED open or read"),
    "counts that do not add up": (count_wrongly, "The counts", "false"),
    "a record altered": (
        lambda it: alter(it, chosen_key("record.json")),
        "All records and payloads",
        "record.json: FAILED",
    ),
    "a record missing": (
        lambda it: it.pop(chosen_key("record.json")),
        "All records and payloads",
        "record.json: FAILED open or read",
    ),
    "a recording altered": (
        lambda it: alter(it, chosen_key("recording.wav")),
        "All records and payloads",
        "recording.wav: FAILED",
    ),
    "a body missing": (
        lambda it: it.pop(chosen_key("conversation.json")),
        "All records and payloads",
        "conversation.json: FAILED open or read",
    ),
    "something left": (
        lambda it: leave(it, "conversations/agent_id=1/date=unknown/x/recording.wav"),
        "What is there and not named",
        "conversations/agent_id=1/date=unknown/x/recording.wav",
    ),
    "the head altered": (lambda it: retell(it, damage.chain(it)[-1]), LAST, "00003.json: FAILED"),
    "a middle manifest altered": (lambda it: retell(it, damage.chain(it)[1]), LAST, "00002.json: FAILED"),
    "a middle manifest missing": (lambda it: it.pop(damage.chain(it)[1]), LAST, "00002.json: FAILED open or read"),
    "its manifest altered": (lambda it: retell(it, its_manifest(it)[0]), LAST, ".json: FAILED"),
    "the chain made anew": (
        lambda it: damage.edit(it, damage.chain(it)[0], lambda one: one["run"].update(flow="other")),
        LAST,
        "00003.json: FAILED",
    ),
    "its part altered": (lambda it: alter(it, its_manifest(it)[1]), LAST, ".jsonl.gz: FAILED"),
    "its record altered": (lambda it: alter(it, chosen_key("record.json")), LAST, "record.json: FAILED"),
    "its record missing": (lambda it: it.pop(chosen_key("record.json")), LAST, "record.json: FAILED open or read"),
    "its body altered": (lambda it: alter(it, chosen_key("conversation.json")), LAST, "conversation.json: FAILED"),
    "its recording altered": (lambda it: alter(it, chosen_key("recording.wav")), LAST, "recording.wav: FAILED"),
    "its recording missing": (
        lambda it: it.pop(chosen_key("recording.wav")),
        LAST,
        "recording.wav: FAILED open or read",
    ),
}


@pytest.mark.parametrize("what", NOTICED)
def test_the_same_lines_notice_damage(what: str, folder: Path) -> None:
    harm, section, expected = NOTICED[what]
    files = dict(shown())
    harm(files)
    page = of_this_archive(PAGE.read_text())
    printed = run(files, folder, page)
    said = [
        text for line, lines in zip(lines_of(page), printed, strict=True) if line.section == section for text in lines
    ]

    assert [text for text in said if expected in text]
