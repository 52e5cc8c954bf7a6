"""Which conversations a command is about: the options that select them, the same for every command that acts."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from formant_archive.catalogue import EVERYTHING, Outcome, Selection
from formant_archive.errors import UsageError

Ids = Annotated[tuple[str, ...], Parameter(negative="", help="These conversations.")]
IdsFrom = Annotated[Path | None, Parameter(help="A file with an id on each line, in UTF-8.")]
Status = Annotated[str | None, Parameter(help="Only conversations of this status.")]
WithOutcome = Annotated[Outcome | None, Parameter(help="Only what has become this.")]
Everything = Annotated[bool, Parameter(negative="", help="All conversations of the archive.")]


def check_selection(selection: Selection, *, everything: bool) -> None:
    """Refuse to take everything unless it was asked for.

    Raises:
        UsageError: Nothing was selected; or something, and everything.
    """
    if everything and selection != EVERYTHING:
        raise UsageError("--everything is without a selection: leave one of them out")
    if not everything and selection == EVERYTHING:
        raise UsageError("nothing is selected: name ids, or --since, --agent-id and so on, or --everything")


def read_ids(path: Path | None) -> frozenset[str]:
    """Read the ids of a file, one on each line; a line's own spaces at its ends and empty lines do not count.

    Raises:
        UsageError: It cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as fault:
        raise UsageError(f"--ids-from {path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--ids-from {path}: it is not UTF-8 text") from None
    return frozenset(line.strip() for line in lines) - {""}
