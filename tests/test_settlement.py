"""Settlement: what may be called missing, and when; what an error can never bring about; when to ask again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formant_archive.policy import DOCUMENTED_STATUSES, Policy
from formant_archive.records import (
    ArchivedRecording,
    Audio,
    ConversationReceipt,
    Failure,
    Missing,
    Pending,
    PresentTranscript,
    Probe,
    RecordingReceipt,
    Writer,
    milliseconds,
)
from formant_archive.settlement import (
    LONGEST_INTERVAL,
    Answer,
    Verdict,
    ended_at,
    is_enough,
    is_gone_by_rule,
    is_overdue,
    is_past_grace,
    judge,
    record,
    remarks,
    waiting,
    wants_body,
    wants_conversation,
    wants_recording,
    with_answers,
)

POLICY = Policy()
END = datetime(2026, 3, 18, 12, tzinfo=UTC)
GRACE_ENDS = END + POLICY.grace
LATE = GRACE_ENDS + timedelta(hours=1)
MINUTE = timedelta(minutes=1)
MOMENT = timedelta(milliseconds=1)
INTERVAL = POLICY.probe_interval
RECEIPT = {"key": "k", "size": 3, "sha256": "ab" * 32, "fetched_at": END}
BODY = ConversationReceipt.model_validate(RECEIPT | {"has_transcript": True})
BODY_WITHOUT = BODY.model_copy(update={"has_transcript": False})
SOUND = RecordingReceipt.model_validate(
    RECEIPT | {"audio": Audio(seconds=12, sample_rate=8000, channels=1, codec="pcm")}
)
WRITER = Writer(version="1", run_id="r")

ANSWERED = Answer(answered=True)
FAILED = Answer(failure=Failure(reason="unavailable", message="out of reach"))


def pending(**fields: Any) -> Pending:
    known = {"conversation_id": "c", "status": "completed", "folder": "conversations/c/", "first_seen_at": END}
    return Pending.model_validate(known | {"end_timestamp": milliseconds(END)} | fields)


def probes(*times: datetime, error_type: str = "not_found") -> tuple[Probe, ...]:
    return tuple(Probe(at=at, http_status=404, error_type=error_type) for at in times)


def asked(at: datetime, error_type: str = "not_found", *, answered: bool = False, is_witnessed: bool = False) -> Answer:
    (probe,) = probes(at, error_type=error_type)
    return Answer(probe=probe, answered=answered, is_witnessed=is_witnessed)


def asked_with_witness(at: datetime) -> Answer:
    """The conversation is not found, while another one of the workspace answers."""
    return asked(at, is_witnessed=True)


def verdict(one: Pending, conversation: Answer, recording: Answer, policy: Policy = POLICY) -> Verdict:
    """What one run's two looks make of a conversation."""
    return judge(with_answers(one, conversation, recording, policy), conversation, recording, policy)


# The recording is there


def test_a_conversation_with_body_and_recording_is_settled() -> None:
    found = verdict(pending(), Answer(receipt=BODY, answered=True), Answer(receipt=SOUND))

    assert found.is_settled
    assert found.transcript == PresentTranscript()
    assert isinstance(found.recording, ArchivedRecording)
    assert found.recording.audio == SOUND.audio


def test_what_an_earlier_run_has_stored_counts() -> None:
    assert verdict(pending(conversation=BODY), Answer(), Answer(receipt=SOUND)).is_settled
    assert verdict(pending(recording=SOUND), Answer(receipt=BODY, answered=True), Answer()).is_settled


def test_a_recording_that_came_after_many_probes_is_archived() -> None:
    tried = probes(END, GRACE_ENDS, LATE)

    found = verdict(pending(conversation=BODY, recording_probes=tried), ANSWERED, Answer(receipt=SOUND))

    assert isinstance(found.recording, ArchivedRecording)


def test_a_body_that_is_not_there_yet_settles_nothing() -> None:
    found = verdict(pending(), asked(END, "results_missing", answered=True), Answer(receipt=SOUND))

    assert not found.is_settled
    assert found.conversation is None


def test_the_first_receipt_stays() -> None:
    other = BODY.model_copy(update={"sha256": "cd" * 32})

    assert with_answers(pending(conversation=BODY), Answer(receipt=other), Answer(), POLICY).conversation == BODY


# Absent: by the rule only


