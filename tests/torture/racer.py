"""A process that archives when it is told to, without Prefect: one of several over the same archive.

It reads what to do as a line of JSON, says that it is ready, waits for the line `go`, and says when it is done. It
lives for many rounds, because loading its modules takes longer than a round.
"""

import json
import sys
from datetime import UTC, datetime
from uuid import uuid4

from formant_archive.client import FormantClient
from formant_archive.stores import open_store
from tests import plain


def main() -> None:
    """Take part in one round after the other, until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        client = FormantClient(order["api"], "simulated-key")
        store = open_store(order["archive"])
        say("ready")
        assert sys.stdin.readline() == "go\n"
        with client:
            plain.archive(client, store, now, agent_id=order["agent_id"], run_id=str(uuid4()))
        say("done")


def now() -> datetime:
    return datetime.now(UTC)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
