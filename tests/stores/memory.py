"""A store in memory that keeps every rule of the contract and fails on order: the suite's own."""

import hashlib
import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, Literal

from formant_archive.errors import ObjectMissing, StoreError, StoreRefused
from formant_archive.stores import PLAIN, Care, Lock, Stat, Trace, check_key, check_prefix, chunks

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Verb = Literal["put", "get", "open", "read", "stat", "list", "lengthen", "hold", "release", "erase"]


@dataclass(frozen=True)
class _Fault:
    verb: Verb
    error: StoreError
    after: bool
    key_contains: str | None

    def meets(self, verb: Verb, key: str, *, after: bool) -> bool:
        return (self.verb, self.after) == (verb, after) and (self.key_contains or "") in key


class MemoryStore:
    """An archive in memory.

    Attributes:
        objects: What is stored; a test may look at it, and damage it.
        calls: How often each verb was called, whatever came of it.
        puts: The keys of all puts, in their order, whatever came of them.
        locks: The lock of each object that has one.
        held: The keys under a legal hold.
    """

    url = "memory:"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.puts: list[str] = []
        self.locks: dict[str, Lock] = {}
        self.held: set[str] = set()
        self._faults: list[_Fault] = []
        self._lock = threading.RLock()

    def fail_next(self, verb: Verb, error: StoreError, *, after: bool = False, key_contains: str | None = None) -> None:
        """Let the next call of a verb fail, once; several orders are met in their order.

        Args:
            verb: A method's name, or `read`: the next stream breaks off after half of the object.
            error: What it raises.
            after: The call is done and then its reply is lost; for `list`: after all but the last object.
            key_contains: Only a call whose key (or prefix) contains this.
        """
        with self._lock:
            self._faults.append(_Fault(verb, error, after, key_contains))

    @property
    def faults_left(self) -> int:
        """How many ordered faults have not happened yet."""
        return len(self._faults)

    def put(self, key: str, body: bytes | BinaryIO, *, sha256: str, care: Care = PLAIN) -> bool:
        with self._lock:
            self.puts.append(key)
        with self._call("put", key):
            data = b"".join(chunks(body))
            if hashlib.sha256(data).hexdigest() != sha256:
                raise StoreRefused("the body is not the one that was hashed: nothing was stored")
            with self._lock:
                if key in self.objects:
                    return False
                self.objects[key] = data
                if care.lock is not None:
                    self.locks[key] = care.lock
                if care.held:
                    self.held.add(key)
                return True

    def get(self, key: str) -> bytes:
        with self._call("get", key):
            return self._found(key)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with self._call("open", key):
            data = self._found(key)
        with io.BufferedReader(_Stream(data, self._due("read", key, after=False)), 1) as file:
            yield file

    def stat(self, key: str) -> Stat | None:
        with self._call("stat", key):
            data = self.objects.get(key)
            return (
                None
                if data is None
                else Stat(key=key, size=len(data), sha256=_hash(data), lock=self.locks.get(key), held=key in self.held)
            )

    def lengthen(self, key: str, lock: Lock) -> None:
        with self._call("lengthen", key), self._lock:
            self._found(key)
            self.locks[key] = lock.joined(self.locks.get(key))

    def hold(self, key: str) -> bool:
        with self._call("hold", key):
            self._found(key)
            self.held.add(key)
            return True

    def list(self, prefix: str) -> Iterator[Stat]:
        check_prefix(prefix)
        self.calls["list"] += 1
        return self._listed(prefix)

    def traces(self, prefix: str) -> Iterator[Trace]:
        check_prefix(prefix)
        return iter(())

    def _listed(self, prefix: str) -> Iterator[Stat]:
        self._fail("list", prefix, after=False)
        with self._lock:
            found = [Stat(key=key, size=len(data)) for key, data in self.objects.items() if key.startswith(prefix)]
        yield from found[:-1]
        self._fail("list", prefix, after=True)
        yield from found[-1:]

    def _found(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise ObjectMissing(f"nothing is stored under {key}") from None

    @contextmanager
    def _call(self, verb: Verb, key: str) -> Iterator[None]:
        check_key(key)
        with self._lock:
            self.calls[verb] += 1
        self._fail(verb, key, after=False)
        yield
        self._fail(verb, key, after=True)

    def _fail(self, verb: Verb, key: str, *, after: bool) -> None:
        if error := self._due(verb, key, after=after):
            raise error

    def _due(self, verb: Verb, key: str, *, after: bool) -> StoreError | None:
        with self._lock:
            for fault in self._faults:
                if fault.meets(verb, key, after=after):
                    self._faults.remove(fault)
                    return fault.error
        return None


class _Stream(io.RawIOBase):
    """A stream that cannot be sought in, as a bucket's; with an error, it breaks off in its middle."""

    def __init__(self, data: bytes, error: StoreError | None) -> None:
        self._rest = io.BytesIO(data if error is None else data[: len(data) // 2])
        self._error = error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._rest.readinto(buffer)
        if count == 0 and self._error:
            raise self._error
        return count


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class MemoryCustody(MemoryStore):
    """An archive in memory, in a custodian's hands; `stored` is another view of the same one."""

    keeps_holds = True

    @classmethod
    def of(cls, stored: MemoryStore) -> "MemoryCustody":
        made = cls()
        made.objects, made.locks, made.held = stored.objects, stored.locks, stored.held
        return made

    def release(self, key: str) -> None:
        with self._call("release", key):
            self._found(key)
            self.held.discard(key)

    def bond(self, key: str, now: datetime, *, bypass: bool = False) -> str | None:
        lock = self.locks.get(key)
        is_locked = lock is not None and lock.until > now and not (bypass and lock.mode == "GOVERNANCE")
        return "held" if key in self.held else "locked" if is_locked else None

    def erase(self, key: str, *, bypass: bool = False) -> int:
        with self._call("erase", key):
            lock = self.locks.get(key)
            if key in self.held or (lock is not None and not (bypass and lock.mode == "GOVERNANCE")):
                raise StoreRefused(f"{key}: a lock, a hold or the role forbids to remove it")
            return int(self.objects.pop(key, None) is not None)
