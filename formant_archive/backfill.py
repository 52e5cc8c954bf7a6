"""A backfill under way: which of its plan's shards are done, which are to be begun, and which are given up.

Whether a shard is done is not asked of who runs it: the manifests say so.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping

from formant_archive.plan import Plan
from formant_archive.records import Pending
from formant_archive.worklists import Progress

#: How often a shard is begun in all.
ATTEMPTS = 3


class Backfill:
    """A backfill under way.

    Attributes:
        plan: What is to be done.
        progress: Which of its shards are done.
    """

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self.progress = progress
        self._attempts = Counter[int]()
        self._waiting = deque(range(1, len(plan.shards) + 1))
        self._given_up: set[int] = set()

    def begin(self) -> tuple[int, int] | None:
        """Give the next shard to begin and which attempt it is; None where there is none now."""
        while self._waiting:
            number = self._waiting.popleft()
            # Done by an earlier backfill of the plan; or by the slow one of two attempts.
            if number not in self.progress.done:
                self._attempts[number] += 1
                return number, self._attempts[number]
        return None

    def is_done(self, number: int) -> bool:
        """Whether a shard has committed its manifest."""
        return number in self.progress.done

    def ended(self, number: int) -> None:
        """A shard's run is over, or taken for lost: where no manifest says that it is done, it is begun again."""
        if self.is_done(number):
            return
        if self._attempts[number] < ATTEMPTS:
            self._waiting.append(number)
        else:
            self._given_up.add(number)

    @property
    def given_up(self) -> set[int]:
        """Shards that ended without a manifest as often as they may, and were not done after all by a slow attempt."""
        return self._given_up - self.progress.done

    @property
    def percent(self) -> int:
        """How many of the shards are done, whole percents."""
        shards = len(self.plan.shards)
        return 100 * len(self.progress.done) // shards if shards else 100

    @property
    def counts(self) -> dict[str, int]:
        """The counts of all the shards' manifests, added up."""
        return self.progress.counts

    @property
    def exit_code(self) -> int:
        """0 where every shard is done and no conversation failed."""
        is_whole = len(self.progress.done) == len(self.plan.shards)
        return int(not is_whole or bool(self.counts.get("failed")))

    @property
    def sentence(self) -> str:
        """Say in one line how far it is, counts only."""
        counts = Counter(self.counts)
        settled = counts["archived"] + counts["archived_without_recording"]
        parts = [f"{len(self.progress.done):,} of {len(self.plan.shards):,} shards done", f"{settled:,} archived"]
        if without := counts["archived_without_recording"]:
            parts[-1] += f" ({without:,} without a recording)"
        names = ("gone", "adopted", "already_settled", "other_status", "pending")
        parts += [f"{counts[name]:,} {name.replace('_', ' ')}" for name in names if counts[name]]
        if counts["failed"]:
            parts.append(f"{counts['failed']:,} failed (tried again by the next scheduled run)")
        if self.given_up:
            many = "shard" if len(self.given_up) == 1 else "shards"
            parts.append(f"{len(self.given_up):,} {many} given up: go on with --resume {self.plan.plan_id}")
        return ", ".join(parts)

    @property
    def message(self) -> str:
        """Say how it ended, and with which head: to be noted where whoever could rewrite the archive cannot reach."""
        head = self.progress.pinned_head
        return f"{self.sentence}; head {head}" if head else self.sentence


def is_outage(counts: Mapping[str, int], pending: Iterable[Pending]) -> bool:
    """Whether nothing at all of a shard could be had: it is begun again, not left to the scheduled runs.

    One conversation alone says nothing of the API: the scheduled runs wait for it.

    Args:
        counts: What the shard is about to commit.
        pending: What it would leave pending.
    """
    return counts["failed"] == counts["listed"] > 1 and all(one.reason == "unavailable" for one in pending)
