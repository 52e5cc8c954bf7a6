"""The vCons: valid by the draft's schema and by what it does not check, the same bytes every time, true to the archive.

Where `vcon_json_schema.json` comes from is said in `vcon_json_schema.LICENSE`.
"""

import base64
import copy
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pytest
from jsonschema import Draft7Validator, FormatChecker

from formant_archive import keys, register
from formant_archive.catalogue import Holding, read_catalogue
from formant_archive.errors import StoreUnavailable, UsageError
from formant_archive.export import vcon_rules
from formant_archive.export.vcon import Vcons, make_vcon, uuid_of, write_vcons
from formant_archive.ledger import read_head
from formant_archive.manifest import digest
from formant_archive.policy import DOCUMENTED_STATUSES, Policy
from formant_archive.records import ArchivedRecording, Link, Missing, Record, milliseconds
from formant_archive.simulator import NOT_COMPLETED, SPOKEN, Simulator
from tests import plain
from tests.stores.memory import MemoryStore
from tests.test_wav import chunk, fmt, riff

SCHEMA = json.loads(Path(__file__).with_name("vcon_json_schema.json").read_text())
VALIDATOR = Draft7Validator(SCHEMA, format_checker=FormatChecker())
AT = "https://audio.example/archive"
NOW = timedelta(0)
#: Every status is archived, and what does not come is called absent when it has been asked for twice.
HASTY = Policy(statuses=DOCUMENTED_STATUSES, grace=NOW, probe_interval=NOW, results_wait=NOW)
HOSTILE = ("a/b", "..", "x y", "ключ", "'; DROP TABLE", "\x1b]0;pwn\x07", "a" * 300, "%2e", "\u202egnp.exe")
WORDS = "canary words of a transcript"
MARK = 1_773_867_201_766  # 2026-03-18T20:53:21.766Z
OFF = 4102444800000  # 2100-01-01


@dataclass
class Archive:
    store: MemoryStore
    holdings: list[Holding]

    @property
    def id(self) -> str:
        manifest = read_head(self.store).manifest
        assert manifest is not None
        return manifest.archive_id

    def holding(self, name: str) -> Holding:
        return next(one for one in self.holdings if one.entry.conversation_id == name)

    def record(self, name: str) -> Record:
        return Record.model_validate_json(self.store.objects[self.holding(name).entry.record_key])

    def vcon(self, name: str, base: str | None = AT) -> dict[str, Any]:
        return make_vcon(self.store, self.holding(name), self.id, base)

    def seal(self, record: Record) -> Holding:
        """Settle one more conversation, or one once more; there is a manifest 7 for it."""
        folder = f"conversations/agent_id={record.agent_id}/date=unknown/{keys.component(record.conversation_id)}/"
        earlier = [one for one in self.holdings if one.entry.conversation_id == record.conversation_id]
        if earlier:
            folder = earlier[0].entry.record_key.removesuffix(keys.RECORD)
        made = Holding(register.seal(self.store, folder, record), 7)
        self.holdings = [one for one in self.holdings if one not in earlier] + [made]
        return made


def archive_of(*calls: dict[str, Any], **population: Any) -> Archive:
    """Archive a simulated workspace: its population, and the calls that are added to it."""
    clock, store = plain.Clock(), MemoryStore()
    sim = Simulator(3, population.pop("conversations", 0), now=lambda: clock.ms, **population)
    for call in calls:
        sim.add(**call)
    for _ in range(2):
        plain.archive(plain.client_of(sim, clock), store, clock, policy=HASTY)
        clock.go(hours=1)
    with closing(read_catalogue(store)) as catalogue:
        return Archive(store, list(catalogue.select()))


def one_call(**fields: Any) -> tuple[Archive, dict[str, Any]]:
    archive = archive_of({"conversation_id": "c", **fields})
    return archive, archive.vcon("c")


