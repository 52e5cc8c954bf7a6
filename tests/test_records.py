"""Records: what a row of the list becomes, whatever is in it; what the archive writes, and that it reads back."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from formant_archive.records import (
    ArchivedRecording,
    Audio,
    ConversationReceipt,
    Entry,
    Link,
    Missing,
    Pending,
    PresentTranscript,
    Probe,
    Receipt,
    Recent,
    Record,
    RecordingReceipt,
    Reference,
    StoredObject,
    Writer,
    canonical,
    instant,
    milliseconds,
    written,
)

PHONE = "+4915112345678"
START = 1_773_867_201_766
NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)
SHA = "ab" * 32
HUGE = 10**400

ROW = {
    "agent_id": 123,
    "contact_number": PHONE,
    "conversation_id": "e3_1",
    "duration_seconds": 61,
    "end_timestamp": START + 61_000,
    "start_timestamp": START,
    "status": "completed",
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=3), values, max_size=2),
    max_leaves=4,
)


def shown(value: object) -> str:
    return f"{value!r:.24}:{len(repr(value))}"


def reference(**fields: object) -> Reference:
    return Reference.model_validate(ROW | fields)


def pending(**fields: Any) -> Pending:
    return Pending.model_validate({**ROW, "folder": "conversations/f/", "first_seen_at": NOON, **fields})


def record(**fields: Any) -> Record:
    shared = {"sha256": SHA, "fetched_at": NOON}
    defaults: dict[str, Any] = {
        "conversation_id": "e3_1",
        "agent_id": 123,
        "status": "completed",
        "start_timestamp": START,
        "end_timestamp": None,
        "duration_seconds": 61,
        "source": "https://api.example",
        "conversation": Receipt(key="f/conversation.json", size=10, **shared),
        "transcript": PresentTranscript(),
        "recording": ArchivedRecording(key="f/recording.wav", size=20, audio=None, **shared),
        "remarks": (),
        "writer": Writer(version="1", run_id="r"),
        "settled_at": NOON,
    }
    return Record(**defaults | fields)


# What a row becomes


def test_a_row_becomes_a_reference() -> None:
    assert reference().model_dump() == {name: value for name, value in ROW.items() if name != "contact_number"}


@given(where=st.text(max_size=20), value=st.sampled_from([PHONE, [PHONE], {"n": PHONE}]))
def test_no_phone_number_of_a_row_gets_into_a_reference(where: str, value: object) -> None:
    fields = set(Reference.model_fields)
    row = ROW | ({} if where in fields else {where: value})

    one = Reference.model_validate(row)

    assert PHONE not in f"{one!r} {one} {one.line().decode()} {one.model_dump()} {one.model_dump_json()}"
    assert PHONE not in f"{pending(**row)!r} {pending(**row).line().decode()}"


@pytest.mark.parametrize("odd", [None, "", True, False, 1.5, [PHONE], {"id": PHONE}, [], math.nan], ids=shown)
def test_a_row_without_an_id_is_refused_and_the_error_shows_nothing_of_it(odd: object) -> None:
    with pytest.raises(ValidationError) as caught:
        reference(conversation_id=odd)

    assert PHONE not in f"{caught.value} {caught.value!r}"


def test_a_row_that_lacks_the_id_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        Reference.model_validate({"contact_number": PHONE})

    assert PHONE not in str(caught.value)


@pytest.mark.parametrize(("given_id", "taken"), [(0, "0"), (17, "17"), (-3, "-3"), (10**30, "1" + "0" * 30)])
def test_an_id_that_is_a_number_is_taken_as_its_digits(given_id: int, taken: str) -> None:
    assert reference(conversation_id=given_id).conversation_id == taken


@pytest.mark.parametrize("spelling", [" ", "..", "a/b", "\0", "née", "x" * 5000, "0", " x "], ids=shown)
def test_an_id_of_any_form_is_taken_as_it_is(spelling: str) -> None:
    assert reference(conversation_id=spelling).conversation_id == spelling


@pytest.mark.parametrize("field", ["start_timestamp", "end_timestamp"])
@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (START, START),
        (str(START), START),
        (START + 0.75, START),
        (-1, -1),
        (0, 0),
        (10**30, 10**30),
        (HUGE, HUGE),
        (None, None),
        (True, None),
        ("", None),
        ("yesterday", None),
        ("2026-03-18T20:53:21Z", None),
        (math.nan, None),
        (math.inf, None),
        ([START], None),
        ({"ms": START}, None),
    ],
    ids=shown,
)
def test_a_time_is_whole_milliseconds_or_none(field: str, value: object, taken: int | None) -> None:
    assert getattr(reference(**{field: value}), field) == taken


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (61, 61),
        (61.5, 61.5),
        (0, 0),
        (-5, -5),
        (None, None),
        (True, None),
        ("61", None),
        ([61], None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (HUGE, None),
        (-HUGE, None),
    ],
    ids=shown,
)
def test_a_duration_is_a_number_that_json_and_arithmetic_can_hold_or_none(value: object, taken: float | None) -> None:
    one = reference(duration_seconds=value)

    assert one.duration_seconds == taken
    assert type(one.duration_seconds) is type(taken)


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        *[(123, 123), ("123", "123"), ("a/b", "a/b"), (-1, -1), (10**30, 10**30), (None, None)],
        *[(True, None), (1.0, None), ([1], None), ({"id": 1}, None)],
    ],
    ids=shown,
)
def test_an_agent_is_a_number_or_text_or_none(value: object, taken: int | str | None) -> None:
    assert reference(agent_id=value).agent_id == taken


@pytest.mark.parametrize("value", [None, True, 7, 1.5, [], {}])
def test_a_status_that_is_no_text_is_empty(value: object) -> None:
    assert reference(status=value).status == ""


@given(st.fixed_dictionaries({name: JSON_VALUES for name in ROW if name != "conversation_id"}))
def test_no_field_but_the_id_can_cost_us_a_row(fields: dict[str, object]) -> None:
    one = reference(**fields)

    assert Reference.model_validate_json(one.line()) == one


@pytest.mark.parametrize("field", ["status", "agent_id", "conversation_id", "start_timestamp", "contact_number"])
def test_half_a_surrogate_pair_never_makes_a_row_that_cannot_be_written(field: str) -> None:
    # JSON can spell it ("\ud800"), UTF-8 cannot: keys, hashes and manifests are UTF-8.
    row = json.loads(json.dumps(ROW | {field: "x\ud800"}))
    try:
        one = Reference.model_validate(row)
    except ValidationError:
        assert field == "conversation_id"
        return

    one.conversation_id.encode()
    assert Reference.model_validate_json(one.line()) == one


def test_a_rows_time_is_its_start_else_its_end() -> None:
    assert reference(start_timestamp=5, end_timestamp=9).time == 5
    assert reference(start_timestamp=0, end_timestamp=9).time == 0
    assert reference(start_timestamp=None, end_timestamp=9).time == 9
    assert reference(start_timestamp=None, end_timestamp=None).time is None


# Times


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2026, 3, 18, 20, 53, 21, 766_000, tzinfo=UTC), "2026-03-18T20:53:21.766Z"),
        (datetime(2026, 3, 18, 20, 53, 21, tzinfo=UTC), "2026-03-18T20:53:21.000Z"),
        (datetime(2026, 3, 19, 2, 23, tzinfo=timezone(timedelta(hours=5.5))), "2026-03-18T20:53:00.000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(time: datetime, text: str) -> None:
    assert written(time) == text
    assert instant(text) == time


def test_milliseconds_are_those_of_the_api() -> None:
    assert milliseconds(datetime(2026, 3, 18, 20, 53, 21, 766_000, tzinfo=UTC)) == START


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)))
def test_a_time_of_ours_is_the_same_in_memory_and_on_disk(time: datetime) -> None:
    # What is not the same is evidence twice, when one run's memory meets what another run has read (`joined`).
    probe = Probe(at=time, http_status=404, error_type="not_found")

    assert Probe.model_validate_json(probe.line()) == probe


# Canonical JSON


def test_canonical_json_has_sorted_keys_no_spaces_and_is_utf8() -> None:
    assert canonical({"b": [1, {"d": None, "c": True}], "a": "né\u2028\n"}) == (
        '{"a":"né\u2028\\n","b":[1,{"c":true,"d":null}]}'.encode()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_canonical_json_holds_no_number_that_json_does_not_know(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": value})


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers() | st.none(), max_size=5))
def test_the_same_data_has_the_same_bytes_in_any_order(data: dict[str, int | None]) -> None:
    assert canonical(dict(reversed(data.items()))) == canonical(data)


# What is written reads back


def test_everything_known_of_a_pending_conversation_reads_back() -> None:
    probe = Probe(at=NOON, http_status=404, error_type="not_found")
    receipt = {"key": "k", "size": 3, "sha256": SHA, "fetched_at": NOON}
    audio = Audio(seconds=1.5, sample_rate=8000, channels=1, codec="pcm")
    one = pending(
        scopes=("agent_id=123", "all"),
        reason="recording_not_found",
        message="a sentence",
        failed=True,
        failures=3,
        conversation=ConversationReceipt(**receipt, has_transcript=True),
        recording=RecordingReceipt(**receipt, audio=audio, remarks=("odd",)),
        conversation_probes=(probe,),
        recording_probes=(probe, probe),
        refused_sha256=SHA,
        next_probe_at=NOON,
    )

    assert Pending.model_validate_json(one.line()) == one
    assert one.line().endswith(b"}\n")
    assert one.line().count(b"\n") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"conversation": None, "transcript": Missing(state="gone", probes=()), "agent_id": None},
        {"recording": Missing(state="absent", probes=(Probe(at=NOON, http_status=404, error_type="not_found"),))},
        {"supersedes": Link(key="f/record.json", sha256=SHA)},
        {"duration_seconds": 61.5, "agent_id": "x", "remarks": ("one", "two")},
    ],
    ids=["archived", "gone", "absent", "second", "odd"],
)
def test_a_record_reads_back_to_the_same_bytes(fields: dict[str, Any]) -> None:
    one = record(**fields)

    again = Record.model_validate_json(one.body())

    assert again == one
    assert again.body() == one.body()


def test_only_a_second_record_says_what_it_supersedes() -> None:
    assert "supersedes" not in json.loads(record().body())
    second = record(supersedes=Link(key="f/record.json", sha256=SHA))
    assert json.loads(second.body())["supersedes"] == {"key": "f/record.json", "sha256": SHA}


def test_a_record_holds_what_the_format_says_and_nothing_else() -> None:
    held = json.loads(record().body())

    assert held["format"] == "formant-archive/record/1"
    assert held["settled_at"] == "2026-03-18T12:00:00.000Z"
    assert held["transcript"] == {"state": "present"}
    assert set(held) == {
        *("format", "conversation_id", "agent_id", "status", "start_timestamp", "end_timestamp", "duration_seconds"),
        *("source", "conversation", "transcript", "recording", "remarks", "writer", "settled_at"),
    }


def test_a_record_vouches_for_the_payloads_that_are_there() -> None:
    body = StoredObject(key="f/conversation.json", size=10, sha256=SHA)
    sound = StoredObject(key="f/recording.wav", size=20, sha256=SHA)
    absent = Missing(state="absent", probes=())

    assert record().objects == (body, sound)
    assert record(recording=absent).objects == (body,)
    assert record(conversation=None, recording=absent).objects == ()


def test_an_outcome_that_the_format_does_not_know_is_no_entry() -> None:
    known: dict[str, Any] = {"conversation_id": "c", "agent_id": None, "start_timestamp": None, "status": "completed"}
    with pytest.raises(ValidationError):
        Entry(**known, outcome="lost", record_key="k", record_sha256=SHA, objects=())


def test_a_value_never_changes() -> None:
    with pytest.raises(ValidationError):
        Recent(conversation_id="c", time=1, settled=True).__setattr__("settled", False)


def test_a_conversation_is_due_from_its_next_probe_on() -> None:
    assert pending().is_due(NOON)
    assert pending(next_probe_at=NOON).is_due(NOON)
    assert not pending(next_probe_at=NOON + timedelta(milliseconds=1)).is_due(NOON)
