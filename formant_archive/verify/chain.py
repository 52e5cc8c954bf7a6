"""The chain: every manifest from 1 to the head, the links between them, and the parts that they name."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, get_args

from formant_archive import keys
from formant_archive.catalogue import Catalogue, outcome_of
from formant_archive.errors import ArchiveDamaged, ObjectMissing, StoreError
from formant_archive.findings import Finding
from formant_archive.manifest import OUTCOMES, Line, Manifest, PartLink, digest, lines_of
from formant_archive.records import Entry, Erased, Held, Link, Named, Outcome, Pending, Recent
from formant_archive.register import Map
from formant_archive.stores import Store
from formant_archive.verify.reading import Unreadable, is_written_so

#: What the lines of a part say, beside the lines themselves.
Lines = Iterator[tuple[Line, bytes]]
#: The outcomes that have an entry.
SETTLED = get_args(Outcome)
#: Two machines' clocks may differ by so much, in seconds.
CLOCKS_DIFFER = 300


class Seen(NamedTuple):
    """What was seen of a manifest: its bytes' hash, None where there are none; itself, None where it is none."""

    sequence: int
    sha256: str | None
    manifest: Manifest | None
    findings: list[Finding]
    pending: int = 0


class Chain:
    """One look at the manifests.

    Attributes:
        newest: The newest manifest; None where it cannot be read as one.
        head: Its key and hash.
        sequence: Its number; 0 where there is none.
        read: How many are there.
        pending: How many conversations the newest one waits for.
    """

    def __init__(self, store: Store, catalogue: Catalogue, each: Map, tell: Callable[[str], None]) -> None:
        self._store, self._catalogue, self._each, self._tell = store, catalogue, each, tell
        self._unreadable = Unreadable()
        self._first: Manifest | None = None
        self.newest: Manifest | None = None
        self.head: Link | None = None
        self.sequence = self.read = self.pending = 0

    def findings(self) -> Iterator[Finding]:
        """Look at all of them, and fill the catalogue with what they name."""
        numbers = self._numbers()
        if not numbers:
            yield Finding(code="U002", key=keys.manifest(1), expected="a manifest", found="none")
            return
        self.sequence = numbers[-1]
        before: Seen | None = None
        for seen in self._each(self._look, numbers):
            yield from seen.findings
            yield from self._links(before, seen)
            before = seen
            self.read += seen.sha256 is not None
            self._tell(f"{self.read:,} of {len(numbers):,} manifests")
        if before is not None and before.sha256 is not None:
            self.head = Link(key=keys.manifest(before.sequence), sha256=before.sha256)
            self.newest, self.pending = before.manifest, before.pending

    def sha256_of(self, sequence: int) -> str | None:
        """Hash a manifest; None where there is no such number."""
        try:
            return digest(self._store.get(keys.manifest(sequence)))
        except ObjectMissing:
            return None

    def _numbers(self) -> list[int]:
        """List the manifests' numbers, lowest first. What is named otherwise is no manifest."""
        found = (keys.sequence_of(stat.key) for stat in self._store.list("manifests/"))
        return sorted(number for number in found if number is not None)

    # One manifest, in any thread

    def _look(self, sequence: int) -> Seen:
        key = keys.manifest(sequence)
        try:
            body = self._store.get(key)
        except ObjectMissing:
            return Seen(sequence, None, None, [Finding(code="C001", key=key, expected="a manifest", found="nothing")])
        except StoreError as fault:
            return Seen(sequence, None, None, [self._unreadable.finding(key, fault)])
        try:
            manifest = Manifest.read(body)
        except ArchiveDamaged:
            return Seen(sequence, digest(body), None, [_malformed(key)])
        if not is_written_so(manifest, body) or not _is_in_form(manifest):
            return Seen(sequence, digest(body), manifest, [_malformed(key)])
        # By conversation: one can have several lines, of which the last one counts.
        outcomes: dict[str, str] = {}
        pending = 0
        findings = [finding for part in manifest.entries for finding in self._entries(sequence, part, outcomes)]
        # A part that could not be read says nothing of the counts.
        counted = None if any(one.code == "U001" for one in findings) else Counter(outcomes.values())
        if manifest.pending is not None:
            findings += self._pending(sequence, manifest.pending)
            pending = manifest.pending.count
        for scope in manifest.scopes.values():
            findings += self._part(scope.recent, Recent, _drop)
        findings += self._custody(sequence, manifest)
        return Seen(sequence, digest(body), manifest, findings + _add_up(key, manifest, counted), pending)

    def _entries(self, sequence: int, part: PartLink, outcomes: dict[str, str]) -> list[Finding]:
        wrong: list[Finding] = []

        def take(lines: Lines[Entry]) -> Iterator[bytes]:
            for entry, line in lines:
                outcomes[entry.conversation_id] = entry.outcome
                if entry.outcome not in ("adopted", outcome_of(entry.objects)):
                    what = f"{entry.outcome} of {entry.record_key}"
                    wrong.append(Finding(code="R004", key=part.key, expected=what, found=outcome_of(entry.objects)))
                yield line

        found = self._part(part, Entry, lambda lines: self._catalogue.add(sequence, take(lines)), is_read_again=True)
        return found + wrong

    def _pending(self, sequence: int, part: PartLink) -> list[Finding]:
        # Only the newest one counts; those of the past are looked at, and forgotten.
        is_head = sequence == self.sequence
        keep = self._catalogue.add_pending if is_head else _drop
        return self._part(part, Pending, lambda lines: keep(_in_place(lines)), is_read_again=is_head)

    def _custody(self, sequence: int, manifest: Manifest) -> list[Finding]:
        """Look at what was done in custody, and take up what the head says is held and erased."""
        is_head, findings = sequence == self.sequence, list[Finding]()
        if manifest.custody is not None:
            findings += self._part(manifest.custody.which, Named, _drop)
        if manifest.holds is not None:
            keep = self._catalogue.add_held if is_head else _drop
            findings += self._part(manifest.holds, Held, lambda lines: keep(_first(lines)), is_read_again=is_head)
        if manifest.erased is not None:
            keep_erased = self._catalogue.add_erased if is_head else _drop
            findings += self._part(
                manifest.erased, Erased, lambda lines: keep_erased(_erasable(lines)), is_read_again=is_head
            )
        return findings

    def _part(
        self,
        part: PartLink,
        kind: type[Line],
        keep: Callable[[Lines[Line]], None],
        *,
        is_read_again: bool = False,
    ) -> list[Finding]:
        """Look at a part: once, although many manifests may name it, unless its lines are wanted again."""
        if part.key != keys.part(part.sha256):
            return [Finding(code="C008", key=part.key, expected=part.sha256, found="another hash in its name")]
        known = None if is_read_again else self._catalogue.lines_of_part(part.sha256)
        if known is not None:
            return _counted(part, known)
        try:
            body = self._store.get(part.key)
        except ObjectMissing:
            return [Finding(code="C007", key=part.key, expected="a part", found="nothing")]
        except StoreError as fault:
            return [self._unreadable.finding(part.key, fault)]
        if (found := digest(body)) != part.sha256:
            return [Finding(code="C008", key=part.key, expected=part.sha256, found=found)]
        count = 0

        def counted() -> Lines[Line]:
            nonlocal count
            for line in lines_of(body):
                count += 1
                one = kind.model_validate_json(line)
                if one.line() != line + b"\n":
                    raise ArchiveDamaged(f"{part.key}: a line is not in canonical JSON of the documented fields")
                yield one, line

        try:
            keep(counted())
        except (ArchiveDamaged, ValueError, zlib.error):
            return [Finding(code="C009", key=part.key, expected=f"{kind.__name__.lower()} lines", found="others")]
        self._catalogue.add_part(part.sha256, count)
        return _counted(part, count)

    # Between two manifests, in their order

    def _links(self, before: Seen | None, seen: Seen) -> Iterator[Finding]:
        expected = 1 if before is None else before.sequence + 1
        key = keys.manifest(seen.sequence)
        if seen.sequence != expected:
            yield _hole(expected, seen.sequence - 1)
        manifest = seen.manifest
        if manifest is None:
            return
        self._first = self._first or manifest
        yield from _place(key, seen.sequence, manifest, self._first)
        if before is not None and before.sequence == seen.sequence - 1 and before.sha256 is not None:
            yield from _successor(keys.manifest(before.sequence), before.sha256, manifest.previous)
            if before.manifest is not None:
                yield from _clock(key, before.manifest, manifest)
                yield from _in_custody(key, before.manifest, manifest)
        elif seen.sequence == 1 and manifest.previous is not None:
            yield Finding(
                code="C002", key=key, expected="the first manifest, which follows none", found="a predecessor"
            )
        elif seen.sequence > 1 and manifest.previous is None:
            yield Finding(code="C002", key=key, expected="a predecessor", found="none")


