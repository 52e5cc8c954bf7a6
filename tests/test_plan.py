"""A backfill's plan over the simulator in process: what is in it, what is left out and counted, what is stored."""

import gc
import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest

from formant_archive import keys, ledger, worklists
from formant_archive.errors import ArchiveDamaged, ListingIncomplete, UsageError
from formant_archive.ledger import Head
from formant_archive.manifest import PartLink, State, digest
from formant_archive.plan import OUTCOMES, Plan, Planner, check_number, check_plan
from formant_archive.policy import Policy
from formant_archive.records import Pending, Reference, milliseconds
from formant_archive.simulator import SPOKEN, Simulator
from formant_archive.worklists import read_plan, read_worklist, store_worklist
from tests.plain import EAGER, SOURCE, Clock, archive, client_of, make_plan
from tests.stores.memory import MemoryStore

HOUR = 3_600_000
#: What a row of the list says, and nothing besides.
FIELDS = {"conversation_id", "agent_id", "status", "start_timestamp", "end_timestamp", "duration_seconds"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def simulator(clock: Clock, conversations: int = 60, **options: Any) -> Simulator:
    return Simulator(7, conversations, now=lambda: clock.ms, audio_seconds=(0.1, 0.3), **options)


def completed(sim: Simulator) -> set[str]:
    return {one.conversation_id for one in sim.conversations if one.status == "completed"}


def planned(store: MemoryStore, plan: Plan) -> list[str]:
    return [one.conversation_id for link in plan.shards for one in read_worklist(store, link)]


def assert_adds_up(plan: Plan) -> None:
    assert set(plan.counts) == set(OUTCOMES)
    assert sum(plan.counts.values()) == sum(note.unique for note in plan.listings)
    assert sum(link.count for link in plan.shards) == plan.counts["to_do"]


def planner_of(head: Head | None = None, **options: Any) -> Planner:
    given: dict[str, Any] = {"since": None, "until": None, "shard_size": 100, "policy": EAGER}
    now = datetime(2026, 3, 20, 12, tzinfo=UTC)
    return Planner(head or Head(), plan_id="plan", source=SOURCE, now=now, **{**given, **options})


def sorted_of(planner: Planner, *rows: Reference) -> Plan:
    """Plan of one list of these rows in an empty archive."""
    listing = planner.list_agent(None)
    for page in (rows, ()):
        wanted = planner.take(listing, page, len(rows))
        planner.learn({folder: frozenset() for folder in planner.unread_folders(wanted)})
        planner.add(wanted)
    planner.finish(listing)
    return planner.plan()


# What is listed


def test_every_agent_is_listed_once_to_its_end_and_no_other(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 900)
    of_agents = {one.conversation_id for one in sim.conversations if one.agent_id in (101, 102)}

    plan = make_plan(client_of(sim, clock), store, clock, (101, 102))

    assert [note.scope for note in plan.listings] == ["agent_id=101", "agent_id=102"]
    assert all(note.complete and note.full for note in plan.listings)
    # 300 rows each: three pages and the empty one.
    assert sim.count() == sim.count("list") == 8
    assert sorted(planned(store, plan)) == sorted(completed(sim) & of_agents)
    assert_adds_up(plan)


@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "shuffled"])
def test_all_agents_are_one_listing_in_whatever_order(order: Any, clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 350, order=order)

    plan = make_plan(client_of(sim, clock), store, clock)

    assert [(note.scope, note.unique) for note in plan.listings] == [("all", 350)]
    assert sorted(planned(store, plan)) == sorted(completed(sim))
    assert_adds_up(plan)


def test_a_watermark_of_the_schedule_shortens_no_listing(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 400, spread_hours=2000)
    archive(client_of(sim, clock), store, clock, since=clock.at - timedelta(hours=48))
    sim.forget_requests()

    plan = make_plan(client_of(sim, clock), store, clock)

    assert sim.count("list") == 5
    assert plan.listings[0].unique == 400


def test_an_incomplete_listing_plans_nothing_and_says_how_many_are_missing(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)
    sim.fault(kind="list", total=300, share=1.0)

    with pytest.raises(ListingIncomplete, match=r"^the list of all lacks 50 of what the API promised") as caught:
        make_plan(client_of(sim, clock), store, clock, shard_size=10)

    assert caught.value.exit_code == 1
    # Worklists that were full before are there, and no plan names them.
    assert not any(key.endswith("plan.json") for key in store.objects)


