"""What the archive says of a conversation: pure data, frozen, the same in memory and on disk.

Times that the API gives are epoch milliseconds, as listed (`start_timestamp`, `end_timestamp`); times of our own are
UTC instants, written `2026-03-18T20:53:21.766Z`. No model here has a field for a phone number: it stays behind when a
`Reference` is made from a row of the list.

`docs/archive-format.md` tells an auditor what these look like in the bucket.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

#: A longer duration than this is none: 30,000 years.
LONGEST_SECONDS = 1e12


def instant(text: str) -> datetime:
    """Read a time that the archive wrote."""
    return datetime.fromisoformat(text)


def written(time: datetime) -> str:
    """Write a time as the archive does: UTC, milliseconds, `Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(time: datetime) -> int:
    """Say a time as the API does: epoch milliseconds."""
    return round(time.timestamp() * 1000)


def canonical(data: Mapping[str, Any]) -> bytes:
    """Write JSON in the one form that has one hash: UTF-8, sorted keys, no spaces, no NaN."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _text(value: str) -> str:
    """Spell out half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return value.encode(errors="backslashreplace").decode()


def as_id(value: object) -> str | None:
    """Read an id, which is text that is not empty; a plain number is taken as its digits, anything else is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value) if isinstance(value, str) and value else None


def _whole_or_none(value: object) -> int | None:
    """Take a number, or a number written as text; anything else is no time at all and must not lose us the row."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def _number_or_none(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Neither NaN nor infinity, nor what no call can last: JSON and arithmetic must hold it.
    return value if abs(value) < LONGEST_SECONDS else None


def _agent_or_none(value: object) -> object:
    if isinstance(value, str):
        return _text(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _status_text(value: object) -> str:
    return _text(value) if isinstance(value, str) else ""


def _as_written(time: datetime) -> datetime:
    """Cut a time to what `written` keeps of it, so that it is the same in memory and on disk."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


Instant = Annotated[AwareDatetime, AfterValidator(_as_written), PlainSerializer(written, when_used="json")]
ConversationId = Annotated[str, BeforeValidator(as_id)]
Timestamp = Annotated[int | None, BeforeValidator(_whole_or_none)]


class Frozen(BaseModel):
    """A value: compared by its fields, never changed. Its errors never show what was put in."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    def line(self) -> bytes:
        """Write it as one line of canonical JSON, as the parts of a manifest hold it."""
        return canonical(self.model_dump(mode="json")) + b"\n"


class Reference(Frozen):
    """What a row of the list says of a conversation, without its phone number.

    Attributes:
        conversation_id: As the API spells it, of any form.
        agent_id: The agent's number; None where the API has none.
        status: As listed; empty where the row had none.
        start_timestamp: Epoch milliseconds, or None.
        end_timestamp: Epoch milliseconds, or None.
        duration_seconds: As listed, or None.
    """

    conversation_id: ConversationId
    agent_id: Annotated[int | str | None, BeforeValidator(_agent_or_none)] = None
    status: Annotated[str, BeforeValidator(_status_text)] = ""
    start_timestamp: Timestamp = None
    end_timestamp: Timestamp = None
    duration_seconds: Annotated[float | int | None, BeforeValidator(_number_or_none)] = None

    @property
    def time(self) -> int | None:
        """When it started, else when it ended; epoch milliseconds."""
        return self.end_timestamp if self.start_timestamp is None else self.start_timestamp


class Link(Frozen):
    """One object named by another, with its hash (SHA-256, hex)."""

    key: str
    sha256: str


class StoredObject(Link):
    """A payload that an entry names; `size` in bytes."""

    size: int


class Receipt(StoredObject):
    """A payload that lies in the archive, and when it was fetched."""

    fetched_at: Instant


class Audio(Frozen):
    """What a WAV header says, and how long the audio that is really there lasts."""

    seconds: float
    sample_rate: int
    channels: int
    codec: str


class RecordingReceipt(Receipt):
    """A stored recording; `audio` is None where it was archived as served although it cannot be read as WAV."""

    audio: Audio | None
    remarks: tuple[str, ...] = ()


class ConversationReceipt(Receipt):
    """A stored conversation body, and whether a transcript is in it."""

    has_transcript: bool


class Probe(Frozen):
    """One question to the API that found nothing yet: the evidence of an absence.

    Attributes:
        at: When it was asked.
        http_status: The answer's status; 200 where the answer came but what was looked for was not in it.
        error_type: The API's own word (`not_found`), or ours (`transcript_missing`, `results_missing`, `open`).
    """

    at: Instant
    http_status: int
    error_type: str


class Failure(Frozen):
    """Why a payload could not be archived this time: a word of a fixed vocabulary, and a sentence without data.

    `audio_sha256` is the hash of a refused body that is audio all the same: when it comes again unchanged past the
    grace, the source has nothing better, and it is archived as served.
    """

    reason: str
    message: str
    audio_sha256: str | None = None


class PresentTranscript(Frozen):
    """The transcript is in `conversation.json`."""

    state: Literal["present"] = "present"


class Missing(Frozen):
    """A payload that never came, with every probe as evidence."""

    state: Literal["absent", "not_expected", "gone"]
    probes: tuple[Probe, ...]


class ArchivedRecording(Receipt):
    """The recording lies in the archive."""

    state: Literal["archived"] = "archived"
    audio: Audio | None


class Writer(Frozen):
    """Who wrote it: the version of this package and the id of the run."""

    version: str
    run_id: str


class Retention(Frozen):
    """How long a conversation's payloads must be locked against deletion, and how hard."""

    mode: Literal["GOVERNANCE", "COMPLIANCE"]
    until: Instant


class Record(Frozen):
    """`record.json`: written last for a conversation. From then on it is settled.

    `conversation` is None only where the conversation itself was gone before it could be fetched. `supersedes` names
    the earlier record, in `record.2.json` alone. `retention` is there only where it was set.
    """

    format: Literal["formant-archive/record/1"] = "formant-archive/record/1"
    conversation_id: str
    agent_id: int | str | None
    status: str
    start_timestamp: int | None
    end_timestamp: int | None
    duration_seconds: float | int | None
    source: str
    conversation: Receipt | None
    transcript: PresentTranscript | Missing
    recording: ArchivedRecording | Missing
    remarks: tuple[str, ...]
    writer: Writer
    settled_at: Instant
    supersedes: Link | None = None
    retention: Retention | None = None

    def body(self) -> bytes:
        """Write `record.json`; what was not set is left out."""
        unset = {name for name in ("supersedes", "retention") if getattr(self, name) is None}
        return canonical(self.model_dump(mode="json", exclude=unset))

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """The payloads that lie in the archive."""
        held = [self.conversation] if self.conversation else []
        if isinstance(self.recording, ArchivedRecording):
            held.append(self.recording)
        return tuple(StoredObject(key=one.key, size=one.size, sha256=one.sha256) for one in held)


Outcome = Literal["archived", "archived_without_recording", "gone", "adopted"]


class Entry(Frozen):
    """A settled conversation in a manifest: where its record lies, and what the record vouches for."""

    conversation_id: str
    agent_id: int | str | None
    start_timestamp: int | None
    status: str
    outcome: Outcome
    record_key: str
    record_sha256: str
    objects: tuple[StoredObject, ...]


class Pending(Reference):
    """A conversation that was seen and is not settled yet: its latest row, with all that is known of it so far.

    Attributes:
        folder: Where it is archived, named once and for all.
        first_seen_at: When a listing first showed it.
        scopes: The scopes whose listings have shown it.
        witness: A conversation that was settled when this one was first seen: while it still answers, the API key is
            one of the same workspace, and a 404 speaks of this conversation alone.
        reason: Why it is not settled: `new`, `open`, `results_missing`, `transcript_missing`, `not_found` (the
            conversation), `recording_not_found`, or a failure's word.
        message: A failure's sentence.
        failed: Whether the latest try ended in an error that survived all retries.
        failures: Tries in a row that failed.
        conversation: The body that is already stored.
        recording: The recording that is already stored.
        conversation_probes: Questions for the conversation that found nothing yet.
        recording_probes: Questions for the recording that found nothing yet.
        refused_sha256: Hash of audio that was refused, see `Failure`.
        next_probe_at: Before this nothing is asked of the API for it; None means the next run.
    """

    folder: str
    first_seen_at: Instant
    scopes: tuple[str, ...] = ()
    witness: str | None = None
    reason: str = "new"
    message: str | None = None
    failed: bool = False
    failures: int = 0
    conversation: ConversationReceipt | None = None
    recording: RecordingReceipt | None = None
    conversation_probes: tuple[Probe, ...] = ()
    recording_probes: tuple[Probe, ...] = ()
    refused_sha256: str | None = None
    next_probe_at: Instant | None = None

    @property
    def reference(self) -> Reference:
        """What the list says of it, and nothing else."""
        return Reference(**{name: getattr(self, name) for name in Reference.model_fields})

    def is_due(self, now: datetime) -> bool:
        """Whether the API may be asked for it now."""
        return self.next_probe_at is None or self.next_probe_at <= now


class Named(Frozen):
    """A conversation that an act of custody was about."""

    conversation_id: str


class Held(Frozen):
    """A conversation under legal hold, and the cases that hold it, sorted; none is empty."""

    conversation_id: str
    cases: tuple[str, ...]


class Erased(Frozen):
    """A conversation whose payloads were erased, and their keys, sorted."""

    conversation_id: str
    keys: tuple[str, ...]


class Recent(Frozen):
    """A conversation near the head of a scope's listing, so that the next run need not ask the store for it."""

    conversation_id: str
    time: int
    settled: bool
