"""A FormantAI Voice API that runs on this machine: deterministic from a seed, faults on order.

It is what `formant-archive simulate` serves, the counterpart of every test, and the server of the demo and
the benchmark. It answers as FormantAI documents its API, and where the documentation is silent it can be told
to answer either way. Nothing in it is real: the people, the numbers, the voices are made from the seed.

    sim = Simulator(conversations=10)
    httpx.Client(transport=httpx.WSGITransport(app=sim))    # in process
    with sim.serve() as base_url: ...                       # on a port

Rules: the bytes of a conversation change only when a caller says so; recordings are made when they are asked
for and never kept; nothing here knows anything of the archive.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from formant_archive.simulator.answers import wait
from formant_archive.simulator.api import Api
from formant_archive.simulator.conversations import Conversation
from formant_archive.simulator.faults import Fault, FaultBook
from formant_archive.simulator.population import NOT_COMPLETED, Order, Population
from formant_archive.simulator.rate import RateWindow
from formant_archive.simulator.routing import Kind, Request, read_request
from formant_archive.simulator.script import SPOKEN
from formant_archive.simulator.serving import CLOSING, on_port
from formant_archive.simulator.workspace import Workspace

__all__ = ["NOT_COMPLETED", "SPOKEN", "Conversation", "Fault", "Request", "Simulator"]

_NEVER = threading.Event()


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class Simulator:
    """FormantAI's API and its one workspace, as a WSGI application. Safe to use from many threads.

    Attributes:
        fault: Orders a fault: `sim.fault(kind="recording", status=503, times=2)`. The arguments are
            `Fault`'s. It strikes after the key and the rate limit were checked.
    """

    def __init__(
        self,
        seed: int = 0,
        conversations: int = 100,
        agents: Sequence[int] = (101, 102, 103),
        *,
        api_key: str = "simulated-key",
        now: Callable[[], int] = _epoch_ms,
        order: Order = "newest_first",
        completed: float = 0.7,
        in_progress: int = 0,
        late_recordings: float = 0.0,
        never_recordings: float = 0.0,
        late_transcripts: float = 0.0,
        late_results: float = 0.0,
        spread_hours: float = 72,
        audio_seconds: tuple[float, float] = (2, 20),
        page_limit: int = 100,
        rate_limit: int | None = None,
        rate_window_seconds: float = 60,
    ) -> None:
        """Makes the workspace.

        Args:
            seed: Everything follows from it, and from `now`.
            conversations: How many there are to begin with.
            agents: The agents that called, in turn.
            api_key: The key that is accepted.
            now: The clock: epoch milliseconds.
            order: How the list is sorted.
            completed: The share of the conversations not in progress that completed. The rest is spread
                evenly over the six other documented statuses.
            in_progress: How many of the conversations are still in progress.
            late_recordings: The share of the completed ones whose recording comes with `release()`.
            never_recordings: The share of the completed ones that have no recording, ever.
            late_transcripts: The share of the completed ones whose transcript is null until `release()`.
            late_results: The share of the completed ones whose results are null until `release()`.
            spread_hours: The starts are spread over so many hours before now.
            audio_seconds: The shortest and the longest recording, in seconds (16 kB each).
            page_limit: The most rows on a page.
            rate_limit: Requests in a window, or None for no limit and no `X-RateLimit` headers.
            rate_window_seconds: The window's length. The first request after a window opens the next one.

        Raises:
            ValueError: A share is none, or the shares are more than the whole.
        """
        population = Population(
            seed=seed,
            conversations=conversations,
            agents=agents,
            order=order,
            completed=completed,
            in_progress=in_progress,
            late_recordings=late_recordings,
            never_recordings=never_recordings,
            late_transcripts=late_transcripts,
            late_results=late_results,
            spread_hours=spread_hours,
            audio_seconds=audio_seconds,
        )
        self._workspace = Workspace(population, now)
        self._faults = FaultBook(seed)
        self.fault = self._faults.taking(Fault)
        window = RateWindow(rate_limit, rate_window_seconds, now)
        self._api = Api(self._workspace, self._faults, window, key=api_key, page_limit=page_limit, seed=seed)
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    @property
    def before_page(self) -> Callable[[int], object] | None:
        """Called with the page's number before the list is answered, and before the list's faults.

        The number counts from 1, by offset and limit. A test inserts or deletes rows there.
        """
        return self._api.before_page

    @before_page.setter
    def before_page(self, hook: Callable[[int], object] | None) -> None:
        self._api.before_page = hook

    @property
    def conversations(self) -> list[Conversation]:
        """The truth, in the list's order."""
        return self._workspace.conversations

    @property
    def faults(self) -> list[Fault]:
        """The faults that have not run out."""
        return self._faults.left

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order in which they were answered."""
        with self._lock:
            return list(self._requests)

    def count(self, kind: Kind | None = None) -> int:
        """How many requests there were: of a kind, or at all."""
        return sum(kind in (None, request.kind) for request in self.requests)

    def forget_requests(self) -> None:
        """Begins to count anew."""
        with self._lock:
            self._requests.clear()

    def find(self, conversation_id: str) -> Conversation:
        """The conversation of an id.

        Raises:
            KeyError: There is none.
        """
        if (found := self._workspace.find(conversation_id)) is None:
            raise KeyError(conversation_id)
        return found

    def add(self, n: int = 1, **fields: Any) -> list[Conversation]:
        """Lets calls happen: completed, with everything there, begun now, on top of a newest-first list.

        Args:
            n: How many.
            **fields: Whatever is to be different: `Conversation`'s attributes, and `transcript`, `results`,
                `failure_reason`, `trace_id` as they are to be served. A start that is given is also the place
                in the list.

        Returns:
            The new conversations, oldest first.
        """
        return self._workspace.add(n, fields)

    def change(self, conversation_id: str, **fields: Any) -> Conversation:
        """Changes a conversation where it stands in the list.

        Args:
            conversation_id: Which one.
            **fields: As for `add`. No end follows from a start, and nothing from a status.

        Raises:
            KeyError: There is none of this id.
        """
        return self._workspace.change(conversation_id, fields)

    def delete(self, conversation_id: str) -> None:
        """Removes a conversation: from the list, and itself.

        Raises:
            KeyError: There is none of this id.
        """
        self._workspace.delete(conversation_id)

    def release(self) -> None:
        """Makes everything late available, and completes the calls in progress."""
        self._workspace.release()

    def heal(self) -> None:
        """Withdraws all faults that are left."""
        self._faults.heal()

    def serve(self, port: int = 0) -> contextlib.AbstractContextManager[str]:
        """Serves on 127.0.0.1 for as long as the context lasts, which gives the base URL.

        Args:
            port: The port, or 0 for any free one.

        Raises:
            OSError: The port is taken.
        """
        return on_port(self, port)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request, as WSGI has it.

        Raises:
            ConnectionResetError: A fault was ordered that drops the connection.
        """
        closing = environ.get(CLOSING, _NEVER)
        ask = read_request(environ, self._workspace.find)
        answer = self._api.answer(ask)
        with self._lock:
            self._requests.append(ask.answered(answer.status))
        wait(closing, answer.delay)
        if answer.status == 0:
            raise ConnectionResetError("a simulated fault")
        start_response(answer.status_line, answer.header_list)
        return answer.chunks(closing)
