"""Says what is wrong with an archive, by reading its files as `docs/archive-format.md` describes them.

It uses none of the product's code: what is read here was perhaps written by a product that is wrong.
"""

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from formant_archive.simulator import Conversation

Files = Mapping[str, bytes]
Json = dict[str, Any]

MANIFEST = re.compile(r"manifests/([0-9]{20})\.json")
PART = re.compile(r"manifests/parts/([0-9a-f]{64})\.jsonl\.gz")
#: What races for a key leave: one for each run that began before a first manifest was committed.
PROBE = re.compile(r"doctor/[0-9a-f-]{36}/race-[0-9]{4}")
RECORD = re.compile(r"(conversations/agent_id=[^/]+/date=[^/]+/[^/]+/)record(\.2)?\.json")
PAYLOADS = {"conversation": "conversation.json", "recording": "recording.wav"}
NAMED = ("archived", "archived_without_recording", "gone", "adopted")
OTHERS = ("already_settled", "other_status", "outside", "pending", "failed")


def files_of(archive: Path) -> dict[str, bytes]:
    """Read a directory's objects; what a crash leaves under a temporary name is none."""
    found = [path for path in archive.rglob("*") if path.is_file() and not path.name.startswith(".tmp-")]
    return {path.relative_to(archive).as_posix(): path.read_bytes() for path in found}


def audit(files: Files, truth: Iterable[Conversation], *, is_settled: bool) -> list[str]:
    """List what is wrong, as sentences.

    Args:
        files: Every object, by its key.
        truth: What the API serves.
        is_settled: Whether nothing can be waited for any more: then every completed conversation must be there.
    """
    return Auditor(files, truth).found(is_settled=is_settled)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def folder(conversation: Conversation) -> str:
    """Say where a conversation of the simulator lies."""
    assert conversation.start_timestamp is not None
    day = datetime.fromtimestamp(conversation.start_timestamp / 1000, UTC).date()
    return f"conversations/agent_id={conversation.agent_id}/date={day}/{conversation.conversation_id}/"


