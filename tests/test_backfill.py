"""The shards of a backfill over the simulator in process, without Prefect: killed, repeated, side by side; and which of
them a backfill begins, begins again and gives up.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from formant_archive import keys, ledger
from formant_archive.backfill import ATTEMPTS, Backfill, is_outage
from formant_archive.errors import ApiRefused, ArchiveDamaged, StoreUnavailable, UsageError
from formant_archive.manifest import OUTCOMES, Changes, PartLink, RunNote, Scope
from formant_archive.plan import OUTCOMES as SORTED
from formant_archive.plan import Plan
from formant_archive.policy import Policy
from formant_archive.records import Pending, Reference
from formant_archive.simulator import SPOKEN, Simulator
from formant_archive.verify import Depth, Verification
from formant_archive.worklists import Progress
from tests.plain import SOURCE, Clock, Crash, archive, client_of, entries, make_plan, manifests, pending
from tests.stores.memory import MemoryStore

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def simulator(clock: Clock, conversations: int = 60, **options: Any) -> Simulator:
    given: dict[str, Any] = {"completed": 1, "audio_seconds": (0.1, 0.2), **options}
    return Simulator(7, conversations, now=lambda: clock.ms, **given)


def check(store: MemoryStore, sim: Simulator) -> None:
    """Whole, each conversation once, nothing of one left over, and nothing private outside of the bodies."""
    verification = Verification(store, depth=Depth())
    # A part that a killed writer, or the second of two, has left is no conversation's.
    assert {finding.code for finding in verification.findings()} <= {"X002"}
    assert verification.report.verdict == "VALID"
    for manifest in manifests(store):
        counts = manifest.counts
        assert counts["listed"] + counts["carried"] == sum(counts[outcome] for outcome in OUTCOMES)
    records: dict[str, set[str]] = {}
    for entry in entries(store):
        records.setdefault(entry.conversation_id, set()).add(entry.record_key)
    assert all(len(found) == 1 for found in records.values())
    assert not records.keys() & pending(store).keys()
    assert records.keys() | pending(store).keys() == {one.conversation_id for one in sim.conversations}
    numbers = [one.contact_number.encode() for one in sim.conversations if one.contact_number]
    for key, body in store.objects.items():
        if not key.endswith(keys.CONVERSATION):
            assert SPOKEN.encode() not in body
            assert not any(number in body for number in numbers)


def dying_at(step: int) -> Callable[[str], None]:
    """Die before the step of this number; the first is 0."""
    left = iter(range(step, -1, -1))

    def die(_: str) -> None:
        if next(left, None) == 0:
            raise Crash

    return die


# A shard


def test_a_shard_archives_exactly_its_worklist(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 100)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock, shard_size=30)
    sim.forget_requests()

    run = archive(client, store, clock, shard=(plan, 2))

    settled = [one.conversation_id for one in entries(store)]
    # Newest first: the second thirty.
    assert sorted(settled) == sorted(one.conversation_id for one in sim.conversations[30:60])
    assert (sim.count("list"), sim.count("conversation"), sim.count("recording")) == (0, 30, 30)
    assert run.totals["archived"] == 30


def test_the_shards_of_a_plan_archive_all_of_it_each_by_a_manifest_of_its_own(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock, (101, 102, 103), shard_size=60)

    for number in range(1, len(plan.shards) + 1):
        archive(client, store, clock, shard=(plan, number))

    check(store, sim)
    made = manifests(store)
    assert [one.run.parameters for one in made] == [{"plan_id": plan.plan_id, "number": n} for n in range(1, 6)]
    assert [(one.kind, one.listing, one.scopes) for one in made] == [("backfill", None, {})] * 5
    assert [one.counts["archived"] for one in made] == [60, 60, 60, 60, 10]
    assert len(entries(store)) == 250


def test_a_shard_that_is_run_again_fetches_and_stores_nothing_again(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 40)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)
    archive(client, store, clock, shard=(plan, 1))
    before = dict(store.objects)
    sim.forget_requests()

    run = archive(client, store, clock, shard=(plan, 1))

    assert sim.count() == 0
    assert not any(key.startswith("conversations/") for key in store.objects.keys() - before.keys())
    # Whether a record has an entry already is not asked of all the manifests: it is named once more, by the same hash.
    assert (run.totals["archived"], run.totals["adopted"]) == (0, 40)
    check(store, sim)


def test_what_the_schedule_has_settled_meanwhile_is_counted_and_not_named_again(
    clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 40, spread_hours=3)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)
    archive(client, store, clock)
    gets = store.calls["get"]
    sim.forget_requests()

    run = archive(client, store, clock, shard=(plan, 1))

    assert sim.count() == 0
    assert (run.totals["already_settled"], run.totals["adopted"]) == (40, 0)
    # The worklist and the head with its parts: no record is read.
    assert store.calls["get"] - gets < 10
    check(store, sim)


def steps_of(clock: Clock, late: float) -> int:
    """How many steps a shard of the next test takes."""
    steps: list[str] = []
    store, sim = MemoryStore(), simulator(clock, 9, late_recordings=late)
    plan = make_plan(client_of(sim, clock), store, clock)
    archive(client_of(sim, clock), store, clock, shard=(plan, 1), between=steps.append, part_size=4)
    assert set(steps) == {"read_head", "read_worklist", "look_up", "conversation", "recording", "seal"} | {
        "commit_part",
        "commit",
    }
    return len(steps)


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_a_shard_that_is_killed_at_any_step_and_begun_again_archives_each_once(late: float) -> None:
    for step in range(steps_of(Clock(), late)):
        clock, store = Clock(), MemoryStore()
        sim = simulator(clock, 9, late_recordings=late)
        client = client_of(sim, clock)
        plan = make_plan(client, store, clock)
        with pytest.raises(Crash):
            archive(client, store, clock, shard=(plan, 1), between=dying_at(step), part_size=4)
        left = dict(store.objects)

        archive(client, store, clock, shard=(plan, 1), part_size=4)

        check(store, sim)
        assert all(store.objects[key] == body for key, body in left.items())
        sim.release()
        archive(client, store, clock)
        check(store, sim)
        assert not pending(store)


def test_what_a_killed_shard_has_sealed_is_not_fetched_again(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 30)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)

    def die(at: str) -> None:
        if at == "commit":
            raise Crash

    with pytest.raises(Crash):
        archive(client, store, clock, shard=(plan, 1), between=die)
    sim.forget_requests()
    run = archive(client, store, clock, shard=(plan, 1))

    assert sim.count() == 0
    assert run.totals["adopted"] == 30
    check(store, sim)


STEPS = ["read_head", "read_worklist", "look_up", "conversation", "recording", "seal", "commit"]


@pytest.mark.parametrize("step", STEPS)
def test_a_scheduled_run_beside_a_shard_doubles_and_loses_nothing(step: str, clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 40, late_recordings=0.2)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock, shard_size=20)
    done: list[bool] = []

    def overtake(at: str) -> None:
        if at == step and not done:
            done.append(True)
            archive(client, store, clock)

    archive(client, store, clock, shard=(plan, 1), between=overtake)

    check(store, sim)
    assert done
    assert sorted(one.kind for one in manifests(store)) == ["backfill", "run"]
    assert ledger.read_head(store).state.scopes["all"].watermark is not None
    sim.release()
    archive(client, store, clock)
    check(store, sim)
    assert not pending(store)


@pytest.mark.parametrize("step", ["read_head", "list_page", "look_up", "conversation", "recording", "seal", "commit"])
def test_a_shard_beside_a_scheduled_run_doubles_and_loses_nothing(step: str, clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 40, late_recordings=0.2)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)
    done: list[bool] = []

    def overtake(at: str) -> None:
        if at == step and not done:
            done.append(True)
            archive(client, store, clock, shard=(plan, 1))

    archive(client, store, clock, between=overtake)

    check(store, sim)
    assert [one.kind for one in manifests(store)] == ["backfill", "run"]
    sim.release()
    archive(client, store, clock)
    check(store, sim)
    assert not pending(store)


def test_two_shards_that_commit_at_once_make_one_chain(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 60, late_recordings=0.2)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock, shard_size=30)

    def overtake(at: str) -> None:
        if at == "commit":
            archive(client, store, clock, shard=(plan, 2))

    archive(client, store, clock, shard=(plan, 1), between=overtake)

    check(store, sim)
    assert [one.run.parameters["number"] for one in manifests(store)] == [2, 1]
    assert len(pending(store)) == sum(one.counts["pending"] for one in manifests(store)) == 12


def test_what_the_schedule_settles_while_a_shard_waits_to_commit_is_pending_no_more(
    clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, 30, late_recordings=0.5)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)

    def overtake(at: str) -> None:
        if at == "commit":
            sim.release()
            archive(client, store, clock)

    archive(client, store, clock, shard=(plan, 1), between=overtake)

    check(store, sim)
    assert not pending(store)
    assert len({one.conversation_id for one in entries(store)}) == 30


def test_two_runs_of_one_shard_at_once_archive_each_once(clock: Clock, store: MemoryStore) -> None:
    """A slow one that was taken for lost, and the one that was begun in its place."""
    sim = simulator(clock, 30)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)
    seen = Counter[str]()

    def overtake(at: str) -> None:
        seen[at] += 1
        if at == "recording" and seen[at] == 15:
            archive(client, store, clock, shard=(plan, 1))

    archive(client, store, clock, shard=(plan, 1), between=overtake)

    check(store, sim)
    progress = Progress(store, plan)
    progress.look()
    assert (progress.done, progress.counts["listed"], progress.counts["archived"]) == ({1}, 30, 30)


# What a shard leaves to the schedule


def history(clock: Clock, store: MemoryStore, agent_id: int | None) -> tuple[Simulator, Plan]:
    """A schedule that began with the last hours, and a plan of all that was before."""
    sim = simulator(clock, 300, spread_hours=2000, late_recordings=0.2, page_limit=10)
    client = client_of(sim, clock)
    archive(client, store, clock, agent_id=agent_id, since=clock.at - timedelta(hours=100))
    return sim, make_plan(client, store, clock)


@pytest.mark.parametrize("agent_id", [None, 101])
def test_what_stays_pending_is_carried_by_the_next_scheduled_run(
    agent_id: int | None, clock: Clock, store: MemoryStore
) -> None:
    sim, plan = history(clock, store, agent_id)
    client = client_of(sim, clock)
    before = pending(store)
    archive(client, store, clock, shard=(plan, 1))
    left = {
        name
        for name, one in pending(store).items()
        if name not in before and (agent_id is None or one.agent_id == agent_id)
    }
    assert len(left) > 10
    sim.release()

    run = archive(client, store, clock, agent_id=agent_id)

    assert run.listing.to_the_end is False
    assert run.totals["carried"] > 10
    assert left <= {one.conversation_id for one in entries(store)}
    assert not left & pending(store).keys()
    if agent_id is not None:
        # Those of other agents wait for a run that covers them.
        assert {one.agent_id for one in pending(store).values()} == {102, 103}
        archive(client, store, clock)
    assert not pending(store)
    check(store, sim)


def test_scopes_and_watermarks_are_handed_on_untouched(clock: Clock, store: MemoryStore) -> None:
    sim, plan = history(clock, store, None)
    before = manifests(store)[-1].scopes
    assert before["all"].watermark is not None

    archive(client_of(sim, clock), store, clock, shard=(plan, 1))

    assert manifests(store)[-1].scopes == before


def test_what_the_floor_leaves_out_is_a_backfills_work(clock: Clock, store: MemoryStore) -> None:
    sim, plan = history(clock, store, None)
    first = manifests(store)[0].counts
    assert first["outside"] > 200

    assert plan.counts["to_do"] == first["outside"]
    assert plan.counts["settled"] + plan.counts["waited_for"] == 300 - first["outside"]
    archive(client_of(sim, clock), store, clock, shard=(plan, 1))
    check(store, sim)


def test_after_the_schedule_a_backfill_makes_no_run_look_at_history_again(clock: Clock, store: MemoryStore) -> None:
    sim, plan = history(clock, store, None)
    client = client_of(sim, clock)
    sim.release()
    archive(client, store, clock, shard=(plan, 1))
    archive(client, store, clock)
    sim.forget_requests()

    run = archive(client, store, clock)

    assert run.totals["adopted"] == 0
    assert sim.count() == sim.count("list") <= 2


def test_before_the_schedule_a_backfill_makes_its_first_run_name_every_settled_record_again(
    clock: Clock, store: MemoryStore
) -> None:
    """Why the schedule is begun first."""
    sim = simulator(clock, 120, spread_hours=2000)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)
    archive(client, store, clock, shard=(plan, 1))

    run = archive(client, store, clock)

    assert run.totals["adopted"] == 120
    check(store, sim)


def test_failed_ones_are_pending_and_counted_as_failed(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 20)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)
    bad = sim.conversations[3].conversation_id
    sim.fault(kind="conversation", conversation_id=bad, body=b"<html>", content_type="text/html", share=1.0)

    archive(client, store, clock, shard=(plan, 1))

    assert manifests(store)[-1].counts["failed"] == 1
    assert pending(store)[bad].failed
    sim.heal()
    archive(client, store, clock)
    check(store, sim)
    assert not pending(store)


# What ends a shard before it begins


def test_a_refused_key_ends_a_shard_without_a_manifest(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 20)
    plan = make_plan(client_of(sim, clock), store, clock)
    before = dict(store.objects)

    with pytest.raises(ApiRefused):
        archive(client_of(sim, clock, key="another"), store, clock, shard=(plan, 1))

    assert store.objects == before


def test_an_altered_worklist_ends_a_shard_before_a_request_is_made(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 20)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock, shard_size=10)
    store.objects[plan.shards[0].key] = store.objects[plan.shards[1].key]
    sim.forget_requests()

    with pytest.raises(ArchiveDamaged, match="make a new plan"):
        archive(client, store, clock, shard=(plan, 1))

    assert sim.count() == 0
    assert not manifests(store)


def test_a_shard_of_another_source_is_refused_also_where_no_manifest_tells(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 20)
    plan = make_plan(client_of(sim, clock), store, clock)

    with pytest.raises(UsageError, match="FORMANT_BASE_URL"):
        archive(client_of(sim, clock), store, clock, shard=(plan.model_copy(update={"source": "https://other"}), 1))


# An outage


def waited_for(*reasons: str) -> Iterator[Pending]:
    for at, reason in enumerate(reasons):
        row = Reference(conversation_id=f"c{at}", status="completed")
        yield Pending(**row.model_dump(), folder=keys.folder(row), first_seen_at=NOW, failed=True, reason=reason)


@pytest.mark.parametrize(
    ("failed", "listed", "reasons", "expected"),
    [
        (3, 3, ["unavailable"] * 3, True),
        (3, 4, ["unavailable"] * 3, False),
        (3, 3, ["unavailable", "not_json", "unavailable"], False),
        (1, 1, ["unavailable"], False),
        (0, 0, [], False),
    ],
    ids=["all of it", "not all of it", "for another reason", "one alone", "nothing at all"],
)
def test_a_shard_of_which_nothing_came_is_an_outage(
    failed: int, listed: int, reasons: list[str], expected: bool
) -> None:
    counts = {"listed": listed, "failed": failed}

    assert is_outage(counts, list(waited_for(*reasons))) is expected


def test_a_shard_under_an_outage_looks_like_one(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 4)
    client = client_of(sim, clock)
    plan = make_plan(client, store, clock)
    sim.fault(kind="conversation", status=503, share=1.0)
    sim.fault(kind="recording", status=503, share=1.0)

    run = archive(client, store, clock, shard=(plan, 1))

    assert is_outage(run.totals, pending(store).values())


# Which shards are done


def plan_of(shards: int, *, sequence: int = 0) -> Plan:
    return Plan(
        plan_id="plan",
        source=SOURCE,
        sequence=sequence,
        since=None,
        until=None,
        made_at=NOW,
        listings=(),
        counts={**dict.fromkeys(SORTED, 0), "to_do": shards},
        seconds=0,
        shard_size=1,
        shards=tuple(
            PartLink(key=f"plans/plan/{n:06d}.jsonl.gz", sha256="0" * 64, count=1) for n in range(1, shards + 1)
        ),
    )


class Shards:
    """Commits manifests as the shards of a plan do, without archiving anything."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self._runs = 0

    def commit(
        self,
        number: object,
        *,
        plan_id: str = "plan",
        kind: Literal["run", "backfill"] = "backfill",
        run_id: str | None = None,
        part: int = 1,
        **counts: int,
    ) -> None:
        self._runs += 1
        draft = ledger.Draft(
            run=RunNote(
                id=run_id or f"run-{self._runs}",
                part=part,
                flow="archive_shard",
                version="test",
                parameters={"plan_id": plan_id, "number": number},
                started_at=NOW,
                committed_at=NOW,
            ),
            source=SOURCE,
            listing=None,
            counts=counts,
            entries=[],
            changes=Changes(None, Scope(), Scope(), frozenset(), {}),
            overlap=0,
            kind=kind,
        )
        ledger.commit(self.store, ledger.read_head(self.store), draft)


