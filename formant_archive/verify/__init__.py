"""Verification: an archive against its own manifests, by whoever can read it.

From manifest 1 to the head: numbers, links, canonical bytes, parts, counts; then each record against its entry, each
payload against its record; then what no manifest names. Findings are data (`findings`); nothing is changed, and nothing
is held in memory that grows with the archive.

What was committed while a verification runs is not looked at; its objects may show as leftovers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from formant_archive import keys
from formant_archive.catalogue import EVERYTHING, Catalogue, Selection
from formant_archive.errors import StoreError, UsageError
from formant_archive.findings import Finding, Tally, Verdict
from formant_archive.manifest import Manifest
from formant_archive.records import Link
from formant_archive.register import Map
from formant_archive.stores import Store
from formant_archive.verify.chain import Chain
from formant_archive.verify.conversations import Conversations, Depth
from formant_archive.verify.leftovers import leftovers, traces
from formant_archive.verify.reading import Unreadable

__all__ = ["Depth", "Expected", "Report", "Tell", "Verification", "depth_of"]

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Expected:
    """A manifest that was noted outside of the archive: its number, and the SHA-256 of its bytes."""

    sequence: int
    sha256: str

    @classmethod
    def read(cls, text: str) -> "Expected":
        """Read `42:<sha256>`.

        Raises:
            UsageError: It is not that.
        """
        number, _, sha256 = text.strip().partition(":")
        is_hash = len(sha256) == 64 and set(sha256.lower()) <= set("0123456789abcdef")
        if not (number.isascii() and number.isdigit() and len(number) <= 20 and int(number) and is_hash):
            raise UsageError(
                "the expected head is a number and a SHA-256, 42:9f86d0…, as `status` and `verify` print it"
            )
        return cls(int(number), sha256.lower())


def depth_of(*, deep: bool, sample: str | None, day: date) -> Depth | None:
    """Say which payloads are read: all of them, or a share such as 1/30, another one each day.

    Raises:
        UsageError: The share is none, or both are given.
    """
    if sample is None:
        return Depth() if deep else None
    if deep:
        raise UsageError("deep reads every byte and sample a share of them: give one of the two")
    one, _, share = sample.partition("/")
    if one != "1" or not (share.isascii() and share.isdigit() and len(share) < 5 and int(share)):
        raise UsageError("sample is one in so many, at most 9999, such as 1/30")
    return Depth(int(share), day.toordinal())


@dataclass
class Report:
    """What a verification has looked at so far.

    Attributes:
        manifest: The newest one; None where there is none, or where it is none.
        head: Its key and hash; None where there is none.
        sequence: Its number.
        manifests: How many were looked at.
        conversations: How many settled ones.
        records: How many.
        payloads: How many.
        bytes_read: Of payloads.
        pending: How many conversations the head waits for.
        tally: The findings so far, by code.
    """

    manifest: Manifest | None = None
    head: Link | None = None
    sequence: int = 0
    manifests: int = 0
    conversations: int = 0
    records: int = 0
    payloads: int = 0
    bytes_read: int = 0
    pending: int = 0
    tally: Tally = field(default_factory=Tally)

    @property
    def verdict(self) -> Verdict:
        """Say it in one word."""
        return self.tally.verdict

    @property
    def pinned_head(self) -> str | None:
        """The head as `--expect-head` takes it."""
        return None if self.head is None else f"{self.sequence}:{self.head.sha256}"

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        numbers = ("manifests", "conversations", "records", "payloads", "bytes_read", "pending")
        return {
            "verdict": self.verdict,
            "head": self.pinned_head,
            **{name: getattr(self, name) for name in numbers},
            "findings": dict(sorted(self.tally.codes.items())),
        }


class Verification:
    """One look at one archive.

    Args:
        store: Where the archive is. It is only read.
        depth: Which payloads are read; None: none, they are only asked for their size and what the store notes.
        selection: The conversations that are looked at; the chain is looked at as a whole. What no manifest names is
            looked for only where everything is selected.
        expected: A manifest that must be in the chain.
        each: Calls a function for many items, see `register.Map`.
        tell: Is told now and then how far it is.
    """

    def __init__(
        self,
        store: Store,
        *,
        depth: Depth | None = None,
        selection: Selection = EVERYTHING,
        expected: Expected | None = None,
        each: Map = map,
        tell: Tell = lambda line: None,
    ) -> None:
        self._store, self._depth, self._selection = store, depth, selection
        self._expected, self._each, self._tell = expected, each, tell
        self.catalogue = Catalogue()
        self.report = Report()

    def findings(self) -> Iterator[Finding]:
        """Look, and yield what is found while looking; afterwards the report is complete.

        Raises:
            StoreError: The archive cannot be listed, or too many of its objects cannot be read.
        """
        for finding in self._findings():
            self.report.tally.add([finding])
            yield finding

    def _findings(self) -> Iterator[Finding]:
        report = self.report
        chain = Chain(self._store, self.catalogue, self._each, self._tell)
        yield from chain.findings()
        report.manifest, report.head, report.sequence = chain.newest, chain.head, chain.sequence
        report.manifests = chain.read
        report.pending = chain.pending
        yield from self._pinned(chain)
        conversations = Conversations(self._store, self.catalogue, self._depth, self._each, self._tell)
        yield from conversations.findings(self._selection)
        report.conversations, report.records = conversations.conversations, conversations.records
        report.payloads, report.bytes_read = conversations.payloads, conversations.bytes_read
        if self._selection == EVERYTHING:
            yield from leftovers(self._store, self.catalogue, self._tell)
            yield from traces(self._store)

    def _pinned(self, chain: Chain) -> Iterator[Finding]:
        if self._expected is None:
            return
        number, sha256 = self._expected.sequence, self._expected.sha256
        try:
            found = chain.sha256_of(number)
        except StoreError as fault:
            yield Unreadable().finding(keys.manifest(number), fault)
            return
        if found != sha256:
            there = f"the newest manifest is {chain.sequence}" if found is None else f"{number}:{found}"
            yield Finding(code="C005", key=keys.manifest(number), expected=f"{number}:{sha256}", found=there)
