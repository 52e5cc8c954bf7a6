"""The flow from end to end: a simulated API on a port, a folder as archive, and what Prefect shows of it.

Each fact is checked from outside: the archive's files are read here as an auditor would, the requests are the
simulator's own count, and states and artifacts come from Prefect's API.
"""

import gzip
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, State

from formant_archive.simulator import SPOKEN, Conversation, Simulator

if TYPE_CHECKING:
    from tests.flows.conftest import Lines, Place

pytestmark = pytest.mark.prefect

HOUR_MS = 3_600_000
SHORT = (0.1, 0.4)
#: Of the main simulator alone, so that whoever finds it knows where it came from.
KEY = "canary-4a7c19e0b3d5"
RECORDS = ("conversation.json", "record.json", "recording.wav")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Ran:
    """One run of the flow over an archive, and what there was right after it."""

    state: State[Any]
    requests: Counter[str]
    files: dict[str, bytes]
    records: dict[str, dict[str, Any]]
    manifest: dict[str, Any]
    pending: dict[str, dict[str, Any]]

    @property
    def data(self) -> dict[str, int]:
        return data_of(self.state)

    @property
    def flow_run(self) -> UUID:
        assert self.state.state_details.flow_run_id is not None
        return self.state.state_details.flow_run_id


def data_of(state: State[Any]) -> dict[str, int]:
    """What a state carries; Prefect wraps it."""
    data: Any = state.data
    counts: dict[str, int] = getattr(data, "result", data)
    return counts


def ran(place: "Place", sim: Simulator, **parameters: Any) -> Ran:
    sim.forget_requests()
    state = place.run(**parameters)
    requests = Counter[str](request.kind for request in sim.requests)
    return Ran(state, requests, place.files, place.records, place.manifests[-1], place.pending)


def completed(sim: Simulator) -> dict[str, Conversation]:
    return {each.conversation_id: each for each in sim.conversations if each.status == "completed"}


def with_recording(sim: Simulator) -> dict[str, Conversation]:
    return {name: each for name, each in completed(sim).items() if each.recording is not None}


def payloads(run: Ran) -> dict[str, dict[str, bytes]]:
    """The archive's objects by conversation and name, wherever they lie."""
    found: dict[str, dict[str, bytes]] = {}
    for key, body in run.files.items():
        if key.startswith("conversations/"):
            *_, conversation, name = key.split("/")
            assert name not in found.setdefault(conversation, {}), f"{conversation} lies in two folders"
            found[conversation][name] = body
    return found


def eventually(read: Callable[[], Answer], is_there: Callable[[Answer], bool], seconds: float = 15) -> Answer:
    """Prefect's server writes task runs and logs a little after they happened."""
    deadline = time.monotonic() + seconds
    while not is_there(answer := read()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def artifacts(run: Ran) -> dict[str, Artifact]:
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.flow_run]))
    with get_client(sync_client=True) as client:
        return {str(each.key): each for each in client.read_artifacts(artifact_filter=wanted)}


@dataclass(frozen=True)
class Story:
    """Runs over one archive: the first, one with nothing new, one after everything late has come, one to the end."""

    sim: Simulator
    first: Ran
    idle: Ran
    late: Ran
    full: Ran
    served_at_first: dict[str, tuple[bytes, bytes | None]]


@pytest.fixture(scope="module")
def story(shared_place: "Place") -> Story:
    sim = Simulator(seed=7, conversations=240, late_recordings=0.1, in_progress=3, audio_seconds=SHORT, api_key=KEY)
    served = {name: (each.conversation_json, each.recording) for name, each in completed(sim).items()}
    with shared_place.serving(sim, FORMANT_API_KEY=KEY):
        first = ran(shared_place, sim)
        idle = ran(shared_place, sim)
        sim.release()
        late = ran(shared_place, sim)
        full = ran(shared_place, sim, full=True)
    return Story(sim, first, idle, late, full, served)


# What a run archives


def test_first_run_archives_every_completed_conversation_byte_for_byte_with_one_record_each(story: Story) -> None:
    settled = {name: served for name, served in story.served_at_first.items() if served[1] is not None}
    found = payloads(story.first)

    assert set(story.first.records) == set(settled)
    for name, (conversation, recording) in settled.items():
        assert sorted(found[name]) == sorted(RECORDS)
        assert found[name]["conversation.json"] == conversation
        assert found[name]["recording.wav"] == recording