@pytest.fixture
def shards(store: MemoryStore) -> Shards:
    return Shards(store)


def test_a_shard_is_done_when_a_manifest_says_so(shards: Shards, store: MemoryStore) -> None:
    progress = Progress(store, plan_of(4))
    progress.look()
    assert progress.done == set()

    shards.commit(2, archived=5)
    shards.commit(3, plan_id="another")
    shards.commit(3, kind="run")
    shards.commit("4")
    progress.look()

    assert progress.done == {2}
    assert progress.counts == {"archived": 5}


def test_a_look_reads_only_the_manifests_that_have_come_since(shards: Shards, store: MemoryStore) -> None:
    for number in range(1, 9):
        shards.commit(number, archived=1)
    progress = Progress(store, plan_of(10, sequence=5))
    progress.look()
    assert progress.done == {6, 7, 8}
    gets = store.calls["get"]

    progress.look()
    assert store.calls["get"] == gets
    shards.commit(9, archived=1)
    gets = store.calls["get"]
    progress.look()

    assert store.calls["get"] == gets + 1
    assert progress.counts == {"archived": 4}


def test_a_look_that_breaks_off_counts_nothing_twice(shards: Shards, store: MemoryStore) -> None:
    for number in (1, 2, 3):
        shards.commit(number, archived=10)
    progress = Progress(store, plan_of(3))
    store.fail_next("get", StoreUnavailable("later"), key_contains=keys.manifest(3))
    with pytest.raises(StoreUnavailable):
        progress.look()

    progress.look()

    assert progress.done == {1, 2, 3}
    assert progress.counts == {"archived": 30}


