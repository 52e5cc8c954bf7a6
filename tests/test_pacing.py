"""The pacer against servers with a rate limit, on a clock that only the tests move."""

import heapq
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from formant_archive.errors import ApiUnavailable
from formant_archive.pacing import LONGEST_PAUSE, Pacer, retry_after

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)


class Time:
    """A clock for threads: it leaps to the next sleeper's time when nobody is awake any more."""

    def __init__(self, threads: int = 1) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._awake = threads
        self._sleepers: list[float] = []
        self._changed = threading.Condition()

    def clock(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return NOON + timedelta(seconds=self.now - 1000)

    def sleep(self, seconds: float) -> None:
        with self._changed:
            self.slept.append(seconds)
            until = self.now + seconds
            heapq.heappush(self._sleepers, until)
            self._leave()
            while self.now < until:
                self._changed.wait()

    def done(self) -> None:
        with self._changed:
            self._leave()

    def _leave(self) -> None:
        self._awake -= 1
        if self._awake == 0 and self._sleepers:
            self.now = max(self.now, self._sleepers[0])
            while self._sleepers and self._sleepers[0] <= self.now:
                heapq.heappop(self._sleepers)
                self._awake += 1
            self._changed.notify_all()


def pacer(time: Time, slots: int = 16, sleep: Callable[[float], None] | None = None) -> Pacer:
    return Pacer(slots, clock=time.clock, wall_clock=time.wall, sleep=sleep or time.sleep, random=lambda: 0.5)


def told(time: Time, remaining: object, reset_in: float, **more: str) -> dict[str, str]:
    reset = time.wall() + timedelta(seconds=reset_in)
    return {
        "x-ratelimit-limit": "50",
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": reset.isoformat(),
    } | more


def ask(paced: Pacer, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    with paced.turn() as turn:
        turn.answered(status, headers or {})


class Server:
    """Allows so many requests in a window, and remembers what it answered."""

    def __init__(self, time: Time, allowed: int = 50, seconds: float = 60.0, skew: float = 0.0) -> None:
        self._time, self._allowed, self._seconds, self._skew = time, allowed, seconds, skew
        self._lock = threading.Lock()
        self.counted: dict[int, int] = {}
        self.statuses: list[int] = []

    def answer(self) -> tuple[int, dict[str, str]]:
        with self._lock:
            now = self._time.wall() + timedelta(seconds=self._skew)
            window = int(now.timestamp() // self._seconds)
            self.counted[window] = self.counted.get(window, 0) + 1
            status = 200 if self.counted[window] <= self._allowed else 429
            self.statuses.append(status)
        reset = datetime.fromtimestamp((window + 1) * self._seconds, UTC)
        left = max(0, self._allowed - self.counted[window])
        return status, {
            "x-ratelimit-limit": str(self._allowed),
            "x-ratelimit-remaining": str(left),
            "x-ratelimit-reset": reset.isoformat(),
            "date": format_datetime(now, usegmt=True),
        }


def crowd(time: Time, threads: int, requests: int, send: Callable[[int], None]) -> None:
    """Let threads share out some requests between them."""
    numbers = iter(range(requests))
    lock = threading.Lock()

    def work(_: int) -> None:
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                send(number)
        finally:
            time.done()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))


@pytest.mark.parametrize("skew", [0.0, -7200.0, 7200.0])
def test_sixteen_threads_never_overshoot_and_waste_no_window(skew: float) -> None:
    time = Time(threads=16)
    server, paced = Server(time, skew=skew), pacer(time)

    def send(number: int) -> None:
        with paced.turn() as turn:
            time.sleep(0.01 * (number % 7 + 1))
            status, headers = server.answer()
            time.sleep(0.01 * (number % 5 + 1))
            turn.answered(status, headers)

    crowd(time, 16, 200, send)
    assert server.statuses == [200] * 200
    assert list(server.counted.values()) == [50, 50, 50, 50]


def test_a_limit_below_the_number_of_threads_is_overshot_in_the_first_window_alone() -> None:
    time = Time(threads=16)
    server, paced = Server(time, allowed=5), pacer(time)

    def send(_: int) -> None:
        with paced.turn() as turn:
            time.sleep(0.01)
            status, headers = server.answer()
            turn.answered(status, headers)

    crowd(time, 16, 40, send)
    first, *others = server.counted.values()
    assert first == 16
    assert set(others[:-1]) == {5}


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("latency", [0.02, 0.1, 0.5])
def test_processes_that_know_nothing_of_each_other_use_a_window_up_and_hardly_overshoot(
    processes: int, latency: float
) -> None:
    threads, windows = 16, 4
    time = Time(threads=processes * threads)
    server, pacers = Server(time, allowed=600), [pacer(time) for _ in range(processes)]
    ends = time.now + windows * 60 - 1

    def work(number: int) -> None:
        try:
            while time.now < ends:
                with pacers[number % processes].turn() as turn:
                    time.sleep(latency * (number % 7 + 4) / 14)
                    status, headers = server.answer()
                    time.sleep(latency * (number % 5 + 3) / 10)
                    turn.answered(status, headers)
        finally:
            time.done()

    with ThreadPoolExecutor(processes * threads) as pool:
        list(pool.map(work, range(processes * threads)))
    _, *steady, _ = server.counted.values()
    assert min(steady) >= 0.97 * 600
    assert sum(max(0, count - 600) for count in steady) <= 0.004 * sum(steady)


def refuse(seconds: float) -> None:
    raise TimeoutError(seconds)


def test_where_others_spend_too_each_request_in_flight_is_taken_for_several() -> None:
    time = Time()
    paced = pacer(time, sleep=refuse)
    for remaining in (40, 30, 20):
        ask(paced, headers=told(time, remaining, 30))
    # Ten were spent for each of ours, nine of them by others, which count twice: two in flight would be thirty-eight.
    with paced.turn(), pytest.raises(TimeoutError):
        ask(paced)


def test_the_last_requests_of_a_window_are_left_to_the_others_and_its_end_is_waited_for() -> None:
    time = Time()
    paced = pacer(time)
    for remaining in (40, 30, 20, 9):
        ask(paced, headers=told(time, remaining, 30))
    ask(paced)
    assert time.slept == [30.25]


def test_what_others_spent_is_forgotten_with_the_window() -> None:
    time = Time()
    paced = pacer(time, sleep=refuse)
    for remaining in (40, 9):
        ask(paced, headers=told(time, remaining, 30))
    time.now += 31
    ask(paced, headers=told(time, 5, 60))
    with paced.turn(), paced.turn(), paced.turn(), paced.turn():
        ask(paced)


def test_requests_without_an_answer_are_ours_too() -> None:
    time = Time()
    paced = pacer(time, sleep=refuse)
    ask(paced, headers=told(time, 4, 30))
    for _ in range(3):
        with paced.turn():
            pass
    ask(paced)


def test_an_unknown_budget_is_spent_by_no_more_requests_at_once_than_there_are_slots() -> None:
    time = Time(threads=8)
    paced = pacer(time, slots=8)
    lock = threading.Lock()
    at_once: list[int] = []
    flying = 0

    def send(_: int) -> None:
        nonlocal flying
        with paced.turn() as turn:
            with lock:
                flying += 1
                at_once.append(flying)
            time.sleep(1)
            turn.answered(200, {})
            with lock:
                flying -= 1

    crowd(time, 8, 40, send)
    assert max(at_once) <= 8
    assert time.now == 1005.0


def test_slots_limit_the_requests_at_once_also_when_there_are_more_threads() -> None:
    time = Time()
    paced = pacer(time, slots=2)
    inside, most = 0, 0
    lock = threading.Lock()

    def send(_: int) -> None:
        nonlocal inside, most
        with paced.turn() as turn:
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.01)
            with lock:
                inside -= 1
            turn.answered(200, {})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(20)))
    assert most == 2


