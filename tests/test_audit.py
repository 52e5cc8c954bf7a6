"""The audit: what killed runs left is adopted; what the source and the archive know otherwise is found."""

from datetime import UTC, datetime
from typing import Any

import pytest

from formant_archive import keys, ledger
from formant_archive.audit import SHOWN, Audit
from formant_archive.crew import abreast
from formant_archive.manifest import OUTCOMES, Manifest, RunNote
from formant_archive.records import Pending
from formant_archive.simulator import SPOKEN, Simulator
from formant_archive.stores import Store
from formant_archive.verify import Depth, Verification
from tests import plain
from tests.plain import Clock, Crash
from tests.stores.memory import MemoryStore

HOUR = 3_600_000


class Scene:
    """A source, an archive, and runs between them."""

    def __init__(self, conversations: int = 20, **how: Any) -> None:
        self.clock, self.store = Clock(), MemoryStore()
        self.sim = Simulator(7, conversations, now=lambda: self.clock.ms, completed=1.0, **how)

    def run(self, **how: Any) -> None:
        plain.archive(plain.client_of(self.sim, self.clock), self.store, self.clock, **how)
        self.clock.go(minutes=15)

    def run_and_die(self, step: str = "commit", **how: Any) -> None:
        """Run, and be killed when it comes to a step."""

        def between(name: str) -> None:
            if name == step:
                raise Crash

        with pytest.raises(Crash):
            self.run(between=between, **how)

    def audit(self, *, depth: Depth | None = None) -> Audit:
        audit = Audit(Verification(self.store, depth=depth), overlap=6 * HOUR, now=self.clock())
        audit.verify()
        return audit

    def compared(self) -> Audit:
        """Audit, list the source to its end, and compare."""
        audit, client = self.audit(), plain.client_of(self.sim, self.clock)
        while (offset := audit.listing.offset) is not None:
            page = client.list_page(agent_id=None, offset=offset)
            audit.take(page.references, page.total)
        audit.compare()
        return audit

    def adopt(self, audit: Audit, store: Store | None = None) -> None:
        audit.adopt(self.store, ledger.read_head(store or self.store), self.note, allow_unsafe=False)

    @property
    def note(self) -> RunNote:
        now = self.clock()
        return RunNote(
            id="audit", part=1, flow="audit", version="test", parameters={}, started_at=now, committed_at=now
        )

    @property
    def head(self) -> Manifest:
        manifest = ledger.read_head(self.store).manifest
        assert manifest is not None
        return manifest

    @property
    def pending(self) -> dict[str, Pending]:
        return dict(ledger.read_head(self.store).state.pending)


def found(audit: Audit) -> dict[str, int]:
    return dict(sorted(audit.report.tally.codes.items()))


# What killed runs leave


def test_what_a_killed_run_has_sealed_is_adopted_by_a_manifest_of_its_own() -> None:
    scene = Scene()
    scene.run()
    before = scene.head
    scene.sim.add(5)
    scene.run_and_die()

    audit = scene.audit()
    assert len(audit.leftovers) == 5
    scene.adopt(audit)

    assert audit.adopted == 5
    assert audit.is_well
    assert (scene.head.kind, scene.head.sequence, scene.head.listing) == ("audit", before.sequence + 1, None)
    assert scene.head.counts == {"listed": 0, "carried": 5, **dict.fromkeys(OUTCOMES, 0), "adopted": 5}
    assert (scene.head.scopes, scene.head.pending) == (before.scopes, before.pending)
    assert found(scene.audit(depth=Depth())) == {}


def test_an_old_conversation_that_a_killed_run_sealed_gets_the_entry_that_no_run_would_give_it() -> None:
    scene = Scene()
    scene.run()
    scene.sim.add(start_timestamp=scene.clock.ms - 400 * HOUR, listed_at=scene.clock.ms - 400 * HOUR)
    scene.run_and_die()
    scene.run()
    assert found(scene.audit()) == {"X001": 1}

    scene.adopt(scene.audit())

    assert found(scene.audit()) == {}


def test_what_is_adopted_is_waited_for_no_more() -> None:
    scene = Scene()
    scene.sim.add(2, recording_comes="later")
    scene.run()
    assert len(scene.pending) == 2
    scene.sim.release()
    scene.run_and_die()
    scene.adopt(scene.audit())

    assert scene.pending == {}
    asked = scene.sim.count()
    scene.run()
    assert scene.sim.count() - asked <= 2
    assert found(scene.audit(depth=Depth())) == {}