def test_a_row_that_is_listed_twice_is_planned_once(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)

    # A call that comes while the list is read pushes the last row of a page onto the next.
    def push(page: int) -> None:
        if page == 2:
            sim.add(1)

    sim.before_page = push
    plan = make_plan(client_of(sim, clock), store, clock)

    assert plan.listings[0].rows > plan.listings[0].unique
    assert max(Counter(planned(store, plan)).values()) == 1
    assert_adds_up(plan)


def test_what_the_lists_of_two_agents_show_is_archived_once(clock: Clock, store: MemoryStore) -> None:
    """As where the API ignores the agent that it is asked for."""
    sim = simulator(clock, 40, completed=1, agents=(101,))
    client = client_of(sim, clock)

    plan = make_plan(client, store, clock, (101, None), shard_size=40)
    archive(client, store, clock, shard=(plan, 1))
    sim.forget_requests()
    second = archive(client, store, clock, shard=(plan, 2))

    assert plan.counts["to_do"] == 80
    assert sim.count() == 0
    assert (second.totals["archived"], second.totals["adopted"]) == (0, 40)


# What is left out


def test_what_is_settled_is_left_out_by_one_listing_of_each_agents_day(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 300, spread_hours=60)
    archive(client_of(sim, clock), store, clock, agent_id=101)
    days = {(one.agent_id, keys.day(one.start_timestamp)) for one in sim.conversations if one.status == "completed"}
    before = Counter(store.calls)

    plan = make_plan(client_of(sim, clock), store, clock, shard_size=1000)

    spent = store.calls - before
    of_101 = {one.conversation_id for one in sim.conversations if one.agent_id == 101} & completed(sim)
    assert (plan.counts["settled"], plan.counts["to_do"]) == (len(of_101), len(completed(sim) - of_101))
    assert set(planned(store, plan)) == completed(sim) - of_101
    assert spent["list"] == len(days)
    # The head costs a few look-ups, whatever is settled; then the worklist and the plan.
    assert spent["get"] + spent["stat"] < 15
    assert spent["put"] == 2
    assert_adds_up(plan)


def test_pending_open_and_other_ones_are_left_out_and_counted(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 120, late_recordings=0.2, in_progress=5)
    archive(client_of(sim, clock), store, clock, agent_id=101)
    waited_for = {
        name for name, one in ledger.read_head(store).state.pending.items() if one.reason == "recording_not_found"
    }
    assert waited_for

    plan = make_plan(client_of(sim, clock), store, clock)

    statuses = Counter(one.status for one in sim.conversations)
    others = sum(statuses.values()) - statuses["completed"] - statuses["in_progress"]
    assert plan.counts["waited_for"] == len(waited_for)
    assert plan.counts["open"] == 5
    assert plan.counts["other_status"] == others
    assert not waited_for & set(planned(store, plan))
    assert_adds_up(plan)


def test_statuses_that_are_archived_are_planned(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 60)

    plan = make_plan(client_of(sim, clock), store, clock, policy=Policy(statuses=frozenset({"completed", "busy"})))

    assert plan.counts["to_do"] == sum(one.status in ("completed", "busy") for one in sim.conversations)


def test_since_is_within_and_until_is_not(clock: Clock) -> None:
    rows = [Reference(conversation_id=f"c{at}", status="completed", start_timestamp=at * HOUR) for at in range(5)]
    planner = planner_of(since=1 * HOUR, until=3 * HOUR)

    plan = sorted_of(planner, *reversed(rows))

    assert [one.conversation_id for one in planner.next_shard(is_last=True) or []] == ["c2", "c1"]
    assert (plan.counts["to_do"], plan.counts["outside"]) == (2, 3)
    assert (plan.since, plan.until) == (HOUR, 3 * HOUR)


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [({}, "to_do"), ({"since": 0}, "outside"), ({"until": HOUR}, "outside")],
    ids=["without bounds", "since", "until"],
)
def test_a_row_without_any_time_is_planned_only_where_no_time_is_asked_for(
    bounds: dict[str, Any], outcome: str
) -> None:
    plan = sorted_of(planner_of(**bounds), Reference(conversation_id="timeless", status="completed"))

    assert plan.counts[outcome] == 1


