"""A backfill's plan: what the source lists of some agents, less what the archive holds, cut into shards.

`Planner` does no I/O: the flow lists, looks into folders and stores for it, as it does for a `Run`. A plan is a working
paper, no evidence: what a shard has archived is in its manifest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from formant_archive import keys
from formant_archive.errors import ListingIncomplete, UsageError
from formant_archive.folders import Folders
from formant_archive.ledger import Head, check_source
from formant_archive.listing import Listing
from formant_archive.manifest import ListingNote, PartLink, Scope
from formant_archive.policy import Policy
from formant_archive.records import Frozen, Instant, Pending, Reference, canonical, milliseconds
from formant_archive.run import scope_of

#: Bytes of a second of audio as telephones have it (8 kHz, 16 bit, mono), and of a conversation's body and record.
AUDIO_BYTES, TEXT_BYTES = 16_000, 4_000
#: What becomes of a listed conversation; `to_do` is in the shards.
OUTCOMES = ("to_do", "settled", "waited_for", "open", "other_status", "outside")


def _all_outcomes(counts: dict[str, int]) -> dict[str, int]:
    if counts.keys() != set(OUTCOMES):
        raise ValueError("a plan counts each outcome, and nothing else")
    return counts


class Plan(Frozen):
    """A backfill's plan, as it lies in the archive.

    Attributes:
        plan_id: The plan's own id.
        source: The API's base URL.
        sequence: The newest manifest when the plan was made; 0 in an empty archive.
        since: What started before this (epoch ms) is left out.
        until: What started at this time (epoch ms) or later is left out.
        made_at: When.
        listings: What was listed; each of them complete.
        counts: What becomes of what was listed, see `OUTCOMES`.
        seconds: Of audio, as listed, in what is to do.
        shard_size: Conversations of a shard; the last may have fewer.
        shards: The worklists; the first is number 1. None where the plan was not kept.
    """

    format: Literal["formant-archive/plan/1"] = "formant-archive/plan/1"
    plan_id: str
    source: str
    sequence: int
    since: int | None
    until: int | None
    made_at: Instant
    listings: tuple[ListingNote, ...]
    counts: Annotated[dict[str, int], AfterValidator(_all_outcomes)]
    seconds: int
    shard_size: Annotated[int, Field(ge=1)]
    shards: tuple[PartLink, ...]

    def body(self) -> bytes:
        """Write the plan's bytes."""
        return canonical(self.model_dump(mode="json"))

    @property
    def bytes(self) -> int:
        """About how many bytes there are to fetch."""
        return self.seconds * AUDIO_BYTES + self.counts["to_do"] * TEXT_BYTES

    @property
    def requests(self) -> int:
        """How many requests there are to make: two for each conversation."""
        return 2 * self.counts["to_do"]

    @property
    def sentence(self) -> str:
        """Say it in one line, counts only."""
        shards = ceil(self.counts["to_do"] / self.shard_size)
        return told(self.counts, f" in {shards:,} {'shard' if shards == 1 else 'shards'}")

    def estimate(self, a_minute: int | None) -> str:
        """Say how much there is to fetch, and how long it takes at so many requests a minute.

        Args:
            a_minute: The API's limit as it was last told, taken for one of a minute; None where it told none.
        """
        size = f"about {self.bytes / 1e9:,.1f} GB ({self.seconds / 3600:,.0f} h of audio), {self.requests:,} requests"
        if a_minute is None:
            return f"{size}; the API tells no rate limit"
        return f"{size}: {ceil(self.requests / a_minute):,} min at {a_minute:,} requests a minute"


def told(counts: Mapping[str, int], how: str = "") -> str:
    """Say in one line what becomes of what was listed."""
    parts = [f"{sum(counts.values()):,} listed", f"{counts['to_do']:,} to archive{how}"]
    parts += [f"{counts[name]:,} {name.replace('_', ' ')}" for name in OUTCOMES[1:] if counts[name]]
    return ", ".join(parts)