def test_records_hold_the_hashes_and_sizes_of_the_bytes_that_lie_beside_them(story: Story) -> None:
    for record in story.late.records.values():
        for payload in (record["conversation"], record["recording"]):
            body = story.late.files[payload["key"]]
            assert (payload["size"], payload["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_conversation_without_its_recording_yet_is_pending_and_has_no_record(story: Story) -> None:
    late = {name for name, served in story.served_at_first.items() if served[1] is None}
    pending = {name for name, line in story.first.pending.items() if line["reason"] == "recording_not_found"}

    assert len(late) > 10
    assert pending == late
    assert not late & story.first.records.keys()


def test_nothing_is_archived_of_conversations_of_other_statuses(story: Story) -> None:
    others = {each.conversation_id for each in story.sim.conversations if each.status != "completed"}

    assert len(others) > 50
    assert not others & payloads(story.late).keys()
    assert story.first.manifest["counts"]["other_status"] == len(others)


def test_calls_in_progress_are_pending_and_asked_nothing(story: Story) -> None:
    open_calls = [name for name, line in story.first.pending.items() if line["reason"] == "open"]

    assert len(open_calls) == 3
    assert not set(open_calls) & payloads(story.first).keys()


def test_late_recordings_and_ended_calls_are_settled_by_a_later_run(story: Story) -> None:
    found = payloads(story.late)

    assert story.late.pending == {}
    assert set(story.late.records) == set(completed(story.sim))
    for name, each in completed(story.sim).items():
        assert found[name]["recording.wav"] == each.recording
        assert found[name]["conversation.json"] == each.conversation_json


def test_no_object_changes_or_goes_from_run_to_run(story: Story) -> None:
    for before, after in ((story.first, story.idle), (story.idle, story.late)):
        assert before.files.items() <= after.files.items()


def test_manifests_are_chained_and_their_counts_add_up(story: Story) -> None:
    previous: bytes | None = None
    for number in (1, 2, 3):
        body = story.late.files[f"manifests/{number:020d}.json"]
        manifest = json.loads(body)
        counts = manifest["counts"]
        assert manifest["sequence"] == number
        assert (manifest["previous"] or {}).get("sha256") == (previous and hashlib.sha256(previous).hexdigest())
        assert counts["listed"] + counts["carried"] == sum(counts.values()) - counts["listed"] - counts["carried"]
        previous = body


# What a run asks for


def test_first_run_asks_for_each_payload_once_and_for_each_page_once(story: Story) -> None:
    completed_at_first, rows = len(story.served_at_first), len(story.sim.conversations)

    assert story.first.requests["conversation"] == story.first.requests["recording"] == completed_at_first
    assert story.first.requests.total() <= 2 * completed_at_first + rows / 100 + 2


def test_run_with_nothing_new_asks_for_the_pages_of_the_overlap_and_the_probes_due(story: Story) -> None:
    newest = story.first.manifest["scopes"]["all"]["watermark"]
    in_overlap = [each for each in story.sim.conversations if each.listed_at >= newest - 6 * HOUR_MS]
    probes_due = [line for line in story.first.pending.values() if line["reason"] == "recording_not_found"]

    assert story.idle.requests["list"] <= 2 + len(in_overlap) / 100
    assert story.idle.requests["recording"] == len(probes_due)
    assert set(story.idle.requests) == {"list", "recording"}
    assert story.idle.records == story.first.records


def test_nothing_is_asked_for_a_pending_recording_before_its_probe_is_due(place: "Place") -> None:
    sim = Simulator(conversations=12, completed=1, late_recordings=0.5, audio_seconds=SHORT)
    with place.serving(sim, ARCHIVE_PROBE_MINUTES="15"):
        first = ran(place, sim)
        sim.release()
        second = ran(place, sim)

    assert len(first.pending) == 6
    assert set(second.requests) == {"list"}
    assert second.pending.keys() == first.pending.keys()
    assert second.state.is_completed()


def test_late_run_asks_only_for_what_was_pending(story: Story) -> None:
    held = [line for line in story.idle.pending.values() if line["reason"] == "recording_not_found"]
    ended = len(story.idle.pending) - len(held)

    assert story.late.requests["recording"] == len(held) + ended
    assert story.late.requests["conversation"] == ended
    assert story.late.requests["list"] <= 3


def test_full_lists_to_the_end_although_nothing_is_new(story: Story) -> None:
    assert story.full.manifest["listing"]["full"] is True
    assert story.full.manifest["listing"]["unique"] == 240
    assert story.full.requests["list"] > story.idle.requests["list"]
    assert set(story.full.requests) == {"list"}
    assert story.full.records == story.late.records


def test_rate_limit_is_kept_without_being_told_so(place: "Place") -> None:
    sim = Simulator(conversations=40, completed=1, audio_seconds=SHORT, rate_limit=40, rate_window_seconds=1)
    with place.serving(sim):
        run = ran(place, sim)

    refused = sum(request.status == 429 for request in sim.requests)
    assert len(run.records) == 40
    assert len(sim.requests) > 80
    assert refused <= len(sim.requests) / 100


# What Prefect shows of a run


def test_runs_end_completed_with_their_counts_in_the_message_and_the_data(story: Story) -> None:
    held = len(story.idle.pending)
    assert story.first.state.is_completed()
    assert story.first.state.message is not None
    assert story.first.state.message.startswith(f"240 listed, {len(story.first.records)} archived")
    assert f"{held} pending" in story.first.state.message
    assert story.first.data["exit_code"] == 0
    assert story.first.data["archived"] == len(story.first.records)
    assert story.late.data["archived"] == held


def test_flow_run_and_task_runs_are_recorded_as_completed(story: Story) -> None:
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[story.first.flow_run]))
    # One page, the two that it promises, and the empty one after them; all payloads in one batch.
    expected = {
        "read-head": 1,
        "prove-store": 1,
        "list-from": 3,
        "transcripts": 1,
        "recordings": 1,
        "seal-records": 1,
    }
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(story.first.flow_run)
        task_runs = eventually(
            lambda: client.read_task_runs(flow_run_filter=this_run),
            lambda found: (
                len(found) >= sum(expected.values()) + 2
                and all(each.state is not None and each.state.is_final() for each in found)
            ),
        )

    kinds = Counter(each.name.rstrip("0123456789-").removesuffix("-from-") for each in task_runs)
    assert flow_run.state is not None
    assert flow_run.state.is_completed()
    assert flow_run.state.message == story.first.state.message
    assert all(each.state is not None and each.state.is_completed() for each in task_runs)
    assert {name: kinds[name] for name in expected} == expected
    assert kinds["commit-manifest"] == 1