def test_a_row_without_a_start_counts_by_its_end() -> None:
    row = Reference(conversation_id="c", status="completed", end_timestamp=2 * HOUR)

    assert sorted_of(planner_of(since=HOUR, until=3 * HOUR), row).counts["to_do"] == 1
    assert sorted_of(planner_of(until=2 * HOUR), row).counts["outside"] == 1


def test_an_unknown_status_is_open_and_left_to_the_schedule() -> None:
    plan = sorted_of(planner_of(), Reference(conversation_id="c", status="on_hold", start_timestamp=0))

    assert (plan.counts["open"], plan.counts["to_do"]) == (1, 0)


def test_a_call_that_ends_while_the_list_is_read_is_counted_once() -> None:
    planner = planner_of()
    listing = planner.list_agent(None)
    open_one = Reference(conversation_id="c", status="in_progress", start_timestamp=0)
    for rows in ([open_one], [open_one.model_copy(update={"status": "completed"})]):
        planner.add(planner.take(listing, rows, 1))
    planner.finish(listing)

    assert sum(planner.plan().counts.values()) == planner.plan().listings[0].unique == 1


def test_an_archive_of_another_source_is_refused(clock: Clock, store: MemoryStore) -> None:
    archive(client_of(simulator(clock), clock), store, clock)

    with pytest.raises(UsageError, match="this archive is of"):
        Planner(
            ledger.read_head(store),
            plan_id="plan",
            policy=EAGER,
            source="https://elsewhere.example",
            since=None,
            until=None,
            shard_size=1,
            now=clock(),
        )


# What is said


def test_the_estimate_is_two_requests_and_the_listed_seconds_of_audio() -> None:
    rows = [
        Reference(conversation_id=f"c{at}", status="completed", start_timestamp=0, duration_seconds=length)
        for at, length in enumerate([60, 90.4, None, -5, 3600])
    ]
    plan = sorted_of(planner_of(), *rows, Reference(conversation_id="b", status="busy", duration_seconds=9999))

    assert plan.requests == 10
    assert plan.seconds == 60 + 90 + 0 + 0 + 3600
    assert plan.bytes == 3750 * 16_000 + 5 * 4_000
    assert plan.estimate(4) == "about 0.1 GB (1 h of audio), 10 requests: 3 min at 4 requests a minute"
    assert plan.estimate(None).endswith("10 requests; the API tells no rate limit")


def test_the_plan_is_one_line_of_counts() -> None:
    rows = [
        *(Reference(conversation_id=f"c{at}", status="completed", start_timestamp=HOUR) for at in range(101)),
        Reference(conversation_id="o", status="in_progress", start_timestamp=HOUR),
        Reference(conversation_id="b", status="busy", start_timestamp=HOUR),
        Reference(conversation_id="e", status="completed", start_timestamp=0),
    ]
    plan = sorted_of(planner_of(since=1), *rows)

    assert plan.sentence == "104 listed, 101 to archive in 2 shards, 1 open, 1 other status, 1 outside"
    one = plan.model_copy(update={"counts": {**plan.counts, "to_do": 100}})
    assert "100 to archive in 1 shard," in one.sentence


def test_each_list_says_what_is_to_do_of_it_alone() -> None:
    planner = planner_of()
    said = []
    for agent, count in ((101, 3), (102, 5)):
        listing = planner.list_agent(agent)
        rows = [Reference(conversation_id=f"{agent}-{at}", agent_id=agent, status="completed") for at in range(count)]
        for page in (rows, []):
            planner.add(planner.take(listing, page, count))
        said.append(planner.finish(listing))

    assert said == ["agent_id=101: 3 listed, 3 to archive", "agent_id=102: 5 listed, 5 to archive"]
    assert planner.plan().sentence == "8 listed, 8 to archive in 1 shard"


# What is stored


def test_worklists_hold_references_and_no_number_and_no_word(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)

    plan = make_plan(client_of(sim, clock), store, clock, shard_size=40)

    assert all(key.startswith(f"plans/{plan.plan_id}/") for key in store.objects)
    lines = [line for link in plan.shards for line in gzip.decompress(store.objects[link.key]).splitlines()]
    assert lines
    assert all(json.loads(line).keys() == FIELDS for line in lines)
    plain = b"".join([*lines, store.objects[keys.plan(plan.plan_id)]])
    assert SPOKEN.encode() not in plain
    assert not any(one.contact_number.encode() in plain for one in sim.conversations if one.contact_number)


