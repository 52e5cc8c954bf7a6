"""What goes back over the wire, before any server touches it."""

import dataclasses
import http
import threading
from collections.abc import Iterable, Iterator, Mapping

from formant_archive.simulator.conversations import as_json

JSON = "application/json"
WAV = "audio/wav"

_ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication_error",
    403: "authentication_error",
    404: "not_found",
    405: "invalid_request",
    409: "duplicate_request",
    429: "rate_limit_exceeded",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: The HTTP status, or 0 for a connection that breaks before any answer.
        body: The bytes that are sent.
        content_type: The `Content-Type`, unless `headers` has another one.
        headers: More headers.
        length: The `Content-Length` where it is to lie, in bytes.
        delay: Seconds before the answer begins.
        drip: Seconds before each byte of the body.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    length: int | None = None
    delay: float = 0
    drip: float = 0

    @property
    def status_line(self) -> str:
        """The status as WSGI wants it: `404 Not Found`."""
        known = self.status in http.HTTPStatus.__members__.values()
        return f"{self.status} {http.HTTPStatus(self.status).phrase if known else 'Unknown'}"

    @property
    def header_list(self) -> list[tuple[str, str]]:
        """All headers; where a name comes twice, in whatever case, the last one counts."""
        length = len(self.body) if self.length is None else self.length
        own = {"Content-Type": self.content_type, "Content-Length": str(length)}
        return list({name.lower(): (name, value) for name, value in [*own.items(), *self.headers.items()]}.values())

    def with_headers(self, headers: Mapping[str, str]) -> "Answer":
        """The same answer with more headers, where it has not its own of the name."""
        return dataclasses.replace(self, headers={**headers, **self.headers}) if headers else self

    def chunks(self, closing: threading.Event) -> Iterable[bytes]:
        """The body in the pieces in which it is sent; a slow one ends early when the server closes."""
        return self._drops(closing) if self.drip else [self.body]

    def _drops(self, closing: threading.Event) -> Iterator[bytes]:
        for at in range(len(self.body)):
            wait(closing, self.drip)
            yield self.body[at : at + 1]


def envelope(status: int, message: str) -> Answer:
    """An error as the API documents it, of the type that belongs to the status."""
    kind = _ERROR_TYPES.get(status, "internal_error")
    return Answer(status, as_json({"error": {"message": message, "type": kind}}))


def wait(closing: threading.Event, seconds: float) -> None:
    """Sleeps.

    Raises:
        ConnectionResetError: The server is closing.
    """
    if seconds and closing.wait(seconds):
        raise ConnectionResetError("the simulator is closing")