def test_summary_artifact_names_the_manifest_by_its_hash(story: Story) -> None:
    manifest = story.late.files[f"manifests/{3:020d}.json"]
    text = artifacts(story.late)["archive-run"].data

    assert isinstance(text, str)
    assert hashlib.sha256(manifest).hexdigest() in text
    assert f"| archived | {story.late.data['archived']} |" in text


def test_pending_artifact_has_ids_and_reasons_and_nothing_else(story: Story) -> None:
    table = artifacts(story.first)["archive-pending"].data
    assert isinstance(table, str)
    rows = json.loads(table)

    assert {row["conversation"] for row in rows} == set(story.first.pending)
    assert {row["reason"] for row in rows} == {"open", "recording_not_found"}
    columns = {"conversation", "agent", "reason", "failed", "first seen", "probes", "next probe"}
    assert all(set(row) == columns for row in rows)


def test_pending_artifact_is_empty_once_nothing_is_pending(story: Story) -> None:
    # Not missing: Prefect would go on showing the table of an earlier run as the latest.
    assert story.late.pending == {}
    assert artifacts(story.late)["archive-pending"].data == "[]"


def test_pending_artifact_has_at_most_fifty_rows(place: "Place") -> None:
    sim = Simulator(conversations=60, completed=1, late_recordings=1, audio_seconds=SHORT)
    with place.serving(sim):
        run = ran(place, sim)

    table = artifacts(run)["archive-pending"].data
    assert isinstance(table, str)
    assert len(run.pending) == 60
    assert len(json.loads(table)) == 50


