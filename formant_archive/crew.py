"""Threads that call a function for many items at once.

`abreast` hands results on as they come, for a list of any length; `Crew` works through whole batches, and finds out how
many threads that takes. Python runs one thread at a time: more than that takes cost all of them time, and fewer leave
a network or a disk idle.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from threading import Event, Lock, Thread
from typing import Any, TypeVar

THREADS = 16
#: Threads that a crew begins with, and has at least.
FEW = 4
#: The part of one processor below which threads are taken to wait for something else, and above which for each other.
IDLE, BUSY = 0.6, 0.95
#: Seconds between two looks at it.
LOOK = 0.5
#: Items handed out before the first result is taken, so that memory does not grow with their number.
AHEAD = 4 * THREADS
Item = TypeVar("Item")
Result = TypeVar("Result")


def abreast(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function for each item and yield the results in the items' order; see `register.Map`."""
    rest = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = deque[Future[Result]](pool.submit(function, item) for item in islice(rest, AHEAD))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
        finally:
            # Whoever stops taking, or meets an error, need not wait for what was handed out.
            for future in waiting:
                future.cancel()


@dataclass
class _Batch:
    """Items on their way through a function.

    Attributes:
        function: It.
        items: All of them.
        results: Of those that are done, in their place.
        begun: How many are begun; those that are not will not be once there is a fault.
        left: How many are not done.
        fault: The first error.
        is_over: Set once there is nothing to wait for.
    """

    function: Callable[[Any], Any]
    items: list[Any]
    results: list[Any] = field(init=False)
    begun: int = 0
    left: int = field(init=False)
    fault: BaseException | None = None
    is_over: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.results, self.left = [None] * len(self.items), len(self.items)

    @property
    def is_begun(self) -> bool:
        """Whether no other item is to be begun."""
        return self.fault is not None or self.begun == len(self.items)

    def give_up(self, fault: BaseException) -> None:
        """Begin no other item; whoever waits gets the first error at once."""
        self.fault = self.fault or fault
        self.is_over.set()


class Crew:
    """Threads for batches: few while they keep the process busy, up to `most` where they wait for a network or a disk.

    Batches are begun in the order in which they come. A crew without work has no threads.

    Args:
        name: Of its threads.
        most: Threads at most.
        clock: Monotonic seconds.
        processor: Seconds of the processors that this process has used.
        look: Seconds between two looks at how busy the process is.
    """

    def __init__(
        self,
        name: str,
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
        look: float = LOOK,
    ) -> None:
        self._name, self._most, self._size = name, most, min(FEW, most)
        self._clock, self._processor, self._look = clock, processor, look
        self._lock = Lock()
        self._batches: deque[_Batch] = deque()
        self._threads = 0
        self._looked_at = (0.0, 0.0)

    @property
    def size(self) -> int:
        """How many threads there are now while there is enough to do."""
        return self._size

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Call a function for each item; give the results in the items' order.

        Raises:
            CancelledError: The crew was called off.
            BaseException: What the function raised first; no other item is begun, and those under way are not waited
                for.
        """
        batch = _Batch(function, list(items))
        if not batch.items:
            return []
        with self._lock:
            if not self._batches:
                self._looked_at = self._clock(), self._processor()
            self._batches.append(batch)
            self._hire()
        try:
            while not batch.is_over.wait(self._look):
                self._adjust()
        except BaseException as fault:
            # Ctrl-C: nobody takes the results any more.
            batch.give_up(fault)
            raise
        if batch.fault is not None:
            raise batch.fault
        return batch.results

    def call_off(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        with self._lock:
            for batch in self._batches:
                batch.give_up(CancelledError())
            self._batches.clear()

    def _hire(self) -> None:
        for _ in range(self._size - self._threads):
            self._threads += 1
            Thread(target=self._work, name=self._name).start()

    def _adjust(self) -> None:
        """Double the threads of an idle process, let one of a busy one go."""
        with self._lock:
            (then, used), now = self._looked_at, self._clock()
            if now - then < self._look:
                return
            self._looked_at = now, self._processor()
            share = (self._looked_at[1] - used) / (now - then)
            if share < IDLE:
                self._size = min(2 * self._size, self._most)
                self._hire()
            elif share > BUSY:
                self._size = max(self._size - 1, min(FEW, self._most))

    def _work(self) -> None:
        """Be a thread: begin one item after the other, until there is none or there are threads enough."""
        while (begun := self._begin()) is not None:
            batch, number = begun
            try:
                batch.results[number] = batch.function(batch.items[number])
            except BaseException as fault:  # noqa: BLE001  # it is raised where the batch is waited for
                with self._lock:
                    batch.give_up(fault)
            else:
                self._end(batch)

    def _begin(self) -> tuple[_Batch, int] | None:
        with self._lock:
            while self._batches and self._batches[0].is_begun:
                self._batches.popleft()
            if not self._batches or self._threads > self._size:
                self._threads -= 1
                return None
            batch = self._batches[0]
            batch.begun += 1
            return batch, batch.begun - 1

    def _end(self, batch: _Batch) -> None:
        with self._lock:
            batch.left -= 1
            if not batch.left:
                batch.is_over.set()
