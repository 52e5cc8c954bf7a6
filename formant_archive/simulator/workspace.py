"""All conversations of one simulated workspace, in the list's order, while they come, change and go."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from formant_archive.simulator.conversations import Conversation, sort_fields
from formant_archive.simulator.dice import dice
from formant_archive.simulator.population import Population


class Workspace:
    """The conversations behind one key. Safe to use from many threads."""

    def __init__(self, population: Population, now: Callable[[], int]) -> None:
        self._population = population
        self._now = now
        self._lock = threading.RLock()
        self._made = population.conversations
        self._rows = population.history(now())
        self._by_id = {each.conversation_id: each for each in self._rows}
        self._of_agent: dict[int, list[Conversation]] = {}

    @property
    def conversations(self) -> list[Conversation]:
        """The conversations in the list's order: a list of its own, of the conversations themselves."""
        with self._lock:
            return list(self._rows)

    def find(self, conversation_id: str) -> Conversation | None:
        """The conversation of an id, or None."""
        return self._by_id.get(conversation_id)

    def page(self, agent_id: int | None, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The list's rows from `offset` on, and how many there are in all."""
        with self._lock:
            rows = self._rows if agent_id is None else self._rows_of(agent_id)
            return [each.listed for each in rows[offset : offset + limit]], len(rows)

    def add(self, n: int, given: dict[str, Any]) -> list[Conversation]:
        """Makes `n` conversations that start now, with the fields given, and lists them where they belong."""
        with self._lock:
            return [self._add(sort_fields(given)) for _ in range(n)]

    def delete(self, conversation_id: str) -> None:
        """Forgets a conversation."""
        with self._lock:
            self._rows.remove(self._by_id.pop(conversation_id))
            self._of_agent.clear()

    def change(self, conversation_id: str, given: dict[str, Any]) -> Conversation:
        """Gives a conversation other fields. It keeps its place in the list, and its id."""
        with self._lock:
            conversation = self._by_id[conversation_id]
            fields = sort_fields(given)
            for name, value in fields.items():
                setattr(conversation, name, conversation.body | value if name == "body" else value)
            self._of_agent.clear()
            return conversation

    def release(self) -> None:
        """Lets everything late come, and ends the calls in progress."""
        with self._lock:
            for each in self._rows:
                each.release()

    def _rows_of(self, agent_id: int) -> Sequence[Conversation]:
        if agent_id not in self._of_agent:
            self._of_agent[agent_id] = [each for each in self._rows if each.agent_id == agent_id]
        return self._of_agent[agent_id]

    def _add(self, fields: dict[str, Any]) -> Conversation:
        now = self._now()
        start = fields.get("start_timestamp")
        made = self._population.conversation(
            self._made,
            fields.get("status", "completed"),
            now,
            start=now if start is None else start,
            seconds=fields.get("seconds"),
        )
        for name, value in fields.items():
            setattr(made, name, value)
        if made.conversation_id in self._by_id:
            raise ValueError("there is a conversation of this id already")
        self._made += 1
        self._rows.insert(self._place(made), made)
        self._by_id[made.conversation_id] = made
        self._of_agent.clear()
        return made

    def _place(self, made: Conversation) -> int:
        if self._population.order == "shuffled":
            return dice(self._population.seed, "place", self._made).randint(0, len(self._rows))
        newest_first = self._population.order == "newest_first"
        rows = self._rows if newest_first else reversed(self._rows)
        newer = next((at for at, each in enumerate(rows) if each.listed_at <= made.listed_at), len(self._rows))
        return newer if newest_first else len(self._rows) - newer