# What goes wrong


@dataclass(frozen=True)
class Trouble:
    """Three conversations whose bodies are wrong, then mended."""

    sim: Simulator
    html: str
    cut: str
    strange: str
    broken: Ran
    mended: Ran


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory, shared_place: "Place") -> Trouble:
    place = type(shared_place)(tmp_path_factory.mktemp("trouble"))
    sim = Simulator(seed=3, conversations=30, completed=1, audio_seconds=SHORT)
    html, cut, strange = sorted(completed(sim))[:3]
    sim.fault(
        kind="conversation", conversation_id=html, share=1.0, body=b"<html>login</html>", content_type="text/html"
    )
    sim.fault(kind="recording", conversation_id=cut, share=1.0, truncate_to=200, honest_length=True)
    sim.change(strange, body={"conversation_id": "another"})
    with place.serving(sim):
        broken = ran(place, sim)
        sim.heal()
        sim.change(strange, body={"conversation_id": strange})
        return Trouble(sim, html, cut, strange, broken, ran(place, sim))


def test_wrong_bodies_are_pending_with_their_reason_and_everything_else_is_archived(trouble: Trouble) -> None:
    wrong = {trouble.html, trouble.cut, trouble.strange}
    pending = trouble.broken.pending

    assert set(trouble.broken.records) == set(completed(trouble.sim)) - wrong
    assert set(pending) == wrong
    assert all(line["failed"] and line["message"] for line in pending.values())
    assert pending[trouble.html]["reason"] == "not_json"
    assert "trunc" in pending[trouble.cut]["reason"]
    assert pending[trouble.strange]["reason"] == "wrong_conversation"


def test_nothing_of_a_wrong_body_is_stored(trouble: Trouble) -> None:
    found = payloads(trouble.broken)

    assert "conversation.json" not in found.get(trouble.html, {})
    assert "recording.wav" not in found.get(trouble.cut, {})
    assert "conversation.json" not in found.get(trouble.strange, {})
    assert not [key for key, body in trouble.broken.files.items() if b"<html>" in body]


def test_run_with_failed_conversations_ends_failed_and_says_how_many(trouble: Trouble) -> None:
    state = trouble.broken.state

    assert state.is_failed()
    assert state.message is not None
    assert "3 failed (tried again by the next run)" in state.message
    assert trouble.broken.data["exit_code"] == 1
    assert trouble.broken.manifest["counts"]["failed"] == 3


def test_failed_conversations_come_first_in_the_pending_artifact_and_are_marked(trouble: Trouble) -> None:
    table = artifacts(trouble.broken)["archive-pending"].data
    assert isinstance(table, str)

    assert [row["failed"] for row in json.loads(table)] == ["yes", "yes", "yes"]


def test_next_run_settles_what_had_failed(trouble: Trouble) -> None:
    found = payloads(trouble.mended)

    assert trouble.mended.state.is_completed()
    assert trouble.mended.pending == {}
    for name in (trouble.html, trouble.cut, trouble.strange):
        assert found[name]["conversation.json"] == completed(trouble.sim)[name].conversation_json
        assert found[name]["recording.wav"] == completed(trouble.sim)[name].recording


def test_incomplete_listing_is_committed_and_fails_and_leaves_the_watermark(place: "Place") -> None:
    sim = Simulator(conversations=20, completed=1, audio_seconds=SHORT)
    with place.serving(sim):
        before = ran(place, sim)
        (new,) = sim.add()
        sim.fault(kind="list", share=1.0, total=26)
        after = ran(place, sim)

    assert after.state.is_failed()
    assert after.state.message is not None
    assert "the listing is INCOMPLETE (5 missing)" in after.state.message
    assert after.data["exit_code"] == 1
    assert after.manifest["listing"]["complete"] is False
    assert after.manifest["scopes"]["all"]["watermark"] == before.manifest["scopes"]["all"]["watermark"]
    assert new.conversation_id in after.records


