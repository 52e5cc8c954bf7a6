"""A run without Prefect, one step after the other, over any client, store and clock.

The steps are those of `flows/archive.py`, of `flows/backfill.py` (`make_plan`), and of `flows/shard.py` (`archive` with
a shard).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

import httpx

from formant_archive import capture, keys, ledger, register, settlement, worklists
from formant_archive.client import FormantClient
from formant_archive.errors import ApiError, ApiRefused
from formant_archive.manifest import Manifest
from formant_archive.plan import Plan, Planner, check_number, check_plan
from formant_archive.policy import Policy
from formant_archive.records import Entry, Pending, milliseconds
from formant_archive.run import BATCH_SIZE, PART_SIZE, Run
from formant_archive.settlement import Answer
from formant_archive.simulator import Simulator
from formant_archive.stores import Store

SOURCE = "http://127.0.0.1"
#: Asks again in every run, calls nothing absent before its time, waits for no results.
EAGER = Policy(probe_interval=timedelta(0), results_wait=timedelta(0))
_numbers = count(1)


class Clock:
    """A clock that a test sets."""

    def __init__(self, at: datetime = datetime(2026, 3, 20, 12, tzinfo=UTC)) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    @property
    def ms(self) -> int:
        return milliseconds(self.at)

    def go(self, **by: float) -> None:
        self.at += timedelta(**by)


class BrokenWires(httpx.BaseTransport):
    """The simulator in process; a connection that it drops is an error of httpx, as on a port."""

    def __init__(self, sim: Simulator) -> None:
        self._inner = httpx.WSGITransport(app=sim)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._inner.handle_request(request)
        except ConnectionError:
            raise httpx.ReadError("dropped", request=request) from None


def client_of(sim: Simulator, clock: Clock, *, key: str = "simulated-key") -> FormantClient:
    """A client of a simulator in process, which never really sleeps."""
    return FormantClient(
        SOURCE,
        key,
        transport=BrokenWires(sim),
        redirect_transport=BrokenWires(sim),
        wall_clock=clock,
        sleep=lambda seconds: clock.go(seconds=seconds),
        random=lambda: 0.5,
    )


class Crash(BaseException):
    """The process dies here."""


Between = Callable[[str], None]
InFlight = deque[list[Pending]]
#: A plan, and the number of a shard of it.
Shard = tuple[Plan, int]


def archive(
    client: FormantClient,
    store: Store,
    clock: Callable[[], datetime],
    *,
    agent_id: int | None = None,
    shard: Shard | None = None,
    since: datetime | None = None,
    full: bool = False,
    policy: Policy = EAGER,
    between: Between = lambda step: None,
    part_size: int = PART_SIZE,
    run_id: str | None = None,
    pages_in_flight: int = 1,
    dice: Random | None = None,
    source: str = SOURCE,
) -> Run:
    """Run once. `between` is called before each step with its name; it may raise `Crash`.

    With `dice`, the payloads of a page come in any order, as they do from threads. With `shard`, the run works off a
    worklist.
    """
    between("read_head")
    run = Run(
        ledger.read_head(store),
        run_id=run_id or f"run-{next(_numbers)}",
        flow="plain",
        version="test",
        parameters={} if shard is None else {"plan_id": shard[0].plan_id, "number": shard[1]},
        agent_id=agent_id,
        kind="run" if shard is None else "backfill",
        since=None if since is None else milliseconds(since),
        full=full,
        policy=policy,
        source=source,
        now=clock(),
        part_size=part_size,
    )
    in_flight: InFlight = deque()

    def finish_oldest() -> None:
        _finish(run, client, store, clock, in_flight.popleft(), between, dice)

    for wanted in _pages(run, client, between) if shard is None else _worklist(run, store, shard, between):
        in_flight.append(_begin(run, store, wanted, between))
        if len(in_flight) >= pages_in_flight:
            finish_oldest()
    while in_flight:
        finish_oldest()
    between("commit")
    run.committed(ledger.commit(store, run.head, run.draft(clock(), final=True)))
    return run


def _pages(run: Run, client: FormantClient, between: Between) -> Iterator[list[Pending]]:
    while (offset := run.listing.offset) is not None:
        between("list_page")
        try:
            page = client.list_page(agent_id=run.agent_id, offset=offset)
        except ApiError as fault:
            if isinstance(fault, ApiRefused) or run.listing.total is None:
                raise
            run.listing.fail()
            break
        yield run.take(page.references, page.total)
    yield from run.carried()


def _worklist(run: Run, store: Store, shard: Shard, between: Between) -> Iterator[list[Pending]]:
    plan, number = shard
    check_plan(plan, run.source)
    check_number(plan, number)
    between("read_worklist")
    rows = list(worklists.read_worklist(store, plan.shards[number - 1]))
    for start in range(0, len(rows), BATCH_SIZE):
        yield run.take(rows[start : start + BATCH_SIZE], len(rows))


def make_plan(
    client: FormantClient,
    store: Store,
    clock: Callable[[], datetime],
    agents: Sequence[int | None] = (None,),
    *,
    since: int | None = None,
    until: int | None = None,
    shard_size: int = 1000,
    policy: Policy = EAGER,
    keep: bool = True,
    plan_id: str | None = None,
    source: str = SOURCE,
) -> Plan:
    """Plan once; `since` and `until` are epoch ms."""
    planner = Planner(
        ledger.read_head(store),
        plan_id=plan_id or f"plan-{next(_numbers)}",
        policy=policy,
        source=source,
        since=since,
        until=until,
        shard_size=shard_size,
        now=clock(),
    )
    for agent_id in agents:
        listing = planner.list_agent(agent_id)
        while (offset := listing.offset) is not None:
            page = client.list_page(agent_id=agent_id, offset=offset)
            wanted = planner.take(listing, page.references, page.total)
            planner.learn(register.read_folders(store, planner.unread_folders(wanted)))
            planner.add(wanted)
            _store_full(planner, store, keep=keep, is_last=False)
        planner.finish(listing)
    _store_full(planner, store, keep=keep, is_last=True)
    plan = planner.plan()
    if keep:
        worklists.store_plan(store, plan)
    return plan


def _store_full(planner: Planner, store: Store, *, keep: bool, is_last: bool) -> None:
    while (shard := planner.next_shard(is_last=is_last)) is not None:
        if keep:
            planner.stored(worklists.store_worklist(store, planner.plan_id, planner.next_number, shard))


def _begin(run: Run, store: Store, wanted: list[Pending], between: Between) -> list[Pending]:
    between("look_up")
    run.learn(register.read_folders(store, run.unread_folders(wanted)))
    run.adopt(register.find_records(store, run.to_look_up(wanted)))
    return run.begin(wanted)


def _finish(
    run: Run,
    client: FormantClient,
    store: Store,
    clock: Callable[[], datetime],
    work: list[Pending],
    between: Between,
    dice: Random | None,
) -> None:
    looks = [(kind, at) for at in range(len(work)) for kind in ("conversation", "recording")]
    if dice is not None:
        dice.shuffle(looks)
    answers = {}
    for kind, at in looks:
        between(kind)
        look = _conversation if kind == "conversation" else _recording
        answers[kind, at] = look(run, client, store, clock, work[at])
    conversations = [answers["conversation", at] for at in range(len(work))]
    recordings = [answers["recording", at] for at in range(len(work))]
    records = run.judge(work, conversations, recordings, clock())
    entries: list[Entry] = []
    for folder, record in records:
        between("seal")
        entries += register.seal_all(store, [(folder, record)], held=run.held(work))
    run.settle(records, entries, clock())
    if run.part_is_full:
        between("commit_part")
        run.committed(ledger.commit(store, run.head, run.draft(clock(), final=False)))


def _conversation(
    run: Run, client: FormantClient, store: Store, clock: Callable[[], datetime], pending: Pending
) -> Answer:
    if not settlement.wants_conversation(pending, clock(), run.policy):
        return Answer()
    return capture.capture_conversation(
        client, store, pending, policy=run.policy, clock=clock, held=bool(run.held([pending]))
    )


def _recording(
    run: Run, client: FormantClient, store: Store, clock: Callable[[], datetime], pending: Pending
) -> Answer:
    if not settlement.wants_recording(pending, run.policy):
        return Answer()
    return capture.capture_recording(
        client, store, pending, policy=run.policy, clock=clock, held=bool(run.held([pending]))
    )


def manifests(store: Store) -> list[Manifest]:
    """Every manifest, the oldest first."""
    last = ledger.last_sequence(store)
    return [Manifest.read(store.get(keys.manifest(number))) for number in range(1, last + 1)]


def entries(store: Store) -> list[Entry]:
    """Every entry of every manifest, in their order."""
    parts = [part for manifest in manifests(store) for part in manifest.entries]
    return [one for part in parts for one in ledger.read_part(store, part, Entry)]


def pending(store: Store) -> dict[str, Pending]:
    """What the head waits for, by conversation."""
    return dict(ledger.read_head(store).state.pending)
