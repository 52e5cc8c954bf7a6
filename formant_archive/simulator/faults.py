"""Faults on order: what the simulator is to do wrong, how often, and to whom."""

import dataclasses
import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import ParamSpec

from formant_archive.simulator.answers import Answer, envelope
from formant_archive.simulator.conversations import as_json
from formant_archive.simulator.dice import dice
from formant_archive.simulator.routing import Kind

_P = ParamSpec("_P")


@dataclasses.dataclass(kw_only=True, eq=False)
class Fault:
    """One thing that goes wrong with each request that it matches, until it has run out.

    Without `status`, `body`, `redirect` or `drop`, the request is answered as always, and then the answer is
    spoilt.

    Attributes:
        kind: Requests of this kind; None for all, also presigned ones.
        conversation_id: Requests about this conversation; None for all.
        times: So many requests. None is 1, or without end where there is a `share`.
        share: This share of the requests, drawn from the seed, the path and query, and how often these were
            asked for: the same ones whatever the order in which threads ask. 1.0 is every request until
            `heal()`.
        status: This status, with the API's own error envelope where there is no `body`.
        body: These bytes instead, with status 200 where there is no `status`.
        content_type: Of `body` (`application/json` where it is not given).
        headers: More headers, or others.
        redirect: True: 302 to a presigned URL of the simulator's own, which serves the recording without a
            key. A text: 302 to there. `status` replaces the 302.
        drop: The connection breaks before any answer. In process, the caller sees `ConnectionResetError`;
            over a port, the server closes the connection without a byte.
        total: The list says that it has so many rows.
        has_more: What the list says about more rows.
        gzip: The body is compressed, and `Content-Encoding` says so.
        truncate_to: Only so many bytes are sent, though `Content-Length` speaks of all of them.
        honest_length: `Content-Length` speaks of the bytes that are sent after `truncate_to`.
        delay: Seconds before the answer begins.
        drip: Seconds before each byte of the body.
        used: How many requests it has hit.
    """

    kind: Kind | None = None
    conversation_id: str | None = None
    times: int | None = None
    share: float | None = None
    status: int | None = None
    body: bytes | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    redirect: bool | str = False
    drop: bool = False
    total: int | None = None
    has_more: bool | None = None
    gzip: bool = False
    truncate_to: int | None = None
    honest_length: bool = False
    delay: float = 0
    drip: float = 0
    used: int = dataclasses.field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.redirect is True and self.kind not in ("recording", "presigned"):
            raise ValueError("only a recording is redirected to a presigned URL: set kind='recording'")
        if self.times is None and self.share is None:
            self.times = 1

    @property
    def left(self) -> int | None:
        """How many more requests it will hit, or None where there is no end."""
        return None if self.times is None else max(self.times - self.used, 0)

    def matches(self, kind: Kind, conversation_id: str) -> bool:
        """Whether it is meant for such a request."""
        return self.kind in (None, kind) and self.conversation_id in (None, conversation_id)

    def spoil(self, regular: Callable[[], Answer], presign: Callable[[], str]) -> Answer:
        """Makes the faulty answer.

        Args:
            regular: Gives the answer that there would be without the fault.
            presign: Gives a new presigned URL.
        """
        answer = self._instead(presign) or self._about_page(regular())
        body = gzip.compress(answer.body, mtime=0) if self.gzip else answer.body
        headers = {**answer.headers, **({"Content-Encoding": "gzip"} if self.gzip else {}), **self.headers}
        sent = body[: self.truncate_to]
        return dataclasses.replace(
            answer,
            body=sent,
            headers=headers,
            length=len(sent if self.honest_length else body),
            delay=self.delay,
            drip=self.drip,
        )

    def _instead(self, presign: Callable[[], str]) -> Answer | None:
        if self.drop:
            return Answer(0)
        if self.redirect:
            location = self.redirect if isinstance(self.redirect, str) else presign()
            return Answer(self.status or 302, headers={"Location": location})
        if self.body is not None:
            return Answer(self.status or 200, self.body, self.content_type or "application/json")
        if self.status is not None:
            return envelope(self.status, "a simulated fault")
        return None

    def _about_page(self, answer: Answer) -> Answer:
        lies = {"total": self.total, "has_more": self.has_more}
        told = {name: value for name, value in lies.items() if value is not None}
        return dataclasses.replace(answer, body=as_json(json.loads(answer.body) | told)) if told else answer


class FaultBook:
    """All faults on order. The first that matches a request takes it, and no other sees it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._ordered = 0
        self._left: dict[int, Fault] = {}
        self._asked: Counter[tuple[int, str]] = Counter()

    @property
    def left(self) -> list[Fault]:
        """The faults that have not run out, in the order in which they were asked for."""
        with self._lock:
            return list(self._left.values())

    def taking(self, make: Callable[_P, Fault]) -> Callable[_P, Fault]:
        """Turns what makes a fault into what orders one, with the same arguments."""

        def order(*args: _P.args, **kwargs: _P.kwargs) -> Fault:
            fault = make(*args, **kwargs)
            with self._lock:
                self._ordered += 1
                if fault.left != 0:
                    self._left[self._ordered] = fault
            return fault

        return order

    def heal(self) -> None:
        """Withdraws every fault."""
        with self._lock:
            self._left.clear()

    def take(self, kind: Kind, conversation_id: str, url: str) -> Fault | None:
        """Finds the fault that a request runs into, and counts it.

        Args:
            kind: The request's kind.
            conversation_id: The conversation that it is about.
            url: Its path and query.
        """
        with self._lock:
            for number, fault in self._left.items():
                if fault.matches(kind, conversation_id) and self._hits(number, fault, url):
                    fault.used += 1
                    if fault.left == 0:
                        del self._left[number]
                    return fault
        return None

    def _hits(self, number: int, fault: Fault, url: str) -> bool:
        if fault.share is None:
            return True
        self._asked[number, url] += 1
        return dice(self._seed, number, url, self._asked[number, url]).random() < fault.share
