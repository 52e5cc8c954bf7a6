"""The manifest: one numbered, immutable commit per run, chained by hash to the one before.

Pure: canonical bytes, the hash chain, the parts that a manifest names, and what becomes of the pipeline's state when a
run's changes are laid on a head (`Changes.on`). Committing, and reading from a store, is `ledger`'s.

Two writers never lock each other out: whoever comes second lays the same `Changes` on the other's head.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from formant_archive.errors import ArchiveDamaged
from formant_archive.records import (
    ConversationReceipt,
    Entry,
    Erased,
    Frozen,
    Held,
    Instant,
    Link,
    Named,
    Pending,
    Probe,
    Recent,
    Reference,
    canonical,
)

#: How the counts add up: listed + carried = the sum of these.
OUTCOMES = (
    "archived",
    "archived_without_recording",
    "gone",
    "adopted",
    "already_settled",
    "other_status",
    "outside",
    "pending",
    "failed",
)
Line = TypeVar("Line", Entry, Pending, Recent, Reference, Named, Held, Erased)
_GZIP = zlib.MAX_WBITS | 16
#: Bytes of a part that are decompressed at once, and of the longest line.
_CHUNK, _LONGEST_LINE = 1 << 16, 1 << 24


class PartLink(Link):
    """A part that a manifest names, and how many lines are in it."""

    count: int


class RunNote(Frozen):
    """Which run wrote a manifest, and which of its parts this is (the first is 1)."""

    id: str
    part: int
    flow: str
    version: str
    parameters: dict[str, Any]
    started_at: Instant
    committed_at: Instant


class ListingNote(Frozen):
    """What the run's listing has seen so far.

    Attributes:
        scope: `all` or `agent_id=123`.
        order: `newest_first` or `other`; None where the listing was not followed to its end.
        full: Whether it was followed to its end.
        since: Rows that started before this (epoch ms) were left out.
        pages: Pages fetched, all passes together.
        rows: Rows on them.
        unique: Conversations among them.
        total_first: The API's `total` on the first page of the last pass.
        total_last: The API's `total` on the last page.
        complete: Whether nothing can be missing, see `listing`.
    """

    scope: str
    order: Literal["newest_first", "other"] | None
    full: bool
    since: int | None
    pages: int
    rows: int
    unique: int
    total_first: int | None
    total_last: int | None
    complete: bool


class ScopeNote(Frozen):
    """How far a scope is.

    Attributes:
        watermark: Epoch ms. Every conversation that a complete listing of the scope showed and that started before
            is settled, pending, or of a status that is not archived.
        total: The API's lowest `total` in the last complete listing of the scope.
        order: The order that its last listing to the end came in.
        floor: The `since` of its first run, epoch ms: before it nothing is claimed.
        statuses: The statuses that were archived.
        recent: The conversations that its listings showed after `watermark - overlap` and that are not pending.
    """

    watermark: int | None
    total: int | None
    order: Literal["newest_first", "other"] | None
    floor: int | None
    statuses: tuple[str, ...]
    recent: PartLink


class CustodyNote(Frozen):
    """What was done to conversations by somebody with a right of their own; in manifests of kind `hold` and `erasure`.

    Attributes:
        act: `place` or `release` a legal hold, `extend` a retention, `erase` payloads.
        by: Who, as the operating system or the person said.
        case: The hold's name.
        until: The new end of the retention.
        reason: Why something was erased.
        legal_basis: What allows it.
        which: The conversations.
    """

    act: Literal["place", "release", "extend", "erase"]
    by: str
    case: str | None = None
    until: Instant | None = None
    reason: str | None = None
    legal_basis: str | None = None
    which: PartLink


class RaceNote(Frozen):
    """How a store did when many writers wanted one key at once; see `race`.

    Attributes:
        rounds: Keys.
        writers: Of each key, at once.
        lost: Keys that several writers were told to have created, or whose object is not the winner's.
    """

    rounds: int
    writers: int
    lost: int


#: Fields of a manifest that are written only where they say something.
_OPTIONAL = ("unsafe_store", "holds", "erased", "custody", "race")
Kind = Literal["run", "backfill", "audit", "hold", "erasure"]


class Manifest(Frozen):
    """A manifest as it lies in the archive.

    `kind` is `run`; all others have listed nothing. `holds` and `erased` are handed on by every kind, as `pending` is.
    """

    format: Literal["formant-archive/manifest/1"] = "formant-archive/manifest/1"
    kind: Kind = "run"
    sequence: int
    previous: Link | None
    archive_id: str
    source: str
    run: RunNote
    listing: ListingNote | None
    counts: dict[str, int]
    entries: tuple[PartLink, ...]
    pending: PartLink | None
    scopes: dict[str, ScopeNote]
    unsafe_store: bool = False
    holds: PartLink | None = None
    erased: PartLink | None = None
    custody: CustodyNote | None = None
    race: RaceNote | None = None

    def body(self) -> bytes:
        """Write the manifest's canonical bytes; what is optional is written only where it says something."""
        return canonical(self.model_dump(mode="json", exclude={one for one in _OPTIONAL if not getattr(self, one)}))

    @property
    def parts(self) -> tuple[PartLink, ...]:
        """Every part that it names."""
        custody = (self.pending, self.holds, self.erased, None if self.custody is None else self.custody.which)
        recent = (scope.recent for scope in self.scopes.values())
        return (*self.entries, *recent, *(one for one in custody if one is not None))

    @classmethod
    def read(cls, body: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            ArchiveDamaged: It is not one.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as fault:
            raise ArchiveDamaged(f"a manifest does not have the documented form: {_where(fault)}") from None


def _where(fault: ValidationError) -> str:
    """Say which field is wrong, without what was in it."""
    first = fault.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def digest(body: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(body).hexdigest()


def pack(lines: Sequence[bytes]) -> tuple[bytes, int]:
    """Write a part: gzip of JSON lines, the same bytes for the same lines; and how many lines there are."""
    return gzip.compress(b"".join(lines), mtime=0), len(lines)


def unpack(body: bytes, kind: type[Line]) -> Iterator[Line]:
    """Read the lines of a part, a few at a time: a part can be of 10,000 conversations.

    Raises:
        ArchiveDamaged: It is no part of that kind.
    """
    try:
        for line in lines_of(body):
            yield kind.model_validate_json(line)
    except (zlib.error, ValidationError):
        raise _not_lines(kind) from None


def lines_of(body: bytes) -> Iterator[bytes]:
    """Split a part into its lines, a few at a time.

    Raises:
        zlib.error: It is no gzip of lines.
    """
    gunzip = zlib.decompressobj(wbits=_GZIP)
    rest = b""
    while not gunzip.eof:
        chunk = gunzip.decompress(body, _CHUNK)
        body = gunzip.unconsumed_tail
        if not chunk and not body and not gunzip.eof:
            raise zlib.error("it is cut off")
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise zlib.error("a line has no end")
        yield from lines
    if rest or gunzip.unused_data:
        raise zlib.error("something follows its last line")


def _not_lines(kind: type[Line]) -> ArchiveDamaged:
    return ArchiveDamaged(f"a part of the manifests is not lines of {kind.__name__.lower()} data")


@dataclass(frozen=True)
class Scope:
    """The state of a scope in memory: its note, with `recent` read."""

    watermark: int | None = None
    total: int | None = None
    order: Literal["newest_first", "other"] | None = None
    floor: int | None = None
    statuses: frozenset[str] = frozenset()
    recent: Mapping[str, Recent] = field(default_factory=dict)

    def horizon(self, overlap: int) -> int | None:
        """Where a listing's look back ends (epoch ms); None where there is no watermark yet."""
        return None if self.watermark is None else self.watermark - overlap

    def pruned(self, overlap: int) -> "Scope":
        """Drop from `recent` what lies before the horizon."""
        start = self.horizon(overlap)
        if start is None:
            return self
        kept = {name: one for name, one in self.recent.items() if one.time >= start}
        return replace(self, recent=kept)

    def merged(self, other: "Scope") -> "Scope":
        """Join what two writers know of the scope; where they differ, the one that claims less counts."""
        marks = [mark for mark in (self.watermark, other.watermark) if mark is not None]
        floors = [one.floor for one in (self, other) if one.watermark is not None]
        totals = [total for total in (self.total, other.total) if total is not None]
        both = dict(other.recent)
        for name, one in self.recent.items():
            both[name] = one if one.settled or name not in both else both[name]
        return Scope(
            watermark=max(marks, default=None),
            total=min(totals, default=None),
            order=self.order if self.order == other.order else "other",
            floor=None if None in floors else min((floor for floor in floors if floor is not None), default=None),
            statuses=self.statuses & other.statuses,
            recent=both,
        )


@dataclass(frozen=True)
class State:
    """All that the pipeline remembers between two runs: what the newest manifest hands on."""

    pending: Mapping[str, Pending] = field(default_factory=dict)
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    holds: Mapping[str, Held] = field(default_factory=dict)
    erased: Mapping[str, Erased] = field(default_factory=dict)


@dataclass(frozen=True)
class Act:
    """What an act of custody does to the state.

    Attributes:
        case: The hold's name.
        placed: Ids that come under it.
        released: Ids that leave it.
        erased: What was erased of conversations, by id.
    """

    case: str = ""
    placed: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    erased: Mapping[str, Erased] = field(default_factory=dict)

    def holds_on(self, holds: Mapping[str, Held]) -> dict[str, Held]:
        """Lay it on what is held."""
        after = {name: set(one.cases) for name, one in holds.items()}
        for name in self.placed:
            after.setdefault(name, set()).add(self.case)
        for name in self.released & after.keys():
            after[name].discard(self.case)
        return {name: Held(conversation_id=name, cases=tuple(sorted(cases))) for name, cases in after.items() if cases}

    def erased_on(self, erased: Mapping[str, Erased]) -> dict[str, Erased]:
        """Lay it on what is erased: nothing ever leaves that."""
        after = dict(erased)
        for name, one in self.erased.items():
            known = after[name].keys if name in after else ()
            after[name] = Erased(conversation_id=name, keys=tuple(sorted({*known, *one.keys})))
        return after


@dataclass(frozen=True)
class Changes:
    """What a run has done to the state it began from.

    Attributes:
        scope: The scope that the run listed; None where it listed none.
        before: That scope as the run found it.
        after: That scope as the run leaves it; the same as `before` where the listing was not complete.
        settled: Ids that are settled now, and pending no more.
        pending: The conversations that the run has touched and that are pending now.
        dropped: Ids that are of a status that is not archived, and pending no more.
        act: What was done in custody; None in a run.
    """

    scope: str | None
    before: Scope
    after: Scope
    settled: frozenset[str]
    pending: Mapping[str, Pending]
    dropped: frozenset[str] = frozenset()
    act: Act | None = None

    def on(self, state: State, overlap: int) -> State:
        """Lay the changes on a state: the one the run began from, or another writer's newer one."""
        over = self.settled | self.dropped
        pending = {name: one for name, one in state.pending.items() if name not in over}
        for name, one in self.pending.items():
            pending[name] = joined(pending[name], one) if name in pending else one
        done = [one for name, one in state.pending.items() if name in over]
        scopes = dict(state.scopes)
        if self.scope is not None:
            scopes[self.scope] = self._scope_on(scopes.get(self.scope, Scope())).pruned(overlap)
        scopes = {name: self.remembering(name, one, done, overlap) for name, one in scopes.items()}
        if self.act is None:
            return State(pending, scopes, state.holds, state.erased)
        return State(pending, scopes, self.act.holds_on(state.holds), self.act.erased_on(state.erased))

    def _scope_on(self, theirs: Scope) -> Scope:
        """Lay the changes on the run's own scope, which another run may have moved since; or this one's first parts."""
        if replace(theirs, recent={}) != replace(self.before, recent={}):
            return theirs.merged(self.after)
        earlier = {name: one for name, one in theirs.recent.items() if name not in self.pending}
        return replace(self.after, recent={**earlier, **self.after.recent})

    def remembering(self, name: str, scope: Scope, done: Sequence[Pending], overlap: int) -> Scope:
        """Let a scope remember what it has shown, and waits for no more: it must not take it for new."""
        news = {
            one.conversation_id: Recent(
                conversation_id=one.conversation_id, time=one.time, settled=one.conversation_id in self.settled
            )
            for one in done
            if name in one.scopes and one.time is not None
        }
        return replace(scope, recent={**scope.recent, **news}).pruned(overlap) if news else scope


def joined(theirs: Pending, ours: Pending) -> Pending:
    """Join what two runs know of one pending conversation: ours, with their receipts, probes and scopes."""
    return ours.model_copy(
        update={
            "folder": theirs.folder,
            "first_seen_at": min(theirs.first_seen_at, ours.first_seen_at),
            "scopes": tuple(sorted({*theirs.scopes, *ours.scopes})),
            "conversation": _fuller(theirs.conversation, ours.conversation),
            "recording": theirs.recording or ours.recording,
            "conversation_probes": _all_probes(theirs.conversation_probes, ours.conversation_probes),
            "recording_probes": _all_probes(theirs.recording_probes, ours.recording_probes),
        }
    )


def _fuller(theirs: ConversationReceipt | None, ours: ConversationReceipt | None) -> ConversationReceipt | None:
    """Choose between two receipts: theirs stands, unless only ours has a transcript."""
    if theirs is None or (ours is not None and ours.has_transcript and not theirs.has_transcript):
        return ours
    return theirs


def _all_probes(theirs: tuple[Probe, ...], ours: tuple[Probe, ...]) -> tuple[Probe, ...]:
    return tuple(sorted({*theirs, *ours}, key=lambda probe: probe.at))
