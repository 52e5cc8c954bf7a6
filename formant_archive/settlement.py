"""When a conversation is settled, and what is to be asked of the API until then: the rules of waiting, pure.

A conversation is settled when its body and its recording lie in the archive, or when what is missing may be called
missing: asked for at least twice, a probe interval or more apart, the last time past the grace, while the conversation
itself answered in the same run. Nothing is ever called missing because of an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from formant_archive.policy import Policy
from formant_archive.records import (
    ArchivedRecording,
    ConversationReceipt,
    Failure,
    Missing,
    Pending,
    PresentTranscript,
    Probe,
    Receipt,
    Record,
    RecordingReceipt,
    Retention,
    Writer,
)

LONGEST_INTERVAL = timedelta(hours=6)


@dataclass(frozen=True)
class Answer:
    """What one look for a payload gave; nothing at all where it was not asked for.

    Attributes:
        receipt: It lies in the archive now.
        probe: It, or a part of it, was not there.
        failure: An error that survived all retries, or a body that must not be archived.
        answered: Whether the API knows the conversation, as this look has seen.
        is_witnessed: Whether it was not found although the witness was, so that the key cannot be the reason.
        status: The conversation's status as its body has it.
    """

    receipt: ConversationReceipt | RecordingReceipt | None = None
    probe: Probe | None = None
    failure: Failure | None = None
    answered: bool = False
    is_witnessed: bool = False
    status: str | None = None


def ended_at(pending: Pending) -> datetime:
    """From when the grace counts: the call's end, else its start, else when it was first seen."""
    for timestamp in (pending.end_timestamp, pending.start_timestamp):
        if timestamp is not None:
            try:
                return datetime.fromtimestamp(timestamp / 1000, UTC)
            except (OverflowError, ValueError, OSError):
                continue
    return pending.first_seen_at


def retention(pending: Pending, now: datetime, policy: Policy, status: str | None = None) -> Retention | None:
    """Say until when what belongs to a conversation is to be locked: from the end of its call; None: not at all.

    The payloads are stored before their record: both ask here, and where the list has learned more between the two,
    `register.seal` makes good what the payloads lack.
    """
    if policy.keeping is None:
        return None
    return policy.keeping.of(pending.agent_id, status or pending.status, ended_at(pending), now)


def is_past_grace(pending: Pending, now: datetime, policy: Policy) -> bool:
    """Whether a payload that is not there by now may be called missing."""
    # Not `end + grace`: the API may give an end on the last day that there is.
    return now - ended_at(pending) >= policy.grace


def is_overdue(pending: Pending, now: datetime, policy: Policy) -> bool:
    """Whether it should have been settled by now: all waits are over, and it was asked for since.

    After the grace, or the wait for results where that is longer, the next question can be one longest pause away; so
    can it be of a conversation that was first seen when all that was over. A question that came early, for the results,
    puts off the one that counts by two probe intervals; and runs come when they come.
    """
    pause = max(LONGEST_INTERVAL, 3 * policy.probe_interval)
    wait = max(policy.grace, policy.results_wait)
    return now - ended_at(pending) >= wait + pause and now - pending.first_seen_at >= pause


def is_enough(probes: tuple[Probe, ...], pending: Pending, policy: Policy) -> bool:
    """Whether these probes prove an absence: two, far enough apart, the last one past the grace."""
    if len(probes) < 2:
        return False
    first, last = probes[0].at, probes[-1].at
    return last - first >= policy.probe_interval and is_past_grace(pending, last, policy)


def wants_conversation(pending: Pending, now: datetime, policy: Policy) -> bool:
    """Whether to ask for the body: it is not stored, or this run's look may prove that the recording is absent.

    The second is the proof that the conversation itself still answers in the same run.
    """
    if wants_body(pending, policy):
        return True
    return pending.recording is None and _next_probe_decides(pending.recording_probes, pending, now, policy)


