"""`formant-archive show`: one conversation for a person: its record, its words, where its recording is.

What was said is others' text: what a terminal would obey is spelled out. What is read is compared with its hash; what
does not fit is said in red, and shown all the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.text import Text

from formant_archive import keys
from formant_archive.catalogue import Catalogue, Holding, Selection, read_catalogue
from formant_archive.cli import ArchiveUrl, Json, err, harmless, moment, out
from formant_archive.conversation import turns
from formant_archive.crew import abreast
from formant_archive.dossier import Dossier, read_dossier
from formant_archive.errors import ArchiveError
from formant_archive.ledger import read_head
from formant_archive.records import (
    ArchivedRecording,
    Entry,
    Missing,
    Pending,
    Probe,
    Record,
    StoredObject,
    milliseconds,
)
from formant_archive.settings import load_settings
from formant_archive.stores import Store, open_store

Facts = Iterator[tuple[str, str]]
#: Where the facts' and the turns' text begins.
FACTS, TURNS = 14, 8
NARROWEST = 20
#: The API's words for who speaks; whatever else it says stands in brackets, to be told from them.
ROLES = ("agent", "human")


def run_show(conversation_id: str, archive_url: ArchiveUrl = None, *, as_json: Json = False) -> int:
    """Show one conversation: its record, its transcript, where its recording is. Reads all manifests to find it.

    Args:
        conversation_id: As `list` shows it, or as its folder is named.
        archive_url: Where the archive is.
        as_json: Print JSON.
    """
    store = open_store(load_settings(archive_url=archive_url).archive_url)
    with closing(read_catalogue(store, abreast)) as catalogue:
        holding = find_settled(catalogue, conversation_id)
    if holding is not None:
        return show_settled(store, holding, as_json=as_json)
    if (pending := find_pending(store, conversation_id)) is not None:
        return show_pending(store, pending, as_json=as_json)
    raise ArchiveError(
        f"the archive knows no conversation {harmless(conversation_id)}: `formant-archive list` names all"
    )


def find_settled(catalogue: Catalogue, name: str) -> Holding | None:
    """Find a conversation by its id, else by its folder's name, which stands for one id alone."""
    for holding in catalogue.select(Selection(ids=frozenset({name}))):
        return holding
    return next((one for one in catalogue.select() if keys.component(one.entry.conversation_id) == name), None)


def find_pending(store: Store, name: str) -> Pending | None:
    """Find a conversation that the newest manifest waits for, by its id or its folder's name."""
    waiting = read_head(store).state.pending
    by_folder = (one for one in waiting.values() if keys.component(one.conversation_id) == name)
    return waiting.get(name) or next(by_folder, None)


def where(store: Store, key: str) -> str:
    """Say where an object lies: a path for a directory, else an address."""
    url = urlsplit(store.url)
    return f"{unquote(url.path)}/{key}" if url.scheme == "file" else f"{store.url}/{key}"


# Settled


def show_settled(store: Store, holding: Holding, *, as_json: bool) -> int:
    """Show a settled conversation; give 1 where something of it is missing or altered."""
    dossier = read_dossier(store, holding)
    faults = (*dossier.faults, *recording_faults(store, dossier.recording, holding.erased))
    if as_json:
        print_json(settled_as_json(store, dossier, faults))
    else:
        print_facts(settled_facts(store, dossier))
        print_words(dossier.data or {})
        for fault in faults:
            err.print(f"error: {harmless(fault)}", style="red")
    return int(bool(faults))


def recording_faults(store: Store, recording: StoredObject | None, erased: frozenset[str]) -> Iterator[str]:
    """Say whether a recording is not there; it is not read: it can be large, and `verify` does."""
    if recording is None or recording.key in erased:
        return
    try:
        found = store.stat(recording.key)
    except ValueError:
        found = None
    if found is None:
        yield f"{recording.key} is missing"
    elif found.size != recording.size:
        yield f"{recording.key} is not what was archived: it has {found.size:,} bytes, not {recording.size:,}"


def settled_as_json(store: Store, dossier: Dossier, faults: Sequence[str]) -> dict[str, Any]:
    """Give a settled conversation as JSON holds it; what is not there is null."""
    audio = dossier.recording
    return {
        "record": dossier.record and json.loads(dossier.record.body()),
        "conversation": dossier.data,
        "manifest": dossier.holding.sequence,
        "outcome": dossier.holding.outcome,
        "audio": audio and {"at": where(store, audio.key), **audio.model_dump()},
        "pending": None,
        "faults": list(faults),
    }


def settled_facts(store: Store, dossier: Dossier) -> Facts:
    """Say what the record and its manifest say."""
    entry, record = dossier.holding.entry, dossier.record
    yield from reference_facts(record or entry)
    yield "outcome", dossier.holding.outcome
    yield "manifest", f"{dossier.holding.sequence}, the first that names it"
    yield "record", where(store, entry.record_key)
    yield "", f"sha256 {entry.record_sha256}"
    for one in entry.objects:
        yield "audio" if one == dossier.recording else "conversation", where(store, one.key)
        is_erased = one.key in dossier.holding.erased
        yield "", f"{'erased; it had ' if is_erased else ''}{one.size:,} bytes, sha256 {one.sha256}"
    if record is not None:
        yield from record_facts(record)


