"""A crew of threads: what it gives back, when it stops, and how many threads it finds to be enough."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from itertools import count

import pytest

from formant_archive.crew import FEW, Crew

MOST = 16
#: Seconds that a test waits for what must come.
PATIENCE = 30


def crew_of(most: int = MOST, *, busy: float) -> Crew:
    """A crew in a process that is ever so busy, by a clock that goes on at each look."""
    ticks = count()
    now = [0]

    def clock() -> float:
        now[0] = next(ticks)
        return float(now[0])

    return Crew("crew", most, clock=clock, processor=lambda: busy * now[0], look=0.001)


class Crowd:
    """Counts who is in at once, and lets them out when there are so many or the door is opened."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.most = self.inside = self.visits = 0
        self.door = threading.Event()
        self._lock = threading.Lock()

    def visit(self, _: int) -> None:
        with self._lock:
            self.inside += 1
            self.visits += 1
            self.most = max(self.most, self.inside)
            if self.inside >= self.enough:
                self.door.set()
        assert self.door.wait(PATIENCE)
        with self._lock:
            self.inside -= 1


def later(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(is_so: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(PATIENCE * 100):
        if is_so():
            return
        waiting.wait(0.01)
    pytest.fail("it never came")


def test_results_come_in_the_order_of_the_items() -> None:
    crew = crew_of(busy=1)

    assert crew.map(lambda number: number * 2, range(1000)) == [number * 2 for number in range(1000)]
    assert crew.map(str, []) == []


def test_several_batches_at_once_each_get_their_own_results() -> None:
    crew = crew_of(busy=0.8)
    with ThreadPoolExecutor(8) as callers:
        found = callers.map(lambda start: crew.map(lambda number: number + start, range(200)), range(0, 8000, 1000))

    assert list(found) == [[start + number for number in range(200)] for start in range(0, 8000, 1000)]


def test_a_busy_process_gets_few_threads() -> None:
    crew, crowd = crew_of(busy=1), Crowd(FEW)
    crew.map(crowd.visit, range(100))

    assert crowd.most == FEW
    assert crew.size == FEW


def test_an_idle_process_gets_all_threads_while_the_first_are_stuck() -> None:
    crew, crowd = crew_of(busy=0.3), Crowd(MOST)
    crew.map(crowd.visit, range(MOST))

    assert crowd.most == MOST


def test_no_more_threads_than_allowed_also_where_they_are_fewer_than_few() -> None:
    crew, crowd = crew_of(2, busy=0), Crowd(2)
    crew.map(crowd.visit, range(50))

    assert (crowd.most, crew.size) == (2, 2)


def test_a_process_that_becomes_busy_lets_threads_go() -> None:
    now, used, share = 0.0, 0.0, 0.0

    def clock() -> float:
        nonlocal now, used
        now, used = now + 1, used + share
        return now

    def visit(number: int) -> None:
        (first if number < MOST else second).visit(number)

    first, second = Crowd(MOST + 1), Crowd(MOST)
    crew = Crew("crew", MOST, clock=clock, processor=lambda: used, look=0.001)
    caller = later(lambda: crew.map(visit, range(100)))
    until(lambda: first.inside == MOST)
    share = 1.0
    until(lambda: crew.size == FEW)
    first.door.set()
    until(lambda: second.inside == FEW and names().count("crew") == FEW)
    second.door.set()
    caller.join(PATIENCE)

    assert second.most == FEW


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_neither_idle_nor_busy_changes_nothing() -> None:
    crew, crowd = crew_of(busy=0.8), Crowd(MOST)
    caller = later(lambda: crew.map(crowd.visit, range(100)))
    until(lambda: crowd.inside == FEW)
    assert not crowd.door.wait(0.1)
    crowd.door.set()
    caller.join(PATIENCE)

    assert crew.size == FEW


def test_the_first_error_is_raised_and_no_other_item_is_begun() -> None:
    begun = []

    def fail(number: int) -> None:
        begun.append(number)
        if number == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crew_of(1, busy=1).map(fail, range(100))

    assert begun == [0, 1, 2]


def test_an_error_is_raised_while_others_are_still_under_way() -> None:
    door = threading.Event()

    def fail_or_wait(number: int) -> None:
        if number:
            raise ZeroDivisionError
        door.wait(PATIENCE)

    with pytest.raises(ZeroDivisionError):
        crew_of(busy=1).map(fail_or_wait, range(100))

    assert not door.is_set()
    door.set()


def test_an_error_of_one_batch_leaves_the_others_alone() -> None:
    crew, crowd = crew_of(busy=1), Crowd(MOST)
    found: list[list[None]] = []

    def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            crew.map(lambda number: 1 // number, [0])

    caller = later(lambda: found.append(crew.map(crowd.visit, range(20))))
    until(lambda: crowd.inside == FEW)
    failing = later(fail)
    crowd.door.set()
    caller.join(PATIENCE)
    failing.join(PATIENCE)

    assert found == [[None] * 20]


def test_whoever_is_interrupted_while_waiting_leaves_nothing_to_be_begun() -> None:
    def clock() -> float:
        if crowd.inside == FEW:
            raise KeyboardInterrupt
        return 0.0

    crowd = Crowd(MOST)
    crew = Crew("crew", MOST, clock=clock, processor=lambda: 0.0, look=0.001)
    with pytest.raises(KeyboardInterrupt):
        crew.map(crowd.visit, range(100))
    crowd.door.set()
    until(lambda: "crew" not in names())

    assert crowd.visits == FEW


def test_called_off_begins_nothing_more_and_tells_who_waits_at_once() -> None:
    crew, crowd = crew_of(busy=1), Crowd(MOST)
    told: list[object] = []

    def ask() -> None:
        with pytest.raises(CancelledError) as caught:
            crew.map(crowd.visit, range(100))
        told.append(caught.type)

    callers = [later(ask), later(ask)]
    until(lambda: crowd.inside == FEW)
    crew.call_off()
    for caller in callers:
        caller.join(PATIENCE)

    assert told == [CancelledError] * 2
    assert crowd.inside == FEW
    crowd.door.set()
    until(lambda: "crew" not in names())
    assert crowd.visits == FEW


def test_a_crew_without_work_has_no_threads() -> None:
    before = threading.active_count()
    crew = crew_of(busy=0)
    crew.map(Crowd(MOST).visit, range(MOST))

    until(lambda: threading.active_count() == before)
