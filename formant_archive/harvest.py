"""What a run has done since its last commit: the conversations of one manifest, each under its latest outcome."""

from collections import Counter
from collections.abc import Set as AbstractSet

from formant_archive.manifest import OUTCOMES
from formant_archive.notes import Notes
from formant_archive.records import Entry, Pending


class Harvest:
    """The makings of one manifest.

    Attributes:
        entries: The settled conversations as lines, which are a tenth of the entries in memory.
        pending: The conversations that the run has touched and that are not settled, those at work included.
        sealed: The ids of those that are settled.
        dropped: The ids of those that were pending and are of a status that is not archived.
    """

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.pending: dict[str, Pending] = {}
        self.sealed: set[str] = set()
        self.dropped: set[str] = set()
        self._outcomes: dict[str, str] = {}
        self._nameless: Counter[str] = Counter()
        # Of a status that is not archived, and never pending: most of some lists, and remembered in a few bytes each.
        self._passed_by = Notes()

    def count(self, outcome: str) -> None:
        """Count a conversation without its name: its outcome is final, and most of a long history is like it."""
        self._nameless[outcome] += 1

    def wait(self, pending: Pending) -> None:
        """A conversation is to be waited for."""
        name = pending.conversation_id
        self._reconsider(name)
        self.pending[name] = pending
        self._outcomes[name] = "failed" if pending.failed else "pending"

    def begin(self, pending: Pending) -> None:
        """A conversation is at work: whatever it was counted as before, its outcome is open."""
        self._reconsider(pending.conversation_id)
        self.pending[pending.conversation_id] = pending

    def settle(self, entry: Entry) -> None:
        """A conversation is settled, and named in the manifest."""
        name = entry.conversation_id
        self._reconsider(name)
        self.entries.append(entry.line())
        self.sealed.add(name)
        self.pending.pop(name, None)
        self._outcomes[name] = entry.outcome

    def pass_by(self, name: str) -> None:
        """A conversation turned out to be settled long ago: counted, not named."""
        self._reconsider(name)
        self.pending.pop(name, None)
        self.count("already_settled")

    def drop(self, pending: Pending, *, was_pending: bool) -> None:
        """A conversation is of a status that is not archived, and so not pending either."""
        name = pending.conversation_id
        self._reconsider(name)
        self.pending.pop(name, None)
        if was_pending:
            self.dropped.add(name)
            self._outcomes[name] = "other_status"
        else:
            self._passed_by[name] = True
            self.count("other_status")

    def _reconsider(self, name: str) -> None:
        """Whatever a conversation was counted as before, its outcome is open."""
        self._outcomes.pop(name, None)
        self.dropped.discard(name)
        if self._passed_by and self._passed_by[name]:
            self._passed_by[name] = False
            self._nameless["other_status"] -= 1

    def counts(self, carried: AbstractSet[str]) -> dict[str, int]:
        """Count the conversations: listed + carried = the sum of all outcomes."""
        counted = Counter(self._outcomes.values()) + self._nameless
        were_carried = len(carried & self._outcomes.keys())
        return {
            "listed": counted.total() - were_carried,
            "carried": were_carried,
            **{outcome: counted[outcome] for outcome in OUTCOMES},
        }
