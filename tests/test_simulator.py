"""The simulated FormantAI API: what it serves, how it fails on order, and that it is the same every time."""

import datetime
import gzip
import io
import socket
import threading
import time
import urllib.parse
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from formant_archive.simulator import NOT_COMPLETED, SPOKEN, Simulator

NOW = 1_773_867_341_766
KEY = {"Authorization": "Bearer simulated-key"}
ODD_IDS = [
    "a/b",
    "a/b/recording",
    "/",
    "..",
    ".",
    "recording",
    "x/recording",
    "kō?#%41 &",
    "Ã©",
    "née",
    "tab\tnul\0line\n",
    "😀" * 40,
    "long" * 1250,
]


def fixed(**settings: Any) -> Simulator:
    defaults: dict[str, Any] = {"now": lambda: NOW, "audio_seconds": (0.1, 0.5)}
    return Simulator(**defaults | settings)


def client(sim: Simulator) -> httpx.Client:
    return httpx.Client(transport=httpx.WSGITransport(app=sim), base_url="http://simulated", headers=KEY)


def path(conversation_id: str, suffix: str = "") -> str:
    quoted = urllib.parse.quote(conversation_id, safe="").replace(".", "%2E")
    return f"/v1/conversations/{quoted}{suffix}"


def recording_path(sim: Simulator) -> str:
    return path(next(each.conversation_id for each in sim.conversations if each.recording), "/recording")


