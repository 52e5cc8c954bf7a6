"""How a scope moves on while a run lists it: what is remembered of it, and how far its watermark goes in the end."""

from dataclasses import replace

from formant_archive.listing import Listing
from formant_archive.manifest import Scope
from formant_archive.policy import Policy
from formant_archive.records import Recent, Reference

#: Remembered conversations are thinned out whenever there are more than so many.
MANY = 10_000


class Advance:
    """A scope on its way from what it was to what the run leaves.

    Args:
        before: The scope as the run found it.
        listing: The run's listing of it.
        policy: The rules of waiting.
        since: Epoch ms; what started before is left out.
        now: When the run began, epoch ms.
    """

    def __init__(self, before: Scope, listing: Listing, policy: Policy, *, since: int | None, now: int) -> None:
        self._before = before
        self._listing = listing
        self._policy = policy
        self._since = since
        self._now = now
        self._recent: dict[str, Recent] = {}

    def remember(self, conversation: Reference, *, settled: bool) -> None:
        """Name a conversation in `recent`, so that the next run need not ask the store for it."""
        time = self._now if conversation.time is None else conversation.time
        if time >= self._recent_from():
            name = conversation.conversation_id
            self._recent[name] = Recent(conversation_id=name, time=time, settled=settled)
        if len(self._recent) > MANY:
            self._forget_old()

    def forget(self, name: str) -> None:
        """A conversation is pending after all."""
        self._recent.pop(name, None)

    def _forget_old(self) -> None:
        start = self._recent_from()
        self._recent = {name: one for name, one in self._recent.items() if one.time >= start}

    def _recent_from(self) -> int:
        """From when on conversations are remembered: the watermark that this run will leave, less the overlap."""
        return (self._watermark() or 0) - self._policy.overlap_ms

    def _watermark(self) -> int | None:
        """How far the scope is when the listing turns out complete."""
        before = self._before.watermark
        if self._listing.newest is None:
            return before
        seen = min(self._listing.newest, self._now)
        return seen if before is None else max(before, seen)

    def after(self, pending: set[str]) -> Scope:
        """The scope as the run leaves it. Only a complete listing moves the watermark, and what goes with it."""
        before, listing = self._before, self._listing
        recent = {name: one for name, one in before.recent.items() if name not in pending} | self._recent
        if not listing.complete:
            return replace(before, recent=recent, statuses=before.statuses & self._policy.statuses)
        return Scope(
            watermark=self._watermark(),
            total=listing.total_shown,
            order=listing.order if listing.to_the_end else before.order,
            floor=self._since,
            statuses=self._policy.statuses if listing.to_the_end else before.statuses & self._policy.statuses,
            recent=recent,
        )
