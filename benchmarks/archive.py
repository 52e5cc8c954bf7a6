"""This project's flow, as a deployment runs it."""

from typing import Any

from benchmarks import contact, measure
from flows.archive import archive_conversations


def work(conversations: int) -> None:
    """Archive all conversations.

    Raises:
        RuntimeError: The flow failed, or did not archive as many as there are.
    """
    state = archive_conversations(return_state=True)
    counts: Any = getattr(state.data, "result", state.data)
    if not state.is_completed() or counts["archived"] != conversations:
        raise RuntimeError(f"of {conversations} conversations: {state.type.value}, {state.message}")


if __name__ == "__main__":
    measure.run(contact.hello, work)
