"""Custody: legal holds, and retention that is lengthened; by somebody with a right of their own, never by a run.

Each act is chained in a manifest of kind `hold`: who, when, which case, which conversations. A hold is chained before
the first object is held: from then on every run brings what it stores of these conversations under the hold, and
`erase` refuses them. What a killed command leaves is held for less than the chain says: `verify` finds it (`L002`), and
the same command again makes it good. Releasing goes the other way round, objects first: a crash leaves the chain
saying more than the objects, again found and again made good by the same command.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from formant_archive import keys
from formant_archive.catalogue import Catalogue, Selection
from formant_archive.errors import ArchiveDamaged, ObjectMissing, UsageError
from formant_archive.ledger import Draft, Head, commit, read_head, read_part, write_part
from formant_archive.manifest import OUTCOMES, Act, Changes, CustodyNote, Kind, Manifest, RunNote, Scope
from formant_archive.records import Entry, Held, Named, Retention
from formant_archive.register import Map
from formant_archive.stores import Care, Lock, Store
from formant_archive.stores.custody import Custody

_CASE = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Conversations between two lines of progress.
_NOW_AND_THEN = 100
Tell = Callable[[str], None]


def check_case(case: str) -> str:
    """Refuse a case's name that could not stand in a manifest's line as it is.

    Raises:
        UsageError: It is none.
    """
    if not _CASE.fullmatch(case):
        raise UsageError("--case is 1 to 64 signs of A-Z a-z 0-9 . _ - and no private data: it stays in the archive")
    return case


@dataclass(frozen=True)
class Subject:
    """A conversation, and the keys of what the archive holds of it."""

    conversation_id: str
    keys: tuple[str, ...]


def subjects(catalogue: Catalogue, head: Head, selection: Selection) -> Iterator[Subject]:
    """Give the conversations of a selection: settled ones, and pending ones with what is stored of them already."""
    for claims in catalogue.claims(selection):
        entries = [one.entry for one in claims]
        found = {one.record_key for one in entries} | {each.key for one in entries for each in one.objects}
        gone = catalogue.erased_of(entries[0].conversation_id)
        yield Subject(entries[0].conversation_id, tuple(sorted({*_with_first(found)} - gone)))
    for pending in head.state.pending.values():
        if selection.takes(pending):
            receipts = filter(None, (pending.conversation, pending.recording))
            yield Subject(pending.conversation_id, tuple(one.key for one in receipts))


def _with_first(found: Iterable[str]) -> Iterator[str]:
    """Name besides a second record or body the first one, which stays where it was."""
    for key in found:
        folder, _, name = key.rpartition("/")
        yield key
        first = {keys.SECOND_RECORD: keys.RECORD, keys.SECOND_CONVERSATION: keys.CONVERSATION}.get(name)
        if first:
            yield f"{folder}/{first}"


@dataclass(frozen=True)
class Done:
    """What an act came to.

    Attributes:
        conversations: How many were selected.
        objects: How many of their objects were brought into the state that was asked for.
        manifest: The number of the manifest that says so; None where the chain said it already.
        is_enforced: Whether the store itself keeps to it; a folder does not.
        unknown: Ids that were asked for and that the archive does not know.
    """

    conversations: int
    objects: int
    manifest: int | None
    is_enforced: bool
    unknown: tuple[str, ...] = ()


class Custodian:
    """Whoever acts on one archive.

    Args:
        store: Where the archive is.
        catalogue: What its manifests name.
        by: Who acts.
        run_id: Unique for each act.
        version: This package's version.
        now: When.
        retention: How long the manifest and its parts are locked; None: not at all, by us.
        each: Calls a function for many items, see `register.Map`.
        tell: Is told now and then how far it is.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        *,
        by: str,
        run_id: str,
        version: str,
        now: datetime,
        retention: Retention | None = None,
        each: Map = map,
        tell: Tell = lambda line: None,
    ) -> None:
        self._store, self._catalogue, self._each, self._tell = store, catalogue, each, tell
        self._by, self._run_id, self._version, self._now = by, run_id, version, now
        self._retention = retention
        # As far as the catalogue goes: what a run has committed since is met when the act is committed.
        self.head = read_head(store, catalogue.sequence)
        if self.head.manifest is None:
            raise UsageError("there is no archive yet: no run has committed anything there")

    def place(self, case: str, selection: Selection) -> Done:
        """Put conversations under a legal hold, with all that the archive holds of them or will."""
        names = {one.conversation_id for one in self._subjects(selection)}
        new = frozenset(name for name in names if case not in self._cases(name))
        # The first object tells whether the store can hold at all, before the chain says so.
        first = next((key for one in self._subjects(selection) for key in one.keys), None)
        is_enforced = first is not None and self._held(first)
        before = self.head.sequence
        number = self._commit("place", Act(case=case, placed=new), new, case=case) if new else None
        objects = self._all(lambda one: sum(map(self._held, one.keys)), selection, names)
        objects += sum(map(self._held, self._overtaken(before, names)))
        return Done(len(names), objects, number, is_enforced, self._unknown(selection, names))

    def release(self, case: str, selection: Selection, custody: Custody) -> Done:
        """End a case's hold; what another case holds stays held."""
        names = {one.conversation_id for one in self._subjects(selection)}
        over = frozenset(name for name in names if case in self._cases(name))
        free = frozenset(name for name in names if not set(self._cases(name)) - {case})

        def let_go(one: Subject) -> int:
            return sum(self._released(custody, key) for key in one.keys) if one.conversation_id in free else 0

        objects = self._all(let_go, selection, names)
        number = self._commit("release", Act(case=case, released=over), over, case=case) if over else None
        return Done(len(names), objects, number, custody.keeps_holds, self._unknown(selection, names))

    def extend(self, until: datetime, mode: Literal["GOVERNANCE", "COMPLIANCE"], selection: Selection) -> Done:
        """Lock conversations at least until a time: their objects, and the manifests that prove them."""
        names = {one.conversation_id for one in self._subjects(selection)}
        lock = Lock(mode=mode, until=until)
        objects = self._all(lambda one: sum(self._lengthened(key, lock) for key in one.keys), selection, names)
        if not names:
            return Done(0, 0, None, is_enforced=True, unknown=self._unknown(selection, names))
        self._retention = max((self._retention, Retention(mode=mode, until=until)), key=_end)
        number = self._commit("extend", Act(), frozenset(names), until=until)
        for _ in self._each(lambda key: self._lengthened(key, lock), self._proof(selection)):
            pass
        return Done(len(names), objects, number, is_enforced=True, unknown=self._unknown(selection, names))

    def holds(self) -> Mapping[str, Held]:
        """Say what is held, by conversation."""
        return self.head.state.holds

    def _overtaken(self, before: int, names: set[str]) -> Iterator[str]:
        """Name what runs have committed of the conversations since we looked, and before our manifest."""
        if self.head.sequence <= before + 1:
            return
        for sequence in range(before + 1, self.head.sequence):
            for part in Manifest.read(self._store.get(keys.manifest(sequence))).entries:
                for entry in read_part(self._store, part, Entry):
                    if entry.conversation_id in names:
                        yield from (entry.record_key, *(one.key for one in entry.objects))
        for name in names & self.head.state.pending.keys():
            pending = self.head.state.pending[name]
            yield from (one.key for one in (pending.conversation, pending.recording) if one)

    def _subjects(self, selection: Selection) -> Iterator[Subject]:
        return subjects(self._catalogue, self.head, selection)

    def _cases(self, name: str) -> tuple[str, ...]:
        held = self.head.state.holds.get(name)
        return held.cases if held else ()

    def _unknown(self, selection: Selection, names: set[str]) -> tuple[str, ...]:
        return tuple(sorted((selection.ids or frozenset()) - names))

    def _held(self, key: str) -> bool:
        try:
            return self._store.hold(key)
        except ObjectMissing:
            # What is missing is `verify`'s to say: it must not keep the others from being held.
            return False

    @staticmethod
    def _released(custody: Custody, key: str) -> bool:
        try:
            custody.release(key)
        except ObjectMissing:
            return False
        return True

    def _lengthened(self, key: str, lock: Lock) -> bool:
        try:
            self._store.lengthen(key, lock)
        except ObjectMissing:
            return False
        return True

    def _all(self, work: Callable[[Subject], int], selection: Selection, names: set[str]) -> int:
        """Work through a selection, a bounded number at a time; what runs have added to it meanwhile is left out."""
        objects = 0
        chosen = (one for one in self._subjects(selection) if one.conversation_id in names)
        for number, count in enumerate(self._each(work, chosen), 1):
            objects += count
            if number % _NOW_AND_THEN == 0:
                self._tell(f"{number:,} of {len(names):,} conversations, {objects:,} objects")
        return objects

    def _proof(self, selection: Selection) -> Iterator[str]:
        """Name the manifests and parts that prove a selection: from the first that names one of it up to the head."""
        sequences = {claim.sequence for claims in self._catalogue.claims(selection) for claim in claims}
        for sequence in range(min(sequences, default=self.head.sequence), self.head.sequence + 1):
            yield keys.manifest(sequence)
        for sequence in sorted(sequences):
            yield from self._catalogue.parts_of(sequence)

    def _commit(
        self,
        act: Literal["place", "release", "extend"],
        change: Act,
        which: frozenset[str],
        **said: str | datetime | None,
    ) -> int:
        self.head = commit_act(
            self._store,
            self.head,
            kind="hold",
            run=act_note(act, run_id=self._run_id, version=self._version, now=self._now),
            change=change,
            which=which,
            retention=self._retention,
            said={"act": act, "by": self._by, **said},
        )
        return self.head.sequence


