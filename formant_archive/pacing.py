"""How fast the API may be asked: its rate limit, learnt from its own answers and shared by all threads.

FormantAI tells of a window in `X-RateLimit-Limit`, `-Remaining` and `-Reset`; its length is not documented, other
processes spend from the same window, and the headers may be missing. So the pacer assumes nothing: until an answer
has told, requests go, as many at once as there are slots. A request that was sent and not answered yet is taken
as not counted in what the server last told, so that many threads together do not overshoot. What other processes have
under way nobody tells; but how fast the window empties does: where it has lost three requests for each answer of ours,
two others are at it. Each of theirs counts twice, because what the server last told us, they have not heard yet: each
request of ours is taken for five.

Waiting here is obedience, not a retry: it takes no attempt and none of a call's patience. A thread that sleeps holds
neither a slot nor the lock.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from formant_archive.errors import ApiUnavailable

#: Seconds that a request waits for the rate limit; a longer wait is somebody else's decision.
LONGEST_PAUSE = 15 * 60.0
#: Seconds; a header that tells of a wait beyond this is taken for nonsense.
ABSURD = 7 * 24 * 3600.0
#: Seconds by which the threads are spread when a window opens.
JITTER = 0.5
#: Seconds between looks at a budget that only requests in flight use up.
POLL = 0.05
#: How often a request of another process counts; with once, a fiftieth of four processes' requests came too many.
OTHERS_COUNT = 2.0
#: Seconds by which two answers may differ about the end of one window.
SAME_WINDOW = 0.9

_TOO_MANY = 429


def whole_number(text: str | None) -> int | None:
    """Read a header that is digits alone; None for anything else."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,15}", text) else None


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read `Retry-After`, which is seconds or an HTTP date.

    Args:
        headers: An answer's headers, found by their names in lower case.
        now: Our clock, for an answer that does not carry its own `Date`.

    Returns:
        Seconds from the answer on; None where there is no such header or it is nonsense.
    """
    text = headers.get("retry-after")
    seconds: float | None = whole_number(text)
    if seconds is None and (until := _http_date(text)) is not None:
        seconds = until - _server_time(headers, now)
    return seconds if seconds is not None and 0 <= seconds <= ABSURD else None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one answer says of its window; None where it says nothing that can be believed.

    Attributes:
        limit: Requests in a window.
        remaining: Requests that are left in this one.
        resets_at: The window's end by the server's clock, epoch seconds. It is the window's name, too.
        seconds_left: From the answer to that end.
    """

    limit: int | None
    remaining: int | None
    resets_at: float | None
    seconds_left: float

    @classmethod
    def told(cls, headers: Mapping[str, str], now: datetime) -> "RateLimit":
        """Read the headers of an answer; `now` is our clock, used where the answer carries no `Date`."""
        resets_at = _instant(headers.get("x-ratelimit-reset"))
        left = 0.0 if resets_at is None else resets_at - _server_time(headers, now)
        return cls(
            limit=whole_number(headers.get("x-ratelimit-limit")) or None,
            remaining=whole_number(headers.get("x-ratelimit-remaining")),
            resets_at=resets_at if 0 < left <= ABSURD else None,
            seconds_left=left,
        )


def skew(headers: Mapping[str, str], now: datetime) -> float | None:
    """Say how many seconds the server's clock is ahead of `now`; None where the answer does not tell its `Date`."""
    date = _http_date(headers.get("date"))
    return None if date is None else date - now.timestamp()


def _server_time(headers: Mapping[str, str], now: datetime) -> float:
    date = _http_date(headers.get("date"))
    return now.timestamp() if date is None else date


def _http_date(text: str | None) -> float | None:
    try:
        time = parsedate_to_datetime(text) if text else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _epoch(time)


def _instant(text: str | None) -> float | None:
    """Read ISO 8601 with an offset, or epoch seconds."""
    if not text or re.fullmatch(r"[0-9]{9,11}(\.[0-9]{1,9})?", text):
        return float(text) if text else None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _epoch(time)


def _epoch(time: datetime | None) -> float | None:
    return time.timestamp() if time is not None and time.tzinfo is not None else None


