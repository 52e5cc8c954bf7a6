"""How often and how long one call asks before it gives up.

Five attempts within two minutes, with exponential backoff and full jitter. The time that is spent waiting for the rate
limit or for a slot does not count: it says nothing of the API's health.
"""

from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from formant_archive.errors import ApiUnavailable, BadAnswer

ATTEMPTS = 5
#: Seconds from a call's beginning to the beginning of its last attempt.
PATIENCE = 120.0

_BACKOFF_BASE, _BACKOFF_CAP = 0.5, 30.0


class Interrupted(ApiUnavailable):
    """One attempt failed in a way that the next need not.

    Attributes:
        retry_after: Seconds before which the server does not want to be asked again, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadPage(BadAnswer):
    """A page of the list that cannot be read. A proxy in between may have made it, so it is asked for again."""


class Effort:
    """One call's account of its time.

    Args:
        clock: Monotonic seconds.
        random: A number from 0 to 1.
    """

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._began = clock()

    def excuse(self, seconds: float) -> None:
        """Leave time that was spent waiting for a turn out of the account."""
        self._began += seconds

    def retrying(self, sleep: Callable[[float], None]) -> Retrying:
        """Make the retrier of this call; what it raises in the end is the last attempt's own error."""
        return Retrying(
            retry=retry_if_exception_type((Interrupted, BadPage)),
            wait=self._pause,
            stop=self._is_over,
            sleep=sleep,
            reraise=True,
        )

    def _pause(self, state: RetryCallState) -> float:
        """Wait a random part of a doubling span, or longer where the server asks for it."""
        span = min(_BACKOFF_CAP, _BACKOFF_BASE * 2.0 ** (state.attempt_number - 1))
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, Interrupted) else None
        return max(self._random() * span, asked or 0.0)

    def _is_over(self, state: RetryCallState) -> bool:
        # A wait beyond the patience is not begun: coming back earlier than asked would be no use.
        spent = self._clock() - self._began
        return state.attempt_number >= ATTEMPTS or spent + state.upcoming_sleep > PATIENCE