def test_a_recording_is_absent_by_the_rule_with_every_probe_as_evidence() -> None:
    earlier = probes(END, GRACE_ENDS)

    found = verdict(pending(conversation=BODY, recording_probes=earlier), ANSWERED, asked(LATE))

    assert found.recording == Missing(state="absent", probes=probes(END, GRACE_ENDS, LATE))
    assert found.is_settled


@pytest.mark.parametrize(
    ("earlier", "now", "conversation"),
    [
        ((), LATE, ANSWERED),
        ((LATE - INTERVAL + MOMENT,), LATE, ANSWERED),
        ((END,), GRACE_ENDS - MOMENT, ANSWERED),
        ((END, END + INTERVAL), GRACE_ENDS - MOMENT, ANSWERED),
        ((END,), LATE, Answer()),
        ((END,), LATE, FAILED),
        ((END,), LATE, asked(LATE)),
    ],
    ids=[
        "one probe",
        "too close together",
        "within the grace",
        "three probes within the grace",
        "the conversation was not asked for",
        "the conversation could not be asked for",
        "the conversation itself was not found",
    ],
)
def test_each_condition_alone_keeps_a_recording_from_being_absent(
    earlier: tuple[datetime, ...], now: datetime, conversation: Answer
) -> None:
    one = pending(conversation=BODY, recording_probes=probes(*earlier))

    found = verdict(one, conversation, asked(now))

    assert found.recording is None
    assert not found.is_settled


def test_the_rule_holds_on_its_very_limits() -> None:
    one = pending(conversation=BODY, recording_probes=probes(GRACE_ENDS - INTERVAL))

    assert verdict(one, ANSWERED, asked(GRACE_ENDS)).is_settled


def test_first_and_last_probe_must_be_apart_not_neighbours() -> None:
    earlier = probes(LATE - INTERVAL, LATE - MINUTE)

    assert verdict(pending(conversation=BODY, recording_probes=earlier), ANSWERED, asked(LATE)).is_settled


def test_with_no_interval_and_no_grace_two_probes_are_still_two() -> None:
    eager = Policy(grace=timedelta(0), probe_interval=timedelta(0))

    once = pending(conversation=BODY)
    twice = with_answers(once, ANSWERED, asked(END), eager)

    assert not verdict(once, ANSWERED, asked(END), eager).is_settled
    assert verdict(twice, ANSWERED, asked(END), eager).is_settled


def test_the_transcript_is_absent_once_a_body_without_one_is_archived() -> None:
    tried = probes(END, error_type="transcript_missing")
    mixed = (*probes(END, error_type="results_missing"), *tried)

    found = verdict(
        pending(conversation_probes=mixed, recording=SOUND),
        Answer(receipt=BODY_WITHOUT, probe=probes(LATE, error_type="transcript_missing")[0], answered=True),
        Answer(),
    )

    assert found.transcript == Missing(state="absent", probes=probes(END, LATE, error_type="transcript_missing"))


@pytest.mark.parametrize("status", sorted(DOCUMENTED_STATUSES - {"completed"}))
def test_a_call_that_never_connected_was_not_expected_to_have_a_recording(status: str) -> None:
    policy = Policy(statuses=DOCUMENTED_STATUSES)
    no_transcript = probes(END, LATE, error_type="transcript_missing")
    one = pending(
        status=status, conversation=BODY_WITHOUT, conversation_probes=no_transcript, recording_probes=probes(END)
    )

    found = verdict(one, ANSWERED, asked(LATE), policy)

    assert isinstance(found.recording, Missing)
    assert isinstance(found.transcript, Missing)
    assert {found.recording.state, found.transcript.state} == {"not_expected"}
    assert found.recording.probes == probes(END, LATE)


def test_also_what_is_not_expected_is_waited_for_until_the_grace_is_over() -> None:
    policy = Policy(statuses=frozenset({"busy"}))
    one = pending(status="busy", conversation=BODY_WITHOUT, recording_probes=probes(END))

    assert verdict(one, ANSWERED, asked(GRACE_ENDS - MOMENT), policy).recording is None