class Turn:
    """One request that may be sent now."""

    def __init__(self, pacer: "Pacer", window: int) -> None:
        self._pacer = pacer
        self._window = window
        self.is_answered = False

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Tell what the server answered, as soon as its headers are here."""
        self.is_answered = True
        self._pacer.learn(self._window, status, headers)


class Pacer:
    """Lets requests go while the server's budget lasts, and never more at once than there are slots."""

    def __init__(
        self,
        slots: int,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
        sleep: Callable[[float], None],
        random: Callable[[], float],
    ) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._random = random
        self._lock = threading.Lock()
        self._in_flight = 0
        self._closed_until = 0.0
        self._window = 0
        self._limit: int | None = None
        self._remaining: int | None = None
        self._resets_at = 0.0
        self._ends: float | None = None
        self._remaining_at_first: int | None = None
        self._spent_since = 0

    @property
    def limit(self) -> int | None:
        """Requests in a window, as an answer has told; None where none has."""
        return self._limit

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Wait until a request may be sent, and hold a slot for it until the block is left.

        Raises:
            ApiUnavailable: The window opens too late to wait for it; the text says when.
        """
        turn = Turn(self, self._admit())
        try:
            yield turn
        finally:
            if not turn.is_answered:
                self._lose()
            self._slots.release()

    def learn(self, window: int, status: int, headers: Mapping[str, str]) -> None:
        """Take in what an answer says of the rate limit.

        Args:
            window: The number of the window in which the request was sent.
            status: The answer's status.
            headers: The answer's headers, found by their names in lower case.
        """
        wall = self._wall_clock()
        told = RateLimit.told(headers, wall)
        closed = retry_after(headers, wall) if status == _TOO_MANY else None
        remaining = 0 if status == _TOO_MANY and closed is None else told.remaining
        with self._lock:
            now = self._clock()
            self._in_flight -= 1
            self._limit = told.limit or self._limit
            if closed is not None:
                self._closed_until = max(self._closed_until, now + closed)
            if told.resets_at is not None and remaining is not None:
                self._update(window, remaining, told.resets_at, now + told.seconds_left)

    def _update(self, window: int, remaining: int, resets_at: float, ends: float) -> None:
        if resets_at > self._resets_at + SAME_WINDOW:
            self._resets_at, self._remaining, self._ends = resets_at, remaining, ends
            self._remaining_at_first, self._spent_since = remaining, 0
        # What was sent in a window that is over tells of that window, however late the answer comes.
        elif window == self._window:
            self._remaining = remaining if self._remaining is None else min(remaining, self._remaining)
            self._ends = ends if self._ends is None else min(ends, self._ends)
            self._spent_since += 1

    def _lose(self) -> None:
        """A request without an answer: the server may have counted it."""
        with self._lock:
            self._in_flight -= 1
            if self._remaining and self._ends is not None:
                self._remaining -= 1
                self._spent_since += 1

    def _admit(self) -> int:
        while True:
            self._slots.acquire()
            pause = self._take()
            if pause <= 0:
                return self._window
            self._slots.release()
            if pause > LONGEST_PAUSE:
                raise ApiUnavailable(self._closed(pause))
            self._sleep(pause + self._random() * min(JITTER, pause))

    def _take(self) -> float:
        """Count a request as sent and say 0, or say how many seconds to sleep before asking again."""
        with self._lock:
            now = self._clock()
            if self._ends is not None and self._ends <= now:
                self._open_window()
            pause = self._pause(now)
            if pause <= 0:
                self._in_flight += 1
            return pause

    def _open_window(self) -> None:
        self._window += 1
        self._ends = self._remaining_at_first = None
        self._remaining = self._limit

    def _pause(self, now: float) -> float:
        if self._closed_until > now:
            return self._closed_until - now
        if self._remaining is None or self._remaining >= (self._in_flight + 1) * self._spenders:
            return 0.0
        # With nothing of ours under way there is no answer to come that could tell more.
        return POLL if (self._remaining and self._in_flight) or self._ends is None else self._ends - now

    @property
    def _spenders(self) -> float:
        """How many requests may be under way for each of ours, by what the window has lost for each of ours."""
        if self._remaining_at_first is None or self._remaining is None or not self._spent_since:
            return 1.0
        lost = (self._remaining_at_first - self._remaining) / self._spent_since
        return 1.0 + OTHERS_COUNT * max(0.0, lost - 1.0)

    def _closed(self, pause: float) -> str:
        opens = (self._wall_clock() + timedelta(seconds=pause)).astimezone(UTC)
        return f"FormantAI's rate limit is used up until {opens:%Y-%m-%d %H:%M:%S} UTC: run again after that"
