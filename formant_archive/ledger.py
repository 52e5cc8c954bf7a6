"""The ledger: the numbered manifests in a store. Finding the head, reading its state, committing on top of it.

There is no lock, no database and no pointer that moves: manifests are numbered without holes, each is created once, and
the newest one is the whole state of the pipeline. Whoever finds the next number taken reads that manifest, lays its own
changes on it and takes the number after.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import UUID, uuid5

from formant_archive import keys
from formant_archive.errors import ArchiveDamaged, ArchiveError, ObjectMissing, UnsafeStore, UsageError
from formant_archive.manifest import (
    Changes,
    CustodyNote,
    Kind,
    Line,
    ListingNote,
    Manifest,
    PartLink,
    RaceNote,
    RunNote,
    Scope,
    ScopeNote,
    State,
    digest,
    pack,
    unpack,
)
from formant_archive.records import Entry, Erased, Held, Link, Pending, Recent, Retention
from formant_archive.register import Map, find_records
from formant_archive.stores import PLAIN, Care, Lock, Store

#: Where the ids of archives come from: each is made of the id of the run that wrote manifest 1.
ARCHIVES = UUID("6f0b8d5e-5d0c-4b52-9a39-1a4b6f3c9d11")


@dataclass(frozen=True)
class Head:
    """The newest manifest of an archive, with the state that it hands on; `manifest` is None in an empty archive.

    `race` is how the store did just now, for the next manifest to say; None where it was not tried.
    """

    manifest: Manifest | None = None
    link: Link | None = None
    state: State = field(default_factory=State)
    race: RaceNote | None = None

    @property
    def sequence(self) -> int:
        """The newest number; 0 in an empty archive."""
        return self.manifest.sequence if self.manifest else 0


def read_head(store: Store, sequence: int | None = None) -> Head:
    """Find and read the newest manifest; or read one that was the newest, 0 being none.

    Raises:
        ArchiveDamaged: It, or a part that it names, is not what it should be.
    """
    if sequence is None:
        sequence = last_sequence(store)
    if not sequence:
        return Head()
    head = read_manifest(store, sequence)
    _check_place(store, head)
    return head


def _check_place(store: Store, head: Head) -> None:
    """Refuse a manifest that was copied here from another archive, or put on top of another chain."""
    manifest = head.manifest
    if manifest is None or manifest.previous is None:
        return
    key = keys.manifest(manifest.sequence - 1)
    if manifest.previous != Link(key=key, sha256=digest(store.get(key))):
        raise ArchiveDamaged(f"{keys.manifest(manifest.sequence)} does not follow the manifest before it")
    if Manifest.read(store.get(keys.manifest(1))).archive_id != manifest.archive_id:
        raise ArchiveDamaged(f"{keys.manifest(manifest.sequence)} belongs to another archive")


def last_sequence(store: Store, after: int = 0) -> int:
    """Find the newest manifest's number by doubling steps and halving back: numbers have no holes."""
    low, step = after, 1
    while _has(store, low + step):
        low, step = low + step, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _has(store, middle) else (low, middle)
    return low


def _has(store: Store, sequence: int) -> bool:
    return store.stat(keys.manifest(sequence)) is not None


def read_manifest(store: Store, sequence: int) -> Head:
    """Read a manifest and the state that it hands on."""
    key = keys.manifest(sequence)
    body = store.get(key)
    manifest = Manifest.read(body)
    if manifest.sequence != sequence:
        raise ArchiveDamaged(f"{key} says that it is number {manifest.sequence}")
    return Head(manifest, Link(key=key, sha256=digest(body)), _state(store, manifest))


def _state(store: Store, manifest: Manifest) -> State:
    pending = _lines(store, manifest.pending, Pending)
    return State(
        pending={one.conversation_id: one for one in pending},
        scopes={name: _scope(store, note) for name, note in manifest.scopes.items()},
        holds={one.conversation_id: one for one in _lines(store, manifest.holds, Held)},
        erased={one.conversation_id: one for one in _lines(store, manifest.erased, Erased)},
    )


def _lines(store: Store, link: PartLink | None, kind: type[Line]) -> list[Line]:
    return [] if link is None else read_part(store, link, kind)


def _scope(store: Store, note: ScopeNote) -> Scope:
    recent = {one.conversation_id: one for one in read_part(store, note.recent, Recent)}
    return Scope(note.watermark, note.total, note.order, note.floor, frozenset(note.statuses), recent)