def listed(api: httpx.Client, limit: int = 100, **query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        page = api.get("/v1/conversations", params={"limit": limit, "offset": len(rows), **query}).json()
        rows += page["data"]
        if not page["has_more"]:
            assert page["total"] == len(rows)
            return rows


def error_type(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type"}
    return response.status_code, error["type"]


@pytest.fixture
def sim() -> Simulator:
    return fixed(conversations=30, completed=1.0)


@pytest.fixture
def api(sim: Simulator) -> Iterator[httpx.Client]:
    with client(sim) as opened:
        yield opened


class TestList:
    def test_pages_hold_every_conversation_once_and_in_order(self) -> None:
        sim = fixed(conversations=250)
        rows = listed(client(sim))
        assert [row["conversation_id"] for row in rows] == [each.conversation_id for each in sim.conversations]
        assert sim.count("list") == 3

    def test_a_row_has_the_documented_fields_and_no_others(self, api: httpx.Client) -> None:
        assert set(listed(api)[0]) == {
            *("agent_id", "contact_number", "conversation_id", "duration_seconds"),
            *("end_timestamp", "start_timestamp", "status"),
        }

    def test_the_default_limit_is_20_and_the_greatest_is_100(self) -> None:
        api = client(fixed(conversations=150))
        assert len(api.get("/v1/conversations").json()["data"]) == 20
        assert len(api.get("/v1/conversations?limit=1000").json()["data"]) == 100

    def test_page_limit_lowers_the_greatest_page(self) -> None:
        assert len(client(fixed(page_limit=7)).get("/v1/conversations?limit=100").json()["data"]) == 7

    def test_the_filter_by_agent_shows_only_that_agent_and_its_total(self) -> None:
        sim = fixed(conversations=31, agents=(7, 8))
        rows = listed(client(sim), limit=4, agent_id=8)
        expected = [each.conversation_id for each in sim.conversations if each.agent_id == 8]
        assert [row["conversation_id"] for row in rows] == expected

    def test_an_offset_past_the_end_is_an_empty_last_page(self, api: httpx.Client) -> None:
        page = api.get("/v1/conversations?offset=500").json()
        assert page == {"data": [], "has_more": False, "total": 30}

    @pytest.mark.parametrize("name", ["limit", "offset", "agent_id"])
    @pytest.mark.parametrize("value", ["-1", "x", "1.5", "", "1_0", "٣", "9" * 5000])
    def test_what_is_no_whole_number_is_an_invalid_request(self, api: httpx.Client, name: str, value: str) -> None:
        response = api.get("/v1/conversations", params={name: value})
        assert error_type(response) == (400, "invalid_request")

    def test_a_limit_of_0_is_an_invalid_request(self, api: httpx.Client) -> None:
        assert error_type(api.get("/v1/conversations?limit=0")) == (400, "invalid_request")

    def test_newest_first_and_oldest_first_are_sorted_by_start(self) -> None:
        starts = [each.listed_at for each in fixed(order="newest_first").conversations]
        assert starts == sorted(starts, reverse=True)
        starts = [each.listed_at for each in fixed(order="oldest_first").conversations]
        assert starts == sorted(starts)

    def test_shuffled_is_sorted_neither_way(self) -> None:
        starts = [each.listed_at for each in fixed(order="shuffled").conversations]
        assert starts not in (sorted(starts), sorted(starts, reverse=True))


class TestConversation:
    def test_the_body_has_the_documented_fields_and_no_timestamps(self, sim: Simulator, api: httpx.Client) -> None:
        truth = sim.conversations[0]
        response = api.get(path(truth.conversation_id))
        data = response.json()["data"]
        assert response.headers["Content-Type"] == "application/json"
        assert list(data) == [
            *("agent_id", "contact_number", "conversation_id", "duration_seconds", "failure_reason"),
            *("results", "status", "trace_id", "transcript"),
        ]
        assert data["conversation_id"] == truth.conversation_id

    def test_it_is_served_byte_for_byte_as_the_truth_says(self, sim: Simulator, api: httpx.Client) -> None:
        for truth in sim.conversations:
            assert api.get(path(truth.conversation_id)).content == truth.conversation_json
            assert api.get(path(truth.conversation_id, "/recording")).content == truth.recording

    def test_a_transcript_is_a_talk_of_agent_and_human(self, sim: Simulator, api: httpx.Client) -> None:
        turns = api.get(path(sim.conversations[0].conversation_id)).json()["data"]["transcript"]
        assert {turn["role"] for turn in turns} == {"agent", "human"}
        assert SPOKEN in turns[0]["message"]

    def test_every_phone_number_looks_real_and_is_used_once(self) -> None:
        sim = fixed(conversations=5000)
        sim.add(50)
        numbers = {each.contact_number for each in sim.conversations}
        assert len(numbers) == 5050
        assert all(len(number) == 13 and number[:3] == "+91" and number[3] in "6789" for number in numbers)

    def test_the_share_of_completed_is_exact_and_the_rest_has_the_other_six(self) -> None:
        statuses = [each.status for each in fixed(conversations=100, completed=0.7).conversations]
        assert statuses.count("completed") == 70
        assert {statuses.count(name) for name in NOT_COMPLETED} == {5}

    def test_a_call_that_did_not_complete_has_no_transcript_and_no_recording(self) -> None:
        sim = fixed(conversations=12, completed=0.0)
        api = client(sim)
        for truth in sim.conversations:
            data = api.get(path(truth.conversation_id)).json()["data"]
            assert (data["transcript"], data["results"]) == (None, None)
            assert data["failure_reason"]
            response = api.get(path(truth.conversation_id, "/recording"))
            assert error_type(response) == (404, "not_found")

    def test_an_unanswered_call_has_a_start_and_no_duration(self) -> None:
        sim = fixed(completed=0.0)
        unanswered = [each for each in sim.conversations if each.status == "no_answer"]
        assert unanswered
        assert all(each.start_timestamp and each.duration_seconds is None for each in unanswered)

    def test_starts_lie_within_the_hours_asked_for_and_ends_before_now(self) -> None:
        sim = fixed(conversations=200, spread_hours=3, completed=1.0)
        ages = [(NOW - (each.start_timestamp or 0)) / 3_600_000 for each in sim.conversations]
        assert 2 < max(ages) < 3.01
        assert all((each.end_timestamp or NOW) <= NOW for each in sim.conversations)

    @pytest.mark.parametrize("suffix", ["", "/recording"])
    def test_an_unknown_id_is_not_found(self, api: httpx.Client, suffix: str) -> None:
        assert error_type(api.get(path("nobody", suffix))) == (404, "not_found")

    def test_an_unknown_path_is_not_found(self, sim: Simulator, api: httpx.Client) -> None:
        assert error_type(api.get("/v2/calls")) == (404, "not_found")
        assert sim.count("other") == 1

    def test_another_method_is_refused(self, api: httpx.Client) -> None:
        assert error_type(api.post("/v1/conversations")) == (405, "invalid_request")

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "x"}])
    def test_without_the_key_there_is_only_an_authentication_error(
        self, sim: Simulator, headers: dict[str, str]
    ) -> None:
        api = httpx.Client(transport=httpx.WSGITransport(app=sim), base_url="http://simulated")
        for target in ("/v1/conversations", recording_path(sim), path("nobody")):
            assert error_type(api.get(target, headers=headers)) == (401, "authentication_error")

    def test_another_key_can_be_set(self) -> None:
        api = client(fixed(api_key="mine"))
        assert api.get("/v1/conversations").status_code == 401
        assert api.get("/v1/conversations", headers={"Authorization": "Bearer mine"}).status_code == 200


