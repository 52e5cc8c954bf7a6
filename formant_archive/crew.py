"""A crew of threads: a function called for many items at once, a bounded number ahead of who takes the results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

THREADS = 16
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