def _is_in_form(manifest: Manifest) -> bool:
    """Whether what a manifest says can be: its counts, and the keys of its parts."""
    named = all(keys.sha256_of_part(part.key) and _is_hash(part.sha256) and part.count >= 0 for part in manifest.parts)
    return named and set(manifest.counts) == {"listed", "carried", *OUTCOMES} and min(manifest.counts.values()) >= 0


def _is_hash(text: str) -> bool:
    return keys.sha256_of_part(keys.part(text)) is not None


def _in_place(lines: Lines[Pending]) -> Iterator[Pending]:
    """Let through pending conversations whose folder and payloads are where they may be.

    Raises:
        ArchiveDamaged: One's are not.
    """
    for one, _ in lines:
        held = [receipt.key for receipt in (one.conversation, one.recording) if receipt]
        is_own = keys.folder_of(one.folder + keys.RECORD) == one.folder and keys.is_own(one.folder, one.conversation_id)
        if not is_own or any(keys.folder_of(key) != one.folder for key in held):
            raise ArchiveDamaged("a pending conversation's folder or payload lies elsewhere")
        yield one


def _erasable(lines: Lines[Erased]) -> Iterator[Erased]:
    """Let through erasures of payloads in the conversation's own folder: nothing else can go.

    Raises:
        ArchiveDamaged: One names something else.
    """
    for one, _ in lines:
        folders = {keys.folder_of(key) or "" for key in one.keys}
        is_own = all(keys.is_own(folder, one.conversation_id) for folder in folders)
        if not is_own or any(key.rpartition("/")[2] not in keys.PAYLOADS for key in one.keys):
            raise ArchiveDamaged("what was erased is no payload of its conversation")
        yield one