class TestRecording:
    def test_it_is_a_wave_file_of_the_length_that_the_call_had(self) -> None:
        sim = fixed(conversations=5, completed=1.0, audio_seconds=(1, 90))
        for truth in sim.conversations:
            with wave.open(io.BytesIO(truth.recording or b"")) as sound:
                assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (8000, 1, 2)
                assert sound.getnframes() == round(truth.seconds * 8000)
                assert abs(sound.getnframes() / 8000 - (truth.duration_seconds or 0)) <= 0.5
                assert len(set(sound.readframes(8000))) > 100

    def test_its_headers_say_what_and_how_long_it_is(self, sim: Simulator, api: httpx.Client) -> None:
        response = api.get(recording_path(sim))
        assert response.headers["Content-Type"] == "audio/wav"
        assert int(response.headers["Content-Length"]) == len(response.content)

    def test_no_two_are_the_same(self) -> None:
        sim = fixed(conversations=300, completed=1.0, audio_seconds=(0.1, 0.1))
        assert len({each.recording for each in sim.conversations}) == 300


class TestSameEveryTime:
    def test_a_seed_and_a_clock_give_the_same_bytes(self) -> None:
        first, second = (fixed(seed=5, late_recordings=0.2, in_progress=3) for _ in range(2))
        for one, other in zip(first.conversations, second.conversations, strict=True):
            assert one.listed == other.listed
            assert one.conversation_json == other.conversation_json
            assert one.recording == other.recording

    def test_another_seed_gives_other_conversations(self) -> None:
        ids = [{each.conversation_id for each in fixed(seed=seed).conversations} for seed in (1, 2)]
        assert not ids[0] & ids[1]

    def test_nothing_changes_by_growth_and_faults(self, sim: Simulator) -> None:
        before = {
            each.conversation_id: (each.conversation_json, each.recording, each.listed) for each in sim.conversations
        }
        sim.fault(share=1.0, status=500)
        sim.add(20)
        client(sim).get(recording_path(sim))
        for each in sim.conversations[20:]:
            assert before[each.conversation_id] == (each.conversation_json, each.recording, each.listed)

    def test_a_share_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="completed"):
            fixed(completed=70)
        with pytest.raises(ValueError, match="late_recordings"):
            fixed(late_recordings=0.7, never_recordings=0.7)
        with pytest.raises(ValueError, match="in_progress"):
            fixed(conversations=1, in_progress=2)


class TestLate:
    def test_late_recordings_are_not_found_until_they_are_released(self) -> None:
        sim = fixed(conversations=20, completed=1.0, late_recordings=0.5, never_recordings=0.25)
        assert sum(each.recording is not None for each in sim.conversations) == 5
        late = next(each for each in sim.conversations if each.recording_comes == "later")
        api = client(sim)
        assert error_type(api.get(path(late.conversation_id, "/recording"))) == (404, "not_found")
        sim.release()
        assert api.get(path(late.conversation_id, "/recording")).status_code == 200
        assert sum(each.recording is not None for each in sim.conversations) == 15

    def test_late_transcripts_and_results_are_null_until_they_are_released(self) -> None:
        sim = fixed(conversations=20, completed=1.0, late_transcripts=1.0, late_results=0.5)
        api = client(sim)

        def nulls(field: str) -> int:
            return sum(api.get(path(each.conversation_id)).json()["data"][field] is None for each in sim.conversations)

        assert (nulls("transcript"), nulls("results")) == (20, 10)
        sim.release()
        assert (nulls("transcript"), nulls("results")) == (0, 0)

    def test_a_call_in_progress_completes_when_it_is_released(self) -> None:
        sim = fixed(conversations=10, in_progress=3)
        calls = [each for each in sim.conversations if each.status == "in_progress"]
        assert len(calls) == 3
        assert all(call.end_timestamp is None and call.duration_seconds is None for call in calls)
        assert all(call.recording is None and b'"transcript":null' in call.conversation_json for call in calls)
        sim.release()
        for call in calls:
            assert call.status == "completed"
            assert call.end_timestamp == (call.start_timestamp or 0) + round(1000 * call.seconds)
            assert call.duration_seconds == round(call.seconds)
            assert call.recording
            assert SPOKEN.encode() in call.conversation_json


