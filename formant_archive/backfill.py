"""A backfill under way: which of its plan's shards are done, which are to be begun, and which are given up.

Whether a shard is done is not asked of who runs it: the manifests say so.
"""

from collections import Counter, deque

from formant_archive.plan import Plan
from formant_archive.worklists import Progress

#: How often a shard is begun in all.
ATTEMPTS = 3


class Backfill:
    """A backfill under way.

    Attributes:
        plan: What is to be done.
        given_up: Shards that ended without a manifest as often as they may.
    """

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self._progress = progress
        self._attempts = Counter[int]()
        self._waiting = deque(number for number in range(1, len(plan.shards) + 1) if number not in progress.done)
        self.given_up: set[int] = set()

    def begin(self) -> tuple[int, int] | None:
        """Give the next shard to begin and which attempt it is; None where there is none now."""
        while self._waiting:
            number = self._waiting.popleft()
            # It may have been the slow one of two attempts that has done it.
            if number not in self._progress.done:
                self._attempts[number] += 1
                return number, self._attempts[number]
        return None

    def is_done(self, number: int) -> bool:
        """Whether a shard has committed its manifest."""
        return number in self._progress.done

    def ended(self, number: int) -> None:
        """A shard's run is over, or taken for lost: where no manifest says that it is done, it is begun again."""
        if self.is_done(number):
            return
        if self._attempts[number] < ATTEMPTS:
            self._waiting.append(number)
        else:
            self.given_up.add(number)

    @property
    def percent(self) -> int:
        """How many of the shards are done, whole percents."""
        return 100 * len(self._progress.done) // max(1, len(self.plan.shards))

    @property
    def counts(self) -> dict[str, int]:
        """The counts of all the shards' manifests, added up."""
        return dict(self._progress.counts)

    @property
    def exit_code(self) -> int:
        """0 where every shard is done and no conversation failed."""
        is_whole = len(self._progress.done) == len(self.plan.shards)
        return int(not is_whole or bool(self.counts.get("failed")))

    @property
    def sentence(self) -> str:
        """Say in one line how far it is, counts only."""
        counts = Counter(self._progress.counts)
        settled = counts["archived"] + counts["archived_without_recording"]
        parts = [f"{len(self._progress.done):,} of {len(self.plan.shards):,} shards done", f"{settled:,} archived"]
        names = ("archived_without_recording", "gone", "adopted", "already_settled", "pending", "failed")
        parts += [f"{counts[name]:,} {name.replace('_', ' ')}" for name in names if counts[name]]
        if self.given_up:
            parts.append(f"{len(self.given_up):,} shards given up: go on with --resume {self.plan.plan_id}")
        return ", ".join(parts)
