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
from dataclasses import replace
from datetime import datetime
from typing import Any

from formant_archive import keys, settlement
from formant_archive.ledger import Draft, Head, check_source
from formant_archive.listing import Listing
from formant_archive.manifest import OUTCOMES, Changes, RunNote, Scope
from formant_archive.policy import Policy
from formant_archive.records import Entry, Failure, Pending, Recent, Record, Reference, Writer, milliseconds
from formant_archive.settlement import Answer
from formant_archive.summary import Summary

ALL = "all"
#: A manifest is committed every so many conversations.
PART_SIZE = 10_000
#: Carried conversations are worked on in batches of a page.
BATCH_SIZE = 100
#: Folders whose records are remembered, so that a day is not listed again for each of its pages.
FOLDERS = 64


def scope_of(agent_id: int | None) -> str:
    """Name the scope of a listing."""
    return ALL if agent_id is None else f"agent_id={agent_id}"


class Run:
    """One run over one scope.

    Args:
        head: The newest manifest when the run began.
        run_id: Unique for each execution.
        flow: The flow's name, for the manifest.
        version: This package's version, for manifest and records.
        parameters: The flow's parameters, for the manifest.
        agent_id: The scope: one agent, or None for all.
        since: Epoch ms. Rows that started before are left out, where the scope has no watermark yet.
        full: List to the end in any case.
        policy: The rules of waiting.
        source: The API's base URL.
        now: When the run began.
    """

    def __init__(
        self,
        head: Head,
        *,
        run_id: str,
        flow: str,
        version: str,
        parameters: Mapping[str, Any],
        agent_id: int | None,
        since: int | None,
        full: bool,
        policy: Policy,
        source: str,
        now: datetime,
    ) -> None:
        check_source(head, source)
        self.head = head
        self.agent_id = agent_id
        self.scope = scope_of(agent_id)
        self.policy = policy
        self.source = source
        self.writer = Writer(version=version, run_id=run_id)
        self.flow = flow
        self.parameters = dict(parameters)
        self.started_at = now
        self.totals: Counter[str] = Counter()
        self.part = 1
        self._before = head.state.scopes.get(self.scope, Scope())
        self._since = since if self._before.watermark is None else None
        self.listing = Listing(
            self.scope,
            self._before,
            known=frozenset(name for name, one in head.state.pending.items() if self.scope in one.scopes),
            overlap=policy.overlap_ms,
            now=milliseconds(now),
            full=full or not policy.statuses <= self._before.statuses,
            since=self._since,
        )
        self._known_records = {
            name: one for scope in head.state.scopes.values() for name, one in scope.recent.items() if one.settled
        }
        self._recent: dict[str, Recent] = {}
        self._shown: set[str] = set()
        self._carried: set[str] = set()
        self._at_work: set[str] = set()
        self._folders: dict[str, frozenset[str]] = {}
        self._alive = self._not_found = 0
        self._begin_part()

    def _begin_part(self) -> None:
        self._outcomes: dict[str, str] = {}
        self._final: Counter[str] = Counter()
        self._entries: list[Entry] = []
        self._sealed: set[str] = set()
        self._dropped: set[str] = set()
        self._pending: dict[str, Pending] = {}

    # What there is to do

    def take(self, references: Sequence[Reference], total: int) -> list[Pending]:
        """Take a page of the list; give the conversations that may need work, and count the others."""
        news = self.listing.take(references, total)
        wanted = [pending for one in news.new if (pending := self._sort(one, is_new=True))]
        wanted += [pending for one in news.changed if (pending := self._sort(one, is_new=False))]
        if len(self._recent) > PART_SIZE:
            self._forget_old()
        return wanted

    def _sort(self, reference: Reference, *, is_new: bool) -> Pending | None:
        """Give a listed conversation that may need work; count any other at sight."""
        name = reference.conversation_id
        if name in self._at_work:
            return None
        pending = self._seen(reference)
        outcome = self._at_sight(pending)
        if outcome in {"already_settled", "outside"}:
            # Final, and most of a long history: counted without its name.
            self._final[outcome] += is_new
        elif outcome is not None:
            self._outcomes[name] = outcome
        return pending if outcome is None else None

    def _seen(self, reference: Reference) -> Pending:
        """Join a row with what is known of its conversation."""
        name = reference.conversation_id
        known = self._known(name)
        if known is None:
            return Pending(
                **reference.model_dump(),
                folder=keys.folder(reference),
                first_seen_at=self.started_at,
                scopes=(self.scope,),
            )
        self._shown.add(name)
        scopes = tuple(sorted({*known.scopes, self.scope}))
        return known.model_copy(update={**reference.model_dump(), "scopes": scopes})

    def _known(self, name: str) -> Pending | None:
        return self._pending.get(name) or self.head.state.pending.get(name)

    def _at_sight(self, pending: Pending) -> str | None:
        """Say what becomes of a listed conversation without asking anybody, or None."""
        name = pending.conversation_id
        if name in self._known_records or name in self._sealed:
            self._alive += 1
            self._remember(pending, settled=True)
            return "already_settled"
        if self._is_outside(pending):
            return "outside"
        if self.policy.is_open(pending.status):
            return self._wait(pending.model_copy(update={"reason": "open", "failed": False, "message": None}))
        if pending.status not in self.policy.statuses:
            return self._drop(pending)
        return None if pending.is_due(self.started_at) else self._wait(pending)

    def _is_outside(self, pending: Pending) -> bool:
        is_new = self._known(pending.conversation_id) is None
        return is_new and self._since is not None and pending.time is not None and pending.time < self._since

    def unread_folders(self, wanted: Iterable[Pending]) -> list[str]:
        """Name the folders of agents' days to list, so that history is not looked up one by one."""
        folders = {keys.day_folder_of(one.folder) for one in wanted if self._is_history(one)}
        return sorted(folders - self._folders.keys())

    def learn(self, folders: Mapping[str, frozenset[str]]) -> None:
        """Take which conversations have a record, folder by folder."""
        self._folders.update(folders)
        for oldest in list(self._folders)[:-FOLDERS]:
            del self._folders[oldest]

    def to_look_up(self, wanted: Iterable[Pending]) -> list[Pending]:
        """Pick the conversations whose record is to be read: it may be there, and is to be named in an entry."""
        return [one for one in wanted if not self._is_history(one) or (self._has_record(one) and self._is_ours(one))]

    def _is_history(self, pending: Pending) -> bool:
        """Whether a conversation lies before what a scheduled listing looks at."""
        if pending.conversation_id in self._carried:
            return False
        start = self.listing.horizon.start
        return start is None or pending.time is None or pending.time < start

    def _has_record(self, pending: Pending) -> bool:
        return pending.folder in self._folders.get(keys.day_folder_of(pending.folder), frozenset())

    def _is_ours(self, pending: Pending) -> bool:
        """Whether a record that is found is adopted, not just counted: no complete listing has passed it yet."""
        start = self._before.horizon(self.policy.overlap_ms)
        is_recent = start is None or (pending.time is not None and pending.time >= start)
        return is_recent or self._known(pending.conversation_id) is not None

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Take the entries of conversations that turned out to be settled: a crashed run's or another run's work."""
        for entry in entries:
            self._alive += 1
            self._name(entry, self._at(entry))

    def begin(self, wanted: Iterable[Pending]) -> list[Pending]:
        """Give what is to be fetched now of the conversations that may need work."""
        work = []
        for pending in wanted:
            name = pending.conversation_id
            if name in self._sealed:
                continue
            if self._is_history(pending) and self._has_record(pending):
                self._final["already_settled"] += 1
                self._outcomes.pop(name, None)
                self._alive += 1
                self._sealed.add(name)
                continue
            self._at_work.add(name)
            self._pending[name] = pending
            work.append(pending)
        return work

    def carried(self) -> Iterator[list[Pending]]:
        """Give the pending conversations that the listing did not show, in batches; count those that must wait."""
        due = []
        for name, pending in self.head.state.pending.items():
            if name in self._shown or not self._covers(pending):
                continue
            self._carried.add(name)
            if pending.is_due(self.started_at) and not self._is_free_to_watch(pending):
                due.append(pending)
            else:
                self._outcomes[name] = self._wait(pending)
        for start in range(0, len(due), BATCH_SIZE):
            yield due[start : start + BATCH_SIZE]

    def _covers(self, pending: Pending) -> bool:
        return self.agent_id is None or pending.agent_id == self.agent_id or self.scope in pending.scopes

    def _is_free_to_watch(self, pending: Pending) -> bool:
        """Whether a call in progress will be seen by the next listing anyhow."""
        start = self.listing.horizon.start
        is_recent = start is not None and (pending.time is None or pending.time >= start)
        return self.policy.is_open(pending.status) and is_recent and not self.listing.to_the_end

    # What has become of it

    def judge(
        self, work: Sequence[Pending], conversations: Sequence[Answer], recordings: Sequence[Answer], now: datetime
    ) -> list[tuple[str, Record]]:
        """Take the answers; give the records to seal, each with its folder. The others stay pending."""
        self._weigh(work, conversations)
        records = []
        for before, conversation, recording in zip(work, conversations, recordings, strict=True):
            pending = settlement.with_answers(before, conversation, recording, self.policy)
            name = pending.conversation_id
            self._pending[name] = pending
            if self._is_other(pending):
                self._at_work.discard(name)
                self._outcomes[name] = self._drop(pending)
                continue
            verdict = settlement.judge(
                pending, conversation, may_be_gone=self._alive > self._not_found, policy=self.policy
            )
            if verdict.is_settled:
                record = settlement.record(pending, verdict, source=self.source, writer=self.writer, now=now)
                records.append((pending.folder, record))
            else:
                self._keep(settlement.waiting(pending, (conversation, recording), now, self.policy))
        return records

    def _weigh(self, work: Sequence[Pending], conversations: Sequence[Answer]) -> None:
        """Count the archive's own conversations that answer, against those that are not found."""
        for pending, answer in zip(work, conversations, strict=True):
            self._alive += answer.answered and pending.conversation_id in self.head.state.pending
            self._not_found += answer.probe is not None and answer.probe.error_type == "not_found"

    def _is_other(self, pending: Pending) -> bool:
        """Whether a call in progress has ended with a status that is not archived."""
        return not self.policy.is_open(pending.status) and pending.status not in self.policy.statuses

    def settle(self, records: Sequence[tuple[str, Record]], entries: Sequence[Entry], now: datetime) -> None:
        """Take the entries of the records that were sealed; a conversation without one stays pending, failed."""
        sealed = {entry.conversation_id: entry for entry in entries}
        for _, record in records:
            entry = sealed.get(record.conversation_id)
            if entry is not None:
                self._name(entry, self._at(entry))
                continue
            failure = Failure(reason="unavailable", message="its record could not be stored")
            pending = self._pending[record.conversation_id]
            self._keep(settlement.waiting(pending, [Answer(failure=failure)], now, self.policy))

    def _keep(self, pending: Pending) -> None:
        self._at_work.discard(pending.conversation_id)
        self._outcomes[pending.conversation_id] = self._wait(pending)

    def _wait(self, pending: Pending) -> str:
        name = pending.conversation_id
        self._pending[name] = pending
        self._dropped.discard(name)
        self._recent.pop(name, None)
        return "failed" if pending.failed else "pending"

    def _drop(self, pending: Pending) -> str:
        """A conversation of a status that is not archived is pending no more."""
        name = pending.conversation_id
        if self._known(name) is not None:
            self._pending.pop(name, None)
            self._dropped.add(name)
        self._remember(pending, settled=False)
        return "other_status"

    def _at(self, entry: Entry) -> Pending | Entry:
        return self._known(entry.conversation_id) or entry

    def _name(self, entry: Entry, seen: Pending | Entry) -> None:
        """Name a settled conversation in the manifest."""
        name = entry.conversation_id
        self._entries.append(entry)
        self._sealed.add(name)
        self._at_work.discard(name)
        self._pending.pop(name, None)
        self._outcomes[name] = entry.outcome
        time = seen.time if isinstance(seen, Pending) else entry.start_timestamp
        if name not in self._carried:
            self._remember_at(name, time, settled=True)

    def _remember(self, pending: Pending, *, settled: bool) -> None:
        self._remember_at(pending.conversation_id, pending.time, settled=settled)

    def _remember_at(self, name: str, time: int | None, *, settled: bool) -> None:
        """Name a conversation in `recent`, so that the next run need not ask the store for it."""
        time = milliseconds(self.started_at) if time is None else time
        if time >= self._recent_from():
            self._recent[name] = Recent(conversation_id=name, time=time, settled=settled)

    def _recent_from(self) -> int:
        """From when on conversations are remembered: the watermark that this run will leave, less the overlap."""
        return (self._watermark() or 0) - self.policy.overlap_ms

    def _forget_old(self) -> None:
        start = self._recent_from()
        self._recent = {name: one for name, one in self._recent.items() if one.time >= start}

    def _watermark(self) -> int | None:
        """How far the scope is when the listing turns out complete."""
        if self.listing.newest is None:
            return self._before.watermark
        seen = min(self.listing.newest, milliseconds(self.started_at))
        return seen if self._before.watermark is None else max(self._before.watermark, seen)

    # What is committed

    @property
    def part_is_full(self) -> bool:
        """Whether enough has been done for a manifest of its own."""
        return len(self._entries) + len(self._pending) - len(self._at_work) >= PART_SIZE

    def draft(self, now: datetime, *, final: bool) -> Draft:
        """Say what to commit: all that was done since the last part. Only the final part moves the scope."""
        pending = {name: one for name, one in self._pending.items() if name not in self._at_work}
        changes = Changes(
            scope=self.scope,
            before=self._before,
            after=self._after() if final else self._before,
            settled=frozenset(self._sealed | self._dropped),
            pending=pending,
        )
        return Draft(
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
            listing=self.listing.note(),
            counts=self.counts(),
            entries=self._entries,
            changes=changes,
            overlap=self.policy.overlap_ms,
        )

    def counts(self) -> dict[str, int]:
        """Count the part's conversations: listed + carried = the sum of all others."""
        counted = Counter(self._outcomes.values()) + self._final
        carried = len(self._carried & self._outcomes.keys())
        return {
            "listed": counted.total() - carried,
            "carried": carried,
            **{outcome: counted[outcome] for outcome in OUTCOMES},
        }

    def _after(self) -> Scope:
        """The scope as the run leaves it: what was shown is remembered, and only a complete listing moves the rest."""
        before, listing = self._before, self.listing
        recent = {name: one for name, one in before.recent.items() if name not in self._pending} | self._recent
        if not listing.complete:
            return replace(before, recent=recent, statuses=before.statuses & self.policy.statuses)
        return Scope(
            watermark=self._watermark(),
            total=listing.total,
            order=listing.order if listing.to_the_end else before.order,
            floor=self._since if before.watermark is None else before.floor,
            statuses=self.policy.statuses if listing.to_the_end else before.statuses & self.policy.statuses,
            recent=recent,
        )

    @property
    def done(self) -> Counter[str]:
        """All that was counted so far, in all parts."""
        return self.totals + Counter(self.counts())

    @property
    def progress(self) -> str:
        """Say in one line how far the run is."""
        done, total = self.done, self.listing.total
        of_total = "" if total is None else f" of {total:,}"
        settled = done["archived"] + done["archived_without_recording"]
        return f"{self.listing.unique:,}{of_total} listed, {settled:,} archived, {done['pending']:,} pending"

    @property
    def summary(self) -> Summary:
        """What the run came to, once its last part is committed."""
        return Summary(
            scope=self.scope,
            counts={name: self.totals[name] for name in ("listed", "carried", *OUTCOMES)},
            complete=self.listing.complete,
            missing=self.listing.missing,
            pages=self.listing.note().pages,
            head=self.head.link,
            sequence=self.head.sequence,
        )

    def committed(self, head: Head) -> None:
        """Go on from the manifest that was written."""
        self.totals.update(self.counts())
        at_work = {name: one for name, one in self._pending.items() if name in self._at_work}
        self.head = head
        self.part += 1
        self._begin_part()
        self._pending = at_work
