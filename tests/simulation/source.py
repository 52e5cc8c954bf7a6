"""The source: FormantAI as it may be on its worst day. It changes while it is read, it lies, and it fails.

`moment` is the schedule's step, for what was there all along while somebody read; times are epoch ms.
"""

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

import httpx

from tests.simulation.schedule import Process

KEY = "simulated-key"
#: What must never leave a conversation's body.
PHONE, PHRASE = "+919812345678", "the crocodile sings at noon"

Kind = Literal["conversation", "recording"]
Order = Literal["newest_first", "oldest_first", "by_update", "shuffled"]
MINUTE, HOUR = 60_000, 3_600_000

_OTHERS = ("failed", "busy", "no_answer")
_NOT_FOUND = b'{"error":{"type":"not_found","message":"none"}}'


@dataclass
class Call:
    """One conversation at the source.

    Attributes:
        name: Its id.
        agent: Who called.
        start: Epoch ms, or None.
        status: As the list says now.
        updated: When it last changed.
        born: The moment at which the list first showed it; None while it is held back.
        died: The moment at which it was deleted.
        audio_from: From when its recording is there; None for never.
        transcript_from: Likewise.
        results_from: Likewise.
        is_broken: Its recording is cut off at the source, for good.
    """

    name: str
    agent: int
    start: int | None
    status: str
    updated: int
    born: int | None
    audio_from: int | None
    transcript_from: int | None
    results_from: int | None
    is_broken: bool = False
    died: int | None = None

    @property
    def is_listed(self) -> bool:
        return self.born is not None and self.died is None

    @property
    def audio(self) -> bytes:
        """The recording as it is served: a second of noise that no other conversation has."""
        samples = hashlib.sha256(self.name.encode()).digest() * 4
        whole = wav(samples)
        return whole[:-20] if self.is_broken else whole

    @property
    def row(self) -> dict[str, Any]:
        return {
            "conversation_id": self.name,
            "agent_id": self.agent,
            "status": self.status,
            "start_timestamp": self.start,
            "end_timestamp": None,
            "duration_seconds": None,
            "contact_number": PHONE,
        }

    def body(self, now: int) -> bytes:
        transcript = (
            [{"role": "agent", "content": f"{PHRASE}, {self.name}"}] if is_there(self.transcript_from, now) else None
        )
        results = {"mood": "good"} if is_there(self.results_from, now) else None
        return json.dumps({"data": {**self.row, "transcript": transcript, "results": results}}).encode()


