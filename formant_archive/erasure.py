"""Erasure: payloads that must go, by somebody with a right of their own; what was there stays written down.

The manifest comes first, the removal after it. A crash between the two leaves payloads that a manifest calls erased:
`verify` warns (`E002`), and the same command again removes them. The other way round a crash would leave payloads
missing with nobody to say why. What a lock or a hold forbids is not named in the manifest, and stays.

The record stays: it holds no phone number and no word that was said, the conversation remains settled, and no later run
asks for it again.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime

from formant_archive import keys
from formant_archive.catalogue import Catalogue, Selection
from formant_archive.custody import Tell, act_note, commit_act
from formant_archive.errors import StoreRefused, UsageError
from formant_archive.ledger import read_head
from formant_archive.manifest import Act
from formant_archive.records import Erased, Retention
from formant_archive.register import Map
from formant_archive.stores.custody import Custody


@dataclass(frozen=True)
class Refusal:
    """A conversation that could not be erased, or not wholly, and why."""

    conversation_id: str
    why: str


@dataclass(frozen=True)
class Erasure:
    """What an erasure came to.

    Attributes:
        conversations: How many a manifest calls erased.
        objects: How many versions of objects were removed.
        manifest: The number of the manifest that says so; None where the chain said it already, or nothing was erased.
        refused: What could not be erased.
    """

    conversations: int
    objects: int
    manifest: int | None
    refused: tuple[Refusal, ...]


class Eraser:
    """Whoever erases in one archive; see `custody.Custodian` for the arguments.

    `bypass` also removes what a GOVERNANCE lock forbids, by a right that few have.
    """

    def __init__(
        self,
        store: Custody,
        catalogue: Catalogue,
        *,
        by: str,
        run_id: str,
        version: str,
        now: datetime,
        bypass: bool = False,
        retention: Retention | None = None,
        each: Map = map,
        tell: Tell = lambda line: None,
    ) -> None:
        self._store, self._catalogue, self._each, self._tell = store, catalogue, each, tell
        self._by, self._run_id, self._version, self._now = by, run_id, version, now
        self._bypass, self._retention = bypass, retention
        self._head = read_head(store, catalogue.sequence)
        if self._head.manifest is None:
            raise UsageError("there is no archive yet: no run has committed anything there")

    def erase(self, selection: Selection, *, reason: str, legal_basis: str) -> Erasure:
        """Remove the payloads of conversations, every version of them.

        Raises:
            ArchiveError: One came under a legal hold meanwhile; nothing was erased.
        """
        looked_at = list(self._each(self._looked_at, self._subjects(selection)))
        refused = [one for one in looked_at if isinstance(one, Refusal)]
        wanted = {one.conversation_id: one for one in looked_at if isinstance(one, Erased)}
        refused += self._not_settled(selection, wanted.keys() | {one.conversation_id for one in refused})
        news = {name: one for name, one in wanted.items() if not set(one.keys) <= self._known(name)}
        number = self._commit(news, reason, legal_basis) if news else None
        objects = 0
        for done, count in enumerate(self._each(self._removed, wanted.values()), 1):
            if isinstance(count, Refusal):
                refused.append(count)
            else:
                objects += count
            self._tell(f"{done:,} of {len(wanted):,} conversations, {objects:,} objects removed")
        return Erasure(len(wanted), objects, number, tuple(refused))

    def _known(self, name: str) -> Set[str]:
        known = self._head.state.erased.get(name)
        return frozenset(known.keys if known else ())

    def _subjects(self, selection: Selection) -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
        """Give the settled conversations, with their folders and the payloads that entries name."""
        for claims in self._catalogue.claims(selection):
            entries = [one.entry for one in claims]
            folders = {keys.folder_of(one.record_key) for one in entries}
            # A forged entry must not have another conversation's payloads removed.
            own = frozenset(one for one in folders if one and keys.is_own(one, entries[0].conversation_id))
            named = frozenset(each.key for one in entries for each in one.objects if keys.folder_of(each.key) in own)
            yield entries[0].conversation_id, own, named

    def _looked_at(self, subject: tuple[str, frozenset[str], frozenset[str]]) -> Erased | Refusal:
        """Find what there is to remove, and whether something forbids it."""
        name, folders, named = subject
        held = self._head.state.holds.get(name)
        if held is not None:
            return Refusal(name, f"under legal hold: {', '.join(held.cases)}")
        stored = {stat.key for folder in folders for stat in self._store.list(folder)}
        found = named | {key for key in stored if key.rpartition("/")[2] in keys.PAYLOADS}
        for key in sorted(found & stored):
            why = self._store.bond(key, self._now, bypass=self._bypass)
            if why is not None:
                return Refusal(name, f"{key.rpartition('/')[2]} is {why}")
        return Erased(conversation_id=name, keys=tuple(sorted(found)))

    def _not_settled(self, selection: Selection, looked_at: Set[str]) -> Iterator[Refusal]:
        for name, one in self._head.state.pending.items():
            if selection.takes(one) and name not in looked_at:
                yield Refusal(name, "not settled yet: erase it once it is")
        for name in sorted((selection.ids or frozenset()) - looked_at - self._head.state.pending.keys()):
            yield Refusal(name, "the archive knows no such conversation")

    def _removed(self, one: Erased) -> int | Refusal:
        try:
            return sum(self._store.erase(key, bypass=self._bypass) for key in one.keys)
        except StoreRefused as fault:
            return Refusal(one.conversation_id, str(fault))

    def _commit(self, news: dict[str, Erased], reason: str, legal_basis: str) -> int:
        said = {"act": "erase", "by": self._by, "reason": reason, "legal_basis": legal_basis}
        self._head = commit_act(
            self._store,
            self._head,
            kind="erasure",
            run=act_note("erase", run_id=self._run_id, version=self._version, now=self._now),
            change=Act(erased=news),
            which=news,
            retention=self._retention,
            said=said,
        )
        return self._head.sequence
