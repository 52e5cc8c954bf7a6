"""One payload of one conversation: fetch → check → hash → put → receipt; or the probe or failure instead.

- Bytes are archived exactly as served, and only when they are what was asked for.
- Whatever goes wrong with one conversation is its own answer, never an error of its batch. Only what somebody has to
  mend first (a refused key, a bucket that denies) is raised.
- A key that is taken is looked at: the first writer's bytes stand, and the receipt says what they are.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO

from formant_archive import keys, settlement
from formant_archive.client import FormantClient
from formant_archive.conversation import has_transcript, read_conversation
from formant_archive.errors import ArchiveError, NotFound, PayloadRefused, UsageError
from formant_archive.policy import Policy
from formant_archive.records import (
    ConversationReceipt,
    Failure,
    Pending,
    Probe,
    RecordingReceipt,
)
from formant_archive.settlement import Answer
from formant_archive.stores import Care, Lock, Store
from formant_archive.wav import inspect

#: Bytes of a recording that are held in memory; longer ones go to an unlinked temporary file of mode 0600.
SPOOL_BYTES = 8 * 1024 * 1024

Clock = Callable[[], datetime]


def capture_conversation(
    client: FormantClient, store: Store, pending: Pending, *, policy: Policy, clock: Clock, held: bool = False
) -> Answer:
    """Fetch the body of a conversation and archive it once it is ready; `held`: under a legal hold."""
    try:
        return _conversation(client, store, pending, policy, clock, held)
    except (ArchiveError, OSError) as fault:
        return Answer(failure=_failure(fault))


def _conversation(
    client: FormantClient, store: Store, pending: Pending, policy: Policy, clock: Clock, held: bool
) -> Answer:
    try:
        body = client.conversation(pending.conversation_id)
    except NotFound:
        # This run or another may have stored it before it went.
        now = clock()
        known = pending.conversation
        stored = known if known and known.has_transcript else _stored_conversation(store, pending, now)
        is_witnessed = _is_witnessed(client, pending, policy, now)
        return replace(_not_found(now), receipt=stored, is_witnessed=is_witnessed)
    if not settlement.wants_body(pending, policy):
        return Answer(answered=True)
    return _answer_with_body(store, pending, body, policy, clock(), held)


def _is_witnessed(client: FormantClient, pending: Pending, policy: Policy, now: datetime) -> bool:
    """Whether a conversation of the same workspace answers, where it matters: when this 404 would decide."""
    after = settlement.with_answers(pending, _not_found(now), Answer(), policy)
    if pending.witness is None or not settlement.is_gone_by_rule(after, policy):
        return False
    try:
        client.conversation(pending.witness)
    except NotFound:
        return False
    return True


def _answer_with_body(store: Store, pending: Pending, body: bytes, policy: Policy, now: datetime, held: bool) -> Answer:
    data = read_conversation(body, pending.conversation_id)
    status = data.get("status")
    if policy.is_open(pending.status) and (not isinstance(status, str) or policy.is_open(status)):
        return Answer(probe=Probe(at=now, http_status=200, error_type="open"), answered=True)
    if policy.is_open(pending.status) and status not in policy.statuses:
        return Answer(answered=True, status=status)
    probe = _what_is_missing(data, pending, policy, now)
    if probe is not None and not _is_taken_as_it_is(probe, pending, policy):
        return Answer(probe=probe, answered=True, status=status)
    care = _care(pending, policy, now, held, status if isinstance(status, str) else None)
    receipt = _store_conversation(store, pending, body, data, now, care)
    return Answer(receipt=receipt, probe=probe, answered=True, status=status)


def _store_conversation(
    store: Store, pending: Pending, body: bytes, data: dict[str, Any], now: datetime, care: Care
) -> ConversationReceipt:
    """Store a body, or find that another run has stored one: it stands, unless only ours has a transcript."""
    sha256 = hashlib.sha256(body).hexdigest()
    for name in (keys.CONVERSATION, keys.SECOND_CONVERSATION):
        key = pending.folder + name
        if store.put(key, body, sha256=sha256, care=care):
            return _conversation_receipt(key, body, data, now)
        stored = look_at_conversation(store, key, pending.conversation_id, now)
        if stored.has_transcript or not has_transcript(data):
            break
    return stored


def _care(pending: Pending, policy: Policy, now: datetime, held: bool, status: str | None = None) -> Care:
    retention = settlement.retention(pending, now, policy, status if policy.is_open(pending.status) else None)
    lock = None if retention is None else Lock(mode=retention.mode, until=retention.until)
    return Care(lock=lock, held=held, is_payload=True)


def _stored_conversation(store: Store, pending: Pending, now: datetime) -> ConversationReceipt | None:
    """Find the body that lies in the archive already; the second one, which has a transcript, before the first."""
    for name in (keys.SECOND_CONVERSATION, keys.CONVERSATION):
        key = pending.folder + name
        if store.stat(key) is not None:
            return look_at_conversation(store, key, pending.conversation_id, now)
    return None


def _what_is_missing(data: dict[str, Any], pending: Pending, policy: Policy, now: datetime) -> Probe | None:
    if not has_transcript(data):
        return Probe(at=now, http_status=200, error_type="transcript_missing")
    if data.get("results") is None and now - settlement.ended_at(pending) < policy.results_wait:
        return Probe(at=now, http_status=200, error_type="results_missing")
    return None


def _is_taken_as_it_is(probe: Probe, pending: Pending, policy: Policy) -> bool:
    """Whether a body without a transcript is archived: the same rule as for a recording that never came."""
    before = settlement.of_type(probe.error_type, pending.conversation_probes)
    is_transcript = probe.error_type == "transcript_missing"
    return is_transcript and settlement.is_enough((*before, probe), pending, policy)


def _conversation_receipt(key: str, body: bytes, data: dict[str, Any], now: datetime) -> ConversationReceipt:
    return ConversationReceipt(
        key=key,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        fetched_at=now,
        has_transcript=has_transcript(data),
    )


def look_at_conversation(store: Store, key: str, conversation_id: str, now: datetime) -> ConversationReceipt:
    """Make the receipt of a body that already lies in the archive.

    Raises:
        PayloadRefused: What lies there is not this conversation.
    """
    body = store.get(key)
    return _conversation_receipt(key, body, read_conversation(body, conversation_id), now)


def capture_recording(
    client: FormantClient, store: Store, pending: Pending, *, policy: Policy, clock: Clock, held: bool = False
) -> Answer:
    """Fetch the recording of a conversation and archive it; `held`: under a legal hold."""
    try:
        return _recording(client, store, pending, policy, clock, held)
    except (ArchiveError, OSError) as fault:
        return Answer(failure=_failure(fault))


def _recording(
    client: FormantClient, store: Store, pending: Pending, policy: Policy, clock: Clock, held: bool
) -> Answer:
    key = pending.folder + keys.RECORDING
    with SpooledTemporaryFile(max_size=SPOOL_BYTES) as file:
        try:
            sha256 = client.recording(pending.conversation_id, _binary(file))
        except NotFound:
            now = clock()
            return _not_found(now) if store.stat(key) is None else Answer(receipt=look_at_recording(store, key, now))
        return _answer_with_recording(store, key, _binary(file), sha256, pending, policy, clock(), held)


def _binary(file: IO[bytes]) -> BinaryIO:
    return file  # type: ignore[return-value]  # a spooled file is one in all but its declared type


def _answer_with_recording(
    store: Store, key: str, file: BinaryIO, sha256: str, pending: Pending, policy: Policy, now: datetime, held: bool
) -> Answer:
    size = file.tell()
    found = inspect(file, size)
    remarks = found.remarks
    if found.fault is not None:
        comes_again = sha256 == pending.refused_sha256 and settlement.is_past_grace(pending, now, policy)
        if found.audio is None or not comes_again:
            return Answer(failure=_refused_audio(found.fault, sha256 if found.audio else None))
        remarks = (*remarks, f"archived as served although {found.fault}: it came twice the same, past the grace")
    if not store.put(key, file, sha256=sha256, care=_care(pending, policy, now, held)):
        return Answer(receipt=look_at_recording(store, key, now))
    receipt = RecordingReceipt(key=key, size=size, sha256=sha256, fetched_at=now, audio=found.audio, remarks=remarks)
    return Answer(receipt=receipt)


def _refused_audio(fault: str, audio_sha256: str | None) -> Failure:
    return Failure(
        reason=fault,
        message=f"the recording's body is not sound WAV audio: {fault}",
        audio_sha256=audio_sha256,
    )


def look_at_recording(store: Store, key: str, now: datetime) -> RecordingReceipt:
    """Make the receipt of a recording that already lies in the archive, by reading all of it.

    Raises:
        PayloadRefused: What lies there is no audio: somebody else's object, which stays and must be looked at.
    """
    with SpooledTemporaryFile(max_size=SPOOL_BYTES) as file, store.open(key) as stored:
        hashed = hashlib.sha256()
        while chunk := stored.read(1 << 20):
            hashed.update(chunk)
            file.write(chunk)
        size = file.tell()
        found = inspect(_binary(file), size)
    if found.audio is None:
        raise PayloadRefused("foreign_object", f"{key} holds something that is no recording: see who put it there")
    remarks = found.remarks if found.fault is None else (*found.remarks, f"stored although {found.fault}")
    return RecordingReceipt(
        key=key, size=size, sha256=hashed.hexdigest(), fetched_at=now, audio=found.audio, remarks=remarks
    )


def _not_found(now: datetime) -> Answer:
    return Answer(probe=Probe(at=now, http_status=404, error_type="not_found"))


def _failure(fault: ArchiveError | OSError) -> Failure:
    """Turn an error into data, unless somebody has to mend something first."""
    if isinstance(fault, OSError):
        return Failure(reason="unavailable", message=f"no room for a temporary file: {fault.strerror}")
    if fault.exit_code == UsageError.exit_code:
        raise fault
    if isinstance(fault, PayloadRefused):
        return Failure(reason=fault.reason, message=str(fault))
    return Failure(reason="unavailable" if fault.retryable else "bad_answer", message=str(fault))


def is_outage(work: Sequence[Pending], answers: Sequence[Answer]) -> bool:
    """Whether a batch met an outage, not bad conversations: nothing came, also not for those that never failed."""
    out_of_reach = [answer.failure is not None and answer.failure.reason == "unavailable" for answer in answers]
    return bool(work) and all(out_of_reach) and any(pending.failures == 0 for pending in work)
