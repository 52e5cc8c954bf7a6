"""What became of one thing: the lines that `python -m tools.bootstrap` prints."""

from dataclasses import dataclass
from enum import StrEnum


class Change(StrEnum):
    """What was done to a thing, or would be."""

    CREATED = "created"
    UPDATED = "updated"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    ABSENT = "absent"


@dataclass(frozen=True)
class Step:
    """One thing on the server.

    Attributes:
        change: What was done to it.
        thing: What it is, by its name; never a secret.
    """

    change: Change
    thing: str

    @property
    def line(self) -> str:
        """The line that is printed of it."""
        return f"{self.change.value:<10} {self.thing}"
