"""The cover of an export: what was asked for, of which archive, and what came of it."""

from dataclasses import dataclass, field
from datetime import datetime

from formant_archive.export.exhibit import Exhibit


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        selection: In words, without anything that needs care in a text file.
        made_at: When.
        version: Of this package.
    """

    selection: str
    made_at: datetime
    version: str


@dataclass(frozen=True)
class Damaged:
    """A conversation that is not whole, and why: sentences."""

    conversation_id: str
    damage: tuple[str, ...]


@dataclass
class Tally:
    """What was handed over so far; `bytes` are of the conversations' files, `naming` the manifests that name them."""

    conversations: int = 0
    recordings: int = 0
    bytes: int = 0
    naming: set[int] = field(default_factory=set)
    damaged: list[Damaged] = field(default_factory=list)

    def add(self, exhibit: Exhibit) -> None:
        """Count one more conversation."""
        self.conversations += 1
        self.recordings += exhibit.holds(exhibit.recording)
        self.bytes += sum(file.size for file in exhibit.files)
        self.naming.add(exhibit.holding.sequence)
        if exhibit.damage:
            self.damaged.append(Damaged(exhibit.entry.conversation_id, exhibit.damage))


@dataclass(frozen=True)
class Cover:
    """What an export says of itself.

    Attributes:
        archive_id: The archive's UUID.
        source: The API's base URL.
        head: The newest manifest, as `status` prints it: `42:<sha256>`.
        head_file: Where it lies in the bag.
        asked: What was asked for.
        tally: What came of it.
    """

    archive_id: str
    source: str
    head: str
    head_file: str
    asked: Asked
    tally: Tally