@pytest.mark.parametrize(
    "evidence",
    [
        (),
        probes(LATE, error_type="transcript_missing"),
        probes(END, LATE),
        probes(END, LATE, error_type="results_missing"),
        (*probes(END), *probes(LATE, error_type="transcript_missing")),
    ],
    ids=["none", "one", "not found", "no results", "one of each kind"],
)
def test_a_stored_body_without_a_transcript_is_no_proof_that_there_is_none(evidence: tuple[Probe, ...]) -> None:
    """A run that died had stored it, and took its probes with it: the record must hold at least two."""
    one = pending(conversation=BODY_WITHOUT, recording=SOUND, conversation_probes=evidence)

    again = waiting(one, [], LATE, POLICY)

    assert wants_body(one, POLICY)
    assert wants_conversation(one, LATE, POLICY)
    assert verdict(one, Answer(receipt=BODY_WITHOUT, answered=True), Answer()).transcript is None
    assert again.reason == (evidence[-1].error_type if evidence else one.reason)
    assert (again.next_probe_at is None) == (not evidence), "what was never asked for is asked for by the next run"


def test_a_body_with_a_transcript_replaces_one_without() -> None:
    one = pending(conversation=BODY_WITHOUT)

    assert with_answers(one, Answer(receipt=BODY), Answer(), POLICY).conversation == BODY


# Gone: by the same rule


def test_a_conversation_is_gone_by_the_rule_with_every_probe_as_evidence() -> None:
    one = pending(conversation_probes=probes(END), recording_probes=probes(END))

    found = verdict(one, asked_with_witness(LATE), asked(LATE))

    assert found.conversation is None
    assert found.transcript == found.recording == Missing(state="gone", probes=probes(END, LATE))


def test_only_looks_that_did_not_find_a_conversation_are_evidence_that_it_is_gone_whatever_its_status() -> None:
    looks = (*probes(END, error_type="results_missing"), *probes(END + MINUTE))
    one = pending(status="busy", conversation_probes=looks, recording_probes=probes(END + 2 * MINUTE))

    found = verdict(one, asked_with_witness(LATE), asked(LATE))

    assert found.transcript == found.recording == Missing(state="gone", probes=probes(END + MINUTE, LATE))


@pytest.mark.parametrize(
    ("evidence", "is_gone"),
    [
        (probes(END, LATE), True),
        (probes(GRACE_ENDS - INTERVAL, GRACE_ENDS), True),
        ((*probes(END), *probes(GRACE_ENDS, error_type="results_missing"), *probes(LATE)), True),
        (probes(LATE), False),
        (probes(END, GRACE_ENDS - MOMENT), False),
        (probes(LATE - INTERVAL + MOMENT, LATE), False),
        (probes(END, LATE, error_type="transcript_missing"), False),
        ((*probes(END), *probes(LATE, error_type="results_missing")), False),
        ((*probes(END, error_type="open"), *probes(LATE)), False),
    ],
    ids=[
        "twice",
        "on the very limits",
        "in between it answered",
        "once",
        "within the grace",
        "too close",
        "no transcript",
        "it answered last",
        "it answered first",
    ],
)
def test_a_conversation_is_gone_by_the_rule_only_where_it_was_not_found_twice(
    evidence: tuple[Probe, ...], is_gone: bool
) -> None:
    assert is_gone_by_rule(pending(conversation_probes=evidence), POLICY) is is_gone


@pytest.mark.parametrize(
    ("earlier", "conversation"),
    [
        (probes(), asked_with_witness(LATE)),
        (probes(LATE - INTERVAL + MOMENT), asked_with_witness(LATE)),
        (probes(END), asked_with_witness(GRACE_ENDS - MOMENT)),
        (probes(END), asked(LATE)),
        (probes(END, error_type="transcript_missing"), asked_with_witness(LATE)),
        (probes(END, error_type="results_missing"), asked_with_witness(LATE)),
    ],
    ids=["one probe", "too close", "within the grace", "a key of another workspace", "no transcript", "no results"],
)
def test_each_condition_alone_keeps_a_conversation_from_being_gone(
    earlier: tuple[Probe, ...], conversation: Answer
) -> None:
    found = verdict(pending(conversation_probes=earlier, recording_probes=probes(END)), conversation, asked(LATE))

    assert (found.transcript, found.recording) == (None, None)


def test_a_conversation_that_answers_again_is_not_gone() -> None:
    one = pending(conversation_probes=probes(END, GRACE_ENDS))

    assert not verdict(one, asked(LATE, "results_missing", answered=True), asked(LATE)).is_settled


