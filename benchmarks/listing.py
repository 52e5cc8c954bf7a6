"""A first run over rows of which none is to be archived."""

from typing import Any

from benchmarks import contact, measure
from flows.archive import archive_conversations


def work(rows: int) -> None:
    """List all rows.

    Raises:
        RuntimeError: The flow failed, or did not list as many as there are.
    """
    state = archive_conversations(return_state=True)
    counts: Any = getattr(state.data, "result", state.data)
    if not state.is_completed() or counts["listed"] != rows:
        raise RuntimeError(f"of {rows} rows: {state.type.value}, {state.message}")


if __name__ == "__main__":
    measure.run(contact.hello, work)
