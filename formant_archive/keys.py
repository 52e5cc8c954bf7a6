"""Where things live in the archive: pure functions from names to keys.

    conversations/agent_id=123/date=2026-03-18/<conversation id>/conversation.json, recording.wav, record.json
    manifests/00000000000000000042.json
    manifests/parts/<sha256>.jsonl.gz
    doctor/<name>/race-0001

Keys are relative to the archive, so that it can be moved whole. No id, whatever is in it, leaves its folder.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta

from formant_archive.records import Reference

CONVERSATION = "conversation.json"
SECOND_CONVERSATION = "conversation.2.json"
RECORDING = "recording.wav"
RECORD = "record.json"
SECOND_RECORD = "record.2.json"
RECORDS = (RECORD, SECOND_RECORD)
PAYLOADS = (CONVERSATION, SECOND_CONVERSATION, RECORDING)

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_FOLDER = re.compile(r"conversations/agent_id=[^/]+/date=[^/]+/[^/]+/")
_PART = re.compile(r"manifests/parts/([0-9a-f]{64})\.jsonl\.gz")
_MANIFEST = re.compile(r"manifests/([0-9]{20})\.json")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST, _KEPT = 200, 100


def component(name: str) -> str:
    """Spell any text as one part of a key: plain ids as they are, others percent-encoded byte by byte.

    Where that is longer than 200 bytes, its first 100, cut between two `%XX`, then `~` and the SHA-256 of the text.
    """
    if _PLAIN.fullmatch(name) and name not in {".", ".."}:
        return name
    raw = name.encode()
    # Dots are encoded where they are all there is: `..` must not be a step upwards.
    safe = _UNRESERVED - set(b".") if name in {".", ".."} else _UNRESERVED
    encoded = "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in raw)
    if len(encoded) <= _LONGEST:
        return encoded
    head = re.sub(r"%[0-9A-F]?$", "", encoded[:_KEPT])
    return f"{head}~{hashlib.sha256(raw).hexdigest()}"


def day(timestamp: int | None) -> str:
    """Name the UTC day of an epoch time in milliseconds, `unknown` where it is no time of years 1 to 9999."""
    if timestamp is None:
        return "unknown"
    try:
        return (_EPOCH + timedelta(milliseconds=timestamp)).date().isoformat()
    except OverflowError:
        return "unknown"


def day_folder(reference: Reference) -> str:
    """Name the folder of an agent's day, which ends with `/`."""
    agent = "unknown" if reference.agent_id is None else component(str(reference.agent_id))
    return f"conversations/agent_id={agent}/date={day(reference.time)}/"


def folder(reference: Reference) -> str:
    """Name a conversation's own folder, which ends with `/`."""
    return f"{day_folder(reference)}{component(reference.conversation_id)}/"


def folder_of(key: str) -> str | None:
    """Name the conversation's folder that an object lies in; None where it lies in none."""
    match = _FOLDER.match(key)
    is_safe = match is not None and not {"", ".", ".."} & set(key.split("/"))
    return match[0] if match and is_safe and "/" not in key[match.end() :] and key[match.end() :] else None


def is_own(folder: str, conversation_id: str) -> bool:
    """Whether a folder bears a conversation's name."""
    return folder.rstrip("/").rpartition("/")[2] == component(conversation_id)


def day_folder_of(folder: str) -> str:
    """Name the day's folder that a conversation's folder lies in."""
    return folder.rstrip("/").rpartition("/")[0] + "/"


def manifest(sequence: int) -> str:
    """Name the manifest with that number; the first is 1."""
    return f"manifests/{sequence:020d}.json"


def sequence_of(key: str) -> int | None:
    """Read the number out of a manifest's key; None where it is not the key of one."""
    match = _MANIFEST.fullmatch(key)
    return int(match[1]) or None if match else None


def part(sha256: str) -> str:
    """Name the part whose bytes have that SHA-256."""
    return f"manifests/parts/{sha256}.jsonl.gz"


def sha256_of_part(key: str) -> str | None:
    """Read the hash out of a part's key; None where it is not the key of one."""
    match = _PART.fullmatch(key)
    return match[1] if match else None


def plan(plan_id: str) -> str:
    """Name a backfill's plan."""
    return f"plans/{component(plan_id)}/plan.json"


def worklist(plan_id: str, number: int) -> str:
    """Name the worklist of one of its shards; the first is 1."""
    return f"plans/{component(plan_id)}/{number:06d}.jsonl.gz"


def probe(examination: str, what: str) -> str:
    """Name an object that was stored to try the store: no part of what is archived."""
    return f"doctor/{component(examination)}/{what}"