@pytest.mark.parametrize("missing", [keys.RECORDING, keys.CONVERSATION])
@pytest.mark.parametrize("change", ["gone", "altered"])
def test_a_record_whose_payload_is_not_there_is_not_adopted(missing: str, change: str) -> None:
    scene = Scene()
    scene.run()
    scene.sim.add(2)
    scene.run_and_die()
    audit = scene.audit()
    payload = (keys.folder_of(audit.leftovers[0]) or "") + missing
    if change == "gone":
        del scene.store.objects[payload]
    else:
        scene.store.objects[payload] += b"?"

    scene.adopt(audit)

    assert audit.adopted == 1
    assert found(audit) == {"X001": 2, "X004": 1}
    assert found(scene.audit()) == {"X001": 1}


def test_a_record_in_another_conversations_folder_is_foreign() -> None:
    scene = Scene()
    scene.run()
    record = next(key for key in scene.store.objects if key.endswith(keys.RECORD))
    copy = record.replace("/date=", "/date=x").replace("_1/", "_2/")
    scene.store.objects[copy] = scene.store.objects[record]

    audit = scene.audit()

    assert (found(audit), audit.leftovers) == ({"X003": 1}, [])


def test_nothing_is_committed_where_there_is_nothing_to_adopt_or_nothing_to_put_it_on() -> None:
    scene = Scene()
    scene.run_and_die()
    audit = scene.audit()
    assert len(audit.leftovers) == 20
    scene.adopt(audit)
    assert (audit.adopted, audit.report.verdict) == (0, "UNVERIFIED")
    assert not [key for key in scene.store.objects if key.startswith("manifests/")]

    scene.run()
    before = dict(scene.store.objects)
    scene.adopt(scene.audit())
    assert scene.store.objects == before


def test_an_audit_beside_a_run_commits_on_top_of_it() -> None:
    scene = Scene()
    scene.run()
    scene.sim.add(3)
    scene.run_and_die()
    audit, stale = scene.audit(), MemoryStore()
    stale.objects = dict(scene.store.objects)
    scene.sim.add(2)
    scene.run()

    scene.adopt(audit, stale)

    assert (scene.head.kind, scene.head.sequence) == ("audit", 3)
    assert found(scene.audit(depth=Depth())) == {}


def test_several_threads_adopt_the_same() -> None:
    scene = Scene()
    scene.run()
    scene.sim.add(30)
    scene.run_and_die()
    audit = scene.audit()
    audit.adopt(scene.store, ledger.read_head(scene.store), scene.note, allow_unsafe=False, each=abreast)

    assert audit.adopted == 30
    assert found(scene.audit()) == {}


# The source


def test_a_source_that_lists_what_is_archived_is_no_finding() -> None:
    scene = Scene(never_recordings=0.2)
    scene.run()
    # What has come since the last run is the next run's work.
    scene.sim.add(3)

    audit = scene.compared()

    assert (found(audit), audit.exit_code) == ({}, 0)
    assert audit.listing.complete


def test_what_is_listed_before_the_watermark_and_is_not_here_is_found() -> None:
    scene = Scene()
    scene.run()
    late = scene.sim.add(2, start_timestamp=scene.clock.ms - 90 * HOUR, listed_at=scene.clock.ms - 90 * HOUR)
    scene.sim.add(status="busy", start_timestamp=scene.clock.ms - 90 * HOUR, listed_at=scene.clock.ms - 90 * HOUR)

    audit = scene.compared()

    assert (found(audit), audit.exit_code) == ({"S001": 2}, 1)
    assert {one.key for one in audit.examples["S001"]} == {one.conversation_id for one in late}
    scene.run(full=True)
    assert found(scene.compared()) == {}


def test_what_is_waited_for_is_not_missing() -> None:
    scene = Scene()
    scene.sim.add(2, recording_comes="later")
    scene.run()
    scene.clock.go(hours=10)
    scene.sim.add(3)
    scene.run()

    assert scene.pending
    assert found(scene.compared()) == {}


