"""One payload: what is archived, what is a probe, what is a failure, and what a taken key means."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from formant_archive import capture, keys, ledger, register, settlement
from formant_archive.errors import ApiRefused, StoreRefused, StoreUnavailable
from formant_archive.records import ConversationReceipt, Entry, Pending, Probe
from formant_archive.settlement import Answer
from formant_archive.simulator import Conversation, Simulator
from tests.plain import EAGER, Clock, archive, client_of
from tests.stores.memory import MemoryStore

Scene = tuple[Simulator, Conversation, Pending, MemoryStore, Clock]


@pytest.fixture
def scene() -> Scene:
    """A simulator with one conversation, as a run sees it first."""
    clock = Clock()
    sim = Simulator(1, 0, now=lambda: clock.ms, audio_seconds=(0.2, 0.2))
    (conversation,) = sim.add()
    clock.go(hours=1)
    pending = Pending(
        **conversation.listed, folder="conversations/agent_id=101/date=2026-03-20/x/", first_seen_at=clock()
    )
    return sim, conversation, pending, MemoryStore(), clock


def put(store: MemoryStore, key: str, body: bytes) -> None:
    store.put(key, body, sha256=hashlib.sha256(body).hexdigest())


def body_without_transcript(truth: Conversation, said: str = "") -> bytes:
    data = {"conversation_id": truth.conversation_id, "status": "completed", "transcript": None, "said": said}
    return json.dumps({"data": data}).encode()


def stored_without_transcript(scene: Scene) -> ConversationReceipt:
    """A body without a transcript lies in the archive, and this is its receipt."""
    _, truth, pending, store, clock = scene
    key = pending.folder + keys.CONVERSATION
    put(store, key, body_without_transcript(truth))
    return capture.look_at_conversation(store, key, truth.conversation_id, clock())


def conversation(scene: Scene, **update: Any) -> Answer:
    sim, _, pending, store, clock = scene
    pending = pending.model_copy(update=update)
    return capture.capture_conversation(client_of(sim, clock), store, pending, policy=EAGER, clock=clock)


def recording(scene: Scene, **update: Any) -> Answer:
    sim, _, pending, store, clock = scene
    pending = pending.model_copy(update=update)
    return capture.capture_recording(client_of(sim, clock), store, pending, policy=EAGER, clock=clock)


def test_a_receipt_says_what_lies_in_the_archive(scene: Scene) -> None:
    _, truth, pending, store, clock = scene

    answer = recording(scene)

    assert answer.receipt is not None
    assert store.get(pending.folder + keys.RECORDING) == truth.recording
    assert answer.receipt.size == len(truth.recording or b"")
    assert answer.receipt.sha256 == hashlib.sha256(truth.recording or b"").hexdigest()
    assert answer.receipt.fetched_at == clock()


def test_the_first_writer_s_bytes_stand(scene: Scene) -> None:
    _, truth, pending, store, _ = scene
    earlier = truth.conversation_json.replace(b"Meridian", b"Neridian")
    put(store, pending.folder + keys.CONVERSATION, earlier)

    answer = conversation(scene)

    assert answer.receipt is not None
    assert answer.receipt.sha256 == hashlib.sha256(earlier).hexdigest()
    assert store.get(pending.folder + keys.CONVERSATION) == earlier


@pytest.mark.parametrize("name", [keys.CONVERSATION, keys.RECORDING])
def test_what_another_run_has_stored_is_found_when_the_api_says_not_found(name: str, scene: Scene) -> None:
    sim, truth, pending, store, _ = scene
    body = truth.recording if name == keys.RECORDING else truth.conversation_json
    put(store, pending.folder + name, body or b"")
    sim.delete(truth.conversation_id)

    answer = recording(scene) if name == keys.RECORDING else conversation(scene)

    assert answer.receipt is not None
    assert (answer.probe is None) == (name == keys.RECORDING), "that the conversation is not found is evidence too"


def test_a_transcript_that_came_after_a_body_without_one_was_stored_is_archived_beside_it(scene: Scene) -> None:
    _, truth, pending, store, _ = scene
    stored_without_transcript(scene)

    for _ in range(2):
        answer = conversation(scene)

        assert isinstance(answer.receipt, ConversationReceipt)
        assert answer.receipt.has_transcript
        assert store.get(answer.receipt.key) == truth.conversation_json
    assert store.get(pending.folder + keys.CONVERSATION) == body_without_transcript(truth)


def test_a_known_body_without_a_transcript_is_asked_for_again(scene: Scene) -> None:
    _, truth, pending, store, _ = scene

    answer = conversation(scene, conversation=stored_without_transcript(scene))

    assert isinstance(answer.receipt, ConversationReceipt)
    assert answer.receipt.key == pending.folder + keys.SECOND_CONVERSATION
    assert answer.receipt.has_transcript
    assert store.get(answer.receipt.key) == truth.conversation_json


def test_a_second_body_without_a_transcript_is_not_stored(scene: Scene) -> None:
    sim, truth, pending, store, clock = scene
    first = stored_without_transcript(scene)
    asked = Probe(at=clock(), http_status=200, error_type="transcript_missing")
    sim.fault(kind="conversation", body=body_without_transcript(truth, "more"))
    clock.go(hours=100)

    answer = conversation(scene, conversation_probes=(asked,))

    assert isinstance(answer.receipt, ConversationReceipt)
    assert (answer.receipt.key, answer.receipt.sha256) == (first.key, first.sha256)
    assert not answer.receipt.has_transcript
    assert pending.folder + keys.SECOND_CONVERSATION not in store.objects


@pytest.mark.parametrize("is_known", [False, True], ids=["by a run that was lost", "known from a manifest"])
def test_the_second_stored_body_is_the_one_that_is_found_when_the_conversation_is_gone(
    is_known: bool, scene: Scene
) -> None:
    sim, truth, pending, store, _ = scene
    first = stored_without_transcript(scene)
    put(store, pending.folder + keys.SECOND_CONVERSATION, truth.conversation_json)
    sim.delete(truth.conversation_id)

    answer = conversation(scene, conversation=first if is_known else None)

    assert isinstance(answer.receipt, ConversationReceipt)
    assert answer.receipt.key == pending.folder + keys.SECOND_CONVERSATION
    assert answer.receipt.has_transcript
    assert answer.probe is not None


def test_a_recording_of_a_conversation_that_is_gone_is_not_waited_for_for_ever() -> None:
    clock, store = Clock(), MemoryStore()
    sim = Simulator(conversations=2, completed=1.0, now=lambda: clock.ms)
    client = client_of(sim, clock)
    gone = sim.add(recording_comes="never")[0]
    archive(client, store, clock)
    sim.delete(gone.conversation_id)

    for _ in range(4):
        clock.go(days=2)
        run = archive(client, store, clock)

    assert not run.head.state.pending
    (key,) = [key for key in store.objects if key.endswith(f"{gone.conversation_id}/{keys.RECORD}")]
    record = register.read_record(key, store.get(key), gone.conversation_id)
    assert record.conversation is not None
    assert record.recording.state == "gone"


def test_a_known_receipt_with_a_transcript_stands_when_the_conversation_is_gone(scene: Scene) -> None:
    sim, truth, _, _, clock = scene
    known = conversation(scene).receipt
    assert known is not None
    sim.delete(truth.conversation_id)
    clock.go(hours=1)

    assert conversation(scene, conversation=known).receipt == known


def test_the_witness_is_asked_where_this_look_decides_and_only_there(scene: Scene) -> None:
    sim, truth, _, _, clock = scene
    (witness,) = sim.add()
    earlier = (Probe(at=clock(), http_status=404, error_type="not_found"),)
    sim.delete(truth.conversation_id)

    def look(**update: Any) -> tuple[bool, int]:
        sim.forget_requests()
        return conversation(scene, **update).is_witnessed, sim.count("conversation")

    assert look(witness=witness.conversation_id, conversation_probes=earlier) == (False, 1), "within the grace"
    clock.go(hours=100)
    assert look(witness=witness.conversation_id, conversation_probes=earlier) == (True, 2)
    assert look(witness=witness.conversation_id) == (False, 1), "the first look"
    assert look(conversation_probes=earlier) == (False, 1), "no witness is known"


def test_a_conversation_is_not_gone_while_its_witness_does_not_answer_either() -> None:
    clock, store = Clock(), MemoryStore()
    sim = Simulator(conversations=2, completed=1.0, now=lambda: clock.ms)
    client = client_of(sim, clock)
    (gone,) = sim.add(recording_comes="never")
    archive(client, store, clock)
    witness = ledger.read_head(store).state.pending[gone.conversation_id].witness
    assert witness is not None
    sim.delete(gone.conversation_id)
    sim.delete(witness)

    for _ in range(4):
        clock.go(days=2)
        run = archive(client, store, clock)

    assert run.head.state.pending.keys() == {gone.conversation_id}


@pytest.mark.parametrize("name", [keys.CONVERSATION, keys.RECORDING])
@pytest.mark.parametrize("listed", [True, False])
def test_a_foreign_object_under_our_key_is_a_failure_and_stays(name: str, listed: bool, scene: Scene) -> None:
    sim, truth, pending, store, _ = scene
    put(store, pending.folder + name, b"something else")
    if not listed:
        sim.delete(truth.conversation_id)

    answer = recording(scene) if name == keys.RECORDING else conversation(scene)

    assert answer.failure is not None
    assert answer.receipt is None
    assert store.get(pending.folder + name) == b"something else"


@pytest.mark.parametrize("verb", ["put", "stat"])
def test_a_store_out_of_reach_fails_the_conversation_and_not_its_page(verb: Any, scene: Scene) -> None:
    sim, truth, _, store, _ = scene
    store.fail_next(verb, StoreUnavailable("down"))
    store.fail_next(verb, StoreUnavailable("down"))
    if verb == "stat":
        sim.delete(truth.conversation_id)

    for answer in (conversation(scene), recording(scene)):
        assert answer.failure is not None
        assert answer.failure.reason == "unavailable"


def test_a_lost_reply_of_the_store_is_made_good_by_the_next_look(scene: Scene) -> None:
    *_, store, _ = scene
    store.fail_next("put", StoreUnavailable("lost"), after=True)

    assert recording(scene).failure is not None
    assert recording(scene).receipt is not None


def test_a_store_that_denies_ends_the_run(scene: Scene) -> None:
    *_, store, _ = scene
    store.fail_next("put", StoreRefused("denied"))

    with pytest.raises(StoreRefused):
        recording(scene)


def test_a_key_that_is_refused_ends_the_run(scene: Scene) -> None:
    sim, _, pending, store, clock = scene

    with pytest.raises(ApiRefused):
        capture.capture_recording(client_of(sim, clock, key="bad"), store, pending, policy=EAGER, clock=clock)


def test_a_look_that_only_asks_whether_the_conversation_answers_stores_nothing(scene: Scene) -> None:
    *_, store, _ = scene
    stored = conversation(scene).receipt
    puts = list(store.puts)

    answer = conversation(scene, conversation=stored)

    assert answer == Answer(answered=True)
    assert store.puts == puts


@pytest.mark.parametrize(("failures", "expected"), [((0, 0), True), ((0, 1), True), ((1, 1), False)])
def test_a_page_of_which_nothing_came_is_an_outage_unless_all_of_it_failed_before(
    failures: tuple[int, int], expected: bool, scene: Scene
) -> None:
    sim, _, pending, *_ = scene
    sim.fault(kind="recording", status=503, share=1.0)
    work = [pending.model_copy(update={"failures": count}) for count in failures]
    answers = [recording(scene) for _ in work]

    assert capture.is_outage(work, answers) is expected
    assert not capture.is_outage(work, [answers[0], Answer(answered=True)])
    assert not capture.is_outage([], [])


def test_an_absence_that_was_sealed_too_early_gets_a_second_record(scene: Scene) -> None:
    sim, truth, _, store, clock = scene
    late = sim.change(truth.conversation_id, recording_comes="later")
    clock.go(hours=80)
    client = client_of(sim, clock)
    archive(client, store, clock)
    done: list[bool] = []

    def seal_absence_first(step: str) -> None:
        """Between our download and our record, another run calls the recording absent."""
        if step == "seal" and not done:
            done.append(True)
            theirs = MemoryStore()
            theirs.objects = {key: body for key, body in store.objects.items() if not key.endswith(keys.RECORDING)}
            sim.change(late.conversation_id, recording_comes="later")
            archive(client, theirs, clock)
            (record,) = [key for key in theirs.objects if key.endswith(keys.RECORD)]
            put(store, record, theirs.objects[record])

    clock.go(hours=1)
    sim.change(late.conversation_id, recording_comes="now")
    archive(client, store, clock, between=seal_absence_first)

    head = ledger.read_head(store)
    assert head.manifest is not None
    (entry,) = [one for part in head.manifest.entries for one in ledger.read_part(store, part, Entry)]
    assert entry.record_key.endswith(keys.SECOND_RECORD)
    record = register.read_record(entry.record_key, store.get(entry.record_key), late.conversation_id)
    assert record.supersedes is not None
    first = store.get(record.supersedes.key)
    assert hashlib.sha256(first).hexdigest() == record.supersedes.sha256
    assert b'"state":"absent"' in first
    assert record.recording.state == "archived"


def test_a_duration_that_the_audio_does_not_bear_out_is_remarked(scene: Scene) -> None:
    sim, truth, _, store, clock = scene
    sim.change(truth.conversation_id, duration_seconds=61)

    archive(client_of(sim, clock), store, clock)

    (record,) = [body for key, body in store.objects.items() if key.endswith(keys.RECORD)]
    assert b"duration differs: 61 s listed, 0.2 s of audio" in record


def test_a_recording_is_stored_before_the_grace_only_when_it_is_whole(scene: Scene) -> None:
    sim, truth, _, _, clock = scene
    sim.change(truth.conversation_id, audio=(truth.recording or b"")[:-50])
    refused = recording(scene).failure
    assert refused is not None

    assert recording(scene, refused_sha256=refused.audio_sha256).failure is not None
    clock.go(hours=100)
    assert recording(scene, refused_sha256="0" * 64).failure is not None
    assert recording(scene, refused_sha256=refused.audio_sha256).receipt is not None


def test_the_grace_counts_from_the_end_of_the_call(scene: Scene) -> None:
    _, truth, pending, *_ = scene
    assert truth.end_timestamp is not None
    ended = settlement.ended_at(pending)

    assert not settlement.is_past_grace(pending, ended + timedelta(hours=71), EAGER)
    assert settlement.is_past_grace(pending, ended + timedelta(hours=72), EAGER)
