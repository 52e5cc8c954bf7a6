"""Who calls whom, when, and with what outcome: makes the conversations of a simulator from its seed."""

import dataclasses
import itertools
import uuid
from collections.abc import Iterable, Sequence
from typing import Literal

from formant_archive.simulator.conversations import Comes, Conversation
from formant_archive.simulator.dice import dice

Order = Literal["newest_first", "oldest_first", "shuffled"]

NOT_COMPLETED = ("failed", "busy", "no_answer", "socket_failure", "telephony_failed", "unreachable")
UNANSWERED = ("busy", "no_answer", "unreachable")

_COMES: dict[str, Comes] = {"completed": "now", "in_progress": "later"}

_HOUR_MS = 3_600_000
_IN_PROGRESS_MS = 300_000
# A prime, so that numbering the conversations by its multiples never gives two of them one phone number.
_PHONE_STEP = 2_654_435_761
_PHONE_NUMBERS = 4_000_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population:
    """What `Simulator` was asked for; its docstring explains each field."""

    seed: int
    conversations: int
    agents: Sequence[int]
    order: Order
    completed: float
    in_progress: int
    late_recordings: float
    never_recordings: float
    late_transcripts: float
    late_results: float
    spread_hours: float
    audio_seconds: tuple[float, float]

    def __post_init__(self) -> None:
        for name in ("completed", "late_recordings", "never_recordings", "late_transcripts", "late_results"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share: from 0 to 1")
        if self.late_recordings + self.never_recordings > 1:
            raise ValueError("late_recordings and never_recordings are more than all recordings")
        if not 0 <= self.in_progress <= self.conversations:
            raise ValueError("in_progress is more than all conversations")

    def history(self, now: int) -> list[Conversation]:
        """Makes the conversations that there are before anybody asks, in the list's order.

        Args:
            now: Epoch milliseconds.
        """
        made = [self.conversation(number, status, now) for number, status in enumerate(self._statuses())]
        completed = [conversation for conversation in made if conversation.status == "completed"]
        self._hold_back(completed)
        if self.order == "shuffled":
            dice(self.seed, "order").shuffle(made)
        else:
            made.sort(key=lambda each: each.listed_at, reverse=self.order == "newest_first")
        return made

    def conversation(
        self, number: int, status: str, now: int, *, start: int | None = None, seconds: float | None = None
    ) -> Conversation:
        """Makes the conversation of a number.

        Args:
            number: What tells one conversation of the simulator from another.
            status: One of FormantAI's words, `in_progress`, or anything else.
            now: Epoch milliseconds.
            start: Epoch milliseconds, where it is not to be some time before now.
            seconds: How long the call takes, where it is not to be drawn.
        """
        random_numbers = dice(self.seed, number)
        identity = uuid.UUID(int=random_numbers.getrandbits(128), version=4)
        drawn_seconds = round(random_numbers.uniform(*self.audio_seconds), 3)
        seconds = drawn_seconds if seconds is None else seconds
        start = now - self._age(status, seconds, random_numbers.random()) if start is None else start
        comes = _COMES.get(status, "never")
        made = Conversation(
            seed=self.seed,
            conversation_id=f"{identity}_1",
            agent_id=self.agents[number % len(self.agents)],
            status=status,
            start_timestamp=start,
            end_timestamp=None,
            duration_seconds=None,
            contact_number=f"+91{6_000_000_000 + (number + 1) * _PHONE_STEP % _PHONE_NUMBERS}",
            seconds=seconds,
            listed_at=start,
            recording_comes=comes,
            transcript_comes=comes,
            results_come=comes,
        )
        _end(made)
        return made

    def _age(self, status: str, seconds: float, share: float) -> int:
        """How long ago a call began, in milliseconds: recently, or long enough to have ended."""
        if status == "in_progress":
            return round(share * _IN_PROGRESS_MS)
        return round(share * self.spread_hours * _HOUR_MS + 1000 * seconds)

    def _statuses(self) -> list[str]:
        ended = self.conversations - self.in_progress
        completed = round(self.completed * ended)
        others = itertools.islice(itertools.cycle(NOT_COMPLETED), ended - completed)
        statuses = ["in_progress"] * self.in_progress + ["completed"] * completed + list(others)
        dice(self.seed, "statuses").shuffle(statuses)
        return statuses

    def _hold_back(self, completed: Sequence[Conversation]) -> None:
        recordings = self._some(completed, "recordings", self.late_recordings + self.never_recordings)
        late = round(self.late_recordings * len(completed))
        for number, conversation in enumerate(recordings):
            conversation.recording_comes = "later" if number < late else "never"
        for conversation in self._some(completed, "transcripts", self.late_transcripts):
            conversation.transcript_comes = "later"
        for conversation in self._some(completed, "results", self.late_results):
            conversation.results_come = "later"

    def _some(self, completed: Sequence[Conversation], purpose: str, share: float) -> Iterable[Conversation]:
        return dice(self.seed, purpose).sample(completed, k=round(share * len(completed)))


def _end(made: Conversation) -> None:
    """Gives an ended call its end: some were never answered, and have neither an end nor a duration."""
    start = made.listed_at
    if made.status in ("completed", "socket_failure"):
        made.end_timestamp = start + round(1000 * made.seconds)
        made.duration_seconds = round(made.seconds)
    elif made.status in NOT_COMPLETED and made.status not in UNANSWERED:
        made.end_timestamp = start + 1000
        made.duration_seconds = 0
