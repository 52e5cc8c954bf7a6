"""A list of very many rows, made as they are asked for: `python -m benchmarks.rows <rows> 0 <ms>`.

None of them is to be archived. It prints its address, and serves until its standard input is closed.
"""

import json
import sys
import time
import uuid
from collections.abc import Iterable
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

from formant_archive.simulator.serving import on_port

#: Milliseconds between two rows' starts.
APART = 60_000


class Rows:
    """The API's list as an application."""

    def __init__(self, total: int, newest: int, delay: float) -> None:
        self._total, self._newest, self._delay = total, newest, delay

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a page of the list."""
        time.sleep(self._delay)
        asked = {name: int(values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        offset, limit = asked.get("offset", 0), asked.get("limit", 20)
        rows = [self._row(number) for number in range(offset, min(offset + limit, self._total))]
        page = {"data": rows, "has_more": offset + limit < self._total, "total": self._total}
        body = json.dumps(page).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def _row(self, number: int) -> dict[str, object]:
        return {
            "conversation_id": f"{uuid.UUID(int=number)}_1",
            "agent_id": 101 + number % 4,
            "status": "busy",
            "start_timestamp": self._newest - number * APART,
            "end_timestamp": None,
            "duration_seconds": None,
            "contact_number": "+910000000000",
        }


def main() -> None:
    """Serve the rows."""
    total, delay = int(sys.argv[1]), float(sys.argv[3]) / 1000
    with on_port(Rows(total, round(time.time() * 1000) - APART, delay), 0) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
