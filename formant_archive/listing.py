"""Pages of the list → references: nothing missed, little asked.

The API lists by offset, without a cursor, in an order that nobody promised, while rows come, go and change. So a
listing is made of passes over the pages, and these rules decide when it may end and whether it was complete:

- A pass ends with an empty page or one that shows nothing new to it, unless rows came on top and pushed it there; a
  hundred such pages in a row end it all the same. `has_more` and a short page prove nothing.
- A pass in which the API's `total` shrank (rows may have slid past us), or which saw fewer conversations than `total`
  promised, is repeated: three passes at most.
- A listing to the end is complete when at least as many conversations were seen as the last pass promised: by its
  first `total` where it came newest first, so that what came later came on top; else by its highest, because a row
  that moved while the list was read may be missed as another one is added. What earlier passes saw counts too, where
  `total` has never changed: else a row that went could stand in for one that was missed.
- A scheduled listing stops early only where `Horizon.allows_stop` says so; it is complete when the pass that reached
  the horizon did not shrink.

No I/O here: `Listing` says which page it wants and is handed what came. A row's time is its start, else its end. A row
without either says nothing about the order, and never keeps a page from being old.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from formant_archive.manifest import ListingNote, Scope
from formant_archive.notes import Notes
from formant_archive.records import Reference

PAGE_SIZE = 100
PASSES = 3
#: Pages that are asked for at once where the list is followed to its end.
PAGES_AT_ONCE = 10
#: Milliseconds by which two starts may be out of order in a list that is sorted by when calls were placed.
JITTER = 60_000
#: Pages in a row that may show nothing new because rows came on top: where a whole page comes before every request,
#: each page shows the same rows, for ever.
IDLE_PAGES = 100
#: Statuses that are told from one another; FormantAI documents seven.
STATUSES = 1000


@dataclass
class Sweep:
    """One pass over the pages: what it has seen so far. Times are epoch ms.

    Attributes:
        offset: Rows read so far, and so where the next page begins.
        totals: The API's `total`, page by page.
        seen: How many conversations it has shown.
        idle: How many pages in a row have shown nothing new, up to here.
        lowest: The earliest time so far.
        newest_first: No row was later than the earliest before it by more than the overlap.
        sorted: No row was later than the earliest before it by more than a jitter.
        first_page_newest: The latest time on the first page.
        page: The times on the latest page.
        ended: An empty page, or one with nothing new, was reached.
        stopped: The horizon allowed to stop.
    """

    offset: int = 0
    totals: list[int] = field(default_factory=list)
    seen: int = 0
    idle: int = 0
    lowest: int | None = None
    newest_first: bool = True
    sorted: bool = True
    first_page_newest: int | None = None
    page: Sequence[int] = ()
    ended: bool = False
    stopped: bool = False

    @property
    def shrank(self) -> bool:
        """Whether `total` ever fell from one page to the next."""
        return any(later < earlier for earlier, later in zip(self.totals, self.totals[1:], strict=False))

    @property
    def may_have_slid(self) -> bool:
        """Whether rows that came on top can be why a page shows nothing new, and the end is still to come."""
        return self.idle < IDLE_PAGES and max(self.totals) > max(self.totals[0], self.offset)

    @property
    def promised(self) -> int:
        """How many conversations must have been seen in the end."""
        return self.totals[0] if self.sorted else max(self.totals)

    @property
    def fell_short(self) -> bool:
        """Whether it came to the end and saw fewer conversations than `total` had promised."""
        return self.ended and self.seen < self.promised

    def follow(self, times: Sequence[int], overlap: int) -> None:
        """Take the times on a page, in its order."""
        for time in times:
            if self.lowest is not None:
                self.newest_first &= time <= self.lowest + overlap
                self.sorted &= time <= self.lowest + JITTER
            self.lowest = time if self.lowest is None else min(self.lowest, time)
        if not self.totals:
            self.first_page_newest = max(times, default=None)
        self.page = times


@dataclass(frozen=True)
class Horizon:
    """How far back a scheduled listing must look, and whether it may stop there.

    Attributes:
        start: Epoch ms: the watermark less the overlap; None where a listing must go to the end.
        total: The API's lowest `total` in the last complete listing of the scope.
        newest_first: Whether the last listing to the end came newest first.
    """

    start: int | None = None
    total: int | None = None
    newest_first: bool = False

    def lies_before(self, times: Sequence[int]) -> bool:
        """Whether a page with these times is wholly older than what a scheduled listing must see."""
        return self.start is not None and bool(times) and max(times) < self.start

    def allows_stop(self, sweep: Sweep, fresh: int) -> bool:
        """Say whether everything that can be new has been seen, given a pass up to here.

        All of these must hold: the list is known to come newest first, and did so in this pass; its first page reached
        the horizon, so that it really begins at the new end; a whole page lies before the horizon; and `total` has
        grown by no more than the new conversations that were seen (`fresh`), so that nothing appeared late, deep in
        the list.
        """
        return (
            self.start is not None
            and self.newest_first
            and sweep.newest_first
            and sweep.first_page_newest is not None
            and sweep.first_page_newest >= self.start
            and self.lies_before(sweep.page)
            and self.total is not None
            and max(sweep.totals) - self.total <= fresh
        )


class News(NamedTuple):
    """What a page shows for the first time in a run: conversations, and changes of status of earlier ones."""

    new: list[Reference]
    changed: list[Reference]


class Listing:
    """One run's listing of one scope.

    Args:
        scope: `all` or `agent_id=123`.
        before: The scope's state, as the newest manifest has it.
        known: Ids that the scope's listings have shown and that are pending now.
        overlap: Milliseconds.
        now: Our clock when the listing begins, epoch ms; what a row without any time counts as.
        full: Whether to go to the end in any case.
        since: The `since` of the run, for the note; rows are not filtered here.
    """

    def __init__(
        self,
        scope: str,
        before: Scope,
        *,
        known: frozenset[str],
        overlap: int,
        now: int,
        full: bool,
        since: int | None,
    ) -> None:
        start = None if full else before.horizon(overlap)
        self.scope = scope
        self.horizon = Horizon(start, before.total, before.order == "newest_first")
        self.newest: int | None = None
        self._failed = False
        self._known = known | before.recent.keys()
        self._overlap = overlap
        self._now = now
        self._since = since
        # For each id the status that it was shown with last, and the pass that showed it.
        self._seen = Notes()
        self._statuses: list[str] = []
        self._fresh = 0
        self._sweep = Sweep()
        self._totals: set[int] = set()
        self._passes = 1
        self._pages = self._rows = 0

    @property
    def offset(self) -> int | None:
        """Where the next page begins, or None when the listing is over."""
        over = self._failed or self._sweep.ended or self._sweep.stopped
        return None if over else self._sweep.offset

    @property
    def pages_ahead(self) -> int:
        """How many pages from `offset` on can be asked for at once without asking for one too many."""
        if self.total is None or (self.horizon.start is not None and self.horizon.newest_first):
            return 1
        return max(1, min(PAGES_AT_ONCE, -(-(self.total - self._sweep.offset) // PAGE_SIZE)))

    @property
    def complete(self) -> bool:
        """Whether nothing that was there all along can be missing."""
        if self._failed or self.offset is not None:
            return False
        return not self._sweep.shrank if self._sweep.stopped else not self.missing

    @property
    def to_the_end(self) -> bool:
        """Whether the list was followed to its end."""
        return self._sweep.ended

    @property
    def order(self) -> Literal["newest_first", "other"] | None:
        """The order that the list came in; None where it was not followed to its end."""
        if not self.to_the_end:
            return None
        return "newest_first" if self._sweep.newest_first else "other"

    @property
    def unique(self) -> int:
        """Conversations seen."""
        return len(self._seen)

    @property
    def missing(self) -> int | None:
        """How many conversations the API promised and has not shown; None where the end was not reached."""
        if not self.to_the_end:
            return None
        seen = self.unique if len(self._totals) == 1 else self._sweep.seen
        return max(0, self._sweep.promised - seen)

    @property
    def total(self) -> int | None:
        """The API's latest `total`."""
        return self._sweep.totals[-1] if self._sweep.totals else None

    @property
    def total_shown(self) -> int | None:
        """The lowest `total` of the last pass: rows that came while it went on may not have been seen."""
        return min(self._sweep.totals, default=None)

    def fail(self) -> None:
        """End the listing where it is: a page could not be had."""
        self._failed = True

    def take(self, references: Sequence[Reference], total: int) -> News:
        """Take a page; give what it shows that earlier pages did not."""
        sweep = self._sweep
        times = [one.time for one in references if one.time is not None]
        self._totals.add(total)
        sweep.follow(times, self._overlap)
        sweep.totals.append(total)
        sweep.offset += len(references)
        news = self._note(references, is_old=self.horizon.lies_before(times))
        self._pages += 1
        self._rows += len(references)
        sweep.stopped = not sweep.ended and self.horizon.allows_stop(sweep, self._fresh)
        if (sweep.ended or sweep.stopped) and (sweep.shrank or sweep.fell_short) and self._passes < PASSES:
            self._sweep = Sweep()
            self._passes += 1
        return news

    def _note(self, references: Sequence[Reference], *, is_old: bool) -> News:
        """Remember a page's rows."""
        sweep, news = self._sweep, News([], [])
        before = sweep.seen
        for reference in references:
            name, status = reference.conversation_id, self._number_of(reference.status)
            last_status, last_pass = divmod(self._seen[name], PASSES + 1)
            if not last_pass:
                news.new.append(reference)
                if name not in self._known:
                    self._fresh += self._is_new(reference, is_old=is_old)
            elif last_status != status:
                news.changed.append(reference)
            self._seen[name] = status * (PASSES + 1) + self._passes
            sweep.seen += last_pass != self._passes
            time = self._now if reference.time is None else reference.time
            self.newest = time if self.newest is None else max(self.newest, time)
        sweep.idle = sweep.idle + 1 if sweep.seen == before else 0
        sweep.ended = not references or (sweep.idle > 0 and not sweep.may_have_slid)
        return news

    def _number_of(self, status: str) -> int:
        """Number a status; those that come after very many others are not told from one another."""
        if status not in self._statuses and len(self._statuses) < STATUSES:
            self._statuses.append(status)
        return self._statuses.index(status) if status in self._statuses else STATUSES

    def _is_new(self, reference: Reference, *, is_old: bool) -> bool:
        """Whether a row lies at or after the horizon; one without a time lies where its page does."""
        if reference.time is None or self.horizon.start is None:
            return not is_old
        return reference.time >= self.horizon.start

    def note(self) -> ListingNote:
        """Say what was seen, for the manifest."""
        return ListingNote(
            scope=self.scope,
            order=self.order,
            full=self.to_the_end,
            since=self._since,
            pages=self._pages,
            rows=self._rows,
            unique=self.unique,
            total_first=self._sweep.totals[0] if self._sweep.totals else None,
            total_last=self.total,
            complete=self.complete,
        )