def test_a_used_up_window_is_waited_for_to_its_end_and_a_little_more() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, headers=told(time, 0, 30))
    ask(paced)
    assert time.slept == [30.25]


@pytest.mark.timeout(10)
def test_a_thread_that_waits_for_the_window_holds_no_slot() -> None:
    time = Time()
    others: list[int] = []

    def sleep(seconds: float) -> None:
        time.now += seconds
        ask(paced)
        others.append(1)

    paced = pacer(time, slots=1, sleep=sleep)
    ask(paced, headers=told(time, 0, 30))
    ask(paced)
    assert others == [1]


def test_a_request_in_flight_is_taken_as_not_counted_yet() -> None:
    time = Time()
    paced = pacer(time, sleep=refuse)
    ask(paced, headers=told(time, 2, 30))
    with paced.turn(), paced.turn(), pytest.raises(TimeoutError):
        ask(paced)


def test_a_request_without_an_answer_may_have_been_counted() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, headers=told(time, 1, 30))
    with paced.turn():
        pass
    ask(paced)
    assert time.slept == [30.25]


def test_an_answer_that_comes_late_from_an_old_window_says_nothing_of_the_new_one() -> None:
    time = Time()
    paced = pacer(time)
    old = told(time, 0, 30, date=format_datetime(NOON, usegmt=True))
    ask(paced, headers=told(time, 1, 30))
    with paced.turn() as late:
        time.sleep(31)
        ask(paced, headers=told(time, 40, 60))
        late.answered(200, old)
    time.slept.clear()
    ask(paced)
    assert time.slept == []