def read_part(store: Store, link: PartLink, kind: type[Line]) -> list[Line]:
    """Read a part that a manifest names.

    Raises:
        ArchiveDamaged: It is missing, or its bytes are not the ones that were named.
    """
    try:
        body = store.get(link.key)
    except ObjectMissing:
        raise ArchiveDamaged(f"{link.key} is missing: a manifest names it") from None
    if digest(body) != link.sha256:
        raise ArchiveDamaged(f"{link.key} does not have the SHA-256 that a manifest names")
    return list(unpack(body, kind))


def write_part(store: Store, lines: Sequence[bytes], care: Care = PLAIN) -> PartLink:
    """Store lines as a part, named by the hash of its bytes; one that is there already is kept as long as this one."""
    body, count = pack(lines)
    sha256 = digest(body)
    if not store.put(keys.part(sha256), body, sha256=sha256, care=care) and care.lock is not None:
        store.lengthen(keys.part(sha256), care.lock)
    return PartLink(key=keys.part(sha256), sha256=sha256, count=count)


@dataclass(frozen=True)
class Draft:
    """What a run wants to commit: one part of it; `entries` are lines. An audit has no listing.

    `retention` is how long the manifest and its parts are locked: no shorter than anything that the run stored.
    """

    run: RunNote
    source: str
    listing: ListingNote | None
    counts: Mapping[str, int]
    entries: Sequence[bytes]
    changes: Changes
    overlap: int
    kind: Kind = "run"
    retention: Retention | None = None
    custody: CustodyNote | None = None

    @property
    def care(self) -> Care:
        """How the manifest and its parts are kept."""
        if self.retention is None:
            return PLAIN
        return Care(lock=Lock(mode=self.retention.mode, until=self.retention.until))


def commit(store: Store, head: Head, draft: Draft, *, allow_unsafe: bool = False, each: Map = map) -> Head:
    """Write the next manifest on top of `head`, or on top of whatever other writers have put there since.

    Gives the head that it made, which the run's next part goes on. `each` looks for many records, see `register`.

    Raises:
        UnsafeStore: The store overwrites where it was told not to.
        UsageError: The archive is another source's.
        ArchiveError: What was to be erased is under a legal hold by now.
    """
    check_source(head, draft.source)
    known = head.state.holds.keys()
    _hold_found(store, known, draft)
    entries = (write_part(store, draft.entries, draft.care),) if draft.entries else ()
    race = head.race
    while True:
        _check_holds(head, draft)
        manifest, state = _manifest(store, head, draft, entries, allow_unsafe=allow_unsafe)
        body = manifest.body()
        key = keys.manifest(manifest.sequence)
        if store.put(key, body, sha256=digest(body), care=draft.care):
            return Head(manifest, Link(key=key, sha256=digest(body)), state)
        last = last_sequence(store, after=manifest.sequence)
        if (ours := _ours(store, draft, range(manifest.sequence, last + 1))) is not None:
            return read_manifest(store, ours)
        # Another writer was first. Its settled conversations are pending no more, whatever we thought.
        head = replace(read_manifest(store, last), race=race)
        check_source(head, draft.source)
        draft = replace(draft, changes=_without_settled(store, draft, each))
        _hold_late(store, head.state.holds.keys() - known, draft)


def _check_holds(head: Head, draft: Draft) -> None:
    act = draft.changes.act
    if act is not None and (held := act.erased.keys() & head.state.holds.keys()):
        raise ArchiveError(f"{len(held)} of them came under a legal hold meanwhile: nothing was erased, try again")


def _hold_found(store: Store, held: Set[str], draft: Draft) -> None:
    """Bring under the hold what was stored before it by a run that died, and that this run has found."""
    if held and draft.changes.act is None:
        entries = map(Entry.model_validate_json, draft.entries)
        _hold(store, held, (one for one in entries if one.outcome == "adopted"), draft)


def _hold_late(store: Store, late: Set[str], draft: Draft) -> None:
    """Bring under a hold that was placed while the run went on what the run has stored of the held conversations."""
    if late and draft.changes.act is None:
        _hold(store, late, map(Entry.model_validate_json, draft.entries), draft)


def _hold(store: Store, held: Set[str], entries: Iterable[Entry], draft: Draft) -> None:
    pending = [one for name, one in draft.changes.pending.items() if name in held]
    receipts = [one.key for each in pending for one in (each.conversation, each.recording) if one]
    settled = [one for one in entries if one.conversation_id in held]
    for key in (*receipts, *(key for one in settled for key in (one.record_key, *(each.key for each in one.objects)))):
        # What is missing is `verify`'s to say: it must not keep a run from committing.
        with suppress(ObjectMissing):
            store.hold(key)


def check_source(head: Head, source: str) -> None:
    """Refuse to mix two sources in one archive."""
    if head.manifest is not None and head.manifest.source != source:
        raise UsageError(
            f"this archive is of {head.manifest.source}, and FORMANT_BASE_URL says {source}:"
            " use another ARCHIVE_URL for another source"
        )


