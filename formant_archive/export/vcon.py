"""vCons: one IETF vCon for each conversation, made of what the archive holds, traceable to the record.

The form is that of draft-ietf-vcon-vcon-core-03 (editors' source, 1 July 2026, commit 2341aba), unsigned. It is a
draft: names can change until it is an RFC.

- The same archive gives the same bytes, whenever and wherever it is exported. So a vCon is created when its record was:
  what it says was settled then, and has not changed since.
- Its UUID follows from the archive's id, the conversation's id and the record's name. The record that supersedes
  another (`record.2.json`) makes a vCon of its own, which says whose amendment it is.
- It holds the record and the body byte for byte, as text: their SHA-256 can be taken from the vCon itself.
- A conversation whose record or payload is missing or altered gives no vCon.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from formant_archive import keys
from formant_archive.catalogue import Holding
from formant_archive.conversation import turns
from formant_archive.dossier import Dossier, read_dossier
from formant_archive.errors import ArchiveDamaged, ObjectMissing, UsageError
from formant_archive.export import vcon_rules
from formant_archive.manifest import Manifest, digest
from formant_archive.records import (
    ArchivedRecording,
    Link,
    Missing,
    PresentTranscript,
    Record,
    StoredObject,
    canonical,
    milliseconds,
    written,
)
from formant_archive.register import read_record
from formant_archive.stores import Store

#: The draft's word for why a call never became a conversation. Where one did (`socket_failure` connected), there is
#: none: the dialog is a recording that was not had.
DISPOSITIONS = {
    "no_answer": "no-answer",
    "busy": "busy",
    "failed": "failed",
    "telephony_failed": "failed",
    "unreachable": "failed",
}
VENDOR, PRODUCT = "FormantAI", "FormantAI Voice"
#: Where the parties stand in the list. The bot is named first, which says that it called.
BOT, PERSON, ARCHIVE = 0, 1, 2
_ROLES = {"agent": BOT, "human": PERSON}
#: RFC 3966: a global number; the separators mean nothing.
_GLOBAL_NUMBER = re.compile(r"\+[0-9]{3,15}")
_SEPARATORS = re.compile(r"[ ().-]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK = 1 << 20

Vcon = dict[str, Any]


@dataclass(frozen=True)
class Unmade:
    """A conversation that gave no vCon, and why: a sentence without data."""

    conversation_id: str
    reason: str


@dataclass(frozen=True)
class Vcons:
    """How many vCons were written, and which conversations gave none."""

    made: int
    unmade: tuple[Unmade, ...]


def write_vcons(
    store: Store,
    holdings: Iterable[Holding],
    folder: Path,
    *,
    recordings_at: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Vcons:
    """Write a vCon for each conversation, `<id>.vcon`, the id spelled as in the archive's keys.

    Args:
        store: The archive.
        holdings: The conversations, one at a time.
        folder: Where to write; it exists and is empty.
        recordings_at: The https address under which whoever reads the vCons can get the archive's keys. Recordings are
            then named by address and hash; else they are in the vCon, and in memory about eight times over.
        tell: Is told after each conversation how far it is.

    Raises:
        UsageError: `recordings_at` is not such an address.
        StoreError: The archive is out of reach.
        OSError: The folder cannot be written.
    """
    base = None if recordings_at is None else _https(recordings_at)
    archive_id, made, unmade = None, 0, list[Unmade]()
    for holding in holdings:
        archive_id = archive_id or Manifest.read(store.get(keys.manifest(1))).archive_id
        try:
            _write(folder, holding, _canonical(make_vcon(store, holding, archive_id, base)))
            made += 1
        except (ArchiveDamaged, ObjectMissing, FileExistsError) as fault:
            unmade.append(Unmade(holding.entry.conversation_id, str(fault)))
        tell(f"{made:,} vCons written")
    return Vcons(made, tuple(unmade))


def _https(address: str) -> str:
    """Check the address of the recordings; give it without a `/` at its end."""
    try:
        parts = urlsplit(address)
        is_one = parts.scheme == "https" and parts.hostname and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        is_one = False
    # Not repeated in the sentence: it may hold a password.
    if not is_one or not address.isascii() or not address.isprintable() or " " in address:
        raise UsageError("the recordings' address must be https://host/path, without a user, a query and a fragment")
    return address.rstrip("/")


def _canonical(vcon: Vcon) -> bytes:
    try:
        return canonical(vcon)
    # A vCon is three levels deeper than the body in it: Python 3.12 can read that one and not write this one.
    except RecursionError:
        pass
    raise ArchiveDamaged("the conversation's body is nested too deeply for a vCon")


def _write(folder: Path, holding: Holding, body: bytes) -> None:
    path = folder / f"{keys.component(holding.entry.conversation_id)}.vcon"
    try:
        file = path.open("xb")
    except FileExistsError:
        raise FileExistsError(f"{path.name} is there already; some disks do not tell a from A") from None
    with file:
        file.write(body)


def make_vcon(store: Store, holding: Holding, archive_id: str, base: str | None) -> Vcon:
    """Make the vCon of a conversation.

    Raises:
        ArchiveDamaged: A record or payload is missing or altered, or the vCon would break a rule.
        StoreError: The archive is out of reach.
    """
    if holding.erased:
        raise ArchiveDamaged("it was erased: what is left is its record, and the manifest that says by whom and why")
    dossier = read_dossier(store, holding)
    record = dossier.record
    if dossier.faults or record is None:
        raise ArchiveDamaged("; ".join(dossier.faults))
    former = None if record.supersedes is None else _former(store, record, record.supersedes)
    content = {} if dossier.recording is None else _audio(store, dossier.recording, base)
    vcon = _vcon(dossier, record, archive_id, former, content)
    if broken := list(vcon_rules.faults(vcon)):
        raise ArchiveDamaged(f"{holding.entry.record_key} makes no sound vCon: {'; '.join(broken)}")
    return vcon


def _former(store: Store, record: Record, link: Link) -> Record:
    body = store.get(link.key)
    if digest(body) != link.sha256:
        raise ArchiveDamaged(f"{link.key} is not the record that was superseded")
    return read_record(link.key, body, record.conversation_id)


def _audio(store: Store, stored: StoredObject, base: str | None) -> dict[str, str]:
    """Read a recording, compare it with its hash, and give it as a vCon holds it: by address, or whole."""
    sha256, sha512, whole = hashlib.sha256(), hashlib.sha512(), bytearray()
    with store.open(stored.key) as file:
        for chunk in iter(partial(file.read, _CHUNK), b""):
            sha256.update(chunk)
            sha512.update(chunk)
            if base is None:
                whole += chunk
    if sha256.hexdigest() != stored.sha256:
        raise ArchiveDamaged(f"{stored.key} is not what was archived: its SHA-256 is {sha256.hexdigest()}")
    if base is None:
        return {"encoding": "base64url", "body": _base64url(whole)}
    return {"url": f"{base}/{quote(stored.key, safe='/=')}", "content_hash": f"sha512-{_base64url(sha512.digest())}"}


def _base64url(data: bytes | bytearray) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _vcon(dossier: Dossier, record: Record, archive_id: str, former: Record | None, content: dict[str, str]) -> Vcon:
    data = dossier.data or {}
    vcon = {
        # To go when the draft is an RFC; until then libraries look for it.
        "vcon": "0.4.0",
        "uuid": uuid_of(archive_id, record),
        "created_at": date(record.settled_at),
        "amended": former and {"uuid": uuid_of(archive_id, former)},
        "parties": _parties(record, data),
        "dialog": [_dialog(record, content)],
        "analysis": _analyses(data),
        "attachments": _attachments(dossier, record, archive_id),
    }
    return _without_empties(vcon)


def _without_empties(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def uuid_of(archive_id: str, record: Record) -> str:
    """Name a record's vCon: a UUID of version 8, the same for ever.

    Its first 48 bits are a time in epoch ms, as in version 7: the call's start, else when it was settled. The other 74
    are a hash. The draft would have 62 of them of a host's name, and leave 12 to chance: we have no host, and chance
    gives each export another name.
    """
    name = keys.RECORD if record.supersedes is None else keys.SECOND_RECORD
    seed = canonical({"archive_id": archive_id, "conversation_id": record.conversation_id, "record": name})
    bits = int.from_bytes(hashlib.sha256(seed).digest()) >> (256 - 74)
    start = record.start_timestamp
    time = start if start is not None and 0 <= start < 1 << 48 else milliseconds(record.settled_at)
    high, low = bits >> 62, bits & ((1 << 62) - 1)
    return str(UUID(int=time << 80 | 8 << 76 | high << 64 | 0b10 << 62 | low))


def date(time: datetime) -> str:
    """Write a time as RFC 8620 (1.4) has it: UTC, and no `.000`."""
    return written(time).replace(".000Z", "Z")


def _parties(record: Record, data: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name the bot, the person and, since it brings attachments, the archive; nobody has proved to be who they are."""
    bot = {"type": "bot"}
    if record.agent_id is not None and str(record.agent_id):
        bot |= {"name": f"agent {record.agent_id}", "uuid": str(record.agent_id), "validation": "none"}
    number = data.get("contact_number")
    digits = _SEPARATORS.sub("", number) if isinstance(number, str) else ""
    # A number without a country's code is no address: it stands in the body only.
    person = {"tel": f"tel:{digits}"} if _GLOBAL_NUMBER.fullmatch(digits) else {}
    archive = {"type": "organization", "name": "formant-archive", "validation": "none"}
    return [bot, {"type": "person"} | person, archive]


