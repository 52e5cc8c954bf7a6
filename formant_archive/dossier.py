"""The dossier of a settled conversation: its record and its body, read, and compared with what vouches for them.

The manifest's entry vouches: its keys are the ones that are read, whatever a record says. What is missing or altered is
a sentence in `faults`, without data; what can be read all the same is there to be looked at. The recording is not read
here: it can be large.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from formant_archive import keys
from formant_archive.catalogue import Holding
from formant_archive.conversation import read_conversation
from formant_archive.errors import ArchiveDamaged, ObjectMissing, PayloadRefused
from formant_archive.manifest import digest
from formant_archive.records import Record, StoredObject
from formant_archive.register import read_record
from formant_archive.stores import Store

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Dossier:
    """What the archive holds of one conversation.

    Attributes:
        holding: Its entry, and the manifest that has it.
        record_body: The bytes of the record; None where they are missing.
        record: What they say; None where they are no record of this conversation.
        body: The bytes of `conversation.json`; None where none were archived, or they are missing.
        data: The conversation in them, as sound JSON; None where there is none.
        faults: What is missing, or not what was archived. Empty where all is well.
    """

    holding: Holding
    record_body: bytes | None
    record: Record | None
    body: bytes | None
    data: dict[str, Any] | None
    faults: tuple[str, ...]

    @property
    def recording(self) -> StoredObject | None:
        """The recording, as the entry names it; None where it has none."""
        return _payload(self.holding, {keys.RECORDING})


def read_dossier(store: Store, holding: Holding) -> Dossier:
    """Read a conversation's record and body.

    Raises:
        StoreError: The store is out of reach, or denies it.
    """
    entry, faults = holding.entry, list[str]()
    record_body = _read(store, entry.record_key, entry.record_sha256, faults)
    record = _parsed(lambda body: read_record(entry.record_key, body, entry.conversation_id), record_body, faults)
    if record is not None and record.objects != entry.objects:
        faults.append(f"{entry.record_key} and the manifest name different payloads")
    stored = _payload(holding, {keys.CONVERSATION, keys.SECOND_CONVERSATION})
    is_there = stored is not None and stored.key not in holding.erased
    body = None if stored is None or not is_there else _read(store, stored.key, stored.sha256, faults)
    data = _parsed(lambda body: sound(read_conversation(body, entry.conversation_id)), body, faults)
    return Dossier(holding, record_body, record, body, data, tuple(faults))


def _payload(holding: Holding, names: set[str]) -> StoredObject | None:
    return next((one for one in holding.entry.objects if one.key.rpartition("/")[2] in names), None)


def _read(store: Store, key: str, sha256: str, faults: list[str]) -> bytes | None:
    try:
        body = store.get(key)
    # A `ValueError` is what a store says of a key that is none.
    except (ObjectMissing, ValueError):
        faults.append(f"{key} is missing")
        return None
    if digest(body) != sha256:
        faults.append(f"{key} is not what was archived: its SHA-256 is {digest(body)}, not {sha256}")
    return body


def _parsed(parse: Callable[[bytes], Parsed], body: bytes | None, faults: list[str]) -> Parsed | None:
    try:
        return None if body is None else parse(body)
    except (ArchiveDamaged, PayloadRefused) as fault:
        faults.append(str(fault))
        return None


def sound(value: Any) -> Any:
    """Give what Python's parser read as JSON that every parser reads: `NaN` and half surrogate pairs are spelled out.

    Raises:
        PayloadRefused: It is nested too deeply.
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
        return json.loads(_HALF_A_PAIR.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text), parse_constant=str)
    except RecursionError:
        pass
    # Raised out here: the parser's error holds the body.
    raise PayloadRefused("not_json", "the conversation's body is nested too deeply")
