"""Whether a store lets one writer win: many of them at once on one key, for several keys.

A second put that is told "exists" proves little. Some stores look first and then write, so that each of several writers
who come at once is told that it has created the object: Ceph 20 in a bucket that keeps versions, OpenStack Swift,
SeaweedFS until 2026. `tests/stores/README.md` has the figures.

Without threads (`each` is `map`) the writers come one after another: that finds only a store that ignores the
condition altogether.
"""

from dataclasses import replace

from formant_archive import keys
from formant_archive.errors import UnsafeStore
from formant_archive.ledger import Head
from formant_archive.manifest import RaceNote, digest
from formant_archive.register import Map
from formant_archive.stores import Store

WRITERS = 16
#: Before the first run: Swift loses each round with a chance of one half or more, so it passes one time in a thousand.
ROUNDS = 10


def race(store: Store, examination: str, *, rounds: int = ROUNDS, each: Map = map) -> RaceNote:
    """Let writers race for keys that are not taken; a key is a small object, and stays.

    Args:
        store: Where.
        examination: Names the folder of the keys: new for each race.
        rounds: How many keys.
        each: Calls a function for many items at once.

    Raises:
        StoreError: The store cannot be written or read, or says that it does not know the condition.
    """
    won = (_round(store, keys.probe(examination, f"race-{number:04d}"), each) for number in range(1, rounds + 1))
    return RaceNote(rounds=rounds, writers=WRITERS, lost=sum(not one for one in won))


def _round(store: Store, key: str, each: Map) -> bool:
    bodies = [f"writer {number} of a race for this key\n".encode() for number in range(WRITERS)]
    winners = [body for body, created in each(lambda body: (body, _put(store, key, body)), bodies) if created]
    found = store.get(key)
    # Nobody: the winner's reply was lost, and it was told "exists" when it asked again.
    return found in bodies and (not winners or winners == [found])


def _put(store: Store, key: str, body: bytes) -> bool:
    return store.put(key, body, sha256=digest(body))


def is_proved(head: Head, *, allow_unsafe: bool) -> bool:
    """Whether there is nothing to race for: it was done, or the user lives with how it went.

    Not where an earlier run found the store unsafe and the user does not allow that any more: it may be another now.
    """
    if head.manifest is None or head.race is not None:
        return head.race is not None
    return allow_unsafe or not head.manifest.unsafe_store


def proved(store: Store, head: Head, examination: str, *, allow_unsafe: bool, each: Map) -> Head:
    """Race the store before anything is stored in an empty archive, and note in the head how it did.

    Raises:
        UnsafeStore: It lost, and the user has not said that this is to be lived with.
    """
    if is_proved(head, allow_unsafe=allow_unsafe):
        return head
    note = race(store, examination, each=each)
    if note.lost and not allow_unsafe:
        raise UnsafeStore(lost(store, note))
    return replace(head, race=note)


def lost(store: Store, note: RaceNote) -> str:
    """Say what it means that a store lost races, and what to do."""
    return (
        f"{store.url} let several of {note.writers} writers create the same object, in {note.lost} of {note.rounds}"
        " rounds: two runs could undo each other. Use a store that honours If-None-Match: * under load (some do only in"
        " a bucket without versions), or set ARCHIVE_ALLOW_UNSAFE_STORE=true and never run two writers"
    )
