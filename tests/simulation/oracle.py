"""What the archive promises, checked whenever something is stored, whenever a run ends, and in the end.

    I1   no key ever holds two bodies
    I2   one record for each conversation
    I3   what a successful page showed is archived, pending, or of a status that is not archived
    I4   the chain is whole: numbers without holes, each manifest names the one before
    I5   a record implies its payloads, with their hashes; an absence has its evidence
    I7   no torn bytes: a payload is one whole answer of the source
    I8   pending is not a grave
    I9   a listing that was called complete was
    I10  a run with nothing new writes no payload and no record
    I11  nothing private outside of a conversation's body, and nobody is asked again after a 404

(The numbers are those of `docs/reliability.md`.) The manifests' counts add up; a watermark moves only with a complete
listing, and never past what that has shown.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from formant_archive import keys
from formant_archive.policy import DOCUMENTED_STATUSES, Policy
from formant_archive.records import instant, milliseconds
from tests.simulation.source import KEY, PHONE, PHRASE, Call, Kind, Source

PRIVATE = (KEY.encode(), PHONE.encode(), PHRASE.encode())
_OUTCOMES_WITH_ENTRY = ("archived", "archived_without_recording", "gone", "adopted")


class Broken(AssertionError):
    """A promise was broken."""


def promise(number: str, kept: object, what: str) -> None:
    """Check one."""
    if not kept:
        raise Broken(f"{number}: {what}")


class Objects(dict[str, bytes]):
    """All that is stored; nothing is ever replaced or deleted (I1)."""

    def __setitem__(self, key: str, body: bytes) -> None:
        promise("I1", key not in self or self[key] == body, f"{key} holds another body now")
        super().__setitem__(key, body)

    def __delitem__(self, key: str) -> None:
        raise Broken(f"I1: {key} was deleted")


@dataclass
class Ledge:
    """What one run has seen and done so far, as an onlooker knows it.

    Attributes:
        agent: The scope; None for all.
        started: The moment of its start.
        began: The moment of its first request for the list.
        shown: The ids that successful pages have shown it.
        latest: The latest time among them.
        is_final: The commit that it is at, or was at last, is its last one.
        has_committed: That commit is done: what it was shown must not be forgotten any more.
    """

    agent: int | None
    started: int
    began: int | None = None
    listed_at: int | None = None
    shown: set[str] = field(default_factory=set)
    latest: int | None = None
    is_final: bool = False
    has_committed: bool = False


class Oracle:
    """Looks on.

    Args:
        objects: What is stored.
        source: The truth.
        policy: Everybody's rules of waiting.
    """

    def __init__(self, objects: Objects, source: Source, policy: Policy) -> None:
        self.objects, self.source, self.policy = objects, source, policy
        self.runs: dict[str, Ledge] = {}
        self.records: dict[str, list[str]] = {}
        self.head: dict[str, Any] | None = None
        self._pending: dict[str, dict[str, Any]] = {}
        self._settled_at: dict[str, int] = {}
        self._parts: set[tuple[str, int]] = set()
        self.manifests = 0

    def stored(self, key: str, body: bytes, run: str) -> None:
        """Check what was stored just now, by whom."""
        name = key.rpartition("/")[2]
        if name in (keys.RECORD, keys.SECOND_RECORD):
            self._check_record(key, body)
        elif name in (keys.CONVERSATION, keys.SECOND_CONVERSATION):
            self._check_payload(key, body, "conversation")
        elif name == keys.RECORDING:
            self._check_payload(key, body, "recording")
        elif key.startswith("manifests/parts/"):
            promise("I4", key == keys.part(digest(body)), f"{key} does not have its hash")
            _check_privacy(key, gzip.decompress(body))
        else:
            self._check_manifest(key, body)

    # Payloads and records

    def _check_payload(self, key: str, body: bytes, kind: Kind) -> None:
        name = key.split("/")[-2]
        promise("I7", digest(body) in self.source.served.get((name, kind), ()), f"{key} is no whole answer")

    def _check_record(self, key: str, body: bytes) -> None:
        _check_privacy(key, body)
        record = json.loads(body)
        name = record["conversation_id"]
        call = self.source.calls[name]
        earlier = self.records.setdefault(name, [])
        if key.endswith(keys.SECOND_RECORD):
            promise("I2", record["supersedes"]["key"] in earlier, f"{key} supersedes nothing")
        else:
            promise("I2", not earlier, f"{name} has two records: {key} and {earlier}")
        earlier.append(key)
        self._settled_at[name] = self.source.moment()
        is_gone = record["conversation"] is None
        # The status is the one that was listed last; a call can end and be deleted before it is listed again.
        is_right = record["status"] in self.policy.statuses or call.died is not None
        promise("I3", is_right, f"{name} is archived as {record['status']}")
        for kind in ("conversation", "recording"):
            payload = record[kind]
            if payload is not None and "key" in payload:
                held = self.objects.get(payload["key"])
                is_held = held is not None and (len(held), digest(held)) == (payload["size"], payload["sha256"])
                promise("I5", is_held, f"{key} vouches for {payload['key']}, which is not there, or another")
        if is_gone:
            promise("I5", call.died is not None, f"{name} was called gone and answers")
        self._check_absences(call, record)

    def _check_absences(self, call: Call, record: dict[str, Any]) -> None:
        for kind in ("transcript", "recording"):
            missing = record[kind]
            if missing["state"] not in ("absent", "gone", "not_expected"):
                continue
            times = [milliseconds(instant(probe["at"])) for probe in missing["probes"]]
            spread = times[-1] - times[0] >= self.policy.probe_interval.total_seconds() * 1000
            grace = self.policy.grace.total_seconds() * 1000
            is_late = call.start is None or times[-1] - call.start >= grace
            is_proven = len(times) >= 2 and spread and is_late
            promise("I5", is_proven, f"{call.name}'s {kind} was called {missing['state']} too early")
            for probe, at in zip(missing["probes"], times, strict=True):
                if probe["error_type"] == "not_found":
                    asked = self.source.missed.get((call.name, "recording"), set()) | self.source.missed.get(
                        (call.name, "conversation"), set()
                    )
                    promise("I5", at in asked, f"{call.name}'s {kind} was not asked for at {probe['at']}")

    # Manifests

    def _check_manifest(self, key: str, body: bytes) -> None:
        _check_privacy(key, body)
        manifest = json.loads(body)
        promise("I4", key == keys.manifest(self.manifests + 1), f"{key} follows number {self.manifests}")
        before = self.head
        previous = manifest["previous"]
        last = keys.manifest(self.manifests)
        expected = None if before is None else {"key": last, "sha256": digest(self.objects[last])}
        promise("I4", previous == expected, f"{key} names another one as the one before")
        promise("I4", before is None or manifest["archive_id"] == before["archive_id"], f"{key} is of another archive")
        part = (manifest["run"]["id"], manifest["run"]["part"])
        promise("I4", part not in self._parts, f"{key} is committed twice")
        self._parts.add(part)
        self.manifests += 1
        self._check_counts(key, manifest)
        pending = {line["conversation_id"]: line for line in self._lines(manifest["pending"])}
        for name in self._pending:
            promise("I3", self._is_accounted(name, pending), f"{key} lost {name}, which was pending")
        run = self.runs[manifest["run"]["id"]]
        for name in pending:
            is_open = name not in self.records or self._may_linger(name, run)
            promise("I2", is_open, f"{key} waits for {name}, which is settled")
        self._check_watermarks(key, manifest, before, run)
        if run.is_final:
            self._check_coverage(key, manifest, pending, run)
            run.has_committed = True
        self.head, self._pending = manifest, pending

    def _may_linger(self, name: str, run: Ledge) -> bool:
        """A run need not know what others have settled while it was under way; whoever looks at it next adopts it."""
        return self._settled_at[name] > run.started or name in self._pending

    def _check_counts(self, key: str, manifest: dict[str, Any]) -> None:
        counts = dict(manifest["counts"])
        shown = counts.pop("listed") + counts.pop("carried")
        promise("I3", shown == sum(counts.values()), f"{key}: its counts do not add up")
        entries = [line for part in manifest["entries"] for line in self._lines(part)]
        named = sum(counts[outcome] for outcome in _OUTCOMES_WITH_ENTRY)
        promise("I3", len(entries) == named, f"{key} names {len(entries)} and counts {named}")
        for entry in entries:
            body = self.objects.get(entry["record_key"])
            promise("I5", body is not None, f"{key} names {entry['record_key']}, which is not there")
            promise("I5", body is not None and digest(body) == entry["record_sha256"], f"{key} names another record")

    def _check_watermarks(self, key: str, manifest: dict[str, Any], before: dict[str, Any] | None, run: Ledge) -> None:
        listing = manifest["listing"]
        for name, scope in manifest["scopes"].items():
            earlier = ((before or {}).get("scopes", {}).get(name) or {}).get("watermark")
            moves = scope["watermark"] != earlier
            if moves:
                is_own = name == listing["scope"]
                promise("I9", is_own and listing["complete"], f"{key} moves the watermark of {name}")
                latest = max(run.latest or 0, earlier or 0)
                promise("I9", scope["watermark"] <= latest, f"{key} moves {name} past what was shown")
            promise("I9", earlier is None or scope["watermark"] >= earlier, f"{key} sets {name} back")

    def _check_coverage(self, key: str, manifest: dict[str, Any], pending: Iterable[str], run: Ledge) -> None:
        """What the run was shown is accounted for; and what a complete listing has not shown was not there."""
        pending = set(pending)
        for name in run.shown:
            promise("I3", self._is_accounted(name, pending), f"{key} does not account for {name}, which was listed")
        listing = manifest["listing"]
        if not listing["complete"] or self.source.has_lied:
            return
        for call in self._there_all_along(run):
            if listing["full"]:
                promise("I9", call.name in run.shown, f"{key} calls a listing complete that missed {call.name}")
            promise("I9", self._is_accounted(call.name, pending), f"{key} is complete without {call.name}")

    def _there_all_along(self, run: Ledge) -> Iterator[Call]:
        if run.began is None or run.listed_at is None:
            return
        for call in self.source.calls.values():
            is_there = call.born is not None and call.born <= run.began
            stays = call.died is None or call.died > run.listed_at
            if is_there and stays and run.agent in (None, call.agent):
                yield call

    def _is_accounted(self, name: str, pending: Iterable[str]) -> bool:
        is_other = self.source.calls[name].status in DOCUMENTED_STATUSES - self.policy.statuses
        return name in pending or name in self.records or is_other

    def _lines(self, part: dict[str, Any] | None) -> list[dict[str, Any]]:
        if part is None:
            return []
        body = self.objects.get(part["key"])
        if body is None:
            raise Broken(f"I4: {part['key']} is named and not there")
        promise("I4", digest(body) == part["sha256"], f"{part['key']} is another one than was named")
        lines = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        promise("I4", len(lines) == part["count"], f"{part['key']} has another number of lines")
        return lines

    def entries(self) -> list[dict[str, Any]]:
        """All that the manifests name as settled."""
        parts = [
            part
            for number in range(1, self.manifests)
            if keys.manifest(number) in self.objects
            for part in json.loads(self.objects[keys.manifest(number)])["entries"]
        ]
        return [line for part in parts for line in self._lines(part)]

    # Runs

    def listed(self, run: str, names: Iterable[str], times: Iterable[int], began: int, moment: int) -> None:
        """A page was shown to a run."""
        ledge = self.runs[run]
        ledge.began = began if ledge.began is None else ledge.began
        ledge.listed_at = moment
        ledge.shown.update(names)
        ledge.latest = max([*times, *([] if ledge.latest is None else [ledge.latest])], default=None)

    # The end

    def settled(self) -> None:
        """In the end, after clean runs: everything is settled, or rightly not."""
        head = self.head
        assert head is not None
        for call in self.source.calls.values():
            if call.name in self.records or call.status not in self.policy.statuses:
                continue
            was_seen = any(run.has_committed and call.name in run.shown for run in self.runs.values())
            promise("I8", call.died is not None, f"{call.name} is not settled in the end")
            promise("I3", call.name in self._pending or not was_seen, f"{call.name} was seen and is forgotten")
        for name, line in self._pending.items():
            # One that was deleted is waited for where nothing shows that the key is still the same workspace's.
            witness = self.source.calls.get(line["witness"] or "")
            is_unproven = witness is None or witness.died is not None
            is_rightly = self.source.calls[name].died is not None and is_unproven
            promise("I8", is_rightly, f"{name} is waited for in the end: {line['reason']}")
        for name, found in self.records.items():
            self._check_truth(self.source.calls[name], json.loads(self.objects[found[-1]]))

    def _check_truth(self, call: Call, record: dict[str, Any]) -> None:
        recording = record["recording"]
        if recording["state"] == "archived":
            promise("I7", self.objects[recording["key"]] == call.audio, f"{call.name}'s recording is another one")


def _check_privacy(key: str, body: bytes) -> None:
    for private in PRIVATE:
        promise("I11", private not in body and private not in key.encode(), f"{key} tells what is private")


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