class TestGrowth:
    def test_new_calls_start_now_on_top_of_a_newest_first_list(self, sim: Simulator) -> None:
        added = sim.add(2)
        assert sim.conversations[:2] == added[::-1]
        assert {each.start_timestamp for each in added} == {NOW}
        assert all(each.status == "completed" and each.recording for each in added)

    def test_new_calls_are_at_the_end_of_an_oldest_first_list(self) -> None:
        sim = fixed(order="oldest_first")
        added = sim.add(2)
        assert sim.conversations[-2:] == added

    def test_new_calls_are_listed_somewhere_in_a_shuffled_list(self) -> None:
        sim = fixed(order="shuffled")
        added = sim.add(5)
        assert set(added) < set(sim.conversations)
        assert sim.conversations[:5] != added[::-1]

    @pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
    def test_a_call_that_is_listed_late_stands_deep_in_the_list(self, order: str) -> None:
        sim = fixed(order=order)
        sim.add(start_timestamp=NOW - 36 * 3_600_000)
        starts = [each.start_timestamp or 0 for each in sim.conversations]
        assert starts == sorted(starts, reverse=order == "newest_first")

    def test_a_new_call_has_the_fields_given(self, sim: Simulator) -> None:
        (added,) = sim.add(agent_id=None, start_timestamp=None, end_timestamp=None, transcript=[], seconds=61)
        assert sim.conversations[0] is added
        assert (added.listed["agent_id"], added.listed["start_timestamp"]) == (None, None)
        assert added.duration_seconds == 61
        assert b'"transcript":[]' in added.conversation_json

    def test_a_new_call_of_another_status_has_nothing_to_fetch(self, sim: Simulator) -> None:
        (added,) = sim.add(status="ringing")
        assert added.recording is None
        assert b'"transcript":null' in added.conversation_json

    def test_rows_and_bodies_can_be_made_to_lie(self, sim: Simulator, api: httpx.Client) -> None:
        (added,) = sim.add(row={"conversation_id": None, "new": 1}, body={"conversation_id": "another"})
        row = api.get("/v1/conversations").json()["data"][0]
        assert (row["conversation_id"], row["new"]) == (None, 1)
        assert api.get(path(added.conversation_id)).json()["data"]["conversation_id"] == "another"

    def test_a_recording_can_be_any_bytes(self, sim: Simulator, api: httpx.Client) -> None:
        (added,) = sim.add(audio=b"RIFF, so to speak")
        assert api.get(path(added.conversation_id, "/recording")).content == b"RIFF, so to speak"

    def test_an_id_is_there_once(self, sim: Simulator) -> None:
        with pytest.raises(ValueError, match="already"):
            sim.add(conversation_id=sim.conversations[0].conversation_id)

    def test_a_field_that_no_conversation_has_is_refused(self, sim: Simulator) -> None:
        with pytest.raises(TypeError, match="colour"):
            sim.add(colour="red")
        with pytest.raises(TypeError, match="colour"):
            sim.change(sim.conversations[0].conversation_id, colour="red")

    def test_a_deleted_conversation_is_neither_listed_nor_found(self, sim: Simulator, api: httpx.Client) -> None:
        gone = sim.conversations[3]
        listed(api, agent_id=gone.agent_id)
        sim.delete(gone.conversation_id)
        assert gone.conversation_id not in {row["conversation_id"] for row in listed(api)}
        assert gone.conversation_id not in {row["conversation_id"] for row in listed(api, agent_id=gone.agent_id)}
        assert api.get(path(gone.conversation_id)).status_code == 404
        with pytest.raises(KeyError):
            sim.find(gone.conversation_id)

    def test_a_changed_conversation_keeps_its_place(self, sim: Simulator, api: httpx.Client) -> None:
        truth = sim.conversations[3]
        sim.change(truth.conversation_id, agent_id=9, results=None, trace_id="t")
        sim.change(truth.conversation_id, transcript=None)
        assert [row["conversation_id"] for row in listed(api, agent_id=9)] == [truth.conversation_id]
        data = api.get(path(truth.conversation_id)).json()["data"]
        assert (data["results"], data["transcript"], data["trace_id"]) == (None, None, "t")
        assert sim.conversations[3] is sim.find(truth.conversation_id)


