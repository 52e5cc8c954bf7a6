"""A backfill of all history, planned and archived by one process."""

from typing import Any

from benchmarks import contact, measure
from flows.backfill import backfill_agents


def work(conversations: int) -> None:
    """Archive all conversations.

    Raises:
        RuntimeError: The flow failed, or did not archive as many as there are.
    """
    state = backfill_agents(all_agents=True, return_state=True)
    counts: Any = getattr(state.data, "result", state.data)
    if not state.is_completed() or counts["archived"] != conversations:
        raise RuntimeError(f"of {conversations} conversations: {state.type.value}, {state.message}")


if __name__ == "__main__":
    measure.run(contact.hello, work)