class Planner:
    """A plan in the making.

    Args:
        head: The newest manifest.
        plan_id: The plan's own id.
        policy: Which statuses are archived.
        source: The API's base URL.
        since: Epoch ms; what started before is left out.
        until: Epoch ms; what started at this time or later is left out.
        shard_size: Conversations of a shard.
        now: When the plan is made.
    """

    def __init__(
        self,
        head: Head,
        *,
        plan_id: str,
        policy: Policy,
        source: str,
        since: int | None,
        until: int | None,
        shard_size: int,
        now: datetime,
    ) -> None:
        check_source(head, source)
        self.plan_id = plan_id
        self._head, self._policy, self._source = head, policy, source
        self._since, self._until = since, until
        self._shard_size, self._now = shard_size, now
        self._folders = Folders()
        self._counts, self._of_earlier = Counter[str](), Counter[str]()
        self._seconds = 0
        self._rest: list[Reference] = []
        self._listings: list[ListingNote] = []
        self._shards: list[PartLink] = []

    def list_agent(self, agent_id: int | None) -> Listing:
        """Begin the listing of an agent, or of all."""
        return Listing(
            scope_of(agent_id),
            Scope(),
            known=frozenset(),
            overlap=self._policy.overlap_ms,
            now=milliseconds(self._now),
            full=True,
            since=self._since,
        )

    def take(self, listing: Listing, references: Sequence[Reference], total: int) -> list[Pending]:
        """Take a page of a list; give the conversations that may be to do, and count the others."""
        news = listing.take(references, total)
        # One whose status changed while the list was read was counted, and is the schedule's if it has ended just now.
        return [pending for one in news.new if (pending := self._sort(one))]

    def _sort(self, reference: Reference) -> Pending | None:
        time = reference.time
        is_early = self._since is not None and (time is None or time < self._since)
        is_late = self._until is not None and (time is None or time >= self._until)
        if is_early or is_late:
            self._counts["outside"] += 1
        elif self._policy.is_open(reference.status):
            self._counts["open"] += 1
        elif reference.status not in self._policy.statuses:
            self._counts["other_status"] += 1
        elif reference.conversation_id in self._head.state.pending:
            self._counts["waited_for"] += 1
        else:
            return Pending(**reference.model_dump(), folder=keys.folder(reference), first_seen_at=self._now)
        return None

    def unread_folders(self, wanted: Iterable[Pending]) -> list[str]:
        """Name the folders of agents' days to list."""
        return self._folders.unread(wanted)

    def learn(self, folders: Mapping[str, frozenset[str]]) -> None:
        """Take which conversations have a record, folder by folder."""
        self._folders.learn(folders)

    def add(self, wanted: Iterable[Pending]) -> None:
        """Take what may be to do of a page, once its folders are known."""
        for one in wanted:
            if self._folders.has_record(one):
                self._counts["settled"] += 1
            else:
                self._counts["to_do"] += 1
                self._seconds += max(0, round(one.duration_seconds or 0))
                self._rest.append(one.reference)

    def next_shard(self, *, is_last: bool) -> list[Reference] | None:
        """Give a shard that is full; in the end also one that is not."""
        if not self._rest or (len(self._rest) < self._shard_size and not is_last):
            return None
        shard, self._rest = self._rest[: self._shard_size], self._rest[self._shard_size :]
        return shard

    @property
    def next_number(self) -> int:
        """The number of the next shard to be stored."""
        return len(self._shards) + 1

    def stored(self, shard: PartLink) -> None:
        """A worklist was stored."""
        self._shards.append(shard)

    def finish(self, listing: Listing) -> str:
        """Note a listing that is over, and say in one line what there is to do of it.

        Raises:
            ListingIncomplete: It does not show all that the API promised: a plan made of it would leave gaps.
        """
        note = listing.note()
        if not note.complete:
            missing = listing.missing
            why = "could not be finished" if missing is None else f"lacks {missing:,} of what the API promised"
            raise ListingIncomplete(f"the list of {note.scope} {why}: nothing was planned, try again")
        self._listings.append(note)
        of_this, self._of_earlier = self._counts - self._of_earlier, self._counts.copy()
        return f"{note.scope}: {told(of_this)}"

    def plan(self) -> Plan:
        """Give the plan, once everything was listed and stored."""
        return Plan(
            plan_id=self.plan_id,
            source=self._source,
            sequence=self._head.sequence,
            since=self._since,
            until=self._until,
            made_at=self._now,
            listings=tuple(self._listings),
            counts={name: self._counts[name] for name in OUTCOMES},
            seconds=self._seconds,
            shard_size=self._shard_size,
            shards=tuple(self._shards),
        )


def check_plan(plan: Plan, source: str) -> None:
    """Refuse a plan that was made of another source: its ids mean nothing here.

    Raises:
        UsageError: It was.
    """
    if plan.source != source:
        raise UsageError(f"plan {plan.plan_id} is of {plan.source}, and FORMANT_BASE_URL says {source}: set it to that")


def check_number(plan: Plan, number: int) -> None:
    """Refuse a shard that the plan does not have.

    Raises:
        UsageError: It does not.
    """
    if not 1 <= number <= len(plan.shards):
        raise UsageError(f"plan {plan.plan_id} has the shards 1 to {len(plan.shards)}, not {number}")