def test_a_shard_that_was_run_twice_counts_once(shards: Shards, store: MemoryStore) -> None:
    shards.commit(1, run_id="a", archived=7, pending=3)
    shards.commit(1, run_id="a", part=2, archived=1)
    shards.commit(1, run_id="b", adopted=10)
    progress = Progress(store, plan_of(1))
    progress.look()

    assert progress.counts == {"archived": 8, "pending": 3}


# Which shards are begun


def backfill_of(store: MemoryStore, shards: int) -> Backfill:
    progress = Progress(store, plan := plan_of(shards))
    progress.look()
    return Backfill(plan, progress)


def begun(backfill: Backfill) -> list[tuple[int, int]]:
    found = []
    while (one := backfill.begin()) is not None:
        found.append(one)
    return found


def test_a_backfill_goes_on_with_the_shards_that_are_not_done(shards: Shards, store: MemoryStore) -> None:
    for number in (1, 3):
        shards.commit(number)

    assert begun(backfill_of(store, 5)) == [(2, 1), (4, 1), (5, 1)]


def test_a_shard_that_ended_without_a_manifest_is_begun_again_after_the_others_three_times_in_all(
    store: MemoryStore,
) -> None:
    backfill = backfill_of(store, 2)
    order = []
    while (one := backfill.begin()) is not None:
        order.append(one)
        backfill.ended(one[0])

    assert order == [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3)]
    assert ATTEMPTS == 3
    assert backfill.given_up == {1, 2}
    assert backfill.exit_code == 1
    assert backfill.sentence.endswith("2 shards given up: go on with --resume plan")