def wants_body(pending: Pending, policy: Policy) -> bool:
    """Whether a body is to be had.

    It is missing; or it must say that the call is over; or only one is stored that has no transcript, by a run whose
    evidence is lost.
    """
    stored, probes = pending.conversation, pending.conversation_probes
    if policy.is_open(pending.status):
        return True
    if stored is None or stored.has_transcript:
        return stored is None
    return not is_enough(of_type("transcript_missing", probes), pending, policy)


def _next_probe_decides(probes: tuple[Probe, ...], pending: Pending, now: datetime, policy: Policy) -> bool:
    return bool(probes) and is_past_grace(pending, now, policy) and now - probes[0].at >= policy.probe_interval


def wants_recording(pending: Pending, policy: Policy) -> bool:
    """Whether to ask for the recording: a call in progress has none yet."""
    return pending.recording is None and not policy.is_open(pending.status)


def with_answers(pending: Pending, conversation: Answer, recording: Answer, policy: Policy) -> Pending:
    """Write down what the looks of this run gave."""
    update: dict[str, object] = {
        "conversation": (wants_body(pending, policy) and conversation.receipt) or pending.conversation,
        "recording": pending.recording or recording.receipt,
        "conversation_probes": _added(pending.conversation_probes, conversation.probe),
        "recording_probes": _added(pending.recording_probes, recording.probe),
    }
    if policy.is_open(pending.status) and conversation.status:
        update["status"] = conversation.status
    return pending.model_copy(update=update)


def _added(probes: tuple[Probe, ...], probe: Probe | None) -> tuple[Probe, ...]:
    return probes if probe is None else (*probes, probe)


@dataclass(frozen=True)
class Verdict:
    """What a run's looks make of a conversation.

    Attributes:
        conversation: The body that is to stand in the record; None for one that is gone.
        transcript: Its state, None while it is to be waited for.
        recording: Its state, None while it is to be waited for.
    """

    conversation: Receipt | None
    transcript: PresentTranscript | Missing | None
    recording: ArchivedRecording | Missing | None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.transcript is not None and self.recording is not None


def is_gone_by_rule(pending: Pending, policy: Policy) -> bool:
    """Whether the conversation itself was asked for in vain often and long enough to be called gone."""
    return is_enough(of_type("not_found", pending.conversation_probes), pending, policy)


def judge(pending: Pending, conversation: Answer, recording: Answer, policy: Policy) -> Verdict:
    """Say what of a conversation is settled, after `with_answers`.

    Args:
        pending: With this run's answers.
        conversation: This run's look for the body: whether the conversation itself, or at least its witness, answers.
        recording: This run's look for the recording. Only where it found nothing may the waiting end: the probes of
            earlier runs say nothing of a recording that has come since, and failed to be fetched.
        policy: The rules of waiting.
    """
    is_gone = conversation.is_witnessed and is_gone_by_rule(pending, policy)
    return Verdict(
        conversation=_plain(pending.conversation),
        transcript=_transcript(pending, policy, is_gone=is_gone),
        recording=_recording(pending, recording, policy, answered=conversation.answered, is_gone=is_gone),
    )