class TestOddIds:
    def test_they_are_found_in_process(self) -> None:
        sim = fixed(conversations=2)
        for odd in ODD_IDS:
            sim.add(conversation_id=odd)
        with client(sim) as api:
            self.check(sim, api)

    def test_they_are_found_over_a_port(self) -> None:
        sim = fixed(conversations=2)
        for odd in ODD_IDS:
            sim.add(conversation_id=odd)
        with sim.serve() as base_url, httpx.Client(base_url=base_url, headers=KEY) as api:
            self.check(sim, api)

    @staticmethod
    def check(sim: Simulator, api: httpx.Client) -> None:
        assert {row["conversation_id"] for row in listed(api)} >= set(ODD_IDS)
        for odd in ODD_IDS:
            assert api.get(path(odd)).content == sim.find(odd).conversation_json
            response = api.get(path(odd, "/recording"))
            if f"{odd}/recording" not in ODD_IDS:
                assert response.content == sim.find(odd).recording

    def test_of_two_readings_the_longer_id_is_meant(self) -> None:
        sim = fixed()
        sim.add(conversation_id="x")
        (longer,) = sim.add(conversation_id="x/recording")
        assert client(sim).get(path("x", "/recording")).content == longer.conversation_json


class TestRequests:
    def test_each_is_recorded_with_its_kind_and_status(self, sim: Simulator, api: httpx.Client) -> None:
        truth = sim.conversations[0]
        api.get("/v1/conversations?limit=2")
        api.get(path(truth.conversation_id))
        api.get(path(truth.conversation_id, "/recording"))
        api.get(path("nobody"))
        kinds = [(each.kind, each.status, each.authorization) for each in sim.requests]
        assert kinds == [
            ("list", 200, True),
            ("conversation", 200, True),
            ("recording", 200, True),
            ("conversation", 404, True),
        ]
        assert sim.requests[0].query == "limit=2"
        assert sim.requests[1].path == f"/v1/conversations/{truth.conversation_id}"
        assert (sim.count(), sim.count("conversation")) == (4, 2)
        sim.forget_requests()
        assert sim.count() == 0