def a_bit_of_everything() -> Archive:
    """Every status, recordings late and never, hostile texts, starts that are none, odd ids."""
    calls: list[dict[str, Any]] = [
        {"conversation_id": name, "transcript": [{"role": name, "message": name}], "results": {name: name}}
        for name in HOSTILE
    ]
    calls += [
        {"start_timestamp": start, "row": {"start_timestamp": start, "end_timestamp": None, "agent_id": None}}
        for start in (None, 0, -1, OFF, 10**18)
    ]
    calls += [{"status": status, "recording_comes": "now"} for status in NOT_COMPLETED]
    return archive_of(*calls, conversations=42, completed=0.5, late_recordings=0.2, never_recordings=0.2)


@pytest.fixture(scope="module")
def everything() -> Archive:
    return a_bit_of_everything()


def export(archive: Archive, folder: Path, *, recordings_at: str | None = AT) -> Vcons:
    folder.mkdir(exist_ok=True)
    return write_vcons(archive.store, archive.holdings, folder, recordings_at=recordings_at)


def attached(vcon: dict[str, Any], purpose: str) -> Any:
    [one] = [one for one in vcon["attachments"] if one["purpose"] == purpose]
    return one["body"]


def analysis(vcon: dict[str, Any], kind: str) -> Any:
    [one] = [one for one in vcon["analysis"] if one["type"] == kind]
    return one["body"]


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# Validity


@pytest.mark.parametrize("recordings_at", [AT, None], ids=["by reference", "inline"])
def test_every_vcon_is_valid_by_the_schema_of_the_draft_and_by_the_rules_it_does_not_check(
    recordings_at: str | None, everything: Archive, tmp_path: Path
) -> None:
    done = export(everything, tmp_path / "out", recordings_at=recordings_at)

    files = sorted((tmp_path / "out").iterdir())
    assert (done.made, done.unmade) == (len(everything.holdings), ())
    assert len(files) == len(everything.holdings) > 60
    for file in files:
        vcon = json.loads(file.read_bytes())
        assert [fault.message for fault in VALIDATOR.iter_errors(vcon)] == []
        assert list(vcon_rules.faults(vcon)) == []
    statuses = {one.entry.status for one in everything.holdings}
    assert statuses == DOCUMENTED_STATUSES, "the archive lacks a case"


def test_the_schema_is_asked_for_dates_and_uuids_too(everything: Archive) -> None:
    vcon = everything.vcon(everything.holdings[0].entry.conversation_id)

    assert list(VALIDATOR.iter_errors(vcon | {"created_at": "yesterday"}))
    assert list(VALIDATOR.iter_errors(vcon | {"uuid": "of a kind"}))


