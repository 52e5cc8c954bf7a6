"""Prefect's events: what the flows say for automations to act on, as Prefect's server has it."""

import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.exceptions import EventTooLarge
from prefect.settings import PREFECT_SERVER_EVENTS_MAXIMUM_SIZE_BYTES, temporary_settings

from formant_archive.audit import Audit
from formant_archive.ledger import Draft, Head, commit
from formant_archive.manifest import OUTCOMES, Changes, RunNote, Scope
from formant_archive.manifest import State as Remembered
from formant_archive.policy import Policy
from formant_archive.records import Pending, milliseconds
from formant_archive.run import Run
from formant_archive.simulator import Simulator
from formant_archive.stores import open_store
from formant_archive.verify import Verification

if TYPE_CHECKING:
    from tests.flows.conftest import Place

pytestmark = pytest.mark.prefect

SHORT = (0.1, 0.4)
NOW = datetime(2026, 3, 21, 12, tzinfo=UTC)
PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()


def sent(archive_id: str) -> list[dict[str, Any]]:
    """All events of an archive that the server has, the oldest first."""
    about = {"resource": {"id": [f"formant-archive.archive.{archive_id}"]}, "order": "ASC"}
    with get_client(sync_client=True) as client:
        found: list[dict[str, Any]] = client._client.post("/events/filter", json={"filter": about}).json()["events"]
    return found


def arrived(place: "Place", *names: str) -> list[dict[str, Any]]:
    """The archive's events, once those that are named are there: Prefect sends them in its own time."""
    archive_id = place.manifests[0]["archive_id"]
    deadline = time.monotonic() + 60
    while len(found := sent(archive_id)) < len(names) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [event["event"] for event in found] == [f"formant-archive.{name}" for name in names]
    return found


def audited(**parameters: Any) -> State[Any]:
    from flows.audit import audit_archive

    state: State[Any] = audit_archive(**parameters, return_state=True)
    return state


def waiting(name: str, first_seen: datetime, **fields: Any) -> Pending:
    known = {"conversation_id": name, "status": "completed", "folder": f"conversations/{name}/"}
    return Pending.model_validate(known | {"first_seen_at": first_seen} | fields)


def commit_waiting(place: "Place", one: Pending) -> None:
    """Begin an archive that waits for a conversation."""
    run = {"id": str(uuid4()), "part": 1, "flow": "f", "version": "1", "parameters": {}}
    run |= {"started_at": one.first_seen_at, "committed_at": one.first_seen_at}
    changes = Changes(None, Scope(), Scope(), frozenset(), {one.conversation_id: one})
    counts = dict.fromkeys(("listed", "carried", *OUTCOMES), 0)
    source = os.environ["FORMANT_BASE_URL"].rstrip("/")
    draft = Draft(RunNote.model_validate(run), source, None, counts, [], changes, overlap=0)
    commit(open_store(str(place.archive)), Head(), draft)


def run_over(state: Remembered, agent_id: int | None = None) -> Run:
    """A run over an archive in some state, of which nothing is listed yet."""
    return Run(
        Head(state=state),
        run_id="r",
        flow="f",
        version="1",
        parameters={},
        agent_id=agent_id,
        policy=Policy(),
        source="https://api.example",
        now=NOW,
    )


# The run


def test_a_run_says_what_it_came_to_in_counts(place: "Place") -> None:
    sim = Simulator(3, 30, audio_seconds=SHORT, late_recordings=0.2)
    with place.serving(sim):
        state = place.run()

        [event] = arrived(place, "run")
        newest = place.manifests[-1]
        assert event["resource"] == {
            "prefect.resource.id": f"formant-archive.archive.{newest['archive_id']}",
            "prefect.resource.name": "formant-archive",
        }
        payload = event["payload"]
        settled = ("archived", "archived_without_recording", "adopted", "gone")
        assert {name: payload[name] for name in settled} == {name: newest["counts"][name] for name in settled}
        assert payload["archived"] > 0
        assert payload["pending"] == len(place.pending) > 0
        assert (payload["failed"], payload["overdue"], payload["complete"]) == (0, 0, True)
        assert payload["sequence"] == newest["sequence"]
        occurred = datetime.fromisoformat(event["occurred"])
        lag = occurred - datetime.fromtimestamp(newest["scopes"]["all"]["watermark"] / 1000, UTC)
        assert 0 <= lag.total_seconds() - payload["lag_seconds"] < 60
        related = {(one["prefect.resource.role"], one["prefect.resource.id"]) for one in event["related"]}
        assert ("flow-run", f"prefect.flow-run.{state.state_details.flow_run_id}") in related
        said = json.dumps(event)
        assert not any(one.conversation_id in said or one.contact_number in said for one in sim.conversations)


def test_a_run_that_ends_failed_after_its_commit_says_so_all_the_same(place: "Place") -> None:
    with place.serving(Simulator(3, 30, audio_seconds=SHORT)) as sim:
        name = next(one.conversation_id for one in sim.conversations if one.status == "completed")
        sim.fault(kind="recording", conversation_id=name, share=1.0, truncate_to=200, honest_length=True)
        sim.fault(kind="list", share=1.0, total=31)
        assert place.run().is_failed()

        [event] = arrived(place, "run")
        assert (event["payload"]["failed"], event["payload"]["complete"]) == (1, False)
        # No listing was complete yet: nothing can be said of how far behind it is.
        assert event["payload"]["lag_seconds"] is None