def record_facts(record: Record) -> Facts:
    """Say what the record alone knows: the audio, what is missing, when and by whom it was settled."""
    if isinstance(record.recording, ArchivedRecording) and (audio := record.recording.audio):
        yield "", f"{audio.seconds:g} s, {audio.sample_rate:,} Hz, {audio.channels} channel(s), {audio.codec}"
    for name, found in (("audio", record.recording), ("transcript", record.transcript)):
        if isinstance(found, Missing):
            yield name, found.state.replace("_", " ")
            yield from probe_facts(found.probes)
    yield from (("remark", remark) for remark in record.remarks)
    yield "settled", f"{instant(record.settled_at)}, by run {record.writer.run_id}, version {record.writer.version}"
    if record.supersedes is not None:
        yield "supersedes", record.supersedes.key
        yield "", f"sha256 {record.supersedes.sha256}"
    yield "source", record.source


def probe_facts(probes: Sequence[Probe]) -> Facts:
    """Say when something was asked for in vain."""
    yield from (("", f"{instant(one.at)}: {one.http_status} {one.error_type}") for one in probes)


# Pending


def show_pending(store: Store, pending: Pending, *, as_json: bool) -> int:
    """Show what is known of a conversation that is not settled yet, and what is waited for."""
    if as_json:
        print_json(pending_as_json(pending))
    else:
        print_facts(pending_facts(store, pending))
    return 0


def pending_as_json(pending: Pending) -> dict[str, Any]:
    """Give a pending conversation in the form of a settled one."""
    nothing = dict.fromkeys(("record", "conversation", "manifest", "audio"))
    return {**nothing, "outcome": "pending", "pending": pending.model_dump(mode="json"), "faults": []}


def pending_facts(store: Store, pending: Pending) -> Facts:
    """Say what the newest manifest says of a conversation that it waits for."""
    yield from reference_facts(pending)
    yield "outcome", "pending: not settled yet"
    yield "reason", pending.reason + (f": {pending.message}" if pending.message else "")
    if pending.failures:
        yield "", f"tries that failed in a row: {pending.failures:,}"
    yield "first seen", instant(pending.first_seen_at)
    for name, receipt, probes in (
        ("conversation", pending.conversation, pending.conversation_probes),
        ("audio", pending.recording, pending.recording_probes),
    ):
        if receipt is not None:
            yield name, where(store, receipt.key)
            yield "", f"{receipt.size:,} bytes, sha256 {receipt.sha256}"
        elif probes:
            yield name, "asked for in vain"
        yield from probe_facts(probes)
    due = pending.next_probe_at
    yield "asked again", "by the next run" if due is None else f"by the first run from {instant(due)} on"


def reference_facts(one: Record | Entry | Pending) -> Facts:
    """Say what the list showed."""
    yield "id", one.conversation_id
    yield "agent", "unknown" if one.agent_id is None else str(one.agent_id)
    yield "status", one.status or "none"
    yield "started", "unknown" if one.start_timestamp is None else moment(one.start_timestamp)
    if not isinstance(one, Entry):
        yield "ended", "unknown" if one.end_timestamp is None else moment(one.end_timestamp)
        yield "duration", "unknown" if one.duration_seconds is None else f"{one.duration_seconds:g} s"


def instant(time: datetime) -> str:
    """Write a time of the archive's own."""
    return moment(milliseconds(time))


# Printing


def print_json(found: dict[str, Any]) -> None:
    """Print JSON in ASCII: no terminal obeys it, and every output can encode it."""
    out.print(pretty(found, ensure_ascii=True))


def pretty(value: object, *, ensure_ascii: bool) -> str:
    """Write JSON on several lines; on one where it is nested more deeply than Python 3.12 writes on several."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=2)
    except RecursionError:
        return json.dumps(value, ensure_ascii=ensure_ascii)


def print_facts(facts: Facts) -> None:
    """Print names and texts; what is long stays whole, to be copied."""
    for name, text in facts:
        out.print(f"{name:<{FACTS}}{harmless(text)}")


def print_words(data: Mapping[str, Any]) -> None:
    """Print what a body holds for a person: the number that was called, the turns, the results."""
    for name, field in (("number", "contact_number"), ("failure", "failure_reason")):
        if data.get(field) is not None:
            print_facts(iter([(name, str(data[field]))]))
    if said := turns(dict(data)):
        out.print("\ntranscript")
    for role, message in said:
        print_turn(role if role in ROLES else f"({harmless(role) or '?'})", message)
    if data.get("results") is not None:
        out.print("\nresults")
        for line in pretty(data["results"], ensure_ascii=False).split("\n"):
            out.print(harmless(line))


def print_turn(label: str, message: str) -> None:
    """Print who said what; every line but the first is set in, so that no words look like another's turn."""
    for line in message.replace("\r\n", "\n").split("\n"):
        for piece in wrapped(harmless(line)):
            out.print(f"{label:<{TURNS - 1}} {piece}")
            label = ""


def wrapped(text: str) -> list[str]:
    """Break a line where the terminal ends; elsewhere it stays whole."""
    if not out.is_terminal:
        return [text]
    return [line.plain for line in Text(text).wrap(out, max(out.width - TURNS, NARROWEST), overflow="fold")] or [""]
