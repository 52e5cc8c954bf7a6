"""The page: `index.html`, which a person opens by double click. One file, no network, strict about what may run.

Whatever comes from the API is data in it, never markup: a block of JSON in which `<`, `>`, `&` and `'` are spelled by
number, and a script that puts text into the page as text. The page's policy names that one script and that
one style by hash, so that nothing else would run even if it got in.

It shows the words that were said, and the phone number among a call's details.
"""

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from formant_archive import conversation
from formant_archive.export.cover import Cover
from formant_archive.export.exhibit import Exhibit
from formant_archive.export.payload import path_of
from formant_archive.export.table import TABLE, utc
from formant_archive.records import ArchivedRecording, Link, Missing, Record, written

PAGE = "index.html"
#: The text of the API that a call's details show, where it is there.
_DETAILS = {"contact_number": "Phone number", "failure_reason": "Reason of failure", "trace_id": "Trace id"}
# Not ASCII alone: Devanagari would take twice the space.
_dumps = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
_templates = Environment(
    loader=PackageLoader("formant_archive.export"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


class Page:
    """The page of a bag: a line for each conversation, in a file without a name until all are known."""

    def __enter__(self) -> "Page":
        self._lines: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def add(self, exhibit: Exhibit) -> None:
        """Take up a conversation."""
        self._lines.write(f"{htmlsafe_json_dumps(sheet(exhibit), dumps=_dumps)}\n")

    def write(self, bag: Path, cover: Cover) -> None:
        """Write the page into a bag."""
        self._lines.seek(0)
        style, script = (Markup(_source(name)) for name in ("index.css", "index.js"))  # noqa: S704  # ours
        text = _templates.get_template("index.html.jinja").stream(
            cover=cover,
            made_at=written(cover.asked.made_at),
            table=TABLE,
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
            calls=_joined(self._lines),
        )
        with (bag / PAGE).open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(text)


def _source(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _joined(lines: Iterable[str]) -> Iterator[Markup]:
    """Give the lines as the inside of a list in JSON; they were escaped when they were written."""
    comma = ""
    for line in lines:
        yield Markup(comma + line)  # noqa: S704  # escaped when written
        comma = ","


def sheet(exhibit: Exhibit) -> dict[str, Any]:
    """Say of a conversation what the page shows. Numbers that the page does not count with are text: JSON's are not."""
    entry, record, body = exhibit.entry, exhibit.record, exhibit.body or {}
    return {
        "id": entry.conversation_id,
        "agent": "unknown" if entry.agent_id is None else str(entry.agent_id),
        "status": entry.status,
        "outcome": entry.outcome,
        "start": utc(entry.start_timestamp),
        "end": utc(record.end_timestamp) if record else "",
        "duration": _text(record.duration_seconds) if record else "",
        "turns": conversation.turns(body),
        "results": _pairs(body.get("results")),
        "details": [[label, _text(body[name])] for name, label in _DETAILS.items() if body.get(name) is not None],
        "transcript": {"state": exhibit.transcript_state, "probes": _probes(record.transcript) if record else []},
        "recording": _recording(exhibit),
        "remarks": record.remarks if record else [],
        "damage": exhibit.damage,
        "manifest": exhibit.holding.sequence,
        "settled": written(record.settled_at) if record else "",
        "writer": f"{record.writer.version}, run {record.writer.run_id}" if record else "",
        "folder": path_of(entry.record_key).rpartition("/")[0],
        "files": [_file(exhibit, link) for link in _links(exhibit)],
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pairs(results: object) -> list[list[str]]:
    """Give the agent's own results as names and texts; what has no names is one text."""
    if results is None:
        return []
    if isinstance(results, dict):
        return [[name, _text(value)] for name, value in results.items()]
    return [["", _text(results)]]


def _probes(missing: object) -> list[list[str]]:
    """List the questions that were asked in vain."""
    if not isinstance(missing, Missing):
        return []
    return [[written(one.at), str(one.http_status), one.error_type] for one in missing.probes]


def _recording(exhibit: Exhibit) -> dict[str, Any]:
    recording = exhibit.record.recording if exhibit.record else None
    audio = recording.audio if isinstance(recording, ArchivedRecording) else None
    return {
        "state": exhibit.recording_state,
        "probes": _probes(recording),
        "audio": None if audio is None else audio.model_dump(),
        "url": _url(exhibit, exhibit.recording),
    }


def _links(exhibit: Exhibit) -> list[Link]:
    entry = exhibit.entry
    record = Link(key=entry.record_key, sha256=entry.record_sha256)
    return [*entry.objects, record, *_superseded(exhibit.record)]


def _superseded(record: Record | None) -> list[Link]:
    return [record.supersedes] if record and record.supersedes else []


def _file(exhibit: Exhibit, link: Link) -> list[str]:
    """Say of a file: name, address, size, SHA-256. What is not in the bag has no address."""
    size = next((str(file.size) for file in exhibit.files if file.path == path_of(link.key)), "")
    return [link.key.rpartition("/")[2], _url(exhibit, link), size, link.sha256]


def _url(exhibit: Exhibit, link: Link | None) -> str:
    """Give a file's address from the page; it begins with `data/`, whatever is in an id."""
    return quote(path_of(link.key), safe="/=") if link is not None and exhibit.holds(link) else ""