def _ours(store: Store, draft: Draft, numbers: range) -> int | None:
    """Find this very commit among the newest manifests: its reply was lost, or it is tried again."""
    for number in numbers:
        run = Manifest.read(store.get(keys.manifest(number))).run
        if (run.id, run.part) == (draft.run.id, draft.run.part):
            return number
    return None


def _manifest(
    store: Store, head: Head, draft: Draft, entries: tuple[PartLink, ...], *, allow_unsafe: bool
) -> tuple[Manifest, State]:
    state = draft.changes.on(head.state, draft.overlap)
    scopes = {name: _scope_note(store, head, name, scope, draft.care) for name, scope in state.scopes.items()}
    pending = write_part(store, _in_order(state.pending), draft.care) if state.pending else None
    holds = _handed_on(store, head, "holds", state.holds, draft.care)
    erased = _handed_on(store, head, "erased", state.erased, draft.care)
    named = (*entries, *(scope.recent for scope in scopes.values()), *([pending] if pending else []))
    manifest = Manifest(
        kind=draft.kind,
        sequence=head.sequence + 1,
        previous=head.link,
        archive_id=head.manifest.archive_id if head.manifest else str(uuid5(ARCHIVES, draft.run.id)),
        source=draft.source,
        run=draft.run,
        listing=draft.listing,
        counts=dict(draft.counts),
        entries=entries,
        pending=pending,
        scopes=scopes,
        holds=holds,
        erased=erased,
        custody=draft.custody,
        unsafe_store=is_unsafe(
            store, head, named[0] if named else write_part(store, (), draft.care), allow_unsafe=allow_unsafe
        ),
        race=head.race,
    )
    return manifest, state


def _handed_on(
    store: Store,
    head: Head,
    field: Literal["holds", "erased"],
    lines: Mapping[str, Held] | Mapping[str, Erased],
    care: Care,
) -> PartLink | None:
    """Write what every manifest hands on, or name the part again where nothing of it has changed."""
    if not lines:
        return None
    if head.manifest is not None and getattr(head.state, field) is lines:
        link: PartLink = getattr(head.manifest, field)
        if care.lock is not None:
            store.lengthen(link.key, care.lock)
        return link
    return write_part(store, [lines[name].line() for name in sorted(lines)], care)


def _in_order(lines: Mapping[str, Line]) -> list[bytes]:
    """Sort by id, so that the same state has the same bytes."""
    return [lines[name].line() for name in sorted(lines)]


def _scope_note(store: Store, head: Head, name: str, scope: Scope, care: Care) -> ScopeNote:
    if head.manifest is not None and head.state.scopes.get(name) is scope:
        note = head.manifest.scopes[name]
        if care.lock is not None:
            store.lengthen(note.recent.key, care.lock)
        return note
    return ScopeNote(
        watermark=scope.watermark,
        total=scope.total,
        order=scope.order,
        floor=scope.floor,
        statuses=tuple(sorted(scope.statuses)),
        recent=write_part(store, _in_order(scope.recent), care),
    )


def is_unsafe(store: Store, head: Head, part: PartLink, *, allow_unsafe: bool) -> bool:
    """Find out whether the store honours `If-None-Match: *`, by putting a part's own bytes once more.

    That does not show what many writers at once would: a store that lost a race is unsafe until it has won one.

    Raises:
        UnsafeStore: It does not, and the user has not said that this is to be lived with.
    """
    has_lost = head.race.lost > 0 if head.race else head.manifest is not None and head.manifest.unsafe_store
    if not has_lost and not store.put(part.key, store.get(part.key), sha256=part.sha256):
        return False
    if allow_unsafe:
        return True
    raise UnsafeStore(
        f"{store.url} overwrites objects that it was told to create only (If-None-Match: *): two runs could undo each"
        " other. Use a store that honours it, or set ARCHIVE_ALLOW_UNSAFE_STORE=true and never run two writers"
    )


def _without_settled(store: Store, draft: Draft, each: Map) -> Changes:
    """Look again for the records of what a run holds for pending."""
    changes = draft.changes
    found = find_records(store, list(changes.pending.values()), each)
    settled = {entry.conversation_id for entry in found}
    done = [one for name, one in changes.pending.items() if name in settled]
    still = {name: one for name, one in changes.pending.items() if name not in settled}
    changes = replace(changes, settled=changes.settled | settled, pending=still)
    if changes.scope is None:
        return changes
    return replace(changes, after=changes.remembering(changes.scope, changes.after, done, draft.overlap))