def test_a_run_that_ends_before_its_commit_says_nothing(place: "Place") -> None:
    with place.serving(Simulator(3, 30, audio_seconds=SHORT)) as sim:
        place.run()
        sim.fault(kind="list", status=401)
        assert place.run().is_failed()
        place.run()

        events = arrived(place, "run", "run")
        assert [event["payload"]["sequence"] for event in events] == [1, 2]


def test_what_should_have_been_settled_by_now_has_an_event_of_its_own(place: "Place") -> None:
    with place.serving(Simulator(3, 30, audio_seconds=SHORT)):
        commit_waiting(place, waiting("late", datetime.now(UTC) - timedelta(days=9)))
        place.run()

        said, overdue = arrived(place, "run", "overdue")
        assert said["payload"]["overdue"] == 1
        assert overdue["payload"] == said["payload"]
        assert overdue["resource"] == said["resource"]


def test_an_event_that_prefect_refuses_fails_nothing() -> None:
    from tasks.events import emit_run

    # With this limit, Prefect's own events would fail the whole run.
    with temporary_settings({PREFECT_SERVER_EVENTS_MAXIMUM_SIZE_BYTES: 1}):
        with pytest.raises(EventTooLarge):
            emit_event("any", resource={"prefect.resource.id": "any"})
        emit_run(run_over(Remembered()), NOW)


def test_lag_is_that_of_the_scope_that_was_listed() -> None:
    from tasks.events import run_counts

    hour = timedelta(hours=1)
    scopes = {"all": Scope(milliseconds(NOW - hour)), "agent_id=7": Scope(milliseconds(NOW - 2 * hour))}
    state = Remembered(scopes=scopes)

    assert run_counts(run_over(state), NOW)["lag_seconds"] == 3600
    assert run_counts(run_over(state, agent_id=7), NOW)["lag_seconds"] == 7200
    assert run_counts(run_over(state, agent_id=8), NOW)["lag_seconds"] is None


def test_overdue_is_counted_by_the_clock_that_said_what_to_ask_for() -> None:
    from tasks.events import run_counts

    due = timedelta(hours=72 + 6)
    state = Remembered(
        pending={
            "old": waiting("old", NOW - due, failed=True),
            # It became overdue while the run went on: the next run asks for it.
            "just_now": waiting("just_now", NOW - due + timedelta(minutes=1)),
        }
    )

    counts = run_counts(run_over(state), NOW + timedelta(hours=1))
    assert (counts["pending"], counts["failed"], counts["overdue"]) == (2, 1, 1)


# The audit


def test_an_audit_says_what_it_found_and_damage_has_an_event_of_its_own(place: "Place") -> None:
    with place.serving(Simulator(3, 30, audio_seconds=SHORT)):
        place.run()
        audited(against_source=True)
        next(iter(sorted(place.archive.rglob("recording.wav")))).unlink()
        assert audited().is_failed()

        _, sound, found, damage = arrived(place, "run", "audit", "audit", "damage")
        held = len(place.records)
        assert sound["payload"] == {
            "conversations": held,
            "manifests": 1,
            "damage": 0,
            "unverified": 0,
            "warnings": 0,
            "not_archived": 0,
            "adopted": 0,
            "pending": len(place.pending),
            "sequence": 1,
            "complete": True,
        }
        assert found["payload"] == sound["payload"] | {"damage": 1, "not_archived": None, "complete": None}
        assert damage["payload"] == found["payload"]
        assert damage["resource"] == found["resource"]


def test_damage_is_said_where_no_manifest_can_be_read(place: "Place") -> None:
    with place.serving(Simulator(3, 30, audio_seconds=SHORT)):
        place.run()
        manifest = next(iter(place.archive.glob("manifests/*.json")))
        manifest.unlink()
        manifest.write_bytes(b"{}")
        before = len(sent("unknown"))
        assert audited().is_failed()

        deadline = time.monotonic() + 60
        while len(found := sent("unknown")[before:]) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert [event["event"] for event in found] == ["formant-archive.audit", "formant-archive.damage"]


# What names them


def test_every_event_and_all_that_it_holds_is_documented(tmp_path: Path) -> None:
    from tasks.events import audit_counts, run_counts

    rows = re.findall(r"^\| (`[^|]+) \| (run|both|audit) \|", PAGE, re.MULTILINE)
    documented = {
        flow: {name for names, of in rows if of in (flow, "both") for name in re.findall(r"`(\w+)`", names)}
        for flow in ("run", "audit")
    }
    audit = Audit(Verification(open_store(str(tmp_path))), overlap=0, now=NOW)

    assert documented["run"] == run_counts(run_over(Remembered()), NOW).keys()
    assert documented["audit"] == audit_counts(audit).keys()
    assert set(re.findall(r"^\| `formant-archive\.(\w+)` \|", PAGE, re.MULTILINE)) == {
        "run",
        "overdue",
        "audit",
        "damage",
    }