class TestRateLimit:
    def test_without_a_limit_there_are_no_headers_about_it(self, api: httpx.Client) -> None:
        assert not [name for name in api.get("/v1/conversations").headers if "ratelimit" in name]

    def test_past_the_limit_there_is_429_until_the_window_ends(self) -> None:
        clock = [NOW]
        sim = fixed(now=lambda: clock[0], rate_limit=2, rate_window_seconds=30)
        api = client(sim)
        answers = [api.get("/v1/conversations") for _ in range(3)]
        assert [each.headers["X-RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]
        assert error_type(answers[2]) == (429, "rate_limit_exceeded")
        reset = datetime.datetime.fromisoformat(answers[2].headers["X-RateLimit-Reset"])
        assert answers[2].headers["X-RateLimit-Reset"].endswith("+00:00")
        assert reset.timestamp() * 1000 - 1000 < NOW + 30_000 <= reset.timestamp() * 1000
        clock[0] += int(answers[2].headers["Retry-After"]) * 1000
        again = api.get("/v1/conversations")
        assert (again.status_code, again.headers["X-RateLimit-Remaining"]) == (200, "1")

    def test_every_answer_carries_the_headers(self) -> None:
        sim = fixed(rate_limit=50)
        sim.fault(kind="recording", status=503)
        api = client(sim)
        for target in (recording_path(sim), recording_path(sim), path("nobody"), "/other"):
            assert api.get(target).headers["X-RateLimit-Limit"] == "50"
        assert api.get("/", headers={"Authorization": "x"}).headers["X-RateLimit-Remaining"] == "45"


class TestFaults:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [(401, "authentication_error"), (429, "rate_limit_exceeded"), (503, "internal_error")],
    )
    def test_a_status_comes_in_the_documented_envelope_and_so_often(
        self, sim: Simulator, api: httpx.Client, status: int, kind: str
    ) -> None:
        sim.fault(kind="recording", status=status, times=2, headers={"Retry-After": "3"})
        target = recording_path(sim)
        assert api.get("/v1/conversations").status_code == 200
        answers = [api.get(target) for _ in range(3)]
        assert [error_type(each) for each in answers[:2]] == [(status, kind)] * 2
        assert answers[0].headers["Retry-After"] == "3"
        assert answers[2].status_code == 200

    def test_faults_that_ran_out_are_gone_and_the_others_say_what_is_left(
        self, sim: Simulator, api: httpx.Client
    ) -> None:
        once = sim.fault(kind="list", status=500)
        thrice = sim.fault(status=502, times=3)
        endless = sim.fault(kind="conversation", share=1.0, status=504)
        assert sim.faults == [once, thrice, endless]
        assert [api.get("/v1/conversations").status_code for _ in range(2)] == [500, 502]
        assert sim.faults == [thrice, endless]
        assert ((once.left, once.used), (thrice.left, thrice.used), endless.left) == ((0, 1), (2, 1), None)
        sim.heal()
        assert sim.faults == []
        assert api.get("/v1/conversations").status_code == 200

    def test_a_fault_can_be_meant_for_one_conversation(self, sim: Simulator, api: httpx.Client) -> None:
        first, second = (each.conversation_id for each in sim.conversations[:2])
        sim.fault(conversation_id=second, status=500, times=2)
        assert api.get(path(first)).status_code == 200
        assert api.get(path(second)).status_code == 500
        assert api.get(path(second, "/recording")).status_code == 500

    def test_a_body_can_be_anything(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="recording", body=b"<html>sorry</html>", content_type="text/html")
        sim.fault(kind="recording", body=b"[1]", status=404)
        target = recording_path(sim)
        html, json = api.get(target), api.get(target)
        assert (html.status_code, html.headers["Content-Type"]) == (200, "text/html")
        assert (json.status_code, json.json()) == (404, [1])

    def test_a_header_replaces_the_simulators_own(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="recording", headers={"content-type": "audio/x-wav"})
        response = api.get(recording_path(sim))
        assert response.headers.get_list("Content-Type") == ["audio/x-wav"]
        assert response.content[:4] == b"RIFF"

    def test_a_truncated_body_has_the_content_length_of_the_whole(self, sim: Simulator, api: httpx.Client) -> None:
        target = recording_path(sim)
        whole = api.get(target).content
        sim.fault(kind="recording", truncate_to=100)
        response = api.get(target)
        assert response.content == whole[:100]
        assert int(response.headers["Content-Length"]) == len(whole)

    def test_a_truncated_body_can_have_an_honest_length(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="recording", truncate_to=100, honest_length=True)
        response = api.get(recording_path(sim))
        assert len(response.content) == int(response.headers["Content-Length"]) == 100

    def test_a_compressed_body_says_so(self, sim: Simulator, api: httpx.Client) -> None:
        truth = sim.conversations[0]
        sim.fault(kind="conversation", gzip=True)
        with api.stream("GET", path(truth.conversation_id)) as response:
            raw = b"".join(response.iter_raw())
        assert response.headers["Content-Encoding"] == "gzip"
        assert int(response.headers["Content-Length"]) == len(raw)
        assert gzip.decompress(raw) == truth.conversation_json

    def test_a_list_can_lie_about_its_end(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="list", total=7, has_more=True)
        sim.fault(kind="list", has_more=False)
        lie, half = (api.get("/v1/conversations").json() for _ in range(2))
        assert (lie["total"], lie["has_more"], len(lie["data"])) == (7, True, 20)
        assert (half["total"], half["has_more"]) == (30, False)

    def test_a_body_can_drip(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="recording", truncate_to=10, drip=0.01)
        began = time.monotonic()
        with api.stream("GET", recording_path(sim)) as response:
            pieces = list(response.iter_raw())
        assert [len(piece) for piece in pieces] == [1] * 10
        assert time.monotonic() - began >= 0.1

    def test_an_answer_can_be_late(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="list", delay=0.1)
        began = time.monotonic()
        assert api.get("/v1/conversations").status_code == 200
        assert time.monotonic() - began >= 0.1

    def test_a_dropped_connection_is_an_exception_in_process(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(drop=True)
        with pytest.raises(ConnectionResetError):
            api.get("/v1/conversations")
        assert sim.requests[0].status == 0
        assert api.get("/v1/conversations").status_code == 200

    def test_a_redirect_leads_to_the_recording_without_a_key(self, sim: Simulator, api: httpx.Client) -> None:
        truth = sim.conversations[0]
        sim.fault(kind="recording", redirect=True, times=2)
        response = api.get(path(truth.conversation_id, "/recording"))
        assert response.status_code == 302
        location = response.headers["Location"]
        assert location.startswith("http://simulated/presigned/")
        assert httpx.Client(transport=httpx.WSGITransport(app=sim)).get(location).content == truth.recording
        assert api.get(location).content == truth.recording
        assert [each.authorization for each in sim.requests if each.kind == "presigned"] == [False, True]
        assert api.get(path(truth.conversation_id, "/recording")).headers["Location"] != location

    def test_a_presigned_url_can_fail_redirect_and_know_of_no_recording(
        self, sim: Simulator, api: httpx.Client
    ) -> None:
        truth = sim.conversations[0]
        sim.fault(kind="recording", redirect=True)
        location = api.get(path(truth.conversation_id, "/recording")).headers["Location"]
        sim.fault(kind="presigned", status=503, conversation_id=truth.conversation_id)
        sim.fault(kind="presigned", redirect=True, status=307)
        assert api.get(location).status_code == 503
        hop = api.get(location)
        assert hop.status_code == 307
        sim.change(truth.conversation_id, recording_comes="never")
        assert api.get(hop.headers["Location"]).status_code == 404
        assert b"NoSuchKey" in api.get("/presigned/unknown").content

    def test_a_redirect_can_lead_anywhere(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="list", redirect="https://elsewhere.example/", status=301)
        response = api.get("/v1/conversations")
        assert (response.status_code, response.headers["Location"]) == (301, "https://elsewhere.example/")

    def test_only_a_recording_can_be_presigned(self, sim: Simulator) -> None:
        with pytest.raises(ValueError, match="recording"):
            sim.fault(kind="list", redirect=True)

    def test_a_share_is_the_same_whatever_the_order_of_requests(self) -> None:
        def hit(threads: int, backwards: bool) -> set[str]:
            sim = fixed(conversations=200)
            sim.fault(kind="conversation", share=0.1, status=500)
            ids = sorted((each.conversation_id for each in sim.conversations), reverse=backwards)
            with client(sim) as api, ThreadPoolExecutor(threads) as pool:
                statuses = list(pool.map(lambda each: api.get(path(each)).status_code, ids))
            return {each for each, status in zip(ids, statuses, strict=True) if status == 500}

        hits = hit(1, False)
        assert 5 < len(hits) < 40
        assert hits == hit(8, True)

    def test_a_share_lets_a_repeated_request_through_at_last(self, sim: Simulator, api: httpx.Client) -> None:
        sim.fault(kind="conversation", share=0.5, status=500)
        target = path(sim.conversations[0].conversation_id)
        assert {api.get(target).status_code for _ in range(40)} == {200, 500}

    def test_no_request_is_hit_twice_by_one_fault_of_many_threads(self, sim: Simulator) -> None:
        sim.fault(kind="list", status=500, times=50)
        with client(sim) as api, ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: api.get("/v1/conversations").status_code, range(200)))
        assert statuses.count(500) == 50

    def test_before_page_lets_rows_come_and_go_while_a_client_pages(self, sim: Simulator, api: httpx.Client) -> None:
        pages: list[int] = []

        def grow(page: int) -> None:
            pages.append(page)
            if page == 2:
                sim.add()

        sim.before_page = grow
        ids = [
            row["conversation_id"]
            for offset in (0, 10, 20)
            for row in api.get(f"/v1/conversations?limit=10&offset={offset}").json()["data"]
        ]
        assert pages == [1, 2, 3]
        assert (len(ids), len(set(ids))) == (30, 29)