def test_refused_key_fails_at_once_names_the_setting_and_writes_nothing(place: "Place") -> None:
    sim = Simulator(conversations=5)
    with place.serving(sim, FORMANT_API_KEY="not-the-key"):
        state = place.run()

    assert state.is_failed()
    assert state.message is not None
    assert "FORMANT_API_KEY" in state.message
    assert "not-the-key" not in state.message
    assert data_of(state) == {"exit_code": 2}
    assert sim.count() == 1
    assert place.files == {}


def test_archive_of_another_source_is_refused_and_left_as_it_is(place: "Place") -> None:
    sim = Simulator(conversations=5, audio_seconds=SHORT)
    with place.serving(sim):
        before = ran(place, sim)
    with place.serving(Simulator(seed=1, conversations=5)) as other:
        state = place.run()

    assert state.is_failed()
    assert state.message is not None
    assert "FORMANT_BASE_URL" in state.message
    assert other.count() == 0
    assert place.files == before.files


# What the parameters do


def test_agent_id_archives_this_agent_alone_in_a_scope_of_its_own(place: "Place") -> None:
    sim = Simulator(conversations=40, audio_seconds=SHORT)
    with place.serving(sim):
        run = ran(place, sim, agent_id=102)

    assert set(run.records) == {name for name, each in completed(sim).items() if each.agent_id == 102}
    assert all(record["agent_id"] == 102 for record in run.records.values())
    assert set(run.manifest["scopes"]) == {"agent_id=102"}
    assert all("agent_id=102" in request.query for request in sim.requests if request.kind == "list")


def test_since_leaves_out_what_started_before_and_is_remembered_as_the_floor(place: "Place") -> None:
    sim = Simulator(conversations=40, completed=1, audio_seconds=SHORT)
    moment = sorted(each.listed_at for each in sim.conversations)[15]
    since = datetime.fromtimestamp(moment / 1000, UTC)
    with place.serving(sim):
        run = ran(place, sim, since=since)

    assert set(run.records) == {name for name, each in completed(sim).items() if each.listed_at >= moment}
    assert run.manifest["counts"]["outside"] == 15
    assert run.manifest["scopes"]["all"]["floor"] == moment


def test_api_key_is_read_from_the_secret_block_where_the_environment_has_none(
    place: "Place", monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = Simulator(conversations=5, completed=1, audio_seconds=SHORT, api_key=f"{KEY}-block")
    with place.serving(sim):
        monkeypatch.delenv("FORMANT_API_KEY")
        without = place.run()
        Secret(value=f"{KEY}-block").save("formant-api-key")
        run = ran(place, sim)

    assert without.is_failed()
    assert without.message is not None
    assert "Secret block named formant-api-key" in without.message
    assert run.state.is_completed()
    assert len(run.records) == 5


# What must be nowhere


def test_key_phone_numbers_and_words_are_in_no_log_no_database_and_no_other_object(
    story: Story, trouble: Trouble, logged: "Lines"
) -> None:
    people = [*story.sim.conversations, *trouble.sim.conversations]
    numbers = [each.contact_number.removeprefix("+").encode() for each in people]
    secrets = [KEY.encode(), SPOKEN.encode(), *numbers]
    bodies = {f"archive: {key}": body for run in (story.late, trouble.mended) for key, body in run.files.items()}
    unpacked = {name: unzipped(body) for name, body in bodies.items() if not name.endswith("/conversation.json")}
    places = {**unpacked, **prefect_files(), "log": "\n".join(logged.texts).encode()}

    assert all(SPOKEN.encode() in body for name, body in bodies.items() if name.endswith("/conversation.json"))
    # The search itself is checked: what is meant to be there is found.
    assert story.first.state.message is not None
    assert any(story.first.state.message.encode() in body for name, body in places.items() if ".db" in name)
    assert b"240 of 240 listed" in places["log"]
    assert [(name, secret) for name, body in places.items() for secret in secrets if secret in body] == []


def unzipped(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def prefect_files() -> dict[str, bytes]:
    from prefect.settings import PREFECT_HOME, PREFECT_SERVER_DATABASE_CONNECTION_URL

    database = Path(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).removeprefix("sqlite+aiosqlite:///"))
    folders = {Path(PREFECT_HOME.value()), database.parent}
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
