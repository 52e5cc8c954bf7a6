"""Somebody who is told by Prefect's automations: a webhook on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: A secret, as in the addresses of Slack and those like it.
PATH = "/services/T0/hook-9f2d51c0"


@dataclass
class Hook:
    """Somebody who is to be told.

    Attributes:
        url: With a secret in its path, as such addresses have.
        texts: What was posted.
    """

    url: str = ""
    texts: list[str] = field(default_factory=list)

    def heard(self, words: str) -> list[str]:
        """Give what was posted that holds these words."""
        return [text for text in self.texts if words in text]


@contextmanager
def listening() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_so = (self.path, self.headers["Content-Type"]) == (PATH, "application/json")
            if is_so:
                hook.texts.append(json.loads(body)["text"])
            self.send_response(200 if is_so else 400)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        hook.url = f"http://127.0.0.1:{http.server_port}{PATH}"
        yield hook
        http.shutdown()