@pytest.mark.parametrize(
    ("to_do", "size", "shards"), [(0, 10, []), (1, 10, [1]), (20, 10, [10, 10]), (21, 10, [10, 10, 1])]
)
def test_shards_are_full_but_the_last(
    to_do: int, size: int, shards: list[int], clock: Clock, store: MemoryStore
) -> None:
    sim = simulator(clock, to_do, completed=1)

    plan = make_plan(client_of(sim, clock), store, clock, shard_size=size)

    assert [link.count for link in plan.shards] == shards
    assert [link.key for link in plan.shards] == [keys.worklist(plan.plan_id, at) for at in range(1, len(shards) + 1)]


def test_a_page_can_fill_several_shards(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250, completed=1)

    plan = make_plan(client_of(sim, clock), store, clock, shard_size=7)

    assert [link.count for link in plan.shards] == [7] * 35 + [5]
    assert sorted(planned(store, plan)) == sorted(completed(sim))


def test_the_same_plan_has_the_same_bytes_and_is_read_as_it_was(clock: Clock) -> None:
    sim = simulator(clock, 250)
    stores = [MemoryStore(), MemoryStore()]

    plans = [make_plan(client_of(sim, clock), one, clock, shard_size=40, plan_id="same") for one in stores]

    assert stores[0].objects == stores[1].objects
    assert read_plan(stores[0], "same") == plans[0] == plans[1]
    assert read_plan(stores[0], "same").body() == stores[0].objects["plans/same/plan.json"]


def test_a_dry_run_stores_nothing_and_counts_the_same(clock: Clock, store: MemoryStore) -> None:
    sim = simulator(clock, 250)
    client = client_of(sim, clock)
    archive(client, store, clock, agent_id=101)
    before = dict(store.objects)

    dry = make_plan(client, store, clock, shard_size=40, keep=False)

    assert store.objects == before
    assert dry.shards == ()
    kept = make_plan(client, store, clock, shard_size=40)
    assert (dry.counts, dry.seconds, dry.sentence) == (kept.counts, kept.seconds, kept.sentence)


def test_a_worklist_that_is_stored_again_is_the_same(store: MemoryStore) -> None:
    """As after a reply that was lost."""
    rows = [Reference(conversation_id="c", status="completed")]

    assert store_worklist(store, "p", 1, rows) == store_worklist(store, "p", 1, rows)


# What was damaged, or is another's


def stored_plan(store: MemoryStore, clock: Clock) -> Plan:
    return make_plan(client_of(simulator(clock), clock), store, clock, shard_size=10)


def test_an_altered_worklist_is_refused_and_says_what_to_do(clock: Clock, store: MemoryStore) -> None:
    plan = stored_plan(store, clock)
    key = plan.shards[1].key
    store.objects[key] = store.objects[plan.shards[0].key]

    with pytest.raises(ArchiveDamaged) as caught:
        list(read_worklist(store, plan.shards[1]))

    assert str(caught.value) == f"{key} does not have the SHA-256 that its plan names: make a new plan"


def test_a_missing_worklist_is_named_and_says_what_to_do(clock: Clock, store: MemoryStore) -> None:
    plan = stored_plan(store, clock)
    del store.objects[plan.shards[1].key]

    with pytest.raises(ArchiveDamaged) as caught:
        list(read_worklist(store, plan.shards[1]))

    assert str(caught.value) == f"{plan.shards[1].key} is missing: make a new plan"


def test_a_worklist_that_is_none_is_refused_without_its_contents(store: MemoryStore) -> None:
    body = gzip.compress(b'{"contact_number": "+911234567890"}\n')
    store.objects["plans/p/000001.jsonl.gz"] = body

    with pytest.raises(ArchiveDamaged) as caught:
        list(read_worklist(store, PartLink(key="plans/p/000001.jsonl.gz", sha256=digest(body), count=1)))

    assert "+91" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"format": "formant-archive/plan/2"}'])
def test_what_is_no_plan_is_refused_in_one_line(body: bytes, store: MemoryStore) -> None:
    store.objects["plans/p/plan.json"] = body

    with pytest.raises(ArchiveDamaged, match=r"^plans/p/plan\.json does not have the form of a plan: make a new one$"):
        read_plan(store, "p")