def wav(samples: bytes) -> bytes:
    """A whole WAV file: 8 kHz, 16 bit, mono."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(samples))
        + b"WAVE"
        + form
        + struct.pack("<4sI", b"data", len(samples))
        + samples
    )


def is_there(since: int | None, now: int) -> bool:
    return since is not None and since <= now


@dataclass(frozen=True)
class Habits:
    """How a source behaves, for one seed.

    Attributes:
        order: How it sorts.
        page_limit: Rows on a page, whatever was asked for.
        lies: How often a page lies about `has_more`, or is empty.
        lies_about_total: Whether it lies about `total` too; nobody can tell a complete list then.
        faults: How often a request fails.
        deletes: Whether rows go.
        reorders: Whether the order changes while it is read.
        grows: Whether rows come.
        grows_anywhere: Whether rows come late, among older ones.
        by_link: Whether recordings are behind a redirect.
    """

    order: Order
    page_limit: int
    lies: float
    lies_about_total: bool
    faults: float
    deletes: bool
    reorders: bool
    grows: bool
    grows_anywhere: bool
    by_link: bool

    @classmethod
    def drawn(cls, dice: Random) -> "Habits":
        order: Order = dice.choices(("newest_first", "oldest_first", "by_update", "shuffled"), (5, 2, 2, 1))[0]
        deletes = order in ("newest_first", "by_update") and dice.random() < 0.5
        reorders = order == "shuffled" and dice.random() < 0.5
        return cls(
            order=order,
            page_limit=dice.randint(2, 5),
            lies=dice.choice((0, 0.3, 0.6)),
            lies_about_total=dice.random() < 0.3,
            faults=dice.choice((0.1, 0.3, 0.45)),
            deletes=deletes,
            reorders=reorders,
            grows=not reorders,
            # Rows that go while as many come further down, between the same two pages, leave no trace in `total`, and
            # no listing by offset can tell in as many requests: docs/reliability.md does not promise it.
            grows_anywhere=not (deletes or reorders),
            by_link=dice.random() < 0.3,
        )


class Source:
    """All conversations of one workspace, and how they are served.

    Attributes:
        calls: By id, the deleted ones too.
        served: The hashes of every whole payload that was ever served, by id and kind.
        missed: When a payload was asked for in vain (epoch ms by the asker's clock), by id and kind.
        faults: How many requests failed, and how many pages lied.
        has_lied: Whether any page lied about `total`.
        is_calm: No faults, no lies, no changes.
    """

    def __init__(self, dice: Random, now: Callable[[], int], moment: Callable[[], int]) -> None:
        self.habits = Habits.drawn(dice)
        self._dice, self._now, self.moment = dice, now, moment
        self.calls: dict[str, Call] = {}
        self.served: dict[tuple[str, Kind], set[str]] = {}
        self.missed: dict[tuple[str, Kind], set[int]] = {}
        self.faults: Counter[str] = Counter()
        self.has_lied = self.is_calm = False
        self._shuffle = self._cuts = 0
        for _ in range(dice.randint(2, 9)):
            self._add(now() - dice.randint(0, 60 * HOUR))

    # What happens at the source

    def move(self) -> None:
        """Let one thing happen."""
        if self.is_calm:
            return
        happens = self._dice.choices(
            (self._ring, self._end, self._reveal, self._touch, self._delete, self._reorder), (4, 4, 2, 3, 2, 1)
        )[0]
        happens()

    def calm(self) -> None:
        """Show everything, end every call, and fail no more."""
        self.is_calm = True
        for call in self.calls.values():
            call.born = self.moment() if call.born is None else call.born
            if call.status == "in_progress":
                self._complete(call)

    def _ring(self) -> None:
        if self.habits.grows and len(self.calls) < 14:
            self._add(self._now())

    def _add(self, start: int) -> None:
        dice, now = self._dice, self._now()
        number = len(self.calls)
        is_late, is_timeless = dice.random() < 0.1, dice.random() < 0.05
        status = dice.choices(("completed", "in_progress", dice.choice(_OTHERS)), (7, 2, 1))[0]
        wait = (0, 0, 0, 5 * MINUTE, 3 * HOUR)
        self.calls[f"call-{number}"] = Call(
            name=f"call-{number}",
            agent=dice.choice((1, 2)),
            start=None if is_timeless and self.habits.grows_anywhere else start,
            status=status,
            updated=now,
            born=None if is_late and self.habits.grows_anywhere else self.moment(),
            audio_from=None if dice.random() < 0.1 else now + dice.choice(wait),
            transcript_from=None if dice.random() < 0.05 else now + dice.choice(wait),
            results_from=None if dice.random() < 0.1 else now + dice.choice(wait),
            is_broken=dice.random() < 0.05,
        )

    def _end(self) -> None:
        if going := [call for call in self.calls.values() if call.status == "in_progress"]:
            self._complete(self._dice.choice(going))

    def _complete(self, call: Call) -> None:
        call.status = "completed"
        call.updated = self._now()

    def _reveal(self) -> None:
        if held := [call for call in self.calls.values() if call.born is None]:
            call = self._dice.choice(held)
            call.born, call.updated = self.moment(), self._now()

    def _touch(self) -> None:
        if listed := self.listed():
            self._dice.choice(listed).updated = self._now()

    def _delete(self) -> None:
        if self.habits.deletes and self._dice.random() < 0.5 and (listed := self.listed()):
            self._dice.choice(listed).died = self.moment()

    def _reorder(self) -> None:
        self._shuffle += self.habits.reorders

    def listed(self, agent: int | None = None) -> list[Call]:
        """The rows of the list, in its order."""
        rows = [call for call in self.calls.values() if call.is_listed and agent in (None, call.agent)]
        keys: dict[Order, Callable[[Call], Any]] = {
            "newest_first": lambda call: -(call.start or 0),
            "oldest_first": lambda call: call.start or 0,
            "by_update": lambda call: -call.updated,
            "shuffled": lambda call: hashlib.sha256(f"{self._shuffle}{call.name}".encode()).digest(),
        }
        return sorted(rows, key=keys[self.habits.order])

    # How it is served

    def answer(self, request: httpx.Request, clock_ms: int) -> httpx.Response:
        """Answer a request, badly at times.

        Raises:
            httpx.ReadError: The connection broke.
        """
        path = request.url.path
        if not path.startswith("/link/") and request.headers.get("authorization") != f"Bearer {KEY}":
            raise AssertionError("the key did not come along")
        if path.startswith("/link/") and "authorization" in request.headers:
            raise AssertionError("the key went where it does not belong")
        if not self.is_calm and self._dice.random() < self.habits.faults:
            return self._fail(request, path, clock_ms)
        return self._regular(request, path, clock_ms)

    def _regular(self, request: httpx.Request, path: str, clock_ms: int) -> httpx.Response:
        if path == "/v1/conversations":
            return self._page(parse_qs(request.url.query.decode()))
        name = unquote(path.rpartition("/v1/conversations/")[2])
        if path.startswith("/link/"):
            return self._payload(path.removeprefix("/link/"), "recording", clock_ms)
        if not name.endswith("/recording"):
            return self._payload(name, "conversation", clock_ms)
        name = name.removesuffix("/recording")
        call = self.calls[name]
        if self.habits.by_link and call.died is None and is_there(call.audio_from, self._now()):
            return httpx.Response(302, headers={"Location": f"/link/{name}"}, stream=httpx.ByteStream(b""))
        return self._payload(name, "recording", clock_ms)

    def _payload(self, name: str, kind: Kind, clock_ms: int) -> httpx.Response:
        call = self.calls[name]
        if call.died is not None or (kind == "recording" and not is_there(call.audio_from, self._now())):
            self.missed.setdefault((name, kind), set()).add(clock_ms)
            return answered(404, _NOT_FOUND)
        body = call.audio if kind == "recording" else call.body(self._now())
        self.served.setdefault((name, kind), set()).add(hashlib.sha256(body).hexdigest())
        return answered(200, body)

    def _page(self, asked: dict[str, list[str]]) -> httpx.Response:
        agent = int(asked["agent_id"][0]) if "agent_id" in asked else None
        offset, limit = int(asked["offset"][0]), min(int(asked["limit"][0]), self.habits.page_limit)
        rows = self.listed(agent)
        page, total = rows[offset : offset + limit], len(rows)
        has_more = offset + limit < total
        if not self.is_calm and self._dice.random() < self.habits.lies:
            self.faults["lie"] += 1
            lie = self._dice.choices(("has_more", "empty", "total"), (3, 1, 3 * self.habits.lies_about_total))[0]
            self.has_lied |= lie == "total"
            if lie == "total":
                total = max(0, total + self._dice.choice((-3, -1, 1, 2, 1000)))
            elif lie == "has_more":
                has_more = not has_more
            else:
                page = []
        return answered(
            200, json.dumps({"data": [call.row for call in page], "has_more": has_more, "total": total}).encode()
        )

    def _fail(self, request: httpx.Request, path: str, clock_ms: int) -> httpx.Response:
        faults = ("refused", "500", "429", "html", "dropped", "cut", "short", "other")
        fault = self._dice.choices(faults, (0.05, 3, 2, 1, 2, 2, 3, 1))[0]
        self.faults[fault] += 1
        if fault == "refused":
            return answered(401, b"{}")
        if fault == "500":
            return answered(self._dice.choice((500, 502, 503)), b"oops")
        if fault == "429":
            return answered(429, b"{}", {"Retry-After": str(self._dice.randint(0, 90))})
        if fault == "html":
            return answered(200, b"<html>please log in</html>")
        if fault == "dropped":
            raise httpx.ReadError("dropped", request=request)
        if fault == "other" and path != "/v1/conversations":
            body = Call("somebody-else", 1, 0, "completed", 0, 0, 0, 0, 0).body(self._now())
            return answered(200, body)
        regular = self._regular(request, path, clock_ms)
        body = b"".join(regular.iter_raw())
        # Each cut at another place: audio that comes twice the same is rightly archived as it is.
        self._cuts += 1
        kept = body[: max(1, len(body) - 1 - self._cuts)]
        if regular.status_code != httpx.codes.OK or fault == "short":
            return answered(regular.status_code, kept)
        return httpx.Response(200, headers={"Content-Length": str(len(body))}, stream=_Cut(kept, request))


class _Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, kept: bytes, request: httpx.Request) -> None:
        self._kept, self._request = kept, request

    def __iter__(self) -> Iterator[bytes]:
        yield self._kept
        raise httpx.ReadError("cut", request=self._request)


def answered(status: int, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer whose length is the one that it announces."""
    return httpx.Response(
        status, headers={"Content-Length": str(len(body)), **(headers or {})}, stream=httpx.ByteStream(body)
    )


class Wire(httpx.BaseTransport):
    """A run's way to the source: each request is a step, and none asks again for a recording that is not there."""

    def __init__(self, source: Source, process: Process, clock_ms: Callable[[], int]) -> None:
        self._source, self._process, self._clock_ms = source, process, clock_ms
        self._missed: set[str] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._process.step(f"GET {request.url.raw_path.decode()}")
        path = request.url.path
        if path in self._missed:
            raise AssertionError(f"I11: {path} was asked for again after a 404")
        response = self._source.answer(request, self._clock_ms())
        if path.endswith("/recording") and response.status_code == httpx.codes.NOT_FOUND:
            self._missed.add(path)
        return response
