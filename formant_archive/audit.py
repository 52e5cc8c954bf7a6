"""The audit: what the API lists, what the manifests name and what lies in the bucket, compared; leftovers adopted.

Nothing is ever deleted. That the source does not list a conversation any more is a finding and no more, and where it
lists little of what is archived, that says more of the key than of the archive.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from formant_archive import keys
from formant_archive.errors import ObjectMissing
from formant_archive.findings import CODES, EXIT_CODES, Finding
from formant_archive.ledger import Draft, Head, commit
from formant_archive.listing import Listing
from formant_archive.manifest import OUTCOMES, Changes, RunNote, Scope, ScopeNote
from formant_archive.records import Entry, Reference, Retention, StoredObject, milliseconds
from formant_archive.register import Map, entry_of
from formant_archive.stores import Store
from formant_archive.verify import Report, Verification
from formant_archive.verify.leftovers import adoptable
from formant_archive.verify.reading import weigh

#: Where more than one in so many of what is archived is not listed any more, the key is in doubt.
DOUBTFUL = 10
#: Findings of one code that are kept to be shown.
SHOWN = 10
#: Characters of a cell.
LONGEST = 300
ALL, AGENT = "all", "agent_id="


class Audit:
    """One audit: a verification, then what was compared with the source, then what was adopted.

    Args:
        verification: One that has not begun.
        overlap: How much older a row may be than the one below it in a list that comes newest first, in ms.
        now: Our clock.

    Attributes:
        report: What was looked at, with all findings counted.
        examples: The first findings of each code.
        leftovers: Keys of the records that no manifest names.
        adopted: How many of them a manifest names now.
        listing: The source's list, where it was asked for.
    """

    def __init__(self, verification: Verification, *, overlap: int, now: datetime) -> None:
        self._verification = verification
        self._catalogue = verification.catalogue
        self.report: Report = verification.report
        self.examples: dict[str, list[Finding]] = defaultdict(list)
        self.leftovers: list[str] = []
        self.adopted = 0
        self.listing = Listing(
            ALL, Scope(), known=frozenset(), overlap=overlap, now=milliseconds(now), full=True, since=None
        )

    def verify(self) -> None:
        """Verify the archive.

        Raises:
            StoreError: It is out of reach.
        """
        for finding in self._verification.findings():
            self._keep(finding)

    def take(self, references: Sequence[Reference], total: int) -> None:
        """Take a page of the source's list."""
        self.listing.take(references, total)
        self._catalogue.add_listed(references)

    def compare(self) -> None:
        """Compare what the source has listed with what the manifests name."""
        self._add(self._unknown())
        if not self.listing.complete:
            missing = self.listing.missing
            found = "it could not be followed to its end" if missing is None else f"{missing:,} are missing"
            self._add([Finding(code="S004", key=ALL, expected="all that the source promised", found=found)])
            return
        self._add(
            Finding(code="S002", key=one.entry.record_key, expected="to be listed", found="not listed")
            for one in self._catalogue.vanished()
        )
        gone, held = self.report.tally.codes["S002"], len(self._catalogue)
        if gone * DOUBTFUL > held:
            self._add([Finding(code="S003", key=ALL, expected=f"{held:,} listed", found=f"{held - gone:,}")])

    def adopt(
        self,
        store: Store,
        head: Head,
        run: RunNote,
        *,
        allow_unsafe: bool,
        retention: Retention | None = None,
        each: Map = map,
    ) -> None:
        """Commit a manifest that names the records which no manifest names; their payloads are read to the last byte.

        Raises:
            StoreError: The store is out of reach.
        """
        looked_at = list(each(lambda key: _adopted(store, key), self.leftovers))
        entries = [one for one in looked_at if isinstance(one, Entry)]
        if entries and head.manifest is not None:
            draft = _draft(head.manifest.source, run, entries, retention)
            commit(store, head, draft, allow_unsafe=allow_unsafe, each=each)
            self.adopted = len(entries)
        # At the very end: whoever tries again after an outage must not count them twice.
        self._add(one for one in looked_at if isinstance(one, Finding))

    @property
    def is_well(self) -> bool:
        """Whether the archive is sound, and holds or waits for all that the source lists."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0 well; 1 damaged, or something that is listed is not here; 3 it could not be told."""
        return EXIT_CODES[self.report.verdict] or int(self.report.tally.codes["S001"] > 0)

    @property
    def sentence(self) -> str:
        """Say it in one line, counts only."""
        report = self.report
        parts = [report.verdict, f"{report.conversations:,} conversations in {report.manifests:,} manifests"]
        parts.append(f"{report.bytes_read / 1e6:,.1f} MB read" if report.bytes_read else "sizes only")
        if self.listing.total is not None:
            parts.append(f"{self.listing.unique:,} listed by the source")
        if self.adopted:
            parts.append(f"{self.adopted:,} leftovers adopted")
        parts += [f"{count:,} × {CODES[code][1]} ({code})" for code, count in sorted(report.tally.codes.items())]
        return f"{', '.join(parts)}; head {self.report.pinned_head or 'none'}"

    @property
    def markdown(self) -> str:
        """Say it as a page: what was found, with examples; keys only, no contents."""
        lines = [f"# {self.report.verdict}", "", self.sentence, ""]
        if self.report.pinned_head:
            lines += [f"Head: `{self.report.pinned_head}`", ""]
        if self.examples:
            lines += ["| code | severity | object | expected | found |", "| --- | --- | --- | --- | --- |"]
        for code in sorted(self.examples):
            lines += [_row(finding) for finding in self.examples[code]]
        return "\n".join(lines) + "\n"

    def _unknown(self) -> Iterator[Finding]:
        manifest = self.report.manifest
        scopes = {} if manifest is None else manifest.scopes
        for name, scope in scopes.items():
            # What a scope of all claims, those of single agents need not claim once more.
            if name == ALL or ALL not in scopes:
                yield from self._unknown_of(name, scope)

    def _unknown_of(self, name: str, scope: ScopeNote) -> Iterator[Finding]:
        if scope.watermark is None:
            return
        agent = None if name == ALL else name.removeprefix(AGENT)
        for conversation_id in self._catalogue.unknown(agent, scope.statuses, scope.floor, scope.watermark):
            yield Finding(
                code="S001", key=keys.component(conversation_id), expected="to be archived", found="only listed"
            )

    def _add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.report.tally.add([finding])
            self._keep(finding)

    def _keep(self, finding: Finding) -> None:
        if len(self.examples[finding.code]) < SHOWN:
            self.examples[finding.code].append(finding)
        if finding.code == "X001":
            self.leftovers.append(finding.key)