def test_the_stored_body_of_a_conversation_that_is_gone_stands() -> None:
    one = pending(conversation=BODY, conversation_probes=probes(END), recording_probes=probes(END))

    found = verdict(one, asked_with_witness(LATE), asked(LATE))

    assert found.transcript == PresentTranscript()
    assert found.recording == Missing(state="gone", probes=probes(END, LATE))


# Errors bring nothing about


def test_a_failed_look_for_the_recording_never_makes_it_absent() -> None:
    # The probes were enough, but their run did not hear from the conversation. In this run it answers, and the
    # recording could not be had: cut off on the way, say. It is there, and must not be sealed as absent.
    one = pending(conversation=BODY, recording_probes=probes(END, LATE), failed=True, failures=1)

    found = verdict(one, ANSWERED, Answer(failure=Failure(reason="truncated", message="cut off")))

    assert found.recording is None


def test_a_recording_that_was_not_asked_for_is_not_absent() -> None:
    one = pending(conversation=BODY, recording_probes=probes(END, LATE))

    assert verdict(one, ANSWERED, Answer()).recording is None


def test_a_failed_look_for_the_conversation_never_makes_it_gone() -> None:
    # The probes were enough, but in their run nothing else answered either; in this run, the look for it failed.
    one = pending(conversation_probes=probes(END, LATE), recording_probes=probes(END, LATE))

    found = verdict(one, FAILED, asked(LATE + INTERVAL))

    assert (found.transcript, found.recording) == (None, None)


def test_a_failed_look_for_the_recording_never_makes_it_gone() -> None:
    one = pending(conversation=BODY, conversation_probes=probes(END), recording_probes=probes(END))

    cut_off = Answer(failure=Failure(reason="truncated", message="cut off"))

    assert verdict(one, asked_with_witness(LATE), cut_off).recording is None


def test_a_conversation_that_was_not_asked_for_is_not_gone() -> None:
    # Its body came after all, from another run; this run had no reason to ask for it.
    one = pending(conversation=BODY, conversation_probes=probes(END, LATE))

    assert verdict(one, Answer(), asked(LATE)).recording is None


@given(runs=st.lists(st.tuples(st.integers(0, 200), st.booleans(), st.booleans()), max_size=8))
def test_errors_alone_never_settle_anything_however_long_they_last(runs: list[tuple[int, bool, bool]]) -> None:
    one, now = pending(), END
    for hours, conversation_fails, recording_fails in runs:
        now += timedelta(hours=hours)
        looks = (FAILED if conversation_fails else Answer(), FAILED if recording_fails else Answer())
        assert not verdict(one, *looks).is_settled
        one = waiting(with_answers(one, *looks, POLICY), looks, now, POLICY)

    assert (one.conversation_probes, one.recording_probes) == ((), ())


# Which questions are asked


def test_a_body_that_is_not_stored_is_asked_for() -> None:
    assert wants_conversation(pending(), END, POLICY)


def test_the_stored_body_of_a_call_in_progress_is_asked_for_until_it_says_that_the_call_is_over() -> None:
    one = pending(status="in_progress", conversation=BODY, recording=SOUND)

    assert wants_conversation(one, LATE, POLICY)
    assert not wants_conversation(one.model_copy(update={"status": "completed"}), LATE, POLICY)


def test_a_stored_body_is_asked_for_only_where_the_next_probe_decides() -> None:
    one = pending(conversation=BODY, recording_probes=probes(END))

    assert wants_conversation(one, GRACE_ENDS, POLICY)
    assert not wants_conversation(one, GRACE_ENDS - MOMENT, POLICY)
    assert not wants_conversation(pending(conversation=BODY), LATE, POLICY)
    assert not wants_conversation(pending(conversation=BODY, recording_probes=probes(LATE)), LATE, POLICY)
    assert not wants_conversation(one.model_copy(update={"recording": SOUND}), LATE, POLICY)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5), st.integers(0, 30))
def test_whenever_a_probe_would_prove_an_absence_the_conversation_is_asked_for(hours: list[int], later: int) -> None:
    earlier = probes(*(END + timedelta(hours=hour) for hour in sorted(hours)))
    one, now = pending(conversation=BODY, recording_probes=earlier), earlier[-1].at + timedelta(hours=later)

    proves = is_enough((*earlier, *probes(now)), one, POLICY)

    assert wants_conversation(one, now, POLICY) == proves


