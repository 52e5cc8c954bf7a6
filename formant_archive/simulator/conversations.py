"""One conversation as the simulated API knows it: the truth that an archive is compared with."""

import dataclasses
import json
import uuid
from typing import Any, Literal

from formant_archive.simulator import audio, script
from formant_archive.simulator.dice import dice

Comes = Literal["now", "later", "never"]
"""When something can be fetched: `later` is after `Simulator.release()`."""


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Conversation:
    """A conversation, with what the API serves of it now.

    What is not given is made from the seed and the id whenever it is asked for, always with the same bytes.

    Attributes:
        conversation_id: Any text at all, not only what FormantAI would give.
        agent_id: The agent that called, or None.
        status: One of FormantAI's words, `in_progress`, or anything else.
        start_timestamp: Epoch milliseconds, or None.
        end_timestamp: Epoch milliseconds, or None.
        duration_seconds: As listed. It need not be the length of the audio.
        contact_number: The phone number, unique in a simulator.
        seconds: The length of the made recording.
        listed_at: Epoch milliseconds: the place in the list. It is the start, unless told otherwise.
        recording_comes: Whether there is a recording.
        transcript_comes: Whether the transcript is there, or null.
        results_come: Whether the results are there, or null.
        audio: Bytes to serve in place of the made recording.
        row: Fields of the list's row that replace or join the others, the id too.
        body: Fields of the conversation's body that replace or join the others, the id too.
        seed: The simulator's seed.
    """

    conversation_id: str
    agent_id: int | None
    status: str
    start_timestamp: int | None
    end_timestamp: int | None
    duration_seconds: int | None
    contact_number: str
    seconds: float
    listed_at: int
    recording_comes: Comes = "now"
    transcript_comes: Comes = "now"
    results_come: Comes = "now"
    audio: bytes | None = dataclasses.field(default=None, repr=False)
    row: dict[str, Any] = dataclasses.field(default_factory=dict)
    body: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = dataclasses.field(repr=False)

    @property
    def listed(self) -> dict[str, Any]:
        """The row that the list shows."""
        return {
            "agent_id": self.agent_id,
            "contact_number": self.contact_number,
            "conversation_id": self.conversation_id,
            "duration_seconds": self.duration_seconds,
            "end_timestamp": self.end_timestamp,
            "start_timestamp": self.start_timestamp,
            "status": self.status,
        } | self.row

    @property
    def conversation_json(self) -> bytes:
        """The body of `GET /v1/conversations/{id}` as it is served now."""
        data = {
            "agent_id": self.agent_id,
            "contact_number": self.contact_number,
            "conversation_id": self.conversation_id,
            "duration_seconds": self.duration_seconds,
            "failure_reason": script.failure_reason(self.status),
            "results": script.results(self.seed, self.conversation_id),
            "status": self.status,
            "trace_id": str(uuid.UUID(int=dice(self.seed, self.conversation_id).getrandbits(128), version=4)),
            "transcript": script.transcript(self.seed, self.conversation_id),
        } | self.body
        if self.transcript_comes != "now":
            data["transcript"] = None
        if self.results_come != "now":
            data["results"] = None
        return as_json({"data": data})

    @property
    def recording(self) -> bytes | None:
        """The body of `GET /v1/conversations/{id}/recording` as served now; None where that is a 404."""
        if self.recording_comes != "now":
            return None
        if self.audio is not None:
            return self.audio
        return audio.recording(self.seed, self.conversation_id, self.seconds)

    def release(self) -> None:
        """Lets everything late come, and ends a call in progress."""
        if self.status == "in_progress":
            self.complete()
        for name in ("recording_comes", "transcript_comes", "results_come"):
            if getattr(self, name) == "later":
                setattr(self, name, "now")

    def complete(self) -> None:
        """Ends the call as completed, `seconds` after its start."""
        self.status = "completed"
        self.duration_seconds = round(self.seconds)
        self.end_timestamp = (self.start_timestamp or self.listed_at) + round(1000 * self.seconds)


FIELDS = frozenset(field.name for field in dataclasses.fields(Conversation)) - {"seed"}
BODY_FIELDS = frozenset({"failure_reason", "results", "trace_id", "transcript"})


def sort_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Puts what only the conversation's body has (`transcript`, `results`, …) where it belongs: in `body`.

    Raises:
        TypeError: A conversation has no such field.
    """
    if unknown := given.keys() - FIELDS - BODY_FIELDS:
        raise TypeError(f"a simulated conversation has no {', '.join(sorted(unknown))}")
    fields = {name: value for name, value in given.items() if name in FIELDS}
    body = {name: value for name, value in given.items() if name in BODY_FIELDS}
    return fields | ({"body": fields.get("body", {}) | body} if body else {})


def as_json(value: object) -> bytes:
    """Writes JSON as the simulated API does: UTF-8, no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