def put(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Change what lies under `dialog.0.url` and the like; None takes it away."""

    def change(vcon: Any) -> None:
        *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in way:
            vcon = vcon[step]
        vcon.pop(last, None) if value is None else vcon.__setitem__(last, value)

    return change


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("uuid", "019f15a6-a752-726f-b9a2-279e0d16bc46", "version 8"),
        ("uuid", "019f15a6-a752-826f-79a2-279e0d16bc46", "version 8"),
        ("uuid", "none", "version 8"),
        ("amended", {"uuid": "019f15a6-a752-726f-b9a2-279e0d16bc46"}, "version 8"),
        ("created_at", None, "created_at"),
        ("created_at", "2026-03-18T20:53:21", "created_at"),
        ("created_at", "2026-03-18T20:53:21.000Z", "created_at"),
        ("subject", "", "subject is null or empty"),
        ("dialog.0.filename", [], "filename is null or empty"),
        ("attachments.0.start", "2026-03-18T20:53:21+01:00", "start"),
        ("dialog.0.start", None, "start"),
        ("dialog.0.url", "http://audio.example/x", "https"),
        ("dialog.0.content_hash", None, "half a content"),
        ("dialog.0.url", None, "half a content"),
        ("dialog.0.content_hash", "sha512-abc", "SHA-512"),
        ("dialog.0.body", "YWJj", "twice"),
        ("dialog.0.disposition", "busy", "disposition"),
        ("dialog.0.type", "incomplete", "has content"),
        ("dialog.0.type", "incomplete", "no disposition"),
        ("dialog.0.parties", [0, 3], "party"),
        ("dialog.0.parties", [[0, 1], [9]], "party"),
        ("dialog.0.originator", 3, "party"),
        ("attachments.0.party", 3, "party"),
        ("attachments.0.dialog", 1, "dialog that is not there"),
        ("analysis.0.dialog", [0, 1], "dialog that is not there"),
        ("attachments.0.encoding", "base64", "encoded"),
        ("analysis.0.encoding", "base64url", "encoded"),
        ("analysis.0.encoding", None, "half a content"),
        ("analysis.0.mediatype", None, "mediatype"),
    ],
)
def test_a_vcon_that_breaks_a_rule_is_found(path: str, value: object, fault: str, everything: Archive) -> None:
    sound = everything.vcon(first_with_a_recording(everything))
    broken = copy.deepcopy(sound)
    put(path, value)(broken)

    assert list(vcon_rules.faults(sound)) == []
    assert any(fault in found for found in vcon_rules.faults(broken))


def first_with_a_recording(archive: Archive) -> str:
    entry = next(one.entry for one in archive.holdings if one.entry.outcome == "archived")
    return entry.conversation_id


# The same for ever


def test_two_exports_give_the_same_bytes(everything: Archive, tmp_path: Path) -> None:
    export(everything, tmp_path / "one")
    everything.holdings.reverse()
    export(everything, tmp_path / "two")

    one, two = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_the_uuid_is_of_version_8_unique_and_holds_the_time_of_the_call(everything: Archive) -> None:
    names = [one.entry.conversation_id for one in everything.holdings]
    found = {name: UUID(everything.vcon(name)["uuid"]) for name in names}

    assert len(set(found.values())) == len(names)
    assert {one.version for one in found.values()} == {8}
    for name, one in found.items():
        start, settled = everything.record(name).start_timestamp, everything.record(name).settled_at
        assert one.int >> 80 == (start if start is not None and 0 <= start < 1 << 48 else milliseconds(settled))


def test_the_uuid_of_a_known_conversation_never_changes() -> None:
    record = Record.model_validate_json(
        archive_of({"conversation_id": "c"}).record("c").model_copy(update={"start_timestamp": MARK}).body()
    )

    name = uuid_of("9d4646a6-d139-5bcd-aae1-bde58283a887", record)

    assert name == "019d02b9-74e6-869f-b26b-953aceeb14ca"


def test_another_archive_gives_another_uuid() -> None:
    archive = archive_of({"conversation_id": "c"})
    holding = archive.holding("c")

    assert (
        make_vcon(archive.store, holding, archive.id, AT)["uuid"] != make_vcon(archive.store, holding, "b", AT)["uuid"]
    )


def test_a_vcon_is_as_old_as_its_record() -> None:
    archive, vcon = one_call()

    assert datetime.fromisoformat(vcon["created_at"]) == archive.record("c").settled_at


# The recording


def test_a_recording_by_reference_is_named_by_address_and_by_the_hash_of_the_stored_bytes(everything: Archive) -> None:
    recordings = 0
    for holding in everything.holdings:
        [dialog] = everything.vcon(holding.entry.conversation_id, f"{AT}")["dialog"]
        if holding.entry.outcome != "archived":
            assert not {"url", "body"} & dialog.keys()
            continue
        recordings += 1
        key = unquote(urlsplit(dialog["url"]).path).removeprefix("/archive/")
        assert key == holding.entry.objects[-1].key
        hashed = base64.urlsafe_b64encode(hashlib.sha512(everything.store.objects[key]).digest()).decode()
        assert dialog["content_hash"] == f"sha512-{hashed.rstrip('=')}"
        assert "body" not in dialog
    assert recordings > 20


@pytest.mark.parametrize("length", [100, 101, 102])
def test_a_recording_inside_is_the_stored_bytes_without_padding(length: int) -> None:
    wav = riff(fmt(), chunk(b"data", bytes(range(length)), pad=False))
    archive, _ = one_call(audio=wav)

    [dialog] = archive.vcon("c", None)["dialog"]

    assert dialog["encoding"] == "base64url"
    assert "=" not in dialog["body"]
    assert unpadded(dialog["body"]) == wav
    assert not {"url", "content_hash"} & dialog.keys()


def test_a_recording_by_reference_is_not_held_in_memory() -> None:
    archive, _ = one_call(audio=riff(fmt(), chunk(b"data", bytes(30_000_000))))

    tracemalloc.start()
    archive.vcon("c", AT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 8_000_000


def test_the_dialog_says_what_it_is_of() -> None:
    wav = riff(fmt(), chunk(b"data", bytes(16_000)))
    _, vcon = one_call(audio=wav, start_timestamp=MARK, duration_seconds=60, agent_id=7)

    [dialog] = vcon["dialog"]
    assert dialog["type"] == "recording"
    assert dialog["start"] == "2026-03-18T20:53:21.766Z"
    assert dialog["duration"] == 1, "of the audio, not of the call"
    assert dialog["parties"] == [0, 1]
    assert (dialog["mediatype"], dialog["filename"], dialog["message_id"]) == ("audio/x-wav", "c.wav", "c")
    assert dialog["application"] == "FormantAI Voice"
    assert vcon["parties"][0] == {"type": "bot", "name": "agent 7", "uuid": "7", "validation": "none"}


def test_a_whole_second_has_no_fraction() -> None:
    _, vcon = one_call(start_timestamp=MARK - 766)

    assert vcon["dialog"][0]["start"] == "2026-03-18T20:53:21Z"


@pytest.mark.parametrize(("channels", "parties"), [(1, [0, 1]), (2, [[0, 1], [0, 1]])])
def test_each_channel_has_parties_and_none_is_said_to_be_of_one_of_them(channels: int, parties: object) -> None:
    _, vcon = one_call(audio=riff(fmt(channels=channels), chunk(b"data", bytes(16_000))))

    assert vcon["dialog"][0]["parties"] == parties


@pytest.mark.parametrize(
    "address",
    [
        "http://x/",
        "s3://bucket",
        "x",
        "",
        "https://",
        "https://u:p@x/",
        "https://x/?sig=1",
        "https://x/#a",
        "https://x y/",
    ],
)
def test_an_address_that_is_not_https_and_plain_is_refused_and_not_repeated(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        write_vcons(MemoryStore(), [], tmp_path, recordings_at=address)

    assert "u:p" not in str(refused.value)


# What is not there


def test_a_completed_call_without_a_recording_stays_a_recording_and_has_the_probes_as_evidence() -> None:
    archive, vcon = one_call(recording_comes="never")

    [dialog] = vcon["dialog"]
    assert dialog["type"] == "recording"
    assert not {"url", "body", "filename", "disposition"} & dialog.keys()
    assert dialog["duration"] == archive.record("c").duration_seconds
    missing = archive.record("c").recording
    assert isinstance(missing, Missing)
    assert attached(vcon, "recording-availability") == missing.model_dump(mode="json")
    assert len(missing.probes) == 2


@pytest.mark.parametrize(
    ("status", "disposition"),
    [
        ("no_answer", "no-answer"),
        ("busy", "busy"),
        ("failed", "failed"),
        ("telephony_failed", "failed"),
        ("unreachable", "failed"),
    ],
)
def test_a_call_that_never_connected_is_incomplete(status: str, disposition: str) -> None:
    _, vcon = one_call(status=status, recording_comes="never", transcript_comes="never")

    [dialog] = vcon["dialog"]
    assert (dialog["type"], dialog["disposition"]) == ("incomplete", disposition)
    assert not {"url", "body", "duration"} & dialog.keys()
    assert attached(vcon, "recording-availability")["state"] == "not_expected"
    assert attached(vcon, "transcript-availability")["state"] == "not_expected"


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "socket_failure", "recording_comes": "never", "transcript_comes": "never"},
        {"status": "failed", "recording_comes": "now", "transcript_comes": "never"},
        {"status": "busy", "recording_comes": "never", "transcript_comes": "now"},
    ],
    ids=["connected", "recorded", "words"],
)
def test_a_call_that_connected_by_any_sign_is_not_incomplete(fields: dict[str, Any]) -> None:
    _, vcon = one_call(**fields)

    assert vcon["dialog"][0]["type"] == "recording"
    assert "disposition" not in vcon["dialog"][0]


def test_a_conversation_that_is_gone_says_so() -> None:
    archive, _ = one_call()
    held = archive.record("c")
    gone = Missing(state="gone", probes=())
    record = held.model_copy(
        update={"conversation_id": "g", "conversation": None, "transcript": gone, "recording": gone}
    )
    archive.seal(record)

    vcon = archive.vcon("g")

    assert vcon["dialog"][0]["type"] == "recording"
    assert "analysis" not in vcon
    assert attached(vcon, "recording-availability")["state"] == attached(vcon, "transcript-availability")["state"]
    assert [one["purpose"] for one in vcon["attachments"]].count("conversation-as-served") == 0
    assert [fault.message for fault in VALIDATOR.iter_errors(vcon)] == []


@pytest.mark.parametrize(
    ("start", "end", "seconds", "expected", "source"),
    [
        (MARK, MARK + 9000, 5, MARK, "start_timestamp"),
        (None, MARK + 9000, 9, MARK, "end_timestamp - duration_seconds"),
        (None, MARK, None, MARK, "end_timestamp"),
        (10**18, MARK, None, MARK, "end_timestamp"),
        (None, None, 5, None, "settled_at"),
        (-(10**18), 10**18, 5, None, "settled_at"),
    ],
)
def test_a_start_that_the_api_did_not_give_is_the_best_there_is_and_is_said_to_be(
    start: int | None, end: int | None, seconds: int | None, expected: int | None, source: str
) -> None:
    row = {"start_timestamp": start, "end_timestamp": end, "duration_seconds": seconds}
    archive, vcon = one_call(row=row)

    found = datetime.fromisoformat(vcon["dialog"][0]["start"])
    assert milliseconds(found) == (milliseconds(archive.record("c").settled_at) if expected is None else expected)
    assert attached(vcon, "archive-origin")["dialog_start"] == source


# The words


def test_the_transcript_and_the_results_are_analyses_of_the_dialog() -> None:
    said = [{"role": "agent", "message": "Hello"}, {"role": "human", "message": "Yes"}, {"role": "x", "message": "?"}]
    _, vcon = one_call(transcript=said, results={"intent": None, "list": []})

    assert analysis(vcon, "transcript") == {
        "turns": [
            {"role": "agent", "party": 0, "message": "Hello"},
            {"role": "human", "party": 1, "message": "Yes"},
            {"role": "x", "message": "?"},
        ]
    }
    assert analysis(vcon, "report") == {"intent": None, "list": []}, "data may be null; it is as served"
    assert {one["dialog"] for one in vcon["analysis"]} == {0}
    assert {one["vendor"] for one in vcon["analysis"]} == {"FormantAI"}


@pytest.mark.parametrize("results", [None, {}, [], ""])
def test_results_that_say_nothing_are_left_out(results: object) -> None:
    _, vcon = one_call(results=results)

    assert [one["type"] for one in vcon["analysis"]] == ["transcript"]


@pytest.mark.parametrize(
    "text", ['"}],"parties":[]', "\x1b]0;pwn\x07", "\x00", "\u202e", "</script>", "\\", "\\ud800", "😀", "line\nline"]
)
def test_hostile_text_stays_text(text: str) -> None:
    said = [{"role": "human", "message": text}]
    _, vcon = one_call(transcript=said, results={text: [text]}, contact_number=text, agent_id=text)

    assert json.loads(json.dumps(vcon)) == vcon
    assert analysis(vcon, "transcript")["turns"] == [{"role": "human", "party": 1, "message": text}]
    assert analysis(vcon, "report") == {text: [text]}
    assert vcon["parties"][1] == {"type": "person"}
    assert len(vcon["parties"]) == 3


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (b"NaN", "NaN"),
        (b"[Infinity, -Infinity]", ["Infinity", "-Infinity"]),
        (b"1e999", "Infinity"),
        (b'"\\ud800"', "\\ud800"),
        (b'{"\\udfff x": 1}', {"\\udfff x": 1}),
        (b'"\\ud83d\\ude00"', "😀"),
    ],
)
def test_what_only_pythons_parser_reads_is_json_for_all_and_the_bytes_are_attached(
    served: bytes, expected: object, tmp_path: Path
) -> None:
    body = b'{"data":{"conversation_id":"c","transcript":[{"role":"human","message":"x"}],"results":' + served + b"}}"
    archive = altered(archive_of({"conversation_id": "c"}), body)

    assert export(archive, tmp_path / "out").made == 1
    text = (tmp_path / "out" / "c.vcon").read_text()
    vcon = json.loads(text, parse_constant=pytest.fail)
    assert analysis(vcon, "report") == expected
    assert attached(vcon, "conversation-as-served").encode() == body


def altered(archive: Archive, body: bytes) -> Archive:
    """An archive whose one conversation has been served with another body."""
    held = archive.record("c")
    assert held.conversation is not None
    receipt = held.conversation.model_copy(update={"sha256": digest(body), "size": len(body)})
    archive.store.objects[receipt.key] = body
    del archive.store.objects[archive.holding("c").entry.record_key]
    archive.seal(held.model_copy(update={"conversation": receipt}))
    return archive


# 1495: Python 3.12 reads that and cannot write it three levels deeper; 3.11 does not read it.
@pytest.mark.parametrize("depth", [100, 900, 1495, 5000])
def test_what_is_nested_too_deeply_for_a_vcon_stops_no_other(depth: int, tmp_path: Path) -> None:
    deep = b"[" * depth + b"]" * depth
    body = b'{"data":{"conversation_id":"c","transcript":"x","results":' + deep + b"}}"
    archive = altered(archive_of({"conversation_id": "c"}, {"conversation_id": "well"}), body)

    done = export(archive, tmp_path / "out")

    assert (tmp_path / "out" / "well.vcon").exists()
    assert done.made + len(done.unmade) == 2
    assert done.made == 2 or all("nested too deeply" in one.reason or "not JSON" in one.reason for one in done.unmade)
    assert done.made == 2 or depth > 100


def test_a_body_that_is_not_utf_8_is_attached_byte_for_byte() -> None:
    body = json.dumps({"data": {"conversation_id": "c", "transcript": "hé"}}, ensure_ascii=False).encode("utf-16")
    archive = altered(archive_of({"conversation_id": "c"}), body)

    vcon = archive.vcon("c")

    assert unpadded(attached(vcon, "conversation-as-served")) == body
    assert analysis(vcon, "transcript") == {"turns": [{"message": "hé"}]}


@pytest.mark.parametrize(
    ("number", "tel"),
    [
        ("+919876543210", "tel:+919876543210"),
        ("+1 (555) 123-45.67", "tel:+15551234567"),
        ("09876543210", None),
        ("+", None),
        ("+9198765x", None),
        ("+٩١٩٨٧٦", None),
        ("anonymous", None),
        ("", None),
        (None, None),
        (919876543210, None),
    ],
)
def test_a_phone_number_is_a_tel_url_where_it_is_a_whole_one(number: object, tel: str | None) -> None:
    _, vcon = one_call(contact_number=number)

    assert vcon["parties"][1].get("tel") == tel


# The evidence


def test_a_vcon_holds_the_bytes_of_the_record_and_of_the_body_and_says_where_they_are(everything: Archive) -> None:
    for holding in everything.holdings:
        entry = holding.entry
        vcon = everything.vcon(entry.conversation_id)
        origin = attached(vcon, "archive-origin")
        assert (origin["archive_id"], origin["manifest"]) == (everything.id, holding.sequence)
        assert origin["record"] == {"key": entry.record_key, "sha256": entry.record_sha256}
        assert origin["objects"] == [one.model_dump() for one in entry.objects]
        assert digest(attached(vcon, "archive-record").encode()) == entry.record_sha256
        assert digest(attached(vcon, "conversation-as-served").encode()) == entry.objects[0].sha256
        assert {one["party"] for one in vcon["attachments"]} == {2}
        assert vcon["parties"][2]["type"] == "organization"


def test_a_file_is_named_as_the_archive_names_the_conversation(everything: Archive, tmp_path: Path) -> None:
    export(everything, tmp_path / "out")

    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {f"{keys.component(one.entry.conversation_id)}.vcon" for one in everything.holdings}
    assert {"a%2Fb.vcon", "%2E%2E.vcon"} <= names


# A later record


def superseded() -> tuple[Archive, dict[str, Any]]:
    """An archive in which a recording was called absent and found; and the vCon of before."""
    archive = archive_of({"conversation_id": "c", "recording_comes": "never"}, {"conversation_id": "other"})
    before = archive.vcon("c")
    other = archive.record("other").recording
    assert isinstance(other, ArchivedRecording)
    archive.seal(archive.record("c").model_copy(update={"recording": other, "start_timestamp": None}))
    assert archive.record("c").supersedes is not None
    return archive, before


def test_a_later_record_gives_a_vcon_of_its_own_that_names_the_one_before() -> None:
    archive, before = superseded()

    after = archive.vcon("c")

    assert "amended" not in before
    assert after["amended"] == {"uuid": before["uuid"]}
    assert after["uuid"] != before["uuid"]
    assert "url" in after["dialog"][0]
    assert [fault.message for fault in VALIDATOR.iter_errors(after)] == []


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_without_the_record_before_there_is_no_amended_vcon(damage: str, tmp_path: Path) -> None:
    archive, _ = superseded()
    link = archive.record("c").supersedes
    assert isinstance(link, Link)
    harm(archive, link.key, damage)

    done = export(archive, tmp_path / "out")

    assert [one.conversation_id for one in done.unmade] == ["c"]
    assert done.made == 1


# Damage


def harm(archive: Archive, key: str, damage: str) -> None:
    if damage == "missing":
        del archive.store.objects[key]
    else:
        archive.store.objects[key] = archive.store.objects[key].replace(b"0", b"1", 1)


@pytest.mark.parametrize("damage", ["missing", "altered"])
@pytest.mark.parametrize("name", [keys.RECORD, keys.CONVERSATION, keys.RECORDING])
@pytest.mark.parametrize("recordings_at", [AT, None], ids=["by reference", "inline"])
def test_a_conversation_that_is_damaged_gives_no_vcon_and_stops_no_other(
    name: str, damage: str, recordings_at: str | None, tmp_path: Path
) -> None:
    said = [{"role": "human", "message": f"{WORDS} 0"}]
    archive = archive_of({"conversation_id": "sick", "transcript": said}, {"conversation_id": "well"})
    harm(archive, archive.holding("sick").entry.record_key.removesuffix(keys.RECORD) + name, damage)

    done = export(archive, tmp_path / "out", recordings_at=recordings_at)

    assert [file.name for file in (tmp_path / "out").iterdir()] == ["well.vcon"]
    assert done.made == 1
    [unmade] = done.unmade
    assert unmade.conversation_id == "sick"
    assert name in unmade.reason
    assert WORDS not in unmade.reason
    assert "+91" not in unmade.reason
    assert SPOKEN not in unmade.reason


def test_a_body_that_vouches_for_nothing_gives_no_vcon() -> None:
    archive = altered(archive_of({"conversation_id": "c"}), b'{"data": {"conversation_id": "c"')

    with pytest.raises(Exception, match="not JSON"):
        archive.vcon("c")


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    archive, _ = one_call()
    (tmp_path / "c.vcon").write_text("mine")

    done = export(archive, tmp_path)

    assert (tmp_path / "c.vcon").read_text() == "mine"
    assert (done.made, [one.conversation_id for one in done.unmade]) == (0, ["c"])


def test_an_archive_out_of_reach_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    archive, _ = one_call()
    archive.store.fail_next("read", StoreUnavailable("gone"), key_contains=keys.RECORDING)

    with pytest.raises(StoreUnavailable):
        export(archive, tmp_path / "out")


def test_an_empty_selection_gives_nothing(tmp_path: Path) -> None:
    assert write_vcons(MemoryStore(), [], tmp_path) == Vcons(0, ())


def test_how_far_it_is_can_be_told(tmp_path: Path) -> None:
    archive = archive_of({}, {}, {})
    said: list[str] = []

    write_vcons(archive.store, archive.holdings, tmp_path, tell=said.append)

    assert said == ["1 vCons written", "2 vCons written", "3 vCons written"]


def test_dates_are_in_utc() -> None:
    _, vcon = one_call()

    assert datetime.fromisoformat(vcon["created_at"]).tzinfo == UTC