def test_a_call_in_progress_is_not_asked_for_its_recording() -> None:
    assert wants_recording(pending(), POLICY)
    assert not wants_recording(pending(recording=SOUND), POLICY)
    assert not wants_recording(pending(status="in_progress"), POLICY)
    assert not wants_recording(pending(status=""), POLICY)


def test_the_status_of_a_call_in_progress_is_the_bodys() -> None:
    answer = Answer(answered=True, status="busy")

    assert with_answers(pending(status="in_progress"), answer, Answer(), POLICY).status == "busy"
    assert with_answers(pending(status="completed"), answer, Answer(), POLICY).status == "completed"
    assert with_answers(pending(status="in_progress"), ANSWERED, Answer(), POLICY).status == "in_progress"


# The grace


@pytest.mark.parametrize(
    ("fields", "begins"),
    [
        ({}, END),
        ({"start_timestamp": milliseconds(END) - 60_000}, END),
        ({"end_timestamp": None, "start_timestamp": milliseconds(END) - 60_000}, END - MINUTE),
        ({"end_timestamp": None, "first_seen_at": END + MINUTE}, END + MINUTE),
        ({"end_timestamp": 10**30, "first_seen_at": END + MINUTE}, END + MINUTE),
        ({"end_timestamp": 10**400, "start_timestamp": milliseconds(END)}, END),
        ({"end_timestamp": 0}, datetime(1970, 1, 1, tzinfo=UTC)),
        ({"end_timestamp": -1}, datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    ],
    ids=["end", "end, not start", "start", "first seen", "no time", "no end", "zero", "negative"],
)
def test_the_grace_counts_from_the_end_else_the_start_else_the_first_sight(
    fields: dict[str, Any], begins: datetime
) -> None:
    assert ended_at(pending(**fields)) == begins


@given(end=st.integers(-(10**15), 10**15) | st.integers())
def test_no_time_that_the_api_gives_breaks_the_rules(end: int) -> None:
    one = pending(end_timestamp=end, recording_probes=probes(END), conversation_probes=probes(END))

    is_past_grace(one, LATE, POLICY)
    is_overdue(one, LATE, POLICY)
    wants_conversation(one, LATE, POLICY)
    verdict(one, ANSWERED, asked(LATE))
    waiting(one, [], LATE, POLICY)
    waiting(one.model_copy(update={"conversation_probes": probes(END, error_type="results_missing")}), [], LATE, POLICY)


@pytest.mark.parametrize("end", [253_402_300_799_999, 253_402_214_400_000, -62_135_596_800_000])
def test_the_last_and_first_days_that_there_are_break_nothing(end: int) -> None:
    one = pending(end_timestamp=end, recording=SOUND, conversation_probes=probes(END, error_type="results_missing"))

    assert is_past_grace(one, LATE, POLICY) == (end < 0)
    assert waiting(one, [], LATE, POLICY).next_probe_at is not None


# When it is overdue


@given(
    seen=st.timedeltas(timedelta(0), timedelta(days=20)),
    every=st.timedeltas(5 * MINUTE, timedelta(hours=3)),
    probe=st.sampled_from([0, 15, 60, 600, 1500]),
    grace=st.sampled_from([0, 1, 72, 100]),
    results=st.sampled_from([0, 30, 10_000]),
    body=st.sampled_from([BODY, None]),
)
def test_what_is_asked_for_as_the_rules_say_is_settled_before_it_is_overdue(
    seen: timedelta, every: timedelta, probe: int, grace: int, results: int, body: ConversationReceipt | None
) -> None:
    policy = Policy(
        grace=timedelta(hours=grace), probe_interval=timedelta(minutes=probe), results_wait=timedelta(minutes=results)
    )
    now = END + seen
    one, settled = pending(first_seen_at=now, conversation=body), False
    while not settled:
        if one.is_due(now):
            # The recording never comes, and results come in the end.
            is_early = body is None and now - END < policy.results_wait
            look = Answer(probe=Probe(at=now, http_status=200, error_type="results_missing")) if is_early else ANSWERED
            look = look if is_early or body else replace(ANSWERED, receipt=BODY)
            looks = (look if wants_conversation(one, now, policy) else Answer(), asked(now))
            one = with_answers(one, *looks, policy)
            settled = judge(one, *looks, policy).is_settled
            one = waiting(one, looks, now, policy)
        assert settled or not is_overdue(one, now, policy)
        now += every


@pytest.mark.parametrize(
    ("fields", "policy", "due"),
    [
        ({}, POLICY, GRACE_ENDS + LONGEST_INTERVAL),
        ({}, replace(POLICY, probe_interval=timedelta(days=1)), GRACE_ENDS + timedelta(days=3)),
        ({}, replace(POLICY, results_wait=timedelta(days=9)), END + timedelta(days=9) + LONGEST_INTERVAL),
        ({"first_seen_at": LATE}, POLICY, LATE + LONGEST_INTERVAL),
        (
            {"failed": True, "failures": 9, "next_probe_at": LATE + timedelta(days=9)},
            POLICY,
            GRACE_ENDS + LONGEST_INTERVAL,
        ),
        ({"status": "in_progress", "reason": "open", "end_timestamp": None}, POLICY, GRACE_ENDS + LONGEST_INTERVAL),
    ],
    ids=["default", "rare probes", "long wait for results", "history", "failing", "open"],
)
def test_overdue_begins_when_all_waits_are_over(fields: dict[str, Any], policy: Policy, due: datetime) -> None:
    one = pending(**fields)

    assert not is_overdue(one, due - MOMENT, policy)
    assert is_overdue(one, due, policy)


# When to ask again


@pytest.mark.parametrize(
    ("count", "minutes"), [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 360), (7, 360), (500, 360)]
)
def test_the_time_between_probes_doubles_up_to_six_hours(count: int, minutes: int) -> None:
    one = pending(conversation=BODY, recording_probes=probes(*[END] * count))

    again = waiting(one, [], LATE, POLICY)

    assert (again.reason, again.next_probe_at) == ("recording_not_found", LATE + minutes * MINUTE)