def of_type(error_type: str, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
    """Pick the probes that ended with this word."""
    return tuple(probe for probe in probes if probe.error_type == error_type)


def _missing(state: Literal["absent", "gone"], pending: Pending, probes: tuple[Probe, ...]) -> Missing:
    """Name a missing payload; a call that never connected was not expected to have one."""
    expected = pending.status == "completed" or state == "gone"
    return Missing(state=state if expected else "not_expected", probes=probes)


def _transcript(pending: Pending, policy: Policy, *, is_gone: bool) -> PresentTranscript | Missing | None:
    stored, probes = pending.conversation, pending.conversation_probes
    if stored is not None and stored.has_transcript:
        return PresentTranscript()
    if not wants_body(pending, policy):
        return _missing("absent", pending, of_type("transcript_missing", probes))
    return _missing("gone", pending, of_type("not_found", probes)) if is_gone else None


def _recording(
    pending: Pending, look: Answer, policy: Policy, *, answered: bool, is_gone: bool
) -> ArchivedRecording | Missing | None:
    stored, probes = pending.recording, pending.recording_probes
    if stored is not None:
        return ArchivedRecording(**stored.model_dump(exclude={"remarks"}))
    if is_gone and look.failure is None:
        return _missing("gone", pending, of_type("not_found", pending.conversation_probes))
    if answered and look.probe is not None and is_enough(probes, pending, policy):
        return _missing("absent", pending, probes)
    return None


def _plain(receipt: ConversationReceipt | None) -> Receipt | None:
    return None if receipt is None else Receipt(**receipt.model_dump(exclude={"has_transcript"}))


def record(
    pending: Pending,
    verdict: Verdict,
    *,
    source: str,
    writer: Writer,
    now: datetime,
    retention: Retention | None = None,
) -> Record:
    """Write the record of a settled conversation."""
    if verdict.transcript is None or verdict.recording is None:
        raise ValueError("a conversation that is still waited for has no record")
    return Record(
        conversation_id=pending.conversation_id,
        agent_id=pending.agent_id,
        status=pending.status,
        start_timestamp=pending.start_timestamp,
        end_timestamp=pending.end_timestamp,
        duration_seconds=pending.duration_seconds,
        source=source,
        conversation=verdict.conversation,
        transcript=verdict.transcript,
        recording=verdict.recording,
        remarks=remarks(pending),
        writer=writer,
        settled_at=now,
        retention=retention,
    )


def remarks(pending: Pending) -> tuple[str, ...]:
    """Say what an auditor would stumble over."""
    receipt = pending.recording
    if receipt is None:
        return ()
    listed, audio = pending.duration_seconds, receipt.audio
    if listed is None or audio is None or abs(listed - audio.seconds) <= max(2, listed / 100):
        return receipt.remarks
    return (*receipt.remarks, f"duration differs: {listed:g} s listed, {audio.seconds:g} s of audio")


def waiting(pending: Pending, answers: Iterable[Answer], now: datetime, policy: Policy) -> Pending:
    """Say why a conversation is not settled after this run's looks, and when to ask again."""
    failures = [answer.failure for answer in answers if answer.failure is not None]
    if failures:
        return _after_failure(pending, failures, now, policy)
    asked = [len(pending.conversation_probes)] if wants_body(pending, policy) else []
    asked += [len(pending.recording_probes)] if wants_recording(pending, policy) else []
    reason = _reason(pending, policy)
    pause = _interval(max(asked, default=0), policy)
    if reason == "results_missing":
        pause = min(pause, max(policy.results_wait - (now - ended_at(pending)), timedelta(0)))
    return pending.model_copy(
        update={
            "reason": reason,
            "message": None,
            "failed": False,
            "failures": 0,
            "next_probe_at": now + pause if asked and all(asked) else None,
        }
    )


def _reason(pending: Pending, policy: Policy) -> str:
    """Name what is waited for; the body comes before the recording."""
    if pending.conversation_probes and wants_body(pending, policy):
        last = pending.conversation_probes[-1]
        return last.error_type
    if pending.recording is None and pending.recording_probes:
        return "recording_not_found"
    return "new" if pending.reason == "open" else pending.reason


def _after_failure(pending: Pending, failures: list[Failure], now: datetime, policy: Policy) -> Pending:
    """An error is tried again by the next run at once, and only when it persists ever more rarely."""
    count = pending.failures + 1
    refused = [failure.audio_sha256 for failure in failures if failure.audio_sha256]
    return pending.model_copy(
        update={
            "reason": failures[0].reason,
            "message": failures[0].message,
            "failed": True,
            "failures": count,
            "refused_sha256": refused[0] if refused else pending.refused_sha256,
            "next_probe_at": None if count == 1 else now + _interval(count - 1, policy),
        }
    )


def _interval(asked: int, policy: Policy) -> timedelta:
    """How long to wait after so many questions: the probe interval, doubling up to six hours, or itself if longer."""
    doublings = min(max(asked - 1, 0), 20)
    return min(policy.probe_interval * 2.0**doublings, max(LONGEST_INTERVAL, policy.probe_interval))