class Auditor:
    """One look at one archive."""

    def __init__(self, files: Files, truth: Iterable[Conversation]) -> None:
        self._files = files
        self._truth = {folder(each): each for each in truth}
        self._folders = {each.conversation_id: name for name, each in self._truth.items()}
        self._found: list[str] = []
        self._manifests: list[Json] = []
        self._records: dict[str, Json] = {}
        #: The ids that some manifest names as settled, with the keys and hashes of their records.
        self._entries: dict[str, set[tuple[str, str]]] = {}

    def found(self, *, is_settled: bool) -> list[str]:
        self._audit_names()
        self._audit_payloads()
        self._audit_records()
        self._audit_chain()
        for manifest in self._manifests:
            self._audit_manifest(manifest)
            self._audit_pending(manifest)
        self._audit_entries()
        self._audit_head()
        if is_settled:
            self._audit_settled()
        return self._found

    def _wrong(self, sentence: str) -> None:
        self._found.append(sentence)

    # Conversations

    def _audit_names(self) -> None:
        for key in self._files:
            place, _, name = key.rpartition("/")
            known = place + "/" in self._truth and name in {*PAYLOADS.values(), "record.json"}
            if not (known or MANIFEST.fullmatch(key) or PART.fullmatch(key) or PROBE.fullmatch(key)):
                self._wrong(f"{key} is nothing that the archive should hold")

    def _audit_payloads(self) -> None:
        for place, served in self._truth.items():
            for name, body in (("conversation.json", served.conversation_json), ("recording.wav", served.recording)):
                stored = self._files.get(place + name)
                if stored is not None and (stored != body or served.status != "completed"):
                    self._wrong(f"{place + name} is not what was served")

    def _audit_records(self) -> None:
        for key, body in self._files.items():
            if match := RECORD.fullmatch(key):
                self._records[key] = self._json(key, body)
                self._audit_record(key, match[1])

    def _audit_record(self, key: str, place: str) -> None:
        record, served = self._records[key], self._truth.get(place)
        if served is None or record.get("conversation_id") != served.conversation_id:
            self._wrong(f"{key} is the record of another conversation")
            return
        if record.get("format") != "formant-archive/record/1" or record["status"] != "completed":
            self._wrong(f"{key} is of another format or status")
        if (record["transcript"]["state"], record["recording"]["state"]) != ("present", "archived"):
            self._wrong(f"{key} does not vouch for a transcript and a recording")
            return
        for part, name in PAYLOADS.items():
            self._audit_link(key, record[part], place + name)

    def _audit_link(self, key: str, link: Json, expected: str) -> None:
        body = self._files.get(link["key"])
        if link["key"] != expected or body is None:
            self._wrong(f"{key} names {link['key']}, which is not there")
        elif (len(body), sha256(body)) != (link["size"], link["sha256"]):
            self._wrong(f"{key} names another size or hash than {link['key']} has")

    # Manifests

    def _audit_chain(self) -> None:
        numbers = sorted(int(match[1]) for match in map(MANIFEST.fullmatch, self._files) if match)
        for number, expected in zip(numbers, count(1), strict=False):
            if number != expected:
                self._wrong(f"manifest {expected} is missing")
                break
        previous = None
        for number in numbers:
            key = f"manifests/{number:020d}.json"
            manifest = self._json(key, self._files[key])
            self._manifests.append(manifest)
            if (manifest["format"], manifest["sequence"]) != ("formant-archive/manifest/1", number):
                self._wrong(f"{key} is of another format or number")
            if manifest["previous"] != previous:
                self._wrong(f"{key} does not follow the manifest before")
            previous = {"key": key, "sha256": sha256(self._files[key])}
        if len({(one["archive_id"], one["source"]) for one in self._manifests}) > 1:
            self._wrong("the manifests are of several archives or sources")
        commits = Counter((one["run"]["id"], one["run"]["part"]) for one in self._manifests)
        if repeated := [run for run, times in commits.items() if times > 1]:
            self._wrong(f"runs committed the same part twice: {repeated}")

    def _audit_manifest(self, manifest: Json) -> None:
        name, counts = f"manifest {manifest['sequence']}", manifest["counts"]
        if set(counts) != {"listed", "carried", *NAMED, *OTHERS}:
            self._wrong(f"{name} has other counts than are documented")
        elif counts["listed"] + counts["carried"] != sum(counts[one] for one in (*NAMED, *OTHERS)):
            self._wrong(f"{name}'s counts do not add up")
        entries = [entry for link in manifest["entries"] for entry in self._part(name, link)]
        outcomes = Counter(entry["outcome"] for entry in entries)
        if any(outcomes[one] != counts.get(one) for one in NAMED) or set(outcomes) - set(NAMED):
            self._wrong(f"{name} has other entries than it counts")
        for entry in entries:
            self._audit_entry(name, entry)
        for scope in manifest["scopes"].values():
            self._part(name, scope["recent"])

    def _audit_pending(self, manifest: Json) -> None:
        counts, number = manifest["counts"], manifest["sequence"]
        earlier = [one["run"]["committed_at"] for one in self._manifests if one["sequence"] < number]
        # What another run has settled meanwhile stays in the counts of what this one found pending.
        is_overtaken = bool(earlier) and max(earlier) >= manifest["run"]["started_at"]
        if not is_overtaken and len(self._pending(manifest)) < counts["pending"] + counts["failed"]:
            self._wrong(f"manifest {number} counts more pending conversations than it has")

    def _audit_entry(self, name: str, entry: Json) -> None:
        key = entry["record_key"]
        self._entries.setdefault(entry["conversation_id"], set()).add((key, entry["record_sha256"]))
        record = self._records.get(key)
        if record is None or sha256(self._files[key]) != entry["record_sha256"]:
            self._wrong(f"{name} names {key}, which is not there or has another hash")
            return
        if any(entry[field] != record[field] for field in ("conversation_id", "agent_id", "status", "start_timestamp")):
            self._wrong(f"{name} says something else than {key}")
        objects = [{field: record[one][field] for field in ("key", "sha256", "size")} for one in PAYLOADS]
        if entry["objects"] != objects:
            self._wrong(f"{name} names other objects than {key}")

    def _audit_entries(self) -> None:
        for conversation_id, records in self._entries.items():
            if len(records) > 1:
                self._wrong(f"{conversation_id} has several records: {sorted(records)}")

    def _pending(self, manifest: Json) -> list[Json]:
        return self._part(f"manifest {manifest['sequence']}", manifest["pending"]) if manifest["pending"] else []

    def _audit_head(self) -> None:
        """What the newest manifest claims: that nothing before a watermark is forgotten."""
        if not self._manifests:
            return
        head = self._manifests[-1]
        pending = {one["conversation_id"] for one in self._pending(head)}
        if both := pending & set(self._entries):
            self._wrong(f"pending though settled: {sorted(both)}")
        if unknown := pending - set(self._folders):
            self._wrong(f"pending and never listed: {sorted(unknown)}")
        for name, scope in head["scopes"].items():
            for served in self._truth.values():
                is_of_scope = name in ("all", f"agent_id={served.agent_id}")
                is_wanted = served.status in ("completed", "in_progress")
                if is_of_scope and is_wanted and self._is_before(served, scope["watermark"]):
                    self._audit_remembered(served.conversation_id, pending)

    @staticmethod
    def _is_before(served: Conversation, watermark: int | None) -> bool:
        return watermark is not None and served.start_timestamp is not None and served.start_timestamp < watermark

    def _audit_remembered(self, conversation_id: str, pending: set[str]) -> None:
        if conversation_id not in pending and conversation_id not in self._entries:
            self._wrong(f"{conversation_id} is forgotten: before the watermark, and neither settled nor pending")

    def _audit_settled(self) -> None:
        if not self._manifests or not self._manifests[-1]["listing"]["complete"]:
            self._wrong("the newest listing is not complete")
        if self._manifests and self._pending(self._manifests[-1]):
            self._wrong("something is still pending")
        completed = {place for place, each in self._truth.items() if each.status == "completed"}
        sealed = {key.removesuffix("record.json") for key in self._records}
        if sealed != completed:
            self._wrong(
                f"{len(completed - sealed)} completed have no record, {len(sealed - completed)} others have one"
            )
        named = {key for records in self._entries.values() for key, _ in records}
        if unnamed := set(self._records) - named:
            self._wrong(f"no manifest names these records: {sorted(unnamed)}")

    # Reading

    def _json(self, key: str, body: bytes) -> Json:
        """Read canonical JSON."""
        parsed: Json = json.loads(body)
        if json.dumps(parsed, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() != body:
            self._wrong(f"{key} is not canonical JSON")
        return parsed

    def _part(self, name: str, link: Json) -> list[Json]:
        """Read the lines of a part that a manifest names."""
        body = self._files.get(link["key"])
        if (
            body is None
            or link["key"] != f"manifests/parts/{link['sha256']}.jsonl.gz"
            or sha256(body) != link["sha256"]
        ):
            self._wrong(f"{name} names {link['key']}, which is not there or has another hash")
            return []
        lines: list[Json] = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        if len(lines) != link["count"]:
            self._wrong(f"{name} counts {link['count']} lines in {link['key']}, which has {len(lines)}")
        return lines