def test_without_an_interval_the_next_run_asks_again() -> None:
    one = pending(recording_probes=probes(END, END))

    again = waiting(one, [], LATE, Policy(probe_interval=timedelta(0)))

    assert again.is_due(LATE)


def test_an_interval_of_more_than_six_hours_is_kept() -> None:
    daily = Policy(probe_interval=timedelta(days=1))

    again = waiting(pending(conversation=BODY, recording_probes=probes(END)), [], LATE, daily)

    assert timedelta(days=1) > LONGEST_INTERVAL
    assert again.next_probe_at == LATE + timedelta(days=1)


def test_what_was_not_asked_for_is_asked_for_by_the_next_run() -> None:
    assert waiting(pending(), [Answer(), Answer()], LATE, POLICY).next_probe_at is None


def test_the_body_is_named_before_the_recording() -> None:
    one = pending(conversation_probes=probes(END, error_type="transcript_missing"), recording_probes=probes(END))

    assert waiting(one, [], LATE, POLICY).reason == "transcript_missing"
    assert waiting(one.model_copy(update={"conversation": BODY}), [], LATE, POLICY).reason == "recording_not_found"


def test_a_call_that_has_ended_is_not_called_open_any_more() -> None:
    open_call = pending(status="in_progress", reason="open", conversation_probes=probes(END, error_type="open"))
    looks = (Answer(receipt=BODY, answered=True, status="completed"), Answer())

    again = waiting(with_answers(open_call, *looks, POLICY), looks, LATE, POLICY)

    assert again.reason != "open"


def test_the_recording_of_a_call_that_has_just_ended_is_asked_for_by_the_next_run() -> None:
    # However often it was asked whether the call is over: nobody has asked for its recording yet.
    open_call = pending(status="in_progress", reason="open", conversation_probes=probes(*[END] * 9, error_type="open"))
    looks = (Answer(receipt=BODY, answered=True, status="completed"), Answer())

    again = waiting(with_answers(open_call, *looks, POLICY), looks, LATE, POLICY)

    assert again.is_due(LATE)


def test_results_are_asked_for_again_when_their_wait_is_over_if_not_before() -> None:
    late_probe = END + 25 * MINUTE
    one = pending(recording=SOUND, conversation_probes=probes(END, late_probe, error_type="results_missing"))

    assert waiting(one, [], late_probe, POLICY).next_probe_at == END + POLICY.results_wait
    assert waiting(one, [], END + MINUTE, POLICY).next_probe_at == END + 30 * MINUTE
    assert waiting(one, [], LATE, POLICY).next_probe_at == LATE


