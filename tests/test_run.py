"""A run over the simulator in process, without Prefect: what is archived, asked, counted, carried and committed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest

from formant_archive import keys, ledger
from formant_archive.client import FormantClient
from formant_archive.errors import ApiRefused, ApiUnavailable, ArchiveDamaged, StoreUnavailable, UnsafeStore, UsageError
from formant_archive.manifest import OUTCOMES, Manifest
from formant_archive.policy import Policy
from formant_archive.records import Entry, Reference, canonical
from formant_archive.simulator import SPOKEN, Simulator
from tests.plain import SOURCE, Clock, Crash, archive, client_of, entries, manifests, pending
from tests.stores.memory import MemoryStore

PATIENT = Policy(results_wait=timedelta(0))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def simulator(clock: Clock, conversations: int = 60, **options: Any) -> Simulator:
    return Simulator(7, conversations, now=lambda: clock.ms, audio_seconds=(0.1, 0.3), **options)


def record_of(store: MemoryStore, entry: Entry) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(store.get(entry.record_key))
    return data


def check(store: MemoryStore, sim: Simulator | None = None) -> None:
    """What must hold of every archive at any time: chain, counts, records and payloads."""
    previous = None
    for number, manifest in enumerate(manifests(store), 1):
        body = store.get(keys.manifest(number))
        assert body == canonical(json.loads(body))
        assert manifest.sequence == number
        assert (manifest.previous.sha256 if manifest.previous else None) == previous
        previous = hashlib.sha256(body).hexdigest()
        counts = manifest.counts
        assert counts["listed"] + counts["carried"] == sum(counts[outcome] for outcome in OUTCOMES)
        for part in [*manifest.entries, *[scope.recent for scope in manifest.scopes.values()]]:
            assert hashlib.sha256(store.get(part.key)).hexdigest() == part.sha256
    named: dict[str, str] = {}
    for entry in entries(store):
        assert named.setdefault(entry.conversation_id, entry.record_sha256) == entry.record_sha256
        assert hashlib.sha256(store.get(entry.record_key)).hexdigest() == entry.record_sha256
        for item in entry.objects:
            assert hashlib.sha256(store.get(item.key)).hexdigest() == item.sha256
    assert not named.keys() & pending(store).keys()
    if sim is not None:
        check_bytes(store, sim)


def check_bytes(store: MemoryStore, sim: Simulator) -> None:
    """What is archived is what the source serves, and no phone number is anywhere else."""
    for entry in entries(store):
        truth = sim.find(entry.conversation_id)
        assert truth.status == "completed"
        for item in entry.objects:
            expected = truth.recording if item.key.endswith(".wav") else truth.conversation_json
            assert store.get(item.key) == expected
    numbers = [one.contact_number.encode() for one in sim.conversations if one.contact_number]
    for key, body in store.objects.items():
        if not key.endswith(keys.CONVERSATION):
            assert not any(number in body for number in numbers)
            assert SPOKEN.encode() not in body


def completed(sim: Simulator) -> set[str]:
    return {one.conversation_id for one in sim.conversations if one.status == "completed"}


def settled(store: MemoryStore) -> set[str]:
    return {one.conversation_id for one in entries(store)}


def test_a_first_run_archives_every_completed_conversation_once(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)

    archive(client_of(sim, clock), store, clock)

    check(store, sim)
    assert settled(store) == completed(sim)
    assert len(entries(store)) == len(completed(sim))


@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "shuffled"])
def test_no_order_of_the_list_loses_a_conversation(order: Any, clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250, order=order)

    archive(client_of(sim, clock), store, clock)
    sim.add(5)
    clock.go(minutes=15)
    archive(client_of(sim, clock), store, clock)

    check(store, sim)
    assert settled(store) == completed(sim)


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 250, 400])
def test_a_first_run_asks_twice_for_each_conversation_and_once_for_each_page(
    rows: int, clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, rows)

    archive(client_of(sim, clock), store, clock)

    assert sim.count() <= 2 * len(completed(sim)) + rows / 100 + 2


def test_the_bounds_hold_for_a_list_of_a_hundred_thousand_rows(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 100_000, completed=0.001, spread_hours=20_000)
    archive(client_of(sim, clock), store, clock)
    assert sim.count() <= 2 * len(completed(sim)) + 1000 + 2
    assert settled(store) == completed(sim)
    sim.forget_requests()

    clock.go(minutes=15)
    archive(client_of(sim, clock), store, clock)

    horizon = max(one.start_timestamp or 0 for one in sim.conversations) - 6 * 3600 * 1000
    in_overlap = sum((one.start_timestamp or 0) >= horizon for one in sim.conversations)
    assert sim.count("list") == sim.count() <= 2 + in_overlap / 100


@pytest.mark.parametrize("hours", [1, 12, 72, 1000])
def test_a_run_with_nothing_new_asks_for_the_pages_of_the_overlap_only(
    hours: float, clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 500, spread_hours=hours)
    archive(client_of(sim, clock), store, clock)
    horizon = max(one.start_timestamp or 0 for one in sim.conversations) - 6 * 3600 * 1000
    in_overlap = sum((one.start_timestamp or 0) >= horizon for one in sim.conversations)
    before = dict(store.objects)
    sim.forget_requests()

    clock.go(minutes=15)
    archive(client_of(sim, clock), store, clock)

    assert sim.count("list") == sim.count() <= 2 + in_overlap / 100
    assert {key for key in store.objects.keys() - before.keys() if key.startswith("conversations/")} == set()


def test_new_conversations_cost_two_requests_each(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 400)
    archive(client_of(sim, clock), store, clock)
    sim.forget_requests()

    clock.go(minutes=15)
    sim.add(7)
    clock.go(minutes=5)
    archive(client_of(sim, clock), store, clock)

    assert sim.count() - sim.count("list") == 14
    assert settled(store) == completed(sim)


def test_a_late_recording_is_pending_until_it_comes(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, late_recordings=0.3)
    client = client_of(sim, clock)

    archive(client, store, clock)
    late = pending(store)
    assert late
    assert {one.reason for one in late.values()} == {"recording_not_found"}
    assert all(one.conversation is not None for one in late.values())
    sim.release()
    sim.forget_requests()
    archive(client, store, clock)

    check(store, sim)
    assert settled(store) == completed(sim)
    assert not pending(store)
    assert sim.count("conversation") == 0
    assert sim.count("recording") == len(late)


def test_nothing_is_asked_of_the_api_before_the_next_probe_is_due(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, late_recordings=0.3)
    client = client_of(sim, clock)
    archive(client, store, clock, policy=PATIENT)
    sim.forget_requests()

    clock.go(minutes=14)
    archive(client, store, clock, policy=PATIENT)
    assert sim.count() == sim.count("list")

    clock.go(minutes=2)
    archive(client, store, clock, policy=PATIENT)
    assert sim.count("recording") == len(pending(store))


def test_a_recording_that_never_comes_is_absent_after_the_grace_with_every_probe_as_evidence(
    clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, never_recordings=0.2, spread_hours=2)
    client = client_of(sim, clock)
    archive(client, store, clock, policy=PATIENT)
    waiting = set(pending(store))
    for _ in range(30):
        clock.go(hours=3)
        archive(client, store, clock, policy=PATIENT)

    check(store, sim)
    assert not pending(store)
    for entry in entries(store):
        if entry.conversation_id not in waiting:
            continue
        record = record_of(store, entry)
        assert entry.outcome == "archived_without_recording"
        assert record["recording"]["state"] == "absent"
        assert len(record["recording"]["probes"]) >= 2
        assert {probe["http_status"] for probe in record["recording"]["probes"]} == {404}
        assert record["transcript"] == {"state": "present"}


def test_within_the_grace_nothing_is_called_absent(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, never_recordings=0.2, spread_hours=2)
    for _ in range(20):
        archive(client_of(sim, clock), store, clock)
        clock.go(hours=3)

    assert all(entry.outcome == "archived" for entry in entries(store))
    assert pending(store)


def test_a_call_in_progress_is_pending_and_costs_nothing_while_the_list_shows_it(
    clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 10, in_progress=3, spread_hours=2)
    client = client_of(sim, clock)

    archive(client, store, clock)
    sim.forget_requests()
    archive(client, store, clock)
    assert sim.count() == sim.count("list")
    assert [one.reason for one in pending(store).values()] == ["open"] * 3
    sim.release()
    archive(client, store, clock)

    check(store, sim)
    assert settled(store) == completed(sim)


def test_a_call_in_progress_that_the_list_shows_no_more_is_asked_for_by_id(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 400, spread_hours=400)
    (lost,) = sim.add(status="in_progress", end_timestamp=None)
    client = client_of(sim, clock)
    archive(client, store, clock)
    assert pending(store)[lost.conversation_id].reason == "open"
    for _ in range(30):
        clock.go(hours=8)
        sim.add(15)
    sim.release()
    sim.forget_requests()

    archive(client, store, clock)

    assert lost.conversation_id in settled(store)
    check(store, sim)


def test_a_call_in_progress_that_ends_otherwise_is_pending_no_more(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 5)
    (call,) = sim.add(status="in_progress")
    archive(client_of(sim, clock), store, clock)
    assert call.conversation_id in pending(store)

    sim.change(call.conversation_id, status="failed")
    archive(client_of(sim, clock), store, clock)

    assert not pending(store)
    assert call.conversation_id not in settled(store)


def test_a_call_that_has_ended_is_fetched_at_once(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 0, spread_hours=2)
    (call,) = sim.add(status="in_progress")
    client = client_of(sim, clock)
    archive(client, store, clock, policy=PATIENT)
    row = call.conversation_id
    sim.fault(kind="list", body=b'{"data": [], "has_more": false, "total": 0}', share=1.0)
    archive(client, store, clock, policy=PATIENT)
    assert pending(store)[row].next_probe_at == clock() + timedelta(minutes=15)
    sim.heal()
    sim.release()
    clock.go(minutes=1)
    archive(client, store, clock, policy=PATIENT)

    assert settled(store) == {row}


def test_a_late_transcript_is_waited_for_within_the_grace(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, late_transcripts=0.2)
    client = client_of(sim, clock)

    archive(client, store, clock)
    assert {one.reason for one in pending(store).values()} == {"transcript_missing"}
    sim.release()
    archive(client, store, clock)

    check(store, sim)
    assert settled(store) == completed(sim)


def test_a_transcript_that_never_comes_is_archived_as_it_is_past_the_grace(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 5, completed=0.0)
    (mute,) = sim.add(transcript=None)
    clock.go(hours=1)
    for _ in range(3):
        archive(client_of(sim, clock), store, clock)
        clock.go(hours=40)

    (entry,) = entries(store)
    assert entry.conversation_id == mute.conversation_id
    record = record_of(store, entry)
    assert record["transcript"]["state"] == "absent"
    assert [probe["error_type"] for probe in record["transcript"]["probes"]] == ["transcript_missing"] * 3
    assert entry.outcome == "archived"


def test_results_are_waited_for_half_an_hour(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 0)
    sim.add(results=None, end_timestamp=clock.ms)
    policy = Policy()

    archive(client_of(sim, clock), store, clock, policy=policy)
    assert [one.reason for one in pending(store).values()] == ["results_missing"]
    clock.go(minutes=31)
    archive(client_of(sim, clock), store, clock, policy=policy)

    assert not pending(store)
    assert len(settled(store)) == 1


@pytest.mark.parametrize(
    ("kind", "fault", "reason"),
    [
        ("conversation", {"body": b"<html>sorry</html>", "content_type": "text/html"}, "not_json"),
        ("conversation", {"body": b"[]"}, "not_a_conversation"),
        ("conversation", {"body": b'{"data": {"conversation_id": "other"}}'}, "wrong_conversation"),
        ("conversation", {"truncate_to": 50, "honest_length": True}, "not_json"),
        ("recording", {"body": b"<html>sorry</html>", "content_type": "text/html"}, "not_wav"),
        ("recording", {"truncate_to": 1000, "honest_length": True}, "truncated"),
        ("recording", {"body": b""}, "empty"),
        ("recording", {"status": 400}, "bad_answer"),
        ("recording", {"status": 404, "body": b"gone"}, "bad_answer"),
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_never_archived(
    kind: Any, fault: dict[str, Any], reason: str, clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 20)
    victim = sorted(completed(sim))[0]
    sim.fault(kind=kind, conversation_id=victim, **fault)

    run = archive(client_of(sim, clock), store, clock)
    assert run.totals["failed"] == 1
    assert not run.summary.is_well
    assert pending(store)[victim].reason == reason
    assert settled(store) == completed(sim) - {victim}
    archive(client_of(sim, clock), store, clock)

    check(store, sim)
    assert settled(store) == completed(sim)


def test_audio_that_is_always_cut_off_is_archived_as_served_past_the_grace(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 0)
    (cut,) = sim.add()
    sim.change(cut.conversation_id, audio=(cut.recording or b"")[:-100])
    for _ in range(4):
        archive(client_of(sim, clock), store, clock, policy=PATIENT)
        clock.go(hours=30)

    (entry,) = entries(store)
    record = record_of(store, entry)
    assert record["recording"]["state"] == "archived"
    assert any("as served" in remark for remark in record["remarks"])


def test_a_listing_that_cannot_be_finished_archives_what_it_saw_and_moves_no_watermark(
    clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 250)
    sim.fault(kind="list", total=300, share=1.0)

    run = archive(client_of(sim, clock), store, clock)

    assert not run.summary.is_well
    assert run.summary.missing == 50
    assert settled(store) == completed(sim)
    assert ledger.read_head(store).state.scopes["all"].watermark is None


def test_a_page_that_dies_leaves_a_committed_incomplete_run(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)

    def fail_third_page(page: int) -> None:
        if page == 3:
            sim.fault(kind="list", status=503, times=5)

    sim.before_page = fail_third_page
    run = archive(client_of(sim, clock), store, clock)
    sim.before_page = None
    sim.heal()

    assert not run.listing.complete
    assert len(settled(store)) > 0
    archive(client_of(sim, clock), store, clock)
    assert settled(store) == completed(sim)
    check(store, sim)


def test_an_unreachable_api_leaves_nothing_behind(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock)
    sim.fault(drop=True, share=1.0)

    with pytest.raises(ApiUnavailable):
        archive(client_of(sim, clock), store, clock)

    assert not store.objects


def test_a_refused_key_leaves_nothing_behind(clock: Clock, store: MemoryStore) -> None:
    with pytest.raises(ApiRefused):
        archive(client_of(simulator(clock), clock, key="wrong"), store, clock)

    assert not store.objects


def test_a_key_that_is_revoked_midway_closes_nothing(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, late_recordings=0.5)
    archive(client_of(sim, clock), store, clock)
    before = dict(store.objects)
    sim.fault(kind="recording", status=401, share=1.0)

    with pytest.raises(ApiRefused):
        archive(client_of(sim, clock), store, clock)

    assert store.objects == before


STEPS = ["read_head", "list_page", "look_up", "conversation", "recording", "seal", "commit"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("times", [1, 2, 17])
def test_a_run_that_is_killed_anywhere_loses_and_doubles_nothing(
    step: str, times: int, clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 130, late_recordings=0.1)
    left = iter(range(times, 0, -1))

    def die(at: str) -> None:
        if at == step and next(left, 1) == 1:
            raise Crash

    crashed = False
    try:
        archive(client_of(sim, clock), store, clock, between=die)
    except Crash:
        crashed = True
    objects = dict(store.objects)
    archive(client_of(sim, clock), store, clock)
    sim.release()
    archive(client_of(sim, clock), store, clock)

    assert crashed or times > 1
    check(store, sim)
    assert settled(store) == completed(sim)
    assert all(store.objects[key] == body for key, body in objects.items())


def test_what_a_killed_run_sealed_is_adopted_without_a_request(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 80)

    def die(at: str) -> None:
        if at == "commit":
            raise Crash

    with pytest.raises(Crash):
        archive(client_of(sim, clock), store, clock, between=die)
    sim.forget_requests()
    run = archive(client_of(sim, clock), store, clock)

    assert run.totals["adopted"] == len(completed(sim))
    assert sim.count() == sim.count("list")
    sim.forget_requests()
    again = archive(client_of(sim, clock), store, clock)
    assert again.totals["adopted"] == 0
    assert len(entries(store)) == len(completed(sim))


def test_two_runs_side_by_side_make_one_chain_without_a_fork(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 90, late_recordings=0.2)
    client = client_of(sim, clock)
    done: list[bool] = []

    def overtake(at: str) -> None:
        if at == "commit" and not done:
            done.append(True)
            archive(client, store, clock, agent_id=101)

    archive(client, store, clock, between=overtake)
    sim.release()
    archive(client, store, clock)

    check(store, sim)
    assert [one.listing and one.listing.scope for one in manifests(store)] == ["agent_id=101", "all", "all"]
    assert settled(store) == completed(sim)
    assert ledger.read_head(store).state.scopes.keys() == {"all", "agent_id=101"}


def test_a_conversation_that_another_run_settled_meanwhile_is_pending_no_more(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 30, late_recordings=0.5)
    client = client_of(sim, clock)
    done: list[bool] = []

    def overtake(at: str) -> None:
        if at == "commit" and not done:
            done.append(True)
            sim.release()
            archive(client, store, clock)

    archive(client, store, clock, between=overtake)

    check(store, sim)
    assert settled(store) == completed(sim)
    assert not pending(store)


def test_pending_conversations_of_other_scopes_are_passed_on_uncounted(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 90, late_recordings=0.3)
    client = client_of(sim, clock)
    archive(client, store, clock, agent_id=101)
    theirs = set(pending(store))
    run = archive(client, store, clock, agent_id=102)

    assert run.totals["carried"] == 0
    assert theirs < set(pending(store))
    check(store, sim)


def test_a_lost_reply_of_the_commit_is_recognised(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 10)
    store.fail_next("put", StoreUnavailable("lost"), after=True, key_contains="manifests/0000")

    with pytest.raises(StoreUnavailable):
        archive(client_of(sim, clock), store, clock)
    assert ledger.last_sequence(store) == 1

    archive(client_of(sim, clock), store, clock)
    check(store, sim)
    assert len(manifests(store)) == 2


def test_a_commit_that_is_repeated_is_one_commit(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 10)
    run = archive(client_of(sim, clock), store, clock)
    head = ledger.read_head(store)
    draft = run.draft(clock(), final=True)
    first = ledger.commit(store, head, draft)
    second = ledger.commit(store, head, draft)

    assert first.link == second.link
    assert len(manifests(store)) == 2


def test_a_store_that_overwrites_is_refused_before_the_first_manifest(clock: Clock) -> None:
    class Overwriting(MemoryStore):
        def put(self, key: str, body: Any, *, sha256: str, **care: Any) -> bool:
            self.objects.pop(key, None)
            return super().put(key, body, sha256=sha256, **care)

    store = Overwriting()
    sim = simulator(clock, 10)

    with pytest.raises(UnsafeStore, match="ARCHIVE_ALLOW_UNSAFE_STORE"):
        archive(client_of(sim, clock), store, clock)

    assert ledger.last_sequence(store) == 0


def test_an_archive_of_another_source_is_refused(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 10)
    archive(client_of(sim, clock), store, clock)
    head = ledger.read_head(store)
    assert head.manifest is not None
    other = head.manifest.model_copy(update={"source": "https://elsewhere"})

    with pytest.raises(UsageError, match="another ARCHIVE_URL"):
        ledger.check_source(ledger.Head(other, head.link, head.state), SOURCE)


def lose_one(sim: Simulator, store: MemoryStore, clock: Clock) -> str:
    """A conversation that the list shows once and that the API knows no more; the clock stands past its grace."""
    client = client_of(sim, clock)
    (lost,) = sim.add()
    sim.fault(conversation_id=lost.conversation_id, status=404, share=1.0)
    archive(client, store, clock)
    sim.heal()
    sim.delete(lost.conversation_id)
    clock.go(hours=80)
    return lost.conversation_id


def test_a_conversation_that_the_api_knows_no_more_is_gone_past_the_grace(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 20)
    name = lose_one(sim, store, clock)
    assert pending(store)[name].reason == "not_found"

    archive(client_of(sim, clock), store, clock)

    (gone,) = [one for one in entries(store) if one.outcome == "gone"]
    record = record_of(store, gone)
    assert gone.conversation_id == name
    assert record["conversation"] is None
    assert record["transcript"]["state"] == record["recording"]["state"] == "gone"
    assert len(record["transcript"]["probes"]) == 2


def test_a_key_of_another_workspace_closes_nothing(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 20, late_recordings=0.3)
    name = lose_one(sim, store, clock)
    waiting = set(pending(store))
    other = Simulator(99, 30, now=lambda: clock.ms, audio_seconds=(0.1, 0.2))
    for _ in range(4):
        other.add(2)
        archive(client_of(other, clock), store, clock)
        clock.go(hours=80)

    assert waiting <= set(pending(store))
    archive(client_of(sim, clock), store, clock)
    assert name in settled(store)


@pytest.mark.parametrize("is_lost", [False, True], ids=["committed", "lost"])
def test_a_transcript_that_came_before_its_conversation_went_is_in_the_record(
    is_lost: bool, clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 5)
    (late,) = sim.add(recording_comes="never")
    client, name = client_of(sim, clock), late.conversation_id
    folder = keys.folder(Reference.model_validate(late.listed))
    without = json.dumps({"data": {"conversation_id": name, "transcript": None}}).encode()
    # A run that was lost has stored a body without a transcript, and the next one finds it.
    store.put(folder + keys.CONVERSATION, without, sha256=hashlib.sha256(without).hexdigest())
    sim.fault(kind="conversation", conversation_id=name, status=404, share=1.0)
    archive(client, store, clock)
    found = pending(store)[name].conversation
    assert found is not None
    assert not found.has_transcript
    sim.heal()

    def die(at: str) -> None:
        if at == "commit" and is_lost:
            raise Crash

    # The transcript has come: it is stored beside the first body, and then the conversation goes.
    with pytest.raises(Crash) if is_lost else nullcontext():
        archive(client, store, clock, between=die)
    known = pending(store)[name].conversation
    assert store.get(folder + keys.SECOND_CONVERSATION) == late.conversation_json
    assert known is not None
    assert known.has_transcript is not is_lost
    sim.delete(name)
    clock.go(hours=80)
    archive(client, store, clock)

    (entry,) = [one for one in entries(store) if one.conversation_id == name]
    record = record_of(store, entry)
    assert record["transcript"] == {"state": "present"}
    assert record["conversation"]["key"] == folder + keys.SECOND_CONVERSATION
    assert record["recording"]["state"] == "gone"
    check(store)


def test_a_foreign_object_in_a_records_place_stops_no_other_conversation(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 20)
    victim = next(one for one in sim.conversations if one.status == "completed")
    key = keys.folder(Reference.model_validate(victim.listed)) + keys.RECORD
    store.put(key, b"not ours", sha256=hashlib.sha256(b"not ours").hexdigest())

    for _ in range(2):
        run = archive(client_of(sim, clock), store, clock)
        assert run.totals["failed"] == 1
        assert settled(store) == completed(sim) - {victim.conversation_id}

    assert store.get(key) == b"not ours"


def test_the_folder_that_was_named_first_stays(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 0)
    (call,) = sim.add(status="in_progress", start_timestamp=None, end_timestamp=None)
    archive(client_of(sim, clock), store, clock)
    folder = pending(store)[call.conversation_id].folder
    sim.release()
    sim.change(call.conversation_id, start_timestamp=clock.ms, end_timestamp=clock.ms)
    archive(client_of(sim, clock), store, clock)

    (entry,) = entries(store)
    assert "date=unknown" in folder
    assert entry.record_key == folder + keys.RECORD


ODD_IDS = ["a/b", "..", ".", "../../x", "x" * 5000, "é😀", "tab\tnewline\n", "a b?c#d", "%2e%2e", "x/recording", "-"]


@pytest.mark.parametrize("name", ODD_IDS, ids=range(len(ODD_IDS)))
def test_no_id_leaves_its_folder_and_each_is_archived(name: str, clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 3)
    sim.add(conversation_id=name)

    archive(client_of(sim, clock), store, clock)

    check(store, sim)
    assert name in settled(store)
    for key in store.objects:
        assert ".." not in key.split("/")
        if key.startswith("conversations/"):
            assert key.count("/") == 4


def test_rows_before_since_are_outside_in_the_first_run_only(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 100, spread_hours=72)
    since = clock() - timedelta(hours=24)
    run = archive(client_of(sim, clock), store, clock, since=since)
    late = {
        one.conversation_id
        for one in sim.conversations
        if one.status == "completed" and (one.start_timestamp or 0) >= clock.ms - 24 * 3600 * 1000
    }

    assert settled(store) == late
    assert run.totals["outside"] > 0
    check(store, sim)


def test_what_started_before_the_floor_stays_outside_for_good(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 100, spread_hours=72)
    archive(client_of(sim, clock), store, clock, since=clock() - timedelta(hours=24))
    first = settled(store)
    clock.go(minutes=15)
    run = archive(client_of(sim, clock), store, clock, full=True)

    assert run.totals["outside"] > 0
    assert settled(store) == first


def test_a_commit_that_is_tried_again_behind_another_writer_s_is_found(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 30)
    client = client_of(sim, clock)
    run = archive(client, store, clock)
    head, draft = ledger.read_head(store), run.draft(clock(), final=True)
    archive(client, store, clock)
    first = ledger.commit(store, head, draft)
    second = ledger.commit(store, head, draft)

    assert first.sequence == second.sequence == 3
    assert len(manifests(store)) == 3


@pytest.mark.parametrize("field", ["previous", "archive_id"])
def test_a_manifest_from_another_chain_is_refused(field: str, clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 5)
    archive(client_of(sim, clock), store, clock)
    archive(client_of(sim, clock), store, clock)
    key = keys.manifest(2)
    wrong = {"previous": {"key": keys.manifest(1), "sha256": "0" * 64}, "archive_id": "another"}[field]
    store.objects[key] = canonical({**json.loads(store.objects[key]), field: wrong})

    with pytest.raises(ArchiveDamaged):
        ledger.read_head(store)


def test_a_status_that_is_added_later_is_fetched_from_the_whole_list(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)
    archive(client_of(sim, clock), store, clock)
    more = Policy(
        statuses=frozenset({"completed", "failed"}),
        probe_interval=timedelta(0),
        results_wait=timedelta(0),
        grace=timedelta(0),
    )
    archive(client_of(sim, clock), store, clock, policy=more)
    clock.go(minutes=1)
    archive(client_of(sim, clock), store, clock, policy=more)

    wanted = {one.conversation_id for one in sim.conversations if one.status in {"completed", "failed"}}
    assert settled(store) == wanted
    states = {record_of(store, one)["recording"]["state"] for one in entries(store) if one.status == "failed"}
    assert states == {"not_expected"}


def test_rows_that_slide_while_paging_lose_nothing(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 350)
    doomed: Iterator[str] = iter([one.conversation_id for one in sim.conversations[:3]])

    def shift(page: int) -> None:
        sim.add(2)
        if (name := next(doomed, None)) is not None:
            sim.delete(name)

    sim.before_page = shift
    archive(client_of(sim, clock), store, clock)
    sim.before_page = None
    archive(client_of(sim, clock), store, clock)

    assert completed(sim) <= settled(store)


def test_a_row_that_appears_late_and_deep_is_found(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 400, spread_hours=400)
    archive(client_of(sim, clock), store, clock)
    (late,) = sim.add(start_timestamp=clock.ms - 300 * 3600 * 1000)
    clock.go(minutes=15)

    archive(client_of(sim, clock), store, clock)

    assert late.conversation_id in settled(store)
    check(store, sim)


def test_a_full_listing_counts_history_and_adopts_nothing(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)
    archive(client_of(sim, clock), store, clock)
    store.calls.clear()
    clock.go(hours=1)
    run = archive(client_of(sim, clock), store, clock, full=True)

    assert run.totals["already_settled"] == len(completed(sim))
    assert run.totals["adopted"] == 0
    assert store.calls["get"] < 20
    assert len(entries(store)) == len(completed(sim))


def test_a_long_run_commits_parts_and_only_the_last_moves_the_watermark(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 300)
    run_parts = parts_of(archive_in_parts(client_of(sim, clock), store, clock, size=50), store)

    check(store, sim)
    assert len(run_parts) > 2
    assert [part.scopes["all"].watermark is None for part in run_parts] == [True] * (len(run_parts) - 1) + [False]
    assert [part.run.part for part in run_parts] == list(range(1, len(run_parts) + 1))
    assert sum(part.counts["listed"] for part in run_parts) == 300
    assert settled(store) == completed(sim)


def archive_in_parts(client: FormantClient, store: MemoryStore, clock: Clock, *, size: int) -> str:
    return archive(client, store, clock, part_size=size).writer.run_id


def parts_of(run_id: str, store: MemoryStore) -> list[Manifest]:
    return [one for one in manifests(store) if one.run.id == run_id]


def test_recent_names_what_is_near_the_head_and_not_pending(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 300, late_recordings=0.2)
    archive(client_of(sim, clock), store, clock)
    head = ledger.read_head(store)
    scope = head.state.scopes["all"]
    assert scope.watermark is not None
    near = {
        one.conversation_id
        for one in sim.conversations
        if (one.start_timestamp or 0) >= scope.watermark - 6 * 3600 * 1000
    }

    assert scope.recent.keys() == near - head.state.pending.keys()
    assert {name for name, one in scope.recent.items() if one.settled} == near & settled(store)