def _dialog(record: Record, content: dict[str, str]) -> dict[str, Any]:
    dialog: dict[str, Any] = {
        "start": date(_start(record)[0]),
        "parties": [BOT, PERSON],
        "application": PRODUCT,
        "message_id": record.conversation_id,
    }
    if _never_connected(record):
        return dialog | {"type": "incomplete", "disposition": DISPOSITIONS[record.status]}
    # Also where there is none: the draft asks for the mediatype with a content only, vcon 0.10 always.
    dialog |= {"type": "recording", "mediatype": "audio/x-wav", **_duration(record)}
    if not isinstance(record.recording, ArchivedRecording):
        return dialog
    channels = record.recording.audio.channels if record.recording.audio else 1
    # Which channel is whose is not known: either may be heard on each.
    dialog["parties"] = [BOT, PERSON] if channels == 1 else [[BOT, PERSON]] * channels
    return dialog | {"filename": f"{keys.component(record.conversation_id)}.wav", **content}


def _never_connected(record: Record) -> bool:
    """Whether it was no conversation: by its status, and because nothing of one was ever there."""
    has_words = isinstance(record.transcript, PresentTranscript) or isinstance(record.recording, ArchivedRecording)
    return record.status in DISPOSITIONS and not has_words


def _duration(record: Record) -> dict[str, float]:
    """Give the seconds of audio that are there; without a recording, those that the API listed."""
    audio = record.recording.audio if isinstance(record.recording, ArchivedRecording) else None
    seconds = record.duration_seconds if audio is None else audio.seconds
    return {} if seconds is None or seconds < 0 else {"duration": seconds}