def _row(finding: Finding) -> str:
    cells = (finding.key, finding.expected, finding.found)
    key, expected, found = (cell.replace("|", "\\|").replace("\n", " ")[:LONGEST] for cell in cells)
    return f"| {finding.code} | {finding.severity} | {key} | {expected or finding.meaning} | {found} |"


def _adopted(store: Store, key: str) -> Entry | Finding:
    found = adoptable(store, key)
    if found is None:
        return Finding(code="X003", key=key)
    record, body = found
    for payload in record.objects:
        if not _is_there(store, keys.folder_of(key), payload):
            return Finding(code="X004", key=key, expected=payload.key, found="nothing, or other bytes")
    return entry_of(record, key, body, "adopted")


def _is_there(store: Store, folder: str | None, payload: StoredObject) -> bool:
    """Whether a payload lies in the conversation's own folder, and is what its record says."""
    if keys.folder_of(payload.key) != folder:
        return False
    try:
        return weigh(store, payload.key) == (payload.size, payload.sha256)
    except ObjectMissing:
        return False


def _draft(source: str, run: RunNote, entries: Sequence[Entry], retention: Retention | None) -> Draft:
    counts = {"listed": 0, "carried": len(entries), **dict.fromkeys(OUTCOMES, 0), "adopted": len(entries)}
    settled = frozenset(entry.conversation_id for entry in entries)
    return Draft(
        kind="audit",
        run=run,
        source=source,
        listing=None,
        counts=counts,
        entries=[entry.line() for entry in entries],
        changes=Changes(scope=None, before=Scope(), after=Scope(), settled=settled, pending={}),
        overlap=0,
        retention=retention,
    )
