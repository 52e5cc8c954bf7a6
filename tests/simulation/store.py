"""A process's view of the one store: each call is a step, and may fail before or after it had its effect."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import BinaryIO

from formant_archive.errors import StoreUnavailable
from formant_archive.stores import PLAIN, Care, Lock, Stat, Trace
from tests.simulation.oracle import Oracle
from tests.simulation.schedule import Process
from tests.stores.memory import MemoryStore


@dataclass
class Weather:
    """How often the store fails.

    Attributes:
        dice: Where the failures come from.
        rate: The share of calls; 0 is calm.
        faults: How many there were, by their kind.
    """

    dice: Random
    rate: float
    faults: Counter[str] = field(default_factory=Counter)

    def strikes(self, what: str) -> bool:
        """Whether this call fails in this way."""
        hit = self.dice.random() < self.rate
        self.faults[what] += hit
        return hit


class View:
    """The store as one process sees it in one run.

    Args:
        store: What all processes share.
        process: Whose view it is.
        oracle: It looks at everything that is stored.
        run: The run's id.
        weather: Whether calls fail.
    """

    def __init__(self, store: MemoryStore, process: Process, oracle: Oracle, run: str, weather: Weather) -> None:
        self._store, self._process, self._oracle = store, process, oracle
        self._run, self._weather = run, weather
        self.url = store.url

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        with self._step("put", key):
            created = self._store.put(key, body, sha256=sha256, care=care)
        if created:
            self._oracle.stored(key, self._store.objects[key], self._run)
        if self._weather.strikes("reply lost"):
            raise StoreUnavailable(f"the store did not answer: {key}")
        # The store's own second try may have met what its first one had stored.
        return created and not self._weather.strikes("found our own")

    def get(self, key: str) -> bytes:
        with self._step("get", key):
            return self._store.get(key)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with self._step("open", key), self._store.open(key) as file:
            yield file

    def stat(self, key: str) -> Stat | None:
        with self._step("stat", key):
            return self._store.stat(key)

    def lengthen(self, key: str, lock: Lock) -> None:
        with self._step("lengthen", key):
            self._store.lengthen(key, lock)

    def hold(self, key: str) -> bool:
        with self._step("hold", key):
            return self._store.hold(key)

    def traces(self, prefix: str) -> Iterator[Trace]:
        return self._store.traces(prefix)

    def list(self, prefix: str) -> Iterator[Stat]:
        with self._step("list", prefix):
            found = tuple(self._store.list(prefix))
        return self._listed(found, breaks_off=self._weather.strikes("listing broke off"))

    def _listed(self, found: Sequence[Stat], *, breaks_off: bool) -> Iterator[Stat]:
        yield from found[: len(found) // 2 if breaks_off else None]
        if breaks_off:
            raise StoreUnavailable("the store broke off while it listed")

    @contextmanager
    def _step(self, verb: str, key: str) -> Iterator[None]:
        self._process.step(f"{verb} {key}")
        if self._weather.strikes(f"{verb} failed"):
            raise StoreUnavailable(f"the store is busy: {key}")
        yield