def test_a_failure_is_tried_again_at_once_and_then_ever_more_rarely() -> None:
    one, again = pending(), []
    for _ in range(8):
        one = waiting(one, [FAILED], LATE, POLICY)
        again.append(None if one.next_probe_at is None else (one.next_probe_at - LATE) / MINUTE)

    assert again == [None, 15, 30, 60, 120, 240, 360, 360]
    assert (one.failed, one.failures, one.reason, one.message) == (True, 8, "unavailable", "out of reach")


def test_a_failure_is_no_probe() -> None:
    assert with_answers(pending(), FAILED, FAILED, POLICY) == pending()


def test_a_failure_outranks_a_probe_and_the_probe_is_kept() -> None:
    looks = (FAILED, asked(LATE))

    again = waiting(with_answers(pending(), *looks, POLICY), looks, LATE, POLICY)

    assert (again.failed, again.reason, again.recording_probes) == (True, "unavailable", probes(LATE))


def test_after_a_failure_that_has_passed_nothing_of_it_is_left() -> None:
    failing = waiting(pending(), [FAILED], LATE, POLICY)
    looks = (asked(LATE, "transcript_missing", answered=True), Answer())

    again = waiting(with_answers(failing, *looks, POLICY), looks, LATE, POLICY)

    assert (again.failed, again.failures, again.message, again.reason) == (False, 0, None, "transcript_missing")


def test_refused_audio_is_remembered_over_other_failures() -> None:
    refused = Answer(failure=Failure(reason="truncated", message="cut off", audio_sha256="ab" * 32))

    once = waiting(pending(), [Answer(), refused], LATE, POLICY)

    assert once.refused_sha256 == "ab" * 32
    assert waiting(once, [FAILED], LATE, POLICY).refused_sha256 == "ab" * 32


# The record


def test_a_record_says_what_was_listed_and_found() -> None:
    one = pending(conversation=BODY, recording=SOUND, agent_id=7, duration_seconds=12, start_timestamp=1)
    found = verdict(one, Answer(), Answer())

    written = record(one, found, source="https://api.example", writer=WRITER, now=LATE)

    listed = ("conversation_id", "agent_id", "status", "start_timestamp", "end_timestamp", "duration_seconds")
    assert [getattr(written, name) for name in listed] == [getattr(one, name) for name in listed]
    assert written.conversation is not None
    assert written.conversation.model_dump() == BODY.model_dump(exclude={"has_transcript"})
    assert (written.settled_at, written.writer, written.source) == (LATE, WRITER, "https://api.example")
    assert written.remarks == ()


def test_there_is_no_record_of_what_is_still_waited_for() -> None:
    found = verdict(pending(), ANSWERED, asked(END))

    with pytest.raises(ValueError, match="waited for"):
        record(pending(), found, source="s", writer=WRITER, now=LATE)


@pytest.mark.parametrize(
    ("listed", "seconds", "said"),
    [
        (61, 12, ("duration differs: 61 s listed, 12 s of audio",)),
        (61.5, 12.25, ("duration differs: 61.5 s listed, 12.25 s of audio",)),
        (14, 12, ()),
        (10, 12, ()),
        (14.1, 12, ("duration differs: 14.1 s listed, 12 s of audio",)),
        (1000, 990, ()),
        (1000, 989, ("duration differs: 1000 s listed, 989 s of audio",)),
        (0, 12, ("duration differs: 0 s listed, 12 s of audio",)),
        (-5, 12, ("duration differs: -5 s listed, 12 s of audio",)),
        (None, 12, ()),
    ],
    ids=range(10),
)
def test_a_duration_that_differs_by_more_than_two_seconds_or_a_hundredth_is_remarked(
    listed: float | None, seconds: float, said: tuple[str, ...]
) -> None:
    audio = Audio(seconds=seconds, sample_rate=8000, channels=1, codec="pcm")
    sound = SOUND.model_copy(update={"audio": audio})

    assert remarks(pending(recording=sound, duration_seconds=listed)) == said


def test_remarks_on_the_audio_stand_before_the_one_on_its_duration() -> None:
    odd = SOUND.model_copy(update={"remarks": ("odd",)})

    assert remarks(pending(recording=odd, duration_seconds=61))[0] == "odd"
    assert remarks(pending(recording=odd)) == ("odd",)
    assert remarks(pending(recording=odd.model_copy(update={"audio": None}), duration_seconds=61)) == ("odd",)
    assert remarks(pending(duration_seconds=61)) == ()