def _end(retention: Retention | None) -> float:
    return retention.until.timestamp() if retention else 0


def act_note(act: str, *, run_id: str, version: str, now: datetime) -> RunNote:
    """Say which command commits an act."""
    return RunNote(id=run_id, part=1, flow=act, version=version, parameters={}, started_at=now, committed_at=now)


def commit_act(
    store: Store,
    head: Head,
    *,
    kind: Kind,
    run: RunNote,
    change: Act,
    which: Iterable[str],
    retention: Retention | None,
    said: Mapping[str, object],
) -> Head:
    """Chain an act of custody: it lists nothing and settles nothing, and hands on all that it found."""
    if head.manifest is None:
        raise ArchiveDamaged("there is no manifest to follow")
    care = Care() if retention is None else Care(lock=Lock(mode=retention.mode, until=retention.until))
    lines = [Named(conversation_id=name).line() for name in sorted(which)]
    note = CustodyNote.model_validate({**said, "which": write_part(store, lines, care)})
    draft = Draft(
        kind=kind,
        run=run,
        source=head.manifest.source,
        listing=None,
        counts={"listed": 0, "carried": 0, **dict.fromkeys(OUTCOMES, 0)},
        entries=[],
        changes=Changes(scope=None, before=Scope(), after=Scope(), settled=frozenset(), pending={}, act=change),
        overlap=0,
        retention=retention,
        custody=note,
    )
    # An archive whose store is unsafe has said so in every manifest so far.
    return commit(store, head, draft, allow_unsafe=head.manifest.unsafe_store)