def test_before_a_scopes_first_day_nothing_is_missing() -> None:
    scene = Scene(conversations=0)
    scene.sim.add(start_timestamp=scene.clock.ms - 900 * HOUR)
    scene.sim.add(start_timestamp=scene.clock.ms - 9 * HOUR)
    scene.run(since=datetime.fromtimestamp(scene.clock.ms / 1000 - 99 * 3600, UTC))

    assert found(scene.compared()) == {}


def test_the_scopes_of_single_agents_claim_those_agents_alone() -> None:
    scene = Scene(conversations=0)
    for agent in (101, 102):
        scene.sim.add(3, agent_id=agent, start_timestamp=scene.clock.ms - HOUR)
    scene.sim.add(agent_id=101)
    scene.run(agent_id=101)
    assert found(scene.compared()) == {}

    old = {"start_timestamp": scene.clock.ms - 90 * HOUR, "listed_at": scene.clock.ms - 90 * HOUR}
    for agent in (101, 102):
        scene.sim.add(agent_id=agent, **old)
    assert found(scene.compared()) == {"S001": 1}


def test_what_the_source_lists_no_more_is_a_note_and_stays() -> None:
    scene = Scene(conversations=30)
    scene.run()
    before = dict(scene.store.objects)
    gone = [one.conversation_id for one in scene.sim.conversations[:2]]
    for conversation_id in gone:
        scene.sim.delete(conversation_id)

    audit = scene.compared()

    assert (found(audit), audit.exit_code) == ({"S002": 2}, 0)
    assert {one.key.split("/")[-2] for one in audit.examples["S002"]} == set(gone)
    assert scene.store.objects == before


def test_where_more_than_a_tenth_has_vanished_the_key_is_in_doubt() -> None:
    scene = Scene(conversations=30)
    scene.run()
    for one in scene.sim.conversations[:3]:
        scene.sim.delete(one.conversation_id)
    assert found(scene.compared()) == {"S002": 3}
    scene.sim.delete(scene.sim.conversations[0].conversation_id)

    audit = scene.compared()

    assert found(audit) == {"S002": 4, "S003": 1}
    assert "another workspace" in audit.markdown


def test_a_list_that_cannot_be_finished_proves_nothing_of_what_it_lacks() -> None:
    scene = Scene(conversations=150)
    scene.run()
    audit, client = scene.audit(), plain.client_of(scene.sim, scene.clock)
    page = client.list_page(agent_id=None, offset=0)
    audit.take(page.references, page.total)
    audit.listing.fail()
    audit.compare()

    assert (found(audit), audit.exit_code) == ({"S004": 1}, 3)


# What is said


def test_an_audit_says_what_it_found_without_contents() -> None:
    scene = Scene()
    scene.run()
    scene.sim.add(SHOWN + 5)
    scene.run_and_die()
    for key in [key for key in scene.store.objects if key.endswith(keys.RECORDING)][: SHOWN + 3]:
        scene.store.objects[key] += b"?"

    audit = scene.audit(depth=Depth())

    assert (audit.exit_code, audit.report.verdict) == (1, "DAMAGED")
    assert audit.sentence.startswith("DAMAGED, 20 conversations in 1 manifests")
    assert f"{SHOWN + 5} × a record that no manifest names" in audit.sentence
    assert audit.markdown.count("| P002 |") == SHOWN
    assert audit.report.pinned_head is not None
    assert audit.report.pinned_head in audit.markdown
    assert not any(one.contact_number in audit.markdown for one in scene.sim.conversations)
    assert SPOKEN not in audit.markdown


def test_a_hostile_id_does_not_break_the_table() -> None:
    scene = Scene(conversations=0)
    scene.sim.add(conversation_id="a|b\nc<script>")
    scene.run()
    for key in [key for key in scene.store.objects if key.endswith(keys.RECORDING)]:
        del scene.store.objects[key]

    lines = scene.audit().markdown.splitlines()

    assert [line.count("|") for line in lines if line.startswith("| P001")] == [6]
    assert not any("<script>" in line for line in lines)


def test_a_head_of_an_audit_is_a_head_like_any_other() -> None:
    scene = Scene()
    scene.run()
    scene.sim.add(2)
    scene.run_and_die()
    scene.adopt(scene.audit())
    scene.sim.add(2)
    scene.run()

    assert [scene.head.kind, scene.head.sequence] == ["run", 3]
    assert found(scene.audit(depth=Depth())) == {}