def test_a_plan_that_lacks_a_count_is_refused(clock: Clock, store: MemoryStore) -> None:
    plan = stored_plan(store, clock)
    key = keys.plan(plan.plan_id)
    store.objects[key] = store.objects[key].replace(b'"to_do"', b'"too_do"')

    with pytest.raises(ArchiveDamaged, match="does not have the form of a plan"):
        read_plan(store, plan.plan_id)


@pytest.mark.parametrize("plan_id", ["none", "../manifests", "a/b", "ü"])
def test_an_unknown_plan_is_a_wrong_argument(plan_id: str, store: MemoryStore) -> None:
    with pytest.raises(UsageError, match="give the id that an earlier backfill printed"):
        read_plan(store, plan_id)


def test_a_plan_of_another_source_is_refused(clock: Clock, store: MemoryStore) -> None:
    """Also in an archive that has no manifest yet, which could tell."""
    plan = stored_plan(store, clock)

    check_plan(plan, SOURCE)
    with pytest.raises(UsageError, match=r"is of http://127\.0\.0\.1, and FORMANT_BASE_URL says https://other"):
        check_plan(plan, "https://other.example")


@pytest.mark.parametrize("number", [0, -1, 7])
def test_a_shard_that_the_plan_does_not_have_is_refused(number: int, clock: Clock, store: MemoryStore) -> None:
    plan = stored_plan(store, clock)
    assert 0 < len(plan.shards) < 7

    check_number(plan, len(plan.shards))
    with pytest.raises(UsageError, match="has the shards 1 to"):
        check_number(plan, number)


# Memory


def rows_of(start: int, count: int) -> list[Reference]:
    return [
        Reference(
            conversation_id=f"00000000-0000-4000-8000-{at:012d}_1",
            agent_id=101 + at % 3,
            status="completed",
            start_timestamp=1_770_000_000_000 - at * 60_000,
            duration_seconds=60,
        )
        for at in range(start, start + count)
    ]


def references() -> int:
    """How many references are in memory, in whatever hands."""
    return sum(isinstance(one, Reference) for one in gc.get_objects())


def test_of_a_hundred_thousand_rows_a_planner_holds_a_shard_and_a_page() -> None:
    total, size = 100_000, 1000
    planner = planner_of(shard_size=size)
    listing = planner.list_agent(None)
    given, most, before = 0, 0, references()
    for start in range(0, total + 100, 100):
        page = rows_of(start, min(100, total - start))
        wanted = planner.take(listing, page, total)
        planner.learn({folder: frozenset() for folder in planner.unread_folders(wanted)})
        planner.add(wanted)
        del page, wanted
        # Not after each page, because looking takes longer than planning; and where a shard is about to be full.
        if start % 10_000 == 900:
            most = max(most, references() - before)
        while (shard := planner.next_shard(is_last=False)) is not None:
            assert len(shard) == size
            given += len(shard)
        del shard

    assert given == total
    assert planner.plan().counts["to_do"] == total
    assert size <= most <= size + 100


def test_a_folder_is_listed_once_however_many_pages_it_is_on() -> None:
    planner = planner_of(shard_size=10_000)
    listing = planner.list_agent(None)
    asked: list[str] = []
    for start in range(0, 6000, 100):
        wanted = planner.take(listing, rows_of(start, 100), 6000)
        folders = planner.unread_folders(wanted)
        planner.learn({folder: frozenset() for folder in folders})
        planner.add(wanted)
        asked += folders

    # Five days or six, of three agents.
    assert len(asked) == len(set(asked)) <= 18


def test_what_is_known_as_waited_for_is_so_by_any_scope() -> None:
    row = Reference(conversation_id="c", status="completed", start_timestamp=0)
    pending = Pending(**row.model_dump(), folder=keys.folder(row), first_seen_at=datetime(2026, 1, 1, tzinfo=UTC))
    head = Head(state=State(pending={"c": pending}))

    assert sorted_of(planner_of(head), row).counts["waited_for"] == 1


def test_times_of_the_plan_are_utc_milliseconds(clock: Clock, store: MemoryStore) -> None:
    plan = stored_plan(store, clock)

    data = json.loads(store.objects[keys.plan(plan.plan_id)])
    assert data["made_at"] == "2026-03-20T12:00:00.000Z"
    assert milliseconds(plan.made_at) == clock.ms
    assert list(chain(data)) == sorted(data)
    assert worklists.read_plan(store, plan.plan_id).sequence == 0
