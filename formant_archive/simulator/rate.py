"""The rate limit: a fixed window that the first request after the last window opens."""

import dataclasses
import datetime
import math
import threading
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """What one request did to the budget.

    Attributes:
        exceeded: Whether the request was one too many.
        headers: What every answer says about the budget.
    """

    exceeded: bool
    headers: dict[str, str]


class RateWindow:
    """Counts the requests of the present window.

    A window ends on a whole second, because `X-RateLimit-Reset` knows no smaller unit; it is up to a second
    longer than asked for.
    """

    def __init__(self, limit: int | None, seconds: float, now: Callable[[], int]) -> None:
        self._limit = limit
        self._seconds = seconds
        self._now = now
        self._lock = threading.Lock()
        self._used = 0
        self._reset = 0

    def spend(self) -> Spent:
        """Takes one request from the budget."""
        if self._limit is None:
            return Spent(False, {})
        now = self._now() / 1000
        with self._lock:
            if now >= self._reset:
                self._used, self._reset = 0, math.ceil(now + self._seconds)
            self._used += 1
            return self._spent(self._limit, self._used, self._reset, now)

    @staticmethod
    def _spent(limit: int, used: int, reset: int, now: float) -> Spent:
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(limit - used, 0)),
            "X-RateLimit-Reset": datetime.datetime.fromtimestamp(reset, datetime.UTC).isoformat(),
        }
        if used > limit:
            headers["Retry-After"] = str(math.ceil(reset - now))
        return Spent(used > limit, headers)