def test_the_earliest_estimate_of_a_windows_end_stands() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, headers=told(time, 1, 30))
    ask(paced, headers=told(time, 0, 30, date=format_datetime(NOON - timedelta(seconds=1), usegmt=True)))
    ask(paced)
    assert time.slept == [30.25]


def test_an_answer_out_of_order_does_not_raise_the_budget() -> None:
    time = Time()
    paced = pacer(time)
    first, second = told(time, 1, 30), told(time, 0, 30)
    with paced.turn() as one, paced.turn() as other:
        other.answered(200, second)
        one.answered(200, first)
    ask(paced)
    assert time.slept == [30.25]


@pytest.mark.parametrize("headers", [{"retry-after": "60"}, {"retry-after": "Wed, 18 Mar 2026 12:01:00 GMT"}])
def test_the_retry_after_of_a_429_closes_the_door_to_all_threads(headers: dict[str, str]) -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, 429, headers)
    ask(paced)
    assert time.slept == [60.25]


def test_a_429_without_retry_after_waits_for_the_reset() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, 429, told(time, 7, 20))
    ask(paced)
    assert time.slept == [20.25]


def test_a_retry_after_that_comes_with_another_status_closes_nothing() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, 503, {"retry-after": "60"})
    ask(paced)
    assert time.slept == []


def test_the_reset_is_judged_by_the_answers_own_date() -> None:
    time = Time()
    paced = pacer(time)
    headers = told(time, 0, -3600 + 30) | {"date": format_datetime(NOON - timedelta(hours=1), usegmt=True)}
    ask(paced, headers=headers)
    ask(paced)
    assert time.slept == [30.25]


def test_a_reset_in_epoch_seconds_is_understood() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, headers=told(time, 0, 0) | {"x-ratelimit-reset": str(int(NOON.timestamp()) + 30)})
    ask(paced)
    assert time.slept == [30.25]


def test_a_reset_with_another_offset_is_understood() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, headers=told(time, 0, 0) | {"x-ratelimit-reset": "2026-03-18T17:30:30+05:30"})
    ask(paced)
    assert time.slept == [30.25]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining": "-1"},
        {"x-ratelimit-remaining": "none"},
        {"x-ratelimit-remaining": "٠"},
        {"x-ratelimit-remaining": ""},
        {"x-ratelimit-reset": "soon"},
        {"x-ratelimit-reset": ""},
        {"x-ratelimit-reset": "30"},
        {"x-ratelimit-reset": "2026-03-18T12:00:30"},
        {"x-ratelimit-reset": "2026-03-18T11:00:00+00:00"},
        {"x-ratelimit-reset": "9999-12-31T23:59:59-23:59"},
        {"x-ratelimit-reset": "0001-01-01T00:00:00+23:59"},
        {"x-ratelimit-reset": "1773867341766"},
        {"x-ratelimit-reset": "99999999999"},
    ],
)
def test_absurd_windows_are_ignored(headers: dict[str, str]) -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, headers=told(time, 0, 30) | headers)
    ask(paced)
    assert time.slept == []


@pytest.mark.parametrize(
    "text", ["", "-5", "soon", "1e3", "9" * 400, "99999999", "Wed, 99 Mar 2026 12:01:00 GMT", "1.5"]
)
def test_an_absurd_retry_after_is_ignored(text: str) -> None:
    assert retry_after({"retry-after": text}, NOON) is None


@pytest.mark.parametrize("text", ["Wed, 18 Mar 2026 11:00:00 GMT", "Wed, 18 Mar 2026 12:01:00 -0000"])
def test_a_retry_after_in_the_past_or_without_an_offset_is_ignored(text: str) -> None:
    assert retry_after({"retry-after": text}, NOON) is None


def test_a_window_that_opens_too_late_is_an_error_that_says_when() -> None:
    time = Time()
    paced = pacer(time)
    ask(paced, headers=told(time, 0, LONGEST_PAUSE + 3600))
    with pytest.raises(ApiUnavailable, match=r"until 2026-03-18 13:15:00 UTC"):
        ask(paced)
    assert time.slept == []
    time.now += LONGEST_PAUSE + 3601
    ask(paced)


def test_a_server_that_tells_nothing_is_never_waited_for() -> None:
    time = Time()
    paced = pacer(time)
    for _ in range(500):
        ask(paced)
    assert time.slept == []


def test_a_sliding_window_is_followed() -> None:
    time = Time()
    paced = pacer(time)
    for _ in range(10):
        ask(paced, headers=told(time, 3, 60))
        time.now += 5
    ask(paced, headers=told(time, 0, 60))
    ask(paced)
    assert time.slept == [60.25]
