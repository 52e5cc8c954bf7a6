"""An exhibit: one conversation as it is handed over, and what of it is missing or altered."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from formant_archive import keys
from formant_archive.catalogue import Holding
from formant_archive.conversation import read_conversation
from formant_archive.dossier import sound
from formant_archive.errors import ArchiveDamaged, ObjectMissing, PayloadRefused
from formant_archive.export.payload import File, copy, path_of
from formant_archive.records import ArchivedRecording, Entry, Link, Record, StoredObject
from formant_archive.register import read_record
from formant_archive.stores import Store

_CONVERSATIONS = {keys.CONVERSATION, keys.SECOND_CONVERSATION}


@dataclass(frozen=True)
class Exhibit:
    """One conversation in a bag.

    Attributes:
        holding: Its entry, which names all objects and their hashes.
        record: None where it is missing or altered.
        body: The `data` of `conversation.json`; None where there is none, or none that can be read.
        files: What was copied into the bag.
        damage: Sentences: what is missing, altered or cannot be read. Empty where all is well.
    """

    holding: Holding
    record: Record | None
    body: dict[str, Any] | None
    files: tuple[File, ...]
    damage: tuple[str, ...]

    @property
    def entry(self) -> Entry:
        """What the manifest says of it."""
        return self.holding.entry

    @property
    def conversation(self) -> StoredObject | None:
        """The body, where one was archived."""
        return _first(self.entry, _CONVERSATIONS)

    @property
    def recording(self) -> StoredObject | None:
        """The recording, where one was archived."""
        return _first(self.entry, {keys.RECORDING})

    @property
    def transcript_state(self) -> str:
        """The record's word for the transcript; `unknown` where the record is damaged."""
        if self.conversation is not None and self.conversation.key in self.holding.erased:
            return "erased"
        return "unknown" if self.record is None else self.record.transcript.state

    @property
    def recording_state(self) -> str:
        """The record's word for the recording, else what the entry says; `unknown` where neither does."""
        if self.recording is not None and self.recording.key in self.holding.erased:
            return "erased"
        if self.record is not None:
            return self.record.recording.state
        return "unknown" if self.recording is None else "archived"

    @property
    def audio_seconds(self) -> float | None:
        """How long the archived audio lasts."""
        recording = self.record.recording if self.record else None
        return recording.audio.seconds if isinstance(recording, ArchivedRecording) and recording.audio else None

    def holds(self, link: Link | None) -> bool:
        """Whether an object is in the bag."""
        return link is not None and path_of(link.key) in {file.path for file in self.files}


def _first(entry: Entry, names: set[str]) -> StoredObject | None:
    return next((one for one in entry.objects if _name(one.key) in names), None)


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def show(store: Store, holding: Holding, bag: Path) -> Exhibit:
    """Copy all objects of a conversation into a bag, and read what is said of it."""
    return _Clerk(store, holding.entry, holding.erased, bag).exhibit(holding)


class _Clerk:
    """Copies the objects of one conversation, and takes down what is wrong with them."""

    def __init__(self, store: Store, entry: Entry, erased: frozenset[str], bag: Path) -> None:
        self._store = store
        self._entry = entry
        self._erased = erased
        self._bag = bag
        self._files: dict[str, File] = {}
        self._damage: list[str] = []

    def exhibit(self, holding: Holding) -> Exhibit:
        for link in self._named():
            self._take(link)
        record = self._record()
        if record is not None and record.supersedes is not None:
            self._take(record.supersedes)
        body = self._body()
        return Exhibit(holding, record, body, tuple(self._files.values()), tuple(self._damage))

    def _named(self) -> Iterator[Link]:
        yield Link(key=self._entry.record_key, sha256=self._entry.record_sha256)
        yield from self._entry.objects

    def _take(self, link: Link) -> None:
        # What was erased is no damage: the states say it.
        if link.key in self._files or link.key in self._erased:
            return
        if not self._is_ours(link.key):
            self._damage.append("an object is named that lies outside of the conversation's folder")
            return
        try:
            self._files[link.key] = copy(self._store, link, self._bag)
        except ObjectMissing:
            self._damage.append(f"{_name(link.key)} is missing")
        except ArchiveDamaged:
            self._damage.append(f"{_name(link.key)} is altered: it is not the one that the archive names")

    def _is_ours(self, key: str) -> bool:
        """Whether a key may become a path: whoever can write manifests must not write anywhere on this machine."""
        folder = keys.folder_of(key)
        return folder is not None and folder == keys.folder_of(self._entry.record_key) and "\0" not in key

    def _record(self) -> Record | None:
        body = self._read(self._entry.record_key)
        if body is None:
            return None
        try:
            return read_record(self._entry.record_key, body, self._entry.conversation_id)
        except ArchiveDamaged:
            self._damage.append(f"{_name(self._entry.record_key)} cannot be read")
            return None

    def _body(self) -> Any:
        link = _first(self._entry, _CONVERSATIONS)
        body = None if link is None else self._read(link.key)
        if body is None:
            return None
        try:
            return sound(read_conversation(body, self._entry.conversation_id))
        except PayloadRefused as fault:
            self._damage.append(str(fault))
            return None

    def _read(self, key: str) -> bytes | None:
        return (self._bag / self._files[key].path).read_bytes() if key in self._files else None