def _first(lines: Lines[Line]) -> Iterator[Line]:
    return (one for one, _ in lines)


def _drop(lines: Iterator[object]) -> None:
    for _ in lines:
        pass


def _malformed(key: str) -> Finding:
    return Finding(code="C003", key=key, expected="a manifest in canonical JSON", found="something else")


def _hole(first: int, last: int) -> Finding:
    found = "nothing" if first == last else f"nothing up to {keys.manifest(last)}"
    return Finding(code="C001", key=keys.manifest(first), expected="a manifest", found=found)


def _place(key: str, sequence: int, manifest: Manifest, first: Manifest) -> Iterator[Finding]:
    if manifest.sequence != sequence:
        yield Finding(code="C004", key=key, expected=f"number {sequence}", found=f"number {manifest.sequence}")
    if manifest.archive_id != first.archive_id:
        yield Finding(code="C004", key=key, expected=f"archive {first.archive_id}", found=manifest.archive_id)
    if manifest.source != first.source:
        yield Finding(code="C004", key=key, expected=f"source {first.source}", found=manifest.source)


def _successor(key: str, sha256: str, named: Link | None) -> Iterator[Finding]:
    if named is None or named.key != key:
        yield Finding(code="C002", key=key, expected="to be named by its successor", found="it names another")
    elif named.sha256 != sha256:
        yield Finding(code="C002", key=key, expected=named.sha256, found=sha256)


def _clock(key: str, before: Manifest, manifest: Manifest) -> Iterator[Finding]:
    earlier, later = before.run.committed_at, manifest.run.committed_at
    if (earlier - later).total_seconds() > CLOCKS_DIFFER:
        yield Finding(code="T001", key=key, expected=f"after {earlier.isoformat()}", found=later.isoformat())


def _in_custody(key: str, before: Manifest, manifest: Manifest) -> Iterator[Finding]:
    """Look whether what is held and what was erased is handed on: only an act of its kind may change it."""
    for kind, earlier, later in (("hold", before.holds, manifest.holds), ("erasure", before.erased, manifest.erased)):
        if later != earlier and manifest.kind != kind:
            expected, found = ("none" if part is None else part.sha256 for part in (earlier, later))
            yield Finding(code="C010", key=key, expected=expected, found=found)


def _add_up(key: str, manifest: Manifest, entries: Counter[str] | None) -> list[Finding]:
    counts, findings = manifest.counts, []
    seen, told = counts["listed"] + counts["carried"], sum(counts[one] for one in OUTCOMES)
    if seen != told:
        findings.append(Finding(code="C006", key=key, expected=f"{seen} conversations", found=f"{told}"))
    if entries is None:
        return findings
    for outcome in SETTLED:
        if counts[outcome] != entries[outcome]:
            what = f"{counts[outcome]} entries {outcome}"
            findings.append(Finding(code="C006", key=key, expected=what, found=f"{entries[outcome]}"))
    return findings


def _counted(part: PartLink, count: int) -> list[Finding]:
    if part.count == count:
        return []
    return [Finding(code="C009", key=part.key, expected=f"{part.count} lines", found=f"{count}")]