def _start(record: Record) -> tuple[datetime, str]:
    """Give the start that a dialog must have, and where it comes from: the call's end, or its settling, is later."""
    end, seconds = record.end_timestamp, record.duration_seconds
    before_end = None if end is None or seconds is None else end - round(1000 * seconds)
    for timestamp, source in (
        (record.start_timestamp, "start_timestamp"),
        (before_end, "end_timestamp - duration_seconds"),
        (end, "end_timestamp"),
    ):
        if timestamp is not None and (time := _time(timestamp)) is not None:
            return time, source
    return record.settled_at, "settled_at"


def _time(timestamp: int) -> datetime | None:
    """Read epoch milliseconds; None where they are no time of years 1 to 9999."""
    try:
        return _EPOCH + timedelta(milliseconds=timestamp)
    except OverflowError:
        return None


def _analyses(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    said = [{"role": role, "party": _ROLES.get(role), "message": message} for role, message in turns(dict(data))]
    found = []
    if said:
        found.append(_analysis("transcript", {"turns": [_without_empties(turn) for turn in said]}))
    if (results := data.get("results")) not in (None, "", [], {}):
        found.append(_analysis("report", results))
    return found


def _analysis(kind: str, body: object) -> dict[str, Any]:
    return {
        "type": kind,
        "dialog": 0,
        "vendor": VENDOR,
        "product": PRODUCT,
        "schema": f"formant-archive/vcon/{kind}/1",
        **_json(body),
    }


def _json(body: object) -> dict[str, Any]:
    return {"mediatype": "application/json", "encoding": "json", "body": body}


def _attachments(dossier: Dossier, record: Record, archive_id: str) -> list[dict[str, Any]]:
    """Give the evidence: where this comes from, what is missing and since when, and the archive's own bytes."""
    entry = dossier.holding.entry
    origin = {
        "archive_id": archive_id,
        "source": record.source,
        "manifest": dossier.holding.sequence,
        "record": {"key": entry.record_key, "sha256": entry.record_sha256},
        "objects": [one.model_dump() for one in entry.objects],
        "dialog_start": _start(record)[1],
    }
    contents = {"archive-origin": _json(origin)}
    for what, found in (("recording", record.recording), ("transcript", record.transcript)):
        if isinstance(found, Missing):
            contents[f"{what}-availability"] = _json(found.model_dump(mode="json"))
    contents["archive-record"] = _text(dossier.record_body, "record.json")
    if dossier.body is not None:
        contents["conversation-as-served"] = _text(dossier.body, "conversation.json")
    place = {"start": date(record.settled_at), "party": ARCHIVE, "dialog": 0}
    return [{"purpose": purpose, **place, **content} for purpose, content in contents.items()]


def _text(body: bytes | None, filename: str) -> dict[str, Any]:
    """Hold bytes such that they come out again as they are: as text, where they are UTF-8."""
    body = body or b""
    file = {"mediatype": "application/json", "filename": filename}
    try:
        return file | {"encoding": "none", "body": body.decode()}
    except UnicodeDecodeError:
        return file | {"encoding": "base64url", "body": _base64url(body)}