def test_a_shard_that_is_done_is_not_begun_again_whatever_became_of_its_run(shards: Shards, store: MemoryStore) -> None:
    backfill = backfill_of(store, 2)
    assert backfill.begin() == (1, 1)
    assert backfill.begin() == (2, 1)
    backfill.ended(1)
    shards.commit(1)
    shards.commit(2)
    backfill.progress.look()
    backfill.ended(2)

    # The first was taken for lost, and has committed after all.
    assert backfill.begin() is None
    assert (backfill.given_up, backfill.exit_code) == (set(), 0)


def test_a_shard_that_was_given_up_and_is_done_after_all_is_not_called_given_up(
    shards: Shards, store: MemoryStore
) -> None:
    backfill = backfill_of(store, 1)
    for _ in range(ATTEMPTS):
        assert backfill.begin()
        backfill.ended(1)
    assert backfill.given_up == {1}

    shards.commit(1, archived=1)
    backfill.progress.look()

    assert backfill.sentence == "1 of 1 shards done, 1 archived"
    assert (backfill.given_up, backfill.exit_code) == (set(), 0)


def test_failed_conversations_make_exit_code_1_and_begin_nothing_again(shards: Shards, store: MemoryStore) -> None:
    backfill = backfill_of(store, 1)
    assert backfill.begin() == (1, 1)
    shards.commit(1, archived=3, failed=2)
    backfill.progress.look()
    backfill.ended(1)

    assert backfill.begin() is None
    assert backfill.exit_code == 1
    assert backfill.sentence == ("1 of 1 shards done, 3 archived, 2 failed (tried again by the next scheduled run)")


