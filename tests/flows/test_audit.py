"""The audit as a flow: what it says to Prefect, what it commits, how it ends on a terminal."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State

from formant_archive.simulator import SPOKEN, Simulator
from tests.flows.conftest import PREFIXES, ROOT

if TYPE_CHECKING:
    from tests.flows.conftest import Lines, Place

pytestmark = pytest.mark.prefect

HOUR_MS = 3_600_000


def audited(**parameters: Any) -> State[Any]:
    from flows.audit import audit_archive

    state: State[Any] = audit_archive(**parameters, return_state=True)
    return state


def code_of(state: State[Any]) -> int:
    data: Any = state.data
    return int(getattr(data, "result", data)["exit_code"])


def artifact_of(state: State[Any]) -> str:
    run = state.state_details.flow_run_id
    assert isinstance(run, UUID)
    with get_client(sync_client=True) as client:
        [found] = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])))
    assert found.key == "archive-audit"
    return str(found.data)


def test_a_sound_archive_ends_completed_and_nothing_is_written(place: "Place") -> None:
    with place.serving(Simulator(3, 30)) as sim:
        place.run()
        before = place.files
        asked = sim.count()
        state = audited(deep=True)

        assert state.is_completed(), state.message
        assert state.message is not None
        assert state.message.startswith("VALID, ")
        assert code_of(state) == 0
        assert place.files == before
        # The source is asked only where it is to be compared with.
        assert sim.count() == asked
        audited(against_source=True)
        assert sim.count() - asked == 2


def test_damage_ends_failed_and_the_artifact_names_it_without_contents(place: "Place", logged: "Lines") -> None:
    with place.serving(Simulator(3, 30)) as sim:
        place.run()
        damaged = next(path for path in sorted(place.archive.rglob("recording.wav")))
        damaged.unlink()
        orphan = sorted(place.archive.glob("manifests/*.json"))[-1]
        state = audited()

        assert state.is_failed()
        assert (code_of(state), orphan.exists()) == (1, True)
        assert state.message is not None
        assert "1 × a payload is missing (P001)" in state.message
        page = artifact_of(state)
        assert damaged.relative_to(place.archive).as_posix() in page
        said = page + state.message + "\n".join(logged.texts)
        assert SPOKEN not in said
        assert not any(one.contact_number in said for one in sim.conversations)


def test_leftovers_are_adopted_unless_that_is_not_wanted_or_the_chain_is_broken(place: "Place") -> None:
    with place.serving(Simulator(3, 30)) as sim:
        place.run()
        sim.add(2, status="completed")
        place.run()
        newest = sorted(place.archive.glob("manifests/*.json"))[-1]
        newest.unlink()
        before = place.files

        assert "2 × a record that no manifest names" in str(audited(adopt=False).message)
        assert place.files == before
        first = place.archive / "manifests/00000000000000000001.json"
        kept = first.read_bytes()
        first.unlink()
        first.write_bytes(kept + b" ")
        assert audited().is_failed()
        first.unlink()
        first.write_bytes(kept)
        assert place.files == before

        state = audited()
        assert state.is_completed()
        assert "2 leftovers adopted" in str(state.message)
        assert [one["kind"] for one in place.manifests] == ["run", "audit"]
        assert place.manifests[-1]["run"]["flow"] == "audit_archive"
        assert "no manifest names (X001)" not in str(audited().message)


def test_what_is_listed_and_not_archived_ends_failed_until_a_full_listing(place: "Place") -> None:
    with place.serving(Simulator(3, 30)) as sim:
        place.run()
        old = min(one.listed_at for one in sim.conversations) - 400 * HOUR_MS
        [late] = sim.add(status="completed", start_timestamp=old, listed_at=old)

        state = audited(against_source=True)
        assert state.is_failed()
        assert late.conversation_id in artifact_of(state)
        place.run(full=True)
        assert audited(against_source=True).is_completed()


def test_what_the_source_has_deleted_is_said_and_stays(place: "Place") -> None:
    with place.serving(Simulator(3, 60)) as sim:
        place.run()
        before = place.files
        gone = next(one for one in sim.conversations if one.status == "completed")
        sim.delete(gone.conversation_id)

        state = audited(against_source=True)

        assert state.is_completed()
        assert "1 × the source does not list a conversation any more" in str(state.message)
        assert gone.conversation_id in artifact_of(state)
        assert place.files == before


def on_terminal(place: "Place", *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    given = {"ARCHIVE_URL": str(place.archive), "PREFECT_API_URL": os.environ.get("PREFECT_API_URL", ""), **settings}
    return subprocess.run(
        [sys.executable, "-m", "flows.audit", *arguments],
        cwd=place.folder,
        env={**clean, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(place.folder / "home"), **given},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sample", "3"], "such as 1/30"),
        (["--deep", "--sample", "1/30"], "one of the two"),
        (["--against-source"], "FORMANT_API_KEY is not set"),
        (["--deeper"], "--deeper"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(place: "Place", arguments: list[str], said: str) -> None:
    ended = on_terminal(place, *arguments, PREFECT_API_URL="")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not Path(place.archive).exists()


def test_on_a_terminal_an_audit_needs_no_key_and_ends_with_its_verdict(place: "Place", prefect_server: str) -> None:
    with place.serving(Simulator(3, 10)):
        place.run()
        well = on_terminal(place, PREFECT_API_URL=prefect_server)
        next(place.archive.rglob("recording.wav")).unlink()
        damaged = on_terminal(place, PREFECT_API_URL=prefect_server)

    assert (well.returncode, well.stdout.startswith("VALID, ")) == (0, True), well.stderr
    assert (damaged.returncode, "failed: DAMAGED, " in damaged.stderr) == (1, True), damaged.stderr
