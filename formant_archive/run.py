"""A run as plain steps: what is asked, what becomes of the answers, what is committed.

`Run` holds everything that a run knows, in memory, and does no I/O: the flow does what it asks for, through Prefect's
tasks, and hands it the answers. A simulation can drive it just as well, without Prefect.

    run = Run(head, …)
    while run.listing.offset is not None:
        wanted = run.take(page)                 # of a page that was listed: what may need work
        run.learn(run.unread_folders(wanted))   # which of it the archive's folders hold
        run.adopt(run.to_look_up(wanted))       # which of it has a record
        work = run.begin(wanted)                # what is to be fetched
        records = run.judge(work, …answers)     # what of it is settled now
        run.settle(records, entries)            # what was sealed of it
    for wanted in run.carried():                # pending ones that the listing did not show: likewise
        …
    head = commit(run.draft(…))

The counts of a manifest add up: whatever `take` or `carried` has shown once is counted once, under its latest outcome.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from formant_archive import keys, settlement
from formant_archive.advance import Advance
from formant_archive.folders import Folders
from formant_archive.harvest import Harvest
from formant_archive.ledger import Draft, Head, check_source
from formant_archive.listing import Listing
from formant_archive.manifest import OUTCOMES, Changes, RunNote, Scope
from formant_archive.policy import Policy
from formant_archive.records import Entry, Failure, Pending, Record, Reference, Writer, milliseconds
from formant_archive.settlement import Answer
from formant_archive.summary import Summary

ALL = "all"
#: What a shard is called where a scope would be named.
BACKFILL = "backfill"
#: A manifest is committed every so many conversations that were settled or left pending.
PART_SIZE = 10_000
#: Conversations of a batch, which is worked on at once. A larger one costs fewer task runs, and a kill more downloads.
BATCH_SIZE = 300
#: A listing that comes as far as this, in rows, makes a long run: more than ten pages.
LONG = 1_000


def scope_of(agent_id: int | None) -> str:
    """Name the scope of a listing."""
    return ALL if agent_id is None else f"agent_id={agent_id}"


class Run:
    """One run over one scope, or over a shard of a backfill, which has a worklist in place of a listing.

    A shard moves no scope: what it leaves pending is carried by the runs of whatever scope covers it.

    Args:
        head: The newest manifest when the run began.
        run_id: Unique for each execution.
        flow: The flow's name, for the manifest.
        version: This package's version, for manifest and records.
        parameters: The flow's parameters, for the manifest.
        agent_id: The scope: one agent, or None for all. A shard has none.
        kind: Of the manifests: `run` or `backfill`, which is a shard's.
        since: Epoch ms. Rows that started before are left out, for good: only a scope's first run decides it.
        full: List to the end in any case.
        policy: The rules of waiting.
        source: The API's base URL.
        now: When the run began.
        part_size: A manifest is committed every so many conversations.
    """

    def __init__(
        self,
        head: Head,
        *,
        run_id: str,
        flow: str,
        version: str,
        parameters: Mapping[str, Any],
        agent_id: int | None = None,
        kind: Literal["run", "backfill"] = "run",
        since: int | None = None,
        full: bool = False,
        policy: Policy,
        source: str,
        now: datetime,
        part_size: int = PART_SIZE,
    ) -> None:
        check_source(head, source)
        self.head = head
        self.agent_id = agent_id
        self.kind = kind
        self.scope = scope_of(agent_id) if kind == "run" else None
        self.policy = policy
        self.source = source
        self.writer = Writer(version=version, run_id=run_id)
        self.flow = flow
        self.parameters = dict(parameters)
        self.started_at = now
        self.totals: Counter[str] = Counter()
        self.part = 1
        self._part_size = part_size
        self._before = Scope() if self.scope is None else head.state.scopes.get(self.scope, Scope())
        self._since = since if self._before.watermark is None else self._before.floor
        self.listing = Listing(
            self.scope or BACKFILL,
            self._before,
            known=frozenset(name for name, one in head.state.pending.items() if self.scope in one.scopes),
            overlap=policy.overlap_ms,
            now=milliseconds(now),
            full=full or not policy.statuses <= self._before.statuses,
            since=self._since,
        )
        self._advance = Advance(self._before, self.listing, policy, since=self._since, now=milliseconds(now))
        self._harvest = Harvest()
        # One that some run settled while another went on waiting for it is looked up, and named in an entry.
        self._on_record = dict.fromkeys(
            name
            for scope in head.state.scopes.values()
            for name, one in scope.recent.items()
            if one.settled and name not in head.state.pending
        )
        self._inherited = head.state.pending
        self._shown: set[str] = set()
        self._carried: set[str] = set()
        self._at_work: set[str] = set()
        self._folders = Folders()

    # What there is to do

    def take(self, references: Sequence[Reference], total: int) -> list[Pending]:
        """Take a page of the list; give the conversations that may need work, and count the others."""
        news = self.listing.take(references, total)
        wanted = [pending for one in news.new if (pending := self._sort(one, is_new=True))]
        return wanted + [pending for one in news.changed if (pending := self._sort(one, is_new=False))]

    def _sort(self, reference: Reference, *, is_new: bool) -> Pending | None:
        """Give a listed conversation that may need work; count any other at sight."""
        name = reference.conversation_id
        if name in self._inherited:
            self._shown.add(name)
        if name in self._at_work:
            return None
        is_settled = name in self._on_record or name in self._harvest.sealed
        if is_settled:
            self._advance.remember(reference, settled=True)
        if is_settled or self._is_outside(reference):
            if is_new:
                self._harvest.count("already_settled" if is_settled else "outside")
            return None
        return self._sort_unsettled(self._seen(reference))

    def _is_outside(self, reference: Reference) -> bool:
        is_early = self._since is not None and reference.time is not None and reference.time < self._since
        return is_early and self._known(reference.conversation_id) is None

    def _sort_unsettled(self, pending: Pending) -> Pending | None:
        if self.policy.is_open(pending.status):
            self._wait(pending.model_copy(update={"reason": "open", "failed": False, "message": None}))
        elif pending.status not in self.policy.statuses:
            self._drop(pending)
        elif pending.is_due(self.started_at):
            return self._take_on(pending)
        else:
            self._wait(pending)
        return None

    def _take_on(self, pending: Pending) -> Pending:
        """From here until its outcome is known, a conversation is at work."""
        self._at_work.add(pending.conversation_id)
        self._harvest.begin(pending)
        return pending

    def _seen(self, reference: Reference) -> Pending:
        """Join a row with what is known of its conversation."""
        known = self._known(reference.conversation_id)
        if known is None:
            return Pending(
                **reference.model_dump(),
                folder=keys.folder(reference),
                first_seen_at=self.started_at,
                scopes=self._scopes,
                witness=next(iter(self._on_record), None),
            )
        update = {**reference.model_dump(), "scopes": tuple(sorted({*known.scopes, *self._scopes}))}
        if known.status != reference.status:
            # A call that has ended is asked for at once, however long the wait for a call in progress was.
            update["next_probe_at"] = None
        return known.model_copy(update=update)

    @property
    def _scopes(self) -> tuple[str, ...]:
        return () if self.scope is None else (self.scope,)

    def _known(self, name: str) -> Pending | None:
        return self._harvest.pending.get(name) or self.head.state.pending.get(name)

    def unread_folders(self, wanted: Iterable[Pending]) -> list[str]:
        """Name the folders of agents' days to list, so that history is not looked up one by one."""
        return self._folders.unread(one for one in wanted if self._is_history(one))

    def learn(self, folders: Mapping[str, frozenset[str]]) -> None:
        """Take which conversations have a record, folder by folder."""
        self._folders.learn(folders)

    def to_look_up(self, wanted: Iterable[Pending]) -> list[Pending]:
        """Pick the conversations whose record is to be read: it may be there, and is to be named in an entry."""
        return [
            one for one in wanted if not self._is_history(one) or (self._folders.has_record(one) and self._is_ours(one))
        ]

    def _is_history(self, pending: Pending) -> bool:
        """Whether a conversation lies before what a scheduled listing looks at."""
        if pending.conversation_id in self._carried:
            return False
        start = self.listing.horizon.start
        return start is None or pending.time is None or pending.time < start

    def _is_ours(self, pending: Pending) -> bool:
        """Whether a record that is found is adopted, not just counted: no complete listing has passed it yet."""
        start = self._before.horizon(self.policy.overlap_ms)
        is_recent = start is None or (pending.time is not None and pending.time >= start)
        return is_recent or pending.conversation_id in self._inherited

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Take the entries of conversations that turned out to be settled: a crashed run's or another run's work."""
        for entry in entries:
            self._settle(entry)

    def begin(self, wanted: Iterable[Pending]) -> list[Pending]:
        """Give what is to be fetched now of the conversations that may need work."""
        work = []
        for pending in wanted:
            name = pending.conversation_id
            if name not in self._at_work:
                continue
            # One of ours was looked up: it would not be at work if its record were sound.
            if self._is_history(pending) and self._folders.has_record(pending) and not self._is_ours(pending):
                self._at_work.discard(name)
                self._harvest.pass_by(name)
            else:
                work.append(pending)
        return work

    def carried(self) -> Iterator[list[Pending]]:
        """Give the pending conversations that the listing did not show, in batches; count those that must wait."""
        due = []
        for name, pending in self._inherited.items():
            if name in self._shown or name not in self.head.state.pending or not self._covers(pending):
                continue
            self._carried.add(name)
            if pending.is_due(self.started_at) and not self._is_left_to_listings(pending):
                due.append(self._take_on(pending))
            else:
                self._wait(pending)
        for start in range(0, len(due), BATCH_SIZE):
            yield due[start : start + BATCH_SIZE]

    def _covers(self, pending: Pending) -> bool:
        return self.agent_id is None or pending.agent_id == self.agent_id or self.scope in pending.scopes

    def _is_left_to_listings(self, pending: Pending) -> bool:
        """Whether a call in progress is left to the next listing: this one was cut short, and may not have come to it.

        A complete one that has not shown it says that it is worth a question of its own.
        """
        start = self.listing.horizon.start
        is_recent = start is not None and pending.time is not None and pending.time >= start
        return self.policy.is_open(pending.status) and is_recent and not self.listing.complete

    def held(self, work: Iterable[Pending]) -> frozenset[str]:
        """Name those under a legal hold."""
        return frozenset(one.conversation_id for one in work) & self.head.state.holds.keys()

    # What has become of it

    def judge(
        self, work: Sequence[Pending], conversations: Sequence[Answer], recordings: Sequence[Answer], now: datetime
    ) -> list[tuple[str, Record]]:
        """Take the answers; give the records to seal, each with its folder. The others stay pending."""
        records = []
        for before, conversation, recording in zip(work, conversations, recordings, strict=True):
            pending = settlement.with_answers(before, conversation, recording, self.policy)
            self._harvest.begin(pending)
            verdict = settlement.judge(pending, conversation, recording, self.policy)
            if self._is_other(pending):
                self._drop(pending)
            elif verdict.is_settled:
                retention = settlement.retention(pending, now, self.policy)
                record = settlement.record(
                    pending, verdict, source=self.source, writer=self.writer, now=now, retention=retention
                )
                records.append((pending.folder, record))
            else:
                self._wait(settlement.waiting(pending, (conversation, recording), now, self.policy))
        return records

    def _is_other(self, pending: Pending) -> bool:
        """Whether a call in progress has ended with a status that is not archived."""
        return not self.policy.is_open(pending.status) and pending.status not in self.policy.statuses

    def settle(self, records: Sequence[tuple[str, Record]], entries: Sequence[Entry], now: datetime) -> None:
        """Take the entries of the records that were sealed; a conversation without one stays pending, failed."""
        for entry in entries:
            self._settle(entry)
        failure = Answer(
            failure=Failure(
                reason="unavailable", message="its record could not be stored: look at what lies in its place"
            )
        )
        for name in {record.conversation_id for _, record in records} - self._harvest.sealed:
            self._wait(settlement.waiting(self._harvest.pending[name], [failure], now, self.policy))

    def _settle(self, entry: Entry) -> None:
        name = entry.conversation_id
        known = self._known(name)
        self._harvest.settle(entry)
        self._at_work.discard(name)
        if known is not None and self.scope in known.scopes:
            self._advance.remember(known, settled=True)

    def _wait(self, pending: Pending) -> None:
        self._at_work.discard(pending.conversation_id)
        self._advance.forget(pending.conversation_id)
        self._harvest.wait(pending)

    def _drop(self, pending: Pending) -> None:
        self._at_work.discard(pending.conversation_id)
        self._advance.remember(pending, settled=False)
        self._harvest.drop(pending, was_pending=self._known(pending.conversation_id) is not None)

    # What is committed

    @property
    def part_is_full(self) -> bool:
        """Whether enough has been done for a manifest of its own."""
        return len(self._harvest.entries) + len(self._harvest.pending) - len(self._at_work) >= self._part_size

    def draft(self, now: datetime, *, final: bool) -> Draft:
        """Say what to commit: all that was done since the last part. Only the final part moves the scope."""
        pending = {name: one for name, one in self._witnessed().items() if name not in self._at_work}
        changes = Changes(
            scope=self.scope,
            before=self._before,
            after=self._advance.after(set(pending)) if final else self._before,
            settled=frozenset(self._harvest.sealed),
            pending=pending,
            dropped=frozenset(self._harvest.dropped),
        )
        return Draft(
            kind=self.kind,
            run=RunNote(
                id=self.writer.run_id,
                part=self.part,
                flow=self.flow,
                version=self.writer.version,
                parameters=self.parameters,
                started_at=self.started_at,
                committed_at=now,
            ),
            source=self.source,
            listing=None if self.scope is None else self.listing.note(),
            counts=self._harvest.counts(self._carried),
            entries=self._harvest.entries,
            changes=changes,
            overlap=self.policy.overlap_ms,
            retention=self.policy.longest_retention(now),
        )

    def _witnessed(self) -> dict[str, Pending]:
        """The pending conversations; those that the list showed beside what the run settled have a witness in it."""
        witness = min(self._harvest.sealed, default=None)
        return {
            name: one if one.witness or name in self._carried else one.model_copy(update={"witness": witness})
            for name, one in self._harvest.pending.items()
        }

    def committed(self, head: Head) -> None:
        """Go on from the manifest that was written; what is at work goes into the next part."""
        self.totals.update(self._harvest.counts(self._carried))
        at_work = [one for name, one in self._harvest.pending.items() if name in self._at_work]
        self.head = head
        self.part += 1
        self._harvest = Harvest()
        for pending in at_work:
            self._harvest.begin(pending)

    # What to tell a person

    @property
    def progress(self) -> str:
        """Say in one line how far the run is."""
        done, total = self.totals + Counter(self._harvest.counts(self._carried)), self.listing.total
        of_total = "" if total is None else f" of {total:,}"
        settled = done["archived"] + done["archived_without_recording"]
        return f"{self.listing.unique:,}{of_total} listed, {settled:,} archived, {done['pending']:,} pending"

    @property
    def shard_sentence(self) -> str:
        """Say in one line what a shard came to, counts only."""
        return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.totals.items() if count)

    @property
    def percent(self) -> int:
        """How much of the list the run has seen, whole percents."""
        return min(100, 100 * self.listing.unique // (self.listing.total or 1))

    @property
    def is_long(self) -> bool:
        """Whether there is enough to do for somebody to wait for it."""
        return (self.listing.offset or 0) >= LONG

    @property
    def summary(self) -> Summary:
        """What the run came to, once its last part is committed."""
        return Summary(
            scope=self.scope or BACKFILL,
            counts={name: self.totals[name] for name in ("listed", "carried", *OUTCOMES)},
            complete=self.listing.complete,
            missing=self.listing.missing,
            pages=self.listing.note().pages,
            head=self.head.link,
            sequence=self.head.sequence,
        )