def test_the_sentence_counts_what_all_shards_came_to(shards: Shards, store: MemoryStore) -> None:
    shards.commit(1, archived=1000, archived_without_recording=5, adopted=7, already_settled=1)
    shards.commit(3, archived=995, gone=2, other_status=1, pending=4)

    assert backfill_of(store, 4).sentence == (
        "2 of 4 shards done, 2,000 archived (5 without a recording), 2 gone, 7 adopted, 1 already settled,"
        " 1 other status, 4 pending"
    )


def test_progress_is_in_whole_percents_and_a_plan_without_shards_is_done(shards: Shards, store: MemoryStore) -> None:
    shards.commit(1)

    assert backfill_of(store, 3).percent == 33
    nothing = backfill_of(MemoryStore(), 0)
    assert (nothing.percent, nothing.exit_code, nothing.begin()) == (100, 0, None)


def test_policies_of_a_worker_that_differ_lose_nothing(clock: Clock, store: MemoryStore) -> None:
    """A worker that archives fewer statuses than the plan: what it leaves out is counted, and planned again."""
    sim = simulator(clock, 60, completed=0.5)
    client = client_of(sim, clock)
    both = Policy(statuses=frozenset({"completed", "busy"}), results_wait=timedelta(0), grace=timedelta(0))
    plan = make_plan(client, store, clock, policy=both)

    run = archive(client, store, clock, shard=(plan, 1))

    assert run.totals["other_status"] == 5
    assert make_plan(client, store, clock, policy=both).counts["to_do"] == 5