class TestPort:
    @pytest.fixture
    def over_port(self, sim: Simulator) -> Iterator[httpx.Client]:
        with sim.serve() as base_url, httpx.Client(base_url=base_url, headers=KEY, timeout=5) as api:
            yield api

    def test_32_clients_at_once_get_what_the_truth_says(self, sim: Simulator, over_port: httpx.Client) -> None:
        rows = sim.conversations * 4

        with ThreadPoolExecutor(32) as pool:
            bodies = pool.map(lambda each: over_port.get(path(each.conversation_id, "/recording")).content, rows)
            assert list(bodies) == [each.recording for each in rows]

    def test_32_slow_answers_keep_nobody_waiting(self, sim: Simulator, over_port: httpx.Client) -> None:
        sim.fault(kind="recording", delay=2, share=1.0)
        target = recording_path(sim)
        began = time.monotonic()
        with ThreadPoolExecutor(33) as pool:
            slow = [pool.submit(over_port.get, target) for _ in range(32)]
            assert pool.submit(over_port.get, "/v1/conversations").result().status_code == 200
            assert {each.result().status_code for each in slow} == {200}
        # One after the other they take a minute.
        assert time.monotonic() - began < 30

    def test_the_connection_is_kept(self, sim: Simulator) -> None:
        with sim.serve() as base_url, httpx.Client(base_url=base_url, headers=KEY) as api:
            ports = set()
            for _ in range(3):
                with api.stream("GET", "/v1/conversations") as response:
                    response.read()
                    ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(ports) == 1

    def test_a_dropped_connection_breaks_without_an_answer(self, sim: Simulator, over_port: httpx.Client) -> None:
        sim.fault(drop=True)
        with pytest.raises(httpx.RemoteProtocolError):
            over_port.get("/v1/conversations")
        assert over_port.get("/v1/conversations").status_code == 200

    def test_a_truncated_body_is_a_broken_answer(self, sim: Simulator, over_port: httpx.Client) -> None:
        sim.fault(kind="recording", truncate_to=100)
        with pytest.raises(httpx.RemoteProtocolError):
            over_port.get(recording_path(sim))
        assert over_port.get(recording_path(sim)).status_code == 200

    def test_a_redirect_leads_to_the_port(self, sim: Simulator, over_port: httpx.Client) -> None:
        sim.fault(kind="recording", redirect=True)
        response = over_port.get(recording_path(sim))
        assert httpx.get(response.headers["Location"]).content[:4] == b"RIFF"

    def test_the_port_is_free_again_and_no_thread_is_left_also_with_a_client_hanging(self, sim: Simulator) -> None:
        threads = threading.active_count()
        sim.fault(kind="recording", drip=60)
        began = time.monotonic()
        with sim.serve() as base_url:
            port = int(base_url.rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port)) as hanging:
                request = (
                    f"GET {recording_path(sim)} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY['Authorization']}\r\n\r\n"
                )
                hanging.sendall(request.encode())
                while sim.count("recording") == 0:
                    time.sleep(0.01)
        assert time.monotonic() - began < 30
        assert threading.active_count() == threads
        with sim.serve(port) as again:
            assert again == base_url
        with pytest.raises(httpx.ConnectError):
            httpx.get(base_url)

    def test_a_port_that_is_taken_is_an_error(self, sim: Simulator) -> None:
        with sim.serve() as base_url:
            threads = threading.active_count()
            port = int(base_url.rsplit(":", 1)[1])
            with pytest.raises(OSError, match="in use"), sim.serve(port):
                pass
            assert threading.active_count() == threads
