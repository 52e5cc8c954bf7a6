"""What a contender says of its own work, as its process's last line on standard output."""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measure:
    """One contender, measured once.

    Attributes:
        conversations: How many it archived.
        seconds: For the work alone.
        startup_seconds: From the start of its process to the work: Python, imports, first contact.
        memory_mb: The most memory that its process held, in MB (10⁶ bytes).
        processor_seconds: What its process took of the processors for the work alone.
    """

    conversations: int
    seconds: float
    startup_seconds: float
    memory_mb: float
    processor_seconds: float

    @property
    def rate(self) -> float:
        """Conversations a second."""
        return self.conversations / self.seconds

    @property
    def processor_ms(self) -> float:
        """Milliseconds of the processors for each conversation."""
        return 1000 * self.processor_seconds / self.conversations


def run(first_contact: Callable[[], object], work: Callable[[int], object]) -> None:
    """Be a contender's process: `python -m benchmarks.<contender> <epoch seconds of its start> <conversations>`.

    Args:
        first_contact: Reaches whatever the work will need.
        work: Archives so many conversations, the newest.
    """
    started, conversations = float(sys.argv[1]), int(sys.argv[2])
    first_contact()
    startup_seconds = time.time() - started
    began, began_processor = time.perf_counter(), time.process_time()
    work(conversations)
    seconds, processor_seconds = time.perf_counter() - began, time.process_time() - began_processor
    found = Measure(conversations, seconds, startup_seconds, peak_memory(), processor_seconds)
    print(json.dumps(asdict(found)), flush=True)


def peak_memory() -> float:
    """The most memory that this process ever held, in MB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
